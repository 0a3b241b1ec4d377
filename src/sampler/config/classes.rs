//! Which keys each class of diffusers has, with the defaults of its own: 0.42.1's, as `save_pretrained` writes them.

use Preset::{Bool, Empty, Null, Number, Text, Whole};

use crate::json::Value;
use crate::sampler::SamplerKind;

/// A default.
#[derive(Clone, Copy, Debug)]
pub(super) enum Preset {
    Null,
    Bool(bool),
    Whole(u32),
    Number(f64),
    Text(&'static str),
    Empty,
}

impl Preset {
    pub fn value(self) -> Value {
        match self {
            Null => Value::Null,
            Bool(v) => v.into(),
            Whole(v) => v.into(),
            Number(v) => v.into(),
            Text(v) => v.into(),
            Empty => Value::Array(alloc::vec::Vec::new()),
        }
    }
}

type Keys = &'static [(&'static str, Preset)];

/// A class, or two that differ in how they run a batch only.
pub(super) struct Class {
    pub sampler: SamplerKind,
    pub names: &'static [&'static str],
    groups: &'static [Keys],
    own: Keys,
}

impl Class {
    /// The keys and their defaults; where one stands twice, the last is the class's own.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, Preset)> {
        self.groups.iter().copied().flatten().chain(self.own).copied()
    }

    /// Whether the class has a key.
    pub fn has(&self, key: &str) -> bool {
        self.keys().any(|(k, _)| k == key)
    }
}

/// A discrete schedule of betas.
const BETAS: Keys = &[
    ("num_train_timesteps", Whole(1000)),
    ("beta_start", Number(0.0001)),
    ("beta_end", Number(0.02)),
    ("beta_schedule", Text("linear")),
    ("trained_betas", Null),
    ("prediction_type", Text("epsilon")),
];
/// Dynamic thresholding.
const THRESHOLDING: Keys =
    &[("thresholding", Bool(false)), ("dynamic_thresholding_ratio", Number(0.995)), ("sample_max_value", Number(1.0))];
/// Clamping of x_0.
const CLIPPING: Keys = &[("clip_sample", Bool(true)), ("clip_sample_range", Number(1.0))];
/// Spacings of sigmas.
const SIGMAS: Keys =
    &[("use_karras_sigmas", Bool(false)), ("use_exponential_sigmas", Bool(false)), ("use_beta_sigmas", Bool(false))];

