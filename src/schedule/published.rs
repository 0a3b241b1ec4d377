//! Grids of sigmas that are published as tables or by a recipe of a program.

use alloc::vec::Vec;

use super::grid::{SigmaTable, linspace};
use crate::error::{Result, ensure};

/// Sigmas that were fitted to a model by the error of ten steps (Sabour et al. 2024, "Align Your Steps"), as NVIDIA
/// publishes them: those of the calls, and the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlignYourSteps {
    /// Stable Diffusion 1.5, from sigma 14.615.
    StableDiffusion,
    /// Stable Diffusion XL, from sigma 14.615.
    StableDiffusionXl,
    /// Stable Video Diffusion, from sigma 700: for networks that are told ln(sigma) / 4.
    StableVideoDiffusion,
}

const STABLE_DIFFUSION: [f64; 11] = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029];
const STABLE_DIFFUSION_XL: [f64; 11] = [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029];
const STABLE_VIDEO_DIFFUSION: [f64; 11] = [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002];

impl AlignYourSteps {
    /// All of them, with the names that the command line uses.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("ays-sd15", Self::StableDiffusion),
        ("ays-sdxl", Self::StableDiffusionXl),
        ("ays-svd", Self::StableVideoDiffusion),
    ];

    /// The table, 11 sigmas.
    pub fn table(self) -> &'static [f64; 11] {
        match self {
            Self::StableDiffusion => &STABLE_DIFFUSION,
            Self::StableDiffusionXl => &STABLE_DIFFUSION_XL,
            Self::StableVideoDiffusion => &STABLE_VIDEO_DIFFUSION,
        }
    }

    /// `steps` + 1 sigmas: the table for 10, others by interpolation in ln sigma, as NVIDIA and ComfyUI do. The last is
    /// the table's smallest, in whose place solvers that end without noise take 0.
    ///
    /// Errors: kind `InvalidArgument` for no steps.
    pub fn sigmas(self, steps: usize) -> Result<Vec<f64>> {
        ensure!(steps > 0, InvalidArgument, "the number of steps is 0, expected 1 or more");
        let table = self.table();
        let last = table.len() - 1;
        let at = |place: f64| {
            let low = (place as usize).min(last - 1);
            let part = place - low as f64;
            match table.get(low..) {
                // What stands in the table is not taken to its logarithm and back.
                Some([a, ..]) if part == 0.0 => *a,
                Some([_, b, ..]) if part == 1.0 => *b,
                Some([a, b, ..]) => libm::exp(libm::log(*a) + part * (libm::log(*b) - libm::log(*a))),
                _ => 0.0,
            }
        };
        Ok(linspace(0.0, last as f64, steps.saturating_add(1)).into_iter().map(at).collect())
    }
}

/// Sigmas whose logarithm falls as a power of the step, from `top` to `bottom`: exp(ramp^rho (ln top - ln bottom) + ln
/// bottom), with ramp from 1 to 0 (k-diffusion's `get_sigmas_polyexponential`). With rho 1 evenly.
///
/// Errors (kind `InvalidArgument`): a range that is not 0 < bottom <= top, or a rho that is not above 0.
pub fn polyexponential(bottom: f64, top: f64, n: usize, rho: f64) -> Result<Vec<f64>> {
    ensure!(
        bottom > 0.0 && top >= bottom && top.is_finite(),
        InvalidArgument,
        "sigmas from {top} to {bottom}, expected to fall and to stay above 0"
    );
    ensure!(rho > 0.0 && rho.is_finite(), InvalidArgument, "rho is {rho}, expected above 0");
    let (low, high) = (libm::log(bottom), libm::log(top));
    Ok(linspace(1.0, 0.0, n).into_iter().map(|r| libm::exp(libm::pow(r, rho) * (high - low) + low)).collect())
}

impl SigmaTable {
    /// n timesteps of the training, the last and every T / n before it, cut (ComfyUI's scheduler `simple`).
    ///
    /// Errors: kind `InvalidArgument` for none, or more than T.
    pub fn simple(&self, n: usize) -> Result<Vec<u32>> {
        let train = self.len();
        ensure!((1..=train).contains(&n), InvalidArgument, "the number of steps is {n}, expected 1 to {train}");
        let stride = train as f64 / n as f64;
        Ok((0..n).map(|i| (train - 1).saturating_sub((i as f64 * stride) as usize) as u32).collect())
    }
}
