//! Values of a chunk, and the way between their layout and rows of samples.

use crate::tensor::Dims;

/// A value of a chunk of `batch` samples, `[C, batch, positions]`.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub data: &'a [f32],
    pub dims: Dims,
    pub batch: usize,
}

impl<'a> Value<'a> {
    pub fn channels(&self) -> usize {
        self.dims.channels()
    }

    pub fn positions(&self) -> usize {
        self.dims.positions()
    }

    /// Elements from one channel to the next.
    pub fn row(&self) -> usize {
        self.batch * self.dims.positions()
    }

    /// All samples of one channel.
    pub fn channel(&self, c: usize) -> &'a [f32] {
        &self.data[c * self.row()..][..self.row()]
    }

    /// One sample of one channel.
    pub fn plane(&self, c: usize, sample: usize) -> &'a [f32] {
        let p = self.positions();
        &self.data[c * self.row() + sample * p..][..p]
    }
}

/// Channels, height and width; what is no image has one row.
pub(super) fn image(d: Dims) -> [usize; 3] {
    match *d.as_slice() {
        [c, h, w] => [c, h, w],
        _ => [d.channels(), 1, d.positions()],
    }
}

/// From samples one after the other to `[C, batch, positions]`.
pub(super) fn gather(samples: &[f32], dims: Dims, batch: usize, out: &mut [f32]) {
    let (c, p) = (dims.channels(), dims.positions());
    for (i, to) in out.chunks_exact_mut(p).take(c * batch).enumerate() {
        to.copy_from_slice(&samples[(i % batch * c + i / batch) * p..][..p]);
    }
}

/// The way back.
pub(super) fn scatter(value: &[f32], dims: Dims, batch: usize, samples: &mut [f32]) {
    let (c, p) = (dims.channels(), dims.positions());
    for (i, from) in value.chunks_exact(p).take(c * batch).enumerate() {
        samples[(i % batch * c + i / batch) * p..][..p].copy_from_slice(from);
    }
}
