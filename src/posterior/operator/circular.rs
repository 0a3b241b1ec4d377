//! Blur with any kernel and circular edges, diagonal in the Fourier basis.

use alloc::vec::Vec;
use core::f64::consts::PI;

use super::fft::{Complex, Fourier, LANES};
use super::kernel::check_taps;
use super::kron::axpy;
use super::{LinearOperator, RANK_TOLERANCE, Svd, check, check_len, image, split};
use crate::error::{Result, ensure};
use crate::memory::filled;
use crate::tensor::Dims;

/// y = k * x in each channel: convolution with a kernel of any shape, the image repeated beyond its edges.
///
/// The singular values are the magnitudes of the kernel's Fourier transform; V is the real Fourier basis (cosines and
/// sines) and U the same basis, each pair turned by the phase. The transforms are Fourier transforms along each axis,
/// of any length: a side costs the sum of its prime factors for each value, so one that is a large prime what a matrix
/// would.
#[derive(Clone, Debug)]
pub struct CircularBlur {
    dims: Dims,
    kernel: Vec<f32>,
    kernel_width: usize,
    /// Down and across.
    rows: Fourier,
    columns: Fourier,
    /// e^(i phase) of the kernel's transform, [H, W / 2 + 1].
    phase: Vec<[f32; 2]>,
    s: Vec<f32>,
}

impl CircularBlur {
    /// For images `dims` `[C, H, W]`. `kernel` has `kernel_height` rows of `kernel_width` taps, its centre at
    /// (`kernel_height / 2`, `kernel_width / 2`); an impulse shows it as it is.
    ///
    /// Errors: kind `Shape` if `dims` is no image or the kernel has another length or is larger than the image; kinds
    /// `InvalidArgument` and `NonFinite` for taps that are all 0 or not finite.
    pub fn new(dims: Dims, kernel: &[f32], kernel_height: usize, kernel_width: usize) -> Result<Self> {
        let name = "circular blur";
        let [c, h, w] = image(name, dims)?;
        check_taps(name, kernel)?;
        ensure!(
            Some(kernel.len()) == kernel_height.checked_mul(kernel_width) && kernel_height <= h && kernel_width <= w,
            Shape,
            "{name}: a kernel of {} taps as {kernel_height} x {kernel_width} for images of {h} x {w}",
            kernel.len()
        );
        let spectrum = spectrum(kernel, kernel_height, kernel_width, h, w)?;
        let half = w / 2 + 1;
        let magnitude = |z: &[f64; 2]| libm::sqrt(z[0] * z[0] + z[1] * z[1]);
        let largest = spectrum.iter().map(magnitude).fold(0.0, f64::max);
        let mut phase = filled("an operator", spectrum.len(), [1.0f32, 0.0])?;
        for (p, z) in phase.iter_mut().zip(&spectrum) {
            let r = magnitude(z);
            if r > RANK_TOLERANCE * largest {
                *p = [(z[0] / r) as f32, (z[1] / r) as f32];
            }
        }
        // At frequencies that are their own opposite the transform is real; rounding must not say otherwise.
        for k in [0, h / 2] {
            for l in [0, w / 2] {
                if (2 * k) % h == 0 && (2 * l) % w == 0 {
                    let p = &mut phase[k * half + l];
                    *p = [if p[0] < 0.0 { -1.0 } else { 1.0 }, 0.0];
                }
            }
        }
        let mut one = filled("an operator", h * w, 0.0f32)?;
        for (at, v) in one.iter_mut().enumerate() {
            let (mut k, mut l) = (at / w, at % w);
            if l > w / 2 {
                (k, l) = ((h - k) % h, w - l);
            }
            let r = magnitude(&spectrum[k * half + l]);
            *v = if r > RANK_TOLERANCE * largest { r as f32 } else { 0.0 };
        }
        let mut s = filled("an operator", dims.elements(), 0.0)?;
        s.chunks_exact_mut(h * w).take(c).for_each(|channel| channel.copy_from_slice(&one));
        let mut kept = filled("an operator", kernel.len(), 0.0)?;
        kept.copy_from_slice(kernel);
        Ok(Self { dims, kernel: kept, kernel_width, rows: Fourier::new(h)?, columns: Fourier::new(w)?, phase, s })
    }

