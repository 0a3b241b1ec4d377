//! Between samples, on which a chain works, and data, which its user has and wants: the scale of a 2015 model, the
//! decoder and the encoder of a latent one.
//!
//! [`Decoder`] and [`Encoder`] are compiled, once for a model, and [`Codec`] is what a run has of them: with memory of
//! its own, so that neither way allocates.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::backend::threads::{Serial, Threads};
use crate::backend::{Backend, Network};
use crate::cancel::Cancel;
use crate::error::{Result, check_finite, ensure, err};
use crate::graph::Graph;
use crate::graph::fuse::fuse;
use crate::graph::plan::most_alive;
use crate::memory::zeros;
use crate::model::autoencoder::{AutoencoderConfig, LatentScale};
use crate::sampler::{ModelPreconditioning, PreconditioningRule, SamplerKind, SchedulerConfig};
use crate::tensor::Dims;
use crate::tiles::{Axis, Overlap, Tile, tiles};
use crate::values::Scale;
use crate::weights::{WeightSource, check_names, read_param};

mod encoder;

pub use encoder::Encoder;

/// What x is of the data: scale and shift of a 2015 model, or of a denoiser whose images lie elsewhere; else 1 and 0,
/// as image models work on -1 to 1.
#[doc(hidden)]
pub fn scale_of(config: &SchedulerConfig) -> Scale {
    if let Some(p) = &config.preconditioning {
        return scale_behind(p);
    }
    match config.class {
        SamplerKind::Ancestral2015 => {
            Scale { scl: config.chain_2015.sample_scale, shft: config.chain_2015.sample_shift }
        }
        _ => Scale::default(),
    }
}

/// As [`scale_of`], of a network behind a preconditioning.
pub(crate) fn scale_behind(p: &ModelPreconditioning) -> Scale {
    match p.rule {
        PreconditioningRule::Denoiser { black, white } => {
            Scale { scl: 0.5 * (white - black), shft: 0.5 * (white + black) }
        }
        _ => Scale::default(),
    }
}

/// Bytes that decoding or encoding one sample may take, where nobody says: 1 GiB.
#[doc(hidden)]
pub const DECODE_BYTES: usize = 1 << 30;
/// The least side of a tile, in latents.
const LEAST_TILE: usize = 8;

/// A network for tiles, or for all in one.
struct Fitted {
    network: Arc<dyn Network>,
    /// Height and width of a tile in latents.
    tile: [usize; 2],
    /// Its weights.
    parameters: usize,
}

/// Compiles what `graph` makes of the largest tile of `whole` latents, halving it, whose network takes at most
/// `within` bytes of workspace on one thread.
///
/// Errors: kind `OutOfMemory` where the smallest takes more; those of `graph` and of compiling.
fn fitted(
    what: &str,
    whole: [usize; 2],
    graph: &dyn Fn([usize; 2]) -> Result<Graph>,
    weights: &dyn WeightSource,
    within: usize,
    backend: &dyn Backend,
) -> Result<Fitted> {
    let mut tile = whole;
    loop {
        let graph = graph(tile)?;
        let fused = fuse(&graph)?;
        let smallest = tile.iter().all(|n| *n <= LEAST_TILE);
        if most_alive(&fused) <= within / size_of::<f32>() || smallest {
            let read = |name: &str, dims: &Dims, out: &mut [f32]| read_param(weights, name, dims, out);
            let network: Arc<dyn Network> = Arc::from(backend.compile(&graph, &read)?);
            // Of one thread: how an image is cut, and so what it becomes, must not depend on how many there are.
            let alone = network.on_threads(Arc::new(Serial));
            let len = alone.as_ref().unwrap_or(&network).workspace_len(1)?;
            let bytes = len.saturating_mul(size_of::<f32>()).max(network.device_bytes(1)?);
            if bytes <= within {
                return Ok(Fitted { network, tile, parameters: graph.parameter_count() });
            }
            ensure!(
                !smallest,
                OutOfMemory,
                "{what} a tile of {} x {} latents takes {bytes} bytes, expected at most {within}",
                tile[0],
                tile[1]
            );
        }
        // Half of the larger side, or of both.
        let side = tile[0].max(tile[1]).div_ceil(2).max(LEAST_TILE);
        tile = tile.map(|n| n.min(side));
    }
}

/// The first `len` values of a codec's memory, and what is left of it.
fn cut(memory: &mut [f32], len: usize) -> Result<(&mut [f32], &mut [f32])> {
    memory.split_at_mut_checked(len).ok_or_else(|| err!(OutOfMemory, "a codec's memory is too short"))
}

