/*
 * run.c: from a queued task to its end: starting, resuming, returning.
 *
 * Owner thread: workers; tr__engine_run_here: the launching thread. Called by workers (run hook)
 * and host; calls the tool's function, fibers, settle, deadline.
 *
 * Invariants
 *  1. A task is in at most one worker queue, once, and has HOLD_RUN while it is there or its
 *     function has not returned.
 *  2. The frame (tr_call) outlives every op of the call: what a function leaves under way is taken
 *     back before anything else is done (call_function).
 *  3. The task's result fields are written by the winner of the end alone; until then the result is
 *     in the frame.
 *  4. After the CAS that ends or defers a task, the worker touches it only with a hold, or not at
 *     all.
 *
 * Complexity per plain no-op: two CAS on the word, one exchange on the channel, one clock read (a
 * task's end is the next one's start when the worker has not slept in between).
 */
#include <string.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/memory.h"
#include "completion/describe.h"
#include "engine/engine.h"

static const struct tr__tool *tool_of(struct tr__engine *engine, const struct tr__task *task)
{
    return tr__toolbox_at(&engine->completion->registry.toolbox, task->tool);
}

bool tr__engine_awaits(struct tr__engine *engine, const struct tr__task *task)
{
    return engine->config.threaded && (tool_of(engine, task)->flags & TR_TOOL_AWAITING) != 0;
}

void tr__engine_unawait(struct tr__engine *engine)
{
    /* acq_rel: the act of parts/gate for launches that wait for a fiber. */
    (void)tr__fetch_sub_acq_rel(&engine->awaiting, 1u);
    tr__room_open(&engine->completion->registry.room);
}

struct tr__tally tr__engine_tally(struct tr__engine *engine, struct tr__worker *worker)
{
    if (worker == NULL) {
        return tr__completion_shared(engine->completion);
    }
    struct tr__tally tally = {&engine->completion->shards[worker->index], false};
    return tally;
}

void tr__engine_settle(struct tr__engine *engine, struct tr__tally tally, struct tr__task *task,
                       struct tr__step step, uint64_t now_ns, int code, const char *reason)
{
    if ((step.word & TR__TASK_HOLD_TIMER) != 0) {
        tr__deadline_disarm(engine, task);
    }
    if (tr__word_state(step.before) == TR__TASK_APPROVAL &&
        (step.word & TR__TASK_INLINE) == 0 && /* runs on no fiber: was never counted */
        tr__engine_awaits(engine, task)) {
        tr__engine_unawait(engine);
    }
    struct tr__ending ending = {now_ns, code, reason};
    tr__settle(engine->completion, tally, task, step, &ending);
}

void tr__engine_detached(struct tr__engine *engine, struct tr__task *task, struct tr__step step)
{
    tr__settle_detached(engine->completion, tr__engine_tally(engine, NULL), task, step,
                        tr__clock_now());
}

void tr__engine_enqueue(struct tr__engine *engine, struct tr__task *task, uint64_t word,
                        uint32_t seat)
{
    tr__workers_post(&engine->workers, &task->run, seat, (word & TR__TASK_LOW) != 0);
}

/* The tally of the thread that the call runs on. */
static struct tr__tally tally_of(const struct tr_call *call)
{
    if (call->counts != NULL) {
        struct tr__tally tally = {call->counts, false};
        return tally;
    }
    return tr__engine_tally(call->engine, call->worker);
}

static void give_results(struct tr_call *call)
{
    tr__arena_give(&call->engine->completion->arena, &call->result);
    tr__arena_give(&call->engine->completion->arena, &call->reserved);
}

static void done_frame(struct tr_call *call)
{
    if (call->direct_made) {
        tr__direct_done(&call->direct);
    }
}

