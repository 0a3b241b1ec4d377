//! What the methods need that go by the gradient of the misfit alone: a map and its derivative.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::LinearOperator;
use crate::error::Result;
use crate::tensor::Dims;

/// A differentiable map from a sample x of n values to a measurement of m values. Every [`LinearOperator`] is one; what
/// is not linear ([`Clip`](super::Clip), [`Gamma`](super::Gamma), [`Quantize`](super::Quantize),
/// [`FourierMagnitude`](super::FourierMagnitude), [`ForwardCallback`](super::ForwardCallback)) is one alone, and goes
/// with [`Dps`](crate::posterior::Dps), [`Daps`](crate::posterior::Daps), [`RedDiff`](crate::posterior::RedDiff) and
/// [`Sitcom`](crate::posterior::Sitcom).
///
/// Buffers and errors are as in [`LinearOperator`]: kind `Shape` where a buffer has the wrong length or the scratch is
/// too short; no call allocates. (The names differ from that trait's, so that both may be in scope.)
pub trait ForwardOperator {
    /// What it does, for messages.
    fn label(&self) -> &'static str;

    /// The shape of x.
    fn domain(&self) -> Dims;

    /// The shape of y.
    fn codomain(&self) -> Dims;

    /// f32 values of scratch that [`forward`](Self::forward) and [`vjp`](Self::vjp) need.
    fn forward_scratch_len(&self) -> usize {
        0
    }

    /// y = A(x).
    fn forward(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()>;

    /// out = J(x)^T v with J = d A / d x: n values from the m of `v`. Where A has no derivative, what stands for it is
    /// said of each.
    fn vjp(&self, x: &[f32], v: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()>;

    /// The largest singular value of J at any x, or a bound on it, where it is known.
    fn steepest(&self) -> Option<f64> {
        None
    }
}

impl<O: LinearOperator + ?Sized> ForwardOperator for O {
    fn label(&self) -> &'static str {
        self.name()
    }
    fn domain(&self) -> Dims {
        self.input_dims()
    }
    fn codomain(&self) -> Dims {
        self.output_dims()
    }
    fn forward_scratch_len(&self) -> usize {
        self.scratch_len()
    }
    fn forward(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.apply(x, y, scratch)
    }
    fn vjp(&self, _: &[f32], v: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.adjoint(v, out, scratch)
    }
    fn steepest(&self) -> Option<f64> {
        let singular = self.svd()?.singular_values();
        Some(singular.iter().fold(0.0, |m: f64, &s| m.max(f64::from(s))))
    }
}

macro_rules! held {
    ($($of:ty),*) => {$(
        impl ForwardOperator for $of {
            fn label(&self) -> &'static str {
                (**self).label()
            }
            fn domain(&self) -> Dims {
                (**self).domain()
            }
            fn codomain(&self) -> Dims {
                (**self).codomain()
            }
            fn forward_scratch_len(&self) -> usize {
                (**self).forward_scratch_len()
            }
            fn forward(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
                (**self).forward(x, y, scratch)
            }
            fn vjp(&self, x: &[f32], v: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
                (**self).vjp(x, v, out, scratch)
            }
            fn steepest(&self) -> Option<f64> {
                (**self).steepest()
            }
        }
    )*};
}

held!(&(dyn ForwardOperator + '_), Box<dyn ForwardOperator + '_>, Arc<dyn ForwardOperator + Send + Sync>);
