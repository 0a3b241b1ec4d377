//! The step as data: what nearly every sampler is.
//!
//! A sampler of this kind is a list of network calls. Each says at which level the network is called, how x, the
//! predicted x_0 and eps and some arrays of history mix into the next x and history, and how much noise is added. The
//! functions beside this file ([`ddim`](super::ddim), [`unipc`](super::unipc), ...) compute these coefficients;
//! [`Plan`] is the one place that applies them, so a sampler's arithmetic can be read and compared without a sample.
//!
//! What is no such list keeps the trait [`Sampler`]: the chains of 2015, whose networks give more than a prediction.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::{
    Estimate, Linear, ModelPreconditioning, Prediction, PredictionType, SampleClip, Sampler, Spread, at_step,
    check_len, check_prediction, prediction_fingerprint,
};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::schedule::Level;

/// The most arrays of history that a plan may keep.
pub const MAX_HISTORY: usize = 6;

/// What a [`Term`] multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// x_t.
    X,
    /// The predicted x_0.
    X0,
    /// The predicted noise.
    Eps,
    /// An array of the history as it was before the step, counted from 0.
    History(usize),
}

/// `by` times `of`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// The array.
    pub of: Of,
    /// Its coefficient, rounded to f32 once, when it meets an element.
    pub by: f64,
}

/// A sum of terms, added in their order in f32, one rounding per operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mix(pub Cow<'static, [Term]>);

impl Mix {
    /// The sum of these terms.
    pub fn of(terms: &[(Of, f64)]) -> Self {
        Self(terms.iter().map(|&(of, by)| Term { of, by }).collect())
    }

    /// An array as it is.
    pub fn just(of: Of) -> Self {
        Self::of(&[(of, 1.0)])
    }

    /// This sum with every coefficient multiplied by `by`.
    pub fn scaled(mut self, by: f64) -> Self {
        self.0.to_mut().iter_mut().for_each(|t| t.by *= by);
        self
    }

    /// This sum and another: coefficients of the same array are added, so that each array occurs once.
    pub fn plus(mut self, other: &Self) -> Self {
        for term in other.0.iter() {
            match self.0.to_mut().iter_mut().find(|t| t.of == term.of) {
                Some(mine) => mine.by += term.by,
                None => self.0.to_mut().push(*term),
            }
        }
        self
    }

    /// The coefficient of an array, 0 where it does not occur.
    pub fn coefficient(&self, of: Of) -> f64 {
        self.0.iter().filter(|t| t.of == of).map(|t| t.by).sum()
    }

    fn is_finite(&self) -> bool {
        self.0.iter().all(|t| (t.by as f32).is_finite())
    }

    /// Writes the sum to `out`. The arrays have the length of `out`.
    fn apply(&self, arrays: &Arrays<'_>, out: &mut [f32]) {
        match &*self.0 {
            [] => out.fill(0.0),
            [only] if only.by == 1.0 => out.copy_from_slice(arrays.get(only.of)),
            // Almost every step has two terms: one pass over memory in place of two.
            [a, b, rest @ ..] => {
                let (x, y) = (arrays.get(a.of), arrays.get(b.of));
                let (by_x, by_y) = (a.by as f32, b.by as f32);
                out.iter_mut().zip(x).zip(y).for_each(|((out, x), y)| *out = by_x * x + by_y * y);
                for term in rest {
                    let by = term.by as f32;
                    out.iter_mut().zip(arrays.get(term.of)).for_each(|(out, x)| *out += by * x);
                }
            }
            [only] => {
                let by = only.by as f32;
                out.iter_mut().zip(arrays.get(only.of)).for_each(|(out, x)| *out = by * x);
            }
        }
    }
}

/// What a mix reads.
struct Arrays<'a> {
    estimate: Estimate<'a>,
    history: &'a [f32],
    n: usize,
}

impl Arrays<'_> {
    fn get(&self, of: Of) -> &[f32] {
        match of {
            Of::X => self.estimate.x,
            Of::X0 => self.estimate.x0,
            Of::Eps => self.estimate.eps,
            // Within the history: `Plan::new` has seen to the number, `Plan::mean` to the length.
            Of::History(i) => self.history.get(i * self.n..).and_then(|h| h.get(..self.n)).unwrap_or(&[]),
        }
    }
}

/// What a call does with its prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The mean of x_s.
    pub mean: Mix,
    /// The history after the call: as many arrays as the plan keeps, each a mix of what was there before.
    pub keep: Cow<'static, [Mix]>,
}

