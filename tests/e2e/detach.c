/*
 * Detaching, attaching and choosing the delivery end to end.
 */
#include "support/gated.h"

/* ---- detaching ---- */

/* Takes the DETACHED item of a task from its turn. */
static void take_detached(struct rig *rig, tr_task_id task, bool idle)
{
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    const tr_item *item = batch->items;
    CHECK_EQ_INT(item->type, TR_ITEM_DETACHED);
    CHECK_EQ_INT(item->channel, TR_CHANNEL_TURN);
    CHECK_EQ_U64(item->task, task);
    CHECK_EQ_U64(item->turn, rig->turn);
    CHECK_EQ_INT(item->kind, TR_KIND_BACKGROUND);
    CHECK_EQ_INT(item->outcome, TR_OUTCOME_NONE);
    CHECK_EQ_U64(item->flags & TR_ITEM_TURN_IDLE, idle ? TR_ITEM_TURN_IDLE : 0);
    CHECK_EQ_U64(item->flags & TR_ITEM_WAS_DETACHED, TR_ITEM_WAS_DETACHED);
    CHECK(rig_bytes_are(item->call_id, "the call"));
    CHECK(item->ended_ns >= item->accepted_ns);
    tr_batch_release(batch);
}

static tr_request request_of(struct rig *rig, tr_tool_id tool, struct gate *gate)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.call_id = rig_bytes("the call");
    request.user = gate;
    return request;
}

static void check_detached_end(struct rig *rig, tr_task_id task, tr_delivery delivery)
{
    bool manual = delivery == TR_DELIVERY_MANUAL;
    tr_batch *batch = manual ? rig_ready_take(rig, rig->session) : rig_loop_take(rig, rig->session);
    rig_check(batch, task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(batch->items[0].kind, TR_KIND_BACKGROUND);
    CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_WAS_DETACHED);
    tr_batch_release(batch);
    rig_turn_is_idle(rig, rig->turn);
}

THREADED(detach, detach_now)
{
    tr_tool_id tools[] = {rig->gate, rig->awaiting};
    for (unsigned at = 0; at < 4; at++) {
        struct gate gate;
        gate_init(&gate);
        tr_request request = request_of(rig, tools[at % 2], &gate);
        request.options.delivery = at < 2 ? TR_DELIVERY_TO_LOOP : TR_DELIVERY_MANUAL;
        tr_task_id task = rig_launch_request(rig, &request).task;
        gate_await_entered(&gate, 1);
        CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
        CHECK_EQ_INT(tr_task_detach(rig->manager, task), TR_EALREADY);
        CHECK_EQ_INT(rig_snapshot(rig, task).kind, TR_KIND_BACKGROUND);
        CHECK(rig_snapshot(rig, task).detached);
        take_detached(rig, task, true);
        rig_turn_is_idle(rig, rig->turn);
        gate_open(&gate);
        check_detached_end(rig, task, request.options.delivery);
        CHECK_EQ_INT(tr_task_detach(rig->manager, task), TR_ENOENT);
        rig_wait_idle(rig);
        gate_done(&gate);
    }
    CHECK_EQ_U64(rig_stats(rig).detached, 4);
}

BOTH(detach, detach_and_attach_refuse)
{
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_wait_idle(rig);
    CHECK_EQ_INT(tr_task_detach(rig->manager, task), TR_EALREADY);
    CHECK_EQ_INT(tr_task_attach(rig->manager, task), TR_EALREADY);
    CHECK_EQ_INT(tr_task_set_delivery(rig->manager, task, TR_DELIVERY_MANUAL), TR_EALREADY);
    CHECK_EQ_INT(tr_task_set_continue(rig->manager, task, TR_CONTINUE_REQUEST), TR_EALREADY);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    tr_task_id ids[] = {task, 0, rig->turn, rig->session, UINT64_MAX, task + (1u << 24)};
    for (size_t at = 0; at < sizeof ids / sizeof *ids; at++) {
        CHECK_EQ_INT(tr_task_detach(rig->manager, ids[at]), TR_ENOENT);
        CHECK_EQ_INT(tr_task_attach(rig->manager, ids[at]), TR_ENOENT);
        CHECK_EQ_INT(tr_task_set_delivery(rig->manager, ids[at], TR_DELIVERY_MANUAL), TR_ENOENT);
        CHECK_EQ_INT(tr_task_set_continue(rig->manager, ids[at], TR_CONTINUE_NOTIFY), TR_ENOENT);
    }
    CHECK_EQ_INT(tr_task_set_delivery(rig->manager, task, TR_DELIVERY_DEFAULT), TR_EINVAL);
    CHECK_EQ_INT(tr_task_set_delivery(rig->manager, task, (tr_delivery)3), TR_EINVAL);
    CHECK_EQ_INT(tr_task_set_continue(rig->manager, task, TR_CONTINUE_DEFAULT), TR_EINVAL);
    CHECK_EQ_INT(tr_task_set_continue(rig->manager, task, (tr_continue)3), TR_EINVAL);
    CHECK_EQ_INT(tr_task_detach(NULL, task), TR_EINVAL);
    CHECK_EQ_INT(tr_task_attach(NULL, task), TR_EINVAL);
}

