/*
 * Approval end to end: what may happen to a task while it waits, and how it is seen meanwhile.
 */
#include "e2e/court.h"

/* ---- what may happen while it waits ---- */

COURT(approval_wait, cancel_while_waiting)
{
    struct rig *rig = &self->rig;
    tr_tool_id tools[] = {rig->echo, rig->awaiting};
    for (unsigned at = 0; at < 4; at++) {
        tr_task_id task = court_launch(self, tools[at % 2], "ask1", TR_ROUTE_FOREGROUND);
        if (at < 2) {
            CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "never mind"), 0);
        } else {
            CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, "never mind"), 1);
        }
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), TR_EALREADY);
        court_check(rig_turn_take(rig, rig->turn), task, 0, "ask1"); /* it was made before */
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_NOT_STARTED | TR_ITEM_TURN_IDLE);
        CHECK_EQ_STR(batch->items[0].reason, "never mind");
        rig_check_release(batch, task, TR_OUTCOME_CANCELLED);
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).fibers_used, 0);
}

COURT(approval_wait, detach_and_attach_while_waiting)
{
    struct rig *rig = &self->rig;
    tr_task_id task = court_launch(self, rig->echo, "ask2", TR_ROUTE_FOREGROUND);
    court_check(rig_turn_take(rig, rig->turn), task, 0, "ask2");
    CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_INT(batch->items[0].type, TR_ITEM_DETACHED);
    tr_batch_release(batch);
    rig_turn_is_idle(rig, rig->turn);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    court_check(rig_loop_take(rig, rig->session), task, 1, "ask2"); /* it is background now */
    CHECK_EQ_INT(tr_task_attach(rig->manager, task), 0);
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_ETIMEDOUT);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    rig_turn_is_idle(rig, rig->turn);
}

COURT_THREADED(approval_wait, expiry_denies)
{
    struct rig *rig = &self->rig;
    tr_tool_id tools[] = {rig->echo, rig->awaiting};
    for (unsigned at = 0; at < 2; at++) {
        tr_task_id task = court_launch(self, tools[at], "expire", TR_ROUTE_FOREGROUND);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        uint64_t requested_ns = batch->items[0].ended_ns;
        court_check(batch, task, 0, "expire");
        batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_DENIED);
        CHECK_EQ_INT(batch->items[0].code, TR_EDENIED);
        CHECK(batch->items[0].reason[0] != '\0');
        CHECK(batch->items[0].ended_ns - requested_ns >= EXPIRE_MS * TR_MILLISECOND);
        tr_batch_release(batch);
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).fibers_used, 0);
}

/* Each request has its own expiry; one that was approved in time does not hit the running task. */
COURT_THREADED(approval_wait, expiry_dies_with_its_request)
{
    struct rig *rig = &self->rig;
    tr_task_id task = court_launch(self, rig->awaiting, "expire", TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    tr_batch_release(batch);
    int error = tr_task_approve(rig->manager, task); /* asked again: "expire" never allows */
    CHECK(error == 0 || error == TR_EALREADY);
    unsigned requests = 0;
    tr_outcome outcome = TR_OUTCOME_NONE;
    while (outcome == TR_OUTCOME_NONE) {
        batch = rig_turn_take(rig, rig->turn);
        requests += batch->items[0].type == TR_ITEM_APPROVAL;
        outcome = batch->items[0].outcome;
        tr_batch_release(batch);
    }
    CHECK_EQ_INT(outcome, TR_OUTCOME_DENIED);
    CHECK_EQ_INT(requests, error == 0 ? 1 : 0);
}

COURT_THREADED(approval_wait, timeout_while_waiting)
{
    struct rig *rig = &self->rig;
    tr_request request = court_request(self, rig->awaiting, "ask1");
    request.options.total_timeout_ns = 3 * TR_MILLISECOND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    court_check(rig_turn_take(rig, rig->turn), task, 0, "ask1");
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK(batch->items[0].ended_ns - batch->items[0].accepted_ns >= 3 * TR_MILLISECOND);
    rig_check_release(batch, task, TR_OUTCOME_TIMED_OUT);
    /* A run timeout counts from the start, not while somebody thinks. */
    request.options.total_timeout_ns = 0;
    request.options.run_timeout_ns = TR_MILLISECOND;
    request.options.queue_timeout_ns = TR_SECOND * 3600;
    task = rig_launch_request(rig, &request).task;
    court_check(rig_turn_take(rig, rig->turn), task, 0, "ask1");
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 5 * TR_MILLISECOND, 1, &batch),
                 TR_ETIMEDOUT);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    batch = rig_turn_take(rig, rig->turn);
    CHECK(batch->items[0].started_ns > 0);
    rig_check_release(batch, task, TR_OUTCOME_TIMED_OUT);
}

