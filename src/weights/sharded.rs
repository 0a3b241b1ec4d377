//! Weights in several files with an index.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec::Vec;
use std::path::Path;

use super::diffusers::read_text;
use super::{SafeTensorsFile, TensorInfo, WeightSource, missing};
use crate::error::{Result, ensure, err};
use crate::json;

/// The most files of one model; the largest models have a few dozen.
const MAX_SHARDS: usize = 1024;

/// Safetensors files named by an index (`*.safetensors.index.json`) that stands in the same directory.
#[derive(Debug)]
pub struct ShardedFiles {
    /// For each tensor its file, as a place in `files`.
    places: BTreeMap<String, usize>,
    files: Vec<SafeTensorsFile>,
}

impl ShardedFiles {
    /// Reads an index and the headers of all its files. Errors: an index entry that is no plain file name, a tensor
    /// that is not where the index says, or one that the index does not know (kind `Weights`); a file that cannot be
    /// read (kind `Io`).
    pub fn open(index: impl AsRef<Path>) -> Result<Self> {
        let path = index.as_ref();
        let text = read_text(path)?;
        Self::open_inner(path, &text).map_err(|e| e.context(path.display()))
    }

    fn open_inner(path: &Path, text: &str) -> Result<Self> {
        let map = weight_map(text).map_err(|e| err!(Weights, "the index is malformed: {e}"))?;
        let (mut numbers, mut in_order) = (BTreeMap::new(), Vec::new());
        for file in map.values() {
            check_file_name(file)?;
            if let Entry::Vacant(new) = numbers.entry(file.as_str()) {
                new.insert(in_order.len());
                in_order.push(file);
            }
            ensure!(numbers.len() <= MAX_SHARDS, Weights, "the index names more than {MAX_SHARDS} files");
        }
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let mut files = Vec::new();
        for name in in_order {
            files.push(SafeTensorsFile::open(folder.join(name))?);
        }
        let mut places = BTreeMap::new();
        for (tensor, file) in &map {
            let number = *numbers.get(file.as_str()).unwrap_or(&usize::MAX);
            let there = files.get(number).is_some_and(|f| f.info(tensor).is_some());
            ensure!(there, Weights, "tensor {tensor} is not in {file}, where the index says it is");
            places.insert(tensor.clone(), number);
        }
        for (number, file) in files.iter().enumerate() {
            for tensor in file.names() {
                ensure!(
                    places.get(tensor) == Some(&number),
                    Weights,
                    "tensor {tensor} is in a file where the index does not say it is"
                );
            }
        }
        Ok(Self { places, files })
    }

    fn file_of(&self, tensor: &str) -> Option<&SafeTensorsFile> {
        self.places.get(tensor).and_then(|&n| self.files.get(n))
    }
}

/// The files that an index names, sorted, whether they are there or not.
pub(super) fn files_of(index: &Path) -> Result<Vec<String>> {
    let text = read_text(index)?;
    let map = weight_map(&text).map_err(|e| err!(Weights, "{}: the index is malformed: {e}", index.display()))?;
    let mut files: Vec<String> = map.into_values().collect();
    files.sort_unstable();
    files.dedup();
    files.iter().try_for_each(|f| check_file_name(f)).map_err(|e| e.context(index.display()))?;
    Ok(files)
}

/// For each tensor the name of its file.
fn weight_map(text: &str) -> Result<BTreeMap<String, String>> {
    let mut index = json::parse_object(text)?;
    let map = index.remove("weight_map").ok_or_else(|| err!(Weights, "there is no weight_map"))?;
    let json::Value::Object(map) = map else {
        return Err(err!(Weights, "weight_map is {}, expected an object", map.kind()));
    };
    let file_of = |(tensor, file): (String, json::Value)| match file {
        json::Value::String(file) => Ok((tensor, file)),
        other => Err(err!(Weights, "the file of {} is {}, expected a string", json::cut(&tensor), other.kind())),
    };
    map.into_iter().map(file_of).collect()
}

/// Refuses whatever could lead out of the index's own directory.
fn check_file_name(name: &str) -> Result<()> {
    let plain = name.ends_with(".safetensors") && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0']);
    ensure!(plain, Weights, "the index names the file {name:?}, expected a plain name that ends in .safetensors");
    Ok(())
}

impl WeightSource for ShardedFiles {
    fn names(&self) -> Vec<&str> {
        self.places.keys().map(|s| s.as_str()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.file_of(name)?.info(name)
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        self.file_of(name).ok_or_else(|| missing(name))?.read_f32(name, out)
    }
}
