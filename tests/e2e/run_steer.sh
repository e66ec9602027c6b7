#!/usr/bin/env bash
# Orders to a program while it runs: input, signal, resize, output.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

# field NAME: that number or word of the last output line in $work/out.
field() {
    grep '^{"type":"output"' "$work/out" | tail -n 1 | grep -o "\"$1\":[^,}]*" | cut -d: -f2
}

input_order() {
    start
    send '{"call_id":"c","tool":"shell","input":{"command":"while read l; do echo \"got $l\"; done; echo end","keep_input_open":true,"stdin":"first\n"}}' \
        '{"op":"input","call_id":"c","data":"second\n"}' \
        '{"op":"input","call_id":"c","data_base64":"dGhpcmQK"}' \
        '{"op":"input","call_id":"c","data":"fourth\n","close":true}'
    expect "did not end" await_line '"call_id":"c"'
    finish
    expect "exit status $status" is "$status" 0
    expect "lines" has c '"stdout":"got first\ngot second\ngot third\ngot fourth\nend\n"' '"stdin_bytes":26'
}

# Orders right behind the call, and for a call that is queued behind another.
input_before_the_start() {
    start --processes-max 1
    send '{"call_id":"one","tool":"shell","route":"background","input":{"command":"while ! test -e go; do sleep 0.05; done"}}'
    touch "$work/cwd/go"
    send '{"call_id":"two","tool":"shell","input":{"command":"cat","keep_input_open":true}}' \
        '{"op":"input","call_id":"two","data":"a"}' '{"op":"input","call_id":"two","data":"b"}' \
        '{"op":"input","call_id":"two","close":true}'
    finish
    expect "exit status $status" is "$status" 0
    expect "input" has two '"stdout":"ab"' '"stdin_bytes":2'
}

# 3 MB through cat: the pipes are full long before; nothing waits for anything in a circle.
input_of_any_length() {
    local n
    {
        printf '{"call_id":"c","tool":"shell","input":{"command":"cat | cksum; cat no such 2>/dev/null; true","keep_input_open":true}}\n'
        printf '{"call_id":"e","tool":"shell","input":{"argv":["cat"],"keep_input_open":true,"output_bytes_max":4000000}}\n'
        for n in 1 2 3; do
            printf '{"op":"input","call_id":"c","data":"'
            head -c 1000000 /dev/zero | tr '\0' "$n"
            printf '"}\n{"op":"input","call_id":"e","data":"'
            head -c 1000000 /dev/zero | tr '\0' "$n"
            printf '"}\n'
        done
    } >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 0
    for n in 1 2 3; do head -c 1000000 /dev/zero | tr '\0' "$n"; done >"$work/expected"
    expect "sum" has c "\"stdout\":\"$(cksum <"$work/expected")\\n\"" '"stdin_bytes":3000000'
    expect "all of it back" has e '"stdin_bytes":3000000' '"stdout_total_bytes":3000000' '"truncated":false'
}

# At the end of the orders nobody can write any more: the inputs end.
end_of_orders_ends_inputs() {
    run <<'END'
{"call_id":"a","tool":"shell","input":{"command":"cat; echo end","keep_input_open":true,"stdin":"x"}}
{"call_id":"b","tool":"shell","input":{"command":"cat; echo end","keep_input_open":true},"route":"background"}
{"call_id":"t","tool":"shell","input":{"command":"cat; echo end","keep_input_open":true,"terminal":true}}
{"op":"input","call_id":"b","data":"y"}
END
    expect "exit status $status" is "$status" 0
    expect "a" has a '"stdout":"xend\n"'
    expect "b" has b '"stdout":"yend\n"'
    expect "t" has t 'end\r\n"'
}

many_inputs_end() {
    local n
    for n in $(seq 1 300); do
        printf '{"call_id":"c%d","tool":"shell","input":{"command":"cat","keep_input_open":true,"stdin":"%d"}}\n' "$n" "$n"
    done >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "not 300 results" results_are 300
    expect "output" has c299 '"stdout":"299"'
}

