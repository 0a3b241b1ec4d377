//! Tiles for AVX-512 with VNNI: one instruction multiplies four bytes without a sign by four with one, adds the
//! products to 32 bits without saturation, and does so for 16 columns.
//!
//! Fourteen rows by two vectors of columns are 28 sums in registers, beside two of B and one of A: as many independent
//! additions as hide the instruction's latency, and 16 loads for 28 products.

use core::arch::x86_64::*;

use super::super::simd::unroll;
use super::{MOST_ROWS, STEP, Sizes, Tile};

/// Columns of a vector.
const LANES: usize = 16;

/// Bytes of B before those that are multiplied for which is asked: the panel comes from the second level of cache or
/// from further away, and processors look not beyond a page by themselves.
const AHEAD: usize = 4096;

pub(super) const SIZES: Sizes = Sizes { rows: MOST_ROWS, columns: 2 * LANES, unit: LANES, excess: 128 };

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni")]
unsafe fn tile<const ROWS: usize, const VECTORS: usize>(t: &Tile<'_>) {
    let mut acc = [[_mm512_setzero_si512(); VECTORS]; ROWS];
    let mut b = t.b;
    for s in t.segments {
        let mut a = [core::ptr::null::<u8>(); ROWS];
        // SAFETY: the contract of `Tile` for every pointer.
        unsafe {
            unroll!(i in ROWS => { a[i] = t.a[i].add(s.offset) });
            let mut k = 0;
            while k < s.len {
                let mut w = [_mm512_setzero_si512(); VECTORS];
                unroll!(j in VECTORS => {
                    w[j] = _mm512_loadu_si512(b.add(j * LANES * STEP).cast());
                    _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD + j * LANES * STEP));
                });
                unroll!(i in ROWS => {
                    let x = _mm512_set1_epi32(a[i].add(k).cast::<i32>().read_unaligned());
                    unroll!(j in VECTORS => { acc[i][j] = _mm512_dpbusd_epi32(acc[i][j], x, w[j]) });
                });
                b = b.add(VECTORS * LANES * STEP);
                k += STEP;
            }
        }
    }
    unroll!(i in ROWS => {
        unroll!(j in VECTORS => {
            // SAFETY: `sums` has room for all rows.
            unsafe { _mm512_storeu_si512(t.sums.add((i * VECTORS + j) * LANES).cast(), acc[i][j]) };
        });
    });
}

type TileFn = unsafe fn(&Tile<'_>);

const fn heights<const VECTORS: usize>() -> [TileFn; MOST_ROWS] {
    [
        tile::<1, VECTORS>,
        tile::<2, VECTORS>,
        tile::<3, VECTORS>,
        tile::<4, VECTORS>,
        tile::<5, VECTORS>,
        tile::<6, VECTORS>,
        tile::<7, VECTORS>,
        tile::<8, VECTORS>,
        tile::<9, VECTORS>,
        tile::<10, VECTORS>,
        tile::<11, VECTORS>,
        tile::<12, VECTORS>,
        tile::<13, VECTORS>,
        tile::<14, VECTORS>,
    ]
}

static TILES: [[TileFn; MOST_ROWS]; 2] = [heights::<1>(), heights::<2>()];

/// As [`super::run`].
///
/// # Safety
/// The contract of [`Tile`], and the CPU has VNNI.
pub(super) unsafe fn run(t: &Tile<'_>) {
    let by_rows = if t.width == LANES { &TILES[0] } else { &TILES[1] };
    // Fewer than one row and more than all are none that a caller has.
    let rows = t.rows.clamp(1, MOST_ROWS);
    // SAFETY: the caller's contract.
    unsafe { by_rows[rows - 1](t) }
}
