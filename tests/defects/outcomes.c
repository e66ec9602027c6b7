/*
 * Defects that managers of this kind have had, by number; a case says what holds here instead:
 * outcomes, cancelling, turns. D1 to D5, D12, D15, D16, D18, D28.
 */
#include <stdint.h>

#include "support/host.h"

/* ---- tools ---- */

static int run_nonsense(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return 12345; /* no status a function may return */
}

static int run_killed(tr_call *call, void *context)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    (void)context;
    spec.shell = "kill -SEGV $$";
    int error = tr_process(call, &spec, &result);
    if (error == 0) {
        error = result.signal != 0 ? TR_ETOOL : 0;
        tr_process_result_done(&result);
    }
    return error;
}

static tr_tool_id awaiting_tool(struct rig *rig, const char *name, tr_tool_function function)
{
    tr_tool tool = TR_TOOL_INIT(name, function);
    tr_tool_id id = 0;
    tool.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    return id;
}

/* Reads what there is; adds up how often each type came. */
static void count_events(tr_reader *reader, unsigned counts[TR_EVENT_GAP + 1])
{
    static tr_event events[64];
    int count = 0;
    while ((count = tr_reader_read(reader, events, 64, 0)) > 0) {
        for (int at = 0; at < count; at++) {
            counts[events[at].type]++;
        }
    }
    CHECK_EQ_INT(count, 0);
}

/* ---- the cases ---- */

/* There: a tool that panics leaves its task running for ever, and its waiters hang. */
BOTH(defects, d1_every_way_a_tool_can_end_ends_its_task)
{
    tr_tool_id nonsense = rig_tool(rig, "nonsense", run_nonsense, NULL);
    tr_tool_id killed = awaiting_tool(rig, "killed", run_killed);
    tr_task_id task = rig_launch(rig, nonsense, NULL, TR_ROUTE_FOREGROUND);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_FAILED);
    task = rig_launch(rig, killed, NULL, TR_ROUTE_FOREGROUND);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_FAILED);
    rig_turn_is_idle(rig, rig->turn);
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).failed, 2);
}

/* There: `Failed` is declared and never sent. */
BOTH(defects, d2_a_failure_is_failed_with_error_and_output)
{
    unsigned counts[TR_EVENT_GAP + 1] = {0};
    tr_reader *reader = NULL;
    CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, &reader), 0);
    tr_task_id task = rig_launch_text(rig, rig->fail, "no such file", TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, task, TR_OUTCOME_FAILED);
    CHECK_EQ_INT(batch->items[0].code, TR_ETOOL);
    CHECK(rig_bytes_are(batch->items[0].result, "no such file"));
    tr_batch_release(batch);
    count_events(reader, counts);
    CHECK_EQ_U64(counts[TR_EVENT_FAILED], 1);
    CHECK_EQ_U64(counts[TR_EVENT_COMPLETED], 0);
    tr_reader_close(reader);
}

/* There: each cancel of a finished task reports `Cancelled` after `Completed`. */
BOTH(defects, d3_cancelling_what_has_ended_says_so_and_nothing_more)
{
    unsigned counts[TR_EVENT_GAP + 1] = {0};
    tr_reader *reader = NULL;
    CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, &reader), 0);
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_wait_idle(rig);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "too late"), TR_EALREADY);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "too late"), TR_EALREADY);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL) == 0, 0);
    count_events(reader, counts);
    CHECK_EQ_U64(counts[TR_EVENT_COMPLETED], 1);
    CHECK_EQ_U64(counts[TR_EVENT_CANCELLED], 0);
    CHECK_EQ_U64(rig_stats(rig).cancelled, 0);
    tr_reader_close(reader);
}

/* There: that cancel also counts the turn down, which then looks idle while a task still runs. */
THREADED(defects, d4_a_cancel_too_late_does_not_make_a_busy_turn_idle)
{
    struct gate gate;
    tr_batch *batch = NULL;
    gate_init(&gate);
    tr_task_id slow = rig_launch(rig, rig->deferred, &gate, TR_ROUTE_FOREGROUND);
    tr_task_id quick = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_check(batch = rig_turn_take(rig, rig->turn), quick, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, quick, NULL), TR_EALREADY);
    tr_batch_release(batch);
    gate_await_entered(&gate, 1);
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_ETIMEDOUT);
    CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, "done", 4), 0);
    rig_check_release(rig_turn_take(rig, rig->turn), slow, TR_OUTCOME_COMPLETED);
    rig_turn_is_idle(rig, rig->turn);
    gate_done(&gate);
}

/* There: a cancelled call never gets a result. */
THREADED(defects, d5_a_cancelled_call_is_answered)
{
    struct gate gates[3];
    tr_tool_id tools[3] = {rig->gate, rig->awaiting, rig->deferred};
    for (unsigned at = 0; at < 3; at++) {
        gate_init(&gates[at]);
        tr_task_id task = rig_launch(rig, tools[at], &gates[at], TR_ROUTE_FOREGROUND);
        gate_await_entered(&gates[at], 1);
        CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "enough"), 0);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_CANCELLED);
        CHECK_EQ_INT(batch->items[0].code, TR_ECANCELED);
        CHECK_EQ_STR(batch->items[0].reason, "enough");
        tr_batch_release(batch);
        rig_turn_is_idle(rig, rig->turn);
    }
    gate_open(&gates[0]);
    gate_await_left(&gates[0], 1);
    for (unsigned at = 0; at < 3; at++) {
        gate_done(&gates[at]);
    }
}

