/*
 * Lives end to end: of sessions, turns and tasks, and of workers that are blocked.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "support/host.h"

/* ---- sessions and turns ---- */

BOTH(lifecycle, sessions_are_found_by_their_label)
{
    tr_session_id ids[4] = {0, 0, 0, 0};
    static const char *const labels[] = {"one", "two", "two", NULL};
    for (unsigned at = 0; at < 4; at++) {
        tr_session_options options = TR_SESSION_OPTIONS_INIT;
        char label[8];
        if (labels[at] != NULL) {
            (void)snprintf(label, sizeof label, "%s", labels[at]); /* copied */
            options.label = label;
        }
        CHECK_EQ_INT(tr_session_open(rig->manager, &options, &ids[at]), 0);
    }
    tr_session_id found = 0;
    CHECK_EQ_INT(tr_session_find(rig->manager, "one", &found), 0);
    CHECK_EQ_U64(found, ids[0]);
    CHECK_EQ_INT(tr_session_find(rig->manager, "two", &found), 0);
    CHECK_EQ_U64(found, ids[1]); /* the one opened first */
    CHECK_EQ_INT(tr_session_close(rig->manager, ids[1], 0), 0);
    CHECK_EQ_INT(tr_session_find(rig->manager, "two", &found), 0);
    CHECK_EQ_U64(found, ids[2]);
    CHECK_EQ_INT(tr_session_close(rig->manager, ids[2], 0), 0);
    CHECK_EQ_INT(tr_session_find(rig->manager, "two", &found), TR_ENOENT);
    CHECK_EQ_INT(tr_session_find(rig->manager, "", &found), TR_ENOENT);
    CHECK_EQ_INT(tr_session_find(rig->manager, NULL, &found), TR_EINVAL);
    CHECK_EQ_INT(tr_session_find(rig->manager, "one", NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_session_find(NULL, "one", &found), TR_EINVAL);
    CHECK_EQ_U64(found, ids[2]);
}

BOTH(lifecycle, labels_have_a_bound)
{
    char label[TR_LABEL_BYTES_MAX + 2];
    uint64_t id = 0;
    memset(label, 'l', sizeof label);
    label[TR_LABEL_BYTES_MAX + 1] = '\0';
    tr_session_options session = TR_SESSION_OPTIONS_INIT;
    tr_turn_options turn = TR_TURN_OPTIONS_INIT;
    session.label = label;
    turn.label = label;
    CHECK_EQ_INT(tr_session_open(rig->manager, &session, &id), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &turn, &id), TR_EINVAL);
    CHECK_EQ_U64(id, 0);
    label[TR_LABEL_BYTES_MAX] = '\0';
    CHECK_EQ_INT(tr_session_open(rig->manager, &session, &id), 0);
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &turn, &id), 0);
}

