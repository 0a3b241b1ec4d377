//! What programs without an operating system must print: the samples of the models that are parts of them, made here by
//! the general loader on the portable path. `.ci/run bare_metal` compares the boards' output with the same file. After
//! a change that is meant, `UNDIFFUSE_WRITE_EXPECTED=1 cargo test --release --test networks programs` writes it anew.

use std::fmt::Write;
use std::path::Path;

use undiffuse::backend::cpu::{Cpu, CpuOptions, Path as Kernels};
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::noise::Seeded;
use undiffuse::pipeline::{Pipeline, PipelineOptions};

#[path = "../no_std/models.rs"]
mod models;

#[test]
fn samples_are_those_that_the_boards_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lines = String::new();
    for case in models::CASES {
        let options = CpuOptions { path: Some(Kernels::Portable), threads: Some(1), weights: case.weights };
        let cpu = Cpu::with_options(options).unwrap();
        let options = PipelineOptions { precision: case.precision, ..PipelineOptions::default() };
        let pipeline = Pipeline::open(root.join(case.file), &cpu, &options).unwrap();
        let sampler = pipeline.sampler(&(case.sampler)()).unwrap();
        let denoiser = pipeline.denoiser(1, &[]).unwrap();
        let noise = Seeded::new(models::SEED);
        let mut chain = Chain::new(denoiser, sampler, noise, &ChainOptions::default()).unwrap();
        chain.run().unwrap();
        writeln!(lines, "{} {:016x}", case.name, models::checksum(chain.x())).unwrap();
    }
    let file = root.join("tests/no_std/expected.txt");
    if std::env::var_os("UNDIFFUSE_WRITE_EXPECTED").is_some() {
        std::fs::write(&file, &lines).unwrap();
    }
    assert_eq!(lines, std::fs::read_to_string(file).unwrap());
}
