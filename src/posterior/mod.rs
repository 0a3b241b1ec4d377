//! Sampling from p(x) r(x): a pretrained model p times evidence r.
//!
//! Evidence is mostly a noisy linear measurement y = A x_0 + s n. [`operator`] holds the operators A. Nothing here calls
//! a network or draws noise of its own accord: the chain gives a method what it needs.

pub mod operator;