/// The noise that a call adds to its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CallNoise {
    /// None; no noise is drawn.
    None,
    /// Standard normal values times this.
    Std(f64),
    /// The second half of the network's output is the variance.
    Learned,
    /// The second half of the network's output, v in -1 ..= 1, moves between two logarithms of the variance: with f =
    /// (v + 1) / 2 it is exp(f `max_log` + (1 - f) `min_log`) (Nichol and Dhariwal 2021, eq. 15).
    LearnedRange {
        /// The logarithm at v = -1.
        min_log: f32,
        /// The logarithm at v = 1.
        max_log: f32,
    },
    /// See [`Spread::Langevin`]; of a network that gives the score.
    Langevin {
        /// The signal-to-noise ratio of the step.
        snr: f64,
    },
}

/// One network call and the step that follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The level of x_t.
    pub level: Level,
    /// The level of x_s.
    pub target: Level,
    /// alpha and sigma of `level` in f32, as the arithmetic of the schedule has them.
    pub factors: [f32; 2],
    /// What x_t is multiplied by before the network sees it.
    pub input_scale: f64,
    /// x_0 and eps from x_t and the output, where the type of the prediction and the level alone do not say it.
    pub linear: Option<Linear>,
    /// By the number of steps made before in this run, of which the last stands for all later ones: a method of high
    /// order begins with lower orders, wherever in the list it starts. At least one.
    pub updates: Cow<'static, [Update]>,
    /// The noise that is added.
    pub noise: CallNoise,
    /// Whether x_s is a state of the chain. False for an inner stage, as the first of Heun's two calls, whose x_s a
    /// later call replaces: observers and evidence pass over it.
    pub settles: bool,
    /// Whether the network is called. False for noise that is added before a call: the update then reads x and history
    /// alone, and a chain spares the call.
    pub evaluates: bool,
}

impl Call {
    /// A call from `level` to `target` without history, input scale or noise.
    pub fn new(level: Level, target: Level, mean: Mix) -> Self {
        Self {
            level,
            target,
            factors: [level.alpha as f32, level.sigma as f32],
            input_scale: 1.0,
            linear: None,
            updates: alloc::vec![Update { mean, keep: Cow::default() }].into(),
            noise: CallNoise::None,
            settles: true,
            evaluates: true,
        }
    }

    /// Noise of this standard deviation added to x at `level`, which leads to `target`, without a network call. Noise
    /// is drawn also where it is 0.
    pub fn noising(level: Level, target: Level, std: f64, history: usize) -> Self {
        let keep = (0..history).map(|i| Mix::just(Of::History(i))).collect();
        let updates = alloc::vec![Update { mean: Mix::just(Of::X), keep }].into();
        let noise = CallNoise::Std(std);
        Self { updates, noise, settles: false, evaluates: false, ..Self::new(level, target, Mix::default()) }
    }

    /// The same with noise of this standard deviation, none where it is 0.
    pub fn with_std(mut self, std: f64) -> Self {
        self.noise = if std > 0.0 { CallNoise::Std(std) } else { CallNoise::None };
        self
    }
}

/// A sampler as a list of calls. The lists may be statics: a program that is built for one sampler has it as a
/// constant.
///
/// ```
/// use undiffuse::process::Prediction;
/// use undiffuse::sampler::{DdimOptions, Of, Sampler, ddim};
/// use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
///
/// let schedule = NoiseSchedule::new(&Betas::default(), Arithmetic::Float64)?;
/// let plan = ddim(&schedule, &[750, 500, 250, 0], Prediction::default(), DdimOptions::default())?;
/// // x_s = sqrt(abar_s) x_0 + sqrt(1 - abar_s) eps.
/// let first = &plan.calls()[0];
/// assert!((first.updates[0].mean.coefficient(Of::X0) - first.target.alpha).abs() < 1e-7);
/// assert_eq!(plan.target(3)?.sigma, 0.0);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    #[doc(hidden)]
    pub name: &'static str,
    #[doc(hidden)]
    pub prediction: Prediction,
    #[doc(hidden)]
    pub history: usize,
    #[doc(hidden)]
    pub initial_scale: f64,
    #[doc(hidden)]
    pub calls: Cow<'static, [Call]>,
    #[doc(hidden)]
    pub levels: Cow<'static, [Level]>,
    #[doc(hidden)]
    pub predicts_mean: bool,
    #[doc(hidden)]
    pub fingerprint: u64,
}

