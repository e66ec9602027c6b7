/*
 * ring.c: the ring thread's life, and the doors through which others reach it.
 *
 * Owner: open and close belong to whoever embeds the ring; start and cancel to any thread; the
 * thread's own work is ring_loop.c. Called by worker, spawner's users, host; calls ring_loop,
 * probe.
 *
 *     STARTING ─▶ OPEN ─▶ CLOSING ─▶ ENDED     `phase`, under the mutex, announced by `changed`
 *         └─▶ FAILED
 *
 *  1. The ring is created on its own thread (SINGLE_ISSUER wants that); open waits for its
 *     verdict.
 *  2. All signals are blocked in the thread from its first instruction: a wait in the kernel
 *     answers EINTR otherwise, and a host's handler does not belong there.
 *  3. The thread ends only when nothing is in flight. So when close runs out of time, it leaves
 *     the thread and all memory to themselves: the kernel may still write into a buffer.
 *  4. start: everything the ring reads of an op is written before the push, whose exchange
 *     publishes it. After the push the op is not touched.
 *  5. cancel: one fetch_or decides against finish (ring_table.c). FINISHED was there: the op is
 *     done or will be without us, no message. Else the op stays until the message has been taken,
 *     and its start, in whichever order the two come.
 *
 * Cost: a start is one exchange and one load; measured 30 to 110 ns to arm and cancel a timer,
 * hand-over included.
 * Rejected: a ring per worker (idle wakes multiply, and an op would have to find its own ring to
 * be cancelled); joining with a time limit (pthread_clockjoin_np is unknown to older sanitizers).
 */
#include "engine/ring.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/slice.h"
#include "engine/ring_kernel.h"
#include "engine/ring_loop.h"

enum {
    PHASE_STARTING,
    PHASE_OPEN,
    PHASE_CLOSING,
    PHASE_FAILED,
    PHASE_ENDED,
};

static _Thread_local const struct tr__ring *own_ring;

static void set_phase(struct tr__ring *ring, int phase)
{
    (void)pthread_mutex_lock(&ring->mutex); /* cannot fail: initialised, not held by us */
    ring->phase = phase;
    (void)pthread_cond_broadcast(&ring->changed);
    (void)pthread_mutex_unlock(&ring->mutex);
}

static void await_phase(struct tr__ring *ring, int phase)
{
    (void)pthread_mutex_lock(&ring->mutex); /* as above */
    while (ring->phase != phase) {
        (void)pthread_cond_wait(&ring->changed, &ring->mutex);
    }
    (void)pthread_mutex_unlock(&ring->mutex);
}

static void *run(void *argument)
{
    struct tr__ring *ring = argument;

    own_ring = ring;
    (void)pthread_setname_np(pthread_self(), "tr-ring"); /* a name is a comfort */
    tr__slice_shorten();                                 /* timers are late by what it waits */
    int error = tr__ring_attach(ring, ring->config);
    if (error != 0) {
        ring->open_error = error;
        set_phase(ring, PHASE_FAILED);
        return NULL;
    }
    set_phase(ring, PHASE_OPEN);
    while (tr__ring_round(ring)) {
        /* until stopped and drained */
    }
    await_phase(ring, PHASE_CLOSING); /* whoever closes may still be about to ring the bell */
    tr__ring_detach(ring);
    set_phase(ring, PHASE_ENDED);
    return NULL;
}

static void say(const struct tr__ring_config *config, const char *text)
{
    if (config->message != NULL && config->message_size > 0) {
        (void)snprintf(config->message, config->message_size, "%s", text);
    }
}

static int init_waiting(struct tr__ring *ring)
{
    pthread_condattr_t attributes;

    if (pthread_mutex_init(&ring->mutex, NULL) != 0) {
        return TR_ENOMEM;
    }
    if (pthread_condattr_init(&attributes) != 0) {
        (void)pthread_mutex_destroy(&ring->mutex);
        return TR_ENOMEM;
    }
    int error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (error == 0) {
        error = pthread_cond_init(&ring->changed, &attributes);
    }
    (void)pthread_condattr_destroy(&attributes);
    if (error != 0) {
        (void)pthread_mutex_destroy(&ring->mutex);
        return TR_ENOMEM;
    }
    return 0;
}

static void release(struct tr__ring *ring)
{
    (void)pthread_cond_destroy(&ring->changed);
    (void)pthread_mutex_destroy(&ring->mutex);
    tr__ring_done(ring);
}

static int start_thread(struct tr__ring *ring)
{
    sigset_t all;
    sigset_t before;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it */
    int error = pthread_create(&ring->thread, NULL, run, ring);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0 ? 0 : TR_EAGAIN;
}

