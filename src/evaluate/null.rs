//! The models that know nothing, to which a bound is compared. Nats per sample.

use crate::process::{bernoulli_entropy, normal_entropy};

/// -n H(N(0, `variance`)): the log-likelihood of white Gaussian data of this variance under their own model. For
/// variance 1 it is -2.0471 bits per dimension, the L_null of the paper.
pub fn null_gaussian(dims: usize, variance: f64) -> f64 {
    -(dims as f64) * normal_entropy(variance)
}

/// The same with the variance of all elements of `data` about their common mean, fitted to them: what the best white
/// Gaussian makes of these data. Infinite for constant data.
pub fn null_fitted_gaussian(data: &[f32], dims: usize) -> f64 {
    let n = data.len() as f64;
    let mean = data.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = data.iter().map(|&v| (f64::from(v) - mean) * (f64::from(v) - mean)).sum::<f64>() / n;
    null_gaussian(dims, variance)
}

/// -n H(`rate`): independent bits with chance `rate` of a 1, under their own model. For the paper's heartbeat, 20 bits
/// at 0.2, it is -14.438 bits per sequence.
pub fn null_binomial(dims: usize, rate: f64) -> f64 {
    -(dims as f64) * bernoulli_entropy(rate)
}

#[cfg(test)]
mod tests {
    use core::f64::consts::LN_2;

    use super::*;

    #[test]
    fn values_are_the_papers() {
        assert!((null_gaussian(3, 1.0) / (3.0 * LN_2) + 2.0471).abs() < 5e-5);
        assert!((null_binomial(20, 0.2) / LN_2 + 14.438).abs() < 1e-3);
        // Two values at distance 2: variance 1.
        assert!((null_fitted_gaussian(&[4.0, 6.0, 4.0, 6.0], 2) - null_gaussian(2, 1.0)).abs() < 1e-12);
    }
}
