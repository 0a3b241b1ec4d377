//! What a session does.

use alloc::format;
use core::ffi::c_void;

use undiffuse::chain::{Flow, Status};
use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::noise::NoiseSource as _;

use crate::codec::undiffuse_codec_options;
use crate::evidence::undiffuse_evidence;
use crate::guard::{call, check_apart, free_handle, ok, output, read, slice, slice_mut, void, write};
use crate::model::undiffuse_model;
use crate::options::{VersionedStruct as _, give, options_or_defaults, sized};
use crate::sampler::undiffuse_sampler;
use crate::session::{Session, make, undiffuse_progress, undiffuse_session, undiffuse_session_options};
use crate::status::undiffuse_status::{UNDIFFUSE_BUFFER_TOO_SMALL, UNDIFFUSE_OK, UNDIFFUSE_SHAPE, UNDIFFUSE_STOPPED};
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};

/// The state of a session.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_session_info {
    /// sizeof(undiffuse_session_info); you set it before the call.
    pub struct_size: usize,
    /// The next step, from 0; equal to `step_count` when the run is done.
    pub step: usize,
    /// Number of steps of a run, and so of network calls.
    pub step_count: usize,
    /// The number of the first sample.
    pub first_sample: u64,
    /// Samples in this run.
    pub count: usize,
    /// The most samples that a run of this session can have.
    pub batch: usize,
    /// Floats of one sample.
    pub sample_len: usize,
    /// Floats that the network gives for a sample.
    pub output_len: usize,
    /// Bytes of the session's workspace.
    pub workspace_bytes: usize,
}

sized!(undiffuse_session_info {
    step: 0,
    step_count: 0,
    first_sample: 0,
    count: 0,
    batch: 0,
    sample_len: 0,
    output_len: 0,
    workspace_bytes: 0,
});

fn run(session: &mut Session) -> Outcome<undiffuse_status> {
    let Session { chain, cancel, progress, progress_user_data, sample_len, .. } = session;
    let sample_len = *sample_len;
    let done = chain.run_with(cancel, |p| {
        let Some(progress) = progress else { return Flow::Continue };
        let seen = undiffuse_progress {
            step: p.step,
            step_count: p.steps,
            level: p.level.into(),
            first_sample: p.first_sample,
            count: p.x.len() / sample_len.max(1),
            sample_len,
            x: p.x.as_ptr(),
            x0: p.x0.as_ptr(),
        };
        // SAFETY: the header says what the function may do.
        let go_on = unsafe { progress(progress_user_data.0, &seen) } == 0;
        if go_on { Flow::Continue } else { Flow::Stop }
    })?;
    Ok(if done == Status::Done { UNDIFFUSE_OK } else { UNDIFFUSE_STOPPED })
}

/// Makes all remaining steps, calling the progress callback after each.
///
/// Returns UNDIFFUSE_OK when the run is done, UNDIFFUSE_STOPPED when the callback stopped it. After that, and after
/// every error but UNDIFFUSE_PANIC, the session is at the end of its last complete step, and another call continues
/// from there.
///
/// Status: UNDIFFUSE_CANCELLED, UNDIFFUSE_CALLBACK, UNDIFFUSE_NON_FINITE, UNDIFFUSE_DEVICE. Allocates nothing (a
/// callback of yours aside; a GPU's driver may).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_run(
    session: *mut undiffuse_session,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { call(error, || run(&mut *write(session)?)) }
}

/// Makes one step if one remains; otherwise it does nothing. The progress callback is not called.
///
/// Status as undiffuse_session_run; undiffuse_session_get_info tells whether the run is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_step(
    session: *mut undiffuse_session,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let s = &mut *write(session)?;
            s.chain.step_with(&s.cancel)?;
            Ok(())
        })
    }
}

/// Writes the state of the session to *info, whose struct_size you set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_get_info(
    session: *const undiffuse_session,
    info: *mut undiffuse_session_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let s = read(session)?;
            let i = undiffuse_session_info {
                struct_size: 0,
                step: s.chain.position(),
                step_count: s.chain.steps(),
                first_sample: s.chain.first_sample(),
                count: s.chain.count(),
                batch: s.batch,
                sample_len: s.sample_len,
                output_len: s.output_len,
                workspace_bytes: s.bytes,
            };
            give(info, &i)
        })
    }
}

/// Points *x at the samples where they stand, [count, sample_len], and writes their number of floats to *len (which may
/// be NULL). Once the run is done they are the result: for images [count, channels, height, width], in the units that
/// the model was trained with, mostly -1 to 1.
///
/// The memory is the session's: it is valid until the next call with a pointer to this session that is not const.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_x(
    session: *const undiffuse_session,
    x: *mut *const f32,
    len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { ok(error, || view(session, ("x", x), len, |s| s.chain.x())) }
}

