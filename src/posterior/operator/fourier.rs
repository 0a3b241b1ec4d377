//! Phase retrieval: what a detector far behind a sample sees of it.

use alloc::vec::Vec;

use super::{ForwardOperator, image, split};
use crate::error::{Result, ensure, err};
use crate::memory::room;
use crate::tensor::Dims;

/// The largest side of a transform.
const MOST: usize = 4096;

/// What is no larger, as a part of the largest magnitude, is rounding, whose direction means nothing.
const NOTHING: f32 = 1e-6;

/// y = |F P u|, the magnitudes of the two-dimensional discrete Fourier transform of each channel of a picture
/// u = (x + 1) / 2 in 0 to 1, among zeros (P) on sides `oversampling` times as long; F divides by the root of the
/// number of its values, so it keeps the sum of squares.
///
/// A picture, the same turned by 180 degrees and (within the zeros) moved have the same y, so a method that finds one
/// of them has done what y allows.
///
/// [`vjp`](ForwardOperator::vjp) takes 0 for the derivative of |z| at z = 0, where it has none, and where |z| is at
/// most 1e-6 of the channel's largest, which is rounding. A call multiplies by the matrix of the transform along each
/// side: (H' + W) H W' products of complex numbers, H' and W' being the longer sides; for twice 28 they are 0.13
/// million, for twice 256 100 million, and `vjp` takes as many again. The matrices have 2 (H H' + W W') values.
#[derive(Clone, Debug)]
pub struct FourierMagnitude {
    sides: [usize; 3],
    long: [usize; 2],
    dims: [Dims; 2],
    /// cos and -sin of the transform along the height, `[H', H, 2]`, divided by the root of H'; then along the width.
    turns: [Vec<f32>; 2],
}

/// exp(-2 pi i k j / long) / sqrt(long), `[long, short, 2]`.
fn turns(short: usize, long: usize) -> Result<Vec<f32>> {
    let mut out = room("an operator", short.saturating_mul(long).saturating_mul(2))?;
    let scale = 1.0 / libm::sqrt(long as f64);
    for k in 0..long {
        for j in 0..short {
            // k j is below 2^24.
            let angle = -2.0 * core::f64::consts::PI * ((k * j) % long) as f64 / long as f64;
            out.extend([(scale * libm::cos(angle)) as f32, (scale * libm::sin(angle)) as f32]);
        }
    }
    Ok(out)
}

impl FourierMagnitude {
    /// Of images `dims` `[C, H, W]`. Errors: kind `Shape` if `dims` is no image; kind `InvalidArgument` for an
    /// oversampling below 1, or one that makes a side longer than 4096; kind `OutOfMemory`.
    pub fn new(dims: Dims, oversampling: f64) -> Result<Self> {
        let sides = image("phase retrieval", dims)?;
        let [c, h, w] = sides;
        let longer = |side: usize| libm::ceil(side as f64 * oversampling);
        ensure!(
            oversampling >= 1.0 && longer(h.max(w)) <= MOST as f64,
            InvalidArgument,
            "phase retrieval of {h} x {w} with an oversampling of {oversampling}, expected 1 or more and sides of at most {MOST}"
        );
        let long = [h, w].map(|side| longer(side) as usize);
        let output = Dims::new(&[c, long[0], long[1]])?;
        Ok(Self { sides, long, dims: [dims, output], turns: [turns(h, long[0])?, turns(w, long[1])?] })
    }

    /// The transform of channel `x` to `z`, `[H', W', 2]`; `rows` is `[H, W', 2]`.
    fn transform(&self, x: &[f32], rows: &mut [f32], z: &mut [f32]) {
        let ([_, _, w], [_, long_w]) = (self.sides, self.long);
        let [down, across] = &self.turns;
        for (x, row) in x.chunks_exact(w.max(1)).zip(rows.chunks_exact_mut(2 * long_w.max(1))) {
            for (out, turn) in row.chunks_exact_mut(2).zip(across.chunks_exact(2 * w.max(1))) {
                let mut sum = [0.0f32; 2];
                for (x, t) in x.iter().zip(turn.chunks_exact(2)) {
                    let u = 0.5 * x + 0.5;
                    sum = [sum[0] + u * t[0], sum[1] + u * t[1]];
                }
                out.copy_from_slice(&sum);
            }
        }
        let h = self.sides[1].max(1);
        for (out, turn) in z.chunks_exact_mut(2 * long_w.max(1)).zip(down.chunks_exact(2 * h)) {
            out.fill(0.0);
            for (row, t) in rows.chunks_exact(2 * long_w.max(1)).zip(turn.chunks_exact(2)) {
                for (out, r) in out.chunks_exact_mut(2).zip(row.chunks_exact(2)) {
                    out[0] += t[0] * r[0] - t[1] * r[1];
                    out[1] += t[0] * r[1] + t[1] * r[0];
                }
            }
        }
    }

