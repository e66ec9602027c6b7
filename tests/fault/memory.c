/*
 * The n-th allocation fails, for every n, over whole scenarios: each function answers TR_ENOMEM and
 * has changed nothing, so that asking again succeeds, or does without; no outcome is lost.
 */
#include <poll.h>
#include <stdio.h>

#include "base/memory.h"
#include "support/host.h"

/* One run of the scenario. */
struct run {
    enum rig_mode mode;
    tr_manager *manager;
    unsigned refused;  /* answers TR_ENOMEM */
    unsigned accepted; /* launches */
    unsigned resolved; /* outcomes that came */
    struct gate gate;
};

/* Does it; a failure for want of memory must be the only one, and the next attempt succeeds. */
#define ATTEMPT(run_, call_)                                                                       \
    do {                                                                                           \
        int result_ = (call_);                                                                     \
        if (result_ == TR_ENOMEM) {                                                                \
            (run_)->refused++;                                                                     \
            CHECK_EQ_INT(tr__memory_fail_left(), 0);                                               \
            result_ = (call_);                                                                     \
        }                                                                                          \
        if (result_ < 0) {                                                                         \
            case_fail(__FILE__, __LINE__, "%s: %s", #call_, tr_error_name(result_));               \
        }                                                                                          \
    } while (0)

static tr_permit permit(void *context, const tr_request *request, unsigned approvals,
                        tr_permit_answer *answer)
{
    const char *text = request->input.data;
    (void)context;
    (void)snprintf(answer->reason, sizeof answer->reason, "because");
    (void)snprintf(answer->summary, sizeof answer->summary, "what it does");
    if (request->input.size == 0) {
        return TR_PERMIT_ALLOW;
    }
    return text[0] == 'd'                    ? TR_PERMIT_DENY
           : text[0] == 'a' && approvals < 2 ? TR_PERMIT_ASK
                                             : TR_PERMIT_ALLOW;
}

static int run_results(tr_call *call, void *context)
{
    static const char bytes[9000];
    void *room = NULL;
    (void)context;
    int error = tr_result_copy(call, bytes, 2000);
    if (error == 0) {
        error = tr_result_reserve(call, sizeof bytes, &room);
    }
    if (error == 0) {
        error = tr_result_commit(call, 5000);
    }
    if (error == 0) {
        error = tr_result_give(call, room, 0, NULL, NULL);
    }
    return error;
}

static int run_sleep(tr_call *call, void *context)
{
    (void)context;
    return tr_sleep(call, TR_MILLISECOND / 4);
}

static int run_stop(tr_call *call, void *context)
{
    struct gate *gate = tr_call_user(call);
    tr_io io;
    tr_io *done = NULL;
    (void)context;
    memset(&io, 0, sizeof io);
    CHECK_EQ_INT(tr_io_poll(call, &io, gate->fd, POLLIN), 0);
    int status = tr_io_wait(call, 0, &done);
    if (status < 0) {
        tr_io_cancel(call, &io);
        CHECK_EQ_INT(tr_io_wait(call, TR_IO_SHIELD, &done), 0);
    }
    return status;
}

static int run_deferred(tr_call *call, void *context)
{
    tr_deferred *deferred = context;
    *deferred = tr_call_defer(call);
    return TR_DEFERRED;
}

static int run_program(tr_call *call, void *context)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    static const char *const argv[] = {"true", NULL};
    (void)context;
    spec.argv = argv;
    int error = tr_process(call, &spec, &result);
    if (error == 0) {
        CHECK_EQ_INT(result.exit_code, 0);
        tr_process_result_done(&result);
    }
    return error;
}

/* Counts and checks what came; every outcome is the expected one or a failure for want of
 * memory. */
static void take(struct run *run, tr_batch *batch)
{
    for (size_t at = 0; at < batch->count; at++) {
        const tr_item *item = &batch->items[at];
        if (item->type == TR_ITEM_APPROVAL) {
            ATTEMPT(run, tr_task_approve(run->manager, item->task));
        } else if (item->type == TR_ITEM_RESOLUTION) {
            run->resolved++;
            CHECK(item->outcome == TR_OUTCOME_COMPLETED || item->outcome == TR_OUTCOME_CANCELLED ||
                  item->outcome == TR_OUTCOME_DENIED ||
                  (item->outcome == TR_OUTCOME_FAILED && item->code == TR_ENOMEM));
        }
    }
    tr_batch_release(batch);
}

static void launch(struct run *run, tr_request *request, tr_task_id *ret_task)
{
    tr_launched launched;
    ATTEMPT(run, tr_launch(run->manager, request, &launched));
    run->accepted++;
    *ret_task = launched.task;
    if (launched.status == TR_READY) {
        take(run, launched.ready);
    }
}

