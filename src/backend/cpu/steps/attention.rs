//! Attention by blocks of queries: the scores of a few queries with all keys fit in a core's cache, the whole matrix of
//! scores is never made.
#![allow(unsafe_code)] // Tasks write disjoint rows and channels of the result.

use super::super::gemm::matmul::Matmul;
use super::super::gemm::pack::{Source, pack, packed_len};
use super::super::gemm::tile_size;
use super::super::isa::Isa;
use super::super::memory::{LINE, View, lines};
use super::super::vmath::softmax_row;
use super::{Run, Step};
use crate::error::{Result, err};

/// Floats of packed keys and values that are made and consumed at a time.
const GROUP: usize = 1 << 20;

/// [`Attention`](crate::graph::Op::Attention).
#[derive(Debug)]
pub struct Attention {
    pub heads: usize,
    pub q: View,
    pub k: View,
    pub v: View,
    pub out: View,
    /// Floats of one head's packed keys, and of its values.
    pub key_len: usize,
    pub value_len: usize,
    /// Queries in a block.
    pub block: usize,
}

impl Attention {
    /// Of views whose dimensions the graph has checked.
    pub fn new(isa: Isa, heads: usize, q: View, k: View, v: View, out: View) -> Result<Self> {
        let (dim, value_dim, keys) = (q.channels / heads.max(1), v.channels / heads.max(1), k.positions());
        let too_large = || err!(OutOfMemory, "attention over {keys} keys is too large");
        let key_len = lines(packed_len(isa, dim, keys).ok_or_else(too_large)?)?;
        let value_len = lines(packed_len(isa, keys, value_dim).ok_or_else(too_large)?)?;
        // Two tiles high: the packed keys are read once for twice the queries.
        let block = (2 * tile_size(isa).0).min(q.positions());
        Ok(Self { heads, q, k, v, out, key_len, value_len, block })
    }

    /// Floats of packed keys and values for `samples` samples.
    fn packed_len(&self, samples: usize) -> Option<usize> {
        self.key_len.checked_add(self.value_len)?.checked_mul(self.heads)?.checked_mul(samples)
    }

    /// How many samples are packed and consumed at a time.
    fn group(&self, batch: usize) -> usize {
        (GROUP / self.packed_len(1).unwrap_or(GROUP).max(1)).clamp(1, batch.max(1))
    }

    /// Floats of one worker's scores.
    fn scores_len(&self) -> Option<usize> {
        self.block.checked_mul(self.k.positions().checked_next_multiple_of(LINE)?)?.checked_next_multiple_of(LINE)
    }

    fn dims(&self) -> (usize, usize, usize) {
        (self.q.channels / self.heads, self.v.channels / self.heads, self.k.positions())
    }

