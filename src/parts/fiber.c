/*
 * fiber.c: pooled stackful coroutines over Boost.Context's two assembly symbols.
 *
 * Purpose: let an awaiting tool function wait in straight-line C without holding a worker.
 * Threads: take, give, flush and used from any; a cache belongs to one thread; a fiber belongs to
 * whoever took it, and to its resumer while it runs. Called by engine/worker and tools/io; calls
 * base/memory, Boost.Context, madvise and mprotect.
 *
 *  1. FREE -> take -> IDLE -> start -> READY -> resume -> RUNNING; then suspend -> READY, or the
 *     entry returns -> IDLE; IDLE -> give -> FREE (in a list of the pool or in a cache).
 *  2. A fiber's record is written only by its owner, or inside tr__fiber_resume on the resumer's
 *     thread: no atomics. READY is set after the context is saved, so a resumer that comes too
 *     early meets an assertion, not a torn stack.
 *  3. Record i, stack i and guard i belong together; i < created. Guards are never taken away.
 *  4. created - free_count fibers are outside the pool. Only the warm_count <= warm_max free ones
 *     of the warm list keep pages; it is taken from first, then the cold one, then a fresh index.
 *  5. Nothing of the library lives on a stack after the entry returned: it is simply left.
 *
 * Bound: fibers_max * stack_bytes of address space. Resident: what each fiber in use touched at its
 * deepest, the same for warm_max free ones and those in caches, and 64 bytes for all ever created.
 *
 * Guards: MADV_GUARD_INSTALL where the kernel has it. Otherwise mprotect, which costs two mappings
 * a fiber: the pool then stops at TR__FIBER_PROTECT_MAX, or where the kernel refuses, and take
 * returns NULL from there on. A frame larger than a page may jump over the guard: compile tools
 * with -fstack-clash-protection.
 *
 * Floating point: on x86-64 a switch keeps MXCSR and the x87 control word; a fiber begins with
 * those of the thread that called tr__fiber_start. Elsewhere only callee-saved registers are kept.
 *
 * Cost (2-vCPU virtual machine): resume and suspend 13 to 16 ns, 20 to 30 ns over 10 000 fibers in
 * turn; take, start, run, give 19 ns; a fresh fiber 3 us, page and guard included; emptying a
 * stack 2 us, and as much to fault it in again. 4160 bytes and 128 of page table while waiting.
 *
 * Rejected: ucontext (two signal-mask calls a switch); a malloc a stack (no guard); mincore to find
 * deep stacks (dearer than emptying them); huge pages (2 MiB a fiber); the record on the stack's
 * top page (lost when the stack is emptied); stacks shifted by cache lines (no difference seen).
 */
#include "parts/fiber.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/limits.h"
#include "base/memory.h"

#if defined(TR__WITH_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TR__WITH_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

#define TR_MADV_GUARD_INSTALL 102 /* Linux 6.13; not in the C library's headers yet */

/* Boost.Context's ABI: jump returns, on the other side, where it came from and the word passed. */
typedef void *tr__fcontext;
typedef struct {
    tr__fcontext fctx;
    void *data;
} tr__transfer;
extern tr__transfer jump_fcontext(tr__fcontext to, void *data);
extern tr__fcontext make_fcontext(void *stack_top, size_t size, void (*function)(tr__transfer));

enum fiber_state {
    FIBER_FREE,
    FIBER_IDLE,
    FIBER_READY,
    FIBER_RUNNING,
};

struct tr__fiber {
    _Alignas(TR_CACHE_LINE) tr__fcontext context; /* where to go on; meaningful while READY */
    tr__fcontext resumer;                         /* whom to return to; meaningful while RUNNING */
    void (*entry)(void *argument);
    void *argument;
    struct tr__fiber *next; /* on a free list */
    struct tr__fiber_pool *pool;
    char *stack; /* lowest usable byte, just above the guard */
    enum fiber_state state;
#if defined(TR__WITH_ASAN)
    void *asan_fake_stack; /* the suspended fiber's */
    const void *asan_resumer_stack;
    size_t asan_resumer_bytes;
#endif
#if defined(TR__WITH_TSAN)
    void *tsan_self;
    void *tsan_resumer;
#endif
};

