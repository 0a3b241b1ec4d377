//! SFO: the sum of functions optimiser of Sohl-Dickstein, Poole and Ganguli 2014, "Fast large-scale optimization by
//! unifying stochastic gradient and quasi-Newton methods". Written from the paper's equations.

use alloc::vec::Vec;

use super::{Evaluation, Optimizer, check, check_positive};
use crate::error::{Result, ensure, err};
use crate::memory::zeros;
use crate::training::dense::{add_scaled, dot, extend, norm, solve};
use crate::training::state::{Saved, StateArray};

/// The most minibatches: the models take 9 N^3 numbers.
const MAX_MINIBATCHES: usize = 128;
/// A step is at most this much longer than steps were on average.
const MAX_RATIO: f64 = 10.0;
/// A gradient that leaves the subspace by less than this part of its length adds no direction.
const NEW_DIRECTION: f64 = 1e-6;
/// Below this part of the gradient's length its change is rounding of f32.
const CHANGE: f64 = 1e-5;
/// A change of the gradient that is so nearly across the step says nothing of curvature, or that it is negative.
const CURVED: f64 = 1e-8;

/// The constants of [`Sfo`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SfoOptions {
    /// The length of the first step, while no curvature is known.
    pub first_step: f64,
    /// The changes of position and gradient that are kept of each minibatch, 1 to 100.
    pub history: usize,
}

impl Default for SfoOptions {
    fn default() -> Self {
        Self { first_step: 1e-2, history: 10 }
    }
}

/// Minimises F(x) = sum over i of f_i(x), one minibatch i at a time, by a quadratic model of each.
///
/// ```text
/// g_i(x) = f_i(x_i) + (x - x_i)^T f_i'(x_i) + (x - x_i)^T H_i (x - x_i) / 2        x_i: where minibatch i was seen last
/// x <- x - rate (sum H_i)^-1 (sum g_i'(x))                                         Newton's step on the sum of models
/// ```
///
/// - H_i is BFGS's matrix of the last `history` changes (s, y) of position and gradient between visits to minibatch i,
///   H <- H + y y^T / (y^T s) - H s s^T H / (s^T H s), from b_i I with b_i the least s^T y / s^T s among them; a
///   minibatch seen once takes the mean b of the others. Changes that show no positive curvature are left out, so each
///   H_i is positive definite (the paper lifts eigenvalues instead).
/// - All of it happens in the span of the last positions and gradients, of at most 3 N + 2 dimensions for N
///   minibatches; when it is full, it shrinks to the 2 N that are in use. So the models cost N^3 numbers, not squares
///   of the number of parameters.
/// - The next minibatch ([`Optimizer::wants`]) is the one farthest from x in the metric of the sum of H (each other
///   step: of H_i). New ones come in when the mean gradient of those in use is no longer than its standard error, at
///   the latest once each has been seen again.
/// - A step is at most 10 times as long as steps were on average.
///
/// Passes over the data until the cost's excess over its minimum is this part of the first, beside Adam at the best of
/// five constant rates (`tests/training/sfo.rs`; 20 minibatches; a quadratic sum in 40 dimensions, logistic regression
/// in 30):
///
/// | excess | quadratic: SFO | Adam | logistic: SFO | Adam |
/// |---|---|---|---|---|
/// | 1e-2 | 4 | 4 | 3 | 2 |
/// | 1e-3 | 5 | 19 | 5 | 16 |
/// | 1e-4 | 6 | 87 | 6 | 71 |
/// | 1e-6 | 8 | above 200 | 8 | above 200 |
///
/// It fits problems whose minibatches are the same at each visit: fixed samples *and* fixed noise. Costs are not
/// averaged: give each minibatch's cost and gradient in the same scale. `rate` is 1 as a rule. Memory: (3 N + 4) f64
/// for each parameter.
///
/// Positions are kept in f64; the parameters that [`Optimizer::step`] writes are rounded. It does not read them: they
/// must be those of [`Sfo::new`] or of the last step.
#[derive(Clone, Debug)]
pub struct Sfo {
    options: SfoOptions,
    /// Orthonormal directions of the subspace, each as long as the parameters.
    basis: Vec<Vec<f64>>,
    /// The origin of the subspace.
    origin: Vec<f64>,
    /// x in the subspace.
    x: Vec<f64>,
    models: Vec<Option<Model>>,
    steps: u64,
    /// The sum of the lengths of all steps.
    travelled: f64,
    /// Models in use when the last came in, and visits since.
    visits: u64,
}

