//! Networks of other programs, translated: an ONNX file of a denoiser becomes a [`Graph`] and its weights.
//!
//! It is no interpreter of ONNX. Both of PyTorch's exporters write a network as operations smaller than those that its
//! author used; they are recognised again: group norm (as instance norm of its groups, or as itself), SiLU, Mish, both
//! forms of GELU, norms over channels, attention and linear attention, the embedding of a timestep. What is known for
//! the stated dimensions is computed once: shapes, ranges, arithmetic of constants. A node that fits nowhere is an
//! error with its name, its operation and what was expected.
//!
//! The file's batch is one sample, or left open; dimensions that are left open otherwise must be stated. Each input has
//! a [`Role`], by its name ([`NAMES`]) or as the caller says. Weights may stand in the file or beside it, as f32, f64,
//! f16 or bf16; all become f32. Operator sets 11 to 30 are read.
//!
//! ```no_run
//! use undiffuse::backend::cpu::Cpu;
//! use undiffuse::import::{self, ImportOptions};
//! use undiffuse::pipeline::{PipelineOptions, Source};
//!
//! let network = import::open("model.onnx", &ImportOptions::default())?;
//! let source = Source::new(network.graph().to_json()?, None, Box::new(network))?;
//! let pipeline = source.compile(&Cpu::new()?, &PipelineOptions::default())?;
//! # Ok::<(), undiffuse::Error>(())
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use crate::error::{Error, Result, ensure, err};
use crate::files;
use crate::graph::{Graph, Op, Role};
use crate::tensor::{DType, Dims};
use crate::weights::{TensorInfo, WeightSource};

mod attention;
mod attributes;
mod dispatch;
mod embedding;
mod fold;
mod gates;
mod linear;
mod model;
mod moves;
mod norm;
mod protobuf;
mod sweep;
mod tensor;
mod translate;
mod value;

use model::{Dim, Model, ValueInfo};
use protobuf::shown;
use tensor::{Data, Tensor};
use translate::{External, Sym, Translator};
use value::Value;

/// The longest ONNX file that is read, as protocol buffers allow it: 2 GiB. Weights beside it may be longer.
const MAX_FILE: u64 = 1 << 31;

/// How many inputs or outputs a message lists.
const LISTED: usize = 16;

/// The names of inputs whose roles are known: those of diffusers, MONAI, guided-diffusion, EDM, lucidrains and
/// Diffusion Policy.
#[doc(hidden)]
pub const NAMES: [(&str, Role); 12] = [
    ("sample", Role::Sample),
    ("x", Role::Sample),
    ("timestep", Role::Timestep),
    ("timesteps", Role::Timestep),
    ("time", Role::Timestep),
    ("t", Role::Timestep),
    ("noise_labels", Role::Timestep),
    ("class_labels", Role::Class),
    ("y", Role::Class),
    ("encoder_hidden_states", Role::Tokens),
    ("context", Role::Tokens),
    ("global_cond", Role::Vector),
];

/// What an ONNX file does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Roles of inputs by their names, before those of [`NAMES`]. A class whose input is a row of floats becomes one
    /// of [`Role::ClassVector`].
    pub roles: BTreeMap<String, Role>,
    /// Dimensions of inputs by their names, as the file has them: with the batch, which is 1. Only those are needed
    /// that the file leaves open.
    pub dims: BTreeMap<String, Vec<usize>>,
    /// The output that is the prediction, where the file has several.
    pub output: Option<String>,
}

/// A translated network: its graph, and the weights of the graph's parameters as a [`WeightSource`].
#[derive(Clone, Debug)]
pub struct Imported {
    graph: Graph,
    weights: BTreeMap<String, Tensor>,
}

impl Imported {
    /// The graph. Its output is called `sample`, its inputs as in the file.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
}

impl WeightSource for Imported {
    fn names(&self) -> Vec<&str> {
        self.weights.keys().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.weights.get(name).map(|t| TensorInfo { dtype: DType::F32, shape: t.shape.clone() })
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        let t = self.weights.get(name).ok_or_else(|| err!(Weights, "tensor {name} is missing from the weights"))?;
        let Data::Float(values) = &t.data else { return Err(err!(Weights, "tensor {name} has whole numbers")) };
        ensure!(out.len() == values.len(), Weights, "tensor {name} has {}, expected {}", values.len(), out.len());
        out.copy_from_slice(values);
        Ok(())
    }
}

/// The network of an ONNX file of at most 2 GiB; weights that it has in other files are looked for beside it.
///
/// Errors name the file, and the node, tensor or input: kind `Io`; `InvalidArgument` for what is no such file or
/// contradicts itself; `Unsupported` for what has no counterpart; `Shape`; `Weights` for values that are not finite.
pub fn open(path: impl AsRef<Path>, options: &ImportOptions) -> Result<Imported> {
    let path = path.as_ref();
    let bytes = files::read_bounded(path, MAX_FILE)?;
    let mut beside = Beside { folder: path.parent().unwrap_or(Path::new("")), lengths: BTreeMap::new(), read: 0 };
    let made = import(&bytes, options, &mut |name, at, len| beside.read(name, at, len));
    made.map_err(|e| e.context(path.display()))
}

