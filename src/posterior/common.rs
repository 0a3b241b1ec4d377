//! What several methods share: checks that name the method, memory, and the way back from a residual to the sample.

use alloc::vec::Vec;

use super::operator::{ForwardOperator, LinearOperator};
use super::{At, Measurement};
use crate::error::{Result, ensure, err};
use crate::memory::zeros;
use crate::sampler::{Estimate, Sampler, Spread, StateSpace, conditional_std};
use crate::schedule::Level;

/// That a measurement has no noise; `instead` does with it.
pub(super) fn check_exact<O: LinearOperator>(method: &str, m: &Measurement<O>, instead: &str) -> Result<()> {
    ensure!(
        m.sigma() == 0.0,
        InvalidArgument,
        "{method} takes measurements without noise, this one has sigma {}; take {instead}, or an exact measurement \
         (sigma 0) if y is to be met exactly",
        m.sigma()
    );
    Ok(())
}

/// That A^+ is there, by asking for it.
pub(super) fn check_pseudo_inverse<O: LinearOperator>(method: &str, m: &Measurement<O>) -> Result<()> {
    let op = m.operator();
    let mut x = zeros::<f32>("evidence", op.input_dims().elements())?;
    let y = zeros::<f32>("evidence", m.len())?;
    op.pseudo_inverse(&y, &mut x, &mut zeros("evidence", op.solve_scratch_len())?).map_err(|e| e.context(method))
}

/// That every level has noise, since a method divides by it.
pub(super) fn check_levels(method: &str, sampler: &dyn Sampler) -> Result<()> {
    match sampler.levels().iter().find(|l| l.alpha < 0.0 || l.sigma <= 0.0) {
        None => Ok(()),
        Some(level) => Err(err!(
            Unsupported,
            "{method} needs noise at every level; timestep {} of {} has the factors {} and {}",
            level.timestep,
            sampler.name(),
            level.alpha,
            level.sigma
        )),
    }
}

/// Whether x_t is all noise, as where a flow begins: x_0 given x_t is the prior, of whose covariance x_t tells nothing,
/// and next to nothing of it enters x_s. Methods leave such a step alone.
pub(super) fn is_blank(at: &At) -> bool {
    at.level.alpha <= 0.0
}

/// The first `len` values of scratch and the rest.
pub(super) fn cut(scratch: &mut [f32], len: usize) -> Result<(&mut [f32], &mut [f32])> {
    let got = scratch.len();
    scratch
        .split_at_mut_checked(len)
        .ok_or_else(|| err!(Shape, "the scratch of the evidence has {got} values left, expected at least {len}"))
}

/// That samples are real numbers and not bits, and that the sampler goes from noise to them.
pub(super) fn check_real(method: &str, sampler: &dyn Sampler) -> Result<()> {
    ensure!(
        sampler.space() == StateSpace::Real,
        Unsupported,
        "{method} is for chains of real numbers, {} makes {}",
        sampler.name(),
        match sampler.space() {
            StateSpace::Classes { .. } => "classes: take evidence about classes",
            _ => "bits: take evidence about bits, or clamp",
        }
    );
    check_forwards(method, sampler)
}

/// That a sampler goes from noise to data.
pub(crate) fn check_forwards(method: &str, sampler: &dyn Sampler) -> Result<()> {
    let last = sampler.levels().len().saturating_sub(1);
    let (from, to) = (sampler.levels().first().map(Level::alpha_bar), sampler.target(last)?.alpha_bar());
    ensure!(
        from.is_none_or(|from| from <= to),
        Unsupported,
        "{method} is for samplers that go from noise to data, {} goes the other way: take ddim",
        sampler.name()
    );
    Ok(())
}

/// That the predicted x_0 is the mean of x_0 given x_t, and eps with it.
pub(super) fn check_mean(method: &str, sampler: &dyn Sampler) -> Result<()> {
    ensure!(
        sampler.predicts_mean(),
        Unsupported,
        "{method} takes the predicted x_0 for the mean of x_0 given x_t; that of {} is another (take ddim, ddpm, dpmsolver++ or euler without \
         churn, or DDNM, RePaint or clamp)",
        sampler.name()
    );
    Ok(())
}

