//! Architectures: each turns its configuration into a [`Graph`](crate::graph::Graph) whose parameters bear the names of the weight files.
//!
//! Models are data for the backends; nothing here computes. To add one, add a folder with its configuration and its translation.

mod fields;
pub mod unet2d;
