//! The loop: a resumable machine that carries a batch from x_T to x_0.
//!
//! A [`Chain`] owns its buffers and its position; the denoiser, the sampler and the noise source are the caller's, by
//! value or by reference. All memory is allocated when the chain is made; [`Chain::step`] allocates nothing (a denoiser
//! that allocates aside). After an error, a cancel or a stop the chain stands where its last whole step left it and may
//! go on. With [`Evidence`] it samples from p(x) r(x); every step calls the evidence at its three places.
//!
//! ```
//! use undiffuse::chain::{Chain, ChainOptions, Flow};
//! use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
//! use undiffuse::noise::Seeded;
//! use undiffuse::sampler::{PredictionType, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
//! use undiffuse::tensor::Dims;
//!
//! let mode = |m: f64| Component { weight: 1.0, mean: vec![m; 4], covariance: Covariance::Diagonal(vec![0.01; 4]) };
//! let prior = GaussianMixture::new(Dims::new(&[1, 2, 2])?, &[mode(-0.5), mode(0.5)], PredictionType::Epsilon)?;
//! let config = SchedulerConfig::new(SamplerKind::Ddim);
//! let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(20), ..Default::default() })?;
//!
//! let options = ChainOptions { batch: 3, ..Default::default() };
//! let mut chain = Chain::new(prior, sampler, Seeded::new(42), &options)?;
//! chain.run_with(undiffuse::chain::never(), |progress| {
//!     assert_eq!(progress.x.len(), 3 * 4);
//!     Flow::Continue
//! })?;
//! assert!(chain.x().iter().all(|v| v.abs() < 1.0));
//! # Ok::<(), undiffuse::Error>(())
//! ```

mod adaptive;
mod alone;
mod buffers;
mod builder;
mod from_data;
mod in_place;
mod jacobian;
mod noising;
mod particles;
mod save;

pub use builder::ChainBuilder;
pub use in_place::InPlace;
pub use particles::{ParticleOptions, Particles};

use crate::cancel::Cancel;
use crate::denoiser::{Call, Denoiser, check_gave};
use crate::error::{Result, ensure, err, first_non_finite};
use crate::noise::{Fingerprint, NoiseSource};
use crate::posterior::{At, Evidence, Kernel, NoEvidence};
use crate::sampler::{Estimate, Sampler, Spread, StateSpace, add_noise, check_start, conditional_std};
use crate::schedule::Level;
use alone::Alone;
use buffers::{Arena, Layout};
use jacobian::NetworkJacobian;

static NEVER: Cancel = Cancel::new();

/// A flag that nobody sets, for calls that need none.
pub fn never() -> &'static Cancel {
    &NEVER
}

/// Which samples a chain makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainOptions {
    /// Samples at once, at least 1.
    pub batch: usize,
    /// The number of the first of them. Sample i of a seed is the same in whatever batch or shard it is made.
    pub first_sample: u64,
}

impl Default for ChainOptions {
    fn default() -> Self {
        Self { batch: 1, first_sample: 0 }
    }
}

/// What an observer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop after this step. The chain can be continued.
    Stop,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There are steps left.
    Running,
    /// The last step is made; `x` is the result.
    Done,
}

/// What an observer sees after a step.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The step just made, from 0.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// The level at which the network was called; its `timestep` is diffusers' t.
    pub level: Level,
    /// The number of the first sample of the batch.
    pub first_sample: u64,
    /// x after the step, `[batch, ...dims]`.
    pub x: &'a [f32],
    /// The x_0 that the step predicted, after clipping: a preview.
    pub x0: &'a [f32],
}

/// A run of the reverse process over one batch.
///
/// The denoiser `D`, sampler `S`, noise source `N` and evidence `E` may be owned, boxed or borrowed.
pub struct Chain<'w, D, S, N, E = NoEvidence> {
    denoiser: D,
    sampler: S,
    noise: N,
    evidence: E,
    layout: Layout,
    arena: Arena<'w>,
    first_sample: u64,
    /// Samples in this run; at most the layout's batch.
    count: usize,
    step: usize,
    start: usize,
    /// What the model alone would have done in the last step, where particles ask for it.
    alone: Option<Alone>,
}

impl<D: Denoiser, S: Sampler, N: NoiseSource> Chain<'static, D, S, N> {
    /// A chain in memory of its own, at x_T; [`Chain::builder`] takes more.
    ///
    /// Errors: as [`ChainBuilder::build`].
    pub fn new(denoiser: D, sampler: S, noise: N, options: &ChainOptions) -> Result<Self> {
        Chain::with_evidence(denoiser, sampler, noise, NoEvidence, options)
    }
}

