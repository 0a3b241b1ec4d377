//! Products and quotients of densities, as sums and differences of scores.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Call, Denoiser, check_batch, check_gave};
use crate::error::{Result, ensure, err};
use crate::memory::zeros;
use crate::noise::Fingerprint;
use crate::process::PredictionType;
use crate::schedule::Level;
use crate::tensor::Dims;

/// p(x)^a q(x)^b of two denoisers, at every level by itself: score = a score_p + b score_q. b = -1 is a quotient;
/// a = 1 + w, b = -w is guidance of p away from q (classifier-free guidance with an unconditional q).
///
/// What it samples: noised densities are multiplied, and that is not the noised product; so, except where a or b is 0
/// and the other 1, samples come only near p^a q^b. For p = q = N(0, v) and a = b = 1 the mean is right and the
/// variance, v / 2 in the product, is not. Combine with a measurement only knowing this. A quotient that is no density
/// at some level makes the chain diverge, which it reports as not finite.
///
/// Both predict the same kind for samples of the same dimensions, with one value for each element (no learned
/// variance). One step calls both networks once; memory for one more prediction is allocated when it is made. Products
/// nest.
///
/// ```
/// use undiffuse::denoiser::{Component, Covariance, GaussianMixture, Product};
/// use undiffuse::process::PredictionType;
/// use undiffuse::tensor::Dims;
///
/// let kind = PredictionType::Epsilon;
/// let at = |m: f64| {
///     let component = Component { weight: 1.0, mean: vec![m], covariance: Covariance::Diagonal(vec![0.2]) };
///     GaussianMixture::new(Dims::new(&[1])?, &[component], kind)
/// };
/// let both = Product::new((1.0, at(-0.5)?), (1.0, at(0.5)?), kind, 8)?;
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub struct Product<P, Q> {
    name: String,
    p: P,
    q: Q,
    weights: (f64, f64),
    kind: PredictionType,
    max_batch: usize,
    /// Room for q's prediction and, in a vector-Jacobian product, for a scaled cotangent.
    other: Vec<f32>,
    scaled: Vec<f32>,
}

impl<P: Denoiser, Q: Denoiser> Product<P, Q> {
    /// Of (a, p) and (b, q), which predict `kind`, for batches of up to `max_batch`.
    ///
    /// Errors: kind `InvalidArgument` for weights that are not finite or a batch of 0 or above what both take; kind
    /// `Shape` if their samples differ or either learned a variance; kind `OutOfMemory`.
    pub fn new((a, p): (f64, P), (b, q): (f64, Q), kind: PredictionType, max_batch: usize) -> Result<Self> {
        ensure!(
            a.is_finite() && b.is_finite(),
            InvalidArgument,
            "the powers of a product are {a} and {b}, expected finite numbers"
        );
        let (dims, other) = (p.sample_dims(), q.sample_dims());
        ensure!(
            dims == other,
            Shape,
            "\"{}\" takes samples of shape {dims} and \"{}\" of {other}, expected the same",
            p.name(),
            q.name()
        );
        let n = dims.elements();
        for (name, len) in [(p.name(), p.output_len()), (q.name(), q.output_len())] {
            ensure!(
                len == n,
                Shape,
                "\"{name}\" gives {len} values for a sample of {n}, expected as many in a product"
            );
        }
        let most = p.max_batch().min(q.max_batch());
        ensure!(
            (1..=most).contains(&max_batch),
            InvalidArgument,
            "the batch of a product is {max_batch}, expected 1 to {most}"
        );
        let len = n.checked_mul(max_batch).ok_or_else(|| err!(OutOfMemory, "a batch of {max_batch} is too large"))?;
        let room = |len: usize| zeros("a product", len);
        let has_vjp = p.has_vjp() && q.has_vjp();
        let name = format!("{}^{a} {}^{b}", p.name(), q.name());
        let (other, scaled) = (room(len)?, room(if has_vjp { len } else { 0 })?);
        Ok(Self { name, p, q, weights: (a, b), kind, max_batch, other, scaled })
    }

