//! What several methods share: checks that name the method, memory, and the way back from a residual to the sample.

use super::operator::LinearOperator;
use super::{At, Measurement};
use crate::error::{Result, ensure, err};
use crate::memory::zeros;
use crate::sampler::{Sampler, StateSpace, conditional_std};
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

/// That every level has signal and noise, since a method divides by both.
pub(super) fn check_levels(method: &str, sampler: &dyn Sampler) -> Result<()> {
    match sampler.levels().iter().find(|l| l.alpha <= 0.0 || l.sigma <= 0.0) {
        None => Ok(()),
        Some(level) => Err(err!(
            Unsupported,
            "{method} needs signal and noise at every level; timestep {} of {} has the factors {} and {}",
            level.timestep,
            sampler.name(),
            level.alpha,
            level.sigma
        )),
    }
}

/// The first `len` values of scratch and the rest.
pub(super) fn cut(scratch: &mut [f32], len: usize) -> Result<(&mut [f32], &mut [f32])> {
    let got = scratch.len();
    scratch
        .split_at_mut_checked(len)
        .ok_or_else(|| err!(Shape, "the scratch of the evidence has {got} values left, expected at least {len}"))
}

/// That samples are real numbers and not bits.
pub(super) fn check_real(method: &str, sampler: &dyn Sampler) -> Result<()> {
    ensure!(
        sampler.space() == StateSpace::Real,
        Unsupported,
        "{method} is for chains of real numbers; {} makes bits",
        sampler.name()
    );
    // Equations of this house say x = sqrt(abar) x_0 + sqrt(1 - abar) eps, and that the network sees x.
    let preserves = |l: &Level| (l.alpha * l.alpha + l.sigma * l.sigma - 1.0).abs() < 1e-5;
    ensure!(
        sampler.levels().iter().enumerate().all(|(i, l)| preserves(l) && sampler.input_scale(i) == 1.0),
        Unsupported,
        "{method} is for samplers that preserve variance, as ddim, ddpm, dpmsolver++, unipc or deis; {} does not",
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

/// v = A^T w(y - A x_0) for every sample of a batch; `weigh(i, r, scratch)` makes w of the residual r, in place, of sample i of the batch.
pub(super) fn pull_back<O: LinearOperator>(
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
        m.operator().adjoint(r, v, scratch)?;
    }
    Ok(())
}
