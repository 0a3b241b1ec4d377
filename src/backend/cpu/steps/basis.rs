//! Radial basis functions and the softmax over channels that normalises them, with their gradients. All sums are short.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use super::super::aligned::Floats;
use super::super::memory::View;
use super::super::vmath;
use super::{Run, Step, row_of};
use crate::error::{Result, ensure};

/// Calls `f(row of a, row of b, row of out)` for every position of every sample. The rows have the views' channels.
fn each(run: &Run<'_>, a: &View, b: &View, out: &View, f: impl Fn(&[f32], &[f32], &mut [f32]) + Sync) -> Result<()> {
    // SAFETY: the plan gives the result to this step alone and keeps the arguments unwritten.
    let (a_from, b_from, to) = unsafe { (run.memory.read(a), run.memory.read(b), run.memory.write(out)) };
    let widest = a.channels.max(b.channels).max(out.channels);
    run.each_rows(out.positions() * run.batch, widest, &|first, last| {
        for r in first..last {
            let (a_row, b_row) = (row_of(a_from, r * a.stride, a.channels), row_of(b_from, r * b.stride, b.channels));
            // SAFETY: a row is one task's.
            let row = unsafe { to.part(r * out.stride, out.channels) };
            let inside = a_row.len() == a.channels && b_row.len() == b.channels && row.len() == out.channels;
            ensure!(inside, Shape, "row {r} is not inside its buffer");
            f(a_row, b_row, row);
        }
        Ok(())
    })
}

/// [`RadialBasis`](crate::graph::Op::RadialBasis).
#[derive(Debug)]
pub struct RadialBasis {
    pub x: View,
    pub out: View,
    pub centres: Floats,
    pub widths: Floats,
}

impl Step for RadialBasis {
    fn name(&self) -> &'static str {
        "radial_basis"
    }

    fn weight_bytes(&self) -> usize {
        (self.centres.len() + self.widths.len()) * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        each(run, &self.x, &self.x, &self.out, |x, _, out| {
            for ((y, c), w) in out.iter_mut().zip(self.centres.chunks_exact(x.len())).zip(&*self.widths) {
                let distance: f32 = x.iter().zip(c).map(|(x, c)| (x - c) * (x - c)).sum();
                *y = -distance / (2.0 * w * w);
            }
        })
    }
}

/// [`NearestRow`](crate::graph::Op::NearestRow). Distances are in f64, so that every path finds the same row.
#[derive(Debug)]
pub struct NearestRow {
    pub x: View,
    pub out: View,
    pub table: Floats,
}

impl Step for NearestRow {
    fn name(&self) -> &'static str {
        "nearest_row"
    }

    fn weight_bytes(&self) -> usize {
        self.table.len() * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        each(run, &self.x, &self.x, &self.out, |x, _, out| {
            let (mut nearest, mut least) = (None, f64::INFINITY);
            for row in self.table.chunks_exact(x.len()) {
                let square = |(x, c): (&f32, &f32)| (f64::from(*x) - f64::from(*c)) * (f64::from(*x) - f64::from(*c));
                let distance: f64 = x.iter().zip(row).map(square).sum();
                if distance < least {
                    (nearest, least) = (Some(row), distance);
                }
            }
            match nearest {
                Some(row) => out.copy_from_slice(row),
                None => out.fill(f32::NAN),
            }
        })
    }
}

/// [`RadialBasisGrad`](crate::graph::Op::RadialBasisGrad).
#[derive(Debug)]
pub(in super::super) struct RadialBasisGrad {
    pub x: View,
    pub dy: View,
    pub out: View,
    pub centres: Floats,
    pub widths: Floats,
}

impl Step for RadialBasisGrad {
    fn name(&self) -> &'static str {
        "radial_basis_grad"
    }

    fn weight_bytes(&self) -> usize {
        (self.centres.len() + self.widths.len()) * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        each(run, &self.x, &self.dy, &self.out, |x, dy, out| {
            out.fill(0.0);
            for ((c, w), dy) in self.centres.chunks_exact(x.len()).zip(&*self.widths).zip(dy) {
                let factor = dy / (w * w);
                for ((o, c), x) in out.iter_mut().zip(c).zip(x) {
                    *o += factor * (c - x);
                }
            }
        })
    }
}

/// [`Softmax`](crate::graph::Op::Softmax); errors as `vmath::softmax_row` states them.
#[derive(Debug)]
pub struct Softmax {
    pub x: View,
    pub out: View,
}

impl Step for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        each(run, &self.x, &self.x, &self.out, |x, _, out| {
            out.copy_from_slice(x);
            vmath::softmax_row(run.isa, out, 1.0);
        })
    }
}

/// [`SoftmaxGrad`](crate::graph::Op::SoftmaxGrad). The sum is in f64.
#[derive(Debug)]
pub(in super::super) struct SoftmaxGrad {
    pub y: View,
    pub dy: View,
    pub out: View,
}

impl Step for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax_grad"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        each(run, &self.y, &self.dy, &self.out, |y, dy, out| {
            let mean: f64 = y.iter().zip(dy).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum();
            for ((o, y), d) in out.iter_mut().zip(y).zip(dy) {
                *o = y * (f64::from(*d) - mean) as f32;
            }
        })
    }
}
