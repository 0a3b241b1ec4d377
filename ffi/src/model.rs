//! Models: a network compiled from a file or from memory, or the caller's own denoiser.

use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_char;
use core::mem::MaybeUninit;

use undiffuse::ErrorKind;
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::{Cpu, CpuOptions, WeightType};
use undiffuse::backend::threads::Threads;
use undiffuse::pipeline::{Decoding, Encoding, Gradient, Pipeline, PipelineOptions, Precision, Source};
use undiffuse::sampler::{SamplerKind, SchedulerConfig};
use undiffuse::tensor::MAX_RANK;

use crate::callbacks::{HostDenoiser, undiffuse_denoiser};
use crate::codec::dims_of;
use crate::enums::undiffuse_backend::{self, *};
use crate::enums::undiffuse_gradient::{self, *};
use crate::enums::undiffuse_precision::{self, *};
use crate::enums::undiffuse_sampler_kind::{self, *};
use crate::enums::undiffuse_weight_type::{self, *};
use crate::guard::{Handle, fill, free_handle, ok, opaque, output, read, slice, string, text, void};
use crate::memory::{heap, undiffuse_allocator};
use crate::options::{give, init, options, options_or_defaults, sized, value};
use crate::schedule::sampler_kind;
use crate::status::undiffuse_status::{UNDIFFUSE_CONFIG, UNDIFFUSE_UNSUPPORTED};
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};

/// What a model runs on.
pub(crate) enum Network {
    Pipeline(Box<Pipeline>),
    Host(Arc<HostDenoiser>),
}

/// The inner side of an `undiffuse_model`. Sessions share it.
pub(crate) struct Model {
    pub network: Network,
    /// That of callbacks; a pipeline has its own, which is not judged before a sampler is made of it.
    pub given: Option<SchedulerConfig>,
    /// The text of the model's configuration; empty for a callback.
    pub config: String,
    /// What the network takes; none for a callback.
    pub inputs: Vec<(CString, undiffuse::graph::Input)>,
}

/// What predicts: a network compiled from weights, or callbacks of yours; with the configuration of its scheduler.
///
/// It is never changed, so any number of threads and sessions may use one at once. Sessions keep what they need of it:
/// you may free it before them.
pub struct undiffuse_model(Handle<Arc<Model>>);

opaque!(undiffuse_model, "model", Arc<Model>);

/// How a model is loaded.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_model_options {
    /// sizeof(undiffuse_model_options); set by undiffuse_model_options_init.
    pub struct_size: usize,
    /// What runs the network.
    pub backend: MaybeUninit<undiffuse_backend>,
    /// Which of the backend's devices, from 0. See undiffuse_device_count.
    pub device: u32,
    /// Height of the images; 0, with a width of 0, is the size that the model was trained for.
    pub height: usize,
    /// Width of the images.
    pub width: usize,
    /// Whether sessions can also give vector-Jacobian products, which some evidence needs. It doubles the bytes of the
    /// weights.
    pub gradient: MaybeUninit<undiffuse_gradient>,
    /// What the network computes in.
    pub precision: MaybeUninit<undiffuse_precision>,
    /// The text of a diffusers scheduler_config.json to take the place of the model's own, which is then not looked at,
    /// or NULL. Read during the call; judged when a sampler is made.
    pub scheduler_json: *const c_char,
    /// Bytes of that text; 0 if it ends with a NUL.
    pub scheduler_json_len: usize,
    /// Your allocator for the weights, or NULL for malloc. The struct is read during the call.
    pub allocator: *const undiffuse_allocator,
    /// Of a latent model (a pipeline with vae or vqvae): decodes in tiles what would take more than so many bytes in
    /// one piece, where 0 leaves the decoder out: samples are then latents. 1 GiB by default.
    pub decode_bytes: usize,
    /// How the CPU keeps weights.
    pub weights: MaybeUninit<undiffuse_weight_type>,
    /// Of a latent model: loads the encoder too, which undiffuse_codec_encode needs, and encodes in tiles what would
    /// take more than so many bytes in one piece. 0, the default, leaves it out.
    pub encode_bytes: usize,
}

