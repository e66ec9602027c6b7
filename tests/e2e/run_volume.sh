#!/usr/bin/env bash
# Many calls, many turns, many sessions: exact counts, bounded memory.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

# lines COUNT TURNS SESSIONS: calls spread over turns and sessions, each with an id of its own.
lines() {
    awk -v count="$1" -v turns="$2" -v sessions="$3" 'BEGIN {
        for (i = 1; i <= count; i++)
            printf "{\"session\":\"s%d\",\"turn\":\"t%d\",\"call_id\":\"c%d\",\"tool\":\"echo\",\"input\":{\"text\":\"%d\"}}\n", \
                i % sessions, i % turns, i, i
    }'
}

# Each call id exactly once, with its own text.
all_once() {
    awk -v count="$1" '
        { if (!match($0, /"call_id":"c[0-9]+"/)) { bad++; next }
          id = substr($0, RSTART + 12, RLENGTH - 13)
          if (seen[id]++ || index($0, "\"output\":{\"text\":\"" id "\"}") == 0) bad++ }
        END { exit !(NR == count && bad == 0) }' "$work/out"
}

ten_thousand() {
    lines 10000 1000 10 >"$work/calls"
    run --quiet "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "not each exactly once" all_once 10000
}

# More turns than may be open at once: idle ones are closed and opened anew.
a_turn_each() {
    lines 70000 70000 7 >"$work/calls"
    run --quiet "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "not each exactly once" all_once 70000
}

a_session_each() {
    lines 20000 1 20000 >"$work/calls"
    run --quiet "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "not each exactly once" all_once 20000
}

waits_between() {
    awk 'BEGIN { for (t = 1; t <= 500; t++) {
        for (c = 1; c <= 4; c++)
            printf "{\"turn\":\"t%d\",\"call_id\":\"c%d\",\"tool\":\"echo\",\"input\":{\"text\":\"%d\"}}\n", t, t * 4 + c - 4, t * 4 + c - 4
        printf "{\"op\":\"wait\",\"turn\":\"t%d\"}\n", t } }' >"$work/calls"
    run --quiet "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "not each exactly once" all_once 2000
    expect "a turn overtook another" awk '{ match($0, /"turn":"t[0-9]+"/)
        turn = substr($0, RSTART + 9, RLENGTH - 10) + 0; if (turn < last) exit 1; last = turn }' "$work/out"
}

many_commands() {
    local n
    for n in $(seq 1 3000); do
        printf '{"turn":"t%d","call_id":"c%d","tool":"shell","input":{"command":"echo %d"}}\n' \
            $((n % 100)) "$n" "$n"
    done >"$work/calls"
    run --quiet "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "not 3000 results" results_are 3000
    expect "wrong output" has c2999 '"stdout":"2999\n"'
}

# All of them run before the first may end, with 4 open files for each.
two_thousand_at_once() {
    if [ "${TOOLRING_TEST_MODE:-test}" != test ]; then
        skip "sanitizers are too slow for that"
        return
    fi
    if [ "$(ulimit -Hn)" != unlimited ] && [ "$(ulimit -Hn)" -lt 8192 ]; then
        skip "fewer than 8192 open files are allowed here"
        return
    fi
    local n
    for n in $(seq 1 2000); do
        printf '{"turn":"t%d","call_id":"c%d","tool":"shell","input":{"command":"echo %d >> begun; exec sleep 600"}}\n' \
            $((n % 10)) "$n" "$n"
    done >"$work/calls"
    (
        ulimit -n 8192
        exec "$TOOLRING" run --cwd "$work/cwd" --processes-max 2000 "$work/calls"
    ) >"$work/out" 2>"$work/err" &
    child=$!
    exec 3</dev/null 4>/dev/null
    expect "not 2000 at once" await all_begun 2000
    kill -TERM "$child"
    wait "$child"
    status=$?
    child=
    expect "exit status $status" is "$status" 1
    expect "not 2000 cancelled" is "$(grep -c '"outcome":"cancelled"' "$work/out")" 2000
}

all_begun() {
    [ -e "$work/cwd/begun" ] && [ "$(wc -l <"$work/cwd/begun")" -eq "$1" ]
}

# Memory must not grow with the number of calls: under a limit that 100 bytes per call would break.
bounded_memory() {
    if [ "${TOOLRING_TEST_MODE:-test}" != test ]; then
        skip "sanitizers take memory of their own"
        return
    fi
    mkfifo "$work/to"
    lines 400000 1000 10 >"$work/to" &
    "$TOOLRING" run --tasks-max 4096 <"$work/to" >"$work/out" 2>"$work/err" &
    child=$!
    local peak=0 now
    while is_alive "$child"; do
        now=$(awk '/^VmHWM:/ { print $2 }' "/proc/$child/status" 2>/dev/null)
        [ -z "$now" ] || peak=$now
        sleep 0.1
    done
    exec 3</dev/null 4>/dev/null
    wait "$child"
    status=$?
    child=
    expect "exit status $status" is "$status" 0
    expect "not 400000 results" results_are 400000
    expect "peak resident $peak KiB" test "$peak" -lt 100000
}

try ten_thousand ten_thousand
try a_turn_each a_turn_each
try a_session_each a_session_each
try waits_between waits_between
try many_commands many_commands
try two_thousand_at_once two_thousand_at_once
try bounded_memory bounded_memory
done_testing
