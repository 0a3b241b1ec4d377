//! Operators: what a measurement did to an image.
//!
//! A [`LinearOperator`] maps one sample, f32 `[C, H, W]` row by row, to one measurement. It gives A, its adjoint A^T,
//! where it exists the pseudo-inverse A^+, and where it is known the singular value decomposition ([`Svd`]), on which
//! exact posteriors, DDRM and closed-form proximal steps rest. Operators know nothing of noise or of diffusion. What is
//! not linear, and every linear one too, is a [`ForwardOperator`]: a map and its derivative.
//!
//! No call allocates: scratch is passed in. Buffers never overlap.
//!
//! Accuracy: factors are computed in f64 and rounded once to f32; a call computes in f32. U S V^T x and A x differ by
//! at most 3e-6 of the largest magnitude in the result (measured up to images of 512 x 512, blur by 25 x 25 taps);
//! applying A^+ or [`LinearOperator::solve`] multiplies that by the condition of what is inverted.
//!
//! ```
//! use undiffuse::posterior::operator::{BlockAverage, LinearOperator};
//! use undiffuse::tensor::Dims;
//!
//! let shrink = BlockAverage::new(Dims::new(&[1, 4, 4])?, 2)?;
//! let mut scratch = vec![0.0; shrink.solve_scratch_len()];
//! let image: Vec<f32> = (0..16).map(|i| i as f32).collect();
//! let (mut small, mut back) = ([0.0; 4], [0.0; 16]);
//! shrink.apply(&image, &mut small, &mut scratch)?;
//! assert_eq!(small, [2.5, 4.5, 10.5, 12.5]);
//! shrink.pseudo_inverse(&small, &mut back, &mut scratch)?;
//! assert!((back[0] - 2.5).abs() < 1e-5 && (back[5] - 2.5).abs() < 1e-5);
//! # Ok::<(), undiffuse::Error>(())
//! ```

mod axis;
mod bicubic;
mod blur;
mod callback;
mod channels;
mod circular;
mod cosine;
mod dense;
mod fft;
mod forward;
mod forward_callback;
mod fourier;
mod hadamard;
mod identity;
mod jacobi;
mod kernel;
mod kron;
mod mask;
mod pointwise;

pub use bicubic::{Bicubic, BlockAverage};
pub use blur::SeparableBlur;
pub use callback::Callback;
pub use channels::{Channels, Grey};
pub use circular::CircularBlur;
pub use dense::Dense;
pub use forward::ForwardOperator;
pub use forward_callback::ForwardCallback;
pub use fourier::FourierMagnitude;
pub use hadamard::Hadamard;
pub use identity::Identity;
pub use kernel::{Padding, gaussian_kernel};
pub use mask::Mask;
pub use pointwise::{Clip, Gamma, Quantize};

use crate::error::{Result, ensure, err};
use crate::tensor::Dims;
use alloc::boxed::Box;
use alloc::sync::Arc;

/// Singular values under this fraction of the largest count as zero: below it f32 holds no information.
pub const RANK_TOLERANCE: f64 = 1e-6;

/// A linear map from a sample x of n values to a measurement y of m values.
///
/// Every method returns kind `Shape` where a buffer has the wrong length or the scratch is too short, and leaves the
/// output unspecified on any error. `scratch` may be longer than needed; its content is unspecified before and after.
pub trait LinearOperator {
    /// What it does, for messages.
    fn name(&self) -> &'static str;

    /// The shape of x.
    fn input_dims(&self) -> Dims;

    /// The shape of y.
    fn output_dims(&self) -> Dims;

    /// f32 values of scratch that [`apply`](Self::apply), [`adjoint`](Self::adjoint) and the methods of [`Svd`] need.
    fn scratch_len(&self) -> usize {
        0
    }

