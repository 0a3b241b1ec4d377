#!/usr/bin/env bash
# A program without any shared library: gcc -static, g++ -static, and by what pkg-config --static says.
set -euo pipefail
cd "$(dirname "$0")/../.."
. ffi/tests/common.sh
install_it
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
read -ra flags <<< "$(pkg-config --static --cflags --libs undiffuse)"
echo "pkg-config --static: ${flags[*]}"
gcc -static "${warnings[@]}" ffi/tests/consumer/main.c "${flags[@]}" -o "$work/c"
g++ -std=c++17 -static "${warnings[@]}" ffi/tests/consumer/main.cpp "${flags[@]}" -o "$work/cpp"
gcc -static -I include ffi/tests/hello.c "${flags[@]}" -o "$work/hello"
for program in c cpp hello; do
  if ldd "$work/$program" > "$work/log" 2>&1; then cat "$work/log"; exit 1; fi
done
"$work/c"
"$work/cpp"
"$work/hello" tests/no_std/tiny.safetensors
