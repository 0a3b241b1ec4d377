//! A packed model from bytes and a chain of a few steps, with `core` and `alloc` only.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use undiffuse::Result;
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::Path;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::chain::{Chain, never};
use undiffuse::denoiser::NetworkDenoiser;
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};

const SAMPLES: usize = 2;
const STEPS: usize = 4;

/// What both programs print: a sum over all bits of the samples, and the first values. The portable kernels are the
/// only ones without std.
pub fn report(model: &[u8]) -> Result<String> {
    let x = samples(
        &Cpu::with_options(CpuOptions { path: Some(Path::Portable), threads: Some(1), ..CpuOptions::default() })?,
        model,
    )?;
    Ok(format!("{:016x}\n{:?}\n", checksum(&x), x.get(..8).unwrap_or(&[])))
}

/// Two samples of four DDIM steps with noise. The lengths of all memory are known before anything runs, so `memory` and
/// `workspace` can as well be statics.
pub fn samples(backend: &dyn Backend, model: &[u8]) -> Result<Vec<f32>> {
    let pipeline = Pipeline::from_bytes(model, backend, &PipelineOptions::default())?;
    let networks = pipeline.networks();
    let mut memory = vec![0.0; NetworkDenoiser::<&mut [f32]>::memory_len(networks, SAMPLES)?];
    let denoiser = NetworkDenoiser::in_memory(networks.clone(), SAMPLES, &[], memory.as_mut_slice())?;
    let options =
        SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(STEPS), eta: 1.0, ..Default::default() };
    let sampler = pipeline.sampler(&options)?;
    let parts = Chain::builder(denoiser, sampler, Seeded::new(42)).batch(SAMPLES);
    let mut workspace = vec![0.0; parts.workspace_len()?];
    let mut chain = parts.workspace(&mut workspace).build()?;
    while chain.step_with(never())? == undiffuse::chain::Status::Running {}
    Ok(chain.x().to_vec())
}

/// FNV-1a over the bytes.
fn checksum(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
