//! Samplers of networks behind EDM's preconditioning (Karras et al. 2022): levels without a discrete schedule.

use alloc::vec::Vec;

use super::dpm_solver::{dpm_solver_multistep, preserving};
use super::euler::{churned_euler, euler};
use super::karras_ve::churned_heun;
use super::path::{Path, Preconditioning};
use super::plan::Plan;
use super::setup::{Setup, levels};
use super::{AlgorithmType, Compat, FinalSigmas, MultistepOptions, PredictionType, SigmaSchedule, Sigmas};
use crate::error::{Result, ensure};
use crate::schedule::{Arithmetic, Grid, Level, SigmaSpacing, polyexponential, spread};

/// What the network is told of a sigma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseLabel {
    /// ln(sigma) / 4 (EDM's c_noise).
    QuarterLog,
    /// 2 / pi atan(sigma).
    Angle,
}

impl NoiseLabel {
    fn of(self, sigma: f64) -> f64 {
        match self {
            Self::QuarterLog => 0.25 * libm::log(sigma),
            Self::Angle => libm::atan(sigma) / core::f64::consts::FRAC_PI_2,
        }
    }
}

/// A path over n sigmas of a configuration.
///
/// `last_again`: with `final_sigmas_type` sigma_min the last sigma stands twice, and not the configuration's smallest
/// behind it (the same but for one step).
fn with_path(
    setup: &Setup<'_>,
    label: NoiseLabel,
    last_again: bool,
    run: impl FnOnce(&Path<'_>) -> Result<Plan>,
) -> Result<Plan> {
    setup.expect_prediction(&[PredictionType::Epsilon, PredictionType::VPrediction])?;
    let g = &setup.config.grid;
    let (bottom, top) = (g.sigma_min.unwrap_or(0.0), g.sigma_max.unwrap_or(0.0));
    let positive = (f64::MIN_POSITIVE..=f64::MAX).contains(&g.sigma_data);
    ensure!(positive, InvalidArgument, "sigma_data is {}, expected above 0", g.sigma_data);
    let spacing = match g.sigma_schedule {
        SigmaSchedule::Karras => SigmaSpacing::Karras,
        SigmaSchedule::Exponential => SigmaSpacing::Exponential,
    };
    let mut sigmas = match setup.given_sigmas()? {
        Some(list) => list.to_vec(),
        None => {
            let n = setup.count()?;
            let mut sigmas = match setup.options.sigmas {
                Sigmas::AlignYourSteps(model) => {
                    let mut sigmas = model.sigmas(n)?;
                    sigmas.pop();
                    sigmas
                }
                Sigmas::Polyexponential { rho } => polyexponential(bottom, top, n, rho)?,
                _ => spread(spacing, bottom, top, n, g.rho)?,
            };
            if let (SigmaSchedule::Exponential, [only]) = (g.sigma_schedule, sigmas.as_mut_slice()) {
                // diffusers counts from the smallest, so that one step begins there.
                *only = bottom;
            }
            let end = match g.final_sigmas_type {
                FinalSigmas::Zero => 0.0,
                FinalSigmas::SigmaMin if last_again => sigmas.last().copied().unwrap_or(bottom),
                FinalSigmas::SigmaMin => bottom,
            };
            sigmas.push(end);
            sigmas
        }
    };
    let n = sigmas.len() - 1;
    // Of a table of its own, the first of it.
    let first = match (setup.options.sigmas, sigmas.first()) {
        (Sigmas::AlignYourSteps(_), Some(first)) => *first,
        _ => top,
    };
    if setup.options.arithmetic == Arithmetic::Float32 {
        sigmas.iter_mut().for_each(|s| *s = f64::from(*s as f32));
    }
    let timesteps: Vec<f64> = sigmas.iter().take(n).map(|s| label.of(*s)).collect();
    let levels = levels(&Grid { timesteps, sigmas }, Level::exploding);
    run(&Path {
        levels: &levels,
        prediction: setup.prediction(),
        preconditioning: Preconditioning::Edm { sigma_data: g.sigma_data },
        initial_scale: libm::sqrt(first * first + 1.0),
    })
}

/// `EDMEulerScheduler`.
pub(super) fn build_euler(setup: &Setup<'_>) -> Result<Plan> {
    let churn = setup.options.churn;
    with_path(setup, NoiseLabel::QuarterLog, true, |path| match setup.options.compat {
        Compat::Fixed if churn.s_churn > 0.0 => {
            churned_euler("EDM Euler", path, churn, |sigma| NoiseLabel::QuarterLog.of(sigma))
        }
        _ => euler("EDM Euler", path, churn),
    })
}

/// EDM's own sampler (Karras et al. 2022, algorithm 2), which diffusers has not: its configuration has the keys of
/// `EDMEulerScheduler`.
pub(super) fn build_heun(setup: &Setup<'_>) -> Result<Plan> {
    with_path(setup, NoiseLabel::QuarterLog, true, |path| {
        // x_T has the first sigma as its standard deviation.
        let initial_scale = path.levels.first().map_or(1.0, |l| l.sigma);
        let path = Path { initial_scale, ..*path };
        let label = |sigma| NoiseLabel::QuarterLog.of(sigma);
        churned_heun("EDM Heun", &path, setup.options.churn, label)
    })
}

/// `EDMDPMSolverMultistepScheduler`.
pub(super) fn build_multistep(setup: &Setup<'_>) -> Result<Plan> {
    use AlgorithmType::{DpmSolverPlusPlus, SdeDpmSolverPlusPlus};
    let options = preserving(setup);
    ensure!(
        matches!(options.algorithm_type, DpmSolverPlusPlus | SdeDpmSolverPlusPlus),
        Unsupported,
        "EDMDPMSolverMultistepScheduler with an algorithm_type in eps, expected dpmsolver++ or sde-dpmsolver++"
    );
    with_path(setup, NoiseLabel::QuarterLog, false, |path| dpm_solver_multistep("EDM DPM-Solver++", path, &options))
}

/// `CosineDPMSolverMultistepScheduler`: the stochastic equation, with a Brownian motion's noise (here its increments,
/// step by step).
pub(super) fn build_cosine(setup: &Setup<'_>) -> Result<Plan> {
    let options = MultistepOptions { algorithm_type: AlgorithmType::SdeDpmSolverPlusPlus, ..preserving(setup) };
    ensure!(
        options.solver_order <= 2,
        Unsupported,
        "CosineDPMSolverMultistepScheduler of order {}, expected 1 or 2",
        options.solver_order
    );
    with_path(setup, NoiseLabel::Angle, false, |path| dpm_solver_multistep("cosine DPM-Solver++", path, &options))
}
