//! The swiss roll, with its density and entropy.

use core::f64::consts::PI;

use super::{Dataset, draw, room};
use crate::error::{Result, ensure};
use crate::noise::Stream;
use crate::tensor::Dims;

/// Points (t cos t, t sin t) + noise (z1, z2), with t uniform in `from` .. `to` and z standard normal.
///
/// The default's range, 3 pi / 2 to 9 pi / 2, is that of scikit-learn's `make_swiss_roll`, seen from the side. Its
/// noise is small: without any, the points lie on a curve and have no density, so a bound on their log-likelihood means
/// something only beside [`SwissRoll::entropy`].
///
/// | noise | entropy, bits | scaled to unit variance (scl 0.1461), bits | truth - L_null, bits per point |
/// |---|---|---|---|
/// | 0.005 | 0.822 | -4.728 | 8.822 |
/// | 0.01 | 1.822 | -3.728 | 7.822 |
/// | 0.02 (default) | 2.822 | -2.728 | 6.822 |
/// | 0.05 | 4.144 | -1.406 | 5.500 |
/// | 0.1 | 5.146 | -0.405 | 4.499 |
///
/// L_null = -log2(2 pi e) = -4.094 bits is the log-likelihood of a standard normal that fits scaled points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SwissRoll {
    /// The first angle, which is also the radius, at least 0.
    pub from: f64,
    /// The last.
    pub to: f64,
    /// The standard deviation of the noise, at least 1e-4.
    pub noise: f64,
}

impl Default for SwissRoll {
    fn default() -> Self {
        Self { from: 1.5 * PI, to: 4.5 * PI, noise: 0.02 }
    }
}

impl SwissRoll {
    /// Kind `InvalidArgument` if the range is empty or not within 0 to 1000, or the noise not within 1e-4 to 1000.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.from >= 0.0 && self.from < self.to && self.to <= 1000.0,
            InvalidArgument,
            "a swiss roll from {} to {}, expected a range within 0 to 1000",
            self.from,
            self.to
        );
        ensure!(
            (1e-4..=1000.0).contains(&self.noise),
            InvalidArgument,
            "a swiss roll with noise {}, expected 1e-4 to 1000",
            self.noise
        );
        Ok(())
    }

    /// `count` points, `[2]` each. Point i takes the stream (seed, i, [`draw::GENERATE`]): t, then z1 and z2.
    ///
    /// Errors: those of [`SwissRoll::check`]; kind `InvalidArgument` for no point or too many; `OutOfMemory`.
    pub fn points(&self, seed: u64, count: usize) -> Result<Dataset> {
        self.check()?;
        ensure!(count > 0, InvalidArgument, "0 points, expected at least 1");
        let dims = Dims::new(&[2])?;
        let mut values = room("the swiss roll", count, &dims)?;
        for i in 0..count {
            let mut stream = Stream::new(seed, i as u64, draw::GENERATE);
            let (x, y) = curve(self.from + (self.to - self.from) * stream.uniform());
            values.push((x + self.noise * stream.normal()) as f32);
            values.push((y + self.noise * stream.normal()) as f32);
        }
        Dataset::new(dims, values)
    }

    /// The logarithm of the density at a point, in nats: ln of the mean over t of N((x, y); (t cos t, t sin t),
    /// noise^2).
    ///
    /// The integral is a sum over steps of a fifth of the integrand's width; it leaves out what is less than e^-40 of
    /// it. The error is below 1e-9 but within some noise of the curve's ends, where it is below 1e-3. NaN unless
    /// [`SwissRoll::check`] holds.
    pub fn log_density(&self, x: f64, y: f64) -> f64 {
        if self.check().is_err() {
            return f64::NAN;
        }
        let (radius, angle) = (libm::hypot(x, y), libm::atan2(y, x));
        let square = |t: f64| {
            let (cx, cy) = curve(t);
            (x - cx) * (x - cx) + (y - cy) * (y - cy)
        };
        // A point of the curve at this angle is near the nearest one. Points of t lie |radius - t| away at least.
        let mut near = square(self.from).min(square(self.to));
        let turns =
            libm::floor((self.from - angle) / (2.0 * PI)) as i64..=libm::ceil((self.to - angle) / (2.0 * PI)) as i64;
        for turn in turns {
            near = near.min(square((angle + 2.0 * PI * turn as f64).clamp(self.from, self.to)));
        }
        let variance = self.noise * self.noise;
        let reach = libm::sqrt(near + 80.0 * variance);
        let (low, high) = (self.from.max(radius - reach), self.to.min(radius + reach));
        let width = self.noise / libm::sqrt(1.0 + high * high);
        let steps = libm::ceil((high - low) / (0.2 * width)).max(1.0);
        let step = (high - low) / steps;
        let sum: f64 = (0..steps as u64)
            .map(|i| {
                let t = low + (i as f64 + 0.5) * step;
                libm::exp((near - square(t)) / (2.0 * variance))
            })
            .sum();
        libm::log(sum * step / (self.to - self.from)) - near / (2.0 * variance) - libm::log(2.0 * PI * variance)
    }

    /// The differential entropy of the points in nats, integrated numerically: over `parts` values of t and a grid of
    /// the noise. 128 parts give three digits or more. Values scaled by `scl` have 2 ln scl more.
    ///
    /// Errors: those of [`SwissRoll::check`]; kind `InvalidArgument` for no part.
    pub fn entropy(&self, parts: u32) -> Result<f64> {
        self.check()?;
        ensure!(parts > 0, InvalidArgument, "an integral of 0 parts, expected at least 1");
        // The rule of equal steps converges faster than any power for a normal weight: 17 points of a step of 0.7.
        let (step, points) = (0.7, 8i32);
        let node = |i: i32| {
            let z = step * f64::from(i);
            (z, step * libm::exp(-0.5 * z * z) / libm::sqrt(2.0 * PI))
        };
        let mut sum = 0.0;
        for part in 0..parts {
            let t = self.from + (self.to - self.from) * (f64::from(part) + 0.5) / f64::from(parts);
            let (x, y) = curve(t);
            for (z1, w1) in (-points..=points).map(node) {
                for (z2, w2) in (-points..=points).map(node) {
                    sum -= w1 * w2 * self.log_density(x + self.noise * z1, y + self.noise * z2);
                }
            }
        }
        Ok(sum / f64::from(parts))
    }
}

