//! Normalisation over the channels of each position.
//!
//! Sums run in vectors of 16 lanes whatever the path, so that each path differs only in its roundings of products; the
//! mean is taken off before squares are summed.
#![allow(unsafe_code)] // Calls the generic vector code on rows of the arena.

use super::super::aligned::Floats;
use super::super::isa::Isa;
use super::super::memory::View;
use super::super::simd::{Simd, dispatch};
use super::{Run, Step, row_of};
use crate::error::{Result, ensure};
use crate::graph::NormKind;

/// [`ChannelNorm`](crate::graph::ChannelNorm).
#[derive(Debug)]
pub struct ChannelNorm {
    pub x: View,
    pub out: View,
    pub kind: NormKind,
    pub groups: usize,
    pub eps: f32,
    /// Of all channels, or of one group.
    pub weight: Option<Floats>,
    pub bias: Option<Floats>,
}

/// The sum of `x - mean`, and of its square.
#[inline(always)]
unsafe fn sums_body<S: Simd>(x: *const f32, n: usize, mean: f32, out: *mut [f32; 2]) {
    // SAFETY: the caller gives n floats at x, and a place to write to.
    unsafe {
        let m = S::splat(mean);
        let (mut sum, mut square) = (S::zero(), S::zero());
        let mut i = 0;
        while i + S::LANES <= n {
            let v = S::sub(S::load(x.add(i)), m);
            sum = S::add(sum, v);
            square = S::mul_add(v, v, square);
            i += S::LANES;
        }
        let [mut sum, mut square] = [S::to_array(sum), S::to_array(square)].map(|v| v[..S::LANES].iter().sum::<f32>());
        while i < n {
            let v = *x.add(i) - mean;
            sum += v;
            square += v * v;
            i += 1;
        }
        *out = [sum, square];
    }
}
dispatch! { unsafe fn sums_raw = sums_body(x: *const f32, n: usize, mean: f32, out: *mut [f32; 2]) }

/// What a row is made of: n floats at each pointer, w and b perhaps null.
struct Line {
    x: *const f32,
    w: *const f32,
    b: *const f32,
    n: usize,
    mean: f32,
    r: f32,
}

/// `out = (x - mean) * r * w + b`.
#[inline(always)]
unsafe fn apply_body<S: Simd>(out: *mut f32, line: &Line) {
    let &Line { x, w, b, n, mean, r } = line;
    // SAFETY: the caller gives n floats at out, x and, where they are there, w and b.
    unsafe {
        let mut i = 0;
        while i < n {
            let len = (n - i).min(S::LANES);
            let mut v = S::mul(S::sub(S::load_most(x.add(i), len), S::splat(mean)), S::splat(r));
            if !w.is_null() {
                v = S::mul(v, S::load_most(w.add(i), len));
            }
            if !b.is_null() {
                v = S::add(v, S::load_most(b.add(i), len));
            }
            S::store_most(out.add(i), len, v);
            i += len;
        }
    }
}
dispatch! { unsafe fn apply_raw = apply_body(out: *mut f32, line: &Line) }

/// Floats that are summed in f32.
pub(super) const BLOCK: usize = 4096;

/// The sum of `x - mean`, and of its square.
fn sums(isa: Isa, x: &[f32], mean: f32) -> [f64; 2] {
    x.chunks(BLOCK).fold([0.0; 2], |[sum, square], part| {
        let mut s = [0.0; 2];
        // SAFETY: the slice holds its floats.
        unsafe { sums_raw(isa, part.as_ptr(), part.len(), mean, &raw mut s) };
        [sum + f64::from(s[0]), square + f64::from(s[1])]
    })
}

/// Group g's n floats of a parameter of c, or of n for all groups alike.
pub(super) fn part(values: Option<&[f32]>, g: usize, n: usize, c: usize) -> &[f32] {
    values.map_or(&[], |v| row_of(v, if v.len() == c { g * n } else { 0 }, n))
}

/// What a group's values are less, what they are multiplied by, and whether the latter is epsilon's alone.
pub(super) fn statistics(isa: Isa, kind: NormKind, eps: f32, x: &[f32]) -> (f32, f32, bool) {
    let (n, eps) = (x.len() as f64, f64::from(eps));
    // Around the first value, so that a mean that is large against the deviation costs no digits.
    let first = x.first().copied().unwrap_or(0.0);
    let mean = match kind {
        NormKind::Layer => (f64::from(first) + sums(isa, x, first)[0] / n) as f32,
        _ => 0.0,
    };
    let square = sums(isa, x, mean)[1];
    let r = match kind {
        NormKind::L2 => libm::sqrt(n) / libm::sqrt(square).max(eps),
        _ => 1.0 / libm::sqrt(square / n + eps),
    };
    (mean, r as f32, kind == NormKind::L2 && libm::sqrt(square) <= eps)
}

impl ChannelNorm {
    /// One group of one position.
    fn group(&self, run: &Run<'_>, x: &[f32], w: &[f32], b: &[f32], out: &mut [f32]) {
        let n = x.len().min(out.len());
        let (mean, r, _) = statistics(run.isa, self.kind, self.eps, x);
        let pointer = |v: &[f32]| if v.len() >= n { v.as_ptr() } else { core::ptr::null() };
        let line = Line { x: x.as_ptr(), w: pointer(w), b: pointer(b), n, mean, r };
        // SAFETY: the slices hold n floats each, or are null.
        unsafe { apply_raw(run.isa, out.as_mut_ptr(), &line) };
    }
}

impl Step for ChannelNorm {
    fn name(&self) -> &'static str {
        "channel_norm"
    }

    fn weight_bytes(&self) -> usize {
        let len = |v: &Option<Floats>| v.as_ref().map_or(0, |v| v.len());
        (len(&self.weight) + len(&self.bias)) * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (x, out, c) = (self.x, self.out, self.x.channels);
        let n = c / self.groups.max(1);
        // SAFETY: the plan gives the result to this step alone and keeps the argument unwritten.
        let (from, to) = unsafe { (run.memory.read(&x), run.memory.write(&out)) };
        run.each_rows(x.positions() * run.batch, c, &|first, last| {
            for r in first..last {
                let row = row_of(from, r * x.stride, c);
                // SAFETY: a row is one task's.
                let to = unsafe { to.part(r * out.stride, c) };
                ensure!(row.len() == c && to.len() == c, Shape, "row {r} is not inside its buffer");
                for (g, (x, y)) in row.chunks_exact(n).zip(to.chunks_exact_mut(n)).enumerate() {
                    // One group's floats of a parameter; all groups may share them.
                    let w = part(self.weight.as_deref(), g, n, c);
                    let b = part(self.bias.as_deref(), g, n, c);
                    self.group(run, x, w, b, y);
                }
            }
            Ok(())
        })
    }
}
