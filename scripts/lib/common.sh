# shellcheck shell=bash
# Sourced by the other scripts: where things are, how a step is timed, how a build is made.
#
#   root             the tree this script belongs to, whatever the current folder is
#   build_root       where builds go; TOOLRING_BUILD_ROOT moves it out of the tree
#   jobs             how many things at once; TOOLRING_JOBS sets it
#   fail MESSAGE     says why and stops
#   build NAME [-DOPTION=VALUE ...] [-- TARGET ...]
#                    configures build_root/NAME when it is new or its options changed, then builds;
#                    quiet unless something breaks
#   build_release [TARGET ...]
#                    the release build with tests and benchmarks, warnings as errors, by the compiler CC
#                    [gcc], in release_folder: shared by those steps that want the optimiser's code

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
build_root=${TOOLRING_BUILD_ROOT:-$root/build}
jobs=${TOOLRING_JOBS:-$(nproc)}

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Milliseconds since some moment; the difference of two is a duration.
now_ms() {
    local stamp=${EPOCHREALTIME/[.,]/}
    printf '%s' "${stamp%???}"
}

# seconds_since START_MS: one decimal, as in "12.3".
seconds_since() {
    local spent=$(($(now_ms) - $1))
    printf '%d.%d' $((spent / 1000)) $((spent % 1000 / 100))
}

build() {
    local folder=$build_root/$1 log options=() targets=() wanted
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    targets=("$@")
    mkdir -p "$folder"
    log=$folder/build.log
    wanted="$root ${CC:-} ${CXX:-} ${options[*]}"
    (
        # Two scripts at once take turns with the same folder.
        flock 9
        # A folder that was configured otherwise, or for a tree that has moved, starts anew.
        if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$folder/.options" 2>&1)" != "$wanted" ]; then
            rm -rf "$folder/CMakeCache.txt" "$folder/CMakeFiles"
            if ! cmake -S "$root" -B "$folder" -G Ninja "${options[@]}" >"$log" 2>&1 9>&-; then
                cat "$log" >&2
                exit 1
            fi
            printf '%s\n' "$wanted" >"$folder/.options"
        fi
        if ! cmake --build "$folder" -j "$jobs" ${targets:+--target "${targets[@]}"} \
            >"$log" 2>&1 9>&-; then
            # Ninja prints one line per command; keep what the tools said, not what went well.
            grep -vE '^\[[0-9]+/[0-9]+\] |^-- ' "$log" | head -n 150 >&2
            exit 1
        fi
    ) 9>"$folder/.lock"
}

release_compiler=${CC:-gcc}
release_folder=$build_root/${release_compiler##*/}-release
[ "$release_compiler" != gcc ] || release_folder=$build_root/gcc

build_release() {
    local cxx=${CXX:-}
    [ -n "$cxx" ] || case $release_compiler in
    *clang*) cxx=${release_compiler/clang/clang++} ;;
    *) cxx=${release_compiler/gcc/g++} ;;
    esac
    CC=$release_compiler CXX=$cxx build "${release_folder##*/}" -DCMAKE_BUILD_TYPE=Release \
        -DTR_WERROR=ON -DTR_TESTS=ON -DTR_PERF=ON -- "$@"
}
