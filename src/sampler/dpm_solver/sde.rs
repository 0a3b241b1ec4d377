//! DPM-Solver++ of second order on the reverse stochastic equation with noise at both stages (k-diffusion's DPM++ SDE).

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Result, ensure};
use crate::noise::Between;
use crate::sampler::euler::{ancestral, points, with_path};
use crate::sampler::path::Path;
use crate::sampler::plan::{Call, CallNoise, Mix, Of, Plan, Update};
use crate::sampler::setup::Setup;
use crate::sampler::{PredictionType, Sampler};
use crate::schedule::{Level, Whole};

const NAME: &str = "DPM-Solver++ SDE";

/// Two calls a step: an ancestral step to the geometric mean of sigma and sigma_s, and from the same x an ancestral
/// step to sigma_s with the x_0 found there: of weak order 2 on a Gaussian prior. `timestep` tells what the network is
/// told of the level between.
///
/// The noise of both is one Brownian motion's: the second step's increment holds the first's. With W over sigma to the
/// middle of length a and over sigma to sigma_s of length b, the second noise is sqrt(a / b) z_1 + sqrt(1 - a / b) z_2,
/// with z_2 fresh; z_1 is what parts the first call's x from its mean, which the history keeps.
pub fn dpm_solver_sde(path: &Path<'_>, timestep: impl Fn(f64) -> f64) -> Result<Plan> {
    let mut calls = Vec::with_capacity(2 * path.len());
    for (_, t, s) in path.steps()? {
        let to = |x: Of, down: f64| Mix::of(&[(x, down / t.sigma), (Of::X0, 1.0 - down / t.sigma)]);
        if s.sigma == 0.0 {
            let update = Update { mean: to(Of::X, 0.0), keep: vec![Mix::default(); 2].into() };
            calls.push(path.call(Call { updates: vec![update].into(), ..Call::new(t, s, Mix::default()) }));
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
        let first = Update { mean: mean.clone(), keep: vec![Mix::just(Of::X), mean].into() };
        let noise = CallNoise::Std(up_1);
        calls.push(path.call(Call {
            updates: vec![first].into(),
            noise,
            settles: false,
            ..Call::new(t, between, Mix::default())
        }));
        let shared = (t.sigma - middle) / (t.sigma - s.sigma);
        let of_first = up_2 * libm::sqrt(shared) / up_1;
        let mean = to(Of::History(0), down_2).plus(&Mix::of(&[(Of::X, of_first), (Of::History(1), -of_first)]));
        let second = Update { mean, keep: vec![Mix::default(); 2].into() };
        let noise = CallNoise::Std(up_2 * libm::sqrt(1.0 - shared));
        calls.push(path.call(Call { updates: vec![second].into(), noise, ..Call::new(between, s, Mix::default()) }));
    }
    Plan::new(NAME, path.prediction, 2, path.initial_scale, calls)
}

/// Between which sigmas the increments of [`dpm_solver_sde`]'s noise lie, by draw, as `DPMSolverSDEScheduler` tells
/// them its Brownian motion: each by way of its logarithm, in f32. And the motion's ends, the smallest sigma above 0
/// and the largest.
///
/// For [`BrownianTree`](crate::noise::BrownianTree). Errors: kind `Unsupported` for a sampler that is no such plan;
/// kind `InvalidArgument` for one without noise.
pub fn brownian_intervals(sampler: &(impl Sampler + ?Sized)) -> Result<(Vec<Between>, [f64; 2])> {
    ensure!(
        sampler.name() == NAME,
        Unsupported,
        "the noise of {} is no Brownian motion between sigmas; take dpmsolver-sde, or noise without a tree",
        sampler.name()
    );
    let time = |sigma: f64| -(libm::log(f64::from(sigma as f32)) as f32);
    let sigma = |time: f32| f64::from(libm::exp(f64::from(-time)) as f32);
    let levels = sampler.levels();
    let mut all = Vec::with_capacity(levels.len());
    let mut ends = [f64::INFINITY, 0.0f64];
    for (step, level) in levels.iter().enumerate() {
        if !sampler.settles(step) {
            // The step's end is where its second call leads.
            let (from, to) = (level.sigma, sampler.target(step + 1)?.sigma);
            ends = [ends[0].min(f64::from(to as f32)), ends[1].max(f64::from(from as f32))];
            let (t, s) = (time(from), time(to));
            let between = sigma(t + (s - t) * 0.5);
            let draw = step as u64 + 1;
            all.push((draw, [sigma(t), between]));
            all.push((draw + 1, [between, sigma(s)]));
        }
    }
    ensure!(!all.is_empty(), InvalidArgument, "a run of one step of {NAME} draws no noise");
    Ok((all, ends))
}

/// `DPMSolverSDEScheduler`.
pub(in crate::sampler) fn build(setup: &Setup<'_>) -> Result<Plan> {
    setup.expect_prediction(&[PredictionType::Epsilon, PredictionType::VPrediction])?;
    let table = setup.table()?;
    let grid = points(setup, Whole::No)?;
    with_path(setup, &grid, |path| dpm_solver_sde(path, |sigma| table.timestep(sigma)))
}
