/* Batch: items as the host sees them, idle turns, borrowed bytes, what outlives what, no memory. */
#include "completion/batch.h"

#include <toolring/error.h>

#include "unit/completion_by_hand.h"

static struct shop shop;
#define REGISTRY (&shop.completion.registry)

static tr_session_id session_id;
static tr_turn_id turn_id;

static struct tr__turn *open_shop(uint32_t tasks_max)
{
    shop_open(&shop, tasks_max);
    session_id = by_hand_session(REGISTRY);
    turn_id = by_hand_turn(REGISTRY, session_id);
    return by_hand_turn_at(REGISTRY, turn_id);
}

static bool text_is(tr_bytes bytes, const char *text)
{
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

CASE(batch, an_item_says_all_there_is_to_say)
{
    static int user;
    static int session_user;
    struct tr__turn *turn = open_shop(4);
    turn->session->user = &session_user;
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
    memcpy(one.task->bytes, "call-7{}", 8);
    one.task->call_id_size = 6;
    one.task->metadata_size = 2;
    one.task->user = &user;
    shop_finish(&shop, one, TR_OUTCOME_FAILED, "no such file", 500);
    tr_batch *batch = shop_take(&shop, &turn->updates, 8);
    const tr_item *item = batch->items;
    CHECK_EQ_INT(item->type, TR_ITEM_RESOLUTION);
    CHECK_EQ_INT(item->channel, TR_CHANNEL_TURN);
    CHECK_EQ_INT(item->outcome, TR_OUTCOME_FAILED);
    CHECK_EQ_INT(item->kind, TR_KIND_FOREGROUND);
    CHECK_EQ_INT(item->flags, TR_ITEM_TURN_IDLE);
    CHECK_EQ_INT(item->code, TR_ETOOL);
    CHECK_EQ_U64(item->task, one.id);
    CHECK_EQ_U64(item->turn, turn_id);
    CHECK_EQ_U64(item->session, session_id);
    CHECK_EQ_INT(item->tool, 1);
    CHECK_EQ_STR(item->tool_name, "hammer");
    CHECK_EQ_PTR(item->user, &user);
    CHECK_EQ_PTR(item->session_user, &session_user);
    CHECK(text_is(item->call_id, "call-7"));
    CHECK(text_is(item->metadata, "{}"));
    CHECK(text_is(item->result, "no such file"));
    CHECK_EQ_INT(item->input.size, 0);
    CHECK_EQ_STR(item->reason, "");
    CHECK_EQ_STR(item->summary, "");
    CHECK_EQ_U64(item->accepted_ns, one.task->accepted_ns);
    CHECK_EQ_U64(item->started_ns, 499);
    CHECK_EQ_U64(item->ended_ns, 500);
    tr_batch_release(batch);
    shop_close(&shop);
}

CASE(batch, flags_tell_what_became_of_it)
{
    struct tr__turn *turn = open_shop(4);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, 0);
    shop_cancel(&shop, one, "stop", 9);
    tr_batch *batch = shop_take(&shop, &turn->updates, 1);
    CHECK_EQ_INT(batch->items[0].flags, TR_ITEM_NOT_STARTED | TR_ITEM_TURN_IDLE);
    CHECK_EQ_U64(batch->items[0].started_ns, 0);
    CHECK_EQ_INT(batch->items[0].code, TR_ECANCELED);
    CHECK_EQ_STR(batch->items[0].reason, "stop");
    CHECK(batch->items[0].call_id.data == NULL && batch->items[0].result.data == NULL);
    tr_batch_release(batch);
    one = by_hand_admit(REGISTRY, turn_id, TR__TASK_REQUEST | TR__TASK_HOLD_RUN);
    shop_detach(&shop, one, 10);
    batch = shop_take(&shop, &turn->updates, 1);
    CHECK_EQ_INT(batch->items[0].type, TR_ITEM_DETACHED);
    CHECK_EQ_INT(batch->items[0].outcome, TR_OUTCOME_NONE);
    CHECK_EQ_INT(batch->items[0].kind, TR_KIND_BACKGROUND);
    CHECK_EQ_INT(batch->items[0].flags,
                 TR_ITEM_NOT_STARTED | TR_ITEM_WAS_DETACHED | TR_ITEM_TURN_IDLE);
    CHECK_EQ_U64(batch->items[0].ended_ns, 10);
    tr_batch_release(batch);
    CHECK_EQ_INT(tr__task_start(one.task, false).action, TR__ACTION_RUN);
    shop_cancel(&shop, one, NULL, 11);
    batch = shop_take(&shop, &turn->session->loop, 1);
    CHECK_EQ_INT(batch->items[0].flags,
                 TR_ITEM_WAS_DETACHED | TR_ITEM_ABANDONED | TR_ITEM_CONTINUE);
    tr_batch_release(batch);
    tr__settle_drop(&shop.completion, one.task, TR__TASK_HOLD_RUN);
    shop_close(&shop);
}

