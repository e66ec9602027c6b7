#!/usr/bin/env bash
# Nothing of a program is left when its call has ended, whatever it started and however it ended.
# Survivors are found by a mark in their environment, and only those are counted.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

# Everything that is known to get away: a session of its own, a double fork, nohup, ignored
# signals, a stopped child, and a child that keeps forking while it is killed (500 at most).
tree='
setsid sleep 600 &
(setsid sh -c "sleep 600 & sleep 600 & exit" &)
nohup sleep 600 > nohup.out 2>&1 &
sh -c "trap \"\" TERM HUP INT; while :; do sleep 600; done" &
sleep 600 & kill -STOP $!
setsid sh -c "trap \"\" TERM; i=0; while [ \$i -lt 500 ]; do setsid sleep 600 & i=\$((i + 1)); done; wait" &
echo begun
echo $$ > leader
'

# The same without what leaves the process group.
group='
nohup sleep 600 > nohup.out 2>&1 &
sh -c "trap \"\" TERM HUP INT; while :; do sleep 600; done" &
sleep 600 & kill -STOP $!
echo begun
echo $$ > leader
'

# call ID SCRIPT MEMBERS [CALL_MEMBERS]: a call line that runs a script with the mark.
call() {
    printf '%s\n' "$2" >"$work/cwd/$1.sh"
    printf '{"call_id":"%s","tool":"shell","input":{"command":"exec sh ./%s.sh","env":{"MARK":"%s"}%s}%s}\n' \
        "$1" "$1" "$mark" "${3:-}" "${4:-}"
}

# sit SCRIPT [OPTION...]: starts the program and a call with that script, which then waits; returns
# when everything is there.
sit() {
    local script=$1
    shift
    start "$@"
    send "$(call tree "$script wait" ',"grace_ms":200' "${timeout:-}")"
    expect "did not start" await test -s "$work/cwd/leader"
    expect "only $(marked) processes" await more_than 4
}

more_than() {
    [ "$(marked)" -gt "$1" ]
}

none_left() {
    [ "$(marked)" -eq 0 ]
}

over() {
    expect "$(marked) processes are left" await none_left
    expect "output lost" has tree '"stdout":"begun\n"'
}

# ways SCRIPT OPTION...: every way in which a call can end, with those options.
ways() {
    local script=$1
    shift

    sit "$script" "$@"
    send '{"op":"cancel","call_id":"tree"}' '{"op":"idle"}'
    expect "no result" await_line '"type":"result"'
    over
    finish
    expect "cancel" has tree '"outcome":"cancelled"'
    again

    sit "$script" "$@"
    kill -INT "$child"
    expect "no result" await_line '"type":"result"'
    over
    finish
    expect "interrupt" has tree '"outcome":"cancelled"'
    again

    sit "$script" "$@"
    kill -TERM "$child"
    finish
    over
    expect "end of the run" has tree '"outcome":"cancelled"'
    again

    timeout=',"timeout_ms":1500'
    sit "$script" "$@"
    timeout=
    finish
    over
    expect "timeout" has tree '"outcome":"timed_out"'
    again

    # Nothing but the leader is killed, and that by somebody else.
    sit "$script" "$@"
    kill -KILL "$(cat "$work/cwd/leader")"
    expect "no result" await_line '"type":"result"'
    over
    finish
    expect "leader killed" has tree '"outcome":"failed"' '"signal":9'
    again

    # The leader leaves all of it behind.
    start "$@"
    send "$(call tree "$script exit 0" ',"grace_ms":200')"
    expect "no result" await_line '"type":"result"'
    over
    finish
    expect "exit" has tree '"outcome":"completed"' '"exit_code":0'
    expect "swept $(number tree swept)" test "$(number tree swept)" -ge 1
    again

    # Its own timeout, and the end of the orders while it runs.
    { call tree "$script wait" ',"timeout_ms":1000,"grace_ms":100'; } >"$work/calls"
    run "$@" "$work/calls"
    over
    expect "own timeout" has tree '"code":"TR_ETIMEDOUT"' '"timed_out":true'
}

