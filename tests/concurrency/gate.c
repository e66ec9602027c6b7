/* Gate under contention: a lost wake-up is a hang, so cases end by counts or by their time-out. */
#include "parts/gate.h"

#include <pthread.h>

#include "base/clock.h"
#include "support/case.h"
#include "support/wait.h"

enum {
    TAKERS = 4,
    GIVERS = 4,
#if defined(TR__WITH_TSAN)
    ROUNDS = 4000,
#else
    ROUNDS = 40000,
#endif
};

/* Room for a few, given back one by one: what launches wait for. */
struct room {
    struct tr__gate gate;
    TR__CACHE_ALIGNED tr__atomic_u32 free;
    TR__CACHE_ALIGNED tr__atomic_u32 held; /* taken and not yet given back */
    tr__atomic_u32 taken;
};

static bool take(struct room *room)
{
    /* The look: a read-modify-write whatever it finds, as gate.h asks for. */
    uint32_t free = tr__fetch_add_seq_cst(&room->free, 0u);
    while (free != 0) {
        if (tr__cas_seq_cst(&room->free, &free, free - 1)) {
            return true;
        }
    }
    return false;
}

static void linger(struct case_random *random)
{
    for (uint64_t left = case_random_below(random, 64); left > 0; left--) {
        __asm__ __volatile__("" ::: "memory");
    }
}

static void *take_main(void *context)
{
    struct room *room = context;
    struct case_random random;
    case_random_init(&random, 1);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint32_t epoch = tr__gate_enter(&room->gate);
        while (!take(room)) {
            epoch = tr__gate_wait(&room->gate, epoch, TR__FOREVER);
        }
        tr__gate_leave(&room->gate);
        (void)tr__fetch_add_relaxed(&room->taken, 1u);
        (void)tr__fetch_add_release(&room->held, 1u);
        linger(&random);
    }
    return NULL;
}

static void *give_main(void *context)
{
    struct room *room = context;
    struct case_random random;
    case_random_init(&random, 2);
    for (unsigned given = 0; given < ROUNDS * TAKERS / GIVERS;) {
        uint32_t held = tr__load_acquire(&room->held);
        if (held == 0 || !tr__cas_acq_rel(&room->held, &held, held - 1)) {
            (void)sched_yield();
            continue;
        }
        linger(&random);
        (void)tr__fetch_add_seq_cst(&room->free, 1u);
        tr__gate_open(&room->gate);
        given++;
    }
    return NULL;
}

CASE_TIMEOUT(gate_concurrency, whoever_waits_for_room_gets_it, 120)
{
    static struct room room;
    pthread_t takers[TAKERS];
    pthread_t givers[GIVERS];
    tr__gate_init(&room.gate);
    tr__store_relaxed(&room.free, 1u); /* fewer than takers: they do wait */
    for (unsigned i = 0; i < TAKERS; i++) {
        CHECK_EQ_INT(pthread_create(&takers[i], NULL, take_main, &room), 0);
    }
    for (unsigned i = 0; i < GIVERS; i++) {
        CHECK_EQ_INT(pthread_create(&givers[i], NULL, give_main, &room), 0);
    }
    for (unsigned i = 0; i < TAKERS; i++) {
        CHECK_EQ_INT(pthread_join(takers[i], NULL), 0);
    }
    for (unsigned i = 0; i < GIVERS; i++) {
        CHECK_EQ_INT(pthread_join(givers[i], NULL), 0);
    }
    CHECK_EQ_INT(tr__load_relaxed(&room.taken), ROUNDS * TAKERS);
    CHECK_EQ_INT(tr__load_relaxed(&room.free), 1);
    CHECK_EQ_INT(tr__load_relaxed(&room.gate.waiters), 0);
}

struct duel {
    struct tr__gate gate;
    TR__CACHE_ALIGNED tr__atomic_u32 done;  /* by the opener */
    TR__CACHE_ALIGNED tr__atomic_u32 round; /* the waiter is about to enter for this one */
};

static void *open_main(void *context)
{
    struct duel *duel = context;
    struct case_random random;
    case_random_init(&random, 3);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        for (unsigned spins = 0; tr__load_acquire(&duel->round) != round; spins++) {
            if (spins % 1024 == 1023) {
                (void)sched_yield();
            }
        }
        linger(&random);
        (void)tr__fetch_add_seq_cst(&duel->done, 1u);
        tr__gate_open(&duel->gate);
    }
    return NULL;
}

/* Both come to their two steps within nanoseconds of each other; each opening is the only one. */
CASE_TIMEOUT(gate_concurrency, entering_and_opening_meet_head_on, 120)
{
    static struct duel duel;
    pthread_t thread;
    struct case_random random;
    case_random_init(&random, 4);
    tr__gate_init(&duel.gate);
    CHECK_EQ_INT(pthread_create(&thread, NULL, open_main, &duel), 0);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        tr__store_release(&duel.round, round);
        linger(&random);
        uint64_t deadline = tr__clock_after(tr__clock_now(), 10 * TR__NS_PER_SECOND);
        uint32_t epoch = tr__gate_enter(&duel.gate);
        while (tr__fetch_add_seq_cst(&duel.done, 0u) != round) {
            epoch = tr__gate_wait(&duel.gate, epoch, deadline);
            CHECK(tr__clock_now() < deadline); /* ten seconds are for ever here */
        }
        tr__gate_leave(&duel.gate);
    }
    CHECK_EQ_INT(pthread_join(thread, NULL), 0);
}
