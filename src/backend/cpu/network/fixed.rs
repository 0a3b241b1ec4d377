//! A network that is a part of the program: nothing of it is made at run time.
#![allow(unsafe_code)] // What the generator wrote is taken at its word.

use super::super::aligned::SharedMut;
use super::super::isa::Isa;
use super::super::memory::Slices;
use super::shared::{Call, On, Samples, Shared};
use crate::backend::threads::Serial;
use crate::cancel::Cancel;
use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

/// A network compiled when the program was built, for the portable path and the caller's thread.
pub struct FixedNetwork {
    shared: Shared,
    workspace: usize,
    batch: usize,
}

impl FixedNetwork {
    /// A network that needs `workspace` values for `batch` samples and fewer.
    ///
    /// # Safety
    /// `shared` is as the compiler made it: no step reads or writes outside of its views' buffers, or what another step
    /// needs.
    pub const unsafe fn new(shared: Shared, batch: usize, workspace: usize) -> Self {
        Self { shared, workspace, batch }
    }

    /// Dimensions of one sample of each input.
    pub fn inputs(&self) -> &[Dims] {
        &self.shared.inputs
    }

    /// Dimensions of one sample of each output.
    pub fn outputs(&self) -> &[Dims] {
        &self.shared.outputs
    }

    /// The largest batch.
    pub const fn batch(&self) -> usize {
        self.batch
    }

    /// The `f32` values of workspace for batches up to [`FixedNetwork::batch`].
    pub const fn workspace_len(&self) -> usize {
        self.workspace
    }

    /// As [`Network::run`](crate::backend::Network::run).
    ///
    /// # Errors
    /// As there; `InvalidArgument` for more samples than the largest batch.
    pub fn run(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        workspace: &mut [f32],
        cancel: &Cancel,
    ) -> Result<()> {
        let (got, need) = (workspace.len(), self.workspace);
        if got < need {
            return Err(err!(OutOfMemory, "the workspace has {got} values, expected {need}").with_lengths(got, need));
        }
        ensure!((1..=self.batch).contains(&batch), InvalidArgument, "{batch} samples, expected 1 to {}", self.batch);
        let fits = |dims: &[Dims], lens: &mut dyn ExactSizeIterator<Item = usize>| {
            lens.len() == dims.len() && lens.zip(dims).all(|(n, d)| d.elements().checked_mul(batch) == Some(n))
        };
        ensure!(
            fits(&self.shared.inputs, &mut inputs.iter().map(|s| s.len()))
                && fits(&self.shared.outputs, &mut outputs.iter().map(|s| s.len())),
            Shape,
            "the buffers are not those of {batch} samples"
        );
        let call = Call { batch, inputs, outputs: Slices::new(outputs), workspace: SharedMut::new(workspace), cancel };
        let on = On { isa: Isa::PORTABLE, threads: &Serial, workers: 1 };
        let pieces = batch.div_ceil(self.shared.at_once.max(1));
        let piece = batch.div_ceil(pieces.max(1)).max(1);
        for first in (0..batch).step_by(piece) {
            // SAFETY: one piece after the other, on this thread.
            let workspace = unsafe { call.workspace.part(0, call.workspace.len()) };
            let samples = Samples { first, count: piece.min(batch - first) };
            self.shared.run(on, &call, samples, workspace, &mut |_| {})?;
        }
        Ok(())
    }
}