/// The network in the bytes of an ONNX file that has all of its weights.
///
/// Errors: as [`open`], but for those of files.
pub fn from_bytes(bytes: &[u8], options: &ImportOptions) -> Result<Imported> {
    import(bytes, options, &mut |name, _, _| {
        Err(err!(Unsupported, "its data are in the file {:?}, but there is no folder to look in", shown(name)))
    })
}

/// The files of weights beside an ONNX file.
struct Beside<'a> {
    folder: &'a Path,
    lengths: BTreeMap<String, u64>,
    /// Bytes read so far: no more than twice what the files have, however often they are named.
    read: u64,
}

impl Beside<'_> {
    fn read(&mut self, name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
        let own = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
        let inside = !name.is_empty() && !name.contains('\0') && Path::new(name).components().all(own);
        ensure!(
            inside,
            InvalidArgument,
            "its data are in {:?}, which is not within the folder of the ONNX file",
            shown(name)
        );
        let path = self.folder.join(name);
        let of = |e: std::io::Error| Error::from(e).context(path.display());
        let mut file = std::fs::File::open(&path).map_err(of)?;
        let all = file.metadata().map_err(of)?;
        ensure!(all.is_file(), InvalidArgument, "{} is no regular file", path.display());
        let end = at.checked_add(len as u64).filter(|&end| end <= all.len());
        ensure!(
            end.is_some(),
            InvalidArgument,
            "its {len} bytes at {at} are not within the {} of {}",
            all.len(),
            path.display()
        );
        self.lengths.insert(name.to_string(), all.len());
        self.read = self.read.saturating_add(len as u64);
        let most = self.lengths.values().fold(0u64, |n, &l| n.saturating_add(l)).saturating_mul(2);
        ensure!(self.read <= most, InvalidArgument, "the same bytes of {} are named again and again", path.display());
        file.seek(SeekFrom::Start(at)).map_err(of)?;
        let mut bytes = crate::memory::zeros(path.display(), len)?;
        file.read_exact(&mut bytes).map_err(of)?;
        Ok(bytes)
    }
}

fn import(bytes: &[u8], options: &ImportOptions, external: &mut External<'_>) -> Result<Imported> {
    let model = Model::parse(bytes)?;
    let mut constants = Vec::new();
    let mut elements = 0u64;
    for proto in &model.initializers {
        let t = proto.read(external)?.named(Some(proto.name.into()));
        elements = elements.saturating_add(t.len() as u64);
        constants.push((proto.name, t));
    }
    // Constants are made of constants: a file has no reason to make many times what it has.
    let mut translator = Translator::new(model.opset, (1 << 22) + elements.saturating_mul(4));
    for (name, t) in constants {
        translator.define(name, Sym::Const(t))?;
    }
    inputs(&mut translator, &model, options)?;
    translator.run(&model)?;
    output(&mut translator, &model, options)?;
    let graph = sweep::sweep(&translator.builder.finish()?)?;
    let mut weights = translator.weights;
    let used: BTreeSet<&str> = graph.params().iter().map(|p| p.name.as_str()).collect();
    weights.retain(|name, _| used.contains(name.as_str()));
    Ok(Imported { graph, weights })
}

/// The inputs that are no initialisers, with their roles.
fn inputs<'a>(translator: &mut Translator<'a>, model: &Model<'a>, options: &ImportOptions) -> Result<()> {
    let given: Vec<&ValueInfo<'a>> = model.inputs.iter().filter(|i| translator.get(i.name).is_none()).collect();
    let list = || given.iter().take(LISTED).map(|i| i.describe()).collect::<Vec<_>>().join(", ");
    let asked = options.roles.keys().chain(options.dims.keys());
    if let Some(other) = asked.into_iter().find(|name| !given.iter().any(|i| i.name == *name)) {
        return Err(err!(InvalidArgument, "the network has no input {other:?}; its inputs are {}", list()));
    }
    for info in &given {
        let known = NAMES.iter().find(|(name, _)| *name == info.name).map(|(_, role)| *role);
        let role = options.roles.get(info.name).copied().or(known);
        let role = role.ok_or_else(|| {
            err!(
                InvalidArgument,
                "the input {:?} has a name that says no role: give it one; the inputs are {}",
                shown(info.name),
                list()
            )
        })?;
        let made = input(translator, info, role, options.dims.get(info.name));
        let made = made.map_err(|e| e.context(format_args!("input {}", info.describe())))?;
        translator.define(info.name, Sym::Value(made))?;
    }
    ensure!(
        translator.builder.has_role(Role::Sample),
        InvalidArgument,
        "no input is the sample; the inputs are {}",
        list()
    );
    Ok(())
}

