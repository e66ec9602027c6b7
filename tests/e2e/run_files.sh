#!/usr/bin/env bash
# The tools read_file, write_file, list_dir, sleep, echo.
. "$(dirname "${BASH_SOURCE[0]}")/support.bash"

write_and_read() {
    run <<'END'
{"call_id":"w","tool":"write_file","input":{"path":"f.txt","content":"one\ntwo ü\n"}}
{"op":"idle"}
{"call_id":"r","tool":"read_file","input":{"path":"f.txt"}}
{"call_id":"part","tool":"read_file","input":{"path":"f.txt","offset":4,"limit":3}}
{"call_id":"cut","tool":"read_file","input":{"path":"f.txt","limit":9}}
{"call_id":"past","tool":"read_file","input":{"path":"f.txt","offset":1000}}
{"op":"idle"}
{"call_id":"a","tool":"write_file","input":{"path":"f.txt","content":"three\u0000\n","append":true}}
{"op":"idle"}
{"call_id":"all","tool":"read_file","input":{"path":"f.txt"}}
{"call_id":"empty","tool":"write_file","input":{"path":"g.txt","content":""}}
END
    expect "exit status $status" is "$status" 0
    expect "write" has w '"bytes":11' '"appended":false'
    expect "read" has r '"content":"one\ntwo ü\n"' '"bytes":11' '"size":11' '"truncated":false'
    expect "part" has part '"content":"two"' '"offset":4' '"truncated":true' '"next_offset":7'
    expect "cut between characters" has cut '"content":"one\ntwo "' '"next_offset":8'
    expect "past the end" has past '"content":""' '"bytes":0' '"truncated":false'
    expect "append" has a '"appended":true'
    expect "appended" has all '"content":"one\ntwo ü\nthree\u0000\n"'
    expect "file" is "$(wc -c <"$work/cwd/f.txt")" 18
    expect "empty file" test -f "$work/cwd/g.txt"
    expect "left-overs" is "$(find "$work/cwd" -type f | wc -l)" 2
}

replaces_at_one_stroke() {
    printf 'old' >"$work/cwd/target"
    chmod 640 "$work/cwd/target"
    ln "$work/cwd/target" "$work/cwd/other-name"
    ln -s target "$work/cwd/link"
    run <<<'{"call_id":"w","tool":"write_file","input":{"path":"link","content":"new"}}'
    expect "exit status $status" is "$status" 0
    expect "content" is "$(cat "$work/cwd/target")" new
    expect "mode" is "$(stat -c %a "$work/cwd/target")" 640
    expect "the link was replaced" test -L "$work/cwd/link"
    ln -s folder/ahead "$work/cwd/to-nothing"
    ln -s to-nothing "$work/cwd/twice"
    ln -s round "$work/cwd/round"
    mkdir "$work/cwd/folder"
    run <<'END'
{"call_id":"nothing","tool":"write_file","input":{"path":"twice","content":"new"}}
{"call_id":"round","tool":"write_file","input":{"path":"round","content":"new"}}
END
    expect "a link to nothing" has nothing '"outcome":"completed"'
    expect "the link to nothing was replaced" test -L "$work/cwd/to-nothing"
    expect "not where the links lead" is "$(cat "$work/cwd/folder/ahead")" new
    expect "a link to itself" has round 'cannot write round: Too many levels of symbolic links'
    expect "the link to itself was replaced" test -L "$work/cwd/round"
    expect "the old file was written into" is "$(cat "$work/cwd/other-name")" old
}

many_writers() {
    local n
    for n in $(seq 1 200); do
        printf '{"call_id":"w%d","tool":"write_file","input":{"path":"same","content":"%s"}}\n' "$n" \
            "$(printf "$((n % 10))%.0s" $(seq 1 2000))"
    done >"$work/calls"
    run "$work/calls"
    expect "exit status $status" is "$status" 0
    expect "mixed contents" is "$(fold -w1 "$work/cwd/same" | sort -u | wc -l)" 1
    expect "size" is "$(wc -c <"$work/cwd/same")" 2000
    expect "left-overs" is "$(find "$work/cwd" -type f | wc -l)" 1
}

binary_content() {
    printf 'a\377b' >"$work/cwd/f"
    run <<<'{"call_id":"r","tool":"read_file","input":{"path":"f"}}'
    expect "content" has r $'"content":"a\xef\xbf\xbdb"' '"content_base64":"Yf9i"'
}

large_file() {
    head -c 3000000 /dev/zero | tr '\0' z >"$work/cwd/f"
    run <<'END'
{"call_id":"r","tool":"read_file","input":{"path":"f"}}
{"call_id":"more","tool":"read_file","input":{"path":"f","limit":99999999}}
END
    expect "read" has r '"bytes":1048576' '"size":3000000' '"truncated":true' '"next_offset":1048576'
    expect "limit" has more '"bytes":1048576'
}

