//! The methods of Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli 2015, section 2.5, under their own names.

use super::common::{check_forwards, check_keeps_x, check_mean, check_noise, check_real, cut};
use super::operator::LinearOperator;
use super::spectral::{Likelihood, Spectral};
use super::{At, Evidence, Kernel, LogR, Measurement, RSchedule};
use crate::error::{Result, ensure};
use crate::noise::{Fingerprint, NoiseSource};
use crate::sampler::{Sampler, Spread, StateSpace};
use crate::tensor::Dims;

/// Eq. 61: p(x_s | x_t) r(x_s) as N(x_s; mu + Sigma grad log r(mu), Sigma), for any smooth r. Good where log r curves
/// little over a step: Hessian(-log r) much below 1 / Sigma. Where it is known not to be ([`LogR::curvature`]) the
/// chain is refused.
///
/// The paper multiplies each reverse kernel by r, with r(x_t) the same at every t (or growing, [`RSchedule::Ramp`]).
/// That takes a noisy x_t for x_0 and counts the evidence too often: for data N(0, 1) and y = 1 seen with s = 1, the
/// constant r gives mean 0.667 and variance 0.334 where the posterior has 1/2 and 1/2. These methods do what the paper
/// does; [`Calibrated`](super::Calibrated) is what to use for a posterior.
#[derive(Clone, Copy, Debug)]
pub struct MeanShift<R> {
    r: R,
    schedule: RSchedule,
}

impl<R: LogR> MeanShift<R> {
    /// With evidence `r`.
    pub fn new(r: R, schedule: RSchedule) -> Self {
        Self { r, schedule }
    }

    /// That no step is so wide that log r curves more within it than the step itself does: the shift would overshoot,
    /// step after step.
    fn check_curvature(&self, sampler: &dyn Sampler) -> Result<()> {
        let steps = sampler.levels().len();
        for step in 0..steps {
            let target = sampler.target(step)?;
            let Some(curvature) = self.r.curvature(&target) else { return Ok(()) };
            // A learned variance is known when the network has spoken.
            let Ok(Spread::Scalar(std)) = sampler.spread(step, 1, &mut [0.0]) else { continue };
            let (std, power) = (f64::from(std), self.schedule.power(step, steps));
            let gentle = power * curvature * std * std <= 1.0;
            ensure!(
                gentle,
                Unsupported,
                "the mean shift is for evidence that curves little over a step; step {step} of {} adds noise of {std} where log r curves by \
                 {curvature}: take more steps, or the exact product",
                sampler.name()
            );
        }
        Ok(())
    }
}

impl<R: LogR> Evidence for MeanShift<R> {
    fn name(&self) -> &str {
        "mean shift (Eq. 61)"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("the mean shift", sampler)?;
        check_mean("the mean shift", sampler)?;
        check_keeps_x("the mean shift", sampler)?;
        check_noise("the mean shift", dims.elements(), sampler)?;
        self.r.check(dims)?;
        self.check_curvature(sampler)
    }
    fn scratch_len(&self, dims: Dims, _: usize) -> usize {
        dims.elements().saturating_add(self.r.scratch_len())
    }
    fn kernel(&mut self, at: &At, _: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let n = at.sample_len.max(1);
        if matches!(kernel.spread, Spread::None | Spread::Bits | Spread::Classes { .. }) {
            return Ok(());
        }
        let power = self.schedule.power(at.step, at.steps) as f32;
        let (gradient, scratch) = cut(scratch, n)?;
        let Kernel { mean, spread, stds, std_stride, .. } = kernel;
        for (i, mean) in mean.chunks_exact_mut(n).enumerate() {
            self.r.gradient(at.first_sample.saturating_add(i as u64), &at.target, mean, gradient, scratch)?;
            match spread {
                Spread::Scalar(std) => {
                    mean.iter_mut().zip(&*gradient).for_each(|(m, g)| *m += power * std * std * g);
                }
                _ => {
                    let stds = i.checked_mul(std_stride).and_then(|at| stds.get(at..)).unwrap_or(&[]);
                    mean.iter_mut().zip(&*gradient).zip(stds).for_each(|((m, g), std)| *m += power * std * std * g);
                }
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"mean shift").u64(self.schedule as u64).u64(self.r.fingerprint()).finish()
    }
}

/// The exact product of each reverse kernel with r(x_s) = N(y; A x_s, s^2 I), where x_s is that of the
/// variance-preserving process ([`Level::scale`](crate::schedule::Level::scale)).
///
/// For a model with a variance of its own for each element A must be a mask or the identity; otherwise any operator
/// with a decomposition does.
#[derive(Clone, Debug)]
pub struct ExactProduct<O> {
    spectral: Spectral<O>,
    schedule: RSchedule,
}

impl<O: LinearOperator> ExactProduct<O> {
    /// Errors: kind `Unsupported` for an operator without a decomposition.
    pub fn new(measurement: Measurement<O>, schedule: RSchedule) -> Result<Self> {
        Ok(Self { spectral: Spectral::new(measurement)?, schedule })
    }
}

impl<O: LinearOperator> Evidence for ExactProduct<O> {
    fn name(&self) -> &str {
        "exact product (2015)"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        self.spectral.check("the exact product", dims, sampler)
    }
    fn scratch_len(&self, dims: Dims, _: usize) -> usize {
        self.spectral.scratch_len(dims)
    }
    fn kernel(&mut self, at: &At, _: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let s = self.spectral.measurement.sigma();
        let power = self.schedule.power(at.step, at.steps);
        let gain = 1.0 / at.target.scale();
        self.spectral.multiply(at, Likelihood { gain, scatter: 0.0, noise: s * s / power }, kernel, scratch)
    }
    fn fingerprint(&self) -> u64 {
        let of = self.spectral.measurement.fingerprint();
        Fingerprint::new().bytes(b"exact product").u64(self.schedule as u64).u64(of).finish()
    }
}

/// What known elements are set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Known {
    /// Their clean value at every level: the paper's delta r. (Of a process that does not preserve variance, times the
    /// level's [`scale`](crate::schedule::Level::scale).)
    #[default]
    Clean,
    /// Their value noised to the level of x_s, alpha_s y + sigma_s z.
    Renoised,
}

