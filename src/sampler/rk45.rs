//! The probability flow by the pair of Runge-Kutta methods of Dormand and Prince (1980), which chooses its steps by
//! what the network gives: the sampler of Song et al. 2021 (section 4.3), step for step SciPy's
//! `solve_ivp(method="RK45")`.

use alloc::vec::Vec;

use super::probability_flow::ProbabilityFlow;
use super::{
    Estimate, Linear, Prediction, SampleClip, Sampler, Spread, at_step, check_len, check_prediction,
    prediction_fingerprint,
};
use crate::error::{Result, ensure, err, first_non_finite};
use crate::noise::Fingerprint;
use crate::schedule::{Level, MAX_TRAIN_TIMESTEPS};

/// What calls the network for one sample: at a level, with x as the network sees it, for its output.
pub type Network<'a> = dyn FnMut(Level, &[f32], &mut [f32]) -> Result<()> + 'a;

/// The steps of a sampler that chooses its network calls by what they give.
pub trait Adaptive {
    /// Carries one sample from the level of step `step` to its target. `begins` is true for the first step of a run,
    /// whose state holds nothing yet. How often the network is called, and where, depends on this sample alone: so a
    /// sample is the same in whatever batch it is made.
    ///
    /// Errors: the network's; kind `Shape` for lengths that do not fit; kind `NonFinite` where no step is small enough.
    /// What `io` writes to is then unspecified.
    fn integrate(&self, step: usize, begins: bool, io: Integration<'_>, network: &mut Network<'_>) -> Result<()>;
}

/// The buffers of [`Adaptive::integrate`], all of one sample of n values.
#[derive(Debug)]
pub struct Integration<'a> {
    /// x at the step's level.
    pub x: &'a [f32],
    /// The state before the step, [`Sampler::state_len`] values.
    pub state: &'a [f32],
    /// The state after it.
    pub next_state: &'a mut [f32],
    /// Receives what the network gives, n or 2 n values.
    pub output: &'a mut [f32],
    /// Receives what the network is given.
    pub input: &'a mut [f32],
    /// Receives the predicted noise of the last call.
    pub eps: &'a mut [f32],
    /// Receives the x_0 that the last call predicted; left as it is where the step makes no call.
    pub x0: &'a mut [f32],
    /// Receives x at the step's target.
    pub next: &'a mut [f32],
}

/// The options of [`rk45`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rk45Options {
    /// At how many levels x is seen, the last of which is the result's. They change no step and no bit of the result.
    pub steps: usize,
    /// The relative tolerance of a step, 1e-7 to 1: smaller ones are below the rounding of a network's f32. 1e-5.
    pub rtol: f64,
    /// The absolute tolerance, 1e-7 to 1. 1e-5.
    pub atol: f64,
}

impl Default for Rk45Options {
    fn default() -> Self {
        Self { steps: 1, rtol: 1e-5, atol: 1e-5 }
    }
}

/// A sampler of the probability flow whose steps follow from the data: see [`rk45`].
#[derive(Clone, Debug)]
pub struct Rk45 {
    flow: ProbabilityFlow,
    prediction: Prediction,
    rtol: f64,
    atol: f64,
    /// The times at which x is seen, one more than steps.
    marks: Vec<f64>,
    levels: Vec<Level>,
    end: Level,
}

