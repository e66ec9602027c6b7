/*
 * A turn closes without memory to remember its background tasks: they are listed and cancelled all
 * the same.
 */
#include "base/memory.h"
#include "support/host.h"

enum {
    TASKS = 12,
};

static void check_listing(struct rig *rig, tr_session_id session, const tr_task_id *tasks,
                          unsigned count)
{
    tr_snapshot snapshots[TASKS + 1];
    tr_filter filter = TR_FILTER_INIT;
    tr_cursor cursor = {0, 0};
    filter.session = session;
    CHECK_EQ_INT(tr_task_list(rig->manager, &filter, &cursor, snapshots, TASKS + 1), count);
    for (unsigned at = 0; at < count; at++) {
        CHECK_EQ_U64(snapshots[at].task, tasks[at]); /* each once, in the order of launches */
    }
}

CASE_TIMEOUT(fault_orphans, are_listed_and_cancelled, RIG_TIMEOUT_SECONDS)
{
    struct rig rig;
    struct gate gate;
    tr_task_id tasks[TASKS];
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, NULL);
    for (unsigned at = 0; at < TASKS; at++) {
        tasks[at] = rig_launch(&rig, rig.deferred, &gate, TR_ROUTE_BACKGROUND);
    }
    gate_await_entered(&gate, TASKS);
    tr_session_id other = rig_session(&rig); /* in another lane, with a task of its own */
    tr_turn_id closed = rig.turn;
    rig.turn = rig_turn(&rig, other);
    (void)rig_launch(&rig, rig.deferred, &gate, TR_ROUTE_BACKGROUND);
    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr_turn_close(rig.manager, closed, 0), 0);
    CHECK_EQ_INT(tr__memory_fail_left(), 0); /* it did fail */
    tr__memory_fail_after(-1);
    check_listing(&rig, rig.session, tasks, TASKS);
    CHECK_EQ_INT(tr_task_cancel(rig.manager, tasks[TASKS - 1], NULL), 0);
    check_listing(&rig, rig.session, tasks, TASKS - 1);
    CHECK_EQ_INT(tr_session_close(rig.manager, rig.session, 0), 0);
    CHECK_EQ_INT(rig_loop_flush(&rig, rig.session), TASKS);
    CHECK_EQ_U64(rig_stats(&rig).cancelled, TASKS);
    CHECK_EQ_INT(tr_session_close(rig.manager, other, TR_CLOSE_DISCARD), 0);
    rig_close(&rig);
    gate_done(&gate);
}
