//! Without vectors; with the pairs of 16 bits of ARM's DSP extension where there is that.

use super::super::COLUMNS;
use super::{Ints, Product};

/// Four lanes of 16 bits.
#[derive(Clone, Copy)]
pub(super) struct Plain;

/// Columns of a panel that are multiplied at once: their filters lie together.
const PAIR: usize = 2;

/// Filters in the order in which [`Plain::multiply`] reads them: by pairs of columns, then by four channels.
#[inline(always)]
fn place(i: usize, len: usize) -> usize {
    const FOUR: usize = 4;
    let (four, column) = (i / (FOUR * COLUMNS), i / FOUR % COLUMNS);
    column / PAIR * (len / (COLUMNS / PAIR)) + (four * PAIR + column % PAIR) * FOUR
}

macro_rules! wide {
    () => {
        #[inline(always)]
        fn place(i: usize, len: usize) -> usize {
            place(i, len)
        }
        #[inline(always)]
        unsafe fn get(p: *const i32) -> i32 {
            // SAFETY: the trait's contract.
            unsafe { *p }
        }
        #[inline(always)]
        unsafe fn set(p: *mut i32, v: i32) {
            // SAFETY: the trait's contract.
            unsafe { *p = v }
        }
        #[inline(always)]
        unsafe fn plus(a: i32, b: i32) -> i32 {
            a.wrapping_add(b)
        }
        #[inline(always)]
        unsafe fn minus(a: i32, b: i32) -> i32 {
            a.wrapping_sub(b)
        }
        #[inline(always)]
        unsafe fn times(a: i32, b: i32) -> i32 {
            a.wrapping_mul(b)
        }
        #[inline(always)]
        unsafe fn halve(a: i32, n: i32) -> i32 {
            a >> n
        }
    };
}

#[cfg(not(all(target_arch = "arm", target_feature = "dsp")))]
impl Ints for Plain {
    const NARROW: usize = 4;
    const WIDE: usize = 1;
    const ROWS: usize = 2;
    type N = [i32; 4];
    type W = i32;
    wide!();

    #[inline(always)]
    unsafe fn bytes(p: *const i8) -> [i32; 4] {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<[i8; 4]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn put(p: *mut i16, v: [i32; 4]) {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<[i16; 4]>().write_unaligned(v.map(|v| v as i16)) }
    }
    #[inline(always)]
    unsafe fn add(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    #[inline(always)]
    unsafe fn sub(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]]
    }
    #[inline(always)]
    unsafe fn double(a: [i32; 4]) -> [i32; 4] {
        a.map(|a| a * 2)
    }

    /// Two tiles by two columns at a time: as much as sixteen registers hold.
    #[inline(always)]
    unsafe fn multiply(of: &Product, rows: usize) {
        // Where there is one tile it is both.
        let (next, below) = if rows > 1 { (of.stride, COLUMNS) } else { (0, 0) };
        for column in (0..COLUMNS).step_by(PAIR) {
            // SAFETY: the contract of `Product`.
            unsafe {
                let (mut u, mut v) = (of.u, of.v.add(column * of.channels));
                let (to, other) = (of.m.add(column), of.m.add(below + column));
                let mut sums = [0i32; 4];
                if of.add {
                    sums = [*to, *to.add(1), *other, *other.add(1)];
                }
                let [mut s00, mut s01, mut s10, mut s11] = sums;
                let end = u.add(of.channels);
                while u < end {
                    let (a, b) = (four(u), four(u.add(next)));
                    let (c, d) = (four(v), four(v.add(4)));
                    s00 = s00.wrapping_add(dot(a, c));
                    s01 = s01.wrapping_add(dot(a, d));
                    s10 = s10.wrapping_add(dot(b, c));
                    s11 = s11.wrapping_add(dot(b, d));
                    (u, v) = (u.add(4), v.add(8));
                }
                to.cast::<[i32; 2]>().write([s00, s01]);
                other.cast::<[i32; 2]>().write([s10, s11]);
            }
        }
    }
}

#[cfg(not(all(target_arch = "arm", target_feature = "dsp")))]
#[inline(always)]
unsafe fn four(p: *const i16) -> [i32; 4] {
    // SAFETY: the caller has four there.
    unsafe { p.cast::<[i16; 4]>().read() }.map(i32::from)
}

/// Of a patch's and a filter's entries, of which four products are within 32 bits.
#[cfg(not(all(target_arch = "arm", target_feature = "dsp")))]
#[inline(always)]
fn dot(a: [i32; 4], b: [i32; 4]) -> i32 {
    (a[0] * b[0] + a[1] * b[1]) + (a[2] * b[2] + a[3] * b[3])
}

