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

# pass NAME OPTION...
pass() {
    local name=$1
    shift
    if "${launcher[@]}" "$program" --seconds "$seconds" --quiet --shrink 30 "$@"; then
        printf 'PASS contract/%s\n' "$name"
    else
        failures=$((failures + 1))
        printf 'FAIL contract/%s: see the log for its seed\n' "$name"
    fi
}

pass threaded
pass threaded_crowd --threads 8 --operations 4000
pass inline --inline
exit $((failures > 0))
