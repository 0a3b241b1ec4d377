//! DiffPIR (Zhu et al. 2023): plug-and-play restoration.

use super::common::{check_levels, check_mean, check_pseudo_inverse, check_real, cut, is_blank};
use super::operator::{Coordinates, LinearOperator};
use super::{At, Evidence, Jacobian, Measurement, Recommended};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// Every predicted x_0 takes a proximal step towards y, and eps follows from it (Algorithm 1):
///
/// ```text
/// x_0' = argmin |y - A x|^2 + rho |x - x_0|^2 = x_0 + A^T (A A^T + rho I)^-1 (y - A x_0)
/// rho  = lambda s_y^2 alpha_t^2 / sigma_t^2,   eps' = (x_t - alpha_t x_0') / sigma_t
/// ```
///
/// Without noise, rho = 0, it is x_0 + A^+ (y - A x_0).
///
/// What it samples: with lambda = 1 the mean of x_0 given y as if the model knew x_0 with the variance sigma^2 /
/// alpha^2 in every direction (a flat prior of its own); no posterior, and with zeta below 1 less spread than one. One
/// network call per step, no vector-Jacobian product.
///
/// As published: 100 steps of DDIM with [`DdimNoise::Level`](crate::sampler::DdimNoise::Level) and eta = sqrt(zeta),
/// zeta 1 for inpainting, 0.25 for super-resolution, 0.1 for deblurring; lambda 1. DDPM carries it too. In 20 steps on
/// the digits, and in 24 on photographs, zeta 1 has 0.5 to 2.7 dB more PSNR for all three: the program's default.
#[derive(Clone, Debug)]
pub struct DiffPir<O> {
    measurement: Measurement<O>,
    lambda: f64,
}

impl<O: LinearOperator> DiffPir<O> {
    /// `lambda` above 0 weighs the model against the measurement.
    ///
    /// Errors: kind `InvalidArgument` for another lambda; kind `Unsupported` for an operator without a decomposition,
    /// or without A^+ where y has no noise.
    pub fn new(measurement: Measurement<O>, lambda: f64) -> Result<Self> {
        ensure!(lambda > 0.0 && lambda.is_finite(), InvalidArgument, "lambda is {lambda}, expected above 0");
        if measurement.sigma() == 0.0 {
            check_pseudo_inverse("DiffPIR", &measurement)?;
        } else {
            let op = measurement.operator();
            ensure!(
                op.svd().is_some(),
                Unsupported,
                "{} has no singular value decomposition, which DiffPIR needs for its proximal step",
                op.name()
            );
        }
        Ok(Self { measurement, lambda })
    }
}

/// The elements of x that y has, and their factors, of an operator that picks some: its step needs no memory.
fn coordinates<O: LinearOperator>(operator: &O) -> Option<(Coordinates<'_>, &[f32])> {
    let svd = operator.svd()?;
    svd.coordinates().map(|places| (places, svd.singular_values()))
}

impl<O: LinearOperator> Evidence for DiffPir<O> {
    fn name(&self) -> &str {
        "DiffPIR"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("DiffPIR", sampler)?;
        check_levels("DiffPIR", sampler)?;
        check_mean("DiffPIR", sampler)?;
        self.measurement.check(dims)
    }
    fn recommended(&self) -> Recommended {
        Recommended::diffpir(1.0)
    }
    fn scratch_len(&self, dims: Dims, _: usize) -> usize {
        if coordinates(self.measurement.operator()).is_some() {
            return 0;
        }
        let solve = self.measurement.operator().solve_scratch_len();
        self.measurement.len().saturating_mul(2).saturating_add(dims.elements()).saturating_add(solve)
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
        if is_blank(at) {
            return Ok(());
        }
        let n = at.sample_len.max(1);
        let op = self.measurement.operator();
        let (alpha, sigma) = (at.level.alpha, at.level.sigma);
        let ratio = self.measurement.sigma() * alpha / sigma;
        let rho = self.lambda * ratio * ratio;
        for ((x0, eps), (x, sample)) in
            x0.chunks_exact_mut(n).zip(eps.chunks_exact_mut(n)).zip(x.chunks_exact(n).zip(at.first_sample..=u64::MAX))
        {
            if let Some((places, singular)) = coordinates(op) {
                for (i, (y, s)) in self.measurement.values(sample)?.iter().zip(singular).enumerate() {
                    // A does not see what its factor is 0 of.
                    let seen = places.get(i).filter(|_| *s > 0.0);
                    if let Some(x0) = seen.and_then(|j| x0.get_mut(j)) {
                        let s = f64::from(*s);
                        *x0 += (s / (s * s + rho) * (f64::from(*y) - s * f64::from(*x0))) as f32;
                    }
                }
            } else {
                let (r, scratch) = cut(scratch, self.measurement.len())?;
                let (solved, scratch) = cut(scratch, self.measurement.len())?;
                let (shift, scratch) = cut(scratch, n)?;
                self.measurement.residual(sample, x0, r, scratch)?;
                if rho > 0.0 {
                    op.solve(rho, r, solved, scratch)?;
                    op.adjoint(solved, shift, scratch)?;
                } else {
                    op.pseudo_inverse(r, shift, scratch)?;
                }
                x0.iter_mut().zip(&*shift).for_each(|(x0, s)| *x0 += s);
            }
            for (eps, (x, x0)) in eps.iter_mut().zip(x.iter().zip(&*x0)) {
                *eps = ((f64::from(*x) - alpha * f64::from(*x0)) / sigma) as f32;
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"diffpir").f64(self.lambda).u64(self.measurement.fingerprint()).finish()
    }
}