sized!(undiffuse_model_options {
    backend: MaybeUninit::new(UNDIFFUSE_BACKEND_CPU),
    device: 0,
    height: 0,
    width: 0,
    gradient: MaybeUninit::new(UNDIFFUSE_GRADIENT_NONE),
    precision: MaybeUninit::new(UNDIFFUSE_PRECISION_F32),
    scheduler_json: core::ptr::null(),
    scheduler_json_len: 0,
    allocator: core::ptr::null(),
    decode_bytes: undiffuse::codec::DECODE_BYTES,
    weights: MaybeUninit::new(UNDIFFUSE_WEIGHT_F32),
    encode_bytes: 0,
});

/// Information about a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_model_info {
    /// sizeof(undiffuse_model_info); you set it before the call.
    pub struct_size: usize,
    /// Dimensions of one sample: 3 for images.
    pub rank: usize,
    /// The dimensions, outermost first: channels, height, width. Those beyond the rank are 0.
    pub dims: [usize; 4],
    /// Floats of one sample: the product of the dimensions.
    pub sample_len: usize,
    /// Floats that the network gives for a sample: as many, or twice as many where it learned a variance.
    pub output_len: usize,
    /// How many classes a class model knows, which are the whole numbers below; 0 for others, also for those of
    /// `class_len` above 0 that take any number or a vector.
    pub class_count: usize,
    /// How many weights the network has; 0 for callbacks.
    pub parameter_count: u64,
    /// Floating-point operations of one network call for one sample; 0 where it is not known.
    pub flops: u64,
    /// Bytes of the packed weights, all of them from your allocator if you gave one.
    pub weight_bytes: usize,
    /// x, on which the chain works, is sample_scale times the data plus sample_shift. Mostly 1 and 0: image models work
    /// on -1 to 1.
    pub sample_scale: f64,
    /// See `sample_scale`.
    pub sample_shift: f64,
    /// A number that differs between models that predict differently; 0 where it is not known.
    pub fingerprint: u64,
    /// 1 if sessions can give vector-Jacobian products.
    pub has_gradient: u32,
    /// 0.
    pub reserved: u32,
    /// Floats of one entry of `classes` in undiffuse_session_options and undiffuse_bound_options: 0 for a model without
    /// classes and for callbacks, 1 where a class is a number, more where it is a vector.
    pub class_len: usize,
    /// Inputs of the network, x and the timestep among them, see undiffuse_model_get_input; 0 for callbacks.
    pub input_count: usize,
    /// Floats of one sample's data, see undiffuse_codec: those of an image where samples are latents, else as many as
    /// of a sample.
    pub data_len: usize,
    /// Dimensions of the data.
    pub data_rank: usize,
    /// The dimensions, outermost first. Those beyond the rank are 0.
    pub data_dims: [usize; 4],
    /// Bytes of the packed weights of the decoder of latents; 0 for other models.
    pub decoder_weight_bytes: usize,
    /// Bytes of the packed weights of the encoder, see `encode_bytes` of undiffuse_model_options; 0 where there is
    /// none.
    pub encoder_weight_bytes: usize,
}

sized!(undiffuse_model_info {
    rank: 0,
    dims: [0; 4],
    sample_len: 0,
    output_len: 0,
    class_count: 0,
    parameter_count: 0,
    flops: 0,
    weight_bytes: 0,
    sample_scale: 1.0,
    sample_shift: 0.0,
    fingerprint: 0,
    has_gradient: 0,
    reserved: 0,
    class_len: 0,
    input_count: 0,
    data_len: 0,
    data_rank: 0,
    data_dims: [0; 4],
    decoder_weight_bytes: 0,
    encoder_weight_bytes: 0,
});

