/* MPSC under contention: nothing lost, nothing twice, each producer's order kept. */
#include "parts/mpsc.h"

#include <pthread.h>
#include <sched.h>

#include "base/clock.h"
#include "base/memory.h"
#include "parts/parker.h"
#include "support/case.h"
#include "support/wait.h"

enum {
    PRODUCERS = 8,
    CONSUMERS = 3,
#if defined(TR__WITH_TSAN)
    ITEMS = 10000,
#else
    ITEMS = 100000,
#endif
    CHAIN_MAX = 5,
};

struct item {
    struct tr__mpsc_node node;
    unsigned producer;
    unsigned sequence;
};

struct arena {
    struct tr__mpsc queue;
    struct tr__token token;
    struct tr__parker parker;
    struct item *items;           /* PRODUCERS * ITEMS */
    unsigned expected[PRODUCERS]; /* next sequence; consumer role */
    tr__atomic_u32 popped;
    tr__atomic_u32 busy;
    bool notify;
    pthread_barrier_t start;
};

struct producer {
    struct arena *arena;
    unsigned number;
    pthread_t thread;
};

static void arena_open(struct arena *arena, bool notify, unsigned threads)
{
    tr__mpsc_init(&arena->queue);
    tr__token_init(&arena->token);
    tr__parker_init(&arena->parker);
    arena->items = tr__memory_take_zero(sizeof(struct item) * PRODUCERS * ITEMS);
    CHECK(arena->items != NULL);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        arena->expected[i] = 0;
    }
    tr__store_relaxed(&arena->popped, 0u);
    tr__store_relaxed(&arena->busy, 0u);
    arena->notify = notify;
    CHECK_EQ_INT(pthread_barrier_init(&arena->start, NULL, threads), 0);
}

static void arena_close(struct arena *arena)
{
    CHECK(tr__mpsc_is_empty(&arena->queue));
    CHECK_EQ_INT(tr__load_relaxed(&arena->popped), PRODUCERS * ITEMS);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        CHECK_EQ_INT(arena->expected[i], ITEMS);
    }
    CHECK_EQ_INT(pthread_barrier_destroy(&arena->start), 0);
    tr__memory_give(arena->items);
}

/* Pushes ITEMS items, singly and in chains of random length. */
static void *produce(void *context)
{
    struct producer *producer = context;
    struct arena *arena = producer->arena;
    struct item *mine = arena->items + (size_t)producer->number * ITEMS;
    struct case_random random;
    case_random_init(&random, producer->number);
    (void)pthread_barrier_wait(&arena->start);
    for (unsigned next = 0; next < ITEMS;) {
        unsigned length = 1 + (unsigned)case_random_below(&random, CHAIN_MAX);
        length = length < ITEMS - next ? length : ITEMS - next;
        for (unsigned i = next; i < next + length; i++) {
            mine[i].producer = producer->number;
            mine[i].sequence = i;
            if (i > next) {
                tr__mpsc_link(&mine[i - 1].node, &mine[i].node);
            }
        }
        if (length == 1) {
            tr__mpsc_push(&arena->queue, &mine[next].node);
        } else {
            tr__mpsc_push_chain(&arena->queue, &mine[next].node, &mine[next + length - 1].node);
        }
        next += length;
        if (arena->notify) {
            (void)tr__parker_notify(&arena->parker);
        }
    }
    return NULL;
}

static void start_producers(struct arena *arena, struct producer *producers)
{
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.arena = arena, .number = i};
        CHECK_EQ_INT(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
}

static void join_producers(struct producer *producers)
{
    for (unsigned i = 0; i < PRODUCERS; i++) {
        CHECK_EQ_INT(pthread_join(producers[i].thread, NULL), 0);
    }
}

/* Consumer role: takes one item and checks its place in its producer's order. */
static enum tr__mpsc_result consume(struct arena *arena)
{
    struct tr__mpsc_node *node;
    enum tr__mpsc_result result = tr__mpsc_pop(&arena->queue, &node);
    if (result == TR__MPSC_ITEM) {
        struct item *item = TR__CONTAINER_OF(node, struct item, node);
        CHECK(item->producer < PRODUCERS);
        CHECK_EQ_INT(item->sequence, arena->expected[item->producer]);
        arena->expected[item->producer]++;
        (void)tr__fetch_add_relaxed(&arena->popped, 1u);
    } else if (result == TR__MPSC_BUSY) {
        (void)tr__fetch_add_relaxed(&arena->busy, 1u);
    }
    return result;
}

