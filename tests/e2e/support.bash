# shellcheck shell=bash
# Sourced by the end-to-end tests. They need TOOLRING, the path of the program, and nothing but
# bash, grep, awk and the usual small tools.
#
#   try NAME FUNCTION       runs a test and prints "PASS name" or "FAIL name: why"
#   expect WHY COMMAND...   inside a test: it fails, with that reason, unless COMMAND succeeds
#   run ARGUMENT...         `toolring run` with standard input from the caller: fills $work/out and
#                           $work/err, sets $status
#   result CALL_ID          the result line of a call in $work/out
#   has CALL_ID TEXT...     whether that line holds every text
#   start ARGUMENT...       `toolring run` in the background: lines are sent with `send`, its output
#                           is awaited with `await_line`; `finish` closes its input and waits
#   await COMMAND...        waits until a command succeeds; fails after a minute
#   number CALL_ID FIELD    a number of that line; text CALL_ID FIELD a string of it without quotes
#   tree_is WORD            whether programs are held that way here (an own `run`: overwrites $work/out)
#   skip WHY                inside a test, before its first expect: it is not run here; then return
#   as_plain_user           inside a test: `run` and `start` run the program as a user without rights, in
#                           $work/cwd too; false where that cannot be
#   marked                  how many processes live that have MARK=$mark in their environment
#   is_alive PID            whether a process runs (a zombie does not)
set -u

if [ -z "${TOOLRING:-}" ] || [ ! -x "$TOOLRING" ]; then
    printf 'FAIL e2e/setup: TOOLRING must be the path of the program\n'
    exit 1
fi
suite=$(basename "$0" .sh)
work=$(mktemp -d "${TMPDIR:-/tmp}/toolring-e2e.XXXXXX") || exit 1
child=
launcher=()
mark=toolring-e2e-$$
failures=0
export NO_COLOR=1

cleanup() {
    local pid
    [ -z "$child" ] || kill -KILL "$child" 2>/dev/null
    for pid in $(marked_files | cut -d/ -f3); do
        kill -KILL "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
trap cleanup EXIT

try() {
    local name=$suite/$1
    why=
    skipped=
    rm -rf "${work:?}"/*
    mkdir "$work/cwd"
    launcher=()
    "$2"
    if [ -n "$child" ]; then
        kill -KILL "$child" 2>/dev/null
        wait "$child" 2>/dev/null
        child=
        exec 3<&- 4>&-
    fi
    if [ -n "$skipped" ]; then
        printf 'SKIP %s: %s\n' "$name" "$skipped"
    elif [ -z "$why" ]; then
        printf 'PASS %s\n' "$name"
    else
        failures=$((failures + 1))
        printf 'FAIL %s: %s\n' "$name" "$why"
        head -c 2000 "$work/out" "$work/err" 2>/dev/null | cut -c 1-300
    fi
}

expect() {
    local reason=$1
    shift
    [ -n "$why" ] || "$@" || why=$reason
}

run() {
    "${launcher[@]}" "$TOOLRING" run --cwd "$work/cwd" "$@" >"$work/out" 2>"$work/err"
    status=$?
}

result() {
    grep -F "\"type\":\"result\",\"call_id\":\"$1\"," "$work/out"
}

has() {
    local line text
    line=$(result "$1") || return 1
    shift
    for text in "$@"; do
        [[ $line == *"$text"* ]] || return 1
    done
}

number() {
    result "$1" | grep -o "\"$2\":[0-9]*" | head -n 1 | cut -d: -f2
}

text() {
    result "$1" | grep -o "\"$2\":\"[^\"]*\"" | head -n 1 | cut -d'"' -f4
}

tree_is() {
    run <<<'{"call_id":"probe","tool":"shell","input":{"command":"true"}}'
    is "$(text probe tree)" "$1"
}

skip() {
    skipped=$1
}

is() {
    [ "$1" = "$2" ]
}

results_are() {
    [ "$(grep -c '^{"type":"result"' "$work/out")" -eq "$1" ]
}

said() {
    grep -qF -- "$1" "$work/err"
}

wrote() {
    grep -qF -- "$1" "$work/out"
}

# The order of two result lines in the output.
comes_before() {
    local first second
    first=$(grep -nF "\"type\":\"result\",\"call_id\":\"$1\"," "$work/out" | cut -d: -f1)
    second=$(grep -nF "\"type\":\"result\",\"call_id\":\"$2\"," "$work/out" | cut -d: -f1)
    [ -n "$first" ] && [ -n "$second" ] && [ "$first" -lt "$second" ]
}

start() {
    mkfifo "$work/to" "$work/from"
    : >"$work/out"
    "${launcher[@]}" "$TOOLRING" run --cwd "$work/cwd" "$@" <"$work/to" >"$work/from" 2>"$work/err" 4>&- 3<&- &
    child=$!
    exec 4>"$work/to" 3<"$work/from"
}

send() {
    printf '%s\n' "$@" >&4
}

# Reads output lines until one holds the text; all of them go to $work/out.
await_line() {
    local line
    while IFS= read -r -t 60 line <&3; do
        printf '%s\n' "$line" >>"$work/out"
        [[ $line != *"$1"* ]] || return 0
    done
    return 1
}

# Closes the input, takes the rest of the output, waits for the end.
finish() {
    exec 4>&-
    cat <&3 >>"$work/out"
    wait "$child"
    status=$?
    child=
    exec 3<&-
}

await() {
    local tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt 1200 ] || return 1
        sleep 0.05
    done
}

as_plain_user() {
    [ "$(id -u)" -eq 0 ] || return 0
    launcher=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    chmod 755 "$work" && chown 65534:65534 "$work/cwd" &&
        "${launcher[@]}" "$TOOLRING" --version >"$work/version" 2>&1
}

# A zombie has no environment.
marked_files() {
    grep -lszxF "MARK=$mark" /proc/[0-9]*/environ
}

marked() {
    marked_files | wc -l
}

is_alive() {
    [ -r "/proc/$1/status" ] && ! grep -q '^State:[[:space:]]*[ZX]' "/proc/$1/status" 2>/dev/null
}

is_gone() {
    ! is_alive "$1"
}

not() {
    ! "$@"
}

done_testing() {
    [ "$failures" -eq 0 ]
}
