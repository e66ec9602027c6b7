/*
 * Permission and approval end to end.
 */
#include <stdio.h>

#include "support/host.h"

/* What the callback does: decided by the input's text. "allow", "deny", "ask<n>" needs n approvals,
 * "expire" asks and is denied after a moment, "then-deny" asks and denies when approved, "odd"
 * answers nonsense. It checks that the request is the same each time. */
struct judge {
    unsigned asked;         /* atomic */
    unsigned approvals_max; /* highest number it was asked with; atomic */
    const char *metadata;
};

enum {
    EXPIRE_MS = 3,
};

static tr_permit judge(void *context, const tr_request *request, unsigned approvals,
                       tr_permit_answer *answer)
{
    struct judge *self = context;
    const char *text = request->input.data;
    size_t size = request->input.size;
    __atomic_fetch_add(&self->asked, 1, __ATOMIC_RELAXED);
    if (approvals > __atomic_load_n(&self->approvals_max, __ATOMIC_RELAXED)) {
        __atomic_store_n(&self->approvals_max, approvals, __ATOMIC_RELAXED);
    }
    CHECK_EQ_INT(answer->reason[0], '\0');
    CHECK_EQ_INT(answer->summary[0], '\0');
    CHECK_EQ_U64(answer->expire_ns, 0);
    if (size == 0) {
        return TR_PERMIT_ALLOW;
    }
    CHECK(rig_bytes_are(request->call_id, "call"));
    CHECK(rig_bytes_are(request->metadata, self->metadata));
    CHECK(request->tool != 0);
    if (text[0] == 'd') {
        (void)snprintf(answer->reason, sizeof answer->reason, "house rules");
        return TR_PERMIT_DENY;
    }
    if (text[0] == 'o') {
        return (tr_permit)9;
    }
    if (text[0] == 'a' && text[1] == 'l') {
        return TR_PERMIT_ALLOW;
    }
    (void)snprintf(answer->reason, sizeof answer->reason, "reason %u", approvals);
    (void)snprintf(answer->summary, sizeof answer->summary, "summary %u", approvals);
    if (text[0] == 'e') {
        answer->expire_ns = EXPIRE_MS * TR_MILLISECOND;
        return TR_PERMIT_ASK;
    }
    if (text[0] == 't') {
        return approvals == 0 ? TR_PERMIT_ASK : TR_PERMIT_DENY;
    }
    return approvals < (unsigned)(text[3] - '0') ? TR_PERMIT_ASK : TR_PERMIT_ALLOW;
}

struct court {
    struct rig rig;
    struct judge judge;
    struct gate gate;
    char metadata[300];
};

static void court_open(struct court *self, enum rig_mode mode)
{
    tr_config config = TR_CONFIG_INIT;
    memset(self, 0, sizeof *self);
    memset(self->metadata, 'm', sizeof self->metadata - 1);
    self->judge.metadata = self->metadata;
    config.permit = judge;
    config.context = &self->judge;
    gate_init(&self->gate);
    rig_open(&self->rig, mode, &config);
}

static void court_close(struct court *self)
{
    rig_wait_idle(&self->rig);
    if (self->rig.manager != NULL) {
        rig_close(&self->rig);
    }
    gate_done(&self->gate);
}

static tr_request request_of(struct court *self, tr_tool_id tool, const char *text)
{
    tr_request request = TR_REQUEST_INIT(self->rig.turn, tool);
    request.input = rig_bytes(text);
    request.call_id = rig_bytes("call");
    request.metadata = rig_bytes(self->metadata);
    request.user = &self->gate;
    return request;
}

static tr_task_id launch_for(struct court *self, tr_tool_id tool, const char *text, tr_route route)
{
    tr_request request = request_of(self, tool, text);
    request.options.route = route;
    return rig_launch_request(&self->rig, &request).task;
}