BOTH(lifecycle, homes_open_and_close)
{
    tr_manager *manager = rig->manager;
    tr_session_id session = rig_session(rig);
    tr_turn_id turn = rig_turn(rig, session);
    tr_turn_id none = 0;
    CHECK_EQ_INT(tr_turn_close(manager, turn, 2), TR_EINVAL);
    CHECK_EQ_INT(tr_session_close(manager, session, 2), TR_EINVAL);
    CHECK_EQ_INT(tr_session_open(manager, NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_session_open(NULL, NULL, &none), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_open(manager, session, NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_open(NULL, session, NULL, &none), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_open(manager, turn, NULL, &none), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_open(manager, 0, NULL, &none), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_close(manager, turn, 0), 0);
    CHECK_EQ_INT(tr_turn_close(manager, turn, 0), TR_ENOENT); /* gone at once */
    CHECK_EQ_INT(tr_turn_close(manager, session, 0), TR_ENOENT);
    CHECK_EQ_INT(tr_session_close(manager, turn, 0), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_close(NULL, turn, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_session_close(NULL, session, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_session_close(manager, session, 0), 0);
    CHECK_EQ_INT(tr_session_close(manager, session, 0), TR_ENOENT); /* nothing of it was left */
    CHECK_EQ_INT(tr_turn_open(manager, session, NULL, &none), TR_ENOENT);
    CHECK_EQ_U64(none, 0);
    CHECK_EQ_U64(rig_stats(rig).sessions_used, 1);
    CHECK_EQ_U64(rig_stats(rig).turns_used, 1);
}

/* A closed session with something left keeps its id for taking, and refuses the rest. */
BOTH(lifecycle, closed_sessions_can_be_emptied)
{
    tr_manager *manager = rig->manager;
    tr_turn_id none = 0;
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->echo);
    request.input = rig_bytes("left");
    request.options.route = TR_ROUTE_BACKGROUND;
    tr_task_id to_loop = rig_launch_request(rig, &request).task;
    request.options.delivery = TR_DELIVERY_MANUAL;
    tr_task_id manual = rig_launch_request(rig, &request).task;
    rig_wait_idle(rig);
    CHECK_EQ_INT(tr_session_close(manager, rig->session, 0), 0);
    CHECK_EQ_INT(tr_session_close(manager, rig->session, 0), TR_EALREADY);
    CHECK_EQ_INT(tr_turn_open(manager, rig->session, NULL, &none), TR_ECLOSED);
    tr_batch *batch = rig_loop_take(rig, rig->session);
    CHECK(rig_bytes_are(batch->items[0].result, "left"));
    CHECK_EQ_U64(batch->items[0].turn, rig->turn);
    rig_check_release(batch, to_loop, TR_OUTCOME_COMPLETED);
    rig_loop_is_empty(rig, rig->session);
    rig_check_release(rig_ready_take(rig, rig->session), manual, TR_OUTCOME_COMPLETED);
    WAIT_UNTIL(rig_stats(rig).sessions_used == 0, RIG_PATIENCE_SECONDS);
    CHECK_EQ_INT(tr_loop_take(manager, rig->session, 0, 1, &batch), TR_ENOENT);
}

/* ---- lifetimes: which close ends what ---- */

enum closing {
    CLOSE_TURN,
    CLOSE_TURN_DISCARD,
    CLOSE_SESSION,
    CLOSE_SESSION_DISCARD,
};

static void close_home(struct rig *rig, enum closing closing)
{
    uint32_t flags =
        closing == CLOSE_TURN_DISCARD || closing == CLOSE_SESSION_DISCARD ? TR_CLOSE_DISCARD : 0;
    if (closing == CLOSE_TURN || closing == CLOSE_TURN_DISCARD) {
        CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, flags), 0);
    } else {
        CHECK_EQ_INT(tr_session_close(rig->manager, rig->session, flags), 0);
    }
}

static void check_lifetime(struct rig *rig, enum closing closing, tr_lifetime lifetime,
                           tr_tool_id tool, bool detach)
{
    struct gate gate;
    gate_init(&gate);
    rig->session = rig_session(rig);
    rig->turn = rig_turn(rig, rig->session);
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.user = &gate;
    request.options.route = detach ? TR_ROUTE_FOREGROUND : TR_ROUTE_BACKGROUND;
    request.options.lifetime = lifetime;
    tr_task_id task = rig_launch_request(rig, &request).task;
    gate_await_entered(&gate, 1);
    if (detach) {
        CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
    }
    bool ends = closing == CLOSE_TURN      ? lifetime == TR_LIFETIME_TURN
                : closing == CLOSE_SESSION ? lifetime != TR_LIFETIME_MANAGER
                                           : true;
    uint64_t discarded = rig_stats(rig).discarded;
    close_home(rig, closing);
    if (ends) {
        rig_wait_idle(rig);
    } else {
        CHECK(!rig_snapshot(rig, task).cancel_requested);
        CHECK_EQ_INT(tr_manager_wait_idle(rig->manager, 0), TR_ETIMEDOUT);
    }
    gate_open(&gate);
    if (tool == rig->deferred && !ends) {
        CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, NULL, 0), 0);
    }
    rig_wait_idle(rig);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    if (closing == CLOSE_SESSION_DISCARD) { /* taken by nobody */
        WAIT_UNTIL(rig_stats(rig).discarded == discarded + 1, RIG_PATIENCE_SECONDS);
    } else {
        tr_batch *batch = NULL;
        CHECK_EQ_INT(tr_loop_take(rig->manager, rig->session, 0, 1, &batch), 1);
        CHECK_EQ_U64(batch->items[0].flags & TR_ITEM_WAS_DETACHED,
                     detach ? TR_ITEM_WAS_DETACHED : 0);
        CHECK_EQ_STR(batch->items[0].reason, !ends                     ? ""
                                             : closing < CLOSE_SESSION ? "the turn was closed"
                                                                       : "the session was closed");
        rig_check_release(batch, task, ends ? TR_OUTCOME_CANCELLED : TR_OUTCOME_COMPLETED);
    }
    if (closing < CLOSE_SESSION) {
        CHECK_EQ_INT(tr_session_close(rig->manager, rig->session, 0), 0);
    }
    WAIT_UNTIL(rig_stats(rig).tasks_used == 0 && rig_stats(rig).sessions_used == 1,
               RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}

