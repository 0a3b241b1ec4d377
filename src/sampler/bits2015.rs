//! The binomial chain of Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli 2015: samples are bits.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::{Ending2015, Estimate, Sampler, Spread, StateSpace, check_len, check_no_state, check_prediction};
use crate::error::{Result, ensure, err};
use crate::noise::Fingerprint;
use crate::process::{Binomial, Linear};
use crate::schedule::{Level, NoiseSchedule};

/// Of what the network gives the probability, for each bit, given x_t.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BitPrediction {
    /// That x_(t-1) is 1: the paper's f_b.
    #[default]
    Previous,
    /// That x_0 is 1; the step then follows by the posterior of the process.
    Clean,
}

/// The scalars of a step.
#[allow(missing_docs)] // Named by generated code alone.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub beta: f64,
    pub previous: f64,
}

/// The sampler: each bit of x_(t-1) is 1 with the probability that the network gives, for t = T .. 1.
///
/// Samples are f32 that are 0 or 1. The "mean" of a step is the probability of a 1, which evidence may change; noise is
/// uniform, and a bit is 1 where it is below the probability. x_T is 1 with probability pi. The x_0 of a step is what
/// the network gave, as a probability. With [`Ending2015::Mean`] all T steps are made and the last draws bits like the
/// others.
#[derive(Clone, Debug)]
pub struct Bits2015 {
    #[doc(hidden)]
    pub process: Binomial,
    #[doc(hidden)]
    pub prediction: BitPrediction,
    #[doc(hidden)]
    pub logits: bool,
    #[doc(hidden)]
    pub levels: Cow<'static, [Level]>,
    #[doc(hidden)]
    pub steps: Cow<'static, [Step]>,
    #[doc(hidden)]
    pub end: Level,
    #[doc(hidden)]
    pub fingerprint: u64,
}

impl Bits2015 {
    /// The sampler for all steps of `schedule`. `logits`: whether the network gives log p / (1 - p) in place of p.
    ///
    /// Errors: kind `InvalidArgument` if the schedule leaves no step.
    pub fn new(
        schedule: &NoiseSchedule,
        process: Binomial,
        prediction: BitPrediction,
        logits: bool,
        ending: Ending2015,
    ) -> Result<Self> {
        let last = match ending {
            Ending2015::Mean => 0,
            Ending2015::Original => 1,
        };
        let abars = schedule.alphas_cumprod();
        let (mut levels, mut steps) = (Vec::new(), Vec::new());
        for (i, (&abar, &beta)) in abars.iter().zip(schedule.betas()).enumerate().skip(last).rev() {
            let previous = i.checked_sub(1).and_then(|i| abars.get(i)).copied().unwrap_or(1.0);
            levels.push(Level::variance_preserving(i as f64, abar));
            steps.push(Step { beta, previous });
        }
        ensure!(!steps.is_empty(), InvalidArgument, "a schedule of {} steps leaves no step to make", abars.len());
        let end = match (ending, abars) {
            (Ending2015::Original, &[first, ..]) => Level::variance_preserving(0.0, first),
            _ => Level::CLEAN,
        };
        let mut f = Fingerprint::new().bytes(b"bits 2015").f64(process.pi()).u64(prediction as u64);
        f = f.u64(u64::from(logits));
        for (s, level) in steps.iter().zip(&levels) {
            f = f.f64(level.timestep).f64(s.beta).f64(s.previous);
        }
        let (levels, steps) = (levels.into(), steps.into());
        Ok(Self { process, prediction, logits, levels, steps, end, fingerprint: f.finish() })
    }

    /// The process.
    pub fn process(&self) -> &Binomial {
        &self.process
    }

    fn at(&self, step: usize) -> Result<&Step> {
        self.steps.get(step).ok_or_else(|| {
            err!(InvalidArgument, "step {step} of the binary chain does not exist, there are {}", self.steps.len())
        })
    }
}

