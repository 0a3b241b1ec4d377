//! Flow matching (Lipman et al. 2023, Liu et al. 2023): x = (1 - sigma) x_0 + sigma eps, the network gives eps - x_0.

use alloc::vec;
use alloc::vec::Vec;

use super::options::{Churn, Steps};
use super::path::{Path, Preconditioning};
use super::plan::{Call, CallNoise, Mix, Of, Plan, Update};
use super::setup::{Setup, levels};
use super::{Prediction, PredictionType, SamplerKind};
use crate::error::{Result, ensure, err};
use crate::schedule::{Arithmetic, Grid, Level, SigmaSpacing, linspace, spread, time_shift};

/// Euler's method on the flow: x_s = x + (sigma_s - sigma) v. Levels are those of a flow, and the first may be all
/// noise.
pub fn flow_euler(path: &Path<'_>) -> Result<Plan> {
    super::euler::euler("flow Euler", path, Churn::default())
}

/// Heun's method on the flow: see [`SamplerKind::Heun`](super::SamplerKind::Heun).
///
/// With churn, noise is added to x *after* the network has seen it and its slope is taken for smaller by sigma /
/// sigma_h, as diffusers has it (and counts 2 N - 1 steps where [`Churn`] says N): x_h = x + sqrt(sigma_h^2 - sigma^2)
/// S_noise z with sigma_h = (1 + gamma) sigma, then x_h + h d sigma / sigma_h with h = sigma_s - sigma_h, and from
/// there back to x_h and on by the mean of both slopes.
pub fn flow_heun(path: &Path<'_>, churn: Churn) -> Result<Plan> {
    if churn.s_churn == 0.0 {
        return super::heun::heun("flow Heun", path);
    }
    let mut calls = Vec::with_capacity(2 * path.len());
    for (_, t, s) in path.steps()? {
        let gamma = churn.gamma(t.sigma, (2 * path.len()).saturating_sub(1));
        let raised = t.sigma * (1.0 + gamma);
        let (h, std) = (s.sigma - raised, libm::sqrt(raised * raised - t.sigma * t.sigma) * churn.s_noise);
        // The slope (x - x_0) / sigma of the flow, less by sigma / sigma_h.
        let change = Mix::of(&[(Of::X, h / raised), (Of::X0, -h / raised)]);
        let noise = |std| if gamma > 0.0 { CallNoise::Std(std) } else { CallNoise::None };
        let last = s.sigma == 0.0;
        let first = Update { mean: Mix::just(Of::X).plus(&change), keep: vec![change].into() };
        let call =
            Call { updates: vec![first].into(), noise: noise(std), settles: last, ..Call::new(t, s, Mix::default()) };
        calls.push(path.call(call));
        if !last {
            let half = 0.5 * h / s.sigma;
            // x_h is what the first call led to less its change; what is drawn here cancels.
            let mean = Mix::of(&[(Of::X, 1.0 + half), (Of::X0, -half), (Of::History(0), -0.5)]);
            let second = Update { mean, keep: vec![Mix::default()].into() };
            let call = Call { updates: vec![second].into(), noise: noise(0.0), ..Call::new(s, s, Mix::default()) };
            calls.push(path.call(call));
        }
    }
    Plan::new("flow Heun", path.prediction, 1, path.initial_scale, calls)
}

/// The predicted x_0 noised anew: x_s = (1 - sigma_s) x_0 + sigma_s z. Draws at the last step too, where nothing is
/// added.
pub fn flow_lcm(path: &Path<'_>) -> Result<Plan> {
    let call = |(_, t, s): (usize, Level, Level)| {
        let mean = Mix::of(&[(Of::X0, s.alpha)]);
        path.call(Call { noise: CallNoise::Std(s.sigma), ..Call::new(t, s, mean) })
    };
    Ok(Plan::new("flow LCM", path.prediction, 0, path.initial_scale, path.steps()?.map(call).collect())?.of_other_x0())
}

