/*
 * call.c: how a function waits, and the private doors of tool.h. See call.h.
 *
 * Owner thread: the one that runs the function, but tr__call_notify and tr__call_finish_late: any.
 * Called by tools, run.c, cancel.c; calls ring, direct, spawner, workers.
 *
 * Invariants
 *  1. A notifier exchanges `wake` for NOTIFIED after it has published; the function exchanges it
 *     for AWAKE before it looks. Both are read-modify-writes of one word, so the look sees what was
 *     published, or the notifier sees that the function sleeps.
 *  2. FIBER is set by the worker after the fiber has been suspended (run.c), so whoever resumes it
 *     finds it suspended. Only the notifier that turned FIBER into NOTIFIED queues the task.
 *  3. A notifier that turned THREAD into NOTIFIED uses the sleeper's direct executor; the sleeper
 *     waits for `wake_done` before it goes on, so the executor lives.
 *  4. A hook is added, then COLD is set; a canceller sets CANCEL (or ends the task), then looks for
 *     COLD. Both are read-modify-writes of the state word: the canceller calls the hook, or the
 *     function sees that it is too late and takes it back.
 *
 * Complexity: waiting costs one exchange and two fiber switches; being woken one push to a worker.
 */
#include "engine/call.h"

#include <string.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/memory.h"
#include "completion/describe.h"
#include "engine/engine.h"

static struct tr__cold *cold_of(struct tr__engine *engine, struct tr__task *task)
{
    return tr__registry_cold(&engine->completion->registry, task);
}

static struct tr__direct *direct_of(struct tr_call *call)
{
    if (!call->direct_made) {
        (void)tr__direct_init(&call->direct); /* cannot fail */
        call->direct_made = true;
    }
    return &call->direct;
}

int tr__call_take(struct tr_call *call, size_t size, struct tr__arena_ref *ret)
{
    struct tr__task *task = call->task;
    size_t used =
        (tr__task_bytes_used(task) + TR__ARENA_ALIGN - 1u) & ~(size_t)(TR__ARENA_ALIGN - 1u);
    if (used + size <= TR__TASK_BYTES) {
        ret->data = task->bytes + used;
        ret->origin = NULL;
        ret->size = (uint32_t)size;
        return 0;
    }
    struct tr__completion *completion = call->engine->completion;
    struct tr__arena_producer *producer =
        call->worker == NULL ? &completion->producer
                             : &((struct tr__engine_thread *)call->worker->context)->producer;
    return tr__arena_take(&completion->arena, producer, size, ret);
}

void tr__call_start(struct tr_call *call, struct tr__op *op)
{
    if (call->fiber != NULL) {
        tr__ring_start(&call->engine->ring, op);
    } else {
        tr__direct_start(direct_of(call), op);
    }
}

void tr__call_cancel(struct tr_call *call, struct tr__op *op)
{
    if (call->fiber != NULL) {
        tr__ring_cancel(&call->engine->ring, op, true);
    } else {
        tr__direct_cancel(direct_of(call), op);
    }
}

void tr__call_spawn(struct tr_call *call, struct tr__spawn *spawn)
{
    if (call->engine->config.threaded) {
        tr__spawner_post(&call->engine->spawner, spawn);
        return;
    }
    spawn->error = tr__spawn_now(spawn);
    spawn->done(spawn);
}

void tr__call_reaped(struct tr__engine *engine)
{
    if (engine->config.threaded) {
        tr__spawner_reaped(&engine->spawner);
    }
}

/* Blocks the thread: performs the call's own ops, until notified or until `deadline_ns`. */
static void sleep_in_thread(struct tr_call *call, uint64_t deadline_ns)
{
    struct tr__task *task = call->task;
    struct tr__cold *cold = cold_of(call->engine, task);
    struct tr__direct *direct = direct_of(call);
    tr__store_relaxed(&cold->wake_done, 0u); /* published by the swap below */
    tr__store_relaxed(&cold->wake_direct, (void *)direct);
    uint8_t seen = TR__WAKE_AWAKE;
    /* acq_rel: publishes the executor to the notifier (invariant 3). */
    if (!tr__cas_acq_rel(&task->wake, &seen, (uint8_t)TR__WAKE_THREAD)) {
        (void)tr__exchange_acq_rel(&task->wake, (uint8_t)TR__WAKE_AWAKE); /* invariant 1 */
        return;
    }
    (void)tr__direct_wait(direct, deadline_ns); /* woken, done or due: the caller looks again */
    seen = TR__WAKE_THREAD;
    if (!tr__cas_acq_rel(&task->wake, &seen, (uint8_t)TR__WAKE_AWAKE)) {
        unsigned spins = 0;
        while (tr__load_acquire(&cold->wake_done) == 0) { /* invariant 3 */
            tr__backoff(&spins);
        }
        (void)tr__exchange_acq_rel(&task->wake, (uint8_t)TR__WAKE_AWAKE); /* invariant 1 */
    }
}

