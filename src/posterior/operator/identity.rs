//! The operator of denoising.

use super::{Coordinates, LinearOperator, Svd, check};
use crate::error::Result;
use crate::memory::filled;
use crate::tensor::Dims;
use alloc::vec::Vec;

/// y = x: with noise added this is denoising. All singular values are 1.
#[derive(Clone, Debug)]
pub struct Identity {
    dims: Dims,
    ones: Vec<f32>,
}

impl Identity {
    /// For samples of shape `dims`. Kind `OutOfMemory` if their singular values cannot be held.
    pub fn new(dims: Dims) -> Result<Self> {
        Ok(Self { dims, ones: filled("an operator", dims.elements(), 1.0)? })
    }

    fn copy(&self, call: &str, from: &[f32], to: &mut [f32]) -> Result<()> {
        check(self, call, from.len(), to.len(), 0, 0)?;
        to.copy_from_slice(from);
        Ok(())
    }
}

impl LinearOperator for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }
    fn input_dims(&self) -> Dims {
        self.dims
    }
    fn output_dims(&self) -> Dims {
        self.dims
    }
    fn apply(&self, x: &[f32], y: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.copy("A", x, y)
    }
    fn adjoint(&self, y: &[f32], x: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.copy("A^T", y, x)
    }
    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }
}

impl Svd for Identity {
    fn singular_values(&self) -> &[f32] {
        &self.ones
    }
    fn vt(&self, x: &[f32], z: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.copy("V^T", x, z)
    }
    fn v(&self, z: &[f32], x: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.copy("V", z, x)
    }
    fn ut(&self, y: &[f32], w: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.copy("U^T", y, w)
    }
    fn u(&self, w: &[f32], y: &mut [f32], _: &mut [f32]) -> Result<()> {
        self.copy("U", w, y)
    }
    fn coordinates(&self) -> Option<Coordinates<'_>> {
        Some(Coordinates::All)
    }
}
