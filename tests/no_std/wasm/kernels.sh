#!/usr/bin/env bash
# The cpu backend's own tests, and all operations and gradients against PyTorch's, compiled for WebAssembly with simd128 and run in node: each on the
# portable path and on simd128. Test programs need a standard library with files and output, which WASI has: Debian's rustc (rustc-web, rust-web-src)
# builds it over Debian's wasi-libc. What that lacks wasi.mjs has, or node refuses the program by the name of what is missing.
set -euo pipefail
cd "$(dirname "$0")/../../.."
lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
libc=/usr/lib/wasm32-wasi
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=target/wasi
export RUSTFLAGS="-Clinker=$lld -Ctarget-feature=+simd128 -Clink-self-contained=no -L$libc -Clink-arg=$libc/crt1-command.o -Clink-arg=--import-undefined"
export CARGO_TARGET_WASM32_WASIP1_RUNNER="node --no-warnings $PWD/tests/no_std/wasm/wasi.mjs"
tests() {
  cargo test --no-default-features --features threads -Zbuild-std=std,panic_abort --target wasm32-wasip1 "$@"
}
# The pool needs threads, and a panic cannot be caught.
tests --lib -- backend::cpu --skip pool --skip threads --skip a_workspace_is_enough_for_every_smaller_batch
tests --test references -- operations::operations_and_gradients_are_pytorchs_on_every_path_of_the_cpu_backend --nocapture
