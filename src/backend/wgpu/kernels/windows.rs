//! Launches of windows.wgsl.

use super::{Access, Code, Grid, Launch, Operand, Words, flag};
use crate::backend::wgpu::memory::View;
use crate::error::{Result, ensure};
use crate::graph::Window;
use crate::tensor::DType;

static WINDOWS: Code = Code {
    name: "windows",
    files: &[include_str!("windows.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Value, Access::Weight, Access::Weight, Access::Value],
};

/// What is done, with entries of the weights.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::wgpu) enum Look {
    Conv {
        weight: usize,
        bias: Option<usize>,
    },
    ConvAdjoint {
        weight: usize,
    },
    MaxPool,
    /// Of this dy.
    MaxPoolGrad(View),
    /// Of a table of so many rows.
    NearestRow {
        table: usize,
        rows: usize,
    },
}

/// `out = look(x)`; of a row the window is a point.
pub(in crate::backend::wgpu) fn launch(op: &'static str, what: Look, x: View, w: &Window, out: View) -> Result<Launch> {
    ensure!(w.stride > 0 && w.groups > 0, InvalidArgument, "a window {w:?}");
    let (code, y, weight, bias, rows) = match what {
        Look::Conv { weight, bias } => (0, None, Some(weight), bias, 0),
        Look::ConvAdjoint { weight } => (1, None, Some(weight), None, 0),
        Look::MaxPool => (2, None, None, None, 0),
        Look::MaxPoolGrad(dy) => (3, Some(dy), None, None, 0),
        Look::NearestRow { table, rows } => (4, None, Some(table), None, rows),
    };
    let params = Words::default()
        .sizes([out.positions(), out.width, out.channels, x.height, x.width, x.channels, x.start, x.stride])
        .sizes(y.map_or([0; 4], |y| [y.height, y.width, y.start, y.stride]))
        .sizes([out.start, out.stride, w.kernel[0], w.kernel[1], w.stride, w.padding.top, w.padding.left])
        .sizes([w.dilation, w.groups, rows])
        .finish()?;
    let entry = |w: Option<usize>| w.map_or(Operand::None, Operand::Weight);
    let items = match what {
        Look::NearestRow { .. } => out.positions(),
        _ => out.positions().saturating_mul(out.channels),
    };
    Ok(Launch {
        op,
        code: &WINDOWS,
        types: alloc::vec![("X", x.dtype), ("Y", y.map_or(DType::F32, |y| y.dtype)), ("Z", out.dtype)],
        constants: alloc::vec![("OP", f64::from(code)), ("BIAS", flag(bias.is_some()))],
        operands: alloc::vec![
            Operand::Value(x.buffer),
            y.map_or(Operand::None, |y| Operand::Value(y.buffer)),
            entry(weight),
            entry(bias),
            Operand::Value(out.buffer),
        ],
        params,
        grid: Grid::Items(items),
    })
}
