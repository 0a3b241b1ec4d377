//! Learned betas: the gradient of the bound by beta_2 .. beta_T with frozen noise (the paper's 2.4.1).
//!
//! With x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) z and z held fixed, x_t depends on the betas, and with it the
//! network's output, so the network's vector-Jacobian product by its input enters. beta_1 is not learned: the bound
//! would drive it to 0. Only Gaussian chains have this gradient; the paper keeps the betas of binary ones fixed.
//!
//! All of it is f64 and takes the network as closures. The trainer's own,
//! [`GaussianBound`](super::loss::GaussianBound), is f32, derived apart from this one and held to it
//! (`tests/training/learned_betas.rs`).
//!
//! [`BoundGradient`] collects the gradient of the bound by the betas, [`LearnedBetas`] turns it into one by free
//! parameters. What was learned is written as the `trained_betas` of a scheduler configuration, and so travels in a
//! packed file.

use alloc::vec::Vec;

use crate::error::{Result, ensure, err};
use crate::process::normal_entropy;
use crate::sampler::Readout2015;
use crate::schedule::{Arithmetic, Betas, NoiseSchedule, TemporalBasis};

/// The least beta, and how far the largest stays below 1: the authors' numbers.
const LEAST: f64 = 1e-6;
const BELOW_ONE: f64 = 1e-5;

/// Writes the product of its first argument, a cotangent of the network's output, with the output's Jacobian by x_t to
/// its second.
pub type Vjp<'a> = dyn FnMut(&[f64], &mut [f64]) -> Result<()> + 'a;

/// Collects the value and the gradient by the betas of
///
/// ```text
/// -K = sum over t = 2 .. T of KL(q(x_(t-1) | x_t, x_0) || p(x_(t-1) | x_t)) + H(beta_1) - H(1 - abar_T) + H(1),
/// ```
///
/// H(v) = (1 + ln 2 pi v) / 2 per element, in nats (the paper's Eq. 14). Steps are counted from 0: step i has
/// beta_(i+1), maps x_(i+1) to x_i, and is the network's timestep i; the sum is over steps 1 .. T - 1.
///
/// ```
/// use undiffuse::sampler::Readout2015;
/// use undiffuse::training::betas::BoundGradient;
///
/// // A network that always gives z_mu = 0.1 x, z_Sigma = 0; one value, two steps.
/// let mut bound = BoundGradient::new(&[0.1, 0.4], Readout2015::Code)?;
/// let mut x = [0.0];
/// bound.noised(1, &[1.0], &[-0.5], &mut x)?;
/// let kl = bound.add(1, 1.0, &[1.0], &[-0.5], &[0.1 * x[0], 0.0], &mut |cotangent, gradient| {
///     gradient[0] = 0.1 * cotangent[0];
///     Ok(())
/// })?;
/// let cost = kl + bound.add_ends(1.0, 1);
/// let by_betas = bound.gradient();
/// assert!(cost.is_finite() && by_betas.len() == 2);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BoundGradient {
    betas: Vec<f64>,
    abars: Vec<f64>,
    readout: Readout2015,
    /// The derivatives by beta_t where it stands itself, and by abar_t, as if they were independent.
    by_beta: Vec<f64>,
    by_abar: Vec<f64>,
}

/// One element's KL and its derivatives.
#[derive(Clone, Copy, Debug, Default)]
struct Term {
    kl: f64,
    /// By beta_t and abar_(t-1) with x_t and the output held.
    beta: f64,
    previous: f64,
    /// By x_t with the output held, and by the output.
    x: f64,
    z_mu: f64,
    z_sigma: f64,
}

impl BoundGradient {
    /// For these betas, all within 0 and 1 (both excluded).
    ///
    /// Errors: kind `InvalidArgument` for betas that make no schedule or end in 1; `Unsupported` for
    /// [`Readout2015::Prediction`], whose Sigma is beta itself.
    pub fn new(betas: &[f64], readout: Readout2015) -> Result<Self> {
        let spec = Betas { num_train_timesteps: betas.len(), trained: Some(betas.to_vec()), ..Betas::default() };
        let schedule = NoiseSchedule::new(&spec, Arithmetic::Float64)?;
        let abars = schedule.alphas_cumprod().to_vec();
        ensure!(
            abars.last().is_some_and(|&a| a > 0.0) && betas.len() > 1,
            InvalidArgument,
            "betas can be learned of at least 2 steps, the last below 1; got {} steps",
            betas.len()
        );
        if let Readout2015::Prediction(_) = readout {
            return Err(err!(Unsupported, "the gradient by the betas needs a readout with a Sigma of its own"));
        }
        let zeros = alloc::vec![0.0; betas.len()];
        Ok(Self { betas: betas.to_vec(), abars, readout, by_beta: zeros.clone(), by_abar: zeros })
    }

