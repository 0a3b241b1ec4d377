//! A model and its scheduler from one directory, file or byte slice: the library's front door.
//!
//! [`Source`] is what was found: configurations and weights, not yet compiled; it can be packed into one file.
//! [`Pipeline`] is a source compiled for a backend; it gives denoisers and samplers for [`Chain`](crate::chain::Chain).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::backend::threads::Threads;
use crate::backend::{Backend, Network};
use crate::codec::{Codec, DECODE_BYTES, Decoder, Encoder, scale_behind, scale_of};
use crate::denoiser::{Conditions, Guidance, NetworkDenoiser, Networks, check_conditions, classes_of};
use crate::error::{Result, ensure, err};
use crate::graph::{Input, Role};
use crate::model::ModelConfig;
use crate::sampler::{ModelPreconditioning, Sampler, SamplerKind, SamplerOptions, SchedulerConfig};
use crate::tensor::Dims;
use crate::values::Scale;

mod observed;
mod source;

use source::SchedulerText;
pub use source::Source;

/// What can be chosen when a source is compiled.
#[derive(Clone, Debug, Default)]
pub struct PipelineOptions {
    /// Height and width of the images; `None` is the model's `sample_size`.
    pub size: Option<[usize; 2]>,
    /// Takes the place of the source's scheduler configuration, or stands in where there is none.
    pub scheduler: Option<SchedulerConfig>,
    /// Whether denoisers also give vector-Jacobian products, which evidence of some kinds needs.
    pub gradient: Gradient,
    /// What becomes of the decoder of a latent model.
    pub decoding: Decoding,
    /// What becomes of the encoder of a latent model.
    pub encoding: Encoding,
    /// What the network computes in.
    pub precision: Precision,
}

/// What a network computes in. Gradients, decoders and encoders are always of f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Linear maps, 1x1 convolutions, those of other strides and 3x3 ones of up to 64 pixels with input and weights
    /// rounded to bf16, and sums in f32; all else, as larger 3x3 convolutions, in f32. Of layers of bf16 the weights
    /// are kept so, whatever else is asked for. It is for processors with AMX or with AMD's dot products of bf16, where
    /// these layers take a fraction of the time; others compute the same, but for roundings of sums, in that of f32.
    ///
    /// With AMX, on Linux, larger 3x3 convolutions are of bf16 too, and so is attention over 32 keys or more
    /// ([`Op::AttentionBf16`](crate::graph::Op::AttentionBf16)). Compiling such a network then asks Linux for the
    /// registers, once for the process (`arch_prctl`): threads that use them have 8 KiB more of state, so that a
    /// signal stack of their own must have as many bytes as `AT_MINSIGSTKSZ` says. Where it is refused, layers compute
    /// as without AMX.
    Bf16,
    /// Convolutions and linear maps of images in 8-bit integers, whose sums are exact, where the model was
    /// [calibrated](crate::calibrate) and the layer is not one of the first or the last; norms, softmax, embeddings and
    /// what is left in f32. See [`Quantisation`](crate::graph::Quantisation). Values between layers are bf16 on the cpu
    /// backend.
    Int8,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

/// Whether the decoder of a latent model is compiled with it. Other models have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decoding {
    /// It is not: samples are latents, and the decoder's files are not judged.
    None,
    /// It is, and decodes in tiles what would take more than so many bytes of workspace in one piece: see
    /// [`Decoder::compile`].
    Within(usize),
}

impl Default for Decoding {
    /// Within [`DECODE_BYTES`].
    fn default() -> Self {
        Self::Within(DECODE_BYTES)
    }
}

/// Whether the encoder of a latent model is compiled with it, which image to image needs. Other models have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// It is not.
    #[default]
    None,
    /// It is, and encodes in tiles what would take more than so many bytes of workspace in one piece: see
    /// [`Encoder::compile`].
    Within(usize),
}

