//! ONNX files become networks that give what onnxruntime gives, and what is wrong with them is refused by name.
//! `tests/golden/make_onnx.py` made the files and what onnxruntime made of them.

use undiffuse::ErrorKind;
use undiffuse::backend::Backend;
use undiffuse::backend::reference::Reference;
use undiffuse::graph::{Activation, Graph, Op, Role};
use undiffuse::import::{self, ImportOptions, Imported};
use undiffuse::weights::{WeightSource, read_param};

use crate::golden::{path, relative_l2, stored};
use crate::hold;
use crate::scratch::Scratch;

const GOLDEN: &[u8] = include_bytes!("../golden/onnx.safetensors");
const IMAGE: &[u8] = include_bytes!("../golden/onnx/image_dynamo.onnx");

fn open(file: &str) -> Imported {
    import::open(path(&format!("onnx/{file}.onnx")), &ImportOptions::default()).unwrap()
}

/// The prediction of a golden file's network on its inputs.
fn run(file: &str, network: &Imported, backend: &dyn Backend) -> Vec<f32> {
    let graph = network.graph();
    let read = |name: &str, dims: &undiffuse::tensor::Dims, out: &mut [f32]| read_param(network, name, dims, out);
    let compiled = backend.compile(graph, &read).unwrap();
    let mut inputs = Vec::new();
    for input in graph.signature() {
        let given = stored(GOLDEN, &format!("{file}/{}", input.name));
        inputs.push(match (input.role, input.dims.as_slice()) {
            (Role::Tokens, &[d, l]) => (0..d * l).map(|i| given[i % l * d + i / l]).collect(),
            _ => given,
        });
    }
    hold::run(compiled.as_ref(), 1, &inputs).unwrap().remove(0)
}

#[test]
fn both_exporters_files_give_what_onnxruntime_gives() {
    let cpu = undiffuse::backend::cpu::Cpu::new().unwrap();
    for file in ["image_dynamo", "image_script", "row_dynamo", "row_script"] {
        let network = open(file);
        let want = stored(GOLDEN, &format!("{file}/out"));
        for (name, got) in [("reference", run(file, &network, &Reference)), ("cpu", run(file, &network, &cpu))] {
            let error = relative_l2(&got, &want);
            assert!(error < 1e-5, "{file} on {name}: {error:e}");
        }
        // Its parameters are all there and no others.
        undiffuse::weights::check_params(network.graph(), &network).unwrap();
        let text = network.graph().to_json().unwrap();
        assert_eq!(Graph::from_json(&text).unwrap(), *network.graph(), "{file}");
    }
}

fn count(graph: &Graph, is: impl Fn(&Op) -> bool) -> usize {
    graph.nodes().iter().filter(|n| is(&n.op)).count()
}

#[test]
fn what_exporters_write_out_is_recognised() {
    for file in ["image_dynamo", "image_script"] {
        let network = open(file);
        let g = network.graph();
        let of = |f: Activation| count(g, |op| *op == Op::Activation(f));
        assert_eq!(count(g, |op| matches!(op, Op::GroupNorm(n) if n.groups > 1)), 3, "{file}");
        assert_eq!((of(Activation::Silu), of(Activation::Sigmoid)), (3, 0), "{file}");
        assert_eq!(count(g, |op| *op == Op::Attention { heads: 2 }), 1, "{file}");
        assert_eq!(count(g, |op| matches!(op, Op::Softmax | Op::Affine { .. })), 0, "{file}");
        let embedding = Op::SinusoidalEmbedding { dim: 8, flip_sin_to_cos: true, freq_shift: 0.0, max_period: 10000.0 };
        assert_eq!(count(g, |op| *op == embedding), 1, "{file}");
        assert_eq!(
            count(
                g,
                |op| matches!(op, Op::Conv2d { window, .. } if window.padding.bottom == 1 && window.padding.top == 0)
            ),
            1
        );
        // Names of the weights are those of the state dict.
        assert!(network.info("first.weight").is_some_and(|i| i.shape == [8, 2, 3, 3]), "{file}: {:?}", network.names());
    }
    for file in ["row_dynamo", "row_script"] {
        let network = open(file);
        let g = network.graph();
        let of = |f: Activation| count(g, |op| *op == Op::Activation(f));
        assert_eq!((of(Activation::Mish), of(Activation::Softplus)), (1, 0), "{file}");
        assert_eq!((of(Activation::Gelu), of(Activation::GeluTanh), of(Activation::Tanh)), (1, 1, 0), "{file}");
        assert_eq!(count(g, |op| matches!(op, Op::ChannelNorm(n) if n.weight.is_some())), 2, "{file}");
        assert_eq!(count(g, |op| matches!(op, Op::Embedding { .. } | Op::ConvAdjoint { .. })), 2, "{file}");
        let roles: Vec<Role> = g.signature().iter().map(|i| i.role).collect();
        assert_eq!(roles, [Role::Sample, Role::Timestep, Role::Class, Role::Tokens], "{file}");
    }
}