    fn at(&self, step: usize) -> Result<(f64, f64, f64)> {
        let of = |list: &[f64], i: Option<usize>| i.and_then(|i| list.get(i)).copied();
        let found =
            of(&self.betas, Some(step)).zip(of(&self.abars, Some(step))).zip(of(&self.abars, step.checked_sub(1)));
        found.map(|((beta, abar), previous)| (beta, abar, previous)).ok_or_else(|| {
            err!(InvalidArgument, "step {step} of the bound, expected 1 to {}", self.betas.len().saturating_sub(1))
        })
    }

    /// Writes x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) z of a step, which the network is then run on.
    ///
    /// Errors: kind `Shape` for different lengths, `InvalidArgument` for a step outside of 1 .. T - 1.
    pub fn noised(&self, step: usize, x0: &[f64], z: &[f64], x: &mut [f64]) -> Result<()> {
        let (_, abar, _) = self.at(step)?;
        ensure!(
            x0.len() == x.len() && z.len() == x.len(),
            Shape,
            "x_0 of {} and noise of {} values for x_t of {}",
            x0.len(),
            z.len(),
            x.len()
        );
        x.iter_mut().zip(x0).zip(z).for_each(|((x, x0), z)| *x = libm::sqrt(abar) * x0 + libm::sqrt(1.0 - abar) * z);
        Ok(())
    }

    /// Adds the KL of one step of one sample, times `weight`, to the gradient, and returns it, times `weight`.
    ///
    /// `output` is the network's at [`BoundGradient::noised`]: z_mu, then z_Sigma. `vjp` is called once, with the
    /// derivative of the KL by the output, and writes the product of that with the output's Jacobian by x_t. One step
    /// drawn of T - 1 takes the weight T - 1.
    ///
    /// Errors: kind `Shape` for lengths that do not fit, `InvalidArgument` for a step outside of 1 .. T - 1,
    /// `NonFinite` for a KL or a product that is not finite, and those of `vjp`. The gradient is then as it was.
    pub fn add(
        &mut self,
        step: usize,
        weight: f64,
        x0: &[f64],
        z: &[f64],
        output: &[f64],
        vjp: &mut Vjp<'_>,
    ) -> Result<f64> {
        let n = x0.len();
        let (_, abar, _) = self.at(step)?;
        ensure!(
            Some(output.len()) == n.checked_mul(2),
            Shape,
            "the network gives {} values for a sample of {n}, expected twice as many",
            output.len()
        );
        let mut x = alloc::vec![0.0; n];
        self.noised(step, x0, z, &mut x)?;
        let (means, sigmas) = output.split_at(n);
        let mut terms = Vec::with_capacity(n);
        for ((x, x0), (z_mu, z_sigma)) in x.iter().zip(x0).zip(means.iter().zip(sigmas)) {
            terms.push(self.term(step, *x, *x0, *z_mu, *z_sigma)?);
        }
        let cotangent: Vec<f64> = terms.iter().map(|t| t.z_mu).chain(terms.iter().map(|t| t.z_sigma)).collect();
        let mut through = x;
        vjp(&cotangent, &mut through)?;
        let mut sum = Term::default();
        for (((t, through), x0), z) in terms.iter().zip(&through).zip(x0).zip(z) {
            sum.kl += weight * t.kl;
            sum.beta += weight * t.beta;
            sum.previous += weight * t.previous;
            // dx_t/d abar_t.
            let moves = 0.5 * (x0 / libm::sqrt(abar) - z / libm::sqrt(1.0 - abar));
            sum.x += weight * (t.x + through) * moves;
        }
        ensure!(
            [sum.kl, sum.beta, sum.previous, sum.x].iter().all(|v| v.is_finite()),
            NonFinite,
            "the bound's term of step {step} or its gradient is not finite"
        );
        let places = [(&mut self.by_beta, step, sum.beta), (&mut self.by_abar, step, sum.x)];
        for (list, i, value) in places {
            list.iter_mut().skip(i).take(1).for_each(|to| *to += value);
        }
        self.by_abar.iter_mut().skip(step - 1).take(1).for_each(|to| *to += sum.previous);
        Ok(sum.kl)
    }

