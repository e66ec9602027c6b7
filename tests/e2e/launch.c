/*
 * Launching end to end: validation, what an item says, ids and their texts, many launchers.
 */
#include <errno.h>

#include "support/host.h"

/* ---- refusals change nothing ---- */

/* Launches a request that must be refused, and checks that nothing came of it. */
static void refused(struct rig *rig, const tr_request *request, int error)
{
    tr_launched launched;
    tr_launched untouched;
    memset(&launched, 0x5a, sizeof launched);
    memset(&untouched, 0x5a, sizeof untouched);
    uint64_t accepted = rig_stats(rig).accepted;
    CHECK_EQ_INT(tr_launch(rig->manager, request, &launched), error);
    CHECK_EQ_INT(memcmp(&launched, &untouched, sizeof launched), 0);
    CHECK_EQ_U64(rig_stats(rig).accepted, accepted);
    CHECK_EQ_U64(rig_stats(rig).tasks_used, 0);
    rig_turn_is_idle(rig, rig->turn);
}

static void released(void *context, void *data, size_t size)
{
    (void)data;
    (void)size;
    __atomic_fetch_add((unsigned *)context, 1, __ATOMIC_RELAXED);
}

static void spoil_size(tr_request *request)
{
    request->size = sizeof *request - 1;
}

static void spoil_reserved(tr_request *request)
{
    request->reserved = 1;
}

static void spoil_options_size(tr_request *request)
{
    request->options.size = 0;
}

static void spoil_options_reserved(tr_request *request)
{
    request->options.reserved = 7;
}

static void spoil_route(tr_request *request)
{
    request->options.route = (tr_route)5;
}

static void spoil_detach_after(tr_request *request)
{
    request->options.route = TR_ROUTE_DETACH_AFTER;
}

static void spoil_delivery(tr_request *request)
{
    request->options.delivery = (tr_delivery)3;
}

static void spoil_continue(tr_request *request)
{
    request->options.continuation = (tr_continue)3;
}

static void spoil_lifetime(tr_request *request)
{
    request->options.lifetime = (tr_lifetime)4;
}

static void spoil_priority(tr_request *request)
{
    request->options.priority = (tr_priority)3;
}

static void spoil_output(tr_request *request)
{
    request->options.output_bytes_max = (UINT64_C(1) << 30) + 1;
}

static void spoil_call_id(tr_request *request)
{
    request->call_id.data = NULL;
    request->call_id.size = 1;
}

static void spoil_metadata(tr_request *request)
{
    request->metadata.data = NULL;
    request->metadata.size = 1;
}

static void spoil_input(tr_request *request)
{
    request->input.data = NULL;
    request->input.size = 1;
}

static void spoil_tool(tr_request *request)
{
    request->tool = 60000;
}

static void spoil_tool_name(tr_request *request)
{
    request->tool = 0;
    request->tool_name = "no such tool";
}

static void spoil_no_tool(tr_request *request)
{
    request->tool = 0;
}

static void spoil_turn(tr_request *request)
{
    request->turn = 0;
}

static void spoil_turn_generation(tr_request *request)
{
    request->turn += UINT64_C(1) << 24;
}

static void spoil_turn_index(tr_request *request)
{
    request->turn += 1;
}

static void spoil_turn_tag(tr_request *request)
{
    request->turn ^= UINT64_C(1) << 60;
}

static void oversize_call_id(tr_request *request)
{
    static const char bytes[TR_CALL_ID_BYTES_MAX + 1];
    request->call_id.data = bytes;
    request->call_id.size = sizeof bytes;
}

static void oversize_metadata(tr_request *request)
{
    static const char bytes[TR_METADATA_BYTES_MAX + 1];
    request->metadata.data = bytes;
    request->metadata.size = sizeof bytes;
}

static void oversize_input(tr_request *request)
{
    static const char bytes[1];
    request->input.data = bytes; /* refused before it is looked at */
    request->input.size = (16u << 20) + 1;
}

