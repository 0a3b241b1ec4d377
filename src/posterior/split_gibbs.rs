//! Split Gibbs sampling under a likelihood that sharpens, with the samples of a group weighed against one another.

use alloc::vec::Vec;

use super::common::{check_draws, check_real, cut};
use super::operator::{LinearOperator, RANK_TOLERANCE};
use super::scatter::{self, Undecided, check_products};
use super::spectral::Spectral;
use super::{At, Evidence, Jacobian, Kernel, Measurement, Recommended};
use crate::error::{Result, ensure, err};
use crate::memory::filled;
use crate::noise::{Fingerprint, NoiseSource};
use crate::sampler::{Ladder, Sampler, conditional_std};
use crate::tensor::Dims;

/// How a posterior is sampled by [`SplitGibbs`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitGibbsOptions {
    /// K, the samples that are weighed against one another, at least 1: samples i K to i K + K - 1 are group i. A batch
    /// holds whole groups. With 1 nothing is weighed: right where one mode is left, and where it is not, of any
    /// weights.
    pub ensemble: usize,
    /// Vector-Jacobian products a step, 1 to 16; see [`OptimalVariance`](super::OptimalVariance).
    pub products: usize,
    /// The noise of the first return, in units of the data.
    pub largest: f64,
    /// From one return to the next the noise falls by this factor, above 0 and below 1. `None` for the one that would
    /// leave half of a group effective if the prior were flat: the nearer to 1 the more values are measured, 0.37 for
    /// 1, 0.68 for 4, 0.92 for 64, 0.98 for 784.
    pub ratio: Option<f64>,
    /// How often the last return is made, at least 1.
    pub last: usize,
}

impl Default for SplitGibbsOptions {
    fn default() -> Self {
        let Ladder { largest, last, .. } = Ladder::to(1.0);
        Self { ensemble: 64, products: 2, largest, ratio: None, last }
    }
}