COURT(approval_wait, closing_while_waiting)
{
    struct rig *rig = &self->rig;
    tr_turn_id turn = rig_turn(rig, rig->session);
    rig->turn = turn;
    tr_task_id front = court_launch(self, rig->echo, "ask1", TR_ROUTE_FOREGROUND);
    tr_task_id behind = court_launch(self, rig->echo, "ask1", TR_ROUTE_BACKGROUND);
    CHECK_EQ_INT(tr_turn_close(rig->manager, turn, 0), 0);
    CHECK(tr_task_approve(rig->manager, front) < 0); /* discarded, if not gone yet */
    court_check(rig_loop_take(rig, rig->session), behind, 0, "ask1");
    CHECK_EQ_INT(tr_session_close(rig->manager, rig->session, 0), 0);
    rig_check_release(rig_loop_take(rig, rig->session), behind, TR_OUTCOME_CANCELLED);
    rig->session = rig_session(rig);
    rig->turn = rig_turn(rig, rig->session);
    tr_task_id last = court_launch(self, rig->echo, "ask1", TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_manager_wait_idle(rig->manager, 0), TR_ETIMEDOUT); /* it is unfinished */
    rig_shut(rig, 0);
    court_check(rig_turn_take(rig, rig->turn), last, 0, "ask1");
    rig_check_release(rig_turn_take(rig, rig->turn), last, TR_OUTCOME_CANCELLED);
    rig_free(rig);
    rig_open(rig, rig->mode, NULL); /* for the case's own end */
}

COURT(approval_wait, approve_and_deny_refuse)
{
    struct rig *rig = &self->rig;
    tr_manager *manager = rig->manager;
    tr_task_id task = court_launch(self, rig->echo, "allow", TR_ROUTE_FOREGROUND);
    rig_wait_idle(rig);
    CHECK_EQ_INT(tr_task_approve(manager, task), TR_EALREADY);
    CHECK_EQ_INT(tr_task_deny(manager, task, NULL), TR_EALREADY);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    tr_task_id ids[] = {task, 0, rig->turn, UINT64_MAX};
    for (size_t at = 0; at < sizeof ids / sizeof *ids; at++) {
        CHECK_EQ_INT(tr_task_approve(manager, ids[at]), TR_ENOENT);
        CHECK_EQ_INT(tr_task_deny(manager, ids[at], "x"), TR_ENOENT);
    }
    CHECK_EQ_INT(tr_task_approve(NULL, task), TR_EINVAL);
    CHECK_EQ_INT(tr_task_deny(NULL, task, "x"), TR_EINVAL);
}

COURT_THREADED(approval_wait, approve_of_a_running_task)
{
    struct rig *rig = &self->rig;
    tr_task_id task = court_launch(self, rig->awaiting, "allow", TR_ROUTE_FOREGROUND);
    gate_await_entered(&self->gate, 1);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), TR_ESTATE);
    CHECK_EQ_INT(tr_task_deny(rig->manager, task, NULL), TR_ESTATE);
    gate_open(&self->gate);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
}

/* Who approves a request a second time learns that it was approved, although its task runs. */
COURT_THREADED(approval_wait, request_approved_twice)
{
    struct rig *rig = &self->rig;
    tr_task_id task = court_launch(self, rig->awaiting, "ask2", TR_ROUTE_FOREGROUND);
    court_check(rig_turn_take(rig, rig->turn), task, 0, "ask2");
    CHECK_EQ_INT(tr_task_approve_request(rig->manager, task, 1), TR_EINVAL);
    CHECK_EQ_INT(tr_task_approve_request(rig->manager, task, 0), 0);
    CHECK_EQ_INT(tr_task_approve_request(rig->manager, task, 0), TR_EALREADY);
    court_check(rig_turn_take(rig, rig->turn), task, 1, "ask2");
    CHECK_EQ_INT(tr_task_approve_request(rig->manager, task, 1), 0);
    gate_await_entered(&self->gate, 1);
    for (unsigned request = 0; request < 2; request++) {
        CHECK_EQ_INT(tr_task_approve_request(rig->manager, task, request), TR_EALREADY);
    }
    CHECK_EQ_INT(tr_task_approve_request(rig->manager, task, 2), TR_ESTATE); /* never was one */
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), TR_ESTATE);
    tr_task_id other = court_launch(self, rig->awaiting, "allow", TR_ROUTE_FOREGROUND);
    gate_await_entered(&self->gate, 2);
    CHECK_EQ_INT(tr_task_approve_request(rig->manager, other, 0), TR_ESTATE);
    gate_open(&self->gate);
    tr_batch_release(rig_turn_take(rig, rig->turn));
    tr_batch_release(rig_turn_take(rig, rig->turn));
    int error = tr_task_approve_request(rig->manager, task, 0);
    CHECK(error == TR_ENOENT || error == TR_EALREADY); /* its slot may be held for a moment */
}

