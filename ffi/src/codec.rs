//! From samples to data and back: the autoencoder of a latent model, the scale of a 2015 one.

use alloc::sync::Arc;

use undiffuse::Cancel;
use undiffuse::backend::cpu::AlignedBuf;
use undiffuse::codec::{Codec, scale_of};
use undiffuse::tensor::{Dims, MAX_RANK};
use undiffuse::values::Scale;

use crate::cancel::undiffuse_cancel;
use crate::enums::undiffuse_sampler_kind::UNDIFFUSE_SAMPLER_OF_SCHEDULE;
use crate::guard::{Handle, check_apart, free_handle, ok, opaque, output, read, slice, slice_mut, void, write};
use crate::memory::{heap, undiffuse_allocator};
use crate::model::{Model, Network, undiffuse_model};
use crate::options::{give, init, options_or_defaults, sized};
use crate::status::{Outcome, undiffuse_error, undiffuse_status};
use crate::threads::{threads, undiffuse_threads};

/// How a codec runs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_codec_options {
    /// sizeof(undiffuse_codec_options); set by undiffuse_codec_options_init.
    pub struct_size: usize,
    /// As in undiffuse_session_options.
    pub thread_count: usize,
    /// As in undiffuse_session_options.
    pub threads: *const undiffuse_threads,
    /// Your allocator for the codec's memory in place of malloc, or NULL. Read during the call.
    pub allocator: *const undiffuse_allocator,
    /// A flag that stops undiffuse_codec_decode and undiffuse_codec_encode, or NULL.
    pub cancel: *mut undiffuse_cancel,
}

sized!(undiffuse_codec_options {
    thread_count: 0,
    threads: core::ptr::null(),
    allocator: core::ptr::null(),
    cancel: core::ptr::null_mut(),
});

/// What a codec does and takes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_codec_info {
    /// sizeof(undiffuse_codec_info); you set it before the call.
    pub struct_size: usize,
    /// Floats of one sample.
    pub sample_len: usize,
    /// Dimensions of its data: 3 for images.
    pub rank: usize,
    /// The dimensions, outermost first: channels, height, width. Those beyond the rank are 0.
    pub dims: [usize; 4],
    /// Floats of the data: the product of the dimensions.
    pub data_len: usize,
    /// 1 if samples are latents, which a decoder decodes, else 0.
    pub is_decoder: u32,
    /// 0.
    pub reserved: u32,
    /// Tiles in which a sample is decoded, 1 for one piece; see `decode_bytes` of undiffuse_model_options.
    pub tile_count: usize,
    /// Height and width of a tile in latents.
    pub tile: [usize; 2],
    /// Bytes of the decoder's packed weights, which are the model's.
    pub weight_bytes: usize,
    /// Bytes of the codec's memory.
    pub workspace_bytes: usize,
    /// Floats of what a sample is encoded from, see undiffuse_codec_encode: mostly `data_len`; 0 where samples are
    /// latents and the encoder was left out.
    pub encoded_len: usize,
    /// The dimensions, outermost first: channels, height, width. Those beyond the rank are 0.
    pub encoded_dims: [usize; 4],
    /// 1 if undiffuse_codec_encode samples a distribution by the noise that it is given, else 0.
    pub has_posterior: u32,
    /// 0.
    pub reserved_2: u32,
    /// Tiles in which an image is encoded, 1 for one piece; see `encode_bytes` of undiffuse_model_options.
    pub encoder_tile_count: usize,
    /// Bytes of the encoder's packed weights, which are the model's.
    pub encoder_weight_bytes: usize,
}

sized!(undiffuse_codec_info {
    sample_len: 0,
    rank: 0,
    dims: [0; 4],
    data_len: 0,
    is_decoder: 0,
    reserved: 0,
    tile_count: 1,
    tile: [0; 2],
    weight_bytes: 0,
    workspace_bytes: 0,
    encoded_len: 0,
    encoded_dims: [0; 4],
    has_posterior: 0,
    reserved_2: 0,
    encoder_tile_count: 1,
    encoder_weight_bytes: 0,
});

