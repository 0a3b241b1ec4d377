//! The process in continuous time, dx = -beta x dt / 2 + sqrt(beta) dW, and one Euler-Maruyama step of its reverse.

use crate::error::{Result, ensure};

/// beta(t), how fast the signal is forgotten.
///
/// ```
/// use undiffuse::process::Rate;
///
/// // The limit of DDPM's 1000 betas from 1e-4 to 0.02 on 0 <= t <= 1 (Song et al. 2021).
/// let ddpm = Rate::Linear { start: 0.1, end: 20.0 };
/// assert!((ddpm.alpha_bar(1.0) - (-10.05f64).exp()).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// beta(t) = this.
    Constant(f64),
    /// beta(t) = start + (end - start) t.
    Linear {
        /// At t = 0.
        start: f64,
        /// At t = 1.
        end: f64,
    },
}

impl Rate {
    /// Errors (kind `InvalidArgument`) unless beta is above 0 and finite on 0 < t <= `t_max`.
    pub fn check(&self, t_max: f64) -> Result<()> {
        let (first, last) = (self.at(0.0), self.at(t_max));
        ensure!(
            first >= 0.0 && last > 0.0 && first.is_finite() && last.is_finite(),
            InvalidArgument,
            "the rate of the process is {first} at time 0 and {last} at {t_max}, expected above 0"
        );
        Ok(())
    }

    /// beta(t).
    pub fn at(&self, t: f64) -> f64 {
        match *self {
            Self::Constant(beta) => beta,
            Self::Linear { start, end } => start + (end - start) * t,
        }
    }

    /// The integral of beta from 0 to t.
    pub fn integral(&self, t: f64) -> f64 {
        match *self {
            Self::Constant(beta) => beta * t,
            Self::Linear { start, end } => (start + 0.5 * (end - start) * t) * t,
        }
    }

    /// abar(t) = exp(-integral): q(x_t | x_0) = N(sqrt(abar) x_0, 1 - abar).
    pub fn alpha_bar(&self, t: f64) -> f64 {
        libm::exp(-self.integral(t))
    }
}

/// The moments of one Euler-Maruyama step back: x_s = `x0` f0(x_t, t) + `x` x_t + sqrt(`variance`) z, for a network f0
/// that predicts x_0.
///
/// With B the integral of beta up to t and d its part between s and t (b t and b dt where beta is constant):
///
/// ```text
/// mean = x - x d exp(-B) / (1 - exp(-B)) - x d / 2 + f0 csch(B / 2) d / 2,   variance = d
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReverseStep {
    /// The factor of the prediction, csch(B / 2) d / 2.
    pub x0: f64,
    /// The factor of x_t.
    pub x: f64,
    /// d.
    pub variance: f64,
    /// csch^2(B / 2) d / 8: the divergence of this step from the one with x_0 itself is this times |f0 - x_0|^2, the
    /// penalty of a denoising autoencoder. It grows as d / (2 B^2) where t is small, so a chain needs a least time.
    pub kl_weight: f64,
}

impl ReverseStep {
    /// From `integral` (B, above 0) and `erased` (d). Accurate to rounding however small they are; the step itself is
    /// the continuous process to first order in d, and of use where d is small against B.
    pub fn euler_maruyama(integral: f64, erased: f64) -> Self {
        let csch = 1.0 / libm::sinh(0.5 * integral);
        Self {
            x0: 0.5 * csch * erased,
            x: 1.0 - erased / libm::expm1(integral) - 0.5 * erased,
            variance: erased,
            kl_weight: csch * csch * erased / 8.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Posterior, normal_kl};
    use crate::schedule::Arithmetic;

    #[test]
    fn integrals_are_of_the_rate() {
        let linear = Rate::Linear { start: 0.3, end: 5.0 };
        for rate in [Rate::Constant(2.5), linear] {
            let n = 1000;
            let sum: f64 = (0..n).map(|i| rate.at(0.7 * (f64::from(i) + 0.5) / f64::from(n))).sum();
            assert!((sum * 0.7 / f64::from(n) - rate.integral(0.7)).abs() < 1e-9);
            assert!(rate.check(1.0).is_ok());
        }
        assert!(linear.check(-1.0).is_err() && Rate::Constant(0.0).check(1.0).is_err());
        assert!(Rate::Constant(f64::NAN).check(1.0).is_err());
    }

    #[test]
    fn small_steps_are_the_posterior_and_the_weight_is_the_divergence() {
        for integral in [0.01, 0.5, 3.0] {
            let erased = 1e-4 * integral;
            let step = ReverseStep::euler_maruyama(integral, erased);
            let p = Posterior::new(libm::exp(-integral), libm::exp(erased - integral), Arithmetic::Float64);
            // Relative to what the step changes.
            assert!((step.x0 / p.x0 - 1.0).abs() < 1e-3, "{integral}");
            assert!(((step.x - 1.0) / (p.x - 1.0) - 1.0).abs() < 1e-3, "{integral}");
            assert!((step.variance / p.variance - 1.0).abs() < 1e-3, "{integral}");
            // A prediction that is wrong by 0.3 moves the mean by x0 * 0.3.
            let moved = normal_kl(0.0, step.variance, 0.3 * step.x0, step.variance);
            assert!((moved - 0.09 * step.kl_weight).abs() < 1e-12 * (1.0 + moved));
            let (right, wrong) = (p.x0 * 0.8 + p.x * 0.1, step.x0 * 1.1 + step.x * 0.1);
            let kl = normal_kl(right, p.variance, wrong, step.variance);
            assert!((kl / moved - 1.0).abs() < 0.02, "{integral}: {kl} {moved}");
        }
    }
}
