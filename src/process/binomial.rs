//! The binomial diffusion process: bits that flip towards chance.

use crate::error::{Result, ensure};

/// q(x_t | x_(t-1)) = B(x_(t-1) (1 - beta_t) + pi beta_t), bit by bit (the paper's Table App.1, with any pi). Bits are
/// 0 and 1; a probability is that of a 1. f64 throughout.
///
/// ```
/// use undiffuse::process::Binomial;
///
/// let fair = Binomial::new(0.5)?;
/// assert_eq!(fair.marginal(0.6, 1.0), 0.8);
/// // Without noise before the step, the posterior is x_0.
/// assert_eq!(fair.posterior(0.3, 1.0, 1.0, false), 1.0);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Binomial {
    #[doc(hidden)]
    pub pi: f64,
}

impl Binomial {
    /// With chance `pi` of a 1 where all is forgotten; strictly between 0 and 1.
    pub fn new(pi: f64) -> Result<Self> {
        ensure!(pi > 0.0 && pi < 1.0, InvalidArgument, "the chance of a 1 is {pi}, expected between 0 and 1");
        Ok(Self { pi })
    }

    /// pi.
    pub fn pi(&self) -> f64 {
        self.pi
    }

    /// q(x_t = 1 | x_(t-1)); `x` may be a probability of its being 1.
    pub fn forward(&self, beta: f64, x: f64) -> f64 {
        x * (1.0 - beta) + self.pi * beta
    }

    /// q(x_t = 1 | x_0) = x_0 abar + pi (1 - abar); `x0` may be a probability of its being 1.
    pub fn marginal(&self, alpha_bar: f64, x0: f64) -> f64 {
        x0 * alpha_bar + self.pi * (1.0 - alpha_bar)
    }

    /// q(x_(t-1) = 1 | x_t, x_0) = a l1 / (a l1 + (1 - a) l0), with a = q(x_(t-1) = 1 | x_0) at `previous`, abar of t -
    /// 1, and l1, l0 the likelihoods of the bit x_t after a 1 and a 0. `x0` is 0 or 1.
    pub fn posterior(&self, beta: f64, previous: f64, x0: f64, x_t: bool) -> f64 {
        let a = self.marginal(previous, x0);
        let likelihood = |before: f64| {
            let one = self.forward(beta, before);
            if x_t { one } else { 1.0 - one }
        };
        let (one, zero) = (a * likelihood(1.0), (1.0 - a) * likelihood(0.0));
        one / (one + zero)
    }

    /// The same with x_0 known only by its probability `m` of a 1 given x_t: the reverse kernel of one bit.
    pub fn reverse(&self, beta: f64, previous: f64, m: f64, x_t: bool) -> f64 {
        m * self.posterior(beta, previous, 1.0, x_t) + (1.0 - m) * self.posterior(beta, previous, 0.0, x_t)
    }

    /// The bounds on H_q(X^(t-1) | X^t) of one bit (Eq. 24), averaged over data whose bit is 1 with probability `ones`.
    /// `alpha_bar` and `previous` are abar at t and t - 1.
    pub fn reverse_entropy_bounds(&self, alpha_bar: f64, previous: f64, ones: f64) -> (f64, f64) {
        let beta = 1.0 - alpha_bar / previous;
        let over = |p: f64, f: &dyn Fn(f64) -> f64| p * f(1.0) + (1.0 - p) * f(0.0);
        // X^(t-1) of the data decides what H_q(X^t | X^(t-1)) is averaged over.
        let before = self.marginal(previous, ones);
        let forward = over(before, &|x| bernoulli_entropy(self.forward(beta, x)));
        let given = |abar: f64| over(ones, &|x0| bernoulli_entropy(self.marginal(abar, x0)));
        (forward + given(previous) - given(alpha_bar), forward)
    }
}

/// p ln(p / q), 0 for p = 0.
fn term(p: f64, q: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * libm::log(p / q) }
}

/// -p ln p - (1 - p) ln(1 - p), 0 at both ends.
pub fn bernoulli_entropy(p: f64) -> f64 {
    -term(p, 1.0) - term(1.0 - p, 1.0)
}

/// KL(B(q) || B(p)); infinite where q allows what p does not.
pub fn bernoulli_kl(q: f64, p: f64) -> f64 {
    term(q, p) + term(1.0 - q, 1.0 - p)
}

/// log B(bit; p); minus infinity for what p excludes.
pub fn bernoulli_log_prob(bit: bool, p: f64) -> f64 {
    libm::log(if bit { p } else { 1.0 - p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marginals_and_posteriors_are_bayes() {
        for (pi, beta, previous) in [(0.5, 0.1, 0.8), (0.2, 0.4, 0.3), (0.9, 1.0, 0.5), (0.2, 0.02, 0.999)] {
            let q = Binomial::new(pi).unwrap();
            let abar = previous * (1.0 - beta);
            for x0 in [0.0, 1.0] {
                let a = q.marginal(previous, x0);
                let total = a * q.forward(beta, 1.0) + (1.0 - a) * q.forward(beta, 0.0);
                assert!((total - q.marginal(abar, x0)).abs() < 1e-14);
                // Averaged over x_t the posterior is the marginal before.
                let one = q.marginal(abar, x0);
                let back =
                    one * q.posterior(beta, previous, x0, true) + (1.0 - one) * q.posterior(beta, previous, x0, false);
                assert!((back - a).abs() < 1e-14);
            }
            let (m, x_t) = (0.3, true);
            let mixed = m * q.posterior(beta, previous, 1.0, x_t) + (1.0 - m) * q.posterior(beta, previous, 0.0, x_t);
            assert_eq!(q.reverse(beta, previous, m, x_t), mixed);
        }
    }

    #[test]
    fn a_chain_at_chance_is_reversible() {
        let q = Binomial::new(0.2).unwrap();
        let (beta, previous) = (0.1, 0.6);
        for x_t in [false, true] {
            // Given x_t alone, with x_0 at chance: m = q(x_0 = 1 | x_t).
            let abar = previous * (1.0 - beta);
            let m = q.marginal(abar, f64::from(u8::from(x_t)));
            assert!((q.reverse(beta, previous, m, x_t) - q.forward(beta, f64::from(u8::from(x_t)))).abs() < 1e-14);
        }
        let (lower, upper) = q.reverse_entropy_bounds(0.54, 0.6, 0.2);
        let exact = 0.2 * bernoulli_entropy(q.forward(0.1, 1.0)) + 0.8 * bernoulli_entropy(q.forward(0.1, 0.0));
        assert!((upper - exact).abs() < 1e-14 && lower < exact);
    }

    #[test]
    fn entropies_and_divergences() {
        assert!((bernoulli_entropy(0.5) - core::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!((bernoulli_entropy(0.0), bernoulli_entropy(1.0)), (0.0, 0.0));
        assert!((bernoulli_kl(0.3, 0.6) - (0.3 * libm::log(0.5) + 0.7 * libm::log(1.75))).abs() < 1e-15);
        assert_eq!((bernoulli_kl(0.0, 0.0), bernoulli_kl(1.0, 1.0), bernoulli_kl(0.5, 0.0)), (0.0, 0.0, f64::INFINITY));
        assert_eq!(bernoulli_log_prob(true, 0.25), libm::log(0.25));
        // L_null of the paper's heartbeat: 20 bits at rate 0.2.
        assert!((-20.0 * bernoulli_entropy(0.2) / core::f64::consts::LN_2 + 14.438).abs() < 1e-3);
        for pi in [0.0, 1.0, f64::NAN, -0.1] {
            assert!(Binomial::new(pi).is_err());
        }
    }
}
