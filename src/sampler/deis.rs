//! DEIS: exponential integrators with polynomials in ln rho, rho = sigma / alpha (Zhang and Chen 2023).

use alloc::vec::Vec;

use super::dpm_solver::{MultistepOptions, intervals, multistep_order, preserving};
use super::path::Path;
use super::plan::{Call, Mix, Of, Plan, Update};
use super::setup::Setup;
use crate::error::{Result, ensure};
use crate::schedule::{GridEnd, Whole};

/// DEIS of order 1 to 3: x_s / alpha_s = x / alpha + sum_i C_i eps_i, with C_i the integral over rho of the Lagrange
/// polynomial in ln rho through the levels of the last outputs.
///
/// `options` says the order and whether short runs end with lower ones. It converges at that order once earlier outputs
/// are there; a whole run at order 2 at most, since its first step is of first order (`tests/references/order.rs`).
/// Errors: as [`Plan::new`]; kind `InvalidArgument` for another order.
pub fn deis(path: &Path<'_>, options: &MultistepOptions) -> Result<Plan> {
    let order = options.solver_order;
    ensure!((1..=3).contains(&order), InvalidArgument, "solver_order is {order}, expected 1 to 3");
    let rho = |i: usize| path.levels.get(i).map_or(f64::NAN, |l| l.sigma / l.alpha);
    let n = path.len();
    let mut calls = Vec::with_capacity(n);
    for (i, t, s) in path.steps()? {
        let updates = (0..order.min(i + 1)).map(|done| {
            let order_now = multistep_order(options, n, i, done);
            let nodes: Vec<f64> = (0..order_now).map(|k| rho(i - k)).collect();
            let mut mean = Mix::of(&[(Of::X, s.alpha / t.alpha)]);
            for (k, weight) in weights(&nodes, rho(i + 1)).into_iter().enumerate() {
                let of = if k == 0 { Of::Eps } else { Of::History(k - 1) };
                mean = mean.plus(&Mix::of(&[(of, s.alpha * weight)]));
            }
            let keep = [Of::Eps, Of::History(0)].into_iter().take(order - 1).map(Mix::just).collect();
            Update { mean, keep }
        });
        calls.push(path.call(Call { updates: updates.collect(), ..Call::new(t, s, Mix::default()) }));
    }
    Plan::new("DEIS", path.prediction, order - 1, path.initial_scale, calls)
}

/// The integrals from nodes[0] to `to` of Lagrange's polynomials in ln rho, at most of degree 2.
fn weights(nodes: &[f64], to: f64) -> Vec<f64> {
    let from = nodes.first().copied().unwrap_or(to);
    let log = libm::log;
    // Integrals of 1, ln rho and (ln rho)^2.
    let powers = |rho: f64| [rho, rho * (log(rho) - 1.0), rho * (log(rho) * log(rho) - 2.0 * log(rho) + 2.0)];
    let (a, b) = (powers(from), powers(to));
    let integral = |k: usize| b.get(k).zip(a.get(k)).map_or(0.0, |(b, a)| b - a);
    let logs: Vec<f64> = nodes.iter().map(|r| log(*r)).collect();
    let of = |j: usize, own: f64| {
        let others: Vec<f64> = logs.iter().enumerate().filter(|(k, _)| *k != j).map(|(_, l)| *l).collect();
        let scale: f64 = others.iter().map(|l| own - l).product();
        // The product over the others of (ln rho - l), expanded.
        let sum = match others.as_slice() {
            [] => integral(0),
            [p] => integral(1) - p * integral(0),
            [p, q, ..] => integral(2) - (p + q) * integral(1) + p * q * integral(0),
        };
        sum / scale
    };
    logs.iter().enumerate().map(|(j, own)| of(j, *own)).collect()
}

/// `DEISMultistepScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    let options = preserving(setup);
    intervals(setup, Whole::RoundedOrCut, GridEnd::Smallest, setup.config.thresholding, |path| deis(path, &options))
}
