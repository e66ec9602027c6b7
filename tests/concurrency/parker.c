/* Parker under contention: a lost wake-up is a hang, so every case ends by counts or time-out. */
#include "parts/parker.h"

#include <toolring/error.h>

#include <pthread.h>

#include "base/clock.h"
#include "support/case.h"
#include "support/wait.h"

enum {
    PRODUCERS = 8,
    SLEEPERS = 4,
#if defined(TR__WITH_TSAN)
    ROUNDS = 5000,
    DUELS = 10000,
#else
    ROUNDS = 20000,
    DUELS = 100000,
#endif
};

struct box {
    struct tr__parker parker TR__CACHE_ALIGNED;
    tr__atomic_u32 published TR__CACHE_ALIGNED; /* seq_cst: what the owner looks at */
    tr__atomic_u32 wakes;
    pthread_barrier_t start;
    uint64_t plain; /* written before publishing, read after: the hand-over itself */
};

static void box_open(struct box *box, unsigned threads)
{
    tr__parker_init(&box->parker);
    tr__store_relaxed(&box->published, 0u);
    tr__store_relaxed(&box->wakes, 0u);
    box->plain = 0;
    CHECK_EQ_INT(pthread_barrier_init(&box->start, NULL, threads), 0);
}

static void publish(struct box *box)
{
    (void)tr__fetch_add_seq_cst(&box->published, 1u);
    if (tr__parker_notify(&box->parker)) {
        (void)tr__fetch_add_relaxed(&box->wakes, 1u);
    }
}

/* Owner: sleeps until more than `seen` has been published; returns how much. */
static uint32_t await_more(struct box *box, uint32_t seen)
{
    for (;;) {
        uint32_t published = tr__load_acquire(&box->published);
        if (published != seen) {
            return published;
        }
        tr__parker_prepare(&box->parker);
        if (tr__load_seq_cst(&box->published) != seen) {
            tr__parker_cancel(&box->parker);
        } else {
            CHECK_EQ_INT(tr__parker_wait(&box->parker, TR__FOREVER), 0);
        }
    }
}

static void *produce(void *context)
{
    struct box *box = context;
    (void)pthread_barrier_wait(&box->start);
    for (int i = 0; i < ROUNDS; i++) {
        publish(box);
    }
    return NULL;
}

CASE_TIMEOUT(parker_concurrency, many_producers_never_lose_a_wake, 60)
{
    static struct box box;
    pthread_t threads[PRODUCERS];
    box_open(&box, PRODUCERS + 1);
    for (int i = 0; i < PRODUCERS; i++) {
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, produce, &box), 0);
    }
    (void)pthread_barrier_wait(&box.start);
    uint32_t seen = 0;
    while (seen < PRODUCERS * ROUNDS) {
        seen = await_more(&box, seen);
    }
    CHECK_EQ_INT(seen, PRODUCERS * ROUNDS);
    for (int i = 0; i < PRODUCERS; i++) {
        CHECK_EQ_INT(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ_INT(tr__load_relaxed(&box.parker.word), TR__PARKER_AWAKE);
}

struct pair {
    struct box ping;
    struct box pong;
};

static void *answer(void *context)
{
    struct pair *pair = context;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        CHECK_EQ_INT(await_more(&pair->ping, round), round + 1);
        CHECK_EQ_U64(pair->ping.plain, round + 1);
        pair->pong.plain = round + 1;
        publish(&pair->pong);
    }
    return NULL;
}

/* Each publication is the only one, so each needs its own wake; and it carries plain data over. */
CASE_TIMEOUT(parker_concurrency, ping_pong_hands_over_every_round, 60)
{
    static struct pair pair;
    pthread_t thread;
    box_open(&pair.ping, 1);
    box_open(&pair.pong, 1);
    CHECK_EQ_INT(pthread_create(&thread, NULL, answer, &pair), 0);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        pair.ping.plain = round + 1;
        publish(&pair.ping);
        CHECK_EQ_INT(await_more(&pair.pong, round), round + 1);
        CHECK_EQ_U64(pair.pong.plain, round + 1);
    }
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
}

/* Deadlines of about the time a wake takes: notifications and time-outs race for the word. Here the
 * owner never cancels, so each claim must come out as exactly one "notified". (It may be of what
 * the owner has seen already: the producer was between publishing and notifying.) */