/// The sigmas of a configuration, shifted.
fn with_path(setup: &Setup<'_>, run: impl FnOnce(&Path<'_>) -> Result<Plan>) -> Result<Plan> {
    let (c, g) = (setup.config, &setup.config.grid);
    let train = c.num_train_timesteps as f64;
    let mut sigmas = match setup.given_sigmas()? {
        Some(list) => {
            // The shift moves the calls; where the run ends is the caller's.
            let (end, calls) = list.split_last().unwrap_or((&0.0, &[]));
            let mut sigmas = calls.to_vec();
            setup.shift(&mut sigmas)?;
            sigmas.push(*end);
            sigmas
        }
        None => spread_sigmas(setup, train)?,
    };
    let n = sigmas.len() - 1;
    if setup.options.arithmetic == Arithmetic::Float32 {
        sigmas.iter_mut().for_each(|s| *s = f64::from(*s as f32));
    }
    let timesteps: Vec<f64> = match &setup.options.steps {
        // diffusers shifts the sigmas and tells the network the timesteps as they were given.
        Steps::Timesteps(list) if setup.config.class != SamplerKind::FlowHeun => {
            list.iter().map(|t| f64::from(*t)).collect()
        }
        _ if g.invert_sigmas => sigmas.iter().take(n).map(|s| (1.0 - s) * train).collect(),
        _ => sigmas.iter().take(n).map(|s| s * train).collect(),
    };
    // Mochi's network counts sigma from noise to data and gives x_0 - eps; the way is the same.
    let preconditioning = if g.invert_sigmas { Preconditioning::Reversed } else { Preconditioning::None };
    let levels = levels(&Grid { timesteps, sigmas }, Level::flow);
    let prediction = Prediction { kind: PredictionType::Flow, ..setup.prediction() };
    run(&Path { levels: &levels, prediction, preconditioning, initial_scale: 1.0 })
}

/// So many sigmas as are asked for, and 0.
fn spread_sigmas(setup: &Setup<'_>, train: f64) -> Result<Vec<f64>> {
    let g = &setup.config.grid;
    let given = match &setup.options.steps {
        Steps::Timesteps(list) => Some(given_timesteps(setup, list)?),
        _ => None,
    };
    let n = given.as_ref().map_or_else(|| setup.count(), |list| Ok(list.len()))?;
    // The ends of the training's sigmas, which are shifted once already where the shift is the configuration's.
    let mut ends = [1.0, 1.0 / train];
    if !g.use_dynamic_shifting {
        time_shift(g.shift, &mut ends)?;
    }
    let mut sigmas = given.unwrap_or_else(|| linspace(ends[0], ends[1], n));
    setup.shift(&mut sigmas)?;
    let spacing = g.spacing()?;
    if spacing != SigmaSpacing::Timesteps {
        let (top, bottom) = (sigmas.first().copied().unwrap_or(1.0), sigmas.last().copied().unwrap_or(0.0));
        sigmas = spread(spacing, bottom, top, n, 7.0)?;
    }
    sigmas.push(0.0);
    Ok(sigmas)
}

/// The sigmas of the caller's own timesteps, 1 to T, before they are shifted.
fn given_timesteps(setup: &Setup<'_>, list: &[u32]) -> Result<Vec<f64>> {
    let train = setup.config.num_train_timesteps;
    ensure!(
        setup.config.class != SamplerKind::FlowHeun,
        Unsupported,
        "FlowMatchHeunDiscreteScheduler takes no list of timesteps, expected a number of steps"
    );
    let falls = list.windows(2).all(|w| matches!(w, [a, b] if a > b));
    let inside = list.iter().all(|t| (1..=train).contains(&(*t as usize)));
    ensure!(
        falls && inside && !list.is_empty(),
        InvalidArgument,
        "the list of {} timesteps of a flow does not fall within {train} to 1, expected that it does",
        list.len()
    );
    Ok(list.iter().map(|t| f64::from(*t) / train as f64).collect())
}

/// `FlowMatchEulerDiscreteScheduler`.
pub(super) fn build_euler(setup: &Setup<'_>) -> Result<Plan> {
    match setup.config.solver.stochastic_sampling {
        true => with_path(setup, flow_lcm),
        false => with_path(setup, flow_euler),
    }
}

/// `FlowMatchHeunDiscreteScheduler`.
pub(super) fn build_heun(setup: &Setup<'_>) -> Result<Plan> {
    with_path(setup, |path| flow_heun(path, setup.options.churn))
}

/// `FlowMatchLCMScheduler`.
pub(super) fn build_lcm(setup: &Setup<'_>) -> Result<Plan> {
    if setup.config.other.get("scale_factors").is_some_and(|v| !v.is_null()) {
        return Err(err!(Unsupported, "scale_factors change the size of the sample on the way, expected null"));
    }
    with_path(setup, flow_lcm)
}
