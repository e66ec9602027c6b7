/*
 * inbox: an MPSC queue with a way to sleep on it: mpsc + consumer token + parker + an optional
 * eventfd.
 *
 * Turns, sessions and drain queues each have one as their channel: producers are whoever ends
 * tasks, the consumer is whichever host thread holds the token. Each inbox has a park word of its
 * own, so a waiter is woken by its own channel and by nothing else.
 *
 * Invariants
 *  1. Producer: publish the node (seq_cst exchange), then look at `parker` and `armed` (seq_cst
 *     loads). Consumer: set `parker` or `armed` (seq_cst), then look at the queue again. In the
 *     single total order one of the two comes second and sees the other: no wake-up is lost.
 *  2. The first producer that finds the consumer parked pays for the wake; the others see NOTIFIED.
 *     Likewise `armed`: one exchange to 0 decides who writes to the eventfd.
 *  3. Only the token's holder pops, parks and re-arms.
 *  4. pop's BUSY (a producer between its two steps) is retried, never taken for empty.
 *
 * Cost: push is one exchange and two loads of a line that is written only around sleeping.
 */
#ifndef TR__PARTS_INBOX_H
#define TR__PARTS_INBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "parts/mpsc.h"
#include "parts/parker.h"

struct tr__inbox {
    struct tr__mpsc queue;
    TR__CACHE_ALIGNED struct tr__parker
        parker; /* written by the consumer around sleeping, and its waker */
    tr__atomic_u32
        armed; /* 1: the eventfd must be written at the next push; consumer sets, producer clears */
    tr__atomic_u32 events; /* the eventfd + 1, 0 if there is none; written once by the consumer */
    tr__atomic_u32 firing; /* producers that may be writing to it now */
    struct tr__token token;
};

/* Caller's memory, any state before; all zero is not enough. */
void tr__inbox_init(struct tr__inbox *inbox);

/* As init, but leaves the token alone: for type-stable memory whose users before may just be
 * finding out, token in hand, that it is not theirs any more. The token was made by init, or is all
 * zero. */
void tr__inbox_reuse(struct tr__inbox *inbox);

/* Closes the eventfd, if any. Nobody may use the inbox any more, but the producers of nodes that
 * were popped may still be on their way out of tr__inbox_push: so its memory must stay until they
 * are gone, and may be used again as it is, without init. */
void tr__inbox_done(struct tr__inbox *inbox);

/* The slow half of a push: somebody sleeps or an eventfd is armed. */
void tr__inbox_wake(struct tr__inbox *inbox);

/* Any thread. The node belongs to the consumer at once: the caller must not touch it, nor whatever
 * holds it, afterwards. The inbox must outlive the call. */
static inline void tr__inbox_push(struct tr__inbox *inbox, struct tr__mpsc_node *node)
{
    tr__mpsc_push(&inbox->queue, node);
    /* seq_cst: the second half of invariant 1; pairs with tr__parker_prepare and tr__inbox_arm. */
    if (tr__load_seq_cst(&inbox->parker.word) != 0 || tr__load_seq_cst(&inbox->armed) != 0) {
        tr__inbox_wake(inbox);
    }
}

/* Token holder. The next node, or NULL when the queue is empty; waits out a producer between its
 * two steps (yielding after a bounded spin). */
struct tr__mpsc_node *tr__inbox_pop(struct tr__inbox *inbox);

/* Token holder. Sleeps until something is pushed, tr__inbox_interrupt is called, or `deadline_ns`
 * has passed. Returns 0 or TR_ETIMEDOUT; may return 0 for nothing. */
int tr__inbox_wait(struct tr__inbox *inbox, uint64_t deadline_ns);

/* Token holder, for waits with further conditions: prepare, look at queue and conditions, then
 * tr__parker_wait or tr__parker_cancel on `inbox->parker`. Any thread: makes a sleeping holder look
 * again. */
void tr__inbox_interrupt(struct tr__inbox *inbox);

/* Token holder. Makes (once) and returns the eventfd, armed; negative errno on failure. */
int tr__inbox_fd(struct tr__inbox *inbox);

/* Token holder, after a take that left the queue empty: clears the eventfd and arms it again; if
 * something came in between the eventfd is readable. No-op without an eventfd. */
void tr__inbox_rearm(struct tr__inbox *inbox);

#endif
