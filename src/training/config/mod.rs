//! What is trained, on what, and how: one JSON file.
//!
//! | key | is |
//! |---|---|
//! | `model`, `scheduler` | as in a pipeline's `config.json` and `scheduler_config.json` |
//! | `data` | see [`DataConfig`] |
//! | `loss` | `{"kind": "bound", "end": "entropies" or "network"}` for the chains of 2015, or `{"kind": "squared_error", "snr_weight": "none" or "min_snr", "gamma": 5}` |
//! | `times` | `per_sample` (default): each sample of a batch at a step t of its own, spread evenly; `per_batch`: all at one, as the authors' code |
//! | `optimizer` | `{"kind": "adam", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}`, `adamw` (also `weight_decay`, 0.01), `rmsprop` (`decay`), or `sfo` (`history`, `first_step`) |
//! | `learning_rate` | a number, or `{"kind": "decayed", "start", "factor", "every", "floor"}`, or `{"kind": "cosine", "peak", "floor", "warmup"}` |
//! | `readout_rate` | the learning rate of the readouts of 2015 networks, as a multiple of `learning_rate`; 1 by default. Radial basis functions overlap, so that readouts must grow large while centres move little: 10 to 30 learns faster |
//! | `batch`, `steps` | samples of a step, and how many steps |
//! | `seed` | of everything drawn, 0 by default |
//! | `clip` | the largest norm of a gradient; none by default |
//! | `ema` | the decay of the average of weights, which is then what is written; none by default |
//! | `init` | `draw_readout`, `centre_scale`, `width`: see [`InitOptions`]; `{"critical": {"sigma_b": 0}}`: the hidden layers of an `Mlp2015` begin at the edge of chaos; or `{"weights": "FILE"}`: the weights of a packed file, a pretrained model of the same configuration, which is trained on (fine-tuning) |
//! | `learned_betas` | `{"rate": 0.1}`: the betas but the first are learned too, with that part of the learning rate |
//! | `lanes`, `chunk` | see [`EngineOptions`](crate::training::engine::EngineOptions) |
//! | `checkpoint_every` | steps, 1000 by default |
//! | `dtype` | of the weights that are written: `f32` (default), `f16`, `bf16` |
//!
//! Keys that begin with `_` are remarks. Everything else that is unknown is refused.

use alloc::string::{String, ToString};
use std::path::{Path, PathBuf};

use super::init::InitOptions;
use super::loss::{End, SnrWeight};
use super::optim::{AdamOptions, LearningRate, RmsPropOptions, SfoOptions, WeightDecay};
use crate::error::{Result, ensure, err};
use crate::files;
use crate::json::Value;
use crate::tensor::DType;

mod data;
mod keys;

pub use data::{DataConfig, DataKind, ScaleConfig};

use keys::Keys;

/// The longest configuration that is read: 4 MiB.
const MAX_TEXT: usize = 4 << 20;

/// How steps t are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainTimes {
    /// Each sample of a batch at one of its own, evenly spread over all.
    #[default]
    PerSample,
    /// All samples of a batch at the same.
    PerBatch,
}

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossConfig {
    /// The 2015 bound.
    Bound(End),
    /// The squared error of what the scheduler's `prediction_type` says.
    SquaredError(SnrWeight),
}

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerConfig {
    /// Adam or AdamW.
    Adam(AdamOptions),
    /// RMSProp.
    RmsProp(RmsPropOptions),
    /// SFO; each batch of an epoch is one of its minibatches, with the same samples and noise whenever it comes.
    Sfo(SfoOptions),
}

/// A whole training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// The model's configuration, JSON text.
    pub model: String,
    /// The scheduler's.
    pub scheduler: String,
    /// The data.
    pub data: DataConfig,
    /// The loss.
    pub loss: LossConfig,
    /// How steps t are chosen.
    pub times: TrainTimes,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// The learning rate.
    pub learning_rate: LearningRate,
    /// The learning rate of readouts, as a multiple of the others'.
    pub readout_rate: f64,
    /// Samples of a step.
    pub batch: usize,
    /// Steps.
    pub steps: u64,
    /// Of everything drawn.
    pub seed: u64,
    /// The largest norm of a gradient.
    pub clip: Option<f64>,
    /// The decay of the average of weights.
    pub ema: Option<f64>,
    /// How the initial weights are drawn.
    pub init: InitOptions,
    /// The packed file that they are read from in place of being drawn. A relative path begins beside the
    /// configuration.
    pub weights: Option<PathBuf>,
    /// That betas are learned, and by which part of the learning rate.
    pub learned_betas: Option<f64>,
    /// Lanes of the engine.
    pub lanes: usize,
    /// Samples of a chunk.
    pub chunk: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Of the weights that are written.
    pub dtype: DType,
    /// The text it was read from.
    pub text: String,
}

