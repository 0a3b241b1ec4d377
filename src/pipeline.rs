//! A model and its scheduler from one directory, file or byte slice: the library's front door.
//!
//! [`Source`] is what was found: configurations and weights, not yet compiled; it can be packed into one file.
//! [`Pipeline`] is a source compiled for a backend; it gives denoisers and samplers for [`Chain`](crate::chain::Chain).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::backend::threads::Threads;
use crate::backend::{Backend, Network};
use crate::denoiser::{Conditions, Guidance, NetworkDenoiser, Networks, check_conditions, classes_of, inputs_of};
use crate::error::{Result, ensure, err};
use crate::graph::vjp::{self, Keep};
use crate::graph::{Graph, Input, Role};
use crate::json;
use crate::model::ModelConfig;
use crate::noise::Fingerprint;
use crate::sampler::{Sampler, SamplerKind, SamplerOptions, SchedulerConfig};
use crate::tensor::{DType, Dims};
use crate::weights::packed::{self, PackedConfigs};
use crate::weights::{DiffusersNames, WeightSource, check_params, read_param};

/// What can be chosen when a source is compiled.
#[derive(Clone, Debug, Default)]
pub struct PipelineOptions {
    /// Height and width of the images; `None` is the model's `sample_size`.
    pub size: Option<[usize; 2]>,
    /// Takes the place of the source's scheduler configuration, or stands in where there is none.
    pub scheduler: Option<SchedulerConfig>,
    /// Whether denoisers also give vector-Jacobian products, which evidence of some kinds needs.
    pub gradient: Gradient,
}

/// Whether, and in how much memory, a network's vector-Jacobian products are computed. It takes a second network; a backend that lacks an
/// operation of it says so.
///
/// On the cpu backend both hold the forward weights once, and the second those of the way back besides, nearly as many again (143 and 132
/// MB for ddpm-cifar10-32). What a call of that network takes there with AVX-512 on one thread (`cargo bench --bench gradient` prints
/// it):
///
/// | | workspace, 1 sample | 16 samples | time over a prediction's |
/// |---|---|---|---|
/// | a prediction | 9.6 MB | 71 MB | 1 |
/// | [`Full`](Self::Full) | 25.4 MB | 324 MB | 2.1 to 2.2 |
/// | [`Recompute`](Self::Recompute) | 16.6 MB | 182 MB | 2.7 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Gradient {
    /// None.
    #[default]
    None,
    /// As fast as can be: all that the way back needs is kept.
    Full,
    /// In about half of the memory: most of the forward pass is computed twice. See
    /// [`Keep::Fewest`].
    Recompute,
}

impl From<bool> for Gradient {
    /// None or full.
    fn from(full: bool) -> Self {
        if full { Self::Full } else { Self::None }
    }
}

/// Configurations and weights, found. Weights are read when it is compiled or packed. The scheduler's configuration is kept as text and
/// judged when a sampler is made: a network can be described, called, timed and packed whatever wrote its scheduler, and without one.
pub struct Source<'a> {
    model: ModelConfig,
    model_text: String,
    scheduler: SchedulerText,
    weights: Box<dyn WeightSource + 'a>,
    files: Vec<String>,
    remarks: Vec<String>,
}

/// A scheduler's configuration that has not been read, if there is one.
#[derive(Clone, Debug, Default)]
struct SchedulerText {
    text: Option<String>,
    /// Where it stands, for messages; empty if that is not known.
    place: String,
}

impl SchedulerText {
    /// The one place where a scheduler's configuration is read.
    fn read(&self, sampler: Option<SamplerKind>) -> Result<SchedulerConfig> {
        let text = self.text.as_deref().ok_or_else(|| {
            err!(
                Config,
                "the model comes without a scheduler configuration (scheduler_config.json), so one must be given"
            )
        })?;
        SchedulerConfig::from_json_for(text, sampler)
            .map_err(|e| if self.place.is_empty() { e } else { e.context(&self.place) })
    }
}

