/* Slots: the slow halves and the lists. See slots.h for the picture and the invariants.
 *
 * Owner: taking and reclaiming the holder of a cache's lock; everything else any thread.
 * Called by domain, completion, host; calls base/memory.
 *
 * Why the returned stack is safe: it has many pushers (a CAS each) and one consumer, who takes all
 * of it by one exchange. A pusher's CAS compares the head it has linked to; if that head was taken
 * and came back meanwhile, the link is right again, whatever happened between. The trouble called
 * ABA needs a consumer that pops single nodes by CAS; there is none.
 *
 * What makes a slot's bytes visible to its next user: give releases, reclaim's exchange acquires (a
 * push is a read-modify-write, so earlier givers' releases stay in the sequence), and the cache's
 * lock orders reclaim before take.
 *
 * Never used slots are not linked into lists: a cache keeps the claimed range as two numbers and
 * starts a slot when it is taken, so a chunk of 64 does not touch 64 slots at once and pages are
 * committed one by one, in index order.
 *
 * Complexity: take 1 load of a slot, give 1 CAS (a chain too); 12 ns for a whole round while
 * in the caches. Reclaim walks what was returned: each slot is about to be used anyway.
 *
 * Rejected: a bitmap per 64 slots (two shared lines per take), per-thread magazines exchanged
 * through a depot (one more hand-over, and slots would migrate away from the lane that needs them),
 * pushing a returned slot straight to a lock-free free list (ABA, so a 128-bit CAS for each take).
 */
#include "parts/slots.h"

#include <toolring/error.h>

#include "base/memory.h"

/* Below the slots' generation lie the state bits; adding this to a word is one generation. */
#define GENERATION_ONE (UINT64_C(1) << TR__STATE_BITS)

#if !defined(TR_RELACY)
TR_STATIC(sizeof(struct tr__slot) == 16, "a slot's header is 16 bytes");
TR_STATIC(sizeof(struct tr__slots_cache) == 2 * TR_CACHE_LINE, "pushers have a line of their own");
#endif

int tr__slots_init(struct tr__slots *slots, size_t stride, uint32_t max, uint32_t tag)
{
    if (stride < sizeof(struct tr__slot) || stride % 16 != 0 || max == 0 || max > TR__INDEX_MAX ||
        tag >= 1u << TR__TAG_BITS || stride > SIZE_MAX / ((size_t)max + 1)) {
        return TR_EINVAL;
    }
    size_t bytes = ((size_t)max + 1) * stride; /* slot 0 is there and never touched */
    unsigned char *base = (unsigned char *)tr__memory_reserve(bytes);
    if (base == NULL) {
        return TR_ENOMEM;
    }
    slots->base = base;
    slots->stride = stride;
    slots->reserved = bytes;
    slots->max = max;
    slots->tag = tag;
    tr__store_relaxed(&slots->fresh, 0u); /* private until the storage is handed out */
    return 0;
}

void tr__slots_done(struct tr__slots *slots)
{
    if (slots == NULL || slots->base == NULL) {
        return;
    }
    tr__memory_unreserve(slots->base, slots->reserved);
    slots->base = NULL;
    slots->max = 0;
}

void tr__slots_cache_init(struct tr__slots_cache *cache)
{
    cache->head = 0;
    cache->count = 0;
    cache->fresh_next = 0;
    cache->fresh_end = 0;
    cache->stack = NULL;
    cache->stacked = 0;
    cache->stack_max = 0;
    tr__store_relaxed(&cache->returned, 0u); /* private until the cache is handed out */
}

void tr__slots_cache_stack(struct tr__slots_cache *cache, uint32_t *stack, uint32_t stack_max)
{
    TR_ASSERT(cache->stacked == 0 && stack != NULL);
    cache->stack = stack;
    cache->stack_max = stack_max;
}

/* First life of a slot. */
static struct tr__slot *start_fresh(struct tr__slots *slots, struct tr__slots_cache *cache)
{
    uint32_t index = cache->fresh_next++;
    struct tr__slot *slot = tr__slots_at(slots, index);
    TR_ASSERT(tr__load_relaxed(&slot->word) == 0); /* nobody has written here before us */
    slot->index = index;
    tr__store_relaxed(&slot->link, 0u);             /* ours alone */
    tr__store_release(&slot->word, GENERATION_ONE); /* publishes `index` to tr__slots_find */
    return slot;
}

