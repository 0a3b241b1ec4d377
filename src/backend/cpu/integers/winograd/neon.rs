//! NEON without dot products: numbers of 16 bits, four products added to four sums at once.

use core::arch::aarch64::*;

use super::super::super::simd::{op, unroll};
use super::super::COLUMNS;
use super::{Ints, Product, UNIT};

/// Eight lanes of 16 bits, four of 32. Filters lie by channels, eight columns of each.
#[derive(Clone, Copy)]
pub(super) struct Neon;

impl Ints for Neon {
    const NARROW: usize = 8;
    const WIDE: usize = 4;
    const ROWS: usize = 8;
    type N = int16x8_t;
    type W = int32x4_t;
    op! {
        bytes(p: *const i8) -> int16x8_t { vmovl_s8(vld1_s8(p)) }
        put(p: *mut i16, v: int16x8_t) { vst1q_s16(p, v) }
        add(a: int16x8_t, b: int16x8_t) -> int16x8_t { vaddq_s16(a, b) }
        sub(a: int16x8_t, b: int16x8_t) -> int16x8_t { vsubq_s16(a, b) }
        double(a: int16x8_t) -> int16x8_t { vaddq_s16(a, a) }
        quadruple(a: int16x8_t) -> int16x8_t { vshlq_n_s16::<2>(a) }
        get(p: *const i32) -> int32x4_t { vld1q_s32(p) }
        set(p: *mut i32, v: int32x4_t) { vst1q_s32(p, v) }
        plus(a: int32x4_t, b: int32x4_t) -> int32x4_t { vaddq_s32(a, b) }
        minus(a: int32x4_t, b: int32x4_t) -> int32x4_t { vsubq_s32(a, b) }
        times(a: int32x4_t, b: i32) -> int32x4_t { vmulq_n_s32(a, b) }
        halve(a: int32x4_t, n: i32) -> int32x4_t { vshlq_s32(a, vdupq_n_s32(-n)) }
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
                6 => tile::<6>(of),
                7 => tile::<7>(of),
                _ => tile::<8>(of),
            }
        }
    }
}

unsafe fn tile<const ROWS: usize>(of: &Product) {
    // SAFETY: the contract of `Product`; the build has the instructions.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); 2]; ROWS];
        if of.add {
            unroll!(i in ROWS => {
                let from = of.m.add(i * COLUMNS);
                acc[i] = [vld1q_s32(from), vld1q_s32(from.add(4))];
            });
        }
        let mut v = of.v;
        let mut u = [of.u; ROWS];
        unroll!(i in ROWS => { u[i] = of.u.add(i * of.stride) });
        let end = of.v.add(of.channels * COLUMNS);
        while v < end {
            let mut x = [vdupq_n_s16(0); ROWS];
            unroll!(i in ROWS => {
                x[i] = vld1q_s16(u[i]);
                u[i] = u[i].add(UNIT);
            });
            macro_rules! channel {
                ($($lane:literal)*) => {$(
                    let w = vld1q_s16(v.add($lane * COLUMNS));
                    unroll!(i in ROWS => {
                        acc[i][0] = vmlal_laneq_s16::<$lane>(acc[i][0], vget_low_s16(w), x[i]);
                        acc[i][1] = vmlal_high_laneq_s16::<$lane>(acc[i][1], w, x[i]);
                    });
                )*};
            }
            channel!(0 1 2 3 4 5 6 7);
            v = v.add(UNIT * COLUMNS);
        }
        unroll!(i in ROWS => {
            let to = of.m.add(i * COLUMNS);
            vst1q_s32(to, acc[i][0]);
            vst1q_s32(to.add(4), acc[i][1]);
        });
    }
}