/// g_i, in the subspace. Vectors are as long as the basis.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    x: Vec<f64>,
    gradient: Vec<f64>,
    /// (s, y), the oldest first.
    changes: Vec<(Vec<f64>, Vec<f64>)>,
    /// H_i, square.
    h: Vec<f64>,
}

impl Model {
    /// The least curvature among the changes.
    fn curvature(&self) -> Option<f64> {
        self.changes.iter().map(|(s, y)| dot(s, y) / dot(s, s)).reduce(f64::min)
    }

    /// H_i of the changes, from `b` I where there are none.
    fn rebuild(&mut self, b: f64) {
        let n = self.x.len();
        let b = self.curvature().unwrap_or(b);
        self.h.clear();
        self.h.resize(n * n, 0.0);
        self.h.iter_mut().step_by(n + 1).for_each(|h| *h = b);
        for (s, y) in &self.changes {
            let hs: Vec<f64> = self.h.chunks_exact(n.max(1)).map(|row| dot(row, s)).collect();
            let (shs, ys) = (dot(s, &hs), dot(y, s));
            for (i, row) in self.h.chunks_exact_mut(n.max(1)).enumerate() {
                add_scaled(row, y[i] / ys, y);
                add_scaled(row, -hs[i] / shs, &hs);
            }
        }
    }

    /// All vectors as coordinates of another basis, whose directions are given in this one.
    fn turn(&mut self, basis: &[Vec<f64>]) {
        for v in [&mut self.x, &mut self.gradient].into_iter().chain(self.changes.iter_mut().flat_map(|(s, y)| [s, y]))
        {
            *v = basis.iter().map(|q| dot(q, v)).collect();
        }
        self.changes.retain(|(s, y)| curved(s, y));
    }

    fn vectors(&mut self) -> impl Iterator<Item = &mut Vec<f64>> {
        let changes = self.changes.iter_mut().flat_map(|(s, y)| [s, y]);
        [&mut self.x, &mut self.gradient].into_iter().chain(changes)
    }
}

fn curved(s: &[f64], y: &[f64]) -> bool {
    dot(s, y) > CURVED * norm(s) * norm(y)
}

impl Sfo {
    /// An optimiser that starts at `params`, for a cost that is the sum over `minibatches` fixed minibatches.
    ///
    /// Errors: kind `InvalidArgument` for none or more than 128 minibatches, a first step that is not above 0, a
    /// history outside of 1 to 100; `NonFinite` for parameters; `OutOfMemory`.
    pub fn new(options: SfoOptions, params: &[f32], minibatches: usize) -> Result<Self> {
        check_positive("the first step of SFO", options.first_step)?;
        ensure!(options.first_step.is_finite(), InvalidArgument, "the first step of SFO is infinite");
        ensure!(
            (1..=100).contains(&options.history),
            InvalidArgument,
            "SFO keeps {} changes, expected 1 to 100",
            options.history
        );
        ensure!(
            (1..=MAX_MINIBATCHES).contains(&minibatches),
            InvalidArgument,
            "SFO for {minibatches} minibatches, expected 1 to {MAX_MINIBATCHES}"
        );
        ensure!(params.iter().all(|p| p.is_finite()), NonFinite, "a parameter that SFO starts from is not finite");
        let mut origin = zeros::<f64>("SFO", params.len())?;
        origin.iter_mut().zip(params).for_each(|(o, &p)| *o = f64::from(p));
        Ok(Self {
            options,
            basis: Vec::new(),
            origin,
            x: Vec::new(),
            models: alloc::vec![None; minibatches],
            steps: 0,
            travelled: 0.0,
            visits: 0,
        })
    }

