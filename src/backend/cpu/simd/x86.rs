//! Vectors of x86-64: AVX2 and AVX-512.

use super::{Path, Simd};
use core::arch::x86_64::*;

/// Eight lanes: AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// The mask of the first `n` of 8 lanes.
#[inline(always)]
unsafe fn mask8(n: usize) -> __m256i {
    // SAFETY: AVX2, by the trait's contract.
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane)
    }
}

/// Stores the first `n <= 8` elements of a vector that begins with them.
#[inline(always)]
unsafe fn store_some<T: Copy>(p: *mut T, n: usize, v: __m128i) {
    // SAFETY: the caller's `p` is valid for n elements of at most two bytes, of which the vector has 8.
    unsafe {
        if n == 8 {
            if size_of::<T>() == 2 { _mm_storeu_si128(p.cast(), v) } else { _mm_storel_epi64(p.cast(), v) }
        } else {
            core::ptr::copy_nonoverlapping((&raw const v).cast::<T>(), p, n);
        }
    }
}

impl Simd for Avx2 {
    const PATH: Path = Path::Avx2;
    const LANES: usize = 8;
    type V = __m256;
    op! {
        splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
        load(p: *const f32) -> __m256 { _mm256_loadu_ps(p) }
        store(p: *mut f32, v: __m256) { _mm256_storeu_ps(p, v) }
        load_n(p: *const f32, n: usize) -> __m256 { _mm256_maskload_ps(p, mask8(n)) }
        store_n(p: *mut f32, n: usize, v: __m256) { _mm256_maskstore_ps(p, mask8(n), v) }
        add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        abs(a: __m256) -> __m256 { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
        select_lt(a: __m256, b: __m256, t: __m256, e: __m256) -> __m256 {
            _mm256_blendv_ps(e, t, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b))
        }
        round(a: __m256) -> __m256 { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        scale_pow2(a: __m256, n: __m256) -> __m256 {
            {
                let n = _mm256_cvtps_epi32(n);
                let half = _mm256_srai_epi32::<1>(n);
                let bias = _mm256_set1_epi32(127);
                let p1 = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
                let p2 = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias));
                _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(p1)), _mm256_castsi256_ps(p2))
            }
        }
        scale_normal(a: __m256, n: __m256) -> __m256 {
            {
                let n = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), n))
            }
        }
        prefetch(p: *const f32) { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        prefetch_far(p: *const f32) { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        load_f16(p: *const u16) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
        load_bf16(p: *const u16) -> __m256 {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))))
        }
        load_i8(p: *const i8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())))
        }
        load_i4(p: *const u8) -> __m256 {
            {
                // Each lane's four bits go to its top.
                let bits = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
                let top = _mm256_sllv_epi32(bits, _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0));
                _mm256_cvtepi32_ps(_mm256_srai_epi32::<28>(top))
            }
        }
        load_differences(p: *const i32, q: *const i32, n: usize) -> __m256 {
            {
                let m = mask8(n);
                let (p, q) = (_mm256_maskload_epi32(p, m), _mm256_maskload_epi32(q, m));
                _mm256_cvtepi32_ps(_mm256_sub_epi32(p, q))
            }
        }
        store_bf16(p: *mut u16, n: usize, v: __m256) {
            {
                let bits = _mm256_castps_si256(v);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
                let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
                let all = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
                let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(all, all));
                store_some(p, n, _mm256_castsi256_si128(packed))
            }
        }
        store_low_bytes(p: *mut u8, n: usize, v: __m256) {
            {
                let low = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0xff));
                let words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
                store_some(p, n, _mm_packus_epi16(words, words))
            }
        }
    }
}

/// Sixteen lanes: AVX-512 F, VL, DQ, BW.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// The mask of the first `n` of 16 lanes.
#[inline(always)]
fn mask16(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as u16
}

impl Simd for Avx512 {
    const PATH: Path = Path::Avx512;
    const LANES: usize = 16;
    type V = __m512;
    op! {
        splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        load(p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
        store(p: *mut f32, v: __m512) { _mm512_storeu_ps(p, v) }
        load_n(p: *const f32, n: usize) -> __m512 { _mm512_maskz_loadu_ps(mask16(n), p) }
        store_n(p: *mut f32, n: usize, v: __m512) { _mm512_mask_storeu_ps(p, mask16(n), v) }
        add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        abs(a: __m512) -> __m512 { _mm512_abs_ps(a) }
        select_lt(a: __m512, b: __m512, t: __m512, e: __m512) -> __m512 {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), e, t)
        }
        round(a: __m512) -> __m512 { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        scale_pow2(a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
        scale_normal(a: __m512, n: __m512) -> __m512 {
            {
                let n = _mm512_slli_epi32::<23>(_mm512_cvtps_epi32(n));
                _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), n))
            }
        }
        load_f16(p: *const u16) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
        load_bf16(p: *const u16) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))))
        }
        load_bf16_n(p: *const u16, n: usize) -> __m512 {
            {
                let bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask16(n), p.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
            }
        }
        inverse(a: __m512) -> __m512 {
            {
                let near = _mm512_rcp14_ps(a);
                _mm512_mul_ps(near, _mm512_fnmadd_ps(a, near, _mm512_set1_ps(2.0)))
            }
        }
        load_i8(p: *const i8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())))
        }
        load_i4(p: *const u8) -> __m512 {
            {
                // Each lane's four bits go to its lowest ones, which choose one of 16 numbers.
                let half = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
                let right = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
                let numbers = _mm512_setr_ps(
                    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0,
                );
                let bits = _mm512_permutexvar_epi32(half, _mm512_castsi128_si512(_mm_loadl_epi64(p.cast())));
                _mm512_permutexvar_ps(_mm512_srlv_epi32(bits, right), numbers)
            }
        }
        load_differences(p: *const i32, q: *const i32, n: usize) -> __m512 {
            {
                let m = mask16(n);
                let (p, q) = (_mm512_maskz_loadu_epi32(m, p), _mm512_maskz_loadu_epi32(m, q));
                _mm512_cvtepi32_ps(_mm512_sub_epi32(p, q))
            }
        }
        store_bf16(p: *mut u16, n: usize, v: __m512) {
            {
                let bits = _mm512_castps_si512(v);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
                let all = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000));
                let packed = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(all));
                if n == 16 {
                    _mm256_storeu_si256(p.cast(), packed)
                } else {
                    _mm256_mask_storeu_epi16(p.cast(), mask16(n), packed)
                }
            }
        }
        store_low_bytes(p: *mut u8, n: usize, v: __m512) {
            {
                let packed = _mm512_cvtepi32_epi8(_mm512_castps_si512(v));
                if n == 16 {
                    _mm_storeu_si128(p.cast(), packed)
                } else {
                    _mm_mask_storeu_epi8(p.cast(), mask16(n), packed)
                }
            }
        }
        prefetch(p: *const f32) { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        prefetch_far(p: *const f32) { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}
