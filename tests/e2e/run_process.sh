#!/usr/bin/env bash
# How a program is run: each member of RUNNING A PROGRAM, each field of OUTPUT OF A PROGRAM.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

fields() {
    run <<'END'
{"call_id":"c","tool":"shell","input":{"command":"cat; printf 12 >&2","stdin":"abcde"}}
{"call_id":"f","tool":"shell","input":{"command":"exit 3"}}
END
    expect "exit status $status" is "$status" 1
    expect "always there" has c '"stdout":"abcde"' '"stderr":"12"' '"exit_code":0' '"signal":null' \
        '"truncated":false' '"held_open":false' '"timed_out":false' '"overflowed":false' \
        '"out_of_memory":false' '"stdout_total_bytes":5' '"stderr_total_bytes":2' \
        '"stdin_bytes":5' '"tree":"' '"swept":0' '"survivors":0' '"wall_us":' '"user_us":' \
        '"system_us":' '"max_rss_bytes":'
    expect "only when asked for or missing" not grep -qE 'spill|omitted|base64' "$work/out"
    expect "failed" has f '"exit_code":3' '"swept":0' '"tree":"'
    expect "tree is $(text c tree)" grep -qE '"tree":"(cgroup|sweep|group)"' "$work/out"
}

merge() {
    run <<'END'
{"call_id":"m","tool":"shell","input":{"command":"echo 1; echo 2 >&2; echo 3; echo 4 >&2","merge":true}}
{"call_id":"s","tool":"shell","input":{"command":"echo 1; echo 2 >&2","merge":false}}
END
    expect "exit status $status" is "$status" 0
    expect "order" has m '"stdout":"1\n2\n3\n4\n"' '"stderr":""' '"stderr_total_bytes":0'
    expect "apart" has s '"stdout":"1\n"' '"stderr":"2\n"'
}

terminal() {
    run <<'END'
{"call_id":"t","tool":"shell","input":{"command":"test -t 0 && test -t 1 && test -t 2 && stty size && echo e >&2","terminal":true}}
{"call_id":"s","tool":"shell","input":{"command":"stty size","terminal":{"rows":50,"columns":132}}}
{"call_id":"r","tool":"shell","input":{"command":"stty size","terminal":{"columns":99}}}
{"call_id":"n","tool":"shell","input":{"command":"test -t 0 || test -t 1","terminal":false}}
{"call_id":"i","tool":"shell","input":{"command":"read line; echo got $line","terminal":true,"stdin":"words\n"}}
{"call_id":"c","tool":"shell","input":{"command":"echo x > /dev/tty","terminal":true}}
END
    expect "exit status $status" is "$status" 1
    expect "is a terminal" has t '"stdout":"24 80\r\ne\r\n"' '"stderr":""' '"exit_code":0'
    expect "size" has s '"stdout":"50 132\r\n"'
    expect "one side of the size" has r '"stdout":"24 99\r\n"'
    expect "false" has n '"exit_code":1'
    expect "input" has i 'got words\r\n"'
    expect "controlling terminal" has c '"stdout":"x\r\n"'
}

# A terminal's input ends after what was given, unless it is kept open.
terminal_input_ends() {
    run <<'END'
{"call_id":"none","tool":"shell","input":{"command":"cat; echo ended","terminal":true},"timeout_ms":20000}
{"call_id":"some","tool":"shell","input":{"command":"stty -echo; cat; echo ended","terminal":true,"stdin":"line\n"},"timeout_ms":20000}
END
    expect "exit status $status" is "$status" 0
    expect "no input" has none 'ended\r\n"'
    expect "some input" has some 'line\r\nended\r\n"'
}

input_bytes() {
    head -c 65536 /dev/urandom >"$work/cwd/bytes"
    {
        printf '{"call_id":"b","tool":"shell","input":{"argv":["cat"],"stdin_base64":"'
        base64 -w 0 "$work/cwd/bytes"
        printf '"}}\n{"call_id":"e","tool":"shell","input":{"argv":["wc","-c"],"stdin_base64":""}}\n'
    } >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 0
    text b stdout_base64 | base64 -d >"$work/back"
    expect "bytes came back changed" cmp -s "$work/cwd/bytes" "$work/back"
    expect "counted" has b '"stdin_bytes":65536' '"stdout_total_bytes":65536' '"truncated":false'
    expect "empty" has e '"stdout":"0\n"'
    # Each line is read again as an order: it is refused for its members, not for its JSON or UTF-8.
    cp "$work/out" "$work/lines"
    run "$work/lines"
    expect "no valid JSON" not said "not valid JSON"
    expect "not read at all" said "unknown member"
}

