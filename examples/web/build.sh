#!/usr/bin/env bash
# Builds undiffuse.wasm and gathers the page in target/web (or the folder given), ready for any web server. Where rustup has the target
# wasm32-unknown-unknown its compiler is taken, else Debian's (rustc-web, rust-web-src), which builds std from source.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "${1:-$root/target/web}")
cd "$root/examples/web"
export CARGO_TARGET_DIR=$root/target/wasm
flags="-Ctarget-feature=+simd128"
if [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown" ]; then
  RUSTFLAGS=$flags cargo build --release --target wasm32-unknown-unknown
else
  lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Clinker=$lld $flags" \
    cargo build --release -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown
fi
mkdir -p "$out"
cp "$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/undiffuse_web.wasm" "$out/undiffuse.wasm"
cp "$root/pretrained/digits.safetensors" page/* "$out"
echo "$out: undiffuse.wasm of $(stat -c %s "$out/undiffuse.wasm") bytes, $(gzip -9 -c "$out/undiffuse.wasm" | wc -c) compressed"