/* The item that ends the waiting carries the flag, whatever the size of the takes. */
CASE(batch, the_last_item_in_front_says_the_turn_is_idle)
{
    for (size_t items_max = 1; items_max <= 7; items_max++) {
        struct by_hand tasks[6];
        struct tr__turn *turn = open_shop(8);
        CHECK(tr__turn_is_idle(turn));
        for (unsigned i = 0; i < 6; i++) {
            tasks[i] = by_hand_admit(REGISTRY, turn_id, i == 5 ? TR__TASK_BACKGROUND : 0);
        }
        CHECK(!tr__turn_is_idle(turn));
        shop_cancel(&shop, tasks[5], NULL, 1); /* behind: not waited for, not taken here */
        shop_cancel(&shop, tasks[0], NULL, 1);
        shop_detach(&shop, tasks[1], 1);
        shop_cancel(&shop, tasks[1], NULL, 2); /* behind by now */
        for (unsigned i = 2; i < 5; i++) {
            shop_cancel(&shop, tasks[i], NULL, 3);
        }
        unsigned taken = 0;
        tr_batch *batch = NULL;
        while ((batch = shop_take(&shop, &turn->updates, items_max)) != NULL) {
            CHECK(batch->count <= items_max);
            for (size_t i = 0; i < batch->count; i++) {
                taken++;
                CHECK_EQ_U64(batch->items[i].task, tasks[taken - 1].id);
                CHECK_EQ_INT((batch->items[i].flags & TR_ITEM_TURN_IDLE) != 0, taken == 5);
            }
            tr_batch_release(batch);
        }
        CHECK_EQ_INT(taken, 5);
        CHECK(tr__turn_is_idle(turn));
        batch = shop_take(&shop, &turn->session->loop, 8);
        CHECK_EQ_INT(batch->count, 2);
        CHECK_EQ_INT((batch->items[0].flags | batch->items[1].flags) & TR_ITEM_TURN_IDLE, 0);
        tr_batch_release(batch);
        shop_close(&shop);
    }
}

/* Detached, taken, attached: the turn waits for it once more. */
CASE(batch, an_attached_task_makes_its_turn_wait_again)
{
    struct tr__turn *turn = open_shop(4);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, 0);
    shop_detach(&shop, one, 1);
    tr_batch_release(shop_take(&shop, &turn->updates, 1));
    CHECK(tr__turn_is_idle(turn));
    tr__store_release(&turn->launched, tr__load_relaxed(&turn->launched) + 1);
    CHECK_EQ_INT(tr__task_attach(one.task, one.id).action, TR__ACTION_ATTACHED);
    CHECK(!tr__turn_is_idle(turn));
    shop_cancel(&shop, one, NULL, 2);
    tr_batch *batch = shop_take(&shop, &turn->updates, 1);
    CHECK_EQ_INT(batch->items[0].kind, TR_KIND_FOREGROUND);
    CHECK_EQ_INT(batch->items[0].flags,
                 TR_ITEM_NOT_STARTED | TR_ITEM_WAS_DETACHED | TR_ITEM_TURN_IDLE);
    tr_batch_release(batch);
    shop_close(&shop);
}

