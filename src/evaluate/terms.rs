//! The terms of the bound at one step, for one sample. Sums over its elements, nats.

use super::{Edges, edges};
use crate::error::{Result, err};
use crate::process::{
    Binomial, Categorical, Posterior, bernoulli_entropy, bernoulli_kl, bernoulli_log_prob, normal_entropy, normal_kl,
    normal_log_prob,
};
use crate::sampler::{Spread, classes_of};
use crate::schedule::Level;

/// How near to 0 or 1 a chain's probability is believed: half of the distance of f32 values below 1, which is also what
/// its uniform values of 24 bits can tell. Without it a network that is rightly sure would cost infinity by rounding.
const SURE: f64 = 1.0 / 33_554_432.0;

/// What one step means for all rows.
pub(super) struct At {
    pub step: usize,
    pub level: Level,
    /// Moments of q(x_s | x_t, x_0) for real numbers; only its beta is used for bits.
    pub posterior: Posterior,
    /// abar of s.
    pub previous: f64,
    /// How many steps this one stands for.
    pub weight: f64,
    /// Whether it is p(x^0 | x^1).
    pub is_end: bool,
}

/// KL(q(x_s | x_t, x_0) || N(mean, spread)) of a sample, and the entropy of the latter.
pub(super) fn gaussian(
    at: &At,
    x0: &[f32],
    x: &[f32],
    mean: &[f32],
    spread: Spread,
    stds: &[f32],
) -> Result<(f64, f64)> {
    let q = &at.posterior;
    let target = |x0: f32, x: f32| q.x0 * f64::from(x0) + q.x * f64::from(x);
    let means = x0.iter().zip(x).map(|(&x0, &x)| target(x0, x)).zip(mean);
    match spread {
        Spread::Scalar(std) => {
            let variance = f64::from(std) * f64::from(std);
            let squares: f64 = means.map(|(q, &p)| (q - f64::from(p)) * (q - f64::from(p))).sum();
            let n = x0.len() as f64;
            let kl = n * normal_kl(0.0, q.variance, 0.0, variance) + squares / (2.0 * variance);
            Ok((kl, n * normal_entropy(variance)))
        }
        Spread::PerElement => Ok(means.zip(stds).fold((0.0, 0.0), |(kl, h), ((q_mean, &p), &std)| {
            let variance = f64::from(std) * f64::from(std);
            (kl + normal_kl(q_mean, q.variance, f64::from(p), variance), h + normal_entropy(variance))
        })),
        Spread::None | Spread::Langevin { .. } | Spread::Bits | Spread::Classes { .. } => Err(err!(
            Unsupported,
            "the step adds no noise of its own size, so its density has no divergence from the forward process"
        )),
    }
}

/// -log p(x^0 | x^1) of the chain's own last step.
pub(super) fn last_gaussian(at: &At, edges: Edges, x0: &[f32], mean: &[f32], spread: Spread, stds: &[f32]) -> f64 {
    let of = |(i, (&x0, &mean)): (usize, (&f32, &f32))| {
        let std = edges::last_std(spread, stds, i, at.posterior.beta);
        let (x0, mean) = (f64::from(x0), f64::from(mean));
        match edges {
            Edges::Discretized { levels } => -edges::log_bin(x0, mean, std, levels),
            Edges::Entropies | Edges::White | Edges::Network => -normal_log_prob(x0, mean, std * std),
        }
    };
    x0.iter().zip(mean).enumerate().map(of).sum()
}

/// KL(q(x_s | x_t, x_0) || B(mean)) of a sample of bits, or -log B(x_0; mean) at the end, and the entropy of B(mean).
pub(super) fn bits(at: &At, process: &Binomial, x0: &[f32], x: &[f32], mean: &[f32]) -> (f64, f64) {
    // By the bit of x_0, then that of x_t.
    let q = [0.0, 1.0].map(|x0| [false, true].map(|x| process.posterior(at.posterior.beta, at.previous, x0, x)));
    let mut sum = (0.0, 0.0);
    for ((&x0, &x), &p) in x0.iter().zip(x).zip(mean) {
        let p = f64::from(p).clamp(SURE, 1.0 - SURE);
        let of_x0 = if x0 >= 0.5 { q[1] } else { q[0] };
        let q = if x >= 0.5 { of_x0[1] } else { of_x0[0] };
        sum.0 += if at.is_end { -bernoulli_log_prob(x0 >= 0.5, p) } else { bernoulli_kl(q, p) };
        sum.1 += bernoulli_entropy(p);
    }
    sum
}

/// The same of a sample of one-hot rows, whose `mean` are the probabilities of the classes.
pub(super) fn classes(at: &At, process: &Categorical, x0: &[f32], x: &[f32], mean: &[f32]) -> (f64, f64) {
    let count = process.classes();
    let (abar, previous) = (at.level.alpha_bar(), at.previous);
    let mut sum = (0.0, 0.0);
    for ((from, to), p) in classes_of(x0, count).zip(classes_of(x, count)).zip(mean.chunks_exact(count)) {
        for (k, p) in p.iter().enumerate() {
            let p = f64::from(*p).clamp(SURE, 1.0);
            let q =
                if at.is_end { f64::from(u8::from(k == from)) } else { process.posterior(abar, previous, from, to, k) };
            if q > 0.0 {
                sum.0 += q * libm::log(q / p);
            }
            sum.1 -= p * libm::log(p);
        }
    }
    sum
}