    /// Packs the keys or the values of one head into place `slot`.
    fn pack(&self, run: &Run<'_>, slot: usize, sample: usize, head: usize, values: bool) -> Result<()> {
        let (dim, value_dim, keys) = self.dims();
        let at = slot * (self.key_len + self.value_len);
        // SAFETY: the memory is this step's, and each head's keys and values are one task's. The plan keeps arguments
        // unwritten.
        let (buffer, k, v) = unsafe {
            let (at, len) = if values { (at + self.key_len, self.value_len) } else { (at, self.key_len) };
            (run.memory.own(at, len).part(0, len), run.memory.read(&self.k), run.memory.read(&self.v))
        };
        let rows = |data: &'_ [f32], view: &View, width: usize| {
            let begin = sample * keys * view.stride + head * width;
            data.get(begin..).map(<[f32]>::as_ptr).map(|_| begin)
        };
        let missing = || err!(Shape, "attention reads outside of its arguments");
        if values {
            let begin = rows(v, &self.v, value_dim).ok_or_else(missing)?;
            let n = packed_len(run.isa, keys, value_dim).ok_or_else(missing)?;
            pack(run.isa, keys, value_dim, Source::Rows { data: &v[begin..], stride: self.v.stride }, &mut buffer[..n])
        } else {
            let begin = rows(k, &self.k, dim).ok_or_else(missing)?;
            let n = packed_len(run.isa, dim, keys).ok_or_else(missing)?;
            pack(run.isa, dim, keys, Source::Columns { data: &k[begin..], stride: self.k.stride }, &mut buffer[..n])
        }
    }

    /// One block of queries of one head, whose keys and values are packed in place `slot`.
    fn block(&self, run: &Run<'_>, scratch: &mut [f32], slot: usize, [sample, head, first]: [usize; 3]) -> Result<()> {
        let (dim, value_dim, keys) = self.dims();
        let isa = run.isa;
        let m = self.block.min(self.q.positions() - first);
        let at = slot * (self.key_len + self.value_len);
        let row = sample * self.q.positions() + first;
        let missing = || err!(Shape, "attention reads outside of its arguments");
        // SAFETY: the packed buffer is only read now, the result's rows and channels of this block are this task's.
        let (keys_packed, values_packed, q, out) = unsafe {
            let packed = |at: usize, len: usize| &*run.memory.own(at, len).part(0, len);
            let k = packed(at, packed_len(isa, dim, keys).ok_or_else(missing)?);
            let v = packed(at + self.key_len, packed_len(isa, keys, value_dim).ok_or_else(missing)?);
            (k, v, run.memory.read(&self.q), run.memory.write(&self.out))
        };
        let a = q.get(row * self.q.stride + head * dim..).ok_or_else(missing)?;
        let stride = keys.next_multiple_of(LINE);
        let scores = scratch.get_mut(..m * stride).ok_or_else(missing)?;
        Matmul { isa, m, n: keys, k: dim, a, a_stride: self.q.stride, b: keys_packed, c_stride: stride, scale: 1.0 }
            .run(scores)?;
        let scale = (1.0 / libm::sqrt(dim as f64)) as f32;
        for row in scores.chunks_exact_mut(stride) {
            softmax_row(isa, &mut row[..keys], scale);
        }
        let product = Matmul {
            isa,
            m,
            n: value_dim,
            k: keys,
            a: scores,
            a_stride: stride,
            b: values_packed,
            c_stride: self.out.stride,
            scale: 1.0,
        };
        // SAFETY: these rows and channels are this task's.
        unsafe { product.run_shared(out, row * self.out.stride + head * value_dim)? };
        Ok(())
    }
}

impl Step for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn own(&self, batch: usize, workers: usize) -> Option<usize> {
        self.scores_len()?.checked_mul(workers)?.checked_add(self.packed_len(self.group(batch))?)
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (dim, value_dim, keys) = self.dims();
        let too_large = || err!(OutOfMemory, "attention over {keys} keys is too large");
        let group = self.group(run.batch);
        let (packed, len) = self.packed_len(group).zip(self.scores_len()).ok_or_else(too_large)?;
        for first in (0..run.batch).step_by(group) {
            let heads = self.heads * group.min(run.batch - first);
            let cost = heads.saturating_mul(keys).saturating_mul(dim + value_dim);
            run.each(cost, 2 * heads, &|_, i| {
                let slot = i / 2;
                self.pack(run, slot, first + slot / self.heads, slot % self.heads, i % 2 == 1)
            })?;
            let blocks = self.q.positions().div_ceil(self.block);
            run.each(cost.saturating_mul(self.block), blocks * heads, &|worker, i| {
                let slot = i / blocks;
                // SAFETY: `each` gives one worker number to one thread at a time, so this part is one thread's.
                let scratch = unsafe { run.memory.own(packed + worker * len, len).part(0, len) };
                let place = [first + slot / self.heads, slot % self.heads, i % blocks * self.block];
                self.block(run, scratch, slot, place)
            })?;
        }
        Ok(())
    }
}
