//! A sampler's options: the schedule it was trained with, and the choices of a run.

use alloc::format;
use alloc::sync::Arc;
use core::ffi::c_char;
use core::mem::MaybeUninit;

use undiffuse::sampler::{
    BitPrediction, Chain2015, Compat, DdimNoise, DdimPrevious, Ending2015, Jumps, Ladder, PredictionType, Readout2015,
    Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps, VarianceType,
};
use undiffuse::schedule::{Arithmetic, BetaSchedule, TimestepSpacing};

use crate::enums::undiffuse_arithmetic::{self, *};
use crate::enums::undiffuse_beta_schedule::{self, *};
use crate::enums::undiffuse_bit_prediction::{self, *};
use crate::enums::undiffuse_compat::{self, *};
use crate::enums::undiffuse_ddim_noise::{self, *};
use crate::enums::undiffuse_ddim_previous::{self, *};
use crate::enums::undiffuse_ending_2015::{self, *};
use crate::enums::undiffuse_prediction_type::{self, *};
use crate::enums::undiffuse_readout_2015::{self, *};
use crate::enums::undiffuse_sampler_kind::{self, *};
use crate::enums::undiffuse_timestep_spacing::{self, *};
use crate::enums::undiffuse_variance_type::{self, *};
use crate::guard::{ok, slice, text};
use crate::options::{flag, init, sized, value};
use crate::status::{Failure, Outcome, undiffuse_status};

/// The schedule that a model was trained with. Names and defaults are those of diffusers' DDPMScheduler and
/// DDIMScheduler.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_schedule_options {
    /// sizeof(undiffuse_schedule_options); set by undiffuse_schedule_options_init.
    pub struct_size: usize,
    /// T, 1 to 100000.
    pub num_train_timesteps: usize,
    /// The first beta.
    pub beta_start: f64,
    /// The last beta.
    pub beta_end: f64,
    /// T betas in place of start, end and curve, or NULL. Read during the call.
    pub trained_betas: *const f64,
    /// Number of betas.
    pub trained_betas_len: usize,
    /// The range of clip_sample.
    pub clip_sample_range: f64,
    /// The quantile of thresholding.
    pub dynamic_thresholding_ratio: f64,
    /// The largest threshold of thresholding.
    pub sample_max_value: f64,
    /// The curve of the betas.
    pub beta_schedule: MaybeUninit<undiffuse_beta_schedule>,
    /// DDPM's variance.
    pub variance_type: MaybeUninit<undiffuse_variance_type>,
    /// What the network gives.
    pub prediction_type: MaybeUninit<undiffuse_prediction_type>,
    /// How the visited timesteps are spaced.
    pub timestep_spacing: MaybeUninit<undiffuse_timestep_spacing>,
    /// 1: x_0 is clamped to plus or minus clip_sample_range.
    pub clip_sample: u32,
    /// 1: dynamic thresholding of x_0; takes precedence over clip_sample.
    pub thresholding: u32,
    /// Added to the timesteps of leading spacing.
    pub steps_offset: u32,
    /// 1: the betas are rescaled to zero terminal SNR.
    pub rescale_betas_zero_snr: u32,
    /// 1: DDIM's last step leads to abar = 1; 0: to abar_0.
    pub set_alpha_to_one: u32,
    /// Must be 0.
    pub reserved: u32,
}

sized!(undiffuse_schedule_options {
    num_train_timesteps: 1000,
    beta_start: 1e-4,
    beta_end: 0.02,
    trained_betas: core::ptr::null(),
    trained_betas_len: 0,
    clip_sample_range: 1.0,
    dynamic_thresholding_ratio: 0.995,
    sample_max_value: 1.0,
    beta_schedule: MaybeUninit::new(UNDIFFUSE_BETAS_LINEAR),
    variance_type: MaybeUninit::new(UNDIFFUSE_VARIANCE_FIXED_SMALL),
    prediction_type: MaybeUninit::new(UNDIFFUSE_PREDICTION_EPSILON),
    timestep_spacing: MaybeUninit::new(UNDIFFUSE_SPACING_LEADING),
    clip_sample: 1,
    thresholding: 0,
    steps_offset: 0,
    rescale_betas_zero_snr: 0,
    set_alpha_to_one: 1,
    reserved: 0,
});

