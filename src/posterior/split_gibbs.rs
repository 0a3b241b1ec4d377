//! Split Gibbs sampling under a likelihood that sharpens, with the samples of a group weighed against one another.

use alloc::vec::Vec;

use super::common::{check_draws, check_real, cut, is_blank};
use super::group::{Group, check_whole};
use super::operator::{LinearOperator, RANK_TOLERANCE};
use super::pinned::{self, Pass};
use super::scatter::{self, Undecided, check_products};
use super::spectral::Spectral;
use super::{At, Evidence, Jacobian, Kernel, Measurement, Recommended};
use crate::error::{Result, ensure};
use crate::noise::{Fingerprint, NoiseSource};
use crate::sampler::{Ladder, Sampler, conditional_std};
use crate::schedule::Level;
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
/// max(s^2 / s_i^2, tau^2) in place of s^2 / s_i^2. The chain ([`split_gibbs`](crate::sampler::split_gibbs)) begins at
/// noise and then, for tau falling from [`largest`](SplitGibbsOptions::largest) to s / s_max, where r_tau is r:
///
/// 1. goes down to the level of noise tau by reverse steps that hold seen coordinates where y says that they are, and
///    weighs each sample of a group by how likely that was. Where less than half of a group is effective it is drawn
///    anew by weight (systematic resampling): a sequential Monte Carlo sampler (Del Moral, Doucet and Jasra 2006) whose
///    targets are those of Monte Carlo guided diffusion (Cardoso et al. 2024). So the weights of separate modes are
///    right, which no method that steers single samples can promise;
/// 2. draws x from p(x_0 | x_0 + tau z = w), w being the values at that level, by the reverse chain;
/// 3. draws w given x and y: in coordinate i, with g = tau^2 / max(s^2 / s_i^2, tau^2),
///    w_i = x_i + g (y_i / s_i - x_i) + tau sqrt(1 - g) z; elsewhere w_i = x_i + tau z.
///
/// 2 and 3 are a split Gibbs sampler (Vono, Dobigeon and Chainais 2019), as PnP-DM is for diffusion priors (Wu et al.
/// 2024), with the split chosen so that x has the law p(x) r_tau(x) exactly, and not that of a likelihood with more
/// noise: nothing is approximate but the prior's own steps, which are drawn with the covariance of x_0 given x_t
/// ([`OptimalVariance`](super::OptimalVariance)), the weights' share of that covariance, an error of the square of a
/// step in 1, and the number of samples in a group.
///
/// A weight is of what a sample's values at a level foretell, the mean and the variance of x_0 in seen coordinates (2 +
/// products further vector-Jacobian products on these steps), and not of what was then drawn. Weights of drawn x_0, as
/// one might take, are mostly of noise that has nothing to do with what y does not see, and each time a group is drawn
/// by them the spread of that is lost by some 1 / K: of a walk with a hole of 16 of 64 values the mean of groups of 64
/// was then off by 22 % of the posterior's trace more than independent draws, in place of 6 %
/// (`examples/signals/groups.py`). Of one or two measured values there is little such noise, and a step between
/// undecided modes is no Gaussian: there the x_0 that each return begins with are weighed, by r_tau(x) / r_tau'(x), and
/// 1 holds nothing.
///
/// # Which budget buys which error
/// The number of levels on the way down sets the error, a call and `products` vector-Jacobian products each, twice as
/// many products and two more where samples are held; the ladder multiplies it. Of mixtures of three Gaussians in 2 and
/// 8 dimensions, 19,200 samples in groups of 64 (`tests/posterior/split_gibbs.rs` prints it): calls, error of the mean
/// over the root of the trace / of the covariance / largest of a mode's weight, in % and points. Independent draws are
/// off by 0.7 / 1.2 / 0.4.
///
/// | | 30 levels | 45 levels | 60 levels (recommended) | 120 levels |
/// |---|---|---|---|---|
/// | 2, denoising, s 0.5 | 84: 0.7 / 1.9 / 0.3 | 127: 0.1 / 1.4 / 0.1 | 171: 0.0 / 0.7 / 0.2 | 314: 1.1 / 1.1 / 0.3 |
/// | 2, inpainting, s 0.1 | 79: 6.6 / 6.1 / 2.1 | 119: 2.8 / 4.5 / 1.2 | 157: 1.6 / 1.2 / 0.5 | 280: 0.3 / 0.6 / 0.1 |
/// | 2, dense A, s 0.3 | 84: 0.0 / 1.5 / 0.3 | 127: 0.3 / 1.5 / 0.2 | 169: 0.5 / 1.4 / 0.2 | 310: 0.5 / 1.0 / 0.1 |
/// | 8, denoising, s 0.5 | 99: 0.9 / 3.9 / 0.4 | 150: 0.4 / 2.3 / 0.0 | 200: 1.3 / 1.0 / 0.2 | 368: 0.4 / 1.1 / 0.1 |
/// | 8, inpainting, s 0.1 | 114: 1.7 / 0.7 / 0.8 | 172: 1.0 / 0.4 / 0.4 | 228: 0.6 / 0.9 / 0.3 | 407: 0.5 / 1.3 / 0.1 |
/// | 8, dense A, s 0.3 | 125: 5.8 / 9.5 / 2.6 | 193: 5.1 / 9.3 / 2.3 | 252: 2.7 / 3.3 / 1.0 | 449: 1.9 / 2.4 / 0.6 |
///
/// With 60 levels groups of 16 are off by up to 5.2 / 8.6 / 2.2, groups of 1,920 by up to 2.4 / 3.1 / 0.9.
/// [`Calibrated`](super::Calibrated) misses such means by 18 to 40 %, whatever its steps.
///
/// The likelihood of many values with little noise takes a finer ladder: some sqrt(m) rungs for each factor of e in tau
/// ([`ratio`](SplitGibbsOptions::ratio)), so that returns keep up with it, and [`Evidence::effective`] tells whether
/// levels and ladder were fine enough. For pictures that is many calls; there [`Calibrated`](super::Calibrated) is the
/// method to take.
///
/// # A group is the unit
/// What a sample becomes depends on its group of `ensemble` samples, by their numbers, and on nothing else: not on the
/// batch (which holds whole groups), nor on threads. A group has the measurement of its first sample. Samples of one
/// group are not independent: some come of one ancestor, and were drawn anew since.
///
/// Scratch: at most (products + 7) n + products^2 + 4 values for a sample, and of f64 two for each of a group.
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
    /// Coordinates that y sees.
    rank: usize,
    returns: Vec<Return>,
    passes: Vec<Pass>,
    group: Group,
}

