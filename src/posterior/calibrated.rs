//! Evidence that is calibrated to the noise: r_t(x_t) = p(y | x_t).

use super::common::{check_draws, check_mean, check_real, cut};
use super::operator::LinearOperator;
use super::scatter::{self, Undecided, check_products};
use super::spectral::{Likelihood, Spectral};
use super::{At, Evidence, Jacobian, Kernel, Measurement, Recommended};
use crate::error::{Result, ensure};
use crate::noise::{Fingerprint, NoiseSource};
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// Products a step for the covariance unless more is said.
const VARIANCE_PRODUCTS: usize = 1;

/// Calibrated evidence with the model's own covariance: r_t(x_t) = p(y | x_t). Works with every sampler whose x_0 is
/// linear in the network's output, with or without noise in its steps.
///
/// `iterations` vector-Jacobian products a step. Conjugate gradients end exactly after as many iterations as A C A^T
/// has distinct values; with an operator that has a decomposition they are preconditioned by (c A A^T + s^2 I)^-1 of
/// the white form.
///
/// For a trained network take 2. At high noise its Jacobian is no covariance, neither symmetric nor positive, and more
/// iterations follow its errors: of 28x28 digits seen through 4x4 means with s = 0.05, samples are off by |y - A x| =
/// 1.07, 1.16 and 2.4 s sqrt(m) with 2, 3 and 5 iterations in 50 steps, where 1 is right. (Conjugate residuals, whose
/// misfit cannot grow, stay at 1.11 to 1.15 from 2 iterations on and restore no better.) On x_t that belong to digits
/// the covariance is right, within a few per cent of the error of x_0 at every level; what is off are chains that
/// settled on a shape which y rules out. They come back if they are put back into noise: take
/// [`RePaint`](crate::sampler::repaint) as the sampler, as [`recommended`](super::Recommended::CALIBRATED). With 20
/// timesteps, jumps of 4 and 2 resamplings, 36 calls, 100 digits are at 1.04 and 17.8 dB, where 36 steps of DDIM with
/// eta 1 come to 1.14 and 16.6 dB.
///
/// # Variance
/// Every step draws x_0 from p(x_0 | x_t, y), as far as that is Gaussian: C^1/2 z around the predicted mean (see
/// [`OptimalVariance`](super::OptimalVariance)) brings in the covariance of x_0 given x_t, and conditioning mean +
/// C^1/2 z on y - s n', n' being fresh noise, in place of the mean on y, takes from it what y says (Matheron's rule),
/// at no further product. So the reverse step has the covariance of the posterior's own, however coarse, and the
/// sampler's variance (`fixed_small`, `fixed_large`, learned) does not matter.
///
/// Of a Gaussian in 8 dimensions (standard deviations 0.13 to 0.42, dense A, s = 0.3) the recommended 36 calls have
/// 0.20 to 0.49 of the posterior's variances with 0 products (linear betas), and 0.98 to 1.02 with 2, means within
/// 0.013 standard deviations (`tests/posterior/variance.rs`); with 1, which knows no directions, 0.9 to 1.3. The
/// default is 1 since trained networks know their directions less well than their trace: of 100 held-out digits with
/// noise of 0.6, 6 samples each, the squared error of the mean is 0.92 times what the variance map says; of ten of them
/// 0.90 times, 0.75 with 2 products, and 0.96 in 150 steps of DDPM with 0.
///
/// Per sample: scratch of 4 m + 3 n + 2 values, and with k > 0 products for the variance of m + (k + 2) n + k^2 more.
/// Sums in f64, vectors in f32. A direction in which the network's Jacobian is not positive is left alone.
///
/// # Why
/// Draw x_s from p(x_s | x_t) r_s(x_s) at every step and, up to the discretisation of the chain, x_0 follows the
/// posterior p(x_0 | y) if and only if r_t(x_t) is proportional to p(y | x_t), the likelihood of the clean x_0 behind
/// x_t:
///
/// ```text
/// p(x_s | x_t, y) = p(x_s | x_t) p(y | x_s) / p(y | x_t).
/// ```
///
/// For y = A x_0 + s n this is N(y; A m_t, A C_t A^T + s^2 I) wherever p(x_0 | x_t) is Gaussian with mean m_t(x_t) and
/// covariance C_t. The model gives both: m_t is the predicted x_0, and by Tweedie's second formula
///
/// ```text
/// C_t = (sigma^2 / alpha) J_t,   J_t = d m_t / d x_t  (symmetric).
/// ```
///
/// # The two forms
/// [`Calibrated`] uses both. Conditioning the Gaussian on y gives the posterior mean
///
/// ```text
/// E[x_0 | x_t, y] = m + C A^T (A C A^T + s^2 I)^-1 (y - A m),
/// ```
///
/// which takes the place of the predicted x_0, and the sampler steps on: the chain is that of the conditional model.
/// The system is solved by a few conjugate gradients, one vector-Jacobian product each (moment matching posterior
/// sampling, Rozet et al. 2024, reached from the 2015 paper's product; PiGDM is its first iteration with a guess for C;
/// TMPD keeps the diagonal). Exact for Gaussian priors, whatever their covariance; for others as exact as p(x_0 | x_t)
/// is Gaussian, which is always so at low noise and wrong where modes are still undecided.
///
/// [`CalibratedWhite`] needs no derivative. It takes the prior for white, x_0 ~ N(0, v I), and has then in closed form
/// m = g x_t, g = alpha v / (alpha^2 v + sigma^2), and C = c I, c = v sigma^2 / (alpha^2 v + sigma^2): for v = 1
///
/// ```text
/// r_t(x) = N(y; sqrt(abar) A x, (1 - abar) A A^T + s^2 I),
/// ```
///
/// with which each kernel is multiplied exactly in the singular basis of A. It is the exact posterior for a white prior
/// and biased for any other: where the prior is narrow it takes the model's own certainty for doubt.
///
/// # What they reach
/// A correlated Gaussian prior of 8 elements with its exact denoiser; error of the mean (over the root of the
/// posterior's trace) / of the covariance (Frobenius, relative), in %, without sampling error;
/// `tests/posterior/exact.rs` prints it. What is left of the first two rows is the chain's: without evidence it has the
/// same.
///
/// | method, 1000 steps | denoising, s 0.5 | inpainting, s 0.1 | dense A, s 0.3 |
/// |---|---|---|---|
/// | [`Calibrated`], 10 iterations, DDPM | 0.0 / 1.9 | 0.0 / 1.4 | 0.0 / 1.5 |
/// | the same, DDIM with eta 0 | 0.4 / 0.7 | 0.4 / 0.5 | 0.2 / 0.6 |
/// | 3 iterations, DDPM | 0.1 / 1.8 | 0.1 / 1.3 | 0.2 / 1.5 |
/// | 1 iteration, DDPM | 12 / 5.6 | 7.1 / 1.3 | 9.9 / 5.8 |
/// | [`CalibratedWhite`] | 14 / 24 | 32 / 60 | 14 / 50 |
/// | [`ExactProduct`](super::ExactProduct), constant r | 15 / 43 | 17 / 27 | 7.0 / 24 |
/// | the same, ramp | 15 / 39 | 17 / 27 | 6.6 / 24 |
///
/// A mixture of three Gaussians in the plane seen through one number, 20,000 samples (`tests/posterior/mixture.rs`):
/// with the true log p(y | x_t), which a caller who knows it can give as a closure ([`MeanShift`](super::MeanShift) of
/// [`FnLogR`](super::FnLogR)), 0.6 / 1.2, which is the sampling error; [`Calibrated`] 11 / 13, [`CalibratedWhite`] 19 /
/// 14, the constant r of 2015 9 / 11. With separate modes no Gaussian of p(x_0 | x_t) is right, and the calibrated form
/// has no lead.
#[derive(Clone, Debug)]
pub struct Calibrated<O> {
    measurement: Measurement<O>,
    iterations: usize,
    variance_products: usize,
}

