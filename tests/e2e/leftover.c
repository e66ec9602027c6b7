/*
 * Functions that return with requests under way: the engine takes them back, and the call fails.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "support/host.h"

enum left {
    LEFT_RETURN,    /* static requests, returns 0 */
    LEFT_DEFERRED,  /* likewise, returns TR_DEFERRED */
    LEFT_ON_STACK,  /* requests in its own frame */
    LEFT_CANCELLED, /* it has asked for them back, and does not wait */
    LEFTS,
};

struct leaver {
    enum left how;
    int ends[2];
    char byte;
    tr_io io[3];
    tr_deferred deferred;
};

static void start(tr_call *call, struct leaver *leaver, tr_io *io)
{
    CHECK_EQ_INT(tr_io_read(call, &io[0], leaver->ends[0], &leaver->byte, 1), 0);
    CHECK_EQ_INT(tr_io_timer(call, &io[1], TR_SECOND * 1000), 0);
    CHECK_EQ_INT(tr_io_poll(call, &io[2], leaver->ends[0], POLLIN), 0);
}

static int run_leave(tr_call *call, void *context)
{
    struct leaver *leaver = tr_call_user(call);
    tr_io here[3];
    (void)context;
    memset(here, 0, sizeof here);
    memset(leaver->io, 0, sizeof leaver->io);
    leaver->deferred = tr_call_defer(call);
    start(call, leaver, leaver->how == LEFT_ON_STACK ? here : leaver->io);
    if (leaver->how == LEFT_CANCELLED) {
        tr_io_cancel(call, &leaver->io[0]);
        tr_io_cancel(call, &leaver->io[1]);
    }
    return leaver->how == LEFT_DEFERRED ? TR_DEFERRED : tr_result_copy(call, "left", 4);
}

static void check_left(struct rig *rig, uint32_t flags, tr_route route)
{
    static unsigned number;
    char name[32];
    (void)snprintf(name, sizeof name, "leave %u", number++);
    tr_tool tool = TR_TOOL_INIT(name, run_leave);
    tr_tool_id id = 0;
    tool.flags = flags;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    for (unsigned how = 0; how < LEFTS; how++) {
        struct leaver leaver;
        memset(&leaver, 0, sizeof leaver);
        leaver.how = (enum left)how;
        CHECK_EQ_INT(pipe2(leaver.ends, O_CLOEXEC), 0);
        tr_request request = TR_REQUEST_INIT(rig->turn, id);
        tr_launched launched;
        request.user = &leaver;
        request.options.route = route;
        int status = tr_launch(rig->manager, &request, &launched);
        CHECK_EQ_INT(status, route == TR_ROUTE_INLINE ? TR_READY : TR_PENDING);
        tr_batch *batch = status == TR_READY ? launched.ready : rig_turn_take(rig, rig->turn);
        rig_check(batch, launched.task, TR_OUTCOME_FAILED);
        CHECK_EQ_INT(batch->items[0].code, TR_ESTATE);
        tr_batch_release(batch);
        CHECK_EQ_INT(tr_finish(leaver.deferred, 0, NULL, 0), TR_ENOENT);
        CHECK_EQ_INT(write(leaver.ends[1], "x", 1), 1); /* nobody reads it any more */
        char byte = 0;
        CHECK_EQ_INT(read(leaver.ends[0], &byte, 1), 1);
        CHECK_EQ_INT(leaver.byte, 0);
        (void)close(leaver.ends[0]);
        (void)close(leaver.ends[1]);
    }
}

BOTH(leftover, awaiting_functions)
{
    check_left(rig, TR_TOOL_AWAITING, TR_ROUTE_FOREGROUND);
}

BOTH(leftover, plain_functions)
{
    check_left(rig, 0, TR_ROUTE_FOREGROUND);
}

BOTH(leftover, inline_calls)
{
    check_left(rig, 0, TR_ROUTE_INLINE);
    check_left(rig, TR_TOOL_AWAITING, TR_ROUTE_INLINE);
}
