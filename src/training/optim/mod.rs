//! Optimisers over one flat vector of parameters.
//!
//! An [`Optimizer`] takes the cost and its gradient at the present parameters and moves them; it draws nothing, and its
//! state is a list of named arrays. [`Adam`] (with its decoupled form, AdamW) and [`RmsProp`] look at the gradient
//! alone; [`Sfo`] keeps a model of each minibatch, so it needs the same minibatches again and again, and says which it
//! wants next. [`minimize`] is L-BFGS for costs that are evaluated whole.
//!
//! ```
//! use undiffuse::training::optim::{Adam, AdamOptions, Evaluation, Optimizer};
//!
//! // The minimum of (x - 3)^2.
//! let mut x = [0.0f32];
//! let mut adam = Adam::new(AdamOptions::default(), 1)?;
//! for _ in 0..2000 {
//!     let gradient = [2.0 * (x[0] - 3.0)];
//!     adam.step(&mut x, Evaluation { minibatch: 0, cost: 0.0, gradient: &gradient }, 1e-2)?;
//! }
//! assert!((x[0] - 3.0).abs() < 1e-3);
//! # Ok::<(), undiffuse::Error>(())
//! ```

mod adam;
mod ema;
mod lbfgs;
mod rate;
mod rmsprop;
mod sfo;

pub use adam::{Adam, AdamOptions, WeightDecay};
pub use ema::{Ema, EmaDecay};
pub use lbfgs::{LbfgsOptions, LbfgsReport, minimize};
pub use rate::LearningRate;
pub use rmsprop::{RmsFloor, RmsProp, RmsPropOptions};
pub use sfo::{Sfo, SfoOptions};

use alloc::vec::Vec;

use super::state::StateArray;
use crate::error::{Result, ensure, err};

/// The cost and its gradient at the present parameters.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<'a> {
    /// Which minibatch was used; only optimisers that model each minibatch read it.
    pub minibatch: usize,
    /// The cost; only optimisers that model the cost read it.
    pub cost: f64,
    /// The gradient of the cost, one value for each parameter.
    pub gradient: &'a [f32],
}

/// Moves parameters down a cost.
pub trait Optimizer {
    /// The algorithm's name, for messages and checkpoints.
    fn name(&self) -> &'static str;

    /// The minibatch that must be evaluated next; `None` if any will do.
    fn wants(&self) -> Option<usize> {
        None
    }

    /// One step: `params`, at which `at` was evaluated, become the next parameters. `rate` is the learning rate of this
    /// step, at least 0.
    ///
    /// Errors leave parameters and state as they were: kind `Shape` for another number of parameters than the optimiser
    /// was made for, `InvalidArgument` for a rate that is negative or not finite or a minibatch that does not exist,
    /// `NonFinite` if the gradient (or a cost that is read) is not finite.
    fn step(&mut self, params: &mut [f32], at: Evaluation<'_>, rate: f64) -> Result<()>;

    /// The state as named arrays. Restored, the optimiser goes on in the same bits.
    fn state(&self) -> Vec<StateArray>;

    /// Takes the state that [`Optimizer::state`] gave, in an optimiser of the same options and size.
    ///
    /// Errors (kind `Weights`) leave the state as it was: an array is missing, unknown, of another length or not
    /// finite.
    fn restore(&mut self, state: &[StateArray]) -> Result<()>;
}

/// Scales a gradient down to a Euclidean norm of at most `max`, and gives the norm that it had. The norm is a sum of
/// squares in f64. A norm that is not finite leaves the gradient alone: the optimiser refuses it.
///
/// Errors: kind `InvalidArgument` unless `max` is above 0.
pub fn clip_norm(gradient: &mut [f32], max: f64) -> Result<f64> {
    check_positive("the largest gradient norm", max)?;
    let norm = norm(gradient);
    if norm.is_finite() && norm > max {
        let scale = max / norm;
        gradient.iter_mut().for_each(|g| *g = (f64::from(*g) * scale) as f32);
    }
    Ok(norm)
}

/// The Euclidean norm, a sum of squares in f64 in 8 parts, which need not wait for each other.
pub(super) fn norm(gradient: &[f32]) -> f64 {
    let square = |g: f32| f64::from(g) * f64::from(g);
    let (parts, rest) = gradient.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, g)| *sum += square(*g));
    }
    libm::sqrt(sums.iter().sum::<f64>() + rest.iter().map(|g| square(*g)).sum::<f64>())
}

/// What every optimiser checks before it changes anything.
fn check(name: &str, len: usize, params: &[f32], at: &Evaluation<'_>, rate: f64) -> Result<()> {
    ensure!(
        params.len() == len && at.gradient.len() == len,
        Shape,
        "{name} for {len} parameters got {} parameters and {} gradients",
        params.len(),
        at.gradient.len()
    );
    ensure!(rate >= 0.0 && rate.is_finite(), InvalidArgument, "the learning rate is {rate}, expected 0 or more");
    if let Some(i) = at.gradient.iter().position(|g| !g.is_finite()) {
        return Err(err!(NonFinite, "the gradient of parameter {i} is NaN or infinite"));
    }
    Ok(())
}

/// That an option is within 0 (included) and 1 (excluded).
fn check_decay(name: &str, value: f64) -> Result<()> {
    ensure!((0.0..1.0).contains(&value), InvalidArgument, "{name} is {value}, expected 0 to below 1");
    Ok(())
}

/// That an option is finite and at least 0.
fn check_size(name: &str, value: f64) -> Result<()> {
    ensure!(
        value >= 0.0 && value.is_finite(),
        InvalidArgument,
        "{name} is {value}, expected a finite value of 0 or more"
    );
    Ok(())
}

/// That an option is above 0.
fn check_positive(name: &str, value: f64) -> Result<()> {
    ensure!((f64::MIN_POSITIVE..).contains(&value), InvalidArgument, "{name} is {value}, expected more than 0");
    Ok(())
}
