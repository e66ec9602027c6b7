/*
 * Closing managers end to end: with and without time to drain, under load, with what does not end.
 */
#include "support/gated.h"

/* ---- closing the manager ---- */

THREADED(closing, close_drains)
{
    struct gate gate;
    gate_init(&gate);
    tr_task_id front = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->gate);
    request.user = &gate;
    request.options.route = TR_ROUTE_BACKGROUND;
    request.options.lifetime = TR_LIFETIME_MANAGER;
    tr_task_id behind = rig_launch_request(rig, &request).task;
    gate_await_entered(&gate, 2);
    gate_open(&gate);
    CHECK_EQ_INT(tr_manager_close(rig->manager, TR_FOREVER), 0);
    CHECK_EQ_INT(tr_manager_close(rig->manager, TR_FOREVER), TR_EALREADY);
    WAIT_UNTIL(rig_threads() <= rig->threads, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
    CHECK_EQ_INT(rig_descriptors(), rig->descriptors); /* none is left before the free */
    rig_check_release(rig_turn_take(rig, rig->turn), front, TR_OUTCOME_COMPLETED);
    rig_check_release(rig_loop_take(rig, rig->session), behind, TR_OUTCOME_COMPLETED);
    rig_free(rig);
    rig_open(rig, RIG_THREADED, NULL); /* for the case's own end */
}

THREADED(closing, close_cancels_what_is_left)
{
    struct gate gate;
    gate_init(&gate);
    tr_tool_id tools[] = {rig->awaiting, rig->deferred, rig->awaiting, rig->deferred};
    tr_task_id tasks[4];
    for (unsigned at = 0; at < 4; at++) {
        tr_request request = TR_REQUEST_INIT(rig->turn, tools[at]);
        request.user = &gate;
        request.options.route = at < 2 ? TR_ROUTE_FOREGROUND : TR_ROUTE_BACKGROUND;
        request.options.lifetime = TR_LIFETIME_MANAGER;
        tasks[at] = rig_launch_request(rig, &request).task;
    }
    gate_await_entered(&gate, 4);
    rig_shut(rig, TR_MILLISECOND);
    CHECK_EQ_U64(rig_stats(rig).cancelled, 4);
    for (unsigned at = 0; at < 4; at++) {
        if (gate.deferred[at].manager != NULL) {
            CHECK_EQ_INT(tr_finish(gate.deferred[at], 0, "x", 1), TR_EALREADY);
        }
    }
    gate_done(&gate);
    /* Every outcome is in its channel. */
    unsigned seen = 0;
    for (unsigned at = 0; at < 4; at++) {
        tr_batch *batch = at < 2 ? rig_turn_take(rig, rig->turn) : rig_loop_take(rig, rig->session);
        CHECK_EQ_INT(batch->items[0].outcome, TR_OUTCOME_CANCELLED);
        CHECK(batch->items[0].reason[0] != '\0');
        for (unsigned which = 0; which < 4; which++) {
            seen += batch->items[0].task == tasks[which];
        }
        tr_batch_release(batch);
    }
    CHECK_EQ_INT(seen, 4);
    rig_free(rig);
    rig_open(rig, RIG_THREADED, NULL); /* for the case's own end */
}

/* A plain function is waited for, so that its thread can be joined, and its outcome is
 * `cancelled`. */
static void *open_when_cancelled(void *argument)
{
    struct rig *rig = argument;
    struct gate *gate = NULL;
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_INT(batch->items[0].outcome, TR_OUTCOME_CANCELLED);
    gate = batch->items[0].user;
    tr_batch_release(batch);
    gate_open(gate);
    return NULL;
}

THREADED(closing, close_waits_for_functions_that_do_not_look)
{
    struct gate gate;
    gate_init(&gate);
    (void)rig_launch(rig, rig->gate, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 1);
    pthread_t thread = rig_thread(open_when_cancelled, rig);
    CHECK_EQ_INT(tr_manager_close(rig->manager, 0), 0);
    rig_join(thread);
    CHECK_EQ_U64(rig_stats(rig).abandoned, 0);
    gate_done(&gate);
    rig_free(rig);
    rig_open(rig, RIG_THREADED, NULL); /* for the case's own end */
}

/* One that never returns is left behind, with what it uses, and everything else is gone. */
static struct rig left_rig; /* what is left behind stays in sight of leak checkers */
static struct gate left_gate;

