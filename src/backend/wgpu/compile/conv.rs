//! Convolutions and their adjoints.

use alloc::vec::Vec;

use super::Compiler;
use crate::backend::wgpu::kernels::conv::{After, Before, Conv};
use crate::backend::wgpu::kernels::elementwise::{self, Map, Spread};
use crate::backend::wgpu::kernels::fir::{self, Filter};
use crate::backend::wgpu::kernels::windows::{self, Look};
use crate::backend::wgpu::memory::{View, padded};
use crate::backend::wgpu::weights::Pack;
use crate::error::{Result, err};
use crate::graph::{Binary, FusedConv, ParamId, ValueId, Window};
use crate::tensor::DType;

impl Compiler<'_> {
    pub(super) fn conv(&mut self, name: &'static str, id: ValueId, c: &FusedConv, args: &[View]) -> Result<View> {
        if !c.window.is_plain() {
            return self.direct(name, id, c, args);
        }
        let (pro, epi) = (&c.prologue, &c.epilogue);
        let mut rest = args.get(pro.sources..).unwrap_or(&[]).iter().copied();
        let mut affine = pro.affine.then(|| rest.next()).flatten();
        let channel = epi.channel.then(|| rest.next()).flatten();
        let residual = epi.residual.then(|| rest.next()).flatten();
        let mut sources = self.joined(args.get(..pro.sources).unwrap_or(&[]).to_vec(), 2)?;
        let mut before = pro.activation;
        if let Some(ab) = affine.filter(|ab| !ab.on_quad() || sources.iter().any(|s| !s.channels.is_multiple_of(4))) {
            // Factors and offsets of a quad would not lie in quads: a pass of its own.
            sources = self.joined(sources, 1)?;
            let x = *sources.first().ok_or_else(|| err!(InvalidArgument, "no sources"))?;
            let out = self.temporary([x.channels, x.height, x.width], x.dtype)?;
            self.push(elementwise::launch(name, x, Map::ApplyAffine(ab, before), out)?);
            (sources, affine, before) = (alloc::vec![out], None, None);
        }
        let sources = sources.into_iter().map(|s| self.on_quad(s)).collect::<Result<Vec<_>>>()?;
        let channel = channel.map(|v| self.on_quad(v)).transpose()?;
        let residual = residual.map(|v| self.on_quad(v)).transpose()?;
        let first = *sources.first().ok_or_else(|| err!(InvalidArgument, "no sources"))?;
        let out = self.fresh(id)?;
        let columns = padded(out.channels)?;
        let bias = match c.kernels.iter().any(|k| k.bias.is_some()) {
            true => Some(self.weight(Pack::Bias { kernels: c.kernels.clone(), columns }, DType::F32)?),
            false => None,
        };
        let side = |v: usize| v.checked_mul(pro.upsample).ok_or_else(|| err!(Shape, "an image of {v} pixels"));
        let p = c.window.padding;
        let whole = |v: usize| i32::try_from(v).map_err(|_| err!(Unsupported, "a padding of {v} pixels"));
        let conv = Conv {
            op: name,
            before: Before { affine, activation: before, stretch: pro.upsample, spread: false },
            kernel: c.window.kernel,
            stride: c.window.stride,
            pad: [whole(p.top)?, whole(p.left)?],
            seen: [side(first.height)?, side(first.width)?],
            weights: 0,
            after: After { bias, channel, residual, scale: epi.scale, activation: epi.activation },
            out,
            sources,
        };
        let channels = conv.sources.iter().map(|s| s.channels).collect();
        self.launch_conv(conv, |kernel| Pack::Conv { kernels: c.kernels.clone(), sources: channels, kernel, columns })?;
        Ok(out)
    }

    /// The adjoint of a convolution: its argument spread out by the stride, then a convolution with the filter turned
    /// round.
    pub(super) fn conv_adjoint(
        &mut self,
        name: &'static str,
        id: ValueId,
        x: View,
        w: &Window,
        weights: Vec<ParamId>,
        residual: Option<View>,
    ) -> Result<View> {
        if !w.is_plain() {
            return self.direct_adjoint(name, id, x, w, &weights, residual);
        }
        let x = self.on_quad(x)?;
        let residual = residual.map(|v| self.on_quad(v)).transpose()?;
        let out = self.fresh(id)?;
        let columns = padded(out.channels)?;
        let pad = |k: usize, pad: usize| {
            let v = i32::try_from(k).ok().zip(i32::try_from(pad).ok()).map(|(k, pad)| k - 1 - pad);
            v.ok_or_else(|| err!(Unsupported, "a kernel of {k} padded by {pad}"))
        };
        let spread = |v: usize| (v - 1).checked_mul(w.stride).map(|n| n + 1).ok_or_else(|| err!(Shape, "{v} pixels"));
        let conv = Conv {
            op: name,
            sources: alloc::vec![x],
            before: Before { affine: None, activation: None, stretch: w.stride, spread: true },
            kernel: w.kernel,
            stride: 1,
            pad: [pad(w.kernel[0], w.padding.top)?, pad(w.kernel[1], w.padding.left)?],
            seen: [spread(x.height)?, spread(x.width)?],
            weights: 0,
            after: After { bias: None, channel: None, residual, scale: 1.0, activation: None },
            out,
        };
        let (inputs, outputs) = (out.channels, x.channels);
        self.launch_conv(conv, |kernel| Pack::Adjoint { weights, inputs, outputs, kernel, columns })?;
        Ok(out)
    }

    /// A convolution with dilation or groups: what stands around it in passes of their own.
    fn direct(&mut self, name: &'static str, id: ValueId, c: &FusedConv, args: &[View]) -> Result<View> {
        let (pro, epi) = (&c.prologue, &c.epilogue);
        let mut rest = args.get(pro.sources..).unwrap_or(&[]).iter().copied();
        let affine = pro.affine.then(|| rest.next()).flatten();
        let channel = epi.channel.then(|| rest.next()).flatten();
        let residual = epi.residual.then(|| rest.next()).flatten();
        let sources = self.joined(args.get(..pro.sources).unwrap_or(&[]).to_vec(), 1)?;
        let mut x = *sources.first().ok_or_else(|| err!(InvalidArgument, "no sources"))?;
        let before = match (affine, pro.activation) {
            (Some(ab), f) => Some(Map::ApplyAffine(ab, f)),
            (None, f) => f.map(Map::Activation),
        };
        if let Some(map) = before {
            let out = self.temporary([x.channels, x.height, x.width], x.dtype)?;
            self.push(elementwise::launch(name, x, map, out)?);
            x = out;
        }
        if pro.upsample > 1 {
            let side = |v: usize| v.checked_mul(pro.upsample).ok_or_else(|| err!(Shape, "an image of {v} pixels"));
            let out = self.temporary([x.channels, side(x.height)?, side(x.width)?], x.dtype)?;
            let filter = Filter::repeat(pro.upsample);
            let taps = self.weight(Pack::Values(filter.taps.clone()), DType::F32)?;
            self.push(fir::launch(name, x, &filter, taps, out)?);
            x = out;
        }
        let after = [
            channel.map(|v| Map::Binary(Binary::Add, v, Spread::Channel)),
            residual.map(|v| Map::Binary(Binary::Add, v, Spread::Whole)),
            (epi.scale != 1.0).then_some(Map::Affine { scale: epi.scale, shift: 0.0 }),
            epi.activation.map(Map::Activation),
        ];
        let after: Vec<Map> = after.into_iter().flatten().collect();
        let out = self.fresh(id)?;
        let dims = [out.channels, out.height, out.width];
        let mut made = if after.is_empty() { out } else { self.temporary(dims, DType::F32)? };
        let mut start = 0;
        for k in &c.kernels {
            let len = self.graph.param(k.weight).dims.channels();
            let weight = self.weight(Pack::Plain(alloc::vec![k.weight]), DType::F32)?;
            let bias = match k.bias {
                Some(b) => Some(self.weight(Pack::Plain(alloc::vec![b]), DType::F32)?),
                None => None,
            };
            self.push(windows::launch(name, Look::Conv { weight, bias }, x, &c.window, made.slice(start, len))?);
            start += len;
        }
        for (i, map) in after.iter().enumerate() {
            let to = if i + 1 == after.len() { out } else { self.temporary(dims, DType::F32)? };
            self.push(elementwise::launch(name, made, *map, to)?);
            made = to;
        }
        Ok(out)
    }

    /// Its adjoint: the sum of those of the stacked weights, and the residual.
    fn direct_adjoint(
        &mut self,
        name: &'static str,
        id: ValueId,
        x: View,
        w: &Window,
        weights: &[ParamId],
        residual: Option<View>,
    ) -> Result<View> {
        let out = self.fresh(id)?;
        let dims = [out.channels, out.height, out.width];
        let (mut start, mut sum) = (0, residual);
        for (i, &id) in weights.iter().enumerate() {
            let len = self.graph.param(id).dims.channels();
            let weight = self.weight(Pack::Plain(alloc::vec![id]), DType::F32)?;
            let last = i + 1 == weights.len();
            let part = if last && sum.is_none() { out } else { self.temporary(dims, DType::F32)? };
            self.push(windows::launch(name, Look::ConvAdjoint { weight }, x.slice(start, len), w, part)?);
            start += len;
            sum = Some(match sum {
                None => part,
                Some(so_far) => {
                    let to = if last { out } else { self.temporary(dims, DType::F32)? };
                    self.push(elementwise::launch(name, part, Map::Binary(Binary::Add, so_far, Spread::Whole), to)?);
                    to
                }
            });
        }
        Ok(out)
    }

    fn launch_conv(&mut self, mut conv: Conv, pack: impl FnOnce([usize; 2]) -> Pack) -> Result<()> {
        conv.weights = self.weight(pack(conv.kernel), conv.weight_dtype())?;
        let (out, splits) = (conv.out, conv.splits());
        let partial = match splits {
            ..=1 => None,
            n => Some(self.temporary([out.channels, out.height.saturating_mul(n), out.width], DType::F32)?),
        };
        for launch in conv.launches(partial)? {
            self.push(launch);
        }
        Ok(())
    }
}
