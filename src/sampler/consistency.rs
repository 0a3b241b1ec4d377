//! Samplers of consistency models: latent consistency (Luo et al. 2023), trajectory consistency (Zheng et al. 2024),
//! and the first (Song et al. 2023).

use alloc::vec::Vec;

use super::options::Steps;
use super::plan::{Call, CallNoise, Mix, Of, Plan};
use super::setup::Setup;
use super::{Linear, Prediction};
use crate::error::{Result, ensure};
use crate::schedule::{Level, NoiseSchedule, SigmaSpacing, custom_timesteps, spread};

/// The standard deviation of data that latent consistency models assume.
const SIGMA_DATA: f64 = 0.5;

/// Latent consistency: x_0' = c_skip x + c_out x_0 with c_skip = d^2 / (s^2 + d^2), c_out = s / sqrt(s^2 + d^2), s =
/// `scaling` t, d = 0.5; then x_s = sqrt(abar_s) x_0' + sqrt(1 - abar_s) z, and x_0' itself at the end.
///
/// Errors: as [`Plan::new`]; kind `InvalidArgument` for timesteps out of range or order.
pub fn lcm(schedule: &NoiseSchedule, timesteps: &[u32], prediction: Prediction, scaling: f64) -> Result<Plan> {
    let list = custom_timesteps(schedule.num_train_timesteps(), timesteps)?;
    let mut calls = Vec::with_capacity(list.len());
    for (i, &t) in list.iter().enumerate() {
        let level = Level::variance_preserving(f64::from(t), schedule.alpha_bar(t)?);
        let s = f64::from(t) * scaling;
        let square = s * s + SIGMA_DATA * SIGMA_DATA;
        let denoised = Mix::of(&[(Of::X0, s / libm::sqrt(square)), (Of::X, SIGMA_DATA * SIGMA_DATA / square)]);
        calls.push(match list.get(i + 1) {
            Some(&next) => {
                let target = Level::variance_preserving(f64::from(next), schedule.alpha_bar(next)?);
                Call::new(level, target, denoised.scaled(target.alpha)).with_std(target.sigma)
            }
            None => Call::new(level, Level::CLEAN, denoised),
        });
    }
    Ok(Plan::new("LCM", prediction, 0, 1.0, calls)?.of_other_x0())
}

/// Trajectory consistency: each step goes along the flow to (1 - `gamma`) of the next timestep, and back up with noise.
/// The last stays below.
///
/// x_0 is not clipped. Errors: as [`lcm`]; kind `InvalidArgument` for a gamma that is not 0 to 1.
pub fn tcd(schedule: &NoiseSchedule, timesteps: &[u32], prediction: Prediction, gamma: f64) -> Result<Plan> {
    ensure!((0.0..=1.0).contains(&gamma), InvalidArgument, "gamma is {gamma}, expected 0 to 1");
    let list = custom_timesteps(schedule.num_train_timesteps(), timesteps)?;
    let mut calls = Vec::with_capacity(list.len());
    for (i, &t) in list.iter().enumerate() {
        let level = Level::variance_preserving(f64::from(t), schedule.alpha_bar(t)?);
        let next = list.get(i + 1).copied().unwrap_or(0);
        let below = libm::floor((1.0 - gamma) * f64::from(next)) as u32;
        let (a, b) = (schedule.alpha_bar(below)?, schedule.alpha_bar(next)?);
        let mean = Mix::of(&[(Of::X0, libm::sqrt(a)), (Of::Eps, libm::sqrt(1.0 - a))]);
        let back = gamma > 0.0 && i + 1 < list.len();
        calls.push(match back {
            true => {
                let target = Level::variance_preserving(f64::from(next), b);
                let noise = CallNoise::Std(libm::sqrt((1.0 - b / a).max(0.0)));
                Call { noise, ..Call::new(level, target, mean.scaled(libm::sqrt(b / a))) }
            }
            false => Call::new(level, Level::variance_preserving(f64::from(below), a), mean),
        });
    }
    let prediction = Prediction { clip: super::SampleClip::None, ..prediction };
    Ok(Plan::new("TCD", prediction, 0, 1.0, calls)?.of_other_x0())
}

