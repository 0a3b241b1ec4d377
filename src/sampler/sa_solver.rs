//! SA-Solver: stochastic Adams methods, a predictor and a corrector (Xue et al. 2023).

use alloc::vec;
use alloc::vec::Vec;

use super::AlgorithmType;
use super::dpm_solver::intervals;
use super::path::Path;
use super::plan::{Call, CallNoise, Mix, Of, Plan, Update};
use super::setup::Setup;
use crate::error::{Result, ensure};
use crate::schedule::{GridEnd, Whole};

/// The options of [`sa_solver`]. Names and defaults are those of `SASolverScheduler`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SaSolverOptions {
    /// 1 to 4.
    pub predictor_order: usize,
    /// 1 to 4.
    pub corrector_order: usize,
    /// Whether it works on x_0; if not, on eps.
    pub predict_x0: bool,
    /// The last steps of a run are of lower order.
    pub lower_order_final: bool,
}

impl Default for SaSolverOptions {
    fn default() -> Self {
        Self { predictor_order: 2, corrector_order: 2, predict_x0: true, lower_order_final: true }
    }
}

/// SA-Solver with the noise of the process where `tau(timestep)` is 1, and the flow where it is 0.
///
/// Each call first corrects the x at which it was made, with the same noise that led there (what parts that x from its
/// mean, which the history keeps), and then predicts the next. Weights are the integrals of exp((1 + tau^2) lambda)
/// times Lagrange's polynomials (Xue et al. 2023, eq. 14 and 17), with the authors' change in the second order.
///
/// Order of convergence (`tests/references/order.rs`), predictor and corrector of the same order: without noise that
/// order, once earlier outputs are there, and of a whole run 2 at most; with noise weak order 1 for the first, 2 for
/// higher ones, on a Gaussian prior.
///
/// Errors: kind `InvalidArgument` for another order, or for a coefficient that is not finite.
pub fn sa_solver(path: &Path<'_>, options: &SaSolverOptions, tau: impl Fn(f64) -> f64) -> Result<Plan> {
    let &SaSolverOptions { predictor_order, corrector_order, predict_x0, lower_order_final } = options;
    for (name, order) in [("predictor_order", predictor_order), ("corrector_order", corrector_order)] {
        ensure!((1..=4).contains(&order), InvalidArgument, "{name} is {order}, expected 1 to 4");
    }
    let kept = predictor_order.max(corrector_order - 1).max(1);
    let m = Mix::just(if predict_x0 { Of::X0 } else { Of::Eps });
    // The history is the corrected x of the step before, the mean of the x that it led to, and the outputs, the last
    // first.
    let history = |i: usize| Mix::just(Of::History(i));
    let output = |i: usize| Mix::just(Of::History(i + 2));
    let n = path.len();
    let mut calls = Vec::with_capacity(n);
    for (i, t, s) in path.steps()? {
        let step = Stage { path, from: i, tau: tau(t.timestep), predict_x0 };
        let mut updates = Vec::new();
        for done in 0..=kept.min(i) {
            let x = if done > 0 {
                // The order that the step before chose.
                let most = if lower_order_final { corrector_order.min(n - (i - 1) + 1) } else { corrector_order };
                let order = most.min(done + 1);
                let outputs: Vec<Mix> = core::iter::once(m.clone()).chain((0..order - 1).map(output)).collect();
                let before = path.levels.get(i - 1).map_or(0.0, |l| l.timestep);
                let stage = Stage { path, from: i - 1, tau: tau(before), predict_x0 };
                let noise = Mix::just(Of::X).plus(&history(1).scaled(-1.0));
                stage.step(&history(0), &outputs, true).plus(&noise)
            } else {
                Mix::just(Of::X)
            };
            let most = if lower_order_final { predictor_order.min(n - i) } else { predictor_order };
            let order = most.min(done + 1);
            let outputs: Vec<Mix> = core::iter::once(m.clone()).chain((0..order - 1).map(output)).collect();
            let mean = step.step(&x, &outputs, false);
            let keep = [x, mean.clone(), m.clone()].into_iter().chain((0..kept - 1).map(output)).collect();
            updates.push(Update { mean, keep });
        }
        let noise = CallNoise::Std(step.std());
        calls.push(path.call(Call { updates: updates.into(), noise, ..Call::new(t, s, Mix::default()) }));
    }
    Plan::new("SA-Solver", path.prediction, kept + 2, path.initial_scale, calls)
}

/// A step from a level to the next.
struct Stage<'a> {
    path: &'a Path<'a>,
    from: usize,
    tau: f64,
    predict_x0: bool,
}

