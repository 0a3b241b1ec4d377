//! From a graph to steps: fuses it, lays values out as views of buffers, packs weights, plans the arena.
//!
//! The time of a buffer's life is counted in nodes: node i runs at time i + 1, inputs are there at time 0 and outputs
//! are read at the end.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::aligned::AlignedBuf;
use super::conv::{ConvShape, PackedConv};
use super::heap::Heap;
use super::isa::Isa;
use super::memory::{View, lines};
use super::packs::{Key, Packs};
use super::staging::{Staged, Staging};
use super::steps::Step;
use super::steps::activation::in_kernel;
use super::steps::attention::Attention;
use super::steps::attention_grad::AttentionGrad;
use super::steps::basis::{NearestRow, RadialBasis, RadialBasisGrad, Softmax, SoftmaxGrad};
use super::steps::conv::{Conv, Gather, MAX_SOURCES, Packed};
use super::steps::elementwise::{Elementwise, Map};
use super::steps::embed::{Embed, Kind};
use super::steps::grad::{ActivationGrad, SumPositions};
use super::steps::mat_vec::{MatVec, Outer, VecMat};
use super::steps::norm::GroupNormAffine;
use super::steps::resample::{Axis, Resample};
use super::steps::reshape::{ElementBias, Reshape};
use super::stored::WeightType;
use super::vmath;
use crate::backend::ParamSource;
use crate::error::{Result, err};
use crate::graph::plan::{ArenaPlan, Buffer, last_uses, plan};
use crate::graph::{
    Activation, FusedConv, FusedNormGrad, Graph, GroupNorm, Kernel, Node, Op, Padding, ParamId, ValueId, Window,
};

mod backward;
mod integer;
mod layout;
mod statistics;

use statistics::Statistics;

/// What kernels a network is compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub isa: Isa,
    pub weights: WeightType,
}

impl From<Isa> for Target {
    fn from(isa: Isa) -> Self {
        Self { isa, weights: WeightType::F32 }
    }
}

/// A compiled graph.
pub(super) struct Program {
    pub steps: Vec<Box<dyn Step>>,
    /// Where each input goes; `None` for one that nothing reads.
    pub inputs: Vec<Option<View>>,
    /// Where each output comes from.
    pub outputs: Vec<View>,
    pub arena: ArenaPlan,
    /// For each step, where the buffers that are alive while it runs end.
    pub ends: Vec<usize>,
}

/// Compiles `graph` for one path and type of weights, as it is: it should have been fused.
pub(super) fn compile(
    target: Target,
    heap: &Heap,
    packs: &Packs,
    graph: &Graph,
    source: &dyn ParamSource,
) -> Result<Program> {
    let mut c = Compiler::new(target, heap, packs, graph, source);
    for id in graph.ids() {
        let node = graph.node(id);
        c.now = id.index() + 1;
        let view = c.node(id, node).map_err(|e| e.context(node.op.name()))?;
        c.views.push(view);
    }
    let uses = graph.use_counts();
    let view = |id: ValueId| c.views.get(id.index()).copied().ok_or_else(|| err!(InvalidArgument, "an unknown value"));
    let mut inputs = Vec::new();
    for port in graph.inputs() {
        let used = uses.get(port.value.index()).is_some_and(|&n| n > 0);
        inputs.push(if used { Some(view(port.value)?) } else { None });
    }
    let outputs = graph.outputs().iter().map(|p| view(p.value)).collect::<Result<_>>()?;
    let arena = plan(&c.buffers);
    let ends = c.times.iter().map(|&time| {
        let alive = c.buffers.iter().zip(&arena.offsets).filter(|(b, _)| b.first <= time && time <= b.last);
        alive.map(|(b, offset)| offset + b.size).max().unwrap_or(0)
    });
    Ok(Program { inputs, outputs, ends: ends.collect(), arena, steps: c.steps })
}

/// Reads parameters one at a time. One that two operations use is read twice rather than kept.
struct Params<'a> {
    graph: &'a Graph,
    source: &'a dyn ParamSource,
    heap: &'a Heap,
    staging: Staging<'a>,
}

impl<'a> Params<'a> {
    fn len(&self, id: ParamId) -> usize {
        self.graph.param(id).dims.elements()
    }

