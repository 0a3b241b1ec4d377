//! The configuration of the chains of Sohl-Dickstein et al. 2015, which diffusers has not.

use alloc::boxed::Box;
use alloc::string::String;

use super::{SchedulerConfig, choice, integer, name_of, number, numbers, shown};
use crate::error::{Result, ensure, err};
use crate::json::Value;
use crate::process::Binomial;
use crate::sampler::{
    Ancestral2015, BitPrediction, Bits2015, Ending2015, PredictionType, Readout2015, Sampler, SamplerKind,
    SamplerOptions, Steps,
};
use crate::schedule::{
    Arithmetic, BetaSchedule, MAX_TRAIN_TIMESTEPS, NoiseSchedule, TimestepSpacing, spaced_timesteps,
};

/// What a scheduler configuration of class `Ancestral2015Scheduler` or `Bits2015Scheduler` says beside T and the betas.
///
/// Their keys: `num_train_timesteps`; `beta_schedule` (`authors_2015`, the default of the Gaussian chain,
/// `erasing_evenly`, that of the binary one, or one of diffusers' with `beta_start` and `beta_end`) or `trained_betas`;
/// `ending` (`mean`, the default, or `original`); `sample_scale` and `sample_shift`. The Gaussian chain also has
/// `readout` (`code`, the default, `paper`, or `prediction` with `prediction_type`); the binary one `pi` (0.5),
/// `bit_prediction` (`previous`, the default, or `clean`) and `bit_output` (`logits`, the default, or `probability`).
///
/// ```
/// use undiffuse::sampler::{SamplerOptions, SchedulerConfig};
///
/// let text = r#"{"_class_name": "Bits2015Scheduler", "num_train_timesteps": 2000, "pi": 0.2}"#;
/// let sampler = SchedulerConfig::from_json(text)?.sampler(&SamplerOptions::default())?;
/// assert_eq!((sampler.name(), sampler.levels().len()), ("bits2015", 2000));
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chain2015 {
    /// What the network's output means, in the Gaussian chain.
    pub readout: Readout2015,
    /// How the chain ends.
    pub ending: Ending2015,
    /// The chance of a 1 in white noise, in the binary chain.
    pub pi: f64,
    /// Of what the network gives the probability, in the binary chain.
    pub bit_prediction: BitPrediction,
    /// Whether it gives log p / (1 - p) in place of p.
    pub logits: bool,
    /// The model's x is `sample_scale * data + sample_shift`. The chain itself works on x; who shows or writes samples
    /// as data turns them back.
    pub sample_scale: f64,
    /// See `sample_scale`.
    pub sample_shift: f64,
}

impl Default for Chain2015 {
    fn default() -> Self {
        Self {
            readout: Readout2015::Code,
            ending: Ending2015::Mean,
            pi: 0.5,
            bit_prediction: BitPrediction::Previous,
            logits: true,
            sample_scale: 1.0,
            sample_shift: 0.0,
        }
    }
}

const CODE: &str = "code";
const PAPER: &str = "paper";
const PREDICTION: &str = "prediction";
const ENDINGS: [(&str, Ending2015); 2] = [("mean", Ending2015::Mean), ("original", Ending2015::Original)];
const BITS: [(&str, BitPrediction); 2] = [("previous", BitPrediction::Previous), ("clean", BitPrediction::Clean)];
const OUTPUTS: [(&str, bool); 2] = [("logits", true), ("probability", false)];

