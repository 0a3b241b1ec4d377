//! Mean-field theory of deep networks (Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli 2016; Schoenholz, Gilmer,
//! Ganguli and Sohl-Dickstein 2017): how deep a signal reaches in a network that is not trained yet.
//!
//! Layers `z = W phi(z') + b` of N units, N large, with the entries of W normal of variance sigma_w^2 / N and those of
//! b of variance sigma_b^2. Then the entries of z are normal. Their variance q and the correlation c of two inputs'
//! follow from those of the layer before, with z_1, z_2 standard normal of correlation c:
//!
//! ```text
//! q <- sigma_w^2 E[phi(sqrt(q) z_1)^2] + sigma_b^2                                     the q-map, with the fixed point q*
//! c <- (sigma_w^2 E[phi(sqrt(q*) z_1) phi(sqrt(q*) z_2)] + sigma_b^2) / q*             the c-map, with the fixed point c*
//! chi(c) = sigma_w^2 E[phi'(sqrt(q*) z_1) phi'(sqrt(q*) z_2)],   chi_1 = chi(1)
//! ```
//!
//! chi_1 is what a layer multiplies the square of a small difference of two inputs by, and that of a gradient on its
//! way back. Below 1 inputs become alike and gradients vanish (order); above 1 like inputs part and gradients explode
//! (chaos); networks at its edge, chi_1 = 1, can be trained however deep they are. Away from it q and c near their
//! fixed points as exp(-layers / xi_q) and exp(-layers / xi_c).
//!
//! Orthogonal matrices times sigma_w have the same maps.
//!
//! # Accuracy
//! Of ReLU, leaky ReLU and erf all means are closed forms, to rounding. Of tanh they are sums over a grid with the
//! weight of the normal density (the trapezoidal rule), which is to quadrature on the line what Gauss and Hermite's
//! is, and better here: tanh(sqrt(q) z) has poles at the distance d = pi / (2 sqrt(q)) from the line, which leave the
//! grid of step h an error of exp(-2 pi d / h), below 1e-10 with the step that is taken, and Gauss and Hermite's n
//! nodes one of exp(-2 d sqrt(n)): 1e-4 for 200 nodes at q = 25.
//!
//! ```
//! use undiffuse::training::mean_field::{MeanField, Nonlinearity};
//!
//! // Half of the leaky ReLU network's signal is lost in each layer of orthogonal matrices.
//! let leaky = Nonlinearity::LeakyRelu { slope: 0.05 };
//! let plain = MeanField::new(leaky, 1.0, 0.0)?;
//! assert!((plain.chi_1() - 0.50125).abs() < 1e-12 && plain.xi_c() < 1.5);
//! let edge = MeanField::critical(leaky, 0.0)?;
//! assert!((edge.sigma_w() - 1.4124491).abs() < 1e-6 && edge.xi_c() == f64::INFINITY);
//! # Ok::<(), undiffuse::Error>(())
//! ```

use core::fmt;

use crate::error::{Result, ensure};
use crate::graph::Activation;

mod means;
#[cfg(test)]
mod tests;

/// The largest sigma_w and sigma_b: with it a correlation of tanh takes some ten milliseconds.
const MAX_SIGMA: f64 = 10.0;

/// Closer to 1 than this, a rate is 1: what is left of rounding at the edge of chaos.
const NEAR_ONE: f64 = 1e-9;

/// phi.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Nonlinearity {
    /// The hyperbolic tangent.
    Tanh,
    /// The error function, erf(x).
    Erf,
    /// x where positive, else `slope` x: 0 is ReLU.
    LeakyRelu {
        /// 0 up to, and without, 1.
        slope: f64,
    },
}

