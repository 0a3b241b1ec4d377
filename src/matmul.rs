//! Products of dense matrices, for work done once, such as fitting priors, and for training.
//!
//! A safe face of the crate `matrixmultiply`, which packs both operands and allocates at each call; so nothing that
//! runs in a sampling step uses it. The networks have kernels of their own.
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
    // matrix of that size or of its transpose, so every index lies inside its slice; `c` is exclusive. Lengths of
    // slices are at most isize::MAX, so the casts keep their values.
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

/// A matrix of `f32` within a slice: `data[row * strides[0] + column * strides[1]]`.
#[cfg(feature = "training")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strided<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    strides: [usize; 2],
}

#[cfg(feature = "training")]
impl<'a> Strided<'a> {
    /// `rows` lines of `cols` values, each line `stride` values behind the one before.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Result<Self> {
        let m = Self { data, rows, cols, strides: [stride, 1] };
        let len = data.len();
        // Without rows nothing is read; an end that no usize holds is beyond any slice.
        let fits = match rows.checked_sub(1) {
            None => true,
            Some(r) => r.checked_mul(stride).and_then(|start| start.checked_add(cols)).is_some_and(|end| end <= len),
        };
        ensure!(fits, Shape, "a matrix has {len} values, too few for {rows} x {cols} by {stride}");
        Ok(m)
    }

    /// The same values as a matrix of `cols` x `rows`.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, strides: [self.strides[1], self.strides[0]], ..self }
    }
}

/// `c = a b + keep c` in f32, each row of `c` `stride` values behind the one before. The order of the sums depends on
/// the sizes and the CPU alone.
#[cfg(feature = "training")]
pub(crate) fn product_f32(a: Strided<'_>, b: Strided<'_>, keep: f32, c: &mut [f32], stride: usize) -> Result<()> {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    ensure!(b.rows == k, Shape, "a product of {m} x {k} and {} x {n}", b.rows);
    Strided::new(c, m, n, stride)?;
    ensure!(stride >= n || m <= 1, Shape, "rows of {n} values, {stride} apart");
    let signed = |strides: [usize; 2]| strides.map(|s| s as isize);
    let ([ra, ca], [rb, cb]) = (signed(a.strides), signed(b.strides));
    // SAFETY: `Strided::new` found the last value of each operand in its slice, and transposing keeps the set of
    // indices. The rows of `c`, checked alike, do not overlap, and it is exclusive. Lengths of slices are at most
    // isize::MAX, so the casts keep their values (a stride beyond that belongs to a matrix of one row, where it is not
    // used).
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.data.as_ptr(),
            ra,
            ca,
            b.data.as_ptr(),
            rb,
            cb,
            keep,
            c.as_mut_ptr(),
            stride as isize,
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

    #[cfg(feature = "training")]
    #[test]
    fn strided_products_equal_plain_loops() {
        let a: Vec<f32> = (0..40).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
        let b: Vec<f32> = (0..40).map(|i| (i * 5 % 13) as f32 - 6.0).collect();
        let (m, k, n) = (3, 4, 5);
        for (at, bt) in [(false, false), (true, false), (false, true), (true, true)] {
            let left =
                if at { Strided::new(&a, k, m, 9).unwrap().transposed() } else { Strided::new(&a, m, k, 9).unwrap() };
            let right =
                if bt { Strided::new(&b, n, k, 7).unwrap().transposed() } else { Strided::new(&b, k, n, 7).unwrap() };
            let mut c = [1.0; 20];
            product_f32(left, right, 2.0, &mut c, 6).unwrap();
            for (i, j) in (0..m).flat_map(|i| (0..6).map(move |j| (i, j))) {
                let entry = |l: usize| {
                    (if at { a[l * 9 + i] } else { a[i * 9 + l] }) * (if bt { b[j * 7 + l] } else { b[l * 7 + j] })
                };
                if i * 6 + j < 20 {
                    let want = if j < n { 2.0 + (0..k).map(entry).sum::<f32>() } else { 1.0 };
                    assert_eq!(c[i * 6 + j], want, "{i}, {j}");
                }
            }
        }
        let (a, b) = (Strided::new(&a, 3, 4, 9).unwrap(), Strided::new(&b, 4, 5, 7).unwrap());
        assert!(Strided::new(&[0.0; 8], 3, 3, 3).is_err() && Strided::new(&[0.0; 8], 2, 3, usize::MAX).is_err());
        assert!(product_f32(a, a, 0.0, &mut [0.0; 9], 3).is_err());
        assert!(
            product_f32(a, b, 0.0, &mut [0.0; 14], 5).is_err() && product_f32(a, b, 0.0, &mut [0.0; 15], 4).is_err()
        );
        assert!(product_f32(a, b, 0.0, &mut [0.0; 15], 5).is_ok());
    }
}