/// Of at most so many measured values x_0 itself is weighed, as drawn.
const FEW_SEEN: usize = 2;
/// The logarithm of a weight that is none.
const LEAST: f64 = -1e4;

/// A step that leads back into noise.
#[derive(Clone, Copy, Debug)]
struct Return {
    step: usize,
    now: f64,
    /// Where its x_0 is weighed: the noise up to which y had its say, infinite if it had none.
    before: Option<f64>,
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
            found.push(Return { step, now: target.noise_to_signal(), before: None });
        }
    }
    Ok(found)
}

/// The steps on the way down to each return's level: on them y has its say. Those from there to x_0 are the model's.
/// Not `held`, none is, and every return weighs its x_0.
fn passes(sampler: &dyn Sampler, returns: &mut [Return], held: bool) -> Result<Vec<Pass>> {
    let (mut found, mut begin, mut before): (Vec<Pass>, usize, f64) = (Vec::new(), 0, f64::INFINITY);
    let mut begun = f64::INFINITY;
    for back in returns {
        for step in if held { begin..back.step } else { 0..0 } {
            let now = sampler.target(step)?.noise_to_signal();
            if now < back.now {
                break;
            }
            let level = sampler.levels().get(step).map_or(f64::INFINITY, Level::noise_to_signal);
            let std = sampler.target(step)?.alpha * now * libm::sqrt((1.0 - (now / level) * (now / level)).max(0.0));
            let got = conditional_std(sampler, step)?;
            let same = (got - std).abs() <= 1e-3 * std;
            ensure!(
                same,
                Unsupported,
                "step {step} of {} adds {got:.4e} of noise, split Gibbs sampling is for steps that add that of DDPM, {std:.4e}",
                sampler.name()
            );
            found.push(Pass { step, before, now, last: false });
            before = now;
        }
        // Of held steps that is where the chain begins at the return's level.
        if found.is_empty() {
            back.before = (back.now < begun).then_some(begun);
            begun = back.now;
        }
        begin = back.step + 1;
    }
    if let Some(last) = found.last_mut() {
        last.last = true;
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
        let rank = singular.iter().filter(|&&s| f64::from(s) > RANK_TOLERANCE * most).count();
        ensure!(most != 0.0, InvalidArgument, "split Gibbs sampling with an operator that gives 0 for every x");
        let smallest = spectral.measurement.sigma() / most;
        let of =
            Self { spectral, options, smallest, rank, returns: Vec::new(), passes: Vec::new(), group: Group::NONE };
        of.ladder().rungs()?;
        Ok(of)
    }

    /// The noises that its chain returns to, down to s over the largest singular value of A: for
    /// [`split_gibbs`](crate::sampler::split_gibbs).
    pub fn ladder(&self) -> Ladder {
        let SplitGibbsOptions { largest, ratio, last, .. } = self.options;
        Ladder { largest, smallest: self.smallest, ratio: ratio.unwrap_or_else(|| halving_ratio(self.rank)), last }
    }

    fn pass(&self, step: usize) -> Option<Pass> {
        self.passes.binary_search_by_key(&step, |p| p.step).ok().and_then(|i| self.passes.get(i)).copied()
    }

    fn back(&self, step: usize) -> Option<Return> {
        self.returns.binary_search_by_key(&step, |r| r.step).ok().and_then(|i| self.returns.get(i)).copied()
    }

    /// 1 / max(s^2, tau^2 s_i^2): the weight of a squared residual of coordinate i.
    fn precision(&self, tau: f64, singular: f64) -> f64 {
        if tau == f64::INFINITY {
            return 0.0;
        }
        let s = self.spectral.measurement.sigma();
        1.0 / (s * s).max(tau * tau * singular * singular)
    }

    /// The logarithm of r_tau(x) of one sample, `alpha` x.
    fn log_r(&self, tau: f64, sample: u64, (x, alpha): (&[f32], f64), scratch: &mut [f32]) -> Result<f64> {
        let svd = self.spectral.svd()?;
        let (c, scratch) = cut(scratch, svd.singular_values().len())?;
        svd.vt(x, c, scratch)?;
        let terms = c.iter().zip(self.spectral.seen(sample)?).zip(svd.singular_values()).map(|((&c, &y), &s)| {
            let r = f64::from(y) - f64::from(s) * f64::from(c) / alpha;
            r * r * self.precision(tau, f64::from(s))
        });
        Ok(-0.5 * terms.sum::<f64>())
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

/// The scratch of a step.
struct Parts<'a> {
    /// The logarithm of each sample's weight, kept from step to step.
    kept: &'a mut [f32],
    /// Normal values for x_0, `[batch, n]`.
    z: &'a mut [f32],
    /// One normal value for each group.
    u: &'a mut [f32],
    /// Normal values for the signs of probes, and around what y says, `[batch, n]`.
    signs: &'a mut [f32],
    around: &'a mut [f32],
    /// One for each sample: the logarithm of a step's weight, and the share of its covariance that is kept.
    foretold: &'a mut [f32],
    share: &'a mut [f32],
    rest: &'a mut [f32],
}

impl<'a> Parts<'a> {
    fn of(scratch: &'a mut [f32], batch: usize, n: usize, ensemble: usize) -> Result<Self> {
        let all = batch.saturating_mul(n);
        let (kept, scratch) = cut(scratch, batch)?;
        let (z, scratch) = cut(scratch, all)?;
        let (u, scratch) = cut(scratch, batch / ensemble.max(1))?;
        let (signs, scratch) = cut(scratch, all)?;
        let (around, scratch) = cut(scratch, all)?;
        let (foretold, scratch) = cut(scratch, batch)?;
        let (share, rest) = cut(scratch, batch)?;
        Ok(Self { kept, z, u, signs, around, foretold, share, rest })
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
        check_whole(0, batch, k)?;
        self.returns = returns(sampler)?;
        self.passes = passes(sampler, &mut self.returns, self.rank > FEW_SEEN)?;
        self.group = Group::new("split Gibbs sampling", k)?;
        Ok(())
    }
    fn recommended(&self) -> Recommended {
        Recommended::split_gibbs(self.ladder())
    }
    fn kept_len(&self, _: Dims) -> usize {
        1
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let all = dims.elements().saturating_mul(batch);
        let own = self.spectral.scratch_len(dims).saturating_add(dims.elements());
        let drawn = scatter::scratch_len(dims.elements(), batch, self.options.products);
        let groups = batch.div_ceil(self.options.ensemble.max(1));
        // The draws, and the weights; then x_0's draw, or its conditioning, or a group in its new order.
        let most = drawn.max(all.saturating_mul(4).saturating_add(own));
        let draws = all.saturating_mul(3).saturating_add(batch.saturating_mul(2)).saturating_add(groups);
        draws.saturating_add(most)
    }
    fn needs_vjp(&self) -> bool {
        true
    }
    fn draws_x0(&self) -> bool {
        true
    }
    fn draw(&mut self, at: &At, batch: usize, noise: &mut dyn NoiseSource, scratch: &mut [f32]) -> Result<()> {
        let k = self.options.ensemble.max(1);
        check_whole(at.first_sample, batch, k)?;
        let Parts { z, u, signs, around, .. } = Parts::of(scratch, batch, at.sample_len, k)?;
        noise.normal(at.first_sample, at.draw(0), at.sample_len, z)?;
        let pass = self.pass(at.step).is_some();
        if pass {
            noise.normal(at.first_sample, at.draw(2), at.sample_len, signs)?;
            noise.normal(at.first_sample, at.draw(3), at.sample_len, around)?;
        }
        if pass || self.back(at.step).is_some() {
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
        let (n, products) = (at.sample_len.max(1), self.options.products);
        let parts = Parts::of(scratch, x0.len() / n, n, self.options.ensemble)?;
        let Parts { z, signs, around, foretold, share, rest, .. } = parts;
        let pass = self.pass(at.step);
        if let Some(pass) = pass {
            pinned::variances(&self.spectral, pass, at, x0, signs, (foretold, share), jacobian, rest)?;
            pinned::weights(&self.spectral, pass, at, (x, x0), foretold, rest)?;
        }
        scatter::draw_x0(at, (products, Undecided::Whole), x, (x0, eps), z, jacobian, rest)?;
        match pass {
            Some(pass) if !is_blank(at) => {
                let drawn = (around as &[f32], share as &[f32]);
                pinned::condition(&self.spectral, (pass, products), at, x, (x0, eps), drawn, jacobian, rest)
            }
            _ => Ok(()),
        }
    }
    fn kernel(&mut self, at: &At, _: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let (pass, back) = (self.pass(at.step), self.back(at.step));
        if pass.is_none() && back.is_none() {
            return Ok(());
        }
        let Kernel { mean, noise, .. } = kernel;
        let (n, k) = (at.sample_len.max(1), self.options.ensemble.max(1));
        ensure!(noise.len() == mean.len(), Shape, "{} values of noise, expected {}", noise.len(), mean.len());
        let Parts { kept, u, foretold, rest, .. } = Parts::of(scratch, mean.len() / n, n, k)?;
        let (moved, rest) = cut(rest, n * k)?;
        let groups = mean.chunks_mut(n * k).zip(noise.chunks_mut(n * k));
        let own = kept.chunks_mut(k).zip(foretold.chunks(k)).zip(&*u);
        for (i, ((mean, noise), ((kept, foretold), &u))) in groups.zip(own).enumerate() {
            let sample = at.first_sample.saturating_add((i * k) as u64);
            let rows = mean.chunks_exact_mut(n).zip(noise.chunks_exact_mut(n));
            let mut log_w = core::mem::take(&mut self.group.log_w);
            for (((mean, noise), (&kept, &foretold)), log_w) in rows.zip(kept.iter().zip(foretold)).zip(&mut log_w) {
                *log_w = f64::from(kept);
                if let Some(pass) = pass {
                    *log_w += f64::from(foretold);
                    pinned::hold(&self.spectral, pass, at, sample, (mean, noise), rest)?;
                } else if let Some(Return { now, before: Some(before), .. }) = back {
                    let mut log_r = |tau: f64| self.log_r(tau, sample, (mean, at.target.alpha), rest);
                    *log_w = log_r(now)? - log_r(before)?;
                }
            }
            self.group.log_w = log_w;
            if k > 1 && (pass.is_some() || back.is_some_and(|b| b.before.is_some())) {
                let log_w = &self.group.log_w;
                let most = log_w.iter().fold(f64::NEG_INFINITY, |m, &w| m.max(w));
                // Of a sum over many steps the differences are what counts.
                kept.iter_mut().zip(log_w).for_each(|(kept, w)| *kept = (w - most).max(LEAST) as f32);
                if self.group.resample(sample, u, pass.is_none_or(|p| p.last))? {
                    kept.fill(0.0);
                    self.group.take_ancestors(n, mean, moved)?;
                }
            }
            if let Some(Return { now, .. }) = back {
                for (mean, noise) in mean.chunks_exact_mut(n).zip(noise.chunks_exact_mut(n)) {
                    self.turn(now, at.target.alpha, sample, (mean, noise), rest)?;
                }
            }
        }
        Ok(())
    }
    fn effective(&self) -> Option<f64> {
        (self.options.ensemble > 1).then_some(self.group.effective())
    }
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().bytes(b"split gibbs").u64(self.options.ensemble as u64);
        f.u64(self.options.products as u64).u64(self.spectral.measurement.fingerprint()).finish()
    }
}
