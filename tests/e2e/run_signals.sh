#!/usr/bin/env bash
# Signals, a closed output: every accepted call gets its line, no child is left.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

# Sends a command that writes its process ids to $1.leader and $1.child and stays.
send_sitter() {
    send "{\"call_id\":\"$1\",\"tool\":\"shell\",\"route\":\"$2\",\"input\":{\"command\":\"echo begun; sleep 600 & echo \$! > $1.child; echo \$\$ > $1.leader; wait\"}}"
    expect "$1 did not start" await test -s "$work/cwd/$1.leader"
}

sitter_is_gone() {
    expect "the leader of $1 is left" is_gone "$(cat "$work/cwd/$1.leader")"
    expect "the child of $1 is left" await is_gone "$(cat "$work/cwd/$1.child")"
}

first_interrupt() {
    start
    send_sitter fg foreground
    send_sitter bg background
    kill -INT "$child"
    expect "not interrupted" await_line '"call_id":"fg"'
    send '{"call_id":"after","tool":"echo","input":{"text":"x"}}'
    expect "reading did not go on" await_line '"call_id":"after"'
    expect "the background ended" is_alive "$(cat "$work/cwd/bg.leader")"
    send '{"op":"cancel","call_id":"bg"}'
    finish
    expect "exit status $status" is "$status" 1
    expect "fg" has fg '"outcome":"cancelled"' '"reason":"interrupted by SIGINT"' '"stdout":"begun\n"'
    expect "after" has after '"outcome":"completed"'
    expect "notice" said "interrupted 1 turn with foreground work"
    sitter_is_gone fg
    sitter_is_gone bg
}

second_interrupt() {
    start
    send_sitter bg background
    kill -INT "$child"
    expect "no notice" await said "once more ends"
    kill -INT "$child"
    expect "not ended" await_line '"call_id":"bg"'
    finish
    expect "exit status $status" is "$status" 1
    expect "bg" has bg '"outcome":"cancelled"'
    sitter_is_gone bg
}

terminate() {
    local n
    start
    send_sitter one foreground
    send_sitter two background
    for n in $(seq 1 200); do
        printf '{"turn":"t%d","call_id":"s%d","tool":"sleep","input":{"ms":600000}}\n' $((n % 20)) "$n"
    done >&4
    send '{"call_id":"last","tool":"echo","input":{"text":"x"}}'
    expect "the last call did not run" await_line '"call_id":"last"'
    kill -TERM "$child"
    finish
    expect "exit status $status" is "$status" 1
    expect "not 203 results" results_are 203
    expect "a call did not end as cancelled" is \
        "$(grep -c '"tool":"sleep","outcome":"cancelled"' "$work/out")" 200
    expect "output kept" has one '"outcome":"cancelled"' '"stdout":"begun\n"'
    sitter_is_gone one
    sitter_is_gone two
}

