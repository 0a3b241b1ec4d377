//! The reverse step, one file per algorithm: pure functions of what they are given.
//!
//! A [`Sampler`] holds everything that is known before a run: the noise levels and the scalars of each step. It draws
//! no random number, calls no network and keeps no history; the chain (or another engine) owns x, the noise and the
//! state buffers and passes them in. So a step can be repeated, saved, split over batches and restored.
//!
//! One step is one network call, also for methods that make several calls per update: those keep what they need between
//! calls in the state. ([`SamplerKind::Rk45`] alone chooses its calls itself.) A step has three parts, so that
//! evidence can act in between:
//!
//! 1. [`Sampler::predict`]: the network's output becomes x_0 (clipped or thresholded) and eps;
//! 2. [`Sampler::mean`]: x_t, x_0 and eps become the mean of x_s;
//! 3. [`Sampler::spread`]: x_s = mean + spread * z with z standard normal; in a binary chain, x_s is 1 with the mean as
//!    its probability, and in a chain of classes each class has its own.
//!
//! ```
//! use undiffuse::sampler::{SamplerOptions, SchedulerConfig, StepIo, Steps};
//!
//! let config = SchedulerConfig::from_json(r#"{"_class_name": "DDIMScheduler", "clip_sample": false}"#)?;
//! let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(50), ..Default::default() })?;
//! assert_eq!(sampler.levels().len(), 50);
//!
//! // One step of two values, driven by hand: x_t and the network's output give x_s and x_0.
//! let (x, output, mut scratch) = ([0.3, -0.2], [0.1, 0.4], [0.0; 2]);
//! let (mut next, mut x0) = ([0.0; 2], [0.0; 2]);
//! sampler.step(0, 0, StepIo {
//!     x: &x, output: &mut output.clone(), noise: &[], state: &[], next_state: &mut [],
//!     eps: &mut scratch, x0: &mut x0, next: &mut next,
//! })?;
//! # Ok::<(), undiffuse::Error>(())
//! ```

mod ancestral2015;
mod bits2015;
mod conditional;
mod config;
mod consistency;
mod d3pm;
mod ddim;
mod ddim_inverse;
mod ddpm;
mod decoupled;
mod deis;
mod dpm_solver;
mod edm;
#[cfg(feature = "embed")]
mod emits;
mod euler;
mod euler_maruyama;
mod flow;
mod heun;
mod input_optimization;
mod karras_ve;
mod kdpm2;
mod kind;
mod lahmc;
mod lms;
mod options;
mod path;
mod plan;
mod pndm;
mod precondition;
mod probability_flow;
mod repaint;
mod rk45;
mod sa_solver;
mod score_sde;
mod setup;
mod solvers;
mod split_gibbs;
mod strength;
mod unipc;

pub use ancestral2015::{Ending2015, Readout2015};
pub use bits2015::BitPrediction;
pub use config::{
    AlgorithmType, Chain2015, D3pmConfig, FinalSigmas, GridConfig, Interpolation, SchedulerConfig, SigmaSchedule,
    SolverConfig, SolverType, TimeShift, TimestepType,
};
pub use d3pm::ClassPrediction;
pub(crate) use d3pm::draw_classes;
pub use ddim::{DdimNoise, DdimPrevious};
pub use ddpm::VarianceType;
pub use kind::SamplerKind;
pub use options::{Churn, Compat, SamplerOptions, Sigmas, Steps};
pub use plan::{Call, CallNoise, Mix, Of, Plan, Term, Update};
pub use precondition::{ModelPreconditioning, PreconditioningRule};
pub use repaint::Jumps;
pub use split_gibbs::Ladder;
pub use strength::start_of_strength;
pub(crate) use strength::{check_start, level_of_start};

