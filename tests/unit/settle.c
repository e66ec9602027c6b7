/* Settle: from the end of a task to its channel: recorded, counted, told, freed, discarded. */
#include "completion/settle.h"

#include <toolring/error.h>

#include <pthread.h>

#include "support/wait.h"
#include "unit/completion_by_hand.h"

static struct shop shop;
#define REGISTRY (&shop.completion.registry)

static uint64_t count_of(enum tr__count which)
{
    return tr__completion_count(&shop.completion, which);
}

static struct tr__turn *open_turn(tr_session_id *ret_session, tr_turn_id *ret_turn)
{
    *ret_session = by_hand_session(REGISTRY);
    *ret_turn = by_hand_turn(REGISTRY, *ret_session);
    return by_hand_turn_at(REGISTRY, *ret_turn);
}

CASE(settle, each_kind_and_delivery_has_its_channel)
{
    static const struct {
        uint64_t bits;
        tr_channel channel;
    } ways[] = {
        {0, TR_CHANNEL_TURN},
        {TR__TASK_MANUAL, TR_CHANNEL_TURN}, /* in front, delivery does not matter */
        {TR__TASK_BACKGROUND, TR_CHANNEL_LOOP},
        {TR__TASK_BACKGROUND | TR__TASK_MANUAL, TR_CHANNEL_READY},
    };
    tr_session_id session_id = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 8);
    struct tr__turn *turn = open_turn(&session_id, &turn_id);
    struct tr__inbox *inboxes[] = {NULL, &turn->updates, &turn->session->loop,
                                   &turn->session->ready};
    for (unsigned i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct by_hand one = by_hand_admit(REGISTRY, turn_id, ways[i].bits | TR__TASK_HOLD_RUN);
        CHECK_EQ_U64(tr__completion_unfinished(&shop.completion), 1);
        shop_finish(&shop, one, TR_OUTCOME_COMPLETED, "done", 1000 + i);
        CHECK_EQ_U64(tr__completion_unfinished(&shop.completion), 0);
        for (unsigned c = TR_CHANNEL_TURN; c <= TR_CHANNEL_READY; c++) {
            tr_batch *batch = shop_take(&shop, inboxes[c], 10);
            CHECK_EQ_INT(batch != NULL, c == (unsigned)ways[i].channel);
            if (batch != NULL) {
                CHECK_EQ_INT(batch->count, 1);
                CHECK_EQ_INT(batch->items[0].channel, c);
                CHECK_EQ_U64(batch->items[0].task, one.id);
                CHECK_EQ_U64(batch->items[0].ended_ns, 1000 + i);
            }
            tr_batch_release(batch);
        }
        CHECK(tr__registry_task(REGISTRY, one.id) == NULL); /* released: the id is stale */
    }
    CHECK_EQ_U64(count_of(TR__COUNT_COMPLETED), 4);
    CHECK_EQ_U64(count_of(TR__COUNT_SETTLED), 4);
    shop_close(&shop);
}

CASE(settle, outcomes_are_counted_each_for_itself)
{
    tr_session_id session = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 8);
    struct tr__turn *turn = open_turn(&session, &turn_id);
    for (int outcome = TR_OUTCOME_COMPLETED; outcome <= TR_OUTCOME_LOST; outcome++) {
        struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
        shop_finish(&shop, one, (tr_outcome)outcome, NULL, 1);
        tr_batch *batch = shop_take(&shop, &turn->updates, 1);
        CHECK_EQ_INT(batch->items[0].outcome, outcome);
        tr_batch_release(batch);
        for (int other = TR_OUTCOME_COMPLETED; other <= TR_OUTCOME_LOST; other++) {
            CHECK_EQ_U64(count_of((enum tr__count)other), other <= outcome);
        }
    }
    shop_close(&shop);
}

