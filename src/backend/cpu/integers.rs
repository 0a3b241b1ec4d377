//! Products of 8-bit integers: the sums are exact, so they are the same on every path.
//!
//! B is packed in panels of [`Sizes::columns`] columns, the last perhaps narrower; a panel holds, for each four steps
//! of the sum, four entries of each column one after the other (or each step's, see [`winograd::step`]). A tile is
//! some rows against one panel. Where a path's instruction takes bytes without a sign, those of A are A +
//! [`Sizes::excess`], and who reads the sums takes away what that adds to a column: the excess times the sum of the
//! column of B.
#![allow(unsafe_code)] // Vendor intrinsics and raw row pointers, inside what `Tile` promises.

use super::gemm::Segment;
use super::isa::Isa;
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
use super::isa::Path;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
#[cfg(target_arch = "x86_64")]
mod vnni;
pub mod winograd;

/// Steps of the sum that are made at once: channels come in so many.
pub const STEP: usize = 4;
/// The most rows of a tile.
pub const MOST_ROWS: usize = if cfg!(target_arch = "x86_64") { 14 } else { 8 };
/// The most columns of a panel.
pub const MOST_COLUMNS: usize = match () {
    () if cfg!(target_arch = "x86_64") => 32,
    () if cfg!(target_arch = "aarch64") => 16,
    () => COLUMNS,
};
/// Columns of a panel of all kernels but those for dot products.
const COLUMNS: usize = 8;

/// One tile.
///
/// Contract: every row pointer below [`Sizes::rows`] is valid for every segment, whose length is a multiple of
/// [`STEP`]; `b` for the panel's `width` times all steps; `sums` for [`Sizes::rows`] rows of `width` numbers.
pub struct Tile<'a> {
    pub a: [*const u8; MOST_ROWS],
    pub segments: &'a [Segment],
    pub b: *const i8,
    pub sums: *mut i32,
    /// Rows whose sums are wanted; others may be computed too.
    pub rows: usize,
    /// Columns of the panel.
    pub width: usize,
}

/// The sizes of a path's tiles, and what its instructions want.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// The most rows of a tile.
    pub rows: usize,
    /// Columns of a full panel.
    pub columns: usize,
    /// What the columns of the last panel are a multiple of.
    unit: usize,
    /// What is added to the integers of A.
    pub excess: u8,
}

impl Sizes {
    /// Columns of the panel that holds `n` remaining columns.
    pub fn width(self, n: usize) -> usize {
        n.min(self.columns).next_multiple_of(self.unit)
    }

    /// Columns of all panels for `n` columns; `None` on overflow.
    pub fn padded(self, n: usize) -> Option<usize> {
        n.checked_next_multiple_of(self.unit)
    }
}

/// Those of a path.
pub fn sizes(isa: Isa) -> Sizes {
    let plain = |rows| Sizes { rows, columns: COLUMNS, unit: COLUMNS, excess: 0 };
    match isa.path() {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 if isa.has_dot_products() => vnni::SIZES,
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 | Path::Avx512 => plain(6),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Path::Neon if isa.has_dot_products() => Sizes { columns: neon::DOT_COLUMNS, ..plain(neon::DOT_ROWS) },
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Path::Neon => plain(neon::ROWS),
        _ => plain(2),
    }
}

/// Writes the sums of the tile's rows.
///
/// # Safety
/// The contract of [`Tile`].
pub unsafe fn run(isa: Isa, tile: &Tile<'_>) {
    debug_assert!((1..=sizes(isa).rows).contains(&tile.rows) && tile.width <= sizes(isa).columns);
    match isa.path() {
        // SAFETY: the Isa proves the features; the rest is the caller's contract.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 if isa.has_dot_products() => unsafe { vnni::run(tile) },
        // SAFETY: an Isa of either path proves the features; the rest is the caller's contract.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 | Path::Avx512 => unsafe { avx2(tile) },
        // SAFETY: the Isa proves the features; the rest is the caller's contract.
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Path::Neon if isa.has_dot_products() => unsafe { neon::dots(tile) },
        // SAFETY: the build has the features; the rest is the caller's contract.
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Path::Neon => unsafe { neon::tile(tile) },
        // SAFETY: the caller's contract.
        _ => unsafe { portable(tile) },
    }
}