/// As undiffuse_session_x for the x_0 that the last step predicted, after clipping; zeros before the first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_x0(
    session: *const undiffuse_session,
    x0: *mut *const f32,
    len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { ok(error, || view(session, ("x0", x0), len, |s| s.chain.x0())) }
}

/// # Safety
/// The pointers are what the header asks for.
unsafe fn view(
    session: *const undiffuse_session,
    (name, at): (&str, *mut *const f32),
    len: *mut usize,
    values: impl FnOnce(&Session) -> &[f32],
) -> Outcome<()> {
    // SAFETY: the caller's promise.
    let (at, s) = unsafe { (output(at, name)?, read(session)?) };
    let values = values(&s);
    if !len.is_null() {
        // SAFETY: the caller's promise.
        unsafe { output(len, "len")? }.set(values.len());
    }
    at.set(values.as_ptr());
    Ok(())
}

/// Begins again at x_T with `count` samples, at most the batch, the first of them number `first_sample`. Allocates
/// nothing. On an error the session is unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_restart(
    session: *mut undiffuse_session,
    first_sample: u64,
    count: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { ok(error, || Ok(write(session)?.chain.restart(first_sample, count)?)) }
}

/// Begins in the middle: `x`, `len` floats of whole samples, is taken for x_t of step `step`; with the number of steps
/// the run is done. For images that you noised (undiffuse_sampler_add_noise) and for x_T of your own, with step 0. `x`
/// is copied. On an error the session is unchanged. Status: UNDIFFUSE_SHAPE, UNDIFFUSE_NON_FINITE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_start_from(
    session: *mut undiffuse_session,
    step: usize,
    x: *const f32,
    len: usize,
    first_sample: u64,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let mut s = write(session)?;
            Ok(s.chain.start_from(step, slice(x, len, "x")?, first_sample)?)
        })
    }
}

/// Fills `out`, `len` floats of whole samples, with the normal values that the session's noise has for draw `draw` of
/// the samples from `first_sample` on, whatever the noise comes from. Draw 0 is what x_T is made of, and what
/// undiffuse_sampler_add_noise adds in image to image; draw k the noise of step k - 1; UNDIFFUSE_ENCODER_DRAW samples
/// what undiffuse_codec_encode encodes. No result of the session changes. Status: UNDIFFUSE_SHAPE;
/// UNDIFFUSE_INVALID_ARGUMENT for a draw or sample that the noise has not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_noise(
    session: *mut undiffuse_session,
    first_sample: u64,
    draw: u64,
    out: *mut f32,
    len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let mut s = write(session)?;
            let sample_len = s.sample_len.max(1);
            if len == 0 || !len.is_multiple_of(sample_len) {
                return Err(Failure::new(
                    UNDIFFUSE_SHAPE,
                    format!("out has {len} values, expected a multiple of {sample_len}, and not 0"),
                ));
            }
            let out = slice_mut(out, len, "out")?;
            Ok(s.chain.noise_mut().normal(first_sample, draw, sample_len, out)?)
        })
    }
}

/// Saves position, x, x_0 and the sampler's history. A session made of the same model, sampler, evidence and seed that
/// restores them ends in the same bits as if it had never stopped, in whatever process.
///
/// With a NULL `buffer`, *len is set to the required number of bytes. Otherwise *len is the size of `buffer`, and is
/// set to the bytes written. Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the required length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_save(
    session: *const undiffuse_session,
    buffer: *mut c_void,
    len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(len, "len")?;
            let room = len.read();
            let s = read(session)?;
            let needed = s.chain.saved_len();
            if !buffer.is_null() {
                if room < needed {
                    out.set(needed);
                    let text = format!("the buffer holds {room} bytes, expected {needed}");
                    return Err(Failure::new(UNDIFFUSE_BUFFER_TOO_SMALL, text));
                }
                s.chain.save_into(slice_mut(buffer.cast::<u8>(), needed, "buffer")?)?;
            }
            out.set(needed);
            Ok(())
        })
    }
}

/// Restores what undiffuse_session_save wrote, `len` bytes. Damaged bytes, and those of a session with other settings,
/// are refused with UNDIFFUSE_INVALID_ARGUMENT, and the session is unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_restore(
    session: *mut undiffuse_session,
    bytes: *const c_void,
    len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let mut s = write(session)?;
            Ok(s.chain.restore(slice(bytes.cast::<u8>(), len, "bytes")?)?)
        })
    }
}