    /// The dimensions of the subspace now.
    pub fn dimensions(&self) -> usize {
        self.basis.len()
    }

    fn max_dimensions(&self) -> usize {
        3 * self.models.len() + 2
    }

    fn active(&self) -> impl Iterator<Item = (usize, &Model)> {
        self.models.iter().enumerate().filter_map(|(i, m)| Some((i, m.as_ref()?)))
    }

    /// The mean curvature of the minibatches that show one, if any does.
    fn mean_curvature(&self) -> Option<f64> {
        let known: Vec<f64> = self.active().filter_map(|(_, m)| m.curvature()).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// The sum of H over the minibatches in use.
    fn hessian(&self) -> Vec<f64> {
        let mut sum = alloc::vec![0.0; self.x.len() * self.x.len()];
        self.active().for_each(|(_, m)| add_scaled(&mut sum, 1.0, &m.h));
        sum
    }

    /// Whether the mean gradient is no longer than its standard error, so that more minibatches are needed.
    fn is_noise(&self) -> bool {
        let n = self.active().count() as f64;
        let mut mean = alloc::vec![0.0; self.x.len()];
        self.active().for_each(|(_, m)| add_scaled(&mut mean, 1.0 / n, &m.gradient));
        let squares: f64 = self.active().map(|(_, m)| dot(&m.gradient, &m.gradient)).sum();
        let spread = squares - n * dot(&mean, &mean);
        n < 2.0 || dot(&mean, &mean) * n * (n - 1.0) < spread
    }

    /// Room for the gradient: its coordinates, after the subspace has grown or shrunk and grown.
    fn coordinates(&mut self, gradient: &[f32]) -> Vec<f64> {
        let g: Vec<f64> = gradient.iter().map(|&g| f64::from(g)).collect();
        if self.basis.len() >= self.max_dimensions() {
            self.shrink();
        }
        if extend(&mut self.basis, &g, NEW_DIRECTION * norm(&g)) {
            let n = self.basis.len();
            let mean = self.mean_curvature().unwrap_or(1.0);
            self.x.push(0.0);
            for model in self.models.iter_mut().flatten() {
                model.vectors().for_each(|v| v.resize(n, 0.0));
                model.rebuild(mean);
            }
        }
        self.basis.iter().map(|q| dot(q, &g)).collect()
    }

    /// Moves the origin to x and keeps only the span of the last positions and gradients.
    fn shrink(&mut self) {
        let x = core::mem::take(&mut self.x);
        self.basis.iter().zip(&x).for_each(|(q, &c)| add_scaled(&mut self.origin, c, q));
        let mut kept = Vec::new();
        for model in self.models.iter_mut().flatten() {
            add_scaled(&mut model.x, -1.0, &x);
            for v in [&model.x, &model.gradient] {
                extend(&mut kept, v, NEW_DIRECTION * norm(v));
            }
        }
        // The same directions in the space of the parameters.
        let mut basis = Vec::new();
        for k in &kept {
            let mut q = alloc::vec![0.0; self.origin.len()];
            self.basis.iter().zip(k).for_each(|(old, &c)| add_scaled(&mut q, c, old));
            extend(&mut basis, &q, 0.0);
        }
        self.basis = basis;
        self.x = alloc::vec![0.0; kept.len()];
        for model in self.models.iter_mut().flatten() {
            model.turn(&kept);
        }
        let mean = self.mean_curvature().unwrap_or(1.0);
        self.models.iter_mut().flatten().for_each(|m| m.rebuild(mean));
    }

    /// The model of a minibatch takes in what was seen at x.
    fn learn(&mut self, minibatch: usize, gradient: Vec<f64>) {
        let x = self.x.clone();
        let history = self.options.history;
        let Some(slot) = self.models.get_mut(minibatch) else { return };
        match slot {
            Some(model) => {
                let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
                let (s, y) = (difference(&x, &model.x), difference(&gradient, &model.gradient));
                let rounding = CHANGE * (norm(&gradient) + norm(&model.gradient));
                if norm(&y) > rounding && curved(&s, &y) {
                    model.changes.push((s, y));
                    let excess = model.changes.len().saturating_sub(history);
                    model.changes.drain(..excess);
                }
                (model.x, model.gradient) = (x, gradient);
                self.visits += 1;
            }
            none => {
                *none = Some(Model { x, gradient, changes: Vec::new(), h: Vec::new() });
                self.visits = 0;
            }
        }
        let mean = self.mean_curvature().unwrap_or(1.0);
        self.models.iter_mut().flatten().filter(|m| m.changes.is_empty()).for_each(|m| m.rebuild(mean));
        if let Some(Some(model)) = self.models.get_mut(minibatch) {
            model.rebuild(mean);
        }
    }

    /// Newton's step on the sum of models, or the first step while no curvature is known.
    fn newton(&self, rate: f64) -> Option<Vec<f64>> {
        let mut slope = alloc::vec![0.0; self.x.len()];
        for (_, m) in self.active() {
            let away: Vec<f64> = self.x.iter().zip(&m.x).map(|(x, at)| x - at).collect();
            add_scaled(&mut slope, 1.0, &m.gradient);
            slope.iter_mut().zip(m.h.chunks_exact(away.len().max(1))).for_each(|(s, row)| *s += dot(row, &away));
        }
        let longest = match self.mean_curvature() {
            None => {
                let length = norm(&slope);
                let scale = if length > 0.0 { -rate * self.options.first_step / length } else { 0.0 };
                return Some(slope.iter().map(|s| s * scale).collect());
            }
            Some(_) => MAX_RATIO * self.travelled / self.steps as f64,
        };
        if !solve(&mut self.hessian(), &mut slope) {
            return None;
        }
        let length = rate * norm(&slope);
        let scale = -rate * if length > longest { longest / length } else { 1.0 };
        slope.iter_mut().for_each(|s| *s *= scale);
        Some(slope)
    }
}

impl Optimizer for Sfo {
    fn name(&self) -> &'static str {
        "sfo"
    }

