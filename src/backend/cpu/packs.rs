//! Packed weights that several convolutions have in common: of one network, or of networks compiled together.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::conv::{ConvShape, PackedConv};
use crate::error::Result;

/// What packed weights are made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    /// The names of weights and, for each, of its bias, where there is one.
    pub names: Vec<(String, Option<String>)>,
    /// Whether the filters are turned round, for an adjoint.
    pub turned: bool,
    pub shape: ConvShape,
    /// Whether they are for products of bf16.
    pub bf16: bool,
}

/// The weights packed so far.
#[derive(Default)]
pub(super) struct Packs(RefCell<Vec<(Key, Arc<PackedConv>)>>);

impl Packs {
    /// Those of `key`, and whether they were made for it now, by `make`.
    pub fn get(&self, key: Key, make: impl FnOnce() -> Result<PackedConv>) -> Result<(Arc<PackedConv>, bool)> {
        if let Some((_, weights)) = self.0.borrow().iter().find(|(k, _)| *k == key) {
            return Ok((Arc::clone(weights), false));
        }
        let weights = Arc::new(make()?);
        self.0.borrow_mut().push((key, Arc::clone(&weights)));
        Ok((weights, true))
    }
}
