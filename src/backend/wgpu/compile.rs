//! From a graph to launches: lays values out as views of buffers, lists the weights, plans the arena. Nothing here
//! touches a device or reads a weight.
//!
//! The time of a buffer's life is counted in nodes: node i runs at time i + 1, inputs are there at time 0 and outputs
//! are read at the end.

use alloc::vec::Vec;

use super::Precision;
use super::host::{HostValue, Recipe, Scalar};
use super::kernels::elementwise::{self, Map, Spread};
use super::kernels::fir::{self, Filter};
use super::kernels::grad::NormGrad;
use super::kernels::rows::RowOp;
use super::kernels::{Launch, attention, grad, norm, rows};
use super::memory::{Buffers, View, image, padded};
use super::weights::{Entry, Pack};
use crate::error::{Result, err};
use crate::graph::plan::ArenaPlan;
use crate::graph::{FusedConv, FusedNormGrad, Graph, GroupNorm, Node, Op, ParamId, ValueId, Window};
use crate::tensor::DType;

mod conv;
mod halves;
mod layout;

pub(super) use halves::{Halves, scale};

/// Where an uploaded value comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// The network's input of this number.
    Input(usize),
    /// The host computes it.
    Host(HostValue),
}

/// A compiled graph.
#[derive(Debug)]
pub(super) struct Program {
    pub launches: Vec<Launch>,
    /// Values that each call uploads. Inputs that no kernel reads are not among them.
    pub uploads: Vec<(Origin, View)>,
    /// Where each output comes from: f32 on whole rows of its own buffer.
    pub outputs: Vec<View>,
    pub arena: ArenaPlan,
    /// Bytes of each buffer for a sample.
    pub sizes: Vec<usize>,
    pub weights: Vec<Entry>,
    pub halves: Halves,
}

/// Compiles `graph` as it is: it should have been fused.
pub(super) fn compile(graph: &Graph, precision: Precision) -> Result<Program> {
    let mut c = Compiler::new(graph, Halves::of(graph, precision));
    for id in graph.ids() {
        let node = graph.node(id);
        c.now = id.index() + 1;
        let value = c.node(id, node).map_err(|e| e.context(node.op.name()))?;
        c.values.push(value);
    }
    c.now = graph.nodes().len() + 1;
    let outputs = graph.outputs().iter().map(|p| c.output(p.value)).collect::<Result<Vec<_>>>()?;
    let arena = c.buffers.plan();
    Ok(Program {
        launches: c.launches,
        uploads: c.uploads,
        outputs,
        arena,
        sizes: c.buffers.0.iter().map(|b| b.size).collect(),
        weights: c.weights,
        halves: c.halves,
    })
}

/// What a value of the graph became.
#[derive(Clone, Debug)]
enum Value {
    /// It lies on the device.
    Device(View),
    /// The host knows it; it is uploaded when a kernel asks for it.
    Host(Scalar),
}

struct Compiler<'a> {
    graph: &'a Graph,
    halves: Halves,
    /// For each value, the last time it is read, by itself or through a slice.
    last_use: Vec<usize>,
    values: Vec<Value>,
    buffers: Buffers,
    launches: Vec<Launch>,
    uploads: Vec<(Origin, View)>,
    weights: Vec<Entry>,
    now: usize,
}

impl<'a> Compiler<'a> {
    fn new(graph: &'a Graph, halves: Halves) -> Self {
        let mut last_use = alloc::vec![0; graph.nodes().len()];
        for port in graph.outputs() {
            last_use[port.value.index()] = graph.nodes().len() + 1;
        }
        for id in graph.ids().rev() {
            let node = graph.node(id);
            // A slice may be no copy, so reading it is reading what it is of.
            let time = match node.op {
                Op::SliceChannels { .. } => last_use[id.index()].max(id.index() + 1),
                _ => id.index() + 1,
            };
            for a in &node.args {
                last_use[a.index()] = last_use[a.index()].max(time);
            }
        }
        Self {
            graph,
            halves,
            last_use,
            values: Vec::new(),
            buffers: Buffers::default(),
            launches: Vec::new(),
            uploads: Vec::new(),
            weights: Vec::new(),
            now: 0,
        }
    }

