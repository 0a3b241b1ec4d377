//! Evidence r in p(x) r(x): measurements, gradients of log r, bits and classes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::mem::MaybeUninit;

use undiffuse::error::check_finite;
use undiffuse::posterior::operator::{ForwardOperator, LinearOperator};
use undiffuse::posterior::{
    Algorithm, BitProduct, BitSchedule, Calibrated, CalibratedClasses, CalibratedWhite, Clamp, ClassProduct,
    ClassSchedule, Daps, DapsOptions, Ddnm, Ddrm, DiffPir, Dps, Evidence, ExactProduct, Fps, FpsOptions,
    IndependentBits, IndependentClasses, Known, KnownPixels, Mcg, MeanShift, Measurement, Misfit, OptimalVariance,
    Pigdm, PigdmRule, RSchedule, RedDiff, Sitcom, SitcomOptions, SplitGibbs, SplitGibbsOptions, Tmpd,
};
use undiffuse::process::{Binomial, Categorical};
use undiffuse::sampler::DdimNoise;

use crate::enums::undiffuse_ddim_noise::*;
use crate::enums::undiffuse_known::{self, *};
use crate::enums::undiffuse_method::{self, *};
use crate::enums::undiffuse_misfit::{self, *};
use crate::enums::undiffuse_pigdm_rule::{self, *};
use crate::enums::undiffuse_r_schedule::{self, *};
use crate::enums::undiffuse_sampler_kind::*;
use crate::gradient::{self, HostBits, undiffuse_bit_evidence, undiffuse_gradient_evidence};
use crate::guard::{Handle, free_handle, ok, opaque, output, read, slice, slice_mut, void};
use crate::model::undiffuse_model;
use crate::operator::{Operator, undiffuse_operator};
use crate::options::{flag, give, init, options, options_or_defaults, sized, value};
use crate::recipe::{BoxedEvidence, Recipe, r_schedule};
use crate::sampler::undiffuse_sampler;
use crate::schedule::undiffuse_sampler_options;
use crate::status::undiffuse_status::UNDIFFUSE_UNSUPPORTED;
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};

/// The inner side of an `undiffuse_evidence`.
pub(crate) struct Recipes {
    recipe: Arc<dyn Recipe>,
    /// DDRM has a beginning of its own.
    ddrm: Option<Ddrm<Shared>>,
}

impl Recipes {
    pub fn make(&self) -> Outcome<BoxedEvidence> {
        self.recipe.make()
    }

    fn of(recipe: impl Recipe + 'static) -> Self {
        Self { recipe: Arc::new(recipe), ddrm: None }
    }
}

/// Evidence r: sessions made with it sample from p(x) r(x). It is never changed, so any number of threads and sessions
/// may use one at once. Sessions keep what they need of it: you may free it before them.
pub struct undiffuse_evidence(Handle<Recipes>);

opaque!(undiffuse_evidence, "evidence", Recipes);

/// A noisy measurement y = A x_0 + sigma n with n standard normal, in the units of the model's samples.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_measurement {
    /// sizeof(undiffuse_measurement).
    pub struct_size: usize,
    /// A. Kept by the evidence; you may free your handle afterwards.
    pub op: *const undiffuse_operator,
    /// What was measured: m floats for all samples, or [rows, m] with `each`. Copied.
    pub y: *const f32,
    /// Floats at `y`.
    pub y_len: usize,
    /// The standard deviation of the measurement's noise; 0 for none, which some methods need and others refuse.
    pub sigma: f64,
    /// With `each`: the number of the sample that the first row belongs to.
    pub first_sample: u64,
    /// 1: row i of `y` belongs to sample first_sample + i; 0: one measurement for all samples.
    pub each: u32,
    /// Must be 0.
    pub reserved: u32,
}

sized!(undiffuse_measurement {
    op: core::ptr::null(),
    y: core::ptr::null(),
    y_len: 0,
    sigma: 0.0,
    first_sample: 0,
    each: 0,
    reserved: 0,
});

