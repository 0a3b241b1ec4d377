//! UniPC: a predictor of any order, and a corrector that needs no call of its own (Zhao et al. 2023).

use alloc::vec;
use alloc::vec::Vec;

use super::dpm_solver::intervals;
use super::path::Path;
use super::plan::{Call, MAX_HISTORY, Mix, Of, Plan, Update};
use super::setup::Setup;
use super::{FinalSigmas, SolverType};
use crate::error::{Result, ensure};
use crate::schedule::{GridEnd, Whole};

/// The options of [`unipc`]. Names and defaults are those of `UniPCMultistepScheduler`.
#[derive(Clone, Debug, PartialEq)]
pub struct UniPcOptions {
    /// 1 to 5.
    pub solver_order: usize,
    /// B(h) = h (bh1) or exp(h) - 1 (bh2).
    pub solver_type: SolverType,
    /// Whether it works on x_0; if not, on eps.
    pub predict_x0: bool,
    /// The last steps of a run are of lower order.
    pub lower_order_final: bool,
    /// Steps, from 0, whose result the next call does not correct.
    pub disable_corrector: Vec<u32>,
}

impl Default for UniPcOptions {
    fn default() -> Self {
        Self {
            solver_order: 2,
            solver_type: SolverType::Bh2,
            predict_x0: true,
            lower_order_final: true,
            disable_corrector: Vec::new(),
        }
    }
}

/// UniPC: each call first corrects the x at which it was made, by its own output, and then predicts the next.
///
/// With hh = -h (on x_0) or h (on eps), x_s = x' - alpha_s B(hh) sum_k rho_k D_k, where x' is the step of first order,
/// D_k the divided differences of the outputs to the last one and rho solves R rho = b (Zhao et al. 2023, eq. 5 to 9).
///
/// Order of convergence (`tests/references/order.rs`): one more than `solver_order`, which is the predictor's, once
/// earlier outputs are there. A whole run is of order 2 at most: its first step is of first order, and its last with
/// `lower_order_final`.
///
/// Errors: kind `InvalidArgument` for another order, or for a coefficient that is not finite; kind `Unsupported` for
/// another `solver_type`.
pub fn unipc(path: &Path<'_>, options: &UniPcOptions) -> Result<Plan> {
    let order = options.solver_order;
    ensure!(
        (1..MAX_HISTORY).contains(&order),
        InvalidArgument,
        "solver_order is {order}, expected 1 to {}",
        MAX_HISTORY - 1
    );
    ensure!(
        matches!(options.solver_type, SolverType::Bh1 | SolverType::Bh2),
        Unsupported,
        "UniPC with solver_type {:?}, expected bh1 or bh2",
        options.solver_type
    );
    let m = Mix::just(if options.predict_x0 { Of::X0 } else { Of::Eps });
    // The history is the corrected x of the step before, and the outputs, the last first.
    let history = |i: usize| Mix::just(Of::History(i));
    let n = path.len();
    let order_at = |i: usize, done: usize| {
        let most = if options.lower_order_final { order.min(n - i) } else { order };
        most.min(done + 1)
    };
    let mut calls = Vec::with_capacity(n);
    for (i, t, s) in path.steps()? {
        let mut updates = Vec::new();
        for done in 0..=order.min(i) {
            let corrects = done > 0 && !options.disable_corrector.iter().any(|&d| d as usize + 1 == i);
            let x = if corrects {
                let older: Vec<Mix> = (1..order_at(i - 1, done - 1)).map(|k| history(k + 1)).collect();
                step(path, options, i - 1, &history(0), &history(1), &older, Some(&m))?
            } else {
                Mix::just(Of::X)
            };
            let older: Vec<Mix> = (1..order_at(i, done)).map(history).collect();
            let mean = step(path, options, i, &x, &m, &older, None)?;
            let keep = [x, m.clone()].into_iter().chain((1..order).map(history)).collect();
            updates.push(Update { mean, keep });
        }
        calls.push(path.call(Call { updates: updates.into(), ..Call::new(t, s, Mix::default()) }));
    }
    Plan::new("UniPC", path.prediction, order + 1, path.initial_scale, calls)
}