impl Nonlinearity {
    /// That of a network, if the theory here has it.
    pub fn of(activation: Activation) -> Option<Self> {
        match activation {
            Activation::Tanh => Some(Self::Tanh),
            Activation::Relu => Some(Self::LeakyRelu { slope: 0.0 }),
            // Through its digits: the f32 nearest to 0.05 is meant as 0.05.
            Activation::LeakyRelu { slope } if (0.0..1.0).contains(&slope) => {
                Some(Self::LeakyRelu { slope: (f64::from(slope) * 1e7 + 0.5).floor() / 1e7 })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Nonlinearity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tanh => f.write_str("tanh"),
            Self::Erf => f.write_str("erf"),
            Self::LeakyRelu { slope: 0.0 } => f.write_str("relu"),
            Self::LeakyRelu { slope } => write!(f, "leaky_relu of slope {slope}"),
        }
    }
}

/// Layers of one kind; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanField {
    phi: Nonlinearity,
    /// Variances of weights (times N) and biases.
    w: f64,
    b: f64,
    q_star: f64,
}

impl MeanField {
    /// Weights of deviation `sigma_w` / sqrt(N), biases of `sigma_b`.
    ///
    /// Errors: kind `InvalidArgument` unless `sigma_w` is above 0, `sigma_b` at least 0, neither above 10, and a slope
    /// in 0 .. 1.
    pub fn new(phi: Nonlinearity, sigma_w: f64, sigma_b: f64) -> Result<Self> {
        check(phi, sigma_b)?;
        ensure!(
            sigma_w > 0.0 && sigma_w <= MAX_SIGMA,
            InvalidArgument,
            "sigma_w is {sigma_w}, expected above 0 and at most {MAX_SIGMA}"
        );
        Ok(Self::of_variances(phi, sigma_w * sigma_w, sigma_b * sigma_b))
    }

    /// The layers with biases of `sigma_b` that stand at the edge of chaos. Of tanh and erf there are such for any
    /// `sigma_b`: at 0 with sigma_w = 1 and sqrt(pi) / 2.
    ///
    /// Errors: kind `InvalidArgument` unless `sigma_b` is 0 to 10; `Unsupported` for ReLU and leaky ReLU with biases,
    /// under which q grows without end where chi_1 is 1: their edge is sigma_w = sqrt(2 / (1 + slope^2)), sigma_b = 0.
    pub fn critical(phi: Nonlinearity, sigma_b: f64) -> Result<Self> {
        check(phi, sigma_b)?;
        let b = sigma_b * sigma_b;
        if let Nonlinearity::LeakyRelu { slope } = phi {
            ensure!(
                b == 0.0,
                Unsupported,
                "{phi} has its edge of chaos at sigma_b = 0 only, where q has a fixed point; sigma_b is {sigma_b}"
            );
            return Ok(Self::of_variances(phi, 2.0 / (1.0 + slope * slope), 0.0));
        }
        if b == 0.0 {
            let slope = phi.means(0.0).slopes;
            return Ok(Self { phi, w: 1.0 / slope, b, q_star: 0.0 });
        }
        // By q*: chi_1 = 1 gives sigma_w, the q-map then sigma_b, which rises with q.
        let excess = |q: f64| {
            let m = phi.means(q);
            q - m.square / m.slopes - b
        };
        let mut high = 1.0;
        while excess(high) < 0.0 {
            high *= 2.0;
        }
        let q_star = bisect(0.0, high, |q| excess(q) < 0.0);
        Ok(Self { phi, w: 1.0 / phi.means(q_star).slopes, b, q_star })
    }

    fn of_variances(phi: Nonlinearity, w: f64, b: f64) -> Self {
        let still = |q_star| Self { phi, w, b, q_star };
        if let Nonlinearity::LeakyRelu { .. } = phi {
            let rate = w * phi.means(1.0).slopes;
            return still(match b == 0.0 {
                true if near_one(rate) => 1.0,
                true if rate < 1.0 => 0.0,
                false if rate < 1.0 && !near_one(rate) => b / (1.0 - rate),
                _ => f64::INFINITY,
            });
        }
        if b == 0.0 && w * phi.means(0.0).slopes <= 1.0 {
            return still(0.0);
        }
        // phi^2 is below 1.
        still(bisect(0.0, w + b, |q| w * phi.means(q).square + b > q))
    }

    /// phi.
    pub fn nonlinearity(&self) -> Nonlinearity {
        self.phi
    }

    /// sigma_w.
    pub fn sigma_w(&self) -> f64 {
        libm::sqrt(self.w)
    }