    /// y = k * x, or the adjoint: correlation with k.
    fn convolve(&self, adjoint: bool, x: &[f32], y: &mut [f32]) {
        let (h, w) = (self.rows.len(), self.columns.len());
        let (kh, kw) = (self.kernel.len() / self.kernel_width, self.kernel_width);
        y.fill(0.0);
        for (x, y) in x.chunks_exact(h * w).zip(y.chunks_exact_mut(h * w)) {
            for (at, &tap) in self.kernel.iter().enumerate() {
                let (a, b) = (at / kw, at % kw);
                // How far the tap moves the image down and right, both in 0 .. side.
                let (mut down, mut right) = ((h + a - kh / 2) % h, (w + b - kw / 2) % w);
                if adjoint {
                    (down, right) = ((h - down) % h, (w - right) % w);
                }
                for (i, to) in y.chunks_exact_mut(w).enumerate() {
                    let from = &x[(h + i - down) % h * w..][..w];
                    let (to_left, to_right) = to.split_at_mut(right);
                    axpy(tap, &from[..w - right], to_right);
                    axpy(tap, &from[w - right..], to_left);
                }
            }
        }
    }

    /// The real Fourier coefficients of `x`; for U each is turned back by the phase first.
    fn analyse(&self, turned: bool, x: &[f32], z: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let (h, w) = (self.rows.len(), self.columns.len());
        let half = w / 2 + 1;
        let (spectrum, scratch) = split(scratch, 2 * h * half)?;
        let scale = (1.0 / libm::sqrt((h * w) as f64)) as f32;
        for (x, z) in x.chunks_exact(h * w).zip(z.chunks_exact_mut(h * w)) {
            let [from, to] = self.columns.arrays(scratch);
            for (rows, parts) in x.chunks(LANES * w).zip(spectrum.chunks_mut(2 * LANES * half)) {
                for (j, v) in from.iter_mut().enumerate() {
                    *v = [core::array::from_fn(|l| rows.get(l * w + j).copied().unwrap_or(0.0)), [0.0; LANES]];
                }
                for (l, v) in self.columns.run(from, to).iter().enumerate().take(half) {
                    for (row, parts) in parts.chunks_exact_mut(2 * half).enumerate() {
                        (parts[l], parts[half + l]) = (v[0][row], v[1][row]);
                    }
                }
            }
            let [from, to] = self.rows.arrays(scratch);
            for first in (0..half).step_by(LANES) {
                let count = LANES.min(half - first);
                for (parts, v) in spectrum.chunks_exact(2 * half).zip(from.iter_mut()) {
                    *v = lanes(parts, half, first, count);
                }
                for (k, v) in self.rows.run(from, to).iter().enumerate() {
                    for (lane, (a, b)) in v[0].iter().zip(v[1]).enumerate().take(count) {
                        let l = first + lane;
                        let (mut a, mut b) = (a * scale, b * scale);
                        if turned {
                            let [c, s] = self.phase[k * half + l];
                            (a, b) = (c * a + s * b, c * b - s * a);
                        }
                        match self.slots(k, l) {
                            Slots::Real(at) => z[at] = a,
                            Slots::Pair(cosine, sine) => {
                                z[cosine] = core::f32::consts::SQRT_2 * a;
                                z[sine] = core::f32::consts::SQRT_2 * b;
                            }
                            Slots::Mirror => {}
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The image of real Fourier coefficients: the inverse of [`Self::analyse`]. All numbers on the way are the
    /// conjugates of what they stand for, so that the same transform goes back.
    fn synthesise(&self, turned: bool, z: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let (h, w) = (self.rows.len(), self.columns.len());
        let half = w / 2 + 1;
        let (spectrum, scratch) = split(scratch, 2 * h * half)?;
        let scale = (1.0 / libm::sqrt((h * w) as f64)) as f32;
        for (z, x) in z.chunks_exact(h * w).zip(x.chunks_exact_mut(h * w)) {
            for k in 0..h {
                for l in 0..half {
                    let (mut a, mut b, opposite) = match self.slots(k, l) {
                        Slots::Real(at) => (z[at], 0.0, false),
                        Slots::Pair(cosine, sine) => (z[cosine], z[sine], true),
                        Slots::Mirror => continue,
                    };
                    if opposite {
                        (a, b) = (a * core::f32::consts::FRAC_1_SQRT_2, b * core::f32::consts::FRAC_1_SQRT_2);
                    }
                    if turned {
                        let [c, s] = self.phase[k * half + l];
                        (a, b) = (c * a - s * b, c * b + s * a);
                    }
                    let mut put = |k: usize, b: f32| {
                        (spectrum[2 * k * half + l], spectrum[(2 * k + 1) * half + l]) = (a * scale, -b * scale);
                    };
                    put(k, b);
                    if opposite && (l == 0 || 2 * l == w) {
                        put(h - k, -b);
                    }
                }
            }
            let [from, to] = self.rows.arrays(scratch);
            for first in (0..half).step_by(LANES) {
                let count = LANES.min(half - first);
                for (parts, v) in spectrum.chunks_exact(2 * half).zip(from.iter_mut()) {
                    *v = lanes(parts, half, first, count);
                }
                for (v, parts) in self.rows.run(from, to).iter().zip(spectrum.chunks_exact_mut(2 * half)) {
                    parts[first..first + count].copy_from_slice(&v[0][..count]);
                    parts[half + first..half + first + count].copy_from_slice(&v[1][..count]);
                }
            }
            let [from, to] = self.columns.arrays(scratch);
            for (rows, parts) in x.chunks_mut(LANES * w).zip(spectrum.chunks(2 * LANES * half)) {
                for (l, v) in from.iter_mut().enumerate() {
                    // Columns right of the middle are the conjugates of those left of it.
                    let (at, sign) = if l < half { (l, 1.0) } else { (w - l, -1.0) };
                    let part = |row: usize, at: usize| parts.get(2 * row * half + at).copied().unwrap_or(0.0);
                    *v = [
                        core::array::from_fn(|row| part(row, at)),
                        core::array::from_fn(|row| sign * part(row, half + at)),
                    ];
                }
                for (j, v) in self.columns.run(from, to).iter().enumerate() {
                    for (row, x) in rows.chunks_exact_mut(w).enumerate() {
                        x[j] = v[0][row];
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the coefficients of frequency (k, l), l <= W / 2, stand.
    fn slots(&self, k: usize, l: usize) -> Slots {
        let (h, w) = (self.rows.len(), self.columns.len());
        let own = k * w + l;
        let opposite = (h - k) % h * w + (w - l) % w;
        match (l == 0 || 2 * l == w, own == opposite) {
            (_, true) => Slots::Real(own),
            (true, false) if 2 * k > h => Slots::Mirror,
            _ => Slots::Pair(own, opposite),
        }
    }
}

/// Columns `first..first + count` of a row of the spectrum, `[2, half]`.
fn lanes(parts: &[f32], half: usize, first: usize, count: usize) -> Complex {
    let mut v = [[0.0; LANES]; 2];
    for (part, v) in v.iter_mut().enumerate() {
        v[..count].copy_from_slice(&parts[part * half + first..][..count]);
    }
    v
}

enum Slots {
    /// The frequency is its own opposite.
    Real(usize),
    /// Cosine and sine of a frequency and its opposite.
    Pair(usize, usize),
    /// The frequency is the opposite of one that has its slots.
    Mirror,
}

/// sum_ab k_ab e^(-2 pi i (k (a - kh/2) / H + l (b - kw/2) / W)) for l <= W / 2: [H, W / 2 + 1] complex.
fn spectrum(kernel: &[f32], kh: usize, kw: usize, h: usize, w: usize) -> Result<Vec<[f64; 2]>> {
    let half = w / 2 + 1;
    let turns = |n: usize| -> Result<Vec<[f64; 2]>> {
        let mut t = filled("an operator", n, [0.0; 2])?;
        for (i, t) in t.iter_mut().enumerate() {
            let angle = -2.0 * PI * i as f64 / n as f64;
            *t = [libm::cos(angle), libm::sin(angle)];
        }
        Ok(t)
    };
    let times = |a: [f64; 2], b: [f64; 2]| [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]];
    let (down, across) = (turns(h)?, turns(w)?);
    let mut partial = filled("an operator", kh * half, [0.0; 2])?;
    for (a, taps) in kernel.chunks_exact(kw).enumerate() {
        for l in 0..half {
            let sum = &mut partial[a * half + l];
            for (b, &tap) in taps.iter().enumerate() {
                let t = across[l * ((w + b - kw / 2) % w) % w];
                *sum = [sum[0] + f64::from(tap) * t[0], sum[1] + f64::from(tap) * t[1]];
            }
        }
    }
    let mut out = filled("an operator", h * half, [0.0; 2])?;
    for (at, sum) in out.iter_mut().enumerate() {
        let (k, l) = (at / half, at % half);
        for a in 0..kh {
            let t = times(partial[a * half + l], down[k * ((h + a - kh / 2) % h) % h]);
            *sum = [sum[0] + t[0], sum[1] + t[1]];
        }
    }
    Ok(out)
}

impl LinearOperator for CircularBlur {
    fn name(&self) -> &'static str {
        "circular blur"
    }
    fn input_dims(&self) -> Dims {
        self.dims
    }
    fn output_dims(&self) -> Dims {
        self.dims
    }
    fn scratch_len(&self) -> usize {
        let half = self.columns.len() / 2 + 1;
        2 * self.rows.len() * half + self.rows.scratch_len().max(self.columns.scratch_len())
    }
    fn apply(&self, x: &[f32], y: &mut [f32], _: &mut [f32]) -> Result<()> {
        check(self, "A", x.len(), y.len(), 0, 0)?;
        self.convolve(false, x, y);
        Ok(())
    }
    fn adjoint(&self, y: &[f32], x: &mut [f32], _: &mut [f32]) -> Result<()> {
        check(self, "A^T", x.len(), y.len(), 0, 0)?;
        self.convolve(true, y, x);
        Ok(())
    }
    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }
}

impl CircularBlur {
    fn check_spectral(&self, call: &str, from: &[f32], to: &[f32], scratch: &[f32]) -> Result<()> {
        check_len(self.name(), call, "an input", from.len(), self.s.len())?;
        check(self, call, to.len(), to.len(), scratch.len(), self.scratch_len())
    }
}

impl Svd for CircularBlur {
    fn singular_values(&self) -> &[f32] {
        &self.s
    }
    fn vt(&self, x: &[f32], z: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.check_spectral("V^T", x, z, scratch)?;
        self.analyse(false, x, z, scratch)
    }
    fn v(&self, z: &[f32], x: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.check_spectral("V", z, x, scratch)?;
        self.synthesise(false, z, x, scratch)
    }
    fn ut(&self, y: &[f32], w: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.check_spectral("U^T", y, w, scratch)?;
        self.analyse(true, y, w, scratch)
    }
    fn u(&self, w: &[f32], y: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        self.check_spectral("U", w, y, scratch)?;
        self.synthesise(true, w, y, scratch)
    }
}
