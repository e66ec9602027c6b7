/*
 * Bytes end to end: call ids, metadata and inputs in; results out; copied, borrowed, handed over.
 */
#include <stdlib.h>

#include "support/host.h"

static void released(void *context, void *data, size_t size)
{
    (void)data;
    (void)size;
    __atomic_fetch_add((unsigned *)context, 1, __ATOMIC_RELAXED);
}

/* ---- bytes ---- */

static void fill(unsigned char *bytes, size_t size, unsigned seed)
{
    for (size_t at = 0; at < size; at++) {
        bytes[at] = (unsigned char)(at * 31 + seed + (at >> 8));
    }
}

/* Checks inside the function that call id and metadata arrive too; the result is the input. */
static int run_bytes(tr_call *call, void *context)
{
    const tr_request *request = tr_call_user(call);
    tr_bytes call_id = tr_call_call_id(call);
    tr_bytes metadata = tr_call_metadata(call);
    tr_bytes input = tr_call_input(call);
    (void)context;
    CHECK_EQ_U64(call_id.size, request->call_id.size);
    CHECK_EQ_U64(metadata.size, request->metadata.size);
    CHECK_EQ_U64(input.size, request->input.size);
    if (call_id.size > 0) {
        CHECK_EQ_INT(memcmp(call_id.data, request->call_id.data, call_id.size), 0);
    }
    if (metadata.size > 0) {
        CHECK_EQ_INT(memcmp(metadata.data, request->metadata.data, metadata.size), 0);
    }
    return tr_result_copy(call, input.data, input.size);
}

static void check_bytes(tr_bytes got, tr_bytes wanted)
{
    CHECK_EQ_U64(got.size, wanted.size);
    if (got.size > 0) {
        CHECK_EQ_INT(memcmp(got.data, wanted.data, got.size), 0);
    }
}

BOTH(bytes, bytes_of_every_size)
{
    static const size_t call_ids[] = {0, 1, 36, TR_CALL_ID_BYTES_MAX};
    static const size_t metadatas[] = {0, 7, 59, 60, TR_METADATA_BYTES_MAX};
    static const size_t inputs[] = {0, 1, 60, 80, 95, 96, 97, 4095, 4096, 4097, 65536, 300000};
    static unsigned char bytes[3][300000];
    tr_tool_id tool = rig_tool(rig, "bytes", run_bytes, NULL);
    for (unsigned kind = 0; kind < 3; kind++) {
        fill(bytes[kind], sizeof bytes[kind], kind + 1);
    }
    for (size_t a = 0; a < sizeof call_ids / sizeof *call_ids; a++) {
        for (size_t b = 0; b < sizeof metadatas / sizeof *metadatas; b++) {
            for (size_t c = 0; c < sizeof inputs / sizeof *inputs; c++) {
                tr_request request = TR_REQUEST_INIT(rig->turn, tool);
                tr_bytes call_id = {bytes[0], call_ids[a]};
                tr_bytes metadata = {bytes[1], metadatas[b]};
                tr_bytes input = {bytes[2], inputs[c]};
                request.call_id = call_id;
                request.metadata = metadata;
                request.input = input;
                request.user = &request;
                tr_task_id task = rig_launch_request(rig, &request).task;
                tr_batch *batch = rig_turn_take(rig, rig->turn);
                rig_check(batch, task, TR_OUTCOME_COMPLETED);
                check_bytes(batch->items[0].call_id, call_id);
                check_bytes(batch->items[0].metadata, metadata);
                check_bytes(batch->items[0].result, input);
                tr_batch_release(batch);
            }
        }
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).bytes_used, 0);
}