CASE_TIMEOUT(parker_concurrency, time_outs_and_wakes_race_without_loss, 60)
{
    static struct box box;
    pthread_t threads[PRODUCERS];
    box_open(&box, PRODUCERS + 1);
    for (int i = 0; i < PRODUCERS; i++) {
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, produce, &box), 0);
    }
    (void)pthread_barrier_wait(&box.start);
    struct case_random random;
    case_random_init(&random, 99);
    uint32_t seen = 0;
    uint32_t notified = 0;
    while (seen < PRODUCERS * ROUNDS) {
        uint64_t deadline = tr__clock_after(tr__clock_now(), case_random_below(&random, 50000));
        tr__parker_prepare(&box.parker);
        uint32_t published = tr__load_seq_cst(&box.published);
        deadline = published != seen ? 0 : deadline;
        int result = tr__parker_wait(&box.parker, deadline);
        CHECK(result == 0 || result == TR_ETIMEDOUT);
        CHECK(result == 0 || tr__clock_now() >= deadline);
        notified += result == 0;
        seen = published;
    }
    for (int i = 0; i < PRODUCERS; i++) {
        CHECK_EQ_INT(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ_INT(notified, tr__load_relaxed(&box.wakes));
}

struct duel {
    struct box box;
    tr__atomic_u32 round TR__CACHE_ALIGNED; /* the owner is about to prepare for this round */
};

static void linger(struct case_random *random)
{
    for (uint64_t left = case_random_below(random, 64); left > 0; left--) {
        __asm__ __volatile__("" ::: "memory");
    }
}

static void *duel_publish(void *context)
{
    struct duel *duel = context;
    struct case_random random;
    case_random_init(&random, 1);
    for (uint32_t round = 1; round <= DUELS; round++) {
        for (unsigned spins = 0; tr__load_acquire(&duel->round) != round; spins++) {
            if (spins % 1024 == 1023) {
                (void)sched_yield();
            }
        }
        linger(&random);
        publish(&duel->box);
    }
    return NULL;
}

/* Both are awake on their cores and reach their two steps within nanoseconds of each other: the
 * very window in which weaker orders lose the wake. Ten seconds are for ever here. */
CASE_TIMEOUT(parker_concurrency, prepare_and_publish_meet_head_on, 60)
{
    static struct duel duel;
    pthread_t thread;
    struct case_random random;
    case_random_init(&random, 2);
    box_open(&duel.box, 1);
    CHECK_EQ_INT(pthread_create(&thread, NULL, duel_publish, &duel), 0);
    for (uint32_t round = 1; round <= DUELS; round++) {
        tr__store_release(&duel.round, round);
        linger(&random);
        while (tr__load_relaxed(&duel.box.published) != round) {
            tr__parker_prepare(&duel.box.parker);
            if (tr__load_seq_cst(&duel.box.published) == round) {
                tr__parker_cancel(&duel.box.parker);
                break;
            }
            uint64_t deadline = tr__clock_after(tr__clock_now(), 10 * TR__NS_PER_SECOND);
            CHECK_EQ_INT(tr__parker_wait(&duel.box.parker, deadline), 0);
        }
    }
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
}

/* The same window for a deadline that has passed: the kernel says "time is up" while a producer
 * claims the word. Each claim must still come out as "notified", whatever the kernel said. */
CASE_TIMEOUT(parker_concurrency, an_expiring_wait_does_not_swallow_a_claim, 60)
{
    static struct duel duel;
    pthread_t thread;
    uint32_t notified = 0;
    box_open(&duel.box, 1);
    CHECK_EQ_INT(pthread_create(&thread, NULL, duel_publish, &duel), 0);
    for (uint32_t round = 1; round <= DUELS; round++) {
        tr__store_release(&duel.round, round);
        while (tr__load_relaxed(&duel.box.published) != round) {
            tr__parker_prepare(&duel.box.parker);
            notified += tr__parker_wait(&duel.box.parker, 0) == 0;
        }
    }
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
    CHECK_EQ_INT(notified, tr__load_relaxed(&duel.box.wakes));
    CHECK(notified <= DUELS);
}

struct crowd {
    struct tr__parker parkers[SLEEPERS];
    tr__atomic_u32 round[SLEEPERS]; /* seq_cst: what each owner looks at */
    tr__atomic_u32 done[SLEEPERS];
};

struct sleeper {
    struct crowd *crowd;
    unsigned number;
};

static void *sleep_rounds(void *context)
{
    struct sleeper *sleeper = context;
    struct crowd *crowd = sleeper->crowd;
    unsigned me = sleeper->number;
    for (uint32_t seen = 0; seen < ROUNDS / 10;) {
        tr__parker_prepare(&crowd->parkers[me]);
        uint32_t round = tr__load_seq_cst(&crowd->round[me]);
        if (round != seen) {
            tr__parker_cancel(&crowd->parkers[me]);
            seen = round;
            tr__store_release(&crowd->done[me], seen);
        } else {
            CHECK_EQ_INT(tr__parker_wait(&crowd->parkers[me], TR__FOREVER), 0);
        }
    }
    return NULL;
}

/* Batched: publish to all, claim all, then enter the kernel for the claimed ones only. */
CASE_TIMEOUT(parker_concurrency, claims_can_be_woken_later_in_a_batch, 60)
{
    static struct crowd crowd;
    struct sleeper sleepers[SLEEPERS];
    pthread_t threads[SLEEPERS];
    for (unsigned i = 0; i < SLEEPERS; i++) {
        sleepers[i] = (struct sleeper){.crowd = &crowd, .number = i};
        CHECK_EQ_INT(pthread_create(&threads[i], NULL, sleep_rounds, &sleepers[i]), 0);
    }
    for (uint32_t round = 1; round <= ROUNDS / 10; round++) {
        bool claimed[SLEEPERS];
        for (unsigned i = 0; i < SLEEPERS; i++) {
            (void)tr__fetch_add_seq_cst(&crowd.round[i], 1u);
            claimed[i] = tr__parker_claim(&crowd.parkers[i]);
        }
        for (unsigned i = 0; i < SLEEPERS; i++) {
            if (claimed[i]) {
                tr__parker_wake(&crowd.parkers[i]);
            }
        }
        for (unsigned i = 0; i < SLEEPERS; i++) {
            WAIT_UNTIL(tr__load_acquire(&crowd.done[i]) == round, 20);
        }
    }
    for (unsigned i = 0; i < SLEEPERS; i++) {
        CHECK_EQ_INT(pthread_join(threads[i], NULL), 0);
    }
}
