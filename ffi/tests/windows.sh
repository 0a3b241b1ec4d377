#!/usr/bin/env bash
# Cross-builds for x86-64 Windows by MinGW and a CMake toolchain file, and runs C and C++ programs under Wine, with the DLL and linked statically.
# No Rust for that target can be fetched here, so Debian's rustc builds its own standard library from Debian's source.
set -euo pipefail
cd "$(dirname "$0")/../.."
. ffi/tests/common.sh
prefix=$work/windows
cat > "$work/windows.cmake" << EOF
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
EOF
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
cmake -S ffi -B "$work/build" -DCMAKE_TOOLCHAIN_FILE="$work/windows.cmake" -DCMAKE_INSTALL_PREFIX="$prefix" \
  -DUNDIFFUSE_CARGO_PROFILE=ffi-quick -DUNDIFFUSE_CARGO_FLAGS="-Zbuild-std=std,panic_unwind" -DUNDIFFUSE_CARGO_TARGET_DIR="$PWD/target/cross" > "$work/log"
cmake --build "$work/build"
quiet cmake --install "$work/build"
echo "undiffuse.dll exports $(x86_64-w64-mingw32-objdump -p "$prefix/bin/undiffuse.dll" | grep -c ' undiffuse_') functions"

# Rust's standard library draws from bcryptprimitives.dll, which Windows has and Wine before 8.3 lacks.
mkdir "$work/dll"
cat > "$work/prng.c" << EOF
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T len) { return RtlGenRandom(data, (ULONG)len); }
EOF
x86_64-w64-mingw32-gcc -shared -O1 "$work/prng.c" -ladvapi32 -o "$work/dll/bcryptprimitives.dll"
wine=/usr/lib/wine/wine64
export WINEDEBUG=-all WINEPREFIX=$work/wine
WINEPATH="Z:$work/dll;Z:$prefix/bin;Z:$(dirname "$(x86_64-w64-mingw32-gcc -print-file-name=libgcc_s_seh-1.dll)");Z:/usr/x86_64-w64-mingw32/lib"
export WINEPATH
quiet "$wine" wineboot -i
# Wine's server must be gone before its folder is.
trap 'WINEPREFIX=$work/wine /usr/lib/wine/wineserver64 -k 2> /dev/null || true; rm -rf "$work"' EXIT

for kind in static shared; do
  quiet cmake -S ffi/tests/consumer -B "$work/$kind" -DCMAKE_TOOLCHAIN_FILE="$work/windows.cmake" -Dundiffuse_DIR="$prefix/lib/cmake/undiffuse" -DKIND=$kind
  quiet cmake --build "$work/$kind"
  for program in consumer_c consumer_cpp; do
    echo "windows, $kind: $("$wine" "$work/$kind/$program.exe")"
  done
done
[ "$(x86_64-w64-mingw32-objdump -p "$work/shared/consumer_c.exe" | grep -c undiffuse.dll)" = 1 ]

# A network from a file, and the first program of undiffuse.h: 36 digits.
x86_64-w64-mingw32-gcc -std=c99 "${warnings[@]}" -I include -DUNDIFFUSE_SHARED ffi/tests/describe.c -L"$prefix/lib" -lundiffuse -o "$work/describe.exe"
"$wine" "$work/describe.exe" tests/no_std/tiny.safetensors
sed -n '/^ \*     #include <stdio.h>/,/^ \*     }$/s/^ \* \{0,5\}//p' include/undiffuse.h > "$work/first.c"
x86_64-w64-mingw32-gcc -std=c99 -O2 "${warnings[@]}" -I include -DUNDIFFUSE_SHARED "$work/first.c" -L"$prefix/lib" -lundiffuse -o "$work/first.exe"
digits=$PWD/pretrained/digits.safetensors
(cd "$work" && "$wine" first.exe "Z:$digits")
env -u RUSTC -u RUSTC_BOOTSTRAP cargo run -q --release --features cli -- sample --output "$work/first.npy" > /dev/null
tail -c "$(stat -c %s "$work/digits.f32")" "$work/first.npy" | cmp - "$work/digits.f32"
echo "windows: the 36 digits of undiffuse.h's first program, the same bits as here"
