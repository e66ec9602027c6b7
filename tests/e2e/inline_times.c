/*
 * The inline manager and the clock: nobody but whoever is in the library looks at it, and yet
 * timeouts, detach-after and the expiry of approvals hold.
 */
#include <poll.h>
#include <time.h>

#include "e2e/court.h"
#include "support/host.h"

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * TR_SECOND + (uint64_t)now.tv_nsec;
}

/* What a function does: waits until `until_ns` in one way or another. */
enum way {
    WAY_COMPUTE, /* without a call of the library */
    WAY_REPORT,  /* with tr_call_progress all the while */
    WAY_SLEEP,   /* tr_sleep, shielded: goes on when it is asked to stop */
};

struct work {
    enum way way;
    uint64_t duration_ns;
    bool cancelled; /* it was told so when it had done */
    unsigned runs;
};

static int run_work(tr_call *call, void *context)
{
    struct work *work = tr_call_user(call);
    uint64_t until = now_ns() + work->duration_ns;
    (void)context;
    work->runs++;
    if (work->way == WAY_SLEEP) {
        tr_io timer;
        tr_io *done = NULL;
        memset(&timer, 0, sizeof timer);
        CHECK_EQ_INT(tr_io_timer(call, &timer, work->duration_ns), 0);
        CHECK_EQ_INT(tr_io_wait(call, TR_IO_SHIELD, &done), 0);
    }
    while (now_ns() < until) {
        if (work->way == WAY_REPORT) {
            tr_call_progress(call, 1, 2);
        }
    }
    work->cancelled = tr_call_is_cancelled(call);
    return tr_result_copy(call, "work", 4);
}

static tr_request request_of(struct rig *rig, tr_tool_id tool, struct work *work)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.user = work;
    request.options.route = TR_ROUTE_FOREGROUND;
    return request;
}

/* ---- timeouts ---- */

INLINE(inline_times, a_function_that_is_late_times_out)
{
    tr_tool_id tool = rig_tool(rig, "work", run_work, NULL);
    for (unsigned at = 0; at < 6; at++) {
        struct work work = {at < 3 ? WAY_COMPUTE : WAY_SLEEP, 3 * TR_MILLISECOND, false, 0};
        tr_request request = request_of(rig, tool, &work);
        request.options.run_timeout_ns = at % 3 == 0 ? TR_MILLISECOND : 0;
        request.options.total_timeout_ns = at % 3 == 1 ? TR_MILLISECOND : 0;
        request.options.idle_timeout_ns = at % 3 == 2 ? TR_MILLISECOND : 0;
        tr_task_id task = rig_launch_request(rig, &request).task;
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_TIMED_OUT);
        CHECK_EQ_INT(batch->items[0].code, TR_ETIMEDOUT);
        CHECK(rig_bytes_are(batch->items[0].result, "work")); /* it keeps what it has */
        CHECK_EQ_INT(batch->items[0].flags & TR_ITEM_ABANDONED, 0);
        tr_batch_release(batch);
        CHECK_EQ_INT(work.runs, 1);
        CHECK_EQ_INT(work.cancelled, at >= 3); /* one that awaits is told */
    }
}

INLINE(inline_times, progress_restarts_the_idle_timeout)
{
    tr_tool_id tool = rig_tool(rig, "work", run_work, NULL);
    struct work work = {WAY_REPORT, 30 * TR_MILLISECOND, false, 0};
    tr_request request = request_of(rig, tool, &work);
    request.options.idle_timeout_ns = 20 * TR_SECOND; /* never too short on a slow machine … */
    tr_task_id task = rig_launch_request(rig, &request).task;
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    request.options.run_timeout_ns = TR_MILLISECOND; /* … and reporting is looking */
    task = rig_launch_request(rig, &request).task;
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_TIMED_OUT);
    CHECK(work.cancelled);
}

INLINE(inline_times, a_deferred_call_times_out)
{
    struct gate gate;
    gate_init(&gate);
    for (unsigned at = 0; at < 2; at++) {
        tr_request request = TR_REQUEST_INIT(rig->turn, rig->deferred);
        request.user = &gate;
        request.options.run_timeout_ns = at == 0 ? 2 * TR_MILLISECOND : 0;
        request.options.total_timeout_ns = at == 1 ? 2 * TR_MILLISECOND : 0;
        tr_task_id task =
            rig_launch_request(rig, &request).task; /* returns: the timeout ended it */
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_TIMED_OUT);
        CHECK_EQ_INT(batch->items[0].flags & TR_ITEM_ABANDONED, 0);
        tr_batch_release(batch);
        CHECK_EQ_INT(tr_finish(gate.deferred[at], 0, NULL, 0), TR_ENOENT);
    }
    gate_done(&gate);
}

