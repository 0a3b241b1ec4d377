//! Finding a model in a diffusers pipeline directory.
//!
//! Two layouts occur: nested (`unet/config.json`, `unet/*.safetensors`, `scheduler/scheduler_config.json`) and flat
//! (all of them in one directory). `model_index.json` is not needed; if it is there, it must not ask for parts that
//! this library lacks. A model's own directory (`unet.save_pretrained`, a checkpoint of accelerate, an EMA folder)
//! needs no scheduler.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::fs;
use std::path::{Path, PathBuf};

use super::choice::{self, choose, is_index};
use super::{DiffusersNames, SafeTensorsFile, ShardedFiles, WeightSource};
use crate::error::{Error, Result, ensure, err};
use crate::files;
use crate::json;

/// The model's configuration.
const CONFIG: &str = "config.json";
/// How the network is to be called, beside the model's configuration.
const PRECONDITIONING: &str = "preconditioning.json";
/// The scheduler's configuration.
const SCHEDULER: &str = "scheduler_config.json";

/// An autoencoder in a pipeline directory.
pub struct DecoderFiles {
    /// The text of its `config.json`.
    pub config: String,
    /// Its weights, under today's names.
    pub weights: Box<dyn WeightSource>,
    /// The files that are read.
    pub paths: Vec<PathBuf>,
}

/// What a pipeline directory holds.
pub struct PipelineFiles {
    /// The text of the model's `config.json`.
    pub model: String,
    /// The text of `scheduler_config.json`, if there is one. It has not been looked at.
    pub scheduler: Option<String>,
    /// The text of `preconditioning.json` beside the model's configuration, if there is one. It has not been looked at.
    pub preconditioning: Option<String>,
    /// Where the scheduler's stands.
    pub scheduler_path: Option<PathBuf>,
    /// The weights, under today's names.
    pub weights: Box<dyn WeightSource>,
    /// The autoencoder that makes data of a latent model's samples, or why it cannot be read; `None` where there is
    /// none.
    pub decoder: Option<Result<DecoderFiles>>,
    /// The files that are read: the model's configuration, the scheduler's if there is one, the weights (of several,
    /// their index).
    pub paths: Vec<PathBuf>,
    /// What a person should know of the choice: files passed over that could have been meant, and names that were
    /// changed.
    pub remarks: Vec<String>,
}

/// A model's directory and where its scheduler may be, the likeliest first.
struct Place {
    model: PathBuf,
    schedulers: Vec<PathBuf>,
    decoder: Option<PathBuf>,
    remarks: Vec<String>,
}

/// Opens a pipeline directory, nested or flat; a model's own directory; or, to choose among several weights in such a
/// directory, one of its weight files or the index of several. Errors (kind `Io` for what is missing or ambiguous,
/// `Weights` or `Config` for what is malformed) name the file.
pub fn open(path: impl AsRef<Path>) -> Result<PipelineFiles> {
    let path = path.as_ref();
    let is_dir = fs::metadata(path).map_err(|e| Error::from(e).context(path.display()))?.is_dir();
    let (mut place, weights) = if is_dir {
        let mut place = find(path)?;
        let chosen = choose(&place.model)?;
        place.remarks.extend(chosen.remarks);
        (place, chosen.path)
    } else {
        let dir = path.parent().unwrap_or_else(|| Path::new(""));
        ensure!(
            dir.join(CONFIG).is_file(),
            Io,
            "{}: there is no {CONFIG} beside it, expected weights in a model's directory",
            path.display()
        );
        (at(dir), path.to_path_buf())
    };
    let config = place.model.join(CONFIG);
    let preconditioning = Some(place.model.join(PRECONDITIONING)).filter(|p| p.is_file());
    let mut schedulers = place.schedulers.iter().filter(|p| p.is_file());
    let scheduler = schedulers.next();
    if let (Some(first), Some(other)) = (scheduler, schedulers.next()) {
        place.remarks.push(format!("{} is not read: {} is", other.display(), first.display()));
    }
    let (source, prefix) = open_weights(&weights)?;
    if !prefix.is_empty() {
        place.remarks.push(format!("the name of every tensor begins with {prefix:?}, which is taken off"));
    }
    Ok(PipelineFiles {
        model: read_text(&config)?,
        scheduler: scheduler.map(|p| read_text(p)).transpose()?,
        preconditioning: preconditioning.as_deref().map(read_text).transpose()?,
        scheduler_path: scheduler.cloned(),
        decoder: place.decoder.as_deref().map(open_decoder),
        weights: source,
        paths: [&config].into_iter().chain(&preconditioning).chain(scheduler).chain([&weights]).cloned().collect(),
        remarks: place.remarks,
    })
}

