//! What runs a graph.
//!
//! A [`Backend`] compiles a graph and its weights once into a [`Network`]; a network is then called for any batch with
//! a workspace whose size was known before. The reference backend is the oracle: plain loops in
//! `f64`, slow, and the measure of all others; its module is for tests.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::cancel::Cancel;
use crate::error::{Result, ensure, err};
use crate::graph::{Graph, Input};
use crate::tensor::Dims;

mod choice;
pub mod cpu;
#[doc(hidden)]
pub mod reference;
pub mod threads;
#[cfg(feature = "wgpu")]
pub mod wgpu;

pub use choice::Choice;

use threads::Threads;

/// Where a backend gets its weights. Implemented by the readers of weight files and, in tests, by closures.
pub trait ParamSource {
    /// Fills `out` with the parameter of this name in row-major order. `dims` are what the graph expects and
    /// `out.len()` is their product; an implementation refuses a tensor of other dimensions.
    fn read(&self, name: &str, dims: &Dims, out: &mut [f32]) -> Result<()>;
}

impl<F: Fn(&str, &Dims, &mut [f32]) -> Result<()>> ParamSource for F {
    fn read(&self, name: &str, dims: &Dims, out: &mut [f32]) -> Result<()> {
        self(name, dims, out)
    }
}

/// Compiles graphs.
pub trait Backend {
    /// The backend's name as users choose it: `"reference"`, `"cpu"`.
    fn name(&self) -> &'static str;

    /// Plans the graph, reads its parameters one at a time and packs them. A parameter that several operations use may
    /// be read for each. The graph is as the model built it; a backend that wants it fused calls
    /// [`fuse`](crate::graph::fuse::fuse) itself.
    fn compile(&self, graph: &Graph, params: &dyn ParamSource) -> Result<Box<dyn Network>>;

    /// Compiles several graphs whose parameters of the same name are the same. A backend may hold what they have in
    /// common once; [`Network::weight_bytes`] then counts it for the first of them.
    fn compile_together(&self, graphs: &[&Graph], params: &dyn ParamSource) -> Result<Vec<Box<dyn Network>>> {
        graphs.iter().map(|graph| self.compile(graph, params)).collect()
    }

    /// Whether products of bf16 are so fast that 3x3 layers of many pixels gain by them too, which are else faster by
    /// Winograd's method in f32.
    fn bf16_beats_winograd(&self) -> bool {
        false
    }
}

/// A compiled network. It holds packed weights and no state of a run, so threads may share it, each with its own
/// workspace.
pub trait Network: Send + Sync {
    /// Dimensions of each input for one sample, in the graph's order.
    fn inputs(&self) -> &[Dims];

    /// The same inputs with their names and roles, in the same order; empty where they are not known, and then they are
    /// what their order says: x, the timestep and perhaps a class.
    fn signature(&self) -> &[Input] {
        &[]
    }

    /// Dimensions of each output for one sample, in the graph's order.
    fn outputs(&self) -> &[Dims];

    /// The bytes of packed weights it holds, but for those that a network compiled together with it and before it holds
    /// too.
    fn weight_bytes(&self) -> usize;

    /// The `f32` elements of workspace that [`Network::run`] needs for a batch: never fewer than for a smaller one, so
    /// that what was taken for the largest batch of a run is enough for its last. Errors: `batch` is 0 or too large for
    /// this machine.
    fn workspace_len(&self, batch: usize) -> Result<usize>;

    /// The same network with the same weights, not copied, on other threads; its workspace may have another length.
    /// Errors: kind `Unsupported` for a backend that does not run on the host's threads.
    fn on_threads(&self, threads: Arc<dyn Threads>) -> Result<Arc<dyn Network>> {
        let _ = threads;
        Err(err!(Unsupported, "the network on {} does not run on the host's threads", self.describe()))
    }

    /// The bytes on a device of its own that the network takes for batches up to this, weights and uploads counted; 0
    /// if it runs in the host's memory. Errors: as [`Network::workspace_len`].
    fn device_bytes(&self, batch: usize) -> Result<usize> {
        self.workspace_len(batch).map(|_| 0)
    }

    /// Has what calls of up to this batch need besides their workspace, so that these calls have nothing to allocate.
    /// Errors: `OutOfMemory` or `Device`.
    fn prepare(&self, batch: usize) -> Result<()> {
        self.workspace_len(batch).map(|_| ())
    }

    /// What the backend runs on, for reports: `"cpu avx512, 2 threads"`.
    fn describe(&self) -> alloc::string::String;

    /// The network as a part of a program, for batches up to `batch`: an expression. Errors: kind `Unsupported` where
    /// it cannot be one; as [`Network::workspace_len`].
    #[doc(hidden)]
    #[cfg(feature = "embed")]
    fn emit_fixed(&self, batch: usize, to: &mut crate::emit::Emitter) -> Result<alloc::string::String> {
        let _ = (batch, to);
        Err(err!(Unsupported, "the network on {} cannot be a part of a program", self.describe()))
    }

    /// Runs the network for `batch` samples. Inputs and outputs are row-major with the batch first (images NCHW).
    ///
    /// Nothing is allocated. Results for a sample depend on that sample alone: they are the same bits for any batch and
    /// number of threads. Errors: `Shape` if a buffer has the wrong length, `OutOfMemory` if the workspace is shorter
    /// than [`Network::workspace_len`], `Cancelled` within the time of one layer; outputs are then unspecified and the
    /// network stays usable.
    fn run(
        &self,
        batch: usize,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        workspace: &mut [f32],
        cancel: &Cancel,
    ) -> Result<()>;
}

/// The checks of [`Network::run`] that every backend makes first.
pub(crate) fn check_run(
    network: &dyn Network,
    batch: usize,
    inputs: &[&[f32]],
    outputs: &[&mut [f32]],
    workspace: &[f32],
) -> Result<()> {
    let needed = network.workspace_len(batch)?;
    let got = workspace.len();
    if got < needed {
        return Err(err!(OutOfMemory, "the workspace has {got} values, expected {needed}").with_lengths(got, needed));
    }
    let lens = |what: &str, dims: &[Dims], got: &mut dyn ExactSizeIterator<Item = usize>| -> Result<()> {
        ensure!(got.len() == dims.len(), InvalidArgument, "{} {what}s, expected {}", got.len(), dims.len());
        for (i, (n, d)) in got.zip(dims).enumerate() {
            let expected =
                d.elements().checked_mul(batch).ok_or_else(|| err!(Shape, "a batch of {batch} is too large"))?;
            ensure!(
                n == expected,
                Shape,
                "{what} {i} has {n} values, expected {expected}: a batch of {batch} times {d}"
            );
        }
        Ok(())
    };
    lens("input", network.inputs(), &mut inputs.iter().map(|s| s.len()))?;
    lens("output", network.outputs(), &mut outputs.iter().map(|s| s.len()))
}
