//! The probability flow of each process that models are trained for, as an equation in a time of its own.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::path::{Preconditioning, ScoreUnit};
use super::rk45::{Rk45Options, rk45};
use super::setup::Setup;
use super::{Linear, Prediction, PredictionType, SampleClip, Sampler, SamplerKind, SamplerOptions, SchedulerConfig};
use crate::error::{Result, ensure, err};
use crate::noise::Fingerprint;
use crate::schedule::{Level, SigmaTable, linspace};

/// A probability flow dx/dt = alpha'(t) x_0 + sigma'(t) eps, with x_0 and eps predicted from x (Song et al. 2021, eq.
/// 13, written by the process's alpha and sigma).
#[derive(Clone, Debug)]
pub enum ProbabilityFlow {
    /// score_sde's `VPSDE`: beta from `beta_min` at time 0 to `beta_max` at 1, from time 1 to `eps`. The network is
    /// told `time_scale` t.
    Preserving {
        /// beta at time 0.
        beta_min: f64,
        /// beta at time 1.
        beta_max: f64,
        /// The last time, above 0; 1e-3 in score_sde.
        eps: f64,
        /// 999 in score_sde.
        time_scale: f64,
    },
    /// score_sde's `VESDE`: sigma from `sigma_min` at time 0 to `sigma_max` at 1, geometrically, from time 1 to `eps`.
    /// The network is told sigma and gives the score.
    Exploding {
        /// sigma at time 0.
        sigma_min: f64,
        /// sigma at time 1.
        sigma_max: f64,
        /// The last time; 1e-5 in score_sde.
        eps: f64,
    },
    /// A discrete schedule of betas. The time is the angle phi whose tangent is k-diffusion's sigma, from that of the
    /// last timestep to that of the first: x = cos phi x_0 + sin phi eps, and dx/dphi is the v of v-prediction
    /// (Salimans and Ho 2022, appendix D). Another time gives the same flow; in sigma itself a run takes three times
    /// the calls. The network is told the timestep that the sigma has between the training's.
    Discrete(SigmaTable),
    /// The same of a network behind EDM's preconditioning.
    Edm {
        /// Where it ends, above 0.
        sigma_min: f64,
        /// Where it begins.
        sigma_max: f64,
        /// The standard deviation of the data.
        sigma_data: f64,
    },
    /// A flow x = (1 - t) x_0 + t eps, from time 1 to 0. The network is told `time_scale` t.
    Straight {
        /// T.
        time_scale: f64,
    },
}

/// What the network is told of a time, what it sees, and how x moves.
pub(super) struct Point {
    pub level: Level,
    pub input_scale: f64,
    pub linear: Option<Linear>,
    /// Of alpha by time.
    pub d_alpha: f64,
    pub d_sigma: f64,
}

impl ProbabilityFlow {
    /// The first time and the last.
    fn ends(&self) -> [f64; 2] {
        match *self {
            Self::Preserving { eps, .. } | Self::Exploding { eps, .. } => [1.0, eps],
            Self::Discrete(ref table) => [libm::atan(table.largest()), libm::atan(table.smallest())],
            Self::Edm { sigma_min, sigma_max, .. } => [libm::atan(sigma_max), libm::atan(sigma_min)],
            Self::Straight { .. } => [1.0, 0.0],
        }
    }

    /// n + 1 times at which x is seen.
    pub(super) fn marks(&self, n: usize) -> Vec<f64> {
        let [first, last] = self.ends();
        linspace(first, last, n.saturating_add(1))
    }

    /// What the network sees of x, and how x_0 and eps follow, at a level.
    pub(super) fn reading(&self, level: &Level, prediction: &Prediction) -> (f64, Option<Linear>) {
        match *self {
            Self::Preserving { .. } | Self::Straight { .. } | Self::Discrete(_) => (1.0, None),
            Self::Exploding { .. } => Preconditioning::Score { unit: ScoreUnit::Score }.reading(level, prediction.kind),
            Self::Edm { sigma_data, .. } => {
                // EDM's numbers are for x / alpha.
                let exploding = Level::exploding(level.timestep, level.noise_to_signal());
                let (scale, linear) = Preconditioning::Edm { sigma_data }.reading(&exploding, prediction.kind);
                let by = 1.0 / level.alpha;
                let linear = linear.map(|l| Linear { x0_x: l.x0_x * by, eps_x: l.eps_x * by, ..l });
                (scale * by, linear)
            }
        }
    }

    pub(super) fn at(&self, t: f64, prediction: &Prediction) -> Point {
        let (level, d_alpha, d_sigma) = match *self {
            Self::Preserving { beta_min, beta_max, time_scale, .. } => {
                let log = -0.25 * t * t * (beta_max - beta_min) - 0.5 * t * beta_min;
                let (alpha, sigma) = (libm::exp(log), libm::sqrt(-libm::expm1(2.0 * log)));
                let half = 0.5 * (beta_min + t * (beta_max - beta_min));
                (Level { timestep: time_scale * t, alpha, sigma }, -half * alpha, half * alpha * alpha / sigma)
            }
            Self::Exploding { sigma_min, sigma_max, .. } => {
                let sigma = sigma_min * libm::pow(sigma_max / sigma_min, t);
                (Level::exploding(sigma, sigma), 0.0, sigma * libm::log(sigma_max / sigma_min))
            }
            Self::Discrete(ref table) => by_angle(t, |sigma| table.timestep(sigma)),
            Self::Edm { .. } => by_angle(t, |sigma| 0.25 * libm::log(sigma)),
            Self::Straight { time_scale } => (Level::flow(time_scale * t, t), -1.0, 1.0),
        };
        let (input_scale, linear) = self.reading(&level, prediction);
        Point { level, input_scale, linear, d_alpha, d_sigma }
    }

