//! Losses: what a network's output for one noisy sample costs, and the gradient of that by the output, in closed form.
//!
//! | loss | of |
//! |---|---|
//! | [`GaussianBound`] | the 2015 variational bound of real numbers, with each of their readouts, and its gradient by the betas |
//! | [`BinomialBound`] | the bound of bits |
//! | [`SquaredError`] | the squared error of eps, x_0 or v, with weights by the signal-to-noise ratio |
//!
//! A loss is one number for one sample at one index t of the schedule, and a training step is the mean of it over a
//! batch with t uniform in [`Loss::times`]. Sums are f64; what a network gives and gets is f32.

mod bits;
mod gaussian;
mod squared;

pub use bits::BinomialBound;
pub use gaussian::{BySchedule, GaussianBound};
pub use squared::{SnrWeight, SquaredError};

use core::ops::Range;

use crate::error::{Result, ensure};
use crate::noise::Stream;

/// What stands for p(x^0 | x^1) in a bound; see [`Edges`](crate::evaluate::Edges).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The forward step reversed in a white chain; the network is not asked at index 0.
    #[default]
    Entropies,
    /// The chain's own last step, at index 0.
    Network,
}

/// A loss of one noisy sample.
pub trait Loss: Sync {
    /// The indices t at which it is defined and from which training draws.
    fn times(&self) -> Range<usize>;

    /// Values of the network's output for a sample of `n`.
    fn output_len(&self, n: usize) -> usize;

    /// Draws x_t from q(x_t | x_0): one value of the stream for each element.
    fn corrupt(&self, t: usize, x0: &[f32], noise: &mut Stream, x_t: &mut [f32]);

    /// The loss of one sample, summed over its elements, scaled so that its mean over [`Loss::times`] is the whole loss
    /// but for [`Loss::constant`]; and its gradient by the output. Bounds are in nats.
    fn evaluate(&self, t: usize, x0: &[f32], x_t: &[f32], output: &[f32], gradient: &mut [f32]) -> f64;

    /// What is added to the mean for a sample of `n` elements: the ends of a chain.
    fn constant(&self, n: usize) -> f64;

    /// Whether the loss is a bound in nats, which can be shown as bits.
    fn is_bound(&self) -> bool;
}

/// Checks the buffers of a sample against a loss before a run.
pub fn check(loss: &dyn Loss, n: usize, output: usize) -> Result<()> {
    let expected = loss.output_len(n);
    ensure!(
        output == expected,
        Shape,
        "the network gives {output} values for a sample of {n}, but the loss expects {expected}"
    );
    ensure!(!loss.times().is_empty(), InvalidArgument, "the schedule leaves no step to train");
    Ok(())
}

#[cfg(test)]
mod tests;
