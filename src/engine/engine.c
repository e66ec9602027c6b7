/*
 * engine.c: starting and stopping the moving parts in the right order.
 *
 * Owner thread: the one that opens or closes the manager. Called by host; calls ring, workers,
 * spawner, fibers.
 *
 * Invariants
 *  1. Start: trees, ring, fibers, spawner, workers: each may use those before it; the herald when
 *     it is needed. Stop: herald, workers, spawner, trees, ring: whoever could start an op has
 *     stopped before the ring does, and who could start a program before the trees end the rest.
 *  2. A part that could not stop (a tool that never returns, a kernel that keeps an op) keeps
 *     everything it could still touch: nothing is freed then.
 *  3. While free fibers have pages, either the op `rest` is under way, or the node `trim` is in a
 *     worker's queue or hands; else neither is, and the pool's hook starts the op anew. So a quiet
 *     engine has no timer. Low priority and a bounded step: trims stand behind all work.
 *
 * Deadlines before queues: timers are promises, what waits in a queue was promised nothing. While
 * the ring's thread is late with one, workers yield to it between tasks: one of them may have its
 * processor, and a scheduler's slice lasts milliseconds. With 50 000 deadlines within 20 ms on two
 * processors the 99th percentile of their lateness was 9 ms with it, 43 without (medians of 8 runs
 * in turn; 40 and 76 while others kept the processors busy), at the same throughput. Rejected:
 * sleeping instead of yielding (as good there, and idles processors that the ring does not want).
 */
#include "engine/engine.h"

#include <sched.h>
#include <string.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/memory.h"

/* The ring gives back what it has within milliseconds; a kernel that does not by then never
 * will. */
#define RING_CLOSE_NS (UINT64_C(5) * 1000000000u)

static void watch_due(struct tr__op *op)
{
    struct tr__engine *engine = (struct tr__engine *)op->owner;
    if (tr__load_relaxed(&engine->closing) == 0) { /* set long before the ring stops */
        tr__workers_check(&engine->workers, tr__clock_now());
    }
}

static void watch(void *context, uint64_t when_ns)
{
    struct tr__engine *engine = (struct tr__engine *)context;
    engine->watch.kind = TR__OP_TIMER;
    engine->watch.done = watch_due;
    engine->watch.owner = engine;
    engine->watch.deadline_ns = when_ns;
    tr__ring_start(&engine->ring, &engine->watch);
}

/* ---- trims: an op waits for the end of a period, a worker empties stacks, some at a time ---- */

static void rest_due(struct tr__op *op)
{
    struct tr__engine *engine = (struct tr__engine *)op->owner;
    if (tr__load_relaxed(&engine->closing) == 0) { /* as in watch_due */
        engine->rest_over = true;                  /* published by the post */
        tr__workers_post(&engine->workers, &engine->trim, 0, true);
    }
}

/* The pool's hook: free fibers have pages. Invariant 3. */
static void rest(void *context)
{
    struct tr__engine *engine = (struct tr__engine *)context;
    engine->rest.kind = TR__OP_TIMER;
    engine->rest.done = rest_due;
    engine->rest.owner = engine;
    engine->rest.deadline_ns = tr__clock_after(tr__clock_now(), TR__FIBER_REST_NS);
    tr__ring_start(&engine->ring, &engine->rest);
}

void tr__engine_trim(struct tr__engine *engine, struct tr__worker *worker)
{
    enum tr__fiber_trim next = tr__fiber_pool_trim(&engine->fibers, engine->rest_over);
    if (next == TR__FIBER_TRIM_OVER || tr__load_relaxed(&engine->closing) != 0) {
        return; /* the pool will call, or go altogether */
    }
    if (next == TR__FIBER_TRIM_LATER) {
        rest(engine);
        return;
    }
    engine->rest_over = false;
    tr__workers_post(&engine->workers, &engine->trim, worker->seat, true); /* behind other work */
}

/* Between two times of giving way; a system call of under 1 us when nobody wants the processor. */
#define GIVE_WAY_NS UINT64_C(20000)

