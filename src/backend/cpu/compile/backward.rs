//! The steps of backward operations.

use alloc::sync::Arc;

use super::super::conv::{ConvShape, PackedConv};
use super::super::memory::View;
use super::super::packs::Key;
use super::super::steps::conv::{Conv, Gather, Packed};
use super::super::steps::fold::Fold;
use super::super::steps::norm_grad::NormGrad;
use super::super::steps::resample::{Axis, Resample};
use super::super::vmath;
use super::Compiler;
use super::layout::TOGETHER;
use crate::error::{Result, err};
use crate::graph::{FusedNormGrad, Node, Padding, ParamId, ValueId, Window};

impl Compiler<'_> {
    /// The gradient of a group norm and what follows it.
    pub(super) fn norm_grad(&mut self, id: ValueId, node: &Node, n: &FusedNormGrad, args: &[View]) -> Result<View> {
        let mut rest = args.get(n.sources..).unwrap_or(&[]).iter().copied();
        let mut next = || rest.next().ok_or_else(|| err!(InvalidArgument, "too few arguments"));
        let modulation = if n.modulated { Some([next()?, next()?]) } else { None };
        let dy = next()?;
        let residual = if n.residual { Some(next()?) } else { None };
        let step = NormGrad {
            sources: args.get(..n.sources).unwrap_or(&[]).to_vec(),
            modulation,
            dy,
            residual,
            out: self.fresh(id)?,
            activation: n.activation,
            groups: n.norm.groups,
            eps: n.norm.eps,
            weight: self.params.take(n.norm.weight)?,
            bias: self.params.take(n.norm.bias)?,
            statistics: self.statistics.kept(&n.norm, node.args.get(..n.sources).unwrap_or(&[])),
        };
        let out = step.out;
        self.step(step);
        Ok(out)
    }

    /// The adjoint of a convolution: a convolution with the filter turned round, of its argument spread out by the
    /// stride; or, where that would multiply much by zeros, products of each pixel alone and then their sum.
    pub(super) fn conv_adjoint(
        &mut self,
        name: &'static str,
        id: ValueId,
        x: View,
        window: &Window,
        weights: &[ParamId],
        residual: Option<View>,
    ) -> Result<View> {
        if let ([weight], None, true) = (weights, residual, window.groups > 1) {
            return self.grouped_adjoint(id, x, window, *weight);
        }
        let out = self.fresh(id)?;
        let [kh, kw] = window.kernel;
        let (outs, ins) = (x.channels, out.channels);
        let parts = kh.saturating_mul(kw).saturating_mul(ins);
        // A pixel's products are kept few: in cache, and fewer than the numbers they are made of where there is no
        // stride.
        let few = x.positions().saturating_mul(parts) <= 1 << 16;
        if window.dilation == 1 && if window.stride > 1 { few } else { kh * kw > 1 && parts <= outs } {
            return self.folded_adjoint(name, x, window, weights, residual, out);
        }
        let taps = kh * kw;
        let (source, padding) = self.spread(name, x, window, out)?;
        let shape = ConvShape {
            height: source.height,
            width: source.width,
            in_channels: outs,
            out_channels: ins,
            kernel: window.kernel,
            stride: [1, 1],
            padding,
            dilation: window.dilation,
        };
        let names = weights.iter().map(|&id| (self.graph.param(id).name.clone(), None)).collect();
        let (weights, owner) = self.packs.get(Key { names, turned: true, shape, bf16: false }, || {
            let mut plain = self.params.stacked(weights.iter().copied())?;
            self.weights.round(&mut plain, self.outs(weights.iter().copied()), [ins, taps]);
            let mut turned = self.params.staging.lend(plain.len())?;
            let filters = (0..ins).flat_map(|i| (0..outs).map(move |o| (i, o)));
            for ((i, o), to) in filters.zip(turned.chunks_exact_mut(taps)) {
                let filter = plain.get((o * ins + i) * taps..).and_then(|w| w.get(..taps)).unwrap_or(&[]);
                to.iter_mut().zip(filter.iter().rev()).for_each(|(to, w)| *to = *w);
            }
            drop(plain);
            PackedConv::in_heap(self.params.heap, self.isa, self.weights.of_adjoint(), shape, &turned, None)
        })?;
        self.product(name, source, padding, (weights, owner), residual, out);
        Ok(out)
    }

    /// What a convolution without steps takes, with how much around it, to make the adjoint of one with this window.
    fn spread(&mut self, name: &'static str, x: View, window: &Window, out: View) -> Result<(View, Padding)> {
        // With this much around it a convolution without steps makes the right size.
        let ([kh, kw], p, channels) = (window.span(), window.padding, x.channels);
        let pads = [(kh, p.top), (kh, p.bottom), (kw, p.left), (kw, p.right)].map(|(k, pad)| (k - 1).checked_sub(pad));
        if let (1, [Some(top), Some(bottom), Some(left), Some(right)]) = (window.stride, pads) {
            return Ok((x, Padding { top, bottom, left, right }));
        }
        let (height, width) = (out.height + kh - 1, out.width + kw - 1);
        let buffer = self.temporary(height.saturating_mul(width).saturating_mul(channels))?;
        let spread = View { buffer, start: 0, stride: channels, channels, height, width, half: false };
        let rows = Axis::spread(x.height, height, window.stride, kh as isize - 1 - p.top as isize);
        let columns = Axis::spread(x.width, width, window.stride, kw as isize - 1 - p.left as isize);
        self.step(Resample { name, x, out: spread, rows, columns });
        Ok((spread, Padding::default()))
    }

    /// The adjoint of a convolution of groups: for each group its own, or for some narrow ones together.
    fn grouped_adjoint(&mut self, id: ValueId, x: View, window: &Window, weight: ParamId) -> Result<View> {
        let (name, out) = (self.graph.node(id).op.name(), self.fresh(id)?);
        let (outs, ins) = (x.channels / window.groups, out.channels / window.groups);
        let together = (TOGETHER / outs.max(1)).clamp(1, window.groups);
        let taps = window.kernel[0] * window.kernel[1];
        let (source, padding) = self.spread(name, x, window, out)?;
        let mut plain = self.params.take(weight)?;
        self.weights.round(&mut plain, x.channels, [ins, taps]);
        for first in (0..window.groups).step_by(together) {
            let count = together.min(window.groups - first);
            let shape = ConvShape {
                height: source.height,
                width: source.width,
                in_channels: count * outs,
                out_channels: count * ins,
                kernel: window.kernel,
                stride: [1, 1],
                padding,
                dilation: window.dilation,
            };
            // The group's number makes the name one that no other weights have.
            let names = alloc::vec![(alloc::format!("{}\0{first}", self.graph.param(weight).name), None)];
            let packed = self.packs.get(Key { names, turned: true, shape, bf16: false }, || {
                let mut turned = self.params.heap.zeroed(count * ins * count * outs * taps)?;
                let filters = (0..count).flat_map(|g| (0..ins).flat_map(move |i| (0..outs).map(move |o| [g, i, o])));
                for [g, i, o] in filters {
                    let from = plain.get((((first + g) * outs + o) * ins + i) * taps..).and_then(|w| w.get(..taps));
                    let at = ((g * ins + i) * count * outs + g * outs + o) * taps;
                    if let (Some(to), Some(from)) = (turned.get_mut(at..at + taps), from) {
                        to.iter_mut().zip(from.iter().rev()).for_each(|(to, w)| *to = *w);
                    }
                }
                PackedConv::in_heap(self.params.heap, self.isa, self.weights.of_adjoint(), shape, &turned, None)
            })?;
            let (from, to) = (source.slice(first * outs, count * outs), out.slice(first * ins, count * ins));
            self.product(name, from, padding, packed, None, to);
        }
        Ok(out)
    }

    /// The adjoint as a product with the filters of all taps and a sum over taps.
    fn folded_adjoint(
        &mut self,
        name: &'static str,
        x: View,
        window: &Window,
        weights: &[ParamId],
        residual: Option<View>,
        out: View,
    ) -> Result<View> {
        let [kh, kw] = window.kernel;
        let (outs, ins, taps) = (x.channels, out.channels, kh.saturating_mul(kw));
        let channels = taps.saturating_mul(ins);
        let buffer = self.temporary(x.positions().saturating_mul(channels))?;
        let (height, width) = (x.height, x.width);
        let parts = View { buffer, start: 0, stride: channels, channels, height, width, half: false };
        let shape = ConvShape::square(x.height, x.width, outs, channels, 1, 1, Padding::default());
        let names = weights.iter().map(|&id| (self.graph.param(id).name.clone(), None)).collect();
        let packed = self.packs.get(Key { names, turned: true, shape, bf16: false }, || {
            let mut plain = self.params.stacked(weights.iter().copied())?;
            self.weights.round(&mut plain, self.outs(weights.iter().copied()), [ins, taps]);
            let mut by_tap = self.params.staging.lend(plain.len())?;
            for (n, row) in by_tap.chunks_exact_mut(outs).enumerate() {
                let (tap, i) = (n / ins, n % ins);
                for (o, to) in row.iter_mut().enumerate() {
                    *to = plain.get((o * ins + i) * taps + tap).copied().unwrap_or(0.0);
                }
            }
            drop(plain);
            PackedConv::in_heap(self.params.heap, self.isa, self.weights.of_adjoint(), shape, &by_tap, None)
        })?;
        self.product(name, x, Padding::default(), packed, None, parts);
        self.step(Fold { name, parts, window: *window, residual, out });
        Ok(out)
    }

    /// A convolution of `x` with nothing around it but zeros and a residual.
    fn product(
        &mut self,
        name: &'static str,
        x: View,
        padding: Padding,
        (weights, owner): (Arc<PackedConv>, bool),
        residual: Option<View>,
        out: View,
    ) {
        let activation = vmath::Activation::Identity;
        let gather = (padding != Padding::default() || !x.is_dense()).then_some(Gather {
            affine: None,
            activation,
            upsample: 1,
            padding,
        });
        let (sources, weights) = (alloc::vec![x].into(), Packed::Shared(weights));
        self.step(Conv { name, sources, gather, weights, owner, channel: None, residual, scale: 1.0, activation, out });
    }
}