/// Bytes of B of `k` rows and `n` columns when packed; `None` on overflow.
pub fn packed_len(isa: Isa, k: usize, n: usize) -> Option<usize> {
    sizes(isa).padded(n)?.checked_mul(k)
}

/// Entry `i` of packed B of `k` rows and `n` columns, as its row and its column, where a column's entries of `step`
/// steps lie together.
pub fn entry(isa: Isa, step: usize, [k, n]: [usize; 2], i: usize) -> (usize, usize) {
    let sizes = sizes(isa);
    let (panel, rest) = (i / (k * sizes.columns), i % (k * sizes.columns));
    let width = sizes.width(n - panel * sizes.columns);
    let (steps, within) = (rest / (step * width), rest % (step * width));
    (steps * step + within % step, panel * sizes.columns + within / step)
}

/// Four integers as two registers of two, the first and the third, the second and the fourth, for the processors that
/// multiply so.
#[cfg(all(target_arch = "arm", target_feature = "dsp"))]
mod four {
    use core::arch::asm;

    #[inline(always)]
    pub unsafe fn load(p: *const i8) -> [u32; 2] {
        let (x, even, odd): (u32, u32, u32);
        // SAFETY: four bytes, by the caller's contract; the instructions only extend them.
        unsafe {
            x = p.cast::<u32>().read_unaligned();
            asm!("sxtb16 {0}, {1}", out(reg) even, in(reg) x, options(pure, nomem, nostack, preserves_flags));
            asm!("sxtb16 {0}, {1}, ror #8", out(reg) odd, in(reg) x, options(pure, nomem, nostack, preserves_flags));
        }
        [even, odd]
    }

    /// Adds the products of `len` steps of two rows and two columns; gives where the columns go on. It takes all
    /// registers, also the two that the compiler keeps for itself, which are put aside.
    #[inline(always)]
    pub unsafe fn add_products(sums: &mut [i32; 4], rows: [*const i8; 2], mut b: *const i8, len: usize) -> *const i8 {
        if len == 0 {
            return b;
        }
        // SAFETY: the caller has `len` bytes of either row and as many fours of all columns. What is pushed is popped.
        unsafe {
            asm!(
                "push {{r6, r7}}",
                "2:",
                "ldrd r6, r12, [r2], #32",
                "ldr r4, [r0], #4",
                "sxtb16 r7, r6, ror #8",
                "sxtb16 r6, r6",
                "sxtb16 lr, r12, ror #8",
                "sxtb16 r12, r12",
                "sxtb16 r5, r4, ror #8",
                "sxtb16 r4, r4",
                "smlad r8, r4, r6, r8",
                "smlad r9, r4, r12, r9",
                "smlad r8, r5, r7, r8",
                "smlad r9, r5, lr, r9",
                "ldr r4, [r1], #4",
                "sxtb16 r5, r4, ror #8",
                "sxtb16 r4, r4",
                "smlad r10, r4, r6, r10",
                "smlad r11, r4, r12, r11",
                "smlad r10, r5, r7, r10",
                "smlad r11, r5, lr, r11",
                "cmp r0, r3",
                "bne 2b",
                "pop {{r6, r7}}",
                inout("r0") rows[0] => _,
                inout("r1") rows[1] => _,
                inout("r2") b,
                in("r3") rows[0].add(len),
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
        }
        b
    }
}

/// Four integers in plain Rust.
#[cfg(not(all(target_arch = "arm", target_feature = "dsp")))]
mod four {
    use super::{COLUMNS, STEP};

