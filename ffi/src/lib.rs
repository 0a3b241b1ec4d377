//! The C ABI of undiffuse.
//!
//! Every function of include/undiffuse.h is here, a thin layer over the library's public items: it checks pointers and
//! struct sizes (`guard`, `options`), catches panics, and turns errors into a status and an error object (`status`).
//! The comments of the items are those of the header, which `cargo run -p undiffuse-ffi-header` generates; they are
//! written for C programmers.
#![no_std]
#![allow(clippy::too_many_arguments)] // C functions take arrays as two.
#![allow(non_camel_case_types)] // Names are those of the header.

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod guard;
mod inject;
mod options;
mod recipe;
#[cfg(feature = "std")]
pub mod reserve;
#[cfg(not(feature = "std"))]
#[path = "no_reserve.rs"]
mod reserve;
mod unwind;

pub mod status;

pub mod error;

pub mod version;

pub mod enums;

pub mod cancel;
pub mod memory;
pub mod threads;

pub mod device;

pub mod callbacks;
pub mod model;

pub mod schedule;

pub mod sampler;

pub mod noise;

pub mod operator;

pub mod forward;

pub mod evidence;
pub mod gradient;
pub mod methods;

pub mod session;

pub mod condition;

pub mod codec;

pub mod run;

pub mod evaluate;