/// Calls the network alone, at the level of step `step`: `x` are `x_len` floats of whole samples, at most the batch,
/// scaled as the network takes them (undiffuse_sampler_scale_model_input); `out` receives [samples, output_len]. The
/// first of the samples counts as number `first_sample`, which matters to class models. The run is not changed. Arrays
/// do not overlap.
///
/// Status: UNDIFFUSE_SHAPE, UNDIFFUSE_CANCELLED, UNDIFFUSE_CALLBACK, UNDIFFUSE_NON_FINITE for NaN or infinity in `x` or
/// in the prediction.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_predict(
    session: *mut undiffuse_session,
    step: usize,
    first_sample: u64,
    x: *const f32,
    x_len: usize,
    out: *mut f32,
    out_len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let mut s = write(session)?;
            let x = slice(x, x_len, "x")?;
            check_apart(&[("x", x)], &[("out", out, out_len)])?;
            let out = slice_mut(out, out_len, "out")?;
            with_call(&mut s, step, first_sample, |denoiser, call| denoiser.predict(call, x, out))
        })
    }
}

/// The vector-Jacobian product of the network at the level of step `step`: out = J^T v for each sample, with J = d
/// predict(x) / d x. `x` and `out` have `x_len` floats, `v` as many as the prediction, `v_len`. Otherwise as
/// undiffuse_session_predict.
///
/// Status: UNDIFFUSE_UNSUPPORTED for a model without a gradient.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_vjp(
    session: *mut undiffuse_session,
    step: usize,
    first_sample: u64,
    x: *const f32,
    x_len: usize,
    v: *const f32,
    v_len: usize,
    out: *mut f32,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let mut s = write(session)?;
            let (x, v) = (slice(x, x_len, "x")?, slice(v, v_len, "v")?);
            check_apart(&[("x", x), ("v", v)], &[("out", out, x_len)])?;
            let out = slice_mut(out, x_len, "out")?;
            with_call(&mut s, step, first_sample, |denoiser, call| denoiser.vjp(call, x, v, out))
        })
    }
}

fn with_call(
    s: &mut Session,
    step: usize,
    first_sample: u64,
    f: impl FnOnce(&mut dyn Denoiser, &Call<'_>) -> undiffuse::Result<()>,
) -> Outcome<()> {
    use undiffuse::sampler::Sampler;
    let levels = s.chain.sampler().levels();
    let missing = || Failure::argument(format!("step {step} of {} does not exist", levels.len()));
    let level = *levels.get(step).ok_or_else(missing)?;
    let Session { chain, cancel, .. } = s;
    Ok(f(chain.denoiser_mut(), &Call { level, first_sample, cancel })?)
}

/// All in one call: makes a session, runs it for as many samples as `out` holds, batch by batch, and frees it.
///
/// `out` has `out_len` floats: [samples, sample_len], the first sample number options->first_sample; of a latent model
/// [samples, data_len] (undiffuse_model_info), decoded, in memory of the allocator or malloc. Arguments and status
/// otherwise as undiffuse_session_new and undiffuse_session_run. If it returns UNDIFFUSE_STOPPED or an error, `out` is
/// unspecified. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_sample(
    model: *const undiffuse_model,
    sampler: *const undiffuse_sampler,
    evidence: *const undiffuse_evidence,
    options: *const undiffuse_session_options,
    out: *mut f32,
    out_len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        call(error, || {
            let mut o = options_or_defaults(options)?;
            let mut codec = None;
            let sample_len = {
                let model = read(model)?;
                let (latents, data) = (model.dims(), model.data_dims()?);
                if data != latents {
                    let (thread_count, threads, allocator, cancel) = (o.thread_count, o.threads, o.allocator, o.cancel);
                    let defaults = undiffuse_codec_options::defaults();
                    let options = undiffuse_codec_options { thread_count, threads, allocator, cancel, ..defaults };
                    codec = Some(crate::codec::make(&model, &options)?);
                }
                data.elements()
            };
            let out = slice_mut(out, out_len, "out")?;
            let count = out_len / sample_len;
            if count == 0 || !out_len.is_multiple_of(sample_len) {
                let text = format!("out has {out_len} values, expected a multiple of the {sample_len} of a sample");
                return Err(Failure::new(UNDIFFUSE_SHAPE, text));
            }
            if o.batch > count {
                o.batch = count;
            }
            let mut session = make(model, sampler, evidence, &o)?;
            let batch = o.batch.max(1);
            for (i, to) in out.chunks_mut(batch.saturating_mul(sample_len)).enumerate() {
                if i > 0 {
                    let before = (i as u64).saturating_mul(batch as u64);
                    session.chain.restart(o.first_sample.saturating_add(before), to.len() / sample_len)?;
                }
                match run(&mut session)? {
                    UNDIFFUSE_OK => match &mut codec {
                        None => to.copy_from_slice(session.chain.x()),
                        Some(state) => state.codec.decode(session.chain.x(), to, &state.cancel)?,
                    },
                    stopped => return Ok(stopped),
                }
            }
            Ok(UNDIFFUSE_OK)
        })
    }
}

/// Frees a session, ends its threads and waits for them. Your workspace is yours again. NULL is ignored. It must not be
/// called from a callback of the same session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_free(session: *mut undiffuse_session) {
    // SAFETY: as above.
    void(|| unsafe { free_handle(session) });
}
