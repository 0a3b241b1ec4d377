//! What was found: configurations and weights of a model, its scheduler and, of a latent one, its autoencoder.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::observed::Observed;
use super::{Decoding, Encoding, Gradient, Pipeline, PipelineOptions, Precision, Scheduler};
use crate::backend::{Backend, Network};
use crate::codec::{Decoder, Encoder};
use crate::denoiser::{Networks, inputs_of};
use crate::error::{Error, Result, ensure, err};
use crate::graph::vjp::{self, Keep};
use crate::graph::{Graph, Quantisation, Role};
use crate::json::{self, Value};
use crate::model::ModelConfig;
use crate::model::autoencoder::AutoencoderConfig;
use crate::noise::Fingerprint;
use crate::sampler::{ModelPreconditioning, SamplerKind, SchedulerConfig};
use crate::tensor::{DType, Dims};
use crate::weights::packed::{self, PackedConfigs};
use crate::weights::{DiffusersNames, Joined, Mapped, Part, WeightSource, check_names, check_params, read_param};

/// Configurations and weights, found. Weights are read when it is compiled or packed. The scheduler's configuration is
/// kept as text and judged when a sampler is made: a network can be described, called, timed and packed whatever wrote
/// its scheduler, and without one.
pub struct Source<'a> {
    model: ModelConfig,
    model_text: String,
    scheduler: SchedulerText,
    weights: Box<dyn WeightSource + 'a>,
    /// How the inputs of layers become 8-bit integers, by the name of the layer's weight.
    activations: BTreeMap<String, Quantisation>,
    /// The autoencoder of a latent model, or why it cannot be read: judged where it is used.
    decoder: Option<Result<Autoencoder<'a>>>,
    files: Vec<String>,
    remarks: Vec<String>,
}

/// An autoencoder that was found. Its configuration has not been judged.
struct Autoencoder<'a> {
    config: String,
    weights: Box<dyn WeightSource + 'a>,
    /// Where it stands, for messages; empty if that is not known.
    place: String,
}

/// The dimensions of samples that an autoencoder has to do with.
fn latents(samples: Dims) -> Result<[usize; 3]> {
    let dims = samples.as_slice().try_into();
    dims.map_err(|_| err!(Shape, "the samples are {samples}, which no autoencoder has as latents"))
}

impl Autoencoder<'_> {
    fn named(&self, e: Error) -> Error {
        if self.place.is_empty() { e.context("the decoder") } else { e.context(&self.place) }
    }
}

/// A scheduler's configuration that has not been read, if there is one.
#[derive(Clone, Debug, Default)]
pub(super) struct SchedulerText {
    pub text: Option<String>,
    /// Where it stands, for messages; empty if that is not known.
    place: String,
    /// How the network is to be called, which is the model's and not the scheduler's.
    preconditioning: Option<String>,
}

impl SchedulerText {
    /// The text read now, if there is one.
    pub fn preconditioning(&self) -> Result<Option<ModelPreconditioning>> {
        self.preconditioning.as_deref().map(ModelPreconditioning::from_json).transpose()
    }

    /// The one place where a scheduler's configuration is read.
    pub fn read(&self, sampler: Option<SamplerKind>) -> Result<SchedulerConfig> {
        let text = self.text.as_deref().ok_or_else(|| {
            err!(
                Config,
                "the model comes without a scheduler configuration (scheduler_config.json), so one must be given"
            )
        })?;
        let read = || {
            let mut map = json::parse_object(text).map_err(|e| e.context("the scheduler configuration"))?;
            if let Some(p) = &self.preconditioning {
                let own = json::parse_object(p).map_err(|e| e.context("the preconditioning"))?;
                let twice = map.insert("preconditioning".into(), Value::Object(own));
                ensure!(
                    twice.is_none_or(|v| v.is_null()),
                    Config,
                    "a preconditioning stands in the scheduler's configuration and beside the model's, expected one"
                );
            }
            SchedulerConfig::from_object(map, sampler)
        };
        read().map_err(|e| if self.place.is_empty() { e } else { e.context(&self.place) })
    }
}