int tr__ring_open(struct tr__ring *ring, const struct tr__ring_config *config)
{
    say(config, "");
    int error = tr__ring_init(ring, config);
    if (error != 0) {
        say(config, error == TR_EINVAL ? "the size of the ring is out of range" : "out of memory");
        return error;
    }
    error = init_waiting(ring);
    if (error != 0) {
        say(config, "out of memory");
        tr__ring_done(ring);
        return error;
    }
    ring->phase = PHASE_STARTING;
    ring->config = config;
    error = start_thread(ring);
    if (error != 0) {
        say(config, "no thread could be made");
        release(ring);
        return error;
    }
    (void)pthread_mutex_lock(&ring->mutex);
    while (ring->phase == PHASE_STARTING) {
        (void)pthread_cond_wait(&ring->changed, &ring->mutex);
    }
    bool failed = ring->phase == PHASE_FAILED;
    (void)pthread_mutex_unlock(&ring->mutex);
    ring->config = NULL;
    if (failed) {
        error = ring->open_error;
        (void)pthread_join(ring->thread, NULL);
        release(ring);
    }
    return error;
}

void tr__ring_prepare(struct tr__op *op)
{
    op->start.kind = TR__MESSAGE_START;
    op->state = 0;
    tr__store_relaxed(&op->flags, 0u); /* published by the push, or to whoever may cancel it */
}

void tr__ring_start(struct tr__ring *ring, struct tr__op *op)
{
    tr__ring_prepare(op);
    tr__ring_submit(ring, op);
}

void tr__ring_submit(struct tr__ring *ring, struct tr__op *op)
{
    TR_ASSERT(op->done != NULL);
    tr__ring_push(ring, &op->start, op->kind == TR__OP_TIMER ? op->deadline_ns : 0);
}

void tr__ring_cancel(struct tr__ring *ring, struct tr__op *op, bool urgent)
{
    /* acq_rel: one total order of this and finish's fetch_or; pairs with finish in ring_table.c */
    uint32_t flags = tr__fetch_or_acq_rel(&op->flags, TR__OP_CANCEL_POSTED);

    TR_ASSERT((flags & TR__OP_CANCEL_POSTED) == 0);
    if ((flags & TR__OP_FINISHED) != 0) {
        return;
    }
    op->cancel.kind = TR__MESSAGE_CANCEL;
    tr__ring_push(ring, &op->cancel, urgent ? 0 : UINT64_MAX);
}

bool tr__ring_is_resting(struct tr__ring *ring)
{
    /* In this order: an empty inbox was emptied by a ring that was awake then (the look acquires
     * its last take); if it sleeps since, it has done what it took. seq_cst: as P2. */
    return tr__mpsc_is_empty(&ring->inbox) && tr__load_seq_cst(&ring->sleeping_until) != 0;
}

/* How late a timer may be before others notice: what waking up takes, and a part of a tick. */
#define OVERDUE_NS UINT64_C(300000)

bool tr__ring_is_overdue(struct tr__ring *ring, uint64_t now_ns)
{
    /* relaxed: a hint. While the ring sleeps it is when it wakes. */
    uint64_t due_ns = tr__load_relaxed(&ring->due_ns);
    return now_ns > due_ns && now_ns - due_ns > OVERDUE_NS;
}

bool tr__ring_is_self(const struct tr__ring *ring)
{
    return own_ring == ring;
}

int tr__ring_close(struct tr__ring *ring, uint64_t deadline_ns)
{
    TR_ASSERT(!tr__ring_is_self(ring));
    ring->stop.kind = TR__MESSAGE_STOP;
    tr__ring_push(ring, &ring->stop, 0);
    set_phase(ring, PHASE_CLOSING);

    int error = 0;
    (void)pthread_mutex_lock(&ring->mutex);
    while (ring->phase != PHASE_ENDED && error == 0) {
        if (deadline_ns == TR__FOREVER) {
            (void)pthread_cond_wait(&ring->changed, &ring->mutex);
        } else {
            struct timespec deadline = tr__clock_timespec(deadline_ns);
            error = pthread_cond_timedwait(&ring->changed, &ring->mutex, &deadline);
        }
    }
    bool ended = ring->phase == PHASE_ENDED;
    (void)pthread_mutex_unlock(&ring->mutex);
    if (!ended) {
        (void)pthread_detach(ring->thread); /* leaked with everything it may still touch */
        return TR_ETIMEDOUT;
    }
    (void)pthread_join(ring->thread, NULL);
    release(ring);
    return 0;
}

void tr__ring_stats_read(struct tr__ring *ring, struct tr__ring_stats *ret_stats)
{
    const tr__atomic_u64 *counters = ring->counters;

    /* relaxed: counts that publish nothing but themselves */
    ret_stats->enters = tr__load_relaxed(&counters[TR__RING_ENTERS]);
    ret_stats->operations = tr__load_relaxed(&counters[TR__RING_OPERATIONS]);
    ret_stats->requests = tr__load_relaxed(&counters[TR__RING_REQUESTS]);
    ret_stats->wakes = tr__load_relaxed(&counters[TR__RING_WAKES]);
    ret_stats->timers_fired = tr__load_relaxed(&counters[TR__RING_TIMERS_FIRED]);
    ret_stats->stale = tr__load_relaxed(&counters[TR__RING_STALE]);
}
