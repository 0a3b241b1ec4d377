//! Score-based models of continuous time (Song et al. 2021): the variance-exploding predictor-corrector and the
//! variance-preserving reverse equation.

use alloc::vec::Vec;

use super::Prediction;
use super::path::{Path, Preconditioning, ScoreUnit};
use super::plan::{Call, CallNoise, Mix, Of, Plan};
use super::setup::Setup;
use crate::error::{Result, ensure};
use crate::schedule::{Arithmetic, Level, linspace};

/// The options of [`score_sde_ve`] and [`score_sde_vp`]. Names and defaults are those of `ScoreSdeVeScheduler` and
/// `ScoreSdeVpScheduler`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreSdeOptions {
    /// Steps, 1 or more.
    pub steps: usize,
    /// Where the times end, which begin at 1; 0 ..= 1.
    pub sampling_eps: f64,
    /// The signal-to-noise ratio of a correction.
    pub snr: f64,
    /// Corrections before each prediction.
    pub correct_steps: usize,
    /// The smallest and the largest sigma of the exploding process.
    pub sigmas: [f64; 2],
    /// beta at the times 0 and 1 of the preserving process.
    pub betas: [f64; 2],
    /// Times, and what follows from them directly, are rounded as PyTorch rounds them.
    pub arithmetic: Arithmetic,
}

impl Default for ScoreSdeOptions {
    fn default() -> Self {
        Self {
            steps: 2000,
            sampling_eps: 1e-5,
            snr: 0.15,
            correct_steps: 1,
            sigmas: [0.01, 1348.0],
            betas: [0.1, 20.0],
            arithmetic: Arithmetic::Float64,
        }
    }
}

impl ScoreSdeOptions {
    fn check(&self) -> Result<()> {
        let [low, high] = self.sigmas;
        ensure!(self.steps > 0, InvalidArgument, "the number of steps is 0, expected 1 or more");
        ensure!(
            (0.0..=1.0).contains(&self.sampling_eps),
            InvalidArgument,
            "sampling_eps is {}, expected 0 to 1",
            self.sampling_eps
        );
        ensure!(
            low > 0.0 && high >= low && high.is_finite(),
            InvalidArgument,
            "sigma_min is {low} and sigma_max {high}, expected to rise and to stay above 0"
        );
        ensure!(
            self.snr > 0.0 && self.snr.is_finite(),
            InvalidArgument,
            "snr is {}, expected a number above 0",
            self.snr
        );
        Ok(())
    }

    fn round(&self, v: f64) -> f64 {
        if self.arithmetic == Arithmetic::Float32 { f64::from(v as f32) } else { v }
    }

    fn times(&self) -> Vec<f64> {
        linspace(1.0, self.sampling_eps, self.steps).into_iter().map(|t| self.round(t)).collect()
    }
}