    /// The values of a parameter, at the begin of `out`. Gives the rest.
    fn read<'b>(&self, id: ParamId, out: &'b mut [f32]) -> Result<&'b mut [f32]> {
        let param = self.graph.param(id);
        let split = out.split_at_mut_checked(param.dims.elements());
        let (values, rest) = split.ok_or_else(|| err!(Shape, "no room for parameter {}", param.name))?;
        self.source.read(&param.name, &param.dims, values)?;
        Ok(rest)
    }

    fn take(&self, id: ParamId) -> Result<AlignedBuf> {
        let name = || alloc::format!("parameter {}", self.graph.param(id).name);
        let mut values = self.heap.zeroed(self.len(id)).map_err(|e| e.context(name()))?;
        self.read(id, &mut values)?;
        Ok(values)
    }

    /// Several parameters, one after the other, to be packed.
    fn stacked(&self, ids: impl Iterator<Item = ParamId> + Clone) -> Result<Staged<'_, 'a>> {
        let len = ids.clone().try_fold(0usize, |sum, id| sum.checked_add(self.len(id)));
        let len = len.ok_or_else(|| err!(Shape, "the parameters are too large for this machine"))?;
        let mut values = self.staging.lend(len)?;
        let mut rest = &mut *values;
        for id in ids {
            rest = self.read(id, rest)?;
        }
        Ok(values)
    }
}

fn two(args: &[View]) -> Result<[View; 2]> {
    <[View; 2]>::try_from(args).map_err(|_| err!(InvalidArgument, "{} arguments, expected 2", args.len()))
}

struct Compiler<'a> {
    isa: Isa,
    weights: WeightType,
    graph: &'a Graph,
    params: Params<'a>,
    packs: &'a Packs,
    /// For each value, the last time it is read, by itself or through a slice.
    last_use: Vec<usize>,
    statistics: Statistics,
    /// Which values are kept as bf16.
    halves: Vec<bool>,
    views: Vec<View>,
    buffers: Vec<Buffer>,
    steps: Vec<Box<dyn Step>>,
    /// When each step runs.
    times: Vec<usize>,
    now: usize,
}

impl<'a> Compiler<'a> {
    fn new(target: Target, heap: &'a Heap, packs: &'a Packs, graph: &'a Graph, source: &'a dyn ParamSource) -> Self {
        Self {
            isa: target.isa,
            weights: target.weights,
            graph,
            params: Params { graph, source, heap, staging: Staging::new(heap, graph) },
            packs,
            last_use: last_uses(graph),
            statistics: Statistics::of(graph),
            halves: integer::halves(graph),
            views: Vec::new(),
            buffers: Vec::new(),
            steps: Vec::new(),
            times: Vec::new(),
            now: 0,
        }
    }

    fn buffer(&mut self, floats: usize, first: usize, last: usize) -> Result<usize> {
        self.buffers.push(Buffer { size: lines(floats)?, first, last: last.max(first) });
        Ok(self.buffers.len() - 1)
    }

    /// A buffer that only the step at this time uses.
    fn temporary(&mut self, floats: usize) -> Result<usize> {
        self.buffer(floats, self.now, self.now)
    }

    /// A new dense buffer for the value `id`.
    fn fresh(&mut self, id: ValueId) -> Result<View> {
        let dims = self.graph.dims(id);
        let buffer = self.buffer(dims.elements(), self.now, self.last_use[id.index()])?;
        Ok(View::dense(buffer, dims))
    }

    /// The buffer of `x` for the value `id`, if `x` is whole and nobody reads it later; else a new one.
    fn in_place(&mut self, x: View, id: ValueId) -> Result<View> {
        let whole = x.is_dense() && x.start == 0 && self.graph.dims(id).channels() == x.channels;
        match self.buffers.get_mut(x.buffer) {
            Some(b) if whole && b.last == self.now => {
                b.last = b.last.max(self.last_use[id.index()]);
                Ok(x)
            }
            _ => self.fresh(id),
        }
    }

    fn step(&mut self, step: impl Step + 'static) {
        self.times.push(self.now);
        self.steps.push(Box::new(step));
    }

    fn args(&self, node: &Node) -> Result<Vec<View>> {
        let known = |a: &ValueId| self.views.get(a.index()).copied();
        node.args.iter().map(known).collect::<Option<_>>().ok_or_else(|| err!(InvalidArgument, "an unknown argument"))
    }

