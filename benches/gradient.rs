//! The time of a call that also gives the vector-Jacobian product, over the time of a call that only predicts.
//!
//!     cargo bench --bench gradient -- [cifar|edge] [threads N] [batch N] [rounds N] [profile]
//!
//! Counted is one whole call of each: the forward call is the network as it samples, the second is the gradient
//! network, which runs the network forward, keeps what it needs, and then backward to the input (no gradients of
//! weights). Both give the prediction. The third is the gradient network of `Keep::Fewest`, which computes most of the
//! forward pass again in place of keeping it. They take turns in one process and each figure is the best of all rounds.
//! Without options: ddpm-cifar10-32 and the digits model of the edge at batch 1 and 16 on one and two threads.
//! `profile` adds where the time of each goes, by operation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use undiffuse::backend::Network;
use undiffuse::backend::cpu::heap::Heap;
use undiffuse::backend::cpu::network::CpuNetwork;
use undiffuse::backend::cpu::{AlignedBuf, Cpu, CpuOptions};
use undiffuse::graph::vjp::{Keep, vjp_keeping};
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::{Cancel, Result};

#[path = "common/random.rs"]
mod random;

struct Case {
    what: &'static str,
    net: CpuNetwork,
    batch: usize,
    inputs: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    workspace: AlignedBuf,
    best: Duration,
    by_operation: Vec<Duration>,
}

impl Case {
    fn new(what: &'static str, net: CpuNetwork, batch: usize) -> Result<Self> {
        let inputs = net.inputs().iter().enumerate().map(|(i, d)| {
            let mut v = vec![500.0; d.elements() * batch];
            if d.elements() > 1 {
                random::fill(i as u32 + 100, &mut v, 1.732);
            }
            v
        });
        let inputs = inputs.collect();
        let by_operation = vec![Duration::MAX; net.operations().len()];
        Ok(Self {
            what,
            batch,
            inputs,
            outputs: net.outputs().iter().map(|d| vec![0.0; d.elements() * batch]).collect(),
            workspace: Heap::default().zeroed(net.workspace_len(batch)?)?,
            best: Duration::MAX,
            by_operation,
            net,
        })
    }

    fn call(&mut self, observe: bool) -> Result<()> {
        let inputs: Vec<&[f32]> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [f32]> = self.outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let cancel = Cancel::new();
        let start = Instant::now();
        if !observe {
            self.net.run(self.batch, &inputs, &mut outputs, &mut self.workspace, &cancel)?;
            self.best = self.best.min(start.elapsed());
            return Ok(());
        }
        let (mut last, mut times) = (start, vec![Duration::ZERO; self.by_operation.len()]);
        self.net.run_observed(self.batch, &inputs, &mut outputs, &mut self.workspace, &cancel, &mut |i| {
            let now = Instant::now();
            times[i] += now - last;
            last = now;
        })?;
        for (best, time) in self.by_operation.iter_mut().zip(times) {
            *best = time.min(*best);
        }
        Ok(())
    }

    fn profile(&self) {
        let mut by_name: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
        for (name, &time) in self.net.operations().zip(&self.by_operation) {
            let e = by_name.entry(name).or_default();
            *e = (e.0 + 1, e.1 + time);
        }
        let total: Duration = self.by_operation.iter().sum();
        println!("    {}: {:.3} ms by operation", self.what, total.as_secs_f64() * 1e3);
        for (name, (count, time)) in by_name {
            let share = 100.0 * time.as_secs_f64() / total.as_secs_f64();
            println!("        {name:22} {count:4} times {:9.3} ms {share:5.1}%", time.as_secs_f64() * 1e3);
        }
    }
}

fn bench(name: &str, threads: usize, batch: usize, rounds: usize, profile: bool) -> Result<()> {
    let json = if name == "cifar" { include_str!("common/cifar.json") } else { include_str!("common/edge.json") };
    let config = UNet2DConfig::from_json(json)?;
    let graph = unet2d::build(&config, config.size(None)?)?;
    let cpu = Cpu::with_options(CpuOptions { threads: Some(threads), ..CpuOptions::default() })?;
    let backward = [Keep::All, Keep::Fewest].map(|keep| vjp_keeping(&graph, 0, 0, keep));
    let [full, recompute] = backward;
    let networks = cpu.compile_networks(&[&graph, &full?, &recompute?], &random::weights)?;
    let mut cases = Vec::new();
    for (what, net) in ["forward", "forward and backward", "the same, recomputing"].into_iter().zip(networks) {
        cases.push(Case::new(what, net, batch)?);
    }
    let calls = (2e9 / (graph.flops() as f64 * batch as f64)).ceil().max(1.0) as usize;
    for round in 0..=rounds {
        for case in &mut cases {
            for _ in 0..if round == 0 { 1 } else { calls } {
                case.call(false)?;
                if profile {
                    case.call(true)?;
                }
            }
        }
    }
    let forward = cases.first().map_or(Duration::MAX, |c| c.best).as_secs_f64();
    for case in &cases {
        let seconds = case.best.as_secs_f64();
        println!(
            "{name:6} batch {batch:2} {}: {:21} {:9.3} ms, {:5.2} of forward, workspace {:7.2} MB, further weights {:6.2} MB",
            case.net.describe(),
            case.what,
            seconds * 1e3,
            seconds / forward,
            case.workspace.bytes() as f64 / 1e6,
            case.net.weight_bytes() as f64 / 1e6
        );
        if profile {
            case.profile();
        }
    }
    Ok(())
}

fn run() -> std::result::Result<(), String> {
    let (mut names, mut threads, mut batches) = (vec!["cifar", "edge"], vec![1, 2], vec![1, 16]);
    let (mut rounds, mut profile) = (7, false);
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(a) = args.next() {
        let mut number =
            || args.next().and_then(|v| v.parse::<usize>().ok()).filter(|&n| n > 0).ok_or("expected a number");
        match a.as_str() {
            "cifar" => names = vec!["cifar"],
            "edge" => names = vec!["edge"],
            "threads" => threads = vec![number()?],
            "batch" => batches = vec![number()?],
            "rounds" => rounds = number()?,
            "profile" => profile = true,
            other => return Err(format!("{other}: no such option")),
        }
    }
    for name in names {
        for &batch in &batches {
            for &threads in &threads {
                bench(name, threads, batch, rounds, profile).map_err(|e| e.to_string())?;
            }
        }
    }
    Ok(())
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