    fn wants(&self) -> Option<usize> {
        let used = self.active().count() as u64;
        let unused = self.models.iter().position(Option::is_none);
        if used == 0 {
            return unused;
        }
        // Nothing is known of curvature until a minibatch was seen twice.
        if self.mean_curvature().is_some() && unused.is_some() && (self.visits >= used || self.is_noise()) {
            return unused;
        }
        let sum = self.hessian();
        let far = |m: &Model| {
            let away: Vec<f64> = self.x.iter().zip(&m.x).map(|(x, at)| x - at).collect();
            let metric = if self.steps.is_multiple_of(2) { &sum } else { &m.h };
            metric.chunks_exact(away.len().max(1)).zip(&away).map(|(row, a)| a * dot(row, &away)).sum::<f64>()
        };
        self.active().map(|(i, m)| (i, far(m))).reduce(|a, b| if b.1 > a.1 { b } else { a }).map(|(i, _)| i)
    }

    fn step(&mut self, params: &mut [f32], at: Evaluation<'_>, rate: f64) -> Result<()> {
        check(self.name(), self.origin.len(), params, &at, rate)?;
        ensure!(
            at.minibatch < self.models.len(),
            InvalidArgument,
            "minibatch {} does not exist, SFO was made for {}",
            at.minibatch,
            self.models.len()
        );
        let gradient = self.coordinates(at.gradient);
        self.learn(at.minibatch, gradient);
        let step = self.newton(rate).ok_or_else(|| err!(NonFinite, "SFO's sum of models is not positive definite"))?;
        self.travelled += norm(&step);
        self.steps = self.steps.saturating_add(1);
        add_scaled(&mut self.x, 1.0, &step);
        let mut x = self.origin.clone();
        self.basis.iter().zip(&self.x).for_each(|(q, &c)| add_scaled(&mut x, c, q));
        params.iter_mut().zip(x).for_each(|(p, x)| *p = x as f32);
        Ok(())
    }