/// How a measurement is used. A method reads the fields that its description names.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_method_options {
    /// sizeof(undiffuse_method_options); set by undiffuse_method_options_init.
    pub struct_size: usize,
    /// The method.
    pub method: MaybeUninit<undiffuse_method>,
    /// DPS.
    pub misfit: MaybeUninit<undiffuse_misfit>,
    /// PiGDM.
    pub pigdm_rule: MaybeUninit<undiffuse_pigdm_rule>,
    /// Clamp.
    pub known: MaybeUninit<undiffuse_known>,
    /// Exact product and mean shift.
    pub r_schedule: MaybeUninit<undiffuse_r_schedule>,
    /// Must be 0.
    pub reserved: u32,
    /// Calibrated: vector-Jacobian products a step; 1 to 5 are enough for images.
    pub iterations: usize,
    /// Calibrated for a white prior: the variance of the data's elements.
    pub variance: f64,
    /// DPS and MCG: the length of a step, above 0; published are 0.3 to 0.5.
    pub zeta: f64,
    /// DiffPIR: the weight of the model against the measurement, above 0.
    pub lambda: f64,
    /// DDRM: 0 to 1.
    pub eta_b: f64,
    /// Calibrated: vector-Jacobian products a step for the covariance of the step, 0 to 16. With 0 the step has the
    /// sampler's own variance, far too small in few steps (0.44 of a Gaussian posterior's in 36 calls); with 1, the
    /// default, it has the right trace, which suits networks best; with 2 the right variance in every direction where
    /// the denoiser is exact.
    pub variance_products: usize,
    /// Split Gibbs: K samples are weighed against one another, at least 1; samples i K to i K + K - 1 are a group, and
    /// batches hold whole ones.
    pub ensemble: usize,
    /// Split Gibbs: vector-Jacobian products a step, 1 to 16; 2 are right where the denoiser is exact.
    pub prior_products: usize,
    /// Split Gibbs: sigma / alpha of the first return into noise.
    pub ladder_largest: f64,
    /// Split Gibbs: the fall from one return to the next, below 1; 0 for one that follows from the number of measured
    /// values.
    pub ladder_ratio: f64,
    /// Split Gibbs: how often the last return is made, at least 1.
    pub ladder_last: usize,
    /// DAPS: steps of Langevin dynamics at each level, 1 to 1,000,000; no network is called.
    pub langevin_steps: usize,
    /// DAPS: the length of these steps at the first level, as a fraction of the inverse of the largest curvature, above
    /// 0 and below 2.
    pub langevin_length: f64,
    /// DAPS: what the length has fallen to at the last level, as a fraction, above 0 and at most 1.
    pub langevin_decay: f64,
    /// DAPS: network calls from each level to x_0, at least 1; for undiffuse_evidence_recommend_sampler.
    pub flow_steps: usize,
    /// RED-diff: Adam's rate, above 0.
    pub rate: f64,
    /// RED-diff: the weight of the model against the measurement, above 0.
    pub red_diff_lambda: f64,
    /// SITCOM: the most gradient steps at each level, 1 to 100,000, a network call and a VJP each.
    pub gradient_steps: usize,
    /// SITCOM: Adam's rate, above 0.
    pub sitcom_rate: f64,
    /// SITCOM: the weight of the distance from x_t, 0 or above.
    pub sitcom_lambda: f64,
    /// SITCOM: a level's steps end where |y - A x_0| is below this times sqrt(m), 0 or above; below 0 for the noise of
    /// y and 0.001 more.
    pub sitcom_stop: f64,
    /// FPS: the particles that are weighed against one another, at least 1; samples i M to i M + M - 1 are a group, and
    /// batches hold whole ones.
    pub fps_ensemble: usize,
}

sized!(undiffuse_method_options {
    method: MaybeUninit::new(UNDIFFUSE_METHOD_CALIBRATED),
    misfit: MaybeUninit::new(UNDIFFUSE_MISFIT_GAUSSIAN),
    pigdm_rule: MaybeUninit::new(UNDIFFUSE_PIGDM_PUBLISHED),
    known: MaybeUninit::new(UNDIFFUSE_KNOWN_CLEAN),
    r_schedule: MaybeUninit::new(UNDIFFUSE_R_CONSTANT),
    reserved: 0,
    iterations: 2,
    variance: 1.0,
    zeta: 0.5,
    lambda: 1.0,
    eta_b: 1.0,
    variance_products: 1,
    ensemble: 64,
    prior_products: 2,
    ladder_largest: 1.0,
    ladder_ratio: 0.0,
    ladder_last: 2,
    langevin_steps: 100,
    langevin_length: 0.5,
    langevin_decay: 0.1,
    flow_steps: 4,
    rate: 0.1,
    red_diff_lambda: 0.25,
    gradient_steps: 20,
    sitcom_rate: 0.02,
    sitcom_lambda: 1.0,
    sitcom_stop: -1.0,
    fps_ensemble: 5,
});

