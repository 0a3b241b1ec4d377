//! Flow matching (Lipman et al. 2023, Liu et al. 2023): x = (1 - sigma) x_0 + sigma eps, the network gives eps - x_0.

use alloc::vec::Vec;

use super::options::{Churn, Setup, Steps, levels};
use super::path::{Path, Preconditioning};
use super::plan::{Call, CallNoise, Mix, Of, Plan};
use super::{Prediction, PredictionType};
use crate::error::{Result, ensure, err};
use crate::schedule::{Arithmetic, Grid, Level, SigmaSpacing, linspace, spread, time_shift};

/// Euler's method on the flow: x_s = x + (sigma_s - sigma) v. Levels are those of a flow, and the first may be all noise.
pub fn flow_euler(path: &Path<'_>) -> Result<Plan> {
    super::euler::euler("flow Euler", path, Churn::default())
}

/// Heun's method on the flow: see [`heun`](super::heun).
pub fn flow_heun(path: &Path<'_>) -> Result<Plan> {
    super::heun::heun("flow Heun", path)
}

/// The predicted x_0 noised anew: x_s = (1 - sigma_s) x_0 + sigma_s z. Draws at the last step too, where nothing is added.
pub fn flow_lcm(path: &Path<'_>) -> Result<Plan> {
    let call = |(_, t, s): (usize, Level, Level)| {
        let mean = Mix::of(&[(Of::X0, s.alpha)]);
        path.call(Call { noise: CallNoise::Std(s.sigma), ..Call::new(t, s, mean) })
    };
    Plan::new("flow LCM", path.prediction, 0, path.initial_scale, path.steps()?.map(call).collect())
}

/// The sigmas of a configuration, shifted.
fn with_path(setup: &Setup<'_>, run: impl FnOnce(&Path<'_>) -> Result<Plan>) -> Result<Plan> {
    let (c, g) = (setup.config, &setup.config.grid);
    ensure!(!g.invert_sigmas, Unsupported, "invert_sigmas runs from data to noise, expected false");
    if let Steps::Timesteps(_) = setup.options.steps {
        return Err(err!(Unsupported, "a flow takes no list of timesteps, expected a number of steps"));
    }
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
    let timesteps: Vec<f64> = sigmas.iter().take(n).map(|s| s * train).collect();
    let levels = levels(&Grid { timesteps, sigmas }, Level::flow);
    let prediction = Prediction { kind: PredictionType::Flow, ..setup.prediction() };
    run(&Path { levels: &levels, prediction, preconditioning: Preconditioning::None, initial_scale: 1.0 })
}

/// So many sigmas as are asked for, and 0.
fn spread_sigmas(setup: &Setup<'_>, train: f64) -> Result<Vec<f64>> {
    let (n, g) = (setup.count()?, &setup.config.grid);
    // The ends of the training's sigmas, which are shifted once already where the shift is the configuration's.
    let mut ends = [1.0, 1.0 / train];
    if !g.use_dynamic_shifting {
        time_shift(g.shift, &mut ends)?;
    }
    let mut sigmas = linspace(ends[0], ends[1], n);
    setup.shift(&mut sigmas)?;
    let spacing = g.spacing()?;
    if spacing != SigmaSpacing::Timesteps {
        let (top, bottom) = (sigmas.first().copied().unwrap_or(1.0), sigmas.last().copied().unwrap_or(0.0));
        sigmas = spread(spacing, bottom, top, n, 7.0)?;
    }
    sigmas.push(0.0);
    Ok(sigmas)
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
    with_path(setup, flow_heun)
}

/// `FlowMatchLCMScheduler`.
pub(super) fn build_lcm(setup: &Setup<'_>) -> Result<Plan> {
    if setup.config.other.get("scale_factors").is_some_and(|v| !v.is_null()) {
        return Err(err!(Unsupported, "scale_factors change the size of the sample on the way, expected null"));
    }
    with_path(setup, flow_lcm)
}
