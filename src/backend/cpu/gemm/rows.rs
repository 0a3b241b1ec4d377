//! Products whose B is read where it lies: what training needs, where weights change at every step and packing them, or
//! unfolding images, would cost as much as the product.
//!
//! Row k of B is a run of floats at an offset of its own. Rows of a matrix are such runs, and so are the images that a
//! convolution of stride 1 sees through the taps of its kernel: the same image, shifted (see
//! `training::engine::conv`).
#![allow(unsafe_code)] // Raw pointers, within bounds that `run` checks.

use super::super::isa::{Isa, Path};
use super::super::simd::{Simd, dispatch, unroll};
use super::MAX_MR;
use crate::error::{Result, ensure};

/// Vectors of a tile's width.
const NV: usize = 2;

/// What a product begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// 0.
    Zero,
    /// What C holds.
    Keep,
    /// A number for each row.
    Bias(&'a [f32]),
}

/// `C = start + A B`: A has `m` rows of as many floats as there are offsets, row k of B is `b[offsets[k] ..][.. n]`.
///
/// Each entry is one sum over k in rising order, so it is the same bits for any `m` and `n`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    pub isa: Isa,
    pub m: usize,
    pub n: usize,
    pub a: &'a [f32],
    /// Floats from one row of A to the next.
    pub a_stride: usize,
    pub b: &'a [f32],
    pub offsets: &'a [usize],
    pub start: Start<'a>,
    /// Floats from one row of C to the next, at least n.
    pub c_stride: usize,
}

/// That `count` rows of `len` floats, `stride` apart, lie in `have` floats.
fn check(what: &str, have: usize, stride: usize, count: usize, len: usize) -> Result<()> {
    let need = count.checked_sub(1).map_or(Some(0), |c| c.checked_mul(stride)?.checked_add(len));
    let fits = need.is_some_and(|need| need <= have);
    ensure!(fits, Shape, "{what} has {have} floats, expected {count} rows of {len}, {stride} apart");
    Ok(())
}

/// That each offset leaves `n` floats of `have`.
fn check_offsets(offsets: &[usize], have: usize, n: usize) -> Result<()> {
    let fits = have.checked_sub(n).is_some_and(|last| offsets.iter().all(|&o| o <= last));
    ensure!(offsets.is_empty() || fits, Shape, "a row of {n} floats lies outside of {have}");
    Ok(())
}

impl Rows<'_> {
    /// Writes C into `c`; floats between the rows are left alone.
    ///
    /// # Errors
    /// `Shape` if an operand has not the floats that the sizes ask for.
    pub fn run(&self, c: &mut [f32]) -> Result<Path> {
        /// Bytes of B that stay in cache while A goes by.
        const SMALL: usize = 256 << 10;
        let &Self { isa, m, n, a, a_stride, b, offsets, start, c_stride } = self;
        check("A", a.len(), a_stride, m, offsets.len())?;
        check("C", c.len(), c_stride, m, n)?;
        ensure!(c_stride >= n || m <= 1, Shape, "rows of {n} floats, {c_stride} apart");
        check_offsets(offsets, b.len(), n)?;
        if let Start::Bias(bias) = start {
            ensure!(bias.len() >= m, Shape, "{} biases for {m} rows", bias.len());
        }
        let height = height(isa);
        let tiles = m.div_ceil(height);
        let mut path = isa.path();
        let mut band = |row: usize, rows: usize, from: usize, to: usize| {
            let mut t = Band {
                a: [core::ptr::null(); MAX_MR],
                c: [core::ptr::null_mut(); MAX_MR],
                start: [0.0; MAX_MR],
                keep: matches!(start, Start::Keep),
                rows,
                b: b.as_ptr().wrapping_add(from),
                offsets,
                n: to - from,
            };
            for r in 0..rows.min(MAX_MR) {
                t.a[r] = a.as_ptr().wrapping_add((row + r) * a_stride);
                t.c[r] = c.as_mut_ptr().wrapping_add((row + r) * c_stride + from);
                if let Start::Bias(bias) = start {
                    t.start[r] = bias[row + r];
                }
            }
            // SAFETY: the checks above found all rows of A and C in their slices and the n floats at each offset in B;
            // rows of C do not overlap; `rows` is at most the height of the path's tiles.
            path = unsafe { band_raw(isa, &t) };
        };
        let part = |i: usize| m / tiles.max(1) * i + i.min(m % tiles.max(1));
        if size_of_val(b) <= SMALL {
            for i in 0..tiles {
                band(part(i), part(i + 1) - part(i), 0, n);
            }
        } else {
            let width = NV * lanes(isa);
            for from in (0..n).step_by(width) {
                for i in 0..tiles {
                    band(part(i), part(i + 1) - part(i), from, n.min(from + width));
                }
            }
        }
        Ok(path)
    }
}

