//! What becomes of a tile's sums: factor, zero, bias, what is added, and the rows that they are stored in.
#![allow(unsafe_code)] // Raw rows of the arena.

use super::super::super::halves;
use super::super::super::integers::{MOST_COLUMNS, MOST_ROWS};
use super::super::super::simd::{Simd, dispatch, unroll};

/// What becomes of a tile's sums.
pub(super) struct Finish {
    /// The sums of a row, `width` of them, and so on: at most [`MOST_ROWS`].
    pub sums: *const i32,
    pub width: usize,
    pub rows: usize,
    /// Columns that are stored.
    pub n: usize,
    pub factor: *const f32,
    pub offset: *const i32,
    pub bias: *const f32,
    pub channel: *const f32,
    pub residual: Option<Rows>,
    pub scale: f32,
    /// The results if an activation that is to come needs them; else they are stored at once.
    pub values: Option<[f32; MOST_ROWS * MOST_COLUMNS]>,
    pub out: Rows,
}

/// Asks for what a tile will read and write when its sums are there.
#[inline(always)]
unsafe fn ask_body<S: Simd>(f: &Finish) {
    for rows in f.residual.iter().chain([&f.out]) {
        for r in 0..f.rows.min(MOST_ROWS) {
            let mut byte = 0;
            while byte < f.n * rows.size {
                // SAFETY: the CPU has the instructions of S; the memory is not touched.
                unsafe { S::prefetch(rows.at(r, 0).wrapping_add(byte).cast_const().cast()) };
                byte += 64;
            }
        }
    }
}
dispatch! { pub(super) unsafe fn ask_raw = ask_body(f: &Finish) }

#[inline(always)]
unsafe fn finish_body<S: Simd>(f: &mut Finish) {
    // What is known where it is compiled makes loops without a question in them.
    // SAFETY: factor, offset and bias have whole panels, as the sums do; channel and residual, where there are, and the
    // rows of the result have n values.
    unsafe {
        if S::TOGETHER && f.values.is_none() && f.n.is_multiple_of(2 * S::LANES) {
            return match (f.residual, f.out.half()) {
                (None, true) => pairs::<S, false, true>(f, f.out),
                (None, false) => pairs::<S, false, false>(f, f.out),
                (Some(x), true) => pairs::<S, true, true>(f, x),
                (Some(x), false) => pairs::<S, true, false>(f, x),
            };
        }
        let all = f.values.is_none() && f.out.half() && f.n.is_multiple_of(S::LANES);
        match (all, f.residual, f.channel.is_null()) {
            (true, None, true) => whole::<S, false, false>(f, f.out),
            (true, None, false) => whole::<S, false, true>(f, f.out),
            (true, Some(x), true) if x.half() => whole::<S, true, false>(f, x),
            _ => any::<S>(f),
        }
    }
}

/// Whole vectors of a result of bf16, and a residual or a channel value.
#[inline(always)]
unsafe fn whole<S: Simd, const RESIDUAL: bool, const CHANNEL: bool>(f: &Finish, residual: Rows) {
    // SAFETY: the contract of `finish_body`.
    unsafe {
        let scale = S::splat(f.scale);
        for c in (0..f.n).step_by(S::LANES) {
            let (factor, bias) = (S::load(f.factor.add(c)), S::load(f.bias.add(c)));
            let channel = if CHANNEL { S::load(f.channel.add(c)) } else { bias };
            let (mut sums, offset) = (f.sums.add(c), f.offset.add(c));
            let (mut x, mut out) = (residual.at(0, c).cast::<u16>(), f.out.at(0, c).cast::<u16>());
            for _ in 0..f.rows {
                let mut v = S::add(S::mul(S::load_differences(sums, offset, S::LANES), factor), bias);
                if CHANNEL {
                    v = S::add(v, channel);
                }
                if RESIDUAL {
                    v = S::add(v, S::load_bf16(x));
                    x = x.wrapping_add(residual.stride);
                }
                S::store_bf16(out, S::LANES, S::mul(v, scale));
                (sums, out) = (sums.wrapping_add(f.width), out.wrapping_add(f.out.stride));
            }
        }
    }
}

/// Two vectors at a time.
#[inline(always)]
unsafe fn pairs<S: Simd, const RESIDUAL: bool, const HALF: bool>(f: &Finish, residual: Rows) {
    // SAFETY: the contract of `finish_body`.
    unsafe {
        // A product with 1 changes nothing.
        match (f.channel.is_null(), f.scale == 1.0) {
            (true, true) => pairs_of::<S, RESIDUAL, HALF, false, false>(f, residual),
            (true, false) => pairs_of::<S, RESIDUAL, HALF, false, true>(f, residual),
            (false, true) => pairs_of::<S, RESIDUAL, HALF, true, false>(f, residual),
            (false, false) => pairs_of::<S, RESIDUAL, HALF, true, true>(f, residual),
        }
    }
}