/// r(x) = delta(x_known - y): after every step the known elements are set, the others are the model's. The noise of the
/// measurement plays no part. In a binary chain the known bits are 0 or 1.
#[derive(Clone, Debug)]
pub struct Clamp<O> {
    measurement: Measurement<O>,
    known: Known,
}

impl<O: LinearOperator> Clamp<O> {
    /// Errors: kind `Unsupported` if the operator does not pick elements (a mask or the identity does).
    pub fn new(measurement: Measurement<O>, known: Known) -> Result<Self> {
        ensure!(
            measurement.operator().svd().is_some_and(|s| s.coordinates().is_some()),
            Unsupported,
            "clamping needs an operator that picks elements, a mask; {} does not",
            measurement.operator().name()
        );
        Ok(Self { measurement, known })
    }
}

impl<O: LinearOperator> Evidence for Clamp<O> {
    fn name(&self) -> &str {
        "clamp (2015)"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_forwards("clamping", sampler)?;
        ensure!(
            !matches!(sampler.space(), StateSpace::Classes { .. }),
            Unsupported,
            "clamping is for chains of real numbers and of bits, {} makes classes: take evidence about classes",
            sampler.name()
        );
        if self.known == Known::Renoised {
            check_real("clamping to noised values", sampler)?;
        }
        self.measurement.check(dims)
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        match self.known {
            Known::Clean => 0,
            Known::Renoised => dims.elements().saturating_mul(batch),
        }
    }
    fn merge(
        &mut self,
        at: &At,
        _: &[f32],
        next: &mut [f32],
        noise: &mut dyn NoiseSource,
        scratch: &mut [f32],
    ) -> Result<()> {
        let n = at.sample_len.max(1);
        let (alpha, sigma) = match self.known {
            Known::Clean => (at.target.scale() as f32, 0.0),
            Known::Renoised => (at.target.alpha as f32, at.target.sigma as f32),
        };
        let fresh = if sigma > 0.0 {
            let (fresh, _) = cut(scratch, next.len())?;
            noise.normal(at.first_sample, at.draw(0), n, fresh)?;
            fresh
        } else {
            &mut []
        };
        let Some(coordinates) = self.measurement.operator().svd().and_then(|s| s.coordinates()) else { return Ok(()) };
        for (i, next) in next.chunks_exact_mut(n).enumerate() {
            let y = self.measurement.values(at.first_sample.saturating_add(i as u64))?;
            let fresh = fresh.chunks_exact(n).nth(i).unwrap_or(&[]);
            for (k, &y) in y.iter().enumerate() {
                let Some(j) = coordinates.get(k) else { continue };
                let z = fresh.get(j).copied().unwrap_or(0.0);
                if let Some(x) = next.get_mut(j) {
                    *x = alpha * y + sigma * z;
                }
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"clamp").u64(self.known as u64).u64(self.measurement.fingerprint()).finish()
    }
}
