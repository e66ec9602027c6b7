/*
 * fiber_pool.c: free fibers, their stacks, and when those give their pages back.
 *
 * Purpose: a burst of awaiting calls pays for its stacks once, not at every call; a host that has
 * gone quiet pays nothing for those it had.
 * Threads: all of it any, under the pool's mutex; a cache belongs to one thread. Called by engine
 * (workers take and give, one of them trims); calls base/memory, madvise and mprotect.
 *
 *  1. Record i, stack i and guard i belong together; i < created. Guards are never taken away.
 *  2. created - free_count fibers are outside the pool. A free one is on the warm list (its stack
 *     has pages), on the cold one (emptied), or in a trim's hands. Taken are warm ones first, then
 *     cold ones, then a fresh index.
 *  3. The warm list is a stack: what came last goes first. So it is in the order of `rested_at`,
 *     the oldest at its end, and what a steady load does not need sinks there.
 *  4. age counts the periods ended by trims. A stack is emptied when it has rested for one whole
 *     period: in the second or so after its last use it is there to be used again, warm.
 *  5. watched is true exactly while somebody is bound to call trim: from the call of the hook,
 *     which whoever makes the warm list not empty owes, until a trim has found it empty.
 *
 * Bound: fibers_max * stack_bytes of address space. Resident: what each fiber in use touched at its
 * deepest; the same for every free one until it has rested, so never more than at the peak of the
 * last two periods; the same for those in caches, up to 2 * TR__FIBER_BATCH a thread; 64 bytes for
 * each fiber ever created, and its share of page tables.
 *
 * Guards: MADV_GUARD_INSTALL where the kernel has it. Otherwise mprotect, which costs two mappings
 * a fiber: the pool then stops at TR__FIBER_PROTECT_MAX, or where the kernel refuses, and take
 * returns NULL from there on. A frame larger than a page may jump over the guard: compile tools
 * with -fstack-clash-protection.
 *
 * Cost: a fresh fiber 3 us, page and guard included; emptying a stack 1.3 us by itself, most of it
 * for telling the other processors, 0.3 us among 64 neighbours; a start on an emptied one 1.4 us. A
 * trim is bounded by TR__FIBER_TRIM_MAX stacks and TRIM_RUNS calls of the kernel: 10 to 18 us.
 *
 * Rejected: emptying whatever is free beyond a fixed number (a load of more fibers than that then
 * faults and empties all the time: two fifths of 50 000 sleeping calls); emptying on the ring's
 * thread (madvise may wait for the lock of the mappings); mincore to find deep stacks (dearer than
 * emptying them); huge pages (2 MiB a fiber); the record on the stack's top page (lost when the
 * stack is emptied).
 */
#include <sys/mman.h>
#include <unistd.h>

#include <toolring/error.h>

#include "base/limits.h"
#include "base/memory.h"
#include "parts/fiber_record.h"

#define TR_MADV_GUARD_INSTALL 102 /* Linux 6.13; not in the C library's headers yet */

/* Neighbourhoods emptied by one trim, a call of the kernel each. */
#define TRIM_RUNS 8u

/* A neighbourhood of free stacks that have rested: off every list, in the hands of a trim. */
struct run {
    unsigned first; /* index */
    unsigned count;
};

static struct tr__fiber *take_from_pool(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache);
static struct tr__fiber *create(struct tr__fiber_pool *pool);
static int install_guard(const struct tr__fiber_pool *pool, char *page);
static void return_chain(struct tr__fiber_pool *pool, struct tr__fiber *chain);
static void lock(struct tr__fiber_pool *pool);
static void unlock(struct tr__fiber_pool *pool);

