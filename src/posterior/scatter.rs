//! x_0 drawn around its mean: the covariance of a coarse reverse step.

use super::common::{check_draws, check_mean, check_real, cut};
use super::{At, Evidence, Jacobian, Recommended};
use crate::error::{Result, ensure};
use crate::noise::{Fingerprint, NoiseSource};
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// The most products a step may spend on its covariance.
pub(super) const MAX_PRODUCTS: usize = 16;

/// That so many products may be asked for.
pub(super) fn check_products(products: usize) -> Result<()> {
    ensure!(
        products <= MAX_PRODUCTS,
        InvalidArgument,
        "variance_products is {products}, expected 0 to {MAX_PRODUCTS} vector-Jacobian products a step"
    );
    Ok(())
}

/// f32 values of scratch for [`root`].
pub(super) fn scratch_len(n: usize, batch: usize, products: usize) -> usize {
    let per_sample = products.saturating_add(1).saturating_mul(n).saturating_add(products.saturating_mul(products));
    per_sample.saturating_mul(batch)
}

/// What is done in directions in which C exceeds sigma^2 / alpha^2, the variance of x_t / alpha given x_0 alone, which
/// no C of a prior with one hump does: there the prior is undecided between several.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Undecided {
    /// They get sigma^2 / alpha^2: in few steps a Gaussian as wide as the humps are apart leads beyond them.
    Narrowed,
    /// They get all of C: right in many steps, without which the humps' weights come out wrong.
    Whole,
}

/// z, `[batch, n]`, becomes C^1/2 z at the x_t of the step. Directions in which the Jacobian is not positive get no
/// noise, and those in which the prior is undecided what is said of them.
///
/// At high noise the Jacobian of a trained network is no covariance: on digits its trace comes to ten times their
/// variance. Where x_0 is known to lie within plus or minus r ([`At::range`]) C is scaled down so that its mean
/// variance leaves E[x_0^2] at most r^2, by what `x0`, `[batch, n]`, the predicted mean, leaves of it.
pub(super) fn root(
    at: &At,
    (products, undecided): (usize, Undecided),
    x0: &[f32],
    z: &mut [f32],
    jacobian: &mut dyn Jacobian,
    scratch: &mut [f32],
) -> Result<()> {
    let (n, k) = (at.sample_len.max(1), products.min(MAX_PRODUCTS));
    let (len, batch) = (z.len(), z.len() / n);
    let (basis, scratch) = cut(scratch, k.saturating_mul(len))?;
    let (w, scratch) = cut(scratch, len)?;
    let (h, _) = cut(scratch, batch.saturating_mul(k * k))?;
    h.fill(0.0);
    let Some(first) = basis.get_mut(..len) else { return Ok(()) };
    for (v, z) in first.chunks_exact_mut(n).zip(z.chunks_exact(n)) {
        scaled_into(z, norm(z), v);
    }
    for j in 0..k {
        let (known, next) = basis.split_at_mut((j + 1) * len);
        jacobian.vjp(known.get(j * len..).unwrap_or(&[]), w)?;
        for (i, w) in w.chunks_exact_mut(n).enumerate() {
            let h = h.get_mut(i * k * k..).unwrap_or(&mut []);
            let before = norm(w);
            for (l, v) in known.chunks_exact(len).enumerate() {
                let v = v.get(i * n..(i + 1) * n).unwrap_or(&[]);
                let along = dot(v, w);
                w.iter_mut().zip(v).for_each(|(w, &v)| *w = (f64::from(*w) - along * f64::from(v)) as f32);
                put(h, l * k + j, along);
            }
            let (rest, Some(v)) = (norm(w), next.get_mut(i * n..(i + 1) * n)) else { continue };
            // What is left of rounding is no direction.
            let rest = if rest > 1e-5 * before { rest } else { 0.0 };
            scaled_into(w, rest, v);
            put(h, (j + 1) * k + j, rest);
        }
    }
    let tweedie = at.level.sigma * at.level.sigma / at.level.alpha;
    for (i, z) in z.chunks_exact_mut(n).enumerate() {
        let (h, x0) = (h.get(i * k * k..).unwrap_or(&[]), x0.get(i * n..(i + 1) * n).unwrap_or(&[]));
        let estimated = tweedie * h.first().copied().map_or(0.0, f64::from);
        let most = at.range.map_or(estimated, |r| (f64::from(r) * f64::from(r) - dot(x0, x0) / n as f64).max(0.0));
        let kept = if estimated > most { most / estimated } else { 1.0 };
        let by = norm(z) * libm::sqrt(kept * tweedie);
        let column = first_column_of_root(
            h,
            k,
            if undecided == Undecided::Whole { f64::INFINITY } else { 1.0 / at.level.alpha },
        );
        z.fill(0.0);
        for (v, c) in basis.chunks_exact(len).zip(column) {
            let v = v.get(i * n..(i + 1) * n).unwrap_or(&[]);
            z.iter_mut().zip(v).for_each(|(z, &v)| *z = (f64::from(*z) + by * c * f64::from(v)) as f32);
        }
    }
    Ok(())
}

