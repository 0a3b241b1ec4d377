//! Products of plain matrices: what attention needs beside convolutions.
#![allow(unsafe_code)] // Builds tiles of row pointers.

use super::super::aligned::SharedMut;
use super::super::isa::{Isa, Path};
use super::pack::{check, packed_len};
use super::{MAX_MR, Segment, Tile, kernels};
use crate::error::{Result, ensure};

/// `C = A B * scale`: A has `m` rows of `k` floats, B is packed (see [`pack`](super::pack)), C has `m` rows of `n`
/// floats.
///
/// Each entry is one sum over k in rising order, so it is the same bits for any `m`.
#[derive(Clone, Copy, Debug)]
pub struct Matmul<'a> {
    /// The path; B must be packed for it.
    pub isa: Isa,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// A, row by row.
    pub a: &'a [f32],
    /// Floats from one row of A to the next, at least k.
    pub a_stride: usize,
    /// B, packed for `isa` from k x n.
    pub b: &'a [f32],
    /// Floats from one row of C to the next, at least n.
    pub c_stride: usize,
    /// Multiplies the product.
    pub scale: f32,
}

impl Matmul<'_> {
    /// Writes C into `c`; floats between the rows are left alone.
    ///
    /// # Errors
    /// `Shape` if A, B or C has not the floats that the sizes ask for.
    pub fn run(&self, c: &mut [f32]) -> Result<Path> {
        // SAFETY: `c` is borrowed mutably, so nobody else touches it.
        unsafe { self.run_shared(SharedMut::new(c), 0) }
    }

    /// Writes C into `c` from float `offset` on, where other tasks may write what lies between C's rows.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Safety
    /// Nobody else may touch the `n` floats of C's rows meanwhile.
    pub unsafe fn run_shared(&self, c: SharedMut<'_>, offset: usize) -> Result<Path> {
        let &Self { isa, m, n, k, a, a_stride, b, c_stride, scale } = self;
        check("rows", a.len(), a_stride, m, k)?;
        check("rows", c.len().saturating_sub(offset), c_stride, m, n)?;
        ensure!(
            Some(b.len()) == packed_len(isa, k, n),
            Shape,
            "packed matrix has {} floats, which is not {k} x {n} for {}",
            b.len(),
            isa.path()
        );
        let kn = kernels(isa);
        let mut path = isa.path();
        let tiles = m.div_ceil(kn.mr);
        let segments = [Segment { table: 0, offset: 0, len: k }];
        let mut column = 0;
        while column < n && m > 0 {
            let width = kn.panel_width(n - column);
            let mut row = 0;
            for i in 0..tiles {
                let height = m / tiles + usize::from(i < m % tiles);
                let mut t = Tile::new(&segments, width.min(n - column), scale);
                // SAFETY: `check` found all rows of A and C in their slices, and the panel starts at k * column.
                unsafe {
                    t.b = b.as_ptr().add(k * column).cast();
                    for r in 0..height.min(MAX_MR) {
                        t.a[0][r] = a.as_ptr().add((row + r) * a_stride);
                        t.out[r] = c.as_ptr().add(offset + (row + r) * c_stride + column);
                    }
                    if let Some(f) = kn.tile_fn(height, width) {
                        path = f(&t);
                    }
                }
                row += height;
            }
            column += width;
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::numbers;
    use super::super::pack::{Source, pack};
    use super::*;
    use alloc::vec;

    #[test]
    fn equals_plain_loops_on_every_path() {
        for p in Path::ALL {
            let Some(isa) = Isa::try_new(p) else {
                std::println!("skipped: this CPU or build has no {p}");
                continue;
            };
            for (m, n, k) in [
                (1, 1, 1),
                (2, 3, 5),
                (5, 16, 1),
                (13, 17, 33),
                (14, 32, 64),
                (15, 31, 7),
                (29, 70, 19),
                (64, 8, 3),
                (3, 4, 0),
            ] {
                let (lda, ldc) = (k + 3, n + 2);
                let (a, b) = (numbers(m * lda, 1), numbers(k * n, 2));
                let mut packed = vec![0.0; packed_len(isa, k, n).unwrap()];
                pack(isa, k, n, Source::Rows { data: &b, stride: n }, &mut packed).unwrap();
                let mut c = vec![7.0; m * ldc];
                let mm = Matmul { isa, m, n, k, a: &a, a_stride: lda, b: &packed, c_stride: ldc, scale: 0.5 };
                assert_eq!(mm.run(&mut c).unwrap(), p, "forced path did not run");
                for i in 0..m {
                    for j in 0..ldc {
                        let got = c[i * ldc + j];
                        if j >= n {
                            assert_eq!(got, 7.0, "wrote between rows");
                            continue;
                        }
                        let want: f64 =
                            (0..k).map(|x| f64::from(a[i * lda + x]) * f64::from(b[x * n + j])).sum::<f64>() * 0.5;
                        assert!(
                            (f64::from(got) - want).abs() < 1e-6 * (1.0 + k as f64 / 8.0),
                            "{p} {m}x{n}x{k} at {i},{j}"
                        );
                    }
                }
                // One row at a time gives the same bits.
                for i in 0..m {
                    let mut row = vec![0.0; n];
                    Matmul { m: 1, a: &a[i * lda..], c_stride: n, ..mm }.run(&mut row).unwrap();
                    assert_eq!(row, c[i * ldc..i * ldc + n]);
                }
            }
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let isa = Isa::best();
        let b = vec![0.0; packed_len(isa, 3, 4).unwrap()];
        let mm = Matmul { isa, m: 2, n: 4, k: 3, a: &[0.0; 6], a_stride: 3, b: &b, c_stride: 4, scale: 1.0 };
        assert!(mm.run(&mut [0.0; 8]).is_ok());
        assert!(mm.run(&mut [0.0; 7]).is_err());
        assert!(Matmul { a_stride: 2, ..mm }.run(&mut [0.0; 8]).is_err());
        assert!(Matmul { c_stride: 3, ..mm }.run(&mut [0.0; 8]).is_err());
        assert!(Matmul { m: 3, ..mm }.run(&mut [0.0; 16]).is_err());
        assert!(Matmul { k: 2, ..mm }.run(&mut [0.0; 8]).is_err());
        assert!(Matmul { m: usize::MAX, ..mm }.run(&mut [0.0; 8]).is_err());
    }
}