/// The probability flow by Dormand and Prince's embedded methods of order 5 and 4: each step is as long as an estimate
/// of its error, the root mean square over a sample of error / (`atol` + `rtol` |x|), stays under 1. Steps, and so the
/// number of network calls, are those of `scipy.integrate.solve_ivp(method="RK45")` for one sample
/// (`tests/references/rk45.rs`): 2 calls to begin, 6 for each step that is tried.
///
/// Each sample has steps of its own, and the network is called for one sample at a time, so that a sample does not
/// depend on its batch. score_sde gives `solve_ivp` a batch as one vector: there samples share their steps, and with a
/// batch of one it is the same.
///
/// x is seen at `steps` levels on the way, as SciPy's `t_eval`, by the interpolant of the step that reaches over them;
/// the result is x at the last, where little noise is left (of a flow none). x_0 is what the latest call predicted.
/// Evidence cannot act in such steps.
///
/// A sample carries 9 n + 9 values of state: x in two f32 each, and the slopes of the last step.
///
/// Errors (kind `InvalidArgument`): times that do not fall, parameters that are not above 0, no steps or more than
/// [`MAX_TRAIN_TIMESTEPS`], tolerances out of range.
///
/// ```
/// use undiffuse::chain::{Chain, ChainOptions};
/// use undiffuse::denoiser::FnDenoiser;
/// use undiffuse::noise::Seeded;
/// use undiffuse::process::Prediction;
/// use undiffuse::sampler::{ProbabilityFlow, Rk45Options, rk45};
/// use undiffuse::tensor::Dims;
///
/// // Data that are 0: eps is x / sigma.
/// let zero = FnDenoiser::new("zero", Dims::new(&[4])?, |call, x, out| {
///     out.iter_mut().zip(x).for_each(|(o, x)| *o = x / call.level.sigma as f32);
///     Ok(())
/// });
/// let flow = ProbabilityFlow::Preserving { beta_min: 0.1, beta_max: 20.0, eps: 1e-3, time_scale: 999.0 };
/// let sampler = rk45(flow, Prediction::default(), &Rk45Options { steps: 10, ..Default::default() })?;
/// let mut chain = Chain::new(zero, sampler, Seeded::new(1), &ChainOptions::default())?;
/// let first = chain.x().to_vec();
/// chain.run()?;
/// // What is left is x_T scaled to the noise of the last level, 0.0105.
/// assert!(chain.x().iter().zip(&first).all(|(x, z)| (x - 0.01048 * z).abs() < 1e-4));
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn rk45(flow: ProbabilityFlow, prediction: Prediction, options: &Rk45Options) -> Result<Rk45> {
    let Rk45Options { steps, rtol, atol } = *options;
    flow.check()?;
    prediction.check()?;
    ensure!(
        (1..=MAX_TRAIN_TIMESTEPS).contains(&steps),
        InvalidArgument,
        "x is seen at {steps} levels, expected 1 to {MAX_TRAIN_TIMESTEPS}"
    );
    for (name, value) in [("rtol", rtol), ("atol", atol)] {
        ensure!((1e-7..=1.0).contains(&value), InvalidArgument, "{name} is {value}, expected 1e-7 to 1");
    }
    let marks = flow.marks(steps);
    let mut levels: Vec<Level> = marks.iter().map(|t| flow.at(*t, &prediction).level).collect();
    let end = levels.pop().unwrap_or(Level::CLEAN);
    Ok(Rk45 { flow, prediction, rtol, atol, marks, levels, end })
}

/// Nodes of the stages.
const C: [f64; 6] = [0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0];
/// Weights of the slopes before each.
const A: [&[f64]; 6] = [
    &[],
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
    &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
];
/// Of the step, of order 5.
const B: [f64; 6] = [35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0];
/// Of its difference to the step of order 4.
const E: [f64; STAGES] =
    [-71.0 / 57600.0, 0.0, 71.0 / 16695.0, -71.0 / 1920.0, 17253.0 / 339200.0, -22.0 / 525.0, 1.0 / 40.0];
/// Of the interpolant of order 4, by powers of the part of the step from the first (Shampine 1986).
const P: [[f64; 4]; STAGES] = [
    [1.0, -8048581381.0 / 2820520608.0, 8663915743.0 / 2820520608.0, -12715105075.0 / 11282082432.0],
    [0.0; 4],
    [0.0, 131558114200.0 / 32700410799.0, -68118460800.0 / 10900136933.0, 87487479700.0 / 32700410799.0],
    [0.0, -1754552775.0 / 470086768.0, 14199869525.0 / 1410260304.0, -10690763975.0 / 1880347072.0],
    [0.0, 127303824393.0 / 49829197408.0, -318862633887.0 / 49829197408.0, 701980252875.0 / 199316789632.0],
    [0.0, -282668133.0 / 205662961.0, 2019193451.0 / 616988883.0, -1453857185.0 / 822651844.0],
    [0.0, 40617522.0 / 29380423.0, -110615467.0 / 29380423.0, 69997945.0 / 29380423.0],
];
const STAGES: usize = 7;
/// f32 values for a number of the state: a chain is saved as f32, and three of them hold an f64.
const PARTS: usize = 3;
/// Numbers of the state: where the last step began and ended, and how long the next may be.
const NUMBERS: usize = 3;

/// The state of a sample, cut into its parts.
struct State<'a> {
    numbers: &'a mut [f32],
    /// x where the last step began, and what f32 left of it.
    high: &'a mut [f32],
    low: &'a mut [f32],
    /// Its slopes, [7, n].
    slopes: &'a mut [f32],
}

impl<'a> State<'a> {
    fn of(state: &'a mut [f32], n: usize) -> Result<Self> {
        let short = || err!(Shape, "the state of RK45 has too few values for a sample of {n}");
        let (numbers, rest) = state.split_at_mut_checked(NUMBERS * PARTS).ok_or_else(short)?;
        let (high, rest) = rest.split_at_mut_checked(n).ok_or_else(short)?;
        let (low, slopes) = rest.split_at_mut_checked(n).ok_or_else(short)?;
        Ok(Self { numbers, high, low, slopes })
    }

