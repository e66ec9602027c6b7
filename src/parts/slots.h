/* Slots: type-stable storage with generational ids.
 *
 * Purpose: tasks, turns and sessions live in slots that are never returned to the allocator while
 * the manager lives. An id names a slot and one of its lives (generation), so a stale id is
 * recognised with one load, by any thread, without locks, reference counts or hazard pointers.
 * Owner: taking belongs to the holder of a cache's lock; giving and finding to any thread.
 * Called by domain, completion, host; calls base/memory.
 *
 *     id   = tag (4) | generation (36) | index (24)
 *     word =           generation (36) | state (28)     the state bits belong to the slot's user
 *
 * A slot's way: fresh -> taken -> stale (generation + 1) -> returned -> local -> taken ...
 *
 * Invariants
 *  1. Index 0 names no slot. Generation 0 is a slot never used; 1 is its first life.
 *  2. The generation in the word only grows. A slot that reaches TR__GENERATION_SPENT is retired:
 *     it is never handed out again, so no id is ever issued twice.
 *  3. A slot is at every moment in one place: fresh, taken, on one `returned` stack or on one local
 *     list; or it is retired.
 *  4. `head`, `count`, `fresh_next`, `fresh_end` of a cache change under its owner's lock only;
 *     `returned` is pushed to by any thread and taken whole by that owner, hence no ABA.
 *  5. `link` belongs to the slot's user while taken (any use), to this module from stale to taken.
 *
 * Complexity: everything O(1) except reclaim, O(slots returned). Memory: max * stride of address
 * space, pages committed by first touch, in index order. Details and rejected designs in slots.c.
 */
#ifndef TR__PARTS_SLOTS_H
#define TR__PARTS_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

/* First member of everything kept in slots. */
struct tr__slot {
    tr__atomic_u64 word; /* generation and state; the user's transitions, tr__slots_stale */
    tr__atomic_u32 link; /* index of the next slot in a list, 0 none; see invariant 5 */
    uint32_t index;      /* its own; written once, before the first word */
};

struct tr__slots {
    unsigned char *base; /* slot i lies at base + i * stride; slot 0 is never touched */
    size_t stride;       /* bytes, a multiple of 16 */
    size_t reserved;     /* bytes of address space */
    uint32_t max;        /* highest index */
    uint32_t tag;        /* kind of id, below 16 */
    tr__atomic_u32 fresh
        TR__CACHE_ALIGNED; /* indices claimed so far; may run past max; any owner */
};

/* A list of free slots for one launching lane or worker; zero-initialised or tr__slots_cache_init.
 */
struct tr__slots_cache {
    uint32_t head;       /* local list, under the owner's lock */
    uint32_t count;      /* slots on the local list */
    uint32_t fresh_next; /* claimed but never touched: fresh_next ... fresh_end - 1 */
    uint32_t fresh_end;
    uint32_t *stack;    /* local slots put back under the lock, newest last; may be NULL */
    uint32_t stacked;   /* how many */
    uint32_t stack_max; /* room */
    tr__atomic_u32 returned TR__CACHE_ALIGNED; /* stack of indices, pushed by any thread */
};

#define TR__WORD_GENERATION(word) ((uint64_t)(word) >> TR__STATE_BITS)
#define TR__ID_TAG(id) ((uint32_t)((uint64_t)(id) >> (64 - TR__TAG_BITS)))
#define TR__ID_GENERATION(id)                                                                      \
    (((uint64_t)(id) >> TR__INDEX_BITS) & ((UINT64_C(1) << TR__GENERATION_BITS) - 1u))
#define TR__ID_INDEX(id) ((uint32_t)((uint64_t)(id) & ((UINT64_C(1) << TR__INDEX_BITS) - 1u)))
#define TR__ID_MAKE(tag, generation, index)                                                        \
    ((uint64_t)(tag) << (64 - TR__TAG_BITS) | (uint64_t)(generation) << TR__INDEX_BITS |           \
     (uint64_t)(index))

/* Reserves room for `max` slots of `stride` bytes (a multiple of 16, at least sizeof(struct
 * tr__slot)). Returns 0, TR_EINVAL for impossible arguments, or TR_ENOMEM; on failure *slots needs
 * no done. */
int tr__slots_init(struct tr__slots *slots, size_t stride, uint32_t max, uint32_t tag);

/* Gives everything back. No thread may hold a slot or look one up any more. */
void tr__slots_done(struct tr__slots *slots);

void tr__slots_cache_init(struct tr__slots_cache *cache);

/* Right after init: lets tr__slots_put keep up to `stack_max` indices in `stack`, the caller's. */
void tr__slots_cache_stack(struct tr__slots_cache *cache, uint32_t *stack, uint32_t stack_max);

