/*
 * take.c: the threads that take what is ready: waiters of turns, takers of sessions, drainers of
 * queues.
 *
 * Each holds some of its batches for a while, and looks at their bytes again before it releases
 * them. When the run is `drained` each empties all it looks after and leaves; a waiter that sleeps
 * for ever on a turn must then be woken by that turn having become idle.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "contract/contract.h"

#define PURSE 8u

struct purse {
    tr_batch *batches[PURSE];
    unsigned count;
    struct chance chance;
    unsigned thread; /* for the watchdog */
};

static void purse_release(struct purse *purse, unsigned which)
{
    tr_batch *batch = purse->batches[which];
    purse->batches[which] = purse->batches[--purse->count];
    batch_released(batch);
}

/* Looks at a batch, answers its requests, and keeps it for a while or not. */
static void purse_put(struct purse *purse, tr_batch *batch, uint64_t from)
{
    batch_taken(batch, from);
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->items[i].type == TR_ITEM_APPROVAL) {
            answer_request(record_of(batch->items[i].user), &purse->chance);
        }
    }
    if (purse->count == PURSE) {
        purse_release(purse, chance_below(&purse->chance, PURSE));
    }
    purse->batches[purse->count++] = batch;
    if (chance_once_in(&purse->chance, 2)) {
        purse_release(purse, purse->count - 1);
    }
}

/* Between two takes: what is held must go some time, or nothing is left to launch with. */
static void purse_air(struct purse *purse)
{
    if (purse->count > 0 && chance_once_in(&purse->chance, 4)) {
        purse_release(purse, chance_below(&purse->chance, purse->count));
    }
}

static void purse_empty(struct purse *purse)
{
    (void)pthread_mutex_lock(&world->kept_lock);
    while (world->shape.keep && purse->count > 0 &&
           world->kept_count < sizeof world->kept / sizeof world->kept[0]) {
        world->kept[world->kept_count++] = purse->batches[--purse->count];
    }
    (void)pthread_mutex_unlock(&world->kept_lock);
    while (purse->count > 0) {
        purse_release(purse, 0);
    }
}

static size_t items_wanted(struct purse *purse)
{
    return 1 + chance_below(&purse->chance, chance_once_in(&purse->chance, 2) ? 3 : 100);
}

/* ── Turns ───────────────────────────────────────────────────────────────────────────────────── */

/* Returns how often the tokens before were cancelled. */
static uint64_t token_replace(unsigned waiter)
{
    tr_token *fresh = NULL;
    MUST(tr_token_open(&fresh) == 0, "tr_token_open");
    (void)pthread_mutex_lock(&world->token_lock[waiter]);
    tr_token *old = atomic_exchange(&world->tokens[waiter], fresh);
    uint64_t cancels = world->tokens_cancelled[waiter];
    (void)pthread_mutex_unlock(&world->token_lock[waiter]);
    tr_token_close(old);
    return cancels;
}

static void check_wait(struct model_turn *turn, int result, uint64_t timeout, int64_t before,
                       unsigned waiter, uint64_t cancels)
{
    bool closing = turn->closing || turn->session->closing;
    switch (result) {
    case TR_WAIT_IDLE:
        MUST(before <= 0, "turn %u is said to be idle with %lld tasks in front", turn->index,
             (long long)before);
        break;
    case TR_ENOENT:
        MUST(closing, "tr_turn_wait: %s, though turn %u is open", tr_error_name(result),
             turn->index);
        break;
    case TR_ECANCELED:
        MUST(atomic_load(&world->tokens_cancelled[waiter]) > cancels,
             "tr_turn_wait: TR_ECANCELED by nobody");
        break;
    case TR_ETIMEDOUT:
        MUST(timeout != TR_FOREVER, "tr_turn_wait: TR_ETIMEDOUT of TR_FOREVER");
        break;
    case TR_ESTATE:
        MUST(turn->bound, "tr_turn_wait: TR_ESTATE of turn %u", turn->index);
        break;
    default:
        violation("tr_turn_wait: %d, %s", result, tr_error_name(result));
    }
}

