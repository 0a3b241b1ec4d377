//! Sohl-Dickstein's chain in the limit of continuous time: Euler-Maruyama on the reverse stochastic differential
//! equation.

use alloc::vec::Vec;

use super::plan::{Call, CallNoise, Mix, Of, Plan};
use super::{Prediction, prediction_fingerprint};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::process::{Rate, ReverseStep};
use crate::schedule::{Level, MAX_TRAIN_TIMESTEPS};

/// How the times of the steps are spread from `t_max` to `t_min`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeSpacing {
    /// Evenly in the logarithm of t. The drift grows as 1 / t, so each step then takes the same part of it.
    #[default]
    Geometric,
    /// Evenly in t: a step must be below `t_min`, or the last ones overshoot.
    Uniform,
}

/// The options of [`euler_maruyama`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContinuousOptions {
    /// beta(t).
    pub rate: Rate,
    /// Where the chain starts, as white noise; abar(t_max) should be near 0.
    pub t_max: f64,
    /// Where it stops and takes the prediction of x_0 for the result; above 0, because the drift diverges there.
    pub t_min: f64,
    /// Network calls, 1 or more.
    pub steps: usize,
    /// How the times lie between them.
    pub spacing: TimeSpacing,
    /// The network is told `time_scale` t + `time_shift`. A model of T discrete steps wants T and -1.
    pub time_scale: f64,
    /// See `time_scale`.
    pub time_shift: f64,
}

impl Default for ContinuousOptions {
    /// DDPM's process with its 1000 timesteps, from t = 1 to 0.001 in 500 steps.
    fn default() -> Self {
        Self {
            rate: Rate::Linear { start: 0.1, end: 20.0 },
            t_max: 1.0,
            t_min: 1e-3,
            steps: 500,
            spacing: TimeSpacing::Geometric,
            time_scale: 1000.0,
            time_shift: -1.0,
        }
    }
}

impl ContinuousOptions {
    /// Errors (kind `InvalidArgument`) as [`euler_maruyama`].
    fn check(&self) -> Result<()> {
        let Self { rate, t_max, t_min, steps, .. } = *self;
        ensure!(
            t_min > 0.0 && t_max > t_min && t_max.is_finite(),
            InvalidArgument,
            "the times go from {t_max} to {t_min}, expected to fall to above 0"
        );
        ensure!(
            (1..=MAX_TRAIN_TIMESTEPS).contains(&steps),
            InvalidArgument,
            "a chain of {steps} steps, expected 1 to {MAX_TRAIN_TIMESTEPS}"
        );
        rate.check(t_max)
    }

    fn time(&self, step: usize) -> f64 {
        let Self { t_max, t_min, steps, .. } = *self;
        let part = if steps <= 1 { 0.0 } else { step as f64 / (steps - 1) as f64 };
        match self.spacing {
            TimeSpacing::Uniform => t_max + (t_min - t_max) * part,
            TimeSpacing::Geometric => t_max * libm::pow(t_min / t_max, part),
        }
    }

    /// The moments of step `step`; `None` for the last call, which gives the result, and beyond.
    fn reverse_step(&self, step: usize) -> Option<ReverseStep> {
        let integral = |step| self.rate.integral(self.time(step));
        let next = step.checked_add(1).filter(|&next| next < self.steps)?;
        Some(ReverseStep::euler_maruyama(integral(step), integral(step) - integral(next)))
    }

    /// The weight of |f0 - x_0|^2 in the divergence of a step (nats), csch^2(B / 2) d / 8; 0 for the last: the
    /// continuous limit of a step's divergence.
    pub fn kl_weight(&self, step: usize) -> f64 {
        self.reverse_step(step).map_or(0.0, |s| s.kl_weight)
    }
}

