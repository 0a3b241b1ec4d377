//! DDIM (Song, Meng and Ermon 2020).

use alloc::vec::Vec;

use super::{Estimate, Linear, Prediction, Sampler, Spread, at_step, fingerprint, mean_of_two, predict_by};
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
    /// All of the noise in x_s, sqrt(1 - abar_s): x_s = sqrt(abar_s) x_0 + sqrt(1 - abar_s) (sqrt(1 - eta^2) eps + eta z), as
    /// DDRM, DDNM (eta = 0.85) and DiffPIR (eta^2 = zeta) say. At eta = 1 each step forgets eps.
    Level,
}

/// The options of [`Ddim`] beside those of the prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DdimOptions {
    /// 0 is deterministic, 1 has the variance of DDPM's `fixed_small` or, with [`DdimNoise::Level`], all of it; 0 ..= 1.
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

#[derive(Clone, Copy, Debug)]
struct Step {
    alpha: f32,
    sigma: f32,
    x0: f32,
    eps: f32,
    std: f32,
}

/// The DDIM sampler.
///
/// mean = sqrt(abar_s) x_0 + sqrt(1 - abar_s - sigma^2) eps with sigma = eta sqrt((1 - abar_s) / (1 - abar_t)
/// (1 - abar_t / abar_s)), the spread (Song 2020, eq. 12 and 16), or sigma = eta sqrt(1 - abar_s) ([`DdimNoise`]). eps is not computed again after clipping unless
/// [`Prediction::rederive_eps`] says so.
///
/// A network that also gives a learned variance may be used: the second half of its output is ignored.
#[derive(Clone, Debug)]
pub struct Ddim {
    prediction: Prediction,
    levels: Vec<Level>,
    targets: Vec<Level>,
    steps: Vec<Step>,
    fingerprint: u64,
}

impl Ddim {
    /// The sampler for decreasing `timesteps` of `schedule`.
    ///
    /// Errors (kind `InvalidArgument`): the list is empty, not decreasing or beyond the schedule; eta is not in 0 ..= 1; the
    /// clip is no range; a coefficient is not finite in the schedule's arithmetic.
    pub fn new(
        schedule: &NoiseSchedule,
        timesteps: &[u32],
        prediction: Prediction,
        options: DdimOptions,
    ) -> Result<Self> {
        prediction.check()?;
        let DdimOptions { eta, noise, set_alpha_to_one, previous } = options;
        ensure!((0.0..=1.0).contains(&eta), InvalidArgument, "eta is {eta}, expected 0 to 1");
        let train = schedule.num_train_timesteps();
        let list = custom_timesteps(train, timesteps)?;
        let stride = (train / list.len().max(1)) as u64;
        let last = if set_alpha_to_one { 1.0 } else { schedule.alpha_bar(0)? };
        let mut levels = Vec::with_capacity(list.len());
        let mut targets = Vec::with_capacity(list.len());
        let mut steps = Vec::with_capacity(list.len());
        for (i, &t) in list.iter().enumerate() {
            let abar = schedule.alpha_bar(t)?;
            let s = match previous {
                DdimPrevious::Diffusers => u64::from(t).checked_sub(stride).map(|s| s as u32),
                DdimPrevious::NextTimestep => list.get(i + 1).copied(),
            };
            let abar_s = s.map_or(Ok(last), |s| schedule.alpha_bar(s))?;
            let step = match schedule.arithmetic() {
                Arithmetic::Float32 => coefficients::<f32>(abar, abar_s, eta, noise),
                Arithmetic::Float64 => coefficients::<f64>(abar, abar_s, eta, noise),
            };
            ensure!(
                step.sigma > 0.0 && step.x0.is_finite() && step.eps.is_finite() && step.std.is_finite(),
                InvalidArgument,
                "the step from timestep {t} (product of alphas {abar}, then {abar_s}) has no finite coefficients"
            );
            levels.push(Level::variance_preserving(f64::from(t), abar));
            targets.push(Level::variance_preserving(s.map_or(0.0, f64::from), abar_s));
            steps.push(step);
        }
        let mut f = fingerprint(Fingerprint::new().bytes(b"ddim"), &prediction);
        for (step, level) in steps.iter().zip(&levels) {
            f = f.f64(level.timestep).f32s(&[step.alpha, step.sigma, step.x0, step.eps, step.std]);
        }
        Ok(Self { prediction, levels, targets, steps, fingerprint: f.finish() })
    }

    /// How x_0 and eps follow from the output.
    pub fn prediction(&self) -> &Prediction {
        &self.prediction
    }

    fn at(&self, step: usize) -> Result<&Step> {
        at_step(self.name(), &self.steps, step)
    }
}

fn coefficients<R: Real>(abar: f64, previous: f64, eta: f64, noise: DdimNoise) -> Step {
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
    Step {
        alpha: f32(abar.sqrt()),
        sigma: f32(one_minus.sqrt()),
        x0: f32(previous.sqrt()),
        eps: f32(direction.sqrt()),
        std: f32(std),
    }
}

impl Sampler for Ddim {
    fn name(&self) -> &'static str {
        "DDIM"
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
        mean_of_two((s.x0, estimate.x0), (s.eps, estimate.eps, "eps"), [state, next_state], mean)
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