/// A compiled decoder of latents. Threads may share it.
#[derive(Clone)]
pub struct Decoder {
    class_name: &'static str,
    network: Arc<dyn Network>,
    scale: LatentScale,
    latents: [usize; 3],
    data: [usize; 3],
    /// Rows and columns of tiles.
    axes: [Axis; 2],
    parameters: usize,
}

impl Decoder {
    /// Compiles the decoder of an autoencoder for latents `[c, h, w]`.
    ///
    /// Where one sample in one piece would take more than `within` bytes of workspace on one thread (more threads take
    /// more, and change no tile), it is decoded in tiles: squares of latents that overlap by a quarter of their side or
    /// more, whose images are blended linearly where they overlap. Attention and group norms then see their tile and
    /// not the whole, so that the image differs from that of one piece; see `tests/networks/latent.rs` for how much.
    ///
    /// Errors: kind `Shape` for other channels than the autoencoder's; kind `Weights` for tensors that are not the
    /// autoencoder's; kind `OutOfMemory` where the smallest tile, 8 by 8, takes more.
    pub fn compile(
        config: &AutoencoderConfig,
        weights: &dyn WeightSource,
        latents: [usize; 3],
        within: usize,
        backend: &dyn Backend,
    ) -> Result<Self> {
        let [c, h, w] = latents;
        let channels = config.latent_channels();
        ensure!(
            c == channels,
            Shape,
            "the denoiser's samples have {c} channels, but the {} decodes {channels}",
            config.class_name()
        );
        check_names(&config.parameters()?, weights)?;
        let Fitted { network, tile, parameters } =
            fitted("decoding", [h, w], &|tile| config.decoder(tile), weights, within, backend)?;
        let factor = config.factor();
        let axis = |n, tile| Axis::new(n, tile, factor, Overlap::usual(tile));
        let axes = [axis(h, tile[0]), axis(w, tile[1])];
        let data = [config.out_channels, h * factor, w * factor];
        let (class_name, scale) = (config.class_name(), config.scale.clone());
        Ok(Self { class_name, network, scale, latents, data, axes, parameters })
    }

    /// The autoencoder's class.
    pub fn class_name(&self) -> &'static str {
        self.class_name
    }

    /// How many weights the decoder has.
    pub fn parameter_count(&self) -> usize {
        self.parameters
    }

    /// Bytes of its compiled weights.
    pub fn weight_bytes(&self) -> usize {
        self.network.weight_bytes()
    }

    /// Dimensions of what it makes, `[channels, height, width]`.
    pub fn data_dims(&self) -> Result<Dims> {
        Dims::new(&self.data)
    }

    /// Height and width of a tile in latents; those of a sample where it is decoded in one piece.
    pub fn tile(&self) -> [usize; 2] {
        self.axes.each_ref().map(Axis::tile)
    }

    /// Tiles of a sample: 1 where it is decoded in one piece.
    pub fn tiles(&self) -> usize {
        let [rows, columns] = self.axes.each_ref().map(Axis::count);
        rows * columns
    }

    /// What it runs on.
    pub fn describe(&self) -> String {
        self.network.describe()
    }

    /// Bytes on a device of its own, weights counted.
    pub fn device_bytes(&self) -> Result<usize> {
        self.network.device_bytes(1)
    }

    /// The same decoder on other threads: see [`Network::on_threads`].
    pub fn on_threads(&self, threads: Arc<dyn Threads>) -> Result<Self> {
        Ok(Self { network: self.network.on_threads(threads)?, ..self.clone() })
    }

    /// Floats of the latents, of one tile of them, of its image, and of the network's workspace.
    fn parts(&self) -> Result<[usize; 4]> {
        let [th, tw] = self.tile();
        let [c, h, w] = self.latents;
        let image = self.network.outputs().first().map_or(0, |d| d.elements());
        let (tile, image) = if self.tiles() > 1 { (c * th * tw, image) } else { (0, 0) };
        Ok([c * h * w, tile, image, self.network.workspace_len(1)?])
    }

    /// Decodes one sample.
    fn sample(&self, x: &[f32], data: &mut [f32], memory: &mut [f32], cancel: &Cancel) -> Result<()> {
        let [latents, tile, image, _] = self.parts()?;
        let (z, rest) = cut(memory, latents)?;
        let (tile, rest) = cut(rest, tile)?;
        let (image, workspace) = cut(rest, image)?;
        z.copy_from_slice(x);
        let [_, h, w] = self.latents;
        self.scale.to_decoder(z, h * w);
        if self.tiles() == 1 {
            return self.network.run(1, &[z], &mut [data], workspace, cancel);
        }
        data.fill(0.0);
        for at in tiles(&self.axes) {
            Tile::new(&self.axes, at, [h, w]).cut(z, tile, Some(1));
            self.network.run(1, &[tile], &mut [&mut *image], workspace, cancel)?;
            Tile::new(&self.axes, at, [self.data[1], self.data[2]]).blend(image, data);
        }
        Ok(())
    }
}