BOTH(bytes, inputs_are_copied)
{
    char input[] = "before";
    struct gate gate;
    gate_init(&gate);
    tr_task_id blocker = 0;
    if (rig->mode == RIG_THREADED) { /* so that it is read long after the launch */
        blocker = rig_launch(rig, rig->deferred, &gate, TR_ROUTE_FOREGROUND);
    }
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->echo);
    request.input.data = input;
    request.input.size = 6;
    request.options.route = TR_ROUTE_BACKGROUND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    memcpy(input, "after!", 6);
    tr_batch *batch = rig_loop_take(rig, rig->session);
    rig_check(batch, task, TR_OUTCOME_COMPLETED);
    CHECK(batch->items[0].result.size == 6);
    /* An inline manager has run it before the host wrote; a worker may have run it after. */
    CHECK(rig_bytes_are(batch->items[0].result, "before"));
    tr_batch_release(batch);
    if (blocker != 0) {
        gate_await_entered(&gate, 1);
        CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, NULL, 0), 0);
        rig_check_release(rig_turn_take(rig, rig->turn), blocker, TR_OUTCOME_COMPLETED);
    }
    gate_done(&gate);
}

BOTH(bytes, borrowed_input_is_released_once)
{
    static const size_t sizes[] = {0, 1, 96, 100000};
    static unsigned char bytes[100000];
    for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
        unsigned count = 0;
        tr_request request = TR_REQUEST_INIT(rig->turn, rig->echo);
        fill(bytes, sizes[at], (unsigned)at);
        request.input.data = bytes;
        request.input.size = sizes[at];
        request.input_release = released;
        request.input_context = &count;
        tr_task_id task = rig_launch_request(rig, &request).task;
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_COMPLETED);
        check_bytes(batch->items[0].result, request.input);
        tr_batch_release(batch);
        rig_wait_idle(rig);
        CHECK_EQ_INT(__atomic_load_n(&count, __ATOMIC_RELAXED), 1);
    }
}

/* ---- results ---- */

struct given {
    unsigned count;
    void *data;
    size_t size;
};

static void give_back(void *context, void *data, size_t size)
{
    struct given *given = context;
    CHECK_EQ_PTR(data, given->data);
    CHECK_EQ_U64(size, given->size);
    __atomic_fetch_add(&given->count, 1, __ATOMIC_RELAXED);
    free(data);
}

static int give(tr_call *call, struct given *given, const char *text)
{
    given->count = 0;
    given->size = strlen(text);
    given->data = malloc(given->size);
    CHECK(given->data != NULL);
    memcpy(given->data, text, given->size);
    return tr_result_give(call, given->data, given->size, give_back, given);
}

static int run_copy_twice(tr_call *call, void *context)
{
    (void)context;
    CHECK_EQ_INT(tr_result_copy(call, "first", 5), 0);
    return tr_result_copy(call, "second", 6);
}

static int run_reserve(tr_call *call, void *context)
{
    void *room = NULL;
    (void)context;
    CHECK_EQ_INT(tr_result_commit(call, 0), TR_ESTATE);
    CHECK_EQ_INT(tr_result_reserve(call, 5000, &room), 0);
    CHECK_EQ_U64((uintptr_t)room % _Alignof(max_align_t), 0);
    memset(room, 'r', 5000);
    CHECK_EQ_INT(tr_result_commit(call, 5001), TR_EINVAL);
    CHECK_EQ_INT(tr_result_commit(call, 8), 0);
    CHECK_EQ_INT(tr_result_commit(call, 8), TR_ESTATE);
    return 0;
}

static int run_reserve_uncommitted(tr_call *call, void *context)
{
    void *room = NULL;
    (void)context;
    CHECK_EQ_INT(tr_result_copy(call, "kept", 4), 0);
    CHECK_EQ_INT(tr_result_reserve(call, 64, &room), 0);
    memset(room, 'x', 64);
    CHECK_EQ_INT(tr_result_reserve(call, 200000, &room), 0);
    memset(room, 'x', 200000);
    return 0;
}

static int run_give(tr_call *call, void *context)
{
    return give(call, context, "given");
}

