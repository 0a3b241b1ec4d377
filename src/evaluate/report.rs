//! What an evaluation found.

use alloc::vec::Vec;
use core::f64::consts::LN_2;

use crate::schedule::Level;

/// What a value is given per. Values inside a report are nats per sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Nats for a whole sample.
    Nats,
    /// Bits for a whole sample (an image, a sequence).
    Bits,
    /// Bits for each element.
    #[default]
    BitsPerDim,
}

impl Unit {
    /// `nats` of a sample with `dims` elements, in this unit.
    pub fn of(self, nats: f64, dims: usize) -> f64 {
        match self {
            Self::Nats => nats,
            Self::Bits => nats / LN_2,
            Self::BitsPerDim => nats / (LN_2 * dims as f64),
        }
    }
}

/// One step of the chain in a [`Bound`], nats per sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepBound {
    /// The level of x_t.
    pub level: Level,
    /// KL(q(x_s | x_t, x_0) || p(x_s | x_t)), averaged over the rows seen; 0 where none was.
    pub kl: f64,
    /// The entropy of p(x_s | x_t), averaged likewise. A chain that fits its data keeps it between the two bounds.
    pub entropy: f64,
    /// The lower bound on H_q(X_s | X_t) (Eq. 24).
    pub lower: f64,
    /// The upper bound (Eq. 24).
    pub upper: f64,
    /// Rows seen at this step.
    pub rows: u64,
}

/// A lower bound on the log-likelihood, with what it consists of. All values are nats per sample unless
/// [`Bound::value`] converts them: `k` = -(`kl` + `start` - `end` + `prior`).
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Data points.
    pub samples: usize,
    /// Elements of one; positions of a chain of classes.
    pub dims: usize,
    /// K, averaged over the data points.
    pub k: f64,
    /// The standard error of `k` as an estimate for the distribution that the data come from: the deviation of the
    /// points' K over sqrt(points), in which the noise of the draws of x_t and of sampled steps is contained. NaN for
    /// one point.
    pub standard_error: f64,
    /// The part of it that more draws would take away; NaN for a single draw.
    pub monte_carlo_error: f64,
    /// What white data would have: -H of N(0, I), -n H(pi) for bits, or -n ln of the number of classes. `k - l_null` is
    /// what the chain learned.
    pub l_null: f64,
    /// The sum of the divergences.
    pub kl: f64,
    /// H_start: minus the mean of log p(x^0 | x^1).
    pub start: f64,
    /// H_end: the entropy of q(x^T | x^0).
    pub end: f64,
    /// H_prior: minus the mean of log p(x^T).
    pub prior: f64,
    /// K of each data point. For [`Edges::Entropies`](super::Edges::Entropies) only the mean is a bound.
    pub per_sample: Vec<f64>,
    /// The steps that have a divergence, from T on.
    pub steps: Vec<StepBound>,
    /// Network calls.
    pub calls: u64,
    /// Rows in them.
    pub rows: u64,
    /// How long it took; without `std` there is no clock and this is NaN.
    pub seconds: f64,
}

impl Bound {
    /// A value of this report in another unit.
    pub fn value(&self, nats: f64, unit: Unit) -> f64 {
        unit.of(nats, self.dims)
    }

    /// `k` for data that were made by x = `scale` raw + shift, as a density of the raw data: log `scale` more for each
    /// element.
    pub fn raw_k(&self, scale: f64) -> f64 {
        self.k + self.dims as f64 * libm::log(scale)
    }
}

/// Mean and standard error (NaN below two values).
pub(super) fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, if values.len() < 2 { f64::NAN } else { libm::sqrt(squares / (n - 1.0) / n) })
}