/// Fills options with the defaults: the cpu backend, the model's own size and scheduler, no gradient, malloc.
///
/// `struct_size` is sizeof(undiffuse_model_options) as your program was compiled. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_options_init(
    options: *mut undiffuse_model_options,
    struct_size: usize,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { ok(core::ptr::null_mut(), || init(options, struct_size)) }
}

fn compile(mut source: Source<'_>, o: &undiffuse_model_options) -> Outcome<Model> {
    let (height, width) = (o.height, o.width);
    if (height == 0) != (width == 0) {
        return Err(Failure::argument(format!("the size is {height} x {width}, expected both 0 or none")));
    }
    let precision = value(o.precision)?;
    let pipeline_options = PipelineOptions {
        precision: match precision {
            // f16 is how a backend keeps values.
            UNDIFFUSE_PRECISION_F32 | UNDIFFUSE_PRECISION_F16 => Precision::F32,
            UNDIFFUSE_PRECISION_INT8 => Precision::Int8,
            UNDIFFUSE_PRECISION_BF16 => Precision::Bf16,
        },
        size: (height > 0).then_some([height, width]),
        scheduler: None,
        gradient: match value(o.gradient)? {
            UNDIFFUSE_GRADIENT_NONE => Gradient::None,
            UNDIFFUSE_GRADIENT_FULL => Gradient::Full,
            UNDIFFUSE_GRADIENT_RECOMPUTE => Gradient::Recompute,
        },
        decoding: match o.decode_bytes {
            0 => Decoding::None,
            bytes => Decoding::Within(bytes),
        },
        encoding: match o.encode_bytes {
            0 => Encoding::None,
            bytes => Encoding::Within(bytes),
        },
    };
    if !o.scheduler_json.is_null() {
        // SAFETY: the caller's promise to `load`.
        let json = unsafe { text(o.scheduler_json, o.scheduler_json_len, "scheduler_json") }?;
        source.set_scheduler_json(json.to_string()).map_err(|e| e.context("scheduler_json"))?;
    }
    // SAFETY: likewise.
    let heap = unsafe { heap(o.allocator) }?;
    let backend = value(o.backend)?;
    let lacks: &[_] = match backend {
        UNDIFFUSE_BACKEND_WGPU => &[UNDIFFUSE_PRECISION_INT8, UNDIFFUSE_PRECISION_BF16],
        UNDIFFUSE_BACKEND_CPU | UNDIFFUSE_BACKEND_REFERENCE => &[UNDIFFUSE_PRECISION_F16],
    };
    if lacks.contains(&precision) {
        return Err(Failure::new(UNDIFFUSE_UNSUPPORTED, format!("{backend:?} has no {precision:?}")));
    }
    if backend != UNDIFFUSE_BACKEND_WGPU && o.device != 0 {
        return Err(Failure::argument(format!("device {} of {backend:?} is not there", o.device)));
    }
    let weights = value(o.weights)?;
    if backend != UNDIFFUSE_BACKEND_CPU && weights != UNDIFFUSE_WEIGHT_F32 {
        return Err(Failure::new(UNDIFFUSE_UNSUPPORTED, format!("{backend:?} has no {weights:?}")));
    }
    let weights = match weights {
        UNDIFFUSE_WEIGHT_F32 => WeightType::F32,
        UNDIFFUSE_WEIGHT_F16 => WeightType::F16,
        UNDIFFUSE_WEIGHT_BF16 => WeightType::Bf16,
        UNDIFFUSE_WEIGHT_INT8 => WeightType::Int8,
        UNDIFFUSE_WEIGHT_INT4 => WeightType::Int4,
    };
    let backend: Box<dyn Backend> = match backend {
        // Sessions have threads of their own.
        UNDIFFUSE_BACKEND_CPU => {
            let options = CpuOptions { threads: Some(1), weights, ..CpuOptions::default() };
            Box::new(Cpu::with_options(options)?.with_heap(heap))
        }
        #[cfg(feature = "reference")]
        UNDIFFUSE_BACKEND_REFERENCE => Box::new(undiffuse::backend::reference::Reference),
        #[cfg(feature = "wgpu")]
        UNDIFFUSE_BACKEND_WGPU => {
            use undiffuse::backend::wgpu::{self, Wgpu, WgpuOptions};
            let precision = match precision {
                UNDIFFUSE_PRECISION_F16 => wgpu::Precision::F16,
                _ => wgpu::Precision::F32,
            };
            let options = WgpuOptions { precision, ..WgpuOptions::default() };
            Box::new(Wgpu::open(Some(o.device as usize), options)?)
        }
        #[allow(unreachable_patterns)] // A build may have all of them.
        other => return Err(not_built_in(other)),
    };
    let pipeline = source.compile(&*backend, &pipeline_options)?;
    let inputs = crate::condition::named(pipeline.inputs())?;
    let config = source.model_json().to_string();
    Ok(Model { given: None, network: Network::Pipeline(Box::new(pipeline)), config, inputs })
}