    /// sigma_b.
    pub fn sigma_b(&self) -> f64 {
        libm::sqrt(self.b)
    }

    /// The variance after a layer whose input has the variance `q`, at least 0 and finite.
    pub fn q_map(&self, q: f64) -> f64 {
        self.w * self.phi.means(q).square + self.b
    }

    /// q*, the variance after many layers: 0 where signals fade, infinite where they grow without end, and 1 for ReLU
    /// and leaky ReLU at the edge of chaos, where every variance stays.
    pub fn q_star(&self) -> f64 {
        self.q_star
    }

    /// The correlation, after a layer, of two inputs whose correlation is `c`, -1 to 1, both with the variance q*.
    /// Where that is 0 or infinite, the limit.
    pub fn c_map(&self, c: f64) -> f64 {
        let c = c.clamp(-1.0, 1.0);
        match self.phi {
            phi if self.q_star > 0.0 && self.q_star < f64::INFINITY => {
                (self.w * phi.product(self.q_star, c) + self.b) / self.q_star
            }
            phi @ Nonlinearity::LeakyRelu { .. } => phi.product(1.0, c) / phi.means(1.0).square,
            // A line near 0.
            _ => c,
        }
    }

    /// chi at the correlation `c`, -1 to 1: the slope of the c-map where q* is neither 0 nor infinite.
    pub fn chi(&self, c: f64) -> f64 {
        self.w * self.phi.slope_product(self.q_for_means(), c.clamp(-1.0, 1.0))
    }

    /// chi_1. It is below 1 in the ordered phase and above it in the chaotic one.
    pub fn chi_1(&self) -> f64 {
        self.w * self.phi.means(self.q_for_means()).slopes
    }

    /// c*, the correlation of any two inputs after many layers: 1 in the ordered phase, below it in the chaotic one of
    /// tanh and erf. (ReLU and leaky ReLU have 1 in both, as q grows without end in chaos.)
    pub fn c_star(&self) -> f64 {
        if matches!(self.phi, Nonlinearity::LeakyRelu { .. }) || self.chi_1() <= 1.0 + NEAR_ONE {
            return 1.0;
        }
        // The c-map is convex from 0 to 1 and steeper than 1 at 1: it crosses once below.
        bisect(0.0, 1.0 - NEAR_ONE, |c| self.c_map(c) > c)
    }

    /// xi_q: the layers in which the distance of q from q* falls by e. Infinite where it does not, or by a power only.
    pub fn xi_q(&self) -> f64 {
        depth(self.w * self.phi.means(self.q_for_means()).square_slope)
    }

    /// xi_c: the layers in which the distance of c from c*, and in the ordered phase the square of a small difference
    /// and that of a gradient, falls by e. Infinite at the edge of chaos and where differences grow without end.
    pub fn xi_c(&self) -> f64 {
        match self.c_star() {
            1.0 => depth(self.chi_1()),
            c => depth(self.chi(c)),
        }
    }

    /// A variance at which the means of a homogeneous phi are what they are at all.
    fn q_for_means(&self) -> f64 {
        match self.phi {
            Nonlinearity::LeakyRelu { .. } => 1.0,
            _ => self.q_star,
        }
    }
}

fn check(phi: Nonlinearity, sigma_b: f64) -> Result<()> {
    if let Nonlinearity::LeakyRelu { slope } = phi {
        ensure!((0.0..1.0).contains(&slope), InvalidArgument, "a leaky ReLU of slope {slope}, expected 0 up to 1");
    }
    ensure!((0.0..=MAX_SIGMA).contains(&sigma_b), InvalidArgument, "sigma_b is {sigma_b}, expected 0 to {MAX_SIGMA}");
    Ok(())
}

fn near_one(rate: f64) -> bool {
    (rate - 1.0).abs() < NEAR_ONE
}

/// -1 / log(rate).
fn depth(rate: f64) -> f64 {
    if rate >= 1.0 - NEAR_ONE { f64::INFINITY } else { -1.0 / libm::log(rate) }
}

/// Where `below` turns from true to false between `low` and `high`, to rounding.
fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    // 53 halvings for the digits, the rest for results near 0.
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high || high - low < 1e-14 * high {
            break;
        }
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}
