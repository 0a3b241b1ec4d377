//! Linear attention: a head's keys and values become one small matrix, which every query is multiplied by.
//!
//! Positions are summed in blocks, so that a sum over an image's pixels keeps its digits.
#![allow(unsafe_code)] // Tasks write disjoint heads of the result and have parts of the step's memory of their own.

use super::super::isa::Isa;
use super::super::memory::View;
use super::super::vmath;
use super::{Run, Step, row_of};
use crate::error::{Error, Result, ensure, err};

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

/// Memory of a worker: the context and a block's part of it, `[d][e]` each; the largest keys, their sums, a block's and
/// a row, `[d]` each.
struct Scratch<'a> {
    context: &'a mut [f32],
    part: &'a mut [f32],
    largest: &'a mut [f32],
    sum: &'a mut [f32],
    part_sum: &'a mut [f32],
    row: &'a mut [f32],
}

/// Floats of a [`Scratch`].
fn scratch_len([d, e]: [usize; 2]) -> Option<usize> {
    d.checked_mul(e)?.checked_mul(2)?.checked_add(d.checked_mul(4)?)?.checked_next_multiple_of(16)
}

fn missing() -> Error {
    err!(Shape, "linear attention reads outside of its buffers")
}

/// The first `n` floats of what is left.
fn next<'a>(rest: &mut &'a mut [f32], n: usize) -> Result<&'a mut [f32]> {
    let (part, left) = core::mem::take(rest).split_at_mut_checked(n).ok_or_else(missing)?;
    *rest = left;
    Ok(part)
}

/// A head of one sample's q, k and v.
#[derive(Clone, Copy)]
struct Head<'a> {
    rows: [&'a [f32]; 3],
    views: [View; 3],
    head: usize,
    d: usize,
    e: usize,
}

impl<'a> Head<'a> {
    fn query(&self, p: usize) -> &'a [f32] {
        row_of(self.rows[0], p * self.views[0].stride + self.head * self.d, self.d)
    }

    fn key(&self, p: usize) -> &'a [f32] {
        row_of(self.rows[1], p * self.views[1].stride + self.head * self.d, self.d)
    }

    fn value(&self, p: usize) -> &'a [f32] {
        row_of(self.rows[2], p * self.views[2].stride + self.head * self.e, self.e)
    }

    /// exp(key - largest), the numerators of the keys' softmax.
    fn weights(&self, isa: Isa, p: usize, largest: &[f32], row: &mut [f32]) {
        row.iter_mut().zip(self.key(p)).zip(largest).for_each(|((to, k), m)| *to = k - m);
        vmath::exp(isa, row);
    }

    /// Fills the context, the largest keys and the sums of their weights.
    fn context<'b>(&self, isa: Isa, scratch: &'b mut [f32]) -> Result<Scratch<'b>> {
        let (d, e) = (self.d, self.e);
        let rest = &mut &mut *scratch;
        let s = Scratch {
            context: next(rest, d * e)?,
            part: next(rest, d * e)?,
            largest: next(rest, d)?,
            sum: next(rest, d)?,
            part_sum: next(rest, d)?,
            row: next(rest, d)?,
        };
        let keys = self.views[1].positions();
        s.largest.fill(f32::NEG_INFINITY);
        for p in 0..keys {
            s.largest.iter_mut().zip(self.key(p)).for_each(|(m, v)| *m = if *v > *m { *v } else { *m });
        }
        s.context.fill(0.0);
        s.sum.fill(0.0);
        for first in (0..keys).step_by(BLOCK) {
            s.part.fill(0.0);
            s.part_sum.fill(0.0);
            for p in first..keys.min(first + BLOCK) {
                self.weights(isa, p, s.largest, s.row);
                s.part_sum.iter_mut().zip(&*s.row).for_each(|(s, v)| *s += v);
                outer(s.part, s.row, self.value(p));
            }
            s.context.iter_mut().zip(&*s.part).for_each(|(to, v)| *to += v);
            s.sum.iter_mut().zip(&*s.part_sum).for_each(|(to, v)| *to += v);
        }
        for (to, s) in s.context.chunks_exact_mut(e).zip(&*s.sum) {
            to.iter_mut().for_each(|v| *v /= s);
        }
        Ok(s)
    }
}

