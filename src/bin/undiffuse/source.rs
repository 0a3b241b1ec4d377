//! Which model and which backend a command uses; the options that several commands share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use undiffuse::backend::Choice;
use undiffuse::backend::cpu::{CpuOptions, WeightType};
use undiffuse::codec::DECODE_BYTES;
use undiffuse::pipeline::{Decoding, Encoding, Pipeline, PipelineOptions, Precision, Source};
use undiffuse::sampler::{ModelPreconditioning, PreconditioningRule, SamplerKind, SchedulerConfig};
use undiffuse::{Error, ErrorKind, Result};

use crate::args::{Args, Classes, Outcome, usage};
use crate::arrays::ArrayFile;
use crate::conditions::{ConditionArgs, Given};

/// What the help of a command says of the options from `--class` to `--scheduler`, which [`ModelArgs`] reads.
macro_rules! model_options {
    () => {
        "  --class LIST    classes of a class model, as in 3 or 0,1,2; sample i gets entry i modulo their number.
                  Or a FILE, a .npy or the tensor class_labels of a .safetensors: [N], or [N, D] where
                  a class is a vector (class_embed_type identity)
  --condition NAME=FILE
                  an input of the model beside x (`undiffuse info` lists them): a .npy, or the tensor NAME of a .safetensors: its shape, for
                  all samples, or [N, ...], sample i gets entry i modulo N; an image also from a PNG, JPEG or WebP of the model's size, which
                  becomes -1 to 1 (a mask 0 to 1)
  --guidance S    classifier-free guidance: u + S (c - u), u being the prediction under the negative conditions; with
                  --negative-class LIST (the label that stands for none) or --negative NAME=FILE, as --class and --condition
  --guidance-rescale PHI
                  0 (default) to 1: how much of it gets the standard deviation of c
  --guidance-interval LOW,HIGH
                  guides only where LOW < sigma / alpha <= HIGH
  --scheduler S   a scheduler_config.json, a pipeline's directory or JSON text, in place of the
                  model's own
"
    };
}
pub(crate) use model_options;

/// The digits that ship with the program.
static DIGITS: &[u8] = include_bytes!("../../../pretrained/digits.safetensors");

/// The name of [`DIGITS`] in what the program prints.
const DIGITS_NAME: &str = "the embedded digits";

/// The largest side of an image that `--size` takes.
const MAX_SIDE: usize = 1 << 16;

/// Threads that `--threads` takes.
const MAX_THREADS: usize = 256;

/// PATH, `--scheduler`, `--size`, `--backend`, `--threads`, `--weights` and `--precision`.
#[derive(Debug, Default)]
pub struct ModelArgs {
    path: Option<PathBuf>,
    scheduler: Option<String>,
    size: Option<[usize; 2]>,
    backend: Choice,
    threads: Option<usize>,
    weights: WeightType,
    precision: Precision,
    gradient: bool,
    /// What becomes of a latent model's decoder; `None` for a command that works on pictures alone.
    decoding: Option<Decoding>,
    /// Whether pictures become samples, for which a latent model's encoder is needed.
    encodes: bool,
    classes: Option<Classes>,
    conditions: ConditionArgs,
}

