#!/usr/bin/env bash
# The tool shell: what a command gets, and what is told about it.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

streams() {
    run <<<'{"call_id":"c","tool":"shell","input":{"command":"echo out; echo err >&2"}}'
    expect "exit status $status" is "$status" 0
    expect "streams" has c '"stdout":"out\n"' '"stderr":"err\n"' '"exit_code":0' '"signal":null' \
        '"truncated":false' '"held_open":false' '"timed_out":false'
    expect "usage" has c '"wall_us":' '"user_us":' '"system_us":' '"max_rss_bytes":'
}

argv_and_input() {
    run <<'END'
{"call_id":"a","tool":"shell","input":{"argv":["printf","%s|","one two","$HOME","*"]}}
{"call_id":"i","tool":"shell","input":{"argv":["sort"],"stdin":"b\na\n"}}
{"call_id":"z","tool":"shell","input":{"argv":["wc","-c"],"stdin":"a\u0000b"}}
{"call_id":"n","tool":"shell","input":{"command":"cat"}}
END
    expect "exit status $status" is "$status" 0
    expect "arguments were split" has a '"stdout":"one two|$HOME|*|"'
    expect "standard input" has i '"stdout":"a\nb\n"'
    expect "zero byte in standard input" has z '"stdout":"3\n"'
    expect "the host's standard input was inherited" has n '"stdout":""'
}

large_input() {
    {
        printf '{"call_id":"c","tool":"shell","input":{"command":"wc -c","stdin":"'
        head -c 3000000 /dev/zero | tr '\0' 'y'
        printf '"}}\n'
        printf '{"call_id":"unread","tool":"shell","input":{"command":"true","stdin":"'
        head -c 3000000 /dev/zero | tr '\0' 'y'
        printf '"}}\n'
    } >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "input cut" has c '"stdout":"3000000\n"'
    expect "a command that does not read" has unread '"outcome":"completed"'
}

place() {
    mkdir -p "$work/cwd/sub"
    run <<'END'
{"call_id":"here","tool":"shell","input":{"command":"basename \"$PWD\"; pwd"}}
{"call_id":"sub","tool":"shell","input":{"command":"basename \"$(pwd)\"","cwd":"sub"}}
{"call_id":"root","tool":"shell","input":{"command":"pwd","cwd":"/"}}
{"call_id":"none","tool":"shell","input":{"command":"pwd","cwd":"missing"}}
END
    expect "--cwd" has here "$work/cwd"
    expect "relative" has sub '"stdout":"sub\n"'
    expect "absolute" has root '"stdout":"/\n"'
    expect "missing" has none '"outcome":"failed"' 'no directory'
}

environment() {
    export TOOLRING_E2E_KEPT=kept TOOLRING_E2E_REMOVED=here
    run <<'END'
{"call_id":"c","tool":"shell","input":{"command":"echo $TOOLRING_E2E_KEPT-$TOOLRING_E2E_REMOVED-$ADDED","env":{"ADDED":"a=b c","TOOLRING_E2E_REMOVED":null}}}
{"call_id":"bad","tool":"shell","input":{"command":"true","env":{"A=B":"x"}}}
{"call_id":"type","tool":"shell","input":{"command":"true","env":{"A":7}}}
END
    expect "environment" has c '"stdout":"kept--a=b c\n"'
    expect "bad name" has bad '"outcome":"failed"' 'is no name of a variable'
    expect "bad value" has type '"outcome":"failed"' 'must be null or a string'
}

# A command must not inherit what the program did to its own signals: it blocks some and ignores
# SIGPIPE (bit 12 of SigIgn: the fourth digit from the right is even).
signals_are_default() {
    run <<<'{"call_id":"c","tool":"shell","input":{"command":"grep -E \"^Sig(Blk|Ign):\" /proc/self/status"}}'
    expect "signals are blocked" has c 'SigBlk:\t0000000000000000'
    expect "SIGPIPE is ignored" grep -qE 'SigIgn:.t[0-9a-f]{12}[02468ace][0-9a-f]{3}' "$work/out"
}

