#!/usr/bin/env bash
# Tools of a tools file.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

good_file() {
    cat >"$work/tools.json" <<'END'
[
 {"name":"grep","argv":["grep","-n","--","{pattern}","{path}"]},
 {"name":"show","argv":["printf","%s|","{a}","x{b}y{b}","{{{c}}}"]},
 {"name":"json","argv":["cat"],"stdin":"{{\"value\": {value}}}"},
 {"name":"place","argv":["sh","-c","basename \"$(pwd)\"; echo $ADDED"],"cwd":"sub","env":{"ADDED":"yes"}},
 {"name":"slow","argv":["sh","-c","echo begun; sleep 600"],"timeout_ms":200},
 {"name":"later","argv":["true"],"route":"background","delivery":"manual"},
 {"name":"small","argv":["seq","1","2000"],"output_bytes_max":1000}
]
END
}

declared_tools() {
    good_file
    mkdir "$work/cwd/sub"
    printf 'one\ntwo words\n' >"$work/cwd/f"
    run --tools "$work/tools.json" <<'END'
{"call_id":"g","tool":"grep","input":{"pattern":"two words","path":"f"}}
{"call_id":"s","tool":"show","input":{"a":"$HOME; `x` 'y' \"z\"","b":-1.5,"c":true}}
{"call_id":"j","tool":"json","input":{"value":12345678901}}
{"call_id":"p","tool":"place"}
{"call_id":"slow","tool":"slow"}
{"call_id":"longer","tool":"slow","timeout_ms":400}
{"call_id":"later","tool":"later"}
{"call_id":"here","tool":"later","route":"foreground"}
{"call_id":"small","tool":"small"}
END
    expect "exit status $status" is "$status" 1
    expect "blank in an argument" has g '"stdout":"2:two words\n"'
    expect "placeholders" has s $'"stdout":"$HOME; `x` \'y\' \\"z\\"|x-1.5y-1.5|{true}|"'
    expect "standard input" has j '"stdout":"{\"value\": 12345678901}"'
    expect "cwd and env" has p '"stdout":"sub\nyes\n"'
    expect "timeout" has slow '"outcome":"timed_out"' '"stdout":"begun\n"'
    expect "the call's timeout wins" has longer '"outcome":"timed_out"'
    expect "route" has later '"kind":"background"' '"channel":"ready"'
    expect "the call's route wins" has here '"kind":"foreground"'
    expect "output cap" has small '"truncated":true' '"stdout_omitted_bytes":'
}

bad_calls() {
    good_file
    run --tools "$work/tools.json" <<'END'
{"call_id":"missing","tool":"grep","input":{"pattern":"x"}}
{"call_id":"unknown","tool":"grep","input":{"pattern":"x","path":"f","flags":"-r"}}
{"call_id":"list","tool":"grep","input":{"pattern":["x"],"path":"f"}}
{"call_id":"null","tool":"grep","input":{"pattern":null,"path":"f"}}
{"call_id":"zero","tool":"grep","input":{"pattern":"a\u0000b","path":"f"}}
END
    expect "exit status $status" is "$status" 1
    expect "missing" has missing '"outcome":"failed"' '\"path\" is missing'
    expect "unknown" has unknown '"outcome":"failed"' 'unknown member \"flags\"'
    expect "list" has list '"outcome":"failed"' 'must be a string, a number, true or false'
    expect "null" has null '"outcome":"failed"' 'must be a string, a number, true or false'
    expect "zero" has zero '"outcome":"failed"' 'zero byte'
}

# refused CONTENT MESSAGE: the file is refused with status 2 and that message, naming the file.
refused() {
    printf '%s' "$1" >"$work/tools.json"
    run --tools "$work/tools.json" <<<'{"tool":"echo","input":{"text":"x"}}'
    expect "exit status $status for $1" is "$status" 2
    expect "message for $1" said "$2"
    expect "the file's name for $1" said "tools.json"
    expect "something ran for $1" is "$(wc -c <"$work/out")" 0
}

bad_files() {
    refused '[{"name":"a",]' 'line 1, column'
    refused '{}' 'must be a list'
    refused '[7]' 'tool 1: must be an object'
    refused '[{"argv":["x"]}]' 'tool 1: "name" is missing'
    refused '[{"name":"a b","argv":["x"]}]' 'letters, digits'
    refused '[{"name":"a"}]' 'tool 1 ("a"): "argv" must be'
    refused '[{"name":"a","argv":[]}]' '"argv" must be'
    refused '[{"name":"a","argv":["","x"]}]' 'tool 1 ("a"): "argv": the program'"'"'s name is empty'
    refused '[{"name":"a","argv":["{"]}]' 'a placeholder is {name}'
    refused '[{"name":"a","argv":["{1x}"]}]' 'a placeholder is {name}'
    refused '[{"name":"a","argv":["x}y"]}]' 'a placeholder is {name}'
    refused '[{"name":"a","argv":["x"],"colour":"red"}]' 'unknown member "colour"'
    refused '[{"name":"a","argv":["x"],"route":"up"}]' '"route" must be'
    refused '[{"name":"a","argv":["x"],"output_bytes_max":0}]' '"output_bytes_max" must be'
    refused '[{"name":"a","argv":["x"],"env":{"A":1}}]' '"env": "A" must be'
    refused '[{"name":"shell","argv":["x"]}]' 'there is a tool of that name already'
    refused '[{"name":"a","argv":["x"]},{"name":"a","argv":["x"]}]' 'tool 2 ("a"): there is'
    rm "$work/tools.json"
    run --tools "$work/tools.json" </dev/null
    expect "exit status $status for a missing file" is "$status" 2
    expect "message for a missing file" said "tools.json: No such file or directory"
    run --tools "$work/cwd" </dev/null
    expect "exit status $status for a folder" is "$status" 2
    expect "message for a folder" said "cannot read the tools: $work/cwd: Is a directory"
}

many_tools() {
    awk 'BEGIN { printf "["; for (i = 0; i < 2000; i++) printf "%s{\"name\":\"t%d\",\"argv\":[\"echo\",\"%d\"]}", i ? "," : "", i, i; print "]" }' \
        >"$work/tools.json"
    run --tools "$work/tools.json" <<<'{"call_id":"c","tool":"t1999"}'
    expect "exit status $status" is "$status" 0
    expect "the last tool" has c '"stdout":"1999\n"'
}

try declared_tools declared_tools
try bad_calls bad_calls
try bad_files bad_files
try many_tools many_tools
done_testing
