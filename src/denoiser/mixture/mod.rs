//! The exact denoiser of a Gaussian mixture: a prior whose chain and posterior are known in closed form.

mod fit;

use alloc::vec;
use alloc::vec::Vec;

use super::linalg::symmetric_eigen;
use super::{Call, Denoiser, check_batch, check_gave, check_given};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::process::PredictionType;
use crate::schedule::Level;
use crate::tensor::Dims;

/// The covariance of a component over n elements.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Covariance {
    /// n variances, each 0 or more.
    Diagonal(Vec<f64>),
    /// n x n, row-major, symmetric, no negative eigenvalue.
    Full(Vec<f64>),
}

/// One Gaussian of a mixture.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Above 0; the mixture divides by the sum.
    pub weight: f64,
    /// n values.
    pub mean: Vec<f64>,
    /// Its covariance.
    pub covariance: Covariance,
}

/// A component with its covariance as eigenvalues and, unless it is diagonal, eigenvectors in rows.
#[derive(Clone, Debug)]
struct Prepared {
    log_weight: f64,
    mean: Vec<f64>,
    eigenvalues: Vec<f64>,
    eigenvectors: Option<Vec<f64>>,
}

/// p(x_0) = sum_k w_k N(x_0; mu_k, S_k), and the exact prediction under x = alpha x_0 + sigma eps.
///
/// With C_k = alpha^2 S_k + sigma^2 I and the responsibilities r_k of N(x; alpha mu_k, C_k):
///
/// ```text
/// E[eps | x] = sigma sum_k r_k C_k^-1 (x - alpha mu_k)
/// E[x_0 | x] = sum_k r_k (mu_k + alpha S_k C_k^-1 (x - alpha mu_k))
/// ```
///
/// Computed in f64 by the eigenvectors found at construction, rounded once to f32; nothing is allocated in a call. It
/// works at every level with sigma > 0, and at sigma = 0 where no S_k is singular.
///
/// ```
/// use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
/// use undiffuse::process::PredictionType;
/// use undiffuse::tensor::Dims;
///
/// let one = |mean: f64| Component { weight: 1.0, mean: vec![mean], covariance: Covariance::Diagonal(vec![0.1]) };
/// let prior = GaussianMixture::new(Dims::new(&[1])?, &[one(-1.0), one(1.0)], PredictionType::Epsilon)?;
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GaussianMixture {
    dims: Dims,
    kind: PredictionType,
    components: Vec<Prepared>,
    fingerprint: u64,
    scratch: Scratch,
}

/// Per component: its responsibility; h_k = C_k^-1 (x - alpha mu_k); and vectors in the eigenbasis.
#[derive(Clone, Debug)]
struct Scratch {
    responsibility: Vec<f64>,
    /// Of each component the logarithm of the determinant of 2 pi times its covariance at a level, `[K]`.
    log_dets: Vec<f64>,
    h: Vec<f64>,
    rotated: Vec<f64>,
    a: Vec<f64>,
    b: Vec<f64>,
}