    /// out = 1/2 Re P^T F^H z, of one channel.
    fn back(&self, z: &[f32], rows: &mut [f32], out: &mut [f32]) {
        let ([_, h, w], [_, long_w]) = (self.sides, self.long);
        let [down, across] = &self.turns;
        rows.fill(0.0);
        for (z, turn) in z.chunks_exact(2 * long_w.max(1)).zip(down.chunks_exact(2 * h.max(1))) {
            for (row, t) in rows.chunks_exact_mut(2 * long_w.max(1)).zip(turn.chunks_exact(2)) {
                for (r, z) in row.chunks_exact_mut(2).zip(z.chunks_exact(2)) {
                    r[0] += t[0] * z[0] + t[1] * z[1];
                    r[1] += t[0] * z[1] - t[1] * z[0];
                }
            }
        }
        for (out, row) in out.chunks_exact_mut(w.max(1)).zip(rows.chunks_exact(2 * long_w.max(1))) {
            out.fill(0.0);
            for (r, turn) in row.chunks_exact(2).zip(across.chunks_exact(2 * w.max(1))) {
                for (out, t) in out.iter_mut().zip(turn.chunks_exact(2)) {
                    *out += 0.5 * (t[0] * r[0] + t[1] * r[1]);
                }
            }
        }
    }

    fn check(&self, lengths: &[(usize, usize)], scratch: usize) -> Result<()> {
        if let Some((got, expected)) = lengths.iter().find(|(got, expected)| got != expected) {
            return Err(err!(Shape, "phase retrieval was given {got} values, expected {expected}"));
        }
        let needed = self.forward_scratch_len();
        ensure!(scratch >= needed, Shape, "phase retrieval was given {scratch} values of scratch, expected {needed}");
        Ok(())
    }
}

impl ForwardOperator for FourierMagnitude {
    fn label(&self) -> &'static str {
        "phase retrieval"
    }
    fn domain(&self) -> Dims {
        self.dims[0]
    }
    fn codomain(&self) -> Dims {
        self.dims[1]
    }
    fn forward_scratch_len(&self) -> usize {
        2 * (self.sides[1] + self.long[0]) * self.long[1]
    }
    fn forward(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let [n, m] = self.dims.map(|d| d.elements());
        self.check(&[(x.len(), n), (y.len(), m)], scratch.len())?;
        let channels = self.sides[0].max(1);
        let (rows, scratch) = split(scratch, 2 * self.sides[1] * self.long[1])?;
        let (z, _) = split(scratch, 2 * self.long[0] * self.long[1])?;
        for (x, y) in x.chunks_exact(n / channels).zip(y.chunks_exact_mut(m / channels)) {
            self.transform(x, rows, z);
            y.iter_mut().zip(z.chunks_exact(2)).for_each(|(y, z)| *y = libm::hypotf(z[0], z[1]));
        }
        Ok(())
    }
    fn vjp(&self, x: &[f32], v: &[f32], out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let [n, m] = self.dims.map(|d| d.elements());
        self.check(&[(x.len(), n), (v.len(), m), (out.len(), n)], scratch.len())?;
        let channels = self.sides[0].max(1);
        let (rows, scratch) = split(scratch, 2 * self.sides[1] * self.long[1])?;
        let (z, _) = split(scratch, 2 * self.long[0] * self.long[1])?;
        let maps = x.chunks_exact(n / channels).zip(v.chunks_exact(m / channels));
        for ((x, v), out) in maps.zip(out.chunks_exact_mut(n / channels)) {
            self.transform(x, rows, z);
            let largest = z.chunks_exact(2).fold(0.0f32, |most, z| most.max(libm::hypotf(z[0], z[1])));
            for (z, v) in z.chunks_exact_mut(2).zip(v) {
                let size = libm::hypotf(z[0], z[1]);
                let by = if size > NOTHING * largest { v / size } else { 0.0 };
                z.iter_mut().for_each(|z| *z *= by);
            }
            self.back(z, rows, out);
        }
        Ok(())
    }
    fn steepest(&self) -> Option<f64> {
        // F P is an isometry and the magnitude moves no faster than its argument.
        Some(0.5)
    }
}
