//! Evaluation: a lower bound on the log-likelihood of data.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::mem::MaybeUninit;

use undiffuse::denoiser::Denoiser;
use undiffuse::evaluate::{Bound, BoundOptions, Edges, StepBound, Times, bound_with};
use undiffuse::noise::Seeded;

use crate::callbacks::{Shared, undiffuse_level};
use crate::cancel::undiffuse_cancel;
use crate::enums::undiffuse_edges::{self, *};
use crate::guard::{Handle, fill, free_handle, ok, opaque, output, read, slice, void};
use crate::model::{Network, undiffuse_model};
use crate::options::{give, init, options_or_defaults, sized, value};
use crate::sampler::undiffuse_sampler;
use crate::session::UserData;
use crate::status::{Failure, undiffuse_error, undiffuse_status};
use crate::threads::{threads, undiffuse_threads};

/// Called after each network call of an evaluation, on the calling thread: `done` of `total` rows have gone through the
/// network. To stop, set the cancel flag.
pub type undiffuse_bound_progress_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64)>;

/// How a bound is evaluated.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_bound_options {
    /// sizeof(undiffuse_bound_options); set by undiffuse_bound_options_init.
    pub struct_size: usize,
    /// How the two ends of the chain enter the bound.
    pub edges: MaybeUninit<undiffuse_edges>,
    /// Grey levels, evenly over -1 to 1, where the ends are UNDIFFUSE_EDGES_DISCRETIZED; 2 or more.
    pub levels: u32,
    /// At how many steps, chosen anew for each data point, the divergence is evaluated; 0 for all.
    pub sampled_steps: usize,
    /// Number of draws of x_t for each data point and step, at least 1; monte_carlo_error needs at least 2.
    pub draws: usize,
    /// Rows of one network call, at least 1. The result does not depend on it.
    pub batch: usize,
    /// The number of the first data point, which keys its noise: a part of a data set gives what the whole would.
    pub first_sample: u64,
    /// The seed of the noise.
    pub seed: u64,
    /// As in undiffuse_session_options.
    pub thread_count: usize,
    /// As in undiffuse_session_options.
    pub threads: *const undiffuse_threads,
    /// As in undiffuse_session_options.
    pub cancel: *mut undiffuse_cancel,
    /// Called after each network call, or NULL.
    pub progress: undiffuse_bound_progress_fn,
    /// Passed to `progress`.
    pub progress_user_data: *mut c_void,
    /// As in undiffuse_session_options.
    pub classes: *const f32,
    /// Floats at `classes`.
    pub classes_len: usize,
}

sized!(undiffuse_bound_options {
    edges: MaybeUninit::new(UNDIFFUSE_EDGES_ENTROPIES),
    levels: 256,
    sampled_steps: 0,
    draws: 1,
    batch: 32,
    first_sample: 0,
    seed: 0,
    thread_count: 0,
    threads: core::ptr::null(),
    cancel: core::ptr::null_mut(),
    progress: None,
    progress_user_data: core::ptr::null_mut(),
    classes: core::ptr::null(),
    classes_len: 0,
});

/// What an evaluation found. All values are nats per sample (divide by log(2) and sample_len for bits per dimension);
/// k = -(kl + start - end + prior) is the bound.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_bound_info {
    /// sizeof(undiffuse_bound_info); you set it before the call.
    pub struct_size: usize,
    /// Data points.
    pub count: usize,
    /// Floats of one.
    pub sample_len: usize,
    /// K, averaged over the data points.
    pub k: f64,
    /// Its standard error as an estimate for the distribution that the data come from; NaN for one data point.
    pub standard_error: f64,
    /// The part of it that more draws would remove; NaN for a single draw.
    pub monte_carlo_error: f64,
    /// What white data would have; k - l_null is what the chain learned.
    pub l_null: f64,
    /// The sum of the divergences.
    pub kl: f64,
    /// Minus the mean of log p(x_0 | x_1).
    pub start: f64,
    /// The entropy of q(x_T | x_0).
    pub end: f64,
    /// Minus the mean of log p(x_T).
    pub prior: f64,
    /// Network calls.
    pub calls: u64,
    /// Rows in them.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
}

