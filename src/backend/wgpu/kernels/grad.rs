//! Launches of norm_grad.wgsl, sum_positions.wgsl and attention_grad.wgsl.

use alloc::vec::Vec;

use super::attention::blocks;
use super::{Access, Code, Grid, Launch, Operand, Words, activation, flag};
use crate::backend::wgpu::memory::View;
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, GroupNorm};
use crate::tensor::DType;

static NORM: Code = Code {
    name: "norm_grad",
    files: &[include_str!("norm_moments.wgsl"), include_str!("norm_grad.wgsl")],
    adds_up: true,
    bindings: &[
        Access::Value,
        Access::Value,
        Access::Weight,
        Access::Value,
        Access::Value,
        Access::Value,
        Access::Value,
        Access::Value,
    ],
};

static SUM: Code = Code {
    name: "sum_positions",
    files: &[include_str!("sum_positions.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Value],
};

static ATTENTION: Code = Code {
    name: "attention_grad",
    files: &[include_str!("attention_tiles.wgsl"), include_str!("attention_grad.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Value, Access::Value, Access::Value, Access::Value, Access::Value],
};

/// The gradient of a group norm and what stood behind it.
#[derive(Clone, Debug)]
pub(in crate::backend::wgpu) struct NormGrad {
    /// One or two.
    pub sources: Vec<View>,
    pub modulation: Option<[View; 2]>,
    pub activation: Option<Activation>,
    pub dy: View,
    /// Added to the result.
    pub residual: Option<View>,
    /// The weights' entry of the factors, then the offsets.
    pub weight: usize,
    pub out: View,
}

/// The launch of a group norm's gradient.
pub(in crate::backend::wgpu) fn norm(op: &'static str, norm: &GroupNorm, n: &NormGrad) -> Result<Launch> {
    ensure!(norm.groups > 0, InvalidArgument, "a norm without groups");
    let &[x0, ref rest @ ..] = n.sources.as_slice() else { return Err(err!(InvalidArgument, "no sources")) };
    let x1 = rest.first().copied();
    let (m, s) = (n.modulation.map(|v| v[0]), n.modulation.map(|v| v[1]));
    let (code, slope) = activation(n.activation);
    let place = |v: Option<View>| v.map_or([0, 0], |v| [v.start, v.stride]);
    let value = |v: Option<View>| v.map_or(Operand::None, |v| Operand::Value(v.buffer));
    let dtype = |v: Option<View>| v.map_or(DType::F32, |v| v.dtype);
    let params = Words::default()
        .sizes([x0.positions(), norm.groups, x0.channels])
        .sizes([Some(x0), x1, m, s, Some(n.dy), n.residual, Some(n.out)].into_iter().flat_map(place))
        .floats([norm.eps, slope])
        .finish()?;
    Ok(Launch {
        op,
        code: &NORM,
        types: alloc::vec![
            ("A", x0.dtype),
            ("B", dtype(x1)),
            ("D", n.dy.dtype),
            ("R", dtype(n.residual)),
            ("Z", n.out.dtype),
        ],
        constants: alloc::vec![
            ("SIZE", (n.out.channels / norm.groups) as f64),
            ("JOINED", flag(x1.is_some())),
            ("MODULATED", flag(m.is_some())),
            ("RESIDUAL", flag(n.residual.is_some())),
            ("ACTIVATION", code),
        ],
        operands: alloc::vec![
            value(Some(x0)),
            value(x1),
            Operand::Weight(n.weight),
            value(m),
            value(s),
            value(Some(n.dy)),
            value(n.residual),
            value(Some(n.out)),
        ],
        params,
        grid: Grid::Groups(norm.groups),
    })
}

/// `out[c]` is the sum of x over positions.
pub(in crate::backend::wgpu) fn sum_positions(op: &'static str, x: View, out: View) -> Result<Launch> {
    let params = Words::default()
        .sizes([x.positions(), x.channels])
        .sizes([x, out].into_iter().flat_map(|v| [v.start, v.stride]))
        .finish()?;
    Ok(Launch {
        op,
        code: &SUM,
        types: alloc::vec![("X", x.dtype), ("Z", out.dtype)],
        constants: Vec::new(),
        operands: alloc::vec![Operand::Value(x.buffer), Operand::Value(out.buffer)],
        params,
        grid: Grid::Groups(x.channels.div_ceil(64)),
    })
}

/// Gradients of attention by q and, unless `query_only`, k and v, stacked in `out`. `stats` has rows of `2 * heads` f32
/// for each query.
pub(in crate::backend::wgpu) fn attention(
    op: &'static str,
    heads: usize,
    query_only: bool,
    [q, k, v, dy]: [View; 4],
    stats: View,
    out: View,
) -> Result<Vec<Launch>> {
    ensure!(heads > 0, InvalidArgument, "attention without heads");
    let (channels, value_channels) = (q.channels / heads, v.channels / heads);
    let made = [
        (0, q.positions(), 1, 0),
        (1, q.positions(), channels, 0),
        (2, k.positions(), channels, q.channels),
        (3, k.positions(), value_channels, q.channels + k.channels),
    ];
    let stages = if query_only { 2 } else { made.len() };
    let launch = |&(stage, rows, made, start): &(usize, usize, usize, usize)| -> Result<Launch> {
        let (blocks, parts) = blocks(made);
        let params = Words::default()
            .sizes([q.positions(), k.positions(), heads, channels, value_channels, parts])
            .sizes([q, k, v, dy].into_iter().flat_map(|v| [v.start, v.stride]))
            .sizes([stats.stride, out.start + start, out.stride])
            .floats([(1.0 / libm::sqrt(channels as f64)) as f32])
            .finish()?;
        Ok(Launch {
            op,
            code: &ATTENTION,
            types: alloc::vec![("A", q.dtype), ("B", k.dtype), ("C", v.dtype), ("D", dy.dtype), ("Y", out.dtype),],
            constants: alloc::vec![("STAGE", stage as f64), ("BLOCKS", blocks as f64)],
            operands: [q, k, v, dy, stats, out].map(|v| Operand::Value(v.buffer)).to_vec(),
            params,
            grid: Grid::Groups(rows.div_ceil(32).saturating_mul(heads).saturating_mul(parts)),
        })
    };
    made.iter().take(stages).map(launch).collect()
}
