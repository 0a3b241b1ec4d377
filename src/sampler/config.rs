//! diffusers' `scheduler_config.json`, read and written.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value};

use super::PredictionType;
use super::ddpm::VarianceType;
use super::options::SamplerKind;
use crate::error::{Result, ensure, err};
use crate::schedule::{BetaSchedule, Betas, MAX_TRAIN_TIMESTEPS, TimestepSpacing};

mod chain2015;

pub use chain2015::Chain2015;

/// The longest text that is read; a configuration with 100,000 trained betas stays below it.
const MAX_TEXT: usize = 4 << 20;

/// Schedulers of diffusers 0.42.1 that are not implemented here, but whose configuration describes the same kind of model:
/// a discrete schedule of betas.
const BETA_CLASSES: [&str; 14] = [
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
];

/// Other schedulers of diffusers 0.42.1 that a model directory may name.
const KNOWN_CLASSES: [&str; 26] = [
    "AmusedScheduler",
    "CMStochasticIterativeScheduler",
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "ConsistencyDecoderScheduler",
    "CosineDPMSolverMultistepScheduler",
    "DDIMInverseScheduler",
    "DDPMWuerstchenScheduler",
    "DPMSolverMultistepInverseScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "HeliosScheduler",
    "IPNDMScheduler",
    "KarrasVeScheduler",
    "LCMScheduler",
    "RePaintScheduler",
    "SASolverScheduler",
    "SCMScheduler",
    "ScoreSdeVeScheduler",
    "ScoreSdeVpScheduler",
    "TCDScheduler",
    "UnCLIPScheduler",
    "VQDiffusionScheduler",
];

/// Keys of diffusers' other schedulers. They stand in configurations that were written for one scheduler and are read
/// by another; like diffusers, DDPM and DDIM do without them. They are kept and written back.
const OTHER_KEYS: [&str; 27] = [
    "algorithm_type",
    "disable_corrector",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "lambda_min_clipped",
    "lower_order_final",
    "predict_x0",
    "rho",
    "shift_terminal",
    "sigma_data",
    "sigma_max",
    "sigma_min",
    "sigma_schedule",
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "time_shift_type",
    "timestep_type",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
];

/// The union of `DDPMScheduler`'s and `DDIMScheduler`'s configurations, with diffusers' defaults and names; or the configuration of a
/// chain of 2015, see [`Chain2015`].
///
/// ```
/// use undiffuse::sampler::{PredictionType, SamplerKind, SchedulerConfig};
///
/// let config = SchedulerConfig::from_json(r#"{"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}"#)?;
/// assert_eq!((config.class, config.prediction_type), (SamplerKind::Ddim, PredictionType::VPrediction));
/// assert_eq!(SchedulerConfig::from_json(&config.to_json())?, config);
/// let e = SchedulerConfig::from_json(r#"{"_class_name": "DDIMScheduler", "eta_": 1}"#).unwrap_err();
/// assert!(e.message().contains("eta_"));
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// The sampler the configuration was written for.
    pub class: SamplerKind,
    /// T.
    pub num_train_timesteps: usize,
    /// The first beta.
    pub beta_start: f64,
    /// The last beta.
    pub beta_end: f64,
    /// The curve between them. All curves work with both samplers (diffusers' DDIM lacks `sigmoid` and `laplace`).
    pub beta_schedule: BetaSchedule,
    /// The betas themselves.
    pub trained_betas: Option<Vec<f64>>,
    /// DDPM's variance.
    pub variance_type: VarianceType,
    /// Whether x_0 is clamped to plus or minus `clip_sample_range`.
    pub clip_sample: bool,
    /// The range of `clip_sample`.
    pub clip_sample_range: f64,
    /// What the network gives.
    pub prediction_type: PredictionType,
    /// Whether x_0 is thresholded dynamically; wins over `clip_sample`.
    pub thresholding: bool,
    /// The quantile of `thresholding`.
    pub dynamic_thresholding_ratio: f64,
    /// The largest threshold of `thresholding`.
    pub sample_max_value: f64,
    /// How the visited timesteps are spread.
    pub timestep_spacing: TimestepSpacing,
    /// Added to the timesteps of `leading` spacing.
    pub steps_offset: u32,
    /// Whether the betas are rescaled to abar_T = 0.
    pub rescale_betas_zero_snr: bool,
    /// Whether DDIM's last step leads to abar = 1; if not, to abar_0.
    pub set_alpha_to_one: bool,
    /// What the chains of 2015 have beside T and betas; not used by the others.
    pub chain_2015: Chain2015,
    /// Keys that start with `_` (but `_class_name`) and keys of other schedulers: kept, not used.
    pub other: BTreeMap<String, Value>,
}

