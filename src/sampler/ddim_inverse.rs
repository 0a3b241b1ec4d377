//! DDIM inversion: the deterministic steps taken from data to noise (Song et al. 2020, section 4.3).

use alloc::vec::Vec;

use super::Prediction;
use super::options::Steps;
use super::plan::{Call, Mix, Of, Plan};
use super::setup::Setup;
use crate::error::{Result, ensure, err};
use crate::schedule::{Level, NoiseSchedule, TimestepSpacing, spaced_timesteps};

/// From x_0 to x_T over rising `timesteps`, T / N apart: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, with x_0 and
/// eps predicted at the level below. The network is told t, the level that the step leads to, as diffusers has it.
///
/// x where the run begins is a picture, not noise: give it to [`Chain::start_from`](crate::chain::Chain::start_from) as
/// step 0.
///
/// With `set_alpha_to_one` the level below the first timestep has no noise, and x_0 is x itself there.
///
/// Errors: as [`Plan::new`]; of a network that predicts x_0, eps cannot be told from an x without noise.
pub fn ddim_inverse(
    schedule: &NoiseSchedule,
    timesteps: &[u32],
    prediction: Prediction,
    set_alpha_to_one: bool,
) -> Result<Plan> {
    let train = schedule.num_train_timesteps();
    ensure!(!timesteps.is_empty(), InvalidArgument, "the list of timesteps is empty");
    let stride = i64::try_from(train / timesteps.len()).unwrap_or(i64::MAX);
    let mut calls = Vec::with_capacity(timesteps.len());
    for &t in timesteps {
        let below = (i64::from(t) - stride).min(train as i64 - 1);
        let abar = match u32::try_from(below) {
            Ok(below) => schedule.alpha_bar(below)?,
            Err(_) if set_alpha_to_one => 1.0,
            Err(_) => schedule.alpha_bar(0)?,
        };
        let target = Level::variance_preserving(f64::from(t), schedule.alpha_bar(t)?);
        let level = Level::variance_preserving(f64::from(t), abar);
        calls.push(Call::new(level, target, Mix::of(&[(Of::X0, target.alpha), (Of::Eps, target.sigma)])));
    }
    Plan::new("DDIM inverse", prediction, 0, 1.0, calls)
}

/// `DDIMInverseScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    let c = setup.config;
    if let Steps::Timesteps(_) = setup.options.steps {
        return Err(err!(Unsupported, "DDIMInverseScheduler takes no list of timesteps, expected a number of steps"));
    }
    ensure!(
        c.timestep_spacing != TimestepSpacing::Linspace,
        Unsupported,
        "DDIMInverseScheduler with timestep_spacing linspace, expected leading or trailing"
    );
    let mut list = spaced_timesteps(c.timestep_spacing, c.num_train_timesteps, setup.count()?, c.steps_offset)?;
    list.reverse();
    ddim_inverse(&setup.schedule()?, &list, setup.prediction(), c.set_alpha_to_one)
}
