//! Operations that depend on where an element lies: other dimensions for the same elements, a bias for each element.
#![allow(unsafe_code)] // Reads and writes rows of the arena, in place where the plan says so.

use super::super::aligned::Floats;
use super::super::heap::Heap;
use super::super::memory::View;
use super::{Run, Step, row_of};
use crate::error::{Result, ensure};

/// [`Reshape`](crate::graph::Op::Reshape). The order it keeps is channels first and the arena's is channels last, so it
/// is a permutation.
#[derive(Debug)]
pub struct Reshape {
    pub x: View,
    pub out: View,
}

impl Step for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (x, out) = (self.x, self.out);
        let (from_rows, to_rows, c) = (x.positions(), out.positions(), out.channels);
        // SAFETY: the plan gives the result to this step alone and keeps the argument unwritten.
        let (from, to) = unsafe { (run.memory.read(&x), run.memory.write(&out)) };
        ensure!(
            from_rows * x.channels == to_rows * c && from.len() >= (from_rows * run.batch - 1) * x.stride + x.channels,
            Shape,
            "{} elements of {} become {}",
            from_rows * x.channels,
            from.len(),
            to_rows * c
        );
        // From one element of a row to the next, in channels and rows of x.
        let (channels, rows) = (to_rows / from_rows, to_rows % from_rows);
        run.each_rows(to_rows * run.batch, c, &|first, last| {
            for r in first..last {
                // SAFETY: a row is one task's.
                let row = unsafe { to.part(r * out.stride, c) };
                let sample = &from[r / to_rows * from_rows * x.stride..];
                let (mut channel, mut position) = (r % to_rows / from_rows, r % to_rows % from_rows);
                for v in row {
                    *v = sample[position * x.stride + channel];
                    (channel, position) = (channel + channels, position + rows);
                    if position >= from_rows {
                        (channel, position) = (channel + 1, position - from_rows);
                    }
                }
            }
            Ok(())
        })
    }
}

/// [`ElementBias`](crate::graph::Op::ElementBias).
#[derive(Debug)]
pub struct ElementBias {
    pub x: View,
    /// `x` itself, or apart from it.
    pub out: View,
    /// Channels last.
    pub bias: Floats,
}

impl ElementBias {
    /// `bias` is channels first, as it is stored.
    pub fn new(heap: &Heap, x: View, out: View, bias: &[f32]) -> Result<Self> {
        let (c, positions) = (x.channels, x.positions());
        let at = |i: usize| bias.get(i % c * positions + i / c).copied().unwrap_or(f32::NAN);
        let mut turned = heap.zeroed(bias.len())?;
        turned.iter_mut().enumerate().for_each(|(i, to)| *to = at(i));
        Ok(Self { x, out, bias: turned.into() })
    }
}

impl Step for ElementBias {
    fn name(&self) -> &'static str {
        "element_bias"
    }

    fn weight_bytes(&self) -> usize {
        self.bias.len() * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (x, out) = (self.x, self.out);
        let (c, positions) = (x.channels, x.positions());
        // SAFETY: the plan gives the result to this step alone.
        let to = unsafe { run.memory.write(&out) };
        run.each_rows(positions * run.batch, c, &|first, last| {
            for r in first..last {
                // SAFETY: a row is one task's.
                let row = unsafe { to.part(r * out.stride, c) };
                let bias = row_of(&self.bias, r % positions * c, c);
                ensure!(row.len() == c && bias.len() == c, Shape, "row {r} is not inside its buffer");
                if x == out {
                    row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
                } else {
                    // SAFETY: nobody writes an argument that is not the result.
                    let from = row_of(unsafe { run.memory.read(&x) }, r * x.stride, c);
                    ensure!(from.len() == c, Shape, "row {r} is not inside its buffer");
                    row.iter_mut().zip(from).zip(bias).for_each(|((v, x), b)| *v = x + b);
                }
            }
            Ok(())
        })
    }
}