# Every byte value, and every way to be no UTF-8, in both streams.
binary_output() {
    LC_ALL=C awk 'BEGIN { for (i = 0; i < 256; i++) printf "%c", i
        printf "\300\200\355\240\200\364\220\200\200\360\237\230" }' >"$work/cwd/bytes"
    run <<<'{"call_id":"b","tool":"shell","input":{"command":"cat bytes; cat bytes >&2"}}'
    local stream
    for stream in stdout stderr; do
        text b "${stream}_base64" | base64 -d >"$work/back"
        expect "$stream changed" cmp -s "$work/cwd/bytes" "$work/back"
    done
    cp "$work/out" "$work/lines"
    run "$work/lines"
    expect "no valid JSON" not said "not valid JSON"
    expect "not read at all" said "unknown member"
}

environment() {
    export TOOLRING_E2E_KEPT=kept
    run <<'END'
{"call_id":"c","tool":"shell","input":{"argv":["/usr/bin/env"],"clear_env":true,"env":{"A":"1","B":"2 3"}}}
{"call_id":"k","tool":"shell","input":{"argv":["/usr/bin/env"],"clear_env":false}}
{"call_id":"n","tool":"shell","input":{"argv":["/usr/bin/env"],"clear_env":true}}
END
    unset TOOLRING_E2E_KEPT
    expect "exit status $status" is "$status" 0
    expect "cleared" has c 'A=1\n' 'B=2 3\n'
    expect "not cleared" not has c TOOLRING_E2E_KEPT
    expect "kept" has k TOOLRING_E2E_KEPT=kept
    expect "nothing" not has n TOOLRING_E2E_KEPT
}

bounds_of_output() {
    run <<'END'
{"call_id":"cap","tool":"shell","input":{"command":"seq 1 100000","output_bytes_max":1000}}
{"call_id":"exact","tool":"shell","input":{"command":"printf 0123456789","output_bytes_max":10}}
{"call_id":"drop","tool":"shell","input":{"command":"seq 1 100000","output_bytes_max":1000,"overflow":"drop"}}
{"call_id":"kill","tool":"shell","input":{"command":"yes","output_bytes_max":1000,"overflow":"kill"}}
{"call_id":"utf","tool":"shell","input":{"command":"yes \u00e9\u00e9\u00e9 | head -n 10000","output_bytes_max":1001}}
END
    expect "exit status $status" is "$status" 1
    local id
    for id in cap drop; do
        expect "$id" has "$id" '"truncated":true' '"stdout":"1\n2\n' '\n100000\n"' \
            '"stdout_total_bytes":588895' '"outcome":"completed"' '"overflowed":false'
        expect "$id does not add up" test "$(number "$id" stdout_omitted_bytes)" -ge 587895
    done
    expect "at the bound nothing is missing" has exact '"stdout":"0123456789"' '"truncated":false'
    expect "kill" has kill '"outcome":"failed"' '"code":"TR_ELIMIT"' '"overflowed":true' \
        '"exit_code":null' '"stdout":"y\ny\n'
    expect "cut inside a character" not has utf base64
    expect "kept of it" has utf '"truncated":true' '"stdout_total_bytes":70000'
}

# More than a result of the engine's default size holds.
large_output() {
    run <<<'{"call_id":"l","tool":"shell","input":{"command":"head -c 70000000 /dev/zero | tr \\0 a","output_bytes_max":100000000}}'
    expect "exit status $status" is "$status" 0
    expect "cut" grep -qF '"truncated":false' "$work/out"
    expect "$(wc -c <"$work/out") bytes" test "$(wc -c <"$work/out")" -gt 70000000
}

