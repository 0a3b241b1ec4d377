//! A step of the chain given y: seen coordinates are held where y says that they are, and how likely that was is the
//! sample's weight.
//!
//! # The targets
//! With A = U S V^T and tau = sigma / alpha the noise of a level, write w = x / alpha for the chain's values and
//! own_i = s / s_i for the noise of y in coordinate i of V^T x. What the level makes of x_0 and what y makes of it
//! share their noise as far as they can: y_i / s_i is w_i with noise of variance max(own_i^2 - tau^2, 0) added, so w_i
//! itself where tau is above own_i. Of the law
//!
//! ```text
//! pi_tau(w) = p_tau(w) prod_i N(y_i / s_i; w_i, max(own_i^2 - tau^2, 0))
//! ```
//!
//! p_tau(w | y) is what the posterior of p(x) r_tau(x) becomes by tau of noise
//! ([`SplitGibbs`](super::SplitGibbs) has r_tau), and where tau is below every own_i the reverse chain leads from it to
//! the posterior by itself. Cardoso et al. (Monte Carlo guided diffusion, 2024) and Dou and Song (filtering posterior
//! sampling, 2024) have such targets too.
//!
//! # A step
//! from tau' to tau is one of a sequential Monte Carlo sampler: w is drawn from the reverse step p(w | w') times what y
//! says of w_i beyond what it said of w'_i, which is a value with noise of variance v_i,
//!
//! ```text
//! e = max(own^2 - tau^2, 0),   e' = max(own^2, tau'^2) - tau^2,   v = e e' / (e' - e)
//! ```
//!
//! 0 while tau is above own, none once tau' is below it; and the weight is the integral of the same product, N(y_i /
//! s_i; E[w_i | w'], V + v_i). With delta = 1 - tau^2 / tau'^2 the reverse step has the mean w' + delta (E[x_0 | w'] -
//! w'), and in each coordinate V = tau^2 delta + delta^2 c, c the mean variance of x_0 given w' in these coordinates.
//!
//! So a weight is of what a sample's w' foretells, and not of the noise that it then draws. x_0 is drawn given y, too,
//! so that coordinates that y does not see follow those that it does: from a draw of p(x_0 | w') by Matheron's rule,
//! with as many steps of the conjugate gradients as there are products a step. That c stands for each coordinate's own
//! variance in the weight is an error of delta^2 a step: none in the limit of many levels.

use super::common::{cut, is_blank};
use super::operator::{LinearOperator, RANK_TOLERANCE};
use super::spectral::Spectral;
use super::{At, Jacobian};
use crate::error::Result;

/// The probes of [`variances`]: as many independent signs as are read off one normal value.
const PROBES: usize = 2;
/// Half of all normal values are nearer to 0.
const QUARTILE: f32 = 0.674_489_75;

/// A step to a level at which y has a say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub step: usize,
    /// sigma / alpha of the level before, infinite where nothing of y is in it.
    pub before: f64,
    /// Likewise after the step.
    pub now: f64,
    /// The last of its chain: weights end here.
    pub last: bool,
}

impl Pass {
    /// v of a coordinate whose measurement has the noise `own`.
    fn noise(&self, own: f64) -> f64 {
        let (own, now, before) = (own * own, self.now * self.now, self.before * self.before);
        if own >= before {
            return f64::INFINITY;
        }
        let (e, wider) = ((own - now).max(0.0), before - now);
        if wider == f64::INFINITY { e } else { e * wider / (wider - e) }
    }

    /// v of every coordinate.
    fn noises<'a, O: LinearOperator>(&'a self, of: &'a Spectral<O>) -> Result<impl Iterator<Item = f64> + 'a> {
        let singular = of.svd()?.singular_values();
        let least = RANK_TOLERANCE * singular.iter().fold(0.0, |m: f64, &s| m.max(f64::from(s)));
        let s = of.measurement.sigma();
        Ok(singular.iter().map(move |&v| {
            let v = f64::from(v);
            if v > least { self.noise(s / v) } else { f64::INFINITY }
        }))
    }
}

