//! Tiles for NEON, with and without the dot products of ARMv8.2.

use core::arch::aarch64::*;
use core::arch::asm;

use super::super::simd::unroll;
use super::{COLUMNS, STEP, Tile};

/// Rows with dot products.
pub(super) const DOT_ROWS: usize = 8;
/// Rows without.
pub(super) const ROWS: usize = 4;

/// Four steps for four columns are one instruction.
///
/// # Safety
/// The contract of [`Tile`], and the CPU has the instructions.
pub(super) unsafe fn dots(t: &Tile<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        if t.segments.iter().all(|s| s.len.is_multiple_of(4 * STEP)) {
            dots_of::<true>(t);
        } else {
            dots_of::<false>(t);
        }
    }
}

/// Sixteen steps at once, or four. (The inner loop is assembly, as the compiler copies most of the sums at each turn.)
#[target_feature(enable = "dotprod")]
unsafe fn dots_of<const FOUR: bool>(t: &Tile<'_>) {
    // SAFETY: the CPU has the instructions; the contract of `Tile` for every pointer.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); 2]; DOT_ROWS];
        let mut b = t.b;
        let mut a = [core::ptr::null::<u8>(); DOT_ROWS];
        unroll!(i in [0 1 2 3 4 5 6 7] => { a[i] = t.a[i] });
        for s in t.segments {
            let (mut at, end) = (s.offset, s.offset + s.len);
            if FOUR && at < end {
                let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11], [s12, s13], [s14, s15]] = &mut acc;
                macro_rules! row {
                    ($x:literal, $a:literal, $s:literal, $t:literal) => {
                        concat!(
                            "ldr {",
                            $x,
                            ":q}, [{",
                            $a,
                            "}, {at}]\n",
                            "sdot {",
                            $s,
                            ":v}.4s, {w0:v}.16b, {",
                            $x,
                            ":v}.4b[0]\n",
                            "sdot {",
                            $t,
                            ":v}.4s, {w1:v}.16b, {",
                            $x,
                            ":v}.4b[0]\n",
                            "sdot {",
                            $s,
                            ":v}.4s, {w2:v}.16b, {",
                            $x,
                            ":v}.4b[1]\n",
                            "sdot {",
                            $t,
                            ":v}.4s, {w3:v}.16b, {",
                            $x,
                            ":v}.4b[1]\n",
                            "sdot {",
                            $s,
                            ":v}.4s, {w4:v}.16b, {",
                            $x,
                            ":v}.4b[2]\n",
                            "sdot {",
                            $t,
                            ":v}.4s, {w5:v}.16b, {",
                            $x,
                            ":v}.4b[2]\n",
                            "sdot {",
                            $s,
                            ":v}.4s, {w6:v}.16b, {",
                            $x,
                            ":v}.4b[3]\n",
                            "sdot {",
                            $t,
                            ":v}.4s, {w7:v}.16b, {",
                            $x,
                            ":v}.4b[3]"
                        )
                    };
                }
                asm!(
                    "2:",
                    "ldp {w0:q}, {w1:q}, [{b}], #32",
                    "ldp {w2:q}, {w3:q}, [{b}], #32",
                    "ldp {w4:q}, {w5:q}, [{b}], #32",
                    "ldp {w6:q}, {w7:q}, [{b}], #32",
                    row!("x", "a0", "s0", "s1"),
                    row!("y", "a1", "s2", "s3"),
                    row!("x", "a2", "s4", "s5"),
                    row!("y", "a3", "s6", "s7"),
                    row!("x", "a4", "s8", "s9"),
                    row!("y", "a5", "s10", "s11"),
                    row!("x", "a6", "s12", "s13"),
                    row!("y", "a7", "s14", "s15"),
                    "add {at}, {at}, #16",
                    "cmp {at}, {end}",
                    "b.lo 2b",
                    b = inout(reg) b, at = inout(reg) at => _, end = in(reg) end,
                    a0 = in(reg) a[0], a1 = in(reg) a[1], a2 = in(reg) a[2], a3 = in(reg) a[3],
                    a4 = in(reg) a[4], a5 = in(reg) a[5], a6 = in(reg) a[6], a7 = in(reg) a[7],
                    s0 = inout(vreg) *s0, s1 = inout(vreg) *s1, s2 = inout(vreg) *s2, s3 = inout(vreg) *s3,
                    s4 = inout(vreg) *s4, s5 = inout(vreg) *s5, s6 = inout(vreg) *s6, s7 = inout(vreg) *s7,
                    s8 = inout(vreg) *s8, s9 = inout(vreg) *s9, s10 = inout(vreg) *s10, s11 = inout(vreg) *s11,
                    s12 = inout(vreg) *s12, s13 = inout(vreg) *s13, s14 = inout(vreg) *s14, s15 = inout(vreg) *s15,
                    w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _, w3 = out(vreg) _,
                    w4 = out(vreg) _, w5 = out(vreg) _, w6 = out(vreg) _, w7 = out(vreg) _,
                    x = out(vreg) _, y = out(vreg) _,
                    options(readonly, nostack)
                );
                continue;
            }
            while at < end {
                let w = [vld1q_s8(b), vld1q_s8(b.add(16))];
                unroll!(i in [0 1 2 3 4 5 6 7] => {
                    let x = vld1q_dup_s32(a[i].add(at).cast());
                    let [s0, s1] = acc[i];
                    asm!(
                        "sdot {s0:v}.4s, {w0:v}.16b, {x:v}.16b",
                        "sdot {s1:v}.4s, {w1:v}.16b, {x:v}.16b",
                        x = in(vreg) x, w0 = in(vreg) w[0], w1 = in(vreg) w[1],
                        s0 = inout(vreg) s0 => acc[i][0], s1 = inout(vreg) s1 => acc[i][1],
                        options(pure, nomem, nostack, preserves_flags)
                    );
                });
                b = b.add(STEP * COLUMNS);
                at += STEP;
            }
        }
        unroll!(i in [0 1 2 3 4 5 6 7] => {
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
