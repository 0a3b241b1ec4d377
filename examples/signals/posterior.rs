//! What signals were seen through, and their posteriors by a Gibbs sampler: the measure for the methods.

use undiffuse::noise::Stream;

use crate::prior::{EXCHANGES, LENGTH, Latent, Law, Signal, accepts};

/// A as rows.
pub type Matrix = Vec<Signal>;

/// The four measurements.
pub const OPERATORS: [&str; 4] = ["denoising", "blur", "random sampling", "partial Fourier"];

/// Their matrices.
pub fn matrix(operator: &str) -> Matrix {
    let unit = |k: usize| std::array::from_fn(|i| f64::from(u8::from(i == k)));
    let mut rng = Stream::new(11, 0, 0);
    match operator {
        "blur" => {
            // 13 taps of a Gaussian of standard deviation 2, circular.
            let taps: Vec<f64> = (-6..=6).map(|i| (-0.125 * f64::from(i * i)).exp()).collect();
            let total: f64 = taps.iter().sum();
            let row = |k: usize| {
                let mut row = [0.0; LENGTH];
                taps.iter().enumerate().for_each(|(j, t)| row[(k + LENGTH + j - 6) % LENGTH] += t / total);
                row
            };
            (0..LENGTH).map(row).collect()
        }
        "random sampling" => (0..LENGTH).filter(|_| rng.uniform() < 0.4).map(unit).collect(),
        "partial Fourier" => {
            // The five lowest frequencies and 40 % of the others, real and imaginary parts.
            let kept: Vec<usize> = (0..=LENGTH / 2).filter(|&f| f < 5 || rng.uniform() < 0.4).collect();
            let part = |f: usize, of: fn(f64) -> f64| {
                std::array::from_fn(|i| of(2.0 * std::f64::consts::PI * (f * i) as f64 / LENGTH as f64))
            };
            let sines = kept.iter().filter(|&&f| f != 0 && f != LENGTH / 2);
            kept.iter().map(|&f| part(f, f64::cos)).chain(sines.map(|&f| part(f, |a: f64| -a.sin()))).collect()
        }
        _ => (0..LENGTH).map(unit).collect(),
    }
}

pub fn apply(a: &Matrix, x: &Signal) -> Vec<f64> {
    a.iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect()
}

/// y = A x + s n.
pub struct Seen<'a> {
    pub a: &'a Matrix,
    pub y: Vec<f64>,
    pub s: f64,
}

