//! The backward operations that are no convolution or attention: gradients of activations and group norms, and sums.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use alloc::vec::Vec;
use core::f32::consts::{FRAC_1_SQRT_2, PI};

use super::super::isa::Isa;
use super::super::memory::View;
use super::super::vmath;
use super::norm::{COLUMNS, Columns, Source};
use super::{Run, Step};
use crate::error::{Result, ensure};
use crate::graph::Activation;

/// [`ActivationGrad`](crate::graph::Op::ActivationGrad): `out = dy * f'(x)`. Within 1e-6 of each value or of the slope's largest, 1.
#[derive(Debug)]
pub(in super::super) struct ActivationGrad {
    pub x: View,
    pub dy: View,
    pub out: View,
    pub f: Activation,
}

/// `out = f'(x)`.
fn slope(isa: Isa, f: Activation, x: &[f32], out: &mut [f32]) {
    let sigmoid = |out: &mut [f32]| {
        out.copy_from_slice(x);
        vmath::sigmoid(isa, out);
    };
    let each = |out: &mut [f32], f: &dyn Fn(f32) -> f32| {
        for (o, v) in out.iter_mut().zip(x) {
            *o = f(*v);
        }
    };
    match f {
        Activation::Silu => {
            sigmoid(out);
            for (s, v) in out.iter_mut().zip(x) {
                *s *= 1.0 + v * (1.0 - *s);
            }
        }
        Activation::Sigmoid => {
            sigmoid(out);
            out.iter_mut().for_each(|s| *s *= 1.0 - *s);
        }
        Activation::Softplus => sigmoid(out),
        Activation::Tanh => {
            out.copy_from_slice(x);
            vmath::tanh(isa, out);
            out.iter_mut().for_each(|t| *t = 1.0 - *t * *t);
        }
        Activation::Mish => each(out, &|v| {
            let t = libm::tanhf(v.max(0.0) + libm::log1pf(libm::expf(-v.abs())));
            t + v * (1.0 - t * t) / (1.0 + libm::expf(-v))
        }),
        Activation::Gelu => each(out, &|v| {
            0.5 * (1.0 + libm::erff(v * FRAC_1_SQRT_2)) + v * libm::expf(-v * v / 2.0) / libm::sqrtf(2.0 * PI)
        }),
        Activation::Relu => each(out, &|v| if v > 0.0 { 1.0 } else { 0.0 }),
        Activation::LeakyRelu { slope } => each(out, &|v| if v > 0.0 { 1.0 } else { slope }),
    }
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
                slope(run.isa, self.f, x, row);
                row.iter_mut().zip(dy).for_each(|(o, d)| *o *= d);
            }
            Ok(())
        })
    }
}

/// [`GroupNormGrad`](crate::graph::Op::GroupNormGrad). With z the normalised x of a group, r its inverse deviation and
/// g = weight * dy: `dx = r (g - mean(g) - z mean(g z))`. Sums are in f64.
#[derive(Debug)]
pub(in super::super) struct GroupNormGrad {
    pub x: View,
    pub dy: View,
    pub out: View,
    pub groups: usize,
    pub eps: f32,
    pub weight: Vec<f32>,
}

impl Step for GroupNormGrad {
    fn name(&self) -> &'static str {
        "group_norm_grad"
    }

    fn weight_bytes(&self) -> usize {
        self.weight.len() * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let cost = self.weight.len().saturating_mul(self.x.positions()).saturating_mul(run.batch);
        run.each(cost, self.groups * run.batch, &|_, i| self.group(run, i / self.groups, i % self.groups))
    }
}

impl GroupNormGrad {
    fn group(&self, run: &Run<'_>, sample: usize, group: usize) -> Result<()> {
        let per_group = self.weight.len() / self.groups;
        let (begin, rows) = (group * per_group, self.x.positions());
        let count = (per_group * rows) as f64;
        // SAFETY: the plan gives the result to this step alone and keeps the arguments unwritten.
        let (x, dy, out) = unsafe {
            (
                run.memory.read_samples(&self.x, sample, 1),
                run.memory.read_samples(&self.dy, sample, 1),
                run.memory.write_samples(&self.out, sample, 1),
            )
        };
        let (mut sum, mut squares, mut deviation) = (0.0, 0.0, 0.0);
        let source = Source { data: x, view: self.x };
        for from in (begin..begin + per_group).step_by(COLUMNS) {
            let n = COLUMNS.min(begin + per_group - from);
            let mut columns = Columns::default();
            source.columns(run, 0, rows, from, n, &mut columns)?;
            for (m, d) in columns.mean.iter().zip(&columns.deviation).take(n) {
                sum += m;
                squares += m * m;
                deviation += d;
            }
        }
        let mean = sum / per_group as f64;
        let between = (squares - sum * mean).max(0.0) * rows as f64;
        let r = 1.0 / libm::sqrt((deviation + between) / count + f64::from(self.eps));
        let row_of = |data: &'_ [f32], stride: usize, row: usize| -> Result<usize> {
            let at = row * stride + begin;
            ensure!(at + per_group <= data.len(), Shape, "row {row} is not inside its buffer");
            Ok(at)
        };
        let weight = &self.weight[begin..begin + per_group];
        let (mut sum_g, mut sum_gz) = (0.0, 0.0);
        for row in 0..rows {
            let (x, dy) = (&x[row_of(x, self.x.stride, row)?..], &dy[row_of(dy, self.dy.stride, row)?..]);
            for ((x, dy), w) in x.iter().zip(dy).zip(weight) {
                let g = f64::from(*dy) * f64::from(*w);
                sum_g += g;
                sum_gz += g * (f64::from(*x) - mean);
            }
        }
        let (mean_g, mean_gz) = (sum_g / count, sum_gz * r / count);
        for row in 0..rows {
            let (x, dy) = (&x[row_of(x, self.x.stride, row)?..], &dy[row_of(dy, self.dy.stride, row)?..]);
            // SAFETY: a group's channels of the row are this task's.
            let to = unsafe { out.part(row * self.out.stride + begin, per_group) };
            for (((to, x), dy), w) in to.iter_mut().zip(x).zip(dy).zip(weight) {
                let (g, z) = (f64::from(*dy) * f64::from(*w), (f64::from(*x) - mean) * r);
                *to = (r * (g - mean_g - z * mean_gz)) as f32;
            }
        }
        Ok(())
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
