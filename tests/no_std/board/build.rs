//! Gives the linker the memory map of the board.

use std::env;

fn main() {
    let var = |name: &str| env::var(name).expect("cargo sets it");
    println!("cargo::rerun-if-changed=link");
    if var("CARGO_CFG_TARGET_OS") == "none" {
        let map = match var("CARGO_CFG_TARGET_ARCH").as_str() {
            "arm" => "mps2.ld",
            "riscv32" | "riscv64" => "riscv.ld",
            "aarch64" => "aarch64.ld",
            other => panic!("there is no board with {other}"),
        };
        println!("cargo::rustc-link-arg=-T{}/link/{map}", var("CARGO_MANIFEST_DIR"));
        println!("cargo::rustc-link-arg=--gc-sections");
    }
}
