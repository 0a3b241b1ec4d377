//! DPM-Solver(++) from data to noise (Hertz et al. 2022's inversion by a solver of higher order).

use alloc::vec::Vec;

use super::multistep::{MultistepOptions, preserving, solve};
use super::target;
use crate::error::{Result, ensure};
use crate::sampler::path::{Path, Preconditioning};
use crate::sampler::plan::{Of, Plan};
use crate::sampler::setup::{Setup, levels};
use crate::sampler::{AlgorithmType, Prediction};
use crate::schedule::{
    Arithmetic, Grid, Level, SigmaSpacing, SigmaTable, TimestepSpacing, linspace, spaced_timesteps, spread,
};

/// [`dpm_solver_multistep`](super::dpm_solver_multistep) over a path that rises in noise.
///
/// x where the run begins is a picture, not noise: give it to [`Chain::start_from`](crate::chain::Chain::start_from) as
/// step 0. The picture is taken for a sample of the first level.
///
/// Errors: kind `Unsupported` for the stochastic forms, since noise cannot be drawn backwards; kind `InvalidArgument`
/// for a path that falls; as [`dpm_solver_multistep`](super::dpm_solver_multistep).
pub fn dpm_solver_multistep_inverse(path: &Path<'_>, options: &MultistepOptions) -> Result<Plan> {
    ensure!(
        matches!(options.algorithm_type, AlgorithmType::DpmSolver | AlgorithmType::DpmSolverPlusPlus),
        Unsupported,
        "inversion by the stochastic equation, expected algorithm_type dpmsolver or dpmsolver++"
    );
    solve("DPM-Solver inverse", path, path.rising_steps()?, options)
}

/// The levels of a configuration, from the smallest sigma. The last stands twice where a rule spreads them.
fn grid(setup: &Setup<'_>) -> Result<Grid> {
    let c = setup.config;
    let table = SigmaTable::new(&setup.schedule()?);
    let n = setup.count()?;
    let last = table.clipped_len(c.grid.lambda_min_clipped);
    ensure!(last > 1, InvalidArgument, "lambda_min_clipped is {}, which leaves no timestep", c.grid.lambda_min_clipped);
    let spacing = c.grid.spacing()?;
    if spacing != SigmaSpacing::Timesteps {
        let mut sigmas = spread(spacing, table.smallest(), table.largest(), n, 7.0)?;
        // One step begins at the first.
        if n == 1 {
            sigmas = alloc::vec![table.smallest()];
        }
        sigmas.reverse();
        let whole = if spacing == SigmaSpacing::Karras { libm::rint } else { libm::trunc };
        let timesteps = sigmas.iter().map(|s| whole(table.timestep(*s))).collect();
        sigmas.extend(sigmas.last().copied());
        return Ok(rounded(setup, timesteps, sigmas));
    }
    let train = table.len();
    let timesteps: Vec<f64> = match c.timestep_spacing {
        TimestepSpacing::Linspace => {
            linspace(0.0, (last - 1) as f64, n + 1).into_iter().take(n).map(libm::rint).collect()
        }
        TimestepSpacing::Leading => {
            let stride = (last / (n + 1)) as f64;
            (0..n).map(|i| i as f64 * stride + f64::from(c.steps_offset)).collect()
        }
        TimestepSpacing::Trailing => {
            let mut list = spaced_timesteps(TimestepSpacing::Trailing, train, n, 0)?;
            list.reverse();
            let cut = (train - last) as f64;
            list.into_iter().map(|t| f64::from(t) - cut).collect()
        }
    };
    let rises = timesteps.windows(2).all(|w| matches!(w, [a, b] if a < b));
    ensure!(
        rises && timesteps.iter().all(|t| (0.0..train as f64).contains(t)),
        InvalidArgument,
        "{n} steps of inversion visit timesteps twice or outside 0 to {}, expected fewer steps",
        train - 1
    );
    let mut sigmas: Vec<f64> = timesteps.iter().map(|t| table.at(*t)).collect();
    sigmas.push(table.at((last - 1) as f64));
    Ok(rounded(setup, timesteps, sigmas))
}

/// Sigmas as PyTorch keeps them.
fn rounded(setup: &Setup<'_>, timesteps: Vec<f64>, mut sigmas: Vec<f64>) -> Grid {
    if setup.options.arithmetic == Arithmetic::Float32 {
        sigmas.iter_mut().for_each(|s| *s = f64::from(*s as f32));
    }
    Grid { timesteps, sigmas }
}

/// `DPMSolverMultistepInverseScheduler`.
pub(in crate::sampler) fn build(setup: &Setup<'_>) -> Result<Plan> {
    let (c, g) = (setup.config, &setup.config.grid);
    ensure!(
        !g.use_flow_sigmas,
        Unsupported,
        "DPMSolverMultistepInverseScheduler with use_flow_sigmas, expected the betas of a discrete schedule"
    );
    let grid = grid(setup)?;
    let levels = levels(&grid, Level::preserving_at);
    let prediction = setup.prediction();
    let eps = target(c.solver.algorithm_type) == Of::Eps;
    let rederive_eps = prediction.rederive_eps || c.thresholding && eps;
    let prediction = Prediction { rederive_eps, ..prediction };
    let path = Path { levels: &levels, prediction, preconditioning: Preconditioning::None, initial_scale: 1.0 };
    let options = MultistepOptions { first_order_final: c.solver.euler_at_final, ..preserving(setup) };
    dpm_solver_multistep_inverse(&path, &options)
}
