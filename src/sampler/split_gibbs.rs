//! From noise to x_0, back into ever less noise and to x_0 again: the chain of a split Gibbs sampler.

use alloc::vec::Vec;

use super::Prediction;
use super::plan::{Call, Mix, Of, Plan};
use crate::error::{Result, ensure, err};
use crate::process::Posterior;
use crate::schedule::{Level, NoiseSchedule, custom_timesteps};

/// How far the chain goes back each time it has come to x_0. Noise is counted as sigma / alpha, the noise where x_0 has
/// the factor 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ladder {
    /// The noise of the first return, 1 for data of the size of 1: so much that modes which differ by it are drawn
    /// anew.
    pub largest: f64,
    /// The noise of the last.
    pub smallest: f64,
    /// From one return to the next the noise falls by this factor, above 0 and below 1.
    pub ratio: f64,
    /// How often the last is made, at least 1.
    pub last: usize,
}

/// A run makes at most so many calls.
const MAX_CALLS: usize = 1 << 20;
/// Where the even part of the levels begins, above the first return, and where it ends, below it: from pure noise to
/// the first a Gaussian step loses nothing, with heavy tails too, and a prior is smooth at the scale of the second.
const ABOVE: f64 = 30.0;
const BELOW: f64 = 0.02;
/// A level as noisy as this fraction of a rung stands for it.
const NEAR: f64 = 0.7;

impl Ladder {
    /// From 1 down to `smallest` by halves, the last twice.
    pub fn to(smallest: f64) -> Self {
        Self { largest: 1.0, smallest, ratio: 0.5, last: 2 }
    }

    /// The noise of every return. Errors (kind `InvalidArgument`): numbers out of their range.
    pub fn rungs(&self) -> Result<Vec<f64>> {
        let Self { largest, smallest, ratio, last } = *self;
        ensure!(
            largest > 0.0 && largest.is_finite() && smallest > 0.0 && smallest.is_finite(),
            InvalidArgument,
            "a ladder from noise {largest} to {smallest}, expected both above 0"
        );
        ensure!(
            ratio > 0.0 && ratio < 1.0 && (1..=MAX_CALLS).contains(&last),
            InvalidArgument,
            "a ladder of ratio {ratio} whose last noise comes {last} times, expected above 0 and below 1, and 1 to {MAX_CALLS}"
        );
        let steps = libm::log(smallest / largest) / libm::log(ratio);
        ensure!(
            (f64::NEG_INFINITY..MAX_CALLS as f64).contains(&steps),
            InvalidArgument,
            "a ladder of {steps} rungs, expected at most {MAX_CALLS}: take a smaller ratio"
        );
        let between = (0..).map(|i| largest * libm::pow(ratio, f64::from(i)));
        let mut rungs: Vec<f64> = between.take_while(|&noise| noise > smallest * (1.0 + 1e-9)).collect();
        rungs.extend(core::iter::repeat_n(smallest, last));
        Ok(rungs)
    }

    /// `count` timesteps of a schedule that suit the ladder: the noisiest, and others whose noise falls evenly in its
    /// logarithm from 30 times the largest return to 0.02 of it, or to the smallest. Fewer where the schedule has
    /// fewer.
    ///
    /// Errors (kind `InvalidArgument`): as [`Ladder::rungs`]; no level or more than T.
    pub fn timesteps(&self, schedule: &NoiseSchedule, count: usize) -> Result<Vec<u32>> {
        self.rungs()?;
        let train = schedule.num_train_timesteps();
        ensure!(
            (1..=train).contains(&count),
            InvalidArgument,
            "the number of levels is {count}, expected 1 to the {train} that the model was trained with"
        );
        let noise = noises(schedule)?;
        // A schedule may end without signal, from where a step knows the mean of x_0 alone.
        let first = noise.iter().rposition(|n| n.is_finite()).unwrap_or(0);
        let least = noise.first().copied().unwrap_or(0.0);
        let from = (ABOVE * self.largest.max(self.smallest)).min(noise.get(first).copied().unwrap_or(least));
        let to = (BELOW * self.largest).min(self.smallest).max(least);
        let mut list = alloc::vec![first as u32];
        let gaps = count.saturating_sub(2).max(1) as f64;
        for i in 0..count - 1 {
            let wanted = from * libm::pow(to / from, i as f64 / gaps);
            let above = noise.partition_point(|&n| n < wanted);
            // The nearer in its logarithm.
            let below = above.saturating_sub(1);
            let (a, b) = (noise.get(above).copied().unwrap_or(f64::INFINITY), noise.get(below).copied().unwrap_or(0.0));
            let t = if wanted * wanted > a * b { above } else { below } as u32;
            if list.last().is_some_and(|&before| t < before) {
                list.push(t);
            }
        }
        Ok(list)
    }
}

