//! A compiled network as a denoiser.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Call, Denoiser, check_batch, check_gave, check_given};
use crate::backend::Network;
use crate::backend::threads::Threads;
use crate::error::{Result, check_finite, ensure, err};
use crate::memory::zeros;
use crate::tensor::Dims;

/// A compiled network, and perhaps one for its vector-Jacobian product, compiled from [`vjp`](crate::graph::vjp::vjp) of the same graph, its output 0
/// and its input 0. Threads may share them.
#[derive(Clone)]
pub struct Networks {
    /// The network.
    pub predict: Arc<dyn Network>,
    /// The network that also takes a cotangent and gives the product.
    pub gradient: Option<Arc<dyn Network>>,
}

impl Networks {
    /// The same networks on other threads, see [`Network::on_threads`].
    pub fn on_threads(&self, threads: Arc<dyn Threads>) -> Result<Self> {
        let gradient = self.gradient.as_ref().map(|g| g.on_threads(Arc::clone(&threads))).transpose()?;
        Ok(Self { predict: self.predict.on_threads(threads)?, gradient })
    }
}

impl From<Arc<dyn Network>> for Networks {
    fn from(predict: Arc<dyn Network>) -> Self {
        Self { predict, gradient: None }
    }
}

/// Predicts with a compiled network whose inputs are an image, the level's timestep `[1]` and, in class models, a class.
///
/// All memory is had when it is made, for a largest batch, so that a call allocates nothing. `M` is that memory: a `Vec` of its own, or
/// the caller's `&mut [f32]`.
///
/// A class model has a list of classes: sample number i gets entry i modulo the list's length, so a list of one serves all, and what a
/// sample gets does not depend on its batch.
pub struct NetworkDenoiser<M = Vec<f32>> {
    networks: Networks,
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
    /// All together: also a prediction for the gradient network to write, which nobody reads.
    total: usize,
}

impl Parts {
    fn new(networks: &Networks, max_batch: usize) -> Result<Self> {
        let network = networks.predict.as_ref();
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
        let mut workspace = network.workspace_len(max_batch)?;
        let mut unused = 0;
        if let Some(gradient) = &networks.gradient {
            let whole = [outputs, &inputs[..1]].concat();
            let fits = gradient.inputs() == [inputs, outputs].concat() && gradient.outputs() == whole;
            ensure!(fits, InvalidArgument, "the gradient network is not of this network");
            workspace = workspace.max(gradient.workspace_len(max_batch)?);
            unused = outputs[0].elements();
        }
        let total = unused
            .checked_add(1 + class_len)
            .and_then(|n| n.checked_mul(max_batch))
            .and_then(|n| n.checked_add(workspace))
            .ok_or_else(|| err!(OutOfMemory, "a batch of {max_batch} is too large for this machine"))?;
        Ok(Self { max_batch, class_len, workspace, total })
    }

    /// Cuts the memory into the times, filled; the classes, filled; and the rest, which begins with the workspace.
    fn fill<'m>(
        &self,
        batch: usize,
        call: &Call<'_>,
        classes: &[f32],
        memory: &'m mut [f32],
    ) -> Result<(&'m [f32], &'m [f32], &'m mut [f32])> {
        let &Self { max_batch, class_len, .. } = self;
        ensure!(
            (1..=max_batch).contains(&batch),
            InvalidArgument,
            "the denoiser got {batch} samples, expected 1 to {max_batch}"
        );
        let (time, rest) = memory.split_at_mut(max_batch);
        let (class, rest) = rest.split_at_mut(max_batch * class_len);
        let (time, class) = (&mut time[..batch], &mut class[..batch * class_len]);
        time.fill(call.level.timestep as f32);
        // A model without classes has no rows.
        if let Some(rows) = classes.len().checked_div(class_len) {
            for (to, number) in class.chunks_exact_mut(class_len).zip(call.first_sample..) {
                to.copy_from_slice(&classes[(number % rows as u64) as usize * class_len..][..class_len]);
            }
        }
        Ok((time, class, rest))
    }
}

