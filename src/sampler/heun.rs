//! Heun's method of second order on the probability flow in sigma (Karras et al. 2022, algorithm 1).

use alloc::vec;
use alloc::vec::Vec;

use super::PredictionType;
use super::euler::{points, with_path};
use super::path::Path;
use super::plan::{Call, Mix, Of, Plan, Update};
use super::setup::Setup;
use crate::error::Result;
use crate::schedule::{Level, Whole};

/// Heun's method: two calls a step, but one for a step that ends without noise. With d = (x - x_0) / sigma, the first
/// call goes to x + h d and the second from there back to x and on by h (d + d') / 2.
///
/// The first call's x is no state of the chain ([`Sampler::settles`](super::Sampler::settles) is false).
pub fn heun(name: &'static str, path: &Path<'_>) -> Result<Plan> {
    let mut calls = Vec::with_capacity(2 * path.len());
    for (_, t, s) in path.steps()? {
        calls.extend(step(path, t, s));
    }
    Plan::new(name, path.prediction, HISTORY, path.initial_scale, calls)
}

/// Arrays that a step keeps from its first call to its second.
pub(super) const HISTORY: usize = 1;

/// The calls of one step.
pub(super) fn step(path: &Path<'_>, t: Level, s: Level) -> Vec<Call> {
    let (ratio, half) = (s.sigma / t.sigma, (s.sigma - t.sigma) / 2.0);
    let between = |ratio: f64| Mix::of(&[(Of::X, ratio), (Of::X0, 1.0 - ratio)]);
    let call = |level, mean, keep| {
        path.call(Call {
            updates: vec![Update { mean, keep: vec![keep].into() }].into(),
            ..Call::new(level, s, Mix::default())
        })
    };
    if s.sigma == 0.0 {
        return vec![call(t, between(ratio), Mix::default())];
    }
    // x + h d / 2 is kept, which is no difference of large numbers.
    let first = Call { settles: false, ..call(t, between(ratio), between((1.0 + ratio) / 2.0)) };
    let mean = Mix::of(&[(Of::History(0), 1.0), (Of::X, half / s.sigma), (Of::X0, -half / s.sigma)]);
    vec![first, call(s, mean, Mix::default())]
}

/// `HeunDiscreteScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    use PredictionType::{Epsilon, Sample, VPrediction};
    setup.expect_prediction(&[Epsilon, Sample, VPrediction])?;
    let grid = points(setup, Whole::No)?;
    with_path(setup, &grid, |path| heun("Heun", path))
}
