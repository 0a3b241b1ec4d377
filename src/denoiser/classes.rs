//! The exact denoiser of a list of sequences of classes: a prior whose chain and posterior can be enumerated.

use alloc::vec::Vec;

use super::{Call, Denoiser, check_batch, check_gave, check_given};
use crate::error::{Result, ensure, err};
use crate::noise::Fingerprint;
use crate::process::Categorical;
use crate::tensor::Dims;

/// p(x_0) = w_r for sequence r, and of a noisy one-hot x_t the probability of each class at each position of x_0 (for
/// [`ClassPrediction::Clean`](crate::sampler::ClassPrediction::Clean)):
///
/// ```text
/// P(r | x_t) proportional to w_r prod_i q(x_t,i | x_0 = c_r,i),   P(x_0,i = k | x_t) = sum over r with c_r,i = k of P(r | x_t)
/// ```
///
/// f64, rounded once; nothing is allocated in a call. The example of [`D3pm`](crate::sampler::D3pm) has one.
#[derive(Clone, Debug)]
pub struct ClassSequences {
    dims: Dims,
    rows: Vec<u32>,
    log_weights: Vec<f64>,
    process: Categorical,
    responsibility: Vec<f64>,
}

impl ClassSequences {
    /// Samples of `dims`, one-hot in rows of K. `rows` has a class for each position of each sequence, sequence by
    /// sequence; the weights, above 0, are divided by their sum.
    ///
    /// Errors: kind `Shape` for `dims` that hold no whole positions of K values, or another number of classes; kind
    /// `InvalidArgument` for a class that is not below K or is the mask, a weight that is not above 0, or none.
    pub fn new(dims: Dims, rows: &[u32], weights: &[f64], process: Categorical) -> Result<Self> {
        let count = process.classes();
        ensure!(!weights.is_empty(), InvalidArgument, "a list of sequences needs at least one");
        ensure!(
            dims.elements() > 0 && dims.elements().is_multiple_of(count),
            Shape,
            "samples of {dims} are no whole positions of {count} classes"
        );
        ensure!(
            Some(rows.len()) == weights.len().checked_mul(dims.elements() / count),
            Shape,
            "the sequences have {} classes, expected {} of {}",
            rows.len(),
            weights.len(),
            dims.elements() / count
        );
        if let Some(k) = rows.iter().find(|k| **k as usize >= count || Some(**k as usize) == process.mask()) {
            return Err(err!(InvalidArgument, "a sequence has the class {k}, expected one below {count} and no mask"));
        }
        if let Some(r) = weights.iter().position(|w| !(*w > 0.0 && w.is_finite())) {
            return Err(err!(InvalidArgument, "the weight of sequence {r} is not above 0"));
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

impl Denoiser for ClassSequences {
    fn name(&self) -> &str {
        "sequences of classes"
    }

    fn sample_dims(&self) -> Dims {
        self.dims
    }

    fn looks_at_numbers(&self) -> bool {
        false
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let (n, count) = (self.dims.elements(), self.process.classes());
        check_batch(self.name(), n, x, n, out)?;
        check_given(self.name(), "x", x)?;
        let abar = call.level.alpha_bar();
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            let sequences = || self.rows.chunks_exact(n / count);
            for ((r, row), w) in self.responsibility.iter_mut().zip(sequences()).zip(&self.log_weights) {
                *r = *w;
                for (&from, x) in row.iter().zip(x.chunks_exact(count)) {
                    let here = x.iter().position(|v| *v >= 0.5).unwrap_or(0);
                    *r += libm::log(self.process.marginal(abar, from as usize, here));
                }
            }
            let largest = self.responsibility.iter().fold(f64::NEG_INFINITY, |m, &r| m.max(r));
            ensure!(largest.is_finite(), InvalidArgument, "no sequence of the prior can have led to this x");
            self.responsibility.iter_mut().for_each(|r| *r = libm::exp(*r - largest));
            let total: f64 = self.responsibility.iter().sum();
            for (i, out) in out.chunks_exact_mut(count).enumerate() {
                for (k, out) in out.iter_mut().enumerate() {
                    let own = |row: &[u32]| row.get(i).is_some_and(|c| *c as usize == k);
                    let of = self.responsibility.iter().zip(sequences()).filter(|(_, row)| own(row));
                    *out = (of.map(|(r, _)| r).sum::<f64>() / total).min(1.0) as f32;
                }
            }
        }
        check_gave(self.name(), call, n, out)
    }

    fn fingerprint(&self) -> u64 {
        let f = self.log_weights.iter().fold(Fingerprint::new().bytes(b"classes"), |f, w| f.f64(*w));
        let f = f.u64(self.process.classes() as u64).u64(self.process.mask().map_or(u64::MAX, |m| m as u64));
        self.rows.iter().fold(f, |f, &k| f.u64(u64::from(k))).finish()
    }
}