impl TrainConfig {
    /// Reads a configuration from a file of at most 4 MiB. Errors name the file: those of [`TrainConfig::from_json`],
    /// kind `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = files::read_text(path, MAX_TEXT as u64)?;
        Self::from_json(&text).map_err(|e| e.context(path.display()))
    }

    /// Reads a configuration. Errors (kind `Config`) name the key, what is accepted and what stands there.
    ///
    /// ```
    /// use undiffuse::training::config::TrainConfig;
    ///
    /// let text = r#"{
    ///     "model": {"_class_name": "Rbf2015", "num_train_timesteps": 40},
    ///     "scheduler": {"_class_name": "Ancestral2015Scheduler", "num_train_timesteps": 40},
    ///     "data": {"kind": "swiss_roll", "count": 1000}, "loss": {"kind": "bound"},
    ///     "learning_rate": 1e-3, "batch": 100, "steps": 10
    /// }"#;
    /// assert_eq!(TrainConfig::from_json(text)?.steps, 10);
    /// let e = TrainConfig::from_json(&text.replace("batch", "bach")).unwrap_err();
    /// assert!(e.message().contains("batch"));
    /// # Ok::<(), undiffuse::Error>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self> {
        ensure!(text.len() <= MAX_TEXT, Config, "the training config has {} bytes, at most {MAX_TEXT}", text.len());
        let mut k = Keys::parse(text)?;
        let object = |v: Value, key: &str| {
            ensure!(v.as_object().is_some(), Config, "{key} in the training config is no object");
            Ok(v.to_string())
        };
        let steps = k.integer("steps", None, 1..=1 << 40)?;
        let (init, weights) = init(k.part("init")?)?;
        let config = Self {
            model: object(k.need("model")?, "model")?,
            scheduler: object(k.need("scheduler")?, "scheduler")?,
            data: DataConfig::read(k.part("data")?)?,
            loss: loss(k.part("loss")?)?,
            times: k.word(
                "times",
                Some(TrainTimes::PerSample),
                &[("per_sample", TrainTimes::PerSample), ("per_batch", TrainTimes::PerBatch)],
            )?,
            optimizer: optimizer(k.part("optimizer")?)?,
            learning_rate: learning_rate(&mut k, steps)?,
            readout_rate: k.number("readout_rate", Some(1.0), 1e-6..=1e6)?,
            batch: k.count("batch", None, 1 << 24)?,
            steps,
            seed: k.integer("seed", Some(0), 0..=u64::MAX)?,
            clip: k.maybe_number("clip", 1e-12..=1e12)?,
            ema: k.maybe_number("ema", 0.0..=0.999_999_9)?,
            init,
            weights,
            learned_betas: learned_betas(&mut k)?,
            lanes: k.count("lanes", Some(4), 4096)?,
            chunk: if k.has("chunk") { Some(k.count("chunk", None, 1 << 24)?) } else { None },
            checkpoint_every: k.integer("checkpoint_every", Some(1000), 1..=1 << 40)?,
            dtype: k.word(
                "dtype",
                Some(DType::F32),
                &[("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)],
            )?,
            text: text.to_string(),
        };
        k.finish()?;
        Ok(config)
    }
}

fn loss(mut k: Keys) -> Result<LossConfig> {
    let bound = k.word("kind", None, &[("bound", true), ("squared_error", false)])?;
    let loss = if bound {
        let ends = [("entropies", End::Entropies), ("network", End::Network)];
        LossConfig::Bound(k.word("end", Some(End::Entropies), &ends)?)
    } else if k.word("snr_weight", Some(false), &[("none", false), ("min_snr", true)])? {
        LossConfig::SquaredError(SnrWeight::MinSnr { gamma: k.number("gamma", Some(5.0), 1e-6..=1e6)? })
    } else {
        LossConfig::SquaredError(SnrWeight::None)
    };
    k.finish()?;
    Ok(loss)
}

