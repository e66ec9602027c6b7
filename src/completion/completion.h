/*
 * completion: what ended tasks need: the records (registry), memory for results (arena), the event
 * log, the counts, and the gate for those who wait until nothing is unfinished.
 *
 * It is counted by reference: the manager has one, every batch has one. Batches stay valid after
 * the manager has been freed; the last reference frees everything.
 */
#ifndef TR__COMPLETION_COMPLETION_H
#define TR__COMPLETION_COMPLETION_H

#include <toolring.h>

#include "base/atomic.h"
#include "completion/arena.h"
#include "completion/events.h"
#include "domain/registry.h"
#include "parts/counters.h"
#include "parts/gate.h"

/* What is counted. The first are indexed by outcome. */
enum tr__count {
    TR__COUNT_COMPLETED = TR_OUTCOME_COMPLETED,
    TR__COUNT_FAILED = TR_OUTCOME_FAILED,
    TR__COUNT_CANCELLED = TR_OUTCOME_CANCELLED,
    TR__COUNT_TIMED_OUT = TR_OUTCOME_TIMED_OUT,
    TR__COUNT_DENIED = TR_OUTCOME_DENIED,
    TR__COUNT_LOST = TR_OUTCOME_LOST,
    TR__COUNT_SETTLED, /* ended and in its channel, however */
    TR__COUNT_STARTED,
    TR__COUNT_DETACHED,
    TR__COUNT_DISCARDED,
    TR__COUNT_ABANDONED, /* now: counted down when the function returns */
    TR__COUNT_HELPED,    /* run by the thread that waited for them */
    TR__COUNT_KINDS,
};

TR_STATIC(TR__COUNT_KINDS <= TR__COUNTERS_PER_SHARD, "a shard has a cell for every count");

/* Shards of counts: one per worker seat, written by the thread on it with plain stores, and a last
 * one that every other thread adds to atomically. */
struct tr__tally {
    struct tr__counters *shard;
    bool shared;
};

struct tr__completion {
    struct tr__registry registry;
    struct tr__arena arena;
    struct tr__events events;
    struct tr__gate idle; /* opened when a task ended outside a worker, or a worker runs dry */
    struct tr__counters *shards;
    uint32_t shard_count;               /* the last one is the shared one */
    struct tr__arena_producer producer; /* shared: for results made outside workers */
    tr__atomic_u32 references;
    void (*destroy)(struct tr__completion *completion); /* the last reference is gone */
};

struct tr__completion_config {
    struct tr__registry_config registry;
    uint32_t seats; /* worker shards */
    uint32_t events_max;
    uint32_t readers_max;
    uint64_t bytes_max;
};

int tr__completion_init(struct tr__completion *completion,
                        const struct tr__completion_config *config);
void tr__completion_done(struct tr__completion *completion);
void tr__completion_ref(struct tr__completion *completion);
void tr__completion_unref(struct tr__completion *completion);

/* The tally of threads that are no worker. */
static inline struct tr__tally tr__completion_shared(struct tr__completion *completion)
{
    struct tr__tally tally = {&completion->shards[completion->shard_count - 1], true};
    return tally;
}

static inline void tr__tally_add(struct tr__tally tally, enum tr__count which, int64_t amount)
{
    if (tally.shared) {
        /* seq_cst: the act of an idle gate's opener; pairs with the look in
         * tr__completion_unfinished. */
        (void)tr__fetch_add_seq_cst(&tally.shard->cell[which], (uint64_t)amount);
    } else {
        tr__counters_add(tally.shard, which, (uint64_t)amount); /* wraps: subtracting works */
    }
}

/* Any thread: adds what it has counted by itself to the shared counts, and tells who waits for
 * quiet. */
void tr__completion_add(struct tr__completion *completion, struct tr__counters *counts);

uint64_t tr__completion_count(struct tr__completion *completion, enum tr__count which);
uint64_t tr__completion_accepted(struct tr__completion *completion);
/* Tasks accepted and not ended. Exact when the caller looks as parts/gate asks for; ended counts
 * are read before accepted ones, so it is never too small. */
uint64_t tr__completion_unfinished(struct tr__completion *completion);

#endif
