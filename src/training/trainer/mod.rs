//! The loop: batches, losses, gradients, steps; saved and restored to the same bits.
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use undiffuse::Cancel;
//! use undiffuse::backend::threads::Serial;
//! use undiffuse::training::{config::TrainConfig, trainer::Trainer};
//!
//! let config = TrainConfig::from_json(r#"{
//!     "model": {"_class_name": "Rbf2015", "num_train_timesteps": 40},
//!     "scheduler": {"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 40},
//!     "data": {"kind": "swiss_roll", "count": 1000, "scale": "unit_variance"},
//!     "loss": {"kind": "bound"}, "learning_rate": 1e-2, "batch": 100, "steps": 20
//! }"#)?;
//! let mut trainer = Trainer::new(config, Path::new("."), Arc::new(Serial))?;
//! while !trainer.is_done() {
//!     trainer.step(&Cancel::new())?;
//! }
//! let mut packed = Vec::new();
//! trainer.pack(&mut |piece| Ok(packed.extend_from_slice(piece)))?;
//! # Ok::<(), undiffuse::Error>(())
//! ```

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::f64::consts::LN_2;
use core::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::config::{LossConfig, OptimizerConfig, TrainConfig, TrainTimes};
use super::data::{Augment, Loader, Scale, draw};
use super::engine::{Batch, Engine, EngineOptions, ParamSlot};
use super::init;
use super::loss::{self, BinomialBound, Loss, SquaredError};
use super::mean_field::MeanField;
use super::optim::{Adam, Ema, EmaDecay, Evaluation, Optimizer, RmsProp, Sfo, clip_norm, norm};
use crate::backend::threads::{Threads, for_each};
use crate::cancel::Cancel;
use crate::error::{Result, ensure, err};
use crate::graph::{Graph, Param};
use crate::model::{Family, ModelConfig, ParamRole};
use crate::noise::Stream;
use crate::process::Binomial;
use crate::sampler::{Readout2015, SamplerKind, SchedulerConfig};
use crate::schedule::{Arithmetic, NoiseSchedule};

mod betas;
mod card;
mod output;
mod save;
mod start;

use betas::LearnedBetas;
use start::First;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// How many steps have been made, this one included.
    pub step: u64,
    /// The loss of its batch before it: of a bound, -K in bits per dimension.
    pub loss: f64,
    /// The norm of the gradient, before it was clipped.
    pub gradient_norm: f64,
    /// The learning rate.
    pub rate: f64,
}

/// A training that goes on step by step.
///
/// What it does is a function of the configuration alone: batches, noise and steps t are keyed by (seed, step), and
/// neither the number of threads nor a stop in between changes a bit.
pub struct Trainer {
    config: TrainConfig,
    model: ModelConfig,
    scheduler: SchedulerConfig,
    scale: Scale,
    engine: Engine,
    params: Vec<f32>,
    /// Where the readouts' parameters lie, if their learning rate is another.
    readouts: Vec<Range<usize>>,
    optimizer: Box<dyn Optimizer>,
    ema: Option<Ema>,
    loader: Loader,
    objective: Objective,
    step: u64,
    seconds: f64,
    buffers: Buffers,
    threads: Arc<dyn Threads>,
}

/// The loss, and the betas if they are learned with it.
enum Objective {
    Fixed(Box<dyn Loss>),
    Learned(Box<LearnedBetas>),
}

impl Objective {
    fn loss(&self) -> &dyn Loss {
        match self {
            Self::Fixed(loss) => &**loss,
            Self::Learned(betas) => betas.loss(),
        }
    }
}

/// What one step works in.
#[derive(Default)]
struct Buffers {
    x0: Vec<f32>,
    x: Vec<f32>,
    /// The steps t of the samples, as the network takes them.
    times: Vec<f32>,
    gradient: Vec<f32>,
    by_x: Vec<f32>,
}

impl Trainer {
    /// Reads the data, builds the network and gives it its first weights. `beside` is where relative paths of the
    /// configuration begin.
    ///
    /// Errors: kind `Config` for parts that do not go together; what readers of data, models and schedules refuse;
    /// `OutOfMemory`.
    pub fn new(config: TrainConfig, beside: &Path, threads: Arc<dyn Threads>) -> Result<Self> {
        Self::begin(First::Own, config, beside, threads)
    }