#[inline(always)]
unsafe fn pairs_of<S: Simd, const RESIDUAL: bool, const HALF: bool, const CHANNEL: bool, const SCALE: bool>(
    f: &Finish,
    residual: Rows,
) {
    // SAFETY: the contract of `finish_body`.
    unsafe {
        let scale = S::splat(f.scale);
        for c in (0..f.n).step_by(2 * S::LANES) {
            let (factor, bias) = (two::<S>(f.factor.add(c)), two::<S>(f.bias.add(c)));
            let offset = two::<S>(f.offset.add(c).cast());
            let channel = if CHANNEL { two::<S>(f.channel.add(c)) } else { bias };
            let mut sums = f.sums.add(c);
            let (mut x, mut out) = (residual.at(0, c), f.out.at(0, c));
            for _ in 0..f.rows {
                let mut v = [S::differences(sums, offset[0]), S::differences(sums.add(S::LANES), offset[1])];
                unroll!(i in [0 1] => { v[i] = S::add(S::mul(v[i], factor[i]), bias[i]) });
                if CHANNEL {
                    unroll!(i in [0 1] => { v[i] = S::add(v[i], channel[i]) });
                }
                if RESIDUAL {
                    let more = if residual.half() { S::load_two_bf16(x.cast()) } else { two::<S>(x.cast()) };
                    unroll!(i in [0 1] => { v[i] = S::add(v[i], more[i]) });
                    x = x.wrapping_add(residual.stride * residual.size);
                }
                if SCALE {
                    unroll!(i in [0 1] => { v[i] = S::mul(v[i], scale) });
                }
                if HALF {
                    S::store_two_bf16(out.cast(), v);
                } else {
                    S::store(out.cast(), v[0]);
                    S::store(out.cast::<f32>().add(S::LANES), v[1]);
                }
                sums = sums.wrapping_add(f.width);
                out = out.wrapping_add(f.out.stride * f.out.size);
            }
        }
    }
}

#[inline(always)]
unsafe fn two<S: Simd>(p: *const f32) -> [S::V; 2] {
    // SAFETY: the caller's `p` is valid for two vectors.
    unsafe { [S::load(p), S::load(p.add(S::LANES))] }
}

#[inline(always)]
unsafe fn any<S: Simd>(f: &mut Finish) {
    // SAFETY: the contract of `finish_body`.
    unsafe {
        let scale = S::splat(f.scale);
        let mut c = 0;
        while c < f.n {
            let n = (f.n - c).min(S::LANES);
            let (factor, bias) = (S::load_most(f.factor.add(c), n), S::load_most(f.bias.add(c), n));
            let offset = f.offset.add(c);
            let channel = if f.channel.is_null() { None } else { Some(S::load_most(f.channel.add(c), n)) };
            for r in 0..f.rows.min(MOST_ROWS) {
                let sums = S::load_differences(f.sums.add(r * f.width + c), offset, n);
                // Not multiplied and added in one: all paths make the same of the same sums.
                let mut v = S::add(S::mul(sums, factor), bias);
                if let Some(channel) = channel {
                    v = S::add(v, channel);
                }
                if let Some(x) = f.residual {
                    v = S::add(v, halves::load::<S>(x.at(r, 0), x.half(), c, n));
                }
                v = S::mul(v, scale);
                match &mut f.values {
                    Some(values) => S::store_n(values.as_mut_ptr().add(r * f.width + c), n, v),
                    None => f.out.store::<S>(r, c, n, v),
                }
            }
            c += n;
        }
    }
}
dispatch! { pub(super) unsafe fn finish_raw = finish_body(f: &mut Finish) }

/// Stores what was kept for an activation.
#[inline(always)]
unsafe fn store_body<S: Simd>(f: &Finish) {
    let Some(values) = &f.values else { return };
    for r in 0..f.rows.min(MOST_ROWS) {
        let mut c = 0;
        while c < f.n {
            let n = (f.n - c).min(S::LANES);
            // SAFETY: the rows of the result have n values.
            unsafe {
                let v = halves::load::<S>(values.as_ptr().add(r * f.width).cast(), false, c, n);
                f.out.store::<S>(r, c, n, v);
            }
            c += n;
        }
    }
}
dispatch! { pub(super) unsafe fn store_raw = store_body(f: &Finish) }

/// A value's rows, found inside the arena for all samples.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub data: *mut u8,
    /// Bytes of a value.
    pub size: usize,
    pub stride: usize,
}

impl Rows {
    /// Element `c` of row `r`.
    #[inline(always)]
    pub fn at(self, r: usize, c: usize) -> *mut u8 {
        self.data.wrapping_add((r * self.stride + c) * self.size)
    }

    /// Those from element `c` of row `r` on.
    pub fn from(self, r: usize, c: usize) -> Self {
        Self { data: self.at(r, c), ..self }
    }

    /// Every `n`th.
    pub fn every(self, n: usize) -> Self {
        Self { stride: self.stride * n, ..self }
    }

    /// Whether they are bf16.
    #[inline(always)]
    fn half(self) -> bool {
        self.size == 2
    }

    /// Writes `n` values of row `r` from element `c` on.
    ///
    /// # Safety
    /// They are inside and the caller's alone, and the CPU has the instructions of `S`.
    #[inline(always)]
    unsafe fn store<S: Simd>(self, r: usize, c: usize, n: usize, v: S::V) {
        let to = self.at(r, c);
        // SAFETY: the caller's contract.
        unsafe {
            match self.half() {
                true => S::store_bf16(to.cast(), n, v),
                false if n == S::LANES => S::store(to.cast(), v),
                false => S::store_n(to.cast(), n, v),
            }
        }
    }
}