    /// Makes the steps of a node and says where its value will be.
    fn node(&mut self, id: ValueId, node: &Node) -> Result<View> {
        let name = node.op.name();
        let mut args = self.args(node)?;
        if !self.reads_halves(&node.op) {
            for x in &mut args {
                *x = self.plain(*x)?;
            }
        }
        let x = args.first().copied();
        let x = move || x.ok_or_else(|| err!(InvalidArgument, "no argument"));
        match &node.op {
            Op::Input(_) => {
                let dims = node.ty.dims;
                let buffer = self.buffer(dims.elements(), 0, self.last_use[id.index()])?;
                Ok(View::dense(buffer, dims))
            }
            Op::Conv2d { window, kernel } if window.groups > 1 => self.grouped(name, id, window, kernel, x()?),
            Op::Conv2d { window, kernel } => {
                self.conv(name, id, &FusedConv::plain(*window, alloc::vec![*kernel]), &args)
            }
            Op::Linear(kernel) => self.conv(name, id, &FusedConv::plain(Window::POINT, alloc::vec![*kernel]), &args),
            Op::FusedConv(c) => self.conv(name, id, c, &args),
            Op::GroupNorm(norm) => {
                let x = x()?;
                let buffer = self.temporary(2 * x.channels)?;
                let ab = View {
                    buffer,
                    start: 0,
                    stride: 2 * x.channels,
                    channels: 2 * x.channels,
                    height: 1,
                    width: 1,
                    half: false,
                };
                self.norm(norm, node.args.get(..1), alloc::vec![x], None, ab)?;
                let out = self.in_place(x, id)?;
                self.step(Elementwise { name, x, out, map: Map::ApplyAffine { ab, activation: None } });
                Ok(out)
            }
            &Op::GroupNormAffine { ref norm, sources, modulated } => {
                let out = self.fresh(id)?;
                let modulation = match args.get(sources..) {
                    Some(&[m, s]) if modulated => Some([m, s]),
                    _ => None,
                };
                self.norm(
                    norm,
                    node.args.get(..sources),
                    args.get(..sources).unwrap_or(&[]).to_vec(),
                    modulation,
                    out,
                )?;
                Ok(out)
            }
            &Op::ApplyAffine { activation } => {
                let [x, ab] = two(&args)?;
                self.elementwise(name, id, x, Map::ApplyAffine { ab, activation })
            }
            &Op::Activation(f) => self.elementwise(name, id, x()?, Map::Activation(f)),
            &Op::Affine { scale, shift } => self.elementwise(name, id, x()?, Map::Affine { scale, shift }),
            &Op::Binary(op) => {
                let [a, b] = two(&args)?;
                let dims = |i: usize| node.args.get(i).map(|a| self.graph.dims(*a));
                let map = if dims(0) == dims(1) {
                    Map::Binary { op, y: b }
                } else if b.channels == 1 {
                    Map::Scalar { op, y: b }
                } else {
                    Map::Channel { op, y: b }
                };
                self.elementwise(name, id, a, map)
            }
            Op::Concat => {
                let out = self.fresh(id)?;
                self.concat(name, &args, out);
                Ok(out)
            }
            &Op::SliceChannels { start, len } => Ok(x()?.slice(start, len)),
            &Op::UpsampleNearest { factor } => self.resample(name, id, x()?, |_, to| Axis::repeat(to, factor)),
            &Op::AveragePool { factor } => self.resample(name, id, x()?, |_, to| Axis::mean(to, factor)),
            Op::Fir { taps, up, down, pad } => {
                self.resample(name, id, x()?, |from, to| Axis::fir(from, to, taps, *up, *down, pad[0]))
            }
            &Op::Attention { heads } => {
                let &[q, k, v] = args.as_slice() else { return Err(err!(InvalidArgument, "{} arguments", args.len())) };
                let out = self.fresh(id)?;
                self.step(Attention::new(self.isa, heads, q, k, v, out)?);
                Ok(out)
            }
            &Op::AttentionBf16 { heads } => self.attention_bf16(id, heads, &args),
            &Op::SinusoidalEmbedding { dim, flip_sin_to_cos, freq_shift, max_period } => {
                let half = dim / 2;
                let exponent = -libm::log(f64::from(max_period)) / (half as f64 - f64::from(freq_shift));
                let frequencies = (0..half).map(|i| libm::exp(exponent * i as f64)).collect();
                self.embed(name, id, x()?, Kind::Waves { frequencies, log: false, cosines_first: flip_sin_to_cos })
            }
            &Op::FourierEmbedding { weight, log, flip_sin_to_cos } => {
                let weight = self.params.take(weight)?;
                let frequencies = weight.iter().map(|w| f64::from(*w) * 2.0 * core::f64::consts::PI).collect();
                self.embed(name, id, x()?, Kind::Waves { frequencies, log, cosines_first: flip_sin_to_cos })
            }
            Op::Embedding { table } => {
                let table = self.params.take(*table)?;
                self.embed(name, id, x()?, Kind::Table { table: table.into() })
            }
            #[cfg(feature = "training")]
            Op::ParamGrad(_) => Err(err!(Unsupported, "this backend has no gradients by parameters")),
            Op::Reshape { .. } => {
                let (x, out) = (x()?, self.fresh(id)?);
                self.step(Reshape { x, out });
                Ok(out)
            }
            &Op::ElementBias { bias } => {
                let (x, bias) = (x()?, self.params.take(bias)?);
                let out = self.in_place(x, id)?;
                self.step(ElementBias::new(self.params.heap, x, out, &bias)?);
                Ok(out)
            }
            &Op::RadialBasis { centres, widths } => {
                let (x, out) = (x()?, self.fresh(id)?);
                let (centres, widths) = (self.params.take(centres)?.into(), self.params.take(widths)?.into());
                self.step(RadialBasis { x, out, centres, widths });
                Ok(out)
            }
            &Op::NearestRow { table } => {
                let (x, out) = (x()?, self.fresh(id)?);
                let table = self.params.take(table)?.into();
                self.step(NearestRow { x, out, table });
                Ok(out)
            }
            &Op::RadialBasisGrad { centres, widths } => {
                let [x, dy] = two(&args)?;
                let out = self.fresh(id)?;
                let (centres, widths) = (self.params.take(centres)?.into(), self.params.take(widths)?.into());
                self.step(RadialBasisGrad { x, dy, out, centres, widths });
                Ok(out)
            }
            Op::Softmax => {
                let (x, out) = (x()?, self.fresh(id)?);
                self.step(Softmax { x, out });
                Ok(out)
            }
            Op::SoftmaxGrad => {
                let ([y, dy], out) = (two(&args)?, self.fresh(id)?);
                self.step(SoftmaxGrad { y, dy, out });
                Ok(out)
            }
            &Op::TemporalBasis { steps, width, .. } => self.embed(name, id, x()?, Kind::Bumps { steps, width }),
            Op::MatVec => {
                let ([m, v], out) = (two(&args)?, self.fresh(id)?);
                self.step(MatVec { m, v, out });
                Ok(out)
            }
            Op::Outer => {
                let ([dy, v], out) = (two(&args)?, self.fresh(id)?);
                self.step(Outer { dy, v, out });
                Ok(out)
            }
            Op::VecMat => {
                let ([m, dy], out) = (two(&args)?, self.fresh(id)?);
                self.step(VecMat { m, dy, out });
                Ok(out)
            }
            &Op::ConvAdjoint { window, weight, .. } => self.conv_adjoint(name, id, x()?, &window, &[weight], None),
            Op::FusedConvAdjoint(c) => self.conv_adjoint(name, id, x()?, &c.window, &c.weights, args.get(1).copied()),
            Op::FusedNormGrad(n) => self.norm_grad(id, node, n, &args),
            &Op::ActivationGrad(f) => {
                let [x, dy] = two(&args)?;
                let out = self.fresh(id)?;
                self.step(ActivationGrad { x, dy, out, f });
                Ok(out)
            }
            Op::GroupNormGrad(norm) => {
                let plain =
                    FusedNormGrad { norm: *norm, sources: 1, modulated: false, activation: None, residual: false };
                self.norm_grad(id, node, &plain, &args)
            }
            &Op::AttentionGrad { heads, query_only } => {
                let all = <[View; 4]>::try_from(args.as_slice());
                let all = all.map_err(|_| err!(InvalidArgument, "{} arguments, expected 4", args.len()))?;
                let out = self.fresh(id)?;
                self.step(AttentionGrad::new(self.isa, heads, query_only, all, out)?);
                Ok(out)
            }
            &Op::PadChannels { before, after } => {
                let (x, out) = (x()?, self.fresh(id)?);
                for (start, len) in [(0, before), (before + x.channels, after)] {
                    if len > 0 {
                        let zeros = out.slice(start, len);
                        self.step(Elementwise { name, x: zeros, out: zeros, map: Map::Zero });
                    }
                }
                self.concat(name, &[x], out.slice(before, x.channels));
                Ok(out)
            }
            Op::SumPositions => {
                let (x, out) = (x()?, self.fresh(id)?);
                self.step(SumPositions { x, out });
                Ok(out)
            }
            _ => self.layout(id, node, &args),
        }
    }