    /// Adds H(beta_1) - H(1 - abar_T) + H(1) of `elements` elements, times `weight`, and returns it.
    pub fn add_ends(&mut self, weight: f64, elements: usize) -> f64 {
        let each = weight * elements as f64;
        let (Some(first), Some(last)) = (self.betas.first(), self.abars.last()) else { return 0.0 };
        let cost = normal_entropy(*first) - normal_entropy(1.0 - last) + normal_entropy(1.0);
        let (by_first, by_last) = (0.5 / first, 0.5 / (1.0 - last));
        self.by_beta.iter_mut().take(1).for_each(|to| *to += each * by_first);
        self.by_abar.iter_mut().rev().take(1).for_each(|to| *to += each * by_last);
        each * cost
    }

    /// The derivative of what was added by each beta. The first is not to be followed.
    pub fn gradient(&self) -> Vec<f64> {
        // d abar_s / d beta_r = - abar_s / (1 - beta_r) for r <= s.
        let mut out = self.by_beta.clone();
        let mut later = 0.0;
        for (((out, beta), abar), by_abar) in out.iter_mut().zip(&self.betas).zip(&self.abars).zip(&self.by_abar).rev()
        {
            later += abar * by_abar;
            *out -= later / (1.0 - beta);
        }
        out
    }

    fn term(&self, step: usize, x: f64, x0: f64, z_mu: f64, z_sigma: f64) -> Result<Term> {
        let (beta, abar, previous) = self.at(step)?;
        let keep = libm::sqrt(1.0 - beta);
        let d = 1.0 - abar;
        // q(x_(t-1) | x_t, x_0), as functions of beta and abar_(t-1) with abar_t = abar_(t-1) (1 - beta).
        let (d_beta, d_previous) = (previous, beta - 1.0);
        let root = libm::sqrt(previous);
        let v_q = beta * (1.0 - previous) / d;
        let of_x0 = root * beta / d;
        let of_x = keep * (1.0 - previous) / d;
        let mean_q = of_x0 * x0 + of_x * x;
        let v_q_beta = (1.0 - previous - v_q * d_beta) / d;
        let v_q_previous = (-beta - v_q * d_previous) / d;
        let mean_q_beta = x0 * (root - of_x0 * d_beta) / d - x * (0.5 * (1.0 - previous) / keep + of_x * d_beta) / d;
        let mean_q_previous = x0 * (0.5 * beta / root - of_x0 * d_previous) / d - x * (keep + of_x * d_previous) / d;

        // p(x_(t-1) | x_t): its variance is sigmoid(z_Sigma / divisor + logit beta).
        let divisor = match self.readout {
            Readout2015::Code => libm::sqrt(self.betas.len() as f64),
            Readout2015::Paper | Readout2015::Prediction(_) => 1.0,
        };
        let odds = beta / (1.0 - beta) * libm::exp(z_sigma / divisor);
        let v = odds / (1.0 + odds);
        let v_logit = v * (1.0 - v);
        let v_beta = v_logit / (beta * (1.0 - beta));
        // The mean and its derivatives: by x, z_mu, v, and by beta apart from v.
        let (mean, mean_x, mean_z, mean_v, mean_beta) = match self.readout {
            Readout2015::Code => {
                let root = libm::sqrt(beta);
                (x * keep + z_mu * root, keep, root, 0.0, 0.5 * (z_mu / root - x / keep))
            }
            Readout2015::Paper | Readout2015::Prediction(_) => {
                ((x - z_mu) * (1.0 - v) + z_mu, 1.0 - v, v, z_mu - x, 0.0)
            }
        };

        // KL = (ln v / v_q + (v_q + e^2) / v - 1) / 2 with e = mean_q - mean.
        let e = mean_q - mean;
        let by_e = e / v;
        let by_v = 0.5 * (1.0 - (v_q + e * e) / v) / v;
        let by_v_q = 0.5 * (1.0 / v - 1.0 / v_q);
        let through_v = by_v - by_e * mean_v;
        Ok(Term {
            kl: 0.5 * (libm::log(v / v_q) + (v_q + e * e) / v - 1.0),
            beta: by_v_q * v_q_beta + by_e * (mean_q_beta - mean_beta) + through_v * v_beta,
            previous: by_v_q * v_q_previous + by_e * mean_q_previous,
            x: by_e * (of_x - mean_x),
            z_mu: -by_e * mean_z,
            z_sigma: through_v * v_logit / divisor,
        })
    }
}

/// Betas as functions of free parameters that are 0 at the start:
/// beta_t = m + sigmoid(shift_t + l_t) (1 - m - 1e-5), m = 1e-6, with l_t such that the start's betas come out, for t =
/// 2 .. T. beta_1 stays.
#[derive(Clone, Debug)]
pub struct LearnedBetas {
    first: f64,
    /// l_t of t = 2 .. T.
    logits: Vec<f64>,
    /// g_j(t) row by row for shift = g^T c; none where each beta has its own shift.
    basis: Option<(usize, Vec<f64>)>,
}

