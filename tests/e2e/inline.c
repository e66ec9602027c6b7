/*
 * Inline calls, and the inline manager: everything runs in the launching thread, through the same
 * interface and the same channels.
 */
#include "support/host.h"

/* Remembers who ran it. */
static int run_whoami(tr_call *call, void *context)
{
    pthread_t self = pthread_self();
    (void)context;
    return tr_result_copy(call, &self, sizeof self);
}

static tr_launched launch_inline(struct rig *rig, tr_tool_id tool, void *user)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    tr_launched launched;
    request.options.route = TR_ROUTE_INLINE;
    request.user = user;
    CHECK_EQ_INT(tr_launch(rig->manager, &request, &launched), TR_READY);
    CHECK_EQ_INT(launched.status, TR_READY);
    CHECK_EQ_INT(launched.kind, TR_KIND_FOREGROUND);
    CHECK(launched.task != 0 && launched.ready != NULL);
    return launched;
}

BOTH(inline_route, returns_the_resolution)
{
    pthread_t self = pthread_self();
    tr_tool_id tool = rig_tool(rig, "whoami", run_whoami, NULL);
    tr_launched launched = launch_inline(rig, tool, rig);
    rig_check(launched.ready, launched.task, TR_OUTCOME_COMPLETED);
    const tr_item *item = launched.ready->items;
    CHECK_EQ_INT(item->channel, TR_CHANNEL_LAUNCH);
    CHECK_EQ_U64(item->result.size, sizeof self);
    CHECK_EQ_INT(memcmp(item->result.data, &self, sizeof self), 0);
    CHECK_EQ_U64(item->flags, 0);
    CHECK_EQ_PTR(item->user, rig);
    rig_turn_is_idle(rig, rig->turn); /* nothing of it comes twice */
    CHECK_EQ_U64(rig_stats(rig).tasks_used, 1);
    tr_batch_release(launched.ready);
    CHECK_EQ_U64(rig_stats(rig).tasks_used, 0);
}

BOTH(inline_route, every_tool_runs_inline)
{
    struct gate gate;
    gate_init(&gate);
    gate_open(&gate);
    tr_tool_id tools[] = {rig->nothing, rig->gate, rig->awaiting};
    for (size_t at = 0; at < sizeof tools / sizeof *tools; at++) {
        tr_launched launched = launch_inline(rig, tools[at], &gate);
        rig_check_release(launched.ready, launched.task, TR_OUTCOME_COMPLETED);
    }
    tr_launched launched = launch_inline(rig, rig->fail, NULL);
    rig_check_release(launched.ready, launched.task, TR_OUTCOME_FAILED);
    gate_done(&gate);
}

static void *finish_when_deferred(void *argument)
{
    struct gate *gate = argument;
    gate_await_entered(gate, 1);
    CHECK_EQ_INT(tr_finish(gate->deferred[0], 0, "from afar", 9), 0);
    return NULL;
}

BOTH(inline_route, deferred_is_waited_for)
{
    struct gate gate;
    gate_init(&gate);
    pthread_t thread = rig_thread(finish_when_deferred, &gate);
    tr_launched launched = launch_inline(rig, rig->deferred, &gate);
    rig_check(launched.ready, launched.task, TR_OUTCOME_COMPLETED);
    CHECK(rig_bytes_are(launched.ready->items[0].result, "from afar"));
    tr_batch_release(launched.ready);
    rig_join(thread);
    CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, NULL, 0), TR_ENOENT);
    gate_done(&gate);
}

struct canceller {
    struct rig *rig;
    struct gate *gate;
    bool interrupt;
};

/* Finds the one task that is there and stops it. */
static void *cancel_when_entered(void *argument)
{
    const struct canceller *self = argument;
    tr_snapshot snapshot;
    tr_cursor cursor = {0, 0};
    gate_await_entered(self->gate, 1);
    if (self->interrupt) {
        CHECK_EQ_INT(tr_turn_interrupt(self->rig->manager, self->rig->turn, "stop it"), 1);
        return NULL;
    }
    CHECK_EQ_INT(tr_task_list(self->rig->manager, NULL, &cursor, &snapshot, 1), 1);
    CHECK_EQ_INT(tr_task_cancel(self->rig->manager, snapshot.task, "stop it"), 0);
    return NULL;
}