/// Samples of p(x) r(x) for a prior of any shape, as exactly as the chain samples the prior itself.
///
/// # What it does
/// With A = U S V^T and tau a noise, write r_tau for the likelihood whose variance, in each coordinate i of V^T x, is
/// max(s^2 / s_i^2, tau^2) in place of s^2 / s_i^2. The chain ([`split_gibbs`](crate::sampler::split_gibbs)) draws x
/// from the prior and then, for tau falling from [`largest`](SplitGibbsOptions::largest) to s / s_max, where r_tau is
/// r:
///
/// 1. weighs the samples of a group by r_tau(x) / r_tau'(x), tau' being the tau before, and draws as many by weight
///    (systematic resampling): a sequential Monte Carlo sampler (Del Moral, Doucet and Jasra 2006). So the weights of
///    separate modes are right, which no method that steers single samples can promise;
/// 2. draws w given x and y: in coordinate i, with g = tau^2 / max(s^2 / s_i^2, tau^2),
///    w_i = x_i + g (y_i / s_i - x_i) + tau sqrt(1 - g) z; elsewhere w_i = x_i + tau z;
/// 3. draws x from p(x_0 | x_0 + tau z = w) by the reverse chain from the level of noise tau.
///
/// 2 and 3 are a split Gibbs sampler (Vono, Dobigeon and Chainais 2019), as PnP-DM is for diffusion priors (Wu et al.
/// 2024), with the split chosen so that x has the law p(x) r_tau(x) exactly, and not that of a likelihood with more
/// noise: nothing is approximate but the prior's own steps, which are drawn with the covariance of x_0 given x_t
/// ([`OptimalVariance`](super::OptimalVariance)), and the number of samples in a group.
///
/// # Which budget buys which error
/// The number of levels on the way down sets the error, a call and `products` vector-Jacobian products each; the ladder
/// multiplies it. Of mixtures of three Gaussians in 2 and 8 dimensions, 19,200 samples in groups of 64
/// (`tests/posterior/split_gibbs.rs` prints it): calls, error of the mean over the root of the trace / of the
/// covariance / largest of a mode's weight, in % and points. Independent draws are off by 0.7 / 1.2 / 0.4.
///
/// | | 20 levels | 30 levels | 40 levels (recommended) |
/// |---|---|---|---|
/// | 2, denoising, s 0.5 | 71: 0.9 / 1.5 / 0.4 | 109: 0.6 / 2.4 / 0.2 | 146: 0.8 / 2.2 / 0.1 |
/// | 2, inpainting, s 0.1 | 65: 7.9 / 10.4 / 2.5 | 100: 5.9 / 4.0 / 1.6 | 134: 2.0 / 1.0 / 0.5 |
/// | 2, dense A, s 0.3 | 71: 0.8 / 1.9 / 0.6 | 107: 0.3 / 1.6 / 0.3 | 144: 0.4 / 0.9 / 0.0 |
/// | 8, denoising, s 0.5 | 86: 1.1 / 5.0 / 0.5 | 131: 1.4 / 1.5 / 0.5 | 174: 0.5 / 2.3 / 0.1 |
/// | 8, inpainting, s 0.1 | 99: 0.5 / 0.9 / 0.0 | 151: 0.9 / 1.5 / 0.1 | 201: 2.4 / 0.7 / 1.3 |
/// | 8, dense A, s 0.3 | 110: 0.5 / 0.8 / 0.0 | 167: 0.8 / 0.7 / 0.3 | 225: 1.5 / 2.4 / 0.5 |
///
/// In groups of 16 30 levels are off by up to 8.7 / 7.7 / 2.6 (of 1,920 4.2 / 2.4 / 1.2); with a third product by no
/// less than with two; with one, 60 levels by up to 3 / 11 / 3. [`Calibrated`](super::Calibrated) misses such means by
/// 18 to 40 %, whatever its steps.
///
/// The likelihood of many values with little noise takes a finer ladder, since a group loses its samples to one where
/// r_tau changes by more than they differ: some sqrt(m) rungs for each factor of e in tau
/// ([`ratio`](SplitGibbsOptions::ratio)), and [`Evidence::effective`] tells whether that was enough. For pictures that
/// is many calls; there [`Calibrated`](super::Calibrated) is the method to take.
///
/// # A group is the unit
/// What a sample becomes depends on its group of `ensemble` samples, by their numbers, and on nothing else: not on the
/// batch (which holds whole groups), nor on threads. A group has the measurement of its first sample. Samples of one
/// group are not independent: some come of one ancestor, and were drawn anew since.
///
/// Scratch: (products + 3) n + products^2 + 1 values for a sample, and of f64 two for each of a group.
///
/// ```
/// use undiffuse::chain::{Chain, ChainOptions};
/// use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
/// use undiffuse::noise::Seeded;
/// use undiffuse::posterior::{Evidence, Measurement, SplitGibbs, SplitGibbsOptions, operator::Identity};
/// use undiffuse::sampler::{PredictionType, SamplerKind, SchedulerConfig};
/// use undiffuse::tensor::Dims;
///
/// // One number, -1 or 1, seen as 0.1 with a deviation of 0.5: 0.69 of the posterior is at 1.
/// let mode = |m: f64| Component { weight: 1.0, mean: vec![m], covariance: Covariance::Diagonal(vec![0.01]) };
/// let prior = GaussianMixture::new(Dims::new(&[1])?, &[mode(-1.0), mode(1.0)], PredictionType::Epsilon)?;
/// let seen = Measurement::new(Identity::new(Dims::new(&[1])?)?, &[0.1], 0.5)?;
/// let evidence = SplitGibbs::new(seen, &SplitGibbsOptions::default())?;
/// let config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) };
/// let sampler = evidence.recommended().sampler(&config)?;
/// let options = ChainOptions { batch: 64 * 50, first_sample: 0 };
/// let mut chain = Chain::with_evidence(prior, sampler, Seeded::new(3), evidence, &options)?;
/// chain.run()?;
/// let above = chain.x().iter().filter(|x| **x > 0.0).count() as f64 / 3200.0;
/// assert!((above - 0.69).abs() < 0.04, "{above}");
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SplitGibbs<O> {
    spectral: Spectral<O>,
    options: SplitGibbsOptions,
    /// s over the largest singular value.
    smallest: f64,
    usual_ratio: f64,
    returns: Vec<Return>,
    log_w: Vec<f64>,
    ancestors: Vec<usize>,
    effective: f64,
}

/// A step that leads back into noise: the noise before (infinite before the first) and now.
#[derive(Clone, Copy, Debug)]
struct Return {
    step: usize,
    before: f64,
    now: f64,
}

