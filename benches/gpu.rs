//! Times the wgpu backend beside the cpu backend in one process, taking turns: one network call of ddpm-cifar10-32 and
//! of the digits model for the edge (seeded random weights), and a whole chain of 20 DDIM steps of the digits.
//!
//!     cargo bench --features wgpu --bench gpu -- \
//!         [wgpu|wgpu:INDEX] [cifar|edge|chain] [batch N] [rounds N] [f16] [only]
//!
//! Without a name it takes the first real GPU, or, if there is none, says so. Each figure is the best of all rounds; a
//! ratio over 1 says that the GPU is faster. `only` leaves the cpu out.
//!
//! `serve`, for benches/gpu.py: makes one call for each line on the standard input and answers with its nanoseconds.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use undiffuse::backend::cpu::Cpu;
use undiffuse::backend::wgpu::{Precision, Wgpu, WgpuOptions};
use undiffuse::backend::{Backend, Choice, Network};
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};
use undiffuse::tensor::Dims;
use undiffuse::{Cancel, Result};

const CIFAR: &str = include_str!("common/cifar.json");
const EDGE: &str = include_str!("common/edge.json");
const DIGITS: &[u8] = include_bytes!("../pretrained/digits.safetensors");

struct Options {
    device: Option<usize>,
    names: Vec<&'static str>,
    batches: Vec<usize>,
    rounds: usize,
    precision: Precision,
    only: bool,
    serve: bool,
}

impl Options {
    fn parse() -> std::result::Result<Self, String> {
        let mut o = Self {
            device: None,
            names: vec!["cifar", "edge", "chain"],
            batches: vec![1, 16],
            rounds: 7,
            precision: Precision::F32,
            only: false,
            serve: false,
        };
        let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(a) = args.next() {
            let mut number = || {
                let n = args.next().and_then(|v| v.parse::<usize>().ok()).filter(|&n| n > 0);
                n.ok_or(format!("{a} needs a number"))
            };
            match a.as_str() {
                "cifar" => o.names = vec!["cifar"],
                "edge" => o.names = vec!["edge"],
                "chain" => o.names = vec!["chain"],
                "batch" => o.batches = vec![number()?],
                "rounds" => o.rounds = number()?,
                "f16" => o.precision = Precision::F16,
                "only" => o.only = true,
                "serve" => o.serve = true,
                other => match other.parse() {
                    Ok(Choice::Wgpu(index)) => o.device = index,
                    _ => return Err(format!("{other}: no such option")),
                },
            }
        }
        Ok(o)
    }
}

fn fill(stream: u32, out: &mut [f32], scale: f32) {
    let mut s = stream.wrapping_mul(2_654_435_761).wrapping_add(1);
    for v in out {
        s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *v = ((s >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale;
    }
}

fn weights(name: &str, dims: &Dims, out: &mut [f32]) -> Result<()> {
    let fan_in = if dims.rank() > 1 { dims.positions() } else { 25 };
    let stream = name.bytes().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    fill(stream, out, (3.0 / fan_in as f32).sqrt());
    Ok(())
}

/// Something that can be timed.
type Work = Box<dyn FnMut() -> Result<()>>;

/// One call of a network; also what it runs on and its floating-point operations.
fn call(backend: &dyn Backend, name: &str, batch: usize) -> Result<(Work, String, f64)> {
    let config = UNet2DConfig::from_json(if name == "cifar" { CIFAR } else { EDGE })?;
    let graph = unet2d::build(&config, config.size(None)?)?;
    let net: Box<dyn Network> = backend.compile(&graph, &weights)?;
    net.prepare(batch)?;
    let make = |(i, d): (usize, &Dims)| {
        let mut v = vec![500.0; d.elements() * batch];
        if d.elements() > 1 {
            fill(i as u32 + 100, &mut v, 1.732);
        }
        v
    };
    let inputs: Vec<Vec<f32>> = net.inputs().iter().enumerate().map(make).collect();
    let mut outputs: Vec<Vec<f32>> = net.outputs().iter().map(|d| vec![0.0; d.elements() * batch]).collect();
    let mut workspace = vec![0.0; net.workspace_len(batch)?];
    let what = net.describe();
    let work = move || {
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        net.run(batch, &inputs, &mut outputs, &mut workspace, &Cancel::new())
    };
    Ok((Box::new(work), what, graph.flops() as f64 * batch as f64))
}

/// A whole chain of the digits.
fn chain(backend: &dyn Backend, batch: usize) -> Result<(Work, String, f64)> {
    let pipeline = Pipeline::from_bytes(DIGITS, backend, &PipelineOptions::default())?;
    let options = SamplerOptions { sampler: Some(SamplerKind::Ddim), steps: Steps::Count(20), ..Default::default() };
    let (denoiser, sampler) = (pipeline.denoiser(batch, &[])?, pipeline.sampler(&options)?);
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(1), &ChainOptions { batch, ..Default::default() })?;
    let work = move || {
        chain.restart(0, batch)?;
        chain.run()
    };
    Ok((Box::new(work), pipeline.network().describe(), 20.0 * pipeline.flops() as f64 * batch as f64))
}

fn bench(o: &Options, gpu: &Wgpu) -> Result<()> {
    let cpu = Cpu::new()?;
    for &name in &o.names {
        for &batch in &o.batches {
            let mut sides: Vec<&dyn Backend> = vec![gpu];
            if !o.only {
                sides.push(&cpu);
            }
            let mut cases = Vec::new();
            for backend in sides {
                let (work, what, flops) =
                    if name == "chain" { chain(backend, batch) } else { call(backend, name, batch) }?;
                cases.push((work, what, flops, Duration::MAX));
            }
            for round in 0..=o.rounds {
                for (work, _, _, best) in &mut cases {
                    let start = Instant::now();
                    work()?;
                    // The first round warms up.
                    if round > 0 {
                        *best = start.elapsed().min(*best);
                    }
                }
            }
            for (_, what, flops, best) in &cases {
                let seconds = best.as_secs_f64();
                println!(
                    "{name:6} batch {batch:2} {what}: {:.3} ms, {:.1} GFLOP/s",
                    seconds * 1e3,
                    flops / seconds / 1e9
                );
            }
            if let [gpu, cpu] = cases.as_slice() {
                println!("{name:6} batch {batch:2} cpu / wgpu {:.3}", cpu.3.as_secs_f64() / gpu.3.as_secs_f64());
            }
        }
    }
    Ok(())
}

fn serve(o: &Options, gpu: &Wgpu) -> Result<()> {
    let (mut work, what, _) = call(gpu, o.names[0], o.batches[0])?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {what}")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        work()?;
        writeln!(out, "{}", start.elapsed().as_nanos())?;
        out.flush()?;
    }
    Ok(())
}

fn main() {
    let options = Options::parse().unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(2);
    });
    let open = WgpuOptions { precision: options.precision, ..WgpuOptions::default() };
    let result = Wgpu::open(options.device, open)
        .and_then(|gpu| if options.serve { serve(&options, &gpu) } else { bench(&options, &gpu) });
    if let Err(e) = result {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