int tr__fiber_pool_init(struct tr__fiber_pool *pool, unsigned fibers_max, size_t stack_bytes)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t total_bytes;

    TR_ASSERT(page_bytes > 0 && (page_bytes & (page_bytes - 1)) == 0);
    if (fibers_max == 0 || stack_bytes > SIZE_MAX / 2) {
        return TR_EINVAL;
    }
    if (stack_bytes < TR__FIBER_STACK_MIN) {
        stack_bytes = TR__FIBER_STACK_MIN;
    }
    stack_bytes = (stack_bytes + page_bytes - 1) & ~(page_bytes - 1);
    if (stack_bytes < 2 * page_bytes) {
        stack_bytes = 2 * page_bytes;
    }
    if (__builtin_mul_overflow(stack_bytes, (size_t)fibers_max, &total_bytes) ||
        total_bytes > SIZE_MAX / 2) {
        return TR_EINVAL;
    }
    *pool = (struct tr__fiber_pool){
        .limit = fibers_max,
        .fibers_max = fibers_max,
        .age = 1,
        .stack_bytes = stack_bytes,
        .page_bytes = page_bytes,
    };
    pool->stacks = tr__memory_reserve(total_bytes);
    pool->records = tr__memory_reserve(fibers_max * sizeof(struct tr__fiber));
    if (pool->stacks == NULL || pool->records == NULL ||
        pthread_mutex_init(&pool->mutex, NULL) != 0) {
        tr__memory_unreserve(pool->stacks, total_bytes);
        tr__memory_unreserve(pool->records, fibers_max * sizeof(struct tr__fiber));
        return TR_ENOMEM;
    }
    /* Refused only by kernels without huge pages, which cannot waste any. */
    (void)madvise(pool->stacks, total_bytes, MADV_NOHUGEPAGE);
    pool->guard = TR__FIBER_GUARD_INSTALL;
    /* Looked at, too: emulators say yes to any advice and do nothing. */
    if (install_guard(pool, pool->stacks) != 0 || tr__memory_is_readable(pool->stacks)) {
        pool->guard = TR__FIBER_GUARD_PROTECT;
    }
    return 0;
}

void tr__fiber_pool_done(struct tr__fiber_pool *pool)
{
    TR_ASSERT(pool->free_count == pool->created);
    /* A later mapping at these addresses must not inherit the marks of free stacks. */
    tr__asan_unpoison(pool->stacks, pool->created * pool->stack_bytes);
    tr__memory_unreserve(pool->stacks, pool->fibers_max * pool->stack_bytes);
    tr__memory_unreserve(pool->records, pool->fibers_max * sizeof(struct tr__fiber));
    int error = pthread_mutex_destroy(&pool->mutex);
    TR_ASSERT(error == 0);
}

struct tr__fiber *tr__fiber_take(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache)
{
    struct tr__fiber *fiber;

    if (cache != NULL && cache->free != NULL) {
        fiber = cache->free;
        cache->free = fiber->next;
        cache->count -= 1;
    } else {
        fiber = take_from_pool(pool, cache);
        if (fiber == NULL) {
            return NULL;
        }
    }
    TR_ASSERT(fiber->state == TR__FIBER_FREE);
    TR_ASSERT(fiber->pool == pool);
    fiber->next = NULL;
    fiber->state = TR__FIBER_IDLE;
    return fiber;
}

void tr__fiber_give(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache,
                    struct tr__fiber *fiber)
{
    TR_ASSERT(fiber->pool == pool);
    TR_ASSERT(fiber->state == TR__FIBER_IDLE);
    fiber->state = TR__FIBER_FREE;
    /* ASan then reports who still points into the stack of a fiber that has finished. */
    tr__asan_poison(fiber->stack, pool->stack_bytes - pool->page_bytes);
    if (cache == NULL) {
        fiber->next = NULL;
        return_chain(pool, fiber);
        return;
    }
    fiber->next = cache->free;
    cache->free = fiber;
    cache->count += 1;
    if (cache->count < 2 * TR__FIBER_BATCH) {
        return;
    }
    /* The half given most recently stays: its stacks are still in the processor's cache. */
    struct tr__fiber *last = fiber;
    for (unsigned kept = 1; kept < TR__FIBER_BATCH; kept++) {
        last = last->next;
    }
    struct tr__fiber *chain = last->next;
    last->next = NULL;
    cache->count = TR__FIBER_BATCH;
    return_chain(pool, chain);
}

