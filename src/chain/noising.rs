//! A step without a network call.

use super::{Chain, all_finite, cut, cut_mut, row, row_mut};
use crate::denoiser::Denoiser;
use crate::error::{Result, ensure};
use crate::noise::NoiseSource;
use crate::posterior::Evidence;
use crate::sampler::{Estimate, Sampler, add_noise};

impl<D: Denoiser, S: Sampler, N: NoiseSource, E: Evidence> Chain<'_, D, S, N, E> {
    /// A step that only adds noise.
    pub(super) fn advance_without_network(&mut self, step: usize) -> Result<()> {
        let (n, s, k) = (self.layout.sample, self.layout.state, self.layout.kept);
        let b = self.layout.split(self.arena.values(), self.count)?;
        let needs_noise = self.sampler.needs_noise(step);
        if needs_noise {
            self.noise.normal(self.first_sample, (step as u64).saturating_add(1), n, b.noise)?;
        }
        let spread = self.sampler.spread(step, n, row_mut(b.output, 0, self.layout.output))?;
        b.eps.fill(0.0);
        for i in 0..self.count {
            let estimate = Estimate { x: row(b.x, i, n), x0: row(b.x0, i, n), eps: row(b.eps, i, n) };
            let (kept, state) = cut(row(b.state, i, s), k);
            let (next_kept, next_state) = cut_mut(row_mut(b.next_state, i, s), k);
            next_kept.copy_from_slice(kept);
            let next = row_mut(b.spare, i, n);
            self.sampler.mean(step, step - self.start, estimate, state, next_state, next)?;
            let noise = if needs_noise { row(b.noise, i, n) } else { &[] };
            add_noise(spread, &[], noise, next)?;
        }
        ensure!(all_finite(b.spare), NonFinite, "the step of {} gave NaN or infinity", self.sampler.name());
        b.x.copy_from_slice(b.spare);
        b.state.copy_from_slice(b.next_state);
        Ok(())
    }
}
