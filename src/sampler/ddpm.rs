//! DDPM: ancestral sampling (Ho, Jain and Abbeel 2020).

use alloc::vec::Vec;

use super::plan::{Call, CallNoise, Mix, Of, Plan};
use super::{Prediction, prediction_fingerprint};
use crate::error::Result;
use crate::noise::Fingerprint;
use crate::process::Posterior;
use crate::schedule::{Arithmetic, Level, NoiseSchedule, Real, custom_timesteps};

/// The variance of a DDPM step. The names are diffusers'. With beta the step's own beta (between visited timesteps) and
/// beta~ = (1 - abar_s) / (1 - abar_t) beta, at least 1e-20:
///
/// Neither is right in few steps: a step's true variance has that of x_0 given x_t in it, see
/// [`OptimalVariance`](crate::posterior::OptimalVariance). Of a Gaussian whose standard deviations are 0.13 to 0.42, 36
/// steps have 0.46 to 0.71 of the variances with beta~ and 1.13 to 1.65 with beta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
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

/// DDPM for decreasing `timesteps` of `schedule`.
///
/// mean = sqrt(abar_s) beta / (1 - abar_t) x_0 + sqrt(1 - beta) (1 - abar_s) / (1 - abar_t) x_t with
/// beta = 1 - abar_t / abar_s (Ho 2020, eq. 7, between visited timesteps); s is the next timestep of the list, after
/// the last abar_s = 1. Noise is added wherever t > 0, so also by the last step of a list that does not end at 0.
///
/// Errors (kind `InvalidArgument`): the list is empty, not decreasing or beyond the schedule; the clip is no range; a
/// coefficient is not finite in the schedule's arithmetic.
pub fn ddpm(
    schedule: &NoiseSchedule,
    timesteps: &[u32],
    prediction: Prediction,
    variance: VarianceType,
) -> Result<Plan> {
    let list = custom_timesteps(schedule.num_train_timesteps(), timesteps)?;
    let levels = list.iter().map(|&t| Ok(Level::variance_preserving(f64::from(t), schedule.alpha_bar(t)?)));
    let levels = levels.collect::<Result<Vec<_>>>()?;
    let mut calls = Vec::with_capacity(list.len());
    let mut f = prediction_fingerprint(Fingerprint::new().bytes(b"ddpm"), &prediction);
    for (i, &t) in list.iter().enumerate() {
        let abar = schedule.alpha_bar(t)?;
        let previous = list.get(i + 1).map_or(Ok(1.0), |&s| schedule.alpha_bar(s))?;
        let posterior = Posterior::new(abar, previous, schedule.arithmetic());
        let (factors, noise) = match schedule.arithmetic() {
            Arithmetic::Float32 => coefficients::<f32>(abar, &posterior, variance, t),
            Arithmetic::Float64 => coefficients::<f64>(abar, &posterior, variance, t),
        };
        let (x0, x) = (posterior.x0 as f32, posterior.x as f32);
        let mean = Mix::of(&[(Of::X0, f64::from(x0)), (Of::X, f64::from(x))]);
        let level = Level::variance_preserving(f64::from(t), abar);
        let target = levels.get(i + 1).copied().unwrap_or(Level::CLEAN);
        f = f.f64(level.timestep).f32s(&factors).f32s(&[x0, x]);
        f = match noise {
            CallNoise::None | CallNoise::Langevin { .. } => f.u64(0),
            CallNoise::Std(std) => f.u64(1).f32s(&[std as f32]),
            CallNoise::Learned => f.u64(2),
            CallNoise::LearnedRange { min_log, max_log } => f.u64(3).f32s(&[min_log, max_log]),
        };
        calls.push(Call { factors, noise, ..Call::new(level, target, mean) });
    }
    Ok(Plan::new("DDPM", prediction, 0, 1.0, calls)?.with_fingerprint(f))
}

/// The factors of x_t, and the noise.
fn coefficients<R: Real>(
    abar: f64,
    posterior: &Posterior,
    variance: VarianceType,
    timestep: u32,
) -> ([f32; 2], CallNoise) {
    let abar = R::of(abar);
    let beta = R::of(posterior.beta);
    // Its logarithm is taken, so it is kept above 0.
    let small = R::of(posterior.variance.max(1e-20));
    let f32 = |v: R| v.f64() as f32;
    let std = |v: R| CallNoise::Std(f64::from(f32(v)));
    let noise = match variance {
        _ if timestep == 0 => CallNoise::None,
        VarianceType::FixedSmall => std(small.sqrt()),
        VarianceType::FixedSmallLog => std((R::of(0.5) * small.ln()).exp()),
        VarianceType::FixedLarge | VarianceType::FixedLargeLog => std(beta.sqrt()),
        VarianceType::Learned => CallNoise::Learned,
        VarianceType::LearnedRange => CallNoise::LearnedRange { min_log: f32(small.ln()), max_log: f32(beta.ln()) },
    };
    ([f32(abar.sqrt()), f32((R::ONE - abar).sqrt())], noise)
}
