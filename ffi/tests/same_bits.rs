//! What a C program gets is what the Rust API gives, bit for bit: a program writes its samples, this test makes the
//! same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use undiffuse::backend::cpu::Cpu;
use undiffuse::backend::threads::Serial;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::posterior::operator::Mask;
use undiffuse::posterior::{Calibrated, Measurement};
use undiffuse::sampler::{SamplerKind, SamplerOptions, Steps};

const BATCH: usize = 3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The floats that the program writes: samples of DDPM, of DDIM, and of DDPM with a calibrated mask.
fn from_c(model: &Path) -> Option<Vec<f32>> {
    if Command::new("gcc").arg("--version").output().is_err() {
        println!("skipped: the program: there is no gcc here");
        return None;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--profile",
        "test",
        "-p",
        "undiffuse-lib",
        "--features",
        "inject-panic,embedded-digits,reference",
    ]);
    assert!(build.current_dir(root()).status().unwrap().success());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bits");
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-D_GNU_SOURCE", "-I"])
        .arg(root().join("include"));
    gcc.arg("-o").arg(&program).arg(root().join("ffi/tests/c/bits.c")).arg(target.join("debug/libundiffuse.a"));
    gcc.args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"]);
    assert!(gcc.status().unwrap().success());
    let output = Command::new(program).arg(model).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn from_rust(model: &Path) -> Vec<f32> {
    let cpu = Cpu::with_threads(None, Arc::new(Serial)).unwrap();
    let options = PipelineOptions { gradient: true.into(), ..Default::default() };
    let pipeline = Pipeline::open(model, &cpu, &options).unwrap();
    let chain = ChainOptions { batch: BATCH, first_sample: 5 };
    let sampler = |kind, eta| {
        pipeline
            .sampler(&SamplerOptions { sampler: Some(kind), steps: Steps::Count(9), eta, ..Default::default() })
            .unwrap()
    };
    let denoiser = || pipeline.denoiser(BATCH, &[]).unwrap();
    let mut all = Vec::new();
    let mut ddpm = Chain::new(denoiser(), sampler(SamplerKind::Ddpm, 0.0), Seeded::new(42), &chain).unwrap();
    ddpm.run().unwrap();
    all.extend_from_slice(ddpm.x());
    let mut ddim = Chain::new(denoiser(), sampler(SamplerKind::Ddim, 0.7), Seeded::new(42), &chain).unwrap();
    ddim.run().unwrap();
    all.extend_from_slice(ddim.x());

    let known: Vec<bool> = (0..64).map(|i| i % 3 == 0).collect();
    let mask = Mask::new(pipeline.sample_dims(), &known).unwrap();
    let y: Vec<f32> = (0..mask.known().len()).map(|i| i as f32 / 32.0 - 0.25).collect();
    let evidence = Calibrated::new(Measurement::new(mask, &y, 0.25).unwrap(), 2).unwrap();
    let ddpm = sampler(SamplerKind::Ddpm, 0.0);
    let mut posterior = Chain::with_evidence(denoiser(), ddpm, Seeded::new(42), evidence, &chain).unwrap();
    posterior.run().unwrap();
    all.extend_from_slice(posterior.x());
    all
}

#[test]
fn c_and_rust_give_the_same_bits() {
    let model = root().join("tests/no_std/tiny.safetensors");
    let Some(got) = from_c(&model) else { return };
    let wanted = from_rust(&model);
    assert_eq!(got.len(), wanted.len());
    let differing = got.iter().zip(&wanted).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    assert_eq!(differing, 0, "{} of {} floats differ", differing, wanted.len());
    println!("{} floats from C equal those of the Rust API, bit for bit", wanted.len());
}
