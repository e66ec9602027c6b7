/*
 * What is left after a close: taking from closed sessions until nothing can come, and requests of
 * tasks that outlive their turn.
 */
#include <stdio.h>

#include "e2e/court.h"

/* ---- taking from a closed session ---- */

typedef int (*take_function)(tr_manager *manager, tr_session_id session, uint64_t timeout_ns,
                             size_t items_max, tr_batch **ret_batch);

struct taker {
    struct rig *rig;
    tr_session_id session;
    take_function take;
    unsigned items;
    int last;
};

/* Takes until it is told that nothing will come. */
static void *take_to_the_end(void *argument)
{
    struct taker *self = argument;
    for (;;) {
        tr_batch *batch = NULL;
        self->last = self->take(self->rig->manager, self->session, TR_FOREVER, 4, &batch);
        if (self->last < 0) {
            CHECK_EQ_PTR(batch, NULL);
            return NULL;
        }
        CHECK(self->last > 0);
        self->items += (unsigned)batch->count;
        tr_batch_release(batch);
    }
}

static bool is_end(int error)
{
    return error == TR_ECLOSED || error == TR_ENOENT;
}

static tr_task_id launch_for_good(struct rig *rig, struct gate *gate, tr_delivery delivery,
                                  uint64_t total_timeout_ns)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->awaiting);
    request.user = gate;
    request.options.route = TR_ROUTE_BACKGROUND;
    request.options.lifetime = TR_LIFETIME_MANAGER;
    request.options.delivery = delivery;
    request.options.total_timeout_ns = total_timeout_ns;
    return rig_launch_request(rig, &request).task;
}

/* Takers of both channels sleep in a closed session until its last task, whichever channel that
 * comes through; both are told. */
THREADED(after_close, takers_wait_for_what_is_left)
{
    for (unsigned round = 0; round < 100; round++) {
        struct gate gate;
        gate_init(&gate);
        tr_session_id session = rig_session(rig);
        rig->turn = rig_turn(rig, session);
        uint64_t timeout = round % 3 == 0 ? 3600 * TR_SECOND : 0;
        (void)launch_for_good(rig, &gate, TR_DELIVERY_TO_LOOP, timeout);
        (void)launch_for_good(rig, &gate, TR_DELIVERY_TO_LOOP, 0);
        (void)launch_for_good(rig, &gate, TR_DELIVERY_MANUAL, timeout);
        gate_await_entered(&gate, 3);
        if (round % 2 == 0) {
            CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
        }
        struct taker loop = {rig, session, tr_loop_take, 0, 1};
        struct taker ready = {rig, session, tr_ready_take, 0, 1};
        pthread_t threads[] = {rig_thread(take_to_the_end, &loop),
                               rig_thread(take_to_the_end, &ready)};
        if (round % 2 != 0) {
            CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
        }
        gate_open(&gate);
        rig_join(threads[0]);
        rig_join(threads[1]);
        CHECK_EQ_INT(loop.items, 2);
        CHECK_EQ_INT(ready.items, 1);
        CHECK(is_end(loop.last) && is_end(ready.last));
        tr_batch *batch = NULL;
        CHECK_EQ_INT(tr_loop_take(rig->manager, session, TR_FOREVER, 1, &batch), TR_ENOENT);
        gate_done(&gate);
    }
}

BOTH(after_close, look_tells_the_end)
{
    tr_session_id session = rig_session(rig);
    tr_batch *batch = NULL;
    rig->turn = rig_turn(rig, session);
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
    rig_wait_idle(rig);
    CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
    CHECK_EQ_INT(tr_ready_take(rig->manager, session, 0, 1, &batch), 0); /* one is left */
    batch = rig_loop_take(rig, session);
    tr_batch *none = NULL;
    CHECK_EQ_INT(tr_loop_take(rig->manager, session, 0, 1, &none), 0); /* it is not released */
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    int last = tr_loop_take(rig->manager, session, TR_FOREVER, 1, &none);
    CHECK(is_end(last));
    CHECK_EQ_INT(tr_loop_take(rig->manager, session, TR_FOREVER, 1, &none), TR_ENOENT);
}

