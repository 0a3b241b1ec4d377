//! DDNM: the null-space method (Wang, Yu and Zhang 2022).

use super::common::{check_exact, check_pseudo_inverse, check_reads_x0, check_real, cut};
use super::operator::LinearOperator;
use super::{At, Evidence, Jacobian, Measurement, Recommended};
use crate::error::Result;
use crate::noise::Fingerprint;
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// x_0' = x_0 - A^+ (A x_0 - y): every predicted x_0 is replaced by the nearest that gives y (eq. 13); eps stays.
///
/// What it samples: images that give y exactly, whose part unseen by A the model fills in. It is no posterior: for a
/// Gaussian prior half of whose elements are known, the mean is 4 % and the covariance 25 % off. y must be without
/// noise; for a noisy one take [`Ddrm::ddnm_plus`](super::Ddrm::ddnm_plus).
///
/// One network call per step, no vector-Jacobian product. As published: 100 steps of [`ddim`](crate::sampler::ddim)
/// with [`DdimNoise::Level`](crate::sampler::DdimNoise::Level) and eta 0.85 (the authors' code) or of DDPM (Algorithm
/// 1); with [`RePaint`](crate::sampler::repaint) it is Algorithm 2, "time-travel". Any sampler of real numbers carries
/// it whose steps are made of x_0.
///
/// ```
/// use undiffuse::posterior::{Ddnm, Measurement, operator::BlockAverage};
/// use undiffuse::tensor::Dims;
///
/// let small = BlockAverage::new(Dims::new(&[1, 2, 2])?, 2)?;
/// let evidence = Ddnm::new(Measurement::exact(small, &[0.5])?)?;
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ddnm<O> {
    measurement: Measurement<O>,
}

impl<O: LinearOperator> Ddnm<O> {
    /// Errors: kind `InvalidArgument` for a measurement with noise; kind `Unsupported` for an operator without A^+.
    pub fn new(measurement: Measurement<O>) -> Result<Self> {
        check_exact("DDNM", &measurement, "DDNM+")?;
        check_pseudo_inverse("DDNM", &measurement)?;
        Ok(Self { measurement })
    }
}

impl<O: LinearOperator> Evidence for Ddnm<O> {
    fn name(&self) -> &str {
        "DDNM"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("DDNM", sampler)?;
        check_reads_x0("DDNM", sampler)?;
        self.measurement.check(dims)
    }
    fn recommended(&self) -> Recommended {
        Recommended::DDNM
    }
    fn scratch_len(&self, dims: Dims, _: usize) -> usize {
        let solve = self.measurement.operator().solve_scratch_len();
        self.measurement.len().saturating_add(dims.elements()).saturating_add(solve)
    }
    fn estimate(
        &mut self,
        at: &At,
        _: &[f32],
        x0: &mut [f32],
        _: &mut [f32],
        _: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        let (r, scratch) = cut(scratch, self.measurement.len())?;
        let (shift, scratch) = cut(scratch, at.sample_len)?;
        for (x0, sample) in x0.chunks_exact_mut(at.sample_len.max(1)).zip(at.first_sample..=u64::MAX) {
            self.measurement.residual(sample, x0, r, scratch)?;
            self.measurement.operator().pseudo_inverse(r, shift, scratch)?;
            x0.iter_mut().zip(&*shift).for_each(|(x0, s)| *x0 += s);
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"ddnm").u64(self.measurement.fingerprint()).finish()
    }
}
