//! The categorical diffusion process (D3PM, Austin et al. 2021): classes that are forgotten, uniformly or into a mask.

use crate::error::{Result, ensure};

/// What a class that is forgotten becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forgetting {
    /// Any class, all alike: the paper's uniform transitions (appendix A.2.1; Hoogeboom et al. 2021).
    Uniform,
    /// This one, which data never have: the paper's absorbing transitions (appendix A.2.2).
    Absorbing {
        /// The class that stands for nothing known, below the number of classes.
        mask: usize,
    },
}

/// q(x_t | x_(t-1)) = (1 - beta_t) [x_t = x_(t-1)] + beta_t pi(x_t), position by position, over K classes, with pi
/// uniform or all on the mask: the transition matrix (1 - beta) I + beta 1 pi^T, of which any product is of the same
/// form. f64 throughout, no matrix is made.
///
/// ```
/// use undiffuse::process::Categorical;
///
/// let letters = Categorical::uniform(4)?;
/// assert_eq!(letters.marginal(0.6, 2, 2), 0.7);
/// // The same with the mask as a fifth class.
/// let masked = Categorical::absorbing(5, 4)?;
/// assert_eq!((masked.marginal(0.6, 2, 2), masked.marginal(0.6, 2, 4), masked.marginal(0.6, 2, 1)), (0.6, 0.4, 0.0));
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Categorical {
    classes: usize,
    forgetting: Forgetting,
}

impl Categorical {
    /// Uniform transitions over `classes` classes.
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2.
    pub fn uniform(classes: usize) -> Result<Self> {
        Self::new(classes, Forgetting::Uniform)
    }

    /// Transitions into `mask`, one of `classes` classes (the mask among them).
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2 classes, or a mask that is none of them.
    pub fn absorbing(classes: usize, mask: usize) -> Result<Self> {
        Self::new(classes, Forgetting::Absorbing { mask })
    }

    /// K classes.
    ///
    /// Errors: as [`Categorical::uniform`] and [`Categorical::absorbing`].
    pub fn new(classes: usize, forgetting: Forgetting) -> Result<Self> {
        ensure!(classes >= 2, InvalidArgument, "the number of classes is {classes}, expected at least 2");
        if let Forgetting::Absorbing { mask } = forgetting {
            ensure!(mask < classes, InvalidArgument, "the mask is class {mask}, expected below {classes}");
        }
        Ok(Self { classes, forgetting })
    }

    /// K, the mask among them.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What a class becomes.
    pub fn forgetting(&self) -> Forgetting {
        self.forgetting
    }

    /// The class that data never have.
    pub fn mask(&self) -> Option<usize> {
        match self.forgetting {
            Forgetting::Uniform => None,
            Forgetting::Absorbing { mask } => Some(mask),
        }
    }

    /// pi(k): the chance of a class where all is forgotten.
    pub fn stationary(&self, k: usize) -> f64 {
        match self.forgetting {
            Forgetting::Uniform => 1.0 / self.classes as f64,
            Forgetting::Absorbing { mask } => f64::from(u8::from(k == mask)),
        }
    }

    /// q(x_t = k | x_s = `from`), with `keep` = abar_t / abar_s the chance that it was not forgotten in between.
    pub fn forward(&self, keep: f64, from: usize, k: usize) -> f64 {
        keep * f64::from(u8::from(from == k)) + (1.0 - keep) * self.stationary(k)
    }

    /// q(x_t = k | x_0).
    pub fn marginal(&self, alpha_bar: f64, x0: usize, k: usize) -> f64 {
        self.forward(alpha_bar, x0, k)
    }

    /// q(x_s = k | x_t, x_0) = q(x_t | x_s = k) q(x_s = k | x_0) / q(x_t | x_0), with `previous` the abar of s. NaN
    /// where x_0 cannot have led to x_t.
    pub fn posterior(&self, alpha_bar: f64, previous: f64, x0: usize, x_t: usize, k: usize) -> f64 {
        let both = self.forward(alpha_bar / previous, k, x_t) * self.marginal(previous, x0, k);
        both / self.marginal(alpha_bar, x0, x_t)
    }

