#!/usr/bin/env bash
# The program itself: help, version, doctor, man page, the sample session.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"
source_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../src/cli" && pwd)

# shows ARGUMENT...: exit status 0, something on standard output, at most 80 columns, nothing on
# standard error.
shows() {
    "$TOOLRING" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    expect "exit status $status of $*" is "$status" 0
    expect "nothing shown by $*" test -s "$work/out"
    expect "standard error of $*" is "$(wc -c <"$work/err")" 0
    expect "lines over 80 columns of $*" not grep -qE '^.{81}' "$work/out"
}

help_texts() {
    shows --help
    expect "commands" wrote doctor
    shows -h
    shows help
    shows run --help
    local option
    for option in --tools --cwd --events --quiet --workers --tasks-max --processes-max --cgroup \
        --subreaper --inline; do
        expect "$option is not in the help" wrote "$option"
        expect "$option is not in the man page" \
            grep -qF -- "${option//-/\\-}" "$source_folder/toolring.1"
    done
    shows doctor --help
}

# A text that cannot be written is a failure with words.
help_to_a_full_disk() {
    if [ ! -w /dev/full ]; then
        skip "there is no /dev/full here"
        return
    fi
    local arguments
    for arguments in --help --version "run --help" "doctor --help" doctor; do
        # shellcheck disable=SC2086 # two words on purpose
        "$TOOLRING" $arguments >/dev/full 2>"$work/err"
        status=$?
        expect "exit status $status of $arguments" is "$status" 1
        expect "message of $arguments" said "cannot write to standard output"
    done
}

version() {
    shows --version
    expect "form" grep -qE '^toolring [0-9]+\.[0-9]+\.[0-9]+$' "$work/out"
    shows -V
}

doctor_table() {
    "$TOOLRING" doctor >"$work/out" 2>"$work/err"
    status=$?
    expect "exit status $status" is "$status" 0
    local name
    for name in kernel io_uring tree_kill descriptors engine; do
        expect "$name" grep -qE "^(ok|warn|fail) +$name " "$work/out"
    done
    expect "verdict" wrote "The engine can run here."
}

doctor_json() {
    "$TOOLRING" doctor --json >"$work/out" 2>"$work/err"
    status=$?
    expect "exit status $status" is "$status" 0
    expect "one line" is "$(wc -l <"$work/out")" 1
    expect "ok" wrote '{"type":"doctor","ok":true,'
    expect "findings" wrote '"findings":[{"name":"kernel","status":"'
}

# The program reads its own JSON: the doctor's line is put into a call and comes back unchanged.
doctor_json_is_json() {
    "$TOOLRING" doctor --json >"$work/line"
    printf '{"call_id":"c","tool":"echo","input":{"text":"x"},"op":"call","metadata":{"d":%s}}\n' \
        "$(sed 's/"findings":.*/"findings":[]}/' "$work/line")" >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 0
}

man_page() {
    if ! command -v man >/dev/null 2>&1; then
        skip "there is no man here"
        return
    fi
    MANWIDTH=80 man -l --warnings "$source_folder/toolring.1" >"$work/out" 2>"$work/err"
    expect "warnings" is "$(wc -c <"$work/err")" 0
    expect "empty" wrote "run the tool calls of AI agents"
}

sample() {
    if ! command -v cc >/dev/null 2>&1; then
        skip "there is no C compiler here"
        return
    fi
    run "$source_folder/sample.jsonl"
    expect "exit status $status" is "$status" 1
    expect "not a line for each call" results_are "$(grep -c '"tool"' "$source_folder/sample.jsonl")"
    expect "fewer than 200 calls" test "$(grep -c '"tool"' "$source_folder/sample.jsonl")" -ge 200
    expect "error lines" not wrote '"type":"error"'
    expect "the bug" has cc-mod_13 '"outcome":"failed"' 'mod_13.c'
    expect "the repair" has cc-again '"outcome":"completed"'
    expect "the program" has run-8 '"outcome":"completed"' 'checksum'
    expect "the runs agree" has agree '"stdout":"1\n"'
    expect "the nightly build" has nightly-build '"outcome":"completed"' '"channel":"ready"' '"metadata":{"ticket":"OPS-17"}'
    expect "detached by time" has slow-report '"detached":true' '"outcome":"completed"'
    expect "detached by hand" has long-check '"detached":true' '"outcome":"completed"'
    expect "cancelled" has tail-forever '"outcome":"cancelled"'
    expect "interrupted" has spin-1 '"outcome":"cancelled"'
    expect "merged" has merged '"stdout":"one\ntwo\nthree\n"'
    expect "terminal" has on-a-terminal '"stdout":"50 132\r\n"'
    expect "bounded" has bounded '"stdout":"64\n0077\n'
    expect "clean" has clean-room '"stdout":"LANG=C\n"'
    expect "spilled" has long-log '"truncated":true' '"stdout_spill_bytes":1288895'
    expect "too much" has too-much '"code":"TR_ELIMIT"' '"overflowed":true'
    expect "bytes" has raw-bytes '"stdout":" 00 01 02 ff\n"'
    expect "swept" has left-behind '"outcome":"completed"' '"survivors":0'
    expect "not swept" not has left-behind '"swept":0'
    expect "left alone" has helper '"survivors":1' '"swept":0'
    expect "talk" has calculator '"stdout":"42\n144\n"'
    expect "signal" has stubborn '"outcome":"failed"' '"signal":15'
    expect "output line" wrote '{"type":"output","call_id":"calculator",'
    expect "timed out" has too-slow '"outcome":"timed_out"' '"stdout":"the first half\n"'
}

# The status line is there on a terminal when nobody types: the orders come from a file.
status_line() {
    if ! command -v script >/dev/null 2>&1; then
        skip "there is no script(1) here"
        return
    fi
    echo '{"tool":"sleep","input":{"ms":700}}' >"$work/calls"
    TERM=xterm script -qec "'$TOOLRING' run '$work/calls' >'$work/results'" /dev/null >"$work/out" 2>&1 </dev/null
    expect "no status line" wrote "1 running"
    expect "no summary" wrote "1 call in"
    TERM=dumb script -qec "'$TOOLRING' run '$work/calls' >'$work/results'" /dev/null >"$work/out" 2>&1 </dev/null
    expect "a status line on a terminal that cannot" not wrote "1 running"
    TERM=xterm script -qec "'$TOOLRING' run -q '$work/calls' >'$work/results'" /dev/null >"$work/out" 2>&1 </dev/null
    expect "not quiet" is "$(wc -c <"$work/out")" 0
}

try help_texts help_texts
try help_to_a_full_disk help_to_a_full_disk
try version version
try doctor_table doctor_table
try doctor_json doctor_json
try doctor_json_is_json doctor_json_is_json
try man_page man_page
try status_line status_line
try sample sample
done_testing
