//! What the chain asks of evidence, and what evidence may ask of the chain.

use alloc::boxed::Box;

use super::Recommended;
use crate::error::{Result, err};
use crate::noise::NoiseSource;
use crate::sampler::{Sampler, Spread};
use crate::schedule::Level;
use crate::tensor::Dims;

/// Draws of evidence are numbered from here on, so that they never meet the chain's own: with evidence or without, a
/// sample sees the same noise.
const EVIDENCE_DRAWS: u64 = 1 << 63;

/// Those of an inner loop are numbered from here on.
const INNER_DRAWS: u64 = EVIDENCE_DRAWS | 1 << 62;
/// More rounds than an inner loop makes.
const INNER_ROUNDS: u64 = 1 << 24;

/// How many draws of its own evidence may take in one step.
pub const DRAWS_A_STEP: u64 = 16;

/// Where the chain stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// The step, from 0.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// The level of x_t.
    pub level: Level,
    /// The level of x_s, to which the step leads.
    pub target: Level,
    /// The number of the first sample of the batch.
    pub first_sample: u64,
    /// Values of one sample. The batch is a buffer's length divided by it.
    pub sample_len: usize,
    /// r where the sampler clips x_0 to plus or minus r, since the model's samples lie there.
    pub range: Option<f32>,
}

impl At {
    /// The number under which to ask the noise source for draw `k` of this step, `k` below [`DRAWS_A_STEP`].
    pub fn draw(&self, k: u64) -> u64 {
        EVIDENCE_DRAWS | (self.step as u64).wrapping_mul(DRAWS_A_STEP).wrapping_add(k % DRAWS_A_STEP)
    }

    /// Likewise for round `k` of a loop within this step, k below 2^24; never a number of [`At::draw`].
    pub fn inner_draw(&self, k: u64) -> u64 {
        INNER_DRAWS | (self.step as u64).wrapping_mul(INNER_ROUNDS).wrapping_add(k % INNER_ROUNDS)
    }
}

/// The Jacobian J = d x_0 / d x_t of the predicted x_0, before it is clipped, at the x_t of the step.
pub trait Jacobian {
    /// Writes J^T v to `out` for every sample of the batch; both `[batch, sample_len]`. One backward pass through the
    /// network for all samples.
    ///
    /// Errors: kind `Unsupported` if the denoiser has none or the evidence did not say that it
    /// [needs it](Evidence::needs_vjp); otherwise the denoiser's.
    fn vjp(&mut self, v: &[f32], out: &mut [f32]) -> Result<()>;
}

/// Of a denoiser that has no products, for evidence that [needs none](Evidence::needs_vjp): refuses each.
#[derive(Clone, Copy, Debug)]
pub struct NoProducts;

impl Jacobian for NoProducts {
    fn vjp(&mut self, _: &[f32], _: &mut [f32]) -> Result<()> {
        Err(err!(Unsupported, "the denoiser has no vector-Jacobian products"))
    }
}

/// What a step draws from: x_s = mean + std * noise. In a binary chain ([`Spread::Bits`]) the mean is the probability
/// of a 1 and the noise is uniform.
#[derive(Debug)]
pub struct Kernel<'a> {
    /// The mean, `[batch, sample_len]`; in a chain of classes the probability of each.
    pub mean: &'a mut [f32],
    /// Standard normal values, as many, or none where the step adds no noise. Evidence that changes the covariance to
    /// std^2 F F^T replaces the noise z by F z.
    pub noise: &'a mut [f32],
    /// The standard deviation before the evidence.
    pub spread: Spread,
    /// Each element's, `[batch, sample_len]` in rows of [`Kernel::std_stride`], where the spread is
    /// [`Spread::PerElement`]; empty otherwise.
    pub stds: &'a mut [f32],
    /// The distance from one sample's standard deviations to the next one's.
    pub std_stride: usize,
}

impl Kernel<'_> {
    /// The standard deviations of sample `i` of the batch, if they are given for each element.
    pub fn stds(&self, i: usize, sample_len: usize) -> Option<&[f32]> {
        let at = i.checked_mul(self.std_stride)?;
        self.stds.get(at..at.checked_add(sample_len)?)
    }
}

/// Evidence r in p(x) r(x): what a method does to a reverse chain.
///
/// In each step the chain offers three places, in this order, each with the whole batch:
///
/// 1. [`estimate`](Self::estimate), after the network's prediction: may change x_0 and eps, may ask for the
///    vector-Jacobian product. Samplers use either, so both should say the same: x_t = alpha x_0 + sigma eps;
/// 2. [`kernel`](Self::kernel), when the mean of x_s and its spread are known: may change mean and noise;
/// 3. [`merge`](Self::merge), when x_s is drawn: may change it.
///
/// What evidence keeps of a sample from step to step it keeps in the chain ([`kept_len`](Self::kept_len)), which saves
/// it, and nowhere else; and it treats every sample by itself: what it does to one depends neither on its batch nor on
/// its place in it. (Where samples are weighed against one another, as [`SplitGibbs`](super::SplitGibbs) does, that
/// holds for the group that a sample's number puts it in.) An error stops the step; the chain is then as before. NaN or
/// infinity left in a buffer is found by the chain and reported with the evidence's name.
pub trait Evidence {
    /// A name for messages.
    fn name(&self) -> &str;

