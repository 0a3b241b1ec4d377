//! The exact denoiser of a list of bit sequences: a binary prior whose chain and posterior can be enumerated.

use alloc::vec::Vec;

use super::{Call, Denoiser, check_batch, check_gave, check_given};
use crate::error::{Result, ensure, err};
use crate::noise::Fingerprint;
use crate::process::Binomial;
use crate::tensor::Dims;

/// p(x_0) = w_k for sequence k, and of a noisy x_t the probability that each bit of x_0 is 1 (for
/// [`BitPrediction::Clean`](crate::sampler::BitPrediction::Clean)):
///
/// ```text
/// P(k | x_t) proportional to w_k prod_i q(x_t,i | x_0 = b_k,i),   P(x_0,i = 1 | x_t) = sum_k b_k,i P(k | x_t)
/// ```
///
/// f64, rounded once; nothing is allocated in a call.
///
/// ```
/// use undiffuse::denoiser::BitSequences;
/// use undiffuse::process::Binomial;
/// use undiffuse::tensor::Dims;
///
/// // One of two pulses.
/// let rows = [true, false, false, true];
/// let pulses = BitSequences::new(Dims::new(&[2])?, &rows, &[1.0, 1.0], Binomial::new(0.5)?)?;
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BitSequences {
    dims: Dims,
    rows: Vec<bool>,
    log_weights: Vec<f64>,
    process: Binomial,
    responsibility: Vec<f64>,
}

impl BitSequences {
    /// `rows` has one row of bits for each weight; the weights, above 0, are divided by their sum.
    ///
    /// Errors: kind `Shape` for another number of bits; kind `InvalidArgument` for a weight that is not above 0, or
    /// none.
    pub fn new(dims: Dims, rows: &[bool], weights: &[f64], process: Binomial) -> Result<Self> {
        ensure!(!weights.is_empty(), InvalidArgument, "a list of sequences needs at least one");
        ensure!(
            Some(rows.len()) == weights.len().checked_mul(dims.elements()),
            Shape,
            "the sequences have {} bits, expected {} of {dims}",
            rows.len(),
            weights.len()
        );
        if let Some(k) = weights.iter().position(|w| !(*w > 0.0 && w.is_finite())) {
            return Err(err!(InvalidArgument, "the weight of sequence {k} is not above 0"));
        }
        let total: f64 = weights.iter().sum();
        Ok(Self {
            dims,
            rows: rows.to_vec(),
            log_weights: weights.iter().map(|w| libm::log(w / total)).collect(),
            process,
            responsibility: alloc::vec![0.0; weights.len()],
        })
    }
}

impl Denoiser for BitSequences {
    fn name(&self) -> &str {
        "bit sequences"
    }

    fn sample_dims(&self) -> Dims {
        self.dims
    }

    fn looks_at_numbers(&self) -> bool {
        false
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.dims.elements();
        check_batch(self.name(), n, x, n, out)?;
        check_given(self.name(), "x", x)?;
        let abar = call.level.alpha_bar();
        // By the bit of x_0, then that of x_t.
        let log = [0.0, 1.0].map(|x0| {
            let one = self.process.marginal(abar, x0);
            [libm::log(1.0 - one), libm::log(one)]
        });
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            let sequences = || self.rows.chunks_exact(n);
            for ((r, row), w) in self.responsibility.iter_mut().zip(sequences()).zip(&self.log_weights) {
                *r = *w;
                for (&b, &x) in row.iter().zip(x) {
                    let given = if b { log[1] } else { log[0] };
                    *r += if x >= 0.5 { given[1] } else { given[0] };
                }
            }
            let largest = self.responsibility.iter().fold(f64::NEG_INFINITY, |m, &r| m.max(r));
            ensure!(largest.is_finite(), InvalidArgument, "no sequence of the prior can have led to this x");
            self.responsibility.iter_mut().for_each(|r| *r = libm::exp(*r - largest));
            let total: f64 = self.responsibility.iter().sum();
            for (i, out) in out.iter_mut().enumerate() {
                let ones = self.responsibility.iter().zip(sequences()).filter(|(_, row)| row.get(i) == Some(&true));
                *out = (ones.map(|(r, _)| r).sum::<f64>() / total).min(1.0) as f32;
            }
        }
        check_gave(self.name(), call, n, out)
    }

    fn fingerprint(&self) -> u64 {
        let f = self.log_weights.iter().fold(Fingerprint::new().bytes(b"bits"), |f, w| f.f64(*w));
        self.rows.iter().fold(f.f64(self.process.pi()), |f, &b| f.u64(u64::from(b))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::error::ErrorKind;
    use crate::schedule::Level;

    #[test]
    fn probabilities_are_bayes() {
        let q = Binomial::new(0.3).unwrap();
        let rows = [true, true, false, true, false, false];
        let mut d = BitSequences::new(Dims::new(&[2]).unwrap(), &rows, &[1.0, 2.0, 3.0], q).unwrap();
        let (level, cancel) = (Level::variance_preserving(0.0, 0.6), Cancel::new());
        let mut out = [0.0; 2];
        d.predict(&Call { level, first_sample: 0, cancel: &cancel }, &[1.0, 0.0], &mut out).unwrap();
        let (one, zero) = (q.marginal(0.6, 1.0), q.marginal(0.6, 0.0));
        let joint = [one * (1.0 - one), 2.0 * zero * (1.0 - one), 3.0 * zero * (1.0 - zero)];
        let total: f64 = joint.iter().sum();
        assert!((f64::from(out[0]) - joint[0] / total).abs() < 1e-7);
        assert!((f64::from(out[1]) - (joint[0] + joint[1]) / total).abs() < 1e-7);
    }

    #[test]
    fn nonsense_is_refused() {
        let q = Binomial::new(0.3).unwrap();
        let new =
            |rows: &[bool], w: &[f64]| BitSequences::new(Dims::new(&[2]).unwrap(), rows, w, q).unwrap_err().kind();
        assert_eq!(new(&[true; 3], &[1.0]), ErrorKind::Shape);
        assert_eq!(new(&[], &[]), ErrorKind::InvalidArgument);
        assert_eq!(new(&[true; 2], &[0.0]), ErrorKind::InvalidArgument);
        assert_eq!(new(&[true; 2], &[f64::NAN]), ErrorKind::InvalidArgument);
    }
}
