//! How noisy a sample is.

/// A noise level: x = alpha x_0 + sigma eps, and the number by which the network knows it.
///
/// Variance-preserving processes (DDPM, DDIM) have alpha^2 + sigma^2 = 1, variance-exploding ones alpha = 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// What the network is told, in the unit it was trained with (0 to T - 1 for diffusers' discrete models).
    pub timestep: f64,
    /// The factor of x_0.
    pub alpha: f64,
    /// The factor of the noise.
    pub sigma: f64,
}

impl Level {
    /// x_0 itself.
    pub const CLEAN: Self = Self { timestep: 0.0, alpha: 1.0, sigma: 0.0 };

    /// The level of a variance-preserving process at k-diffusion's `sigma`: alpha = 1 / sqrt(1 + sigma^2), sigma alpha.
    pub fn preserving_at(timestep: f64, sigma: f64) -> Self {
        let alpha = 1.0 / libm::sqrt(1.0 + sigma * sigma);
        Self { timestep, alpha, sigma: sigma * alpha }
    }

    /// The level of a variance-exploding process: x = x_0 + sigma eps.
    pub fn exploding(timestep: f64, sigma: f64) -> Self {
        Self { timestep, alpha: 1.0, sigma }
    }

    /// The level of a straight path: x = (1 - sigma) x_0 + sigma eps.
    pub fn flow(timestep: f64, sigma: f64) -> Self {
        Self { timestep, alpha: 1.0 - sigma, sigma }
    }

    /// The level of a variance-preserving process: alpha = sqrt(abar), sigma = sqrt(1 - abar), for abar in 0..=1.
    pub fn variance_preserving(timestep: f64, alpha_bar: f64) -> Self {
        Self { timestep, alpha: libm::sqrt(alpha_bar), sigma: libm::sqrt(1.0 - alpha_bar) }
    }

    /// abar = alpha^2 / (alpha^2 + sigma^2): the cumulative product, in the variance-preserving scale.
    pub fn alpha_bar(&self) -> f64 {
        let (a, s) = (self.alpha * self.alpha, self.sigma * self.sigma);
        a / (a + s)
    }

    /// sqrt(alpha^2 + sigma^2), what x is multiplied by beside that of a variance-preserving process with as much
    /// noise: x is scale times sqrt(abar) x_0 + sqrt(1 - abar) eps with abar = [`alpha_bar`](Self::alpha_bar). 1 where
    /// variance is preserved. What is published for the one is mapped to the others by it: gradients by x are divided
    /// by it, shifts of x multiplied.
    pub fn scale(&self) -> f64 {
        libm::sqrt(self.alpha * self.alpha + self.sigma * self.sigma)
    }

    /// sigma / alpha: the noise level where x_0 has factor 1 (EDM's and k-diffusion's sigma). Infinite for alpha = 0.
    pub fn noise_to_signal(&self) -> f64 {
        self.sigma / self.alpha
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variance_is_preserved() {
        for abar in [0.0, 1e-4, 0.3, 0.9999, 1.0] {
            let l = Level::variance_preserving(3.0, abar);
            assert!((l.alpha_bar() - abar).abs() < 1e-15 && (l.scale() - 1.0).abs() < 1e-15);
            assert!((l.noise_to_signal() - libm::sqrt((1.0 - abar) / abar)).abs() < 1e-12 || abar == 0.0);
            for other in [Level::exploding(0.0, l.noise_to_signal()), Level::flow(0.0, l.sigma / (l.alpha + l.sigma))] {
                let (a, s) = (other.scale() * l.alpha, other.scale() * l.sigma);
                assert!(abar == 0.0 || ((a - other.alpha).abs() < 1e-12 && (s - other.sigma).abs() < 1e-9));
            }
        }
    }
}
