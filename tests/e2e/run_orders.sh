#!/usr/bin/env bash
# The other orders: wait, idle, pause, interrupt, cancel, detach.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

wait_order() {
    run <<'END'
{"turn":"t1","call_id":"slow","tool":"sleep","input":{"ms":200}}
{"op":"wait","turn":"t1"}
{"turn":"t1","call_id":"after","tool":"echo","input":{"text":"x"}}
END
    expect "exit status $status" is "$status" 0
    expect "not waited" comes_before slow after
}

wait_is_per_turn() {
    start
    send '{"session":"a","turn":"t","call_id":"blocked","tool":"sleep","input":{"ms":600000}}' \
        '{"session":"b","turn":"t","call_id":"short","tool":"sleep","input":{"ms":10}}' \
        '{"op":"wait","session":"b","turn":"t"}' \
        '{"session":"c","call_id":"next","tool":"echo","input":{"text":"x"}}'
    expect "waited for another session's turn" await_line '"call_id":"next"'
    send '{"op":"cancel","call_id":"blocked"}'
    finish
    expect "exit status $status" is "$status" 1
    expect "cancelled" has blocked '"outcome":"cancelled"' '"is_error":true'
    expect "order" comes_before short next
}

# Without a session the turn is the one used last with the label.
wait_latest_session() {
    run <<'END'
{"session":"a","turn":"t","call_id":"one","tool":"echo","input":{"text":"x"}}
{"session":"b","turn":"t","call_id":"two","tool":"sleep","input":{"ms":200}}
{"op":"wait","turn":"t"}
{"call_id":"three","tool":"echo","input":{"text":"x"}}
END
    expect "not waited for the latest" comes_before two three
}

wait_ignores_background() {
    start
    send '{"turn":"t","call_id":"bg","tool":"sleep","input":{"ms":600000},"route":"background"}' \
        '{"turn":"t","call_id":"fg","tool":"echo","input":{"text":"x"}}' \
        '{"op":"wait","turn":"t"}' '{"call_id":"next","tool":"echo","input":{"text":"x"}}'
    expect "waited for a background call" await_line '"call_id":"next"'
    send '{"op":"cancel","call_id":"bg"}'
    finish
    expect "cancelled" has bg '"outcome":"cancelled"' '"kind":"background"'
}

wait_ends_at_detach() {
    start
    send '{"turn":"t","call_id":"d","tool":"sleep","input":{"ms":600000},"route":{"detach_after_ms":30}}' \
        '{"op":"wait","turn":"t"}' '{"call_id":"next","tool":"echo","input":{"text":"x"}}'
    expect "waited for a detached call" await_line '"call_id":"next"'
    send '{"op":"cancel","call_id":"d"}'
    finish
    expect "detached and cancelled" has d '"outcome":"cancelled"' '"detached":true' '"kind":"background"'
}

wait_unknown_turn() {
    run <<'END'
{"op":"wait","turn":"nobody"}
{"op":"interrupt","turn":"nobody"}
{"op":"wait"}
{"op":"idle"}
END
    expect "exit status $status" is "$status" 0
}

idle_order() {
    run <<'END'
{"call_id":"bg","tool":"sleep","input":{"ms":200},"route":"background"}
{"op":"idle"}
{"call_id":"after","tool":"echo","input":{"text":"x"}}
END
    expect "not waited" comes_before bg after
}

pause_order() {
    run <<'END'
{"call_id":"bg","tool":"sleep","input":{"ms":10}}
{"op":"pause","ms":300}
{"op":"pause","ms":0}
{"call_id":"after","tool":"echo","input":{"text":"x"}}
END
    expect "exit status $status" is "$status" 0
    expect "not paused" comes_before bg after
}

interrupt_order() {
    start --events
    send '{"turn":"t","call_id":"f1","tool":"sleep","input":{"ms":600000}}' \
        '{"turn":"t","call_id":"f2","tool":"shell","input":{"command":"echo begun; sleep 600"}}' \
        '{"turn":"t","call_id":"bg","tool":"sleep","input":{"ms":300},"route":"background"}' \
        '{"turn":"other","call_id":"o","tool":"sleep","input":{"ms":300}}'
    expect "not started" await_line '"event":"started"'
    send '{"op":"interrupt","turn":"t"}' '{"op":"wait","turn":"t"}' \
        '{"turn":"t","call_id":"later","tool":"echo","input":{"text":"x"}}'
    finish
    expect "exit status $status" is "$status" 1
    expect "f1" has f1 '"outcome":"cancelled"'
    expect "f2" has f2 '"outcome":"cancelled"'
    expect "background survives" has bg '"outcome":"completed"'
    expect "another turn survives" has o '"outcome":"completed"'
    expect "later calls of the turn run" has later '"outcome":"completed"'
    expect "not five results" results_are 5
}

