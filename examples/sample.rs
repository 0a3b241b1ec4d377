//! Samples from a model and writes them as portable greymaps (PGM), watching the chain on its way.
//!
//!     cargo run --release --example sample [MODEL]
//!
//! MODEL is a diffusers `UNet2DModel` pipeline directory or a packed file; without it the digits of this repository are
//! used.

use std::io::Write;

use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions, Flow};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};
use undiffuse::{Cancel, Result};

fn main() -> Result<()> {
    let digits = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/digits.safetensors");
    let model = std::env::args().nth(1).unwrap_or(digits.into());

    // A pipeline is compiled once; any number of chains, on any threads, may then share it.
    let pipeline = Pipeline::open(&model, &Cpu::new()?, &PipelineOptions::default())?;
    let batch = 4;
    println!("{model}: {} weights, workspace {} bytes", pipeline.parameter_count(), pipeline.workspace_bytes(batch)?);

    let options =
        SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(25), ..SamplerOptions::default() };
    let sampler = pipeline.sampler(&options)?;
    let denoiser = pipeline.denoiser(batch, &[])?;
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(7), &ChainOptions { batch, first_sample: 0 })?;

    // The observer sees x_t and the x_0 that the step predicted. Another thread may call `cancel.cancel()`.
    let cancel = Cancel::new();
    chain.run_with(&cancel, |progress| {
        let change = progress.x.iter().zip(progress.x0).map(|(x, x0)| (x - x0).abs()).sum::<f32>();
        if progress.step % 5 == 4 {
            println!(
                "step {} of {}: x is {:.3} from x_0",
                progress.step + 1,
                progress.steps,
                change / progress.x.len() as f32
            );
        }
        Flow::Continue
    })?;

    // Samples are [batch, channels, height, width] in [-1, 1]; only the first channel is shown.
    let dims = pipeline.sample_dims();
    let &[_, height, width] = dims.as_slice() else { return Ok(()) };
    for (i, sample) in chain.x().chunks_exact(dims.elements()).enumerate() {
        let path = std::env::temp_dir().join(format!("undiffuse-sample-{i}.pgm"));
        let mut file = std::fs::File::create(&path)?;
        writeln!(file, "P5 {width} {height} 255")?;
        let pixels =
            sample.iter().take(height * width).map(|x| ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8);
        file.write_all(&pixels.collect::<Vec<u8>>())?;
        println!("{}", path.display());
    }
    Ok(())
}
