//! What a process needs for a network: its packed weights, its workspace, and little more.
#![cfg(target_os = "linux")]

use undiffuse::backend::Network;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::tensor::Dims;
use undiffuse::{Cancel, Result};

/// The configuration of google/ddpm-cifar10-32.
const CIFAR: &str = include_str!("../benches/common/cifar.json");

/// The bound that the project promises.
const MORE: usize = 40_000_000;

/// The most memory this process has had, in bytes.
fn peak_resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn weights(_: &str, dims: &Dims, out: &mut [f32]) -> Result<()> {
    let scale = 1.0 / (dims.positions() as f32).sqrt();
    out.iter_mut().enumerate().for_each(|(i, v)| *v = ((i * 7919 % 101) as f32 / 50.0 - 1.0) * scale);
    Ok(())
}

// One test in this file, as the system counts the whole process.
#[test]
fn ddpm_cifar10_32_needs_its_weights_its_workspace_and_at_most_40_mb() {
    let config = UNet2DConfig::from_json(CIFAR).unwrap();
    let graph = unet2d::build(&config, config.size(None).unwrap()).unwrap();
    let cpu = Cpu::with_options(CpuOptions { path: None, threads: Some(2) }).unwrap();
    let net = cpu.compile_network(&graph, &weights).unwrap();
    let parameters = 4 * graph.parameter_count();
    let (x, mut y) = (vec![0.5; 3 * 32 * 32], vec![0.0; 3 * 32 * 32]);
    let mut workspace = vec![0.0; net.workspace_len(1).unwrap()];
    net.run(1, &[&x, &[500.0]], &mut [&mut y], &mut workspace, &Cancel::new()).unwrap();
    let stated = net.weight_bytes() + 4 * workspace.len();
    let peak = peak_resident();
    println!(
        "peak resident {:.1} MB; weights {:.1} MB (parameters {:.1} MB), workspace {:.1} MB",
        peak as f64 / 1e6,
        net.weight_bytes() as f64 / 1e6,
        parameters as f64 / 1e6,
        4e-6 * workspace.len() as f64
    );
    assert!(net.weight_bytes() >= parameters, "{} bytes of weights", net.weight_bytes());
    assert!(peak <= stated + MORE, "peak resident {peak} bytes, stated {stated}");
}
