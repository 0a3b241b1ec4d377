//! The Gaussian diffusion process: how noise is added, what a prediction means, and the moments of a step back.
//!
//! Formulas only; the samplers put them in order.

mod gaussian;
mod prediction;

pub use gaussian::{Posterior, add_noise, velocity};
pub use prediction::{Linear, Prediction, PredictionType, SampleClip};
