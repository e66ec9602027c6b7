/*
 * deadline.c: see deadline.h.
 *
 * Owner: the op: the ring, or the vigil of an inline manager. `due` runs on the ring thread; init
 * and arm on the launching thread; disarm on the ending thread; poke on a canceller's; look on any
 * of these. Called by host, run.c, cancel.c, vigil; calls ring or vigil, cancel, settle.
 *
 * Invariants
 *  1. Who arms prepares the op first and submits it after; so a cancel may overtake the start, and
 *     the ring awaits both. `due` clears ARMED, or leaves DONE to the busy one: so an op is
 *     prepared again only when the last cancel of it is over, and each start is cancelled at most
 *     once, only while the canceller has a hold of its own.
 *  2. DISARM is set once, by the ender, and ARMED never after it (one compare-and-swap decides). If
 *     the ender finds ARMED it cancels; if BUSY, the busy one has; if neither, whoever is about to
 *     arm sees the end. So an ended task's timer comes back.
 *  3. HOLD_TIMER is dropped exactly once: by the look that sees the task ended, or by the one that
 *     finds nothing to watch: with a swap of the task's word, so that a stop or an end which still
 *     saw the hold makes it look again.
 *
 * Complexity: arming and disarming push one message each to the ring; the ring is woken only for a
 * moment earlier than it sleeps for. Firing costs O(1). Atomic
 * read-modify-writes of a timer that is armed and disarmed: one of the inbox's tail to arm; claim,
 * flags and tail to disarm; one of the task's word to drop the hold.
 *
 * Rejected: BUSY around every start (three more of them); one more start for ever after a detach (a
 * task's second timer, armed for nothing).
 */
#include "engine/deadline.h"

#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "engine/engine.h"

