//! Sessions: a chain with its memory, threads, noise and evidence.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::ffi::{c_char, c_void};

use undiffuse::Cancel;
use undiffuse::backend::cpu::AlignedBuf;
use undiffuse::backend::cpu::heap::ALIGNMENT;
use undiffuse::backend::threads::Threads;
use undiffuse::chain::Chain;
use undiffuse::denoiser::{Call, Conditions, Denoiser, Guidance};
use undiffuse::pipeline::Pipeline;
use undiffuse::posterior::NoEvidence;
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind};

use crate::callbacks::{Shared, undiffuse_level};
use crate::cancel::undiffuse_cancel;
use crate::condition::{given, guidance, undiffuse_condition, undiffuse_guidance};
use crate::enums::undiffuse_sampler_kind::*;
use crate::evidence::undiffuse_evidence;
use crate::guard::{Handle, ok, opaque, output, read, read_optional, slice};
use crate::memory::{heap, undiffuse_allocator};
use crate::model::{Model, Network, undiffuse_model};
use crate::noise::{BoxedNoise, source, undiffuse_noise};
use crate::options::{init, options_or_defaults, sized};
use crate::recipe::BoxedEvidence;
use crate::sampler::undiffuse_sampler;
use crate::schedule::SharedSampler;
use crate::status::undiffuse_status::UNDIFFUSE_OUT_OF_MEMORY;
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};
use crate::threads::{counted, threads, undiffuse_threads};

/// What the progress callback sees after a step. It lives during the call; later versions may append fields.
#[repr(C)]
pub struct undiffuse_progress {
    /// The step just made, from 0.
    pub step: usize,
    /// How many there are.
    pub step_count: usize,
    /// The level at which the network was called.
    pub level: undiffuse_level,
    /// The number of the first sample of the batch.
    pub first_sample: u64,
    /// Samples in the batch.
    pub count: usize,
    /// Floats of one sample.
    pub sample_len: usize,
    /// x after the step, [count, sample_len].
    pub x: *const f32,
    /// The x_0 that the step predicted, after clipping, [count, sample_len]: a preview.
    pub x0: *const f32,
}

/// Called after each step on the thread that called undiffuse_session_run. Returns 0 to go on; any other value stops
/// the run, which then returns UNDIFFUSE_STOPPED. It may call the library, but not with this session.
pub type undiffuse_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, progress: *const undiffuse_progress) -> i32>;

/// How a session runs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_session_options {
    /// sizeof(undiffuse_session_options); set by undiffuse_session_options_init.
    pub struct_size: usize,
    /// Samples at once, at least 1. What a sample becomes does not depend on it.
    pub batch: usize,
    /// The number of the first sample. Sample i of a seed is the same in whatever batch, process or machine it is made,
    /// so a large run is cut into shards by this number alone.
    pub first_sample: u64,
    /// The seed of the noise.
    pub seed: u64,
    /// Noise of your own in place of the seed's, or NULL. The struct is read during the call; see it for how long the
    /// arrays must live.
    pub noise: *const undiffuse_noise,
    /// How many threads of the library's own the network may use, the calling thread counted: 0 for as many as the
    /// process may run at once, 1 for none, at most 256. They sleep when they have nothing to do and end when the
    /// session is freed. For the cpu backend; others ignore it.
    pub thread_count: usize,
    /// Your threads in place of the library's, or NULL. Read during the call.
    pub threads: *const undiffuse_threads,
    /// Your memory for the session, of at least undiffuse_session_required_bytes, at any address; or NULL. It must stay
    /// and be nobody else's until the session is freed.
    pub workspace: *mut c_void,
    /// Bytes of that memory.
    pub workspace_bytes: usize,
    /// Your allocator in place of malloc, where there is no workspace, or NULL. Read during the call.
    pub allocator: *const undiffuse_allocator,
    /// A flag that stops the session, or NULL. Several sessions may share one.
    pub cancel: *mut undiffuse_cancel,
    /// Called after each step of undiffuse_session_run, or NULL.
    pub progress: undiffuse_progress_fn,
    /// Passed to `progress`.
    pub progress_user_data: *mut c_void,
    /// Class models: entries of `class_len` floats (undiffuse_model_info), each a class or, where that is above 1, a
    /// vector; sample number i gets entry i modulo their number. NULL for others. Copied.
    pub classes: *const f32,
    /// Floats at `classes`, a multiple of `class_len`.
    pub classes_len: usize,
    /// What the model takes beside x, the level and classes (undiffuse_model_get_input): all of it, in any order; NULL
    /// for models that take nothing more. Read during the call.
    pub conditions: *const undiffuse_condition,
    /// How many stand at `conditions`.
    pub condition_count: usize,
    /// Classifier-free guidance, or NULL for none. It takes about twice the memory. Read during the call.
    pub guidance: *const undiffuse_guidance,
}

