//! The bare sampler: steps without a model.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_char;

use undiffuse::error::check_finite;
use undiffuse::posterior::Evidence;
use undiffuse::sampler::{SamplerOptions, SchedulerConfig, StateSpace, StepIo, start_of_strength};

use crate::callbacks::undiffuse_level;
use crate::enums::undiffuse_sampler_kind::{self, *};
use crate::guard::{
    Handle, check_apart, fill, free_handle, ok, opaque, output, read, read_optional, slice, slice_mut, text, void,
};
use crate::memory::scratch;
use crate::model::{Model, undiffuse_model};
use crate::options::{give, options, options_or_defaults, sized, value};
use crate::recipe::BoxedEvidence;
use crate::schedule::{
    SharedSampler, config, sampler, sampler_kind, undiffuse_sampler_options, undiffuse_schedule_options,
};
use crate::status::undiffuse_status::{UNDIFFUSE_SHAPE, UNDIFFUSE_UNSUPPORTED};
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};

/// A reverse process with its steps fixed. It draws no random number, calls no network and keeps no history, so one
/// serves any number of threads and sessions at once.
pub struct undiffuse_sampler(Handle<SharedSampler>);

opaque!(undiffuse_sampler, "sampler", SharedSampler);

/// Information about a sampler.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_sampler_info {
    /// sizeof(undiffuse_sampler_info); you set it before the call.
    pub struct_size: usize,
    /// Number of steps of a run, and so of network calls.
    pub step_count: usize,
    /// x_T is standard normal noise times this.
    pub initial_scale: f64,
    /// Binary chains: the probability of a 1 in x_T; 0 otherwise.
    pub ones: f64,
    /// A number that differs between samplers that compute different steps.
    pub fingerprint: u64,
    /// 1 for a binary chain: samples are 0 or 1, noise is uniform in [0, 1).
    pub is_binary: u32,
    /// Of a chain of classes how many there are: samples are one-hot rows of so many, noise is uniform in [0, 1), a
    /// value for each of them. 0 for other samplers.
    pub class_count: u32,
}

sized!(undiffuse_sampler_info {
    step_count: 0,
    initial_scale: 0.0,
    ones: 0.0,
    fingerprint: 0,
    is_binary: 0,
    class_count: 0
});

/// Information about one step.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_step_info {
    /// sizeof(undiffuse_step_info); you set it before the call.
    pub struct_size: usize,
    /// The level of x_t, for which the network is called.
    pub level: undiffuse_level,
    /// The level of x_s, to which the step leads.
    pub target: undiffuse_level,
    /// What x_t is multiplied by before the network sees it.
    pub input_scale: f64,
    /// 1 if the step adds noise.
    pub needs_noise: u32,
    /// 0.
    pub reserved: u32,
}

sized!(undiffuse_step_info {
    level: undiffuse_level { timestep: 0.0, alpha: 0.0, sigma: 0.0 },
    target: undiffuse_level { timestep: 0.0, alpha: 0.0, sigma: 0.0 },
    input_scale: 0.0,
    needs_noise: 0,
    reserved: 0,
});

/// The arrays of one step. They are yours; an array that is written overlaps no other.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_step_io {
    /// sizeof(undiffuse_step_io).
    pub struct_size: usize,
    /// Samples.
    pub count: usize,
    /// Floats of one sample.
    pub sample_len: usize,
    /// Floats of one sample's model output: sample_len, or twice as many where a variance was learned. 0 stands for
    /// sample_len.
    pub output_len: usize,
    /// In: the network's output, [count, output_len].
    pub model_output: *const f32,
    /// In: x_t, [count, sample_len].
    pub x: *const f32,
    /// In: standard normal values (uniform ones in a binary chain), [count, sample_len]. May be NULL where the step
    /// needs none.
    pub noise: *const f32,
    /// Out: x_s, [count, sample_len].
    pub next: *mut f32,
    /// Out: the predicted x_0, clipped as the schedule says, [count, sample_len]. NULL if you do not want it.
    pub x0: *mut f32,
    /// In: history of samplers that have one, [count, undiffuse_sampler_state_len]; otherwise NULL.
    pub state: *const f32,
    /// Out: the history after the step; otherwise NULL.
    pub next_state: *mut f32,
    /// How many steps of this run were made before; a sampler with history begins with 0.
    pub done: usize,
}

sized!(undiffuse_step_io {
    count: 0,
    sample_len: 0,
    output_len: 0,
    model_output: core::ptr::null(),
    x: core::ptr::null(),
    noise: core::ptr::null(),
    next: core::ptr::null_mut(),
    x0: core::ptr::null_mut(),
    state: core::ptr::null(),
    next_state: core::ptr::null_mut(),
    done: 0,
});

