//! From the nodes of a file to those of a graph, one after the other.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::attention::{Context, Scores, Soft};
use super::attributes::Attributes;
use super::embedding::Angle;
use super::fold::{self, Budget};
use super::gates::{Cubic, Gate};
use super::model::{Model, Node};
use super::norm::Moment;
use super::protobuf::shown;
use super::tensor::Tensor;
use super::value::Value;
use crate::error::{Result, ensure, err};
use crate::graph::{self, GraphBuilder, Op, ParamId, ValueId};

/// What a name of the file stands for: something known, a value of the graph, or a part of a pattern that becomes one
/// only when all of it was seen.
#[derive(Clone, Debug)]
pub(super) enum Sym {
    Const(Tensor),
    Value(Value),
    /// Zeros around the last axes of an image, top, bottom, left and right, before a convolution takes them.
    Padded(Value, [usize; 4]),
    /// A number times fixed frequencies, perhaps its sine or cosine.
    Angle(Angle),
    /// Products of queries and keys.
    Scores(Scores),
    /// The softmax of a value along an axis.
    Soft(Soft),
    /// Keys and values of linear attention.
    Context(Context),
    /// What a norm over the channels of each position divides by or takes off.
    Moment(Moment),
    /// A value less its own mean over these axes.
    Centred(Value, Vec<usize>),
    /// A value times itself.
    Squared(Value),
    /// The logarithm of a number.
    Log(Value),
    /// What GELU multiplies its argument by, or a part of it.
    Gate(Gate),
    /// `a x + b x^3`.
    Cubic(Cubic),
}

impl Sym {
    pub fn shape(&self) -> Option<Vec<usize>> {
        Some(match self {
            Self::Const(t) => t.shape.clone(),
            Self::Value(v) | Self::Centred(v, _) | Self::Squared(v) | Self::Log(v) => v.shape.clone(),
            Self::Padded(v, pad) => padded_shape(v, pad),
            Self::Angle(a) => a.shape.clone(),
            Self::Scores(s) => s.shape(),
            Self::Soft(s) => s.of.shape.clone(),
            Self::Gate(g) => g.x.shape.clone(),
            Self::Cubic(c) => c.x.shape.clone(),
            Self::Context(_) | Self::Moment(_) => return None,
        })
    }
}

pub(super) fn padded_shape(v: &Value, pad: &[usize; 4]) -> Vec<usize> {
    let mut shape = v.shape.clone();
    let n = shape.len();
    for (axis, by) in [(n.checked_sub(2), pad[0] + pad[1]), (n.checked_sub(1), pad[2] + pad[3])] {
        if let Some(d) = axis.and_then(|a| shape.get_mut(a)) {
            *d += by;
        }
    }
    shape
}

pub(super) struct Translator<'a> {
    pub builder: GraphBuilder,
    /// What stands under the names of parameters.
    pub weights: BTreeMap<String, Tensor>,
    next: BTreeMap<String, usize>,
    names: BTreeMap<&'a str, Sym>,
    pub opset: i64,
    pub budget: Budget,
}

/// Reads bytes of another file: its name, where they begin, how many they are.
pub(super) type External<'b> = dyn FnMut(&str, u64, usize) -> Result<Vec<u8>> + 'b;

impl<'a> Translator<'a> {
    pub fn new(opset: i64, budget: u64) -> Self {
        Self {
            builder: GraphBuilder::new(),
            weights: BTreeMap::new(),
            next: BTreeMap::new(),
            names: BTreeMap::new(),
            opset,
            budget: Budget(budget),
        }
    }

    pub fn define(&mut self, name: &'a str, what: Sym) -> Result<()> {
        ensure!(!name.is_empty(), InvalidArgument, "the file has a value without a name");
        let twice = self.names.insert(name, what).is_some();
        ensure!(!twice, InvalidArgument, "the file has the name {:?} twice", shown(name));
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<&Sym> {
        self.names.get(name)
    }

    pub fn node(&self, at: ValueId) -> Option<&graph::Node> {
        self.builder.node(at)
    }

    pub fn push(&mut self, op: Op, args: &[ValueId]) -> Result<ValueId> {
        self.builder.push(op, args)
    }

    /// A constant as a parameter of these dimensions, under the name that it has in the file if it has one.
    pub fn param(&mut self, t: &Tensor, dims: &[usize]) -> Result<ParamId> {
        let values = t.to_floats();
        let base = t.name.as_deref().unwrap_or("constant");
        let next = self.next.entry(base.to_string()).or_insert(0);
        // The same weights are one parameter, however often they are used.
        for i in (0..*next).rev().take(64) {
            let name = numbered(base, i);
            if self.weights.get(&name).is_some_and(|known| known.shape == dims && known.holds(&values)) {
                return self.builder.param(&name, dims);
            }
        }
        let finite = values.iter().all(|v| v.is_finite());
        ensure!(finite, Weights, "the tensor {} holds values that are not finite", shown(base));
        let tensor = Tensor { shape: dims.to_vec(), data: super::tensor::Data::Float(values), name: t.name.clone() };
        let mut name = numbered(base, *next);
        *next += 1;
        while self.weights.contains_key(&name) {
            name = numbered(base, *next);
            *next += 1;
        }
        self.weights.insert(name.clone(), tensor);
        self.builder.param(&name, dims)
    }

    /// What a parameter holds.
    pub fn weight(&self, id: ParamId) -> Option<&Tensor> {
        self.builder.param_of(id).and_then(|p| self.weights.get(&p.name))
    }

    /// All nodes. The first that is not understood is the error, which names it.
    pub fn run(&mut self, model: &Model<'a>) -> Result<()> {
        let mut made: BTreeSet<&str> = BTreeSet::new();
        for name in model.nodes.iter().flat_map(|n| &n.outputs).filter(|n| !n.is_empty()) {
            ensure!(made.insert(name), InvalidArgument, "two nodes make the value {:?}", shown(name));
        }
        for node in &model.nodes {
            let outputs = self.outputs_of(node, &made).map_err(|e| {
                e.context(format_args!("node {:?} ({}{})", shown(title(node)), dotted(node.domain), shown(node.op)))
            })?;
            for (&name, what) in node.outputs.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
                self.define(name, what)?;
            }
        }
        Ok(())
    }

