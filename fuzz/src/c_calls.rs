//! Sequences of calls through the C functions: whatever order, whatever numbers, NULL anywhere. Pointers that are not
//! NULL are good, since C can promise no less.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use undiffuse_ffi::callbacks::*;
use undiffuse_ffi::cancel::*;
use undiffuse_ffi::error::*;
use undiffuse_ffi::evaluate::*;
use undiffuse_ffi::evidence::*;
use undiffuse_ffi::gradient::*;
use undiffuse_ffi::model::*;
use undiffuse_ffi::noise::*;
use undiffuse_ffi::operator::*;
use undiffuse_ffi::run::*;
use undiffuse_ffi::sampler::*;
use undiffuse_ffi::schedule::*;
use undiffuse_ffi::session::*;
use undiffuse_ffi::status::*;

/// Values of a sample: [1, 2, 2].
const N: usize = 4;
const DIMS: [usize; 3] = [1, 2, 2];

/// The input, one number after the other; zeros when it has ended.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number that is mostly small and sometimes the largest there is.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX / 2,
            253 => 1 << 40,
            small => u64::from(small % 7),
        }
    }

    /// A length for buffers of `most` values.
    fn len(&mut self, most: usize) -> usize {
        (self.number() as usize).min(most)
    }

    fn real(&mut self) -> f64 {
        match self.byte() {
            255 => f64::NAN,
            254 => f64::INFINITY,
            253 => -1.0,
            b => f64::from(b) / 100.0,
        }
    }

    /// An enum as C may write it.
    fn choice<E>(&mut self) -> MaybeUninit<E> {
        let mut raw = MaybeUninit::<E>::zeroed();
        let number = u32::from(self.byte() % 17);
        assert_eq!(size_of::<E>(), 4);
        // SAFETY: an enum of the header is a u32; any number may stand in a MaybeUninit.
        unsafe { raw.as_mut_ptr().cast::<u32>().write(number) };
        raw
    }

    /// One of `slots`, or NULL.
    fn pick<T>(&mut self, slots: &[*mut T; 2]) -> *mut T {
        match self.byte() % 8 {
            7 => null_mut(),
            i => slots[usize::from(i % 2)],
        }
    }
}

struct State {
    models: [*mut undiffuse_model; 2],
    samplers: [*mut undiffuse_sampler; 2],
    operators: [*mut undiffuse_operator; 2],
    evidence: [*mut undiffuse_evidence; 2],
    sessions: [*mut undiffuse_session; 2],
    bound: *mut undiffuse_bound,
    cancel: *mut undiffuse_cancel,
    /// What callbacks return, now and then.
    mood: i32,
    calls: u32,
}

extern "C" fn predict(user_data: *mut c_void, call: *const undiffuse_call, x: *const f32, out: *mut f32) -> i32 {
    // SAFETY: the state outlives all that has it; the arrays are as long as the call says.
    unsafe {
        let (state, call) = (&mut *user_data.cast::<State>(), &*call);
        for i in 0..call.count * call.sample_len {
            *out.add(i) = *x.add(i) * 0.5;
        }
        state.calls += 1;
        // From within a callback every session is in use or must stay usable.
        let (mut view, mut error) = (null(), null_mut());
        undiffuse_session_x(state.sessions[0], &mut view, null_mut(), &mut error);
        undiffuse_error_free(error);
        if state.calls % 5 == 0 { state.mood } else { 0 }
    }
}

extern "C" fn vjp(
    user_data: *mut c_void,
    call: *const undiffuse_call,
    _: *const f32,
    v: *const f32,
    out: *mut f32,
) -> i32 {
    predict(user_data, call, v, out)
}

extern "C" fn progress(user_data: *mut c_void, _: *const undiffuse_progress) -> i32 {
    // SAFETY: as above.
    let state = unsafe { &mut *user_data.cast::<State>() };
    state.calls += 1;
    i32::from(state.calls.is_multiple_of(7))
}

