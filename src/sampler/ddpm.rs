//! DDPM: ancestral sampling (Ho, Jain and Abbeel 2020).

use alloc::vec::Vec;

use super::{Estimate, Linear, Prediction, Sampler, Spread, at_step, fingerprint, mean_of_two, predict_by};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::process::Posterior;
use crate::schedule::{Arithmetic, Level, NoiseSchedule, Real, custom_timesteps};

/// The variance of a DDPM step. The names are diffusers'. With beta the step's own beta (between visited timesteps) and
/// beta~ = (1 - abar_s) / (1 - abar_t) beta, at least 1e-20:
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VarianceType {
    /// beta~.
    #[default]
    FixedSmall,
    /// beta~, by way of its logarithm.
    FixedSmallLog,
    /// beta.
    FixedLarge,
    /// beta, by way of its logarithm. Diffusers 0.42.1 takes the square root of that logarithm, which is NaN; this is
    /// what was meant, and equals `FixedLarge`.
    FixedLargeLog,
    /// The second half of the network's output is the variance.
    Learned,
    /// The second half of the output, v in -1 ..= 1, moves between the logarithms: with f = (v + 1) / 2 the variance is
    /// exp(f log beta + (1 - f) log beta~) (Nichol and Dhariwal 2021, eq. 15).
    LearnedRange,
}

