#!/usr/bin/env bash
# Event lines.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

# Events of a call, in their order, as one line of words.
events_of() {
    grep '^{"type":"event"' "$work/out" | grep -F "\"call_id\":\"$1\"" |
        sed 's/.*"event":"\([a-z_]*\)".*/\1/' | grep -v -e output -e progress | tr '\n' ' '
}

no_events_unless_asked() {
    run <<<'{"tool":"echo","input":{"text":"x"}}'
    expect "events" not wrote '"type":"event"'
}

life_of_calls() {
    run --events <<'END'
{"session":"s","turn":"t","call_id":"good","tool":"echo","input":{"text":"x"},"metadata":{"k":1}}
{"call_id":"bad","tool":"shell","input":{"command":"exit 1"}}
{"call_id":"moved","tool":"sleep","input":{"ms":200},"route":{"detach_after_ms":20},"continue":"request"}
{"call_id":"late","tool":"sleep","input":{"ms":600000},"timeout_ms":50}
END
    expect "exit status $status" is "$status" 1
    expect "completed: $(events_of good)" is "$(events_of good)" "queued started completed "
    expect "failed: $(events_of bad)" is "$(events_of bad)" "queued started failed "
    expect "detached: $(events_of moved)" \
        is "$(events_of moved)" "queued started detached completed continue_requested "
    expect "timed out: $(events_of late)" is "$(events_of late)" "queued started timed_out "
    expect "labels" wrote '"turn":"t","session":"s","tool":"echo"'
    expect "metadata" wrote '"state":"ended","metadata":{"k":1}}'
    expect "times" not grep -v '"time_us":[0-9]' <(grep '"type":"event"' "$work/out")
    expect "not four results" results_are 4
}

# Every line is one whole object although two threads write.
whole_lines() {
    local n
    for n in $(seq 1 5000); do
        printf '{"turn":"t%d","call_id":"c%d","tool":"echo","input":{"text":"x"}}\n' $((n % 50)) "$n"
    done >"$work/calls"
    run --events "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "not 5000 results" results_are 5000
    expect "broken lines" not grep -qvE '^\{"type":"(event|result)".*\}$' "$work/out"
    expect "mixed lines" not grep -qE '\}\{"type"' "$work/out"
    expect "events and what was missed do not add up" is "$(
        awk '/"event":"gap"/ { sub(/.*"missed":/, ""); seen += $0 + 0; next }
             /"type":"event"/ { seen++ } END { print seen }' "$work/out"
    )" 15000
}

try no_events_unless_asked no_events_unless_asked
try life_of_calls life_of_calls
try whole_lines whole_lines
done_testing
