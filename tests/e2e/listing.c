/*
 * Looking end to end: snapshots and listings, in the order of launches, by cursor and filter; and
 * the numbers of tr_manager_stats.
 */
#include "support/gated.h"

enum {
    ROOM = 64,
};

static int list(struct rig *rig, const tr_filter *filter, tr_snapshot *snapshots, size_t room)
{
    tr_cursor cursor = {0, 0};
    return tr_task_list(rig->manager, filter, &cursor, snapshots, room);
}

BOTH(listing, refuses_bad_arguments)
{
    tr_cursor cursor = {0, 0};
    tr_snapshot snapshot;
    tr_filter filter = TR_FILTER_INIT;
    filter.size = 3;
    CHECK_EQ_INT(tr_task_list(NULL, NULL, &cursor, &snapshot, 1), TR_EINVAL);
    CHECK_EQ_INT(tr_task_list(rig->manager, &filter, &cursor, &snapshot, 1), TR_EINVAL);
    CHECK_EQ_INT(tr_task_list(rig->manager, NULL, NULL, &snapshot, 1), TR_EINVAL);
    CHECK_EQ_INT(tr_task_list(rig->manager, NULL, &cursor, NULL, 1), TR_EINVAL);
    CHECK_EQ_INT(tr_task_list(rig->manager, NULL, &cursor, &snapshot, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_task_list(rig->manager, NULL, &cursor, &snapshot, 1), 0);
    CHECK_EQ_U64(cursor.task | cursor.accepted_ns, 0);
    tr_task_id ids[] = {0, rig->turn, rig->session, UINT64_MAX, 1};
    for (size_t at = 0; at < sizeof ids / sizeof *ids; at++) {
        CHECK_EQ_INT(tr_task_snapshot(rig->manager, ids[at], &snapshot), TR_ENOENT);
    }
    CHECK_EQ_INT(tr_task_snapshot(rig->manager, 0, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_task_snapshot(NULL, 0, &snapshot), TR_EINVAL);
}

BOTH(listing, snapshot_of_an_ended_task)
{
    tr_task_id task = rig_launch_text(rig, rig->fail, "x", TR_ROUTE_BACKGROUND);
    rig_wait_idle(rig);
    tr_snapshot snapshot = rig_snapshot(rig, task);
    CHECK_EQ_INT(snapshot.state, TR_STATE_ENDED);
    CHECK_EQ_INT(snapshot.outcome, TR_OUTCOME_FAILED);
    CHECK(snapshot.ended_ns >= snapshot.started_ns && snapshot.started_ns >= snapshot.accepted_ns);
    tr_batch *batch = rig_loop_take(rig, rig->session);
    CHECK_EQ_INT(rig_snapshot(rig, task).state, TR_STATE_ENDED); /* the host has it */
    rig_check_release(batch, task, TR_OUTCOME_FAILED);
    CHECK_EQ_INT(tr_task_snapshot(rig->manager, task, &snapshot), TR_ENOENT);
}

/* Tasks of two sessions and three turns, none of which ends by itself. */
struct crowd {
    struct gate gate;
    tr_turn_id turns[3];
    tr_session_id sessions[2];
    tr_task_id tasks[30];
};

static void crowd_gather(struct crowd *self, struct rig *rig)
{
    gate_init(&self->gate);
    self->sessions[0] = rig->session;
    self->sessions[1] = rig_session(rig);
    self->turns[0] = rig->turn;
    self->turns[1] = rig_turn(rig, rig->session);
    self->turns[2] = rig_turn(rig, self->sessions[1]);
    for (unsigned at = 0; at < 30; at++) {
        rig->turn = self->turns[at % 3];
        self->tasks[at] = rig_launch(rig, at % 2 == 0 ? rig->deferred : rig->awaiting, &self->gate,
                                     at % 5 == 0 ? TR_ROUTE_BACKGROUND : TR_ROUTE_FOREGROUND);
    }
    gate_await_entered(&self->gate, 30);
}

static void crowd_dismiss(struct crowd *self, struct rig *rig)
{
    gate_open(&self->gate);
    for (unsigned at = 0; at < 30; at++) {
        (void)tr_task_cancel(rig->manager, self->tasks[at], NULL); /* some have ended */
    }
    rig_wait_idle(rig);
    gate_done(&self->gate);
}

THREADED(listing, is_in_the_order_of_launches)
{
    static struct crowd crowd;
    static tr_snapshot snapshots[ROOM];
    crowd_gather(&crowd, rig);
    for (size_t room = 1; room <= 31; room++) { /* any number at a time */
        tr_cursor cursor = {0, 0};
        unsigned seen = 0;
        int count = 0;
        do {
            count = tr_task_list(rig->manager, NULL, &cursor, snapshots, room);
            CHECK(count >= 0 && (size_t)count <= room);
            for (int at = 0; at < count; at++) {
                CHECK_EQ_U64(snapshots[at].task, crowd.tasks[seen++]);
            }
        } while ((size_t)count == room);
        CHECK_EQ_INT(seen, 30);
    }
    crowd_dismiss(&crowd, rig);
    CHECK_EQ_INT(list(rig, NULL, snapshots, ROOM), 0);
}

THREADED(listing, filters)
{
    static struct crowd crowd;
    static tr_snapshot snapshots[ROOM];
    static const struct {
        int session; /* -1: of all */
        int turn;
        uint32_t kinds;
        unsigned expected;
    } table[] = {
        {-1, -1, 0, 30}, {0, -1, 0, 20}, {1, -1, 0, 10}, {-1, 0, 0, 10},  {-1, 1, 0, 10},
        {-1, 2, 0, 10},  {0, 0, 0, 10},  {1, 0, 0, 0},   {-1, -1, 1, 24}, {-1, -1, 2, 6},
        {-1, -1, 3, 30}, {-1, 0, 2, 2},  {1, -1, 1, 8},
    };
    crowd_gather(&crowd, rig);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        tr_filter filter = TR_FILTER_INIT;
        filter.session = table[at].session < 0 ? 0 : crowd.sessions[table[at].session];
        filter.turn = table[at].turn < 0 ? 0 : crowd.turns[table[at].turn];
        filter.kinds = table[at].kinds;
        int count = list(rig, &filter, snapshots, ROOM);
        CHECK_EQ_INT(count, table[at].expected);
        for (int item = 0; item < count; item++) {
            CHECK(filter.session == 0 || snapshots[item].session == filter.session);
            CHECK(filter.turn == 0 || snapshots[item].turn == filter.turn);
            CHECK(filter.kinds == 0 || (filter.kinds >> snapshots[item].kind & 1) != 0);
            CHECK(item == 0 || snapshots[item].accepted_ns > snapshots[item - 1].accepted_ns);
        }
    }
    tr_filter nowhere = TR_FILTER_INIT;
    nowhere.session = crowd.turns[0]; /* not a session */
    CHECK_EQ_INT(list(rig, &nowhere, snapshots, ROOM), 0);
    crowd_dismiss(&crowd, rig);
}

CASE_TIMEOUT(listing, states, RIG_TIMEOUT_SECONDS)
{
    struct rig rig;
    struct gate gate;
    tr_snapshot snapshots[8];
    tr_config config = rig_one_worker();
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, &config);
    tr_task_id waiting = rig_launch(&rig, rig.deferred, &gate, TR_ROUTE_FOREGROUND);
    WAIT_UNTIL(rig_snapshot(&rig, waiting).deferred, RIG_PATIENCE_SECONDS);
    tr_task_id ended = rig_launch(&rig, rig.nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_await_state(&rig, ended, TR_STATE_ENDED);
    tr_task_id running = rig_launch(&rig, rig.gate, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 2);
    tr_task_id queued = rig_launch(&rig, rig.nothing, NULL, TR_ROUTE_FOREGROUND);
    const struct {
        uint32_t states;
        unsigned count;
        tr_task_id first;
    } table[] = {
        {0, 3, waiting},
        {1u << TR_STATE_QUEUED, 1, queued},
        {1u << TR_STATE_RUNNING, 1, running},
        {1u << TR_STATE_WAITING, 1, waiting},
        {1u << TR_STATE_RUNNING | 1u << TR_STATE_QUEUED, 2, running},
        {1u << TR_STATE_ENDED, 1, ended},
        {1u << TR_STATE_ENDED | 1u << TR_STATE_WAITING, 2, waiting},
    };
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        tr_filter filter = TR_FILTER_INIT;
        filter.states = table[at].states;
        CHECK_EQ_INT(list(&rig, &filter, snapshots, 8), table[at].count);
        CHECK_EQ_U64(snapshots[0].task, table[at].first);
    }
    gate_open(&gate);
    CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, NULL, 0), 0);
    rig_wait_idle(&rig);
    tr_filter filter = TR_FILTER_INIT; /* what has ended is there until it is released */
    filter.states = 1u << TR_STATE_ENDED;
    filter.turn = rig.turn;
    CHECK_EQ_INT(list(&rig, &filter, snapshots, 8), 4);
    CHECK_EQ_INT(snapshots[0].outcome, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(rig_turn_flush(&rig, rig.turn), 4);
    CHECK_EQ_INT(list(&rig, &filter, snapshots, 8), 0);
    rig_close(&rig);
    gate_done(&gate);
}

