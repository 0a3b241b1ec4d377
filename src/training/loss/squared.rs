//! The squared error of a prediction, weighed by the signal-to-noise ratio.

use alloc::vec::Vec;
use core::ops::Range;

use super::Loss;
use crate::error::{Result, ensure, err};
use crate::noise::Stream;
use crate::process::PredictionType;

/// How steps are weighed. snr = abar / (1 - abar).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SnrWeight {
    /// All alike, in terms of what the network predicts: for eps, the L_simple of Ho et al. 2020.
    #[default]
    None,
    /// Min-SNR-gamma (Hang et al. 2023): min(snr, gamma) in terms of x_0, so over snr for eps, over snr + 1 for v.
    MinSnr {
        /// gamma; 5 in the paper.
        gamma: f64,
    },
}

/// w(t) times the mean over elements of (output - target)^2, the target being eps, x_0 or v.
#[derive(Clone, Debug)]
pub struct SquaredError {
    prediction: PredictionType,
    /// alpha, sigma and the weight of each step.
    steps: Vec<[f64; 3]>,
}

impl SquaredError {
    /// The loss for a schedule of betas.
    ///
    /// Errors: kind `InvalidArgument` for no beta or one that is not in (0, 1), or a gamma that is not above 0.
    pub fn new(betas: &[f64], prediction: PredictionType, weight: SnrWeight) -> Result<Self> {
        ensure!(!betas.is_empty(), InvalidArgument, "a loss over no steps, expected at least 1");
        if let SnrWeight::MinSnr { gamma } = weight {
            ensure!(gamma > 0.0 && gamma.is_finite(), InvalidArgument, "gamma is {gamma}, expected above 0");
        }
        let mut abar = 1.0;
        let mut steps = Vec::new();
        for (i, &b) in betas.iter().enumerate() {
            ensure!(b > 0.0 && b < 1.0, InvalidArgument, "beta {i} is {b}, expected above 0 and below 1");
            abar *= 1.0 - b;
            let snr = abar / (1.0 - abar);
            let w = match (weight, prediction) {
                (SnrWeight::None, _) => 1.0,
                (SnrWeight::MinSnr { gamma }, PredictionType::Epsilon) => snr.min(gamma) / snr,
                (SnrWeight::MinSnr { gamma }, PredictionType::Sample) => snr.min(gamma),
                (SnrWeight::MinSnr { gamma }, PredictionType::VPrediction) => snr.min(gamma) / (snr + 1.0),
                (SnrWeight::MinSnr { .. }, PredictionType::Flow) => {
                    return Err(err!(Unsupported, "min-SNR weights are not defined for a flow's velocity"));
                }
            };
            steps.push([libm::sqrt(abar), libm::sqrt(1.0 - abar), w]);
        }
        Ok(Self { prediction, steps })
    }
}

impl Loss for SquaredError {
    fn times(&self) -> Range<usize> {
        0..self.steps.len()
    }

    fn output_len(&self, n: usize) -> usize {
        n
    }

    fn corrupt(&self, t: usize, x0: &[f32], noise: &mut Stream, x_t: &mut [f32]) {
        let Some([alpha, sigma, _]) = self.steps.get(t) else { return };
        x_t.iter_mut().zip(x0).for_each(|(to, &x0)| *to = (alpha * f64::from(x0) + sigma * noise.normal()) as f32);
    }

    fn evaluate(&self, t: usize, x0: &[f32], x_t: &[f32], output: &[f32], gradient: &mut [f32]) -> f64 {
        let Some(&[alpha, sigma, w]) = self.steps.get(t) else { return f64::NAN };
        let w = w / x0.len() as f64;
        let mut sum = 0.0;
        for (((&x0, &x), &y), by_y) in x0.iter().zip(x_t).zip(output).zip(gradient) {
            let (x0, x) = (f64::from(x0), f64::from(x));
            let eps = (x - alpha * x0) / sigma;
            let target = match self.prediction {
                PredictionType::Epsilon => eps,
                PredictionType::Sample => x0,
                PredictionType::VPrediction => alpha * eps - sigma * x0,
                PredictionType::Flow => eps - x0,
            };
            let d = f64::from(y) - target;
            sum += d * d;
            *by_y = (2.0 * w * d) as f32;
        }
        w * sum
    }

    fn constant(&self, _: usize) -> f64 {
        0.0
    }

    fn is_bound(&self) -> bool {
        false
    }
}
