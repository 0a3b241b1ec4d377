//! The variational bound of the Gaussian chain (Sohl-Dickstein et al. 2015, Eq. 14) as a loss.

use alloc::vec::Vec;
use core::f64::consts::PI;
use core::ops::Range;

use super::{End, Loss};
use crate::error::{Result, ensure};
use crate::noise::Stream;
use crate::process::{Linear, Prediction, normal_entropy};
use crate::sampler::Readout2015;
use crate::schedule::Level;

/// The scalars of one step. a is abar before it, b its beta, v the variance 1 - abar.
#[derive(Clone, Copy, Debug)]
struct Step {
    a: f64,
    b: f64,
    abar: f64,
    v: f64,
    /// The mean of q(x_s | x_t, x_0) is p x_0 + q x_t.
    p: f64,
    q: f64,
    /// Its variance.
    variance: f64,
}

impl Step {
    fn new(a: f64, b: f64) -> Self {
        let abar = a * (1.0 - b);
        let v = (1.0 - a) + a * b;
        let (p, q) = (libm::sqrt(a) * b / v, libm::sqrt(1.0 - b) * (1.0 - a) / v);
        Self { a, b, abar, v, p, q, variance: (1.0 - a) * b / v }
    }
}

/// What a sample's loss is by the schedule: by abar before its step and by beta of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BySchedule {
    /// By abar before the step.
    pub before: f64,
    /// By the step's beta, abar before it held fixed.
    pub beta: f64,
}

/// The bound of a chain of real numbers: KL(q(x_(t-1) | x_t, x_0) || N(mu, Sigma)) of each step times their number.
#[derive(Clone, Debug)]
pub struct GaussianBound {
    readout: Readout2015,
    end: End,
    steps: Vec<Step>,
    root: f64,
    /// Steps with any signal left.
    last: usize,
}

/// What a network's output means for one element: mean and variance, and their slopes.
struct Read {
    mean: f64,
    variance: f64,
    mean_by_z: f64,
    mean_by_x: f64,
    /// The mean's slope by the variance itself, where the readout ties them.
    mean_by_variance: f64,
    /// By z_Sigma.
    variance_by_z: f64,
    mean_by_b: f64,
    variance_by_b: f64,
}

impl GaussianBound {
    /// The loss for a schedule of betas.
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2 betas, or one that is not in (0, 1], the last alone being 1 at
    /// most.
    pub fn new(betas: &[f64], readout: Readout2015, end: End) -> Result<Self> {
        ensure!(betas.len() >= 2, InvalidArgument, "a bound over {} steps, expected at least 2", betas.len());
        let mut steps = Vec::new();
        let mut a = 1.0;
        for (i, &b) in betas.iter().enumerate() {
            let fits = b > 0.0 && (b < 1.0 || (b == 1.0 && i + 1 == betas.len()));
            ensure!(fits, InvalidArgument, "beta {i} is {b}, expected above 0 and below 1");
            let step = Step::new(a, b);
            a = step.abar;
            steps.push(step);
        }
        let last = steps.iter().take_while(|s| s.abar > 0.0).count();
        Ok(Self { readout, end, root: libm::sqrt(betas.len() as f64), steps, last })
    }

    fn read(&self, s: &Step, x: f64, z: f64, z_sigma: f64) -> Read {
        let (root_b, root_keep) = (libm::sqrt(s.b), libm::sqrt(1.0 - s.b));
        let scale = match self.readout {
            Readout2015::Code => 1.0 / self.root,
            Readout2015::Paper => 1.0,
            Readout2015::Prediction(kind) => {
                // mu = (x + beta score) / sqrt(1 - beta), score = -eps / sigma, and the output gives eps linearly.
                let level = Level { timestep: 0.0, alpha: libm::sqrt(s.abar), sigma: libm::sqrt(s.v) };
                let Linear { eps_x, eps_output, .. } = Prediction { kind, ..Default::default() }.linear(&level);
                let of_eps = -s.b / level.sigma / root_keep;
                let (by_x, by_z) = (1.0 / root_keep + of_eps * eps_x, of_eps * eps_output);
                return Read {
                    mean: by_x * x + by_z * z,
                    variance: s.b,
                    mean_by_z: by_z,
                    mean_by_x: by_x,
                    mean_by_variance: 0.0,
                    variance_by_z: 0.0,
                    mean_by_b: f64::NAN,
                    variance_by_b: 1.0,
                };
            }
        };
        let odds = s.b / (1.0 - s.b) * libm::exp(z_sigma * scale);
        let variance = odds / (1.0 + odds);
        let slope = variance / (1.0 + odds);
        let common = |mean: f64| Read {
            mean,
            variance,
            mean_by_z: root_b,
            mean_by_x: root_keep,
            mean_by_variance: 0.0,
            variance_by_z: scale * slope,
            mean_by_b: 0.5 * (z / root_b - x / root_keep),
            variance_by_b: slope / (s.b * (1.0 - s.b)),
        };
        match self.readout {
            Readout2015::Paper => Read {
                mean_by_z: variance,
                mean_by_x: 1.0 - variance,
                mean_by_variance: z - x,
                mean_by_b: 0.0,
                ..common((x - z) * (1.0 - variance) + z)
            },
            _ => common(x * root_keep + z * root_b),
        }
    }

