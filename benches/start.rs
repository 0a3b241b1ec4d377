//! For benches/start.py: opens a model, makes the first step of a chain, says "done" and the most bytes that the
//! process has had, and ends.
//!
//!     start MODEL THREADS
//!
//! MODEL is a diffusers pipeline's folder or a packed file.

use std::error::Error;
use std::io::Write;

use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};

#[path = "common/resident.rs"]
mod resident;

fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [model, threads] = args else { return Err("usage: start MODEL THREADS".into()) };
    let cpu = Cpu::with_options(CpuOptions { threads: Some(threads.parse()?), ..CpuOptions::default() })?;
    let pipeline = Pipeline::open(model, &cpu, &PipelineOptions::default())?;
    let options =
        SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(50), ..SamplerOptions::default() };
    let denoiser = pipeline.denoiser(1, &[])?;
    let sampler = pipeline.sampler(&options)?;
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(0), &ChainOptions { batch: 1, first_sample: 0 })?;
    chain.step()?;
    writeln!(std::io::stdout(), "done {}", resident::most())?;
    Ok(())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let Err(e) = run(&args) {
        eprintln!("start: {e}");
        std::process::exit(1);
    }
}