    fn elementwise(&mut self, name: &'static str, id: ValueId, x: View, map: Map) -> Result<View> {
        let out = self.in_place(x, id)?;
        self.step(Elementwise { name, x, out, map });
        Ok(out)
    }

    fn embed(&mut self, name: &'static str, id: ValueId, x: View, kind: Kind) -> Result<View> {
        let out = self.fresh(id)?;
        self.step(Embed { name, x, out, kind });
        Ok(out)
    }

    fn resample(
        &mut self,
        name: &'static str,
        id: ValueId,
        x: View,
        axis: impl Fn(usize, usize) -> Axis,
    ) -> Result<View> {
        let out = self.fresh(id)?;
        let (rows, columns) = (axis(x.height, out.height), axis(x.width, out.width));
        self.step(Resample { name, x, out, rows, columns });
        Ok(out)
    }

    fn concat(&mut self, name: &'static str, parts: &[View], out: View) {
        let mut start = 0;
        for &x in parts {
            let out = out.slice(start, x.channels);
            self.step(Elementwise { name, x, out, map: Map::Copy });
            start += x.channels;
        }
    }

    fn norm(
        &mut self,
        norm: &GroupNorm,
        of: Option<&[ValueId]>,
        sources: Vec<View>,
        modulation: Option<[View; 2]>,
        out: View,
    ) -> Result<()> {
        let (weight, bias) = (self.params.take(norm.weight)?.into(), self.params.take(norm.bias)?.into());
        let sources = sources.into();
        let statistics = self.statistics.keep(norm, of.unwrap_or(&[]), self.now, &mut self.buffers)?;
        let (groups, eps) = (norm.groups, norm.eps);
        self.step(GroupNormAffine { sources, modulation, out, groups, eps, weight, bias, statistics });
        Ok(())
    }