// What makes each sampler by hand. `SchedulerConfig::sampler` is the door; these are for tests and benches, which hold
// a solver alone to its equations, and may change in any version.
#[doc(hidden)]
pub use self::{
    ancestral2015::Ancestral2015,
    bits2015::Bits2015,
    conditional::conditional_std,
    config::Given,
    consistency::{consistency, lcm, tcd},
    d3pm::{D3pm, classes_of},
    ddim::{DdimOptions, ddim},
    ddim_inverse::ddim_inverse,
    ddpm::ddpm,
    decoupled::decoupled_annealing,
    deis::deis,
    dpm_solver::{
        MultistepOptions, brownian_intervals, dpm_solver_multistep, dpm_solver_multistep_inverse, dpm_solver_sde,
        dpm_solver_singlestep,
    },
    euler::{churned_euler, euler, euler_ancestral},
    euler_maruyama::{ContinuousOptions, TimeSpacing, euler_maruyama},
    flow::{flow_euler, flow_heun, flow_lcm},
    heun::heun,
    input_optimization::input_optimization,
    karras_ve::churned_heun,
    kdpm2::{kdpm2, kdpm2_ancestral},
    lahmc::{Energy, LookAheadHmc, LookAheadOptions, Move, Particle},
    lms::lms,
    options::DEFAULT_STEPS,
    path::{Path, Preconditioning, ScoreUnit},
    plan::MAX_HISTORY,
    pndm::{PndmOptions, ipndm, pndm},
    precondition::PreconditionedCall,
    probability_flow::ProbabilityFlow,
    repaint::repaint,
    rk45::{Adaptive, Integration, Network, Rk45, Rk45Options, rk45},
    sa_solver::{SaSolverOptions, sa_solver},
    score_sde::{ScoreSdeOptions, score_sde_ve, score_sde_vp},
    split_gibbs::split_gibbs,
    unipc::{UniPcOptions, unipc},
};

/// What samplers that are parts of a program are made of. For generated code.
#[doc(hidden)]
pub mod parts {
    pub use crate::sampler::ancestral2015::Step as AncestralStep;
    pub use crate::sampler::bits2015::Step as BitsStep;
}

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::error::{Result, check_finite, ensure, err};
use crate::noise::Fingerprint;
#[doc(hidden)]
pub use crate::process::Prediction;
pub use crate::process::{Linear, PredictionType, SampleClip};
use crate::schedule::Level;

/// How much noise a step adds to its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Spread {
    /// None: x_s is the mean.
    None,
    /// The same standard deviation for every element.
    Scalar(f32),
    /// A standard deviation for each element, found in the second half of the output buffer.
    PerElement,
    /// A step of Langevin dynamics whose size follows from the draw: with g the score, which is the network's output,
    /// x_s = mean + h g + sqrt(2 h) z, h = 2 (snr |z| / |g|)^2 (Song et al. 2021, algorithm 4).
    Langevin {
        /// The signal-to-noise ratio.
        snr: f32,
    },
    /// x_s is 1 where a uniform value is below the mean, which is a probability, and 0 elsewhere.
    Bits,
    /// x_s is one-hot in rows of `count` values, of which the mean has the probabilities; see [`D3pm`].
    Classes {
        /// Classes at each position.
        count: usize,
    },
}

/// What a sample's elements are, and with it the noise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum StateSpace {
    /// Real numbers; noise is standard normal and x_T is noise times [`Sampler::initial_scale`].
    #[default]
    Real,
    /// 0 or 1; noise is uniform in [0, 1) and x_T is 1 where it is below `ones`.
    Bits {
        /// The chance of a 1 in x_T.
        ones: f32,
    },
    /// Rows of `count` values, 1 for the class of a position and 0 for the others; noise is uniform in [0, 1), a value
    /// for each of these, and x_T is any class, all alike, or the mask.
    Classes {
        /// Classes at each position.
        count: usize,
        /// The class that every position of x_T has, of a process that has one.
        mask: Option<usize>,
    },
}

impl StateSpace {
    /// Makes x_T, whole samples, of its noise: standard normal for real numbers, which `scale` multiplies, otherwise
    /// uniform in [0, 1).
    pub fn first(&self, scale: f32, noise: &mut [f32]) {
        match *self {
            Self::Real => noise.iter_mut().for_each(|v| *v *= scale),
            Self::Bits { ones } => noise.iter_mut().for_each(|v| *v = if *v < ones { 1.0 } else { 0.0 }),
            Self::Classes { count, mask } => noise.chunks_exact_mut(count.max(1)).for_each(|row| {
                // All alike: the class of the largest value.
                let class = mask.or_else(|| classes_of(row, count).next());
                row.iter_mut().enumerate().for_each(|(k, v)| *v = if Some(k) == class { 1.0 } else { 0.0 });
            }),
        }
    }
}

/// What [`Sampler::mean`] reads. All slices have the length of one sample.
#[derive(Clone, Copy, Debug)]
pub struct Estimate<'a> {
    /// x_t.
    pub x: &'a [f32],
    /// The predicted x_0, as [`Sampler::predict`] gave it or as evidence changed it.
    pub x0: &'a [f32],
    /// The predicted noise, likewise.
    pub eps: &'a [f32],
}