spill() {
    mkdir "$work/cwd/kept"
    run <<'END'
{"call_id":"all","tool":"shell","input":{"command":"seq 1 100000; echo e >&2","output_bytes_max":1000,"spill":{"directory":"kept"}}}
{"call_id":"part","tool":"shell","input":{"command":"seq 1 100000","output_bytes_max":1000,"spill":{"directory":"kept","bytes_max":5000}}}
{"call_id":"none","tool":"shell","input":{"command":"true","spill":{"directory":"missing"}}}
END
    expect "exit status $status" is "$status" 1
    expect "all" has all '"truncated":true' '"stdout_spill_bytes":588895' '"stderr_spill_bytes":2'
    seq 1 100000 >"$work/expected"
    expect "the file" cmp -s "$work/expected" "$(text all stdout_spill_path)"
    expect "the other file" is "$(cat "$(text all stderr_spill_path)")" e
    expect "the place" is "$(dirname "$(text all stdout_spill_path)")" "$work/cwd/kept"
    expect "part" has part '"stdout_spill_bytes":5000' '"stdout_total_bytes":588895'
    expect "its file" is "$(wc -c <"$(text part stdout_spill_path)")" 5000
    expect "no directory" has none '"outcome":"failed"' 'no directory' 'to spill to'
}

mask_and_nice() {
    run <<'END'
{"call_id":"m","tool":"shell","input":{"command":"umask","umask":"027"}}
{"call_id":"z","tool":"shell","input":{"command":"umask","umask":"0"}}
{"call_id":"n","tool":"shell","input":{"command":"nice","nice":7}}
END
    expect "exit status $status" is "$status" 0
    expect "mask" has m '"stdout":"0027\n"'
    expect "mask of 0" has z '"stdout":"0000\n"'
    # The tests may be niced; 19 is the most there is.
    local nice_value=$(($(nice) + 7))
    expect "nice" has n "\"stdout\":\"$((nice_value < 19 ? nice_value : 19))\\n\""
}

limits() {
    run <<'END'
{"call_id":"files","tool":"shell","input":{"command":"ulimit -Sn; ulimit -Hn","limits":{"nofile":77}}}
{"call_id":"both","tool":"shell","input":{"command":"ulimit -Sn; ulimit -Hn","limits":{"nofile":{"soft":50,"hard":60}}}}
{"call_id":"core","tool":"shell","input":{"command":"ulimit -c","limits":{"core":0}}}
{"call_id":"size","tool":"shell","input":{"command":"head -c 100000 /dev/zero > big","limits":{"fsize":4096,"core":0}}}
{"call_id":"cpu","tool":"shell","input":{"command":"while :; do :; done","limits":{"cpu_s":1,"core":0}},"timeout_ms":50000}
{"call_id":"as","tool":"shell","input":{"command":"ulimit -v","limits":{"as":1073741824,"data":"unlimited"}}}
END
    expect "exit status $status" is "$status" 1
    expect "files" has files '"stdout":"77\n77\n"'
    expect "soft and hard" has both '"stdout":"50\n60\n"'
    expect "core" has core '"stdout":"0\n"'
    expect "size of files" has size '"outcome":"failed"'
    expect "the size of the file" is "$(wc -c <"$work/cwd/big")" 4096
    expect "processor time" has cpu '"outcome":"failed"' '"code":"TR_ETOOL"' '"exit_code":null'
    expect "address space" has as '"stdout":"1048576\n"'
}

grace() {
    run <<'END'
{"call_id":"g","tool":"shell","input":{"command":"trap '' TERM; echo on; while :; do sleep 0.1; done","timeout_ms":300,"grace_ms":100}}
{"call_id":"t","tool":"shell","input":{"command":"trap 'echo bye; exit 5' TERM; echo on; while :; do sleep 0.1; done","timeout_ms":300,"grace_ms":60000}}
END
    expect "exit status $status" is "$status" 1
    expect "killed" has g '"timed_out":true' '"signal":9' '"stdout":"on\n"' '"code":"TR_ETIMEDOUT"'
    expect "not in its own grace" test "$(number g run_us)" -ge 400000
    expect "took its leave" has t '"timed_out":true' '"exit_code":5' '"stdout":"on\nbye\n"'
}

