//! Linear attention: a head's keys and values become one small matrix, which every query is multiplied by.
//!
//! Positions are summed in blocks, so that a sum over an image's pixels keeps its digits.
#![allow(unsafe_code)] // Tasks write disjoint heads of the result and have parts of the step's memory of their own.

use super::super::memory::View;
use super::super::vmath;
use super::{Run, Step, row_of};
use crate::error::{Result, ensure, err};

/// Positions that are summed before their sum is added to the rest.
const BLOCK: usize = 64;

/// [`LinearAttention`](crate::graph::Op::LinearAttention).
#[derive(Debug)]
pub struct LinearAttention {
    pub heads: usize,
    pub q: View,
    pub k: View,
    pub v: View,
    pub out: View,
}

impl LinearAttention {
    /// Channels of a head of q and of v.
    fn dims(&self) -> (usize, usize) {
        (self.q.channels / self.heads.max(1), self.v.channels / self.heads.max(1))
    }

    /// What a worker needs: the context and a block's part of it, `[d][e]` each; the largest keys, their sum, a block's
    /// and a row, `[d]` each.
    fn scratch(&self) -> Option<usize> {
        let (d, e) = self.dims();
        d.checked_mul(e)?.checked_mul(2)?.checked_add(d.checked_mul(4)?)?.checked_next_multiple_of(16)
    }

    fn head(&self, run: &Run<'_>, sample: usize, head: usize, scratch: &mut [f32]) -> Result<()> {
        let (d, e) = self.dims();
        let missing = || err!(Shape, "linear attention reads outside of its buffers");
        let (context, rest) = scratch.split_at_mut_checked(d * e).ok_or_else(missing)?;
        let (part, rest) = rest.split_at_mut_checked(d * e).ok_or_else(missing)?;
        let (largest, rest) = rest.split_at_mut_checked(d).ok_or_else(missing)?;
        let (sum, rest) = rest.split_at_mut_checked(d).ok_or_else(missing)?;
        let (part_sum, rest) = rest.split_at_mut_checked(d).ok_or_else(missing)?;
        let row = rest.get_mut(..d).ok_or_else(missing)?;
        // SAFETY: the plan keeps arguments unwritten while a step reads them.
        let read = |v: &View| unsafe { run.memory.read_samples(v, sample, 1) };
        let (q, k, v) = (read(&self.q), read(&self.k), read(&self.v));
        let key = |p: usize| row_of(k, p * self.k.stride + head * d, d);
        let value = |p: usize| row_of(v, p * self.v.stride + head * e, e);
        let keys = self.k.positions();
        largest.fill(f32::NEG_INFINITY);
        for p in 0..keys {
            largest.iter_mut().zip(key(p)).for_each(|(m, v)| *m = if *v > *m { *v } else { *m });
        }
        context.fill(0.0);
        sum.fill(0.0);
        for first in (0..keys).step_by(BLOCK) {
            part.fill(0.0);
            part_sum.fill(0.0);
            for p in first..keys.min(first + BLOCK) {
                row.iter_mut().zip(key(p)).zip(&*largest).for_each(|((to, k), m)| *to = k - m);
                vmath::exp(run.isa, row);
                part_sum.iter_mut().zip(&*row).for_each(|(s, v)| *s += v);
                for (to, weight) in part.chunks_exact_mut(e).zip(&*row) {
                    to.iter_mut().zip(value(p)).for_each(|(to, v)| *to += weight * v);
                }
            }
            context.iter_mut().zip(&*part).for_each(|(to, v)| *to += v);
            sum.iter_mut().zip(&*part_sum).for_each(|(to, v)| *to += v);
        }
        for (to, s) in context.chunks_exact_mut(e).zip(&*sum) {
            to.iter_mut().for_each(|v| *v /= s);
        }
        // SAFETY: the plan gives the result to this step alone, and these channels of this sample are this task's.
        let out = unsafe { run.memory.write_samples(&self.out, sample, 1) };
        for p in 0..self.q.positions() {
            let query = row_of(q, p * self.q.stride + head * d, d);
            ensure!(query.len() == d, Shape, "query {p} is not inside its buffer");
            row.copy_from_slice(query);
            vmath::softmax_row(run.isa, row, 1.0);
            // SAFETY: as above.
            let to = unsafe { out.part(p * self.out.stride + head * e, e) };
            to.fill(0.0);
            for (from, weight) in context.chunks_exact(e).zip(&*row) {
                to.iter_mut().zip(from).for_each(|(to, v)| *to += weight * v);
            }
        }
        Ok(())
    }
}

impl Step for LinearAttention {
    fn name(&self) -> &'static str {
        "linear_attention"
    }

    fn own(&self, _batch: usize, workers: usize) -> Option<usize> {
        self.scratch()?.checked_mul(workers)
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (d, _) = self.dims();
        let len = self.scratch().ok_or_else(|| err!(OutOfMemory, "linear attention over {d} channels is too large"))?;
        let heads = self.heads * run.batch;
        let cost = self.v.channels.saturating_mul(self.v.positions()).saturating_mul(d).saturating_mul(run.batch);
        run.each(cost, heads, &|worker, i| {
            // SAFETY: `each` gives one worker number to one thread at a time, so this part is one thread's.
            let scratch = unsafe { run.memory.own(worker * len, len).part(0, len) };
            self.head(run, i / self.heads, i % self.heads, scratch)
        })
    }
}
