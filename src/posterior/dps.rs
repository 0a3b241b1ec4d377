//! DPS (Chung et al. 2022) and MCG (Chung, Sim, Ryu and Ye 2022): steps along the gradient of the misfit.

use super::common::{check_exact, check_keeps_x, check_mean, check_pseudo_inverse, check_real, cut, pull_back};
use super::operator::{ForwardOperator, LinearOperator};
use super::{At, Evidence, Jacobian, Kernel, Measurement};
use crate::error::{Result, ensure};
use crate::noise::{Fingerprint, NoiseSource};
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// How the misfit of y is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Misfit {
    /// |r|, for Gaussian noise.
    #[default]
    Gaussian,
    /// Weighted by the variance of counts, y itself, which must be above 0: the step is J^T A^T (r / y) / |r| (eq. 19,
    /// with the step size of Algorithm 1 and a factor of 2 in zeta).
    Poisson,
    /// |r|_1 / sqrt(m), for Laplace noise, whose -log r is |r|_1 / b: the step is J^T A^T sign(r) / sqrt(m), of the
    /// same length before J^T A^T as that of Gaussian noise. A value that is far off weighs no more than one that is
    /// nearly right.
    Laplace,
}

impl Misfit {
    /// Every misfit and its name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("gaussian", Self::Gaussian), ("poisson", Self::Poisson), ("laplace", Self::Laplace)];
}

/// x_s = x_s' + zeta J^T A^T r / |r|, with x_s' the sampler's step, r = y - A x_0 and J = d x_0 / d x_t: a step of
/// length zeta down the gradient of |r| by x_t (Algorithm 1 as the authors' code has it).
///
/// [`Misfit`] has the steps of other noise than Gaussian.
///
/// What it samples: no known distribution. The step does not know the noise of y, so zeta is tuned for each task; for a
/// Gaussian prior the result is biased towards y and narrower than the posterior. `Measurement::sigma` is not used.
///
/// One network call and one vector-Jacobian product per step. As published: DDPM with 1000 steps; zeta 0.3 for
/// super-resolution and deblurring, 0.5 for random inpainting. Other samplers carry it too, but those with
/// a corrector.
///
/// In other processes than the variance-preserving one x_t is scale times as large
/// ([`Level::scale`](crate::schedule::Level::scale)), and with it the step: zeta scale_t scale_s J^T A^T r / |r|.
///
/// A need not be linear: its derivative at x_0 then takes the place of A^T ([`ForwardOperator`]). r is made of the
/// clipped x_0, J is that before clipping.
#[derive(Clone, Debug)]
pub struct Dps<O> {
    measurement: Measurement<O>,
    zeta: f64,
    misfit: Misfit,
}

impl<O: ForwardOperator> Dps<O> {
    /// Errors: kind `InvalidArgument` for a zeta that is not above 0, or a measured value that is not above 0 where it
    /// is to be a variance.
    pub fn new(measurement: Measurement<O>, zeta: f64, misfit: Misfit) -> Result<Self> {
        ensure!(zeta > 0.0 && zeta.is_finite(), InvalidArgument, "zeta is {zeta}, expected above 0");
        if misfit == Misfit::Poisson {
            for row in 0..measurement.rows() {
                let lowest = measurement.row_values(row).iter().fold(f32::INFINITY, |m, v| m.min(*v));
                ensure!(
                    lowest > 0.0 && lowest.is_finite(),
                    InvalidArgument,
                    "a measurement with the noise of counts has the value {lowest}, expected above 0"
                );
            }
        }
        Ok(Self { measurement, zeta, misfit })
    }

