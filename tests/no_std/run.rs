//! What the bare-metal program and the host's test both run: a packed model from bytes, a chain of a few steps.

use alloc::vec;
use alloc::vec::Vec;

use undiffuse::Result;
use undiffuse::backend::cpu::isa::Path;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::chain::{Chain, ChainOptions, never};
use undiffuse::denoiser::NetworkDenoiser;
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};

const SAMPLES: usize = 2;
const STEPS: usize = 4;

/// Two samples of four DDIM steps with noise, on the portable kernels, in memory that the caller could have set aside.
pub fn samples(model: &[u8]) -> Result<Vec<f32>> {
    let backend = Cpu::with_options(CpuOptions { path: Some(Path::Portable), threads: Some(1) })?;
    let pipeline = Pipeline::from_bytes(model, &backend, &PipelineOptions::default())?;
    let network = pipeline.network();

    let mut memory = vec![0.0; NetworkDenoiser::<&mut [f32]>::memory_len(network.as_ref(), SAMPLES)?];
    let denoiser = NetworkDenoiser::in_memory(network.clone(), SAMPLES, &[], memory.as_mut_slice())?;
    let options =
        SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(STEPS), eta: 1.0, ..Default::default() };
    let sampler = pipeline.sampler(&options)?;
    let mut workspace = vec![0.0; Chain::<_, _, Seeded>::workspace_len(&denoiser, &sampler, SAMPLES)?];
    let options = ChainOptions { batch: SAMPLES, first_sample: 0 };
    let mut chain = Chain::in_workspace(denoiser, sampler, Seeded::new(42), &options, &mut workspace)?;
    while chain.step_with(never())? == undiffuse::chain::Status::Running {}
    Ok(chain.x().to_vec())
}

/// A sum that changes with every bit (FNV-1a over the bytes).
pub fn checksum(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
