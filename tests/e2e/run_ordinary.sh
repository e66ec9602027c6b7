#!/usr/bin/env bash
# An ordinary user has all of it: programs, streams, terminals, files, limits downwards, trees that
# leave nothing behind; and is told what takes more than that.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

# Every case runs as nobody, or as whoever runs the tests if that is not root.
ordinary() {
    as_plain_user && return
    skip "the program cannot be run by another user here"
    return 1
}

what_a_user_may() {
    ordinary || return 0
    mkdir -p "$work/cwd/spill" && chmod 777 "$work/cwd/spill"
    run <<END
{"call_id":"who","tool":"shell","input":{"command":"id -u; umask; nice; ulimit -n; ulimit -c","umask":"027","nice":5,"limits":{"nofile":64,"core":0}}}
{"call_id":"terminal","tool":"shell","input":{"command":"test -t 0 && test -t 1 && stty size","terminal":{"rows":30,"columns":90}}}
{"call_id":"spill","tool":"shell","input":{"command":"seq 1000","output_bytes_max":64,"spill":{"directory":"$work/cwd/spill"}}}
{"call_id":"input","tool":"shell","input":{"command":"wc -c","stdin":"12345"}}
{"call_id":"bounds","tool":"shell","input":{"command":"echo bound","memory_bytes_max":268435456}}
{"call_id":"cut","tool":"shell","input":{"command":"echo begun; sleep 600"},"timeout_ms":100}
END
    expect "exit status $status" is "$status" 1
    expect "is $(result who)" has who '"outcome":"completed"' '\n0027\n' '\n64\n0\n"'
    expect "runs as root" not has who '"stdout":"0\n0027'
    expect "terminal" has terminal '"stdout":"30 90\r\n"' '"exit_code":0'
    expect "spilled" has spill '"exit_code":0' '"truncated":true' "$work/cwd/spill/"
    expect "input" has input '"stdout":"5\n"'
    expect "bounds" has bounds '"stdout":"bound\n"'
    expect "timed out" has cut '"outcome":"timed_out"' 'begun\n'
}

what_takes_more() {
    ordinary || return 0
    run <<'END'
{"call_id":"nice","tool":"shell","input":{"command":"true","nice":-5}}
{"call_id":"limit","tool":"shell","input":{"command":"true","limits":{"nofile":{"soft":1048577,"hard":1048577}}}}
{"call_id":"after","tool":"shell","input":{"command":"echo well"}}
END
    expect "exit status $status" is "$status" 1
    expect "raised itself: $(result nice)" has nice '"outcome":"failed"' '"is_error":true'
    expect "raised its limit: $(result limit)" has limit '"outcome":"failed"' '"is_error":true'
    expect "was harmed" has after '"stdout":"well\n"'
    "${launcher[@]}" "$TOOLRING" doctor >"$work/out" 2>"$work/err"
    expect "the doctor is silent" wrote 'privileges'
}

orders_while_it_runs() {
    ordinary || return 0
    start
    send '{"call_id":"cat","tool":"shell","input":{"command":"trap \"echo caught\" USR1; echo ready; while read -r line; do echo \"got $line\"; done","keep_input_open":true}}' \
        '{"op":"input","call_id":"cat","data":"one\n"}' \
        '{"op":"signal","call_id":"cat","signal":"WINCH"}' \
        '{"op":"input","call_id":"cat","data":"two\n","close":true}'
    expect "no result" await_line '"type":"result"'
    finish
    expect "exit status $status" is "$status" 0
    expect "heard nothing" has cat '"stdout":"ready\ngot one\ngot two\n"'
}

try what_a_user_may what_a_user_may
try what_takes_more what_takes_more
try orders_while_it_runs orders_while_it_runs
done_testing