    fn numbers(&self) -> [f64; NUMBERS] {
        let mut all = [0.0; NUMBERS];
        for (v, parts) in all.iter_mut().zip(self.numbers.chunks_exact(PARTS)) {
            *v = parts.iter().rev().map(|p| f64::from(*p)).sum();
        }
        all
    }

    fn keep(&mut self, numbers: [f64; NUMBERS]) {
        for (mut v, parts) in numbers.into_iter().zip(self.numbers.chunks_exact_mut(PARTS)) {
            for part in parts {
                *part = v as f32;
                v -= f64::from(*part);
            }
        }
    }

    fn set_x(&mut self, i: usize, v: f64) {
        if let (Some(high), Some(low)) = (self.high.get_mut(i), self.low.get_mut(i)) {
            *high = v as f32;
            *low = (v - f64::from(*high)) as f32;
        }
    }

    fn x(&self, i: usize) -> f64 {
        let part = |v: &[f32]| v.get(i).map_or(0.0, |v| f64::from(*v));
        part(self.high) + part(self.low)
    }

    /// The sum of the slopes of element `i` by these weights.
    fn slope(&self, i: usize, weights: &[f64]) -> f64 {
        let n = self.high.len().max(1);
        let of = |(row, w): (&[f32], &f64)| w * row.get(i).map_or(0.0, |v| f64::from(*v));
        self.slopes.chunks_exact(n).zip(weights).map(of).sum()
    }

    /// x after `h` with these weights.
    fn moved(&self, i: usize, weights: &[f64], h: f64) -> f64 {
        self.x(i) + h * self.slope(i, weights)
    }
}

/// What a call needs beside x.
struct Caller<'a, 'n> {
    output: &'a mut [f32],
    input: &'a mut [f32],
    x: &'a mut [f32],
    eps: &'a mut [f32],
    x0: &'a mut [f32],
    network: &'a mut Network<'n>,
}

impl Rk45 {
    fn check_step(&self, step: usize, io: &Integration<'_>) -> Result<[f64; 2]> {
        let n = io.x.len();
        self.check_output_len(n, io.output.len())?;
        let state = self.state_len(n);
        for (what, got, expected) in [
            ("the state", io.state.len(), state),
            ("the next state", io.next_state.len(), state),
            ("the input", io.input.len(), n),
            ("eps", io.eps.len(), n),
            ("x_0", io.x0.len(), n),
            ("the next x", io.next.len(), n),
        ] {
            check_len(what, got, expected)?;
        }
        let no_step = || err!(InvalidArgument, "RK45 step {step} does not exist, there are {}", self.levels.len());
        match self.marks.get(step..).unwrap_or(&[]) {
            [from, to, ..] => Ok([*from, *to]),
            _ => Err(no_step()),
        }
    }

    /// The slope at time t and at the x in `c.x`, to row `row` of the slopes.
    fn slope(&self, t: f64, c: &mut Caller<'_, '_>, state: &mut State<'_>, row: usize) -> Result<()> {
        let point = self.flow.at(t, &self.prediction);
        let (scale, level) = (point.input_scale, point.level);
        c.input.iter_mut().zip(&*c.x).for_each(|(i, x)| *i = scale as f32 * x);
        let seen = Level { alpha: scale * level.alpha, sigma: scale * level.sigma, ..level };
        (c.network)(seen, c.input, c.output)?;
        let factors = [level.alpha as f32, level.sigma as f32];
        match &point.linear {
            Some(linear) => self.prediction.apply_linear(linear, factors, c.x, c.output, c.x0, c.eps),
            None => self.prediction.apply(factors[0], factors[1], c.x, c.output, c.x0, c.eps),
        }
        ensure!(
            first_non_finite(c.x0).is_none() && first_non_finite(c.eps).is_none(),
            NonFinite,
            "RK45 got NaN or infinity for x_0 or eps at timestep {}",
            level.timestep
        );
        let n = c.x.len();
        if let Some(to) = state.slopes.get_mut(row * n..).and_then(|s| s.get_mut(..n)) {
            let (by_alpha, by_sigma) = (point.d_alpha, point.d_sigma);
            if self.prediction.clip == SampleClip::None {
                // In f64 of x and the output themselves: where x is nearly all noise the two terms nearly cancel, and
                // x_0 has been rounded.
                let l = point.linear.unwrap_or_else(|| self.prediction.linear(&level));
                let (by_x, by_output) =
                    (by_alpha * l.x0_x + by_sigma * l.eps_x, by_alpha * l.x0_output + by_sigma * l.eps_output);
                let of = |(x, o): (&f32, &f32)| by_x * f64::from(*x) + by_output * f64::from(*o);
                to.iter_mut().zip(c.x.iter().zip(&*c.output)).for_each(|(to, v)| *to = of(v) as f32);
            } else {
                let of = |(x0, eps): (&f32, &f32)| by_alpha * f64::from(*x0) + by_sigma * f64::from(*eps);
                to.iter_mut().zip(c.x0.iter().zip(&*c.eps)).for_each(|(to, v)| *to = of(v) as f32);
            }
        }
        Ok(())
    }

