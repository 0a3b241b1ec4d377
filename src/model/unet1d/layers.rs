//! The blocks of diffusers' `UNet1DModel`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Down1d, Mid1d, Up1d};
use crate::error::{Result, ensure};
use crate::graph::{Activation, GraphBuilder, Kernel, Op, Padding, ValueId};

/// Epsilon of all norms, PyTorch's own.
pub(super) const EPS: f32 = 1e-5;
/// Groups of the norms of residual layers of planning, fixed there.
const GROUPS: usize = 8;
/// Channels of a head of attention, fixed there.
const HEAD: usize = 32;
/// The filter ("cubic") that halves and, times two, doubles a length.
const TAPS: [f64; 8] =
    [-0.01171875, -0.03515625, 0.11328125, 0.43359375, 0.43359375, 0.11328125, -0.03515625, -0.01171875];
/// Zeros before a filtered row: even, and such that the tap it meets is one of the two largest.
const BEFORE: isize = 4;

pub(super) struct Layers {
    pub g: GraphBuilder,
    pub sample: ValueId,
    /// The timestep as it joins the channels.
    pub embedding: ValueId,
    /// The same as residual layers project it.
    pub activated: ValueId,
    /// Residual layers of a block besides its first.
    pub layers: usize,
}

impl Layers {
    /// A block down: what goes on, and what the way up takes.
    pub fn down(
        &mut self,
        name: &str,
        x: ValueId,
        block: Down1d,
        out: usize,
        halve: bool,
    ) -> Result<(ValueId, ValueId)> {
        if block == Down1d::Resnet {
            let skip = self.resnets(name, x, out)?;
            let x = if halve { self.g.conv1d(&format!("{name}.downsample.conv"), skip, out, 3, 2, 1)? } else { skip };
            return Ok((x, skip));
        }
        let x = match block {
            Down1d::NoSkip => {
                let t = self.at_all_positions()?;
                self.g.concat(&[x, t])?
            }
            _ => self.halved(&format!("{name}.down"), x)?,
        };
        let x = self.convs(name, x, [out; 3], block == Down1d::Attn, false)?;
        Ok((x, x))
    }

    pub fn middle(&mut self, name: &str, x: ValueId, block: Mid1d, out: usize) -> Result<ValueId> {
        if block == Mid1d::Resnet {
            return self.resnets(name, x, out);
        }
        let h = self.halved(&format!("{name}.down"), x)?;
        let h = self.convs(name, h, [out; 6], true, false)?;
        self.doubled(&format!("{name}.up"), h)
    }