/// Fills options with the defaults: calibrated evidence with 2 iterations and 1 product for the variance, and the
/// published constants of the others. `struct_size` is sizeof(undiffuse_method_options) as your program was compiled.
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_method_options_init(
    options: *mut undiffuse_method_options,
    struct_size: usize,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { ok(core::ptr::null_mut(), || init(options, struct_size)) }
}

type Shared = Arc<dyn LinearOperator + Send + Sync>;

fn measure<O: ForwardOperator>(operator: O, y: &[f32], m: &undiffuse_measurement) -> Outcome<Measurement<O>> {
    Ok(if flag(m.each, "each")? {
        Measurement::each(operator, y, m.first_sample, m.sigma)?
    } else if m.sigma == 0.0 {
        Measurement::exact(operator, y)?
    } else {
        Measurement::new(operator, y, m.sigma)?
    })
}

/// Makes evidence of a measurement.
///
/// `options` may be NULL for the defaults; both structs are read during the call, the measured values are copied. On
/// success *evidence is yours; free it with undiffuse_evidence_free.
///
/// Status: UNDIFFUSE_SHAPE, UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_NON_FINITE, UNDIFFUSE_UNSUPPORTED where operator and
/// method do not suit each other. Whether the method suits a sampler and a model is checked when a session is made. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_evidence_from_measurement(
    measurement: *const undiffuse_measurement,
    options: *const undiffuse_method_options,
    evidence: *mut *mut undiffuse_evidence,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(evidence, "evidence")?;
            let m = self::options(measurement)?;
            let o = options_or_defaults(options)?;
            if m.reserved != 0 || o.reserved != 0 {
                return Err(Failure::argument("undiffuse_measurement or undiffuse_method_options: reserved is not 0"));
            }
            let operator = read(m.op)?;
            let y = slice(m.y, m.y_len, "y")?;
            out.give_handle(method(&operator, y, &m, &o)?)
        })
    }
}

