//! What a network is trained on: readers of files, generators, and batches by (seed, step).
//!
//! | from | by |
//! |---|---|
//! | `.npy` | [`read_npy`] |
//! | idx, as MNIST and its kin, also gzip | [`read_idx`] |
//! | a folder of PNG images | [`read_png_folder`] |
//! | a text of spike times | [`SpikeTimes`] |
//! | a law | [`SwissRoll`], [`heartbeats`], [`DeadLeaves`], [`Ising`] |
//!
//! All give a [`Dataset`]; a [`Loader`] makes batches of it, the same ones for the same seed and step whatever ran
//! before, so that a resumed run sees what an uninterrupted one would have seen. Random values come from
//! [`noise`](crate::noise) streams keyed by (seed, sample, draw), with draws of [`draw`], which no chain of a sampler
//! reaches.
//!
//! Readers take bytes of unknown origin: sizes are checked before anything is allocated, and an error names what is
//! wrong.

mod dead_leaves;
mod idx;
mod ising;
mod loader;
mod png_folder;
mod simple;
mod spikes;
mod swiss_roll;

pub use dead_leaves::{DeadLeaves, LeafShape};
pub use idx::{parse_idx, read_idx};
pub use ising::Ising;
pub use loader::{Augment, Flips, Loader};
pub use png_folder::{Colors, parse_png, read_png_folder};
pub use simple::heartbeats;
pub use spikes::{Collision, SpikeTimes};
pub use swiss_roll::SwissRoll;

use alloc::vec::Vec;
use std::path::Path;

use crate::error::{Result, ensure, err};
use crate::files;
use crate::memory;
use crate::npy::{self, Element, NpyArray};
use crate::tensor::Dims;

#[doc(hidden)]
pub use crate::files::MAX_BYTES;
#[doc(hidden)] // In the documentation of `values`.
pub use crate::values::{GREY_LEVEL, Scale, Values};

/// The draws of the noise streams that data use. The draws of a chain count up from 0 and stay far below.
#[doc(hidden)]
pub mod draw {
    /// A generator's: the stream of sample i is (seed, i, this).
    pub const GENERATE: u64 = 1 << 40;
    /// The order of an epoch: (seed, epoch, this).
    pub const ORDER: u64 = 2 << 40;
    /// Crops and flips: (seed, step * batch + place in the batch, this).
    pub const AUGMENT: u64 = 3 << 40;
    /// Dequantisation noise, keyed likewise.
    pub const DEQUANTISE: u64 = 4 << 40;
    /// The noise of x_t, keyed likewise.
    pub const FORWARD: u64 = 5 << 40;
    /// The steps t of a batch: (seed, step, this).
    pub const TIMES: u64 = 6 << 40;
}

/// Samples of one shape, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    dims: Dims,
    values: Vec<f32>,
    element: Option<Element>,
}

