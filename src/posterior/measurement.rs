//! A noisy measurement: the evidence that most methods take.

use alloc::vec::Vec;

use super::operator::{ForwardOperator, LinearOperator};
use crate::error::{Result, ensure, err};
use crate::memory::{room, zeros};
use crate::noise::{Fingerprint, NoiseSource};
use crate::schedule::Level;
use crate::tensor::Dims;

/// y = A x_0 + s n with n standard normal, in the units of the model's samples: r(x_0) = N(y; A x_0, s^2 I). A need not
/// be linear ([`ForwardOperator`]); the methods that need it to be ask for a [`LinearOperator`] by their types.
///
/// One measurement for all samples of a chain, or one for each.
///
/// ```
/// use undiffuse::posterior::{Measurement, operator::Mask};
/// use undiffuse::tensor::Dims;
///
/// let left_half = Mask::new(Dims::new(&[1, 1, 4])?, &[true, true, false, false])?;
/// let seen = Measurement::new(left_half, &[0.3, -0.1], 0.05)?;
/// assert_eq!(seen.sigma(), 0.05);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Measurement<O> {
    operator: O,
    values: Vec<f32>,
    /// The sample that the first row belongs to; `None` where the only row belongs to all.
    first_sample: Option<u64>,
    sigma: f64,
}

impl<O: ForwardOperator> Measurement<O> {
    /// One measurement of m values for all samples; `sigma`, the standard deviation s of its noise, above 0.
    ///
    /// Errors: kind `InvalidArgument` for another sigma; kind `Shape` for another number of values; kind `NonFinite`.
    pub fn new(operator: O, y: &[f32], sigma: f64) -> Result<Self> {
        ensure!(
            sigma > 0.0 && sigma.is_finite(),
            InvalidArgument,
            "sigma, the standard deviation of the measurement's noise, is {sigma}, expected above 0 (a measurement \
             without noise is made as an exact one)"
        );
        Self::build(operator, y, None, sigma)
    }

    /// A measurement without noise. Methods that divide by the noise refuse it.
    ///
    /// Errors: as [`Measurement::new`].
    pub fn exact(operator: O, y: &[f32]) -> Result<Self> {
        Self::build(operator, y, None, 0.0)
    }

    /// A measurement for each sample: row i of `y`, `[rows, m]`, belongs to sample `first_sample + i`. A sigma of 0
    /// stands for no noise.
    ///
    /// Errors: as [`Measurement::new`].
    pub fn each(operator: O, y: &[f32], first_sample: u64, sigma: f64) -> Result<Self> {
        ensure!(
            sigma >= 0.0 && sigma.is_finite(),
            InvalidArgument,
            "sigma, the standard deviation of the measurements' noise, is {sigma}, expected 0 or above"
        );
        Self::build(operator, y, Some(first_sample), sigma)
    }

    fn build(operator: O, y: &[f32], first_sample: Option<u64>, sigma: f64) -> Result<Self> {
        let m = operator.codomain().elements();
        let fits = if first_sample.is_some() { !y.is_empty() && y.len().is_multiple_of(m) } else { y.len() == m };
        ensure!(
            fits,
            Shape,
            "the measurement has {} values, {} gives {m}, shape {}",
            y.len(),
            operator.label(),
            operator.codomain()
        );
        if let Some(i) = y.iter().position(|v| !v.is_finite()) {
            return Err(err!(NonFinite, "value {i} of the measurement is not finite"));
        }
        let mut values = room("a measurement", y.len())?;
        values.extend_from_slice(y);
        Ok(Self { operator, values, first_sample, sigma })
    }

    /// A.
    pub fn operator(&self) -> &O {
        &self.operator
    }

    /// s; 0 for a measurement without noise.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// m, the values of one measurement.
    pub fn len(&self) -> usize {
        self.operator.codomain().elements()
    }