/// delta of the step: the factor of x_0 in the mean of w.
fn share(at: &At) -> f64 {
    let (from, to) = (at.level.noise_to_signal(), at.target.noise_to_signal());
    1.0 - (to / from) * (to / from)
}

/// The mean variance of x_0 given x_t over the coordinates in which y has a say, one value of `out` for a sample, by
/// Hutchinson's estimate: `signs`, `[batch, n]`, are normal values of which signs are read. `x0` is the predicted mean;
/// `kept` becomes the part of the covariance that leaves the data in their range.
///
/// Scratch: 2 n for a sample, n, and of one sample that of `spectral`.
#[expect(clippy::too_many_arguments, reason = "a step's parts")]
pub(super) fn variances<O: LinearOperator>(
    spectral: &Spectral<O>,
    pass: Pass,
    at: &At,
    x0: &[f32],
    signs: &[f32],
    (out, kept): (&mut [f32], &mut [f32]),
    jacobian: &mut dyn Jacobian,
    scratch: &mut [f32],
) -> Result<()> {
    out.fill(0.0);
    kept.fill(1.0);
    let asked = pass.noises(spectral)?.filter(|v| v.is_finite()).count();
    if asked == 0 || is_blank(at) {
        return Ok(());
    }
    let (n, svd) = (at.sample_len.max(1), spectral.svd()?);
    let tweedie = at.level.sigma * at.level.sigma / at.level.alpha;
    let (probe, scratch) = cut(scratch, x0.len())?;
    let (product, scratch) = cut(scratch, x0.len())?;
    let (c, scratch) = cut(scratch, svd.singular_values().len())?;
    for k in 0..PROBES {
        let into = |c: &mut [f32], z: &[f32]| -> Result<()> {
            for ((c, &z), v) in c.iter_mut().zip(z).zip(pass.noises(spectral)?) {
                let up = if k == 0 { z > 0.0 } else { z.abs() > QUARTILE };
                *c = if v == f64::INFINITY { 0.0 } else { f32::from(i8::from(up) * 2 - 1) };
            }
            Ok(())
        };
        for (probe, z) in probe.chunks_exact_mut(n).zip(signs.chunks_exact(n)) {
            into(c, z)?;
            svd.v(c, probe, scratch)?;
        }
        jacobian.vjp(probe, product)?;
        for ((probe, product), out) in probe.chunks_exact(n).zip(product.chunks_exact(n)).zip(out.iter_mut()) {
            let along: f64 = probe.iter().zip(product).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            *out += (tweedie * along / (asked * PROBES) as f64) as f32;
        }
    }
    for ((out, kept), x0) in out.iter_mut().zip(kept).zip(x0.chunks_exact(n)) {
        // As for the draw of x_0, what a network's Jacobian says at high noise is kept within the data's range.
        let square = x0.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / n as f64;
        let most = at.range.map_or(f64::INFINITY, |r| (f64::from(r) * f64::from(r) - square).max(0.0));
        let (got, within) = (f64::from(*out), f64::from(*out).clamp(0.0, most));
        *kept = if got > most { (most / got) as f32 } else { 1.0 };
        *out = within as f32;
    }
    Ok(())
}

/// The step of one sample in its coordinates.
struct Coordinates<'a, O> {
    spectral: &'a Spectral<O>,
    pass: Pass,
    delta: f64,
}

impl<O: LinearOperator> Coordinates<'_, O> {
    /// Of each coordinate that y speaks of: its number, y_i / s_i, v_i.
    fn each(&self, sample: u64) -> Result<impl Iterator<Item = (usize, f64, f64)>> {
        let measured = self.spectral.seen(sample)?.iter().zip(self.spectral.svd()?.singular_values());
        let all = measured.zip(self.pass.noises(self.spectral)?).enumerate();
        Ok(all.filter(|(_, (_, v))| v.is_finite()).map(|(i, ((&y, &s), v))| (i, f64::from(y) / f64::from(s), v)))
    }

    /// tau^2 delta, the step's variance given x_0.
    fn spread(&self) -> f64 {
        self.pass.now * self.pass.now * self.delta
    }

    /// The noise with which y sees x_0 in a step.
    fn noise(&self, v: f64) -> f64 {
        (self.spread() + v) / (self.delta * self.delta)
    }

    /// What y_i / s_i says that x_0 is, from w'.
    fn said(&self, y: f64, w: f64) -> f64 {
        (y - w) / self.delta + w
    }
}

