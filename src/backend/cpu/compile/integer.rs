//! Layers of 8-bit integers, and the values between them, which wait as bf16.

use alloc::vec::Vec;

use super::super::conv::ConvShape;
use super::super::memory::{View, lines};
use super::super::steps::activation::in_kernel;
use super::super::steps::convert::Convert;
use super::super::steps::elementwise::{Elementwise, Map};
use super::super::steps::integer::{IntegerConv, Integers};
use super::super::vmath;
use super::Compiler;
use crate::error::{Result, err};
use crate::graph::plan::Buffer;
use crate::graph::{FusedConv, Graph, LayerPrecision, Op, Quantisation, ValueId};

/// What all kernels of the layer compute in, if it is the same.
fn precision(graph: &Graph, c: &FusedConv) -> Option<LayerPrecision> {
    let mut all = c.kernels.iter().map(|k| graph.param(k.weight).precision);
    let first = all.next()?;
    all.all(|p| p == first).then_some(first)
}

/// How the layer's input becomes integers, if it does.
fn input(graph: &Graph, c: &FusedConv) -> Option<Quantisation> {
    match precision(graph, c) {
        Some(LayerPrecision::Int8(input)) => Some(input),
        _ => None,
    }
}

/// The values that are kept as bf16: what layers make and only layers, of which one is of integers, and norms read. A
/// bf16 is off by 2^-9 at most, a part of what 8 bits are.
pub(super) fn halves(graph: &Graph) -> Vec<bool> {
    let layer = |op: &Op| matches!(op, Op::FusedConv(_));
    let mut half: Vec<bool> = graph.nodes().iter().map(|n| layer(&n.op) && n.ty.dims.positions() > 1).collect();
    let mut read = alloc::vec![false; half.len()];
    for node in graph.nodes() {
        let integers = matches!(&node.op, Op::FusedConv(c) if input(graph, c).is_some());
        for a in &node.args {
            read[a.index()] |= integers;
            half[a.index()] &= layer(&node.op) || matches!(node.op, Op::GroupNormAffine { .. });
        }
    }
    half.iter_mut().zip(read).for_each(|(half, read)| *half &= read);
    graph.outputs().iter().for_each(|p| half[p.value.index()] = false);
    half
}

