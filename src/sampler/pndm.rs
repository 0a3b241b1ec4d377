//! PNDM: pseudo numerical methods on eps (Liu et al. 2022), and its form without Runge-Kutta steps on a trigonometric
//! schedule.

use alloc::vec;
use alloc::vec::Vec;

use super::plan::{Call, Mix, Of, Plan, Update};
use super::setup::Setup;
use super::{Prediction, PredictionType};
use crate::error::{Result, ensure, err};
use crate::schedule::{Level, NoiseSchedule, TimestepSpacing, linspace, spaced_timesteps};

/// The coefficients of Adams and Bashforth, the last slope first.
const ADAMS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

/// The options of [`pndm`]. Names and defaults are those of `PNDMScheduler`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PndmOptions {
    /// Begins with two calls at the second timestep instead of three Runge-Kutta steps of four calls.
    pub skip_prk_steps: bool,
    /// Whether the last step leads to abar = 1; if not, to abar_0.
    pub set_alpha_to_one: bool,
}

/// PNDM over rising `timesteps` of `schedule`. With eps' a combination of outputs, x_s = sqrt(abar_s / abar) x -
/// (abar_s - abar) eps' / (abar sqrt(1 - abar_s) + sqrt(abar (1 - abar) abar_s)) (Liu et al. 2022, eq. 11).
///
/// It converges at order 2 (`tests/references/order.rs`), whatever the coefficients of Adams and Bashforth would give:
/// the step of eq. 11 takes the combination for the slope at the middle of a step in sigma / alpha, and steps there are
/// not of one length.
///
/// With `v_prediction` it is v that is combined, and eps' follows from the combination and x, as diffusers has it.
///
/// Errors: kind `InvalidArgument` for Runge-Kutta steps with fewer than four timesteps, or timesteps beyond the
/// schedule.
pub fn pndm(schedule: &NoiseSchedule, timesteps: &[u32], prediction: Prediction, options: PndmOptions) -> Result<Plan> {
    let n = timesteps.len();
    let train = schedule.num_train_timesteps();
    ensure!(n > 0, InvalidArgument, "the list of timesteps is empty");
    let stride = (train / n) as i64;
    let t: Vec<i64> = timesteps.iter().rev().map(|&t| i64::from(t)).collect();
    let flow = Transfer { schedule, prediction, options };
    // The history is x where a step began, the sum of a Runge-Kutta step, and three earlier outputs.
    let history = |i: usize| Mix::just(Of::History(i));
    let kept = |output: &Mix| [output.clone(), history(2), history(3)];
    let mut calls = Vec::new();
    let mut rest = t.clone();
    if !options.skip_prk_steps {
        ensure!(n >= 4, InvalidArgument, "PNDM with Runge-Kutta steps of {n} timesteps, expected at least 4");
        for (j, &begin) in t.iter().enumerate().take(3) {
            let next = t.get(j + 1).copied().unwrap_or(0);
            // The middle of a step lies half a stride above its end.
            let middle = next + stride / 2;
            let stages = [(begin, begin - stride / 2), (middle, middle), (middle, middle - stride / 2), (next, next)];
            for (c, (at, to)) in stages.into_iter().enumerate() {
                let output = flow.output(at)?;
                let start = if c == 0 { Mix::just(Of::X) } else { history(0) };
                let (slope, sum) = match c {
                    0 => (output.clone(), output.clone().scaled(1.0 / 6.0)),
                    1 | 2 => (output.clone(), history(1).plus(&output.clone().scaled(1.0 / 3.0))),
                    _ => (history(1).plus(&output.clone().scaled(1.0 / 6.0)), Mix::default()),
                };
                let [a, b, d] = if c == 0 { kept(&output) } else { [history(2), history(3), history(4)] };
                let update =
                    Update { mean: flow.step(&start, begin, to, &slope)?, keep: vec![start, sum, a, b, d].into() };
                calls.push(flow.call(at, to, vec![update], c == 3)?);
            }
        }
        rest.drain(..3);
    } else if let Some(&second) = t.get(1) {
        rest.insert(1, second);
    }
    let first = calls.len();
    for (j, &at) in rest.iter().enumerate() {
        let output = flow.output(at)?;
        let slope = |outputs: usize| {
            let weights = ADAMS.get(outputs.min(4) - 1).copied().unwrap_or_default();
            let older = [history(2), history(3), history(4)];
            let all = core::iter::once(&output).chain(&older);
            all.zip(weights).fold(Mix::default(), |sum, (m, w)| sum.plus(&m.clone().scaled(*w)))
        };
        let twice = options.skip_prk_steps && j == 1;
        let mut updates = Vec::new();
        // Wherever a run begins, its first steps are of lower order; from the start of the list with what came before.
        for done in 0..=4.min(first + j) {
            let (start, from, to, slope) = match twice {
                // The second call is at the end of the first step, which it makes again with the mean of both slopes.
                true => {
                    let mean = output.clone().plus(&history(2)).scaled(0.5);
                    (history(0), at + stride, at, mean)
                }
                false => {
                    let whole = done == first + j || done == 4;
                    let outputs = match (whole, options.skip_prk_steps) {
                        (true, true) => j.max(1),
                        (true, false) => 4,
                        (false, _) => done + 1,
                    };
                    (Mix::just(Of::X), at, at - stride, slope(outputs))
                }
            };
            let mean = flow.step(&start, from, to, &slope)?;
            let [a, b, d] = if twice { [history(2), history(3), history(4)] } else { kept(&output) };
            updates.push(Update { mean, keep: vec![start, Mix::default(), a, b, d].into() });
        }
        let to = if twice { at } else { at - stride };
        calls.push(flow.call(at, to, updates, !(options.skip_prk_steps && j == 0 && n > 1))?);
    }
    Plan::new("PNDM", prediction, 5, 1.0, calls)
}