impl Plan {
    /// A plan of these calls. `history` arrays of a sample's length are carried from call to call.
    ///
    /// Errors (kind `InvalidArgument`): no calls; a clip that is no range; a coefficient, level or standard deviation
    /// that is not finite; an update that keeps another number of arrays than `history`, or reads one that is not
    /// there; more than [`MAX_HISTORY`].
    pub fn new(
        name: &'static str,
        prediction: Prediction,
        history: usize,
        initial_scale: f64,
        calls: Vec<Call>,
    ) -> Result<Self> {
        prediction.check()?;
        ensure!(!calls.is_empty(), InvalidArgument, "{name} has no steps");
        ensure!(
            history <= MAX_HISTORY,
            InvalidArgument,
            "{name} keeps {history} arrays, expected at most {MAX_HISTORY}"
        );
        ensure!(
            (initial_scale as f32).is_finite() && initial_scale > 0.0,
            InvalidArgument,
            "{name} scales its first noise by {initial_scale}, expected a number above 0"
        );
        for (step, call) in calls.iter().enumerate() {
            call.check(name, step, history, &prediction)?;
        }
        let levels = calls.iter().map(|c| c.level).collect();
        let predicts_mean = true;
        let calls = calls.into();
        let mut plan = Self { name, prediction, history, initial_scale, calls, levels, predicts_mean, fingerprint: 0 };
        plan.fingerprint = plan.number();
        Ok(plan)
    }

    /// The same with another fingerprint: that of chains saved before a plan had one of its own.
    pub(super) fn with_fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = fingerprint.finish();
        self
    }

    /// The same calls of a network behind a preconditioning. Errors: as [`ModelPreconditioning::at`].
    pub(super) fn preconditioned(mut self, p: &ModelPreconditioning) -> Result<Self> {
        let (name, history, prediction) = (self.name, self.history, self.prediction);
        for (step, call) in self.calls.to_mut().iter_mut().enumerate() {
            // A level at which the network is not called keeps its label where it has no other.
            let label = |l: &Level| p.at(l).map_or(l.timestep, |c| c.label);
            call.target.timestep = label(&call.target);
            if !call.evaluates {
                call.level.timestep = label(&call.level);
                continue;
            }
            let made = p.at(&call.level).map_err(|e| e.context(format_args!("step {step} of {name}")))?;
            call.level.timestep = made.label;
            (call.input_scale, call.linear) = (made.input_scale, Some(made.linear));
            call.check(name, step, history, &prediction)?;
        }
        self.levels = self.calls.iter().map(|c| c.level).collect();
        self.fingerprint = self.number();
        Ok(self)
    }

    /// The same, of which [`Sampler::predicts_mean`] is false.
    pub(super) fn of_other_x0(mut self) -> Self {
        self.predicts_mean = false;
        self
    }

    /// The calls, in order.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// How x_0 and eps follow from the output.
    pub fn prediction(&self) -> &Prediction {
        &self.prediction
    }

    fn at(&self, step: usize) -> Result<&Call> {
        at_step(self.name, &self.calls, step)
    }

    fn number(&self) -> u64 {
        let mut f = prediction_fingerprint(Fingerprint::new().bytes(self.name.as_bytes()), &self.prediction);
        f = f.u64(self.history as u64).f64(self.initial_scale);
        for call in self.calls.iter() {
            f = f.f64(call.level.timestep).f32s(&call.factors).f64(call.input_scale).u64(u64::from(call.settles));
            f = match call.noise {
                CallNoise::None => f.u64(0),
                CallNoise::Std(std) => f.u64(1).f64(std),
                CallNoise::Learned => f.u64(2),
                CallNoise::LearnedRange { min_log, max_log } => f.u64(3).f32s(&[min_log, max_log]),
                CallNoise::Langevin { snr } => f.u64(4).f64(snr),
            };
            // Nothing for the rest, so that chains that were saved before can be taken up.
            f = if call.evaluates { f } else { f.u64(1) };
            if let Some(l) = call.linear {
                f = f.f64(l.x0_x).f64(l.x0_output).f64(l.eps_x).f64(l.eps_output);
            }
            for mix in call.updates.iter().flat_map(|u| core::iter::once(&u.mean).chain(u.keep.iter())) {
                f = f.u64(mix.0.len() as u64);
                for term in mix.0.iter() {
                    let of = match term.of {
                        Of::X => 0,
                        Of::X0 => 1,
                        Of::Eps => 2,
                        Of::History(i) => 3 + i as u64,
                    };
                    f = f.u64(of).f64(term.by);
                }
            }
        }
        f.finish()
    }
}

