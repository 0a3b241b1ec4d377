//! The learning rate over the steps of a run.

use core::f64::consts::PI;

use super::{check_decay, check_size};
use crate::error::{Result, ensure};

/// The learning rate as a function of the step alone, so that a resumed run needs no state for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LearningRate {
    /// The same at each step.
    Constant(f64),
    /// max(floor, start * factor^(step / every)), the exponent a whole number.
    Decayed {
        /// The first rate.
        start: f64,
        /// What it is multiplied by, above 0 and at most 1.
        factor: f64,
        /// After how many steps.
        every: u64,
        /// The least rate.
        floor: f64,
    },
    /// Rises linearly from peak / warmup over `warmup` steps, then falls as half a cosine to `floor` at step `steps`.
    Cosine {
        /// The largest rate.
        peak: f64,
        /// The last.
        floor: f64,
        /// Steps of the rise.
        warmup: u64,
        /// Steps of the whole run.
        steps: u64,
    },
}

impl LearningRate {
    /// The authors': 1e-3 at first, ten times less after 1000 passes over the data of `per_epoch` steps each, never
    /// below 1e-4.
    pub fn authors_2015(per_epoch: u64) -> Self {
        LearningRate::Decayed { start: 1e-3, factor: libm::pow(0.1, 1e-3), every: per_epoch.max(1), floor: 1e-4 }
    }

    /// Kind `InvalidArgument` if a rate is negative or not finite, or a count of steps makes no sense.
    pub fn check(&self) -> Result<()> {
        match *self {
            LearningRate::Constant(rate) => check_size("the learning rate", rate),
            LearningRate::Decayed { start, factor, every, floor } => {
                check_size("the first learning rate", start)?;
                check_size("the least learning rate", floor)?;
                ensure!(every > 0, InvalidArgument, "the learning rate decays after 0 steps, expected at least 1");
                check_decay("1 - the factor of the learning rate", 1.0 - factor)
            }
            LearningRate::Cosine { peak, floor, warmup, steps } => {
                check_size("the largest learning rate", peak)?;
                check_size("the last learning rate", floor)?;
                ensure!(
                    warmup < steps,
                    InvalidArgument,
                    "the learning rate rises for {warmup} of {steps} steps, expected fewer"
                );
                Ok(())
            }
        }
    }

    /// The rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        match *self {
            LearningRate::Constant(rate) => rate,
            LearningRate::Decayed { start, factor, every, floor } => {
                (start * libm::pow(factor, (step / every.max(1)) as f64)).max(floor)
            }
            LearningRate::Cosine { peak, warmup, .. } if step < warmup => peak * (step as f64 + 1.0) / warmup as f64,
            LearningRate::Cosine { peak, floor, warmup, steps } => {
                let done = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
                floor + (peak - floor) * 0.5 * (1.0 + libm::cos(PI * done.min(1.0)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_they_say() {
        let authors = LearningRate::authors_2015(20);
        authors.check().unwrap();
        assert_eq!((authors.at(0), authors.at(19)), (1e-3, 1e-3));
        assert!((authors.at(20 * 500) - 1e-3 * libm::pow(0.1, 0.5)).abs() < 1e-15);
        assert_eq!(authors.at(20 * 2000), 1e-4);
        let cosine = LearningRate::Cosine { peak: 1.0, floor: 0.1, warmup: 10, steps: 110 };
        cosine.check().unwrap();
        assert_eq!((cosine.at(0), cosine.at(9), cosine.at(10)), (0.1, 1.0, 1.0));
        assert!((cosine.at(60) - 0.55).abs() < 1e-12 && (cosine.at(110) - 0.1).abs() < 1e-12);
        assert_eq!(cosine.at(1 << 40), cosine.at(110));
    }

    #[test]
    fn nonsense_is_refused() {
        for rate in [
            LearningRate::Constant(-1.0),
            LearningRate::Constant(f64::NAN),
            LearningRate::Decayed { start: 1.0, factor: 0.0, every: 1, floor: 0.0 },
            LearningRate::Decayed { start: 1.0, factor: 1.5, every: 1, floor: 0.0 },
            LearningRate::Decayed { start: 1.0, factor: 0.5, every: 0, floor: 0.0 },
            LearningRate::Cosine { peak: 1.0, floor: 0.0, warmup: 10, steps: 10 },
        ] {
            assert!(rate.check().is_err(), "{rate:?}");
        }
    }
}