/* Checks an approval request and releases it. */
static void check_request(tr_batch *batch, tr_task_id task, unsigned approvals, const char *text)
{
    char wanted[32];
    const tr_item *item = batch->items;
    CHECK_EQ_U64(batch->count, 1);
    CHECK_EQ_INT(item->type, TR_ITEM_APPROVAL);
    CHECK_EQ_U64(item->task, task);
    CHECK_EQ_INT(item->outcome, TR_OUTCOME_NONE);
    CHECK_EQ_INT(item->approvals, approvals);
    (void)snprintf(wanted, sizeof wanted, "reason %u", approvals);
    CHECK_EQ_STR(item->reason, wanted);
    (void)snprintf(wanted, sizeof wanted, "summary %u", approvals);
    CHECK_EQ_STR(item->summary, wanted);
    CHECK(rig_bytes_are(item->input, text));
    CHECK(rig_bytes_are(item->call_id, "call"));
    CHECK_EQ_U64(item->metadata.size, 299);
    CHECK(item->tool_name != NULL && item->tool != 0);
    CHECK_EQ_U64(item->flags & TR_ITEM_TURN_IDLE, 0);
    CHECK(item->accepted_ns > 0 && item->ended_ns >= item->accepted_ns);
    tr_batch_release(batch);
}

#define COURT(name_)                                                                               \
    static void name_(struct court *self);                                                         \
    CASE_TIMEOUT(approval, name_##_threaded, RIG_TIMEOUT_SECONDS)                                  \
    {                                                                                              \
        static struct court court;                                                                 \
        court_open(&court, RIG_THREADED);                                                          \
        name_(&court);                                                                             \
        court_close(&court);                                                                       \
    }                                                                                              \
    CASE_TIMEOUT(approval, name_##_inline, RIG_TIMEOUT_SECONDS)                                    \
    {                                                                                              \
        static struct court court;                                                                 \
        court_open(&court, RIG_INLINE);                                                            \
        name_(&court);                                                                             \
        court_close(&court);                                                                       \
    }                                                                                              \
    static void name_(struct court *self)

#define COURT_THREADED(name_)                                                                      \
    static void name_(struct court *self);                                                         \
    CASE_TIMEOUT(approval, name_, RIG_TIMEOUT_SECONDS)                                             \
    {                                                                                              \
        static struct court court;                                                                 \
        court_open(&court, RIG_THREADED);                                                          \
        name_(&court);                                                                             \
        court_close(&court);                                                                       \
    }                                                                                              \
    static void name_(struct court *self)

COURT(allow_runs)
{
    tr_task_id task = launch_for(self, self->rig.echo, "allow", TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(&self->rig, self->rig.turn);
    CHECK_EQ_INT(batch->items[0].approvals, 0);
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(self->judge.asked, 1);
}

/* ---- deny ---- */

COURT(deny_is_an_outcome)
{
    static const struct {
        const char *text;
        const char *reason;
    } table[] = {{"deny", "house rules"}, {"odd", ""}};
    struct rig *rig = &self->rig;
    tr_tool_id tools[] = {rig->echo, rig->awaiting};
    for (unsigned at = 0; at < 4; at++) {
        const char *text = table[at % 2].text;
        tr_task_id task = launch_for(self, tools[at / 2], text, TR_ROUTE_FOREGROUND);
        tr_batch *batch = NULL; /* at once */
        CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_WAIT_ITEMS);
        rig_check(batch, task, TR_OUTCOME_DENIED);
        CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_NOT_STARTED | TR_ITEM_TURN_IDLE);
        CHECK_EQ_INT(batch->items[0].code, TR_EDENIED);
        CHECK_EQ_STR(batch->items[0].reason, table[at % 2].reason);
        CHECK_EQ_U64(batch->items[0].started_ns, 0);
        CHECK_EQ_U64(batch->items[0].result.size, 0);
        tr_batch_release(batch);
    }
    CHECK_EQ_U64(rig_stats(rig).denied, 4);
    CHECK_EQ_U64(rig_stats(rig).started, 0);
    CHECK_EQ_U64(rig_stats(rig).fibers_used, 0);
    rig_turn_is_idle(rig, rig->turn);
}

COURT(deny_in_the_background)
{
    struct rig *rig = &self->rig;
    tr_task_id task = launch_for(self, rig->echo, "deny", TR_ROUTE_BACKGROUND);
    rig_check_release(rig_loop_take(rig, rig->session), task, TR_OUTCOME_DENIED);
    tr_request request = request_of(self, rig->echo, "deny");
    request.options.route = TR_ROUTE_BACKGROUND;
    request.options.delivery = TR_DELIVERY_MANUAL;
    task = rig_launch_request(rig, &request).task;
    rig_check_release(rig_ready_take(rig, rig->session), task, TR_OUTCOME_DENIED);
}

COURT(deny_of_an_inline_call)
{
    tr_request request = request_of(self, self->rig.echo, "deny");
    tr_launched launched;
    request.options.route = TR_ROUTE_INLINE;
    CHECK_EQ_INT(tr_launch(self->rig.manager, &request, &launched), TR_READY);
    rig_check(launched.ready, launched.task, TR_OUTCOME_DENIED);
    CHECK_EQ_STR(launched.ready->items[0].reason, "house rules");
    CHECK_EQ_U64(launched.ready->items[0].flags, TR_ITEM_NOT_STARTED);
    tr_batch_release(launched.ready);
    rig_turn_is_idle(&self->rig, self->rig.turn);
}

/* ---- ask ---- */

COURT(ask_then_approve)
{
    struct rig *rig = &self->rig;
    for (unsigned needed = 1; needed <= 4; needed++) {
        char text[8];
        (void)snprintf(text, sizeof text, "ask%u", needed);
        unsigned asked = self->judge.asked;
        tr_task_id task = launch_for(self, rig->echo, text, TR_ROUTE_FOREGROUND);
        for (unsigned approvals = 0; approvals < needed; approvals++) {
            tr_batch *batch = NULL;
            tr_snapshot snapshot = rig_snapshot(rig, task);
            CHECK_EQ_INT(snapshot.state, TR_STATE_WAITING);
            CHECK(snapshot.approval_pending && !snapshot.deferred);
            CHECK_EQ_INT(snapshot.outcome, TR_OUTCOME_NONE);
            check_request(rig_turn_take(rig, rig->turn), task, approvals, text);
            /* It holds its turn open. */
            CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_ETIMEDOUT);
            CHECK_EQ_U64(rig_stats(rig).unfinished, 1);
            CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
        }
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK(rig_bytes_are(batch->items[0].result, text));
        CHECK(batch->items[0].started_ns > 0);
        CHECK_EQ_INT(batch->items[0].approvals, needed); /* it remembers all those given */
        rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
        rig_wait_idle(rig); /* the number of unfinished ones follows the item */
        CHECK_EQ_INT(self->judge.asked - asked, needed + 1);
        CHECK_EQ_INT(self->judge.approvals_max, needed);
    }
    rig_turn_is_idle(rig, rig->turn);
}

