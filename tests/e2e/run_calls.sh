#!/usr/bin/env bash
# Calls and what can be said about them: labels, routes, deliveries, metadata, exit statuses.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

shortest() {
    run <<<'{"tool":"echo","input":{"text":"hello"}}'
    expect "exit status $status" is "$status" 0
    expect "no result" has line-1 '"outcome":"completed"' '"is_error":false' '"session":"default"' \
        '"turn":"default"' '"kind":"foreground"' '"detached":false' '"output":{"text":"hello"}'
    expect "more than one line" is "$(wc -l <"$work/out")" 1
    expect "no summary" said "1 call in"
}

labels() {
    run <<'END'
{"op":"call","session":"s1","turn":"t1","call_id":"a","tool":"echo","input":{"text":"1"}}
{"op":"call","session":"s2","turn":"t1","call_id":"a","tool":"echo","input":{"text":"2"}}
{"session":"s \"3\" ü","turn":"t\u0007","call_id":"ü✓","tool":"echo","input":{"text":"3"}}
END
    expect "exit status $status" is "$status" 0
    expect "session s1" wrote '"turn":"t1","session":"s1"'
    expect "session s2" wrote '"turn":"t1","session":"s2"'
    expect "odd labels" has 'ü✓' '"turn":"t\u0007"' '"session":"s \"3\" ü"'
    expect "not three results" results_are 3
}

routes() {
    run <<'END'
{"call_id":"in","tool":"echo","input":{"text":"x"},"route":"inline"}
{"call_id":"fg","tool":"echo","input":{"text":"x"},"route":"foreground"}
{"call_id":"bg","tool":"echo","input":{"text":"x"},"route":"background"}
{"call_id":"loop","tool":"echo","input":{"text":"x"},"route":"background","delivery":"to_loop"}
{"call_id":"manual","tool":"echo","input":{"text":"x"},"route":"background","delivery":"manual"}
{"call_id":"request","tool":"echo","input":{"text":"x"},"route":"background","continue":"request"}
{"call_id":"quick","tool":"echo","input":{"text":"x"},"route":{"detach_after_ms":60000}}
{"call_id":"slow","tool":"sleep","input":{"ms":300},"route":{"detach_after_ms":20}}
END
    expect "exit status $status" is "$status" 0
    expect "inline" has in '"channel":"launch"' '"outcome":"completed"'
    expect "foreground" has fg '"kind":"foreground"' '"channel":"turn"'
    expect "background" has bg '"kind":"background"' '"channel":"loop"' '"detached":false'
    expect "to_loop" has loop '"channel":"loop"'
    expect "manual" has manual '"channel":"ready"'
    expect "continue" has request '"continue":true'
    expect "ended before the detach" has quick '"kind":"foreground"' '"detached":false'
    expect "detached" has slow '"kind":"background"' '"detached":true' '"outcome":"completed"'
    expect "not eight results" results_are 8
}

metadata() {
    run <<<'{"call_id":"m","tool":"echo","input":{"text":"x"},"metadata":{"a":[1,{"b":null}]}}'
    expect "metadata lost" has m '"metadata":{"a":[1,{"b":null}]}'
    run <<<'{"call_id":"n","tool":"echo","input":{"text":"x"},"metadata":{"z":0.1,"a":"\u0000","b":-1.5}}'
    expect "numbers" has n '"metadata":{"z":0.1,"a":"\u0000","b":-1.5}'
    run <<<'{"call_id":"n","tool":"echo","input":{"text":"x"},"metadata":{"z":0.30000000000000004}}'
    expect "digits" has n '"metadata":{"z":0.30000000000000004}'
}

times() {
    run <<<'{"call_id":"t","tool":"sleep","input":{"ms":30}}'
    expect "run time below 30 ms" test "$(result t | grep -o '"run_us":[0-9]*' | cut -d: -f2)" -ge 30000
    expect "total below run" test "$(result t | grep -o '"total_us":[0-9]*' | cut -d: -f2)" -ge 30000
}

exit_one() {
    run <<'END'
{"call_id":"good","tool":"echo","input":{"text":"x"}}
{"call_id":"bad","tool":"shell","input":{"command":"exit 3"}}
END
    expect "exit status $status" is "$status" 1
    expect "is_error" has bad '"outcome":"failed"' '"is_error":true' '"code":"TR_ETOOL"' '"exit_code":3'
}

empty_input() {
    run </dev/null
    expect "exit status $status" is "$status" 0
    expect "output" is "$(wc -c <"$work/out")" 0
}

from_file() {
    printf '%s' '{"call_id":"f","tool":"echo","input":{"text":"no newline at the end"}}' >"$work/calls"
    run "$work/calls" </dev/null
    expect "exit status $status" is "$status" 0
    expect "no result" has f '"outcome":"completed"'
    run - <"$work/calls"
    expect "exit status with -: $status" is "$status" 0
}

quiet() {
    run --quiet <<<'{"tool":"echo","input":{"text":"x"}}'
    expect "exit status $status" is "$status" 0
    expect "standard error is not empty" is "$(wc -c <"$work/err")" 0
}

inline_manager() {
    run --inline <<'END'
{"call_id":"a","tool":"shell","input":{"command":"echo one"}}
{"call_id":"b","tool":"sleep","input":{"ms":1}}
{"call_id":"c","tool":"echo","input":{"text":"x"},"route":"background"}
{"op":"wait"}
{"call_id":"d","tool":"shell","input":{"command":"exit 1"}}
{"op":"idle"}
END
    expect "exit status $status" is "$status" 1
    expect "a" has a '"stdout":"one\n"'
    expect "b" has b '"outcome":"completed"'
    expect "c" has c '"outcome":"completed"'
    expect "d" has d '"outcome":"failed"'
    expect "not four results" results_are 4
}

small_room() {
    local n
    for n in $(seq 1 300); do
        printf '{"call_id":"c%d","tool":"shell","input":{"command":"echo %d"}}\n' "$n" "$n"
    done >"$work/calls"
    run --workers 1 --tasks-max 4 "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "not 300 results" results_are 300
    expect "wrong output" has c300 '"stdout":"300\n"'
}

# More commands and sleeps than may run at once: reading waits, none fails for want of room.
few_processes() {
    local n
    for n in $(seq 1 60); do
        printf '{"call_id":"c%d","tool":"shell","input":{"command":"echo %d"}}\n' "$n" "$n"
        printf '{"call_id":"s%d","tool":"sleep","input":{"ms":1}}\n' "$n"
    done >"$work/calls"
    printf '{"call_id":"in","tool":"shell","input":{"command":"echo x"},"route":"inline"}\n' >>"$work/calls"
    run --processes-max 3 "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "not 121 results" results_are 121
}

try shortest shortest
try labels labels
try routes routes
try metadata metadata
try times times
try exit_one exit_one
try empty_input empty_input
try from_file from_file
try quiet quiet
try inline_manager inline_manager
try small_room small_room
try few_processes few_processes
done_testing
