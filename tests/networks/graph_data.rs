//! Graphs as text: what is written is read as the same network, and what is wrong is refused by name.

use crate::draw;
use crate::golden;
use undiffuse::Cancel;
use undiffuse::ErrorKind;
use undiffuse::backend::Network;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::graph::{Graph, GraphBuilder, Role};
use undiffuse::model::ModelConfig;
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::pipeline::{Pipeline, PipelineOptions, Source};
use undiffuse::tensor::DType;
use undiffuse::weights::packed::PackedConfigs;

const DIGITS: &[u8] = include_bytes!("../../pretrained/digits.safetensors");

fn cpu() -> Cpu {
    Cpu::with_options(CpuOptions { path: None, threads: Some(1), ..CpuOptions::default() }).unwrap()
}

fn run(graph: &Graph) -> Vec<u32> {
    let mut inputs = draw::inputs(graph, 1);
    for (values, input) in inputs.iter_mut().zip(graph.signature()) {
        // The row numbers of tables.
        input.rows.into_iter().for_each(|n| values.iter_mut().for_each(|v| *v %= n as f32));
    }
    let network = cpu().compile_network(graph, &draw::Weights).unwrap();
    let mut y = vec![f32::NAN; network.outputs()[0].elements()];
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut workspace = vec![0.0; network.workspace_len(1).unwrap()];
    network.run(1, &inputs, &mut [&mut y], &mut workspace, &Cancel::new()).unwrap();
    y.iter().map(|v| v.to_bits()).collect()
}

