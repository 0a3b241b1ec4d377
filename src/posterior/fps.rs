//! FPS: filtering posterior sampling (Dou and Song 2024).

use super::common::{check_inner_noise, check_keeps_x, check_mean, check_real, cut};
use super::ddrm::check_spread;
use super::group::{Group, check_whole};
use super::operator::LinearOperator;
use super::spectral::{Likelihood, Spectral};
use super::{At, Evidence, Kernel, Measurement, Recommended};
use crate::error::{Result, ensure};
use crate::noise::{Fingerprint, NoiseSource};
use crate::sampler::{Sampler, Spread};
use crate::tensor::Dims;

/// How [`Fps`] samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FpsOptions {
    /// M, the particles of a group, at least 1: samples i M to i M + M - 1 are group i. A batch holds whole groups.
    /// With 1 nothing is weighed: FPS without SMC.
    pub ensemble: usize,
}

impl Default for FpsOptions {
    fn default() -> Self {
        Self { ensemble: 5 }
    }
}

/// y is noised as x is, and each step of the chain is a step of a filter that sees the noised y: its algorithm with the
/// sequence made backwards, for a step whose Gaussian has the standard deviation c,
///
/// ```text
/// y_T = alpha_T y + sigma_T A z_T,   y_s = alpha_s y + sqrt(sigma_s^2 - c^2) (y_t - alpha_t y) / sigma_t + c A z_s
/// w of x_t = N(y_s; A mu, alpha_s^2 s^2 I + c^2 A A^T),   mu the mean of x_s given x_t
/// x_s from N(mu, c^2 I) N(y_s; A x_s, alpha_s^2 s^2 I)
/// ```
///
/// with one sequence for all particles of a group, which are drawn anew by their weights at every step before x_s is
/// drawn. (As published x_s is drawn first and then weighed, by the same weights: it is in the weights' place that the
/// steps differ, and copies then stay one step longer. Here resampling is systematic.) The last step adds no noise and
/// is the model's, as in the authors' code; x_T is not drawn given y_T, which the first step makes up for. y is in
/// coordinates of the decomposition of A, so that A needs one ([`Svd`](super::operator::Svd)).
///
/// # What it samples
/// Not the posterior, for any number of particles. The noised y_s of all levels have the noise n of y in common: y_s =
/// A x_s + alpha_s s n. The filter takes it to be drawn anew at each level, so the measurement is counted once for
/// every level, and the more so the more particles there are to hold to it. Of a Gaussian prior N(0, 1), y = 1, and
/// the recommended chain (`tests/posterior/fps.rs` holds it to its law, which is known in closed form), mean over the
/// posterior's / variance over the posterior's:
///
/// | calls | s 0.1, 1 particle | s 0.1, many | s 0.5, 1 particle | s 0.5, many | s 1, 1 particle | s 1, many |
/// |---|---|---|---|---|---|---|
/// | 20 | 0.95 / 3.28 | 0.98 / 1.29 | 0.88 / 0.70 | 1.07 / 0.38 | 0.91 / 0.52 | 1.38 / 0.33 |
/// | 100 | 0.99 / 0.92 | 1.00 / 0.41 | 0.99 / 0.56 | 1.19 / 0.19 | 1.04 / 0.53 | 1.74 / 0.20 |
/// | 1000 | 1.00 / 0.55 | 1.01 / 0.17 | 1.03 / 0.52 | 1.23 / 0.08 | 1.09 / 0.55 | 1.92 / 0.08 |
///
/// What y does not see is drawn with the sampler's own variance. Where s is far below what the prior leaves open the
/// mean is right, and so are the weights of modes that y tells apart; for the posterior of anything else there is
/// [`SplitGibbs`](super::SplitGibbs).
///
/// No derivative is needed. Samplers: as [`Ddrm`](super::Ddrm), those with noise of one size at every step, at most the
/// level's, and none in inner stages. As published: DDIM whose noise has 0.95 of each level's variance, 1000 steps, 5
/// particles. A group has the measurement of its first sample, its samples come of common ancestors. It keeps k + 1
/// values of a sample from step to step, k the singular values of A. Scratch: 2 k + 1 values for a sample, n for each
/// of a group, and what A needs.
#[derive(Clone, Debug)]
pub struct Fps<O> {
    spectral: Spectral<O>,
    options: FpsOptions,
    group: Group,
}

