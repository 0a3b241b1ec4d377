//! PiGDM: pseudo-inverse guidance (Song, Vahdat, Mardani and Kautz 2023).

use super::common::{
    check_keeps_x, check_levels, check_mean, check_pseudo_inverse, check_real, cut, is_blank, pull_back,
};
use super::operator::LinearOperator;
use super::{At, Evidence, Jacobian, Kernel, Measurement, Recommended};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// The largest noise, sigma / alpha, at which the Jacobian is known in f32 to a tenth.
const MOST_NOISE: f64 = 1000.0;

/// What is done with the guidance g.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PigdmRule {
    /// x_s = x_s' + sqrt(abar_t) g, with x_s' the sampler's step: Algorithm 1. In general alpha_t scale_s g, with
    /// scale_s that of x_s beside the variance-preserving process ([`Level::scale`](crate::schedule::Level::scale)).
    #[default]
    Published,
    /// g / r_t^2 is the gradient of log p(y | x_t) under the method's assumption; x_0 and eps are those of the score
    /// with it added: x_0 += sigma^2 / (alpha r_t^2) g, eps -= sigma / r_t^2 g. Exact for a white prior N(0, I).
    Score,
}

/// Guidance by p(y | x_t) = N(y; A x_0, r_t^2 A A^T + s_y^2 I), with r_t^2 = sig^2 / (1 + sig^2) for sig = sigma /
/// alpha (eq. 7 and its section 3.3), and J = d x_0 / d x_t:
///
/// ```text
/// g = J^T A^T (A A^T + (s_y / r_t)^2 I)^-1 (y - A x_0),     without noise J^T A^+ (y - A x_0)
/// ```
///
/// # Factors
/// The gradient of log p(y | x_t) under the assumption is J^T A^T (r_t^2 A A^T + s_y^2 I)^-1 (y - A x_0). This g is
/// r_t^2 times that: the "adaptive weight" of Algorithm 1, without which the noiseless limit J^T A^+ (y - A x_0) would
/// not exist at r_t = 0. Algorithm 1 adds sqrt(abar_t) g to x_s, whatever the step; the rule [`PigdmRule::Score`]
/// divides the r_t^2 out again and puts the gradient where the score stands. In both sigma and alpha are those of x_t =
/// alpha x_0 + sigma eps, so sig is that of the variance-exploding form.
///
/// # The start
/// The authors start inverse problems with much of the image in y (super-resolution, deblurring) not at x_T but at a
/// noised A^+ y of a middle step: [`Measurement::noised_start`] makes it,
/// [`Chain::start_from`](crate::chain::Chain::start_from) takes it.
///
/// What it samples: with [`PigdmRule::Score`] the posterior of a white prior, exactly; for other priors the covariance
/// of x_0 given x_t is guessed wrong and the result is biased. [`PigdmRule::Published`] weighs the guidance by hand.
///
/// One network call and one vector-Jacobian product per step. As published: 100 steps of
/// [`ddim`](crate::sampler::ddim) with eta 1. DDPM carries it too. Needs a decomposition, or A^+ where y has no noise.
#[derive(Clone, Debug)]
pub struct Pigdm<O> {
    measurement: Measurement<O>,
    rule: PigdmRule,
}

impl<O: LinearOperator> Pigdm<O> {
    /// Errors: kind `Unsupported` for an operator without a decomposition, or without A^+ where y has no noise.
    pub fn new(measurement: Measurement<O>, rule: PigdmRule) -> Result<Self> {
        let op = measurement.operator();
        if measurement.sigma() == 0.0 {
            check_pseudo_inverse("PiGDM", &measurement)?;
        } else {
            ensure!(
                op.svd().is_some(),
                Unsupported,
                "{} has no singular value decomposition, which PiGDM needs for a noisy measurement",
                op.name()
            );
        }
        Ok(Self { measurement, rule })
    }
}

impl<O: LinearOperator> Evidence for Pigdm<O> {
    fn name(&self) -> &str {
        "PiGDM"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("PiGDM", sampler)?;
        check_levels("PiGDM", sampler)?;
        check_mean("PiGDM", sampler)?;
        match self.rule {
            PigdmRule::Published => check_keeps_x("PiGDM as published", sampler)?,
            // J is of the order of sig^-2 and is multiplied by sig^2: what rounding leaves of it in f32.
            PigdmRule::Score => {
                let far = sampler.levels().iter().find(|l| l.alpha > 0.0 && l.noise_to_signal() > MOST_NOISE);
                ensure!(
                    far.is_none(),
                    Unsupported,
                    "PiGDM by the score loses x_0 in rounding at sigma above {MOST_NOISE}, where {} begins: take PiGDM as published, or less noise",
                    sampler.name()
                );
            }
        }
        self.measurement.check(dims)
    }
    fn recommended(&self) -> Recommended {
        Recommended::PIGDM
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let whole = dims.elements().saturating_mul(batch).saturating_mul(2);
        let solve = self.measurement.operator().solve_scratch_len();
        whole.saturating_add(self.measurement.len().saturating_mul(2)).saturating_add(solve)
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
        let n = at.sample_len.max(1);
        let op = self.measurement.operator();
        let (g, scratch) = cut(scratch, x.len())?;
        let (v, scratch) = cut(scratch, x.len())?;
        let (r, scratch) = cut(scratch, self.measurement.len())?;
        let (solved, scratch) = cut(scratch, self.measurement.len())?;
        if is_blank(at) {
            g.fill(0.0);
            return Ok(());
        }
        let (alpha, sigma) = (at.level.alpha, at.level.sigma);
        let r2 = sigma * sigma / (alpha * alpha + sigma * sigma);
        let s2 = self.measurement.sigma() * self.measurement.sigma();
        if s2 > 0.0 {
            pull_back(&self.measurement, at, x0, v, r, scratch, |_, r, scratch| {
                op.solve(s2 / r2, r, solved, scratch)?;
                r.copy_from_slice(solved);
                Ok(())
            })?;
        } else {
            for ((x0, v), sample) in x0.chunks_exact(n).zip(v.chunks_exact_mut(n)).zip(at.first_sample..=u64::MAX) {
                self.measurement.residual(sample, x0, r, scratch)?;
                op.pseudo_inverse(r, v, scratch)?;
            }
        }
        jacobian.vjp(v, g)?;
        if self.rule == PigdmRule::Score {
            let (of_x0, of_eps) = (sigma * sigma / alpha / r2, sigma / r2);
            for ((x0, eps), g) in x0.iter_mut().zip(eps).zip(&*g) {
                *x0 = (f64::from(*x0) + of_x0 * f64::from(*g)) as f32;
                *eps = (f64::from(*eps) - of_eps * f64::from(*g)) as f32;
            }
        }
        Ok(())
    }
    fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        if self.rule == PigdmRule::Published {
            let (g, _) = cut(scratch, x.len())?;
            let alpha = at.level.alpha * at.target.scale();
            kernel.mean.iter_mut().zip(g).for_each(|(m, g)| *m = (f64::from(*m) + alpha * f64::from(*g)) as f32);
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().bytes(b"pigdm").u64(self.rule as u64);
        f.u64(self.measurement.fingerprint()).finish()
    }
}
