//! The mean and the variance of many samples, element by element.

use alloc::vec::Vec;

use crate::error::{Result, ensure};
use crate::memory::zeros;
use crate::tensor::Dims;

/// Collects samples one by one and keeps only their mean and spread (Welford 1962), so that maps over thousands of
/// samples need the memory of two. Sums are f64; the order of the samples changes the result by rounding only. Shards
/// of a run are joined by [`Moments::merge`].
///
/// ```
/// use undiffuse::posterior::Moments;
/// use undiffuse::tensor::Dims;
///
/// let mut maps = Moments::new(Dims::new(&[2])?)?;
/// maps.add(&[1.0, 5.0, 3.0, 5.0])?; // two samples
/// assert_eq!((maps.count(), maps.mean()), (2, &[2.0, 5.0][..]));
/// assert_eq!(maps.variance().collect::<Vec<f64>>(), [2.0, 0.0]);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Moments {
    dims: Dims,
    count: u64,
    mean: Vec<f64>,
    /// The sum of squared distances from the mean.
    squares: Vec<f64>,
}

impl Moments {
    /// None yet, for samples of shape `dims`. Errors: kind `OutOfMemory`.
    pub fn new(dims: Dims) -> Result<Self> {
        let n = dims.elements();
        Ok(Self { dims, count: 0, mean: zeros("evidence", n)?, squares: zeros("evidence", n)? })
    }

    /// Adds samples, `[batch, ...dims]`.
    ///
    /// Errors, which leave it as it was: kind `Shape` for no whole number of samples, kind `NonFinite`.
    pub fn add(&mut self, samples: &[f32]) -> Result<()> {
        let n = self.mean.len();
        ensure!(
            samples.len().is_multiple_of(n),
            Shape,
            "{} values are no whole number of samples of shape {}",
            samples.len(),
            self.dims
        );
        ensure!(samples.iter().all(|v| v.is_finite()), NonFinite, "a sample is not finite");
        for x in samples.chunks_exact(n) {
            self.count = self.count.saturating_add(1);
            let share = 1.0 / self.count as f64;
            for ((mean, squares), &x) in self.mean.iter_mut().zip(&mut self.squares).zip(x) {
                let before = f64::from(x) - *mean;
                *mean += before * share;
                *squares += before * (f64::from(x) - *mean);
            }
        }
        Ok(())
    }

    /// Adds what another has collected (Chan, Golub and LeVeque 1979). Errors: kind `Shape` for other samples.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        ensure!(self.dims == other.dims, Shape, "moments of samples {} and of {}", self.dims, other.dims);
        let (a, b) = (self.count as f64, other.count as f64);
        if other.count == 0 {
            return Ok(());
        }
        self.count = self.count.saturating_add(other.count);
        let theirs = other.mean.iter().zip(&other.squares);
        for ((mean, squares), (m, s)) in self.mean.iter_mut().zip(&mut self.squares).zip(theirs) {
            let gap = m - *mean;
            *mean += gap * b / (a + b);
            *squares += s + gap * gap * a * b / (a + b);
        }
        Ok(())
    }

    /// How many samples were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean of each element; zeros before the first sample.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The variance of each element, without bias (divided by count - 1); 0 before the second sample.
    pub fn variance(&self) -> impl Iterator<Item = f64> + '_ {
        let share = if self.count > 1 { 1.0 / (self.count - 1) as f64 } else { 0.0 };
        self.squares.iter().map(move |s| s * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn shards_join_to_the_whole() {
        let dims = Dims::new(&[3]).unwrap();
        let samples: Vec<f32> = (0..3 * 50).map(|i| ((i * i) as f32 * 0.37).sin() + 100.0).collect();
        let mut whole = Moments::new(dims).unwrap();
        whole.add(&samples).unwrap();
        let (mut a, mut b) = (Moments::new(dims).unwrap(), Moments::new(dims).unwrap());
        a.add(&samples[..3 * 13]).unwrap();
        b.add(&samples[3 * 13..]).unwrap();
        a.merge(&b).unwrap();
        a.merge(&Moments::new(dims).unwrap()).unwrap();
        let n = 50.0;
        for i in 0..3 {
            let of = || samples.iter().skip(i).step_by(3).map(|&v| f64::from(v));
            let mean = of().sum::<f64>() / n;
            let variance = of().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
            for m in [&whole, &a] {
                assert!((m.mean()[i] - mean).abs() < 1e-12 * mean);
                assert!((m.variance().nth(i).unwrap() - variance).abs() < 1e-10);
                assert_eq!(m.count(), 50);
            }
        }
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let mut m = Moments::new(Dims::new(&[2]).unwrap()).unwrap();
        m.add(&[1.0, 2.0]).unwrap();
        assert_eq!(m.variance().sum::<f64>(), 0.0);
        assert_eq!(m.add(&[1.0]).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(m.add(&[1.0, 2.0, 3.0, f32::NAN]).unwrap_err().kind(), ErrorKind::NonFinite);
        assert_eq!((m.count(), m.mean()), (1, &[1.0, 2.0][..]));
        let other = Moments::new(Dims::new(&[1, 2]).unwrap()).unwrap();
        assert_eq!(m.merge(&other).unwrap_err().kind(), ErrorKind::Shape);
    }
}