    fn state(&self) -> Vec<StateArray> {
        let mut vectors = self.x.clone();
        let mut seen = Vec::new();
        for model in &self.models {
            seen.push(model.as_ref().map_or(0, |m| 1 + m.changes.len() as u64));
            for m in model.iter() {
                vectors.extend(m.x.iter().chain(&m.gradient));
                m.changes.iter().for_each(|(s, y)| vectors.extend(s.iter().chain(y)));
            }
        }
        let basis: Vec<f64> = self.basis.iter().flatten().copied().collect();
        [
            StateArray::f64("origin", &self.origin),
            StateArray::f64("basis", &basis),
            StateArray::f64("vectors", &vectors),
            StateArray::f64("travelled", &[self.travelled]),
            StateArray::u64("seen", &seen),
            StateArray::u64("counts", &[self.basis.len() as u64, self.steps, self.visits]),
        ]
        .to_vec()
    }

    fn restore(&mut self, state: &[StateArray]) -> Result<()> {
        let (len, minibatches) = (self.origin.len(), self.models.len());
        let mut saved = Saved::new("sfo", state);
        let origin = saved.f64("origin", Some(len))?;
        let basis = saved.f64("basis", None)?;
        let vectors = saved.f64("vectors", None)?;
        let travelled = saved.f64("travelled", Some(1))?;
        let seen = saved.u64("seen", minibatches)?;
        let &[dimensions, steps, visits] = saved.u64("counts", 3)? else { return Ok(()) };
        saved.finish()?;
        let n = usize::try_from(dimensions).ok().filter(|&n| n <= self.max_dimensions() && n * len == basis.len());
        let n = n.ok_or_else(|| err!(Weights, "the saved state of sfo has a basis that does not fit"))?;
        let most = 1 + self.options.history as u64;
        let count: u64 = seen.iter().map(|&s| 2 * s.min(most)).sum();
        ensure!(
            seen.iter().all(|&s| s <= most) && (count + 1) * n as u64 == vectors.len() as u64,
            Weights,
            "the saved state of sfo has {} values of models, expected {}",
            vectors.len(),
            (count + 1) * n as u64
        );
        let mut rest = vectors.iter().copied();
        let mut next = || rest.by_ref().take(n).collect::<Vec<f64>>();
        let x = next();
        let mut models = Vec::new();
        for &seen in seen {
            models.push((seen > 0).then(|| {
                let (x, gradient) = (next(), next());
                Model { x, gradient, changes: (1..seen).map(|_| (next(), next())).collect(), h: Vec::new() }
            }));
        }
        let bad = |m: &Model| m.changes.iter().any(|(s, y)| !curved(s, y));
        ensure!(!models.iter().flatten().any(bad), Weights, "the saved state of sfo has a change without curvature");
        self.basis = basis.chunks_exact(len.max(1)).map(<[f64]>::to_vec).collect();
        (self.origin, self.x, self.models) = (origin.to_vec(), x, models);
        (self.steps, self.visits, self.travelled) = (steps, visits, travelled.iter().sum());
        let mean = self.mean_curvature().unwrap_or(1.0);
        self.models.iter_mut().flatten().for_each(|m| m.rebuild(mean));
        Ok(())
    }
}
