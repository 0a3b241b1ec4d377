//! Singular value decomposition of small dense matrices, at construction time.

use alloc::vec::Vec;

use super::RANK_TOLERANCE;
use crate::error::{Result, err};
use crate::memory::filled;

/// A dense matrix of f64, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub data: Vec<f64>,
}

impl Matrix {
    /// Entry (i, j) is `entry(i, j)`.
    pub fn from_fn(rows: usize, cols: usize, mut entry: impl FnMut(usize, usize) -> f64) -> Result<Self> {
        let len = rows.checked_mul(cols).ok_or_else(|| err!(Shape, "a matrix of {rows} x {cols} is too large"))?;
        let mut data = filled("an operator", len, 0.0)?;
        if cols > 0 {
            for (i, row) in data.chunks_exact_mut(cols).enumerate() {
                row.iter_mut().enumerate().for_each(|(j, v)| *v = entry(i, j));
            }
        }
        Ok(Self { rows, cols, data })
    }

    fn transposed(&self) -> Result<Self> {
        Self::from_fn(self.cols, self.rows, |i, j| self.data[j * self.cols + i])
    }
}

/// A = U diag(s) V^T, the singular values decreasing and all above [`RANK_TOLERANCE`] of the first. `ut` is k x m and
/// `vt` is k x n: each row is a singular vector.
#[derive(Clone, Debug)]
pub(super) struct Decomposition {
    pub s: Vec<f64>,
    pub ut: Matrix,
    pub vt: Matrix,
}

const SWEEPS: usize = 60;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (mut sums, mut rest) = ([0.0; 4], 0.0);
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    rest += a4.remainder().iter().zip(b4.remainder()).map(|(x, y)| x * y).sum::<f64>();
    for (x, y) in a4.zip(b4) {
        for (s, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *s += x * y;
        }
    }
    sums[0] + sums[1] + sums[2] + sums[3] + rest
}

