//! The kernels: a WGSL file each, and beside it the Rust that fills in its parameters.
//!
//! A [`Launch`] is one dispatch as data. Nothing here touches a device, so that every shader that a network needs can
//! be made and validated without one.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Result, err};
use crate::graph::Activation;
use crate::tensor::DType;

use conv::Tile;

pub(super) mod attention;
pub(super) mod channel_norm;
pub(super) mod conv;
pub(super) mod elementwise;
pub(super) mod fir;
pub(super) mod grad;
pub(super) mod linear_attention;
pub(super) mod moves;
pub(super) mod norm;
pub(super) mod rows;
pub(super) mod windows;

/// Invocations of a workgroup, except in convolutions.
pub(super) const WORKGROUP: usize = 256;

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    /// A value in the arena. Always bound for reading and writing, because the arena is one buffer and has one use in a
    /// dispatch.
    Value,
    /// Weights, for reading.
    Weight,
}

/// The code of a kernel.
#[derive(Debug)]
pub(super) struct Code {
    /// The name of the main file.
    pub name: &'static str,
    /// The texts that make it, besides those that all have.
    pub files: &'static [&'static str],
    /// Whether it adds up over a workgroup: such a kernel has `body` instead of `main`.
    pub adds_up: bool,
    /// The bindings from number 2 on.
    pub bindings: &'static [Access],
}

/// What stands at a binding of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// Nothing: the kernel does not use it.
    None,
    /// A buffer of the arena.
    Value(usize),
    /// An entry of the program's weights.
    Weight(usize),
}

/// How many workgroups a launch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    /// An invocation for each of so many items of a sample.
    Items(usize),
    /// So many workgroups for a sample.
    Groups(usize),
    /// Tiles of a convolution, see [`Tile`].
    Tiles {
        /// Output positions of a sample.
        rows: usize,
        /// Quads of output channels.
        columns: usize,
        /// Parts of the sum.
        splits: usize,
    },
}

impl Grid {
    /// The workgroups for `batch` samples; the tile of a convolution is as for `capacity` samples.
    pub fn workgroups(&self, batch: usize, capacity: usize) -> usize {
        match *self {
            Self::Items(n) => (n * batch).div_ceil(WORKGROUP),
            Self::Groups(n) => n * batch,
            Self::Tiles { rows, columns, splits } => {
                let tile = Tile::of(rows * capacity, columns, splits);
                tile.down(rows * batch) * tile.across(columns) * splits
            }
        }
    }
}

/// One dispatch.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    /// The operation that it is of.
    pub op: &'static str,
    /// The kernel.
    pub code: &'static Code,
    /// The element types that the kernel's text leaves open.
    pub types: Vec<(&'static str, DType)>,
    /// The values of its override constants.
    pub constants: Vec<(&'static str, f64)>,
    /// What it works on, one for each of the code's bindings.
    pub operands: Vec<Operand>,
    /// The words of its parameters.
    pub params: Vec<u32>,
    /// How many workgroups.
    pub grid: Grid,
}

impl Launch {
    /// The constants with those that depend on how many samples there may be.
    pub fn constants_for(&self, capacity: usize) -> Vec<(&'static str, f64)> {
        let mut all = self.constants.clone();
        if let Grid::Tiles { rows, columns, splits } = self.grid {
            let tile = Tile::of(rows * capacity, columns, splits);
            let named = [("TX", tile.x), ("TY", tile.y), ("ROWS", tile.rows), ("QUADS", tile.quads)];
            all.extend(named.map(|(name, v)| (name, v as f64)));
        }
        all
    }

    /// The whole text of its shader.
    pub fn source(&self, subgroups: bool) -> String {
        let mut text = String::new();
        if self.types.iter().any(|(_, t)| *t == DType::F16) {
            text.push_str("enable f16;\n");
        }
        for (name, dtype) in &self.types {
            let scalar = wgsl_type(*dtype);
            text.push_str(&alloc::format!("alias {name} = {scalar};\nalias {name}4 = vec4<{scalar}>;\n"));
        }
        text.push_str(include_str!("common.wgsl"));
        if self.code.adds_up {
            text.push_str(match subgroups {
                true => include_str!("entry_subgroup.wgsl"),
                false => include_str!("entry_shared.wgsl"),
            });
        }
        for file in self.code.files {
            text.push_str(file);
        }
        text
    }
}

fn wgsl_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "f16",
        _ => "f32",
    }
}

/// The words of a parameter structure, in its order.
#[derive(Default)]
pub(super) struct Words {
    words: Vec<u32>,
    too_large: Option<usize>,
}

impl Words {
    /// Sizes and places.
    pub fn sizes(mut self, values: impl IntoIterator<Item = usize>) -> Self {
        for v in values {
            // Kernels compute with i32 here and there.
            match i32::try_from(v) {
                Ok(w) => self.words.push(w as u32),
                Err(_) => self.too_large = Some(v),
            }
        }
        self
    }

    /// Numbers that may be negative.
    pub fn signed(mut self, values: impl IntoIterator<Item = i32>) -> Self {
        self.words.extend(values.into_iter().map(|v| v as u32));
        self
    }

    /// Factors.
    pub fn floats(mut self, values: impl IntoIterator<Item = f32>) -> Self {
        self.words.extend(values.into_iter().map(f32::to_bits));
        self
    }

    /// The words. Errors: `Unsupported` if a size was too large for the kernels.
    pub fn finish(self) -> Result<Vec<u32>> {
        match self.too_large {
            None => Ok(self.words),
            Some(v) => Err(err!(Unsupported, "a size of {v}, expected at most {}", i32::MAX)),
        }
    }
}

/// The code of an activation in the kernels, and its slope.
pub(super) fn activation(f: Option<Activation>) -> (f64, f32) {
    match f {
        None => (0.0, 0.0),
        Some(Activation::Silu) => (1.0, 0.0),
        Some(Activation::Mish) => (2.0, 0.0),
        Some(Activation::Gelu) => (3.0, 0.0),
        Some(Activation::Relu) => (4.0, 0.0),
        Some(Activation::LeakyRelu { slope }) => (5.0, slope),
        Some(Activation::Sigmoid) => (6.0, 0.0),
        Some(Activation::Tanh) => (7.0, 0.0),
        Some(Activation::Softplus) => (8.0, 0.0),
        Some(Activation::GeluTanh) => (9.0, 0.0),
    }
}

/// A flag as an override constant.
pub(super) fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}
