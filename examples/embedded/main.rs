//! The library as a program without an operating system uses it: a model from bytes, no file, no thread, and memory
//! that is set aside first. `samples.rs` is the whole use; `tests/no_std/thumbv7em` runs it on a Cortex-M, and CI
//! checks that it prints there what this prints here.
//!
//!     cargo run --release --example embedded

extern crate alloc;

mod samples;

/// On a microcontroller this lies in flash.
static MODEL: &[u8] = include_bytes!("../../tests/no_std/tiny.safetensors");

fn main() -> undiffuse::Result<()> {
    print!("{}", samples::report(MODEL)?);
    Ok(())
}
