//! Products of dense matrices, for work done once: fitting priors, and later training.
//!
//! A safe face of the crate `matrixmultiply`, which packs both operands and allocates at each call; so nothing that runs in a sampling step
//! uses it. The networks have kernels of their own.
#![allow(unsafe_code)] // One call of a foreign kernel over pointers that are checked here.

use crate::error::{Result, ensure};

/// A row-major matrix of `rows` x `cols`, seen as it is or transposed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mat<'a> {
    data: &'a [f64],
    rows: usize,
    cols: usize,
    /// Elements between rows and between columns.
    strides: [usize; 2],
}

impl<'a> Mat<'a> {
    /// `data` has `rows * cols` values, row by row.
    pub fn new(data: &'a [f64], rows: usize, cols: usize) -> Result<Self> {
        let len = data.len();
        ensure!(rows.checked_mul(cols) == Some(len), Shape, "a matrix has {len} values, expected {rows} x {cols}");
        Ok(Self { data, rows, cols, strides: [cols, 1] })
    }

    /// The same values as a matrix of `cols` x `rows`.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, strides: [self.strides[1], self.strides[0]], ..self }
    }
}

/// `c += scale * a b`, with `c` row-major. The order of the sums depends on the sizes alone.
pub(crate) fn add_product(scale: f64, a: Mat<'_>, b: Mat<'_>, c: &mut [f64]) -> Result<()> {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    ensure!(b.rows == k, Shape, "a product of {m} x {k} and {} x {n}", b.rows);
    ensure!(m.checked_mul(n) == Some(c.len()), Shape, "a product has {} values, expected {m} x {n}", c.len());
    debug_assert!(a.data.len() == m * k && b.data.len() == k * n);
    let signed = |strides: [usize; 2]| strides.map(|s| s as isize);
    let ([ra, ca], [rb, cb]) = (signed(a.strides), signed(b.strides));
    // SAFETY: each operand has as many values as its rows times its columns, and its strides are those of a row-major
    // matrix of that size or of its transpose, so every index lies inside its slice; `c` is exclusive. Lengths of slices
    // are at most isize::MAX, so the casts keep their values.
    unsafe {
        matrixmultiply::dgemm(
            m,
            k,
            n,
            scale,
            a.data.as_ptr(),
            ra,
            ca,
            b.data.as_ptr(),
            rb,
            cb,
            1.0,
            c.as_mut_ptr(),
            n as isize,
            1,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn products_equal_plain_loops() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (17, 9, 33), (4, 0, 2)] {
            let a: Vec<f64> = (0..m * k).map(|i| (i * 7 % 11) as f64 - 5.0).collect();
            let b: Vec<f64> = (0..k * n).map(|i| (i * 5 % 13) as f64 - 6.0).collect();
            let entry = |i: usize, j: usize| 1.0 + 2.0 * (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
            let expected: Vec<f64> = (0..m * n).map(|at| entry(at / n, at % n)).collect();
            let mut c = alloc::vec![1.0; m * n];
            add_product(2.0, Mat::new(&a, m, k).unwrap(), Mat::new(&b, k, n).unwrap(), &mut c).unwrap();
            assert_eq!(c, expected);
            let at: Vec<f64> = (0..m * k).map(|at| a[at % m * k + at / m]).collect();
            let mut c = alloc::vec![1.0; m * n];
            add_product(2.0, Mat::new(&at, k, m).unwrap().transposed(), Mat::new(&b, k, n).unwrap(), &mut c).unwrap();
            assert_eq!(c, expected);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let (a, mut c) = ([0.0; 6], [0.0; 4]);
        assert!(Mat::new(&a, 2, 2).is_err());
        assert!(Mat::new(&a, usize::MAX, 2).is_err());
        let m = Mat::new(&a, 2, 3).unwrap();
        assert!(add_product(1.0, m, m, &mut c).is_err());
        assert!(add_product(1.0, m, m.transposed(), &mut c[..3]).is_err());
        assert!(add_product(1.0, m, m.transposed(), &mut c).is_ok());
    }
}