    /// y = A x.
    fn apply(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()>;

    /// x = A^T y.
    fn adjoint(&self, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()>;

    /// The singular value decomposition, if it is known.
    fn svd(&self) -> Option<&dyn Svd> {
        None
    }

    /// f32 values of scratch that [`pseudo_inverse`](Self::pseudo_inverse) and [`solve`](Self::solve) need, and so
    /// enough for every other call.
    fn solve_scratch_len(&self) -> usize {
        let rank = self.svd().map_or(0, |s| s.singular_values().len());
        self.scratch_len().saturating_add(rank).saturating_add(self.output_dims().elements())
    }

    /// x = A^+ y, the minimum-norm least-squares solution. Kind `Unsupported` where the operator has none.
    ///
    /// Singular values of at most [`RANK_TOLERANCE`], 1e-6, of the largest count as 0: what A weakens further than that
    /// is not restored but left out, as f32 could not tell it from rounding. Above it, errors of y grow by up to 1e6.
    fn pseudo_inverse(&self, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let svd = self.svd().ok_or_else(|| without(self, "pseudo-inverse"))?;
        check(self, "A^+", x.len(), y.len(), scratch.len(), self.solve_scratch_len())?;
        let s = svd.singular_values();
        let (w, scratch) = split(scratch, s.len())?;
        svd.ut(y, w, scratch)?;
        w.iter_mut().zip(s).for_each(|(w, &s)| *w = if s > 0.0 { *w / s } else { 0.0 });
        svd.v(w, x, scratch)
    }

    /// out = (A A^T + c I)^-1 r, m values both; c above 0. The closed form that PiGDM, calibrated evidence and proximal
    /// steps need. Kind `Unsupported` without a decomposition, kind `InvalidArgument` for another c.
    ///
    /// Outside the range of A the result is r / c; there the error is that of f32 over c.
    fn solve(&self, c: f64, r: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        ensure!(
            c > 0.0 && c.is_finite(),
            InvalidArgument,
            "{}: the variance to add is {c}, expected above 0",
            self.name()
        );
        let svd = self.svd().ok_or_else(|| without(self, "singular value decomposition"))?;
        let m = self.output_dims().elements();
        let n = self.input_dims().elements();
        check(self, "the solve", n, r.len(), scratch.len(), self.solve_scratch_len())?;
        check(self, "the solve", n, out.len(), scratch.len(), self.solve_scratch_len())?;
        let s = svd.singular_values();
        let (w, scratch) = split(scratch, s.len())?;
        let (outside, scratch) = split(scratch, m)?;
        svd.ut(r, w, scratch)?;
        // Where the decomposition spans all of y there is no outside, only rounding, which 1 / c would amplify.
        if s.len() < m {
            svd.u(w, outside, scratch)?;
            outside.iter_mut().zip(r).for_each(|(o, &r)| *o = ((f64::from(r) - f64::from(*o)) / c) as f32);
        } else {
            outside.fill(0.0);
        }
        w.iter_mut().zip(s).for_each(|(w, &s)| {
            let s = f64::from(s);
            *w = (f64::from(*w) / (s * s + c)) as f32;
        });
        svd.u(w, out, scratch)?;
        out.iter_mut().zip(outside).for_each(|(o, &mut e)| *o += e);
        Ok(())
    }
}

/// A = U diag(s) V^T with k singular values: V is n x k and U is m x k, both with orthonormal columns, column i of both
/// belonging to s_i. k is at most min(m, n) and at least the rank; the s_i are not negative and in no order.
///
/// Directions of x outside the columns of V are not seen by A, and neither are those with s_i = 0; a method treats both
/// alike. To act on the part of x outside V without a basis of it, take x - V V^T x.
///
/// Buffers and scratch are as in [`LinearOperator`].
pub trait Svd {
    /// s, k values. Those under [`RANK_TOLERANCE`] of the largest are 0.
    fn singular_values(&self) -> &[f32];

    /// z = V^T x, k values from n.
    fn vt(&self, x: &[f32], z: &mut [f32], scratch: &mut [f32]) -> Result<()>;

    /// x = V z, n values from k.
    fn v(&self, z: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()>;

    /// w = U^T y, k values from m.
    fn ut(&self, y: &[f32], w: &mut [f32], scratch: &mut [f32]) -> Result<()>;

    /// y = U w, m values from k.
    fn u(&self, w: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()>;

    /// Where every column of V is a unit vector and U the identity, y_i being s_i times an element of x, so that
    /// evidence acts element by element: which ones.
    fn coordinates(&self) -> Option<Coordinates<'_>> {
        None
    }
}

/// The elements of x that the columns of V pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates<'a> {
    /// Column i is unit vector i, for all n.
    All,
    /// Column i is unit vector `.0[i]`.
    Some(&'a [usize]),
}

impl Coordinates<'_> {
    /// The element that column `i` picks.
    pub fn get(&self, i: usize) -> Option<usize> {
        match self {
            Self::All => Some(i),
            Self::Some(list) => list.get(i).copied(),
        }
    }
}

macro_rules! forward {
    ($($of:ty),*) => {$(
        impl<O: LinearOperator + ?Sized> LinearOperator for $of {
            fn name(&self) -> &'static str {
                (**self).name()
            }
            fn input_dims(&self) -> Dims {
                (**self).input_dims()
            }
            fn output_dims(&self) -> Dims {
                (**self).output_dims()
            }
            fn scratch_len(&self) -> usize {
                (**self).scratch_len()
            }
            fn apply(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
                (**self).apply(x, y, scratch)
            }
            fn adjoint(&self, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
                (**self).adjoint(y, x, scratch)
            }
            fn svd(&self) -> Option<&dyn Svd> {
                (**self).svd()
            }
            fn solve_scratch_len(&self) -> usize {
                (**self).solve_scratch_len()
            }
            fn pseudo_inverse(&self, y: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
                (**self).pseudo_inverse(y, x, scratch)
            }
            fn solve(&self, c: f64, r: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
                (**self).solve(c, r, out, scratch)
            }
        }
    )*};
}

forward!(&O, Box<O>, Arc<O>);

fn without<O: LinearOperator + ?Sized>(op: &O, what: &str) -> crate::Error {
    err!(Unsupported, "{} has no {what}", op.name())
}

/// The lengths of a call that maps between x (n values) and y (m values).
fn check<O: LinearOperator + ?Sized>(
    op: &O,
    call: &str,
    x: usize,
    y: usize,
    scratch: usize,
    needed: usize,
) -> Result<()> {
    check_len(op.name(), call, "a sample", x, op.input_dims().elements())?;
    check_len(op.name(), call, "a measurement", y, op.output_dims().elements())?;
    ensure!(
        scratch >= needed,
        Shape,
        "{}: {call} was given {scratch} values of scratch, expected at least {needed}",
        op.name()
    );
    Ok(())
}

fn check_len(name: &str, call: &str, what: &str, got: usize, expected: usize) -> Result<()> {
    ensure!(got == expected, Shape, "{name}: {call} was given {what} of {got} values, expected {expected}");
    Ok(())
}

/// The first `len` values and the rest.
fn split(scratch: &mut [f32], len: usize) -> Result<(&mut [f32], &mut [f32])> {
    let got = scratch.len();
    scratch
        .split_at_mut_checked(len)
        .ok_or_else(|| err!(Shape, "scratch has {got} values left, expected at least {len}"))
}

/// (channels, height, width) of an image; kind `Shape` for another rank.
fn image(name: &str, dims: Dims) -> Result<[usize; 3]> {
    <[usize; 3]>::try_from(dims.as_slice())
        .map_err(|_| err!(Shape, "{name} needs images [C, H, W], got samples of shape {dims}"))
}

#[cfg(test)]
mod tests;