pub(crate) fn not_built_in(backend: undiffuse_backend) -> Failure {
    Failure::new(UNDIFFUSE_UNSUPPORTED, format!("{backend:?} is not built in"))
}

#[cfg(feature = "std")]
fn open(path: &str) -> Outcome<Source<'static>> {
    Ok(Source::open(path)?)
}

#[cfg(not(feature = "std"))]
fn open(_path: &str) -> Outcome<Source<'static>> {
    Err(Failure::new(UNDIFFUSE_UNSUPPORTED, "this build reads no files: load the model from memory"))
}

/// Loads a diffusers pipeline directory, a model's own directory, one of its weight files, or a packed file.
///
/// `path` is UTF-8. `options` may be NULL for the defaults. On success *model is yours; free it with
/// undiffuse_model_free. The file is read during the call alone. A file that is malformed in any way is refused with a
/// message that names what is wrong. The scheduler may be of any class, or missing: a sampler of the kind DDIM or DDPM
/// can be made of those with betas, and `scheduler_json` gives another.
///
/// Status: UNDIFFUSE_IO, UNDIFFUSE_CONFIG, UNDIFFUSE_WEIGHTS, UNDIFFUSE_SHAPE for a size that the network cannot have,
/// UNDIFFUSE_UNSUPPORTED (in a build without files always), UNDIFFUSE_DEVICE where a GPU fails. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_load(
    path: *const c_char,
    options: *const undiffuse_model_options,
    model: *mut *mut undiffuse_model,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe {
        ok(error, || {
            let out = output(model, "model")?;
            let o = options_or_defaults(options)?;
            let path = string(path, "path")?;
            let source = open(path)?;
            out.give_handle(Arc::new(compile(source, &o).map_err(|e| e.context(path))?))
        })
    }
}

/// Loads a packed file that is in memory, `len` bytes at `data`: for a model that is a C array of your program, or was
/// decrypted.
///
/// The bytes are borrowed for the call and not needed afterwards: the weights are packed into memory of the model's
/// own. Otherwise as undiffuse_model_load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_load_memory(
    data: *const u8,
    len: usize,
    options: *const undiffuse_model_options,
    model: *mut *mut undiffuse_model,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(model, "model")?;
            let o = options_or_defaults(options)?;
            let source = Source::from_bytes(slice(data, len, "data")?)?;
            out.give_handle(Arc::new(compile(source, &o)?))
        })
    }
}

/// Loads the handwritten digits that come with the library: 1 x 28 x 28, values -1 to 1.
///
/// Status: UNDIFFUSE_UNSUPPORTED in a build without them; otherwise as undiffuse_model_load. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_load_embedded(
    options: *const undiffuse_model_options,
    model: *mut *mut undiffuse_model,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(model, "model")?;
            let o = options_or_defaults(options)?;
            let source = Source::from_bytes(embedded()?)?;
            out.give_handle(Arc::new(compile(source, &o)?))
        })
    }
}