THREADED(detach, detach_after_is_never_early)
{
    tr_tool_id tools[] = {rig->gate, rig->awaiting, rig->deferred};
    for (unsigned at = 0; at < 3; at++) {
        struct gate gate;
        gate_init(&gate);
        tr_request request = request_of(rig, tools[at], &gate);
        request.options.route = TR_ROUTE_DETACH_AFTER;
        request.options.detach_after_ns = (at + 1) * 3 * TR_MILLISECOND;
        tr_task_id task = rig_launch_request(rig, &request).task;
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        const tr_item *item = batch->items;
        CHECK_EQ_INT(item->type, TR_ITEM_DETACHED);
        CHECK_EQ_U64(item->task, task);
        CHECK(item->ended_ns - item->accepted_ns >= request.options.detach_after_ns);
        tr_batch_release(batch);
        rig_turn_is_idle(rig, rig->turn);
        gate_await_entered(&gate, 1);
        gate_open(&gate);
        if (at == 2) {
            CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, NULL, 0), 0);
        }
        check_detached_end(rig, task, TR_DELIVERY_TO_LOOP);
        rig_wait_idle(rig);
        gate_done(&gate);
    }
}

/* The timer counts from acceptance, so it comes although the task has not started. */
CASE_TIMEOUT(detach, detach_after_also_while_queued, RIG_TIMEOUT_SECONDS)
{
    struct blocked self;
    struct rig *rig = &self.rig;
    blocked_open(&self, NULL);
    tr_request request = request_of(rig, rig->nothing, NULL);
    request.options.route = TR_ROUTE_DETACH_AFTER;
    request.options.detach_after_ns = 2 * TR_MILLISECOND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_INT(batch->items[0].type, TR_ITEM_DETACHED);
    CHECK_EQ_U64(batch->items[0].started_ns, 0);
    CHECK_EQ_U64(batch->items[0].flags,
                 TR_ITEM_TURN_IDLE | TR_ITEM_WAS_DETACHED | TR_ITEM_NOT_STARTED);
    tr_batch_release(batch);
    CHECK_EQ_INT(rig_snapshot(rig, task).state, TR_STATE_QUEUED);
    blocked_release(&self);
    check_detached_end(rig, task, TR_DELIVERY_TO_LOOP);
    blocked_close(&self);
}

/* Finishing first cancels the timer for good: the slot's next task is not hit by it. */
CASE_TIMEOUT(detach, detach_after_dies_with_its_task, RIG_TIMEOUT_SECONDS)
{
    struct rig rig;
    struct gate gate;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 1; /* one slot: every task follows in it */
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, &config);
    for (unsigned round = 0; round < 30; round++) {
        tr_request request = request_of(&rig, rig.nothing, NULL);
        request.options.route = TR_ROUTE_DETACH_AFTER;
        request.options.detach_after_ns = 2 * TR_MILLISECOND;
        request.admit_timeout_ns = RIG_PATIENCE_NS;
        tr_task_id task = rig_launch_request(&rig, &request).task;
        tr_batch *batch = rig_turn_take(&rig, rig.turn);
        if (batch->items[0].type == TR_ITEM_DETACHED) { /* a slow machine */
            tr_batch_release(batch);
            rig_check_release(rig_loop_take(&rig, rig.session), task, TR_OUTCOME_COMPLETED);
        } else {
            rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
        }
    }
    uint64_t detached = rig_stats(&rig).detached;
    tr_request request = request_of(&rig, rig.awaiting, &gate);
    request.admit_timeout_ns = RIG_PATIENCE_NS;
    tr_task_id task = rig_launch_request(&rig, &request).task;
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_turn_wait(rig.manager, rig.turn, NULL, 10 * TR_MILLISECOND, 1, &batch),
                 TR_ETIMEDOUT);
    CHECK_EQ_INT(rig_snapshot(&rig, task).kind, TR_KIND_FOREGROUND);
    gate_open(&gate);
    rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_U64(rig_stats(&rig).detached, detached);
    rig_close(&rig);
    gate_done(&gate);
}

