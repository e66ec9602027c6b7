/*
 * fiber.h: pooled stackful coroutines, on which awaiting tool functions run.
 *
 * A pool reserves address space for fibers_max stacks, each with a guard page at its low end;
 * memory is used as it is touched: one page of stack, a 64-byte record and a share of page tables
 * for a fiber that waits. A fiber is taken, started, resumed until it has finished, then given back
 * or started again. It may be resumed on another thread than before.
 *
 * Code that runs on a fiber may wake on another thread, so it must not keep the address of a
 * thread-local variable across a suspension. Compilers keep what the C library calls constant, the
 * address of errno and the answer of pthread_self among it. errno's value is carried along, yet is
 * best read before a suspension, not after.
 */
#ifndef TR__PARTS_FIBER_H
#define TR__PARTS_FIBER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

/* Fibers moved between a thread's cache and the pool at once; a cache holds up to twice as many. */
#define TR__FIBER_BATCH 16u

/* Stacks emptied by one trim: some 20 us, so that work behind it hardly waits. */
#define TR__FIBER_TRIM_MAX 64u

/* Guards by mprotect split mappings, and vm.max_map_count (65 530 by default) ends them. */
#define TR__FIBER_PROTECT_MAX 30000u

struct tr__fiber;

enum tr__fiber_status {
    TR__FIBER_SUSPENDED,
    TR__FIBER_FINISHED,
};

enum tr__fiber_guard {
    TR__FIBER_GUARD_INSTALL, /* MADV_GUARD_INSTALL: lives in the page table, splits nothing */
    TR__FIBER_GUARD_PROTECT, /* mprotect: one more mapping pair for each fiber */
};

/* What a pool wants of whoever watches it. */
enum tr__fiber_trim {
    TR__FIBER_TRIM_OVER,  /* nothing: no free fiber has pages, and the hook will be called again */
    TR__FIBER_TRIM_LATER, /* a trim when a period is over */
    TR__FIBER_TRIM_MORE,  /* a trim soon: there is more to empty */
};

struct tr__fiber_pool {
    /* Constant after init and watch. */
    char *stacks;              /* fibers_max * stack_bytes of address space */
    struct tr__fiber *records; /* fibers_max of them, each touched when its fiber is first needed */
    size_t stack_bytes;        /* whole pages, guard included */
    size_t page_bytes;
    unsigned fibers_max;
    enum tr__fiber_guard guard;
    void (*rested)(void *context); /* NULL: nobody trims */
    void *context;

    /* Guarded by the mutex; on another cache line than what every switch reads. */
    TR__CACHE_ALIGNED pthread_mutex_t mutex;
    struct tr__fiber *warm;      /* LIFO of free fibers whose stacks keep their pages */
    struct tr__fiber *warm_last; /* ... its end: who has rested longest */
    struct tr__fiber *cold;      /* LIFO of free fibers whose stacks were emptied */
    unsigned warm_count;
    unsigned free_count; /* warm, cold, and in the hands of a trim */
    unsigned created;    /* records and guards below this index exist */
    unsigned limit;      /* fibers that may be created; shrinks when guards run out */
    uint32_t age;        /* periods that trims have ended, and 1 */
    bool watched;        /* somebody is bound to call trim */
};

/* Free fibers at the hand of one worker thread. All zero is an empty cache. */
struct tr__fiber_cache {
    struct tr__fiber *free;
    unsigned count;
};

/*
 * Reserves a pool. fibers_max: 1 or more. stack_bytes: size of one stack, guard page included,
 * rounded up to pages and to TR__FIBER_STACK_MIN.
 * Returns 0, TR_EINVAL for sizes that do not fit the address space, or TR_ENOMEM.
 */
int tr__fiber_pool_init(struct tr__fiber_pool *pool, unsigned fibers_max, size_t stack_bytes);

/*
 * Names who sees to trims, before the first fiber is taken. `rested` is called, by a thread that
 * gives a fiber back or flushes its cache, when free fibers have pages and nobody is bound to trim:
 * the caller then is, a period later. Without it free fibers keep their pages.
 */
void tr__fiber_pool_watch(struct tr__fiber_pool *pool, void (*rested)(void *context),
                          void *context);

/*
 * Any thread, one at a time: empties some of the stacks that were free for a whole period.
 * period_over: a period has passed since the last such trim, or since `rested` was called. At most
 * TR__FIBER_TRIM_MAX fibers cannot be taken meanwhile.
 */
enum tr__fiber_trim tr__fiber_pool_trim(struct tr__fiber_pool *pool, bool period_over);

/* Unmaps the pool. Every fiber must have been given back and every cache flushed. */
void tr__fiber_pool_done(struct tr__fiber_pool *pool);

/*
 * Takes a free fiber. Returns NULL when all are in use or the kernel refuses memory for a guard;
 * the caller may try again once a fiber is given back. Up to 2 * TR__FIBER_BATCH free fibers may
 * rest in each other thread's cache meanwhile, and TR__FIBER_TRIM_MAX in a trim. cache may be NULL:
 * straight from the pool.
 */
struct tr__fiber *tr__fiber_take(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache);

/* Gives back a fiber that never started or has finished. cache may be NULL: straight to the pool.
 */
void tr__fiber_give(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache,
                    struct tr__fiber *fiber);

/* Returns all of a cache to the pool: before its thread ends. */
void tr__fiber_cache_flush(struct tr__fiber_pool *pool, struct tr__fiber_cache *cache);

/* Prepares a fiber, fresh or finished, to run entry(argument); nothing runs yet. */
void tr__fiber_start(struct tr__fiber *fiber, void (*entry)(void *argument), void *argument);

/*
 * Runs a fiber on the calling thread until it suspends or its entry returns. The caller makes sure
 * that nobody else resumes it, and that all the previous resumer did is visible here.
 */
enum tr__fiber_status tr__fiber_resume(struct tr__fiber *fiber);

/* On the fiber itself: returns to the resumer; comes back at the next resume, errno unchanged. */
void tr__fiber_suspend(struct tr__fiber *fiber);

/*
 * Fibers outside the pool: those in use and those in thread caches; exact once caches are flushed.
 * Any thread.
 */
unsigned tr__fiber_pool_used(struct tr__fiber_pool *pool);

#endif
