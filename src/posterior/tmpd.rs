//! TMPD: Tweedie moment projected diffusion (Boys et al. 2023).

use super::common::{check_levels, check_mean, check_real, cut, is_blank, pull_back};
use super::operator::LinearOperator;
use super::{At, Evidence, Jacobian, Measurement, Recommended};
use crate::error::Result;
use crate::noise::Fingerprint;
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// The mean of x_0 given x_t and y, with the covariance rho J of x_0 given x_t from Tweedie's formula, rho = sigma^2 /
/// alpha, and its projection on y kept as the diagonal of row sums (eq. 12 and its section 4.1):
///
/// ```text
/// x_0' = x_0 + J^T A^T D^-1 (y - A x_0),   D = diag(A J^T A^T 1) + (s_y^2 / rho) I,   eps' = (x_t - alpha x_0') / sigma
/// ```
///
/// A row sum below 0, which no covariance of independent values has, counts as 0.
///
/// What it samples: the posterior of a Gaussian prior where A J A^T is diagonal (independent elements seen by a mask);
/// elsewhere the row sum overstates the variance of correlated values, and y weighs too little. For the full matrix see
/// [`Calibrated`](super::Calibrated).
///
/// One network call and two vector-Jacobian products per step; y must have noise. As published: DDPM or DDIM, 1000
/// steps.
#[derive(Clone, Debug)]
pub struct Tmpd<O> {
    measurement: Measurement<O>,
}

impl<O: LinearOperator> Tmpd<O> {
    /// Errors: kind `InvalidArgument` for a measurement without noise.
    pub fn new(measurement: Measurement<O>) -> Result<Self> {
        measurement.check_noise("TMPD")?;
        Ok(Self { measurement })
    }
}

impl<O: LinearOperator> Evidence for Tmpd<O> {
    fn name(&self) -> &str {
        "TMPD"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("TMPD", sampler)?;
        check_levels("TMPD", sampler)?;
        check_mean("TMPD", sampler)?;
        self.measurement.check(dims)
    }
    fn recommended(&self) -> Recommended {
        Recommended::TMPD
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let whole = dims.elements().saturating_mul(batch).saturating_mul(2);
        let own = self.measurement.len().saturating_mul(2);
        whole.saturating_add(own).saturating_add(self.measurement.operator().scratch_len())
    }
    fn needs_vjp(&self) -> bool {
        true
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        jacobian: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        if is_blank(at) {
            return Ok(());
        }
        let n = at.sample_len.max(1);
        let op = self.measurement.operator();
        let (g, scratch) = cut(scratch, x.len())?;
        let (v, scratch) = cut(scratch, x.len())?;
        let (r, scratch) = cut(scratch, self.measurement.len())?;
        let (sums, scratch) = cut(scratch, self.measurement.len())?;
        let (alpha, sigma) = (at.level.alpha, at.level.sigma);
        let noise = self.measurement.sigma() * self.measurement.sigma() * alpha / (sigma * sigma);

        sums.fill(1.0);
        for v in v.chunks_exact_mut(n) {
            op.adjoint(sums, v, scratch)?;
        }
        jacobian.vjp(v, g)?;
        pull_back(&self.measurement, at, x0, v, r, scratch, |i, r, scratch| {
            op.apply(g.chunks_exact(n).nth(i).unwrap_or(&[]), sums, scratch)?;
            for (r, &c) in r.iter_mut().zip(&*sums) {
                *r = (f64::from(*r) / (f64::from(c).max(0.0) + noise)) as f32;
            }
            Ok(())
        })?;
        jacobian.vjp(v, g)?;
        for ((x0, eps), (x, g)) in x0.iter_mut().zip(eps).zip(x.iter().zip(&*g)) {
            *x0 += g;
            *eps = ((f64::from(*x) - alpha * f64::from(*x0)) / sigma) as f32;
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"tmpd").u64(self.measurement.fingerprint()).finish()
    }
}