COURT(ask_then_deny)
{
    struct rig *rig = &self->rig;
    static const char *const reasons[] = {"not today", NULL, ""};
    tr_tool_id tools[] = {rig->echo, rig->awaiting, rig->deferred};
    for (unsigned at = 0; at < 3; at++) {
        tr_task_id task = launch_for(self, tools[at], "ask1", TR_ROUTE_FOREGROUND);
        check_request(rig_turn_take(rig, rig->turn), task, 0, "ask1");
        CHECK_EQ_INT(tr_task_deny(rig->manager, task, reasons[at]), 0);
        CHECK_EQ_INT(tr_task_deny(rig->manager, task, reasons[at]), TR_EALREADY);
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), TR_EALREADY);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK_EQ_INT(batch->items[0].code, TR_EDENIED);
        CHECK_EQ_STR(batch->items[0].reason, at == 0 ? "not today" : "");
        CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_NOT_STARTED | TR_ITEM_TURN_IDLE);
        rig_check_release(batch, task, TR_OUTCOME_DENIED);
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).fibers_used, 0);
    CHECK_EQ_U64(rig_stats(rig).started, 0);
}

COURT(callback_denies_when_approved)
{
    struct rig *rig = &self->rig;
    tr_task_id task = launch_for(self, rig->echo, "then-deny", TR_ROUTE_FOREGROUND);
    check_request(rig_turn_take(rig, rig->turn), task, 0, "then-deny");
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_U64(batch->items[0].flags & TR_ITEM_NOT_STARTED, TR_ITEM_NOT_STARTED);
    rig_check_release(batch, task, TR_OUTCOME_DENIED);
}

/* A request of a background task comes through its channel, manual ones too, and its turn is
 * idle. */
