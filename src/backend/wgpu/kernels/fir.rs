//! Launches of fir.wgsl: filters, and pooling and upsampling as filters.

use alloc::vec::Vec;

use super::{Access, Code, Grid, Launch, Operand, Words};
use crate::backend::wgpu::memory::View;
use crate::error::{Result, err};

static FIR: Code = Code {
    name: "fir",
    files: &[include_str!("fir.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Weight, Access::Value],
};

/// A filter along rows and columns, as in `Op::Fir`.
#[derive(Clone, Debug)]
pub(in crate::backend::wgpu) struct Filter {
    pub taps: Vec<f32>,
    pub up: usize,
    pub down: usize,
    /// Zeros before.
    pub before: isize,
}

impl Filter {
    /// Repeats each pixel.
    pub fn repeat(factor: usize) -> Self {
        Self { taps: alloc::vec![1.0; factor], up: factor, down: 1, before: factor as isize - 1 }
    }

    /// The mean of whole windows.
    pub fn mean(factor: usize) -> Self {
        Self { taps: alloc::vec![1.0 / factor as f32; factor], up: 1, down: factor, before: 0 }
    }
}

/// `out = filter(x)`; `taps` is the weights' entry of the taps.
pub(in crate::backend::wgpu) fn launch(
    op: &'static str,
    x: View,
    filter: &Filter,
    taps: usize,
    out: View,
) -> Result<Launch> {
    let whole = |v: usize| i32::try_from(v).map_err(|_| err!(Unsupported, "a size of {v} is too large"));
    let before = i32::try_from(filter.before).map_err(|_| err!(Unsupported, "a padding of {}", filter.before))?;
    let params = Words::default()
        .sizes([out.positions(), out.width, out.channels])
        .signed([whole(x.height)?, whole(x.width)?])
        .sizes([x.start, x.stride, out.start, out.stride])
        .signed([whole(filter.up)?, whole(filter.down)?, before, whole(filter.taps.len())?])
        .finish()?;
    Ok(Launch {
        op,
        code: &FIR,
        types: alloc::vec![("X", x.dtype), ("Z", out.dtype)],
        constants: Vec::new(),
        operands: alloc::vec![Operand::Value(x.buffer), Operand::Weight(taps), Operand::Value(out.buffer)],
        params,
        grid: Grid::Items(out.positions().saturating_mul(out.channels)),
    })
}