    /// Whether it can act on samples of shape `dims` made by `sampler`; called when a chain is made. Errors say what
    /// does not fit.
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        let _ = (dims, sampler);
        Ok(())
    }

    /// Whether it does anything, so that the sampler has to allow it ([`Sampler::takes_evidence`]).
    fn acts(&self) -> bool {
        true
    }

    /// Called once when a chain of so large a `batch` is made, after [`check`](Self::check): evidence may keep what it
    /// needs to know of the sampler, and take its memory. Errors say what does not fit.
    fn bind(&mut self, dims: Dims, sampler: &dyn Sampler, batch: usize) -> Result<()> {
        let _ = (dims, sampler, batch);
        Ok(())
    }

    /// f32 values of scratch that it needs for a batch. The content is unspecified when a step begins and kept from one
    /// place of the step to the next.
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        let _ = (dims, batch);
        0
    }

    /// f32 values of a sample that it keeps from step to step, as an optimiser its moments. They stand before the
    /// scratch, `[batch, kept_len]`, in addition to [`scratch_len`](Self::scratch_len): zeros when a run begins,
    /// wherever it begins, later what stood there when the step before was over.
    fn kept_len(&self, dims: Dims) -> usize {
        let _ = dims;
        0
    }

    /// Whether [`estimate`](Self::estimate) asks for the vector-Jacobian product.
    fn needs_vjp(&self) -> bool {
        false
    }

    /// The chain that it is best run with, where one has no reason for another.
    fn recommended(&self) -> Recommended {
        Recommended::EVERY_STEP
    }

    /// Whether [`estimate`](Self::estimate) leaves a draw of x_0 given x_t (and the evidence) in place of its mean. The
    /// step then adds [`conditional_std`](crate::sampler::conditional_std), whatever variance its sampler would have
    /// added.
    fn draws_x0(&self) -> bool {
        false
    }

    /// Before place 1: draws what [`estimate`](Self::estimate) needs of noise into the scratch, for `batch` samples,
    /// under the numbers [`At::draw`].
    fn draw(&mut self, at: &At, batch: usize, noise: &mut dyn NoiseSource, scratch: &mut [f32]) -> Result<()> {
        let _ = (at, batch, noise, scratch);
        Ok(())
    }

    /// Place 1. `x` is x_t, `x0` the predicted x_0 after clipping, `eps` the predicted noise.
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        jacobian: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        let _ = (at, x, x0, eps, jacobian, scratch);
        Ok(())
    }

    /// Place 2.
    fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let _ = (at, x, kernel, scratch);
        Ok(())
    }

    /// Place 3. `next` is x_s. Noise of its own it draws from `noise` under the numbers [`At::draw`].
    fn merge(
        &mut self,
        at: &At,
        x: &[f32],
        next: &mut [f32],
        noise: &mut dyn NoiseSource,
        scratch: &mut [f32],
    ) -> Result<()> {
        let _ = (at, x, next, noise, scratch);
        Ok(())
    }

    /// Where samples are weighed against one another: the least effective fraction (sum w)^2 / (K sum w^2) that the
    /// weights of a group of K had since the chain was made. Near 1 / K one sample was taken for all, and the group is
    /// no picture of the posterior.
    fn effective(&self) -> Option<f64> {
        None
    }

    /// A number that differs between evidence that acts differently, for saved chains.
    fn fingerprint(&self) -> u64;
}

/// No evidence: the chain samples from the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoEvidence;

impl Evidence for NoEvidence {
    fn name(&self) -> &str {
        "none"
    }
    fn acts(&self) -> bool {
        false
    }
    fn fingerprint(&self) -> u64 {
        0
    }
}

macro_rules! forward {
    ($($of:ty),*) => {$(
        impl<E: Evidence + ?Sized> Evidence for $of {
            fn name(&self) -> &str {
                (**self).name()
            }
            fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
                (**self).check(dims, sampler)
            }
            fn acts(&self) -> bool {
                (**self).acts()
            }
            fn bind(&mut self, dims: Dims, sampler: &dyn Sampler, batch: usize) -> Result<()> {
                (**self).bind(dims, sampler, batch)
            }
            fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
                (**self).scratch_len(dims, batch)
            }
            fn kept_len(&self, dims: Dims) -> usize {
                (**self).kept_len(dims)
            }
            fn effective(&self) -> Option<f64> {
                (**self).effective()
            }
            fn needs_vjp(&self) -> bool {
                (**self).needs_vjp()
            }
            fn recommended(&self) -> Recommended {
                (**self).recommended()
            }
            fn draws_x0(&self) -> bool {
                (**self).draws_x0()
            }
            fn draw(&mut self, at: &At, batch: usize, noise: &mut dyn NoiseSource, scratch: &mut [f32]) -> Result<()> {
                (**self).draw(at, batch, noise, scratch)
            }
            fn estimate(
                &mut self,
                at: &At,
                x: &[f32],
                x0: &mut [f32],
                eps: &mut [f32],
                jacobian: &mut dyn Jacobian,
                scratch: &mut [f32],
            ) -> Result<()> {
                (**self).estimate(at, x, x0, eps, jacobian, scratch)
            }
            fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
                (**self).kernel(at, x, kernel, scratch)
            }
            fn merge(
                &mut self,
                at: &At,
                x: &[f32],
                next: &mut [f32],
                noise: &mut dyn NoiseSource,
                scratch: &mut [f32],
            ) -> Result<()> {
                (**self).merge(at, x, next, noise, scratch)
            }
            fn fingerprint(&self) -> u64 {
                (**self).fingerprint()
            }
        }
    )*};
}

forward!(&mut E, Box<E>);
