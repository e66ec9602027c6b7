#!/usr/bin/env bash
# What is wrong: lines, members, files, arguments. The other lines still run.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

# fault LINE MESSAGE: the line alone is refused with that message, and what follows still runs.
fault() {
    printf '%s\n%s\n' "$1" '{"call_id":"next","tool":"echo","input":{"text":"x"}}' >"$work/calls"
    run "$work/calls"
    expect "exit status $status for $1" is "$status" 2
    expect "error line for $1" grep -q '^{"type":"error","line":1[,}]' "$work/out"
    expect "message for $1" wrote "$2"
    expect "not on standard error: $1" said "toolring: line 1"
    expect "the next line did not run after $1" has next '"outcome":"completed"'
    expect "more than one result after $1" results_are 1
}

malformed() {
    fault '{"tool":"echo","input":{"text":"x"}' '"column":35,"message":"not valid JSON'
    fault 'nonsense' 'not valid JSON'
    fault '[1,2]' 'a line must be a JSON object'
    fault '"text"' 'a line must be a JSON object'
    fault '{"tool":"echo","tool":"echo"}' 'duplicate object key'
    fault '{"tool":"echo"} {"tool":"echo"}' 'not valid JSON'
    fault $'{"tool":"\xff\xfe"}' 'not valid JSON'
}

# A parser would take the one for the end of the line, and nobody could see the other.
zero_byte_and_mark() {
    printf '{"tool":"echo",\0}\n\xef\xbb\xbf{"tool":"echo","input":{"text":"x"}}\n{"call_id":"next","tool":"echo","input":{"text":"x"}}\n' >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 2
    expect "zero byte" wrote '{"type":"error","line":1,"column":16,"message":"not valid JSON: a zero byte"}'
    expect "mark" wrote '{"type":"error","line":2,"column":1,"message":"begins with a byte order mark'
    expect "the next line did not run" has next '"outcome":"completed"'
}

# Words of the input neither begin a line of standard error nor reach the terminal as orders to it.
no_forged_lines() {
    printf '%s\n' '{"op":"a\n\u001b[31m\u007f\u009b1mb"}' \
        '{"call_id":"c\n\u001b[0m","tool":"echo","input":{"text":"x"}}' >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 2
    expect "message" said 'toolring: line 1: unknown op "a??[31m???1mb"'
    expect "slowest" said 'c??[0m (echo)'
    expect "controls" not grep -qP '[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]' "$work/err"
    expect "the id itself" wrote '"call_id":"c\n\u001b[0m",'
}

unknown() {
    fault '{"tool":"nope"}' 'no tool is named \"nope\"'
    fault '{"op":"dance"}' 'unknown op \"dance\"'
    fault '{"call_id":"c","tool":"echo","timout_ms":5}' '"call_id":"c","message":"unknown member \"timout_ms\"'
    fault '{"op":"wait","call_id":"x"}' 'unknown member \"call_id\"'
    fault '{"call_id":"c"}' '\"tool\" is missing'
    fault '{"op":"cancel"}' '\"call_id\" is missing'
    fault '{"op":"pause"}' '\"ms\" is missing'
}

wrong_type() {
    fault '{"tool":7}' '\"tool\" must be a string'
    fault '{"op":null}' '\"op\" must be a string'
    fault '{"tool":"echo","input":"x"}' '\"input\" must be an object'
    fault '{"tool":"echo","input":{"text":"x"},"metadata":[]}' '\"metadata\" must be an object'
    fault '{"tool":"echo","call_id":""}' '\"call_id\" must not be empty'
    fault '{"tool":"echo","session":"a\u0000b"}' '\"session\" must not contain a zero byte'
    fault '{"tool":"echo","timeout_ms":0}' '\"timeout_ms\" must be a whole number'
    fault '{"tool":"echo","timeout_ms":1.5}' '\"timeout_ms\" must be a whole number'
    fault '{"tool":"echo","timeout_ms":-3}' '\"timeout_ms\" must be a whole number'
    fault '{"tool":"echo","route":"sideways"}' '\"route\" must be'
    fault '{"tool":"echo","route":{"detach_after_ms":-1}}' '\"detach_after_ms\" must be'
    fault '{"tool":"echo","route":{"detach":1}}' '\"route\" must be'
    fault '{"tool":"echo","delivery":"mail"}' '\"delivery\" must be'
    fault '{"tool":"echo","continue":"maybe"}' '\"continue\" must be'
    fault '{"op":"pause","ms":"1"}' '\"ms\" must be a whole number'
}

too_long() {
    local long
    long=$(printf 'x%.0s' $(seq 1 129))
    fault "{\"tool\":\"echo\",\"call_id\":\"$long\"}" '\"call_id\" is longer than 128 bytes'
    fault "{\"tool\":\"echo\",\"turn\":\"$long\"}" '\"turn\" is longer than 128 bytes'
    fault "{\"tool\":\"echo\",\"metadata\":{\"m\":\"$long$long$long$long\"}}" \
        '\"metadata\" is longer than 512 bytes'
}

blank_lines() {
    printf '\n  \t\r\n{"call_id":"a","tool":"echo","input":{"text":"x"}}\r\n\n' >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "no result" has a '"outcome":"completed"'
}

