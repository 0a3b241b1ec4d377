//! Sampling from p(x) r(x): a pretrained model p times evidence r.
//!
//! Evidence is mostly a noisy measurement y = A x_0 + s n: an [`operator`] A with what it saw is a [`Measurement`]. A
//! is linear; what is not goes with [`Dps`], [`Daps`], [`RedDiff`] and [`Sitcom`] alone, which go by its derivative. A
//! method is an [`Evidence`]: the chain calls it at three places of each step and gives it what it needs. Nothing here
//! calls a network or draws noise of its own accord.
//!
//! # Which method
//! [`Calibrated`] samples the posterior of a Gaussian prior; of others it is as near as one Gaussian at each level can
//! be, which is far where modes are undecided (the mixture below: 18 to 40 % off in the mean). It is the one to take
//! for pictures where derivatives are at hand. [`SplitGibbs`] is right for priors of any shape, a few per cent in 160
//! to 250 calls, where the values are few or the noise is large; [`Particles`](crate::chain::Particles) are too,
//! without derivatives, and take many. `examples/signals` has methods on signals with jumps and heavy tails, with the
//! coverage of their sets. The others are here because they are published, cheap or both; each page says what it
//! samples. [`Evidence::recommended`] gives the sampler and the number of steps that each is best run with. Their error
//! on a correlated Gaussian prior of 8 elements whose posterior is known (relative error of the mean / of the
//! covariance, in %; `tests/posterior/methods.rs` prints it):
//!
//! | method | calls | products a step | denoising, s 0.5 | inpainting, s 0.1 | dense A, s 0.3 | samplers |
//! |---|---|---|---|---|---|---|
//! | none: the prior | 1000 | 0 | 135 / 513 | 142 / 358 | 102 / 423 | |
//! | [`Ddrm`], eta 0.85 | 20 | 0 | 1 / 68 | 30 / 28 | 10 / 31 | DDIM with noise, DDPM `fixed_small` |
//! | [`Ddrm`], eta 0.85 | 1000 | 0 | 19 / 91 | 2 / 24 | 13 / 32 | |
//! | [`Ddrm::ddnm_plus`], DDPM | 1000 | 0 | 25 / 99 | 29 / 26 | 19 / 30 | as [`Ddrm`] |
//! | [`DiffPir`], zeta 1 | 100 | 0 | 2 / 57 | 7 / 50 | 3 / 51 | any of real numbers |
//! | [`DiffPir`], zeta 0.25 | 100 | 0 | 6 / 24 | 24 / 22 | 9 / 17 | |
//! | [`Pigdm`], published | 100 | 1 | 28 / 80 | 13 / 22 | 23 / 29 | any of real numbers |
//! | [`Pigdm`], score | 1000 | 1 | 8 / 6 | 3 / 4 | 6 / 4 | |
//! | [`Tmpd`] | 1000 | 2 | 6 / 4 | 2 / 1 | 24 / 27 | any of real numbers |
//! | [`Daps`], 20 Langevin steps | 195 | 0 | 8 / 22 | 16 / 25 | 11 / 31 | its own, DDIM with eta 1 of the level |
//!
//! # Which variance
//! The tables are of chains of many steps. In few, a step's own variance is what matters: the reverse step of a coarse
//! grid has the covariance of x_0 given x_t in it. [`Calibrated`] adds it, also given y, and [`OptimalVariance`] and
//! [`SplitGibbs`] do for samples of the model alone: of a Gaussian prior any number of steps has the right variances.
//! All other methods have the sampler's: `fixed_small` too small, by half in 36 steps (`tests/posterior/variance.rs`:
//! 0.46 to 0.71 of a prior's variances in 36 steps of DDPM, 0.60 to 0.84 of DDIM's with eta 0), `fixed_large` too
//! large, 1.13 to 1.65, on top of their own. [`Ddrm`], [`Ddnm`] and [`DiffPir`] forget eps, wholly or in part, at each
//! step, and so have less variance the fewer their steps, whatever the sampler says; [`Dps`] and [`Mcg`] shrink the
//! more the larger zeta is.
//!
//! The same for a correlated prior of 2 elements, by 20,000 samples of each method
//! (`cargo run --release --example posterior_table` prints it, with priors of 8 elements and a mixture besides); 1.4 /
//! 0.8 is what exact draws are off by:
//!
//! | method | denoising, s 0.5 | inpainting, s 0.1 | dense A, s 0.3 |
//! |---|---|---|---|
//! | none: the prior | 128 / 496 | 103 / 417 | 119 / 613 |
//! | [`Calibrated`], DDIM 1000 | 0.8 / 0.8 | 1.0 / 0.3 | 0.6 / 0.6 |
//! | [`Calibrated`], DDPM 1000 | 1.6 / 2.0 | 1.0 / 2.6 | 1.2 / 1.6 |
//! | 20,000 [`Particles`](crate::chain::Particles), DDPM 1000 | 1.4 / 1.1 | 2.1 / 0.1 | 0.6 / 0.9 |
//! | [`CalibratedWhite`], DDPM 1000 | 9 / 17 | 13 / 52 | 5 / 17 |
//! | [`ExactProduct`], constant, DDPM 1000 | 17 / 43 | 9 / 23 | 4 / 12 |
//! | [`ExactProduct`], ramp, DDPM 1000 | 15 / 38 | 9 / 23 | 4 / 12 |
//! | [`MeanShift`], constant, DDPM 1000 | 17 / 43 | 8 / 22 | 4 / 12 |
//! | [`Pigdm`], score, DDPM 1000 | 6 / 5 | 2 / 2 | 2 / 2 |
//! | [`Pigdm`], published, DDIM 100 | 31 / 81 | 12 / 25 | 7 / 28 |
//! | [`Tmpd`], DDPM 1000 | 4 / 2 | 1 / 3 | 1 / 2 |
//! | [`Dps`], zeta 0.3, DDPM 1000 | 34 / 91 | 15 / 17 | 8 / 10 |
//! | [`Dps`], zeta 0.03, DDPM 1000 | 34 / 100 | 14 / 16 | 8 / 27 |
//! | [`Ddrm`], eta 0.85, DDIM 20 | 2 / 68 | 22 / 20 | 8 / 39 |
//! | [`Ddrm::ddnm_plus`], DDPM 1000 | 28 / 99 | 19 / 22 | 6 / 26 |
//! | [`DiffPir`], zeta 1, DDIM 100 | 3 / 56 | 6 / 50 | 2 / 54 |
//!
//! Without noise, half of the elements known: [`Ddnm`] 5 / 24, [`Clamp`] 9 / 23 (to noised values 21 / 23),
//! [`KnownPixels`] without jumps 22 / 20, [`Mcg`] of zeta 0.03 33 / 37. The 2015 methods match the values that are
//! derived for N(0, 1), y = 1, s = 1, T = 1000 (constant r 0.667, 0.334; ramp 0.462, 0.433):
//! `tests/posterior/exact.rs`. What DPS and MCG sample is no Gaussian even for a Gaussian prior;
//! `tests/posterior/dps_density.rs` holds them to their density, carried through the steps on a grid.
//!
//! By 20,000 samples too, mean / covariance / root of the energy distance over the distance of two draws, in %: the
//! correlated prior of 8 elements, and a mixture of three Gaussians in the plane, where no Gaussian p(x_0 | x_t) is
//! right and [`Calibrated`] has no lead; the particles, which assume nothing, are off by what their weights leave of
//! 20,000 draws:
//!
//! | method | 8 elements, denoising, s 0.5 | 8 elements, inpainting, s 0.1 | 8 elements, dense A, s 0.3 | mixture, denoising, s 0.5 | mixture, inpainting, s 0.1 | mixture, dense A, s 0.3 |
//! |---|---|---|---|---|---|---|
//! | exact draws | 0.9 / 1.8 / 1.9 | 1.0 / 1.0 / 0.0 | 0.9 / 1.7 / 0.0 | 1.8 / 2.8 / 2.8 | 1.5 / 0.9 / 0.8 | 1.2 / 1.0 / 0.0 |
//! | none: the prior | 135.0 / 507.3 / 81.8 | 141.6 / 353.8 / 86.5 | 102.1 / 418.9 / 73.4 | 164.5 / 550.0 / 90.0 | 210.6 / 1050.2 / 113.2 | 58.5 / 102.9 / 51.3 |
//! | [`Calibrated`], DDIM 1000 | 0.5 / 1.7 / 2.2 | 0.7 / 1.1 / 2.0 | 0.6 / 0.9 / 2.3 | 33.3 / 78.5 / 19.5 | 39.7 / 167.6 / 24.2 | 21.1 / 28.6 / 17.9 |
//! | [`Calibrated`], DDPM 1000 | 0.9 / 3.1 / 1.9 | 0.8 / 2.6 / 0.0 | 1.0 / 2.2 / 0.7 | 21.2 / 61.6 / 13.0 | 23.1 / 92.7 / 11.5 | 18.5 / 26.5 / 15.9 |
//! | 20,000 [`Particles`](crate::chain::Particles), DDPM 1000 | 1.2 / 4.6 / 0.0 | 2.9 / 10.1 / 3.0 | 2.1 / 7.4 / 0.2 | 1.0 / 4.3 / 0.0 | 2.6 / 4.0 / 2.4 | 1.8 / 3.6 / 0.0 |
//! | [`CalibratedWhite`], DDPM 1000 | 14.6 / 24.2 / 11.3 | 31.7 / 59.2 / 23.6 | 13.5 / 50.2 / 12.6 | 19.7 / 56.8 / 11.9 | 45.1 / 303.0 / 26.6 | 27.4 / 46.4 / 22.0 |
//! | [`ExactProduct`], constant, DDPM 1000 | 15.7 / 43.7 / 17.0 | 17.2 / 26.2 / 13.4 | 7.1 / 23.7 / 7.0 | 13.4 / 44.1 / 14.0 | 36.4 / 220.4 / 18.9 | 26.2 / 42.3 / 21.7 |
//! | [`ExactProduct`], ramp, DDPM 1000 | 14.8 / 39.1 / 15.5 | 17.3 / 26.4 / 13.4 | 6.7 / 23.8 / 6.8 | 11.5 / 37.6 / 12.3 | 36.6 / 221.7 / 19.0 | 26.5 / 42.8 / 21.8 |
//! | [`MeanShift`], constant, DDPM 1000 | 15.7 / 43.7 / 17.0 | 17.1 / 25.9 / 13.3 | 7.1 / 23.5 / 7.0 | 13.4 / 44.0 / 14.0 | 36.1 / 217.8 / 18.8 | 26.1 / 42.1 / 21.6 |
//! | [`Pigdm`], score, DDPM 1000 | 8.0 / 6.9 / 5.6 | 2.8 / 4.1 / 2.4 | 6.9 / 3.4 / 5.3 | 17.2 / 52.2 / 10.4 | 43.2 / 229.7 / 21.6 | 28.2 / 45.0 / 23.0 |
//! | [`Pigdm`], published, DDIM 100 | 28.3 / 79.8 / 37.1 | 12.8 / 21.8 / 11.6 | 22.7 / 28.1 / 20.5 | 25.1 / 69.5 / 27.6 | 7.7 / 28.6 / 14.3 | 15.0 / 47.6 / 20.1 |
//! | [`Tmpd`], DDPM 1000 | 5.5 / 4.4 / 5.4 | 2.4 / 2.4 / 1.5 | 23.1 / 26.3 / 18.2 | 11.9 / 25.4 / 6.7 | 23.1 / 92.7 / 11.5 | 18.5 / 26.5 / 15.9 |
//! | [`Dps`], zeta 0.3, DDPM 1000 | 29.3 / 98.0 / 58.3 | 14.4 / 15.1 / 9.9 | 25.4 / 39.6 / 21.1 | 52.6 / 82.7 / 57.5 | 9.8 / 57.8 / 19.5 | 43.5 / 92.3 / 34.2 |
//! | [`Dps`], zeta 0.03, DDPM 1000 | 29.3 / 100.0 / 67.7 | 12.7 / 14.4 / 9.0 | 22.6 / 28.7 / 21.1 | 52.7 / 99.9 / 77.0 | 11.7 / 16.2 / 15.5 | 28.6 / 77.3 / 31.4 |
//! | [`Ddrm`], eta 0.85, DDIM 20 | 1.3 / 68.1 / 24.6 | 30.1 / 28.3 / 22.5 | 11.0 / 31.0 / 13.8 | 0.6 / 73.8 / 25.9 | 33.4 / 121.5 / 19.4 | 20.2 / 9.9 / 17.6 |
//! | [`Ddrm::ddnm_plus`], DDPM 1000 | 24.5 / 99.0 / 59.7 | 28.6 / 25.1 / 20.8 | 19.0 / 30.3 / 17.6 | 32.2 / 98.5 / 60.4 | 38.2 / 215.5 / 21.5 | 24.4 / 41.0 / 24.4 |
//! | [`DiffPir`], zeta 1, DDIM 100 | 2.2 / 56.6 / 18.6 | 6.6 / 50.3 / 17.3 | 2.4 / 51.0 / 16.9 | 3.7 / 59.5 / 19.9 | 3.1 / 33.5 / 17.7 | 0.8 / 14.4 / 12.0 |
//!
//! [`Daps`] is for operators that are not linear; of the correlated prior of 2 elements it misses inpainting with s 0.3
//! by 8 / 75 in 50 levels of 4 calls (`tests/posterior/daps.rs`): where nothing was seen its variance is a guess.
//! [`RedDiff`] ends in points near the posterior's modes and has no variance, [`Sitcom`] in what meets y, with next to
//! none where y sees. [`Fps`] has the mean where y has little noise, and a fraction of the variance that falls with the
//! number of levels and of particles, since it counts y once for each level. Their pages have the figures.
//!
//! # No signal at the last level
//! Where a model's last level has no trace of x_0 (`rescale_betas_zero_snr`), r there is that at infinite noise, the
//! same for all x: methods leave the step from it alone. Every method goes with such models, and comes as near to the
//! posterior as with a schedule that ends in a trace (`tests/posterior/zero_snr.rs`); [`Daps`] and [`SplitGibbs`] begin
//! one level below.
//!
//! [`Ddnm`], [`KnownPixels`] and [`Mcg`] are for measurements without noise, [`Dps`] has a step size to tune instead of
//! a noise.
//!
#![doc = include_str!("samplers.md")]