CASE_TIMEOUT(closing, close_leaves_behind_what_never_returns, RIG_TIMEOUT_SECONDS)
{
    struct rig *rig = &left_rig;
    tr_config config = TR_CONFIG_INIT;
    config.workers = 4;
    config.abandon_wait_ns = 5 * TR_MILLISECOND;
    config.cancel_grace_ns = 5 * TR_MILLISECOND;
    gate_init(&left_gate);
    rig_open(rig, RIG_THREADED, &config);
    tr_task_id stuck = rig_launch(rig, rig->gate, &left_gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&left_gate, 1);
    tr_task_id other = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
    CHECK_EQ_INT(tr_manager_close(rig->manager, 0), TR_EBUSY);
    CHECK_EQ_INT(tr_manager_close(rig->manager, 0), TR_EALREADY);
    rig_check_release(rig_turn_take(rig, rig->turn), stuck, TR_OUTCOME_CANCELLED);
    tr_batch *batch = rig_loop_take(rig, rig->session);
    CHECK_EQ_U64(batch->items[0].task, other);
    tr_batch_release(batch);
    CHECK_EQ_U64(rig_stats(rig).abandoned, 1);
    tr_manager *manager = rig->manager;
    tr_manager_free(manager);
    CHECK(rig_threads() >= rig->threads + 1);
    gate_open(&left_gate); /* it may return even now */
    gate_await_left(&left_gate, 1);
}

/* ---- closing while others launch ---- */

struct crew {
    struct rig *rig;
    tr_turn_id turn;
    tr_session_id session;
    unsigned accepted;
    unsigned resolved;
    unsigned refused;
    bool inline_calls;
};

static int run_brief(tr_call *call, void *context)
{
    (void)context;
    return tr_sleep(call, TR_MILLISECOND / 4);
}

/* Launches until it is told that the manager is closed. */
static void *launch_until_closed(void *argument)
{
    struct crew *self = argument;
    struct rig *rig = self->rig;
    tr_tool_id brief = 0;
    CHECK_EQ_INT(tr_tool_find(rig->manager, "brief", &brief), 0);
    for (unsigned at = 0;; at++) {
        tr_request requests[4];
        tr_launched launched[4];
        for (unsigned each = 0; each < 4; each++) {
            tr_request request =
                TR_REQUEST_INIT(self->turn, (at + each) % 3 == 0 ? brief : rig->nothing);
            request.options.route = (tr_route)(2 + (at + each) % 3);
            request.options.detach_after_ns = TR_MILLISECOND;
            request.options.delivery = (tr_delivery)(at % 3);
            request.options.lifetime = (tr_lifetime)(at % 4);
            requests[each] = request;
        }
        (void)tr_launch_batch(rig->manager, requests, 1 + at % 4, launched);
        bool closed = false;
        for (unsigned each = 0; each < 1 + at % 4; each++) {
            self->accepted += launched[each].status >= 0;
            self->refused += launched[each].status == TR_EAGAIN;
            closed |= launched[each].status == TR_ECLOSED;
            CHECK(launched[each].status == TR_PENDING || launched[each].status == TR_EAGAIN ||
                  launched[each].status == TR_ECLOSED);
        }
        if (closed) {
            return NULL;
        }
        (void)rig_sweep(rig, self->turn, self->session, &self->resolved);
    }
}

enum {
    CREW = 3,
};

static void check_close_under_load(enum rig_mode mode, uint64_t drain_ns)
{
    struct rig rig;
    struct crew crew[CREW];
    pthread_t threads[CREW];
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 300;
    rig_open(&rig, mode, &config);
    tr_tool tool = TR_TOOL_INIT("brief", run_brief);
    tool.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig.manager, &tool, NULL), 0);
    for (unsigned at = 0; at < CREW; at++) {
        tr_session_id session = rig_session(&rig);
        struct crew self = {&rig, rig_turn(&rig, session), session, 0, 0, 0, false};
        crew[at] = self;
        threads[at] = rig_thread(launch_until_closed, &crew[at]);
    }
    WAIT_UNTIL(rig_stats(&rig).completed > 300, RIG_PATIENCE_SECONDS);
    rig_shut(&rig, drain_ns);
    uint64_t accepted = 0;
    for (unsigned at = 0; at < CREW; at++) {
        rig_join(threads[at]);
        while (rig_sweep(&rig, crew[at].turn, crew[at].session, &crew[at].resolved)) {
            /* what was not taken can be taken */
        }
        rig_turn_is_idle(&rig, crew[at].turn);
        CHECK_EQ_INT(crew[at].resolved, crew[at].accepted); /* none lost, none twice */
        accepted += crew[at].accepted;
    }
    CHECK_EQ_U64(rig_stats(&rig).accepted, accepted);
    rig_free(&rig);
}

