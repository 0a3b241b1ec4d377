//! The layers of EDM's networks.

use alloc::format;
use alloc::vec::Vec;

use super::{EdmConfig, EdmNetwork};
use crate::error::{Result, ensure};
use crate::graph::{Activation, GraphBuilder, Op, Padding, ValueId};

/// Channels of a head of a `DhariwalUNet`.
const HEAD: usize = 64;

/// What a layer does to the size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Resample {
    Same,
    Up,
    Down,
}

/// A convolution; with a kernel of 0 only its resampling.
pub(super) struct Conv {
    pub out: usize,
    pub kernel: usize,
    pub resample: Resample,
}

/// A residual layer.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub out: usize,
    pub resample: Resample,
    pub attention: bool,
}

pub(super) struct Layers<'a> {
    pub g: GraphBuilder,
    pub c: &'a EdmConfig,
    /// Activated.
    pub embedding: ValueId,
}

impl Layers<'_> {
    pub fn channels(&self, x: ValueId) -> Result<usize> {
        Ok(self.g.dims(x)?.channels())
    }

    pub fn norm(&mut self, name: &str, x: ValueId, eps: f32) -> Result<ValueId> {
        let groups = (self.channels(x)? / 4).clamp(1, 32);
        self.g.group_norm(name, x, groups, eps)
    }

    /// The filter's buffer, which the checkpoint has.
    fn buffer(&mut self, name: &str) -> Result<()> {
        let n = self.c.resample_filter.len();
        self.g.param(&format!("{name}.resample_filter"), &[1, 1, n, n])?;
        Ok(())
    }

    fn taps(&self) -> Vec<f32> {
        let sum: usize = self.c.resample_filter.iter().sum();
        self.c.resample_filter.iter().map(|&t| t as f32 / sum.max(1) as f32).collect()
    }

    fn resampled(&mut self, x: ValueId, resample: Resample) -> Result<ValueId> {
        let (taps, plain) = (self.taps(), self.c.resample_filter.len() == 2);
        let n = taps.len() as isize;
        let pad = (n - 1) / 2;
        let op = match resample {
            Resample::Same => return Ok(x),
            Resample::Up if plain => Op::UpsampleNearest { factor: 2 },
            Resample::Down if plain => Op::AveragePool { factor: 2 },
            // The zeros between pixels take half of the filter's sum in each direction.
            Resample::Up => {
                let taps = taps.iter().map(|t| 2.0 * t).collect();
                Op::Fir { taps, up: 2, down: 1, pad: [n - 1 - pad, pad] }
            }
            Resample::Down => Op::Fir { taps, up: 1, down: 2, pad: [pad, pad] },
        };
        self.g.push(op, &[x])
    }

    pub fn conv(&mut self, name: &str, x: ValueId, conv: Conv) -> Result<ValueId> {
        if conv.resample != Resample::Same {
            self.buffer(name)?;
        }
        let x = self.resampled(x, conv.resample)?;
        match conv.kernel {
            0 => Ok(x),
            k => self.g.conv2d(name, x, conv.out, k, 1, Padding::all(k / 2)),
        }
    }

    /// A 3x3 convolution and then the filter, whose borders the convolution has made.
    pub fn filtered_conv(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        self.buffer(name)?;
        let taps = self.taps();
        let h = self.g.conv2d(name, x, out, 3, 1, Padding::all(1 + (taps.len() - 1) / 2))?;
        self.g.push(Op::Fir { taps, up: 1, down: 2, pad: [0, 0] }, &[h])
    }

    pub fn block(&mut self, name: &str, x: ValueId, block: Block) -> Result<ValueId> {
        self.block_inner(name, x, block).map_err(|e| e.context(name))
    }

    fn block_inner(&mut self, name: &str, x: ValueId, Block { out, resample, attention }: Block) -> Result<ValueId> {
        let song = self.c.model_type == EdmNetwork::Song;
        let (eps, scale) = if song { (1e-6, core::f32::consts::FRAC_1_SQRT_2) } else { (1e-5, 1.0) };
        let same = Conv { out, kernel: 3, resample: Resample::Same };
        let channels = self.channels(x)?;
        let h = self.norm(&format!("{name}.norm0"), x, eps)?;
        let h = self.g.activation(h, Activation::Silu)?;
        let mut h = self.conv(&format!("{name}.conv0"), h, Conv { resample, ..same })?;
        let affine = format!("{name}.affine");
        if song {
            let e = self.g.linear(&affine, self.embedding, out, true)?;
            h = self.g.add(h, e)?;
            h = self.norm(&format!("{name}.norm1"), h, eps)?;
        } else {
            let e = self.g.linear(&affine, self.embedding, 2 * out, true)?;
            let (factor, shift) = (self.g.slice_channels(e, 0, out)?, self.g.slice_channels(e, out, out)?);
            let factor = self.g.affine(factor, 1.0, 1.0)?;
            h = self.norm(&format!("{name}.norm1"), h, eps)?;
            h = self.g.mul(h, factor)?;
            h = self.g.add(h, shift)?;
        }
        let h = self.g.activation(h, Activation::Silu)?;
        let h = self.conv(&format!("{name}.conv1"), h, same)?;
        let skip = if channels != out || resample != Resample::Same {
            let kernel = usize::from(song || channels != out);
            self.conv(&format!("{name}.skip"), x, Conv { out, kernel, resample })?
        } else {
            x
        };
        let mut x = self.g.add(h, skip)?;
        x = self.scaled(x, scale)?;
        if attention {
            x = self.attention(name, x, eps)?;
            x = self.scaled(x, scale)?;
        }
        Ok(x)
    }

    fn scaled(&mut self, x: ValueId, scale: f32) -> Result<ValueId> {
        if scale == 1.0 { Ok(x) } else { self.g.affine(x, scale, 0.0) }
    }

    fn attention(&mut self, name: &str, x: ValueId, eps: f32) -> Result<ValueId> {
        let c = self.channels(x)?;
        let heads = if self.c.model_type == EdmNetwork::Song { 1 } else { c / HEAD };
        if heads == 0 {
            // As the code base: too few channels for a head leave attention out.
            return Ok(x);
        }
        ensure!(c.is_multiple_of(heads), Config, "attention of {c} channels in {heads} heads, expected a divisor");
        let point = |out| Conv { out, kernel: 1, resample: Resample::Same };
        let h = self.norm(&format!("{name}.norm2"), x, eps)?;
        let qkv = self.conv(&format!("{name}.qkv"), h, point(3 * c))?;
        // Of each channel q, k and v stand side by side.
        let qkv = self.g.push(Op::ShuffleChannels { rows: c, columns: 3 }, &[qkv])?;
        let mut parts = Vec::new();
        for i in 0..3 {
            parts.push(self.g.slice_channels(qkv, i * c, c)?);
        }
        let h = self.g.push(Op::Attention { heads }, &parts)?;
        let h = self.conv(&format!("{name}.proj"), h, point(c))?;
        self.g.add(h, x)
    }
}
