//! The schedules of Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli 2015, and their temporal basis.

use alloc::vec::Vec;

use super::{Betas, MAX_TRAIN_TIMESTEPS};
use crate::error::{Result, ensure, err};

/// The least beta of the authors' code, and what it adds at the first step.
const LEAST: f64 = 1e-6;
const FIRST: f64 = 1e-3;
/// How far below 1 it keeps the largest.
const BELOW_ONE: f64 = 1e-5;

fn check_steps(steps: usize, least: usize) -> Result<()> {
    ensure!(
        (least..=MAX_TRAIN_TIMESTEPS).contains(&steps),
        InvalidArgument,
        "a schedule of {steps} steps, expected {least} to {MAX_TRAIN_TIMESTEPS}"
    );
    Ok(())
}

/// beta of the paper at index i, 0 .. T - 1.
pub(super) fn even_beta(i: usize, steps: usize) -> f64 {
    1.0 / (steps - i) as f64
}

/// beta of the authors' code at index i of at least 2 steps; `shift` is g^T c.
pub(super) fn authors_beta(i: usize, steps: usize, shift: f64) -> f64 {
    let u = steps as f64 - i as f64 * (steps as f64 - 2.0) / (steps as f64 - 1.0);
    let least = if i == 0 { LEAST + FIRST } else { LEAST };
    // logit(1 / u) = -ln(u - 1).
    least + (1.0 - least - BELOW_ONE) / (1.0 + libm::exp(libm::log(u - 1.0) - shift))
}

/// Beta i of the cosine of D3PM.
pub(super) fn cosine_beta(i: usize, steps: usize) -> f64 {
    let abar = |i: usize| libm::cos((i as f64 / steps as f64 + 0.008) / 1.008 * core::f64::consts::FRAC_PI_2);
    (1.0 - abar(i + 1) / abar(i)).min(0.999)
}

impl Betas {
    /// These betas and no curve, for example learned ones. [`NoiseSchedule::betas`](super::NoiseSchedule::betas) gives
    /// them back, and `SchedulerConfig` reads and writes them as `trained_betas`, both without loss; their range is
    /// checked when the schedule is made.
    pub fn explicit(betas: Vec<f64>) -> Self {
        Self { num_train_timesteps: betas.len(), trained: Some(betas), ..Self::default() }
    }

    /// The paper's: beta_t = 1 / (T - t + 1) for t = 1 .. T, which erases a constant fraction of the signal's variance
    /// in each step, so that abar_t = (T - t) / T. The last beta is 1: x_T is white and knows nothing of x_(T-1).
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2 steps or too many.
    pub fn erasing_evenly(steps: usize) -> Result<Self> {
        check_steps(steps, 2)?;
        Ok(Self::explicit((0..steps).map(|i| even_beta(i, steps)).collect()))
    }

    /// The cosine of uniform transitions between classes (Hoogeboom et al. 2021; Austin et al. 2021, appendix B.1):
    /// from abar(t) = cos((t / T + 0.008) / 1.008 pi / 2), not squared, each beta at most 0.999.
    ///
    /// Errors: as [`Betas::erasing_evenly`].
    pub fn cosine(steps: usize) -> Result<Self> {
        check_steps(steps, 2)?;
        Ok(Self::explicit((0..steps).map(|i| cosine_beta(i, steps)).collect()))
    }

    /// The authors' code: with the grid u = T .. 2 in T even steps,
    /// beta = m + sigmoid(g^T c + logit(1 / u)) (1 - m - 1e-5), where m is 1e-6, and 1e-3 more at the first step, g is
    /// the [`TemporalBasis`] of as many functions as there are coefficients c, and none means c = 0.
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2 steps or too many; kind `NonFinite` for coefficients that are
    /// not finite.
    pub fn authors_2015(steps: usize, coefficients: &[f64]) -> Result<Self> {
        check_steps(steps, 2)?;
        if let Some(j) = coefficients.iter().position(|c| !c.is_finite()) {
            return Err(err!(NonFinite, "coefficient {j} of the schedule is not finite"));
        }
        let basis = if coefficients.is_empty() { None } else { Some(TemporalBasis::new(steps, coefficients.len())?) };
        let shift = |i: usize| basis.as_ref().map_or(0.0, |b| b.combine(i as f64, coefficients));
        Ok(Self::explicit((0..steps).map(|i| authors_beta(i, steps, shift(i))).collect()))
    }
}

/// J bumps over the time of a chain, by which one network serves all steps: g_j(t) proportional to
/// exp(-(x_t - c_j)^2 / (2 w^2)), their sum 1 at each t. x runs evenly from -1 to 1 over the T steps, so do the centres
/// c over j.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TemporalBasis {
    steps: usize,
    functions: usize,
    width: f64,
}

impl TemporalBasis {
    /// The authors' code: w is half the distance of the centres.
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2 steps or functions, or too many.
    pub fn new(steps: usize, functions: usize) -> Result<Self> {
        check_steps(steps, 2)?;
        ensure!(
            (2..=steps.max(1000)).contains(&functions),
            InvalidArgument,
            "a temporal basis of {functions} functions, expected at least 2 and not more than steps"
        );
        Ok(Self { steps, functions, width: 1.0 / (functions as f64 - 1.0) })
    }

    /// The paper's text: w is the distance itself.
    #[must_use]
    pub fn with_paper_width(self) -> Self {
        Self { width: 2.0 / (self.functions as f64 - 1.0), ..self }
    }

    /// J.
    pub fn functions(&self) -> usize {
        self.functions
    }

