//! WebAssembly's vectors of 128 bits. There is no fused multiply-add that rounds alike on every processor (relaxed
//! SIMD may or may not fuse), so a product and its sum round apart: lane for lane this is what
//! [`Portable`](super::Portable) does, and its results are the same bits.

use super::{MAGIC, Path, Simd};
use core::arch::wasm32::*;

/// Four lanes: WebAssembly's simd128.
#[derive(Clone, Copy)]
pub(crate) struct Simd128;

impl Simd for Simd128 {
    const PATH: Path = Path::Simd128;
    const LANES: usize = 4;
    type V = v128;
    op! {
        splat(x: f32) -> v128 { f32x4_splat(x) }
        load(p: *const f32) -> v128 { v128_load(p.cast()) }
        store(p: *mut f32, v: v128) { v128_store(p.cast(), v) }
        add(a: v128, b: v128) -> v128 { f32x4_add(a, b) }
        sub(a: v128, b: v128) -> v128 { f32x4_sub(a, b) }
        mul(a: v128, b: v128) -> v128 { f32x4_mul(a, b) }
        div(a: v128, b: v128) -> v128 { f32x4_div(a, b) }
        mul_add(a: v128, b: v128, c: v128) -> v128 { f32x4_add(f32x4_mul(a, b), c) }
        // pmin(a, b) is b < a ? b : a, so the operands change places; one instruction on x86, where min and max take
        // several.
        min(a: v128, b: v128) -> v128 { f32x4_pmin(b, a) }
        max(a: v128, b: v128) -> v128 { f32x4_pmax(b, a) }
        abs(a: v128) -> v128 { f32x4_abs(a) }
        select_lt(a: v128, b: v128, t: v128, e: v128) -> v128 { v128_bitselect(t, e, f32x4_lt(a, b)) }
        // As on the portable path: `nearest` would make -0 of what is 0 there.
        round(a: v128) -> v128 { f32x4_sub(f32x4_add(a, f32x4_splat(MAGIC)), f32x4_splat(MAGIC)) }
        scale_pow2(a: v128, n: v128) -> v128 {
            {
                // The integer stands in the low bits of n + MAGIC.
                let n = i32x4_sub(f32x4_add(n, f32x4_splat(MAGIC)), i32x4_splat(MAGIC.to_bits() as i32));
                let half = i32x4_shr(n, 1);
                let bias = i32x4_splat(127);
                let p1 = i32x4_shl(i32x4_add(half, bias), 23);
                let p2 = i32x4_shl(i32x4_add(i32x4_sub(n, half), bias), 23);
                f32x4_mul(f32x4_mul(a, p1), p2)
            }
        }
        load_f16(p: *const u16) -> v128 {
            {
                let h = u32x4_load_extend_u16x4(p);
                let sign = i32x4_shl(v128_and(h, i32x4_splat(0x8000)), 16);
                let rest = v128_and(h, i32x4_splat(0x7fff));
                // Exponent and fraction in f32's places are the number times 2^-112, subnormal or not; the product is
                // exact.
                let finite = f32x4_mul(i32x4_shl(rest, 13), f32x4_splat(f32::from_bits(239 << 23)));
                // Infinities keep an exponent of ones, NaN also its fraction, made quiet.
                let special = v128_or(i32x4_shl(rest, 13), i32x4_splat(0x7f80_0000));
                let quiet = v128_and(i32x4_gt(rest, i32x4_splat(0x7c00)), i32x4_splat(0x0040_0000));
                let is_special = i32x4_gt(rest, i32x4_splat(0x7bff));
                v128_or(sign, v128_bitselect(v128_or(special, quiet), finite, is_special))
            }
        }
        load_bf16(p: *const u16) -> v128 { i32x4_shl(u32x4_load_extend_u16x4(p), 16) }
        load_i8(p: *const i8) -> v128 {
            f32x4_convert_i32x4(i32x4_extend_low_i16x8(i16x8_extend_low_i8x16(v128_load32_zero(p.cast()))))
        }
        load_i4(p: *const u8) -> v128 {
            {
                // Each lane's four bits go to its top; there is no shift by lane.
                let bits = i32x4_splat(i32::from(p.cast::<u16>().read_unaligned()));
                f32x4_convert_i32x4(i32x4_shr(i32x4_mul(bits, i32x4(1 << 28, 1 << 24, 1 << 20, 1 << 16)), 28))
            }
        }
    }

    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> v128 {
        let mut a = [0.0; 4];
        for (i, v) in a.iter_mut().enumerate().take(n) {
            // SAFETY: i < n.
            *v = unsafe { *p.add(i) };
        }
        f32x4(a[0], a[1], a[2], a[3])
    }

    #[inline(always)]
    unsafe fn store_n(p: *mut f32, n: usize, v: v128) {
        let a = [
            f32x4_extract_lane::<0>(v),
            f32x4_extract_lane::<1>(v),
            f32x4_extract_lane::<2>(v),
            f32x4_extract_lane::<3>(v),
        ];
        for (i, v) in a.into_iter().enumerate().take(n) {
            // SAFETY: i < n.
            unsafe { *p.add(i) = v };
        }
    }
}
