//! The chain's memory: one arena of f32, cut into the same regions every time.

use alloc::vec::Vec;

use crate::denoiser::Denoiser;
use crate::error::{Result, ensure, err};
use crate::memory::zeros;
use crate::posterior::Evidence;
use crate::sampler::Sampler;

/// The sizes, in f32 values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Samples there is room for.
    pub batch: usize,
    /// Values of one sample.
    pub sample: usize,
    /// Values of one prediction.
    pub output: usize,
    /// Values of one sample's state: what the evidence keeps, then the sampler's.
    pub state: usize,
    /// Of these the evidence's.
    pub kept: usize,
    /// Values of one sample's cotangent: those of a prediction, or 0 where no evidence needs it.
    pub cotangent: usize,
    /// Values of the evidence's scratch, for the whole batch.
    pub evidence: usize,
    len: usize,
}

/// The regions, each cut to the samples of the run: `x`, `x0`, `x0_next`, `eps`, `noise` and `spare` are
/// `[count, sample]`.
pub(super) struct Buffers<'a> {
    pub x: &'a mut [f32],
    pub x0: &'a mut [f32],
    pub state: &'a mut [f32],
    pub x0_next: &'a mut [f32],
    pub eps: &'a mut [f32],
    pub noise: &'a mut [f32],
    /// The scaled input, then x after the step; also a fresh x_T.
    pub spare: &'a mut [f32],
    pub next_state: &'a mut [f32],
    pub output: &'a mut [f32],
    pub cotangent: &'a mut [f32],
    /// As long for a partial batch as for a whole one.
    pub evidence: &'a mut [f32],
}

impl Layout {
    pub fn new(
        denoiser: &impl Denoiser,
        sampler: &impl Sampler,
        evidence: &impl Evidence,
        batch: usize,
    ) -> Result<Self> {
        let most = denoiser.max_batch();
        ensure!(
            (1..=most).contains(&batch),
            InvalidArgument,
            "the batch is {batch}, the denoiser \"{}\" takes 1 to {most}",
            denoiser.name()
        );
        let sample = denoiser.sample_dims().elements();
        let output = denoiser.output_len();
        sampler
            .check_output_len(sample, output)
            .map_err(|e| e.context(format_args!("{} with the denoiser \"{}\"", sampler.name(), denoiser.name())))?;
        let (state, dims) = (sampler.state_len(sample), denoiser.sample_dims());
        let kept = evidence.kept_len(dims);
        let too_large =
            || err!(OutOfMemory, "a batch of {batch} samples of {sample} values is too large for this machine");
        let state = state.checked_add(kept).ok_or_else(too_large)?;
        let of_evidence = |e: crate::Error| e.context(format_args!("the evidence \"{}\"", evidence.name()));
        ensure!(
            sampler.takes_evidence() || !evidence.acts(),
            Unsupported,
            "the evidence \"{}\" with {}, whose steps are no Gaussians around a prediction; take ddim, ddpm or dpmsolver++",
            evidence.name(),
            sampler.name()
        );
        evidence.check(dims, sampler).map_err(of_evidence)?;
        ensure!(
            !evidence.needs_vjp() || denoiser.has_vjp(),
            Unsupported,
            "the evidence \"{}\" needs a vector-Jacobian product, which the denoiser \"{}\" has not",
            evidence.name(),
            denoiser.name()
        );
        if evidence.needs_vjp() {
            sampler.linear(0).map_err(of_evidence)?;
        }
        let cotangent = if evidence.needs_vjp() { output } else { 0 };
        let scratch = evidence.scratch_len(dims, batch).saturating_add(kept.saturating_mul(batch));
        let len = || -> Option<usize> {
            let per_sample = sample
                .checked_mul(6)?
                .checked_add(state.checked_mul(2)?)?
                .checked_add(output)?
                .checked_add(cotangent)?;
            per_sample
                .checked_mul(batch)?
                .checked_add(scratch)
                .filter(|len| len.checked_mul(4).is_some_and(|b| isize::try_from(b).is_ok()))
        };
        let len = len().ok_or_else(too_large)?;
        Ok(Self { batch, sample, output, state, kept, cotangent, evidence: scratch, len })
    }

    /// Values of the whole arena.
    pub fn len(&self) -> usize {
        self.len
    }

    /// x of the first `count` samples.
    pub fn x<'a>(&self, arena: &'a [f32], count: usize) -> &'a [f32] {
        arena.get(..count * self.sample).unwrap_or(&[])
    }

    /// x_0 of the first `count` samples.
    pub fn x0<'a>(&self, arena: &'a [f32], count: usize) -> &'a [f32] {
        let at = self.batch * self.sample;
        arena.get(at..at + count * self.sample).unwrap_or(&[])
    }

    /// The state of the first `count` samples.
    pub fn state<'a>(&self, arena: &'a [f32], count: usize) -> &'a [f32] {
        let at = 2 * self.batch * self.sample;
        arena.get(at..at + count * self.state).unwrap_or(&[])
    }

    /// Cuts the arena. `count` is at most the batch.
    pub fn split<'a>(&self, arena: &'a mut [f32], count: usize) -> Result<Buffers<'a>> {
        let short = || err!(OutOfMemory, "the workspace of the chain is shorter than {} values", self.len);
        let (mut rest, evidence) = arena.split_at_mut_checked(self.len - self.evidence).ok_or_else(short)?;
        let mut take = |per_sample: usize| -> Result<&'a mut [f32]> {
            // The products are below the arena's checked length.
            let cut = core::mem::take(&mut rest).split_at_mut_checked(self.batch * per_sample);
            let (region, tail) = cut.ok_or_else(short)?;
            rest = tail;
            region.get_mut(..count * per_sample).ok_or_else(short)
        };
        Ok(Buffers {
            x: take(self.sample)?,
            x0: take(self.sample)?,
            state: take(self.state)?,
            x0_next: take(self.sample)?,
            eps: take(self.sample)?,
            noise: take(self.sample)?,
            spare: take(self.sample)?,
            next_state: take(self.state)?,
            output: take(self.output)?,
            cotangent: take(self.cotangent)?,
            evidence,
        })
    }
}

/// The arena: the chain's own or the caller's.
pub(super) enum Arena<'w> {
    Owned(Vec<f32>),
    Borrowed(&'w mut [f32]),
}

impl<'w> Arena<'w> {
    pub fn allocate(len: usize) -> Result<Self> {
        Ok(Self::Owned(zeros("a chain", len)?))
    }

    pub fn borrow(workspace: &'w mut [f32], len: usize) -> Result<Self> {
        let got = workspace.len();
        let values = workspace.get_mut(..len).ok_or_else(|| {
            err!(OutOfMemory, "the workspace has {got} values, the chain needs {len}").with_lengths(got, len)
        })?;
        values.fill(0.0);
        Ok(Self::Borrowed(values))
    }

    pub fn get(&self) -> &[f32] {
        match self {
            Self::Owned(v) => v,
            Self::Borrowed(v) => v,
        }
    }

    pub fn values(&mut self) -> &mut [f32] {
        match self {
            Self::Owned(v) => v,
            Self::Borrowed(v) => v,
        }
    }
}
