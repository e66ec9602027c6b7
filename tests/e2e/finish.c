/*
 * Ending deferred calls end to end: once, late, early.
 */
#include "support/host.h"

/* ---- finishing late, early, twice ---- */

BOTH(finish, finish_refuses)
{
    struct gate gate;
    gate_init(&gate);
    tr_deferred none = {NULL, 1};
    CHECK_EQ_INT(tr_finish(none, 0, NULL, 0), TR_EINVAL);
    tr_deferred unknown = {rig->manager, 0};
    CHECK_EQ_INT(tr_finish(unknown, 0, NULL, 0), TR_ENOENT);
    unknown.task = rig->turn;
    CHECK_EQ_INT(tr_finish(unknown, 0, NULL, 0), TR_ENOENT);
    CHECK_EQ_INT(tr_finish(unknown, 1, NULL, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_finish(unknown, 0, NULL, 1), TR_EINVAL);
    gate_done(&gate);
}

THREADED(finish, finish_once)
{
    static const int statuses[] = {0, TR_ETOOL, -5};
    for (unsigned at = 0; at < 3; at++) {
        struct gate gate;
        char text[3000];
        memset(text, 'f', sizeof text);
        size_t size = at == 0 ? 5 : at == 1 ? 96 : sizeof text;
        gate_init(&gate);
        tr_task_id task = rig_launch(rig, rig->deferred, &gate, TR_ROUTE_FOREGROUND);
        gate_await_entered(&gate, 1);
        CHECK_EQ_INT(tr_finish(gate.deferred[0], statuses[at], text, size), 0);
        CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, "x", 1), TR_EALREADY);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, at == 0 ? TR_OUTCOME_COMPLETED : TR_OUTCOME_FAILED);
        CHECK_EQ_INT(batch->items[0].code, statuses[at]);
        CHECK_EQ_U64(batch->items[0].result.size, size);
        CHECK_EQ_INT(memcmp(batch->items[0].result.data, text, size), 0);
        tr_batch_release(batch);
        WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
        gate_done(&gate);
    }
}

static int run_finish_itself(tr_call *call, void *context)
{
    (void)context;
    CHECK_EQ_INT(tr_finish(tr_call_defer(call), 0, "self", 4), 0); /* before it returns */
    return TR_DEFERRED;
}

THREADED(finish, finish_before_the_return)
{
    tr_tool_id tool = rig_tool(rig, "finishes itself", run_finish_itself, NULL);
    for (unsigned at = 0; at < 100; at++) {
        tr_task_id task = rig_launch(rig, tool, NULL, TR_ROUTE_FOREGROUND);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK(rig_bytes_are(batch->items[0].result, "self"));
        rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    }
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
}
