//! What is kept of the samples: the samples, their moments, and figures of how good they are.

use undiffuse::Result;
use undiffuse::posterior::Moments;
use undiffuse::posterior::operator::ForwardOperator;
use undiffuse::tensor::Dims;

use crate::arrays::Array;

/// Decibels below the range of the model, 2, of the mean squared error; values are clipped to [-1, 1] first, as in a
/// picture.
pub fn psnr(x: &[f32], truth: &[f32]) -> f64 {
    psnr_of(x, truth.iter().copied())
}

/// As [`psnr`], of a truth that is made value by value.
pub fn psnr_of(x: &[f32], truth: impl Iterator<Item = f32>) -> f64 {
    let square = |(&x, t): (&f32, f32)| (f64::from(x.clamp(-1.0, 1.0)) - f64::from(t)).powi(2);
    let error = x.iter().zip(truth).map(square).sum::<f64>() / x.len().max(1) as f64;
    10.0 * (4.0 / error).log10()
}

/// A mean that is built up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    /// The mean, if there was a value.
    pub fn get(self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}

/// How well samples agree with the measurement and with the truth.
pub struct Agreement<'a> {
    operator: &'a dyn ForwardOperator,
    y: &'a Array,
    truth: Option<&'a Array>,
    sigma: f64,
    ax: Vec<f32>,
    scratch: Vec<f32>,
    /// |y - A x| / (sigma sqrt(m)), or without noise the largest |y - A x|.
    pub consistency: Mean,
    /// [`psnr`] of single samples.
    pub psnr: Mean,
}

impl<'a> Agreement<'a> {
    /// With measurements `[N, ...output]` and, if it is known, the truth `[N, ...input]`.
    pub fn new(operator: &'a dyn ForwardOperator, y: &'a Array, truth: Option<&'a Array>, sigma: f64) -> Result<Self> {
        let ax = Array::zeros("A x", &[operator.codomain().elements()])?.data;
        let scratch = Array::zeros("the scratch", &[operator.forward_scratch_len()])?.data;
        let none = Mean::default();
        Ok(Self { operator, y, truth, sigma, ax, scratch, consistency: none, psnr: none })
    }

    /// Takes a sample of picture `image` into account.
    pub fn add(&mut self, image: usize, x: &[f32]) -> Result<()> {
        self.operator.forward(x, &mut self.ax, &mut self.scratch)?;
        let m = self.ax.len().max(1);
        if let Some(y) = self.y.data.chunks_exact(m).nth(image) {
            let gaps = y.iter().zip(&self.ax).map(|(y, a)| f64::from(y - a));
            self.consistency.add(if self.sigma > 0.0 {
                (gaps.map(|g| g * g).sum::<f64>() / m as f64).sqrt() / self.sigma
            } else {
                gaps.fold(0.0, |m, g| m.max(g.abs()))
            });
        }
        if let Some(truth) = self.truth.and_then(|t| t.data.chunks_exact(x.len().max(1)).nth(image)) {
            self.psnr.add(psnr(x, truth));
        }
        Ok(())
    }
}

/// Collects the samples of `images` pictures, `count` of each, in order.
pub struct Collected {
    dims: Dims,
    count: usize,
    moments: Moments,
    /// `[images, ...dims]`.
    pub mean: Array,
    /// `[images, ...dims]`; zeros for one sample of each.
    pub variance: Array,
    /// `[images * kept, ...dims]`: the first samples of each.
    pub samples: Array,
    kept: usize,
    done: usize,
}

impl Collected {
    /// For `images` pictures, of whose `count` samples `kept` are kept.
    pub fn new(dims: Dims, images: usize, count: usize, kept: usize) -> Result<Self> {
        let shape = |n: usize| [&[n], dims.as_slice()].concat();
        Ok(Self {
            dims,
            count,
            moments: Moments::new(dims)?,
            mean: Array::zeros("the means", &shape(images))?,
            variance: Array::zeros("the variances", &shape(images))?,
            samples: Array::zeros("the samples", &shape(images.saturating_mul(kept)))?,
            kept,
            done: 0,
        })
    }

    /// The next sample.
    pub fn add(&mut self, sample: &[f32]) -> Result<()> {
        let n = self.dims.elements();
        let (image, number) = (self.done / self.count, self.done % self.count);
        if number < self.kept {
            let at = (image * self.kept + number) * n;
            if let Some(to) = self.samples.data.get_mut(at..at + n) {
                to.copy_from_slice(sample);
            }
        }
        self.moments.add(sample)?;
        self.done += 1;
        if number + 1 == self.count {
            let range = image * n..(image + 1) * n;
            if let (Some(mean), Some(variance)) =
                (self.mean.data.get_mut(range.clone()), self.variance.data.get_mut(range))
            {
                mean.iter_mut().zip(self.moments.mean()).for_each(|(to, &m)| *to = m as f32);
                variance.iter_mut().zip(self.moments.variance()).for_each(|(to, v)| *to = v as f32);
            }
            self.moments = Moments::new(self.dims)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_has_its_own_moments() {
        let dims = Dims::new(&[2]).unwrap();
        let mut c = Collected::new(dims, 2, 3, 1).unwrap();
        for x in [[1.0, 0.0], [2.0, 0.0], [6.0, 0.0], [-1.0, 4.0], [-1.0, 5.0], [-1.0, 6.0]] {
            c.add(&x).unwrap();
        }
        assert_eq!(c.mean.data, [3.0, 0.0, -1.0, 5.0]);
        assert_eq!(c.variance.data, [7.0, 0.0, 0.0, 1.0]);
        assert_eq!(c.samples.data, [1.0, 0.0, -1.0, 4.0]);
        assert!((psnr(&[3.0, 0.0], &[1.0, 0.2]) - 10.0 * (4.0f64 / 0.02).log10()).abs() < 1e-5);
    }
}
