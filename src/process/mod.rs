//! The diffusion processes, Gaussian, binomial and categorical: how noise is added, what a prediction means, the
//! moments of a step back, and the divergences and entropies by which they are judged (natural logarithms throughout).
//!
//! Formulas only; the samplers put them in order.

mod binomial;
mod categorical;
mod continuous;
mod gaussian;
mod normal;
mod prediction;

pub use binomial::Binomial;
pub use categorical::{Categorical, Forgetting};
pub use gaussian::{Posterior, add_noise, velocity};
pub use normal::reverse_entropy_bounds;

// Of the documentation of `sampler`, or for tests.
#[doc(hidden)]
pub use self::{
    binomial::{bernoulli_entropy, bernoulli_kl, bernoulli_log_prob},
    continuous::{Rate, ReverseStep},
    normal::{normal_entropy, normal_kl, normal_log_prob},
    prediction::{Linear, Prediction, PredictionType, SampleClip},
};
