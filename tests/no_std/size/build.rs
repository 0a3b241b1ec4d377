//! Makes the models parts of the programs.

use std::path::PathBuf;

#[path = "../write_models.rs"]
mod write_models;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write_models::write(&out).unwrap_or_else(|e| panic!("{e}"));
}
