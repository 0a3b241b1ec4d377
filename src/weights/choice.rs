//! Which files of a directory are its model's weights. A directory that was saved to more than once may hold several
//! sets: as diffusers does, an index goes before a plain file, and either before a variant; what is passed over is
//! told, and what could be either is refused.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::fs;
use std::path::{Path, PathBuf};

use super::SafeTensorsFile;
use super::packed::PackedConfigs;
use super::sharded::files_of;
use crate::error::{Error, Result, err};

/// The name that diffusers gives to weights.
const STEM: &str = "diffusion_pytorch_model";
/// What stands between the stem and the variant of an index.
const INDEX: &str = ".safetensors.index";
const FILE: &str = ".safetensors";

/// The weights of a directory.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    /// A safetensors file, or an index of several.
    pub path: PathBuf,
    /// What else could have been meant, and why it is not read.
    pub remarks: Vec<String>,
}

/// Whether a path is that of an index of shards, by its name.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().contains(INDEX))
        && path.extension().is_some_and(|e| e == "json")
}

/// One model's weights: in one file, in shards with an index, or both.
#[derive(Debug, PartialEq)]
struct Set {
    /// The name without `.safetensors`: a stem, and for a variant what diffusers puts behind it
    /// (`diffusion_pytorch_model.fp16`).
    name: String,
    file: Option<String>,
    index: Option<String>,
}

/// Finds the weights in a directory. Errors name the files: kind `Io` where there are none or several, or shards are
/// missing; `Unsupported` for pickles; `Weights` for a packed file, whose configuration is its own.
pub(super) fn choose(dir: &Path) -> Result<Choice> {
    let (mut sets, pickle) = sets(dir)?;
    let mut remarks = Vec::new();
    let packed = |file: &Option<String>| file.as_ref().is_some_and(|f| is_packed(&dir.join(f)));
    if let Some(main) = sets.iter().position(|s| s.name == STEM) {
        let main = sets.remove(main);
        if packed(&main.file) {
            return Err(is_packed_error(dir, main.file.as_deref().unwrap_or_default()));
        }
        let path = resolve(dir, &main, &mut remarks)?;
        remarks.extend(sets.iter().map(|s| format!("{} is not read: {} is", s.shown(), shown(&path))));
        return Ok(Choice { path, remarks });
    }
    let (own, rest): (Vec<Set>, Vec<Set>) = sets.into_iter().partition(|s| packed(&s.file));
    match (rest.as_slice(), own.first().and_then(|s| s.file.as_deref()), pickle) {
        ([one], _, _) => {
            let path = resolve(dir, one, &mut remarks)?;
            remarks.extend(own.iter().map(|s| format!("{} is not read: it is a packed file", s.shown())));
            Ok(Choice { path, remarks })
        }
        ([], Some(packed), _) => Err(is_packed_error(dir, packed)),
        ([], None, Some(name)) => Err(err!(
            Unsupported,
            "{}: {name} is a PyTorch pickle, which can run any code when it is opened; convert it to safetensors with examples/export/convert_bin.py",
            dir.display()
        )),
        ([], None, None) => Err(err!(Io, "{}: there are no weights, expected {STEM}.safetensors", dir.display())),
        (several, _, _) => {
            let names: Vec<&str> = several.iter().map(Set::shown).collect();
            Err(err!(
                Io,
                "{}: there are several weight files ({}), expected {STEM}.safetensors or only one: give the path of the one that is meant",
                dir.display(),
                names.join(", ")
            ))
        }
    }
}

fn is_packed_error(dir: &Path, file: &str) -> Error {
    let path = dir.join(file);
    err!(
        Weights,
        "{}: {file} is a packed file with a configuration of its own: give its path, {}",
        dir.display(),
        path.display()
    )
}

impl Set {
    /// One of its names, for messages.
    fn shown(&self) -> &str {
        self.file.as_deref().or(self.index.as_deref()).unwrap_or(&self.name)
    }
}

