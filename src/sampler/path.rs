//! What a solver of the probability flow is given: the levels that it visits, made before and apart from it.

use super::plan::Call;
use super::{Linear, Prediction, PredictionType};
use crate::error::{Result, ensure};
use crate::schedule::Level;

/// How a network sees an x that does not preserve variance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Preconditioning {
    /// As it is.
    #[default]
    None,
    /// x = x_0 + sigma eps divided by sqrt(sigma^2 + 1): what a network of a variance-preserving process was trained
    /// on.
    UnitVariance,
    /// x divided by sqrt(sigma^2 + d^2), and x_0 = c_skip x + c_out F with c_skip = d^2 / (sigma^2 + d^2) and
    /// c_out = sigma d / sqrt(sigma^2 + d^2), for data of standard deviation d (Karras et al. 2022, table 1). With
    /// [`PredictionType::VPrediction`] F has the other sign.
    Edm {
        /// d.
        sigma_data: f64,
    },
    /// As it is, of a flow whose network gives x_0 - eps and not eps - x_0 (`invert_sigmas`).
    Reversed,
    /// As it is, and the network gives the score, -eps / sigma, or with a factor of its own: eps is minus its output
    /// times this.
    Score {
        /// sigma for a score, 1 for a network that gives -eps.
        unit: ScoreUnit,
    },
}

impl Preconditioning {
    /// The call with its input's scale and the x_0 that follows from the output.
    pub(super) fn apply(self, call: Call, kind: PredictionType) -> Call {
        let (input_scale, linear) = self.reading(&call.level, kind);
        match self {
            Self::None => call,
            _ => Call { input_scale, linear, ..call },
        }
    }

    /// What x is multiplied by for the network, and how x_0 and eps follow where the type of the prediction and the
    /// level do not say it.
    pub(super) fn reading(self, level: &Level, kind: PredictionType) -> (f64, Option<Linear>) {
        let (a, s) = (level.alpha, level.sigma);
        match self {
            Self::None => (1.0, None),
            Self::Reversed => (1.0, Some(Linear { x0_x: 1.0, x0_output: s, eps_x: 1.0, eps_output: -a })),
            Self::Score { unit } => {
                let by = if unit == ScoreUnit::Score { s } else { 1.0 };
                (1.0, Some(Linear { x0_x: 1.0 / a, x0_output: s * by / a, eps_x: 0.0, eps_output: -by }))
            }
            Self::UnitVariance => {
                let input_scale = 1.0 / libm::sqrt(a * a + s * s);
                // x_0 and eps are the same whatever x is multiplied by; so is the map from (x, eps) to x_0, but not
                // that from v.
                let linear = (kind == PredictionType::VPrediction).then(|| Linear {
                    x0_x: a * input_scale * input_scale,
                    x0_output: -s * input_scale,
                    eps_x: s * input_scale * input_scale,
                    eps_output: a * input_scale,
                });
                (input_scale, linear)
            }
            Self::Edm { sigma_data: d } => {
                let root = libm::sqrt(s * s + d * d);
                let c_skip = d * d / (root * root);
                let c_out = s * d / root * if kind == PredictionType::VPrediction { -1.0 } else { 1.0 };
                let linear =
                    Linear { x0_x: c_skip, x0_output: c_out, eps_x: (1.0 - c_skip) / s, eps_output: -c_out / s };
                (1.0 / root, Some(linear))
            }
        }
    }
}

/// What a network of [`Preconditioning::Score`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreUnit {
    /// The gradient of the log density at its level, -eps / sigma.
    Score,
    /// -eps.
    MinusEps,
}

/// The way of a solver: N + 1 levels, falling in noise, and what the network gives at each of the first N.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    /// The levels; the last is where the result is.
    pub levels: &'a [Level],
    /// How x_0 and eps follow from the output.
    pub prediction: Prediction,
    /// How the network sees x.
    pub preconditioning: Preconditioning,
    /// x_T is standard normal noise times this.
    pub initial_scale: f64,
}

impl<'a> Path<'a> {
    /// Each step: its number, where it starts and where it leads.
    ///
    /// Errors: kind `InvalidArgument` for fewer than two levels or noise that does not fall.
    pub fn steps(&self) -> Result<impl Iterator<Item = (usize, Level, Level)> + use<'a>> {
        let levels = self.levels;
        ensure!(levels.len() > 1, InvalidArgument, "a path of {} levels, expected at least 2", levels.len());
        let noise = |l: &Level| l.sigma / l.alpha;
        // The last may stand twice, in schedulers that end at the smallest sigma of their schedule; to rounding.
        let falls = levels.windows(2).all(|w| matches!(w, [a, b] if noise(b) <= noise(a) * (1.0 + 1e-6)));
        ensure!(falls, InvalidArgument, "the levels of a path rise in noise, expected that they fall");
        Ok(self.pairs())
    }

    /// The same of a path that rises in noise.
    pub(super) fn rising_steps(&self) -> Result<impl Iterator<Item = (usize, Level, Level)> + use<'a>> {
        let noise = |l: &Level| l.sigma / l.alpha;
        let rises = self.levels.windows(2).all(|w| matches!(w, [a, b] if noise(b) >= noise(a) * (1.0 - 1e-6)));
        ensure!(
            rises && self.levels.len() > 1,
            InvalidArgument,
            "the {} levels of a path from data to noise, expected at least 2 that rise in noise",
            self.levels.len()
        );
        Ok(self.pairs())
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, Level, Level)> + use<'a> {
        let levels = self.levels;
        levels.windows(2).enumerate().filter_map(|(i, w)| match w {
            [a, b] => Some((i, *a, *b)),
            _ => None,
        })
    }

    /// N.
    pub fn len(&self) -> usize {
        self.levels.len().saturating_sub(1)
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The call with what the preconditioning says.
    pub(super) fn call(&self, call: Call) -> Call {
        self.preconditioning.apply(call, self.prediction.kind)
    }

    /// ln alpha - ln sigma of a level, half of its log-SNR; infinite without noise.
    pub(super) fn lambda(&self, i: usize) -> f64 {
        self.levels.get(i).map_or(f64::NAN, |l| libm::log(l.alpha) - libm::log(l.sigma))
    }
}