/* Its task had ended before it returned. */
static void return_late(struct tr_call *call, struct tr__tally tally, struct tr__step step)
{
    give_results(call);
    if ((step.word & TR__TASK_FOREIGN) != 0) {
        tr__tally_add(tally, TR__COUNT_ABANDONED, -1);
        if (tally.shared) {
            /* A close may wait for this return; a worker's is told when it runs dry. */
            tr__gate_open(&call->engine->completion->idle);
        }
    }
    tr__settle_drop(call->engine->completion, call->task, TR__TASK_HOLD_RUN);
}

/* The code and reason of an end that may have been asked for. */
static int code_of(struct tr_call *call, struct tr__step step, char **ret_reason)
{
    *ret_reason = NULL;
    if ((step.word & TR__TASK_CANCEL) == 0) {
        return call->status;
    }
    *ret_reason = tr__cancel_reason(call->engine, call->task, step);
    return (step.word & TR__TASK_TIMEOUT) != 0 ? TR_ETIMEDOUT : TR_ECANCELED;
}

/* The function has returned (or a wait for tr_finish was given up): ends the task or notes that it
 * had ended. Returns the time. */
static uint64_t finish(struct tr_call *call)
{
    struct tr__engine *engine = call->engine;
    struct tr__task *task = call->task;
    struct tr__tally tally = tally_of(call);
    TR_ASSERT(call->under_way == 0); /* invariant 2 */
    uint64_t now = tr__clock_now();
    tr__arena_give(&engine->completion->arena, &call->reserved);
    enum tr_outcome outcome = call->status == 0 ? TR_OUTCOME_COMPLETED
                              : call->lost      ? TR_OUTCOME_LOST
                                                : TR_OUTCOME_FAILED;
    struct tr__step step = tr__task_finish(task, outcome, tr__engine_wanted(engine));
    if (step.action == TR__ACTION_LATE) {
        return_late(call, tally, step);
        return now;
    }
    task->result = call->result.data; /* invariant 3 */
    task->result_origin = call->result.origin;
    task->result_size = call->result.size;
    char *reason = NULL;
    int code = code_of(call, step, &reason);
    tr__engine_settle(engine, tally, task, step, now, code, reason);
    tr__memory_give(reason);
    return now;
}

/* The function has returned TR_DEFERRED. `here`: its launch waits until somebody has ended it. */
static void defer(struct tr_call *call, bool here)
{
    struct tr__engine *engine = call->engine;
    struct tr__tally tally = tally_of(call);
    TR_ASSERT(call->under_way == 0);
    give_results(call); /* a deferred call's result comes with tr_finish */
    uint32_t used = tr__task_bytes_used(call->task);           /* at most TR__TASK_BYTES */
    tr__store_relaxed(&call->task->bytes_used, (uint8_t)used); /* published with DEFERRED */
    bool wanted = tr__engine_wanted(engine);
    struct tr__step step =
        here ? tr__task_defer_here(call->task, wanted) : tr__task_defer(call->task, wanted);
    if (step.action == TR__ACTION_LATE) {
        return_late(call, tally, step);
    } else if (step.action == TR__ACTION_SETTLE) {
        char *reason = NULL;
        int code = code_of(call, step, &reason);
        tr__engine_settle(engine, tally, call->task, step, tr__clock_now(), code, reason);
        tr__memory_give(reason);
    } else if (here) {
        while (tr__word_is_live(tr__task_word(call->task))) {
            tr__call_wait(call); /* tr_finish and cancel both notify */
        }
        tr__settle_drop(engine->completion, call->task, TR__TASK_HOLD_RUN);
    }
}

static void open_frame(struct tr_call *call, struct tr__engine *engine, struct tr__task *task,
                       uint64_t word)
{
    call->engine = engine;
    call->task = task;
    call->id = tr__task_id(task, word);
    call->worker = NULL;
    call->counts = NULL;
    call->fiber = NULL;
    call->finished = NULL;
    call->direct_made = false;
    call->hooked = false;
    call->outputs = 0;
    tr__stack_init(&call->done);
    call->under_way = 0;
    call->status = 0;
    call->lost = false;
    memset(&call->result, 0, sizeof(call->result));
    memset(&call->reserved, 0, sizeof(call->reserved));
}

