//! A seed gives the picture that it gives in Python: the embedded digits by diffusers' pipelines on the CPU.
//!
//! `tests/golden/make_seeds.py` made the pictures and names the versions.

use safetensors::SafeTensors;
use serde_json::Value;
use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::{BrownianTree, DrawnFor, NoiseSource, PythonGenerator, PythonNoise, TreeSeed};
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{Sampler, SamplerOptions, SchedulerConfig, Steps, brownian_intervals};

const BYTES: &[u8] = include_bytes!("../golden/seeds.safetensors");
const N: usize = 28 * 28;
#[test]
fn seeds_give_the_pictures_of_python() {
    let (_, metadata) = SafeTensors::read_metadata(BYTES).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
    let tensors = SafeTensors::deserialize(BYTES).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/digits.safetensors");
    let pipeline = Pipeline::open(path, &Cpu::new().unwrap(), &PipelineOptions::default()).unwrap();
    let mut compared = 0;
    for (i, case) in cases.iter().enumerate() {
        let class = case["class"].as_str().unwrap();
        let mut config = case["config"].clone();
        config["_class_name"] = class.into();
        config["beta_schedule"] = "squaredcos_cap_v2".into();
        let count = |key: &str| case[key].as_u64().unwrap();
        let options = SamplerOptions {
            steps: Steps::Count(count("steps") as usize),
            eta: case["eta"].as_f64().unwrap_or(0.0),
            ..Default::default()
        };
        let config_of = SchedulerConfig::from_json(&config.to_string()).unwrap();
        let sampler = config_of.sampler(&options).unwrap();
        let batch = count("batch") as usize;
        let each = case["each"].as_bool().unwrap();
        let drawn_for = if each { DrawnFor::Each { at_once: batch } } else { DrawnFor::AllOf(batch as u64) };
        let steps = (0..sampler.levels().len()).filter(|k| sampler.needs_noise(*k)).map(|k| k as u64 + 1);
        let draws = std::iter::once(0).chain(steps).collect();
        let noise: Box<dyn NoiseSource> = if class == "DPMSolverSDEScheduler" {
            let tree = config_of.noise_sampler_seed().unwrap().map_or(TreeSeed::Drawn, TreeSeed::Given);
            let (between, [low, high]) = brownian_intervals(&*sampler).unwrap();
            let noise = BrownianTree::new(count("seed"), tree, drawn_for, N, &between).unwrap();
            Box::new(noise.with_ends(low, high).unwrap())
        } else {
            let noise = PythonNoise::new(PythonGenerator::TorchCpu, count("seed"), drawn_for, N).unwrap();
            Box::new(noise.with_draws(draws).unwrap())
        };
        let denoiser = pipeline.denoiser(batch, &[]).unwrap();
        let mut chain = Chain::new(denoiser, sampler, noise, &ChainOptions { batch, first_sample: 0 }).unwrap();
        chain.run().unwrap();
        let want = tensors.tensor(&i.to_string()).unwrap();
        let want: Vec<f32> = (want.data().chunks_exact(2))
            .map(|b| f32::from(u16::from_le_bytes(b.try_into().unwrap())) / 32_767.5 - 1.0)
            .collect();
        assert_eq!(want.len(), batch * N);
        let worst = chain.x().iter().zip(&want).map(|(x, w)| (x.clamp(-1.0, 1.0) - w).abs()).fold(0.0, f32::max);
        println!("{case}: {worst:e}");
        assert!(worst <= 1e-3, "{case}: {worst}");
        compared += 1;
    }
    assert_eq!(compared, cases.len());
    assert!(compared >= 19);
}
