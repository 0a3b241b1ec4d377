//! What the inputs of a network are for.

use alloc::string::String;

use super::{Graph, Op, ValueId};
use crate::error::{Result, ensure};
use crate::tensor::Dims;

/// What an input of a network is for: who fills it in a run, and how its values are laid out where a caller gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Nothing is said; where a denoiser meets it beside inputs of which something is, it is a condition of any
    /// dimensions.
    #[default]
    Value,
    /// x at the level of the call: what the chain carries.
    Sample,
    /// The timestep of the level, `[1]`.
    Timestep,
    /// The number of a class, `[1]`: a whole number.
    Class,
    /// A class or a mixture of them as a vector, `[D]`, in the place of a number.
    ClassVector,
    /// A vector, `[D]`: an embedding, what a robot observes.
    Vector,
    /// A sequence of `L` tokens of `D` values, `[D, L]` in the graph, channels first; a caller gives it as `[L, D]`, as
    /// PyTorch has it.
    Tokens,
    /// An image, `[C, H, W]` (or `[C, L]`), that the network sees beside x, mostly concatenated to it along the
    /// channels.
    Image,
    /// Which parts of x are meant, `[C, H, W]` (or `[C, L]`), mostly with one channel.
    Mask,
    /// The cotangent of an output, in a network of gradients.
    Cotangent,
}

impl Role {
    /// The roles under the names that files and programs use.
    pub const NAMES: [(&'static str, Role); 10] = [
        ("value", Self::Value),
        ("sample", Self::Sample),
        ("timestep", Self::Timestep),
        ("class", Self::Class),
        ("class_vector", Self::ClassVector),
        ("vector", Self::Vector),
        ("tokens", Self::Tokens),
        ("image", Self::Image),
        ("mask", Self::Mask),
        ("cotangent", Self::Cotangent),
    ];

    /// Its name, as in [`Role::NAMES`].
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, role)| *role == self).map_or("value", |(name, _)| name)
    }

    /// Whether the caller of a run gives its values, as those of x, the timestep and a cotangent it does not.
    pub fn is_condition(self) -> bool {
        !matches!(self, Self::Sample | Self::Timestep | Self::Cotangent)
    }

    /// Whether it is a class, of whichever form.
    pub fn is_class(self) -> bool {
        matches!(self, Self::Class | Self::ClassVector)
    }

    /// Whether a network may have but one such input.
    pub(super) fn is_single(self) -> bool {
        matches!(self, Self::Sample | Self::Timestep) || self.is_class()
    }

    /// That an input of this role may have these dimensions.
    pub(super) fn check(self, dims: &Dims) -> Result<()> {
        let rank = dims.rank();
        let (fits, expected) = match self {
            Self::Timestep | Self::Class => (dims.as_slice() == [1], "[1]"),
            Self::ClassVector | Self::Vector => (rank == 1, "[D]"),
            Self::Tokens => (rank == 2, "[D, L]"),
            Self::Image | Self::Mask => (rank >= 2, "[C, H, W] or [C, L]"),
            Self::Value | Self::Sample | Self::Cotangent => (true, ""),
        };
        ensure!(fits, Shape, "its dimensions are {dims}, expected {expected} for the role {:?}", self.name());
        Ok(())
    }
}

/// An input of a network, as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its dimensions for one sample, as the network takes it: see [`Role::Tokens`] for what a caller gives.
    pub dims: Dims,
    /// The rows of the smallest table that it is the row number of: it must be a whole number below. `None` for any
    /// finite value.
    pub rows: Option<usize>,
}

impl Input {
    /// An input, of any finite values.
    pub fn new(name: impl Into<String>, role: Role, dims: Dims) -> Self {
        Self { name: name.into(), role, dims, rows: None }
    }

    /// The dimensions of one sample's values where a caller gives them: those of the network, but `[L, D]` for tokens.
    pub fn given_dims(&self) -> Dims {
        match (self.role, self.dims.as_slice()) {
            (Role::Tokens, &[d, l]) => Dims::new(&[l, d]).unwrap_or(self.dims),
            _ => self.dims,
        }
    }
}

impl Graph {
    /// The inputs with their names and roles, in the order in which a run takes them.
    pub fn signature(&self) -> alloc::vec::Vec<Input> {
        let of = |port: &super::Port| Input {
            name: port.name.clone(),
            role: port.role,
            dims: self.dims(port.value),
            rows: self.table_rows(port.value),
        };
        self.inputs().iter().map(of).collect()
    }

    /// The number of the input of this role, of the first where there are several.
    pub fn input_of(&self, role: Role) -> Option<usize> {
        self.inputs().iter().position(|port| port.role == role)
    }

    /// The rows of the smallest table that a value is the row number of.
    fn table_rows(&self, value: ValueId) -> Option<usize> {
        let rows = |node: &super::Node| match node.op {
            Op::Embedding { table } if node.args.first() == Some(&value) => {
                self.param(table).dims.as_slice().first().copied()
            }
            Op::OneHot { classes } if node.args.first() == Some(&value) => Some(classes),
            _ => None,
        };
        self.nodes().iter().filter_map(rows).min()
    }
}