#[cfg(feature = "embedded-digits")]
fn embedded() -> Outcome<&'static [u8]> {
    Ok(include_bytes!("../../pretrained/digits.safetensors"))
}

#[cfg(not(feature = "embedded-digits"))]
fn embedded() -> Outcome<&'static [u8]> {
    Err(Failure::new(UNDIFFUSE_UNSUPPORTED, "this build has no embedded model"))
}

/// Makes a model of your own functions: any other engine runs the network, this library runs the chain.
///
/// `denoiser` is read during the call; its `user_data` must live until the model and all sessions made from it are
/// freed. On success *model is yours; free it with undiffuse_model_free. Status: UNDIFFUSE_SHAPE, UNDIFFUSE_CONFIG,
/// UNDIFFUSE_UNSUPPORTED. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_from_denoiser(
    denoiser: *const undiffuse_denoiser,
    model: *mut *mut undiffuse_model,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(model, "model")?;
            let (host, scheduler) = HostDenoiser::new(&options(denoiser)?)?;
            let model = Model {
                network: Network::Host(Arc::new(host)),
                given: Some(scheduler),
                config: String::new(),
                inputs: Vec::new(),
            };
            out.give_handle(Arc::new(model))
        })
    }
}

/// Writes information about the model to *info, whose struct_size you set. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_get_info(
    model: *const undiffuse_model,
    info: *mut undiffuse_model_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let model = read(model)?;
            let (sample, mut i) = (model.dims(), <undiffuse_model_info as crate::options::VersionedStruct>::defaults());
            i.rank = sample.rank();
            i.dims[..MAX_RANK.min(sample.rank())].copy_from_slice(sample.as_slice());
            i.sample_len = sample.elements();
            // The scale of a model whose scheduler says none.
            if let Ok(scheduler) = model.scheduler(UNDIFFUSE_SAMPLER_OF_SCHEDULE) {
                (i.sample_scale, i.sample_shift) =
                    (scheduler.chain_2015.sample_scale, scheduler.chain_2015.sample_shift);
            }
            i.input_count = model.inputs.len();
            let data = model.data_dims()?;
            (i.data_len, i.data_rank, i.data_dims) = (data.elements(), data.rank(), dims_of(data));
            match &model.network {
                Network::Pipeline(p) => {
                    i.output_len = p.networks().predict.outputs().first().map_or(0, |d| d.elements());
                    i.class_count = p.model().classes().unwrap_or(0);
                    i.class_len = p.class_len();
                    i.parameter_count = p.parameter_count() as u64;
                    i.flops = p.flops();
                    i.weight_bytes = p.weight_bytes();
                    i.decoder_weight_bytes = p.decoder().map_or(0, |d| d.weight_bytes());
                    i.encoder_weight_bytes = p.encoder().map_or(0, |e| e.weight_bytes());
                    i.fingerprint = p.fingerprint();
                    i.has_gradient = u32::from(p.networks().gradient.is_some());
                }
                Network::Host(h) => {
                    i.output_len = h.output_len;
                    i.fingerprint = h.fingerprint;
                    i.has_gradient = u32::from(h.vjp.is_some());
                }
            }
            give(info, &i)
        })
    }
}

/// The model's scheduler as the text of a diffusers scheduler_config.json, without a NUL at the end: all keys, or, of a
/// class that this library does not know, as it was found; of length 0 where the model came without one.
///
/// With a NULL `buffer`, *len is set to the required number of bytes. Otherwise *len is the size of `buffer`, and is
/// set to the bytes written. Status: UNDIFFUSE_BUFFER_TOO_SMALL, then *len is the required length. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_scheduler_json(
    model: *const undiffuse_model,
    buffer: *mut c_char,
    len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { ok(error, || fill(("buffer", buffer.cast::<u8>()), len, read(model)?.scheduler_json().as_bytes())) }
}