impl Sampler for Bits2015 {
    fn name(&self) -> &'static str {
        "bits2015"
    }

    fn space(&self) -> StateSpace {
        StateSpace::Bits { ones: self.process.pi() as f32 }
    }

    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn target(&self, step: usize) -> Result<Level> {
        self.at(step)?;
        Ok(self.levels.get(step + 1).copied().unwrap_or(self.end))
    }

    fn needs_noise(&self, step: usize) -> bool {
        step < self.steps.len()
    }

    fn check_output_len(&self, n: usize, output_len: usize) -> Result<()> {
        ensure!(
            output_len == n,
            Shape,
            "the network gives {output_len} values for a sample of {n} bits, expected a probability for each"
        );
        Ok(())
    }

    /// Kind `Unsupported`: bits have no derivative.
    fn linear(&self, _step: usize) -> Result<Linear> {
        Err(err!(Unsupported, "a binary chain has no Jacobian"))
    }

    /// Kind `InvalidArgument` for a prediction that is no probability.
    fn predict(&self, step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()> {
        self.at(step)?;
        self.check_output_len(x.len(), output.len())?;
        check_prediction(x.len(), x0, eps)?;
        for ((x0, eps), &o) in x0.iter_mut().zip(eps).zip(output) {
            let p = if self.logits { (1.0 / (1.0 + libm::exp(-f64::from(o)))) as f32 } else { o };
            ensure!((0.0..=1.0).contains(&p), InvalidArgument, "the network gave {p} as the probability of a bit");
            (*x0, *eps) = (p, p);
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
        for ((mean, &x), &p) in mean.iter_mut().zip(estimate.x).zip(estimate.x0) {
            *mean = match self.prediction {
                BitPrediction::Previous => p,
                BitPrediction::Clean => self.process.reverse(s.beta, s.previous, f64::from(p), x >= 0.5) as f32,
            };
        }
        Ok(())
    }

    fn spread(&self, step: usize, _n: usize, _output: &mut [f32]) -> Result<Spread> {
        self.at(step)?;
        Ok(Spread::Bits)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    #[cfg(feature = "embed")]
    fn emit(&self, to: &mut crate::emit::Emitter) -> Result<(&'static str, alloc::string::String)> {
        Ok(("Bits2015", crate::emit::Emit::emit(self, to)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::sampler::add_noise;
    use crate::schedule::{Arithmetic, Betas};

    fn sampler(prediction: BitPrediction, logits: bool) -> Bits2015 {
        let schedule = NoiseSchedule::new(&Betas::erasing_evenly(10).unwrap(), Arithmetic::Float64).unwrap();
        Bits2015::new(&schedule, Binomial::new(0.2).unwrap(), prediction, logits, Ending2015::Mean).unwrap()
    }

    #[test]
    fn a_step_draws_bits_with_the_given_probability() {
        let s = sampler(BitPrediction::Previous, true);
        let (mut x0, mut eps, mut next) = ([0.0; 3], [0.0; 3], [0.0; 3]);
        s.predict(2, &[0.0, 1.0, 1.0], &[0.0, 2.0, -40.0], &mut x0, &mut eps).unwrap();
        s.mean(2, 0, Estimate { x: &[0.0, 1.0, 1.0], x0: &x0, eps: &eps }, &[], &mut [], &mut next).unwrap();
        assert!((next[0] - 0.5).abs() < 1e-7 && (next[1] - 0.880_797).abs() < 1e-6 && next[2] < 1e-15);
        add_noise(s.spread(2, 3, &mut []).unwrap(), &[], &[0.6, 0.6, 0.0], &mut next).unwrap();
        assert_eq!(next, [0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_prediction_of_x0_goes_through_the_posterior() {
        let s = sampler(BitPrediction::Clean, false);
        let (mut x0, mut eps, mut mean) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        for (step, index) in [(0, 9), (4, 5), (9, 0)] {
            let x = [1.0, 0.0];
            s.predict(step, &x, &[0.3, 0.3], &mut x0, &mut eps).unwrap();
            s.mean(step, 0, Estimate { x: &x, x0: &x0, eps: &eps }, &[], &mut [], &mut mean).unwrap();
            let (beta, previous) = (1.0 / (10 - index) as f64, (10 - index) as f64 / 10.0);
            for (mean, bit) in mean.iter().zip([true, false]) {
                let want = s.process.reverse(beta, previous, f64::from(0.3f32), bit);
                assert!((f64::from(*mean) - want).abs() < 1e-6, "{step}: {mean} and {want}");
            }
        }
        assert_eq!(mean, [0.3, 0.3], "the last step draws x_0 itself");
    }

    #[test]
    fn nonsense_is_refused() {
        let s = sampler(BitPrediction::Clean, false);
        let (mut a, mut b) = ([0.0], [0.0]);
        for p in [-0.1, 1.5, f32::NAN] {
            assert_eq!(s.predict(0, &[1.0], &[p], &mut a, &mut b).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert!(s.check_output_len(3, 6).is_err() && s.linear(0).is_err() && s.target(10).is_err());
    }
}