/// Runs the calls that the bytes spell.
pub fn c_calls(data: &[u8]) {
    let mut state = State {
        models: [null_mut(); 2],
        samplers: [null_mut(); 2],
        operators: [null_mut(); 2],
        evidence: [null_mut(); 2],
        sessions: [null_mut(); 2],
        bound: null_mut(),
        cancel: null_mut(),
        mood: 0,
        calls: 0,
    };
    let mut bytes = Bytes(data);
    let at: *mut State = &mut state;
    for _ in 0..64 {
        if bytes.0.is_empty() {
            break;
        }
        // SAFETY: handles are NULL or not freed, buffers as long as is said, as the header asks.
        unsafe { step(at, &mut bytes) };
    }
    // SAFETY: each handle is freed once.
    unsafe {
        for i in 0..2 {
            undiffuse_model_free(state.models[i]);
            undiffuse_sampler_free(state.samplers[i]);
            undiffuse_operator_free(state.operators[i]);
            undiffuse_evidence_free(state.evidence[i]);
            undiffuse_session_free(state.sessions[i]);
        }
        undiffuse_bound_free(state.bound);
        undiffuse_cancel_free(state.cancel);
    }
}

/// Checks the promise of every call: an error object exactly where the status is one, and no panic.
unsafe fn checked(status: undiffuse_status, error: *mut undiffuse_error) {
    assert!(status != undiffuse_status::UNDIFFUSE_PANIC && status != undiffuse_status::UNDIFFUSE_POISONED);
    assert_eq!((status as i32) < 0, !error.is_null());
    // SAFETY: from the library.
    unsafe {
        assert_eq!(undiffuse_error_status(error) as i32, (status as i32).min(0));
        undiffuse_error_free(error);
    }
}

