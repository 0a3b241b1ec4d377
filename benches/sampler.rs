//! Times the arithmetic of a step of every sampler at the size of ddpm-cifar10-32 (3 x 32 x 32), with a denoiser that
//! costs nothing, and prints it as a share of a network call: the bound is 2 %.
//!
//!     cargo bench --bench sampler -- [rounds N] [threads N] [NAME...]
//!
//! A step is all that a chain does but for the network: the noise of a seed, the sampler, the checks for numbers that
//! are not finite. Each figure is the best of all rounds; the network, of random weights, is measured between them. The
//! exit status is 1 where a sampler misses the bound.

use std::time::{Duration, Instant};

use undiffuse::backend::Network;
use undiffuse::backend::cpu::heap::Heap;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::FnDenoiser;
use undiffuse::model::ModelConfig;
use undiffuse::noise::Seeded;
use undiffuse::sampler::{Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::tensor::Dims;
use undiffuse::{Cancel, Result};

#[path = "common/random.rs"]
mod random;
use random::{fill, weights};

/// The configuration of google/ddpm-cifar10-32.
const CIFAR: &str = include_str!("common/cifar.json");
const DIMS: [usize; 3] = [3, 32, 32];
const BATCHES: [usize; 2] = [1, 16];
/// Steps of a run, where a sampler can be told.
const STEPS: usize = 20;
/// The most that a step may cost of a network call.
const BOUND: f64 = 0.02;

struct Options {
    rounds: usize,
    threads: usize,
    names: Vec<String>,
}

impl Options {
    fn parse() -> std::result::Result<Self, String> {
        let mut o = Self { rounds: 5, threads: 2, names: Vec::new() };
        let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(a) = args.next() {
            let mut number = || args.next().and_then(|v| v.parse::<usize>().ok()).filter(|n| *n > 0);
            match a.as_str() {
                "rounds" => o.rounds = number().ok_or("rounds needs a number")?,
                "threads" => o.threads = number().ok_or("threads needs a number")?,
                name if SamplerKind::NAMES.iter().any(|(n, _)| *n == name) => o.names.push(a),
                other => return Err(format!("{other}: no such option or sampler")),
            }
        }
        Ok(o)
    }
}

/// The best time of one network call for each batch.
fn network(o: &Options) -> Result<[Duration; BATCHES.len()]> {
    let cpu = Cpu::with_options(CpuOptions { threads: Some(o.threads), ..CpuOptions::default() })?;
    let net = cpu.compile_network(&ModelConfig::from_json(CIFAR)?.build_any()?, &weights)?;
    let mut best = [Duration::MAX; BATCHES.len()];
    for (best, batch) in best.iter_mut().zip(BATCHES) {
        let make = |d: &Dims| {
            let mut v = vec![500.0; d.elements() * batch];
            if d.elements() > 1 {
                fill(100, &mut v, 1.732);
            }
            v
        };
        let inputs: Vec<Vec<f32>> = net.inputs().iter().map(make).collect();
        let mut outputs: Vec<Vec<f32>> = net.outputs().iter().map(make).collect();
        let mut workspace = Heap::default().zeroed(net.workspace_len(batch)?)?;
        for _ in 0..=o.rounds {
            let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            let mut outputs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
            let start = Instant::now();
            net.run(batch, &inputs, &mut outputs, &mut workspace, &Cancel::new())?;
            *best = start.elapsed().min(*best);
        }
    }
    Ok(best)
}

/// A sampler as its class has it by default, of fewer steps where it can make them.
fn sampler(kind: SamplerKind) -> Result<Box<dyn Sampler + Send + Sync>> {
    let config = SchedulerConfig::new(kind);
    let steps = if kind.is_2015() { Steps::All } else { Steps::Count(STEPS) };
    config.sampler(&SamplerOptions { steps, ..SamplerOptions::default() })
}

/// The best time of one network call's worth of steps: that of a whole run by the calls in it.
fn steps(sampler: &dyn Sampler, batch: usize, rounds: usize) -> Result<Duration> {
    let dims = Dims::new(&DIMS)?;
    let n = dims.elements();
    // Some samplers want what a network learned of the variance beside its prediction.
    let output = if sampler.check_output_len(n, n).is_ok() { n } else { 2 * n };
    let free = FnDenoiser::new("free", dims, |_, _, out| {
        out.fill(0.1);
        Ok(())
    });
    let mut chain =
        Chain::new(free.with_output_len(output)?, sampler, Seeded::new(0), &ChainOptions { batch, first_sample: 0 })?;
    let calls = (0..sampler.levels().len()).filter(|step| sampler.calls_network(*step)).count();
    let mut best = Duration::MAX;
    for round in 0..=rounds as u64 {
        chain.restart(round * batch as u64, batch)?;
        let start = Instant::now();
        chain.run()?;
        best = best.min(start.elapsed() / calls as u32);
    }
    Ok(best)
}

fn bench(o: &Options) -> Result<bool> {
    let mut calls = network(o)?;
    let kinds = SamplerKind::NAMES.iter().filter(|(name, _)| o.names.is_empty() || o.names.iter().any(|n| n == name));
    let mut rows = Vec::new();
    for (i, (name, kind)) in kinds.enumerate() {
        let sampler = sampler(*kind)?;
        let mut times = [Duration::MAX; BATCHES.len()];
        for (time, batch) in times.iter_mut().zip(BATCHES) {
            *time = steps(&*sampler, batch, o.rounds)?;
        }
        rows.push((*name, times));
        if i % 8 == 7 {
            for (best, again) in calls.iter_mut().zip(network(o)?) {
                *best = again.min(*best);
            }
        }
    }
    let micros = |d: Duration| d.as_secs_f64() * 1e6;
    println!("{:22} {:>12} {:>8} {:>12} {:>8}", "us a call, batch", BATCHES[0], "", BATCHES[1], "");
    println!("{:22} {:12.1} {:>8} {:12.1}", "ddpm-cifar10-32", micros(calls[0]), "", micros(calls[1]));
    let mut largest: (f64, &str) = (0.0, "");
    for (name, times) in rows {
        let shares: Vec<f64> = times.iter().zip(&calls).map(|(t, c)| t.as_secs_f64() / c.as_secs_f64()).collect();
        largest = shares.iter().fold(largest, |l, s| if *s > l.0 { (*s, name) } else { l });
        let [a, b] = times.map(micros);
        println!("{name:22} {a:12.1} {:7.3}% {b:12.1} {:7.3}%", 100.0 * shares[0], 100.0 * shares[1]);
    }
    let within = largest.0 <= BOUND;
    let verdict = if within { "within" } else { "OVER" };
    println!("largest share: {:.3}% ({}), {verdict} the bound of {}%", 100.0 * largest.0, largest.1, 100.0 * BOUND);
    Ok(within)
}

fn main() {
    let options = Options::parse().unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(2);
    });
    match bench(&options) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1);
        }
    }
}
