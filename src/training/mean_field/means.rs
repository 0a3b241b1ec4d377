//! Means over normal values, which the maps are made of.

use alloc::vec::Vec;
use core::f64::consts::{FRAC_2_PI, PI};

use super::Nonlinearity;

/// With z standard normal.
pub(super) struct Means {
    /// E[phi(sqrt(q) z)^2].
    pub square: f64,
    /// Its derivative by q, E[phi'^2 + phi phi''].
    pub square_slope: f64,
    /// E[phi'(sqrt(q) z)^2].
    pub slopes: f64,
}

impl Nonlinearity {
    pub(super) fn means(self, q: f64) -> Means {
        match self {
            Self::LeakyRelu { slope } => {
                let half = 0.5 * (1.0 + slope * slope);
                Means { square: half * q, square_slope: half, slopes: half }
            }
            // Williams 1998.
            Self::Erf => Means {
                square: FRAC_2_PI * libm::asin(2.0 * q / (1.0 + 2.0 * q)),
                square_slope: 2.0 * FRAC_2_PI / ((1.0 + 2.0 * q) * libm::sqrt(1.0 + 4.0 * q)),
                slopes: 2.0 * FRAC_2_PI / libm::sqrt(1.0 + 4.0 * q),
            },
            Self::Tanh => {
                let (mut m, root) = (Means { square: 0.0, square_slope: 0.0, slopes: 0.0 }, libm::sqrt(q));
                for (z, weight) in grid(root) {
                    let phi = libm::tanh(root * z);
                    let slope = 1.0 - phi * phi;
                    m.square += weight * phi * phi;
                    m.slopes += weight * slope * slope;
                    m.square_slope += weight * (slope * slope - 2.0 * phi * phi * slope);
                }
                m
            }
        }
    }

    /// E[phi(sqrt(q) z_1) phi(sqrt(q) z_2)], z_1 and z_2 of correlation c.
    pub(super) fn product(self, q: f64, c: f64) -> f64 {
        match self {
            Self::LeakyRelu { slope } => {
                // Cho and Saul 2009 of ReLU; leaky ReLU is slope x + (1 - slope) ReLU.
                let relu = (libm::sqrt(1.0 - c * c) + c * (PI - libm::acos(c))) / (2.0 * PI);
                q * ((1.0 - slope) * (1.0 - slope) * relu + slope * c)
            }
            Self::Erf => FRAC_2_PI * libm::asin(2.0 * q * c / (1.0 + 2.0 * q)),
            Self::Tanh => pairs(q, c, libm::tanh),
        }
    }

    /// The same of phi'.
    pub(super) fn slope_product(self, q: f64, c: f64) -> f64 {
        match self {
            Self::LeakyRelu { slope } => (1.0 - slope) * (1.0 - slope) * (PI - libm::acos(c)) / (2.0 * PI) + slope,
            Self::Erf => {
                let (a, b) = (1.0 + 2.0 * q, 2.0 * q * c);
                2.0 * FRAC_2_PI / libm::sqrt((a - b) * (a + b))
            }
            Self::Tanh => pairs(q, c, |x| {
                let phi = libm::tanh(x);
                1.0 - phi * phi
            }),
        }
    }
}

/// E[f(sqrt(q) z_1) f(sqrt(q) z_2)], z_1 and z_2 of correlation c.
pub(super) fn pairs(q: f64, c: f64, f: impl Fn(f64) -> f64) -> f64 {
    let (root, rest) = (libm::sqrt(q), libm::sqrt(1.0 - c * c));
    let points: Vec<(f64, f64)> = grid(root).collect();
    let of = |&(z, weight): &(f64, f64)| {
        let inner: f64 = points.iter().map(|(y, weight)| weight * f(root * (c * z + rest * y))).sum();
        weight * f(root * z) * inner
    };
    points.iter().map(of).sum()
}

/// Points z from -8.5 to 8.5 and the normal density there times their distance, for functions of `root` z with poles
/// no nearer to the line than those of tanh.
fn grid(root: f64) -> impl Iterator<Item = (f64, f64)> {
    const END: f64 = 8.5;
    // exp(-2 pi d / h) = exp(-36), d = pi / (2 root), which leaves room for poles of the fourth order; the density
    // alone allows 0.4.
    let step = (PI * PI / (36.0 * root)).min(0.4);
    let half = (END / step) as i32;
    let scale = step / libm::sqrt(2.0 * PI);
    (-half..=half).map(move |i| {
        let z = step * f64::from(i);
        (z, scale * libm::exp(-0.5 * z * z))
    })
}
