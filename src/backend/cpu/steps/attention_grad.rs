//! The gradients of attention, by blocks of queries: neither the scores nor their gradients are ever there as a whole.
#![allow(unsafe_code)] // Tasks write disjoint channels of the result.

use super::super::aligned::SharedMut;
use super::super::gemm::matmul::Matmul;
use super::super::gemm::pack::{Source, pack, packed_len};
use super::super::gemm::tile_size;
use super::super::isa::Isa;
use super::super::memory::{LINE, View};
use super::super::vmath::softmax_row;
use super::{Run, Step};
use crate::error::{Result, ensure, err};

/// [`AttentionGrad`](crate::graph::Op::AttentionGrad). With P the softmax of S = q^T k / sqrt(d): `dv = P^T dy`, `dP = dy^T v`,
/// `dS = P (dP - sum(P dP))`, `dq = dS k`, `dk = dS^T q`. A head is one task, which adds the blocks' parts in order.
#[derive(Debug)]
pub(in super::super) struct AttentionGrad {
    heads: usize,
    query_only: bool,
    q: View,
    k: View,
    v: View,
    dy: View,
    out: View,
    /// Queries in a block.
    block: usize,
    own: Own,
}

/// How a worker's memory is cut.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    /// Packed: keys as columns, keys as rows, values as columns.
    key_columns: usize,
    key_rows: usize,
    value_columns: usize,
    /// Scores of a block and their gradients, `stride` floats a query; and transposed.
    scores: usize,
    stride: usize,
    transposed: usize,
    /// A block of queries or of dy, packed as rows.
    packed: usize,
    /// What a block adds to dk or dv.
    part: usize,
    total: usize,
}

impl Own {
    fn new(isa: Isa, dim: usize, value_dim: usize, keys: usize, block: usize) -> Option<Self> {
        let line = |n: usize| n.checked_next_multiple_of(LINE);
        let stride = line(keys)?;
        let wide = dim.max(value_dim);
        let mut own = Self {
            key_columns: line(packed_len(isa, dim, keys)?)?,
            key_rows: line(packed_len(isa, keys, dim)?)?,
            value_columns: line(packed_len(isa, value_dim, keys)?)?,
            scores: stride.checked_mul(block)?,
            stride,
            transposed: line(keys.checked_mul(block)?)?,
            packed: line(packed_len(isa, block, wide)?)?,
            part: line(keys.checked_mul(wide)?)?,
            total: 0,
        };
        let parts = [own.key_columns, own.key_rows, own.value_columns, own.scores, own.scores, own.transposed];
        own.total = parts.iter().chain(&[own.packed, own.part]).try_fold(0usize, |a, &b| a.checked_add(b))?;
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

impl AttentionGrad {
    /// Of views whose dimensions the graph has checked.
    pub fn new(isa: Isa, heads: usize, query_only: bool, [q, k, v, dy]: [View; 4], out: View) -> Result<Self> {
        let block = (2 * tile_size(isa).0).min(q.positions());
        let (dim, value_dim) = (q.channels / heads.max(1), v.channels / heads.max(1));
        let own = Own::new(isa, dim, value_dim, k.positions(), block)
            .ok_or_else(|| err!(OutOfMemory, "attention over {} keys is too large", k.positions()))?;
        Ok(Self { heads, query_only, q, k, v, dy, out, block, own })
    }

    /// The rows of a view for one sample and head.
    fn rows<'a>(&self, run: &Run<'a>, view: &View, sample: usize, head: usize) -> Result<Rows<'a>> {
        // SAFETY: the plan keeps arguments unwritten while a step reads them.
        let data = unsafe { run.memory.read_samples(view, sample, 1) };
        let data = data.get(head * (view.channels / self.heads)..);
        Ok(Rows {
            data: data.ok_or_else(|| err!(Shape, "attention reads outside of its arguments"))?,
            stride: view.stride,
        })
    }

