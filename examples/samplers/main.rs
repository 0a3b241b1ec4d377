//! Which sampler at which number of calls: the figures of the page beside this file, measured anew.
//!
//! `cargo run --release --features cli --example samplers -- curves.png`
//!
//! It prints two tables and draws both: the distance of a run of few calls from where the sampler's own equation leads,
//! by network calls. Only samplers without noise have such a distance; the judge of the digits (tests/judge) sees the
//! others too.

#[path = "../plot_2015/canvas.rs"]
#[allow(dead_code)]
mod canvas;

use std::path::Path;

use canvas::{Canvas, Color};
use undiffuse::backend::cpu::Cpu;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, Denoiser, GaussianMixture};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{Compat, PredictionType, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

/// Network calls of the columns.
const CALLS: [usize; 8] = [5, 7, 10, 15, 20, 30, 50, 100];
/// The samplers without noise, with their colours.
const ROWS: [(SamplerKind, Color); 10] = [
    (SamplerKind::UniPc, [0.8, 0.0, 0.0]),
    (SamplerKind::DpmSolverMultistep, [0.0, 0.3, 0.8]),
    (SamplerKind::DpmSolverSinglestep, [0.3, 0.7, 1.0]),
    (SamplerKind::Deis, [0.0, 0.6, 0.2]),
    (SamplerKind::Lms, [0.6, 0.8, 0.2]),
    (SamplerKind::Heun, [0.7, 0.3, 0.8]),
    (SamplerKind::Kdpm2, [0.9, 0.6, 0.9]),
    (SamplerKind::Pndm, [1.0, 0.6, 0.0]),
    (SamplerKind::Euler, [0.5, 0.5, 0.5]),
    (SamplerKind::Ddim, [0.0, 0.0, 0.0]),
];
/// Samples of the digits, and of the mixture.
const DIGITS: usize = 32;
const POINTS: usize = 200;

type BoxedSampler = Box<dyn Sampler + Send + Sync>;
/// A sampler, where its run ends, and its distances by calls.
type Row = (SamplerKind, Vec<Option<f64>>);

fn main() -> Result<()> {
    let Some(output) = std::env::args().nth(1) else {
        eprintln!("usage: samplers OUT.png");
        std::process::exit(2);
    };
    let mixture = mixture()?;
    table("Mixture: root mean square distance from the exact solution of the flow that the run starts on", &mixture);
    let digits = digits()?;
    table("Digits: root mean square distance from the result of 1,000 calls of unipc", &digits);
    draw(&[&mixture, &digits], Path::new(&output))
}

/// The sampler of a kind with so many calls as the program's `sample` has it; `None` where it cannot make them.
fn of_calls(config: &SchedulerConfig, kind: SamplerKind, calls: usize) -> Option<BoxedSampler> {
    let usual = SamplerOptions::default_for(config, Some(kind));
    // Two calls a step but for the last, or PNDM's twelve first.
    let steps = match kind {
        SamplerKind::Heun | SamplerKind::Kdpm2 => calls.div_ceil(2),
        SamplerKind::Pndm => calls.checked_sub(9)?,
        _ => calls,
    };
    let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(steps), ..usual }).ok()?;
    (sampler.levels().len().abs_diff(calls) <= 1).then_some(sampler)
}

/// The samples of a seed.
fn run(denoiser: impl Denoiser, sampler: &dyn Sampler, count: usize) -> Result<Vec<f32>> {
    let batch = count.min(denoiser.max_batch());
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(0), &ChainOptions { batch, first_sample: 0 })?;
    let mut all = Vec::new();
    for first in (0..count).step_by(batch) {
        chain.restart(first as u64, batch.min(count - first))?;
        chain.run()?;
        all.extend_from_slice(chain.x());
    }
    Ok(all)
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

/// Three Gaussians in four dimensions; DDPM's betas. The reference solves the flow from the same x_T at the same level
/// in 800 steps of third order.
fn mixture() -> Result<Vec<Row>> {
    let part = |weight, mean: [f64; 4], variance| Component {
        weight,
        mean: mean.to_vec(),
        covariance: Covariance::Diagonal(vec![variance; 4]),
    };
    let parts = [
        part(0.3, [-0.6, 0.4, 0.2, -0.7], 0.01),
        part(0.3, [0.5, 0.6, -0.5, 0.1], 0.0225),
        part(0.4, [0.2, -0.6, 0.3, 0.5], 0.04),
    ];
    let prior = || GaussianMixture::new(Dims::new(&[4])?, &parts, PredictionType::Epsilon);
    // No clip: the samples of a Gaussian have no bounds.
    let config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) };
    let exact = |sampler: &dyn Sampler| {
        let first = sampler.levels().first().ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "no levels"))?;
        let (top, n) = ((first.sigma / first.alpha).ln(), 800);
        let fall = |i: usize| (top + (1e-4f64.ln() - top) * i as f64 / n as f64).exp();
        let options = SamplerOptions {
            sampler: Some(SamplerKind::DpmSolverMultistep),
            steps: Steps::Sigmas((0..=n).map(fall).chain([0.0]).collect()),
            order: Some(3),
            compat: Compat::Fixed,
            ..Default::default()
        };
        run(prior()?, &*config.sampler(&options)?, POINTS)
    };
    rows(&config, |sampler| Ok(distance(&run(prior()?, sampler, POINTS)?, &exact(sampler)?)))
}