fn rotate(a: &mut [f64], b: &mut [f64], c: f64, s: f64) {
    for (x, y) in a.iter_mut().zip(b) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

/// Rows `p` < `q` of a row-major matrix.
fn two_rows(data: &mut [f64], cols: usize, p: usize, q: usize) -> (&mut [f64], &mut [f64]) {
    let (head, tail) = data.split_at_mut(q * cols);
    (&mut head[p * cols..(p + 1) * cols], &mut tail[..cols])
}

/// One-sided Jacobi (Hestenes 1958): rotates pairs of rows of the smaller side until all are orthogonal. Singular
/// vectors are orthonormal to some 1e-14, values exact to some 1e-15 of the largest. O(min^2 max) a sweep, some 6 to 12
/// sweeps.
///
/// Errors: kind `InvalidArgument` if the matrix is zero or an entry is not finite; kind `OutOfMemory`.
pub(super) fn decompose(a: &Matrix) -> Result<Decomposition> {
    if let Some(i) = a.data.iter().position(|v| !v.is_finite()) {
        return Err(err!(
            NonFinite,
            "entry ({}, {}) of the operator's matrix is not finite",
            i / a.cols.max(1),
            i % a.cols.max(1)
        ));
    }
    // The rows of `work` are the vectors that get orthogonal; there are as few as possible.
    let wide = a.rows <= a.cols;
    let mut work = if wide { a.clone() } else { a.transposed()? };
    let (k, len) = (work.rows, work.cols);
    let mut turned = Matrix::from_fn(k, k, |i, j| f64::from(u8::from(i == j)))?;
    let scale = dot(&work.data, &work.data);
    let negligible = scale * 1e-30;
    let mut converged = k <= 1;
    for _ in 0..SWEEPS {
        if converged {
            break;
        }
        converged = true;
        for p in 0..k {
            for q in p + 1..k {
                let (x, y) = two_rows(&mut work.data, len, p, q);
                let (xx, yy, xy) = (dot(x, x), dot(y, y), dot(x, y));
                if xx.min(yy) <= negligible || xy.abs() <= 1e-15 * libm::sqrt(xx * yy) {
                    continue;
                }
                converged = false;
                let zeta = (yy - xx) / (2.0 * xy);
                let t = libm::copysign(1.0, zeta) / (zeta.abs() + libm::sqrt(1.0 + zeta * zeta));
                let c = 1.0 / libm::sqrt(1.0 + t * t);
                rotate(x, y, c, c * t);
                let (x, y) = two_rows(&mut turned.data, k, p, q);
                rotate(x, y, c, c * t);
            }
        }
    }
    if !converged {
        return Err(err!(InvalidArgument, "the decomposition of a {} x {} matrix did not converge", a.rows, a.cols));
    }
    let norms: Vec<f64> = work.data.chunks_exact(len.max(1)).map(|row| libm::sqrt(dot(row, row))).collect();
    let largest = norms.iter().fold(0.0f64, |m, &s| m.max(s));
    let mut order: Vec<usize> = Vec::new();
    for i in (0..k).filter(|&i| norms[i] > RANK_TOLERANCE * largest) {
        order.insert(order.partition_point(|&j| norms[j] >= norms[i]), i);
    }
    if order.is_empty() {
        return Err(err!(InvalidArgument, "the operator's matrix is zero"));
    }
    let long = Matrix::from_fn(order.len(), len, |i, j| work.data[order[i] * len + j] / norms[order[i]])?;
    let short = Matrix::from_fn(order.len(), k, |i, j| turned.data[order[i] * k + j])?;
    let s = order.iter().map(|&i| norms[i]).collect();
    let (ut, vt) = if wide { (short, long) } else { (long, short) };
    Ok(Decomposition { s, ut, vt })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::noise::Stream;

    fn check(a: &Matrix, rank: usize) {
        let d = decompose(a).unwrap();
        assert_eq!(d.s.len(), rank);
        assert!(d.s.windows(2).all(|w| w[0] >= w[1]));
        for i in 0..a.rows {
            for j in 0..a.cols {
                let sum: f64 = (0..rank).map(|k| d.s[k] * d.ut.data[k * a.rows + i] * d.vt.data[k * a.cols + j]).sum();
                assert!((sum - a.data[i * a.cols + j]).abs() < 1e-13 * d.s[0], "({i}, {j}): {sum}");
            }
        }
        for m in [&d.ut, &d.vt] {
            for p in 0..rank {
                for q in 0..rank {
                    let got = dot(&m.data[p * m.cols..][..m.cols], &m.data[q * m.cols..][..m.cols]);
                    assert!((got - f64::from(u8::from(p == q))).abs() < 1e-13, "({p}, {q}): {got}");
                }
            }
        }
    }

    #[test]
    fn matrices_are_decomposed() {
        let mut z = Stream::new(1, 2, 3);
        for (rows, cols) in [(1, 1), (1, 7), (7, 1), (5, 5), (9, 4), (4, 9), (30, 40)] {
            let a = Matrix::from_fn(rows, cols, |_, _| z.normal()).unwrap();
            check(&a, rows.min(cols));
        }
        check(&Matrix::from_fn(6, 6, |i, j| f64::from(u8::from(i == j))).unwrap(), 6);
        check(&Matrix::from_fn(6, 5, |i, j| (i + 1) as f64 * (j as f64 - 1.5)).unwrap(), 1);
        let known = decompose(&Matrix { rows: 2, cols: 2, data: alloc::vec![3.0, 0.0, 4.0, 5.0] }).unwrap();
        assert!((known.s[0] - libm::sqrt(45.0)).abs() < 1e-14 && (known.s[1] - libm::sqrt(5.0)).abs() < 1e-14);
    }

    #[test]
    fn graded_and_repeated_values_converge() {
        // A Gaussian blur: values from 1 down to rounding.
        let blur = Matrix::from_fn(40, 40, |i, j| libm::exp(-((i as f64 - j as f64) / 2.0).powi(2) / 2.0)).unwrap();
        let d = decompose(&blur).unwrap();
        assert!(d.s.len() > 20 && d.s.len() < 40, "{}", d.s.len());
        // A circulant: pairs of equal values.
        check(
            &Matrix::from_fn(12, 12, |i, j| [4.0, 1.0, 0.5][[(12 + i - j) % 12, 2][((12 + i - j) % 12 > 2) as usize]])
                .unwrap(),
            12,
        );
    }

    #[test]
    fn what_has_no_decomposition_is_refused() {
        assert_eq!(
            decompose(&Matrix::from_fn(3, 2, |_, _| 0.0).unwrap()).unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
        let nan = Matrix::from_fn(3, 2, |i, _| if i == 1 { f64::NAN } else { 1.0 }).unwrap();
        assert_eq!(decompose(&nan).unwrap_err().kind(), ErrorKind::NonFinite);
        assert!(Matrix::from_fn(usize::MAX, 2, |_, _| 0.0).is_err());
    }
}