/* Discarded: takers leave at once, whatever still runs. */
THREADED(after_close, discard_sends_takers_away)
{
    for (unsigned round = 0; round < 100; round++) {
        struct gate gate;
        gate_init(&gate);
        tr_session_id session = rig_session(rig);
        rig->turn = rig_turn(rig, session);
        (void)launch_for_good(rig, &gate, TR_DELIVERY_TO_LOOP, 0);
        struct taker loop = {rig, session, tr_loop_take, 0, 1};
        pthread_t thread = rig_thread(take_to_the_end, &loop);
        if (round % 2 == 0) {
            CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
            CHECK_EQ_INT(tr_session_close(rig->manager, session, TR_CLOSE_DISCARD), TR_EALREADY);
            gate_open(&gate);
        } else {
            CHECK_EQ_INT(tr_session_close(rig->manager, session, TR_CLOSE_DISCARD), 0);
        }
        rig_join(thread);
        CHECK(is_end(loop.last));
        /* A taker that is awake may be quicker than the discarding. */
        CHECK(round % 2 == 0 ? loop.items == 1 : loop.items <= 1);
        rig_wait_idle(rig);
        gate_done(&gate);
    }
}

THREADED(after_close, closing_the_manager_sends_takers_away)
{
    struct taker loop = {rig, rig->session, tr_loop_take, 0, 1};
    struct taker ready = {rig, rig->session, tr_ready_take, 0, 1};
    (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
    pthread_t threads[] = {rig_thread(take_to_the_end, &loop), rig_thread(take_to_the_end, &ready)};
    CHECK_EQ_INT(tr_manager_close(rig->manager, RIG_PATIENCE_NS), 0);
    rig_join(threads[0]);
    rig_join(threads[1]);
    CHECK_EQ_INT(loop.items, 1);
    CHECK_EQ_INT(loop.last, TR_ECLOSED);
    CHECK_EQ_INT(ready.last, TR_ECLOSED);
    rig_free(rig);
    rig_open(rig, RIG_THREADED, NULL);
}

/* ---- what a failure leaves alone ---- */

BOTH(after_close, failure_writes_nothing)
{
    tr_batch mark;
    tr_batch *batch = &mark;
    tr_queue *queue = NULL;
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    tr_session_id bound = 0;
    tr_manager *manager = rig->manager;
    CHECK_EQ_INT(tr_queue_open(manager, &queue), 0);
    options.queue = queue;
    CHECK_EQ_INT(tr_session_open(manager, &options, &bound), 0);
    struct gate gate;
    gate_init(&gate);
    if (rig->mode == RIG_THREADED) {
        (void)rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
        CHECK_EQ_INT(tr_turn_wait(manager, rig->turn, NULL, 0, 1, &batch), TR_ETIMEDOUT);
        gate_open(&gate);
        CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 1);
    }
    gate_await_left(&gate, rig->mode == RIG_THREADED);
    gate_done(&gate);
    CHECK_EQ_INT(tr_turn_wait(manager, 0, NULL, 0, 1, &batch), TR_ENOENT);
    CHECK_EQ_INT(tr_loop_take(manager, 0, 0, 1, &batch), TR_ENOENT);
    CHECK_EQ_INT(tr_loop_take(manager, bound, 0, 1, &batch), TR_ESTATE);
    CHECK_EQ_INT(tr_ready_take(manager, bound, 0, 0, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_session_close(manager, rig->session, 0), 0);
    int last = tr_loop_take(manager, rig->session, TR_FOREVER, 1, &batch);
    CHECK(is_end(last));
    CHECK_EQ_INT(tr_manager_close(manager, RIG_PATIENCE_NS), 0);
    CHECK_EQ_INT(tr_queue_drain(queue, TR_FOREVER, 1, &batch), TR_ECLOSED);
    CHECK_EQ_PTR(batch, &mark);
    rig_free(rig);
    rig_open(rig, rig->mode, NULL);
}

/* ---- requests that outlive their turn ---- */

/* The task was detached before its turn closed: it waits for its approval in the background, and
 * the request, wherever it was, goes where the resolution will. */
static void check_forwarding(struct court *self, tr_delivery delivery, bool session_bound,
                             bool turn_bound, bool detach_late)
{
    struct rig *rig = &self->rig;
    tr_session_options session_options = TR_SESSION_OPTIONS_INIT;
    tr_turn_options turn_options = TR_TURN_OPTIONS_INIT;
    tr_session_id session = 0;
    tr_queue *queue = NULL;
    CHECK_EQ_INT(tr_queue_open(rig->manager, &queue), 0);
    session_options.queue = session_bound ? queue : NULL;
    CHECK_EQ_INT(tr_session_open(rig->manager, &session_options, &session), 0);
    turn_options.queue = turn_bound ? queue : NULL;
    turn_options.flags = turn_bound ? 0 : TR_TURN_UNBOUND;
    CHECK_EQ_INT(tr_turn_open(rig->manager, session, &turn_options, &rig->turn), 0);

    tr_request request = court_request(self, rig->echo, "ask2");
    request.options.delivery = delivery;
    tr_task_id task = rig_launch_request(rig, &request).task;
    if (detach_late) { /* a first approval: that request is of no use any more */
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    }
    CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
    CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, 0), 0);
    if (turn_bound && !session_bound) { /* its consumer sends the request on */
        tr_batch *none = NULL;
        CHECK_EQ_INT(tr_queue_drain(queue, 0, 64, &none), 0);
    }
    take_function take = delivery == TR_DELIVERY_MANUAL ? tr_ready_take : tr_loop_take;
    for (unsigned approvals = detach_late ? 1 : 0; approvals < 2; approvals++) {
        tr_batch *batch = NULL;
        int count = session_bound ? tr_queue_drain(queue, RIG_PATIENCE_NS, 1, &batch)
                                  : take(rig->manager, session, RIG_PATIENCE_NS, 1, &batch);
        CHECK_EQ_INT(count, 1);
        CHECK_EQ_INT(batch->items[0].kind, TR_KIND_BACKGROUND);
        CHECK_EQ_INT(batch->items[0].channel,
                     delivery == TR_DELIVERY_MANUAL ? TR_CHANNEL_READY : TR_CHANNEL_LOOP);
        court_check(batch, task, approvals, "ask2");
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    }
    tr_batch *batch = NULL;
    int count = session_bound ? tr_queue_drain(queue, RIG_PATIENCE_NS, 1, &batch)
                              : take(rig->manager, session, RIG_PATIENCE_NS, 1, &batch);
    CHECK_EQ_INT(count, 1);
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
    CHECK_EQ_INT(tr_queue_close(queue), 0);
}

