//! RED-diff: variational sampling by regularised denoising (Mardani, Song, Kautz and Vahdat 2023).

use super::common::{check_fresh, check_mean, check_real, cut};
use super::operator::ForwardOperator;
use super::{At, Evidence, Jacobian, Measurement, Recommended};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// The decay of Adam's moments, and what keeps it from dividing by 0: the authors'.
const MOMENTS: (f64, f64) = (0.9, 0.99);
const LEAST: f64 = 1e-8;

/// One point mu for each sample, moved at every level by a step of Adam (betas 0.9 and 0.99) along
///
/// ```text
/// g = J(mu)^T (A(mu) - y) / m + lambda (sigma_t / alpha_t) (eps(x_t) - z) / n,   x_t = alpha_t mu + sigma_t z
/// ```
///
/// with fresh noise z, m measured values and n of a sample (algorithm 1 and eq. 9, with the weight of the noise that
/// the authors' code calls linear, and its means over values). With eps as x_0, clipped as the sampler has it, says it,
/// the second term is lambda (mu - x_0) / n, which is how it is computed: it has no small differences and a limit where
/// x_t has no trace of mu. mu begins at 0, the middle of the range, where they begin at A^+ y, which an operator that
/// is not linear has not.
///
/// What it samples: nothing. It minimises the divergence from the posterior of a point, so that what it ends in is near
/// one of the posterior's modes and its variance is 0; samples differ by where the noise led the optimiser. The noise
/// of y is not used: lambda stands for it.
///
/// A need not be linear ([`ForwardOperator`]). No derivative of the network is needed. Samplers as
/// [`Daps`](super::Daps): those that draw each level anew from x_0. As published: 1000 steps, a rate of 0.1 (0.5 for
/// phase retrieval), lambda 0.25. It keeps 3 n + 1 values of each sample from step to step, in the chain. Scratch: n +
/// m values and what A needs.
#[derive(Clone, Debug)]
pub struct RedDiff<O> {
    measurement: Measurement<O>,
    rate: f64,
    lambda: f64,
}

impl<O: ForwardOperator> RedDiff<O> {
    /// With Adam's learning `rate` and the weight `lambda` of the model. Errors: kind `InvalidArgument` where one is
    /// not above 0.
    pub fn new(measurement: Measurement<O>, rate: f64, lambda: f64) -> Result<Self> {
        let positive = |v: f64| v > 0.0 && v.is_finite();
        ensure!(
            positive(rate) && positive(lambda),
            InvalidArgument,
            "RED-diff with a rate of {rate} and a lambda of {lambda}, expected both above 0"
        );
        Ok(Self { measurement, rate, lambda })
    }
}

impl<O: ForwardOperator> Evidence for RedDiff<O> {
    fn name(&self) -> &str {
        "RED-diff"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("RED-diff", sampler)?;
        check_mean("RED-diff", sampler)?;
        check_fresh("RED-diff", sampler)?;
        self.measurement.check(dims)
    }
    fn recommended(&self) -> Recommended {
        Recommended::RED_DIFF
    }
    fn kept_len(&self, dims: Dims) -> usize {
        dims.elements().saturating_mul(3).saturating_add(1)
    }
    fn scratch_len(&self, dims: Dims, _: usize) -> usize {
        let own = self.measurement.len().saturating_add(dims.elements());
        own.saturating_add(self.measurement.operator().forward_scratch_len())
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        _: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        let (n, m) = (at.sample_len.max(1), self.measurement.len());
        let each = 3 * n + 1;
        let (kept, scratch) = cut(scratch, x.len() / n * each)?;
        let (residual, scratch) = cut(scratch, m)?;
        let (gradient, scratch) = cut(scratch, n)?;
        let (alpha, sigma) = (at.level.alpha, at.level.sigma);
        let of_model = self.lambda / n as f64;
        let rows = x.chunks_exact(n).zip(x0.chunks_exact_mut(n)).zip(eps.chunks_exact_mut(n));
        for ((((x, x0), eps), kept), sample) in rows.zip(kept.chunks_exact_mut(each)).zip(at.first_sample..=u64::MAX) {
            let (count, kept) = cut(kept, 1)?;
            let (mu, moments) = cut(kept, n)?;
            let (first, second) = cut(moments, n)?;
            let done = count.first().copied().map_or(0.0, f64::from) + 1.0;
            count.fill(done as f32);
            self.measurement.residual(sample, mu, residual, scratch)?;
            self.measurement.operator().vjp(mu, residual, gradient, scratch)?;
            let (a, b) = MOMENTS;
            let (of_first, of_second) = (1.0 / (1.0 - libm::pow(a, done)), 1.0 / (1.0 - libm::pow(b, done)));
            let values = mu.iter_mut().zip(first.iter_mut().zip(second.iter_mut()));
            for (((mu, (first, second)), &g), x0) in values.zip(&*gradient).zip(x0.iter_mut()) {
                let point = f64::from(*mu);
                let g = of_model * (point - f64::from(*x0)) - f64::from(g) / m as f64;
                let f = a * f64::from(*first) + (1.0 - a) * g;
                let s = b * f64::from(*second) + (1.0 - b) * g * g;
                *mu = (point - self.rate * f * of_first / (libm::sqrt(s * of_second) + LEAST)) as f32;
                (*first, *second) = (f as f32, s as f32);
                *x0 = *mu;
            }
            // Of the steps that go with it none is made of eps.
            if sigma > 0.0 {
                for ((eps, &mu), &x) in eps.iter_mut().zip(&*mu).zip(x) {
                    *eps = ((f64::from(x) - alpha * f64::from(mu)) / sigma) as f32;
                }
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().bytes(b"red-diff").f64(self.rate).f64(self.lambda);
        f.u64(self.measurement.fingerprint()).finish()
    }
}