# Blocked in `wait`, in `pause`, on an inline call: the end comes all the same.
terminate_while_waiting() {
    local order
    for order in '{"op":"wait"}' '{"op":"idle"}' '{"op":"pause","ms":600000}'; do
        rm -rf "$work/to" "$work/from" "$work/cwd"/*
        start
        send_sitter sitter foreground
        send "$order"
        kill -TERM "$child"
        finish
        expect "exit status $status with $order" is "$status" 1
        expect "result with $order" has sitter '"outcome":"cancelled"'
        sitter_is_gone sitter
    done
}

terminate_inline() {
    start
    send_sitter sitter inline
    kill -TERM "$child"
    finish
    expect "exit status $status" is "$status" 1
    expect "result" has sitter '"outcome":"cancelled"'
    sitter_is_gone sitter
}

# The key that ends a program at once would leave behind what its programs have started.
quit() {
    start
    send_sitter sitter foreground
    kill -QUIT "$child"
    finish
    expect "exit status $status" is "$status" 1
    expect "result" has sitter '"outcome":"cancelled"'
    expect "notice" said "SIGQUIT: cancelling everything"
    sitter_is_gone sitter
}

hangup() {
    start
    send_sitter sitter foreground
    kill -HUP "$child"
    finish
    expect "exit status $status" is "$status" 1
    expect "result" has sitter '"outcome":"cancelled"'
    sitter_is_gone sitter
}

# Nobody reads the results any more: everything is cancelled, with a message.
output_closed() {
    mkfifo "$work/to"
    : >"$work/out"
    {
        "$TOOLRING" run --cwd "$work/cwd" <"$work/to" 2>"$work/err"
        echo "$?" >"$work/status"
    } | head -n 1 >"$work/out" &
    child=$!
    exec 4>"$work/to" 3</dev/null
    send_sitter sitter foreground
    send '{"call_id":"first","tool":"echo","input":{"text":"x"}}'
    expect "no first line" await test -s "$work/out"
    expect "head did not end" await is_gone "$child"
    send '{"call_id":"second","tool":"echo","input":{"text":"x"}}'
    expect "did not end" await test -s "$work/status"
    expect "exit status $(cat "$work/status")" is "$(cat "$work/status")" 1
    expect "message" said "cannot write results: Broken pipe"
    sitter_is_gone sitter
}

output_full() {
    if [ ! -w /dev/full ]; then
        skip "there is no /dev/full here"
        return
    fi
    "$TOOLRING" run <<<'{"tool":"echo","input":{"text":"x"}}' >/dev/full 2>"$work/err"
    status=$?
    expect "exit status $status" is "$status" 1
    expect "message" said "cannot write results: No space left on device"
}

# A file at the bound of its size is told like a full disk, not by the death of the program.
output_at_its_bound() {
    local n
    for n in $(seq 1 50); do
        printf '{"tool":"echo","input":{"text":"x"}}\n{"op":"idle"}\n'
    done >"$work/calls"
    (
        ulimit -f 2
        exec "$TOOLRING" run "$work/calls" >"$work/out" 2> >(cat >"$work/err")
    )
    status=$?
    expect "exit status $status" is "$status" 1
    expect "message" await said "cannot write results: File too large"
    # What it starts has the signal as it is by default.
    run <<<'{"call_id":"c","tool":"shell","input":{"command":"ulimit -f 0; echo x >file"}}'
    expect "the signal is ignored in programs" has c '"signal":25'
}

# Nobody reads the results and nobody closes them: a signal after the end gives them up.
output_stuck() {
    local first
    {
        printf '{"call_id":"big","tool":"echo","input":{"text":"'
        head -c 1000000 /dev/zero | tr '\0' 'y'
        printf '"}}\n'
    } >"$work/calls"
    mkfifo "$work/from"
    exec 3<>"$work/from" 4>/dev/null
    "$TOOLRING" run "$work/calls" >"$work/from" 2>"$work/err" 3<&- &
    child=$!
    # A line longer than a pipe holds has begun to come: its write is stuck from now on.
    expect "no result" read -r -n 10 -t 60 first <&3
    kill -TERM "$child"
    expect "no notice" await said "SIGTERM: cancelling everything"
    # The next signal counts once the manager is closed, which cannot be seen from here.
    expect "did not end" await give_up
    wait "$child"
    status=$?
    child=
    exec 3<&-
    expect "exit status $status after ${first:-}" is "$status" 1
    expect "message" said "gave up writing the remaining results"
}

give_up() {
    kill -TERM "$child" 2>/dev/null
    is_gone "$child"
}

try first_interrupt first_interrupt
try second_interrupt second_interrupt
try terminate terminate
try terminate_while_waiting terminate_while_waiting
try terminate_inline terminate_inline
try quit quit
try hangup hangup
try output_closed output_closed
try output_full output_full
try output_at_its_bound output_at_its_bound
try output_stuck output_stuck
done_testing
