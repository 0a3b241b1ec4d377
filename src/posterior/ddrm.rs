//! DDRM (Kawar, Elad, Ermon and Song 2022) and DDNM+ (Wang, Yu and Zhang 2022), which are one update.

use super::common::{check_mean, check_real, cut};
use super::operator::{LinearOperator, Svd};
use super::{At, Evidence, Jacobian, Kernel, Measurement, Recommended};
use crate::error::{Result, ensure, err};
use crate::memory::zeros;
use crate::noise::Fingerprint;
use crate::sampler::{Sampler, Spread};
use crate::tensor::Dims;

/// Restoration in the singular basis of A (DDRM eq. 7 and 8). For each singular value s_i, in coordinates of V^T x,
/// with y' = (U^T y)_i / s_i, and sig = sigma / alpha of the level that the step leads to, x_s / alpha_s is drawn from
///
/// ```text
/// s_i = 0         : x_0 + sqrt(1 - eta^2) sig eps + eta sig z
/// sig < s_y / s_i : x_0 + sqrt(1 - eta^2) sig (y' - x_0) / (s_y / s_i) + eta sig z
/// otherwise       : (1 - eta_b) x_0 + eta_b y' + sqrt(sig^2 - eta_b^2 s_y^2 / s_i^2) z
/// ```
///
/// eta is the sampler's: the share of noise that it draws anew. With
/// [`DdimNoise::Level`](crate::sampler::DdimNoise::Level) it is the published constant, 0.85; with
/// [`DdimNoise::Posterior`](crate::sampler::DdimNoise::Posterior) and with DDPM of variance `fixed_small` it differs
/// from step to step, as the derivation allows.
///
/// DDNM+ with simplified noise (its eq. 19 and the authors' code) is the same update at eta_b = 1.
///
/// What it samples: images that meet y within its noise; no posterior. In the singular directions that A sees, x_0 and
/// y are joined by the noise levels alone, so that the spread of the result is mostly that of y's noise or too small
/// (see the table of the [module](super)). One network call per step, no vector-Jacobian product; 20 steps as
/// published, with x_T from [`Ddrm::start`].
///
/// Restrictions: the operator must have a decomposition; the sampler must draw noise of one standard deviation at every
/// step but the last, at most that of the level (not `fixed_large`, not a learned variance); otherwise kind
/// `Unsupported`.
#[derive(Clone, Debug)]
pub struct Ddrm<O> {
    measurement: Measurement<O>,
    eta_b: f64,
    name: &'static str,
    recommended: Recommended,
}

impl<O: LinearOperator> Ddrm<O> {
    /// `eta_b` is 1 in the paper's experiments; 0 ..= 1.
    ///
    /// Errors: kind `InvalidArgument` for another eta_b; kind `Unsupported` for an operator without a decomposition.
    pub fn new(measurement: Measurement<O>, eta_b: f64) -> Result<Self> {
        ensure!((0.0..=1.0).contains(&eta_b), InvalidArgument, "eta_b is {eta_b}, expected 0 to 1");
        let method = Self { measurement, eta_b, name: "DDRM", recommended: Recommended::DDRM };
        method.svd()?;
        Ok(method)
    }

    /// DDNM+. Errors: kind `InvalidArgument` for a measurement without noise, which is [`Ddnm`](super::Ddnm)'s;
    /// otherwise as [`Ddrm::new`].
    pub fn ddnm_plus(measurement: Measurement<O>) -> Result<Self> {
        measurement.check_noise("DDNM+")?;
        Ok(Self { name: "DDNM+", recommended: Recommended::DDNM, ..Self::new(measurement, 1.0)? })
    }

    fn svd(&self) -> Result<&dyn Svd> {
        let op = self.measurement.operator();
        op.svd().ok_or_else(|| err!(Unsupported, "{} has no singular value decomposition, which DDRM needs", op.name()))
    }

    /// Whether the noise of y is below that of a level, sig, in a direction that A sees with `s`.
    fn certain(&self, s: f32, sig: f64) -> bool {
        s > 0.0 && sig * f64::from(s) >= self.measurement.sigma()
    }