bounds_of_tree() {
    run <<<'{"call_id":"probe","tool":"shell","input":{"command":"true","cpu_percent_max":50}}'
    if has probe '"code":"TR_ENOSYS"'; then
        skip "no cgroup with the controllers to be had here"
        return
    fi
    run <<'END'
{"call_id":"mem","tool":"shell","input":{"command":"head -c 200000000 /dev/zero | tail -c 100000000 | wc -c","memory_bytes_max":30000000}}
{"call_id":"pids","tool":"shell","input":{"command":"for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait","processes_max":4}}
{"call_id":"cpu","tool":"shell","input":{"command":"true","cpu_percent_max":50}}
END
    expect "exit status $status" is "$status" 1
    expect "memory" has mem '"out_of_memory":true'
    expect "processes" has pids '"outcome":"failed"'
    expect "figures" has cpu '"outcome":"completed"' '"tree_user_us":' '"tree_system_us":'
}

bounds_without_a_tree() {
    run --cgroup none <<'END'
{"call_id":"cpu","tool":"shell","input":{"command":"true","cpu_percent_max":50}}
{"call_id":"mem","tool":"shell","input":{"command":"ulimit -v","memory_bytes_max":1073741824}}
{"call_id":"pids","tool":"shell","input":{"argv":["bash","-c","ulimit -u"],"processes_max":4000}}
END
    expect "processor share" has cpu '"outcome":"failed"' 'cpu_percent_max' 'needs a cgroup with'
    expect "memory" has mem '"stdout":"1048576\n"' '"tree":"group"'
    expect "processes" has pids '"stdout":"4000\n"'
}

# bad MEMBERS MESSAGE: a call of shell with these members fails with this message, and a tools file
# with them is refused with it.
bad() {
    printf '{"call_id":"bad","tool":"shell","input":{"command":"true",%s}}\n' "$1" >"$work/calls"
    run "$work/calls"
    expect "exit status $status for $1" is "$status" 1
    expect "message for $1" has bad '"outcome":"failed"' '"code":"TR_EINVAL"' "${2//\"/\\\"}"
    printf '[{"name":"x","argv":["true"]},{"name":"bad","argv":["true"],%s}]' "$1" >"$work/tools.json"
    run --tools "$work/tools.json" <<<'{"tool":"echo","input":{"text":"x"}}'
    expect "exit status $status for $1 in a tools file" is "$status" 2
    expect "message for $1 in a tools file" said "tools.json: tool 2 (\"bad\"): $2"
    expect "something ran for $1" is "$(wc -c <"$work/out")" 0
}

bad_members() {
    bad '"merge":1' '"merge" must be true or false'
    bad '"terminal":"big"' '"terminal" must be true, false or'
    bad '"terminal":{"rows":0}' '"terminal": "rows" must be a whole number from 1 to 65535'
    bad '"terminal":{"lines":1}' '"terminal": unknown member "lines"'
    bad '"keep_input_open":"yes"' '"keep_input_open" must be true or false'
    bad '"clear_env":null' '"clear_env" must be true or false'
    bad '"lifetime":"forever"' '"lifetime" must be "task", "session", "manager" or "daemon"'
    bad '"overflow":true' '"overflow" must be "drop", "pause" or "kill"'
    bad '"output_bytes_max":0' '"output_bytes_max" must be a whole number from 1 to 1073741824'
    bad '"spill":"here"' '"spill" must be {"directory":PATH'
    bad '"spill":{}' '"spill": "directory" is missing'
    bad '"spill":{"directory":"x","max":1}' '"spill": unknown member "max"'
    bad '"spill":{"directory":"x","bytes_max":-1}' '"spill": "bytes_max" must be a whole number'
    bad '"umask":22' '"umask" must be a string'
    bad '"umask":"099"' '"umask" must be an octal number'
    bad '"umask":"7777"' '"umask" must be an octal number'
    bad '"nice":41' '"nice" must be a whole number from -40 to 40'
    bad '"nice":1.5' '"nice" must be a whole number from -40 to 40'
    bad '"limits":[]' '"limits" must be an object'
    bad '"limits":{"files":1}' '"limits": unknown member "files"'
    bad '"limits":{"nofile":"many"}' '"limits": "nofile" must be a whole number from 0'
    bad '"limits":{"nofile":-1}' '"limits": "nofile" must be a whole number from 0'
    bad '"limits":{"nofile":{"soft":2,"hard":1}}' '"limits": "nofile" must be'
    bad '"limits":{"nofile":{"soft":2}}' '"limits": "nofile" must be'
    bad '"limits":{"nofile":{"soft":2,"most":3}}' '"limits": "nofile": unknown member "most"'
    bad '"memory_bytes_max":0' '"memory_bytes_max" must be a whole number from 1'
    bad '"cpu_percent_max":0' '"cpu_percent_max" must be a whole number from 1'
    bad '"processes_max":"4"' '"processes_max" must be a whole number from 1'
    bad '"grace_ms":0' '"grace_ms" must be a whole number from 1'
    bad '"colour":"red"' 'unknown member "colour"'
}