impl<D: Denoiser, S: Sampler, N: NoiseSource, E: Evidence> Chain<'static, D, S, N, E> {
    /// As [`Chain::new`], with evidence.
    pub fn with_evidence(denoiser: D, sampler: S, noise: N, evidence: E, options: &ChainOptions) -> Result<Self> {
        let parts = Chain::builder(denoiser, sampler, noise).evidence(evidence);
        parts.batch(options.batch).first_sample(options.first_sample).build()
    }
}

impl<'w, D: Denoiser, S: Sampler, N: NoiseSource, E: Evidence> Chain<'w, D, S, N, E> {
    fn assemble(
        denoiser: D,
        sampler: S,
        noise: N,
        evidence: E,
        options: ChainOptions,
        layout: Layout,
        arena: Arena<'w>,
    ) -> Result<Self> {
        let ChainOptions { batch, first_sample } = options;
        let (count, step, start) = (batch, 0, 0);
        let mut chain =
            Self { denoiser, sampler, noise, evidence, layout, arena, first_sample, count, step, start, alone: None };
        let dims = chain.denoiser.sample_dims();
        chain
            .evidence
            .bind(dims, &chain.sampler, batch)
            .map_err(|e| e.context(format_args!("the evidence \"{}\"", chain.evidence.name())))?;
        chain.restart(first_sample, batch)?;
        Ok(chain)
    }

    /// Begins again at x_T with the samples `first_sample` to `first_sample + count - 1`; `count` may be smaller than
    /// the batch the chain was made for, for a last, partial batch. Allocates nothing.
    ///
    /// Errors: kind `InvalidArgument` for a count of 0 or above the batch or numbers beyond `u64`; `NonFinite` for its
    /// noise; the noise source's. The chain is then where it was.
    pub fn restart(&mut self, first_sample: u64, count: usize) -> Result<()> {
        self.check_samples(first_sample, count)?;
        let n = self.layout.sample;
        let scale = self.sampler.initial_scale();
        let b = self.layout.split(self.arena.values(), self.layout.batch)?;
        // Drawn into the spare buffer first, so that a failure leaves x as it is.
        let whole = count * n;
        let fresh = b.spare.get_mut(..whole).ok_or_else(|| short("spare"))?;
        let space = self.sampler.space();
        match space {
            StateSpace::Real => self.noise.normal(first_sample, 0, n, fresh)?,
            StateSpace::Bits { .. } | StateSpace::Classes { .. } => self.noise.uniform(first_sample, 0, n, fresh)?,
        }
        space.first(scale, fresh);
        ensure!(all_finite(fresh), NonFinite, "the noise for x_T holds NaN or infinity");
        self.begin(first_sample, count, 0)
    }

    /// Begins in the middle: `x`, `[count, ...dims]`, is taken as x_t of step `step`, an x that the caller made;
    /// [`Chain::start_from_data`] noises data itself. `step` may be the number of steps, which makes a finished chain.
    ///
    /// Errors: as [`Chain::restart`]; kind `Shape` for a wrong length and `NonFinite` for NaN or infinity in `x`.
    pub fn start_from(&mut self, step: usize, x: &[f32], first_sample: u64) -> Result<()> {
        let n = self.layout.sample;
        let count = x.len() / n;
        self.check_samples(first_sample, count)?;
        ensure!(x.len() == count * n, Shape, "x has {} values, expected a multiple of {n}", x.len());
        check_start(&self.sampler, step)?;
        ensure!(all_finite(x), NonFinite, "the x to start from is not finite");
        let b = self.layout.split(self.arena.values(), self.layout.batch)?;
        b.spare.get_mut(..x.len()).ok_or_else(|| short("spare"))?.copy_from_slice(x);
        self.begin(first_sample, count, step)
    }

    fn check_samples(&self, first_sample: u64, count: usize) -> Result<()> {
        let batch = self.layout.batch;
        ensure!((1..=batch).contains(&count), InvalidArgument, "{count} samples at once, expected 1 to {batch}");
        ensure!(
            first_sample.checked_add(count as u64).is_some(),
            InvalidArgument,
            "the first sample is number {first_sample}, too large for {count} samples"
        );
        Ok(())
    }

    /// Takes what stands in the spare buffer as x.
    fn begin(&mut self, first_sample: u64, count: usize, step: usize) -> Result<()> {
        let b = self.layout.split(self.arena.values(), self.layout.batch)?;
        b.x.copy_from_slice(b.spare);
        b.x0.fill(0.0);
        b.state.fill(0.0);
        (self.first_sample, self.count, self.step, self.start) = (first_sample, count, step, step);
        Ok(())
    }