impl Dataset {
    /// Samples of dimensions `dims`, images as `[C, H, W]`, one after another in `values`.
    ///
    /// Errors: kind `Shape` for no sample, or values that are no whole number of samples; kind `NonFinite` if one is
    /// not finite.
    ///
    /// ```
    /// use undiffuse::{tensor::Dims, training::data::Dataset};
    ///
    /// let data = Dataset::new(Dims::new(&[2])?, vec![1.0, 2.0, 3.0, 4.0])?;
    /// assert_eq!((data.count(), data.sample(1)), (2, &[3.0, 4.0][..]));
    /// # Ok::<(), undiffuse::Error>(())
    /// ```
    pub fn new(dims: Dims, values: Vec<f32>) -> Result<Self> {
        ensure!(
            !values.is_empty() && values.len().is_multiple_of(dims.elements()),
            Shape,
            "{} values are no whole number of samples of {dims}",
            values.len()
        );
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(err!(NonFinite, "sample {} of the data holds NaN or infinity", i / dims.elements()));
        }
        Ok(Self { dims, values, element: None })
    }

    /// The type of the numbers in the file that the values were read from, which says what they mean
    /// ([`Values::of`]); `None` for values that were made here.
    pub fn element(&self) -> Option<Element> {
        self.element
    }

    /// The same values, from numbers of this type.
    fn of_element(self, element: Element) -> Self {
        Self { element: Some(element), ..self }
    }

    /// The dimensions of a sample.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// How many samples.
    pub fn count(&self) -> usize {
        self.values.len() / self.dims.elements()
    }

    /// All values, sample by sample.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Sample `index`; empty if there is none.
    pub fn sample(&self, index: usize) -> &[f32] {
        let n = self.dims.elements();
        index.checked_mul(n).and_then(|at| self.values.get(at..at.checked_add(n)?)).unwrap_or(&[])
    }

    /// The first `count` samples and the others, for training and for what is held out.
    ///
    /// Errors: kind `InvalidArgument` unless both have at least one sample.
    pub fn split(mut self, count: usize) -> Result<(Self, Self)> {
        ensure!(
            count > 0 && count < self.count(),
            InvalidArgument,
            "{count} of {} samples cannot be split off, expected at least one on each side",
            self.count()
        );
        let rest = self.values.split_off(count * self.dims.elements());
        let rest = Self { values: rest, ..self };
        Ok((self, rest))
    }

    /// The same values seen as samples of other dimensions, for instance `[1, 28, 28]` where the file says `[28, 28]`.
    ///
    /// Errors: kind `Shape` if the number of elements differs.
    pub fn with_dims(self, dims: Dims) -> Result<Self> {
        ensure!(dims.elements() == self.dims.elements(), Shape, "samples of {} cannot be seen as {dims}", self.dims);
        Ok(Self { dims, ..self })
    }

    /// All values brought to another scale.
    pub fn rescaled(mut self, scale: Scale) -> Self {
        scale.apply(&mut self.values);
        self
    }

    /// The scale that gives all values together mean 0 and variance 1: x scl + shft.
    ///
    /// Errors: kind `InvalidArgument` if all values are equal.
    pub fn unit_variance(&self) -> Result<Scale> {
        let n = self.values.len() as f64;
        let mean = self.values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = |v: f64| v * v;
        let variance = self.values.iter().map(|&v| square(f64::from(v) - mean)).sum::<f64>() / n;
        ensure!(
            (f64::MIN_POSITIVE..).contains(&variance),
            InvalidArgument,
            "all values of the data are {mean}: they have no variance to scale"
        );
        let scl = 1.0 / libm::sqrt(variance);
        Ok(Scale { scl, shft: -mean * scl })
    }
}

/// Reads a `.npy` array whose first dimension counts the samples; where it is the only one, samples are single values.
///
/// Errors as [`parse_npy`], and kind `Io`; the message names the file.
pub fn read_npy(path: &Path) -> Result<Dataset> {
    npy_samples(npy::read(path)?).map_err(|e| e.context(path.display()))
}

/// The same from the bytes of a file. Errors: those of [`npy::parse`], [`NpyArray::into_samples`] and [`Dataset::new`].
pub fn parse_npy(bytes: &[u8]) -> Result<Dataset> {
    npy_samples(npy::parse(bytes)?)
}

fn npy_samples(array: NpyArray) -> Result<Dataset> {
    let element = array.element;
    let (dims, values) = array.into_samples()?;
    Ok(Dataset::new(dims, values)?.of_element(element))
}

/// The bytes of a file of at most [`MAX_BYTES`].
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    files::read_bounded(path, MAX_BYTES)
}

/// An empty vector with room for `samples` of `dims`, or kind `InvalidArgument` or `OutOfMemory`.
fn room(what: &str, samples: usize, dims: &Dims) -> Result<Vec<f32>> {
    let len = samples
        .checked_mul(dims.elements())
        .filter(|&n| n as u64 <= MAX_BYTES / 4)
        .ok_or_else(|| err!(InvalidArgument, "{what}: {samples} samples of {dims} are more than {MAX_BYTES} bytes"))?;
    memory::room(what, len)
}
