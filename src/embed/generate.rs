//! Writes a model as Rust.

use std::fs;
use std::path::Path;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::backend::cpu::{Cpu, CpuOptions, WeightType};
use crate::chain::Chain;
use crate::denoiser::{Call, Denoiser, inputs_of};
use crate::emit::{Emit, Emitter, emits_shown};
use crate::error::{Error, Result, ensure, err};
use crate::graph::Role;
use crate::pipeline::{PipelineOptions, Precision, Source};
use crate::sampler::{Sampler, SamplerOptions, SchedulerConfig};
use crate::tensor::Dims;

/// What a model becomes.
#[derive(Clone, Debug)]
pub struct EmbedOptions {
    /// The name of the [`Model`](super::Model): `MODEL`, or what a static may be called.
    pub name: String,
    /// The largest batch, 1 to begin with.
    pub batch: usize,
    /// How weights are kept.
    pub weights: WeightType,
    /// What the network computes in.
    pub precision: Precision,
    /// The steps; `None` is what [`SamplerOptions::default_for`] says.
    pub sampler: Option<SamplerOptions>,
    /// Takes the place of the model's scheduler, see [`PipelineOptions`].
    pub scheduler: Option<SchedulerConfig>,
    /// Height and width, see [`PipelineOptions`].
    pub size: Option<[usize; 2]>,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        let name = String::from("MODEL");
        Self {
            name,
            batch: 1,
            weights: WeightType::F32,
            precision: Precision::F32,
            sampler: None,
            scheduler: None,
            size: None,
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Bytes of weights, which stay where the program lies.
    pub weight_bytes: usize,
    /// Bytes of the workspace.
    pub workspace_bytes: usize,
    /// Steps of the sampler.
    pub steps: usize,
}

/// What a chain looks at before it runs.
struct Sized {
    dims: Dims,
    output: usize,
    batch: usize,
}

impl Denoiser for Sized {
    fn name(&self) -> &str {
        "network"
    }

    fn sample_dims(&self) -> Dims {
        self.dims
    }

    fn output_len(&self) -> usize {
        self.output
    }

    fn max_batch(&self) -> usize {
        self.batch
    }

    fn predict(&mut self, _: &Call<'_>, _: &[f32], _: &mut [f32]) -> Result<()> {
        Err(err!(Unsupported, "nothing predicts here"))
    }
}

emits_shown! { Role => "Role::" }

/// Writes the model of a directory or file (see [`Source::open`]) as the Rust file `to`, and its weights as the file of
/// the same name with the extension `bin`. For build scripts; it asks Cargo to run them again when a file of the model
/// changes.
///
/// Errors: as [`Source::open`], [`Source::compile`] and [`SchedulerConfig::sampler`]; kind `InvalidArgument` for a name
/// that is none; kind `Unsupported` for a sampler or an operation that cannot be a part of a program.
pub fn generate(model: impl AsRef<Path>, options: &EmbedOptions, to: impl AsRef<Path>) -> Result<Embedded> {
    generate_source(&Source::open(model)?, options, to)
}

/// As [`generate`], of a source from anywhere.
///
/// Errors: as [`generate`].
pub fn generate_source(source: &Source<'_>, options: &EmbedOptions, to: impl AsRef<Path>) -> Result<Embedded> {
    let to = to.as_ref();
    let stem = to.file_stem().and_then(|s| s.to_str());
    let stem = stem.ok_or_else(|| err!(InvalidArgument, "{} is no name of a file", to.display()))?;
    let (text, bytes, report) = write(source, options, &format!("{stem}.bin"))?;
    let put = |path: &Path, data: &[u8]| fs::write(path, data).map_err(|e| Error::from(e).context(path.display()));
    put(to, text.as_bytes())?;
    put(&to.with_extension("bin"), &bytes)?;
    for file in source.files() {
        std::println!("cargo::rerun-if-changed={file}");
    }
    Ok(report)
}

/// The text, which includes the weights as the file `weights`, and the weights.
fn write(source: &Source<'_>, options: &EmbedOptions, weights: &str) -> Result<(String, Vec<u8>, Embedded)> {
    let EmbedOptions { name, batch, .. } = options;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    ensure!(
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(word),
        InvalidArgument,
        "the name is {name:?}, expected letters, digits and _"
    );
    let cpu = Cpu::with_options(CpuOptions {
        path: Some(crate::backend::cpu::Path::Portable),
        threads: Some(1),
        weights: options.weights,
    })?;
    let pipeline = source.compile(
        &cpu,
        &PipelineOptions {
            size: options.size,
            scheduler: options.scheduler.clone(),
            precision: options.precision,
            ..Default::default()
        },
    )?;
    let sampler = match &options.sampler {
        Some(given) => pipeline.sampler(given)?,
        None => pipeline.sampler(&SamplerOptions::default_for(&pipeline.scheduler()?, None))?,
    };
    let network = pipeline.networks().predict.as_ref();
    let inputs = inputs_of(network)?;
    let sample = inputs.iter().find(|i| i.role == Role::Sample);
    let sample = sample.ok_or_else(|| err!(InvalidArgument, "the network has no input for x"))?.dims;
    let output = network.outputs().first().map_or(0, Dims::elements);
    let sized = Sized { dims: sample, output, batch: *batch };
    let chain = Chain::builder(sized, &*sampler, ()).batch(*batch).workspace_len()?;

    let mut to = Emitter::default();
    let (kind, sampler_text) = Sampler::emit(&sampler, &mut to)?;
    let network_text = network.emit_fixed(*batch, &mut to)?;
    let mut ports = String::new();
    for i in &inputs {
        ports.push_str(&format!(
            "Port {{ name: {:?}, role: {}, dims: {} }}, ",
            i.name,
            i.role.emit(&mut to)?,
            i.dims.emit(&mut to)?
        ));
    }
    let (statics, bytes) = to.finish();
    let module = name.to_lowercase();
    let text = format!(
        "// Written by undiffuse::embed::generate.\n\
         #[allow(unsafe_code, unused_imports, clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]\n\
         #[rustfmt::skip]\n\
         mod {module}_parts {{\n\
         use undiffuse::embed::parts::*;\n\
         static WEIGHTS: Block<{}> = Block(*include_bytes!({weights:?}));\n\
         {statics}\
         pub static MODEL: Model<{kind}> = Model::new({network_text}, &[{ports}], {sampler_text}, {chain});\n\
         }}\n\
         #[allow(unused_imports)]\n\
         use {module}_parts::MODEL as {name};\n",
        bytes.len()
    );
    let each: usize = inputs.iter().filter(|i| i.role != Role::Sample).map(|i| i.dims.elements()).sum();
    let workspace = each * batch + network.workspace_len(*batch)? + chain;
    let report = Embedded {
        weight_bytes: bytes.len(),
        workspace_bytes: workspace * size_of::<f32>(),
        steps: sampler.levels().len(),
    };
    Ok((text, bytes, report))
}