/// That a call which is an inner stage draws no noise: what it drew is past when the step is made.
pub(super) fn check_inner_noise(method: &str, step: usize, sampler: &dyn Sampler) -> Result<()> {
    ensure!(
        sampler.settles(step) || !sampler.needs_noise(step),
        Unsupported,
        "{method} multiplies the Gaussian of each step; {} draws a part of its noise in an inner stage: take ddpm, ddim with eta 1, \
         euler-ancestral or kdpm2-ancestral",
        sampler.name()
    );
    Ok(())
}

/// That a step's Gaussian has the noise of the process: a method that multiplies it by the evidence otherwise gives the
/// evidence as much less weight, none where a step adds no noise. And that it stands in one call.
pub(super) fn check_noise(method: &str, n: usize, sampler: &dyn Sampler) -> Result<()> {
    let mut output = zeros("evidence", n)?;
    let mut learned = zeros("evidence", n.saturating_mul(2))?;
    for step in 0..sampler.levels().len() {
        let (settles, target) = (sampler.settles(step), sampler.target(step)?);
        let level = sampler.levels().get(step).copied().unwrap_or(target);
        check_inner_noise(method, step, sampler)?;
        // The step that gives the result has a variance of none, as the inner stages have.
        if !settles || target.sigma <= 0.0 || step + 1 == sampler.levels().len() {
            continue;
        }
        let output = if sampler.check_output_len(n, n).is_ok() { &mut output } else { &mut learned };
        let std = match sampler.spread(step, n, output)? {
            Spread::None | Spread::Langevin { .. } => 0.0,
            Spread::Scalar(std) => f64::from(std) / target.scale(),
            // Between the process's own and more.
            Spread::PerElement | Spread::Bits | Spread::Classes { .. } => continue,
        };
        let (t, s) = (level.alpha_bar(), target.alpha_bar());
        let whole = libm::sqrt(((1.0 - s) / (1.0 - t) * (1.0 - t / s)).max(0.0));
        let enough = std > 0.95 * whole;
        ensure!(
            enough,
            Unsupported,
            "{method} multiplies the Gaussian of each step; step {step} of {} adds noise of {std}, the process {whole}: take ddpm, ddim with eta 1, \
             euler-ancestral or kdpm2-ancestral",
            sampler.name()
        );
    }
    Ok(())
}

/// That every step is made of x_0, for a method that changes it and leaves eps as it is.
pub(super) fn check_reads_x0(method: &str, sampler: &dyn Sampler) -> Result<()> {
    let len = sampler.state_len(1);
    let (state, mut next_state) = (zeros("evidence", len)?, zeros("evidence", len)?);
    for step in 0..sampler.levels().len() {
        if !sampler.calls_network(step) {
            continue;
        }
        let mut mean = [0.0];
        let estimate = Estimate { x: &[0.0], x0: &[1.0], eps: &[0.0] };
        sampler.mean(step, step, estimate, &state, &mut next_state, &mut mean)?;
        ensure!(
            mean != [0.0],
            Unsupported,
            "{method} changes x_0 and not eps, of which alone {} makes its steps: take ddim, ddpm, dpmsolver++, unipc on x_0 or euler, or DiffPIR",
            sampler.name()
        );
    }
    Ok(())
}

/// That what a method does to x_s itself is there when the sampler goes on from it.
pub(super) fn check_keeps_x(method: &str, sampler: &dyn Sampler) -> Result<()> {
    ensure!(
        !sampler.remakes_x(),
        Unsupported,
        "{method} changes x_s, which {} makes anew from the x before it: take one without a corrector, as dpmsolver++ or ddim",
        sampler.name()
    );
    Ok(())
}

/// That a draw of x_0 may take the place of its mean in every step.
pub(super) fn check_draws(method: &str, sampler: &dyn Sampler) -> Result<()> {
    (0..sampler.levels().len())
        .try_for_each(|step| conditional_std(sampler, step).map(|_| ()))
        .map_err(|e| e.context(method))
}