/// The buffers of [`Sampler::step`], all of one sample of n values.
#[derive(Debug)]
pub struct StepIo<'a> {
    /// x_t, n values.
    pub x: &'a [f32],
    /// The network's output, n or 2 n values. The second half, a learned variance, becomes standard deviations.
    pub output: &'a mut [f32],
    /// Standard normal values (uniform ones for bits and classes), n of them, or empty where [`Sampler::needs_noise`]
    /// is false.
    pub noise: &'a [f32],
    /// The state before the step, [`Sampler::state_len`] values.
    pub state: &'a [f32],
    /// The state after it.
    pub next_state: &'a mut [f32],
    /// Receives the predicted noise.
    pub eps: &'a mut [f32],
    /// Receives the predicted x_0.
    pub x0: &'a mut [f32],
    /// Receives x_s.
    pub next: &'a mut [f32],
}

/// A reverse process with its steps fixed.
///
/// All methods that take `step` return kind `InvalidArgument` where it is not below `levels().len()`, and kind `Shape`
/// where a buffer has the wrong length. Buffers must not overlap, which the borrow checker sees to.
///
/// Accuracy: scalars are computed as [`Arithmetic`](crate::schedule::Arithmetic) says and rounded once to f32; elements
/// are f32, one rounding per operation in the order of the documented formula, without fused operations.
pub trait Sampler {
    /// The algorithm's name, for messages.
    fn name(&self) -> &'static str;

    /// What the elements of x are.
    fn space(&self) -> StateSpace {
        StateSpace::Real
    }

    /// The level of each network call, in the order of the calls.
    fn levels(&self) -> &[Level];

    /// The level that step `step` leads to; after the last, the level of the result.
    fn target(&self, step: usize) -> Result<Level>;

    /// The standard deviation of x_T: draw 0 is multiplied by it.
    fn initial_scale(&self) -> f32 {
        1.0
    }

    /// What x_t is multiplied by before it is given to the network at step `step`.
    fn input_scale(&self, step: usize) -> f32 {
        let _ = step;
        1.0
    }

    /// f32 values of history that a sample of n values carries from step to step.
    fn state_len(&self, n: usize) -> usize {
        let _ = n;
        0
    }

    /// Whether the x_s of step `step` is a state of the chain. False for an inner stage of a method that makes several
    /// calls for one step, as the first of Heun's two: observers and evidence's kernel and merge pass over it, and a
    /// chain cannot start behind it.
    fn settles(&self, step: usize) -> bool {
        let _ = step;
        true
    }

    /// Whether evidence can act in its steps: not where the size of a step follows from its draw. (Steps without a
    /// prediction are passed over.)
    fn takes_evidence(&self) -> bool {
        true
    }

    /// Whether the network is called at step `step`. Where not, what it would give is not used, so calling it costs
    /// time alone; observers and evidence pass over such a step.
    fn calls_network(&self, step: usize) -> bool {
        let _ = step;
        true
    }

    /// What makes the steps where the sampler chooses its network calls by what they give; then [`Sampler::levels`] are
    /// those at which x is seen, and not those of the calls.
    #[doc(hidden)]
    fn adaptive(&self) -> Option<&dyn Adaptive> {
        None
    }

    /// Whether the predicted x_0 is the mean of x_0 given x_t, as most evidence takes it. False for samplers of
    /// distilled networks, whose x_0 is another, and for steps with churn, which predict it beyond x_t.
    fn predicts_mean(&self) -> bool {
        true
    }

    /// Whether a call makes the x at which it was made anew from the x before it, as the corrector of UniPC does: what
    /// evidence did to that x itself, and not to x_0, is then lost.
    fn remakes_x(&self) -> bool {
        false
    }

    /// Whether step `step` adds noise.
    fn needs_noise(&self, step: usize) -> bool;

    /// Whether a network with `output_len` values per sample of n values suits. `Err` (kind `Shape`) says what is
    /// expected. Most samplers take n, or 2 n and leave the second half, a learned variance, unread.
    fn check_output_len(&self, n: usize, output_len: usize) -> Result<()> {
        ensure!(
            output_len == n || Some(output_len) == n.checked_mul(2),
            Shape,
            "the network gives {output_len} values for a sample of {n}, expected as many, or twice as many"
        );
        Ok(())
    }

    /// r where a predicted x_0 is clamped to plus or minus r.
    fn sample_range(&self) -> Option<f32> {
        None
    }

    /// x_0 before clipping as a linear function of x_t and the network's output, and eps likewise. Evidence that
    /// needs the Jacobian of x_0 combines it with the network's.
    fn linear(&self, step: usize) -> Result<Linear>;

