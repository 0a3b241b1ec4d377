//! The keys of `scheduler_config.json`: one table, from which reading, writing and refusing follow.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{
    AlgorithmType, FinalSigmas, Interpolation, SchedulerConfig, SigmaSchedule, SolverType, TimeShift, TimestepType,
};
use crate::error::{Error, Result, err};
use crate::json::{Value, cut};
use crate::sampler::{PredictionType, VarianceType};
use crate::schedule::{BetaSchedule, MAX_TRAIN_TIMESTEPS, TimestepSpacing};

/// A key: how its value is read into a configuration and written from one.
pub(super) struct Key {
    pub name: &'static str,
    pub set: fn(&mut SchedulerConfig, &Value) -> Result<()>,
    pub get: fn(&SchedulerConfig) -> Value,
}

/// A value that a key can have.
trait Setting: Sized {
    fn read(key: &str, value: &Value) -> Result<Self>;
    fn write(&self) -> Value;
}

macro_rules! keys {
    ($($name:ident: $($field:ident).+;)*) => {
        /// All keys that some solver uses, by the part of the configuration that they belong to.
        pub(super) const KEYS: &[Key] = &[$(Key {
            name: stringify!($name),
            set: |c, v| {
                c.$($field).+ = Setting::read(stringify!($name), v)?;
                Ok(())
            },
            get: |c| c.$($field).+.write(),
        },)*];
    };
}

keys! {
    // The process.
    num_train_timesteps: num_train_timesteps;
    beta_start: beta_start;
    beta_end: beta_end;
    beta_schedule: beta_schedule;
    trained_betas: trained_betas;
    rescale_betas_zero_snr: rescale_betas_zero_snr;
    // The prediction.
    prediction_type: prediction_type;
    clip_sample: clip_sample;
    clip_sample_range: clip_sample_range;
    clip_denoised: clip_sample;
    thresholding: thresholding;
    dynamic_thresholding_ratio: dynamic_thresholding_ratio;
    sample_max_value: sample_max_value;
    // The grid.
    timestep_spacing: timestep_spacing;
    steps_offset: steps_offset;
    use_karras_sigmas: grid.use_karras_sigmas;
    use_exponential_sigmas: grid.use_exponential_sigmas;
    use_beta_sigmas: grid.use_beta_sigmas;
    use_lu_lambdas: grid.use_lu_lambdas;
    use_flow_sigmas: grid.use_flow_sigmas;
    final_sigmas_type: grid.final_sigmas_type;
    sigma_min: grid.sigma_min;
    sigma_max: grid.sigma_max;
    sigma_data: grid.sigma_data;
    sigma_schedule: grid.sigma_schedule;
    rho: grid.rho;
    interpolation_type: grid.interpolation_type;
    timestep_type: grid.timestep_type;
    lambda_min_clipped: grid.lambda_min_clipped;
    flow_shift: grid.shift;
    shift: grid.shift;
    use_dynamic_shifting: grid.use_dynamic_shifting;
    time_shift_type: grid.time_shift_type;
    shift_terminal: grid.shift_terminal;
    invert_sigmas: grid.invert_sigmas;
    sampling_eps: grid.sampling_eps;
    beta_min: grid.beta_min;
    beta_max: grid.beta_max;
    // The solver.
    variance_type: variance_type;
    set_alpha_to_one: set_alpha_to_one;
    solver_order: solver.solver_order;
    algorithm_type: solver.algorithm_type;
    solver_type: solver.solver_type;
    lower_order_final: solver.lower_order_final;
    euler_at_final: solver.euler_at_final;
    predict_x0: solver.predict_x0;
    disable_corrector: solver.disable_corrector;
    predictor_order: solver.predictor_order;
    corrector_order: solver.corrector_order;
    skip_prk_steps: solver.skip_prk_steps;
    original_inference_steps: solver.original_inference_steps;
    timestep_scaling: solver.timestep_scaling;
    stochastic_sampling: solver.stochastic_sampling;
    s_noise: solver.s_noise;
    s_churn: solver.s_churn;
    s_min: solver.s_min;
    s_max: solver.s_max;
    snr: solver.snr;
    correct_steps: solver.correct_steps;
}

/// The row of a key.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}

/// Keys that no solver here uses: of old versions of diffusers, or of parts of a pipeline that are not the solver's.
/// They are kept and written back. `_` starts every key that diffusers itself does not hand to a scheduler.
pub(super) const UNUSED: [&str; 11] = [
    "base_image_seq_len",
    "base_shift",
    "eta",
    "max_image_seq_len",
    "max_shift",
    "noise_sampler_seed",
    "set_alpha_to_zero",
    "tensor_format",
    "timestep_values",
    "scale_factors",
    "upscale_mode",
];

