//! Puts memory.x where the linker looks, and makes the models parts of the programs.

use std::path::PathBuf;
use std::{env, fs};

#[path = "../write_models.rs"]
mod write_models;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("memory.x"), include_str!("memory.x")).expect("OUT_DIR can be written");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rerun-if-changed=memory.x");
    write_models::write(&out).unwrap_or_else(|e| panic!("{e}"));
}
