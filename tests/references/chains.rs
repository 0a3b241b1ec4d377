//! Whole chains of a tiny network with given noise, against diffusers in float64: DDPM with 1000 steps, DDIM with 50.

use crate::golden;
use crate::pcg;
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::Cpu;
use undiffuse::backend::reference::Reference;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::Given;
use undiffuse::pipeline::{PipelineOptions, Source};
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};
use undiffuse::weights::SafeTensorsView;

const CHAIN_SEED: u64 = 22;
/// The bound that the project promises, on the largest absolute difference.
const BOUND: f32 = 1e-3;

fn largest_difference(backend: &dyn Backend, name: &str, options: &SamplerOptions) -> f32 {
    let json = golden::json("unet.json");
    let model = json["chain"]["config"].to_string();
    let shape: Vec<usize> =
        json["chain"]["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let (samples, sample_len) = (shape[0], shape[1..].iter().product::<usize>());

    let bytes = std::fs::read(golden::path("chain_weights.safetensors")).unwrap();
    let weights = Box::new(SafeTensorsView::parse(&bytes).unwrap());
    // diffusers' defaults: linear betas, clipping, fixed_small variance. The DDIM chains take the rest of it too.
    let scheduler = Some(r#"{"_class_name": "DDPMScheduler"}"#.to_string());
    let source = Source::new(model, scheduler, weights).unwrap();
    let pipeline = source.compile(backend, &PipelineOptions::default()).unwrap();
    let sampler = pipeline.sampler(options).unwrap();

    let steps = sampler.levels().len();
    let draw = |stream| pcg::uniform(CHAIN_SEED, stream, samples * sample_len, golden::ROOT_3);
    let x_t = draw(0);
    let noise: Vec<f32> = (0..steps as u64).flat_map(|i| draw(1 + i)).collect();
    let given = Given::new(&x_t, &noise, samples, 0).unwrap();
    let denoiser = pipeline.denoiser(samples, &[]).unwrap();
    let mut chain =
        Chain::new(denoiser, sampler, given, &ChainOptions { batch: samples, ..Default::default() }).unwrap();
    chain.run().unwrap();

    let want = golden::stored(&std::fs::read(golden::path("chains.safetensors")).unwrap(), name);
    assert_eq!(chain.x().len(), want.len());
    let worst = chain.x().iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{}: {name}: {worst:.2e}, relative L2 {:.2e}", backend.name(), golden::relative_l2(chain.x(), &want));
    worst
}

fn ddpm() -> SamplerOptions {
    SamplerOptions::default()
}

fn ddim(eta: f64) -> SamplerOptions {
    SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(50), eta, ..Default::default() }
}

/// Runs a chain on the oracle and on the cpu backend.
fn check(name: &str, options: &SamplerOptions) {
    let cpu = Cpu::new().unwrap();
    for backend in [&Reference as &dyn Backend, &cpu] {
        let worst = largest_difference(backend, name, options);
        assert!(worst <= BOUND, "{name} on {}: {worst:e} is over {BOUND:e}", backend.name());
    }
}

#[test]
fn ddpm_1000_steps() {
    check("ddpm_1000", &ddpm());
}

#[test]
fn ddim_50_steps_without_noise() {
    check("ddim_50_eta_0", &ddim(0.0));
}

#[test]
fn ddim_50_steps_with_noise() {
    check("ddim_50_eta_1", &ddim(1.0));
}
