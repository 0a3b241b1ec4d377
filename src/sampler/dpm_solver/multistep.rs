//! The multistep form: one call a step, orders by the outputs of earlier steps.

use alloc::vec::Vec;

use super::{Factors, difference, target};
use crate::error::{Result, ensure, err};
use crate::sampler::path::{Path, Preconditioning};
use crate::sampler::plan::{Call, CallNoise, Mix, Of, Plan, Update};
use crate::sampler::setup::{Setup, levels};
use crate::sampler::{AlgorithmType, Compat, FinalSigmas, Prediction, SolverType};
use crate::schedule::{Grid, GridEnd, GridRules, Level, Whole, linspace};

/// The options of [`dpm_solver_multistep`]. Names and defaults are those of `DPMSolverMultistepScheduler`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultistepOptions {
    /// 1 to 3.
    pub solver_order: usize,
    /// Which equation is solved, in x_0 or in eps.
    pub algorithm_type: AlgorithmType,
    /// Which formula of second order: midpoint or Heun.
    pub solver_type: SolverType,
    /// Runs below 15 steps end with a step of second and one of first order.
    pub lower_order_final: bool,
    /// The last step is of first order.
    pub first_order_final: bool,
    /// Whose third order: the authors' code and diffusers take half of the second derivative's term, and converge as
    /// the second order does (`tests/references/order.rs`).
    pub compat: Compat,
}

impl Default for MultistepOptions {
    fn default() -> Self {
        Self {
            solver_order: 2,
            algorithm_type: AlgorithmType::DpmSolverPlusPlus,
            solver_type: SolverType::Midpoint,
            lower_order_final: true,
            first_order_final: false,
            compat: Compat::Diffusers,
        }
    }
}

/// DPM-Solver(++) by multiple steps, or its stochastic form.
///
/// First order: x_s = (sigma_s / sigma) x - alpha_s (exp(-h) - 1) m_0, with m the predicted x_0; of eps: x_s =
/// (alpha_s / alpha) x - sigma_s (exp(h) - 1) m_0. Higher orders add divided differences of earlier m. A step to a
/// level without noise is exact in first order, so `first_order_final` is wanted there.
///
/// Levels may be variance-preserving, variance-exploding or those of a flow.
///
/// Order of convergence (`tests/references/order.rs`): that of `solver_order` once earlier outputs are there, but 2 for
/// the third order of [`Compat::Diffusers`]. A whole run is of order 2 at most, since its first step and, with
/// `first_order_final`, its last have the error of first order, which is of the square of their length. The stochastic
/// forms: weak order 1 in first order, 2 in second and (fixed) third, on a Gaussian prior.
///
/// Errors: kind `InvalidArgument` for another order or a coefficient that is not finite; kind `Unsupported` for an
/// algorithm or a formula of another solver, or the third order of `sde-dpmsolver`, which has none.
pub fn dpm_solver_multistep(name: &'static str, path: &Path<'_>, options: &MultistepOptions) -> Result<Plan> {
    solve(name, path, path.steps()?, options)
}

/// The same over steps of whatever direction.
pub(super) fn solve(
    name: &'static str,
    path: &Path<'_>,
    steps: impl Iterator<Item = (usize, Level, Level)>,
    options: &MultistepOptions,
) -> Result<Plan> {
    let &MultistepOptions { solver_order, algorithm_type, solver_type, .. } = options;
    ensure!((1..=3).contains(&solver_order), InvalidArgument, "solver_order is {solver_order}, expected 1 to 3");
    ensure!(
        solver_order < 3 || algorithm_type != AlgorithmType::SdeDpmSolver,
        Unsupported,
        "sde-dpmsolver has no third order, expected solver_order 1 or 2"
    );
    let m0 = Mix::just(target(algorithm_type));
    let history = |i: usize| Mix::just(Of::History(i));
    let n = path.len();
    let mut calls = Vec::with_capacity(n);
    for (i, t, s) in steps {
        let f = Factors::new(options, path, i, i + 1)?;
        let (lambda, h) = (path.lambda(i), path.lambda(i + 1) - path.lambda(i));
        let mut updates = Vec::new();
        for done in 0..solver_order.min(i + 1) {
            let mean = Mix::of(&[(Of::X, f.x)]).plus(&m0.clone().scaled(f.d0));
            let mean = match multistep_order(options, n, i, done) {
                1 => mean,
                2 => {
                    let r0 = (lambda - path.lambda(i - 1)) / h;
                    mean.plus(&difference(&m0, &history(0), r0).scaled(f.d1(solver_type)))
                }
                _ => {
                    let (l1, l2) = (path.lambda(i - 1), path.lambda(i - 2));
                    let (r0, r1) = ((lambda - l1) / h, (l1 - l2) / h);
                    let (near, far) = (difference(&m0, &history(0), r0), difference(&history(0), &history(1), r1));
                    let bend = difference(&near, &far, r0 + r1);
                    // h^2 / 2 times the second derivative; the term wants h^2 times it.
                    let whole = if options.compat == Compat::Fixed { 2.0 } else { 1.0 };
                    let slope = near.plus(&bend.clone().scaled(r0));
                    mean.plus(&slope.scaled(f.trapezoid)).plus(&bend.scaled(whole * f.d2))
                }
            };
            let keep = [m0.clone(), history(0)].into_iter().take(solver_order - 1).collect();
            updates.push(Update { mean, keep });
        }
        // The stochastic forms draw at every step, also where nothing is added at the end: so diffusers draws.
        let noise = match algorithm_type {
            AlgorithmType::SdeDpmSolver | AlgorithmType::SdeDpmSolverPlusPlus => CallNoise::Std(f.std),
            _ => CallNoise::None,
        };
        calls.push(path.call(Call { updates: updates.into(), noise, ..Call::new(t, s, Mix::default()) }));
    }
    Plan::new(name, path.prediction, solver_order - 1, path.initial_scale, calls)
}