    /// A block up; one of planning doubles the length if `double`.
    pub fn up(
        &mut self,
        name: &str,
        x: ValueId,
        skip: ValueId,
        block: Up1d,
        out: usize,
        double: bool,
    ) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let x = self.g.concat(&[x, skip])?;
        match block {
            Up1d::Resnet => {
                let x = self.resnets(name, x, out)?;
                if double { self.g.conv_transpose1d(&format!("{name}.upsample.conv"), x, out, 4, 2, 1) } else { Ok(x) }
            }
            Up1d::NoSkip => self.convs(name, x, [channels, channels, out], false, true),
            Up1d::Plain => {
                let x = self.convs(name, x, [channels, channels, out], false, false)?;
                self.doubled(&format!("{name}.up"), x)
            }
            Up1d::Attn => {
                let x = self.convs(name, x, [out; 3], true, false)?;
                self.doubled(&format!("{name}.up"), x)
            }
        }
    }

    /// The timestep's values at every position, which no operation makes of a vector alone: added to zeros.
    fn at_all_positions(&mut self) -> Result<ValueId> {
        let n = self.g.dims(self.embedding)?.elements();
        let row = self.g.slice_channels(self.sample, 0, 1)?;
        let row = self.g.affine(row, 0.0, 0.0)?;
        let zeros = self.g.push(Op::PadChannels { before: 0, after: n - 1 }, &[row])?;
        self.g.add(zeros, self.embedding)
    }

    /// Convolutions to so many channels, each with attention after it if `attends`; the last of a network has no norm.
    fn convs<const N: usize>(
        &mut self,
        name: &str,
        x: ValueId,
        outs: [usize; N],
        attends: bool,
        last: bool,
    ) -> Result<ValueId> {
        let mut x = x;
        for (i, out) in outs.into_iter().enumerate() {
            // Between its two convolutions a layer has the channels of the block's first.
            let middle = outs.first().copied().unwrap_or(out);
            x = self.conv(&format!("{name}.resnets.{i}"), x, [middle, out], last && i + 1 == N)?;
            if attends {
                x = self.attention(&format!("{name}.attentions.{i}"), x)?;
            }
        }
        Ok(x)
    }

    /// diffusers' `ResConvBlock`.
    fn conv(&mut self, name: &str, x: ValueId, [middle, out]: [usize; 2], last: bool) -> Result<ValueId> {
        let of = |part: &str| -> String { format!("{name}.{part}") };
        let channels = self.g.dims(x)?.channels();
        let h = self.g.conv1d(&of("conv_1"), x, middle, 5, 1, 2)?;
        let h = self.g.group_norm(&of("group_norm_1"), h, 1, EPS)?;
        let h = self.g.activation(h, Activation::Gelu)?;
        let mut h = self.g.conv1d(&of("conv_2"), h, out, 5, 1, 2)?;
        if !last {
            h = self.g.group_norm(&of("group_norm_2"), h, 1, EPS)?;
            h = self.g.activation(h, Activation::Gelu)?;
        }
        let shortcut = if channels == out {
            x
        } else {
            let weight = self.g.param(&of("conv_skip.weight"), &[out, channels, 1])?;
            self.g.push(Op::Linear(Kernel { weight, bias: None }), &[x])?
        };
        self.g.add(h, shortcut)
    }

    fn attention(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let heads = channels / HEAD;
        ensure!(
            heads > 0 && channels.is_multiple_of(heads),
            Config,
            "{name}: attention of {channels} channels in {heads} heads, expected at least {HEAD} and a divisor"
        );
        let h = self.g.group_norm(&format!("{name}.group_norm"), x, 1, EPS)?;
        let mut qkv = Vec::new();
        for part in ["to_q", "to_k", "to_v"] {
            qkv.push(self.g.linear(&format!("{name}.{part}"), h, channels, true)?);
        }
        let h = self.g.push(Op::Attention { heads }, &qkv)?;
        let h = self.g.linear(&format!("{name}.to_out.0"), h, channels, true)?;
        self.g.add(h, x)
    }

    /// The residual layers of a block of planning.
    fn resnets(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let mut x = x;
        for i in 0..=self.layers {
            x = self.resnet(&format!("{name}.resnets.{i}"), x, out)?;
        }
        Ok(x)
    }

    /// diffusers' `ResidualTemporalBlock1D`.
    fn resnet(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let channels = self.g.dims(x)?.channels();
        let e = self.g.linear(&format!("{name}.time_emb"), self.activated, out, true)?;
        let h = self.normed(&format!("{name}.conv_in"), x, out)?;
        let h = self.g.add(h, e)?;
        let h = self.normed(&format!("{name}.conv_out"), h, out)?;
        let shortcut = if channels == out { x } else { self.g.linear_row(&format!("{name}.residual_conv"), x, out)? };
        self.g.add(h, shortcut)
    }

    fn normed(&mut self, name: &str, x: ValueId, out: usize) -> Result<ValueId> {
        let h = self.g.conv1d(&format!("{name}.conv1d"), x, out, 5, 1, 2)?;
        let h = self.g.group_norm(&format!("{name}.group_norm"), h, GROUPS, EPS)?;
        self.g.activation(h, Activation::Mish)
    }

    /// Half the length: mirrored edges of 3, then every second value of the filter.
    fn halved(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let length = self.g.dims(x)?.positions();
        let x = self.g.push(Op::ReflectPad(Padding { left: 3, right: 3, ..Padding::default() }), &[x])?;
        // An odd length, so that the filter's gradient is one too; what it adds is cut off.
        let x = self.g.push(Op::PadPositions { before: 0, after: 1 }, &[x])?;
        let x = self.as_row(x)?;
        let filter = Op::Fir { taps: taps(1.0), up: 1, down: 2, pad: [BEFORE, 7 - BEFORE] };
        self.filtered(name, x, filter, BEFORE as usize / 2, length / 2)
    }

    /// Twice the length: mirrored edges of 2, zeros between values, the filter times two.
    fn doubled(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let length = self.g.dims(x)?.positions();
        let x = self.g.push(Op::ReflectPad(Padding { left: 2, right: 2, ..Padding::default() }), &[x])?;
        let filter = Op::Fir { taps: taps(2.0), up: 2, down: 1, pad: [BEFORE, 6 - BEFORE] };
        self.filtered(name, x, filter, BEFORE as usize, 2 * length)
    }

    /// A filter of which `length` values from `start` on are kept.
    fn filtered(&mut self, name: &str, x: ValueId, filter: Op, start: usize, length: usize) -> Result<ValueId> {
        self.g.param(&format!("{name}.kernel"), &[TAPS.len()])?;
        let y = self.g.push(filter, &[x])?;
        let y = self.g.push(Op::SlicePositions { start, len: length }, &[y])?;
        self.as_row(y)
    }

    /// Positions as the columns of an image of one row.
    fn as_row(&mut self, x: ValueId) -> Result<ValueId> {
        let d = self.g.dims(x)?;
        self.g.reshape(x, &[d.channels(), 1, d.positions()])
    }
}

/// The filter times `factor` as [`Op::Fir`] takes it, which filters rows and columns alike. Its paddings are such that
/// the single row, with `BEFORE` rows of zeros above it, gives a single one, for which it has met the tap of that
/// number from the end; so the taps are scaled for that one to do nothing.
fn taps(factor: f64) -> Vec<f32> {
    let met = TAPS[TAPS.len() - 1 - BEFORE as usize];
    let scale = libm::sqrt(factor / met);
    TAPS.iter().map(|t| (t * scale) as f32).collect()
}