/// The step from level `i` to the next: from `x`, with the output `m0` at level `i`, `older` ones before it and, for a
/// correction, `new`, the output at the next.
fn step(
    path: &Path<'_>,
    options: &UniPcOptions,
    i: usize,
    x: &Mix,
    m0: &Mix,
    older: &[Mix],
    new: Option<&Mix>,
) -> Result<Mix> {
    let (Some(from), Some(to)) = (path.levels.get(i), path.levels.get(i + 1)) else { return Ok(x.clone()) };
    let h = path.lambda(i + 1) - path.lambda(i);
    let hh = if options.predict_x0 { -h } else { h };
    let phi_1 = libm::expm1(hh);
    let b_h = if options.solver_type == SolverType::Bh1 { hh } else { phi_1 };
    let (of_x, scale) = match options.predict_x0 {
        true => (to.sigma / from.sigma, to.alpha),
        false => (to.alpha / from.alpha, to.sigma),
    };
    // Where sigma_s is 0, h is infinite and sigma_s (e^h - 1) its limit, a step to the predicted x_0. diffusers
    // computes NaN there.
    let of_m0 = match to.sigma == 0.0 && !options.predict_x0 {
        true => to.alpha * from.sigma / from.alpha,
        false => scale * phi_1,
    };
    let first = x.clone().scaled(of_x).plus(&m0.clone().scaled(-of_m0));
    let mut nodes: Vec<f64> = (1..=older.len()).map(|k| (path.lambda(i - k) - path.lambda(i)) / h).collect();
    nodes.extend(new.map(|_| 1.0));
    let outputs = older.iter().chain(new);
    let rhos = match nodes.len() {
        0 => return Ok(first),
        // What the authors take where there is one unknown.
        1 => vec![0.5],
        _ => rhos(&nodes, hh, b_h),
    };
    let minus_m0 = m0.clone().scaled(-1.0);
    Ok(outputs
        .zip(nodes.iter().zip(rhos))
        .fold(first, |sum, (m, (r, rho))| sum.plus(&m.clone().plus(&minus_m0).scaled(-scale * b_h * rho / r))))
}

/// Solves sum_k r_k^(j - 1) rho_k = j! phi_(j + 1)(hh) / B, j = 1 ..: exact for polynomials, eq. 9.
fn rhos(nodes: &[f64], hh: f64, b_h: f64) -> Vec<f64> {
    let n = nodes.len();
    let (mut phi, mut factorial) = (libm::expm1(hh) / hh - 1.0, 1.0);
    let mut rows = Vec::with_capacity(n);
    for j in 1..=n {
        let powers = nodes.iter().map(|r| libm::pow(*r, (j - 1) as f64));
        rows.push(powers.chain([phi * factorial / b_h]).collect::<Vec<f64>>());
        factorial *= (j + 1) as f64;
        phi = phi / hh - 1.0 / factorial;
    }
    solve(rows)
}

/// Gauss's elimination with pivots by row, of rows with their right side behind them. NaN where there is no solution.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    let at = |rows: &[Vec<f64>], i: usize, j: usize| rows.get(i).and_then(|r| r.get(j)).copied().unwrap_or(f64::NAN);
    for k in 0..n {
        let pivot = (k..n).max_by(|&a, &b| at(&rows, a, k).abs().total_cmp(&at(&rows, b, k).abs())).unwrap_or(k);
        rows.swap(k, pivot);
        let top = rows.get(k).cloned().unwrap_or_default();
        for (i, row) in rows.iter_mut().enumerate() {
            let (Some(&own), Some(&head)) = (row.get(k), top.get(k)) else { continue };
            if i != k {
                row.iter_mut().zip(&top).for_each(|(v, t)| *v -= own / head * t);
            }
        }
    }
    (0..n).map(|i| at(&rows, i, n) / at(&rows, i, i)).collect()
}

/// `UniPCMultistepScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    let (g, s) = (&setup.config.grid, &setup.config.solver);
    let options = UniPcOptions {
        solver_order: s.solver_order,
        solver_type: s.solver_type,
        predict_x0: s.predict_x0,
        lower_order_final: s.lower_order_final,
        disable_corrector: s.disable_corrector.clone(),
    };
    ensure!(
        !(g.use_flow_sigmas && g.spacing()? != Default::default()),
        Unsupported,
        "use_flow_sigmas with a spacing of sigmas by a rule, expected one of both"
    );
    let end = if g.final_sigmas_type == FinalSigmas::Zero { GridEnd::Zero } else { GridEnd::Smallest };
    intervals(setup, Whole::RoundedOrCut, end, false, |path| unipc(path, &options))
}