    fn outputs_of(&mut self, node: &Node<'a>, made: &BTreeSet<&str>) -> Result<Vec<Sym>> {
        let own = node.domain.is_empty() || node.domain == "ai.onnx";
        ensure!(own, Unsupported, "the domain {:?} has operations of its own", shown(node.domain));
        let mut args: Vec<Option<Sym>> = Vec::new();
        for &name in &node.inputs {
            let found = self.names.get(name).cloned();
            if found.is_none() && !name.is_empty() {
                let text = match made.contains(name) {
                    true => "is made by no node before it: the nodes are in a circle or in no order",
                    false => "is neither an input, an initialiser nor made by a node",
                };
                return Err(err!(InvalidArgument, "its argument {:?} {text}", shown(name)));
            }
            args.push(found);
        }
        let mut a = Attributes::new(&node.attributes);
        let n = node.outputs.len();
        let outputs = match self.constant(node, &mut a, &args, n)? {
            Some(list) => list.into_iter().map(Sym::Const).collect(),
            None => self.dispatch(node.op, &mut a, &args, n)?,
        };
        a.finish()?;
        let used = node.outputs.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1);
        ensure!(used <= outputs.len(), Unsupported, "its output {} has no counterpart", outputs.len());
        Ok(outputs)
    }

    /// The outputs of a node that depends on nothing but constants.
    fn constant(
        &mut self,
        node: &Node<'a>,
        a: &mut Attributes<'a>,
        args: &[Option<Sym>],
        outputs: usize,
    ) -> Result<Option<Vec<Tensor>>> {
        if node.op == "Constant" {
            let t = constant_node(a)?;
            let name = node.outputs.first().map(|&n| Arc::from(n));
            return Ok(Some(alloc::vec![t.named(name)]));
        }
        if matches!(node.op, "Shape" | "Size") {
            let shape = args.first().and_then(Option::as_ref).and_then(Sym::shape);
            let shape = shape.ok_or_else(|| err!(Unsupported, "the shape of a part of a pattern"))?;
            return Ok(Some(alloc::vec![match node.op {
                "Shape" => fold::shape_of(&shape, a)?,
                _ => Tensor::ints(&[], alloc::vec![super::tensor::count(&shape)? as i64]),
            }]));
        }
        let mut known = Vec::new();
        for arg in args {
            known.push(match arg {
                None => None,
                Some(Sym::Const(t)) => Some(t.clone()),
                Some(_) => return Ok(None),
            });
        }
        if known.is_empty() {
            return Ok(None);
        }
        fold::fold(node.op, a, &known, outputs, &mut self.budget)
    }
}

fn constant_node(a: &mut Attributes<'_>) -> Result<Tensor> {
    if let Some(t) = a.tensor("value")? {
        return Ok(t);
    }
    if let Some(list) = a.ints("value_ints")? {
        return Ok(Tensor::ints(&[list.len()], list));
    }
    if let Some(list) = a.floats("value_floats")? {
        return Ok(Tensor::floats(&[list.len()], list));
    }
    match a.take("value_int") {
        Some(super::model::Attribute::Int(n)) => return Ok(Tensor::ints(&[], alloc::vec![n])),
        Some(_) => return Err(err!(InvalidArgument, "its attribute value_int is no number")),
        None => {}
    }
    match a.take("value_float") {
        Some(super::model::Attribute::Float(v)) => Ok(Tensor::floats(&[], alloc::vec![v])),
        _ => Err(err!(Unsupported, "its value is no tensor, number or list of numbers")),
    }
}

fn numbered(base: &str, i: usize) -> String {
    if i == 0 { base.to_string() } else { format!("{base}.{i}") }
}

fn title<'a>(node: &Node<'a>) -> &'a str {
    if node.name.is_empty() { node.outputs.first().copied().unwrap_or_default() } else { node.name }
}

fn dotted(domain: &str) -> String {
    if domain.is_empty() { String::new() } else { format!("{}.", shown(domain)) }
}