CASE(batch, without_memory_everything_stays_in_place)
{
    struct by_hand tasks[3];
    struct tr__turn *turn = open_shop(4);
    for (unsigned i = 0; i < 3; i++) {
        tasks[i] = by_hand_admit(REGISTRY, turn_id, 0);
        shop_cancel(&shop, tasks[i], NULL, 1);
    }
    tr_batch *batch = (tr_batch *)&shop;
    CHECK(tr__token_try_take(&turn->updates.token));
    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr__batch_take(&shop.completion, &turn->updates, 8, &batch), TR_ENOMEM);
    CHECK(batch == (tr_batch *)&shop); /* nothing was written */
    CHECK_EQ_U64(tr__load_relaxed(&turn->settled), 0);
    CHECK_EQ_INT(tr__load_relaxed(&shop.completion.references), 1);
    tr__token_give(&turn->updates.token);
    batch = shop_take(&shop, &turn->updates, 8);
    CHECK_EQ_INT(batch->count, 3);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ_U64(batch->items[i].task, tasks[i].id);
    }
    tr_batch_release(batch);
    shop_close(&shop);
}

CASE(batch, an_empty_channel_needs_no_memory)
{
    struct tr__turn *turn = open_shop(4);
    tr__memory_fail_after(1);
    CHECK(shop_take(&shop, &turn->updates, TR__BATCH_MAX) == NULL);
    CHECK_EQ_INT(tr__memory_fail_left(), 1);
    tr__memory_fail_after(-1);
    tr_batch_release(NULL);
    shop_close(&shop);
}

CASE(batch, bytes_stay_until_the_release)
{
    struct tr__turn *turn = open_shop(2);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
    shop_finish(&shop, one, TR_OUTCOME_COMPLETED, "the result", 1);
    struct by_hand other = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
    struct by_hand more = {NULL, 0};
    tr_batch *batch = shop_take(&shop, &turn->updates, 1);
    CHECK_EQ_INT(by_hand_launch(REGISTRY, turn_id, 0, &more), TR_EAGAIN); /* still in use */
    CHECK(text_is(batch->items[0].result, "the result"));
    tr_batch_release(batch);
    more = by_hand_admit(REGISTRY, turn_id, 0);
    CHECK_EQ_PTR(more.task, one.task);
    CHECK(more.id != one.id);
    shop_cancel(&shop, more, NULL, 2);
    shop_finish(&shop, other, TR_OUTCOME_COMPLETED, NULL, 3);
    tr_batch_release(shop_take(&shop, &turn->updates, 8));
    shop_close(&shop);
}

/* The manager has gone; the host still has its batches. The last release turns off the light. */
CASE(batch, batches_outlive_everything_else)
{
    struct tr__turn *turn = open_shop(8);
    tr_batch *batches[3];
    for (unsigned i = 0; i < 3; i++) {
        struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
        shop_finish(&shop, one, TR_OUTCOME_COMPLETED, "kept", 1);
        batches[i] = shop_take(&shop, &turn->updates, 1);
    }
    tr__completion_unref(&shop.completion);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ_INT(shop.destroyed, 0);
        CHECK(text_is(batches[i]->items[0].result, "kept"));
        CHECK_EQ_STR(batches[i]->items[0].tool_name, "hammer");
        tr_batch_release(batches[i]);
    }
    CHECK_EQ_INT(shop.destroyed, 1);
}

static void open_queue(struct tr_queue *queue)
{
    memset((void *)queue, 0, sizeof *queue);
    tr__inbox_init(&queue->inbox);
}

