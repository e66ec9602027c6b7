# shellcheck shell=bash
# Sourced by the tests that use toolring as a stranger would: installed into a prefix of its own.
# They need TOOLRING_BUILD, the build folder.
#
#   here, source_root       the test's folder and the tree
#   work, prefix            a temporary folder, and where install_tree installs the build
#   check NAME COMMAND ...  one test: prints "PASS suite::name", or FAIL and what was printed
#   flags ARGUMENT ...      pkg-config's answer about the installed toolring
#   with_library COMMAND    runs it so that it finds the installed shared library, if there is one
set -u

suite=$(basename "$0" .sh)
here=$(cd "$(dirname "$0")" && pwd -P)
source_root=$(cd "$here/../.." && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

check() {
    local name=$suite::$1
    shift
    if "$@" >"$work/log" 2>&1; then
        printf 'PASS %s\n' "$name"
    else
        printf 'FAIL %s: exit status %d\n' "$name" "$?"
        cat "$work/log"
    fi
}

install_tree() {
    cmake --install "$TOOLRING_BUILD" --prefix "$prefix"
}

flags() {
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name toolring.pc)") pkg-config "$@" toolring
}

with_library() {
    LD_LIBRARY_PATH=$(dirname "$(find "$prefix" -name libtoolring.a)") "$@"
}
