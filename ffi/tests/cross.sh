#!/usr/bin/env bash
# Cross-builds for AArch64 Linux by a CMake toolchain file and runs a C and a C++ program in QEMU, static and shared. No Rust for that target can
# be fetched here, so Debian's rustc builds its own standard library from Debian's source. Little is optimised: it is what is run that counts.
# Then the header and the C++ classes by a compiler for Windows.
set -euo pipefail
cd "$(dirname "$0")/../.."
. ffi/tests/common.sh
prefix=$work/aarch64
cat > "$work/aarch64.cmake" << EOF
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
EOF
qemu=(qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max)
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1

# Without its source it is said what is missing.
if cmake -S ffi -B "$work/none" -DCMAKE_TOOLCHAIN_FILE="$work/aarch64.cmake" > "$work/log" 2>&1; then exit 1; fi
tr -s ' \n' ' ' < "$work/log" | grep -o 'rustup target add aarch64-unknown-linux-gnu'

cmake -S ffi -B "$work/build" -DCMAKE_TOOLCHAIN_FILE="$work/aarch64.cmake" -DCMAKE_INSTALL_PREFIX="$prefix" \
  -DUNDIFFUSE_CARGO_PROFILE=ffi-quick -DUNDIFFUSE_CARGO_FLAGS="-Zbuild-std=std,panic_unwind" -DUNDIFFUSE_CARGO_TARGET_DIR="$PWD/target/cross" > "$work/log"
cmake --build "$work/build"
quiet cmake --install "$work/build"
readelf -h "$prefix/lib/libundiffuse.so" | grep -o 'AArch64'
for kind in static shared; do
  quiet cmake -S ffi/tests/consumer -B "$work/$kind" -DCMAKE_TOOLCHAIN_FILE="$work/aarch64.cmake" -Dundiffuse_DIR="$prefix/lib/cmake/undiffuse" -DKIND=$kind
  quiet cmake --build "$work/$kind"
  for program in consumer_c consumer_cpp; do
    echo "aarch64, $kind: $("${qemu[@]}" "$work/$kind/$program")"
  done
done
# A network, by NEON.
aarch64-linux-gnu-gcc -std=c99 "${warnings[@]}" -I include ffi/tests/describe.c "$prefix/lib/libundiffuse.a" -lpthread -lm -ldl -o "$work/describe"
"${qemu[@]}" "$work/describe" tests/no_std/tiny.safetensors

# For Windows by MinGW: the header and all classes compile, as for the DLL too.
echo '#include "undiffuse.h"' > "$work/alone.c"
for define in -UUNDIFFUSE_SHARED -DUNDIFFUSE_SHARED; do
  x86_64-w64-mingw32-gcc -std=c99 "${warnings[@]}" $define -I include -fsyntax-only "$work/alone.c"
  x86_64-w64-mingw32-g++ -std=c++17 "${warnings[@]}" $define -I include -fsyntax-only ffi/tests/cpp/classes.cpp
done
echo "x86_64-w64-mingw32: undiffuse.h and undiffuse.hpp compile"
