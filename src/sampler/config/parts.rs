//! The parts of a configuration that solvers over sigmas and solvers of high order add to what DDPM and DDIM have.

use alloc::vec::Vec;

use crate::error::{Result, ensure};
use crate::schedule::SigmaSpacing;

/// Which levels a run visits, beside `timestep_spacing` and `steps_offset`.
#[derive(Clone, Debug, PartialEq)]
pub struct GridConfig {
    /// Sigmas are spread by Karras's rule.
    pub use_karras_sigmas: bool,
    /// Sigmas are spread evenly in their logarithm.
    pub use_exponential_sigmas: bool,
    /// Sigmas are spread by quantiles of a beta distribution.
    pub use_beta_sigmas: bool,
    /// Sigmas are spread evenly in their half log-SNR.
    pub use_lu_lambdas: bool,
    /// The process is a flow: x = (1 - sigma) x_0 + sigma eps.
    pub use_flow_sigmas: bool,
    /// Where the last step leads.
    pub final_sigmas_type: FinalSigmas,
    /// The smallest sigma; `None` for the schedule's own.
    pub sigma_min: Option<f64>,
    /// The largest sigma; `None` for the schedule's own.
    pub sigma_max: Option<f64>,
    /// The standard deviation of the data that a preconditioned network was made for.
    pub sigma_data: f64,
    /// How sigmas are spread where there is no discrete schedule.
    pub sigma_schedule: SigmaSchedule,
    /// Karras's rho where there is no discrete schedule.
    pub rho: f64,
    /// How sigmas between whole timesteps are found.
    pub interpolation_type: Interpolation,
    /// What the network is told of a level.
    pub timestep_type: TimestepType,
    /// Timesteps whose half log-SNR is below this are left out; -infinity leaves none out.
    pub lambda_min_clipped: f64,
    /// How far the sigmas of a flow are moved towards noise (`shift`, `flow_shift`).
    pub shift: f64,
    /// Whether the shift follows from the size of the image: then the caller gives it
    /// ([`SamplerOptions::mu`](super::super::SamplerOptions::mu)).
    pub use_dynamic_shifting: bool,
    /// What the shift of `use_dynamic_shifting` is a function of.
    pub time_shift_type: TimeShift,
    /// The smallest sigma of a flow after shifting.
    pub shift_terminal: Option<f64>,
    /// Whether a flow runs from data to noise.
    pub invert_sigmas: bool,
    /// Where the times of a score-based model end, which begin at 1.
    pub sampling_eps: f64,
    /// beta at time 0 of the process of continuous time.
    pub beta_min: f64,
    /// beta at time 1 of it.
    pub beta_max: f64,
}

impl Default for GridConfig {
    fn default() -> Self {
        Self {
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            use_lu_lambdas: false,
            use_flow_sigmas: false,
            final_sigmas_type: FinalSigmas::Zero,
            sigma_min: None,
            sigma_max: None,
            sigma_data: 0.5,
            sigma_schedule: SigmaSchedule::Karras,
            rho: 7.0,
            interpolation_type: Interpolation::Linear,
            timestep_type: TimestepType::Discrete,
            lambda_min_clipped: f64::NEG_INFINITY,
            shift: 1.0,
            use_dynamic_shifting: false,
            time_shift_type: TimeShift::Exponential,
            shift_terminal: None,
            invert_sigmas: false,
            sampling_eps: 1e-3,
            beta_min: 0.1,
            beta_max: 20.0,
        }
    }
}

impl GridConfig {
    /// The one spacing of sigmas that is asked for.
    ///
    /// Errors: kind `InvalidArgument` where there are two.
    pub fn spacing(&self) -> Result<SigmaSpacing> {
        let asked = [
            (self.use_karras_sigmas, SigmaSpacing::Karras),
            (self.use_exponential_sigmas, SigmaSpacing::Exponential),
            (self.use_beta_sigmas, SigmaSpacing::Beta),
            (self.use_lu_lambdas, SigmaSpacing::Lu),
        ];
        let mut asked = asked.into_iter().filter(|(on, _)| *on).map(|(_, spacing)| spacing);
        let first = asked.next();
        ensure!(
            asked.next().is_none(),
            InvalidArgument,
            "use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas and use_lu_lambdas: two of them are true, expected at most one"
        );
        Ok(first.unwrap_or_default())
    }
}

