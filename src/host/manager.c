/*
 * manager.c: opening, closing, freeing a manager; waiting until it is idle; registering tools.
 *
 * Owner thread: any host thread. Called by hosts; calls engine, completion.
 *
 * Closing, step by step, and why in this order:
 *  1. Intake stops: `registry.closing` is set, then every lane's lock is taken once. A launch that
 *     got its lane before is accepted and will be waited for; one after sees the flag.
 *  2. Drain: waits until nothing is unfinished, or the time is up.
 *  3. What is left is asked to stop; the engine's patience (grace + abandon_wait) ends what does
 *     not.
 *  4. Waits for functions that were abandoned, so that their threads can be joined; up to
 *     abandon_wait. Then for host threads that are still busy with a task that has ended: arming
 *     its timer, handing it to a worker, waking its function. They use the ring.
 *  5. The engine's threads stop. From here on nobody settles or publishes.
 *  6. Readers and waiters are told. Channels can still be emptied until the manager is freed.
 *
 * Invariants
 *  1. `closed` is set only when every accepted task has been settled.
 *  2. The manager's memory is freed by tr_manager_free alone; the completion's by its last
 *     reference.
 *  3. After TR_EBUSY nothing is ever freed: a thread that nobody can stop may still use it.
 */
#include "host/manager.h"

#include <string.h>

#include "base/assert.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/memory.h"
#include "host/config.h"
#include "host/drain.h"
#include "host/options.h"

static void destroy(struct tr__completion *completion)
{
    tr__completion_done(completion);
    tr__memory_give(completion);
}

static int open_completion(const tr_config *config, struct tr__completion **ret_completion)
{
    bool threaded = (config->flags & TR_MANAGER_INLINE) == 0;
    struct tr__completion_config wanted = {
        {config->tasks_max, config->turns_max, config->sessions_max, config->tools_max},
        threaded ? config->workers + config->substitutes_max : 0,
        config->events_max,
        config->readers_max,
        config->bytes_max,
    };
    struct tr__completion *completion =
        (struct tr__completion *)tr__memory_take_aligned(TR_CACHE_LINE, sizeof(*completion));
    if (completion == NULL) {
        return TR_ENOMEM;
    }
    int error = tr__completion_init(completion, &wanted);
    if (error < 0) {
        tr__memory_give(completion);
        return error;
    }
    completion->destroy = destroy;
    *ret_completion = completion;
    return 0;
}

static int open_engine(tr_manager *manager, const tr_config *config)
{
    struct tr__engine_config wanted;
    memset(&wanted, 0, sizeof(wanted));
    wanted.threaded = manager->threaded;
    wanted.seats = config->workers;
    wanted.substitutes_max = config->substitutes_max;
    wanted.fibers_max = config->fibers_max;
    wanted.fiber_stack_bytes = config->fiber_stack_bytes;
    wanted.ring_entries = config->ring_entries;
    wanted.processes_max = config->processes_max;
    wanted.slice_ns = config->slice_ns;
    wanted.cancel_grace_ns = config->cancel_grace_ns;
    wanted.abandon_wait_ns = config->abandon_wait_ns;
    wanted.output_bytes_max = config->output_bytes_max;
    wanted.result_bytes_max = config->result_bytes_max;
    wanted.tasks_max = config->tasks_max;
    wanted.tools_max = config->tools_max;
    wanted.processors = tr__config_processors();
    wanted.spin = wanted.processors > 1;
    wanted.no_cgroup = (config->flags & TR_MANAGER_NO_CGROUP) != 0;
    wanted.sweep = (config->flags & TR_MANAGER_SUBREAPER) != 0;
    wanted.cgroup_path = config->cgroup_path;
    wanted.message = config->message;
    wanted.message_size = config->message_size;
    return tr__engine_open(&manager->engine, manager->completion, manager, &wanted);
}

static int open_manager(const tr_config *config, tr_manager **ret_manager)
{
    tr_manager *manager = (tr_manager *)tr__memory_take_aligned(TR_CACHE_LINE, sizeof(*manager));
    if (manager == NULL) {
        return TR_ENOMEM;
    }
    memset((void *)manager, 0, sizeof(*manager));
    int error = open_completion(config, &manager->completion);
    if (error < 0) {
        tr__memory_give(manager);
        return error;
    }
    manager->permit = config->permit;
    manager->route = config->route;
    manager->context = config->context;
    manager->input_bytes_max = config->input_bytes_max;
    manager->fibers_max = config->fibers_max;
    manager->queues_max = config->queues_max;
    manager->threaded = (config->flags & TR_MANAGER_INLINE) == 0;
    (void)pthread_mutex_init(&manager->lock, NULL); /* a default mutex: cannot fail on Linux */
    error = open_engine(manager, config);
    if (error < 0) {
        (void)pthread_mutex_destroy(&manager->lock);
        tr__completion_unref(manager->completion);
        tr__memory_give(manager);
        return error;
    }
    *ret_manager = manager;
    return 0;
}

