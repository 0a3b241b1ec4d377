//! Noise: the library's streams, given arrays, the caller's function, or a Python library's generator.

use alloc::boxed::Box;
use alloc::format;
use core::ffi::c_void;
use core::mem::MaybeUninit;

use undiffuse::noise::{
    BrownianTree, DrawnFor, DrawnIn, Fingerprint, Given, NoiseSource, PythonGenerator, PythonNoise, Seeded, TreeSeed,
};
use undiffuse::sampler::{Sampler, SchedulerConfig, brownian_intervals};

use crate::callbacks::returned;
use crate::enums::undiffuse_drawn_in::{self, *};
use crate::enums::undiffuse_generator::{self, *};
use crate::enums::undiffuse_noise_kind::{self, *};
use crate::guard::{ok, slice, slice_mut};
use crate::options::{flag, options, sized, value};
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};

/// Fills `out`, [count, sample_len], with draw `draw` of the samples `first_sample`, `first_sample` + 1, ...: values of
/// the kind `kind`. Draw 0 is x_T, draw k the noise of step k - 1; draws from 2^63 on are the evidence's. The same draw
/// of a sample must always be the same values. Returns as undiffuse_predict_fn. Called on the thread that called the
/// library.
pub type undiffuse_noise_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        kind: undiffuse_noise_kind,
        first_sample: u64,
        draw: u64,
        sample_len: usize,
        count: usize,
        out: *mut f32,
    ) -> i32,
>;

/// Where a session gets its noise if not from a seed: from arrays, from a function, or from a Python library's
/// generator with the session's seed, in the order in which diffusers' pipelines draw.
///
/// Arrays are borrowed: they must stay as they are until the session is freed. With a function or a generator they are
/// NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_noise {
    /// sizeof(undiffuse_noise).
    pub struct_size: usize,
    /// x_T of `samples` samples, [samples, sample_len]: multiplied by the sampler's initial_scale.
    pub x_t: *const f32,
    /// The noise of each step, [steps, samples, sample_len]. NULL where no step needs any.
    pub noise: *const f32,
    /// How many steps have noise.
    pub steps: usize,
    /// How many samples the arrays are for. With a generator: how many are drawn at once, from sample 0, and so what
    /// all of them depend on; 0 with `each_seed`.
    pub samples: usize,
    /// The number of the first of them.
    pub first_sample: u64,
    /// A function in place of arrays, or NULL.
    pub fill: undiffuse_noise_fn,
    /// Passed to the function.
    pub user_data: *mut c_void,
    /// A number that differs between functions that give different noise, for saved sessions.
    pub fingerprint: u64,
    /// Whose generator, UNDIFFUSE_GENERATOR_OWN with arrays or a function. Evidence that needs noise of its own fails
    /// with such noise. UNDIFFUSE_SAMPLER_DPM_SOLVER_SDE with UNDIFFUSE_GENERATOR_TORCH_CPU has torchsde's Brownian
    /// tree, of the `noise_sampler_seed` of the model's scheduler, or drawn after x_T without one; f32 only.
    pub generator: MaybeUninit<undiffuse_generator>,
    /// The type that the other program draws in; UNDIFFUSE_DRAWN_IN_F32 for JAX.
    pub drawn_in: MaybeUninit<undiffuse_drawn_in>,
    /// 1: sample i has a generator of its own, of the session's seed + i, as diffusers with a list of generators; 0:
    /// all have one.
    pub each_seed: u32,
    /// With torch.Generator("cuda"): how many threads the GPU runs at once, its multi_processor_count times
    /// max_threads_per_multi_processor. 0 stands for every GPU and allows draws of up to 6144 values, which are the
    /// same on all.
    pub gpu_threads: u32,
    /// With a generator: the step at which the run begins, for undiffuse_session_start_from; the other program draws
    /// nothing for steps before. 0 for a run from x_T.
    pub first_step: usize,
    /// With a generator: how many images the other program encodes to distributions, which it samples before all else,
    /// as diffusers' image to image with an AutoencoderKL does; 0 for none. With `each_seed` any other number stands
    /// for an image of each sample. undiffuse_session_noise gives that draw, number UNDIFFUSE_ENCODER_DRAW.
    pub encoded_images: usize,
}

sized!(undiffuse_noise {
    x_t: core::ptr::null(),
    noise: core::ptr::null(),
    steps: 0,
    samples: 0,
    first_sample: 0,
    fill: None,
    user_data: core::ptr::null_mut(),
    fingerprint: 0,
    generator: MaybeUninit::new(UNDIFFUSE_GENERATOR_OWN),
    drawn_in: MaybeUninit::new(UNDIFFUSE_DRAWN_IN_F32),
    each_seed: 0,
    gpu_threads: 0,
    first_step: 0,
    encoded_images: 0,
});