    /// How a value is kept: half precision only where there are positions and the host does not see it.
    fn dtype(&self, id: ValueId) -> DType {
        let visible = self.graph.outputs().iter().any(|p| p.value == id);
        match self.halves.has(id.index()) && self.graph.dims(id).rank() > 1 && !visible {
            true => DType::F16,
            false => DType::F32,
        }
    }

    /// A new buffer for the value `id`.
    fn fresh(&mut self, id: ValueId) -> Result<View> {
        let (dims, dtype) = (image(self.graph.dims(id)), self.dtype(id));
        self.buffers.add(dims, dtype, self.now, self.last_use[id.index()])
    }

    /// A buffer that only this node uses.
    fn temporary(&mut self, dims: [usize; 3], dtype: DType) -> Result<View> {
        self.buffers.add(dims, dtype, self.now, self.now)
    }

    fn weight(&mut self, pack: Pack, dtype: DType) -> Result<usize> {
        self.weights.push(Entry::new(pack, self.graph, dtype)?);
        Ok(self.weights.len() - 1)
    }

    fn view(&mut self, id: ValueId) -> Result<View> {
        let unknown = || err!(InvalidArgument, "an unknown value");
        match self.values.get(id.index()).ok_or_else(unknown)?.clone() {
            Value::Device(view) => Ok(view),
            Value::Host(of) => {
                let view = self.buffers.add([1, 1, 1], DType::F32, 0, self.last_use[id.index()])?;
                let from = match of.affine.as_slice() {
                    [] if of.len == 1 => Origin::Input(of.input),
                    _ => Origin::Host(HostValue { of, recipe: Recipe::Number, len: 1, data: Vec::new() }),
                };
                self.uploads.push((from, view));
                *self.values.get_mut(id.index()).ok_or_else(unknown)? = Value::Device(view);
                Ok(view)
            }
        }
    }

    fn views(&mut self, node: &Node) -> Result<Vec<View>> {
        node.args.iter().map(|&a| self.view(a)).collect()
    }

    fn exactly<const N: usize>(&mut self, node: &Node) -> Result<[View; N]> {
        let views = self.views(node)?;
        <[View; N]>::try_from(views.as_slice())
            .map_err(|_| err!(InvalidArgument, "{} arguments, expected {N}", views.len()))
    }

    /// A view of its own of an output, as f32 on whole rows.
    fn output(&mut self, id: ValueId) -> Result<View> {
        let x = self.view(id)?;
        if x.start == 0 && x.dtype == DType::F32 && x.stride == padded(x.channels)? {
            return Ok(x);
        }
        let out = self.temporary([x.channels, x.height, x.width], DType::F32)?;
        self.push(elementwise::launch("output", x, Map::COPY, out)?);
        Ok(out)
    }

    fn push(&mut self, launch: Launch) {
        self.launches.push(launch);
    }

    /// What the host knows of a value, if it does.
    fn scalar(&self, node: &Node) -> Option<Scalar> {
        let a = node.args.first()?;
        let of = self.graph.node(*a);
        // One of the values of an input, as of several numbers that are embedded each by itself.
        if let (Op::SliceChannels { start, len: 1 }, Some(&x)) = (&of.op, of.args.first())
            && let (Op::Input(slot), dims) = (&self.graph.node(x).op, self.graph.dims(x))
            && dims.rank() == 1
        {
            return Some(Scalar { input: slot.index(), index: *start, len: dims.elements(), affine: Vec::new() });
        }
        // An argument that some kernel asked for is known all the same.
        match self.values.get(a.index())? {
            Value::Host(s) => Some(s.clone()),
            Value::Device(view) => {
                self.uploads.iter().find(|(_, v)| v.buffer == view.buffer).and_then(|(from, _)| match from {
                    Origin::Input(input) if self.graph.dims(*a).elements() == 1 => Some(Scalar::input(*input)),
                    Origin::Host(h) if matches!(h.recipe, Recipe::Number) => Some(h.of.clone()),
                    _ => None,
                })
            }
        }
    }