failures_of_commands() {
    printf '#!/bin/sh\n' >"$work/cwd/plain"
    chmod 644 "$work/cwd/plain"
    run <<'END'
{"call_id":"seven","tool":"shell","input":{"command":"echo so far; exit 7"}}
{"call_id":"killed","tool":"shell","input":{"command":"echo so far; kill -9 $$"}}
{"call_id":"nothing","tool":"shell","input":{"argv":["/no/such/program"]}}
{"call_id":"path","tool":"shell","input":{"argv":["no-such-program-anywhere"]}}
{"call_id":"denied","tool":"shell","input":{"argv":["./plain"]}}
END
    expect "exit status $status" is "$status" 1
    expect "exit code" has seven '"outcome":"failed"' '"exit_code":7' '"stdout":"so far\n"' '"is_error":true'
    expect "signal" has killed '"outcome":"failed"' '"exit_code":null' '"signal":9' '"stdout":"so far\n"'
    expect "no such file" has nothing '"outcome":"failed"' '"code":"TR_ENOENT"' \
        'cannot start /no/such/program: No such file or directory'
    expect "not in PATH" has path '"outcome":"failed"' 'No such file or directory'
    expect "not executable" has denied '"outcome":"failed"' 'Permission denied'
}

# However long a name is, why it did not start is said.
reason_after_a_long_name() {
    local long
    long=$(printf 'x%.0s' $(seq 1 2000))
    run <<END
{"call_id":"program","tool":"shell","input":{"argv":["/$long"]}}
{"call_id":"folder","tool":"shell","input":{"argv":["true"],"cwd":"/$long","spill":{"directory":"/tmp"}}}
{"call_id":"spill","tool":"shell","input":{"argv":["true"],"spill":{"directory":"/$long"}}}
{"call_id":"files","tool":"shell","input":{"argv":["/no/such/program"],"spill":{"directory":"."}}}
END
    expect "exit status $status" is "$status" 1
    expect "program" has program 'x: File name too long"'
    expect "folder" has folder ': no directory \"/xxx' 'x\""'
    expect "spill" has spill ': no directory \"/xxx' 'x\" to spill to"'
    expect "files" has files 'cannot start /no/such/program, or make its files in \"' ': No such file or directory"'
}

bad_input() {
    run <<'END'
{"call_id":"none","tool":"shell"}
{"call_id":"both","tool":"shell","input":{"command":"true","argv":["true"]}}
{"call_id":"empty","tool":"shell","input":{"argv":[]}}
{"call_id":"no-name","tool":"shell","input":{"argv":["","x"]}}
{"call_id":"number","tool":"shell","input":{"argv":["echo",1]}}
{"call_id":"zero","tool":"shell","input":{"command":"echo a\u0000b"}}
{"call_id":"unknown","tool":"shell","input":{"command":"true","shell":"zsh"}}
{"call_id":"timeout","tool":"shell","input":{"command":"true","timeout_ms":"soon"}}
END
    expect "exit status $status" is "$status" 1
    expect "none" has none '"outcome":"failed"' 'one of \"command\" and \"argv\"'
    expect "both" has both '"outcome":"failed"' 'one of \"command\" and \"argv\"'
    expect "empty" has empty '"outcome":"failed"' 'at least one string'
    expect "no name" has no-name '"outcome":"failed"' '\"argv\": the program'"'"'s name is empty'
    expect "number" has number '"outcome":"failed"' 'must hold strings'
    expect "zero" has zero '"outcome":"failed"' 'zero byte'
    expect "unknown" has unknown '"outcome":"failed"' 'unknown member \"shell\"'
    expect "timeout" has timeout '"outcome":"failed"' 'must be a whole number'
}