impl NetworkDenoiser<Vec<f32>> {
    /// A denoiser for batches of up to `max_batch` samples, with memory of its own. `classes` holds whole rows of the network's class
    /// input, none for a model without. Errors: kind `InvalidArgument` for a batch of 0, a network with other inputs, or classes that do
    /// not suit it; kind `NonFinite` for classes; kind `OutOfMemory`.
    pub fn new(networks: Networks, max_batch: usize, classes: &[f32]) -> Result<Self> {
        let len = Self::memory_len(&networks, max_batch)?;
        Self::in_memory(networks, max_batch, classes, zeros("a workspace", len)?)
    }
}

impl<M: AsMut<[f32]>> NetworkDenoiser<M> {
    /// The `f32` values of memory that a denoiser for this batch needs; their bytes are four times as many.
    pub fn memory_len(networks: &Networks, max_batch: usize) -> Result<usize> {
        Ok(Parts::new(networks, max_batch)?.total)
    }

    /// As [`NetworkDenoiser::new`], in memory of at least [`NetworkDenoiser::memory_len`] values.
    pub fn in_memory(networks: Networks, max_batch: usize, classes: &[f32], mut memory: M) -> Result<Self> {
        let parts = Parts::new(&networks, max_batch)?;
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
        check_finite("the list of classes", classes)?;
        networks.predict.prepare(max_batch)?;
        if let Some(gradient) = &networks.gradient {
            gradient.prepare(max_batch)?;
        }
        let name = format!("network on {}", networks.predict.describe());
        Ok(Self { networks, name, parts, classes: classes.into(), fingerprint: 0, memory })
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
        self.networks.predict.inputs()[0]
    }

    fn output_len(&self) -> usize {
        self.networks.predict.outputs()[0].elements()
    }

    fn max_batch(&self) -> usize {
        self.parts.max_batch
    }

    fn looks_at_numbers(&self) -> bool {
        self.classes.len() > self.parts.class_len
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let batch = check_batch(&self.name, self.sample_dims().elements(), x, self.output_len(), out)?;
        check_given(&self.name, "x", x)?;
        let output_len = self.output_len();
        let Self { networks, name, parts, classes, memory, .. } = self;
        let (time, class, rest) = parts.fill(batch, call, classes, memory.as_mut())?;
        if class.is_empty() {
            networks.predict.run(batch, &[x, time], &mut [&mut *out], rest, call.cancel)?;
        } else {
            networks.predict.run(batch, &[x, time, class], &mut [&mut *out], rest, call.cancel)?;
        }
        check_gave(name, call, output_len, out)
    }

    fn has_vjp(&self) -> bool {
        self.networks.gradient.is_some()
    }

    fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        let (n, output_len) = (self.sample_dims().elements(), self.output_len());
        let batch = check_batch(&self.name, n, x, output_len, v)?;
        check_batch(&self.name, n, x, n, out)?;
        check_given(&self.name, "x", x)?;
        check_given(&self.name, "v", v)?;
        let Self { networks: Networks { gradient: Some(gradient), .. }, name, parts, classes, memory, .. } = self
        else {
            return Err(err!(Unsupported, "the denoiser \"{}\" was made without a gradient network", self.name));
        };
        let (time, class, rest) = parts.fill(batch, call, classes, memory.as_mut())?;
        // The gradient network also predicts; that prediction is dropped.
        let (workspace, y) = rest.split_at_mut(parts.workspace);
        let y =
            y.get_mut(..batch * output_len).ok_or_else(|| err!(OutOfMemory, "the denoiser's memory is too short"))?;
        if class.is_empty() {
            gradient.run(batch, &[x, time, v], &mut [y, &mut *out], workspace, call.cancel)?;
        } else {
            gradient.run(batch, &[x, time, class, v], &mut [y, &mut *out], workspace, call.cancel)?;
        }
        check_gave(name, call, n, out)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
