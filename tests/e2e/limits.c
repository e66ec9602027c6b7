/*
 * Bounds end to end: every bound at admission, waiting for room.
 */
#include "support/gated.h"

/* ---- tasks ---- */

static void check_tasks_max(enum rig_mode mode)
{
    enum {
        MAX = 5
    };
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = MAX;
    gated_open(&self, mode, &config);
    struct rig *rig = &self.rig;
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned at = 0; at < MAX; at++) {
            CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 0), TR_PENDING);
        }
        /* Unreleased results count, wherever they are: waiting in the channel … */
        rig_wait_idle(rig);
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 0), TR_EAGAIN);
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 2 * TR_MILLISECOND), TR_EAGAIN);
        CHECK_EQ_U64(rig_stats(rig).tasks_used, MAX);
        /* … and in a batch of the host's. */
        tr_batch *batch = NULL;
        CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 64, &batch), TR_WAIT_ITEMS);
        CHECK_EQ_U64(batch->count, MAX);
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 0), TR_EAGAIN);
        CHECK_EQ_U64(rig_stats(rig).refused, 3 * round);
        CHECK_EQ_U64(rig_stats(rig).accepted, MAX * round);
        tr_batch_release(batch);
        rig_turn_is_idle(rig, rig->turn);
        CHECK_EQ_U64(rig_stats(rig).tasks_used, 0);
    }
    gated_close(&self);
}

CASE_TIMEOUT(limits, tasks_threaded, RIG_TIMEOUT_SECONDS)
{
    check_tasks_max(RIG_THREADED);
}

CASE_TIMEOUT(limits, tasks_inline, RIG_TIMEOUT_SECONDS)
{
    check_tasks_max(RIG_INLINE);
}

/* Room that one session gives back is there for every other. */
CASE_TIMEOUT(limits, tasks_of_all_sessions_together, RIG_TIMEOUT_SECONDS)
{
    enum {
        MAX = 40,
        SESSIONS = 35
    };
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = MAX;
    gated_open(&self, RIG_THREADED, &config);
    struct rig *rig = &self.rig;
    for (unsigned at = 0; at < SESSIONS; at++) {
        rig->turn = rig_turn(rig, rig_session(rig));
        for (unsigned call = 0; call < MAX; call++) {
            CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 0), TR_PENDING);
        }
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 0), TR_EAGAIN);
        CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), MAX);
        rig_wait_idle(rig);
    }
    CHECK_EQ_U64(rig_stats(rig).completed, MAX * SESSIONS);
    gated_close(&self);
}

/* ---- waiting for room ---- */

struct waiter {
    struct rig *rig;
    int status;
};

static void *launch_and_wait(void *argument)
{
    struct waiter *waiter = argument;
    waiter->status =
        rig_try(waiter->rig, waiter->rig->turn, waiter->rig->nothing, NULL, RIG_PATIENCE_NS);
    return NULL;
}

static void *launch_for_ever(void *argument)
{
    struct waiter *waiter = argument;
    waiter->status =
        rig_try(waiter->rig, waiter->rig->turn, waiter->rig->nothing, NULL, TR_FOREVER);
    return NULL;
}

static void check_waiting(enum rig_mode mode)
{
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 1;
    gated_open(&self, mode, &config);
    struct rig *rig = &self.rig;
    for (unsigned round = 0; round < 50; round++) {
        struct waiter waiter = {rig, 1};
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 0), TR_PENDING);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        pthread_t thread = rig_thread(launch_and_wait, &waiter);
        if (round % 2 == 0) {
            (void)sched_yield();
        }
        tr_batch_release(batch); /* makes room, and the waiter does not poll for it */
        rig_join(thread);
        CHECK_EQ_INT(waiter.status, TR_PENDING);
        CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 1);
    }
    CHECK_EQ_U64(rig_stats(rig).refused, 0);
    gated_close(&self);
}

CASE_TIMEOUT(limits, waits_for_room_threaded, RIG_TIMEOUT_SECONDS)
{
    check_waiting(RIG_THREADED);
}

CASE_TIMEOUT(limits, waits_for_room_inline, RIG_TIMEOUT_SECONDS)
{
    check_waiting(RIG_INLINE);
}

CASE_TIMEOUT(limits, close_ends_the_waiting_for_room, RIG_TIMEOUT_SECONDS)
{
    for (unsigned round = 0; round < 20; round++) {
        struct gated self;
        tr_config config = TR_CONFIG_INIT;
        config.tasks_max = 1;
        gated_open(&self, round % 2 == 0 ? RIG_THREADED : RIG_INLINE, &config);
        struct rig *rig = &self.rig;
        struct waiter waiter = {rig, 1};
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 0), TR_PENDING);
        pthread_t thread = rig_thread(launch_for_ever, &waiter);
        CHECK_EQ_INT(tr_manager_close(rig->manager, 0), 0);
        rig_join(thread);
        CHECK_EQ_INT(waiter.status, TR_ECLOSED);
        CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 1);
        rig_free(rig);
        gate_done(&self.gate);
    }
}