    /// The reverse kernel of one position where x_0 is known only by its probabilities `p` given x_t, K of them with
    /// sum 1: calls `write` with each class k and sum over x_0 of p(x_0) q(x_s = k | x_t, x_0), the exact step of an
    /// exact p. It is x_t itself where x_t tells x_0 (below a mask that is gone).
    ///
    /// With z(x_0) = q(x_t | x_0), which has one value for x_0 = x_t and one for all others, it is q(x_t | x_s = k)
    /// (abar_s p(k) / z(k) + (1 - abar_s) pi(k) sum p / z): K operations.
    pub fn reverse(&self, alpha_bar: f64, previous: f64, p: &[f32], x_t: usize, mut write: impl FnMut(usize, f64)) {
        let other = (1.0 - alpha_bar) * self.stationary(x_t);
        let same = alpha_bar + other;
        if other <= 0.0 {
            return (0..p.len()).for_each(|k| write(k, f64::from(u8::from(k == x_t))));
        }
        let of = |k: usize| p.get(k).map_or(0.0, |p| f64::from(*p));
        let keep = alpha_bar / previous;
        let all = of(x_t) / same + (1.0 - of(x_t)) / other;
        for k in 0..p.len() {
            let z = if k == x_t { same } else { other };
            let kept = previous * of(k) / z + (1.0 - previous) * self.stationary(k) * all;
            write(k, self.forward(keep, k, x_t) * kept);
        }
    }

    /// The kernel that D3PM's networks are trained with: proportional to sum over x_0 of q(x_s, x_t | x_0) p(x_0)
    /// (Austin et al. 2021, eq. 4), so that p is no posterior but what is to be multiplied by q(x_t | x_0). It is `p`
    /// itself at the last step, where `previous` is 1, as the authors' code has it. With a mask it is
    /// [`Categorical::reverse`].
    pub fn reverse_of_joint(
        &self,
        alpha_bar: f64,
        previous: f64,
        p: &[f32],
        x_t: usize,
        mut write: impl FnMut(usize, f64),
    ) {
        if self.mask().is_some() {
            return self.reverse(alpha_bar, previous, p, x_t, write);
        }
        let of = |k: usize| p.get(k).map_or(0.0, |p| f64::from(*p));
        if previous >= 1.0 {
            return (0..p.len()).for_each(|k| write(k, of(k)));
        }
        let keep = alpha_bar / previous;
        let joint = |k: usize| self.forward(keep, k, x_t) * self.marginal_of(previous, of(k), k);
        let total: f64 = (0..p.len()).map(joint).sum();
        (0..p.len()).for_each(|k| write(k, joint(k) / total));
    }

    /// q(x_t = k) where x_0 is k with probability `p`.
    fn marginal_of(&self, alpha_bar: f64, p: f64, k: usize) -> f64 {
        alpha_bar * p + (1.0 - alpha_bar) * self.stationary(k)
    }

    /// The entropy of q(x_t | x_s = `from`), `keep` as in [`Categorical::forward`].
    pub fn entropy(&self, keep: f64, from: usize) -> f64 {
        let own = self.forward(keep, from, from);
        match self.forgetting {
            Forgetting::Uniform => {
                let other = (1.0 - keep) * self.stationary(0);
                -term(own) - (self.classes as f64 - 1.0) * term(other)
            }
            Forgetting::Absorbing { .. } => -term(own) - term(1.0 - own),
        }
    }

    /// Bounds on H_q(X^s | X^t) of one position, averaged over data whose class is k with probability `ones(k)`.
    ///
    /// From below by H_q(X^s | X^t, X^0) (Sohl-Dickstein et al. 2015, eq. 24). From above, with uniform transitions, by
    /// H_q(X^t | X^s), since entropy only grows; with a mask by the entropy of whether it was there, and ln(K - 1)
    /// where it was not.
    pub fn reverse_entropy_bounds(&self, alpha_bar: f64, previous: f64, ones: impl Fn(usize) -> f64) -> (f64, f64) {
        let keep = alpha_bar / previous;
        let over = |f: &dyn Fn(usize) -> f64| (0..self.classes).map(|k| ones(k) * f(k)).sum::<f64>();
        let given = |abar: f64| over(&|k| self.entropy(abar, k));
        match self.forgetting {
            Forgetting::Uniform => {
                let forward = self.entropy(keep, 0);
                (forward + given(previous) - given(alpha_bar), forward)
            }
            Forgetting::Absorbing { .. } => {
                // What is no mask yet is still as it was.
                let masked = 1.0 - alpha_bar;
                let before = if masked > 0.0 { (1.0 - previous) / masked } else { 0.0 };
                let whether = masked * (-term(before) - term(1.0 - before));
                (whether, whether + (previous - alpha_bar) * libm::log(self.classes as f64 - 1.0))
            }
        }
    }
}