impl ModelArgs {
    /// Takes an option if it is one of these; its value is read from `args`.
    pub fn option(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        match name {
            "model" => {
                let path = args.value()?;
                self.value(path, args)?;
            }
            "scheduler" => self.scheduler = Some(args.text()?),
            "size" => self.size = Some(size(args)?),
            "backend" => {
                let text = args.text()?;
                self.backend = match text.parse() {
                    Ok(choice) => choice,
                    Err(e) => return usage!("--backend: {e}"),
                };
            }
            "threads" => self.threads = Some(args.number("a whole number", 1..=MAX_THREADS)?),
            "precision" => self.precision = args.choice(&Precision::ALL.map(|p| (p.name(), p)))?,
            "weights" => self.weights = args.choice(&WeightType::ALL.map(|t| (t.name(), t)))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes an argument that is no option, or the value of `--model`, as PATH.
    pub fn value(&mut self, value: OsString, args: &Args) -> Outcome {
        if let Some(path) = &self.path {
            return usage!(
                "one model is expected, got {} and {}; {}",
                path.display(),
                value.display(),
                args.see_help()
            );
        }
        self.path = Some(value.into());
        Ok(())
    }

    /// Takes `--class`, for a command that has it.
    pub fn set_classes(&mut self, args: &mut Args) -> Outcome {
        self.classes = Some(args.classes()?);
        Ok(())
    }

    /// The rows of `--class`, which are checked against the model.
    pub fn classes(&self, pipeline: &Pipeline) -> Result<Vec<f32>> {
        let of_file = |e: Error, path: &Path| e.context(format_args!("--class {}", path.display()));
        let rows = match &self.classes {
            None => Vec::new(),
            Some(classes) => class_rows(classes, pipeline).map_err(|e| match classes {
                Classes::List(_) => e,
                Classes::File(path) => of_file(e, path),
            })?,
        };
        pipeline.check_classes(&rows).map_err(|e| match &self.classes {
            None => {
                let how =
                    if pipeline.class_len() > 1 { "give --class FILE, an array [N, D]" } else { "give --class LIST" };
                Error::new(e.kind(), format!("{}: {e}: {how}", self.name()))
            }
            Some(Classes::List(_)) => e.context("--class"),
            Some(Classes::File(path)) => of_file(e, path),
        })?;
        Ok(rows)
    }

    /// Takes an option of [`ConditionArgs`], for a command that has them.
    pub fn condition(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        self.conditions.option(name, args)
    }

    /// The options of [`ConditionArgs`].
    pub fn conditions(&self) -> &ConditionArgs {
        &self.conditions
    }

    /// All that a denoiser is given beside x, which is checked against the model.
    pub fn given(&self, pipeline: &Pipeline) -> Result<Given> {
        self.conditions.given(pipeline, &self.classes(pipeline)?)
    }

    /// For a command that knows the size by other means.
    pub fn set_size(&mut self, size: [usize; 2]) {
        self.size = Some(size);
    }

    /// The size that `--size` says.
    pub fn size(&self) -> Option<[usize; 2]> {
        self.size
    }

    /// For a command whose evidence needs vector-Jacobian products.
    pub fn set_gradient(&mut self, gradient: bool) {
        self.gradient = gradient;
    }

    /// For a command that runs latent models too.
    pub fn set_decoding(&mut self, decoding: Decoding) {
        self.decoding = Some(decoding);
    }

    /// Whether the command works on data alone, so that [`Self::compile`] refuses a model of latents.
    pub fn refuses_latents(&self) -> bool {
        self.decoding.is_none()
    }

    /// For a run that begins at pictures.
    pub fn set_encodes(&mut self) {
        self.encodes = true;
    }

    /// Takes `--decode-bytes` or `--latents`, for a command that decodes.
    pub fn decoding(&mut self, name: &str, args: &mut Args) -> Outcome<bool> {
        match name {
            "decode-bytes" => self.decoding = Some(Decoding::Within(args.number("a whole number", 1..=usize::MAX)?)),
            "latents" => self.decoding = Some(Decoding::None),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks what concerns several options.
    pub fn check(&self) -> Outcome {
        if matches!(self.backend, Choice::Reference | Choice::Wgpu(_)) && self.threads.is_some_and(|n| n > 1) {
            return usage!("--threads is for the cpu backend, not for {}", self.backend);
        }
        if matches!(self.backend, Choice::Reference | Choice::Wgpu(_)) && self.weights != WeightType::F32 {
            return usage!("--weights {} is for the cpu backend, not for {}", self.weights, self.backend);
        }
        self.conditions.check()
    }

    /// What the model is called in messages.
    pub fn name(&self) -> String {
        self.path.as_ref().map_or(DIGITS_NAME.into(), |p| p.display().to_string())
    }

    /// Finds the model, and gives it the scheduler of `--scheduler`.
    pub fn open(&self) -> Result<Source<'static>> {
        let mut source = match &self.path {
            Some(path) => Source::open(path),
            None => Source::from_bytes(DIGITS).map_err(|e| e.context(DIGITS_NAME)),
        }?;
        if let Some(scheduler) = &self.scheduler {
            source.set_scheduler_json(scheduler_text(scheduler)?).map_err(|e| e.context("--scheduler"))?;
        }
        Ok(source)
    }

    /// Whether `--scheduler` was given.
    pub fn has_scheduler(&self) -> bool {
        self.scheduler.is_some()
    }

    /// The scheduler's configuration to run it with `sampler`, or as it says itself.
    pub fn scheduler(&self, pipeline: &Pipeline, sampler: Option<SamplerKind>) -> Result<SchedulerConfig> {
        pipeline.scheduler_for(sampler).map_err(|e| self.about_scheduler(pipeline, e))
    }

    /// The error of a sampler that could not be made, with what to do.
    fn about_scheduler(&self, pipeline: &Pipeline, e: Error) -> Error {
        let denoiser = |p: &ModelPreconditioning| matches!(p.rule, PreconditioningRule::Denoiser { .. });
        if matches!(pipeline.preconditioning(), Ok(Some(p)) if denoiser(&p)) {
            let text = "a denoiser of a stated sigma, which begins at a noisy picture and draws none from noise alone: it is for `undiffuse \
                        denoise`, `inpaint`, `restore`, `posterior` and `predict`";
            return Error::new(ErrorKind::Unsupported, format!("{}: {text}", self.name()));
        }
        if pipeline.scheduler_json().is_some() {
            return e.context(self.name());
        }
        if pipeline.model().reach().is_some() {
            let class = pipeline.model().class_name();
            let text = format!(
                "{class} is a denoiser: beside its config.json put a preconditioning.json with {{\"type\": \"denoiser\", \"sigma_max\": S}}, S being \
                 the largest noise that it was trained for, of images in 0 to 1"
            );
            return Error::new(e.kind(), format!("{}: {text}", self.name()));
        }
        Error::new(
            e.kind(),
            format!("{}: {e}: give --scheduler FILE, or {DEFAULTS} for diffusers' defaults", self.name()),
        )
    }

    /// Compiles the network for the chosen backend.
    pub fn compile(&self, source: &Source<'_>) -> Result<Pipeline> {
        let decoding = match self.decoding {
            Some(decoding) => decoding,
            None if !source.is_latent() => Decoding::None,
            None => {
                let network = source.files().first().map(Path::new).filter(|p| p.ends_with("config.json"));
                let network = network.and_then(Path::parent);
                let alone = network.map_or(String::new(), |p| format!(": to work on latents, give {}", p.display()));
                let text = format!("{}: its samples are latents, and this command works on data{alone}", self.name());
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
        };
        let backend =
            self.backend.open(&CpuOptions { threads: self.threads, weights: self.weights, ..CpuOptions::default() })?;
        let gradient = self.gradient.into();
        let encoding = match decoding {
            _ if !self.encodes => Encoding::None,
            Decoding::Within(bytes) => Encoding::Within(bytes),
            _ => Encoding::Within(DECODE_BYTES),
        };
        let options = PipelineOptions {
            size: self.size,
            gradient,
            decoding,
            encoding,
            precision: self.precision,
            ..PipelineOptions::default()
        };
        source.compile(backend.as_ref(), &options).map_err(|e| {
            if self.size.is_none() && source.model().needs_size() {
                return Error::new(ErrorKind::InvalidArgument, format!("{}: {e}: give --size", self.name()));
            }
            match self.size.and_then(|size| near(source, size)) {
                Some([h, w]) => Error::new(e.kind(), format!("{}: {e}: give --size {h}x{w}", self.name())),
                None => e.context(self.name()),
            }
        })
    }
}

/// The largest size within another that a model takes, if it is not that one.
pub fn near(source: &Source<'_>, [h, w]: [usize; 2]) -> Option<[usize; 2]> {
    let within = |bits: u32| [h >> bits << bits, w >> bits << bits];
    let found = (0..12).map(within).find(|&size| !size.contains(&0) && source.graph(Some(size)).is_ok());
    found.filter(|&size| size != [h, w])
}

/// The rows that `--class` or `--negative-class` says, not checked yet.
pub fn class_rows(classes: &Classes, pipeline: &Pipeline) -> Result<Vec<f32>> {
    match classes {
        Classes::List(list) => Ok(list.clone()),
        Classes::File(path) => rows(path, pipeline.class_len()),
    }
}

/// The rows of a file: a `.npy`, or the tensor `class_labels` of a safetensors file; `[]`, `[N]` or `[N, len]`.
fn rows(path: &Path, len: usize) -> Result<Vec<f32>> {
    let npy = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
    let (shape, values) = if npy {
        let array = undiffuse::npy::read(path)?;
        (array.shape, array.values)
    } else {
        let file = ArrayFile::open(path, &["class_labels"])?;
        let array = file.numbers("class_labels")?.ok_or_else(|| file.missing("class_labels"))?;
        (array.shape, array.data)
    };
    let fits = match shape.as_slice() {
        [] | [_] if len <= 1 => true,
        &[d] | &[_, d] => d == len,
        _ => false,
    };
    if !fits {
        let expected = if len <= 1 { "[N]".to_string() } else { format!("[N, {len}]") };
        return Err(Error::new(ErrorKind::Shape, format!("the classes are {shape:?}, expected {expected}")));
    }
    Ok(values)
}

/// What stands for diffusers' own configuration of a DDPM.
const DEFAULTS: &str = r#"--scheduler '{"_class_name": "DDPMScheduler"}'"#;

/// The longest scheduler configuration that is read.
const MAX_SCHEDULER: u64 = 8 << 20;

/// The text of `--scheduler`: JSON as it stands, a file, or the file of a pipeline's directory.
pub fn scheduler_text(given: &str) -> Result<String> {
    if given.trim_start().starts_with('{') {
        return Ok(given.into());
    }
    let path = Path::new(given);
    let within = ["scheduler_config.json", "scheduler/scheduler_config.json"].map(|file| path.join(file));
    let file = within.iter().find(|p| path.is_dir() && p.is_file()).map_or(path, |p| p.as_path());
    let error = |e: std::io::Error| Error::from(e).context(format_args!("--scheduler {}", file.display()));
    let length = std::fs::metadata(file).map_err(error)?.len();
    if length > MAX_SCHEDULER {
        let text = format!("--scheduler {} has {length} bytes, expected at most {MAX_SCHEDULER}", file.display());
        return Err(Error::new(ErrorKind::Config, text));
    }
    std::fs::read_to_string(file).map_err(error)
}

/// `H` or `HxW`.
fn size(args: &mut Args) -> Outcome<[usize; 2]> {
    let text = args.text()?;
    let side = |s: &str| s.parse().ok().filter(|n| (1..=MAX_SIDE).contains(n));
    let (h, w) = text.split_once('x').unwrap_or((&text, &text));
    match (side(h), side(w)) {
        (Some(h), Some(w)) => Ok([h, w]),
        _ => usage!("--size is {text:?}, expected pixels as in 32 or 32x64, at most {MAX_SIDE}"),
    }
}