impl Call {
    fn check(&self, name: &str, step: usize, history: usize, prediction: &Prediction) -> Result<()> {
        // eps of an x without noise is known only where the network gives it.
        let divides = prediction.rederive_eps || prediction.kind == PredictionType::Sample;
        let finite = |l: &Level| l.timestep.is_finite() && l.alpha.is_finite() && l.sigma.is_finite();
        let Level { timestep, alpha, sigma } = self.level;
        ensure!(
            finite(&self.level) && finite(&self.target) && sigma >= 0.0 && (sigma > 0.0 || !divides),
            InvalidArgument,
            "step {step} of {name} goes from timestep {timestep} (alpha {alpha}, sigma {sigma}) to timestep {} (alpha {}, sigma {}), \
             expected finite levels, the first with noise",
            self.target.timestep,
            self.target.alpha,
            self.target.sigma
        );
        ensure!(!self.updates.is_empty(), InvalidArgument, "step {step} of {name} has no update");
        for update in self.updates.iter() {
            ensure!(
                update.keep.len() == history,
                InvalidArgument,
                "step {step} of {name} keeps {} arrays, expected {history}",
                update.keep.len()
            );
            for mix in core::iter::once(&update.mean).chain(update.keep.iter()) {
                ensure!(
                    mix.is_finite(),
                    InvalidArgument,
                    "the step from timestep {timestep} (alpha {alpha}, sigma {sigma}) of {name} has no finite coefficients"
                );
                let inside = |t: &Term| !matches!(t.of, Of::History(i) if i >= history);
                ensure!(
                    mix.0.iter().all(inside),
                    InvalidArgument,
                    "step {step} of {name} reads history that is not kept"
                );
            }
        }
        let fine = match self.noise {
            CallNoise::None | CallNoise::Learned => true,
            CallNoise::Std(std) => (std as f32).is_finite() && std >= 0.0,
            CallNoise::LearnedRange { min_log, max_log } => min_log.is_finite() && max_log.is_finite(),
            CallNoise::Langevin { snr } => (snr as f32).is_finite() && snr > 0.0,
        };
        ensure!(
            fine && (self.input_scale as f32).is_finite(),
            InvalidArgument,
            "the step from timestep {timestep} (alpha {alpha}, sigma {sigma}) of {name} has no finite variance or scale"
        );
        Ok(())
    }

    fn is_learned(&self) -> bool {
        matches!(self.noise, CallNoise::Learned | CallNoise::LearnedRange { .. })
    }
}

