#!/usr/bin/env bash
# Builds the boards' samples for WebAssembly and runs them in node; checksums must be those that this computer's portable kernels give.
# Debian's rustc (rustc-web, rust-web-src) builds std from source, unless rustup has the target.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
mkdir -p "$root/target/bare_metal/logs"
host=$root/target/bare_metal/logs/wasm_host
(cd ../board && CARGO_TARGET_DIR=$root/target/bare_metal CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo run -q --release --features digits > "$host")
export CARGO_TARGET_DIR=$root/target/wasm
flags="-Ctarget-feature=+simd128"
if [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown" ]; then
  RUSTFLAGS=$flags cargo build --release --target wasm32-unknown-unknown
else
  lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Clinker=$lld $flags" \
    cargo build --release -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown
fi
node run.mjs "$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/undiffuse_wasm.wasm" "$host" | tee "$root/target/bare_metal/logs/wasm"