/// The returns of a sampler: steps that lead from x_0 alone to a level that is no less noisy than theirs.
fn returns(sampler: &dyn Sampler) -> Result<Vec<Return>> {
    let mut found: Vec<Return> = Vec::new();
    for (step, level) in sampler.levels().iter().enumerate() {
        let target = sampler.target(step)?;
        if target.sigma > 0.0
            && target.timestep >= level.timestep
            && conditional_std(sampler, step)? > (1.0 - 1e-6) * target.sigma
        {
            let before = found.last().map_or(f64::INFINITY, |r| r.now);
            found.push(Return { step, before, now: target.noise_to_signal() });
        }
    }
    Ok(found)
}

/// The fall of the noise under which weights of `rank` residuals leave half of a group effective. With b = 1 / ratio^2
/// and residuals of variance tau^2, (E w)^2 / E w^2 = ((2 b - 1) / b^2)^(rank / 2).
fn halving_ratio(rank: usize) -> f64 {
    let each = libm::pow(0.5, 2.0 / rank.max(1) as f64);
    libm::sqrt(each / (1.0 + libm::sqrt(1.0 - each)))
}

impl<O: LinearOperator> SplitGibbs<O> {
    /// Errors: kind `InvalidArgument` for options out of their range, a measurement without noise, and an A of zeros;
    /// kind `Unsupported` for an operator without a decomposition.
    pub fn new(measurement: Measurement<O>, options: &SplitGibbsOptions) -> Result<Self> {
        let options = *options;
        measurement.check_noise("split Gibbs sampling")?;
        check_products(options.products)?;
        ensure!(
            options.products > 0 && options.ensemble > 0,
            InvalidArgument,
            "split Gibbs sampling of groups of {} samples with {} products a step, expected at least 1 of both",
            options.ensemble,
            options.products
        );
        let spectral = Spectral::new(measurement)?;
        let singular = spectral.svd()?.singular_values();
        let most = singular.iter().fold(0.0, |m: f64, &s| m.max(f64::from(s)));
        let usual_ratio = halving_ratio(singular.iter().filter(|&&s| f64::from(s) > RANK_TOLERANCE * most).count());
        ensure!(most != 0.0, InvalidArgument, "split Gibbs sampling with an operator that gives 0 for every x");
        let smallest = spectral.measurement.sigma() / most;
        let of = Self {
            spectral,
            options,
            smallest,
            usual_ratio,
            returns: Vec::new(),
            log_w: Vec::new(),
            ancestors: Vec::new(),
            effective: 1.0,
        };
        of.ladder().rungs()?;
        Ok(of)
    }

    /// The noises that its chain returns to, down to s over the largest singular value of A: for
    /// [`split_gibbs`](crate::sampler::split_gibbs).
    pub fn ladder(&self) -> Ladder {
        let SplitGibbsOptions { largest, ratio, last, .. } = self.options;
        Ladder { largest, smallest: self.smallest, ratio: ratio.unwrap_or(self.usual_ratio), last }
    }

    /// 1 / max(s^2, tau^2 s_i^2): the weight of a squared residual of coordinate i.
    fn precision(&self, tau: f64, singular: f64) -> f64 {
        if tau == f64::INFINITY {
            return 0.0;
        }
        let s = self.spectral.measurement.sigma();
        1.0 / (s * s).max(tau * tau * singular * singular)
    }

