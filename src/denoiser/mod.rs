//! What predicts: a compiled network, the caller's own callback, or a prior whose denoiser is known exactly.
//!
//! The chain, the evidence and the evaluation know networks only by the trait [`Denoiser`].
//!
//! ```
//! use undiffuse::Cancel;
//! use undiffuse::denoiser::{Call, Denoiser, FnDenoiser};
//! use undiffuse::schedule::Level;
//! use undiffuse::tensor::Dims;
//!
//! // Any other engine can run the network.
//! let mut denoiser = FnDenoiser::new("half", Dims::new(&[1, 2, 2])?, |call, x, out| {
//!     let scale = call.level.sigma as f32;
//!     out.iter_mut().zip(x).for_each(|(o, x)| *o = scale * x);
//!     Ok(())
//! });
//! let (level, cancel) = (Level::variance_preserving(500.0, 0.75), Cancel::new());
//! let mut out = [0.0; 8];
//! denoiser.predict(&Call { level, first_sample: 0, cancel: &cancel }, &[1.0; 8], &mut out)?;
//! assert_eq!(out, [0.5; 8]);
//! # Ok::<(), undiffuse::Error>(())
//! ```

mod bits;
mod callback;
mod classes;
mod classifier;
mod conditions;
mod fixed;
mod guidance;
mod linalg;
mod mixture;
mod network;
mod product;
mod tiled;

pub use bits::BitSequences;
pub use callback::{FnDenoiser, NoVjp};
pub use classes::ClassSequences;
pub use classifier::NetworkClassifier;
pub use conditions::Conditions;
#[doc(hidden)] // In the documentation of `embed`.
pub use fixed::{FixedDenoiser, Given, Port};
pub use guidance::Guidance;
pub use mixture::{Component, Covariance, GaussianMixture};
pub use network::{NetworkDenoiser, Networks};
pub use product::Product;
pub use tiled::Tiled;

pub(crate) use conditions::{check_conditions, inputs_of};
pub(crate) use network::classes_of;

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::cancel::Cancel;
use crate::error::{Result, check_finite, ensure, err, first_non_finite};
use crate::graph::Input;
use crate::schedule::Level;
use crate::tensor::Dims;

/// What a denoiser is told beside x.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// How noisy x is; a network takes `level.timestep`.
    pub level: Level,
    /// The number of the first sample of the batch, for denoisers that treat samples differently (class labels and
    /// other [`Conditions`]).
    pub first_sample: u64,
    /// A set flag asks the call to return [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) soon.
    pub cancel: &'a Cancel,
}

/// Predicts noise, x_0 or v from a noisy sample; which of them, the sampler's configuration says.
///
/// Samples are f32, row by row, `[batch, ...dims]` (for images NCHW). The batch is the length of `x` divided by the
/// elements of a sample. A sample's prediction must not depend on the others in its batch.
pub trait Denoiser {
    /// A name for messages.
    fn name(&self) -> &str;

    /// The dimensions of one sample.
    fn sample_dims(&self) -> Dims;

    /// Values that it gives per sample: as many as a sample has, or twice as many where it learned a variance (the
    /// first half is the prediction).
    fn output_len(&self) -> usize {
        self.sample_dims().elements()
    }

    /// The largest batch of one call.
    fn max_batch(&self) -> usize {
        usize::MAX
    }

    /// Whether what it predicts for a sample may depend on the sample's number, as a class model's does on its list of
    /// classes. The samples of a call are then numbered without gaps; of others, a call may hold any.
    fn looks_at_numbers(&self) -> bool {
        true
    }

    /// Writes the prediction for `x`, `[batch, ...dims]`, to `out`, `[batch, output_len]`.
    ///
    /// Errors: kind `Shape` for wrong lengths, `NonFinite` for NaN or infinity in `x` or in the prediction (all
    /// denoisers of this crate look, so must yours), `Cancelled`, and whatever the implementation meets. After an error
    /// `out` is unspecified and the denoiser is usable.
    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()>;

    /// Whether [`Denoiser::vjp`] is there.
    fn has_vjp(&self) -> bool {
        false
    }