/// The draw by which an encoder's distribution of latents is sampled (undiffuse_codec_encode), sample being the image's
/// number: no chain's, whose draws are numbered by its steps.
pub const UNDIFFUSE_ENCODER_DRAW: u64 = 0x4000_0000_0000_0000;

const _: () = assert!(UNDIFFUSE_ENCODER_DRAW == undiffuse::noise::ENCODER_DRAW);

struct Host {
    fill: unsafe extern "C" fn(*mut c_void, undiffuse_noise_kind, u64, u64, usize, usize, *mut f32) -> i32,
    user_data: *mut c_void,
    fingerprint: u64,
}

// SAFETY: the function is called on the thread that calls the session, as the header says.
unsafe impl Send for Host {}
// SAFETY: it is only called by exclusive reference.
unsafe impl Sync for Host {}

impl Host {
    fn ask(
        &mut self,
        kind: undiffuse_noise_kind,
        first: u64,
        draw: u64,
        sample_len: usize,
        out: &mut [f32],
    ) -> undiffuse::Result<()> {
        let count = out.len() / sample_len.max(1);
        // SAFETY: the header says what the function may do; the buffer has as many values.
        let code = unsafe { (self.fill)(self.user_data, kind, first, draw, sample_len, count, out.as_mut_ptr()) };
        returned("the noise callback", code)?;
        match out.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => Err(undiffuse::Error::new(
                undiffuse::ErrorKind::NonFinite,
                format!("the noise callback gave a value that is not finite at element {at}"),
            )),
        }
    }
}

impl NoiseSource for Host {
    fn normal(&mut self, first: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> undiffuse::Result<()> {
        self.ask(UNDIFFUSE_NOISE_NORMAL, first, draw, sample_len, out)
    }

    fn uniform(&mut self, first: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> undiffuse::Result<()> {
        self.ask(UNDIFFUSE_NOISE_UNIFORM, first, draw, sample_len, out)
    }

    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"callback").u64(self.fingerprint).finish()
    }
}

/// A session's noise.
pub(crate) type BoxedNoise = Box<dyn NoiseSource + Send + Sync>;

/// The noise of a session's options. `scheduler` is the model's, if it has one.
///
/// # Safety
/// NULL or what the header asks for; arrays stay as they are as long as the source is used.
pub(crate) unsafe fn source(
    noise: *const undiffuse_noise,
    seed: u64,
    sample_len: usize,
    batch: usize,
    sampler: &dyn Sampler,
    scheduler: Option<&SchedulerConfig>,
) -> Outcome<BoxedNoise> {
    if noise.is_null() {
        return Ok(Box::new(Seeded::new(seed)));
    }
    // SAFETY: the caller's promise, here and below.
    let o = unsafe { options(noise) }?;
    if let Some(noise) = python(&o, seed, sample_len, batch, sampler, scheduler)? {
        return Ok(noise);
    }
    if let Some(fill) = o.fill {
        if !o.x_t.is_null() || !o.noise.is_null() {
            return Err(Failure::argument("undiffuse_noise: arrays and a function are both given"));
        }
        return Ok(Box::new(Host { fill, user_data: o.user_data, fingerprint: o.fingerprint }));
    }
    let len =
        o.samples.checked_mul(sample_len).ok_or_else(|| Failure::argument("undiffuse_noise.samples is too large"))?;
    let all = len.checked_mul(o.steps).ok_or_else(|| Failure::argument("undiffuse_noise.steps is too large"))?;
    // SAFETY: as above; the lifetime is the caller's promise.
    let (x_t, steps) =
        unsafe { (slice(o.x_t, len, "undiffuse_noise.x_t")?, slice(o.noise, all, "undiffuse_noise.noise")?) };
    Ok(Box::new(Given::new(x_t, steps, o.samples, o.first_sample)?))
}