    fn head(&self, run: &Run<'_>, mut memory: &mut [f32], sample: usize, head: usize) -> Result<()> {
        let (isa, own) = (run.isa, self.own);
        let (dim, value_dim) = (self.q.channels / self.heads, self.v.channels / self.heads);
        let (queries, keys) = (self.q.positions(), self.k.positions());
        let scale = (1.0 / libm::sqrt(dim as f64)) as f32;
        let (q, k) = (self.rows(run, &self.q, sample, head)?, self.rows(run, &self.k, sample, head)?);
        let (v, dy) = (self.rows(run, &self.v, sample, head)?, self.rows(run, &self.dy, sample, head)?);
        // SAFETY: this head's channels of the sample are this task's.
        let out = unsafe { run.memory.write_samples(&self.out, sample, 1) };
        let key_columns = take(&mut memory, own.key_columns)?;
        let key_rows = take(&mut memory, own.key_rows)?;
        let value_columns = take(&mut memory, own.value_columns)?;
        let (p, ds) = (take(&mut memory, own.scores)?, take(&mut memory, own.scores)?);
        let transposed = take(&mut memory, own.transposed)?;
        let packed = take(&mut memory, own.packed)?;
        let part = take(&mut memory, own.part)?;
        k.pack(isa, keys, dim, true, key_columns)?;
        k.pack(isa, keys, dim, false, key_rows)?;
        v.pack(isa, keys, value_dim, true, value_columns)?;
        let product = |m, n, k, a: Rows<'_>, b: &[f32], c: &mut [f32], c_stride, scale| {
            let b = b.get(..packed_len(isa, k, n).unwrap_or(usize::MAX)).unwrap_or(&[]);
            Matmul { isa, m, n, k, a: a.data, a_stride: a.stride, b, c_stride, scale }.run(c).map(|_| ())
        };
        for first in (0..queries).step_by(self.block) {
            let m = self.block.min(queries - first);
            let (q, dy) = (q.at_row(first)?, dy.at_row(first)?);
            product(m, keys, dim, q, key_columns, p, own.stride, 1.0)?;
            product(m, keys, value_dim, dy, value_columns, ds, own.stride, 1.0)?;
            for (p, ds) in p.chunks_mut(own.stride).zip(ds.chunks_mut(own.stride)).take(m) {
                let (p, ds) = (&mut p[..keys], &mut ds[..keys]);
                softmax_row(isa, p, scale);
                let mean: f64 = p.iter().zip(&*ds).map(|(p, d)| f64::from(*p) * f64::from(*d)).sum();
                for (d, p) in ds.iter_mut().zip(&*p) {
                    *d = p * (*d - mean as f32) * scale;
                }
            }
            let gradient = Rows { data: ds, stride: own.stride };
            // dq has rows of its own: its stride is that of the result.
            let dq = Matmul {
                isa,
                m,
                n: dim,
                k: keys,
                a: gradient.data,
                a_stride: own.stride,
                b: &key_rows[..packed_len(isa, keys, dim).unwrap_or(0)],
                c_stride: self.out.stride,
                scale: 1.0,
            };
            // SAFETY: these rows and channels are this task's.
            unsafe { dq.run_shared(out, first * self.out.stride + head * dim)? };
            if self.query_only {
                continue;
            }
            let (dk, dv) = (self.q.channels + head * dim, self.q.channels + self.k.channels + head * value_dim);
            for (values, width, rows, at) in [(&*ds, dim, q, dk), (&*p, value_dim, dy, dv)] {
                rows.pack(isa, m, width, false, packed)?;
                for (j, row) in transposed.chunks_mut(m).take(keys).enumerate() {
                    for (i, t) in row.iter_mut().enumerate() {
                        *t = values[i * own.stride + j];
                    }
                }
                product(keys, width, m, Rows { data: transposed, stride: m }, packed, part, width, 1.0)?;
                self.add(out, part, at, width, first == 0);
            }
        }
        Ok(())
    }

    /// Adds rows of `width` floats to channels `at ..` of the result, or puts them there.
    fn add(&self, out: SharedMut<'_>, part: &[f32], at: usize, width: usize, put: bool) {
        for (row, part) in part.chunks_exact(width).take(self.k.positions()).enumerate() {
            // SAFETY: these rows and channels are this task's.
            let to = unsafe { out.part(row * self.out.stride + at, width) };
            for (to, v) in to.iter_mut().zip(part) {
                *to = if put { *v } else { *to + v };
            }
        }
    }
}

impl Step for AttentionGrad {
    fn name(&self) -> &'static str {
        "attention_grad"
    }

    fn own(&self, _: usize, workers: usize) -> Option<usize> {
        self.own.total.checked_mul(workers)
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let cost = self.q.positions().saturating_mul(self.k.positions()).saturating_mul(run.batch);
        let len = self.own.total;
        run.each(cost, self.heads * run.batch, &|worker, i| {
            // SAFETY: `each` gives one worker number to one thread at a time, so this part is one thread's.
            let memory = unsafe { run.memory.own(worker * len, len).part(0, len) };
            self.head(run, memory, i / self.heads, i % self.heads)
        })
    }
}
