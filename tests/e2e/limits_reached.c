/*
 * More bounds end to end: operations in the kernel, children, texts and counts; waiting for each
 * kind of room.
 */
#include <toolring/process.h>

#include "support/gated.h"

static int run_nothing(tr_call *call, void *context)
{
    (void)call;
    (void)context;
    return 0;
}

/* ---- the ring and children ---- */

/* More operations than the kernel may hold at once: the others wait for their turn. */
CASE_TIMEOUT(limits_reached, operations_under_way, RIG_TIMEOUT_SECONDS)
{
    enum {
        TASKS = 500
    };
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.ring_entries = 64;
    config.fibers_max = TASKS;
    gated_open(&self, RIG_THREADED, &config);
    struct rig *rig = &self.rig;
    for (unsigned at = 0; at < TASKS; at++) {
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->awaiting, &self.gate, 0), TR_PENDING);
    }
    gate_await_entered(&self.gate, TASKS);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, NULL), TASKS); /* those waiting too */
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), TASKS);
    CHECK_EQ_U64(rig_stats(rig).cancelled, TASKS);
    for (unsigned at = 0; at < TASKS; at++) {
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->awaiting, &self.gate, RIG_PATIENCE_NS),
                     TR_PENDING);
    }
    gate_open(&self.gate);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), TASKS);
    CHECK_EQ_U64(rig_stats(rig).completed, TASKS);
    CHECK(rig_stats(rig).ring_operations >= TASKS); /* each polled */
    gated_close(&self);
}

static int run_program(tr_call *call, void *context)
{
    static const char *const argv[] = {"/bin/sleep", "300", NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    (void)context;
    spec.argv = argv;
    (void)gate_enter(tr_call_user(call));
    int status = tr_process(call, &spec, &result);
    if (status == 0) {
        tr_process_result_done(&result);
    }
    return status;
}

CASE_TIMEOUT(limits_reached, children, RIG_TIMEOUT_SECONDS)
{
    struct gated self;
    tr_config config = TR_CONFIG_INIT;
    config.processes_max = 2;
    gated_open(&self, RIG_THREADED, &config);
    struct rig *rig = &self.rig;
    tr_tool tool = TR_TOOL_INIT("program", run_program);
    tr_tool_id id = 0;
    tool.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    CHECK_EQ_INT(rig_try(rig, rig->turn, id, &self.gate, 0), TR_PENDING);
    CHECK_EQ_INT(rig_try(rig, rig->turn, id, &self.gate, 0), TR_PENDING);
    WAIT_UNTIL(rig_stats(rig).spawned == 2, RIG_PATIENCE_SECONDS);
    tr_task_id third = rig_launch(rig, id, &self.gate, TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_INT(batch->items[0].code, TR_ELIMIT);
    rig_check_release(batch, third, TR_OUTCOME_FAILED);
    CHECK_EQ_U64(rig_stats(rig).processes_used, 2);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, NULL), 2);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 2);
    WAIT_UNTIL(rig_stats(rig).processes_used == 0, RIG_PATIENCE_SECONDS);
    gated_close(&self);
}

/* ---- waiting for each kind of room ---- */

enum room {
    ROOM_SLOT,
    ROOM_FIBER,
    ROOM_BYTES,
    ROOM_KINDS
};

struct wanting {
    struct rig *rig;
    struct gate *gate;
    enum room room;
    uint64_t admit_timeout_ns;
    int status;
};

static void *launch_wanting(void *argument)
{
    static const unsigned char bytes[10000];
    struct wanting *self = argument;
    tr_request request = TR_REQUEST_INIT(self->rig->turn, self->rig->awaiting);
    tr_launched launched;
    request.user = self->gate;
    request.admit_timeout_ns = self->admit_timeout_ns;
    if (self->room == ROOM_BYTES) {
        request.input.data = bytes;
        request.input.size = sizeof bytes;
    }
    self->status = tr_launch(self->rig->manager, &request, &launched);
    return NULL;
}

/* One call fits. A second is refused, is refused after a while, gets the room when the first one is
 * over, and is told when the manager closes. */