/// The order of step `i` of `n` where `done` were made before.
pub(in crate::sampler) fn multistep_order(options: &MultistepOptions, n: usize, i: usize, done: usize) -> usize {
    let short = options.lower_order_final && n < 15;
    let most = match n - i {
        1 if short || options.first_order_final => 1,
        2 if short => 2,
        _ => options.solver_order,
    };
    most.min(done + 1).min(options.solver_order)
}

/// A path over intervals of the training's timesteps, or of a flow, for solvers in lambda.
pub(in crate::sampler) fn intervals<R>(
    setup: &Setup<'_>,
    whole: Whole,
    end: GridEnd,
    rederive_eps: bool,
    run: impl FnOnce(&Path<'_>) -> Result<R>,
) -> Result<R> {
    let g = &setup.config.grid;
    let (grid, of): (Grid, fn(f64, f64) -> Level) = if g.use_flow_sigmas && setup.config.has("use_flow_sigmas") {
        (flow_grid(setup, end)?, Level::flow)
    } else {
        let lambda_min = if setup.config.has("lambda_min_clipped") { g.lambda_min_clipped } else { f64::NEG_INFINITY };
        let range = if setup.config.has("sigma_min") { [g.sigma_max, g.sigma_min] } else { [None, None] };
        (setup.grid(&GridRules { intervals: true, whole, end, range, lambda_min })?, Level::preserving_at)
    };
    let levels = levels(&grid, of);
    let prediction = setup.prediction();
    let prediction = Prediction { rederive_eps: prediction.rederive_eps || rederive_eps, ..prediction };
    run(&Path { levels: &levels, prediction, preconditioning: Preconditioning::None, initial_scale: 1.0 })
}

/// The sigmas of a flow as `DPMSolverMultistepScheduler` and its kin spread them.
fn flow_grid(setup: &Setup<'_>, end: GridEnd) -> Result<Grid> {
    let (n, train) = (setup.count()?, setup.config.num_train_timesteps as f64);
    let mut sigmas: Vec<f64> = match setup.config.class {
        crate::sampler::SamplerKind::UniPc => linspace(1.0, 1.0 / train, n + 1).into_iter().take(n).collect(),
        _ => linspace(1.0, 1.0 / train, n + 1).into_iter().skip(1).rev().map(|a| 1.0 - a).collect(),
    };
    setup.shift(&mut sigmas)?;
    // A first level without any x_0 has no lambda.
    if let Some(first) = sigmas.first_mut().filter(|s| (**s - 1.0).abs() < 1e-6) {
        *first -= 1e-6;
    }
    // The network is told whole numbers.
    let timesteps = sigmas.iter().map(|s| libm::trunc(s * train)).collect();
    sigmas.push(match end {
        GridEnd::Zero => 0.0,
        GridEnd::Smallest => sigmas.last().copied().unwrap_or(0.0),
        GridEnd::FirstTimestep => {
            let first = setup.schedule()?.alpha_bar(0)?;
            libm::sqrt((1.0 - first) / first)
        }
    });
    Ok(Grid { timesteps, sigmas })
}

/// The options of a configuration.
pub(in crate::sampler) fn preserving(setup: &Setup<'_>) -> MultistepOptions {
    let (g, s) = (&setup.config.grid, &setup.config.solver);
    let zero = setup.config.has("final_sigmas_type") && g.final_sigmas_type == FinalSigmas::Zero;
    MultistepOptions {
        solver_order: s.solver_order,
        algorithm_type: s.algorithm_type,
        solver_type: s.solver_type,
        lower_order_final: s.lower_order_final,
        first_order_final: s.euler_at_final || zero,
        compat: setup.options.compat,
    }
}

/// Where the last step of a configuration leads, which must not be sigma 0 for solvers in eps.
pub(super) fn end(setup: &Setup<'_>) -> Result<GridEnd> {
    let zero = setup.config.grid.final_sigmas_type == FinalSigmas::Zero;
    if zero && target(setup.config.solver.algorithm_type) == Of::Eps {
        return Err(err!(
            Unsupported,
            "{} with an algorithm_type in eps and final_sigmas_type zero, expected final_sigmas_type sigma_min",
            setup.config.class.class_name()
        ));
    }
    Ok(if zero { GridEnd::Zero } else { GridEnd::FirstTimestep })
}

/// `DPMSolverMultistepScheduler`.
pub(in crate::sampler) fn build(setup: &Setup<'_>) -> Result<Plan> {
    let cosine = setup.config.beta_schedule == crate::schedule::BetaSchedule::SquaredcosCapV2;
    let whole = if cosine { Whole::Cut } else { Whole::RoundedOrCut };
    let rederive = setup.config.thresholding;
    let options = preserving(setup);
    intervals(setup, whole, end(setup)?, rederive, |path| dpm_solver_multistep("DPM-Solver multistep", path, &options))
}
