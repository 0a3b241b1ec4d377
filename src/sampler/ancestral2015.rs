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
}

/// The sampler: x_(t-1) = mu + sqrt(Sigma) z for t = T .. 1, every step of the schedule.
///
/// A network at index i (timestep i of the levels) maps x_(i+1) to x_i. The readout is turned into x_0 and eps, so that
/// evidence and previews see what they see of every sampler, and back: with score s = -eps / sigma and any readout,
/// mu = (x + beta s) / sqrt(1 - beta). A schedule whose last beta is 1 starts after it, since x_(T-1) is then as white
/// as x_T. Scalars are f64, elements f32.
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
            });
            levels.push(level);
        }
        ensure!(!steps.is_empty(), InvalidArgument, "a schedule of {} steps leaves no step to make", abars.len());
        let end = match (ending, abars) {
            (Ending2015::Original, &[first, ..]) => Level::variance_preserving(0.0, first),
            _ => Level::CLEAN,
        };
        let mut f = Fingerprint::new().bytes(b"ancestral 2015").u64(match readout {
            Readout2015::Code => 0,
            Readout2015::Paper => 1,
            Readout2015::Prediction(kind) => 2 + kind as u64,
        });
        for (s, level) in steps.iter().zip(&levels) {
            f = f.f64(level.timestep).f64(s.alpha).f64(s.beta).u64(u64::from(s.draws));
        }
        let root_steps = libm::sqrt(schedule.num_train_timesteps() as f64);
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
}
