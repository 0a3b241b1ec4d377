//! Weights as a network's own code uses them, where that is not as they are stored.

use alloc::vec::Vec;

use super::{TensorInfo, WeightSource, missing};
use crate::error::Result;

/// What changes a tensor of this name and shape.
type Map<'a> = dyn Fn(&str, &[usize], &mut [f32]) + 'a;

/// A source of which each tensor is changed by a function of its name, its shape and its values.
pub(crate) struct Mapped<'a> {
    /// What is stored.
    pub inner: &'a dyn WeightSource,
    /// What is made of it.
    pub map: &'a Map<'a>,
}

impl WeightSource for Mapped<'_> {
    fn names(&self) -> Vec<&str> {
        self.inner.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.inner.info(name)
    }

    fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<()> {
        let info = self.inner.info(name).ok_or_else(|| missing(name))?;
        self.inner.read_f32(name, out)?;
        (self.map)(name, &info.shape, out);
        Ok(())
    }
}