static void check_cancel(struct rig *rig, tr_tool_id tool, bool interrupt, const char *result)
{
    struct gate gate;
    gate_init(&gate);
    struct canceller canceller = {rig, &gate, interrupt};
    pthread_t thread = rig_thread(cancel_when_entered, &canceller);
    tr_launched launched = launch_inline(rig, tool, &gate);
    rig_check(launched.ready, launched.task, TR_OUTCOME_CANCELLED);
    CHECK_EQ_INT(launched.ready->items[0].code, TR_ECANCELED);
    CHECK_EQ_STR(launched.ready->items[0].reason, "stop it");
    CHECK(rig_bytes_are(launched.ready->items[0].result, result));
    tr_batch_release(launched.ready);
    rig_join(thread);
    gate_done(&gate);
}

BOTH(inline_route, cancelled_by_another_thread)
{
    check_cancel(rig, rig->awaiting, false, "partial");
    check_cancel(rig, rig->awaiting, true, "partial");
    check_cancel(rig, rig->deferred, false, "");
    check_cancel(rig, rig->deferred, true, "");
}

BOTH(inline_route, times_out)
{
    struct gate gate;
    gate_init(&gate);
    for (unsigned kind = 0; kind < 2; kind++) {
        tr_request request = TR_REQUEST_INIT(rig->turn, rig->awaiting);
        tr_launched launched;
        request.user = &gate;
        request.options.route = TR_ROUTE_INLINE;
        request.options.run_timeout_ns = kind == 0 ? 3 * TR_MILLISECOND : 0;
        request.options.total_timeout_ns = kind == 1 ? 3 * TR_MILLISECOND : 0;
        CHECK_EQ_INT(tr_launch(rig->manager, &request, &launched), TR_READY);
        rig_check(launched.ready, launched.task, TR_OUTCOME_TIMED_OUT);
        const tr_item *item = launched.ready->items;
        bool started = (item->flags & TR_ITEM_NOT_STARTED) == 0;
        CHECK_EQ_INT(item->code, TR_ETIMEDOUT);
        CHECK(started || kind == 1); /* a total time may be over before the start */
        CHECK(rig_bytes_are(item->result, started ? "partial" : ""));
        CHECK(item->ended_ns - item->accepted_ns >= 3 * TR_MILLISECOND); /* never early */
        tr_batch_release(launched.ready);
    }
    gate_done(&gate);
}

struct nest {
    struct rig *rig;
    unsigned depth;
};

/* Launches itself inline until deep enough; its result is how deep. */
static int run_nest(tr_call *call, void *context)
{
    struct nest *nest = tr_call_user(call);
    tr_snapshot self;
    (void)context;
    tr_call_snapshot(call, &self);
    unsigned depth = ++nest->depth;
    if (depth < 10) {
        tr_launched launched = launch_inline(nest->rig, self.tool, nest);
        rig_check_release(launched.ready, launched.task, TR_OUTCOME_COMPLETED);
    }
    return tr_result_copy(call, &depth, sizeof depth);
}

BOTH(inline_route, nests)
{
    struct nest nest = {rig, 0};
    tr_tool_id tool = rig_tool(rig, "nest", run_nest, NULL);
    tr_launched launched = launch_inline(rig, tool, &nest);
    rig_check_release(launched.ready, launched.task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(nest.depth, 10);
}

static int run_see_state(tr_call *call, void *context)
{
    tr_snapshot *snapshot = tr_call_user(call);
    (void)context;
    tr_call_snapshot(call, snapshot);
    return 0;
}

BOTH(inline_route, cannot_be_detached)
{
    tr_snapshot snapshot;
    tr_tool_id tool = rig_tool(rig, "see", run_see_state, NULL);
    tr_launched launched = launch_inline(rig, tool, &snapshot);
    CHECK_EQ_U64(snapshot.task, launched.task);
    CHECK_EQ_INT(snapshot.state, TR_STATE_RUNNING);
    CHECK_EQ_INT(tr_task_detach(rig->manager, launched.task), TR_EALREADY);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, launched.task, NULL), TR_EALREADY);
    tr_batch_release(launched.ready);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, launched.task, NULL), TR_ENOENT);
}

/* ---- the inline manager ---- */

