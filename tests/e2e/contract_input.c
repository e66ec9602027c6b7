/*
 * Bad public input never aborts the host. Every function with NULL for
 * whatever can be NULL; ids, enumerations and sizes that are nonsense are in refusal.c, launch.c,
 * config.c and the others by subject.
 */
#include <poll.h>

#include <toolring/process.h>
#include <toolring/stream.h>

#include "support/host.h"

BOTH(contract_input, managers_and_homes_take_no_null)
{
    tr_manager *manager = rig->manager;
    tr_session_id session = 0;
    tr_turn_id turn = 0;
    tr_tool_id tool = 0;
    tr_tool good = TR_TOOL_INIT("good", NULL);
    CHECK_EQ_INT(tr_manager_open(NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_close(NULL, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_wait_idle(NULL, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_room_fd(NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_stats(NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_stats(manager, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_tool_register(manager, &good, &tool), TR_EINVAL);
    CHECK_EQ_INT(tr_tool_register(manager, NULL, &tool), TR_EINVAL);
    CHECK_EQ_INT(tr_tool_find(manager, NULL, &tool), TR_EINVAL);
    CHECK_EQ_INT(tr_session_open(NULL, NULL, &session), TR_EINVAL);
    CHECK_EQ_INT(tr_session_open(manager, NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_session_close(NULL, rig->session, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_session_close(manager, rig->session, 0x80), TR_EINVAL);
    CHECK_EQ_INT(tr_session_find(manager, NULL, &session), TR_EINVAL);
    CHECK_EQ_INT(tr_session_find(manager, "x", NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_open(NULL, rig->session, NULL, &turn), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_open(manager, rig->session, NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_close(NULL, rig->turn, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_close(manager, rig->turn, 0x80), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_interrupt(NULL, rig->turn, NULL), TR_EINVAL);
    CHECK_EQ_U64(session | turn | tool, 0);
}

BOTH(contract_input, channels_take_no_null)
{
    tr_manager *manager = rig->manager;
    tr_batch *batch = NULL;
    tr_queue *queue = NULL;
    tr_reader *reader = NULL;
    tr_event event;
    CHECK_EQ_INT(tr_turn_wait(manager, rig->turn, NULL, 0, 1, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_loop_take(NULL, rig->session, 0, 1, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_loop_take(manager, rig->session, 0, 1, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_ready_take(NULL, rig->session, 0, 1, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_ready_take(manager, rig->session, 0, 1, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_open(NULL, &queue), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_open(manager, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_drain(NULL, 0, 1, &batch), TR_EINVAL);
    CHECK(tr_queue_fd(NULL) < 0);
    CHECK_EQ_INT(tr_queue_close(NULL), 0);
    CHECK_EQ_INT(tr_token_open(NULL), TR_EINVAL);
    tr_token_cancel(NULL);
    tr_token_close(NULL);
    CHECK_EQ_INT(tr_reader_open(NULL, NULL, &reader), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_open(manager, NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_read(NULL, &event, 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_fd(NULL), TR_EINVAL);
    tr_reader_close(NULL);
    tr_batch_release(NULL);
    CHECK(batch == NULL && queue == NULL && reader == NULL);
}

BOTH(contract_input, tasks_take_no_null)
{
    tr_manager *manager = rig->manager;
    struct gate gate;
    tr_snapshot snapshot;
    tr_task_id id = 0;
    char byte = 0;
    tr_output_mark mark;
    gate_init(&gate);
    gate_open(&gate);
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_task_cancel(NULL, task, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_task_detach(NULL, task), TR_EINVAL);
    CHECK_EQ_INT(tr_task_attach(NULL, task), TR_EINVAL);
    CHECK_EQ_INT(tr_task_snapshot(NULL, task, &snapshot), TR_EINVAL);
    CHECK_EQ_INT(tr_task_snapshot(manager, task, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_task_list(NULL, NULL, NULL, NULL, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_task_list(manager, NULL, NULL, &snapshot, 1), TR_EINVAL);
    CHECK_EQ_INT(tr_task_parse(NULL, &id), TR_EINVAL);
    CHECK_EQ_PTR(tr_task_text(task, NULL), NULL);
    CHECK_EQ_INT(tr_task_parse("task-1", NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_finish((tr_deferred){NULL, task}, 0, NULL, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_finish((tr_deferred){manager, task}, 0, NULL, 1), TR_EINVAL);
    CHECK(tr_task_output(NULL, task, (tr_stream)0, 0, &byte, 1, &mark) < 0);
    CHECK(tr_task_output(manager, task, (tr_stream)99, 0, &byte, 1, &mark) < 0);
    CHECK(tr_task_output(manager, task, (tr_stream)0, 0, NULL, 1, &mark) < 0);
    CHECK(tr_task_input(NULL, task, &byte, 1, 0) < 0);
    CHECK(tr_task_input(manager, task, NULL, 1, 0) < 0);
    CHECK(tr_task_input_close(NULL, task) < 0);
    CHECK(tr_task_signal(NULL, task, 1) < 0);
    CHECK(tr_task_signal(manager, task, -1) < 0);
    CHECK(tr_task_resize(NULL, task, 1, 1) < 0);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_U64(id, 0);
    gate_done(&gate);
}

/* What asks about a call, of no call at all. */
static void ask_of_nothing(void)
{
    tr_snapshot snapshot;
    CHECK_EQ_U64(tr_call_input(NULL).size, 0);
    CHECK_EQ_U64(tr_call_call_id(NULL).size, 0);
    CHECK_EQ_U64(tr_call_metadata(NULL).size, 0);
    tr_call_snapshot(NULL, &snapshot);
    CHECK_EQ_U64(snapshot.task, 0);
    tr_call_snapshot(NULL, NULL);
    CHECK_EQ_U64(tr_call_task(NULL), 0);
    CHECK_EQ_PTR(tr_call_user(NULL), NULL);
    CHECK_EQ_U64(tr_call_output_bytes_max(NULL), 1);
    CHECK(!tr_call_is_cancelled(NULL));
    CHECK_EQ_U64(tr_call_cancel_grace(NULL), 0);
    tr_call_progress(NULL, 1, 2);
    tr_call_output(NULL, 1);
    CHECK_EQ_INT(tr_finish(tr_call_defer(NULL), 0, NULL, 0), TR_EINVAL);
}

/* A tool's functions, from inside a call and with no call at all. */
static int run_nonsense(tr_call *call, void *context)
{
    tr_io io;
    tr_io *done = NULL;
    void *data = NULL;
    char byte = 0;
    tr_process_result result;
    (void)context;
    memset(&io, 0, sizeof io);
    CHECK(tr_result_copy(NULL, "x", 1) < 0 && tr_result_copy(call, NULL, 1) < 0);
    CHECK(tr_result_copy(call, "x", SIZE_MAX) < 0);
    CHECK(tr_result_reserve(NULL, 1, &data) < 0 && tr_result_reserve(call, 0, &data) < 0);
    CHECK(tr_result_reserve(call, 1, NULL) < 0 && tr_result_reserve(call, SIZE_MAX, &data) < 0);
    CHECK(tr_result_commit(NULL, 0) < 0 && tr_result_commit(call, 1) < 0);
    CHECK(tr_result_give(NULL, &byte, 1, NULL, NULL) < 0);
    CHECK(tr_result_give(call, NULL, 1, NULL, NULL) < 0);
    CHECK(tr_result_give(call, &byte, SIZE_MAX, NULL, NULL) < 0);
    CHECK(tr_call_on_cancel(NULL, NULL, NULL, NULL) < 0);
    CHECK(tr_call_on_cancel(call, NULL, NULL, NULL) < 0);
    CHECK(tr_call_off_cancel(NULL, NULL, NULL) < 0 && tr_call_off_cancel(call, NULL, NULL) < 0);
    CHECK(tr_call_await_cancel(NULL, 0) < 0);
    CHECK(tr_sleep(NULL, 0) < 0);
    CHECK(tr_io_read(call, NULL, 0, &byte, 1) < 0 && tr_io_read(call, &io, -1, &byte, 1) < 0);
    CHECK(tr_io_read(call, &io, 0, NULL, 1) < 0 && tr_io_read(call, &io, 0, &byte, 0) < 0);
    CHECK(tr_io_write(call, &io, 1, NULL, 1) < 0 && tr_io_poll(call, NULL, 0, 1) < 0);
    CHECK(tr_io_poll(call, &io, 0, UINT32_MAX) < 0 && tr_io_timer(call, NULL, 1) < 0);
    CHECK(tr_io_wait(call, 0, NULL) < 0 && tr_io_wait(call, 0, &done) == TR_ESTATE);
    CHECK(tr_io_wait(call, UINT32_MAX, &done) < 0);
    CHECK(tr_io_wait_for(call, 0, NULL, 1, &done) < 0);
    tr_io_cancel(NULL, &io);
    tr_io_cancel(call, NULL);
    tr_io_cancel(call, &io);
    CHECK(tr_process(NULL, NULL, NULL) < 0 && tr_process(call, NULL, &result) < 0);
    CHECK(tr_child_signal(NULL, 0) < 0 && tr_child_reap(NULL, NULL, NULL) < 0);
    ask_of_nothing();
    return 0;
}

/* Tries to give back a request that is another call's. */
static int run_thief(tr_call *call, void *context)
{
    tr_io *theirs = tr_call_user(call);
    (void)context;
    tr_io_cancel(call, theirs);
    return 0;
}

struct victim {
    tr_io io;
    int fd;
    unsigned waits; /* atomic */
};

static int run_victim(tr_call *call, void *context)
{
    struct victim *victim = tr_call_user(call);
    tr_io *done = NULL;
    (void)context;
    CHECK_EQ_INT(tr_io_poll(call, &victim->io, victim->fd, POLLIN), 0);
    __atomic_store_n(&victim->waits, 1, __ATOMIC_RELEASE);
    CHECK_EQ_INT(tr_io_wait(call, TR_IO_SHIELD, &done), 0);
    CHECK_EQ_PTR(done, &victim->io);
    CHECK_EQ_INT(victim->io.result, POLLIN);
    return 0;
}

THREADED(contract_input, a_request_of_another_call_is_left_alone)
{
    struct gate gate;
    static struct victim victim;
    tr_tool tool = TR_TOOL_INIT("victim", run_victim);
    tr_tool_id id = 0;
    gate_init(&gate);
    tool.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    tr_tool_id thief = rig_tool(rig, "thief", run_thief, NULL);
    victim.fd = gate.fd;
    tr_task_id first = rig_launch(rig, id, &victim, TR_ROUTE_FOREGROUND);
    WAIT_UNTIL(__atomic_load_n(&victim.waits, __ATOMIC_ACQUIRE) == 1, RIG_PATIENCE_SECONDS);
    tr_task_id second = rig_launch(rig, thief, &victim.io, TR_ROUTE_FOREGROUND);
    rig_check_release(rig_turn_take(rig, rig->turn), second, TR_OUTCOME_COMPLETED);
    gate_open(&gate);
    rig_check_release(rig_turn_take(rig, rig->turn), first, TR_OUTCOME_COMPLETED);
    gate_done(&gate);
}

BOTH(contract_input, tools_take_no_null)
{
    tr_tool tool = TR_TOOL_INIT("nonsense", run_nonsense);
    tr_tool_id id = 0;
    for (uint32_t flags = 0; flags < 2; flags++) {
        tool.name = flags == 0 ? "plain nonsense" : "awaiting nonsense";
        tool.flags = flags * TR_TOOL_AWAITING;
        CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
        tr_task_id task = rig_launch(rig, id, NULL, TR_ROUTE_FOREGROUND);
        rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    }
}