sized!(undiffuse_session_options {
    batch: 1,
    first_sample: 0,
    seed: 0,
    noise: core::ptr::null(),
    thread_count: 0,
    threads: core::ptr::null(),
    workspace: core::ptr::null_mut(),
    workspace_bytes: 0,
    allocator: core::ptr::null(),
    cancel: core::ptr::null_mut(),
    progress: None,
    progress_user_data: core::ptr::null_mut(),
    classes: core::ptr::null(),
    classes_len: 0,
    conditions: core::ptr::null(),
    condition_count: 0,
    guidance: core::ptr::null(),
});

/// Fills options with the defaults: one sample, number 0 of seed 0, all cores, malloc. `struct_size` is
/// sizeof(undiffuse_session_options) as your program was compiled. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_options_init(
    options: *mut undiffuse_session_options,
    struct_size: usize,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { ok(core::ptr::null_mut(), || init(options, struct_size)) }
}

pub(crate) type BoxedDenoiser = Box<dyn Denoiser + Send + Sync>;
pub(crate) type SessionChain = Chain<'static, BoxedDenoiser, SharedSampler, BoxedNoise, BoxedEvidence>;

/// The inner side of an `undiffuse_session`.
pub(crate) struct Session {
    /// First, so that it is dropped before the memory that it uses.
    pub chain: SessionChain,
    pub cancel: Arc<Cancel>,
    pub progress: Option<unsafe extern "C" fn(*mut c_void, *const undiffuse_progress) -> i32>,
    pub progress_user_data: UserData,
    pub sample_len: usize,
    pub output_len: usize,
    pub batch: usize,
    pub bytes: usize,
    _memory: Option<AlignedBuf>,
}

/// A pointer of the caller's that travels with a session.
pub(crate) struct UserData(pub *mut c_void);

// SAFETY: it is only passed back to the caller's function, on the thread that calls the session.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

/// A run of a model: one batch of samples on its way from noise to x_0. One thread at a time may use it, any thread;
/// several sessions run at once without knowing of one another. After undiffuse_session_new it allocates nothing.
pub struct undiffuse_session(Handle<Session>);

opaque!(undiffuse_session, "session", Session);

/// What a session is made of, before it has memory.
struct Parts {
    network: Prepared,
    sampler: SharedSampler,
    evidence: BoxedEvidence,
    batch: usize,
    /// Floats of the chain, rounded up to whole cache lines, and of the network.
    chain_len: usize,
    network_len: usize,
}

enum Prepared {
    Pipeline(Box<Pipeline>),
    Host(Shared),
}

/// Answers what a chain asks of a denoiser before it runs.
struct Probe {
    name: String,
    dims: Dims,
    output_len: usize,
    max_batch: usize,
    has_vjp: bool,
}

impl Denoiser for Probe {
    fn name(&self) -> &str {
        &self.name
    }

    fn sample_dims(&self) -> Dims {
        self.dims
    }

    fn output_len(&self) -> usize {
        self.output_len
    }

    fn max_batch(&self) -> usize {
        self.max_batch
    }

    fn has_vjp(&self) -> bool {
        self.has_vjp
    }

    fn predict(&mut self, _: &Call<'_>, _: &[f32], _: &mut [f32]) -> undiffuse::Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "a probe predicts nothing"))
    }
}

const LINE: usize = ALIGNMENT / size_of::<f32>();