/* ---- queue, listing, events ---- */

COURT(approval_wait, requests_come_through_a_queue)
{
    struct rig *rig = &self->rig;
    tr_queue *queue = NULL;
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    CHECK_EQ_INT(tr_queue_open(rig->manager, &queue), 0);
    options.queue = queue;
    CHECK_EQ_INT(tr_session_open(rig->manager, &options, &rig->session), 0);
    rig->turn = rig_turn(rig, rig->session);
    tr_route routes[] = {TR_ROUTE_FOREGROUND, TR_ROUTE_BACKGROUND};
    for (unsigned at = 0; at < 2; at++) {
        tr_task_id task = court_launch(self, rig->echo, "ask1", routes[at]);
        court_check(rig_queue_take(queue), task, 0, "ask1");
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
        rig_check_release(rig_queue_take(queue), task, TR_OUTCOME_COMPLETED);
    }
}

COURT(approval_wait, waiting_is_listed_and_announced)
{
    struct rig *rig = &self->rig;
    tr_reader *reader = NULL;
    tr_event events[8];
    CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, &reader), 0);
    tr_task_id task = court_launch(self, rig->echo, "ask2", TR_ROUTE_FOREGROUND);
    tr_filter filter = TR_FILTER_INIT;
    filter.states = 1u << TR_STATE_WAITING;
    tr_cursor cursor = {0, 0};
    tr_snapshot snapshot;
    CHECK_EQ_INT(tr_task_list(rig->manager, &filter, &cursor, &snapshot, 1), 1);
    CHECK_EQ_U64(snapshot.task, task);
    CHECK(snapshot.approval_pending);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    rig_wait_idle(rig);
    static const tr_event_type wanted[] = {TR_EVENT_QUEUED, TR_EVENT_INPUT_REQUIRED,
                                           TR_EVENT_INPUT_REQUIRED, TR_EVENT_STARTED,
                                           TR_EVENT_COMPLETED};
    CHECK_EQ_INT(tr_reader_read(reader, events, 8, 0), 5);
    for (unsigned at = 0; at < 5; at++) {
        CHECK_EQ_INT(events[at].type, wanted[at]);
        CHECK_EQ_U64(events[at].snapshot.task, task);
        CHECK_EQ_INT(events[at].snapshot.approval_pending, at < 3);
    }
    tr_reader_close(reader);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 3);
}

/* ---- several approvers at once: it runs once ---- */

struct approver {
    struct rig *rig;
    tr_task_id task;
    unsigned wins; /* atomic, of all */
    pthread_barrier_t barrier;
};

static void *approve_at_once(void *argument)
{
    struct approver *self = argument;
    (void)pthread_barrier_wait(&self->barrier);
    int error = tr_task_approve(self->rig->manager, self->task);
    CHECK(error == 0 || error == TR_ESTATE || error == TR_EALREADY || error == TR_ENOENT);
    if (error == 0) {
        __atomic_fetch_add(&self->wins, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void *deny_at_once(void *argument)
{
    struct approver *self = argument;
    (void)pthread_barrier_wait(&self->barrier);
    int error = tr_task_deny(self->rig->manager, self->task, "no");
    CHECK(error == 0 || error == TR_ESTATE || error == TR_EALREADY || error == TR_ENOENT);
    if (error == 0) {
        __atomic_fetch_add(&self->wins, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

COURT(approval_wait, one_of_many_approvers_wins)
{
    struct rig *rig = &self->rig;
    for (unsigned round = 0; round < 200; round++) {
        struct approver approver = {rig, 0, 0, {{0}}};
        CHECK_EQ_INT(pthread_barrier_init(&approver.barrier, NULL, 3), 0);
        approver.task = court_launch(self, rig->echo, "ask1", TR_ROUTE_FOREGROUND);
        pthread_t threads[] = {
            rig_thread(approve_at_once, &approver),
            rig_thread(round % 2 == 0 ? approve_at_once : deny_at_once, &approver),
            rig_thread(approve_at_once, &approver),
        };
        for (unsigned at = 0; at < 3; at++) {
            rig_join(threads[at]);
        }
        CHECK_EQ_INT(approver.wins, 1);
        CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 2);
        CHECK_EQ_INT(pthread_barrier_destroy(&approver.barrier), 0);
    }
}
