//! Betas that are learned with the network: by gradient ascent on the bound with the noise held fixed, as the paper has
//! it.

use alloc::vec::Vec;
use std::sync::{Mutex, PoisonError};

use crate::cancel::Cancel;
use crate::error::{Result, err};
use crate::sampler::Readout2015;
use crate::training::engine::{Batch, Engine};
use crate::training::loss::{BySchedule, End, GaussianBound, Loss};
use crate::training::optim::{Adam, AdamOptions, Evaluation, Optimizer};
use crate::training::state::{Saved, StateArray};

/// The log-odds of all betas; the first is held fixed, or the bound would narrow it without end around the training
/// data.
pub(super) struct LearnedBetas {
    odds: Vec<f32>,
    gradient: Vec<f32>,
    adam: Adam,
    rate: f64,
    readout: Readout2015,
    end: End,
    first: f64,
    loss: GaussianBound,
}

impl LearnedBetas {
    pub fn new(betas: &[f64], readout: Readout2015, end: End, rate: f64) -> Result<Self> {
        let odds: Vec<f32> = betas.iter().map(|b| libm::log(b / (1.0 - b)) as f32).collect();
        if let Some(i) = odds.iter().position(|u| !u.is_finite()) {
            return Err(err!(Config, "beta {i} is {:?}, from which none can be learned", betas.get(i)));
        }
        let first = betas.first().copied().unwrap_or(0.0);
        let adam = Adam::new(AdamOptions::default(), odds.len())?;
        let loss = GaussianBound::new(&values(first, &odds), readout, end)?;
        Ok(Self { gradient: alloc::vec![0.0; odds.len()], odds, adam, rate, readout, end, first, loss })
    }

    pub fn loss(&self) -> &GaussianBound {
        &self.loss
    }

    pub fn betas(&self) -> Vec<f64> {
        values(self.first, &self.odds)
    }

    /// The sum of the losses of a batch and the gradients by the network's parameters and, kept here, by the log-odds.
    /// `scale` is what a sample's loss counts in the mean, `unit` what the ends count.
    #[allow(clippy::too_many_arguments)] // A step's own parts, handed on once.
    pub fn gradients(
        &mut self,
        engine: &mut Engine,
        params: &[f32],
        at: Batch<'_>,
        x0: &[f32],
        scale: f64,
        unit: f64,
        (gradient, by_x): (&mut [f32], &mut [f32]),
        cancel: &Cancel,
    ) -> Result<f64> {
        let &[x, times] = at.inputs else { return Err(err!(InvalidArgument, "a batch of {} inputs", at.inputs.len())) };
        let n = x0.len() / at.samples.max(1);
        let output_len = self.loss.output_len(n);
        let loss = &self.loss;
        // What each sample gives stands at its own place, so that the order of threads does not matter.
        let direct = Mutex::new((alloc::vec![0f32; x.len()], alloc::vec![BySchedule::default(); at.samples]));
        let each = |first: usize, y: &[&[f32]], dy: &mut [&mut [f32]]| {
            let (Some(y), Some(dy)) = (y.first(), dy.first_mut()) else { return Ok(f64::NAN) };
            let (mut sum, mut own) = (0.0, alloc::vec![0f32; n]);
            for (i, (y, dy)) in y.chunks_exact(output_len).zip(dy.chunks_exact_mut(output_len)).enumerate() {
                let sample = first + i;
                let range = sample * n..(sample + 1) * n;
                let pair = (&x0[range.clone()], &x[range.clone()]);
                let (value, by) = loss.evaluate_with_schedule(times[sample] as usize, pair, y, dy, &mut own);
                sum += value;
                dy.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
                let mut direct = direct.lock().unwrap_or_else(PoisonError::into_inner);
                direct.0[range].iter_mut().zip(&own).for_each(|(to, v)| *to = (f64::from(*v) * scale) as f32);
                direct.1[sample] = BySchedule { before: by.before * scale, beta: by.beta * scale };
            }
            Ok(sum)
        };
        let sum = engine.gradients(params, at, &each, gradient, &mut [&mut *by_x], cancel)?;
        let (by_x_direct, by_schedule) = direct.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut sums = alloc::vec![BySchedule::default(); self.odds.len()];
        by_x.iter_mut().zip(&by_x_direct).for_each(|(to, v)| *to += v);
        for (sample, direct) in by_schedule.iter().enumerate() {
            let (range, t) = (sample * n..(sample + 1) * n, times[sample] as usize);
            let through = loss.through_x(t, &x0[range.clone()], &x[range.clone()], &by_x[range]);
            if let Some(to) = sums.get_mut(t) {
                to.before += direct.before + through.before;
                to.beta += direct.beta + through.beta;
            }
        }
        let mut by_odds = alloc::vec![0.0; self.odds.len()];
        loss.by_log_odds(&sums, n, unit, &mut by_odds);
        self.gradient.iter_mut().zip(&by_odds).for_each(|(to, v)| *to = *v as f32);
        Ok(sum)
    }

    /// A step down the gradient of the last [`LearnedBetas::gradients`].
    pub fn step(&mut self, rate: f64) -> Result<()> {
        let at = Evaluation { minibatch: 0, cost: 0.0, gradient: &self.gradient };
        self.adam.step(&mut self.odds, at, rate * self.rate)?;
        self.remake()
    }

    fn remake(&mut self) -> Result<()> {
        self.loss = GaussianBound::new(&self.betas(), self.readout, self.end)?;
        Ok(())
    }

    pub fn state(&self) -> Vec<StateArray> {
        let mut state = self.adam.state();
        state.push(StateArray::f32("log_odds", &self.odds));
        state
    }

    pub fn restore(&mut self, state: &[StateArray]) -> Result<()> {
        let (odds, adam): (Vec<_>, Vec<_>) = state.iter().cloned().partition(|a| a.name == "log_odds");
        let mut saved = Saved::new("the betas", &odds);
        let values = saved.f32("log_odds", self.odds.len())?;
        saved.finish()?;
        self.adam.restore(&adam)?;
        self.odds.copy_from_slice(values);
        self.remake()
    }
}

fn values(first: f64, odds: &[f32]) -> Vec<f64> {
    let rest = odds.iter().skip(1).map(|&u| 1.0 / (1.0 + libm::exp(-f64::from(u))));
    core::iter::once(first).chain(rest).collect()
}
