//! The singlestep form: a step of order k makes k calls, of which each gives an x of its own.

use alloc::vec;
use alloc::vec::Vec;

use super::multistep::{end, intervals, preserving};
use super::{Factors, MultistepOptions, difference, target};
use crate::error::{Result, ensure};
use crate::sampler::path::Path;
use crate::sampler::plan::{Call, CallNoise, Mix, Of, Plan, Update};
use crate::sampler::setup::Setup;
use crate::sampler::{AlgorithmType, FinalSigmas, SolverType};
use crate::schedule::Whole;

/// DPM-Solver(++) by single steps: a step of order k goes over k levels of the path, first with order 1 to the second
/// of them, then from the same x with order 2 to the third, and so on. What stands in between is no state of the chain.
///
/// `orders` has for each call its order: 1, or one more than the call's before it.
///
/// Order of convergence (`tests/references/order.rs`): k for rounds of k calls, and 2 where the last call is of first
/// order, as diffusers has it at a level without noise. The stochastic form has weak order 1 in all of them: what it
/// draws at a call in between is noise in the output that it takes a difference of.
///
/// Errors: kind `InvalidArgument` for orders that are no such list or not as many as there are steps; as
/// [`dpm_solver_multistep`](super::dpm_solver_multistep).
pub fn dpm_solver_singlestep(path: &Path<'_>, options: &MultistepOptions, orders: &[usize]) -> Result<Plan> {
    let &MultistepOptions { algorithm_type, solver_type, .. } = options;
    let n = path.len();
    let follows = orders.windows(2).all(|w| matches!(w, [a, b] if *b == 1 || *b == a + 1));
    ensure!(
        orders.len() == n && orders.first() == Some(&1) && follows && orders.iter().all(|o| *o <= 3),
        InvalidArgument,
        "{} orders for {n} steps, expected one a step: 1, 2, 3 or fewer, again and again",
        orders.len()
    );
    let m0 = Mix::just(target(algorithm_type));
    // The history is x at the start of the step, and the outputs since, the last first.
    let history = |i: usize| Mix::just(Of::History(i));
    let mut calls = Vec::with_capacity(n);
    for (i, t, s) in path.steps()? {
        let order = orders.get(i).copied().unwrap_or(1);
        let start = i + 1 - order;
        let f = Factors::new(options, path, start, i + 1)?;
        let lambda = |k: usize| path.lambda(k) - path.lambda(start);
        let h = lambda(i + 1);
        let begin = if order == 1 { Mix::just(Of::X) } else { history(0) };
        let x = begin.clone().scaled(f.x);
        let mean = match order {
            1 => x.plus(&m0.clone().scaled(f.d0)),
            2 => {
                let first = history(1);
                let slope = difference(&m0, &first, lambda(i) / h);
                x.plus(&first.scaled(f.d0)).plus(&slope.scaled(f.d1(solver_type)))
            }
            _ => {
                let (first, second) = (history(2), history(1));
                let (r0, r1) = (lambda(i) / h, lambda(i - 1) / h);
                let (near, far) = (difference(&second, &first, r1), difference(&m0, &first, r0));
                let x = x.plus(&first.scaled(f.d0));
                match solver_type {
                    SolverType::Heun => {
                        let slope = difference(&near.clone().scaled(r0), &far.clone().scaled(r1), r0 - r1);
                        let bend = difference(&far, &near, r0 - r1).scaled(2.0);
                        x.plus(&slope.scaled(f.trapezoid)).plus(&bend.scaled(f.d2))
                    }
                    _ => x.plus(&far.scaled(f.trapezoid)),
                }
            }
        };
        let older = if order == 1 { Mix::default() } else { history(1) };
        let update = Update { mean, keep: vec![begin, m0.clone(), older].into() };
        let noise = match algorithm_type {
            AlgorithmType::SdeDpmSolver | AlgorithmType::SdeDpmSolverPlusPlus => CallNoise::Std(f.std),
            _ => CallNoise::None,
        };
        let settles = orders.get(i + 1).is_none_or(|next| *next == 1);
        calls.push(path.call(Call { updates: vec![update].into(), noise, settles, ..Call::new(t, s, Mix::default()) }));
    }
    Plan::new("DPM-Solver singlestep", path.prediction, 3, path.initial_scale, calls)
}

/// The order of each call, as diffusers and the authors' code distribute a number of calls.
fn orders(steps: usize, order: usize, lower_order_final: bool, zero: bool) -> Vec<usize> {
    let round = |rounds: usize| (1..=order).collect::<Vec<_>>().repeat(rounds);
    let mut orders = match (order, lower_order_final) {
        (3, true) => {
            let (rounds, rest): (usize, &[usize]) = match steps % 3 {
                0 => (steps / 3 - 1, &[1, 2, 1]),
                1 => (steps / 3, &[1]),
                _ => (steps / 3, &[1, 2]),
            };
            [round(rounds), rest.to_vec()].concat()
        }
        (2, true) => match steps % 2 {
            0 => [round(steps / 2 - 1), vec![1, 1]].concat(),
            _ => [round(steps / 2), vec![1]].concat(),
        },
        _ => round(steps / order),
    };
    // A step to a level without noise is exact in first order.
    if let Some(last) = orders.last_mut().filter(|_| zero) {
        *last = 1;
    }
    orders
}

/// `DPMSolverSinglestepScheduler`.
pub(in crate::sampler) fn build(setup: &Setup<'_>) -> Result<Plan> {
    let (g, s) = (&setup.config.grid, &setup.config.solver);
    ensure!((1..=3).contains(&s.solver_order), InvalidArgument, "solver_order is {}, expected 1 to 3", s.solver_order);
    let options = preserving(setup);
    let zero = g.final_sigmas_type == FinalSigmas::Zero;
    // Its timesteps are always spread evenly.
    let config = crate::sampler::SchedulerConfig {
        timestep_spacing: crate::schedule::TimestepSpacing::Linspace,
        steps_offset: 0,
        ..setup.config.clone()
    };
    let setup = Setup { config: &config, options: setup.options, model_clip: setup.model_clip };
    intervals(&setup, Whole::RoundedOrCut, end(&setup)?, config.thresholding, |path| {
        let n = path.len();
        let lower = s.lower_order_final || !n.is_multiple_of(s.solver_order) || zero;
        dpm_solver_singlestep(path, &options, &orders(n, s.solver_order, lower, zero))
    })
}
