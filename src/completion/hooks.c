/*
 * hooks.c: see hooks.h.
 *
 * Owner: its lock. Called by engine (registering, firing, closing) and settle (freeing); calls the
 * tool's functions, never under the lock.
 *
 * Invariants
 *  1. OPEN → FIRED by the one canceller of the task, → CLOSED by whoever ends the call otherwise;
 *     nothing leads back, and only in OPEN is anything added.
 *  2. A hook is called by tr__hooks_call alone, in FIRED; it is RUNNING until its context was
 *     released too. Who waits for it, waits for both.
 *  3. Whoever waits is not the caller itself, so a hook may take itself back, or end its call.
 *
 * Complexity: O(hooks), which are TR_CANCEL_HOOKS_MAX at most. One allocation per call that has
 * any.
 */
#include "completion/hooks.h"

#include <string.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/memory.h"

enum hooks_state {
    OPEN = 0,
    FIRED,
    CLOSED,
};

enum hook_state {
    ARMED = 0,
    RUNNING,
    CALLED,
    GONE, /* taken back or dropped */
};

static void lock(struct tr__hooks *hooks)
{
    int error = pthread_mutex_lock(&hooks->lock);
    TR_ASSERT(error == 0); /* a default mutex fails only if it is corrupt */
}

static void unlock(struct tr__hooks *hooks)
{
    int error = pthread_mutex_unlock(&hooks->lock);
    TR_ASSERT(error == 0);
}

struct tr__hooks *tr__hooks_make(struct tr__task *task)
{
    struct tr__hooks *hooks = (struct tr__hooks *)tr__memory_take_zero(sizeof(*hooks));
    if (hooks != NULL) {
        hooks->task = task;
        (void)pthread_mutex_init(&hooks->lock, NULL); /* defaults: cannot fail on Linux */
        (void)pthread_cond_init(&hooks->called, NULL);
    }
    return hooks;
}

void tr__hooks_free(struct tr__hooks *hooks)
{
    if (hooks != NULL) {
        TR_ASSERT(!hooks->is_calling);
        (void)pthread_cond_destroy(&hooks->called); /* nobody uses them any more */
        (void)pthread_mutex_destroy(&hooks->lock);
        tr__memory_give(hooks);
    }
}

int tr__hooks_add(struct tr__hooks *hooks, tr_cancel_function function, void *context,
                  tr_cancel_function release)
{
    lock(hooks);
    uint32_t at = 0;
    while (at < hooks->count && hooks->hooks[at].state != GONE) {
        at++;
    }
    int error = hooks->state != OPEN ? TR_ECANCELED : at == TR_CANCEL_HOOKS_MAX ? TR_ELIMIT : 0;
    if (error == 0) {
        struct tr__hook hook = {function, release, context, ARMED};
        hooks->hooks[at] = hook;
        hooks->count += at == hooks->count;
    }
    unlock(hooks);
    return error;
}

/* Under the lock: waits until no hook is running on another thread. */
static void wait_called(struct tr__hooks *hooks)
{
    while (hooks->is_calling && !pthread_equal(hooks->caller, pthread_self())) {
        (void)pthread_cond_wait(&hooks->called, &hooks->lock); /* cannot fail: the lock is held */
    }
}

int tr__hooks_remove(struct tr__hooks *hooks, tr_cancel_function function, void *context)
{
    int result = TR_ENOENT;
    lock(hooks);
    for (uint32_t i = hooks->count; i > 0 && result == TR_ENOENT; i--) {
        struct tr__hook *hook = &hooks->hooks[i - 1];
        if (hook->state == GONE || hook->function != function || hook->context != context) {
            continue;
        }
        if (hook->state == ARMED) {
            hook->state = GONE;
            result = 0;
        } else {
            if (hook->state == RUNNING) {
                wait_called(hooks);
            }
            result = TR_EALREADY;
        }
    }
    unlock(hooks);
    return result;
}

bool tr__hooks_fire(struct tr__hooks *hooks)
{
    bool any = false;
    lock(hooks);
    if (hooks->state == OPEN) {
        hooks->state = FIRED;
        for (uint32_t i = 0; i < hooks->count; i++) {
            any |= hooks->hooks[i].state == ARMED;
        }
    }
    unlock(hooks);
    return any;
}

void tr__hooks_call(struct tr__hooks *hooks)
{
    lock(hooks);
    hooks->caller = pthread_self();
    for (uint32_t i = 0; i < hooks->count; i++) {
        struct tr__hook *hook = &hooks->hooks[i];
        if (hook->state != ARMED) {
            continue;
        }
        hook->state = RUNNING;
        hooks->is_calling = true;
        unlock(hooks);
        hook->function(hook->context); /* RUNNING: nobody else changes it */
        if (hook->release != NULL) {
            hook->release(hook->context);
        }
        lock(hooks);
        hook->state = CALLED;
        hooks->is_calling = false;
        (void)pthread_cond_broadcast(&hooks->called); /* cannot fail */
    }
    unlock(hooks);
}

void tr__hooks_close(struct tr__hooks *hooks, bool wait)
{
    struct tr__hook dropped[TR_CANCEL_HOOKS_MAX];
    uint32_t count = 0;
    lock(hooks);
    hooks->state = CLOSED;
    for (uint32_t i = 0; i < hooks->count; i++) {
        if (hooks->hooks[i].state == ARMED) {
            hooks->hooks[i].state = GONE;
            dropped[count++] = hooks->hooks[i];
        }
    }
    if (wait) {
        wait_called(hooks);
    }
    unlock(hooks);
    for (uint32_t i = 0; i < count; i++) {
        if (dropped[i].release != NULL) {
            dropped[i].release(dropped[i].context);
        }
    }
}
