//! Launches of linear_attention.wgsl.

use super::{Access, Code, Grid, Launch, Operand, Words};
use crate::backend::wgpu::memory::View;
use crate::error::Result;
use crate::tensor::DType;

static LINEAR: Code = Code {
    name: "linear_attention",
    files: &[include_str!("linear_attention.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Value, Access::Value],
};

/// What a stage makes, as the kernel numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::wgpu) enum Stage {
    SoftmaxChannels,
    SoftmaxPositions,
    Couple,
    Apply,
    ApplyTransposed,
    GradientChannels,
    GradientPositions,
}

/// Heads, channels of a head of queries and keys, and of values.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::wgpu) struct Heads {
    pub heads: usize,
    pub d: usize,
    pub e: usize,
}

/// `out = stage(a, b)`.
pub(in crate::backend::wgpu) fn launch(
    op: &'static str,
    stage: Stage,
    heads: Heads,
    a: View,
    b: Option<View>,
    out: View,
) -> Result<Launch> {
    let Heads { heads, d, e } = heads;
    // The matrix that is applied has no positions.
    let applies = matches!(stage, Stage::Apply | Stage::ApplyTransposed);
    let positions = if applies { out.positions() } else { a.positions() };
    let params = Words::default()
        .sizes([positions, heads, d, e, a.start, a.stride])
        .sizes(b.map_or([0, 0], |b| [b.start, b.stride]))
        .sizes([out.start, out.stride])
        .finish()?;
    let items = match stage {
        Stage::SoftmaxChannels | Stage::GradientChannels => positions.saturating_mul(heads),
        Stage::SoftmaxPositions | Stage::GradientPositions => heads.saturating_mul(d),
        Stage::Couple => heads.saturating_mul(d).saturating_mul(e),
        Stage::Apply => positions.saturating_mul(heads).saturating_mul(e),
        Stage::ApplyTransposed => positions.saturating_mul(heads).saturating_mul(d),
    };
    Ok(Launch {
        op,
        code: &LINEAR,
        types: alloc::vec![("A", a.dtype), ("B", b.map_or(DType::F32, |b| b.dtype)), ("Z", out.dtype)],
        constants: alloc::vec![("STAGE", f64::from(stage as u8))],
        operands: alloc::vec![
            Operand::Value(a.buffer),
            b.map_or(Operand::None, |b| Operand::Value(b.buffer)),
            Operand::Value(out.buffer),
        ],
        params,
        grid: Grid::Items(items),
    })
}
