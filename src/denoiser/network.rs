//! A compiled network as a denoiser.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Call, Denoiser, check_batch};
use crate::backend::Network;
use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

/// Predicts with a compiled network whose inputs are an image, the level's timestep `[1]` and, in class models, a class.
///
/// All memory is had when it is made, for a largest batch, so that a call allocates nothing. `M` is that memory: a `Vec` of its own, or
/// the caller's `&mut [f32]`.
///
/// A class model has a list of classes: sample number i gets entry i modulo the list's length, so a list of one serves all, and what a
/// sample gets does not depend on its batch.
pub struct NetworkDenoiser<M = Vec<f32>> {
    network: Arc<dyn Network>,
    name: String,
    parts: Parts,
    classes: Vec<f32>,
    fingerprint: u64,
    memory: M,
}

/// How the memory is cut.
#[derive(Clone, Copy)]
struct Parts {
    max_batch: usize,
    /// Values of one sample's class, 0 in models without.
    class_len: usize,
    workspace: usize,
    /// All together.
    total: usize,
}

impl Parts {
    fn new(network: &dyn Network, max_batch: usize) -> Result<Self> {
        let inputs = network.inputs();
        let fits = (2..=3).contains(&inputs.len()) && inputs.get(1).is_some_and(|d| d.as_slice() == [1]);
        ensure!(
            fits,
            InvalidArgument,
            "the network has inputs {inputs:?}, expected an image, a timestep [1] and at most a class"
        );
        let outputs = network.outputs();
        ensure!(outputs.len() == 1, InvalidArgument, "the network has {} outputs, expected 1", outputs.len());
        let class_len = inputs.get(2).map_or(0, Dims::elements);
        let workspace = network.workspace_len(max_batch)?;
        let total = max_batch
            .checked_mul(1 + class_len)
            .and_then(|n| n.checked_add(workspace))
            .ok_or_else(|| err!(OutOfMemory, "a batch of {max_batch} is too large for this machine"))?;
        Ok(Self { max_batch, class_len, workspace, total })
    }
}

impl NetworkDenoiser<Vec<f32>> {
    /// A denoiser for batches of up to `max_batch` samples, with memory of its own. `classes` holds whole rows of the network's class
    /// input, none for a model without. Errors: kind `InvalidArgument` for a batch of 0, a network with other inputs, or classes that do
    /// not suit it; kind `OutOfMemory`.
    pub fn new(network: Arc<dyn Network>, max_batch: usize, classes: &[f32]) -> Result<Self> {
        let len = Self::memory_len(network.as_ref(), max_batch)?;
        let mut memory = Vec::new();
        memory
            .try_reserve_exact(len)
            .map_err(|_| err!(OutOfMemory, "no memory for a workspace of {} bytes", len.saturating_mul(4)))?;
        memory.resize(len, 0.0);
        Self::in_memory(network, max_batch, classes, memory)
    }
}

impl<M: AsMut<[f32]>> NetworkDenoiser<M> {
    /// The `f32` values of memory that a denoiser for this batch needs; their bytes are four times as many.
    pub fn memory_len(network: &dyn Network, max_batch: usize) -> Result<usize> {
        Ok(Parts::new(network, max_batch)?.total)
    }

    /// As [`NetworkDenoiser::new`], in memory of at least [`NetworkDenoiser::memory_len`] values.
    pub fn in_memory(network: Arc<dyn Network>, max_batch: usize, classes: &[f32], mut memory: M) -> Result<Self> {
        let parts = Parts::new(network.as_ref(), max_batch)?;
        let got = memory.as_mut().len();
        ensure!(got >= parts.total, OutOfMemory, "the denoiser's memory has {got} values, expected {}", parts.total);
        if parts.class_len == 0 {
            ensure!(classes.is_empty(), InvalidArgument, "classes are given, but the model takes none");
        } else {
            ensure!(
                !classes.is_empty() && classes.len().is_multiple_of(parts.class_len),
                InvalidArgument,
                "{} class values are given, expected rows of {}: this is a class model",
                classes.len(),
                parts.class_len
            );
        }
        let name = format!("network on {}", network.describe());
        Ok(Self { network, name, parts, classes: classes.into(), fingerprint: 0, memory })
    }

    /// Gives it an identity that saved chains remember.
    #[must_use]
    pub fn with_fingerprint(self, fingerprint: u64) -> Self {
        Self { fingerprint, ..self }
    }
}

impl<M: AsMut<[f32]>> Denoiser for NetworkDenoiser<M> {
    fn name(&self) -> &str {
        &self.name
    }

    fn sample_dims(&self) -> Dims {
        self.network.inputs()[0]
    }

    fn output_len(&self) -> usize {
        self.network.outputs()[0].elements()
    }

    fn max_batch(&self) -> usize {
        self.parts.max_batch
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let Parts { max_batch, class_len, workspace, total } = self.parts;
        let batch = check_batch(&self.name, self.sample_dims().elements(), x, self.output_len(), out)?;
        ensure!(
            (1..=max_batch).contains(&batch),
            InvalidArgument,
            "the denoiser got {batch} samples, expected 1 to {max_batch}"
        );
        let (time, rest) = self.memory.as_mut()[..total].split_at_mut(max_batch);
        let (class, workspace) = rest.split_at_mut(rest.len() - workspace);
        let (time, class) = (&mut time[..batch], &mut class[..batch * class_len]);
        time.fill(call.level.timestep as f32);
        if class_len == 0 {
            return self.network.run(batch, &[x, time], &mut [out], workspace, call.cancel);
        }
        let rows = (self.classes.len() / class_len) as u64;
        for (to, number) in class.chunks_exact_mut(class_len).zip(call.first_sample..) {
            to.copy_from_slice(&self.classes[(number % rows) as usize * class_len..][..class_len]);
        }
        self.network.run(batch, &[x, time, class], &mut [out], workspace, call.cancel)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