impl VarianceType {
    /// All of them, with the names that configurations use.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("fixed_small", Self::FixedSmall),
        ("fixed_small_log", Self::FixedSmallLog),
        ("fixed_large", Self::FixedLarge),
        ("fixed_large_log", Self::FixedLargeLog),
        ("learned", Self::Learned),
        ("learned_range", Self::LearnedRange),
    ];

    /// Whether the network gives a variance in the second half of its output.
    pub fn is_learned(self) -> bool {
        matches!(self, Self::Learned | Self::LearnedRange)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Variance {
    /// Of the step to timestep 0, which adds no noise.
    Zero,
    Std(f32),
    Learned,
    LearnedRange {
        min_log: f32,
        max_log: f32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Step {
    alpha: f32,
    sigma: f32,
    x0: f32,
    x: f32,
    variance: Variance,
}

/// The DDPM sampler.
///
/// mean = sqrt(abar_s) beta / (1 - abar_t) x_0 + sqrt(1 - beta) (1 - abar_s) / (1 - abar_t) x_t with
/// beta = 1 - abar_t / abar_s (Ho 2020, eq. 7, between visited timesteps); s is the next timestep of the list, after the
/// last abar_s = 1. Noise is added wherever t > 0, so also by the last step of a list that does not end at 0.
#[derive(Clone, Debug)]
pub struct Ddpm {
    prediction: Prediction,
    levels: Vec<Level>,
    steps: Vec<Step>,
    learned: bool,
    fingerprint: u64,
}

impl Ddpm {
    /// The sampler for decreasing `timesteps` of `schedule`.
    ///
    /// Errors (kind `InvalidArgument`): the list is empty, not decreasing or beyond the schedule; the clip is no range; a
    /// coefficient is not finite in the schedule's arithmetic.
    pub fn new(
        schedule: &NoiseSchedule,
        timesteps: &[u32],
        prediction: Prediction,
        variance: VarianceType,
    ) -> Result<Self> {
        prediction.check()?;
        let list = custom_timesteps(schedule.num_train_timesteps(), timesteps)?;
        let mut levels = Vec::with_capacity(list.len());
        let mut steps = Vec::with_capacity(list.len());
        for (i, &t) in list.iter().enumerate() {
            let abar = schedule.alpha_bar(t)?;
            let previous = match list.get(i + 1) {
                Some(&s) => schedule.alpha_bar(s)?,
                None => 1.0,
            };
            let posterior = Posterior::new(abar, previous, schedule.arithmetic());
            let step = match schedule.arithmetic() {
                Arithmetic::Float32 => coefficients::<f32>(abar, &posterior, variance, t),
                Arithmetic::Float64 => coefficients::<f64>(abar, &posterior, variance, t),
            };
            let log_is_finite = match step.variance {
                Variance::LearnedRange { min_log, max_log } => min_log.is_finite() && max_log.is_finite(),
                Variance::Std(std) => std.is_finite(),
                Variance::Zero | Variance::Learned => true,
            };
            ensure!(
                step.x0.is_finite() && step.x.is_finite() && step.sigma > 0.0 && log_is_finite,
                InvalidArgument,
                "the step from timestep {t} (product of alphas {abar}, then {previous}) has no finite coefficients"
            );
            levels.push(Level::variance_preserving(f64::from(t), abar));
            steps.push(step);
        }
        let mut f = fingerprint(Fingerprint::new().bytes(b"ddpm"), &prediction);
        for (step, level) in steps.iter().zip(&levels) {
            f = f.f64(level.timestep).f32s(&[step.alpha, step.sigma, step.x0, step.x]);
            f = match step.variance {
                Variance::Zero => f.u64(0),
                Variance::Std(std) => f.u64(1).f32s(&[std]),
                Variance::Learned => f.u64(2),
                Variance::LearnedRange { min_log, max_log } => f.u64(3).f32s(&[min_log, max_log]),
            };
        }
        Ok(Self { prediction, levels, steps, learned: variance.is_learned(), fingerprint: f.finish() })
    }

    /// How x_0 and eps follow from the output.
    pub fn prediction(&self) -> &Prediction {
        &self.prediction
    }

    fn at(&self, step: usize) -> Result<&Step> {
        at_step(self.name(), &self.steps, step)
    }
}

fn coefficients<R: Real>(abar: f64, posterior: &Posterior, variance: VarianceType, timestep: u32) -> Step {
    let abar = R::of(abar);
    let beta = R::of(posterior.beta);
    // Its logarithm is taken, so it is kept above 0.
    let small = R::of(posterior.variance.max(1e-20));
    let f32 = |v: R| v.f64() as f32;
    let variance = match variance {
        _ if timestep == 0 => Variance::Zero,
        VarianceType::FixedSmall => Variance::Std(f32(small.sqrt())),
        VarianceType::FixedSmallLog => Variance::Std(f32((R::of(0.5) * small.ln()).exp())),
        VarianceType::FixedLarge | VarianceType::FixedLargeLog => Variance::Std(f32(beta.sqrt())),
        VarianceType::Learned => Variance::Learned,
        VarianceType::LearnedRange => Variance::LearnedRange { min_log: f32(small.ln()), max_log: f32(beta.ln()) },
    };
    Step {
        alpha: f32(abar.sqrt()),
        sigma: f32((R::ONE - abar).sqrt()),
        x0: posterior.x0 as f32,
        x: posterior.x as f32,
        variance,
    }
}

impl Sampler for Ddpm {
    fn name(&self) -> &'static str {
        "DDPM"
    }

    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn target(&self, step: usize) -> Result<Level> {
        self.at(step)?;
        Ok(self.levels.get(step + 1).copied().unwrap_or(Level { timestep: 0.0, alpha: 1.0, sigma: 0.0 }))
    }

    fn needs_noise(&self, step: usize) -> bool {
        self.steps.get(step).is_some_and(|s| s.variance != Variance::Zero)
    }

    fn check_output_len(&self, n: usize, output_len: usize) -> Result<()> {
        let suits = Some(output_len) == n.checked_mul(2) || (output_len == n && !self.learned);
        ensure!(
            suits,
            Shape,
            "the network gives {output_len} values for a sample of {n}, expected {}",
            if self.learned { "twice as many, for the learned variance" } else { "as many, or twice as many" }
        );
        Ok(())
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
        let std_of: &dyn Fn(f32) -> f32 = match s.variance {
            Variance::Zero => return Ok(Spread::None),
            Variance::Std(std) => return Ok(Spread::Scalar(std)),
            Variance::Learned => &libm::sqrtf,
            Variance::LearnedRange { min_log, max_log } => &move |v: f32| {
                let f = (v + 1.0) / 2.0;
                let log = f * max_log + (1.0 - f) * min_log;
                libm::exp(f64::from(0.5 * log)) as f32
            },
        };
        for (i, v) in output.iter_mut().skip(n).enumerate() {
            let std = std_of(*v);
            ensure!(
                std.is_finite(),
                NonFinite,
                "the learned variance of element {i} is {v} at timestep {}, its square root is no finite number",
                self.levels.get(step).map_or(0.0, |l| l.timestep)
            );
            *v = std;
        }
        Ok(Spread::PerElement)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
