//! The gradients of attention, by chunks of queries: neither the scores nor their gradients are ever there as a whole.
#![allow(unsafe_code)] // Calls the generic vector code; tasks write disjoint rows and channels.

use super::super::aligned::SharedMut;
use super::super::gemm::matmul::Matmul;
use super::super::gemm::pack::{Source, pack, packed_len, transpose};
use super::super::gemm::tile_size;
use super::super::isa::Isa;
use super::super::memory::{LINE, View};
use super::super::simd::{Simd, dispatch};
use super::super::vmath::softmax_row;
use super::{Run, Step};
use crate::error::{Result, ensure, err};

/// Floats of packed keys and values, and of parts, that are there at a time.
const GROUP: usize = 1 << 20;

/// Floats of a chunk's scores, that they stay in a core's cache.
const SCORES: usize = 1 << 16;

/// The tasks that one sample is cut into, if its heads are fewer.
const PARTS: usize = 4;

/// [`AttentionGrad`](crate::graph::Op::AttentionGrad). With P the softmax of S = q^T k / sqrt(d): `dv = P^T dy`, `dP =
/// dy^T v`, `dS = P (dP - sum(P dP))`, `dq = dS k`, `dk = dS^T q`.
///
/// A task is some chunks of one head's queries, one after the other; it adds their parts of dk and dv. Where a head has
/// several tasks these sums are added in order afterwards. The cut depends on the shape alone, so that the bits do not
/// depend on the threads.
#[derive(Debug)]
pub(in super::super) struct AttentionGrad {
    heads: usize,
    query_only: bool,
    q: View,
    k: View,
    v: View,
    dy: View,
    out: View,
    /// Queries in a chunk, chunks in a task, tasks of a head.
    chunk: usize,
    chunks: usize,
    parts: usize,
    own: Own,
}

/// How the step's memory is cut.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    /// Of a head: packed keys as columns, keys as rows, values as columns.
    key_columns: usize,
    key_rows: usize,
    value_columns: usize,
    /// Of a head: each task's sum of dk, then of dv, if there are several.
    sums: usize,
    head: usize,
    /// Of a worker: scores of a chunk and their gradients, `stride` floats a query; and transposed.
    scores: usize,
    stride: usize,
    transposed: usize,
    /// A chunk of queries or of dy, packed as rows.
    packed: usize,
    /// What a chunk adds to dk or dv.
    addend: usize,
    worker: usize,
}

impl Own {
    fn new(isa: Isa, [dim, value_dim, keys]: [usize; 3], chunk: usize, parts: usize) -> Option<Self> {
        let line = |n: usize| n.checked_next_multiple_of(LINE);
        let stride = line(keys)?;
        let wide = dim.max(value_dim);
        let several = if parts > 1 { parts } else { 0 };
        let mut own = Self {
            key_columns: line(packed_len(isa, dim, keys)?)?,
            key_rows: line(packed_len(isa, keys, dim)?)?,
            value_columns: line(packed_len(isa, value_dim, keys)?)?,
            sums: line(keys.checked_mul(dim.checked_add(value_dim)?)?.checked_mul(several)?)?,
            scores: stride.checked_mul(chunk)?,
            stride,
            transposed: line(keys.checked_mul(chunk)?)?,
            packed: line(packed_len(isa, chunk, wide)?)?,
            addend: line(keys.checked_mul(wide)?)?,
            ..Self::default()
        };
        let total = |parts: &[usize]| parts.iter().try_fold(0usize, |a, &b| a.checked_add(b));
        own.head = total(&[own.key_columns, own.key_rows, own.value_columns, own.sums])?;
        own.worker = total(&[own.scores, own.scores, own.transposed, own.packed, own.addend])?;
        Some(own)
    }
}

/// Takes the first `n` floats of a worker's memory.
fn take<'m>(memory: &mut &'m mut [f32], n: usize) -> Result<&'m mut [f32]> {
    let all = core::mem::take(memory);
    ensure!(n <= all.len(), Shape, "attention has too little memory of its own");
    let (taken, rest) = all.split_at_mut(n);
    *memory = rest;
    Ok(taken)
}

/// Rows of one head and sample.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
}

impl<'a> Rows<'a> {
    fn at_row(self, row: usize) -> Result<Self> {
        let data = self.data.get(row * self.stride..);
        Ok(Self { data: data.ok_or_else(|| err!(Shape, "attention reads outside of its arguments"))?, ..self })
    }

