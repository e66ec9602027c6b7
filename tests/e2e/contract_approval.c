/*
 * What approval.c and approval_wait.c leave open: the time in the queue after an approval, and the
 * bytes that requests hold.
 */
#include "support/gated.h"

static tr_permit ask_once(void *context, const tr_request *request, unsigned approvals,
                          tr_permit_answer *answer)
{
    (void)context;
    (void)request;
    (void)answer;
    return approvals == 0 && request->input.size > 0 ? TR_PERMIT_ASK : TR_PERMIT_ALLOW;
}

/* The queue timeout counts from the approval, however long somebody has thought before; and it does
 * count, each time: whoever keeps the time may look at the very moment of the approval. */
CASE_TIMEOUT(contract_approval, queue_timeout_counts_from_the_approval, 120)
{
    enum {
        ROUNDS = 500
    };
    struct blocked self;
    struct rig *rig = &self.rig;
    tr_config config = rig_one_worker();
    config.permit = ask_once;
    blocked_open(&self, &config);
    for (unsigned round = 0; round < ROUNDS; round++) {
        tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
        request.input = rig_bytes("ask");
        request.options.queue_timeout_ns = TR_MILLISECOND;
        tr_task_id task = rig_launch_request(rig, &request).task;
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK_EQ_INT(batch->items[0].type, TR_ITEM_APPROVAL);
        uint64_t asked_ns = batch->items[0].ended_ns;
        tr_batch_release(batch);
        if (round < 5) { /* longer than the time in the queue: it has not begun */
            CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 3 * TR_MILLISECOND, 1, &batch),
                         TR_ETIMEDOUT);
            asked_ns += 3 * TR_MILLISECOND;
        }
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
        batch = rig_turn_take(rig, rig->turn);
        CHECK(batch->items[0].ended_ns - asked_ns >= TR_MILLISECOND);
        CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_NOT_STARTED | TR_ITEM_TURN_IDLE);
        rig_check_release(batch, task, TR_OUTCOME_TIMED_OUT);
    }
    blocked_close(&self);
}

static tr_permit ask_always(void *context, const tr_request *request, unsigned approvals,
                            tr_permit_answer *answer)
{
    (void)context;
    (void)request;
    (void)approvals;
    (void)answer;
    return TR_PERMIT_ASK;
}

enum {
    INPUT_BYTES = 100 * 1024,
    ROOM_BYTES = 1024 * 1024,
};

/* A request is a copy of its call, and there may be many of one call: they count as held bytes, so
 * that launches are refused when there are too many, and taking them makes room. */
static void requests_are_bounded(enum rig_mode mode)
{
    static char input[INPUT_BYTES];
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    config.permit = ask_always;
    config.bytes_max = ROOM_BYTES;
    rig_open(&rig, mode, &config);
    tr_request request = TR_REQUEST_INIT(rig.turn, rig.nothing);
    tr_launched launched;
    request.input = (tr_bytes){input, sizeof input};
    tr_task_id task = rig_launch_request(&rig, &request).task;
    CHECK(rig_stats(&rig).bytes_used >= UINT64_C(2) * INPUT_BYTES);
    unsigned given = 0;
    while (rig_stats(&rig).bytes_used < ROOM_BYTES) {
        CHECK_EQ_INT(tr_task_approve(rig.manager, task), 0);
        given++;
        CHECK(given <= ROOM_BYTES / INPUT_BYTES);
    }
    CHECK_EQ_INT(tr_launch(rig.manager, &request, &launched), TR_EAGAIN);
    CHECK_EQ_INT(tr_task_approve(rig.manager, task), 0); /* what was accepted goes on */
    given++;
    for (unsigned at = 0; at <= given; at++) {
        tr_batch *batch = rig_turn_take(&rig, rig.turn);
        CHECK_EQ_INT(batch->items[0].type, TR_ITEM_APPROVAL);
        CHECK_EQ_INT(batch->items[0].approvals, at);
        CHECK_EQ_U64(batch->items[0].input.size, INPUT_BYTES);
        tr_batch_release(batch);
    }
    CHECK(rig_stats(&rig).bytes_used < UINT64_C(2) * INPUT_BYTES);
    tr_task_id second = rig_launch_request(&rig, &request).task;
    tr_batch_release(rig_turn_take(&rig, rig.turn));
    CHECK_EQ_INT(tr_task_deny(rig.manager, task, NULL), 0);
    rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_DENIED);
    CHECK_EQ_INT(tr_task_cancel(rig.manager, second, NULL), 0);
    rig_check_release(rig_turn_take(&rig, rig.turn), second, TR_OUTCOME_CANCELLED);
    rig_close(&rig); /* looks whether a byte is left */
}

