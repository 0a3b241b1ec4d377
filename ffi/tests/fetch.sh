#!/usr/bin/env bash
# The library as a part of somebody else's CMake project, by FetchContent and by add_subdirectory: it is built with that project, in Debug too,
# runs from the build folder, and installs nothing. What a toolchain without a Rust target is told.
set -euo pipefail
cd "$(dirname "$0")/../.."
. ffi/tests/common.sh
flags=(-S ffi/tests/fetch -DUNDIFFUSE="$PWD" -DUNDIFFUSE_CARGO_TARGET_DIR="$PWD/target")

for how in FetchContent add_subdirectory; do
  quiet cmake "${flags[@]}" -B "$work/$how" -DHOW=$how -DCMAKE_BUILD_TYPE=Release
  quiet cmake --build "$work/$how"
  for program in undiffuse_c static_c shared_c undiffuse_cpp; do
    echo "$how, $program: $("$work/$how/$program")"
  done
  [ "$(ldd "$work/$how/shared_c" | grep -c libundiffuse)" = 1 ] && ! ldd "$work/$how/undiffuse_c" | grep libundiffuse
  DESTDIR=$work/dest quiet cmake --install "$work/$how"
  [ "$(find "$work/dest" -type f)" = "$work/dest/usr/local/bin/undiffuse_c" ]
  rm -r "$work/dest"
done
quiet cmake "${flags[@]}" -B "$work/FetchContent" -DBUILD_SHARED_LIBS=ON
quiet cmake --build "$work/FetchContent"
[ "$(ldd "$work/FetchContent/undiffuse_c" | grep -c libundiffuse)" = 1 ]

# Which profile and target cargo is asked for, without building.
asked() {
  cmake "${flags[@]}" -B "$work/asked" "$@" > "$work/log" 2>&1 || { cat "$work/log"; return 1; }
  grep -rhoE --include=build.make 'cargo build --profile [a-z-]+' "$work/asked"
}
[ "$(asked -DCMAKE_BUILD_TYPE=Debug)" = "cargo build --profile ffi-debug" ]
[ "$(asked -DCMAKE_BUILD_TYPE=RelWithDebInfo)" = "cargo build --profile ffi-symbols" ]
[ "$(asked -DCMAKE_BUILD_TYPE=Release)" = "cargo build --profile ffi" ]
[ "$(asked -DUNDIFFUSE_CARGO_PROFILE=dev)" = "cargo build --profile dev" ]

# A target whose standard library is not there, and one that has no name.
if cmake "${flags[@]}" -B "$work/none" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=loongarch64 > "$work/log" 2>&1; then exit 1; fi
tr -s ' \n' ' ' < "$work/log" | grep -o 'rustup target add loongarch64-unknown-linux-gnu'
if cmake "${flags[@]}" -B "$work/unknown" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=z80 > "$work/log" 2>&1; then exit 1; fi
tr -s ' \n' ' ' < "$work/log" | grep -o 'what Rust calls Linux on z80 is not known here: set UNDIFFUSE_CARGO_TARGET'
