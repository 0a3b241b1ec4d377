//! Launches of conv.wgsl and conv_reduce.wgsl.

use alloc::vec::Vec;

use super::{Access, Code, Grid, Launch, Operand, Words, activation, flag};
use crate::backend::wgpu::memory::{View, padded};
use crate::error::{Result, err};
use crate::graph::Activation;
use crate::tensor::DType;

static CONV: Code = Code {
    name: "conv",
    files: &[include_str!("conv_params.wgsl"), include_str!("conv.wgsl")],
    adds_up: false,
    bindings: &[
        Access::Value,
        Access::Value,
        Access::Weight,
        Access::Weight,
        Access::Value,
        Access::Value,
        Access::Value,
        Access::Value,
    ],
};

static REDUCE: Code = Code {
    name: "conv_reduce",
    files: &[include_str!("conv_params.wgsl"), include_str!("conv_reduce.wgsl")],
    adds_up: false,
    bindings: CONV.bindings,
};

/// Rows of the weights that the kernel takes at a time.
pub(in crate::backend::wgpu) const BLOCK: usize = 16;

/// What a workgroup makes: `x` by `y` invocations, each with so many rows and quads of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::wgpu) struct Tile {
    pub x: usize,
    pub y: usize,
    pub rows: usize,
    pub quads: usize,
}

/// Workgroups that keep a large device busy, at two or more for each of its cores.
const BUSY: usize = 256;

impl Tile {
    /// For a product of this size; columns in quads.
    ///
    /// For `4 rows quads` multiplications of quads an invocation reads `rows + 4 quads` of them: 2 for each one read
    /// with 4 rows, 2.7 with 8 rows of a quad, 4 with 8 rows of two. And what comes in is normalised and activated once
    /// for each tile of columns. So tiles are large as soon as there are enough of them. All fit the 16 KiB of
    /// workgroup memory that WebGPU promises.
    pub fn of(rows: usize, columns: usize, splits: usize) -> Self {
        let tile = |x, y, rows, quads| Self { x, y, rows, quads };
        let (large, tall) = (tile(16, 8, 8, 2), tile(16, 16, 8, 1));
        let pays = |t: Self| {
            let wide = t.x * t.quads;
            let across = columns.div_ceil(wide);
            // No more than a fourth of the columns is wasted.
            across * wide * 3 <= columns * 4 && t.down(rows) * across * splits >= BUSY
        };
        match (columns, rows) {
            (..=2, _) => tile(2, 32, 4, 1),
            (..=8, _) => tile(8, 16, 4, 1),
            (_, ..=16) => tile(16, 4, 4, 1),
            (_, ..=32) => tile(16, 8, 4, 1),
            _ if pays(large) => large,
            _ if pays(tall) => tall,
            _ => tile(16, 16, 4, 1),
        }
    }

    /// Tiles that so many rows have.
    pub fn down(&self, rows: usize) -> usize {
        rows.div_ceil(self.y * self.rows)
    }

    /// Tiles that so many quads of columns have.
    pub fn across(&self, columns: usize) -> usize {
        columns.div_ceil(self.x * self.quads)
    }
}

/// Into how many parts the sum is split, so that small images also keep a device busy. It depends on one sample alone,
/// so that a sample's bits do not depend on its batch.
fn splits(rows: usize, columns: usize, steps: usize) -> usize {
    let tiles = rows.div_ceil(64) * columns.div_ceil(16);
    (32 / tiles).clamp(1, 8).min(steps / 8).max(1)
}

/// What happens to the input on its way.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::wgpu) struct Before {
    /// Factors and offsets, as `GroupNormAffine` makes them.
    pub affine: Option<View>,
    /// Then this.
    pub activation: Option<Activation>,
    /// Factor of nearest upsampling, after that.
    pub stretch: usize,
    /// With zeros instead of repetitions.
    pub spread: bool,
}

/// What happens to the sums.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::wgpu) struct After {
    /// The weights' entry with a bias.
    pub bias: Option<usize>,
    /// A value for each output channel.
    pub channel: Option<View>,
    /// A value of the output's shape.
    pub residual: Option<View>,
    /// The factor.
    pub scale: f32,
    /// Applied last.
    pub activation: Option<Activation>,
}

/// A convolution whose sources, affine, channel and residual values begin on quads. With an affine value, so do all
/// parts of the joined channels.
#[derive(Clone, Debug)]
pub(in crate::backend::wgpu) struct Conv {
    pub op: &'static str,
    /// One or two.
    pub sources: Vec<View>,
    pub before: Before,
    pub kernel: [usize; 2],
    pub stride: usize,
    /// Above and to the left; may be negative.
    pub pad: [i32; 2],
    /// Rows and columns of the input as the window sees it.
    pub seen: [usize; 2],
    /// The weights' entry.
    pub weights: usize,
    pub after: After,
    pub out: View,
}

/// Blocks of [`BLOCK`] rows that the weights of sources with these channels have at a tap.
pub(in crate::backend::wgpu) fn blocks(channels: impl IntoIterator<Item = usize>) -> usize {
    channels.into_iter().map(|c| c.div_ceil(BLOCK)).sum()
}