COURT(ask_in_the_background)
{
    struct rig *rig = &self->rig;
    for (unsigned at = 0; at < 2; at++) {
        bool manual = at == 1;
        tr_request request = request_of(self, rig->echo, "ask1");
        request.options.route = TR_ROUTE_BACKGROUND;
        request.options.delivery = manual ? TR_DELIVERY_MANUAL : TR_DELIVERY_TO_LOOP;
        tr_task_id task = rig_launch_request(rig, &request).task;
        rig_turn_is_idle(rig, rig->turn);
        tr_batch *batch =
            manual ? rig_ready_take(rig, rig->session) : rig_loop_take(rig, rig->session);
        CHECK_EQ_INT(batch->items[0].channel, manual ? TR_CHANNEL_READY : TR_CHANNEL_LOOP);
        CHECK_EQ_INT(batch->items[0].kind, TR_KIND_BACKGROUND);
        check_request(batch, task, 0, "ask1");
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
        batch = manual ? rig_ready_take(rig, rig->session) : rig_loop_take(rig, rig->session);
        rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    }
    rig_turn_is_idle(rig, rig->turn);
}

/* An inline call that is asked about cannot run now: it becomes foreground. */
COURT(ask_of_an_inline_call)
{
    struct rig *rig = &self->rig;
    tr_request request = request_of(self, rig->echo, "ask1");
    request.options.route = TR_ROUTE_INLINE;
    tr_launched launched = rig_launch_request(rig, &request);
    CHECK_EQ_INT(launched.kind, TR_KIND_FOREGROUND);
    check_request(rig_turn_take(rig, rig->turn), launched.task, 0, "ask1");
    CHECK_EQ_INT(tr_task_approve(rig->manager, launched.task), 0);
    rig_check_release(rig_turn_take(rig, rig->turn), launched.task, TR_OUTCOME_COMPLETED);
}

/* ---- what may happen while it waits ---- */

COURT(cancel_while_waiting)
{
    struct rig *rig = &self->rig;
    tr_tool_id tools[] = {rig->echo, rig->awaiting};
    for (unsigned at = 0; at < 4; at++) {
        tr_task_id task = launch_for(self, tools[at % 2], "ask1", TR_ROUTE_FOREGROUND);
        if (at < 2) {
            CHECK_EQ_INT(tr_task_cancel(rig->manager, task, "never mind"), 0);
        } else {
            CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, "never mind"), 1);
        }
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), TR_EALREADY);
        check_request(rig_turn_take(rig, rig->turn), task, 0, "ask1"); /* it was made before */
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_NOT_STARTED | TR_ITEM_TURN_IDLE);
        CHECK_EQ_STR(batch->items[0].reason, "never mind");
        rig_check_release(batch, task, TR_OUTCOME_CANCELLED);
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).fibers_used, 0);
}

COURT(detach_and_attach_while_waiting)
{
    struct rig *rig = &self->rig;
    tr_task_id task = launch_for(self, rig->echo, "ask2", TR_ROUTE_FOREGROUND);
    check_request(rig_turn_take(rig, rig->turn), task, 0, "ask2");
    CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_INT(batch->items[0].type, TR_ITEM_DETACHED);
    tr_batch_release(batch);
    rig_turn_is_idle(rig, rig->turn);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    check_request(rig_loop_take(rig, rig->session), task, 1, "ask2"); /* it is background now */
    CHECK_EQ_INT(tr_task_attach(rig->manager, task), 0);
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_ETIMEDOUT);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    rig_turn_is_idle(rig, rig->turn);
}

