//! Annealing with levels that are drawn anew from x_0: the chain of DAPS.

use alloc::vec::Vec;

use super::Prediction;
use super::plan::{Call, Mix, Of, Plan};
use crate::error::{Result, ensure, err};
use crate::schedule::{Level, NoiseSchedule, custom_timesteps};

/// A run makes at most so many calls.
const MAX_CALLS: usize = 1 << 20;
/// The noise of the first level, where the signal is 1, unless the schedule ends below it.
const LARGEST: f64 = 100.0;
/// The exponent of EDM's grid.
const RHO: f64 = 7.0;

/// sigma / alpha of every timestep that has a signal, rising.
fn noises(schedule: &NoiseSchedule) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for t in 0..schedule.num_train_timesteps() {
        let abar = schedule.alpha_bar(t as u32)?;
        if abar <= 0.0 {
            break;
        }
        all.push(libm::sqrt((1.0 - abar) / abar));
    }
    Ok(all)
}

/// Up to `count` timesteps, falling, the first of them at noise `from` or the nearest to it and the last the least
/// noisy: those whose noise is nearest, in its logarithm, to EDM's grid.
fn grid(noise: &[f64], from: f64, count: usize) -> Result<Vec<u32>> {
    let least = noise.first().copied().unwrap_or(0.0);
    let root = |v: f64| libm::pow(v, 1.0 / RHO);
    let mut list: Vec<u32> = Vec::new();
    for i in 0..count {
        let part = i as f64 / count.saturating_sub(1).max(1) as f64;
        let wanted = libm::pow(root(from) + part * (root(least) - root(from)), RHO);
        let above = noise.partition_point(|&n| n < wanted).min(noise.len().saturating_sub(1));
        let below = above.saturating_sub(1);
        let at = |i: usize| noise.get(i).copied().unwrap_or(least);
        let t = if wanted * wanted > at(above) * at(below) { above } else { below } as u32;
        if list.last().is_none_or(|&before| t < before) {
            list.push(t);
        }
    }
    Ok(list)
}

/// The levels of [`SchedulerConfig::decoupled_annealing`](super::SchedulerConfig::decoupled_annealing).
pub(super) fn levels(schedule: &NoiseSchedule, count: usize) -> Result<Vec<u32>> {
    let train = schedule.num_train_timesteps();
    ensure!(
        (1..=train).contains(&count),
        InvalidArgument,
        "the number of levels is {count}, expected 1 to the {train} that the model was trained with"
    );
    let noise = noises(schedule)?;
    let most = noise.last().copied().ok_or_else(|| err!(InvalidArgument, "no level of the schedule has a signal"))?;
    grid(&noise, most.min(LARGEST), count)
}

