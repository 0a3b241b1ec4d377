//! Launches of channel_norm.wgsl.

use super::{Access, Code, Grid, Launch, Operand, Words, flag};
use crate::backend::wgpu::memory::View;
use crate::error::{Result, ensure};
use crate::graph::{ChannelNorm, NormKind};
use crate::tensor::DType;

static NORM: Code = Code {
    name: "channel_norm",
    files: &[include_str!("channel_norm.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Value, Access::Weight, Access::Weight, Access::Value],
};

/// The weights' entry of factors or offsets, and how many there are.
pub(in crate::backend::wgpu) type Stored = Option<(usize, usize)>;

/// `out = norm(x)` or, with a gradient dy, the gradient by x.
pub(in crate::backend::wgpu) fn launch(
    op: &'static str,
    norm: &ChannelNorm,
    x: View,
    dy: Option<View>,
    [weight, bias]: [Stored; 2],
    out: View,
) -> Result<Launch> {
    ensure!(norm.groups > 0, InvalidArgument, "a norm without groups");
    let kind = match norm.kind {
        NormKind::Layer => 0.0,
        NormKind::Rms => 1.0,
        NormKind::L2 => 2.0,
    };
    let entry = |s: Stored| s.map_or(Operand::None, |(entry, _)| Operand::Weight(entry));
    let count = |s: Stored| s.map_or(0, |(_, n)| n);
    let params = Words::default()
        .sizes([x.positions(), norm.groups, x.channels / norm.groups, x.start, x.stride])
        .sizes(dy.map_or([0, 0], |d| [d.start, d.stride]))
        .sizes([out.start, out.stride, count(weight), count(bias)])
        .floats([norm.eps])
        .finish()?;
    Ok(Launch {
        op,
        code: &NORM,
        types: alloc::vec![("X", x.dtype), ("D", dy.map_or(DType::F32, |d| d.dtype)), ("Z", out.dtype)],
        constants: alloc::vec![("KIND", kind), ("GRADIENT", flag(dy.is_some()))],
        operands: alloc::vec![
            Operand::Value(x.buffer),
            dy.map_or(Operand::None, |d| Operand::Value(d.buffer)),
            entry(weight),
            entry(bias),
            Operand::Value(out.buffer),
        ],
        params,
        grid: Grid::Items(x.positions().saturating_mul(norm.groups)),
    })
}