/* Nothing is on a ring; in an inline manager the function's thread also keeps the clock. */
static void wait_in_thread(struct tr_call *call)
{
    if (call->engine->config.threaded) {
        sleep_in_thread(call, TR_FOREVER);
        return;
    }
    struct tr__vigil_wait wait = {NULL, call->task, NULL, NULL};
    sleep_in_thread(call, tr__vigil_enter(call->engine->vigil, &wait));
    tr__vigil_leave(call->engine->vigil, &wait);
    tr__engine_look(call->engine);
}

void tr__call_wait(struct tr_call *call)
{
    if (call->fiber != NULL) {
        tr__fiber_suspend(call->fiber); /* run.c does the rest, on the worker's stack */
    } else {
        wait_in_thread(call);
    }
}

void tr__call_notify(struct tr__engine *engine, struct tr__task *task)
{
    /* acq_rel exchange, always: invariant 1. */
    uint8_t before = tr__exchange_acq_rel(&task->wake, (uint8_t)TR__WAKE_NOTIFIED);
    if (before == TR__WAKE_FIBER) {
        uint64_t word = tr__task_word(task);
        /* relaxed: a hint where to run; any seat will do. */
        tr__workers_post(&engine->workers, &task->run, tr__load_relaxed(&task->seat),
                         (word & TR__TASK_LOW) != 0);
    } else if (before == TR__WAKE_THREAD) {
        struct tr__cold *cold = cold_of(engine, task);
        /* relaxed: published by the sleeper's swap that the exchange has read. */
        tr__direct_wake((struct tr__direct *)tr__load_relaxed(&cold->wake_direct));
        tr__store_release(&cold->wake_done, 1u); /* pairs with wait_in_thread: ours no longer */
    }
}

bool tr__call_is_cancelled(const struct tr_call *call)
{
    /* relaxed: a hint that stays true; stopping needs no order with anything. The word is a later
     * life's only after the call's end: until then HOLD_RUN keeps the slot. */
    uint64_t word = tr__load_relaxed(&call->task->slot.word);
    return (word & TR__TASK_CANCEL) != 0 || tr__word_state(word) == TR__TASK_ENDED;
}

uint64_t tr__call_result_bytes_max(const struct tr_call *call)
{
    return call->engine->config.result_bytes_max;
}

uint64_t tr__call_output_bytes_max(const struct tr_call *call)
{
    uint64_t word = tr__task_word(call->task);
    if ((word & TR__TASK_COLD) != 0) {
        return cold_of(call->engine, call->task)->output_bytes_max;
    }
    return call->engine->config.output_bytes_max;
}

uint64_t tr__call_cancel_grace_ns(const struct tr_call *call)
{
    return call->engine->config.cancel_grace_ns;
}

void tr__call_set_grace(struct tr_call *call, uint64_t grace_ns)
{
    if ((tr__task_word(call->task) & TR__TASK_COOPERATIVE) != 0) { /* others end at once */
        tr__deadline_set_grace(call->engine, call->task, grace_ns);
    }
}

tr_manager *tr__call_manager(const struct tr_call *call)
{
    return call->engine->manager;
}

void tr__call_touch(struct tr_call *call, uint64_t now_ns)
{
    tr__store_relaxed(&cold_of(call->engine, call->task)->active_ns, now_ns); /* of its own */
}

void tr__call_active(struct tr_call *call, tr_event_type type, uint64_t current, uint64_t total)
{
    struct tr__engine *engine = call->engine;
    struct tr__task *task = call->task;
    uint64_t now = tr__clock_now();
    tr__store_relaxed(&cold_of(engine, task)->active_ns, now); /* a value of its own */
    if (tr__engine_wanted(engine) && tr__task_publish(task, call->id)) {
        if (type == TR_EVENT_OUTPUT) {
            call->outputs += 1;
            total = call->outputs;
        }
        tr__describe_event(engine->completion, task, tr__task_word(task), type, now, current,
                           total);
        tr__task_published(task);
    }
    tr__engine_look(engine);
}