/* A batch larger than the bound goes through when it may wait and somebody takes. */
static void *launch_large_batch(void *argument)
{
    enum {
        COUNT = 1000
    };
    static tr_request requests[COUNT];
    static tr_launched launched[COUNT];
    struct waiter *waiter = argument;
    for (unsigned at = 0; at < COUNT; at++) {
        tr_request request = TR_REQUEST_INIT(waiter->rig->turn, waiter->rig->nothing);
        request.admit_timeout_ns = RIG_PATIENCE_NS;
        request.options.route = TR_ROUTE_BACKGROUND;
        requests[at] = request;
    }
    waiter->status = tr_launch_batch(waiter->rig->manager, requests, COUNT, launched);
    return NULL;
}

CASE_TIMEOUT(limits, batch_larger_than_the_bound, RIG_TIMEOUT_SECONDS)
{
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 7;
    gated_open(&self, RIG_THREADED, &config);
    struct waiter waiter = {&self.rig, 0};
    pthread_t thread = rig_thread(launch_large_batch, &waiter);
    for (unsigned taken = 0; taken < 1000;) {
        tr_batch *batch = NULL;
        int count = tr_loop_take(self.rig.manager, self.rig.session, RIG_PATIENCE_NS, 5, &batch);
        CHECK(count > 0);
        taken += (unsigned)count;
        tr_batch_release(batch);
    }
    rig_join(thread);
    CHECK_EQ_INT(waiter.status, 1000);
    gated_close(&self);
}

/* ---- fibers and bytes ---- */

CASE_TIMEOUT(limits, fibers, RIG_TIMEOUT_SECONDS)
{
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.fibers_max = 3;
    gated_open(&self, RIG_THREADED, &config);
    struct rig *rig = &self.rig;
    for (unsigned at = 0; at < 3; at++) {
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->awaiting, &self.gate, 0), TR_PENDING);
    }
    CHECK_EQ_INT(rig_try(rig, rig->turn, rig->awaiting, &self.gate, 0), TR_EAGAIN);
    CHECK_EQ_INT(rig_try(rig, rig->turn, rig->awaiting, &self.gate, TR_MILLISECOND), TR_EAGAIN);
    CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 0), TR_PENDING); /* needs none */
    gate_await_entered(&self.gate, 3);
    CHECK_EQ_U64(rig_stats(rig).fibers_used, 3);
    gate_open(&self.gate);
    CHECK_EQ_INT(rig_try(rig, rig->turn, rig->awaiting, &self.gate, RIG_PATIENCE_NS), TR_PENDING);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 5);
    WAIT_UNTIL(rig_stats(rig).fibers_used == 0, RIG_PATIENCE_SECONDS);
    gated_close(&self);
}

static void check_bytes(enum rig_mode mode)
{
    static unsigned char bytes[10000];
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.bytes_max = 4 * sizeof bytes;
    gated_open(&self, mode, &config);
    struct rig *rig = &self.rig;
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->echo);
    tr_launched launched;
    request.input.data = bytes;
    request.input.size = sizeof bytes;
    unsigned accepted = 0;
    int status = TR_PENDING;
    while (status == TR_PENDING) {
        status = tr_launch(rig->manager, &request, &launched);
        accepted += status == TR_PENDING;
        rig_wait_idle(rig);
        CHECK(accepted < 100);
    }
    CHECK_EQ_INT(status, TR_EAGAIN);
    CHECK(accepted >= 2 && rig_stats(rig).bytes_used >= config.bytes_max);
    CHECK_EQ_U64(rig_stats(rig).bytes_max, config.bytes_max);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), accepted);
    CHECK_EQ_U64(rig_stats(rig).bytes_used, 0);
    CHECK_EQ_INT(tr_launch(rig->manager, &request, &launched), TR_PENDING);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 1);
    gated_close(&self);
}

CASE_TIMEOUT(limits, bytes_threaded, RIG_TIMEOUT_SECONDS)
{
    check_bytes(RIG_THREADED);
}

CASE_TIMEOUT(limits, bytes_inline, RIG_TIMEOUT_SECONDS)
{
    check_bytes(RIG_INLINE);
}

static int run_grow(tr_call *call, void *context)
{
    static char bytes[65];
    (void)context;
    CHECK_EQ_INT(tr_result_copy(call, bytes, 64), 0);
    CHECK_EQ_INT(tr_result_copy(call, bytes, 65), TR_ELIMIT);
    return 0;
}