/// Up to the path's height of rows of C, over all their columns.
struct Band<'a> {
    a: [*const f32; MAX_MR],
    c: [*mut f32; MAX_MR],
    start: [f32; MAX_MR],
    keep: bool,
    rows: usize,
    b: *const f32,
    offsets: &'a [usize],
    n: usize,
}

/// The tallest tile whose sums stay in registers.
const fn height_of(path: Path) -> usize {
    match path {
        Path::Avx512 | Path::Neon => 14,
        Path::Avx2 => 6,
        Path::Portable | Path::Simd128 => 4,
    }
}

fn height(isa: Isa) -> usize {
    height_of(isa.path())
}

fn lanes(isa: Isa) -> usize {
    match isa.path() {
        Path::Avx512 => 16,
        Path::Avx2 => 8,
        Path::Portable | Path::Neon | Path::Simd128 => 4,
    }
}

dispatch! { unsafe fn band_raw = band_body(t: &Band<'_>) }

#[inline(always)]
unsafe fn band_body<S: Simd>(t: &Band<'_>) {
    macro_rules! heights {
        ($($h:literal)*) => {
            match t.rows {
                // SAFETY: the caller's contract.
                $($h if const { $h <= height_of(S::PATH) } => unsafe { columns::<S, $h>(t) },)*
                _ => {}
            }
        };
    }
    heights!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

#[inline(always)]
unsafe fn columns<S: Simd, const MR: usize>(t: &Band<'_>) {
    // SAFETY: the caller's contract; a tile begins within the n columns, and the last ones are told how many are left.
    unsafe {
        let mut at = 0;
        while at + NV * S::LANES <= t.n {
            tile::<S, MR, NV, true>(t, at, S::LANES);
            at += NV * S::LANES;
        }
        while at < t.n {
            tile::<S, MR, 1, false>(t, at, S::LANES.min(t.n - at));
            at += S::LANES;
        }
    }
}

/// Columns `at ..`: whole vectors, or `left` floats of one.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const WHOLE: bool>(t: &Band<'_>, at: usize, left: usize) {
    // SAFETY: the contract of `Rows::run` for every pointer, of `S` for the instructions.
    unsafe {
        let n = if WHOLE { S::LANES } else { left };
        let mut acc = [[S::zero(); NV]; MR];
        unroll!(i in MR => {
            unroll!(j in NV => {
                acc[i][j] = if t.keep {
                    S::load_most(t.c[i].add(at + j * S::LANES), n)
                } else {
                    S::splat(t.start[i])
                };
            });
        });
        let b = t.b.wrapping_add(at);
        for (k, &offset) in t.offsets.iter().enumerate() {
            let mut bv = [S::zero(); NV];
            unroll!(j in NV => { bv[j] = S::load_most(b.wrapping_add(offset + j * S::LANES), n) });
            unroll!(i in MR => {
                let av = S::splat(*t.a[i].add(k));
                unroll!(j in NV => { acc[i][j] = S::mul_add(av, bv[j], acc[i][j]) });
            });
        }
        unroll!(i in MR => {
            unroll!(j in NV => {
                S::store_most(t.c[i].add(at + j * S::LANES), n, acc[i][j])
            });
        });
    }
}

/// `C += A B^T`, where both are read along the sum: A has `m` rows of `n` floats, row j of B is
/// `b[offsets[j] ..][.. n]`, and C has a row of floats, one for each offset, for each row of A.
///
/// The order of each sum depends on n and the path alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dots<'a> {
    pub isa: Isa,
    pub m: usize,
    pub n: usize,
    pub a: &'a [f32],
    /// Floats from one row of A to the next.
    pub a_stride: usize,
    pub b: &'a [f32],
    pub offsets: &'a [usize],
}

/// The most rows of A and of B of a tile.
const SIDE: usize = 5;

/// Rows of A and of B of a path's tiles.
const fn sides(path: Path) -> [usize; 2] {
    match path {
        Path::Avx512 | Path::Neon => [5, 5],
        Path::Avx2 => [3, 4],
        Path::Portable | Path::Simd128 => [2, 2],
    }
}

struct Square<'a> {
    a: [*const f32; SIDE],
    b: [*const f32; SIDE],
    n: usize,
    sums: &'a mut [[f32; SIDE]; SIDE],
}

