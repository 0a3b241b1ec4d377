//! AVX2: pairs of 16 bits are multiplied and added to one of 32.

use core::arch::x86_64::*;

use super::super::super::simd::{op, unroll};
use super::super::COLUMNS;
use super::{Ints, Product};

/// Eight lanes of 16 bits and of 32.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

impl Ints for Avx2 {
    const NARROW: usize = 8;
    const WIDE: usize = 8;
    const ROWS: usize = 6;
    type N = __m128i;
    type W = __m256i;
    op! {
        bytes(p: *const i8) -> __m128i { _mm_cvtepi8_epi16(_mm_loadl_epi64(p.cast())) }
        put(p: *mut i16, v: __m128i) { _mm_storeu_si128(p.cast(), v) }
        add(a: __m128i, b: __m128i) -> __m128i { _mm_add_epi16(a, b) }
        sub(a: __m128i, b: __m128i) -> __m128i { _mm_sub_epi16(a, b) }
        double(a: __m128i) -> __m128i { _mm_add_epi16(a, a) }
        quadruple(a: __m128i) -> __m128i { _mm_slli_epi16::<2>(a) }
        get(p: *const i32) -> __m256i { _mm256_loadu_si256(p.cast()) }
        set(p: *mut i32, v: __m256i) { _mm256_storeu_si256(p.cast(), v) }
        plus(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        minus(a: __m256i, b: __m256i) -> __m256i { _mm256_sub_epi32(a, b) }
        times(a: __m256i, b: i32) -> __m256i { _mm256_mullo_epi32(a, _mm256_set1_epi32(b)) }
        halve(a: __m256i, n: i32) -> __m256i { _mm256_sra_epi32(a, _mm_cvtsi32_si128(n)) }
    }

    #[inline(always)]
    unsafe fn multiply(of: &Product, rows: usize) {
        // SAFETY: the trait's contract.
        unsafe {
            match rows {
                1 => tile::<1>(of),
                2 => tile::<2>(of),
                3 => tile::<3>(of),
                4 => tile::<4>(of),
                5 => tile::<5>(of),
                _ => tile::<6>(of),
            }
        }
    }
}

#[target_feature(enable = "avx2")]
unsafe fn tile<const ROWS: usize>(of: &Product) {
    // Each vector has two partial sums of each of four columns.
    let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
    let mut v = of.v;
    // SAFETY: the contract of `Product`.
    unsafe {
        for c in (0..of.channels).step_by(4) {
            let (v0, v1) = (_mm256_loadu_si256(v.cast()), _mm256_loadu_si256(v.add(16).cast()));
            unroll!(i in ROWS => {
                let u = _mm256_set1_epi64x(of.u.add(i * of.stride + c).cast::<i64>().read_unaligned());
                acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(u, v0));
                acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(u, v1));
            });
            v = v.add(4 * COLUMNS);
        }
        unroll!(i in ROWS => {
            // Columns 0, 1, 4, 5, 2, 3, 6, 7, then in order.
            let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(acc[i][0], acc[i][1]));
            let to = of.m.add(i * COLUMNS);
            let before = if of.add { Avx2::get(to) } else { _mm256_setzero_si256() };
            Avx2::set(to, _mm256_add_epi32(before, sums));
        });
    }
}