    /// [`Trainer::new`] and [`Trainer::restore_from`] a checkpoint, without the file of `init.weights`, of which the
    /// checkpoint has nothing left.
    ///
    /// Errors: those of both.
    pub fn resume(
        config: TrainConfig,
        beside: &Path,
        threads: Arc<dyn Threads>,
        checkpoint: impl AsRef<Path>,
    ) -> Result<Self> {
        let mut trainer = Self::begin(First::Replaced, config, beside, threads)?;
        trainer.restore_from(checkpoint)?;
        Ok(trainer)
    }

    fn begin(first: First, config: TrainConfig, beside: &Path, threads: Arc<dyn Threads>) -> Result<Self> {
        let model = ModelConfig::from_json(&config.model)?;
        ensure!(
            !matches!(model, ModelConfig::Family(Family::KarrasUnet(_))),
            Unsupported,
            "{} is not trained here: its weights are normalised whenever they are read",
            model.class_name()
        );
        let mut scheduler = SchedulerConfig::from_json(&config.scheduler)?;
        let (data, scale) = config.data.load(beside, config.seed)?;
        let augment = Augment { scale, ..config.data.augment };
        let loader = Loader::new(data, config.batch, config.seed, augment)?;
        let size = match *loader.dims().as_slice() {
            [_, h, w] if model.is_of_images() => Some([h, w]),
            _ => None,
        };
        let graph = model.build(size)?;
        let [sample, time] = graph.inputs() else {
            return Err(err!(Config, "the network has {} inputs, expected a sample and a time", graph.inputs().len()));
        };
        let dims = graph.dims(sample.value);
        ensure!(
            dims == loader.dims() && graph.dims(time.value).elements() == 1 && graph.outputs().len() == 1,
            Config,
            "the network takes samples of {dims}, but the data are {}",
            loader.dims()
        );
        if let Some(steps) = model.num_train_timesteps() {
            let there = scheduler.num_train_timesteps;
            ensure!(
                steps == there,
                Config,
                "num_train_timesteps is {steps} in the model config and {there} in the scheduler config"
            );
        }
        let schedule = NoiseSchedule::new(&scheduler.betas(), Arithmetic::Float64)?;
        let objective = objective(&config, &scheduler, schedule.betas())?;
        let output = graph.outputs().iter().map(|p| graph.dims(p.value).elements()).sum();
        loss::check(objective.loss(), dims.elements(), output)?;
        if scheduler.class.is_2015() {
            (scheduler.chain_2015.sample_scale, scheduler.chain_2015.sample_shift) = (scale.scl, scale.shft);
        }
        let by_inputs: &[usize] = if matches!(objective, Objective::Learned(_)) { &[0] } else { &[] };
        let options = EngineOptions { lanes: config.lanes, chunk: config.chunk };
        let engine = Engine::new(&graph, by_inputs, Arc::clone(&threads), options)?;
        let readouts = readouts(&model, &graph, engine.params(), config.readout_rate);
        let params = start::weights(&first, &config, beside, &model, &graph)?;
        let n = params.len();
        let optimizer: Box<dyn Optimizer> = match config.optimizer {
            OptimizerConfig::Adam(options) => Box::new(Adam::new(options, n)?.on(Arc::clone(&threads))),
            OptimizerConfig::RmsProp(options) => Box::new(RmsProp::new(options, n)?),
            OptimizerConfig::Sfo(options) => {
                ensure!(config.clip.is_none(), Config, "optimizer is sfo, which takes no clipped gradients");
                ensure!(readouts.is_empty(), Config, "optimizer is sfo, which has no readout_rate");
                Box::new(Sfo::new(options, &params, usize::try_from(loader.steps_per_epoch()).unwrap_or(usize::MAX))?)
            }
        };
        let ema = config.ema.map(|d| Ema::new(EmaDecay::Warm(d), &params)).transpose()?;
        let buffers = Buffers::default();
        let (step, seconds) = (0, 0.0);
        Ok(Self {
            config,
            model,
            scheduler,
            scale,
            engine,
            params,
            readouts,
            optimizer,
            ema,
            loader,
            objective,
            step,
            seconds,
            buffers,
            threads,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// How many steps have been made.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Whether all steps have been made.
    pub fn is_done(&self) -> bool {
        self.step >= self.config.steps
    }

    /// How many parameters are trained.
    pub fn parameter_count(&self) -> usize {
        self.params.len()
    }

    /// What brings data to the scale of the model.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// Whether the loss is -K in bits per dimension.
    pub fn is_bound(&self) -> bool {
        self.objective.loss().is_bound()
    }

    /// The hidden layers as they were initialised, the one of them that lets least through: how deep a signal reached
    /// when the training began. `None` for networks that the theory of [`mean_field`](super::mean_field) does not
    /// have, and for weights that were read.
    pub fn mean_field(&self) -> Option<MeanField> {
        match self.config.weights {
            Some(_) => None,
            None => init::layers(&self.model, &self.config.init).ok().flatten(),
        }
    }

    /// Makes one step.
    ///
    /// Errors leave everything as it was: `Cancelled`; `NonFinite` if the loss or a gradient is not finite.
    pub fn step(&mut self, cancel: &Cancel) -> Result<StepReport> {
        let start = std::time::Instant::now();
        let key = self.optimizer.wants().map_or(self.step, |m| m as u64);
        self.draw(key, cancel)?;
        let (batch, n) = (self.config.batch, self.loader.dims().elements());
        let loss = self.objective.loss();
        // Of a bound in bits per dimension; each sample's loss is its part of the mean.
        let unit = if loss.is_bound() { 1.0 / (n as f64 * LN_2) } else { 1.0 };
        let scale = unit / batch as f64;
        let Buffers { x0, x, times, gradient, by_x } = &mut self.buffers;
        gradient.resize(self.params.len(), 0.0);
        let inputs: [&[f32]; 2] = [x, times];
        let at = Batch { samples: batch, inputs: &inputs };
        let output_len = loss.output_len(n);
        let sum = match &mut self.objective {
            Objective::Fixed(loss) => {
                let each = |first: usize, y: &[&[f32]], dy: &mut [&mut [f32]]| {
                    let (Some(y), Some(dy)) = (y.first(), dy.first_mut()) else { return Ok(f64::NAN) };
                    let samples = y.chunks_exact(output_len).zip(dy.chunks_exact_mut(output_len));
                    let mut sum = 0.0;
                    for (i, (y, dy)) in samples.enumerate() {
                        let at = (first + i) * n;
                        sum += loss.evaluate(times[first + i] as usize, &x0[at..at + n], &x[at..at + n], y, dy);
                        dy.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
                    }
                    Ok(sum)
                };
                self.engine.gradients(&self.params, at, &each, gradient, &mut [], cancel)?
            }
            Objective::Learned(betas) => {
                by_x.resize(x.len(), 0.0);
                betas.gradients(&mut self.engine, &self.params, at, x0, scale, unit, (gradient, by_x), cancel)?
            }
        };
        let value = sum * scale + self.objective.loss().constant(n) * unit;
        ensure!(
            value.is_finite(),
            NonFinite,
            "the loss of step {} is {value}; a smaller learning rate may help",
            self.step
        );
        let gradient = &mut self.buffers.gradient;
        let gradient_norm = match self.config.clip {
            Some(max) => clip_norm(gradient, max)?,
            None => norm(gradient),
        };
        let rate = self.config.learning_rate.at(self.step);
        let at = Evaluation { minibatch: key as usize, cost: value, gradient };
        let before: Vec<f32> = self.readouts.iter().flat_map(|r| &self.params[r.clone()]).copied().collect();
        self.optimizer.step(&mut self.params, at, rate)?;
        let mut before = before.iter();
        for range in &self.readouts {
            for (to, from) in self.params[range.clone()].iter_mut().zip(&mut before) {
                *to = (f64::from(*from) + self.config.readout_rate * (f64::from(*to) - f64::from(*from))) as f32;
            }
        }
        if let Objective::Learned(betas) = &mut self.objective {
            betas.step(rate)?;
        }
        if let Some(ema) = &mut self.ema {
            ema.update(&self.params)?;
        }
        self.step += 1;
        self.seconds += start.elapsed().as_secs_f64();
        Ok(StepReport { step: self.step, loss: value, gradient_norm, rate })
    }

    /// Fills x_0, the steps t and x_t of the batch with this key.
    fn draw(&mut self, key: u64, cancel: &Cancel) -> Result<()> {
        let loss = self.objective.loss();
        let (range, batch, n) = (loss.times(), self.config.batch, self.loader.dims().elements());
        let Buffers { x0, x, times, .. } = &mut self.buffers;
        x0.resize(self.loader.batch_len(), 0.0);
        x.resize(x0.len(), 0.0);
        times.resize(batch, 0.0);
        self.loader.fill(key, x0)?;
        let mut stream = Stream::new(self.config.seed, key, draw::TIMES);
        let one = stream.uniform();
        let mut indices = Vec::with_capacity(batch);
        for (i, t) in times.iter_mut().enumerate() {
            let place = match self.config.times {
                TrainTimes::PerBatch => one,
                TrainTimes::PerSample => (i as f64 + stream.uniform()) / batch as f64,
            };
            let index = (range.start + (place * range.len() as f64) as usize).min(range.end - 1);
            *t = index as f32;
            indices.push(index);
        }
        let (seed, x0) = (self.config.seed, &*x0);
        let samples: Vec<Mutex<&mut [f32]>> = x.chunks_exact_mut(n).map(Mutex::new).collect();
        for_each(&*self.threads, self.threads.count(), cancel, batch, &|_, i| {
            let (Some(x), Some(&index)) = (samples.get(i), indices.get(i)) else { return Ok(()) };
            let mut noise = Stream::new(seed, key.wrapping_mul(batch as u64).wrapping_add(i as u64), draw::FORWARD);
            let mut x = x.lock().unwrap_or_else(PoisonError::into_inner);
            loss.corrupt(index, &x0[i * n..][..n], &mut noise, &mut x);
            Ok(())
        })
    }

    /// The weights that are written: the average, if there is one.
    fn weights(&self) -> Result<Vec<f32>> {
        let mut weights = self.params.clone();
        if let Some(ema) = &self.ema {
            ema.write(&mut weights)?;
        }
        Ok(weights)
    }

    /// The scheduler's configuration as it is written: with the scale of the data and what was learned.
    pub fn scheduler_json(&self) -> String {
        let mut scheduler = self.scheduler.clone();
        if let Objective::Learned(betas) = &self.objective {
            scheduler.trained_betas = Some(betas.betas());
        }
        scheduler.to_json()
    }
}

/// Where the readouts lie; nowhere if `rate`, their multiple of the learning rate, is 1.
fn readouts(model: &ModelConfig, graph: &Graph, slots: &[ParamSlot], rate: f64) -> Vec<Range<usize>> {
    let is_readout = |p: &Param| rate != 1.0 && model.role(p) == ParamRole::Readout;
    let slots = graph.params().iter().zip(slots).filter(|(p, _)| is_readout(p)).map(|(_, slot)| slot);
    slots.map(|slot| slot.offset..slot.offset + slot.dims.elements()).collect()
}

fn objective(config: &TrainConfig, scheduler: &SchedulerConfig, betas: &[f64]) -> Result<Objective> {
    let chain = &scheduler.chain_2015;
    let end = match config.loss {
        LossConfig::Bound(end) => end,
        LossConfig::SquaredError(weight) => {
            let suits = match scheduler.class {
                SamplerKind::Ancestral2015 => matches!(chain.readout, Readout2015::Prediction(_)),
                SamplerKind::Ddpm | SamplerKind::Ddim => true,
                _ => false,
            };
            ensure!(suits, Config, "loss.kind is squared_error, but the scheduler config has no prediction_type");
            ensure!(config.learned_betas.is_none(), Config, "learned_betas need the loss \"bound\"");
            return Ok(Objective::Fixed(Box::new(SquaredError::new(betas, scheduler.prediction_type, weight)?)));
        }
    };
    match scheduler.class {
        SamplerKind::Ancestral2015 if config.learned_betas.is_some() => {
            ensure!(
                !matches!(chain.readout, Readout2015::Prediction(_)),
                Config,
                "learned_betas need a readout of 2015, \"code\" or \"paper\""
            );
            ensure!(
                !matches!(config.optimizer, OptimizerConfig::Sfo(_)),
                Config,
                "learned_betas need adam, adamw or rmsprop"
            );
            let rate = config.learned_betas.unwrap_or(1.0);
            Ok(Objective::Learned(Box::new(LearnedBetas::new(betas, chain.readout, end, rate)?)))
        }
        SamplerKind::Ancestral2015 => {
            Ok(Objective::Fixed(Box::new(loss::GaussianBound::new(betas, chain.readout, end)?)))
        }
        SamplerKind::Bits2015 => {
            ensure!(config.learned_betas.is_none(), Config, "learned_betas need a chain of real numbers");
            ensure!(chain.logits, Config, "bit_output is \"probability\", expected \"logits\" for training");
            let process = Binomial::new(chain.pi)?;
            Ok(Objective::Fixed(Box::new(BinomialBound::new(betas, process, chain.bit_prediction, end)?)))
        }
        _ => Err(err!(Config, "loss.kind is bound, which needs an Ancestral2015Scheduler or a Bits2015Scheduler")),
    }
}