/// v = A^T w(y - A x_0), or of what is not linear J(x_0)^T w(y - A(x_0)), for every sample of a batch; `weigh(i, r,
/// scratch)` makes w of the residual r, in place, of sample i of the batch.
pub(super) fn pull_back<O: ForwardOperator>(
    m: &Measurement<O>,
    at: &At,
    x0: &[f32],
    v: &mut [f32],
    r: &mut [f32],
    scratch: &mut [f32],
    mut weigh: impl FnMut(usize, &mut [f32], &mut [f32]) -> Result<()>,
) -> Result<()> {
    let n = at.sample_len.max(1);
    for (i, (x0, v)) in x0.chunks_exact(n).zip(v.chunks_exact_mut(n)).enumerate() {
        m.residual(at.first_sample.saturating_add(i as u64), x0, r, scratch)?;
        weigh(i, r, scratch)?;
        m.operator().vjp(x0, r, v, scratch)?;
    }
    Ok(())
}

/// That every settled step leads to alpha_s x_0 + sigma_s z with fresh noise, so that x_s is made of x_0 alone.
pub(super) fn check_fresh(method: &str, sampler: &dyn Sampler) -> Result<()> {
    for step in (0..sampler.levels().len()).filter(|&step| sampler.settles(step)) {
        let target = sampler.target(step)?;
        let std = conditional_std(sampler, step);
        ensure!(
            std.is_ok_and(|std| std >= (1.0 - 1e-4) * target.sigma),
            Unsupported,
            "{method} makes x_s of x_0 and fresh noise alone, step {step} of {} does not: take the sampler that it recommends, or ddim with eta 1 of \
             the level's noise",
            sampler.name()
        );
    }
    Ok(())
}

/// The largest slope of an operator: what it says, or what the power method finds of its Jacobian at three points, a
/// tenth more.
pub(super) fn steepest(op: &impl ForwardOperator) -> Result<f64> {
    if let Some(slope) = op.steepest() {
        return Ok(slope);
    }
    const REACH: f32 = 1e-2;
    let (n, m) = (op.domain().elements(), op.codomain().elements());
    let (mut u, mut x): (Vec<f32>, Vec<f32>) = (zeros("evidence", n)?, zeros("evidence", n)?);
    let (mut ahead, mut behind): (Vec<f32>, Vec<f32>) = (zeros("evidence", m)?, zeros("evidence", m)?);
    let mut scratch = zeros("evidence", op.forward_scratch_len())?;
    // Values that are all different, -0.5 to 0.5: the fractions of multiples of the golden ratio never repeat.
    let different = |i: usize| {
        let v = i as f32 * 0.618_034;
        v - libm::floorf(v) - 0.5
    };
    let mut most = 0.0f64;
    for point in [0.0, 2.0, -2.0] {
        u.iter_mut().enumerate().for_each(|(i, u)| *u = different(i + 1));
        for _ in 0..20 {
            let size = libm::sqrt(u.iter().map(|&u| f64::from(u) * f64::from(u)).sum());
            if size <= 0.0 || !size.is_finite() {
                break;
            }
            u.iter_mut().for_each(|u| *u = (f64::from(*u) / size) as f32);
            let mut at = |by: f32, to: &mut [f32], scratch: &mut [f32]| {
                x.iter_mut().zip(&u).enumerate().for_each(|(i, (x, u))| *x = point * different(i + 7) + by * u);
                op.forward(&x, to, scratch)
            };
            at(REACH, &mut ahead, &mut scratch)?;
            at(-REACH, &mut behind, &mut scratch)?;
            ahead.iter_mut().zip(&behind).for_each(|(a, b)| *a = (*a - b) / (2.0 * REACH));
            let slope = libm::sqrt(ahead.iter().map(|&a| f64::from(a) * f64::from(a)).sum());
            most = most.max(slope);
            x.iter_mut().enumerate().for_each(|(i, x)| *x = point * different(i + 7));
            op.vjp(&x, &ahead, &mut u, &mut scratch)?;
        }
    }
    ensure!(
        most > 0.0 && most.is_finite(),
        InvalidArgument,
        "{} does not change with its input: its slope is {most} at three points",
        op.label()
    );
    Ok(1.1 * most)
}
