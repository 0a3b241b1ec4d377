//! The CPU backend. Everything in this folder works on plain f32 memory; activations are channels-last (NHWC).

pub mod aligned;
pub mod conv;
#[cfg(test)]
mod conv_tests;
pub mod gather;
pub mod gemm;
pub mod isa;
pub(crate) mod simd;
pub mod vmath;