// A writer of protocol buffers, as much as these files need.

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n > 0x7f {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

fn number(field: u64, n: i64) -> Vec<u8> {
    [varint(field << 3), varint(n as u64)].concat()
}

fn bytes(field: u64, data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    [varint(field << 3 | 2), varint(data.len() as u64), data.to_vec()].concat()
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut all: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i)).collect();
    all.extend([bytes(2, output), bytes(3, format!("the {op}")), bytes(4, op)].concat());
    attributes.iter().for_each(|a| all.extend(bytes(5, a)));
    bytes(1, all)
}

fn int(name: &str, n: i64) -> Vec<u8> {
    [bytes(1, name), number(3, n), number(20, 2)].concat()
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let dims: Vec<u8> = dims.iter().flat_map(|&d| number(1, d)).collect();
    bytes(5, [dims, number(2, 1), bytes(8, name), bytes(9, raw)].concat())
}

fn whole(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes(5, [number(1, values.len() as i64), number(2, 7), bytes(8, name), bytes(9, raw)].concat())
}

/// A value of floats; a dimension below 0 is called "n".
fn value(field: u64, name: &str, dims: &[i64]) -> Vec<u8> {
    let dim = |&d: &i64| bytes(1, if d < 0 { bytes(2, "n") } else { number(1, d) });
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let of = bytes(1, [number(1, 1), bytes(2, shape)].concat());
    bytes(field, [bytes(1, name), bytes(2, of)].concat())
}

fn model(parts: &[Vec<u8>]) -> Vec<u8> {
    [number(1, 8), bytes(7, parts.concat()), bytes(8, number(2, 17))].concat()
}

/// A file of an input x `[1, 2]`, an output y and these parts.
fn points(parts: &[Vec<u8>]) -> Vec<u8> {
    model(&[parts.concat(), value(11, "x", &[1, 2]), value(12, "y", &[1, 2])])
}

fn refused(file: &[u8], kind: ErrorKind, words: &[&str]) {
    refused_with(file, &ImportOptions::default(), kind, words);
}

fn refused_with(file: &[u8], options: &ImportOptions, kind: ErrorKind, words: &[&str]) {
    let e = import::from_bytes(file, options).expect_err("the file is refused");
    assert_eq!(e.kind(), kind, "{e}");
    for w in words {
        assert!(e.message().contains(w), "{w:?} is not in {:?}", e.message());
    }
}

#[test]
fn a_file_of_our_own_is_read() {
    let made = import::from_bytes(&points(&[node("Tanh", &["x"], "y", &[])]), &ImportOptions::default()).unwrap();
    assert_eq!(made.graph().signature()[0].dims.as_slice(), [2]);
    assert_eq!(count(made.graph(), |op| *op == Op::Activation(Activation::Tanh)), 1);
}

#[test]
fn cut_files_are_refused() {
    for cut in (0..IMAGE.len()).step_by(61).chain(IMAGE.len() - 20..IMAGE.len()) {
        assert!(import::from_bytes(&IMAGE[..cut], &ImportOptions::default()).is_err(), "{cut}");
    }
    refused(b"", ErrorKind::InvalidArgument, &["no ONNX file"]);
    refused(b"\x89PNG\r\n\x1a\n", ErrorKind::InvalidArgument, &["protocol buffer"]);
    refused(b"PK\x03\x04", ErrorKind::InvalidArgument, &["no ONNX file"]);
    refused(
        &[number(1, 8), bytes(7, b""), bytes(8, number(2, 7))].concat(),
        ErrorKind::Unsupported,
        &["operator set 7"],
    );
}

/// Nothing panics or runs away, whatever a byte is; and what is read is whole.
#[test]
fn any_byte_may_be_wrong() {
    let row = std::fs::read(path("onnx/row_script.onnx")).unwrap();
    let mut read = 0;
    for file in [IMAGE, &row] {
        for at in (0..file.len()).step_by(7) {
            let mut bytes = file.to_vec();
            bytes[at] = [bytes[at] ^ 1, bytes[at] ^ 0x80, 0, 0xff][at % 4];
            if let Ok(network) = import::from_bytes(&bytes, &ImportOptions::default()) {
                undiffuse::weights::check_params(network.graph(), &network).unwrap();
                read += 1;
            }
        }
    }
    // Most bytes are weights and names.
    assert!(read > 1000, "{read}");
}