    /// g(t), J values, for t in 0 .. T - 1 (clamped). Between two steps the values are interpolated linearly.
    ///
    /// Errors: kind `Shape` if `out` has another length.
    pub fn at(&self, t: f64, out: &mut [f64]) -> Result<()> {
        ensure!(
            out.len() == self.functions,
            Shape,
            "a temporal basis of {} functions got a buffer of {}",
            self.functions,
            out.len()
        );
        out.iter_mut().enumerate().for_each(|(j, g)| *g = self.between(t, |step| self.value(step, j)));
        Ok(())
    }

    fn combine(&self, t: f64, c: &[f64]) -> f64 {
        self.between(t, |step| c.iter().enumerate().map(|(j, c)| c * self.value(step, j)).sum())
    }

    fn between(&self, t: f64, value: impl Fn(f64) -> f64) -> f64 {
        let t = t.clamp(0.0, (self.steps - 1) as f64);
        let below = libm::floor(t);
        if t == below { value(t) } else { (1.0 - (t - below)) * value(below) + (t - below) * value(below + 1.0) }
    }

    /// g_j at a whole step.
    fn value(&self, step: f64, j: usize) -> f64 {
        let x = 2.0 * step / (self.steps - 1) as f64 - 1.0;
        let bump = |j: usize| {
            let d = (x - (2.0 * j as f64 / (self.functions - 1) as f64 - 1.0)) / self.width;
            libm::exp(-0.5 * d * d)
        };
        bump(j) / (0..self.functions).map(bump).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::schedule::{Arithmetic, NoiseSchedule};

    fn schedule(betas: &Betas) -> NoiseSchedule {
        NoiseSchedule::new(betas, Arithmetic::Float64).unwrap()
    }

    #[test]
    fn the_paper_erases_evenly() {
        for steps in [2, 40, 1000] {
            let s = schedule(&Betas::erasing_evenly(steps).unwrap());
            for (i, abar) in s.alphas_cumprod().iter().enumerate() {
                assert!((abar - (steps - i - 1) as f64 / steps as f64).abs() < 1e-12, "{steps}, {i}: {abar}");
            }
            assert_eq!(s.betas()[steps - 1], 1.0);
        }
    }

    #[test]
    fn the_authors_values() {
        // By NumPy from the expressions of their model.py.
        let s = schedule(&Betas::authors_2015(1000, &[]).unwrap());
        let expected = [(0, 0.001999989), (1, 0.001001988986996018), (998, 0.33344192489986485), (999, 0.4999955)];
        for (i, beta) in expected {
            assert!((s.betas()[i] - beta).abs() < 1e-14, "{i}: {}", s.betas()[i]);
        }
        assert!((s.alphas_cumprod()[499] - 0.4994068012496925).abs() < 1e-13);
        assert!((s.alphas_cumprod()[999] - 0.0009916122877183199).abs() < 1e-15);
        let named = Betas { schedule: crate::schedule::BetaSchedule::Authors2015, ..Betas::default() };
        assert_eq!(schedule(&named), s);
        let named = Betas { schedule: crate::schedule::BetaSchedule::ErasingEvenly, ..Betas::default() };
        assert_eq!(schedule(&named), schedule(&Betas::erasing_evenly(1000).unwrap()));
        // A coefficient moves the betas near its centre.
        let mut c = vec![0.0; 10];
        assert_eq!(Betas::authors_2015(1000, &c).unwrap(), Betas::authors_2015(1000, &[]).unwrap());
        c[9] = 1.0;
        let moved = schedule(&Betas::authors_2015(1000, &c).unwrap());
        assert!((moved.betas()[0] - s.betas()[0]).abs() < 1e-12 && moved.betas()[999] > 0.7);
    }

    #[test]
    fn the_basis_sums_to_one_and_interpolates() {
        let basis = TemporalBasis::new(1000, 10).unwrap();
        let mut g = [0.0; 10];
        for t in [0.0, 0.5, 333.25, 998.0, 999.0] {
            basis.at(t, &mut g).unwrap();
            assert!((g.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        // At t = 0: bumps at distances 0, 2, 4, .. widths: 1 / (1 + e^-2 + e^-8 + ...).
        basis.at(0.0, &mut g).unwrap();
        let sum: f64 = (0..10).map(|k| libm::exp(-2.0 * f64::from(k * k))).sum();
        assert!((g[0] - 1.0 / sum).abs() < 1e-12 && (g[1] - libm::exp(-2.0) / sum).abs() < 1e-12);
        let (mut low, mut high) = ([0.0; 10], [0.0; 10]);
        basis.at(7.0, &mut low).unwrap();
        basis.at(8.0, &mut high).unwrap();
        basis.at(7.25, &mut g).unwrap();
        for j in 0..10 {
            assert!((g[j] - 0.75 * low[j] - 0.25 * high[j]).abs() < 1e-15);
        }
        let wide = basis.with_paper_width();
        wide.at(0.0, &mut g).unwrap();
        assert!((g[1] / g[0] - libm::exp(-0.5)).abs() < 1e-12);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Betas::erasing_evenly(1).is_err() && Betas::erasing_evenly(usize::MAX).is_err());
        assert!(Betas::authors_2015(0, &[]).is_err() && Betas::authors_2015(10, &[f64::NAN, 0.0]).is_err());
        assert!(Betas::authors_2015(10, &[1.0]).is_err(), "one function has no centres");
        assert!(TemporalBasis::new(10, 3).unwrap().at(0.0, &mut [0.0; 2]).is_err());
        let one =
            Betas { schedule: crate::schedule::BetaSchedule::Authors2015, num_train_timesteps: 1, ..Betas::default() };
        assert!(NoiseSchedule::new(&one, Arithmetic::Float64).is_err());
    }
}