/* Whether a stale slot can have another life. Its last user's. */
static inline bool tr__slot_is_good(const struct tr__slot *slot)
{
    /* relaxed: nobody changes a stale word */
    return (tr__load_relaxed(&slot->word) >> TR__STATE_BITS) != TR__GENERATION_SPENT;
}

/* Under the cache's lock: a stale slot comes straight back to it. False: no room, give it. Unlike a
 * list the stack tells which slots come next without touching them (tr__slots_ahead). */
static inline bool tr__slots_put(struct tr__slots_cache *cache, const struct tr__slot *slot)
{
    if (cache->stacked == cache->stack_max) {
        return false;
    }
    cache->stack[cache->stacked++] = slot->index;
    return true;
}

/* Under the cache's lock: the slot that will be taken `steps` takes from now, if that is known: to
 * be fetched into the processor's cache meanwhile. */
static inline void *tr__slots_ahead(struct tr__slots *slots, const struct tr__slots_cache *cache,
                                    uint32_t steps)
{
    if (cache->stacked <= steps) {
        return NULL;
    }
    return slots->base + (size_t)cache->stack[cache->stacked - 1 - steps] * slots->stride;
}

/* Under the cache's lock: a slot this cache has at hand, or NULL. Its word holds its generation and
 * state 0; its other bytes are as the last user left them, zero in its first life. */
struct tr__slot *tr__slots_take_local(struct tr__slots *slots, struct tr__slots_cache *cache);

/* Under the cache's lock: moves all returned slots to the local list, calling `each` (may be NULL)
 * for every one of them. Returns how many became available; spent ones are retired, not counted. */
unsigned tr__slots_reclaim(struct tr__slots *slots, struct tr__slots_cache *cache,
                           void (*each)(struct tr__slot *slot, void *context), void *context);

/* Under the cache's lock: claims up to TR__SLOTS_CHUNK never used slots, returns one and keeps the
 * rest in the cache. NULL when all `max` have been claimed (look at reclaim, then other caches). */
struct tr__slot *tr__slots_take_fresh(struct tr__slots *slots, struct tr__slots_cache *cache);

/* The slot's last user: ends this life. All its ids are stale from here on; state bits become 0. */
void tr__slots_stale(struct tr__slots *slots, struct tr__slot *slot);

/* Any thread: hands a stale slot back to `cache`. */
void tr__slots_give(struct tr__slots *slots, struct tr__slots_cache *cache, struct tr__slot *slot);

/* Any thread: the same for `count` stale slots chained by `link` from first to last. */
void tr__slots_give_chain(struct tr__slots *slots, struct tr__slots_cache *cache,
                          struct tr__slot *first, struct tr__slot *last, unsigned count);

/* Slot by index, 1 to max; it may be in any state, even never used. */
static inline struct tr__slot *tr__slots_at(struct tr__slots *slots, uint32_t index)
{
    TR_ASSERT(index >= 1 && index <= slots->max);
    return (struct tr__slot *)(void *)(slots->base + (size_t)index * slots->stride);
}

/* The id of the slot's present life; for its user. */
static inline uint64_t tr__slots_id(struct tr__slots *slots, struct tr__slot *slot)
{
    /* relaxed: the caller holds the slot, so the generation cannot change under it */
    uint64_t word = tr__load_relaxed(&slot->word);
    return TR__ID_MAKE(slots->tag, TR__WORD_GENERATION(word), slot->index);
}

/* Any thread, any id from outside: the slot, or NULL unless tag, index and generation all fit. The
 * life may end right after: whoever acts on the slot does so by a CAS on the word, which fails
 * then. A free slot is found by the id it will have next (forged, for it was never issued): state
 * 0. */
static inline struct tr__slot *tr__slots_find(struct tr__slots *slots, uint64_t id)
{
    uint32_t index = TR__ID_INDEX(id);
    uint64_t generation = TR__ID_GENERATION(id);
    if (TR__ID_TAG(id) != slots->tag || index == 0 || index > slots->max || generation == 0 ||
        generation == TR__GENERATION_SPENT) {
        return NULL;
    }
    struct tr__slot *slot = tr__slots_at(slots, index);
    /* acquire: pairs with the release stores that start and end a life, makes `index` visible */
    return TR__WORD_GENERATION(tr__load_acquire(&slot->word)) == generation ? slot : NULL;
}

/* Any thread: the highest index that may ever have been handed out, for listings. */
static inline uint32_t tr__slots_reached(struct tr__slots *slots)
{
    uint32_t fresh = tr__load_relaxed(&slots->fresh); /* a bound; the slots' words decide */
    return fresh < slots->max ? fresh : slots->max;
}

#ifdef __cplusplus
}
#endif

#endif
