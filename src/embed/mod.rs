//! A model that is a part of the program: everything about it is known when the program is built, so that a device
//! parses, plans and packs nothing and has only the code that this model needs.
//!
//! A build script calls `generate` (feature `embed`, on the machine that builds), which compiles the network for the
//! portable path, chooses the steps of the sampler and writes both as Rust: statics, and a file of weights beside. The
//! program includes them and has a [`Model`]:
//!
//! ```toml
//! [dependencies]
//! undiffuse = { version = "0.1", default-features = false }
//! [build-dependencies]
//! undiffuse = { version = "0.1", features = ["embed"] }
//! ```
//!
//! ```ignore
//! // build.rs
//! let options = EmbedOptions { name: "DIGITS".into(), weights: WeightType::Int8, ..Default::default() };
//! undiffuse::embed::generate("digits.safetensors", &options, out_dir.join("digits.rs"))?;
//!
//! // main.rs
//! include!(concat!(env!("OUT_DIR"), "/digits.rs"));
//! static mut WORKSPACE: [f32; DIGITS.workspace_len()] = [0.0; DIGITS.workspace_len()];
//! let mut chain = DIGITS.chain(Seeded::new(42), &ChainOptions::default(), &[], workspace)?;
//! chain.run()?;
//! ```
//!
//! Samples have the bits that [`Pipeline`](crate::pipeline::Pipeline) gives with
//! [`Path::Portable`](crate::backend::cpu::Path), the same weights, sampler and noise. Nothing is allocated, so that
//! [`NoHeap`] suits as the global allocator. A model's conditions are given by name; guidance, gradients and operations
//! without a kernel it has not, and `generate` says so. `tests/no_std` has whole programs.

#[cfg(feature = "embed")]
mod generate;

#[cfg(feature = "embed")]
pub use generate::{EmbedOptions, Embedded, generate, generate_source};

#[doc(inline)]
pub use crate::backend::cpu::heap::NoHeap;
#[doc(inline)]
pub use crate::denoiser::{FixedDenoiser, Given, Port};

use crate::backend::cpu::parts::FixedNetwork;
use crate::chain::{Chain, ChainOptions};
use crate::error::{Result, err};
use crate::noise::NoiseSource;
use crate::posterior::{Evidence, NoEvidence};
use crate::sampler::{Plan, Sampler};

/// What generated code names.
#[doc(hidden)]
pub mod parts {
    pub use crate::backend::cpu::parts::*;
    pub use crate::embed::{Model, Port};
    pub use crate::graph::{Activation, Binary, NormKind, Padding, Role, Window};
    pub use crate::process::{Binomial, Linear};
    pub use crate::sampler::parts::*;
    pub use crate::sampler::{
        Ancestral2015, BitPrediction, Bits2015, Call, CallNoise, Mix, Of, Plan, Prediction, PredictionType,
        Readout2015, SampleClip, Term, Update,
    };
    pub use crate::schedule::Level;
    pub use crate::tensor::Dims;
    pub use alloc::borrow::Cow;
}

/// A network and a sampler as a part of the program, from generated code.
pub struct Model<S: 'static = Plan> {
    network: FixedNetwork,
    inputs: &'static [Port],
    sampler: S,
    chain: usize,
}

/// A chain of a [`Model`].
pub type ModelChain<'w, S, N, E = NoEvidence> = Chain<'w, FixedDenoiser<'w>, &'static S, N, E>;

impl<S: Sampler> Model<S> {
    /// For generated code: `chain` is what a chain of the largest batch needs beside the denoiser.
    #[doc(hidden)]
    pub const fn new(network: FixedNetwork, inputs: &'static [Port], sampler: S, chain: usize) -> Self {
        Self { network, inputs, sampler, chain }
    }

    /// The largest batch.
    pub const fn batch(&self) -> usize {
        self.network.batch()
    }

    /// The inputs of the network.
    pub const fn inputs(&self) -> &'static [Port] {
        self.inputs
    }

    /// The sampler, with all of its steps.
    pub const fn sampler(&self) -> &S {
        &self.sampler
    }

    /// The `f32` values that [`Model::chain`] needs, known when the program is built.
    pub const fn workspace_len(&self) -> usize {
        self.denoiser_len() + self.chain
    }

    /// The `f32` values that [`Model::denoiser`] needs.
    pub const fn denoiser_len(&self) -> usize {
        FixedDenoiser::memory_len(&self.network, self.inputs)
    }

    /// The denoiser alone, for a chain with evidence or a loop of one's own.
    ///
    /// Errors: as [`FixedDenoiser::new`].
    pub fn denoiser<'w>(&'static self, conditions: Given<'w>, memory: &'w mut [f32]) -> Result<FixedDenoiser<'w>> {
        FixedDenoiser::new(&self.network, self.inputs, conditions, memory)
    }

    /// A chain at x_T, in a workspace of at least [`Model::workspace_len`] values. Nothing is allocated.
    ///
    /// Errors: kind `OutOfMemory` for a shorter workspace, with both [lengths](crate::Error::lengths); as
    /// [`Model::denoiser`] and [`ChainBuilder::build`](crate::chain::ChainBuilder::build).
    pub fn chain<'w, N: NoiseSource>(
        &'static self,
        noise: N,
        options: &ChainOptions,
        conditions: Given<'w>,
        workspace: &'w mut [f32],
    ) -> Result<ModelChain<'w, S, N>> {
        let (denoiser, rest) = self.cut(conditions, workspace)?;
        let parts = Chain::builder(denoiser, &self.sampler, noise);
        parts.batch(options.batch).first_sample(options.first_sample).workspace(rest).build()
    }

    /// As [`Model::chain`], with evidence, whose own memory the workspace must have too: as many values more as
    /// [`ChainBuilder::workspace_len`](crate::chain::ChainBuilder::workspace_len) says with it than without. What the
    /// evidence allocates, it allocates here.
    ///
    /// Errors: as [`Model::chain`], and the evidence's.
    pub fn chain_with_evidence<'w, N: NoiseSource, E: Evidence>(
        &'static self,
        noise: N,
        evidence: E,
        options: &ChainOptions,
        conditions: Given<'w>,
        workspace: &'w mut [f32],
    ) -> Result<ModelChain<'w, S, N, E>> {
        let (denoiser, rest) = self.cut(conditions, workspace)?;
        let parts = Chain::builder(denoiser, &self.sampler, noise).evidence(evidence);
        parts.batch(options.batch).first_sample(options.first_sample).workspace(rest).build()
    }

    fn cut<'w>(
        &'static self,
        conditions: Given<'w>,
        workspace: &'w mut [f32],
    ) -> Result<(FixedDenoiser<'w>, &'w mut [f32])> {
        let (got, need) = (workspace.len(), self.workspace_len());
        let short = || err!(OutOfMemory, "the workspace has {got} values, expected {need}").with_lengths(got, need);
        if got < need {
            return Err(short());
        }
        let (memory, rest) = workspace.split_at_mut_checked(self.denoiser_len()).ok_or_else(short)?;
        Ok((self.denoiser(conditions, memory)?, rest))
    }
}

#[cfg(test)]
mod tests;