fn curve(t: f64) -> (f64, f64) {
    (t * libm::cos(t), t * libm::sin(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_density_integrates_to_one() {
        let roll = SwissRoll { from: 1.0, to: 6.0, noise: 0.3 };
        let (n, side) = (200, 9.0);
        let at = |i: i32| side * ((f64::from(i) + 0.5) / f64::from(n) * 2.0 - 1.0);
        let mut sum = 0.0;
        for i in 0..n {
            sum += (0..n).map(|j| libm::exp(roll.log_density(at(i), at(j)))).sum::<f64>();
        }
        let cell = 2.0 * side / f64::from(n);
        assert!((sum * cell * cell - 1.0).abs() < 1e-5, "{}", sum * cell * cell);
    }

    #[test]
    fn the_entropy_is_that_of_its_points() {
        for (roll, n) in [(SwissRoll::default(), 2000), (SwissRoll { from: 1.0, to: 6.0, noise: 0.5 }, 4000)] {
            let h = roll.entropy(64).unwrap();
            assert!(roll.noise != 0.02 || (h / core::f64::consts::LN_2 - 2.822).abs() < 1e-3, "{h}");
            let points = roll.points(3, n).unwrap();
            let logs: std::vec::Vec<f64> = (0..n)
                .map(|i| {
                    let p = points.sample(i);
                    -roll.log_density(f64::from(p[0]), f64::from(p[1]))
                })
                .collect();
            let mean = logs.iter().sum::<f64>() / n as f64;
            let variance = logs.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
            let error = libm::sqrt(variance / n as f64);
            assert!((mean - h).abs() < 4.0 * error, "{mean} +- {error}, integrated {h}");
        }
    }

    #[test]
    fn a_wide_noise_makes_a_normal() {
        // Much wider than the curve: close to N(mean, noise^2 + variance of the curve), whose entropy is known.
        let roll = SwissRoll { from: 0.0, to: 1e-3, noise: 1.0 };
        assert!((roll.entropy(4).unwrap() - (1.0 + libm::log(2.0 * PI))).abs() < 1e-6);
        assert!((roll.log_density(0.5, -0.25) + libm::log(2.0 * PI) + 0.5 * (0.25 + 0.0625)).abs() < 1e-3);
    }

    #[test]
    fn nonsense_is_refused() {
        for (from, to, noise) in
            [(-1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.0, 1e9, 1.0), (0.0, 1.0, 0.0), (0.0, f64::NAN, 1.0)]
        {
            let roll = SwissRoll { from, to, noise };
            assert!(roll.points(0, 1).is_err() && roll.entropy(1).is_err() && roll.log_density(0.0, 0.0).is_nan());
        }
        assert!(SwissRoll::default().points(0, 0).is_err());
    }
}
