//! The sum of a strided or narrow convolution's adjoint: what each pixel of its argument gives to each pixel around it
//! is added up there.
//!
//! The products come from one product of matrices, which multiplies nothing by the zeros between the pixels of a
//! strided adjoint, and fills whole vectors where an image has but few channels.
#![allow(unsafe_code)] // Reads and writes rows of the arena.

use super::super::memory::View;
use super::{Run, Step, row_of};
use crate::error::{Result, ensure};
use crate::graph::Window;

/// `out[y][x] = residual[y][x] + sum of parts[v][u][tap] for each tap (ky, kx) with y = v stride + ky - top, x = u
/// stride + kx - left`, in the order of the taps. A pixel of `parts` has `out`'s channels for each tap.
#[derive(Debug)]
pub struct Fold {
    pub name: &'static str,
    pub parts: View,
    pub window: Window,
    pub residual: Option<View>,
    pub out: View,
}

impl Step for Fold {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (parts, out, c) = (self.parts, self.out, self.out.channels);
        let ([kh, kw], stride, p) = (self.window.kernel, self.window.stride, self.window.padding);
        ensure!(
            parts.is_dense() && out.is_dense() && c > 0 && stride > 0 && parts.channels == kh * kw * c,
            Shape,
            "{} channels are not {kh} x {kw} times {c}",
            parts.channels
        );
        // SAFETY: the plan gives the result to this step alone and keeps the arguments unwritten.
        let (from, residual, to) = unsafe {
            (
                run.memory.read(&parts),
                self.residual.as_ref().map(|v| (run.memory.read(v), v.stride)),
                run.memory.write(&out),
            )
        };
        let (line_len, lines) = (parts.width * parts.channels, out.height * run.batch);
        run.each(run.batch.saturating_mul(parts.height).saturating_mul(line_len), lines, &|_, line| {
            let (sample, y) = (line / out.height, line % out.height);
            // SAFETY: an output row is one task's.
            let row = unsafe { to.part(line * out.width * c, out.width * c) };
            match residual {
                None => row.fill(0.0),
                Some((data, stride)) => {
                    for (x, pixel) in row.chunks_exact_mut(c).enumerate() {
                        pixel.copy_from_slice(row_of(data, (line * out.width + x) * stride, c));
                    }
                }
            }
            for ky in 0..kh {
                let v = (y + p.top).checked_sub(ky).filter(|v| v.is_multiple_of(stride)).map(|v| v / stride);
                let Some(v) = v.filter(|&v| v < parts.height) else { continue };
                let line = row_of(from, (sample * parts.height + v) * line_len, line_len);
                for kx in 0..kw {
                    // The first pixel whose tap falls inside, and where.
                    let u = p.left.saturating_sub(kx).div_ceil(stride);
                    let (x, tap) = (u * stride + kx - p.left, (ky * kw + kx) * c);
                    let pixels = row.get_mut(x * c..).unwrap_or(&mut []).chunks_mut(stride * c);
                    for (pixel, part) in pixels.zip(line.chunks_exact(parts.channels).skip(u)) {
                        for (to, v) in pixel.iter_mut().zip(&part[tap..tap + c]) {
                            *to += *v;
                        }
                    }
                }
            }
            Ok(())
        })
    }
}
