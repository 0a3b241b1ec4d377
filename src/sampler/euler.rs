//! Euler's method on the probability flow in sigma, and its ancestral form (Karras et al. 2022; k-diffusion).

use alloc::vec::Vec;

use super::options::{Churn, Compat, Sigmas, Steps};
use super::path::{Path, Preconditioning};
use super::plan::{Call, CallNoise, Mix, Of, Plan};
use super::setup::{Setup, levels};
use super::{Interpolation, PredictionType, TimestepType};
use crate::error::{Result, ensure};
use crate::schedule::{Grid, GridEnd, GridRules, Level, TimestepSpacing, Whole, linspace};

/// Euler's method: x_s = x + (sigma_s - sigma) d with d = (x - x_0) / sigma.
///
/// With churn, noise is added to x *after* the network has seen it, which is what diffusers does and EDM does not
/// ([`churned_euler`]): the step then goes on from x + sqrt(sigma_h^2 - sigma^2) S_noise z with sigma_h = (1 + gamma)
/// sigma.
///
/// Levels are variance-exploding or those of a flow (d is the same). Errors: as [`Plan::new`].
///
/// ```
/// use undiffuse::process::Prediction;
/// use undiffuse::sampler::{Churn, Of, Path, Preconditioning, Sampler, euler};
/// use undiffuse::schedule::Level;
///
/// let levels = [Level::exploding(999.0, 10.0), Level::exploding(500.0, 1.0), Level::CLEAN];
/// let preconditioning = Preconditioning::UnitVariance;
/// let path = Path { levels: &levels, prediction: Prediction::default(), preconditioning, initial_scale: 10.0 };
/// let plan = euler("Euler", &path, Churn::default())?;
/// // From sigma 10 to 1: x_s = 0.1 x + 0.9 x_0.
/// assert_eq!(plan.calls()[0].updates[0].mean.coefficient(Of::X), 0.1);
/// assert_eq!(plan.levels().len(), 2);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn euler(name: &'static str, path: &Path<'_>, churn: Churn) -> Result<Plan> {
    let steps = path.len();
    let call = |(_, t, s): (usize, Level, Level)| {
        let gamma = churn.gamma(t.sigma, steps);
        let raised = t.sigma * (1.0 + gamma);
        // x_0 of the raised x: what the network said of the lower one, taken at the raised sigma.
        let (ratio, added) = (s.sigma / raised, libm::sqrt(raised * raised - t.sigma * t.sigma) * churn.s_noise);
        let mut call = path.call(Call::new(t, s, Mix::of(&[(Of::X, ratio), (Of::X0, 1.0 - ratio)])));
        if gamma > 0.0 {
            // The output enters x_0 at the raised sigma (diffusers takes v's at the lower), so the step is linear in x,
            // output and noise.
            let v = path.preconditioning == Preconditioning::UnitVariance
                && path.prediction.kind == PredictionType::VPrediction;
            let sigma = if v { t.sigma } else { raised };
            let at_raised = path.call(Call::new(Level { sigma, ..t }, s, Mix::default()));
            let kept = at_raised.linear.unwrap_or_else(|| path.prediction.linear(&at_raised.level));
            call.linear = Some(kept);
            call.factors = at_raised.factors;
            call = call.with_std(added * (ratio + (1.0 - ratio) * kept.x0_x));
        }
        call
    };
    let plan = Plan::new(name, path.prediction, 0, path.initial_scale, path.steps()?.map(call).collect())?;
    let raises = path.levels.iter().any(|l| churn.gamma(l.sigma, steps) > 0.0);
    Ok(if raises { plan.of_other_x0() } else { plan })
}

/// Euler's method with noise *before* the network is asked, as EDM has it (Karras et al. 2022, algorithm 2 without the
/// second call) and k-diffusion: x at sigma_h = (1 + gamma) sigma is what the network sees. The noise is a step of the
/// plan without a network call, and is drawn at every step, also where its factor is 0.
///
/// `label` is what the network is told of a sigma. Levels are variance-exploding. Errors: as [`Plan::new`].
pub fn churned_euler(name: &'static str, path: &Path<'_>, churn: Churn, label: impl Fn(f64) -> f64) -> Result<Plan> {
    let steps = path.len();
    let mut calls = Vec::with_capacity(steps.saturating_mul(2));
    for (_, t, s) in path.steps()? {
        let raised = t.sigma * (1.0 + churn.gamma(t.sigma, steps));
        let std = libm::sqrt(raised * raised - t.sigma * t.sigma) * churn.s_noise;
        let hat = if raised > t.sigma { Level { timestep: label(raised), sigma: raised, ..t } } else { t };
        calls.push(Call::noising(t, hat, std, 0));
        let ratio = s.sigma / raised;
        calls.push(path.call(Call::new(hat, s, Mix::of(&[(Of::X, ratio), (Of::X0, 1.0 - ratio)]))));
    }
    Plan::new(name, path.prediction, 0, path.initial_scale, calls)
}

