//! The weights of several networks in one file: a decoder's names stand under a prefix.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{TensorInfo, WeightSource, missing};
use crate::error::Result;

/// What stands before the names of a decoder's tensors in a packed file.
const DECODER: &str = "decoder/";

/// One network's tensors out of a file of two.
pub(crate) struct Part<'a> {
    file: Rc<dyn WeightSource + 'a>,
    prefix: &'static str,
    names: Vec<String>,
}

impl<'a> Part<'a> {
    /// The denoiser's, whose names have no prefix, and the decoder's.
    pub fn both(file: impl WeightSource + 'a) -> [Self; 2] {
        let file: Rc<dyn WeightSource + 'a> = Rc::new(file);
        // Sorted, as they are in the file.
        let (mut own, mut decoder) = (Vec::new(), Vec::new());
        for name in file.names() {
            match name.strip_prefix(DECODER) {
                Some(name) => decoder.push(name.to_string()),
                None => own.push(name.to_string()),
            }
        }
        [Self { file: Rc::clone(&file), prefix: "", names: own }, Self { file, prefix: DECODER, names: decoder }]
    }

    fn stored(&self, name: &str) -> Option<String> {
        let found = self.names.binary_search_by(|n| n.as_str().cmp(name)).is_ok();
        found.then(|| format!("{}{name}", self.prefix))
    }
}

impl WeightSource for Part<'_> {
    fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.file.info(&self.stored(name)?)
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        self.file.read_f32(&self.stored(name).ok_or_else(|| missing(name))?, out)
    }
}

/// A denoiser's weights and a decoder's, as one file has them.
pub(crate) struct Joined<'a> {
    own: &'a dyn WeightSource,
    decoder: &'a dyn WeightSource,
    names: Vec<String>,
}

impl<'a> Joined<'a> {
    /// Of both.
    pub fn new(own: &'a dyn WeightSource, decoder: &'a dyn WeightSource) -> Self {
        let mut names: Vec<String> = own.names().into_iter().map(ToString::to_string).collect();
        names.extend(decoder.names().into_iter().map(|n| format!("{DECODER}{n}")));
        names.sort_unstable();
        Self { own, decoder, names }
    }
}

impl WeightSource for Joined<'_> {
    fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        match name.strip_prefix(DECODER) {
            Some(name) => self.decoder.info(name),
            None => self.own.info(name),
        }
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        match name.strip_prefix(DECODER) {
            Some(name) => self.decoder.read_f32(name, out),
            None => self.own.read_f32(name, out),
        }
    }
}