line_numbers() {
    printf '\n{"tool":"echo","input":{"text":"x"}}\n\n{bad\n' >"$work/calls"
    run "$work/calls"
    expect "line number" wrote '{"type":"error","line":4,"column":'
    expect "line number on standard error" said 'line 4, column '
    expect "call id from the line number" has line-2 '"outcome":"completed"'
}

oversize() {
    {
        printf '{"call_id":"before","tool":"echo","input":{"text":"x"}}\n{"call_id":"big","tool":"echo","input":{"text":"'
        head -c 17000000 /dev/zero | tr '\0' 'y'
        printf '"}}\n{"call_id":"after","tool":"echo","input":{"text":"x"}}\n'
    } >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 2
    expect "error line" wrote '{"type":"error","line":2,"message":"longer than 16777216 bytes'
    expect "before" has before '"outcome":"completed"'
    expect "after" has after '"outcome":"completed"'
    expect "not two results" results_are 2
}

large_but_allowed() {
    {
        printf '{"call_id":"big","tool":"echo","input":{"text":"'
        head -c 8000000 /dev/zero | tr '\0' 'y'
        printf '"}}\n'
    } >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "output cut" test "$(wc -c <"$work/out")" -gt 8000000
}

missing_file() {
    run "$work/none" </dev/null
    expect "exit status $status" is "$status" 2
    expect "message" said "cannot open $work/none: No such file or directory"
}

a_directory() {
    run "$work/cwd" </dev/null
    expect "exit status $status" is "$status" 2
    expect "message" said "Is a directory"
}

# usage MESSAGE ARGUMENT...: refused with status 2 and that message.
usage() {
    local message=$1
    shift
    "$TOOLRING" "$@" </dev/null >"$work/out" 2>"$work/err"
    status=$?
    expect "exit status $status of $*" is "$status" 2
    expect "message of $*" said "$message"
}

wrong_usage() {
    usage "Usage: toolring"
    usage 'unknown command "dance"' dance
    usage "toolring run --help" run --nonsense
    usage "--workers takes a whole number" run --workers many
    usage "--workers takes a whole number" run --workers 65
    usage "--tasks-max takes a whole number" run --tasks-max 0
    usage "--processes-max takes a whole number" run --processes-max 65536
    usage "one file at most" run a b
    usage "cannot use directory" run --cwd "$work/none"
    usage "cannot use directory" run --cwd "$TOOLRING"
    usage "toolring doctor --help" doctor --nonsense
    usage "toolring doctor --help" doctor more
}

# Started with its standard streams closed it must not take other descriptors for them.
closed_streams() {
    "$TOOLRING" run <&- >"$work/out" 2>"$work/err"
    status=$?
    expect "exit status $status without input" is "$status" 2
    expect "message without input" said "cannot read on: Bad file descriptor"
    "$TOOLRING" run <<<'{"tool":"echo","input":{"text":"x"}}' >&- 2>"$work/err"
    status=$?
    expect "exit status $status without output" is "$status" 1
    expect "message without output" said "cannot write results: Bad file descriptor"
    "$TOOLRING" run <<<'{"call_id":"c","tool":"echo","input":{"text":"x"}}' >"$work/out" 2>&-
    status=$?
    expect "exit status $status without standard error" is "$status" 0
    expect "result without standard error" has c '"outcome":"completed"'
}

engine_cannot_start() {
    (
        ulimit -n 8
        exec "$TOOLRING" run <<<'{"tool":"echo","input":{"text":"x"}}' >"$work/out" 2>"$work/err"
    )
    status=$?
    expect "exit status $status" is "$status" 3
    expect "message" grep -q '^toolring: cannot ' "$work/err"
    expect "output" is "$(wc -c <"$work/out")" 0
}

# Where address space is scarce the engine does not start, or calls fail; but each that was accepted
# gets its line, and the program ends.
scarce_memory() {
    if [ "${TOOLRING_TEST_MODE:-test}" != test ]; then
        skip "sanitizers need more address space"
        return
    fi
    local kilobytes
    for kilobytes in 200000 300000 350000 400000 450000 500000 550000 600000; do
        for _ in $(seq 1 20); do
            echo '{"tool":"shell","input":{"command":"echo x"}}'
        done >"$work/calls"
        (
            ulimit -v "$kilobytes"
            exec timeout -s KILL 60 "$TOOLRING" run --quiet "$work/calls" >"$work/out" 2>"$work/err"
        )
        status=$?
        if [ "$status" -eq 3 ]; then
            expect "output with $kilobytes" is "$(wc -c <"$work/out")" 0
            expect "reason with $kilobytes" grep -qE 'out of memory|no thread could be made|Cannot allocate' "$work/err"
        else
            expect "exit status $status with $kilobytes" test "$status" -le 1
            expect "results with $kilobytes" results_are 20
        fi
    done
}

try malformed malformed
try zero_byte_and_mark zero_byte_and_mark
try no_forged_lines no_forged_lines
try unknown unknown
try wrong_type wrong_type
try too_long too_long
try blank_lines blank_lines
try line_numbers line_numbers
try oversize oversize
try large_but_allowed large_but_allowed
try missing_file missing_file
try a_directory a_directory
try closed_streams closed_streams
try engine_cannot_start engine_cannot_start
try scarce_memory scarce_memory
try wrong_usage wrong_usage
done_testing
