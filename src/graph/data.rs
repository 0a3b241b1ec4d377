//! A graph as text: JSON of a version, for packed files and for networks that other programs made.
//!
//! ```text
//! {"_class_name": "Graph", "version": 1, "parameters": {NAME: DIMS, ..}, "nodes": [NODE, ..],
//!  "outputs": [{"name": NAME, "value": N}, ..]}
//! ```
//!
//! A node is `{"op": OP, "args": [N, ..], ..}` with the attributes of its operation, which are those of [`Op`]
//! under the same names; a number N is the place of a node before it, a parameter stands under its name. An input
//! is `{"op": "input", "name": NAME, "role": ROLE, "dims": DIMS}`, see [`Role`] and [`Op::name`]. A missing
//! attribute has the default that [`Graph::to_json`] leaves out: no bias, padding 0, dilation, groups and stride 1,
//! false. Whole numbers are at most 2^30.
//!
//! The operations are the primitive ones, as models build them; fused ones and gradients a backend makes itself.
//! The format grows by operations and attributes whose absence means what it meant before; a reader refuses what it
//! does not know by name. Whatever would change a meaning gets another version.
//!
//! ```
//! use undiffuse::graph::Graph;
//!
//! let text = r#"{"_class_name": "Graph", "version": 1, "parameters": {"w": [3, 2]}, "nodes": [
//!     {"op": "input", "name": "sample", "role": "sample", "dims": [2]},
//!     {"op": "linear", "args": [0], "weight": "w"}], "outputs": [{"name": "sample", "value": 1}]}"#;
//! let graph = Graph::from_json(text)?;
//! assert_eq!(graph.dims(graph.outputs()[0].value).as_slice(), [3]);
//! assert_eq!(Graph::from_json(&graph.to_json()?)?, graph);
//! # Ok::<(), undiffuse::Error>(())
//! ```

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{
    Activation, Binary, ChannelNorm, Graph, GraphBuilder, GroupNorm, Kernel, NormKind, Op, Padding, ParamId, Role,
    ValueId, Window,
};
use crate::error::{Result, ensure, err};
use crate::json::{self, Object, Value};
use crate::tensor::Dims;

/// The `_class_name` of a graph.
pub const CLASS: &str = "Graph";
/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;
/// The largest whole number that an attribute may be.
const MOST: usize = 1 << 30;