/* A queue outlives what delivers into it: its consumer sorts out what nobody wants any more. */
CASE(batch, a_queue_drops_what_belongs_to_closed_homes)
{
    static struct tr_queue queue;
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    tr_session_id sessions[2];
    tr_turn_id turns[2];
    struct by_hand tasks[8];
    shop_open(&shop, 8);
    open_queue(&queue);
    options.queue = &queue;
    for (unsigned s = 0; s < 2; s++) {
        CHECK_EQ_INT(tr__registry_open_session(REGISTRY, &options, &sessions[s]), 0);
        turns[s] = by_hand_turn(REGISTRY, sessions[s]);
    }
    for (unsigned i = 0; i < 8; i++) { /* in front, behind, by hand, detached; of each session */
        uint64_t bits = i / 2 == 1   ? TR__TASK_BACKGROUND
                        : i / 2 == 2 ? TR__TASK_BACKGROUND | TR__TASK_MANUAL
                                     : 0;
        tasks[i] = by_hand_admit(REGISTRY, turns[i % 2], bits);
        if (i / 2 == 3) {
            shop_detach(&shop, tasks[i], 1);
        }
        shop_cancel(&shop, tasks[i], NULL, 2);
    }
    struct tr__session *session = by_hand_session_at(REGISTRY, sessions[0]);
    CHECK_EQ_INT(by_hand_close_turn(REGISTRY, turns[0]), 0);
    tr__store_seq_cst(&session->discarded, 1u);
    tr_batch *batch = shop_take(&shop, &queue.inbox, 16);
    CHECK_EQ_INT(batch->count, 5);
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ_U64(batch->items[i].session, sessions[1]);
        bool turn_item = batch->items[i].channel == TR_CHANNEL_TURN;
        CHECK_EQ_INT((batch->items[i].flags & TR_ITEM_TURN_IDLE) != 0,
                     turn_item && batch->items[i].type == TR_ITEM_DETACHED);
    }
    tr_batch_release(batch);
    CHECK_EQ_U64(tr__completion_count(&shop.completion, TR__COUNT_DISCARDED), 4);
    CHECK_EQ_INT(by_hand_used(REGISTRY).turns, 1);
    /* Nothing but what is dropped: no batch at all. */
    struct by_hand one = by_hand_admit(REGISTRY, turns[1], 0);
    shop_cancel(&shop, one, NULL, 3);
    CHECK_EQ_INT(by_hand_close_turn(REGISTRY, turns[1]), 0);
    CHECK(shop_take(&shop, &queue.inbox, 16) == NULL);
    CHECK_EQ_INT(tr__load_relaxed(&shop.completion.references), 1);
    CHECK_EQ_INT(by_hand_close_session(REGISTRY, sessions[0]), 0);
    CHECK_EQ_INT(by_hand_close_session(REGISTRY, sessions[1]), 0);
    CHECK_EQ_INT(tr__load_relaxed(&queue.bound), 0);
    tr__inbox_done(&queue.inbox);
    shop_close(&shop);
}

/* A request of a task of the present turn, as host/approval.c makes it. */
static struct tr__approval *ask(struct by_hand one)
{
    static const char bytes[] = "id-1meta{\"x\":1}";
    struct tr__arena_ref block;
    size_t size = sizeof(struct tr__approval) + sizeof bytes;
    struct tr__turn *turn = one.task->turn;
    CHECK_EQ_INT(tr__arena_block(&shop.completion.arena, size, &block), 0);
    struct tr__approval *approval = block.data;
    memset(approval, 0, size);
    approval->block = block;
    approval->task = one.id;
    approval->turn = turn->id;
    approval->session = turn->session->id;
    approval->tool = 1;
    approval->kind = TR_KIND_FOREGROUND;
    approval->approvals = 2;
    approval->call_id_size = 4;
    approval->metadata_size = 4;
    approval->input_size = 7;
    approval->asked_ns = 44;
    approval->accepted_ns = one.task->accepted_ns;
    memcpy(approval->reason, "dangerous", 10);
    memcpy(approval->summary, "rm -rf", 7);
    memcpy(approval->bytes, bytes, sizeof bytes);
    CHECK(tr__settle_approval(&shop.completion, approval, one.task));
    return approval;
}

CASE(batch, an_approval_request_stands_for_itself)
{
    struct tr__turn *turn = open_shop(4);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_APPROVAL);
    (void)ask(one);
    tr_batch *batch = shop_take(&shop, &turn->updates, 4);
    const tr_item *item = batch->items;
    CHECK_EQ_INT(batch->count, 1);
    CHECK_EQ_INT(item->type, TR_ITEM_APPROVAL);
    CHECK_EQ_INT(item->channel, TR_CHANNEL_TURN);
    CHECK_EQ_INT(item->outcome, TR_OUTCOME_NONE);
    CHECK_EQ_INT(item->flags, TR_ITEM_NOT_STARTED); /* the turn goes on waiting */
    CHECK_EQ_INT(item->approvals, 2);
    CHECK_EQ_U64(item->task, one.id);
    CHECK(text_is(item->call_id, "id-1"));
    CHECK(text_is(item->metadata, "meta"));
    CHECK(text_is(item->input, "{\"x\":1}"));
    CHECK_EQ_STR(item->reason, "dangerous");
    CHECK_EQ_STR(item->summary, "rm -rf");
    CHECK_EQ_U64(item->ended_ns, 44);
    CHECK(!tr__turn_is_idle(turn));
    /* The task may end while the request is still with the host. */
    shop_cancel(&shop, one, NULL, 50);
    tr_batch_release(shop_take(&shop, &turn->updates, 4));
    CHECK(tr__registry_task(REGISTRY, one.id) == NULL);
    CHECK(text_is(item->input, "{\"x\":1}"));
    tr_batch_release(batch);
    shop_close(&shop);
}

