#!/usr/bin/env bash
# Bytes of code and constants, weights aside, of programs that have one model as a part of them, by target, and the
# largest functions of each:
#     tests/no_std/sizes.sh [LARGEST [TARGET...]]
# prints so many functions a program (default 0), for thumbv7em-none-eabihf, riscv32imac-unknown-none-elf and
# x86_64-unknown-linux-gnu or those of them that are named. It needs Debian's rustc-web, rust-web-src and llvm.
set -euo pipefail
cd "$(dirname "$0")/../.."
largest=${1:-0}
targets=("${@:2}")
[ $# -gt 1 ] || targets=(thumbv7em-none-eabihf riscv32imac-unknown-none-elf x86_64-unknown-linux-gnu)
lld=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld
out=$PWD/target/sizes
programs=(swiss_roll spikes unet1d digits digits_int8 digits_int4 digits_integers)

# build TARGET FLAGS...
build() {
  local target=$1
  shift
  (
    cd tests/no_std/size
    CARGO_TARGET_DIR=$out RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
      RUSTFLAGS="-Clinker=$lld -Zunstable-options -Cpanic=immediate-abort $*" \
      cargo build --quiet --release -Zbuild-std=core,alloc -Zbuild-std-features=optimize_for_size,compiler-builtins-mem --target "$target"
  )
}

# section FILE NAMES: bytes of the sections whose names begin so.
section() {
  llvm-size -A "$1" 2> /dev/null | awk -v names="$2" '$1 ~ "^(" names ")" { n += $2 } END { print n + 0 }'
}

# row TARGET PROGRAM
row() {
  local file=$out/$1/release/$2 code constants weights
  code=$(section "$file" '\\.text|\\.ARM\\.ex')
  constants=$(section "$file" '\\.rodata|\\.data|\\.srodata|\\.sdata|\\.got|\\.eh_frame')
  weights=$(llvm-nm -S "$file" | awk '$4 ~ /WEIGHTS/ { print $2 }' | head -n 1)
  weights=$((16#${weights:-0}))
  printf '| %s | %s | %d | %d | %d | %d |\n' "$2" "$1" "$code" "$((constants - weights))" "$((code + constants - weights))" "$weights"
  if [ "$largest" -gt 0 ]; then
    llvm-nm -S -C --size-sort -r "$file" | awk '$3 ~ /^[tTrR]$/' | grep -v WEIGHTS | head -n "$largest" |
      while read -r _ size _ name; do printf '    %7d %s\n' "$((16#$size))" "$name"; done
  fi
}

for target in "${targets[@]}"; do
  case $target in
    thumbv7em-none-eabihf | riscv32imac-unknown-none-elf) build "$target" "-Clink-arg=-e_start" ;;
    x86_64-unknown-linux-gnu) build "$target" "-Clinker-flavor=ld.lld -Clink-arg=-e_start -Crelocation-model=static" ;;
    *) echo "there is no target $target" >&2; exit 1 ;;
  esac
done
echo "| program | target | code | constants | both | weights |"
echo "|---|---|---|---|---|---|"
for program in "${programs[@]}"; do
  for target in "${targets[@]}"; do
    row "$target" "$program"
  done
done
