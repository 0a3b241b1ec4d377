//! Heun's method with noise before each step (Karras et al. 2022, algorithm 2).

use alloc::vec::Vec;

use super::options::Churn;
use super::path::{Path, Preconditioning, ScoreUnit};
use super::plan::{Call, Plan};
use super::setup::{Setup, levels};
use super::{Compat, heun};
use crate::error::{Result, ensure};
use crate::schedule::{Arithmetic, Grid, Level};

/// Before each step from sigma, noise takes x to sigma_h = (1 + gamma) sigma: x + sqrt(sigma_h^2 - sigma^2) S_noise z.
/// Then steps as [`SamplerKind::Heun`](super::SamplerKind::Heun) has them. The noise is a step of the plan without a
/// network call, and is drawn at every step, also where its factor is 0.
///
/// `label` is what the network is told of a sigma. Levels are variance-exploding. Errors: as [`Plan::new`].
///
/// ```
/// use undiffuse::process::Prediction;
/// use undiffuse::sampler::{Churn, Path, Preconditioning, Sampler, churned_heun};
/// use undiffuse::schedule::Level;
///
/// let levels = [Level::exploding(10.0, 10.0), Level::exploding(1.0, 1.0), Level::CLEAN];
/// let preconditioning = Preconditioning::UnitVariance;
/// let path = Path { levels: &levels, prediction: Prediction::default(), preconditioning, initial_scale: 10.0 };
/// let plan = churned_heun("EDM", &path, Churn { s_churn: 0.8, ..Default::default() }, |sigma| sigma)?;
/// // Noise and two calls, then noise and the one call that ends without noise.
/// let calls: Vec<bool> = (0..5).map(|step| plan.calls_network(step)).collect();
/// assert_eq!(calls, [false, true, true, false, true]);
/// assert!((plan.levels()[1].sigma - 14.0).abs() < 1e-12);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn churned_heun(name: &'static str, path: &Path<'_>, churn: Churn, label: impl Fn(f64) -> f64) -> Result<Plan> {
    let steps = path.len();
    let mut calls = Vec::with_capacity(3 * steps);
    for (_, t, s) in path.steps()? {
        let raised = t.sigma * (1.0 + churn.gamma(t.sigma, steps));
        let std = libm::sqrt(raised * raised - t.sigma * t.sigma) * churn.s_noise;
        let hat = Level { timestep: label(raised), sigma: raised, ..t };
        calls.push(Call::noising(t, hat, std, heun::HISTORY));
        calls.extend(heun::step(path, hat, s));
    }
    Plan::new(name, path.prediction, heun::HISTORY, path.initial_scale, calls)
}

/// `KarrasVeScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    let (g, s) = (&setup.config.grid, &setup.config.solver);
    let (bottom, top) = (g.sigma_min.unwrap_or(0.0), g.sigma_max.unwrap_or(0.0));
    let in_order = bottom > 0.0 && top > bottom && top.is_finite();
    ensure!(
        in_order,
        InvalidArgument,
        "sigma_max is {top} and sigma_min {bottom}, expected to fall and to stay above 0"
    );
    let mut sigmas = match setup.given_sigmas()? {
        Some(list) => list.to_vec(),
        None => {
            let n = setup.count()?;
            ensure!(n > 1, InvalidArgument, "KarrasVeScheduler with one step, expected at least 2");
            // diffusers takes the times of the authors' table 1, which are squares of sigmas, for sigmas.
            let ends = if setup.options.compat == Compat::Fixed { [top, bottom] } else { [top * top, bottom * bottom] };
            let [from, to] = ends;
            let at = |i: usize| from * libm::pow(to / from, i as f64 / (n - 1) as f64);
            (0..n).map(at).chain([0.0]).collect::<Vec<f64>>()
        }
    };
    if setup.options.arithmetic == Arithmetic::Float32 {
        sigmas.iter_mut().for_each(|s| *s = f64::from(*s as f32));
    }
    let timesteps = sigmas.iter().take(sigmas.len() - 1).copied().collect();
    let levels = levels(&Grid { timesteps, sigmas }, Level::exploding);
    let preconditioning = Preconditioning::Score { unit: ScoreUnit::MinusEps };
    let path = Path { levels: &levels, prediction: setup.prediction(), preconditioning, initial_scale: top };
    let churn = Churn { s_churn: s.s_churn, s_tmin: s.s_min, s_tmax: s.s_max, s_noise: s.s_noise };
    churned_heun("Karras VE", &path, churn, |sigma| sigma)
}
