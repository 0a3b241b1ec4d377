//! A symmetric blur along an axis with mirrored edges: diagonal in the cosines of the DCT-II, for axes of any length.

use alloc::vec::Vec;
use core::f64::consts::PI;

use super::fft::{Complex, Fourier, LANES};
use super::kernel::Padding;
use super::kron::Map;
use crate::error::{Result, ensure};
use crate::memory::filled;

/// A = C^T diag(lambda) C with C the orthonormal DCT-II: lambda_k = sum_a taps_a cos(pi k (a - len / 2) / n) for taps
/// that read the same from both ends. Then s = |lambda|, V = C^T, and U is V with the signs of lambda.
///
/// The transform is Makhoul's (1980), by a Fourier transform of n points.
#[derive(Clone, Debug)]
pub(super) struct Cosine {
    taps: Vec<f32>,
    /// |lambda|.
    s: Vec<f64>,
    /// Those of lambda.
    signs: Vec<f32>,
    fourier: Fourier,
    /// e^(-pi i k / 2 n) for each k, times the factor that makes the transform orthonormal.
    halves: Vec<[f32; 2]>,
}

impl Cosine {
    /// Whether taps are those of such a blur.
    pub fn suits(taps: &[f32], padding: Padding) -> bool {
        padding == Padding::Symmetric && taps.len() % 2 == 1 && taps.iter().eq(taps.iter().rev())
    }

    /// For an axis of `n` elements, at least 1, and taps that suit.
    ///
    /// Errors: kind `InvalidArgument` where the taps cancel each other.
    pub fn new(taps: &[f32], n: usize) -> Result<Self> {
        let mut kept = filled("an operator", taps.len(), 0.0f32)?;
        kept.copy_from_slice(taps);
        let (mut s, mut signs) = (filled("an operator", n, 0.0f64)?, filled("an operator", n, 1.0f32)?);
        let centre = taps.len() / 2;
        for (k, (s, sign)) in s.iter_mut().zip(&mut signs).enumerate() {
            let wave = |a: usize| libm::cos(PI * ((k * a.abs_diff(centre)) % (2 * n)) as f64 / n as f64);
            let lambda: f64 = taps.iter().enumerate().map(|(a, t)| f64::from(*t) * wave(a)).sum();
            *s = lambda.abs();
            *sign = if lambda < 0.0 { -1.0 } else { 1.0 };
        }
        ensure!(s.iter().any(|s| *s > 0.0), InvalidArgument, "the taps of a blur cancel each other");
        let mut halves = filled("an operator", n, [0.0f32; 2])?;
        for (t, half) in halves.iter_mut().enumerate() {
            let quarter = -0.5 * PI * t as f64 / n as f64;
            let scale = libm::sqrt(if t == 0 { 1.0 } else { 2.0 } / n as f64);
            *half = [(scale * libm::cos(quarter)) as f32, (scale * libm::sin(quarter)) as f32];
        }
        Ok(Self { taps: kept, s, signs, fourier: Fourier::new(n)?, halves })
    }

    pub fn len(&self) -> usize {
        self.s.len()
    }

    pub fn singular_values(&self) -> &[f64] {
        &self.s
    }

    pub fn scratch_len(&self) -> usize {
        self.fourier.scratch_len()
    }

    /// Changes `values`, `[outer, n, inner]`, into their map.
    pub fn run(&self, map: Map, inner: usize, values: &mut [f32], scratch: &mut [f32]) {
        let all = values.len() / self.len();
        let [x, y] = self.fourier.arrays(scratch);
        for first in (0..all).step_by(LANES) {
            let lines = Lines::new(first, LANES.min(all - first), self.len(), inner);
            match map {
                // The matrix is symmetric.
                Map::A | Map::At => self.blur(&lines, values, x),
                Map::V | Map::U => self.inverse(map == Map::U, &lines, values, x, y),
                Map::Vt | Map::Ut => self.transform(map == Map::Ut, &lines, values, x, y),
            }
        }
    }

    fn blur(&self, lines: &Lines, values: &mut [f32], x: &mut [Complex]) {
        let (n, centre) = (self.len(), self.taps.len() / 2);
        for (i, x) in x.iter_mut().enumerate() {
            x[0] = lines.load(values, i);
        }
        for i in 0..n {
            let mut sum = [0.0f32; LANES];
            let mut add = |tap: f32, x: &Complex| sum.iter_mut().zip(x[0]).for_each(|(sum, x)| *sum += tap * x);
            if i >= centre && i + centre < n {
                self.taps.iter().zip(&x[i - centre..]).for_each(|(tap, x)| add(*tap, x));
            } else {
                for (a, tap) in self.taps.iter().enumerate() {
                    let at = Padding::Symmetric.at(i as i64 + a as i64 - centre as i64, n as i64);
                    at.and_then(|at| x.get(at)).into_iter().for_each(|x| add(*tap, x));
                }
            }
            lines.store(values, i, sum);
        }
    }

