//! Restores digits: takes noise out of them, and fills in a half that is not seen.
//!
//!     cargo run --release --example restore
//!
//! The clean digits are samples of the model itself, so that the truth is known. `undiffuse denoise` and
//! `undiffuse inpaint` do the same with pictures in files.

use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::pipeline::{Gradient, Pipeline, PipelineOptions};
use undiffuse::posterior::operator::{Identity, LinearOperator, Mask};
use undiffuse::posterior::{Calibrated, Evidence, Measurement, NoEvidence};

const SIDE: usize = 28;
const BATCH: usize = 4;

fn main() -> undiffuse::Result<()> {
    // Calibrated evidence needs the network's vector-Jacobian product.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/digits.safetensors");
    let options = PipelineOptions { gradient: Gradient::Full, ..PipelineOptions::default() };
    let pipeline = Pipeline::open(path, &Cpu::new()?, &options)?;
    let dims = pipeline.sample_dims();
    let truth = sample(&pipeline, 1, NoEvidence)?;
    show("digits of the model", &truth);

    // y = x + s z at a signal to noise ratio of 1.
    let s = 0.6;
    let noisy = measure(&Identity::new(dims)?, &truth, s)?;
    let seen = Measurement::each(Identity::new(dims)?, &noisy, 0, s)?;
    let denoised = sample(&pipeline, 2, Calibrated::new(seen, 2)?)?;
    println!("noisy {:.1} dB, denoised {:.1} dB", psnr(&noisy, &truth), psnr(&denoised, &truth));
    show("denoised", &denoised);

    // The upper half, all but exact.
    let upper = Mask::without_box(dims, SIDE / 2, 0, SIDE / 2, SIDE)?;
    let half = measure(&upper, &truth, 0.05)?;
    let filled = sample(&pipeline, 3, Calibrated::new(Measurement::each(upper, &half, 0, 0.05)?, 2)?)?;
    show("their upper halves, completed", &filled);
    Ok(())
}

fn sample(pipeline: &Pipeline, seed: u64, evidence: impl Evidence) -> undiffuse::Result<Vec<f32>> {
    let sampler = evidence.recommended().sampler(&pipeline.scheduler()?)?;
    let options = ChainOptions { batch: BATCH, first_sample: 0 };
    let denoiser = pipeline.denoiser(BATCH, &[])?;
    let mut chain = Chain::with_evidence(denoiser, sampler, Seeded::new(seed), evidence, &options)?;
    chain.run()?;
    Ok(chain.x().to_vec())
}

/// A x + s z for each digit, `[BATCH, m]`.
fn measure(operator: &impl LinearOperator, x: &[f32], s: f64) -> undiffuse::Result<Vec<f32>> {
    let m = operator.output_dims().elements();
    let mut z = vec![0.0; BATCH * m];
    Seeded::new(4).normal(0, 0, m, &mut z)?;
    let mut y = vec![0.0; BATCH * m];
    let mut scratch = vec![0.0; operator.scratch_len()];
    for (y, x) in y.chunks_exact_mut(m).zip(x.chunks_exact(SIDE * SIDE)) {
        operator.apply(x, y, &mut scratch)?;
    }
    y.iter_mut().zip(&z).for_each(|(y, z)| *y += s as f32 * z);
    Ok(y)
}

/// Decibels over the range of 2.
fn psnr(x: &[f32], truth: &[f32]) -> f32 {
    let error: f32 = x.iter().zip(truth).map(|(x, t)| (x.clamp(-1.0, 1.0) - t).powi(2)).sum();
    10.0 * (4.0 * x.len() as f32 / error).log10()
}

/// The digits side by side, two rows of pixels to a line.
fn show(title: &str, x: &[f32]) {
    println!("{title}:");
    for row in (0..SIDE).step_by(2) {
        let bright = |row: usize, i: usize| x[i / SIDE * SIDE * SIDE + row * SIDE + i % SIDE] > 0.0;
        let line: String = (0..BATCH * SIDE)
            .map(|i| match (bright(row, i), bright(row + 1, i)) {
                (true, true) => '#',
                (true, false) => '"',
                (false, true) => '.',
                (false, false) => ' ',
            })
            .collect();
        println!("{}", line.trim_end());
    }
}
