/*
 * Who has missed events can go on from a listing: what is listed after
 * the gap, and the events after it, tell of every task that is there.
 */
#include "support/host.h"

static int run_deferred(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return TR_DEFERRED;
}

THREADED(contract_events, a_listing_makes_up_for_a_gap)
{
    enum {
        COUNT = 300,
        KEPT = 64
    };
    static tr_task_id alive[COUNT];
    static tr_event events[KEPT + 1];
    struct rig own;
    tr_config config = TR_CONFIG_INIT;
    tr_reader *reader = NULL;
    config.events_max = KEPT;
    rig_open(&own, rig->mode, &config);
    tr_tool_id tool = rig_tool(&own, "later", run_deferred, NULL);
    CHECK_EQ_INT(tr_reader_open(own.manager, NULL, &reader), 0);
    for (unsigned at = 0; at < COUNT; at++) {
        alive[at] = rig_launch(&own, tool, NULL, TR_ROUTE_BACKGROUND);
    }
    WAIT_UNTIL(rig_stats(&own).started == COUNT, RIG_PATIENCE_SECONDS);
    for (unsigned at = 0; at < COUNT; at += 3) { /* some end where the reader does not see it */
        CHECK_EQ_INT(tr_task_cancel(own.manager, alive[at], NULL), 0);
        alive[at] = 0;
    }
    int count = tr_reader_read(reader, events, KEPT + 1, 0);
    CHECK(count > 1);
    CHECK_EQ_INT(events[0].type, TR_EVENT_GAP);
    /* Read to the end, then listed: what happens from now on comes as events. */
    CHECK_EQ_INT(tr_reader_read(reader, events, KEPT + 1, 0), 0);
    tr_snapshot snapshots[7];
    tr_cursor cursor = {0, 0};
    unsigned next = 0;
    do {
        count = tr_task_list(own.manager, NULL, &cursor, snapshots, 7);
        for (int at = 0; at < count; at++) {
            next += next < COUNT && alive[next] == 0;
            CHECK(next < COUNT);
            CHECK_EQ_U64(snapshots[at].task, alive[next]);
            next++;
        }
    } while (count == 7);
    CHECK_EQ_INT(next, COUNT);
    for (unsigned at = 0; at < COUNT; at++) {
        if (alive[at] != 0) {
            CHECK_EQ_INT(tr_finish((tr_deferred){own.manager, alive[at]}, 0, NULL, 0), 0);
            CHECK_EQ_INT(tr_reader_read(reader, events, 1, RIG_PATIENCE_NS), 1);
            CHECK_EQ_INT(events[0].type, TR_EVENT_COMPLETED);
            CHECK_EQ_U64(events[0].snapshot.task, alive[at]);
        }
    }
    CHECK_EQ_INT(rig_loop_flush(&own, own.session), COUNT);
    tr_reader_close(reader);
    rig_close(&own);
}

/* CONTINUE_REQUESTED comes when its loop update is there: who reacts to it finds the update. */
BOTH(contract_events, continue_requested_finds_its_update)
{
    enum {
        ROUNDS = 300
    };
    tr_reader *reader = NULL;
    tr_reader_options wanted = TR_READER_OPTIONS_INIT;
    wanted.types = 1u << TR_EVENT_CONTINUE_REQUESTED;
    CHECK_EQ_INT(tr_reader_open(rig->manager, &wanted, &reader), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        tr_event event;
        tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
        request.options.route = TR_ROUTE_BACKGROUND;
        request.options.continuation = TR_CONTINUE_REQUEST;
        tr_task_id task = rig_launch_request(rig, &request).task;
        CHECK_EQ_INT(tr_reader_read(reader, &event, 1, RIG_PATIENCE_NS), 1);
        CHECK_EQ_U64(event.snapshot.task, task);
        tr_batch *batch = NULL;
        CHECK_EQ_INT(tr_loop_take(rig->manager, rig->session, 0, 1, &batch), 1);
        CHECK_EQ_U64(batch->items[0].flags & TR_ITEM_CONTINUE, TR_ITEM_CONTINUE);
        rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    }
    tr_reader_close(reader);
}
