//! Launches of norm.wgsl.

use super::{Access, Code, Grid, Launch, Operand, Words, flag};
use crate::backend::wgpu::memory::View;
use crate::error::{Result, err};
use crate::graph::GroupNorm;
use crate::tensor::DType;

static NORM: Code = Code {
    name: "norm",
    files: &[include_str!("norm_moments.wgsl"), include_str!("norm.wgsl")],
    adds_up: true,
    bindings: &[
        Access::Value,
        Access::Value,
        Access::Weight,
        Access::Weight,
        Access::Value,
        Access::Value,
        Access::Value,
    ],
};

/// `out` takes the factors and offsets that normalise the joined sources. `weights` are the entries of the norm's
/// weight and bias.
pub(in crate::backend::wgpu) fn launch(
    op: &'static str,
    norm: &GroupNorm,
    sources: &[View],
    modulation: Option<[View; 2]>,
    weights: [usize; 2],
    out: View,
) -> Result<Launch> {
    let &[x0, ref rest @ ..] = sources else { return Err(err!(InvalidArgument, "no sources")) };
    let x1 = rest.first().copied();
    let channels: usize = sources.iter().map(|s| s.channels).sum();
    let place = |v: Option<View>| v.map_or([0, 0], |v| [v.start, v.stride]);
    let (m, s) = (modulation.map(|v| v[0]), modulation.map(|v| v[1]));
    let params = Words::default()
        .sizes([x0.positions(), norm.groups, channels, x0.channels])
        .sizes(place(Some(x0)))
        .sizes(place(x1))
        .sizes(place(m))
        .sizes(place(s))
        .sizes(place(Some(out)))
        .floats([norm.eps])
        .finish()?;
    let value = |v: Option<View>| v.map_or(Operand::None, |v| Operand::Value(v.buffer));
    Ok(Launch {
        op,
        code: &NORM,
        types: alloc::vec![("A", x0.dtype), ("B", x1.map_or(DType::F32, |v| v.dtype))],
        constants: alloc::vec![
            ("SIZE", (channels / norm.groups) as f64),
            ("JOINED", flag(x1.is_some())),
            ("MODULATED", flag(modulation.is_some())),
        ],
        operands: alloc::vec![
            value(Some(x0)),
            value(x1),
            Operand::Weight(weights[0]),
            Operand::Weight(weights[1]),
            value(m),
            value(s),
            value(Some(out)),
        ],
        params,
        grid: Grid::Groups(norm.groups),
    })
}