    /// As [`Loss::evaluate`], with the gradient by x_t, output held fixed, written to `by_x`, and that by the schedule,
    /// x_t held fixed. What goes through x_t, when its noise is held fixed and not itself, [`GaussianBound::through_x`]
    /// gives.
    ///
    /// For the readouts of 2015; another one's loss by its schedule is NaN.
    pub fn evaluate_with_schedule(
        &self,
        t: usize,
        (x0, x_t): (&[f32], &[f32]),
        output: &[f32],
        gradient: &mut [f32],
        by_x: &mut [f32],
    ) -> (f64, BySchedule) {
        let Some(s) = self.steps.get(t) else { return (f64::NAN, BySchedule::default()) };
        let w = self.times().len() as f64;
        let (mut by_p, mut by_q, mut by_variance, mut by_b) = (0.0, 0.0, 0.0, 0.0);
        let loss = self.elements(t, s, (x0, x_t), output, gradient, &mut |i, x0, x, read, by_mean, by_sigma| {
            let at_end = t == 0;
            // The target's mean moves against the prediction's. At the end the target is x_0 itself.
            if !at_end {
                by_p -= by_mean * x0;
                by_q -= by_mean * x;
                by_variance += 0.5 * (1.0 / read.variance - 1.0 / s.variance);
            }
            by_b += by_mean * read.mean_by_b + (by_sigma + by_mean * read.mean_by_variance) * read.variance_by_b;
            if let Some(to) = by_x.get_mut(i) {
                *to = (w * by_mean * (read.mean_by_x - if at_end { 0.0 } else { s.q })) as f32;
            }
        });
        let (root_a, keep) = (libm::sqrt(s.a), libm::sqrt(1.0 - s.b));
        let (v_by_a, v_by_b) = (-(1.0 - s.b), s.a);
        let p_by_a = s.b / (2.0 * root_a * s.v) - s.p * v_by_a / s.v;
        let p_by_b = root_a / s.v - s.p * v_by_b / s.v;
        let q_by_a = -keep / s.v - s.q * v_by_a / s.v;
        let q_by_b = -(1.0 - s.a) / (2.0 * keep * s.v) - s.q * v_by_b / s.v;
        let variance_by_a = -s.b / s.v - s.variance * v_by_a / s.v;
        let variance_by_b = (1.0 - s.a) / s.v - s.variance * v_by_b / s.v;
        let by = BySchedule {
            before: w * (by_p * p_by_a + by_q * q_by_a + by_variance * variance_by_a),
            beta: w * (by_b + by_p * p_by_b + by_q * q_by_b + by_variance * variance_by_b),
        };
        (loss, by)
    }

    /// What goes through x_t, of which `by_x` is the whole gradient, with the noise held fixed.
    pub fn through_x(&self, t: usize, x0: &[f32], x_t: &[f32], by_x: &[f32]) -> BySchedule {
        let Some(s) = self.steps.get(t) else { return BySchedule::default() };
        // x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps: dx = (x_0 / sqrt(abar) - eps / sqrt(1 - abar)) dabar / 2.
        let root = libm::sqrt(s.abar);
        let slope = |(&x0, &x): (&f32, &f32)| {
            let (x0, x) = (f64::from(x0), f64::from(x));
            0.5 * (x0 / root - (x - root * x0) / s.v)
        };
        let by_abar: f64 = x0.iter().zip(x_t).map(slope).zip(by_x).map(|(d, &by)| d * f64::from(by)).sum();
        BySchedule { before: by_abar * (1.0 - s.b), beta: -by_abar * s.a }
    }

