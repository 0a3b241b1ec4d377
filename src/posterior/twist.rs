//! What particles are weighed by: a guess of p(y | x_t) that ends in r(x_0) itself.

use super::operator::LinearOperator;
use super::{IndependentBits, Measurement};
use crate::error::{Result, ensure, err};
use crate::schedule::Level;
use crate::tensor::Dims;

/// A twisting function r~_t(x_t), by its logarithm, made of the predicted x_0 (Wu, Trippe, Naesseth, Blei and
/// Cunningham 2023).
///
/// [`Particles`](crate::chain::Particles) weighs with it. Whatever it says on the way, the particles reach p(x_0)
/// r(x_0) as they become many, if it is above 0 wherever p(y | x_t) is and equals r(x_0), up to one factor for all,
/// where `level` has no noise. The nearer it is to p(y | x_t), the fewer are needed.
pub trait Twist {
    /// A name for messages.
    fn name(&self) -> &str;

    /// Whether it is a function of samples of shape `dims`. Errors say what does not fit.
    fn check(&self, dims: Dims) -> Result<()> {
        let _ = dims;
        Ok(())
    }

    /// f32 values of scratch that [`log_r`](Self::log_r) needs.
    fn scratch_len(&self) -> usize {
        0
    }

    /// log r~ of one particle of posterior sample number `sample`, natural, up to a constant; negative infinity for one
    /// that the evidence excludes. `x0` is what the model predicts for x_0 from the particle's x_t at `level` (for bits
    /// the probability of a 1), or where `level.sigma` is 0 the particle's x_0 itself.
    fn log_r(&mut self, sample: u64, level: &Level, x0: &[f32], scratch: &mut [f32]) -> Result<f64>;
}

/// log N(y; A x_0, r_t^2 A A^T + s^2 I) with PiGDM's guess r_t^2 = sigma^2 / (alpha^2 + sigma^2) of the variance of x_0
/// given x_t.
impl<O: LinearOperator> Twist for Measurement<O> {
    fn name(&self) -> &str {
        self.operator().name()
    }
    fn check(&self, dims: Dims) -> Result<()> {
        self.check_noise("weighing particles")?;
        ensure!(
            self.operator().svd().is_some(),
            Unsupported,
            "{} has no singular value decomposition, which weighing particles needs",
            self.operator().name()
        );
        Measurement::check(self, dims)
    }
    fn scratch_len(&self) -> usize {
        self.len().saturating_mul(2).saturating_add(self.operator().solve_scratch_len())
    }
    fn log_r(&mut self, sample: u64, level: &Level, x0: &[f32], scratch: &mut [f32]) -> Result<f64> {
        let (r, scratch) = super::common::cut(scratch, self.len())?;
        let (solved, scratch) = super::common::cut(scratch, self.len())?;
        self.residual(sample, x0, r, scratch)?;
        let (s2, v) = (self.sigma() * self.sigma(), level.sigma * level.sigma);
        let r2 = v / (level.alpha * level.alpha + v);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        if r2 == 0.0 {
            return Ok(-0.5 * (dot(r, r) / s2 + self.len() as f64 * libm::log(s2)));
        }
        self.operator().solve(s2 / r2, r, solved, scratch)?;
        let singular = self.operator().svd().map_or(&[][..], |svd| svd.singular_values());
        let seen: f64 = singular.iter().map(|&s| libm::log(r2 * f64::from(s) * f64::from(s) + s2)).sum();
        let unseen = self.len().saturating_sub(singular.len()) as f64 * libm::log(s2);
        Ok(-0.5 * (dot(r, solved) / r2 + seen + unseen))
    }
}