static void fiber_main(tr__transfer transfer);
static struct tr__fiber *take_from_pool(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache);
static struct tr__fiber *create(struct tr__fiber_pool *pool);
static int install_guard(const struct tr__fiber_pool *pool, char *page);
static void return_chain(struct tr__fiber_pool *pool, struct tr__fiber *chain);
static bool is_on_own_stack(const struct tr__fiber *fiber);
static void lock(struct tr__fiber_pool *pool);
static void unlock(struct tr__fiber_pool *pool);
static int read_errno(void);
static void write_errno(int value);

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
        .warm_max = TR__FIBER_WARM_MAX,
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
    if (install_guard(pool, pool->stacks) != 0) {
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
    TR_ASSERT(fiber->state == FIBER_FREE);
    TR_ASSERT(fiber->pool == pool);
    fiber->next = NULL;
    fiber->state = FIBER_IDLE;
    return fiber;
}

void tr__fiber_give(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache,
                    struct tr__fiber *fiber)
{
    TR_ASSERT(fiber->pool == pool);
    TR_ASSERT(fiber->state == FIBER_IDLE);
    fiber->state = FIBER_FREE;
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

unsigned tr__fiber_pool_used(struct tr__fiber_pool *pool)
{
    lock(pool);
    unsigned used = pool->created - pool->free_count;
    unlock(pool);
    return used;
}

void tr__fiber_start(struct tr__fiber *fiber, void (*entry)(void *argument), void *argument)
{
    size_t usable_bytes = fiber->pool->stack_bytes - fiber->pool->page_bytes;

    TR_ASSERT(fiber->state == FIBER_IDLE);
    TR_ASSERT(entry != NULL);
    tr__asan_unpoison(fiber->stack, usable_bytes);
    fiber->entry = entry;
    fiber->argument = argument;
    fiber->context = make_fcontext(fiber->stack + usable_bytes, usable_bytes, fiber_main);
#if defined(TR__WITH_TSAN)
    fiber->tsan_self = __tsan_create_fiber(0);
#endif
    fiber->state = FIBER_READY;
}

/* TSan: between the switch and the jump nothing may be called and no function may return. */
enum tr__fiber_status tr__fiber_resume(struct tr__fiber *fiber)
{
    TR_ASSERT(fiber->state == FIBER_READY);
    fiber->state = FIBER_RUNNING;
#if defined(TR__WITH_ASAN)
    void *fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, fiber->stack,
                                   fiber->pool->stack_bytes - fiber->pool->page_bytes);
#endif
#if defined(TR__WITH_TSAN)
    fiber->tsan_resumer = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsan_self, 0);
#endif
    tr__transfer back = jump_fcontext(fiber->context, fiber);
#if defined(TR__WITH_ASAN)
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
    fiber->context = back.fctx;
    /* A suspending fiber passes itself, one whose entry returned passes NULL. */
    if (back.data != NULL) {
        fiber->state = FIBER_READY;
        return TR__FIBER_SUSPENDED;
    }
#if defined(TR__WITH_TSAN)
    __tsan_destroy_fiber(fiber->tsan_self);
    fiber->tsan_self = NULL;
#endif
    fiber->state = FIBER_IDLE;
    return TR__FIBER_FINISHED;
}

void tr__fiber_suspend(struct tr__fiber *fiber)
{
    TR_ASSERT(fiber->state == FIBER_RUNNING);
    TR_ASSERT(is_on_own_stack(fiber));
    int error = read_errno();
#if defined(TR__WITH_ASAN)
    __sanitizer_start_switch_fiber(&fiber->asan_fake_stack, fiber->asan_resumer_stack,
                                   fiber->asan_resumer_bytes);
#endif
#if defined(TR__WITH_TSAN)
    __tsan_switch_to_fiber(fiber->tsan_resumer, 0);
#endif
    tr__transfer back = jump_fcontext(fiber->resumer, fiber);
#if defined(TR__WITH_ASAN)
    __sanitizer_finish_switch_fiber(fiber->asan_fake_stack, &fiber->asan_resumer_stack,
                                    &fiber->asan_resumer_bytes);
#endif
    fiber->resumer = back.fctx;
    write_errno(error);
}