/// Adds the outer product of a and b to a matrix with a row for each of a.
fn outer(matrix: &mut [f32], a: &[f32], b: &[f32]) {
    for (to, weight) in matrix.chunks_exact_mut(b.len().max(1)).zip(a) {
        to.iter_mut().zip(b).for_each(|(to, v)| *to += weight * v);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The head of that number, of a sample.
fn head_of<'a>(run: &'a Run<'_>, views: [View; 3], heads: usize, i: usize) -> (usize, Head<'a>) {
    let (sample, head) = (i / heads.max(1), i % heads.max(1));
    // SAFETY: the plan keeps arguments unwritten while a step reads them.
    let rows = views.map(|v| unsafe { run.memory.read_samples(&v, sample, 1) });
    let [d, e] = [views[0].channels, views[2].channels].map(|c| c / heads.max(1));
    (sample, Head { rows, views, head, d, e })
}

impl LinearAttention {
    /// Channels of a head of q and of v.
    fn dims(&self) -> [usize; 2] {
        [self.q.channels / self.heads.max(1), self.v.channels / self.heads.max(1)]
    }

    fn head(&self, run: &Run<'_>, i: usize, scratch: &mut [f32]) -> Result<()> {
        let (sample, of) = head_of(run, [self.q, self.k, self.v], self.heads, i);
        let Scratch { context, row, .. } = of.context(run.isa, scratch)?;
        // SAFETY: the plan gives the result to this step alone, and these channels of this sample are this task's.
        let out = unsafe { run.memory.write_samples(&self.out, sample, 1) };
        for p in 0..self.q.positions() {
            let query = of.query(p);
            ensure!(query.len() == of.d, Shape, "query {p} is not inside its buffer");
            row.copy_from_slice(query);
            vmath::softmax_row(run.isa, row, 1.0);
            // SAFETY: as above.
            let to = unsafe { out.part(p * self.out.stride + of.head * of.e, of.e) };
            to.fill(0.0);
            for (from, weight) in context.chunks_exact(of.e).zip(&*row) {
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
        scratch_len(self.dims())?.checked_mul(workers)
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let [d, _] = self.dims();
        let len = scratch_len(self.dims())
            .ok_or_else(|| err!(OutOfMemory, "linear attention over {d} channels is too large"))?;
        let heads = self.heads * run.batch;
        let cost = self.v.channels.saturating_mul(self.v.positions()).saturating_mul(d).saturating_mul(run.batch);
        run.each(cost, heads, &|worker, i| {
            // SAFETY: `each` gives one worker number to one thread at a time, so this part is one thread's.
            let scratch = unsafe { run.memory.own(worker * len, len).part(0, len) };
            self.head(run, i, scratch)
        })
    }
}

/// [`LinearAttentionGrad`](crate::graph::Op::LinearAttentionGrad).
#[derive(Debug)]
pub struct LinearAttentionGrad {
    pub heads: usize,
    pub q: View,
    pub k: View,
    pub v: View,
    pub dy: View,
    /// The gradients by q, k and v, one after the other in the channels.
    pub out: View,
}

impl LinearAttentionGrad {
    fn dims(&self) -> [usize; 2] {
        [self.q.channels / self.heads.max(1), self.v.channels / self.heads.max(1)]
    }

    /// As [`scratch_len`], with the gradient by the context, `[d][e]`, and the means over keys, `[d]`.
    fn scratch(&self) -> Option<usize> {
        let [d, e] = self.dims();
        scratch_len([d, e])?.checked_add(d.checked_mul(e)?.checked_add(d)?.checked_next_multiple_of(16)?)
    }

    fn head(&self, run: &Run<'_>, i: usize, scratch: &mut [f32]) -> Result<()> {
        let (sample, of) = head_of(run, [self.q, self.k, self.v], self.heads, i);
        let Head { head, d, e, .. } = of;
        let rest = &mut &mut *scratch;
        let (slope, means) = (next(rest, d * e)?, next(rest, d)?);
        let Scratch { context, part, largest, sum, part_sum, row } = of.context(run.isa, rest)?;
        // SAFETY: the plan keeps the argument unwritten, and gives the result to this step alone.
        let (by, out) =
            unsafe { (run.memory.read_samples(&self.dy, sample, 1), run.memory.write_samples(&self.out, sample, 1)) };
        // SAFETY: these channels of this sample are this task's.
        let part_of = |p: usize, first: usize, n: usize| unsafe { out.part(p * self.out.stride + first, n) };
        let (queries, keys) = (self.q.positions(), self.k.positions());
        slope.fill(0.0);
        for first in (0..queries).step_by(BLOCK) {
            part.fill(0.0);
            for p in first..queries.min(first + BLOCK) {
                let (query, dy) = (of.query(p), row_of(by, p * self.dy.stride + head * e, e));
                ensure!(query.len() == d && dy.len() == e, Shape, "query {p} is not inside its buffer");
                row.copy_from_slice(query);
                vmath::softmax_row(run.isa, row, 1.0);
                part_sum.iter_mut().zip(context.chunks_exact(e)).for_each(|(to, c)| *to = dot(c, dy));
                let mean = dot(row, part_sum);
                let to = part_of(p, head * d, d);
                to.iter_mut().zip(&*row).zip(&*part_sum).for_each(|((to, s), g)| *to = s * (g - mean));
                outer(part, row, dy);
            }
            slope.iter_mut().zip(&*part).for_each(|(to, v)| *to += v);
        }
        // The softmax of keys weighs its own gradient by the context: their product is the mean over keys.
        for (to, (s, c)) in means.iter_mut().zip(slope.chunks_exact(e).zip(context.chunks_exact(e))) {
            *to = dot(s, c);
        }
        for p in 0..keys {
            of.weights(run.isa, p, largest, row);
            row.iter_mut().zip(&*sum).for_each(|(w, s)| *w /= s);
            let value = of.value(p);
            let dv = part_of(p, self.q.channels + self.k.channels + head * e, e);
            dv.fill(0.0);
            let dk = part_of(p, self.q.channels + head * d, d);
            for (((to, s), weight), mean) in dk.iter_mut().zip(slope.chunks_exact(e)).zip(&*row).zip(&*means) {
                *to = weight * (dot(s, value) - mean);
                dv.iter_mut().zip(s).for_each(|(to, s)| *to += weight * s);
            }
        }
        Ok(())
    }
}

impl Step for LinearAttentionGrad {
    fn name(&self) -> &'static str {
        "linear_attention_grad"
    }

    fn own(&self, _batch: usize, workers: usize) -> Option<usize> {
        self.scratch()?.checked_mul(workers)
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let [d, _] = self.dims();
        let len = self.scratch().ok_or_else(|| err!(OutOfMemory, "linear attention over {d} channels is too large"))?;
        let cost = self.v.channels.saturating_mul(self.v.positions()).saturating_mul(3 * d).saturating_mul(run.batch);
        run.each(cost, self.heads * run.batch, &|worker, i| {
            // SAFETY: `each` gives one worker number to one thread at a time, so this part is one thread's.
            let scratch = unsafe { run.memory.own(worker * len, len).part(0, len) };
            self.head(run, i, scratch)
        })
    }
}
