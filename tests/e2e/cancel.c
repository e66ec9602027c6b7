/*
 * Cancelling end to end: in every state, by id and by interrupt.
 */
#include <poll.h>

#include "support/gated.h"

/* ---- queued: the only worker is blocked ---- */

CASE_TIMEOUT(cancel, queued_ends_at_once, RIG_TIMEOUT_SECONDS)
{
    struct blocked self;
    blocked_open(&self, NULL);
    struct rig *rig = &self.rig;
    tr_tool_id tools[] = {rig->nothing, rig->awaiting, rig->deferred};
    for (unsigned at = 0; at < 3; at++) {
        tr_task_id task = rig_launch(rig, tools[at], &self.gate, TR_ROUTE_FOREGROUND);
        CHECK_EQ_INT(rig_snapshot(rig, task).state, TR_STATE_QUEUED);
        CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "no more"), 0);
        CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "again"), TR_EALREADY);
        CHECK_EQ_INT(rig_snapshot(rig, task).state, TR_STATE_ENDED);
        CHECK_EQ_INT(rig_snapshot(rig, task).outcome, TR_OUTCOME_CANCELLED);
        tr_batch *batch = NULL; /* no waiting: it is there */
        CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_WAIT_ITEMS);
        rig_check(batch, task, TR_OUTCOME_CANCELLED);
        CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_NOT_STARTED | TR_ITEM_TURN_IDLE);
        CHECK_EQ_INT(batch->items[0].code, TR_ECANCELED);
        CHECK_EQ_STR(batch->items[0].reason, "no more");
        CHECK_EQ_U64(batch->items[0].started_ns, 0);
        tr_batch_release(batch);
        CHECK(tr_task_cancel(rig->manager, task, NULL) < 0);
    }
    CHECK_EQ_U64(rig_stats(rig).started, 1);
    CHECK_EQ_U64(rig_stats(rig).unfinished, 1);
    blocked_close(&self);
}

CASE_TIMEOUT(cancel, queued_times_out, RIG_TIMEOUT_SECONDS)
{
    struct blocked self;
    blocked_open(&self, NULL);
    struct rig *rig = &self.rig;
    for (unsigned at = 0; at < 2; at++) {
        tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
        request.options.queue_timeout_ns = at == 0 ? 2 * TR_MILLISECOND : 0;
        request.options.total_timeout_ns = at == 1 ? 2 * TR_MILLISECOND : 0;
        tr_task_id task = rig_launch_request(rig, &request).task;
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_TIMED_OUT);
        const tr_item *item = batch->items;
        CHECK_EQ_INT(item->code, TR_ETIMEDOUT);
        CHECK_EQ_U64(item->flags & TR_ITEM_NOT_STARTED, TR_ITEM_NOT_STARTED);
        CHECK(item->ended_ns - item->accepted_ns >= 2 * TR_MILLISECOND);
        tr_batch_release(batch);
    }
    CHECK_EQ_U64(rig_stats(rig).timed_out, 2);
    blocked_close(&self);
}

/* ---- waiting and running ---- */

THREADED(cancel, awaiting_resumes_and_cleans_up)
{
    for (unsigned at = 0; at < 20; at++) {
        struct gate gate;
        gate_init(&gate);
        tr_task_id task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
        if (at % 2 == 0) {
            rig_await_state(rig, task, TR_STATE_WAITING);
        } else {
            gate_await_entered(&gate, 1);
        }
        CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "stop"), 0);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_CANCELLED);
        CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_TURN_IDLE);
        CHECK_EQ_INT(batch->items[0].code, TR_ECANCELED);
        CHECK_EQ_STR(batch->items[0].reason, "stop");
        CHECK(rig_bytes_are(batch->items[0].result, "partial")); /* what it had so far */
        tr_batch_release(batch);
        CHECK_EQ_INT(gate.status, TR_ECANCELED);
        rig_wait_idle(rig);
        gate_done(&gate);
    }
}

/* What a slow cleaner waits for after it was asked to stop. */
static int run_slow_cleaner(tr_call *call, void *context)
{
    struct gate *gate = tr_call_user(call);
    struct gate *cleaned = context;
    tr_io io;
    tr_io *done = NULL;
    memset(&io, 0, sizeof io);
    CHECK_EQ_INT(tr_io_poll(call, &io, gate->fd, POLLIN), 0);
    CHECK_EQ_INT(tr_io_wait(call, 0, &done), TR_ECANCELED);
    CHECK(tr_call_is_cancelled(call));
    CHECK_EQ_INT(tr_sleep(call, TR_SECOND), TR_ECANCELED); /* all awaiting is refused */
    CHECK(tr_call_cancel_grace(call) == 2 * TR_SECOND);
    tr_io_cancel(call, &io);
    CHECK_EQ_INT(tr_io_wait(call, TR_IO_SHIELD, &done), 0);
    memset(&io, 0, sizeof io);
    CHECK_EQ_INT(tr_io_poll(call, &io, cleaned->fd, POLLIN), 0);
    CHECK_EQ_INT(tr_io_wait(call, TR_IO_SHIELD, &done), 0);
    return TR_ECANCELED;
}