impl Conv {
    fn steps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * blocks(self.sources.iter().map(|s| s.channels))
    }

    /// How many parts the sum has; with more than one, [`Conv::launches`] needs a buffer of that many results in f32.
    pub fn splits(&self) -> usize {
        splits(self.out.positions(), self.out.channels.div_ceil(4), self.steps())
    }

    /// The launches; `partial` is a view with [`Conv::splits`] times the output's positions, if these are more than
    /// one.
    pub fn launches(&self, partial: Option<View>) -> Result<Vec<Launch>> {
        let Some(&x0) = self.sources.first() else { return Err(err!(InvalidArgument, "no sources")) };
        let x1 = self.sources.get(1).copied();
        let (out, after, before) = (self.out, &self.after, &self.before);
        let (steps, splits) = (self.steps(), partial.map_or(1, |_| self.splits()));
        let columns = padded(out.channels)? / 4;
        let quads = |v: Option<View>| v.map_or([0, 0], |v| [v.start / 4, v.stride / 4]);
        let (before_code, before_slope) = activation(before.activation);
        let (after_code, after_slope) = activation(after.activation);
        let side = |v: usize| i32::try_from(v).map_err(|_| err!(Unsupported, "an image of {v} pixels is too large"));
        let channels: usize = self.sources.iter().map(|s| s.channels).sum();
        let params = Words::default()
            .sizes([out.positions(), out.width])
            .signed([side(self.seen[0])?, side(self.seen[1])?])
            .sizes([x0.positions(), x0.width])
            .signed([side(self.stride)?, self.pad[0], self.pad[1]])
            .sizes([self.kernel[1], x0.channels])
            .sizes(quads(Some(x0)))
            .sizes([x1.map_or(0, |v| v.channels)])
            .sizes(quads(x1))
            .sizes(quads(before.affine))
            .sizes([channels / 4, columns, steps, splits, steps.div_ceil(splits)])
            .sizes(quads(after.channel))
            .sizes(quads(after.residual))
            .sizes(quads(Some(out)))
            .floats([before_slope, after_slope, after.scale])
            .finish()?;

        let value = |v: Option<View>| v.map_or(Operand::None, |v| Operand::Value(v.buffer));
        let dtype = |v: Option<View>| v.map_or(DType::F32, |v| v.dtype);
        let bias = after.bias.map_or(Operand::None, Operand::Weight);
        let epilogue = [
            ("BIAS", flag(after.bias.is_some())),
            ("CHANNEL", flag(after.channel.is_some())),
            ("RESIDUAL", flag(after.residual.is_some())),
            ("AFTER", after_code),
        ];
        let products = match self.sources.iter().all(|s| s.dtype == DType::F16) {
            true => DType::F16,
            false => DType::F32,
        };
        let mut constants = alloc::vec![
            ("JOINED", flag(x1.is_some())),
            ("RAGGED", flag(self.sources.iter().any(|s| !s.channels.is_multiple_of(4)))),
            ("AFFINE", flag(before.affine.is_some())),
            ("BEFORE", before_code),
            ("STRETCH", before.stretch as f64),
            ("SPREAD", flag(before.spread)),
            ("SPLIT", flag(partial.is_some())),
            ("HALF", flag(products == DType::F16)),
        ];
        // Where sums are partial, the kernel that adds them has the epilogue.
        let (channel, residual, made) = match partial {
            Some(_) => (Operand::None, Operand::None, partial),
            None => (value(after.channel), value(after.residual), Some(out)),
        };
        if partial.is_none() {
            constants.extend(epilogue);
        }
        let residual_dtype = dtype(after.residual);
        let mut launches = alloc::vec![Launch {
            op: self.op,
            code: &CONV,
            types: alloc::vec![
                ("A", x0.dtype),
                ("B", dtype(x1)),
                ("W", self.weight_dtype()),
                ("T", products),
                ("R", if partial.is_some() { DType::F32 } else { residual_dtype }),
                ("Y", dtype(made)),
            ],
            constants,
            operands: alloc::vec![
                value(Some(x0)),
                value(x1),
                Operand::Weight(self.weights),
                if partial.is_some() { Operand::None } else { bias },
                value(before.affine),
                channel,
                residual,
                value(made),
            ],
            params: params.clone(),
            grid: Grid::Tiles { rows: out.positions(), columns, splits },
        }];
        if partial.is_some() {
            launches.push(Launch {
                op: self.op,
                code: &REDUCE,
                types: alloc::vec![("R", residual_dtype), ("Y", out.dtype)],
                constants: epilogue.to_vec(),
                operands: alloc::vec![
                    Operand::None,
                    Operand::None,
                    Operand::None,
                    bias,
                    value(partial),
                    value(after.channel),
                    value(after.residual),
                    value(Some(out)),
                ],
                params,
                grid: Grid::Items(out.positions().saturating_mul(columns)),
            });
        }
        Ok(launches)
    }

    /// Weights are f16 where one of the sources is.
    pub fn weight_dtype(&self) -> DType {
        match self.sources.iter().chain([&self.out]).any(|s| s.dtype == DType::F16) {
            true => DType::F16,
            false => DType::F32,
        }
    }
}