BOTH(launch, refuses_bad_requests)
{
    static const struct {
        void (*spoil)(tr_request *request);
        int error;
    } table[] = {
        {spoil_size, TR_EINVAL},
        {spoil_reserved, TR_EINVAL},
        {spoil_options_size, TR_EINVAL},
        {spoil_options_reserved, TR_EINVAL},
        {spoil_route, TR_EINVAL},
        {spoil_detach_after, TR_EINVAL},
        {spoil_delivery, TR_EINVAL},
        {spoil_continue, TR_EINVAL},
        {spoil_lifetime, TR_EINVAL},
        {spoil_priority, TR_EINVAL},
        {spoil_output, TR_EINVAL},
        {spoil_call_id, TR_EINVAL},
        {spoil_metadata, TR_EINVAL},
        {spoil_input, TR_EINVAL},
        {spoil_tool, TR_ENOENT},
        {spoil_tool_name, TR_ENOENT},
        {spoil_no_tool, TR_ENOENT},
        {spoil_turn, TR_ENOENT},
        {spoil_turn_generation, TR_ENOENT},
        {spoil_turn_index, TR_ENOENT},
        {spoil_turn_tag, TR_ENOENT},
        {oversize_call_id, TR_E2BIG},
        {oversize_metadata, TR_E2BIG},
        {oversize_input, TR_E2BIG},
    };
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        unsigned count = 0;
        tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
        request.input = rig_bytes("x");
        request.input_release = released;
        request.input_context = &count;
        table[at].spoil(&request);
        refused(rig, &request, table[at].error);
        CHECK_EQ_INT(count, 0); /* what is refused stays the host's */
    }
}

BOTH(launch, refuses_null)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
    tr_launched launched;
    CHECK_EQ_INT(tr_launch(rig->manager, NULL, &launched), TR_EINVAL);
    CHECK_EQ_INT(tr_launch(rig->manager, &request, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_launch(NULL, &request, &launched), TR_EINVAL);
    CHECK_EQ_U64(rig_stats(rig).accepted, 0);
}

BOTH(launch, refuses_stale_turns)
{
    tr_turn_id closed = rig_turn(rig, rig->session);
    tr_session_id session = rig_session(rig);
    tr_turn_id orphan = rig_turn(rig, session);
    CHECK_EQ_INT(tr_turn_close(rig->manager, closed, 0), 0);
    CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
    tr_turn_id turns[] = {closed, orphan, session, rig->session};
    for (size_t at = 0; at < sizeof turns / sizeof *turns; at++) {
        tr_request request = TR_REQUEST_INIT(turns[at], rig->nothing);
        refused(rig, &request, TR_ENOENT);
    }
}

BOTH(launch, refuses_when_closed)
{
    rig_shut(rig, 0);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
    refused(rig, &request, TR_ECLOSED);
    tr_launched launched;
    CHECK_EQ_INT(tr_launch_batch(rig->manager, &request, 1, &launched), 0);
    CHECK_EQ_INT(launched.status, TR_ECLOSED);
    tr_tool tool = TR_TOOL_INIT("late", NULL);
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, NULL), TR_EINVAL);
    rig_free(rig);
    rig_open(rig, rig->mode, NULL); /* for the case's own end */
}

BOTH(launch, larger_structures_of_zeros)
{
    struct {
        tr_request request;
        unsigned char more[64];
    } newer;
    memset(&newer, 0, sizeof newer);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
    newer.request = request;
    newer.request.size = sizeof newer;
    tr_task_id task = rig_launch_request(rig, &newer.request).task;
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    newer.more[63] = 1; /* asks for something unknown */
    rig_turn_is_idle(rig, rig->turn);
    rig_wait_idle(rig);
    refused(rig, &newer.request, TR_EINVAL);
}

/* ---- what an item says ---- */