/// Opens an autoencoder's directory.
fn open_decoder(dir: &Path) -> Result<DecoderFiles> {
    let (config, weights) = (dir.join(CONFIG), choose(dir)?.path);
    let (source, _) = open_weights(&weights)?;
    Ok(DecoderFiles { config: read_text(&config)?, weights: source, paths: Vec::from([config, weights]) })
}

/// Whether a path that is no directory is the index of weights in several files.
pub fn is_index_of_weights(path: &Path) -> bool {
    is_index(path)
}

/// Reads a text file of bounded size; errors name it.
pub(super) fn read_text(path: &Path) -> Result<String> {
    files::read_text(path, json::MAX_TEXT as u64)
}

/// A model's own directory. If it is a part of a pipeline (`PIPELINE/unet`), the scheduler is the pipeline's.
fn at(dir: &Path) -> Place {
    let mut schedulers = Vec::from([dir.join(SCHEDULER), dir.join("scheduler").join(SCHEDULER)]);
    let part =
        dir.file_name().map(|n| n.to_string_lossy()).is_some_and(|n| n.starts_with("unet") || n == "transformer");
    if let Some(pipeline) = dir.parent().filter(|_| part) {
        schedulers.extend([pipeline.join("scheduler").join(SCHEDULER), pipeline.join(SCHEDULER)]);
    }
    Place { model: dir.to_path_buf(), schedulers, decoder: None, remarks: Vec::new() }
}

/// Finds the model in a directory.
fn find(dir: &Path) -> Result<Place> {
    let index = dir.join("model_index.json");
    let has_config = |dir: &Path| dir.join(CONFIG).is_file();
    let Index { is_pipeline, decoder, mut remarks } = read_index(&index)?;
    let decoder = match decoder {
        Listed::Part(part) => {
            let decoder = dir.join(part);
            ensure!(
                has_config(&decoder),
                Io,
                "{}: the pipeline has the part {part:?}, but there is no {}{}",
                index.display(),
                decoder.join(CONFIG).display(),
                network_alone(dir)
            );
            Some(decoder)
        }
        Listed::Absent => None,
        // Without an index what is there is the model's.
        Listed::Nothing => DECODERS.map(|part| dir.join(part)).into_iter().find(|d| has_config(d)),
    };
    let [mut nested, ema] = ["unet", "unet_ema"].map(|part| dir.join(part));
    let transformer = dir.join("transformer");
    if !has_config(&nested) && has_config(&transformer) {
        nested = transformer;
    }
    let in_parts = |part: &Path| Place {
        model: part.to_path_buf(),
        schedulers: [dir.join("scheduler").join(SCHEDULER), dir.join(SCHEDULER)].into(),
        decoder: decoder.clone(),
        remarks: Vec::new(),
    };
    let flat = has_config(dir) && choice::has_any(dir);
    if has_config(&nested) {
        let mut place = in_parts(&nested);
        place.remarks.append(&mut remarks);
        if flat {
            // A pipeline's file says that the parts are its own.
            ensure!(
                is_pipeline,
                Io,
                "{}: there is a model in it and another in unet/: give {}, or the path of the weights beside {CONFIG}",
                dir.display(),
                nested.display()
            );
            place.remarks.push(format!("{} is not read: {} is", dir.join(CONFIG).display(), nested.display()));
        }
        if has_config(&ema) {
            place.remarks.push(format!("{} is not read: {} is", ema.display(), nested.display()));
        }
        return Ok(place);
    }
    if flat || has_config(dir) {
        return Ok(at(dir));
    }
    if has_config(&ema) {
        return Ok(in_parts(&ema));
    }
    Err(no_model(dir, &nested))
}