impl GaussianMixture {
    /// Prepares the mixture. `kind` is what [`Denoiser::predict`] gives.
    ///
    /// Errors (kind `InvalidArgument`): no component, a weight that is not above 0, a mean or covariance of the wrong
    /// length or not finite, a covariance that is not symmetric or has a negative eigenvalue.
    pub fn new(dims: Dims, components: &[Component], kind: PredictionType) -> Result<Self> {
        let n = dims.elements();
        ensure!(!components.is_empty(), InvalidArgument, "a Gaussian mixture needs a component, got none");
        let mut total = 0.0;
        for (k, c) in components.iter().enumerate() {
            ensure!(
                c.weight > 0.0 && c.weight.is_finite(),
                InvalidArgument,
                "the weight of component {k} is {}, expected above 0",
                c.weight
            );
            total += c.weight;
        }
        let mut fingerprint = Fingerprint::new().bytes(b"mixture").u64(kind as u64);
        let mut prepared = Vec::with_capacity(components.len());
        for (k, c) in components.iter().enumerate() {
            let p = prepare(n, c, total).map_err(|e| e.context(format_args!("component {k}")))?;
            let values = [p.log_weight].into_iter().chain(p.mean.iter().copied()).chain(p.eigenvalues.iter().copied());
            fingerprint =
                values.chain(p.eigenvectors.iter().flatten().copied()).fold(fingerprint.u64(n as u64), |f, v| f.f64(v));
            prepared.push(p);
        }
        let k = prepared.len();
        let scratch = Scratch {
            responsibility: vec![0.0; k],
            log_dets: vec![0.0; k],
            h: vec![0.0; k * n],
            rotated: vec![0.0; n],
            a: vec![0.0; n],
            b: vec![0.0; n],
        };
        Ok(Self { dims, kind, components: prepared, fingerprint: fingerprint.finish(), scratch })
    }

    /// log p(x) of the noised mixture at a level, natural logarithm, for one sample.
    ///
    /// Errors: kind `Shape` for a wrong length.
    pub fn log_density(&mut self, level: &Level, x: &[f32]) -> Result<f64> {
        let n = self.dims.elements();
        ensure!(x.len() == n, Shape, "log_density got {} values, expected {n}", x.len());
        self.at_level(level);
        Ok(self.respond(level, x))
    }

    /// What [`respond`](Self::respond) needs to know of a level, once for all samples.
    fn at_level(&mut self, level: &Level) {
        for (c, log_det) in self.components.iter().zip(&mut self.scratch.log_dets) {
            let logs = c.eigenvalues.iter().map(|s| libm::log(2.0 * core::f64::consts::PI * noised(level, *s)));
            *log_det = logs.sum();
        }
    }