/// Fills options with the defaults: all cores, malloc. `struct_size` is sizeof(undiffuse_codec_options) as your program
/// was compiled. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_codec_options_init(
    options: *mut undiffuse_codec_options,
    struct_size: usize,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe { ok(core::ptr::null_mut(), || init(options, struct_size)) }
}

/// Floats of a library's block as the codec takes them.
pub(crate) struct Memory(AlignedBuf);

impl AsMut<[f32]> for Memory {
    fn as_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// The inner side of an `undiffuse_codec`.
pub(crate) struct State {
    pub codec: Codec<Memory>,
    pub cancel: Arc<Cancel>,
    bytes: usize,
}

/// Makes data of a model's samples, and samples of data: decodes the latents of a latent model or encodes to them,
/// undoes the scale of a 2015 one or applies it, copies for others. One thread at a time may use it, any thread. It
/// keeps what it needs of the model: you may free that before.
pub struct undiffuse_codec(Handle<State>);

opaque!(undiffuse_codec, "codec", State);

/// # Safety
/// The pointers of `o` are what the header asks for.
pub(crate) unsafe fn make(model: &Model, o: &undiffuse_codec_options) -> Outcome<State> {
    // SAFETY: the caller's promise.
    let heap = unsafe { heap(o.allocator) }?;
    let scale = model.scheduler(UNDIFFUSE_SAMPLER_OF_SCHEDULE).map_or(Scale::default(), |config| scale_of(&config));
    let (decoder, encoder) = match &model.network {
        Network::Pipeline(p) if p.decoder().is_some() || p.encoder().is_some() => {
            // SAFETY: the caller's promise.
            let threads = unsafe { threads(o.threads, o.thread_count) }?;
            let pipeline = model.on_threads(threads)?;
            (pipeline.decoder().cloned(), pipeline.encoder().cloned())
        }
        Network::Pipeline(_) | Network::Host(_) => (None, None),
    };
    let len = Codec::<Memory>::memory_len(decoder.as_ref(), encoder.as_ref())?;
    let memory = Memory(heap.zeroed(len)?);
    let codec = Codec::in_memory(model.dims(), scale, decoder, encoder, memory)?;
    // SAFETY: the caller's promise.
    let cancel = unsafe { undiffuse_cancel::shared(o.cancel) };
    Ok(State { codec, cancel, bytes: len * size_of::<f32>() })
}

/// Makes a codec. `options` may be NULL for the defaults. On success *codec is yours; free it with
/// undiffuse_codec_free. Status: UNDIFFUSE_OUT_OF_MEMORY, UNDIFFUSE_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_codec_new(
    model: *const undiffuse_model,
    options: *const undiffuse_codec_options,
    codec: *mut *mut undiffuse_codec,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let out = output(codec, "codec")?;
            let o = options_or_defaults(options)?;
            let model = read(model)?;
            out.give_handle(make(&model, &o)?)
        })
    }
}

/// The dimensions of data as structs have them.
pub(crate) fn dims_of(dims: Dims) -> [usize; 4] {
    let mut all = [0; 4];
    all[..MAX_RANK.min(dims.rank())].copy_from_slice(dims.as_slice());
    all
}