/* What a function's own frame may measure, if it has left requests in it. */
#define DEAD_FRAME_BYTES 8192u

/* The function has returned with requests under way. They lie where its frame was, most likely: the
 * gap keeps ours off it until the engine has given them back (and would not, with marks around it).
 */
__attribute__((noinline, cold, no_sanitize("address"))) static void take_back(struct tr_call *call)
{
    unsigned char gap[DEAD_FRAME_BYTES];
    __asm__ volatile("" : : "r"(gap) : "memory"); /* it is there, and nobody writes to it */
    call->take_back(call);
    __asm__ volatile("" : : "r"(gap) : "memory");
    TR_ASSERT(call->under_way == 0);
}

static void call_function(struct tr_call *call)
{
    const struct tr__tool *tool = tool_of(call->engine, call->task);
    int status = tool->function(call, tool->context);
    if (call->under_way != 0) {
        take_back(call);
        status = TR_ESTATE; /* whatever it said: what it reports of itself is not to be trusted */
    }
    if (call->hooked && status != TR_DEFERRED) {
        tr__hooks_close(tr__hooks_of(&call->engine->completion->registry, call->task), true);
    }
    call->status = status > 0 && status != TR_DEFERRED ? TR_ESTATE : status;
}

static void return_from(struct tr_call *call)
{
    if (call->status == TR_DEFERRED) {
        defer(call, false);
    } else {
        (void)finish(call); /* the time is of use to plain tasks only */
    }
}

/* What a new fiber is told; on the worker's stack, read before the first suspension. */
struct origin {
    struct tr__engine *engine;
    struct tr__worker *worker;
    struct tr__task *task;
    uint64_t word;
    struct tr__fiber *fiber;
};

/* What a fiber runs. The frame lives on its stack, and so does the ending of the call. */
static void fiber_main(void *argument)
{
    const struct origin *origin = (const struct origin *)argument;
    struct tr_call call;
    open_frame(&call, origin->engine, origin->task, origin->word);
    call.worker = origin->worker;
    call.fiber = origin->fiber;
    origin->task->frame = &call;
    call_function(&call);
    return_from(&call);
}

/* Lets the fiber run until it sleeps in earnest or its function has returned. After either, the
 * task is somebody else's. */
static void resume(struct tr__engine *engine, struct tr__worker *worker, struct tr__task *task,
                   struct tr__fiber *fiber)
{
    for (;;) {
        if (tr__fiber_resume(fiber) == TR__FIBER_FINISHED) {
            tr__fiber_give(&engine->fibers, &worker->fibers, fiber);
            tr__engine_unawait(engine);
            return;
        }
        uint8_t seen = TR__WAKE_AWAKE;
        /* acq_rel: hands the suspended fiber to whoever notifies (call.c, invariants 1 and 2). */
        if (tr__cas_acq_rel(&task->wake, &seen, (uint8_t)TR__WAKE_FIBER)) {
            return;
        }
        (void)tr__exchange_acq_rel(&task->wake, (uint8_t)TR__WAKE_AWAKE); /* was NOTIFIED */
    }
}

static void run_awaiting(struct tr__engine *engine, struct tr__worker *worker,
                         struct tr__task *task, uint64_t word)
{
    struct tr__fiber *fiber = tr__fiber_take(&engine->fibers, &worker->fibers);
    if (fiber ==
        NULL) { /* no memory for a stack: admission counts fibers, the kernel counts pages */
        struct tr_call call;
        open_frame(&call, engine, task, word);
        call.worker = worker;
        call.status = TR_ENOMEM;
        call.lost = true;
        (void)finish(&call);
        tr__engine_unawait(engine);
        return;
    }
    struct origin origin = {engine, worker, task, word, fiber};
    tr__fiber_start(fiber, fiber_main, &origin);
    resume(engine, worker, task, fiber);
}