/// x_0 becomes a draw around it and eps what belongs to it; `z` are standard normal values and lost. Scratch as
/// [`root`].
pub(super) fn draw_x0(
    at: &At,
    how: (usize, Undecided),
    x: &[f32],
    (x0, eps): (&mut [f32], &mut [f32]),
    z: &mut [f32],
    jacobian: &mut dyn Jacobian,
    scratch: &mut [f32],
) -> Result<()> {
    let (alpha, sigma) = (at.level.alpha, at.level.sigma);
    // Without a trace of x_0 in x_t the mean alone is known; hardly any of it enters x_s.
    if alpha <= 0.0 {
        return Ok(());
    }
    root(at, how, x0, z, jacobian, scratch)?;
    for ((x0, eps), (&x, &z)) in x0.iter_mut().zip(eps).zip(x.iter().zip(&*z)) {
        *x0 += z;
        *eps = ((f64::from(x) - alpha * f64::from(*x0)) / sigma) as f32;
    }
    Ok(())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn norm(a: &[f32]) -> f64 {
    libm::sqrt(dot(a, a))
}

fn put(h: &mut [f32], at: usize, value: f64) {
    if let Some(h) = h.get_mut(at) {
        *h = value as f32;
    }
}

/// out = v / by, 0 where `by` is.
fn scaled_into(v: &[f32], by: f64, out: &mut [f32]) {
    let by = if by > 0.0 { 1.0 / by } else { 0.0 };
    out.iter_mut().zip(v).for_each(|(o, &v)| *o = (f64::from(v) * by) as f32);
}

type Small = [[f64; MAX_PRODUCTS]; MAX_PRODUCTS];

/// The first column of the root of the symmetric part of h, k x k, its eigenvalues brought into 0 to `most`. By
/// Jacobi's rotations.
fn first_column_of_root(h: &[f32], k: usize, most: f64) -> [f64; MAX_PRODUCTS] {
    let at = |i: usize, j: usize| h.get(i * k + j).copied().map_or(0.0, f64::from);
    let (mut a, mut u): (Small, Small) = Default::default();
    for i in 0..k {
        a[i].iter_mut().enumerate().take(k).for_each(|(j, a)| *a = 0.5 * (at(i, j) + at(j, i)));
        u[i][i] = 1.0;
    }
    for _ in 0..30 {
        let pairs = || (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j)));
        let size: f64 = (0..k).map(|i| a[i][i] * a[i][i]).sum();
        let off: f64 = pairs().map(|(i, j)| a[i][j] * a[i][j]).sum();
        if off <= 1e-24 * size {
            break;
        }
        for (p, q) in pairs() {
            if a[p][q] == 0.0 {
                continue;
            }
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let sign = if theta < 0.0 { -1.0 } else { 1.0 };
            let t = sign / (theta.abs() + libm::sqrt(theta * theta + 1.0));
            let c = 1.0 / libm::sqrt(t * t + 1.0);
            let s = t * c;
            for row in a.iter_mut().chain(&mut u).take(MAX_PRODUCTS * 2) {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
            // p is below q.
            let (upper, lower) = a.split_at_mut(q);
            for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
            }
        }
    }
    let mut out = [0.0; MAX_PRODUCTS];
    for (i, out) in out.iter_mut().enumerate().take(k) {
        *out = (0..k).map(|e| u[i][e] * libm::sqrt(a[e][e].clamp(0.0, most)) * u[0][e]).sum();
    }
    out
}

