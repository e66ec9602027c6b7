/*
 * herald.c: see herald.h.
 *
 * Owner thread: its own (inline managers: any host thread). Called by cancel.c (post), call.c
 * (start), engine.c; calls hooks, settle.
 *
 * Invariants
 *  1. Posted hooks have their task's HOLD_STEER, which is dropped after the last of them has
 *     returned: until then neither they nor the task are reused, and a close waits.
 *  2. Posting pushes (seq_cst), then looks whether the thread is parked; the thread parks, then
 *     looks at the stack and at `stopping` (parts/parker).
 *  3. Hooks of one manager with threads run one after the other.
 *
 * Complexity: O(1) per post, no allocation.
 * Rejected: the canceller's own thread (it may hold locks that the hook wants, and the ring's must
 * not run a tool's code); a worker (all of them may be blocked in just the tools that the hooks
 * are to unblock).
 */
#include "engine/herald.h"

#include <errno.h>
#include <signal.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "completion/settle.h"

static void lock(struct tr__herald *herald)
{
    int error = pthread_mutex_lock(&herald->lock);
    TR_ASSERT(error == 0); /* a default mutex fails only if it is corrupt */
}

static void unlock(struct tr__herald *herald)
{
    int error = pthread_mutex_unlock(&herald->lock);
    TR_ASSERT(error == 0);
}

void tr__herald_open(struct tr__herald *herald, struct tr__completion *completion, bool threaded)
{
    herald->completion = completion;
    herald->threaded = threaded;
    herald->started = false;
    herald->ended = false;
    herald->closed = false;
    tr__stack_init(&herald->posted);
    tr__parker_init(&herald->parker);
    tr__store_relaxed(&herald->stopping, 0u); /* nobody knows it yet */
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic); /* none of these can fail on Linux */
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&herald->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&herald->lock, NULL);
}

/* Calls everything that is posted now, oldest first. */
static void call_posted(struct tr__herald *herald)
{
    struct tr__stack_node *node = tr__stack_reverse(tr__stack_take_all(&herald->posted));
    while (node != NULL) {
        struct tr__hooks *hooks = TR__CONTAINER_OF(node, struct tr__hooks, posted);
        node = node->next; /* before the drop, which may free the hooks */
        tr__hooks_call(hooks);
        tr__settle_drop(herald->completion, hooks->task, TR__TASK_HOLD_STEER);
    }
}

static void *herald_main(void *argument)
{
    struct tr__herald *herald = (struct tr__herald *)argument;
    (void)pthread_setname_np(pthread_self(), "tr-herald"); /* a name is a comfort */
    for (;;) {
        call_posted(herald);
        tr__parker_prepare(&herald->parker); /* then look again: invariant 2 */
        bool empty = tr__stack_is_empty(&herald->posted);
        bool stopping = tr__load_seq_cst(&herald->stopping) != 0;
        if (!empty || stopping) {
            tr__parker_cancel(&herald->parker);
            if (empty) {
                break;
            }
            continue;
        }
        (void)tr__parker_wait(&herald->parker, TR__FOREVER); /* until notified */
    }
    lock(herald);
    herald->ended = true;
    (void)pthread_cond_signal(&herald->changed); /* cannot fail */
    unlock(herald);
    return NULL;
}

int tr__herald_start(struct tr__herald *herald)
{
    int error = 0;
    lock(herald);
    if (herald->closed) {
        error = TR_ECLOSED;
    } else if (herald->threaded && !herald->started) {
        sigset_t all;
        sigset_t before;
        (void)sigfillset(&all); /* none of these can fail: the arguments are valid */
        (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it */
        error = pthread_create(&herald->thread, NULL, herald_main, herald) == 0 ? 0 : TR_EAGAIN;
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        herald->started = error == 0;
    }
    unlock(herald);
    return error;
}

void tr__herald_post(struct tr__herald *herald, struct tr__hooks *hooks)
{
    (void)tr__stack_push_seq_cst(&herald->posted, &hooks->posted); /* invariant 2 */
    if (herald->threaded) {
        (void)tr__parker_notify(&herald->parker); /* whether it slept is its own affair */
    }
}

void tr__herald_help(struct tr__herald *herald)
{
    TR_ASSERT(!herald->threaded);
    while (!tr__stack_is_empty(&herald->posted)) {
        call_posted(herald);
    }
}

bool tr__herald_close(struct tr__herald *herald, uint64_t deadline_ns)
{
    lock(herald);
    herald->closed = true;
    if (!herald->started) {
        unlock(herald);
        return true;
    }
    tr__store_seq_cst(&herald->stopping, 1u); /* invariant 2 */
    (void)tr__parker_notify(&herald->parker);
    struct timespec until = {(time_t)(deadline_ns / 1000000000u),
                             (long)(deadline_ns % 1000000000u)};
    int error = 0;
    while (!herald->ended && error != ETIMEDOUT) {
        error = deadline_ns == TR__FOREVER
                    ? pthread_cond_wait(&herald->changed, &herald->lock)
                    : pthread_cond_timedwait(&herald->changed, &herald->lock, &until);
    }
    bool ended = herald->ended;
    unlock(herald);
    if (ended) {
        (void)pthread_join(herald->thread, NULL); /* it has left: cannot fail */
    } else {
        (void)pthread_detach(herald->thread); /* its memory is left with it */
    }
    return ended;
}

void tr__herald_done(struct tr__herald *herald)
{
    (void)pthread_mutex_destroy(&herald->lock); /* nobody uses it any more */
    (void)pthread_cond_destroy(&herald->changed);
}