int tr__call_hook(struct tr_call *call, tr_cancel_function function, void *context,
                  tr_cancel_function release)
{
    struct tr__engine *engine = call->engine;
    struct tr__task *task = call->task;
    struct tr__cold *cold = cold_of(engine, task);
    if (tr__call_is_cancelled(call)) {
        return TR_ECANCELED;
    }
    int error = tr__herald_start(&engine->herald);
    if (error < 0) {
        return error == TR_ECLOSED ? TR_ECANCELED : error; /* closed: every call has ended */
    }
    if (!call->hooked) {
        struct tr__hooks *made = tr__hooks_make(task);
        if (made == NULL) {
            return TR_ENOMEM;
        }
        if ((tr__task_word(task) & TR__TASK_COLD) == 0) {
            cold->output_bytes_max = engine->config.output_bytes_max; /* COLD shows it too */
        }
        /* release: pairs with tr__hooks_of. Its last life's are gone: it is NULL (settle.c). */
        tr__store_release(&cold->hooks, (void *)made);
        call->hooked = true;
    }
    struct tr__hooks *hooks = tr__hooks_of(&engine->completion->registry, task);
    error = tr__hooks_add(hooks, function, context, release);
    /* In any case: from now on the record is freed with the task. Invariant 4. */
    bool stopped = tr__word_is_stopped(tr__task_use_cold(task));
    if (error == 0 && stopped && tr__hooks_remove(hooks, function, context) == 0) {
        error = TR_ECANCELED; /* it has not been called, and will not be */
    }
    return error;
}

int tr__call_unhook(struct tr_call *call, tr_cancel_function function, void *context)
{
    if (!call->hooked) {
        return TR_ENOENT;
    }
    struct tr__registry *registry = &call->engine->completion->registry;
    return tr__hooks_remove(tr__hooks_of(registry, call->task), function, context);
}

/* The memory for a late result. In the slot only if the function has returned for good: DEFERRED
 * never becomes RUNNING again. */
static int take_late(struct tr__engine *engine, struct tr__task *task, uint64_t word, size_t size,
                     struct tr__arena_ref *ret)
{
    /* relaxed: published with DEFERRED. The task may be another by now: then the end is not won. */
    size_t used = tr__load_relaxed(&task->bytes_used) + TR__ARENA_ALIGN - 1u;
    used &= ~(size_t)(TR__ARENA_ALIGN - 1u);
    if (tr__word_state(word) == TR__TASK_DEFERRED && used + size <= TR__TASK_BYTES) {
        ret->data = task->bytes + used;
        ret->origin = NULL;
        ret->size = (uint32_t)size;
        return 0;
    }
    return tr__arena_take(&engine->completion->arena, &engine->completion->producer, size, ret);
}

int tr__call_finish_late(tr_manager *manager, tr_task_id id, int status, const void *data,
                         size_t size)
{
    struct tr__engine *engine = tr__engine_of(manager);
    if (size > engine->config.result_bytes_max) {
        return TR_ELIMIT;
    }
    struct tr__task *task = tr__registry_task(&engine->completion->registry, id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    struct tr__arena_ref ref = {NULL, NULL, 0};
    int error = take_late(engine, task, tr__task_word(task), size, &ref);
    if (error < 0) {
        return error;
    }
    if (ref.origin != NULL && size > 0) {
        memcpy(ref.data, data, size); /* private memory: before the end is decided */
    }
    enum tr_outcome outcome = status == 0 ? TR_OUTCOME_COMPLETED : TR_OUTCOME_FAILED;
    struct tr__step step = tr__task_finish_late(task, id, outcome, tr__engine_wanted(engine));
    if (step.action != TR__ACTION_SETTLE) {
        tr__arena_give(&engine->completion->arena, &ref);
        tr__room_open(&engine->completion->registry.room); /* of bytes, held for a moment */
        return tr__step_error(step);
    }
    if (ref.origin == NULL && size > 0) {
        memcpy(ref.data, data, size); /* the slot is ours: we won the end */
    }
    if ((step.word & TR__TASK_COLD) != 0) {
        struct tr__hooks *hooks = tr__hooks_of(&engine->completion->registry, task);
        if (hooks != NULL) {
            tr__hooks_close(hooks, false); /* HOLD_RESULT is ours until it is settled */
        }
    }
    task->result = ref.data;
    task->result_origin = ref.origin;
    task->result_size = ref.size;
    char *reason = NULL;
    if ((step.word & TR__TASK_CANCEL) != 0) { /* it ends as what it was asked to stop for */
        reason = tr__cancel_reason(engine, task, step);
        status = (step.word & TR__TASK_TIMEOUT) != 0 ? TR_ETIMEDOUT : TR_ECANCELED;
    }
    tr__engine_settle(engine, tr__engine_tally(engine, NULL), task, step, tr__clock_now(), status,
                      reason);
    tr__memory_give(reason);
    if ((step.word & TR__TASK_COOPERATIVE) != 0) {
        tr__call_notify(engine, task); /* a launching thread may be waiting for this */
    }
    return 0;
}
