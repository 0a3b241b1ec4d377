//! The gradient of a normalisation over the channels of each position.
//!
//! With z the normalised row and g = dy w: `dx = r (g - mean(g) - z mean(g z))`, without the mean of g where the norm
//! takes none off.
#![allow(unsafe_code)] // Calls the generic vector code on rows of the arena.

use super::super::aligned::Floats;
use super::super::isa::Isa;
use super::super::memory::View;
use super::super::simd::{Simd, dispatch};
use super::channel_norm::{BLOCK, part, statistics};
use super::{Run, Step, row_of};
use crate::error::{Result, ensure};
use crate::graph::NormKind;

/// [`ChannelNormGrad`](crate::graph::Op::ChannelNormGrad).
#[derive(Debug)]
pub struct ChannelNormGrad {
    pub x: View,
    pub dy: View,
    pub out: View,
    pub kind: NormKind,
    pub groups: usize,
    pub eps: f32,
    /// Of all channels, or of one group.
    pub weight: Option<Floats>,
}

/// What a row is made of: n floats at each pointer, w perhaps null.
struct Line {
    x: *const f32,
    dy: *const f32,
    w: *const f32,
    n: usize,
    mean: f32,
}

/// The sum of g, and of `g (x - mean)`.
#[inline(always)]
unsafe fn dots_body<S: Simd>(line: &Line, out: *mut [f32; 2]) {
    let &Line { x, dy, w, n, mean } = line;
    // SAFETY: the caller gives n floats at x, dy and, where it is there, w, and a place to write to.
    unsafe {
        let m = S::splat(mean);
        let (mut sum, mut product) = (S::zero(), S::zero());
        let mut i = 0;
        while i + S::LANES <= n {
            let mut g = S::load(dy.add(i));
            if !w.is_null() {
                g = S::mul(g, S::load(w.add(i)));
            }
            sum = S::add(sum, g);
            product = S::mul_add(g, S::sub(S::load(x.add(i)), m), product);
            i += S::LANES;
        }
        let [mut sum, mut product] =
            [S::to_array(sum), S::to_array(product)].map(|v| v[..S::LANES].iter().sum::<f32>());
        while i < n {
            let g = if w.is_null() { *dy.add(i) } else { *dy.add(i) * *w.add(i) };
            sum += g;
            product += g * (*x.add(i) - mean);
            i += 1;
        }
        *out = [sum, product];
    }
}
dispatch! { unsafe fn dots_raw = dots_body(line: &Line, out: *mut [f32; 2]) }

/// `out = g r - offset - (x - mean) slope`.
#[inline(always)]
unsafe fn apply_body<S: Simd>(out: *mut f32, line: &Line, r: f32, offset: f32, slope: f32) {
    let &Line { x, dy, w, n, mean } = line;
    // SAFETY: the caller gives n floats at out, x, dy and, where it is there, w.
    unsafe {
        let mut i = 0;
        while i < n {
            let len = (n - i).min(S::LANES);
            let mut g = S::load_most(dy.add(i), len);
            if !w.is_null() {
                g = S::mul(g, S::load_most(w.add(i), len));
            }
            let z = S::mul(S::sub(S::load_most(x.add(i), len), S::splat(mean)), S::splat(slope));
            let v = S::sub(S::sub(S::mul(g, S::splat(r)), S::splat(offset)), z);
            S::store_most(out.add(i), len, v);
            i += len;
        }
    }
}
dispatch! { unsafe fn apply_raw = apply_body(out: *mut f32, line: &Line, r: f32, offset: f32, slope: f32) }

/// The sum of g, and of `g (x - mean)`; w is empty or as long.
fn dots(isa: Isa, [x, dy, w]: [&[f32]; 3], mean: f32) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for (i, (x, dy)) in x.chunks(BLOCK).zip(dy.chunks(BLOCK)).enumerate() {
        let n = x.len().min(dy.len());
        let w = row_of(w, i * BLOCK, n);
        let w = if w.len() == n { w.as_ptr() } else { core::ptr::null() };
        let mut s = [0.0; 2];
        // SAFETY: the slices hold n floats each, or w is null.
        unsafe { dots_raw(isa, &Line { x: x.as_ptr(), dy: dy.as_ptr(), w, n, mean }, &raw mut s) };
        sums[0] += f64::from(s[0]);
        sums[1] += f64::from(s[1]);
    }
    sums
}

impl ChannelNormGrad {
    /// One group of one position.
    fn group(&self, run: &Run<'_>, x: &[f32], dy: &[f32], w: &[f32], out: &mut [f32]) {
        let n = x.len().min(dy.len()).min(out.len());
        let (mean, r, constant) = statistics(run.isa, self.kind, self.eps, x);
        let [sum, product] = dots(run.isa, [x, dy, w], mean);
        let (r, len) = (f64::from(r), n as f64);
        let offset = if self.kind == NormKind::Layer { r * sum / len } else { 0.0 };
        let slope = if constant { 0.0 } else { r * r * r * product / len };
        let w = if w.len() >= n { w.as_ptr() } else { core::ptr::null() };
        let line = Line { x: x.as_ptr(), dy: dy.as_ptr(), w, n, mean };
        // SAFETY: the slices hold n floats each, or w is null.
        unsafe { apply_raw(run.isa, out.as_mut_ptr(), &line, r as f32, offset as f32, slope as f32) };
    }
}

impl Step for ChannelNormGrad {
    fn name(&self) -> &'static str {
        "channel_norm_grad"
    }

    fn weight_bytes(&self) -> usize {
        self.weight.as_ref().map_or(0, |v| v.len()) * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (x, dy, out, c) = (self.x, self.dy, self.out, self.x.channels);
        let n = c / self.groups.max(1);
        // SAFETY: the plan gives the result to this step alone and keeps the arguments unwritten.
        let (from, by, to) = unsafe { (run.memory.read(&x), run.memory.read(&dy), run.memory.write(&out)) };
        run.each_rows(x.positions() * run.batch, c, &|first, last| {
            for r in first..last {
                let (row, by) = (row_of(from, r * x.stride, c), row_of(by, r * dy.stride, c));
                // SAFETY: a row is one task's.
                let to = unsafe { to.part(r * out.stride, c) };
                let whole = [row.len(), by.len(), to.len()] == [c; 3];
                ensure!(whole, Shape, "row {r} is not inside its buffer");
                let parts = row.chunks_exact(n).zip(by.chunks_exact(n)).zip(to.chunks_exact_mut(n));
                for (g, ((x, dy), to)) in parts.enumerate() {
                    self.group(run, x, dy, part(self.weight.as_deref(), g, n, c), to);
                }
            }
            Ok(())
        })
    }
}
