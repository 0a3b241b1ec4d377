//! Convolutions, linear maps and their gradients as matrix products.
//!
//! Of stride 1 they need no unfolded pixels: see [`Planes`]. Other convolutions unfold rows of pixels.

use alloc::vec::Vec;

use super::planes::Planes;
use super::value::{Value, image};
use crate::backend::cpu::gemm::pack::transpose;
use crate::backend::cpu::gemm::rows::{Dots, Rows, Start};
use crate::backend::cpu::isa::Isa;
use crate::error::Result;
use crate::graph::Window;
use crate::tensor::Dims;

/// The columns from which on a product of many short rows takes less time than reading the weights in another order.
const WIDE: usize = 256;

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

/// The first floats of a scratch as slices of these lengths, which hold anything.
fn scratch_of<const N: usize>(scratch: &mut Vec<f32>, lens: [usize; N]) -> [&mut [f32]; N] {
    let all = lens.iter().sum();
    if scratch.len() < all {
        scratch.resize(all, 0.0);
    }
    let mut rest = &mut scratch[..all];
    lens.map(|len| {
        let (head, tail) = core::mem::take(&mut rest).split_at_mut(len);
        rest = tail;
        head
    })
}

/// Where `count` rows of `len` floats begin.
fn rows_of(count: usize, len: usize) -> Vec<usize> {
    (0..count).map(|i| i * len).collect()
}

/// `to = from^T`, where `from` has rows of `columns` floats.
fn turn(from: &[f32], columns: usize, to: &mut [f32]) {
    let rows = from.len() / columns.max(1);
    if rows > 0 && columns > 0 {
        transpose(from, columns, [rows, columns], to, rows);
    }
}