/// The noise of another program's generator, if the options name one.
fn python(
    o: &undiffuse_noise,
    seed: u64,
    sample_len: usize,
    batch: usize,
    sampler: &dyn Sampler,
    scheduler: Option<&SchedulerConfig>,
) -> Outcome<Option<BoxedNoise>> {
    let (each, drawn_in) = (flag(o.each_seed, "undiffuse_noise.each_seed")?, value(o.drawn_in)?);
    let generator = match value(o.generator)? {
        UNDIFFUSE_GENERATOR_OWN if each || drawn_in != UNDIFFUSE_DRAWN_IN_F32 => {
            return Err(Failure::argument(
                "undiffuse_noise: each_seed and drawn_in are for a generator that is not our own",
            ));
        }
        UNDIFFUSE_GENERATOR_OWN if o.first_step != 0 || o.encoded_images != 0 => {
            return Err(Failure::argument(
                "undiffuse_noise: first_step and encoded_images are for a generator that is not our own",
            ));
        }
        UNDIFFUSE_GENERATOR_OWN => return Ok(None),
        UNDIFFUSE_GENERATOR_TORCH_CPU => PythonGenerator::TorchCpu,
        UNDIFFUSE_GENERATOR_TORCH_CUDA => {
            PythonGenerator::TorchCuda { threads: Some(o.gpu_threads).filter(|threads| *threads > 0) }
        }
        UNDIFFUSE_GENERATOR_NUMPY => PythonGenerator::Numpy,
        UNDIFFUSE_GENERATOR_NUMPY_LEGACY => PythonGenerator::NumpyLegacy,
        UNDIFFUSE_GENERATOR_JAX => PythonGenerator::Jax,
    };
    if o.fill.is_some() || !o.x_t.is_null() || !o.noise.is_null() {
        return Err(Failure::argument("undiffuse_noise: a generator and arrays or a function are both given"));
    }
    if each && o.samples != 0 {
        return Err(Failure::argument(format!("undiffuse_noise.samples is {}, expected 0 with each_seed", o.samples)));
    }
    let drawn_for = if each { DrawnFor::Each { at_once: batch } } else { DrawnFor::AllOf(o.samples as u64) };
    let images = o.encoded_images as u64;
    let count = sampler.levels().len();
    if o.first_step > count {
        let text = format!("undiffuse_noise.first_step is {}, expected at most {count}, the steps", o.first_step);
        return Err(Failure::argument(text));
    }
    // diffusers gives this sampler a Brownian motion, which it draws in f32 whatever the model's type.
    if let (PythonGenerator::TorchCpu, Ok((between, [low, high]))) = (generator, brownian_intervals(sampler)) {
        if drawn_in != UNDIFFUSE_DRAWN_IN_F32 {
            let text =
                "undiffuse_noise.drawn_in: torchsde's Brownian tree is drawn in f32, expected UNDIFFUSE_DRAWN_IN_F32";
            return Err(Failure::argument(text));
        }
        let given = scheduler.map(SchedulerConfig::noise_sampler_seed).transpose()?.flatten();
        let tree = given.map_or(TreeSeed::Drawn, TreeSeed::Given);
        let tree = BrownianTree::new(seed, tree, drawn_for, sample_len, &between)?.with_ends(low, high)?;
        return Ok(Some(match images {
            0 => Box::new(tree),
            images => Box::new(tree.with_encoder(images)?),
        }));
    }
    let steps = (o.first_step..count).filter(|step| sampler.needs_noise(*step));
    let draws = core::iter::once(0).chain(steps.map(|step| step as u64 + 1)).collect();
    let drawn_in = match drawn_in {
        UNDIFFUSE_DRAWN_IN_F32 => DrawnIn::F32,
        UNDIFFUSE_DRAWN_IN_F16 => DrawnIn::F16,
        UNDIFFUSE_DRAWN_IN_BF16 => DrawnIn::Bf16,
    };
    let noise = PythonNoise::new(generator, seed, drawn_for, sample_len)?.with_type(drawn_in)?.with_draws(draws)?;
    Ok(Some(match images {
        0 => Box::new(noise),
        images => Box::new(noise.with_encoder(images)?),
    }))
}

/// Fills `out` with `len` standard normal values: those that a session of this seed sees in draw `draw` of sample
/// `sample`.
///
/// Draw 0 is x_T, draw k the noise of step k - 1. The values depend on (seed, sample, draw) and their position alone,
/// on every platform. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_noise_normal(
    seed: u64,
    sample: u64,
    draw: u64,
    out: *mut f32,
    len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe {
        ok(error, || {
            let out = slice_mut(out, len, "out")?;
            if len > 0 { Ok(Seeded::new(seed).normal(sample, draw, len, out)?) } else { Ok(()) }
        })
    }
}

/// As undiffuse_noise_normal, but uniform in [0, 1): the noise of binary chains.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_noise_uniform(
    seed: u64,
    sample: u64,
    draw: u64,
    out: *mut f32,
    len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = slice_mut(out, len, "out")?;
            if len > 0 { Ok(Seeded::new(seed).uniform(sample, draw, len, out)?) } else { Ok(()) }
        })
    }
}
