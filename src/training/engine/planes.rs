//! Images laid out such that a convolution of stride 1 is a product of the weights with shifted copies of one array.

use alloc::vec::Vec;
use core::ops::Range;

use super::value::{Value, image};
use crate::error::Result;
use crate::graph::Window;
use crate::tensor::Dims;

/// The most floats of a group of samples, all channels, which should leave room in the second cache.
const GROUP: usize = 64 * 1024;

/// The images of a channel one after the other, zeros between their rows and between them: a row's right padding is the
/// next one's left padding, and so from above to below. In such a plane the pixel that a tap of the kernel sees is as
/// far from each output's place, so the products of a tap with all outputs are one run of floats. Outputs have a place
/// for each pixel and each zero, and what stands at the places of no output is not looked at.
pub(super) struct Planes {
    channels: usize,
    size: [usize; 2],
    outputs: [usize; 2],
    kernel: [usize; 2],
    /// Zeros above and to the left.
    before: [usize; 2],
    /// Floats from a row to the next, and from an image to the next.
    row: usize,
    image: usize,
}

impl Planes {
    /// For the convolution with this window from one size to the other; `None` where its outputs are not in such
    /// places.
    pub fn new(window: &Window, from: Dims, to: Dims) -> Option<Self> {
        let p = window.padding;
        Self::with_padding(window, [[p.top, p.bottom], [p.left, p.right]], from, to)
    }

    /// For the adjoint of the convolution with this window, from the size of its outputs to that of its inputs: the
    /// convolution with the kernel turned by 180 degrees.
    pub fn of_adjoint(window: &Window, from: Dims, to: Dims) -> Option<Self> {
        let ([kh, kw], p) = (window.kernel, window.padding);
        let rest = |k: usize, [a, b]: [usize; 2]| Some([k.checked_sub(1 + a)?, k.checked_sub(1 + b)?]);
        Self::with_padding(window, [rest(kh, [p.top, p.bottom])?, rest(kw, [p.left, p.right])?], from, to)
    }

    fn with_padding(window: &Window, padding: [[usize; 2]; 2], from: Dims, to: Dims) -> Option<Self> {
        let ([channels, h, w], [_, rows, columns]) = (image(from), image(to));
        let [[top, bottom], [left, right]] = padding;
        let kernel = window.kernel;
        let row = w + left.max(right);
        let height = h + top.max(bottom);
        let fits = |padding: [usize; 2], k: usize| padding.into_iter().all(|p| p < k);
        let plain = window.stride == 1 && window.dilation == 1 && window.groups == 1;
        let fits = plain && fits(padding[0], kernel[0]) && fits(padding[1], kernel[1]);
        (fits && rows <= height && columns <= row).then_some(Self {
            channels,
            size: [h, w],
            outputs: [rows, columns],
            kernel,
            before: [top, left],
            row,
            image: row * height,
        })
    }