impl Parts {
    fn new(
        model: &Model,
        sampler: SharedSampler,
        evidence: Option<BoxedEvidence>,
        threads: Arc<dyn Threads>,
        batch: usize,
        guided: bool,
    ) -> Outcome<Self> {
        let mut evidence = evidence.unwrap_or_else(|| Box::new(NoEvidence));
        let (network, probe, network_len) = match &model.network {
            Network::Pipeline(_) => {
                let p = model.on_threads(threads)?;
                let bytes = if guided { p.guided_workspace_bytes(batch)? } else { p.workspace_bytes(batch)? };
                let len = bytes.div_ceil(size_of::<f32>());
                let output_len = p.networks().predict.outputs().first().map_or(0, |d| d.elements());
                let has_vjp = p.networks().gradient.is_some();
                let name = format!("network on {}", p.network().describe());
                let probe = Probe { name, dims: p.sample_dims(), output_len, max_batch: batch, has_vjp };
                (Prepared::Pipeline(Box::new(p)), probe, len)
            }
            Network::Host(h) => {
                let shared = Shared(Arc::clone(h));
                let name = h.name().to_string();
                let probe = Probe {
                    name,
                    dims: h.dims,
                    output_len: h.output_len,
                    max_batch: h.max_batch,
                    has_vjp: h.vjp.is_some(),
                };
                (Prepared::Host(shared), probe, 0)
            }
        };
        let needed = Chain::builder(probe, &sampler, ()).evidence(&mut evidence).batch(batch).workspace_len()?;
        let chain_len = needed.checked_next_multiple_of(LINE).ok_or_else(too_large)?;
        Ok(Self { network, sampler, evidence, batch, chain_len, network_len })
    }

    /// Floats in all.
    fn len(&self) -> Outcome<usize> {
        let len = self.chain_len.checked_add(self.network_len);
        len.filter(|n| n.checked_mul(size_of::<f32>()).is_some_and(|b| b <= isize::MAX as usize)).ok_or_else(too_large)
    }

    /// Bytes of a workspace that may begin anywhere.
    fn bytes(&self) -> Outcome<usize> {
        Ok(self.len()? * size_of::<f32>() + ALIGNMENT)
    }

    /// The chain in `memory`, of at least [`Parts::len`] floats.
    fn chain(
        self,
        memory: &'static mut [f32],
        given: (&Conditions, Option<&Guidance>),
        noise: BoxedNoise,
        first_sample: u64,
    ) -> Outcome<SessionChain> {
        let (for_chain, for_network) = memory.split_at_mut_checked(self.chain_len).ok_or_else(too_large)?;
        let denoiser: BoxedDenoiser = match self.network {
            Prepared::Pipeline(p) => Box::new(match given {
                (conditions, None) => p.denoiser_with_in_memory(self.batch, conditions, for_network)?,
                (conditions, Some(guidance)) => p.guided_in_memory(self.batch, conditions, guidance, for_network)?,
            }),
            Prepared::Host(h) => Box::new(h),
        };
        let parts = Chain::builder(denoiser, self.sampler, noise).evidence(self.evidence).batch(self.batch);
        Ok(parts.first_sample(first_sample).workspace(for_chain).build()?)
    }
}

fn too_large() -> Failure {
    Failure::new(UNDIFFUSE_OUT_OF_MEMORY, "the session is too large for this machine")
}

