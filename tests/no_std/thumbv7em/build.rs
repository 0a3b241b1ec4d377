//! Puts memory.x where the linker looks, and makes the models parts of the programs.

use std::path::PathBuf;
use std::{env, fs};

use undiffuse::embed::{EmbedOptions, generate};

#[allow(dead_code)]
#[path = "../models.rs"]
mod models;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("memory.x"), include_str!("memory.x")).expect("OUT_DIR can be written");
    println!("cargo::rustc-link-search={}", out.display());
    for case in models::CASES {
        let options = EmbedOptions { weights: case.weights, sampler: Some((case.sampler)()), ..Default::default() };
        let file = format!("../../../{}", case.file);
        let made = generate(file, &options, out.join(format!("{}.rs", case.name)));
        let made = made.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        println!("cargo::warning={}: {made:?}", case.name);
    }
    for file in ["memory.x", "build.rs", "../models.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
}