    #[inline(always)]
    unsafe fn load(p: *const i8) -> [i32; 4] {
        // SAFETY: four bytes, by the caller's contract.
        unsafe { p.cast::<[i8; 4]>().read_unaligned() }.map(i32::from)
    }

    #[inline(always)]
    fn dot(a: [i32; 4], b: [i32; 4]) -> i32 {
        (a[0] * b[0] + a[1] * b[1]) + (a[2] * b[2] + a[3] * b[3])
    }

    /// Adds the products of `len` steps of two rows and two columns; gives where the columns go on.
    #[inline(always)]
    pub unsafe fn add_products(sums: &mut [i32; 4], rows: [*const i8; 2], mut b: *const i8, len: usize) -> *const i8 {
        let [mut s00, mut s01, mut s10, mut s11] = *sums;
        // SAFETY: the caller has `len` bytes of either row and as many fours of all columns.
        unsafe {
            let [mut a0, mut a1] = rows;
            let end = a0.add(len);
            while a0 < end {
                let (x0, x1) = (load(a0), load(a1));
                let (w0, w1) = (load(b), load(b.add(STEP)));
                s00 += dot(x0, w0);
                s01 += dot(x0, w1);
                s10 += dot(x1, w0);
                s11 += dot(x1, w1);
                (a0, a1, b) = (a0.add(STEP), a1.add(STEP), b.add(STEP * COLUMNS));
            }
        }
        *sums = [s00, s01, s10, s11];
        b
    }
}

/// Two rows by two columns at a time: as much as sixteen registers hold.
unsafe fn portable(t: &Tile<'_>) {
    for column in (0..COLUMNS).step_by(2) {
        let mut sums = [0i32; 4];
        // SAFETY: the contract of `Tile`.
        unsafe {
            let mut b = t.b.add(column * STEP);
            for s in t.segments {
                let row = |i: usize| t.a[i].cast::<i8>().add(s.offset);
                b = four::add_products(&mut sums, [row(0), row(1)], b, s.len);
            }
            t.sums.add(column).cast::<[i32; 2]>().write([sums[0], sums[1]]);
            t.sums.add(COLUMNS + column).cast::<[i32; 2]>().write([sums[2], sums[3]]);
        }
    }
}

/// Pairs of 16 bits: no sum of two products leaves 32 bits, as it would with `vpmaddubsw` and 16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(t: &Tile<'_>) {
    use super::simd::unroll;
    use core::arch::x86_64::*;
    // Each vector has two partial sums of each of four columns.
    let mut acc = [[_mm256_setzero_si256(); 2]; 6];
    let mut b = t.b;
    for s in t.segments {
        let mut a = [core::ptr::null::<u8>(); 6];
        // SAFETY: the contract of `Tile` for every pointer.
        unsafe {
            unroll!(i in 6 => { a[i] = t.a[i].add(s.offset) });
            let mut k = 0;
            while k < s.len {
                let b0 = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.cast()));
                let b1 = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.add(16).cast()));
                unroll!(i in 6 => {
                    let x = _mm256_cvtepi8_epi16(_mm_set1_epi32(a[i].add(k).cast::<i32>().read_unaligned()));
                    acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(x, b0));
                    acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(x, b1));
                });
                b = b.add(STEP * COLUMNS);
                k += STEP;
            }
        }
    }
    unroll!(i in 6 => {
        // Columns 0, 1, 4, 5, 2, 3, 6, 7, then in order.
        let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(acc[i][0], acc[i][1]));
        // SAFETY: `sums` has room for all rows.
        unsafe { _mm256_storeu_si256(t.sums.add(i * COLUMNS).cast(), sums) };
    });
}

#[cfg(test)]
mod tests {
    use super::super::isa::Path;
    use super::*;
    use alloc::vec::Vec;

