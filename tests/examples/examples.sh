#!/usr/bin/env bash
# The examples are true: each is compiled without a warning, as a stranger would by pkg-config
# against an installed toolring, and run; it checks its own results and says so by its exit status.
# Under a sanitizer they are linked to the static library, sanitized like it.
#
# Run by scripts/test with TOOLRING_BUILD naming the build folder and TOOLRING_TEST_MODE saying
# whether that is sanitized (asan, tsan). Prints PASS and FAIL lines.
# shellcheck source=../packaging/support.bash
. "$(dirname "${BASH_SOURCE[0]}")/../packaging/support.bash"

seconds_max=300
warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
sanitize=()
case ${TOOLRING_TEST_MODE:-test} in
asan) sanitize=(-fsanitize=address,undefined -fno-sanitize-recover=all) ;;
tsan) sanitize=(-fsanitize=thread) ;;
esac

libraries() {
    if [ ${#sanitize[@]} -eq 0 ]; then
        flags --libs
    else
        # A sanitized library takes its memory from the sanitizer, not from mimalloc.
        flags --static --libs | sed "s|-ltoolring|$(find "$prefix" -name libtoolring.a)|; s|-lmimalloc||g"
    fi
}

# compile_and_run FILE COMPILER ...
compile_and_run() {
    local file=$1 program
    program=$work/$(basename "${file%.*}")
    shift
    # shellcheck disable=SC2046 # words are wanted
    "$@" -O1 -g "${warnings[@]}" "${sanitize[@]}" $(flags --cflags) "$file" -o "$program" \
        $(libraries) &&
        with_library timeout --kill-after=10 "$seconds_max" "$program"
}

check install install_tree
for file in "$here"/*.c; do
    check "$(basename "$file" .c)" compile_and_run "$file" "${CC:-gcc}" -std=c11
done
for file in "$here"/*.cpp; do
    check "$(basename "$file" .cpp)" compile_and_run "$file" "${CXX:-g++}" -std=c++17
done