static void *finish_later(void *argument)
{
    struct gate *gate = argument;
    gate_await_entered(gate, 1);
    while (tr_finish(gate->deferred[0], 0, "done", 4) == TR_ESTATE) {
        /* cannot be: it is running or deferred */
    }
    return NULL;
}

INLINE(inline_times, a_finished_deferred_call_was_not_abandoned)
{
    struct gate gate;
    gate_init(&gate);
    pthread_t thread = rig_thread(finish_later, &gate);
    tr_task_id task = rig_launch(rig, rig->deferred, &gate, TR_ROUTE_BACKGROUND);
    rig_join(thread);
    tr_batch *batch = rig_loop_take(rig, rig->session);
    rig_check(batch, task, TR_OUTCOME_COMPLETED);
    CHECK(rig_bytes_are(batch->items[0].result, "done"));
    tr_batch_release(batch);
    CHECK_EQ_U64(rig_stats(rig).abandoned, 0);
    gate_done(&gate);
}

/* Calls of a batch are accepted together and run one after the other: they queue. */
INLINE(inline_times, a_batch_queues)
{
    tr_tool_id tool = rig_tool(rig, "work", run_work, NULL);
    struct work works[2] = {{WAY_COMPUTE, 4 * TR_MILLISECOND, false, 0},
                            {WAY_COMPUTE, 0, false, 0}};
    tr_request requests[2];
    tr_launched launched[2];
    requests[0] = request_of(rig, tool, &works[0]);
    requests[1] = request_of(rig, tool, &works[1]);
    requests[1].options.queue_timeout_ns = TR_MILLISECOND;
    CHECK_EQ_INT(tr_launch_batch(rig->manager, requests, 2, launched), 2);
    rig_check_release(rig_turn_take(rig, rig->turn), launched[0].task, TR_OUTCOME_COMPLETED);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, launched[1].task, TR_OUTCOME_TIMED_OUT);
    CHECK((batch->items[0].flags & TR_ITEM_NOT_STARTED) != 0);
    tr_batch_release(batch);
    CHECK_EQ_INT(works[1].runs, 0);
}

/* ---- detaching ---- */

INLINE(inline_times, a_call_that_takes_long_is_detached)
{
    tr_tool_id tool = rig_tool(rig, "work", run_work, NULL);
    for (unsigned way = WAY_COMPUTE; way <= WAY_SLEEP; way++) {
        struct work work = {(enum way)way, 3 * TR_MILLISECOND, false, 0};
        tr_request request = request_of(rig, tool, &work);
        request.options.route = TR_ROUTE_DETACH_AFTER;
        request.options.detach_after_ns = TR_MILLISECOND;
        tr_task_id task = rig_launch_request(rig, &request).task;
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK_EQ_INT(batch->items[0].type, TR_ITEM_DETACHED);
        CHECK_EQ_U64(batch->items[0].task, task);
        CHECK((batch->items[0].flags & TR_ITEM_TURN_IDLE) != 0);
        tr_batch_release(batch);
        batch = rig_loop_take(rig, rig->session);
        rig_check(batch, task, TR_OUTCOME_COMPLETED);
        CHECK((batch->items[0].flags & TR_ITEM_WAS_DETACHED) != 0);
        tr_batch_release(batch);
        CHECK(!work.cancelled);
    }
}

struct blocked {
    struct rig *rig;
    struct gate gate;
    tr_request request;
    tr_launched launched;
};

static void *launch_blocked(void *argument)
{
    struct blocked *self = argument;
    self->launched = rig_launch_request(self->rig, &self->request);
    return NULL;
}

/* A thread that waits is told of a time that comes up later, and does what is due, though the
 * function is in nobody's library. */
CASE_TIMEOUT(inline_times, another_waiter_detaches_and_abandons, RIG_TIMEOUT_SECONDS)
{
    struct rig own;
    struct rig *rig = &own;
    struct blocked blocked = {.rig = rig};
    tr_config config = TR_CONFIG_INIT;
    config.cancel_grace_ns = TR_MILLISECOND;
    config.abandon_wait_ns = TR_MILLISECOND;
    rig_open(rig, RIG_INLINE, &config);
    gate_init(&blocked.gate);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->gate);
    request.user = &blocked.gate;
    request.options.route = TR_ROUTE_DETACH_AFTER;
    request.options.detach_after_ns = 2 * TR_MILLISECOND;
    request.options.run_timeout_ns = 4 * TR_MILLISECOND;
    blocked.request = request;
    pthread_t thread = rig_thread(launch_blocked, &blocked);
    gate_await_entered(&blocked.gate, 1);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_INT(batch->items[0].type, TR_ITEM_DETACHED);
    tr_batch_release(batch);
    batch = rig_loop_take(rig, rig->session); /* it is timed out, ignores that, and is abandoned */
    rig_check(batch, batch->items[0].task, TR_OUTCOME_TIMED_OUT);
    CHECK((batch->items[0].flags & TR_ITEM_ABANDONED) != 0);
    CHECK_EQ_U64(rig_stats(rig).abandoned, 1);
    tr_batch_release(batch);
    gate_open(&blocked.gate);
    rig_join(thread);
    CHECK_EQ_U64(rig_stats(rig).abandoned, 0);
    gate_done(&blocked.gate);
    rig_close(rig);
}