/// Euler's method to a lower level and back up with fresh noise: sigma_up^2 = sigma_s^2 (sigma^2 - sigma_s^2) /
/// sigma^2, sigma_down^2 = sigma_s^2 - sigma_up^2.
///
/// Noise is drawn at every step, the last too, where its factor is 0: so diffusers draws. Of weak order 1.
pub fn euler_ancestral(path: &Path<'_>) -> Result<Plan> {
    let call = |(_, t, s): (usize, Level, Level)| {
        let (down, up) = ancestral(t.sigma, s.sigma);
        let ratio = down / t.sigma;
        let mean = Mix::of(&[(Of::X, ratio), (Of::X0, 1.0 - ratio)]);
        path.call(Call { noise: CallNoise::Std(up), ..Call::new(t, s, mean) })
    };
    Plan::new("Euler ancestral", path.prediction, 0, path.initial_scale, path.steps()?.map(call).collect())
}

/// sigma_down and sigma_up of an ancestral step.
pub(super) fn ancestral(from: f64, to: f64) -> (f64, f64) {
    let up = libm::sqrt(to * to * (from * from - to * to) / (from * from));
    (libm::sqrt((to * to - up * up).max(0.0)), up)
}

/// The grid of `EulerDiscreteScheduler` and its kin: N points, or the sigmas of a rule.
pub(super) fn points(setup: &Setup<'_>, whole: Whole) -> Result<Grid> {
    let g = &setup.config.grid;
    let range = if setup.config.has("sigma_min") { [g.sigma_max, g.sigma_min] } else { [None, None] };
    let end = match setup.config.has("final_sigmas_type") && g.final_sigmas_type == super::FinalSigmas::SigmaMin {
        true => GridEnd::FirstTimestep,
        false => GridEnd::Zero,
    };
    setup.grid(&GridRules { intervals: false, whole, end, range, lambda_min: f64::NEG_INFINITY })
}

/// x_T's scale: with `leading` spacing the first level is not the training's last, and x_T has its whole variance.
pub(super) fn initial_scale(setup: &Setup<'_>, grid: &Grid) -> f64 {
    let sigma = grid.sigmas.iter().copied().fold(0.0, f64::max);
    match setup.config.timestep_spacing {
        // Also where the run begins elsewhere than the training ends.
        _ if setup.options.sigmas != Sigmas::Configured => libm::sqrt(sigma * sigma + 1.0),
        TimestepSpacing::Leading => libm::sqrt(sigma * sigma + 1.0),
        TimestepSpacing::Linspace | TimestepSpacing::Trailing => sigma,
    }
}

/// A solver's path over a grid of sigmas.
pub(super) fn with_path<R>(setup: &Setup<'_>, grid: &Grid, run: impl FnOnce(&Path<'_>) -> Result<R>) -> Result<R> {
    let levels = levels(grid, Level::exploding);
    let prediction = setup.prediction();
    let initial_scale = initial_scale(setup, grid);
    run(&Path { levels: &levels, prediction, preconditioning: Preconditioning::UnitVariance, initial_scale })
}

/// `EulerDiscreteScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    use PredictionType::{Epsilon, Sample, VPrediction};
    setup.expect_prediction(&[Epsilon, Sample, VPrediction])?;
    let g = &setup.config.grid;
    let mut grid = points(setup, Whole::No)?;
    if g.interpolation_type == Interpolation::LogLinear && g.spacing()? == Default::default() {
        ensure!(
            !matches!(setup.options.steps, Steps::Timesteps(_) | Steps::Sigmas(_))
                && setup.options.sigmas == Sigmas::Configured,
            Unsupported,
            "interpolation_type log_linear spreads its own sigmas, expected a number of steps"
        );
        // One more than the steps, and the end behind them: the run visits N of N + 1, so the last jump is long.
        let (table, fixed) = (setup.table()?, setup.options.compat == Compat::Fixed);
        let points = if fixed { grid.len() } else { grid.len() + 1 };
        let logs = linspace(libm::log(table.largest()), libm::log(table.smallest()), points);
        let sigmas: Vec<f64> = logs.into_iter().map(libm::exp).collect();
        if fixed {
            // What the network is told belongs to the sigma, and the end is the grid's.
            let end = grid.sigmas.last().copied();
            grid.timesteps = sigmas.iter().map(|s| table.timestep(*s)).collect();
            grid.sigmas = sigmas.into_iter().chain(end).collect();
        } else {
            grid.sigmas = sigmas;
        }
    }
    let quarter_log = g.timestep_type == TimestepType::Continuous && setup.config.prediction_type == VPrediction;
    if quarter_log {
        grid.timesteps = grid.sigmas.iter().take(grid.len()).map(|s| 0.25 * libm::log(*s)).collect();
    }
    if setup.options.compat == Compat::Fixed && setup.options.churn.s_churn > 0.0 {
        let table = setup.table()?;
        let label = |sigma: f64| if quarter_log { 0.25 * libm::log(sigma) } else { table.timestep(sigma) };
        return with_path(setup, &grid, |path| churned_euler("Euler", path, setup.options.churn, label));
    }
    with_path(setup, &grid, |path| euler("Euler", path, setup.options.churn))
}

/// `EulerAncestralDiscreteScheduler`.
pub(super) fn build_ancestral(setup: &Setup<'_>) -> Result<Plan> {
    setup.expect_prediction(&[PredictionType::Epsilon, PredictionType::VPrediction])?;
    let grid = points(setup, Whole::No)?;
    with_path(setup, &grid, euler_ancestral)
}
