//! Going back and forth in noise (Lugmayr et al. 2022, RePaint).

use alloc::vec;
use alloc::vec::Vec;

use super::{Estimate, Linear, Prediction, Sampler, Spread, at_step, fingerprint, mean_of_two, predict_by};
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

#[derive(Clone, Copy, Debug)]
struct Step {
    alpha: f32,
    sigma: f32,
    x0: f32,
    x: f32,
    std: f32,
}

/// Ancestral steps, some of which are followed by a jump back into noise: x <- sqrt(1 - b) x + sqrt(b) z, with
/// 1 - b = abar_u / abar_s for a jump from s to u.
///
/// A step is one network call, so a jump belongs to the step before it: its mean and variance are those of both together,
/// mean = sqrt(1 - b) mean_s and variance = (1 - b) variance_s + b, with the moments of q(x_s | x_t, x_0) (the variance that
/// is called `fixed_small`). One draw of noise serves both. [`Sampler::target`] is u.
///
/// Without evidence it is DDPM made longer; with [`KnownPixels`](crate::posterior::KnownPixels) it lets known and unknown parts
/// agree. Any other evidence may use it too, as DDNM does ("time-travel"), and [`Calibrated`](crate::posterior::Calibrated) should.
#[derive(Clone, Debug)]
pub struct RePaint {
    prediction: Prediction,
    levels: Vec<Level>,
    targets: Vec<Level>,
    steps: Vec<Step>,
    fingerprint: u64,
}

impl RePaint {
    /// The sampler for decreasing `timesteps` of `schedule`.
    ///
    /// Errors (kind `InvalidArgument`): the list is empty, not decreasing or beyond the schedule; the clip is no range;
    /// a jump of length 0, no resampling, or more than 2^20 calls; an abar of 0.
    pub fn new(schedule: &NoiseSchedule, timesteps: &[u32], prediction: Prediction, jumps: Jumps) -> Result<Self> {
        prediction.check()?;
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
                abar > 0.0 && abar < 1.0,
                InvalidArgument,
                "timestep {t} has a product of alphas of {abar}, RePaint needs it between 0 and 1"
            );
            noisier.push(Level::variance_preserving(f64::from(t), abar));
        }
        let clean = Level { timestep: 0.0, alpha: 1.0, sigma: 0.0 };
        let (mut levels, mut targets, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for (t, s, u) in order(noisier.len(), jumps) {
            let of = |i: Option<usize>| i.and_then(|i| noisier.get(i)).copied().unwrap_or(clean);
            let (t, s, u) = (of(Some(t)), of(s), of(u));
            let p = Posterior::new(t.alpha_bar(), s.alpha_bar(), schedule.arithmetic());
            let kept = u.alpha_bar() / s.alpha_bar();
            let root = libm::sqrt(kept);
            steps.push(Step {
                alpha: t.alpha as f32,
                sigma: t.sigma as f32,
                x0: (root * p.x0) as f32,
                x: (root * p.x) as f32,
                std: libm::sqrt(kept * p.variance + (1.0 - kept)) as f32,
            });
            levels.push(t);
            targets.push(u);
        }
        let mut f = fingerprint(Fingerprint::new().bytes(b"repaint"), &prediction);
        for (step, level) in steps.iter().zip(&levels) {
            f = f.f64(level.timestep).f32s(&[step.alpha, step.sigma, step.x0, step.x, step.std]);
        }
        Ok(Self { prediction, levels, targets, steps, fingerprint: f.finish() })
    }

    fn at(&self, step: usize) -> Result<&Step> {
        at_step(self.name(), &self.steps, step)
    }
}

/// For each call the place t where it is made, s where the ancestral step leads and u where the jump ends (s without a jump);
/// places count up from the least noisy, `None` is x_0. The schedule of the authors' code.
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

impl Sampler for RePaint {
    fn name(&self) -> &'static str {
        "RePaint"
    }

    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn target(&self, step: usize) -> Result<Level> {
        at_step(self.name(), &self.targets, step).copied()
    }

    fn needs_noise(&self, step: usize) -> bool {
        self.steps.get(step).is_some_and(|s| s.std > 0.0)
    }

    fn linear(&self, step: usize) -> Result<Linear> {
        Ok(self.prediction.linear(at_step(self.name(), &self.levels, step)?))
    }

    fn predict(&self, step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()> {
        let s = self.at(step)?;
        predict_by((self, &self.prediction), [s.alpha, s.sigma], [x, output], [x0, eps])
    }

    fn mean(
        &self,
        step: usize,
        _done: usize,
        estimate: Estimate<'_>,
        state: &[f32],
        next_state: &mut [f32],
        mean: &mut [f32],
    ) -> Result<()> {
        let s = self.at(step)?;
        mean_of_two((s.x0, estimate.x0), (s.x, estimate.x, "x"), [state, next_state], mean)
    }

    fn spread(&self, step: usize, n: usize, output: &mut [f32]) -> Result<Spread> {
        let s = self.at(step)?;
        self.check_output_len(n, output.len())?;
        Ok(if s.std > 0.0 { Spread::Scalar(s.std) } else { Spread::None })
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

#[cfg(test)]
mod tests {
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
        let schedule = NoiseSchedule::new(&Betas::default(), Arithmetic::Float64).unwrap();
        let list = [900, 600, 300, 100, 0];
        let s = RePaint::new(&schedule, &list, Prediction::default(), Jumps { length: 2, resamplings: 3 }).unwrap();
        // With the true x_0 and x_t = alpha x_0 + sigma eps of variance 1 each step keeps the marginal of its target.
        for (i, level) in s.levels().iter().enumerate() {
            let (step, target) = (s.steps[i], s.target(i).unwrap());
            let (of_x0, of_eps) =
                (f64::from(step.x0) + f64::from(step.x) * level.alpha, f64::from(step.x) * level.sigma);
            assert!((of_x0 - target.alpha).abs() < 1e-6, "{i}");
            let variance = of_eps * of_eps + f64::from(step.std) * f64::from(step.std);
            assert!((variance - target.sigma * target.sigma).abs() < 1e-6, "{i}");
        }
        assert!(!s.needs_noise(s.levels().len() - 1) && s.needs_noise(0));
        for jumps in [(0, 1), (1, 0), (1, usize::MAX)] {
            let jumps = Jumps { length: jumps.0, resamplings: jumps.1 };
            assert!(RePaint::new(&schedule, &list, Prediction::default(), jumps).is_err());
        }
        let long = Jumps { length: usize::MAX, resamplings: 2 };
        assert_eq!(RePaint::new(&schedule, &list, Prediction::default(), long).unwrap().levels().len(), 5);
    }
}