/// From samples to data and back, with the memory that it takes.
///
/// ```no_run
/// use undiffuse::backend::cpu::Cpu;
/// use undiffuse::chain::{Chain, ChainOptions, never};
/// use undiffuse::noise::Seeded;
/// use undiffuse::pipeline::{Pipeline, PipelineOptions};
/// use undiffuse::sampler::SamplerOptions;
///
/// let pipeline = Pipeline::open("ldm-celebahq-256", &Cpu::new()?, &PipelineOptions::default())?;
/// let options = ChainOptions { batch: 2, ..Default::default() };
/// let sampler = pipeline.sampler(&SamplerOptions::default())?;
/// let mut chain = Chain::new(pipeline.denoiser(2, &[])?, sampler, Seeded::new(1), &options)?;
/// chain.run()?;
/// let mut codec = pipeline.codec()?;
/// let mut images = vec![0.0; 2 * codec.data_dims().elements()]; // [2, 3, 256, 256], in [-1, 1]
/// codec.decode(chain.x(), &mut images, never())?;
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub struct Codec<M = Vec<f32>> {
    scale: Scale,
    decoder: Option<Decoder>,
    encoder: Option<Encoder>,
    samples: Dims,
    data: Dims,
    memory: M,
}

impl Codec<Vec<f32>> {
    /// For samples of these dimensions: x is `scale` of the data, or what `decoder` decodes and `encoder` makes.
    ///
    /// Errors: kind `Shape` for a decoder or encoder of other samples; kind `OutOfMemory`.
    pub fn new(samples: Dims, scale: Scale, decoder: Option<Decoder>, encoder: Option<Encoder>) -> Result<Self> {
        let len = Self::memory_len(decoder.as_ref(), encoder.as_ref())?;
        Self::in_memory(samples, scale, decoder, encoder, zeros("a codec's workspace", len)?)
    }
}

impl<M: AsMut<[f32]>> Codec<M> {
    /// The `f32` values of memory that a codec needs: none without a decoder and an encoder, which share it.
    pub fn memory_len(decoder: Option<&Decoder>, encoder: Option<&Encoder>) -> Result<usize> {
        let sum = |parts: &[usize]| parts.iter().try_fold(0usize, |sum, n| sum.checked_add(*n));
        let of_decoder = decoder.map_or(Ok(Some(0)), |d| d.parts().map(|parts| sum(&parts)))?;
        let of_encoder = encoder.map_or(Ok(Some(0)), |e| e.parts().map(|parts| sum(&parts)))?;
        let most = of_decoder.zip(of_encoder).map(|(a, b)| a.max(b));
        most.ok_or_else(|| err!(OutOfMemory, "a sample is too large for this machine's autoencoder"))
    }

    /// As [`Codec::new`], in memory of at least [`Codec::memory_len`]. Errors: as there.
    pub fn in_memory(
        samples: Dims,
        scale: Scale,
        decoder: Option<Decoder>,
        encoder: Option<Encoder>,
        mut memory: M,
    ) -> Result<Self> {
        let needed = Self::memory_len(decoder.as_ref(), encoder.as_ref())?;
        let got = memory.as_mut().len();
        ensure!(got >= needed, OutOfMemory, "the codec's memory has {got} values, expected {needed}");
        let fits = |what: &str, latents: &[usize; 3]| {
            let latents = Dims::new(latents)?;
            ensure!(samples == latents, Shape, "samples are {samples}, expected the {what}'s {latents}");
            Ok(())
        };
        if let Some(e) = &encoder {
            fits("encoder", e.latents())?;
            e.prepare()?;
        }
        let data = match &decoder {
            None => samples,
            Some(d) => {
                fits("decoder", &d.latents)?;
                d.network.prepare(1)?;
                d.data_dims()?
            }
        };
        Ok(Self { scale, decoder, encoder, samples, data, memory })
    }

    /// Dimensions of one sample.
    pub fn sample_dims(&self) -> Dims {
        self.samples
    }

    /// Dimensions of its data.
    pub fn data_dims(&self) -> Dims {
        self.data
    }

