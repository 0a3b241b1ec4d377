//! The caller's own operator.

use alloc::boxed::Box;

use super::{LinearOperator, check, without};
use crate::error::{Result, err};
use crate::tensor::Dims;

/// Reads n values and writes m, or the other way round; all of them. May fail with an error of its own.
pub type MapFn<'a> = Box<dyn Fn(&[f32], &mut [f32]) -> Result<()> + 'a>;

/// An operator given by functions for A and A^T, and perhaps A^+. It has no decomposition.
///
/// A function that fails stops the call with its error; one that leaves NaN or infinity in its output, with kind
/// `NonFinite`. Whether A^T is the adjoint of A is the caller's to see to; a test with random u and v,
/// <A u, v> = <u, A^T v>, finds out.
///
/// ```
/// use undiffuse::posterior::operator::{Callback, LinearOperator};
/// use undiffuse::tensor::Dims;
///
/// // The sum of two values.
/// let sum = Callback::new(
///     Dims::new(&[2])?,
///     Dims::new(&[1])?,
///     |x, y| Ok(y[0] = x[0] + x[1]),
///     |y, x| Ok(x.fill(y[0])),
/// );
/// let mut y = [0.0];
/// sum.apply(&[1.0, 2.0], &mut y, &mut [])?;
/// assert_eq!(y, [3.0]);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub struct Callback<'a> {
    input: Dims,
    output: Dims,
    apply: MapFn<'a>,
    adjoint: MapFn<'a>,
    pseudo_inverse: Option<MapFn<'a>>,
}

impl<'a> Callback<'a> {
    /// From A and A^T.
    pub fn new(
        input: Dims,
        output: Dims,
        apply: impl Fn(&[f32], &mut [f32]) -> Result<()> + 'a,
        adjoint: impl Fn(&[f32], &mut [f32]) -> Result<()> + 'a,
    ) -> Self {
        Self { input, output, apply: Box::new(apply), adjoint: Box::new(adjoint), pseudo_inverse: None }
    }

    /// Adds A^+.
    #[must_use]
    pub fn with_pseudo_inverse(mut self, f: impl Fn(&[f32], &mut [f32]) -> Result<()> + 'a) -> Self {
        self.pseudo_inverse = Some(Box::new(f));
        self
    }
}

impl core::fmt::Debug for Callback<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Callback").field("input", &self.input).field("output", &self.output).finish_non_exhaustive()
    }
}

fn call(what: &str, f: &MapFn<'_>, from: &[f32], to: &mut [f32]) -> Result<()> {
    f(from, to).map_err(|e| e.context(format_args!("the callback for {what}")))?;
    match to.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(i) => Err(err!(NonFinite, "the callback for {what} gave a value that is not finite at element {i}")),
    }
}

impl LinearOperator for Callback<'_> {
    fn name(&self) -> &'static str {
        "callback operator"
    }
    fn input_dims(&self) -> Dims {
        self.input
    }
    fn output_dims(&self) -> Dims {
        self.output
    }
    fn apply(&self, x: &[f32], y: &mut [f32], _: &mut [f32]) -> Result<()> {
        check(self, "A", x.len(), y.len(), 0, 0)?;
        call("A", &self.apply, x, y)
    }
    fn adjoint(&self, y: &[f32], x: &mut [f32], _: &mut [f32]) -> Result<()> {
        check(self, "A^T", x.len(), y.len(), 0, 0)?;
        call("A^T", &self.adjoint, y, x)
    }
    fn pseudo_inverse(&self, y: &[f32], x: &mut [f32], _: &mut [f32]) -> Result<()> {
        let f = self.pseudo_inverse.as_ref().ok_or_else(|| without(self, "pseudo-inverse"))?;
        check(self, "A^+", x.len(), y.len(), 0, 0)?;
        call("A^+", f, y, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_callback_that_fails_is_an_error() {
        let d = Dims::new(&[1]).unwrap();
        let op = Callback::new(
            d,
            d,
            |_, _| Err(err!(Callback, "no sensor")),
            |_, x| {
                x[0] = f32::NAN;
                Ok(())
            },
        );
        let e = op.apply(&[1.0], &mut [0.0], &mut []).unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::Callback, "the callback for A: no sensor"));
        assert_eq!(op.adjoint(&[1.0], &mut [0.0], &mut []).unwrap_err().kind(), ErrorKind::NonFinite);
        assert_eq!(op.pseudo_inverse(&[1.0], &mut [0.0], &mut []).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(op.solve(1.0, &[1.0], &mut [0.0], &mut []).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