fn method(operator: &Operator, y: &[f32], m: &undiffuse_measurement, o: &undiffuse_method_options) -> Outcome<Recipes> {
    let shared = || measure(Arc::clone(operator.linear()?), y, m);
    let any = || measure(Arc::clone(&operator.forward), y, m);
    let misfit = match value(o.misfit)? {
        UNDIFFUSE_MISFIT_GAUSSIAN => Misfit::Gaussian,
        UNDIFFUSE_MISFIT_POISSON => Misfit::Poisson,
        UNDIFFUSE_MISFIT_LAPLACE => Misfit::Laplace,
    };
    let rule = match value(o.pigdm_rule)? {
        UNDIFFUSE_PIGDM_PUBLISHED => PigdmRule::Published,
        UNDIFFUSE_PIGDM_SCORE => PigdmRule::Score,
    };
    let known = match value(o.known)? {
        UNDIFFUSE_KNOWN_CLEAN => Known::Clean,
        UNDIFFUSE_KNOWN_RENOISED => Known::Renoised,
    };
    let schedule = r_schedule(o.r_schedule)?;
    let with_ddrm = |d: Ddrm<Shared>| Recipes { recipe: Arc::new(d.clone()), ddrm: Some(d) };
    Ok(match value(o.method)? {
        UNDIFFUSE_METHOD_CALIBRATED => {
            Recipes::of(Calibrated::new(shared()?, o.iterations)?.with_variance_products(o.variance_products)?)
        }
        UNDIFFUSE_METHOD_CALIBRATED_WHITE => Recipes::of(CalibratedWhite::new(shared()?, o.variance)?),
        UNDIFFUSE_METHOD_DPS => Recipes::of(Dps::new(any()?, o.zeta, misfit)?),
        UNDIFFUSE_METHOD_MCG => Recipes::of(Mcg::new(shared()?, o.zeta)?),
        UNDIFFUSE_METHOD_PIGDM => Recipes::of(Pigdm::new(shared()?, rule)?),
        UNDIFFUSE_METHOD_TMPD => Recipes::of(Tmpd::new(shared()?)?),
        UNDIFFUSE_METHOD_DDRM => with_ddrm(Ddrm::new(shared()?, o.eta_b)?),
        UNDIFFUSE_METHOD_DDNM => Recipes::of(Ddnm::new(shared()?)?),
        UNDIFFUSE_METHOD_DDNM_PLUS => with_ddrm(Ddrm::ddnm_plus(shared()?)?),
        UNDIFFUSE_METHOD_DIFFPIR => Recipes::of(DiffPir::new(shared()?, o.lambda)?),
        UNDIFFUSE_METHOD_REPAINT => {
            let mask = operator.mask.clone();
            let mask =
                mask.ok_or_else(|| Failure::new(UNDIFFUSE_UNSUPPORTED, "RePaint needs a mask as its operator"))?;
            Recipes::of(KnownPixels::new(measure(mask, y, m)?)?)
        }
        UNDIFFUSE_METHOD_CLAMP => Recipes::of(Clamp::new(shared()?, known)?),
        UNDIFFUSE_METHOD_EXACT_PRODUCT => Recipes::of(ExactProduct::new(shared()?, schedule)?),
        UNDIFFUSE_METHOD_MEAN_SHIFT => Recipes::of(MeanShift::new(shared()?, schedule)),
        UNDIFFUSE_METHOD_SPLIT_GIBBS => {
            let options = SplitGibbsOptions {
                ensemble: o.ensemble,
                products: o.prior_products,
                largest: o.ladder_largest,
                ratio: if o.ladder_ratio == 0.0 { None } else { Some(o.ladder_ratio) },
                last: o.ladder_last,
            };
            Recipes::of(SplitGibbs::new(shared()?, &options)?)
        }
        UNDIFFUSE_METHOD_DAPS => {
            let options = DapsOptions {
                langevin_steps: o.langevin_steps,
                langevin_length: o.langevin_length,
                decay: o.langevin_decay,
                flow_steps: o.flow_steps,
            };
            Recipes::of(Daps::new(any()?, &options)?)
        }
        UNDIFFUSE_METHOD_RED_DIFF => Recipes::of(RedDiff::new(any()?, o.rate, o.red_diff_lambda)?),
        UNDIFFUSE_METHOD_SITCOM => {
            let options = SitcomOptions {
                gradient_steps: o.gradient_steps,
                rate: o.sitcom_rate,
                lambda: o.sitcom_lambda,
                stop: (o.sitcom_stop >= 0.0 || !o.sitcom_stop.is_finite()).then_some(o.sitcom_stop),
            };
            Recipes::of(Sitcom::new(any()?, &options)?)
        }
        UNDIFFUSE_METHOD_FPS => Recipes::of(Fps::new(shared()?, &FpsOptions { ensemble: o.fps_ensemble })?),
    })
}

/// Makes what is no evidence but goes where evidence goes: samples of the model itself, whose steps have the covariance
/// that steps of their length should have, from `variance_products` vector-Jacobian products a step, 1 to 16; 2 are
/// enough. With it a chain of few steps has the variances of one of a thousand, whatever `variance_type` the model was
/// saved with. For DDPM, DDIM and RePaint's sampler.
///
/// On success *evidence is yours; free it with undiffuse_evidence_free. Status: UNDIFFUSE_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_evidence_optimal_variance(
    variance_products: usize,
    evidence: *mut *mut undiffuse_evidence,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(evidence, "evidence")?;
            out.give_handle(Recipes::of(OptimalVariance::new(variance_products)?))
        })
    }
}

/// Makes evidence of your own: a function that gives the gradient of log r.
///
/// `gradient` is read during the call; its `user_data` must live until the evidence and all sessions made with it are
/// freed. Otherwise as undiffuse_evidence_from_measurement.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_evidence_from_gradient(
    gradient: *const undiffuse_gradient_evidence,
    evidence: *mut *mut undiffuse_evidence,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(evidence, "evidence")?;
            let recipe = gradient::recipe(&options(gradient)?)?;
            out.give_handle(Recipes { recipe, ddrm: None })
        })
    }
}