static int run_give_replaced(tr_call *call, void *context)
{
    struct given *given = context;
    int error = give(call, given, "given");
    CHECK_EQ_INT(error, 0);
    CHECK_EQ_INT(tr_result_copy(call, "copied", 6), 0);
    CHECK_EQ_INT(__atomic_load_n(&given->count, __ATOMIC_RELAXED), 1); /* at once */
    return 0;
}

static int run_give_static(tr_call *call, void *context)
{
    static char text[] = "static";
    (void)context;
    return tr_result_give(call, text, 6, NULL, NULL);
}

static int run_bad_results(tr_call *call, void *context)
{
    void *room = NULL;
    (void)context;
    CHECK_EQ_INT(tr_result_copy(call, "good", 4), 0);
    CHECK_EQ_INT(tr_result_copy(call, NULL, 1), TR_EINVAL);
    CHECK_EQ_INT(tr_result_copy(NULL, "x", 1), TR_EINVAL);
    CHECK_EQ_INT(tr_result_copy(call, "x", (64u << 20) + 1), TR_ELIMIT);
    CHECK_EQ_INT(tr_result_reserve(call, 0, &room), TR_EINVAL);
    CHECK_EQ_INT(tr_result_reserve(call, 1, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_result_reserve(call, (64u << 20) + 1, &room), TR_ELIMIT);
    CHECK_EQ_INT(tr_result_give(call, NULL, 1, NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_result_give(call, &room, (64u << 20) + 1, NULL, NULL), TR_ELIMIT);
    return 0;
}

static int run_no_result(tr_call *call, void *context)
{
    (void)context;
    CHECK_EQ_INT(tr_result_copy(call, "gone", 4), 0);
    return tr_result_copy(call, NULL, 0);
}

BOTH(bytes, results_of_every_kind)
{
    static const struct {
        tr_tool_function function;
        const char *result;
        unsigned given;
    } table[] = {
        {run_copy_twice, "second", 0},        {run_reserve, "rrrrrrrr", 0},
        {run_reserve_uncommitted, "kept", 0}, {run_give, "given", 1},
        {run_give_replaced, "copied", 1},     {run_give_static, "static", 0},
        {run_bad_results, "good", 0},         {run_no_result, "", 0},
    };
    struct given given = {0, NULL, 0};
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        char name[16] = "result-a";
        name[7] = (char)('a' + at);
        tr_tool_id tool = rig_tool(rig, name, table[at].function, &given);
        given.count = 0;
        tr_task_id task = rig_launch(rig, tool, NULL, TR_ROUTE_DEFAULT);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_COMPLETED);
        CHECK(rig_bytes_are(batch->items[0].result, table[at].result));
        tr_batch_release(batch);
        CHECK_EQ_INT(__atomic_load_n(&given.count, __ATOMIC_RELAXED), table[at].given);
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).bytes_used, 0);
}

static int run_reserve_every_size(tr_call *call, void *context)
{
    size_t size = *(const size_t *)tr_call_user(call);
    void *room = NULL;
    (void)context;
    CHECK_EQ_INT(tr_result_reserve(call, size, &room), 0);
    fill(room, size, 9);
    return tr_result_commit(call, size);
}

BOTH(bytes, results_of_every_size)
{
    static const size_t sizes[] = {1, 95, 96, 97, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 22};
    static unsigned char wanted[1 << 22];
    fill(wanted, sizeof wanted, 9);
    tr_tool_id tool = rig_tool(rig, "sizes", run_reserve_every_size, NULL);
    for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
        size_t size = sizes[at];
        tr_task_id task = rig_launch(rig, tool, &size, TR_ROUTE_DEFAULT);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        rig_check(batch, task, TR_OUTCOME_COMPLETED);
        tr_bytes bytes = {wanted, size};
        check_bytes(batch->items[0].result, bytes);
        tr_batch_release(batch);
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).bytes_used, 0);
}
