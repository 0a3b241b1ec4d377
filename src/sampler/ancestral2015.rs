//! The Gaussian chain of Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli 2015.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::{Estimate, Sampler, Spread, check_len, check_no_state, check_prediction};
use crate::error::{Result, ensure, err};
use crate::noise::Fingerprint;
use crate::process::{Linear, Posterior, Prediction, PredictionType};
use crate::schedule::{Arithmetic, Level, NoiseSchedule};

/// What the network's output means. Of a sample of n values the 2015 readouts take 2 n: z_mu, then z_Sigma.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Readout2015 {
    /// The authors' code: mu = x sqrt(1 - beta) + z_mu sqrt(beta), Sigma = sigmoid(z_Sigma / sqrt(T) + logit beta).
    #[default]
    Code,
    /// The paper's Eqs. 64 and 65: Sigma = sigmoid(z_Sigma + logit beta), mu = (x - z_mu) (1 - Sigma) + z_mu.
    Paper,
    /// A later network, which gives eps, x_0 or v; Sigma = beta.
    Prediction(PredictionType),
}

/// How the chain ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ending2015 {
    /// T network calls, the last of which gives its mean without noise.
    #[default]
    Mean,
    /// The original loop: T - 1 calls, each with noise. The result is x_1 and carries forward noise of variance beta_1.
    Original,
}

/// The scalars of a step.
#[allow(missing_docs)] // Named by generated code alone.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub alpha: f64,
    pub sigma: f64,
    pub beta: f64,
    pub of_x0: f32,
    pub of_x: f32,
    pub draws: bool,
    /// The standard deviation of a step over others, which is not the network's.
    pub std: Option<f32>,
}

/// The sampler: x_(t-1) = mu + sqrt(Sigma) z for t = T .. 1, every step of the schedule.
///
/// A network at index i (timestep i of the levels) maps x_(i+1) to x_i. The readout is turned into x_0 and eps, so that
/// evidence and previews see what they see of every sampler, and back: with score s = -eps / sigma and any readout,
/// mu = (x + beta s) / sqrt(1 - beta). A schedule whose last beta is 1 starts after it, since x_(T-1) is then as white
/// as x_T. Scalars are f64, elements f32. [`Ancestral2015::over`] makes fewer, longer steps.
#[derive(Clone, Debug)]
pub struct Ancestral2015 {
    #[doc(hidden)]
    pub readout: Readout2015,
    #[doc(hidden)]
    pub levels: Cow<'static, [Level]>,
    #[doc(hidden)]
    pub steps: Cow<'static, [Step]>,
    #[doc(hidden)]
    pub end: Level,
    #[doc(hidden)]
    pub root_steps: f64,
    #[doc(hidden)]
    pub fingerprint: u64,
}

impl Ancestral2015 {
    /// The sampler for all steps of `schedule`.
    ///
    /// Errors: kind `InvalidArgument` if the schedule leaves no step.
    pub fn new(schedule: &NoiseSchedule, readout: Readout2015, ending: Ending2015) -> Result<Self> {
        let last = match ending {
            Ending2015::Mean => 0,
            Ending2015::Original => 1,
        };
        let (mut levels, mut steps) = (Vec::new(), Vec::new());
        let abars = schedule.alphas_cumprod();
        for (i, (&abar, &beta)) in abars.iter().zip(schedule.betas()).enumerate().skip(last).rev() {
            if abar <= 0.0 {
                continue;
            }
            let previous = i.checked_sub(1).and_then(|i| abars.get(i)).copied().unwrap_or(1.0);
            let p = Posterior::new(abar, previous, Arithmetic::Float64);
            let level = Level::variance_preserving(i as f64, abar);
            steps.push(Step {
                alpha: level.alpha,
                sigma: level.sigma,
                beta,
                of_x0: p.x0 as f32,
                of_x: p.x as f32,
                draws: i > 0,
                std: None,
            });
            levels.push(level);
        }
        let end = match (ending, abars) {
            (Ending2015::Original, &[first, ..]) => Level::variance_preserving(0.0, first),
            _ => Level::CLEAN,
        };
        Self::of(schedule, readout, levels, steps, end)
    }