/// The sum over bits of log(p d + (1 - p) (1 - d)), with p the predicted probability of a 1: p(y | x_t) if the bits of
/// x_0 were independent given x_t. Of the schedule it makes no use.
impl Twist for IndependentBits {
    fn name(&self) -> &str {
        "independent bits"
    }
    fn check(&self, dims: Dims) -> Result<()> {
        super::BitR::check(self, dims)
    }
    fn log_r(&mut self, _: u64, _: &Level, x0: &[f32], _: &mut [f32]) -> Result<f64> {
        // The product of some bits at a time, so that there are fewer logarithms; one of 0 makes all of it 0.
        let (mut log_r, mut product) = (0.0, 1.0);
        for (p, d) in x0.iter().zip(self.odds_of_x0()) {
            let (p, d) = (f64::from(*p), f64::from(*d));
            product *= p * d + (1.0 - p) * (1.0 - d);
            if product < 1e-100 {
                log_r += libm::log(product);
                product = 1.0;
            }
        }
        Ok(log_r + libm::log(product))
    }
}

/// log r~ by the caller's function `f(sample, level, x0)`.
pub struct FnTwist<F> {
    f: F,
}

impl<F: FnMut(u64, &Level, &[f32]) -> Result<f64>> FnTwist<F> {
    /// From the function.
    pub fn new(f: F) -> Self {
        Self { f }
    }
}

impl<F: FnMut(u64, &Level, &[f32]) -> Result<f64>> Twist for FnTwist<F> {
    fn name(&self) -> &str {
        "callback"
    }
    fn log_r(&mut self, sample: u64, level: &Level, x0: &[f32], _: &mut [f32]) -> Result<f64> {
        let log_r = (self.f)(sample, level, x0)?;
        if log_r.is_nan() || log_r == f64::INFINITY {
            return Err(err!(NonFinite, "the callback's log r is {log_r} for sample {sample}"));
        }
        Ok(log_r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posterior::operator::Dense;
    use crate::posterior::{BitSchedule, RSchedule};

    #[test]
    fn a_measurement_is_weighed_by_its_normal_density() {
        let (n, m) = (Dims::new(&[2]).unwrap(), Dims::new(&[1]).unwrap());
        let mut seen = Measurement::new(Dense::new(n, m, &[2.0, -1.0]).unwrap(), &[0.7], 0.5).unwrap();
        Twist::check(&seen, n).unwrap();
        let mut scratch = alloc::vec![0.0; Twist::scratch_len(&seen)];
        for abar in [1.0, 0.6, 0.01] {
            let level = Level::variance_preserving(0.0, abar);
            let mut log_r = |x: &[f32]| seen.log_r(0, &level, x, &mut scratch).unwrap();
            let variance = 0.25 + 5.0 * (1.0 - abar);
            // The residuals are 0.7 and 0.7 - 2.
            let want = |r: f64| -0.5 * (r * r / variance + variance.ln());
            assert!((log_r(&[0.0, 0.0]) - want(0.7)).abs() < 1e-6);
            assert!((log_r(&[1.0, 0.0]) - want(-1.3)).abs() < 1e-6);
        }
        let exact = Measurement::exact(Dense::new(n, m, &[2.0, -1.0]).unwrap(), &[0.7]).unwrap();
        assert!(Twist::check(&exact, n).is_err());
    }

    #[test]
    fn bits_are_weighed_one_by_one() {
        let mut bits = IndependentBits::new(&[0.9, 0.5, 0.0], BitSchedule::Paper(RSchedule::Constant)).unwrap();
        let level = Level::variance_preserving(0.0, 0.5);
        let got = bits.log_r(0, &level, &[0.3, 0.8, 0.25], &mut []).unwrap();
        let want = (0.3f64 * 0.9 + 0.7 * 0.1).ln() + 0.5f64.ln() + 0.75f64.ln();
        assert!((got - want).abs() < 1e-6);
        assert_eq!(bits.log_r(0, &level, &[0.0, 0.0, 1.0], &mut []).unwrap(), f64::NEG_INFINITY);
        assert!(FnTwist::new(|_, _: &Level, _: &[f32]| Ok(f64::NAN)).log_r(0, &level, &[], &mut []).is_err());
    }
}