/// p ln p, 0 at 0.
fn term(p: f64) -> f64 {
    if p > 0.0 { p * libm::log(p) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn both() -> [Categorical; 2] {
        [Categorical::uniform(4).unwrap(), Categorical::absorbing(4, 1).unwrap()]
    }

    #[test]
    fn steps_compose_and_posteriors_are_bayes() {
        for q in both() {
            let (keep, previous) = (0.7, 0.5);
            let abar = keep * previous;
            for x0 in (0..4).filter(|k| Some(*k) != q.mask()) {
                for x_t in 0..4 {
                    let total: f64 = (0..4).map(|k| q.marginal(previous, x0, k) * q.forward(keep, k, x_t)).sum();
                    assert!((total - q.marginal(abar, x0, x_t)).abs() < 1e-15);
                    if total > 0.0 {
                        let sum: f64 = (0..4).map(|k| q.posterior(abar, previous, x0, x_t, k)).sum();
                        assert!((sum - 1.0).abs() < 1e-14);
                    }
                }
            }
        }
    }

    #[test]
    fn the_reverse_kernel_is_the_mixture_of_posteriors() {
        for q in both() {
            let (abar, previous) = (0.35, 0.5);
            let p = if q.mask().is_some() { [0.5f32, 0.0, 0.125, 0.375] } else { [0.5, 0.125, 0.125, 0.25] };
            for x_t in 0..4 {
                let mut got = [0.0; 4];
                q.reverse(abar, previous, &p, x_t, |k, v| got[k] = v);
                let want: Vec<f64> = (0..4)
                    .map(|k| {
                        let of = |x0: usize| f64::from(p[x0]) * q.posterior(abar, previous, x0, x_t, k);
                        (0..4).filter(|x0| q.marginal(abar, *x0, x_t) > 0.0 && p[*x0] > 0.0).map(of).sum()
                    })
                    .collect();
                // With a mask, an x_t that is none tells x_0, whatever p says.
                let tells = q.mask().is_some_and(|m| m != x_t);
                for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                    let want = if tells { f64::from(u8::from(k == x_t)) } else { *want };
                    assert!((got - want).abs() < 1e-14, "{q:?} {x_t} {k}: {got} and {want}");
                }
            }
        }
    }

    #[test]
    fn two_classes_are_bits() {
        let (q, b) = (Categorical::uniform(2).unwrap(), crate::process::Binomial::new(0.5).unwrap());
        let (beta, previous, m) = (0.2, 0.6, 0.25f32);
        for x_t in [0usize, 1] {
            let mut one = 0.0;
            q.reverse(previous * (1.0 - beta), previous, &[1.0 - m, m], x_t, |k, v| {
                if k == 1 {
                    one = v;
                }
            });
            assert!((one - b.reverse(beta, previous, f64::from(m), x_t == 1)).abs() < 1e-15);
        }
        let (lower, upper) = q.reverse_entropy_bounds(0.48, 0.6, |k| [0.75, 0.25][k]);
        let want = b.reverse_entropy_bounds(0.48, 0.6, 0.25);
        assert!((lower - want.0).abs() < 1e-14 && (upper - want.1).abs() < 1e-14);
    }

    #[test]
    fn entropy_bounds_hold_and_nonsense_is_refused() {
        let data = [0.6, 0.0, 0.3, 0.1];
        for q in both() {
            let (abar, previous) = (0.35, 0.5);
            let before = |s: usize| (0..4).map(|k| data[k] * q.marginal(previous, k, s)).sum::<f64>();
            let mut exact = 0.0;
            for t in 0..4 {
                let joint = |s: usize| before(s) * q.forward(abar / previous, s, t);
                let total: f64 = (0..4).map(joint).sum();
                exact -= (0..4).map(|s| term(joint(s))).sum::<f64>() - term(total);
            }
            let (lower, upper) = q.reverse_entropy_bounds(abar, previous, |k| data[k]);
            assert!(lower <= exact && exact <= upper, "{q:?}: {lower} {exact} {upper}");
        }
        assert!(Categorical::uniform(1).is_err() && Categorical::absorbing(3, 3).is_err());
    }
}