void tr__fiber_cache_flush(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache)
{
    struct tr__fiber *chain = cache->free;

    TR_ASSERT((chain == NULL) == (cache->count == 0));
    cache->free = NULL;
    cache->count = 0;
    if (chain != NULL) {
        return_chain(pool, chain);
    }
}

void tr__fiber_pool_watch(struct tr__fiber_pool *pool, void (*rested)(void *context), void *context)
{
    pool->rested = rested;
    pool->context = context;
}

unsigned tr__fiber_pool_used(struct tr__fiber_pool *pool)
{
    lock(pool);
    unsigned used = pool->created - pool->free_count;
    unlock(pool);
    return used;
}

/* One fiber from the pool, and up to a batch less one more into the cache. */
static struct tr__fiber *take_from_pool(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache)
{
    lock(pool);
    struct tr__fiber **list = pool->warm != NULL ? &pool->warm : &pool->cold;
    struct tr__fiber *first = *list;
    unsigned taken = 0;

    if (first == NULL) {
        first = create(pool);
    } else {
        unsigned wanted = cache != NULL ? TR__FIBER_BATCH : 1;
        struct tr__fiber *last = first;
        first->rested_at = 0;
        for (taken = 1; taken < wanted && last->next != NULL; taken++) {
            last = last->next;
            last->rested_at = 0;
        }
        *list = last->next;
        if (list == &pool->warm) {
            pool->warm_count -= taken;
            if (pool->warm != NULL) {
                pool->warm->previous = NULL;
            } else {
                pool->warm_last = NULL;
            }
        }
        last->next = NULL;
        pool->free_count -= taken;
    }
    unlock(pool);
    if (taken > 1) {
        cache->free = first->next;
        cache->count = taken - 1;
    }
    return first;
}

/* The fiber of the next unused index, FREE; NULL at the limit or without memory. Mutex held. */
static struct tr__fiber *create(struct tr__fiber_pool *pool)
{
    if (pool->guard == TR__FIBER_GUARD_PROTECT && pool->created >= TR__FIBER_PROTECT_MAX) {
        pool->limit = pool->created;
    }
    if (pool->created >= pool->limit) {
        return NULL;
    }
    char *guard = pool->stacks + pool->created * pool->stack_bytes;
    if (install_guard(pool, guard) != 0) {
        /* Out of mappings: no later attempt would fare better. Page-table memory may come back. */
        if (pool->guard == TR__FIBER_GUARD_PROTECT) {
            pool->limit = pool->created;
        }
        return NULL;
    }
    struct tr__fiber *fiber = &pool->records[pool->created];
    pool->created += 1;
    fiber->pool = pool;
    fiber->stack = guard + pool->page_bytes;
    fiber->state = TR__FIBER_FREE;
    return fiber;
}

static int install_guard(const struct tr__fiber_pool *pool, char *page)
{
    return pool->guard == TR__FIBER_GUARD_INSTALL
               ? madvise(page, pool->page_bytes, TR_MADV_GUARD_INSTALL)
               : mprotect(page, pool->page_bytes, PROT_NONE);
}

/* Puts a chain of free fibers, linked and ended by NULL, on the warm list. */
static void return_chain(struct tr__fiber_pool *pool, struct tr__fiber *chain)
{
    lock(pool);
    while (chain != NULL) {
        struct tr__fiber *fiber = chain;
        chain = fiber->next;
        fiber->rested_at = pool->age;
        fiber->previous = NULL;
        fiber->next = pool->warm;
        if (pool->warm != NULL) {
            pool->warm->previous = fiber;
        } else {
            pool->warm_last = fiber;
        }
        pool->warm = fiber;
        pool->warm_count += 1;
        pool->free_count += 1;
    }
    bool unwatched = !pool->watched && pool->rested != NULL;
    pool->watched = pool->watched || unwatched;
    unlock(pool);
    if (unwatched) {
        pool->rested(pool->context); /* invariant 5 */
    }
}

