//! Evidence given as a function log r(x).

use super::Measurement;
use super::operator::LinearOperator;
use crate::error::{Result, ensure, err};
use crate::schedule::Level;
use crate::tensor::Dims;

/// log r(x) by its gradient.
pub trait LogR {
    /// A name for messages.
    fn name(&self) -> &str;

    /// Whether it is a function of samples of shape `dims`.
    fn check(&self, dims: Dims) -> Result<()> {
        let _ = dims;
        Ok(())
    }

    /// f32 values of scratch that [`gradient`](Self::gradient) needs.
    fn scratch_len(&self) -> usize {
        0
    }

    /// Writes the gradient of log r at `x`, one sample of n values, to `out`. `level` says how noisy x is, for evidence
    /// that knows r at each level; `sample` is its number.
    ///
    /// Errors stop the step; a value that is not finite is an error too.
    fn gradient(&mut self, sample: u64, level: &Level, x: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()>;

    /// The largest eigenvalue of the Hessian of -log r at `level`, where it is known.
    fn curvature(&self, level: &Level) -> Option<f64> {
        let _ = level;
        None
    }

    /// A number for saved chains, or 0 where it is not known.
    fn fingerprint(&self) -> u64 {
        0
    }
}

/// A measurement as a function: the gradient is A^T (y - A x) / s^2, at any level of a process that preserves variance.
/// Of another, with x = scale times that process's x ([`Level::scale`]), it is A^T (y - A x / scale) / (scale s^2).
impl<O: LinearOperator> LogR for Measurement<O> {
    fn name(&self) -> &str {
        self.operator().name()
    }
    fn check(&self, dims: Dims) -> Result<()> {
        self.check_noise("the gradient of a measurement")?;
        Measurement::check(self, dims)
    }
    fn scratch_len(&self) -> usize {
        self.len().saturating_add(self.operator().scratch_len())
    }
    fn gradient(&mut self, sample: u64, level: &Level, x: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let (residual, scratch) = scratch
            .split_at_mut_checked(self.len())
            .ok_or_else(|| err!(Shape, "the scratch of a measurement is too short"))?;
        let by = 1.0 / level.scale();
        out.iter_mut().zip(x).for_each(|(out, x)| *out = (f64::from(*x) * by) as f32);
        self.residual(sample, out, residual, scratch)?;
        let scale = by / (self.sigma() * self.sigma());
        residual.iter_mut().for_each(|r| *r = (f64::from(*r) * scale) as f32);
        self.operator().adjoint(residual, out, scratch)
    }
    fn curvature(&self, level: &Level) -> Option<f64> {
        let largest = self.operator().svd()?.singular_values().iter().fold(0.0, |m, &s| f64::max(m, f64::from(s)));
        let ratio = largest / (self.sigma() * level.scale());
        Some(ratio * ratio)
    }
    fn fingerprint(&self) -> u64 {
        Measurement::fingerprint(self)
    }
}

/// log r by the caller's function, which writes the gradient: `f(sample, level, x, out)`.
pub struct FnLogR<F> {
    f: F,
}

impl<F: FnMut(u64, &Level, &[f32], &mut [f32]) -> Result<()>> FnLogR<F> {
    /// From the function.
    pub fn new(f: F) -> Self {
        Self { f }
    }
}

impl<F: FnMut(u64, &Level, &[f32], &mut [f32]) -> Result<()>> LogR for FnLogR<F> {
    fn name(&self) -> &str {
        "callback"
    }
    fn gradient(&mut self, sample: u64, level: &Level, x: &[f32], out: &mut [f32], _: &mut [f32]) -> Result<()> {
        (self.f)(sample, level, x, out)?;
        ensure!(
            out.iter().all(|v| v.is_finite()),
            NonFinite,
            "the callback's gradient of log r is not finite for sample {sample}"
        );
        Ok(())
    }
}

/// How r depends on the level, where the evidence itself says nothing of it: the paper's two choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RSchedule {
    /// r(x_t) = r(x_0): all of the paper's experiments.
    #[default]
    Constant,
    /// r(x_t) = r(x_0)^((T - t) / T): none at x_T, all of it at x_0.
    Ramp,
}

impl RSchedule {
    /// The power of r at x_s, the result of step `step` of `steps`.
    pub(super) fn power(self, step: usize, steps: usize) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Ramp => (step as f64 + 1.0) / steps.max(1) as f64,
        }
    }
}
