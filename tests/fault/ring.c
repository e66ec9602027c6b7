/*
 * The ring breaks under a running manager, played by a seccomp filter over all threads: whatever
 * needs the kernel's ring ends as `lost`, nothing hangs, and timers, plain tools and the close go
 * on.
 */
#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/host.h"
#include "support/refuse.h"

/* From here on io_uring_enter fails, for good; and io_uring_setup, if `setup_too`. */
static void break_io_uring(bool setup_too)
{
    static const struct refusal refusals[] = {{SYS_io_uring_enter, REFUSE_ANY, 0, false},
                                              {SYS_io_uring_setup, REFUSE_ANY, 0, false}};
    CHECK(refuse_calls(refusals, setup_too ? 2 : 1, EBADF));
}

/* Tools. The user pointer is a struct gate: they come to it before they wait. */

static int wait_for(tr_call *call, tr_io *io)
{
    tr_io *done = NULL;
    int status = tr_io_wait(call, 0, &done);
    if (status < 0) {
        tr_io_cancel(call, io);
        CHECK_EQ_INT(tr_io_wait(call, TR_IO_SHIELD, &done), 0);
        return status;
    }
    return io->result < 0 ? (int)io->result : 0;
}

static int run_read(tr_call *call, void *context)
{
    const int *pipe_ends = context;
    char byte = 0;
    tr_io io;
    memset(&io, 0, sizeof io);
    (void)gate_enter(tr_call_user(call));
    CHECK_EQ_INT(tr_io_read(call, &io, pipe_ends[0], &byte, 1), 0);
    return wait_for(call, &io);
}

static int run_poll(tr_call *call, void *context)
{
    const int *pipe_ends = context;
    tr_io io;
    memset(&io, 0, sizeof io);
    (void)gate_enter(tr_call_user(call));
    CHECK_EQ_INT(tr_io_poll(call, &io, pipe_ends[0], POLLIN), 0);
    return wait_for(call, &io);
}

static int run_sleep(tr_call *call, void *context)
{
    (void)context;
    (void)gate_enter(tr_call_user(call));
    return tr_sleep(call, 20 * TR_MILLISECOND);
}

/* Tolerates it: the reading fails, the call does not. */
static int run_tolerant(tr_call *call, void *context)
{
    return run_read(call, context) == TR_ERING ? 0 : TR_ETOOL;
}

enum {
    READERS = 20,
    KINDS = 4,
};

static tr_outcome outcome_of(struct rig *rig, tr_task_id task, int *ret_code)
{
    for (;;) {
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        tr_item item = batch->items[0];
        tr_batch_release(batch);
        if (item.task == task) {
            *ret_code = item.code;
            return item.outcome;
        }
    }
}

/* What needs no ring works as before; what does fails at once. */
static void check_afterwards(struct rig *rig, struct gate *gate, const tr_tool_id *tools)
{
    int code = 0;
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(outcome_of(rig, task, &code), TR_OUTCOME_COMPLETED);
    task = rig_launch(rig, tools[2], gate, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(outcome_of(rig, task, &code), TR_OUTCOME_COMPLETED);
    task = rig_launch(rig, tools[1], gate, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(outcome_of(rig, task, &code), TR_OUTCOME_LOST);
    CHECK_EQ_INT(code, TR_ERING);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->deferred); /* timeouts too */
    request.user = gate;
    request.options.total_timeout_ns = 10 * TR_MILLISECOND;
    task = rig_launch_request(rig, &request).task;
    CHECK_EQ_INT(outcome_of(rig, task, &code), TR_OUTCOME_TIMED_OUT);
}

static void check_break(bool setup_too)
{
    struct rig rig;
    struct gate gate;
    int pipe_ends[2];
    CHECK_EQ_INT(pipe(pipe_ends), 0);
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, NULL);
    const struct {
        const char *name;
        tr_tool_function function;
        tr_outcome outcome;
    } kinds[KINDS] = {{"read", run_read, TR_OUTCOME_LOST},
                      {"poll", run_poll, TR_OUTCOME_LOST},
                      {"sleep", run_sleep, TR_OUTCOME_COMPLETED},
                      {"tolerant", run_tolerant, TR_OUTCOME_COMPLETED}};
    tr_tool_id tools[KINDS];
    for (unsigned at = 0; at < KINDS; at++) {
        tr_tool tool = TR_TOOL_INIT(kinds[at].name, kinds[at].function);
        tool.flags = TR_TOOL_AWAITING;
        tool.context = pipe_ends;
        CHECK_EQ_INT(tr_tool_register(rig.manager, &tool, &tools[at]), 0);
    }
    tr_reader *reader = NULL;
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    options.types = UINT64_C(1) << TR_EVENT_LOST;
    CHECK_EQ_INT(tr_reader_open(rig.manager, &options, &reader), 0);
    for (unsigned at = 0; at < READERS; at++) {
        (void)rig_launch(&rig, tools[at % KINDS], &gate, TR_ROUTE_FOREGROUND);
    }
    gate_await_entered(&gate, READERS);
    break_io_uring(setup_too);
    /* The ring finds out when it is woken next: a waiter of another kind does that. */
    (void)rig_launch(&rig, tools[0], &gate, TR_ROUTE_FOREGROUND);
    unsigned lost = 0;
    for (unsigned at = 0; at < READERS + 1; at++) {
        tr_batch *batch = rig_turn_take(&rig, rig.turn);
        const tr_item *item = &batch->items[0];
        for (unsigned kind = 0; kind < KINDS; kind++) {
            if (item->tool == tools[kind]) {
                CHECK_EQ_INT(item->outcome, kinds[kind].outcome);
                CHECK_EQ_INT(item->code, item->outcome == TR_OUTCOME_LOST ? TR_ERING : 0);
            }
        }
        lost += item->outcome == TR_OUTCOME_LOST;
        tr_batch_release(batch);
    }
    CHECK_EQ_INT(lost, READERS / 2 + 1);
    CHECK_EQ_U64(rig_stats(&rig).lost, lost);
    tr_event events[64];
    CHECK_EQ_INT(tr_reader_read(reader, events, 64, 0), lost);
    tr_reader_close(reader);

    check_afterwards(&rig, &gate, tools);
    rig_turn_is_idle(&rig, rig.turn);
    rig_close(&rig);
    gate_done(&gate);
    CHECK_EQ_INT(close(pipe_ends[0]), 0);
    CHECK_EQ_INT(close(pipe_ends[1]), 0);
}

CASE_TIMEOUT(broken_ring, cannot_be_made_again, RIG_TIMEOUT_SECONDS)
{
    check_break(true);
}

CASE_TIMEOUT(broken_ring, breaks_at_once_again, RIG_TIMEOUT_SECONDS)
{
    check_break(false);
}
