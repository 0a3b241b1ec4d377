//! The CPU backend. Everything in this folder works on plain f32 memory; activations are channels-last (NHWC).
//!
//! [`Cpu`] compiles a graph: `compile` fuses it, lays its values out in one arena and packs the weights; `network` runs
//! the steps, each spread over [`threads`](super::threads). The kernels (`gemm`, `conv`, `gather`, `vmath`) are written
//! once over `simd` and compiled for each [`Path`]. Their views of raw memory are nobody else's:
//!
//! ```compile_fail,E0603
//! use undiffuse::backend::cpu::aligned::SharedMut;
//! ```
//!
//! ```
//! use undiffuse::backend::cpu::Cpu;
//! use undiffuse::backend::{Backend, Network};
//! use undiffuse::graph::GraphBuilder;
//! use undiffuse::tensor::Dims;
//! # fn main() -> undiffuse::Result<()> {
//! let mut g = GraphBuilder::new();
//! let x = g.input("x", &[2])?;
//! let y = g.linear("fc", x, 1, true)?;
//! g.output("y", y)?;
//! let ones = |_: &str, _: &Dims, out: &mut [f32]| Ok(out.fill(1.0));
//! let net = Cpu::new()?.compile(&g.finish()?, &ones)?;
//! let mut workspace = vec![0.0; net.workspace_len(1)?];
//! let mut y = [0.0];
//! net.run(1, &[&[3.0, 4.0]], &mut [&mut y], &mut workspace, &undiffuse::Cancel::new())?;
//! assert_eq!(y, [8.0]);
//! # Ok(())
//! # }
//! ```

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::threads::{Serial, Threads};
use super::{Backend, Network, ParamSource};
use crate::error::{Result, ensure, err};
use crate::graph::Graph;

mod aligned;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
mod amx;
mod compile;
#[allow(missing_docs)] // Its items are reached by generated code alone, as are those of some modules below.
mod conv;
#[cfg(feature = "embed")]
mod emits;
mod gather;
#[allow(missing_docs)]
pub(crate) mod gemm;
mod halves;
#[doc(hidden)]
pub mod heap;
#[allow(missing_docs)]
mod integers;
pub(crate) mod isa;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod kernels;
#[allow(missing_docs)]
mod memory;
#[doc(hidden)] // What `Cpu::compile_network` gives, for profiles.
pub mod network;
mod packs;
#[cfg(feature = "threads")]
mod place;
#[cfg(feature = "threads")]
#[doc(hidden)] // `CpuOptions` makes one.
pub mod pool;
pub(crate) mod simd;
mod staging;
#[allow(missing_docs)]
mod steps;
#[allow(missing_docs)]
mod stored;
pub(crate) mod vmath;

/// What a network that is a part of a program is made of. For generated code.
#[doc(hidden)]
pub mod parts {
    pub use super::aligned::{Block, Floats};
    pub use super::conv::{ConvShape, Method, PackedConv};
    pub use super::gemm::{PORTABLE_TILES, Segment};
    pub use super::isa::Isa;
    pub use super::memory::View;
    pub use super::network::fixed::FixedNetwork;
    pub use super::network::shared::{Shared, Steps};
    pub use super::steps::attention::Attention;
    pub use super::steps::basis::{NearestRow, RadialBasis, Softmax};
    pub use super::steps::channel_norm::ChannelNorm;
    pub use super::steps::conv::{Conv, Gather, Packed};
    pub use super::steps::convert::Convert;
    pub use super::steps::elementwise::{Elementwise, Map};
    pub use super::steps::embed::{Embed, Kind};
    pub use super::steps::fold::Fold;
    pub use super::steps::integer::{IntegerConv, Integers};
    pub use super::steps::linear_attention::LinearAttention;
    pub use super::steps::mat_vec::MatVec;
    pub use super::steps::norm::GroupNormAffine;
    pub use super::steps::resample::{Axis, Resample};
    pub use super::steps::reshape::{ElementBias, Reshape};
    pub use super::steps::rows::{Constant, CopyRows, Order, Rearrange};
    pub use super::stored::{Stored, WeightType};
    pub use super::vmath::Activation as KernelActivation;
}

#[doc(hidden)]
pub use aligned::AlignedBuf;
pub use isa::Path;
pub use stored::WeightType;

use compile::Target;
use heap::Heap;
use isa::Isa;
use network::CpuNetwork;
use packs::Packs;

/// How a [`Cpu`] runs its networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuOptions {
    /// The kernels to use; `None` for the fastest that this CPU has.
    pub path: Option<Path>,
    /// How many threads, the caller's counted; `None` for as many as the process may use at once (one without the
    /// feature `threads`).
    pub threads: Option<usize>,
    /// How weights are kept.
    pub weights: WeightType,
}

/// The backend that runs networks on this machine's processor. Its networks share its threads; a clone shares them too.
#[derive(Clone)]
pub struct Cpu {
    target: Target,
    threads: Arc<dyn Threads>,
    heap: Heap,
}