/* A task that was detached and attached is in one listing once; one of a closed turn is not
 * lost. */
THREADED(listing, after_moving_around)
{
    struct gate gate;
    tr_snapshot snapshots[8];
    gate_init(&gate);
    tr_task_id task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
    CHECK_EQ_INT(tr_task_attach(rig->manager, task), 0);
    CHECK_EQ_INT(list(rig, NULL, snapshots, 8), 1);
    tr_task_id behind = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_BACKGROUND);
    tr_turn_id turn = rig->turn;
    CHECK_EQ_INT(tr_turn_close(rig->manager, turn, 0), 0);
    rig_await_state(rig, behind, TR_STATE_WAITING);
    tr_filter filter = TR_FILTER_INIT;
    filter.session = rig->session;
    filter.kinds = 1u << TR_KIND_BACKGROUND;
    CHECK_EQ_INT(list(rig, &filter, snapshots, 8), 1);
    CHECK_EQ_U64(snapshots[0].task, behind);
    CHECK_EQ_U64(snapshots[0].turn, turn); /* though its id is gone */
    CHECK_EQ_INT(list(rig, NULL, snapshots, 8) >= 1, 1);
    gate_open(&gate);
    rig_wait_idle(rig);
    gate_done(&gate);
}

/* Listings while tasks come and go: always in order, nothing twice. */
struct lister {
    struct rig *rig;
    unsigned stop; /* atomic */
};

