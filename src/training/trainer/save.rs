//! Checkpoints: everything that a stopped run needs to go on in the same bits.

use alloc::format;
use alloc::vec::Vec;
use std::path::Path;

use super::{Objective, Trainer};
use crate::error::{Result, ensure};
use crate::files::{self, MAX_BYTES};
use crate::noise::Fingerprint;
use crate::training::state::{Saved, StateArray, from_bytes, to_bytes};

/// Before the names of the arrays of each part.
const OPTIMIZER: &str = "optimizer.";
const AVERAGE: &str = "ema.";
const BETAS: &str = "betas.";

fn prefixed(prefix: &str, state: Vec<StateArray>) -> impl Iterator<Item = StateArray> {
    state.into_iter().map(move |a| StateArray { name: format!("{prefix}{}", a.name), ..a })
}

fn part(prefix: &str, state: &[StateArray]) -> Vec<StateArray> {
    let of = |a: &StateArray| Some(StateArray { name: a.name.strip_prefix(prefix)?.into(), values: a.values.clone() });
    state.iter().filter_map(of).collect()
}

impl Trainer {
    /// A number that tells one training from another: model, scheduler, data, loss, optimiser, first weights, batch,
    /// seed and lanes. The number of steps, the learning rate and the like may change when a run goes on.
    fn fingerprint(&self) -> u64 {
        let c = &self.config;
        let rest = format!(
            "{:?} {:?} {:?} {:?} {} {} {:?} {:?} {} {:?} {:?}",
            c.data, c.loss, c.times, c.optimizer, c.batch, c.seed, c.ema, c.init, c.lanes, c.chunk, c.learned_betas
        );
        let f = Fingerprint::new().bytes(c.model.as_bytes()).bytes(c.scheduler.as_bytes());
        let f = f.bytes(rest.as_bytes());
        c.weights.as_ref().map_or(f, |path| f.bytes(path.as_os_str().as_encoded_bytes())).finish()
    }

    /// The checkpoint as a safetensors file.
    ///
    /// Errors: none that the state of a run can bring about.
    pub fn save(&self) -> Result<Vec<u8>> {
        let mut state = alloc::vec![
            StateArray::u64("training", &[self.fingerprint()]),
            StateArray::u64("step", &[self.step]),
            StateArray::f64("seconds", &[self.seconds]),
            StateArray::f32("params", &self.params),
        ];
        state.extend(prefixed(OPTIMIZER, self.optimizer.state()));
        if let Some(ema) = &self.ema {
            state.extend(prefixed(AVERAGE, ema.state()));
        }
        if let Objective::Learned(betas) = &self.objective {
            state.extend(prefixed(BETAS, betas.state()));
        }
        to_bytes(&state)
    }

    /// Takes what [`Trainer::save`] gave from a file of at most 4 GiB. Errors name the file: those of
    /// [`Trainer::restore`], kind `Io`.
    pub fn restore_from(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = files::read_bounded(path, MAX_BYTES)?;
        self.restore(&bytes).map_err(|e| e.context(path.display()))
    }

    /// Takes what [`Trainer::save`] gave, in a trainer of the same configuration, and goes on in the same bits.
    ///
    /// Errors (kind `Weights`): the bytes are no checkpoint, or one of another configuration; the trainer is then to be
    /// dropped.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let state = from_bytes(bytes)?;
        let own = |a: &&StateArray| ![OPTIMIZER, AVERAGE, BETAS].iter().any(|p| a.name.starts_with(p));
        let mine: Vec<StateArray> = state.iter().filter(own).cloned().collect();
        let mut saved = Saved::new("the training", &mine);
        let fingerprint = saved.u64("training", 1)?;
        ensure!(
            *fingerprint == [self.fingerprint()],
            Weights,
            "the checkpoint is of another training: model, scheduler, data, loss, times, optimizer, init, ema, batch, seed, lanes, chunk or learned_betas differ"
        );
        let step = saved.u64("step", 1)?;
        let (done, all) = (step.iter().copied().max().unwrap_or(0), self.config.steps);
        ensure!(done <= all, Weights, "the checkpoint is of step {done}, and the configuration has {all} steps");
        let seconds = saved.f64("seconds", Some(1))?;
        let params = saved.f32("params", self.params.len())?;
        saved.finish()?;
        self.optimizer.restore(&part(OPTIMIZER, &state))?;
        match &mut self.ema {
            Some(ema) => ema.restore(&part(AVERAGE, &state))?,
            None => ensure!(part(AVERAGE, &state).is_empty(), Weights, "the checkpoint has an average of weights"),
        }
        match &mut self.objective {
            Objective::Learned(betas) => betas.restore(&part(BETAS, &state))?,
            Objective::Fixed(_) => ensure!(part(BETAS, &state).is_empty(), Weights, "the checkpoint has learned betas"),
        }
        self.params.copy_from_slice(params);
        self.step = done;
        self.seconds = seconds.iter().sum();
        Ok(())
    }
}