    /// The product of `m` rows of `k` floats with a packed matrix of `n` columns.
    fn times(self, isa: Isa, [m, n, k]: [usize; 3], b: &'a [f32], c_stride: usize) -> Matmul<'a> {
        Matmul { isa, m, n, k, a: self.data, a_stride: self.stride, b, c_stride, scale: 1.0 }
    }

    fn pack(self, isa: Isa, rows: usize, columns: usize, transposed: bool, to: &mut [f32]) -> Result<()> {
        let (data, stride) = (self.data, self.stride);
        let (k, n, source) = if transposed {
            (columns, rows, Source::Columns { data, stride })
        } else {
            (rows, columns, Source::Rows { data, stride })
        };
        let len = packed_len(isa, k, n).unwrap_or(usize::MAX);
        let to = to.get_mut(..len).ok_or_else(|| err!(Shape, "attention has too little memory of its own"))?;
        pack(isa, k, n, source, to)
    }
}

/// One head of one sample of a group.
#[derive(Clone, Copy)]
struct Head {
    sample: usize,
    head: usize,
    /// Its place in the group.
    slot: usize,
}

impl AttentionGrad {
    /// Of views whose dimensions the graph has checked.
    pub fn new(isa: Isa, heads: usize, query_only: bool, [q, k, v, dy]: [View; 4], out: View) -> Result<Self> {
        let (dim, value_dim) = (q.channels / heads.max(1), v.channels / heads.max(1));
        let (queries, keys) = (q.positions(), k.positions());
        let fits = SCORES / keys.max(1);
        let chunk = (queries / PARTS).clamp(64, 128).min(fits).max(2 * tile_size(isa).0).min(queries).max(1);
        let count = queries.div_ceil(chunk).max(1);
        let chunks = count.div_ceil((PARTS / heads.max(1)).clamp(1, count));
        let parts = count.div_ceil(chunks);
        let sums = if query_only { 1 } else { parts };
        let own = Own::new(isa, [dim, value_dim, keys], chunk, sums)
            .ok_or_else(|| err!(OutOfMemory, "attention over {keys} keys is too large"))?;
        Ok(Self { heads, query_only, q, k, v, dy, out, chunk, chunks, parts, own })
    }

    /// How many samples' packed keys and values are there at a time.
    fn group(&self, batch: usize) -> usize {
        (GROUP / self.own.head.saturating_mul(self.heads).max(1)).clamp(1, batch.max(1))
    }

    fn dims(&self) -> [usize; 3] {
        [self.q.channels / self.heads, self.v.channels / self.heads, self.k.positions()]
    }

