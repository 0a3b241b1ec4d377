//! The evaluation itself: rows of (data point, draw) at one step, batch by batch through the denoiser.

use alloc::vec::Vec;

use super::edges::{self, Ends};
use super::plan::{Plan, Space};
use super::report::mean_and_error;
use super::terms::{self, At};
use super::{Bound, BoundOptions, Edges, StepBound};
use crate::cancel::Cancel;
use crate::denoiser::{Call, Denoiser, check_gave};
use crate::error::{Result, ensure, err};
use crate::memory;
use crate::noise::NoiseSource;
use crate::process::{Posterior, reverse_entropy_bounds};
use crate::sampler::{Estimate, Sampler, classes_of, draw_classes};
use crate::schedule::Arithmetic;

/// How far an evaluation is: rows of the steps, out of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Rows that went through the denoiser.
    pub done: u64,
    /// Rows in all.
    pub total: u64,
}

/// Evaluates the bound K for `data`, `[samples, ...dims]` row by row, of the chain that `sampler` makes of `denoiser`.
///
/// Real chains want data in the scale that the model was trained on; bits are 0 or 1, classes one-hot rows. The
/// sampler's steps must each draw from a density: a 2015 chain or DDPM with any list of timesteps, not DDIM. For one of
/// fewer steps it is the bound of that shorter chain. Noise: draw d and step s of data point i take draw d (S + 1) +
/// s + 1 of sample i of `noise`, S the number of steps, and sampled steps the uniform values of draw d (S + 1); a
/// [`Seeded`](crate::noise::Seeded) source serves both spaces.
///
/// Memory is taken at the beginning: about batch (3 n + m) values of f32, n per sample and m of the denoiser's output,
/// and samples (draws + 2) of f64. Sums are f64; steps and network are f32 as in the chain.
///
/// Errors: kind `Shape` for data that are no whole samples or a denoiser that does not suit; `InvalidArgument` for no
/// data, options out of range or data that are not in their space; `Unsupported` for a sampler whose steps have no
/// density, or ends that it does not have; `NonFinite`, which names the step and the sample; `OutOfMemory`;
/// `Cancelled`; and what denoiser and noise meet.
pub fn bound(
    denoiser: &mut dyn Denoiser,
    sampler: &dyn Sampler,
    noise: &mut dyn NoiseSource,
    data: &[f32],
    options: &BoundOptions,
    cancel: &Cancel,
) -> Result<Bound> {
    bound_with(denoiser, sampler, noise, data, options, cancel, &mut |_| {})
}

/// As [`bound`], with an observer that is called after each network call.
pub fn bound_with(
    denoiser: &mut dyn Denoiser,
    sampler: &dyn Sampler,
    noise: &mut dyn NoiseSource,
    data: &[f32],
    options: &BoundOptions,
    cancel: &Cancel,
    observe: &mut dyn FnMut(Progress),
) -> Result<Bound> {
    #[cfg(feature = "std")]
    let start = std::time::Instant::now();
    let plan = Plan::new(denoiser, sampler, data, options)?;
    #[cfg_attr(not(feature = "std"), allow(unused_mut))]
    let mut report = Run::new(plan, denoiser, sampler, noise, data, options, cancel, observe)?.evaluate()?;
    #[cfg(feature = "std")]
    {
        report.seconds = start.elapsed().as_secs_f64();
    }
    Ok(report)
}

/// One row of a batch.
#[derive(Clone, Copy)]
struct Row {
    sample: usize,
    draw: usize,
}

struct Run<'a> {
    plan: Plan,
    denoiser: &'a mut dyn Denoiser,
    sampler: &'a dyn Sampler,
    noise: &'a mut dyn NoiseSource,
    data: &'a [f32],
    options: BoundOptions,
    cancel: &'a Cancel,
    observe: &'a mut dyn FnMut(Progress),
    rows: Vec<Row>,
    /// `[batch, n]`.
    x: Vec<f32>,
    /// `[batch, output]`.
    output: Vec<f32>,
    /// One row each of noise, x_0, eps and the mean; the noise is no longer needed when the mean is written.
    scratch: Vec<f32>,
    /// The chosen step of each (sample, draw, stratum); empty where all are made.
    chosen: Vec<u32>,
    /// For each (sample, draw): minus the weighted sum of the divergences, minus the network's end.
    sums: Vec<f64>,
    /// The sums over rows of the current step.
    step_kl: f64,
    step_entropy: f64,
    step_rows: u64,
    start: f64,
    calls: u64,
    done: u64,
    total: u64,
}

