//! Going back and forth in noise (Lugmayr et al. 2022, RePaint).

use alloc::vec;
use alloc::vec::Vec;

use super::plan::{Call, Mix, Of, Plan};
use super::{Prediction, prediction_fingerprint};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::process::Posterior;
use crate::schedule::{Level, NoiseSchedule, custom_timesteps};

/// How often and how far to go back. The default is the paper's: of 250 timesteps it makes 2410 network calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jumps {
    /// j: places to jump from are so many timesteps of the list apart, and a jump goes so many back.
    pub length: usize,
    /// r: every stretch of j timesteps is gone r times. 1 makes no jump.
    pub resamplings: usize,
}

impl Default for Jumps {
    fn default() -> Self {
        Self { length: 10, resamplings: 10 }
    }
}

/// A run makes at most so many calls.
const MAX_CALLS: usize = 1 << 20;

/// Ancestral steps, some of which are followed by a jump back into noise: x <- sqrt(1 - b) x + sqrt(b) z, with
/// 1 - b = abar_u / abar_s for a jump from s to u.
///
/// A step is one network call, so a jump belongs to the step before it: its mean and variance are those of both
/// together, mean = sqrt(1 - b) mean_s and variance = (1 - b) variance_s + b, with the moments of q(x_s | x_t, x_0)
/// (the variance that is called `fixed_small`). One draw of noise serves both.
/// [`Sampler::target`](super::Sampler::target) is u.
///
/// Without evidence it is DDPM made longer; with [`KnownPixels`](crate::posterior::KnownPixels) it lets known and
/// unknown parts agree. Any other evidence may use it too, as DDNM does ("time-travel"), and
/// [`Calibrated`](crate::posterior::Calibrated) should.
///
/// Errors (kind `InvalidArgument`): the list is empty, not decreasing or beyond the schedule; the clip is no range;
/// a jump of length 0, no resampling, or more than 2^20 calls; an abar of 1.
pub fn repaint(schedule: &NoiseSchedule, timesteps: &[u32], prediction: Prediction, jumps: Jumps) -> Result<Plan> {
    let list = custom_timesteps(schedule.num_train_timesteps(), timesteps)?;
    let Jumps { length, resamplings } = jumps;
    ensure!(
        length > 0 && resamplings > 0,
        InvalidArgument,
        "jumps of length {length} with {resamplings} resamplings, expected at least 1 of both"
    );
    ensure!(
        list.len().checked_mul(resamplings).is_some_and(|calls| calls <= MAX_CALLS),
        InvalidArgument,
        "{} timesteps gone {resamplings} times, expected at most {MAX_CALLS} calls",
        list.len()
    );
    // Rising in noise, as the paper counts.
    let mut noisier = Vec::with_capacity(list.len());
    for &t in list.iter().rev() {
        let abar = schedule.alpha_bar(t)?;
        ensure!(
            (0.0..1.0).contains(&abar),
            InvalidArgument,
            "timestep {t} has a product of alphas of {abar}, RePaint needs it from 0 on and below 1"
        );
        noisier.push(Level::variance_preserving(f64::from(t), abar));
    }
    let clean = Level::CLEAN;
    let mut f = prediction_fingerprint(Fingerprint::new().bytes(b"repaint"), &prediction);
    let mut calls = Vec::new();
    for (t, s, u) in order(noisier.len(), jumps) {
        let of = |i: Option<usize>| i.and_then(|i| noisier.get(i)).copied().unwrap_or(clean);
        let (t, s, u) = (of(Some(t)), of(s), of(u));
        let p = Posterior::new(t.alpha_bar(), s.alpha_bar(), schedule.arithmetic());
        let kept = u.alpha_bar() / s.alpha_bar();
        let root = libm::sqrt(kept);
        let (x0, x) = ((root * p.x0) as f32, (root * p.x) as f32);
        let std = libm::sqrt(kept * p.variance + (1.0 - kept)) as f32;
        let mean = Mix::of(&[(Of::X0, f64::from(x0)), (Of::X, f64::from(x))]);
        let call = Call::new(t, u, mean).with_std(f64::from(std));
        f = f.f64(t.timestep).f32s(&call.factors).f32s(&[x0, x, std]);
        calls.push(call);
    }
    Ok(Plan::new("RePaint", prediction, 0, 1.0, calls)?.with_fingerprint(f))
}

