//! Launches of elementwise.wgsl.

use super::{Access, Code, Grid, Launch, Operand, Words, activation};
use crate::backend::wgpu::memory::View;
use crate::error::Result;
use crate::graph::{Activation, Binary};
use crate::tensor::DType;

static ELEMENTWISE: Code = Code {
    name: "elementwise",
    files: &[include_str!("elementwise.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Value, Access::Value],
};

/// How a second value lies beside the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::wgpu) enum Spread {
    /// It has the first's shape.
    Whole = 0,
    /// A value for each channel.
    Channel = 1,
    /// One value.
    Scalar = 2,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::wgpu) enum Map {
    /// `x * scale + shift`.
    Affine { scale: f32, shift: f32 },
    /// The function.
    Activation(Activation),
    /// `x op y`.
    Binary(Binary, View, Spread),
    /// `activation(x * a + b)`, a and b in one view.
    ApplyAffine(View, Option<Activation>),
    /// `dy * f'(x)`.
    Gradient(View, Activation),
    /// Zeros before and after x along channels.
    Pad { before: usize },
}

impl Map {
    /// Nothing changes.
    pub const COPY: Self = Self::Affine { scale: 1.0, shift: 0.0 };
}

/// `out = map(x)`.
pub(in crate::backend::wgpu) fn launch(op: &'static str, x: View, map: Map, out: View) -> Result<Launch> {
    let (mut scale, mut shift, mut pad) = (1.0, 0.0, 0);
    let (code, f, y, spread) = match map {
        Map::Affine { scale: a, shift: b } => {
            (scale, shift) = (a, b);
            (0, None, None, Spread::Whole)
        }
        Map::Activation(f) => (0, Some(f), None, Spread::Whole),
        Map::Binary(Binary::Add, y, spread) => (1, None, Some(y), spread),
        Map::Binary(Binary::Mul, y, spread) => (2, None, Some(y), spread),
        Map::Binary(Binary::Div, y, spread) => (3, None, Some(y), spread),
        Map::ApplyAffine(ab, f) => (4, f, Some(ab), Spread::Channel),
        Map::Gradient(dy, f) => (5, Some(f), Some(dy), Spread::Whole),
        Map::Pad { before } => {
            pad = before;
            (6, None, None, Spread::Whole)
        }
    };
    let (activation, slope) = activation(f);
    let params = Words::default()
        .sizes([out.positions(), out.channels, x.start, x.stride])
        .sizes(y.map_or([0, 0], |y| [y.start, y.stride]))
        .sizes([out.start, out.stride, x.channels, pad])
        .floats([scale, shift, slope])
        .finish()?;
    Ok(Launch {
        op,
        code: &ELEMENTWISE,
        types: alloc::vec![("X", x.dtype), ("Y", y.map_or(DType::F32, |y| y.dtype)), ("Z", out.dtype)],
        constants: alloc::vec![("OP", f64::from(code)), ("ACTIVATION", activation), ("Y_IS", f64::from(spread as u8)),],
        operands: alloc::vec![
            Operand::Value(x.buffer),
            y.map_or(Operand::None, |y| Operand::Value(y.buffer)),
            Operand::Value(out.buffer),
        ],
        params,
        grid: Grid::Items(out.positions().saturating_mul(out.channels)),
    })
}