/// Makes a session of the caller's arguments.
///
/// # Safety
/// The pointers are what the header asks for.
pub(crate) unsafe fn make(
    model: *const undiffuse_model,
    sampler: *const undiffuse_sampler,
    evidence: *const undiffuse_evidence,
    o: &undiffuse_session_options,
) -> Outcome<Session> {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        let model = read(model)?;
        let evidence = read_optional(evidence)?.map(|e| e.make()).transpose()?;
        let sampler = model.sampler_or(sampler, evidence.as_ref())?;
        let threads = threads(o.threads, o.thread_count)?;
        let classes = slice(o.classes, o.classes_len, "classes")?;
        let conditions = given(&model, classes, o.conditions, o.condition_count)?;
        let guidance = guidance(o.guidance)?;
        if let (Some(_), Network::Host(_)) = (&guidance, &model.network) {
            let text = "undiffuse_session_options.guidance is given, but the model is a callback";
            return Err(Failure::argument(text.to_string()));
        }
        let sample = model.dims().elements();
        let scheduler = model.scheduler(UNDIFFUSE_SAMPLER_OF_SCHEDULE).ok();
        let noise = source(o.noise, o.seed, sample, o.batch, &sampler, scheduler.as_ref())?;
        let parts = Parts::new(&model, sampler, evidence, threads, o.batch, guidance.is_some())?;
        let output_len = match &parts.network {
            Prepared::Pipeline(p) => p.networks().predict.outputs().first().map_or(0, |d| d.elements()),
            Prepared::Host(h) => h.0.output_len,
        };
        let len = parts.len()?;
        let (memory, floats) = if o.workspace.is_null() {
            if o.workspace_bytes != 0 {
                return Err(Failure::argument(format!(
                    "workspace is NULL, but workspace_bytes is {}",
                    o.workspace_bytes
                )));
            }
            let mut memory = heap(o.allocator)?.zeroed(len)?;
            let at = memory.as_mut_ptr();
            (Some(memory), at)
        } else {
            let (needed, got) = (parts.bytes()?, o.workspace_bytes);
            if got < needed {
                let text = format!("the workspace has {got} bytes, expected {needed}");
                return Err(Failure::new(UNDIFFUSE_OUT_OF_MEMORY, text));
            }
            if !o.allocator.is_null() {
                return Err(Failure::argument("a workspace and an allocator are both given"));
            }
            // What aligning takes is counted in the needed bytes.
            let at = o.workspace.cast::<u8>();
            let at = at.add(at.align_offset(ALIGNMENT)).cast::<f32>();
            // Rust asks for memory that was written to.
            at.write_bytes(0, len);
            (None, at)
        };
        // Lives as long as the session, which drops the chain first.
        let floats: &'static mut [f32] = core::slice::from_raw_parts_mut(floats, len);
        let (batch, cancel) = (parts.batch, undiffuse_cancel::shared(o.cancel));
        Ok(Session {
            chain: parts.chain(floats, (&conditions, guidance.as_ref()), noise, o.first_sample)?,
            cancel,
            progress: o.progress,
            progress_user_data: UserData(o.progress_user_data),
            sample_len: sample,
            output_len,
            batch,
            bytes: len * size_of::<f32>(),
            _memory: memory,
        })
    }
}

/// Writes to *bytes how much memory undiffuse_session_new takes for these arguments, at whatever address: of your
/// workspace, your allocator or malloc. Nothing is allocated but small temporaries, and no thread is started.
///
/// As for undiffuse_session_new: `sampler` may be NULL for the usual one, `evidence` for none, `options` for the
/// defaults. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_required_bytes(
    model: *const undiffuse_model,
    sampler: *const undiffuse_sampler,
    evidence: *const undiffuse_evidence,
    options: *const undiffuse_session_options,
    bytes: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(bytes, "bytes")?;
            let o = options_or_defaults(options)?;
            let model = read(model)?;
            let evidence = read_optional(evidence)?.map(|e| e.make()).transpose()?;
            let sampler = model.sampler_or(sampler, evidence.as_ref())?;
            let threads = counted(o.threads, o.thread_count)?;
            let guided = !o.guidance.is_null();
            out.set(Parts::new(&model, sampler, evidence, threads, o.batch, guided)?.bytes()?);
            Ok(())
        })
    }
}

/// Makes a session at x_T.
///
/// `sampler` may be NULL: with evidence for the sampler that undiffuse_evidence_recommend_sampler chooses, without for
/// the default of undiffuse_sampler_options. `evidence` may be NULL for none, `options` for the defaults. All that they
/// point at is read during the call; see undiffuse_session_options for what must live longer. The handles may be freed
/// afterwards. On success *session is yours; free it with undiffuse_session_free.
///
/// Status: UNDIFFUSE_UNSUPPORTED where evidence needs a vector-Jacobian product that the model has not, or does not
/// suit the sampler; UNDIFFUSE_SHAPE, UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_new(
    model: *const undiffuse_model,
    sampler: *const undiffuse_sampler,
    evidence: *const undiffuse_evidence,
    options: *const undiffuse_session_options,
    session: *mut *mut undiffuse_session,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(session, "session")?;
            let o = options_or_defaults(options)?;
            out.give_handle(make(model, sampler, evidence, &o)?)
        })
    }
}

/// What the session runs on, such as "network on cpu avx512, 2 threads", without a NUL at the end.
///
/// With a NULL `buffer`, *len is set to the required number of bytes. Otherwise *len is the size of `buffer`, and is
/// set to the bytes written. Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the required length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_session_describe(
    session: *const undiffuse_session,
    buffer: *mut c_char,
    len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            crate::guard::fill(("buffer", buffer.cast::<u8>()), len, read(session)?.chain.denoiser().name().as_bytes())
        })
    }
}