/* ---- attaching ---- */

THREADED(detach, attach_makes_it_waited_for)
{
    struct gate gate;
    tr_batch *batch = NULL;
    gate_init(&gate);
    tr_request request = request_of(rig, rig->awaiting, &gate);
    request.options.route = TR_ROUTE_BACKGROUND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    gate_await_entered(&gate, 1);
    rig_turn_is_idle(rig, rig->turn);
    CHECK_EQ_INT(tr_task_attach(rig->manager, task), 0);
    CHECK_EQ_INT(tr_task_attach(rig->manager, task), TR_EALREADY);
    CHECK_EQ_INT(rig_snapshot(rig, task).kind, TR_KIND_FOREGROUND);
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_ETIMEDOUT);
    gate_open(&gate);
    batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_TURN_IDLE);
    CHECK_EQ_INT(batch->items[0].kind, TR_KIND_FOREGROUND);
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    rig_loop_is_empty(rig, rig->session);
    rig_wait_idle(rig);
    gate_done(&gate);
}

THREADED(detach, attach_after_detach)
{
    struct gate gate;
    tr_batch *batch = NULL;
    gate_init(&gate);
    tr_request request = request_of(rig, rig->awaiting, &gate);
    tr_task_id task = rig_launch_request(rig, &request).task;
    gate_await_entered(&gate, 1);
    CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
    CHECK_EQ_INT(tr_task_attach(rig->manager, task), 0);
    take_detached(rig, task, false); /* it is waited for again */
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_ETIMEDOUT);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, NULL), 1); /* foreground, once */
    batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_TURN_IDLE | TR_ITEM_WAS_DETACHED);
    rig_check_release(batch, task, TR_OUTCOME_CANCELLED);
    rig_wait_idle(rig);
    gate_done(&gate);
}

THREADED(detach, attach_to_a_closed_turn)
{
    struct gate gate;
    gate_init(&gate);
    tr_task_id task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_BACKGROUND);
    CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, 0), 0);
    CHECK_EQ_INT(tr_task_attach(rig->manager, task), TR_ECLOSED);
    CHECK_EQ_INT(rig_snapshot(rig, task).kind, TR_KIND_BACKGROUND);
    gate_open(&gate);
    rig_check_release(rig_loop_take(rig, rig->session), task, TR_OUTCOME_COMPLETED);
    rig_wait_idle(rig);
    gate_done(&gate);
}

/* ---- delivery ---- */

THREADED(detach, set_delivery_until_the_end)
{
    static const struct {
        tr_delivery first;
        tr_delivery then;
    } table[] = {
        {TR_DELIVERY_TO_LOOP, TR_DELIVERY_MANUAL},
        {TR_DELIVERY_MANUAL, TR_DELIVERY_TO_LOOP},
        {TR_DELIVERY_MANUAL, TR_DELIVERY_MANUAL},
    };
    for (unsigned at = 0; at < 3; at++) {
        struct gate gate;
        gate_init(&gate);
        tr_request request = request_of(rig, rig->awaiting, &gate);
        request.options.route = TR_ROUTE_BACKGROUND;
        request.options.delivery = table[at].first;
        tr_task_id task = rig_launch_request(rig, &request).task;
        CHECK_EQ_INT(tr_task_set_delivery(rig->manager, task, table[at].then), 0);
        CHECK_EQ_INT(tr_task_set_continue(rig->manager, task, TR_CONTINUE_REQUEST), 0);
        CHECK_EQ_INT(rig_snapshot(rig, task).delivery, table[at].then);
        CHECK_EQ_INT(rig_snapshot(rig, task).continuation, TR_CONTINUE_REQUEST);
        gate_open(&gate);
        bool manual = table[at].then == TR_DELIVERY_MANUAL;
        tr_batch *batch =
            manual ? rig_ready_take(rig, rig->session) : rig_loop_take(rig, rig->session);
        CHECK_EQ_U64(batch->items[0].flags, manual ? 0 : TR_ITEM_CONTINUE);
        rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
        rig_loop_is_empty(rig, rig->session);
        rig_ready_is_empty(rig, rig->session);
        rig_wait_idle(rig);
        gate_done(&gate);
    }
}

/* A foreground task comes through its turn whatever its delivery. */
BOTH(detach, foreground_ignores_delivery)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
    request.options.delivery = TR_DELIVERY_MANUAL;
    request.options.continuation = TR_CONTINUE_REQUEST;
    tr_task_id task = rig_launch_request(rig, &request).task;
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_TURN_IDLE);
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    rig_loop_is_empty(rig, rig->session);
    rig_ready_is_empty(rig, rig->session);
}