impl<O: LinearOperator> Fps<O> {
    /// Errors: kind `InvalidArgument` for groups of no samples; kind `Unsupported` for an operator without a
    /// decomposition.
    pub fn new(measurement: Measurement<O>, options: &FpsOptions) -> Result<Self> {
        ensure!(options.ensemble > 0, InvalidArgument, "FPS in groups of 0 samples, expected at least 1");
        Ok(Self { spectral: Spectral::new(measurement)?, options: *options, group: Group::NONE })
    }

    /// Singular values.
    fn rank(&self) -> Result<usize> {
        Ok(self.spectral.svd()?.singular_values().len())
    }

    /// y_s of a group in coordinates, from y_t where there is one (`kept` begins with 1), else after y_t was drawn: of
    /// the step's noise `z` and that of the beginning, `first`, both in coordinates of A z.
    fn next_y(&self, at: &At, std: f64, sample: u64, kept: &mut [f32], (z, first): (&[f32], &[f32])) -> Result<()> {
        let (begun, kept) = cut(kept, 1)?;
        let begins = begun.first() == Some(&0.0);
        begun.fill(1.0);
        let (t, s) = (at.level, at.target);
        let rest = libm::sqrt((s.sigma * s.sigma - std * std).max(0.0));
        let of_t = if t.sigma > 0.0 { rest / t.sigma } else { 0.0 };
        let seen = self.spectral.seen(sample)?;
        for (((y_t, &y), &z), &first) in kept.iter_mut().zip(seen).zip(z).zip(first) {
            let y = f64::from(y);
            let now = if begins { t.alpha * y + t.sigma * f64::from(first) } else { f64::from(*y_t) };
            *y_t = (s.alpha * y + of_t * (now - t.alpha * y) + std * f64::from(z)) as f32;
        }
        Ok(())
    }

    /// The logarithm of a particle's weight, but for what all have in common.
    fn log_w(&self, r: Likelihood, std: f64, y: &[f32], mean: &[f32], scratch: &mut [f32]) -> Result<f64> {
        let svd = self.spectral.svd()?;
        let singular = svd.singular_values();
        let (c, scratch) = cut(scratch, singular.len())?;
        svd.vt(mean, c, scratch)?;
        let terms = c.iter().zip(y).zip(singular).map(|((&c, &y), &s)| {
            let s = f64::from(s);
            let (gap, spread) = (f64::from(y) - s * f64::from(c), r.noise + std * std * s * s);
            if spread > 0.0 { gap * gap / spread } else { 0.0 }
        });
        Ok(-0.5 * terms.sum::<f64>())
    }
}