/// All of them.
pub(super) const CLASSES: &[Class] = &[
    Class {
        sampler: SamplerKind::Ddpm,
        names: &["DDPMScheduler", "DDPMParallelScheduler"],
        groups: &[BETAS, THRESHOLDING, CLIPPING],
        own: &[
            ("rescale_betas_zero_snr", Bool(false)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("leading")),
            ("variance_type", Text("fixed_small")),
        ],
    },
    Class {
        sampler: SamplerKind::Ddim,
        names: &["DDIMScheduler", "DDIMParallelScheduler"],
        groups: &[BETAS, THRESHOLDING, CLIPPING],
        own: &[
            ("rescale_betas_zero_snr", Bool(false)),
            ("set_alpha_to_one", Bool(true)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("leading")),
        ],
    },
    Class {
        sampler: SamplerKind::DdimInverse,
        names: &["DDIMInverseScheduler"],
        groups: &[BETAS, CLIPPING],
        own: &[
            ("rescale_betas_zero_snr", Bool(false)),
            ("set_alpha_to_one", Bool(true)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("leading")),
        ],
    },
    Class {
        sampler: SamplerKind::DpmSolverMultistep,
        names: &["DPMSolverMultistepScheduler"],
        groups: &[BETAS, THRESHOLDING, SIGMAS],
        own: &[
            ("algorithm_type", Text("dpmsolver++")),
            ("euler_at_final", Bool(false)),
            ("final_sigmas_type", Text("zero")),
            ("flow_shift", Number(1.0)),
            ("lower_order_final", Bool(true)),
            ("rescale_betas_zero_snr", Bool(false)),
            ("solver_order", Whole(2)),
            ("solver_type", Text("midpoint")),
            ("steps_offset", Whole(0)),
            ("time_shift_type", Text("exponential")),
            ("timestep_spacing", Text("linspace")),
            ("use_dynamic_shifting", Bool(false)),
            ("use_flow_sigmas", Bool(false)),
            ("use_lu_lambdas", Bool(false)),
            ("lambda_min_clipped", Number(f64::NEG_INFINITY)),
        ],
    },
    Class {
        sampler: SamplerKind::DpmSolverInverse,
        names: &["DPMSolverMultistepInverseScheduler"],
        groups: &[BETAS, THRESHOLDING, SIGMAS],
        own: &[
            ("algorithm_type", Text("dpmsolver++")),
            ("euler_at_final", Bool(false)),
            ("flow_shift", Number(1.0)),
            ("lower_order_final", Bool(true)),
            ("solver_order", Whole(2)),
            ("solver_type", Text("midpoint")),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("linspace")),
            ("use_flow_sigmas", Bool(false)),
            ("lambda_min_clipped", Number(f64::NEG_INFINITY)),
        ],
    },
    Class {
        sampler: SamplerKind::DpmSolverSinglestep,
        names: &["DPMSolverSinglestepScheduler"],
        groups: &[BETAS, THRESHOLDING, SIGMAS],
        own: &[
            ("algorithm_type", Text("dpmsolver++")),
            ("final_sigmas_type", Text("zero")),
            ("flow_shift", Number(1.0)),
            ("lower_order_final", Bool(false)),
            ("solver_order", Whole(2)),
            ("solver_type", Text("midpoint")),
            ("time_shift_type", Text("exponential")),
            ("use_dynamic_shifting", Bool(false)),
            ("use_flow_sigmas", Bool(false)),
            ("lambda_min_clipped", Number(f64::NEG_INFINITY)),
        ],
    },
    Class {
        sampler: SamplerKind::DpmSolverSde,
        names: &["DPMSolverSDEScheduler"],
        groups: &[BETAS, SIGMAS],
        own: &[
            ("beta_end", Number(0.012)),
            ("beta_start", Number(0.00085)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("linspace")),
        ],
    },
    Class {
        sampler: SamplerKind::UniPc,
        names: &["UniPCMultistepScheduler"],
        groups: &[BETAS, THRESHOLDING, SIGMAS],
        own: &[
            ("disable_corrector", Empty),
            ("final_sigmas_type", Text("zero")),
            ("flow_shift", Number(1.0)),
            ("lower_order_final", Bool(true)),
            ("predict_x0", Bool(true)),
            ("rescale_betas_zero_snr", Bool(false)),
            ("shift_terminal", Null),
            ("sigma_max", Null),
            ("sigma_min", Null),
            ("solver_order", Whole(2)),
            ("solver_type", Text("bh2")),
            ("steps_offset", Whole(0)),
            ("time_shift_type", Text("exponential")),
            ("timestep_spacing", Text("linspace")),
            ("use_dynamic_shifting", Bool(false)),
            ("use_flow_sigmas", Bool(false)),
        ],
    },
    Class {
        sampler: SamplerKind::Deis,
        names: &["DEISMultistepScheduler"],
        groups: &[BETAS, THRESHOLDING, SIGMAS],
        own: &[
            ("algorithm_type", Text("deis")),
            ("flow_shift", Number(1.0)),
            ("lower_order_final", Bool(true)),
            ("solver_order", Whole(2)),
            ("solver_type", Text("logrho")),
            ("steps_offset", Whole(0)),
            ("time_shift_type", Text("exponential")),
            ("timestep_spacing", Text("linspace")),
            ("use_dynamic_shifting", Bool(false)),
            ("use_flow_sigmas", Bool(false)),
        ],
    },
    Class {
        sampler: SamplerKind::Euler,
        names: &["EulerDiscreteScheduler"],
        groups: &[BETAS, SIGMAS],
        own: &[
            ("final_sigmas_type", Text("zero")),
            ("interpolation_type", Text("linear")),
            ("rescale_betas_zero_snr", Bool(false)),
            ("sigma_max", Null),
            ("sigma_min", Null),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("linspace")),
            ("timestep_type", Text("discrete")),
        ],
    },
    Class {
        sampler: SamplerKind::EulerAncestral,
        names: &["EulerAncestralDiscreteScheduler"],
        groups: &[BETAS],
        own: &[
            ("rescale_betas_zero_snr", Bool(false)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("linspace")),
        ],
    },
    Class {
        sampler: SamplerKind::Heun,
        names: &["HeunDiscreteScheduler"],
        groups: &[BETAS, CLIPPING, SIGMAS],
        own: &[
            ("beta_end", Number(0.012)),
            ("beta_start", Number(0.00085)),
            ("clip_sample", Bool(false)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("linspace")),
        ],
    },
    Class {
        sampler: SamplerKind::Kdpm2,
        names: &["KDPM2DiscreteScheduler"],
        groups: &[BETAS, SIGMAS],
        own: &[
            ("beta_end", Number(0.012)),
            ("beta_start", Number(0.00085)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("linspace")),
        ],
    },
    Class {
        sampler: SamplerKind::Kdpm2Ancestral,
        names: &["KDPM2AncestralDiscreteScheduler"],
        groups: &[BETAS, SIGMAS],
        own: &[
            ("beta_end", Number(0.012)),
            ("beta_start", Number(0.00085)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("linspace")),
        ],
    },
    Class {
        sampler: SamplerKind::Lms,
        names: &["LMSDiscreteScheduler"],
        groups: &[BETAS, SIGMAS],
        own: &[("steps_offset", Whole(0)), ("timestep_spacing", Text("linspace"))],
    },
    Class {
        sampler: SamplerKind::Pndm,
        names: &["PNDMScheduler"],
        groups: &[BETAS],
        own: &[
            ("set_alpha_to_one", Bool(false)),
            ("skip_prk_steps", Bool(false)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("leading")),
        ],
    },
    Class {
        sampler: SamplerKind::Ipndm,
        names: &["IPNDMScheduler"],
        groups: &[],
        own: &[("num_train_timesteps", Whole(1000)), ("trained_betas", Null)],
    },
    Class {
        sampler: SamplerKind::EdmEuler,
        names: &["EDMEulerScheduler"],
        groups: &[],
        own: &[
            ("final_sigmas_type", Text("zero")),
            ("num_train_timesteps", Whole(1000)),
            ("prediction_type", Text("epsilon")),
            ("rho", Number(7.0)),
            ("sigma_data", Number(0.5)),
            ("sigma_max", Number(80.0)),
            ("sigma_min", Number(0.002)),
            ("sigma_schedule", Text("karras")),
        ],
    },
    Class {
        sampler: SamplerKind::EdmHeun,
        names: &["EDMHeunScheduler"],
        groups: &[],
        own: &[
            ("final_sigmas_type", Text("zero")),
            ("num_train_timesteps", Whole(1000)),
            ("prediction_type", Text("epsilon")),
            ("rho", Number(7.0)),
            ("sigma_data", Number(0.5)),
            ("sigma_max", Number(80.0)),
            ("sigma_min", Number(0.002)),
            ("sigma_schedule", Text("karras")),
        ],
    },
    Class {
        sampler: SamplerKind::EdmDpmSolver,
        names: &["EDMDPMSolverMultistepScheduler"],
        groups: &[THRESHOLDING],
        own: &[
            ("algorithm_type", Text("dpmsolver++")),
            ("euler_at_final", Bool(false)),
            ("final_sigmas_type", Text("zero")),
            ("lower_order_final", Bool(true)),
            ("num_train_timesteps", Whole(1000)),
            ("prediction_type", Text("epsilon")),
            ("rho", Number(7.0)),
            ("sigma_data", Number(0.5)),
            ("sigma_max", Number(80.0)),
            ("sigma_min", Number(0.002)),
            ("sigma_schedule", Text("karras")),
            ("solver_order", Whole(2)),
            ("solver_type", Text("midpoint")),
        ],
    },
    Class {
        sampler: SamplerKind::CosineDpmSolver,
        names: &["CosineDPMSolverMultistepScheduler"],
        groups: &[],
        own: &[
            ("euler_at_final", Bool(false)),
            ("final_sigmas_type", Text("zero")),
            ("lower_order_final", Bool(true)),
            ("num_train_timesteps", Whole(1000)),
            ("prediction_type", Text("v_prediction")),
            ("rho", Number(7.0)),
            ("sigma_data", Number(1.0)),
            ("sigma_max", Whole(500)),
            ("sigma_min", Number(0.3)),
            ("sigma_schedule", Text("exponential")),
            ("solver_order", Whole(2)),
            ("solver_type", Text("midpoint")),
        ],
    },
    Class {
        sampler: SamplerKind::KarrasVe,
        names: &["KarrasVeScheduler"],
        groups: &[],
        own: &[
            ("s_churn", Whole(80)),
            ("s_max", Whole(50)),
            ("s_min", Number(0.05)),
            ("s_noise", Number(1.007)),
            ("sigma_max", Whole(100)),
            ("sigma_min", Number(0.02)),
        ],
    },
    Class {
        sampler: SamplerKind::ScoreSdeVe,
        names: &["ScoreSdeVeScheduler"],
        groups: &[],
        own: &[
            ("correct_steps", Whole(1)),
            ("num_train_timesteps", Whole(2000)),
            ("sampling_eps", Number(1e-5)),
            ("sigma_max", Number(1348.0)),
            ("sigma_min", Number(0.01)),
            ("snr", Number(0.15)),
        ],
    },
    Class {
        sampler: SamplerKind::ScoreSdeVp,
        names: &["ScoreSdeVpScheduler"],
        groups: &[],
        own: &[
            ("beta_max", Whole(20)),
            ("beta_min", Number(0.1)),
            ("num_train_timesteps", Whole(2000)),
            ("sampling_eps", Number(1e-3)),
        ],
    },
    // Not diffusers': of a model of discrete betas that was saved for it.
    Class {
        sampler: SamplerKind::Rk45,
        names: &["Rk45Scheduler"],
        groups: &[BETAS],
        own: &[("rescale_betas_zero_snr", Bool(false))],
    },
    Class {
        sampler: SamplerKind::Lcm,
        names: &["LCMScheduler"],
        groups: &[BETAS, THRESHOLDING, CLIPPING],
        own: &[
            ("beta_end", Number(0.012)),
            ("beta_schedule", Text("scaled_linear")),
            ("beta_start", Number(0.00085)),
            ("clip_sample", Bool(false)),
            ("original_inference_steps", Whole(50)),
            ("rescale_betas_zero_snr", Bool(false)),
            ("set_alpha_to_one", Bool(true)),
            ("steps_offset", Whole(0)),
            ("timestep_scaling", Number(10.0)),
            ("timestep_spacing", Text("leading")),
        ],
    },
    Class {
        sampler: SamplerKind::Tcd,
        names: &["TCDScheduler"],
        groups: &[BETAS, THRESHOLDING, CLIPPING],
        own: &[
            ("beta_end", Number(0.012)),
            ("beta_schedule", Text("scaled_linear")),
            ("beta_start", Number(0.00085)),
            ("clip_sample", Bool(false)),
            ("original_inference_steps", Whole(50)),
            ("rescale_betas_zero_snr", Bool(false)),
            ("set_alpha_to_one", Bool(true)),
            ("steps_offset", Whole(0)),
            ("timestep_scaling", Number(10.0)),
            ("timestep_spacing", Text("leading")),
        ],
    },
    Class {
        sampler: SamplerKind::Cm,
        names: &["CMStochasticIterativeScheduler"],
        groups: &[],
        own: &[
            ("clip_denoised", Bool(true)),
            ("num_train_timesteps", Whole(40)),
            ("rho", Number(7.0)),
            ("s_noise", Number(1.0)),
            ("sigma_data", Number(0.5)),
            ("sigma_max", Number(80.0)),
            ("sigma_min", Number(0.002)),
        ],
    },
    Class {
        sampler: SamplerKind::FlowEuler,
        names: &["FlowMatchEulerDiscreteScheduler"],
        groups: &[SIGMAS],
        own: &[
            ("invert_sigmas", Bool(false)),
            ("num_train_timesteps", Whole(1000)),
            ("shift", Number(1.0)),
            ("shift_terminal", Null),
            ("stochastic_sampling", Bool(false)),
            ("time_shift_type", Text("exponential")),
            ("use_dynamic_shifting", Bool(false)),
        ],
    },
    Class {
        sampler: SamplerKind::FlowHeun,
        names: &["FlowMatchHeunDiscreteScheduler"],
        groups: &[],
        own: &[("num_train_timesteps", Whole(1000)), ("shift", Number(1.0))],
    },
    Class {
        sampler: SamplerKind::FlowLcm,
        names: &["FlowMatchLCMScheduler"],
        groups: &[SIGMAS],
        own: &[
            ("invert_sigmas", Bool(false)),
            ("num_train_timesteps", Whole(1000)),
            ("shift", Number(1.0)),
            ("shift_terminal", Null),
            ("time_shift_type", Text("exponential")),
            ("use_dynamic_shifting", Bool(false)),
        ],
    },
    Class {
        sampler: SamplerKind::SaSolver,
        names: &["SASolverScheduler"],
        groups: &[BETAS, THRESHOLDING, SIGMAS],
        own: &[
            ("algorithm_type", Text("data_prediction")),
            ("corrector_order", Whole(2)),
            ("flow_shift", Number(1.0)),
            ("lower_order_final", Bool(true)),
            ("predictor_order", Whole(2)),
            ("steps_offset", Whole(0)),
            ("timestep_spacing", Text("linspace")),
            ("use_flow_sigmas", Bool(false)),
            ("lambda_min_clipped", Number(f64::NEG_INFINITY)),
        ],
    },
];