static int await_cancel(tr_call *call, void *context)
{
    (void)context;
    return tr_call_await_cancel(call, TR_FOREVER);
}

/* So is a function that awaits: nobody else is in the library here. */
CASE_TIMEOUT(inline_times, another_function_that_awaits_abandons, RIG_TIMEOUT_SECONDS)
{
    struct rig own;
    struct rig *rig = &own;
    struct blocked awaiting = {.rig = rig};
    struct blocked blocked = {.rig = rig};
    tr_queue *queue = NULL;
    tr_turn_options options = TR_TURN_OPTIONS_INIT;
    tr_config config = TR_CONFIG_INIT;
    config.cancel_grace_ns = TR_MILLISECOND;
    config.abandon_wait_ns = TR_MILLISECOND;
    rig_open(rig, RIG_INLINE, &config);
    gate_init(&blocked.gate);
    CHECK_EQ_INT(tr_queue_open(rig->manager, &queue), 0);
    options.queue = queue;
    awaiting.request = (tr_request)TR_REQUEST_INIT(rig->turn, 0);
    awaiting.request.tool = rig_tool(rig, "await_cancel", await_cancel, NULL);
    blocked.request = (tr_request)TR_REQUEST_INIT(0, rig->gate);
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &options, &blocked.request.turn), 0);
    blocked.request.user = &blocked.gate;
    blocked.request.options.run_timeout_ns = 2 * TR_MILLISECOND;
    pthread_t first = rig_thread(launch_blocked, &awaiting);
    tr_snapshot shown = {.state = TR_STATE_QUEUED};
    while (shown.state != TR_STATE_WAITING) {
        tr_cursor cursor = {0, 0};
        (void)tr_task_list(rig->manager, NULL, &cursor, &shown, 1);
    }
    pthread_t second = rig_thread(launch_blocked, &blocked);
    struct pollfd announced = {tr_queue_fd(queue), POLLIN, 0};
    CHECK_EQ_INT(poll(&announced, 1, RIG_PATIENCE_SECONDS * 1000), 1);
    tr_batch *batch = rig_queue_take(queue);
    rig_check(batch, batch->items[0].task, TR_OUTCOME_TIMED_OUT);
    CHECK((batch->items[0].flags & TR_ITEM_ABANDONED) != 0);
    tr_batch_release(batch);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, shown.task, NULL), 0);
    gate_open(&blocked.gate);
    rig_join(second);
    rig_join(first);
    rig_check_release(rig_turn_take(rig, rig->turn), shown.task, TR_OUTCOME_CANCELLED);
    CHECK_EQ_INT(tr_turn_close(rig->manager, blocked.request.turn, 0), 0);
    CHECK_EQ_INT(tr_queue_close(queue), 0);
    gate_done(&blocked.gate);
    rig_close(rig);
}

/* ---- approvals ---- */

#define COURT_INLINE(name_)                                                                        \
    static void name_(struct court *self);                                                         \
    COURT_CASE(inline_times, name_, name_, RIG_INLINE)                                             \
    static void name_(struct court *self)

static void check_denied(tr_batch *batch, tr_task_id task)
{
    rig_check(batch, task, TR_OUTCOME_DENIED);
    CHECK_EQ_INT(batch->items[0].code, TR_EDENIED);
    CHECK_EQ_STR(batch->items[0].reason, "no approval in time");
    tr_batch_release(batch);
}

COURT_INLINE(waiting_sees_an_approval_expire)
{
    struct rig *rig = &self->rig;
    tr_task_id task = court_launch(self, rig->echo, "expire", TR_ROUTE_FOREGROUND);
    court_check(rig_turn_take(rig, rig->turn), task, 0, "expire");
    check_denied(rig_turn_take(rig, rig->turn), task);
    task = court_launch(self, rig->echo, "expire", TR_ROUTE_BACKGROUND);
    court_check(rig_loop_take(rig, rig->session), task, 0, "expire");
    check_denied(rig_loop_take(rig, rig->session), task);
    task = court_launch(self, rig->echo, "expire", TR_ROUTE_BACKGROUND);
    rig_wait_idle(rig);
    court_check(rig_loop_take(rig, rig->session), task, 0, "expire");
    check_denied(rig_loop_take(rig, rig->session), task);
}

