//! Launches of rows.wgsl.

use super::{Access, Code, Grid, Launch, Operand, Words};
use crate::backend::wgpu::memory::View;
use crate::error::Result;
use crate::tensor::DType;

static ROWS: Code = Code {
    name: "rows",
    files: &[include_str!("rows.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Value, Access::Weight, Access::Weight, Access::Value],
};

/// What is done, as the kernel numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::wgpu) enum RowOp {
    Reshape,
    ElementBias,
    RadialBasis,
    RadialBasisGrad,
    Softmax,
    SoftmaxGrad,
    MatVec,
    Outer,
    VecMat,
}

/// `out = op(x, y)` with up to two entries of the weights.
pub(in crate::backend::wgpu) fn launch(
    op: &'static str,
    what: RowOp,
    x: View,
    y: Option<View>,
    weights: [Option<usize>; 2],
    out: View,
) -> Result<Launch> {
    let params = Words::default()
        .sizes([out.positions(), out.channels, x.positions(), x.channels, x.start, x.stride])
        .sizes(y.map_or([0, 0, 0], |y| [y.channels, y.start, y.stride]))
        .sizes([out.start, out.stride])
        .finish()?;
    let weight = |w: Option<usize>| w.map_or(Operand::None, Operand::Weight);
    let items = match what {
        RowOp::Softmax | RowOp::SoftmaxGrad => out.positions(),
        _ => out.positions().saturating_mul(out.channels),
    };
    Ok(Launch {
        op,
        code: &ROWS,
        types: alloc::vec![("X", x.dtype), ("Y", y.map_or(DType::F32, |y| y.dtype)), ("Z", out.dtype)],
        constants: alloc::vec![("OP", f64::from(what as u8))],
        operands: alloc::vec![
            Operand::Value(x.buffer),
            y.map_or(Operand::None, |y| Operand::Value(y.buffer)),
            weight(weights[0]),
            weight(weights[1]),
            Operand::Value(out.buffer),
        ],
        params,
        grid: Grid::Items(items),
    })
}
