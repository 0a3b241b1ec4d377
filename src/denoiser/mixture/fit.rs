//! A Gaussian from data: the simplest prior that knows the images at hand.

use super::{Component, Covariance};
use crate::error::{Result, ensure, err};
use crate::matmul::{Mat, add_product};
use crate::memory::zeros;

/// Samples that are centred and multiplied at once; bounds the memory that a large data set needs.
const BLOCK: usize = 256;

impl Component {
    /// The Gaussian with the mean and the covariance (divisor N) of `samples`, N rows of n values, plus `noise` on the
    /// diagonal: the maximum likelihood fit to the data with independent noise of that variance. With fewer samples
    /// than values some noise keeps it from being flat.
    ///
    /// Work N n^2, and memory for n^2 values of f64. [`GaussianMixture::new`](super::GaussianMixture::new) then finds
    /// the eigenvectors, some 10 n^3.
    ///
    /// Errors: kind `Shape` if `samples` is empty or no whole number of rows; kind `InvalidArgument` if it is not
    /// finite or `noise` is negative or not finite; kind `OutOfMemory`.
    ///
    /// ```
    /// use undiffuse::denoiser::{Component, Covariance};
    ///
    /// let fitted = Component::fitted(&[0.0, 1.0, 2.0, 5.0], 2, 0.5)?; // two samples of two values
    /// assert_eq!(fitted.mean, [1.0, 3.0]);
    /// assert_eq!(fitted.covariance, Covariance::Full(vec![1.5, 2.0, 2.0, 4.5]));
    /// # Ok::<(), undiffuse::Error>(())
    /// ```
    pub fn fitted(samples: &[f32], n: usize, noise: f64) -> Result<Self> {
        ensure!(
            n > 0 && !samples.is_empty() && samples.len().is_multiple_of(n),
            Shape,
            "a fit to {} values, expected whole samples of {n}",
            samples.len()
        );
        ensure!(
            noise.is_finite() && noise >= 0.0,
            InvalidArgument,
            "the noise of a fit is {noise}, expected at least 0"
        );
        let finite = samples.iter().all(|v| v.is_finite());
        ensure!(finite, InvalidArgument, "a fit to values that are not all finite");
        let count = (samples.len() / n) as f64;
        let mut mean = zeros("a fit", n)?;
        for row in samples.chunks_exact(n) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v));
        }
        mean.iter_mut().for_each(|m| *m /= count);
        let size = n.checked_mul(n).ok_or_else(|| err!(OutOfMemory, "a covariance of {n} x {n} is too large"))?;
        let mut covariance = zeros("a fit", size)?;
        let mut centred = zeros("a fit", n.saturating_mul(BLOCK.min(samples.len() / n)))?;
        for block in samples.chunks(n * BLOCK) {
            let centred = &mut centred[..block.len()];
            for (row, from) in centred.chunks_exact_mut(n).zip(block.chunks_exact(n)) {
                row.iter_mut().zip(from.iter().zip(&mean)).for_each(|(c, (v, m))| *c = f64::from(*v) - m);
            }
            let x = Mat::new(centred, block.len() / n, n)?;
            add_product(1.0 / count, x.transposed(), x, &mut covariance)?;
        }
        for i in 0..n {
            // The product of a matrix with itself may differ across the diagonal in the last bit.
            for j in 0..i {
                covariance[j * n + i] = covariance[i * n + j];
            }
            covariance[i * n + i] += noise;
        }
        Ok(Self { weight: 1.0, mean, covariance: Covariance::Full(covariance) })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::error::ErrorKind;
    use crate::noise::Stream;

    #[test]
    fn moments_are_those_of_the_data() {
        // More samples than one block, of correlated values.
        let (n, count) = (5, 700);
        let mut rng = Stream::new(3, 0, 0);
        let mut samples = Vec::new();
        for _ in 0..count {
            let common = rng.normal();
            samples.extend((0..n).map(|i| (10.0 + common * i as f64 + 0.3 * rng.normal()) as f32));
        }
        let fitted = Component::fitted(&samples, n, 0.25).unwrap();
        let Covariance::Full(covariance) = fitted.covariance else { panic!("a full covariance") };
        let column = |i: usize| samples.iter().skip(i).step_by(n).map(|&v| f64::from(v));
        for i in 0..n {
            let mean = |k: usize| column(k).sum::<f64>() / count as f64;
            assert!((fitted.mean[i] - mean(i)).abs() < 1e-12);
            for j in 0..n {
                let products = column(i).zip(column(j)).map(|(a, b)| (a - mean(i)) * (b - mean(j)));
                let expected = products.sum::<f64>() / count as f64 + if i == j { 0.25 } else { 0.0 };
                assert!((covariance[i * n + j] - expected).abs() < 1e-12, "{i} {j}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let kind = |samples: &[f32], n, noise| Component::fitted(samples, n, noise).unwrap_err().kind();
        assert_eq!(kind(&[1.0; 5], 2, 0.0), ErrorKind::Shape);
        assert_eq!(kind(&[], 2, 0.0), ErrorKind::Shape);
        assert_eq!(kind(&[1.0; 4], 0, 0.0), ErrorKind::Shape);
        assert_eq!(kind(&[f32::NAN; 4], 2, 0.0), ErrorKind::InvalidArgument);
        assert_eq!(kind(&[1.0; 4], 2, -1.0), ErrorKind::InvalidArgument);
        assert_eq!(kind(&[1.0; 4], 2, f64::NAN), ErrorKind::InvalidArgument);
    }
}