    /// The root mean square over the elements.
    fn norm(n: usize, of: impl Fn(usize) -> f64) -> f64 {
        let sum: f64 = (0..n).map(|i| of(i) * of(i)).sum();
        libm::sqrt(sum / n.max(1) as f64)
    }

    /// How long the first step may be (Hairer, Nørsett and Wanner, section II.4), as SciPy finds it. One more call.
    fn first_length(&self, t: f64, c: &mut Caller<'_, '_>, state: &mut State<'_>) -> Result<f64> {
        let n = c.x.len();
        let last = self.marks.last().copied().unwrap_or(t);
        let whole = t - last;
        let scale = |s: &State<'_>, i| self.atol + s.x(i).abs() * self.rtol;
        const AT_START: [f64; STAGES] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        let d0 = Self::norm(n, |i| state.x(i) / scale(state, i));
        let d1 = Self::norm(n, |i| state.slope(i, &AT_START) / scale(state, i));
        let h0 = if d0 < 1e-5 || d1 < 1e-5 { 1e-6 } else { 0.01 * d0 / d1 };
        let h0 = h0.min(whole);
        for (i, x) in c.x.iter_mut().enumerate() {
            *x = state.moved(i, &AT_START, -h0) as f32;
        }
        self.slope(t - h0, c, state, 0)?;
        const CHANGE: [f64; STAGES] = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0];
        let d2 = Self::norm(n, |i| state.slope(i, &CHANGE) / scale(state, i)) / h0;
        let h1 = match d1 <= 1e-15 && d2 <= 1e-15 {
            true => (h0 * 1e-3).max(1e-6),
            false => libm::pow(0.01 / d1.max(d2), 1.0 / 5.0),
        };
        Ok((100.0 * h0).min(h1).min(whole))
    }

    /// One step from where the last ended, tried until its error is small enough.
    fn advance(&self, c: &mut Caller<'_, '_>, state: &mut State<'_>) -> Result<()> {
        let [before, t, mut length] = state.numbers();
        let n = c.x.len();
        for i in 0..n {
            let x = state.moved(i, &B, t - before);
            state.set_x(i, x);
        }
        state.slopes.copy_within((STAGES - 1) * n.., 0);
        let least = 10.0 * (t - libm::nextafter(t, f64::NEG_INFINITY));
        length = length.max(least);
        let last = self.marks.last().copied().unwrap_or(t);
        let mut rejected = false;
        loop {
            ensure!(
                length.is_finite() && length >= least,
                NonFinite,
                "RK45 finds no step small enough at time {t}: the network is not smooth there, or the tolerances are below its accuracy"
            );
            let next = (t - length).max(last);
            let h = next - t;
            length = -h;
            for (stage, (node, weights)) in C.iter().zip(A).enumerate().skip(1) {
                for (i, x) in c.x.iter_mut().enumerate() {
                    *x = state.moved(i, weights, h) as f32;
                }
                self.slope(t + node * h, c, state, stage)?;
            }
            for (i, x) in c.x.iter_mut().enumerate() {
                *x = state.moved(i, &B, h) as f32;
            }
            self.slope(next, c, state, STAGES - 1)?;
            let error = Self::norm(n, |i| {
                let largest = state.x(i).abs().max(state.moved(i, &B, h).abs());
                h * state.slope(i, &E) / (self.atol + largest * self.rtol)
            });
            let factor = 0.9 * libm::pow(error, -0.2);
            if error < 1.0 {
                let most = if rejected { 1.0 } else { 10.0 };
                state.keep([t, next, length * if error == 0.0 { most } else { factor.min(most) }]);
                return Ok(());
            }
            length *= factor.max(0.2);
            rejected = true;
        }
    }
}