/// Writes what the codec does and takes to *info, whose struct_size you set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_codec_get_info(
    codec: *const undiffuse_codec,
    info: *mut undiffuse_codec_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let s = read(codec)?;
            let (data, decoder, encoder) = (s.codec.data_dims(), s.codec.decoder(), s.codec.encoder());
            let encoded = s.codec.encoded_dims().ok();
            let i = undiffuse_codec_info {
                struct_size: 0,
                sample_len: s.codec.sample_dims().elements(),
                rank: data.rank(),
                dims: dims_of(data),
                data_len: data.elements(),
                is_decoder: u32::from(decoder.is_some()),
                reserved: 0,
                tile_count: decoder.map_or(1, |d| d.tiles()),
                tile: decoder.map_or([0; 2], |d| d.tile()),
                weight_bytes: decoder.map_or(0, |d| d.weight_bytes()),
                workspace_bytes: s.bytes,
                encoded_len: encoded.map_or(0, |d| d.elements()),
                encoded_dims: encoded.map_or([0; 4], dims_of),
                has_posterior: u32::from(encoder.is_some_and(|e| e.has_posterior())),
                reserved_2: 0,
                encoder_tile_count: encoder.map_or(1, |e| e.tiles()),
                encoder_weight_bytes: encoder.map_or(0, |e| e.weight_bytes()),
            };
            give(info, &i)
        })
    }
}

/// Writes the data of whole samples: `x` are `x_len` floats, [samples, sample_len], as undiffuse_session_x gives them;
/// `data` receives [samples, data_len], `len` floats. Images are in -1 to 1 as far as the decoder keeps them there;
/// nothing is clamped. Arrays do not overlap. Allocates nothing (a GPU's driver may).
///
/// Status: UNDIFFUSE_SHAPE for other lengths, UNDIFFUSE_NON_FINITE for NaN or infinity in `x`, UNDIFFUSE_CANCELLED,
/// UNDIFFUSE_DEVICE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_codec_decode(
    codec: *mut undiffuse_codec,
    x: *const f32,
    x_len: usize,
    data: *mut f32,
    len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let mut s = write(codec)?;
            let x = slice(x, x_len, "x")?;
            check_apart(&[("x", x)], &[("data", data, len)])?;
            let data = slice_mut(data, len, "data")?;
            let State { codec, cancel, .. } = &mut *s;
            Ok(codec.decode(x, data, cancel)?)
        })
    }
}

/// The way back, for image to image: writes the samples of whole data, `data_len` floats, [samples, encoded_len] of
/// undiffuse_codec_info; `x` receives [samples, sample_len], `x_len` floats. Noise them by undiffuse_sampler_add_noise
/// for undiffuse_session_start_from. Images are in -1 to 1. Arrays do not overlap. Allocates nothing (a GPU's driver
/// may).
///
/// An AutoencoderKL encodes to a Gaussian: `noise`, as many standard normal values as `x`, samples it, as diffusers
/// does for image to image; NULL takes its mean. For others it is not looked at. Take draw UNDIFFUSE_ENCODER_DRAW of
/// undiffuse_session_noise: of a seed no session's, of another program's generator the one that it draws first (see
/// `encoded_images` of undiffuse_noise).
///
/// Status: UNDIFFUSE_UNSUPPORTED where samples are latents and the encoder was left out (see `encode_bytes` of
/// undiffuse_model_options); UNDIFFUSE_SHAPE for other lengths, UNDIFFUSE_NON_FINITE for NaN or infinity in `data` or
/// `noise`, UNDIFFUSE_CANCELLED, UNDIFFUSE_DEVICE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_codec_encode(
    codec: *mut undiffuse_codec,
    data: *const f32,
    data_len: usize,
    noise: *const f32,
    x: *mut f32,
    x_len: usize,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let mut s = write(codec)?;
            let data = slice(data, data_len, "data")?;
            let noise = if noise.is_null() { None } else { Some(slice(noise, x_len, "noise")?) };
            check_apart(&[("data", data), ("noise", noise.unwrap_or_default())], &[("x", x, x_len)])?;
            let x = slice_mut(x, x_len, "x")?;
            let State { codec, cancel, .. } = &mut *s;
            Ok(codec.encode(data, noise, x, cancel)?)
        })
    }
}

/// Frees a codec. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_codec_free(codec: *mut undiffuse_codec) {
    // SAFETY: as above.
    void(|| unsafe { free_handle(codec) });
}

#[cfg(test)]
mod tests;
