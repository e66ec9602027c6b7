#!/usr/bin/env bash
# The README's example is true: its C block compiles and runs against an installed toolring, both by its
# pkg-config line and by its CMake block; the files it names exist; its perf markers are there.
#
# Run by scripts/test with TOOLRING_BUILD naming the build folder. Prints PASS and FAIL lines.
# shellcheck source=support.bash
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"
readme=$source_root/README.md

# block LANGUAGE: the first code block of that language.
block() {
    awk -v fence="\`\`\`$1" '$0 == fence { inside = 1; next } /^```/ && inside { exit } inside' "$readme"
}

greets() {
    [ "$(with_library "$1")" = "hello, world" ]
}

by_pkg_config() {
    local line
    line=$(grep '^cc example.c' "$readme") || return 1
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name toolring.pc)")
    export PKG_CONFIG_PATH
    (cd "$work/c" && CFLAGS= bash -c "$line") && greets "$work/c/example"
}

without_warnings() {
    gcc -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror -fsyntax-only "-I$prefix/include" \
        "$work/c/example.c"
}

by_cmake() {
    block cmake >"$work/c/CMakeLists.txt"
    cmake -S "$work/c" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" &&
        cmake --build "$work/build" && greets "$work/build/example"
}

# Every `path` with a slash that looks like one of the tree's is there.
names_what_exists() {
    local path status=0
    while read -r path; do
        [ -e "$source_root/$path" ] || { echo "no such file: $path"; status=1; }
    done < <(grep -oE '`(src|include|scripts|perf|tests|\.ci)/[A-Za-z0-9_./-]+`' "$readme" | tr -d '`')
    return $status
}

has_markers() {
    [ "$(grep -c '^<!-- perf: \(begin\|end\) -->$' "$readme")" -eq 2 ]
}

mkdir "$work/c"
block c >"$work/c/example.c"
check install install_tree
check without_warnings without_warnings
check by_pkg_config by_pkg_config
check by_cmake by_cmake
check names_what_exists names_what_exists
check has_markers has_markers