/* Returns how many items came. */
static size_t wait_turn(struct purse *purse, unsigned waiter, struct model_turn *turn,
                        uint64_t timeout, uint64_t *cancels)
{
    tr_batch *batch = NULL;
    size_t count = 0;
    if (!turn->opened || pthread_mutex_trylock(&turn->waiter) != 0) {
        return 0;
    }
    int64_t before = turn->foreground;
    uint64_t from = stamp();
    int result = tr_turn_wait(world->manager, turn->id, world->tokens[waiter], timeout,
                              items_wanted(purse), &batch);
    if (result == TR_WAIT_ITEMS) {
        count = batch->count;
        MUST(count > 0, "an empty batch");
        for (size_t i = 0; i < count; i++) {
            MUST(batch->items[i].turn == turn->id && batch->items[i].channel == TR_CHANNEL_TURN,
                 "turn %u was given an item of another", turn->index);
        }
        purse_put(purse, batch, from);
    } else {
        check_wait(turn, result, timeout, before, waiter, *cancels);
        if (result == TR_ECANCELED) {
            *cancels = token_replace(waiter);
        }
    }
    (void)pthread_mutex_unlock(&turn->waiter);
    return count;
}

static struct model_turn *turn_any(struct chance *chance)
{
    uint32_t count = world->turns_count;
    struct model_turn *turn = turn_at(chance_next(chance));
    if ((turn == NULL || chance_once_in(chance, 4)) && count > 0) {
        turn = &world->turns[chance_below(chance, count)];
    }
    return turn;
}

void *waiter_main(void *argument)
{
    static const uint64_t timeouts[] = {0, TR_MILLISECOND, 20 * TR_MILLISECOND, TR_FOREVER};
    unsigned waiter = (unsigned)(uintptr_t)argument;
    struct purse purse = {.chance = chance_from(world->seed, 100 + waiter), .thread = 16 + waiter};
    uint64_t cancels = token_replace(waiter);
    while (!world->drained) {
        struct model_turn *turn = turn_any(&purse.chance);
        uint64_t timeout = timeouts[chance_below(&purse.chance, 4)];
        if (turn == NULL) {
            (void)sched_yield();
            continue;
        }
        at(purse.thread, timeout == TR_FOREVER ? "tr_turn_wait for ever" : "tr_turn_wait");
        (void)wait_turn(&purse, waiter, turn, timeout, &cancels);
        at(purse.thread, "between waits");
        purse_air(&purse);
    }
    cancels = token_replace(waiter); /* the old one may be cancelled */
    for (uint32_t i = 0; i < world->turns_count; i++) {
        while (wait_turn(&purse, waiter, &world->turns[i], 0, &cancels) > 0) {
        }
    }
    purse_empty(&purse);
    tr_token_close(atomic_exchange(&world->tokens[waiter], NULL));
    at(purse.thread, "has finished");
    return NULL;
}

/* ── Sessions ────────────────────────────────────────────────────────────────────────────────── */

static int take_session(struct purse *purse, struct model_session *session, bool ready,
                        uint64_t timeout)
{
    tr_batch *batch = NULL;
    if (!session->opened || session->gone) {
        return 0;
    }
    uint64_t from = stamp();
    size_t wanted = items_wanted(purse);
    int count = ready ? tr_ready_take(world->manager, session->id, timeout, wanted, &batch)
                      : tr_loop_take(world->manager, session->id, timeout, wanted, &batch);
    if (count > 0) {
        tr_channel channel = ready ? TR_CHANNEL_READY : TR_CHANNEL_LOOP;
        MUST(batch->count == (size_t)count, "a batch of %zu, not %d", batch->count, count);
        for (int i = 0; i < count; i++) {
            MUST(batch->items[i].session == session->id && batch->items[i].channel == channel,
                 "session %u was given an item of another", session->index);
        }
        purse_put(purse, batch, from);
        return count;
    }
    MUST(batch == NULL, "a batch with nothing taken");
    if (count == TR_ENOENT) {
        MUST(session->closing, "session %u is gone, though it was not closed", session->index);
        atomic_store(&session->gone, true);
    } else if (count == TR_ECLOSED) {
        MUST(session->closing || world->closing, "session %u is closed by nobody", session->index);
    } else if (count == TR_ESTATE) {
        MUST(session->queue != NULL, "session %u is said to be bound", session->index);
        atomic_store(&session->gone, true);
    } else {
        MUST(count == 0 || count == TR_EBUSY, "taking from session %u: %s", session->index,
             tr_error_name(count));
    }
    return count;
}

