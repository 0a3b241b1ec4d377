//! Values from f32 to bf16 and back.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use super::super::halves;
use super::super::memory::View;
use super::super::simd::{Simd, dispatch};
use super::{Run, Step};
use crate::error::{Result, ensure};

/// A dense value of the other type.
#[derive(Debug)]
pub struct Convert {
    pub x: View,
    pub out: View,
}

impl Step for Convert {
    fn name(&self) -> &'static str {
        "convert"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let Self { x, out } = *self;
        let (rows, c) = (x.positions() * run.batch, x.channels);
        // SAFETY: the plan gives the result to this step alone and keeps the argument unwritten.
        let (from, to) = unsafe { (run.memory.read(&x), run.memory.write(&out)) };
        let values = rows.saturating_mul(c);
        let floats = |v: &View| if v.half { values.div_ceil(2) } else { values };
        let fits = x.is_dense() && out.is_dense() && x.half != out.half;
        ensure!(
            fits && from.len() == floats(&x) && to.len() == floats(&out),
            Shape,
            "{} floats of {rows} rows of {c} channels",
            from.len()
        );
        run.each_rows(rows, c, &|first, last| {
            // SAFETY: the values first * c .. last * c are inside both, and are one task's of the result.
            unsafe {
                let from = from.as_ptr().cast::<u8>().add(first * c * if x.half { 2 } else { 4 });
                let to = to.as_ptr().cast::<u8>().add(first * c * if out.half { 2 } else { 4 });
                convert_raw(run.isa, from, to, (last - first) * c, x.half);
            }
            Ok(())
        })
    }
}

#[inline(always)]
unsafe fn convert_body<S: Simd>(from: *const u8, to: *mut u8, n: usize, widen: bool) {
    // SAFETY: the caller's contract: n values at both, of bf16 at one and of f32 at the other.
    unsafe {
        for i in 0..n {
            if widen {
                to.cast::<f32>().add(i).write(halves::widen(from.cast::<u16>().add(i).read()));
            } else {
                to.cast::<u16>().add(i).write(halves::narrow(from.cast::<f32>().add(i).read()));
            }
        }
    }
}
dispatch! { unsafe fn convert_raw = convert_body(from: *const u8, to: *mut u8, n: usize, widen: bool) }
