/*
 * stage.c: see stage.h.
 *
 * Owner thread: the guard's only one. Called by the probes; calls host, engine and floors below.
 *
 * An inline manager is opened through the public interface and then given what a threaded one has,
 * as engine.c does it, but for the threads: a worker's seat, a ring without its thread over the
 * kernel of kernel.c, a pool of fibers. Before it is closed all that is taken away again.
 *
 * Invariant: nothing here is counted; whatever a probe counts runs in the library.
 */
#include "stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/ring_loop.h"
#include "host/manager.h"

#define TASKS_MAX 4096u
#define FIBERS_MAX 64u
#define SLICE_NS UINT64_C(3600000000000) /* nobody is ever stuck here */

void stage_require(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "guard: not true: %s\n", what);
        exit(1);
    }
}

#define REQUIRE(condition) stage_require((condition), #condition)

static int tool_return(tr_call *call, void *context)
{
    tr_bytes input = tr_call_input(call);
    (void)context;
    return tr_result_copy(call, input.data, input.size);
}

static void *take_zero(size_t size)
{
    void *memory = aligned_alloc(128, (size + 127) / 128 * 128);
    REQUIRE(memory != NULL);
    memset(memory, 0, size);
    return memory;
}

static void watch(void *context, uint64_t when_ns)
{
    (void)context;
    (void)when_ns; /* `watching` stays set: one per stage, as under load */
}

static void dry(void *context)
{
    (void)context;
}

/* One seat and its worker, without a thread. */
static struct tr__worker *seat_worker(struct tr__engine *engine)
{
    struct tr__workers *workers = &engine->workers;
    workers->config.seats = 1;
    workers->config.slice_ns = SLICE_NS;
    workers->config.context = engine;
    workers->config.run = tr__engine_run;
    workers->config.watch = watch;
    workers->config.dry = dry;
    workers->workers_max = 1;
    workers->seats = take_zero(sizeof *workers->seats);
    workers->workers = take_zero(sizeof *workers->workers);
    struct tr__worker *worker = workers->workers;
    worker->workers = workers;
    worker->random = 1;
    worker->context = engine->threads;
    tr__parker_init(&worker->parker);
    tr__mpsc_init(&workers->seats->high);
    tr__mpsc_init(&workers->seats->low);
    tr__token_init(&workers->seats->token);
    tr__store_relaxed(&workers->seats->occupant, (void *)worker); /* there is nobody else */
    tr__store_relaxed(&workers->seats->mode, (uint32_t)TR__SEAT_BRIEF);
    return worker;
}

static void give_threads(struct stage *stage)
{
    tr_manager *manager = stage->manager;
    struct tr__engine *engine = &manager->engine;
    struct tr__completion *completion = manager->completion;
    engine->config.seats = 1;
    engine->config.fibers_max = FIBERS_MAX;
    engine->deadlines_bytes = (TASKS_MAX + 1) * sizeof *engine->deadlines;
    engine->deadlines = tr__memory_reserve(engine->deadlines_bytes);
    engine->threads = take_zero(sizeof *engine->threads);
    engine->typical_ns = take_zero((engine->config.tools_max + 1) * sizeof *engine->typical_ns);
    REQUIRE(engine->deadlines != NULL);
    tr__arena_producer_init(&engine->threads->producer, false);

    /* A shard for the worker, beside the shared one. */
    tr__memory_give(completion->shards);
    completion->shard_count = 2;
    size_t bytes = completion->shard_count * sizeof *completion->shards;
    completion->shards = tr__memory_take_aligned(TR_CACHE_LINE, bytes);
    REQUIRE(completion->shards != NULL);
    memset((void *)completion->shards, 0, bytes);

    struct tr__ring_config config = {.entries = TR__RING_ENTRIES_MIN,
                                     .kernel = &instant_kernel,
                                     .kernel_context = &stage->kernel};
    REQUIRE(tr__ring_init(&engine->ring, &config) == 0);
    REQUIRE(tr__ring_attach(&engine->ring, &config) == 0);
    REQUIRE(tr__fiber_pool_init(&engine->fibers, 2 * FIBERS_MAX, 65536) == 0);
    stage->worker = seat_worker(engine);
    tr__store_relaxed(&engine->keeper.looking, 1u); /* its timer is under way, as under load */
    engine->config.threaded = true;
    manager->threaded = true;
    manager->fibers_max = FIBERS_MAX;
}