    /// The sampler that calls the network at `timesteps` alone, which fall and of which the last leads to x_0: DDIM's
    /// steps (Song et al. 2021, eq. 12 and 16) with the x_0 and eps of the readout. A readout's Sigma is that of one
    /// step, so the variance of these longer ones is eta^2 times that of q(x_s | x_t, x_0): none by default, `eta` from
    /// 0 to 1.
    ///
    /// Errors: kind `InvalidArgument` for another `eta`, and for timesteps that do not fall, are none, are not below T
    /// or are at a level that is white.
    pub fn over(schedule: &NoiseSchedule, readout: Readout2015, timesteps: &[u32], eta: f64) -> Result<Self> {
        ensure!((0.0..=1.0).contains(&eta), InvalidArgument, "eta is {eta}, expected 0 to 1");
        let falls = timesteps.windows(2).all(|w| matches!(w, [a, b] if a > b));
        ensure!(falls, InvalidArgument, "the {} timesteps do not fall, expected that they do", timesteps.len());
        let (abars, betas) = (schedule.alphas_cumprod(), schedule.betas());
        let level_at = |t: u32| match usize::try_from(t).ok().and_then(|i| Some((*abars.get(i)?, *betas.get(i)?))) {
            Some((abar, beta)) if abar > 0.0 => Ok((Level::variance_preserving(f64::from(t), abar), abar, beta)),
            Some(_) => Err(err!(InvalidArgument, "timestep {t} is white noise, from which no step leads")),
            None => Err(err!(InvalidArgument, "timestep {t} is none of the {} of the training", abars.len())),
        };
        let (mut levels, mut steps) = (Vec::new(), Vec::new());
        for (i, &t) in timesteps.iter().enumerate() {
            let (level, abar, beta) = level_at(t)?;
            let (next, previous) = match timesteps.get(i + 1) {
                Some(&s) => level_at(s).map(|(next, previous, _)| (next, previous))?,
                None => (Level::CLEAN, 1.0),
            };
            let variance = eta * eta * Posterior::new(abar, previous, Arithmetic::Float64).variance;
            let of_x = libm::sqrt((next.sigma * next.sigma - variance).max(0.0)) / level.sigma;
            steps.push(Step {
                alpha: level.alpha,
                sigma: level.sigma,
                beta,
                of_x0: (next.alpha - of_x * level.alpha) as f32,
                of_x: of_x as f32,
                draws: variance > 0.0,
                std: Some(libm::sqrt(variance) as f32),
            });
            levels.push(level);
        }
        Self::of(schedule, readout, levels, steps, Level::CLEAN)
    }

    fn of(
        schedule: &NoiseSchedule,
        readout: Readout2015,
        levels: Vec<Level>,
        steps: Vec<Step>,
        end: Level,
    ) -> Result<Self> {
        let train = schedule.num_train_timesteps();
        ensure!(!steps.is_empty(), InvalidArgument, "a schedule of {train} steps leaves no step to make");
        let mut f = Fingerprint::new().bytes(b"ancestral 2015").u64(match readout {
            Readout2015::Code => 0,
            Readout2015::Paper => 1,
            Readout2015::Prediction(kind) => 2 + kind as u64,
        });
        for (s, level) in steps.iter().zip(&levels) {
            f = f.f64(level.timestep).f64(s.alpha).f64(s.beta).u64(u64::from(s.draws));
            f = s.std.iter().fold(f, |f, std| f.f64(f64::from(*std)));
        }
        let root_steps = libm::sqrt(train as f64);
        let (levels, steps) = (levels.into(), steps.into());
        Ok(Self { readout, levels, steps, end, root_steps, fingerprint: f.finish() })
    }

    fn at(&self, step: usize) -> Result<&Step> {
        self.steps.get(step).ok_or_else(|| {
            err!(InvalidArgument, "step {step} of the chain does not exist, there are {}", self.steps.len())
        })
    }

    /// Sigma, from z_Sigma.
    fn variance(&self, beta: f64, z: f32) -> f64 {
        let z = match self.readout {
            Readout2015::Code => f64::from(z) / self.root_steps,
            Readout2015::Paper | Readout2015::Prediction(_) => f64::from(z),
        };
        let odds = beta / (1.0 - beta) * libm::exp(z);
        odds / (1.0 + odds)
    }
}