#[test]
fn nodes_that_do_not_fit_are_refused_by_name() {
    use ErrorKind::{InvalidArgument, Unsupported};
    let circle = [node("Add", &["x", "b"], "a", &[]), node("Tanh", &["a"], "b", &[]), node("Tanh", &["b"], "y", &[])];
    refused(&points(&circle), InvalidArgument, &["\"the Add\" (Add)", "\"b\"", "circle"]);
    let lost = points(&[node("Add", &["x", "w"], "y", &[])]);
    refused(&lost, InvalidArgument, &["\"the Add\"", "\"w\"", "neither an input, an initialiser"]);
    let other = points(&[node("GridSample", &["x", "x"], "y", &[])]);
    refused(&other, Unsupported, &["\"the GridSample\" (GridSample)", "no counterpart"]);
    let twice = points(&[node("Tanh", &["x"], "y", &[]), node("Relu", &["x"], "y", &[])]);
    refused(&twice, InvalidArgument, &["two nodes make the value \"y\""]);
    let twice = points(&[tensor("w", &[1], &[1.0]), tensor("w", &[1], &[1.0]), node("Tanh", &["x"], "y", &[])]);
    refused(&twice, InvalidArgument, &["\"w\" twice"]);
    let attribute = points(&[node("Relu", &["x"], "y", &[int("twist", 3)])]);
    refused(&attribute, Unsupported, &["\"the Relu\"", "\"twist\"", "no counterpart"]);
    let domain = [
        node("Tanh", &["x"], "a", &[])[..].to_vec(),
        bytes(1, [bytes(1, "a"), bytes(2, "y"), bytes(4, "FusedConv"), bytes(7, "com.microsoft")].concat()),
    ];
    refused(&points(&domain), Unsupported, &["com.microsoft.FusedConv", "domain"]);
    let part = points(&[node("Erf", &["x"], "y", &[])]);
    refused(&part, Unsupported, &["\"the Erf\"", "GELU"]);
    let rest = points(&[node("MatMul", &["x", "w"], "y", &[]), tensor("w", &[3, 2], &[0.0; 6])]);
    refused(&rest, ErrorKind::Shape, &["\"the MatMul\"", "[2, 3]"]);
    let nan = points(&[node("MatMul", &["x", "w"], "y", &[]), tensor("w", &[2, 2], &[0.0, 1.0, f32::NAN, 0.0])]);
    refused(&nan, ErrorKind::Weights, &["tensor w", "not finite"]);
}

#[test]
fn branches_however_deep_are_refused() {
    let mut graph = Vec::new();
    for _ in 0..2000 {
        let branch = [bytes(1, "then_branch"), bytes(6, &graph), number(20, 5)].concat();
        graph = node("If", &["x"], "y", &[branch]);
    }
    let file = points(&[graph]);
    refused(&file, ErrorKind::Unsupported, &["\"the If\" (If)", "branches"]);
}

#[test]
fn sizes_that_overflow_are_refused() {
    let big = 1 << 40;
    refused(&points(&[tensor("w", &[big, big], &[])]), ErrorKind::Shape, &["tensor w", "too many elements"]);
    refused(&points(&[tensor("w", &[-1], &[1.0])]), ErrorKind::Shape, &["tensor w", "sizes"]);
    refused(&points(&[tensor("w", &[3], &[1.0])]), ErrorKind::InvalidArgument, &["tensor w", "3 elements"]);
    refused(&points(&[tensor("w", &[1; 9], &[1.0])]), ErrorKind::Unsupported, &["more than 8 dimensions"]);
    let wide = model(&[node("Tanh", &["x"], "y", &[]), value(11, "x", &[1, big, big, 4]), value(12, "y", &[1])]);
    refused(&wide, ErrorKind::Shape, &["\"x\"", "too many"]);
    let filled = points(&[
        whole("s", &[1 << 20, 1 << 10]),
        node("ConstantOfShape", &["s"], "c", &[]),
        node("Add", &["x", "c"], "y", &[]),
    ]);
    refused(&filled, ErrorKind::Unsupported, &["\"the ConstantOfShape\"", "more elements"]);
    let ranged = points(&[
        bytes(5, [number(2, 7), bytes(8, "a"), bytes(9, 0i64.to_le_bytes())].concat()),
        bytes(5, [number(2, 7), bytes(8, "b"), bytes(9, i64::MAX.to_le_bytes())].concat()),
        bytes(5, [number(2, 7), bytes(8, "c"), bytes(9, 1i64.to_le_bytes())].concat()),
        node("Range", &["a", "b", "c"], "y", &[]),
    ]);
    refused(&ranged, ErrorKind::InvalidArgument, &["\"the Range\""]);
    let reshaped = points(&[whole("s", &[i64::MAX, i64::MAX]), node("Reshape", &["x", "s"], "y", &[])]);
    refused(&reshaped, ErrorKind::Shape, &["\"the Reshape\""]);
    // 2^20 nodes.
    let one = node("Tanh", &["x"], "", &[]);
    refused(&points(&[one.repeat(1 << 20)]), ErrorKind::Unsupported, &["more than 262144 nodes"]);
}

