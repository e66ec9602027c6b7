#!/usr/bin/env bash
# A short pass of the randomised contract test: fresh seeds, with threads and inline. What fails is
# shown with its seed and its shrunk operations. tests/soak goes on for hours.
#
# Needs TOOLRING_BUILD, the folder with toolring-contract, or TOOLRING_CONTRACT, its path.
set -u

program=${TOOLRING_CONTRACT:-${TOOLRING_BUILD:-$(dirname "${TOOLRING:-.}")}/toolring-contract}
if [ ! -x "$program" ]; then
    printf 'FAIL contract/setup: no toolring-contract at %s\n' "$program"
    exit 1
fi
mode=${TOOLRING_TEST_MODE:-test}
seconds=3
[ "$mode" = test ] || seconds=2
launcher=()
if [ "$mode" = tsan ] && setarch -R true 2>/dev/null; then
    launcher=(setarch -R)
fi
failures=0
said=$(mktemp)
trap 'rm -f "$said"' EXIT

# What went wrong, of all that was said: the violation, the hang, or a sanitizer's first word; and
# how to see it again.
reason() {
    grep -m 1 -E '^violation|^hang|WARNING: ThreadSanitizer|ERROR: |runtime error|Assertion' "$said"
    grep -m 1 -o 'replay: --seed .*' "$said"
}

# pass NAME OPTION...
pass() {
    local name=$1
    shift
    if "${launcher[@]}" "$program" --seconds "$seconds" --quiet --shrink 30 "$@" 2>"$said"; then
        printf 'PASS contract/%s\n' "$name"
    else
        failures=$((failures + 1))
        cat "$said"
        printf 'FAIL contract/%s: %s\n' "$name" "$(reason | paste -s -d ' ')"
    fi
}

pass threaded
pass threaded_crowd --threads 8 --operations 4000
pass inline --inline
exit $((failures > 0))
