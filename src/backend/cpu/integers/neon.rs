//! Tiles for NEON, with and without the dot products of ARMv8.2.

use core::arch::aarch64::*;
use core::arch::asm;

use super::super::simd::unroll;
use super::{COLUMNS, STEP, Tile};

/// Rows with dot products.
pub(super) const DOT_ROWS: usize = 6;
/// Columns of a full panel with dot products.
pub(super) const DOT_COLUMNS: usize = 16;
/// Rows without.
pub(super) const ROWS: usize = 4;

/// Four steps for four columns are one instruction.
///
/// # Safety
/// The contract of [`Tile`], and the CPU has the instructions.
pub(super) unsafe fn dots(t: &Tile<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        if t.width != DOT_COLUMNS {
            four_steps::<{ COLUMNS / 4 }>(t);
        } else if t.segments.iter().all(|s| s.len.is_multiple_of(4 * STEP)) {
            sixteen_steps(t);
        } else {
            four_steps::<{ DOT_COLUMNS / 4 }>(t);
        }
    }
}

/// A full panel. (The inner loop is assembly, as the compiler copies most of the sums at each turn. It takes all
/// vectors: 24 of sums, 6 of sixteen steps of A, 2 of B.)
#[target_feature(enable = "dotprod")]
unsafe fn sixteen_steps(t: &Tile<'_>) {
    // SAFETY: the CPU has the instructions; the contract of `Tile` for every pointer.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); 4]; DOT_ROWS];
        let mut b = t.b;
        let mut a = [core::ptr::null::<u8>(); DOT_ROWS];
        unroll!(i in [0 1 2 3 4 5] => { a[i] = t.a[i] });
        for s in t.segments {
            let (at, end) = (s.offset, s.offset + s.len);
            if at == end {
                continue;
            }
            // Two vectors of columns, and what a row adds of them.
            macro_rules! columns {
                ($step:literal, $r0:literal, $r1:literal, $r2:literal, $r3:literal, $r4:literal, $r5:literal) => {
                    concat!(
                        "ldp {w0:q}, {w1:q}, [{b}], #32\n",
                        columns!("x0", $step, $r0),
                        columns!("x1", $step, $r1),
                        columns!("x2", $step, $r2),
                        columns!("x3", $step, $r3),
                        columns!("x4", $step, $r4),
                        columns!("x5", $step, $r5),
                    )
                };
                ($x:literal, $step:literal, $row:literal) => {
                    concat!(
                        "sdot {",
                        $row,
                        "a:v}.4s, {w0:v}.16b, {",
                        $x,
                        ":v}.4b[",
                        $step,
                        "]\n",
                        "sdot {",
                        $row,
                        "b:v}.4s, {w1:v}.16b, {",
                        $x,
                        ":v}.4b[",
                        $step,
                        "]\n",
                    )
                };
            }
            // Four steps for all columns.
            macro_rules! steps {
                ($step:literal) => {
                    concat!(
                        columns!($step, "s0", "s1", "s2", "s3", "s4", "s5"),
                        columns!($step, "t0", "t1", "t2", "t3", "t4", "t5"),
                    )
                };
            }
            let [r0, r1, r2, r3, r4, r5] = &mut acc;
            asm!(
                "2:",
                "ldr {x0:q}, [{a0}, {at}]",
                "ldr {x1:q}, [{a1}, {at}]",
                "ldr {x2:q}, [{a2}, {at}]",
                "ldr {x3:q}, [{a3}, {at}]",
                "ldr {x4:q}, [{a4}, {at}]",
                "ldr {x5:q}, [{a5}, {at}]",
                steps!("0"),
                steps!("1"),
                steps!("2"),
                steps!("3"),
                "add {at}, {at}, #16",
                "cmp {at}, {end}",
                "b.lo 2b",
                b = inout(reg) b, at = inout(reg) at => _, end = in(reg) end,
                a0 = in(reg) a[0], a1 = in(reg) a[1], a2 = in(reg) a[2],
                a3 = in(reg) a[3], a4 = in(reg) a[4], a5 = in(reg) a[5],
                s0a = inout(vreg) r0[0], s0b = inout(vreg) r0[1], t0a = inout(vreg) r0[2], t0b = inout(vreg) r0[3],
                s1a = inout(vreg) r1[0], s1b = inout(vreg) r1[1], t1a = inout(vreg) r1[2], t1b = inout(vreg) r1[3],
                s2a = inout(vreg) r2[0], s2b = inout(vreg) r2[1], t2a = inout(vreg) r2[2], t2b = inout(vreg) r2[3],
                s3a = inout(vreg) r3[0], s3b = inout(vreg) r3[1], t3a = inout(vreg) r3[2], t3b = inout(vreg) r3[3],
                s4a = inout(vreg) r4[0], s4b = inout(vreg) r4[1], t4a = inout(vreg) r4[2], t4b = inout(vreg) r4[3],
                s5a = inout(vreg) r5[0], s5b = inout(vreg) r5[1], t5a = inout(vreg) r5[2], t5b = inout(vreg) r5[3],
                x0 = out(vreg) _, x1 = out(vreg) _, x2 = out(vreg) _,
                x3 = out(vreg) _, x4 = out(vreg) _, x5 = out(vreg) _,
                w0 = out(vreg) _, w1 = out(vreg) _,
                options(readonly, nostack)
            );
        }
        unroll!(i in [0 1 2 3 4 5] => {
            let to = t.sums.add(i * DOT_COLUMNS);
            unroll!(j in [0 1 2 3] => { vst1q_s32(to.add(4 * j), acc[i][j]) });
        });
    }
}

/// `V` vectors of columns.
#[target_feature(enable = "dotprod")]
unsafe fn four_steps<const V: usize>(t: &Tile<'_>) {
    // SAFETY: the CPU has the instructions; the contract of `Tile` for every pointer.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); V]; DOT_ROWS];
        let mut b = t.b;
        for s in t.segments {
            for at in (s.offset..s.offset + s.len).step_by(STEP) {
                let mut w = [vdupq_n_s8(0); V];
                unroll!(j in V => { w[j] = vld1q_s8(b.add(16 * j)) });
                unroll!(i in [0 1 2 3 4 5] => {
                    let x = vld1q_dup_s32(t.a[i].add(at).cast());
                    unroll!(j in V => {
                        asm!(
                            "sdot {s:v}.4s, {w:v}.16b, {x:v}.16b",
                            x = in(vreg) x, w = in(vreg) w[j], s = inout(vreg) acc[i][j],
                            options(pure, nomem, nostack, preserves_flags)
                        );
                    });
                });
                b = b.add(16 * V);
            }
        }
        unroll!(i in [0 1 2 3 4 5] => {
            unroll!(j in V => { vst1q_s32(t.sums.add((i * V + j) * 4), acc[i][j]) });
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