    /// The extremes too, whose products are the largest.
    fn drawn(seed: usize, i: usize, least: i32) -> i8 {
        let x = (i * 7919 + seed * 104_729) as u64;
        match x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56 {
            0..64 => least as i8,
            64..128 => 127,
            v => (v as i32 - 128).max(least) as i8,
        }
    }

    /// Every path that there is, with and without dot products.
    fn all() -> Vec<Isa> {
        let found = Path::ALL.into_iter().filter_map(Isa::try_new);
        let mut all: Vec<Isa> = found.flat_map(|isa| [isa.without_dot_products(), isa]).collect();
        all.dedup();
        all
    }

    #[test]
    fn the_sums_are_exact_on_every_path() {
        // Of a few steps at a time, and of sixteen.
        for [first, second] in [[20, 36], [16, 32]] {
            let at = |offset, len| Segment { table: 0, offset, len };
            the_sums_are_exact([at(8, first), at(40, second)]);
        }
    }

    fn the_sums_are_exact(segments: [Segment; 2]) {
        let k = segments.iter().map(|s| s.len).sum();
        // A last panel of either width, and of a few columns.
        for n in [19, 48, 64] {
            let b: Vec<i8> = (0..k * n).map(|i| drawn(1, i, -127)).collect();
            let a: Vec<i8> = (0..MOST_ROWS * 80).map(|i| drawn(2, i, -128)).collect();
            for isa in all() {
                let of = sizes(isa);
                let packed: Vec<i8> = (0..packed_len(isa, k, n).unwrap())
                    .map(|i| match entry(isa, STEP, [k, n], i) {
                        (row, column) if column < n => b[row * n + column],
                        _ => 0,
                    })
                    .collect();
                let bytes: Vec<u8> = a.iter().map(|a| a.cast_unsigned().wrapping_add(of.excess)).collect();
                for (first, rows) in (0..n).step_by(of.columns).flat_map(|c| (1..=of.rows).map(move |r| (c, r))) {
                    let width = of.width(n - first);
                    let mut sums = [i32::MIN; MOST_COLUMNS * MOST_ROWS];
                    let rows_at = core::array::from_fn(|r| bytes[r * 80..].as_ptr());
                    let b_at = packed[first * k..].as_ptr();
                    let tile = Tile { a: rows_at, segments: &segments, b: b_at, sums: sums.as_mut_ptr(), rows, width };
                    // SAFETY: the slices hold what the segments say.
                    unsafe { run(isa, &tile) };
                    for (r, c) in (0..rows).flat_map(|r| (0..width).map(move |c| (r, c))) {
                        let column = first + c;
                        let mut step = 0;
                        let mut want = 0i32;
                        for s in &segments {
                            for i in 0..s.len {
                                let w = if column < n { b[step * n + column] } else { 0 };
                                let a = i32::from(a[r * 80 + s.offset + i]) + i32::from(of.excess);
                                want += a * i32::from(w);
                                step += 1;
                            }
                        }
                        assert_eq!(sums[r * width + c], want, "{isa:?}, {rows} rows: row {r}, column {column}");
                    }
                }
            }
        }
    }

    #[test]
    fn entries_and_their_places_correspond() {
        for (isa, n) in all().into_iter().flat_map(|isa| [1, 16, 17, 40, 70].map(|n| (isa, n))) {
            let k = 8;
            let len = packed_len(isa, k, n).unwrap();
            let mut all: Vec<(usize, usize)> = (0..len).map(|i| entry(isa, STEP, [k, n], i)).collect();
            all.sort_unstable();
            let columns = sizes(isa).padded(n).unwrap();
            let want: Vec<(usize, usize)> = (0..k).flat_map(|r| (0..columns).map(move |c| (r, c))).collect();
            assert_eq!(all, want, "{isa:?}, {n} columns");
        }
        assert_eq!(packed_len(Isa::best(), 2, usize::MAX), None);
    }
}
