//! L-BFGS (Liu and Nocedal 1989) for smooth costs that are evaluated whole, in f64.

use alloc::vec::Vec;

use super::check_size;
use crate::error::{Result, ensure, err};
use crate::training::dense::{add_scaled, dot, norm};

/// The constants of [`minimize`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LbfgsOptions {
    /// The pairs that are kept.
    pub history: usize,
    /// It stops when the gradient's length is this part of the larger of 1 and the length of x.
    pub tolerance: f64,
    /// The most evaluations.
    pub evaluations: usize,
}

impl Default for LbfgsOptions {
    fn default() -> Self {
        Self { history: 10, tolerance: 1e-6, evaluations: 500 }
    }
}

/// How a minimisation ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LbfgsReport {
    /// The last cost.
    pub cost: f64,
    /// The length of its gradient.
    pub gradient: f64,
    /// Evaluations of the cost.
    pub evaluations: usize,
    /// Whether the tolerance was met. If not, the evaluations ran out, or rounding ended the descent.
    pub converged: bool,
}

/// Moves `x` to a local minimum of `cost`, which writes its gradient to its second argument.
///
/// Each step meets the weak Wolfe conditions (cost by 1e-4, slope by 0.9), found by halving and doubling.
///
/// Errors: kind `InvalidArgument` for a history or evaluations of 0, or a tolerance that is negative or not finite;
/// `NonFinite` if the cost or gradient at the start is not finite (elsewhere such a point is stepped back from).
///
/// ```
/// use undiffuse::training::optim::{LbfgsOptions, minimize};
///
/// // Rosenbrock's valley.
/// let mut x = [-1.2, 1.0];
/// let report = minimize(LbfgsOptions::default(), &mut x, &mut |x, g| {
///     let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
///     g.copy_from_slice(&[-2.0 * a - 400.0 * x[0] * b, 200.0 * b]);
///     a * a + 100.0 * b * b
/// })?;
/// assert!(report.converged && (x[0] - 1.0).abs() < 1e-5 && report.evaluations < 60);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub fn minimize(
    options: LbfgsOptions,
    x: &mut [f64],
    cost: &mut dyn FnMut(&[f64], &mut [f64]) -> f64,
) -> Result<LbfgsReport> {
    ensure!(
        options.history > 0 && options.evaluations > 0,
        InvalidArgument,
        "L-BFGS with a history of {} and {} evaluations, expected at least 1 of both",
        options.history,
        options.evaluations
    );
    check_size("the tolerance of L-BFGS", options.tolerance)?;
    let mut g = alloc::vec![0.0; x.len()];
    let mut value = cost(x, &mut g);
    if !value.is_finite() || g.iter().any(|g| !g.is_finite()) {
        return Err(err!(NonFinite, "the cost where L-BFGS starts is {value}, or its gradient is not finite"));
    }
    let mut pairs: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    let mut evaluations = 1;
    let (mut trial, mut slope) = (x.to_vec(), g.clone());
    loop {
        let gradient = norm(&g);
        let converged = gradient <= options.tolerance * norm(x).max(1.0);
        if converged {
            return Ok(LbfgsReport { cost: value, gradient, evaluations, converged });
        }
        let direction = descent(&pairs, &g);
        let fall = dot(&direction, &g);
        let (mut low, mut high) = (0.0, f64::INFINITY);
        let mut t = if pairs.is_empty() { 1.0 / gradient } else { 1.0 };
        let found = loop {
            if evaluations >= options.evaluations || t * norm(&direction) < 1e-15 * norm(x).max(1e-300) {
                break None;
            }
            trial.copy_from_slice(x);
            add_scaled(&mut trial, t, &direction);
            let at = cost(&trial, &mut slope);
            evaluations += 1;
            // Near the minimum the fall drowns in rounding, of which a few units are forgiven.
            let allowed = value + 1e-4 * t * fall + 8.0 * f64::EPSILON * value.abs();
            let sound = at.is_finite() && slope.iter().all(|s| s.is_finite());
            if !sound || at > allowed {
                high = t;
            } else if dot(&slope, &direction) < 0.9 * fall {
                low = t;
            } else {
                break Some(at);
            }
            t = if high < f64::INFINITY { 0.5 * (low + high) } else { 2.0 * low };
        };
        let Some(at) = found else { return Ok(LbfgsReport { cost: value, gradient, evaluations, converged }) };
        let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
        // The Wolfe conditions make their product positive.
        pairs.push((difference(&trial, x), difference(&slope, &g)));
        let excess = pairs.len().saturating_sub(options.history);
        pairs.drain(..excess);
        x.copy_from_slice(&trial);
        core::mem::swap(&mut g, &mut slope);
        value = at;
    }
}

/// - H g by the two loops over the pairs (s, y), from s^T y / y^T y of the last.
fn descent(pairs: &[(Vec<f64>, Vec<f64>)], g: &[f64]) -> Vec<f64> {
    let mut d: Vec<f64> = g.iter().map(|g| -g).collect();
    let mut shares = Vec::new();
    for (s, y) in pairs.iter().rev() {
        let share = dot(s, &d) / dot(s, y);
        add_scaled(&mut d, -share, y);
        shares.push(share);
    }
    if let Some((s, y)) = pairs.last() {
        let scale = dot(s, y) / dot(y, y);
        d.iter_mut().for_each(|d| *d *= scale);
    }
    for ((s, y), share) in pairs.iter().zip(shares.iter().rev()) {
        let c = share - dot(y, &d) / dot(s, y);
        add_scaled(&mut d, c, s);
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_is_solved_in_about_its_dimensions() {
        let scale = |i: usize| libm::pow(10.0, i as f64 / 4.0);
        let mut x = [1.0; 9];
        let report = minimize(LbfgsOptions { tolerance: 1e-9, ..Default::default() }, &mut x, &mut |x, g| {
            g.iter_mut().zip(x).enumerate().for_each(|(i, (g, x))| *g = scale(i) * (x - i as f64));
            g.iter().zip(x).enumerate().map(|(i, (g, x))| 0.5 * g * (x - i as f64)).sum()
        })
        .unwrap();
        assert!(report.converged && report.evaluations < 60, "{report:?}");
        assert!(x.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-7));
    }

    #[test]
    fn it_ends_where_it_cannot_go_on() {
        let line = |x: &[f64], g: &mut [f64]| {
            g[0] = 1.0;
            x[0]
        };
        let options = LbfgsOptions { evaluations: 20, ..Default::default() };
        let report = minimize(options, &mut [0.0], &mut { line }).unwrap();
        assert!(!report.converged && report.evaluations == 20);
        // Steps into what is not finite are taken back: -ln x + x, from 1e-3.
        let mut x = [1e-3];
        let log = &mut |x: &[f64], g: &mut [f64]| {
            g[0] = 1.0 - 1.0 / x[0];
            if x[0] > 0.0 { x[0] - libm::log(x[0]) } else { f64::NAN }
        };
        assert!(minimize(LbfgsOptions::default(), &mut x, log).unwrap().converged && (x[0] - 1.0).abs() < 1e-5);
        assert!(minimize(LbfgsOptions::default(), &mut [-1.0], log).is_err());
        assert!(minimize(LbfgsOptions { history: 0, ..options }, &mut [1.0], log).is_err());
        assert!(minimize(LbfgsOptions { tolerance: f64::NAN, ..options }, &mut [1.0], log).is_err());
    }
}
