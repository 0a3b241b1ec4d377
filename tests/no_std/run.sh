#!/usr/bin/env bash
# Builds the program of tests/no_std/board for boards and runs each in QEMU; what it prints must be what the host prints, to the bit:
#     tests/no_std/run.sh [cortex-m4 | riscv32 | riscv64 | aarch64 | aarch64-dotprod | c]...
# all of them without arguments. What a model of your own takes on a board:
#     tests/no_std/run.sh needs FILE [f32 | f16 | bf16 | int8 | int4]
# Logs stand in target/bare_metal/logs. No compiler for bare targets can be fetched everywhere, so
# Debian's rustc builds core and alloc from Debian's source; `.ci/run bare_metal` installs it, and QEMU.
set -euo pipefail
cd "$(dirname "$0")/board"
export CARGO_TARGET_DIR=$PWD/../../../target/bare_metal
logs=$CARGO_TARGET_DIR/logs
mkdir -p "$logs"
lld=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld
# One instruction is one nanosecond of the emulated clock, so that the program can count them.
count=(-icount shift=0,sleep=off -nographic -monitor none)
semihosting=(-semihosting-config enable=on,target=native)

# quiet COMMAND...: its output only if it fails.
quiet() {
  "$@" > "$logs/build" 2>&1 || { cat "$logs/build"; return 1; }
}

# build TARGET FLAGS FEATURES: sets $program.
build() {
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Clinker=$lld $2" \
    quiet cargo build --release -Zbuild-std=core,alloc --target "$1" --features "$3"
  program=$CARGO_TARGET_DIR/$1/release/undiffuse-board
}

host() {
  # Portable kernels have the same bits at any level.
  CARGO_PROFILE_RELEASE_OPT_LEVEL=1 quiet cargo build --release --features digits
  "$CARGO_TARGET_DIR/release/undiffuse-board" > "$logs/host"
}

# emulate NAME COMMAND...: its output must be the host's, but for lines of its own memory and for paths that the host has not.
emulate() {
  local name=$1 start=$SECONDS
  # Semihosting writes to one or the other, by board.
  timeout 600 "${@:2}" < /dev/null > "$logs/$name" 2>&1 || { cat "$logs/$name"; echo "$name failed"; return 1; }
  tr -d '\r' < "$logs/$name" > "$logs/$name.lf"
  mv "$logs/$name.lf" "$logs/$name"
  cat "$logs/$name"
  # Without the digits the host's lines of digits have no counterpart.
  grep '^portable' "$logs/$name" > "$logs/same"
  case $name in
    riscv32) grep -E '^portable (swiss|tiny|robot|heart)' "$logs/host" ;;
    *) grep '^portable' "$logs/host" ;;
  esac | diff - "$logs/same"
  echo "$name: $(wc -l < "$logs/same") lines as on the host, to the bit, $((SECONDS - start)) s"
}

cortex-m4() {
  build thumbv7em-none-eabihf "" digits
  emulate cortex-m4 qemu-system-arm -M mps2-an386 "${count[@]}" "${semihosting[@]}" -kernel "$program"
}

# No floating-point unit: every operation is a call, so the digits are left to the others.
riscv32() {
  build riscv32imac-unknown-none-elf "" ""
  emulate riscv32 qemu-system-riscv32 -M virt -bios none "${count[@]}" -serial stdio -kernel "$program"
}

riscv64() {
  build riscv64gc-unknown-none-elf "-Ccode-model=medium" digits
  emulate riscv64 qemu-system-riscv64 -M virt -bios none "${count[@]}" -serial stdio -kernel "$program"
}

# NEON and the portable kernels. The program switches memory translation on, so vectors may be read from anywhere.
aarch64() {
  build aarch64-unknown-none "-Ctarget-feature=-strict-align" digits
  emulate aarch64 qemu-system-aarch64 -M virt -cpu cortex-a53 -net none "${count[@]}" "${semihosting[@]}" -serial stdio -kernel "$program"
}

# The same with the dot products of ARMv8.2, which a Cortex-A53 has not.
aarch64-dotprod() {
  build aarch64-unknown-none "-Ctarget-feature=-strict-align,+dotprod" digits
  emulate aarch64-dotprod qemu-system-aarch64 -M virt -cpu neoverse-n1 -net none "${count[@]}" "${semihosting[@]}" -serial stdio -kernel "$program"
}

# array NAME FILE: the file as a C array, with its length NAME_len.
array() {
  echo "#include <stddef.h>"
  echo "const unsigned char $1[] __attribute__((aligned(64))) = {"
  od -An -v -tx1 "$2" | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'
  echo "};"
  echo "const size_t $1_len = sizeof $1;"
}

# The C ABI without an operating system and without a C library: examples/c/freestanding.
c() {
  local root=../../.. work=$CARGO_TARGET_DIR/c example=../../../examples/c/freestanding
  mkdir -p "$work"
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS= quiet cargo build --release -Zbuild-std=core,alloc --target thumbv7em-none-eabihf \
    --manifest-path $root/ffi/freestanding/Cargo.toml
  { array swiss_roll $root/pretrained/swiss_roll.safetensors; array tiny ../tiny.safetensors; } > "$work/models.c"
  arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 -std=c11 -Wall -Wextra -Werror -Os \
    -ffreestanding -nostdlib -Wl,--gc-sections -Wl,-Tlink/mps2.ld -I $root/include -I $root/ffi/freestanding \
    $example/main.c $example/mps2.c "$work/models.c" "$CARGO_TARGET_DIR/thumbv7em-none-eabihf/release/libundiffuse.a" -o "$work/example"
  timeout 600 qemu-system-arm -M mps2-an386 -nographic -monitor none "${semihosting[@]}" -kernel "$work/example" < /dev/null 2>&1 | tee "$logs/c"
  # The checksums are those of the host's lines of the same names.
  grep -E '^[^#:]*: [0-9a-f]{16}$' "$logs/c" > "$logs/same"
  [ "$(wc -l < "$logs/same")" = 2 ]
  sed -nE 's/^portable ((swiss roll|tiny U-Net): [0-9a-f]{16}) .*/\1/p' "$logs/host" | diff - "$logs/same"
  echo "c: 2 checksums as on the host"
}

if [ "${1:-}" = needs ]; then
  file=$(cd "$OLDPWD" && realpath "$2")
  cargo run -q --release --features digits -- "$file" "${3:-f32}"
  exit
fi
if [ $# -eq 0 ]; then set -- cortex-m4 riscv32 riscv64 aarch64 aarch64-dotprod c; fi
host
for name in "$@"; do
  case $name in
    cortex-m4 | riscv32 | riscv64 | aarch64 | aarch64-dotprod | c) "$name" ;;
    *) echo "there is no board $name" >&2; exit 1 ;;
  esac
done