CASE_TIMEOUT(mpsc_concurrency, nothing_is_lost_or_reordered, 60)
{
    struct arena arena;
    struct producer producers[PRODUCERS];
    arena_open(&arena, false, PRODUCERS + 1);
    start_producers(&arena, producers);
    (void)pthread_barrier_wait(&arena.start);
    while (tr__load_relaxed(&arena.popped) < PRODUCERS * ITEMS) {
        if (consume(&arena) != TR__MPSC_ITEM) {
            (void)sched_yield();
        }
    }
    join_producers(producers);
    CHECK_EQ_INT(consume(&arena), TR__MPSC_EMPTY);
    arena_close(&arena);
}

/* The whole protocol: the consumer parks whenever the queue is empty. A lost wake-up hangs. */
CASE_TIMEOUT(mpsc_concurrency, a_parking_consumer_is_always_woken, 60)
{
    struct arena arena;
    struct producer producers[PRODUCERS];
    arena_open(&arena, true, PRODUCERS + 1);
    start_producers(&arena, producers);
    (void)pthread_barrier_wait(&arena.start);
    while (tr__load_relaxed(&arena.popped) < PRODUCERS * ITEMS) {
        enum tr__mpsc_result result = consume(&arena);
        if (result == TR__MPSC_BUSY) {
            (void)sched_yield();
        } else if (result == TR__MPSC_EMPTY) {
            tr__parker_prepare(&arena.parker);
            if (tr__mpsc_is_empty(&arena.queue)) {
                CHECK_EQ_INT(tr__parker_wait(&arena.parker, TR__FOREVER), 0);
            } else {
                tr__parker_cancel(&arena.parker);
            }
        }
    }
    join_producers(producers);
    arena_close(&arena);
}

/* Takes the token, pops a handful, gives it back, whatever pop said last. */
static void *steal(void *context)
{
    struct arena *arena = context;
    (void)pthread_barrier_wait(&arena->start);
    while (tr__load_relaxed(&arena->popped) < PRODUCERS * ITEMS) {
        if (tr__token_try_take(&arena->token)) {
            enum tr__mpsc_result result = TR__MPSC_ITEM;
            for (int i = 0; i < 32 && result == TR__MPSC_ITEM; i++) {
                result = consume(arena);
            }
            tr__token_give(&arena->token);
        }
        (void)sched_yield();
    }
    return NULL;
}

CASE_TIMEOUT(mpsc_concurrency, the_consumer_role_travels_with_the_token, 60)
{
    struct arena arena;
    struct producer producers[PRODUCERS];
    pthread_t consumers[CONSUMERS];
    arena_open(&arena, false, PRODUCERS + CONSUMERS);
    start_producers(&arena, producers);
    for (int i = 0; i < CONSUMERS; i++) {
        CHECK_EQ_INT(pthread_create(&consumers[i], NULL, steal, &arena), 0);
    }
    join_producers(producers);
    for (int i = 0; i < CONSUMERS; i++) {
        CHECK_EQ_INT(pthread_join(consumers[i], NULL), 0);
    }
    arena_close(&arena);
}

/* Thieves come and go while the owner parks on is_empty alone: an item a thief was BUSY about must
 * still keep the owner awake, since no second notification will come for it. */
CASE_TIMEOUT(mpsc_concurrency, an_owner_beside_thieves_is_never_left_asleep, 60)
{
    struct arena arena;
    struct producer producers[PRODUCERS];
    pthread_t thieves[CONSUMERS];
    arena_open(&arena, true, PRODUCERS + CONSUMERS + 1);
    start_producers(&arena, producers);
    for (int i = 0; i < CONSUMERS; i++) {
        CHECK_EQ_INT(pthread_create(&thieves[i], NULL, steal, &arena), 0);
    }
    (void)pthread_barrier_wait(&arena.start);
    while (tr__load_relaxed(&arena.popped) < PRODUCERS * ITEMS) {
        if (tr__token_try_take(&arena.token)) {
            while (consume(&arena) == TR__MPSC_ITEM) {
                /* counted there */
            }
            tr__token_give(&arena.token);
        }
        tr__parker_prepare(&arena.parker);
        if (tr__mpsc_is_empty(&arena.queue) &&
            tr__load_relaxed(&arena.popped) < PRODUCERS * ITEMS) {
            /* Thieves may take the last item: a deadline ends that, and only that. */
            (void)tr__parker_wait(&arena.parker,
                                  tr__clock_after(tr__clock_now(), 20 * TR__NS_PER_MS));
        } else {
            tr__parker_cancel(&arena.parker);
            (void)sched_yield();
        }
    }
    join_producers(producers);
    for (int i = 0; i < CONSUMERS; i++) {
        CHECK_EQ_INT(pthread_join(thieves[i], NULL), 0);
    }
    arena_close(&arena);
}