static void *list_on_and_on(void *argument)
{
    struct lister *self = argument;
    static tr_snapshot snapshots[50];
    while (__atomic_load_n(&self->stop, __ATOMIC_ACQUIRE) == 0) {
        tr_cursor cursor = {0, 0};
        uint64_t last_ns = 0;
        tr_task_id last = 0;
        int count = 0;
        do {
            count = tr_task_list(self->rig->manager, NULL, &cursor, snapshots, 50);
            CHECK(count >= 0);
            for (int at = 0; at < count; at++) {
                CHECK(snapshots[at].state != TR_STATE_ENDED);
                CHECK(snapshots[at].accepted_ns > last_ns ||
                      (snapshots[at].accepted_ns == last_ns && snapshots[at].task > last));
                last_ns = snapshots[at].accepted_ns;
                last = snapshots[at].task;
            }
        } while (count == 50);
        tr_stats stats = rig_stats(self->rig);
        CHECK(stats.accepted >= stats.completed + stats.failed + stats.cancelled);
        CHECK(stats.tasks_used <= stats.tasks_max);
    }
    return NULL;
}

THREADED(listing, while_tasks_come_and_go)
{
    struct lister lister = {rig, 0};
    tr_session_id other = rig_session(rig);
    tr_turn_id turns[] = {rig->turn, rig_turn(rig, other)};
    pthread_t thread = rig_thread(list_on_and_on, &lister);
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned at = 0; at < 60; at++) {
            rig->turn = turns[at % 2];
            (void)rig_launch(rig, rig->nothing, NULL,
                             at % 3 == 0 ? TR_ROUTE_BACKGROUND : TR_ROUTE_FOREGROUND);
        }
        (void)rig_turn_flush(rig, turns[0]);
        (void)rig_turn_flush(rig, turns[1]);
        (void)rig_loop_flush(rig, rig->session);
        (void)rig_loop_flush(rig, other);
    }
    __atomic_store_n(&lister.stop, 1, __ATOMIC_RELEASE);
    rig_join(thread);
}

/* ---- numbers ---- */

THREADED(listing, stats_tell_the_truth)
{
    struct gate gate;
    gate_init(&gate);
    (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    (void)rig_launch_text(rig, rig->fail, "x", TR_ROUTE_FOREGROUND);
    tr_task_id cancelled = rig_launch(rig, rig->deferred, &gate, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_task_detach(rig->manager, cancelled), 0);
    tr_stats stats = rig_stats(rig);
    CHECK_EQ_U64(stats.accepted, 3);
    CHECK(stats.unfinished >= 1);
    gate_await_entered(&gate, 1);
    WAIT_UNTIL(rig_snapshot(rig, cancelled).deferred, RIG_PATIENCE_SECONDS);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, cancelled, NULL), 0);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->awaiting);
    request.user = &gate;
    request.options.run_timeout_ns = TR_MILLISECOND;
    (void)rig_launch_request(rig, &request);
    rig_wait_idle(rig);
    stats = rig_stats(rig);
    CHECK_EQ_U64(stats.accepted, 4);
    CHECK_EQ_U64(stats.started, 4);
    CHECK_EQ_U64(stats.completed, 1);
    CHECK_EQ_U64(stats.failed, 1);
    CHECK_EQ_U64(stats.cancelled, 1);
    CHECK_EQ_U64(stats.timed_out, 1);
    CHECK_EQ_U64(stats.denied + stats.lost + stats.discarded + stats.refused, 0);
    CHECK_EQ_U64(stats.detached, 1);
    CHECK_EQ_U64(stats.unfinished, 0);
    CHECK_EQ_U64(stats.tasks_used, 4);
    CHECK_EQ_U64(stats.sessions_used, 1);
    CHECK_EQ_U64(stats.turns_used, 1);
    CHECK(stats.workers >= 2);
    CHECK(stats.timers_fired >= 1 && stats.ring_enters >= 1);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 4); /* three ends and a detach */
    CHECK_EQ_INT(rig_loop_flush(rig, rig->session), 1);
    WAIT_UNTIL(rig_stats(rig).tasks_used == 0, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}