    /// Whether a measurement has no values; it always has.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The row that belongs to a sample. Errors: kind `InvalidArgument` where there is none.
    pub fn row(&self, sample: u64) -> Result<usize> {
        let Some(first) = self.first_sample else { return Ok(0) };
        let rows = self.values.len() / self.len().max(1);
        sample.checked_sub(first).and_then(|i| usize::try_from(i).ok()).filter(|&i| i < rows).ok_or_else(|| {
            err!(InvalidArgument, "there is no measurement for sample {sample}, only {rows} from {first} on")
        })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.values.len() / self.len().max(1)
    }

    /// The values measured of a sample. Errors: as [`Measurement::row`].
    pub fn values(&self, sample: u64) -> Result<&[f32]> {
        Ok(self.row_values(self.row(sample)?))
    }

    /// The values of a row; none where there is no such row.
    pub(super) fn row_values(&self, row: usize) -> &[f32] {
        self.values.chunks_exact(self.len().max(1)).nth(row).unwrap_or(&[])
    }

    /// That the measured samples are those of the model. Errors: kind `Shape`, naming both.
    pub fn check(&self, dims: Dims) -> Result<()> {
        ensure!(
            self.operator.domain().elements() == dims.elements(),
            Shape,
            "{} measures samples of shape {}, the model's have {dims}",
            self.operator.label(),
            self.operator.domain()
        );
        Ok(())
    }

    /// That there is noise to divide by.
    pub(super) fn check_noise(&self, method: &str) -> Result<()> {
        ensure!(self.sigma != 0.0, InvalidArgument, "{method} needs a measurement with noise, sigma above 0");
        Ok(())
    }

    /// out = y - A x, m values. Scratch as the operator's.
    pub fn residual(&self, sample: u64, x: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.operator.forward(x, out, scratch)?;
        out.iter_mut().zip(self.values(sample)?).for_each(|(o, y)| *o = y - *o);
        Ok(())
    }

    /// What A makes of a fixed x, whose values are all different: two masks of one size differ in it.
    fn probe(&self) -> Result<Vec<f32>> {
        let mut x: Vec<f32> = zeros("evidence", self.operator.domain().elements())?;
        let scratch = zeros("evidence", self.operator.forward_scratch_len())?;
        let (mut y, mut scratch) = (zeros("evidence", self.len())?, scratch);
        for (i, x) in x.iter_mut().enumerate() {
            // The fractions of multiples of the golden ratio never repeat.
            let turn = i as f64 * 0.618_033_988_749_894_9;
            *x = (0.5 + turn - libm::floor(turn)) as f32;
        }
        self.operator.forward(&x, &mut y, &mut scratch)?;
        Ok(y)
    }

    /// A number for saved chains: of y, sigma, and of the operator its name, its shapes and what it makes of one fixed
    /// image. An operator that fails there counts by name and shapes alone. It allocates.
    pub fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().bytes(self.operator.label().as_bytes()).f64(self.sigma).f32s(&self.values);
        let dims = [self.operator.domain(), self.operator.codomain()];
        let f = dims.iter().flat_map(|d| d.as_slice().iter().copied()).fold(f, |f, d| f.u64(d as u64));
        let f = self.probe().map_or(f, |y| f.f32s(&y));
        f.u64(self.first_sample.map_or(u64::MAX, |s| s)).finish()
    }
}

