//! Training, behind the feature `training`: a runtime built without it contains none of this.
//!
//! Everything is deterministic by seed, and every state can be saved and restored to the same bits
//! ([`state`]).

#[doc(hidden)]
pub mod betas;
pub mod config;
pub mod data;
mod dense;
#[doc(hidden)] // The trainer's; public for its tests.
pub mod engine;
#[doc(hidden)]
pub mod init;
#[doc(hidden)]
pub mod loss;
pub mod mean_field;
pub mod mpf;
#[doc(hidden)]
pub mod optim;
#[doc(hidden)] // How the trainer's files hold the state of optimisers.
pub mod state;
pub mod trainer;