impl Stage<'_> {
    fn ends(&self) -> [(f64, f64, f64); 2] {
        let of = |i: usize| self.path.levels.get(i).map_or((f64::NAN, f64::NAN), |l| (l.alpha, l.sigma));
        let ((a, s), (b, t)) = (of(self.from), of(self.from + 1));
        [(a, s, self.path.lambda(self.from)), (b, t, self.path.lambda(self.from + 1))]
    }

    fn std(&self) -> f64 {
        let [(_, _, from), (_, sigma, to)] = self.ends();
        let h = to - from;
        match self.predict_x0 {
            true => sigma * libm::sqrt(-libm::expm1(-2.0 * self.tau * self.tau * h)),
            false => self.tau * sigma * libm::sqrt(libm::expm1(2.0 * h)),
        }
    }

    /// The mean, from `x` and outputs: those at the levels `from`, `from` - 1, ... or, where it `corrects`, `from` + 1,
    /// `from`, ...
    fn step(&self, x: &Mix, outputs: &[Mix], corrects: bool) -> Mix {
        let [(a0, s0, from), (alpha, sigma, to)] = self.ends();
        let (h, c) = (to - from, 1.0 + self.tau * self.tau);
        let last = self.from + usize::from(corrects);
        let nodes: Vec<f64> = (0..outputs.len()).map(|k| self.path.lambda(last - k)).collect();
        let mut weights = self.weights(&nodes, from, to);
        if let (true, [first, second], [n0, n1]) = (self.predict_x0, weights.as_mut_slice(), nodes.as_slice()) {
            // The authors' change: what is left of the second order, without the curvature of the exponential.
            let rest = h * h / 2.0 - (h * c - 1.0 + libm::exp(-c * h)) / (c * c);
            let change = libm::exp(c * to) * rest / if corrects { h } else { n0 - n1 };
            *first += change;
            *second -= change;
        }
        let (of_x, of_output) = match self.predict_x0 {
            true => {
                (libm::exp(-self.tau * self.tau * h) * sigma / s0, c * sigma * libm::exp(-self.tau * self.tau * to))
            }
            false => (alpha / a0, -c * alpha),
        };
        let x = x.clone().scaled(of_x);
        outputs.iter().zip(weights).fold(x, |sum, (m, w)| sum.plus(&m.clone().scaled(of_output * w)))
    }

    /// The integrals of exp(c lambda) (on x_0) or exp(-lambda) (on eps) times Lagrange's polynomials.
    fn weights(&self, nodes: &[f64], from: f64, to: f64) -> Vec<f64> {
        let c = if self.predict_x0 { 1.0 + self.tau * self.tau } else { -1.0 };
        // Integrals of exp(c l) l^k by parts: I_k = [l^k exp(c l)] / c - k / c I_(k - 1).
        let mut integrals = Vec::with_capacity(nodes.len());
        let mut last = 0.0;
        for k in 0..nodes.len() {
            let power = |l: f64| libm::pow(l, k as f64) * libm::exp(c * l);
            last = (power(to) - power(from)) / c - k as f64 / c * last;
            integrals.push(last);
        }
        let of = |j: usize, own: f64| {
            // The polynomial's coefficients, from the constant up.
            let mut poly = vec![1.0];
            let mut scale = 1.0;
            for other in nodes.iter().enumerate().filter(|(k, _)| *k != j).map(|(_, l)| *l) {
                let shifted: Vec<f64> = core::iter::once(0.0).chain(poly.iter().copied()).collect();
                poly.push(0.0);
                poly = poly.iter().zip(shifted).map(|(p, s)| s - other * p).collect();
                scale *= own - other;
            }
            poly.iter().zip(&integrals).map(|(p, i)| p * i).sum::<f64>() / scale
        };
        nodes.iter().enumerate().map(|(j, own)| of(j, *own)).collect()
    }
}

/// `SASolverScheduler`, whose noise acts between the timesteps 200 and 800.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    let s = &setup.config.solver;
    let options = SaSolverOptions {
        predictor_order: s.predictor_order,
        corrector_order: s.corrector_order,
        predict_x0: s.algorithm_type != AlgorithmType::NoisePrediction,
        lower_order_final: s.lower_order_final,
    };
    let tau = |t: f64| if (200.0..=800.0).contains(&t) { 1.0 } else { 0.0 };
    intervals(setup, Whole::RoundedOrCut, GridEnd::Smallest, setup.config.thresholding, |path| {
        sa_solver(path, &options, tau)
    })
}