impl Adaptive for Rk45 {
    fn integrate(&self, step: usize, begins: bool, io: Integration<'_>, network: &mut Network<'_>) -> Result<()> {
        let [from, to] = self.check_step(step, &io)?;
        let Integration { x, state, next_state, output, input, eps, x0, next } = io;
        next_state.copy_from_slice(state);
        let mut state = State::of(next_state, x.len())?;
        let mut c = Caller { output, input, x: &mut *next, eps, x0, network };
        if begins {
            c.x.copy_from_slice(x);
            state.high.copy_from_slice(x);
            state.low.fill(0.0);
            state.slopes.fill(0.0);
            self.slope(from, &mut c, &mut state, STAGES - 1)?;
            let length = self.first_length(from, &mut c, &mut state)?;
            state.keep([from, from, length]);
        }
        while state.numbers()[1] > to {
            self.advance(&mut c, &mut state)?;
        }
        let [before, t, _] = state.numbers();
        let h = t - before;
        if t == to {
            next.iter_mut().enumerate().for_each(|(i, x)| *x = state.moved(i, &B, h) as f32);
            return Ok(());
        }
        let part = (to - before) / h;
        let weights = P.map(|row| row.iter().rev().fold(0.0, |sum, p| (sum + p) * part));
        next.iter_mut().enumerate().for_each(|(i, x)| *x = state.moved(i, &weights, h) as f32);
        Ok(())
    }
}

impl Sampler for Rk45 {
    fn name(&self) -> &'static str {
        "RK45"
    }

    fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn target(&self, step: usize) -> Result<Level> {
        at_step(self.name(), &self.levels, step)?;
        Ok(step.checked_add(1).and_then(|next| self.levels.get(next)).copied().unwrap_or(self.end))
    }

    fn initial_scale(&self) -> f32 {
        self.flow.initial_scale() as f32
    }

    fn input_scale(&self, step: usize) -> f32 {
        self.marks.get(step).map_or(1.0, |t| self.flow.at(*t, &self.prediction).input_scale as f32)
    }

    fn state_len(&self, n: usize) -> usize {
        (2 + STAGES).saturating_mul(n).saturating_add(NUMBERS * PARTS)
    }

    fn takes_evidence(&self) -> bool {
        false
    }

    fn adaptive(&self) -> Option<&dyn Adaptive> {
        Some(self)
    }

    fn needs_noise(&self, _: usize) -> bool {
        false
    }

    fn sample_range(&self) -> Option<f32> {
        match self.prediction.clip {
            SampleClip::Range(r) => Some(r),
            SampleClip::None | SampleClip::Dynamic { .. } => None,
        }
    }

    fn linear(&self, step: usize) -> Result<Linear> {
        let level = at_step(self.name(), &self.levels, step)?;
        let (_, linear) = self.flow.reading(level, &self.prediction);
        Ok(linear.unwrap_or_else(|| self.prediction.linear(level)))
    }

    fn predict(&self, step: usize, x: &[f32], output: &[f32], x0: &mut [f32], eps: &mut [f32]) -> Result<()> {
        let level = at_step(self.name(), &self.levels, step)?;
        self.check_output_len(x.len(), output.len())?;
        check_prediction(x.len(), x0, eps)?;
        let factors = [level.alpha as f32, level.sigma as f32];
        match self.flow.reading(level, &self.prediction) {
            (_, Some(linear)) => self.prediction.apply_linear(&linear, factors, x, output, x0, eps),
            (_, None) => self.prediction.apply(factors[0], factors[1], x, output, x0, eps),
        }
        Ok(())
    }

    /// Errors: kind `Unsupported`, since a step is no function of one prediction.
    fn mean(&self, _: usize, _: usize, _: Estimate<'_>, _: &[f32], _: &mut [f32], _: &mut [f32]) -> Result<()> {
        Err(err!(
            Unsupported,
            "a step of RK45 makes as many network calls as it needs, so it cannot be made from one; take a chain, or Adaptive::integrate"
        ))
    }

    fn spread(&self, step: usize, _: usize, _: &mut [f32]) -> Result<Spread> {
        at_step(self.name(), &self.levels, step).map(|_| Spread::None)
    }

    fn fingerprint(&self) -> u64 {
        let f = prediction_fingerprint(Fingerprint::new().bytes(b"RK45"), &self.prediction);
        let f = f.f64(self.rtol).f64(self.atol);
        let f = self.flow.fingerprint(f);
        let levels = self.levels.iter().chain([&self.end]);
        levels.zip(&self.marks).fold(f, |f, (l, t)| f.f64(*t).f64(l.timestep).f64(l.alpha).f64(l.sigma)).finish()
    }
}