binary_output() {
    run <<'END'
{"call_id":"b","tool":"shell","input":{"command":"printf 'a\\377\\000\\303\\251\\302'"}}
{"call_id":"t","tool":"shell","input":{"command":"printf 'tab\\tquote\"\\\\ \\303\\251\\001'"}}
{"call_id":"e","tool":"shell","input":{"command":"printf '\\200' >&2"}}
END
    expect "exit status $status" is "$status" 0
    expect "replaced bytes" has b $'"stdout":"a\xef\xbf\xbd\\u0000\xc3\xa9\xef\xbf\xbd"'
    expect "exact bytes" has b '"stdout_base64":"Yf8Aw6nC"'
    expect "text needs no base64" has t $'"stdout":"tab\\tquote\\"\\\\ \xc3\xa9\\u0001","stderr"'
    expect "standard error" has e '"stderr_base64":"gA=="'
}

long_output() {
    run <<<'{"call_id":"l","tool":"shell","input":{"command":"yes 0123456789abcde | head -c 4000000"}}'
    expect "exit status $status" is "$status" 0
    expect "truncated" has l '"truncated":true' '"stdout_omitted_bytes":' '"stdout_omitted_at":'
    local omitted kept
    omitted=$(result l | grep -o '"stdout_omitted_bytes":[0-9]*' | cut -d: -f2)
    kept=$(result l | grep -o '0123456789abcde' | wc -l)
    expect "kept $kept lines of 16 and omitted $omitted of 4000000" \
        test "$((kept * 16 + omitted - 4000000))" -le 32
    expect "kept too much" test "$kept" -le 65536
}

held_open() {
    run <<<'{"call_id":"h","tool":"shell","input":{"command":"sleep 30 & echo hi"}}'
    expect "exit status $status" is "$status" 0
    expect "held_open" has h '"held_open":true' '"stdout":"hi\n"'
    expect "waited for the survivor" test "$(result h | grep -o '"run_us":[0-9]*' | cut -d: -f2)" \
        -lt 20000000
}

own_timeout() {
    run <<<'{"call_id":"t","tool":"shell","input":{"command":"echo first; sleep 600","timeout_ms":200}}'
    expect "exit status $status" is "$status" 1
    expect "partial output" has t '"outcome":"failed"' '"code":"TR_ETIMEDOUT"' '"timed_out":true' \
        '"stdout":"first\n"'
}

# The whole group ends, also what ignores SIGTERM.
timeout_kills_the_tree() {
    run <<'END'
{"call_id":"t","tool":"shell","input":{"command":"sleep 600 & echo $! > child; echo $$ > leader; wait"},"timeout_ms":500}
{"call_id":"deaf","tool":"shell","input":{"command":"trap '' TERM; echo $$ > deaf; while :; do sleep 600; done"},"timeout_ms":500}
END
    expect "exit status $status" is "$status" 1
    expect "timed out" has t '"outcome":"timed_out"'
    expect "timed out though deaf" has deaf '"outcome":"timed_out"'
    expect "no child" test -s "$work/cwd/child" -a -s "$work/cwd/leader" -a -s "$work/cwd/deaf"
    expect "the child survived" await is_gone "$(cat "$work/cwd/child")"
    expect "the leader survived" is_gone "$(cat "$work/cwd/leader")"
    expect "the deaf one survived" is_gone "$(cat "$work/cwd/deaf")"
}

deep_input() {
    local open
    open=$(printf '[%.0s' $(seq 1 1500))
    printf '{"call_id":"d","tool":"shell","input":{"command":"true","x":%s%s}}\n' "$open" "${open//\[/]}" \
        >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 1
    expect "not refused" has d '"outcome":"failed"' 'nested too deeply'
}

try streams streams
try argv_and_input argv_and_input
try large_input large_input
try place place
try environment environment
try signals_are_default signals_are_default
try failures failures_of_commands
try reason_after_a_long_name reason_after_a_long_name
try bad_input bad_input
try binary_output binary_output
try long_output long_output
try held_open held_open
try own_timeout own_timeout
try timeout_kills_the_tree timeout_kills_the_tree
try deep_input deep_input
done_testing
