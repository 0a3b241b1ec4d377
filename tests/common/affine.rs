//! The exact mean and covariance of a chain whose every step is affine in x and in the noise: what a Gaussian prior
//! with its exact denoiser and Gaussian evidence make of it. Each step is probed with unit vectors, so no sampling
//! error is left.

use undiffuse::Result;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, Denoiser, GaussianMixture};
use undiffuse::noise::NoiseSource;
use undiffuse::posterior::Evidence;
use undiffuse::posterior::operator::LinearOperator;
use undiffuse::process::PredictionType;
use undiffuse::sampler::Sampler;
use undiffuse::tensor::Dims;

pub type Matrix = Vec<Vec<f64>>;

/// Sample 0 has no noise; samples n + 1 .. 2 n have unit vectors for the chain's noise, 2 n + 1 .. 3 n for the
/// evidence's first draw of a step and 3 n + 1 .. 4 n for its second, which may be shorter.
struct Probes(usize);

impl NoiseSource for Probes {
    fn normal(&mut self, first: u64, draw: u64, n: usize, out: &mut [f32]) -> Result<()> {
        let begin = if draw >> 63 == 1 { (2 + draw as usize % 16) * self.0 + 1 } else { self.0 + 1 };
        for (i, row) in out.chunks_exact_mut(n).enumerate() {
            row.fill(0.0);
            if let Some(v) = (first as usize + i).checked_sub(begin).and_then(|j| row.get_mut(j)) {
                *v = 1.0;
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        0
    }
}

pub fn gaussian(mean: &[f64], covariance: &Matrix) -> GaussianMixture {
    let component = Component { weight: 1.0, mean: mean.to_vec(), covariance: Covariance::Full(covariance.concat()) };
    GaussianMixture::new(Dims::new(&[1, 1, mean.len()]).unwrap(), &[component], PredictionType::Epsilon).unwrap()
}

/// Mean and covariance of the chain's result.
pub fn result(denoiser: impl Denoiser, sampler: &dyn Sampler, evidence: impl Evidence) -> (Vec<f64>, Matrix) {
    let n = denoiser.sample_dims().elements();
    let options = ChainOptions { batch: 4 * n + 1, first_sample: 0 };
    let mut chain = Chain::with_evidence(denoiser, sampler, Probes(n), evidence, &options).unwrap();
    let mut x = vec![0.0f32; (4 * n + 1) * n];
    (0..n).for_each(|i| x[(i + 1) * n + i] = 1.0);
    let (mut mean, mut cov) = (vec![0.0; n], identity(n));
    for step in 0..sampler.levels().len() {
        chain.start_from(step, &x, 0).unwrap();
        chain.step().unwrap();
        let rows: Vec<Vec<f64>> =
            chain.x().chunks_exact(n).map(|r| r.iter().map(|&v| f64::from(v)).collect()).collect();
        let map = |begin: usize| -> Matrix {
            (0..n).map(|i| (0..n).map(|j| rows[begin + j][i] - rows[0][i]).collect()).collect()
        };
        let of_x = map(1);
        mean = (0..n).map(|i| rows[0][i] + (0..n).map(|j| of_x[i][j] * mean[j]).sum::<f64>()).collect();
        cov = sandwich(&of_x, &cov);
        for begin in [n + 1, 2 * n + 1, 3 * n + 1] {
            let own = sandwich(&map(begin), &identity(n));
            (0..n).for_each(|i| (0..n).for_each(|j| cov[i][j] += own[i][j]));
        }
    }
    (mean, cov)
}

/// Which draws a run asks for, and how long they are.
#[derive(Default)]
struct Asked(std::collections::BTreeMap<u64, usize>);

/// Sample 0 has no noise, and each other one a single 1: of its own element of its own draw.
struct Units(std::collections::BTreeMap<u64, usize>);

impl NoiseSource for Asked {
    fn normal(&mut self, _: u64, draw: u64, n: usize, out: &mut [f32]) -> Result<()> {
        out.fill(0.0);
        self.0.insert(draw, n);
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        0
    }
}

impl NoiseSource for Units {
    fn normal(&mut self, first: u64, draw: u64, n: usize, out: &mut [f32]) -> Result<()> {
        out.fill(0.0);
        let own = self.0[&draw];
        for (i, row) in out.chunks_exact_mut(n).enumerate() {
            if let Some(v) = (first as usize + i).checked_sub(own).and_then(|j| row.get_mut(j)) {
                *v = 1.0;
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        0
    }
}

/// Mean and covariance of the result of a chain that is affine as a whole, whatever history it keeps: x with no noise
/// at all, and what each single value of noise adds to it. `denoiser` makes one for a batch.
pub fn whole<D: Denoiser>(
    denoiser: impl Fn(usize) -> D,
    sampler: &dyn Sampler,
    evidence: &mut dyn Evidence,
) -> Result<(Vec<f64>, Matrix)> {
    let mut asked = Asked::default();
    let options = ChainOptions { batch: 1, first_sample: 0 };
    Chain::with_evidence(denoiser(1), sampler, &mut asked, &mut *evidence, &options)?.run()?;
    let mut batch = 1;
    for len in asked.0.values_mut() {
        (*len, batch) = (batch, batch + *len);
    }
    let options = ChainOptions { batch, first_sample: 0 };
    let denoiser = denoiser(batch);
    let n = denoiser.sample_dims().elements();
    let mut chain = Chain::with_evidence(denoiser, sampler, Units(asked.0), evidence, &options)?;
    chain.run()?;
    let rows: Vec<Vec<f64>> = chain.x().chunks_exact(n).map(|r| r.iter().map(|&v| f64::from(v)).collect()).collect();
    let mean = rows[0].clone();
    let mut cov = vec![vec![0.0; n]; n];
    for row in &rows[1..] {
        let d: Vec<f64> = row.iter().zip(&mean).map(|(a, b)| a - b).collect();
        (0..n).for_each(|i| (0..n).for_each(|j| cov[i][j] += d[i] * d[j]));
    }
    Ok((mean, cov))
}

/// The posterior mean and covariance for y = A x + s n.
pub fn posterior(m: &[f64], prior: &Matrix, op: &dyn LinearOperator, y: &[f32], s: f64) -> (Vec<f64>, Matrix) {
    let (n, k) = (m.len(), y.len());
    let a = matrix(op);
    let sa: Matrix = (0..n).map(|i| (0..k).map(|j| (0..n).map(|l| prior[i][l] * a[j][l]).sum()).collect()).collect();
    let mut c: Matrix = (0..k).map(|i| (0..k).map(|j| (0..n).map(|l| a[i][l] * sa[l][j]).sum()).collect()).collect();
    (0..k).for_each(|i| c[i][i] += s * s);
    let inverse = invert(&c);
    let gain: Matrix =
        (0..n).map(|i| (0..k).map(|j| (0..k).map(|l| sa[i][l] * inverse[l][j]).sum()).collect()).collect();
    let r: Vec<f64> = (0..k).map(|i| f64::from(y[i]) - (0..n).map(|l| a[i][l] * m[l]).sum::<f64>()).collect();
    let mean = (0..n).map(|i| m[i] + (0..k).map(|j| gain[i][j] * r[j]).sum::<f64>()).collect();
    let cov = (0..n)
        .map(|i| (0..n).map(|j| prior[i][j] - (0..k).map(|l| gain[i][l] * sa[j][l]).sum::<f64>()).collect())
        .collect();
    (mean, cov)
}

/// Error of the mean over the root of the prior's mean variance, and Frobenius error of the covariance relative to it.
pub fn errors(got: &(Vec<f64>, Matrix), want: &(Vec<f64>, Matrix)) -> (f64, f64) {
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|d| d * d).sum::<f64>();
    let mean = square(&mut got.0.iter().zip(&want.0).map(|(g, w)| g - w));
    let trace: f64 = (0..want.0.len()).map(|i| want.1[i][i]).sum();
    let (g, w) = (got.1.concat(), want.1.concat());
    let cov = square(&mut g.iter().zip(&w).map(|(g, w)| g - w)) / square(&mut w.iter().copied());
    ((mean / trace).sqrt(), cov.sqrt())
}

fn matrix(op: &dyn LinearOperator) -> Matrix {
    let (n, m) = (op.input_dims().elements(), op.output_dims().elements());
    let mut scratch = vec![0.0; op.scratch_len()];
    let mut a = vec![vec![0.0; n]; m];
    for j in 0..n {
        let (mut x, mut y) = (vec![0.0; n], vec![0.0; m]);
        x[j] = 1.0;
        op.apply(&x, &mut y, &mut scratch).unwrap();
        (0..m).for_each(|i| a[i][j] = f64::from(y[i]));
    }
    a
}

pub fn identity(n: usize) -> Matrix {
    (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

/// M C M^T.
fn sandwich(m: &Matrix, c: &Matrix) -> Matrix {
    let n = c.len();
    let mc: Matrix = m.iter().map(|r| (0..n).map(|j| (0..n).map(|k| r[k] * c[k][j]).sum()).collect()).collect();
    mc.iter().map(|r| m.iter().map(|q| (0..n).map(|k| r[k] * q[k]).sum()).collect()).collect()
}

/// By Gauss-Jordan; for positive definite matrices.
fn invert(a: &Matrix) -> Matrix {
    let n = a.len();
    let (mut a, mut b) = (a.clone(), identity(n));
    for p in 0..n {
        let pivot = a[p][p];
        (0..n).for_each(|j| (a[p][j] /= pivot, b[p][j] /= pivot).0);
        for i in (0..n).filter(|&i| i != p) {
            let f = a[i][p];
            (0..n).for_each(|j| {
                a[i][j] -= f * a[p][j];
                b[i][j] -= f * b[p][j];
            });
        }
    }
    b
}