fn optimizer(mut k: Keys) -> Result<OptimizerConfig> {
    let kind = k.word("kind", Some(0), &[("adam", 0), ("adamw", 1), ("rmsprop", 2), ("sfo", 3)])?;
    let below_one = 0.0..=0.999_999_999;
    let config = match kind {
        0 | 1 => {
            let d = if kind == 0 { AdamOptions::default() } else { AdamOptions::adamw() };
            let weight_decay = match d.weight_decay {
                WeightDecay::Decoupled(w) => WeightDecay::Decoupled(k.number("weight_decay", Some(w), 0.0..=1e3)?),
                other => other,
            };
            OptimizerConfig::Adam(AdamOptions {
                beta1: k.number("beta1", Some(d.beta1), below_one.clone())?,
                beta2: k.number("beta2", Some(d.beta2), below_one)?,
                eps: k.number("eps", Some(d.eps), 0.0..=1.0)?,
                weight_decay,
            })
        }
        2 => {
            let d = RmsPropOptions::default();
            OptimizerConfig::RmsProp(RmsPropOptions { decay: k.number("decay", Some(d.decay), below_one)?, ..d })
        }
        _ => {
            let d = SfoOptions::default();
            OptimizerConfig::Sfo(SfoOptions {
                first_step: k.number("first_step", Some(d.first_step), 1e-12..=1e6)?,
                history: k.count("history", Some(d.history), 100)?,
            })
        }
    };
    k.finish()?;
    Ok(config)
}

fn learning_rate(k: &mut Keys, steps: u64) -> Result<LearningRate> {
    let range = 0.0..=1e6;
    if !k.has("learning_rate") {
        return Err(err!(Config, "the training config has no learning_rate"));
    }
    if k.is_number("learning_rate") {
        return Ok(LearningRate::Constant(k.number("learning_rate", None, range)?));
    }
    let mut k = k.part("learning_rate")?;
    let cosine = k.word("kind", None, &[("decayed", false), ("cosine", true)])?;
    let rate = if cosine {
        LearningRate::Cosine {
            peak: k.number("peak", None, range.clone())?,
            floor: k.number("floor", Some(0.0), range)?,
            warmup: k.integer("warmup", Some(0), 0..=1 << 40)?,
            steps: k.integer("steps", Some(steps), 1..=1 << 40)?,
        }
    } else {
        LearningRate::Decayed {
            start: k.number("start", None, range.clone())?,
            factor: k.number("factor", None, 1e-12..=1.0)?,
            every: k.integer("every", None, 1..=1 << 40)?,
            floor: k.number("floor", Some(0.0), range)?,
        }
    };
    k.finish()?;
    rate.check().map_err(|e| err!(Config, "learning_rate in the training config: {e}"))?;
    Ok(rate)
}

fn init(mut k: Keys) -> Result<(InitOptions, Option<PathBuf>)> {
    let d = InitOptions::default();
    if k.has("weights") {
        let path = k.text("weights")?;
        ensure!(
            !path.is_empty(),
            Config,
            "init.weights is \"\" in the training config, expected the path of a packed file"
        );
        k.finish().map_err(|e| e.context("beside init.weights nothing is drawn"))?;
        return Ok((d, Some(path.into())));
    }
    let init = InitOptions {
        draw_readout: k.boolean("draw_readout", d.draw_readout)?,
        centre_scale: k.number("centre_scale", Some(d.centre_scale), 1e-6..=1e6)?,
        width: k.maybe_number("width", 1e-6..=1e6)?,
        critical: if k.has("critical") { Some(critical(k.part("critical")?)?) } else { None },
    };
    k.finish()?;
    Ok((init, None))
}

fn critical(mut k: Keys) -> Result<f64> {
    let sigma_b = k.number("sigma_b", Some(0.0), 0.0..=10.0)?;
    k.finish()?;
    Ok(sigma_b)
}

fn learned_betas(k: &mut Keys) -> Result<Option<f64>> {
    if !k.has("learned_betas") {
        return Ok(None);
    }
    let mut k = k.part("learned_betas")?;
    let rate = k.number("rate", Some(1.0), 0.0..=1e6)?;
    k.finish()?;
    Ok(Some(rate))
}