    /// v = A^T of what the gradient starts from, for every sample, and g = J^T v. Both `[batch, n]` at the front of
    /// scratch.
    fn gradient(
        &self,
        at: &At,
        x0: &[f32],
        jacobian: &mut dyn Jacobian,
        g: &mut [f32],
        v: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<()> {
        let (r, scratch) = cut(scratch, self.measurement.len())?;
        pull_back(&self.measurement, at, x0, v, r, scratch, |i, r, _| {
            let norm = libm::sqrt(r.iter().map(|&r| f64::from(r) * f64::from(r)).sum());
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            match self.misfit {
                Misfit::Gaussian => r.iter_mut().for_each(|r| *r = (f64::from(*r) * scale) as f32),
                Misfit::Poisson => r
                    .iter_mut()
                    .zip(self.measurement.values(at.first_sample.saturating_add(i as u64))?)
                    .for_each(|(r, &y)| *r = (f64::from(*r) * scale / f64::from(y)) as f32),
                Misfit::Laplace => {
                    let each = (1.0 / libm::sqrt(r.len().max(1) as f64)) as f32;
                    r.iter_mut().for_each(|r| *r = if *r == 0.0 { 0.0 } else { each.copysign(*r) });
                }
            }
            Ok(())
        })?;
        jacobian.vjp(v, g)
    }
}

impl<O: ForwardOperator> Evidence for Dps<O> {
    fn name(&self) -> &str {
        "DPS"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("DPS", sampler)?;
        check_mean("DPS", sampler)?;
        check_keeps_x("DPS", sampler)?;
        self.measurement.check(dims)
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let whole = dims.elements().saturating_mul(batch).saturating_mul(2);
        whole.saturating_add(self.measurement.len()).saturating_add(self.measurement.operator().forward_scratch_len())
    }
    fn needs_vjp(&self) -> bool {
        true
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        _: &mut [f32],
        jacobian: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        let (g, scratch) = cut(scratch, x.len())?;
        let (v, scratch) = cut(scratch, x.len())?;
        self.gradient(at, x0, jacobian, g, v, scratch)
    }
    fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let (g, _) = cut(scratch, x.len())?;
        let zeta = self.zeta * at.level.scale() * at.target.scale();
        kernel.mean.iter_mut().zip(g).for_each(|(m, g)| *m = (f64::from(*m) + zeta * f64::from(*g)) as f32);
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().bytes(b"dps").f64(self.zeta).u64(self.misfit as u64);
        f.u64(self.measurement.fingerprint()).finish()
    }
}

/// The step of [`Dps`], then the measured part of x_s is replaced by that of y noised to its level:
///
/// ```text
/// x_s <- x_s - A^+ (A x_s - y_s),   y_s = alpha_s y + sigma_s A z
/// ```
///
/// (Algorithm 1 for inpainting; for other operators the projection of its appendix.)
///
/// What it samples: images that give y exactly; no posterior. y must be without noise and A must have A^+. One network
/// call and one vector-Jacobian product per step; DDPM with 1000 steps as published. Samplers as [`Dps`].
#[derive(Clone, Debug)]
pub struct Mcg<O> {
    step: Dps<O>,
}

impl<O: LinearOperator> Mcg<O> {
    /// `zeta` as in [`Dps`].
    ///
    /// Errors: as [`Dps::new`]; kind `InvalidArgument` for a measurement with noise; kind `Unsupported` without A^+.
    pub fn new(measurement: Measurement<O>, zeta: f64) -> Result<Self> {
        check_exact("MCG", &measurement, "DPS")?;
        check_pseudo_inverse("MCG", &measurement)?;
        Ok(Self { step: Dps::new(measurement, zeta, Misfit::Gaussian)? })
    }
}

impl<O: LinearOperator> Evidence for Mcg<O> {
    fn name(&self) -> &str {
        "MCG"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        self.step.check(dims, sampler)
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let m = &self.step.measurement;
        let whole = dims.elements().saturating_mul(batch).saturating_mul(2);
        whole.saturating_add(m.len().saturating_mul(2)).saturating_add(m.operator().solve_scratch_len())
    }
    fn needs_vjp(&self) -> bool {
        true
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        jacobian: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        self.step.estimate(at, x, x0, eps, jacobian, scratch)
    }
    fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        self.step.kernel(at, x, kernel, scratch)
    }
    fn merge(
        &mut self,
        at: &At,
        _: &[f32],
        next: &mut [f32],
        noise: &mut dyn NoiseSource,
        scratch: &mut [f32],
    ) -> Result<()> {
        let m = &self.step.measurement;
        let n = at.sample_len.max(1);
        let (z, scratch) = cut(scratch, next.len())?;
        let (_, scratch) = cut(scratch, next.len())?;
        let (r, scratch) = cut(scratch, m.len())?;
        let (seen, scratch) = cut(scratch, m.len())?;
        if at.target.sigma > 0.0 {
            noise.normal(at.first_sample, at.draw(0), n, z)?;
        } else {
            z.fill(0.0);
        }
        let (alpha, sigma) = (at.target.alpha as f32, at.target.sigma as f32);
        for ((next, z), sample) in next.chunks_exact_mut(n).zip(z.chunks_exact_mut(n)).zip(at.first_sample..=u64::MAX) {
            m.operator().apply(z, seen, scratch)?;
            m.operator().apply(next, r, scratch)?;
            for ((r, &y), &seen) in r.iter_mut().zip(m.values(sample)?).zip(&*seen) {
                *r = alpha * y + sigma * seen - *r;
            }
            m.operator().pseudo_inverse(r, z, scratch)?;
            next.iter_mut().zip(&*z).for_each(|(x, s)| *x += s);
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"mcg").u64(self.step.fingerprint()).finish()
    }
}