/// The transfer of eq. 11.
struct Transfer<'a> {
    schedule: &'a NoiseSchedule,
    prediction: Prediction,
    options: PndmOptions,
}

impl Transfer<'_> {
    fn alpha_bar(&self, t: i64) -> Result<f64> {
        match u32::try_from(t) {
            Ok(t) => self.schedule.alpha_bar(t),
            Err(_) if self.options.set_alpha_to_one => Ok(1.0),
            Err(_) => self.schedule.alpha_bar(0),
        }
    }

    fn level(&self, t: i64) -> Result<Level> {
        Ok(Level::variance_preserving(t.max(0) as f64, self.alpha_bar(t)?))
    }

    /// What the network gave, of x_0 and eps.
    fn output(&self, t: i64) -> Result<Mix> {
        let l = self.level(t)?;
        Ok(match self.prediction.kind {
            PredictionType::VPrediction => Mix::of(&[(Of::Eps, l.alpha), (Of::X0, -l.sigma)]),
            _ => Mix::just(Of::Eps),
        })
    }

    fn step(&self, x: &Mix, from: i64, to: i64, slope: &Mix) -> Result<Mix> {
        let (a, s) = (self.alpha_bar(from)?, self.alpha_bar(to)?);
        let slope = match self.prediction.kind {
            PredictionType::VPrediction => {
                slope.clone().scaled(libm::sqrt(a)).plus(&x.clone().scaled(libm::sqrt(1.0 - a)))
            }
            _ => slope.clone(),
        };
        let factor = (s - a) / (a * libm::sqrt(1.0 - s) + libm::sqrt(a * (1.0 - a) * s));
        Ok(x.clone().scaled(libm::sqrt(s / a)).plus(&slope.scaled(-factor)))
    }

    fn call(&self, at: i64, to: i64, updates: Vec<Update>, settles: bool) -> Result<Call> {
        Ok(Call { updates: updates.into(), settles, ..Call::new(self.level(at)?, self.level(to)?, Mix::default()) })
    }
}

/// `PNDMScheduler`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Plan> {
    setup.expect_prediction(&[PredictionType::Epsilon, PredictionType::VPrediction])?;
    let c = setup.config;
    let options = PndmOptions { skip_prk_steps: c.solver.skip_prk_steps, set_alpha_to_one: c.set_alpha_to_one };
    let n = setup.count()?;
    let mut timesteps = spaced_timesteps(c.timestep_spacing, c.num_train_timesteps, n, c.steps_offset)?;
    timesteps.reverse();
    if c.timestep_spacing == TimestepSpacing::Linspace && n == 1 {
        timesteps = vec![0];
    }
    pndm(&setup.schedule()?, &timesteps, setup.prediction(), options)
}

/// Adams and Bashforth's method of order 4 on the flow of v over n levels with sigma = sin^2(pi t / 2), alpha =
/// sqrt(1 - sigma^2): `IPNDMScheduler`. The network is told 2 / pi times the angle, 1 to 0, and gives v.
///
/// A whole run converges at order 1 (`tests/references/order.rs`): its first step, from nothing but noise, leaves out
/// alpha_s x_0, as diffusers has it. What follows is of order 2, since steps in sigma / alpha are not of one length.
pub fn ipndm(n: usize) -> Result<Plan> {
    ensure!(n > 0, InvalidArgument, "the number of steps is 0, expected at least 1");
    let half = core::f64::consts::FRAC_PI_2;
    let level = |t: f64| {
        let sine = libm::sin(t * half);
        let sigma = sine * sine;
        let alpha = libm::sqrt((1.0 - sigma * sigma).max(0.0));
        Level { timestep: libm::atan2(sigma, alpha) / half, alpha, sigma }
    };
    let levels: Vec<Level> = linspace(1.0, 0.0, n + 1).into_iter().map(level).collect();
    let mut calls = Vec::with_capacity(n);
    for (i, w) in levels.windows(2).enumerate() {
        let [t, s] = w else { continue };
        let updates = (0..4.min(i + 1)).map(|done| {
            let weights = ADAMS.get(done).copied().unwrap_or_default();
            let slopes = [Of::Eps, Of::History(0), Of::History(1), Of::History(2)];
            let slope = slopes.iter().zip(weights).fold(Mix::default(), |m, (of, w)| m.plus(&Mix::of(&[(*of, *w)])));
            // At the first level there is nothing of x_0, and x is the noise.
            let ratio = if t.alpha > 1e-8 { s.alpha / t.alpha } else { 0.0 };
            let mean = Mix::of(&[(Of::X, ratio)]).plus(&slope.scaled(s.sigma - ratio * t.sigma));
            let keep = [Of::Eps, Of::History(0), Of::History(1)].map(Mix::just).to_vec();
            Update { mean, keep: keep.into() }
        });
        calls.push(Call { updates: updates.collect(), ..Call::new(*t, *s, Mix::default()) });
    }
    let prediction = Prediction { kind: PredictionType::VPrediction, ..Prediction::default() };
    Plan::new("iPNDM", prediction, 3, 1.0, calls)
}

/// `IPNDMScheduler`.
pub(super) fn build_improved(setup: &Setup<'_>) -> Result<Plan> {
    if setup.config.other.get("trained_betas").is_some_and(|v| !v.is_null()) {
        return Err(err!(Unsupported, "IPNDMScheduler with trained_betas, expected null"));
    }
    ipndm(setup.count()?)
}
