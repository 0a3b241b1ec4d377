//! The steps of what moves values about, of norms at a position, of pooling, of linear attention and of grouped
//! convolutions.

use super::super::aligned::Floats;
use super::super::conv::{ConvShape, PackedConv};
use super::super::memory::View;
use super::super::packs::Key;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
use super::super::steps::attention_tiles::AttentionTiles;
use super::super::steps::channel_norm::ChannelNorm;
use super::super::steps::channel_norm_grad::ChannelNormGrad;
use super::super::steps::conv::{Conv, Gather, Packed};
use super::super::steps::embed::Kind;
use super::super::steps::fallback::Fallback;
use super::super::steps::linear_attention::{LinearAttention, LinearAttentionGrad};
use super::super::steps::max_pool::{MaxPool, MaxPoolGrad};
use super::super::steps::resample::{Axis, Resample};
use super::super::steps::rows::{Constant, CopyRows, Order, Rearrange};
use super::super::stored::WeightType;
use super::super::vmath;
use super::{Compiler, two};
use crate::error::{Result, err};
use crate::graph::{Kernel, Node, Op, Padding, ParamId, ValueId, Window};

/// Input channels that groups are put together to, so that a narrow group fills a vector: the filters between groups
/// are zeros.
pub(super) const TOGETHER: usize = 16;

/// Element `i` of [`PositionEmbedding`](Op::PositionEmbedding).
fn position([dim, height, width]: [usize; 3], scale: f64, i: usize) -> f64 {
    let (quarter, positions) = ((dim / 4).max(1), (height * width).max(1));
    let (channel, place) = (i / positions, i % positions);
    let at = if channel < 2 * quarter { place % width } else { place / width };
    let angle = at as f64 * scale * libm::pow(10_000.0, -((channel % quarter) as f64) / quarter as f64);
    if channel / quarter % 2 == 0 { libm::sin(angle) } else { libm::cos(angle) }
}

