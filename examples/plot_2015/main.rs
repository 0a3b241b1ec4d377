//! Draws what a 2015 model does, from its file.
//!
//! `cargo run --release --features training --example plot_2015 -- MODEL OUT.png [DATA]`
//!
//! DATA, from which the forward process starts, is `swiss_roll` (or `swiss_roll:NOISE`), `heartbeat` or a .npy file of
//! samples; without it the model's own samples stand in.
//!
//! - Points in the plane: above, data under q at t = 0, T/4, T/2, 3T/4, T; in the middle the chain at the same t, from
//!   x_T on the right to its samples on the left; below, the drift mu(x, t) - x of the step at t, an arrow's length
//!   relative to the longest in its panel.
//! - Bits: the same two rows, each panel 40 sequences, one a line, a 1 black.
//! - Images: for each of three samples a row, from x_T on the left to x_0 on the right. A model of any size draws them
//!   at 128 x 128. With DATA the first of its images instead: itself, then with a hole of 100 x 100 (at most two thirds
//!   of a side) in its middle, then that filled in, once by the paper's method (known pixels set to their values at
//!   every t) and once with the known pixels noised to the level of t.

mod canvas;

use std::path::Path;

use canvas::{Canvas, Panel, Point};
use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions, Flow};
use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::noise::{NoiseSource, Seeded};
use undiffuse::pipeline::{Pipeline, PipelineOptions, Source};
use undiffuse::posterior::operator::Mask;
use undiffuse::posterior::{Clamp, Known, Measurement};
use undiffuse::process::{Binomial, add_noise};
use undiffuse::sampler::{Estimate, Sampler, SamplerOptions, StateSpace};
use undiffuse::tensor::Dims;
use undiffuse::training::data::{Dataset, Scale, SwissRoll, heartbeats, read_npy};
use undiffuse::{Cancel, Error, ErrorKind, Result};

/// The points of a panel.
const POINTS: usize = 1000;
/// The panels of a row.
const COLUMNS: usize = 5;
const GAP: usize = 10;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, output, data @ ..] = args.as_slice() else {
        eprintln!("usage: plot_2015 MODEL OUT.png [swiss_roll[:NOISE] | heartbeat | DATA.npy]");
        std::process::exit(2);
    };
    let source = Source::open(model)?;
    let data = data.first().map(|name| samples_of(name)).transpose()?;
    let size = match data.as_ref().map(|d| d.dims()) {
        Some(dims) if dims.rank() == 3 => Some([dims.as_slice()[1], dims.as_slice()[2]]),
        _ => Some([128; 2]),
    };
    let size = size.filter(|_| source.model().needs_size());
    let pipeline = source.compile(&Cpu::new()?, &PipelineOptions { size, ..PipelineOptions::default() })?;
    let sampler = pipeline.sampler(&SamplerOptions::default())?;
    let chain = pipeline.scheduler()?.chain_2015;
    let scale = Scale { scl: chain.sample_scale, shft: chain.sample_shift };
    let data = data.map(|data| {
        let mut x = data.values().to_vec();
        scale.apply(&mut x);
        x
    });
    let picture = match (sampler.space(), pipeline.sample_dims().as_slice(), data) {
        (StateSpace::Bits { ones }, _, data) => bits(&pipeline, &sampler, ones, data)?,
        (StateSpace::Real, [2], data) => plane(&pipeline, &sampler, data)?,
        (StateSpace::Real, _, None) => images(&pipeline, &sampler)?,
        (StateSpace::Real, _, Some(data)) => fills(&pipeline, &sampler, &data)?,
        (StateSpace::Classes { .. }, ..) => {
            return Err(Error::new(ErrorKind::Unsupported, "a chain of classes has no picture here"));
        }
    };
    picture.write(Path::new(output))
}