/// sigma / alpha of every timestep, rising; infinite where there is no signal.
fn noises(schedule: &NoiseSchedule) -> Result<Vec<f64>> {
    let of = |t: usize| {
        let abar = schedule.alpha_bar(t as u32)?;
        Ok(if abar > 0.0 { libm::sqrt((1.0 - abar) / abar) } else { f64::INFINITY })
    };
    (0..schedule.num_train_timesteps()).map(of).collect()
}

/// DDPM's steps down `timesteps` to x_0; from there, for every rung of the `ladder`, back to alpha x_0 + sigma z at the
/// noisiest of the levels that has at most the rung's noise, and down again.
///
/// A step is one network call, so a return belongs to the step that comes to x_0: its mean is alpha_u x_0 and its
/// variance sigma_u^2. Without evidence the chain keeps the model's law, as every return and way down does;
/// [`SplitGibbs`](crate::posterior::SplitGibbs) draws the returns given y. Where the list has no level that is at least
/// 0.7 times as noisy as a rung, one is added.
///
/// Errors (kind `InvalidArgument`): the list is empty, not decreasing or beyond the schedule; the clip is no range; as
/// [`Ladder::rungs`]; a ladder that ends below the least noise of the schedule by more than 1 %; more than 2^20 calls.
pub fn split_gibbs(
    schedule: &NoiseSchedule,
    timesteps: &[u32],
    prediction: Prediction,
    ladder: &Ladder,
) -> Result<Plan> {
    let mut list = custom_timesteps(schedule.num_train_timesteps(), timesteps)?;
    let rungs = ladder.rungs()?;
    let noise = noises(schedule)?;
    let most = ladder.smallest * 1.01;
    let end = noise.iter().rposition(|&n| n <= most).ok_or_else(|| {
        err!(
            InvalidArgument,
            "the ladder ends at noise {:.3e}, below the schedule's least, {:.3e}: a measurement with so little noise (sigma over the largest \
             singular value of A) needs another method",
            ladder.smallest,
            noise.first().copied().unwrap_or(0.0)
        )
    })?;
    let of = |t: &u32| noise.get(*t as usize).copied().unwrap_or(f64::INFINITY);
    for rung in &rungs {
        // Where the list has none that is near, the noisiest of the schedule that is within the rung; at the end,
        // within a hundredth of it.
        let within = if *rung == ladder.smallest { most } else { *rung };
        if !list.iter().any(|t| of(t) <= within && of(t) >= NEAR * rung) {
            let added = noise.iter().rposition(|&n| n <= within).unwrap_or(end) as u32;
            let at = list.partition_point(|&t| t > added);
            if list.get(at) != Some(&added) {
                list.insert(at, added);
            }
        }
    }
    let level = |t: &u32| Ok(Level::variance_preserving(f64::from(*t), schedule.alpha_bar(*t)?));
    let levels = list.iter().map(level).collect::<Result<Vec<_>>>()?;
    // For each rung the place in the list to which it returns.
    let place =
        |rung: &f64| list.iter().position(|t| of(t) <= rung * if *rung == ladder.smallest { 1.01 } else { 1.0 });
    let returns: Vec<usize> = rungs.iter().filter_map(place).collect();
    let calls = returns.iter().fold(list.len(), |sum, &r| sum.saturating_add(list.len() - r));
    ensure!(calls <= MAX_CALLS, InvalidArgument, "a ladder of {calls} calls, expected at most {MAX_CALLS}");

    let mut calls = Vec::with_capacity(calls);
    let starts = core::iter::once(0).chain(returns.iter().copied());
    let nexts = returns.iter().copied().map(Some).chain(core::iter::once(None));
    for (start, next) in starts.zip(nexts) {
        let down = levels.get(start..).unwrap_or(&[]);
        for (i, t) in down.iter().enumerate() {
            calls.push(match down.get(i + 1) {
                Some(s) => {
                    let p = Posterior::new(t.alpha_bar(), s.alpha_bar(), schedule.arithmetic());
                    let mean = Mix::of(&[(Of::X0, p.x0), (Of::X, p.x)]);
                    Call::new(*t, *s, mean).with_std(libm::sqrt(p.variance))
                }
                None => {
                    let u = next.and_then(|n| levels.get(n)).copied().unwrap_or(Level::CLEAN);
                    Call::new(*t, u, Mix::of(&[(Of::X0, u.alpha)])).with_std(u.sigma)
                }
            });
        }
    }
    Plan::new("split Gibbs", prediction, 0, 1.0, calls)
}