/// Every configuration of a `UNet2DModel` that the golden arrays have, and those of the other architectures.
fn graphs() -> Vec<(String, Graph)> {
    let mut graphs = Vec::new();
    for case in golden::json("unet.json")["cases"].as_array().unwrap() {
        let size: Vec<usize> = case["size"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let config = UNet2DConfig::from_json(&case["config"].to_string()).unwrap();
        let graph = unet2d::build(&config, [size[0], size[1]]).unwrap();
        graphs.push((case["name"].as_str().unwrap().to_string(), graph));
    }
    for text in [
        r#"{"_class_name": "Rbf2015", "features": 2, "units": 16, "num_train_timesteps": 40}"#,
        r#"{"_class_name": "Mlp2015", "features": 5, "num_train_timesteps": 40}"#,
    ] {
        graphs.push((text.to_string(), ModelConfig::from_json(text).unwrap().build(None).unwrap()));
    }
    let mut others = golden::json("families.json");
    for case in others["cases"].as_array_mut().into_iter().flatten() {
        let config = ModelConfig::from_json(&case["config"].to_string()).unwrap();
        let shape: Vec<usize> =
            case["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let graph = config.build(None).or_else(|_| config.build(Some([shape[1], shape[2]]))).unwrap();
        graphs.push((case["name"].to_string(), graph));
    }
    graphs
}

#[test]
fn every_model_is_written_and_read_as_the_same_network() {
    let graphs = graphs();
    assert!(graphs.len() > 18, "{}", graphs.len());
    for (name, graph) in graphs {
        let text = graph.to_json().unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = Graph::from_json(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(again.to_json().unwrap(), text, "{name}");
        assert_eq!(again.nodes().len(), graph.nodes().len(), "{name}");
        assert_eq!(again.signature(), graph.signature(), "{name}");
        assert_eq!(again.parameter_count(), graph.parameter_count(), "{name}");
        // The large one takes long to draw.
        if graph.parameter_count() < 1_000_000 {
            assert!(run(&graph) == run(&again), "{name}");
        }
    }
}

#[test]
fn a_packed_graph_samples_as_the_model_that_it_was_packed_from() {
    let source = Source::from_bytes(DIGITS).unwrap();
    let pack = |source: &Source<'_>| {
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        source.pack_graph(None, DType::F32, &mut sink).unwrap();
        bytes
    };
    let bytes = pack(&source);
    let again = Source::from_bytes(&bytes).unwrap();
    assert_eq!(again.model().class_name(), "Graph");
    assert!(pack(&again) == bytes, "written again it has other bytes");
    let mut as_model = Vec::new();
    again
        .pack(DType::F32, &mut |piece| {
            as_model.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
    assert!(as_model == bytes);
    let predict = |bytes: &[u8]| {
        let pipeline = Pipeline::from_bytes(bytes, &cpu(), &PipelineOptions::default()).unwrap();
        assert!(pipeline.model().is_of_images());
        let x: Vec<f32> = (0..pipeline.sample_dims().elements()).map(|i| (i % 13) as f32 / 6.0 - 1.0).collect();
        let mut y = vec![f32::NAN; x.len()];
        let network = pipeline.network();
        let mut workspace = vec![0.0; network.workspace_len(1).unwrap()];
        network.run(1, &[&x, &[7.0]], &mut [&mut y], &mut workspace, &Cancel::new()).unwrap();
        y.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert!(predict(DIGITS) == predict(&bytes));
    let e = again.graph(Some([64, 64])).unwrap_err();
    assert!(e.message().contains("not for another size"), "{e}");
}

/// A graph with these nodes, and a parameter w `[3, 2]`.
fn text(nodes: &str, output: &str) -> String {
    format!(
        r#"{{"_class_name": "Graph", "version": 1, "parameters": {{"w": [3, 2]}}, "nodes": [{nodes}],
            "outputs": [{{"name": "sample", "value": {output}}}]}}"#
    )
}

const X: &str = r#"{"op": "input", "name": "sample", "role": "sample", "dims": [2]}"#;
const LINEAR: &str = r#"{"op": "linear", "args": [0], "weight": "w"}"#;

#[test]
fn what_is_wrong_is_refused_by_name() {
    Graph::from_json(&text(&format!("{X}, {LINEAR}"), "1")).unwrap();
    let with = |more: &str| text(&format!("{X}, {LINEAR}, {more}"), "1");
    let many = vec![r#"{"op":"softmax","args":[0]}"#; 1_000_000].join(",");
    let cases = [
        ("".to_string(), "malformed"),
        ("[]".into(), "object"),
        ("[".repeat(10_000), "malformed"),
        (format!("{{\"a\": {}{}}}", "[".repeat(100), "]".repeat(100)), "malformed"),
        (with(&many), "malformed"),
        (text("", "0"), "output sample"),
        (text(&format!("{X}, {LINEAR}"), "2"), "output sample"),
        (text(&format!("{X}, {LINEAR}"), "-1"), "output sample"),
        (text(&format!("{X}, {LINEAR}"), "1").replace("\"version\": 1", "\"version\": 2"), "version 2"),
        (text(&format!("{X}, {LINEAR}"), "1").replace("Graph", "Grape"), "Grape"),
        (text(&format!("{X}, {LINEAR}"), "1").replace("\"version\"", "\"more\": 1, \"version\""), "\"more\""),
        // A cycle, and arguments that are made later or not at all.
        (with(r#"{"op": "binary", "function": "add", "args": [2, 1]}"#), "node 2 (binary)"),
        (with(r#"{"op": "softmax", "args": [3]}, {"op": "softmax", "args": [2]}"#), "node 2 (softmax)"),
        (with(r#"{"op": "softmax", "args": [1e300]}"#), "node 2 (softmax)"),
        (with(r#"{"op": "softmax", "args": 1}"#), "expected a list"),
        (with(r#"{"op": "softmax"}"#), "node 2 (softmax)"),
        (with(r#"{"op": "softmax", "args": [1, 1]}"#), "node 2 (softmax)"),
        (with(r#"{"op": "frobnicate", "args": [1]}"#), "node 2 (frobnicate)"),
        (with(r#"{"op": "fused_conv", "args": [1]}"#), "node 2 (fused_conv)"),
        (with(r#"{"op": "softmax", "args": [1], "axis": 1}"#), "\"axis\" is unknown"),
        (with(r#"{"args": [1]}"#), "node 2 names no op"),
        (with("7"), "node 2 is 7"),
        (with(r#"{"op": "activation", "function": "swoosh", "args": [1]}"#), "swoosh"),
        (with(r#"{"op": "affine", "args": [1], "scale": NaN, "shift": 0}"#), "scale"),
        (with(r#"{"op": "affine", "args": [1], "scale": 1e300, "shift": 0}"#), "scale"),
        // Parameters that are not there or have other dimensions.
        (with(r#"{"op": "linear", "args": [1], "weight": "v"}"#), "\"v\""),
        (with(r#"{"op": "linear", "args": [1], "weight": "w"}"#), "parameter w is [3, 2]"),
        (with("").replace("[3, 2]", "[3, 0]").replace("}, ]", "}]"), "w"),
        (with("").replace("[3, 2]", "[18446744073709551615, 2]").replace("}, ]", "}]"), "w"),
        (with("").replace("[3, 2]", "[1000000000000, 1000000000000]").replace("}, ]", "}]"), "w"),
        // Inputs.
        (with(X), "two inputs are called \"sample\""),
        (with(&X.replace("\"name\": \"sample\"", "\"name\": \"y\"")), "both have the role \"sample\""),
        (
            with(
                &X.replace("\"role\": \"sample\"", "\"role\": \"cotangent\"")
                    .replace("\"name\": \"sample\"", "\"name\": \"c\""),
            ),
            "cotangent",
        ),
        (with(r#"{"op": "input", "name": "t", "role": "timestep", "dims": [2]}"#), "expected [1] for the role"),
        (with(r#"{"op": "input", "name": "t", "role": "boss", "dims": [2]}"#), "boss"),
        (
            with(r#"{"op": "input", "name": "t", "role": "vector", "dims": [1000000000000, 1000000000000]}"#),
            "node 2 (input)",
        ),
        // Sizes that overflow on the way.
        (with(r#"{"op": "reshape", "args": [1], "dims": [1099511627776, 1099511627776]}"#), "node 2 (reshape)"),
        (with(r#"{"op": "slice_channels", "args": [1], "start": 1099511627776, "len": 1}"#), "node 2 (slice_channels)"),
        (with(r#"{"op": "pad_channels", "args": [1], "before": 1099511627776, "after": 1099511627776}"#), ""),
    ];
    for (text, said) in cases {
        let shown: String = text.chars().take(300).collect();
        // The last case is large, but no overflow: whether it is refused is a matter of memory.
        match Graph::from_json(&text) {
            Err(e) => {
                assert!(e.message().contains(said), "{e}: expected {said} of {shown}");
                assert!(e.message().len() < 600, "{e}");
            }
            Ok(_) => assert!(said.is_empty(), "accepted: {shown}"),
        }
    }
}

#[test]
fn a_packed_file_says_why_its_graph_is_none() {
    let refused = |graph: &str, said: &str| {
        let get = |key: &str| match key {
            "undiffuse.format" => Some("1"),
            "undiffuse.graph" => Some(graph),
            _ => None,
        };
        let e = PackedConfigs::from_metadata(get).unwrap_err();
        assert!(e.kind() == ErrorKind::Weights && e.message().contains("undiffuse.graph"), "{e}");
        assert!(e.message().contains(said) && e.message().len() < 300, "{e}: expected {said}");
    };
    refused(&text(&vec![r#"{"op":"softmax","args":[0]}"#; 1_000_000].join(","), "0"), "8388608");
    refused(&format!("{{\"nodes\": {}{}}}", "[".repeat(5000), "]".repeat(5000)), "64");
    refused(&text(X, "0").replace("Graph", "Grape"), "\"Graph\"");
}

#[test]
fn a_graph_must_be_a_denoisers_to_be_a_model() {
    let kind = |text: &str| ModelConfig::from_json(text).map(|_| ()).map_err(|e| (e.kind(), e.message().to_owned()));
    let (kind_, said) = kind(&text(&format!("{X}, {LINEAR}"), "1")).unwrap_err();
    assert!(kind_ == ErrorKind::Config && said.contains("makes 3 values of a sample of 2"), "{said}");
    let (_, said) =
        kind(&text(&format!("{X}, {LINEAR}"), "1").replace("\"role\": \"sample\"", "\"role\": \"value\"")).unwrap_err();
    assert!(said.contains("no input of the role \"sample\""), "{said}");
}

#[test]
fn gradients_and_fused_graphs_are_not_written() {
    let mut g = GraphBuilder::new();
    let x = g.input_as(Role::Sample, "x", &[2]).unwrap();
    let y = g.activation(x, undiffuse::graph::Activation::Tanh).unwrap();
    g.output("y", y).unwrap();
    let graph = g.finish().unwrap();
    let gradient = undiffuse::graph::vjp::vjp(&graph, 0, 0).unwrap();
    let e = gradient.to_json().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}

/// The seed of the fuzz target, whose every operation is changed in some place, at random: no text may panic.
#[test]
fn changed_texts_are_refused_or_are_graphs() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/graph/denoiser");
    let good = std::fs::read_to_string(path).unwrap();
    let graph = Graph::from_json(&good).unwrap();
    assert!(!run(&graph).is_empty());
    let digits: Vec<usize> = good.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(i, _)| i).collect();
    let draws = crate::pcg::uniform(77, 0, 20_000, 1.0);
    let mut draws = draws.iter().map(|v| ((v + 1.0) * 0.5 * 1e6) as usize);
    let numbers = ["0", "2", "3", "7", "13", "99", "4294967296", "1099511627776", "-1", "1.5", "null", "[]"];
    let mut accepted = 0;
    for _ in 0..4000 {
        let (at, with, second) = (draws.next().unwrap(), draws.next().unwrap(), draws.next().unwrap());
        let at = digits[at % digits.len()];
        let mut text = good.clone();
        text.replace_range(at..=at, numbers[with % numbers.len()]);
        if second.is_multiple_of(3) {
            let from = second % (good.len() / 2);
            text.replace_range(from..from + second % 9, "");
        }
        let Ok(graph) = Graph::from_json(&text) else { continue };
        accepted += 1;
        let written = graph.to_json().unwrap();
        assert_eq!(Graph::from_json(&written).unwrap().to_json().unwrap(), written);
        let _ = undiffuse::graph::fuse::fuse(&graph);
        let _ = undiffuse::graph::vjp::vjp(&graph, 0, 0);
    }
    assert!(accepted > 20, "{accepted}");
}
