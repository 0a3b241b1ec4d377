//! Finding a model in a diffusers pipeline directory.
//!
//! Two layouts occur: nested (`unet/config.json`, `unet/*.safetensors`, `scheduler/scheduler_config.json`) and flat (all of them in one
//! directory). `model_index.json` is not needed; if it is there, it must not ask for parts that this library lacks.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::fs;
use std::path::{Path, PathBuf};

use super::{DiffusersNames, SafeTensorsFile, ShardedFiles, WeightSource};
use crate::error::{Error, Result, ensure, err};
use crate::files;
use crate::json;

/// The longest configuration or index that is read.
const MAX_TEXT: u64 = 64 << 20;
/// The name that diffusers gives to weights.
const STEM: &str = "diffusion_pytorch_model";

/// What a pipeline directory holds.
pub struct PipelineFiles {
    /// The text of the model's `config.json`.
    pub model: String,
    /// The text of `scheduler_config.json`, if there is one.
    pub scheduler: Option<String>,
    /// The weights, under today's names.
    pub weights: Box<dyn WeightSource>,
}

/// Opens a pipeline directory, nested or flat, or the model's own directory. Errors (kind `Io` for what is missing, `Weights` or
/// `Config` for what is malformed) name the file.
pub fn open(dir: impl AsRef<Path>) -> Result<PipelineFiles> {
    let dir = dir.as_ref();
    let is_dir = fs::metadata(dir).map_err(|e| Error::from(e).context(dir.display()))?.is_dir();
    ensure!(is_dir, Io, "{}: this is no directory", dir.display());
    check_index(&dir.join("model_index.json"))?;
    let nested = dir.join("unet");
    let model_dir = if nested.is_dir() { nested } else { dir.to_path_buf() };
    let config = model_dir.join("config.json");
    if !config.is_file() {
        let empty = fs::read_dir(&model_dir).is_ok_and(|mut d| d.next().is_none());
        let what = if empty { "the directory is empty" } else { "there is no config.json in it or in unet/" };
        return Err(err!(Io, "{}: {what}, expected a diffusers pipeline", model_dir.display()));
    }
    let scheduler = [dir.join("scheduler").join("scheduler_config.json"), dir.join("scheduler_config.json")]
        .into_iter()
        .find(|p| p.is_file());
    Ok(PipelineFiles {
        model: read_text(&config)?,
        scheduler: scheduler.map(|p| read_text(&p)).transpose()?,
        weights: open_weights(&model_dir)?,
    })
}

/// Reads a text file of bounded size; errors name it.
pub(super) fn read_text(path: &Path) -> Result<String> {
    files::read_text(path, MAX_TEXT)
}

/// Refuses a pipeline with parts beside a model and a scheduler.
fn check_index(path: &Path) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let text = read_text(path)?;
    let index = json::parse_object(&text).map_err(|e| e.context(format!("{}: malformed", path.display())))?;
    for (key, value) in &index {
        // A part is [library, class]; an optional part that is absent is [null, null].
        let part = value.as_array().is_some_and(|a| a.iter().any(|v| !v.is_null()));
        ensure!(
            !part || key == "unet" || key == "scheduler",
            Unsupported,
            "{}: the pipeline has the part {key:?}, expected only unet and scheduler",
            path.display()
        );
    }
    Ok(())
}

fn open_weights(dir: &Path) -> Result<Box<dyn WeightSource>> {
    let path = find_weights(dir)?;
    if path.extension().is_some_and(|e| e == "json") {
        return Ok(Box::new(DiffusersNames::new(ShardedFiles::open(path)?)?));
    }
    Ok(Box::new(DiffusersNames::new(SafeTensorsFile::open(path)?)?))
}

/// Picks the weights: the plain file, its index, or the only variant (`*.fp16.safetensors`) there is.
fn find_weights(dir: &Path) -> Result<PathBuf> {
    for plain in [format!("{STEM}.safetensors"), format!("{STEM}.safetensors.index.json")] {
        let path = dir.join(plain);
        if path.is_file() {
            return Ok(path);
        }
    }
    let mut found: Vec<String> = Vec::new();
    let mut pickle = None;
    for entry in fs::read_dir(dir).map_err(|e| Error::from(e).context(dir.display()))? {
        let name = entry.map_err(|e| Error::from(e).context(dir.display()))?.file_name().to_string_lossy().to_string();
        let index = name.contains(".safetensors.index.") && name.ends_with(".json");
        if index || (name.ends_with(".safetensors") && !is_shard(&name)) {
            found.insert(found.partition_point(|f| *f < name), name);
        } else if [".bin", ".pt", ".pth", ".ckpt"].iter().any(|e| name.ends_with(e)) {
            pickle = Some(name);
        }
    }
    match (found.as_slice(), pickle) {
        ([one], _) => Ok(dir.join(one)),
        ([], Some(name)) => Err(err!(
            Unsupported,
            "{}: {name} is a PyTorch pickle, which can run any code when it is opened; convert it to safetensors with examples/export/convert_bin.py",
            dir.display()
        )),
        ([], None) => Err(err!(Io, "{}: there are no weights, expected {STEM}.safetensors", dir.display())),
        (several, _) => Err(err!(
            Io,
            "{}: there are several weight files ({}), expected {STEM}.safetensors or only one",
            dir.display(),
            several.join(", ")
        )),
    }
}

/// Whether a name is one of several files, `*-00001-of-00002.safetensors`.
fn is_shard(name: &str) -> bool {
    let digits = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
    let stem = name.trim_end_matches(".safetensors");
    let mut parts = stem.rsplit('-');
    let total = parts.next().is_some_and(digits);
    total && parts.next() == Some("of") && parts.next().is_some_and(digits)
}