impl<'a> Source<'a> {
    /// Opens a diffusers pipeline directory, a model's own directory, one of the weight files in it, or a packed file. Errors (kind `Io`,
    /// `Config`, `Weights` or `Unsupported`) name the file.
    #[cfg(feature = "std")]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Source<'static>> {
        use crate::weights::{SafeTensorsFile, diffusers};
        let path = path.as_ref();
        let directory = |path: &std::path::Path| {
            let files = diffusers::open(path)?;
            let mut source =
                Source::new(files.model, files.scheduler, files.weights).map_err(|e| e.context(path.display()))?;
            source.scheduler.place = files.scheduler_path.map_or(String::new(), |p| alloc::format!("{}", p.display()));
            source.files = files.paths.iter().map(|p| alloc::format!("{}", p.display())).collect();
            source.remarks = files.remarks;
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
                let mut source = Source::new(configs.model, configs.scheduler, Box::new(DiffusersNames::new(file)?))?;
                source.scheduler.place = alloc::format!("{}", path.display());
                source.files.push(alloc::format!("{}", path.display()));
                Ok(source)
            })
            .map_err(|e| e.context(path.display()))
    }

    /// Opens a packed file in memory; the bytes stay where they are.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        let (view, configs) = packed::open(bytes)?;
        Self::new(configs.model, configs.scheduler, Box::new(DiffusersNames::new(view)?))
    }

    /// A source from the texts of the two configurations and weights from anywhere, under diffusers' names. The scheduler's is not judged
    /// before it is needed.
    pub fn new(model: String, scheduler: Option<String>, weights: Box<dyn WeightSource + 'a>) -> Result<Self> {
        Ok(Self {
            model: ModelConfig::from_json(&model)?,
            scheduler: SchedulerText { text: scheduler, place: String::new() },
            model_text: model,
            weights,
            files: Vec::new(),
            remarks: Vec::new(),
        })
    }

    /// The text of another scheduler's configuration in place of the source's, which is then never looked at.
    ///
    /// Errors (kind `Config`): the text is no JSON object. What it says is judged where a sampler is made.
    pub fn set_scheduler_json(&mut self, text: String) -> Result<()> {
        json::parse_object(&text).map_err(|e| e.context("the scheduler configuration"))?;
        self.scheduler = SchedulerText { text: Some(text), place: String::new() };
        Ok(())
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

    /// The scheduler's configuration, read now. Errors: as [`SchedulerConfig::from_json`]; kind `Config` where there is none.
    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        self.scheduler.read(None)
    }

    /// The files that it was found in, configurations first; none for a source from memory.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// What a person should know of what was found, a clause each: files that could have been meant and are not read, names that were
    /// changed. Mostly none.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The weights.
    pub fn weights(&self) -> &dyn WeightSource {
        self.weights.as_ref()
    }

    /// The network, with the weights' names and shapes checked against it; no weight is read. `size` as in [`PipelineOptions`].
    pub fn graph(&self, size: Option<[usize; 2]>) -> Result<Graph> {
        let graph = self.model.build(size)?;
        check_params(&graph, self.weights())?;
        Ok(graph)
    }

    /// Writes a packed file piece by piece to `sink`; see [`packed::write`]. Everything is checked before the first piece but the weights'
    /// values, which are read one tensor at a time.
    pub fn pack(&self, dtype: DType, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        check_params(&self.model.build_any()?, self.weights())?;
        let configs = PackedConfigs { model: self.model_text.clone(), scheduler: self.scheduler.text.clone() };
        packed::write(&configs, self.weights(), dtype, sink)
    }

    /// As [`Source::pack`], with the network itself in the file (`undiffuse.graph`, see [`graph::data`](crate::graph::data)) in place of the
    /// model's configuration: for a size, `None` being the model's own, which is then the only one.
    pub fn pack_graph(
        &self,
        size: Option<[usize; 2]>,
        dtype: DType,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let model = self.graph(size)?.to_json()?;
        packed::write(&PackedConfigs { model, scheduler: self.scheduler.text.clone() }, self.weights(), dtype, sink)
    }

    /// Compiles the network for a backend, reading each weight once.
    pub fn compile(&self, backend: &dyn Backend, options: &PipelineOptions) -> Result<Pipeline> {
        let graph = self.graph(options.size)?;
        // The sum depends neither on the order in which a backend reads nor on how often.
        let sum = Cell::new(Fingerprint::new().bytes(self.model_text.as_bytes()).finish());
        let seen = RefCell::new(BTreeSet::new());
        let read = |name: &str, dims: &Dims, out: &mut [f32]| {
            read_param(self.weights(), name, dims, out)?;
            if seen.borrow_mut().insert(String::from(name)) {
                // A word at a time, because a model has many.
                let words = out.iter().map(|v| u64::from(v.to_bits()));
                let one = Fingerprint::new().bytes(name.as_bytes()).finish();
                let one = words.fold(one, |h, w| (h.rotate_left(29) ^ w).wrapping_mul(0x0000_0100_0000_01b3));
                sum.set(sum.get().wrapping_add(one));
            }
            Ok(())
        };
        let keep = match options.gradient {
            Gradient::None => None,
            Gradient::Full => Some(Keep::All),
            Gradient::Recompute => Some(Keep::Fewest),
        };
        let by = graph.input_of(Role::Sample).unwrap_or(0);
        let backward = keep.map(|keep| vjp::vjp_keeping(&graph, 0, by, keep)).transpose();
        let backward = backward.map_err(|e| e.context("the gradient network"))?;
        let graphs: Vec<&Graph> = core::iter::once(&graph).chain(&backward).collect();
        let mut networks = backend.compile_together(&graphs, &read)?.into_iter().map(Arc::from);
        let predict = networks.next().ok_or_else(|| err!(Unsupported, "the backend compiled no network"))?;
        let predict: Arc<dyn Network> = predict;
        let inputs = inputs_of(predict.as_ref())?;
        let gradient = networks.next();
        let fingerprint = sum.get();
        Ok(Pipeline {
            model: self.model.clone(),
            scheduler: match &options.scheduler {
                Some(given) => Scheduler::Given(Box::new(given.clone())),
                None => Scheduler::Found(self.scheduler.clone()),
            },
            networks: Networks { predict, gradient },
            inputs,
            parameters: graph.parameter_count(),
            flops: graph.flops(),
            fingerprint,
        })
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
    /// Errors: as [`SchedulerConfig::from_json`]; kind `Config` where there is none, or where it is of another number of timesteps than a model
    /// whose network depends on it.
    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        self.scheduler_for(None)
    }

    /// As [`Pipeline::scheduler`], but to be run with `sampler` whatever class wrote it: see [`SchedulerConfig::from_json_for`].
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

    /// The text of the scheduler's configuration: all keys where it can be read, else as it was found; `None` where there is none.
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

    /// Floating-point operations of one network call for one image, see [`Graph::flops`].
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

    /// The same model with the same weights, not copied, on other threads: for a session with threads of its own. Errors: as
    /// [`Network::on_threads`].
    pub fn on_threads(&self, threads: Arc<dyn Threads>) -> Result<Self> {
        Ok(Self { networks: self.networks.on_threads(threads)?, ..self.clone() })
    }

    /// Bytes that the networks take on a device of their own for batches up to this, weights counted: see [`Network::device_bytes`].
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
    /// [`Pipeline::class_len`]; see [`NetworkDenoiser`]. Errors: as [`NetworkDenoiser::new`], and for a class that the model does not have.
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

    /// A denoiser for batches of up to `max_batch` samples and all that the model takes beside x and the level. Errors: as
    /// [`NetworkDenoiser::with_conditions`].
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

    /// As [`Pipeline::denoiser_with`], guided away from the negative conditions of `guidance`. Errors: as [`NetworkDenoiser::guided`].
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

    /// Values of one row of classes: 0 for a model without; 1 where a class is a number, a row of a table or, with `class_embed_type`
    /// `timestep`, any; the length of the time embedding where it is a vector, with `identity`.
    pub fn class_len(&self) -> usize {
        self.inputs.iter().find(|i| i.role.is_class()).map_or(0, |i| i.dims.elements())
    }

    /// Checks what [`Pipeline::denoiser`] is given as `classes`: whole rows of [`Pipeline::class_len`], none for a model without and at least
    /// one for the others, all finite, and of a table only classes that it has. Errors (kind `InvalidArgument`) say what is expected.
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

    /// A sampler as the scheduler's configuration and `options` say. Where `options` names the sampler, the configuration may be of any class
    /// of the same kind of model. Errors: as [`Pipeline::scheduler_for`] and [`SchedulerConfig::sampler`].
    pub fn sampler(&self, options: &SamplerOptions) -> Result<Box<dyn Sampler + Send + Sync>> {
        self.scheduler_for(options.sampler)?.sampler(options)
    }
}
