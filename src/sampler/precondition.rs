//! What stands between a sampler and a network that was trained behind a preconditioning, as data of the model.

use alloc::string::String;
use alloc::vec::Vec;

use super::plan::{Call, Mix, Of};
use super::{CallNoise, DdimNoise, Linear, Plan, Prediction, PredictionType, SamplerKind, SchedulerConfig};
use crate::error::{Result, ensure, err};
use crate::json::{Object, Value, parse_object};
use crate::schedule::Level;

/// The rule of a [`ModelPreconditioning`]. With sigma the noise of x where x_0 has factor 1 (for a level x = alpha
/// x_0 + s eps it is s / alpha), a network F gives x_0 = c_skip x + c_out F(c_in x; c_noise).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum PreconditioningRule {
    /// EDM's own (Karras et al. 2022, table 1), for data of standard deviation d: c_skip = d^2 / (sigma^2 + d^2),
    /// c_out = sigma d / sqrt(sigma^2 + d^2), c_in = 1 / sqrt(sigma^2 + d^2), c_noise = ln(sigma) / 4.
    Edm {
        /// d, 0.5 there.
        sigma_data: f64,
    },
    /// Of the variance-exploding process there (NCSN++; `VEPrecond`): c_skip = 1, c_out = sigma, c_in = 1, c_noise =
    /// ln(sigma / 2).
    Ve,
    /// Of the variance-preserving process in continuous time there (DDPM++; `VPPrecond`): c_skip = 1, c_out = -sigma,
    /// c_in = 1 / sqrt(sigma^2 + 1), c_noise = (M - 1) t with sigma^2 = exp(beta_d t^2 / 2 + beta_min t) - 1.
    Vp {
        /// beta at time 1 less beta at time 0, 19.9.
        beta_d: f64,
        /// beta at time 0, 0.1.
        beta_min: f64,
        /// M, 1000.
        timesteps: f64,
    },
    /// Flow matching: the network sees (1 - t) x_0 + t z with t = sigma / (1 + sigma), is told T t, and gives z - x_0.
    Flow {
        /// T: 1000 for diffusers' networks, 1 for those that are told t itself.
        num_train_timesteps: f64,
    },
    /// Of a denoiser of a stated sigma (FFDNet, DRUNet): it sees x_0 + sigma z, is told sigma and gives x_0. c_skip =
    /// 0, c_out = 1, c_in = 1, c_noise = sigma. Samples, and so sigma, are in the units of its images: see
    /// [`scale_of`](crate::codec::scale_of).
    ///
    /// Such a network was trained up to a `sigma_max` at which there is much left of x_0, so nothing can be drawn from
    /// pure noise; but what begins at a noisy picture, as [`ModelPreconditioning::chain`] does, needs no level above.
    Denoiser {
        /// Black in the units of its images, 0.
        black: f64,
        /// White, 1.
        white: f64,
    },
}

/// How a network is to be called, whatever sampler calls it: data of the model, beside the scheduler's configuration,
/// so that one network serves every sampler whose levels it knows. In a directory it is the file `preconditioning.json`
/// beside the model's `config.json`, in a packed file the text `undiffuse.preconditioning`, in a scheduler's
/// configuration the key `preconditioning`.
///
/// As JSON: `type` is `edm` (with `sigma_data`), `ve`, `vp` (with `beta_d`, `beta_min` and `M`), `flow` (with
/// `num_train_timesteps`) or `denoiser` (with `black` and `white`), all with the defaults of [`PreconditioningRule`]'s
/// sources, and `sigma_min` and `sigma_max`, between which the network was trained (null, the default, is no bound).
///
/// ```
/// use undiffuse::sampler::{ModelPreconditioning, PreconditioningRule};
/// use undiffuse::schedule::Level;
///
/// let p = ModelPreconditioning::from_json(r#"{"type": "edm", "sigma_max": 80}"#)?;
/// assert_eq!(p.rule, PreconditioningRule::Edm { sigma_data: 0.5 });
/// // A level of DDPM: abar = 0.2, so sigma = 2.
/// let call = p.at(&Level::variance_preserving(600.0, 0.2))?;
/// assert!((call.label - 0.25 * 2f64.ln()).abs() < 1e-12);
/// assert!((call.input_scale - 1.0 / (0.8 + 0.2 * 0.25_f64).sqrt()).abs() < 1e-12);
/// assert!(p.at(&Level::exploding(0.0, 90.0)).is_err());
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelPreconditioning {
    /// What the network is behind.
    pub rule: PreconditioningRule,
    /// The smallest sigma that it was trained for, if there is a bound.
    pub sigma_min: Option<f64>,
    /// The largest.
    pub sigma_max: Option<f64>,
}