void *taker_main(void *argument)
{
    static const uint64_t timeouts[] = {0, TR_MILLISECOND, 3 * TR_MILLISECOND, 30 * TR_MILLISECOND};
    unsigned taker = (unsigned)(uintptr_t)argument;
    struct purse purse = {.chance = chance_from(world->seed, 200 + taker), .thread = 24 + taker};
    uint32_t next = taker;
    while (!world->drained) {
        uint32_t count = world->sessions_count;
        uint64_t timeout = timeouts[chance_below(&purse.chance, 4)];
        if (count == 0) {
            (void)sched_yield();
            continue;
        }
        bool ready = chance_once_in(&purse.chance, 2);
        at(purse.thread, "taking from a session");
        (void)take_session(&purse, &world->sessions[next++ % count], ready, timeout);
        purse_air(&purse);
    }
    for (uint32_t i = 0; i < world->sessions_count; i++) {
        for (int ready = 0; ready < 2; ready++) {
            int count = 1;
            while (count > 0 || count == TR_EBUSY) {
                count = take_session(&purse, &world->sessions[i], ready != 0, 0);
            }
        }
    }
    purse_empty(&purse);
    at(purse.thread, "has finished");
    return NULL;
}

/* ── Queues ──────────────────────────────────────────────────────────────────────────────────── */

static int drain(struct purse *purse, tr_queue *queue, uint64_t timeout)
{
    tr_batch *batch = NULL;
    uint64_t from = stamp();
    int count = tr_queue_drain(queue, timeout, items_wanted(purse), &batch);
    if (count <= 0) {
        MUST(batch == NULL && (count == 0 || (count == TR_ECLOSED && world->closing)),
             "tr_queue_drain: %s", tr_error_name(count));
        return count;
    }
    for (int i = 0; i < count; i++) {
        const struct record *record = record_of(batch->items[i].user);
        bool own = batch->items[i].channel == TR_CHANNEL_TURN
                       ? record->turn->bound
                       : record->turn->session->queue == queue;
        MUST(own, "call %u: drained from a queue that it is not bound to", record->index);
    }
    purse_put(purse, batch, from);
    return count;
}

void *drainer_main(void *argument)
{
    struct purse purse = {.chance = chance_from(world->seed, 300), .thread = 28};
    (void)argument;
    while (!world->drained) {
        at(purse.thread, "tr_queue_drain");
        uint64_t timeout = chance_below(&purse.chance, 20) * TR_MILLISECOND;
        if (drain(&purse, world->queues[0], timeout) == TR_ECLOSED) {
            break;
        }
        purse_air(&purse);
    }
    while (drain(&purse, world->queues[0], 0) > 0) {
    }
    purse_empty(&purse);
    at(purse.thread, "has finished");
    return NULL;
}

/* The same by poll(2): what waits although the descriptor was silent for seconds was never
 * announced. */
void *poller_main(void *argument)
{
    struct purse purse = {.chance = chance_from(world->seed, 301), .thread = 29};
    struct pollfd polls[2] = {{tr_queue_fd(world->queues[1]), POLLIN, 0},
                              {world->stop_fd, POLLIN, 0}};
    int silence_ms = 5000;
    (void)argument;
    MUST(polls[0].fd >= 0, "tr_queue_fd: %s", tr_error_name(polls[0].fd));
    while (!world->drained) {
        uint64_t from = now_ns();
        at(purse.thread, "polling a queue");
        int ready = poll(polls, 2, silence_ms);
        MUST(ready >= 0 || errno == EINTR, "poll: %s", strerror(errno));
        unsigned before = purse.count;
        int count = drain(&purse, world->queues[1], 0);
        if (ready == 0 && count > 0 && purse.count > before) {
            const tr_batch *batch = purse.batches[purse.count - 1];
            MUST(batch->items[0].ended_ns > from + TR_SECOND, "a queue's descriptor was silent");
        }
        purse_air(&purse);
    }
    while (drain(&purse, world->queues[1], 0) > 0) {
    }
    purse_empty(&purse);
    at(purse.thread, "has finished");
    return NULL;
}
