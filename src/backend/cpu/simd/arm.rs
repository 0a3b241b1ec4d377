//! Vectors of AArch64: NEON.

use super::{Path, Simd};
use core::arch::aarch64::*;

/// Stores the first `n <= 4` elements of a vector that begins with them.
#[inline(always)]
unsafe fn store_some<T: Copy, V: Copy>(p: *mut T, n: usize, v: V) {
    // SAFETY: the caller's `p` is valid for n elements, and the vector has four.
    unsafe {
        if n == 4 {
            p.cast::<[T; 4]>().write_unaligned((&raw const v).cast::<[T; 4]>().read());
        } else {
            core::ptr::copy_nonoverlapping((&raw const v).cast::<T>(), p, n);
        }
    }
}

/// Four lanes: AArch64 Advanced SIMD.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

impl Simd for Neon {
    const PATH: Path = Path::Neon;
    const LANES: usize = 4;
    const TOGETHER: bool = true;
    type V = float32x4_t;
    op! {
        splat(x: f32) -> float32x4_t { vdupq_n_f32(x) }
        load(p: *const f32) -> float32x4_t { vld1q_f32(p) }
        store(p: *mut f32, v: float32x4_t) { vst1q_f32(p, v) }
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t { vdivq_f32(a, b) }
        mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(c, a, b) }
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t { vminq_f32(a, b) }
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmaxq_f32(a, b) }
        abs(a: float32x4_t) -> float32x4_t { vabsq_f32(a) }
        select_lt(a: float32x4_t, b: float32x4_t, t: float32x4_t, e: float32x4_t) -> float32x4_t {
            vbslq_f32(vcltq_f32(a, b), t, e)
        }
        round(a: float32x4_t) -> float32x4_t { vrndnq_f32(a) }
        load_bf16(p: *const u16) -> float32x4_t { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p))) }
        load_i4(p: *const u8) -> float32x4_t {
            {
                const LEFT: [i32; 4] = [28, 24, 20, 16];
                let bits = vdupq_n_s32(i32::from(p.cast::<u16>().read_unaligned().to_le()));
                vcvtq_f32_s32(vshrq_n_s32::<28>(vshlq_s32(bits, vld1q_s32(LEFT.as_ptr()))))
            }
        }
        scale_pow2(a: float32x4_t, n: float32x4_t) -> float32x4_t {
            {
                let n = vcvtq_s32_f32(n);
                let half = vshrq_n_s32::<1>(n);
                let bias = vdupq_n_s32(127);
                let p1 = vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(half, bias)));
                let p2 = vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vsubq_s32(n, half), bias)));
                vmulq_f32(vmulq_f32(a, p1), p2)
            }
        }
    }

    #[inline(always)]
    unsafe fn scale_normal(a: float32x4_t, n: float32x4_t) -> float32x4_t {
        // SAFETY: the trait's contract.
        unsafe {
            let exponent = vshlq_n_s32::<23>(vcvtq_s32_f32(n));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), exponent))
        }
    }

    #[inline(always)]
    unsafe fn load_differences(p: *const i32, q: *const i32, n: usize) -> float32x4_t {
        // SAFETY: the trait's contract.
        unsafe {
            if n == 4 {
                return vcvtq_f32_s32(vsubq_s32(vld1q_s32(p), vld1q_s32(q)));
            }
            let mut a = [0.0; 4];
            for (i, v) in a.iter_mut().enumerate().take(n) {
                *v = (*p.add(i)).wrapping_sub(*q.add(i)) as f32;
            }
            vld1q_f32(a.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, n: usize, v: float32x4_t) {
        // SAFETY: the trait's contract.
        unsafe {
            let bits = vreinterpretq_u32_f32(v);
            // To nearest: half of a unit more, less one where the last bit kept is 0.
            let half = vaddq_u32(bits, vdupq_n_u32(0x7fff));
            let rounded = vsraq_n_u32::<31>(half, vshlq_n_u32::<15>(bits));
            let quiet = vorrq_u32(bits, vdupq_n_u32(0x40_0000));
            let kept = vbslq_u32(vceqq_f32(v, v), rounded, quiet);
            store_some(p, n, vshrn_n_u32::<16>(kept));
        }
    }

    #[inline(always)]
    unsafe fn store_low_bytes(p: *mut u8, n: usize, v: float32x4_t) {
        // SAFETY: the trait's contract.
        unsafe {
            let halves = vmovn_u32(vreinterpretq_u32_f32(v));
            store_some(p, n, vmovn_u16(vcombine_u16(halves, halves)));
        }
    }

    #[inline(always)]
    unsafe fn differences(p: *const i32, q: float32x4_t) -> float32x4_t {
        // SAFETY: the trait's contract.
        unsafe { vcvtq_f32_s32(vsubq_s32(vld1q_s32(p), vreinterpretq_s32_f32(q))) }
    }

    #[inline(always)]
    unsafe fn load_two_bf16(p: *const u16) -> [float32x4_t; 2] {
        // SAFETY: the trait's contract.
        unsafe {
            let both = vld1q_u16(p);
            let (low, high) = (vshll_n_u16::<16>(vget_low_u16(both)), vshll_high_n_u16::<16>(both));
            [vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high)]
        }
    }

    #[inline(always)]
    unsafe fn store_two_bf16(p: *mut u16, [v, w]: [float32x4_t; 2]) {
        // SAFETY: the trait's contract.
        unsafe {
            let (low, high) = (vreinterpretq_u32_f32(v), vreinterpretq_u32_f32(w));
            // To nearest: half of a unit more, less one where the last bit kept is 0.
            let kept = vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
            let last = vandq_u16(kept, vdupq_n_u16(1));
            let half = vdupq_n_u32(0x7fff);
            let rounded = vaddhn_u32(vaddw_u16(low, vget_low_u16(last)), half);
            let rounded = vaddhn_high_u32(rounded, vaddw_high_u16(high, last), half);
            // All bits where it is no number, which is none either.
            let numbers = [vreinterpretq_u16_u32(vceqq_f32(v, v)), vreinterpretq_u16_u32(vceqq_f32(w, w))];
            vst1q_u16(p, vornq_u16(rounded, vuzp1q_u16(numbers[0], numbers[1])));
        }
    }

    #[inline(always)]
    unsafe fn store_four_low_bytes(p: *mut u8, [a, b, c, d]: [float32x4_t; 4]) {
        // SAFETY: the trait's contract.
        unsafe {
            let low = vuzp1q_u16(vreinterpretq_u16_f32(a), vreinterpretq_u16_f32(b));
            let high = vuzp1q_u16(vreinterpretq_u16_f32(c), vreinterpretq_u16_f32(d));
            vst1q_u8(p, vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high)));
        }
    }

    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> float32x4_t {
        let mut a = [0.0; 4];
        for (i, v) in a.iter_mut().enumerate().take(n) {
            // SAFETY: i < n.
            *v = unsafe { *p.add(i) };
        }
        // SAFETY: 4 floats.
        unsafe { vld1q_f32(a.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store_n(p: *mut f32, n: usize, v: float32x4_t) {
        let mut a = [0.0; 4];
        // SAFETY: 4 floats.
        unsafe { vst1q_f32(a.as_mut_ptr(), v) };
        for (i, v) in a.into_iter().enumerate().take(n) {
            // SAFETY: i < n.
            unsafe { *p.add(i) = v };
        }
    }
}
