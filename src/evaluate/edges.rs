//! The ends of the chain: what stands for p(x^0 | x^1) and p(x^T), for one data point. Sums over its elements, nats.

use core::f64::consts::{LN_2, PI, SQRT_2};

use crate::process::{Binomial, Categorical, bernoulli_entropy, normal_entropy};
use crate::sampler::{Spread, classes_of};

/// H_start, H_end and H_prior of one data point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ends {
    pub start: f64,
    pub end: f64,
    pub prior: f64,
}

/// Real numbers, with beta_1 and abar_T. `white` evaluates the point itself, in place of white data.
///
/// In a white chain the forward step reversed is N(sqrt(1 - beta_1) x^1, beta_1), of which -E log is
/// H(beta_1) + beta_1 (x_0^2 - 1) / 2; and -E log N(x^T; 0, 1) is H(1) + abar_T (x_0^2 - 1) / 2.
pub(super) fn gaussian(x0: &[f32], beta: f64, alpha_bar: f64, white: bool) -> Ends {
    let n = x0.len() as f64;
    let mut ends = Ends {
        start: n * normal_entropy(beta),
        end: n * normal_entropy(1.0 - alpha_bar),
        prior: n * normal_entropy(1.0),
    };
    if white {
        let excess = x0.iter().map(|&v| f64::from(v) * f64::from(v) - 1.0).sum::<f64>() / 2.0;
        ends.start += beta * excess;
        ends.prior += alpha_bar * excess;
    }
    ends
}

/// Bits. The forward step reversed in a chain at chance pi is the forward step again, x^1 to x^0.
pub(super) fn binomial(x0: &[f32], process: &Binomial, beta: f64, alpha_bar: f64, white: bool) -> Ends {
    // For x_0 = 0 and 1.
    let each = [0.0, 1.0].map(|x0| {
        let (first, last) = (process.forward(beta, x0), process.marginal(alpha_bar, x0));
        let start = if white {
            // x^1 is 1 with chance `first`; x^0 follows from it by the same kernel.
            let back = |x1: f64| {
                let one = process.forward(beta, x1);
                if x0 == 1.0 { one } else { 1.0 - one }
            };
            -(first * libm::log(back(1.0)) + (1.0 - first) * libm::log(back(0.0)))
        } else {
            bernoulli_entropy(first)
        };
        let pi = process.pi();
        let prior =
            if white { -(last * libm::log(pi) + (1.0 - last) * libm::log(1.0 - pi)) } else { bernoulli_entropy(pi) };
        Ends { start, end: bernoulli_entropy(last), prior }
    });
    let mut sum = Ends::default();
    for &x in x0 {
        let e = if x >= 0.5 { each[1] } else { each[0] };
        sum = Ends { start: sum.start + e.start, end: sum.end + e.end, prior: sum.prior + e.prior };
    }
    sum
}

/// Classes, of one-hot rows: H_start is the network's. With a mask abar_T is 0, and x_T is known.
pub(super) fn categorical(x0: &[f32], process: &Categorical, alpha_bar: f64) -> Ends {
    let prior = if process.mask().is_some() { 0.0 } else { libm::log(process.classes() as f64) };
    classes_of(x0, process.classes()).fold(Ends::default(), |sum, class| Ends {
        start: 0.0,
        end: sum.end + process.entropy(alpha_bar, class),
        prior: sum.prior + prior,
    })
}

/// The standard deviation of an element where the chain adds none: it is that of beta_1.
pub(super) fn last_std(spread: Spread, stds: &[f32], element: usize, beta: f64) -> f64 {
    match spread {
        Spread::Scalar(std) => f64::from(std),
        Spread::PerElement => stds.get(element).map_or(f64::NAN, |s| f64::from(*s)),
        Spread::None | Spread::Langevin { .. } | Spread::Bits | Spread::Classes { .. } => libm::sqrt(beta),
    }
}

/// log of the mass of N(mean, std^2) in the bin of `x`, one of `levels` evenly spread over [-1, 1].
pub(super) fn log_bin(x: f64, mean: f64, std: f64, levels: u32) -> f64 {
    let half = 1.0 / (f64::from(levels) - 1.0);
    let lower = if x <= -1.0 + half { f64::NEG_INFINITY } else { (x - half - mean) / std };
    let upper = if x >= 1.0 - half { f64::INFINITY } else { (x + half - mean) / std };
    // Both ends on the side where the tails are small: mass = (erfc(a) - erfc(b)) / 2 with a < b.
    let (a, b) = if lower + upper < 0.0 { (-upper, -lower) } else { (lower, upper) };
    if a < -1.0 {
        // Most of the mass: from what is missing on both sides.
        return libm::log1p(-0.5 * (libm::erfc(-a / SQRT_2) + libm::erfc(b / SQRT_2)));
    }
    let (near, far) = (log_erfc(a / SQRT_2), log_erfc(b / SQRT_2));
    near - LN_2 + libm::log1p(-libm::exp(far - near))
}

/// log erfc(x); beyond 20, where erfc is near the end of f64, by its asymptotic series (relative error below 1e-8).
fn log_erfc(x: f64) -> f64 {
    if x < 20.0 {
        return libm::log(libm::erfc(x));
    }
    if x == f64::INFINITY {
        return f64::NEG_INFINITY;
    }
    let r = 1.0 / (2.0 * x * x);
    -x * x - libm::log(x * libm::sqrt(PI)) + libm::log1p(-r + 3.0 * r * r)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_all_the_mass() {
        for (mean, std) in [(0.0, 1.0), (0.3, 0.01), (-0.98, 0.004), (1.7, 0.05), (0.5, 30.0)] {
            let total: f64 = (0..256).map(|i| libm::exp(log_bin(f64::from(i) / 127.5 - 1.0, mean, std, 256))).sum();
            assert!((total - 1.0).abs() < 1e-9, "{mean} {std}: {total}");
        }
        // Far out: 50 deviations; the bin's mass is nearly that beyond its near side, -z^2/2 - log(z sqrt(2 pi)).
        let z = (0.8 - 1.0 / 255.0) / 0.016;
        let want = -z * z / 2.0 - libm::log(z * libm::sqrt(2.0 * PI)) - 1.0 / (z * z);
        let got = log_bin(0.8, 0.0, 0.016, 256);
        assert!((got - want).abs() < 1e-4, "{got} {want}");
        let mirrored = log_bin(-0.8, 0.0, 0.016, 256);
        assert!((got - mirrored).abs() < 1e-9);
    }

    #[test]
    fn both_ways_agree_on_white_data() {
        // Points whose squares average to 1, bits that are 1 as often as pi says.
        let x = [1.0f32, -1.0, 1.0, -1.0];
        assert_eq!(gaussian(&x, 0.02, 0.1, false), gaussian(&x, 0.02, 0.1, true));
        let b = Binomial::new(0.25).unwrap();
        let bits = [1.0f32, 0.0, 0.0, 0.0];
        let (paper, white) = (binomial(&bits, &b, 0.1, 0.3, false), binomial(&bits, &b, 0.1, 0.3, true));
        assert!((paper.start - white.start).abs() < 1e-12 && (paper.prior - white.prior).abs() < 1e-12);
        assert_eq!(paper.end, white.end);
        assert!((binomial(&[1.0; 4], &b, 0.1, 0.3, true).start - 4.0 * paper.start / 4.0).abs() > 0.1);
    }
}