BOTH(launch, item_of_a_completed_call)
{
    int user = 0;
    int session_user = 0;
    tr_session_options session_options = TR_SESSION_OPTIONS_INIT;
    session_options.user = &session_user;
    tr_session_id session = 0;
    CHECK_EQ_INT(tr_session_open(rig->manager, &session_options, &session), 0);
    tr_turn_id turn = rig_turn(rig, session);
    tr_request request = TR_REQUEST_INIT(turn, 0);
    request.tool_name = "echo"; /* by name */
    request.call_id = rig_bytes("call-1");
    request.metadata = rig_bytes("{\"m\":1}");
    request.input = rig_bytes("hello");
    request.user = &user;
    tr_launched launched = rig_launch_request(rig, &request);
    CHECK_EQ_INT(launched.kind, TR_KIND_FOREGROUND);

    tr_batch *batch = rig_turn_take(rig, turn);
    rig_check(batch, launched.task, TR_OUTCOME_COMPLETED);
    const tr_item *item = batch->items;
    CHECK_EQ_INT(item->channel, TR_CHANNEL_TURN);
    CHECK_EQ_INT(item->kind, TR_KIND_FOREGROUND);
    CHECK_EQ_U64(item->flags, TR_ITEM_TURN_IDLE);
    CHECK_EQ_INT(item->code, 0);
    CHECK_EQ_U64(item->turn, turn);
    CHECK_EQ_U64(item->session, session);
    CHECK_EQ_INT(item->tool, rig->echo);
    CHECK_EQ_INT(item->approvals, 0);
    CHECK_EQ_STR(item->tool_name, "echo");
    CHECK_EQ_PTR(item->user, &user);
    CHECK_EQ_PTR(item->session_user, &session_user);
    CHECK(rig_bytes_are(item->call_id, "call-1"));
    CHECK(rig_bytes_are(item->metadata, "{\"m\":1}"));
    CHECK(rig_bytes_are(item->result, "hello"));
    CHECK_EQ_U64(item->input.size, 0);
    CHECK_EQ_STR(item->reason, "");
    CHECK_EQ_STR(item->summary, "");
    CHECK(item->accepted_ns > 0 && item->started_ns >= item->accepted_ns &&
          item->ended_ns >= item->started_ns);
    tr_batch_release(batch);
    rig_turn_is_idle(rig, turn);
}

BOTH(launch, item_of_a_failed_call)
{
    tr_task_id task = rig_launch_text(rig, rig->fail, "why", TR_ROUTE_DEFAULT);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, task, TR_OUTCOME_FAILED);
    CHECK_EQ_INT(batch->items[0].code, TR_ETOOL);
    CHECK(rig_bytes_are(batch->items[0].result, "why")); /* kept although it failed */
    tr_batch_release(batch);
    CHECK_EQ_U64(rig_stats(rig).failed, 1);
}

/* A function's return value is the user pointer, so to say. */
static int run_status(tr_call *call, void *context)
{
    (void)context;
    return (int)(intptr_t)tr_call_user(call);
}

BOTH(launch, status_of_the_function)
{
    static const struct {
        int status;
        int code;
        tr_outcome outcome;
    } table[] = {
        {0, 0, TR_OUTCOME_COMPLETED},
        {-1, -1, TR_OUTCOME_FAILED},
        {-EXDEV, -EXDEV, TR_OUTCOME_FAILED},
        {TR_ETOOL, TR_ETOOL, TR_OUTCOME_FAILED},
        {INT32_MIN, INT32_MIN, TR_OUTCOME_FAILED},
        {TR_ECANCELED, TR_ECANCELED, TR_OUTCOME_FAILED}, /* nobody has asked it to stop */
        {2, TR_ESTATE, TR_OUTCOME_FAILED},               /* no status a function may return */
        {INT32_MAX, TR_ESTATE, TR_OUTCOME_FAILED},
    };
    tr_tool_id tool = rig_tool(rig, "status", run_status, NULL);
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        void *user = (void *)(intptr_t)table[at].status;
        tr_task_id task = rig_launch(rig, tool, user, TR_ROUTE_DEFAULT);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, table[at].outcome);
        CHECK_EQ_INT(batch->items[0].code, table[at].code);
        tr_batch_release(batch);
    }
}

/* ---- ids and texts ---- */