    /// Weighs a group and draws its ancestors, with `u` in 0 .. 1.
    fn weigh(
        &mut self,
        Return { before, now, .. }: Return,
        sample: u64,
        (x, alpha): (&[f32], f64),
        u: f64,
        scratch: &mut [f32],
    ) -> Result<()> {
        let n = self.spectral.measurement.operator().input_dims().elements().max(1);
        let svd = self.spectral.svd()?;
        let (c, scratch) = cut(scratch, svd.singular_values().len())?;
        let seen = self.spectral.seen(sample)?;
        let mut log_w = core::mem::take(&mut self.log_w);
        for (log_w, x) in log_w.iter_mut().zip(x.chunks_exact(n)) {
            svd.vt(x, c, scratch)?;
            let terms = c.iter().zip(seen).zip(svd.singular_values()).map(|((&c, &y), &s)| {
                let (s, r) = (f64::from(s), f64::from(y) - f64::from(s) * f64::from(c) / alpha);
                r * r * (self.precision(now, s) - self.precision(before, s))
            });
            *log_w = -0.5 * terms.sum::<f64>();
        }
        self.log_w = log_w;
        let most = self.log_w.iter().fold(f64::NEG_INFINITY, |m, &w| m.max(w));
        ensure!(most.is_finite(), NonFinite, "the weights of the samples from {sample} on are not finite");
        let (mut sum, mut squares) = (0.0, 0.0);
        for w in &mut self.log_w {
            *w = libm::exp(*w - most);
            sum += *w;
            squares += *w * *w;
        }
        let count = self.log_w.len();
        self.effective = self.effective.min(sum * sum / squares / count as f64);
        let (mut of, mut reached) = (0, self.log_w.first().copied().unwrap_or(0.0) / sum);
        for (k, ancestor) in self.ancestors.iter_mut().enumerate() {
            let place = (k as f64 + u) / count as f64;
            while reached <= place && of + 1 < count {
                of += 1;
                reached += self.log_w.get(of).copied().unwrap_or(0.0) / sum;
            }
            *ancestor = of;
        }
        // Rounding may have led to a last one that weighs nothing.
        if self.log_w.get(of) == Some(&0.0) {
            let heaviest = self.log_w.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |b| b.0);
            self.ancestors.iter_mut().filter(|a| **a == of).for_each(|a| *a = heaviest);
        }
        Ok(())
    }

    /// Moves the mean alpha x_0 of one sample to that of alpha w, and its noise to that of alpha w.
    fn turn(
        &self,
        tau: f64,
        alpha: f64,
        sample: u64,
        (mean, noise): (&mut [f32], &mut [f32]),
        scratch: &mut [f32],
    ) -> Result<()> {
        let svd = self.spectral.svd()?;
        let singular = svd.singular_values();
        let (c, scratch) = cut(scratch, singular.len())?;
        let (pixels, scratch) = cut(scratch, mean.len())?;
        svd.vt(mean, c, scratch)?;
        for ((c, &y), &s) in c.iter_mut().zip(self.spectral.seen(sample)?).zip(singular) {
            let s = f64::from(s);
            let r = alpha * f64::from(y) - s * f64::from(*c);
            *c = (tau * tau * s * self.precision(tau, s) * r) as f32;
        }
        svd.v(c, pixels, scratch)?;
        mean.iter_mut().zip(&*pixels).for_each(|(m, p)| *m += p);
        svd.vt(noise, c, scratch)?;
        for (c, &s) in c.iter_mut().zip(singular) {
            let g = tau * tau * f64::from(s) * f64::from(s) * self.precision(tau, f64::from(s));
            *c = ((libm::sqrt((1.0 - g).max(0.0)) - 1.0) * f64::from(*c)) as f32;
        }
        svd.v(c, pixels, scratch)?;
        noise.iter_mut().zip(&*pixels).for_each(|(z, p)| *z += p);
        Ok(())
    }
}