COURT(after_close, requests_of_detached_tasks_are_forwarded)
{
    for (unsigned way = 0; way < 16; way++) {
        check_forwarding(self, (way & 1) != 0 ? TR_DELIVERY_MANUAL : TR_DELIVERY_TO_LOOP,
                         (way & 2) != 0, (way & 4) != 0, (way & 8) != 0);
    }
}

/* What nobody waits for is dropped: a task that was cancelled, or decided. */
COURT(after_close, requests_that_are_over_are_dropped)
{
    struct rig *rig = &self->rig;
    for (unsigned way = 0; way < 4; way++) {
        tr_session_id session = rig_session(rig);
        rig->turn = rig_turn(rig, session);
        tr_task_id task = court_launch(self, rig->echo, "ask1", TR_ROUTE_FOREGROUND);
        CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
        if (way == 1) {
            CHECK_EQ_INT(tr_task_deny(rig->manager, task, "no"), 0);
        } else if (way == 2) {
            CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "no"), 0);
        } else if (way == 3) {
            CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
        }
        CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, way == 0 ? TR_CLOSE_DISCARD : 0), 0);
        tr_batch *batch = rig_loop_take(rig, session);
        rig_check_release(batch, task,
                          way == 1   ? TR_OUTCOME_DENIED
                          : way == 3 ? TR_OUTCOME_COMPLETED
                                     : TR_OUTCOME_CANCELLED);
        rig_loop_is_empty(rig, session);
        CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
    }
}

/* ---- approvals beside a call that runs in its launch ---- */

struct launcher {
    struct court *court;
    tr_launched launched[2];
    int accepted;
};

static void *launch_both(void *argument)
{
    struct launcher *self = argument;
    struct rig *rig = &self->court->rig;
    tr_request requests[] = {TR_REQUEST_INIT(rig->turn, rig->gate),
                             court_request(self->court, rig->echo, "ask1")};
    requests[0].user = &self->court->gate;
    requests[0].options.route = TR_ROUTE_INLINE;
    self->accepted = tr_launch_batch(rig->manager, requests, 2, self->launched);
    return NULL;
}

/* A request is pushed, and can be answered, before a call of the same batch runs in the launch. */
COURT_THREADED(after_close, approval_beside_a_long_inline_call)
{
    struct rig *rig = &self->rig;
    struct launcher launcher = {self, {{0}}, 0};
    pthread_t thread = rig_thread(launch_both, &launcher);
    gate_await_entered(&self->gate, 1); /* the inline call runs, the launch goes on */
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    tr_task_id task = batch->items[0].task;
    court_check(batch, task, 0, "ask1");
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0); /* does not wait for it either */
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    gate_open(&self->gate);
    rig_join(thread);
    CHECK_EQ_INT(launcher.accepted, 2);
    tr_batch_release(launcher.launched[0].ready);
}
