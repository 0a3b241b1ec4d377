//! Attention with products of bf16 by AMX, by blocks of queries as [`attention`](super::attention) does it in f32.
#![allow(unsafe_code)] // Tasks write disjoint rows and channels of the result; raw rows of the step's own memory.

use alloc::vec::Vec;

use super::super::amx::{self, DEEPEST, Operands, SIDE, Shapes, Tiles};
use super::super::gemm::Segment;
use super::super::halves::narrow;
use super::super::memory::View;
use super::super::simd::{Simd, dispatch};
use super::super::vmath::softmax_row;
use super::{Run, Step, row_of};
use crate::error::{Result, ensure, err};
use crate::memory::room;

/// Floats of packed keys and values that are made and consumed at a time.
const GROUP: usize = 1 << 20;
/// Queries of a block, keys and channels of a panel.
const BLOCK: usize = 2 * SIDE;
/// Values along which an instruction sums.
const RUN: usize = 2 * DEEPEST;

/// [`AttentionBf16`](crate::graph::Op::AttentionBf16).
#[derive(Debug)]
pub struct AttentionTiles {
    heads: usize,
    q: View,
    k: View,
    v: View,
    out: View,
    /// Pairs of channels of a query, with zeros up to whole instructions, and of keys.
    channels: usize,
    keys: usize,
    /// Floats of one head's packed keys, and of its values.
    key_len: usize,
    value_len: usize,
    /// Floats of a worker: queries, scores, the same as bf16.
    scratch: [usize; 3],
    /// The steps of a sum along the longer of both.
    steps: Vec<Segment>,
}

impl AttentionTiles {
    /// Of views whose dimensions the graph has checked.
    pub fn new(heads: usize, q: View, k: View, v: View, out: View) -> Result<Self> {
        let (dim, value_dim) = (q.channels / heads.max(1), v.channels / heads.max(1));
        let too_large = || err!(OutOfMemory, "attention over {} keys is too large", k.positions());
        let whole = |n: usize, of: usize| n.checked_next_multiple_of(of).ok_or_else(too_large);
        let (channels, keys) = (whole(dim, RUN)? / 2, whole(k.positions(), RUN)? / 2);
        let times = |a: usize, b: usize| a.checked_mul(b).ok_or_else(too_large);
        let key_len = times(2 * keys, channels)?;
        let value_len = times(keys, whole(value_dim, BLOCK)?)?;
        let scratch = [times(BLOCK, channels)?, times(2 * BLOCK, keys)?, times(BLOCK, keys)?];
        let count = channels.max(keys) / DEEPEST;
        let mut steps = room("the steps of a sum", count)?;
        steps.extend((0..count).map(|i| Segment { table: 0, offset: i * DEEPEST, len: DEEPEST }));
        Ok(Self { heads, q, k, v, out, channels, keys, key_len, value_len, scratch, steps })
    }

    /// Floats of packed keys and values for `samples` samples.
    fn packed_len(&self, samples: usize) -> Option<usize> {
        self.key_len.checked_add(self.value_len)?.checked_mul(self.heads)?.checked_mul(samples)
    }

    /// How many samples are packed and consumed at a time.
    fn group(&self, batch: usize) -> usize {
        (GROUP / self.packed_len(1).unwrap_or(GROUP).max(1)).clamp(1, batch.max(1))
    }

    fn scratch_len(&self) -> Option<usize> {
        self.scratch.iter().try_fold(0usize, |sum, n| sum.checked_add(*n))
    }

    /// Packs the keys or the values of one head, which are in `x`. Keys use some of a worker's scratch, `own`.
    fn pack(&self, run: &Run<'_>, x: &View, values: bool, [sample, head]: [usize; 2], to: &mut [f32], own: &mut [f32]) {
        let width = x.channels / self.heads.max(1);
        let count = x.positions();
        // SAFETY: the plan keeps arguments unwritten.
        let data = unsafe { run.memory.read(x) };
        let row = |i: usize| {
            let begin = (sample * count + i) * x.stride + head * width;
            if i < count { row_of(data, begin, width) } else { &[] }
        };
        if values {
            for (panel, to) in to.chunks_exact_mut(BLOCK * self.keys).enumerate() {
                for (i, to) in to.chunks_exact_mut(BLOCK).enumerate() {
                    let part = |i| row(i).get(panel * BLOCK..).unwrap_or(&[]);
                    let [a, b] = [part(2 * i), part(2 * i + 1)];
                    let n = a.len().min(BLOCK);
                    to[n..].fill(0.0);
                    let b = if b.len() < n { &[0.0; BLOCK] } else { b };
                    // SAFETY: all three have `n` floats.
                    unsafe { join_raw(run.isa, a.as_ptr(), b.as_ptr(), n, to.as_mut_ptr()) };
                }
            }
        } else {
            for (panel, to) in to.chunks_exact_mut(BLOCK * self.channels).enumerate() {
                for (i, own) in own.chunks_exact_mut(self.channels).take(BLOCK).enumerate() {
                    round(run, row(panel * BLOCK + i), own);
                }
                // SAFETY: both have `channels` pairs of `BLOCK` keys.
                unsafe { turn_raw(run.isa, own.as_ptr().cast(), self.channels, to.as_mut_ptr().cast()) };
            }
        }
    }