THREADED(cancel, twice_is_harmless)
{
    struct gate gate;
    struct gate cleaned;
    gate_init(&gate);
    gate_init(&cleaned);
    tr_tool tool = TR_TOOL_INIT("slow cleaner", run_slow_cleaner);
    tr_tool_id id = 0;
    tool.flags = TR_TOOL_AWAITING;
    tool.context = &cleaned;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    tr_task_id task = rig_launch(rig, id, &gate, TR_ROUTE_FOREGROUND);
    rig_await_state(rig, task, TR_STATE_WAITING);
    CHECK(!rig_snapshot(rig, task).cancel_requested);
    for (unsigned at = 0; at < 5; at++) {
        CHECK_EQ_INT(tr_task_cancel(rig->manager, task, at == 0 ? "first" : "later"), 0);
        CHECK(rig_snapshot(rig, task).cancel_requested);
    }
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, "interrupted"), 0); /* asked before */
    CHECK(rig_snapshot(rig, task).state != TR_STATE_ENDED);
    gate_open(&cleaned);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_STR(batch->items[0].reason, "first");
    rig_check_release(batch, task, TR_OUTCOME_CANCELLED);
    CHECK_EQ_U64(rig_stats(rig).cancelled, 1);
    rig_wait_idle(rig);
    gate_done(&gate);
    gate_done(&cleaned);
}

THREADED(cancel, deferred_ends_at_once)
{
    struct gate gate;
    gate_init(&gate);
    tr_task_id task = rig_launch(rig, rig->deferred, &gate, TR_ROUTE_FOREGROUND);
    WAIT_UNTIL(rig_snapshot(rig, task).deferred, RIG_PATIENCE_SECONDS);
    CHECK_EQ_INT(rig_snapshot(rig, task).state, TR_STATE_WAITING);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), 0);
    CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, "late", 4), TR_EALREADY);
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_WAIT_ITEMS);
    CHECK_EQ_U64(batch->items[0].result.size, 0);
    CHECK_EQ_STR(batch->items[0].reason, "");
    rig_check_release(batch, task, TR_OUTCOME_CANCELLED);
    CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, "late", 4), TR_ENOENT);
    gate_done(&gate);
}

THREADED(cancel, plain_function_is_abandoned)
{
    struct gate gate;
    gate_init(&gate);
    tr_task_id task = rig_launch(rig, rig->gate, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 1);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "no patience"), 0);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), TR_EALREADY);
    tr_batch *batch = NULL; /* at once, though the function still runs */
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_WAIT_ITEMS);
    rig_check(batch, task, TR_OUTCOME_CANCELLED);
    CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_ABANDONED | TR_ITEM_TURN_IDLE);
    CHECK_EQ_U64(batch->items[0].result.size, 0);
    tr_batch_release(batch);
    CHECK_EQ_U64(rig_stats(rig).abandoned, 1);
    rig_wait_idle(rig); /* an abandoned function does not count as unfinished */
    gate_open(&gate);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    rig_turn_is_idle(rig, rig->turn); /* what it returned late is discarded */
    CHECK_EQ_U64(rig_stats(rig).cancelled, 1);
    CHECK_EQ_U64(rig_stats(rig).completed, 0);
    WAIT_UNTIL(rig_stats(rig).tasks_used == 0, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}

THREADED(cancel, plain_function_may_look)
{
    struct gate gate;
    gate_init(&gate);
    tr_tool_id tool = rig_tool(rig, "looks", run_until_cancelled, NULL);
    tr_task_id task = rig_launch(rig, tool, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 1);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), 0);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_CANCELLED);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}

BOTH(cancel, ended_and_unknown)
{
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_wait_idle(rig);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), TR_EALREADY);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), TR_EALREADY);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), TR_EALREADY); /* the host has it */
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    tr_task_id ids[] = {task, 0, rig->turn, rig->session, UINT64_MAX, task + (1u << 24), task + 1};
    for (size_t at = 0; at < sizeof ids / sizeof *ids; at++) {
        CHECK_EQ_INT(tr_task_cancel(rig->manager, ids[at], "x"), TR_ENOENT);
    }
    CHECK_EQ_INT(tr_task_cancel(NULL, task, "x"), TR_EINVAL);
    CHECK_EQ_U64(rig_stats(rig).cancelled, 0);
}