    /// Fills the responsibilities and h_k for one sample; returns log p(x).
    fn respond(&mut self, level: &Level, x: &[f32]) -> f64 {
        let n = self.dims.elements();
        let Scratch { responsibility, log_dets, h, rotated, a, .. } = &mut self.scratch;
        let parts = self.components.iter().zip(&mut *responsibility).zip(&*log_dets);
        for (((c, log), log_det), h) in parts.zip(h.chunks_exact_mut(n)) {
            for ((d, x), m) in a.iter_mut().zip(x).zip(&c.mean) {
                *d = f64::from(*x) - level.alpha * m;
            }
            c.to_basis(a, rotated);
            let mut quadratic = 0.0;
            for (y, s) in rotated.iter_mut().zip(&c.eigenvalues) {
                let variance = noised(level, *s);
                quadratic += *y * *y / variance;
                *y /= variance;
            }
            c.back(rotated, h);
            *log = c.log_weight - 0.5 * (quadratic + log_det);
        }
        let max = responsibility.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v));
        let sum: f64 = responsibility.iter().map(|v| libm::exp(v - max)).sum();
        let log_density = max + libm::log(sum);
        responsibility.iter_mut().for_each(|v| *v = libm::exp(*v - log_density));
        log_density
    }

    /// E[eps | x] to `a` and E[x_0 | x] to `b` of the scratch, for one sample.
    fn moments(&mut self, level: &Level, x: &[f32]) {
        self.respond(level, x);
        let n = self.dims.elements();
        let Scratch { responsibility, h, rotated, a, b, .. } = &mut self.scratch;
        a.fill(0.0);
        for (r, h) in responsibility.iter().zip(h.chunks_exact(n)) {
            a.iter_mut().zip(h).for_each(|(e, h)| *e += level.sigma * r * h);
        }
        b.fill(0.0);
        for ((c, r), h) in self.components.iter().zip(&*responsibility).zip(h.chunks_exact(n)) {
            // alpha S h, added in the component's own basis.
            c.to_basis(h, rotated);
            rotated.iter_mut().zip(&c.eigenvalues).for_each(|(y, s)| *y *= level.alpha * s * r);
            c.add_back(rotated, b);
            b.iter_mut().zip(&c.mean).for_each(|(x0, m)| *x0 += r * m);
        }
    }

    /// J^T v to `b` of the scratch, with `v` in `a`, for J = d E[eps | x] / d x (`of_eps`) or d E[x_0 | x] / d x. Both
    /// are symmetric. Needs [`GaussianMixture::respond`] before.
    ///
    /// d r_k / d x = r_k (g_k - g) with g_k = -h_k and g = sum r_k g_k.
    fn product(&mut self, level: &Level, of_eps: bool) {
        let n = self.dims.elements();
        let Scratch { responsibility, h, rotated, a, b, .. } = &mut self.scratch;
        b.fill(0.0);
        let mut mean_inner = 0.0;
        for ((c, r), h) in self.components.iter().zip(&*responsibility).zip(h.chunks_exact(n)) {
            // The inner derivative, with r_k held fixed.
            c.to_basis(a, rotated);
            let mut inner = 0.0;
            if !of_eps {
                inner += c.mean.iter().zip(&*a).map(|(m, v)| m * v).sum::<f64>();
            } else {
                inner += h.iter().zip(&*a).map(|(h, v)| level.sigma * h * v).sum::<f64>();
            }
            for (y, s) in rotated.iter_mut().zip(&c.eigenvalues) {
                let factor = if of_eps { level.sigma } else { level.alpha * s };
                *y *= factor / noised(level, *s) * r;
            }
            c.add_back(rotated, b);
            if !of_eps {
                // The posterior mean m_k = mu_k + alpha S h_k, times v.
                c.to_basis(h, rotated);
                rotated.iter_mut().zip(&c.eigenvalues).for_each(|(y, s)| *y *= level.alpha * s);
                inner += c.dot_in_basis(rotated, a);
            }
            b.iter_mut().zip(h).for_each(|(o, h)| *o -= r * inner * h);
            mean_inner += r * inner;
        }
        // Minus g: plus sum_k r_k h_k, times sum_k r_k inner_k.
        for (r, h) in responsibility.iter().zip(h.chunks_exact(n)) {
            b.iter_mut().zip(h).for_each(|(o, h)| *o += mean_inner * r * h);
        }
    }
}

fn noised(level: &Level, variance: f64) -> f64 {
    level.alpha * level.alpha * variance + level.sigma * level.sigma
}

fn prepare(n: usize, c: &Component, total: f64) -> Result<Prepared> {
    ensure!(c.mean.len() == n, InvalidArgument, "the mean has {} values, expected {n}", c.mean.len());
    ensure!(c.mean.iter().all(|v| v.is_finite()), InvalidArgument, "the mean is not finite");
    let (mut eigenvalues, eigenvectors) = match &c.covariance {
        Covariance::Diagonal(d) => {
            ensure!(d.len() == n, InvalidArgument, "the diagonal has {} values, expected {n}", d.len());
            (d.clone(), None)
        }
        Covariance::Full(m) => {
            let e = symmetric_eigen(n, m)?;
            (e.values, Some(e.vectors))
        }
    };
    let largest = eigenvalues.iter().fold(0.0f64, |m, v| m.max(*v));
    for v in &mut eigenvalues {
        ensure!(
            v.is_finite() && *v >= -1e-12 * largest,
            InvalidArgument,
            "the covariance has the eigenvalue {v}, expected 0 or more"
        );
        *v = v.max(0.0);
    }
    Ok(Prepared { log_weight: libm::log(c.weight / total), mean: c.mean.clone(), eigenvalues, eigenvectors })
}

