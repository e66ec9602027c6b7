/*
 * inbox.c: the slow half of an inbox: sleeping, waking, and the eventfd.
 *
 * Purpose: see inbox.h. Owner: pop, wait, fd and rearm belong to the token's holder; push, wake and
 * interrupt to any thread. Called by engine and host for the channels of turns, sessions and drain
 * queues; calls parts/mpsc, parts/parker, eventfd(2), read(2), write(2).
 *
 * The eventfd, as a state of two words (armed, counter):
 *
 *        (1, 0)  ── push: exchange armed to 0 ──▶  (0, 0) ── write ──▶  (0, 1)  readable
 *           ▲                                                              │
 *           └──────────── rearm: read the counter, then set armed ◀────────┘
 *
 * Invariants
 *  1. armed == 0 means: the descriptor is readable, or whoever cleared `armed` is about to write.
 *     So a push that finds armed == 0 owes nothing.
 *  2. rearm reads before it arms. The other way round the read could eat the write of a push that
 *     came in between, and armed == 0 would stand beside a counter of 0 for ever.
 *  3. A writer may be late: it cleared `armed`, the holder re-armed, then it writes. The descriptor
 *     then is readable with nothing in the queue: a wake for nothing. The next rearm reads it away,
 *     which is why rearm always reads and does not trust armed == 1.
 *  4. rearm looks at the queue after arming (seq_cst against push's seq_cst exchange and load of
 *     `armed`): by the park protocol one of the two sees the other.
 *
 *  5. The descriptor is not closed under a late writer: it is counted in `firing` from before it
 *     clears `armed` to after its write, and done clears `armed` before it looks at `firing`.
 *
 * Complexity: all O(1); rearm costs a read(2), 0.3 us, once per drain that empties the queue.
 * Rejected: writing the eventfd at every push (a system call each); a semaphore eventfd counting
 * items (ditto); arming inside wait (a host that polls the descriptor never calls wait).
 */
#include "parts/inbox.h"

#include <toolring/error.h>

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/backoff.h"

static void descriptor_write(int fd);
static void descriptor_clear(int fd);
static void descriptor_fire(struct tr__inbox *inbox);
static void descriptor_arm(struct tr__inbox *inbox);

void tr__inbox_reuse(struct tr__inbox *inbox)
{
    tr__mpsc_init(&inbox->queue);
    tr__parker_init(&inbox->parker);
    tr__store_relaxed(&inbox->armed, 0u); /* private until handed out, like the next */
    tr__store_relaxed(&inbox->events, 0u);
}

void tr__inbox_init(struct tr__inbox *inbox)
{
    tr__inbox_reuse(inbox);
    tr__store_relaxed(&inbox->firing, 0u); /* private until handed out; reuse: counted to the end */
    tr__token_init(&inbox->token);
}

void tr__inbox_done(struct tr__inbox *inbox)
{
    unsigned spins = 0;
    uint32_t events = tr__load_relaxed(&inbox->events); /* only a late producer is left */
    if (events != 0) {
        /* seq_cst, before the look at `firing`: a producer raises that before it takes `armed` */
        (void)tr__exchange_seq_cst(&inbox->armed, 0u);
        while (tr__load_seq_cst(&inbox->firing) != 0) {
            tr__backoff(&spins); /* it is in the middle of write(2): invariant 5 */
        }
        (void)close((int)(events - 1)); /* an eventfd has nothing to flush: no error to act on */
        tr__store_relaxed(&inbox->events, 0u);
    }
}

void tr__inbox_wake(struct tr__inbox *inbox)
{
    (void)tr__parker_notify(&inbox->parker); /* whether it slept is of no interest here */
    descriptor_fire(inbox);
}

struct tr__mpsc_node *tr__inbox_pop(struct tr__inbox *inbox)
{
    struct tr__mpsc_node *node = NULL;
    unsigned spins = 0;
    enum tr__mpsc_result result = tr__mpsc_pop(&inbox->queue, &node);

    TR_ASSERT(tr__load_relaxed(&inbox->token.held) != 0); /* the caller's own store */
    while (result == TR__MPSC_BUSY) {
        tr__backoff(&spins);
        result = tr__mpsc_pop(&inbox->queue, &node);
    }
    return node;
}

int tr__inbox_wait(struct tr__inbox *inbox, uint64_t deadline_ns)
{
    TR_ASSERT(tr__load_relaxed(&inbox->token.held) != 0); /* the caller's own store */
    tr__parker_prepare(&inbox->parker);
    if (!tr__mpsc_is_empty(&inbox->queue)) {
        tr__parker_cancel(&inbox->parker);
        return 0;
    }
    return tr__parker_wait(&inbox->parker, deadline_ns);
}

void tr__inbox_interrupt(struct tr__inbox *inbox)
{
    (void)tr__parker_notify(&inbox->parker); /* a holder that is awake looks by itself */
}

int tr__inbox_fd(struct tr__inbox *inbox)
{
    uint32_t events = tr__load_relaxed(&inbox->events); /* written by holders, one after another */
    TR_ASSERT(tr__load_relaxed(&inbox->token.held) != 0);
    if (events != 0) {
        return (int)(events - 1);
    }
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    /* relaxed: read by whoever has cleared `armed`, and that was set after this */
    tr__store_relaxed(&inbox->events, (uint32_t)fd + 1);
    descriptor_arm(inbox);
    return fd;
}

void tr__inbox_rearm(struct tr__inbox *inbox)
{
    uint32_t events = tr__load_relaxed(&inbox->events); /* as in tr__inbox_fd */
    TR_ASSERT(tr__load_relaxed(&inbox->token.held) != 0);
    if (events == 0) {
        return;
    }
    descriptor_clear((int)(events - 1));
    descriptor_arm(inbox);
}

/* Arms, then looks: what came before the arming makes the descriptor readable here. */
static void descriptor_arm(struct tr__inbox *inbox)
{
    /* seq_cst: comes before the look in the order of all seq_cst operations; pairs with the load in
     * tr__inbox_push; releases `events` to the exchange below */
    tr__store_seq_cst(&inbox->armed, 1u);
    if (!tr__mpsc_is_empty(&inbox->queue)) {
        descriptor_fire(inbox);
    }
}

/* Makes the descriptor readable if it is armed; of several callers one does. */
static void descriptor_fire(struct tr__inbox *inbox)
{
    /* seq_cst, all: part of the protocol on push's side, and invariant 5; the exchange acquires
     * what descriptor_arm released */
    if (tr__load_seq_cst(&inbox->armed) == 0) {
        return;
    }
    (void)tr__fetch_add_seq_cst(&inbox->firing, 1u);
    if (tr__exchange_seq_cst(&inbox->armed, 0u) != 0) {
        descriptor_write((int)(tr__load_relaxed(&inbox->events) - 1));
    }
    (void)tr__fetch_sub_seq_cst(&inbox->firing, 1u);
}

static void descriptor_write(int fd)
{
    const uint64_t one = 1;
    ssize_t written;
    do {
        written = write(fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    /* EAGAIN: the counter is at its very end, so the descriptor is readable as it should be. */
    TR_ASSERT(written == (ssize_t)sizeof one || errno == EAGAIN);
}

static void descriptor_clear(int fd)
{
    uint64_t count;
    ssize_t taken;
    do {
        taken = read(fd, &count, sizeof count);
    } while (taken < 0 && errno == EINTR);
    TR_ASSERT(taken == (ssize_t)sizeof count || errno == EAGAIN); /* EAGAIN: nothing to clear */
}