/// The sampler: x_s = mean + sqrt(d) z with the moments of [`ReverseStep`], from t_max to t_min; the last call's x_0 is
/// the result.
///
/// The network predicts x_0, or eps or v, from which x_0 follows. Scalars are f64, elements f32.
/// [`bound`](crate::evaluate::bound) evaluates it as any chain whose steps draw.
///
/// Errors (kind `InvalidArgument`): times that are not 0 < t_min < t_max, no steps or too many, a rate that is not
/// above 0, an abar that is 0 or 1 to rounding, a clip that is no range.
///
/// ```
/// use undiffuse::process::{Prediction, PredictionType};
/// use undiffuse::sampler::{ContinuousOptions, Sampler, euler_maruyama};
///
/// let prediction = Prediction { kind: PredictionType::Sample, ..Default::default() };
/// let sampler = euler_maruyama(&ContinuousOptions { steps: 200, ..Default::default() }, prediction)?;
/// assert_eq!((sampler.levels().len(), sampler.levels()[0].timestep), (200, 999.0));
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn euler_maruyama(options: &ContinuousOptions, prediction: Prediction) -> Result<Plan> {
    options.check()?;
    let mut f = prediction_fingerprint(Fingerprint::new().bytes(b"euler maruyama"), &prediction);
    let mut levels = Vec::with_capacity(options.steps);
    for i in 0..options.steps {
        let (t, integral) = (options.time(i), options.rate.integral(options.time(i)));
        let level = Level {
            timestep: options.time_scale * t + options.time_shift,
            alpha: libm::exp(-0.5 * integral),
            sigma: libm::sqrt(-libm::expm1(-integral)),
        };
        ensure!(
            level.timestep.is_finite() && level.alpha > 0.0 && level.sigma > 0.0,
            InvalidArgument,
            "at time {t} the network's timestep is {} and abar {}, expected finite numbers within 0 and 1",
            level.timestep,
            level.alpha * level.alpha
        );
        levels.push(level);
        f = f.f64(level.timestep).f64(integral);
    }
    let clean = Level::CLEAN;
    let call = |(i, &level): (usize, &Level)| {
        let target = levels.get(i + 1).copied().unwrap_or(clean);
        match options.reverse_step(i) {
            Some(s) => {
                let noise = CallNoise::Std(libm::sqrt(s.variance));
                Call { noise, ..Call::new(level, target, Mix::of(&[(Of::X0, s.x0), (Of::X, s.x)])) }
            }
            None => Call::new(level, target, Mix::just(Of::X0)),
        }
    };
    let calls = levels.iter().enumerate().map(call).collect();
    Ok(Plan::new("Euler-Maruyama", prediction, 0, 1.0, calls)?.with_fingerprint(f))
}

#[cfg(test)]
mod tests {
    use super::super::{Estimate, Sampler, Spread};
    use super::*;
    use crate::process::PredictionType;

    fn sampler(options: ContinuousOptions) -> Result<Plan> {
        euler_maruyama(&options, Prediction { kind: PredictionType::Sample, ..Default::default() })
    }

    #[test]
    fn the_variance_of_a_gaussian_is_reached_as_the_steps_grow() {
        // With the exact denoiser of N(0, v) every step is linear, so the variance follows by recursion.
        let v = 0.3;
        for rate in [Rate::Constant(8.0), Rate::Linear { start: 0.1, end: 20.0 }] {
            let reached = |steps: usize| {
                let s = sampler(ContinuousOptions { rate, t_min: 1e-4, steps, ..Default::default() }).unwrap();
                let mut variance = 1.0;
                for (step, l) in s.levels().iter().enumerate() {
                    let gain = l.alpha * v / (l.alpha * l.alpha * v + l.sigma * l.sigma);
                    let (mut x0, mut eps, mut mean) = ([0.0], [0.0], [0.0]);
                    s.predict(step, &[1.0], &[gain as f32], &mut x0, &mut eps).unwrap();
                    s.mean(step, 0, Estimate { x: &[1.0], x0: &x0, eps: &eps }, &[], &mut [], &mut mean).unwrap();
                    let std = match s.spread(step, 1, &mut [0.0]).unwrap() {
                        Spread::Scalar(std) => f64::from(std),
                        _ => 0.0,
                    };
                    variance = variance * f64::from(mean[0]) * f64::from(mean[0]) + std * std;
                }
                (variance - v).abs()
            };
            let errors = [100, 400, 1600].map(reached);
            assert!(errors[2] < 0.01 && errors[1] < 0.5 * errors[0] && errors[2] < 0.5 * errors[1], "{errors:?}");
        }
    }

    #[test]
    fn times_and_ends() {
        let options = ContinuousOptions { steps: 3, time_scale: 1.0, time_shift: 0.0, ..Default::default() };
        let s = sampler(options).unwrap();
        let times: Vec<f64> = s.levels().iter().map(|l| l.timestep).collect();
        assert!((times[1] - 0.001f64.sqrt()).abs() < 1e-12 && (times[2] - 0.001).abs() < 1e-15, "{times:?}");
        assert!(s.needs_noise(1) && !s.needs_noise(2) && options.kl_weight(0) > 0.0 && options.kl_weight(2) == 0.0);
        assert_eq!((s.spread(2, 1, &mut [0.0]).unwrap(), s.target(2).unwrap().sigma), (Spread::None, 0.0));
        assert!(s.target(3).is_err());
        let even = ContinuousOptions { steps: 3, spacing: TimeSpacing::Uniform, ..Default::default() };
        assert!((sampler(even).unwrap().levels()[1].timestep - 499.5).abs() < 1e-9);
    }

    #[test]
    fn nonsense_is_refused() {
        let o = ContinuousOptions::default();
        for bad in [
            ContinuousOptions { t_min: 0.0, ..o },
            ContinuousOptions { t_min: 2.0, ..o },
            ContinuousOptions { t_max: f64::NAN, ..o },
            ContinuousOptions { steps: 0, ..o },
            ContinuousOptions { steps: usize::MAX, ..o },
            ContinuousOptions { rate: Rate::Constant(-1.0), ..o },
            ContinuousOptions { rate: Rate::Constant(1e6), ..o },
            ContinuousOptions { time_scale: f64::INFINITY, ..o },
        ] {
            assert_eq!(sampler(bad).unwrap_err().kind(), crate::ErrorKind::InvalidArgument, "{bad:?}");
        }
    }
}