/// The options of a run.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_sampler_options {
    /// sizeof(undiffuse_sampler_options); set by undiffuse_sampler_options_init.
    pub struct_size: usize,
    /// The algorithm.
    pub kind: MaybeUninit<undiffuse_sampler_kind>,
    /// The precision of schedules and of the scalars of a step.
    pub arithmetic: MaybeUninit<undiffuse_arithmetic>,
    /// How many steps are made. 0 is the default: 20 of UniPC, DPM-Solver multistep and DEIS, all T of DDPM and the
    /// 2015 chains, 4 of distilled samplers, 50 of the others, or T if that is less. If `kind` is
    /// UNDIFFUSE_SAMPLER_OF_SCHEDULE, 0 also chooses the sampler as the program `undiffuse sample` does: UniPC for a
    /// model saved with DDPM, its own for every other.
    pub steps: usize,
    /// The timesteps themselves, decreasing, each below T, or NULL. Read during the call.
    pub timesteps: *const u32,
    /// Number of timesteps.
    pub timesteps_len: usize,
    /// DDIM: 0 is deterministic, 1 has the variance of DDPM.
    pub eta: f64,
    /// DDIM: what eta is a fraction of.
    pub ddim_noise: MaybeUninit<undiffuse_ddim_noise>,
    /// DDIM: which timestep a step leads to. With a list of timesteps it is always the next.
    pub ddim_previous: MaybeUninit<undiffuse_ddim_previous>,
    /// 1: eps is recomputed from the clipped x_0.
    pub use_clipped_model_output: u32,
    /// Binary chain: 1 if the network gives log p / (1 - p) in place of p.
    pub logits: u32,
    /// RePaint: how many timesteps of the list a jump goes back.
    pub jump_length: usize,
    /// RePaint: how many times each stretch of `jump_length` timesteps is traversed; 1 disables jumps.
    pub resamplings: usize,
    /// 2015: what the Gaussian chain's network gives. This field and those after it are read only if `kind` names a
    /// chain other than the scheduler configuration's own, which specifies them itself.
    pub readout: MaybeUninit<undiffuse_readout_2015>,
    /// 2015: how the chain ends.
    pub ending: MaybeUninit<undiffuse_ending_2015>,
    /// Binary chain: the stationary probability of a 1, between 0 and 1.
    pub pi: f64,
    /// Binary chain: which probability the network predicts.
    pub bit_prediction: MaybeUninit<undiffuse_bit_prediction>,
    /// Whose formulas are taken.
    pub compat: MaybeUninit<undiffuse_compat>,
    /// The sigmas themselves, sqrt((1 - abar) / abar), falling, with that of the result (0 as a rule) at the end; or
    /// NULL. For solvers over sigmas. Read during the call.
    pub sigmas: *const f64,
    /// Number of sigmas, one more than the steps.
    pub sigmas_len: usize,
    /// The order of a solver that has one; 0 for its usual one.
    pub order: usize,
    /// Split Gibbs: sigma / alpha of the first return into noise. `steps` are the levels on the way down.
    pub ladder_largest: f64,
    /// Split Gibbs: that of the last, sigma of the measurement over the largest singular value of its operator. 0, the
    /// default, is no ladder: undiffuse_evidence_recommend_sampler fills it in.
    pub ladder_smallest: f64,
    /// Split Gibbs: the fall from one return to the next, above 0 and below 1.
    pub ladder_ratio: f64,
    /// Split Gibbs: how often the last return is made.
    pub ladder_last: usize,
    /// RK45: the relative tolerance of a step, 1e-7 to 1.
    pub rtol: f64,
    /// RK45: the absolute tolerance of a step, 1e-7 to 1.
    pub atol: f64,
    /// Decoupled annealing: network calls from each level to x_0, at least 1. `steps` are the levels.
    pub flow_steps: usize,
    /// Input optimization: network calls at each level before the one that leads on, at least 1. `steps` are the
    /// levels.
    pub gradient_steps: usize,
}