/* Reasons are copied, and cut between characters. */
CASE_TIMEOUT(cancel, reasons_of_every_length, RIG_TIMEOUT_SECONDS)
{
    struct blocked self;
    blocked_open(&self, NULL);
    struct rig *rig = &self.rig;
    for (unsigned shift = 0; shift < 4; shift++) {
        char reason[400];
        for (size_t at = 0; at < sizeof reason - 1; at++) {
            static const char euro[] = "\xe2\x82\xac"; /* three bytes each */
            reason[at] = at < shift ? 'a' : euro[(at - shift) % 3];
        }
        reason[sizeof reason - 1] = '\0';
        tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
        CHECK_EQ_INT(tr_task_cancel(rig->manager, task, reason), 0);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_CANCELLED);
        size_t size = strlen(batch->items[0].reason);
        CHECK(size <= TR_REASON_BYTES_MAX && size > TR_REASON_BYTES_MAX - 5);
        CHECK_EQ_INT(strncmp(batch->items[0].reason, reason, size), 0);
        CHECK_EQ_INT((size - shift) % 3, 0);
        tr_batch_release(batch);
    }
    blocked_close(&self);
}

THREADED(cancel, long_reason_of_an_awaiting_call)
{
    struct gate gate;
    char reason[400];
    gate_init(&gate);
    for (size_t at = 0; at < sizeof reason - 1; at++) {
        static const char euro[] = "\xe2\x82\xac";
        reason[at] = euro[at % 3];
    }
    reason[sizeof reason - 1] = '\0';
    tr_task_id task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    rig_await_state(rig, task, TR_STATE_WAITING);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, reason), 0);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    size_t size = strlen(batch->items[0].reason);
    CHECK(size <= TR_REASON_BYTES_MAX && size > TR_REASON_BYTES_MAX - 5);
    CHECK_EQ_INT(size % 3, 0);
    rig_check_release(batch, task, TR_OUTCOME_CANCELLED);
    rig_wait_idle(rig);
    gate_done(&gate);
}

/* ---- interrupting ---- */

THREADED(cancel, interrupt_stops_the_foreground_of_its_turn)
{
    struct gate gate;
    gate_init(&gate);
    tr_turn_id turn = rig->turn;
    tr_turn_id later = rig_turn(rig, rig->session);
    tr_tool_id tools[] = {rig->gate, rig->awaiting, rig->deferred, rig->awaiting};
    tr_task_id behind = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_BACKGROUND);
    for (unsigned at = 0; at < 4; at++) {
        (void)rig_launch(rig, tools[at], &gate, TR_ROUTE_FOREGROUND);
    }
    tr_task_id detached = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_task_detach(rig->manager, detached), 0);
    tr_task_id done = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig->turn = later;
    tr_task_id other = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    WAIT_UNTIL(rig_snapshot(rig, done).state == TR_STATE_ENDED, RIG_PATIENCE_SECONDS);
    gate_await_entered(&gate, 7);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, turn, "enough"), 4);
    unsigned cancelled = 0;
    for (unsigned at = 0; at < 6; at++) { /* four, the detach, and the one that was done */
        tr_batch *batch = rig_turn_take(rig, turn);
        const tr_item *item = batch->items;
        if (item->type == TR_ITEM_RESOLUTION && item->task != done) {
            CHECK_EQ_INT(item->outcome, TR_OUTCOME_CANCELLED);
            CHECK_EQ_STR(item->reason, "enough");
            cancelled++;
        }
        tr_batch_release(batch);
    }
    CHECK_EQ_INT(cancelled, 4);
    rig_turn_is_idle(rig, turn);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, turn, NULL), 0);
    rig_await_state(rig, behind, TR_STATE_WAITING); /* it may be on its way to its wait */
    rig_await_state(rig, other, TR_STATE_WAITING);
    CHECK(!rig_snapshot(rig, behind).cancel_requested);
    CHECK(!rig_snapshot(rig, other).cancel_requested);
    gate_open(&gate);
    rig_check_release(rig_turn_take(rig, later), other, TR_OUTCOME_COMPLETED);
    for (unsigned at = 0; at < 2; at++) {
        tr_batch *batch = rig_loop_take(rig, rig->session);
        CHECK(batch->items[0].task == behind || batch->items[0].task == detached);
        rig_check_release(batch, batch->items[0].task, TR_OUTCOME_COMPLETED);
    }
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    rig_wait_idle(rig);
    gate_done(&gate);
}

BOTH(cancel, interrupt_of_nothing)
{
    tr_turn_id closed = rig_turn(rig, rig->session);
    CHECK_EQ_INT(tr_turn_close(rig->manager, closed, 0), 0);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, NULL), 0);
    tr_turn_id ids[] = {closed, 0, rig->session, UINT64_MAX};
    for (size_t at = 0; at < sizeof ids / sizeof *ids; at++) {
        CHECK_EQ_INT(tr_turn_interrupt(rig->manager, ids[at], "x"), TR_ENOENT);
    }
    CHECK_EQ_INT(tr_turn_interrupt(NULL, rig->turn, "x"), TR_EINVAL);
}
