//! A step of a sampler that chooses its network calls: sample by sample.

use super::{Chain, all_finite, row, row_mut};
use crate::cancel::Cancel;
use crate::denoiser::{Call, Denoiser, check_gave};
use crate::error::{Result, ensure};
use crate::noise::NoiseSource;
use crate::posterior::Evidence;
use crate::sampler::{Integration, Sampler};
use crate::schedule::Level;

impl<D: Denoiser, S: Sampler, N: NoiseSource, E: Evidence> Chain<'_, D, S, N, E> {
    /// One after the other, since each may need the network at other levels and more or less often.
    pub(super) fn advance_adaptively(&mut self, step: usize, cancel: &Cancel) -> Result<()> {
        let (n, m, s) = (self.layout.sample, self.layout.output, self.layout.state);
        let b = self.layout.split(self.arena.values(), self.count)?;
        let Some(adaptive) = self.sampler.adaptive() else { return Ok(()) };
        b.x0_next.copy_from_slice(b.x0);
        for i in 0..self.count {
            let first_sample = self.first_sample.saturating_add(i as u64);
            let denoiser = &mut self.denoiser;
            let mut network = |level: Level, input: &[f32], output: &mut [f32]| {
                cancel.check()?;
                let call = Call { level, first_sample, cancel };
                denoiser.predict(&call, input, output)?;
                check_gave(denoiser.name(), &call, m, output)
            };
            let io = Integration {
                x: row(b.x, i, n),
                state: row(b.state, i, s),
                next_state: row_mut(b.next_state, i, s),
                output: row_mut(b.output, i, m),
                // Free where no noise is drawn.
                input: row_mut(b.noise, i, n),
                eps: row_mut(b.eps, i, n),
                x0: row_mut(b.x0_next, i, n),
                next: row_mut(b.spare, i, n),
            };
            adaptive.integrate(step, step == self.start, io, &mut network)?;
        }
        ensure!(
            all_finite(b.spare) && all_finite(b.x0_next) && all_finite(b.next_state),
            NonFinite,
            "the step of {} gave NaN or infinity",
            self.sampler.name()
        );
        b.x.copy_from_slice(b.spare);
        b.x0.copy_from_slice(b.x0_next);
        b.state.copy_from_slice(b.next_state);
        Ok(())
    }
}
