//! The shipped texture of bark still is what its card says, as far as that shows without its data.

use undiffuse::Cancel;
use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::evaluate::{BoundOptions, Times, Unit, bound};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::SamplerOptions;

#[test]
fn bark_is_sampled_at_a_size_of_its_own_and_knows_its_samples() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/bark.safetensors");
    let options = PipelineOptions { size: Some([24, 48]), ..PipelineOptions::default() };
    let pipeline = Pipeline::open(file, &Cpu::new().unwrap(), &options).unwrap();
    let sampler = pipeline.sampler(&SamplerOptions::default()).unwrap();
    let (batch, options) = (4, ChainOptions { batch: 4, ..ChainOptions::default() });
    let mut chain = Chain::new(pipeline.denoiser(batch, &[]).unwrap(), &sampler, Seeded::new(1), &options).unwrap();
    chain.run().unwrap();
    let neighbours = |x: &[f32], step: usize| -> f64 {
        let rows = x.chunks_exact(48);
        rows.flat_map(|r| r.iter().zip(&r[step..])).map(|(a, b)| f64::from(a * b)).sum::<f64>() / x.len() as f64
    };
    // White noise would have 0 beside 1.
    assert!(neighbours(chain.x(), 1) > 0.6 * neighbours(chain.x(), 0));
    let options = BoundOptions { times: Times::Sampled(20), batch, ..BoundOptions::default() };
    let mut denoiser = pipeline.denoiser(batch, &[]).unwrap();
    let r = bound(&mut denoiser, &sampler, &mut Seeded::new(2), chain.x(), &options, &Cancel::new()).unwrap();
    let gain = r.value(r.k - r.l_null, Unit::BitsPerDim);
    println!("K - L_null of its own samples: {gain:.3} bits per pixel");
    assert!(gain > 1.0, "{gain}");
}
