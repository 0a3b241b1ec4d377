//! Operations that change an image's size: repeating pixels, means of windows, separable filters.
//!
//! Each output pixel is a weighted sum of input pixels, channel by channel, in a fixed order.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::super::memory::View;
use super::{Run, Step};
use crate::error::{Result, ensure};

/// How an output row or column is made of input rows or columns: `(input, weight)` pairs of each output, one after the
/// other.
#[derive(Debug)]
pub struct Axis {
    pub terms: Cow<'static, [(usize, f32)]>,
    /// Where each output's terms end.
    pub ends: Cow<'static, [usize]>,
}

impl Axis {
    /// Collects the terms of `outputs` outputs, which `term(output, i)` gives for `i` below `per_output` (or none).
    pub fn new(outputs: usize, per_output: usize, term: impl Fn(usize, usize) -> Option<(usize, f32)>) -> Self {
        let (mut terms, mut ends) = (Vec::new(), Vec::with_capacity(outputs));
        for o in 0..outputs {
            terms.extend((0..per_output).filter_map(|i| term(o, i)));
            ends.push(terms.len());
        }
        Self { terms: terms.into(), ends: ends.into() }
    }

    /// Repeats each input `factor` times.
    pub fn repeat(outputs: usize, factor: usize) -> Self {
        Self::new(outputs, 1, |o, _| Some((o / factor, 1.0)))
    }

    /// The mean of `factor` inputs.
    pub fn mean(outputs: usize, factor: usize) -> Self {
        Self::new(outputs, factor, |o, i| Some((o * factor + i, 1.0 / factor as f32)))
    }

    /// One direction of [`Op::Fir`](crate::graph::Op::Fir).
    pub fn fir(inputs: usize, outputs: usize, taps: &[f32], up: usize, down: usize, pad: isize) -> Self {
        Self::new(outputs, taps.len(), |o, i| {
            // Place o * down + i of the padded, zero-stuffed line; a true convolution has the taps flipped.
            let v = (o * down + i).checked_add_signed(pad.checked_neg()?)?;
            let from = (v % up == 0).then_some(v / up).filter(|&v| v < inputs)?;
            Some((from, *taps.get(taps.len() - 1 - i)?))
        })
    }

    /// Puts the inputs `stride` apart, the first at output `first`, with zeros between; those outside are left out.
    pub fn spread(inputs: usize, outputs: usize, stride: usize, first: isize) -> Self {
        Self::new(outputs, 1, |o, _| {
            let at = o.checked_add_signed(first.checked_neg()?)?;
            (at.is_multiple_of(stride) && at / stride < inputs).then_some((at / stride, 1.0))
        })
    }

    /// Mirrors what lies outside, `before` places of it in front.
    pub fn reflect(inputs: usize, outputs: usize, before: usize) -> Self {
        Self::new(outputs, 1, |o, _| Some((mirror(o, before, inputs), 1.0)))
    }

    /// The adjoint: adds what lies outside to what it mirrors.
    pub fn reflected(inputs: usize, outputs: usize, before: usize) -> Self {
        Self::new(outputs, inputs, |o, i| (mirror(i, before, outputs) == o).then_some((i, 1.0)))
    }

    fn of(&self, output: usize) -> &[(usize, f32)] {
        let end = self.ends.get(output).copied().unwrap_or(0);
        let begin = output.checked_sub(1).and_then(|o| self.ends.get(o)).copied().unwrap_or(0);
        self.terms.get(begin..end).unwrap_or(&[])
    }

    fn last_input(&self) -> usize {
        self.terms.iter().map(|t| t.0).max().unwrap_or(0)
    }
}

/// The place inside a line of `n` that place `at` of the line with `before` mirrored places in front shows.
fn mirror(at: usize, before: usize, n: usize) -> usize {
    let at = at.abs_diff(before);
    if at < n { at } else { (2 * n).saturating_sub(2 + at) }
}

/// `out[y][x] = sum over rows and columns of their weights times in[row][column]`.
#[derive(Debug)]
pub struct Resample {
    pub name: &'static str,
    pub x: View,
    pub out: View,
    pub rows: Axis,
    pub columns: Axis,
}

impl Step for Resample {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (x, out) = (self.x, self.out);
        let c = x.channels;
        // SAFETY: the plan gives the result to this step alone and keeps the argument unwritten.
        let (from, to) = unsafe { (run.memory.read(&x), run.memory.write(&out)) };
        ensure!(
            self.rows.last_input() < x.height && self.columns.last_input() < x.width,
            Shape,
            "resampling reads outside of {} x {} pixels",
            x.height,
            x.width
        );
        let lines = out.height * run.batch;
        run.each(lines.saturating_mul(out.width * c), lines, &|_, line| {
            let (sample, y) = (line / out.height, line % out.height);
            for col in 0..out.width {
                // SAFETY: an output pixel is one task's.
                let pixel = unsafe { to.part((line * out.width + col) * out.stride, c) };
                pixel.fill(0.0);
                for &(row, wy) in self.rows.of(y) {
                    for &(column, wx) in self.columns.of(col) {
                        let at = ((sample * x.height + row) * x.width + column) * x.stride;
                        let w = wy * wx;
                        for (p, v) in pixel.iter_mut().zip(from.get(at..).unwrap_or(&[])) {
                            *p += w * v;
                        }
                    }
                }
            }
            Ok(())
        })
    }
}
