#!/usr/bin/env bash
# The library is the same bytes wherever it is built: here, and from a copy of the sources in another folder with another cargo home and target.
set -euo pipefail
cd "$(dirname "$0")/../.."
. ffi/tests/common.sh
install_it
mkdir -p "$work/elsewhere/sources" "$work/elsewhere/cargo"
git ls-files -z --cached --others --exclude-standard | xargs -0 tar -c --ignore-failed-read | tar -x -C "$work/elsewhere/sources"
# What cargo has fetched is not fetched again.
home=${CARGO_HOME:-$HOME/.cargo}
cargo=$(command -v cargo)
[ ! -d "$home/registry" ] || cp -r "$home/registry" "$work/elsewhere/cargo/registry"
(
  export CARGO_HOME=$work/elsewhere/cargo
  cmake -S "$work/elsewhere/sources/ffi" -B "$work/elsewhere/build" -DUNDIFFUSE_CARGO="$cargo" -DCMAKE_INSTALL_PREFIX="$work/elsewhere/prefix" > "$work/log"
  quiet cmake --build "$work/elsewhere/build"
  quiet cmake --install "$work/elsewhere/build"
)
for file in "lib/$(basename "$(readlink -f "$prefix/lib/libundiffuse.so")")" lib/libundiffuse.a share/licenses/undiffuse/THIRD-PARTY.txt; do
  here=$(sha256sum < "$prefix/$file")
  there=$(sha256sum < "$work/elsewhere/prefix/$file")
  echo "$file: ${here%% *} here, ${there%% *} in another folder"
  [ "$here" = "$there" ]
done