# A program that has ended, or reads no more, takes no input: no fault, whenever that was.
late_input() {
    local n
    {
        printf '{"call_id":"gone","tool":"shell","input":{"command":"true","keep_input_open":true}}\n'
        printf '{"call_id":"deaf","tool":"shell","input":{"command":"exec <&-; sleep 0.3","keep_input_open":true}}\n'
        for n in $(seq 1 50); do
            printf '{"op":"input","call_id":"gone","data":"x"}\n{"op":"input","call_id":"deaf","data":"x"}\n'
        done
        printf '{"op":"wait"}\n{"op":"input","call_id":"gone","data":"x","close":true}\n'
        printf '{"op":"signal","call_id":"gone","signal":15}\n'
    } >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "a fault" not wrote '"type":"error"'
}

# The program does not read: the order gives up after its time and says how far it came.
input_that_is_not_taken() {
    start
    send '{"call_id":"c","tool":"shell","input":{"command":"echo on; sleep 600","keep_input_open":true}}'
    printf '{"op":"input","call_id":"c","timeout_ms":200,"data":"%s"}\n' \
        "$(head -c 2000000 /dev/zero | tr '\0' y)" >&4
    expect "no error line" await_line '"type":"error"'
    send '{"op":"cancel","call_id":"c"}'
    finish
    expect "exit status $status" is "$status" 2
    expect "how far" grep -qE 'call \\"c\\" has taken [1-9][0-9]* of 2000000 bytes within 200 ms' "$work/out"
    expect "result" has c '"outcome":"cancelled"' '"stdout":"on\n"'
}

# A signal ends the run while an order waits for its program.
interrupted_while_writing() {
    start
    send '{"call_id":"c","tool":"shell","input":{"command":"touch begun; sleep 600","keep_input_open":true}}'
    expect "did not start" await test -e "$work/cwd/begun"
    printf '{"op":"input","call_id":"c","timeout_ms":600000,"data":"%s"}\n' \
        "$(head -c 2000000 /dev/zero | tr '\0' y)" >&4
    kill -TERM "$child"
    finish
    expect "exit status $status" is "$status" 1
    expect "result" has c '"outcome":"cancelled"'
}

input_faults() {
    start
    send '{"call_id":"shut","tool":"shell","input":{"command":"sleep 600"}}' \
        '{"call_id":"open","tool":"shell","input":{"command":"cat; sleep 600","keep_input_open":true}}' \
        '{"call_id":"nap","tool":"sleep","input":{"ms":600000}}' \
        '{"op":"input","call_id":"never","data":"x"}' \
        '{"op":"input","call_id":"shut","data":"x"}' \
        '{"op":"input","call_id":"nap","data":"x"}' \
        '{"op":"input","call_id":"open"}' \
        '{"op":"input","data":"x"}' \
        '{"op":"input","call_id":"open","data":"x","data_base64":"eA=="}' \
        '{"op":"input","call_id":"open","data_base64":"eA"}' \
        '{"op":"input","call_id":"open","data":7}' \
        '{"op":"input","call_id":"open","data":"x","close":"yes"}' \
        '{"op":"input","call_id":"open","close":true}' \
        '{"op":"input","call_id":"open","data":"x"}' \
        '{"op":"cancel","call_id":"shut"}' '{"op":"cancel","call_id":"open"}' '{"op":"cancel","call_id":"nap"}'
    finish
    expect "exit status $status" is "$status" 2
    expect "unknown" said 'line 4: no call "never" is known'
    expect "not open" said 'line 5: call "shut" has no "keep_input_open"'
    expect "no program" said 'line 6: call "nap" runs no program'
    expect "nothing" said 'line 7: "data", "data_base64" or "close" must be given'
    expect "no id" said 'line 8: "call_id" is missing'
    expect "both" said 'line 9: "data" and "data_base64" exclude each other'
    expect "padding" said 'line 10: "data_base64" must be a string of base64'
    expect "type" said 'line 11: "data" must be a string'
    expect "close" said 'line 12: "close" must be true or false'
    expect "twice" said 'line 14: the input of call "open" was closed'
    expect "not ten faults" is "$(grep -c '"type":"error"' "$work/out")" 10
}

