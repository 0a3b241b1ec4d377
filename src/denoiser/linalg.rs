//! The eigenvectors of a small symmetric matrix, for the construction of analytic priors.

use alloc::vec::Vec;

use crate::error::{Result, ensure, err};

/// The eigenvalues of a symmetric matrix and its eigenvectors as rows: `vectors[k * n ..][.. n]` belongs to
/// `values[k]`.
pub(super) struct Eigen {
    pub values: Vec<f64>,
    pub vectors: Vec<f64>,
}

/// Cyclic Jacobi rotations in f64 on the row-major n x n `matrix`; relative accuracy about 1e-14. Work n^3 per sweep,
/// some ten sweeps.
///
/// Errors (kind `InvalidArgument`): not n x n values, not finite, or not symmetric to 1e-9 of its largest entry.
pub(super) fn symmetric_eigen(n: usize, matrix: &[f64]) -> Result<Eigen> {
    ensure!(
        Some(matrix.len()) == n.checked_mul(n) && n > 0,
        InvalidArgument,
        "a covariance has {} values, expected {n} x {n}",
        matrix.len()
    );
    let mut a = matrix.to_vec();
    let scale = a.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    ensure!(a.iter().all(|v| v.is_finite()), InvalidArgument, "a covariance is not finite");
    for i in 0..n {
        for j in 0..i {
            let (x, y) = (a[i * n + j], a[j * n + i]);
            if (x - y).abs() > 1e-9 * scale {
                return Err(err!(
                    InvalidArgument,
                    "a covariance is not symmetric: {x} at ({i}, {j}), {y} at ({j}, {i})"
                ));
            }
        }
    }
    let mut v: Vec<f64> = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
    for _sweep in 0..60 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j] * a[i * n + j]).sum();
        if off <= 1e-32 * scale * scale {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(n, &mut a, &mut v, p, q);
            }
        }
    }
    Ok(Eigen { values: (0..n).map(|i| a[i * n + i]).collect(), vectors: v })
}

/// One rotation that brings a[p][q] to zero, applied to both sides of `a` and to the rows of `v`.
fn rotate(n: usize, a: &mut [f64], v: &mut [f64], p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = libm::copysign(1.0, theta) / (theta.abs() + libm::sqrt(theta * theta + 1.0));
    let c = 1.0 / libm::sqrt(t * t + 1.0);
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for m in [a, v] {
        for k in 0..n {
            let (x, y) = (m[p * n + k], m[q * n + k]);
            m[p * n + k] = c * x - s * y;
            m[q * n + k] = s * x + c * y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconstructs_and_is_orthogonal() {
        let n = 7;
        let mut rng = crate::noise::Stream::new(1, 0, 0);
        let b: Vec<f64> = (0..n * n).map(|_| rng.normal()).collect();
        let m: Vec<f64> = (0..n * n).map(|i| (0..n).map(|k| b[i / n * n + k] * b[i % n * n + k]).sum()).collect();
        let e = symmetric_eigen(n, &m).unwrap();
        for i in 0..n {
            for j in 0..n {
                let entry: f64 = (0..n).map(|k| e.values[k] * e.vectors[k * n + i] * e.vectors[k * n + j]).sum();
                assert!((entry - m[i * n + j]).abs() < 1e-12, "{i} {j}");
                let dot: f64 = (0..n).map(|k| e.vectors[i * n + k] * e.vectors[j * n + k]).sum();
                assert!((dot - if i == j { 1.0 } else { 0.0 }).abs() < 1e-13);
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(symmetric_eigen(2, &[1.0; 3]).is_err());
        assert!(symmetric_eigen(2, &[1.0, 2.0, 3.0, 1.0]).is_err());
        assert!(symmetric_eigen(1, &[f64::NAN]).is_err());
        assert!(symmetric_eigen(0, &[]).is_err());
    }
}