    /// One block of queries of one head, whose keys and values are packed in `k` and `v`.
    fn block(
        &self,
        run: &Run<'_>,
        [k, v]: [&[f32]; 2],
        own: &mut [f32],
        [sample, head, first]: [usize; 3],
    ) -> Result<()> {
        let heads = self.heads.max(1);
        let (dim, value_dim, keys) = (self.q.channels / heads, self.v.channels / heads, self.k.positions());
        let rows = BLOCK.min(self.q.positions() - first);
        let start = sample * self.q.positions() + first;
        let (queries, rest) = own.split_at_mut(self.scratch[0]);
        let (scores, weights) = rest.split_at_mut(self.scratch[1]);
        // SAFETY: the plan keeps arguments unwritten; these rows and channels of the result are this task's.
        let (q, out) = unsafe { (run.memory.read(&self.q), run.memory.write(&self.out)) };
        for (r, to) in queries.chunks_exact_mut(self.channels).enumerate() {
            let begin = (start + r) * self.q.stride + head * dim;
            round(run, if r < rows { row_of(q, begin, dim) } else { &[] }, to);
        }
        // SAFETY: this process was given the registers, and a task is not begun within another.
        let _tiles = unsafe { Tiles::new(&Shapes::new(DEEPEST)) };
        let stride = 2 * self.keys;
        for (panel, k) in k.chunks_exact(BLOCK * self.channels).enumerate() {
            let scores = scores.get_mut(panel * BLOCK..).unwrap_or(&mut []);
            self.product(queries, self.channels, k, scores, stride)?;
        }
        let scale = (1.0 / libm::sqrt(dim as f64)) as f32;
        for (scores, weights) in scores.chunks_exact_mut(stride).zip(weights.chunks_exact_mut(self.keys)).take(rows) {
            softmax_row(run.isa, &mut scores[..keys], scale);
            round(run, &scores[..keys], weights);
        }
        let begin = |r: usize, panel: usize| (start + r) * self.out.stride + head * value_dim + panel * BLOCK;
        for (panel, v) in v.chunks_exact(BLOCK * self.keys).enumerate() {
            // Scores are read no more.
            let sums = scores.get_mut(..BLOCK * BLOCK).unwrap_or(&mut []);
            self.product(weights, self.keys, v, sums, BLOCK)?;
            let n = BLOCK.min(value_dim - panel * BLOCK);
            for (r, sums) in sums.chunks_exact(BLOCK).take(rows).enumerate() {
                // SAFETY: as above.
                let row = unsafe { out.part(begin(r, panel), n) };
                ensure!(row.len() == n, Shape, "row {r} is not inside the result");
                row.copy_from_slice(&sums[..n]);
            }
        }
        Ok(())
    }

    /// A block's rows of `pairs` pairs times a packed panel of as many rows, into rows `stride` apart.
    fn product(&self, rows: &[f32], pairs: usize, panel: &[f32], out: &mut [f32], stride: usize) -> Result<()> {
        let steps = self.steps.get(..pairs / DEEPEST).unwrap_or(&[]);
        let room = (BLOCK - 1) * stride + BLOCK;
        let fits =
            !steps.is_empty() && rows.len() >= BLOCK * pairs && panel.len() >= BLOCK * pairs && out.len() >= room;
        ensure!(fits, Shape, "a block of attention with {} of {room} sums", out.len());
        let row = BLOCK * size_of::<f32>();
        let operands = Operands {
            a: rows.as_ptr(),
            row: pairs * size_of::<f32>(),
            steps,
            b: panel.as_ptr().cast(),
            panel: row,
            step: DEEPEST * row,
            pitch: stride * size_of::<f32>(),
            ahead: core::ptr::null(),
            lines: 0,
        };
        // SAFETY: `block` holds the tiles, and all three are as long as was just asked.
        unsafe { amx::kernel(2, 2)(&operands, out.as_mut_ptr()) };
        Ok(())
    }
}

