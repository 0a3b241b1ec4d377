//! Tiles for NEON, with and without the dot products of ARMv8.2.

use core::arch::aarch64::*;
use core::arch::asm;

use super::super::simd::unroll;
use super::{COLUMNS, STEP, Tile};

/// Rows with dot products.
pub(super) const DOT_ROWS: usize = 8;
/// Rows without.
pub(super) const ROWS: usize = 4;

/// `acc + b . a[lane]`, four by four.
macro_rules! dot {
    ($acc:expr, $b:expr, $a:expr, $lane:literal) => {
        asm!(concat!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[", $lane, "]"),
            inout(vreg) $acc, in(vreg) $b, in(vreg) $a, options(pure, nomem, nostack, preserves_flags))
    };
}

/// Four steps for four columns are one instruction.
///
/// # Safety
/// The contract of [`Tile`], and the CPU has the instructions.
#[target_feature(enable = "dotprod")]
pub(super) unsafe fn dots(t: &Tile<'_>) {
    // SAFETY: the CPU has the instructions; the contract of `Tile` for every pointer.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); 2]; DOT_ROWS];
        let mut b = t.b;
        for s in t.segments {
            let mut a = [core::ptr::null::<u8>(); DOT_ROWS];
            unroll!(i in DOT_ROWS => { a[i] = t.a[i].add(s.offset) });
            let mut left = s.len;
            while left >= 4 * STEP {
                let mut w = [vdupq_n_s8(0); 8];
                unroll!(j in 8 => { w[j] = vld1q_s8(b.add(16 * j)) });
                unroll!(i in DOT_ROWS => {
                    let x = vld1q_s8(a[i].cast());
                    a[i] = a[i].add(4 * STEP);
                    dot!(acc[i][0], w[0], x, 0);
                    dot!(acc[i][1], w[1], x, 0);
                    dot!(acc[i][0], w[2], x, 1);
                    dot!(acc[i][1], w[3], x, 1);
                    dot!(acc[i][0], w[4], x, 2);
                    dot!(acc[i][1], w[5], x, 2);
                    dot!(acc[i][0], w[6], x, 3);
                    dot!(acc[i][1], w[7], x, 3);
                });
                b = b.add(4 * STEP * COLUMNS);
                left -= 4 * STEP;
            }
            while left > 0 {
                let w = [vld1q_s8(b), vld1q_s8(b.add(16))];
                unroll!(i in DOT_ROWS => {
                    let x = vreinterpretq_s8_s32(vld1q_dup_s32(a[i].cast()));
                    a[i] = a[i].add(STEP);
                    dot!(acc[i][0], w[0], x, 0);
                    dot!(acc[i][1], w[1], x, 0);
                });
                b = b.add(STEP * COLUMNS);
                left -= STEP;
            }
        }
        unroll!(i in DOT_ROWS => {
            let to = t.sums.add(i * COLUMNS);
            vst1q_s32(to, acc[i][0]);
            vst1q_s32(to.add(4), acc[i][1]);
        });
    }
}

/// Products in 16 bits, of which two fit (128 * 127 * 2 < 2^15), then added by pairs to sums in 32.
///
/// # Safety
/// The contract of [`Tile`].
pub(super) unsafe fn tile(t: &Tile<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        if t.segments.iter().all(|s| s.len.is_multiple_of(2 * STEP)) {
            steps::<true>(t);
        } else {
            steps::<false>(t);
        }
    }
}

/// Two fours of steps at once, or one. (In assembly, as the compiler takes the upper half of a vector that has the same
/// four times apart before it multiplies.)
unsafe fn steps<const TWO: bool>(t: &Tile<'_>) {
    let step = if TWO { 2 * STEP } else { STEP };
    // SAFETY: the build has the instructions; the contract of `Tile` for every pointer.
    unsafe {
        // Each vector has two partial sums of each of two columns.
        let mut acc = [[vdupq_n_s32(0); 4]; ROWS];
        let mut b = t.b;
        for s in t.segments {
            let mut a = [core::ptr::null::<u8>(); ROWS];
            unroll!(i in [0 1 2 3] => { a[i] = t.a[i].add(s.offset) });
            let mut left = s.len;
            while left > 0 {
                let (w0, w1) = (vld1q_s8(b), vld1q_s8(b.add(16)));
                if TWO {
                    let (w2, w3) = (vld1q_s8(b.add(32)), vld1q_s8(b.add(48)));
                    unroll!(i in [0 1 2 3] => {
                        let x = vld1q_dup_s32(a[i].cast());
                        let y = vld1q_dup_s32(a[i].add(STEP).cast());
                        a[i] = a[i].add(2 * STEP);
                        let [s0, s1, s2, s3] = acc[i];
                        asm!(
                            "smull {t0:v}.8h, {w0:v}.8b, {x:v}.8b",
                            "smull2 {t1:v}.8h, {w0:v}.16b, {x:v}.16b",
                            "smull {t2:v}.8h, {w1:v}.8b, {x:v}.8b",
                            "smull2 {t3:v}.8h, {w1:v}.16b, {x:v}.16b",
                            "smlal {t0:v}.8h, {w2:v}.8b, {y:v}.8b",
                            "smlal2 {t1:v}.8h, {w2:v}.16b, {y:v}.16b",
                            "smlal {t2:v}.8h, {w3:v}.8b, {y:v}.8b",
                            "smlal2 {t3:v}.8h, {w3:v}.16b, {y:v}.16b",
                            "sadalp {s0:v}.4s, {t0:v}.8h",
                            "sadalp {s1:v}.4s, {t1:v}.8h",
                            "sadalp {s2:v}.4s, {t2:v}.8h",
                            "sadalp {s3:v}.4s, {t3:v}.8h",
                            t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
                            w0 = in(vreg) w0, w1 = in(vreg) w1, w2 = in(vreg) w2, w3 = in(vreg) w3,
                            x = in(vreg) x, y = in(vreg) y,
                            s0 = inout(vreg) s0 => acc[i][0], s1 = inout(vreg) s1 => acc[i][1],
                            s2 = inout(vreg) s2 => acc[i][2], s3 = inout(vreg) s3 => acc[i][3],
                            options(pure, nomem, nostack, preserves_flags)
                        );
                    });
                } else {
                    unroll!(i in [0 1 2 3] => {
                        let x = vreinterpretq_s8_s32(vld1q_dup_s32(a[i].cast()));
                        a[i] = a[i].add(STEP);
                        let half = vget_low_s8(x);
                        acc[i][0] = vpadalq_s16(acc[i][0], vmull_s8(vget_low_s8(w0), half));
                        acc[i][1] = vpadalq_s16(acc[i][1], vmull_high_s8(w0, x));
                        acc[i][2] = vpadalq_s16(acc[i][2], vmull_s8(vget_low_s8(w1), half));
                        acc[i][3] = vpadalq_s16(acc[i][3], vmull_high_s8(w1, x));
                    });
                }
                b = b.add(step * COLUMNS);
                left -= step;
            }
        }
        unroll!(i in [0 1 2 3] => {
            let to = t.sums.add(i * COLUMNS);
            vst1q_s32(to, vpaddq_s32(acc[i][0], acc[i][1]));
            vst1q_s32(to.add(4), vpaddq_s32(acc[i][2], acc[i][3]));
        });
    }
}
