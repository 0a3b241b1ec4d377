//! Betas, cumulative alphas, noise levels and timesteps: what is known before a run.
//!
//! Samplers build their steps from a [`NoiseSchedule`] and a list of timesteps; nothing here touches a sample.
//!
//! ```
//! use undiffuse::schedule::{Arithmetic, BetaSchedule, Betas, NoiseSchedule, TimestepSpacing, spaced_timesteps};
//!
//! let betas = Betas { schedule: BetaSchedule::SquaredcosCapV2, ..Betas::default() };
//! let schedule = NoiseSchedule::new(&betas, Arithmetic::Float64)?;
//! assert!(schedule.alphas_cumprod()[0] > 0.9999);
//! assert_eq!(spaced_timesteps(TimestepSpacing::Leading, 1000, 4, 0)?, [750, 500, 250, 0]);
//! # Ok::<(), undiffuse::Error>(())
//! ```

mod betas;
mod grid;
mod level;
mod paper2015;
mod published;
mod real;
mod timesteps;

pub use betas::{BetaSchedule, Betas, NoiseSchedule};
pub(crate) use grid::linspace;
pub use level::Level;
pub use published::AlignYourSteps;
pub(crate) use real::Real;
pub use timesteps::TimestepSpacing;

// What configurations make of themselves; for tests.
#[doc(hidden)]
pub use self::{
    betas::MAX_TRAIN_TIMESTEPS,
    grid::{
        Grid, GridEnd, GridRules, Points, SigmaSpacing, SigmaTable, Whole, discrete_grid, given_grid, spread,
        time_shift,
    },
    paper2015::TemporalBasis,
    published::polyexponential,
    timesteps::{custom_timesteps, spaced_timesteps},
};

/// In which precision schedules and the scalars of a step are computed. A sample's elements are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// f32, operation by operation as diffusers 0.42.1 does on PyTorch, so that a chain follows it to rounding. Its
    /// 1 - abar_t / abar_s loses digits where beta is small: near t = 0 a coefficient is off by up to some 1e-4.
    #[default]
    Float32,
    /// f64, rounded once to f32 where it meets an element: the published equations as such.
    Float64,
}