CASE_TIMEOUT(closing, close_under_load_without_drain, 120)
{
    for (unsigned round = 0; round < 5; round++) {
        check_close_under_load(RIG_THREADED, 0);
    }
}

CASE_TIMEOUT(closing, close_under_load_with_drain, 120)
{
    for (unsigned round = 0; round < 5; round++) {
        check_close_under_load(RIG_THREADED, RIG_PATIENCE_NS);
    }
}

CASE_TIMEOUT(closing, close_under_load_inline, 120)
{
    for (unsigned round = 0; round < 5; round++) {
        check_close_under_load(RIG_INLINE, RIG_PATIENCE_NS);
    }
}

/* ---- what is refused afterwards ---- */

BOTH(closing, closed_managers_refuse)
{
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
    rig_shut(rig, RIG_PATIENCE_NS);
    tr_manager *manager = rig->manager;
    uint64_t id = 7;
    tr_queue *queue = NULL;
    tr_tool tool = TR_TOOL_INIT("late", run_brief);
    CHECK_EQ_INT(tr_session_open(manager, NULL, &id), TR_ECLOSED);
    CHECK_EQ_INT(tr_turn_open(manager, rig->session, NULL, &id), TR_ECLOSED);
    CHECK_EQ_INT(tr_tool_register(manager, &tool, NULL), TR_ECLOSED);
    CHECK_EQ_INT(tr_queue_open(manager, &queue), TR_ECLOSED);
    CHECK_EQ_U64(id, 7);
    CHECK_EQ_PTR(queue, NULL);
    /* What looks, steers, takes and closes goes on. */
    tr_tool_id found = 0;
    CHECK_EQ_INT(tr_tool_find(manager, "echo", &found), 0);
    CHECK_EQ_INT(tr_task_cancel(manager, task, NULL), TR_EALREADY);
    CHECK_EQ_INT(tr_turn_interrupt(manager, rig->turn, NULL), 0);
    CHECK_EQ_INT(rig_snapshot(rig, task).state, TR_STATE_ENDED);
    CHECK_EQ_INT(tr_manager_wait_idle(manager, TR_FOREVER), 0);
    rig_check_release(rig_loop_take(rig, rig->session), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(tr_turn_close(manager, rig->turn, 0), 0);
    CHECK_EQ_INT(tr_session_close(manager, rig->session, 0), 0);
    CHECK_EQ_INT(tr_manager_close(NULL, 0), TR_EINVAL);
    rig_free(rig);
    rig_open(rig, rig->mode, NULL); /* for the case's own end */
}

/* ---- opening and closing, again and again ---- */

CASE_TIMEOUT(closing, managers_come_and_go, 120)
{
    for (unsigned round = 0; round < 40; round++) {
        struct rig rig;
        rig_open(&rig, round % 4 == 3 ? RIG_INLINE : RIG_THREADED, NULL);
        for (unsigned at = 0; at < round; at++) {
            (void)rig_launch(&rig, at % 2 == 0 ? rig.nothing : rig.echo, NULL,
                             at % 3 == 0 ? TR_ROUTE_FOREGROUND : TR_ROUTE_BACKGROUND);
        }
        rig_shut(&rig, round % 2 == 0 ? 0 : RIG_PATIENCE_NS);
        rig_free(&rig);
    }
}

CASE_TIMEOUT(closing, managers_live_beside_each_other, RIG_TIMEOUT_SECONDS)
{
    struct rig rigs[4];
    unsigned threads = rig_threads();
    unsigned descriptors = rig_descriptors();
    for (unsigned at = 0; at < 4; at++) {
        rig_open(&rigs[at], at == 3 ? RIG_INLINE : RIG_THREADED, NULL);
    }
    for (unsigned at = 0; at < 400; at++) {
        struct rig *rig = &rigs[at % 4];
        tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
        rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    }
    for (unsigned at = 0; at < 4; at++) {
        rigs[at].threads = threads + 64; /* the others' are still there */
        rigs[at].descriptors = rig_descriptors();
        rig_shut(&rigs[at], RIG_PATIENCE_NS);
        tr_manager_free(rigs[at].manager);
    }
    WAIT_UNTIL(rig_threads() <= threads, RIG_PATIENCE_SECONDS);
    CHECK_EQ_INT(rig_descriptors(), descriptors);
}