struct tr__slot *tr__slots_take_local(struct tr__slots *slots, struct tr__slots_cache *cache)
{
    if (cache->stacked > 0) {
        return tr__slots_at(slots, cache->stack[--cache->stacked]);
    }
    if (cache->head != 0) {
        struct tr__slot *slot = tr__slots_at(slots, cache->head);
        TR_ASSERT(cache->count > 0);
        TR_DEEP(slot->index == cache->head);
        cache->head = tr__load_relaxed(&slot->link); /* written under our lock or before reclaim */
        cache->count--;
        return slot;
    }
    TR_ASSERT(cache->count == 0);
    return cache->fresh_next != cache->fresh_end ? start_fresh(slots, cache) : NULL;
}

unsigned tr__slots_reclaim(struct tr__slots *slots, struct tr__slots_cache *cache,
                           void (*each)(struct tr__slot *slot, void *context), void *context)
{
    /* relaxed: a hint that saves the locked instruction; a slot missed now is found next time */
    if (tr__load_relaxed(&cache->returned) == 0) {
        return 0;
    }
    /* acquire: pairs with the release CAS of every giver whose slot is in the list */
    uint32_t index = tr__exchange_acquire(&cache->returned, 0u);
    unsigned count = 0;
    struct tr__slot *last = NULL; /* the newest return stays in front: it is warm */
    uint32_t head = cache->head;
    while (index != 0) {
        struct tr__slot *slot = tr__slots_at(slots, index);
        uint32_t next = tr__load_relaxed(&slot->link); /* visible through the acquire above */
        uint64_t word = tr__load_relaxed(&slot->word); /* likewise; nobody changes a stale word */
        TR_DEEP(slot->index == index);
        if (each != NULL) {
            each(slot, context);
        }
        if (TR__WORD_GENERATION(word) != TR__GENERATION_SPENT) {
            if (last != NULL) {
                tr__store_relaxed(&last->link, index); /* the list is ours, under the lock */
            } else {
                cache->head = index;
            }
            last = slot;
            count++;
        }
        index = next;
    }
    if (last != NULL) {
        tr__store_relaxed(&last->link, head); /* the list is ours, under the lock */
    }
    cache->count += count;
    return count;
}

struct tr__slot *tr__slots_take_fresh(struct tr__slots *slots, struct tr__slots_cache *cache)
{
    if (cache->fresh_next != cache->fresh_end) {
        return start_fresh(slots, cache); /* the last chunk is not used up */
    }
    /* relaxed: keeps the count from running on once everything is claimed */
    if (tr__load_relaxed(&slots->fresh) >= slots->max) {
        return NULL;
    }
    /* relaxed: the numbers drawn are all that matters, they publish nothing */
    uint32_t claimed = tr__fetch_add_relaxed(&slots->fresh, TR__SLOTS_CHUNK);
    if (claimed >= slots->max) {
        return NULL;
    }
    uint32_t left = slots->max - claimed;
    cache->fresh_next = claimed + 1;
    cache->fresh_end = claimed + 1 + (left < TR__SLOTS_CHUNK ? left : TR__SLOTS_CHUNK);
    return start_fresh(slots, cache);
}

void tr__slots_stale(struct tr__slots *slots, struct tr__slot *slot)
{
    TR_DEEP(slot == tr__slots_at(slots, slot->index));
    (void)slots;
    /* relaxed: the last user ends the life, nobody else changes the generation. A CAS of somebody
     * who still tries the old life may come between: it is overwritten, as it would be too late. */
    uint64_t generation = TR__WORD_GENERATION(tr__load_relaxed(&slot->word));
    TR_ASSERT(generation != 0 && generation != TR__GENERATION_SPENT);
    /* release: whoever finds the new generation by acquire sees this life's last writes */
    tr__store_release(&slot->word, (generation + 1) << TR__STATE_BITS);
}

void tr__slots_give_chain(struct tr__slots *slots, struct tr__slots_cache *cache,
                          struct tr__slot *first, struct tr__slot *last, unsigned count)
{
    TR_ASSERT(count > 0 && (count > 1) == (first != last));
    TR_DEEP(first == tr__slots_at(slots, first->index) && last == tr__slots_at(slots, last->index));
    (void)slots;
    /* relaxed: the value is only linked to; whoever follows it acquires through the exchange */
    uint32_t head = tr__load_relaxed(&cache->returned);
    do {
        tr__store_relaxed(&last->link, head); /* published by the CAS */
        /* release: publishes the slots' bytes and links to the acquire exchange of reclaim;
         * acquire: who looked for room just before has entered its gate before (parts/gate) */
    } while (!tr__cas_weak_acq_rel(&cache->returned, &head, first->index));
}

void tr__slots_give(struct tr__slots *slots, struct tr__slots_cache *cache, struct tr__slot *slot)
{
    tr__slots_give_chain(slots, cache, slot, slot, 1);
}