    /// The columns of the weights.
    pub fn depth(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// Floats of a plane of so many samples.
    pub fn len(&self, samples: usize) -> usize {
        self.outputs(samples) + (self.kernel[0] - 1) * self.row + self.kernel[1] - 1
    }

    /// Places of outputs.
    pub fn outputs(&self, samples: usize) -> usize {
        samples * self.image
    }

    /// For each column of the weights, where what it sees of the first output begins.
    pub fn offsets(&self, plane: usize) -> Vec<usize> {
        let [kh, kw] = self.kernel;
        let taps = move |c: usize| (0..kh).flat_map(move |ky| (0..kw).map(move |kx| (c, ky, kx)));
        (0..self.channels).flat_map(taps).map(|(c, ky, kx)| c * plane + ky * self.row + kx).collect()
    }

    /// Calls `f` with groups of samples that stay in cache.
    pub fn groups(&self, batch: usize, mut f: impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        let count = (batch * self.channels * self.image).div_ceil(GROUP).clamp(1, batch.max(1));
        (0..count).try_for_each(|i| f(i * batch / count..(i + 1) * batch / count))
    }

    /// The weights of the convolution to `outs` channels that is the adjoint of the one with weights `weight`.
    pub fn flipped(&self, weight: &[f32], outs: usize) -> Vec<f32> {
        let (taps, depth) = (self.kernel[0] * self.kernel[1], self.depth());
        let mut flipped = alloc::vec![0.0; weight.len()];
        // weight is [channels][outs][taps], the new one [outs][channels][taps].
        for (i, kernel) in weight.chunks_exact(taps).enumerate() {
            let to = &mut flipped[i % outs * depth + i / outs * taps..][..taps];
            to.iter_mut().zip(kernel.iter().rev()).for_each(|(to, v)| *to = *v);
        }
        flipped
    }

    /// Lays out samples of x.
    pub fn spread(&self, x: Value<'_>, samples: &Range<usize>, out: &mut [f32]) {
        let [top, left] = self.before;
        self.lay(x, samples, self.size, top * self.row + left, self.len(samples.len()), out);
    }

    /// Lays out samples of a value at the places of outputs.
    pub fn spread_outputs(&self, y: Value<'_>, samples: &Range<usize>, out: &mut [f32]) {
        self.lay(y, samples, self.outputs, 0, self.outputs(samples.len()), out);
    }

    fn lay(
        &self,
        x: Value<'_>,
        samples: &Range<usize>,
        [h, w]: [usize; 2],
        first: usize,
        plane: usize,
        out: &mut [f32],
    ) {
        for (c, plane) in out.chunks_exact_mut(plane).enumerate() {
            let from = &x.channel(c)[samples.start * h * w..samples.end * h * w];
            let (above, rest) = plane.split_at_mut(first);
            let (images, below) = rest.split_at_mut(samples.len() * self.image);
            above.fill(0.0);
            below.fill(0.0);
            for (image, from) in images.chunks_exact_mut(self.image).zip(from.chunks_exact(h * w)) {
                let (rows, between) = image.split_at_mut(h * self.row);
                between.fill(0.0);
                for (to, from) in rows.chunks_exact_mut(self.row).zip(from.chunks_exact(w)) {
                    let (to, gap) = to.split_at_mut(w);
                    copy(from, to);
                    match gap {
                        [one] => *one = 0.0,
                        gap => gap.fill(0.0),
                    }
                }
            }
        }
    }

    /// Takes the outputs from their places to samples of a value of a chunk of `batch`.
    pub fn collect(&self, wide: &[f32], samples: &Range<usize>, batch: usize, out: &mut [f32]) {
        let [h, w] = self.outputs;
        let planes = wide.chunks_exact(self.outputs(samples.len()));
        for (from, to) in planes.zip(out.chunks_exact_mut(batch * h * w)) {
            let to = &mut to[samples.start * h * w..samples.end * h * w];
            for (image, to) in from.chunks_exact(self.image).zip(to.chunks_exact_mut(h * w)) {
                for (from, to) in image.chunks_exact(self.row).zip(to.chunks_exact_mut(w)) {
                    copy(&from[..w], to);
                }
            }
        }
    }
}

/// Copies a row. Rows are so short that a call of the copying function of the system takes longer than they do, so they
/// are copied in blocks of constant length, of which the last one begins within the one before.
fn copy(from: &[f32], to: &mut [f32]) {
    fn blocks<const N: usize>(from: &[f32], to: &mut [f32]) {
        let last = from.len() - N;
        for at in (0..from.len()).step_by(N) {
            let at = at.min(last);
            to[at..at + N].copy_from_slice(&from[at..at + N]);
        }
    }
    match from.len() {
        16..=64 => blocks::<16>(from, to),
        8..16 => blocks::<8>(from, to),
        4..8 => blocks::<4>(from, to),
        _ => to.copy_from_slice(from),
    }
}