sized!(undiffuse_sampler_options {
    kind: MaybeUninit::new(UNDIFFUSE_SAMPLER_OF_SCHEDULE),
    arithmetic: MaybeUninit::new(UNDIFFUSE_ARITHMETIC_FLOAT32),
    steps: 0,
    timesteps: core::ptr::null(),
    timesteps_len: 0,
    eta: 0.0,
    ddim_noise: MaybeUninit::new(UNDIFFUSE_DDIM_NOISE_POSTERIOR),
    ddim_previous: MaybeUninit::new(UNDIFFUSE_DDIM_PREVIOUS_DIFFUSERS),
    use_clipped_model_output: 0,
    logits: 0,
    jump_length: 10,
    resamplings: 10,
    readout: MaybeUninit::new(UNDIFFUSE_READOUT_2015_CODE),
    ending: MaybeUninit::new(UNDIFFUSE_ENDING_2015_MEAN),
    pi: 0.5,
    bit_prediction: MaybeUninit::new(UNDIFFUSE_BITS_PREVIOUS),
    compat: MaybeUninit::new(UNDIFFUSE_COMPAT_USUAL),
    sigmas: core::ptr::null(),
    sigmas_len: 0,
    order: 0,
    ladder_largest: 1.0,
    ladder_smallest: 0.0,
    ladder_ratio: 0.5,
    ladder_last: 2,
    rtol: 1e-5,
    atol: 1e-5,
    flow_steps: 4,
    gradient_steps: 20,
});

/// The samplers that are one algorithm of the library. The others are a choice (of the scheduler's configuration) and
/// ways to go.
pub(crate) const SAMPLERS: [(undiffuse_sampler_kind, SamplerKind); 35] = {
    use undiffuse_sampler_kind::*;
    [
        (UNDIFFUSE_SAMPLER_DDPM, SamplerKind::Ddpm),
        (UNDIFFUSE_SAMPLER_DDIM, SamplerKind::Ddim),
        (UNDIFFUSE_SAMPLER_ANCESTRAL_2015, SamplerKind::Ancestral2015),
        (UNDIFFUSE_SAMPLER_BITS_2015, SamplerKind::Bits2015),
        (UNDIFFUSE_SAMPLER_D3PM, SamplerKind::D3pm),
        (UNDIFFUSE_SAMPLER_DDIM_INVERSE, SamplerKind::DdimInverse),
        (UNDIFFUSE_SAMPLER_DPM_SOLVER_MULTISTEP, SamplerKind::DpmSolverMultistep),
        (UNDIFFUSE_SAMPLER_DPM_SOLVER_SINGLESTEP, SamplerKind::DpmSolverSinglestep),
        (UNDIFFUSE_SAMPLER_DPM_SOLVER_SDE, SamplerKind::DpmSolverSde),
        (UNDIFFUSE_SAMPLER_UNIPC, SamplerKind::UniPc),
        (UNDIFFUSE_SAMPLER_DEIS, SamplerKind::Deis),
        (UNDIFFUSE_SAMPLER_SA_SOLVER, SamplerKind::SaSolver),
        (UNDIFFUSE_SAMPLER_EULER, SamplerKind::Euler),
        (UNDIFFUSE_SAMPLER_EULER_ANCESTRAL, SamplerKind::EulerAncestral),
        (UNDIFFUSE_SAMPLER_HEUN, SamplerKind::Heun),
        (UNDIFFUSE_SAMPLER_KDPM2, SamplerKind::Kdpm2),
        (UNDIFFUSE_SAMPLER_KDPM2_ANCESTRAL, SamplerKind::Kdpm2Ancestral),
        (UNDIFFUSE_SAMPLER_LMS, SamplerKind::Lms),
        (UNDIFFUSE_SAMPLER_PNDM, SamplerKind::Pndm),
        (UNDIFFUSE_SAMPLER_IPNDM, SamplerKind::Ipndm),
        (UNDIFFUSE_SAMPLER_EDM_EULER, SamplerKind::EdmEuler),
        (UNDIFFUSE_SAMPLER_EDM_DPM_SOLVER, SamplerKind::EdmDpmSolver),
        (UNDIFFUSE_SAMPLER_COSINE_DPM_SOLVER, SamplerKind::CosineDpmSolver),
        (UNDIFFUSE_SAMPLER_LCM, SamplerKind::Lcm),
        (UNDIFFUSE_SAMPLER_TCD, SamplerKind::Tcd),
        (UNDIFFUSE_SAMPLER_CM, SamplerKind::Cm),
        (UNDIFFUSE_SAMPLER_FLOW_EULER, SamplerKind::FlowEuler),
        (UNDIFFUSE_SAMPLER_FLOW_HEUN, SamplerKind::FlowHeun),
        (UNDIFFUSE_SAMPLER_FLOW_LCM, SamplerKind::FlowLcm),
        (UNDIFFUSE_SAMPLER_DPM_SOLVER_INVERSE, SamplerKind::DpmSolverInverse),
        (UNDIFFUSE_SAMPLER_EDM_HEUN, SamplerKind::EdmHeun),
        (UNDIFFUSE_SAMPLER_KARRAS_VE, SamplerKind::KarrasVe),
        (UNDIFFUSE_SAMPLER_SCORE_SDE_VE, SamplerKind::ScoreSdeVe),
        (UNDIFFUSE_SAMPLER_SCORE_SDE_VP, SamplerKind::ScoreSdeVp),
        (UNDIFFUSE_SAMPLER_RK45, SamplerKind::Rk45),
    ]
};