inline_input() {
    run <<<'{"call_id":"c","tool":"shell","route":"inline","input":{"command":"cat","keep_input_open":true}}'
    expect "exit status $status" is "$status" 1
    expect "route" has c '"outcome":"failed"' 'nobody could write'
    run --inline <<<'{"call_id":"c","tool":"shell","input":{"command":"cat","keep_input_open":true}}'
    expect "--inline" has c '"outcome":"failed"' 'nobody could write'
    printf '[{"name":"x","argv":["cat"],"keep_input_open":true,"route":"inline"}]' >"$work/tools.json"
    run --tools "$work/tools.json" </dev/null
    expect "exit status $status for a tools file" is "$status" 2
    expect "tools file" said 'nobody could write'
}

declared_input() {
    printf '[{"name":"chat","argv":["cat"],"keep_input_open":true,"stdin":"{greeting}"},{"name":"plain","argv":["cat"]}]' \
        >"$work/tools.json"
    run --tools "$work/tools.json" <<'END'
{"call_id":"c","tool":"chat","input":{"greeting":"hi "}}
{"op":"input","call_id":"c","data":"there"}
{"call_id":"p","tool":"plain"}
{"op":"input","call_id":"p","data":"there"}
END
    expect "exit status $status" is "$status" 2
    expect "declared" has c '"stdout":"hi there"'
    expect "not open" said 'call "p" has no "keep_input_open"'
}

signal_order() {
    start
    local name
    for name in INT SIGTERM 10; do
        send "{\"call_id\":\"$name\",\"tool\":\"shell\",\"input\":{\"command\":\"trap 'echo caught; exit 4' INT TERM USR1; echo > on.$name; while :; do sleep 0.05; done\"}}"
        expect "$name did not start" await test -s "$work/cwd/on.$name"
    done
    send '{"op":"signal","call_id":"INT","signal":"INT"}' \
        '{"op":"signal","call_id":"SIGTERM","signal":"SIGTERM"}' '{"op":"signal","call_id":"10","signal":10}'
    finish
    expect "exit status $status" is "$status" 1
    for name in INT SIGTERM 10; do
        expect "$name" has $name '"exit_code":4' '"stdout":"caught\n"' '"outcome":"failed"' '"timed_out":false'
    done
}

# Sent right behind the call, before its program can be there.
signal_at_once() {
    start
    send '{"call_id":"c","tool":"shell","input":{"command":"sleep 600"}}' \
        '{"op":"signal","call_id":"c","signal":"KILL"}'
    finish
    expect "exit status $status" is "$status" 1
    expect "killed" has c '"signal":9' '"exit_code":null'
}

signal_faults() {
    start
    send '{"call_id":"nap","tool":"sleep","input":{"ms":600000}}' \
        '{"op":"signal","call_id":"nap","signal":"INT"}' \
        '{"op":"signal","call_id":"nap"}' \
        '{"op":"signal","call_id":"nap","signal":"NONE"}' \
        '{"op":"signal","call_id":"nap","signal":0}' \
        '{"op":"signal","call_id":"nap","signal":65}' \
        '{"op":"signal","call_id":"never","signal":9}' \
        '{"op":"cancel","call_id":"nap"}'
    finish
    expect "exit status $status" is "$status" 2
    expect "no program" said 'line 2: call "nap" runs no program'
    expect "missing" said 'line 3: "signal" is missing'
    expect "name" said "line 4: \"signal\" must be a signal's name or its number, 1 to 64"
    expect "zero" said 'line 5: "signal" must be'
    expect "too large" said 'line 6: "signal" must be'
    expect "unknown" said 'line 7: no call "never" is known'
}

resize_order() {
    start
    send '{"call_id":"t","tool":"shell","input":{"command":"trap \"stty size; exit\" WINCH; echo > on; while :; do sleep 0.05; done","terminal":{"rows":10,"columns":20}}}' \
        '{"call_id":"p","tool":"shell","input":{"command":"sleep 600"}}'
    expect "did not start" await test -s "$work/cwd/on"
    send '{"op":"resize","call_id":"t","rows":50,"columns":132}' \
        '{"op":"resize","call_id":"p","rows":50,"columns":132}' \
        '{"op":"resize","call_id":"t","rows":50}' \
        '{"op":"resize","call_id":"t","rows":50,"columns":65536}' \
        '{"op":"cancel","call_id":"p"}'
    finish
    expect "exit status $status" is "$status" 2
    expect "new size" has t '"stdout":"50 132\r\n"'
    expect "no terminal" said 'line 4: call "p" has no "terminal"'
    expect "one side" said 'line 5: "rows" and "columns" must be given'
    expect "range" said 'line 6: "columns" must be a whole number from 1 to 65535'
}