#[test]
fn inputs_have_roles_and_sizes_or_are_listed() {
    let file = |dims: &[i64], name: &str| {
        let cast = node("Mul", &["x", "x"], "a", &[]);
        model(&[
            cast,
            node("Add", &["a", "x"], "y", &[]),
            value(11, "x", dims),
            value(11, name, &[1]),
            value(12, "y", &[]),
        ])
    };
    let words = ["\"sigma\"", "role", "\"x\" float32 [1, 2]", "\"sigma\" float32 [1]"];
    refused(&file(&[1, 2], "sigma"), ErrorKind::InvalidArgument, &words);
    let mut options = ImportOptions::default();
    options.roles.insert("sigma".into(), Role::Timestep);
    let made = import::from_bytes(&file(&[1, 2], "sigma"), &options).unwrap();
    assert_eq!(made.graph().signature()[1].role, Role::Timestep);
    options.roles.insert("other".into(), Role::Vector);
    refused_with(&file(&[1, 2], "sigma"), &options, ErrorKind::InvalidArgument, &["no input \"other\"", "\"x\""]);
    // An open batch is one sample; any other open dimension must be said.
    let open = file(&[-1, -1], "t");
    refused(&open, ErrorKind::Shape, &["input \"x\" float32 [n, n]", "dimension 1 (\"n\")"]);
    let mut options = ImportOptions::default();
    options.dims.insert("x".into(), vec![1, 3]);
    let made = import::from_bytes(&open, &options).unwrap();
    assert_eq!(made.graph().signature()[0].dims.as_slice(), [3]);
    options.dims.insert("x".into(), vec![1, 3, 3]);
    refused_with(&open, &options, ErrorKind::Shape, &["\"x\"", "[1, 3, 3]"]);
    refused(&file(&[2, 2], "t"), ErrorKind::Unsupported, &["\"x\"", "batch is 2"]);
    refused(&file(&[1, 2], "y"), ErrorKind::InvalidArgument, &["\"y\" twice"]);
    let nothing = model(&[node("Tanh", &["t"], "y", &[]), value(11, "t", &[1]), value(12, "y", &[])]);
    refused(&nothing, ErrorKind::InvalidArgument, &["no input is the sample"]);
}

#[test]
fn weights_beside_the_file_stay_in_its_folder() {
    let scratch = Scratch::new("onnx");
    std::fs::create_dir(scratch.path().join("in")).unwrap();
    scratch.write("secret", [0; 64]);
    scratch.write("in/w.data", [0; 16]);
    let file = |location: &str, offset: i64, length: i64| {
        let entry = |k: &str, v: &str| bytes(13, [bytes(1, k), bytes(2, v)].concat());
        let places =
            [entry("location", location), entry("offset", &offset.to_string()), entry("length", &length.to_string())];
        let t = [number(1, 2), number(1, 2), number(2, 1), bytes(8, "w"), places.concat(), number(14, 1)].concat();
        points(&[bytes(5, t), node("MatMul", &["x", "w"], "y", &[])])
    };
    let open = |bytes: Vec<u8>| import::open(scratch.write("in/m.onnx", bytes), &ImportOptions::default());
    open(file("w.data", 0, 16)).unwrap();
    let secret = scratch.path().join("secret");
    for place in ["../secret", "a/../../secret", secret.to_str().unwrap(), ""] {
        let e = open(file(place, 0, 16)).unwrap_err();
        assert!(e.message().contains("not within the folder") && e.message().contains("tensor w"), "{place}: {e}");
    }
    for (offset, length, word) in
        [(4, 16, "not within"), (i64::MAX, 16, "not within"), (0, 8, "expected 16"), (-1, 16, "offset")]
    {
        let e = open(file("w.data", offset, length)).unwrap_err();
        assert!(e.message().contains(word), "{offset} {length}: {e}");
    }
    assert_eq!(open(file("none.data", 0, 16)).unwrap_err().kind(), ErrorKind::Io);
    refused(&file("w.data", 0, 16), ErrorKind::Unsupported, &["tensor w", "no folder"]);
}
