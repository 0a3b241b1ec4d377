//! Writes a packed file of a network of the size of ddpm-cifar10-32 with random weights, and prints the time of its
//! longest layer: what the program ffi/tests/c/latency.c needs.
//!
//!     cargo run --release -p undiffuse-ffi --example seeded_model -- /tmp/cifar.safetensors

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use undiffuse::backend::Network;
use undiffuse::backend::cpu::Cpu;
use undiffuse::backend::threads::Serial;
use undiffuse::model::ModelConfig;
use undiffuse::noise::Stream;
use undiffuse::tensor::{DType, Dims};
use undiffuse::weights::{TensorToWrite, write_safetensors};
use undiffuse::{Cancel, Error, Result};

const MODEL: &str = include_str!("../../benches/common/cifar.json");
const SCHEDULER: &str = r#"{"_class_name": "DDPMScheduler"}"#;

/// Weights that keep the network's values near 1.
fn weights(name: &str, dims: &Dims, out: &mut [f32]) -> Result<()> {
    let scale = match dims.rank() {
        1 => 0.0,
        _ => (3.0 / dims.positions() as f64).sqrt() as f32,
    };
    let centre = if dims.rank() == 1 && name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
    let mut stream = Stream::new(name.bytes().map(u64::from).sum(), 0, 0);
    out.fill_with(|| centre + scale * (2.0 * stream.uniform() as f32 - 1.0));
    Ok(())
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| Error::from(std::io::Error::other("a path is missing")))?;
    let graph = ModelConfig::from_json(MODEL)?.build(None)?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let tensors: Vec<TensorToWrite<'_>> = graph
        .params()
        .iter()
        .map(|p| TensorToWrite { name: &p.name, dtype: DType::F32, shape: p.dims.as_slice() })
        .collect();
    let dims: BTreeMap<&str, &Dims> = graph.params().iter().map(|p| (p.name.as_str(), &p.dims)).collect();
    let metadata = [("undiffuse.format", "1"), ("undiffuse.model", MODEL), ("undiffuse.scheduler", SCHEDULER)];
    let metadata = metadata.map(|(k, v)| (k.to_string(), v.to_string())).into();
    let mut fill = |name: &str, out: &mut [f32]| match dims.get(name) {
        Some(dims) => weights(name, dims, out),
        None => Ok(()),
    };
    write_safetensors(&tensors, &metadata, &mut fill, &mut |bytes| Ok(file.write_all(bytes)?))?;
    file.flush()?;

    let network = Cpu::with_threads(None, Arc::new(Serial))?.compile_network(&graph, &weights)?;
    let names: Vec<&str> = network.operations().collect();
    let mut seconds = vec![f64::INFINITY; names.len()];
    let (x, mut y) = (vec![0.5; network.inputs()[0].elements()], vec![0.0; network.outputs()[0].elements()]);
    let mut workspace = vec![0.0; network.workspace_len(1)?];
    for _ in 0..5 {
        let mut before = Instant::now();
        network.run_observed(1, &[&x, &[500.0]], &mut [&mut y], &mut workspace, &Cancel::new(), &mut |i| {
            seconds[i] = seconds[i].min(before.elapsed().as_secs_f64());
            before = Instant::now();
        })?;
    }
    let longest = (0..names.len()).max_by(|&a, &b| seconds[a].total_cmp(&seconds[b])).unwrap_or(0);
    println!(
        "on one thread the longest of {} layers takes {:.2} ms ({}), all of them {:.2} ms",
        names.len(),
        1e3 * seconds[longest],
        names[longest],
        1e3 * seconds.iter().sum::<f64>()
    );
    Ok(())
}