INLINE(inline_manager, every_route_runs_here)
{
    static const struct {
        tr_route route;
        tr_delivery delivery;
        tr_channel channel;
        tr_kind kind;
    } table[] = {
        {TR_ROUTE_FOREGROUND, TR_DELIVERY_DEFAULT, TR_CHANNEL_TURN, TR_KIND_FOREGROUND},
        {TR_ROUTE_DETACH_AFTER, TR_DELIVERY_DEFAULT, TR_CHANNEL_TURN, TR_KIND_FOREGROUND},
        {TR_ROUTE_BACKGROUND, TR_DELIVERY_TO_LOOP, TR_CHANNEL_LOOP, TR_KIND_BACKGROUND},
        {TR_ROUTE_BACKGROUND, TR_DELIVERY_MANUAL, TR_CHANNEL_READY, TR_KIND_BACKGROUND},
    };
    pthread_t self = pthread_self();
    tr_tool_id tool = rig_tool(rig, "whoami", run_whoami, NULL);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        tr_request request = TR_REQUEST_INIT(rig->turn, tool);
        request.options.route = table[at].route;
        request.options.delivery = table[at].delivery;
        request.options.detach_after_ns = 1000 * TR_SECOND;
        tr_launched launched = rig_launch_request(rig, &request);
        CHECK_EQ_INT(launched.kind, table[at].kind);
        CHECK_EQ_INT(rig_snapshot(rig, launched.task).state, TR_STATE_ENDED);
        tr_batch *batch = table[at].channel == TR_CHANNEL_TURN ? rig_turn_take(rig, rig->turn)
                          : table[at].channel == TR_CHANNEL_LOOP
                              ? rig_loop_take(rig, rig->session)
                              : rig_ready_take(rig, rig->session);
        rig_check(batch, launched.task, TR_OUTCOME_COMPLETED);
        CHECK_EQ_INT(batch->items[0].channel, table[at].channel);
        CHECK_EQ_INT(batch->items[0].kind, table[at].kind);
        CHECK_EQ_INT(memcmp(batch->items[0].result.data, &self, sizeof self), 0);
        tr_batch_release(batch);
    }
}

INLINE(inline_manager, has_no_threads_and_no_descriptors)
{
    /* But for those of its cgroup directory, where programs get leaves of their own. */
    unsigned own = rig_stats(rig).tree_mode == TR_TREE_CGROUP ? 2 : 0;
    unsigned descriptors = rig->descriptors + own;
    CHECK_EQ_INT(rig_threads(), rig->threads);
    CHECK_EQ_INT(rig_descriptors(), descriptors);
    tr_task_id task = rig_launch_text(rig, rig->echo, "x", TR_ROUTE_DEFAULT);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(rig_threads(), rig->threads);
    CHECK_EQ_INT(rig_descriptors(), descriptors);
    CHECK_EQ_U64(rig_stats(rig).workers, 0);
    CHECK(rig_stats(rig).outlive_host); /* there is no thread that its programs could die with */
}

static int run_sleep(tr_call *call, void *context)
{
    (void)context;
    return tr_sleep(call, 2 * TR_MILLISECOND);
}

INLINE(inline_manager, awaiting_functions_block_the_launch)
{
    tr_tool tool = TR_TOOL_INIT("sleep", run_sleep);
    tr_tool_id id = 0;
    tool.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    tr_task_id task = rig_launch(rig, id, NULL, TR_ROUTE_BACKGROUND);
    tr_batch *batch = rig_loop_take(rig, rig->session);
    rig_check(batch, task, TR_OUTCOME_COMPLETED);
    CHECK(batch->items[0].ended_ns - batch->items[0].started_ns >= 2 * TR_MILLISECOND);
    tr_batch_release(batch);
}

static void *close_when_entered(void *argument)
{
    const struct canceller *self = argument;
    gate_await_entered(self->gate, 1);
    CHECK_EQ_INT(tr_manager_close(self->rig->manager, 0), 0);
    return NULL;
}

INLINE(inline_manager, close_stops_what_runs)
{
    struct gate gate;
    gate_init(&gate);
    struct canceller closer = {rig, &gate, false};
    pthread_t thread = rig_thread(close_when_entered, &closer);
    tr_launched launched = launch_inline(rig, rig->awaiting, &gate);
    rig_check_release(launched.ready, launched.task, TR_OUTCOME_CANCELLED);
    rig_join(thread);
    gate_done(&gate);
    rig_free(rig);
    rig_open(rig, RIG_INLINE, NULL); /* for the case's own end */
}