bad_input_bytes() {
    run <<'END'
{"call_id":"length","tool":"shell","input":{"command":"cat","stdin_base64":"AAA"}}
{"call_id":"letter","tool":"shell","input":{"command":"cat","stdin_base64":"AA A"}}
{"call_id":"bits","tool":"shell","input":{"command":"cat","stdin_base64":"AB=="}}
{"call_id":"middle","tool":"shell","input":{"command":"cat","stdin_base64":"AA==AAAA"}}
{"call_id":"both","tool":"shell","input":{"command":"cat","stdin":"x","stdin_base64":"AAAA"}}
{"call_id":"good","tool":"shell","input":{"command":"od -An -tx1","stdin_base64":"+/8="}}
END
    local id
    for id in length letter bits middle; do
        expect "$id" has "$id" '"outcome":"failed"' 'must be a string of base64, padded with ='
    done
    expect "both" has both '"outcome":"failed"' 'exclude each other'
    expect "good" has good '"stdout":" fb ff\n"'
}

declared() {
    cat >"$work/tools.json" <<'END'
[{"name":"merged","argv":["sh","-c","echo {word}; echo e >&2"],"merge":true,"umask":"077"},
 {"name":"screen","argv":["stty","size"],"terminal":{"rows":5,"columns":6}},
 {"name":"files","argv":["sh","-c","ulimit -n"],"limits":{"nofile":33},"nice":1},
 {"name":"kept","argv":["seq","1","{n}"],"output_bytes_max":100,"spill":{"directory":"."}},
 {"name":"clean","argv":["/usr/bin/env"],"clear_env":true,"env":{"ONLY":"this"}},
 {"name":"deaf","argv":["sh","-c","trap '' TERM; echo on; while :; do sleep 0.1; done"],
  "grace_ms":50,"timeout_ms":300}]
END
    run --tools "$work/tools.json" <<'END'
{"call_id":"m","tool":"merged","input":{"word":"w"}}
{"call_id":"s","tool":"screen"}
{"call_id":"f","tool":"files"}
{"call_id":"k","tool":"kept","input":{"n":1000}}
{"call_id":"k2","tool":"kept","input":{"n":1000}}
{"call_id":"c","tool":"clean"}
{"call_id":"d","tool":"deaf"}
END
    expect "exit status $status" is "$status" 1
    expect "merge" has m '"stdout":"w\ne\n"'
    expect "terminal" has s '"stdout":"5 6\r\n"'
    expect "limits" has f '"stdout":"33\n"'
    expect "spill" has k '"truncated":true' '"stdout_spill_bytes":3893'
    expect "one file for both calls" not is "$(text k stdout_spill_path)" "$(text k2 stdout_spill_path)"
    expect "clear_env" has c '"stdout":"ONLY=this\n"'
    expect "grace" has d '"outcome":"timed_out"' '"signal":9' '"stdout":"on\n"'
}

try fields fields
try merge merge
try terminal terminal
try terminal_input_ends terminal_input_ends
try input_bytes input_bytes
try binary_output binary_output
try environment environment
try bounds_of_output bounds_of_output
try large_output large_output
try spill spill
try mask_and_nice mask_and_nice
try limits limits
try grace grace
try bounds_of_tree bounds_of_tree
try bounds_without_a_tree bounds_without_a_tree
try bad_members bad_members
try bad_input_bytes bad_input_bytes
try declared declared
done_testing
