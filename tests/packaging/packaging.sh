#!/usr/bin/env bash
# Installs the build into a temporary prefix and uses it as a stranger would: by pkg-config from C
# (shared and static), from C++17 with every public header, and by find_package. Also holds the
# shared library to what it may show.
#
# Run by scripts/test with TOOLRING_BUILD naming the build folder. Prints PASS and FAIL lines.
# shellcheck source=support.bash
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

# says_version PROGRAM: it runs and prints the version of the .pc file, to which it was built.
says_version() {
    [ "$(with_library "$1")" = "$(flags --modversion)" ]
}

install_all() {
    install_tree &&
        [ -n "$(find "$prefix" -name libtoolring.so.0)" ] &&
        [ -n "$(find "$prefix" -name libtoolring.a)" ] && [ -f "$prefix/include/toolring.h" ]
}

c_shared() {
    # shellcheck disable=SC2046 # words are wanted
    gcc -std=c11 -Wall -Wextra -Wpedantic -Werror $(flags --cflags) "$here/consumer.c" \
        -o "$work/c-shared" $(flags --libs) && says_version "$work/c-shared"
}

c_static() {
    local archive
    archive=$(find "$prefix" -name libtoolring.a)
    # Asking for the archive by name keeps everything else as the .pc file says it.
    # shellcheck disable=SC2046 # words are wanted
    gcc -std=c11 $(flags --static --cflags) "$here/consumer.c" -o "$work/c-static" \
        $(flags --static --libs | sed "s|-ltoolring|$archive|") && says_version "$work/c-static" &&
        ! ldd "$work/c-static" | grep libtoolring
}

cpp_shared() {
    find "$prefix/include" -name '*.h' -printf '#include <%P>\n' | sort >"$work/all.h"
    # shellcheck disable=SC2046 # words are wanted
    g++ -std=c++17 -Wall -Wextra -Wpedantic -Werror "-DALL_PUBLIC_HEADERS=\"$work/all.h\"" \
        $(flags --cflags) "$here/consumer.cpp" -o "$work/cpp" $(flags --libs) &&
        says_version "$work/cpp"
}

find_package() {
    cmake -S "$here" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" &&
        cmake --build "$work/build" && says_version "$work/build/consumer-shared" &&
        says_version "$work/build/consumer-static"
}

# The shared library shows exactly the functions that the public headers declare.
symbols() {
    nm -D --defined-only "$(find "$prefix" -name 'libtoolring.so.0.*')" |
        awk '$2 ~ /[A-Z]/ && $2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$work/shown"
    "$source_root/scripts/lint-docs" --list >"$work/declared" &&
        diff -u "$work/declared" "$work/shown"
}

check install install_all
check c_shared c_shared
check c_static c_static
check cpp_shared cpp_shared
check find_package find_package
check symbols symbols