/// Whether, and in how much memory, a network's vector-Jacobian products are computed. It takes a second network; a
/// backend that lacks an operation of it says so.
///
/// On the cpu backend both hold the forward weights once, and the second those of the way back besides, nearly as many
/// again (143 and 132 MB for ddpm-cifar10-32). What a call of that network takes there with AVX-512 on one thread
/// (`cargo bench --bench gradient` prints it):
///
/// | | workspace, 1 sample | 16 samples | time over a prediction's |
/// |---|---|---|---|
/// | a prediction | 9.6 MB | 71 MB | 1 |
/// | [`Full`](Self::Full) | 25.4 MB | 324 MB | 2.1 to 2.2 |
/// | [`Recompute`](Self::Recompute) | 16.6 MB | 182 MB | 2.7 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gradient {
    /// None.
    #[default]
    None,
    /// As fast as can be: all that the way back needs is kept.
    Full,
    /// In about half of the memory: most of the forward pass is computed twice. See
    /// [`Keep::Fewest`](crate::graph::vjp::Keep::Fewest).
    Recompute,
}

impl From<bool> for Gradient {
    /// None or full.
    fn from(full: bool) -> Self {
        if full { Self::Full } else { Self::None }
    }
}

/// What a pipeline knows of its scheduler.
#[derive(Clone)]
enum Scheduler {
    Given(Box<SchedulerConfig>),
    Found(SchedulerText),
}

/// A compiled model with its scheduler's configuration. Threads may share it.
///
/// ```no_run
/// use undiffuse::backend::reference::Reference;
/// use undiffuse::chain::{Chain, ChainOptions};
/// use undiffuse::noise::Seeded;
/// use undiffuse::pipeline::{Pipeline, PipelineOptions};
/// use undiffuse::sampler::{SamplerOptions, Steps};
///
/// let pipeline = Pipeline::open("ddpm-cifar10-32", &Reference, &PipelineOptions::default())?;
/// println!("a batch of 4 needs {} bytes", pipeline.workspace_bytes(4)?);
/// let sampler = pipeline.sampler(&SamplerOptions { steps: Steps::Count(50), ..Default::default() })?;
/// let options = ChainOptions { batch: 4, ..Default::default() };
/// let mut chain = Chain::new(pipeline.denoiser(4, &[])?, sampler, Seeded::new(1), &options)?;
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone)]
pub struct Pipeline {
    model: ModelConfig,
    scheduler: Scheduler,
    networks: Networks,
    decoder: Option<Decoder>,
    encoder: Option<Encoder>,
    inputs: Vec<Input>,
    parameters: usize,
    flops: u64,
    fingerprint: u64,
}

impl Pipeline {
    /// Opens and compiles what [`Source::open`] opens.
    #[cfg(feature = "std")]
    pub fn open(path: impl AsRef<std::path::Path>, backend: &dyn Backend, options: &PipelineOptions) -> Result<Self> {
        Source::open(path)?.compile(backend, options)
    }

    /// Opens and compiles a packed file in memory. The bytes are no longer needed afterwards.
    pub fn from_bytes(bytes: &[u8], backend: &dyn Backend, options: &PipelineOptions) -> Result<Self> {
        Source::from_bytes(bytes)?.compile(backend, options)
    }

    /// The model's configuration.
    pub fn model(&self) -> &ModelConfig {
        &self.model
    }