fn input(
    translator: &mut Translator<'_>,
    info: &ValueInfo<'_>,
    role: Role,
    asked: Option<&Vec<usize>>,
) -> Result<Value> {
    let kind = tensor::is_float(info.element);
    let float = kind.ok_or_else(|| err!(Unsupported, "elements of type {}", tensor::type_name(info.element)))?;
    let declared = info.dims.as_deref().ok_or_else(|| err!(Unsupported, "its dimensions are not said"))?;
    if let Some(asked) = asked {
        ensure!(asked.len() == declared.len(), Shape, "dimensions {asked:?} were given for {}", declared.len());
    }
    let mut shape = Vec::new();
    for (i, dim) in declared.iter().enumerate() {
        let said = asked.and_then(|a| a.get(i)).copied();
        shape.push(match (dim, said) {
            (Dim::Number(n), said) => {
                let n = usize::try_from(*n).map_err(|_| err!(Shape, "a dimension is {n}"))?;
                ensure!(said.is_none_or(|s| s == n), Shape, "dimension {i} is {n} in the file, {said:?} was given");
                n
            }
            (Dim::Name(_), Some(said)) => said,
            (Dim::Name(_), None) if i == 0 => 1,
            (Dim::Name(name), None) => {
                return Err(err!(Shape, "dimension {i} ({:?}) is left open: say the dimensions", shown(name)));
            }
        });
    }
    let role = match role {
        // A row of floats is a class as a vector, one number is its number.
        Role::Class if float && shape.len() == 2 && shape[1] > 1 => Role::ClassVector,
        role => role,
    };
    let batch = shape.first().copied().unwrap_or(1);
    ensure!(batch == 1, Unsupported, "its batch is {batch}, expected 1: export it with one sample, or an open batch");
    let total = tensor::count(&shape)?;
    let builder = &mut translator.builder;
    let (at, mut made) = match role {
        Role::Timestep | Role::Class => {
            ensure!(total == 1, Shape, "it has {total} elements, expected one");
            let at = builder.input_as(role, info.name, &[1])?;
            (at, Value::new(at, &shape, 0))
        }
        Role::Tokens => {
            let &[_, l, d] = shape.as_slice() else { return Err(err!(Shape, "expected [1, L, D]")) };
            let at = builder.input_as(role, info.name, &[d, l])?;
            let mut made = Value::new(at, &shape, 0);
            made.order = made.real(&[2, 1]);
            made.k = made.real(&[2]).len();
            (at, made)
        }
        role => {
            ensure!((2..=5).contains(&shape.len()), Shape, "expected a batch and at most four dimensions more");
            let at = builder.input_as(role, info.name, &shape[1..])?;
            (at, Value::new(at, &shape, usize::from(shape[1] != 1)))
        }
    };
    made.whole = !float;
    made.at = translator.redimension(at, &made.dims())?;
    Ok(made)
}

fn output<'a>(translator: &mut Translator<'a>, model: &Model<'a>, options: &ImportOptions) -> Result<()> {
    let list = || model.outputs.iter().take(LISTED).map(|o| shown(o)).collect::<Vec<_>>().join(", ");
    let name = match (&options.output, model.outputs.as_slice()) {
        (Some(name), all) => all.iter().find(|o| *o == name),
        (None, [one]) => Some(one),
        (None, _) => None,
    };
    let name = name.ok_or_else(|| err!(InvalidArgument, "say which output is the prediction: {}", list()))?;
    let made = translator.get(name).cloned();
    let made = made.ok_or_else(|| err!(InvalidArgument, "no node makes the output {:?}", shown(name)))?;
    let of_output = |e: Error| e.context(format_args!("output {:?}", shown(name)));
    let made = translator.value(&made).map_err(of_output)?;
    ensure!(
        made.shape.first() == Some(&1) && (2..=5).contains(&made.shape.len()),
        Shape,
        "the output {:?} is {:?}, expected a batch of 1 and one to four dimensions more",
        shown(name),
        made.shape
    );
    let mut at = translator.image(&made).map_err(of_output)?;
    if matches!(translator.node(at).map(|n| &n.op), Some(Op::Input(_))) {
        at = translator.push(Op::Reshape { dims: Dims::new(&made.shape[1..])? }, &[at])?;
    }
    translator.builder.output("sample", at)
}

impl ValueInfo<'_> {
    /// Its name, type and dimensions, as in a message.
    fn describe(&self) -> String {
        let dim = |d: &Dim<'_>| match d {
            Dim::Number(n) => n.to_string(),
            Dim::Name("") => "?".to_string(),
            Dim::Name(name) => shown(name),
        };
        let dims = self.dims.as_ref().map_or("?".to_string(), |d| d.iter().map(dim).collect::<Vec<_>>().join(", "));
        alloc::format!("{:?} {} [{dims}]", shown(self.name), tensor::type_name(self.element))
    }
}