/// Makes a sampler from a schedule given by values.
///
/// Either struct may be NULL for its defaults; both are read during the call. UNDIFFUSE_SAMPLER_OF_SCHEDULE is
/// UniPC with 20 steps if no steps are given, otherwise DDPM. On success *sampler is yours; free it with
/// undiffuse_sampler_free. Status: UNDIFFUSE_CONFIG, UNDIFFUSE_UNSUPPORTED. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_new(
    schedule: *const undiffuse_schedule_options,
    options: *const undiffuse_sampler_options,
    sampler: *mut *mut undiffuse_sampler,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { new(options, sampler, error, |_| config(&options_or_defaults(schedule)?)) }
}

/// Makes a sampler from the text of a diffusers scheduler_config.json of `len` bytes; 0 if it ends with a NUL.
///
/// With a kind of DDPM or DDIM the text may name any of diffusers' schedulers whose model has the same kind of
/// schedule, as diffusers' from_config allows. Unknown keys and values are refused. Otherwise as undiffuse_sampler_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_from_json(
    json: *const c_char,
    len: usize,
    options: *const undiffuse_sampler_options,
    sampler: *mut *mut undiffuse_sampler,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        new(options, sampler, error, |kind| {
            Ok(SchedulerConfig::from_json_for(text(json, len, "json")?, sampler_kind(kind))
                .map_err(|e| e.context("json"))?)
        })
    }
}

/// Makes a sampler as a model's scheduler configuration says. Its class matters as little as to
/// undiffuse_sampler_from_json. Otherwise as undiffuse_sampler_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_from_model(
    model: *const undiffuse_model,
    options: *const undiffuse_sampler_options,
    sampler: *mut *mut undiffuse_sampler,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { new(options, sampler, error, |kind| read(model)?.scheduler(kind)) }
}

/// What every function that makes a sampler does around `config`, which is told the wanted kind.
///
/// # Safety
/// The pointers are what the header asks for.
unsafe fn new(
    options: *const undiffuse_sampler_options,
    out: *mut *mut undiffuse_sampler,
    error: *mut *mut undiffuse_error,
    config: impl FnOnce(undiffuse_sampler_kind) -> Outcome<SchedulerConfig>,
) -> undiffuse_status {
    // SAFETY: the caller's promise.
    unsafe {
        ok(error, || {
            let out = output(out, "sampler")?;
            let options = options_or_defaults(options)?;
            let config = config(value(options.kind)?)?;
            out.give_handle(sampler(&config, &options)?)
        })
    }
}

/// Writes information about the sampler to *info, whose struct_size you set. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_get_info(
    sampler: *const undiffuse_sampler,
    info: *mut undiffuse_sampler_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let s = read(sampler)?;
            let (is_binary, ones, classes) = match s.space() {
                StateSpace::Real => (0, 0.0, 0),
                StateSpace::Bits { ones } => (1, f64::from(ones), 0),
                StateSpace::Classes { count, .. } => (0, 0.0, count),
            };
            let i = undiffuse_sampler_info {
                struct_size: 0,
                step_count: s.levels().len(),
                initial_scale: f64::from(s.initial_scale()),
                ones,
                fingerprint: s.fingerprint(),
                is_binary,
                class_count: u32::try_from(classes).unwrap_or(u32::MAX),
            };
            give(info, &i)
        })
    }
}

/// Writes information about step `step`, counted from 0, to *info, whose struct_size you set. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_get_step_info(
    sampler: *const undiffuse_sampler,
    step: usize,
    info: *mut undiffuse_step_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let s = read(sampler)?;
            let i = undiffuse_step_info {
                struct_size: 0,
                level: level(&s, step)?.into(),
                target: s.target(step)?.into(),
                input_scale: f64::from(s.input_scale(step)),
                needs_noise: u32::from(s.needs_noise(step)),
                reserved: 0,
            };
            give(info, &i)
        })
    }
}

fn level(s: &SharedSampler, step: usize) -> Outcome<undiffuse::schedule::Level> {
    let levels = s.levels();
    levels
        .get(step)
        .copied()
        .ok_or_else(|| Failure::argument(format!("step {step} of {} does not exist", levels.len())))
}

/// The timestep of each network call, in order.
///
/// With a NULL `timesteps`, *len is set to their number. Otherwise *len is the size of `timesteps`, and is set to the
/// number written. Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the required length. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_timesteps(
    sampler: *const undiffuse_sampler,
    timesteps: *mut f64,
    len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let s = read(sampler)?;
            let list: Vec<f64> = s.levels().iter().map(|l| l.timestep).collect();
            fill(("timesteps", timesteps), len, &list)
        })
    }
}

