//! Convolution kernels and what lies beyond an image's edge.

use alloc::vec::Vec;

use super::jacobi::Matrix;
use crate::error::{Result, ensure, err};
use crate::memory::filled;

/// What a filter sees beyond the edge of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Padding {
    /// The image mirrored with its edge element repeated: d c b a | a b c d | d c b a (NumPy's "symmetric").
    #[default]
    Symmetric,
    /// The image again: a b c d | a b c d | a b c d (NumPy's "wrap").
    Circular,
    /// Zeros.
    Zero,
}

impl Padding {
    /// The element of an axis of `n` that stands at `i`; `None` for a zero.
    pub(super) fn at(self, i: i64, n: i64) -> Option<usize> {
        let inside = match self {
            Self::Zero => return usize::try_from(i).ok().filter(|_| i < n),
            Self::Circular => i.rem_euclid(n),
            Self::Symmetric => {
                let i = i.rem_euclid(2 * n);
                i.min(2 * n - 1 - i)
            }
        };
        usize::try_from(inside).ok()
    }
}

/// A normalised Gaussian of an odd number `len` of taps and standard deviation `sigma` in elements.
///
/// Errors (kind `InvalidArgument`): an even or absurd length, a sigma that is not above 0.
pub fn gaussian_kernel(len: usize, sigma: f64) -> Result<Vec<f32>> {
    ensure!(
        len % 2 == 1 && len <= 1025,
        InvalidArgument,
        "a Gaussian kernel of {len} taps, expected an odd number up to 1025"
    );
    ensure!(sigma > 0.0 && sigma.is_finite(), InvalidArgument, "a Gaussian kernel of sigma {sigma}, expected above 0");
    let centre = (len / 2) as f64;
    let mut taps = filled("an operator", len, 0.0f64)?;
    taps.iter_mut().enumerate().for_each(|(i, t)| {
        let d = (i as f64 - centre) / sigma;
        *t = libm::exp(-0.5 * d * d);
    });
    let sum: f64 = taps.iter().sum();
    Ok(taps.iter().map(|t| (t / sum) as f32).collect())
}

/// Kernel taps are finite, not all 0, and there are some.
pub(super) fn check_taps(name: &str, taps: &[f32]) -> Result<()> {
    ensure!(!taps.is_empty(), InvalidArgument, "{name}: the kernel has no taps");
    if let Some(i) = taps.iter().position(|t| !t.is_finite()) {
        return Err(err!(NonFinite, "{name}: tap {i} of the kernel is not finite"));
    }
    ensure!(taps.iter().any(|&t| t != 0.0), InvalidArgument, "{name}: all taps of the kernel are 0");
    Ok(())
}

/// The matrix of a convolution along an axis of `n`: y_i = sum_a taps_a x_{i - a + len / 2}.
pub(super) fn convolution(taps: &[f32], n: usize, padding: Padding) -> Result<Matrix> {
    let mut m = Matrix::from_fn(n, n, |_, _| 0.0)?;
    let centre = (taps.len() / 2) as i64;
    for (i, row) in m.data.chunks_exact_mut(n.max(1)).enumerate() {
        for (a, &t) in taps.iter().enumerate() {
            if let Some(v) = padding.at(i as i64 - a as i64 + centre, n as i64).and_then(|j| row.get_mut(j)) {
                *v += f64::from(t);
            }
        }
    }
    Ok(m)
}

/// The matrix that shrinks an axis of `n` by `factor` with a filter: output i is centred at u = (i + 1/2) factor - 1/2,
/// element j has weight filter((j - u) / factor), the weights of a row are divided by their sum, and the filter is 0
/// beyond `support`.
pub(super) fn shrink(
    n: usize,
    factor: usize,
    padding: Padding,
    support: f64,
    filter: impl Fn(f64) -> f64,
) -> Result<Matrix> {
    let mut m = Matrix::from_fn(n / factor.max(1), n, |_, _| 0.0)?;
    let f = factor as f64;
    for (i, row) in m.data.chunks_exact_mut(n.max(1)).enumerate() {
        let centre = (i as f64 + 0.5) * f - 0.5;
        let first = libm::ceil(centre - support * f) as i64;
        let last = libm::floor(centre + support * f) as i64;
        let weight = |j: i64| filter((j as f64 - centre) / f);
        let sum: f64 = (first..=last).map(weight).sum();
        for j in first..=last {
            if let Some(v) = padding.at(j, n as i64).and_then(|j| row.get_mut(j)) {
                *v += weight(j) / sum;
            }
        }
    }
    Ok(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_those_of_numpy() {
        let line = |p: Padding| (-5..9).map(|i| p.at(i, 4)).collect::<Vec<_>>();
        let some = |v: [usize; 14]| v.map(Some).to_vec();
        assert_eq!(line(Padding::Symmetric), some([3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0]));
        assert_eq!(line(Padding::Circular), some([3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0]));
        let zero = line(Padding::Zero);
        assert_eq!(zero[5..9], [Some(0), Some(1), Some(2), Some(3)]);
        assert!(zero[..5].iter().chain(&zero[9..]).all(Option::is_none));
    }

    #[test]
    fn a_kernel_is_not_mirrored_by_convolution() {
        // A unit impulse shows the kernel as it is.
        let m = convolution(&[1.0, 2.0, 4.0], 5, Padding::Zero).unwrap();
        let column: Vec<f64> = (0..5).map(|i| m.data[i * 5 + 2]).collect();
        assert_eq!(column, [0.0, 1.0, 2.0, 4.0, 0.0]);
    }

    #[test]
    fn nonsense_is_refused() {
        for (len, sigma) in [(0, 1.0), (4, 1.0), (5, 0.0), (5, f64::NAN), (5, -1.0), (99_999, 1.0)] {
            assert!(gaussian_kernel(len, sigma).is_err(), "{len} {sigma}");
        }
        for taps in [&[][..], &[0.0, 0.0], &[1.0, f32::INFINITY]] {
            assert!(check_taps("x", taps).is_err());
        }
        let k = gaussian_kernel(5, 1.0).unwrap();
        assert!((k.iter().sum::<f32>() - 1.0).abs() < 1e-6 && k[2] > k[1] && k[1] == k[3]);
    }
}