/* The slot goes when the last of worker, host and detach item is done with it, in any order. */
CASE(settle, a_slot_waits_for_all_who_hold_it)
{
    for (unsigned order = 0; order < 6; order++) {
        tr_session_id session = 0;
        tr_turn_id turn_id = 0;
        shop_open(&shop, 1);
        struct tr__turn *turn = open_turn(&session, &turn_id);
        struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
        shop_detach(&shop, one, 5);
        shop_cancel(&shop, one, "enough", 6);
        tr_batch *batches[2] = {shop_take(&shop, &turn->updates, 1),
                                shop_take(&shop, &turn->session->loop, 1)};
        CHECK_EQ_INT(batches[0]->items[0].type, TR_ITEM_DETACHED);
        CHECK_EQ_INT(batches[1]->items[0].type, TR_ITEM_RESOLUTION);
        unsigned first = order / 2;
        unsigned second = (first + 1 + order % 2) % 3;
        unsigned last = 3 - first - second;
        const unsigned steps[3] = {first, second, last};
        for (unsigned i = 0; i < 3; i++) {
            CHECK(tr__registry_task(REGISTRY, one.id) == one.task);
            if (steps[i] < 2) {
                tr_batch_release(batches[steps[i]]);
            } else {
                shop_run_late(&shop, one);
            }
        }
        CHECK(tr__registry_task(REGISTRY, one.id) == NULL);
        CHECK_EQ_U64(count_of(TR__COUNT_DETACHED), 1);
        CHECK_EQ_U64(count_of(TR__COUNT_CANCELLED), 1);
        shop_close(&shop);
    }
}

static unsigned inputs_released;

static void release_input(void *context, void *data, size_t size)
{
    CHECK_EQ_PTR(context, &inputs_released);
    CHECK_EQ_STR((const char *)data, "borrowed");
    CHECK_EQ_INT(size, 9);
    inputs_released++;
}

/* Inputs may be read by the function until it returns; results until the host lets go. */
CASE(settle, inputs_live_as_long_as_the_function_results_as_long_as_the_host)
{
    static char borrowed[] = "borrowed";
    tr_session_id session = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 2);
    struct tr__turn *turn = open_turn(&session, &turn_id);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
    struct tr__cold *cold = tr__registry_cold(REGISTRY, one.task);
    struct tr__arena_ref in;
    CHECK_EQ_INT(tr__arena_block(&shop.completion.arena, 5000, &in), 0);
    one.task->in = in.data;
    one.task->in_origin = in.origin;
    one.task->input = borrowed;
    one.task->input_size = sizeof borrowed;
    tr__store_relaxed(&one.task->flags,
                      (uint8_t)(TR__TASK_FLAG_IN_BLOCK | TR__TASK_FLAG_INPUT_BORROWED));
    cold->input_release = release_input;
    cold->input_context = &inputs_released;
    uint64_t used = tr__arena_bytes_used(&shop.completion.arena);
    CHECK(used >= 5000);
    /* Ended while its function runs: the result goes with the host, inputs with the function. */
    CHECK_EQ_INT(tr__task_start(one.task, false).action, TR__ACTION_RUN);
    shop_cancel(&shop, one, NULL, 3);
    CHECK_EQ_U64(count_of(TR__COUNT_ABANDONED), 1);
    tr_batch *batch = shop_take(&shop, &turn->updates, 1);
    CHECK((batch->items[0].flags & TR_ITEM_ABANDONED) != 0);
    tr_batch_release(batch);
    CHECK_EQ_INT(inputs_released, 0);
    CHECK_EQ_U64(tr__arena_bytes_used(&shop.completion.arena), used);
    CHECK_EQ_INT(tr__task_finish(one.task, TR_OUTCOME_COMPLETED, false).action, TR__ACTION_LATE);
    tr__settle_drop(&shop.completion, one.task, TR__TASK_HOLD_RUN);
    CHECK_EQ_INT(inputs_released, 1);
    shop_close(&shop);
}

