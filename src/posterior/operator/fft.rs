//! The discrete Fourier transform of any length, of several lines at once.

use alloc::vec::Vec;
use core::f64::consts::PI;

use crate::error::Result;
use crate::memory::filled;

/// Lines that are transformed at once.
pub(super) const LANES: usize = 8;

/// A complex number of each of them: real parts, imaginary parts.
pub(super) type Complex = [[f32; LANES]; 2];

/// X_k = sum over j of x_j e^(-2 pi i j k / n), in Stockham's order: by fours and by n's prime factors. It takes n
/// times the sum of those, so a length that is a large prime costs what a matrix would.
#[derive(Clone, Debug)]
pub(super) struct Fourier {
    /// e^(-2 pi i t / n).
    turns: Vec<[f32; 2]>,
    /// n as a product.
    factors: Vec<usize>,
}

impl Fourier {
    /// For `n` points, at least 1.
    pub fn new(n: usize) -> Result<Self> {
        let mut turns = filled("an operator", n, [0.0f32; 2])?;
        for (t, turn) in turns.iter_mut().enumerate() {
            let angle = -2.0 * PI * t as f64 / n as f64;
            *turn = [libm::cos(angle) as f32, libm::sin(angle) as f32];
        }
        Ok(Self { turns, factors: factors(n) })
    }

    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Floats for the two arrays of [`run`](Self::run).
    pub fn scratch_len(&self) -> usize {
        2 * self.len().saturating_mul(size_of::<Complex>() / size_of::<f32>())
    }

    /// The two arrays in a scratch of so many floats.
    pub fn arrays<'a>(&self, scratch: &'a mut [f32]) -> [&'a mut [Complex]; 2] {
        let (numbers, _) = scratch.as_chunks_mut::<LANES>().0.as_chunks_mut::<2>();
        let (x, y) = numbers.split_at_mut(self.len());
        [x, &mut y[..self.len()]]
    }

    /// The transform of `x`, in order of k, in either of the two.
    pub fn run<'a>(&self, mut x: &'a mut [Complex], mut y: &'a mut [Complex]) -> &'a [Complex] {
        let (mut stride, mut len) = (1, self.len());
        for &p in &self.factors {
            let m = len / p;
            for k in 0..m {
                let twiddle = |r: usize| self.turns[k * r * stride % self.len()];
                for q in 0..stride {
                    let from = |j: usize| &x[q + stride * (k + m * j)];
                    let to = |r: usize| q + stride * (p * k + r);
                    match p {
                        2 => {
                            let (a, b) = (from(0), from(1));
                            y[to(0)] = add(a, b);
                            y[to(1)] = turned(&sub(a, b), twiddle(1));
                        }
                        4 => {
                            let (a, b, c, d) = (from(0), from(1), from(2), from(3));
                            let (even, odd) = ([add(a, c), sub(a, c)], [add(b, d), right(&sub(b, d))]);
                            y[to(0)] = add(&even[0], &odd[0]);
                            y[to(1)] = turned(&add(&even[1], &odd[1]), twiddle(1));
                            y[to(2)] = turned(&sub(&even[0], &odd[0]), twiddle(2));
                            y[to(3)] = turned(&sub(&even[1], &odd[1]), twiddle(3));
                        }
                        _ => {
                            for r in 0..p {
                                let mut sum = [[0.0; LANES]; 2];
                                for j in 0..p {
                                    let turn = self.turns[j * r % p * (self.len() / p)];
                                    sum = add(&sum, &turned(from(j), turn));
                                }
                                y[to(r)] = turned(&sum, twiddle(r));
                            }
                        }
                    }
                }
            }
            core::mem::swap(&mut x, &mut y);
            (stride, len) = (stride * p, m);
        }
        x
    }
}

#[inline(always)]
fn add(a: &Complex, b: &Complex) -> Complex {
    [0, 1].map(|part| core::array::from_fn(|l| a[part][l] + b[part][l]))
}

#[inline(always)]
fn sub(a: &Complex, b: &Complex) -> Complex {
    [0, 1].map(|part| core::array::from_fn(|l| a[part][l] - b[part][l]))
}

/// a times c + i d.
#[inline(always)]
fn turned([re, im]: &Complex, [c, d]: [f32; 2]) -> Complex {
    let part = |a: f32, x: &[f32; LANES], b: f32, y: &[f32; LANES]| core::array::from_fn(|l| a * x[l] + b * y[l]);
    [part(c, re, -d, im), part(d, re, c, im)]
}

/// a times -i.
#[inline(always)]
fn right([re, im]: &Complex) -> Complex {
    [*im, re.map(|v| -v)]
}

/// n as a product of fours and primes.
fn factors(mut n: usize) -> Vec<usize> {
    let mut all = Vec::new();
    for p in [4, 2, 3] {
        while n.is_multiple_of(p) {
            all.push(p);
            n /= p;
        }
    }
    let mut p = 5;
    while p * p <= n {
        while n.is_multiple_of(p) {
            all.push(p);
            n /= p;
        }
        p += 2;
    }
    if n > 1 {
        all.push(n);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// Against the sum that defines it, in f64, for products of several primes, primes, and 1.
    #[test]
    fn transforms_are_the_sums_that_define_them() {
        for n in [1usize, 2, 3, 4, 5, 7, 8, 12, 13, 16, 30, 49, 64, 97, 210] {
            let fourier = Fourier::new(n).unwrap();
            let mut scratch = vec![f32::NAN; fourier.scratch_len()];
            let [x, y] = fourier.arrays(&mut scratch);
            let value = |j: usize, l: usize, part: usize| ((j * j + 5 * j + 11 * l + 3 * part) as f32 * 0.37).sin();
            for (j, x) in x.iter_mut().enumerate() {
                *x = [0, 1].map(|part| core::array::from_fn(|l| value(j, l, part)));
            }
            for (k, got) in fourier.run(x, y).iter().enumerate() {
                for l in 0..LANES {
                    let mut want = [0.0f64; 2];
                    for j in 0..n {
                        let angle = -2.0 * PI * (j * k % n) as f64 / n as f64;
                        let [a, b] = [0, 1].map(|part| f64::from(value(j, l, part)));
                        want[0] += a * angle.cos() - b * angle.sin();
                        want[1] += a * angle.sin() + b * angle.cos();
                    }
                    let off = [0, 1].map(|part| (f64::from(got[part][l]) - want[part]).abs());
                    assert!(off.iter().all(|off| *off < 1.5e-6 * n as f64), "{n}, {k}: {got:?}, expected {want:?}");
                }
            }
        }
    }
}
