/*
 * What a tool reads of its call and how it sets its result, end to end: small results in the task's
 * slot, large ones in the arena, reserved and handed-over ones, and each replacing another.
 */
#include <string.h>

#include <toolring.h>

#include "base/atomic.h"
#include "support/case.h"

#define SECONDS_20 (20 * TR_SECOND)

static tr_manager *manager;
static tr_turn_id turn;
static tr__atomic_u32 released; /* how often release_counting ran */

static void release_counting(void *context, void *data, size_t size)
{
    (void)data;
    CHECK_EQ_PTR(context, &released);
    CHECK(size > 0);
    (void)tr__fetch_add_relaxed(&released, 1u); /* read after the batch's release */
}

/* Runs a function as a call with `input`, and checks what it leaves as its result. */
static void expect(tr_tool_function function, const char *name, const char *input,
                   const void *result, size_t size)
{
    tr_tool tool = TR_TOOL_INIT(name, function);
    tr_request request = TR_REQUEST_INIT(turn, 0);
    tr_launched launched;
    tr_batch *batch;
    CHECK_EQ_INT(tr_tool_register(manager, &tool, &request.tool), 0);
    request.input = (tr_bytes){input, strlen(input)};
    request.call_id = (tr_bytes){"call-7", 6};
    request.metadata = (tr_bytes){"meta", 4};
    request.user = &manager;
    CHECK_EQ_INT(tr_launch(manager, &request, &launched), TR_PENDING);
    CHECK_EQ_INT(tr_turn_wait(manager, turn, NULL, SECONDS_20, 1, &batch), TR_WAIT_ITEMS);
    const tr_item *item = &batch->items[0];
    CHECK_EQ_INT(item->outcome, TR_OUTCOME_COMPLETED);
    CHECK_EQ_U64(item->result.size, size);
    CHECK(size == 0 || memcmp(item->result.data, result, size) == 0);
    tr_batch_release(batch);
}

static void run_all(void (*cases)(void))
{
    for (unsigned inline_too = 0; inline_too < 2; inline_too++) {
        tr_config config = TR_CONFIG_INIT;
        tr_session_id session;
        config.flags = inline_too ? TR_MANAGER_INLINE : 0;
        config.workers = inline_too ? 0 : 2;
        config.result_bytes_max = 100000;
        CHECK_EQ_INT(tr_manager_open(&config, &manager), 0);
        CHECK_EQ_INT(tr_session_open(manager, NULL, &session), 0);
        CHECK_EQ_INT(tr_turn_open(manager, session, NULL, &turn), 0);
        tr__store_relaxed(&released, 0u); /* nobody runs yet */
        cases();
        tr_stats stats;
        CHECK_EQ_INT(tr_manager_stats(manager, &stats), 0);
        CHECK_EQ_U64(stats.bytes_used, 0);
        CHECK_EQ_INT(tr_manager_close(manager, TR_FOREVER), 0);
        tr_manager_free(manager);
    }
}

