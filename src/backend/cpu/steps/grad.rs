//! Gradients of activations that stand alone, and sums over positions.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use super::super::memory::View;
use super::super::simd::{Simd, dispatch};
use super::super::vmath::slope_v;
use super::norm::{COLUMNS, Columns, Source};
use super::{Run, Step};
use crate::error::{Result, ensure};
use crate::graph::Activation;

/// [`ActivationGrad`](crate::graph::Op::ActivationGrad): `out = dy * f'(x)`. Within 1e-6 of each value or of the
/// slope's largest, 1.
#[derive(Debug)]
pub(in super::super) struct ActivationGrad {
    pub x: View,
    pub dy: View,
    pub out: View,
    pub f: Activation,
}

#[inline(always)]
unsafe fn activation_body<S: Simd>(x: *const f32, dy: *const f32, out: *mut f32, n: usize, f: Activation) {
    let mut i = 0;
    // SAFETY: the caller's contract: n floats at x, dy and out.
    unsafe {
        while i < n {
            let m = (n - i).min(S::LANES);
            if m == S::LANES {
                S::store(out.add(i), S::mul(S::load(dy.add(i)), slope_v::<S>(f, S::load(x.add(i)))));
            } else {
                let v = S::mul(S::load_n(dy.add(i), m), slope_v::<S>(f, S::load_n(x.add(i), m)));
                S::store_n(out.add(i), m, v);
            }
            i += m;
        }
    }
}
dispatch! {
    unsafe fn activation_raw = activation_body(x: *const f32, dy: *const f32, out: *mut f32, n: usize, f: Activation)
}

impl Step for ActivationGrad {
    fn name(&self) -> &'static str {
        "activation_grad"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let c = self.x.channels;
        // SAFETY: the plan gives the result to this step alone and keeps the arguments unwritten.
        let (x, dy, out) =
            unsafe { (run.memory.read(&self.x), run.memory.read(&self.dy), run.memory.write(&self.out)) };
        run.each_rows(self.x.positions() * run.batch, c, &|first, last| {
            for r in first..last {
                // SAFETY: a row is one task's.
                let row = unsafe { out.part(r * self.out.stride, c) };
                let x = x.get(r * self.x.stride..).and_then(|x| x.get(..c)).unwrap_or(&[]);
                let dy = dy.get(r * self.dy.stride..).and_then(|d| d.get(..c)).unwrap_or(&[]);
                ensure!(row.len() == c && x.len() == c && dy.len() == c, Shape, "row {r} is not inside its buffer");
                // SAFETY: all three have c floats.
                unsafe { activation_raw(run.isa, x.as_ptr(), dy.as_ptr(), row.as_mut_ptr(), c, self.f) };
            }
            Ok(())
        })
    }
}

/// [`SumPositions`](crate::graph::Op::SumPositions), in f64.
#[derive(Debug)]
pub(in super::super) struct SumPositions {
    pub x: View,
    pub out: View,
}

impl Step for SumPositions {
    fn name(&self) -> &'static str {
        "sum_positions"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (c, rows) = (self.x.channels, self.x.positions());
        // SAFETY: the plan gives the result to this step alone and keeps the argument unwritten.
        let (x, out) = unsafe { (run.memory.read(&self.x), run.memory.write(&self.out)) };
        let tasks = c.div_ceil(COLUMNS);
        run.each(c.saturating_mul(rows).saturating_mul(run.batch), tasks * run.batch, &|_, i| {
            let (sample, from) = (i / tasks, i % tasks * COLUMNS);
            let n = COLUMNS.min(c - from);
            let mut columns = Columns::default();
            Source { data: x, view: self.x }.columns(run, sample * rows, rows, from, n, &mut columns)?;
            // SAFETY: these channels of the sample are this task's.
            let to = unsafe { out.part(sample * self.out.stride + from, n) };
            for (to, mean) in to.iter_mut().zip(&columns.mean) {
                *to = (mean * rows as f64) as f32;
            }
            Ok(())
        })
    }
}