impl SchedulerConfig {
    /// Diffusers' defaults for a class; for a chain of 2015 those of [`Chain2015`].
    pub fn new(class: SamplerKind) -> Self {
        Self {
            class,
            chain_2015: Chain2015::default(),
            num_train_timesteps: 1000,
            beta_start: 1e-4,
            beta_end: 0.02,
            beta_schedule: match class {
                SamplerKind::Ddpm | SamplerKind::Ddim => BetaSchedule::Linear,
                SamplerKind::Ancestral2015 => BetaSchedule::Authors2015,
                SamplerKind::Bits2015 => BetaSchedule::ErasingEvenly,
            },
            trained_betas: None,
            variance_type: VarianceType::FixedSmall,
            clip_sample: true,
            clip_sample_range: 1.0,
            prediction_type: PredictionType::Epsilon,
            thresholding: false,
            dynamic_thresholding_ratio: 0.995,
            sample_max_value: 1.0,
            timestep_spacing: TimestepSpacing::Leading,
            steps_offset: 0,
            rescale_betas_zero_snr: false,
            set_alpha_to_one: true,
            other: BTreeMap::new(),
        }
    }

    /// Reads the text of a `scheduler_config.json`.
    ///
    /// Errors: kind `Config` if it is too long, no JSON object, or holds an unknown class, key or value, which is named;
    /// kind `Unsupported` for a class of diffusers that is not implemented.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_json_for(text, None)
    }

    /// As [`SchedulerConfig::from_json`], but to be run with `sampler` whatever class wrote it, as diffusers' `from_config`
    /// does. The class may then also be another one of diffusers with a discrete schedule of betas (PNDM, Euler,
    /// DPM-Solver++ and the like); keys it leaves out take `sampler`'s defaults.
    ///
    /// Errors: as [`SchedulerConfig::from_json`]; kind `Unsupported` for a class without betas or a flow-matching model.
    pub fn from_json_for(text: &str, sampler: Option<SamplerKind>) -> Result<Self> {
        ensure!(
            text.len() <= MAX_TEXT,
            Config,
            "the scheduler configuration has {} bytes, expected at most {MAX_TEXT}",
            text.len()
        );
        let value: Value =
            serde_json::from_str(text).map_err(|e| err!(Config, "the scheduler configuration is no JSON: {e}"))?;
        Self::from_value(&value, sampler)
    }

    /// As [`SchedulerConfig::from_json_for`], from a parsed value.
    pub fn from_value(value: &Value, sampler: Option<SamplerKind>) -> Result<Self> {
        let Value::Object(map) = value else {
            return Err(err!(Config, "the scheduler configuration is {}, expected an object", kind_of(value)));
        };
        let mut config = Self::new(class(map, sampler)?);
        for (key, value) in map {
            config.set(key, value)?;
        }
        if let Some(trained) = &config.trained_betas {
            // Diffusers takes T from the list where both are given; two different numbers are a mistake here.
            ensure!(
                trained.len() == config.num_train_timesteps,
                Config,
                "trained_betas has {} values, num_train_timesteps is {}",
                trained.len(),
                config.num_train_timesteps
            );
        }
        Ok(config)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<()> {
        if self.class.is_2015() {
            return self.set_2015(key, value);
        }
        match key {
            "_class_name" => {}
            "num_train_timesteps" => {
                self.num_train_timesteps = integer(key, value, 1, MAX_TRAIN_TIMESTEPS as u64)? as usize;
            }
            "beta_start" => self.beta_start = number(key, value)?,
            "beta_end" => self.beta_end = number(key, value)?,
            "beta_schedule" => self.beta_schedule = choice(key, value, &BetaSchedule::NAMES)?,
            "trained_betas" => self.trained_betas = numbers(key, value)?,
            "variance_type" => self.variance_type = choice(key, value, &VarianceType::NAMES)?,
            "clip_sample" => self.clip_sample = boolean(key, value)?,
            "clip_sample_range" => self.clip_sample_range = number(key, value)?,
            "prediction_type" => self.prediction_type = choice(key, value, &PredictionType::NAMES)?,
            "thresholding" => self.thresholding = boolean(key, value)?,
            "dynamic_thresholding_ratio" => self.dynamic_thresholding_ratio = number(key, value)?,
            "sample_max_value" => self.sample_max_value = number(key, value)?,
            "timestep_spacing" => self.timestep_spacing = choice(key, value, &TimestepSpacing::NAMES)?,
            "steps_offset" => self.steps_offset = integer(key, value, 0, u64::from(u32::MAX))? as u32,
            "rescale_betas_zero_snr" => self.rescale_betas_zero_snr = boolean(key, value)?,
            "set_alpha_to_one" => self.set_alpha_to_one = boolean(key, value)?,
            "use_flow_sigmas" if *value == Value::Bool(true) => {
                return Err(err!(
                    Unsupported,
                    "the scheduler configuration is of a flow-matching model (use_flow_sigmas)"
                ));
            }
            _ if key.starts_with('_') || OTHER_KEYS.contains(&key) => {
                self.other.insert(key.into(), value.clone());
            }
            _ => {
                return Err(err!(Config, "the scheduler configuration has the unknown key \"{}\"", Shown(key)));
            }
        }
        Ok(())
    }

    /// Writes the configuration so that diffusers and [`SchedulerConfig::from_json`] read it: all keys, sorted.
    pub fn to_json(&self) -> String {
        if self.class.is_2015() {
            return self.to_json_2015();
        }
        let mut map = self.unknown();
        let mut set = |key: &str, value: Value| {
            map.insert(key.into(), value);
        };
        set("_class_name", self.class.class_name().into());
        set("num_train_timesteps", self.num_train_timesteps.into());
        set("beta_start", self.beta_start.into());
        set("beta_end", self.beta_end.into());
        set("beta_schedule", name_of(self.beta_schedule, &BetaSchedule::NAMES));
        set("trained_betas", self.trained_betas.clone().map_or(Value::Null, Value::from));
        set("variance_type", name_of(self.variance_type, &VarianceType::NAMES));
        set("clip_sample", self.clip_sample.into());
        set("clip_sample_range", self.clip_sample_range.into());
        set("prediction_type", name_of(self.prediction_type, &PredictionType::NAMES));
        set("thresholding", self.thresholding.into());
        set("dynamic_thresholding_ratio", self.dynamic_thresholding_ratio.into());
        set("sample_max_value", self.sample_max_value.into());
        set("timestep_spacing", name_of(self.timestep_spacing, &TimestepSpacing::NAMES));
        set("steps_offset", self.steps_offset.into());
        set("rescale_betas_zero_snr", self.rescale_betas_zero_snr.into());
        set("set_alpha_to_one", self.set_alpha_to_one.into());
        alloc::format!("{:#}", Value::Object(map))
    }

    /// The keys that this library does not use.
    fn unknown(&self) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, value) in &self.other {
            map.insert(key.clone(), value.clone());
        }
        map
    }

    /// The part that makes a noise schedule.
    pub fn betas(&self) -> Betas {
        Betas {
            num_train_timesteps: self.num_train_timesteps,
            start: self.beta_start,
            end: self.beta_end,
            schedule: self.beta_schedule,
            trained: self.trained_betas.clone(),
            rescale_zero_snr: self.rescale_betas_zero_snr,
        }
    }
}