    /// The rows of a view for one sample and head.
    fn rows<'a>(&self, run: &Run<'a>, view: &View, h: Head) -> Result<Rows<'a>> {
        // SAFETY: the plan keeps arguments unwritten while a step reads them.
        let data = unsafe { run.memory.read_samples(view, h.sample, 1) };
        let data = data.get(h.head * (view.channels / self.heads)..);
        Ok(Rows {
            data: data.ok_or_else(|| err!(Shape, "attention reads outside of its arguments"))?,
            stride: view.stride,
        })
    }

    /// Packs a head's keys as columns (`what` 0) or rows (1), or its values as columns (2).
    fn pack(&self, run: &Run<'_>, h: Head, what: usize) -> Result<()> {
        let (own, [dim, value_dim, keys]) = (self.own, self.dims());
        let at = h.slot * own.head;
        let (at, len, view, width) = match what {
            0 => (at, own.key_columns, &self.k, dim),
            1 => (at + own.key_columns, own.key_rows, &self.k, dim),
            _ => (at + own.key_columns + own.key_rows, own.value_columns, &self.v, value_dim),
        };
        // SAFETY: the memory is this step's, and this part of it is one task's.
        let to = unsafe { run.memory.own(at, len).part(0, len) };
        self.rows(run, view, h)?.pack(run.isa, keys, width, what != 1, to)
    }

    /// Task number `part` of a head.
    fn part(&self, run: &Run<'_>, mut memory: &mut [f32], h: Head, part: usize) -> Result<()> {
        let (isa, own, [dim, value_dim, keys]) = (run.isa, self.own, self.dims());
        let scale = (1.0 / libm::sqrt(dim as f64)) as f32;
        let (q, dy) = (self.rows(run, &self.q, h)?, self.rows(run, &self.dy, h)?);
        // SAFETY: the packed keys and values are only read now, the sums of this part and, in the result, these rows of
        // dq and, where a head is one task, all of dk and dv are this task's.
        let (key_columns, key_rows, value_columns, sums, out) = unsafe {
            let base = h.slot * own.head;
            let packed = |at: usize, k: usize, n: usize| {
                let len = packed_len(isa, k, n).unwrap_or(0);
                &*run.memory.own(base + at, len).part(0, len)
            };
            let sums = base + own.key_columns + own.key_rows + own.value_columns;
            let len = keys * (dim + value_dim);
            let sums = if own.sums > 0 { run.memory.own(sums + part * len, len) } else { SharedMut::empty() };
            (
                packed(0, dim, keys),
                packed(own.key_columns, keys, dim),
                packed(own.key_columns + own.key_rows, value_dim, keys),
                sums,
                run.memory.write_samples(&self.out, h.sample, 1),
            )
        };
        let (p, ds) = (take(&mut memory, own.scores)?, take(&mut memory, own.scores)?);
        let transposed = take(&mut memory, own.transposed)?;
        let packed = take(&mut memory, own.packed)?;
        let addend = take(&mut memory, own.addend)?;
        let begin = part * self.chunks;
        for c in begin..begin + self.chunks {
            let first = c * self.chunk;
            let m = self.chunk.min(self.q.positions().saturating_sub(first));
            if m == 0 {
                break;
            }
            let (q, dy) = (q.at_row(first)?, dy.at_row(first)?);
            q.times(isa, [m, keys, dim], key_columns, own.stride).run(p)?;
            dy.times(isa, [m, keys, value_dim], value_columns, own.stride).run(ds)?;
            for (p, ds) in p.chunks_mut(own.stride).zip(ds.chunks_mut(own.stride)).take(m) {
                softmax_row(isa, &mut p[..keys], scale);
                // SAFETY: both have at least `keys` floats.
                unsafe { score_gradient_raw(isa, p.as_ptr(), ds.as_mut_ptr(), keys, scale) };
            }
            let gradient = Rows { data: ds, stride: own.stride };
            // dq has rows of its own: its stride is that of the result.
            let dq = gradient.times(isa, [m, dim, keys], key_rows, self.out.stride);
            // SAFETY: these rows and channels are this task's.
            unsafe { dq.run_shared(out, first * self.out.stride + h.head * dim)? };
            if self.query_only {
                continue;
            }
            let (dk, dv) = (self.q.channels + h.head * dim, self.q.channels + self.k.channels + h.head * value_dim);
            for (values, width, rows, [at, offset]) in [(&*ds, dim, q, [dk, 0]), (&*p, value_dim, dy, [dv, keys * dim])]
            {
                rows.pack(isa, m, width, false, packed)?;
                transpose(values, own.stride, [m, keys], transposed, m);
                let b = &packed[..packed_len(isa, m, width).unwrap_or(0)];
                let (to, stride, at) = match self.parts {
                    1 => (out, self.out.stride, at),
                    _ => (sums, width, offset),
                };
                let product = Matmul {
                    isa,
                    m: keys,
                    n: width,
                    k: m,
                    a: transposed,
                    a_stride: m,
                    b,
                    c_stride: stride,
                    scale: 1.0,
                };
                if c == begin {
                    // SAFETY: this part's sums, or this head's channels, are this task's.
                    unsafe { product.run_shared(to, at)? };
                } else {
                    Matmul { c_stride: width, ..product }.run(addend)?;
                    // SAFETY: as above.
                    unsafe { add(isa, to, at, stride, addend, width, keys) };
                }
            }
        }
        Ok(())
    }

    /// The sum of a head's tasks' dk and dv for some keys.
    fn sum(&self, run: &Run<'_>, h: Head, [first, last]: [usize; 2]) {
        let (own, [dim, value_dim, keys]) = (self.own, self.dims());
        let base = h.slot * own.head + own.key_columns + own.key_rows + own.value_columns;
        let len = keys * (dim + value_dim);
        let (dk, dv) = (self.q.channels + h.head * dim, self.q.channels + self.k.channels + h.head * value_dim);
        for (at, offset, width) in [(dk, 0, dim), (dv, keys * dim, value_dim)] {
            for part in 0..self.parts {
                // SAFETY: the sums are only read now; these rows and channels of the result are this task's.
                unsafe {
                    let from = &*run
                        .memory
                        .own(base + part * len + offset + first * width, (last - first) * width)
                        .part(0, (last - first) * width);
                    let to = run.memory.write_samples(&self.out, h.sample, 1);
                    let at = first * self.out.stride + at;
                    if part == 0 {
                        for (i, row) in from.chunks_exact(width).enumerate() {
                            to.part(at + i * self.out.stride, width).copy_from_slice(row);
                        }
                    } else {
                        add(run.isa, to, at, self.out.stride, from, width, last - first);
                    }
                }
            }
        }
    }
}

