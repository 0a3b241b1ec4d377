//! The exact product of a step's Gaussian with the likelihood of a linear measurement.

use alloc::vec::Vec;

use super::common::{check_keeps_x, check_mean, check_noise, check_real, cut};
use super::operator::{LinearOperator, Svd};
use super::{At, Kernel, Measurement};
use crate::error::{Result, err};
use crate::memory::zeros;
use crate::sampler::{Sampler, Spread};
use crate::tensor::Dims;

/// The likelihood N(y; gain A x, scatter A A^T + noise I) of x, x_s or x_0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Likelihood {
    pub gain: f64,
    pub scatter: f64,
    pub noise: f64,
}

/// A measurement with U^T y, for products with Gaussians N(mu, std^2 I):
///
/// With A = U S V^T the product is independent in every coordinate of V^T x, with gain g, D_i = scatter s_i^2 + noise
/// and w = U^T y
///
/// ```text
/// mean'_i = mean_i + k_i (w_i - g s_i mean_i),   k_i = std^2 g s_i / (D_i + std^2 g^2 s_i^2)
/// std'_i  = std f_i,                             f_i = sqrt(D_i / (D_i + std^2 g^2 s_i^2))
/// ```
///
/// and untouched outside V. So mean' = mean + V k (w - g s V^T mean), and the noise z becomes z + V (f - 1) V^T z.
#[derive(Clone, Debug)]
pub(super) struct Spectral<O> {
    pub measurement: Measurement<O>,
    /// U^T y, a row of k values for each row of y.
    uty: Vec<f32>,
    k: usize,
}

fn svd<O: LinearOperator>(m: &Measurement<O>) -> Result<&dyn Svd> {
    let op = m.operator();
    op.svd().ok_or_else(|| {
        err!(Unsupported, "{} has no singular value decomposition, which an exact product needs", op.name())
    })
}

impl<O: LinearOperator> Spectral<O> {
    pub fn new(measurement: Measurement<O>) -> Result<Self> {
        let decomposition = svd(&measurement)?;
        let k = decomposition.singular_values().len();
        let sizes = (measurement.rows().checked_mul(k), measurement.operator().scratch_len());
        let mut uty: Vec<f32> = zeros("evidence", sizes.0.unwrap_or(usize::MAX))?;
        let mut scratch = zeros("evidence", sizes.1)?;
        for (row, out) in uty.chunks_exact_mut(k.max(1)).enumerate() {
            decomposition.ut(measurement.row_values(row), out, &mut scratch)?;
        }
        Ok(Self { measurement, uty, k })
    }

    /// The decomposition of A.
    pub fn svd(&self) -> Result<&dyn Svd> {
        svd(&self.measurement)
    }

    /// U^T y of a sample.
    pub fn seen(&self, sample: u64) -> Result<&[f32]> {
        let row = self.measurement.row(sample)?;
        Ok(self.uty.get(row * self.k..(row + 1) * self.k).unwrap_or(&[]))
    }

    /// Scratch for one sample at a time.
    pub fn scratch_len(&self, dims: Dims) -> usize {
        self.k.saturating_add(dims.elements()).saturating_add(self.measurement.operator().scratch_len())
    }

    /// That the steps have Gaussians to multiply with.
    pub fn check(&self, method: &str, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        self.measurement.check(dims)?;
        check_real(method, sampler)?;
        check_mean(method, sampler)?;
        check_keeps_x(method, sampler)?;
        check_noise(method, dims.elements(), sampler)
    }

    /// Multiplies the kernel of every sample.
    pub fn multiply(&self, at: &At, r: Likelihood, kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        self.multiply_by(at, r, |sample| self.seen(sample), kernel, scratch)
    }

    /// As [`Self::multiply`], with `seen` of a sample in the place of its U^T y.
    pub fn multiply_by<'w>(
        &self,
        at: &At,
        r: Likelihood,
        seen: impl Fn(u64) -> Result<&'w [f32]>,
        kernel: Kernel<'_>,
        scratch: &mut [f32],
    ) -> Result<()> {
        let n = at.sample_len.max(1);
        let svd = svd(&self.measurement)?;
        let s = svd.singular_values();
        let Kernel { mean, noise, spread, stds, std_stride } = kernel;
        let (z, scratch) = cut(scratch, self.k)?;
        let (pixels, scratch) = cut(scratch, n)?;
        let factors = |std: f64, s: f32| {
            let (s, v) = (f64::from(s), std * std);
            let d = r.scatter * s * s + r.noise;
            let total = d + v * r.gain * r.gain * s * s;
            if total > 0.0 { (v * r.gain * s / total, libm::sqrt(d / total)) } else { (0.0, 1.0) }
        };
        for (i, (mean, noise)) in mean.chunks_exact_mut(n).zip(noise.chunks_exact_mut(n)).enumerate() {
            let w = seen(at.first_sample.saturating_add(i as u64))?;
            match spread {
                Spread::None | Spread::Langevin { .. } | Spread::Bits | Spread::Classes { .. } => {}
                Spread::Scalar(std) => {
                    let std = f64::from(std);
                    svd.vt(mean, z, scratch)?;
                    z.iter_mut().zip(w).zip(s).for_each(|((z, &w), &s)| {
                        *z = (factors(std, s).0 * (f64::from(w) - r.gain * f64::from(s) * f64::from(*z))) as f32;
                    });
                    svd.v(z, pixels, scratch)?;
                    mean.iter_mut().zip(&*pixels).for_each(|(m, p)| *m += p);
                    svd.vt(noise, z, scratch)?;
                    z.iter_mut().zip(s).for_each(|(z, &s)| *z = ((factors(std, s).1 - 1.0) * f64::from(*z)) as f32);
                    svd.v(z, pixels, scratch)?;
                    noise.iter_mut().zip(&*pixels).for_each(|(z, p)| *z += p);
                }
                Spread::PerElement => {
                    let coordinates = svd.coordinates().ok_or_else(|| {
                        err!(
                            Unsupported,
                            "{} mixes elements, and the model's variance differs between them; the exact product is \
                             known only for masks and the identity there",
                            self.measurement.operator().name()
                        )
                    })?;
                    let stds = i.checked_mul(std_stride).and_then(|at| stds.get(at..)).unwrap_or(&[]);
                    for (c, (&w, &s)) in w.iter().zip(s).enumerate() {
                        let Some(j) = coordinates.get(c) else { continue };
                        let (Some(mean), Some(noise), Some(&std)) = (mean.get_mut(j), noise.get_mut(j), stds.get(j))
                        else {
                            continue;
                        };
                        let (k, f) = factors(f64::from(std), s);
                        *mean += (k * (f64::from(w) - r.gain * f64::from(s) * f64::from(*mean))) as f32;
                        *noise = (f * f64::from(*noise)) as f32;
                    }
                }
            }
        }
        Ok(())
    }
}