void tr__engine_give_way(struct tr__engine *engine, struct tr__engine_thread *thread)
{
    uint64_t now = thread->now_ns;
    if (now - thread->gave_way_ns >= GIVE_WAY_NS && tr__ring_is_overdue(&engine->ring, now)) {
        (void)sched_yield(); /* cannot fail */
        thread->gave_way_ns = now;
        thread->now_ns = 0;
    }
}

static void dry(void *context)
{
    struct tr__engine *engine = (struct tr__engine *)context;
    tr__gate_open(&engine->completion->idle);
}

static void enter(void *context, struct tr__worker *worker)
{
    struct tr__engine *engine = (struct tr__engine *)context;
    struct tr__engine_thread *thread = &engine->threads[worker->index];
    tr__arena_producer_init(&thread->producer, false);
    worker->context = thread;
}

static void leave(void *context, struct tr__worker *worker)
{
    struct tr__engine *engine = (struct tr__engine *)context;
    tr__arena_producer_done(&engine->completion->arena, &engine->threads[worker->index].producer);
    tr__fiber_cache_flush(&engine->fibers, &worker->fibers);
}

static int open_ring(struct tr__engine *engine)
{
    struct tr__ring_config config;
    memset(&config, 0, sizeof(config));
    config.entries = engine->config.ring_entries;
    config.message = engine->config.message;
    config.message_size = engine->config.message_size;
    return tr__ring_open(&engine->ring, &config);
}

static int open_workers(struct tr__engine *engine)
{
    struct tr__workers_config config;
    memset(&config, 0, sizeof(config));
    config.seats = engine->config.seats;
    config.substitutes_max = engine->config.substitutes_max;
    config.slice_ns = engine->config.slice_ns;
    config.spin = engine->config.spin;
    config.processors = engine->config.processors;
    config.context = engine;
    config.run = tr__engine_run;
    config.watch = watch;
    config.dry = dry;
    config.enter = enter;
    config.leave = leave;
    return tr__workers_open(&engine->workers, &config);
}

/* Fibers rest in each worker's cache and are in a trim now and then: they must not be missing from
 * fibers_max. */
static unsigned fibers_needed(const struct tr__engine_config *config)
{
    return config->fibers_max + TR__FIBER_TRIM_MAX +
           2 * TR__FIBER_BATCH * (config->seats + config->substitutes_max);
}

/* A spawn waits for a processor most of its time: one thread for two of those. */
static unsigned spawners_of(const struct tr__engine_config *config)
{
    unsigned threads = config->processors / 2;
    threads = threads > TR__SPAWNERS ? threads : TR__SPAWNERS;
    return threads < TR__SPAWNER_THREADS_MAX ? threads : TR__SPAWNER_THREADS_MAX;
}

static int open_threads(struct tr__engine *engine)
{
    int error = open_ring(engine);
    if (error < 0) {
        return error;
    }
    error = tr__fiber_pool_init(&engine->fibers, fibers_needed(&engine->config),
                                engine->config.fiber_stack_bytes);
    if (error < 0) {
        goto close_ring;
    }
    tr__fiber_pool_watch(&engine->fibers, rest, engine);
    error = tr__spawner_open(&engine->spawner, spawners_of(&engine->config),
                             engine->config.processes_max);
    if (error < 0) {
        goto free_fibers;
    }
    error = open_workers(engine);
    if (error == 0) {
        return 0;
    }
    tr__spawner_close(&engine->spawner);
free_fibers:
    tr__fiber_pool_done(&engine->fibers);
close_ring:
    (void)tr__ring_close(&engine->ring, TR__FOREVER); /* nothing is under way */
    return error;
}

static void done_tables(struct tr__engine *engine)
{
    if (engine->deadlines != NULL) {
        tr__memory_unreserve(engine->deadlines, engine->deadlines_bytes);
    }
    tr__memory_give(engine->threads);
    tr__memory_give((void *)(uintptr_t)engine->typical_ns);
    tr__vigil_free(engine->vigil);
}

