//! The caller's own operator that is not linear.

use alloc::boxed::Box;

use super::ForwardOperator;
use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

type ForwardFn<'a> = Box<dyn Fn(&[f32], &mut [f32]) -> Result<()> + Send + Sync + 'a>;
type VjpFn<'a> = Box<dyn Fn(&[f32], &[f32], &mut [f32]) -> Result<()> + Send + Sync + 'a>;

/// An operator given by functions for A(x) and J(x)^T v.
///
/// A function that fails stops the call with its error; one that leaves NaN or infinity in its output, with kind
/// `NonFinite`. Whether the second belongs to the first is the caller's to see to; a test with finite differences,
/// <A(x + h u) - A(x - h u), v> = 2 h <u, J(x)^T v>, finds out.
///
/// ```
/// use undiffuse::posterior::operator::{ForwardCallback, ForwardOperator};
/// use undiffuse::tensor::Dims;
///
/// // The product of two values.
/// let product = ForwardCallback::new(
///     Dims::new(&[2])?,
///     Dims::new(&[1])?,
///     |x, y| Ok(y[0] = x[0] * x[1]),
///     |x, v, out| Ok((out[0], out[1]) = (x[1] * v[0], x[0] * v[0])),
/// );
/// let mut out = [0.0; 2];
/// product.vjp(&[2.0, 3.0], &[1.0], &mut out, &mut [])?;
/// assert_eq!(out, [3.0, 2.0]);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub struct ForwardCallback<'a> {
    domain: Dims,
    codomain: Dims,
    forward: ForwardFn<'a>,
    vjp: VjpFn<'a>,
}

impl<'a> ForwardCallback<'a> {
    /// From A, which reads n values and writes m, and from J^T, which reads the n values of x and the m of v and writes
    /// n.
    pub fn new(
        domain: Dims,
        codomain: Dims,
        forward: impl Fn(&[f32], &mut [f32]) -> Result<()> + Send + Sync + 'a,
        vjp: impl Fn(&[f32], &[f32], &mut [f32]) -> Result<()> + Send + Sync + 'a,
    ) -> Self {
        Self { domain, codomain, forward: Box::new(forward), vjp: Box::new(vjp) }
    }

    fn check(&self, call: &str, x: usize, y: usize) -> Result<()> {
        let (n, m) = (self.domain.elements(), self.codomain.elements());
        ensure!(
            x == n && y == m,
            Shape,
            "callback operator: {call} was given {x} and {y} values, expected {n} and {m}"
        );
        Ok(())
    }
}

impl core::fmt::Debug for ForwardCallback<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let shapes = (self.domain, self.codomain);
        f.debug_struct("ForwardCallback").field("shapes", &shapes).finish_non_exhaustive()
    }
}

fn finite(what: &str, values: &[f32]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(i) => Err(err!(NonFinite, "the callback for {what} gave a value that is not finite at element {i}")),
    }
}

impl ForwardOperator for ForwardCallback<'_> {
    fn label(&self) -> &'static str {
        "callback operator"
    }
    fn domain(&self) -> Dims {
        self.domain
    }
    fn codomain(&self) -> Dims {
        self.codomain
    }
    fn forward(&self, x: &[f32], y: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.check("A(x)", x.len(), y.len())?;
        (self.forward)(x, y).map_err(|e| e.context("the callback for A(x)"))?;
        finite("A(x)", y)
    }
    fn vjp(&self, x: &[f32], v: &[f32], out: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.check("J(x)^T v", x.len(), v.len())?;
        self.check("J(x)^T v", out.len(), v.len())?;
        (self.vjp)(x, v, out).map_err(|e| e.context("the callback for J(x)^T v"))?;
        finite("J(x)^T v", out)
    }
}