impl LearnedBetas {
    /// shift_t = g(t)^T c with the authors' [`TemporalBasis`] of `functions` functions: a smooth schedule of few
    /// parameters.
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2 steps or functions, or too many.
    pub fn by_basis(start: &NoiseSchedule, functions: usize) -> Result<Self> {
        let steps = start.num_train_timesteps();
        let basis = TemporalBasis::new(steps, functions)?;
        let mut rows = alloc::vec![0.0; steps.saturating_sub(1).saturating_mul(functions)];
        for (i, row) in rows.chunks_exact_mut(functions).enumerate() {
            basis.at(i as f64 + 1.0, row)?;
        }
        Ok(Self { basis: Some((functions, rows)), ..Self::free(start)? })
    }

    /// A shift for each of beta_2 .. beta_T.
    ///
    /// Errors: kind `InvalidArgument` for fewer than 2 steps.
    pub fn free(start: &NoiseSchedule) -> Result<Self> {
        let Some((&first, rest @ [_, ..])) = start.betas().split_first() else {
            return Err(err!(InvalidArgument, "betas can be learned of at least 2 steps"));
        };
        // A beta at the end of the range, such as the paper's last, 1, goes just inside of it.
        let share = |beta: f64| ((beta - LEAST) / (1.0 - LEAST - BELOW_ONE)).clamp(1e-6, 1.0 - 1e-6);
        let logits = rest.iter().map(|&b| libm::log(share(b) / (1.0 - share(b)))).collect();
        Ok(Self { first, logits, basis: None })
    }

    /// How many parameters.
    pub fn parameters(&self) -> usize {
        self.basis.as_ref().map_or(self.logits.len(), |(functions, _)| *functions)
    }

    fn check(&self, parameters: &[f64]) -> Result<()> {
        ensure!(
            parameters.len() == self.parameters() && parameters.iter().all(|p| p.is_finite()),
            InvalidArgument,
            "{} parameters of learned betas, or one that is not finite, expected {}",
            parameters.len(),
            self.parameters()
        );
        Ok(())
    }

    /// sigmoid(shift_t + l_t) of t = 2 .. T.
    fn shares(&self, parameters: &[f64]) -> Vec<f64> {
        let shift = |i: usize| match &self.basis {
            None => parameters.get(i).copied().unwrap_or(0.0),
            Some((functions, rows)) => {
                let row = rows.chunks_exact(*functions).nth(i).unwrap_or(&[]);
                row.iter().zip(parameters).map(|(g, c)| g * c).sum()
            }
        };
        self.logits.iter().enumerate().map(|(i, l)| 1.0 / (1.0 + libm::exp(-l - shift(i)))).collect()
    }

    /// The betas, to be written as `trained_betas`.
    ///
    /// Errors: kind `InvalidArgument` for another number of parameters, or one that is not finite.
    pub fn betas(&self, parameters: &[f64]) -> Result<Vec<f64>> {
        self.check(parameters)?;
        let later = self.shares(parameters).into_iter().map(|s| LEAST + s * (1.0 - LEAST - BELOW_ONE));
        Ok(core::iter::once(self.first).chain(later).collect())
    }

    /// The gradient by the parameters of a cost whose gradient by the betas is given; the first beta's is left out.
    ///
    /// Errors: as [`LearnedBetas::betas`]; kind `Shape` for another number of betas.
    pub fn pull_back(&self, parameters: &[f64], by_betas: &[f64]) -> Result<Vec<f64>> {
        self.check(parameters)?;
        ensure!(
            by_betas.len() == self.logits.len() + 1,
            Shape,
            "a gradient by {} betas, expected {}",
            by_betas.len(),
            self.logits.len() + 1
        );
        let scale = |s: f64| s * (1.0 - s) * (1.0 - LEAST - BELOW_ONE);
        let by_shift = self.shares(parameters).into_iter().zip(by_betas.iter().skip(1)).map(|(s, g)| scale(s) * g);
        Ok(match &self.basis {
            None => by_shift.collect(),
            Some((functions, rows)) => {
                let mut out = alloc::vec![0.0; *functions];
                for (row, by_shift) in rows.chunks_exact(*functions).zip(by_shift) {
                    out.iter_mut().zip(row).for_each(|(out, g)| *out += g * by_shift);
                }
                out
            }
        })
    }
}

#[cfg(test)]
mod tests;