/// The variance-exploding predictor-corrector: `correct_steps` steps of Langevin dynamics at each sigma
/// ([`Spread::Langevin`]), then x_s = x + d^2 score + d z with d^2 the fall of sigma^2. The last step adds no noise, as
/// diffusers' pipeline takes its mean.
///
/// The network is told sigma and gives the score. Each sample's corrections have a size of their own; in diffusers the
/// norms are means over the batch, so that there samples depend on one another: with a batch of one it is the same.
///
/// Errors: kind `InvalidArgument` for options that make no levels; as [`Plan::new`].
///
/// [`Spread::Langevin`]: super::Spread::Langevin
pub fn score_sde_ve(options: &ScoreSdeOptions, prediction: Prediction) -> Result<Plan> {
    options.check()?;
    let (n, [low, high]) = (options.steps, options.sigmas);
    // The predictor's sigmas are not those of the times, but a table of as many.
    let table: Vec<f64> = linspace(libm::log(low), libm::log(high), n).into_iter().map(libm::exp).collect();
    let at = |i: usize| table.get(i).copied().unwrap_or(low);
    let preconditioning = Preconditioning::Score { unit: ScoreUnit::Score };
    let path = Path { levels: &[], prediction, preconditioning, initial_scale: high };
    let times = options.times();
    let levels: Vec<Level> = times
        .iter()
        .map(|t| options.round(low * libm::pow(high / low, *t)))
        .map(|sigma| Level::exploding(sigma, sigma))
        .collect();
    let mut calls = Vec::with_capacity(n.saturating_mul(options.correct_steps.saturating_add(1)));
    for (i, (t, level)) in times.iter().zip(&levels).enumerate() {
        for _ in 0..options.correct_steps {
            let call = path.call(Call::new(*level, *level, Mix::just(Of::X)));
            calls.push(Call { noise: CallNoise::Langevin { snr: options.snr }, ..call });
        }
        let index = libm::trunc(options.round(t * n.saturating_sub(1) as f64)) as usize;
        let (sigma, below) = (at(index), index.checked_sub(1).map_or(0.0, at));
        let variance = sigma * sigma - below * below;
        // The score by way of eps.
        let mean = Mix::of(&[(Of::X, 1.0), (Of::Eps, -variance / level.sigma)]);
        let next = levels.get(i + 1);
        let noise = CallNoise::Std(if next.is_some() { libm::sqrt(variance) } else { 0.0 });
        let target = next.copied().unwrap_or(Level::CLEAN);
        calls.push(path.call(Call { noise, ..Call::new(*level, target, mean) }));
    }
    Plan::new("VE predictor-corrector", prediction, 0, path.initial_scale, calls)
}

/// The reverse equation of the variance-preserving process by Euler's method in 1 / N steps of time:
/// x_s = x + (beta / 2 x + beta score) / N + sqrt(beta / N) z. The last step adds no noise.
///
/// Times fall evenly from 1 to `sampling_eps`; the network is told `time_scale` times the time, and gives eps as
/// `prediction` says.
///
/// Errors: as [`score_sde_ve`].
pub fn score_sde_vp(options: &ScoreSdeOptions, time_scale: f64, prediction: Prediction) -> Result<Plan> {
    options.check()?;
    let ([low, high], n) = (options.betas, options.steps as f64);
    let times = options.times();
    let level = |t: f64| {
        let log = -0.25 * t * t * (high - low) - 0.5 * t * low;
        Level { timestep: t * time_scale, alpha: libm::exp(log), sigma: libm::sqrt(-libm::expm1(2.0 * log)) }
    };
    let call = |(i, &t): (usize, &f64)| {
        let (l, beta) = (level(t), low + t * (high - low));
        let next = times.get(i + 1).map(|t| level(*t));
        let mean = Mix::of(&[(Of::X, 1.0 + 0.5 * beta / n), (Of::Eps, -beta / (n * l.sigma))]);
        let noise = CallNoise::Std(if next.is_some() { libm::sqrt(beta / n) } else { 0.0 });
        Call { noise, ..Call::new(l, next.unwrap_or(Level::CLEAN), mean) }
    };
    Plan::new("VP reverse equation", prediction, 0, 1.0, times.iter().enumerate().map(call).collect())
}

fn options(setup: &Setup<'_>) -> Result<ScoreSdeOptions> {
    let (g, s) = (&setup.config.grid, &setup.config.solver);
    Ok(ScoreSdeOptions {
        steps: setup.count()?,
        sampling_eps: g.sampling_eps,
        snr: s.snr,
        correct_steps: s.correct_steps as usize,
        sigmas: [g.sigma_min.unwrap_or(0.0), g.sigma_max.unwrap_or(0.0)],
        betas: [g.beta_min, g.beta_max],
        arithmetic: setup.options.arithmetic,
    })
}

/// `ScoreSdeVeScheduler`.
pub(super) fn build_ve(setup: &Setup<'_>) -> Result<Plan> {
    score_sde_ve(&options(setup)?, setup.prediction())
}

/// `ScoreSdeVpScheduler`. The network is told T - 1 times the time, as the authors' code tells it.
pub(super) fn build_vp(setup: &Setup<'_>) -> Result<Plan> {
    let last = setup.config.num_train_timesteps.saturating_sub(1) as f64;
    let options = ScoreSdeOptions { sigmas: [1.0, 1.0], ..options(setup)? };
    score_sde_vp(&options, last, setup.prediction())
}
