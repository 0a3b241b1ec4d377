//! Draws what a 2015 model does, from its file.
//!
//! `cargo run --release --features training --example plot_2015 -- MODEL OUT.png [DATA]`
//!
//! DATA, from which the forward process starts, is `swiss_roll`, `heartbeat` or a .npy file of samples; without
//! it the model's own samples stand in.
//!
//! - Points in the plane: above, data under q at t = 0, T/4, T/2, 3T/4, T; in the middle the chain at the same t, from x_T on the right to
//!   its samples on the left; below, the drift mu(x, t) - x of the step at t, an arrow's length relative to the longest in its panel.
//! - Bits: the same two rows, each panel 40 sequences, one a line, a 1 black.
//! - Images: for each of eight samples a row, from x_T on the left to x_0 on the right.

mod canvas;

use std::path::Path;

use canvas::{Canvas, Panel, Point};
use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions, Flow};
use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::process::{Binomial, add_noise};
use undiffuse::sampler::{Estimate, Sampler, SamplerOptions, StateSpace};
use undiffuse::training::data::{Scale, SwissRoll, heartbeats, read_npy};
use undiffuse::{Cancel, Result};

/// The panels of a row.
const COLUMNS: usize = 5;
const GAP: usize = 10;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, output, data @ ..] = args.as_slice() else {
        eprintln!("usage: plot_2015 MODEL OUT.png [swiss_roll | heartbeat | DATA.npy]");
        std::process::exit(2);
    };
    let pipeline = Pipeline::open(model, &Cpu::new()?, &PipelineOptions::default())?;
    let sampler = pipeline.sampler(&SamplerOptions::default())?;
    let chain = pipeline.scheduler().chain_2015;
    let scale = Scale { scl: chain.sample_scale, shft: chain.sample_shift };
    let data = data.first().map(|name| samples_of(name, scale)).transpose()?;
    let picture = match (sampler.space(), pipeline.sample_dims().as_slice()) {
        (StateSpace::Bits { ones }, _) => bits(&pipeline, &sampler, ones, data)?,
        (StateSpace::Real, [2]) => plane(&pipeline, &sampler, data)?,
        (StateSpace::Real, _) => images(&pipeline, &sampler)?,
    };
    picture.write(Path::new(output))
}

/// DATA of the command line, in the scale of the model.
fn samples_of(name: &str, scale: Scale) -> Result<Vec<f32>> {
    let data = match name {
        "swiss_roll" => SwissRoll::default().points(7, 1500)?,
        "heartbeat" => heartbeats(7, 40)?,
        path => read_npy(Path::new(path))?,
    };
    let mut x = data.values().to_vec();
    scale.apply(&mut x);
    Ok(x)
}

/// x after each of these numbers of steps, 0 to all; and the last x_0.
fn run(pipeline: &Pipeline, sampler: &dyn Sampler, count: usize, after: &[usize]) -> Result<Vec<Vec<f32>>> {
    let options = ChainOptions { batch: count, first_sample: 0 };
    let mut chain = Chain::new(pipeline.denoiser(count, &[])?, sampler, Seeded::new(1), &options)?;
    let mut seen = vec![chain.x().to_vec(); after.len()];
    chain.run_with(&Cancel::new(), |p| {
        for (seen, _) in seen.iter_mut().zip(after).filter(|(_, after)| **after == p.step + 1) {
            *seen = p.x.to_vec();
        }
        Flow::Continue
    })?;
    Ok(seen)
}

/// The numbers of steps after which column 0 (x_0) to the last (x_T) are seen.
fn columns(sampler: &dyn Sampler) -> Vec<usize> {
    let steps = sampler.levels().len();
    (0..COLUMNS).map(|c| steps - steps * c / (COLUMNS - 1)).collect()
}

fn plane(pipeline: &Pipeline, sampler: &dyn Sampler, data: Option<Vec<f32>>) -> Result<Canvas> {
    const SIDE: usize = 180;
    const EXTENT: f32 = 2.6;
    const ARROWS: usize = 17;
    let after = columns(sampler);
    let reverse = run(pipeline, sampler, 1500, &after)?;
    let data = data.unwrap_or_else(|| reverse[0].clone());
    let mut canvas = Canvas::new(COLUMNS * (SIDE + GAP) + GAP, 3 * (SIDE + GAP) + GAP);
    let panel = |c: usize, row: usize| Panel {
        at: [GAP + c * (SIDE + GAP), GAP + row * (SIDE + GAP)],
        side: SIDE,
        extent: EXTENT,
    };
    let mut denoiser = pipeline.denoiser(ARROWS * ARROWS, &[])?;
    for (c, &after) in after.iter().enumerate() {
        let mut forward = data.clone();
        if let Some(level) = sampler.levels().get(after) {
            let mut z = vec![0.0; data.len()];
            Seeded::new(2).normal(0, c as u64, 2, &mut z)?;
            add_noise(level, &data, &z, &mut forward)?;
        }
        for (row, points) in [&forward, &reverse[c]].into_iter().enumerate() {
            let panel = panel(c, row);
            panel.frame(&mut canvas);
            for p in points.chunks_exact(2) {
                panel.dot(&mut canvas, [p[0], p[1]], if row == 0 { [0.1, 0.3, 0.7] } else { [0.75, 0.2, 0.1] });
            }
        }
        // The step that leads away from x_t; for t = 0 the last one.
        let step = after.min(sampler.levels().len() - 1);
        let at = |i: usize| EXTENT * 0.95 * (2.0 * i as f32 / (ARROWS - 1) as f32 - 1.0);
        let x: Vec<f32> = (0..ARROWS * ARROWS).flat_map(|i| [at(i % ARROWS), at(i / ARROWS)]).collect();
        let drift = drift(&mut denoiser, sampler, step, &x)?;
        let longest = drift.iter().map(|d| d[0].hypot(d[1])).fold(f32::MIN_POSITIVE, f32::max);
        let unit = 1.8 * EXTENT / (ARROWS - 1) as f32 * 1.6 / longest;
        let panel = panel(c, 2);
        panel.frame(&mut canvas);
        for (p, d) in x.chunks_exact(2).zip(drift) {
            panel.arrow(&mut canvas, [p[0], p[1]], [d[0] * unit, d[1] * unit], [0.2; 3]);
        }
    }
    Ok(canvas)
}