CASE(settle, reasons_are_copied_and_cut_where_characters_end)
{
    char reason[TR_REASON_BYTES_MAX + 40];
    tr_session_id session = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 2);
    struct tr__turn *turn = open_turn(&session, &turn_id);
    for (unsigned shift = 0; shift < 4; shift++) { /* snowmen of three bytes, from any place on */
        memset(reason, 'x', sizeof reason);
        for (unsigned i = shift; i + 3 < sizeof reason; i += 3) {
            memcpy(reason + i, "\xe2\x98\x83", 3);
        }
        reason[sizeof reason - 1] = '\0';
        struct by_hand one = by_hand_admit(REGISTRY, turn_id, 0);
        shop_cancel(&shop, one, reason, 1);
        tr_batch *batch = shop_take(&shop, &turn->updates, 1);
        size_t size = strlen(batch->items[0].reason);
        CHECK(size < TR_REASON_BYTES_MAX && size >= TR_REASON_BYTES_MAX - 3);
        CHECK_EQ_INT((size - shift) % 3, 0);
        CHECK_EQ_INT(memcmp(batch->items[0].reason, reason, size), 0);
        tr_batch_release(batch);
    }
    static const size_t sizes[] = {0, 1, TR_REASON_BYTES_MAX - 1};
    for (unsigned i = 0; i < 3; i++) { /* whole ones stay whole */
        memset(reason, 'r', sizeof reason);
        reason[sizes[i]] = '\0';
        shop_cancel(&shop, by_hand_admit(REGISTRY, turn_id, 0), reason, 1);
        tr_batch *batch = shop_take(&shop, &turn->updates, 1);
        CHECK_EQ_INT(strlen(batch->items[0].reason), sizes[i]);
        tr_batch_release(batch);
    }
    shop_close(&shop);
}

CASE(settle, an_outcome_is_not_lost_for_want_of_memory_for_its_reason)
{
    tr_session_id session = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 2);
    struct tr__turn *turn = open_turn(&session, &turn_id);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, 0);
    tr__memory_fail_after(1);
    shop_cancel(&shop, one, "because", 1);
    CHECK_EQ_INT(tr__memory_fail_left(), 0);
    tr_batch *batch = shop_take(&shop, &turn->updates, 1);
    CHECK_EQ_STR(batch->items[0].reason, "");
    CHECK_EQ_INT(batch->items[0].outcome, TR_OUTCOME_CANCELLED);
    tr_batch_release(batch);
    shop_close(&shop);
}

static int read_one(tr_reader *reader, tr_event *event)
{
    return tr_reader_read(reader, event, 1, 0);
}

CASE(settle, events_come_in_the_order_of_the_contract)
{
    tr_session_id session = 0;
    tr_turn_id turn_id = 0;
    tr_reader *reader = NULL;
    tr_event event;
    shop_open(&shop, 4);
    struct tr__turn *turn = open_turn(&session, &turn_id);
    CHECK_EQ_INT(tr__reader_open(&shop.completion.events, NULL, &reader), 0);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN | TR__TASK_REQUEST);
    shop_detach(&shop, one, 11);
    shop_finish(&shop, one, TR_OUTCOME_FAILED, "oh", 12);
    static const tr_event_type wanted[] = {TR_EVENT_DETACHED, TR_EVENT_FAILED,
                                           TR_EVENT_CONTINUE_REQUESTED};
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ_INT(read_one(reader, &event), 1);
        CHECK_EQ_INT(event.type, wanted[i]);
        CHECK_EQ_U64(event.snapshot.task, one.id);
        CHECK_EQ_U64(event.time_ns, i == 0 ? 11 : 12);
        CHECK_EQ_INT(event.snapshot.kind, TR_KIND_BACKGROUND);
        CHECK_EQ_INT(event.snapshot.state, i == 0 ? TR_STATE_QUEUED : TR_STATE_ENDED);
    }
    CHECK(read_one(reader, &event) <= 0);
    CHECK_EQ_U64(tr__task_word(one.task) & TR__TASK_PUBLISHING, 0);
    tr_batch_release(shop_take(&shop, &turn->updates, 4));
    tr_batch *batch = shop_take(&shop, &turn->session->loop, 4);
    CHECK((batch->items[0].flags & TR_ITEM_CONTINUE) != 0);
    tr_batch_release(batch);
    /* In front, and by hand, nothing is asked of the loop. */
    static const uint64_t others[] = {TR__TASK_REQUEST,
                                      TR__TASK_REQUEST | TR__TASK_BACKGROUND | TR__TASK_MANUAL};
    for (unsigned i = 0; i < 2; i++) {
        one = by_hand_admit(REGISTRY, turn_id, others[i] | TR__TASK_HOLD_RUN);
        shop_finish(&shop, one, TR_OUTCOME_COMPLETED, NULL, 20);
        CHECK_EQ_INT(read_one(reader, &event), 1);
        CHECK_EQ_INT(event.type, TR_EVENT_COMPLETED);
        CHECK(read_one(reader, &event) <= 0);
        batch = shop_take(&shop, i == 0 ? &turn->updates : &turn->session->ready, 4);
        CHECK_EQ_INT(batch->items[0].flags & TR_ITEM_CONTINUE, 0);
        tr_batch_release(batch);
    }
    tr_reader_close(reader);
    shop_close(&shop);
}

