//! A row of pixels as integers: normalised, activated, repeated.
#![allow(unsafe_code)] // Raw rows of the arena and of the padded input.

use super::super::super::halves;
use super::super::super::simd::{Simd, dispatch, unroll};
use super::super::super::vmath::silu_near_v;

/// One row of pixels of one source, on its way to integers.
pub(super) struct Line {
    pub input: *const u8,
    pub half: bool,
    pub stride: usize,
    pub out: *mut u8,
    pub out_stride: usize,
    pub pixels: usize,
    pub channels: usize,
    pub repeat: usize,
    pub scale: *const f32,
    pub shift: *const f32,
    pub silu: bool,
    pub inverse: f32,
    pub zero: f32,
    /// [`MAGIC`] and the excess.
    pub magic: f32,
}

/// 1.5 * 2^23: a float this large has no room for a fraction, so adding it rounds to an integer, ties to even, which
/// then stands in its low bits. As it is even, so it does with any even number more.
pub(super) const MAGIC: f32 = 12_582_912.0;

#[inline(always)]
unsafe fn line_body<S: Simd>(l: &Line) {
    // What is known where it is compiled makes loops without a question in them.
    // SAFETY: the caller gives `pixels` pixels of `channels` values, `stride` apart, as many floats of scale and shift
    // or null, and `pixels * repeat` pixels of integers that lie `out_stride` apart.
    unsafe {
        match (l.half, l.scale.is_null(), l.silu) {
            (true, false, true) => pixels::<S, true, true, true>(l),
            (false, false, true) => pixels::<S, false, true, true>(l),
            (true, false, false) => pixels::<S, true, true, false>(l),
            (false, false, false) => pixels::<S, false, true, false>(l),
            (true, true, false) => pixels::<S, true, false, false>(l),
            (false, true, false) => pixels::<S, false, false, false>(l),
            (true, true, true) => pixels::<S, true, false, true>(l),
            (false, true, true) => pixels::<S, false, false, true>(l),
        }
        if !l.channels.is_multiple_of(S::LANES) {
            rest::<S>(l);
        }
    }
}

/// The whole vectors of every pixel.
#[inline(always)]
unsafe fn pixels<S: Simd, const HALF: bool, const AFFINE: bool, const SILU: bool>(l: &Line) {
    // SAFETY: the contract of `line_body`.
    unsafe {
        let to = Bytes::<S>::new(l);
        let whole = l.channels - l.channels % S::LANES;
        let (mut input, mut out) = (l.input, l.out);
        for _ in 0..l.pixels {
            let mut c = 0;
            while S::TOGETHER && c + 4 * S::LANES <= whole {
                let ([v0, v1], [v2, v3]) =
                    (two::<S, HALF, AFFINE>(l, input, c), two::<S, HALF, AFFINE>(l, input, c + 2 * S::LANES));
                let mut all = [v0, v1, v2, v3];
                unroll!(i in [0 1 2 3] => { all[i] = to.of::<SILU>(all[i]) });
                S::store_four_low_bytes(out.add(c), all);
                c += 4 * S::LANES;
            }
            while c < whole {
                let mut v = halves::load::<S>(input, HALF, c, S::LANES);
                if AFFINE {
                    v = S::mul_add(v, S::load(l.scale.add(c)), S::load(l.shift.add(c)));
                }
                S::store_low_bytes(out.add(c), S::LANES, to.of::<SILU>(v));
                c += S::LANES;
            }
            let first = out;
            out = out.wrapping_add(l.out_stride);
            for _ in 1..l.repeat {
                core::ptr::copy_nonoverlapping(first, out, whole);
                out = out.wrapping_add(l.out_stride);
            }
            input = input.wrapping_add(l.stride * if HALF { 2 } else { 4 });
        }
    }
}

/// Two vectors from channel `c` on.
#[inline(always)]
unsafe fn two<S: Simd, const HALF: bool, const AFFINE: bool>(l: &Line, input: *const u8, c: usize) -> [S::V; 2] {
    // SAFETY: the contract of `line_body`.
    unsafe {
        let next = c + S::LANES;
        let [mut v, mut w] = if HALF {
            S::load_two_bf16(input.cast::<u16>().add(c))
        } else {
            [S::load(input.cast::<f32>().add(c)), S::load(input.cast::<f32>().add(next))]
        };
        if AFFINE {
            v = S::mul_add(v, S::load(l.scale.add(c)), S::load(l.shift.add(c)));
            w = S::mul_add(w, S::load(l.scale.add(next)), S::load(l.shift.add(next)));
        }
        [v, w]
    }
}

/// What makes integers of values.
struct Bytes<S: Simd> {
    inverse: S::V,
    least: S::V,
    most: S::V,
    magic: S::V,
}

impl<S: Simd> Bytes<S> {
    #[inline(always)]
    unsafe fn new(l: &Line) -> Self {
        // SAFETY: the caller answers for the instructions.
        unsafe {
            // The input's zero is added with the number that rounds, as it then is exactly.
            let (least, most, magic) =
                (S::splat(-128.0 - l.zero), S::splat(127.0 - l.zero), S::splat(l.magic + l.zero));
            Self { inverse: S::splat(l.inverse), least, most, magic }
        }
    }

    /// Values whose lowest bytes are the integers.
    #[inline(always)]
    unsafe fn of<const SILU: bool>(&self, mut v: S::V) -> S::V {
        // SAFETY: the caller answers for the instructions.
        unsafe {
            if SILU {
                v = silu_near_v::<S>(v);
            }
            // Not multiplied and added in one: all paths make the same integers of the same values.
            S::add(S::min(S::max(S::mul(v, self.inverse), self.least), self.most), self.magic)
        }
    }
}

/// The last vector of every pixel, where it is not whole.
#[inline(always)]
unsafe fn rest<S: Simd>(l: &Line) {
    let n = l.channels % S::LANES;
    let c = l.channels - n;
    // SAFETY: the contract of `line_body`.
    unsafe {
        let to = Bytes::<S>::new(l);
        for x in 0..l.pixels {
            let mut v = halves::load::<S>(l.input, l.half, x * l.stride + c, n);
            if !l.scale.is_null() {
                v = S::mul_add(v, S::load_n(l.scale.add(c), n), S::load_n(l.shift.add(c), n));
            }
            v = if l.silu { to.of::<true>(v) } else { to.of::<false>(v) };
            for r in 0..l.repeat {
                S::store_low_bytes(l.out.add((x * l.repeat + r) * l.out_stride + c), n, v);
            }
        }
    }
}
dispatch! { pub(super) unsafe fn line_raw = line_body(l: &Line) }