impl<O: LinearOperator> Measurement<O> {
    /// A start in the middle of a chain: x_t = alpha A^+ y + sigma z of `level` for the samples `first_sample` and
    /// following, as many as `out`, `[samples, n]`, has room for. z is draw 0 of each, which a chain that starts at x_T
    /// would use. For [`Chain::start_from`](crate::chain::Chain::start_from), at the step whose level this is.
    ///
    /// Errors: kind `Shape` for no whole number of samples; kind `Unsupported` without A^+; the noise source's; kind
    /// `OutOfMemory`.
    pub fn noised_start(
        &self,
        level: &Level,
        first_sample: u64,
        noise: &mut dyn NoiseSource,
        out: &mut [f32],
    ) -> Result<()> {
        let n = self.operator.input_dims().elements().max(1);
        ensure!(out.len().is_multiple_of(n), Shape, "a start of {} values, expected a multiple of {n}", out.len());
        let (mut x, mut scratch) = (zeros("evidence", n)?, zeros("evidence", self.operator.solve_scratch_len())?);
        noise.normal(first_sample, 0, n, out)?;
        for (out, sample) in out.chunks_exact_mut(n).zip(first_sample..=u64::MAX) {
            self.operator.pseudo_inverse(self.values(sample)?, &mut x, &mut scratch)?;
            for (out, &x) in out.iter_mut().zip(&x) {
                *out = (level.alpha * f64::from(x) + level.sigma * f64::from(*out)) as f32;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::noise::Seeded;
    use crate::posterior::operator::{Identity, Mask};

    #[test]
    fn rows_belong_to_samples() {
        let dims = Dims::new(&[2]).unwrap();
        let one = Measurement::new(Identity::new(dims).unwrap(), &[1.0, 2.0], 0.1).unwrap();
        assert_eq!((one.values(0).unwrap(), one.values(u64::MAX).unwrap()), (&[1.0, 2.0][..], &[1.0, 2.0][..]));
        let each = Measurement::each(Identity::new(dims).unwrap(), &[1.0, 2.0, 3.0, 4.0], 7, 0.1).unwrap();
        assert_eq!(each.values(8).unwrap(), [3.0, 4.0]);
        for sample in [6, 9, u64::MAX] {
            assert_eq!(each.values(sample).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        let mut out = [0.0; 2];
        each.residual(8, &[0.5, 0.5], &mut out, &mut []).unwrap();
        assert_eq!(out, [2.5, 3.5]);
        assert_ne!(one.fingerprint(), each.fingerprint());
    }

    #[test]
    fn a_start_is_the_noised_pseudo_inverse() {
        let dims = Dims::new(&[1, 2, 2]).unwrap();
        let mask = Mask::new(dims, &[true, false, false, true]).unwrap();
        let m = Measurement::each(mask, &[1.0, 2.0, 3.0, 4.0], 5, 0.1).unwrap();
        let level = Level::variance_preserving(3.0, 0.64);
        let (mut x, mut z) = ([0.0; 8], [0.0; 8]);
        m.noised_start(&level, 5, &mut Seeded::new(1), &mut x).unwrap();
        Seeded::new(1).normal(5, 0, 4, &mut z).unwrap();
        for ((x, z), y) in x.iter().zip(z).zip([1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 4.0]) {
            assert!((x - (0.8 * y + 0.6 * z)).abs() < 1e-6);
        }
        assert!(m.noised_start(&level, 6, &mut Seeded::new(1), &mut x).is_err(), "there is no third measurement");
        assert!(m.noised_start(&level, 5, &mut Seeded::new(1), &mut x[..3]).is_err());
    }

    #[test]
    fn two_masks_of_one_size_differ() {
        let dims = Dims::new(&[1, 2, 2]).unwrap();
        let of =
            |keep: &[bool]| Measurement::new(Mask::new(dims, keep).unwrap(), &[0.5, 0.5], 0.1).unwrap().fingerprint();
        assert_ne!(of(&[true, true, false, false]), of(&[true, false, true, false]));
        assert_eq!(of(&[true, true, false, false]), of(&[true, true, false, false]));
    }

    #[test]
    fn nonsense_is_refused() {
        let id = || Identity::new(Dims::new(&[2]).unwrap()).unwrap();
        for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Measurement::new(id(), &[0.0; 2], sigma).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert_eq!(Measurement::new(id(), &[0.0; 3], 1.0).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(Measurement::each(id(), &[0.0; 3], 0, 1.0).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(Measurement::each(id(), &[], 0, 1.0).unwrap_err().kind(), ErrorKind::Shape);
        assert_eq!(Measurement::exact(id(), &[0.0, f32::NAN]).unwrap_err().kind(), ErrorKind::NonFinite);
        let mask = Mask::new(Dims::new(&[1, 2, 2]).unwrap(), &[true, false, false, false]).unwrap();
        let e = Measurement::exact(mask, &[0.5]).unwrap().check(Dims::new(&[3, 2, 2]).unwrap()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Shape);
        assert!(e.message().contains("[1, 2, 2]") && e.message().contains("[3, 2, 2]"), "{e}");
    }
}