    /// The number of network calls of a whole run.
    pub fn steps(&self) -> usize {
        self.sampler.levels().len()
    }

    /// The next step, from 0; equal to [`Chain::steps`] when the run is done.
    pub fn position(&self) -> usize {
        self.step
    }

    /// Whether there are steps left.
    pub fn status(&self) -> Status {
        if self.step < self.steps() { Status::Running } else { Status::Done }
    }

    /// The number of the first sample.
    pub fn first_sample(&self) -> u64 {
        self.first_sample
    }

    /// The number of samples in this run.
    pub fn count(&self) -> usize {
        self.count
    }

    /// x at the current position, `[count, ...dims]`; the result once the run is done.
    pub fn x(&self) -> &[f32] {
        self.layout.x(self.arena.get(), self.count)
    }

    /// The x_0 predicted by the last step, after clipping; zeros before the first.
    pub fn x0(&self) -> &[f32] {
        self.layout.x0(self.arena.get(), self.count)
    }

    /// The denoiser.
    pub fn denoiser(&self) -> &D {
        &self.denoiser
    }

    /// The denoiser, to call it by hand between steps.
    pub fn denoiser_mut(&mut self) -> &mut D {
        &mut self.denoiser
    }

    /// The noise, to ask for draws by hand: each is the same whenever it is asked for, so that the run does not change.
    pub fn noise_mut(&mut self) -> &mut N {
        &mut self.noise
    }

    /// The sampler.
    pub fn sampler(&self) -> &S {
        &self.sampler
    }

    /// The evidence.
    pub fn evidence(&self) -> &E {
        &self.evidence
    }

    /// Makes one step, if there is one left.
    ///
    /// Errors: kind `NonFinite`, naming the step, where the denoiser or the step gives NaN or infinity; `Cancelled`;
    /// those of the denoiser and the noise source. The chain is then as before the call.
    pub fn step(&mut self) -> Result<Status> {
        self.step_with(never())
    }

    /// As [`Chain::step`], with a flag that stops it; the denoiser sees it too.
    pub fn step_with(&mut self, cancel: &Cancel) -> Result<Status> {
        let (step, steps) = (self.step, self.steps());
        let Some(&level) = self.sampler.levels().get(step) else { return Ok(Status::Done) };
        cancel.check()?;
        self.advance(step, level, cancel).map_err(|e| {
            e.context(format_args!("step {} of {steps} (timestep {})", step.saturating_add(1), level.timestep))
        })?;
        self.step = step + 1;
        Ok(self.status())
    }