static void launch_text(struct run *run, tr_turn_id turn, tr_tool_id tool, tr_route route,
                        const char *text, tr_task_id *ret_task)
{
    tr_request request = TR_REQUEST_INIT(turn, tool);
    request.options.route = route;
    request.options.detach_after_ns = TR_MILLISECOND / 2;
    request.input = rig_bytes(text);
    request.call_id = rig_bytes("a call id that is so long that it does not fit into the record "
                                "together with what follows");
    request.user = &run->gate;
    launch(run, &request, ret_task);
}

struct tools {
    tr_tool_id results;
    tr_tool_id sleep;
    tr_tool_id stop;
    tr_tool_id deferred;
    tr_tool_id program;
};

static void add_tool(struct run *run, const char *name, tr_tool_function function, uint32_t flags,
                     void *context, tr_tool_id *ret_tool)
{
    tr_tool tool = TR_TOOL_INIT(name, function);
    tool.flags = flags;
    tool.context = context;
    ATTEMPT(run, tr_tool_register(run->manager, &tool, ret_tool));
}

static void steer_and_look(struct run *run, tr_session_id session, tr_task_id task)
{
    tr_snapshot snapshots[4];
    tr_cursor cursor = {0, 0};
    tr_session_id found = 0;
    tr_stats stats;
    int error = tr_task_detach(run->manager, task);
    CHECK(error == 0 || error == TR_EALREADY || error == TR_ENOENT);
    error = tr_task_attach(run->manager, task);
    if (error == TR_ENOMEM) {
        run->refused++;
        error = tr_task_attach(run->manager, task);
    }
    CHECK(error == 0 || error == TR_EALREADY || error == TR_ENOENT);
    error = tr_task_cancel(run->manager, task, "a reason that needs memory");
    CHECK(error == 0 || error == TR_EALREADY || error == TR_ENOENT);
    ATTEMPT(run, tr_task_list(run->manager, NULL, &cursor, snapshots, 4));
    CHECK_EQ_INT(tr_session_find(run->manager, "a label", &found), 0);
    CHECK_EQ_U64(found, session);
    CHECK_EQ_INT(tr_manager_stats(run->manager, &stats), 0);
}

static void launch_all(struct run *run, const struct tools *tools, tr_turn_id turn,
                       tr_session_id session, tr_deferred *deferred)
{
    static const tr_route routes[] = {TR_ROUTE_INLINE, TR_ROUTE_FOREGROUND, TR_ROUTE_BACKGROUND,
                                      TR_ROUTE_DETACH_AFTER};
    tr_task_id task = 0;
    for (unsigned at = 0; at < 4; at++) {
        launch_text(run, turn, tools->results, routes[at], "", &task);
        launch_text(run, turn, tools->sleep, routes[at], "plain input", &task);
        launch_text(run, turn, tools->results, routes[at], "deny me", &task);
        launch_text(run, turn, tools->results, routes[at], "ask me", &task);
        launch_text(run, turn, tools->program, routes[at], "", &task);
    }
    if (run->mode == RIG_THREADED) {
        launch_text(run, turn, tools->stop, TR_ROUTE_FOREGROUND, "", &task);
        steer_and_look(run, session, task);
        launch_text(run, turn, tools->deferred, TR_ROUTE_BACKGROUND, "", &task);
        tr_snapshot snapshot;
        WAIT_UNTIL(tr_task_snapshot(run->manager, task, &snapshot) == 0 &&
                       (snapshot.deferred || snapshot.state == TR_STATE_ENDED),
                   RIG_PATIENCE_SECONDS);
        if (snapshot.deferred) {
            static const char bytes[3000];
            ATTEMPT(run, tr_finish(*deferred, 0, bytes, sizeof bytes));
        }
    }
}

static void drain_all(struct run *run, tr_turn_id turn, tr_session_id session, tr_queue *queue)
{
    double deadline = case_seconds() + RIG_PATIENCE_SECONDS;
    while (run->resolved < run->accepted) {
        tr_batch *batch = NULL;
        int result = tr_turn_wait(run->manager, turn, NULL, 0, 8, &batch);
        if (result == TR_WAIT_ITEMS) {
            take(run, batch);
        }
        CHECK(result >= 0 || result == TR_ETIMEDOUT || result == TR_ENOMEM);
        result = tr_loop_take(run->manager, session, TR_MILLISECOND / 4, 8, &batch);
        if (result > 0) {
            take(run, batch);
        }
        CHECK(result >= 0 || result == TR_ENOMEM || result == TR_ECLOSED);
        result = tr_queue_drain(queue, 0, 8, &batch);
        if (result > 0) {
            take(run, batch);
        }
        CHECK(result >= 0 || result == TR_ENOMEM || result == TR_ECLOSED);
        CHECK(case_seconds() < deadline); /* no outcome is lost */
    }
}