impl Compiler<'_> {
    /// How the layer's input becomes integers, if it does.
    pub(super) fn integers(&self, c: &FusedConv) -> Option<Quantisation> {
        input(self.graph, c)
    }

    /// Whether the layer multiplies bf16.
    pub(super) fn bf16(&self, c: &FusedConv) -> bool {
        precision(self.graph, c) == Some(LayerPrecision::Bf16)
    }

    /// Whether an operation reads bf16 as it is.
    pub(super) fn reads_halves(&self, op: &Op) -> bool {
        match op {
            Op::GroupNormAffine { .. } => true,
            Op::FusedConv(c) => self.integers(c).is_some(),
            _ => false,
        }
    }

    /// A value as f32.
    pub(super) fn plain(&mut self, x: View) -> Result<View> {
        if !x.half {
            return Ok(x);
        }
        let out = View { buffer: self.temporary(x.positions().saturating_mul(x.channels))?, half: false, ..x };
        self.step(Convert { x, out });
        Ok(out)
    }

    /// Where a layer writes the value `id`: its own place, or f32 that [`Compiler::kept`] puts there.
    pub(super) fn made(&mut self, id: ValueId, halves: bool) -> Result<View> {
        match self.halves.get(id.index()) {
            Some(true) if halves => self.half(id),
            Some(true) => {
                let dims = self.graph.dims(id);
                Ok(View::dense(self.temporary(dims.elements())?, dims))
            }
            _ => self.fresh(id),
        }
    }

    /// The value `id`, where it was [made](Compiler::made), in its own place.
    pub(super) fn kept(&mut self, id: ValueId, x: View) -> Result<View> {
        if x.half || self.halves.get(id.index()) != Some(&true) {
            return Ok(x);
        }
        let out = self.half(id)?;
        self.step(Convert { x, out });
        Ok(out)
    }

    fn half(&mut self, id: ValueId) -> Result<View> {
        let dims = self.graph.dims(id);
        let last = self.last_use[id.index()];
        let size = lines(dims.elements().div_ceil(2))?;
        self.buffers.push(Buffer { size, first: self.now, last: last.max(self.now) });
        Ok(View { half: true, ..View::dense(self.buffers.len() - 1, dims) })
    }

    pub(super) fn integer_conv(
        &mut self,
        name: &'static str,
        id: ValueId,
        c: &FusedConv,
        input: Quantisation,
        args: &[View],
    ) -> Result<View> {
        let (pro, epi) = (&c.prologue, &c.epilogue);
        let mut rest = args.get(pro.sources..).unwrap_or(&[]).iter().copied();
        let mut affine = pro.affine.then(|| rest.next()).flatten();
        let channel = epi.channel.then(|| rest.next()).flatten();
        let residual = epi.residual.then(|| rest.next()).flatten();
        let mut sources = args.get(..pro.sources).unwrap_or(&[]).to_vec();
        let before = in_kernel(pro.activation);
        let silu = before == Some(vmath::Activation::Silu);
        if !silu && before != Some(vmath::Activation::Identity) {
            // An activation that is not made on the way: a step of its own for each source, after the norm.
            let mut done = 0;
            let all = sources.iter().map(|v| v.channels).sum::<usize>();
            for x in &mut sources {
                let from = self.plain(*x)?;
                let buffer = self.temporary(x.positions().saturating_mul(x.channels))?;
                let out = View { buffer, start: 0, stride: x.channels, half: false, ..*x };
                if let Some(ab) = affine {
                    // Factors and offsets of these channels, one after the other.
                    let own = View { buffer: self.temporary(2 * x.channels)?, stride: 2 * x.channels, start: 0, ..ab };
                    let own = View { channels: 2 * x.channels, ..own };
                    self.concat("concat", &[ab.slice(done, x.channels), ab.slice(all + done, x.channels)], own);
                    let map = Map::ApplyAffine { ab: own, activation: pro.activation };
                    self.step(Elementwise { name: "activation", x: from, out, map });
                } else if let Some(f) = pro.activation {
                    self.step(Elementwise { name: "activation", x: from, out, map: Map::Activation(f) });
                }
                done += x.channels;
                *x = out;
            }
            affine = None;
        }
        let first = *sources.first().ok_or_else(|| err!(InvalidArgument, "no sources"))?;
        let shape = ConvShape {
            height: first.height * pro.upsample,
            width: first.width * pro.upsample,
            in_channels: sources.iter().map(|v| v.channels).sum(),
            out_channels: self.graph.dims(id).channels(),
            kernel: c.window.kernel,
            stride: [c.window.stride; 2],
            padding: c.window.padding,
            dilation: c.window.dilation,
        };
        let layer = {
            let (weights, bias) = self.kernels(&c.kernels)?;
            Integers::pack(self.params.heap, self.isa, shape, input, &weights, bias.as_deref())
        };
        let layer = layer.map_err(|e| match c.kernels.first() {
            Some(k) => e.context(self.graph.param(k.weight).name.clone()),
            None => e,
        })?;
        let (activation, after) = match in_kernel(epi.activation) {
            Some(f) => (f, None),
            None => (vmath::Activation::Identity, epi.activation),
        };
        let out = self.made(id, after.is_none())?;
        let (sources, upsample, scale) = (sources.into(), pro.upsample, epi.scale);
        self.step(IntegerConv {
            name,
            sources,
            affine,
            silu,
            upsample,
            layer,
            channel,
            residual,
            scale,
            activation,
            out,
        });
        if let Some(f) = after {
            self.after(out, f);
        }
        self.kept(id, out)
    }
}