    /// The gradient by the log-odds of each beta. `sums` has for each step what its samples gave, already in the scale
    /// of the mean loss; the ends, of a sample of `n` elements, are added with weight `of_ends`. The first beta is held
    /// fixed.
    pub fn by_log_odds(&self, sums: &[BySchedule], n: usize, of_ends: f64, out: &mut [f64]) {
        // By ln abar behind each step, from the last one on: the entropy of the end.
        let total = self.steps.last().map_or(0.0, |s| s.abar);
        let mut behind = of_ends * n as f64 * 0.5 * total / (1.0 - total);
        for (i, ((s, by), out)) in self.steps.iter().zip(sums).zip(out).enumerate().rev() {
            // d beta = beta (1 - beta) du, and d ln abar = -beta du for all that follow.
            *out = if i == 0 { 0.0 } else { by.beta * s.b * (1.0 - s.b) - s.b * behind };
            behind += by.before * s.a;
        }
    }

    /// Calls `note` with each element's number, x_0, x_t, what was read, and the slopes by mean and variance.
    #[allow(clippy::type_complexity)] // The one place where it is called is above.
    fn elements(
        &self,
        t: usize,
        s: &Step,
        (x0, x_t): (&[f32], &[f32]),
        output: &[f32],
        gradient: &mut [f32],
        note: &mut dyn FnMut(usize, f64, f64, &Read, f64, f64),
    ) -> f64 {
        let n = x0.len();
        let w = self.times().len() as f64;
        let (means, sigmas) = output.split_at(n.min(output.len()));
        let (by_means, by_sigmas) = gradient.split_at_mut(n.min(output.len()));
        let mut sum = 0.0;
        for (i, (((&x0, &x), &z), by_z)) in x0.iter().zip(x_t).zip(means).zip(by_means).enumerate() {
            let (x0, x) = (f64::from(x0), f64::from(x));
            let r = self.read(s, x, f64::from(z), sigmas.get(i).map_or(0.0, |&z| f64::from(z)));
            let (target, variance) = if t == 0 { (x0, 0.0) } else { (s.p * x0 + s.q * x, s.variance) };
            let d = r.mean - target;
            // At the end the chain adds nothing, and its density is that of beta.
            let spread = if t == 0 { s.b } else { r.variance };
            let by_mean = d / spread;
            let by_sigma = if t == 0 { 0.0 } else { 0.5 * (1.0 - (variance + d * d) / spread) / spread };
            sum += if t == 0 {
                0.5 * (d * d / spread + libm::log(2.0 * PI * spread))
            } else {
                0.5 * ((variance + d * d) / spread - 1.0 - libm::log(variance / spread))
            };
            *by_z = (w * by_mean * r.mean_by_z) as f32;
            if let Some(by_sigma_z) = by_sigmas.get_mut(i) {
                *by_sigma_z = (w * (by_sigma + by_mean * r.mean_by_variance) * r.variance_by_z) as f32;
            }
            note(i, x0, x, &r, by_mean, by_sigma);
        }
        w * sum
    }
}

impl Loss for GaussianBound {
    fn times(&self) -> Range<usize> {
        match self.end {
            End::Entropies => 1..self.last,
            End::Network => 0..self.last,
        }
    }

    fn output_len(&self, n: usize) -> usize {
        match self.readout {
            Readout2015::Prediction(_) => n,
            Readout2015::Code | Readout2015::Paper => n.saturating_mul(2),
        }
    }

    fn corrupt(&self, t: usize, x0: &[f32], noise: &mut Stream, x_t: &mut [f32]) {
        let Some(s) = self.steps.get(t) else { return };
        let (alpha, sigma) = (libm::sqrt(s.abar), libm::sqrt(s.v));
        x_t.iter_mut().zip(x0).for_each(|(to, &x0)| *to = (alpha * f64::from(x0) + sigma * noise.normal()) as f32);
    }

    fn evaluate(&self, t: usize, x0: &[f32], x_t: &[f32], output: &[f32], gradient: &mut [f32]) -> f64 {
        let Some(s) = self.steps.get(t) else { return f64::NAN };
        self.elements(t, s, (x0, x_t), output, gradient, &mut |_, _, _, _, _, _| {})
    }

    fn constant(&self, n: usize) -> f64 {
        let (Some(first), Some(last)) = (self.steps.first(), self.steps.get(self.last.saturating_sub(1))) else {
            return 0.0;
        };
        let start = match self.end {
            End::Entropies => normal_entropy(first.b),
            End::Network => 0.0,
        };
        n as f64 * (start - normal_entropy(1.0 - last.abar) + normal_entropy(1.0))
    }

    fn is_bound(&self) -> bool {
        true
    }
}