CASE_TIMEOUT(contract_approval, requests_are_bounded_threaded, RIG_TIMEOUT_SECONDS)
{
    requests_are_bounded(RIG_THREADED);
}

CASE_TIMEOUT(contract_approval, requests_are_bounded_inline, RIG_TIMEOUT_SECONDS)
{
    requests_are_bounded(RIG_INLINE);
}

/* A request in one channel, its task's resolution through the other: the request that nobody took
 * goes with the session, its bytes too. */
CASE(contract_approval, request_left_behind_goes_with_its_session)
{
    for (unsigned mode = 0; mode < 2; mode++) {
        struct rig rig;
        tr_stats stats;
        tr_session_id session;
        tr_turn_id turn;
        tr_launched launched;
        tr_batch *batch;
        tr_config config = TR_CONFIG_INIT;
        config.permit = ask_once;
        rig_open(&rig, mode == 0 ? RIG_THREADED : RIG_INLINE, &config);
        CHECK_EQ_INT(tr_session_open(rig.manager, NULL, &session), 0);
        CHECK_EQ_INT(tr_turn_open(rig.manager, session, NULL, &turn), 0);
        tr_request request = TR_REQUEST_INIT(turn, rig.nothing);
        request.input = rig_bytes("ask");
        request.options.route = TR_ROUTE_BACKGROUND;
        CHECK_EQ_INT(tr_launch(rig.manager, &request, &launched), TR_PENDING);
        CHECK_EQ_INT(tr_manager_stats(rig.manager, &stats), 0);
        CHECK(stats.bytes_used > 0);
        CHECK_EQ_INT(tr_task_set_delivery(rig.manager, launched.task, TR_DELIVERY_MANUAL), 0);
        CHECK_EQ_INT(tr_task_deny(rig.manager, launched.task, "no"), 0);
        CHECK_EQ_INT(tr_ready_take(rig.manager, session, TR_FOREVER, 1, &batch), 1);
        rig_check_release(batch, launched.task, TR_OUTCOME_DENIED);
        CHECK_EQ_INT(tr_turn_close(rig.manager, turn, 0), 0);
        CHECK_EQ_INT(tr_session_close(rig.manager, session, 0), 0);
        do { /* until the timer of the request has let go of the task */
            CHECK(tr_ready_take(rig.manager, session, 0, 1, &batch) <= 0);
            CHECK_EQ_INT(tr_manager_stats(rig.manager, &stats), 0);
        } while (stats.sessions_used > 1);
        CHECK_EQ_INT(tr_manager_stats(rig.manager, &stats), 0); /* looking may have freed it */
        CHECK_EQ_U64(stats.bytes_used, 0);
        rig_close(&rig);
    }
}

static tr_permit ask_twice(void *context, const tr_request *request, unsigned approvals,
                           tr_permit_answer *answer)
{
    (void)context;
    (void)answer;
    return approvals < 2 && request->input.size > 0 ? TR_PERMIT_ASK : TR_PERMIT_ALLOW;
}

/* Approving a request twice does not approve the next one, which nobody has seen. */
CASE(contract_approval, one_request_is_approved_once)
{
    for (unsigned mode = 0; mode < 2; mode++) {
        struct rig rig;
        tr_config config = TR_CONFIG_INIT;
        config.permit = ask_twice;
        rig_open(&rig, mode == 0 ? RIG_THREADED : RIG_INLINE, &config);
        tr_request request = TR_REQUEST_INIT(rig.turn, rig.nothing);
        request.input = rig_bytes("ask");
        tr_task_id task = rig_launch_request(&rig, &request).task;
        for (unsigned approvals = 0; approvals < 2; approvals++) {
            tr_batch *batch = rig_turn_take(&rig, rig.turn);
            CHECK_EQ_INT(batch->items[0].type, TR_ITEM_APPROVAL);
            CHECK_EQ_U64(batch->items[0].approvals, approvals);
            tr_batch_release(batch);
            CHECK_EQ_INT(tr_task_approve_request(rig.manager, task, approvals + 1), TR_EINVAL);
            CHECK_EQ_INT(tr_task_approve_request(rig.manager, task, approvals), 0);
            int again = tr_task_approve_request(rig.manager, task, approvals);
            CHECK(again == TR_EALREADY || (approvals == 1 && again == TR_ESTATE));
        }
        rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_COMPLETED);
        CHECK_EQ_INT(tr_task_approve_request(NULL, task, 0), TR_EINVAL);
        CHECK_EQ_INT(tr_task_approve_request(rig.manager, task, UINT32_MAX), TR_EINVAL);
        rig_close(&rig);
    }
}