    /// Makes the launches of a node and says where its value will be.
    fn node(&mut self, id: ValueId, node: &Node) -> Result<Value> {
        let name = node.op.name();
        let out = match &node.op {
            Op::Input(slot) => {
                if node.ty.dims.elements() == 1 {
                    return Ok(Value::Host(Scalar::input(slot.index())));
                }
                let view = self.buffers.add(image(node.ty.dims), DType::F32, 0, self.last_use[id.index()])?;
                if self.last_use[id.index()] > 0 {
                    self.uploads.push((Origin::Input(slot.index()), view));
                }
                view
            }
            Op::SinusoidalEmbedding { .. }
            | Op::FourierEmbedding { .. }
            | Op::Embedding { .. }
            | Op::OneHot { .. }
            | Op::TemporalBasis { .. } => {
                let of = self.scalar(node);
                let of =
                    of.ok_or_else(|| err!(Unsupported, "its argument is no input of the network, which wgpu needs"))?;
                let host = HostValue::new(&node.op, of, node.ty.dims.elements())?;
                let view = self.buffers.add(image(node.ty.dims), DType::F32, 0, self.last_use[id.index()])?;
                self.uploads.push((Origin::Host(host), view));
                view
            }
            Op::Conv2d { window, kernel } => {
                let args = self.views(node)?;
                self.conv(name, id, &FusedConv::plain(*window, alloc::vec![*kernel]), &args)?
            }
            Op::Linear(kernel) => {
                let args = self.views(node)?;
                self.conv(name, id, &FusedConv::plain(Window::POINT, alloc::vec![*kernel]), &args)?
            }
            Op::FusedConv(c) => {
                let args = self.views(node)?;
                self.conv(name, id, c, &args)?
            }
            &Op::ConvAdjoint { window, weight, .. } => {
                let [x] = self.exactly(node)?;
                self.conv_adjoint(name, id, x, &window, alloc::vec![weight], None)?
            }
            Op::FusedConvAdjoint(c) => {
                let args = self.views(node)?;
                let x = *args.first().ok_or_else(|| err!(InvalidArgument, "no argument"))?;
                let residual = args.get(1).copied().filter(|_| c.residual);
                self.conv_adjoint(name, id, x, &c.window, c.weights.clone(), residual)?
            }
            Op::GroupNorm(n) => {
                let [x] = self.exactly(node)?;
                let ab = self.temporary([2 * x.channels, 1, 1], DType::F32)?;
                self.norm(name, n, alloc::vec![x], None, ab)?;
                self.map(name, id, x, Map::ApplyAffine(ab, None))?
            }
            &Op::GroupNormAffine { norm: ref n, sources, modulated } => {
                let args = self.views(node)?;
                let out = self.fresh(id)?;
                let modulation = match args.get(sources..) {
                    Some(&[m, s]) if modulated => Some([m, s]),
                    _ => None,
                };
                self.norm(name, n, args.get(..sources).unwrap_or(&[]).to_vec(), modulation, out)?;
                out
            }
            &Op::ApplyAffine { activation } => {
                let [x, ab] = self.exactly(node)?;
                self.map(name, id, x, Map::ApplyAffine(ab, activation))?
            }
            &Op::Activation(f) => {
                let [x] = self.exactly(node)?;
                self.map(name, id, x, Map::Activation(f))?
            }
            &Op::Affine { scale, shift } => {
                if let Some(mut of) = self.scalar(node) {
                    of.affine.push([scale.into(), shift.into()]);
                    return Ok(Value::Host(of));
                }
                let [x] = self.exactly(node)?;
                self.map(name, id, x, Map::Affine { scale, shift })?
            }
            &Op::Binary(op) => {
                let [x, y] = self.exactly(node)?;
                let dims = |i: usize| node.args.get(i).map(|a| self.graph.dims(*a));
                let spread = if dims(0) == dims(1) {
                    Spread::Whole
                } else if y.channels == 1 {
                    Spread::Scalar
                } else {
                    Spread::Channel
                };
                self.map(name, id, x, Map::Binary(op, y, spread))?
            }
            &Op::ActivationGrad(f) => {
                let [x, dy] = self.exactly(node)?;
                self.map(name, id, x, Map::Gradient(dy, f))?
            }
            Op::Concat => {
                let parts = self.views(node)?;
                let out = self.fresh(id)?;
                self.concat(name, &parts, out)?;
                out
            }
            &Op::SliceChannels { start, len } => {
                let [x] = self.exactly(node)?;
                x.slice(start, len)
            }
            &Op::PadChannels { before, .. } => {
                let [x] = self.exactly(node)?;
                self.map(name, id, x, Map::Pad { before })?
            }
            &Op::UpsampleNearest { factor } => {
                let [x] = self.exactly(node)?;
                self.filter(name, id, x, Filter::repeat(factor))?
            }
            &Op::AveragePool { factor } => {
                let [x] = self.exactly(node)?;
                self.filter(name, id, x, Filter::mean(factor))?
            }
            &Op::Fir { ref taps, up, down, pad } => {
                let [x] = self.exactly(node)?;
                self.filter(name, id, x, Filter { taps: taps.clone(), up, down, before: pad[0] })?
            }
            &Op::Attention { heads } => {
                let qkv = self.exactly(node)?;
                let out = self.fresh(id)?;
                self.push(attention::launch(name, heads, qkv, out)?);
                out
            }
            Op::GroupNormGrad(n) => {
                let args = self.views(node)?;
                let plain = FusedNormGrad { norm: *n, sources: 1, modulated: false, activation: None, residual: false };
                self.norm_grad(name, id, &plain, &args)?
            }
            Op::FusedNormGrad(n) => {
                let args = self.views(node)?;
                self.norm_grad(name, id, n, &args)?
            }
            Op::Reshape { .. } => self.rows(name, id, node, RowOp::Reshape, [None, None])?,
            Op::Softmax => self.rows(name, id, node, RowOp::Softmax, [None, None])?,
            Op::SoftmaxGrad => self.rows(name, id, node, RowOp::SoftmaxGrad, [None, None])?,
            Op::MatVec => self.rows(name, id, node, RowOp::MatVec, [None, None])?,
            Op::Outer => self.rows(name, id, node, RowOp::Outer, [None, None])?,
            Op::VecMat => self.rows(name, id, node, RowOp::VecMat, [None, None])?,
            &Op::ElementBias { bias } => {
                let bias = self.weight(Pack::ChannelsLast(bias, node.ty.dims), DType::F32)?;
                self.rows(name, id, node, RowOp::ElementBias, [Some(bias), None])?
            }
            &Op::RadialBasis { centres, widths } => {
                let weights = self.bumps(centres, widths)?;
                self.rows(name, id, node, RowOp::RadialBasis, weights)?
            }
            &Op::RadialBasisGrad { centres, widths } => {
                let weights = self.bumps(centres, widths)?;
                self.rows(name, id, node, RowOp::RadialBasisGrad, weights)?
            }
            #[cfg(feature = "training")]
            Op::ParamGrad(_) => return Err(err!(Unsupported, "gradients by parameters run on the cpu only")),
            Op::SumPositions => {
                let [x] = self.exactly(node)?;
                let out = self.fresh(id)?;
                self.push(grad::sum_positions(name, x, out)?);
                out
            }
            &Op::AttentionGrad { heads, query_only } => {
                let all: [View; 4] = self.exactly(node)?;
                let out = self.fresh(id)?;
                let [q, ..] = all;
                let stats = self.temporary([2 * heads, q.height, q.width], DType::F32)?;
                for launch in grad::attention(name, heads, query_only, all, stats, out)? {
                    self.push(launch);
                }
                out
            }
            _ => self.layout(name, id, node)?,
        };
        Ok(Value::Device(out))
    }

