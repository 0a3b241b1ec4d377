# What the scripts beside this file share: they begin by `. ffi/tests/common.sh` in the project's folder. $work is a folder that is removed,
# $prefix where `install_it` puts libundiffuse. It is built in target/, by the profile that is shipped, so that all of them build it once.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/moved
warnings=(-Wall -Wextra -Werror -pedantic)

# quiet COMMAND...: its output only if it fails.
quiet() {
  "$@" > "$work/log" 2>&1 || { cat "$work/log"; return 1; }
}

install_it() {
  cmake -S ffi -B "$work/build" -DCMAKE_INSTALL_PREFIX=/opt/undiffuse -DUNDIFFUSE_CARGO_TARGET_DIR="$PWD/target" > "$work/log"
  cmake --build "$work/build"
  DESTDIR=$work/dest cmake --install "$work/build" > "$work/log"
  mv "$work/dest/opt/undiffuse" "$prefix"
}