int tr_manager_open(const tr_config *config, tr_manager **ret_manager)
{
    tr_config resolved;
    int error = ret_manager == NULL ? TR_EINVAL : tr__config_resolve(config, &resolved);
    if (error < 0) {
        return error;
    }
    tr__config_hush(&resolved);
    error = open_manager(&resolved, ret_manager);
    if (error < 0) {
        tr__config_explain(&resolved, error);
    }
    return error;
}

/* What a wait is for. */
struct quiet {
    bool functions_too; /* not only tasks ended: functions returned as well */
};

static bool is_quiet(tr_manager *manager, struct quiet quiet)
{
    struct tr__completion *completion = manager->completion;
    if (manager->threaded) {
        tr__workers_fence(&manager->engine.workers);
    }
    if (tr__completion_unfinished(completion) != 0) {
        return false;
    }
    if (!quiet.functions_too) {
        return true;
    }
    /* The look by read-modify-write that parts/gate asks for, at functions of host threads; those
     * of workers are behind the fence. */
    tr__tally_add(tr__completion_shared(completion), TR__COUNT_ABANDONED, 0);
    return tr__completion_count(completion, TR__COUNT_ABANDONED) == 0 &&
           tr__load_acquire(&manager->engine.awaiting) == 0;
}

static int wait_quiet(tr_manager *manager, struct quiet quiet, uint64_t deadline_ns)
{
    struct tr__gate *gate = &manager->completion->idle;
    uint32_t epoch = tr__gate_enter(gate);
    int result = 0;
    tr__engine_look(&manager->engine);
    while (!is_quiet(manager, quiet)) {
        if (deadline_ns != TR_FOREVER && tr__clock_now() >= deadline_ns) {
            result = TR_ETIMEDOUT;
            break;
        }
        uint64_t next = manager->threaded ? TR_FOREVER : tr__vigil_next(manager->engine.vigil);
        epoch = tr__gate_wait(gate, epoch, next < deadline_ns ? next : deadline_ns);
        tr__engine_look(&manager->engine);
    }
    tr__gate_leave(gate);
    return result;
}

int tr_manager_wait_idle(tr_manager *manager, uint64_t timeout_ns)
{
    if (manager == NULL) {
        return TR_EINVAL;
    }
    struct quiet quiet = {false};
    return wait_quiet(manager, quiet, tr__deadline_after(timeout_ns));
}

int tr_manager_room_fd(tr_manager *manager)
{
    return manager == NULL ? TR_EINVAL : tr__room_fd(&tr__manager_registry(manager)->room);
}

static void stop_intake(tr_manager *manager)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    tr__store_release(&registry->closing, 1u); /* pairs with launchers' looks under their locks */
    for (uint32_t i = 0; i < TR__LANES; i++) {
        tr__lane_lock(&registry->lanes[i]);
        tr__lane_unlock(&registry->lanes[i]);
    }
    tr__gate_wake(&registry->room.gate); /* launches waiting for room look again and see it */
    tr__room_fire(&registry->room);      /* and hosts that wait with a descriptor do */
}

static void cancel_everything(tr_manager *manager)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->tasks); i++) {
        struct tr__task *task = (struct tr__task *)(void *)tr__slots_at(&registry->tasks, i);
        uint64_t word = tr__task_word(task);
        if (tr__word_is_live(word)) {
            tr_task_id id = TR__ID_MAKE(TR__TAG_TASK, TR__WORD_GENERATION(word), i);
            /* It may end by itself meanwhile: all the same. */
            (void)tr__cancel_task(&manager->engine, task, id, false, TR_ECANCELED,
                                  "the manager is closing");
        }
    }
    tr__engine_look(&manager->engine); /* the tasks' hooks */
}

/* Every task has ended: waits until no thread is on its way with one of them. Whoever uses the ring
 * for a task has had one of these holds since before its end. 0 or TR_ETIMEDOUT. */
