//! Launches of attention.wgsl.

use super::{Access, Code, Grid, Launch, Operand, Words};
use crate::backend::wgpu::memory::View;
use crate::error::{Result, ensure};

static ATTENTION: Code = Code {
    name: "attention",
    files: &[include_str!("attention_tiles.wgsl"), include_str!("attention.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Value, Access::Value, Access::Value],
};

/// Channels of a value that a block of the kernel covers.
const BLOCK: usize = 64;

/// Blocks of this many channels that an invocation takes, and the workgroups that share them.
pub(super) fn blocks(channels: usize) -> (usize, usize) {
    let blocks = match channels.div_ceil(BLOCK) {
        n @ ..=2 => n.max(1),
        _ => 4,
    };
    (blocks, channels.div_ceil(BLOCK * blocks))
}

/// `out = attention(q, k, v)`.
pub(in crate::backend::wgpu) fn launch(
    op: &'static str,
    heads: usize,
    [q, k, v]: [View; 3],
    out: View,
) -> Result<Launch> {
    ensure!(heads > 0, InvalidArgument, "attention without heads");
    let (channels, value_channels) = (q.channels / heads, v.channels / heads);
    let (blocks, parts) = blocks(value_channels);
    let params = Words::default()
        .sizes([q.positions(), k.positions(), heads, channels, value_channels, parts])
        .sizes([q, k, v, out].into_iter().flat_map(|v| [v.start, v.stride]))
        .floats([(1.0 / libm::sqrt(channels as f64)) as f32])
        .finish()?;
    Ok(Launch {
        op,
        code: &ATTENTION,
        types: alloc::vec![("A", q.dtype), ("B", k.dtype), ("C", v.dtype), ("Y", out.dtype)],
        constants: alloc::vec![("BLOCKS", blocks as f64)],
        operands: [q, k, v, out].map(|v| Operand::Value(v.buffer)).to_vec(),
        params,
        grid: Grid::Groups(q.positions().div_ceil(32).saturating_mul(heads).saturating_mul(parts)),
    })
}
