//! SITCOM: step-wise triple-consistent sampling (Alkhouri, Liang, Huang, Dai, Qu, Ravishankar and Wang 2025).

use alloc::vec::Vec;

use super::common::{check_fresh, check_mean, check_real, cut, is_blank, pull_back};
use super::operator::ForwardOperator;
use super::{At, Evidence, Jacobian, Measurement, Recommended};
use crate::error::{Result, ensure};
use crate::memory::filled;
use crate::noise::Fingerprint;
use crate::sampler::Sampler;
use crate::tensor::Dims;

/// The decay of Adam's moments, and what keeps it from dividing by 0: PyTorch's defaults, which the authors' code has.
const MOMENTS: (f64, f64) = (0.9, 0.999);
const LEAST: f64 = 1e-8;
/// How far the authors' code stops above the noise of y, in units of the data.
const ABOVE_NOISE: f64 = 1e-3;

/// How [`Sitcom`] optimises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SitcomOptions {
    /// K, the most gradient steps at each level, 1 to 100,000: a network call and a vector-Jacobian product each.
    pub gradient_steps: usize,
    /// Adam's rate, above 0.
    pub rate: f64,
    /// The weight of |x_t - v|^2, 0 or above.
    pub lambda: f64,
    /// A level's steps end for a sample where |y - A(x_0)| is below this times sqrt(m): delta / sqrt(m), 0 or above.
    /// `None` for the noise of y and 0.001 more, as the authors' code has it.
    pub stop: Option<f64>,
}

impl Default for SitcomOptions {
    fn default() -> Self {
        Self { gradient_steps: 20, rate: 0.02, lambda: 1.0, stop: None }
    }
}

/// At every level t the input of the network is moved until what it predicts agrees with y and is still near x_t, and
/// the next level is drawn anew from that prediction: algorithm 1, with f(v) the x_0 predicted from v at level t,
///
/// ```text
/// v = x_t,   up to K times   v <- v - Adam(d/dv [ |A(f(v)) - y|^2 + lambda |x_t - v|^2 ])
/// until |A(f(v)) - y|^2 < delta^2,   x_s = alpha_s f(v) + sigma_s z
/// ```
///
/// with fresh noise z. Adam (betas 0.9 and 0.999) begins anew at each level, as in the authors' code; the paper's delta
/// is [`SitcomOptions::stop`] times sqrt(m). f(v) is clipped as the sampler has it, and the derivative is that before
/// clipping. A sample that has reached delta waits until all calls of the level are made, so that a run has the same
/// calls whatever it finds: N (K + 1) and N K products. As published: 20 levels of 20 steps. (The rate is the authors'
/// code's; their ablation has lambda 1 best but for phase retrieval, where it is 0.05.)
///
/// What it samples: nothing known. Of a Gaussian prior N(m, v) seen element by element, with c = alpha v / (alpha^2 v +
/// sigma^2), steps that were carried to their end lead to
///
/// ```text
/// f = m + c (v* - alpha m),   v* = (lambda x_t + c (y - m + c alpha m)) / (lambda + c^2)
/// ```
///
/// in which the noise of y has no part: the mean is that of y seen without noise, and the variance next to none, as
/// lambda / (lambda + c^2) shrinks it at each level. For elements that y does not see f is the mean given x_t, so that
/// their variance is too small too. `tests/posterior/sitcom.rs` holds it to that law: in 20 levels with lambda 1 and no
/// delta a seen element has 0.05 of the posterior's variance (s of 0.3, v of 0.9), and one that was not seen 0.41 of
/// the prior's. With the usual delta samples stop early, where |y - A x| is the noise of y.
///
/// A need not be linear ([`ForwardOperator`]). One vector-Jacobian product of the network in each inner call. Samplers:
/// [`input_optimization`](crate::sampler::input_optimization) alone. It keeps 3 n + 1 values of each sample from step
/// to step, in the chain. Scratch: 2 n values for a sample, m values and what A needs. A level without a trace of x_0
/// is passed over.
#[derive(Clone, Debug)]
pub struct Sitcom<O> {
    measurement: Measurement<O>,
    options: SitcomOptions,
    /// delta / sqrt(m).
    stop: f64,
    /// For each call the gradient steps made at its level before it; `None` for those that draw the next level.
    calls: Vec<Option<usize>>,
}

impl<O: ForwardOperator> Sitcom<O> {
    /// Errors: kind `InvalidArgument` for options out of their range.
    pub fn new(measurement: Measurement<O>, options: &SitcomOptions) -> Result<Self> {
        let o = *options;
        ensure!(
            (1..=100_000).contains(&o.gradient_steps),
            InvalidArgument,
            "SITCOM with {} gradient steps, expected 1 to 100000",
            o.gradient_steps
        );
        ensure!(
            o.rate > 0.0 && o.rate.is_finite() && o.lambda >= 0.0 && o.lambda.is_finite(),
            InvalidArgument,
            "SITCOM with a rate of {} and a lambda of {}, expected above 0, and 0 or above",
            o.rate,
            o.lambda
        );
        let stop = o.stop.unwrap_or_else(|| measurement.sigma() + ABOVE_NOISE);
        ensure!(stop >= 0.0 && stop.is_finite(), InvalidArgument, "SITCOM stops at {stop}, expected 0 or above");
        Ok(Self { measurement, options: o, stop, calls: Vec::new() })
    }
}