    fn advance(&mut self, step: usize, level: Level, cancel: &Cancel) -> Result<()> {
        let (n, m) = (self.layout.sample, self.layout.output);
        let (s, k) = (self.layout.state, self.layout.kept);
        let b = self.layout.split(self.arena.values(), self.count)?;
        if !self.sampler.calls_network(step) {
            return self.advance_without_network(step);
        }
        if self.sampler.adaptive().is_some() {
            return self.advance_adaptively(step, cancel);
        }

        // The network, on x or on x scaled into the spare buffer, which is free until the mean is written.
        let scale = self.sampler.input_scale(step);
        let input: &[f32] = if scale == 1.0 {
            b.x
        } else {
            b.spare.iter_mut().zip(&*b.x).for_each(|(i, x)| *i = scale * x);
            b.spare
        };
        // What the network sees is at another level than x where it is scaled.
        let by = f64::from(scale);
        let seen = Level { alpha: by * level.alpha, sigma: by * level.sigma, ..level };
        let call = Call { level: seen, first_sample: self.first_sample, cancel };
        self.denoiser.predict(&call, input, b.output)?;
        check_gave(self.denoiser.name(), &call, m, b.output)?;

        // Part 1 and the spread, for all samples before anything is changed.
        let mut spread = Spread::None;
        for (((x, output), x0), eps) in
            chunks(b.x, n).zip(chunks_mut(b.output, m)).zip(chunks_mut(b.x0_next, n)).zip(chunks_mut(b.eps, n))
        {
            self.sampler.predict(step, x, output, x0, eps)?;
            spread = self.sampler.spread(step, n, output)?;
        }
        ensure!(all_finite(b.x0_next), NonFinite, "{} gave NaN or infinity for x_0", self.sampler.name());
        let at = At {
            step,
            steps: self.sampler.levels().len(),
            level,
            target: self.sampler.target(step)?,
            first_sample: self.first_sample,
            sample_len: n,
            range: self.sampler.sample_range(),
        };
        if let Some(alone) = &mut self.alone {
            alone.x0.copy_from_slice(b.x0_next);
            for i in 0..self.count {
                let estimate = Estimate { x: row(b.x, i, n), x0: row(b.x0_next, i, n), eps: row(b.eps, i, n) };
                let (_, state) = cut(row(b.state, i, s), k);
                let (_, next_state) = cut_mut(row_mut(b.next_state, i, s), k);
                let mean = row_mut(&mut alone.mean, i, n);
                self.sampler.mean(step, step - self.start, estimate, state, next_state, mean)?;
            }
        }
        let of_evidence = |e: crate::Error, name: &str| e.context(format_args!("the evidence \"{name}\""));
        if self.evidence.draws_x0() && spread != Spread::None {
            spread = Spread::Scalar(conditional_std(&self.sampler, step)? as f32);
        }
        if k > 0 {
            let kept = b.state.chunks_exact(s.max(1)).map(|state| cut(state, k).0);
            b.evidence.chunks_exact_mut(k).zip(kept).for_each(|(to, kept)| to.copy_from_slice(kept));
        }
        self.evidence
            .draw(&at, self.count, &mut self.noise, b.evidence)
            .map_err(|e| of_evidence(e, self.evidence.name()))?;
        let mut jacobian = NetworkJacobian {
            denoiser: &mut self.denoiser,
            call,
            input,
            scale,
            linear: if self.evidence.needs_vjp() { Some(self.sampler.linear(step)?) } else { None },
            cotangent: b.cotangent,
            sample: n,
            output: m,
        };
        self.evidence
            .estimate(&at, b.x, b.x0_next, b.eps, &mut jacobian, b.evidence)
            .map_err(|e| of_evidence(e, self.evidence.name()))?;
        ensure!(
            all_finite(b.x0_next) && all_finite(b.eps),
            NonFinite,
            "the evidence \"{}\" gave NaN or infinity for x_0 or eps",
            self.evidence.name()
        );

        let needs_noise = self.sampler.needs_noise(step);
        if needs_noise {
            let draw = (step as u64).saturating_add(1);
            match self.sampler.space() {
                StateSpace::Real => self.noise.normal(self.first_sample, draw, n, b.noise)?,
                StateSpace::Bits { .. } | StateSpace::Classes { .. } => {
                    self.noise.uniform(self.first_sample, draw, n, b.noise)?;
                }
            }
        }

        // Part 2 and 3, into the spare buffers.
        for i in 0..self.count {
            let estimate = Estimate { x: row(b.x, i, n), x0: row(b.x0_next, i, n), eps: row(b.eps, i, n) };
            let (_, state) = cut(row(b.state, i, s), k);
            let (_, next_state) = cut_mut(row_mut(b.next_state, i, s), k);
            self.sampler.mean(step, step - self.start, estimate, state, next_state, row_mut(b.spare, i, n))?;
        }
        let noise = if needs_noise { b.noise } else { &mut [] };
        let stds = match spread {
            Spread::PerElement => b.output.get_mut(n..).unwrap_or(&mut []),
            Spread::None | Spread::Scalar(_) | Spread::Langevin { .. } | Spread::Bits | Spread::Classes { .. } => {
                &mut []
            }
        };
        ensure!(all_finite(b.spare), NonFinite, "the step of {} gave NaN or infinity", self.sampler.name());
        // The state that an inner stage leads to is replaced by a later call.
        let settles = self.sampler.settles(step);
        if settles {
            let kernel = Kernel { mean: b.spare, noise: &mut *noise, spread, stds, std_stride: m };
            self.evidence.kernel(&at, b.x, kernel, b.evidence).map_err(|e| of_evidence(e, self.evidence.name()))?;
        }
        ensure!(
            all_finite(b.spare) && all_finite(noise),
            NonFinite,
            "the evidence \"{}\" gave NaN or infinity for the mean or the noise of x",
            self.evidence.name()
        );
        if let Some(alone) = &mut self.alone {
            alone.compare(b.spare, noise);
        }
        for i in 0..self.count {
            add_noise(spread, row(b.output, i, m), row(noise, i, n), row_mut(b.spare, i, n))?;
        }
        if settles {
            self.evidence
                .merge(&at, b.x, b.spare, &mut self.noise, b.evidence)
                .map_err(|e| of_evidence(e, self.evidence.name()))?;
        }
        if k > 0 {
            let kept = b.next_state.chunks_exact_mut(s.max(1)).map(|state| cut_mut(state, k).0);
            b.evidence.chunks_exact(k).zip(kept).for_each(|(from, kept)| kept.copy_from_slice(from));
        }
        ensure!(
            all_finite(b.spare) && (k == 0 || all_finite(b.next_state)),
            NonFinite,
            "the evidence \"{}\" gave NaN or infinity for x",
            self.evidence.name()
        );

        // Only now does the chain move.
        b.x.copy_from_slice(b.spare);
        b.x0.copy_from_slice(b.x0_next);
        b.state.copy_from_slice(b.next_state);
        Ok(())
    }

