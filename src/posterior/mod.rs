//! Sampling from p(x) r(x): a pretrained model p times evidence r.
//!
//! Evidence is mostly a noisy linear measurement y = A x_0 + s n. [`operator`] holds the operators A. A method is an
//! [`Evidence`]: the chain calls it at three places of each step and gives it what it needs. Nothing here calls a network
//! or draws noise of its own accord.

mod evidence;
pub mod operator;

pub use evidence::{At, DRAWS_A_STEP, Evidence, Jacobian, Kernel, NoEvidence};
