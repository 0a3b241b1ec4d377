//! A model in a file is never held in memory twice: the peak of loading and running ddpm-cifar10-32 stays near what is
//! reported.
//!
//! One test alone in its process, because the peak is the process's. Linux tells it in /proc.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use undiffuse::Cancel;
use undiffuse::backend::cpu::Cpu;
use undiffuse::denoiser::{Call, Denoiser};
use undiffuse::model::unet2d::{self, UNet2DConfig};
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::schedule::Level;
use undiffuse::tensor::{DType, Dims};
use undiffuse::weights::{TensorToWrite, write_safetensors};

#[path = "common/pcg.rs"]
mod pcg;
#[path = "common/scratch.rs"]
mod scratch;
#[path = "common/seeded.rs"]
mod seeded;

const MIB: usize = 1 << 20;
/// What the project allows beside weights and workspace.
const ALLOWED: usize = 40 * MIB;

fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn loading_and_running_holds_the_weights_once() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/unet.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let case = cases["cases"].as_array().unwrap().iter().find(|c| c["name"] == "ddpm_cifar10_32").unwrap();
    let model = case["config"].to_string();
    let config = UNet2DConfig::from_json(&model).unwrap();
    let graph = unet2d::build(&config, [32, 32]).unwrap();

    let scratch = scratch::Scratch::new("peak");
    scratch.write("config.json", &model);
    scratch.write("scheduler_config.json", r#"{"_class_name":"DDPMScheduler"}"#);
    let mut file = BufWriter::new(File::create(scratch.path().join("diffusion_pytorch_model.safetensors")).unwrap());
    let tensors: Vec<TensorToWrite<'_>> = graph
        .params()
        .iter()
        .map(|p| TensorToWrite { name: &p.name, dtype: DType::F32, shape: p.dims.as_slice() })
        .collect();
    let dims: BTreeMap<&str, &Dims> = graph.params().iter().map(|p| (p.name.as_str(), &p.dims)).collect();
    let seeded = seeded::Seeded::new(&graph);
    write_safetensors(&tensors, &BTreeMap::new(), &mut |n, out| seeded.read(n, dims[n], out), &mut |b| {
        Ok(file.write_all(b)?)
    })
    .unwrap();
    file.flush().unwrap();

    let pipeline = Pipeline::open(scratch.path(), &Cpu::new().unwrap(), &PipelineOptions::default()).unwrap();
    let loaded = peak_bytes();
    let mut denoiser = pipeline.denoiser(1, &[]).unwrap();
    let x = pcg::uniform(1, 0, 3 * 32 * 32, 1.0);
    let mut out = vec![0.0; x.len()];
    let cancel = Cancel::new();
    let call = Call { level: Level::variance_preserving(500.0, 0.5), first_sample: 0, cancel: &cancel };
    denoiser.predict(&call, &x, &mut out).unwrap();

    let (weights, workspace) = (pipeline.weight_bytes(), pipeline.workspace_bytes(1).unwrap());
    let peak = peak_bytes();
    println!(
        "peak {} MiB (loaded: {}), weights {}, workspace {}, beside them {}",
        peak / MIB,
        loaded / MIB,
        weights / MIB,
        workspace / MIB,
        peak.saturating_sub(weights + workspace) / MIB
    );
    assert!(weights >= 4 * pipeline.parameter_count());
    assert!(peak <= weights + workspace + ALLOWED, "the peak is {peak} bytes");
}