/// Four numbers are two pairs, the first and the third, the second and the fourth: so bytes become numbers of 16 bits
/// by one instruction for two.
#[cfg(all(target_arch = "arm", target_feature = "dsp"))]
impl Ints for Plain {
    const NARROW: usize = 4;
    const WIDE: usize = 1;
    const ROWS: usize = 2;
    type N = [u32; 2];
    type W = i32;
    wide!();

    #[inline(always)]
    unsafe fn bytes(p: *const i8) -> [u32; 2] {
        // SAFETY: the trait's contract; the instructions only extend the bytes.
        unsafe { super::super::four::load(p) }
    }
    #[inline(always)]
    unsafe fn put(p: *mut i16, v: [u32; 2]) {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<[u32; 2]>().write(v) }
    }
    #[inline(always)]
    unsafe fn add(a: [u32; 2], b: [u32; 2]) -> [u32; 2] {
        [pairs::add(a[0], b[0]), pairs::add(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn sub(a: [u32; 2], b: [u32; 2]) -> [u32; 2] {
        [pairs::sub(a[0], b[0]), pairs::sub(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn double(a: [u32; 2]) -> [u32; 2] {
        [pairs::add(a[0], a[0]), pairs::add(a[1], a[1])]
    }

    /// Two tiles by two columns, eight channels a turn: 32 products in 24 instructions. It takes all registers, also
    /// the two that the compiler keeps for itself, which are put aside.
    #[inline(always)]
    unsafe fn multiply(of: &Product, rows: usize) {
        use core::arch::asm;
        // Where there is one tile it is both.
        let (next, below) = if rows > 1 { (of.stride, COLUMNS) } else { (0, 0) };
        for column in (0..COLUMNS).step_by(PAIR) {
            // SAFETY: the contract of `Product`: channels are a multiple of eight. What is pushed is popped.
            unsafe {
                let (to, other) = (of.m.add(column), of.m.add(below + column));
                let mut sums = [0i32; 4];
                if of.add {
                    sums = [*to, *to.add(1), *other, *other.add(1)];
                }
                asm!(
                    "push {{r6, r7}}",
                    "2:",
                    "ldrd r4, r5, [r0], #8",
                    "ldm r2!, {{r6, r7, r12, lr}}",
                    "smlad r8, r4, r6, r8",
                    "smlad r9, r4, r12, r9",
                    "smlad r8, r5, r7, r8",
                    "smlad r9, r5, lr, r9",
                    "ldrd r4, r5, [r1], #8",
                    "smlad r10, r4, r6, r10",
                    "smlad r11, r4, r12, r11",
                    "smlad r10, r5, r7, r10",
                    "smlad r11, r5, lr, r11",
                    "ldrd r4, r5, [r0], #8",
                    "ldm r2!, {{r6, r7, r12, lr}}",
                    "smlad r8, r4, r6, r8",
                    "smlad r9, r4, r12, r9",
                    "smlad r8, r5, r7, r8",
                    "smlad r9, r5, lr, r9",
                    "ldrd r4, r5, [r1], #8",
                    "smlad r10, r4, r6, r10",
                    "smlad r11, r4, r12, r11",
                    "smlad r10, r5, r7, r10",
                    "smlad r11, r5, lr, r11",
                    "cmp r0, r3",
                    "bne 2b",
                    "pop {{r6, r7}}",
                    inout("r0") of.u => _,
                    inout("r1") of.u.add(next) => _,
                    inout("r2") of.v.add(column * of.channels) => _,
                    in("r3") of.u.add(of.channels),
                    out("r4") _,
                    out("r5") _,
                    inout("r8") sums[0],
                    inout("r9") sums[1],
                    inout("r10") sums[2],
                    inout("r11") sums[3],
                    out("r12") _,
                    out("lr") _,
                    options(readonly),
                );
                to.cast::<[i32; 2]>().write([sums[0], sums[1]]);
                other.cast::<[i32; 2]>().write([sums[2], sums[3]]);
            }
        }
    }
}

/// Two numbers of 16 bits in a register.
#[cfg(all(target_arch = "arm", target_feature = "dsp"))]
mod pairs {
    use core::arch::asm;

    #[inline(always)]
    pub fn add(a: u32, b: u32) -> u32 {
        let sum;
        // SAFETY: arithmetic on registers; its flags are looked at by nobody.
        unsafe { asm!("sadd16 {0}, {1}, {2}", out(reg) sum, in(reg) a, in(reg) b, options(pure, nomem, nostack)) }
        sum
    }

    #[inline(always)]
    pub fn sub(a: u32, b: u32) -> u32 {
        let difference;
        // SAFETY: as above.
        unsafe {
            asm!("ssub16 {0}, {1}, {2}", out(reg) difference, in(reg) a, in(reg) b, options(pure, nomem, nostack))
        }
        difference
    }
}
