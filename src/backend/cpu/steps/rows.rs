//! Operations that move floats and compute nothing: constants, runs of positions, blocks of pixels to channels and
//! back, sorted channels.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use super::super::aligned::Floats;
use super::super::heap::Heap;
use super::super::memory::View;
use super::{Run, Step, row_of};
use crate::error::{Result, ensure};

/// The same value for every sample.
#[derive(Debug)]
pub struct Constant {
    pub name: &'static str,
    /// Channels last.
    pub values: Floats,
    pub out: View,
}

impl Constant {
    /// `values` is channels first, as it is stored.
    pub fn new(heap: &Heap, name: &'static str, values: &[f32], out: View) -> Result<Self> {
        let (c, n) = (out.channels, out.positions());
        ensure!(values.len() == c * n, Shape, "{} values, expected {n} times {c}", values.len());
        let mut turned = heap.zeroed(values.len())?;
        turned.iter_mut().enumerate().for_each(|(i, to)| *to = values[i % c * n + i / c]);
        Ok(Self { name, values: turned.into(), out })
    }
}

impl Step for Constant {
    fn name(&self) -> &'static str {
        self.name
    }

    fn weight_bytes(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (out, c, n) = (self.out, self.out.channels, self.out.positions());
        // SAFETY: the plan gives the result to this step alone.
        let to = unsafe { run.memory.write(&out) };
        run.each_rows(n * run.batch, c, &|first, last| {
            for r in first..last {
                // SAFETY: a row is one task's.
                let row = unsafe { to.part(r * out.stride, c) };
                let from = row_of(&self.values, r % n * c, c);
                ensure!(row.len() == from.len(), Shape, "row {r} is not inside its buffer");
                row.copy_from_slice(from);
            }
            Ok(())
        })
    }
}

/// Positions `from .. from + count` of x at `to ..` of the result; with `pad` all other positions become zeros.
#[derive(Debug)]
pub struct CopyRows {
    pub name: &'static str,
    pub x: View,
    pub out: View,
    pub from: usize,
    pub to: usize,
    pub count: usize,
    pub pad: bool,
}

impl Step for CopyRows {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let Self { x, out, from, to, count, pad, .. } = *self;
        let (c, n) = (x.channels, out.positions());
        let (begin, rows) = if pad { (0, n) } else { (to, count) };
        // SAFETY: the plan gives the result to this step alone and keeps the argument unwritten.
        let (source, target) = unsafe { (run.memory.read(&x), run.memory.write(&out)) };
        run.each_rows(rows * run.batch, c, &|first, last| {
            for r in first..last {
                let (sample, p) = (r / rows, r % rows + begin);
                // SAFETY: a row is one task's.
                let row = unsafe { target.part((sample * n + p) * out.stride, c) };
                match p.checked_sub(to).filter(|p| *p < count) {
                    Some(p) => {
                        let from = row_of(source, (sample * x.positions() + from + p) * x.stride, c);
                        ensure!(row.len() == from.len(), Shape, "row {r} is not inside its buffer");
                        row.copy_from_slice(from);
                    }
                    None => row.fill(0.0),
                }
            }
            Ok(())
        })
    }
}

/// Where an element goes.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// [`DepthToSpace`](crate::graph::Op::DepthToSpace).
    ToSpace { factor: [usize; 2], blocks_first: bool },
    /// [`SpaceToDepth`](crate::graph::Op::SpaceToDepth).
    ToDepth { factor: [usize; 2], blocks_first: bool },
    /// [`ShuffleChannels`](crate::graph::Op::ShuffleChannels).
    Shuffle { rows: usize, columns: usize },
}

#[derive(Debug)]
pub struct Rearrange {
    pub name: &'static str,
    pub x: View,
    pub out: View,
    pub order: Order,
}

/// Where the channels of a pixel in a block of `[fh, fw]` begin among those of the block, and how far they are apart.
fn spread(block: usize, pixel: usize, channels: usize, blocks_first: bool) -> (usize, usize) {
    if blocks_first { (pixel * channels, 1) } else { (pixel, block) }
}

impl Rearrange {
    /// Row `p` of a sample whose rows begin at `from`.
    fn row(&self, from: &[f32], p: usize, to: &mut [f32]) {
        let (x, out) = (self.x, self.out);
        let pixel = |y: usize, column: usize| row_of(from, (y * x.width + column) * x.stride, x.channels);
        let (y, column) = (p / out.width, p % out.width);
        match self.order {
            Order::ToSpace { factor: [fh, fw], blocks_first } => {
                let (first, step) = spread(fh * fw, y % fh * fw + column % fw, to.len(), blocks_first);
                let from = pixel(y / fh, column / fw).get(first..).unwrap_or(&[]);
                to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, v)| *to = *v);
            }
            Order::ToDepth { factor: [fh, fw], blocks_first } => {
                for (i, j) in (0..fh).flat_map(|i| (0..fw).map(move |j| (i, j))) {
                    let (first, step) = spread(fh * fw, i * fw + j, x.channels, blocks_first);
                    let to = to.get_mut(first..).unwrap_or(&mut []);
                    let from = pixel(y * fh + i, column * fw + j);
                    to.iter_mut().step_by(step).zip(from).for_each(|(to, v)| *to = *v);
                }
            }
            Order::Shuffle { rows, columns } => {
                let (from, run) = (pixel(y, column), to.len() / (rows * columns).max(1));
                for (i, to) in to.chunks_exact_mut(run.max(1)).enumerate() {
                    to.copy_from_slice(row_of(from, (i % rows * columns + i / rows) * run, run));
                }
            }
        }
    }
}

impl Step for Rearrange {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (x, out, n) = (self.x, self.out, self.out.positions());
        // SAFETY: the plan gives the result to this step alone and keeps the argument unwritten.
        let (from, target) = unsafe { (run.memory.read(&x), run.memory.write(&out)) };
        let fits = from.len() >= (run.batch * x.positions() - 1) * x.stride + x.channels;
        ensure!(fits && x.channels * x.positions() == out.channels * n, Shape, "{} floats become {n} rows", from.len());
        run.each_rows(n * run.batch, out.channels, &|first, last| {
            for r in first..last {
                // SAFETY: a row is one task's.
                let row = unsafe { target.part(r * out.stride, out.channels) };
                self.row(&from[r / n * x.positions() * x.stride..], r % n, row);
            }
            Ok(())
        })
    }
}