/// Rounds a row to bf16, two in a float, with zeros up to the end of `to`.
fn round(run: &Run<'_>, row: &[f32], to: &mut [f32]) {
    let n = row.len().min(2 * to.len());
    to[n / 2..].fill(0.0);
    // SAFETY: both have room for `n` values.
    unsafe { round_raw(run.isa, row.as_ptr(), n, to.as_mut_ptr().cast()) };
}

#[inline(always)]
unsafe fn round_body<S: Simd>(from: *const f32, n: usize, to: *mut u16) {
    // SAFETY: the caller gives `n` floats and room for as many of bf16.
    unsafe {
        for i in (0..n).step_by(S::LANES) {
            let m = (n - i).min(S::LANES);
            S::store_bf16(to.add(i), m, S::load_most(from.add(i), m));
        }
    }
}
dispatch! { unsafe fn round_raw = round_body(from: *const f32, n: usize, to: *mut u16) }

/// `BLOCK` rows of `n` pairs as `n` rows of `BLOCK`.
#[inline(always)]
unsafe fn turn_body<S: Simd>(from: *const u32, n: usize, to: *mut u32) {
    // SAFETY: the caller gives as many of both.
    unsafe {
        for i in 0..n {
            for r in 0..BLOCK {
                *to.add(i * BLOCK + r) = *from.add(r * n + i);
            }
        }
    }
}
dispatch! { unsafe fn turn_raw = turn_body(from: *const u32, n: usize, to: *mut u32) }

/// Two rows as pairs, the first one's values in the lower halves.
#[inline(always)]
unsafe fn join_body<S: Simd>(a: *const f32, b: *const f32, n: usize, to: *mut f32) {
    // SAFETY: the caller gives `n` floats of each.
    unsafe {
        for i in 0..n {
            let [low, high] = [*a.add(i), *b.add(i)].map(|v| u32::from(narrow(v)));
            *to.cast::<u32>().add(i) = high << 16 | low;
        }
    }
}
dispatch! { unsafe fn join_raw = join_body(a: *const f32, b: *const f32, n: usize, to: *mut f32) }

impl Step for AttentionTiles {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn own(&self, batch: usize, workers: usize) -> Option<usize> {
        self.scratch_len()?.checked_mul(workers)?.checked_add(self.packed_len(self.group(batch))?)
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let too_large = || err!(OutOfMemory, "attention over {} keys is too large", self.k.positions());
        let group = self.group(run.batch);
        let (packed, len) = self.packed_len(group).zip(self.scratch_len()).ok_or_else(too_large)?;
        let each = self.key_len + self.value_len;
        for first in (0..run.batch).step_by(group) {
            let heads = self.heads * group.min(run.batch - first);
            let cost = heads.saturating_mul(each);
            let place = |slot: usize| [first + slot / self.heads, slot % self.heads];
            // SAFETY: `each` gives one worker number to one thread at a time, so this part is one thread's.
            let own = |worker: usize| unsafe { run.memory.own(packed + worker * len, len).part(0, len) };
            run.each(cost, 2 * heads, &|worker, i| {
                let (slot, values) = (i / 2, i % 2 == 1);
                let (x, at, n) = match values {
                    true => (&self.v, slot * each + self.key_len, self.value_len),
                    false => (&self.k, slot * each, self.key_len),
                };
                // SAFETY: the memory is this step's, and each head's keys and values are one task's.
                let to = unsafe { run.memory.own(at, n).part(0, n) };
                self.pack(run, x, values, place(slot), to, own(worker));
                Ok(())
            })?;
            let blocks = self.q.positions().div_ceil(BLOCK);
            run.each(cost.saturating_mul(blocks), blocks * heads, &|worker, i| {
                let slot = i / blocks;
                // SAFETY: what is packed is only read now.
                let read = |at: usize, n: usize| unsafe { &*run.memory.own(at, n).part(0, n) };
                let packed = [read(slot * each, self.key_len), read(slot * each + self.key_len, self.value_len)];
                let [sample, head] = place(slot);
                self.block(run, packed, own(worker), [sample, head, i % blocks * BLOCK])
            })?;
        }
        Ok(())
    }
}