static uint64_t run_plain(struct tr__engine *engine, struct tr__worker *worker,
                          struct tr__task *task, uint64_t word)
{
    struct tr_call call;
    open_frame(&call, engine, task, word);
    call.worker = worker;
    call_function(&call);
    done_frame(&call);
    if (call.status == TR_DEFERRED) {
        defer(&call, false);
        return 0;
    }
    return finish(&call);
}

/* QUEUED → RUNNING, with its event. False: it had ended; nothing is left of it here. */
static bool begin(struct tr__engine *engine, struct tr__tally tally, struct tr__task *task,
                  uint64_t now, uint64_t *ret_word)
{
    /* The worker's `now` may be of before the launch: it is the end of its task before. */
    now = now > task->accepted_ns ? now : task->accepted_ns;
    tr__store_relaxed(&task->started_ns, now); /* published by the transition that sets STARTED */
    struct tr__step step = tr__task_start(task, tr__engine_wanted(engine));
    if (step.action == TR__ACTION_LATE) {
        tr__settle_drop(engine->completion, task, TR__TASK_HOLD_RUN);
        return false;
    }
    if ((step.word & TR__TASK_PUBLISHING) != 0) {
        tr__describe_event(engine->completion, task, step.word, TR_EVENT_STARTED, now, 0, 0);
        tr__task_published(task);
    }
    tr__tally_add(tally, TR__COUNT_STARTED, 1);
    *ret_word = step.word;
    return true;
}

/* Tools that usually take less than this leave their worker awake to its queue: less than a wake
 * costs. */
#define BRIEF_NS 5000u

static bool is_brief(struct tr__engine *engine, const struct tr__task *task)
{
    uint32_t typical = tr__load_relaxed(&engine->typical_ns[task->tool]); /* a hint; 0: unknown */
    return typical != 0 && typical < BRIEF_NS;
}

/* A moving average of how long a tool keeps its worker at a time. Written only when it changes
 * much, so the line stays shared between workers. */
static void learn(struct tr__engine *engine, uint32_t tool, uint64_t start_ns, uint64_t end_ns)
{
    uint64_t took = end_ns > start_ns ? end_ns - start_ns : 1;
    uint64_t typical = tr__load_relaxed(&engine->typical_ns[tool]); /* a hint */
    /* One that was preempted shall not make all look long: several in a row are believed. */
    uint64_t most = typical == 0 ? UINT32_MAX / 8 : typical * 8 + 1000;
    took = took < most ? took : most;
    uint64_t next = typical == 0 ? took : (typical * 7 + took) / 8;
    uint64_t change = next > typical ? next - typical : typical - next;
    /* Less than the eighth by which a run of brief ones makes it smaller. */
    if (change > typical / 16 + 25 || typical == 0) {
        tr__store_relaxed(&engine->typical_ns[tool], (uint32_t)(next == 0 ? 1 : next));
    }
}

/* Runs or resumes the task's function; afterwards the task is somebody else's. */
static void let_run(struct tr__engine *engine, struct tr__worker *worker, struct tr__task *task,
                    uint64_t word, uint64_t now, bool resumed)
{
    struct tr__engine_thread *thread = (struct tr__engine_thread *)worker->context;
    uint32_t tool = task->tool;
    bool brief = is_brief(engine, task);
    uint64_t end = 0;
    tr__store_relaxed(&task->seat, (uint8_t)worker->seat); /* a hint */
    tr__store_relaxed(&worker->busy_since, now);           /* a time, for the monitor */
    if (!brief) {
        tr__worker_leaves(worker);
    }
    if (resumed) {
        resume(engine, worker, task, ((struct tr_call *)task->frame)->fiber);
    } else if (tr__engine_awaits(engine, task)) {
        run_awaiting(engine, worker, task, word);
    } else {
        end = run_plain(engine, worker, task, word);
    }
    end = end == 0 ? tr__clock_now() : end;
    thread->now_ns = end;
    learn(engine, tool, now, end);
    if (!brief) {
        tr__worker_returns(worker);
    }
    tr__store_relaxed(&worker->busy_since, UINT64_C(0));
}

