//! diffusers' `scheduler_config.json`, read and written.
//!
//! A configuration has four parts: the process (betas), the prediction (what the network gives, how x_0 is clipped),
//! the grid (which levels a run visits) and the solver. `keys` is the one table of keys, `classes` says which of them a
//! class has and with which defaults; reading, writing and refusing follow from the two.

use alloc::string::String;
use alloc::vec::Vec;

use super::ddpm::VarianceType;
use super::kind::SamplerKind;
use super::{ModelPreconditioning, PredictionType, SampleClip};
use crate::error::{Error, ErrorKind, Result, ensure, err};
use crate::json::{Object, Value, parse_object};
use crate::schedule::{BetaSchedule, Betas, TimestepSpacing};

mod chain2015;
mod classes;
mod d3pm;
mod keys;
mod parts;

pub use chain2015::Chain2015;
use classes::{CLASSES, Class};
pub use d3pm::D3pmConfig;
use keys::{UNUSED, choice, integer, name_of, number, numbers, shown};
pub use parts::{
    AlgorithmType, FinalSigmas, GridConfig, Interpolation, SigmaSchedule, SolverConfig, SolverType, TimeShift,
    TimestepType,
};

/// Schedulers of diffusers 0.42.1 that are not implemented here.
const NOT_IMPLEMENTED: [&str; 22] = [
    "AmusedScheduler",
    "BlockRefinementScheduler",
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "ConsistencyDecoderScheduler",
    "DDPMWuerstchenScheduler",
    "DiscreteDDIMScheduler",
    "EntropyBoundScheduler",
    "FlowMapEulerDiscreteScheduler",
    "HeliosDMDScheduler",
    "HeliosScheduler",
    "LTXEulerAncestralRFScheduler",
    "MiniMaxH3Scheduler",
    "PiflowScheduler",
    "RFD4ProteinaScheduler",
    "RePaintScheduler",
    "SCMScheduler",
    "UnCLIPScheduler",
    "VQDiffusionScheduler",
    "FlaxDDPMScheduler",
    "FlaxDDIMScheduler",
    "FlaxPNDMScheduler",
];

/// How a network is to be called: a key of this library's, see [`ModelPreconditioning`].
pub(crate) const PRECONDITIONING: &str = "preconditioning";

/// Keys that say what a model was trained with. Whatever sampler runs it, they are the model's.
const OF_THE_MODEL: [&str; 6] =
    ["num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type"];

/// What diffusers' schedulers are configured by, with its defaults and names; or the configuration of a chain of 2015,
/// see [`Chain2015`], or of classes, see [`D3pmConfig`].
///
/// The key `preconditioning`, which diffusers has not, is [`SchedulerConfig::preconditioning`].
///
/// A key that a class does not have is kept in `other` and has no effect, as in diffusers; run with another sampler,
/// which has it, it counts.
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
    /// Which levels a run visits, beside `timestep_spacing` and `steps_offset`.
    pub grid: GridConfig,
    /// What solvers of high order and distilled samplers have.
    pub solver: SolverConfig,
    /// How the network is to be called, where it is behind a preconditioning; `prediction_type` then has no effect and
    /// must be `epsilon`.
    pub preconditioning: Option<ModelPreconditioning>,
    /// What the chains of 2015 have beside T and betas; not used by the others.
    pub chain_2015: Chain2015,
    /// What a chain of classes has beside T and betas; not used by the others.
    pub d3pm: D3pmConfig,
    /// Keys that start with `_` (but `_class_name`) and keys of other schedulers: kept, not used.
    pub other: Object,
    /// What the file said.
    #[doc(hidden)]
    pub given: Given,
}

/// The keys of the file that a configuration was read from, so that another sampler can take its own, and what the
/// sampler before did to x_0, where [`SchedulerConfig::for_sampler`] changed it. Two of them always compare equal.
#[derive(Clone, Debug, Default)]
#[doc(hidden)]
pub struct Given(Object, Option<SampleClip>);