no_regular_file() {
    mkfifo "$work/cwd/pipe"
    mkdir "$work/cwd/folder"
    run <<'END'
{"call_id":"rp","tool":"read_file","input":{"path":"pipe"}}
{"call_id":"rd","tool":"read_file","input":{"path":"folder"}}
{"call_id":"wp","tool":"write_file","input":{"path":"pipe","content":"x"}}
{"call_id":"wa","tool":"write_file","input":{"path":"pipe","content":"x","append":true}}
{"call_id":"wd","tool":"write_file","input":{"path":"folder","content":"x"}}
{"call_id":"rn","tool":"read_file","input":{"path":"nothing"}}
{"call_id":"wn","tool":"write_file","input":{"path":"no/where","content":"x"}}
{"call_id":"ln","tool":"list_dir","input":{"path":"nothing"}}
{"call_id":"proc","tool":"read_file","input":{"path":"/proc/self/cmdline"}}
END
    expect "exit status $status" is "$status" 1
    expect "read a pipe" has rp '"outcome":"failed"' 'is no regular file'
    expect "read a directory" has rd '"outcome":"failed"' 'is no regular file'
    expect "write a pipe" has wp '"outcome":"failed"' 'is no regular file'
    expect "append to a pipe" has wa '"outcome":"failed"' 'is no regular file'
    expect "write a directory" has wd '"outcome":"failed"' 'Is a directory'
    expect "read nothing" has rn '"outcome":"failed"' '"code":"TR_ENOENT"' 'No such file'
    expect "write nowhere" has wn '"outcome":"failed"' 'No such file'
    expect "list nothing" has ln '"outcome":"failed"' 'No such file'
    expect "a file without a size" has proc '"outcome":"completed"' 'toolring'
}

listing() {
    mkdir "$work/cwd/b-folder"
    printf 12345 >"$work/cwd/a-file"
    ln -s a-file "$work/cwd/c-link"
    printf x >"$work/cwd/.hidden"
    printf x >"$work/cwd/"$'\xff'
    run <<'END'
{"call_id":"l","tool":"list_dir","input":{"path":"."}}
{"call_id":"e","tool":"list_dir","input":{"path":"b-folder"}}
END
    expect "exit status $status" is "$status" 0
    expect "entries" has l '"entries":[{"name":".hidden","type":"file","size":1},{"name":"a-file","type":"file","size":5},{"name":"b-folder","type":"directory",' \
        '{"name":"c-link","type":"link","size":6}' '"name_base64":"/w=="' '"count":5' '"truncated":false'
    expect "empty" has e '"entries":[],"count":0'
}

bad_input() {
    run <<'END'
{"call_id":"r0","tool":"read_file"}
{"call_id":"r1","tool":"read_file","input":{"path":7}}
{"call_id":"r2","tool":"read_file","input":{"path":"f","limit":0}}
{"call_id":"r3","tool":"read_file","input":{"file":"f"}}
{"call_id":"w0","tool":"write_file","input":{"path":"f"}}
{"call_id":"w1","tool":"write_file","input":{"path":"f","content":7}}
{"call_id":"w2","tool":"write_file","input":{"path":"f","content":"x","append":"yes"}}
{"call_id":"l0","tool":"list_dir","input":{}}
{"call_id":"s0","tool":"sleep","input":{}}
{"call_id":"s1","tool":"sleep","input":{"ms":-1}}
{"call_id":"s2","tool":"sleep","input":{"ms":0.5}}
{"call_id":"e0","tool":"echo","input":{}}
{"call_id":"e1","tool":"echo","input":{"text":["x"]}}
{"call_id":"e2","tool":"echo","input":{"text":"x","loud":true}}
END
    expect "exit status $status" is "$status" 1
    local id
    for id in r0 r1 r2 r3 w0 w1 w2 l0 s0 s1 s2 e0 e1 e2; do
        expect "$id" has "$id" '"outcome":"failed"' '"code":"TR_EINVAL"' '"output":{"error":"'
    done
    expect "message" has r3 'unknown member \"file\"'
    expect "written anyway" test ! -e "$work/cwd/f"
}

plain_ones() {
    run <<'END'
{"call_id":"s","tool":"sleep","input":{"ms":0}}
{"call_id":"e","tool":"echo","input":{"text":""}}
{"call_id":"u","tool":"echo","input":{"text":"\ud83d\ude00 \u0000 \\ \" \u001f"}}
END
    expect "exit status $status" is "$status" 0
    expect "sleep" has s '"output":{"slept_ms":0}'
    expect "empty" has e '"output":{"text":""}'
    expect "odd characters" has u $'"text":"\xf0\x9f\x98\x80 \\u0000 \\\\ \\" \\u001f"'
}

try write_and_read write_and_read
try replaces_at_one_stroke replaces_at_one_stroke
try many_writers many_writers
try binary_content binary_content
try large_file large_file
try no_regular_file no_regular_file
try listing listing
try bad_input bad_input
try plain_ones plain_ones
done_testing
