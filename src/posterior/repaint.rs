//! RePaint (Lugmayr et al. 2022): inpainting by merging.

use super::common::{check_exact, check_real, cut};
use super::operator::{LinearOperator, Mask};
use super::{At, Evidence, Measurement, Recommended};
use crate::error::Result;
use crate::noise::{Fingerprint, NoiseSource};
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// After every step the known elements are replaced by the known values noised to the level reached (eq. 8):
/// x_s = alpha_s y + sigma_s z there, with noise of its own.
///
/// What it samples: known elements exactly, unknown ones that see the known only through the network, so alone they
/// agree with them badly. The published method goes back and forth: with [`RePaint`](crate::sampler::repaint) of 250
/// timesteps, jumps of 10 and 10 resamplings it makes 2410 network calls (no vector-Jacobian product) and comes near
/// the posterior. There known elements are noised straight to the level after a jump, which has the same distribution
/// as merging first and jumping then. Any sampler of real numbers carries it.
///
/// ```
/// use undiffuse::posterior::{Measurement, KnownPixels, operator::Mask};
/// use undiffuse::tensor::Dims;
///
/// let left = Mask::new(Dims::new(&[1, 1, 2])?, &[true, false])?;
/// let evidence = KnownPixels::new(Measurement::exact(left, &[0.5])?)?;
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct KnownPixels {
    measurement: Measurement<Mask>,
}

impl KnownPixels {
    /// Errors: kind `InvalidArgument` for a measurement with noise.
    pub fn new(measurement: Measurement<Mask>) -> Result<Self> {
        check_exact("RePaint", &measurement, "DDRM, DiffPIR or calibrated evidence")?;
        Ok(Self { measurement })
    }
}

impl Evidence for KnownPixels {
    fn name(&self) -> &str {
        "RePaint"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("RePaint", sampler)?;
        self.measurement.check(dims)
    }
    fn recommended(&self) -> Recommended {
        Recommended::REPAINT
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let own = self.measurement.len().saturating_add(self.measurement.operator().scratch_len());
        dims.elements().saturating_mul(batch).saturating_add(own)
    }
    fn merge(
        &mut self,
        at: &At,
        _: &[f32],
        next: &mut [f32],
        noise: &mut dyn NoiseSource,
        scratch: &mut [f32],
    ) -> Result<()> {
        let n = at.sample_len.max(1);
        let (z, scratch) = cut(scratch, next.len())?;
        let (seen, scratch) = cut(scratch, self.measurement.len())?;
        if at.target.sigma > 0.0 {
            noise.normal(at.first_sample, at.draw(0), n, z)?;
        } else {
            z.fill(0.0);
        }
        let (alpha, sigma) = (at.target.alpha as f32, at.target.sigma as f32);
        let mask = self.measurement.operator();
        for ((next, z), sample) in next.chunks_exact_mut(n).zip(z.chunks_exact(n)).zip(at.first_sample..=u64::MAX) {
            mask.apply(z, seen, scratch)?;
            let values = self.measurement.values(sample)?.iter().zip(&*seen);
            for (&i, (y, z)) in mask.known().iter().zip(values) {
                if let Some(x) = next.get_mut(i) {
                    *x = alpha * y + sigma * z;
                }
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"repaint").u64(self.measurement.fingerprint()).finish()
    }
}