static bool is_text(tr_bytes bytes, const char *text)
{
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

static int look(tr_call *call, void *context)
{
    tr_snapshot snapshot;
    (void)context;
    CHECK(is_text(tr_call_input(call), "the input"));
    CHECK(is_text(tr_call_call_id(call), "call-7"));
    CHECK(is_text(tr_call_metadata(call), "meta"));
    CHECK_EQ_PTR(tr_call_user(call), &manager);
    CHECK_EQ_U64(tr_call_output_bytes_max(call), 1 << 20);
    CHECK_EQ_U64(tr_call_cancel_grace(call), 2 * TR_SECOND);
    CHECK(!tr_call_is_cancelled(call));
    tr_call_snapshot(call, &snapshot);
    CHECK_EQ_U64(snapshot.task, tr_call_task(call));
    CHECK_EQ_U64(snapshot.turn, turn);
    CHECK_EQ_INT(snapshot.state, TR_STATE_RUNNING);
    CHECK_EQ_STR(snapshot.tool_name, "look");
    CHECK_EQ_INT(snapshot.call_id_size, 6);
    tr_call_progress(call, 1, 2);
    tr_call_output(call, 3);
    return 0;
}

static char long_text[5000];

static int set_badly(tr_call *call, void *context)
{
    void *room;
    (void)context;
    CHECK_EQ_INT(tr_result_copy(call, "kept", 4), 0);
    CHECK_EQ_INT(tr_result_copy(NULL, "x", 1), TR_EINVAL);
    CHECK_EQ_INT(tr_result_copy(call, NULL, 1), TR_EINVAL);
    CHECK_EQ_INT(tr_result_copy(call, long_text, 100001), TR_ELIMIT);
    CHECK_EQ_INT(tr_result_reserve(call, 0, &room), TR_EINVAL);
    CHECK_EQ_INT(tr_result_reserve(call, 1, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_result_reserve(call, 100001, &room), TR_ELIMIT);
    CHECK_EQ_INT(tr_result_commit(call, 0), TR_ESTATE);
    CHECK_EQ_INT(tr_result_give(call, NULL, 1, NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_result_give(call, long_text, 100001, release_counting, &released), TR_ELIMIT);
    return 0;
}

/* A result in the slot and a reservation beside it keep out of each other's way, either first. */
static int set_around_a_reservation(tr_call *call, void *context)
{
    void *room;
    (void)context;
    CHECK_EQ_INT(tr_result_reserve(call, 10, &room), 0);
    memset(room, 'r', 10);
    CHECK_EQ_INT(tr_result_copy(call, "copied", 6), 0);
    CHECK_EQ_INT(tr_result_copy(call, "again", 5), 0);
    CHECK(memcmp(room, "rrrrrrrrrr", 10) == 0);
    CHECK_EQ_INT(tr_result_commit(call, 11), TR_EINVAL);
    CHECK_EQ_INT(tr_result_commit(call, 8), 0);
    CHECK_EQ_INT(tr_result_commit(call, 8), TR_ESTATE);
    CHECK_EQ_INT(tr_result_reserve(call, 20, &room), 0); /* not committed: no result */
    memset(room, 'x', 20);
    return 0;
}

static int replace_in_turn(tr_call *call, void *context)
{
    void *room;
    (void)context;
    for (unsigned round = 0; round < 50; round++) {
        CHECK_EQ_INT(tr_result_copy(call, "small", 5), 0);
        CHECK_EQ_INT(tr_result_copy(call, long_text, 300), 0);
        CHECK_EQ_INT(tr_result_reserve(call, 40000, &room), 0);
        memset(room, 'y', 40000);
        CHECK_EQ_INT(tr_result_give(call, long_text, 100, release_counting, &released), 0);
        CHECK_EQ_INT(tr_result_commit(call, 7), 0);
        CHECK_EQ_INT(tr_result_give(call, long_text, 100, NULL, NULL), 0);
    }
    return tr_result_copy(call, long_text, sizeof long_text);
}

static int give_at_last(tr_call *call, void *context)
{
    (void)context;
    return tr_result_give(call, long_text, 4000, release_counting, &released);
}

static int set_nothing(tr_call *call, void *context)
{
    (void)context;
    CHECK_EQ_INT(tr_result_copy(call, long_text, 2000), 0);
    return tr_result_copy(call, NULL, 0);
}

static void try_results(void)
{
    memset(long_text, 'l', sizeof long_text - 1); /* a text: it ends with zero */
    expect(look, "look", "the input", NULL, 0);
    expect(set_badly, "set_badly", "", "kept", 4);
    expect(set_around_a_reservation, "set_around", "", "rrrrrrrr", 8);
    expect(set_around_a_reservation, "set_around_large_input", long_text, "rrrrrrrr", 8);
    expect(replace_in_turn, "replace_in_turn", "in", long_text, sizeof long_text);
    CHECK_EQ_INT(tr__load_relaxed(&released), 50); /* ordered by the call's end */
    expect(give_at_last, "give_at_last", "", long_text, 4000);
    CHECK_EQ_INT(tr__load_relaxed(&released), 51); /* by the batch's release */
    expect(set_nothing, "set_nothing", "", NULL, 0);
}

CASE(result, every_way_to_set_it)
{
    run_all(try_results);
}

CASE(result, finish_refuses_nonsense)
{
    tr_deferred nobody = {NULL, 1};
    CHECK_EQ_INT(tr_finish(nobody, 0, NULL, 0), TR_EINVAL);
}