    /// The published x_T: turns standard normal values `x`, `[batch, ...dims]`, into x at `level`, with mean y'
    /// wherever the level is noisier than y (DDRM eq. 7). To be given to `Chain::start_from` at step 0. Allocates.
    ///
    /// Errors: kind `Shape` if `x` is no whole number of samples; kind `InvalidArgument` where a sample has no
    /// measurement.
    pub fn start(&self, level: &crate::schedule::Level, first_sample: u64, x: &mut [f32]) -> Result<()> {
        let svd = self.svd()?;
        let op = self.measurement.operator();
        let (n, sig, s_y) = (op.input_dims().elements(), level.noise_to_signal(), self.measurement.sigma());
        ensure!(x.len().is_multiple_of(n), Shape, "x has {} values, expected a multiple of {n}", x.len());
        let singular = svd.singular_values();
        let (mut z, mut w) = (zeros("evidence", singular.len())?, zeros("evidence", singular.len())?);
        let (mut shift, mut scratch) = (zeros("evidence", n)?, zeros("evidence", op.scratch_len())?);
        x.iter_mut().for_each(|x| *x *= level.sigma as f32);
        for (x, sample) in x.chunks_exact_mut(n).zip(first_sample..=u64::MAX) {
            svd.vt(x, &mut z, &mut scratch)?;
            svd.ut(self.measurement.values(sample)?, &mut w, &mut scratch)?;
            for ((z, &w), &s) in z.iter_mut().zip(&w).zip(singular) {
                *z = if self.certain(s, sig) {
                    let of_y = s_y / f64::from(s) / sig;
                    let shrink = libm::sqrt((1.0 - of_y * of_y).max(0.0)) - 1.0;
                    (level.alpha * f64::from(w) / f64::from(s) + shrink * f64::from(*z)) as f32
                } else {
                    0.0
                };
            }
            svd.v(&z, &mut shift, &mut scratch)?;
            x.iter_mut().zip(&shift).for_each(|(x, s)| *x += s);
        }
        Ok(())
    }
}

/// That every step draws noise of one standard deviation, at most the level's, unless it leads to x_0.
pub(super) fn check_spread(method: &str, n: usize, sampler: &dyn Sampler) -> Result<()> {
    let mut output = zeros("evidence", n)?;
    for step in 0..sampler.levels().len() {
        let target = sampler.target(step)?;
        let std = match sampler.spread(step, n, &mut output) {
            Ok(Spread::Scalar(std)) => f64::from(std),
            Ok(Spread::None) => 0.0,
            Ok(Spread::PerElement | Spread::Langevin { .. } | Spread::Bits | Spread::Classes { .. }) | Err(_) => {
                return Err(err!(
                    Unsupported,
                    "{method} needs steps with one standard deviation for all elements, {} has not: take ddim with eta above 0",
                    sampler.name()
                ));
            }
        };
        ensure!(
            (std > 0.0 || target.sigma == 0.0) && std <= target.sigma * (1.0 + 1e-5),
            Unsupported,
            "{method} needs noise above 0 and at most the level's; step {step} of {} has {std} at a level of {} (take \
             ddim with eta above 0, ddpm with fixed_small, or euler-ancestral)",
            sampler.name(),
            target.sigma
        );
    }
    Ok(())
}