/// The embedded digits.
fn digits() -> Result<Vec<Row>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/digits.safetensors");
    let pipeline = Pipeline::open(file, &Cpu::new()?, &PipelineOptions::default())?;
    let config = pipeline.scheduler()?;
    let samples = |sampler: &dyn Sampler| run(pipeline.denoiser(16, &[])?, sampler, DIGITS);
    // All timesteps of the training, from the last: more than any of the rows begins with.
    let all = SamplerOptions { sampler: Some(SamplerKind::UniPc), order: Some(3), ..Default::default() };
    let reference = samples(&*config.sampler(&all)?)?;
    rows(&config, |sampler| Ok(distance(&samples(sampler)?, &reference)))
}

fn rows(config: &SchedulerConfig, distance: impl Fn(&dyn Sampler) -> Result<f64>) -> Result<Vec<Row>> {
    let row = |(kind, _): &(SamplerKind, Color)| {
        let at = |calls: &usize| of_calls(config, *kind, *calls).map(|s| distance(&*s)).transpose();
        Ok((*kind, CALLS.iter().map(at).collect::<Result<_>>()?))
    };
    ROWS.iter().map(row).collect()
}

fn name(kind: SamplerKind) -> &'static str {
    SamplerKind::NAMES.iter().find(|(_, k)| *k == kind).map_or("", |(name, _)| name)
}

fn table(title: &str, rows: &[Row]) {
    println!("{title}\n\n| calls | {} |", CALLS.map(|c| c.to_string()).join(" | "));
    println!("|{}", "---|".repeat(CALLS.len() + 1));
    for (kind, row) in rows {
        let cell = |v: &Option<f64>| v.map_or(String::new(), |v| format!("{v:.4}"));
        println!("| {} | {} |", name(*kind), row.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    println!();
}

/// A panel for each table, both axes logarithmic: a line for each sampler, grey lines at calls of 10 and 100 and at
/// distances that are powers of ten.
fn draw(tables: &[&Vec<Row>], output: &Path) -> Result<()> {
    const SIDE: [f32; 2] = [420.0, 320.0];
    const GAP: f32 = 20.0;
    let width = GAP + (SIDE[0] + GAP) * tables.len() as f32;
    let mut canvas = Canvas::new(width as usize, (SIDE[1] + 2.0 * GAP) as usize);
    let x_of = |calls: f64| ((calls / 4.0).log10() / (120.0f64 / 4.0).log10()) as f32 * SIDE[0];
    for (i, rows) in tables.iter().enumerate() {
        let left = GAP + (SIDE[0] + GAP) * i as f32;
        let values = rows.iter().flat_map(|(_, row)| row.iter().flatten());
        let (low, high) = values.fold((f64::MAX, 0.0f64), |(low, high), v| (low.min(*v), high.max(*v)));
        let (low, high) = (low.log10() - 0.1, high.log10() + 0.1);
        let y_of = |v: f64| GAP + ((high - v.log10()) / (high - low)) as f32 * SIDE[1];
        let (right, bottom) = (left + SIDE[0], GAP + SIDE[1]);
        for [a, b] in [
            [[left, GAP], [right, GAP]],
            [[left, bottom], [right, bottom]],
            [[left, GAP], [left, bottom]],
            [[right, GAP], [right, bottom]],
        ] {
            canvas.line(a, b, 1.0, [0.6; 3], 1.0);
        }
        for calls in [10.0, 100.0] {
            canvas.line([left + x_of(calls), GAP], [left + x_of(calls), bottom], 1.0, [0.85; 3], 1.0);
        }
        for power in low.ceil() as i32..=high.floor() as i32 {
            let y = y_of(10f64.powi(power));
            canvas.line([left, y], [right, y], 1.0, [0.85; 3], 1.0);
        }
        for ((_, row), (_, color)) in rows.iter().zip(ROWS) {
            let points: Vec<_> =
                CALLS.iter().zip(row).filter_map(|(c, v)| Some([left + x_of(*c as f64), y_of((*v)?)])).collect();
            for pair in points.windows(2) {
                canvas.line(pair[0], pair[1], 2.0, color, 0.9);
            }
            points.iter().for_each(|p| canvas.line(*p, *p, 4.5, color, 1.0));
        }
    }
    canvas.write(output)
}