/// Makes evidence for a binary chain: about each bit by itself, or by a function. `bits` is read during the call,
/// `odds` are copied. Otherwise as undiffuse_evidence_from_measurement.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_evidence_from_bits(
    bits: *const undiffuse_bit_evidence,
    evidence: *mut *mut undiffuse_evidence,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(evidence, "evidence")?;
            let o = options(bits)?;
            if let Some(host) = HostBits::new(&o)? {
                return out.give_handle(Recipes::of(host));
            }
            let odds = slice(o.odds, o.odds_len, "odds")?;
            let schedule = match value(o.r_schedule)? {
                UNDIFFUSE_R_CONSTANT => BitSchedule::Paper(RSchedule::Constant),
                UNDIFFUSE_R_RAMP => BitSchedule::Paper(RSchedule::Ramp),
                UNDIFFUSE_R_WHITE => BitSchedule::White(Binomial::new(if o.pi == 0.0 { 0.5 } else { o.pi })?),
            };
            out.give_handle(Recipes::of(Bits(IndependentBits::new(odds, schedule)?)))
        })
    }
}

/// Evidence for a chain of classes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_class_evidence {
    /// sizeof(undiffuse_class_evidence).
    pub struct_size: usize,
    /// r of each class at each position of x_0, [positions, class_count], at least 0 and one of a position above 0; all
    /// alike where nothing is known. Copied.
    pub weights: *const f32,
    /// How many.
    pub weights_len: usize,
    /// Classes, the mask among them: undiffuse_sampler_info.class_count.
    pub class_count: u32,
    /// How the weights depend on the level. With a mask UNDIFFUSE_R_WHITE.
    pub r_schedule: MaybeUninit<undiffuse_r_schedule>,
    /// With UNDIFFUSE_R_WHITE: 1 if the chain has a mask, which is `mask_class`.
    pub has_mask: u32,
    /// The mask.
    pub mask_class: u32,
    /// 1: it is the predicted x_0 that is multiplied, the better for a network that predicts x_0 well; 0: the step.
    pub calibrated: u32,
    /// Must be 0.
    pub reserved: u32,
}

sized!(undiffuse_class_evidence {
    weights: core::ptr::null(),
    weights_len: 0,
    class_count: 0,
    r_schedule: MaybeUninit::new(UNDIFFUSE_R_CONSTANT),
    has_mask: 0,
    mask_class: 0,
    calibrated: 0,
    reserved: 0,
});

/// Makes evidence for a chain of classes: about each position by itself. `classes` is read during the call, `weights`
/// are copied. Otherwise as undiffuse_evidence_from_measurement.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_evidence_from_classes(
    classes: *const undiffuse_class_evidence,
    evidence: *mut *mut undiffuse_evidence,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(evidence, "evidence")?;
            let o = options(classes)?;
            if o.reserved != 0 {
                return Err(Failure::argument("undiffuse_class_evidence.reserved is not 0"));
            }
            let (count, mask) = (o.class_count as usize, o.mask_class as usize);
            let has_mask = flag(o.has_mask, "has_mask")?;
            let schedule = match value(o.r_schedule)? {
                UNDIFFUSE_R_CONSTANT => ClassSchedule::Paper(RSchedule::Constant),
                UNDIFFUSE_R_RAMP => ClassSchedule::Paper(RSchedule::Ramp),
                UNDIFFUSE_R_WHITE if has_mask => ClassSchedule::White(Categorical::absorbing(count, mask)?),
                UNDIFFUSE_R_WHITE => ClassSchedule::White(Categorical::uniform(count)?),
            };
            let weights = slice(o.weights, o.weights_len, "weights")?;
            let known = IndependentClasses::new(count, weights, schedule)?;
            out.give_handle(Recipes::of(Classes { known, calibrated: flag(o.calibrated, "calibrated")? }))
        })
    }
}

struct Classes {
    known: IndependentClasses,
    calibrated: bool,
}

impl Recipe for Classes {
    fn make(&self) -> Outcome<BoxedEvidence> {
        Ok(match self.calibrated {
            true => Box::new(CalibratedClasses::new(self.known.clone())),
            false => Box::new(ClassProduct::new(self.known.clone())),
        })
    }
}

struct Bits(IndependentBits);

impl Recipe for Bits {
    fn make(&self) -> Outcome<BoxedEvidence> {
        Ok(Box::new(BitProduct::new(self.0.clone())))
    }
}