impl<'a> Source<'a> {
    /// Opens a diffusers pipeline directory, a model's own directory, one of the weight files in it, or a packed file.
    /// Errors (kind `Io`, `Config`, `Weights` or `Unsupported`) name the file.
    #[cfg(feature = "std")]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Source<'static>> {
        use crate::weights::{SafeTensorsFile, diffusers};
        let path = path.as_ref();
        let directory = |path: &std::path::Path| {
            let files = diffusers::open(path)?;
            let mut source =
                Source::new(files.model, files.scheduler, files.weights).map_err(|e| e.context(path.display()))?;
            source.scheduler.place = files.scheduler_path.map_or(String::new(), |p| alloc::format!("{}", p.display()));
            let shown = |paths: &[std::path::PathBuf]| -> Vec<String> {
                paths.iter().map(|p| alloc::format!("{}", p.display())).collect()
            };
            source.scheduler.preconditioning = files.preconditioning;
            source.files = shown(&files.paths);
            source.remarks = files.remarks;
            source.decoder = files.decoder.map(|found| {
                let found = found?;
                source.files.extend(shown(&found.paths));
                let place = shown(&found.paths).into_iter().next().unwrap_or_default();
                Ok(Autoencoder { config: found.config, weights: found.weights, place })
            });
            Ok(source)
        };
        if path.is_dir() || diffusers::is_index_of_weights(path) {
            return directory(path);
        }
        let file = SafeTensorsFile::open(path)?;
        let beside = path.parent().is_some_and(|dir| dir.join("config.json").is_file());
        if beside && !PackedConfigs::is_in(|key| file.metadata(key)) {
            return directory(path);
        }
        PackedConfigs::from_metadata(|key| file.metadata(key))
            .and_then(|configs| {
                let mut source = Source::of_packed(configs, file)?;
                source.scheduler.place = alloc::format!("{}", path.display());
                source.files.push(alloc::format!("{}", path.display()));
                Ok(source)
            })
            .map_err(|e| e.context(path.display()))
    }

    /// Opens a packed file in memory; the bytes stay where they are.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        let (view, configs) = packed::open(bytes)?;
        Self::of_packed(configs, view)
    }

    fn of_packed<'b>(configs: PackedConfigs, file: impl WeightSource + 'b) -> Result<Source<'b>> {
        let activations = configs.activations.as_deref().map(packed::activations_from_json).transpose()?;
        let mut source = Self::of_configs(configs, file)?;
        source.activations = activations.unwrap_or_default();
        Ok(source)
    }

    fn of_configs<'b>(configs: PackedConfigs, file: impl WeightSource + 'b) -> Result<Source<'b>> {
        let Some(decoder) = configs.decoder else {
            let mut source = Source::new(configs.model, configs.scheduler, Box::new(DiffusersNames::new(file)?))?;
            source.scheduler.preconditioning = configs.preconditioning;
            return Ok(source);
        };
        let [own, its] = Part::both(file);
        let mut source = Source::new(configs.model, configs.scheduler, Box::new(DiffusersNames::new(own)?))?;
        source.scheduler.preconditioning = configs.preconditioning;
        source.with_decoder(decoder, Box::new(its))
    }

    /// With the autoencoder that makes data of a latent model's samples: the text of its `config.json`, judged where it
    /// is used, and its weights under diffusers' names.
    ///
    /// Errors (kind `Config`): the text is no JSON object.
    pub fn with_decoder(mut self, config: String, weights: Box<dyn WeightSource + 'a>) -> Result<Self> {
        json::parse_object(&config).map_err(|e| e.context("the decoder's configuration"))?;
        self.decoder = Some(Ok(Autoencoder { config, weights, place: String::new() }));
        Ok(self)
    }

    /// A source from the texts of the two configurations and weights from anywhere, under diffusers' names. The
    /// scheduler's is not judged before it is needed.
    pub fn new(model: String, scheduler: Option<String>, weights: Box<dyn WeightSource + 'a>) -> Result<Self> {
        Ok(Self {
            model: ModelConfig::from_json(&model)?,
            scheduler: SchedulerText { text: scheduler, ..SchedulerText::default() },
            model_text: model,
            weights,
            activations: BTreeMap::new(),
            decoder: None,
            files: Vec::new(),
            remarks: Vec::new(),
        })
    }

    /// The text of another scheduler's configuration in place of the source's, which is then never looked at.
    ///
    /// Errors (kind `Config`): the text is no JSON object. What it says is judged where a sampler is made.
    pub fn set_scheduler_json(&mut self, text: String) -> Result<()> {
        json::parse_object(&text).map_err(|e| e.context("the scheduler configuration"))?;
        let preconditioning = self.scheduler.preconditioning.take();
        self.scheduler = SchedulerText { text: Some(text), place: String::new(), preconditioning };
        Ok(())
    }

    /// Says how the network is to be called, whatever scheduler it comes with: the text of a `preconditioning.json`,
    /// see [`ModelPreconditioning`]; `None` for as it is.
    ///
    /// Errors: as [`ModelPreconditioning::from_json`].
    pub fn set_preconditioning_json(&mut self, text: Option<String>) -> Result<()> {
        text.as_deref().map(ModelPreconditioning::from_json).transpose()?;
        self.scheduler.preconditioning = text;
        Ok(())
    }

    /// How the network is to be called, as the model's files say beside the scheduler's configuration. Errors: as
    /// [`ModelPreconditioning::from_json`].
    pub fn preconditioning(&self) -> Result<Option<ModelPreconditioning>> {
        self.scheduler.preconditioning()
    }

    /// How the inputs of layers become 8-bit integers, by the names of the layers' weights: what
    /// [`calibrate`](crate::calibrate) measured, here or when the file was packed. Empty where nobody has.
    pub fn activations(&self) -> &BTreeMap<String, Quantisation> {
        &self.activations
    }

    /// Says it. A name that no layer has, or of a layer that stays in floating point, has no effect.
    pub fn set_activations(&mut self, activations: BTreeMap<String, Quantisation>) {
        self.activations = activations;
    }

    /// The model's configuration.
    pub fn model(&self) -> &ModelConfig {
        &self.model
    }

    /// The text of the model's configuration.
    pub fn model_json(&self) -> &str {
        &self.model_text
    }

    /// The text of the scheduler's configuration, if there is one, as it was found.
    pub fn scheduler_json(&self) -> Option<&str> {
        self.scheduler.text.as_deref()
    }

    /// The scheduler's configuration, read now. Errors: as [`SchedulerConfig::from_json`]; kind `Config` where there is
    /// none.
    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        self.scheduler.read(None)
    }

    /// Whether its samples are latents that an autoencoder beside it decodes.
    pub fn is_latent(&self) -> bool {
        self.decoder.is_some()
    }

    /// The configuration of the autoencoder of a latent model, judged now; `None` for other models. Errors: what kept
    /// it from being read; as [`AutoencoderConfig::from_json`].
    pub fn autoencoder(&self) -> Result<Option<AutoencoderConfig>> {
        let Some(found) = self.found()? else { return Ok(None) };
        AutoencoderConfig::from_json(&found.config).map(Some).map_err(|e| found.named(e))
    }

    fn found(&self) -> Result<Option<&Autoencoder<'a>>> {
        self.decoder.as_ref().map(|found| found.as_ref().map_err(Clone::clone)).transpose()
    }

    /// The decoder for latents of these dimensions, where there is one and it is wanted.
    fn decoder(&self, samples: Dims, within: Decoding, backend: &dyn Backend) -> Result<Option<Decoder>> {
        let Decoding::Within(bytes) = within else { return Ok(None) };
        let (Some(found), Some(config)) = (self.found()?, self.autoencoder()?) else { return Ok(None) };
        let decoder = latents(samples)
            .and_then(|latents| Decoder::compile(&config, found.weights.as_ref(), latents, bytes, backend));
        decoder.map(Some).map_err(|e| found.named(e))
    }

    /// As [`Source::decoder`], the encoder.
    fn encoder(&self, samples: Dims, within: Encoding, backend: &dyn Backend) -> Result<Option<Encoder>> {
        let Encoding::Within(bytes) = within else { return Ok(None) };
        let (Some(found), Some(config)) = (self.found()?, self.autoencoder()?) else { return Ok(None) };
        let encoder = latents(samples)
            .and_then(|latents| Encoder::compile(&config, found.weights.as_ref(), latents, bytes, backend));
        encoder.map(Some).map_err(|e| found.named(e))
    }

    /// The files that it was found in, configurations first; none for a source from memory.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// What a person should know of what was found, a clause each: files that could have been meant and are not read,
    /// names that were changed. Mostly none.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The weights, as they are stored.
    pub fn weights(&self) -> &dyn WeightSource {
        self.weights.as_ref()
    }

    /// The network, with the weights' names and shapes checked against it; no weight is read. `size` as in
    /// [`PipelineOptions`].
    pub fn graph(&self, size: Option<[usize; 2]>) -> Result<Graph> {
        let graph = self.model.build(size)?;
        check_params(&graph, self.weights())?;
        Ok(graph)
    }

    /// Writes a packed file piece by piece to `sink`; see [`packed::write`]. Everything is checked before the first
    /// piece but the weights' values, which are read one tensor at a time.
    pub fn pack(&self, dtype: DType, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        check_params(&self.model.build_any()?, self.weights())?;
        self.write(self.model_text.clone(), self.weights(), dtype, sink)
    }

    /// Writes a packed file with this text of the model and these weights.
    fn write(
        &self,
        model: String,
        weights: &dyn WeightSource,
        dtype: DType,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.preconditioning()?;
        let (scheduler, preconditioning) = (self.scheduler.text.clone(), self.scheduler.preconditioning.clone());
        let activations = (!self.activations.is_empty()).then(|| packed::activations_json(&self.activations));
        let (Some(found), Some(config)) = (self.found()?, self.autoencoder()?) else {
            let configs = PackedConfigs { model, scheduler, preconditioning, activations, decoder: None };
            return packed::write(&configs, weights, dtype, sink);
        };
        check_names(&config.parameters()?, found.weights.as_ref()).map_err(|e| found.named(e))?;
        let decoder = Some(found.config.clone());
        let configs = PackedConfigs { model, scheduler, preconditioning, activations, decoder };
        packed::write(&configs, &Joined::new(weights, found.weights.as_ref()), dtype, sink)
    }

    /// As [`Source::pack`], with the network itself in the file (`undiffuse.graph`, see
    /// [`graph::data`](crate::graph::data)) in place of the model's configuration: for a size, `None` being the model's
    /// own, which is then the only one.
    pub fn pack_graph(
        &self,
        size: Option<[usize; 2]>,
        dtype: DType,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        // A graph is no model, whose code would still change weights.
        let map = |name: &str, dims: &[usize], values: &mut [f32]| self.model.adapt(name, dims, values);
        let weights = Mapped { inner: self.weights(), map: &map };
        self.write(self.graph(size)?.to_json()?, &weights, dtype, sink)
    }

    /// Compiles the network for a backend, reading each weight once.
    pub fn compile(&self, backend: &dyn Backend, options: &PipelineOptions) -> Result<Pipeline> {
        let graph = self.graph(options.size)?;
        let narrow = match options.precision {
            Precision::F32 => None,
            Precision::Bf16 => Some(graph.clone().halved(backend.bf16_beats_winograd())),
            Precision::Int8 => {
                ensure!(
                    !self.activations.is_empty(),
                    InvalidArgument,
                    "the model has no scales of activations, which 8-bit integers need: `undiffuse pack --calibrate` measures them"
                );
                Some(graph.clone().quantised(&self.activations))
            }
        };
        self.compile_as(backend, options, &graph, narrow.as_ref().unwrap_or(&graph))
    }

    /// Compiled so that its network's calls are looked at: for calibration. Errors: as [`Source::compile`].
    pub(crate) fn observed(
        &self,
        backend: &dyn Backend,
        options: &PipelineOptions,
    ) -> Result<(Pipeline, Arc<Observed>)> {
        let graph = self.graph(options.size)?;
        let (predict, names) = graph.observed()?;
        let mut pipeline = self.compile_as(backend, options, &graph, &predict)?;
        let observed = Arc::new(Observed::new(Arc::clone(&pipeline.networks.predict), names));
        pipeline.networks.predict = Arc::<Observed>::clone(&observed);
        Ok((pipeline, observed))
    }

    /// Compiles `predict` as the network of the model, whose graph is `graph`.
    fn compile_as(
        &self,
        backend: &dyn Backend,
        options: &PipelineOptions,
        graph: &Graph,
        predict: &Graph,
    ) -> Result<Pipeline> {
        // The sum depends neither on the order in which a backend reads nor on how often.
        let sum = Cell::new(Fingerprint::new().bytes(self.model_text.as_bytes()).finish());
        let seen = RefCell::new(BTreeSet::new());
        let read = |name: &str, dims: &Dims, out: &mut [f32]| {
            read_param(self.weights(), name, dims, out)?;
            self.model.adapt(name, dims.as_slice(), out);
            if seen.borrow_mut().insert(String::from(name)) {
                let one = Fingerprint::new().bytes(name.as_bytes()).weights(out);
                sum.set(sum.get().wrapping_add(one.finish()));
            }
            Ok(())
        };
        let keep = match options.gradient {
            Gradient::None => None,
            Gradient::Full => Some(Keep::All),
            Gradient::Recompute => Some(Keep::Fewest),
        };
        let by = graph.input_of(Role::Sample).unwrap_or(0);
        let backward = keep.map(|keep| vjp::vjp_keeping(graph, 0, by, keep)).transpose();
        let backward = backward.map_err(|e| e.context("the gradient network"))?;
        let graphs: Vec<&Graph> = core::iter::once(predict).chain(&backward).collect();
        let mut networks = backend.compile_together(&graphs, &read)?.into_iter().map(Arc::from);
        let predict = networks.next().ok_or_else(|| err!(Unsupported, "the backend compiled no network"))?;
        let predict: Arc<dyn Network> = predict;
        let inputs = inputs_of(predict.as_ref())?;
        let gradient = networks.next();
        let fingerprint = sum.get();
        let samples = inputs.iter().find(|i| i.role == Role::Sample).map_or(predict.inputs()[0], |i| i.dims);
        let decoder = self.decoder(samples, options.decoding, backend)?;
        let encoder = self.encoder(samples, options.encoding, backend)?;
        Ok(Pipeline {
            model: self.model.clone(),
            scheduler: match &options.scheduler {
                Some(given) => {
                    let preconditioning = given.preconditioning.or(self.preconditioning()?);
                    Scheduler::Given(Box::new(SchedulerConfig { preconditioning, ..given.clone() }))
                }
                None => Scheduler::Found(self.scheduler.clone()),
            },
            networks: Networks { predict, gradient },
            decoder,
            encoder,
            inputs,
            parameters: graph.parameter_count(),
            flops: graph.flops(),
            fingerprint,
        })
    }
}