fn unexpected(key: &str, value: &Value, expected: &str) -> Error {
    let got = match value {
        Value::String(_) | Value::Number(_) | Value::Integer(_) => value.brief(),
        other => String::from(other.kind()),
    };
    err!(Config, "the scheduler's {key} is {got}, expected {expected}")
}

pub(super) fn number(key: &str, value: &Value) -> Result<f64> {
    value.as_f64().ok_or_else(|| unexpected(key, value, "a number"))
}

pub(super) fn integer(key: &str, value: &Value, low: u64, high: u64) -> Result<u64> {
    value
        .as_u64()
        .filter(|v| (low..=high).contains(v))
        .ok_or_else(|| unexpected(key, value, &format!("a whole number from {low} to {high}")))
}

pub(super) fn numbers(key: &str, value: &Value) -> Result<Option<Vec<f64>>> {
    match value {
        Value::Null => Ok(None),
        Value::Array(list) if list.len() <= MAX_TRAIN_TIMESTEPS => {
            list.iter().map(|v| number(key, v)).collect::<Result<_>>().map(Some)
        }
        _ => Err(unexpected(key, value, "null or a list of numbers")),
    }
}

pub(super) fn choice<T: Copy>(key: &str, value: &Value, names: &[(&str, T)]) -> Result<T> {
    value.as_str().and_then(|s| names.iter().find(|(n, _)| *n == s)).map(|(_, v)| *v).ok_or_else(|| {
        let list: Vec<&str> = names.iter().map(|(n, _)| *n).collect();
        unexpected(key, value, &format!("one of {}", list.join(", ")))
    })
}

pub(super) fn name_of<T: PartialEq>(value: T, names: &[(&str, T)]) -> Value {
    names.iter().find(|(_, v)| *v == value).map_or(Value::Null, |(n, _)| Value::from(*n))
}

/// Text from outside in a message.
pub(super) fn shown(text: &str) -> String {
    cut(text)
}

impl Setting for bool {
    fn read(key: &str, value: &Value) -> Result<Self> {
        // Python's None switches off what has to be switched on.
        if value.is_null() && key.starts_with("use_") {
            return Ok(false);
        }
        value.as_bool().ok_or_else(|| unexpected(key, value, "true or false"))
    }
    fn write(&self) -> Value {
        (*self).into()
    }
}

impl Setting for f64 {
    fn read(key: &str, value: &Value) -> Result<Self> {
        match value {
            // The one number that may be infinite: nothing is cut off.
            Value::Number(v) if key == "lambda_min_clipped" && *v == Self::NEG_INFINITY => Ok(*v),
            _ => number(key, value),
        }
    }
    fn write(&self) -> Value {
        (*self).into()
    }
}

impl Setting for Option<f64> {
    fn read(key: &str, value: &Value) -> Result<Self> {
        if value.is_null() { Ok(None) } else { number(key, value).map(Some) }
    }
    fn write(&self) -> Value {
        (*self).into()
    }
}

impl Setting for usize {
    fn read(key: &str, value: &Value) -> Result<Self> {
        integer(key, value, 1, MAX_TRAIN_TIMESTEPS as u64).map(|v| v as Self)
    }
    fn write(&self) -> Value {
        (*self).into()
    }
}

impl Setting for u32 {
    fn read(key: &str, value: &Value) -> Result<Self> {
        integer(key, value, 0, u64::from(Self::MAX)).map(|v| v as Self)
    }
    fn write(&self) -> Value {
        (*self).into()
    }
}

impl Setting for Option<Vec<f64>> {
    fn read(key: &str, value: &Value) -> Result<Self> {
        numbers(key, value)
    }
    fn write(&self) -> Value {
        self.clone().into()
    }
}

impl Setting for Vec<u32> {
    fn read(key: &str, value: &Value) -> Result<Self> {
        let list = value.as_array().filter(|l| l.len() <= MAX_TRAIN_TIMESTEPS);
        let list = list.ok_or_else(|| unexpected(key, value, "a list of whole numbers"))?;
        list.iter().map(|v| u32::read(key, v)).collect()
    }
    fn write(&self) -> Value {
        self.clone().into()
    }
}

macro_rules! named {
    ($($t:ty),*) => {$(
        impl Setting for $t {
            fn read(key: &str, value: &Value) -> Result<Self> {
                choice(key, value, &Self::NAMES)
            }
            fn write(&self) -> Value {
                name_of(*self, &Self::NAMES)
            }
        }
    )*};
}

named!(
    BetaSchedule,
    PredictionType,
    VarianceType,
    TimestepSpacing,
    FinalSigmas,
    SigmaSchedule,
    Interpolation,
    TimestepType,
    TimeShift,
    AlgorithmType,
    SolverType
);