/// No measurement: samples of the model itself, whose steps have the covariance that they should have however coarse
/// they are.
///
/// What it samples: the prior of a Gaussian exactly, mean and covariance, in any number of steps; of others what steps
/// that are Gaussian can be. Of a correlated Gaussian of 8 elements 20 steps of DDPM leave 0.3 to 0.6 of the variances
/// with `fixed_small`; with two products a step they are within 2 % (`tests/posterior/variance.rs`). The sampler's own
/// variance (`variance_type`) does not matter then.
///
/// Cost: `products` vector-Jacobian products a step, each some two network calls; (products + 1) n + products^2 values
/// of scratch for a sample.
///
/// # Why
/// The reverse step is q(x_s | x_t) = integral q(x_s | x_t, x_0) p(x_0 | x_t) d x_0. With c_0 the factor of x_0 in the
/// mean of q(x_s | x_t, x_0) and v its variance, the covariance of x_s given x_t is
///
/// ```text
/// v I + c_0^2 Cov[x_0 | x_t],   Cov[x_0 | x_t] = C = (sigma^2 / alpha) d E[x_0 | x_t] / d x_t
/// ```
///
/// (Bao et al. 2022, whose scalar is the mean of its diagonal; the second equation is Tweedie's). `fixed_small` leaves
/// C out and `fixed_large` takes I for it: right in the limit of many steps. Drawing x_0 = E[x_0 | x_t] + C^1/2 z
/// before the step has exactly this covariance, in every direction, so a chain of few steps has the variances of one of
/// many.
///
/// # The root
/// C^1/2 z by Lanczos' method from z: after k products with C, |z| V H^1/2 e_1 with V the orthonormal basis of z, C z,
/// ..., C^(k-1) z and H = V^T C V, k x k. One product scales z by the root of z^T C z / z^T z, an estimate of Bao's
/// scalar for each sample; two tell wide directions from narrow ones, which is enough for variances within a few per
/// cent.
///
/// # Example
/// ```
/// use undiffuse::chain::{Chain, ChainOptions};
/// use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
/// use undiffuse::noise::Seeded;
/// use undiffuse::posterior::OptimalVariance;
/// use undiffuse::sampler::{PredictionType, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
/// use undiffuse::tensor::Dims;
///
/// let part = Component { weight: 1.0, mean: vec![0.0; 4], covariance: Covariance::Diagonal(vec![0.2; 4]) };
/// let prior = GaussianMixture::new(Dims::new(&[1, 2, 2])?, &[part], PredictionType::Epsilon)?;
/// let config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) };
/// let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(10), ..Default::default() })?;
/// let options = ChainOptions { batch: 1000, first_sample: 0 };
/// let mut chain = Chain::with_evidence(prior, sampler, Seeded::new(1), OptimalVariance::new(2)?, &options)?;
/// chain.run()?;
/// let variance = chain.x().iter().map(|x| x * x).sum::<f32>() / 4000.0;
/// assert!((variance - 0.2).abs() < 0.02);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptimalVariance {
    products: usize,
}

impl OptimalVariance {
    /// With 1 to 16 products a step; 2 are enough. Errors: kind `InvalidArgument` for another number.
    pub fn new(products: usize) -> Result<Self> {
        check_products(products)?;
        ensure!(products > 0, InvalidArgument, "variance_products is 0, expected 1 to {MAX_PRODUCTS}");
        Ok(Self { products })
    }
}

