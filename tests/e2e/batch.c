/*
 * Launching batches end to end.
 */
#include "support/host.h"

/* ---- batches ---- */

BOTH(batch, batch_refuses_bad_arguments)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
    tr_launched launched;
    CHECK_EQ_INT(tr_launch_batch(rig->manager, NULL, 1, &launched), TR_EINVAL);
    CHECK_EQ_INT(tr_launch_batch(rig->manager, &request, 0, &launched), TR_EINVAL);
    CHECK_EQ_INT(tr_launch_batch(rig->manager, &request, 1, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_launch_batch(rig->manager, &request, 1048577, &launched), TR_EINVAL);
    CHECK_EQ_INT(tr_launch_batch(NULL, &request, 1, &launched), TR_EINVAL);
    CHECK_EQ_U64(rig_stats(rig).accepted, 0);
}

BOTH(batch, batch_accepts_each_on_its_own)
{
    enum {
        COUNT = 300
    };
    static tr_request requests[COUNT];
    static tr_launched launched[COUNT];
    static unsigned char seen[COUNT];
    tr_turn_id other = rig_turn(rig, rig->session);
    unsigned bad = 0;
    memset(seen, 0, sizeof seen);
    for (unsigned at = 0; at < COUNT; at++) {
        tr_request request = TR_REQUEST_INIT(at % 40 < 20 ? rig->turn : other, rig->nothing);
        request.user = &seen[at];
        if (at % 7 == 3) {
            request.tool = 0; /* none of that id and no name */
            bad++;
        } else if (at % 11 == 5) {
            request.turn = 12345;
            bad++;
        } else if (at % 13 == 6) {
            request.options.route = TR_ROUTE_INLINE;
        }
        requests[at] = request;
    }
    int accepted = tr_launch_batch(rig->manager, requests, COUNT, launched);
    CHECK_EQ_INT(accepted, COUNT - bad);
    uint64_t last = 0;
    for (unsigned at = 0; at < COUNT; at++) {
        bool is_bad = at % 7 == 3 || at % 11 == 5;
        bool here = !is_bad && at % 13 == 6;
        CHECK_EQ_INT(launched[at].status, is_bad ? TR_ENOENT : here ? TR_READY : TR_PENDING);
        CHECK_EQ_INT(launched[at].task != 0, !is_bad);
        CHECK_EQ_INT(launched[at].ready != NULL, here);
        if (here) {
            rig_check(launched[at].ready, launched[at].task, TR_OUTCOME_COMPLETED);
            CHECK_EQ_INT(launched[at].ready->items[0].channel, TR_CHANNEL_LAUNCH);
            CHECK(launched[at].ready->items[0].accepted_ns > last);
            last = launched[at].ready->items[0].accepted_ns;
            seen[at] = 1;
            tr_batch_release(launched[at].ready);
        }
    }
    tr_turn_id turns[] = {rig->turn, other};
    for (unsigned which = 0; which < 2; which++) {
        tr_batch *batch = NULL;
        while (tr_turn_wait(rig->manager, turns[which], NULL, RIG_PATIENCE_NS, 50, &batch) ==
               TR_WAIT_ITEMS) {
            for (size_t at = 0; at < batch->count; at++) {
                unsigned char *mark = batch->items[at].user;
                CHECK_EQ_U64(batch->items[at].task, launched[mark - seen].task);
                CHECK_EQ_U64(batch->items[at].turn, turns[which]);
                CHECK_EQ_INT(*mark, 0);
                *mark = 1;
            }
            tr_batch_release(batch);
        }
    }
    unsigned total = 0;
    for (unsigned at = 0; at < COUNT; at++) {
        total += seen[at];
    }
    CHECK_EQ_INT(total, COUNT - bad);
}

static int run_open_gate(tr_call *call, void *context)
{
    (void)context;
    gate_open(tr_call_user(call));
    return 0;
}

/* An inline call may wait for what an earlier call of its batch does. */
THREADED(batch, batch_runs_pending_beside_inline)
{
    struct gate gate;
    gate_init(&gate);
    tr_request requests[2] = {TR_REQUEST_INIT(rig->turn, 0), TR_REQUEST_INIT(rig->turn, 0)};
    tr_launched launched[2];
    requests[0].tool = rig_tool(rig, "opener", run_open_gate, NULL);
    requests[1].tool = rig->gate;
    requests[1].options.route = TR_ROUTE_INLINE;
    requests[0].user = &gate;
    requests[1].user = &gate;
    CHECK_EQ_INT(tr_launch_batch(rig->manager, requests, 2, launched), 2);
    CHECK_EQ_INT(launched[1].status, TR_READY);
    rig_check_release(launched[1].ready, launched[1].task, TR_OUTCOME_COMPLETED);
    rig_check_release(rig_turn_take(rig, rig->turn), launched[0].task, TR_OUTCOME_COMPLETED);
    rig_wait_idle(rig);
    gate_done(&gate);
}
