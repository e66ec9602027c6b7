/*
 * direct.c: the ops of op.h without a ring: try, poll(2), try again, in the calling thread.
 *
 * Purpose: inline managers, and hosts without io_uring, get the same results by plain means.
 * Owner: one thread; tr__direct_wake: any. Called by tools and host; calls op.c and the kernel.
 *
 *     start ─▶ on the list ─▶ each pass of a wait: cancelled? due? can be done now? ─▶ done
 *                                         none of all: poll, until the earliest deadline
 *
 *  1. Ops are on one list, oldest first, linked by start.node.next and `previous`; the poll array
 *     is in the same order behind the eventfd; `state` is what the last poll said of an op.
 *  2. A pass looks at as many ops as there were when it began, each once. What done hooks start
 *     meanwhile is appended and may have to wait for the next pass, as may what they cancel. So an
 *     op that starts itself again and again does not hold the pass for ever.
 *  3. Every attempt is non-blocking (op.c); `ready` is claimed only for what poll has just
 *     reported.
 *  4. An op is unlinked before its done hook runs and is not touched afterwards.
 *  5. Waking: the waker sets `woken`, then reads `awaited`; the owner sets `awaited`, then reads
 *     `woken` (all seq_cst): one of the two comes second and sees the other. The eventfd is read
 *     after every poll that reported it; a byte left over costs one pass for nothing.
 *  6. A deadline that has passed when the op is started leaves it one attempt, as with the ring.
 *
 * Complexity: a pass is linear in the ops under way.
 * Rejected: epoll (a descriptor and a registration per op, for a handful of ops that live once).
 */
#include "engine/direct.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/memory.h"

/* How often a sleeper without an eventfd looks whether it was woken. */
#define LOOK_NS (10 * TR__NS_PER_MS)

enum {
    STATE_NEW = 0,       /* not tried yet */
    STATE_POLLED = 1,    /* tried, and not reported ready since */
    STATE_READY = 2,     /* poll has just reported it */
    STATE_NO_MEMORY = 3, /* there was no place in the poll array */
};

static struct tr__op *next_of(struct tr__op *op)
{
    /* relaxed: one thread only */
    struct tr__mpsc_node *node = (struct tr__mpsc_node *)tr__load_relaxed(&op->start.node.next);

    return node == NULL ? NULL : TR__CONTAINER_OF(node, struct tr__op, start.node);
}

static void append(struct tr__direct *direct, struct tr__op *op)
{
    tr__store_relaxed(&op->start.node.next, (void *)NULL); /* one thread only */
    op->previous = direct->last;
    if (direct->last == NULL) {
        direct->first = op;
    } else {
        tr__mpsc_link(&direct->last->start.node, &op->start.node);
    }
    direct->last = op;
    direct->count += 1;
}

static void take_off(struct tr__direct *direct, struct tr__op *op)
{
    struct tr__op *next = next_of(op);
    struct tr__op *previous = op->previous;

    if (next == NULL) {
        direct->last = previous;
    } else {
        next->previous = previous;
    }
    if (previous == NULL) {
        direct->first = next;
    } else {
        /* relaxed: one thread only */
        tr__store_relaxed(&previous->start.node.next, next == NULL ? NULL : &next->start.node);
    }
    direct->count -= 1;
}

/* Room for one more op in the poll array. */
static bool grow(struct tr__direct *direct)
{
    if (direct->count + 1 < direct->polls_max) {
        return true;
    }
    uint32_t polls_max = direct->polls_max * 2;
    bool is_inline = direct->polls == direct->inline_polls;
    struct pollfd *polls =
        tr__memory_resize(is_inline ? NULL : direct->polls, polls_max * sizeof *polls);
    if (polls == NULL) {
        return false;
    }
    direct->polls = polls; /* its contents live for one poll only */
    direct->polls_max = polls_max;
    return true;
}

