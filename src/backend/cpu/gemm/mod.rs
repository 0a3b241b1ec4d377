//! The register-tiled matrix kernels that convolutions, linear layers and attention share.
//!
//! A tile is up to `mr` output rows by up to `nr` output columns. Each row has its own pointer, so rows may be the
//! pixels of an image in any order; the sum runs over segments, each a constant offset from all row pointers and a
//! length, against a packed panel of B that is read once from front to back. The order of the sum is that of the
//! segments: it depends on the layer alone, never on the tile's height or place, so results are the same bits however
//! the rows are split.
#![allow(unsafe_code)] // Pointers to rows, and kernels compiled for instruction sets that an `Isa` proves.

pub mod matmul;
pub mod pack;
#[cfg(target_arch = "x86_64")]
pub(super) mod pairs;
#[cfg(feature = "training")]
pub(crate) mod rows;
mod tile;

pub(crate) use tile::{Bf16, Entry, F16, F32, Int4, Int8, MAX_MR, kernels, tiles};
pub use tile::{PORTABLE_TILES, Segment, Tile, Tiles};

/// Rows and columns of an output tile of a path's widest kernel: `(mr, nr)`.
pub fn tile_size(isa: super::isa::Isa) -> (usize, usize) {
    let k = kernels(isa);
    (k.mr, k.nr())
}

/// Floats from -1 to 1, for tests.
#[cfg(test)]
fn numbers(n: usize, seed: u32) -> alloc::vec::Vec<f32> {
    let mut s = seed;
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}
