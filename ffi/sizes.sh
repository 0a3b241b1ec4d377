#!/usr/bin/env bash
# Prints the stripped bytes of what one links, as a table: ffi/sizes.sh. It builds each in target/sizes (SIZES_TARGET_DIR), some minutes
# on two cores, and needs gcc, strip and readelf. With a number it fails if the cpu-only shared library is larger: ffi/sizes.sh 2000000.
set -euo pipefail
cd "$(dirname "$0")/.."
most=${1:-}
target=${SIZES_TARGET_DIR:-target/sizes}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

row() {
  printf '| %s | %s |\n' "$1" "$2"
}

stripped() {
  strip -o "$work/stripped" "$1"
  stat -c %s "$work/stripped"
}

# rows NAME FEATURES: the shared library, and a program that has all it needs of the static one. Sets $shared.
rows() {
  cargo build -q --profile ffi -p undiffuse-lib --no-default-features --features "$2" --target-dir "$target"
  shared=$(stripped "$target/ffi/libundiffuse.so")
  row "$1, shared library" "$shared"
  gcc -Os -Wl,--gc-sections -I include ffi/tests/hello.c "$target/ffi/libundiffuse.a" \
    -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc -o "$work/hello"
  row "$1, a program that loads a file and samples, linked statically" "$(stripped "$work/hello")"
}

# What the program of tests/no_std occupies in flash, less its model: code, constants and initial data. `.ci/run bare_metal` builds it.
bare() {
  local program=target/bare_metal/thumbv7em-none-eabihf/release/general name='core without std, the Cortex-M4 program'
  if ! [ -f "$program" ]; then
    row "$name" 'not built: first `.ci/run bare_metal`'
    return
  fi
  local bytes model
  bytes=$(readelf -SW "$program" | sed 's/^ *\[ *[0-9]*\] *//' |
    awk '$1 ~ /^\.(vector_table|text|rodata|data)$/ { print $5 }' | { s=0; while read -r hex; do s=$((s + 0x$hex)); done; echo "$s"; })
  model=$(stat -c %s tests/no_std/tiny.safetensors)
  row "$name" $((bytes - model))
}

printf '| what | bytes |\n|---|---|\n'
bare
rows "cpu" threads
cpu=$shared
if grep -q '^wgpu = ' ffi/lib/Cargo.toml; then
  rows "cpu and wgpu" threads,wgpu
else
  row "cpu and wgpu" "not built: no such feature"
fi
row "the digits of \`embedded-digits\` add" "$(stat -c %s pretrained/digits.safetensors)"

if [ -n "$most" ] && [ "$cpu" -gt "$most" ]; then
  echo "the cpu-only shared library has $cpu bytes, at most $most are wanted" >&2
  exit 1
fi
