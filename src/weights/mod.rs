//! Trained weights: where they come from and how they are checked.
//!
//! A [`WeightSource`] gives named tensors as `f32`, one at a time, so that a model is never held in memory twice.
//! [`SafeTensorsView`] reads them from bytes without a file system; with `std`, [`SafeTensorsFile`] and
//! [`ShardedFiles`] read them from files on demand and [`diffusers`] finds them in a pipeline directory. [`packed`] is
//! this library's one-file form: safetensors whose metadata carries the configurations.
//!
//! Everything here reads bytes of unknown origin: a size is checked before anything is allocated for it, and an error
//! names the tensor. Models and pipelines call this module; it knows nothing of architectures.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::error::{Result, ensure, err};
use crate::graph::{Graph, Param};
use crate::tensor::{DType, Dims};

#[cfg(feature = "std")]
mod choice;
mod convert;
#[cfg(feature = "std")]
#[doc(hidden)] // `pipeline::Source` opens what lies in a directory, or in one file.
pub mod diffusers;
#[cfg(feature = "std")]
mod file;
mod header;
mod joined;
mod mapped;
mod names;
#[doc(hidden)]
pub mod packed;
#[cfg(feature = "std")]
mod sharded;
mod view;
mod write;

#[cfg(feature = "std")]
pub use file::SafeTensorsFile;
pub(crate) use joined::{Joined, Part};
pub(crate) use mapped::Mapped;
#[doc(hidden)]
pub use names::DiffusersNames;
#[cfg(feature = "std")]
#[doc(hidden)]
pub use sharded::ShardedFiles;
pub use view::SafeTensorsView;
pub use write::{TensorToWrite, write_safetensors};

/// What a weight file says of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its elements are stored.
    pub dtype: DType,
    /// Its dimensions, outermost first, row-major; none for a scalar. Their product has been checked not to overflow.
    pub shape: Vec<usize>,
}

/// Named tensors that can be read as `f32`, one at a time.
pub trait WeightSource {
    /// All names, sorted.
    fn names(&self) -> Vec<&str>;

    /// Type and shape of a tensor, `None` if there is no such name.
    fn info(&self, name: &str) -> Option<TensorInfo>;

    /// Fills `out` with a tensor in row-major order; f16, bf16 and f64 are converted, rounding to nearest.
    ///
    /// Errors (kind `Weights`, or `Io`): no such name; a tensor of whole numbers; `out.len()` is not the tensor's
    /// element count; an element is NaN or infinite as `f32`; the file ends early. `out` is unspecified after an error.
    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()>;
}

impl<S: WeightSource + ?Sized> WeightSource for Box<S> {
    fn names(&self) -> Vec<&str> {
        (**self).names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        (**self).info(name)
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        (**self).read_f32(name, out)
    }
}

/// Reads a tensor that must have these dimensions, or be a scalar where they are `[1]`; the form in which a backend's
/// compilation asks.
pub fn read_param(source: &dyn WeightSource, name: &str, dims: &Dims, out: &mut [f32]) -> Result<()> {
    let info = source.info(name).ok_or_else(|| missing(name))?;
    ensure!(fits(&info.shape, dims), Weights, "tensor {name} is {:?}, expected {dims}", info.shape);
    source.read_f32(name, out)
}

/// Whether a tensor of this shape is a parameter of these dimensions. A scalar is one of `[1]`, since there are no
/// others.
fn fits(shape: &[usize], dims: &Dims) -> bool {
    shape == dims.as_slice() || (shape.is_empty() && dims.as_slice() == [1])
}

/// Checks that a source holds exactly the parameters of a graph: none missing, none more, each of the right shape.
/// The error (kind `Weights`) lists the first few of each sort.
#[doc(hidden)]
pub fn check_params(graph: &Graph, source: &dyn WeightSource) -> Result<()> {
    check_names(graph.params(), source)
}

/// As [`check_params`], of parameters of several graphs.
pub(crate) fn check_names(params: &[Param], source: &dyn WeightSource) -> Result<()> {
    let mut known = BTreeSet::new();
    let (mut missing, mut misshapen) = (Listed::default(), Listed::default());
    for p in params {
        known.insert(p.name.as_str());
        match source.info(&p.name) {
            None => missing.push(&p.name),
            Some(info) if !fits(&info.shape, &p.dims) => {
                misshapen.push(&format!("{} is {:?} and not {}", p.name, info.shape, p.dims));
            }
            Some(_) => {}
        }
    }
    let mut extra = Listed::default();
    source.names().into_iter().filter(|n| !known.contains(n)).for_each(|n| extra.push(n));
    if missing.count + misshapen.count + extra.count == 0 {
        return Ok(());
    }
    let mut text = Vec::new();
    for (what, list) in [("missing", missing), ("of the wrong shape", misshapen), ("not in the model", extra)] {
        if list.count > 0 {
            text.push(format!("{} {what}: {list}", list.count));
        }
    }
    Err(err!(Weights, "the tensors do not fit the model's config: {}", text.join("; ")))
}

fn missing(name: &str) -> crate::Error {
    err!(Weights, "tensor {name} is missing from the weights")
}

/// A count and the first few of what was counted, for a message.
#[derive(Default)]
struct Listed {
    count: usize,
    first: Vec<String>,
}

impl Listed {
    const SHOWN: usize = 4;

    fn push(&mut self, text: &str) {
        self.count += 1;
        if self.first.len() < Self::SHOWN {
            // A name can be as long as its file; a message stays readable.
            self.first.push(text.chars().take(160).collect());
        }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        if self.count > self.first.len() { write!(f, " and {} more", self.count - self.first.len()) } else { Ok(()) }
    }
}