    /// Part 1: `x`, n values, and `output`, n or 2 n values, give `x0` and `eps`, n values each.
    fn predict(&self, step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()>;

    /// Part 2: writes the mean of x_s. `done` is the number of steps made before this one in this run, 0 where the
    /// state holds nothing yet. `next_state` is written whole.
    fn mean(
        &self,
        step: usize,
        done: usize,
        estimate: Estimate<'_>,
        state: &[f32],
        next_state: &mut [f32],
        mean: &mut [f32],
    ) -> Result<()>;

    /// Part 3: the standard deviation around the mean for a sample of n values. With a learned variance the second half
    /// of `output` is replaced by each element's standard deviation.
    ///
    /// Errors: kind `NonFinite` if a learned variance is negative or too large.
    fn spread(&self, step: usize, n: usize, output: &mut [f32]) -> Result<Spread>;

    /// A number that differs between samplers which compute different steps.
    fn fingerprint(&self) -> u64;

    /// The sampler as a part of a program: its type and an expression. Errors: kind `Unsupported` where it cannot be
    /// one.
    #[doc(hidden)]
    #[cfg(feature = "embed")]
    fn emit(&self, to: &mut crate::emit::Emitter) -> Result<(&'static str, alloc::string::String)> {
        let _ = to;
        Err(err!(Unsupported, "{} cannot be a part of a program", self.name()))
    }

    /// All three parts for one sample: x_s and x_0 without evidence. The parts take values as they are; this looks at
    /// what enters and what leaves, since clipping would make a number of an infinity.
    ///
    /// Errors: those of the parts; kind `NonFinite` for NaN or infinity in `x`, `output`, `noise` or `state`, or in
    /// what the step makes of them.
    fn step(&self, step: usize, done: usize, io: StepIo<'_>) -> Result<()> {
        let n = io.x.len();
        check_before(&io)?;
        self.predict(step, io.x, io.output, io.x0, io.eps)?;
        let spread = self.spread(step, n, io.output)?;
        let estimate = Estimate { x: io.x, x0: io.x0, eps: io.eps };
        self.mean(step, done, estimate, io.state, io.next_state, io.next)?;
        add_noise(spread, io.output, io.noise, io.next)?;
        check_after(io.x0, io.next_state, io.next)
    }
}

/// What [`Sampler::step`] is given.
fn check_before(io: &StepIo<'_>) -> Result<()> {
    check_finite("x_t", io.x)?;
    check_finite("the model's output", io.output)?;
    check_finite("the noise", io.noise)?;
    check_finite("the state", io.state)
}

/// What it gives.
fn check_after(x0: &[f32], next_state: &[f32], next: &[f32]) -> Result<()> {
    check_finite("the predicted x_0", x0)?;
    check_finite("the state after the step", next_state)?;
    check_finite("x after the step", next)
}

/// Adds `spread` times `noise` to the mean in `next`, or draws bits. `output` is what [`Sampler::spread`] left.
///
/// Errors: kind `Shape` if noise is needed and has not the length of `next`.
#[doc(hidden)]
pub fn add_noise(spread: Spread, output: &[f32], noise: &[f32], next: &mut [f32]) -> Result<()> {
    let n = next.len();
    match spread {
        Spread::None => {}
        Spread::Scalar(std) => {
            check_len("noise", noise.len(), n)?;
            next.iter_mut().zip(noise).for_each(|(x, z)| *x += std * z);
        }
        Spread::PerElement => {
            check_len("noise", noise.len(), n)?;
            let std = output.get(n..).unwrap_or(&[]);
            check_len("standard deviations", std.len(), n)?;
            next.iter_mut().zip(std).zip(noise).for_each(|((x, std), z)| *x += std * z);
        }
        Spread::Langevin { snr } => {
            check_len("noise", noise.len(), n)?;
            let score = output.get(..n).unwrap_or(&[]);
            check_len("the score", score.len(), n)?;
            let norm = |v: &[f32]| libm::sqrt(v.iter().map(|v| f64::from(*v) * f64::from(*v)).sum());
            let ratio = f64::from(snr) * norm(noise) / norm(score);
            let step = 2.0 * ratio * ratio;
            ensure!(step.is_finite(), NonFinite, "the score is 0, so a step by its length has no size");
            let (by_score, by_noise) = (step as f32, libm::sqrt(2.0 * step) as f32);
            next.iter_mut().zip(score).zip(noise).for_each(|((x, g), z)| *x += by_score * g + by_noise * z);
        }
        Spread::Bits => {
            check_len("noise", noise.len(), n)?;
            next.iter_mut().zip(noise).for_each(|(x, u)| *x = if *u < *x { 1.0 } else { 0.0 });
        }
        Spread::Classes { count } => {
            check_len("noise", noise.len(), n)?;
            draw_classes(count, noise, next);
        }
    }
    Ok(())
}

fn check_len(what: &str, got: usize, expected: usize) -> Result<()> {
    ensure!(got == expected, Shape, "{what} has {got} values, expected {expected}");
    Ok(())
}

/// What a sampler keeps for a step.
fn at_step<'a, T>(sampler: &str, list: &'a [T], step: usize) -> Result<&'a T> {
    let steps = list.len();
    list.get(step).ok_or_else(|| err!(InvalidArgument, "{sampler} step {step} does not exist, there are {steps}"))
}

