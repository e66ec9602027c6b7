/*
 * The promises of a launch, sentence by sentence: what a refused launch has not done, on which
 * thread callbacks run and in which order, and every option at every level.
 */
#include "support/host.h"

/* ---- callbacks ---- */

/* What the host's callbacks saw. */
struct witness {
    unsigned permits;
    unsigned routes;
    unsigned routes_before_permits; /* must stay 0 */
    pthread_t permit_thread;
    pthread_t route_thread;
    tr_permit verdict;
    tr_options routed;
};

static tr_permit permit(void *context, const tr_request *request, unsigned approvals,
                        tr_permit_answer *answer)
{
    struct witness *self = context;
    (void)request;
    (void)answer;
    self->permits++;
    self->permit_thread = pthread_self();
    return approvals == 0 ? self->verdict : TR_PERMIT_ALLOW;
}

static void route(void *context, const tr_request *request, tr_options *options)
{
    struct witness *self = context;
    (void)request;
    self->routes++;
    self->routes_before_permits += self->permits < self->routes;
    self->route_thread = pthread_self();
    *options = self->routed;
}

static void open_witnessed(struct rig *rig, enum rig_mode mode, struct witness *witness,
                           tr_config config)
{
    tr_options none = TR_OPTIONS_INIT;
    memset(witness, 0, sizeof *witness);
    witness->routed = none;
    config.permit = permit;
    config.route = route;
    config.context = witness;
    rig_open(rig, mode, &config);
}

static void check_refused(struct rig *rig, const struct witness *witness, const tr_request *request,
                          int error)
{
    tr_launched launched;
    unsigned permits = witness->permits;
    unsigned routes = witness->routes;
    CHECK_EQ_INT(tr_launch(rig->manager, request, &launched), error);
    CHECK_EQ_INT(tr_launch_batch(rig->manager, request, 1, &launched), 0);
    CHECK_EQ_INT(launched.status, error);
    CHECK_EQ_INT(witness->permits, permits); /* validating comes first: nobody was asked */
    CHECK_EQ_INT(witness->routes, routes);
}

/* A bad call is refused before anybody is asked about it, and leaves nothing. */
static void bad_calls_ask_nobody(enum rig_mode mode)
{
    struct rig rig;
    struct witness witness;
    tr_reader *reader = NULL;
    tr_event event;
    tr_config config = TR_CONFIG_INIT;
    config.input_bytes_max = 100;
    static char large[101];
    open_witnessed(&rig, mode, &witness, config);
    CHECK_EQ_INT(tr_reader_open(rig.manager, NULL, &reader), 0);
    tr_request good = TR_REQUEST_INIT(rig.turn, rig.echo);
    tr_request request = good;
    request.tool = 0;
    request.tool_name = "no such tool";
    check_refused(&rig, &witness, &request, TR_ENOENT);
    request = good;
    request.input = (tr_bytes){large, sizeof large};
    check_refused(&rig, &witness, &request, TR_E2BIG);
    request = good;
    request.turn = rig.session;
    check_refused(&rig, &witness, &request, TR_ENOENT);
    request = good;
    request.turn = rig_turn(&rig, rig.session);
    CHECK_EQ_INT(tr_turn_close(rig.manager, request.turn, 0), 0);
    check_refused(&rig, &witness, &request, TR_ENOENT); /* a stale one */
    tr_session_id closed = rig_session(&rig);
    request.turn = rig_turn(&rig, closed);
    CHECK_EQ_INT(tr_session_close(rig.manager, closed, 0), 0);
    check_refused(&rig, &witness, &request, TR_ENOENT);
    CHECK_EQ_U64(rig_stats(&rig).accepted, 0);
    CHECK_EQ_U64(rig_stats(&rig).tasks_used, 0);
    CHECK_EQ_INT(tr_reader_read(reader, &event, 1, 0), 0);
    tr_reader_close(reader);
    rig_shut(&rig, 0);
    check_refused(&rig, &witness, &good, TR_ECLOSED); /* closing */
    rig_free(&rig);
}

CASE(contract_launch, bad_calls_ask_nobody_threaded)
{
    bad_calls_ask_nobody(RIG_THREADED);
}

CASE(contract_launch, bad_calls_ask_nobody_inline)
{
    bad_calls_ask_nobody(RIG_INLINE);
}

/* Permission first, then the route, both on the launching thread; a later question on the thread
 * that approves. */
static void callbacks_run_where_the_launch_is(enum rig_mode mode)
{
    struct rig rig;
    struct witness witness;
    tr_config config = TR_CONFIG_INIT;
    open_witnessed(&rig, mode, &witness, config);
    tr_task_id task = rig_launch(&rig, rig.nothing, NULL, TR_ROUTE_DEFAULT);
    CHECK_EQ_INT(witness.permits, 1);
    CHECK_EQ_INT(witness.routes, 1);
    CHECK(pthread_equal(witness.permit_thread, pthread_self()));
    CHECK(pthread_equal(witness.route_thread, pthread_self()));
    rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_COMPLETED);
    witness.verdict = TR_PERMIT_ASK;
    task = rig_launch(&rig, rig.nothing, NULL, TR_ROUTE_DEFAULT);
    CHECK_EQ_INT(witness.permits, 2);
    memset(&witness.permit_thread, 0, sizeof witness.permit_thread);
    tr_batch_release(rig_turn_take(&rig, rig.turn)); /* the request */
    CHECK_EQ_INT(tr_task_approve(rig.manager, task), 0);
    CHECK_EQ_INT(witness.permits, 3);
    CHECK(pthread_equal(witness.permit_thread, pthread_self()));
    rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(witness.routes_before_permits, 0);
    rig_close(&rig);
}

CASE(contract_launch, callbacks_run_where_the_launch_is_threaded)
{
    callbacks_run_where_the_launch_is(RIG_THREADED);
}

CASE(contract_launch, callbacks_run_where_the_launch_is_inline)
{
    callbacks_run_where_the_launch_is(RIG_INLINE);
}