    /// Gives each sample the place in the chain of the one that `ancestors` names, its noise excepted.
    fn take_ancestors(&mut self, ancestors: &[usize]) -> Result<()> {
        let (n, s) = (self.layout.sample, self.layout.state);
        let b = self.layout.split(self.arena.values(), self.count)?;
        for (i, &a) in ancestors.iter().enumerate().take(self.count) {
            row_mut(b.spare, i, n).copy_from_slice(row(b.x, a, n));
            row_mut(b.x0_next, i, n).copy_from_slice(row(b.x0, a, n));
            row_mut(b.next_state, i, s).copy_from_slice(row(b.state, a, s));
        }
        b.x.copy_from_slice(b.spare);
        b.x0.copy_from_slice(b.x0_next);
        b.state.copy_from_slice(b.next_state);
        Ok(())
    }

    /// Makes all steps that are left.
    ///
    /// Errors: as [`Chain::step`]; the chain can be run again from where it stopped.
    pub fn run(&mut self) -> Result<()> {
        self.run_with(never(), |_| Flow::Continue).map(|_| ())
    }

    /// As [`Chain::run`], with a flag that stops it and an observer that is called after each step. `Ok(Running)` means
    /// that the observer stopped it.
    pub fn run_with(&mut self, cancel: &Cancel, mut observer: impl FnMut(&Progress<'_>) -> Flow) -> Result<Status> {
        while self.status() == Status::Running {
            let step = self.step;
            self.step_with(cancel)?;
            if !self.sampler.settles(step) {
                continue;
            }
            let levels = self.sampler.levels();
            let Some(&level) = levels.get(step) else { break };
            let progress = Progress {
                step,
                steps: levels.len(),
                level,
                first_sample: self.first_sample,
                x: self.x(),
                x0: self.x0(),
            };
            if observer(&progress) == Flow::Stop {
                break;
            }
        }
        Ok(self.status())
    }

    /// What a saved chain must have in common with the one that takes it up.
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new()
            .u64(self.denoiser.fingerprint())
            .u64(self.sampler.fingerprint())
            .u64(self.noise.fingerprint())
            .u64(self.evidence.fingerprint());
        self.denoiser.sample_dims().as_slice().iter().fold(f, |f, &d| f.u64(d as u64)).finish()
    }
}

fn short(what: &str) -> crate::Error {
    err!(OutOfMemory, "the {what} buffer of the chain is too short")
}

fn all_finite(values: &[f32]) -> bool {
    first_non_finite(values).is_none()
}

/// Row `i` of `[rows, len]`; empty where there is none, and the callee then refuses the length.
fn row(values: &[f32], i: usize, len: usize) -> &[f32] {
    i.checked_mul(len).and_then(|at| values.get(at..)?.get(..len)).unwrap_or(&[])
}

fn row_mut(values: &mut [f32], i: usize, len: usize) -> &mut [f32] {
    i.checked_mul(len).and_then(|at| values.get_mut(at..)?.get_mut(..len)).unwrap_or(&mut [])
}

/// What the evidence keeps of a sample, and the sampler's state; the layout has room for both.
fn cut(state: &[f32], kept: usize) -> (&[f32], &[f32]) {
    state.split_at_checked(kept).unwrap_or((&[], state))
}

fn cut_mut(state: &mut [f32], kept: usize) -> (&mut [f32], &mut [f32]) {
    let kept = kept.min(state.len());
    state.split_at_mut(kept)
}

fn chunks(values: &[f32], len: usize) -> core::slice::ChunksExact<'_, f32> {
    values.chunks_exact(len.max(1))
}

fn chunks_mut(values: &mut [f32], len: usize) -> core::slice::ChunksExactMut<'_, f32> {
    values.chunks_exact_mut(len.max(1))
}

#[cfg(test)]
mod evidence_tests;
#[cfg(test)]
mod tests;