fn class(map: &Map<String, Value>, wanted: Option<SamplerKind>) -> Result<SamplerKind> {
    let name = map
        .get("_class_name")
        .and_then(Value::as_str)
        .ok_or_else(|| err!(Config, "the scheduler configuration has no string \"_class_name\""))?;
    if let Some((_, kind)) = SamplerKind::NAMES.into_iter().find(|(_, kind)| kind.class_name() == name) {
        // A chain of 2015 and the samplers of diffusers do not read one another's configurations.
        return Ok(wanted.filter(|w| !w.is_2015() && !kind.is_2015()).unwrap_or(kind));
    }
    if BETA_CLASSES.contains(&name) {
        return wanted.ok_or_else(|| {
            err!(
                Unsupported,
                "the scheduler {name} is not implemented; its model runs with the sampler ddim or ddpm when asked for"
            )
        });
    }
    if KNOWN_CLASSES.contains(&name) {
        return Err(err!(
            Unsupported,
            "the scheduler {name} is not implemented, expected DDPMScheduler or DDIMScheduler"
        ));
    }
    let known: Vec<&str> = SamplerKind::NAMES.iter().map(|(_, k)| k.class_name()).collect();
    Err(err!(Config, "the scheduler class \"{}\" is unknown, expected one of {}", Shown(name), known.join(", ")))
}