impl Cpu {
    /// The fastest kernels on all cores.
    ///
    /// # Errors
    /// `OutOfMemory` if the system refuses a thread.
    pub fn new() -> Result<Self> {
        Self::with_options(CpuOptions::default())
    }

    /// As `options` say.
    ///
    /// # Errors
    /// `Unsupported` if this CPU or build has not the path, or if there are to be several threads and this build has
    /// none; `InvalidArgument` for a number of threads outside of `1..=256`.
    pub fn with_options(options: CpuOptions) -> Result<Self> {
        let threads = own_threads(options.threads)?;
        Ok(Self::with_threads(options.path, threads)?.with_weights(options.weights))
    }

    /// With threads that the host gives, see [`Threads`]. `path` is as in [`CpuOptions`].
    ///
    /// # Errors
    /// `Unsupported` if this CPU or build has not the path.
    pub fn with_threads(path: Option<Path>, threads: Arc<dyn Threads>) -> Result<Self> {
        let isa = match path {
            None => Isa::best(),
            Some(p) => Isa::try_new(p).ok_or_else(|| err!(Unsupported, "this CPU or build has no {p} kernels"))?,
        };
        Ok(Self { target: isa.into(), threads, heap: Heap::default() })
    }

    /// The same, with the weights of the networks that it compiles in the memory of `heap`, as well as what it needs to
    /// pack them.
    #[must_use]
    pub fn with_heap(self, heap: Heap) -> Self {
        Self { heap, ..self }
    }

    /// The same, keeping the weights of the networks that it compiles in this type.
    #[must_use]
    pub fn with_weights(self, weights: WeightType) -> Self {
        Self { target: Target { weights, ..self.target }, ..self }
    }

    /// The same, whose layers of 8-bit integers and of bf16 do without dot products, AVX-512's or ARMv8.2's, as on a
    /// CPU that has the path's other instructions alone: for tests of those kernels, since the results are the same, of
    /// bf16 but for the roundings of sums.
    #[must_use]
    pub fn without_dot_products(self) -> Self {
        Self { target: Target { isa: self.target.isa.without_dot_products(), ..self.target }, ..self }
    }

    /// The same, whose layers of bf16 do without AMX, as on a CPU that has AVX-512's dot products of bf16 alone: for
    /// tests of those.
    #[doc(hidden)]
    #[must_use]
    pub fn without_tiles(self) -> Self {
        Self { target: Target { isa: self.target.isa.without_tiles(), ..self.target }, ..self }
    }

    /// How it keeps weights.
    pub fn weights(&self) -> WeightType {
        self.target.weights
    }

    /// The kernels it uses.
    pub fn path(&self) -> Path {
        self.target.isa.path()
    }

    /// [`Backend::compile`] with the network's own type, which can be profiled.
    ///
    /// # Errors
    /// As [`Backend::compile`].
    pub fn compile_network(&self, graph: &Graph, params: &dyn ParamSource) -> Result<CpuNetwork> {
        self.network(&Packs::default(), graph, params)
    }

    /// [`Backend::compile_together`] with the networks' own type.
    ///
    /// # Errors
    /// As [`Backend::compile`].
    pub fn compile_networks(&self, graphs: &[&Graph], params: &dyn ParamSource) -> Result<Vec<CpuNetwork>> {
        let packs = Packs::default();
        graphs.iter().map(|graph| self.network(&packs, graph, params)).collect()
    }

    fn network(&self, packs: &Packs, graph: &Graph, params: &dyn ParamSource) -> Result<CpuNetwork> {
        CpuNetwork::new(self.target, Arc::clone(&self.threads), &self.heap, packs, graph, params)
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn compile(&self, graph: &Graph, params: &dyn ParamSource) -> Result<Box<dyn Network>> {
        Ok(Box::new(self.compile_network(graph, params)?))
    }

    fn compile_together(&self, graphs: &[&Graph], params: &dyn ParamSource) -> Result<Vec<Box<dyn Network>>> {
        let networks = self.compile_networks(graphs, params)?;
        Ok(networks.into_iter().map(|n| -> Box<dyn Network> { Box::new(n) }).collect())
    }

    fn bf16_beats_winograd(&self) -> bool {
        self.target.isa.permits_tiles()
    }
}

impl core::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Cpu({}, {} threads)", self.path(), self.threads.count())
    }
}

#[cfg(feature = "threads")]
fn own_threads(count: Option<usize>) -> Result<Arc<dyn Threads>> {
    ensure!(count != Some(0), InvalidArgument, "0 threads, expected at least 1");
    Ok(match count {
        Some(1) => Arc::new(Serial),
        Some(n) => Arc::new(pool::Pool::new(n)?),
        None => Arc::new(pool::Pool::with_all_cores()?),
    })
}

#[cfg(not(feature = "threads"))]
fn own_threads(count: Option<usize>) -> Result<Arc<dyn Threads>> {
    ensure!(count != Some(0), InvalidArgument, "0 threads, expected at least 1");
    ensure!(
        matches!(count, None | Some(1)),
        Unsupported,
        "{} threads, but this build is without the feature `threads`",
        count.unwrap_or(1)
    );
    Ok(Arc::new(Serial))
}