/// Multistep consistency (Song et al. 2023, algorithm 1) over falling `sigmas`: x_0 = c_skip x + c_out F, clipped as
/// `prediction` says, then x_s = x_0 + sqrt(sigma_s^2 - sigma_min^2) `s_noise` z. The network sees x / sqrt(sigma^2 +
/// d^2) and is told 250 ln sigma.
///
/// The last step leads to sigma_min, and also draws. Errors: as [`Plan::new`]; kind `InvalidArgument` for sigmas below
/// sigma_min.
pub fn consistency(
    sigmas: &[f64],
    [sigma_min, sigma_data]: [f64; 2],
    s_noise: f64,
    prediction: Prediction,
) -> Result<Plan> {
    let positive = (f64::MIN_POSITIVE..=f64::MAX).contains(&sigma_data);
    ensure!(positive, InvalidArgument, "sigma_data is {sigma_data}, expected above 0");
    let all = sigmas.iter().all(|s| s.is_finite() && *s >= sigma_min && *s > 0.0);
    ensure!(all, InvalidArgument, "a sigma is below sigma_min, {sigma_min}");
    let level = |sigma: f64| Level::exploding(250.0 * libm::log(sigma), sigma);
    let mut calls = Vec::with_capacity(sigmas.len());
    for (i, &sigma) in sigmas.iter().enumerate() {
        let next = sigmas.get(i + 1).copied().unwrap_or(sigma_min);
        let (square, above) = (sigma * sigma + sigma_data * sigma_data, sigma - sigma_min);
        let c_skip = sigma_data * sigma_data / (above * above + sigma_data * sigma_data);
        let c_out = above * sigma_data / libm::sqrt(square);
        let linear =
            Linear { x0_x: c_skip, x0_output: c_out, eps_x: (1.0 - c_skip) / sigma, eps_output: -c_out / sigma };
        let std = s_noise * libm::sqrt((next * next - sigma_min * sigma_min).max(0.0));
        let noise = if sigmas.len() > 1 { CallNoise::Std(std) } else { CallNoise::None };
        let call = Call::new(level(sigma), level(next), Mix::just(Of::X0));
        calls.push(Call { input_scale: 1.0 / libm::sqrt(square), linear: Some(linear), noise, ..call });
    }
    Ok(Plan::new("consistency", prediction, 0, sigmas.first().copied().unwrap_or(1.0), calls)?.of_other_x0())
}

/// The timesteps that a model was distilled on, thinned.
fn distilled(setup: &Setup<'_>) -> Result<Vec<u32>> {
    let (train, original) = (setup.config.num_train_timesteps, setup.config.solver.original_inference_steps);
    if let Steps::Timesteps(_) | Steps::Sigmas(_) = setup.options.steps {
        return setup.timesteps();
    }
    ensure!(
        original <= train,
        InvalidArgument,
        "original_inference_steps is {original}, expected at most the {train} that the model was trained with"
    );
    let n = match setup.options.steps {
        Steps::Count(n) => n,
        _ => original,
    };
    ensure!(
        (1..=original).contains(&n),
        InvalidArgument,
        "the number of steps is {n}, expected 1 to the {original} that the model was distilled from"
    );
    let stride = train / original;
    let at = |i: usize| (original - i * original / n) * stride - 1;
    Ok((0..n).map(|i| at(i) as u32).collect())
}

/// `LCMScheduler`.
pub(super) fn build_lcm(setup: &Setup<'_>) -> Result<Plan> {
    lcm(&setup.schedule()?, &distilled(setup)?, setup.prediction(), setup.config.solver.timestep_scaling)
}

/// `TCDScheduler`.
pub(super) fn build_tcd(setup: &Setup<'_>) -> Result<Plan> {
    tcd(&setup.schedule()?, &distilled(setup)?, setup.prediction(), setup.options.tcd_gamma)
}

/// `CMStochasticIterativeScheduler`.
pub(super) fn build_cm(setup: &Setup<'_>) -> Result<Plan> {
    let (g, train) = (&setup.config.grid, setup.config.num_train_timesteps);
    let n = setup.count()?;
    let (bottom, top) = (g.sigma_min.unwrap_or(0.0), g.sigma_max.unwrap_or(0.0));
    // The training's sigmas, from the largest; of these every so many.
    let table = spread(SigmaSpacing::Karras, bottom, top, train, g.rho)?;
    let sigmas: Vec<f64> = table.into_iter().step_by((train / n).max(1)).take(n).collect();
    consistency(&sigmas, [bottom, g.sigma_data], setup.config.solver.s_noise, setup.prediction())
}