    /// The decoder, if samples are latents.
    pub fn decoder(&self) -> Option<&Decoder> {
        self.decoder.as_ref()
    }

    /// The encoder, if samples are latents and it was asked for.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_ref()
    }

    /// Dimensions of what one sample is encoded from: mostly [`Codec::data_dims`]. Errors (kind `Unsupported`): samples
    /// are latents, and there is a decoder alone.
    pub fn encoded_dims(&self) -> Result<Dims> {
        match (&self.encoder, &self.decoder) {
            (Some(encoder), _) => encoder.data_dims(),
            (None, None) => Ok(self.samples),
            (None, Some(decoder)) => Err(err!(
                Unsupported,
                "samples are latents, and the encoder of the {} was not compiled: PipelineOptions::encoding says so",
                decoder.class_name()
            )),
        }
    }

    /// Writes the data of whole samples `x` `[N, ..]` to `data` `[N, ..]`, one sample after the other. Images are in
    /// [-1, 1] as far as the decoder keeps them there; nothing is clamped. What a sample becomes does not depend on the
    /// others, nor on the number of threads. Allocates nothing on the cpu backend.
    ///
    /// Errors: kind `Shape` for other lengths; kind `NonFinite` for samples that are; kind `Cancelled`, `Device`.
    /// `data` is then unspecified, and the codec stays usable.
    pub fn decode(&mut self, x: &[f32], data: &mut [f32], cancel: &Cancel) -> Result<()> {
        let (n, m) = (self.samples.elements(), self.data.elements());
        ensure!(
            x.len().is_multiple_of(n) && data.len() / m == x.len() / n && data.len().is_multiple_of(m),
            Shape,
            "{} values of samples become {} of data, expected {n} and {m} for each",
            x.len(),
            data.len()
        );
        check_finite("a sample to decode", x)?;
        let Some(decoder) = &self.decoder else {
            data.copy_from_slice(x);
            self.scale.undo(data);
            return Ok(());
        };
        for (x, data) in x.chunks_exact(n).zip(data.chunks_exact_mut(m)) {
            decoder.sample(x, data, self.memory.as_mut(), cancel)?;
        }
        Ok(())
    }

    /// The way back: writes the samples of whole data `[N, ..]`, of [`Codec::encoded_dims`] each, to `x` `[N, ..]`, for
    /// image to image ([`Chain::start_from_data`](crate::chain::Chain::start_from_data)). Images are in [-1, 1]. What
    /// data become does not depend on the others, nor on the number of threads. Allocates nothing on the cpu backend.
    ///
    /// An `AutoencoderKL` encodes to a Gaussian, mean and diagonal covariance. `noise`, as many standard normal values
    /// as `x`, is what it is sampled with: mean + exp(logvar / 2) noise, logvar being held to -30 to 20, as diffusers'
    /// pipelines of image to image do; `None` is its mode, the mean. Others encode to one point, and look at no noise.
    /// Of the library's own streams take draw [`ENCODER_DRAW`](crate::noise::ENCODER_DRAW), which no chain does.
    ///
    /// Errors: kind `Shape` for other lengths; kind `NonFinite` for data or noise that are; as [`Codec::encoded_dims`];
    /// kind `Cancelled`, `Device`. `x` is then unspecified, and the codec stays usable.
    pub fn encode(&mut self, data: &[f32], noise: Option<&[f32]>, x: &mut [f32], cancel: &Cancel) -> Result<()> {
        let (n, m) = (self.samples.elements(), self.encoded_dims()?.elements());
        ensure!(
            data.len().is_multiple_of(m) && x.len() / n == data.len() / m && x.len().is_multiple_of(n),
            Shape,
            "{} values of data become {} of samples, expected {m} and {n} for each",
            data.len(),
            x.len()
        );
        ensure!(
            noise.is_none_or(|z| z.len() == x.len()),
            Shape,
            "an encoder's noise has {} values, expected {}, those of the samples",
            noise.unwrap_or_default().len(),
            x.len()
        );
        check_finite("data to encode", data)?;
        check_finite("an encoder's noise", noise.unwrap_or_default())?;
        let Some(encoder) = &self.encoder else {
            x.copy_from_slice(data);
            self.scale.apply(x);
            return Ok(());
        };
        for (i, (data, x)) in data.chunks_exact(m).zip(x.chunks_exact_mut(n)).enumerate() {
            let noise = noise.and_then(|z| z.chunks_exact(n).nth(i));
            encoder.sample(data, noise, x, self.memory.as_mut(), cancel)?;
        }
        Ok(())
    }
}