COURT_INLINE(draining_sees_an_approval_expire)
{
    struct rig *rig = &self->rig;
    tr_queue *queue = NULL;
    tr_turn_options options = TR_TURN_OPTIONS_INIT;
    CHECK_EQ_INT(tr_queue_open(rig->manager, &queue), 0);
    options.queue = queue;
    tr_request request = court_request(self, rig->echo, "expire");
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &options, &request.turn), 0);
    tr_task_id task = rig_launch_request(rig, &request).task;
    court_check(rig_queue_take(queue), task, 0, "expire");
    check_denied(rig_queue_take(queue), task);
    CHECK_EQ_INT(tr_turn_close(rig->manager, request.turn, 0), 0);
    CHECK_EQ_INT(tr_queue_close(queue), 0);
}

/* A wait that ends by itself before the expiry leaves it alone; whoever looks after it sees the
 * task ended. */
COURT_INLINE(looking_sees_an_approval_expired)
{
    struct rig *rig = &self->rig;
    for (unsigned how = 0; how < 4; how++) {
        tr_snapshot snapshot;
        tr_cursor cursor = {0, 0};
        tr_task_id task = court_launch(self, rig->echo, "expire", TR_ROUTE_BACKGROUND);
        uint64_t until = now_ns() + (EXPIRE_MS + 2) * TR_MILLISECOND; /* a tick late at most */
        while (now_ns() < until) {
            /* the library is not entered meanwhile */
        }
        if (how == 0) {
            CHECK_EQ_INT(tr_task_approve(rig->manager, task), TR_EALREADY);
        } else if (how == 1) {
            CHECK_EQ_INT(tr_task_deny(rig->manager, task, NULL), TR_EALREADY);
        } else if (how == 2) {
            CHECK_EQ_INT(tr_task_list(rig->manager, NULL, &cursor, &snapshot, 1), 0);
        } else {
            CHECK_EQ_INT(rig_snapshot(rig, task).outcome, TR_OUTCOME_DENIED);
        }
        CHECK_EQ_INT(rig_loop_flush(rig, rig->session), 2);
    }
    CHECK_EQ_U64(rig_stats(rig).denied, 4);
}

COURT_INLINE(an_approved_call_keeps_its_timeouts)
{
    struct rig *rig = &self->rig;
    for (unsigned at = 0; at < 3; at++) {
        tr_request request = court_request(self, at == 2 ? rig->deferred : rig->awaiting, "ask1");
        request.options.run_timeout_ns = at == 1 ? 0 : 2 * TR_MILLISECOND;
        request.options.total_timeout_ns = at == 1 ? 20 * TR_MILLISECOND : 0;
        tr_task_id task = rig_launch_request(rig, &request).task;
        tr_batch_release(rig_turn_take(rig, rig->turn));
        int error = tr_task_approve(rig->manager, task); /* runs it, until it times out */
        CHECK(error == 0 || (at == 1 && error == TR_EALREADY));
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_TIMED_OUT);
        CHECK(rig_bytes_are(batch->items[0].result, at == 2 ? "" : "partial") || error < 0);
        tr_batch_release(batch);
    }
}

COURT_INLINE(a_call_that_waits_for_approval_is_detached)
{
    struct rig *rig = &self->rig;
    tr_request request = court_request(self, rig->echo, "ask1");
    request.options.route = TR_ROUTE_DETACH_AFTER;
    request.options.detach_after_ns = 2 * TR_MILLISECOND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    tr_batch_release(rig_turn_take(rig, rig->turn));
    tr_batch *batch = rig_turn_take(rig, rig->turn); /* its turn waits no longer */
    CHECK_EQ_INT(batch->items[0].type, TR_ITEM_DETACHED);
    tr_batch_release(batch);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    rig_check_release(rig_loop_take(rig, rig->session), task, TR_OUTCOME_COMPLETED);
}

COURT_INLINE(a_timed_wait_ends_before_the_expiry)
{
    struct rig *rig = &self->rig;
    tr_batch *batch = NULL;
    tr_request request = court_request(self, rig->echo, "ask1");
    request.options.total_timeout_ns = 1000 * TR_SECOND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    tr_batch_release(rig_turn_take(rig, rig->turn));
    uint64_t from = now_ns();
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 3 * TR_MILLISECOND, 1, &batch),
                 TR_ETIMEDOUT);
    CHECK(now_ns() - from >= 3 * TR_MILLISECOND);
    CHECK_EQ_INT(tr_task_deny(rig->manager, task, "no"), 0);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_DENIED);
}