sized!(undiffuse_bound_info {
    count: 0,
    sample_len: 0,
    k: 0.0,
    standard_error: 0.0,
    monte_carlo_error: 0.0,
    l_null: 0.0,
    kl: 0.0,
    start: 0.0,
    end: 0.0,
    prior: 0.0,
    calls: 0,
    rows: 0,
    seconds: 0.0,
});

/// One step of a bound, nats per sample. It stands in arrays, so it never grows; undiffuse_bound_step_info can.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_step_bound {
    /// The level of x_t.
    pub level: undiffuse_level,
    /// KL(q(x_s | x_t, x_0) || p(x_s | x_t)), averaged over the rows seen; 0 if there were none.
    pub kl: f64,
    /// The entropy of p(x_s | x_t), averaged likewise; a chain that fits its data keeps it between the two bounds.
    pub entropy: f64,
    /// The lower bound on the entropy of q(x_s | x_t).
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Rows seen at this step.
    pub rows: u64,
}

/// One step of a bound, in a struct that can grow; the values are nats per sample.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_bound_step_info {
    /// sizeof(undiffuse_bound_step_info); you set it before the call.
    pub struct_size: usize,
    /// The step's values.
    pub step: undiffuse_step_bound,
}

sized!(undiffuse_bound_step_info {
    step: undiffuse_step_bound {
        level: undiffuse_level { timestep: 0.0, alpha: 0.0, sigma: 0.0 },
        kl: 0.0,
        entropy: 0.0,
        lower: 0.0,
        upper: 0.0,
        rows: 0,
    },
});

/// A bound and what it consists of. It is never changed, so any number of threads may read one at once.
pub struct undiffuse_bound(Handle<Bound>);

opaque!(undiffuse_bound, "bound", Bound);

/// Fills options with the defaults: all steps, one draw, the paper's ends. `struct_size` is
/// sizeof(undiffuse_bound_options) as your program was compiled. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_bound_options_init(
    options: *mut undiffuse_bound_options,
    struct_size: usize,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { ok(core::ptr::null_mut(), || init(options, struct_size)) }
}

/// Evaluates a lower bound K <= log p(data) of the chain that `sampler` makes of `model` (Sohl-Dickstein et al. 2015,
/// Eqs. 10 to 15).
///
/// `data` are `data_len` floats of whole samples, in the scale that the model was trained on; bits are 0 or 1. The
/// sampler must draw each step from a density: a 2015 chain or DDPM, not DDIM; NULL is the model's own with all its
/// steps. `options` may be NULL for the defaults. Memory, about batch (3 sample_len + output_len) floats and count
/// (draws + 2) doubles beside the network's own, comes from malloc. On success *bound is yours; free it with
/// undiffuse_bound_free.
///
/// Status: UNDIFFUSE_SHAPE, UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_UNSUPPORTED, UNDIFFUSE_NON_FINITE,
/// UNDIFFUSE_CANCELLED, UNDIFFUSE_OUT_OF_MEMORY, UNDIFFUSE_CALLBACK. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_bound_new(
    model: *const undiffuse_model,
    sampler: *const undiffuse_sampler,
    options: *const undiffuse_bound_options,
    data: *const f32,
    data_len: usize,
    bound: *mut *mut undiffuse_bound,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(bound, "bound")?;
            let o = options_or_defaults(options)?;
            let model = read(model)?;
            let sampler = model.sampler_or_own(sampler)?;
            let data = slice(data, data_len, "data")?;
            let classes = slice(o.classes, o.classes_len, "classes")?;
            model.check_classes(classes, "undiffuse_bound_options.classes")?;
            let cancel = undiffuse_cancel::shared(o.cancel);
            let times = if o.sampled_steps == 0 { Times::All } else { Times::Sampled(o.sampled_steps) };
            let edges = match value(o.edges)? {
                UNDIFFUSE_EDGES_ENTROPIES => Edges::Entropies,
                UNDIFFUSE_EDGES_WHITE => Edges::White,
                UNDIFFUSE_EDGES_NETWORK => Edges::Network,
                UNDIFFUSE_EDGES_DISCRETIZED => Edges::Discretized { levels: o.levels },
            };
            let mut denoiser: Box<dyn Denoiser> = match &model.network {
                Network::Pipeline(_) => {
                    let pipeline = model.on_threads(threads(o.threads, o.thread_count)?)?;
                    Box::new(pipeline.denoiser(o.batch, classes)?)
                }
                Network::Host(h) => Box::new(Shared(alloc::sync::Arc::clone(h))),
            };
            let bound_options =
                BoundOptions { times, draws: o.draws, edges, batch: o.batch, first_sample: o.first_sample };
            let user_data = UserData(o.progress_user_data);
            let mut observe = |p: undiffuse::evaluate::Progress| {
                if let Some(progress) = o.progress {
                    progress(user_data.0, p.done, p.total);
                }
            };
            let report = bound_with(
                &mut *denoiser,
                &sampler,
                &mut Seeded::new(o.seed),
                data,
                &bound_options,
                &cancel,
                &mut observe,
            )?;
            out.give_handle(report)
        })
    }
}