BOTH(launch, ids_have_texts)
{
    char text[TR_TASK_TEXT_BYTES];
    char first[TR_TASK_TEXT_BYTES];
    tr_task_id parsed = 0;
    tr_task_id last = 0;
    for (unsigned at = 0; at < 100; at++) {
        tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_DEFAULT);
        CHECK(task != last); /* never reused, though the slot may be */
        last = task;
        CHECK_EQ_PTR(tr_task_text(task, text), text);
        CHECK_EQ_INT(strncmp(text, "task-", 5), 0);
        CHECK_EQ_INT(tr_task_parse(text, &parsed), 0);
        CHECK_EQ_U64(parsed, task);
        if (at == 0) {
            memcpy(first, text, sizeof text);
        }
        rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    }
    CHECK_EQ_STR(first, "task-1");
}

CASE(launch, texts_that_are_none)
{
    static const char *const table[] = {
        "",
        "task",
        "task-",
        "task-0",
        "task-01",
        "task--1",
        "task-+1",
        "task- 1",
        "task-1 ",
        "task-1x",
        "Task-1",
        " task-1",
        "turn-1",
        "1",
        "task-x",
        "task-99999999999999999999999999",
        "task-18446744073709551615",
        "task-1152921504606846976",
        "task-16777216",
    };
    tr_task_id task = 42;
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        CHECK_EQ_INT(tr_task_parse(table[at], &task), TR_EINVAL);
        CHECK_EQ_U64(task, 42);
    }
    CHECK_EQ_INT(tr_task_parse(NULL, &task), TR_EINVAL);
    CHECK_EQ_INT(tr_task_parse("task-1", NULL), TR_EINVAL);
}

/* ---- launching from many places ---- */

struct nest {
    struct rig *rig;
    int status;
    tr_task_id task;
};

static int run_nest(tr_call *call, void *context)
{
    struct nest *nest = tr_call_user(call);
    tr_snapshot snapshot;
    tr_launched launched;
    (void)context;
    tr_call_snapshot(call, &snapshot);
    tr_request request = TR_REQUEST_INIT(snapshot.turn, nest->rig->nothing);
    request.options.route = TR_ROUTE_BACKGROUND;
    nest->status = tr_launch(nest->rig->manager, &request, &launched);
    nest->task = launched.task;
    return 0;
}

BOTH(launch, from_within_a_tool)
{
    struct nest nest = {rig, -1, 0};
    tr_tool_id tool = rig_tool(rig, "nest", run_nest, NULL);
    tr_task_id task = rig_launch(rig, tool, &nest, TR_ROUTE_DEFAULT);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(nest.status, TR_PENDING);
    rig_check_release(rig_loop_take(rig, rig->session), nest.task, TR_OUTCOME_COMPLETED);
}

enum {
    LAUNCHERS = 4,
    LAUNCHES = 2000,
};

struct launcher {
    struct rig *rig;
    tr_turn_id turn;
};

static void *launch_many(void *argument)
{
    const struct launcher *launcher = argument;
    unsigned taken = 0;
    for (unsigned at = 0; at < LAUNCHES; at++) {
        tr_request request = TR_REQUEST_INIT(launcher->turn, launcher->rig->nothing);
        (void)rig_launch_request(launcher->rig, &request);
        if (at % 50 == 49) {
            taken += rig_turn_flush(launcher->rig, launcher->turn);
        }
    }
    taken += rig_turn_flush(launcher->rig, launcher->turn);
    CHECK_EQ_INT(taken, LAUNCHES);
    return NULL;
}

BOTH(launch, from_many_threads)
{
    struct launcher launchers[LAUNCHERS];
    pthread_t threads[LAUNCHERS];
    for (unsigned at = 0; at < LAUNCHERS; at++) {
        launchers[at].rig = rig;
        launchers[at].turn = rig_turn(rig, at % 2 == 0 ? rig->session : rig_session(rig));
        threads[at] = rig_thread(launch_many, &launchers[at]);
    }
    for (unsigned at = 0; at < LAUNCHERS; at++) {
        rig_join(threads[at]);
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).completed, LAUNCHERS * LAUNCHES);
    CHECK_EQ_U64(rig_stats(rig).tasks_used, 0);
}
