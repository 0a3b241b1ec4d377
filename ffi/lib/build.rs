//! Gives the shared library its SONAME (on macOS, its install name): programs ask for the oldest ABI that the library
//! still has, so the name changes when, and only when, programs must be compiled anew.

use std::path::Path;

fn main() -> Result<(), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/version.rs");
    println!("cargo::rerun-if-changed={}", source.display());
    let text = std::fs::read_to_string(&source).map_err(|e| format!("{}: {e}", source.display()))?;
    let value = text.split_once("UNDIFFUSE_ABI_OLDEST: u32 = ").and_then(|(_, rest)| rest.split_once(';'));
    let (oldest, _) = value.ok_or("src/version.rs has no UNDIFFUSE_ABI_OLDEST")?;
    if std::env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|v| v == "apple") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libundiffuse.{}.dylib", oldest.trim());
    }
    let elf = std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|f| f == "unix")
        && std::env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|v| v != "apple");
    if elf {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libundiffuse.so.{}", oldest.trim());
    }
    Ok(())
}