impl Seen<'_> {
    /// log of p(x) p(y | x), up to a constant.
    pub fn log_posterior(&self, law: Law, x: &Signal) -> f64 {
        let misfit: f64 = apply(self.a, x).iter().zip(&self.y).map(|(a, y)| (y - a).powi(2)).sum();
        law.log_density(x) - 0.5 * misfit / (self.s * self.s)
    }

    /// Draws of x given y: `count` of a chain, each `thinning` sweeps after the one before.
    pub fn posterior(&self, law: Law, burn_in: usize, count: usize, thinning: usize, seed: u64) -> Vec<Signal> {
        let m = self.a.len();
        let mut rng = Stream::new(seed, 0, 1);
        let mut latent = Latent::from_prior(law, &mut rng);
        // What an increment does to y: the sum of the columns from it on.
        let columns: Vec<Vec<f64>> =
            (0..LENGTH).map(|k| self.a.iter().map(|row| row[k..].iter().sum()).collect()).collect();
        let mut draws = Vec::new();
        for sweep in 0..burn_in + count * thinning {
            // Sigma = s^2 + sum_k v_k h_k h_k^T, and its inverse.
            let mut sigma = vec![vec![0.0; m]; m];
            for (k, h) in columns.iter().enumerate().filter(|(k, _)| latent.of(*k) > 0.0) {
                for (row, a) in sigma.iter_mut().zip(h) {
                    row.iter_mut().zip(h).for_each(|(s, b)| *s += latent.of(k) * a * b);
                }
            }
            (0..m).for_each(|i| sigma[i][i] += self.s * self.s);
            let mut inverse = invert(sigma);
            if let Law::BernoulliLaplace(p, _) = law {
                for (k, h) in columns.iter().enumerate() {
                    let mut g: Vec<f64> = inverse.iter().map(|row| dot(row, h)).collect();
                    let (mut hg, mut gy, before) = (dot(h, &g), dot(&g, &self.y), latent.of(k));
                    if before > 0.0 {
                        let by = before / (1.0 - before * hg);
                        update(&mut inverse, &g, by);
                        let grown = 1.0 + by * hg;
                        g.iter_mut().for_each(|g| *g *= grown);
                        (hg, gy) = (hg * grown, gy * grown);
                    }
                    let v = latent.variance[k];
                    let odds = p / (1.0 - p) * (-0.5 * (1.0 + v * hg).ln() + 0.5 * v * gy * gy / (1.0 + v * hg)).exp();
                    latent.jumps[k] = rng.uniform() * (1.0 + odds) < odds || odds.is_infinite();
                    if latent.jumps[k] {
                        update(&mut inverse, &g, -v / (1.0 + v * hg));
                    }
                }
            }
            // x by Matheron's rule: a draw of the prior, moved by its residual.
            let mut u: Signal = std::array::from_fn(|k| latent.of(k).sqrt() * rng.normal());
            let mut at = 0.0;
            let walk: Signal = std::array::from_fn(|k| {
                at += u[k];
                at
            });
            let seen = apply(self.a, &walk);
            let r: Vec<f64> = self.y.iter().zip(seen).map(|(y, a)| y - a - self.s * rng.normal()).collect();
            let w: Vec<f64> = inverse.iter().map(|row| dot(row, &r)).collect();
            u.iter_mut().zip(&columns).enumerate().for_each(|(k, (u, h))| *u += latent.of(k) * dot(h, &w));
            at = 0.0;
            let mut x: Signal = std::array::from_fn(|k| {
                at += u[k];
                at
            });
            let seen = apply(self.a, &x);
            let mut r: Vec<f64> = self.y.iter().zip(seen).map(|(y, a)| y - a).collect();
            for _ in 0..EXCHANGES {
                latent.exchange(&mut x, |k, _, by| {
                    let of = |(rc, cc): (f64, f64), (r, row): (&f64, &Signal)| (rc + r * row[k], cc + row[k] * row[k]);
                    let (rc, cc) = r.iter().zip(self.a).fold((0.0, 0.0), of);
                    let moves = accepts(by * (rc - 0.5 * by * cc) / (self.s * self.s), &mut rng);
                    if moves {
                        r.iter_mut().zip(self.a).for_each(|(r, row)| *r -= by * row[k]);
                    }
                    moves
                });
            }
            latent.redraw(law, &x, &mut rng);
            if sweep >= burn_in && (sweep - burn_in).is_multiple_of(thinning) {
                draws.push(x);
            }
        }
        draws
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// inverse += by g g^T.
fn update(inverse: &mut [Vec<f64>], g: &[f64], by: f64) {
    for (row, a) in inverse.iter_mut().zip(g) {
        row.iter_mut().zip(g).for_each(|(r, b)| *r += by * a * b);
    }
}

/// Of a symmetric positive matrix, by Cholesky's decomposition.
fn invert(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = a.len();
    for j in 0..n {
        let (row, below) = a[j..].split_first_mut().map_or((&mut [][..], &mut [][..]), |(r, b)| (&mut r[..], b));
        row[j] = (row[j] - dot(&row[..j], &row[..j])).max(f64::MIN_POSITIVE).sqrt();
        for other in below {
            other[j] = (other[j] - dot(&other[..j], &row[..j])) / row[j];
        }
    }
    // Columns of L^-1, then L^-T L^-1.
    let mut inverse = vec![vec![0.0; n]; n];
    for (c, column) in inverse.iter_mut().enumerate() {
        for (i, row) in a.iter().enumerate().skip(c) {
            column[i] = (f64::from(u8::from(i == c)) - dot(&row[c..i], &column[c..i])) / row[i];
        }
    }
    (0..n).map(|i| (0..n).map(|j| dot(&inverse[i][i.max(j)..], &inverse[j][i.max(j)..])).collect()).collect()
}