/// That what [`Sampler::predict`] writes has n values each.
fn check_prediction(n: usize, x0: &[f32], eps: &[f32]) -> Result<()> {
    check_len("x_0", x0.len(), n)?;
    check_len("eps", eps.len(), n)
}

/// That a sampler without history is given none.
fn check_no_state(state: &[f32], next_state: &[f32]) -> Result<()> {
    check_len("the state", state.len(), 0)?;
    check_len("the next state", next_state.len(), 0)
}

fn prediction_fingerprint(f: Fingerprint, prediction: &Prediction) -> Fingerprint {
    let (clip, a, b) = match prediction.clip {
        SampleClip::None => (0, 0.0, 0.0),
        SampleClip::Range(r) => (1, r, 0.0),
        SampleClip::Dynamic { ratio, max } => (2, ratio, max),
    };
    f.u64(prediction.kind as u64).u64(u64::from(prediction.rederive_eps)).u64(clip).f32s(&[a, b])
}

macro_rules! forward {
    ($($of:ty),*) => {$(
        impl<S: Sampler + ?Sized> Sampler for $of {
            fn name(&self) -> &'static str {
                (**self).name()
            }
            fn space(&self) -> StateSpace {
                (**self).space()
            }
            fn levels(&self) -> &[Level] {
                (**self).levels()
            }
            fn target(&self, step: usize) -> Result<Level> {
                (**self).target(step)
            }
            fn initial_scale(&self) -> f32 {
                (**self).initial_scale()
            }
            fn input_scale(&self, step: usize) -> f32 {
                (**self).input_scale(step)
            }
            fn state_len(&self, n: usize) -> usize {
                (**self).state_len(n)
            }
            fn settles(&self, step: usize) -> bool {
                (**self).settles(step)
            }
            fn takes_evidence(&self) -> bool {
                (**self).takes_evidence()
            }
            fn calls_network(&self, step: usize) -> bool {
                (**self).calls_network(step)
            }
            fn adaptive(&self) -> Option<&dyn Adaptive> {
                (**self).adaptive()
            }
            fn predicts_mean(&self) -> bool {
                (**self).predicts_mean()
            }
            fn remakes_x(&self) -> bool {
                (**self).remakes_x()
            }
            fn needs_noise(&self, step: usize) -> bool {
                (**self).needs_noise(step)
            }
            fn check_output_len(&self, n: usize, output_len: usize) -> Result<()> {
                (**self).check_output_len(n, output_len)
            }
            fn sample_range(&self) -> Option<f32> {
                (**self).sample_range()
            }
            fn linear(&self, step: usize) -> Result<Linear> {
                (**self).linear(step)
            }
            fn predict(&self, step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()> {
                (**self).predict(step, x, output, x0, eps)
            }
            fn mean(
                &self,
                step: usize,
                done: usize,
                estimate: Estimate<'_>,
                state: &[f32],
                next_state: &mut [f32],
                mean: &mut [f32],
            ) -> Result<()> {
                (**self).mean(step, done, estimate, state, next_state, mean)
            }
            fn spread(&self, step: usize, n: usize, output: &mut [f32]) -> Result<Spread> {
                (**self).spread(step, n, output)
            }
            fn fingerprint(&self) -> u64 {
                (**self).fingerprint()
            }
            #[cfg(feature = "embed")]
            fn emit(&self, to: &mut crate::emit::Emitter) -> Result<(&'static str, alloc::string::String)> {
                (**self).emit(to)
            }
        }
    )*};
}

forward!(&S, Box<S>, Arc<S>);

#[cfg(test)]
mod tests;
