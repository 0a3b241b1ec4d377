//! From the caller's layout (channels first) to the arena's (channels last) and back.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use super::super::aligned::SharedMut;
use super::super::memory::View;
use super::Run;
use crate::error::{Result, ensure};

/// Rows and columns of the square that is transposed at a time.
const TILE: usize = 16;

/// Copies `[batch][channels][positions]` into the view's rows.
pub(in super::super) fn load(run: &Run<'_>, from: &[f32], view: &View) -> Result<()> {
    // SAFETY: nothing else runs yet.
    let to = unsafe { run.memory.write(view) };
    let (c, p) = (view.channels, view.positions());
    ensure!(from.len() == c * p * run.batch, Shape, "an input has {} values", from.len());
    tiles(run, view, &|sample, first, last, channels| {
        for r in first..last {
            // SAFETY: a row is one task's, and one part of it is used at a time.
            let row = unsafe { to.part((sample * p + r) * view.stride, c) };
            let image = &from[sample * c * p..][..c * p];
            for (i, v) in row.iter_mut().enumerate().skip(channels).take(TILE) {
                *v = image[i * p + r];
            }
        }
    })
}

/// Copies the view's rows into `[batch][channels][positions]`.
pub(in super::super) fn store(run: &Run<'_>, view: &View, to: &mut [f32]) -> Result<()> {
    // SAFETY: nothing writes any more.
    let from = unsafe { run.memory.read(view) };
    let (c, p) = (view.channels, view.positions());
    ensure!(to.len() == c * p * run.batch, Shape, "an output has room for {} values", to.len());
    let inside = run.batch == 0 || (run.batch * p - 1) * view.stride + c <= from.len();
    ensure!(inside, Shape, "an output is not inside its buffer");
    let to = SharedMut::new(to);
    tiles(run, view, &|sample, first, last, channels| {
        for i in (0..c).skip(channels).take(TILE) {
            // SAFETY: these positions of the sample are one task's.
            let plane = unsafe { to.part((sample * c + i) * p + first, last - first) };
            for (r, v) in plane.iter_mut().enumerate() {
                *v = from[(sample * p + first + r) * view.stride + i];
            }
        }
    })
}

/// Calls `f(sample, first row, end row, first channel)` for every tile; the tiles of the same rows come on one thread.
fn tiles(run: &Run<'_>, view: &View, f: &(dyn Fn(usize, usize, usize, usize) + Sync)) -> Result<()> {
    let (c, p) = (view.channels, view.positions());
    // Tall tiles where there are few channels.
    let height = TILE * (TILE / c.max(1)).max(1);
    let blocks = p.div_ceil(height);
    run.each(c.saturating_mul(p).saturating_mul(run.batch), blocks * run.batch, &|_, i| {
        let (sample, first) = (i / blocks, i % blocks * height);
        for channels in (0..c).step_by(TILE) {
            f(sample, first, (first + height).min(p), channels);
        }
        Ok(())
    })
}
