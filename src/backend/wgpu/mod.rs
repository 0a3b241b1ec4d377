//! The GPU backend: a network's call as one submission of compute shaders, by the crate `wgpu` over Vulkan.
//!
//! [`Wgpu`] compiles a graph: `compile` fuses it, lays its values out in one arena and lists the weights; `network`
//! uploads the weights once and runs the launches. Nothing of a driver is touched before [`Wgpu::open`] or [`adapters`]
//! is called.
//!
//! - **Layout.** Channels last; rows are padded to 4 channels, so that kernels read quads.
//! - **Memory.** The weights lie in a few buffers, all values of a call in one. The bytes are known before
//!   ([`Network::device_bytes`]). No binding is over 128 MiB: a batch whose values would be larger is run in
//!   pieces, and a network of which one sample is too large is refused.
//! - **Precision.** Sums are f32. With [`Precision::F16`] weights and the values between operations are kept in f16,
//!   and convolutions multiply in f16, adding 16 products before their sum joins the f32 one: about 1e-3 relative, and
//!   a value over 65504 becomes infinite. In a network with gradients only the backward pass is: 1e-3 too, and since it
//!   is linear, each sample's cotangent is scaled to a size at which f16 has room. Embeddings of timesteps and classes
//!   are computed on the host in f64.
//! - **Same result.** A sample's bits do not depend on its batch; they do on the device.
//!
//! Cooperative matrices are not used: the crate has them as an experimental feature of one interface.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Backend, Network, ParamSource};
use crate::error::{Result, ensure};
use crate::graph::{Graph, LayerPrecision};

mod adapter;
mod compile;
mod gpu;
mod host;
mod kernels;
mod memory;
#[doc(hidden)] // What `Wgpu::compile` gives, for tests.
pub mod network;
mod weights;

#[cfg(test)]
mod tests;

pub use adapter::{AdapterKind, AdapterSummary, adapters};
use gpu::Gpu;
use network::WgpuNetwork;

/// How values between operations are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// IEEE binary32 throughout.
    #[default]
    F32,
    /// Weights and values with positions in IEEE binary16. Convolutions of them multiply in binary16 and add 16
    /// products so; their sums, and all else, are binary32. In a network with gradients, those of the backward pass
    /// alone, because a derivative at a rounded value may be far from that at the value. [`Network::describe`] says
    /// which it is.
    F16,
}

/// How a [`Wgpu`] runs its networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WgpuOptions {
    /// How values are kept.
    pub precision: Precision,
    /// Whether kernels use subgroup operations where the adapter has them. Results differ in rounding.
    pub subgroups: bool,
}

impl Default for WgpuOptions {
    fn default() -> Self {
        Self { precision: Precision::F32, subgroups: true }
    }
}

/// The backend that runs networks on a GPU. Its networks share the device; a clone shares it too.
#[derive(Clone, Debug)]
pub struct Wgpu {
    gpu: Arc<Gpu>,
    precision: Precision,
}

impl Wgpu {
    /// Opens the adapter of this number, see [`adapters`]; `None` is the first real GPU. On Linux no driver is opened
    /// for `None` where /dev has no GPU.
    ///
    /// # Errors
    /// `Device` if there is no such adapter or it cannot be opened or used; `Unsupported` if it lacks f16 and options
    /// ask for it.
    pub fn open(index: Option<usize>, options: WgpuOptions) -> Result<Self> {
        let gpu = Gpu::open(index, options.subgroups)?;
        ensure!(
            options.precision == Precision::F32 || gpu.summary.f16,
            Unsupported,
            "{} has no half precision in shaders",
            gpu.summary.name
        );
        Ok(Self { gpu: Arc::new(gpu), precision: options.precision })
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.gpu.summary
    }

    /// [`Backend::compile`] with the network's own type.
    ///
    /// # Errors
    /// As [`Backend::compile`].
    pub fn compile_network(&self, graph: &Graph, params: &dyn ParamSource) -> Result<WgpuNetwork> {
        let narrow = graph.params().iter().any(|p| p.precision != LayerPrecision::F32);
        ensure!(!narrow, Unsupported, "the backend wgpu has no layers of 8-bit integers or bf16: give precision f32");
        WgpuNetwork::new(Arc::clone(&self.gpu), self.precision, graph, params)
    }
}

impl Backend for Wgpu {
    fn name(&self) -> &'static str {
        "wgpu"
    }

    fn compile(&self, graph: &Graph, params: &dyn ParamSource) -> Result<Box<dyn Network>> {
        Ok(Box::new(self.compile_network(graph, params)?))
    }
}

/// A shader as a network uses it.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq)]
pub struct Shader {
    /// The kernel's name.
    pub name: &'static str,
    /// Its text, in WGSL. The entry point is `main`.
    pub source: String,
    /// The values of its override constants.
    pub constants: Vec<(&'static str, f64)>,
}

/// The shaders that a network of this graph has where calls are of up to `batch` samples, each once. No device is
/// needed.
///
/// # Errors
/// `Unsupported` if an operation has no kernel.
#[doc(hidden)]
pub fn shaders(graph: &Graph, batch: usize, options: WgpuOptions) -> Result<Vec<Shader>> {
    let mut found: Vec<Shader> = Vec::new();
    for launch in compile::compile(graph, options.precision)?.launches {
        let (source, constants) = (launch.source(options.subgroups), launch.constants_for(batch));
        let shader = Shader { name: launch.code.name, source, constants };
        if !found.contains(&shader) {
            found.push(shader);
        }
    }
    Ok(found)
}