    /// All kernels of a fused convolution stacked: weights `[out, in, kh, kw]` and, if any has one, bias `[out]`.
    fn kernels(&self, kernels: &[Kernel]) -> Result<(Staged<'_, 'a>, Option<AlignedBuf>)> {
        let weights = self.params.stacked(kernels.iter().map(|k| k.weight))?;
        if kernels.iter().all(|k| k.bias.is_none()) {
            return Ok((weights, None));
        }
        let out_channels = |k: &Kernel| self.graph.param(k.weight).dims.channels();
        let mut bias = self.params.heap.zeroed(kernels.iter().map(out_channels).sum())?;
        let mut rest = &mut *bias;
        for k in kernels {
            rest = match k.bias {
                Some(b) => self.params.read(b, rest)?,
                None => rest.get_mut(out_channels(k)..).unwrap_or(&mut []),
            };
        }
        Ok((weights, Some(bias)))
    }

    /// Output channels of the smallest of these layers.
    fn outs(&self, weights: impl Iterator<Item = ParamId>) -> usize {
        weights.map(|id| self.graph.param(id).dims.channels()).min().unwrap_or(0)
    }

    /// The arguments of a fused convolution joined to at most `most` sources.
    fn joined(&mut self, mut sources: Vec<View>, most: usize) -> Result<Vec<View>> {
        if sources.len() <= most {
            return Ok(sources);
        }
        let rest = sources.split_off(most - 1);
        let channels = rest.iter().map(|v| v.channels).sum();
        let first = rest.first().copied().ok_or_else(|| err!(InvalidArgument, "no sources"))?;
        let out = View { start: 0, stride: channels, channels, ..first };
        let buffer = self.temporary(out.positions().saturating_mul(channels))?;
        let out = View { buffer, ..out };
        self.concat("concat", &rest, out);
        sources.push(out);
        Ok(sources)
    }