/* What is missing after an error is NULL. */
static int open_tables(struct tr__engine *engine)
{
    const struct tr__engine_config *config = &engine->config;
    engine->deadlines_bytes = ((size_t)config->tasks_max + 1) * sizeof(*engine->deadlines);
    engine->deadlines = (struct tr__deadline *)tr__memory_reserve(engine->deadlines_bytes);
    if (!config->threaded) {
        engine->vigil = engine->deadlines == NULL ? NULL : tr__vigil_make();
        return engine->vigil == NULL ? TR_ENOMEM : 0;
    }
    size_t threads_bytes = (config->seats + config->substitutes_max) * sizeof(*engine->threads);
    engine->threads =
        (struct tr__engine_thread *)tr__memory_take_aligned(TR_CACHE_LINE, threads_bytes);
    engine->typical_ns = (tr__atomic_u32 *)tr__memory_take_zero(((size_t)config->tools_max + 1) *
                                                                sizeof(*engine->typical_ns));
    if (engine->deadlines == NULL || engine->threads == NULL || engine->typical_ns == NULL) {
        return TR_ENOMEM;
    }
    memset((void *)engine->threads, 0, threads_bytes);
    return 0;
}

static bool is_session_open(void *context, uint64_t id)
{
    struct tr__engine *engine = (struct tr__engine *)context;
    struct tr__lane *lane = NULL;
    struct tr__session *session =
        tr__registry_lock_session(&engine->completion->registry, id, &lane);
    if (session == NULL) {
        return false;
    }
    bool open = tr__load_relaxed(&session->closed) == 0; /* written under this lock */
    tr__lane_unlock(lane);
    return open;
}

static int open_trees(struct tr__engine *engine)
{
    struct tr__trees_config config;
    memset(&config, 0, sizeof(config));
    config.no_cgroup = engine->config.no_cgroup;
    config.sweep = engine->config.sweep;
    config.cgroup_path = engine->config.cgroup_path;
    config.trees_max = engine->config.processes_max;
    config.context = engine;
    config.is_session_open = is_session_open;
    config.message = engine->config.message;
    config.message_size = engine->config.message_size;
    return tr__trees_open(&engine->trees, &config);
}

int tr__engine_open(struct tr__engine *engine, struct tr__completion *completion,
                    tr_manager *manager, const struct tr__engine_config *config)
{
    memset((void *)engine, 0, sizeof(*engine));
    engine->completion = completion;
    engine->manager = manager;
    engine->config = *config;
    tr__herald_open(&engine->herald, completion, config->threaded);
    int error = open_tables(engine);
    if (error == 0) {
        error = open_trees(engine);
    }
    if (error == 0 && config->threaded) {
        error = open_threads(engine);
    }
    engine->config.message = NULL; /* borrowed during opening only */
    if (error < 0) {
        tr__trees_close(engine->trees);
        tr__trees_free(engine->trees);
        done_tables(engine);
        tr__herald_done(&engine->herald);
    }
    return error;
}

int tr__engine_close(struct tr__engine *engine, uint64_t deadline_ns)
{
    tr__store_seq_cst(&engine->closing, 1u); /* pairs with the looks of due and watch_due */
    if (!engine->config.threaded) {
        tr__trees_close(engine->trees);
        return 0;
    }
    bool herald = tr__herald_close(&engine->herald, deadline_ns);
    uint32_t left = tr__workers_close(&engine->workers, deadline_ns);
    tr__spawner_close(&engine->spawner);
    tr__trees_close(engine->trees);
    if (left > 0 || !herald) {
        return TR_EBUSY; /* a function still runs: it may yet use the ring */
    }
    uint64_t until = tr__clock_after(tr__clock_now(), RING_CLOSE_NS);
    return tr__ring_close(&engine->ring, until) < 0 ? TR_EBUSY : 0;
}

void tr__engine_done(struct tr__engine *engine)
{
    if (engine->config.threaded) {
        tr__workers_done(&engine->workers);
        tr__fiber_pool_done(&engine->fibers);
    }
    tr__trees_free(engine->trees);
    tr__herald_done(&engine->herald);
    done_tables(engine);
}
