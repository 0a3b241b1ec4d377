//! Embeddings of one number: the diffusion step, the noise level, the class.
#![allow(unsafe_code)] // Writes rows of the arena.

use alloc::borrow::Cow;

use super::super::aligned::Floats;
use super::super::memory::View;
use super::{Run, Step};
use crate::error::{Result, ensure, err};

/// What becomes of the number.
#[derive(Debug)]
pub enum Kind {
    /// Sines and cosines of the number (or its logarithm) times these frequencies.
    Waves { frequencies: Cow<'static, [f64]>, log: bool, cosines_first: bool },
    /// The row of a table that the number names.
    Table { table: Floats },
    /// 1 at the place that the number names.
    OneHot,
    /// [`TemporalBasis`](crate::graph::Op::TemporalBasis).
    Bumps { steps: usize, width: f64 },
}

/// The bumps at a whole step, times `weight`, added to `out`.
fn add_bumps(step: f64, steps: usize, width: f64, weight: f64, out: &mut [f32]) {
    let n = out.len();
    let grid = |i: f64, n: usize| 2.0 * i / (n - 1) as f64 - 1.0;
    let x = grid(step, steps);
    let log = |j: usize| {
        let d = (x - grid(j as f64, n)) / width;
        -0.5 * d * d
    };
    // The largest is set apart, so that narrow bumps do not vanish together.
    let largest = (0..n).map(log).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = (0..n).map(|j| libm::exp(log(j) - largest)).sum();
    for (j, v) in out.iter_mut().enumerate() {
        *v += (weight * libm::exp(log(j) - largest) / sum) as f32;
    }
}

/// An embedding of `[1]` to `[dim]`.
#[derive(Debug)]
pub struct Embed {
    pub name: &'static str,
    pub x: View,
    pub out: View,
    pub kind: Kind,
}

impl Step for Embed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn weight_bytes(&self) -> usize {
        match &self.kind {
            Kind::Waves { frequencies, .. } => frequencies.len() * size_of::<f64>(),
            Kind::Table { table } => table.len() * size_of::<f32>(),
            Kind::Bumps { .. } | Kind::OneHot => 0,
        }
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let dim = self.out.channels;
        // SAFETY: the plan gives the result to this step alone and keeps the argument unwritten.
        let (x, out) = unsafe { (run.memory.read(&self.x), run.memory.write(&self.out)) };
        for sample in 0..run.batch {
            let missing = || err!(Shape, "an embedding reads outside of its argument");
            let v = *x.get(sample * self.x.stride).ok_or_else(missing)?;
            // SAFETY: one thread, one row at a time.
            let out = unsafe { out.part(sample * self.out.stride, dim) };
            match &self.kind {
                Kind::Waves { frequencies, log, cosines_first } => {
                    let v = if *log { libm::log(f64::from(v)) } else { f64::from(v) };
                    let (first, second) = out.split_at_mut(frequencies.len().min(dim));
                    second.fill(0.0);
                    for ((a, b), f) in first.iter_mut().zip(second).zip(frequencies.iter()) {
                        let (sin, cos) = libm::sincos(v * f);
                        let (x, y) = if *cosines_first { (cos, sin) } else { (sin, cos) };
                        (*a, *b) = (x as f32, y as f32);
                    }
                }
                Kind::Table { table } => {
                    let rows = table.len() / dim.max(1);
                    ensure!(
                        v >= 0.0 && v < rows as f32 && libm::floorf(v) == v,
                        InvalidArgument,
                        "class {v} of an embedding with {rows} rows"
                    );
                    let row = table.get(v as usize * dim..).and_then(|t| t.get(..dim)).ok_or_else(missing)?;
                    out.copy_from_slice(row);
                }
                Kind::OneHot => {
                    ensure!(
                        v >= 0.0 && v < dim as f32 && libm::floorf(v) == v,
                        InvalidArgument,
                        "class {v} of {dim}, expected a whole number below"
                    );
                    out.fill(0.0);
                    *out.get_mut(v as usize).ok_or_else(missing)? = 1.0;
                }
                &Kind::Bumps { steps, width } => {
                    let last = (steps - 1) as f64;
                    let t = f64::from(v).clamp(0.0, last);
                    let below = libm::floor(t);
                    out.fill(0.0);
                    add_bumps(below, steps, width, 1.0 - (t - below), out);
                    if t != below {
                        add_bumps((below + 1.0).min(last), steps, width, t - below, out);
                    }
                }
            }
        }
        Ok(())
    }
}