static void scenario(struct run *run)
{
    struct tools tools;
    tr_deferred deferred = {NULL, 0};
    tr_config config = TR_CONFIG_INIT;
    tr_session_id session = 0;
    tr_session_id bound = 0;
    tr_turn_id turn = 0;
    tr_turn_id turn_bound = 0;
    tr_task_id task = 0;
    tr_queue *queue = NULL;
    tr_reader *reader = NULL;
    tr_token *token = NULL;
    tr_session_options session_options = TR_SESSION_OPTIONS_INIT;
    tr_turn_options turn_options = TR_TURN_OPTIONS_INIT;
    config.flags = run->mode == RIG_INLINE ? TR_MANAGER_INLINE : 0;
    config.permit = permit;
    config.events_max = 64;
    ATTEMPT(run, tr_manager_open(&config, &run->manager));
    add_tool(run, "results", run_results, 0, NULL, &tools.results);
    add_tool(run, "sleep", run_sleep, TR_TOOL_AWAITING, NULL, &tools.sleep);
    add_tool(run, "stop", run_stop, TR_TOOL_AWAITING, NULL, &tools.stop);
    add_tool(run, "deferred", run_deferred, 0, &deferred, &tools.deferred);
    add_tool(run, "program", run_program, TR_TOOL_AWAITING, NULL, &tools.program);
    session_options.label = "a label";
    turn_options.label = "another label";
    ATTEMPT(run, tr_session_open(run->manager, &session_options, &session));
    ATTEMPT(run, tr_turn_open(run->manager, session, &turn_options, &turn));
    ATTEMPT(run, tr_queue_open(run->manager, &queue));
    ATTEMPT(run, tr_reader_open(run->manager, NULL, &reader));
    ATTEMPT(run, tr_token_open(&token));
    session_options.queue = queue;
    session_options.label = NULL;
    ATTEMPT(run, tr_session_open(run->manager, &session_options, &bound));
    ATTEMPT(run, tr_turn_open(run->manager, bound, &turn_options, &turn_bound));
    launch_all(run, &tools, turn, session, &deferred);
    launch_text(run, turn_bound, tools.sleep, TR_ROUTE_FOREGROUND, "", &task);
    launch_text(run, turn_bound, tools.results, TR_ROUTE_BACKGROUND, "", &task);
    drain_all(run, turn, session, queue);
    if (run->mode == RIG_THREADED) { /* left for the close */
        launch_text(run, turn, tools.stop, TR_ROUTE_FOREGROUND, "", &task);
    }
    CHECK_EQ_INT(tr_manager_close(run->manager, 0), 0);
    drain_all(run, turn, session, queue);
    tr_token_close(token);
    tr_reader_close(reader);
    tr_manager_free(run->manager);
}

/* Fails the first allocation, the second … until the scenario needs no more. */
static void check_every_allocation(enum rig_mode mode)
{
    unsigned threads = rig_threads();
    unsigned refused = 0;
    unsigned quiet = 0; /* runs in a row in which the hook did not fire */
    long n = 1;
    for (; quiet < 3; n++) {
        struct run run;
        memset(&run, 0, sizeof run);
        run.mode = mode;
        gate_init(&run.gate);
        unsigned descriptors = rig_descriptors();
        tr__memory_fail_after(n);
        scenario(&run);
        quiet = tr__memory_fail_left() > 0 ? quiet + 1 : 0;
        tr__memory_fail_after(-1);
        CHECK_EQ_INT(run.resolved, run.accepted);
        WAIT_UNTIL(rig_threads() <= threads, RIG_PATIENCE_SECONDS);
        CHECK_EQ_INT(rig_descriptors(), descriptors);
        gate_done(&run.gate);
        refused += run.refused;
        CHECK(n < 20000);
    }
    CHECK(n > 30 && refused > 10); /* else nothing was tried */
}

CASE_TIMEOUT(fault_memory, every_allocation_threaded, 600)
{
    check_every_allocation(RIG_THREADED);
}

CASE_TIMEOUT(fault_memory, every_allocation_inline, 600)
{
    check_every_allocation(RIG_INLINE);
}

/* Whatever is missing, who cannot open a manager is told so in words. */
static void check_words(enum rig_mode mode)
{
    tr_config config = TR_CONFIG_INIT;
    char message[200];
    long n = 0;
    int error = TR_ENOMEM;
    config.flags = mode == RIG_INLINE ? TR_MANAGER_INLINE : 0;
    config.message = message;
    config.message_size = sizeof message;
    while (error < 0) {
        tr_manager *manager = NULL;
        (void)snprintf(message, sizeof message, "an older one");
        n++;
        tr__memory_fail_after(n);
        error = tr_manager_open(&config, &manager);
        tr__memory_fail_after(-1);
        CHECK(error == 0 || error == TR_ENOMEM);
        CHECK((error == 0) == (message[0] == '\0'));
        CHECK(strcmp(message, "an older one") != 0);
        tr_manager_free(manager);
    }
    CHECK(n > 3);
}

CASE_TIMEOUT(fault_memory, refused_open_says_why, RIG_TIMEOUT_SECONDS)
{
    check_words(RIG_THREADED);
    check_words(RIG_INLINE);
}
