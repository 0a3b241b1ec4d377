//! Tiles of bf16 for AVX-512's VDPBF16PS: an entry of A or B is two neighbours of the sum in the 32 bits of a float,
//! and one instruction multiplies and adds sixteen such pairs, in f32.
//!
//! It takes denormal numbers for 0. Fourteen rows by two vectors of columns, as f32's tiles.
#![allow(unsafe_code)] // Vendor intrinsics and raw row pointers; every dereference is inside what `Tile` promises.

use core::arch::x86_64::*;
use core::mem::{MaybeUninit, transmute};

use super::super::isa::Path;
#[cfg(feature = "std")]
use super::super::simd::Simd;
use super::super::simd::{Avx512, unroll};
use super::tile::{MAX_MR, Tile, TileFn, Tiles, store_body};

/// Floats of a cache line, and bytes of B before those that are multiplied for which is asked: processors do not look
/// beyond a page by themselves.
const LINE: usize = 16;
const AHEAD: usize = 4096;

/// [`Tile`]'s contract, where all but what is stored is counted in pairs.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512dq,avx512bw,avx512bf16")]
unsafe fn tile<const MR: usize, const NV: usize>(t: &Tile<'_>) -> Path {
    let mut acc = [[_mm512_setzero_ps(); NV]; MR];
    let mut sums = [[MaybeUninit::<__m512>::uninit(); NV]; MR];
    let sums: *mut f32 = sums.as_mut_ptr().cast();
    // SAFETY: the contract of `Tile` for every pointer; the features are enabled here; `sums` has room for all.
    unsafe {
        let mut b = t.b.cast::<f32>();
        let mut a = [core::ptr::null::<f32>(); MR];
        let (mut k, mut end, mut len) = (0, 0, 0);
        let mut segments = t.segments.iter();
        // One loop: around loops within one another compilers spill so many sums.
        loop {
            if k == end {
                if k == len {
                    let Some(s) = segments.find(|s| s.len > 0) else { break };
                    unroll!(i in MR => { a[i] = t.a[0][i].add(s.offset) });
                    (k, len) = (0, s.len);
                }
                end = len.min(k + LINE);
                unroll!(i in MR => { _mm_prefetch::<_MM_HINT_T0>(a[i].wrapping_add(k + t.ahead).cast()) });
            }
            let mut w = [_mm512_setzero_ps(); NV];
            unroll!(j in NV => {
                w[j] = _mm512_loadu_ps(b.add(j * LINE));
                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD / 4 + j * LINE).cast());
            });
            b = b.add(NV * LINE);
            unroll!(i in MR => {
                let x = transmute::<__m512, __m512bh>(_mm512_set1_ps(*a[i].add(k)));
                unroll!(j in NV => {
                    acc[i][j] = _mm512_dpbf16_ps(acc[i][j], x, transmute::<__m512, __m512bh>(w[j]));
                });
            });
            k += 1;
        }
        unroll!(i in MR => {
            unroll!(j in NV => { _mm512_storeu_ps(sums.add((i * NV + j) * LINE), acc[i][j]) });
        });
        store::<NV>(t, sums, MR);
    }
    Path::Avx512
}

/// Sums on their way into the rows of one image, with what [`Tile`] adds to them.
#[cfg(feature = "std")]
#[derive(Debug)]
pub(in super::super) struct Sums {
    /// The first row, and floats from one to the next: whole vectors.
    pub sums: *const f32,
    pub pitch: usize,
    pub rows: usize,
    /// Columns that are stored.
    pub n: usize,
    /// Of as many columns as there are sums.
    pub bias: *const f32,
    /// Of `n` columns, or null.
    pub sample: *const f32,
    pub scale: f32,
    /// The first row, and floats from one to the next; the residual's is null where there is none.
    pub residual: (*const f32, usize),
    pub out: (*mut f32, usize),
}

/// Stores them.
///
/// # Safety
/// All rows are there, nobody else touches those of the output, and the path is AVX-512.
#[cfg(feature = "std")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512dq,avx512bw")]
pub(in super::super) unsafe fn store_sums(s: &Sums) {
    // SAFETY: the caller's contract.
    unsafe {
        let scale = Avx512::splat(s.scale);
        for at in (0..s.n).step_by(LINE) {
            let left = (s.n - at).min(LINE);
            let bias = Avx512::load(s.bias.add(at));
            let sample = if s.sample.is_null() { Avx512::zero() } else { Avx512::load_most(s.sample.add(at), left) };
            for r in 0..s.rows {
                let mut v = Avx512::add(Avx512::load(s.sums.add(r * s.pitch + at)), bias);
                if !s.sample.is_null() {
                    v = Avx512::add(v, sample);
                }
                if !s.residual.0.is_null() {
                    v = Avx512::add(v, Avx512::load_most(s.residual.0.add(r * s.residual.1 + at), left));
                }
                Avx512::store_most(s.out.0.add(r * s.out.1 + at), left, Avx512::mul(v, scale));
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512dq,avx512bw")]
#[inline(never)]
unsafe fn store<const NV: usize>(t: &Tile<'_>, sums: *const f32, rows: usize) {
    // SAFETY: as above.
    unsafe { store_body::<Avx512, NV>(t, sums, rows) }
}

const fn heights<const NV: usize>() -> [TileFn; MAX_MR] {
    [
        tile::<1, NV>,
        tile::<2, NV>,
        tile::<3, NV>,
        tile::<4, NV>,
        tile::<5, NV>,
        tile::<6, NV>,
        tile::<7, NV>,
        tile::<8, NV>,
        tile::<9, NV>,
        tile::<10, NV>,
        tile::<11, NV>,
        tile::<12, NV>,
        tile::<13, NV>,
        tile::<14, NV>,
    ]
}

/// By panel width in vectors minus 1, then by height minus 1. To call one is sound for the holder of an `Isa` that has
/// bf16.
pub(in super::super) static TILES: Tiles = &[&const { heights::<1>() }, &const { heights::<2>() }];