talk_over_a_terminal() {
    start
    send '{"call_id":"t","tool":"shell","input":{"command":"stty -echo; echo ready; read a; echo \"<$a>\"; cat; echo end","terminal":true,"keep_input_open":true}}' \
        '{"op":"input","call_id":"t","data":"hello\n"}' '{"op":"input","call_id":"t","data":"more\n","close":true}'
    finish
    expect "exit status $status" is "$status" 0
    expect "talk" has t '<hello>\r\n' 'more\r\nend\r\n"'
}

output_order() {
    start --events
    send '{"call_id":"c","tool":"shell","input":{"command":"printf abcde; printf xy >&2; echo > on; sleep 600"}}'
    expect "did not write" await test -s "$work/cwd/on"
    # What it wrote is in the pipe; the engine takes it in its own time.
    local tries=0
    while [ "$(field total_bytes)" != 5 ] && [ $((tries += 1)) -lt 500 ]; do
        send '{"op":"output","call_id":"c"}'
        await_line '"type":"output"'
    done
    expect "all" wrote '"stream":"stdout","cursor":0,"next":5,"skipped_bytes":0,"total_bytes":5,"end":false,"data":"abcde"}'
    send '{"op":"output","call_id":"c","cursor":3}'
    expect "from 3" await_line '"cursor":3,"next":5,"skipped_bytes":0,"total_bytes":5,"end":false,"data":"de"}'
    send '{"op":"output","call_id":"c","cursor":5}'
    expect "nothing new" await_line '"cursor":5,"next":5,"skipped_bytes":0,"total_bytes":5,"end":false,"data":""}'
    send '{"op":"output","call_id":"c","bytes_max":4}'
    expect "at most 4" await_line '"cursor":0,"next":4,"skipped_bytes":0,"total_bytes":5,"end":false,"data":"abcd"}'
    send '{"op":"output","call_id":"c","stream":"stderr"}'
    expect "standard error" await_line '"stream":"stderr","cursor":0,"next":2,"skipped_bytes":0,"total_bytes":2,"end":false,"data":"xy"}'
    send '{"op":"output","call_id":"c","cursor":6}'
    expect "beyond" await_line '"message":"\"cursor\" 6 is beyond what call \"c\" has written"'
    send '{"op":"cancel","call_id":"c"}' '{"op":"wait"}' '{"op":"output","call_id":"c","cursor":5}'
    expect "ended" await_line '"stream":"stdout","cursor":5,"ended":true}'
    finish
    expect "exit status $status" is "$status" 2
    expect "the result has all" has c '"stdout":"abcde"' '"stderr":"xy"'
    expect "output events with numbers" grep -qE '"event":"output","sequence":[0-9]+,.*"current":[0-9]+' "$work/out"
}

output_faults() {
    run <<'END'
{"op":"output","call_id":"never"}
{"call_id":"e","tool":"echo","input":{"text":"x"}}
{"op":"output","call_id":"e"}
{"op":"output","call_id":"e","stream":"out"}
{"op":"output","call_id":"e","bytes_max":3}
{"op":"output","call_id":"e","cursor":-1}
END
    expect "exit status $status" is "$status" 2
    expect "unknown" said 'line 1: no call "never" is known'
    expect "no program" said 'line 3: call "e" runs no program'
    expect "stream" said 'line 4: "stream" must be "stdout" or "stderr"'
    expect "size" said 'line 5: "bytes_max" must be a whole number from 4 to 1048576'
    expect "cursor" said 'line 6: "cursor" must be a whole number from 0'
}

