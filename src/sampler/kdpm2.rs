//! DPM-Solver-2 in sigma, with its middle at the geometric mean (Karras et al. 2022; k-diffusion's DPM2), and its
//! ancestral form.

use alloc::vec;
use alloc::vec::Vec;

use super::PredictionType;
use super::euler::{ancestral, points, with_path};
use super::path::Path;
use super::plan::{Call, CallNoise, Mix, Of, Plan, Update};
use super::setup::Setup;
use crate::error::Result;
use crate::schedule::{Level, SigmaTable, Whole};

/// The midpoint method: the first call goes by Euler to the geometric mean of sigma and sigma_s, the second goes from x
/// by the slope there. `timestep` tells what the network is told of the level between. One call for a step that ends
/// without noise.
pub fn kdpm2(path: &Path<'_>, timestep: impl Fn(f64) -> f64) -> Result<Plan> {
    plan("DPM2", path, |t, s| (s, libm::sqrt(t * s), 0.0), timestep)
}

/// The same to a lower level, and back up with fresh noise: see [`euler_ancestral`](super::euler_ancestral). Of weak
/// order 2 on a Gaussian prior.
pub fn kdpm2_ancestral(path: &Path<'_>, timestep: impl Fn(f64) -> f64) -> Result<Plan> {
    let stages = |t: f64, s: f64| {
        let (down, up) = ancestral(t, s);
        (down, libm::sqrt(t * down), up)
    };
    plan("DPM2 ancestral", path, stages, timestep)
}

/// `stages` gives, for a step from one sigma to another, where the flow ends, the level between, and the noise that is
/// added.
fn plan(
    name: &'static str,
    path: &Path<'_>,
    stages: impl Fn(f64, f64) -> (f64, f64, f64),
    timestep: impl Fn(f64) -> f64,
) -> Result<Plan> {
    let mut calls = Vec::with_capacity(2 * path.len());
    for (_, t, s) in path.steps()? {
        let to = |sigma: f64| Mix::of(&[(Of::X, sigma / t.sigma), (Of::X0, 1.0 - sigma / t.sigma)]);
        if s.sigma == 0.0 {
            let update = Update { mean: to(0.0), keep: vec![Mix::default()].into() };
            calls.push(path.call(Call { updates: vec![update].into(), ..Call::new(t, s, Mix::default()) }));
            continue;
        }
        let (end, middle, up) = stages(t.sigma, s.sigma);
        let between = Level::exploding(timestep(middle), middle);
        let first = Update { mean: to(middle), keep: vec![Mix::just(Of::X)].into() };
        calls.push(path.call(Call {
            updates: vec![first].into(),
            settles: false,
            ..Call::new(t, between, Mix::default())
        }));
        let slope = (end - t.sigma) / middle;
        let mean = Mix::of(&[(Of::History(0), 1.0), (Of::X, slope), (Of::X0, -slope)]);
        let second = Update { mean, keep: vec![Mix::default()].into() };
        let noise = if up > 0.0 { CallNoise::Std(up) } else { CallNoise::None };
        calls.push(path.call(Call { updates: vec![second].into(), noise, ..Call::new(between, s, Mix::default()) }));
    }
    Plan::new(name, path.prediction, 1, path.initial_scale, calls)
}

fn with_table(setup: &Setup<'_>, make: impl FnOnce(&Path<'_>, &SigmaTable) -> Result<Plan>) -> Result<Plan> {
    setup.expect_prediction(&[PredictionType::Epsilon, PredictionType::VPrediction])?;
    let table = SigmaTable::new(&setup.schedule()?);
    let grid = points(setup, Whole::RoundedForKarras)?;
    with_path(setup, &grid, |path| make(path, &table))
}

/// `KDPM2DiscreteScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    with_table(setup, |path, table| kdpm2(path, |sigma| table.timestep(sigma)))
}

/// `KDPM2AncestralDiscreteScheduler`.
pub(super) fn build_ancestral(setup: &Setup<'_>) -> Result<Plan> {
    with_table(setup, |path, table| kdpm2_ancestral(path, |sigma| table.timestep(sigma)))
}