/// Chooses the sampler that the evidence is best run with on a model: the one its method was published with; for
/// calibrated evidence RePaint's jumps, with which digits were restored best; DDPM's every step for evidence that
/// nothing is known of.
///
/// *options, which you have initialised, gets `kind` and `steps` and, of `eta`, `ddim_noise`, `jump_length`,
/// `resamplings`, `flow_steps`, `gradient_steps` and what begins with `ladder`, those that the kind reads; the rest
/// stays. DiffPIR's is for inpainting: for super-resolution it was published with an `eta` of 0.5, for deblurring of
/// 0.316. A model of 2015 or of bits has its own chain, whatever the evidence. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_evidence_recommend_sampler(
    evidence: *const undiffuse_evidence,
    model: *const undiffuse_model,
    options: *mut undiffuse_sampler_options,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let usual = read(evidence)?.make()?.recommended();
            let scheduler = read(model)?.scheduler(UNDIFFUSE_SAMPLER_DDPM)?;
            let mut o = self::options(options.cast_const())?;
            if scheduler.class.has_own_class() {
                (o.kind, o.steps) = (MaybeUninit::new(UNDIFFUSE_SAMPLER_OF_SCHEDULE), 0);
                return give(options, &o);
            }
            o.steps = usual.steps.map_or(0, |n| n.min(scheduler.num_train_timesteps));
            o.kind = MaybeUninit::new(match usual.algorithm {
                Algorithm::Ddpm => UNDIFFUSE_SAMPLER_DDPM,
                Algorithm::Ddim { eta, noise } => {
                    o.eta = eta;
                    o.ddim_noise = MaybeUninit::new(match noise {
                        DdimNoise::Posterior => UNDIFFUSE_DDIM_NOISE_POSTERIOR,
                        DdimNoise::Level => UNDIFFUSE_DDIM_NOISE_LEVEL,
                    });
                    UNDIFFUSE_SAMPLER_DDIM
                }
                Algorithm::RePaint(jumps) => {
                    (o.jump_length, o.resamplings) = (jumps.length, jumps.resamplings);
                    UNDIFFUSE_SAMPLER_REPAINT
                }
                Algorithm::SplitGibbs(ladder) => {
                    (o.ladder_largest, o.ladder_smallest) = (ladder.largest, ladder.smallest);
                    (o.ladder_ratio, o.ladder_last) = (ladder.ratio, ladder.last);
                    UNDIFFUSE_SAMPLER_SPLIT_GIBBS
                }
                Algorithm::DecoupledAnnealing { flow_steps } => {
                    o.flow_steps = flow_steps;
                    UNDIFFUSE_SAMPLER_DECOUPLED_ANNEALING
                }
                Algorithm::InputOptimization { gradient_steps } => {
                    o.gradient_steps = gradient_steps;
                    UNDIFFUSE_SAMPLER_INPUT_OPTIMIZATION
                }
            });
            give(options, &o)
        })
    }
}

/// Turns standard normal noise into the x_T that DDRM and DDNM+ begin with, in place: `x` are `len` floats of whole
/// samples, the first of them number `first_sample`. Give it to undiffuse_session_start_from with step 0.
///
/// Status: UNDIFFUSE_UNSUPPORTED for evidence without a beginning of its own, UNDIFFUSE_NON_FINITE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_evidence_start(
    evidence: *const undiffuse_evidence,
    sampler: *const undiffuse_sampler,
    first_sample: u64,
    x: *mut f32,
    len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let (evidence, sampler) = (read(evidence)?, read(sampler)?);
            let none = || Failure::new(UNDIFFUSE_UNSUPPORTED, "only DDRM and DDNM+ have a beginning of their own");
            let ddrm = evidence.ddrm.as_ref().ok_or_else(none)?;
            let level = sampler.levels().first().ok_or_else(|| Failure::argument("the sampler has no step"))?;
            let x = slice_mut(x, len, "x")?;
            check_finite("x", x)?;
            ddrm.start(level, first_sample, x)?;
            Ok(check_finite("the x to begin with", x)?)
        })
    }
}

/// Frees evidence. Sessions made with it stay usable. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_evidence_free(evidence: *mut undiffuse_evidence) {
    // SAFETY: as above.
    void(|| unsafe { free_handle(evidence) });
}
