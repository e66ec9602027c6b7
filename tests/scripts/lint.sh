#!/usr/bin/env bash
# The lints must catch what they are there for: each case plants one fault in a small tree and
# expects a finding; the tree without it must pass. Prints PASS and FAIL lines.
set -u

scripts=$(cd "$(dirname "$0")/../../scripts" && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# put FILE TEXT: writes one file of the small tree.
put() {
    mkdir -p "$work/$(dirname "$1")"
    printf '%b\n' "$2" >"$work/$1"
}

clean_tree() {
    rm -rf "${work:?}"/*
    put include/toolring.h '#include <toolring/types.h>'
    put include/toolring/types.h "$good_types"
    put src/base/atomic.h '#include <stdatomic.h>'
    put src/base/probe.c '#include <liburing.h>'
    put src/base/memory.c '#include <mimalloc.h>\n#include "base/atomic.h"'
    put src/parts/mpsc.h '#include "base/atomic.h"'
    put src/parts/inbox.h '#include "parts/mpsc.h"'
    put src/engine/op.h '#include "parts/inbox.h"'
    put src/engine/ring_submit.c '#include <liburing.h>\n#include "engine/op.h"'
    put src/engine/worker.c '#include "engine/op.h"'
    put src/tools/io.h '#include "engine/op.h"\n#include <toolring/types.h>'
    put src/host/manager.c '#include "tools/io.h"\n#include <toolring.h>\n\nint tr_open(int *ret_file)\n{\n}'
    put src/cli/main.c '#include <jansson.h>\n#include "run.h"\n#include <toolring.h>'
}

good_types='/** A handle. @since 0.1 */
typedef struct tr_box tr_box;
/** A kind. @since 0.1 */
typedef enum tr_kind { TR_A = 1, /**< one */ } tr_kind;

/**
 * Opens.
 * @param ret_file receives it
 * @return 0
 * @errors none
 * @threads any
 * @ownership yours
 * @since 0.1
 */
int tr_open(int *ret_file);'

# expect LINT RESULT NAME: runs a lint over the small tree; RESULT is "clean" or "finding".
expect() {
    local result=clean
    "$scripts/$1" --tree "$work" >"$work/log" 2>&1 || result=finding
    if [ "$result" = "$2" ]; then
        printf 'PASS lint::%s\n' "$3"
    else
        printf 'FAIL lint::%s: expected %s, got %s\n' "$3" "$2" "$result"
        cat "$work/log"
    fi
}

# planted LINT NAME FILE TEXT: the small tree with one fault.
planted() {
    clean_tree
    put "$3" "$4"
    expect "$1" finding "$2"
}

# A lint that complains of everything would pass every planted case.
for lint in lint-layers lint-docs lint-size; do
    clean_tree
    expect $lint clean "$lint-clean_tree"
done

planted lint-layers upward src/parts/mpsc.h '#include "engine/op.h"'
planted lint-layers upward_from_base src/base/clock.c '#include "parts/mpsc.h"'
planted lint-layers tools_include_host src/tools/shell.c '#include "host/manager.h"'
planted lint-layers tools_include_host_api src/tools/shell.c '#include <toolring.h>'
planted lint-layers host_includes_builtin src/host/launch.c '#include "tools/builtins.h"'
planted lint-layers engine_neighbour src/engine/worker.c '#include "engine/ring.h"'
planted lint-layers engine_unknown_room src/engine/extra.c '#include "engine/op.h"'
planted lint-layers unknown_floor src/util/list.h '#include <stddef.h>'
planted lint-layers cli_private src/cli/main.c '#include "host/manager.h"'
planted lint-layers public_private include/toolring/types.h '#include "base/atomic.h"'
planted lint-layers liburing_elsewhere src/engine/worker.c '  # include <liburing.h>'
planted lint-layers atomics_elsewhere src/parts/mpsc.h '#include <stdatomic.h>'
planted lint-layers mimalloc_elsewhere src/host/launch.c '#include <mimalloc.h>'
planted lint-layers jansson_elsewhere src/tools/shell.c '#include <jansson.h>'
planted lint-layers includes_source src/parts/mpsc.h '#include "base/memory.c"'
planted lint-layers circle src/parts/mpsc.h '#include "parts/inbox.h"'

# without PATTERN NAME: the good header less the lines that match.
without() {
    clean_tree
    put include/toolring/types.h "$(printf '%s\n' "$good_types" | grep -v "$1")"
    expect lint-docs finding "$2"
}
without '@param' doc_param
without '@return' doc_return
without '@errors' doc_errors
without '@threads' doc_threads
without '@ownership' doc_ownership
without ' \* @since' doc_since
without 'Opens' doc_summary
without 'A kind' doc_enum
planted lint-docs doc_undefined src/host/manager.c 'int tr_open(int *ret_file);'
planted lint-docs doc_declared_twice include/toolring/again.h "$good_types"
planted lint-docs doc_none include/toolring/again.h 'void tr_open_again(void);'

planted lint-size size_file src/host/long.c "$(yes 'int a;' | head -n 501)"
planted lint-size size_function src/host/long.c "void f(void)\n{\n$(yes '    g();' | head -n 68)\n}"
planted lint-size size_line src/host/long.c "/* $(printf '%0100d' 0) */"
clean_tree
put src/host/long.c "void f(void)\n{\n$(yes '    g();' | head -n 67)\n}"
expect lint-size clean size_function_at_limit
