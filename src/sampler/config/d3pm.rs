//! The configuration of D3PM's chain of classes, which diffusers has not.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{SchedulerConfig, choice, integer, name_of, number, numbers, shown};
use crate::error::{Result, ensure, err};
use crate::json::Value;
use crate::process::Categorical;
use crate::sampler::{ClassPrediction, D3pm, Sampler, SamplerOptions, Steps};
use crate::schedule::{
    Arithmetic, BetaSchedule, MAX_TRAIN_TIMESTEPS, NoiseSchedule, TimestepSpacing, custom_timesteps, spaced_timesteps,
};

/// The most classes of a configuration.
const MAX_CLASSES: u64 = 1 << 24;

/// What a scheduler configuration of class `D3PMScheduler` says beside T and the betas.
///
/// Its keys: `num_train_timesteps`; `beta_schedule` (`mutual_information`, the default, which is 1 / (T - t + 1),
/// `cosine`, or one of diffusers' with `beta_start` and `beta_end`) or `trained_betas`; `num_classes`, K with the mask;
/// `transition` (`uniform`, the default, or `absorbing`); `mask_class` (the last; of `absorbing`); `class_prediction`
/// (`clean`, the default, or `joint`) and `class_output` (`logits`, the default, or `probability`).
///
/// ```
/// use undiffuse::sampler::{SamplerOptions, SchedulerConfig, Steps};
///
/// let text = r#"{"_class_name": "D3PMScheduler", "num_train_timesteps": 500, "num_classes": 28, "transition": "absorbing"}"#;
/// let options = SamplerOptions { steps: Steps::Count(50), ..Default::default() };
/// let sampler = SchedulerConfig::from_json(text)?.sampler(&options)?;
/// assert_eq!((sampler.name(), sampler.levels().len()), ("d3pm", 50));
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct D3pmConfig {
    /// K, the mask among them.
    pub num_classes: usize,
    /// Whether what is forgotten becomes the mask; if not, any class.
    pub absorbing: bool,
    /// The mask; `None` for the last class.
    pub mask_class: Option<usize>,
    /// What the network's probabilities mean.
    pub prediction: ClassPrediction,
    /// Whether it gives logits in place of probabilities.
    pub logits: bool,
}

impl Default for D3pmConfig {
    fn default() -> Self {
        let prediction = ClassPrediction::Clean;
        Self { num_classes: 2, absorbing: false, mask_class: None, prediction, logits: true }
    }
}

impl D3pmConfig {
    /// The process.
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2 classes, a mask that is none of them or that has no use.
    pub fn process(&self) -> Result<Categorical> {
        ensure!(
            self.absorbing || self.mask_class.is_none(),
            InvalidArgument,
            "mask_class is given with uniform transitions, expected transition absorbing"
        );
        match self.absorbing {
            true => {
                Categorical::absorbing(self.num_classes, self.mask_class.unwrap_or(self.num_classes.saturating_sub(1)))
            }
            false => Categorical::uniform(self.num_classes),
        }
    }
}

const TRANSITIONS: [(&str, bool); 2] = [("uniform", false), ("absorbing", true)];
const PREDICTIONS: [(&str, ClassPrediction); 2] =
    [("clean", ClassPrediction::Clean), ("joint", ClassPrediction::Joint)];
const OUTPUTS: [(&str, bool); 2] = [("logits", true), ("probability", false)];

fn schedules() -> [(&'static str, BetaSchedule); 8] {
    let ([a, b, c, d, e, f], [g, h]) = (BetaSchedule::NAMES, BetaSchedule::NAMES_D3PM);
    [a, b, c, d, e, f, g, h]
}

impl SchedulerConfig {
    pub(super) fn set_d3pm(&mut self, key: &str, value: &Value) -> Result<()> {
        let d3pm = &mut self.d3pm;
        match key {
            "_class_name" => {}
            "num_train_timesteps" => {
                self.num_train_timesteps = integer(key, value, 2, MAX_TRAIN_TIMESTEPS as u64)? as usize;
            }
            "beta_start" => self.beta_start = number(key, value)?,
            "beta_end" => self.beta_end = number(key, value)?,
            "beta_schedule" => self.beta_schedule = choice(key, value, &schedules())?,
            "trained_betas" => self.trained_betas = numbers(key, value)?,
            "num_classes" => d3pm.num_classes = integer(key, value, 2, MAX_CLASSES)? as usize,
            "transition" => d3pm.absorbing = choice(key, value, &TRANSITIONS)?,
            "mask_class" if value.is_null() => d3pm.mask_class = None,
            "mask_class" => d3pm.mask_class = Some(integer(key, value, 0, MAX_CLASSES)? as usize),
            "class_prediction" => d3pm.prediction = choice(key, value, &PREDICTIONS)?,
            "class_output" => d3pm.logits = choice(key, value, &OUTPUTS)?,
            _ if key.starts_with('_') => {
                self.other.insert(key.into(), value.clone());
            }
            _ => {
                return Err(err!(Config, "the configuration of D3PMScheduler has the unknown key \"{}\"", shown(key)));
            }
        }
        Ok(())
    }

    /// That what was read, key by key, goes together.
    pub(super) fn check_d3pm(&self) -> Result<()> {
        self.d3pm.process().map(|_| ()).map_err(|e| err!(Config, "the scheduler's classes: {e}"))
    }

    pub(super) fn to_json_d3pm(&self) -> alloc::string::String {
        let d3pm = &self.d3pm;
        let mut map = self.unknown();
        let mut set = |key: &str, value: Value| {
            map.insert(key.into(), value);
        };
        set("_class_name", self.class.class_name().into());
        set("num_train_timesteps", self.num_train_timesteps.into());
        set("beta_start", self.beta_start.into());
        set("beta_end", self.beta_end.into());
        set("beta_schedule", name_of(self.beta_schedule, &schedules()));
        set("trained_betas", self.trained_betas.clone().map_or(Value::Null, Value::from));
        set("num_classes", d3pm.num_classes.into());
        set("transition", name_of(d3pm.absorbing, &TRANSITIONS));
        set("mask_class", d3pm.mask_class.map_or(Value::Null, Value::from));
        set("class_prediction", name_of(d3pm.prediction, &PREDICTIONS));
        set("class_output", name_of(d3pm.logits, &OUTPUTS));
        alloc::format!("{:#}", Value::Object(map))
    }

    /// The sampler of a run. A number of steps is spread from the last timestep down.
    pub(in crate::sampler) fn d3pm_sampler(&self, options: &SamplerOptions) -> Result<Box<dyn Sampler + Send + Sync>> {
        ensure!(options.eta == 0.0, Unsupported, "a chain of classes has no eta, expected 0");
        let train = self.num_train_timesteps;
        let timesteps: Vec<u32> = match &options.steps {
            Steps::All => spaced_timesteps(TimestepSpacing::Trailing, train, train, 0)?,
            Steps::Count(n) => spaced_timesteps(TimestepSpacing::Trailing, train, *n, 0)?,
            Steps::Timesteps(list) => custom_timesteps(train, list)?,
            Steps::Sigmas(_) => return Err(err!(Unsupported, "a chain of classes has no sigmas, expected timesteps")),
        };
        // There is no f32 program that it has to follow.
        let schedule = NoiseSchedule::new(&self.betas(), Arithmetic::Float64)?;
        let process = self.d3pm.process()?;
        Ok(Box::new(D3pm::new(&schedule, &timesteps, process, self.d3pm.prediction, self.d3pm.logits)?))
    }
}