impl Prepared {
    /// y = U^T x, with the eigenvectors as columns of U.
    fn to_basis(&self, x: &[f64], y: &mut [f64]) {
        match &self.eigenvectors {
            None => y.copy_from_slice(x),
            Some(u) => {
                for (y, row) in y.iter_mut().zip(u.chunks_exact(x.len())) {
                    *y = row.iter().zip(x).map(|(u, x)| u * x).sum();
                }
            }
        }
    }

    /// x += U y.
    fn add_back(&self, y: &[f64], x: &mut [f64]) {
        match &self.eigenvectors {
            None => x.iter_mut().zip(y).for_each(|(x, y)| *x += y),
            Some(u) => {
                for (y, row) in y.iter().zip(u.chunks_exact(x.len())) {
                    x.iter_mut().zip(row).for_each(|(x, u)| *x += u * y);
                }
            }
        }
    }

    /// x = U y.
    fn back(&self, y: &[f64], x: &mut [f64]) {
        x.fill(0.0);
        self.add_back(y, x);
    }

    /// (U y) . x
    fn dot_in_basis(&self, y: &[f64], x: &[f64]) -> f64 {
        match &self.eigenvectors {
            None => y.iter().zip(x).map(|(y, x)| y * x).sum(),
            Some(u) => y
                .iter()
                .zip(u.chunks_exact(x.len()))
                .map(|(y, row)| y * row.iter().zip(x).map(|(u, x)| u * x).sum::<f64>())
                .sum(),
        }
    }
}

impl Denoiser for GaussianMixture {
    fn name(&self) -> &str {
        "Gaussian mixture"
    }

    fn sample_dims(&self) -> Dims {
        self.dims
    }

    fn looks_at_numbers(&self) -> bool {
        false
    }

    fn predict(&mut self, call: &Call<'_>, x: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.dims.elements();
        check_batch("Gaussian mixture", n, x, n, out)?;
        check_given("Gaussian mixture", "x", x)?;
        let level = &call.level;
        self.at_level(level);
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            call.cancel.check()?;
            self.moments(level, x);
            for ((out, eps), x0) in out.iter_mut().zip(&self.scratch.a).zip(&self.scratch.b) {
                *out = match self.kind {
                    PredictionType::Epsilon => *eps,
                    PredictionType::Sample => *x0,
                    PredictionType::VPrediction => level.alpha * eps - level.sigma * x0,
                    PredictionType::Flow => eps - x0,
                } as f32;
            }
        }
        check_gave("Gaussian mixture", call, n, out)
    }

    fn has_vjp(&self) -> bool {
        true
    }

    fn vjp(&mut self, call: &Call<'_>, x: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.dims.elements();
        check_batch("Gaussian mixture", n, x, n, v)?;
        check_batch("Gaussian mixture", n, x, n, out)?;
        check_given("Gaussian mixture", "x", x)?;
        check_given("Gaussian mixture", "v", v)?;
        let level = &call.level;
        self.at_level(level);
        // What each Jacobian contributes to the prediction's.
        let (of_eps, of_x0) = match self.kind {
            PredictionType::Epsilon => (1.0, 0.0),
            PredictionType::Sample => (0.0, 1.0),
            PredictionType::VPrediction => (level.alpha, -level.sigma),
            PredictionType::Flow => (1.0, -1.0),
        };
        for ((x, v), out) in x.chunks_exact(n).zip(v.chunks_exact(n)).zip(out.chunks_exact_mut(n)) {
            call.cancel.check()?;
            self.respond(level, x);
            self.scratch.a.iter_mut().zip(v).for_each(|(a, v)| *a = f64::from(*v));
            self.product(level, true);
            out.iter_mut().zip(&self.scratch.b).for_each(|(o, b)| *o = (of_eps * b) as f32);
            if of_x0 != 0.0 {
                self.product(level, false);
                out.iter_mut().zip(&self.scratch.b).for_each(|(o, b)| *o = (f64::from(*o) + of_x0 * b) as f32);
            }
        }
        check_gave("Gaussian mixture", call, n, out)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

#[cfg(test)]
mod tests;