    fn conv(&mut self, name: &'static str, id: ValueId, c: &FusedConv, args: &[View]) -> Result<View> {
        if let Some(input) = self.integers(c) {
            return self.integer_conv(name, id, c, input, args);
        }
        let (pro, epi) = (&c.prologue, &c.epilogue);
        let mut rest = args.get(pro.sources..).unwrap_or(&[]).iter().copied();
        let affine = pro.affine.then(|| rest.next()).flatten();
        let channel = epi.channel.then(|| rest.next()).flatten();
        let residual = epi.residual.then(|| rest.next()).flatten();
        let mut sources = self.joined(args.get(..pro.sources).unwrap_or(&[]).to_vec(), MAX_SOURCES)?;
        let (mut affine, mut before) = (affine, in_kernel(pro.activation));
        if before.is_none() {
            // An activation that the gather has not: a step of its own.
            let joined = self.joined(sources, 1)?;
            let x = *joined.first().ok_or_else(|| err!(InvalidArgument, "no sources"))?;
            let buffer = self.temporary(x.positions().saturating_mul(x.channels))?;
            let out = View { buffer, start: 0, stride: x.channels, ..x };
            let map = match (affine.take(), pro.activation) {
                (Some(ab), activation) => Map::ApplyAffine { ab, activation },
                (None, Some(f)) => Map::Activation(f),
                (None, None) => Map::Copy,
            };
            self.step(Elementwise { name: "activation", x, out, map });
            (sources, before) = (alloc::vec![out], Some(vmath::Activation::Identity));
        }
        let before = before.unwrap_or(vmath::Activation::Identity);
        let first = *sources.first().ok_or_else(|| err!(InvalidArgument, "no sources"))?;
        let in_channels = sources.iter().map(|v| v.channels).sum();
        let padding = c.window.padding;
        let shape = ConvShape {
            height: first.height * pro.upsample,
            width: first.width * pro.upsample,
            in_channels,
            out_channels: self.graph.dims(id).channels(),
            kernel: c.window.kernel,
            stride: [c.window.stride; 2],
            padding,
            dilation: c.window.dilation,
        };
        let taps = c.window.kernel[0] * c.window.kernel[1];
        let param = |id: ParamId| self.graph.param(id).name.clone();
        let names = c.kernels.iter().map(|k| (param(k.weight), k.bias.map(param))).collect();
        let bf16 = self.bf16(c);
        let (weights, owner) = self.packs.get(Key { names, turned: false, shape, bf16 }, || {
            let (weights, bias) = self.kernels(&c.kernels)?;
            let kind = self.weights.of_layer(self.outs(c.kernels.iter().map(|k| k.weight)), in_channels * taps);
            let name = || c.kernels.first().map_or_else(Default::default, |k| param(k.weight));
            let (heap, isa, bias) = (self.params.heap, self.isa, bias.as_deref());
            let packed = if bf16 {
                PackedConv::in_bf16(heap, isa, shape, &weights, bias)
            } else {
                PackedConv::in_heap(heap, isa, kind, shape, &weights, bias)
            };
            packed.map_err(|e| e.context(name()))
        })?;
        let plain = affine.is_none()
            && before == vmath::Activation::Identity
            && pro.upsample == 1
            && c.window.padding == Padding::default()
            && (sources.len() == 1 || (sources.len() == 2 && c.window.kernel == [1, 1]))
            && sources.iter().all(View::is_dense);
        let gather =
            if plain { None } else { Some(Gather { affine, activation: before, upsample: pro.upsample, padding }) };
        let out = self.made(id, false)?;
        let (activation, after) = match in_kernel(epi.activation) {
            Some(f) => (f, None),
            None => (vmath::Activation::Identity, epi.activation),
        };
        let (sources, weights) = (sources.into(), Packed::Shared(weights));
        let conv = Conv { name, sources, gather, weights, owner, channel, residual, scale: epi.scale, activation, out };
        self.step(conv);
        if let Some(f) = after {
            self.after(out, f);
        }
        self.kept(id, out)
    }

    /// An activation that the kernels have not, in place.
    fn after(&mut self, out: View, f: Activation) {
        self.step(Elementwise { name: "activation", x: out, out, map: Map::Activation(f) });
    }
}