impl<O: ForwardOperator> Evidence for Sitcom<O> {
    fn name(&self) -> &str {
        "SITCOM"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("SITCOM", sampler)?;
        check_mean("SITCOM", sampler)?;
        check_fresh("SITCOM", sampler)?;
        let mut stays = 0;
        for (step, level) in sampler.levels().iter().enumerate() {
            let inner = !sampler.settles(step);
            let fits = if inner { sampler.target(step)? == *level } else { stays > 0 };
            ensure!(
                fits,
                Unsupported,
                "SITCOM moves x at a level before x_s is drawn, {} has no calls for that at step {step}: take the sampler that it recommends",
                sampler.name()
            );
            stays = if inner { stays + 1 } else { 0 };
        }
        self.measurement.check(dims)
    }
    fn bind(&mut self, _: Dims, sampler: &dyn Sampler, _: usize) -> Result<()> {
        self.calls = filled("SITCOM", sampler.levels().len(), None)?;
        let mut done = 0;
        for (step, call) in self.calls.iter_mut().enumerate() {
            (*call, done) = if sampler.settles(step) { (None, 0) } else { (Some(done), done + 1) };
        }
        Ok(())
    }
    fn recommended(&self) -> Recommended {
        Recommended::sitcom(self.options.gradient_steps)
    }
    fn kept_len(&self, dims: Dims) -> usize {
        dims.elements().saturating_mul(3).saturating_add(1)
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let whole = dims.elements().saturating_mul(batch).saturating_mul(2);
        whole.saturating_add(self.measurement.len()).saturating_add(self.measurement.operator().forward_scratch_len())
    }
    fn needs_vjp(&self) -> bool {
        true
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
        let Some(&Some(done)) = self.calls.get(at.step) else { return Ok(()) };
        let n = at.sample_len.max(1);
        let each = 3 * n + 1;
        let (kept, scratch) = cut(scratch, x.len() / n * each)?;
        let (g, scratch) = cut(scratch, x.len())?;
        let (v, scratch) = cut(scratch, x.len())?;
        let (r, scratch) = cut(scratch, self.measurement.len())?;
        let (alpha, sigma) = (at.level.alpha, at.level.sigma);
        let rows = || x.chunks_exact(n);
        if done == 0 {
            for (kept, x) in kept.chunks_exact_mut(each).zip(rows()) {
                kept.fill(0.0);
                let (_, from) = cut(kept, 1)?;
                cut(from, n)?.0.copy_from_slice(x);
            }
        }
        // kept is whether the sample moves no more, x_t and the moments.
        let limit = self.stop * self.stop * self.measurement.len() as f64;
        let mut moves = false;
        pull_back(&self.measurement, at, x0, v, r, scratch, |i, r, _| {
            let stopped = kept.get_mut(i * each);
            let misfit: f64 = r.iter().map(|&r| f64::from(r) * f64::from(r)).sum();
            match stopped {
                Some(stopped) if is_blank(at) || misfit < limit => *stopped = 1.0,
                Some(stopped) => moves |= *stopped == 0.0,
                None => {}
            }
            Ok(())
        })?;
        if moves {
            jacobian.vjp(v, g)?;
        }
        let t = done as f64 + 1.0;
        let (a, b) = MOMENTS;
        let (of_first, of_second) = (1.0 / (1.0 - libm::pow(a, t)), 1.0 / (1.0 - libm::pow(b, t)));
        let all = rows().zip(x0.chunks_exact(n)).zip(eps.chunks_exact_mut(n)).zip(g.chunks_exact(n));
        for ((((x, x0), eps), g), kept) in all.zip(kept.chunks_exact_mut(each)) {
            let (stopped, kept) = cut(kept, 1)?;
            let (from, moments) = cut(kept, n)?;
            let (first, second) = cut(moments, n)?;
            let stays = stopped.first() != Some(&0.0);
            let moments = first.iter_mut().zip(second.iter_mut()).zip(&*from).zip(g);
            for (((&x, &x0), eps), (((first, second), &from), &g)) in x.iter().zip(x0).zip(eps).zip(moments) {
                let mut moved = f64::from(x);
                if !stays {
                    let g = 2.0 * (self.options.lambda * (moved - f64::from(from)) - f64::from(g));
                    let f = a * f64::from(*first) + (1.0 - a) * g;
                    let s = b * f64::from(*second) + (1.0 - b) * g * g;
                    moved -= self.options.rate * f * of_first / (libm::sqrt(s * of_second) + LEAST);
                    (*first, *second) = (f as f32, s as f32);
                }
                *eps = ((moved - alpha * f64::from(x0)) / sigma) as f32;
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        let o = self.options;
        let f = Fingerprint::new().bytes(b"sitcom").u64(o.gradient_steps as u64).f64(o.rate).f64(o.lambda);
        f.f64(self.stop).u64(self.measurement.fingerprint()).finish()
    }
}