/// What solvers of high order and distilled samplers have.
#[derive(Clone, Debug, PartialEq)]
pub struct SolverConfig {
    /// The order, from 1.
    pub solver_order: usize,
    /// Which equation is solved.
    pub algorithm_type: AlgorithmType,
    /// Which formula of the second order is used.
    pub solver_type: SolverType,
    /// Whether the last steps of a short run (below 15 steps) are of lower order.
    pub lower_order_final: bool,
    /// Whether the last step is of first order.
    pub euler_at_final: bool,
    /// Whether UniPC works on x_0 (if not, on eps).
    pub predict_x0: bool,
    /// Steps, from 0, after which UniPC does not correct.
    pub disable_corrector: Vec<u32>,
    /// SA-Solver's order of prediction.
    pub predictor_order: usize,
    /// SA-Solver's order of correction.
    pub corrector_order: usize,
    /// Whether PNDM leaves out its Runge-Kutta steps.
    pub skip_prk_steps: bool,
    /// The steps that a consistency model was distilled from.
    pub original_inference_steps: usize,
    /// By what a consistency model multiplies its timestep.
    pub timestep_scaling: f64,
    /// Whether a flow forgets eps at each step.
    pub stochastic_sampling: bool,
    /// The standard deviation of the noise of a consistency model.
    pub s_noise: f64,
    /// How much noise is added before a step ([`Churn::s_churn`](super::super::Churn::s_churn)), where it is the
    /// configuration's.
    pub s_churn: f64,
    /// The smallest sigma at which noise is added.
    pub s_min: f64,
    /// The largest.
    pub s_max: f64,
    /// The signal-to-noise ratio of a correction by Langevin dynamics.
    pub snr: f64,
    /// Such corrections before each step.
    pub correct_steps: u32,
}

impl Default for SolverConfig {
    fn default() -> Self {
        Self {
            solver_order: 2,
            algorithm_type: AlgorithmType::DpmSolverPlusPlus,
            solver_type: SolverType::Midpoint,
            lower_order_final: true,
            euler_at_final: false,
            predict_x0: true,
            disable_corrector: Vec::new(),
            predictor_order: 2,
            corrector_order: 2,
            skip_prk_steps: false,
            original_inference_steps: 50,
            timestep_scaling: 10.0,
            stochastic_sampling: false,
            s_noise: 1.0,
            s_churn: 80.0,
            s_min: 0.05,
            s_max: 50.0,
            snr: 0.15,
            correct_steps: 1,
        }
    }
}

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident, $n:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// All of them, with the names that configurations use.
            pub const NAMES: [(&'static str, Self); $n] = [$(($text, Self::$variant)),*];
        }
    };
}

choices!(
    /// Where the last step of a run leads.
    FinalSigmas, 2 {
        /// To sigma 0.
        Zero = "zero",
        /// To the smallest sigma of the schedule.
        SigmaMin = "sigma_min",
    }
);
choices!(
    /// How sigmas are spread where there is no discrete schedule.
    SigmaSchedule, 2 {
        /// By Karras's rule.
        Karras = "karras",
        /// Evenly in their logarithm.
        Exponential = "exponential",
    }
);
choices!(
    /// How the sigmas of a discrete schedule become those of a run.
    Interpolation, 2 {
        /// Linearly between whole timesteps.
        Linear = "linear",
        /// Evenly in their logarithm from the first to the last timestep of the training.
        LogLinear = "log_linear",
    }
);
choices!(
    /// What the network is told of a level.
    TimestepType, 2 {
        /// The timestep.
        Discrete = "discrete",
        /// ln(sigma) / 4.
        Continuous = "continuous",
    }
);
choices!(
    /// How a flow's shift is given.
    TimeShift, 2 {
        /// By its logarithm mu.
        Exponential = "exponential",
        /// As it is.
        Linear = "linear",
    }
);
choices!(
    /// Which equation a solver of high order solves.
    AlgorithmType, 7 {
        /// The probability flow in eps (Lu et al. 2022a).
        DpmSolver = "dpmsolver",
        /// The probability flow in x_0 (Lu et al. 2022b).
        DpmSolverPlusPlus = "dpmsolver++",
        /// The reverse stochastic equation in eps.
        SdeDpmSolver = "sde-dpmsolver",
        /// The reverse stochastic equation in x_0.
        SdeDpmSolverPlusPlus = "sde-dpmsolver++",
        /// The probability flow in eps by exponential integrators (Zhang and Chen 2023).
        Deis = "deis",
        /// SA-Solver on x_0.
        DataPrediction = "data_prediction",
        /// SA-Solver on eps.
        NoisePrediction = "noise_prediction",
    }
);
choices!(
    /// Which formula of the second order is used.
    SolverType, 5 {
        /// The midpoint rule.
        Midpoint = "midpoint",
        /// The trapezoidal rule.
        Heun = "heun",
        /// UniPC's B(h) = h.
        Bh1 = "bh1",
        /// UniPC's B(h) = exp(h) - 1.
        Bh2 = "bh2",
        /// DEIS's polynomials in ln rho.
        LogRho = "logrho",
    }
);