cancel_keeps_output() {
    start
    send '{"call_id":"c","tool":"shell","input":{"command":"echo partial; touch started; sleep 600"}}'
    expect "did not start" await test -e "$work/cwd/started"
    send '{"op":"cancel","call_id":"c"}'
    finish
    expect "exit status $status" is "$status" 1
    expect "cancelled with output" has c '"outcome":"cancelled"' '"stdout":"partial\n"'
    expect "reason" has c '"reason":"cancelled by the input"'
}

cancel_by_session() {
    start
    send '{"session":"a","call_id":"c","tool":"sleep","input":{"ms":600000}}' \
        '{"session":"b","call_id":"c","tool":"sleep","input":{"ms":300}}' \
        '{"op":"cancel","session":"a","call_id":"c"}'
    finish
    expect "session a" wrote '"session":"a","tool":"sleep","outcome":"cancelled"'
    expect "session b" wrote '"session":"b","tool":"sleep","outcome":"completed"'
}

cancel_ended() {
    run <<'END'
{"call_id":"c","tool":"echo","input":{"text":"x"}}
{"op":"idle"}
{"op":"cancel","call_id":"c"}
{"op":"detach","call_id":"c"}
END
    expect "exit status $status" is "$status" 0
    expect "completed" has c '"outcome":"completed"'
}

cancel_unknown() {
    run <<<'{"op":"cancel","call_id":"never"}'
    expect "exit status $status" is "$status" 2
    expect "error line" wrote '{"type":"error","line":1,"call_id":"never","message":'
}

detach_order() {
    start
    send '{"turn":"t","call_id":"d","tool":"sleep","input":{"ms":600000}}' \
        '{"op":"detach","call_id":"d"}' '{"op":"wait","turn":"t"}' \
        '{"call_id":"next","tool":"echo","input":{"text":"x"}}'
    expect "still waited for" await_line '"call_id":"next"'
    send '{"op":"detach","call_id":"d"}' '{"op":"cancel","call_id":"d"}'
    finish
    expect "detached" has d '"detached":true' '"kind":"background"' '"outcome":"cancelled"'
}

duplicate_call_id() {
    start
    send '{"call_id":"same","tool":"sleep","input":{"ms":600000}}' \
        '{"call_id":"same","tool":"echo","input":{"text":"x"}}'
    expect "accepted twice" await_line '{"type":"error","line":2,"call_id":"same"'
    send '{"op":"cancel","call_id":"same"}' '{"op":"idle"}' \
        '{"call_id":"same","tool":"echo","input":{"text":"again"}}'
    finish
    expect "exit status $status" is "$status" 2
    expect "first" wrote '"tool":"sleep","outcome":"cancelled"'
    expect "an ended id cannot be used again" wrote '"output":{"text":"again"}'
    expect "not two results" results_are 2
}

call_timeout() {
    run <<'END'
{"call_id":"t","tool":"shell","input":{"command":"echo first half; sleep 600; echo second"},"timeout_ms":300}
{"call_id":"s","tool":"sleep","input":{"ms":600000},"timeout_ms":50}
{"call_id":"fine","tool":"sleep","input":{"ms":1},"timeout_ms":60000}
END
    expect "exit status $status" is "$status" 1
    expect "partial output lost" has t '"outcome":"timed_out"' '"stdout":"first half\n"' '"is_error":true'
    expect "sleep" has s '"outcome":"timed_out"'
    expect "in time" has fine '"outcome":"completed"'
}

try wait wait_order
try wait_is_per_turn wait_is_per_turn
try wait_latest_session wait_latest_session
try wait_ignores_background wait_ignores_background
try wait_ends_at_detach wait_ends_at_detach
try wait_unknown_turn wait_unknown_turn
try idle idle_order
try pause pause_order
try interrupt interrupt_order
try cancel_keeps_output cancel_keeps_output
try cancel_by_session cancel_by_session
try cancel_ended cancel_ended
try cancel_unknown cancel_unknown
try detach detach_order
try duplicate_call_id duplicate_call_id
try call_timeout call_timeout
done_testing
