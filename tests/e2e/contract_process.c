/*
 * Calls that run programs: whatever stops one, its outcome says what, and brings all the output so
 * far.
 */
#include <toolring/process.h>

#include "support/host.h"

/* Its result is the program's standard output. */
static int run_shell(tr_call *call, void *context)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    (void)context;
    spec.shell = tr_call_user(call);
    int error = tr_process(call, &spec, &result);
    if (error < 0) {
        return error;
    }
    error = tr_result_copy(call, result.out.data, result.out.size);
    tr_process_result_done(&result);
    return error;
}

static tr_tool_id shell_tool(struct rig *rig, uint32_t flags)
{
    tr_tool tool = TR_TOOL_INIT("shell", run_shell);
    tr_tool_id id = 0;
    tool.flags = flags;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    return id;
}

static tr_reader *output_reader(struct rig *rig)
{
    tr_reader *reader = NULL;
    tr_reader_options wanted = TR_READER_OPTIONS_INIT;
    wanted.types = 1u << TR_EVENT_OUTPUT;
    CHECK_EQ_INT(tr_reader_open(rig->manager, &wanted, &reader), 0);
    return reader;
}

static tr_request shell_request(struct rig *rig, tr_tool_id tool, char *command)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.user = command;
    request.options.route = TR_ROUTE_FOREGROUND;
    return request;
}

THREADED(contract_process, every_timeout_keeps_the_output)
{
    static char command[] = "printf partial; sleep 1000";
    tr_tool_id tool = shell_tool(rig, TR_TOOL_AWAITING);
    for (unsigned kind = 0; kind < 3; kind++) {
        tr_request request = shell_request(rig, tool, command);
        *(kind == 0   ? &request.options.run_timeout_ns
          : kind == 1 ? &request.options.idle_timeout_ns
                      : &request.options.total_timeout_ns) = 2 * TR_SECOND;
        tr_task_id task = rig_launch_request(rig, &request).task;
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK(rig_bytes_are(batch->items[0].result, "partial"));
        CHECK_EQ_INT(batch->items[0].code, TR_ETIMEDOUT);
        rig_check_release(batch, task, TR_OUTCOME_TIMED_OUT);
        CHECK_EQ_U64(rig_stats(rig).processes_used, 0);
    }
}

/* Longer than its idle timeout, but never silent so long. */
THREADED(contract_process, output_restarts_the_idle_timeout)
{
    static char command[] = "for i in 1 2 3 4 5 6 7 8; do printf $i; sleep 0.4; done";
    tr_tool_id tool = shell_tool(rig, TR_TOOL_AWAITING);
    tr_request request = shell_request(rig, tool, command);
    request.options.idle_timeout_ns = 2 * TR_SECOND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK(rig_bytes_are(batch->items[0].result, "12345678"));
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
}

enum stop {
    STOP_CANCEL,
    STOP_INTERRUPT,
    STOP_SESSION,
    STOP_MANAGER,
    STOPS,
};

THREADED(contract_process, every_stop_keeps_the_output)
{
    static char command[] = "printf partial; sleep 1000";
    tr_manager *manager = rig->manager;
    tr_tool_id tool = shell_tool(rig, TR_TOOL_AWAITING);
    tr_reader *reader = output_reader(rig);
    for (int stop = STOP_CANCEL; stop < STOPS; stop++) {
        tr_event event;
        tr_request request = shell_request(rig, tool, command);
        bool behind = stop == STOP_SESSION;
        request.options.route = behind ? TR_ROUTE_BACKGROUND : TR_ROUTE_FOREGROUND;
        tr_task_id task = rig_launch_request(rig, &request).task;
        CHECK_EQ_INT(tr_reader_read(reader, &event, 1, RIG_PATIENCE_NS), 1);
        CHECK_EQ_U64(event.current, 7);
        if (stop == STOP_CANCEL) {
            CHECK_EQ_INT(tr_task_cancel(manager, task, "stop"), 0);
        } else if (stop == STOP_INTERRUPT) {
            CHECK_EQ_INT(tr_turn_interrupt(manager, rig->turn, "stop"), 1);
        } else if (stop == STOP_SESSION) {
            CHECK_EQ_INT(tr_session_close(manager, rig->session, 0), 0);
        } else {
            tr_reader_close(reader);
            rig_shut(rig, 0);
        }
        tr_batch *batch = behind ? rig_loop_take(rig, rig->session) : rig_turn_take(rig, rig->turn);
        CHECK(rig_bytes_are(batch->items[0].result, "partial"));
        CHECK_EQ_INT(batch->items[0].code, TR_ECANCELED);
        CHECK(batch->items[0].reason[0] != '\0');
        rig_check_release(batch, task, TR_OUTCOME_CANCELLED);
        CHECK_EQ_U64(rig_stats(rig).processes_used, 0); /* gone, not asked to go */
        if (behind) {
            rig->session = rig_session(rig);
            rig->turn = rig_turn(rig, rig->session);
        }
    }
    rig_free(rig);
    rig_open(rig, rig->mode, NULL); /* for the case's own end */
}

/* A plain function may run a program too. It is abandoned like any other: its turn is released at
 * once; the program still goes, and then the function returns. */
THREADED(contract_process, a_plain_function_leaves_no_program)
{
    static char command[] = "printf partial; sleep 1000";
    tr_event event;
    tr_tool_id tool = shell_tool(rig, 0);
    tr_reader *reader = output_reader(rig);
    tr_request request = shell_request(rig, tool, command);
    tr_task_id task = rig_launch_request(rig, &request).task;
    CHECK_EQ_INT(tr_reader_read(reader, &event, 1, RIG_PATIENCE_NS), 1);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), 0);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_U64(batch->items[0].flags & TR_ITEM_ABANDONED, TR_ITEM_ABANDONED);
    rig_check_release(batch, task, TR_OUTCOME_CANCELLED);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    CHECK_EQ_U64(rig_stats(rig).processes_used, 0);
    tr_reader_close(reader);
}
