//! Heun's method of second order on the probability flow in sigma (Karras et al. 2022, algorithm 1).

use alloc::vec;
use alloc::vec::Vec;

use super::PredictionType;
use super::euler::{points, with_path};
use super::options::Setup;
use super::path::Path;
use super::plan::{Call, Mix, Of, Plan, Update};
use crate::error::Result;
use crate::schedule::Whole;

/// Heun's method: two calls a step, but one for a step that ends without noise. With d = (x - x_0) / sigma, the first call goes to
/// x + h d and the second from there back to x and on by h (d + d') / 2.
///
/// The first call's x is no state of the chain ([`Sampler::settles`](super::Sampler::settles) is false).
pub fn heun(name: &'static str, path: &Path<'_>) -> Result<Plan> {
    let mut calls = Vec::with_capacity(2 * path.len());
    for (_, t, s) in path.steps()? {
        let (ratio, h) = (s.sigma / t.sigma, s.sigma - t.sigma);
        let slope = |sigma: f64| Mix::of(&[(Of::X, 1.0 / sigma), (Of::X0, -1.0 / sigma)]);
        let nothing = || vec![Mix::default(); 2];
        let euler = Mix::of(&[(Of::X, ratio), (Of::X0, 1.0 - ratio)]);
        if s.sigma == 0.0 {
            let update = Update { mean: euler, keep: nothing() };
            calls.push(path.call(Call { updates: vec![update], ..Call::new(t, s, Mix::default()) }));
            continue;
        }
        let first = Update { mean: euler, keep: vec![Mix::just(Of::X), slope(t.sigma)] };
        calls.push(path.call(Call { updates: vec![first], settles: false, ..Call::new(t, s, Mix::default()) }));
        let mean = Mix::of(&[(Of::History(0), 1.0), (Of::History(1), h / 2.0)]).plus(&slope(s.sigma).scaled(h / 2.0));
        let second = Update { mean, keep: nothing() };
        calls.push(path.call(Call { updates: vec![second], ..Call::new(s, s, Mix::default()) }));
    }
    Plan::new(name, path.prediction, 2, path.initial_scale, calls)
}

/// `HeunDiscreteScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    use PredictionType::{Epsilon, Sample, VPrediction};
    setup.expect_prediction(&[Epsilon, Sample, VPrediction])?;
    let grid = points(setup, Whole::No)?;
    with_path(setup, &grid, |path| heun("Heun", path))
}
