//! DAPS: decoupled annealing posterior sampling (Zhang, Chu, Berner, Meng, Anandkumar and Song 2024).

use alloc::vec::Vec;

use super::common::{check_fresh, check_keeps_x, check_mean, check_real, cut, steepest};
use super::operator::ForwardOperator;
use super::{At, Evidence, Jacobian, Measurement, Recommended};
use crate::error::{Result, ensure};
use crate::memory::filled;
use crate::noise::{Fingerprint, NoiseSource};
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// How [`Daps`] samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DapsOptions {
    /// N, steps of Langevin dynamics at each level, 1 to 1,000,000. Each calls A and its derivative, and no network.
    pub langevin_steps: usize,
    /// The length of the first level's Langevin steps, above 0 and below 2, in units of the inverse of the largest
    /// curvature, 1 / (1 / r^2 + |J|^2 / s^2); steps of 2 and above diverge.
    pub langevin_length: f64,
    /// What the length has fallen to at the last level, as a fraction, above 0 and at most 1.
    pub decay: f64,
    /// Network calls of the probability flow from a level to x_0, at least 1; for
    /// [`recommended`](Evidence::recommended).
    pub flow_steps: usize,
}

impl Default for DapsOptions {
    fn default() -> Self {
        Self { langevin_steps: 100, langevin_length: 0.5, decay: 0.1, flow_steps: 4 }
    }
}

/// Each level is drawn anew from x_0 alone, so that early errors do not stay, and x_0 by Langevin dynamics:
///
/// ```text
/// x_0^ = the end of the probability flow from x_t,   x <- x_0^, then N times
/// x <- x - h (x - x_0^) / r_t^2 + h J(x)^T (y - A(x)) / s^2 + sqrt(2 h) z,
/// x_s = alpha_s x + sigma_s z'
/// ```
///
/// (its algorithm 1 and eq. 7 to 9) with r_t = sigma_t / alpha_t, the authors' choice for the spread of x_0 given x_t.
/// The length of steps h falls evenly from the first level to the last, as in their code; they give it as a number for
/// each task, here it is a fraction of the largest stable one ([`DapsOptions::langevin_length`]), |J| being the largest
/// slope of A. (Of an operator that does not say it, it is estimated once, at three points of values between -1 and 1:
/// one that grows steeper beyond, as x^3 does, may carry a sample off, which ends the run with `NonFinite`.)
///
/// A need not be linear ([`ForwardOperator`]). No derivative of the network is needed.
///
/// What it samples: nothing known. N(x_0^, r_t^2) is a guess of x_0 given x_t, which makes x_0 too uncertain where the
/// prior is narrower than r_t, and N steps of so stiff a Gaussian reach the directions that y says little of in part
/// only; so the variance is the sum of two errors. Of a Gaussian prior the chain's law is known in closed form
/// (`tests/posterior/daps.rs`), and the table in [the module's page](super) has what it misses the posterior by. What
/// it is for are operators that are not linear, such as [`FourierMagnitude`](super::operator::FourierMagnitude).
///
/// Samplers: those whose every settled step leads to alpha_s x_0 + sigma_s z with fresh noise:
/// [`decoupled_annealing`](crate::sampler::decoupled_annealing), which is the recommended one, and
/// [`ddim`](crate::sampler::ddim) of eta 1 of the level, which is one step of the flow. y must have noise. Scratch: 3 n
/// values for a sample, and n + m for all. A level above which x_t has no trace of x_0 is passed over.
#[derive(Clone, Debug)]
pub struct Daps<O> {
    measurement: Measurement<O>,
    options: DapsOptions,
    slope: f64,
    /// For each step r_t of its level and the fraction of the length, (0, 0) where nothing is drawn.
    levels: Vec<(f64, f64)>,
}

impl<O: ForwardOperator> Daps<O> {
    /// Errors: kind `InvalidArgument` for options out of their range and a measurement without noise; those of the
    /// operator.
    pub fn new(measurement: Measurement<O>, options: &DapsOptions) -> Result<Self> {
        let o = *options;
        measurement.check_noise("DAPS")?;
        ensure!(
            (1..=1_000_000).contains(&o.langevin_steps) && o.flow_steps > 0,
            InvalidArgument,
            "DAPS with {} steps of Langevin dynamics and {} of the flow, expected 1 to 1000000 and at least 1",
            o.langevin_steps,
            o.flow_steps
        );
        ensure!(
            o.langevin_length > 0.0 && o.langevin_length < 2.0 && o.decay > 0.0 && o.decay <= 1.0,
            InvalidArgument,
            "DAPS with Langevin steps of length {} that falls to {} of it, expected above 0 and below 2, and above 0 and at most 1",
            o.langevin_length,
            o.decay
        );
        let slope = steepest(measurement.operator())?;
        Ok(Self { measurement, options: o, slope, levels: Vec::new() })
    }