CASE(settle, without_readers_nothing_is_recorded)
{
    tr_session_id session = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 4);
    struct tr__turn *turn = open_turn(&session, &turn_id);
    shop_cancel(&shop, by_hand_admit(REGISTRY, turn_id, 0), NULL, 1);
    CHECK_EQ_U64(tr__events_recorded(&shop.completion.events), 0);
    tr_batch_release(shop_take(&shop, &turn->updates, 1));
    shop_close(&shop);
}

/* As host/sessions.c closes a turn, cancelling apart. */
static void close_turn(tr_turn_id id)
{
    struct tr__lane *lane = NULL;
    struct tr__turn *turn = tr__registry_lock_turn(REGISTRY, id, &lane);
    CHECK(turn != NULL);
    tr__registry_close_turn(REGISTRY, turn);
    tr__settle_discard(&shop.completion, tr__completion_shared(&shop.completion), &turn->updates);
    tr__turn_leave(turn, lane);
    tr__registry_reclaim(REGISTRY, lane);
    tr__lane_unlock(lane);
}

CASE(settle, what_comes_to_a_closed_turn_is_discarded)
{
    tr_session_id session = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 8);
    (void)open_turn(&session, &turn_id);
    struct by_hand before = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
    struct by_hand after = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
    struct by_hand aside = by_hand_admit(REGISTRY, turn_id, TR__TASK_HOLD_RUN);
    struct by_hand orphan =
        by_hand_admit(REGISTRY, turn_id, TR__TASK_BACKGROUND | TR__TASK_HOLD_RUN);
    shop_finish(&shop, before, TR_OUTCOME_COMPLETED, "before", 1);
    close_turn(turn_id);
    CHECK_EQ_U64(count_of(TR__COUNT_DISCARDED), 1);
    CHECK(tr__registry_task(REGISTRY, before.id) == NULL);
    shop_finish(&shop, after, TR_OUTCOME_COMPLETED, "after", 2);
    CHECK_EQ_U64(count_of(TR__COUNT_DISCARDED), 2);
    CHECK(tr__registry_task(REGISTRY, after.id) == NULL);
    shop_detach(&shop, aside, 3); /* its item goes the same way, but is no resolution */
    CHECK_EQ_U64(count_of(TR__COUNT_DISCARDED), 2);
    /* What is in the background still reaches its session. */
    shop_finish(&shop, orphan, TR_OUTCOME_COMPLETED, "orphan", 4);
    shop_finish(&shop, aside, TR_OUTCOME_COMPLETED, "aside", 5);
    tr_batch *batch = shop_take(&shop, &by_hand_session_at(REGISTRY, session)->loop, 4);
    CHECK_EQ_INT(batch->count, 2);
    CHECK_EQ_U64(batch->items[0].task, orphan.id);
    CHECK_EQ_U64(batch->items[0].turn, turn_id); /* stale, and still its name */
    CHECK((batch->items[1].flags & TR_ITEM_WAS_DETACHED) != 0);
    tr_batch_release(batch);
    CHECK_EQ_INT(by_hand_used(REGISTRY).turns, 0);
    shop_close(&shop);
}