impl<O: LinearOperator> Evidence for SplitGibbs<O> {
    fn name(&self) -> &str {
        "split Gibbs"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("split Gibbs sampling", sampler)?;
        check_draws("split Gibbs sampling", sampler)?;
        self.spectral.measurement.check(dims)?;
        let returns = returns(sampler)?;
        ensure!(
            returns.windows(2).all(|w| matches!(w, [a, b] if b.now <= a.now))
                && returns.last().is_some_and(|r| r.now <= 1.01 * self.smallest),
            Unsupported,
            "split Gibbs sampling is for chains that return from x_0 to ever less noise, at last {:.4e} (sigma over the largest singular value \
             of A); {} does not: take the sampler that it recommends",
            self.smallest,
            sampler.name()
        );
        Ok(())
    }
    fn bind(&mut self, _: Dims, sampler: &dyn Sampler, batch: usize) -> Result<()> {
        let k = self.options.ensemble;
        ensure!(
            batch.is_multiple_of(k),
            InvalidArgument,
            "a batch of {batch} samples, expected whole groups of {k} (the option ensemble)"
        );
        self.returns = returns(sampler)?;
        self.log_w = filled("split Gibbs sampling", k, 0.0)?;
        self.ancestors = filled("split Gibbs sampling", k, 0)?;
        self.effective = 1.0;
        Ok(())
    }
    fn recommended(&self) -> Recommended {
        Recommended::split_gibbs(self.ladder())
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let n = dims.elements();
        let drawn = n.saturating_mul(batch).saturating_add(batch.div_ceil(self.options.ensemble.max(1)));
        let moved = n.saturating_mul(batch).saturating_add(self.spectral.scratch_len(dims));
        drawn.saturating_add(moved.max(scatter::scratch_len(n, batch, self.options.products)))
    }
    fn needs_vjp(&self) -> bool {
        true
    }
    fn draws_x0(&self) -> bool {
        true
    }
    fn draw(&mut self, at: &At, batch: usize, noise: &mut dyn NoiseSource, scratch: &mut [f32]) -> Result<()> {
        let k = self.options.ensemble.max(1);
        ensure!(
            batch.is_multiple_of(k) && at.first_sample.is_multiple_of(k as u64),
            InvalidArgument,
            "{batch} samples from number {} on, expected whole groups of {k} (the option ensemble)",
            at.first_sample
        );
        let (z, scratch) = cut(scratch, batch.saturating_mul(at.sample_len))?;
        let (u, _) = cut(scratch, batch / k)?;
        noise.normal(at.first_sample, at.draw(0), at.sample_len, z)?;
        if self.returns.binary_search_by_key(&at.step, |r| r.step).is_ok() {
            for (i, u) in u.iter_mut().enumerate() {
                let first = at.first_sample.saturating_add((i * k) as u64);
                noise.normal(first, at.draw(1), 1, core::slice::from_mut(u))?;
            }
        }
        Ok(())
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
        let groups = x0.len() / at.sample_len.max(1) / self.options.ensemble.max(1);
        let (z, scratch) = cut(scratch, x0.len())?;
        let (_, scratch) = cut(scratch, groups)?;
        scatter::draw_x0(at, (self.options.products, Undecided::Whole), x, (x0, eps), z, jacobian, scratch)
    }
    fn kernel(&mut self, at: &At, _: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let found = self.returns.binary_search_by_key(&at.step, |r| r.step);
        let Some(&back) = found.ok().and_then(|i| self.returns.get(i)) else { return Ok(()) };
        let Kernel { mean, noise, .. } = kernel;
        let (n, k) = (at.sample_len.max(1), self.options.ensemble.max(1));
        let alpha = at.target.alpha;
        ensure!(noise.len() == mean.len(), Shape, "{} values of noise, expected {}", noise.len(), mean.len());
        let (_, scratch) = cut(scratch, mean.len())?;
        let (u, scratch) = cut(scratch, mean.len() / n / k)?;
        let (moved, scratch) = cut(scratch, mean.len())?;
        let groups = mean.chunks_mut(n * k).zip(noise.chunks_mut(n * k)).zip(moved.chunks_mut(n * k));
        for (i, ((mean, noise), moved)) in groups.enumerate() {
            let sample = at.first_sample.saturating_add((i * k) as u64);
            if k > 1 && back.now < back.before {
                let z = u.get(i).copied().map_or(0.0, f64::from);
                let u = 0.5 * libm::erfc(-z * core::f64::consts::FRAC_1_SQRT_2);
                self.weigh(back, sample, (mean, alpha), u, scratch)?;
                for (moved, &ancestor) in moved.chunks_exact_mut(n).zip(&self.ancestors) {
                    let from = mean.get(ancestor * n..(ancestor + 1) * n);
                    moved.copy_from_slice(from.ok_or_else(|| err!(Shape, "a group of {} values", mean.len()))?);
                }
                mean.copy_from_slice(moved);
            }
            for (mean, noise) in mean.chunks_exact_mut(n).zip(noise.chunks_exact_mut(n)) {
                self.turn(back.now, alpha, sample, (mean, noise), scratch)?;
            }
        }
        Ok(())
    }
    fn effective(&self) -> Option<f64> {
        (self.options.ensemble > 1).then_some(self.effective)
    }
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().bytes(b"split gibbs").u64(self.options.ensemble as u64);
        f.u64(self.options.products as u64).u64(self.spectral.measurement.fingerprint()).finish()
    }
}