THREADED(lifecycle, lifetimes)
{
    tr_tool_id tools[] = {rig->gate, rig->awaiting, rig->deferred};
    for (int closing = CLOSE_TURN; closing <= CLOSE_SESSION_DISCARD; closing++) {
        for (int lifetime = TR_LIFETIME_DEFAULT; lifetime <= TR_LIFETIME_MANAGER; lifetime++) {
            for (unsigned at = 0; at < 6; at++) {
                check_lifetime(rig, (enum closing)closing, (tr_lifetime)lifetime, tools[at / 2],
                               at % 2 == 1);
            }
        }
    }
}

/* Closing a turn ends its foreground, and nobody gets what it brought. */
THREADED(lifecycle, closed_turns_discard)
{
    struct gate gate;
    gate_init(&gate);
    tr_tool_id tools[] = {rig->nothing, rig->gate, rig->awaiting, rig->deferred};
    for (unsigned at = 0; at < 4; at++) {
        (void)rig_launch(rig, tools[at], &gate, TR_ROUTE_FOREGROUND);
    }
    gate_await_entered(&gate, 3);
    tr_task_id detached = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_task_detach(rig->manager, detached), 0); /* its item is discarded too */
    CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, 0), 0);
    WAIT_UNTIL(rig_stats(rig).discarded == 4, RIG_PATIENCE_SECONDS);
    gate_open(&gate);
    rig_check_release(rig_loop_take(rig, rig->session), detached, TR_OUTCOME_COMPLETED);
    rig_wait_idle(rig);
    WAIT_UNTIL(rig_stats(rig).tasks_used == 0, RIG_PATIENCE_SECONDS);
    CHECK_EQ_U64(rig_stats(rig).turns_used, 0);
    CHECK_EQ_U64(rig_stats(rig).discarded, 4);
    gate_done(&gate);
}

