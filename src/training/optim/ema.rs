//! The exponential moving average of weights, which samples better than the weights themselves.

use alloc::vec::Vec;

use super::check_decay;
use crate::error::{Result, ensure};
use crate::memory::zeros;
use crate::training::state::{Saved, StateArray};

/// How much of the average is kept at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EmaDecay {
    /// The same at each step.
    Constant(f64),
    /// min(decay, (1 + k) / (10 + k)) at step k = 0, 1, ..., so that the random first weights are soon forgotten (the
    /// curve of diffusers' `EMAModel` without `use_ema_warmup`).
    Warm(f64),
}

/// w <- d w + (1 - d) theta. It starts at the weights it is made of.
///
/// The average is kept in f64: with d = 0.9999 an f32 would lose most of what is added.
#[derive(Clone, Debug)]
pub struct Ema {
    decay: EmaDecay,
    weights: Vec<f64>,
    steps: u64,
}

impl Ema {
    /// An average that starts at `params`.
    ///
    /// Errors: kind `InvalidArgument` for a decay outside of [0, 1); `OutOfMemory`.
    pub fn new(decay: EmaDecay, params: &[f32]) -> Result<Self> {
        let (EmaDecay::Constant(d) | EmaDecay::Warm(d)) = decay;
        check_decay("the decay of the average", d)?;
        let mut weights = zeros::<f64>("the average of weights", params.len())?;
        weights.iter_mut().zip(params).for_each(|(w, &p)| *w = f64::from(p));
        Ok(Self { decay, weights, steps: 0 })
    }

    /// Takes the parameters after a step in. Kind `Shape` for another number of them.
    pub fn update(&mut self, params: &[f32]) -> Result<()> {
        self.check_len(params.len())?;
        let k = self.steps as f64;
        let d = match self.decay {
            EmaDecay::Constant(d) => d,
            EmaDecay::Warm(d) => d.min((1.0 + k) / (10.0 + k)),
        };
        self.steps = self.steps.saturating_add(1);
        self.weights.iter_mut().zip(params).for_each(|(w, &p)| *w = d * *w + (1.0 - d) * f64::from(p));
        Ok(())
    }

    /// Writes the average, rounded to f32. Kind `Shape` for another number of values.
    pub fn write(&self, out: &mut [f32]) -> Result<()> {
        self.check_len(out.len())?;
        out.iter_mut().zip(&self.weights).for_each(|(out, w)| *out = *w as f32);
        Ok(())
    }

    fn check_len(&self, len: usize) -> Result<()> {
        ensure!(len == self.weights.len(), Shape, "an average of {} weights got {len}", self.weights.len());
        Ok(())
    }

    /// The state as named arrays.
    pub fn state(&self) -> Vec<StateArray> {
        [StateArray::f64("weights", &self.weights), StateArray::u64("step", &[self.steps])].to_vec()
    }

    /// Takes what [`Ema::state`] gave; errors (kind `Weights`) leave the average as it was.
    pub fn restore(&mut self, state: &[StateArray]) -> Result<()> {
        let mut saved = Saved::new("the average of weights", state);
        let weights = saved.f64("weights", Some(self.weights.len()))?;
        let steps = saved.u64("step", 1)?;
        saved.finish()?;
        self.weights.copy_from_slice(weights);
        self.steps = steps.iter().sum();
        Ok(())
    }
}