    fn map(&mut self, name: &'static str, id: ValueId, x: View, map: Map) -> Result<View> {
        let out = self.fresh(id)?;
        self.push(elementwise::launch(name, x, map, out)?);
        Ok(out)
    }

    fn filter(&mut self, name: &'static str, id: ValueId, x: View, filter: Filter) -> Result<View> {
        let out = self.fresh(id)?;
        let taps = self.weight(Pack::Values(filter.taps.clone()), DType::F32)?;
        self.push(fir::launch(name, x, &filter, taps, out)?);
        Ok(out)
    }

    fn concat(&mut self, name: &'static str, parts: &[View], out: View) -> Result<()> {
        let mut start = 0;
        for &x in parts {
            self.push(elementwise::launch(name, x, Map::COPY, out.slice(start, x.channels))?);
            start += x.channels;
        }
        Ok(())
    }

    fn norm(
        &mut self,
        name: &'static str,
        n: &GroupNorm,
        sources: Vec<View>,
        modulation: Option<[View; 2]>,
        out: View,
    ) -> Result<()> {
        let sources = self.joined(sources, 2)?;
        let weight = self.weight(Pack::Plain(alloc::vec![n.weight]), DType::F32)?;
        let bias = self.weight(Pack::Plain(alloc::vec![n.bias]), DType::F32)?;
        self.push(norm::launch(name, n, &sources, modulation, [weight, bias], out)?);
        Ok(())
    }