fn filled<T: Copy>(len: Option<usize>, value: T) -> Result<Vec<T>> {
    let len = len.ok_or_else(|| err!(OutOfMemory, "the evaluation is too large for this machine"))?;
    memory::filled("an evaluation", len, value)
}

impl<'a> Run<'a> {
    #[allow(clippy::too_many_arguments)] // The arguments of the public call, and its plan.
    fn new(
        plan: Plan,
        denoiser: &'a mut dyn Denoiser,
        sampler: &'a dyn Sampler,
        noise: &'a mut dyn NoiseSource,
        data: &'a [f32],
        options: &BoundOptions,
        cancel: &'a Cancel,
        observe: &'a mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let pairs = plan.count.checked_mul(options.draws);
        let batch = options.batch.min(pairs.unwrap_or(usize::MAX));
        let all = plan.strata == plan.kl_steps;
        let mut run = Self {
            plan,
            denoiser,
            sampler,
            noise,
            data,
            options: BoundOptions { batch, ..*options },
            cancel,
            observe,
            rows: Vec::new(),
            x: filled(batch.checked_mul(plan.n), 0.0)?,
            output: filled(batch.checked_mul(plan.output), 0.0)?,
            scratch: filled(plan.n.checked_mul(3), 0.0)?,
            chosen: if all { Vec::new() } else { filled(pairs.and_then(|p| p.checked_mul(plan.strata)), 0)? },
            sums: filled(pairs, 0.0)?,
            step_kl: 0.0,
            step_entropy: 0.0,
            step_rows: 0,
            start: 0.0,
            calls: 0,
            done: 0,
            total: 0,
        };
        run.rows = memory::room("a batch", batch)?;
        let visits = plan.strata as u64 + u64::from(plan.network_end);
        run.total = (run.sums.len() as u64).saturating_mul(visits);
        Ok(run)
    }

    /// The first draw number of a draw's noise.
    fn draw_base(&self, draw: usize) -> u64 {
        (draw as u64).wrapping_mul((self.sampler.levels().len() as u64).wrapping_add(1))
    }

    fn sample_number(&self, sample: usize) -> u64 {
        self.options.first_sample.wrapping_add(sample as u64)
    }

    /// Chooses the steps of each stratum, by the uniform values of each sample and draw.
    fn choose(&mut self) -> Result<()> {
        let strata = self.plan.strata;
        let mut uniform = filled(Some(strata), 0.0f32)?;
        for at in 0..self.chosen.len() / strata.max(1) {
            let (sample, draw) = (at / self.options.draws, at % self.options.draws);
            let (number, base) = (self.sample_number(sample), self.draw_base(draw));
            self.noise.uniform(number, base, strata, &mut uniform)?;
            let chosen = self.chosen.iter_mut().skip(at * strata).zip(&uniform);
            for (j, (chosen, u)) in chosen.enumerate() {
                let (from, to) = (self.plan.stratum(j), self.plan.stratum(j + 1));
                let inside = (f64::from(*u) * (to - from) as f64) as usize;
                *chosen = (from + inside).min(to - 1) as u32;
            }
        }
        Ok(())
    }

    fn evaluate(mut self) -> Result<Bound> {
        self.choose()?;
        let steps = self.sampler.levels().len();
        let mut reports = memory::room("the report of steps", self.plan.kl_steps)?;
        let mut stratum = 0;
        for (step, &level) in self.sampler.levels().iter().enumerate() {
            let is_end = step >= self.plan.kl_steps;
            if is_end && !self.plan.network_end {
                break;
            }
            while !is_end && self.plan.stratum(stratum + 1) <= step {
                stratum += 1;
            }
            let width = self.plan.stratum(stratum + 1) - self.plan.stratum(stratum);
            let previous = self.sampler.target(step)?.alpha_bar();
            let at = At {
                step,
                level,
                posterior: Posterior::new(level.alpha_bar(), previous, Arithmetic::Float64),
                previous,
                weight: if is_end { 1.0 } else { width as f64 },
                is_end,
            };
            let stratum = if is_end || self.chosen.is_empty() { None } else { Some(stratum) };
            self.step(&at, stratum).map_err(|e| {
                e.context(format_args!("step {} of {steps} (timestep {})", step.saturating_add(1), level.timestep))
            })?;
            let rows = self.step_rows.max(1) as f64;
            if is_end {
                self.start = self.step_kl / rows;
            } else {
                let (lower, upper) = self.entropy_bounds(&at);
                let (kl, entropy) = (self.step_kl / rows, self.step_entropy / rows);
                reports.push(StepBound { level, kl, entropy, lower, upper, rows: self.step_rows });
            }
        }
        self.report(reports)
    }

