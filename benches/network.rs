//! Times one call of whole networks: ddpm-cifar10-32, the digits model for the edge and, only by name, the 1-D UNet of
//! a robot's policy and one of each larger family, with seeded random weights.
//!
//!     cargo bench --bench network -- [cifar|edge|policy|celebahq|adm|dit|sd15|decoder] [threads N] [batch N]
//!         [rounds N] [avx512|avx2|portable] [weights f32|f16|bf16|int8|int4] [bf16] [int8] [profile|each]
//!
//! Without options: cifar and edge at batch 1 and 16 on 1 and 2 threads, taking turns; each figure is the best of all
//! rounds. The share of the peak is against fused multiply-adds measured in the same process, times the threads.
//! `bf16` and `int8` time the networks with their layers in these too, taking turns with f32, and say how much of its
//! time they take. `profile` adds where the time goes, by operation, `each` every one of them in order. The last line
//! holds the process's peak memory to the bound (weights + workspace + 40 MB).
//!
//! `serve`, for benches/peers.py: makes one call for each empty line on the standard input and answers with its
//! nanoseconds, any other line with the most bytes that the process has had.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use undiffuse::backend::Network;
use undiffuse::backend::cpu::heap::Heap;
use undiffuse::backend::cpu::network::CpuNetwork;
use undiffuse::backend::cpu::{AlignedBuf, Cpu, CpuOptions, Path, WeightType};
use undiffuse::model::ModelConfig;
use undiffuse::model::autoencoder::AutoencoderConfig;
use undiffuse::pipeline::Precision;
use undiffuse::tensor::Dims;
use undiffuse::{Cancel, Result};

#[path = "common/peak.rs"]
mod peak;
#[path = "common/random.rs"]
mod random;
use random::{fill, weights};
#[path = "common/quantised.rs"]
mod quantised;
#[path = "common/resident.rs"]
mod resident;

/// The configuration of google/ddpm-cifar10-32.
const CIFAR: &str = include_str!("common/cifar.json");

/// A model of handwritten digits that fits small machines.
const EDGE: &str = include_str!("common/edge.json");

/// The head of LeRobot's policy for PushT: 251 million weights, 16 positions.
const POLICY: &str = include_str!("common/policy.json");

/// By name only: google/ddpm-celebahq-256, the UNet of guided-diffusion at 64x64, DiT-S/2 and Stable Diffusion 1.5's
/// UNet for latents of 32x32, and the decoder of its autoencoder for images of 256x256.
const FAMILIES: [(&str, &str); 5] = [
    ("celebahq", include_str!("common/celebahq.json")),
    ("adm", include_str!("common/adm.json")),
    ("dit", include_str!("common/dit.json")),
    ("sd15", include_str!("common/sd15.json")),
    ("decoder", include_str!("common/decoder.json")),
];

struct Options {
    names: Vec<&'static str>,
    threads: Vec<usize>,
    batches: Vec<usize>,
    rounds: usize,
    path: Option<Path>,
    weights: WeightType,
    precisions: Vec<Precision>,
    profile: bool,
    each: bool,
    serve: bool,
}

