#!/usr/bin/env bash
# Installs the library by CMake, moves what was installed, and builds and runs against it: a C and a C++ consumer by find_package and by
# pkg-config, shared and static; the test of undiffuse.hpp under ASan and UBSan, as C++17 and C++20, by each compiler; the examples.
set -euo pipefail
cd "$(dirname "$0")/../.."
. ffi/tests/common.sh
most=3420000 # Of the shared library, stripped, with the cpu backend alone and every model family.
oldest_glibc=2.34 # ffi/README.md says it.

install_it
soname=$(readelf -d "$prefix/lib/libundiffuse.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ -n "$soname" ] && [ -e "$prefix/lib/$soname" ]
bytes=$(stat -L -c %s "$prefix/lib/libundiffuse.so")
echo "libundiffuse.so: $bytes bytes, at most $most"
[ "$bytes" -le "$most" ]
glibc=$(objdump -T "$prefix/lib/libundiffuse.so" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
echo "it needs $glibc, at most GLIBC_$oldest_glibc"
[ "$(printf '%s\nGLIBC_%s\n' "$glibc" "$oldest_glibc" | sort -V | tail -n 1)" = "GLIBC_$oldest_glibc" ]
licences=$prefix/share/licenses/undiffuse
for file in LICENSE LICENSE-MIT LICENSE-APACHE THIRD-PARTY.txt; do [ -s "$licences/$file" ]; done
python3 -c 'import json, sys; b = json.load(open(sys.argv[1])); assert b["bomFormat"] == "CycloneDX" and len(b["components"]) > 10' "$licences/sbom.cdx.json"
grep -q '^safetensors ' "$licences/THIRD-PARTY.txt"
for file in libundiffuse.so libundiffuse.a; do
  if strings "$prefix/lib/$file" | grep -F -e "$PWD" -e "${CARGO_HOME:-$HOME/.cargo}"; then
    echo "$file has paths of this machine"
    exit 1
  fi
done

# What trains is no part of it: of the crate's own names those of sampling are there, and none of training.
rlib=$(find target/ffi/deps -name 'libundiffuse-*.rlib' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2)
grep -qa 9undiffuse7sampler "$rlib"
for name in 9undiffuse8training 5graph9gradients 9reference10param_grad; do
  if grep -qa "$name" "$rlib"; then
    echo "$rlib has $name"
    exit 1
  fi
done

# No vector instruction is a function: one that is has not been inlined into a kernel, which then takes many times as long.
if nm "$prefix/lib/libundiffuse.a" 2> "$work/log" | grep core_arch | grep -v xgetbv; then
  echo "these instructions are calls"
  exit 1
fi

for kind in shared static; do
  cmake -S ffi/tests/consumer -B "$work/$kind" -DCMAKE_PREFIX_PATH="$prefix" -DKIND=$kind > "$work/log"
  cmake --build "$work/$kind" > "$work/log" || { cat "$work/log"; exit 1; }
  for program in consumer_c consumer_cpp; do
    echo "find_package, $kind: $("$work/$kind/$program")"
  done
done
linked() { ldd "$1" | grep -c libundiffuse || true; }
[ "$(linked "$work/shared/consumer_c")" = 1 ] && [ "$(linked "$work/static/consumer_c")" = 0 ]

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
read -ra cflags <<< "$(pkg-config --cflags undiffuse)"
read -ra shared <<< "$(pkg-config --libs undiffuse)"
read -ra static <<< "$(pkg-config --static --libs undiffuse)"
mkdir "$work/archive"
cp "$prefix/lib/libundiffuse.a" "$work/archive"  # Where no shared library takes the name, -lundiffuse is the static one.
for language in c cpp; do
  compiler=$([ $language = c ] && echo gcc || echo "g++ -std=c++17")
  $compiler "${warnings[@]}" "${cflags[@]}" ffi/tests/consumer/main.$language "${shared[@]}" -Wl,-rpath,"$prefix/lib" -o "$work/shared_$language"
  echo "pkg-config, shared: $("$work/shared_$language")"
  $compiler "${warnings[@]}" "${cflags[@]}" ffi/tests/consumer/main.$language -L"$work/archive" "${static[@]}" -o "$work/static_$language"
  [ "$(linked "$work/static_$language")" = 0 ]
  echo "pkg-config --static: $("$work/static_$language")"
done

# The program in the comment of undiffuse.h does what the first line of the README does, to the bit.
sed -n '/^ \*     #include <stdio.h>/,/^ \*     }$/s/^ \* \{0,5\}//p' include/undiffuse.h > "$work/first.c"
grep -q 'int main' "$work/first.c"
for standard in c99 c11 c17; do gcc -std=$standard "${warnings[@]}" "${cflags[@]}" -fsyntax-only "$work/first.c"; done
gcc -std=c99 -O2 "${warnings[@]}" "${cflags[@]}" "$work/first.c" "${shared[@]}" -Wl,-rpath,"$prefix/lib" -o "$work/first_c"
quiet cargo build --release --all-features  # The features of .ci/run's other builds.
start=$(date +%s%N)
digits=$PWD/pretrained/digits.safetensors
(cd "$work" && ./first_c "$digits")
middle=$(date +%s%N)
target/release/undiffuse sample --output "$work/first.npy" > /dev/null
end=$(date +%s%N)
tail -c "$(stat -c %s "$work/digits.f32")" "$work/first.npy" | cmp - "$work/digits.f32"
echo "36 digits: $(((middle - start) / 1000000)) ms by undiffuse.h's first program, $(((end - middle) / 1000000)) ms by undiffuse sample, the same bits"

# The program in the comment of undiffuse.hpp, every class, and each part of it alone.
sed -n '/^\/\/     #include <cstdio>/,/^\/\/     }$/s/^\/\/     //p' include/undiffuse.hpp > "$work/first.cpp"
grep -q 'int main' "$work/first.cpp"
for compiler in g++ clang++; do
  command -v $compiler > /dev/null || { echo "skipped: undiffuse.hpp by $compiler, which is not here"; continue; }
  for standard in c++17 c++20; do
    $compiler -std=$standard "${warnings[@]}" -I include -fsyntax-only ffi/tests/cpp/classes.cpp
    $compiler -std=$standard "${warnings[@]}" -I include -fsyntax-only "$work/first.cpp"
  done
  for part in include/undiffuse/*.hpp; do
    $compiler -std=c++17 "${warnings[@]}" -fsyntax-only -x c++ -include "$part" /dev/null
  done
done
g++ -std=c++17 "${warnings[@]}" "${cflags[@]}" "$work/first.cpp" -L"$work/archive" "${static[@]}" -o "$work/first"
"$work/first" tests/no_std/tiny.safetensors | tail -n 1
g++ -std=c++17 -g "${warnings[@]}" -fsanitize=address,undefined -fno-sanitize-recover=all "${cflags[@]}" \
  ffi/tests/cpp/classes.cpp -L"$work/archive" "${static[@]}" -o "$work/classes"
"$work/classes" tests/no_std/tiny.safetensors

# The examples, as their CMakeLists.txt says.
digits=$PWD/pretrained/digits.safetensors
cmake -S examples/c -B "$work/examples" -DCMAKE_PREFIX_PATH="$prefix" > "$work/log"
cmake --build "$work/examples" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
(
  cd "$work/examples"
  for run in "sample $digits s.png" "denoise $digits d.png" "inpaint $digits i.png" own_denoiser "own_evidence $digits e.png" \
    "own_threads $digits" "cancel $digits" "sample_cpp $digits s.pgm" embedded_model; do
    read -ra words <<< "$run"
    echo "example ${words[0]}"
    "./${words[0]}" "${words[@]:1}" 2> err || { cat err; exit 1; }
  done
  head -c 100000 "$digits" > short.safetensors
  if ./sample short.safetensors s.png 2> err; then exit 1; fi
  echo "a file cut short: $(cat err)"
  grep -q "^bad weights: .*short.safetensors" err
)
export UNDIFFUSE_LIBRARY=$prefix/lib/libundiffuse.so
for name in undiffuse shards; do
  python3 "examples/python/$name.py" "$digits"
done