    /// All rows of one step: those whose choice in the stratum it is, or all.
    fn step(&mut self, at: &At, stratum: Option<usize>) -> Result<()> {
        (self.step_kl, self.step_entropy, self.step_rows) = (0.0, 0.0, 0);
        for draw in 0..self.options.draws {
            for sample in 0..self.plan.count {
                if let Some(j) = stratum {
                    let pair = sample * self.options.draws + draw;
                    if self.chosen.get(pair * self.plan.strata + j).is_none_or(|&c| c as usize != at.step) {
                        continue;
                    }
                    // What a sample's class is follows from its number, and a call names the first alone.
                    let gap = self.rows.last().is_some_and(|last| (last.sample + 1, last.draw) != (sample, draw));
                    if gap && self.denoiser.looks_at_numbers() {
                        self.call(at)?;
                    }
                }
                self.rows.push(Row { sample, draw });
                if self.rows.len() == self.options.batch {
                    self.call(at)?;
                }
            }
            if stratum.is_none() {
                // So the rows of a call are consecutive data points.
                self.call(at)?;
            }
        }
        self.call(at)
    }

    /// One network call for the rows that are collected.
    fn call(&mut self, at: &At) -> Result<()> {
        let (Some(&first), n, m) = (self.rows.first(), self.plan.n, self.plan.output) else { return Ok(()) };
        self.cancel.check()?;
        let rows = self.rows.len();
        for i in 0..rows {
            self.draw_x(at, i)?;
        }
        let call = Call { level: at.level, first_sample: self.sample_number(first.sample), cancel: self.cancel };
        let (x, output) = (self.x.get(..rows * n).unwrap_or(&[]), self.output.get_mut(..rows * m).unwrap_or(&mut []));
        self.denoiser.predict(&call, x, output)?;
        check_gave(self.denoiser.name(), &call, m, output)?;
        for i in 0..rows {
            self.judge(at, i)?;
        }
        self.rows.clear();
        self.calls += 1;
        self.done += rows as u64;
        (self.observe)(Progress { done: self.done, total: self.total });
        Ok(())
    }

    /// x_t of row `i`, drawn from q(x_t | x_0).
    fn draw_x(&mut self, at: &At, i: usize) -> Result<()> {
        let n = self.plan.n;
        let Some(&Row { sample, draw }) = self.rows.get(i) else { return Ok(()) };
        let (number, draw) = (self.sample_number(sample), self.draw_base(draw).wrapping_add(at.step as u64 + 1));
        let x0 = self.data.get(sample * n..).and_then(|d| d.get(..n)).unwrap_or(&[]);
        let x = self.x.get_mut(i * n..).and_then(|x| x.get_mut(..n)).unwrap_or(&mut []);
        let z = self.scratch.get_mut(..n).unwrap_or(&mut []);
        match &self.plan.space {
            Space::Real => {
                self.noise.normal(number, draw, n, z)?;
                crate::process::add_noise(&at.level, x0, z, x)
            }
            Space::Classes(process) => {
                self.noise.uniform(number, draw, n, z)?;
                let count = process.classes();
                for (x, x0) in x.chunks_exact_mut(count).zip(x0.chunks_exact(count)) {
                    let from = classes_of(x0, count).next().unwrap_or(0);
                    let chance = |k: usize| process.marginal(at.level.alpha_bar(), from, k) as f32;
                    x.iter_mut().enumerate().for_each(|(k, x)| *x = chance(k));
                }
                draw_classes(count, z, x);
                Ok(())
            }
            Space::Bits(process) => {
                self.noise.uniform(number, draw, n, z)?;
                let ones = [0.0, 1.0].map(|x0| process.marginal(at.level.alpha_bar(), x0) as f32);
                for ((x, &x0), &u) in x.iter_mut().zip(x0).zip(&*z) {
                    let one = if x0 >= 0.5 { ones[1] } else { ones[0] };
                    *x = if u < one { 1.0 } else { 0.0 };
                }
                Ok(())
            }
        }
    }