unsafe fn step(state: *mut State, b: &mut Bytes<'_>) {
    let mut error = null_mut();
    let e: *mut *mut undiffuse_error = &mut error;
    let mut floats = [0.25f32; 4 * N];
    let mut out = [0.0f32; 4 * N];
    let slot = usize::from(b.byte() % 2);
    // SAFETY: the caller's promise; the state is only touched between calls and by callbacks during them.
    unsafe {
        let s = &mut *state;
        let status = match b.byte() % 30 {
            0 => {
                undiffuse_model_free(s.models[slot]);
                s.models[slot] = null_mut();
                let d = undiffuse_denoiser {
                    struct_size: size_of::<undiffuse_denoiser>(),
                    user_data: state.cast(),
                    predict: Some(predict),
                    vjp: (b.byte().is_multiple_of(2)).then_some(vjp as unsafe extern "C" fn(_, _, _, _, _) -> _),
                    rank: 3,
                    dims: [1, 2, 2, 0],
                    output_len: b.len(9),
                    max_batch: b.number() as usize,
                    fingerprint: b.number(),
                    name: null(),
                    scheduler_json: c"{\"_class_name\":\"DDPMScheduler\",\"num_train_timesteps\":6}".as_ptr(),
                    scheduler_json_len: 0,
                };
                undiffuse_model_from_denoiser(&d, &mut s.models[slot], e)
            }
            1 => {
                undiffuse_sampler_free(s.samplers[slot]);
                s.samplers[slot] = null_mut();
                let mut o = MaybeUninit::<undiffuse_sampler_options>::zeroed().assume_init();
                undiffuse_sampler_options_init(&mut o, size_of_val(&o));
                (o.kind, o.steps, o.eta) = (b.choice(), b.number() as usize, b.real());
                (o.ddim_noise, o.jump_length, o.resamplings) = (b.choice(), b.number() as usize, b.number() as usize);
                (o.readout, o.ending, o.pi, o.logits) = (b.choice(), b.choice(), b.real(), u32::from(b.byte() % 3));
                undiffuse_sampler_from_model(b.pick(&s.models), &o, &mut s.samplers[slot], e)
            }
            2 => {
                undiffuse_sampler_free(s.samplers[slot]);
                s.samplers[slot] = null_mut();
                let mut o = MaybeUninit::<undiffuse_schedule_options>::zeroed().assume_init();
                undiffuse_schedule_options_init(&mut o, size_of_val(&o));
                (o.num_train_timesteps, o.beta_start, o.beta_end) = (b.len(300), b.real(), b.real());
                (o.beta_schedule, o.variance_type, o.prediction_type) = (b.choice(), b.choice(), b.choice());
                (o.clip_sample_range, o.thresholding, o.steps_offset) =
                    (b.real(), u32::from(b.byte() % 3), b.number() as u32);
                o.struct_size = o.struct_size.wrapping_sub(8 * b.len(9));
                undiffuse_sampler_new(&o, null(), &mut s.samplers[slot], e)
            }
            3 => {
                undiffuse_operator_free(s.operators[slot]);
                s.operators[slot] = null_mut();
                let known = [b.byte() % 2, 1, 0, b.byte() % 2];
                undiffuse_operator_mask(DIMS.as_ptr(), 3, known.as_ptr(), b.len(4), &mut s.operators[slot], e)
            }
            4 => {
                undiffuse_operator_free(s.operators[slot]);
                s.operators[slot] = null_mut();
                let mut dims = [b.number() as usize, b.number() as usize, 2, 2];
                // As with batches: what only the machine's memory can refuse is not asked for.
                dims.iter_mut().filter(|d| **d == 1 << 40).for_each(|d| *d = 4);
                undiffuse_operator_identity(dims.as_ptr(), b.len(6).min(4), &mut s.operators[slot], e)
            }
            5 => {
                undiffuse_evidence_free(s.evidence[slot]);
                s.evidence[slot] = null_mut();
                let m = undiffuse_measurement {
                    struct_size: size_of::<undiffuse_measurement>(),
                    op: b.pick(&s.operators),
                    y: floats.as_ptr(),
                    y_len: b.len(floats.len()),
                    sigma: b.real(),
                    first_sample: b.number(),
                    each: u32::from(b.byte() % 3),
                    reserved: 0,
                };
                let mut o = MaybeUninit::<undiffuse_method_options>::zeroed().assume_init();
                undiffuse_method_options_init(&mut o, size_of_val(&o));
                (o.method, o.iterations, o.zeta, o.lambda) = (b.choice(), b.len(3), b.real(), b.real());
                undiffuse_evidence_from_measurement(&m, &o, &mut s.evidence[slot], e)
            }
            6 => {
                undiffuse_evidence_free(s.evidence[slot]);
                s.evidence[slot] = null_mut();
                let g = undiffuse_gradient_evidence {
                    struct_size: size_of::<undiffuse_gradient_evidence>(),
                    user_data: state.cast(),
                    gradient: Some(predict),
                    rule: b.choice(),
                    r_schedule: b.choice(),
                    scale: b.real(),
                    fingerprint: 1,
                    name: null(),
                };
                undiffuse_evidence_from_gradient(&g, &mut s.evidence[slot], e)
            }
            7..=10 => {
                undiffuse_session_free(s.sessions[slot]);
                s.sessions[slot] = null_mut();
                let mut o = MaybeUninit::<undiffuse_session_options>::zeroed().assume_init();
                undiffuse_session_options_init(&mut o, size_of_val(&o));
                (o.batch, o.first_sample, o.seed) = (b.number() as usize, b.number(), b.number());
                // Large batches are asked for, but not had.
                if o.batch > 4 && o.batch < 1 << 60 {
                    o.batch = 4;
                }
                (o.thread_count, o.cancel) = (1, if b.byte().is_multiple_of(2) { s.cancel } else { null_mut() });
                o.progress = Some(progress);
                o.progress_user_data = state.cast();
                let (model, sampler) = (b.pick(&s.models), b.pick(&s.samplers));
                let evidence = b.pick(&s.evidence);
                undiffuse_session_new(model, sampler, evidence, &o, &mut s.sessions[slot], e)
            }
            11 | 12 => {
                let session = b.pick(&s.sessions);
                undiffuse_session_run(session, e)
            }
            13 => undiffuse_session_step(b.pick(&s.sessions), e),
            14 => undiffuse_session_restart(b.pick(&s.sessions), b.number(), b.number() as usize, e),
            15 => {
                let session = b.pick(&s.sessions);
                undiffuse_session_start_from(session, b.number() as usize, floats.as_ptr(), b.len(4 * N), b.number(), e)
            }
            16 => {
                let mut saved = [0u8; 512];
                let mut len = b.len(512) * 80;
                len = len.min(512);
                let from = b.pick(&s.sessions);
                let status = undiffuse_session_save(from, saved.as_mut_ptr().cast(), &mut len, e);
                checked(status, error);
                *e = null_mut();
                if let Some(at) = saved.get_mut(usize::from(b.byte())) {
                    *at ^= b.byte() % 2;
                }
                undiffuse_session_restore(b.pick(&s.sessions), saved.as_ptr().cast(), len.min(512), e)
            }
            17 => {
                let session = b.pick(&s.sessions);
                let (x, y) = (b.len(4 * N), b.len(4 * N));
                undiffuse_session_predict(
                    session,
                    b.number() as usize,
                    b.number(),
                    floats.as_ptr(),
                    x,
                    out.as_mut_ptr(),
                    y,
                    e,
                )
            }
            18 => {
                let session = b.pick(&s.sessions);
                let (x, v) = (b.len(4 * N), b.len(4 * N));
                let (x_at, v_at) = (floats.as_ptr(), floats.as_ptr());
                undiffuse_session_vjp(session, b.number() as usize, 0, x_at, x, v_at, v, out.as_mut_ptr(), e)
            }
            19 => {
                undiffuse_bound_free(s.bound);
                s.bound = null_mut();
                let mut o = MaybeUninit::<undiffuse_bound_options>::zeroed().assume_init();
                undiffuse_bound_options_init(&mut o, size_of_val(&o));
                (o.edges, o.levels, o.draws, o.batch) = (b.choice(), b.number() as u32, b.len(3), b.len(5));
                (o.sampled_steps, o.thread_count, o.cancel) = (b.number() as usize, 1, s.cancel);
                let (model, sampler) = (b.pick(&s.models), b.pick(&s.samplers));
                undiffuse_bound_new(model, sampler, &o, floats.as_ptr(), b.len(4 * N), &mut s.bound, e)
            }
            20 => {
                let mut len = b.len(4);
                let mut k = [0.0; 4];
                undiffuse_bound_per_sample(s.bound, k.as_mut_ptr(), &mut len, e)
            }
            21 => {
                let sampler = b.pick(&s.samplers);
                let io = undiffuse_step_io {
                    struct_size: size_of::<undiffuse_step_io>(),
                    count: b.len(3),
                    sample_len: b.len(4),
                    output_len: b.len(5),
                    model_output: floats.as_ptr(),
                    x: floats.as_ptr(),
                    noise: if b.byte().is_multiple_of(4) { null() } else { floats.as_ptr() },
                    next: out.as_mut_ptr(),
                    x0: if b.byte().is_multiple_of(2) { null_mut() } else { out.as_mut_ptr() },
                    state: null(),
                    next_state: null_mut(),
                    done: b.number() as usize,
                };
                undiffuse_sampler_step(sampler, b.number() as usize, &io, e)
            }
            22 => {
                let sampler = b.pick(&s.samplers);
                let (x, z) = (floats.as_ptr(), floats.as_ptr());
                undiffuse_sampler_add_noise(sampler, b.number() as usize, x, z, b.len(4 * N), out.as_mut_ptr(), e)
            }
            23 => {
                let op = b.pick(&s.operators);
                undiffuse_operator_apply(op, floats.as_ptr(), b.len(4 * N), out.as_mut_ptr(), b.len(4 * N), e)
            }
            24 => {
                let (evidence, sampler) = (b.pick(&s.evidence), b.pick(&s.samplers));
                undiffuse_evidence_start(evidence, sampler, b.number(), floats.as_mut_ptr(), b.len(4 * N), e)
            }
            25 => {
                if s.cancel.is_null() {
                    undiffuse_cancel_new(&mut s.cancel, e)
                } else {
                    undiffuse_status::UNDIFFUSE_OK
                }
            }
            26 => {
                if b.byte().is_multiple_of(2) {
                    undiffuse_cancel_set(s.cancel)
                } else {
                    undiffuse_cancel_reset(s.cancel)
                }
                undiffuse_status::UNDIFFUSE_OK
            }
            27 => {
                s.mood = [0, 0, 5, undiffuse_status::UNDIFFUSE_CANCELLED as i32][usize::from(b.byte() % 4)];
                undiffuse_noise_normal(b.number(), b.number(), b.number(), out.as_mut_ptr(), b.len(4 * N), e)
            }
            28 => {
                // Freed before what was made of them.
                undiffuse_model_free(s.models[slot]);
                undiffuse_evidence_free(s.evidence[slot]);
                (s.models[slot], s.evidence[slot]) = (null_mut(), null_mut());
                undiffuse_status::UNDIFFUSE_OK
            }
            _ => {
                let (model, sampler) = (b.pick(&s.models), b.pick(&s.samplers));
                let evidence = b.pick(&s.evidence);
                let mut o = MaybeUninit::<undiffuse_session_options>::zeroed().assume_init();
                undiffuse_session_options_init(&mut o, size_of_val(&o));
                (o.batch, o.thread_count, o.first_sample) = (b.len(4), 1, b.number());
                undiffuse_sample(model, sampler, evidence, &o, out.as_mut_ptr(), b.len(4 * N), e)
            }
        };
        checked(status, error);
    }
}