/// For each call the place t where it is made, s where the ancestral step leads and u where the jump ends (s without a
/// jump); places count up from the least noisy, `None` is x_0. The schedule of the authors' code.
fn order(places: usize, jumps: Jumps) -> Vec<(usize, Option<usize>, Option<usize>)> {
    let mut left = vec![0; places];
    let last = places.saturating_sub(jumps.length);
    left.iter_mut().take(last).step_by(jumps.length).for_each(|l| *l = jumps.resamplings - 1);
    let mut out = Vec::new();
    let mut at = places.checked_sub(1);
    while let Some(t) = at {
        let s = t.checked_sub(1);
        at = match s.and_then(|s| left.get_mut(s).filter(|l| **l > 0).map(|l| (s, l))) {
            Some((s, left)) => {
                *left -= 1;
                Some(s + jumps.length)
            }
            None => s,
        };
        out.push((t, s, at));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{CallNoise, Sampler};
    use super::*;
    use crate::schedule::{Arithmetic, Betas};

    #[test]
    fn the_papers_schedule_makes_2410_calls() {
        assert_eq!(order(250, Jumps::default()).len(), 2410);
        assert_eq!(order(250, Jumps { length: 10, resamplings: 1 }).len(), 250);
        let short = order(5, Jumps { length: 2, resamplings: 2 });
        let places: Vec<usize> = short.iter().map(|o| o.0).collect();
        assert_eq!(places, [4, 3, 4, 3, 2, 1, 2, 1, 0]);
        assert_eq!(short[1], (3, Some(2), Some(4)));
        assert_eq!(short[8], (0, None, None));
    }

    #[test]
    fn a_jump_arrives_at_its_level() {
        let schedule = |rescale_zero_snr: bool| {
            NoiseSchedule::new(&Betas { rescale_zero_snr, ..Betas::default() }, Arithmetic::Float64).unwrap()
        };
        arrives(&schedule(false), [900, 600, 300, 100, 0]);
        // The noisiest level may have no signal.
        arrives(&schedule(true), [999, 600, 300, 100, 0]);
    }

    fn arrives(schedule: &NoiseSchedule, list: [u32; 5]) {
        let s = repaint(schedule, &list, Prediction::default(), Jumps { length: 2, resamplings: 3 }).unwrap();
        // With the true x_0 and x_t = alpha x_0 + sigma eps of variance 1 each step keeps the marginal of its target.
        for (i, level) in s.levels().iter().enumerate() {
            let (call, target) = (&s.calls()[i], s.target(i).unwrap());
            let mean = &call.updates[0].mean;
            let (of_x0, of_eps) = (
                mean.coefficient(Of::X0) + mean.coefficient(Of::X) * level.alpha,
                mean.coefficient(Of::X) * level.sigma,
            );
            let std = match call.noise {
                CallNoise::Std(std) => std,
                _ => 0.0,
            };
            assert!((of_x0 - target.alpha).abs() < 1e-6, "{i}");
            let variance = of_eps * of_eps + std * std;
            assert!((variance - target.sigma * target.sigma).abs() < 1e-6, "{i}");
        }
        assert!(!s.needs_noise(s.levels().len() - 1) && s.needs_noise(0));
        for jumps in [(0, 1), (1, 0), (1, usize::MAX)] {
            let jumps = Jumps { length: jumps.0, resamplings: jumps.1 };
            assert!(repaint(schedule, &list, Prediction::default(), jumps).is_err());
        }
        let long = Jumps { length: usize::MAX, resamplings: 2 };
        assert_eq!(repaint(schedule, &list, Prediction::default(), long).unwrap().levels().len(), 5);
    }
}
