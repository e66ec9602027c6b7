/*
 * direct.h: performs the ops of op.h by poll(2) in the calling thread, for managers and calls
 * without a ring. Same results as the ring for the same ops.
 *
 * A struct tr__direct belongs to one thread; only tr__direct_wake is for others. Done hooks run
 * inside tr__direct_wait. Cost: each wait is linear in the ops under way, which are a handful.
 */
#ifndef TR__ENGINE_DIRECT_H
#define TR__ENGINE_DIRECT_H

#include <poll.h>
#include <stdint.h>

#include "base/atomic.h"
#include "engine/op.h"

/* Ops polled without a further allocation. */
#define TR__DIRECT_POLLS 8u

struct tr__direct {
    struct tr__op *first; /* ops under way, oldest first */
    struct tr__op *last;
    struct pollfd *polls;   /* `inline_polls`, or an allocation when that became too small */
    uint32_t polls_max;     /* room in `polls`, the eventfd's place included */
    uint32_t count;         /* ops under way */
    int event_fd;           /* -1: not made yet */
    tr__atomic_u32 awaited; /* eventfd + 1 while the owner may sleep on it, else 0; owner writes */
    tr__atomic_u32 woken;   /* 1: tr__direct_wake was called; wakers set, owner clears */
    struct pollfd inline_polls[TR__DIRECT_POLLS + 1];
};

/* Caller's memory, any state before. Returns 0: cannot fail at present. */
int tr__direct_init(struct tr__direct *direct);

/* Closes the eventfd. No op may be under way and nobody may be waking. */
void tr__direct_done(struct tr__direct *direct);

/* Starts an op; never fails (without memory for it, it is done with TR_ENOMEM) and runs nothing. */
void tr__direct_start(struct tr__direct *direct, struct tr__op *op);

/* At most once per start, not after `done`: the next wait ends the op, with TR_ECANCELED or, for
 * READ and POLL, with what is there to be had at that moment. */
void tr__direct_cancel(struct tr__direct *direct, struct tr__op *op);

/*
 * Runs the done hooks of all ops that have ended; if none has, sleeps until one does. Done hooks
 * may start and cancel ops. Returns 0 when at least one op was done, or tr__direct_wake was called
 * since the last wait; TR_ETIMEDOUT at deadline_ns (absolute; TR__FOREVER: none) without either.
 * When no eventfd can be made (no descriptors left) a wake is noticed within 10 ms.
 */
int tr__direct_wait(struct tr__direct *direct, uint64_t deadline_ns);

/* Any thread: ends the present wait, or the next one. */
void tr__direct_wake(struct tr__direct *direct);

/* The eventfd that tr__direct_wake writes to, made now if need be, or a negative errno. */
int tr__direct_fd(struct tr__direct *direct);

#endif
