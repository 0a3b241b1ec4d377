//! Where values lie on the device: views of buffers in one arena.
//!
//! A value of `[C, H, W]` is `batch * H * W` rows of C elements (channels last). Rows are `stride` elements apart, a
//! multiple of 4, so that kernels may read quads; what lies between a row's end and the next row is never read as data.
//! A view may be some channels of a wider buffer. Values with positions may be f16; those without, and inputs and
//! outputs, are f32.

use alloc::vec::Vec;

use crate::error::{Result, err};
use crate::graph::plan::{ArenaPlan, Buffer, plan};
use crate::tensor::{DType, Dims};

/// Every buffer begins on a multiple of this many bytes, the most that any adapter asks of a binding.
pub(super) const ALIGNMENT: usize = 256;

/// The most bytes of one binding: WebGPU's default limit.
pub(super) const MAX_BINDING: usize = 128 << 20;

/// Some channels of a buffer, as rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Which buffer of the plan.
    pub buffer: usize,
    /// The first channel, in elements from the row's begin.
    pub start: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Channels: elements of a row that are of this value.
    pub channels: usize,
    /// Rows of the image; 1 for other values.
    pub height: usize,
    /// Columns of the image, or tokens, or 1.
    pub width: usize,
    /// What an element is.
    pub dtype: DType,
}

impl View {
    /// Positions of one sample.
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    /// Channels `start .. start + len` of this view.
    pub fn slice(self, start: usize, len: usize) -> Self {
        Self { start: self.start + start, channels: len, ..self }
    }

    /// Whether it begins on a quad.
    pub fn on_quad(&self) -> bool {
        self.start.is_multiple_of(4)
    }
}

/// A multiple of 4 that is at least `channels`.
pub(super) fn padded(channels: usize) -> Result<usize> {
    channels.checked_next_multiple_of(4).ok_or_else(|| err!(OutOfMemory, "{channels} channels are too many"))
}

/// Bytes of a sample's rows, rounded up to the alignment.
pub(super) fn bytes(rows: usize, stride: usize, dtype: DType) -> Result<usize> {
    rows.checked_mul(stride)
        .and_then(|n| n.checked_mul(dtype.size()))
        .and_then(|n| n.checked_next_multiple_of(ALIGNMENT))
        .ok_or_else(|| err!(OutOfMemory, "a value of {rows} x {stride} elements is too large"))
}

/// The buffers of a program, in bytes of one sample, and when each is in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(pub Vec<Buffer>);

impl Buffers {
    /// A new buffer for rows of `channels` elements.
    pub fn add(&mut self, dims: [usize; 3], dtype: DType, first: usize, last: usize) -> Result<View> {
        let [channels, height, width] = dims;
        let stride = padded(channels)?;
        let rows =
            height.checked_mul(width).ok_or_else(|| err!(OutOfMemory, "{height} x {width} positions are too many"))?;
        self.0.push(Buffer { size: bytes(rows, stride, dtype)?, first, last: last.max(first) });
        Ok(View { buffer: self.0.len() - 1, start: 0, stride, channels, height, width, dtype })
    }

    /// Where they lie.
    pub fn plan(&self) -> ArenaPlan {
        plan(&self.0)
    }
}

/// Channels, rows and columns of a value.
pub(super) fn image(dims: Dims) -> [usize; 3] {
    match *dims.as_slice() {
        [c, h, w] => [c, h, w],
        _ => [dims.channels(), 1, dims.positions()],
    }
}