/* The same when the turn's updates go to a queue: its consumer never sees them. */
THREADED(lifecycle, closed_turns_of_a_queue_discard)
{
    struct gate gate;
    tr_queue *queue = NULL;
    tr_batch *batch = NULL;
    gate_init(&gate);
    CHECK_EQ_INT(tr_queue_open(rig->manager, &queue), 0);
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    options.queue = queue;
    CHECK_EQ_INT(tr_session_open(rig->manager, &options, &rig->session), 0);
    rig->turn = rig_turn(rig, rig->session);
    (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    (void)rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    tr_task_id behind = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
    rig_await_state(rig, behind, TR_STATE_ENDED);
    CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, 0), 0);
    rig_wait_idle(rig);
    rig_check_release(rig_queue_take(queue), behind, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(tr_queue_drain(queue, 0, 8, &batch), 0);
    CHECK_EQ_U64(rig_stats(rig).discarded, 2);
    CHECK_EQ_INT(tr_session_close(rig->manager, rig->session, TR_CLOSE_DISCARD), 0);
    WAIT_UNTIL(tr_queue_close(queue) == 0, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}

/* ---- waiting until idle ---- */

THREADED(lifecycle, wait_idle)
{
    struct gate gate;
    gate_init(&gate);
    CHECK_EQ_INT(tr_manager_wait_idle(rig->manager, 0), 0);
    CHECK_EQ_INT(tr_manager_wait_idle(NULL, 0), TR_EINVAL);
    (void)rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_BACKGROUND);
    CHECK_EQ_INT(tr_manager_wait_idle(rig->manager, 0), TR_ETIMEDOUT);
    CHECK_EQ_INT(tr_manager_wait_idle(rig->manager, 2 * TR_MILLISECOND), TR_ETIMEDOUT);
    gate_open(&gate);
    CHECK_EQ_INT(tr_manager_wait_idle(rig->manager, TR_FOREVER), 0);
    CHECK_EQ_U64(rig_stats(rig).tasks_used, 1); /* idle, though nobody has taken it */
    gate_done(&gate);
}

/* ---- blocked workers get substitutes ---- */

static int run_blocking_read(tr_call *call, void *context)
{
    const int *fds = tr_call_user(call);
    char byte = 0;
    (void)context;
    CHECK_EQ_INT(write(fds[1], "r", 1), 1); /* tells that it is about to block */
    CHECK_EQ_INT(read(fds[2], &byte, 1), 1);
    return 0;
}

CASE_TIMEOUT(lifecycle, blocked_workers_get_substitutes, RIG_TIMEOUT_SECONDS)
{
    enum {
        SEATS = 3,
        BLOCKERS = SEATS + 2 /* more than seats: substitutes get stuck too */
    };
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    int fds[4]; /* ready: 0 and 1, go: 2 and 3 */
    config.workers = SEATS;
    config.slice_ns = 2 * TR_MILLISECOND;
    CHECK_EQ_INT(pipe2(fds, O_CLOEXEC), 0);
    CHECK_EQ_INT(pipe2(fds + 2, O_CLOEXEC), 0);
    rig_open(&rig, RIG_THREADED, &config);
    tr_tool_id tool = rig_tool(&rig, "blocks", run_blocking_read, NULL);
    for (unsigned at = 0; at < BLOCKERS; at++) {
        char byte = 0;
        (void)rig_launch(&rig, tool, fds, TR_ROUTE_BACKGROUND);
        CHECK_EQ_INT(read(fds[0], &byte, 1), 1);
    }
    for (unsigned at = 0; at < 200; at++) { /* new work still runs, of every style */
        tr_task_id task = rig_launch(&rig, rig.nothing, NULL, TR_ROUTE_FOREGROUND);
        rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_COMPLETED);
    }
    struct gate gate;
    gate_init(&gate);
    tr_task_id task = rig_launch(&rig, rig.awaiting, &gate, TR_ROUTE_FOREGROUND);
    gate_open(&gate);
    rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_COMPLETED);
    CHECK(rig_stats(&rig).substitutes >= BLOCKERS - SEATS + 1);
    CHECK_EQ_INT(write(fds[3], "xxxxx", BLOCKERS), BLOCKERS);
    rig_wait_idle(&rig);
    CHECK_EQ_INT(rig_loop_flush(&rig, rig.session), BLOCKERS);
    rig_wait_idle(&rig);
    gate_done(&gate);
    rig_close(&rig);
    for (unsigned at = 0; at < 4; at++) {
        CHECK_EQ_INT(close(fds[at]), 0);
    }
}