    pub(super) fn initial_scale(&self) -> f64 {
        match self {
            Self::Preserving { .. } | Self::Straight { .. } | Self::Discrete(_) => 1.0,
            Self::Exploding { sigma_max, .. } => *sigma_max,
            // sigma_max where x_0 has factor 1.
            Self::Edm { sigma_max, .. } => libm::sin(libm::atan(*sigma_max)),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let [first, last] = self.ends();
        ensure!(
            last >= 0.0 && first > last && first.is_finite() && (last > 0.0 || matches!(self, Self::Straight { .. })),
            InvalidArgument,
            "the probability flow runs from {first} to {last}, expected to fall and to stay above 0"
        );
        let numbers = match *self {
            Self::Preserving { beta_min, beta_max, time_scale, .. } => {
                let fine = beta_min >= 0.0 && beta_max > 0.0 && beta_max.is_finite() && time_scale.is_finite();
                ensure!(
                    fine,
                    InvalidArgument,
                    "beta_min is {beta_min} and beta_max {beta_max}, expected finite numbers above 0"
                );
                return Ok(());
            }
            Self::Exploding { sigma_min, sigma_max, .. } => [sigma_min, sigma_max],
            Self::Edm { sigma_min, sigma_max, sigma_data } => {
                ensure!(sigma_max.is_finite(), InvalidArgument, "sigma_max is {sigma_max}, expected a finite number");
                [sigma_min, sigma_data]
            }
            Self::Straight { time_scale } => [time_scale, time_scale],
            Self::Discrete(_) => return Ok(()),
        };
        let fine = numbers.iter().all(|v| *v > 0.0 && v.is_finite());
        ensure!(fine, InvalidArgument, "the probability flow has the numbers {numbers:?}, expected above 0");
        Ok(())
    }

    pub(super) fn fingerprint(&self, f: Fingerprint) -> Fingerprint {
        let f = f.f64(self.initial_scale());
        match self {
            Self::Preserving { beta_min, beta_max, .. } => f.u64(0).f64(*beta_min).f64(*beta_max),
            Self::Exploding { sigma_min, .. } => f.u64(1).f64(*sigma_min),
            Self::Discrete(table) => (0..table.len()).fold(f.u64(2), |f, t| f.f64(table.at(t as f64))),
            Self::Edm { sigma_data, .. } => f.u64(3).f64(*sigma_data),
            Self::Straight { time_scale } => f.u64(4).f64(*time_scale),
        }
    }
}

/// The level at an angle, and how alpha and sigma move.
fn by_angle(angle: f64, timestep: impl Fn(f64) -> f64) -> (Level, f64, f64) {
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    (Level { timestep: timestep(libm::tan(angle)), alpha: cos, sigma: sin }, -sin, cos)
}

/// Whether [`build`] knows the probability flow of a class.
pub(super) fn runs(own: SamplerKind, has_betas: bool) -> bool {
    use SamplerKind::{EdmDpmSolver, EdmEuler, EdmHeun, FlowEuler, FlowHeun, ScoreSdeVe, ScoreSdeVp};
    has_betas || matches!(own, ScoreSdeVp | ScoreSdeVe | EdmEuler | EdmHeun | EdmDpmSolver | FlowEuler | FlowHeun)
}

/// Of the process of the class that a model was saved with.
pub(super) fn build(config: &SchedulerConfig, options: &SamplerOptions) -> Result<Box<dyn Sampler + Send + Sync>> {
    let (own, model_clip) = (config.saved_with(), config.model_clip());
    let of_model = if own == config.class { config.clone() } else { config.for_sampler(own)? };
    let setup = Setup { config: &of_model, options, model_clip };
    let g = &of_model.grid;
    let [bottom, top] = [g.sigma_min, g.sigma_max].map(|s| s.unwrap_or(0.0));
    let train = of_model.num_train_timesteps;
    use SamplerKind::{EdmDpmSolver, EdmEuler, EdmHeun, FlowEuler, FlowHeun, ScoreSdeVe, ScoreSdeVp};
    let flow = match own {
        ScoreSdeVp => ProbabilityFlow::Preserving {
            beta_min: g.beta_min,
            beta_max: g.beta_max,
            eps: g.sampling_eps,
            time_scale: train.saturating_sub(1) as f64,
        },
        ScoreSdeVe => ProbabilityFlow::Exploding { sigma_min: bottom, sigma_max: top, eps: g.sampling_eps },
        EdmEuler | EdmHeun | EdmDpmSolver => {
            ProbabilityFlow::Edm { sigma_min: bottom, sigma_max: top, sigma_data: g.sigma_data }
        }
        FlowEuler | FlowHeun if !g.invert_sigmas => ProbabilityFlow::Straight { time_scale: train as f64 },
        _ if of_model.has("use_flow_sigmas") && g.use_flow_sigmas => {
            ProbabilityFlow::Straight { time_scale: train as f64 }
        }
        _ if of_model.has("beta_start") => ProbabilityFlow::Discrete(SigmaTable::rising(&setup.schedule()?)),
        _ => {
            return Err(err!(
                Unsupported,
                "rk45 knows no probability flow of the scheduler {}; take the sampler that the model was saved with",
                own.class_name()
            ));
        }
    };
    let mut prediction = setup.prediction();
    if matches!(own, FlowEuler | FlowHeun) {
        // Their classes have no key for it.
        prediction.kind = PredictionType::Flow;
    }
    // Of a clipped x_0 the eps that belongs to it.
    let prediction = Prediction { rederive_eps: prediction.clip != SampleClip::None, ..prediction };
    let options = Rk45Options { steps: setup.count()?, rtol: options.rtol, atol: options.atol };
    Ok(Box::new(rk45(flow, prediction, &options)?))
}