/* A background task by hand that needs approval is not swallowed (D10). */
CASE(batch, approval_requests_take_the_channel_of_their_task)
{
    static const uint64_t ways[] = {TR__TASK_BACKGROUND, TR__TASK_BACKGROUND | TR__TASK_MANUAL};
    struct tr__turn *turn = open_shop(4);
    struct tr__session *session = turn->session;
    for (unsigned i = 0; i < 2; i++) {
        struct tr__inbox *inbox = i == 0 ? &session->loop : &session->ready;
        struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_APPROVAL | ways[i]);
        (void)ask(one);
        CHECK(shop_take(&shop, &turn->updates, 4) == NULL);
        tr_batch *batch = shop_take(&shop, inbox, 4);
        CHECK_EQ_INT(batch->items[0].type, TR_ITEM_APPROVAL);
        CHECK_EQ_INT(batch->items[0].channel, i == 0 ? TR_CHANNEL_LOOP : TR_CHANNEL_READY);
        tr_batch_release(batch);
        /* The next request finds its session gone: dropped, and counted as no resolution. */
        (void)ask(one);
        tr__store_seq_cst(&session->discarded, 1u);
        CHECK(shop_take(&shop, inbox, 4) == NULL);
        tr__store_seq_cst(&session->discarded, 0u);
        shop_cancel(&shop, one, NULL, 1);
        tr_batch_release(shop_take(&shop, inbox, 4));
    }
    CHECK_EQ_U64(tr__completion_count(&shop.completion, TR__COUNT_DISCARDED), 0);
    shop_close(&shop);
}

CASE(batch, a_request_in_front_goes_with_its_turn)
{
    static struct tr_queue queue;
    tr_turn_options options = TR_TURN_OPTIONS_INIT;
    shop_open(&shop, 4);
    open_queue(&queue);
    options.queue = &queue;
    session_id = by_hand_session(REGISTRY);
    CHECK_EQ_INT(tr__registry_open_turn(REGISTRY, session_id, &options, &turn_id), 0);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_APPROVAL);
    (void)ask(one);
    shop_cancel(&shop, one, NULL, 1);
    CHECK_EQ_INT(by_hand_close_turn(REGISTRY, turn_id), 0);
    CHECK(shop_take(&shop, &queue.inbox, 4) == NULL);
    CHECK_EQ_U64(tr__completion_count(&shop.completion, TR__COUNT_DISCARDED), 1);
    tr__inbox_done(&queue.inbox);
    shop_close(&shop);
}

CASE(batch, an_inline_resolution_has_its_batch_reserved)
{
    (void)open_shop(2);
    tr__memory_fail_after(1);
    CHECK(tr__batch_reserve(&shop.completion) == NULL);
    tr_batch *batch = tr__batch_reserve(&shop.completion);
    CHECK(batch != NULL);
    tr__batch_unreserve(batch);
    CHECK_EQ_INT(tr__load_relaxed(&shop.completion.references), 1);
    batch = tr__batch_reserve(&shop.completion);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_INLINE | TR__TASK_HOLD_RUN);
    shop_finish(&shop, one, TR_OUTCOME_COMPLETED, "at once", 8);
    tr__batch_commit(batch, one.task);
    CHECK_EQ_INT(batch->count, 1);
    CHECK_EQ_INT(batch->items[0].channel, TR_CHANNEL_LAUNCH);
    CHECK_EQ_INT(batch->items[0].flags, 0);
    CHECK(text_is(batch->items[0].result, "at once"));
    tr_batch_release(batch);
    shop_close(&shop);
}
