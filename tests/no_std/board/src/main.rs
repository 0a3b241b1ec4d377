//! Samples without an operating system; see README.md beside this crate.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[cfg(target_os = "none")]
mod bare;

#[cfg_attr(all(target_os = "none", target_arch = "arm"), path = "board/cortex_m.rs")]
#[cfg_attr(all(target_os = "none", any(target_arch = "riscv32", target_arch = "riscv64")), path = "board/riscv.rs")]
#[cfg_attr(all(target_os = "none", target_arch = "aarch64"), path = "board/aarch64.rs")]
#[cfg_attr(not(target_os = "none"), path = "board/host.rs")]
mod board;

#[cfg(feature = "digits")]
mod digits;
mod samples;

#[cfg(not(target_os = "none"))]
fn main() -> undiffuse::Result<()> {
    board::main()
}