#[cfg(test)]
mod tests {
    use super::super::{CallNoise, Sampler, conditional_std};
    use super::*;
    use crate::schedule::{Arithmetic, Betas};

    fn schedule() -> NoiseSchedule {
        NoiseSchedule::new(&Betas::default(), Arithmetic::Float64).unwrap()
    }

    #[test]
    fn every_return_is_at_most_as_noisy_as_its_rung() {
        let (schedule, ladder) = (schedule(), Ladder::to(0.3));
        assert_eq!(ladder.rungs().unwrap(), [1.0, 0.5, 0.3, 0.3]);
        let list = ladder.timesteps(&schedule, 30).unwrap();
        assert_eq!((list.len(), list[0]), (30, 999));
        let plan = split_gibbs(&schedule, &list, Prediction::default(), &ladder).unwrap();
        let noise = |l: &Level| l.sigma / l.alpha;
        let returns: Vec<f64> = (0..plan.levels().len())
            .filter_map(|i| {
                let target = plan.target(i).unwrap();
                (target.timestep > plan.levels()[i].timestep).then(|| noise(&target))
            })
            .collect();
        assert_eq!(returns.len(), 4);
        for (got, rung) in returns.iter().zip(ladder.rungs().unwrap()) {
            assert!(*got <= 1.01 * rung && *got > 0.75 * rung, "{got} {rung}");
        }
        // The marginals of all levels are kept.
        for (i, level) in plan.levels().iter().enumerate() {
            let (call, target) = (&plan.calls()[i], plan.target(i).unwrap());
            let mean = &call.updates[0].mean;
            let of_x0 = mean.coefficient(Of::X0) + mean.coefficient(Of::X) * level.alpha;
            let of_eps = mean.coefficient(Of::X) * level.sigma;
            let std = if let CallNoise::Std(std) = call.noise { std } else { 0.0 };
            assert!((of_x0 - target.alpha).abs() < 1e-6, "{i}");
            assert!((of_eps * of_eps + std * std - target.sigma * target.sigma).abs() < 1e-6, "{i}");
            assert!((conditional_std(&plan, i).unwrap() - std).abs() < 1e-3, "{i}");
        }
        assert_eq!(plan.target(plan.levels().len() - 1).unwrap(), Level::CLEAN);
    }

    #[test]
    fn a_ladder_that_leads_nowhere_is_refused() {
        let schedule = schedule();
        let make = |ladder: Ladder, list: &[u32]| split_gibbs(&schedule, list, Prediction::default(), &ladder);
        let usual = Ladder::to(0.3);
        // The least noise of the schedule is 0.0100005.
        assert!(make(Ladder::to(0.01), &[900, 300]).is_ok());
        assert!(make(Ladder::to(0.005), &[900, 300]).unwrap_err().message().contains("1.000e-2"));
        for ladder in [
            Ladder { ratio: 1.0, ..usual },
            Ladder { ratio: 1.0 - 1e-9, ..usual },
            Ladder { largest: 0.0, ..usual },
            Ladder { smallest: f64::NAN, ..usual },
            Ladder { last: 0, ..usual },
        ] {
            assert!(make(ladder, &[900, 300]).is_err(), "{ladder:?}");
        }
        assert!(make(usual, &[]).is_err() && make(usual, &[3, 900]).is_err());
        for count in [0, 1001] {
            assert!(usual.timesteps(&schedule, count).is_err());
        }
        // A list without levels at the rungs gets them.
        let plan = make(usual, &[999, 0]).unwrap();
        assert_eq!(plan.levels().len(), 5 + 4 + 3 + 2 + 2, "{:?}", plan.levels());
        // All there are, each once; and a measurement with more noise than the data has one rung.
        assert_eq!(usual.timesteps(&schedule, 1).unwrap(), [999]);
        let all = usual.timesteps(&schedule, 1000).unwrap();
        assert!(all.windows(2).all(|w| w[0] > w[1]));
        assert_eq!(Ladder::to(4.0).rungs().unwrap(), [4.0, 4.0]);
    }

    #[test]
    fn a_schedule_that_ends_without_signal_begins_before_its_end() {
        let betas = Betas { rescale_zero_snr: true, ..Betas::default() };
        let schedule = NoiseSchedule::new(&betas, Arithmetic::Float64).unwrap();
        assert_eq!(Ladder::to(0.3).timesteps(&schedule, 10).unwrap()[0], 998);
    }
}