/// The sampler of a kind, where it is one.
pub(crate) fn sampler_kind(kind: undiffuse_sampler_kind) -> Option<SamplerKind> {
    SAMPLERS.iter().find(|(k, _)| *k == kind).map(|(_, kind)| *kind)
}

/// Fills a schedule with diffusers' defaults. `struct_size` is sizeof(undiffuse_schedule_options) as your program was
/// compiled. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_schedule_options_init(
    options: *mut undiffuse_schedule_options,
    struct_size: usize,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for.
    unsafe { ok(core::ptr::null_mut(), || init(options, struct_size)) }
}

/// Fills options with the defaults: UniPC with 20 steps for a model saved with DDPM, its own sampler for every other.
/// `struct_size` is sizeof(undiffuse_sampler_options) as your program was compiled. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_options_init(
    options: *mut undiffuse_sampler_options,
    struct_size: usize,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for.
    unsafe { ok(core::ptr::null_mut(), || init(options, struct_size)) }
}

fn reserved(value: u32, name: &str) -> Outcome<()> {
    if value == 0 { Ok(()) } else { Err(Failure::argument(format!("{name}.reserved is {value}, expected 0"))) }
}

/// The configuration that the caller's values make.
///
/// # Safety
/// The pointers of `o` are what the header asks for.
pub(crate) unsafe fn config(o: &undiffuse_schedule_options) -> Outcome<SchedulerConfig> {
    reserved(o.reserved, "undiffuse_schedule_options")?;
    let t = o.num_train_timesteps;
    let mut c = SchedulerConfig::new(SamplerKind::Ddpm);
    // SAFETY: the caller's promise.
    let given = unsafe { slice(o.trained_betas, o.trained_betas_len, "trained_betas") }?;
    let trained = (!given.is_empty()).then(|| given.to_vec());
    c.beta_schedule = match value(o.beta_schedule)? {
        UNDIFFUSE_BETAS_LINEAR => BetaSchedule::Linear,
        UNDIFFUSE_BETAS_SCALED_LINEAR => BetaSchedule::ScaledLinear,
        UNDIFFUSE_BETAS_SQUAREDCOS_CAP_V2 => BetaSchedule::SquaredcosCapV2,
        UNDIFFUSE_BETAS_SIGMOID => BetaSchedule::Sigmoid,
        UNDIFFUSE_BETAS_LAPLACE => BetaSchedule::Laplace,
        UNDIFFUSE_BETAS_EXP => BetaSchedule::Exp,
        UNDIFFUSE_BETAS_ERASING_EVENLY_2015 => BetaSchedule::ErasingEvenly,
        UNDIFFUSE_BETAS_AUTHORS_2015 => BetaSchedule::Authors2015,
    };
    if let Some(betas) = &trained
        && betas.len() != t
    {
        return Err(Failure::argument(format!("trained_betas_len is {}, num_train_timesteps is {t}", betas.len())));
    }
    (c.num_train_timesteps, c.trained_betas, c.beta_start, c.beta_end) = (t, trained, o.beta_start, o.beta_end);
    c.variance_type = match value(o.variance_type)? {
        UNDIFFUSE_VARIANCE_FIXED_SMALL => VarianceType::FixedSmall,
        UNDIFFUSE_VARIANCE_FIXED_SMALL_LOG => VarianceType::FixedSmallLog,
        UNDIFFUSE_VARIANCE_FIXED_LARGE => VarianceType::FixedLarge,
        UNDIFFUSE_VARIANCE_FIXED_LARGE_LOG => VarianceType::FixedLargeLog,
        UNDIFFUSE_VARIANCE_LEARNED => VarianceType::Learned,
        UNDIFFUSE_VARIANCE_LEARNED_RANGE => VarianceType::LearnedRange,
    };
    c.prediction_type = match value(o.prediction_type)? {
        UNDIFFUSE_PREDICTION_EPSILON => PredictionType::Epsilon,
        UNDIFFUSE_PREDICTION_SAMPLE => PredictionType::Sample,
        UNDIFFUSE_PREDICTION_V => PredictionType::VPrediction,
        UNDIFFUSE_PREDICTION_FLOW => PredictionType::Flow,
    };
    c.timestep_spacing = match value(o.timestep_spacing)? {
        UNDIFFUSE_SPACING_LEADING => TimestepSpacing::Leading,
        UNDIFFUSE_SPACING_LINSPACE => TimestepSpacing::Linspace,
        UNDIFFUSE_SPACING_TRAILING => TimestepSpacing::Trailing,
    };
    c.clip_sample = flag(o.clip_sample, "clip_sample")?;
    c.clip_sample_range = o.clip_sample_range;
    c.thresholding = flag(o.thresholding, "thresholding")?;
    c.dynamic_thresholding_ratio = o.dynamic_thresholding_ratio;
    c.sample_max_value = o.sample_max_value;
    c.steps_offset = o.steps_offset;
    c.rescale_betas_zero_snr = flag(o.rescale_betas_zero_snr, "rescale_betas_zero_snr")?;
    c.set_alpha_to_one = flag(o.set_alpha_to_one, "set_alpha_to_one")?;
    Ok(c)
}