/* There: the detach timer of a finished run hits the task that was launched after it. With room for
 * one task the second one has the first one's record, and with it the first one's timer. */
CASE(defects, d12_a_detach_timer_dies_with_its_task)
{
    struct rig rig;
    struct gate gate;
    tr_batch *batch = NULL;
    tr_launched launched;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 1;
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, &config);
    tr_request first = TR_REQUEST_INIT(rig.turn, rig.nothing);
    first.options.route = TR_ROUTE_DETACH_AFTER;
    first.options.detach_after_ns = 20 * TR_MILLISECOND;
    tr_task_id task = rig_launch_request(&rig, &first).task;
    rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_COMPLETED);
    tr_request second = TR_REQUEST_INIT(rig.turn, rig.gate);
    second.user = &gate;
    second.options.route = TR_ROUTE_FOREGROUND;
    second.admit_timeout_ns = RIG_PATIENCE_NS;
    CHECK_EQ_INT(tr_launch(rig.manager, &second, &launched), TR_PENDING);
    CHECK_EQ_INT(tr_turn_wait(rig.manager, rig.turn, NULL, 60 * TR_MILLISECOND, 1, &batch),
                 TR_ETIMEDOUT);
    CHECK_EQ_INT(rig_snapshot(&rig, launched.task).kind, TR_KIND_FOREGROUND);
    gate_open(&gate);
    rig_check_release(rig_turn_take(&rig, rig.turn), launched.task, TR_OUTCOME_COMPLETED);
    gate_await_left(&gate, 1);
    rig_close(&rig);
    gate_done(&gate);
}

/* There: a cancelled tool that computes still delivers its result. */
THREADED(defects, d15_what_a_cancelled_function_still_returns_is_discarded)
{
    struct gate gate;
    gate_init(&gate);
    tr_task_id task = rig_launch(rig, rig->gate, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 1);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), 0);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, task, TR_OUTCOME_CANCELLED);
    CHECK_EQ_U64(batch->items[0].result.size, 0);
    CHECK((batch->items[0].flags & TR_ITEM_ABANDONED) != 0);
    tr_batch_release(batch);
    rig_turn_is_idle(rig, rig->turn); /* it still computes, and its turn does not wait for it */
    CHECK_EQ_U64(rig_stats(rig).abandoned, 1);
    gate_open(&gate);
    gate_await_left(&gate, 1);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    rig_turn_is_idle(rig, rig->turn);
    CHECK_EQ_U64(rig_stats(rig).completed, 0);
    gate_done(&gate);
}

/* There: a cancel between spawning and registering aborts nothing, and the task runs on. Here the
 * canceller comes as early as it can; the function would wait for ever. */
THREADED(defects, d16_a_cancel_right_after_launch_always_lands)
{
    struct gate gate;
    gate_init(&gate);
    for (unsigned round = 0; round < 500; round++) {
        tr_tool_id tool = round % 2 == 0 ? rig->awaiting : rig->deferred;
        tr_task_id task = rig_launch(rig, tool, &gate, TR_ROUTE_FOREGROUND);
        CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), 0);
        rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_CANCELLED);
        if (gate_entered(&gate) > GATE_CALLS_MAX / 2) {
            WAIT_UNTIL(rig_stats(rig).fibers_used == 0, RIG_PATIENCE_SECONDS);
            gate_done(&gate);
            gate_init(&gate);
        }
    }
    WAIT_UNTIL(rig_stats(rig).fibers_used == 0, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}

/* There: interrupting a later turn kills the background task of an older one. */
THREADED(defects, d18_an_interrupt_touches_its_own_turn_only)
{
    struct gate gate;
    gate_init(&gate);
    tr_task_id old = rig_launch(rig, rig->deferred, &gate, TR_ROUTE_BACKGROUND);
    gate_await_entered(&gate, 1);
    rig_await_state(rig, old, TR_STATE_WAITING); /* its function has returned */
    rig_turn_is_idle(rig, rig->turn);
    tr_turn_id later = rig_turn(rig, rig->session);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, later, NULL), 0);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, NULL), 0); /* nor its own, in back */
    CHECK_EQ_INT(rig_snapshot(rig, old).state, TR_STATE_WAITING);
    CHECK(!rig_snapshot(rig, old).cancel_requested);
    CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, "done", 4), 0);
    rig_check_release(rig_loop_take(rig, rig->session), old, TR_OUTCOME_COMPLETED);
    gate_done(&gate);
}

/* There: what completes late shows up in a turn that is dead, or in the next one. */
THREADED(defects, d28_what_ends_after_its_turn_is_discarded)
{
    struct gate gate;
    gate_init(&gate);
    (void)rig_launch(rig, rig->deferred, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 1);
    CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, 0), 0);
    rig->turn = rig_turn(rig, rig->session);
    int late = tr_finish(gate.deferred[0], 0, "late", 4);
    CHECK(late == TR_EALREADY || late == TR_ENOENT);
    rig_turn_is_idle(rig, rig->turn);
    rig_loop_is_empty(rig, rig->session);
    CHECK_EQ_U64(rig_stats(rig).discarded, 1);
    WAIT_UNTIL(rig_stats(rig).tasks_used == 0, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}
