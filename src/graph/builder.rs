//! Building a graph node by node.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::infer::{Context, infer};
use super::{
    Activation, Binary, ChannelNorm, Graph, GroupNorm, InputId, Kernel, LayerPrecision, Node, NormKind, Op, Padding,
    Param, ParamId, Port, Role, ValueId, ValueType, Window,
};
use crate::error::{Error, Result, ensure, err};
use crate::tensor::{DType, Dims};

/// The most nodes, parameters or arguments of one graph; far above any real model.
const MAX_NODES: usize = 1 << 20;

/// Builds a [`Graph`]. Every method checks shapes at once, so an error names the operation that does not fit.
///
/// Methods that take a `name` make the parameters `name.weight` and `name.bias`.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    graph: Graph,
    names: BTreeMap<String, ParamId>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The type of a value made so far.
    pub fn ty(&self, id: ValueId) -> Result<ValueType> {
        self.graph
            .nodes
            .get(id.index())
            .map(|n| n.ty)
            .ok_or_else(|| err!(InvalidArgument, "value {} is not of this graph", id.index()))
    }

    /// The dimensions of a value made so far, for one sample.
    pub fn dims(&self, id: ValueId) -> Result<Dims> {
        Ok(self.ty(id)?.dims)
    }

    /// Adds a node of any operation but [`Op::Input`].
    pub fn push(&mut self, op: Op, args: &[ValueId]) -> Result<ValueId> {
        let mut types = Vec::new();
        for &a in args {
            types.push(self.ty(a)?);
        }
        let cx = Context { args: &types, params: &self.graph.params };
        let dims = infer(&op, &cx).map_err(|e| e.context(op.name()))?;
        self.push_typed(op, args, ValueType { dims, dtype: DType::F32 })
    }

    fn push_typed(&mut self, op: Op, args: &[ValueId], ty: ValueType) -> Result<ValueId> {
        let nodes = &mut self.graph.nodes;
        ensure!(nodes.len() < MAX_NODES, Unsupported, "the network has more than {MAX_NODES} operations");
        nodes.push(Node { op, args: args.to_owned(), ty });
        Ok(ValueId(nodes.len() as u32 - 1))
    }

    /// Adds a network input with the dimensions of one sample, of which nothing else is said ([`Role::Value`]).
    pub fn input(&mut self, name: &str, dims: &[usize]) -> Result<ValueId> {
        self.input_as(Role::Value, name, dims)
    }

    /// Adds a network input with its role and the dimensions of one sample.
    ///
    /// Errors: kind `Shape` for dimensions that do not suit the role; kind `InvalidArgument` for the name of
    /// another input where the role is that of a condition, and for a second input where a network has but one (x,
    /// the timestep, the class).
    pub fn input_as(&mut self, role: Role, name: &str, dims: &[usize]) -> Result<ValueId> {
        let named = |e: Error| e.context(format_args!("input {name}"));
        let dims = Dims::new(dims).map_err(named)?;
        role.check(&dims).map_err(named)?;
        let inputs = &self.graph.inputs;
        if role != Role::Value {
            ensure!(!inputs.iter().any(|p| p.name == name), InvalidArgument, "two inputs are called {name:?}");
        }
        let alike = |p: &&Port| p.role == role || (p.role.is_class() && role.is_class());
        if let Some(first) = inputs.iter().find(alike).filter(|_| role.is_single()) {
            return Err(err!(
                InvalidArgument,
                "the inputs {:?} and {name:?} both have the role {:?}, expected one",
                first.name,
                role.name()
            ));
        }
        let slot = InputId(inputs.len() as u32);
        let value = self.push_typed(Op::Input(slot), &[], ValueType { dims, dtype: DType::F32 })?;
        self.graph.inputs.push(Port { name: name.to_owned(), value, role });
        Ok(value)
    }

    /// Names a value as a network output.
    pub fn output(&mut self, name: &str, value: ValueId) -> Result<()> {
        self.ty(value)?;
        self.graph.outputs.push(Port { name: name.to_owned(), value, role: Role::Value });
        Ok(())
    }

    /// The outputs named so far.
    pub(super) fn outputs(&self) -> &[Port] {
        &self.graph.outputs
    }

    /// Adds a parameter. The same name twice gives the same parameter if the dimensions agree, else an error.
    pub fn param(&mut self, name: &str, dims: &[usize]) -> Result<ParamId> {
        let dims = Dims::new(dims).map_err(|e| e.context(format_args!("parameter {name}")))?;
        if let Some(&id) = self.names.get(name) {
            let is = self.graph.param(id).dims;
            ensure!(is == dims, Shape, "parameter {name} is used as {is} and as {dims}");
            return Ok(id);
        }
        let params = &mut self.graph.params;
        ensure!(params.len() < MAX_NODES, Unsupported, "the network has more than {MAX_NODES} parameters");
        let id = ParamId(params.len() as u32);
        params.push(Param { name: name.to_owned(), dims, precision: LayerPrecision::F32 });
        self.names.insert(name.to_owned(), id);
        Ok(id)
    }

    fn kernel(&mut self, name: &str, weight: &[usize], bias: bool) -> Result<Kernel> {
        let w = self.param(&format!("{name}.weight"), weight)?;
        let b = if bias { Some(self.param(&format!("{name}.bias"), &weight[..1])?) } else { None };
        Ok(Kernel { weight: w, bias: b })
    }

    /// A convolution with bias, weight `[out, C, k, k]`.
    pub fn conv2d(
        &mut self,
        name: &str,
        x: ValueId,
        out: usize,
        k: usize,
        stride: usize,
        padding: Padding,
    ) -> Result<ValueId> {
        let inputs = self.dims(x)?.channels();
        let kernel = self.kernel(name, &[out, inputs, k, k], true)?;
        self.push(Op::Conv2d { window: Window::new([k, k], stride, padding), kernel }, &[x])
    }

    /// A linear map of the channels at every position, weight `[out, C]`.
    pub fn linear(&mut self, name: &str, x: ValueId, out: usize, bias: bool) -> Result<ValueId> {
        let inputs = self.dims(x)?.channels();
        let kernel = self.kernel(name, &[out, inputs], bias)?;
        self.push(Op::Linear(kernel), &[x])
    }

    /// Group normalisation with factors and offsets `[C]`.
    pub fn group_norm(&mut self, name: &str, x: ValueId, groups: usize, eps: f32) -> Result<ValueId> {
        let c = self.dims(x)?.channels();
        let weight = self.param(&format!("{name}.weight"), &[c])?;
        let bias = self.param(&format!("{name}.bias"), &[c])?;
        self.push(Op::GroupNorm(GroupNorm { groups, eps, weight, bias }), &[x])
    }

    /// An elementwise function.
    pub fn activation(&mut self, x: ValueId, f: Activation) -> Result<ValueId> {
        self.push(Op::Activation(f), &[x])
    }

    /// `a + b`; see [`Op::Binary`] for shapes.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.push(Op::Binary(Binary::Add), &[a, b])
    }

    /// `a * b`; see [`Op::Binary`] for shapes.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.push(Op::Binary(Binary::Mul), &[a, b])
    }

    /// `a / b`; see [`Op::Binary`] for shapes.
    pub fn div(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.push(Op::Binary(Binary::Div), &[a, b])
    }

    /// `x * scale + shift`.
    pub fn affine(&mut self, x: ValueId, scale: f32, shift: f32) -> Result<ValueId> {
        self.push(Op::Affine { scale, shift }, &[x])
    }

    /// Values put together along channels.
    pub fn concat(&mut self, parts: &[ValueId]) -> Result<ValueId> {
        self.push(Op::Concat, parts)
    }

    /// Channels `start .. start + len`.
    pub fn slice_channels(&mut self, x: ValueId, start: usize, len: usize) -> Result<ValueId> {
        self.push(Op::SliceChannels { start, len }, &[x])
    }

    /// A parameter as a value of these dimensions, see [`Op::Parameter`].
    pub fn parameter(&mut self, name: &str, stored: &[usize], dims: &[usize]) -> Result<ValueId> {
        let param = self.param(name, stored)?;
        let dims = Dims::new(dims).map_err(|e| e.context("parameter"))?;
        self.push(Op::Parameter { param, dims }, &[])
    }

    /// A transposed convolution with bias, weight `[C, out, k, k]` (`torch.nn.ConvTranspose2d`): the adjoint of a
    /// convolution with this window from the size of the result. Sides become `(n - 1) * stride + k - 2 * padding`.
    pub fn conv_transpose2d(
        &mut self,
        name: &str,
        x: ValueId,
        out: usize,
        k: usize,
        stride: usize,
        padding: usize,
    ) -> Result<ValueId> {
        self.conv_transpose(name, x, out, Window::new([k, k], stride, Padding::all(padding)))
    }

    /// The same of `[C, 1, W]`, weight `[C, out, k]` (`torch.nn.ConvTranspose1d`).
    pub fn conv_transpose1d(
        &mut self,
        name: &str,
        x: ValueId,
        out: usize,
        k: usize,
        stride: usize,
        padding: usize,
    ) -> Result<ValueId> {
        let padding = Padding { left: padding, right: padding, ..Padding::default() };
        self.conv_transpose(name, x, out, Window::new([1, k], stride, padding))
    }

    fn conv_transpose(&mut self, name: &str, x: ValueId, out: usize, window: Window) -> Result<ValueId> {
        let d = self.dims(x)?;
        let &[c, h, w] = d.as_slice() else { return Err(err!(Shape, "{name}: {d} is no image [C, H, W]")) };
        let (p, [kh, kw]) = (window.padding, window.kernel);
        let side =
            |n: usize, k: usize, pads: usize| (n - 1).checked_mul(window.stride)?.checked_add(k)?.checked_sub(pads);
        let sides = side(h, kh, p.top + p.bottom).zip(side(w, kw, p.left + p.right));
        let (h, w) =
            sides.ok_or_else(|| err!(Shape, "{name}: {d} has no transposed convolution of kernel {kh} x {kw}"))?;
        let stored = if kh == 1 && kw > 1 { alloc::vec![c, out, kw] } else { alloc::vec![c, out, kh, kw] };
        let weight = self.param(&format!("{name}.weight"), &stored)?;
        let y = self.push(Op::ConvAdjoint { window, weight, dims: Dims::new(&[out, h, w])? }, &[x])?;
        let bias = self.parameter(&format!("{name}.bias"), &[out], &[out])?;
        self.add(y, bias)
    }

    /// A one-dimensional convolution with bias on `[C, 1, W]`, weight `[out, C, k]`.
    pub fn conv1d(
        &mut self,
        name: &str,
        x: ValueId,
        out: usize,
        k: usize,
        stride: usize,
        padding: usize,
    ) -> Result<ValueId> {
        let inputs = self.dims(x)?.channels();
        let kernel = self.kernel(name, &[out, inputs, k], true)?;
        let padding = Padding { left: padding, right: padding, ..Padding::default() };
        self.push(Op::Conv2d { window: Window::new([1, k], stride, padding), kernel }, &[x])
    }

    /// A linear map of the channels at every position, stored as a one-dimensional convolution: weight `[out, C, 1]`.
    pub fn linear_row(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let inputs = self.dims(x)?.channels();
        let kernel = self.kernel(name, &[out, inputs, 1], true)?;
        self.push(Op::Linear(kernel), &[x])
    }

    /// Layer normalisation at each position, with factors and offsets `[C]`.
    pub fn layer_norm(&mut self, name: &str, x: ValueId, eps: f32) -> Result<ValueId> {
        let c = self.dims(x)?.channels();
        let weight = Some(self.param(&format!("{name}.weight"), &[c])?);
        let bias = Some(self.param(&format!("{name}.bias"), &[c])?);
        self.push(Op::ChannelNorm(ChannelNorm { kind: NormKind::Layer, groups: 1, eps, weight, bias }), &[x])
    }

    /// The same elements under other dimensions; see [`Op::Reshape`] for their order.
    pub fn reshape(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId> {
        let dims = Dims::new(dims).map_err(|e| e.context("reshape"))?;
        self.push(Op::Reshape { dims }, &[x])
    }

    /// The row of a table `[rows, dim]`, the parameter `name`, that the value t `[1]` names.
    pub fn embedding(&mut self, name: &str, t: ValueId, rows: usize, dim: usize) -> Result<ValueId> {
        let table = self.param(name, &[rows, dim])?;
        self.push(Op::Embedding { table }, &[t])
    }

    /// A matrix that is a value times a vector; see [`Op::MatVec`].
    pub fn mat_vec(&mut self, m: ValueId, v: ValueId) -> Result<ValueId> {
        self.push(Op::MatVec, &[m, v])
    }

    /// The graph. Errors: no output was named.
    pub fn finish(self) -> Result<Graph> {
        ensure!(!self.graph.outputs.is_empty(), InvalidArgument, "the network has no output");
        Ok(self.graph)
    }

    /// A node made so far.
    #[cfg(feature = "import")]
    pub(crate) fn node(&self, id: ValueId) -> Option<&Node> {
        self.graph.nodes.get(id.index())
    }

    /// A parameter made so far.
    #[cfg(feature = "import")]
    pub(crate) fn param_of(&self, id: ParamId) -> Option<&Param> {
        self.graph.params.get(id.index())
    }

    /// Whether an input of this role was made.
    #[cfg(feature = "import")]
    pub(crate) fn has_role(&self, role: Role) -> bool {
        self.graph.inputs.iter().any(|p| p.role == role)
    }

    /// A builder that starts with the parameters of `graph` and nothing else: what a rewriting pass fills again.
    pub(super) fn rewriting(graph: &Graph) -> Self {
        let mut names = BTreeMap::new();
        for (i, p) in graph.params.iter().enumerate() {
            names.insert(p.name.clone(), ParamId(i as u32));
        }
        Self { graph: Graph { params: graph.params.clone(), ..Graph::default() }, names }
    }
}
