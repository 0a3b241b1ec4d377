//! Attention by blocks of queries: the scores of a few queries with all keys fit in a core's cache, the whole matrix of
//! scores is never made.
#![allow(unsafe_code)] // Tasks write disjoint rows and channels of the result.

use super::super::gemm::matmul::Matmul;
use super::super::gemm::pack::{Source, pack, packed_len};
use super::super::gemm::tile_size;
use super::super::isa::Isa;
use super::super::memory::{View, lines};
use super::super::vmath::softmax_row;
use super::{Run, Step};
use crate::error::{Result, err};

/// [`Attention`](crate::graph::Op::Attention).
#[derive(Debug)]
pub(in super::super) struct Attention {
    heads: usize,
    q: View,
    k: View,
    v: View,
    out: View,
    /// Packed keys and values of all heads of a sample.
    packed: usize,
    /// Floats of one head's packed keys, and of its values.
    key_len: usize,
    value_len: usize,
    /// Queries in a block.
    block: usize,
}

impl Attention {
    /// `packed` is the buffer for [`Attention::packed_len`] floats per sample.
    pub fn new(isa: Isa, heads: usize, q: View, k: View, v: View, out: View, packed: usize) -> Result<Self> {
        let (dim, value_dim, keys) = (q.channels / heads.max(1), v.channels / heads.max(1), k.positions());
        let too_large = || err!(OutOfMemory, "attention over {keys} keys is too large");
        let key_len = lines(packed_len(isa, dim, keys).ok_or_else(too_large)?)?;
        let value_len = lines(packed_len(isa, keys, value_dim).ok_or_else(too_large)?)?;
        // Two tiles high: the packed keys are read once for twice the queries.
        let block = (2 * tile_size(isa).0).min(q.positions());
        Ok(Self { heads, q, k, v, out, packed, key_len, value_len, block })
    }

    /// Floats of packed keys and values for one sample.
    pub fn packed_len(&self) -> Result<usize> {
        let per_head = self.key_len.checked_add(self.value_len);
        per_head
            .and_then(|n| n.checked_mul(self.heads))
            .ok_or_else(|| err!(OutOfMemory, "attention with {} heads is too large", self.heads))
    }

    fn dims(&self) -> (usize, usize, usize) {
        (self.q.channels / self.heads, self.v.channels / self.heads, self.k.positions())
    }

    /// Packs the keys or the values of one head.
    fn pack(&self, run: &Run<'_>, sample: usize, head: usize, values: bool) -> Result<()> {
        let (dim, value_dim, keys) = self.dims();
        let at = (sample * self.heads + head) * (self.key_len + self.value_len);
        // SAFETY: the buffer is this step's, and each head's keys and values are one task's. The plan keeps arguments unwritten.
        let (buffer, k, v) = unsafe {
            let all = run.memory.buffer(self.packed, self.packed_len()?);
            let (at, len) = if values { (at + self.key_len, self.value_len) } else { (at, self.key_len) };
            (all.part(at, len), run.memory.read(&self.k), run.memory.read(&self.v))
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

    /// One block of queries of one head.
    fn block(&self, run: &Run<'_>, scratch: &mut [f32], sample: usize, head: usize, first: usize) -> Result<()> {
        let (dim, value_dim, keys) = self.dims();
        let isa = run.isa;
        let m = self.block.min(self.q.positions() - first);
        let at = (sample * self.heads + head) * (self.key_len + self.value_len);
        let row = sample * self.q.positions() + first;
        let missing = || err!(Shape, "attention reads outside of its arguments");
        // SAFETY: the packed buffer is only read now, the result's rows and channels of this block are this task's.
        let (keys_packed, values_packed, q, out) = unsafe {
            let all = run.memory.buffer(self.packed, self.packed_len()?);
            let k = all.part(at, packed_len(isa, dim, keys).ok_or_else(missing)?);
            let v = all.part(at + self.key_len, packed_len(isa, keys, value_dim).ok_or_else(missing)?);
            (&*k, &*v, run.memory.read(&self.q), run.memory.write(&self.out))
        };
        let a = q.get(row * self.q.stride + head * dim..).ok_or_else(missing)?;
        let stride = keys.next_multiple_of(super::super::memory::LINE);
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

    fn scratch(&self) -> usize {
        self.block.saturating_mul(self.k.positions().next_multiple_of(super::super::memory::LINE))
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (dim, value_dim, keys) = self.dims();
        let heads = self.heads * run.batch;
        let cost = heads.saturating_mul(keys).saturating_mul(dim + value_dim);
        run.each(cost, 2 * heads, &|_, i| {
            let head = i / 2;
            self.pack(run, head / self.heads, head % self.heads, i % 2 == 1)
        })?;
        let blocks = self.q.positions().div_ceil(self.block);
        run.each(cost.saturating_mul(self.block), blocks * heads, &|worker, i| {
            let head = i / blocks;
            // SAFETY: `each` gives one worker number to one thread at a time.
            let scratch = unsafe { run.memory.scratch(worker, self.scratch()) };
            self.block(run, scratch, head / self.heads, head % self.heads, i % blocks * self.block)
        })
    }
}