static void take_threads(struct stage *stage)
{
    tr_manager *manager = stage->manager;
    struct tr__engine *engine = &manager->engine;
    engine->ring.stop.kind = TR__MESSAGE_STOP;
    tr__ring_push(&engine->ring, &engine->ring.stop, 0);
    while (tr__ring_round(&engine->ring)) {
    }
    tr__ring_detach(&engine->ring);
    tr__ring_done(&engine->ring);
    tr__fiber_cache_flush(&engine->fibers, &stage->worker->fibers);
    tr__fiber_pool_done(&engine->fibers);
    tr__arena_producer_done(&manager->completion->arena, &engine->threads->producer);
    tr__memory_unreserve(engine->deadlines, engine->deadlines_bytes);
    free(engine->workers.seats);
    free(engine->workers.workers);
    free(engine->threads);
    free((void *)(uintptr_t)engine->typical_ns);
    engine->deadlines = NULL;
    engine->threads = NULL; /* not the manager's to give back */
    engine->typical_ns = NULL;
    engine->config.threaded = false;
    manager->threaded = false;
}

void stage_rest(struct stage *stage)
{
    struct tr__workers *workers = stage->worker->workers;
    tr__worker_rests(stage->worker);
    tr__parker_prepare(&stage->worker->parker);
    tr__store_seq_cst(&workers->seats->mode, (uint32_t)TR__SEAT_AWAY); /* as worker.c does it */
    (void)tr__fetch_or_seq_cst(&workers->idle, UINT64_C(1));
}

void stage_wake(struct stage *stage)
{
    struct tr__workers *workers = stage->worker->workers;
    REQUIRE(tr__load_seq_cst(&workers->idle) == 0); /* the launcher has claimed the wake */
    REQUIRE(tr__parker_wait(&stage->worker->parker, 0) == 0);
    tr__store_seq_cst(&workers->seats->mode, (uint32_t)TR__SEAT_BRIEF);
}

static tr_tool_id add_tool(struct stage *stage, const char *name, uint32_t flags, uint64_t total_ns)
{
    tr_tool tool = TR_TOOL_INIT(name, tool_return);
    tr_tool_id id = 0;
    tool.flags = flags;
    tool.options.total_timeout_ns = total_ns;
    REQUIRE(tr_tool_register(stage->manager, &tool, &id) == 0);
    return id;
}

void stage_open(struct stage *stage, bool threaded)
{
    tr_config config = TR_CONFIG_INIT;
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    tr_session_id session;
    memset((void *)stage, 0, sizeof *stage);
    config.flags = TR_MANAGER_INLINE;
    config.tasks_max = TASKS_MAX;
    REQUIRE(tr_manager_open(&config, &stage->manager) == 0);
    if (threaded) {
        give_threads(stage);
    }
    REQUIRE(tr_queue_open(stage->manager, &stage->queue) == 0);
    REQUIRE(tr_session_open(stage->manager, NULL, &stage->session) == 0);
    REQUIRE(tr_turn_open(stage->manager, stage->session, NULL, &stage->turn) == 0);
    options.queue = stage->queue;
    REQUIRE(tr_session_open(stage->manager, &options, &session) == 0);
    REQUIRE(tr_turn_open(stage->manager, session, NULL, &stage->bound) == 0);
    stage->plain = add_tool(stage, "plain", 0, 0);
    stage->awaiting = add_tool(stage, "awaiting", TR_TOOL_AWAITING, 0);
    stage->brief = add_tool(stage, "brief", TR_TOOL_BRIEF, 0);
    stage->timed = add_tool(stage, "timed", 0, 3600 * TR_SECOND);
}

void stage_close(struct stage *stage)
{
    if (stage->worker != NULL) {
        take_threads(stage);
    }
    REQUIRE(tr_manager_close(stage->manager, 0) == 0);
    tr_manager_free(stage->manager);
}
