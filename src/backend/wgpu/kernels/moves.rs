//! Launches of moves.wgsl.

use super::{Access, Code, Grid, Launch, Operand, Words, flag};
use crate::backend::wgpu::memory::View;
use crate::error::{Result, err};
use crate::tensor::DType;

static MOVES: Code = Code {
    name: "moves",
    files: &[include_str!("moves.wgsl")],
    adds_up: false,
    bindings: &[Access::Value, Access::Weight, Access::Value],
};

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::wgpu) enum Move {
    DepthToSpace {
        factor: [usize; 2],
        blocks_first: bool,
    },
    SpaceToDepth {
        factor: [usize; 2],
        blocks_first: bool,
    },
    /// Rows above and columns to the left.
    ReflectPad([usize; 2]),
    ReflectPadAdjoint([usize; 2]),
    ShuffleChannels {
        rows: usize,
        columns: usize,
    },
    /// Positions from this one on, which may be negative: zeros outside.
    Positions(isize),
    /// The positions of x become those of the result from this one on; the others stay.
    Place(usize),
    /// The weights' entry of a parameter, positions outermost.
    Parameter(usize),
}

/// `out` is x moved; a parameter has no x.
pub(in crate::backend::wgpu) fn launch(op: &'static str, what: Move, x: Option<View>, out: View) -> Result<Launch> {
    let signed = |v: isize| i32::try_from(v).map_err(|_| err!(Unsupported, "a size of {v} is too large"));
    let whole = |v: usize| i32::try_from(v).map_err(|_| err!(Unsupported, "a size of {v} is too large"));
    let pair = |[a, b]: [usize; 2]| -> Result<[i32; 2]> { Ok([whole(a)?, whole(b)?]) };
    let (code, words, first) = match what {
        Move::DepthToSpace { factor, blocks_first } => (0, pair(factor)?, blocks_first),
        Move::SpaceToDepth { factor, blocks_first } => (1, pair(factor)?, blocks_first),
        Move::ReflectPad(before) => (2, pair(before)?, false),
        Move::ReflectPadAdjoint(before) => (3, pair(before)?, false),
        Move::ShuffleChannels { rows, columns } => (4, pair([rows, columns])?, false),
        Move::Positions(start) => (5, [signed(start)?, 0], false),
        Move::Place(start) => (6, [whole(start)?, 0], false),
        Move::Parameter(_) => (7, [0, 0], false),
    };
    let seen = x.unwrap_or(out);
    // What each invocation makes a value of: of the result, or of x where it is a part of the result.
    let (made, other) = if let Move::Place(_) = what { (seen, out) } else { (out, seen) };
    let params = Words::default()
        .sizes([made.positions(), out.height, out.width, out.channels])
        .sizes([other.positions(), seen.height, seen.width, seen.channels])
        .sizes([seen.start, seen.stride, out.start, out.stride])
        .signed(words)
        .finish()?;
    let weight = if let Move::Parameter(entry) = what { Operand::Weight(entry) } else { Operand::None };
    Ok(Launch {
        op,
        code: &MOVES,
        types: alloc::vec![("X", x.map_or(DType::F32, |x| x.dtype)), ("Z", out.dtype)],
        constants: alloc::vec![("OP", f64::from(code)), ("BLOCKS_FIRST", flag(first))],
        operands: alloc::vec![
            x.map_or(Operand::None, |x| Operand::Value(x.buffer)),
            weight,
            Operand::Value(out.buffer),
        ],
        params,
        grid: Grid::Items(made.positions().saturating_mul(out.channels)),
    })
}