/// Adds `rows` rows of `width` floats to rows of `to`, `stride` apart, from `at` on.
///
/// # Safety
/// Nobody else may touch these floats of `to`.
unsafe fn add(isa: Isa, to: SharedMut<'_>, at: usize, stride: usize, rows: &[f32], width: usize, count: usize) {
    for (i, row) in rows.chunks_exact(width).take(count).enumerate() {
        // SAFETY: the caller's promise; both have `width` floats.
        unsafe {
            let to = to.part(at + i * stride, width);
            if to.len() == width {
                add_raw(isa, to.as_mut_ptr(), row.as_ptr(), width);
            }
        }
    }
}

#[inline(always)]
unsafe fn add_body<S: Simd>(to: *mut f32, from: *const f32, n: usize) {
    let mut i = 0;
    // SAFETY: the caller's contract: n floats at both.
    unsafe {
        while i + S::LANES <= n {
            S::store(to.add(i), S::add(S::load(to.add(i)), S::load(from.add(i))));
            i += S::LANES;
        }
        if i < n {
            S::store_n(to.add(i), n - i, S::add(S::load_n(to.add(i), n - i), S::load_n(from.add(i), n - i)));
        }
    }
}
dispatch! { unsafe fn add_raw = add_body(to: *mut f32, from: *const f32, n: usize) }

/// `ds = p (ds - sum(p ds)) scale`, the sum in lanes of f32 and their total in f64.
#[inline(always)]
unsafe fn score_gradient_body<S: Simd>(p: *const f32, ds: *mut f32, n: usize, scale: f32) {
    let full = n - n % S::LANES;
    // SAFETY: the caller's contract: n floats at both.
    unsafe {
        let (mut sum, mut i) = (S::zero(), 0);
        while i < full {
            sum = S::mul_add(S::load(p.add(i)), S::load(ds.add(i)), sum);
            i += S::LANES;
        }
        let rest = S::mul(S::load_n(p.add(full), n - full), S::load_n(ds.add(full), n - full));
        let [sum, rest] = [S::to_array(sum), S::to_array(rest)].map(|v| v.into_iter().map(f64::from).sum::<f64>());
        let (mean, scale) = (S::splat((sum + rest) as f32), S::splat(scale));
        i = 0;
        while i < n {
            let len = (n - i).min(S::LANES);
            let d = S::sub(S::load_most(ds.add(i), len), mean);
            S::store_most(ds.add(i), len, S::mul(S::mul(S::load_most(p.add(i), len), d), scale));
            i += len;
        }
    }
}
dispatch! { unsafe fn score_gradient_raw = score_gradient_body(p: *const f32, ds: *mut f32, n: usize, scale: f32) }

impl Step for AttentionGrad {
    fn name(&self) -> &'static str {
        "attention_grad"
    }

    fn own(&self, batch: usize, workers: usize) -> Option<usize> {
        let heads = self.own.head.checked_mul(self.heads)?.checked_mul(self.group(batch))?;
        self.own.worker.checked_mul(workers)?.checked_add(heads)
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (own, keys) = (self.own, self.k.positions());
        let group = self.group(run.batch);
        let workers = own.head * self.heads * group;
        for first in (0..run.batch).step_by(group) {
            let heads = self.heads * group.min(run.batch - first);
            let head = |slot: usize| Head { sample: first + slot / self.heads, head: slot % self.heads, slot };
            let cost = heads.saturating_mul(keys).saturating_mul(self.q.channels / self.heads);
            run.each(cost, 3 * heads, &|_, i| self.pack(run, head(i / 3), i % 3))?;
            let cost = cost.saturating_mul(self.q.positions());
            run.each(cost, self.parts * heads, &|worker, i| {
                // SAFETY: `each` gives one worker number to one thread at a time, so this part is one thread's.
                let memory = unsafe { run.memory.own(workers + worker * own.worker, own.worker).part(0, own.worker) };
                self.part(run, memory, head(i / self.parts), i % self.parts)
            })?;
            if self.parts > 1 && !self.query_only {
                let blocks = keys.div_ceil(LINE);
                run.each(own.sums.saturating_mul(heads), blocks * heads, &|_, i| {
                    let begin = i % blocks * LINE;
                    self.sum(run, head(i / blocks), [begin, (begin + LINE).min(keys)]);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}