impl Compiler<'_> {
    pub(super) fn layout(&mut self, id: ValueId, node: &Node, args: &[View]) -> Result<View> {
        let name = node.op.name();
        let x = args.first().copied();
        let x = move || x.ok_or_else(|| err!(InvalidArgument, "no argument"));
        match node.op {
            Op::Parameter { param, .. } => {
                let (values, out) = (self.params.take(param)?, self.fresh(id)?);
                self.step(Constant::new(self.params.heap, name, &values, out)?);
                Ok(out)
            }
            Op::PositionEmbedding { dims, scale } => {
                let out = self.fresh(id)?;
                let mut values = self.params.heap.zeroed(out.channels * out.positions())?;
                values.iter_mut().enumerate().for_each(|(i, v)| *v = position(dims, scale, i) as f32);
                self.step(Constant::new(self.params.heap, name, &values, out)?);
                Ok(out)
            }
            Op::OneHot { .. } => self.embed(name, id, x()?, Kind::OneHot),
            Op::ChannelNorm(n) => {
                let (x, out) = (x()?, self.fresh(id)?);
                let whole = |p: Option<ParamId>| p.map(|p| self.params.take(p).map(Floats::from)).transpose();
                let (weight, bias) = (whole(n.weight)?, whole(n.bias)?);
                self.step(ChannelNorm { x, out, kind: n.kind, groups: n.groups, eps: n.eps, weight, bias });
                Ok(out)
            }
            Op::ChannelNormGrad(n) => {
                let [x, dy] = two(args)?;
                let weight = n.weight.map(|p| self.params.take(p).map(Floats::from)).transpose()?;
                let out = self.fresh(id)?;
                self.step(ChannelNormGrad { x, dy, out, kind: n.kind, groups: n.groups, eps: n.eps, weight });
                Ok(out)
            }
            Op::MaxPool(window) => {
                let (x, out) = (x()?, self.fresh(id)?);
                self.step(MaxPool { window, x, out });
                Ok(out)
            }
            Op::MaxPoolGrad(window) => {
                let ([x, dy], out) = (two(args)?, self.fresh(id)?);
                self.step(MaxPoolGrad { window, x, dy, out });
                Ok(out)
            }
            Op::DepthToSpace { factor, blocks_first } => {
                let (x, out) = (x()?, self.fresh(id)?);
                self.step(Rearrange { name, x, out, order: Order::ToSpace { factor, blocks_first } });
                Ok(out)
            }
            Op::SpaceToDepth { factor, blocks_first } => {
                let (x, out) = (x()?, self.fresh(id)?);
                self.step(Rearrange { name, x, out, order: Order::ToDepth { factor, blocks_first } });
                Ok(out)
            }
            Op::ReflectPad(p) => {
                let (x, out) = (x()?, self.fresh(id)?);
                let rows = Axis::reflect(x.height, out.height, p.top);
                let columns = Axis::reflect(x.width, out.width, p.left);
                self.step(Resample { name, x, out, rows, columns });
                Ok(out)
            }
            Op::ReflectPadAdjoint(p) => {
                let (x, out) = (x()?, self.fresh(id)?);
                let rows = Axis::reflected(x.height, out.height, p.top);
                let columns = Axis::reflected(x.width, out.width, p.left);
                self.step(Resample { name, x, out, rows, columns });
                Ok(out)
            }
            Op::ShuffleChannels { rows, columns } => {
                let (x, out) = (x()?, self.fresh(id)?);
                self.step(Rearrange { name, x, out, order: Order::Shuffle { rows, columns } });
                Ok(out)
            }
            Op::ConcatPositions => {
                let out = self.fresh(id)?;
                let mut to = 0;
                for &x in args {
                    self.step(CopyRows { name, x, out, from: 0, to, count: x.positions(), pad: false });
                    to += x.positions();
                }
                Ok(out)
            }
            Op::SlicePositions { start, len } => {
                let (x, out) = (x()?, self.fresh(id)?);
                self.step(CopyRows { name, x, out, from: start, to: 0, count: len, pad: false });
                Ok(out)
            }
            Op::PadPositions { before, .. } => {
                let (x, out) = (x()?, self.fresh(id)?);
                self.step(CopyRows { name, x, out, from: 0, to: before, count: x.positions(), pad: true });
                Ok(out)
            }
            Op::LinearAttention { heads } => {
                let &[q, k, v] = args else { return Err(err!(InvalidArgument, "{} arguments", args.len())) };
                let out = self.fresh(id)?;
                self.step(LinearAttention { heads, q, k, v, out });
                Ok(out)
            }
            Op::LinearAttentionGrad { heads } => {
                let &[q, k, v, dy] = args else { return Err(err!(InvalidArgument, "{} arguments", args.len())) };
                let out = self.fresh(id)?;
                self.step(LinearAttentionGrad { heads, q, k, v, dy, out });
                Ok(out)
            }
            _ => self.fallback(id, args),
        }
    }

    /// Attention by tiles; elsewhere by the reference's loops, as no backend without tiles asks for it.
    pub(super) fn attention_bf16(&mut self, id: ValueId, heads: usize, args: &[View]) -> Result<View> {
        #[cfg(all(target_arch = "x86_64", feature = "std"))]
        if let (&[q, k, v], true) = (args, self.isa.permits_tiles()) {
            let out = self.fresh(id)?;
            self.step(AttentionTiles::new(heads, q, k, v, out)?);
            return Ok(out);
        }
        let _ = heads;
        self.fallback(id, args)
    }

    /// An operation without a kernel, by the loops of the reference.
    pub(super) fn fallback(&mut self, id: ValueId, args: &[View]) -> Result<View> {
        let out = self.fresh(id)?;
        self.step(Fallback::new(self.graph, id, self.params.source, args.to_vec(), out)?);
        Ok(out)
    }

    /// A convolution of groups: one convolution for each group, or for some narrow ones together.
    pub(super) fn grouped(
        &mut self,
        name: &'static str,
        id: ValueId,
        window: &Window,
        kernel: &Kernel,
        x: View,
    ) -> Result<View> {
        let out = self.fresh(id)?;
        let (ins, outs) = (x.channels / window.groups, out.channels / window.groups);
        let together = (TOGETHER / ins.max(1)).clamp(1, window.groups);
        let taps = window.kernel[0] * window.kernel[1];
        let padding = window.padding;
        let kind = self.weights.of_layer(out.channels, ins * taps);
        let weights = self.params.take(kernel.weight)?;
        let bias = kernel.bias.map(|b| self.params.take(b)).transpose()?;
        for first in (0..window.groups).step_by(together) {
            let count = together.min(window.groups - first);
            // Weights that share a scale would reach over the zeros between groups of channels.
            let kept = if count > 1 && kind == WeightType::Int4 { WeightType::F32 } else { kind };
            let shape = ConvShape {
                height: x.height,
                width: x.width,
                in_channels: count * ins,
                out_channels: count * outs,
                kernel: window.kernel,
                stride: [window.stride; 2],
                padding,
                dilation: window.dilation,
            };
            // The group's number makes the name one that no other weights have.
            let part = |id: ParamId| alloc::format!("{}\0{first}", self.graph.param(id).name);
            let names = alloc::vec![(part(kernel.weight), kernel.bias.map(part))];
            let (packed, owner) = self.packs.get(Key { names, turned: false, shape, bf16: false }, || {
                let mut block = self.params.heap.zeroed(count * outs * count * ins * taps)?;
                for (o, to) in block.chunks_exact_mut(count * ins * taps).enumerate() {
                    let from = weights.get((first * outs + o) * ins * taps..).and_then(|w| w.get(..ins * taps));
                    let at = o / outs * ins * taps;
                    if let (Some(to), Some(from)) = (to.get_mut(at..at + ins * taps), from) {
                        to.copy_from_slice(from);
                        if kept != kind {
                            self.weights.round(to, out.channels, [ins, taps]);
                        }
                    }
                }
                let bias = bias.as_deref().and_then(|b| b.get(first * outs..(first + count) * outs));
                PackedConv::in_heap(self.params.heap, self.isa, kept, shape, &block, bias)
                    .map_err(|e| e.context(self.graph.param(kernel.weight).name.clone()))
            })?;
            let source = x.slice(first * ins, count * ins);
            let activation = vmath::Activation::Identity;
            let plain = padding == Padding::default() && source.is_dense();
            let gather = (!plain).then_some(Gather { affine: None, activation, upsample: 1, padding });
            self.step(Conv {
                name,
                sources: alloc::vec![source].into(),
                gather,
                weights: Packed::Shared(packed),
                owner,
                channel: None,
                residual: None,
                scale: 1.0,
                activation,
                out: out.slice(first * outs, count * outs),
            });
        }
        Ok(out)
    }
}