/// Writes to *state_len the floats of history that a sample of `sample_len` floats carries from step to step; 0 where
/// it keeps none. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_state_len(
    sampler: *const undiffuse_sampler,
    sample_len: usize,
    state_len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(state_len, "state_len")?;
            out.set(read(sampler)?.state_len(sample_len));
            Ok(())
        })
    }
}

/// Scales `len` floats of x_t for the network at step `step`: diffusers' scale_model_input. `out` may be `x` itself.
///
/// Status: UNDIFFUSE_NON_FINITE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_scale_model_input(
    sampler: *const undiffuse_sampler,
    step: usize,
    x: *const f32,
    len: usize,
    out: *mut f32,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above. `x` may be `out`, so no reference to it is kept.
    unsafe {
        ok(error, || {
            let s = read(sampler)?;
            level(&s, step)?;
            let scale = s.input_scale(step);
            check_finite("x", slice(x, len, "x")?)?;
            if core::ptr::eq(x, out) {
                let out = slice_mut(out, len, "out")?;
                out.iter_mut().for_each(|v| *v *= scale);
                return Ok(check_finite("out", out)?);
            }
            check_apart(&[("x", slice(x, len, "x")?)], &[("out", out, len)])?;
            let from = slice(x, len, "x")?;
            let out = slice_mut(out, len, "out")?;
            out.iter_mut().zip(from).for_each(|(o, v)| *o = scale * v);
            Ok(check_finite("out", out)?)
        })
    }
}

/// Writes to *step the step at which image to image begins, for a strength above 0 and at most 1: of the sampler's N
/// steps the last min(int(N strength), N) are run, as diffusers' pipelines have it; a step may be several calls. Noise
/// the pictures with undiffuse_sampler_add_noise at that step, and give them to undiffuse_session_start_from.
///
/// Status: UNDIFFUSE_INVALID_ARGUMENT for other strengths and where none of the steps is left; UNDIFFUSE_UNSUPPORTED
/// for chains of bits and classes, and for samplers whose noise rises on the way. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_start_of_strength(
    sampler: *const undiffuse_sampler,
    strength: f64,
    step: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(step, "step")?;
            out.set(start_of_strength(&**read(sampler)?, strength)?);
            Ok(())
        })
    }
}

/// Adds noise to `len` floats of x_0, to the level of step `step`: out = alpha x_0 + sigma noise, diffusers' add_noise.
/// `out` overlaps neither.
///
/// Status: UNDIFFUSE_UNSUPPORTED for binary chains, UNDIFFUSE_NON_FINITE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_add_noise(
    sampler: *const undiffuse_sampler,
    step: usize,
    x0: *const f32,
    noise: *const f32,
    len: usize,
    out: *mut f32,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let s = read(sampler)?;
            let level = level(&s, step)?;
            if s.space() != StateSpace::Real {
                return Err(Failure::new(UNDIFFUSE_UNSUPPORTED, "bits and classes are not noised by adding"));
            }
            let (x0, noise) = (slice(x0, len, "x0")?, slice(noise, len, "noise")?);
            check_apart(&[("x0", x0), ("noise", noise)], &[("out", out, len)])?;
            check_finite("x0", x0)?;
            check_finite("noise", noise)?;
            let (alpha, sigma) = (level.alpha as f32, level.sigma as f32);
            let values = x0.iter().zip(noise).map(|(x, z)| alpha * x + sigma * z);
            let out = slice_mut(out, len, "out")?;
            out.iter_mut().zip(values).for_each(|(o, v)| *o = v);
            Ok(check_finite("out", out)?)
        })
    }
}

/// Makes step `step`, from 0, of samples that you hold: from model_output, x_t and noise it computes x_s and x_0. Any
/// engine may have run the network.
///
/// A sample's result has the same bits in any batch. Scratch of one sample comes from malloc. On an error `next`, `x0`
/// and `next_state` are unspecified.
///
/// Status: UNDIFFUSE_SHAPE, UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_NON_FINITE where an array or what the step makes of
/// it holds NaN or infinity, UNDIFFUSE_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_step(
    sampler: *const undiffuse_sampler,
    step: usize,
    io: *const undiffuse_step_io,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let s = read(sampler)?;
            let io = options(io)?;
            step_of(&s, step, &io)
        })
    }
}

