//! For benches/against.py, which times two commits beside one another: makes a call for each line on the standard input
//! and answers with its nanoseconds.
//!
//!     calls cifar|edge forward|gradient|recompute THREADS BATCH
//!
//! `gradient` is a call that also gives the vector-Jacobian product, `recompute` the same with `Keep::Fewest`. The
//! script builds this very file in both commits, so it uses no more of the library than the older one has.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use undiffuse::Cancel;
use undiffuse::backend::Network;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::graph::vjp::{Keep, vjp_keeping};
use undiffuse::model::unet2d::{self, UNet2DConfig};

#[path = "common/random.rs"]
mod random;

/// Floats of a cache line, where the workspace begins.
const LINE: usize = 16;

fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [name, what, threads, batch] = args else { return Err("expected four arguments".into()) };
    let (threads, batch): (usize, usize) = (threads.parse()?, batch.parse()?);
    let json = match name.as_str() {
        "cifar" => include_str!("common/cifar.json"),
        "edge" => include_str!("common/edge.json"),
        other => return Err(format!("{other}: no such network").into()),
    };
    let config = UNet2DConfig::from_json(json)?;
    let mut graph = unet2d::build(&config, config.size(None)?)?;
    match what.as_str() {
        "forward" => {}
        "gradient" => graph = vjp_keeping(&graph, 0, 0, Keep::All)?,
        "recompute" => graph = vjp_keeping(&graph, 0, 0, Keep::Fewest)?,
        other => return Err(format!("{other}: no such call").into()),
    }
    let options = CpuOptions { threads: Some(threads), ..CpuOptions::default() };
    let net = Cpu::with_options(options)?.compile_network(&graph, &random::weights)?;
    let inputs: Vec<Vec<f32>> = net
        .inputs()
        .iter()
        .enumerate()
        .map(|(i, d)| {
            let mut v = vec![500.0; d.elements() * batch];
            if d.elements() > 1 {
                random::fill(i as u32 + 100, &mut v, 1.732);
            }
            v
        })
        .collect();
    let mut outputs: Vec<Vec<f32>> = net.outputs().iter().map(|d| vec![0.0; d.elements() * batch]).collect();
    let len = net.workspace_len(batch)?;
    let mut workspace = vec![0.0; len + LINE];
    let begin = workspace.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let workspace = &mut workspace[begin..begin + len];

    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {}", net.describe())?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let cancel = Cancel::new();
        let start = Instant::now();
        net.run(batch, &inputs, &mut outputs, workspace, &cancel)?;
        writeln!(out, "{}", start.elapsed().as_nanos())?;
        out.flush()?;
    }
    Ok(())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let Err(e) = run(&args) {
        eprintln!("calls: {e}");
        std::process::exit(1);
    }
}
