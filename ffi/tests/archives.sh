#!/usr/bin/env bash
# Two Rust archives in one program: the installed libundiffuse.a beside another, in either order, optimised at link time or not, in C and C++.
set -euo pipefail
cd "$(dirname "$0")/../.."
. ffi/tests/common.sh
install_it
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
read -ra cflags <<< "$(pkg-config --cflags undiffuse)"
read -ra system <<< "$(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/undiffuse.pc")"
others=$(nm "$prefix/lib/libundiffuse.a" 2> /dev/null | grep -E ' [A-TX-Z] ' | grep -vE ' U | undiffuse_' || true)
[ -z "$others" ] || { echo "libundiffuse.a defines more than its functions: $others"; exit 1; }

for lto in off fat; do
  rustc -O -C lto=$lto --edition 2024 --crate-type staticlib ffi/tests/archives/other.rs -o "$work/libother.a"
  undiffuse=$prefix/lib/libundiffuse.a
  for order in "$undiffuse $work/libother.a" "$work/libother.a $undiffuse"; do
    read -ra archives <<< "$order"
    gcc -std=c99 "${warnings[@]}" "${cflags[@]}" ffi/tests/archives/main.c "${archives[@]}" "${system[@]}" -o "$work/two"
    echo "lto $lto, $(basename "${archives[0]}") first: $("$work/two" tests/no_std/tiny.safetensors)"
  done
done
