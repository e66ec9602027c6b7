/* Slots under contention: no slot has two users, no id comes twice, none gets lost. */
#include "parts/slots.h"

#include <pthread.h>

#include "support/case.h"
#include "support/wait.h"

enum {
    THREADS = 8,
    CACHES = 4,
    SLOTS = 500,
    HELD_MAX = 100, /* THREADS * HELD_MAX > SLOTS: running out is part of the game */
    TAG = 3,
#if defined(TR__WITH_TSAN)
    STEPS = 20000,
#else
    STEPS = 100000,
#endif
};

struct record {
    struct tr__slot slot;
    tr__atomic_u32 user;      /* thread + 1, 0 free */
    uint32_t cache;           /* where it was taken from */
    uint64_t last_generation; /* plain: the hand-over between users must order it */
    uint64_t padding[4];
};

struct lane {
    pthread_mutex_t lock;
    struct tr__slots_cache cache;
};

struct arena {
    struct tr__slots slots;
    struct lane lanes[CACHES];
    tr__atomic_u64 published[THREADS]; /* an id each thread lets the others look up */
    tr__atomic_u32 found;
    pthread_barrier_t start;
};

struct worker {
    struct arena *arena;
    unsigned number;
    pthread_t thread;
    struct case_random random;
    struct record *held[HELD_MAX];
    unsigned held_count;
    unsigned taken;
    unsigned refused;
};

static struct record *take(struct arena *arena, unsigned which)
{
    struct lane *lane = &arena->lanes[which];
    CHECK_EQ_INT(pthread_mutex_lock(&lane->lock), 0);
    struct tr__slot *slot = tr__slots_take_local(&arena->slots, &lane->cache);
    if (slot == NULL && tr__slots_reclaim(&arena->slots, &lane->cache, NULL, NULL) > 0) {
        slot = tr__slots_take_local(&arena->slots, &lane->cache);
    }
    if (slot == NULL) {
        slot = tr__slots_take_fresh(&arena->slots, &lane->cache);
    }
    CHECK_EQ_INT(pthread_mutex_unlock(&lane->lock), 0);
    return slot != NULL ? TR__CONTAINER_OF(slot, struct record, slot) : NULL;
}

static void step_take(struct worker *worker)
{
    struct arena *arena = worker->arena;
    unsigned which = (unsigned)case_random_below(&worker->random, CACHES);
    struct record *record = take(arena, which);
    if (record == NULL) {
        worker->refused++;
        return;
    }
    CHECK_EQ_INT(tr__exchange_relaxed(&record->user, worker->number + 1), 0); /* nobody else's */
    uint64_t word = tr__load_relaxed(&record->slot.word);
    CHECK_EQ_U64(word & ((UINT64_C(1) << TR__STATE_BITS) - 1), 0);
    CHECK_EQ_U64(TR__WORD_GENERATION(word), record->last_generation + 1);
    record->last_generation = TR__WORD_GENERATION(word);
    record->cache = which;
    uint64_t id = tr__slots_id(&arena->slots, &record->slot);
    CHECK_EQ_PTR(tr__slots_find(&arena->slots, id), &record->slot);
    tr__store_release(&arena->published[worker->number], id);
    worker->held[worker->held_count++] = record;
    worker->taken++;
}

/* Ends one life; the slot is not given back yet. */
static void end_life(struct worker *worker, struct record *record)
{
    struct tr__slots *slots = &worker->arena->slots;
    uint64_t id = tr__slots_id(slots, &record->slot);
    CHECK_EQ_INT(tr__exchange_relaxed(&record->user, 0u), worker->number + 1);
    tr__slots_stale(slots, &record->slot);
    CHECK(tr__slots_find(slots, id) == NULL);
}

static struct record *drop_random(struct worker *worker)
{
    unsigned at = (unsigned)case_random_below(&worker->random, worker->held_count);
    struct record *record = worker->held[at];
    worker->held[at] = worker->held[--worker->held_count];
    return record;
}

/* Gives one slot back to where it came from, or a chain of three to a random cache. */
static void step_give(struct worker *worker)
{
    struct tr__slots *slots = &worker->arena->slots;
    if (worker->held_count < 3 || case_random_below(&worker->random, 2) == 0) {
        struct record *record = drop_random(worker);
        end_life(worker, record);
        tr__slots_give(slots, &worker->arena->lanes[record->cache].cache, &record->slot);
        return;
    }
    struct record *chain[3];
    for (int i = 0; i < 3; i++) {
        chain[i] = drop_random(worker);
        end_life(worker, chain[i]);
        if (i > 0) {
            tr__store_relaxed(&chain[i - 1]->slot.link, chain[i]->slot.index);
        }
    }
    unsigned which = (unsigned)case_random_below(&worker->random, CACHES);
    tr__slots_give_chain(slots, &worker->arena->lanes[which].cache, &chain[0]->slot,
                         &chain[2]->slot, 3);
}