/// The error for a directory without a configuration.
fn no_model(dir: &Path, nested: &Path) -> Error {
    let looked = if nested.is_dir() { nested } else { dir };
    let files = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let packed = files(dir).find(|p| p.extension().is_some_and(|e| e == "safetensors") && choice::is_packed(p));
    let what = match packed {
        Some(file) => format!("there is no {CONFIG}, but a packed file: give its path, {}", file.display()),
        None if files(looked).next().is_none() => "the directory is empty, expected a diffusers pipeline".into(),
        None => format!("there is no {CONFIG} in it or in unet/, expected a diffusers pipeline"),
    };
    err!(Io, "{}: {what}", looked.display())
}

/// The parts that decode latents, by the names that pipelines give them.
const DECODERS: [&str; 2] = ["vae", "vqvae"];
/// The parts whose output is the caller's to give, as a condition.
const GIVEN: [&str; 4] = ["text_encoder", "text_encoder_2", "text_encoder_3", "bert"];
/// The parts that sampling does not use.
const UNUSED: [&str; 7] =
    ["tokenizer", "tokenizer_2", "tokenizer_3", "safety_checker", "feature_extractor", "image_encoder", "watermark"];

/// What a `model_index.json` says.
struct Index {
    /// Whether there is one.
    is_pipeline: bool,
    decoder: Listed,
    remarks: Vec<String>,
}

/// Which autoencoder an index lists.
enum Listed {
    Part(&'static str),
    /// It lists none.
    Absent,
    /// There is no index.
    Nothing,
}

/// Reads a `model_index.json`. Refuses a pipeline with parts that sampling would need and that are none of these: a
/// model, a scheduler and an autoencoder. What sampling does not use is not looked at.
fn read_index(path: &Path) -> Result<Index> {
    if !path.is_file() {
        return Ok(Index { is_pipeline: false, decoder: Listed::Nothing, remarks: Vec::new() });
    }
    let text = read_text(path)?;
    let index = json::parse_object(&text).map_err(|e| e.context(format_args!("{}: malformed", path.display())))?;
    let mut found = Index { is_pipeline: true, decoder: Listed::Absent, remarks: Vec::new() };
    for (key, value) in &index {
        // A part is [library, class]; an optional part that is absent is [null, null].
        let key = key.as_str();
        if !value.as_array().is_some_and(|a| a.iter().any(|v| !v.is_null())) {
            continue;
        }
        if let Some(part) = DECODERS.iter().find(|d| **d == key) {
            if let Listed::Part(other) = found.decoder {
                return Err(err!(Unsupported, "{}: the pipeline has {other} and {part}, expected one", path.display()));
            }
            found.decoder = Listed::Part(part);
        } else if GIVEN.contains(&key) {
            found.remarks.push(format!("{key} is not read: what it makes is the caller's to give, as a condition"));
        } else if !UNUSED.contains(&key) {
            ensure!(
                matches!(key, "unet" | "transformer" | "scheduler"),
                Unsupported,
                "{}: the pipeline has the part {key:?}, expected only unet or transformer, scheduler, vae or vqvae, and what sampling does \
                 not use{}",
                path.display(),
                network_alone(path.parent().unwrap_or(path))
            );
        }
    }
    Ok(found)
}

/// What to give instead of a pipeline with a part that cannot be read.
fn network_alone(dir: &Path) -> String {
    let network = ["unet", "transformer"].map(|part| dir.join(part)).into_iter().find(|p| p.is_dir());
    network.map_or(String::new(), |p| format!(": its network alone is {}", p.display()))
}

/// The weights of a file or index, and what was taken off all of their names.
fn open_weights(path: &Path) -> Result<(Box<dyn WeightSource>, String)> {
    fn named<S: WeightSource + 'static>(source: S, path: &Path) -> Result<(Box<dyn WeightSource>, String)> {
        let names = DiffusersNames::new(source).map_err(|e| e.context(path.display()))?;
        let prefix = names.prefix().to_string();
        Ok((Box::new(names), prefix))
    }
    if is_index(path) { named(ShardedFiles::open(path)?, path) } else { named(SafeTensorsFile::open(path)?, path) }
}