    /// h at a level with spread r.
    fn length(&self, r: f64, fraction: f64) -> f64 {
        let s = self.measurement.sigma();
        self.options.langevin_length * fraction / (1.0 / (r * r) + self.slope * self.slope / (s * s))
    }
}

impl<O: ForwardOperator> Evidence for Daps<O> {
    fn name(&self) -> &str {
        "DAPS"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("DAPS", sampler)?;
        check_mean("DAPS", sampler)?;
        check_keeps_x("DAPS", sampler)?;
        check_fresh("DAPS", sampler)?;
        self.measurement.check(dims)
    }
    fn bind(&mut self, _: Dims, sampler: &dyn Sampler, _: usize) -> Result<()> {
        let steps = sampler.levels().len();
        self.levels = filled("DAPS", steps, (0.0, 0.0))?;
        let settled = (0..steps).filter(|&step| sampler.settles(step)).count();
        let (mut r, mut done) = (None, 0);
        for (step, (level, own)) in sampler.levels().iter().zip(&mut self.levels).enumerate() {
            // The first call of the way from a level to x_0.
            let of = *r.get_or_insert(level.noise_to_signal());
            if sampler.settles(step) {
                let passed = done as f64 / settled.saturating_sub(1).max(1) as f64;
                if of.is_finite() {
                    *own = (of, 1.0 - passed * (1.0 - self.options.decay));
                }
                (r, done) = (None, done + 1);
            }
        }
        Ok(())
    }
    fn recommended(&self) -> Recommended {
        Recommended::daps(self.options.flow_steps)
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let n = dims.elements();
        let own = self.measurement.len().saturating_add(n);
        let whole = n.saturating_mul(batch).saturating_mul(3);
        whole.saturating_add(own).saturating_add(self.measurement.operator().forward_scratch_len())
    }
    fn estimate(
        &mut self,
        _: &At,
        _: &[f32],
        x0: &mut [f32],
        _: &mut [f32],
        _: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        let (centre, _) = cut(scratch, x0.len())?;
        centre.copy_from_slice(x0);
        Ok(())
    }
    fn merge(
        &mut self,
        at: &At,
        _: &[f32],
        next: &mut [f32],
        noise: &mut dyn NoiseSource,
        scratch: &mut [f32],
    ) -> Result<()> {
        let Some(&(r, fraction)) = self.levels.get(at.step).filter(|(r, _)| *r > 0.0) else { return Ok(()) };
        let n = at.sample_len.max(1);
        let (centre, scratch) = cut(scratch, next.len())?;
        let (x, scratch) = cut(scratch, next.len())?;
        let (z, scratch) = cut(scratch, next.len())?;
        let (residual, scratch) = cut(scratch, self.measurement.len())?;
        let (gradient, scratch) = cut(scratch, n)?;
        let (h, s) = (self.length(r, fraction), self.measurement.sigma());
        let (to_centre, to_y, spread) = (h / (r * r), h / (s * s), libm::sqrt(2.0 * h));
        x.copy_from_slice(centre);
        for k in 0..self.options.langevin_steps {
            noise.normal(at.first_sample, at.inner_draw(k as u64), n, z)?;
            let rows = x.chunks_exact_mut(n).zip(centre.chunks_exact(n)).zip(z.chunks_exact(n));
            for (((x, centre), z), sample) in rows.zip(at.first_sample..=u64::MAX) {
                self.measurement.residual(sample, x, residual, scratch)?;
                self.measurement.operator().vjp(x, residual, gradient, scratch)?;
                for (((x, &centre), &z), &g) in x.iter_mut().zip(centre).zip(z).zip(&*gradient) {
                    let from = f64::from(*x);
                    let drift = to_y * f64::from(g) - to_centre * (from - f64::from(centre));
                    *x = (from + drift + spread * f64::from(z)) as f32;
                }
            }
        }
        // x_s = alpha_s x_0^ + sigma_s z' so far.
        let alpha = at.target.alpha;
        for (next, (&x, &centre)) in next.iter_mut().zip(x.iter().zip(&*centre)) {
            *next = (f64::from(*next) + alpha * (f64::from(x) - f64::from(centre))) as f32;
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        let o = self.options;
        let f = Fingerprint::new().bytes(b"daps").u64(o.langevin_steps as u64).f64(o.langevin_length).f64(o.decay);
        f.u64(self.measurement.fingerprint()).finish()
    }
}