impl Sampler for Ancestral2015 {
    fn name(&self) -> &'static str {
        "ancestral2015"
    }

    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn target(&self, step: usize) -> Result<Level> {
        self.at(step)?;
        Ok(self.levels.get(step + 1).copied().unwrap_or(self.end))
    }

    fn needs_noise(&self, step: usize) -> bool {
        self.steps.get(step).is_some_and(|s| s.draws)
    }

    fn check_output_len(&self, n: usize, output_len: usize) -> Result<()> {
        let twice = Some(output_len) == n.checked_mul(2);
        let (suits, expected) = match self.readout {
            Readout2015::Code | Readout2015::Paper => (twice, "twice as many, z_mu and z_Sigma"),
            Readout2015::Prediction(_) => (twice || output_len == n, "as many, or twice as many"),
        };
        ensure!(suits, Shape, "the network gives {output_len} values for a sample of {n}, expected {expected}");
        Ok(())
    }

    /// Kind `Unsupported` for [`Readout2015::Paper`], whose mean is not linear in the output.
    fn linear(&self, step: usize) -> Result<Linear> {
        let s = self.at(step)?;
        match self.readout {
            Readout2015::Code => {
                let slope = s.sigma * libm::sqrt((1.0 - s.beta) / s.beta);
                Ok(Linear { x0_x: s.alpha, x0_output: slope * s.sigma / s.alpha, eps_x: s.sigma, eps_output: -slope })
            }
            Readout2015::Prediction(kind) => {
                let level = Level { timestep: 0.0, alpha: s.alpha, sigma: s.sigma };
                Ok(Prediction { kind, ..Default::default() }.linear(&level))
            }
            Readout2015::Paper => Err(err!(
                Unsupported,
                "the readout of the paper's Eqs. 64 and 65 is not linear in the network's output; its Jacobian is not \
                 available"
            )),
        }
    }

    fn predict(&self, step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()> {
        let s = self.at(step)?;
        let n = x.len();
        self.check_output_len(n, output.len())?;
        check_prediction(n, x0, eps)?;
        match self.readout {
            Readout2015::Prediction(kind) => {
                let p = Prediction { kind, ..Default::default() };
                p.apply(s.alpha as f32, s.sigma as f32, x, output, x0, eps);
            }
            Readout2015::Code => {
                let l = self.linear(step)?;
                for ((x0, eps), (&x, &z)) in x0.iter_mut().zip(eps).zip(x.iter().zip(output)) {
                    let (x, z) = (f64::from(x), f64::from(z));
                    *x0 = (l.x0_x * x + l.x0_output * z) as f32;
                    *eps = (l.eps_x * x + l.eps_output * z) as f32;
                }
            }
            Readout2015::Paper => {
                let (means, variances) = output.split_at(n);
                for (((x0, eps), &x), (&z, &v)) in x0.iter_mut().zip(eps).zip(x).zip(means.iter().zip(variances)) {
                    let (x, z) = (f64::from(x), f64::from(z));
                    let mu = (x - z) * (1.0 - self.variance(s.beta, v)) + z;
                    let noise = s.sigma * (x - libm::sqrt(1.0 - s.beta) * mu) / s.beta;
                    *eps = noise as f32;
                    *x0 = ((x - s.sigma * noise) / s.alpha) as f32;
                }
            }
        }
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
        let s = self.at(step)?;
        check_len("x", estimate.x.len(), mean.len())?;
        check_len("x_0", estimate.x0.len(), mean.len())?;
        check_no_state(state, next_state)?;
        for ((mean, x), x0) in mean.iter_mut().zip(estimate.x).zip(estimate.x0) {
            *mean = s.of_x0 * x0 + s.of_x * x;
        }
        Ok(())
    }

    fn spread(&self, step: usize, n: usize, output: &mut [f32]) -> Result<Spread> {
        let s = self.at(step)?;
        if !s.draws {
            return Ok(Spread::None);
        }
        if let Some(std) = s.std {
            return Ok(Spread::Scalar(std));
        }
        if let Readout2015::Prediction(_) = self.readout {
            return Ok(Spread::Scalar(libm::sqrt(s.beta) as f32));
        }
        self.check_output_len(n, output.len())?;
        let stds = output.get_mut(n..).unwrap_or(&mut []);
        stds.iter_mut().for_each(|z| *z = libm::sqrt(self.variance(s.beta, *z)) as f32);
        Ok(Spread::PerElement)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    #[cfg(feature = "embed")]
    fn emit(&self, to: &mut crate::emit::Emitter) -> Result<(&'static str, alloc::string::String)> {
        Ok(("Ancestral2015", crate::emit::Emit::emit(self, to)?))
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::schedule::Betas;

    fn schedule(betas: Betas) -> NoiseSchedule {
        NoiseSchedule::new(&betas, Arithmetic::Float64).unwrap()
    }

    /// (mean, standard deviation) of a step for x = 0.7, z_mu = -0.4, z_Sigma = 1.5.
    fn one_step(readout: Readout2015, step: usize) -> (f64, f64) {
        let s =
            Ancestral2015::new(&schedule(Betas::authors_2015(40, &[]).unwrap()), readout, Ending2015::Mean).unwrap();
        let (x, mut output) = ([0.7], [-0.4, 1.5]);
        let (mut x0, mut eps, mut mean) = ([0.0], [0.0], [0.0]);
        s.predict(step, &x, &output, &mut x0, &mut eps).unwrap();
        let l = s.levels()[step];
        assert!((l.alpha * f64::from(x0[0]) + l.sigma * f64::from(eps[0]) - 0.7).abs() < 1e-6);
        s.mean(step, 0, Estimate { x: &x, x0: &x0, eps: &eps }, &[], &mut [], &mut mean).unwrap();
        assert_eq!(s.spread(step, 1, &mut output).unwrap(), Spread::PerElement);
        (f64::from(mean[0]), f64::from(output[1]))
    }

    #[test]
    fn steps_are_those_of_the_readouts() {
        let betas = schedule(Betas::authors_2015(40, &[]).unwrap());
        for step in [0, 1, 20, 38] {
            let beta = betas.betas()[39 - step];
            let sigmoid = |z: f64| 1.0 / (1.0 + libm::exp(-z));
            let logit = libm::log(beta / (1.0 - beta));
            let (mean, std) = one_step(Readout2015::Code, step);
            assert!((mean - (0.7 * libm::sqrt(1.0 - beta) - 0.4 * libm::sqrt(beta))).abs() < 2e-6, "{step}: {mean}");
            assert!((std * std - sigmoid(1.5 / libm::sqrt(40.0) + logit)).abs() < 1e-7);
            let (mean, std) = one_step(Readout2015::Paper, step);
            let variance = sigmoid(1.5 + logit);
            assert!((mean - (1.1 * (1.0 - variance) - 0.4)).abs() < 2e-6, "{step}: {mean}");
            assert!((std * std - variance).abs() < 1e-7);
        }
    }

    #[test]
    fn a_network_at_zero_leaves_a_white_chain_white() {
        let s = Ancestral2015::new(
            &schedule(Betas::authors_2015(40, &[]).unwrap()),
            Readout2015::Code,
            Ending2015::Original,
        )
        .unwrap();
        assert_eq!(s.levels().len(), 39);
        let mut variance = 1.0;
        for step in 0..39 {
            let (mut output, mut x0, mut eps, mut mean) = ([0.0; 2], [0.0], [0.0], [0.0]);
            s.predict(step, &[1.0], &output, &mut x0, &mut eps).unwrap();
            s.mean(step, 0, Estimate { x: &[1.0], x0: &x0, eps: &eps }, &[], &mut [], &mut mean).unwrap();
            s.spread(step, 1, &mut output).unwrap();
            variance = variance * f64::from(mean[0] * mean[0]) + f64::from(output[1] * output[1]);
        }
        assert!((variance - 1.0).abs() < 1e-5, "{variance}");
        assert!((s.target(38).unwrap().sigma - s.end.sigma).abs() < 1e-15 && s.end.sigma > 0.0);
    }

    #[test]
    fn ends_and_starts() {
        let s = |betas: Betas, ending| Ancestral2015::new(&schedule(betas), Readout2015::Code, ending);
        let even = Betas::erasing_evenly(10).unwrap();
        let mean = s(even.clone(), Ending2015::Mean).unwrap();
        // The last beta is 1: nine steps are left.
        assert_eq!((mean.levels().len(), mean.levels()[0].timestep, mean.needs_noise(8)), (9, 8.0, false));
        assert_eq!(mean.target(8).unwrap().sigma, 0.0);
        assert_eq!(s(even, Ending2015::Original).unwrap().levels().len(), 8);
        assert!(s(Betas::erasing_evenly(2).unwrap(), Ending2015::Original).is_err());
        assert_eq!(mean.spread(8, 1, &mut [0.0; 2]).unwrap(), Spread::None);
        assert!(mean.check_output_len(4, 4).is_err() && mean.check_output_len(4, 8).is_ok());
        assert!(mean.predict(9, &[0.0], &[0.0; 2], &mut [0.0], &mut [0.0]).is_err());
    }

    /// Of white data the readout at zero is right, so that any steps keep its variance, and those with all timesteps
    /// and eta 1 have the chain's means.
    #[test]
    fn longer_steps_keep_a_white_chain_white() {
        let betas = schedule(Betas::authors_2015(40, &[]).unwrap());
        for (timesteps, eta) in [(&[39, 20, 3][..], 0.0), (&[39, 20, 3], 0.6), (&[30], 1.0)] {
            let s = Ancestral2015::over(&betas, Readout2015::Code, timesteps, eta).unwrap();
            assert_eq!(s.levels().len(), timesteps.len());
            for step in 0..timesteps.len() {
                let (mut output, mut x0, mut eps, mut mean) = ([0.0; 2], [0.0], [0.0], [0.0]);
                s.predict(step, &[1.0], &output, &mut x0, &mut eps).unwrap();
                let l = s.levels()[step];
                assert!((f64::from(x0[0]) - l.alpha).abs() < 1e-6 && (f64::from(eps[0]) - l.sigma).abs() < 1e-6);
                s.mean(step, 0, Estimate { x: &[1.0], x0: &x0, eps: &eps }, &[], &mut [], &mut mean).unwrap();
                let Spread::Scalar(std) = (match s.needs_noise(step) {
                    true => s.spread(step, 1, &mut output).unwrap(),
                    false => Spread::Scalar(0.0),
                }) else {
                    panic!("a spread of each element")
                };
                let (next, std) = (s.target(step).unwrap(), f64::from(std));
                let ddim = next.alpha * l.alpha + libm::sqrt(next.sigma * next.sigma - std * std) * l.sigma;
                assert!((f64::from(mean[0]) - ddim).abs() < 1e-6, "{step}: {} {ddim}", mean[0]);
            }
        }
        let all: Vec<u32> = (0..40).rev().collect();
        let long = Ancestral2015::over(&betas, Readout2015::Code, &all, 1.0).unwrap();
        let own = Ancestral2015::new(&betas, Readout2015::Code, Ending2015::Mean).unwrap();
        assert_ne!(long.fingerprint(), own.fingerprint());
        for (a, b) in long.steps.iter().zip(own.steps.iter()) {
            assert!((a.of_x0 - b.of_x0).abs() < 1e-6 && (a.of_x - b.of_x).abs() < 1e-6 && a.draws == b.draws);
        }
        for (timesteps, eta) in [(&[][..], 0.0), (&[3, 3], 0.0), (&[40], 0.0), (&[3], 1.5), (&[3], f64::NAN)] {
            let e = Ancestral2015::over(&betas, Readout2015::Code, timesteps, eta).unwrap_err();
            assert_eq!(e.kind(), crate::error::ErrorKind::InvalidArgument, "{timesteps:?} {eta}");
        }
        let white = schedule(Betas::erasing_evenly(10).unwrap());
        assert!(Ancestral2015::over(&white, Readout2015::Code, &[9, 5], 0.0).is_err());
    }
}