    /// The scheduler's configuration, read now.
    ///
    /// Errors: as [`SchedulerConfig::from_json`]; kind `Config` where there is none, or where it is of another number
    /// of timesteps than a model whose network depends on it.
    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        self.scheduler_for(None)
    }

    /// As [`Pipeline::scheduler`], but to be run with `sampler` whatever class wrote it: see
    /// [`SchedulerConfig::from_json_for`].
    pub fn scheduler_for(&self, sampler: Option<SamplerKind>) -> Result<SchedulerConfig> {
        let config = match &self.scheduler {
            Scheduler::Given(config) => (**config).clone(),
            Scheduler::Found(text) => text.read(sampler)?,
        };
        if let Some(t) = self.model.num_train_timesteps() {
            ensure!(
                config.num_train_timesteps == t,
                Config,
                "the model has {t} timesteps and its scheduler {}, expected as many",
                config.num_train_timesteps
            );
        }
        Ok(config)
    }

    /// How the network is to be called whatever the sampler, if the model says so. Errors: as
    /// [`ModelPreconditioning::from_json`].
    pub fn preconditioning(&self) -> Result<Option<ModelPreconditioning>> {
        match &self.scheduler {
            Scheduler::Given(config) => Ok(config.preconditioning),
            Scheduler::Found(text) => text.preconditioning(),
        }
    }

    /// The text of the scheduler's configuration: all keys where it can be read, else as it was found; `None` where
    /// there is none.
    pub fn scheduler_json(&self) -> Option<String> {
        match (&self.scheduler, self.scheduler()) {
            (_, Ok(config)) => Some(config.to_json()),
            (Scheduler::Given(config), Err(_)) => Some(config.to_json()),
            (Scheduler::Found(found), Err(_)) => found.text.clone(),
        }
    }

    /// The compiled network, to call it by hand.
    pub fn network(&self) -> &Arc<dyn Network> {
        &self.networks.predict
    }

    /// The compiled networks, to make denoisers in the caller's memory.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The dimensions of one image, `[channels, height, width]`.
    pub fn sample_dims(&self) -> Dims {
        let of_x = self.inputs.iter().find(|i| i.role == Role::Sample);
        of_x.map_or(self.networks.predict.inputs()[0], |i| i.dims)
    }

    /// How many weights the model has.
    pub fn parameter_count(&self) -> usize {
        self.parameters
    }

    /// Floating-point operations of one network call for one image, see [`Graph::flops`](crate::graph::Graph::flops).
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// A number that differs between models that predict differently: of the configuration and all weights.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Bytes of the compiled weights.
    pub fn weight_bytes(&self) -> usize {
        self.networks.predict.weight_bytes() + self.networks.gradient.as_ref().map_or(0, |g| g.weight_bytes())
    }

    /// Bytes of memory that [`Pipeline::denoiser`] takes for a batch.
    pub fn workspace_bytes(&self, batch: usize) -> Result<usize> {
        let values = NetworkDenoiser::<&mut [f32]>::memory_len(&self.networks, batch)?;
        values.checked_mul(size_of::<f32>()).ok_or_else(|| err!(OutOfMemory, "a batch of {batch} is too large"))
    }

    /// As [`Pipeline::workspace_bytes`], of [`Pipeline::guided`].
    pub fn guided_workspace_bytes(&self, batch: usize) -> Result<usize> {
        let values = NetworkDenoiser::<&mut [f32]>::guided_memory_len(&self.networks, batch)?;
        values.checked_mul(size_of::<f32>()).ok_or_else(|| err!(OutOfMemory, "a batch of {batch} is too large"))
    }

    /// The same model with the same weights, not copied, on other threads: for a session with threads of its own.
    /// Errors: as [`Network::on_threads`].
    pub fn on_threads(&self, threads: Arc<dyn Threads>) -> Result<Self> {
        let decoder = self.decoder.as_ref().map(|d| d.on_threads(Arc::clone(&threads))).transpose()?;
        let encoder = self.encoder.as_ref().map(|e| e.on_threads(Arc::clone(&threads))).transpose()?;
        Ok(Self { networks: self.networks.on_threads(threads)?, decoder, encoder, ..self.clone() })
    }

    /// The decoder of a latent model, if it was compiled.
    pub fn decoder(&self) -> Option<&Decoder> {
        self.decoder.as_ref()
    }

    /// The encoder of a latent model, if it was compiled.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_ref()
    }

    /// Dimensions of one sample's data: of a latent model those of its image, else [`Pipeline::sample_dims`].
    pub fn data_dims(&self) -> Result<Dims> {
        self.decoder.as_ref().map_or(Ok(self.sample_dims()), Decoder::data_dims)
    }

    /// What x is of the data, as the scheduler says, or of a denoiser its preconditioning: see [`scale_of`]; 1 and 0
    /// where no scheduler can be read.
    pub fn scale(&self) -> Scale {
        match self.preconditioning() {
            Ok(Some(p)) => scale_behind(&p),
            _ => self.scheduler().map_or(Scale::default(), |config| scale_of(&config)),
        }
    }

    /// What makes data of samples, and samples of data, with memory of its own. Errors: as [`Codec::new`].
    pub fn codec(&self) -> Result<Codec> {
        Codec::new(self.sample_dims(), self.scale(), self.decoder.clone(), self.encoder.clone())
    }

    /// As [`Pipeline::codec`], in memory of at least [`Pipeline::codec_bytes`].
    pub fn codec_in_memory<M: AsMut<[f32]>>(&self, memory: M) -> Result<Codec<M>> {
        Codec::in_memory(self.sample_dims(), self.scale(), self.decoder.clone(), self.encoder.clone(), memory)
    }

    /// Bytes of memory that [`Pipeline::codec`] takes.
    pub fn codec_bytes(&self) -> Result<usize> {
        let values = Codec::<&mut [f32]>::memory_len(self.decoder.as_ref(), self.encoder.as_ref())?;
        values.checked_mul(size_of::<f32>()).ok_or_else(|| err!(OutOfMemory, "a sample is too large to decode"))
    }

    /// Bytes that the networks take on a device of their own for batches up to this, weights counted: see
    /// [`Network::device_bytes`].
    pub fn device_bytes(&self, batch: usize) -> Result<usize> {
        let gradient = self.networks.gradient.as_ref().map_or(Ok(0), |g| g.device_bytes(batch))?;
        Ok(self.networks.predict.device_bytes(batch)?.saturating_add(gradient))
    }

    /// The inputs of the network with their names and roles, in the order in which it takes them; those that are
    /// [conditions](Role::is_condition) a denoiser must be given.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// A denoiser for batches of up to `max_batch` images. Class models take `classes`, rows of
    /// [`Pipeline::class_len`]; see [`NetworkDenoiser`]. Errors: as [`NetworkDenoiser::new`], and for a class that the
    /// model does not have.
    pub fn denoiser(&self, max_batch: usize, classes: &[f32]) -> Result<NetworkDenoiser> {
        self.denoiser_with(max_batch, &self.conditions_of(classes)?)
    }

    /// As [`Pipeline::denoiser`], in memory of at least [`Pipeline::workspace_bytes`].
    pub fn denoiser_in_memory<M: AsMut<[f32]>>(
        &self,
        max_batch: usize,
        classes: &[f32],
        memory: M,
    ) -> Result<NetworkDenoiser<M>> {
        self.denoiser_with_in_memory(max_batch, &self.conditions_of(classes)?, memory)
    }

    /// A denoiser for batches of up to `max_batch` samples and all that the model takes beside x and the level. Errors:
    /// as [`NetworkDenoiser::with_conditions`].
    pub fn denoiser_with(&self, max_batch: usize, conditions: &Conditions) -> Result<NetworkDenoiser> {
        self.check_conditions(conditions)?;
        let denoiser = NetworkDenoiser::with_conditions(self.networks.clone(), max_batch, conditions)?;
        Ok(denoiser.with_fingerprint(self.fingerprint))
    }

    /// As [`Pipeline::denoiser_with`], in memory of at least [`Pipeline::workspace_bytes`].
    pub fn denoiser_with_in_memory<M: AsMut<[f32]>>(
        &self,
        max_batch: usize,
        conditions: &Conditions,
        memory: M,
    ) -> Result<NetworkDenoiser<M>> {
        self.check_conditions(conditions)?;
        let networks = self.networks.clone();
        let denoiser = NetworkDenoiser::with_conditions_in_memory(networks, max_batch, conditions, memory)?;
        Ok(denoiser.with_fingerprint(self.fingerprint))
    }

    /// As [`Pipeline::denoiser_with`], guided away from the negative conditions of `guidance`. Errors: as
    /// [`NetworkDenoiser::guided`].
    pub fn guided(&self, max_batch: usize, conditions: &Conditions, guidance: &Guidance) -> Result<NetworkDenoiser> {
        self.check_conditions(conditions)?;
        let denoiser = NetworkDenoiser::guided(self.networks.clone(), max_batch, conditions, guidance)?;
        Ok(denoiser.with_fingerprint(self.fingerprint))
    }

    /// As [`Pipeline::guided`], in memory of at least [`Pipeline::guided_workspace_bytes`].
    pub fn guided_in_memory<M: AsMut<[f32]>>(
        &self,
        max_batch: usize,
        conditions: &Conditions,
        guidance: &Guidance,
        memory: M,
    ) -> Result<NetworkDenoiser<M>> {
        self.check_conditions(conditions)?;
        let networks = self.networks.clone();
        let denoiser = NetworkDenoiser::guided_in_memory(networks, max_batch, conditions, guidance, memory)?;
        Ok(denoiser.with_fingerprint(self.fingerprint))
    }

    /// Checks what [`Pipeline::denoiser_with`] is given. Errors: as there.
    pub fn check_conditions(&self, conditions: &Conditions) -> Result<()> {
        if let Some(class) = self.inputs.iter().find(|i| i.role.is_class()) {
            self.check_classes(conditions.get(&class.name).unwrap_or_default())?;
        }
        check_conditions(&self.inputs, conditions)
    }

    /// Classes as the condition that they are, checked.
    fn conditions_of(&self, classes: &[f32]) -> Result<Conditions> {
        self.check_classes(classes)?;
        classes_of(self.networks.predict.as_ref(), classes)
    }

    /// Values of one row of classes: 0 for a model without; 1 where a class is a number, a row of a table or, with
    /// `class_embed_type` `timestep`, any; the length of the time embedding where it is a vector, with `identity`.
    pub fn class_len(&self) -> usize {
        self.inputs.iter().find(|i| i.role.is_class()).map_or(0, |i| i.dims.elements())
    }

    /// Checks what [`Pipeline::denoiser`] is given as `classes`: whole rows of [`Pipeline::class_len`], none for a
    /// model without and at least one for the others, all finite, and of a table only classes that it has. Errors (kind
    /// `InvalidArgument`) say what is expected.
    pub fn check_classes(&self, classes: &[f32]) -> Result<()> {
        let len = self.class_len();
        if len == 0 {
            ensure!(classes.is_empty(), InvalidArgument, "classes are given, but the model takes none");
            return Ok(());
        }
        let expected = match (self.model.classes(), len) {
            (Some(rows), _) => alloc::format!("whole numbers from 0 to {}", rows.saturating_sub(1)),
            (None, 1) => "numbers".into(),
            (None, _) => alloc::format!("rows of {len} values"),
        };
        ensure!(!classes.is_empty(), InvalidArgument, "this is a class model, which needs classes: {expected}");
        ensure!(
            classes.len().is_multiple_of(len),
            InvalidArgument,
            "{} class values are given, expected {expected}",
            classes.len()
        );
        for &c in classes {
            let fits = match self.model.classes() {
                Some(rows) => c >= 0.0 && libm::floorf(c) == c && (c as usize) < rows,
                None => c.is_finite(),
            };
            ensure!(fits, InvalidArgument, "class {c} is none of the model's, expected {expected}");
        }
        Ok(())
    }

    /// A sampler as the scheduler's configuration and `options` say. Where `options` names the sampler, the
    /// configuration may be of any class of the same kind of model. Errors: as [`Pipeline::scheduler_for`] and
    /// [`SchedulerConfig::sampler`].
    pub fn sampler(&self, options: &SamplerOptions) -> Result<Box<dyn Sampler + Send + Sync>> {
        self.scheduler_for(options.sampler)?.sampler(options)
    }
}