const BINARIES: [(&str, Binary); 3] = [("add", Binary::Add), ("mul", Binary::Mul), ("div", Binary::Div)];
const NORMS: [(&str, NormKind); 3] = [("layer", NormKind::Layer), ("rms", NormKind::Rms), ("l2", NormKind::L2)];
/// Those without an attribute.
const FUNCTIONS: [(&str, Activation); 8] = [
    ("silu", Activation::Silu),
    ("mish", Activation::Mish),
    ("gelu", Activation::Gelu),
    ("gelu_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("softplus", Activation::Softplus),
];

fn name_of<T: PartialEq + Copy>(names: &[(&'static str, T)], value: T) -> Option<&'static str> {
    names.iter().find(|(_, v)| *v == value).map(|(n, _)| *n)
}

impl Graph {
    /// The graph as text, see the [module](self); equal graphs give equal bytes.
    ///
    /// Errors (kind `Unsupported`): an operation that is none of the primitive ones, as in a graph that was fused or
    /// differentiated.
    pub fn to_json(&self) -> Result<String> {
        let mut parameters = Object::new();
        for p in self.params() {
            parameters.insert(p.name.clone(), numbers(p.dims.as_slice()));
        }
        let mut nodes = Vec::new();
        for node in self.nodes() {
            let mut of = Writer { graph: self, map: Object::new() };
            of.put("op", Value::String(node.op.name().into()));
            if !node.args.is_empty() {
                of.put("args", numbers(&node.args.iter().map(|a| a.index()).collect::<Vec<_>>()));
            }
            of.attributes(&node.op)?;
            nodes.push(Value::Object(of.map));
        }
        let output = |port: &super::Port| {
            let name = ("name".to_string(), Value::String(port.name.clone()));
            Value::Object([name, ("value".to_string(), whole(port.value.index()))].into_iter().collect())
        };
        let outputs = self.outputs().iter().map(output).collect();
        let mut all = Object::new();
        all.insert("_class_name".into(), Value::String(CLASS.into()));
        all.insert("version".into(), Value::Integer(i128::from(VERSION)));
        all.insert("parameters".into(), Value::Object(parameters));
        all.insert("nodes".into(), Value::Array(nodes));
        all.insert("outputs".into(), Value::Array(outputs));
        Ok(Value::Object(all).to_string())
    }

    /// The graph of a text, see the [module](self).
    ///
    /// Errors name the node: kind `Config` for what is no such text, an unknown operation or attribute, an argument
    /// that is not made before; `Shape` and `InvalidArgument` where shapes do not fit or roles stand twice;
    /// `Unsupported` for another version.
    pub fn from_json(text: &str) -> Result<Self> {
        let mut top = json::parse_object(text).map_err(|e| e.context("the graph is malformed"))?;
        let class = top.remove("_class_name");
        let is = class.as_ref().is_none_or(|c| c.as_str() == Some(CLASS));
        ensure!(is, Config, "the graph is of class {}, expected {CLASS:?}", class.map_or(String::new(), |c| c.brief()));
        let version = top.remove("version");
        ensure!(
            version.as_ref().and_then(Value::as_u64) == Some(VERSION),
            Unsupported,
            "the graph has version {}, expected {VERSION}",
            version.map_or("null".into(), |v| v.brief())
        );
        let mut take = |key: &str| top.remove(key).ok_or_else(|| err!(Config, "the graph has no {key}"));
        let (parameters, nodes, outputs) = (take("parameters")?, take("nodes")?, take("outputs")?);
        if let Some(key) = top.keys().find(|k| !k.starts_with('_')) {
            return Err(err!(Config, "the graph has the unknown key {key:?}, expected parameters, nodes, outputs"));
        }
        let object = |what: &str, v: &Value| {
            v.as_object().cloned().ok_or_else(|| err!(Config, "{what} are {}, expected an object", v.brief()))
        };
        let mut builder = GraphBuilder::new();
        let mut params = BTreeMap::new();
        for (name, dims) in object("the graph's parameters", &parameters)? {
            let dims = dims_of(&dims).map_err(|e| e.context(format_args!("parameter {name}")))?;
            params.insert(name.clone(), builder.param(&name, dims.as_slice())?);
        }
        let nodes = nodes.as_array().ok_or_else(|| err!(Config, "the graph's nodes are no list"))?;
        for (index, node) in nodes.iter().enumerate() {
            let map = node.as_object().ok_or_else(|| err!(Config, "node {index} is {}, no object", node.brief()))?;
            let mut of = Reader { map: map.clone(), params: &params };
            let op = of.map.remove("op").as_ref().and_then(Value::as_str).map(ToOwned::to_owned);
            let op = op.ok_or_else(|| err!(Config, "node {index} names no op"))?;
            node_of(&mut builder, &mut of, &op, index).map_err(|e| e.context(format_args!("node {index} ({op})")))?;
        }
        for output in outputs.as_array().ok_or_else(|| err!(Config, "the graph's outputs are no list"))? {
            let mut of = Reader { map: object("an output", output)?, params: &params };
            let name = of.text("name").map_err(|e| e.context("an output"))?;
            let made = of.size("value").ok().filter(|&i| i < nodes.len());
            let id = made.ok_or_else(|| err!(Config, "output {name} is no number of a node"))?;
            of.finish().map_err(|e| e.context(format_args!("output {name}")))?;
            let twice = builder.outputs().iter().any(|p| p.name == name);
            ensure!(!twice, Config, "two outputs are called {name:?}");
            builder.output(&name, ValueId(id as u32))?;
        }
        builder.finish()
    }
}

fn node_of(builder: &mut GraphBuilder, of: &mut Reader<'_>, op: &str, index: usize) -> Result<()> {
    let mut args = Vec::new();
    let given = of.map.remove("args").unwrap_or(Value::Array(Vec::new()));
    for arg in given.as_array().ok_or_else(|| err!(Config, "args are {}, expected a list", given.brief()))? {
        let made = index_of(arg).filter(|&i| i < index);
        let made = made.ok_or_else(|| err!(Config, "the argument {} is no node before it", arg.brief()))?;
        args.push(ValueId(made as u32));
    }
    if op == "input" {
        ensure!(args.is_empty(), Config, "an input has no arguments");
        let (name, role, dims) = (of.text("name")?, of.word("role", &Role::NAMES)?, of.dims("dims")?);
        ensure!(role != Role::Cotangent, Config, "the role \"cotangent\" is of gradients alone");
        of.finish()?;
        builder.input_as(role, &name, dims.as_slice())?;
        return Ok(());
    }
    let op = of.op(op)?;
    of.finish()?;
    builder.push(op, &args)?;
    Ok(())
}

fn whole(n: usize) -> Value {
    Value::Integer(n as i128)
}

fn numbers(list: &[usize]) -> Value {
    Value::Array(list.iter().map(|&n| whole(n)).collect())
}

/// The shortest decimal that is read as the same `f32`.
fn real(v: f32) -> Value {
    let short = format!("{v}").parse::<f64>().ok().filter(|&d| d as f32 == v);
    Value::Number(short.unwrap_or(f64::from(v)))
}

fn index_of(v: &Value) -> Option<usize> {
    v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= MOST)
}

fn dims_of(v: &Value) -> Result<Dims> {
    let list: Option<Vec<usize>> = v.as_array().and_then(|a| a.iter().map(index_of).collect());
    Dims::new(
        &list.ok_or_else(|| err!(Config, "dims are {}, expected a list of whole numbers up to {MOST}", v.brief()))?,
    )
}

struct Writer<'a> {
    graph: &'a Graph,
    map: Object,
}

impl Writer<'_> {
    fn put(&mut self, key: &str, value: Value) {
        self.map.insert(key.to_string(), value);
    }

    fn size(&mut self, key: &str, n: usize) {
        self.put(key, whole(n));
    }

    fn unless(&mut self, key: &str, n: usize, default: usize) {
        if n != default {
            self.size(key, n);
        }
    }

    fn flag(&mut self, key: &str, is: bool) {
        if is {
            self.put(key, Value::Bool(true));
        }
    }

    fn param(&mut self, key: &str, id: ParamId) {
        let name = self.graph.param(id).name.clone();
        self.put(key, Value::String(name));
    }

    fn kernel(&mut self, k: &Kernel) {
        self.param("weight", k.weight);
        k.bias.into_iter().for_each(|b| self.param("bias", b));
    }

    fn window(&mut self, w: &Window) {
        self.put("kernel", numbers(&w.kernel));
        self.unless("stride", w.stride, 1);
        let p = w.padding;
        if p != Padding::default() {
            self.put("padding", numbers(&[p.top, p.bottom, p.left, p.right]));
        }
        self.unless("dilation", w.dilation, 1);
        self.unless("groups", w.groups, 1);
    }

    fn attributes(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Input(slot) => {
                let port = self.graph.inputs().get(slot.index()).cloned();
                let port = port.ok_or_else(|| err!(InvalidArgument, "an input that the graph has not"))?;
                ensure!(port.role != Role::Cotangent, Unsupported, "a graph of gradients is not written");
                self.put("name", Value::String(port.name));
                self.put("role", Value::String(port.role.name().into()));
                self.put("dims", numbers(self.graph.dims(port.value).as_slice()));
            }
            Op::Conv2d { window, kernel } => {
                self.window(window);
                self.kernel(kernel);
            }
            Op::Linear(kernel) => self.kernel(kernel),
            Op::GroupNorm(n) => {
                self.size("groups", n.groups);
                self.put("eps", real(n.eps));
                self.param("weight", n.weight);
                self.param("bias", n.bias);
            }
            Op::ChannelNorm(n) => {
                let kind = name_of(&NORMS, n.kind).ok_or_else(|| err!(Unsupported, "a norm without a name"))?;
                self.put("kind", Value::String(kind.into()));
                self.unless("groups", n.groups, 1);
                self.put("eps", real(n.eps));
                n.weight.into_iter().for_each(|w| self.param("weight", w));
                n.bias.into_iter().for_each(|b| self.param("bias", b));
            }
            Op::Activation(f) => {
                let name = match f {
                    Activation::LeakyRelu { slope } => {
                        self.put("slope", real(*slope));
                        Some("leaky_relu")
                    }
                    f => name_of(&FUNCTIONS, *f),
                };
                let name = name.ok_or_else(|| err!(Unsupported, "an activation without a name"))?;
                self.put("function", Value::String(name.into()));
            }
            Op::Binary(f) => {
                let name = name_of(&BINARIES, *f).ok_or_else(|| err!(Unsupported, "a function without a name"))?;
                self.put("function", Value::String(name.into()));
            }
            Op::Affine { scale, shift } => {
                self.put("scale", real(*scale));
                self.put("shift", real(*shift));
            }
            Op::SliceChannels { start, len } | Op::SlicePositions { start, len } => {
                self.size("start", *start);
                self.size("len", *len);
            }
            Op::PadChannels { before, after } | Op::PadPositions { before, after } => {
                self.size("before", *before);
                self.size("after", *after);
            }
            Op::UpsampleNearest { factor } | Op::AveragePool { factor } => self.size("factor", *factor),
            Op::Fir { taps, up, down, pad } => {
                self.put("taps", Value::Array(taps.iter().map(|t| real(*t)).collect()));
                self.unless("up", *up, 1);
                self.unless("down", *down, 1);
                self.put("pad", Value::Array(pad.iter().map(|p| Value::Integer(*p as i128)).collect()));
            }
            Op::Attention { heads } | Op::LinearAttention { heads } => self.size("heads", *heads),
            Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period } => {
                self.size("dim", *dim);
                self.flag("flip_sin_to_cos", *flip_sin_to_cos);
                self.put("freq_shift", real(*freq_shift));
                self.put("max_period", real(*max_period));
            }
            Op::FourierEmbedding { weight, log, flip_sin_to_cos } => {
                self.param("weight", *weight);
                self.flag("log", *log);
                self.flag("flip_sin_to_cos", *flip_sin_to_cos);
            }
            Op::Embedding { table } | Op::NearestRow { table } => self.param("table", *table),
            Op::Reshape { dims } => self.put("dims", numbers(dims.as_slice())),
            Op::ElementBias { bias } => self.param("bias", *bias),
            Op::RadialBasis { centres, widths } => {
                self.param("centres", *centres);
                self.param("widths", *widths);
            }
            Op::TemporalBasis { steps, functions, width } => {
                self.size("steps", *steps);
                self.size("functions", *functions);
                self.put("width", Value::Number(*width));
            }
            Op::ConvAdjoint { window, weight, dims } => {
                self.window(window);
                self.param("weight", *weight);
                self.put("dims", numbers(dims.as_slice()));
            }
            Op::Parameter { param, dims } => {
                self.param("param", *param);
                self.put("dims", numbers(dims.as_slice()));
            }
            Op::PositionEmbedding { dims, scale } => {
                self.put("dims", numbers(dims));
                self.put("scale", Value::Number(*scale));
            }
            Op::OneHot { classes } => self.size("classes", *classes),
            Op::DepthToSpace { factor, blocks_first } | Op::SpaceToDepth { factor, blocks_first } => {
                self.put("factor", numbers(factor));
                self.flag("blocks_first", *blocks_first);
            }
            Op::ReflectPad(p) => self.put("padding", numbers(&[p.top, p.bottom, p.left, p.right])),
            Op::ShuffleChannels { rows, columns } => {
                self.size("rows", *rows);
                self.size("columns", *columns);
            }
            Op::MaxPool(window) => self.window(window),
            Op::Concat | Op::ConcatPositions | Op::Softmax | Op::MatVec | Op::SumPositions => {}
            op => return Err(err!(Unsupported, "the operation {} is not written to a file", op.name())),
        }
        Ok(())
    }
}