/// The text of the model's configuration, a diffusers config.json; of length 0 for callbacks. As
/// undiffuse_model_scheduler_json.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_config_json(
    model: *const undiffuse_model,
    buffer: *mut c_char,
    len: *mut usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe { ok(error, || fill(("buffer", buffer.cast::<u8>()), len, read(model)?.config.as_bytes())) }
}

/// Frees a model. Sessions made from it stay usable. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_model_free(model: *mut undiffuse_model) {
    // SAFETY: as above.
    void(|| unsafe { free_handle(model) });
}

impl Model {
    pub fn dims(&self) -> undiffuse::tensor::Dims {
        match &self.network {
            Network::Pipeline(p) => p.sample_dims(),
            Network::Host(h) => h.dims,
        }
    }

    /// Dimensions of one sample's data.
    pub fn data_dims(&self) -> Outcome<undiffuse::tensor::Dims> {
        match &self.network {
            Network::Pipeline(p) => Ok(p.data_dims()?),
            Network::Host(h) => Ok(h.dims),
        }
    }

    /// The scheduler's configuration, to be run with a sampler of this kind.
    pub fn scheduler(&self, kind: undiffuse_sampler_kind) -> Outcome<SchedulerConfig> {
        let wanted = match kind {
            // It takes the schedule of any diffusers class.
            UNDIFFUSE_SAMPLER_REPAINT
            | UNDIFFUSE_SAMPLER_SPLIT_GIBBS
            | UNDIFFUSE_SAMPLER_DECOUPLED_ANNEALING
            | UNDIFFUSE_SAMPLER_INPUT_OPTIMIZATION => Some(SamplerKind::Ddpm),
            _ => sampler_kind(kind),
        };
        match (&self.network, &self.given) {
            (_, Some(given)) => Ok(given.clone()),
            (Network::Pipeline(p), None) if p.scheduler_json().is_none() => {
                let hint =
                    "the model comes without a scheduler: load it with a scheduler_json in undiffuse_model_options";
                Err(Failure::new(UNDIFFUSE_CONFIG, hint.to_string()))
            }
            (Network::Pipeline(p), None) => Ok(p.scheduler_for(wanted)?),
            (Network::Host(_), None) => Err(Failure::argument("a callback has no scheduler")),
        }
    }

    /// Checks the classes of an option, which is named.
    pub fn check_classes(&self, classes: &[f32], option: &str) -> Outcome<()> {
        match &self.network {
            Network::Pipeline(p) => Ok(p.check_classes(classes).map_err(|e| e.context(option))?),
            Network::Host(_) if classes.is_empty() => Ok(()),
            Network::Host(_) => {
                Err(Failure::argument(format!("{option}: classes are given, but the model is a callback")))
            }
        }
    }

    fn scheduler_json(&self) -> String {
        match (&self.network, &self.given) {
            (_, Some(given)) => given.to_json(),
            (Network::Pipeline(p), None) => p.scheduler_json().unwrap_or_default(),
            (Network::Host(_), None) => String::new(),
        }
    }

    /// The network on a session's threads. A backend that does not run on the host's threads stays as it is.
    pub fn on_threads(&self, threads: Arc<dyn Threads>) -> Outcome<Pipeline> {
        match &self.network {
            Network::Pipeline(p) => match p.on_threads(threads) {
                Ok(p) => Ok(p),
                Err(e) if e.kind() == ErrorKind::Unsupported => Ok((**p).clone()),
                Err(e) => Err(e.into()),
            },
            Network::Host(_) => Err(Failure::new(UNDIFFUSE_UNSUPPORTED, "a callback has no network")),
        }
    }
}

#[cfg(test)]
mod tests;
