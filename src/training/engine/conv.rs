//! Convolutions, linear maps and their gradients as matrix products over unfolded rows of pixels.

use alloc::vec::Vec;

use super::value::{Value, image};
use crate::error::Result;
use crate::graph::Window;
use crate::matmul::{Strided, product_f32};
use crate::tensor::Dims;

/// The most unfolded values at a time: they should stay in the second cache.
const TILE: usize = 96 * 1024;

/// The sizes of a convolution from `[channels, height, width]` to `[_, rows, columns]` over a batch.
struct Unfold<'w> {
    window: &'w Window,
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    rows: usize,
    columns: usize,
}

impl<'w> Unfold<'w> {
    fn new(window: &'w Window, from: Dims, to: Dims, batch: usize) -> Self {
        let ([channels, height, width], [_, rows, columns]) = (image(from), image(to));
        Self { window, batch, channels, height, width, rows, columns }
    }

    /// The height of the unfolded matrix: channels times the window.
    fn depth(&self) -> usize {
        self.channels * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Calls `f` with runs of output rows, counted over all samples.
    fn tiles(&self, mut f: impl FnMut(core::ops::Range<usize>) -> Result<()>) -> Result<()> {
        let all = self.batch * self.rows;
        let step = (TILE / (self.depth() * self.columns)).max(1);
        let mut at = 0;
        while at < all {
            let end = (at + step).min(all);
            f(at..end)?;
            at = end;
        }
        Ok(())
    }

    /// For each row of the window, of the unfolded matrix and of the outputs in `tile`: the place in the unfolded
    /// matrix, in the image of all channels, and the range of output columns that the image serves. Places without a
    /// row in the image have none.
    fn each(
        &self,
        tile: &core::ops::Range<usize>,
        mut f: impl FnMut(usize, Option<usize>, core::ops::Range<usize>, usize),
    ) {
        let [kh, kw] = self.window.kernel;
        let (s, p) = (self.window.stride, self.window.padding);
        let n = tile.len() * self.columns;
        for (depth, (c, (ky, kx))) in (0..self.channels)
            .flat_map(|c| (0..kh).flat_map(move |ky| (0..kw).map(move |kx| (c, (ky, kx)))))
            .enumerate()
        {
            let from = p.left.saturating_sub(kx).div_ceil(s).min(self.columns);
            let to = (self.width + p.left).saturating_sub(kx).div_ceil(s).min(self.columns).max(from);
            for (i, r) in tile.clone().enumerate() {
                let (sample, yo) = (r / self.rows, r % self.rows);
                let row = (yo * s + ky).checked_sub(p.top).filter(|&y| y < self.height);
                let row = row.map(|y| ((c * self.batch + sample) * self.height + y) * self.width);
                // The pixel of output column `from`.
                let first = (from * s + kx).saturating_sub(p.left);
                f(depth * n + i * self.columns, row.map(|at| at + first), from..to, n);
            }
        }
    }

    fn unfold(&self, x: &[f32], tile: &core::ops::Range<usize>, out: &mut [f32]) {
        let s = self.window.stride;
        self.each(tile, |at, pixel, columns, _| {
            let to = &mut out[at..][..self.columns];
            let Some(pixel) = pixel.filter(|_| !columns.is_empty()) else { return to.fill(0.0) };
            to[..columns.start].fill(0.0);
            to[columns.end..].fill(0.0);
            let to = &mut to[columns];
            if s == 1 {
                to.copy_from_slice(&x[pixel..][..to.len()]);
            } else {
                to.iter_mut().zip(x[pixel..].iter().step_by(s)).for_each(|(to, v)| *to = *v);
            }
        });
    }

    /// Adds what [`Unfold::unfold`] would have taken.
    fn fold(&self, unfolded: &[f32], tile: &core::ops::Range<usize>, x: &mut [f32]) {
        let s = self.window.stride;
        self.each(tile, |at, pixel, columns, _| {
            let Some(pixel) = pixel.filter(|_| !columns.is_empty()) else { return };
            let from = &unfolded[at..][columns];
            if s == 1 {
                x[pixel..][..from.len()].iter_mut().zip(from).for_each(|(to, v)| *to += v);
            } else {
                x[pixel..].iter_mut().step_by(s).zip(from).for_each(|(to, v)| *to += v);
            }
        });
    }
}

fn scratch_of(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    &mut scratch[..len]
}

/// `y = W x + b`, with a window.
pub(super) fn forward(
    x: Value<'_>,
    weight: &[f32],
    bias: Option<&[f32]>,
    window: &Window,
    dims: Dims,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<()> {
    let outs = dims.channels();
    let row = x.batch * dims.positions();
    let keep = match bias {
        Some(bias) => {
            out.chunks_exact_mut(row).zip(bias).for_each(|(y, b)| y.fill(*b));
            1.0
        }
        None => 0.0,
    };
    if window.is_point() {
        let w = Strided::new(weight, outs, x.channels(), x.channels())?;
        return product_f32(w, Strided::new(x.data, x.channels(), row, row)?, keep, out, row);
    }
    let u = Unfold::new(window, x.dims, dims, x.batch);
    let depth = u.depth();
    let w = Strided::new(weight, outs, depth, depth)?;
    u.tiles(|tile| {
        let n = tile.len() * u.columns;
        let unfolded = scratch_of(scratch, depth * n);
        u.unfold(x.data, &tile, unfolded);
        product_f32(w, Strided::new(unfolded, depth, n, n)?, keep, &mut out[tile.start * u.columns..], row)
    })
}

/// `dx = W^T dy`.
pub(super) fn adjoint(
    dy: Value<'_>,
    weight: &[f32],
    window: &Window,
    dims: Dims,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<()> {
    let outs = dy.channels();
    let row = dy.row();
    if window.is_point() {
        let ins = dims.channels();
        let w = Strided::new(weight, outs, ins, ins)?.transposed();
        return product_f32(w, Strided::new(dy.data, outs, row, row)?, 0.0, out, row);
    }
    let u = Unfold::new(window, dims, dy.dims, dy.batch);
    let depth = u.depth();
    let w = Strided::new(weight, outs, depth, depth)?.transposed();
    out.fill(0.0);
    u.tiles(|tile| {
        let n = tile.len() * u.columns;
        let unfolded = scratch_of(scratch, depth * n);
        let part = Strided::new(&dy.data[tile.start * u.columns..], outs, n, row)?;
        product_f32(w, part, 0.0, unfolded, n)?;
        u.fold(unfolded, &tile, out);
        Ok(())
    })
}

/// Adds `dW = dy x^T`.
pub(super) fn add_weight(
    x: Value<'_>,
    dy: Value<'_>,
    window: &Window,
    to: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<()> {
    let outs = dy.channels();
    let row = dy.row();
    if window.is_point() {
        let x = Strided::new(x.data, x.channels(), row, row)?.transposed();
        return product_f32(Strided::new(dy.data, outs, row, row)?, x, 1.0, to, dy_columns(to, outs));
    }
    let u = Unfold::new(window, x.dims, dy.dims, x.batch);
    let depth = u.depth();
    u.tiles(|tile| {
        let n = tile.len() * u.columns;
        let unfolded = scratch_of(scratch, depth * n);
        u.unfold(x.data, &tile, unfolded);
        let part = Strided::new(&dy.data[tile.start * u.columns..], outs, n, row)?;
        product_f32(part, Strided::new(unfolded, depth, n, n)?.transposed(), 1.0, to, depth)
    })
}

/// The inputs of a weight of `outs` rows.
fn dy_columns(weight: &[f32], outs: usize) -> usize {
    weight.len() / outs
}