impl<O: LinearOperator> Calibrated<O> {
    /// Errors: kind `InvalidArgument` for no iterations or a measurement without noise.
    pub fn new(measurement: Measurement<O>, iterations: usize) -> Result<Self> {
        ensure!(iterations > 0, InvalidArgument, "calibrated evidence with 0 iterations, expected at least 1");
        measurement.check_noise("calibrated evidence")?;
        Ok(Self { measurement, iterations, variance_products: VARIANCE_PRODUCTS })
    }

    /// With `products` vector-Jacobian products a step for the covariance, 0 to 16, in place of 1. Take 2 for an exact
    /// denoiser. With 0 the mean of x_0 given x_t and y takes the place of x_0 and the sampler adds its own noise: for
    /// steps so small, or methods of so high an order, that this is enough.
    ///
    /// Errors: kind `InvalidArgument` for another number.
    pub fn with_variance_products(self, products: usize) -> Result<Self> {
        check_products(products)?;
        Ok(Self { variance_products: products, ..self })
    }

    /// z = P^-1 r for every sample.
    fn precondition(&self, c: f64, r: &[f32], z: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let (op, m) = (self.measurement.operator(), self.measurement.len().max(1));
        let s2 = self.measurement.sigma() * self.measurement.sigma();
        // With a scatter that is nothing beside the noise, the identity is as good and rounds better.
        if op.svd().is_none() || c <= 1e-6 * s2 {
            z.copy_from_slice(r);
            return Ok(());
        }
        for (r, z) in r.chunks_exact(m).zip(z.chunks_exact_mut(m)) {
            op.solve(s2 / c, r, z, scratch)?;
            z.iter_mut().for_each(|z| *z = (f64::from(*z) / c) as f32);
        }
        Ok(())
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Row `i` of `[rows, len]`; empty where there is none.
fn row(values: &mut [f32], i: usize, len: usize) -> &mut [f32] {
    values.chunks_exact_mut(len).nth(i).unwrap_or(&mut [])
}

fn at_or_zero(values: &[f32], i: usize) -> f64 {
    values.get(i).copied().map_or(0.0, f64::from)
}

/// to += c from.
fn add(c: f64, from: &[f32], to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(t, &f)| *t = (f64::from(*t) + c * f64::from(f)) as f32);
}

impl<O: LinearOperator> Evidence for Calibrated<O> {
    fn name(&self) -> &str {
        "calibrated"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("calibrated evidence", sampler)?;
        check_mean("calibrated evidence", sampler)?;
        if self.draws_x0() {
            check_draws("calibrated evidence", sampler)?;
        }
        self.measurement.check(dims)
    }
    fn recommended(&self) -> Recommended {
        Recommended::CALIBRATED
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let per_sample = self.measurement.len().saturating_mul(4).saturating_add(dims.elements().saturating_mul(3));
        let mut all = per_sample.saturating_add(2).saturating_mul(batch);
        if self.draws_x0() {
            let drawn = dims.elements().saturating_add(self.measurement.len()).saturating_mul(batch);
            all = all.saturating_add(drawn).saturating_add(scatter::scratch_len(
                dims.elements(),
                batch,
                self.variance_products,
            ));
        }
        all.saturating_add(self.measurement.operator().solve_scratch_len())
    }
    fn needs_vjp(&self) -> bool {
        true
    }
    fn draws_x0(&self) -> bool {
        self.variance_products > 0
    }
    fn draw(&mut self, at: &At, batch: usize, noise: &mut dyn NoiseSource, scratch: &mut [f32]) -> Result<()> {
        if !self.draws_x0() {
            return Ok(());
        }
        let (n, m) = (at.sample_len, self.measurement.len());
        let (of_x0, scratch) = cut(scratch, batch.saturating_mul(n))?;
        let (of_y, _) = cut(scratch, batch.saturating_mul(m))?;
        noise.normal(at.first_sample, at.draw(0), n, of_x0)?;
        noise.normal(at.first_sample, at.draw(1), m, of_y)
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        jacobian: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        let (n, m) = (at.sample_len.max(1), self.measurement.len().max(1));
        let batch = x.len() / n;
        let (alpha, sigma) = (at.level.alpha, at.level.sigma);
        // Without a trace of x_0 in x_t the mean alone is known; hardly any of it enters x_s.
        if alpha <= 0.0 {
            return Ok(());
        }
        let drawn = self.draws_x0();
        let (of_x0, scratch) = cut(scratch, if drawn { batch * n } else { 0 })?;
        let (of_y, scratch) = cut(scratch, if drawn { batch * m } else { 0 })?;
        if drawn {
            let (own, _) = cut(scratch, scatter::scratch_len(n, batch, self.variance_products))?;
            scatter::root(at, (self.variance_products, Undecided::Narrowed), x0, of_x0, jacobian, own)?;
            x0.iter_mut().zip(&*of_x0).for_each(|(x0, d)| *x0 += d);
        }
        let tweedie = sigma * sigma / alpha;
        let white = sigma * sigma / (alpha * alpha + sigma * sigma);
        let s2 = self.measurement.sigma() * self.measurement.sigma();
        let op = self.measurement.operator();
        let (r, scratch) = cut(scratch, batch * m)?;
        let (z, scratch) = cut(scratch, batch * m)?;
        let (p, scratch) = cut(scratch, batch * m)?;
        let (ap, scratch) = cut(scratch, batch * m)?;
        let (v, scratch) = cut(scratch, batch * n)?;
        let (q, scratch) = cut(scratch, batch * n)?;
        let (shift, scratch) = cut(scratch, batch * n)?;
        // Of each sample r . z before the first direction and before the latest.
        let (first, scratch) = cut(scratch, batch)?;
        let (before, scratch) = cut(scratch, batch)?;

        for (i, (x0, r)) in x0.chunks_exact(n).zip(r.chunks_exact_mut(m)).enumerate() {
            self.measurement.residual(at.first_sample.saturating_add(i as u64), x0, r, scratch)?;
        }
        let s = self.measurement.sigma();
        r.iter_mut().zip(&*of_y).for_each(|(r, &z)| *r = (f64::from(*r) - s * f64::from(z)) as f32);
        self.precondition(white, r, z, scratch)?;
        p.copy_from_slice(z);
        shift.fill(0.0);
        for ((f, r), z) in first.iter_mut().zip(r.chunks_exact(m)).zip(z.chunks_exact(m)) {
            *f = dot(r, z) as f32;
        }
        for k in 0..self.iterations {
            // q = C A^T p, of the whole batch.
            for (p, v) in p.chunks_exact(m).zip(v.chunks_exact_mut(n)) {
                op.adjoint(p, v, scratch)?;
            }
            jacobian.vjp(v, q)?;
            q.iter_mut().for_each(|q| *q = (tweedie * f64::from(*q)) as f32);
            for (q, ap) in q.chunks_exact(n).zip(ap.chunks_exact_mut(m)) {
                op.apply(q, ap, scratch)?;
            }
            for i in 0..batch {
                let (r, p, z) = (row(r, i, m), row(p, i, m), &*row(z, i, m));
                let (ap, q) = (row(ap, i, m), &*row(q, i, n));
                add(s2, p, ap);
                let (rz, curvature) = (dot(r, z), dot(p, ap));
                if curvature > 0.0 && rz > 0.0 {
                    let step = rz / curvature;
                    add(step, q, row(shift, i, n));
                    add(-step, ap, r);
                } else {
                    p.fill(0.0);
                    r.fill(0.0);
                }
                if let Some(b) = before.get_mut(i) {
                    *b = rz as f32;
                }
            }
            if k + 1 == self.iterations {
                break;
            }
            self.precondition(white, r, z, scratch)?;
            for i in 0..batch {
                let (r, p, z) = (row(r, i, m), row(p, i, m), &*row(z, i, m));
                let (before, first) = (at_or_zero(before, i), at_or_zero(first, i));
                let after = dot(r, z);
                if before > 0.0 && after > 1e-12 * first {
                    let keep = after / before;
                    p.iter_mut().zip(z).for_each(|(p, &z)| *p = (f64::from(z) + keep * f64::from(*p)) as f32);
                } else {
                    // Solved to the rounding of f32: going on would follow noise.
                    p.fill(0.0);
                    r.fill(0.0);
                }
            }
        }
        for ((x0, eps), (x, shift)) in x0.iter_mut().zip(eps).zip(x.iter().zip(&*shift)) {
            *x0 += shift;
            *eps = ((f64::from(*x) - alpha * f64::from(*x0)) / sigma) as f32;
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().bytes(b"calibrated").u64(self.iterations as u64).u64(self.variance_products as u64);
        f.u64(self.measurement.fingerprint()).finish()
    }
}

/// Calibrated evidence for a prior taken for white, without derivatives; the second of the forms that [`Calibrated`]'s
/// docs derive. The sampler must add noise.
#[derive(Clone, Debug)]
pub struct CalibratedWhite<O> {
    spectral: Spectral<O>,
    variance: f64,
}

impl<O: LinearOperator> CalibratedWhite<O> {
    /// With `variance` v of the data's elements, 1 where the data are scaled to it.
    ///
    /// Errors: kind `Unsupported` for an operator without a decomposition; kind `InvalidArgument` for a variance that
    /// is not above 0 or a measurement without noise.
    pub fn new(measurement: Measurement<O>, variance: f64) -> Result<Self> {
        ensure!(
            variance > 0.0 && variance.is_finite(),
            InvalidArgument,
            "the variance of the data is {variance}, expected above 0"
        );
        measurement.check_noise("calibrated evidence")?;
        Ok(Self { spectral: Spectral::new(measurement)?, variance })
    }
}

impl<O: LinearOperator> Evidence for CalibratedWhite<O> {
    fn name(&self) -> &str {
        "calibrated to a white prior"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        self.spectral.check("calibrated evidence for a white prior", dims, sampler)
    }
    fn recommended(&self) -> Recommended {
        Recommended::CALIBRATED_WHITE
    }
    fn scratch_len(&self, dims: Dims, _: usize) -> usize {
        self.spectral.scratch_len(dims)
    }
    fn kernel(&mut self, at: &At, _: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let (a, s2) = (at.target.alpha, at.target.sigma * at.target.sigma);
        let total = a * a * self.variance + s2;
        let noise = self.spectral.measurement.sigma() * self.spectral.measurement.sigma();
        let r = Likelihood { gain: a * self.variance / total, scatter: self.variance * s2 / total, noise };
        self.spectral.multiply(at, r, kernel, scratch)
    }
    fn fingerprint(&self) -> u64 {
        let of = self.spectral.measurement.fingerprint();
        Fingerprint::new().bytes(b"calibrated white").f64(self.variance).u64(of).finish()
    }
}
