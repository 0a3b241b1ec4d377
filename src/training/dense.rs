//! The little of dense linear algebra that optimisers need, in f64, row by row.

use alloc::vec::Vec;

/// The sum of products.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The Euclidean norm.
pub(super) fn norm(a: &[f64]) -> f64 {
    libm::sqrt(dot(a, a))
}

/// y <- y + c x.
pub(super) fn add_scaled(y: &mut [f64], c: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += c * x);
}

/// Solves A x = b for a symmetric positive definite A, n x n, by Cholesky's factors, which take A's place below and on
/// the diagonal; b becomes x. False if A is not positive definite: b is then spoilt.
pub(super) fn solve(a: &mut [f64], b: &mut [f64]) -> bool {
    let n = b.len();
    for i in 0..n {
        let (above, row) = a.split_at_mut(i * n);
        for (k, other) in above.chunks_exact(n).enumerate() {
            row[k] = (row[k] - dot(&row[..k], &other[..k])) / other[k];
        }
        let square = row[i] - dot(&row[..i], &row[..i]);
        if !(f64::MIN_POSITIVE..=f64::MAX).contains(&square) {
            return false;
        }
        row[i] = libm::sqrt(square);
        b[i] = (b[i] - dot(&row[..i], &b[..i])) / row[i];
    }
    for i in (0..n).rev() {
        let row = &a[i * n..][..n];
        b[i] /= row[i];
        let x = b[i];
        add_scaled(&mut b[..i], -x, &row[..i]);
    }
    true
}

/// Appends the part of `v` orthogonal to the orthonormal `basis`, normed, if its length is above `least`; tells whether
/// it was.
pub(super) fn extend(basis: &mut Vec<Vec<f64>>, v: &[f64], least: f64) -> bool {
    let mut rest = v.to_vec();
    // Twice is enough (Kahan's rule) for a basis that is orthonormal to rounding.
    for _ in 0..2 {
        for q in basis.iter() {
            let c = dot(q, &rest);
            add_scaled(&mut rest, -c, q);
        }
    }
    let length = norm(&rest);
    if length <= least {
        return false;
    }
    rest.iter_mut().for_each(|r| *r /= length);
    basis.push(rest);
    true
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_system_is_solved() {
        let a = [4.0, 1.0, -2.0, 1.0, 3.0, 0.5, -2.0, 0.5, 5.0];
        let x = [1.0, -2.0, 0.25];
        let mut b: Vec<f64> = a.chunks(3).map(|row| dot(row, &x)).collect();
        assert!(solve(&mut a.clone(), &mut b));
        assert!(b.iter().zip(x).all(|(b, x)| (b - x).abs() < 1e-14));
        assert!(!solve(&mut [1.0, 2.0, 2.0, 1.0], &mut [1.0, 1.0]));
        assert!(!solve(&mut [f64::NAN], &mut [1.0]));
    }

    #[test]
    fn a_basis_stays_orthonormal() {
        let mut basis = vec![];
        assert!(extend(&mut basis, &[1.0, 1.0, 0.0], 0.0));
        assert!(extend(&mut basis, &[1.0, 1.0 + 1e-7, 0.0], 0.0));
        assert!(!extend(&mut basis, &[3.0, -2.0, 0.0], 1e-9));
        assert!(dot(&basis[0], &basis[1]).abs() < 1e-15 && (norm(&basis[1]) - 1.0).abs() < 1e-15);
    }
}
