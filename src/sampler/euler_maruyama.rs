//! Sohl-Dickstein's chain in the limit of continuous time: Euler-Maruyama on the reverse stochastic differential equation.

use alloc::vec::Vec;

use super::{Estimate, Linear, Prediction, Sampler, Spread, check_len, check_no_state, check_prediction, fingerprint};
use crate::error::{Result, ensure, err};
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

/// The options of [`EulerMaruyama`].
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

/// The sampler: x_s = mean + sqrt(d) z with the moments of [`ReverseStep`], from t_max to t_min; the last call's x_0 is the
/// result.
///
/// The network predicts x_0, or eps or v, from which x_0 follows. Scalars are f64, elements f32.
/// [`bound`](crate::evaluate::bound) evaluates it as any chain whose steps draw; [`EulerMaruyama::kl_weight`] is the continuous limit
/// of a step's divergence.
///
/// ```
/// use undiffuse::process::{Prediction, PredictionType};
/// use undiffuse::sampler::{ContinuousOptions, EulerMaruyama, Sampler};
///
/// let prediction = Prediction { kind: PredictionType::Sample, ..Default::default() };
/// let sampler = EulerMaruyama::new(&ContinuousOptions { steps: 200, ..Default::default() }, prediction)?;
/// assert_eq!((sampler.levels().len(), sampler.levels()[0].timestep), (200, 999.0));
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EulerMaruyama {
    prediction: Prediction,
    levels: Vec<Level>,
    /// One less than levels: the last call gives x_0.
    steps: Vec<ReverseStep>,
    fingerprint: u64,
}

impl EulerMaruyama {
    /// The sampler of these options.
    ///
    /// Errors (kind `InvalidArgument`): times that are not 0 < t_min < t_max, no steps or too many, a rate that is not above 0, an abar that
    /// is 0 or 1 to rounding, a clip that is no range.
    pub fn new(options: &ContinuousOptions, prediction: Prediction) -> Result<Self> {
        prediction.check()?;
        let &ContinuousOptions { rate, t_max, t_min, steps, spacing, time_scale, time_shift } = options;
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
        rate.check(t_max)?;
        let time = |i: usize| {
            let part = if steps == 1 { 0.0 } else { i as f64 / (steps - 1) as f64 };
            match spacing {
                TimeSpacing::Uniform => t_max + (t_min - t_max) * part,
                TimeSpacing::Geometric => t_max * libm::pow(t_min / t_max, part),
            }
        };
        let mut f = fingerprint(Fingerprint::new().bytes(b"euler maruyama"), &prediction);
        let (mut levels, mut all) = (Vec::with_capacity(steps), Vec::with_capacity(steps - 1));
        for i in 0..steps {
            let (t, integral) = (time(i), rate.integral(time(i)));
            let level = Level {
                timestep: time_scale * t + time_shift,
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
            if i + 1 < steps {
                all.push(ReverseStep::euler_maruyama(integral, integral - rate.integral(time(i + 1))));
            }
        }
        Ok(Self { prediction, levels, steps: all, fingerprint: f.finish() })
    }

    /// The weight of |f0 - x_0|^2 in the divergence of a step (nats), csch^2(B / 2) d / 8; 0 for the last.
    pub fn kl_weight(&self, step: usize) -> f64 {
        self.steps.get(step).map_or(0.0, |s| s.kl_weight)
    }

    fn level(&self, step: usize) -> Result<&Level> {
        self.levels.get(step).ok_or_else(|| {
            err!(InvalidArgument, "step {step} of the chain does not exist, there are {}", self.levels.len())
        })
    }
}

impl Sampler for EulerMaruyama {
    fn name(&self) -> &'static str {
        "Euler-Maruyama"
    }

    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn target(&self, step: usize) -> Result<Level> {
        self.level(step)?;
        Ok(self.levels.get(step + 1).copied().unwrap_or(Level { timestep: 0.0, alpha: 1.0, sigma: 0.0 }))
    }

    fn needs_noise(&self, step: usize) -> bool {
        step < self.steps.len()
    }

    fn linear(&self, step: usize) -> Result<Linear> {
        Ok(self.prediction.linear(self.level(step)?))
    }

    fn predict(&self, step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()> {
        let level = self.level(step)?;
        self.check_output_len(x.len(), output.len())?;
        check_prediction(x.len(), x0, eps)?;
        self.prediction.apply(level.alpha as f32, level.sigma as f32, x, output, x0, eps);
        Ok(())
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
        self.level(step)?;
        check_len("x", estimate.x.len(), mean.len())?;
        check_len("x_0", estimate.x0.len(), mean.len())?;
        check_no_state(state, next_state)?;
        let Some(s) = self.steps.get(step) else {
            mean.copy_from_slice(estimate.x0);
            return Ok(());
        };
        let (of_x0, of_x) = (s.x0 as f32, s.x as f32);
        for ((mean, x), x0) in mean.iter_mut().zip(estimate.x).zip(estimate.x0) {
            *mean = of_x0 * x0 + of_x * x;
        }
        Ok(())
    }

    fn spread(&self, step: usize, n: usize, output: &mut [f32]) -> Result<Spread> {
        self.level(step)?;
        self.check_output_len(n, output.len())?;
        Ok(self.steps.get(step).map_or(Spread::None, |s| Spread::Scalar(libm::sqrt(s.variance) as f32)))
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::PredictionType;

    fn sampler(options: ContinuousOptions) -> Result<EulerMaruyama> {
        EulerMaruyama::new(&options, Prediction { kind: PredictionType::Sample, ..Default::default() })
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
        let s =
            sampler(ContinuousOptions { steps: 3, time_scale: 1.0, time_shift: 0.0, ..Default::default() }).unwrap();
        let times: Vec<f64> = s.levels().iter().map(|l| l.timestep).collect();
        assert!((times[1] - 0.001f64.sqrt()).abs() < 1e-12 && (times[2] - 0.001).abs() < 1e-15, "{times:?}");
        assert!(s.needs_noise(1) && !s.needs_noise(2) && s.kl_weight(0) > 0.0 && s.kl_weight(2) == 0.0);
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