/// The attributes of a node that have not been taken.
struct Reader<'a> {
    map: Object,
    params: &'a BTreeMap<String, ParamId>,
}

impl Reader<'_> {
    fn take(&mut self, key: &str) -> Result<Value> {
        self.map.remove(key).ok_or_else(|| err!(Config, "{key} is missing"))
    }

    fn with<T>(&mut self, key: &str, expected: &str, of: impl FnOnce(&Value) -> Option<T>) -> Result<T> {
        let v = self.take(key)?;
        of(&v).ok_or_else(|| err!(Config, "{key} is {}, expected {expected}", v.brief()))
    }

    fn or<T>(&mut self, key: &str, default: T, of: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.map.contains_key(key) { of(self) } else { Ok(default) }
    }

    fn text(&mut self, key: &str) -> Result<String> {
        self.with(key, "a text", |v| v.as_str().map(ToOwned::to_owned))
    }

    fn word<T: Copy>(&mut self, key: &str, names: &[(&'static str, T)]) -> Result<T> {
        let known: Vec<&str> = names.iter().map(|(n, _)| *n).collect();
        self.with(key, &known.join(", "), |v| names.iter().find(|(n, _)| v.as_str() == Some(n)).map(|(_, t)| *t))
    }

    fn size(&mut self, key: &str) -> Result<usize> {
        self.with(key, "a whole number", index_of)
    }

    fn size_or(&mut self, key: &str, default: usize) -> Result<usize> {
        self.or(key, default, |r| r.size(key))
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        self.or(key, false, |r| r.with(key, "true or false", Value::as_bool))
    }

    fn double(&mut self, key: &str) -> Result<f64> {
        self.with(key, "a number", Value::as_f64)
    }

    fn real(&mut self, key: &str) -> Result<f32> {
        self.with(key, "a number that f32 has", |v| v.as_f64().map(|d| d as f32).filter(|f| f.is_finite()))
    }

    fn sizes<const N: usize>(&mut self, key: &str) -> Result<[usize; N]> {
        self.with(key, &format!("{N} whole numbers"), |v| {
            let list: Option<Vec<usize>> = v.as_array()?.iter().map(index_of).collect();
            list?.try_into().ok()
        })
    }

    fn dims(&mut self, key: &str) -> Result<Dims> {
        let v = self.take(key)?;
        dims_of(&v).map_err(|e| e.context(key.to_string()))
    }

    fn param(&mut self, key: &str) -> Result<ParamId> {
        let name = self.text(key)?;
        let id = self.params.get(&name);
        id.copied().ok_or_else(|| err!(Config, "{key} is {name:?}, which is none of the graph's parameters"))
    }

    fn param_if(&mut self, key: &str) -> Result<Option<ParamId>> {
        self.or(key, None, |r| r.param(key).map(Some))
    }

    fn window(&mut self) -> Result<Window> {
        let kernel = self.sizes("kernel")?;
        let stride = self.size_or("stride", 1)?;
        let [top, bottom, left, right] = self.or("padding", [0; 4], |r| r.sizes("padding"))?;
        let mut window = Window::new(kernel, stride, Padding { top, bottom, left, right });
        window.dilation = self.size_or("dilation", 1)?;
        window.groups = self.size_or("groups", 1)?;
        Ok(window)
    }

    fn kernel(&mut self) -> Result<Kernel> {
        Ok(Kernel { weight: self.param("weight")?, bias: self.param_if("bias")? })
    }

    fn op(&mut self, name: &str) -> Result<Op> {
        Ok(match name {
            "conv2d" => Op::Conv2d { window: self.window()?, kernel: self.kernel()? },
            "linear" => Op::Linear(self.kernel()?),
            "group_norm" => Op::GroupNorm(GroupNorm {
                groups: self.size("groups")?,
                eps: self.real("eps")?,
                weight: self.param("weight")?,
                bias: self.param("bias")?,
            }),
            "channel_norm" => Op::ChannelNorm(ChannelNorm {
                kind: self.word("kind", &NORMS)?,
                groups: self.size_or("groups", 1)?,
                eps: self.real("eps")?,
                weight: self.param_if("weight")?,
                bias: self.param_if("bias")?,
            }),
            "activation" if self.map.contains_key("slope") => {
                self.word("function", &[("leaky_relu", ())])?;
                Op::Activation(Activation::LeakyRelu { slope: self.real("slope")? })
            }
            "activation" => Op::Activation(self.word("function", &FUNCTIONS)?),
            "binary" => Op::Binary(self.word("function", &BINARIES)?),
            "affine" => Op::Affine { scale: self.real("scale")?, shift: self.real("shift")? },
            "concat" => Op::Concat,
            "slice_channels" => Op::SliceChannels { start: self.size("start")?, len: self.size("len")? },
            "pad_channels" => Op::PadChannels { before: self.size("before")?, after: self.size("after")? },
            "upsample_nearest" => Op::UpsampleNearest { factor: self.size("factor")? },
            "average_pool" => Op::AveragePool { factor: self.size("factor")? },
            "fir" => Op::Fir {
                taps: self.with("taps", "a list of numbers", |v| {
                    let list = v.as_array()?.iter().map(|t| t.as_f64().map(|d| d as f32).filter(|f| f.is_finite()));
                    list.collect()
                })?,
                up: self.size_or("up", 1)?,
                down: self.size_or("down", 1)?,
                pad: self.with("pad", "two whole numbers", |v| {
                    let of = |v: &Value| match v {
                        Value::Integer(n) if n.unsigned_abs() <= MOST as u128 => isize::try_from(*n).ok(),
                        _ => None,
                    };
                    let list: Option<Vec<isize>> = v.as_array()?.iter().map(of).collect();
                    list?.try_into().ok()
                })?,
            },
            "attention" => Op::Attention { heads: self.size("heads")? },
            "linear_attention" => Op::LinearAttention { heads: self.size("heads")? },
            "sinusoidal_embedding" => Op::SinusoidalEmbedding {
                dim: self.size("dim")?,
                flip_sin_to_cos: self.flag("flip_sin_to_cos")?,
                freq_shift: self.real("freq_shift")?,
                max_period: self.real("max_period")?,
            },
            "fourier_embedding" => Op::FourierEmbedding {
                weight: self.param("weight")?,
                log: self.flag("log")?,
                flip_sin_to_cos: self.flag("flip_sin_to_cos")?,
            },
            "embedding" => Op::Embedding { table: self.param("table")? },
            "reshape" => Op::Reshape { dims: self.dims("dims")? },
            "element_bias" => Op::ElementBias { bias: self.param("bias")? },
            "radial_basis" => Op::RadialBasis { centres: self.param("centres")?, widths: self.param("widths")? },
            "nearest_row" => Op::NearestRow { table: self.param("table")? },
            "softmax" => Op::Softmax,
            "temporal_basis" => Op::TemporalBasis {
                steps: self.size("steps")?,
                functions: self.size("functions")?,
                width: self.double("width")?,
            },
            "mat_vec" => Op::MatVec,
            "conv_adjoint" => {
                Op::ConvAdjoint { window: self.window()?, weight: self.param("weight")?, dims: self.dims("dims")? }
            }
            "sum_positions" => Op::SumPositions,
            "parameter" => Op::Parameter { param: self.param("param")?, dims: self.dims("dims")? },
            "position_embedding" => Op::PositionEmbedding { dims: self.sizes("dims")?, scale: self.double("scale")? },
            "one_hot" => Op::OneHot { classes: self.size("classes")? },
            "depth_to_space" => {
                Op::DepthToSpace { factor: self.sizes("factor")?, blocks_first: self.flag("blocks_first")? }
            }
            "space_to_depth" => {
                Op::SpaceToDepth { factor: self.sizes("factor")?, blocks_first: self.flag("blocks_first")? }
            }
            "reflect_pad" => {
                let [top, bottom, left, right] = self.sizes("padding")?;
                Op::ReflectPad(Padding { top, bottom, left, right })
            }
            "shuffle_channels" => Op::ShuffleChannels { rows: self.size("rows")?, columns: self.size("columns")? },
            "concat_positions" => Op::ConcatPositions,
            "slice_positions" => Op::SlicePositions { start: self.size("start")?, len: self.size("len")? },
            "pad_positions" => Op::PadPositions { before: self.size("before")?, after: self.size("after")? },
            "max_pool" => Op::MaxPool(self.window()?),
            _ => {
                return Err(err!(
                    Config,
                    "this library has no such operation; undiffuse's documentation of Op lists them"
                ));
            }
        })
    }

    fn finish(&self) -> Result<()> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(key) => Err(err!(Config, "the attribute {key:?} is unknown")),
        }
    }
}
