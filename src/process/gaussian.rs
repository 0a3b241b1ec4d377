//! The forward process q(x_t | x_0) and its posterior q(x_s | x_t, x_0).

use crate::error::{Result, ensure};
use crate::schedule::{Arithmetic, Level, Real};

/// Draws from q(x_t | x_0): writes alpha x_0 + sigma z to `out`, for standard normal `z`. All of one length; elements
/// are f32, the level's factors are rounded once. One forward step q(x_t | x_(t-1)) is the level whose abar is 1 -
/// beta_t.
///
/// Errors: kind `Shape` for different lengths.
///
/// ```
/// use undiffuse::{process::add_noise, schedule::Level};
///
/// let mut x_t = [0.0; 2];
/// add_noise(&Level::variance_preserving(0.0, 0.75), &[1.0, -1.0], &[0.0, 2.0], &mut x_t)?;
/// assert_eq!(x_t, [0.75f32.sqrt(), 1.0 - 0.75f32.sqrt()]);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn add_noise(level: &Level, x0: &[f32], z: &[f32], out: &mut [f32]) -> Result<()> {
    combine("add_noise", level.alpha, level.sigma, x0, z, out)
}

/// v = alpha eps - sigma x_0 (Salimans and Ho 2022), written to `out`. Lengths, errors and accuracy as [`add_noise`].
pub fn velocity(level: &Level, x0: &[f32], eps: &[f32], out: &mut [f32]) -> Result<()> {
    combine("velocity", -level.sigma, level.alpha, x0, eps, out)
}

fn combine(name: &str, of_x0: f64, of_z: f64, x0: &[f32], z: &[f32], out: &mut [f32]) -> Result<()> {
    ensure!(
        x0.len() == out.len() && z.len() == out.len(),
        Shape,
        "{name} got {} and {} values, expected {} of both",
        x0.len(),
        z.len(),
        out.len()
    );
    let (of_x0, of_z) = (of_x0 as f32, of_z as f32);
    out.iter_mut().zip(x0).zip(z).for_each(|((out, x0), z)| *out = of_x0 * x0 + of_z * z);
    Ok(())
}

/// The moments of q(x_s | x_t, x_0) for s before t (Ho 2020, eq. 6 and 7, between any two levels):
/// mean = x0 * x_0 + x * x_t, and the variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// sqrt(abar_s) beta / (1 - abar_t).
    pub x0: f64,
    /// sqrt(1 - beta) (1 - abar_s) / (1 - abar_t).
    pub x: f64,
    /// (1 - abar_s) / (1 - abar_t) beta.
    pub variance: f64,
    /// 1 - abar_t / abar_s: the variance of one forward step from s to t.
    pub beta: f64,
}

impl Posterior {
    /// The moments between the levels of `alpha_bar` (t) and `previous` (s), in the arithmetic of a schedule. Not
    /// finite for `alpha_bar` = 1 or `previous` = 0.
    pub fn new(alpha_bar: f64, previous: f64, arithmetic: Arithmetic) -> Self {
        match arithmetic {
            Arithmetic::Float32 => moments::<f32>(alpha_bar, previous),
            Arithmetic::Float64 => moments::<f64>(alpha_bar, previous),
        }
    }
}

fn moments<R: Real>(alpha_bar: f64, previous: f64) -> Posterior {
    let (abar, previous) = (R::of(alpha_bar), R::of(previous));
    let one_minus = R::ONE - abar;
    let one_minus_previous = R::ONE - previous;
    let alpha = abar / previous;
    let beta = R::ONE - alpha;
    Posterior {
        x0: (previous.sqrt() * beta / one_minus).f64(),
        x: (alpha.sqrt() * one_minus_previous / one_minus).f64(),
        variance: (one_minus_previous / one_minus * beta).f64(),
        beta: beta.f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posterior_is_bayes() {
        // q(x_s | x_t, x_0) is proportional to N(x_s; sqrt(abar_s) x_0, 1 - abar_s) N(x_t; sqrt(1 - beta) x_s, beta).
        for (abar, previous) in [(0.5, 0.9), (0.001, 0.002), (0.99, 0.995)] {
            let p = Posterior::new(abar, previous, Arithmetic::Float64);
            let alpha = abar / previous;
            let precision = 1.0 / (1.0 - previous) + alpha / (1.0 - alpha);
            assert!((p.variance * precision - 1.0).abs() < 1e-12);
            assert!((p.x - libm::sqrt(alpha) / (1.0 - alpha) / precision).abs() < 1e-12);
            assert!((p.x0 - libm::sqrt(previous) / (1.0 - previous) / precision).abs() < 1e-12);
            let rough = Posterior::new(abar, previous, Arithmetic::Float32);
            assert!((rough.x - p.x).abs() < 1e-4 && (rough.variance - p.variance).abs() < 1e-4 * p.variance + 1e-6);
        }
        let last = Posterior::new(0.9, 1.0, Arithmetic::Float64);
        assert_eq!((last.x0, last.x, last.variance), (1.0, 0.0, 0.0));
    }

    #[test]
    fn velocity_is_orthogonal_to_the_noised_sample() {
        let level = Level::variance_preserving(0.0, 0.3);
        let (x0, eps) = ([0.4f32, -0.7], [1.1f32, 0.2]);
        let (mut x, mut v) = ([0.0; 2], [0.0; 2]);
        add_noise(&level, &x0, &eps, &mut x).unwrap();
        velocity(&level, &x0, &eps, &mut v).unwrap();
        for i in 0..2 {
            // Rotating (x, v) back gives (x_0, eps).
            let back = level.alpha as f32 * x[i] - level.sigma as f32 * v[i];
            assert!((back - x0[i]).abs() < 1e-6);
        }
        assert!(add_noise(&level, &x0, &eps[..1], &mut x).is_err());
    }
}