static struct tr__deadline *deadline_of(struct tr__engine *engine, const struct tr__task *task)
{
    return &engine->deadlines[task->slot.index];
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* From when the times of running count. Before the start: with a ring as if it started now, which
 * saves looking again at the start; without one there is no need. */
static uint64_t started_at(struct tr__deadline *deadline, uint64_t word, uint64_t now)
{
    if ((word & TR__TASK_STARTED) != 0) {
        return tr__load_relaxed(&deadline->task->started_ns); /* published with STARTED */
    }
    return deadline->engine->config.threaded ? now : TR_FOREVER;
}

uint64_t tr__deadline_next(struct tr__deadline *deadline, uint64_t word, uint64_t now)
{
    struct tr__task *task = deadline->task;
    struct tr__cold *cold = tr__registry_cold(&deadline->engine->completion->registry, task);
    enum tr__task_state state = tr__word_state(word);
    /* relaxed: values of their own; a stale one makes the timer look once more than needed. */
    uint64_t started = started_at(deadline, word, now);
    uint64_t active = tr__load_relaxed(&cold->active_ns);
    active = active > started ? active : started;
    uint64_t next = tr__load_relaxed(&deadline->abandon_at_ns);
    if ((word & TR__TASK_CANCEL) != 0) {
        return next; /* asked to stop already: no other time matters */
    }
    next = earlier(next, deadline->total_at_ns);
    next = earlier(next, tr__clock_after(started, deadline->run_ns));
    next = earlier(next, tr__clock_after(active, deadline->idle_ns));
    if (!tr__word_is_background(word)) {
        next = earlier(next, deadline->detach_at_ns);
    }
    if (state == TR__TASK_QUEUED) {
        uint64_t queued = tr__load_relaxed(&deadline->queued_at_ns);
        next = earlier(next, tr__clock_after(queued, deadline->queue_ns));
    }
    if (state == TR__TASK_APPROVAL) {
        next = earlier(next, tr__load_relaxed(&deadline->expire_at_ns));
    }
    return next;
}

/* When its timeouts end it, as known now. */
static uint64_t times_out_at(struct tr__deadline *deadline, uint64_t word)
{
    struct tr__task *task = deadline->task;
    struct tr__cold *cold = tr__registry_cold(&deadline->engine->completion->registry, task);
    uint64_t at_ns = deadline->total_at_ns;
    if (tr__word_state(word) == TR__TASK_QUEUED) {
        uint64_t queued = tr__load_relaxed(&deadline->queued_at_ns); /* a value of its own */
        return earlier(at_ns, tr__clock_after(queued, deadline->queue_ns));
    }
    if ((word & TR__TASK_STARTED) == 0) {
        return at_ns;
    }
    uint64_t started = tr__load_relaxed(&task->started_ns); /* published with STARTED */
    uint64_t active = tr__load_relaxed(&cold->active_ns);   /* a value of its own */
    active = active > started ? active : started;
    at_ns = earlier(at_ns, tr__clock_after(started, deadline->run_ns));
    return earlier(at_ns, tr__clock_after(active, deadline->idle_ns));
}

/* Asked to stop already: no other time matters. */
static void lose_patience(struct tr__deadline *deadline, uint64_t now)
{
    if (now >= tr__load_relaxed(&deadline->abandon_at_ns)) { /* a value of its own */
        tr__store_relaxed(&deadline->abandon_at_ns, TR_FOREVER);
        tr__cancel_abandon(deadline->engine, deadline->task, deadline->id);
    }
}

/* In the order of the times, however late it is: who comes late makes up for what was due. */
void tr__deadline_act(struct tr__deadline *deadline, uint64_t word, uint64_t now)
{
    struct tr__engine *engine = deadline->engine;
    struct tr__task *task = deadline->task;
    if ((word & TR__TASK_CANCEL) != 0) {
        lose_patience(deadline, now);
        return;
    }
    uint64_t timeout_at = times_out_at(deadline, word);
    uint64_t expire_at = TR_FOREVER;
    if (tr__word_state(word) == TR__TASK_APPROVAL) {
        expire_at = tr__load_relaxed(&deadline->expire_at_ns); /* a value of its own */
    }
    uint64_t end_at = earlier(timeout_at, expire_at);
    if (now >= deadline->detach_at_ns && deadline->detach_at_ns <= end_at) {
        deadline->detach_at_ns = TR_FOREVER;
        struct tr__step step = tr__task_detach(task, deadline->id, true);
        if (step.action == TR__ACTION_DETACHED) {
            tr__engine_detached(engine, task, step);
        }
    }
    if (now < end_at) {
        return;
    }
    if (timeout_at <= expire_at) {
        if (now < deadline->total_at_ns && tr__word_state(word) == TR__TASK_QUEUED) {
            tr__cancel_queued(engine, task, deadline->id); /* it may have started since `word` */
        } else {
            (void)tr__cancel_task(engine, task, deadline->id, true, TR_ETIMEDOUT, NULL);
        }
        return; /* ended meanwhile, or asked to stop: both are fine */
    }
    struct tr__step step = tr__task_deny(task, deadline->id, tr__engine_wanted(engine));
    if (step.action == TR__ACTION_SETTLE) {
        tr__engine_settle(engine, tr__engine_tally(engine, NULL), task, step, now, TR_EDENIED,
                          "no approval in time");
    }
}

static void look(struct tr__deadline *deadline);

/* Has the op given back so that it looks at its times again; if it is not ARMED, sees to it that
 * whoever arms it looks first. The caller has a hold of its own. */
static void poke(struct tr__deadline *deadline)
{
    if (!deadline->engine->config.threaded) {
        tr__vigil_move(deadline->engine, deadline);
        return;
    }
    tr__atomic_u32 *claim = &deadline->op.claim;
    uint32_t seen = tr__load_acquire(claim);
    uint32_t next = 0;
    bool mine = false;
    do {
        if ((seen & TR__DEADLINE_DISARM) != 0) {
            return; /* it comes back anyway, and sees the end */
        }
        mine = (seen & TR__DEADLINE_ARMED) != 0;
        next = mine ? (seen & ~TR__DEADLINE_ARMED) | TR__DEADLINE_BUSY : seen | TR__DEADLINE_LOOK;
        /* acq_rel: invariant 1; publishes the caller's new time to the look that follows. */
    } while (!tr__cas_acq_rel(claim, &seen, next));
    if (!mine) {
        return;
    }
    tr__ring_cancel(&deadline->engine->ring, &deadline->op, true);
    uint32_t over = TR__DEADLINE_BUSY | TR__DEADLINE_DONE;
    seen = tr__load_acquire(claim);
    do {
        next = seen & ~over;
        /* acq_rel: invariant 1; sees what `due` left behind. */
    } while (!tr__cas_acq_rel(claim, &seen, next));
    if ((seen & TR__DEADLINE_DONE) != 0) {
        look(deadline);
    }
}

static void due(struct tr__op *op);

static void prepare(struct tr__deadline *deadline)
{
    struct tr__op *op = &deadline->op;
    op->kind = TR__OP_TIMER;
    op->done = due;
    tr__ring_prepare(op);
}

/* The op is not under way and the caller alone may start it. False: there are new times, or the
 * task has ended; nothing was started. */
static bool start(struct tr__deadline *deadline, uint64_t at_ns)
{
    prepare(deadline);
    deadline->op.deadline_ns = at_ns;
    uint32_t seen = tr__load_acquire(&deadline->op.claim);
    do {
        TR_ASSERT((seen & (TR__DEADLINE_ARMED | TR__DEADLINE_BUSY)) == 0);
        if ((seen & (TR__DEADLINE_DISARM | TR__DEADLINE_LOOK)) != 0) {
            return false;
        }
        /* acq_rel: invariant 2; publishes the prepared op to whoever cancels it. */
    } while (!tr__cas_acq_rel(&deadline->op.claim, &seen, seen | TR__DEADLINE_ARMED));
    tr__ring_submit(&deadline->engine->ring, &deadline->op);
    return true;
}

/* Nothing but a stop could give the timer of this task a new time: and that arms it itself. */
static bool is_settled(const struct tr__task *task, uint64_t word)
{
    /* relaxed: written by the launcher, before the task was published */
    return (word & TR__TASK_CANCEL) == 0 &&
           (tr__load_relaxed(&task->flags) & TR__TASK_FLAG_ASKED) == 0;
}

/* The op is done and nobody is busy with it: does what is due and starts it again, or drops the
 * hold. The caller has that hold, if no other. */
static void look(struct tr__deadline *deadline)
{
    struct tr__task *task = deadline->task;
    struct tr__engine *engine = deadline->engine;
    for (;;) {
        uint64_t word = tr__task_word(task);
        uint64_t now = 0;
        bool live = tr__word_is_live(word);
        if (live) {
            now = tr__clock_now();
            tr__deadline_act(deadline, word, now);
            word = tr__task_word(task);
            live = tr__word_is_live(word);
        }
        if (!live || tr__load_relaxed(&engine->closing) != 0) {
            /* Ended, so nobody arms or pokes it any more but the ender, who may yet disarm: its own
             * hold keeps the slot until then. (At closing, what is unended will be ended without
             * this timer.) */
            tr__settle_drop(engine->completion, task, TR__TASK_HOLD_TIMER);
            return;
        }
        uint64_t next = tr__deadline_next(deadline, word, now);
        bool over = next == TR_FOREVER && is_settled(task, word);
        if (over ? tr__task_unwatch(task, word) : start(deadline, next)) {
            return; /* invariant 3 */
        }
        /* acq_rel: whoever set it has written its time before */
        (void)tr__fetch_and_acq_rel(&deadline->op.claim, ~TR__DEADLINE_LOOK);
    }
}

static void due(struct tr__op *op)
{
    struct tr__deadline *deadline = TR__CONTAINER_OF(op, struct tr__deadline, op);
    uint32_t seen = tr__load_acquire(&op->claim);
    while ((seen & (TR__DEADLINE_DISARM | TR__DEADLINE_BUSY)) != TR__DEADLINE_DISARM) {
        bool busy = (seen & TR__DEADLINE_BUSY) != 0;
        uint32_t next =
            busy ? seen | TR__DEADLINE_DONE : seen & ~(TR__DEADLINE_ARMED | TR__DEADLINE_LOOK);
        /* acq_rel: invariant 1. */
        if (tr__cas_acq_rel(&op->claim, &seen, next)) {
            if (busy) {
                return; /* who is busy looks */
            }
            break;
        }
    }
    look(deadline);
}

bool tr__deadline_init(struct tr__engine *engine, struct tr__task *task, const tr_options *options,
                       bool cooperative)
{
    bool detach = options->route == TR_ROUTE_DETACH_AFTER;
    bool watched = detach || options->queue_timeout_ns != TR_FOREVER ||
                   options->run_timeout_ns != TR_FOREVER ||
                   options->idle_timeout_ns != TR_FOREVER ||
                   options->total_timeout_ns != TR_FOREVER;
    if (!watched && !cooperative) {
        return false;
    }
    struct tr__deadline *deadline = deadline_of(engine, task);
    uint64_t accepted = task->accepted_ns;
    deadline->engine = engine;
    deadline->task = task;
    deadline->id = tr__slots_id(&engine->completion->registry.tasks, &task->slot);
    deadline->detach_at_ns =
        detach ? tr__clock_after(accepted, options->detach_after_ns) : TR_FOREVER;
    deadline->total_at_ns = tr__clock_after(accepted, options->total_timeout_ns);
    deadline->queue_ns = options->queue_timeout_ns;
    tr__store_relaxed(&deadline->queued_at_ns, accepted); /* private until published */
    deadline->run_ns = options->run_timeout_ns;
    deadline->idle_ns = options->idle_timeout_ns;
    tr__store_relaxed(&deadline->expire_at_ns,
                      TR_FOREVER); /* private until the task is published */
    tr__store_relaxed(&deadline->abandon_at_ns, TR_FOREVER);
    /* Of one that asks always: a later request may expire. Its start comes with tr__deadline_arm.
     */
    bool armed = watched || (tr__load_relaxed(&task->flags) & TR__TASK_FLAG_ASKED) != 0;
    tr__store_relaxed(&deadline->op.claim, armed ? TR__DEADLINE_ARMED : 0u);
    tr__store_relaxed(&deadline->grace_ms, 0u); /* likewise */
    prepare(deadline);
    return watched;
}

void tr__deadline_arm(struct tr__engine *engine, struct tr__task *task)
{
    struct tr__deadline *deadline = deadline_of(engine, task);
    if (!engine->config.threaded) {
        tr__vigil_arm(engine, deadline);
        return;
    }
    uint64_t word = tr__task_word(task);
    deadline->op.deadline_ns = tr__deadline_next(deadline, word, task->accepted_ns);
    tr__ring_submit(&engine->ring, &deadline->op);
}

void tr__deadline_disarm(struct tr__engine *engine, struct tr__task *task)
{
    struct tr__deadline *deadline = deadline_of(engine, task);
    if (!engine->config.threaded) {
        tr__vigil_disarm(engine, deadline);
        return;
    }
    /* acq_rel: invariant 2. */
    uint32_t before = tr__fetch_or_acq_rel(&deadline->op.claim, TR__DEADLINE_DISARM);
    if ((before & TR__DEADLINE_ARMED) != 0) {
        tr__ring_cancel(&engine->ring, &deadline->op, false);
    }
    /* seq_cst: after the push; a launch that enters later nudges by itself (host/admit). */
    if (tr__load_seq_cst(&engine->completion->registry.room.gate.waiters) != 0) {
        tr__ring_nudge(&engine->ring); /* it waits for the slot that the timer holds */
    }
}

void tr__deadline_expire(struct tr__engine *engine, struct tr__task *task, uint64_t at_ns)
{
    struct tr__deadline *deadline = deadline_of(engine, task);
    tr__store_relaxed(&deadline->expire_at_ns, at_ns); /* ordered by the poke */
    poke(deadline);
}

void tr__deadline_queue(struct tr__engine *engine, struct tr__task *task, uint64_t at_ns)
{
    /* relaxed: published by the approval. */
    tr__store_relaxed(&deadline_of(engine, task)->queued_at_ns, at_ns);
}

void tr__deadline_queued(struct tr__engine *engine, struct tr__task *task)
{
    poke(deadline_of(engine, task)); /* a look before the approval saw nothing of the queue */
}

void tr__deadline_set_grace(struct tr__engine *engine, struct tr__task *task, uint64_t grace_ns)
{
    uint64_t grace_ms = grace_ns / TR__NS_PER_MS + (grace_ns % TR__NS_PER_MS != 0);
    /* relaxed: a canceller at this very moment may miss it, and is then as patient as before. */
    tr__store_relaxed(&deadline_of(engine, task)->grace_ms,
                      grace_ms < UINT32_MAX ? (uint32_t)grace_ms : UINT32_MAX);
}

uint64_t tr__deadline_grace(struct tr__engine *engine, struct tr__task *task)
{
    uint32_t grace_ms = tr__load_relaxed(&deadline_of(engine, task)->grace_ms); /* its own */
    return grace_ms == UINT32_MAX ? TR_FOREVER : grace_ms * TR__NS_PER_MS;
}

void tr__deadline_abandon(struct tr__engine *engine, struct tr__task *task, uint64_t at_ns,
                          bool under_way)
{
    struct tr__deadline *deadline = deadline_of(engine, task);
    tr__store_relaxed(&deadline->abandon_at_ns, at_ns); /* ordered by the start or the poke */
    if (under_way) {
        poke(deadline);
    } else if (!engine->config.threaded) {
        tr__vigil_arm(engine, deadline);
    } else if (!start(deadline, at_ns)) {
        look(deadline);
    }
}

void tr__deadline_started(struct tr__engine *engine, struct tr__task *task)
{
    tr__vigil_move(engine, deadline_of(engine, task));
}

void tr__deadline_judge(struct tr__engine *engine, struct tr__task *task)
{
    tr__vigil_judge(engine, deadline_of(engine, task));
}
