//! Where randomness comes from: streams keyed by (seed, sample, draw), arrays of the caller, or a Python library's
//! generator.
//!
//! Nothing else in the library draws a random number. The samplers are pure; the chain asks a [`NoiseSource`] for what
//! a step needs. Draw 0 of a sample is its x_T, draw k its noise of step k - 1 (the step after which k network calls
//! have been made). A value depends on (seed, sample, draw) and its position alone: not on the batch, the shard, the
//! number of threads, the backend or the platform.
//!
//! ```
//! use undiffuse::noise::{NoiseSource, Seeded};
//!
//! // Samples 5 and 6 in one batch ...
//! let mut both = [0.0; 8];
//! Seeded::new(42).normal(5, 0, 4, &mut both)?;
//! // ... are the same as sample 6 alone.
//! let mut alone = [0.0; 4];
//! Seeded::new(42).normal(6, 0, 4, &mut alone)?;
//! assert_eq!(both[4..], alone);
//! # Ok::<(), undiffuse::Error>(())
//! ```

mod fingerprint;
mod given;
mod normal;
mod python;
mod stream;

pub use fingerprint::Fingerprint;
pub use given::Given;
pub use python::{Between, DrawnFor, DrawnIn, PythonGenerator, PythonNoise, TreeSeed};
pub use stream::Seeded;

// For tests.
#[doc(hidden)]
pub use self::{normal::inverse_normal_cdf, python::BrownianTree, stream::Stream};

use alloc::boxed::Box;

use crate::error::{Result, ensure, err};

/// The draw by which an encoder's distribution of latents is sampled
/// ([`Codec::encode`](crate::codec::Codec::encode)), the sample being the image's number. It is no chain's, whose draws
/// are numbered by its steps, and none of an evidence's, which begin at 2^63: so the noise that is then added to the
/// latents, draw 0, is independent of it. (A program with a generator that has a state draws it before all others.)
pub const ENCODER_DRAW: u64 = 1 << 62;

/// Gives the chain its random values.
///
/// A call asks for one draw of a whole batch, because sources that imitate another program's generator fill a batch in
/// one go. The chain asks for draws in ascending order; after a restore it may skip some.
pub trait NoiseSource {
    /// Fills `out`, `[samples, sample_len]` row by row, with standard normal values: draw `draw` of the samples
    /// `first_sample`, `first_sample + 1`, ...
    ///
    /// Errors leave `out` unspecified: kind `Shape` if `out` is no whole number of samples, kind `InvalidArgument` if
    /// the source has no such sample or draw.
    fn normal(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()>;

    /// As [`NoiseSource::normal`], but uniform in [0, 1); binary chains need it. A source without uniform values
    /// returns kind `Unsupported`.
    fn uniform(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        let _ = (first_sample, draw, sample_len, out);
        Err(err!(Unsupported, "this noise source has no uniform values"))
    }

    /// A number that differs between sources which give different values, so that a saved chain is not continued with
    /// other noise.
    fn fingerprint(&self) -> u64;
}

impl<N: NoiseSource + ?Sized> NoiseSource for &mut N {
    fn normal(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        (**self).normal(first_sample, draw, sample_len, out)
    }
    fn uniform(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        (**self).uniform(first_sample, draw, sample_len, out)
    }
    fn fingerprint(&self) -> u64 {
        (**self).fingerprint()
    }
}

impl<N: NoiseSource + ?Sized> NoiseSource for Box<N> {
    fn normal(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        (**self).normal(first_sample, draw, sample_len, out)
    }
    fn uniform(&mut self, first_sample: u64, draw: u64, sample_len: usize, out: &mut [f32]) -> Result<()> {
        (**self).uniform(first_sample, draw, sample_len, out)
    }
    fn fingerprint(&self) -> u64 {
        (**self).fingerprint()
    }
}

/// That `out` is a whole number of samples.
fn check_batch(what: &str, sample_len: usize, out: &[f32]) -> Result<()> {
    ensure!(
        sample_len > 0 && out.len().is_multiple_of(sample_len),
        Shape,
        "{what}: a buffer of {} values is no whole number of samples of {sample_len} values",
        out.len()
    );
    Ok(())
}