/// A sampler that sessions share.
pub(crate) type SharedSampler = Arc<dyn Sampler + Send + Sync>;

/// The sampler of a configuration and a run's options.
///
/// # Safety
/// The pointers of `o` are what the header asks for.
pub(crate) unsafe fn sampler(config: &SchedulerConfig, o: &undiffuse_sampler_options) -> Outcome<SharedSampler> {
    // SAFETY: the caller's promise.
    let timesteps = unsafe { slice(o.timesteps, o.timesteps_len, "timesteps") }?;
    // SAFETY: as above.
    let sigmas = unsafe { slice(o.sigmas, o.sigmas_len, "sigmas") }?;
    let steps = match (o.steps, timesteps, sigmas) {
        (0, [], []) => None,
        (n, [], []) => Some(Steps::Count(n)),
        (0, list, []) => Some(Steps::Timesteps(list.to_vec())),
        (0, [], list) => Some(Steps::Sigmas(list.to_vec())),
        (_, _, []) => return Err(Failure::argument("steps and timesteps are both given")),
        _ => return Err(Failure::argument("sigmas are given, and steps or timesteps too")),
    };
    let compat = match value(o.compat)? {
        UNDIFFUSE_COMPAT_USUAL => Compat::Usual,
        UNDIFFUSE_COMPAT_DIFFUSERS => Compat::Diffusers,
        UNDIFFUSE_COMPAT_FIXED => Compat::Fixed,
    };
    let kind = value(o.kind)?;
    let chosen = sampler_kind(kind);
    // Steps without a kind are those of the configuration's own class.
    let of_its_own = [
        UNDIFFUSE_SAMPLER_REPAINT,
        UNDIFFUSE_SAMPLER_SPLIT_GIBBS,
        UNDIFFUSE_SAMPLER_DECOUPLED_ANNEALING,
        UNDIFFUSE_SAMPLER_INPUT_OPTIMIZATION,
    ];
    let of_its_own = of_its_own.contains(&kind);
    let given = steps.is_some() || of_its_own;
    let usual = SamplerOptions::default_for(config, if given { chosen.or(Some(config.class)) } else { chosen });
    let usual = usual.with_compat(compat);
    let run = SamplerOptions {
        steps: match steps {
            None if of_its_own => Steps::All,
            None => usual.steps,
            Some(steps) => steps,
        },
        order: if o.order == 0 { usual.order } else { Some(o.order) },
        eta: o.eta,
        rtol: o.rtol,
        atol: o.atol,
        ddim_noise: match value(o.ddim_noise)? {
            UNDIFFUSE_DDIM_NOISE_POSTERIOR => DdimNoise::Posterior,
            UNDIFFUSE_DDIM_NOISE_LEVEL => DdimNoise::Level,
        },
        use_clipped_model_output: flag(o.use_clipped_model_output, "use_clipped_model_output")?,
        ddim_previous: match value(o.ddim_previous)? {
            UNDIFFUSE_DDIM_PREVIOUS_DIFFUSERS => DdimPrevious::Diffusers,
            UNDIFFUSE_DDIM_PREVIOUS_NEXT => DdimPrevious::NextTimestep,
        },
        arithmetic: match value(o.arithmetic)? {
            UNDIFFUSE_ARITHMETIC_FLOAT32 => Arithmetic::Float32,
            UNDIFFUSE_ARITHMETIC_FLOAT64 => Arithmetic::Float64,
        },
        ..usual
    };
    let ending = match value(o.ending)? {
        UNDIFFUSE_ENDING_2015_MEAN => Ending2015::Mean,
        UNDIFFUSE_ENDING_2015_ORIGINAL => Ending2015::Original,
    };
    let readout = match value(o.readout)? {
        UNDIFFUSE_READOUT_2015_CODE => Readout2015::Code,
        UNDIFFUSE_READOUT_2015_PAPER => Readout2015::Paper,
        UNDIFFUSE_READOUT_2015_PREDICTION => Readout2015::Prediction(config.prediction_type),
    };
    let bit_prediction = match value(o.bit_prediction)? {
        UNDIFFUSE_BITS_PREVIOUS => BitPrediction::Previous,
        UNDIFFUSE_BITS_CLEAN => BitPrediction::Clean,
    };
    let logits = flag(o.logits, "logits")?;
    Ok(match run.sampler {
        _ if kind == UNDIFFUSE_SAMPLER_REPAINT => {
            let jumps = Jumps { length: o.jump_length, resamplings: o.resamplings };
            Arc::new(config.repaint(&run, jumps)?)
        }
        _ if kind == UNDIFFUSE_SAMPLER_SPLIT_GIBBS => {
            let ladder = Ladder {
                largest: o.ladder_largest,
                smallest: o.ladder_smallest,
                ratio: o.ladder_ratio,
                last: o.ladder_last,
            };
            Arc::new(config.split_gibbs(&run, &ladder)?)
        }
        _ if kind == UNDIFFUSE_SAMPLER_DECOUPLED_ANNEALING => Arc::new(config.decoupled_annealing(&run, o.flow_steps)?),
        _ if kind == UNDIFFUSE_SAMPLER_INPUT_OPTIMIZATION => {
            Arc::new(config.input_optimization(&run, o.gradient_steps)?)
        }
        // The configuration is of another class, so the options say what it cannot.
        Some(class) if class.is_2015() && class != config.class => {
            let chain_2015 = Chain2015 { readout, ending, pi: o.pi, bit_prediction, logits, ..config.chain_2015 };
            let config = SchedulerConfig { class, chain_2015, ..config.clone() };
            Arc::from(config.sampler(&run)?)
        }
        _ => Arc::from(config.sampler(&run)?),
    })
}

/// The text and length of an option, if it was given.
pub(crate) unsafe fn scheduler_option(json: *const c_char, len: usize) -> Outcome<Option<SchedulerConfig>> {
    if json.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { text(json, len, "scheduler_json") }?;
    Ok(Some(SchedulerConfig::from_json(text).map_err(|e| e.context("scheduler_json"))?))
}