/* The bottom frame of every fiber; left for good by its last jump. */
static void fiber_main(tr__transfer transfer)
{
    struct tr__fiber *fiber = transfer.data;

#if defined(TR__WITH_ASAN)
    __sanitizer_finish_switch_fiber(NULL, &fiber->asan_resumer_stack, &fiber->asan_resumer_bytes);
#endif
    fiber->resumer = transfer.fctx;
    fiber->entry(fiber->argument);
#if defined(TR__WITH_ASAN)
    __sanitizer_start_switch_fiber(NULL, fiber->asan_resumer_stack, fiber->asan_resumer_bytes);
#endif
#if defined(TR__WITH_TSAN)
    __tsan_switch_to_fiber(fiber->tsan_resumer, 0);
#endif
    (void)jump_fcontext(fiber->resumer, NULL);
    tr__panic(__FILE__, __LINE__, "a finished fiber was resumed");
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
        for (taken = 1; taken < wanted && last->next != NULL; taken++) {
            last = last->next;
        }
        *list = last->next;
        last->next = NULL;
        pool->free_count -= taken;
        pool->warm_count -= list == &pool->warm ? taken : 0;
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
    fiber->state = FIBER_FREE;
    return fiber;
}

static int install_guard(const struct tr__fiber_pool *pool, char *page)
{
    return pool->guard == TR__FIBER_GUARD_INSTALL
               ? madvise(page, pool->page_bytes, TR_MADV_GUARD_INSTALL)
               : mprotect(page, pool->page_bytes, PROT_NONE);
}

/* Gives back the pages of up to TR__FIBER_BATCH stacks, neighbours by one call: a call costs 2 us,
 * most of it for telling the other processors. Guards between them stay. */
static void empty_group(const struct tr__fiber_pool *pool, struct tr__fiber **group, unsigned count)
{
    for (unsigned at = 1; at < count; at++) { /* sorted by address; often they are already */
        struct tr__fiber *fiber = group[at];
        unsigned place = at;
        for (; place > 0 && group[place - 1]->stack > fiber->stack; place--) {
            group[place] = group[place - 1];
        }
        group[place] = fiber;
    }
    size_t usable_bytes = pool->stack_bytes - pool->page_bytes;
    for (unsigned first = 0; first < count;) {
        unsigned end = first + 1;
        while (end < count && group[end]->stack == group[end - 1]->stack + pool->stack_bytes) {
            end++;
        }
        size_t bytes = (size_t)(group[end - 1]->stack - group[first]->stack) + usable_bytes;
        /* Failure leaves pages in place, which is correct, only larger. */
        (void)madvise(group[first]->stack, bytes, MADV_DONTNEED);
        first = end;
    }
}

/* Empties the stacks of a chain. Returns how many, and the last of them. */
static unsigned empty_stacks(const struct tr__fiber_pool *pool, struct tr__fiber *chain,
                             struct tr__fiber **ret_last)
{
    struct tr__fiber *group[TR__FIBER_BATCH];
    unsigned total = 0;
    unsigned count = 0;
    for (struct tr__fiber *fiber = chain; fiber != NULL; fiber = fiber->next) {
        group[count++] = fiber;
        total += 1;
        *ret_last = fiber;
        if (count == TR__FIBER_BATCH) {
            empty_group(pool, group, count);
            count = 0;
        }
    }
    empty_group(pool, group, count);
    return total;
}

/* Puts a chain of free fibers, linked and ended by NULL, back: warm up to the bound, the rest cold.
 */
static void return_chain(struct tr__fiber_pool *pool, struct tr__fiber *chain)
{
    lock(pool);
    while (chain != NULL && pool->warm_count < pool->warm_max) {
        struct tr__fiber *next = chain->next;
        chain->next = pool->warm;
        pool->warm = chain;
        pool->warm_count += 1;
        pool->free_count += 1;
        chain = next;
    }
    unlock(pool);
    if (chain == NULL) {
        return;
    }
    struct tr__fiber *last = NULL;
    unsigned count = empty_stacks(pool, chain, &last); /* outside the lock */
    lock(pool);
    last->next = pool->cold;
    pool->cold = chain;
    pool->free_count += count;
    unlock(pool);
}

static bool is_on_own_stack(const struct tr__fiber *fiber)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    uintptr_t stack = (uintptr_t)fiber->stack;

    return frame - stack < fiber->pool->stack_bytes - fiber->pool->page_bytes;
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

/*
 * The address of errno differs by thread, and the C library lets compilers remember it within a
 * function. A suspension may change the thread, so each access has a function of its own.
 */
static __attribute__((noinline)) int read_errno(void)
{
    return errno;
}

static __attribute__((noinline)) void write_errno(int value)
{
    errno = value;
}