    /// The vector-Jacobian product: writes J^T v to `out`, `[batch, ...dims]`, with J = d predict(x) / d x for each
    /// sample and `v` as long as the prediction.
    ///
    /// Errors: kind `Unsupported` where a denoiser cannot; otherwise as [`Denoiser::predict`].
    fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        let _ = (call, x, v, out);
        Err(err!(Unsupported, "the denoiser \"{}\" has no vector-Jacobian product", self.name()))
    }

    /// What it takes beside x and the level: see [`Conditions`].
    fn inputs(&self) -> Vec<Input> {
        Vec::new()
    }

    /// Gives other rows of values to one of [`Denoiser::inputs`], from the next call on; see [`Conditions`]. Nothing is
    /// allocated where it had as many.
    ///
    /// Errors: kind `InvalidArgument` where it has no input of this name; `Shape` and `NonFinite` for rows that do not
    /// suit. It has then what it had.
    fn set_condition(&mut self, name: &str, rows: &[f32]) -> Result<()> {
        let _ = rows;
        Err(err!(InvalidArgument, "the denoiser \"{}\" takes no condition, but {name:?} is given", self.name()))
    }

    /// As [`Denoiser::set_condition`], for the negative condition of a [guided](Guidance) denoiser.
    ///
    /// Errors: as there; kind `InvalidArgument` where it is not guided, or was made without a negative condition of
    /// this name.
    fn set_negative(&mut self, name: &str, rows: &[f32]) -> Result<()> {
        let _ = rows;
        Err(err!(InvalidArgument, "the denoiser \"{}\" is not guided, but a negative {name:?} is given", self.name()))
    }

    /// A number that differs between denoisers which predict differently, or 0 where it is not known.
    fn fingerprint(&self) -> u64 {
        0
    }
}

macro_rules! forward {
    ($($of:ty),*) => {$(
        impl<D: Denoiser + ?Sized> Denoiser for $of {
            fn name(&self) -> &str {
                (**self).name()
            }
            fn sample_dims(&self) -> Dims {
                (**self).sample_dims()
            }
            fn output_len(&self) -> usize {
                (**self).output_len()
            }
            fn max_batch(&self) -> usize {
                (**self).max_batch()
            }
            fn looks_at_numbers(&self) -> bool {
                (**self).looks_at_numbers()
            }
            fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
                (**self).predict(call, x, out)
            }
            fn has_vjp(&self) -> bool {
                (**self).has_vjp()
            }
            fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
                (**self).vjp(call, x, v, out)
            }
            fn inputs(&self) -> Vec<Input> {
                (**self).inputs()
            }
            fn set_condition(&mut self, name: &str, rows: &[f32]) -> Result<()> {
                (**self).set_condition(name, rows)
            }
            fn set_negative(&mut self, name: &str, rows: &[f32]) -> Result<()> {
                (**self).set_negative(name, rows)
            }
            fn fingerprint(&self) -> u64 {
                (**self).fingerprint()
            }
        }
    )*};
}

forward!(&mut D, Box<D>);

/// That a call was given no NaN or infinity.
#[inline(never)]
fn check_given(name: &str, what: &str, values: &[f32]) -> Result<()> {
    check_finite(what, values).map_err(|e| e.context(format_args!("the denoiser \"{name}\"")))
}

/// That a call gives no NaN or infinity; `each` values are those of one sample.
#[inline(never)]
pub(crate) fn check_gave(name: &str, call: &Call<'_>, each: usize, out: &[f32]) -> Result<()> {
    match first_non_finite(out) {
        None => Ok(()),
        Some(i) => Err(err!(
            NonFinite,
            "the denoiser \"{name}\" gave {} in sample {}",
            out.get(i).copied().unwrap_or(f32::NAN),
            call.first_sample.saturating_add((i / each.max(1)) as u64)
        )),
    }
}

/// The batch of a call whose `x` must be whole samples and whose other buffer must fit it.
fn check_batch(name: &str, sample: usize, x: &[f32], other_sample: usize, other: &[f32]) -> Result<usize> {
    ensure!(
        sample > 0 && x.len().is_multiple_of(sample),
        Shape,
        "the denoiser \"{name}\" got {} values, expected a multiple of {sample}",
        x.len()
    );
    let batch = x.len() / sample;
    ensure!(
        Some(other.len()) == batch.checked_mul(other_sample),
        Shape,
        "the denoiser \"{name}\" got a buffer of {} values for {batch} samples, expected {other_sample} for each",
        other.len()
    );
    Ok(batch)
}
