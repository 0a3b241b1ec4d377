//! A lean runtime for pretrained diffusion models.
//!
//! It loads a model that was trained and exported elsewhere and runs only the reverse diffusion chain and
//! posterior-perturbed sampling. See ARCHITECTURE.md for the map of the modules and the order in which they may use
//! one another.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "ndarray")]
pub mod arrays;
pub mod backend;
pub mod cancel;
pub mod chain;
pub mod denoiser;
pub mod error;
pub mod evaluate;
#[cfg(feature = "std")]
mod files;
pub mod graph;
pub mod json;
mod matmul;
mod memory;
pub mod model;
pub mod noise;
pub mod npy;
pub mod pipeline;
pub mod posterior;
pub mod process;
pub mod sampler;
pub mod schedule;
mod sniff;
pub mod tensor;
#[cfg(feature = "training")]
pub mod training;
pub mod values;
pub mod weights;

pub use cancel::Cancel;
pub use error::{Error, ErrorKind, Result};

/// The README's example is a test like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