impl Options {
    fn parse() -> std::result::Result<Self, String> {
        let mut o = Self {
            names: vec!["cifar", "edge"],
            threads: vec![1, 2],
            batches: vec![1, 16],
            rounds: 7,
            path: None,
            weights: WeightType::F32,
            precisions: vec![Precision::F32],
            profile: false,
            each: false,
            serve: false,
        };
        let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(a) = args.next() {
            let number = |args: &mut dyn Iterator<Item = String>| {
                args.next()
                    .and_then(|v| v.parse::<usize>().ok())
                    .filter(|&n| n > 0)
                    .ok_or(format!("{a} needs a number"))
            };
            match a.as_str() {
                "cifar" => o.names = vec!["cifar"],
                "edge" => o.names = vec!["edge"],
                "policy" => o.names = vec!["policy"],
                "weights" => {
                    let name = args.next().unwrap_or_default();
                    o.weights = name.parse().map_err(|e: undiffuse::Error| e.to_string())?;
                }
                "threads" => o.threads = vec![number(&mut args)?],
                "batch" => o.batches = vec![number(&mut args)?],
                "rounds" => o.rounds = number(&mut args)?,
                "bf16" => o.precisions.push(Precision::Bf16),
                "int8" => o.precisions.push(Precision::Int8),
                "profile" => o.profile = true,
                "each" => (o.profile, o.each) = (true, true),
                "serve" => o.serve = true,
                other => match FAMILIES.into_iter().find(|(name, _)| *name == other) {
                    Some((name, _)) => o.names = vec![name],
                    None => match Path::ALL.into_iter().find(|p| p.to_string() == other) {
                        Some(p) => o.path = Some(p),
                        None => return Err(format!("{other}: no such option")),
                    },
                },
            }
        }
        Ok(o)
    }
}

/// A network with the buffers of one call.
struct Case {
    name: &'static str,
    precision: Precision,
    threads: usize,
    batch: usize,
    flops: f64,
    net: CpuNetwork,
    inputs: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    workspace: AlignedBuf,
    best: Duration,
    by_operation: Vec<Duration>,
}

impl Case {
    fn new(name: &'static str, precision: Precision, threads: usize, batch: usize, o: &Options) -> Result<Self> {
        let config = match name {
            "cifar" => CIFAR,
            "edge" => EDGE,
            "policy" => POLICY,
            name => FAMILIES.iter().find(|(n, _)| *n == name).map_or(CIFAR, |(_, config)| config),
        };
        let graph = match name {
            "decoder" => AutoencoderConfig::from_json(config)?.decoder([32, 32])?,
            _ => ModelConfig::from_json(config)?.build_any()?,
        };
        let cpu = Cpu::with_options(CpuOptions { path: o.path, threads: Some(threads), weights: o.weights })?;
        let graph = if precision == Precision::F32 { graph } else { quantised::quantised(&graph, precision, &cpu)? };
        let net = cpu.compile_network(&graph, &weights)?;
        let by_operation = vec![Duration::MAX; net.operations().len()];
        let make = |i: usize, d: &Dims| {
            let mut v = vec![500.0; d.elements() * batch];
            if d.elements() > 1 {
                fill(i as u32 + 100, &mut v, 1.732);
            }
            v
        };
        Ok(Self {
            name,
            precision,
            threads,
            batch,
            flops: graph.flops() as f64 * batch as f64,
            inputs: net.inputs().iter().enumerate().map(|(i, d)| make(i, d)).collect(),
            outputs: net.outputs().iter().map(|d| vec![0.0; d.elements() * batch]).collect(),
            workspace: Heap::default().zeroed(net.workspace_len(batch)?)?,
            best: Duration::MAX,
            by_operation,
            net,
        })
    }

    fn call(&mut self, observe: bool) -> Result<Duration> {
        let inputs: Vec<&[f32]> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [f32]> = self.outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let cancel = Cancel::new();
        let start = Instant::now();
        if observe {
            let mut last = start;
            // A batch may be run in pieces, so an operation may come several times.
            let mut times = vec![Duration::ZERO; self.by_operation.len()];
            self.net.run_observed(self.batch, &inputs, &mut outputs, &mut self.workspace, &cancel, &mut |i| {
                let now = Instant::now();
                times[i] += now - last;
                last = now;
            })?;
            for (best, time) in self.by_operation.iter_mut().zip(times) {
                *best = time.min(*best);
            }
        } else {
            self.net.run(self.batch, &inputs, &mut outputs, &mut self.workspace, &cancel)?;
        }
        Ok(start.elapsed())
    }