mod bits;
mod calibrated;
mod classes;
mod classifier;
mod common;
mod daps;
mod ddnm;
mod ddrm;
mod diffpir;
mod dps;
mod energy;
mod evidence;
mod fps;
mod group;
mod kind;
mod log_r;
mod measurement;
mod moments;
pub mod operator;
mod paper2015;
mod pigdm;
mod pinned;
mod recommended;
mod red_diff;
mod repaint;
mod scatter;
mod sitcom;
mod spectral;
mod split_gibbs;
mod tmpd;
mod twist;

pub(crate) use common::check_forwards;

pub use bits::{BitProduct, BitR, BitSchedule, CalibratedBits, FnBitR, IndependentBits};
pub use calibrated::{Calibrated, CalibratedWhite};
pub use classes::{CalibratedClasses, ClassProduct, ClassR, ClassSchedule, FnClassR, IndependentClasses};
pub use classifier::{Classifier, ClassifierRule};
pub use daps::{Daps, DapsOptions};
pub use ddnm::Ddnm;
pub use ddrm::Ddrm;
pub use diffpir::DiffPir;
pub use dps::{Dps, Mcg, Misfit};
pub use energy::BitEnergy;
pub use evidence::{At, Evidence, Jacobian, Kernel, NoEvidence};
pub use fps::{Fps, FpsOptions};
pub use kind::{MethodKind, MethodNoise, MethodOperator, MethodTraits};
pub use log_r::{FnLogR, LogR, RSchedule};
pub use measurement::Measurement;
pub use paper2015::{Clamp, ExactProduct, Known, MeanShift};
pub use pigdm::{Pigdm, PigdmRule};
pub use recommended::{Algorithm, Recommended};
pub use red_diff::RedDiff;
pub use repaint::KnownPixels;
pub use scatter::OptimalVariance;
pub use sitcom::{Sitcom, SitcomOptions};
pub use split_gibbs::{SplitGibbs, SplitGibbsOptions};
pub use tmpd::Tmpd;
pub use twist::{FnTwist, Twist};

// For the program and for tests.
#[doc(hidden)]
pub use self::{
    evidence::{DRAWS_A_STEP, NoProducts},
    moments::Moments,
};