impl Evidence for OptimalVariance {
    fn name(&self) -> &str {
        "optimal variance"
    }
    fn check(&self, _: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("the optimal variance", sampler)?;
        check_mean("the optimal variance", sampler)?;
        check_draws("the optimal variance", sampler)
    }
    fn recommended(&self) -> Recommended {
        Recommended::OPTIMAL_VARIANCE
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let n = dims.elements();
        n.saturating_mul(batch).saturating_add(scratch_len(n, batch, self.products))
    }
    fn needs_vjp(&self) -> bool {
        true
    }
    fn draws_x0(&self) -> bool {
        true
    }
    fn draw(&mut self, at: &At, batch: usize, noise: &mut dyn NoiseSource, scratch: &mut [f32]) -> Result<()> {
        let (z, _) = cut(scratch, batch.saturating_mul(at.sample_len))?;
        noise.normal(at.first_sample, at.draw(0), at.sample_len, z)
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
        let (z, scratch) = cut(scratch, x0.len())?;
        draw_x0(at, (self.products, Undecided::Narrowed), x, (x0, eps), z, jacobian, scratch)
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"optimal variance").u64(self.products as u64).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Level;

    /// A matrix that is the same for every sample.
    struct Fixed<const N: usize>([[f32; N]; N]);

    impl<const N: usize> Jacobian for Fixed<N> {
        fn vjp(&mut self, v: &[f32], out: &mut [f32]) -> Result<()> {
            for (v, out) in v.chunks_exact(N).zip(out.chunks_exact_mut(N)) {
                for (j, out) in out.iter_mut().enumerate() {
                    *out = (0..N).map(|i| self.0[i][j] * v[i]).sum();
                }
            }
            Ok(())
        }
    }

    fn rooted(j: [[f32; 3]; 3], products: usize, z: [f32; 6]) -> [f32; 6] {
        let level = Level::variance_preserving(0.0, 0.5);
        let at = At { step: 0, steps: 1, level, target: Level::CLEAN, first_sample: 0, sample_len: 3, range: None };
        let (mut z, mut scratch) = (z, alloc::vec![f32::NAN; scratch_len(3, 2, products)]);
        root(&at, (products, Undecided::Narrowed), &[0.0; 6], &mut z, &mut Fixed(j), &mut scratch).unwrap();
        z
    }

    #[test]
    fn the_root_of_the_root_is_the_covariance() {
        let j = [[0.9, 0.2, -0.1], [0.2, 0.5, 0.3], [-0.1, 0.3, 0.4]];
        let z = [0.3, -1.2, 0.7, 1.0, 0.0, 0.0];
        let twice = rooted(j, 3, rooted(j, 3, z));
        // sigma^2 / alpha = 0.5 / sqrt(0.5).
        for (row, z) in twice.chunks_exact(3).zip(z.chunks_exact(3)) {
            for (i, got) in row.iter().enumerate() {
                let want: f32 = (0..3).map(|k| j[i][k] * z[k]).sum::<f32>() * 0.5f32.sqrt();
                assert!((got - want).abs() < 1e-5, "{got} {want}");
            }
        }
        // More products than directions change nothing, one gives the mean curvature along z.
        let (three, five) = (rooted(j, 3, z), rooted(j, 5, z));
        assert!(three.iter().zip(five).all(|(a, b)| (a - b).abs() < 1e-5));
        let one = rooted(j, 1, z);
        assert!((one[3] * one[3] - 0.9 * 0.5f32.sqrt()).abs() < 1e-6 && one[4] == 0.0);
    }

    #[test]
    fn what_is_no_covariance_gets_no_noise() {
        let negative = [[-0.4, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]];
        let got = rooted(negative, 3, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        assert!(got[0].abs() < 1e-6 && (got[1] - (0.5 * 0.5f32.sqrt()).sqrt()).abs() < 1e-5 && got[2].abs() < 1e-6);
        assert_eq!(&got[3..], [0.0; 3]);
        for products in [0, 17] {
            assert!(OptimalVariance::new(products).is_err());
        }
    }
}
