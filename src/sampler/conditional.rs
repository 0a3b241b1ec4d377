//! What a step adds to x_s once x_0 is known.

use super::{Estimate, Sampler};
use crate::error::{Result, ensure};

/// The standard deviation of x_s given x_t and x_0 that keeps the levels of a chain true: sqrt(sigma_s^2 - e^2), with e
/// the factor of eps in the step's mean where x_t = alpha x_0 + sigma eps.
///
/// It is what [`VarianceType::FixedSmall`](super::VarianceType) adds, and DDIM of any eta. `fixed_large` adds more: a
/// guess of what an x_0 that is not known adds. Where x_0 is drawn from p(x_0 | x_t) in place of its mean
/// ([`Evidence::draws_x0`](crate::posterior::Evidence::draws_x0)) that is in x_0 already, and x_s has the marginal of
/// its level exactly.
///
/// Errors: kind `Unsupported` for a step whose mean is not made of x_t, x_0 and eps of this step alone (methods of high
/// order, inner stages), or that leads elsewhere than to alpha_s x_0 + sigma_s eps.
pub fn conditional_std(sampler: &(impl Sampler + ?Sized), step: usize) -> Result<f64> {
    let name = sampler.name();
    ensure!(
        sampler.state_len(1) == 0 && sampler.settles(step),
        Unsupported,
        "{name} makes x_s of several predictions, so x_0 cannot be drawn: take ddpm, ddim, euler, euler-ancestral or flow-euler, or for \
         calibrated evidence variance_products 0"
    );
    let target = sampler.target(step)?;
    let level = sampler.levels().get(step).copied().unwrap_or(target);
    let mean = |x: f64, x0: f32, eps: f32| -> Result<f64> {
        let mut out = [0.0];
        sampler.mean(step, 0, Estimate { x: &[x as f32], x0: &[x0], eps: &[eps] }, &[], &mut [], &mut out)?;
        Ok(out.first().copied().map_or(0.0, f64::from))
    };
    let (of_x0, of_eps) = (mean(level.alpha, 1.0, 0.0)?, mean(level.sigma, 0.0, 1.0)?);
    let variance = target.sigma * target.sigma - of_eps * of_eps;
    let rounding = 1e-5 * (1e-3 + target.sigma * target.sigma);
    let adds_none = !sampler.needs_noise(step);
    ensure!(
        (of_x0 - target.alpha).abs() < 1e-4 && variance > -rounding && (!adds_none || variance < 1e2 * rounding),
        Unsupported,
        "step {step} of {name} leads to {of_x0:.5} x_0 and {of_eps:.5} eps, its level has {:.5} and {:.5}, so x_0 cannot be drawn: take \
         ddpm, ddim, euler, euler-ancestral or flow-euler, or for calibrated evidence variance_products 0",
        target.alpha,
        target.sigma
    );
    Ok(if adds_none { 0.0 } else { libm::sqrt(variance.max(0.0)) })
}

#[cfg(test)]
mod tests {
    use super::super::{SamplerKind, SamplerOptions, SchedulerConfig, Steps, VarianceType};
    use super::*;
    use crate::process::Posterior;
    use crate::schedule::Arithmetic;

    #[test]
    fn it_is_the_small_variance_whatever_the_configuration() {
        for variance_type in [VarianceType::FixedSmall, VarianceType::FixedLarge, VarianceType::LearnedRange] {
            let config = SchedulerConfig { variance_type, ..SchedulerConfig::new(SamplerKind::Ddpm) };
            let options = SamplerOptions { steps: Steps::Count(20), ..Default::default() };
            let sampler = config.sampler(&options).unwrap();
            for (step, level) in sampler.levels().iter().enumerate() {
                let target = sampler.target(step).unwrap();
                let want = Posterior::new(level.alpha_bar(), target.alpha_bar(), Arithmetic::Float64).variance;
                let got = conditional_std(&sampler, step).unwrap();
                assert!((got * got - want).abs() < 1e-6, "{step}: {got}");
            }
        }
    }

    #[test]
    fn ddim_keeps_its_own_and_high_orders_are_refused() {
        let of = |kind, eta| {
            let options = SamplerOptions { sampler: Some(kind), steps: Steps::Count(10), eta, ..Default::default() };
            SchedulerConfig::new(SamplerKind::Ddpm).sampler(&options).unwrap()
        };
        let quiet = of(SamplerKind::Ddim, 0.0);
        assert!((0..10).all(|i| conditional_std(&quiet, i).unwrap() == 0.0));
        let half = of(SamplerKind::Ddim, 0.5);
        let (t, s) = (half.levels()[4], half.target(4).unwrap());
        let want = 0.25 * Posterior::new(t.alpha_bar(), s.alpha_bar(), Arithmetic::Float64).variance;
        assert!((conditional_std(&half, 4).unwrap() / want.sqrt() - 1.0).abs() < 1e-4);
        for kind in [SamplerKind::DpmSolverMultistep, SamplerKind::UniPc] {
            let e = conditional_std(&of(kind, 0.0), 0).unwrap_err();
            assert!(e.message().contains("variance_products 0"), "{e}");
        }
    }
}