/// Writes what the evaluation found to *info, whose struct_size you set. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_bound_get_info(
    bound: *const undiffuse_bound,
    info: *mut undiffuse_bound_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let b = read(bound)?;
            let i = undiffuse_bound_info {
                struct_size: 0,
                count: b.samples,
                sample_len: b.dims,
                k: b.k,
                standard_error: b.standard_error,
                monte_carlo_error: b.monte_carlo_error,
                l_null: b.l_null,
                kl: b.kl,
                start: b.start,
                end: b.end,
                prior: b.prior,
                calls: b.calls,
                rows: b.rows,
                seconds: b.seconds,
            };
            give(info, &i)
        })
    }
}

/// K of each data point. With the paper's ends only the mean is a bound.
///
/// With a NULL `k`, *len is set to their number. Otherwise *len is the size of `k`, and is set to the number written.
/// Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the required length. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_bound_per_sample(
    bound: *const undiffuse_bound,
    k: *mut f64,
    len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { ok(error, || fill(("k", k), len, &read(bound)?.per_sample)) }
}

/// The steps that have a divergence, from the noisiest on. As undiffuse_bound_per_sample. What later versions tell of a
/// step is in undiffuse_bound_get_step_info.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_bound_steps(
    bound: *const undiffuse_bound,
    steps: *mut undiffuse_step_bound,
    len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let b = read(bound)?;
            let list: Vec<undiffuse_step_bound> = b.steps.iter().map(step_bound).collect();
            fill(("steps", steps), len, &list)
        })
    }
}

/// Writes step `index`, counted as undiffuse_bound_steps lists them, to *info, whose struct_size you set. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_bound_get_step_info(
    bound: *const undiffuse_bound,
    index: usize,
    info: *mut undiffuse_bound_step_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let b = read(bound)?;
            let missing =
                || Failure::argument(format!("step {index} of a bound with {} does not exist", b.steps.len()));
            let step = step_bound(b.steps.get(index).ok_or_else(missing)?);
            give(info, &undiffuse_bound_step_info { struct_size: 0, step })
        })
    }
}

fn step_bound(s: &StepBound) -> undiffuse_step_bound {
    undiffuse_step_bound {
        level: s.level.into(),
        kl: s.kl,
        entropy: s.entropy,
        lower: s.lower,
        upper: s.upper,
        rows: s.rows,
    }
}

/// Frees a bound. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_bound_free(bound: *mut undiffuse_bound) {
    // SAFETY: as above.
    void(|| unsafe { free_handle(bound) });
}
