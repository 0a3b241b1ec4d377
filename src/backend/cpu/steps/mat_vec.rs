//! Products with a matrix that is a value, of a few numbers at each position.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use super::super::memory::View;
use super::norm::COLUMNS;
use super::{Run, Step, row_of};
use crate::error::{Result, ensure};

/// [`MatVec`](crate::graph::Op::MatVec).
#[derive(Debug)]
pub struct MatVec {
    pub m: View,
    pub v: View,
    pub out: View,
}

/// The sum in eight parts, so that it vectorises in one order everywhere.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
            *s += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

impl Step for MatVec {
    fn name(&self) -> &'static str {
        "mat_vec"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let Self { m, v, out } = self;
        // SAFETY: the plan gives the result to this step alone and keeps the arguments unwritten.
        let (from, vector, to) = unsafe { (run.memory.read(m), run.memory.read(v), run.memory.write(out)) };
        let positions = m.positions();
        run.each_rows(positions * run.batch, m.channels, &|first, last| {
            for r in first..last {
                let row = row_of(from, r * m.stride, m.channels);
                let vector = row_of(vector, r / positions * v.stride, v.channels);
                // SAFETY: a row is one task's.
                let to = unsafe { to.part(r * out.stride, out.channels) };
                let inside = row.len() == m.channels && vector.len() == v.channels && to.len() == out.channels;
                ensure!(inside, Shape, "row {r} is not inside its buffer");
                for (to, row) in to.iter_mut().zip(row.chunks_exact(v.channels)) {
                    *to = dot(row, vector);
                }
            }
            Ok(())
        })
    }
}

/// [`Outer`](crate::graph::Op::Outer).
#[derive(Debug)]
pub(in super::super) struct Outer {
    pub dy: View,
    pub v: View,
    pub out: View,
}

impl Step for Outer {
    fn name(&self) -> &'static str {
        "outer"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let Self { dy, v, out } = self;
        // SAFETY: the plan gives the result to this step alone and keeps the arguments unwritten.
        let (from, vector, to) = unsafe { (run.memory.read(dy), run.memory.read(v), run.memory.write(out)) };
        let positions = dy.positions();
        run.each_rows(positions * run.batch, out.channels, &|first, last| {
            for r in first..last {
                let row = row_of(from, r * dy.stride, dy.channels);
                let vector = row_of(vector, r / positions * v.stride, v.channels);
                // SAFETY: a row is one task's.
                let to = unsafe { to.part(r * out.stride, out.channels) };
                let inside = row.len() == dy.channels && vector.len() == v.channels && to.len() == out.channels;
                ensure!(inside, Shape, "row {r} is not inside its buffer");
                for (to, d) in to.chunks_exact_mut(v.channels).zip(row) {
                    to.iter_mut().zip(vector).for_each(|(to, v)| *to = d * v);
                }
            }
            Ok(())
        })
    }
}

/// [`VecMat`](crate::graph::Op::VecMat), with sums in f64 because positions can be many.
#[derive(Debug)]
pub(in super::super) struct VecMat {
    pub m: View,
    pub dy: View,
    pub out: View,
}

impl Step for VecMat {
    fn name(&self) -> &'static str {
        "vec_mat"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let Self { m, dy, out } = self;
        // SAFETY: the plan gives the result to this step alone and keeps the arguments unwritten.
        let (from, by, to) = unsafe { (run.memory.read(m), run.memory.read(dy), run.memory.write(out)) };
        let (positions, n) = (m.positions(), out.channels);
        let tasks = n.div_ceil(COLUMNS);
        let cost = positions.saturating_mul(m.channels).saturating_mul(run.batch);
        run.each(cost, tasks * run.batch, &|_, i| {
            let (sample, begin) = (i / tasks, i % tasks * COLUMNS);
            let len = COLUMNS.min(n - begin);
            let mut sums = [0f64; COLUMNS];
            for r in sample * positions..(sample + 1) * positions {
                let (row, by) = (row_of(from, r * m.stride, m.channels), row_of(by, r * dy.stride, dy.channels));
                ensure!(row.len() == m.channels && by.len() == dy.channels, Shape, "row {r} is not inside its buffer");
                for (row, d) in row.chunks_exact(n).zip(by) {
                    for (s, m) in sums.iter_mut().zip(row_of(row, begin, len)) {
                        *s += f64::from(*m) * f64::from(*d);
                    }
                }
            }
            // SAFETY: these values of the sample are this task's.
            let to = unsafe { to.part(sample * out.stride + begin, len) };
            to.iter_mut().zip(sums).for_each(|(to, s)| *to = s as f32);
            Ok(())
        })
    }
}