/// mu(x, t) - x at each point.
fn drift(denoiser: &mut dyn Denoiser, sampler: &dyn Sampler, step: usize, x: &[f32]) -> Result<Vec<Point>> {
    let rows = x.len() / 2;
    let mut output = vec![0.0; rows * denoiser.output_len()];
    let call = Call { level: sampler.levels()[step], first_sample: 0, cancel: &Cancel::new() };
    denoiser.predict(&call, x, &mut output)?;
    let one = |(x, output): (&[f32], &[f32])| {
        let (mut x0, mut eps, mut mean) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        sampler.predict(step, x, output, &mut x0, &mut eps)?;
        sampler.mean(step, 0, Estimate { x, x0: &x0, eps: &eps }, &[], &mut [], &mut mean)?;
        Ok([mean[0] - x[0], mean[1] - x[1]])
    };
    x.chunks_exact(2).zip(output.chunks_exact(denoiser.output_len())).map(one).collect()
}

fn bits(pipeline: &Pipeline, sampler: &dyn Sampler, ones: f32, data: Option<Vec<f32>>) -> Result<Canvas> {
    const ROWS: usize = 40;
    const CELL: usize = 6;
    let n = pipeline.sample_dims().elements();
    let after = columns(sampler);
    let reverse = run(pipeline, sampler, ROWS, &after)?;
    let data = data.unwrap_or_else(|| reverse[0].clone());
    let process = Binomial::new(f64::from(ones))?;
    let (width, height) = (n * CELL + GAP, ROWS * CELL + GAP);
    let mut canvas = Canvas::new(COLUMNS * width + GAP, 2 * height + GAP);
    for (c, &after) in after.iter().enumerate() {
        let mut forward = data.clone();
        if let Some(level) = sampler.levels().get(after) {
            let mut u = vec![0.0; data.len()];
            Seeded::new(2).uniform(0, c as u64, n, &mut u)?;
            for (bit, u) in forward.iter_mut().zip(u) {
                *bit = f32::from(u8::from(f64::from(u) < process.marginal(level.alpha_bar(), f64::from(*bit))));
            }
        }
        for (row, bits) in [&forward, &reverse[c]].into_iter().enumerate() {
            let at = [GAP + c * width, GAP + row * height];
            for (i, bit) in bits.iter().take(n * ROWS).enumerate() {
                let cell = [at[0] + i % n * CELL, at[1] + i / n * CELL];
                canvas.fill(cell, [CELL - 1; 2], [if *bit >= 0.5 { 0.1 } else { 0.92 }; 3]);
            }
        }
    }
    Ok(canvas)
}

fn images(pipeline: &Pipeline, sampler: &dyn Sampler) -> Result<Canvas> {
    const ROWS: usize = 8;
    const SCALE: usize = 2;
    let dims = pipeline.sample_dims();
    let &[channels @ (1 | 3), height, width] = dims.as_slice() else {
        let text = format!("samples are {dims}, expected points, bits, or images of 1 or 3 channels");
        return Err(undiffuse::Error::new(undiffuse::ErrorKind::Unsupported, text));
    };
    let mut after = columns(sampler);
    after.reverse();
    let seen = run(pipeline, sampler, ROWS, &after)?;
    let (wide, high) = (width * SCALE + GAP, height * SCALE + GAP);
    let mut canvas = Canvas::new(COLUMNS * wide + GAP, ROWS * high + GAP);
    for (c, batch) in seen.iter().enumerate() {
        // x is in units of the data's deviation: two of them to each side of grey.
        let tone = |v: f32| (0.5 + v / 5.0).clamp(0.0, 1.0);
        for (row, image) in batch.chunks_exact(dims.elements()).enumerate() {
            for y in 0..height {
                for x in 0..width {
                    let at = |channel: usize| tone(image[(channel % channels * height + y) * width + x]);
                    let corner = [GAP + c * wide + x * SCALE, GAP + row * high + y * SCALE];
                    canvas.fill(corner, [SCALE; 2], [at(0), at(1), at(2)]);
                }
            }
        }
    }
    Ok(canvas)
}