CASE(settle, what_comes_to_a_discarded_session_is_discarded)
{
    tr_session_id session_id = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 8);
    struct tr__session *session = open_turn(&session_id, &turn_id)->session;
    for (unsigned i = 0; i < 4; i++) { /* before and after, loop and ready */
        uint64_t bits = TR__TASK_BACKGROUND | (i % 2 != 0 ? TR__TASK_MANUAL : 0);
        if (i == 2) {
            struct tr__lane *lane = by_hand_lane(REGISTRY, &session->lane);
            tr__lane_lock(lane);
            tr__store_seq_cst(&session->discarded, 1u);
            tr__settle_discard(&shop.completion, tr__completion_shared(&shop.completion),
                               &session->loop);
            tr__settle_discard(&shop.completion, tr__completion_shared(&shop.completion),
                               &session->ready);
            tr__lane_unlock(lane);
            CHECK_EQ_U64(count_of(TR__COUNT_DISCARDED), 2);
        }
        struct by_hand one = by_hand_admit(REGISTRY, turn_id, bits | TR__TASK_HOLD_RUN);
        shop_finish(&shop, one, TR_OUTCOME_COMPLETED, "x", 1);
    }
    CHECK_EQ_U64(count_of(TR__COUNT_DISCARDED), 4);
    shop_close(&shop);
}

CASE(settle, inline_resolutions_are_pushed_nowhere)
{
    tr_session_id session = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 2);
    struct tr__turn *turn = open_turn(&session, &turn_id);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id, TR__TASK_INLINE | TR__TASK_HOLD_RUN);
    shop_finish(&shop, one, TR_OUTCOME_COMPLETED, "here", 1);
    CHECK(shop_take(&shop, &turn->updates, 4) == NULL);
    CHECK(tr__turn_is_idle(turn)); /* nobody waits for it either */
    tr__settle_drop(&shop.completion, one.task, TR__TASK_HOLD_RESULT);
    CHECK(tr__registry_task(REGISTRY, one.id) == NULL);
    shop_close(&shop);
}

enum {
    ENDERS = 3,
    TASKS_EACH = 8,
#if defined(TR__WITH_TSAN)
    ROUNDS = 150,
#else
    ROUNDS = 1500,
#endif
};

struct race {
    struct by_hand tasks[ENDERS][TASKS_EACH];
    pthread_barrier_t begin;
    pthread_barrier_t end;
};

static struct race race;

static void *end_main(void *context)
{
    struct by_hand *tasks = context;
    for (unsigned round = 0; round < ROUNDS; round++) {
        (void)pthread_barrier_wait(&race.begin);
        for (unsigned i = 0; i < TASKS_EACH; i++) {
            shop_cancel(&shop, tasks[i], i % 2 != 0 ? "because" : NULL, i);
        }
        (void)pthread_barrier_wait(&race.end);
    }
    return NULL;
}