void tr__engine_run(void *context, struct tr__worker *worker, struct tr__mpsc_node *node)
{
    struct tr__engine *engine = (struct tr__engine *)context;
    struct tr__engine_thread *thread = (struct tr__engine_thread *)worker->context;
    if (node == &engine->trim) {
        tr__engine_trim(engine, worker);
        thread->now_ns = 0; /* it took its time */
        return;
    }
    if (thread->now_ns != 0) {
        tr__engine_give_way(engine, thread);
    }
    struct tr__task *task = TR__CONTAINER_OF(node, struct tr__task, run);
    const char *next = (const char *)tr__load_relaxed(&node->next); /* a hint */
    if (next != NULL) { /* fetched from the launcher's cache while this one runs */
        __builtin_prefetch(next, 1);
        __builtin_prefetch(next + TR_CACHE_LINE, 1);
    }
    uint64_t word = tr__task_word(task);
    uint64_t now = worker->rested || thread->now_ns == 0 ? tr__clock_now() : thread->now_ns;
    worker->rested = false;
    thread->now_ns = 0;
    if ((word & TR__TASK_STARTED) != 0) {
        (void)tr__exchange_acq_rel(&task->wake, (uint8_t)TR__WAKE_AWAKE); /* call.c, invariant 1 */
        ((struct tr_call *)task->frame)->worker = worker;
        let_run(engine, worker, task, word, now, true);
        return;
    }
    bool awaiting = tr__engine_awaits(engine, task);
    if (!begin(engine, tr__engine_tally(engine, worker), task, now, &word)) {
        if (awaiting) {
            tr__engine_unawait(engine);
        }
        thread->now_ns = now;
        return;
    }
    let_run(engine, worker, task, word, now, false);
}

uint64_t tr__engine_run_kept(struct tr__engine *engine, struct tr__counters *counts,
                             struct tr__task *task, uint64_t now_ns)
{
    struct tr__tally tally = {counts, false};
    uint64_t word = 0;
    if (!begin(engine, tally, task, now_ns, &word)) {
        return now_ns;
    }
    uint32_t tool = task->tool;
    struct tr_call call;
    open_frame(&call, engine, task, word);
    call.counts = counts;
    tr__tally_add(tally, TR__COUNT_HELPED, 1);
    call_function(&call);
    done_frame(&call);
    uint64_t end = 0;
    if (call.status == TR_DEFERRED) {
        defer(&call, false);
        end = tr__clock_now();
    } else {
        end = finish(&call);
    }
    learn(engine, tool, now_ns, end);
    return end;
}

/* Inline managers: what is due by now is done, before the task starts and before its end is
 * decided. The caller has HOLD_RUN. */
static void judge(struct tr__engine *engine, struct tr__task *task)
{
    if (!engine->config.threaded && (tr__task_word(task) & TR__TASK_HOLD_TIMER) != 0) {
        tr__deadline_judge(engine, task);
    }
}

void tr__engine_run_here(struct tr__engine *engine, struct tr__task *task)
{
    struct tr__tally tally = tr__engine_tally(engine, NULL);
    uint64_t word = 0;
    judge(engine, task);
    if (!begin(engine, tally, task, tr__clock_now(), &word)) {
        return;
    }
    if (!engine->config.threaded && (word & TR__TASK_HOLD_TIMER) != 0) {
        tr__deadline_started(engine, task);
    }
    struct tr_call call;
    open_frame(&call, engine, task, word);
    call_function(&call);
    judge(engine, task);
    if (call.status == TR_DEFERRED) {
        defer(&call, true);
        done_frame(&call);
        return;
    }
    done_frame(&call);
    (void)finish(&call); /* the time is of no use here */
}
