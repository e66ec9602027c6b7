/*
 * Numbers and answers that are exact at once: what was taken is finished, what was released free,
 * whatever timers and other threads still hold for a moment.
 */
#include "support/host.h"

THREADED(exact, what_was_taken_is_finished)
{
    for (unsigned round = 0; round < 5000; round++) {
        (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        tr_stats stats = rig_stats(rig);
        CHECK_EQ_U64(stats.unfinished, 0);
        CHECK_EQ_U64(stats.accepted, round + 1);
        CHECK_EQ_U64(stats.completed, round + 1);
        tr_batch_release(batch);
    }
}

/* ---- as many as there are, never more ---- */

enum {
    MAX = 5,
    LAUNCHERS = 4,
};

struct shop {
    struct rig rig;
    bool stop; /* atomic */
};

static void *launch_and_take(void *argument)
{
    struct shop *shop = argument;
    struct rig *rig = &shop->rig;
    tr_turn_id turn = rig_turn(rig, rig_session(rig));
    while (!__atomic_load_n(&shop->stop, __ATOMIC_RELAXED)) {
        tr_request request = TR_REQUEST_INIT(turn, rig->nothing);
        tr_launched launched;
        int status = tr_launch(rig->manager, &request, &launched);
        CHECK(status == TR_PENDING || status == TR_EAGAIN);
        (void)rig_turn_flush(rig, turn);
    }
    return NULL;
}

CASE_TIMEOUT(exact, used_is_never_more_than_there_is, RIG_TIMEOUT_SECONDS)
{
    static struct shop shop;
    pthread_t threads[LAUNCHERS];
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = MAX;
    rig_open(&shop.rig, RIG_THREADED, &config);
    for (unsigned at = 0; at < LAUNCHERS; at++) {
        threads[at] = rig_thread(launch_and_take, &shop);
    }
    for (unsigned look = 0; look < 20000; look++) {
        tr_stats stats = rig_stats(&shop.rig);
        CHECK(stats.tasks_used <= MAX);
        CHECK(stats.unfinished <= MAX);
    }
    __atomic_store_n(&shop.stop, true, __ATOMIC_RELAXED);
    for (unsigned at = 0; at < LAUNCHERS; at++) {
        rig_join(threads[at]);
    }
    rig_close(&shop.rig);
}

/* ---- queues ---- */

/* Whatever was bound to it is closed and released: the queue can be closed, at the first attempt,
 * although timers of the tasks have held their turn. */
THREADED(exact, queue_closes_at_once)
{
    for (unsigned round = 0; round < 300; round++) {
        tr_session_options options = TR_SESSION_OPTIONS_INIT;
        tr_session_id session = 0;
        CHECK_EQ_INT(tr_queue_open(rig->manager, &options.queue), 0);
        CHECK_EQ_INT(tr_session_open(rig->manager, &options, &session), 0);
        tr_request request = TR_REQUEST_INIT(rig_turn(rig, session), rig->nothing);
        request.options.total_timeout_ns = 3600 * TR_SECOND;
        request.options.route = round % 2 == 0 ? TR_ROUTE_FOREGROUND : TR_ROUTE_BACKGROUND;
        (void)rig_launch_request(rig, &request);
        tr_batch *batch = rig_queue_take(options.queue);
        CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
        CHECK_EQ_INT(tr_queue_close(options.queue), TR_EBUSY); /* it is not released */
        tr_batch_release(batch);
        CHECK_EQ_INT(tr_queue_close(options.queue), 0);
    }
}

/* The number of operations counts what the kernel was given: timers are not, waits on descriptors
 * are. */
THREADED(exact, timers_are_no_operations)
{
    struct gate gate;
    gate_init(&gate);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->deferred);
    request.user = &gate;
    request.options.total_timeout_ns = TR_MILLISECOND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_TIMED_OUT);
    CHECK_EQ_U64(rig_stats(rig).ring_operations, 0);
    CHECK(rig_stats(rig).timers_fired >= 1);
    task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    gate_open(&gate);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_U64(rig_stats(rig).ring_operations, 1);
    gate_done(&gate);
}