    fn norm_grad(&mut self, name: &'static str, id: ValueId, n: &FusedNormGrad, args: &[View]) -> Result<View> {
        let mut rest = args.get(n.sources..).unwrap_or(&[]).iter().copied();
        let modulation = match n.modulated {
            true => rest.next().zip(rest.next()).map(|(m, s)| [m, s]),
            false => None,
        };
        let dy = rest.next().ok_or_else(|| err!(InvalidArgument, "no gradient"))?;
        let residual = rest.next().filter(|_| n.residual);
        let sources = self.joined(args.get(..n.sources).unwrap_or(&[]).to_vec(), 2)?;
        let out = self.fresh(id)?;
        let weight = self.weight(Pack::Plain(alloc::vec![n.norm.weight, n.norm.bias]), DType::F32)?;
        let grad = NormGrad { sources, modulation, activation: n.activation, dy, residual, weight, out };
        self.push(grad::norm(name, &n.norm, &grad)?);
        Ok(out)
    }

    /// Centres and widths.
    fn bumps(&mut self, centres: ParamId, widths: ParamId) -> Result<[Option<usize>; 2]> {
        let centres = self.weight(Pack::Plain(alloc::vec![centres]), DType::F32)?;
        Ok([Some(centres), Some(self.weight(Pack::Plain(alloc::vec![widths]), DType::F32)?)])
    }

    fn rows(
        &mut self,
        name: &'static str,
        id: ValueId,
        node: &Node,
        what: RowOp,
        weights: [Option<usize>; 2],
    ) -> Result<View> {
        let args = self.views(node)?;
        let x = *args.first().ok_or_else(|| err!(InvalidArgument, "no argument"))?;
        let out = self.fresh(id)?;
        self.push(rows::launch(name, what, x, args.get(1).copied(), weights, out)?);
        Ok(out)
    }

    /// At most `most` views that hold what `sources` joined along channels hold.
    fn joined(&mut self, mut sources: Vec<View>, most: usize) -> Result<Vec<View>> {
        if sources.len() <= most {
            return Ok(sources);
        }
        let rest = sources.split_off(most - 1);
        let first = *rest.first().ok_or_else(|| err!(InvalidArgument, "no sources"))?;
        let channels = rest.iter().map(|v| v.channels).sum();
        let dtype = match rest.iter().all(|v| v.dtype == DType::F16) {
            true => DType::F16,
            false => DType::F32,
        };
        let out = self.temporary([channels, first.height, first.width], dtype)?;
        self.concat("concat", &rest, out)?;
        sources.push(out);
        Ok(sources)
    }

    /// The view itself if it begins on a quad, else a copy that does.
    fn on_quad(&mut self, x: View) -> Result<View> {
        if x.on_quad() {
            return Ok(x);
        }
        let out = self.temporary([x.channels, x.height, x.width], x.dtype)?;
        self.push(elementwise::launch("copy", x, Map::COPY, out)?);
        Ok(out)
    }
}