impl Dots<'_> {
    /// Adds to `c`.
    ///
    /// # Errors
    /// `Shape` if an operand has not the floats that the sizes ask for.
    pub fn run(&self, c: &mut [f32]) -> Result<Path> {
        let &Self { isa, m, n, a, a_stride, b, offsets } = self;
        check("A", a.len(), a_stride, m, n)?;
        check("C", c.len(), offsets.len(), m, offsets.len())?;
        check_offsets(offsets, b.len(), n)?;
        let [mr, nr] = sides(isa.path());
        let mut path = isa.path();
        for j in (0..offsets.len()).step_by(nr) {
            for i in (0..m).step_by(mr) {
                let mut sums = [[0.0; SIDE]; SIDE];
                // A tile at an end has its last row more than once, and what that gives is not looked at.
                let row = |r: usize| a.as_ptr().wrapping_add((i + r).min(m - 1) * a_stride);
                let shifted = |s: usize| b.as_ptr().wrapping_add(offsets[(j + s).min(offsets.len() - 1)]);
                let (a, b) = (core::array::from_fn(row), core::array::from_fn(shifted));
                // SAFETY: the checks above found n floats at each row of A and each offset of B.
                path = unsafe { square_raw(isa, Square { a, b, n, sums: &mut sums }) };
                for (row, sums) in c.chunks_exact_mut(offsets.len()).skip(i).zip(&sums[..mr]) {
                    row[j..].iter_mut().zip(&sums[..nr]).for_each(|(to, sum)| *to += sum);
                }
            }
        }
        Ok(path)
    }
}