/// `y = W x + b`, with a window.
pub(super) fn forward(
    isa: Isa,
    x: Value<'_>,
    (weight, bias): (&[f32], Option<&[f32]>),
    window: &Window,
    dims: Dims,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<()> {
    let outs = dims.channels();
    let row = x.batch * dims.positions();
    let start = bias.map_or(Start::Zero, Start::Bias);
    let product = |a_stride: usize, b: &[f32], offsets: &[usize], n: usize, c_stride: usize, c: &mut [f32]| {
        Rows { isa, m: outs, n, a: weight, a_stride, b, offsets, start, c_stride }.run(c).map(|_| ())
    };
    if window.is_point() {
        let ins = x.channels();
        return product(ins, x.data, &rows_of(ins, row), row, row, out);
    }
    if let Some(planes) = Planes::new(window, x.dims, dims) {
        return planes.groups(x.batch, |samples| {
            let (plane, n) = (planes.len(samples.len()), planes.outputs(samples.len()));
            let [spread, wide] = scratch_of(scratch, [x.channels() * plane, outs * n]);
            planes.spread(x, &samples, spread);
            product(planes.depth(), spread, &planes.offsets(plane), n, n, wide)?;
            planes.collect(wide, &samples, x.batch, out);
            Ok(())
        });
    }
    let u = Unfold::new(window, x.dims, dims, x.batch);
    let depth = u.depth();
    u.tiles(|tile| {
        let n = tile.len() * u.columns;
        let [unfolded] = scratch_of(scratch, [depth * n]);
        u.unfold(x.data, &tile, unfolded);
        product(depth, unfolded, &rows_of(depth, n), n, row, &mut out[tile.start * u.columns..])
    })
}

/// `dx = W^T dy`.
pub(super) fn adjoint(
    isa: Isa,
    dy: Value<'_>,
    weight: &[f32],
    window: &Window,
    dims: Dims,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<()> {
    let (outs, ins) = (dy.channels(), dims.channels());
    let row = dy.row();
    let start = Start::Zero;
    if window.is_point() {
        if row >= WIDE {
            let [turned] = scratch_of(scratch, [weight.len()]);
            turn(weight, ins, turned);
            let offsets = &rows_of(outs, row);
            let product =
                Rows { isa, m: ins, n: row, a: turned, a_stride: outs, b: dy.data, offsets, start, c_stride: row };
            return product.run(out).map(|_| ());
        }
        // dx^T = dy^T W, which reads W as it lies.
        let [turned, by_sample] = scratch_of(scratch, [dy.data.len(), out.len()]);
        turn(dy.data, row, turned);
        let offsets = &rows_of(outs, ins);
        let product = Rows { isa, m: row, n: ins, a: turned, a_stride: outs, b: weight, offsets, start, c_stride: ins };
        product.run(by_sample)?;
        turn(by_sample, ins, out);
        return Ok(());
    }
    if let Some(planes) = Planes::of_adjoint(window, dy.dims, dims) {
        let flipped = planes.flipped(weight, ins);
        return planes.groups(dy.batch, |samples| {
            let (plane, n) = (planes.len(samples.len()), planes.outputs(samples.len()));
            let [spread, wide] = scratch_of(scratch, [outs * plane, ins * n]);
            planes.spread(dy, &samples, spread);
            let (a, offsets) = (&*flipped, &*planes.offsets(plane));
            let a_stride = planes.depth();
            Rows { isa, m: ins, n, a, a_stride, b: spread, offsets, start, c_stride: n }.run(wide)?;
            planes.collect(wide, &samples, dy.batch, out);
            Ok(())
        });
    }
    let u = Unfold::new(window, dims, dy.dims, dy.batch);
    let depth = u.depth();
    out.fill(0.0);
    u.tiles(|tile| {
        let n = tile.len() * u.columns;
        let [turned, unfolded] = scratch_of(scratch, [weight.len(), depth * n]);
        turn(weight, depth, turned);
        let (b, offsets) = (&dy.data[tile.start * u.columns..], &*rows_of(outs, row));
        Rows { isa, m: depth, n, a: turned, a_stride: outs, b, offsets, start, c_stride: n }.run(unfolded)?;
        u.fold(unfolded, &tile, out);
        Ok(())
    })
}

/// Adds `dW = dy x^T`.
pub(super) fn add_weight(
    isa: Isa,
    x: Value<'_>,
    dy: Value<'_>,
    window: &Window,
    to: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<()> {
    let (outs, ins) = (dy.channels(), x.channels());
    let row = dy.row();
    let product = |n: usize, a: &[f32], a_stride: usize, b: &[f32], offsets: &[usize], to: &mut [f32]| {
        Dots { isa, m: outs, n, a, a_stride, b, offsets }.run(to).map(|_| ())
    };
    if window.is_point() {
        if row >= WIDE {
            return product(row, dy.data, row, x.data, &rows_of(ins, row), to);
        }
        let [turned] = scratch_of(scratch, [x.data.len()]);
        turn(x.data, row, turned);
        let (offsets, start) = (&*rows_of(row, ins), Start::Keep);
        let product =
            Rows { isa, m: outs, n: ins, a: dy.data, a_stride: row, b: turned, offsets, start, c_stride: ins };
        return product.run(to).map(|_| ());
    }
    if let Some(planes) = Planes::new(window, x.dims, dy.dims) {
        return planes.groups(x.batch, |samples| {
            let (plane, n) = (planes.len(samples.len()), planes.outputs(samples.len()));
            let [spread, wide] = scratch_of(scratch, [ins * plane, outs * n]);
            planes.spread(x, &samples, spread);
            planes.spread_outputs(dy, &samples, wide);
            product(n, wide, n, spread, &planes.offsets(plane), to)
        });
    }
    let u = Unfold::new(window, x.dims, dy.dims, x.batch);
    let depth = u.depth();
    u.tiles(|tile| {
        let n = tile.len() * u.columns;
        let [unfolded] = scratch_of(scratch, [depth * n]);
        u.unfold(x.data, &tile, unfolded);
        product(n, &dy.data[tile.start * u.columns..], row, unfolded, &rows_of(depth, n), to)
    })
}