impl PartialEq for Given {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl SchedulerConfig {
    /// Diffusers' defaults for a class; for a chain of 2015 those of [`Chain2015`].
    pub fn new(class: SamplerKind) -> Self {
        let mut config = Self {
            class,
            chain_2015: Chain2015::default(),
            d3pm: D3pmConfig::default(),
            num_train_timesteps: 1000,
            beta_start: 1e-4,
            beta_end: 0.02,
            beta_schedule: match class {
                SamplerKind::Ancestral2015 => BetaSchedule::Authors2015,
                SamplerKind::Bits2015 | SamplerKind::D3pm => BetaSchedule::ErasingEvenly,
                _ => BetaSchedule::Linear,
            },
            trained_betas: None,
            variance_type: VarianceType::FixedSmall,
            clip_sample: class.is_2015(),
            clip_sample_range: 1.0,
            prediction_type: PredictionType::Epsilon,
            thresholding: false,
            dynamic_thresholding_ratio: 0.995,
            sample_max_value: 1.0,
            timestep_spacing: TimestepSpacing::Leading,
            steps_offset: 0,
            rescale_betas_zero_snr: false,
            set_alpha_to_one: true,
            grid: GridConfig::default(),
            solver: SolverConfig::default(),
            preconditioning: None,
            other: Object::new(),
            given: Given::default(),
        };
        for (name, preset) in class_of(class).into_iter().flat_map(Class::keys) {
            if let Some(key) = keys::find(name) {
                // The table holds what its keys accept, which a test sees to.
                let _ = (key.set)(&mut config, &preset.value());
            }
        }
        config
    }

    /// Reads the text of a `scheduler_config.json`.
    ///
    /// Errors: kind `Config` if it is too long, no JSON object, or holds an unknown class, key or value, which is
    /// named; kind `Unsupported` for a class of diffusers that is not implemented.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_json_for(text, None)
    }

    /// As [`SchedulerConfig::from_json`], but to be run with `sampler` whatever class wrote it, as diffusers'
    /// `from_config` does with a scheduler made in Python: values that are not the defaults of the class that wrote the
    /// file carry over, all else takes `sampler`'s defaults. (Of a scheduler read from a file diffusers carries every
    /// value over: there a DDIM of an Euler's file visits Euler's `linspace` timesteps.) T, betas and the type of the
    /// prediction are the model's and always carry over, which diffusers forgets where they are the defaults of the
    /// class that wrote them.
    ///
    /// Errors: as [`SchedulerConfig::from_json`]; a class that is not implemented is no error where it has betas and
    /// `sampler` takes them. Kind `Unsupported` for a model of another process than `sampler` is for: a flow, EDM's,
    /// discrete betas.
    pub fn from_json_for(text: &str, sampler: Option<SamplerKind>) -> Result<Self> {
        let map = parse_object(text).map_err(|e| e.context("the scheduler configuration"))?;
        Self::from_object(map, sampler)
    }

