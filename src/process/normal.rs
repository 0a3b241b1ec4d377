//! Logarithms, divergences and entropies of scalar Gaussians, in nats: an image's are the sums over its elements.

use core::f64::consts::PI;

/// log N(x; mean, variance). `variance` above 0.
pub fn normal_log_prob(x: f64, mean: f64, variance: f64) -> f64 {
    let d = x - mean;
    -0.5 * (d * d / variance + libm::log(2.0 * PI * variance))
}

/// H = (1 + ln 2 pi v) / 2 (the paper's H_q of Eqs. 15 to 17). `variance` above 0.
pub fn normal_entropy(variance: f64) -> f64 {
    0.5 * (1.0 + libm::log(2.0 * PI * variance))
}

/// KL(N(mean_q, variance_q) || N(mean_p, variance_p)) = ln(s_p / s_q) + (v_q + (m_q - m_p)^2) / (2 v_p) - 1/2, the term
/// of the bound at each t (Eq. 14). Variances above 0.
pub fn normal_kl(mean_q: f64, variance_q: f64, mean_p: f64, variance_p: f64) -> f64 {
    let d = mean_q - mean_p;
    0.5 * (libm::log(variance_p / variance_q) + (variance_q + d * d) / variance_p - 1.0)
}

/// The bounds on H_q(X^(t-1) | X^t) of one element (Eq. 24): lower
/// H_q(X^t | X^(t-1)) + H_q(X^(t-1) | X^0) - H_q(X^t | X^0), upper H_q(X^t | X^(t-1)).
///
/// `alpha_bar` and `previous` are abar at t and t - 1, both in (0, 1); the lower bound needs `previous` below 1.
pub fn reverse_entropy_bounds(alpha_bar: f64, previous: f64) -> (f64, f64) {
    let forward = normal_entropy(1.0 - alpha_bar / previous);
    (forward + normal_entropy(1.0 - previous) - normal_entropy(1.0 - alpha_bar), forward)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integral of f over -20 .. 20.
    fn integral(f: impl Fn(f64) -> f64) -> f64 {
        let n = 40_000;
        (0..n).map(|i| f(-20.0 + (f64::from(i) + 0.5) * 40.0 / f64::from(n))).sum::<f64>() * 40.0 / f64::from(n)
    }

    #[test]
    fn formulas_are_the_integrals() {
        for (m, v, n, w) in [(0.0, 1.0, 0.0, 1.0), (0.5, 0.3, -1.0, 2.0), (-2.0, 3.0, 1.0, 0.5)] {
            let q = |x| libm::exp(normal_log_prob(x, m, v));
            assert!((integral(q) - 1.0).abs() < 1e-9);
            assert!((integral(|x| -q(x) * normal_log_prob(x, m, v)) - normal_entropy(v)).abs() < 1e-9);
            let kl = integral(|x| q(x) * (normal_log_prob(x, m, v) - normal_log_prob(x, n, w)));
            assert!((kl - normal_kl(m, v, n, w)).abs() < 1e-9);
        }
        assert_eq!(normal_kl(0.3, 0.7, 0.3, 0.7), 0.0);
    }

    #[test]
    fn the_entropy_of_a_white_chain_lies_on_its_upper_bound() {
        // For data N(0, 1) the chain is reversible: H_q(X^(t-1) | X^t) = H_q(X^t | X^(t-1)).
        for (abar, previous) in [(0.5, 0.6), (0.01, 0.5)] {
            let (lower, upper) = reverse_entropy_bounds(abar, previous);
            let exact = normal_entropy(1.0 - abar / previous);
            assert!(lower < exact && (upper - exact).abs() < 1e-12);
            // A single point as data lies on the lower one: the posterior given x_0.
            let posterior = (1.0 - previous) / (1.0 - abar) * (1.0 - abar / previous);
            assert!((lower - normal_entropy(posterior)).abs() < 1e-12);
        }
    }
}
