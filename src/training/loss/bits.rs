//! The variational bound of the binary chain as a loss.

use alloc::vec::Vec;
use core::ops::Range;

use super::{End, Loss};
use crate::error::{Result, ensure};
use crate::noise::Stream;
use crate::process::{Binomial, bernoulli_entropy};
use crate::sampler::BitPrediction;

/// The scalars of one step.
#[derive(Clone, Copy, Debug)]
struct Step {
    beta: f64,
    abar: f64,
    /// q(x_(t-1) = 1 | x_t, x_0), by the bit of x_0, then that of x_t.
    posterior: [[f64; 2]; 2],
}

/// The bound of a chain of bits: KL(q(x_(t-1) | x_t, x_0) || B(p)) of each step times their number, p from a network
/// that gives logits.
#[derive(Clone, Debug)]
pub struct BinomialBound {
    process: Binomial,
    prediction: BitPrediction,
    end: End,
    steps: Vec<Step>,
}

impl BinomialBound {
    /// The loss for a schedule of betas.
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2 betas or one that is not in (0, 1].
    pub fn new(betas: &[f64], process: Binomial, prediction: BitPrediction, end: End) -> Result<Self> {
        ensure!(betas.len() >= 2, InvalidArgument, "a bound over {} steps, expected at least 2", betas.len());
        let mut steps = Vec::new();
        let mut previous = 1.0;
        for (i, &beta) in betas.iter().enumerate() {
            ensure!(beta > 0.0 && beta <= 1.0, InvalidArgument, "beta {i} is {beta}, expected above 0 and at most 1");
            let posterior = [0.0, 1.0].map(|x0| [false, true].map(|x| process.posterior(beta, previous, x0, x)));
            previous *= 1.0 - beta;
            steps.push(Step { beta, abar: previous, posterior });
        }
        Ok(Self { process, prediction, end, steps })
    }

    /// The loss of one bit and its slope by the logit.
    fn bit(&self, t: usize, s: &Step, x0: bool, x: bool, z: f64) -> (f64, f64) {
        let q = s.posterior[usize::from(x0)][usize::from(x)];
        match self.prediction {
            BitPrediction::Previous => {
                // KL = softplus(z) - q z - H(q), in a form that loses nothing where p is near 0 or 1.
                let softplus = z.max(0.0) + libm::log1p(libm::exp(-z.abs()));
                let p = 1.0 / (1.0 + libm::exp(-z));
                (softplus - q * z - bernoulli_entropy(q), p - q)
            }
            BitPrediction::Clean => {
                let [zero, one] = [s.posterior[0][usize::from(x)], s.posterior[1][usize::from(x)]];
                let (m, not) = (1.0 / (1.0 + libm::exp(-z)), 1.0 / (1.0 + libm::exp(z)));
                if t == 0 {
                    let chance = if x0 { m } else { not };
                    return (-libm::log(chance.max(f64::MIN_POSITIVE)), if x0 { -not } else { m });
                }
                let p = m * one + not * zero;
                let p_not = m * (1.0 - one) + not * (1.0 - zero);
                let term = |q: f64, p: f64| if q > 0.0 { q * libm::log(q / p) } else { 0.0 };
                let slope = (1.0 - q) / p_not - q / p;
                (term(q, p) + term(1.0 - q, p_not), slope * (one - zero) * m * not)
            }
        }
    }
}

impl Loss for BinomialBound {
    fn times(&self) -> Range<usize> {
        match self.end {
            End::Entropies => 1..self.steps.len(),
            End::Network => 0..self.steps.len(),
        }
    }

    fn output_len(&self, n: usize) -> usize {
        n
    }

    fn corrupt(&self, t: usize, x0: &[f32], noise: &mut Stream, x_t: &mut [f32]) {
        let Some(s) = self.steps.get(t) else { return };
        let ones = [0.0, 1.0].map(|x0| self.process.marginal(s.abar, x0));
        for (to, &x0) in x_t.iter_mut().zip(x0) {
            *to = f32::from(u8::from(noise.uniform() < ones[usize::from(x0 >= 0.5)]));
        }
    }

    fn evaluate(&self, t: usize, x0: &[f32], x_t: &[f32], output: &[f32], gradient: &mut [f32]) -> f64 {
        let Some(s) = self.steps.get(t) else { return f64::NAN };
        let w = self.times().len() as f64;
        let mut sum = 0.0;
        for (((&x0, &x), &z), by_z) in x0.iter().zip(x_t).zip(output).zip(gradient) {
            let (kl, slope) = self.bit(t, s, x0 >= 0.5, x >= 0.5, f64::from(z));
            sum += kl;
            *by_z = (w * slope) as f32;
        }
        w * sum
    }

    /// With [`End::Entropies`] the entropies are those of data at chance pi, over which they are a bound.
    fn constant(&self, n: usize) -> f64 {
        let pi = self.process.pi();
        let over = |f: &dyn Fn(f64) -> f64| pi * f(1.0) + (1.0 - pi) * f(0.0);
        let given = |abar: f64| over(&|x0| bernoulli_entropy(self.process.marginal(abar, x0)));
        let start = match (self.end, self.steps.first()) {
            (End::Entropies, Some(first)) => over(&|x0| bernoulli_entropy(self.process.forward(first.beta, x0))),
            _ => 0.0,
        };
        let end = self.steps.last().map_or(0.0, |s| given(s.abar));
        n as f64 * (start - end + bernoulli_entropy(pi))
    }

    fn is_bound(&self) -> bool {
        true
    }
}