impl Sampler for Plan {
    fn name(&self) -> &'static str {
        self.name
    }

    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn target(&self, step: usize) -> Result<Level> {
        Ok(self.at(step)?.target)
    }

    fn initial_scale(&self) -> f32 {
        self.initial_scale as f32
    }

    fn input_scale(&self, step: usize) -> f32 {
        self.calls.get(step).map_or(1.0, |c| c.input_scale as f32)
    }

    fn state_len(&self, n: usize) -> usize {
        self.history.saturating_mul(n)
    }

    fn settles(&self, step: usize) -> bool {
        self.calls.get(step).is_none_or(|c| c.settles)
    }

    fn takes_evidence(&self) -> bool {
        self.calls.iter().all(|c| !matches!(c.noise, CallNoise::Langevin { .. }))
    }

    fn calls_network(&self, step: usize) -> bool {
        self.calls.get(step).is_none_or(|c| c.evaluates)
    }

    fn predicts_mean(&self) -> bool {
        self.predicts_mean
    }

    fn remakes_x(&self) -> bool {
        // How much of the latest settled x, and of those before it, is in x and in each array, with the outputs held
        // fixed.
        let mut x = [1.0, 0.0];
        let mut history = [[0.0f64; 2]; MAX_HISTORY];
        for (step, call) in self.calls.iter().enumerate() {
            let Some(update) = call.updates.get(step.min(call.updates.len() - 1)) else { continue };
            let of = |mix: &Mix| {
                let part = |t: &Term| match t.of {
                    Of::X => x.map(|v| t.by * v),
                    Of::History(i) => history.get(i).map_or([0.0; 2], |h| h.map(|v| t.by * v)),
                    Of::X0 | Of::Eps => [0.0; 2],
                };
                mix.0.iter().map(part).fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d])
            };
            let (mean, mut kept) = (of(&update.mean), [[0.0; 2]; MAX_HISTORY]);
            kept.iter_mut().zip(update.keep.iter()).for_each(|(kept, mix)| *kept = of(mix));
            (x, history) = (mean, kept);
            if call.settles {
                if mean[0] == 0.0 && mean[1] != 0.0 {
                    return true;
                }
                x = [1.0, 0.0];
                history.iter_mut().for_each(|[latest, before]| (*latest, *before) = (0.0, *latest + *before));
            }
        }
        false
    }

    fn needs_noise(&self, step: usize) -> bool {
        self.calls.get(step).is_some_and(|c| c.noise != CallNoise::None)
    }

    fn check_output_len(&self, n: usize, output_len: usize) -> Result<()> {
        let learned = self.calls.iter().any(Call::is_learned);
        let twice = Some(output_len) == n.checked_mul(2);
        ensure!(
            twice || (output_len == n && !learned),
            Shape,
            "the network gives {output_len} values for a sample of {n}, expected {}",
            if learned { "twice as many, for the learned variance" } else { "as many, or twice as many" }
        );
        Ok(())
    }

    fn sample_range(&self) -> Option<f32> {
        match self.prediction.clip {
            SampleClip::Range(r) => Some(r),
            SampleClip::None | SampleClip::Dynamic { .. } => None,
        }
    }

    fn linear(&self, step: usize) -> Result<Linear> {
        let call = self.at(step)?;
        Ok(call.linear.unwrap_or_else(|| self.prediction.linear(&call.level)))
    }

    fn predict(&self, step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()> {
        let call = self.at(step)?;
        self.check_output_len(x.len(), output.len())?;
        check_prediction(x.len(), x0, eps)?;
        let [alpha, sigma] = call.factors;
        match &call.linear {
            Some(linear) => self.prediction.apply_linear(linear, [alpha, sigma], x, output, x0, eps),
            None => self.prediction.apply(alpha, sigma, x, output, x0, eps),
        }
        Ok(())
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
        let call = self.at(step)?;
        let n = mean.len();
        check_len("x", estimate.x.len(), n)?;
        check_len("x_0", estimate.x0.len(), n)?;
        check_len("eps", estimate.eps.len(), n)?;
        check_len("the state", state.len(), self.state_len(n))?;
        check_len("the next state", next_state.len(), self.state_len(n))?;
        let at = done.min(call.updates.len().saturating_sub(1));
        let Some(update) = call.updates.get(at) else { return Ok(()) };
        let arrays = Arrays { estimate, history: state, n };
        update.mean.apply(&arrays, mean);
        for (keep, out) in update.keep.iter().zip(next_state.chunks_exact_mut(n.max(1))) {
            keep.apply(&arrays, out);
        }
        Ok(())
    }

    fn spread(&self, step: usize, n: usize, output: &mut [f32]) -> Result<Spread> {
        let call = self.at(step)?;
        self.check_output_len(n, output.len())?;
        let std_of: &dyn Fn(f32) -> f32 = match call.noise {
            CallNoise::None => return Ok(Spread::None),
            CallNoise::Std(std) => return Ok(Spread::Scalar(std as f32)),
            CallNoise::Langevin { snr } => return Ok(Spread::Langevin { snr: snr as f32 }),
            CallNoise::Learned => &libm::sqrtf,
            CallNoise::LearnedRange { min_log, max_log } => &move |v: f32| {
                let f = (v + 1.0) / 2.0;
                let log = f * max_log + (1.0 - f) * min_log;
                libm::exp(f64::from(0.5 * log)) as f32
            },
        };
        for (i, v) in output.iter_mut().skip(n).enumerate() {
            let std = std_of(*v);
            ensure!(
                std.is_finite(),
                NonFinite,
                "the learned variance of element {i} is {v} at timestep {}, its square root is no finite number",
                call.level.timestep
            );
            *v = std;
        }
        Ok(Spread::PerElement)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    #[cfg(feature = "embed")]
    fn emit(&self, to: &mut crate::emit::Emitter) -> Result<(&'static str, alloc::string::String)> {
        Ok(("Plan", crate::emit::Emit::emit(self, to)?))
    }
}
