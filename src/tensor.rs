//! Shapes and element types: what every layer may talk about.
//!
//! Sizes come from files and configurations, so every product here is checked.

use core::fmt;

use crate::error::{Result, ensure, err};

/// The largest number of dimensions of one sample.
#[doc(hidden)]
pub const MAX_RANK: usize = 4;

/// The largest number of elements of one sample or one parameter: 2^40, far above any real one and low enough that
/// byte counts for a batch fit in 64 bits after a checked multiplication.
#[doc(hidden)]
pub const MAX_ELEMENTS: u64 = 1 << 40;

/// The dimensions of one sample or one parameter: at most [`MAX_RANK`] of them, each at least 1.
///
/// A sample's first dimension is its channels, whatever layout a backend keeps in memory: `[C]`, `[C, T]` or
/// `[C, H, W]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dims {
    rank: u8,
    dims: [usize; MAX_RANK],
}

impl Dims {
    /// Checks and keeps `dims`. Errors (kind `Shape`): no dimension or more than [`MAX_RANK`], a zero, or more than
    /// [`MAX_ELEMENTS`] elements or `usize::MAX` bytes of `f64` in all.
    pub fn new(dims: &[usize]) -> Result<Self> {
        ensure!(
            !dims.is_empty() && dims.len() <= MAX_RANK,
            Shape,
            "{dims:?} has {} dimensions, expected 1 to {MAX_RANK}",
            dims.len()
        );
        let mut kept = [1; MAX_RANK];
        let mut elements: u64 = 1;
        for (to, &from) in kept.iter_mut().zip(dims) {
            ensure!(from > 0, Shape, "{dims:?} has a dimension of 0, expected at least 1");
            *to = from;
            elements = u64::try_from(from)
                .ok()
                .and_then(|d| elements.checked_mul(d))
                .filter(|&e| e <= MAX_ELEMENTS && usize::try_from(e.saturating_mul(8)).is_ok())
                .ok_or_else(|| err!(Shape, "{dims:?} has too many elements for this machine"))?;
        }
        Ok(Self { rank: dims.len() as u8, dims: kept })
    }

    /// Dimensions that were checked when a program was built. For generated code.
    #[doc(hidden)]
    pub const fn known(dims: &[usize]) -> Self {
        let mut kept = [1; MAX_RANK];
        let mut i = 0;
        while i < dims.len() {
            kept[i] = dims[i];
            i += 1;
        }
        Self { rank: dims.len() as u8, dims: kept }
    }

    /// The dimensions, outermost first.
    pub fn as_slice(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// How many dimensions.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements; cannot overflow, see [`Dims::new`].
    pub fn elements(&self) -> usize {
        self.as_slice().iter().product()
    }

    /// [`Dims::elements`], for constants.
    pub(crate) const fn count(&self) -> usize {
        let (mut n, mut i) = (1, 0);
        while i < self.rank as usize {
            n *= self.dims[i];
            i += 1;
        }
        n
    }

    /// The first dimension.
    pub fn channels(&self) -> usize {
        self.dims[0]
    }

    /// The elements of one channel: the product of all dimensions but the first.
    pub fn positions(&self) -> usize {
        self.as_slice()[1..].iter().product()
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_slice(), f)
    }
}

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_slice(), f)
    }
}

/// An element type, of a stored tensor or of a value in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE binary64.
    F64,
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of binary32.
    BF16,
    /// A signed integer of 64 bits, of class labels and timesteps; never of a value in a network.
    I64,
    /// A signed integer of 32 bits, likewise.
    I32,
    /// A signed integer of 8 bits times a factor of its row, of weights in files.
    I8,
    /// A signed integer of 4 bits times a scale that 32 of them share, of weights in files.
    I4,
}

impl DType {
    /// Whether it is a type of whole numbers. [`DType::I8`] and [`DType::I4`] are not: their integers come with
    /// factors.
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::I64 | Self::I32)
    }

    /// Bytes of one element. Of [`DType::I4`], of which two share a byte, 1.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::I8 | Self::I4 => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I8 => "int8",
            Self::I4 => "int4",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dims_refuse_what_cannot_be_a_shape() {
        assert!(Dims::new(&[]).is_err());
        assert!(Dims::new(&[1, 0]).is_err());
        assert!(Dims::new(&[1; MAX_RANK + 1]).is_err());
        assert!(Dims::new(&[usize::MAX, 2]).is_err());
        assert!(Dims::new(&[1 << 20, 1 << 20, 2]).is_err());
        let d = Dims::new(&[3, 4, 5]).unwrap();
        assert_eq!((d.elements(), d.channels(), d.positions(), d.rank()), (60, 3, 20, 3));
        assert_eq!(Dims::new(&[7]).unwrap().positions(), 1);
    }
}
