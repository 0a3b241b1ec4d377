//! Memory for weights as they come from the file, until they are packed.
//!
//! A network has hundreds of them. Were each one's memory taken from the system and given back in between its packed
//! weights, which stay, the system's allocator would be left with holes that nothing fits: half as much memory again as
//! the weights, with glibc. So it is taken once, as large as the largest needs it, and used for all.

use core::cell::RefCell;
use core::ops::{Deref, DerefMut};

use alloc::vec::Vec;

use super::aligned::AlignedBuf;
use super::heap::Heap;
use crate::error::{Result, err};
use crate::graph::Graph;

/// Lends memory for the weights of one operation.
pub(super) struct Staging<'a> {
    heap: &'a Heap,
    /// Floats of all the parameters of the operation that has the most.
    most: usize,
    /// What was given back: as many as were lent at one time.
    free: RefCell<Vec<AlignedBuf>>,
}

impl<'a> Staging<'a> {
    /// For the operations of `graph`. Takes no memory yet.
    pub fn new(heap: &'a Heap, graph: &Graph) -> Self {
        let of_node = |id| {
            let mut floats = 0usize;
            graph.node(id).op.for_each_param(|p| floats = floats.saturating_add(graph.param(p).dims.elements()));
            floats
        };
        Self { heap, most: graph.ids().map(of_node).max().unwrap_or(0), free: RefCell::default() }
    }

    /// Memory of `len` floats of any value.
    ///
    /// # Errors
    /// `OutOfMemory` if the heap refuses; `Shape` if no operation of the graph has so many.
    pub fn lend(&self, len: usize) -> Result<Staged<'_, 'a>> {
        if len > self.most {
            return Err(err!(Shape, "an operation of {len} weights, expected at most {}", self.most));
        }
        let free = self.free.borrow_mut().pop();
        let buffer = free.map_or_else(|| self.heap.zeroed(self.most), Ok)?;
        Ok(Staged { of: self, buffer: Some(buffer), len })
    }
}

/// Memory that [`Staging`] lent: given back when dropped.
pub(super) struct Staged<'s, 'a> {
    of: &'s Staging<'a>,
    /// Until dropped.
    buffer: Option<AlignedBuf>,
    len: usize,
}

impl Deref for Staged<'_, '_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.buffer.as_deref().and_then(|b| b.get(..self.len)).unwrap_or(&[])
    }
}

impl DerefMut for Staged<'_, '_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.buffer.as_deref_mut().and_then(|b| b.get_mut(..self.len)).unwrap_or(&mut [])
    }
}

impl Drop for Staged<'_, '_> {
    fn drop(&mut self) {
        self.of.free.borrow_mut().extend(self.buffer.take());
    }
}
