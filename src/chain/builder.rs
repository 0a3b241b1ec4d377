//! A chain, said piece by piece.

use super::buffers::{Arena, Layout};
use super::{Chain, ChainOptions};
use crate::denoiser::Denoiser;
use crate::error::Result;
use crate::noise::NoiseSource;
use crate::posterior::{Evidence, NoEvidence};
use crate::sampler::Sampler;

/// What a [`Chain`] is made of, from [`Chain::builder`].
///
/// ```
/// use undiffuse::chain::Chain;
/// use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
/// use undiffuse::noise::Seeded;
/// use undiffuse::posterior::operator::Identity;
/// use undiffuse::posterior::{Calibrated, Measurement};
/// use undiffuse::sampler::{PredictionType, SamplerKind, SamplerOptions, SchedulerConfig};
/// use undiffuse::tensor::Dims;
///
/// let dims = Dims::new(&[1, 2, 2])?;
/// let normal = Component { weight: 1.0, mean: vec![0.0; 4], covariance: Covariance::Diagonal(vec![0.25; 4]) };
/// let prior = GaussianMixture::new(dims, &[normal], PredictionType::Epsilon)?;
/// let sampler = SchedulerConfig::new(SamplerKind::Ddpm).sampler(&SamplerOptions::default())?;
/// let seen = Measurement::new(Identity::new(dims)?, &[0.8, 0.8, -0.8, -0.8], 0.1)?;
///
/// let parts = Chain::builder(prior, sampler, Seeded::new(42)).evidence(Calibrated::new(seen, 2)?).batch(3);
/// let mut workspace = vec![0.0; parts.workspace_len()?];
/// let mut chain = parts.workspace(&mut workspace).build()?;
/// chain.run()?;
/// assert!(chain.x()[0] > 0.0 && chain.x()[3] < 0.0);
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub struct ChainBuilder<'w, D, S, N, E = NoEvidence> {
    denoiser: D,
    sampler: S,
    noise: N,
    evidence: E,
    options: ChainOptions,
    workspace: Option<&'w mut [f32]>,
}

impl<D, S, N> Chain<'static, D, S, N> {
    /// Begins a chain of one sample, number 0, without evidence, in memory of its own.
    pub fn builder(denoiser: D, sampler: S, noise: N) -> ChainBuilder<'static, D, S, N> {
        let options = ChainOptions::default();
        ChainBuilder { denoiser, sampler, noise, evidence: NoEvidence, options, workspace: None }
    }
}

impl<'w, D, S, N, E> ChainBuilder<'w, D, S, N, E> {
    /// Samples from p(x) r(x), with this r.
    pub fn evidence<F>(self, evidence: F) -> ChainBuilder<'w, D, S, N, F> {
        let Self { denoiser, sampler, noise, options, workspace, .. } = self;
        ChainBuilder { denoiser, sampler, noise, evidence, options, workspace }
    }

    /// Samples at once, at least 1.
    pub fn batch(mut self, batch: usize) -> Self {
        self.options.batch = batch;
        self
    }

    /// The number of the first of them, see [`ChainOptions::first_sample`].
    pub fn first_sample(mut self, first_sample: u64) -> Self {
        self.options.first_sample = first_sample;
        self
    }

    /// Takes the caller's memory, of at least [`workspace_len`](Self::workspace_len) values; then nothing is allocated.
    pub fn workspace<'m>(self, workspace: &'m mut [f32]) -> ChainBuilder<'m, D, S, N, E> {
        let Self { denoiser, sampler, noise, evidence, options, .. } = self;
        ChainBuilder { denoiser, sampler, noise, evidence, options, workspace: Some(workspace) }
    }
}

impl<'w, D: Denoiser, S: Sampler, N, E: Evidence> ChainBuilder<'w, D, S, N, E> {
    /// The f32 values of workspace that the chain needs (the denoiser's own memory not counted); of what the noise is
    /// nothing depends, so `()` will do for it.
    ///
    /// Errors: as [`build`](Self::build).
    pub fn workspace_len(&self) -> Result<usize> {
        Ok(Layout::new(&self.denoiser, &self.sampler, &self.evidence, self.options.batch)?.len())
    }

    /// The chain, at x_T.
    ///
    /// Errors: kind `InvalidArgument` for a batch of 0 or above the denoiser's, kind `Shape` where denoiser and sampler
    /// do not suit each other, kind `OutOfMemory`, also for a workspace that is too short, naming both lengths, and the
    /// noise source's. With evidence its own, where it does not suit the samples or the sampler, and kind `Unsupported`
    /// where it needs a vector-Jacobian product that the denoiser lacks.
    pub fn build(self) -> Result<Chain<'w, D, S, N, E>>
    where
        N: NoiseSource,
    {
        let Self { denoiser, sampler, noise, evidence, options, workspace } = self;
        let layout = Layout::new(&denoiser, &sampler, &evidence, options.batch)?;
        let arena = match workspace {
            Some(workspace) => Arena::borrow(workspace, layout.len())?,
            None => Arena::allocate(layout.len())?,
        };
        Chain::assemble(denoiser, sampler, noise, evidence, options, layout, arena)
    }
}
