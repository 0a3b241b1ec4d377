//! Max pooling and its gradient, a few channels at a time.
#![allow(unsafe_code)] // Tasks write rows, or channels, of their own.

use super::super::memory::View;
use super::{Run, Step, row_of};
use crate::error::{Result, ensure};
use crate::graph::Window;

/// Channels of a task of the gradient.
const LANES: usize = 16;

/// The pixels of x under the window of output pixel (y, x), in the order of its taps.
fn under(window: &Window, x: View, [row, column]: [usize; 2]) -> impl Iterator<Item = usize> {
    let ([kh, kw], s, p) = (window.kernel, window.stride, window.padding);
    let inside = |at: usize, before: usize, size: usize| at.checked_sub(before).filter(|&v| v < size);
    let rows = (0..kh).filter_map(move |k| inside(row * s + k, p.top, x.height));
    rows.flat_map(move |r| {
        (0..kw).filter_map(move |k| inside(column * s + k, p.left, x.width)).map(move |c| r * x.width + c)
    })
}

/// [`MaxPool`](crate::graph::Op::MaxPool).
#[derive(Debug)]
pub struct MaxPool {
    pub window: Window,
    pub x: View,
    pub out: View,
}

impl Step for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (x, out, c) = (self.x, self.out, self.x.channels);
        // SAFETY: the plan gives the result to this step alone and keeps the argument unwritten.
        let (from, to) = unsafe { (run.memory.read(&x), run.memory.write(&out)) };
        let lines = out.height * run.batch;
        let cost = lines.saturating_mul(out.width).saturating_mul(c);
        run.each(cost.saturating_mul(self.window.kernel.iter().product()), lines, &|_, line| {
            let (sample, y) = (line / out.height, line % out.height);
            for column in 0..out.width {
                // SAFETY: an output row is one task's.
                let pixel = unsafe { to.part((line * out.width + column) * out.stride, c) };
                pixel.fill(f32::NEG_INFINITY);
                for at in under(&self.window, x, [y, column]) {
                    let row = row_of(from, (sample * x.positions() + at) * x.stride, c);
                    for (to, v) in pixel.iter_mut().zip(row) {
                        *to = if *v > *to || v.is_nan() { *v } else { *to };
                    }
                }
            }
            Ok(())
        })
    }
}

/// [`MaxPoolGrad`](crate::graph::Op::MaxPoolGrad).
#[derive(Debug)]
pub struct MaxPoolGrad {
    pub window: Window,
    pub x: View,
    pub dy: View,
    pub out: View,
}

impl Step for MaxPoolGrad {
    fn name(&self) -> &'static str {
        "max_pool_grad"
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (x, dy, out) = (self.x, self.dy, self.out);
        let parts = x.channels.div_ceil(LANES);
        let cost = run.batch.saturating_mul(dy.positions()).saturating_mul(dy.channels);
        run.each(cost.saturating_mul(self.window.kernel.iter().product()), run.batch * parts, &|_, i| {
            let (sample, first) = (i / parts, i % parts * LANES);
            let n = LANES.min(x.channels - first);
            // SAFETY: the plan keeps arguments unwritten while a step reads them, and gives the result to it alone.
            let (from, by, to) = unsafe {
                let read = |v: &View| run.memory.read_samples(v, sample, 1);
                (read(&x), read(&dy), run.memory.write_samples(&out, sample, 1))
            };
            for p in 0..out.positions() {
                // SAFETY: these channels of this sample are this task's.
                unsafe { to.part(p * out.stride + first, n) }.fill(0.0);
            }
            for p in 0..dy.positions() {
                let given = row_of(by, p * dy.stride + first, n);
                ensure!(given.len() == n, Shape, "row {p} is not inside its buffer");
                let (mut best, mut place) = ([f32::NEG_INFINITY; LANES], [0; LANES]);
                for at in under(&self.window, x, [p / dy.width, p % dy.width]) {
                    for ((v, best), place) in
                        row_of(from, at * x.stride + first, n).iter().zip(&mut best).zip(&mut place)
                    {
                        if *v > *best || v.is_nan() || *best == f32::NEG_INFINITY {
                            (*best, *place) = (*v, at);
                        }
                    }
                }
                for (c, (at, dy)) in place.iter().zip(given).enumerate() {
                    // SAFETY: as above.
                    unsafe { to.part(at * out.stride + first + c, 1) }.iter_mut().for_each(|to| *to += dy);
                }
            }
            Ok(())
        })
    }
}