impl<O: LinearOperator> Evidence for Ddrm<O> {
    fn name(&self) -> &str {
        self.name
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real(self.name, sampler)?;
        check_mean(self.name, sampler)?;
        self.measurement.check(dims)?;
        check_spread(self.name, dims.elements(), sampler)
    }
    fn recommended(&self) -> Recommended {
        self.recommended
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let (n, op) = (dims.elements(), self.measurement.operator());
        let k = op.svd().map_or(0, |s| s.singular_values().len());
        let kept = n.saturating_mul(2).saturating_mul(batch);
        kept.saturating_add(k.saturating_mul(3)).saturating_add(n).saturating_add(op.scratch_len())
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        _: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        let n = at.sample_len.max(1);
        let svd = self.svd()?;
        let singular = svd.singular_values();
        let (kept_x0, scratch) = cut(scratch, x.len())?;
        let (kept_eps, scratch) = cut(scratch, x.len())?;
        let (a, scratch) = cut(scratch, singular.len())?;
        let (e, scratch) = cut(scratch, singular.len())?;
        let (w, scratch) = cut(scratch, singular.len())?;
        let (shift, scratch) = cut(scratch, n)?;
        let (sig, s_y) = (at.target.noise_to_signal(), self.measurement.sigma());
        for ((x0, eps), sample) in x0.chunks_exact_mut(n).zip(eps.chunks_exact_mut(n)).zip(at.first_sample..=u64::MAX) {
            svd.vt(x0, a, scratch)?;
            svd.vt(eps, e, scratch)?;
            svd.ut(self.measurement.values(sample)?, w, scratch)?;
            for (((a, e), &w), &s) in a.iter_mut().zip(e.iter_mut()).zip(&*w).zip(singular) {
                if s <= 0.0 {
                    (*a, *e) = (0.0, 0.0);
                    continue;
                }
                // What is to be added to x_0 and to eps.
                let gap = f64::from(w) / f64::from(s) - f64::from(*a);
                (*a, *e) = if self.certain(s, sig) {
                    ((self.eta_b * gap) as f32, -*e)
                } else {
                    (0.0, (gap * f64::from(s) / s_y - f64::from(*e)) as f32)
                };
            }
            svd.v(a, shift, scratch)?;
            x0.iter_mut().zip(&*shift).for_each(|(x, s)| *x += s);
            svd.v(e, shift, scratch)?;
            eps.iter_mut().zip(&*shift).for_each(|(x, s)| *x += s);
        }
        kept_x0.copy_from_slice(x0);
        kept_eps.copy_from_slice(eps);
        Ok(())
    }
    fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let n = at.sample_len.max(1);
        let svd = self.svd()?;
        let singular = svd.singular_values();
        let (x0, scratch) = cut(scratch, x.len())?;
        let (eps, scratch) = cut(scratch, x.len())?;
        let (z, scratch) = cut(scratch, singular.len())?;
        let (_, scratch) = cut(scratch, singular.len().saturating_mul(2))?;
        let (shift, scratch) = cut(scratch, n)?;
        let std = match kernel.spread {
            Spread::Scalar(std) => f64::from(std),
            Spread::None | Spread::PerElement | Spread::Langevin { .. } | Spread::Bits | Spread::Classes { .. } => 0.0,
        };
        // The mean is written anew, since not all samplers make it of eps.
        let (alpha, sigma) = (at.target.alpha, at.target.sigma);
        let of_eps = libm::sqrt((sigma * sigma - std * std).max(0.0));
        for ((mean, &x0), &eps) in kernel.mean.iter_mut().zip(&*x0).zip(&*eps) {
            *mean = (alpha * f64::from(x0) + of_eps * f64::from(eps)) as f32;
        }
        if std <= 0.0 {
            return Ok(());
        }
        let sig = at.target.noise_to_signal();
        for noise in kernel.noise.chunks_exact_mut(n) {
            svd.vt(noise, z, scratch)?;
            for (z, &s) in z.iter_mut().zip(singular) {
                *z = if self.certain(s, sig) {
                    let of_y = alpha * self.eta_b * self.measurement.sigma() / f64::from(s);
                    let wanted = libm::sqrt((sigma * sigma - of_y * of_y).max(0.0));
                    ((wanted / std - 1.0) * f64::from(*z)) as f32
                } else {
                    0.0
                };
            }
            svd.v(z, shift, scratch)?;
            noise.iter_mut().zip(&*shift).for_each(|(z, s)| *z += s);
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"ddrm").f64(self.eta_b).u64(self.measurement.fingerprint()).finish()
    }
}