    /// As [`SchedulerConfig::from_json_for`], from a parsed object.
    pub fn from_object(map: Object, sampler: Option<SamplerKind>) -> Result<Self> {
        let written = class(&map)?;
        let kind = match (written, sampler) {
            // The library's own classes and the samplers of diffusers do not read one another's configurations.
            (Some(own), Some(wanted)) if own.has_own_class() || wanted.has_own_class() => own,
            (_, Some(wanted)) => wanted,
            (Some(own), None) => own,
            (None, None) => {
                let name = shown(name_in(&map)?);
                // Advice that holds for this file.
                let other = match Self::from_object(map.clone(), Some(SamplerKind::Ddim)) {
                    Ok(_) => "its betas are, so another sampler runs the model when asked for, as ddim",
                    Err(_) => "nor does its file say what another sampler could run the model by",
                };
                return Err(err!(Unsupported, "the scheduler {name} is not implemented; {other}"));
            }
        };
        let mut config = Self::new(kind);
        same_process(&map, written, kind)?;
        let preconditioning = map.get(PRECONDITIONING).filter(|v| !v.is_null());
        config.preconditioning = preconditioning.map(ModelPreconditioning::from_value).transpose()?;
        if kind.is_2015() {
            for (key, value) in &map {
                config.set_2015(key, value)?;
            }
        } else if kind == SamplerKind::D3pm {
            for (key, value) in &map {
                config.set_d3pm(key, value)?;
            }
            config.check_d3pm()?;
        } else {
            if let Some(own) = written.filter(|own| *own != kind) {
                config.take_model(&Self::new(own));
            }
            for (key, value) in &map {
                if key != PRECONDITIONING && !is_left_out(written, kind, key, value) {
                    config.set(kind, key, value)?;
                }
            }
            config.predict_epsilon(&map)?;
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
        config.given = Given(map, None);
        Ok(config)
    }

    /// The same model with another sampler: see [`SchedulerConfig::from_json_for`]. What was changed since the file was
    /// read stays changed.
    ///
    /// Errors: kind `Config` for a value of the file that the sampler does not know, kind `InvalidArgument` for one
    /// that was set since; kind `Unsupported` for a chain of 2015 and a sampler of diffusers.
    pub fn for_sampler(&self, kind: SamplerKind) -> Result<Self> {
        ensure!(
            self.class.is_2015() && kind.is_2015()
                || !self.class.has_own_class() && !kind.has_own_class()
                || self.class == kind,
            Unsupported,
            "the scheduler configuration is of {}, which {} does not run",
            self.class.class_name(),
            kind.class_name()
        );
        if self.class == kind {
            return Ok(self.clone());
        }
        let mut given = self.given.0.clone();
        if let Some(p) = self.preconditioning {
            given.insert(PRECONDITIONING.into(), p.to_value());
        }
        same_process(&given, Some(self.saved_with()), kind)?;
        let (read, mut config) = match self.given.0.is_empty() {
            true => (Self::new(self.class), Self::new(kind)),
            false => (Self::from_object(given.clone(), Some(self.class))?, Self::from_object(given, Some(kind))?),
        };
        config.preconditioning = self.preconditioning;
        if self.given.0.is_empty() {
            config.take_model(self);
        }
        for key in keys::KEYS {
            let value = (key.get)(self);
            if value != (key.get)(&read) {
                // What the caller set is an argument, and no file's fault.
                let of_caller = |e: Error| Error::new(ErrorKind::InvalidArgument, e.message());
                (key.set)(&mut config, &value).map_err(of_caller)?;
            }
        }
        (config.chain_2015, config.d3pm) = (self.chain_2015, self.d3pm);
        config.given.1 = Some(self.model_clip());
        Ok(config)
    }

    fn take_model(&mut self, other: &Self) {
        let has_betas = |kind| class_of(kind).is_some_and(|c| c.has("beta_start"));
        for name in OF_THE_MODEL {
            let both = name == "prediction_type" || (has_betas(self.class) && has_betas(other.class));
            if let Some(key) = keys::find(name).filter(|_| both) {
                // A value that was read can be set.
                let _ = (key.set)(self, &(key.get)(other));
            }
        }
    }

    fn set(&mut self, kind: SamplerKind, name: &str, value: &Value) -> Result<()> {
        // The inversion's name for it up to 0.21; 0.42.1 reads it as the same.
        let name =
            if name == "set_alpha_to_zero" && kind == SamplerKind::DdimInverse { "set_alpha_to_one" } else { name };
        let class = class_of(kind);
        let own = class.is_some_and(|c| c.has(name));
        match keys::find(name) {
            Some(key) if own => (key.set)(self, &renamed(kind, name, value)),
            // Of another class. What a class does not have it does not judge.
            Some(_) => {
                self.other.insert(name.into(), value.clone());
                Ok(())
            }
            None if name == "_class_name" => Ok(()),
            None if name.starts_with('_') || UNUSED.contains(&name) || name == "predict_epsilon" => {
                self.other.insert(name.into(), value.clone());
                Ok(())
            }
            // Parts that are code in Python: none of them can be read from a file.
            None if matches!(name, "solver_p" | "tau_func") => {
                ensure!(
                    value.is_null(),
                    Unsupported,
                    "the scheduler's {name} is {}, expected null: a part of its own in Python",
                    value.kind()
                );
                self.other.insert(name.into(), value.clone());
                Ok(())
            }
            None => Err(err!(Config, "the scheduler configuration has the unknown key \"{}\"", shown(name))),
        }
    }

    /// diffusers 0.2 to 0.9 said `predict_epsilon: false` for what is now `prediction_type: sample` (0.42.1 does not
    /// read it).
    fn predict_epsilon(&mut self, map: &Object) -> Result<()> {
        let Some(value) = map.get("predict_epsilon").filter(|v| !v.is_null()) else { return Ok(()) };
        let epsilon = value.as_bool().ok_or_else(|| {
            err!(Config, "the scheduler's predict_epsilon is {}, expected true or false", value.kind())
        })?;
        let says = if epsilon { PredictionType::Epsilon } else { PredictionType::Sample };
        ensure!(
            !map.contains_key("prediction_type") || self.prediction_type == says,
            Config,
            "the scheduler has predict_epsilon {epsilon} and another prediction_type, expected that they agree"
        );
        self.prediction_type = says;
        Ok(())
    }

    /// Writes the configuration so that diffusers and [`SchedulerConfig::from_json`] read it: all keys of its class,
    /// sorted, and those that were kept.
    pub fn to_json(&self) -> String {
        if self.class.is_2015() {
            return self.to_json_2015();
        }
        if self.class == SamplerKind::D3pm {
            return self.to_json_d3pm();
        }
        let mut map = self.unknown();
        map.insert("_class_name".into(), self.class.class_name().into());
        for (name, _) in class_of(self.class).into_iter().flat_map(Class::keys) {
            if let Some(key) = keys::find(name) {
                map.insert(name.into(), (key.get)(self));
            }
        }
        if let Some(p) = self.preconditioning {
            map.insert(PRECONDITIONING.into(), p.to_value());
        }
        alloc::format!("{:#}", Value::Object(map))
    }

    /// The keys that this sampler does not use.
    fn unknown(&self) -> Object {
        self.other.clone()
    }

    /// The sampler that the model was saved with: that of the file where there is one, whatever sampler this
    /// configuration is for.
    pub fn saved_with(&self) -> SamplerKind {
        class(&self.given.0).ok().flatten().unwrap_or(self.class)
    }

    /// Whether it is a solver over the sigmas of a discrete schedule whose levels are spread as its class has it, not
    /// as its file says.
    pub(super) fn levels_are_the_class_s(&self) -> bool {
        let over_sigmas = self.has("use_karras_sigmas") || self.class == SamplerKind::EulerAncestral;
        over_sigmas
            && self.has("beta_start")
            && !self.grid.use_flow_sigmas
            && self.grid.interpolation_type == Interpolation::Linear
            && self.grid.spacing().is_ok_and(|s| s == Default::default())
            && self.timestep_spacing == Self::new(self.class).timestep_spacing
    }

    /// What is done to x_0 by the sampler that the model was saved with, whatever sampler this configuration is for.
    pub(super) fn model_clip(&self) -> SampleClip {
        let Given(given, before) = &self.given;
        if let Some(clip) = before {
            return *clip;
        }
        match class(given) {
            Ok(Some(own)) if own != self.class => {
                // What was read once can be read again.
                Self::from_object(given.clone(), Some(own)).map_or(SampleClip::None, |c| c.clip())
            }
            // A class that is not implemented: its keys have the usual meaning.
            Ok(None) => match (given.get("clip_sample"), given.get("clip_sample_range").and_then(Value::as_f64)) {
                (Some(Value::Bool(true)), range) => SampleClip::Range(range.unwrap_or(1.0) as f32),
                _ => SampleClip::None,
            },
            _ => self.clip(),
        }
    }

    /// The seed of a Brownian motion's tree, `noise_sampler_seed`, where the file has one: see
    /// [`BrownianTree`](crate::noise::BrownianTree).
    ///
    /// Errors: kind `Config` for what is no whole number below 2^63.
    pub fn noise_sampler_seed(&self) -> Result<Option<u64>> {
        match self.other.get("noise_sampler_seed") {
            None | Some(Value::Null) => Ok(None),
            Some(value) => integer("noise_sampler_seed", value, 0, (1 << 63) - 1).map(Some),
        }
    }

    /// Whether the class has a key, so that its value counts.
    pub(super) fn has(&self, key: &str) -> bool {
        class_of(self.class).is_some_and(|c| c.has(key))
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

/// The row of a sampler.
fn class_of(kind: SamplerKind) -> Option<&'static Class> {
    CLASSES.iter().find(|c| c.sampler == kind)
}

impl SamplerKind {
    /// The class name of configurations, diffusers' where it has one.
    pub fn class_name(self) -> &'static str {
        match (self, class_of(self)) {
            (Self::Bits2015, _) => "Bits2015Scheduler",
            (Self::D3pm, _) => "D3PMScheduler",
            (_, Some(class)) => class.names.first().copied().unwrap_or_default(),
            (_, None) => "Ancestral2015Scheduler",
        }
    }
}

/// Whether a value is null or the default of the class that wrote it, and so none that was chosen for another.
fn is_left_out(written: Option<SamplerKind>, kind: SamplerKind, name: &str, value: &Value) -> bool {
    if written == Some(kind) {
        return false;
    }
    let own = written.and_then(class_of);
    let preset = own.and_then(|c| c.keys().filter(|(k, _)| *k == name).last());
    value.is_null() || !OF_THE_MODEL.contains(&name) && preset.is_some_and(|(_, preset)| preset.value() == *value)
}

/// That a sampler is for the process that a model was trained with.
fn same_process(map: &Object, written: Option<SamplerKind>, kind: SamplerKind) -> Result<()> {
    if map.get(PRECONDITIONING).is_some_and(|v| !v.is_null()) {
        // The network takes any level that it knows, whoever made it.
        ensure!(
            !kind.is_2015(),
            Unsupported,
            "a network behind a preconditioning, which a chain of 2015 does not call"
        );
        return Ok(());
    }
    let has = |kind, key| class_of(kind).is_some_and(|c| c.has(key));
    // Discrete betas, EDM's sigmas (with the network's preconditioning), or neither.
    let process = |kind| (has(kind, "beta_start"), has(kind, "sigma_schedule"), has(kind, "shift"));
    let flow = map.get("use_flow_sigmas").is_some_and(|v| *v == Value::Bool(true));
    // Those that run a model of this class, and of its kind of sigmas.
    let able = |own: SamplerKind| {
        let alike =
            |k: &SamplerKind| *k == own || (process(*k) == process(own) && process(own) != (false, false, false));
        let runs = |k: &SamplerKind| alike(k) && (!flow || has(*k, "use_flow_sigmas"));
        let names: Vec<&str> = SamplerKind::NAMES.iter().filter(|(_, k)| runs(k)).map(|(name, _)| *name).collect();
        names.join(" or ")
    };
    let same = match written {
        Some(own) if kind == SamplerKind::Rk45 => {
            own == kind || super::probability_flow::runs(own, has(own, "beta_start"))
        }
        Some(own) => own == kind || (process(own) == process(kind) && (process(own) != (false, false, false))),
        None => has(kind, "beta_start") && (map.contains_key("beta_start") || map.contains_key("trained_betas")),
    };
    if !same && !kind.has_own_class() {
        let Some(own) = written else {
            return Err(err!(
                Unsupported,
                "the scheduler {} is not implemented, and its file has no betas by which {} could run the model",
                shown(name_in(map)?),
                kind.class_name()
            ));
        };
        return Err(err!(
            Unsupported,
            "the scheduler {} is for another process than {}, expected {}",
            own.class_name(),
            kind.class_name(),
            able(own)
        ));
    }
    ensure!(
        !flow || has(kind, "use_flow_sigmas"),
        Unsupported,
        "the scheduler configuration is of a flow-matching model (use_flow_sigmas), which {} does not run, expected {}",
        kind.class_name(),
        able(written.unwrap_or(kind))
    );
    Ok(())
}

/// Names that a class takes for one of its own, as diffusers does when a configuration of another class is handed to
/// it.
fn renamed(kind: SamplerKind, key: &str, value: &Value) -> Value {
    use SamplerKind::{CosineDpmSolver, Deis, DpmSolverMultistep, DpmSolverSinglestep, EdmDpmSolver, SaSolver, UniPc};
    let to = match (kind, key, value.as_str().unwrap_or_default()) {
        (DpmSolverMultistep | DpmSolverSinglestep | EdmDpmSolver, "algorithm_type", "deis") => "dpmsolver++",
        (
            DpmSolverMultistep | DpmSolverSinglestep | EdmDpmSolver | CosineDpmSolver,
            "solver_type",
            "logrho" | "bh1" | "bh2",
        ) => "midpoint",
        (UniPc, "solver_type", "midpoint" | "heun" | "logrho") => "bh2",
        (Deis, "algorithm_type", "dpmsolver" | "dpmsolver++") => "deis",
        (Deis, "solver_type", "midpoint" | "heun" | "bh1" | "bh2") => "logrho",
        (SaSolver, "algorithm_type", "dpmsolver" | "dpmsolver++" | "deis") => "data_prediction",
        _ => return value.clone(),
    };
    to.into()
}

fn name_in(map: &Object) -> Result<&str> {
    map.get("_class_name")
        .and_then(Value::as_str)
        .ok_or_else(|| err!(Config, "the scheduler configuration has no string \"_class_name\""))
}

/// The sampler of the class that wrote a configuration; `None` for a class that is not implemented.
fn class(map: &Object) -> Result<Option<SamplerKind>> {
    let name = name_in(map)?;
    let found = SamplerKind::NAMES
        .into_iter()
        .map(|(_, kind)| kind)
        .find(|kind| kind.class_name() == name || class_of(*kind).is_some_and(|c| c.names.contains(&name)));
    if found.is_some() || NOT_IMPLEMENTED.contains(&name) {
        return Ok(found);
    }
    let known: Vec<&str> = SamplerKind::NAMES.iter().map(|(_, k)| k.class_name()).collect();
    Err(err!(Config, "the scheduler class \"{}\" is unknown, expected one of {}", shown(name), known.join(", ")))
}

#[cfg(test)]
mod tests;
