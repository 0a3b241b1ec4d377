//! The scales with which a model computes in 8-bit integers ([`Precision::Int8`](crate::pipeline::Precision)).
//!
//! [`calibrate`] samples from the model and looks at what each layer reads over all levels of the chain; the range of
//! it becomes the layer's [`Quantisation`]. `undiffuse pack --calibrate` stores them in the packed file.
//!
//! ```
//! use undiffuse::backend::cpu::Cpu;
//! use undiffuse::calibrate::{CalibrationOptions, calibrate};
//! use undiffuse::pipeline::{PipelineOptions, Precision, Source};
//! # fn main() -> undiffuse::Result<()> {
//! # let bytes = include_bytes!("../pretrained/digits.safetensors");
//! let mut source = Source::from_bytes(bytes)?;
//! let backend = Cpu::new()?;
//! let options = CalibrationOptions { samples: 1, steps: Some(2), ..Default::default() };
//! source.set_activations(calibrate(&source, &backend, &options)?);
//! let options = PipelineOptions { precision: Precision::Int8, ..Default::default() };
//! let pipeline = source.compile(&backend, &options)?;
//! # let plain = source.compile(&backend, &Default::default())?;
//! # assert!(pipeline.weight_bytes() < plain.weight_bytes() / 3);
//! # assert!(pipeline.workspace_bytes(1)? < plain.workspace_bytes(1)? / 3);
//! # Ok(())
//! # }
//! ```

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::backend::Backend;
use crate::chain::{Chain, ChainOptions};
use crate::error::{Result, ensure};
use crate::graph::Quantisation;
use crate::noise::Seeded;
use crate::pipeline::{Decoding, PipelineOptions, Source};
use crate::sampler::{SamplerOptions, Steps};

/// What is sampled to calibrate.
#[derive(Clone, Debug)]
pub struct CalibrationOptions {
    /// How many samples, at least 1; they are made at once.
    pub samples: usize,
    /// The steps of their chains; `None` is what [`SamplerOptions::default_for`] says.
    pub steps: Option<usize>,
    /// The seed of their noise.
    pub seed: u64,
    /// For class models, rows as [`Pipeline::denoiser`](crate::pipeline::Pipeline::denoiser) takes them; empty for the
    /// classes in turn, where they are numbers that the model knows.
    pub classes: Vec<f32>,
    /// Height and width, see [`PipelineOptions`].
    pub size: Option<[usize; 2]>,
}

impl Default for CalibrationOptions {
    /// 16 samples of seed 0.
    fn default() -> Self {
        Self { samples: 16, steps: None, seed: 0, classes: Vec::new(), size: None }
    }
}

/// Samples from the model in f32 and gives the scale and zero of the input of each layer that may be of integers, by
/// the name of its weight: for [`Source::set_activations`].
///
/// Errors: those of compiling and sampling; kind `Unsupported` for a model without such a layer.
pub fn calibrate(
    source: &Source<'_>,
    backend: &dyn Backend,
    options: &CalibrationOptions,
) -> Result<BTreeMap<String, Quantisation>> {
    let of = PipelineOptions { size: options.size, decoding: Decoding::None, ..PipelineOptions::default() };
    let (pipeline, observed) = source.observed(backend, &of)?;
    let mut sampling = SamplerOptions::default_for(&pipeline.scheduler()?, None);
    if let Some(steps) = options.steps {
        sampling.steps = Steps::Count(steps);
    }
    let sampler = pipeline.sampler(&sampling)?;
    let in_turn = |known: usize| (0..options.samples).map(|i| (i % known.max(1)) as f32).collect();
    let classes = match pipeline.model().classes() {
        Some(known) if options.classes.is_empty() && pipeline.class_len() == 1 => in_turn(known),
        _ => options.classes.clone(),
    };
    let denoiser = pipeline.denoiser(options.samples, &classes)?;
    let batch = ChainOptions { batch: options.samples, ..ChainOptions::default() };
    Chain::new(denoiser, sampler, Seeded::new(options.seed), &batch)?.run()?;
    let found = observed.ranges();
    ensure!(!found.is_empty(), Unsupported, "the model has no layer that may compute in 8-bit integers");
    Ok(found)
}