fn schedules() -> [(&'static str, BetaSchedule); 8] {
    let ([a, b, c, d, e, f], [g, h]) = (BetaSchedule::NAMES, BetaSchedule::NAMES_2015);
    [a, b, c, d, e, f, g, h]
}

impl SchedulerConfig {
    pub(super) fn set_2015(&mut self, key: &str, value: &Value) -> Result<()> {
        let gaussian = self.class == SamplerKind::Ancestral2015;
        let chain = &mut self.chain_2015;
        match key {
            "_class_name" => {}
            "num_train_timesteps" => {
                self.num_train_timesteps = integer(key, value, 2, MAX_TRAIN_TIMESTEPS as u64)? as usize;
            }
            "beta_start" => self.beta_start = number(key, value)?,
            "beta_end" => self.beta_end = number(key, value)?,
            "beta_schedule" => self.beta_schedule = choice(key, value, &schedules())?,
            "trained_betas" => self.trained_betas = numbers(key, value)?,
            "ending" => chain.ending = choice(key, value, &ENDINGS)?,
            "sample_scale" => {
                let scale = number(key, value)?;
                let positive = (f64::MIN_POSITIVE..=f64::MAX).contains(&scale);
                ensure!(positive, Config, "the scheduler's sample_scale is {scale}, expected above 0");
                chain.sample_scale = scale;
            }
            "sample_shift" => chain.sample_shift = number(key, value)?,
            "readout" if gaussian => {
                let kind = Readout2015::Prediction(self.prediction_type);
                let names = [(CODE, Readout2015::Code), (PAPER, Readout2015::Paper), (PREDICTION, kind)];
                chain.readout = choice(key, value, &names)?;
            }
            "prediction_type" if gaussian => {
                self.prediction_type = choice(key, value, &PredictionType::NAMES)?;
                // The keys may stand in any order.
                if let Readout2015::Prediction(kind) = &mut chain.readout {
                    *kind = self.prediction_type;
                }
            }
            "pi" if !gaussian => {
                chain.pi = number(key, value)?;
                Binomial::new(chain.pi).map_err(|e| err!(Config, "the scheduler's pi: {e}"))?;
            }
            "bit_prediction" if !gaussian => chain.bit_prediction = choice(key, value, &BITS)?,
            "bit_output" if !gaussian => chain.logits = choice(key, value, &OUTPUTS)?,
            _ if key.starts_with('_') => {
                self.other.insert(key.into(), value.clone());
            }
            _ => {
                let class = self.class.class_name();
                return Err(err!(Config, "the configuration of {class} has the unknown key \"{}\"", shown(key)));
            }
        }
        Ok(())
    }

    pub(super) fn to_json_2015(&self) -> String {
        let chain = &self.chain_2015;
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
        set("ending", name_of(chain.ending, &ENDINGS));
        set("sample_scale", chain.sample_scale.into());
        set("sample_shift", chain.sample_shift.into());
        if self.class == SamplerKind::Ancestral2015 {
            let (readout, kind) = match chain.readout {
                Readout2015::Code => (CODE, self.prediction_type),
                Readout2015::Paper => (PAPER, self.prediction_type),
                Readout2015::Prediction(kind) => (PREDICTION, kind),
            };
            set("readout", readout.into());
            set("prediction_type", name_of(kind, &PredictionType::NAMES));
        } else {
            set("pi", chain.pi.into());
            set("bit_prediction", name_of(chain.bit_prediction, &BITS));
            set("bit_output", name_of(chain.logits, &OUTPUTS));
        }
        alloc::format!("{:#}", Value::Object(map))
    }

    /// The sampler of a run where the configuration or the caller names a chain of 2015, or of classes.
    pub(in crate::sampler) fn chain_sampler(
        &self,
        kind: SamplerKind,
        options: &SamplerOptions,
    ) -> Result<Box<dyn Sampler + Send + Sync>> {
        ensure!(
            kind == self.class,
            Unsupported,
            "the scheduler configuration is of {}, which the sampler {} cannot run",
            self.class.class_name(),
            kind.class_name()
        );
        if kind == SamplerKind::D3pm {
            return self.d3pm_sampler(options);
        }
        // There is no f32 program that it has to follow.
        let schedule = NoiseSchedule::new(&self.betas(), Arithmetic::Float64)?;
        let c = &self.chain_2015;
        let train = self.num_train_timesteps;
        if kind == SamplerKind::Ancestral2015 && options.steps != Steps::All {
            let timesteps = match &options.steps {
                Steps::Count(n) => spaced_timesteps(TimestepSpacing::Trailing, train, *n, 0)?,
                Steps::Timesteps(list) => list.clone(),
                _ => return Err(err!(Unsupported, "a chain of 2015 takes no list of sigmas, expected timesteps")),
            };
            let mean = c.ending == Ending2015::Mean;
            ensure!(
                mean,
                Unsupported,
                "a chain of 2015 with the ending original makes all {train} steps of its training"
            );
            return Ok(Box::new(Ancestral2015::over(&schedule, c.readout, &timesteps, options.eta)?));
        }
        ensure!(options.steps == Steps::All, Unsupported, "a chain of bits makes all {train} steps of its training");
        ensure!(
            options.eta == 0.0,
            Unsupported,
            "eta is {}, which the {train} steps of a chain of 2015 do not have; where fewer are asked for, those of real numbers do",
            options.eta
        );
        Ok(if kind == SamplerKind::Ancestral2015 {
            Box::new(Ancestral2015::new(&schedule, c.readout, c.ending)?)
        } else {
            let process = Binomial::new(c.pi)?;
            Box::new(Bits2015::new(&schedule, process, c.bit_prediction, c.logits, c.ending)?)
        })
    }
}