CASE_TIMEOUT(limits, input_and_result, RIG_TIMEOUT_SECONDS)
{
    static char bytes[33];
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.input_bytes_max = 32;
    config.result_bytes_max = 64;
    gated_open(&self, RIG_THREADED, &config);
    struct rig *rig = &self.rig;
    tr_request request = TR_REQUEST_INIT(rig->turn, rig_tool(rig, "grow", run_grow, NULL));
    tr_launched launched;
    request.input.data = bytes;
    request.input.size = 33;
    CHECK_EQ_INT(tr_launch(rig->manager, &request, &launched), TR_E2BIG);
    request.input.size = 32;
    CHECK_EQ_INT(tr_launch(rig->manager, &request, &launched), TR_PENDING);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, launched.task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_U64(batch->items[0].result.size, 64);
    tr_batch_release(batch);
    request.tool = rig->deferred;
    request.user = &self.gate;
    CHECK_EQ_INT(tr_launch(rig->manager, &request, &launched), TR_PENDING);
    gate_await_entered(&self.gate, 1);
    CHECK_EQ_INT(tr_finish(self.gate.deferred[0], 0, bytes, 65), TR_ELIMIT);
    CHECK_EQ_INT(tr_finish(self.gate.deferred[0], 0, bytes, 33), 0);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 1);
    gated_close(&self);
}

/* ---- sessions, turns, tools, queues, readers ---- */

static void check_homes(enum rig_mode mode)
{
    enum {
        MAX = 20
    };
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.sessions_max = MAX;
    config.turns_max = MAX;
    gated_open(&self, mode, &config);
    tr_manager *manager = self.rig.manager;
    tr_session_id sessions[MAX] = {self.rig.session};
    tr_turn_id turns[MAX] = {self.rig.turn};
    for (unsigned round = 0; round < 3; round++) {
        tr_session_id no_session = 0;
        tr_turn_id no_turn = 0;
        for (unsigned at = 1; at < MAX; at++) {
            CHECK_EQ_INT(tr_session_open(manager, NULL, &sessions[at]), 0);
            CHECK_EQ_INT(tr_turn_open(manager, sessions[at], NULL, &turns[at]), 0);
        }
        CHECK_EQ_INT(tr_session_open(manager, NULL, &no_session), TR_ELIMIT);
        CHECK_EQ_INT(tr_turn_open(manager, sessions[0], NULL, &no_turn), TR_ELIMIT);
        CHECK_EQ_U64(no_session | no_turn, 0);
        CHECK_EQ_U64(rig_stats(&self.rig).sessions_used, MAX);
        CHECK_EQ_U64(rig_stats(&self.rig).turns_used, MAX);
        for (unsigned at = 1; at < MAX; at++) {
            CHECK_EQ_INT(tr_turn_close(manager, turns[at], 0), 0);
            CHECK_EQ_INT(tr_session_close(manager, sessions[at], 0), 0);
        }
        CHECK_EQ_U64(rig_stats(&self.rig).sessions_used, 1);
        CHECK_EQ_U64(rig_stats(&self.rig).turns_used, 1);
    }
    gated_close(&self);
}

CASE_TIMEOUT(limits, sessions_and_turns_threaded, RIG_TIMEOUT_SECONDS)
{
    check_homes(RIG_THREADED);
}

CASE_TIMEOUT(limits, sessions_and_turns_inline, RIG_TIMEOUT_SECONDS)
{
    check_homes(RIG_INLINE);
}

static int run_nothing(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return 0;
}

CASE_TIMEOUT(limits, tools_queues_and_readers, RIG_TIMEOUT_SECONDS)
{
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.tools_max = 7; /* the rig registers six */
    config.queues_max = 2;
    config.readers_max = 2;
    gated_open(&self, RIG_INLINE, &config);
    tr_manager *manager = self.rig.manager;
    tr_tool tools[] = {TR_TOOL_INIT("seven", run_nothing), TR_TOOL_INIT("eight", run_nothing)};
    CHECK_EQ_INT(tr_tool_register(manager, &tools[0], NULL), 0);
    CHECK_EQ_INT(tr_tool_register(manager, &tools[1], NULL), TR_ELIMIT);
    tr_queue *queues[3] = {NULL, NULL, NULL};
    tr_reader *readers[3] = {NULL, NULL, NULL};
    for (unsigned round = 0; round < 2; round++) {
        CHECK_EQ_INT(tr_queue_open(manager, &queues[0]), 0);
        CHECK_EQ_INT(tr_queue_open(manager, &queues[1]), 0);
        CHECK_EQ_INT(tr_queue_open(manager, &queues[2]), TR_ELIMIT);
        CHECK_EQ_PTR(queues[2], NULL);
        CHECK_EQ_INT(tr_reader_open(manager, NULL, &readers[0]), 0);
        CHECK_EQ_INT(tr_reader_open(manager, NULL, &readers[1]), 0);
        CHECK_EQ_INT(tr_reader_open(manager, NULL, &readers[2]), TR_ELIMIT);
        CHECK_EQ_PTR(readers[2], NULL);
        CHECK_EQ_INT(tr_queue_close(queues[0]), 0);
        CHECK_EQ_INT(tr_queue_close(queues[1]), 0);
        tr_reader_close(readers[0]);
        tr_reader_close(readers[1]);
    }
    gated_close(&self);
}
