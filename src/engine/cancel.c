/*
 * cancel.c: asking tasks to stop: the only place where a cancel becomes a message.
 *
 * Owner thread: any: hosts (cancel, interrupt, close), the ring (timeouts). Called by host,
 * deadline.c; calls domain/task, settle, deadline, call.
 *
 * Invariants
 *  1. The state word decides: a queued, deferred or approval task, or a plain function, ends here
 *     and now; a cooperative function is asked once, by whoever sets CANCEL.
 *  2. That one canceller has HOLD_STEER while it works: reason, patience, notification, hooks; then
 *     it, or the herald when the last hook has returned, drops it.
 *  3. A reason is with the outcome: it is copied before the task is asked, and left, or that
 *     there is none, right after; an ender that finds the task asked waits that moment.
 *  4. Patience is bounded: a cooperative function that has not ended after grace (the manager's,
 *     or a longer one the function has asked for) + abandon_wait is abandoned: its outcome is
 *     delivered and what it still returns is discarded.
 *
 * Complexity: O(1) per task; at most one message to the ring and one to a worker.
 */
#include <string.h>

#include <toolring/error.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/memory.h"
#include "engine/engine.h"

static void settle_now(struct tr__engine *engine, struct tr__task *task, struct tr__step step,
                       int code, const char *reason)
{
    tr__engine_settle(engine, tr__engine_tally(engine, NULL), task, step, tr__clock_now(), code,
                      reason);
}

/* A copy of the reason for the ender, made before the task is asked: between the asking and the
 * leaving of it nothing may take long. NULL: there is none, no memory for it, or nobody to leave it
 * to. */
static char *copy_reason(struct tr__task *task, const char *reason)
{
    size_t size = reason == NULL ? 0 : strnlen(reason, TR_REASON_BYTES_MAX);
    bool wanted = size > 0 && (tr__task_word(task) & TR__TASK_COOPERATIVE) != 0;
    char *copy = wanted ? (char *)tr__memory_take(size + 1) : NULL;
    if (copy != NULL) {
        memcpy(copy, reason, size);
        copy[size] = '\0';
    }
    return copy;
}

char *tr__cancel_reason(struct tr__engine *engine, struct tr__task *task, struct tr__step step)
{
    if ((step.before & TR__TASK_CANCEL) == 0) {
        return NULL; /* nobody had asked it */
    }
    struct tr__cold *cold = tr__registry_cold(&engine->completion->registry, task);
    void *reason = NULL;
    unsigned spins = 0;
    /* acquire: pairs with steer, whose store comes right after the swap that we have seen. */
    while ((reason = tr__exchange_acquire(&cold->stop_reason, (void *)NULL)) == NULL) {
        tr__backoff(&spins);
    }
    return reason == TR__NO_REASON ? NULL : (char *)reason;
}

/* Ends the canceller's work: HOLD_STEER goes, or becomes the herald's. Calls no hook itself: the
 * caller may hold the lane's lock. */
static void let_go(struct tr__engine *engine, struct tr__task *task, struct tr__step step)
{
    struct tr__hooks *hooks = NULL;
    if ((step.word & TR__TASK_COLD) != 0) {
        hooks = tr__hooks_of(&engine->completion->registry, task);
    }
    if (hooks != NULL && tr__hooks_fire(hooks)) {
        tr__herald_post(&engine->herald, hooks);
    } else {
        tr__settle_drop(engine->completion, task, TR__TASK_HOLD_STEER);
    }
}

/* `copy`: the task's from now on. */
static void steer(struct tr__engine *engine, struct tr__task *task, struct tr__step step,
                  char *copy)
{
    struct tr__cold *cold = tr__registry_cold(&engine->completion->registry, task);
    /* release: pairs with tr__cancel_reason. */
    tr__store_release(&cold->stop_reason, copy != NULL ? (void *)copy : TR__NO_REASON);
    uint64_t grace = tr__deadline_grace(engine, task);
    grace = grace > engine->config.cancel_grace_ns ? grace : engine->config.cancel_grace_ns;
    uint64_t patience = tr__clock_after(grace, engine->config.abandon_wait_ns);
    tr__deadline_abandon(engine, task, tr__clock_after(tr__clock_now(), patience),
                         (step.before & TR__TASK_HOLD_TIMER) != 0);
    tr__call_notify(engine, task);
    let_go(engine, task, step);
}

static int act(struct tr__engine *engine, struct tr__task *task, struct tr__step step, int code,
               const char *reason, char *copy)
{
    if (step.action != TR__ACTION_NOTIFY) {
        tr__memory_give(copy);
    }
    switch (step.action) {
    case TR__ACTION_SETTLE:
        settle_now(engine, task, step, code, reason);
        if ((step.before & TR__TASK_HOLD_RUN) != 0 &&
            tr__word_state(step.before) != TR__TASK_QUEUED) {
            /* Abandoned; but if it happens to wait in an op (a plain tool in tr_process) it can
             * clean up. Or deferred, and its launcher waits. A wake of a slot already reused is
             * spurious and harmless (call.h). */
            tr__call_notify(engine, task);
        }
        if ((step.word & TR__TASK_HOLD_STEER) != 0) {
            let_go(engine, task, step);
        }
        return 0;
    case TR__ACTION_NOTIFY:
        steer(engine, task, step, copy);
        return 0;
    default:
        return tr__step_error(step); /* none if it was asked before: idempotent */
    }
}

int tr__cancel_task(struct tr__engine *engine, struct tr__task *task, tr_task_id id, bool timeout,
                    int code, const char *reason)
{
    char *copy = copy_reason(task, reason);
    struct tr__step step = tr__task_cancel(task, id, timeout, tr__engine_wanted(engine));
    return act(engine, task, step, code, reason, copy);
}

void tr__cancel_queued(struct tr__engine *engine, struct tr__task *task, tr_task_id id)
{
    struct tr__step step = tr__task_time_out_queued(task, id, tr__engine_wanted(engine));
    (void)act(engine, task, step, TR_ETIMEDOUT, NULL, NULL); /* started or ended meanwhile: fine */
}

int tr__cancel_foreground(struct tr__engine *engine, struct tr__task *task, tr_task_id id,
                          const char *reason)
{
    char *copy = copy_reason(task, reason);
    struct tr__step step = tr__task_interrupt(task, id, tr__engine_wanted(engine));
    return act(engine, task, step, TR_ECANCELED, reason, copy);
}

void tr__cancel_abandon(struct tr__engine *engine, struct tr__task *task, tr_task_id id)
{
    struct tr__step step = tr__task_abandon(task, id, tr__engine_wanted(engine));
    if (step.action == TR__ACTION_SETTLE) {
        bool timeout = (step.word & TR__TASK_TIMEOUT) != 0;
        char *reason = tr__cancel_reason(engine, task, step);
        settle_now(engine, task, step, timeout ? TR_ETIMEDOUT : TR_ECANCELED, reason);
        tr__memory_give(reason);
    }
}
