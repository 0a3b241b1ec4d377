//! A product of two models: digits, times a Gaussian that says the left ten columns are empty.
//!
//! Neither has to know of the other; the chain follows the sum of their scores. As the docs of `Product` say, it samples near the
//! product, not the product itself, so what comes out is counted here rather than taken on trust.
//!
//!     cargo run --release --example product

use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, Denoiser, GaussianMixture, Product};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{PredictionType, SamplerKind, SamplerOptions, Steps};

const SIDE: usize = 28;
const EMPTY: usize = 10;
const BATCH: usize = 8;

fn main() -> undiffuse::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/digits.safetensors");
    let pipeline = Pipeline::open(path, &Cpu::new()?, &PipelineOptions::default())?;

    // Black (-1) with a standard deviation of 0.2 on the left; elsewhere so wide that it says nothing.
    let variance = (0..SIDE * SIDE).map(|i| if i % SIDE < EMPTY { 0.04 } else { 1e4 }).collect();
    let black = Component { weight: 1.0, mean: vec![-1.0; SIDE * SIDE], covariance: Covariance::Diagonal(variance) };
    let kind = PredictionType::Epsilon;
    let empty_left = GaussianMixture::new(pipeline.sample_dims(), &[black], kind)?;

    let digits = || pipeline.denoiser(BATCH, &[]);
    let free = sample(&pipeline, digits()?)?;
    let both = sample(&pipeline, Product::new((1.0, digits()?), (1.0, empty_left), kind, BATCH)?)?;
    println!(
        "ink in the left {EMPTY} columns: {:.1} % of all of it in digits, {:.1} % in the product\n",
        left(&free),
        left(&both)
    );
    show(&both);
    Ok(())
}

fn sample(pipeline: &Pipeline, denoiser: impl Denoiser) -> undiffuse::Result<Vec<f32>> {
    let ddim =
        SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(50), eta: 1.0, ..Default::default() };
    let options = ChainOptions { batch: BATCH, first_sample: 0 };
    let mut chain = Chain::new(denoiser, pipeline.sampler(&ddim)?, Seeded::new(3), &options)?;
    chain.run()?;
    Ok(chain.x().to_vec())
}

/// The share of ink in the left columns, in %.
fn left(x: &[f32]) -> f32 {
    let ink = |v: f32| v.clamp(-1.0, 1.0) + 1.0;
    let left: f32 = x.iter().enumerate().filter(|(i, _)| i % SIDE < EMPTY).map(|(_, &v)| ink(v)).sum();
    100.0 * left / x.iter().map(|&v| ink(v)).sum::<f32>()
}

/// Four of them side by side, two rows of pixels to a line.
fn show(x: &[f32]) {
    for row in (0..SIDE).step_by(2) {
        let line: String = (0..4 * SIDE)
            .map(|i| {
                let at = |row: usize| x[i / SIDE * SIDE * SIDE + row * SIDE + i % SIDE] > 0.0;
                match (at(row), at(row + 1)) {
                    (true, true) => '#',
                    (true, false) => '"',
                    (false, true) => '.',
                    (false, false) => ' ',
                }
            })
            .collect();
        println!("{}", line.trim_end());
    }
}