COURT_THREADED(expiry_denies)
{
    struct rig *rig = &self->rig;
    tr_tool_id tools[] = {rig->echo, rig->awaiting};
    for (unsigned at = 0; at < 2; at++) {
        tr_task_id task = launch_for(self, tools[at], "expire", TR_ROUTE_FOREGROUND);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        uint64_t requested_ns = batch->items[0].ended_ns;
        check_request(batch, task, 0, "expire");
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
COURT_THREADED(expiry_dies_with_its_request)
{
    struct rig *rig = &self->rig;
    tr_task_id task = launch_for(self, rig->awaiting, "expire", TR_ROUTE_FOREGROUND);
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

COURT_THREADED(timeout_while_waiting)
{
    struct rig *rig = &self->rig;
    tr_request request = request_of(self, rig->awaiting, "ask1");
    request.options.total_timeout_ns = 3 * TR_MILLISECOND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    check_request(rig_turn_take(rig, rig->turn), task, 0, "ask1");
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK(batch->items[0].ended_ns - batch->items[0].accepted_ns >= 3 * TR_MILLISECOND);
    rig_check_release(batch, task, TR_OUTCOME_TIMED_OUT);
    /* A run timeout counts from the start, not while somebody thinks. */
    request.options.total_timeout_ns = 0;
    request.options.run_timeout_ns = TR_MILLISECOND;
    request.options.queue_timeout_ns = TR_SECOND * 3600;
    task = rig_launch_request(rig, &request).task;
    check_request(rig_turn_take(rig, rig->turn), task, 0, "ask1");
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 5 * TR_MILLISECOND, 1, &batch),
                 TR_ETIMEDOUT);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    batch = rig_turn_take(rig, rig->turn);
    CHECK(batch->items[0].started_ns > 0);
    rig_check_release(batch, task, TR_OUTCOME_TIMED_OUT);
}

COURT(closing_while_waiting)
{
    struct rig *rig = &self->rig;
    tr_turn_id turn = rig_turn(rig, rig->session);
    rig->turn = turn;
    tr_task_id front = launch_for(self, rig->echo, "ask1", TR_ROUTE_FOREGROUND);
    tr_task_id behind = launch_for(self, rig->echo, "ask1", TR_ROUTE_BACKGROUND);
    CHECK_EQ_INT(tr_turn_close(rig->manager, turn, 0), 0);
    CHECK(tr_task_approve(rig->manager, front) < 0); /* discarded, if not gone yet */
    check_request(rig_loop_take(rig, rig->session), behind, 0, "ask1");
    CHECK_EQ_INT(tr_session_close(rig->manager, rig->session, 0), 0);
    rig_check_release(rig_loop_take(rig, rig->session), behind, TR_OUTCOME_CANCELLED);
    rig->session = rig_session(rig);
    rig->turn = rig_turn(rig, rig->session);
    tr_task_id last = launch_for(self, rig->echo, "ask1", TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_manager_wait_idle(rig->manager, 0), TR_ETIMEDOUT); /* it is unfinished */
    rig_shut(rig, 0);
    check_request(rig_turn_take(rig, rig->turn), last, 0, "ask1");
    rig_check_release(rig_turn_take(rig, rig->turn), last, TR_OUTCOME_CANCELLED);
    rig_free(rig);
    rig_open(rig, rig->mode, NULL); /* for the case's own end */
}

COURT(approve_and_deny_refuse)
{
    struct rig *rig = &self->rig;
    tr_manager *manager = rig->manager;
    tr_task_id task = launch_for(self, rig->echo, "allow", TR_ROUTE_FOREGROUND);
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

COURT_THREADED(approve_of_a_running_task)
{
    struct rig *rig = &self->rig;
    tr_task_id task = launch_for(self, rig->awaiting, "allow", TR_ROUTE_FOREGROUND);
    gate_await_entered(&self->gate, 1);
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), TR_ESTATE);
    CHECK_EQ_INT(tr_task_deny(rig->manager, task, NULL), TR_ESTATE);
    gate_open(&self->gate);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
}

/* ---- queue, listing, events ---- */

COURT(requests_come_through_a_queue)
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
        tr_task_id task = launch_for(self, rig->echo, "ask1", routes[at]);
        check_request(rig_queue_take(queue), task, 0, "ask1");
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
        rig_check_release(rig_queue_take(queue), task, TR_OUTCOME_COMPLETED);
    }
}

COURT(waiting_is_listed_and_announced)
{
    struct rig *rig = &self->rig;
    tr_reader *reader = NULL;
    tr_event events[8];
    CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, &reader), 0);
    tr_task_id task = launch_for(self, rig->echo, "ask2", TR_ROUTE_FOREGROUND);
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

COURT(one_of_many_approvers_wins)
{
    struct rig *rig = &self->rig;
    for (unsigned round = 0; round < 200; round++) {
        struct approver approver = {rig, 0, 0, {{0}}};
        CHECK_EQ_INT(pthread_barrier_init(&approver.barrier, NULL, 3), 0);
        approver.task = launch_for(self, rig->echo, "ask1", TR_ROUTE_FOREGROUND);
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