    /// What the network's output for row `i` costs.
    fn judge(&mut self, at: &At, i: usize) -> Result<()> {
        let (n, m) = (self.plan.n, self.plan.output);
        let Some(&Row { sample, draw }) = self.rows.get(i) else { return Ok(()) };
        let x0 = self.data.get(sample * n..).and_then(|d| d.get(..n)).unwrap_or(&[]);
        let x = self.x.get(i * n..).and_then(|x| x.get(..n)).unwrap_or(&[]);
        let output = self.output.get_mut(i * m..).and_then(|o| o.get_mut(..m)).unwrap_or(&mut []);
        let (mean, rest) = self.scratch.split_at_mut(n);
        let (predicted, eps) = rest.split_at_mut(n);
        self.sampler.predict(at.step, x, output, predicted, eps)?;
        let spread = self.sampler.spread(at.step, n, output)?;
        let estimate = Estimate { x, x0: predicted, eps };
        self.sampler.mean(at.step, 0, estimate, &[], &mut [], mean)?;
        let stds = output.get(n..).unwrap_or(&[]);
        let (cost, entropy) = match &self.plan.space {
            Space::Bits(process) => terms::bits(at, process, x0, x, mean),
            Space::Classes(process) => terms::classes(at, process, x0, x, mean),
            Space::Real if at.is_end => (terms::last_gaussian(at, self.options.edges, x0, mean, spread, stds), 0.0),
            Space::Real => terms::gaussian(at, x0, x, mean, spread, stds)?,
        };
        ensure!(
            cost.is_finite(),
            NonFinite,
            "the divergence of sample {} is {cost}; the denoiser \"{}\" or its spread is out of range",
            self.options.first_sample.wrapping_add(sample as u64),
            self.denoiser.name()
        );
        self.step_kl += cost;
        self.step_entropy += entropy;
        self.step_rows += 1;
        if let Some(sum) = self.sums.get_mut(sample * self.options.draws + draw) {
            *sum -= at.weight * cost;
        }
        Ok(())
    }

    /// Eq. 24 for a whole sample.
    fn entropy_bounds(&self, at: &At) -> (f64, f64) {
        let (abar, n) = (at.level.alpha_bar(), self.plan.space.dims(self.plan.n) as f64);
        let (lower, upper) = match &self.plan.space {
            Space::Real => reverse_entropy_bounds(abar, at.previous),
            Space::Classes(process) => {
                let count = process.classes();
                let rows = (self.data.len() / count) as f64;
                let share =
                    |k: usize| self.data.iter().skip(k).step_by(count).map(|&v| f64::from(v)).sum::<f64>() / rows;
                process.reverse_entropy_bounds(abar, at.previous, share)
            }
            Space::Bits(process) => {
                // The bounds are linear in the chance of a 1, so the mean over all elements will do.
                let ones = self.data.iter().map(|&b| f64::from(b)).sum::<f64>() / self.data.len() as f64;
                process.reverse_entropy_bounds(abar, at.previous, ones)
            }
        };
        (n * lower, n * upper)
    }

    fn report(self, steps: Vec<StepBound>) -> Result<Bound> {
        let Self { plan, options, sums, .. } = self;
        let white = options.edges != Edges::Entropies;
        let mut per_sample = filled(Some(plan.count), 0.0)?;
        let (mut ends, mut within) = (Ends::default(), 0.0);
        let count = plan.count as f64;
        for ((k, x0), sums) in
            per_sample.iter_mut().zip(self.data.chunks_exact(plan.n)).zip(sums.chunks_exact(options.draws))
        {
            let (mean, error) = mean_and_error(sums);
            within += error * error;
            let mut e = match &plan.space {
                Space::Real => edges::gaussian(x0, plan.first_beta, plan.last_abar, white),
                Space::Bits(process) => edges::binomial(x0, process, plan.first_beta, plan.last_abar, white),
                Space::Classes(process) => edges::categorical(x0, process, plan.last_abar),
            };
            if plan.network_end {
                // It is in the sums already.
                e.start = 0.0;
            }
            *k = mean - e.start + e.end - e.prior;
            ends.start += e.start / count;
            ends.end += e.end / count;
            ends.prior += e.prior / count;
        }
        if plan.network_end {
            ends.start = self.start;
        }
        let (k, standard_error) = mean_and_error(&per_sample);
        Ok(Bound {
            samples: plan.count,
            dims: plan.space.dims(plan.n),
            k,
            standard_error,
            monte_carlo_error: libm::sqrt(within) / count,
            l_null: plan.space.null(plan.n),
            kl: -k - ends.start + ends.end - ends.prior,
            start: ends.start,
            end: ends.end,
            prior: ends.prior,
            per_sample,
            steps,
            calls: self.calls,
            rows: self.done,
            seconds: f64::NAN,
        })
    }
}
