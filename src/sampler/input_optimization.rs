//! Levels at each of which the network is called several times before x_s is drawn anew: the chain of SITCOM.

use alloc::vec::Vec;

use super::Prediction;
use super::plan::{Call, Mix, Of, Plan};
use crate::error::{Result, ensure};
use crate::schedule::{Level, NoiseSchedule, custom_timesteps};

/// A run makes at most so many calls.
const MAX_CALLS: usize = 1 << 20;

/// At each of decreasing `timesteps` t, `gradient_steps` calls whose mean is alpha_t x_0 + sigma_t eps at t itself, so
/// that x stays where it is unless evidence moves it; then one that leads to x_s = alpha_s x_0 + sigma_s z at the next
/// timestep s, with fresh noise (Alkhouri et al. 2025, algorithm 1). After the last comes x_0.
///
/// Only the last call of a level settles. [`Sitcom`](crate::posterior::Sitcom) moves x in the others.
///
/// Errors (kind `InvalidArgument`): the list is empty, not decreasing or beyond the schedule; no gradient step; the
/// clip is no range; more than 2^20 calls.
pub fn input_optimization(
    schedule: &NoiseSchedule,
    timesteps: &[u32],
    gradient_steps: usize,
    prediction: Prediction,
) -> Result<Plan> {
    let list = custom_timesteps(schedule.num_train_timesteps(), timesteps)?;
    let each = gradient_steps.saturating_add(1);
    ensure!(
        gradient_steps > 0 && list.len().saturating_mul(each) <= MAX_CALLS,
        InvalidArgument,
        "{} levels of {gradient_steps} gradient steps each, expected at least 1 and at most {MAX_CALLS} calls",
        list.len()
    );
    let level = |t: u32| -> Result<Level> { Ok(Level::variance_preserving(f64::from(t), schedule.alpha_bar(t)?)) };
    let mut calls = Vec::with_capacity(list.len().saturating_mul(each));
    for (i, &t) in list.iter().enumerate() {
        let at = level(t)?;
        let next = list.get(i + 1).map_or(Ok(Level::CLEAN), |&s| level(s))?;
        let stay = Call { settles: false, ..Call::new(at, at, Mix::of(&[(Of::X0, at.alpha), (Of::Eps, at.sigma)])) };
        calls.extend(core::iter::repeat_n(stay, gradient_steps));
        calls.push(Call::new(at, next, Mix::of(&[(Of::X0, next.alpha)])).with_std(next.sigma));
    }
    Plan::new("input optimization", prediction, 0, 1.0, calls)
}

#[cfg(test)]
mod tests {
    use super::super::{Estimate, Sampler, conditional_std};
    use super::*;
    use crate::schedule::{Arithmetic, Betas};

    #[test]
    fn inner_calls_stay_and_the_last_draws_the_next_level() {
        let schedule = NoiseSchedule::new(&Betas::default(), Arithmetic::Float64).unwrap();
        let plan = input_optimization(&schedule, &[900, 400, 3], 4, Prediction::default()).unwrap();
        assert_eq!(plan.levels().len(), 3 * 5);
        for step in 0..15 {
            let (level, target) = (plan.levels()[step], plan.target(step).unwrap());
            assert_eq!(plan.settles(step), step % 5 == 4);
            if plan.settles(step) {
                assert!((conditional_std(&plan, step).unwrap() - target.sigma).abs() < 1e-6);
                assert_eq!(target, plan.levels().get(step + 1).copied().unwrap_or(Level::CLEAN));
                continue;
            }
            assert_eq!((level, plan.needs_noise(step)), (target, false));
            let (x0, eps) = ([0.3], [-0.7]);
            let mut mean = [0.0];
            let estimate = Estimate { x: &[9.0], x0: &x0, eps: &eps };
            plan.mean(step, step, estimate, &[], &mut [], &mut mean).unwrap();
            assert!((f64::from(mean[0]) - (0.3 * level.alpha - 0.7 * level.sigma)).abs() < 1e-6);
        }
        for (list, steps) in [(&[][..], 1), (&[3, 900], 1), (&[900, 3], 0), (&[900, 3], usize::MAX)] {
            assert!(input_optimization(&schedule, list, steps, Prediction::default()).is_err(), "{list:?}");
        }
    }
}