/* A turn is closed while its tasks end: whichever side comes second, nothing stays in its inbox. */
CASE_TIMEOUT(settle, closing_races_with_ending_and_leaves_nothing, 120)
{
    pthread_t threads[ENDERS];
    shop_open(&shop, ENDERS * TASKS_EACH);
    tr_session_id session = by_hand_session(REGISTRY);
    CHECK_EQ_INT(pthread_barrier_init(&race.begin, NULL, ENDERS + 1), 0);
    CHECK_EQ_INT(pthread_barrier_init(&race.end, NULL, ENDERS + 1), 0);
    for (unsigned t = 0; t < ENDERS; t++) {
        CHECK_EQ_INT(pthread_create(&threads[t], NULL, end_main, race.tasks[t]), 0);
    }
    for (unsigned round = 1; round <= ROUNDS; round++) {
        tr_turn_id turn = by_hand_turn(REGISTRY, session);
        for (unsigned i = 0; i < ENDERS * TASKS_EACH; i++) {
            race.tasks[i % ENDERS][i / ENDERS] = by_hand_admit(REGISTRY, turn, 0);
        }
        (void)pthread_barrier_wait(&race.begin);
        close_turn(turn);
        (void)pthread_barrier_wait(&race.end);
        CHECK_EQ_U64(count_of(TR__COUNT_DISCARDED), (uint64_t)round * ENDERS * TASKS_EACH);
        CHECK_EQ_INT(by_hand_used(REGISTRY).turns, 0);
        CHECK_EQ_INT(by_hand_used(REGISTRY).tasks, 0);
    }
    for (unsigned t = 0; t < ENDERS; t++) {
        CHECK_EQ_INT(pthread_join(threads[t], NULL), 0);
    }
    shop_close(&shop);
}

static void *finish_main(void *context)
{
    shop_finish(&shop, *(struct by_hand *)context, TR_OUTCOME_COMPLETED, NULL, 20);
    return NULL;
}

/* Who finds nothing unfinished, as a close does before it ends the log, has all events in it. */
CASE(settle, the_last_event_comes_before_all_is_quiet)
{
    pthread_t thread;
    tr_reader *reader = NULL;
    tr_session_id session = 0;
    tr_turn_id turn_id = 0;
    shop_open(&shop, 1);
    struct tr__events *events = &shop.completion.events;
    struct tr__turn *turn = open_turn(&session, &turn_id);
    CHECK_EQ_INT(tr__reader_open(events, NULL, &reader), 0);
    struct by_hand one = by_hand_admit(REGISTRY, turn_id,
                                       TR__TASK_HOLD_RUN | TR__TASK_BACKGROUND | TR__TASK_REQUEST);
    /* COMPLETED, then CONTINUE_REQUESTED, whose place somebody seems to be writing to still. */
    struct tr__events_slot *slots = tr__load_acquire(&events->slots);
    struct tr__events_slot *second = tr__events_slot_at(events, slots, 2);
    tr__store_relaxed(&second->word[TR__EVENTS_STAMP], UINT64_C(1));
    CHECK_EQ_INT(pthread_create(&thread, NULL, finish_main, &one), 0);
    WAIT_UNTIL(tr__events_recorded(events) == 2, 20);
    CHECK_EQ_U64(tr__completion_unfinished(&shop.completion), 1);
    tr__store_release(&second->word[TR__EVENTS_STAMP], UINT64_C(0));
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
    CHECK_EQ_U64(tr__completion_unfinished(&shop.completion), 0);
    tr_batch_release(shop_take(&shop, &turn->session->loop, 4));
    tr_reader_close(reader);
    shop_close(&shop);
}

CASE(settle, every_allocation_of_a_completion_may_fail)
{
    struct tr__completion_config config = {
        .registry = {4, 4, 4, 4}, .seats = 1, .events_max = 16, .readers_max = 2, .bytes_max = 1};
    long n = 1;
    for (;; n++) {
        memset((void *)&shop, 0, sizeof shop);
        tr__memory_fail_after(n);
        int error = tr__completion_init(&shop.completion, &config);
        if (error == 0) {
            break;
        }
        CHECK_EQ_INT(error, TR_ENOMEM);
        CHECK_EQ_INT(tr__memory_fail_left(), 0);
    }
    tr__memory_fail_after(-1);
    CHECK(n > 5);
    tr__completion_done(&shop.completion);
}