/// The logarithms of the weights, in `out`, where the variances of [`variances`] stood. `x0` is the predicted mean.
/// Scratch: twice the singular values and that of the operator.
pub(super) fn weights<O: LinearOperator>(
    spectral: &Spectral<O>,
    pass: Pass,
    at: &At,
    (x, x0): (&[f32], &[f32]),
    out: &mut [f32],
    scratch: &mut [f32],
) -> Result<()> {
    let (n, svd) = (at.sample_len.max(1), spectral.svd()?);
    let (a, scratch) = cut(scratch, svd.singular_values().len())?;
    let (c, scratch) = cut(scratch, svd.singular_values().len())?;
    let step = Coordinates { spectral, pass, delta: share(at) };
    for (((x, x0), out), sample) in x.chunks_exact(n).zip(x0.chunks_exact(n)).zip(out).zip(at.first_sample..=u64::MAX) {
        let variance = f64::from(*out);
        // Where x_t holds nothing of x_0, w' has no place: it is all x_0's.
        let by = if is_blank(at) { 0.0 } else { 1.0 / at.level.alpha };
        svd.vt(x, a, scratch)?;
        svd.vt(x0, c, scratch)?;
        let mut log_w = 0.0;
        for (i, y, v) in step.each(sample)? {
            let value = |c: &[f32]| c.get(i).copied().map_or(0.0, f64::from);
            let spread = step.noise(v) + variance;
            let off = step.said(y, by * value(a)) - value(c);
            log_w -= 0.5 * (off * off / spread + libm::log(spread));
        }
        *out = log_w as f32;
    }
    Ok(())
}