/// Text from outside in a message: cut, and without control characters.
struct Shown<'a>(&'a str);

impl core::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(60) {
            core::fmt::Write::write_char(f, if c.is_control() { '?' } else { c })?;
        }
        if chars.next().is_some() { f.write_str("...") } else { Ok(()) }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn unexpected(key: &str, value: &Value, expected: &str) -> crate::Error {
    match value {
        Value::String(s) => err!(Config, "the scheduler's {key} is \"{}\", expected {expected}", Shown(s)),
        Value::Number(n) => err!(Config, "the scheduler's {key} is {n}, expected {expected}"),
        other => err!(Config, "the scheduler's {key} is {}, expected {expected}", kind_of(other)),
    }
}

fn number(key: &str, value: &Value) -> Result<f64> {
    value.as_f64().filter(|v| v.is_finite()).ok_or_else(|| unexpected(key, value, "a number"))
}

fn integer(key: &str, value: &Value, low: u64, high: u64) -> Result<u64> {
    value
        .as_u64()
        .filter(|v| (low..=high).contains(v))
        .ok_or_else(|| unexpected(key, value, &alloc::format!("a whole number from {low} to {high}")))
}

fn boolean(key: &str, value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| unexpected(key, value, "true or false"))
}

fn numbers(key: &str, value: &Value) -> Result<Option<Vec<f64>>> {
    match value {
        Value::Null => Ok(None),
        Value::Array(list) if list.len() <= MAX_TRAIN_TIMESTEPS => {
            list.iter().map(|v| number(key, v)).collect::<Result<_>>().map(Some)
        }
        _ => Err(unexpected(key, value, "null or a list of numbers")),
    }
}

fn choice<T: Copy>(key: &str, value: &Value, names: &[(&str, T)]) -> Result<T> {
    value.as_str().and_then(|s| names.iter().find(|(n, _)| *n == s)).map(|(_, v)| *v).ok_or_else(|| {
        let list: Vec<&str> = names.iter().map(|(n, _)| *n).collect();
        unexpected(key, value, &alloc::format!("one of {}", list.join(", ")))
    })
}

fn name_of<T: PartialEq>(value: T, names: &[(&str, T)]) -> Value {
    names.iter().find(|(_, v)| *v == value).map_or(Value::Null, |(n, _)| Value::from(*n))
}

#[cfg(test)]
mod tests;