# A character is not cut between two output lines; bytes that are none come through exactly.
output_in_pieces() {
    start
    send '{"call_id":"c","tool":"shell","input":{"command":"printf \"\\303\\251\\303\\251\\303\\251\\377\\376z\"; echo > on; sleep 600"}}'
    expect "did not write" await test -s "$work/cwd/on"
    local tries=0
    while [ "$(field total_bytes)" != 9 ] && [ $((tries += 1)) -lt 500 ]; do
        send '{"op":"output","call_id":"c","bytes_max":5}'
        await_line '"type":"output"'
    done
    expect "two characters" wrote $'"next":4,"skipped_bytes":0,"total_bytes":9,"end":false,"data":"\xc3\xa9\xc3\xa9"}'
    send '{"op":"output","call_id":"c","cursor":4}'
    expect "the rest" await_line '"data_base64":"w6n//no="'
    send '{"op":"cancel","call_id":"c"}'
    finish
    expect "exit status $status" is "$status" 1
}

# Followed by output orders, a paused program gets through all of its output, 8 KiB at a time. What
# was not asked for when it ends is in its result.
follow_a_paused_program() {
    start
    send '{"call_id":"p","tool":"shell","input":{"command":"seq 1 20000","overflow":"pause","output_bytes_max":8192}}'
    local line cursor=0 next last=100000
    : >"$work/followed"
    while [ "$cursor" -lt "$last" ]; do
        send "{\"op\":\"output\",\"call_id\":\"p\",\"cursor\":$cursor}"
        IFS= read -r -t 60 line <&3 || break
        [[ $line == *'"skipped_bytes":0,'* ]] || break
        next=${line#*\"next\":}
        next=${next%%,*}
        line=${line#*\"data\":\"}
        printf '%b' "${line%%\"*}" >>"$work/followed"
        cursor=$next
    done
    send "{\"op\":\"output\",\"call_id\":\"p\",\"cursor\":$cursor}" '{"op":"cancel","call_id":"p"}'
    finish
    expect "went on to $cursor only" test "$cursor" -ge "$last"
    seq 1 20000 | head -c "$cursor" >"$work/expected"
    expect "what was followed" cmp -s "$work/expected" "$work/followed"
}

# Nobody follows: it stays where it is, in bounded memory, and can be stopped.
paused_for_good() {
    start
    send '{"call_id":"p","tool":"shell","input":{"command":"yes | head -c 100000000; echo > through","overflow":"pause","output_bytes_max":65536}}'
    local tries=0
    while [ "$(field total_bytes)" != 65536 ] && [ $((tries += 1)) -lt 500 ]; do
        send '{"op":"output","call_id":"p"}'
        await_line '"type":"output"'
    done
    expect "not at its bound: $(field total_bytes)" is "$(field total_bytes)" 65536
    expect "not paused" not test -e "$work/cwd/through"
    send '{"op":"cancel","call_id":"p"}'
    finish
    expect "exit status $status" is "$status" 1
    expect "cancelled" has p '"outcome":"cancelled"'
}

by_session() {
    start
    send '{"session":"a","call_id":"c","tool":"shell","input":{"command":"cat","keep_input_open":true}}' \
        '{"session":"b","call_id":"c","tool":"shell","input":{"command":"cat","keep_input_open":true}}' \
        '{"op":"input","session":"a","call_id":"c","data":"for a"}' \
        '{"op":"input","session":"b","call_id":"c","data":"for b"}'
    finish
    expect "exit status $status" is "$status" 0
    expect "a" grep -qE '"session":"a".*"stdout":"for a"' "$work/out"
    expect "b" grep -qE '"session":"b".*"stdout":"for b"' "$work/out"
}

try input input_order
try input_before_the_start input_before_the_start
try input_of_any_length input_of_any_length
try end_of_orders_ends_inputs end_of_orders_ends_inputs
try many_inputs_end many_inputs_end
try late_input late_input
try input_that_is_not_taken input_that_is_not_taken
try interrupted_while_writing interrupted_while_writing
try input_faults input_faults
try inline_input inline_input
try declared_input declared_input
try signal signal_order
try signal_at_once signal_at_once
try signal_faults signal_faults
try resize resize_order
try talk_over_a_terminal talk_over_a_terminal
try output output_order
try output_faults output_faults
try output_in_pieces output_in_pieces
try follow_a_paused_program follow_a_paused_program
try paused_for_good paused_for_good
try by_session by_session
done_testing