/// DATA of the command line.
fn samples_of(name: &str) -> Result<Dataset> {
    let noise = name.strip_prefix("swiss_roll:").and_then(|noise| noise.parse().ok());
    let roll = SwissRoll { noise: noise.unwrap_or(SwissRoll::default().noise), ..SwissRoll::default() };
    match name {
        name if name == "swiss_roll" || noise.is_some() => roll.points(7, POINTS),
        "heartbeat" => heartbeats(7, 40),
        path => read_npy(Path::new(path)),
    }
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
    const SIDE: usize = 160;
    const EXTENT: f32 = 2.6;
    const ARROWS: usize = 17;
    let after = columns(sampler);
    let reverse = run(pipeline, sampler, POINTS, &after)?;
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
        // The step that leads away from x_t; for t = 0 the last but one, because the last has no part in the bound and
        // is not trained.
        let step = after.min(sampler.levels().len().saturating_sub(2));
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

/// Draws columns of images, `[rows, ...]` each.
fn sheet(dims: Dims, columns: &[&[f32]]) -> Result<Canvas> {
    let &[channels @ (1 | 3), height, width] = dims.as_slice() else {
        let text = format!("samples are {dims}, expected points, bits, or images of 1 or 3 channels");
        return Err(undiffuse::Error::new(undiffuse::ErrorKind::Unsupported, text));
    };
    // Small images are drawn larger.
    let scale = (96 / width.max(height)).max(1);
    let (wide, high) = (width * scale + GAP, height * scale + GAP);
    let rows = columns.iter().map(|c| c.len() / dims.elements()).max().unwrap_or(0);
    let mut canvas = Canvas::new(columns.len() * wide + GAP, rows * high + GAP);
    // x is in units of the data's deviation: two and a half of them to each side of grey.
    let tone = |v: f32| (0.5 + v / 5.0).clamp(0.0, 1.0);
    for (c, batch) in columns.iter().enumerate() {
        for (row, image) in batch.chunks_exact(dims.elements()).enumerate() {
            for y in 0..height {
                for x in 0..width {
                    let at = |channel: usize| tone(image[(channel % channels * height + y) * width + x]);
                    let corner = [GAP + c * wide + x * scale, GAP + row * high + y * scale];
                    canvas.fill(corner, [scale; 2], [at(0), at(1), at(2)]);
                }
            }
        }
    }
    Ok(canvas)
}

fn images(pipeline: &Pipeline, sampler: &dyn Sampler) -> Result<Canvas> {
    let mut after = columns(sampler);
    after.reverse();
    let seen = run(pipeline, sampler, 3, &after)?;
    sheet(pipeline.sample_dims(), &seen.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn fills(pipeline: &Pipeline, sampler: &dyn Sampler, data: &[f32]) -> Result<Canvas> {
    const HOLE: usize = 100;
    let dims = pipeline.sample_dims();
    let &[_, height, width] = dims.as_slice() else { return sheet(dims, &[]) };
    let inside = |at: usize, side: usize| {
        let half = HOLE.min(side * 2 / 3) / 2;
        (side / 2 - half..side / 2 + half).contains(&at)
    };
    let hidden = |i: usize| inside(i / width % height, height) && inside(i % width, width);
    let known: Vec<bool> = (0..dims.elements()).map(|i| !hidden(i)).collect();
    let truth = &data[..dims.elements()];
    let seen: Vec<f32> = truth.iter().zip(&known).map(|(x, known)| if *known { *x } else { -10.0 }).collect();
    let y: Vec<f32> = truth.iter().zip(&known).filter(|(_, known)| **known).map(|(x, _)| *x).collect();
    let mask = Mask::new(dims, &known)?;
    let mut pictures = vec![truth.to_vec(), seen];
    for known in [Known::Clean, Known::Renoised] {
        let evidence = Clamp::new(Measurement::exact(&mask, &y)?, known)?;
        let options = ChainOptions::default();
        let mut chain = Chain::with_evidence(pipeline.denoiser(1, &[])?, sampler, Seeded::new(1), evidence, &options)?;
        chain.run()?;
        pictures.push(chain.x().to_vec());
    }
    sheet(dims, &pictures.iter().map(Vec::as_slice).collect::<Vec<_>>())
}