    /// The factor of x in the sum of the predictions: 0 where a prediction is a multiple of the score, or the powers
    /// sum to 1.
    fn of_x(&self, level: &Level) -> f64 {
        let rest = 1.0 - self.weights.0 - self.weights.1;
        match self.kind {
            PredictionType::Epsilon => 0.0,
            // x_0 = (x + sigma^2 score) / alpha.
            PredictionType::Sample => rest / level.alpha,
            // v = alpha eps - sigma x_0 = -sigma / alpha x + eps / alpha.
            PredictionType::VPrediction => -rest * level.sigma / level.alpha,
            // v = eps - x_0.
            PredictionType::Flow => -rest / level.alpha,
        }
    }

    fn check(&self, x: &[f32], out: &[f32]) -> Result<()> {
        let n = self.sample_dims().elements();
        let batch = check_batch(&self.name, n, x, n, out)?;
        ensure!(
            batch <= self.max_batch,
            InvalidArgument,
            "the product got {batch} samples, expected at most {}",
            self.max_batch
        );
        Ok(())
    }
}

fn short() -> crate::Error {
    err!(Shape, "the room of a product is too short")
}

impl<P: Denoiser, Q: Denoiser> Denoiser for Product<P, Q> {
    fn name(&self) -> &str {
        &self.name
    }
    fn sample_dims(&self) -> Dims {
        self.p.sample_dims()
    }
    fn max_batch(&self) -> usize {
        self.max_batch
    }
    fn looks_at_numbers(&self) -> bool {
        self.p.looks_at_numbers() || self.q.looks_at_numbers()
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        self.check(x, out)?;
        let of_x = self.of_x(&call.level);
        self.p.predict(call, x, out)?;
        let other = self.other.get_mut(..x.len()).ok_or_else(short)?;
        self.q.predict(call, x, other)?;
        let (a, b) = self.weights;
        for ((out, other), x) in out.iter_mut().zip(other).zip(x) {
            *out = (a * f64::from(*out) + b * f64::from(*other) + of_x * f64::from(*x)) as f32;
        }
        check_gave(&self.name, call, self.sample_dims().elements(), out)
    }
    fn has_vjp(&self) -> bool {
        self.p.has_vjp() && self.q.has_vjp()
    }
    fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        self.check(x, out)?;
        self.check(x, v)?;
        let (a, b) = self.weights;
        let of_x = self.of_x(&call.level);
        let scaled = self.scaled.get_mut(..x.len()).ok_or_else(short)?;
        scaled.iter_mut().zip(v).for_each(|(s, v)| *s = (a * f64::from(*v)) as f32);
        self.p.vjp(call, x, scaled, out)?;
        scaled.iter_mut().zip(v).for_each(|(s, v)| *s = (b * f64::from(*v)) as f32);
        let other = self.other.get_mut(..x.len()).ok_or_else(short)?;
        self.q.vjp(call, x, scaled, other)?;
        for ((out, other), v) in out.iter_mut().zip(other).zip(v) {
            *out = (f64::from(*out) + f64::from(*other) + of_x * f64::from(*v)) as f32;
        }
        check_gave(&self.name, call, self.sample_dims().elements(), out)
    }
    fn fingerprint(&self) -> u64 {
        let parts = [self.p.fingerprint(), self.q.fingerprint()];
        if parts.contains(&0) {
            return 0;
        }
        let (a, b) = self.weights;
        let f = Fingerprint::new().bytes(b"product").f64(a).f64(b).u64(self.kind as u64);
        f.u64(parts[0]).u64(parts[1]).finish()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::denoiser::{Component, Covariance, FnDenoiser, GaussianMixture};
    use crate::error::ErrorKind;

    static CANCEL: crate::Cancel = crate::Cancel::new();

    fn mixture(m: f64, kind: PredictionType) -> GaussianMixture {
        let of =
            |m: f64| Component { weight: 1.0, mean: vec![m, 0.3], covariance: Covariance::Diagonal(vec![0.3, 0.1]) };
        GaussianMixture::new(Dims::new(&[2]).unwrap(), &[of(m), of(m + 0.6)], kind).unwrap()
    }

    #[test]
    fn all_kinds_say_the_same_and_multiply_densities() {
        let level = Level::variance_preserving(300.0, 0.6);
        let call = Call { level, first_sample: 0, cancel: &CANCEL };
        let x = [0.4f32, -0.2, -0.9, 0.8];
        for (a, b) in [(1.0, 1.0), (1.5, -0.5), (0.3, 0.0)] {
            // eps = -sigma times the gradient of a log p + b log q, by differences.
            let (mut p, mut q) = (mixture(-0.5, PredictionType::Epsilon), mixture(0.1, PredictionType::Epsilon));
            let mut log = |x: &[f32]| a * p.log_density(&level, x).unwrap() + b * q.log_density(&level, x).unwrap();
            let eps: Vec<f64> = (0..4)
                .map(|i| {
                    let mut moved = [x[i / 2 * 2], x[i / 2 * 2 + 1]];
                    moved[i % 2] += 0.01;
                    let up = log(&moved);
                    moved[i % 2] = x[i] - 0.01;
                    -level.sigma * (up - log(&moved)) / 0.02
                })
                .collect();
            for kind in [PredictionType::Epsilon, PredictionType::Sample, PredictionType::VPrediction] {
                let mut both = Product::new((a, mixture(-0.5, kind)), (b, mixture(0.1, kind)), kind, 2).unwrap();
                let mut out = [0.0; 4];
                both.predict(&call, &x, &mut out).unwrap();
                let linear = crate::process::Prediction { kind, ..Default::default() }.linear(&level);
                for i in 0..4 {
                    let got = linear.eps_x * f64::from(x[i]) + linear.eps_output * f64::from(out[i]);
                    assert!((got - eps[i]).abs() < 2e-4, "{kind:?} {a} {b}: {got} and {}", eps[i]);
                }
                // The product with a vector, by differences.
                let v = [0.7f32, -0.4, 0.2, 1.0];
                let mut vjp = [0.0; 4];
                both.vjp(&call, &x, &v, &mut vjp).unwrap();
                for i in 0..4 {
                    let mut inner = |h: f32| {
                        let mut moved = x;
                        moved[i] += h;
                        both.predict(&call, &moved, &mut out).unwrap();
                        out.iter().zip(&v).map(|(o, v)| f64::from(o * v)).sum::<f64>()
                    };
                    let want = (inner(0.02) - inner(-0.02)) / 0.04;
                    assert!((f64::from(vjp[i]) - want).abs() < 2e-3, "{kind:?}: {} and {want}", vjp[i]);
                }
            }
        }
    }

    #[test]
    fn misfits_are_refused() {
        let kind = PredictionType::Epsilon;
        let of = |a: f64, batch| Product::new((a, mixture(0.0, kind)), (1.0, mixture(0.1, kind)), kind, batch);
        assert_eq!(of(f64::NAN, 1).err().unwrap().kind(), ErrorKind::InvalidArgument);
        assert_eq!(of(1.0, 0).err().unwrap().kind(), ErrorKind::InvalidArgument);
        let three = FnDenoiser::new("three", Dims::new(&[3]).unwrap(), |_: &Call<'_>, _: &[f32], _: &mut [f32]| Ok(()));
        let e = Product::new((1.0, mixture(0.0, kind)), (1.0, three), kind, 1).err().unwrap();
        assert!(e.kind() == ErrorKind::Shape && e.message().contains("three"), "{e}");
        let call = Call { level: Level::variance_preserving(0.0, 0.5), first_sample: 0, cancel: &CANCEL };
        let e = of(1.0, 1).unwrap().predict(&call, &[0.0; 4], &mut [0.0; 4]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
}