dispatch! { unsafe fn square_raw = square_body(t: Square<'_>) }

#[inline(always)]
unsafe fn square_body<S: Simd>(t: Square<'_>) {
    macro_rules! sides {
        ($([$m:literal, $n:literal])*) => {
            match sides(S::PATH) {
                // SAFETY: the caller's contract.
                $([$m, $n] if const { sides(S::PATH)[0] == $m && sides(S::PATH)[1] == $n } => unsafe {
                    square::<S, $m, $n>(t)
                },)*
                _ => {}
            }
        };
    }
    sides!([5, 5] [3, 4] [2, 2]);
}

#[inline(always)]
unsafe fn square<S: Simd, const MR: usize, const NR: usize>(t: Square<'_>) {
    // SAFETY: the contract of `Dots::run` for every pointer, of `S` for the instructions; no path's sides exceed SIDE.
    unsafe {
        let mut acc = [[S::zero(); NR]; MR];
        let (mut a, mut b) = ([core::ptr::null(); MR], [core::ptr::null(); NR]);
        unroll!(i in MR => { a[i] = *t.a.as_ptr().add(i) });
        unroll!(j in NR => { b[j] = *t.b.as_ptr().add(j) });
        let mut at = 0;
        while at + S::LANES <= t.n {
            let mut av = [S::zero(); MR];
            unroll!(i in MR => { av[i] = S::load(a[i].add(at)) });
            unroll!(j in NR => {
                let bv = S::load(b[j].add(at));
                unroll!(i in MR => { acc[i][j] = S::mul_add(av[i], bv, acc[i][j]) });
            });
            at += S::LANES;
        }
        if at < t.n {
            let left = t.n - at;
            let mut av = [S::zero(); MR];
            unroll!(i in MR => { av[i] = S::load_n(a[i].add(at), left) });
            unroll!(j in NR => {
                let bv = S::load_n(b[j].add(at), left);
                unroll!(i in MR => { acc[i][j] = S::mul_add(av[i], bv, acc[i][j]) });
            });
        }
        unroll!(i in MR => {
            unroll!(j in NR => {
                let lanes = S::to_array(acc[i][j]);
                *t.sums.as_mut_ptr().cast::<f32>().add(i * SIDE + j) = lanes.iter().sum();
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::numbers;
    use super::*;

    fn isas() -> impl Iterator<Item = (Path, Isa)> {
        Path::ALL.into_iter().filter_map(|p| Isa::try_new(p).map(|isa| (p, isa)))
    }

    const SIZES: [[usize; 3]; 8] =
        [[1, 1, 1], [2, 3, 5], [4, 16, 9], [13, 33, 7], [14, 32, 20], [20, 71, 18], [31, 9, 3], [3, 5, 0]];

    #[test]
    fn rows_equal_plain_loops_on_every_path() {
        for (p, isa) in isas() {
            for ([m, n, k], wide) in SIZES.into_iter().flat_map(|s| [(s, false), (s, true)]) {
                // Offsets in no order, and B beyond what stays in cache or not.
                let room = if wide { 80_000 } else { 200 };
                let offsets: Vec<usize> = (0..k).map(|i| i * 37 % (room - n)).collect();
                let (lda, ldc) = (k + 3, n + 2);
                let (a, b, bias) = (numbers(m * lda, 1), numbers(room, 2), numbers(m, 3));
                for (case, start) in [Start::Zero, Start::Keep, Start::Bias(&bias)].into_iter().enumerate() {
                    let first = numbers(m * ldc, 4);
                    let mut c = first.clone();
                    let product =
                        Rows { isa, m, n, a: &a, a_stride: lda, b: &b, offsets: &offsets, start, c_stride: ldc };
                    assert_eq!(product.run(&mut c).unwrap(), p, "forced path did not run");
                    for (at, (got, before)) in c.iter().zip(&first).enumerate() {
                        let (i, j) = (at / ldc, at % ldc);
                        if j >= n {
                            assert_eq!(got, before, "wrote between rows");
                            continue;
                        }
                        let begin = [0.0, *before, bias[i]][case];
                        let each = |(k, o): (usize, &usize)| f64::from(a[i * lda + k]) * f64::from(b[o + j]);
                        let want = f64::from(begin) + offsets.iter().enumerate().map(each).sum::<f64>();
                        assert!((f64::from(*got) - want).abs() < 1e-6 * (1.0 + k as f64 / 8.0), "{p} {m}x{n}x{k}");
                    }
                }
            }
        }
    }

    #[test]
    fn dots_equal_plain_loops_on_every_path() {
        for (p, isa) in isas() {
            for [m, q, n] in SIZES.into_iter().chain([[20, 9, 800]]) {
                let stride = n + 1;
                let (a, b) = (numbers(m * stride, 1), numbers(n + 50, 2));
                let offsets: Vec<usize> = (0..q).map(|i| i * 37 % 50).collect();
                let mut c = numbers(m * q, 3);
                let first = c.clone();
                let product = Dots { isa, m, n, a: &a, a_stride: stride, b: &b, offsets: &offsets };
                assert_eq!(product.run(&mut c).unwrap(), p, "forced path did not run");
                for (at, (got, before)) in c.iter().zip(first).enumerate() {
                    let (i, o) = (at / q, offsets[at % q]);
                    let each = |k: usize| f64::from(a[i * stride + k]) * f64::from(b[o + k]);
                    let want = f64::from(before) + (0..n).map(each).sum::<f64>();
                    assert!((f64::from(*got) - want).abs() < 1e-6 * (1.0 + n as f64 / 8.0), "{p} {m}x{q}x{n}");
                }
            }
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let isa = Isa::best();
        let offsets = [0, 2, 4];
        let rows = Rows {
            isa,
            m: 2,
            n: 4,
            a: &[0.0; 6],
            a_stride: 3,
            b: &[0.0; 8],
            offsets: &offsets,
            start: Start::Zero,
            c_stride: 4,
        };
        assert!(rows.run(&mut [0.0; 8]).is_ok());
        assert!(rows.run(&mut [0.0; 7]).is_err());
        assert!(Rows { a: &[0.0; 5], ..rows }.run(&mut [0.0; 8]).is_err());
        assert!(Rows { b: &[0.0; 7], ..rows }.run(&mut [0.0; 8]).is_err());
        assert!(Rows { c_stride: 3, ..rows }.run(&mut [0.0; 8]).is_err());
        assert!(Rows { start: Start::Bias(&[0.0]), ..rows }.run(&mut [0.0; 8]).is_err());
        assert!(Rows { m: usize::MAX, ..rows }.run(&mut [0.0; 8]).is_err());
        assert!(Rows { n: usize::MAX, c_stride: usize::MAX, ..rows }.run(&mut [0.0; 8]).is_err());
        let dots = Dots { isa, m: 2, n: 4, a: &[0.0; 8], a_stride: 4, b: &[0.0; 8], offsets: &offsets };
        assert!(dots.run(&mut [0.0; 6]).is_ok());
        assert!(dots.run(&mut [0.0; 5]).is_err());
        assert!(Dots { a: &[0.0; 7], ..dots }.run(&mut [0.0; 6]).is_err());
        assert!(Dots { b: &[0.0; 7], ..dots }.run(&mut [0.0; 6]).is_err());
        assert!(Dots { m: usize::MAX, ..dots }.run(&mut [0.0; 6]).is_err());
    }
}
