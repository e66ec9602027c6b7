/*
 * Timeouts end to end: run, idle and total, and the patience with functions that do not look. Those
 * of queued tasks are in cancel.c, those of tasks that wait for approval in approval_wait.c.
 */
#include "support/gated.h"

/* ---- timeouts ---- */

enum {
    TIMEOUT_MS = 4,
};

/* Runs a call that never ends by itself until its timeout, and checks that it came in its time. */
static void check_timeout(struct rig *rig, tr_tool_id tool, const tr_options *options, bool started)
{
    struct gate gate;
    gate_init(&gate);
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.user = &gate;
    request.options = *options;
    tr_task_id task = rig_launch_request(rig, &request).task;
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, task, TR_OUTCOME_TIMED_OUT);
    const tr_item *item = batch->items;
    CHECK_EQ_INT(item->code, TR_ETIMEDOUT);
    CHECK(item->ended_ns - (started ? item->started_ns : item->accepted_ns) >=
          TIMEOUT_MS * TR_MILLISECOND);
    if (tool == rig->awaiting) {
        CHECK(rig_bytes_are(item->result, "partial"));
    }
    tr_batch_release(batch);
    gate_open(&gate);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    rig_wait_idle(rig);
    gate_done(&gate);
}

THREADED(timeout, timeouts_of_every_kind)
{
    tr_tool_id tools[] = {rig->gate, rig->awaiting, rig->deferred};
    for (unsigned at = 0; at < 3; at++) {
        tr_options run = TR_OPTIONS_INIT;
        run.run_timeout_ns = TIMEOUT_MS * TR_MILLISECOND;
        check_timeout(rig, tools[at], &run, true);
        tr_options idle = TR_OPTIONS_INIT;
        idle.idle_timeout_ns = TIMEOUT_MS * TR_MILLISECOND;
        check_timeout(rig, tools[at], &idle, true);
        tr_options total = TR_OPTIONS_INIT;
        total.total_timeout_ns = TIMEOUT_MS * TR_MILLISECOND;
        check_timeout(rig, tools[at], &total, false);
    }
    CHECK_EQ_U64(rig_stats(rig).timed_out, 9);
}

/* When it last said that it goes on. */
static int run_restless(tr_call *call, void *context)
{
    uint64_t *last = tr_call_user(call);
    (void)context;
    for (unsigned at = 1; at <= 10; at++) {
        CHECK_EQ_INT(tr_sleep(call, TR_MILLISECOND), 0);
        struct timespec now;
        CHECK_EQ_INT(clock_gettime(CLOCK_MONOTONIC, &now), 0);
        *last = (uint64_t)now.tv_sec * TR_SECOND + (uint64_t)now.tv_nsec;
        if (at % 2 == 0) {
            tr_call_progress(call, at, 10);
        } else {
            tr_call_output(call, at);
        }
    }
    CHECK_EQ_INT(tr_sleep(call, TR_FOREVER), TR_ECANCELED);
    return 0; /* its outcome is what it was asked to stop for */
}

THREADED(timeout, progress_and_output_restart_the_idle_timeout)
{
    uint64_t last = 0;
    tr_tool tool = TR_TOOL_INIT("restless", run_restless);
    tr_tool_id id = 0;
    tool.flags = TR_TOOL_AWAITING;
    tool.options.idle_timeout_ns = 500 * TR_MILLISECOND; /* the tool's default */
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    tr_task_id task = rig_launch(rig, id, &last, TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, task, TR_OUTCOME_TIMED_OUT);
    CHECK(batch->items[0].ended_ns - last >= 500 * TR_MILLISECOND);
    tr_batch_release(batch);
}

THREADED(timeout, forever_switches_a_default_off)
{
    struct gate gate;
    gate_init(&gate);
    tr_tool tool = TR_TOOL_INIT("hasty", run_until_cancelled);
    tool.options.total_timeout_ns = 1;
    tool.options.run_timeout_ns = 1;
    tool.options.idle_timeout_ns = 1;
    tr_tool_id id = 0;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    tr_request request = TR_REQUEST_INIT(rig->turn, id);
    request.user = &gate;
    request.options.total_timeout_ns = TR_FOREVER;
    request.options.run_timeout_ns = TR_FOREVER;
    request.options.idle_timeout_ns = TR_FOREVER;
    tr_task_id task = rig_launch_request(rig, &request).task;
    gate_await_entered(&gate, 1);
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 5 * TR_MILLISECOND, 1, &batch),
                 TR_ETIMEDOUT);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), 0);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_CANCELLED);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}

/* An awaiting function that does not look is given up after grace and patience. */
CASE_TIMEOUT(timeout, patience_with_awaiting_functions_is_bounded, RIG_TIMEOUT_SECONDS)
{
    struct rig rig;
    struct gate gate;
    tr_config config = TR_CONFIG_INIT;
    config.cancel_grace_ns = 2 * TR_MILLISECOND;
    config.abandon_wait_ns = 3 * TR_MILLISECOND;
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, &config);
    tr_tool tool = TR_TOOL_INIT("deaf", run_deaf);
    tr_tool_id id = 0;
    tool.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig.manager, &tool, &id), 0);
    tr_task_id task = rig_launch(&rig, id, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 1);
    CHECK_EQ_INT(tr_task_cancel(rig.manager, task, "listen"), 0);
    tr_batch *batch = rig_turn_take(&rig, rig.turn);
    rig_check(batch, task, TR_OUTCOME_CANCELLED);
    CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_ABANDONED | TR_ITEM_TURN_IDLE);
    CHECK_EQ_STR(batch->items[0].reason, "listen");
    tr_batch_release(batch);
    CHECK_EQ_U64(rig_stats(&rig).abandoned, 1);
    gate_open(&gate);
    WAIT_UNTIL(rig_stats(&rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    WAIT_UNTIL(rig_stats(&rig).tasks_used == 0, RIG_PATIENCE_SECONDS);
    rig_close(&rig);
    gate_done(&gate);
}
