//! DDIM (Song, Meng and Ermon 2020).

use alloc::vec::Vec;

use super::plan::{Call, CallNoise, Mix, Of, Plan};
use super::{Prediction, prediction_fingerprint};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::schedule::{Arithmetic, Level, NoiseSchedule, Real, custom_timesteps};

/// Which timestep a DDIM step leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DdimPrevious {
    /// t - T / N (rounded down), as diffusers computes it. It equals the next visited timestep with `leading` spacing;
    /// with `linspace` and often with `trailing` it does not, so the next network call is told another level than x has
    /// (diffusers issues 11347 and 12633).
    #[default]
    Diffusers,
    /// The next timestep of the list: what the paper says.
    NextTimestep,
}

/// What eta is a fraction of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DdimNoise {
    /// The standard deviation of q(x_s | x_t, x_0), as Song 2020 and diffusers say.
    #[default]
    Posterior,
    /// All of the noise in x_s, sqrt(1 - abar_s): x_s = sqrt(abar_s) x_0 + sqrt(1 - abar_s) (sqrt(1 - eta^2) eps + eta
    /// z), as DDRM, DDNM (eta = 0.85) and DiffPIR (eta^2 = zeta) say. At eta = 1 each step forgets eps.
    Level,
}

/// The options of [`ddim`] beside those of the prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DdimOptions {
    /// 0 is deterministic, 1 has the variance of DDPM's `fixed_small` or, with [`DdimNoise::Level`], all of it; 0 ..=
    /// 1.
    pub eta: f64,
    /// What eta is a fraction of.
    pub noise: DdimNoise,
    /// Whether the last step leads to abar = 1; if not, to abar_0.
    pub set_alpha_to_one: bool,
    /// Which timestep a step leads to.
    pub previous: DdimPrevious,
}

impl Default for DdimOptions {
    fn default() -> Self {
        Self { eta: 0.0, noise: DdimNoise::Posterior, set_alpha_to_one: true, previous: DdimPrevious::Diffusers }
    }
}

/// DDIM for decreasing `timesteps` of `schedule`.
///
/// mean = sqrt(abar_s) x_0 + sqrt(1 - abar_s - sigma^2) eps with sigma = eta sqrt((1 - abar_s) / (1 - abar_t)
/// (1 - abar_t / abar_s)), the spread (Song 2020, eq. 12 and 16), or sigma = eta sqrt(1 - abar_s) ([`DdimNoise`]). eps
/// is not computed again after clipping unless [`Prediction::rederive_eps`] says so.
///
/// A network that also gives a learned variance may be used: the second half of its output is ignored.
///
/// Errors (kind `InvalidArgument`): the list is empty, not decreasing or beyond the schedule; eta is not in 0 ..= 1;
/// the clip is no range; a coefficient is not finite in the schedule's arithmetic.
pub fn ddim(schedule: &NoiseSchedule, timesteps: &[u32], prediction: Prediction, options: DdimOptions) -> Result<Plan> {
    let DdimOptions { eta, noise, set_alpha_to_one, previous } = options;
    ensure!((0.0..=1.0).contains(&eta), InvalidArgument, "eta is {eta}, expected 0 to 1");
    let train = schedule.num_train_timesteps();
    let list = custom_timesteps(train, timesteps)?;
    let stride = (train / list.len().max(1)) as u64;
    let last = if set_alpha_to_one { 1.0 } else { schedule.alpha_bar(0)? };
    let mut calls = Vec::with_capacity(list.len());
    let mut f = prediction_fingerprint(Fingerprint::new().bytes(b"ddim"), &prediction);
    for (i, &t) in list.iter().enumerate() {
        let abar = schedule.alpha_bar(t)?;
        let s = match previous {
            DdimPrevious::Diffusers => u64::from(t).checked_sub(stride).map(|s| s as u32),
            DdimPrevious::NextTimestep => list.get(i + 1).copied(),
        };
        let abar_s = s.map_or(Ok(last), |s| schedule.alpha_bar(s))?;
        let (factors, [x0, eps, std]) = match schedule.arithmetic() {
            Arithmetic::Float32 => coefficients::<f32>(abar, abar_s, eta, noise),
            Arithmetic::Float64 => coefficients::<f64>(abar, abar_s, eta, noise),
        };
        let level = Level::variance_preserving(f64::from(t), abar);
        let target = Level::variance_preserving(s.map_or(0.0, f64::from), abar_s);
        let mean = Mix::of(&[(Of::X0, f64::from(x0)), (Of::Eps, f64::from(eps))]);
        let noise = if std > 0.0 { CallNoise::Std(f64::from(std)) } else { CallNoise::None };
        f = f.f64(level.timestep).f32s(&factors).f32s(&[x0, eps, std]);
        calls.push(Call { factors, noise, ..Call::new(level, target, mean) });
    }
    Ok(Plan::new("DDIM", prediction, 0, 1.0, calls)?.with_fingerprint(f))
}

/// The factors of x_t; those of x_0, eps and noise in x_s.
fn coefficients<R: Real>(abar: f64, previous: f64, eta: f64, noise: DdimNoise) -> ([f32; 2], [f32; 3]) {
    let (abar, previous) = (R::of(abar), R::of(previous));
    let one_minus = R::ONE - abar;
    let one_minus_previous = R::ONE - previous;
    let variance = match noise {
        DdimNoise::Posterior => one_minus_previous / one_minus * (R::ONE - abar / previous),
        DdimNoise::Level => one_minus_previous,
    };
    let std = R::of(eta) * variance.sqrt();
    // At eta = 1 this is 0 in exact arithmetic where abar_t is 0 and may round below it.
    let direction = one_minus_previous - std * std;
    let direction = if direction < R::of(0.0) { R::of(0.0) } else { direction };
    let f32 = |v: R| v.f64() as f32;
    ([f32(abar.sqrt()), f32(one_minus.sqrt())], [f32(previous.sqrt()), f32(direction.sqrt()), f32(std)])
}
