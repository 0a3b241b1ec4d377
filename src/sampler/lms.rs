//! Linear multistep on the probability flow in sigma (k-diffusion's LMS).

use alloc::vec;
use alloc::vec::Vec;

use super::PredictionType;
use super::euler::{points, with_path};
use super::path::Path;
use super::plan::{Call, Mix, Of, Plan, Update};
use super::setup::Setup;
use crate::error::{Result, ensure};
use crate::schedule::Whole;

/// Adams-Bashforth of up to `order` slopes (1 to 4): x_s = x + the integral from sigma to sigma_s of the polynomial
/// through the last slopes d = (x - x_0) / sigma. A run begins with as many as there are, so that it converges as a
/// whole at order 2 at most, after that at `order` (`tests/references/order.rs`).
///
/// Errors: kind `InvalidArgument` for another order; as [`Plan::new`].
pub fn lms(path: &Path<'_>, order: usize) -> Result<Plan> {
    ensure!((1..=4).contains(&order), InvalidArgument, "linear multistep of order {order}, expected 1 to 4");
    let sigma = |i: usize| path.levels.get(i).map_or(0.0, |l| l.sigma);
    let mut calls = Vec::with_capacity(path.len());
    for (i, t, s) in path.steps()? {
        let slope = Mix::of(&[(Of::X, 1.0 / t.sigma), (Of::X0, -1.0 / t.sigma)]);
        let updates = (0..order.min(i + 1)).map(|done| {
            let sigmas: Vec<f64> = (0..=done).map(|k| sigma(i - k)).collect();
            let mut mean = Mix::just(Of::X);
            for (k, weight) in weights(&sigmas, t.sigma, s.sigma).into_iter().enumerate() {
                mean = match k {
                    0 => mean.plus(&slope.clone().scaled(weight)),
                    _ => mean.plus(&Mix::of(&[(Of::History(k - 1), weight)])),
                };
            }
            let older = (1..order - 1).map(|k| Mix::just(Of::History(k - 1)));
            let keep = core::iter::once(slope.clone()).chain(older).take(order - 1).collect();
            Update { mean, keep }
        });
        calls.push(path.call(Call { updates: updates.collect(), ..Call::new(t, s, Mix::default()) }));
    }
    Plan::new("LMS", path.prediction, order - 1, path.initial_scale, calls)
}

/// The integrals from `from` to `to` of Lagrange's polynomials over `nodes`, at most four: by Gauss's rule of two
/// points, which is exact for their degree.
fn weights(nodes: &[f64], from: f64, to: f64) -> Vec<f64> {
    let (middle, half) = ((from + to) / 2.0, (to - from) / 2.0);
    let mut out = vec![0.0; nodes.len()];
    for point in [-1.0, 1.0] {
        let tau = middle + half * point / libm::sqrt(3.0);
        for (j, (out, a)) in out.iter_mut().zip(nodes).enumerate() {
            let others = nodes.iter().enumerate().filter(|(k, _)| *k != j);
            *out += half * others.map(|(_, b)| (tau - b) / (a - b)).product::<f64>();
        }
    }
    out
}

/// `LMSDiscreteScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    use PredictionType::{Epsilon, Sample, VPrediction};
    setup.expect_prediction(&[Epsilon, Sample, VPrediction])?;
    let grid = points(setup, Whole::No)?;
    with_path(setup, &grid, |path| lms(path, setup.options.order.unwrap_or(4)))
}