int tr__direct_init(struct tr__direct *direct)
{
    memset(direct, 0, sizeof *direct);
    direct->polls = direct->inline_polls;
    direct->polls_max = TR__DIRECT_POLLS + 1;
    direct->event_fd = -1;
    return 0;
}

void tr__direct_done(struct tr__direct *direct)
{
    TR_ASSERT(direct->count == 0);
    if (direct->polls != direct->inline_polls) {
        tr__memory_give(direct->polls);
    }
    if (direct->event_fd >= 0) {
        (void)close(direct->event_fd);
    }
}

int tr__direct_fd(struct tr__direct *direct)
{
    if (direct->event_fd < 0) {
        direct->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    return direct->event_fd >= 0 ? direct->event_fd : -errno;
}

void tr__direct_start(struct tr__direct *direct, struct tr__op *op)
{
    TR_ASSERT(op->done != NULL);
    TR_ASSERT(op->kind >= TR__OP_TIMER && op->kind <= TR__OP_POLL);
    tr__store_relaxed(&op->flags, 0u); /* one thread only */
    op->state = grow(direct) ? STATE_NEW : STATE_NO_MEMORY;
    append(direct, op);
}

void tr__direct_cancel(struct tr__direct *direct, struct tr__op *op)
{
    (void)direct;
    uint32_t flags = tr__fetch_or_relaxed(&op->flags, TR__OP_CANCEL_POSTED); /* one thread only */
    TR_ASSERT(flags == 0);
}

void tr__direct_wake(struct tr__direct *direct)
{
    uint64_t one = 1;

    tr__store_seq_cst(&direct->woken, 1u); /* invariant 5; pairs with sleep_until */
    uint32_t awaited = tr__load_seq_cst(&direct->awaited);
    if (awaited != 0) {
        /* EAGAIN: the counter is full, so it is readable already */
        (void)!write((int)(awaited - 1), &one, sizeof one);
    }
}

/* When the op is over by itself. */
static uint64_t deadline_of(const struct tr__op *op)
{
    return op->kind != TR__OP_TIMER && op->deadline_ns == 0 ? TR__FOREVER : op->deadline_ns;
}

/* What poll says at this moment: the one attempt of an op that no poll will come to (invariant 6)
 * needs it where there is no RWF_NOWAIT. */
static bool is_there(const struct tr__op *op)
{
    short events = op->kind == TR__OP_WRITE ? POLLOUT : POLLIN;
    struct pollfd one = {.fd = op->fd, .events = events, .revents = 0};

    return op->kind != TR__OP_POLL && poll(&one, 1, 0) == 1;
}

/* Whether the op has ended, and with what. */
static bool look(struct tr__op *op, uint64_t now_ns, int64_t *ret_result)
{
    uint32_t flags = tr__load_relaxed(&op->flags); /* one thread only */
    bool cancelled = (flags & TR__OP_CANCEL_POSTED) != 0;
    bool due = now_ns >= deadline_of(op);
    bool fresh = op->state == STATE_NEW;
    int64_t result = -EAGAIN;

    if (op->state == STATE_NO_MEMORY) {
        *ret_result = TR_ENOMEM;
        return true;
    }
    if (op->kind == TR__OP_TIMER) {
        *ret_result = cancelled ? TR_ECANCELED : 0;
        return cancelled || due;
    }
    bool try = fresh || op->state == STATE_READY || (due && op->kind != TR__OP_WRITE);
    if (cancelled) {
        try = !fresh && op->kind != TR__OP_WRITE; /* the last look, as the ring does it */
    }
    if (try) {
        bool ready = op->state == STATE_READY || (fresh && due && is_there(op));
        result = tr__op_attempt(op, ready);
    }
    op->state = STATE_POLLED;
    if (result == -EAGAIN && (cancelled || due)) {
        result = cancelled ? TR_ECANCELED : TR_ETIMEDOUT;
    }
    *ret_result = result;
    return result != -EAGAIN;
}

/* Ends every op that can end now. Returns how many; *ret_deadline_ns: when the next is due. */
static unsigned pass(struct tr__direct *direct, uint64_t *ret_deadline_ns)
{
    uint64_t now_ns = tr__clock_now();
    uint64_t deadline_ns = TR__FOREVER;
    struct tr__op *marker = direct->first;
    unsigned ended = 0;

    for (uint32_t left = direct->count; left > 0; left--) {
        struct tr__op *op = marker;
        int64_t result;
        if (!look(op, now_ns, &result)) {
            if (deadline_of(op) < deadline_ns) {
                deadline_ns = deadline_of(op);
            }
            marker = next_of(op);
            continue;
        }
        /* Only append and cancel happen inside done, so the neighbour before stays. */
        struct tr__op *before = op->previous;
        take_off(direct, op);
        op->result = result;
        ended += 1;
        op->done(op);
        marker = before == NULL ? direct->first : next_of(before);
    }
    *ret_deadline_ns = deadline_ns;
    return ended;
}

static void fill_polls(struct tr__direct *direct, int wake_fd)
{
    struct pollfd *place = direct->polls;

    *place = (struct pollfd){.fd = wake_fd, .events = POLLIN, .revents = 0};
    for (struct tr__op *op = direct->first; op != NULL; op = next_of(op)) {
        place += 1;
        TR_ASSERT(place < direct->polls + direct->polls_max);
        *place = (struct pollfd){.fd = op->fd, .events = (short)op->events, .revents = 0};
        if (op->kind == TR__OP_READ) {
            place->events = POLLIN;
        } else if (op->kind == TR__OP_WRITE) {
            place->events = POLLOUT;
        } else if (op->kind == TR__OP_TIMER) {
            place->fd = -1; /* ignored by poll */
        }
    }
}

static void mark_ready(struct tr__direct *direct)
{
    const struct pollfd *place = direct->polls;

    for (struct tr__op *op = direct->first; op != NULL; op = next_of(op)) {
        place += 1;
        if (place->revents != 0) {
            op->state = STATE_READY;
        }
    }
}

/* Sleeps until a descriptor is ready, a wake or the deadline; or for no reason. */
static void sleep_until(struct tr__direct *direct, uint64_t deadline_ns)
{
    int wake_fd = tr__direct_fd(direct);
    uint64_t left_ns;

    fill_polls(direct, wake_fd);
    /* seq_cst: invariant 5; pairs with tr__direct_wake */
    tr__store_seq_cst(&direct->awaited, wake_fd < 0 ? 0 : (uint32_t)wake_fd + 1);
    left_ns =
        tr__load_seq_cst(&direct->woken) != 0 ? 0 : tr__clock_left(tr__clock_now(), deadline_ns);
    if (wake_fd < 0 && left_ns > LOOK_NS) {
        left_ns = LOOK_NS;
    }
    struct timespec left = {0, 0};
    if (left_ns != TR__FOREVER) {
        left = tr__clock_timespec(left_ns);
    }
    int count =
        ppoll(direct->polls, direct->count + 1, left_ns == TR__FOREVER ? NULL : &left, NULL);
    tr__store_relaxed(&direct->awaited,
                      0u); /* publishes nothing: a late writer wakes for nothing */
    if (count <= 0) {
        return; /* the deadline, a signal handler, or no memory: the pass looks anew */
    }
    if (wake_fd >= 0 && direct->polls[0].revents != 0) {
        uint64_t value;
        (void)!read(wake_fd, &value, sizeof value); /* only to clear it; may be clear already */
    }
    mark_ready(direct);
}

int tr__direct_wait(struct tr__direct *direct, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t next_ns;
        /* acquire: pairs with tr__direct_wake, whose caller has something to show */
        bool woken = tr__exchange_acq_rel(&direct->woken, 0u) != 0;
        unsigned ended = pass(direct, &next_ns);
        if (ended > 0 || woken) {
            return 0;
        }
        if (tr__clock_now() >= deadline_ns) {
            return TR_ETIMEDOUT;
        }
        sleep_until(direct, next_ns < deadline_ns ? next_ns : deadline_ns);
    }
}