CASE_TIMEOUT(limits_reached, waiting_for_each_kind_of_room, RIG_TIMEOUT_SECONDS)
{
    for (unsigned room = 0; room < 2 * ROOM_KINDS; room++) {
        struct gated self;
        tr_config config = TR_CONFIG_INIT;
        enum room kind = (enum room)(room % ROOM_KINDS);
        config.tasks_max = kind == ROOM_SLOT ? 1 : 0;
        config.fibers_max = kind == ROOM_FIBER ? 1 : 0;
        config.bytes_max = kind == ROOM_BYTES ? 10000 : 0;
        gated_open(&self, RIG_THREADED, &config);
        struct rig *rig = &self.rig;
        struct wanting first = {rig, &self.gate, kind, 0, 1};
        (void)launch_wanting(&first);
        CHECK_EQ_INT(first.status, TR_PENDING);
        struct wanting second = first;
        (void)launch_wanting(&second);
        CHECK_EQ_INT(second.status, TR_EAGAIN);
        second.admit_timeout_ns = TR_MILLISECOND;
        (void)launch_wanting(&second);
        CHECK_EQ_INT(second.status, TR_EAGAIN);
        second.admit_timeout_ns = TR_FOREVER;
        pthread_t thread = rig_thread(launch_wanting, &second);
        if (room < ROOM_KINDS) {
            gate_open(&self.gate);
            tr_batch_release(rig_turn_take(rig, rig->turn));
            rig_join(thread);
            CHECK_EQ_INT(second.status, TR_PENDING);
            tr_batch_release(rig_turn_take(rig, rig->turn));
            gated_close(&self);
        } else {
            CHECK_EQ_INT(tr_manager_close(rig->manager, 0), 0);
            rig_join(thread);
            CHECK_EQ_INT(second.status, TR_ECLOSED);
            CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 1);
            rig_free(rig);
            gate_done(&self.gate);
        }
    }
}

/* ---- texts and counts: each with its own answer ---- */

BOTH(limits_reached, texts_and_counts)
{
    char text[1000];
    tr_manager *manager = rig->manager;
    memset(text, 't', sizeof text);
    struct {
        tr_bytes call_id;
        tr_bytes metadata;
        int status;
    } requests[] = {
        {{text, TR_CALL_ID_BYTES_MAX}, {text, TR_METADATA_BYTES_MAX}, TR_PENDING},
        {{text, TR_CALL_ID_BYTES_MAX + 1}, {NULL, 0}, TR_E2BIG},
        {{NULL, 0}, {text, TR_METADATA_BYTES_MAX + 1}, TR_E2BIG},
    };
    for (unsigned at = 0; at < sizeof requests / sizeof *requests; at++) {
        tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
        tr_launched launched;
        request.call_id = requests[at].call_id;
        request.metadata = requests[at].metadata;
        CHECK_EQ_INT(tr_launch(manager, &request, &launched), requests[at].status);
    }
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 1);

    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    tr_turn_options turn_options = TR_TURN_OPTIONS_INIT;
    tr_session_id session = 0;
    tr_turn_id turn = 0;
    text[TR_LABEL_BYTES_MAX + 1] = '\0';
    options.label = turn_options.label = text;
    CHECK_EQ_INT(tr_session_open(manager, &options, &session), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_open(manager, rig->session, &turn_options, &turn), TR_EINVAL);
    text[TR_LABEL_BYTES_MAX] = '\0';
    CHECK_EQ_INT(tr_session_open(manager, &options, &session), 0);
    CHECK_EQ_INT(tr_turn_open(manager, rig->session, &turn_options, &turn), 0);

    tr_tool tool = TR_TOOL_INIT(text, run_nothing);
    text[TR_TOOL_NAME_BYTES_MAX + 1] = '\0';
    CHECK_EQ_INT(tr_tool_register(manager, &tool, NULL), TR_EINVAL);
    text[TR_TOOL_NAME_BYTES_MAX] = '\0';
    CHECK_EQ_INT(tr_tool_register(manager, &tool, NULL), 0);

    tr_batch *batch = NULL;
    tr_launched launched;
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
    CHECK_EQ_INT(tr_turn_wait(manager, rig->turn, NULL, 0, 1025, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_wait(manager, rig->turn, NULL, 0, 1024, &batch), TR_WAIT_IDLE);
    CHECK_EQ_INT(tr_launch_batch(manager, &request, 1048577, &launched), TR_EINVAL);
}