/// One call of a network behind a preconditioning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PreconditionedCall {
    /// What the network is told.
    pub label: f64,
    /// What x is multiplied by.
    pub input_scale: f64,
    /// How x_0 and eps follow from x, before it was multiplied, and the output.
    pub linear: Linear,
}

/// The names of the rules.
const TYPES: &str = "\"edm\", \"ve\", \"vp\", \"flow\" or \"denoiser\"";

impl ModelPreconditioning {
    /// Reads the text of a `preconditioning.json`. Errors (kind `Config`) name the key, what is accepted and what
    /// stands there.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_object(parse_object(text).map_err(|e| e.context("the preconditioning"))?)
    }

    /// As [`ModelPreconditioning::from_json`], of a value in a scheduler's configuration.
    pub(super) fn from_value(value: &Value) -> Result<Self> {
        match value {
            Value::Object(map) => Self::from_object(map.clone()),
            other => Err(err!(Config, "the preconditioning is {}, expected an object with its type", other.brief())),
        }
    }

    fn from_object(mut map: Object) -> Result<Self> {
        let kind = map.remove("type");
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or_default();
        // Not above 0, as all other numbers are.
        let mut end = |key: &str, default: f64| match (kind == "denoiser").then(|| map.remove(key)).flatten() {
            None => Ok(default),
            Some(v) => {
                let n = v.as_f64().filter(|n| n.is_finite());
                n.ok_or_else(|| err!(Config, "{key} is {} in the preconditioning, expected a number", v.brief()))
            }
        };
        let (black, white) = (end("black", 0.0)?, end("white", 1.0)?);
        ensure!(
            (..white).contains(&black),
            Config,
            "black is {black} and white {white} in the preconditioning, expected it below"
        );
        let mut take = |key: &str, default: Option<f64>| -> Result<Option<f64>> {
            match map.remove(key) {
                None => Ok(default),
                Some(Value::Null) if default.is_none() => Ok(None),
                Some(v) => {
                    let n = v.as_f64().filter(|n| *n > 0.0 && n.is_finite());
                    let wrong =
                        || err!(Config, "{key} is {} in the preconditioning, expected a number above 0", v.brief());
                    n.map(Some).ok_or_else(wrong)
                }
            }
        };
        let mut number = |key: &str, default: f64| -> Result<f64> { Ok(take(key, Some(default))?.unwrap_or(default)) };
        let rule = match kind {
            "edm" => PreconditioningRule::Edm { sigma_data: number("sigma_data", 0.5)? },
            "ve" => PreconditioningRule::Ve,
            "vp" => PreconditioningRule::Vp {
                beta_d: number("beta_d", 19.9)?,
                beta_min: number("beta_min", 0.1)?,
                timesteps: number("M", 1000.0)?,
            },
            "flow" => PreconditioningRule::Flow { num_train_timesteps: number("num_train_timesteps", 1000.0)? },
            "denoiser" => PreconditioningRule::Denoiser { black, white },
            other => {
                let shown: String = other.chars().take(40).collect();
                return Err(err!(Config, "the type of the preconditioning is {shown:?}, expected {TYPES}"));
            }
        };
        let (sigma_min, sigma_max) = (take("sigma_min", None)?, take("sigma_max", None)?);
        let ordered = sigma_min.unwrap_or(0.0) < sigma_max.unwrap_or(f64::INFINITY);
        ensure!(ordered, Config, "sigma_min is not below sigma_max in the preconditioning");
        if let Some((key, _)) = map.into_iter().find(|(k, v)| !k.starts_with('_') && !v.is_null()) {
            let shown: String = key.chars().take(40).collect();
            return Err(err!(Config, "the preconditioning {kind:?} has the unknown key {shown:?}"));
        }
        Ok(Self { rule, sigma_min, sigma_max })
    }

    /// The value that a configuration has.
    pub(super) fn to_value(self) -> Value {
        let mut map = Object::new();
        let mut put = |key: &str, v: Value| map.insert(key.into(), v);
        match self.rule {
            PreconditioningRule::Edm { sigma_data } => {
                put("type", "edm".into());
                put("sigma_data", sigma_data.into());
            }
            PreconditioningRule::Ve => {
                put("type", "ve".into());
            }
            PreconditioningRule::Vp { beta_d, beta_min, timesteps } => {
                put("type", "vp".into());
                put("beta_d", beta_d.into());
                put("beta_min", beta_min.into());
                put("M", timesteps.into());
            }
            PreconditioningRule::Flow { num_train_timesteps } => {
                put("type", "flow".into());
                put("num_train_timesteps", num_train_timesteps.into());
            }
            PreconditioningRule::Denoiser { black, white } => {
                put("type", "denoiser".into());
                put("black", black.into());
                put("white", white.into());
            }
        }
        for (key, bound) in [("sigma_min", self.sigma_min), ("sigma_max", self.sigma_max)] {
            if let Some(v) = bound {
                put(key, v.into());
            }
        }
        Value::Object(map)
    }

    /// Writes it so that [`ModelPreconditioning::from_json`] reads it.
    pub fn to_json(self) -> String {
        alloc::format!("{:#}", self.to_value())
    }

    /// The call of the network at a level. Errors: kind `Unsupported` for a level that it was not trained for, or that
    /// has no label.
    pub fn at(&self, level: &Level) -> Result<PreconditionedCall> {
        let (a, s) = (level.alpha, level.sigma);
        let sigma = s / a;
        // Levels are computed, so a bound itself may be missed by a rounding.
        let inside = sigma >= self.sigma_min.unwrap_or(0.0) * (1.0 - 1e-6)
            && sigma <= self.sigma_max.unwrap_or(f64::INFINITY) * (1.0 + 1e-6);
        ensure!(
            inside,
            Unsupported,
            "the network is called at sigma {sigma:.6}, and it was trained from {} to {}",
            self.sigma_min.unwrap_or(0.0),
            self.sigma_max.unwrap_or(f64::INFINITY)
        );
        let (label, input_scale, linear) = match self.rule {
            PreconditioningRule::Edm { sigma_data: d } => {
                let root = libm::sqrt(s * s + a * a * d * d);
                let linear = Linear {
                    x0_x: d * d * a / (root * root),
                    x0_output: s * d / root,
                    eps_x: s / (root * root),
                    eps_output: -a * d / root,
                };
                (0.25 * libm::log(sigma), 1.0 / root, linear)
            }
            PreconditioningRule::Ve => {
                let linear = Linear { x0_x: 1.0 / a, x0_output: s / a, eps_x: 0.0, eps_output: -1.0 };
                (libm::log(0.5 * sigma), 1.0 / a, linear)
            }
            PreconditioningRule::Vp { beta_d, beta_min, timesteps } => {
                let log = libm::log1p(sigma * sigma);
                // The root of a quadratic, without the cancellation of small sigmas.
                let t = 2.0 * log / (libm::sqrt(beta_min * beta_min + 2.0 * beta_d * log) + beta_min);
                let linear = Linear { x0_x: 1.0 / a, x0_output: -s / a, eps_x: 0.0, eps_output: 1.0 };
                ((timesteps - 1.0) * t, 1.0 / libm::sqrt(a * a + s * s), linear)
            }
            PreconditioningRule::Flow { num_train_timesteps } => {
                let sum = a + s;
                let linear = Linear { x0_x: 1.0 / sum, x0_output: -s / sum, eps_x: 1.0 / sum, eps_output: a / sum };
                (num_train_timesteps * s / sum, 1.0 / sum, linear)
            }
            PreconditioningRule::Denoiser { .. } => {
                (sigma, 1.0 / a, Linear { x0_x: 0.0, x0_output: 1.0, eps_x: 1.0 / s, eps_output: -a / s })
            }
        };
        ensure!(
            label.is_finite() && input_scale.is_finite(),
            Unsupported,
            "the network is called at sigma {sigma}, for which its preconditioning has no label"
        );
        Ok(PreconditionedCall { label, input_scale, linear })
    }

    /// DDIM down the levels x_0 + sigma z of the caller's `sigmas`, the last of which, 0 as a rule, is that of the
    /// result: x_s = x_0 + sqrt(sigma_s^2 - d^2) eps + d z. d is `eta` times sigma_s, or with [`DdimNoise::Posterior`]
    /// times the standard deviation of q(x_s | x_t, x_0), sigma_s sqrt(1 - sigma_s^2 / sigma_t^2).
    ///
    /// With eta 1 of the latter it is ancestral sampling: started *at* a noisy picture y = x_0 + sigmas\[0\] z (by
    /// [`Chain::start_from`](crate::chain::Chain::start_from)) it draws from p(x_0 | y), as exactly as steps are many
    /// and the network is right, and needs no level above the noise of y. The mean of that law is the network's own
    /// prediction at y. Of a normal prior of variance v, 32 sigmas that fall evenly in their logarithm to 0.02 of the
    /// first, s, then 0, give 0.79 to 0.87 of the variance for v / s^2 from 0.01 to 10, 100 sigmas 0.93 to 0.95.
    ///
    /// Errors: kind `InvalidArgument` for sigmas that do not fall to 0 or more, or an eta that is not 0 to 1; as
    /// [`ModelPreconditioning::at`].
    pub fn chain(&self, sigmas: &[f64], eta: f64, noise: DdimNoise) -> Result<Plan> {
        let falls = sigmas.windows(2).all(|w| matches!(w, [a, b] if a > b));
        ensure!(
            sigmas.len() > 1 && falls && sigmas.iter().all(|s| s.is_finite() && *s >= 0.0),
            InvalidArgument,
            "the list of {} sigmas does not fall from above 0 to 0 or more, expected that it does",
            sigmas.len()
        );
        ensure!((0.0..=1.0).contains(&eta), InvalidArgument, "eta is {eta}, expected 0 to 1");
        let mut calls = Vec::with_capacity(sigmas.len());
        for pair in sigmas.windows(2) {
            let &[t, s] = pair else { continue };
            let all = match noise {
                DdimNoise::Posterior => s * libm::sqrt((1.0 - s * s / (t * t)).max(0.0)),
                DdimNoise::Level => s,
            };
            let std = eta * all;
            let direction = libm::sqrt((s * s - std * std).max(0.0));
            let mean = Mix::of(&[(Of::X0, 1.0), (Of::Eps, direction)]);
            calls.push(Call::new(Level::exploding(t, t), Level::exploding(s, s), mean).with_std(std));
        }
        let first = sigmas.first().copied().unwrap_or(1.0);
        Plan::new("DDIM from a picture", Prediction::default(), 0, first, calls)?.preconditioned(self)
    }

    /// Why a sampler cannot call a network behind a preconditioning, if it cannot.
    pub(super) fn refuses(kind: SamplerKind, churns: bool) -> Option<&'static str> {
        use SamplerKind::{Cm, EdmEuler, Euler, FlowHeun, Lcm, ScoreSdeVe, Tcd};
        match kind {
            Lcm | Tcd | Cm => Some("is for distilled networks, which give their result in a form of their own"),
            ScoreSdeVe => {
                Some("measures its corrections by the score, which a network behind a preconditioning does not give")
            }
            Euler | EdmEuler | FlowHeun if churns => Some(
                "adds its churn after the network has seen x, which a preconditioning does not allow: take edm-heun",
            ),
            _ => None,
        }
    }
}

impl SchedulerConfig {
    /// A plan as it calls a network behind the configuration's preconditioning, if there is one.
    pub(super) fn preconditioned(&self, plan: Plan, churns: bool) -> Result<Plan> {
        let Some(p) = &self.preconditioning else { return Ok(plan) };
        if let Some(reason) = ModelPreconditioning::refuses(self.class, churns) {
            return Err(err!(
                Unsupported,
                "{} with a network behind a preconditioning: it {reason}",
                self.class.class_name()
            ));
        }
        ensure!(
            !self.has("prediction_type") || self.prediction_type == PredictionType::Epsilon,
            Config,
            "prediction_type is not epsilon, but the preconditioning says what the network gives, expected it left out"
        );
        let learned = |noise: &CallNoise| matches!(noise, CallNoise::Learned | CallNoise::LearnedRange { .. });
        ensure!(
            !plan.calls().iter().any(|c| learned(&c.noise)),
            Unsupported,
            "a learned variance of a network behind a preconditioning, expected a fixed one"
        );
        plan.preconditioned(p)
    }
}