fn shown(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The sets of a directory by name, and a pickle if there is one.
fn sets(dir: &Path) -> Result<(Vec<Set>, Option<String>)> {
    let (mut sets, mut pickle): (Vec<Set>, _) = (Vec::new(), None);
    let io = |e: std::io::Error| Error::from(e).context(dir.display());
    for entry in fs::read_dir(dir).map_err(io)? {
        let file = entry.map_err(io)?.file_name().to_string_lossy().to_string();
        if [".bin", ".pt", ".pth", ".ckpt"].iter().any(|e| file.ends_with(e)) {
            pickle = Some(file);
            continue;
        }
        let index = file.strip_suffix(".json").and_then(|f| f.split_once(INDEX));
        let name = match (index, file.strip_suffix(FILE)) {
            // The variant is the last word: `stem.safetensors.index.fp16.json` goes with `stem.fp16.safetensors`.
            (Some((stem, variant)), _) => format!("{stem}{variant}"),
            (None, Some(stem)) if !is_shard(stem) && !file.starts_with('.') => stem.to_string(),
            _ => continue,
        };
        let at = sets.partition_point(|s| s.name < name);
        if sets.get(at).is_none_or(|s| s.name != name) {
            sets.insert(at, Set { name, file: None, index: None });
        }
        let of_shards = index.is_some();
        if let Some(set) = sets.get_mut(at) {
            *(if of_shards { &mut set.index } else { &mut set.file }) = Some(file);
        }
    }
    Ok((sets, pickle))
}

/// The file or index of a set that is read.
fn resolve(dir: &Path, set: &Set, remarks: &mut Vec<String>) -> Result<PathBuf> {
    let (index, file) = match (&set.index, &set.file) {
        (None, Some(file)) => return Ok(dir.join(file)),
        (Some(index), file) => (index, file),
        (None, None) => return Err(err!(Io, "{}: there is no {}", dir.display(), set.name)),
    };
    let shards = files_of(&dir.join(index))?;
    let missing: Vec<&str> = shards.iter().map(String::as_str).filter(|s| !dir.join(s).is_file()).collect();
    match (file, missing.as_slice()) {
        (None, []) => {}
        // What save_pretrained leaves behind when it saves in shards where a single file was; diffusers loads the
        // index.
        (Some(file), []) => remarks.push(format!("{file} is not read: {index} is followed, as by diffusers")),
        // The other way round it deletes the shards and leaves their index.
        (Some(file), all) if all.len() == shards.len() => {
            remarks.push(format!("{index} is not followed: none of its files is there"));
            return Ok(dir.join(file));
        }
        (file, missing) => {
            let beside = file.as_ref().map_or(String::new(), |f| {
                format!(
                    "; {f} stands beside them and may be another model: give its path, {}, if it is meant",
                    dir.join(f).display()
                )
            });
            return Err(err!(
                Io,
                "{}: {index} names {} files, of which {} are missing ({}){beside}",
                dir.display(),
                shards.len(),
                missing.len(),
                missing.iter().take(4).copied().collect::<Vec<_>>().join(", ")
            ));
        }
    }
    Ok(dir.join(index))
}

/// Whether a directory has any file that could be a model's weights.
pub(super) fn has_any(dir: &Path) -> bool {
    sets(dir).is_ok_and(|(sets, pickle)| !sets.is_empty() || pickle.is_some())
}

/// Whether a file carries a configuration of its own. One that cannot be read is refused where it is opened.
pub(super) fn is_packed(path: &Path) -> bool {
    SafeTensorsFile::open(path).is_ok_and(|f| PackedConfigs::is_in(|key| f.metadata(key)))
}

/// Whether a name without its extension is one of several files: `*-00001-of-00002`, or, with a variant behind, as
/// diffusers wrote it before 0.30, `*-00001-of-00002.fp16`.
fn is_shard(stem: &str) -> bool {
    let numbered = |stem: &str| {
        let digits = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
        let mut parts = stem.rsplit('-');
        let total = parts.next().is_some_and(digits);
        total && parts.next() == Some("of") && parts.next().is_some_and(digits)
    };
    numbered(stem) || stem.rsplit_once('.').is_some_and(|(stem, _)| numbered(stem))
}
