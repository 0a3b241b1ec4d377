//! DPM-Solver++ of second order on the reverse stochastic equation with noise at both stages (k-diffusion's DPM++ SDE).

use alloc::vec;
use alloc::vec::Vec;

use crate::error::Result;
use crate::sampler::PredictionType;
use crate::sampler::euler::{ancestral, points, with_path};
use crate::sampler::options::Setup;
use crate::sampler::path::Path;
use crate::sampler::plan::{Call, CallNoise, Mix, Of, Plan, Update};
use crate::schedule::{Level, SigmaTable, Whole};

/// Two calls a step: an ancestral step to the geometric mean of sigma and sigma_s, and from the same x an ancestral step to sigma_s with
/// the x_0 found there. `timestep` tells what the network is told of the level between.
///
/// The noise of both is one Brownian motion's: the second step's increment holds the first's. With W over sigma to the middle of length
/// a and over sigma to sigma_s of length b, the second noise is sqrt(a / b) z_1 + sqrt(1 - a / b) z_2, with z_2 fresh; z_1 is what
/// parts the first call's x from its mean, which the history keeps.
pub fn dpm_solver_sde(path: &Path<'_>, timestep: impl Fn(f64) -> f64) -> Result<Plan> {
    let mut calls = Vec::with_capacity(2 * path.len());
    for (_, t, s) in path.steps()? {
        let to = |x: Of, down: f64| Mix::of(&[(x, down / t.sigma), (Of::X0, 1.0 - down / t.sigma)]);
        if s.sigma == 0.0 {
            let update = Update { mean: to(Of::X, 0.0), keep: vec![Mix::default(); 2] };
            calls.push(path.call(Call { updates: vec![update], ..Call::new(t, s, Mix::default()) }));
            continue;
        }
        let middle = libm::sqrt(t.sigma * s.sigma);
        let stage = |sigma: f64| {
            let up = ancestral(t.sigma, sigma).1.min(sigma);
            (libm::sqrt(sigma * sigma - up * up), up)
        };
        let ((down_1, up_1), (down_2, up_2)) = (stage(middle), stage(s.sigma));
        let between = Level::exploding(timestep(middle), middle);
        let mean = to(Of::X, down_1);
        let first = Update { mean: mean.clone(), keep: vec![Mix::just(Of::X), mean] };
        let noise = CallNoise::Std(up_1);
        calls.push(path.call(Call {
            updates: vec![first],
            noise,
            settles: false,
            ..Call::new(t, between, Mix::default())
        }));
        let shared = (t.sigma - middle) / (t.sigma - s.sigma);
        let of_first = up_2 * libm::sqrt(shared) / up_1;
        let mean = to(Of::History(0), down_2).plus(&Mix::of(&[(Of::X, of_first), (Of::History(1), -of_first)]));
        let second = Update { mean, keep: vec![Mix::default(); 2] };
        let noise = CallNoise::Std(up_2 * libm::sqrt(1.0 - shared));
        calls.push(path.call(Call { updates: vec![second], noise, ..Call::new(between, s, Mix::default()) }));
    }
    Plan::new("DPM-Solver++ SDE", path.prediction, 2, path.initial_scale, calls)
}

/// `DPMSolverSDEScheduler`.
pub(in crate::sampler) fn build(setup: &Setup<'_>) -> Result<Plan> {
    setup.expect_prediction(&[PredictionType::Epsilon, PredictionType::VPrediction])?;
    let table = SigmaTable::new(&setup.schedule()?);
    let grid = points(setup, Whole::No)?;
    with_path(setup, &grid, |path| dpm_solver_sde(path, |sigma| table.timestep(sigma)))
}