/// # Safety
/// The pointers of `io` are what the header asks for.
unsafe fn step_of(s: &SharedSampler, step: usize, io: &undiffuse_step_io) -> Outcome<()> {
    let n = io.sample_len;
    let m = if io.output_len == 0 { n } else { io.output_len };
    if n == 0 || io.count == 0 {
        return Err(Failure::new(UNDIFFUSE_SHAPE, format!("{} samples of {n} values, expected at least 1", io.count)));
    }
    level(s, step)?;
    s.check_output_len(n, m)?;
    let k = s.state_len(n);
    let all = |each: usize, what: &str| {
        let whole = io.count.checked_mul(each);
        whole.ok_or_else(|| {
            Failure::new(UNDIFFUSE_SHAPE, format!("{what}: {} times {each} values are too many", io.count))
        })
    };
    let (xs, outputs, states) = (all(n, "x")?, all(m, "model_output")?, all(k, "state")?);
    let noise_len = if s.needs_noise(step) { xs } else { 0 };
    // SAFETY: the caller's promise, here and below.
    let (x, output) = unsafe { (slice(io.x, xs, "x")?, slice(io.model_output, outputs, "model_output")?) };
    // SAFETY: as above.
    let (noise, state) = unsafe { (slice(io.noise, noise_len, "noise")?, slice(io.state, states, "state")?) };
    let x0_len = if io.x0.is_null() { 0 } else { xs };
    check_apart(
        &[("x", x), ("model_output", output), ("noise", noise), ("state", state)],
        &[("next", io.next, xs), ("x0", io.x0, x0_len), ("next_state", io.next_state, states)],
    )?;
    // SAFETY: as above, and apart from all others.
    let (next, x0_out, next_state) = unsafe {
        (
            slice_mut(io.next, xs, "next")?,
            slice_mut(io.x0, x0_len, "x0")?,
            slice_mut(io.next_state, states, "next_state")?,
        )
    };
    // More than there can be asks for more than there is.
    let mut scratch = scratch(n.saturating_mul(2).saturating_add(m))?;
    let (eps, rest) = scratch.split_at_mut(n);
    let (x0, output_copy) = rest.split_at_mut(n);
    for i in 0..io.count {
        output_copy.copy_from_slice(&output[i * m..][..m]);
        s.step(
            step,
            io.done,
            StepIo {
                x: &x[i * n..][..n],
                output: output_copy,
                noise: if noise.is_empty() { &[] } else { &noise[i * n..][..n] },
                state: &state[i * k..][..k],
                next_state: &mut next_state[i * k..][..k],
                eps,
                x0,
                next: &mut next[i * n..][..n],
            },
        )
        .map_err(|e| e.context(format!("sample {i} of undiffuse_step_io")))?;
        if !x0_out.is_empty() {
            x0_out[i * n..][..n].copy_from_slice(x0);
        }
    }
    Ok(())
}

/// Frees a sampler. Sessions made from it stay usable. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sampler_free(sampler: *mut undiffuse_sampler) {
    // SAFETY: as above.
    void(|| unsafe { free_handle(sampler) });
}

impl Model {
    /// The sampler of a session's argument. NULL is what the evidence recommends or, without evidence, what the
    /// sampler's options have by default.
    ///
    /// # Safety
    /// NULL, or from this library and not freed.
    pub unsafe fn sampler_or(
        &self,
        sampler: *const undiffuse_sampler,
        evidence: Option<&BoxedEvidence>,
    ) -> Outcome<SharedSampler> {
        // SAFETY: the caller's promise.
        if let Some(sampler) = unsafe { read_optional(sampler) }? {
            return Ok(Arc::clone(&sampler));
        }
        Ok(Arc::from(match evidence {
            // A recommendation is DDIM, DDPM or RePaint, which take the betas of any class.
            Some(evidence) => evidence.recommended().sampler(&self.scheduler(UNDIFFUSE_SAMPLER_DDIM)?)?,
            None => {
                let scheduler = self.scheduler(UNDIFFUSE_SAMPLER_OF_SCHEDULE)?;
                scheduler.sampler(&SamplerOptions::default_for(&scheduler, None))?
            }
        }))
    }

    /// The sampler of a bound's argument. NULL is every step of the one that the scheduler's configuration names.
    ///
    /// # Safety
    /// NULL, or from this library and not freed.
    pub unsafe fn sampler_or_own(&self, sampler: *const undiffuse_sampler) -> Outcome<SharedSampler> {
        // SAFETY: the caller's promise.
        match unsafe { read_optional(sampler) }? {
            Some(sampler) => Ok(Arc::clone(&sampler)),
            None => {
                let scheduler = self.scheduler(UNDIFFUSE_SAMPLER_OF_SCHEDULE)?;
                Ok(Arc::from(scheduler.sampler(&SamplerOptions::default())?))
            }
        }
    }
}