/* Whether the fiber is warm and has rested for a whole period. Mutex held. */
static bool has_rested(const struct tr__fiber_pool *pool, const struct tr__fiber *fiber)
{
    return fiber->rested_at != 0 && pool->age - fiber->rested_at >= 2;
}

static bool has_rested_at(const struct tr__fiber_pool *pool, unsigned index)
{
    return index < pool->created && has_rested(pool, &pool->records[index]);
}

/* Takes a fiber out of the warm list. Mutex held. */
static void unlink_warm(struct tr__fiber_pool *pool, struct tr__fiber *fiber)
{
    *(fiber->previous != NULL ? &fiber->previous->next : &pool->warm) = fiber->next;
    *(fiber->next != NULL ? &fiber->next->previous : &pool->warm_last) = fiber->previous;
    fiber->rested_at = 0;
    pool->warm_count -= 1;
}

/* Takes the oldest fiber and its neighbours that have rested as well, `count_max` of them at most,
 * out of the warm list. Mutex held. */
static struct run take_run(struct tr__fiber_pool *pool, unsigned count_max)
{
    unsigned first = (unsigned)(pool->warm_last - pool->records);
    unsigned end = first + 1;

    while (end - first < count_max && has_rested_at(pool, end)) {
        end++;
    }
    while (end - first < count_max && first > 0 && has_rested_at(pool, first - 1)) {
        first--;
    }
    for (unsigned index = first; index < end; index++) {
        unlink_warm(pool, &pool->records[index]);
    }
    return (struct run){first, end - first};
}

/* Gives back the pages of a neighbourhood by one call. The guards between the stacks stay. */
static void empty_run(const struct tr__fiber_pool *pool, struct run run)
{
    char *first = pool->records[run.first].stack;
    size_t bytes = run.count * pool->stack_bytes - pool->page_bytes;

    /* Failure leaves pages in place, which is correct, only larger. */
    (void)madvise(first, bytes, MADV_DONTNEED);
}

/* Puts emptied fibers on the cold list, the lowest address in front. Mutex held. */
static void put_cold(struct tr__fiber_pool *pool, struct run run)
{
    for (unsigned left = run.count; left > 0; left--) {
        struct tr__fiber *fiber = &pool->records[run.first + left - 1];
        fiber->next = pool->cold;
        pool->cold = fiber;
    }
}

enum tr__fiber_trim tr__fiber_pool_trim(struct tr__fiber_pool *pool, bool period_over)
{
    struct run runs[TRIM_RUNS];
    unsigned count = 0;
    unsigned left = TR__FIBER_TRIM_MAX;

    lock(pool);
    pool->age += period_over ? 1 : 0;
    while (count < TRIM_RUNS && left > 0 && pool->warm_last != NULL &&
           has_rested(pool, pool->warm_last)) {
        runs[count] = take_run(pool, left);
        left -= runs[count].count;
        count += 1;
    }
    unlock(pool);
    for (unsigned index = 0; index < count; index++) {
        empty_run(pool, runs[index]);
    }
    lock(pool);
    for (unsigned index = 0; index < count; index++) {
        put_cold(pool, runs[index]);
    }
    enum tr__fiber_trim next = TR__FIBER_TRIM_LATER;
    if (pool->warm_last == NULL) {
        pool->watched = false;
        next = TR__FIBER_TRIM_OVER;
    } else if (has_rested(pool, pool->warm_last)) {
        next = TR__FIBER_TRIM_MORE;
    }
    unlock(pool);
    return next;
}

static void lock(struct tr__fiber_pool *pool)
{
    int error = pthread_mutex_lock(&pool->mutex);
    TR_ASSERT(error == 0);
}

static void unlock(struct tr__fiber_pool *pool)
{
    int error = pthread_mutex_unlock(&pool->mutex);
    TR_ASSERT(error == 0);
}