static int wait_let_go(tr_manager *manager, uint64_t deadline_ns)
{
    const uint64_t busy = TR__TASK_HOLD_RUN | TR__TASK_HOLD_STEER | TR__TASK_HOLD_ASK;
    struct tr__registry *registry = tr__manager_registry(manager);
    unsigned spins = 0;
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->tasks); i++) {
        struct tr__task *task = (struct tr__task *)(void *)tr__slots_at(&registry->tasks, i);
        while ((tr__task_word(task) & busy) != 0) {
            if (deadline_ns != TR_FOREVER && tr__clock_now() >= deadline_ns) {
                return TR_ETIMEDOUT;
            }
            tr__backoff(&spins);
        }
    }
    return 0;
}

/* Everybody who waits for something that will not come any more looks again. */
static void tell_waiters(tr_manager *manager)
{
    struct tr__registry *registry = tr__manager_registry(manager);
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->sessions); i++) {
        struct tr__session *session =
            (struct tr__session *)(void *)tr__slots_at(&registry->sessions, i);
        if ((tr__load_acquire(&session->slot.word) & TR__HOME_OPEN) != 0) {
            tr__inbox_interrupt(&session->loop); /* type-stable: harmless if it is gone */
            tr__inbox_interrupt(&session->ready);
        }
    }
    for (uint32_t i = 1; i <= tr__slots_reached(&registry->turns); i++) {
        struct tr__turn *turn = (struct tr__turn *)(void *)tr__slots_at(&registry->turns, i);
        if ((tr__load_acquire(&turn->slot.word) & TR__HOME_OPEN) != 0) {
            tr__inbox_interrupt(&turn->updates);
        }
    }
    (void)pthread_mutex_lock(&manager->lock); /* a plain mutex of ours cannot fail */
    for (struct tr_queue *queue = manager->queues; queue != NULL; queue = queue->next) {
        tr__inbox_interrupt(&queue->inbox);
    }
    (void)pthread_mutex_unlock(&manager->lock);
}

void tr__manager_nudge(tr_manager *manager)
{
    if (!manager->threaded) {
        return;
    }
    (void)pthread_mutex_lock(&manager->lock); /* a plain mutex of ours cannot fail */
    if (tr__load_acquire(&manager->closing) == 0) {
        tr__ring_nudge(&manager->engine.ring); /* a close waits for this call's end */
    }
    (void)pthread_mutex_unlock(&manager->lock);
}

static void flushed(struct tr__op *op)
{
    tr_manager *manager = (tr_manager *)op->owner;
    tr__store_seq_cst(&manager->flush_done, 1u); /* pairs with the look before sleeping */
    (void)tr__parker_notify(&manager->flushed);  /* the manager outlives the ring's thread */
}

/* A timer that is due at once is done behind everything the ring was told before. */
void tr__manager_flush(tr_manager *manager)
{
    if (!manager->threaded) {
        return;
    }
    (void)pthread_mutex_lock(&manager->lock); /* one at a time; and a close waits for its end */
    if (tr__load_acquire(&manager->closing) == 0 && !tr__ring_is_resting(&manager->engine.ring)) {
        tr__store_relaxed(&manager->flush_done, 0u); /* published by the start */
        manager->flush.kind = TR__OP_TIMER;
        manager->flush.done = flushed;
        manager->flush.owner = manager;
        manager->flush.deadline_ns = 1; /* long ago */
        tr__ring_start(&manager->engine.ring, &manager->flush);
        tr__parker_prepare(&manager->flushed);
        while (tr__load_seq_cst(&manager->flush_done) == 0) {
            (void)tr__parker_wait(&manager->flushed, TR_FOREVER); /* it may come back for nothing */
            tr__parker_prepare(&manager->flushed);
        }
        tr__parker_cancel(&manager->flushed);
    }
    (void)pthread_mutex_unlock(&manager->lock);
}