/// For each of decreasing `timesteps` t, `flow_steps` Euler steps of the probability flow (DDIM of eta 0) down to x_0,
/// at timesteps whose noise falls from that of t to the least as EDM's grid does, with rho 7; then x_s = alpha_s x_0 +
/// sigma_s z at the next timestep s, with fresh noise (Zhang et al. 2024, algorithm 1). After the last comes x_0.
///
/// Only the steps that end in fresh noise settle. With one flow step it is DDIM of eta 1 of the level's noise. Without
/// evidence the chain keeps the model's law as nearly as its flow's steps do. [`Daps`](crate::posterior::Daps) draws
/// x_0 given y between the two.
///
/// Errors (kind `InvalidArgument`): the list is empty, not decreasing or beyond the schedule, or begins where there is
/// no signal (terminal SNR of zero: begin below); no flow step; the clip is no range; more than 2^20 calls.
pub fn decoupled_annealing(
    schedule: &NoiseSchedule,
    timesteps: &[u32],
    flow_steps: usize,
    prediction: Prediction,
) -> Result<Plan> {
    let list = custom_timesteps(schedule.num_train_timesteps(), timesteps)?;
    ensure!(
        flow_steps > 0 && list.len().saturating_mul(flow_steps) <= MAX_CALLS,
        InvalidArgument,
        "{} levels of {flow_steps} flow steps each, expected at least 1 and at most {MAX_CALLS} calls",
        list.len()
    );
    let noise = noises(schedule)?;
    let level = |t: u32| -> Result<Level> { Ok(Level::variance_preserving(f64::from(t), schedule.alpha_bar(t)?)) };
    let mut calls = Vec::with_capacity(list.len());
    for (i, &t) in list.iter().enumerate() {
        let from = noise.get(t as usize).copied().ok_or_else(|| {
            err!(
                InvalidArgument,
                "timestep {t} has no signal, expected levels with noise that is finite, such as {}",
                noise.len().saturating_sub(1)
            )
        })?;
        let next = list.get(i + 1).map_or(Ok(Level::CLEAN), |&s| level(s))?;
        let mut way = grid(noise.get(..=t as usize).unwrap_or(&noise), from, flow_steps)?;
        if let Some(first) = way.first_mut() {
            *first = t;
        }
        way.dedup();
        for (j, &u) in way.iter().enumerate() {
            let at = level(u)?;
            calls.push(match way.get(j + 1) {
                Some(&lower) => {
                    let to = level(lower)?;
                    let mean = Mix::of(&[(Of::X0, to.alpha), (Of::Eps, to.sigma)]);
                    Call { settles: false, ..Call::new(at, to, mean) }
                }
                None => Call::new(at, next, Mix::of(&[(Of::X0, next.alpha)])).with_std(next.sigma),
            });
        }
    }
    Plan::new("decoupled annealing", prediction, 0, 1.0, calls)
}

#[cfg(test)]
mod tests {
    use super::super::{Sampler, conditional_std};
    use super::*;
    use crate::schedule::{Arithmetic, Betas};

    fn schedule(rescale_zero_snr: bool) -> NoiseSchedule {
        NoiseSchedule::new(&Betas { rescale_zero_snr, ..Betas::default() }, Arithmetic::Float64).unwrap()
    }

    #[test]
    fn levels_are_drawn_anew_and_flows_end_in_x0() {
        let schedule = schedule(false);
        let list = levels(&schedule, 20).unwrap();
        assert!(list.windows(2).all(|w| w[0] > w[1]) && list.len() > 15 && list.last() == Some(&0), "{list:?}");
        let plan = decoupled_annealing(&schedule, &list, 4, Prediction::default()).unwrap();
        let mut settled = 0;
        for step in 0..plan.levels().len() {
            let (level, target) = (plan.levels()[step], plan.target(step).unwrap());
            assert_eq!(plan.needs_noise(step), plan.settles(step) && target.sigma > 0.0, "{step}");
            if plan.settles(step) {
                assert!((conditional_std(&plan, step).unwrap() - target.sigma).abs() < 1e-6);
                assert_eq!(
                    target,
                    list.get(settled + 1).map_or(Level::CLEAN, |t| {
                        Level::variance_preserving(f64::from(*t), schedule.alpha_bar(*t).unwrap())
                    })
                );
                settled += 1;
            } else {
                assert!(target.noise_to_signal() < level.noise_to_signal());
                assert_eq!(plan.levels()[step + 1], target);
            }
        }
        assert_eq!(settled, list.len());
        // Near the end the schedule has fewer levels than steps of the flow.
        assert!(plan.levels().len() > 3 * list.len() && plan.levels().len() <= 4 * list.len());
    }

    #[test]
    fn where_there_is_no_signal_none_begins() {
        let schedule = schedule(true);
        assert!(levels(&schedule, 10).unwrap()[0] < 999);
        let e = decoupled_annealing(&schedule, &[999, 0], 2, Prediction::default()).unwrap_err();
        assert!(e.message().contains("998"), "{e}");
        for (list, flow_steps) in [(&[][..], 1), (&[3, 900], 1), (&[900, 3], 0), (&[900, 3], usize::MAX)] {
            assert!(decoupled_annealing(&schedule, list, flow_steps, Prediction::default()).is_err(), "{list:?}");
        }
        for count in [0, 1001] {
            assert!(levels(&schedule, count).is_err());
        }
    }
}
