//! A network as data: values, operations and parameters, with shapes known and checked when it is built.
//!
//! Models build a graph, [`fuse::fuse`] rewrites it once for every backend, and backends plan and run it. The batch is
//! no dimension of a value: every operation acts on each sample alone, so one graph serves any batch size. [`Graph`] is
//! in static single assignment form: a node makes one value, and its arguments stand before it.
//!
//! ```
//! use undiffuse::graph::{Activation, GraphBuilder};
//! # fn main() -> undiffuse::Result<()> {
//! let mut g = GraphBuilder::new();
//! let x = g.input("x", &[2])?;
//! let h = g.linear("fc1", x, 8, true)?;
//! let h = g.activation(h, Activation::Tanh)?;
//! let y = g.linear("fc2", h, 2, true)?;
//! g.output("y", y)?;
//! let graph = g.finish()?;
//! assert_eq!(graph.params().len(), 4);
//! assert_eq!(graph.params()[0].name, "fc1.weight");
//! assert_eq!(graph.params()[0].dims.as_slice(), [8, 2]);
//! # Ok(())
//! # }
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use crate::tensor::{DType, Dims};

mod builder;
#[doc(hidden)]
pub mod data;
#[doc(hidden)] // Backends call it; a graph is compiled without it.
pub mod fuse;
#[cfg(feature = "training")]
#[doc(hidden)]
pub mod gradients;
mod halve;
mod infer;
mod input;
mod op;
mod parts;
#[doc(hidden)] // Backends lay out their memory by it.
pub mod plan;
mod quantise;
mod rebuild;
mod recompute;
#[doc(hidden)]
pub mod vjp;

pub use builder::GraphBuilder;
pub use input::{Input, Role};
pub use op::Op;
#[cfg(feature = "training")]
#[doc(hidden)]
pub use op::ParamGrad;
/// What fusion writes; models do not build it.
#[doc(hidden)]
pub use op::{Epilogue, FusedConv, FusedConvAdjoint, FusedNormGrad, Prologue};
pub use parts::{Activation, Binary, ChannelNorm, GroupNorm, Kernel, NormKind, Padding, Window};
pub use quantise::{LayerPrecision, Quantisation};
pub(crate) use rebuild::alone;

/// Names a value: the node that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(u32);

/// Names a parameter of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(u32);

/// Names an input of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InputId(u32);

macro_rules! index {
    ($($id:ident),*) => {$(
        impl $id {
            /// Its place in the graph's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}
index!(ValueId, ParamId, InputId);

/// The type of a value: its dimensions for one sample and its precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueType {
    /// Channels first; see [`Dims`].
    pub dims: Dims,
    /// How a backend should keep it. Models build `F32`; a pass may lower it.
    pub dtype: DType,
}

/// A node: one operation and the value it makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Its arguments, each made by an earlier node.
    pub args: Vec<ValueId>,
    /// The type of its value.
    pub ty: ValueType,
}

/// A parameter: a tensor that the weights must have under this name with these dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// The name in the weight file.
    pub name: String,
    /// Its dimensions.
    pub dims: Dims,
    /// Of a layer's weight: what the layer computes in. Models build [`LayerPrecision::F32`];
    /// [precision](crate::pipeline::Precision) is a pass.
    pub precision: LayerPrecision,
}

/// An input or output with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name.
    pub name: String,
    /// The value.
    pub value: ValueId,
    /// What an input is for; [`Role::Value`] for an output.
    pub role: Role,
}

/// A network as data. Made by [`GraphBuilder`], so it is well formed: arguments stand before their use and every
/// shape has been checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    params: Vec<Param>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Graph {
    /// The nodes, in an order in which they can run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that makes a value of this graph.
    pub fn node(&self, id: ValueId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The type of a value of this graph.
    pub fn ty(&self, id: ValueId) -> ValueType {
        self.node(id).ty
    }

    /// The dimensions of a value of this graph, for one sample.
    pub fn dims(&self, id: ValueId) -> Dims {
        self.node(id).ty.dims
    }

    /// The parameters.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// A parameter of this graph.
    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[id.index()]
    }

    /// The inputs, in the order in which a run takes them.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs, in the order in which a run writes them.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The ids of all values in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = ValueId> + use<> {
        (0..self.nodes.len() as u32).map(ValueId)
    }

    /// The number of weights in all parameters together.
    pub fn parameter_count(&self) -> usize {
        self.params.iter().map(|p| p.dims.elements()).sum()
    }

    /// Floating point operations of one network call for one sample: 2 for each multiply-add of convolutions, linear
    /// maps and attention, the rest left out, as the field counts them.
    pub fn flops(&self) -> u64 {
        self.nodes.iter().map(|n| infer::flops(self, n)).sum()
    }

    /// For each value, how often it is an argument or an output.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut uses = alloc::vec![0; self.nodes.len()];
        for id in self.nodes.iter().flat_map(|n| &n.args).chain(self.outputs.iter().map(|p| &p.value)) {
            uses[id.index()] += 1;
        }
        uses
    }
}