int tr_manager_close(tr_manager *manager, uint64_t drain_ns)
{
    if (manager == NULL) {
        return TR_EINVAL;
    }
    /* acq_rel: the first closer wins. */
    if (tr__exchange_acq_rel(&manager->closing, 1u) != 0) {
        return TR_EALREADY;
    }
    (void)pthread_mutex_lock(&manager->lock);
    (void)pthread_mutex_unlock(&manager->lock); /* whoever nudges the ring has left it */
    struct quiet ended = {false};
    struct quiet returned = {true};
    const struct tr__engine_config *limits = &manager->engine.config;
    stop_intake(manager);
    if (wait_quiet(manager, ended, tr__deadline_after(drain_ns)) < 0) {
        cancel_everything(manager);
    }
    uint64_t patience = tr__clock_after(limits->cancel_grace_ns, limits->abandon_wait_ns);
    patience = tr__clock_after(patience, TR_SECOND); /* for settling what the patience ended */
    uint64_t deadline = tr__deadline_after(patience);
    (void)wait_quiet(manager, ended, deadline); /* the next wait includes it, and decides */
    deadline = tr__deadline_after(limits->abandon_wait_ns);
    int error = wait_quiet(manager, returned, deadline);
    if (error == 0 && manager->threaded) {
        error = wait_let_go(manager, tr__deadline_after(limits->abandon_wait_ns));
    }
    if (error == 0) {
        error = tr__engine_close(&manager->engine, tr__clock_after(tr__clock_now(), TR_SECOND));
    } else {
        error = TR_EBUSY;
        (void)tr__engine_close(&manager->engine, tr__clock_now()); /* what can stop, stops */
    }
    manager->left_behind = error < 0;
    tr__store_seq_cst(&manager->closed, 1u); /* pairs with the looks of those who wait */
    tr__events_close(&manager->completion->events);
    tell_waiters(manager);
    return error < 0 ? TR_EBUSY : 0;
}

void tr_manager_free(tr_manager *manager)
{
    if (manager == NULL || manager->left_behind) {
        return; /* left behind: invariant 3 */
    }
    if (tr__load_acquire(&manager->closed) == 0) { /* a host that forgot: as if it had closed it */
        if (tr_manager_close(manager, 0) < 0) {
            return; /* left behind: invariant 3 */
        }
    }
    tr__engine_done(&manager->engine);
    while (manager->queues != NULL) {
        struct tr_queue *queue = manager->queues;
        manager->queues = queue->next;
        tr__drain_discard(manager, &queue->inbox);
        tr__inbox_done(&queue->inbox);
        tr__memory_give(queue);
    }
    while (manager->spare != NULL) {
        struct tr_queue *queue = manager->spare;
        manager->spare = queue->next;
        tr__memory_give(queue);
    }
    tr__drain_discard_homes(manager);
    tr__room_shut(&tr__manager_registry(manager)->room);
    (void)pthread_mutex_destroy(&manager->lock); /* nobody uses it any more */
    struct tr__completion *completion = manager->completion;
    tr__memory_give(manager);
    tr__completion_unref(completion);
}

int tr_tool_register(tr_manager *manager, const tr_tool *tool, tr_tool_id *ret_tool)
{
    if (manager == NULL || tool == NULL || !tr__size_is_known(tool, tool->size, sizeof(*tool)) ||
        tool->function == NULL || tool->name == NULL || tool->name[0] == '\0' ||
        strnlen(tool->name, TR_TOOL_NAME_BYTES_MAX + 1) > TR_TOOL_NAME_BYTES_MAX ||
        (tool->flags & ~(TR_TOOL_AWAITING | TR_TOOL_BRIEF)) != 0 ||
        tool->flags == (TR_TOOL_AWAITING | TR_TOOL_BRIEF) || tool->reserved != 0 ||
        tool->metadata.size > TR_METADATA_BYTES_MAX ||
        (tool->metadata.data == NULL && tool->metadata.size > 0) ||
        !tr__options_are_valid(&tool->options)) {
        return TR_EINVAL;
    }
    struct tr__registry *registry = tr__manager_registry(manager);
    if (tr__load_acquire(&registry->closing) != 0) { /* pairs with stop_intake */
        return TR_ECLOSED;
    }
    tr_options nothing = TR_OPTIONS_INIT;
    tr_options resolved;
    tr__options_resolve(&nothing, NULL, &tool->options, &resolved);
    return tr__toolbox_add(&registry->toolbox, tool, &resolved, ret_tool);
}

int tr_tool_find(tr_manager *manager, const char *name, tr_tool_id *ret_tool)
{
    if (manager == NULL || name == NULL || ret_tool == NULL) {
        return TR_EINVAL;
    }
    const struct tr__tool *tool = tr__toolbox_find(&tr__manager_registry(manager)->toolbox, name);
    if (tool == NULL) {
        return TR_ENOENT;
    }
    *ret_tool = tool->id;
    return 0;
}