impl<O: LinearOperator> Evidence for Fps<O> {
    fn name(&self) -> &str {
        "FPS"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("FPS", sampler)?;
        check_mean("FPS", sampler)?;
        check_keeps_x("FPS", sampler)?;
        self.spectral.measurement.check(dims)?;
        (0..sampler.levels().len()).try_for_each(|step| check_inner_noise("FPS", step, sampler))?;
        check_spread("FPS", dims.elements(), sampler)
    }
    fn bind(&mut self, _: Dims, _: &dyn Sampler, batch: usize) -> Result<()> {
        check_whole(0, batch, self.options.ensemble)?;
        self.group = Group::new("FPS", self.options.ensemble)?;
        Ok(())
    }
    fn recommended(&self) -> Recommended {
        Recommended::fps()
    }
    fn kept_len(&self, _: Dims) -> usize {
        self.rank().unwrap_or(0).saturating_add(1)
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let (n, k) = (dims.elements(), self.rank().unwrap_or(0));
        let groups = batch.div_ceil(self.options.ensemble.max(1));
        let draws = k.saturating_mul(2).saturating_add(1).saturating_mul(groups);
        let moved = n.saturating_mul(self.options.ensemble);
        draws.saturating_add(moved).saturating_add(self.spectral.scratch_len(dims))
    }
    fn draw(&mut self, at: &At, batch: usize, noise: &mut dyn NoiseSource, scratch: &mut [f32]) -> Result<()> {
        let (m, k, n) = (self.options.ensemble.max(1), self.rank()?, at.sample_len);
        check_whole(at.first_sample, batch, m)?;
        if at.target.sigma <= 0.0 {
            return Ok(());
        }
        let Parts { kept, z, first, u, moved, rest } = Parts::of(scratch, batch, (n, k), m)?;
        let svd = self.spectral.svd()?;
        let (drawn, _) = cut(moved, n)?;
        let parts = z.chunks_mut(k.max(1)).zip(first.chunks_mut(k.max(1))).zip(kept.chunks(m * (k + 1)));
        for (i, (((z, first), kept), u)) in parts.zip(u).enumerate() {
            let sample = at.first_sample.saturating_add((i * m) as u64);
            let begun = kept.first() == Some(&1.0);
            for (draw, out) in [(0, z), (1, first)].into_iter().take(if begun { 1 } else { 2 }) {
                noise.normal(sample, at.draw(draw), n, drawn)?;
                svd.vt(drawn, out, rest)?;
                out.iter_mut().zip(svd.singular_values()).for_each(|(z, s)| *z *= s);
            }
            if m > 1 {
                noise.normal(sample, at.draw(2), 1, core::slice::from_mut(u))?;
            }
        }
        Ok(())
    }
    fn kernel(&mut self, at: &At, _: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        if at.target.sigma <= 0.0 {
            return Ok(());
        }
        let (m, k, n) = (self.options.ensemble.max(1), self.rank()?, at.sample_len.max(1));
        let std = match kernel.spread {
            Spread::Scalar(std) => f64::from(std),
            Spread::None | Spread::PerElement | Spread::Langevin { .. } | Spread::Bits | Spread::Classes { .. } => 0.0,
        };
        let Parts { kept, z, first, u, moved, rest } = Parts::of(scratch, kernel.mean.len() / n, (n, k), m)?;
        let s_y = at.target.alpha * self.spectral.measurement.sigma();
        let r = Likelihood { gain: 1.0, scatter: 0.0, noise: s_y * s_y };
        let drawn = z.chunks(k.max(1)).zip(first.chunks(k.max(1))).zip(&*u);
        let groups = kernel.mean.chunks_mut(n * m).zip(kept.chunks_mut((k + 1) * m));
        for (i, ((mean, kept), ((z, first), &u))) in groups.zip(drawn).enumerate() {
            let sample = at.first_sample.saturating_add((i * m) as u64);
            self.next_y(at, std, sample, kept, (z, first))?;
            if m > 1 {
                let (_, y) = cut(kept, 1)?;
                let mut log_w = core::mem::take(&mut self.group.log_w);
                for (log_w, mean) in log_w.iter_mut().zip(mean.chunks_exact(n)) {
                    *log_w = self.log_w(r, std, y, mean, rest)?;
                }
                self.group.log_w = log_w;
                if self.group.resample(sample, u, true)? {
                    self.group.take_ancestors(n, mean, moved)?;
                }
            }
        }
        let of_group = |sample: u64| -> Result<&[f32]> {
            let i = usize::try_from(sample.saturating_sub(at.first_sample)).unwrap_or(usize::MAX) / m;
            Ok(kept.get(i * m * (k + 1) + 1..).and_then(|y| y.get(..k)).unwrap_or(&[]))
        };
        self.spectral.multiply_by(at, r, of_group, kernel, rest)
    }
    fn effective(&self) -> Option<f64> {
        (self.options.ensemble > 1).then_some(self.group.effective())
    }
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().bytes(b"fps").u64(self.options.ensemble as u64);
        f.u64(self.spectral.measurement.fingerprint()).finish()
    }
}

/// What stands in the scratch.
struct Parts<'a> {
    /// y_t of a group in its first sample, after a 1: `[batch, k + 1]`.
    kept: &'a mut [f32],
    /// A z in coordinates for each group, of the step and of the beginning.
    z: &'a mut [f32],
    first: &'a mut [f32],
    /// One normal value for each group.
    u: &'a mut [f32],
    /// A group in its new order.
    moved: &'a mut [f32],
    rest: &'a mut [f32],
}

impl<'a> Parts<'a> {
    fn of(scratch: &'a mut [f32], batch: usize, (n, k): (usize, usize), m: usize) -> Result<Self> {
        let groups = batch / m.max(1);
        let (kept, scratch) = cut(scratch, batch.saturating_mul(k.saturating_add(1)))?;
        let (z, scratch) = cut(scratch, groups.saturating_mul(k))?;
        let (first, scratch) = cut(scratch, groups.saturating_mul(k))?;
        let (u, scratch) = cut(scratch, groups)?;
        let (moved, rest) = cut(scratch, n.saturating_mul(m))?;
        Ok(Self { kept, z, first, u, moved, rest })
    }
}