/// x_0, a draw given w', becomes one given y too, and eps what belongs to it. `noise`, `[batch, n]`, are normal values.
/// Scratch: 4 n for a sample, the singular values, and that of the operator.
#[expect(clippy::too_many_arguments, reason = "a step's parts")]
pub(super) fn condition<O: LinearOperator>(
    spectral: &Spectral<O>,
    (pass, products): (Pass, usize),
    at: &At,
    x: &[f32],
    (x0, eps): (&mut [f32], &mut [f32]),
    (noise, kept): (&[f32], &[f32]),
    jacobian: &mut dyn Jacobian,
    scratch: &mut [f32],
) -> Result<()> {
    let step = Coordinates { spectral, pass, delta: share(at) };
    let (n, svd) = (at.sample_len.max(1), spectral.svd()?);
    let (alpha, sigma) = (at.level.alpha, at.level.sigma);
    let tweedie = sigma * sigma / alpha;
    let (probe, scratch) = cut(scratch, x0.len())?;
    let (product, scratch) = cut(scratch, x0.len())?;
    let (residual, scratch) = cut(scratch, x0.len())?;
    let (direction, scratch) = cut(scratch, x0.len())?;
    let (c, scratch) = cut(scratch, svd.singular_values().len())?;
    let value = |c: &[f32], i: usize| c.get(i).copied().map_or(0.0, f64::from);
    let put = |c: &mut [f32], i: usize, to: f64| c.get_mut(i).into_iter().for_each(|c| *c = to as f32);
    residual.fill(0.0);
    for (i, r) in residual.chunks_exact_mut(n).enumerate() {
        let row = i * n..(i + 1) * n;
        let (x, x0, noise) = (x.get(row.clone()), x0.get(row.clone()), noise.get(row));
        let (Some(x), Some(x0), Some(noise)) = (x, x0, noise) else { continue };
        svd.vt(x0, c, scratch)?;
        let sample = at.first_sample.saturating_add(i as u64);
        for (j, _, v) in step.each(sample)? {
            put(r, j, -value(c, j) - libm::sqrt(step.noise(v)) * value(noise, j));
        }
        svd.vt(x, c, scratch)?;
        for (j, y, _) in step.each(sample)? {
            put(r, j, value(r, j) + step.said(y, value(c, j) / alpha));
        }
    }
    direction.copy_from_slice(residual);
    for _ in 0..products {
        for (direction, probe) in direction.chunks_exact(n).zip(probe.chunks_exact_mut(n)) {
            svd.v(direction.get(..c.len()).unwrap_or(&[]), probe, scratch)?;
        }
        jacobian.vjp(probe, product)?;
        for (i, (r, p)) in residual.chunks_exact_mut(n).zip(direction.chunks_exact_mut(n)).enumerate() {
            let row = i * n..(i + 1) * n;
            let (Some(product), Some(x0)) = (product.get(row.clone()), x0.get_mut(row)) else { continue };
            let scale = tweedie * kept.get(i).copied().map_or(1.0, f64::from);
            svd.vt(product, c, scratch)?;
            let sample = at.first_sample.saturating_add(i as u64);
            let (mut along, mut size) = (0.0, 0.0);
            for (j, _, v) in step.each(sample)? {
                let image = scale * value(c, j) + step.noise(v) * value(p, j);
                put(c, j, image);
                along += value(p, j) * image;
                size += value(r, j) * value(r, j);
            }
            if along <= 0.0 || size <= 0.0 {
                continue;
            }
            let by = size / along;
            x0.iter_mut().zip(product).for_each(|(x0, &p)| *x0 = (f64::from(*x0) + by * scale * f64::from(p)) as f32);
            let mut left = 0.0;
            for (j, _, _) in step.each(sample)? {
                let rest = value(r, j) - by * value(c, j);
                put(r, j, rest);
                left += rest * rest;
            }
            for (j, _, _) in step.each(sample)? {
                put(p, j, value(r, j) + left / size * value(p, j));
            }
        }
    }
    for ((x0, eps), &x) in x0.iter().zip(eps).zip(x) {
        *eps = ((f64::from(x) - alpha * f64::from(*x0)) / sigma) as f32;
    }
    Ok(())
}

/// Holds seen coordinates of a sample's step where y says that they are: `mean` is alpha E[w | w', x_0], x_0 drawn
/// given y, and `noise` what is to be added, divided by its deviation. Scratch: the singular values, n, and that of the
/// operator.
pub(super) fn hold<O: LinearOperator>(
    spectral: &Spectral<O>,
    pass: Pass,
    at: &At,
    sample: u64,
    (mean, noise): (&mut [f32], &mut [f32]),
    scratch: &mut [f32],
) -> Result<()> {
    let step = Coordinates { spectral, pass, delta: share(at) };
    let (svd, alpha) = (spectral.svd()?, at.target.alpha);
    let (c, scratch) = cut(scratch, svd.singular_values().len())?;
    let (pixels, scratch) = cut(scratch, mean.len())?;
    let gain = |v: f64| step.spread() / (step.spread() + v);
    for (values, of_mean) in [(mean, true), (noise, false)] {
        svd.vt(values, c, scratch)?;
        let mut done = 0;
        for (i, y, v) in step.each(sample)? {
            // Of coordinates that y does not speak of nothing is changed.
            c.get_mut(done..i).unwrap_or(&mut []).fill(0.0);
            done = i + 1;
            if let Some(c) = c.get_mut(i) {
                let was = f64::from(*c);
                *c = if of_mean { gain(v) * (alpha * y - was) } else { (libm::sqrt(1.0 - gain(v)) - 1.0) * was } as f32;
            }
        }
        c.get_mut(done..).unwrap_or(&mut []).fill(0.0);
        svd.v(c, pixels, scratch)?;
        values.iter_mut().zip(&*pixels).for_each(|(n, p)| *n += p);
    }
    Ok(())
}