    /// z = C x, each of them with its sign for U^T.
    fn transform(&self, signed: bool, lines: &Lines, values: &mut [f32], x: &mut [Complex], y: &mut [Complex]) {
        let n = self.len();
        for i in 0..n {
            x[place(i, n)] = [lines.load(values, i), [0.0; LANES]];
        }
        let v = self.fourier.run(x, y);
        for (k, ([re, im], [c, d])) in v.iter().zip(&self.halves).enumerate() {
            let sign = if signed { self.signs[k] } else { 1.0 };
            lines.store(values, k, core::array::from_fn(|l| sign * (re[l] * c - im[l] * d)));
        }
    }

    /// x = C^T z, each z with its sign for U. The transform of a real sequence turned by k quarter steps has the real
    /// part X_k and the imaginary part -X_(n - k).
    fn inverse(&self, signed: bool, lines: &Lines, values: &mut [f32], x: &mut [Complex], y: &mut [Complex]) {
        let n = self.len();
        let by = |k: usize| if signed { self.signs[k] } else { 1.0 };
        for (k, (x, [c, d])) in x.iter_mut().zip(&self.halves).enumerate() {
            let (z, sign) = (lines.load(values, k), by(k));
            // The conjugate, so that the same transform goes back.
            *x = if k == 0 {
                [z.map(|z| sign * c * z), [0.0; LANES]]
            } else {
                let (other, other_sign) = (lines.load(values, n - k), by(n - k));
                let [mut re, mut im] = [[0.0; LANES]; 2];
                for l in 0..LANES {
                    let (a, b) = (0.5 * sign * z[l], 0.5 * other_sign * other[l]);
                    (re[l], im[l]) = (a * c - b * d, a * d + b * c);
                }
                [re, im]
            };
        }
        let v = self.fourier.run(x, y);
        for i in 0..n {
            lines.store(values, i, v[place(i, n)][0]);
        }
    }
}

/// Where element i of n stands in the sequence that is transformed: even ones forward, odd ones back.
fn place(i: usize, n: usize) -> usize {
    if i.is_multiple_of(2) { i / 2 } else { n - 1 - i / 2 }
}

/// Up to eight lines of an array `[outer, n, inner]` along n.
struct Lines {
    starts: [usize; LANES],
    count: usize,
    inner: usize,
}

impl Lines {
    /// `count` of them from `first` on.
    fn new(first: usize, count: usize, n: usize, inner: usize) -> Self {
        let start = |l: usize| (first + l) / inner * n * inner + (first + l) % inner;
        Self { starts: core::array::from_fn(start), count, inner }
    }

    fn load(&self, from: &[f32], i: usize) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        for (v, start) in values.iter_mut().zip(self.starts).take(self.count) {
            *v = from[start + i * self.inner];
        }
        values
    }

    fn store(&self, to: &mut [f32], i: usize, values: [f32; LANES]) {
        for (v, start) in values.into_iter().zip(self.starts).take(self.count) {
            to[start + i * self.inner] = v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// Against the sum that defines it, in f64, for products of several primes, primes, and 1.
    #[test]
    fn transforms_are_the_cosines() {
        for n in [1usize, 2, 3, 4, 5, 7, 12, 13, 16, 30, 49, 64, 97, 210] {
            for inner in [1, 3, 11] {
                let op = Cosine::new(&[0.25, 0.5, 0.25], n).unwrap();
                let x: Vec<f32> = (0..2 * n * inner).map(|i| ((i * i + 5 * i) as f32 * 0.37).sin()).collect();
                let mut scratch = vec![f32::NAN; op.scratch_len()];
                let mut z = x.clone();
                op.run(Map::Vt, inner, &mut z, &mut scratch);
                let mut back = z.clone();
                op.run(Map::V, inner, &mut back, &mut scratch);
                for (at, z) in z.iter().enumerate() {
                    let (outer, k, along) = (at / (n * inner), at / inner % n, at % inner);
                    let scale = (if k == 0 { 1.0 } else { 2.0 } / n as f64).sqrt();
                    let term = |i: usize| {
                        let wave = (PI * (2 * i + 1) as f64 * k as f64 / (2 * n) as f64).cos();
                        f64::from(x[(outer * n + i) * inner + along]) * wave
                    };
                    let expected = scale * (0..n).map(term).sum::<f64>();
                    assert!((f64::from(*z) - expected).abs() < 2e-6 * (n as f64).sqrt(), "{n}, {k}: {z}, {expected}");
                }
                for (x, back) in x.iter().zip(&back) {
                    assert!((x - back).abs() < 4e-6, "{n}: {back}, expected {x}");
                }
            }
        }
    }

    #[test]
    fn taps_that_suit() {
        let suits = |taps: &[f32]| Cosine::suits(taps, Padding::Symmetric);
        assert!(suits(&[1.0]) && suits(&[0.2, -0.5, 0.2]));
        assert!(!suits(&[0.5, 0.5]) && !suits(&[0.1, 0.5, 0.2]));
        assert!(!Cosine::suits(&[1.0], Padding::Zero) && !Cosine::suits(&[1.0], Padding::Circular));
        assert!(Cosine::new(&[0.0], 3).is_err());
    }
}