/* Looks up an id of another thread: gone, or the right slot. */
static void step_find(struct worker *worker)
{
    struct arena *arena = worker->arena;
    unsigned other = (unsigned)case_random_below(&worker->random, THREADS);
    uint64_t id = tr__load_acquire(&arena->published[other]);
    struct tr__slot *slot = id != 0 ? tr__slots_find(&arena->slots, id) : NULL;
    if (slot != NULL) {
        CHECK_EQ_INT(slot->index, TR__ID_INDEX(id));
        CHECK(TR__WORD_GENERATION(tr__load_acquire(&slot->word)) >= TR__ID_GENERATION(id));
        (void)tr__fetch_add_relaxed(&arena->found, 1u);
    }
}

static void *work(void *context)
{
    struct worker *worker = context;
    case_random_init(&worker->random, worker->number);
    (void)pthread_barrier_wait(&worker->arena->start);
    for (int step = 0; step < STEPS; step++) {
        uint64_t choice = case_random_below(&worker->random, 8);
        if (choice == 0) {
            step_find(worker);
        } else if (worker->held_count == 0 || (choice <= 4 && worker->held_count < HELD_MAX)) {
            step_take(worker);
        } else {
            step_give(worker);
        }
    }
    while (worker->held_count > 0) {
        step_give(worker);
    }
    return NULL;
}

static void arena_open(struct arena *arena)
{
    CHECK_EQ_INT(tr__slots_init(&arena->slots, sizeof(struct record), SLOTS, TAG), 0);
    for (int i = 0; i < CACHES; i++) {
        CHECK_EQ_INT(pthread_mutex_init(&arena->lanes[i].lock, NULL), 0);
        tr__slots_cache_init(&arena->lanes[i].cache);
    }
    CHECK_EQ_INT(pthread_barrier_init(&arena->start, NULL, THREADS), 0);
}

CASE_TIMEOUT(slots_concurrency, no_slot_has_two_users_and_none_gets_lost, 60)
{
    static struct arena arena;
    static struct worker workers[THREADS];
    arena_open(&arena);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.arena = &arena, .number = i};
        CHECK_EQ_INT(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    uint64_t taken = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQ_INT(pthread_join(workers[i].thread, NULL), 0);
        taken += workers[i].taken;
    }
    /* All are back: taking until nothing is left finds each slot once, and the lives add up. */
    bool seen[SLOTS + 1] = {false};
    uint64_t lives = 0;
    unsigned count = 0;
    for (unsigned which = 0; which < CACHES; which++) {
        for (struct record *record = take(&arena, which); record != NULL;
             record = take(&arena, which)) {
            CHECK(!seen[record->slot.index]);
            seen[record->slot.index] = true;
            lives += record->last_generation;
            count++;
        }
    }
    CHECK_EQ_INT(count, SLOTS);
    CHECK_EQ_U64(lives, taken);
    CHECK_EQ_INT(tr__slots_reached(&arena.slots), SLOTS);
    tr__slots_done(&arena.slots);
}

enum {
    CHUNKS = 5000
};

struct claimer {
    struct tr__slots *slots;
    pthread_barrier_t *start;
    unsigned number;
    pthread_t thread;
    unsigned count;
};

/* Forgets the rest of each chunk at once, so that every call claims. */
static void *claim_all(void *context)
{
    struct claimer *claimer = context;
    (void)pthread_barrier_wait(claimer->start);
    for (;;) {
        struct tr__slots_cache cache;
        tr__slots_cache_init(&cache);
        struct tr__slot *slot = tr__slots_take_fresh(claimer->slots, &cache);
        if (slot == NULL) {
            return NULL;
        }
        struct record *record = TR__CONTAINER_OF(slot, struct record, slot);
        CHECK_EQ_INT(slot->index % TR__SLOTS_CHUNK, 1);
        CHECK_EQ_INT(tr__exchange_relaxed(&record->user, claimer->number + 1), 0);
        claimer->count++;
    }
}

CASE_TIMEOUT(slots_concurrency, chunks_are_claimed_once, 60)
{
    for (int round = 0; round < 20; round++) {
        struct tr__slots slots;
        pthread_barrier_t start;
        struct claimer claimers[THREADS];
        unsigned count = 0;
        CHECK_EQ_INT(
            tr__slots_init(&slots, sizeof(struct record), CHUNKS * TR__SLOTS_CHUNK - 7, TAG), 0);
        CHECK_EQ_INT(pthread_barrier_init(&start, NULL, THREADS), 0);
        for (unsigned i = 0; i < THREADS; i++) {
            claimers[i] = (struct claimer){.slots = &slots, .start = &start, .number = i};
            CHECK_EQ_INT(pthread_create(&claimers[i].thread, NULL, claim_all, &claimers[i]), 0);
        }
        for (unsigned i = 0; i < THREADS; i++) {
            CHECK_EQ_INT(pthread_join(claimers[i].thread, NULL), 0);
            count += claimers[i].count;
        }
        CHECK_EQ_INT(count, CHUNKS);
        CHECK_EQ_INT(tr__slots_reached(&slots), CHUNKS * TR__SLOTS_CHUNK - 7);
        CHECK_EQ_INT(pthread_barrier_destroy(&start), 0);
        tr__slots_done(&slots);
    }
}
