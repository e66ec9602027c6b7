/*
 * The n-th allocation fails, for every n, while a program runs with input, two streams and files:
 * it does not start and leaves nothing, or its output is counted to the last byte.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "support/host.h"

/* More than the first block of a capture. */
#define BYTES 6000u

struct run {
    const char *directory;
    long n;
    int status;
    bool fired;
    tr_process_result result;
};

static int run_program(tr_call *call, void *context)
{
    static char input[BYTES];
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct run *run = tr_call_user(call);
    (void)context;
    memset(input, 'x', sizeof input);
    spec.shell = "exec tee /dev/stderr";
    spec.input.data = input;
    spec.input.size = sizeof input;
    spec.spill_directory = run->directory;
    tr__memory_fail_after(run->n);
    run->status = tr_process(call, &spec, &run->result);
    run->fired = tr__memory_fail_left() == 0;
    tr__memory_fail_after(-1);
    return 0;
}

static void check_output(struct run *run, const tr_process_output *output)
{
    CHECK_EQ_U64(output->total, BYTES);
    CHECK_EQ_U64(output->size + output->omitted, BYTES);
    CHECK(run->fired || output->omitted == 0);
    for (size_t at = 0; at < output->size; at++) {
        CHECK_EQ_INT(output->data[at], 'x');
    }
    CHECK_EQ_U64(output->spill_bytes, BYTES);
    CHECK_EQ_INT(unlink(output->spill_path), 0);
}

static void check_every_allocation(struct rig *rig)
{
    char directory[] = "/tmp/toolring-fault-XXXXXX";
    unsigned refused = 0;
    unsigned omitted = 0;
    struct run run = {.directory = directory, .n = 1, .fired = true};
    tr_tool_id tool = rig_tool(rig, "program", run_program, NULL);
    CHECK(mkdtemp(directory) != NULL);
    for (; run.fired; run.n++) {
        tr_task_id task = rig_launch(rig, tool, &run, TR_ROUTE_FOREGROUND);
        rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
        if (run.status < 0) {
            CHECK_EQ_INT(run.status, TR_ENOMEM);
            refused++;
            continue;
        }
        CHECK_EQ_INT(run.result.exit_code, 0);
        check_output(&run, &run.result.out);
        check_output(&run, &run.result.error);
        omitted += run.result.out.omitted > 0 || run.result.error.omitted > 0;
        tr_process_result_done(&run.result);
    }
    CHECK(refused > 2 && omitted > 2); /* else nothing was tried */
    CHECK_EQ_INT(rmdir(directory), 0); /* no file was left */
}

THREADED(fault_streams, every_allocation)
{
    check_every_allocation(rig);
}

INLINE(fault_streams, every_allocation_inline)
{
    check_every_allocation(rig);
}