    fn report(&self, peak: f64) {
        let seconds = self.best.as_secs_f64();
        let gflops = self.flops / seconds / 1e9;
        println!(
            "{:6} batch {:2} {}: {:9.3} ms, {:8.3} ms/image, {gflops:6.1} GFLOP/s, {:5.1}% of peak",
            self.name,
            self.batch,
            self.net.describe(),
            seconds * 1e3,
            seconds * 1e3 / self.batch as f64,
            100.0 * gflops / (peak * self.threads as f64)
        );
    }

    fn report_profile(&self, each: bool) {
        let mut by_name: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
        for (name, &time) in self.net.operations().zip(&self.by_operation) {
            let e = by_name.entry(name).or_default();
            *e = (e.0 + 1, e.1 + time);
        }
        for (i, (name, time)) in self.net.operations().zip(&self.by_operation).enumerate().filter(|_| each) {
            println!("    {i:4} {name:22} {:9.3} ms", time.as_secs_f64() * 1e3);
        }
        let total: Duration = self.by_operation.iter().sum();
        for (name, (count, time)) in by_name {
            let share = 100.0 * time.as_secs_f64() / total.as_secs_f64();
            println!("    {name:22} {count:4} times {:9.3} ms {share:5.1}%", time.as_secs_f64() * 1e3);
        }
    }
}

fn bench(o: &Options) -> Result<()> {
    let cpu = Cpu::with_options(CpuOptions { path: o.path, threads: Some(1), ..CpuOptions::default() })?;
    let (mut peak, mut stated) = (0f64, 0);
    for &name in &o.names {
        for &batch in &o.batches {
            let mut cases = Vec::new();
            for (&threads, &precision) in o.threads.iter().flat_map(|t| o.precisions.iter().map(move |p| (t, p))) {
                cases.push(Case::new(name, precision, threads, batch, o)?);
            }
            stated = stated.max(cases.iter().map(|c| c.net.weight_bytes() + c.workspace.bytes()).sum());
            for round in 0..=o.rounds {
                peak = peak.max(peak::gflops(&cpu));
                for c in &mut cases {
                    // The first call warms up; small networks get more calls for a steadier best.
                    let repeat = if round == 0 { 1 } else { (2e9 / c.flops).ceil().max(1.0) as usize };
                    for _ in 0..repeat {
                        let time = c.call(false)?;
                        if round > 0 {
                            c.best = c.best.min(time);
                            if o.profile {
                                c.call(true)?;
                            }
                        }
                    }
                }
            }
            for c in &cases {
                c.report(peak);
                let plain = cases.iter().find(|f| f.precision == Precision::F32 && f.threads == c.threads);
                if let Some(plain) = plain.filter(|_| c.precision != Precision::F32) {
                    let (name, ratio) = (c.precision.name(), c.best.as_secs_f64() / plain.best.as_secs_f64());
                    println!("    {name}: {ratio:.3} of the time of f32");
                }
                if o.profile {
                    c.report_profile(o.each);
                }
            }
        }
    }
    println!("peak of multiply-adds: {peak:.1} GFLOP/s a thread");
    let resident = resident::most();
    if resident > 0 {
        let mb = |n: usize| n as f64 / 1e6;
        let over = resident.saturating_sub(stated);
        let verdict = if over <= 40_000_000 { "within" } else { "OVER" };
        println!(
            "peak resident {:.1} MB, weights and workspaces {:.1} MB: {:.1} MB more, {verdict} the bound of 40 MB",
            mb(resident),
            mb(stated),
            mb(over)
        );
    }
    Ok(())
}

fn serve(o: &Options) -> Result<()> {
    let mut case = Case::new(o.names[0], o.precisions[o.precisions.len() - 1], o.threads[0], o.batches[0], o)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {}", case.net.describe())?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        // An empty line asks for a call, any other for the most bytes that the process has had.
        let answer = if line?.is_empty() { case.call(false)?.as_nanos() } else { resident::most() as u128 };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn main() {
    let options = Options::parse().unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(2);
    });
    if let Err(e) = if options.serve { serve(&options) } else { bench(&options) } {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