# Between two ways.
again() {
    expect "exit status $status" not is "$status" 2
    rm -rf "$work/to" "$work/from" "$work/cwd"/*
}

in_a_cgroup() {
    if ! tree_is cgroup; then
        skip "no cgroup to be had here: $(text probe tree)"
        return
    fi
    ways "$tree"
    expect "not by cgroup" has tree '"tree":"cgroup"'
}

by_sweep() {
    if ! as_plain_user; then
        skip "the program cannot be run by another user here"
        return
    fi
    run --subreaper <<<'{"call_id":"probe","tool":"shell","input":{"command":"true"}}'
    if ! is "$(text probe tree)" sweep; then
        skip "a plain user has a cgroup here: $(text probe tree)"
        return
    fi
    ways "$tree" --subreaper
    expect "not by sweep" has tree '"tree":"sweep"'
}

by_group() {
    ways "$group" --cgroup none
    expect "not by group" has tree '"tree":"group"'
}

# lives LIFETIME: a descendant goes on after its call, to the end of the run, and is reported.
lives() {
    start
    send "$(call tree 'setsid sleep 600 & echo begun' ",\"lifetime\":\"$1\"")"
    expect "no result" await_line '"type":"result"'
    expect "reported" has tree '"outcome":"completed"' '"survivors":1' '"swept":0'
    expect "ended with its call" more_than 0
    send '{"call_id":"later","tool":"echo","input":{"text":"x"}}'
    expect "no second result" await_line '"call_id":"later"'
    expect "ended with another call" more_than 0
    finish
    expect "exit status $status" is "$status" 0
    over
}

lifetime_session() {
    if ! tree_is cgroup; then
        skip "no cgroup to be had here"
        return
    fi
    lives session
}

lifetime_manager() {
    if ! tree_is cgroup; then
        skip "no cgroup to be had here"
        return
    fi
    lives manager
}

# A call that is stopped is stopped with everything, whatever its lifetime.
lifetime_of_the_stopped() {
    local lifetime
    for lifetime in session manager daemon; do
        start
        send "$(call tree "$group wait" ",\"grace_ms\":200,\"lifetime\":\"$lifetime\"")"
        expect "did not start" await test -s "$work/cwd/leader"
        send '{"op":"cancel","call_id":"tree"}'
        finish
        over
        again
    done
}

# A daemon is left alone on purpose: this test ends it by its number.
lifetime_daemon() {
    local pid
    call tree 'setsid sleep 600 > out 2>&1 & echo $! > daemon; echo begun' ',"lifetime":"daemon"' >"$work/calls"
    run "$work/calls"
    pid=$(cat "$work/cwd/daemon")
    expect "exit status $status" is "$status" 0
    expect "reported" has tree '"outcome":"completed"' '"survivors":1' '"swept":0' '"stdout":"begun\n"'
    expect "waited for it" test "$(number tree run_us)" -lt 30000000
    expect "it did not live on" is_alive "$pid"
    expect "$(marked) live on" is "$(marked)" 1
    kill -KILL "$pid"
    expect "it cannot be ended" await none_left
}

# The program itself is killed: what it had in its cgroups is ended by the next one.
after_a_crash() {
    if ! tree_is cgroup; then
        skip "no cgroup to be had here"
        return
    fi
    sit 'setsid sleep 600 & setsid sleep 600 & setsid sleep 600 & setsid sleep 600 & echo begun; echo $$ > leader;'
    kill -KILL "$child"
    wait "$child" 2>/dev/null
    child=
    expect "the leader is left" await is_gone "$(cat "$work/cwd/leader")"
    # Whichever manager is opened next ends them; it need not be this one.
    run <<<'{"tool":"shell","input":{"command":"true"}}'
    expect "exit status $status" is "$status" 0
    expect "$(marked) processes are left" await none_left
}

try in_a_cgroup in_a_cgroup
try by_sweep by_sweep
try by_group by_group
try lifetime_session lifetime_session
try lifetime_manager lifetime_manager
try lifetime_of_the_stopped lifetime_of_the_stopped
try lifetime_daemon lifetime_daemon
try after_a_crash after_a_crash
done_testing
