/*
 * turn: sessions and turns: where tasks belong and where their resolutions go.
 *
 * Both live in slots and are written under their lane's lock, but for what is marked atomic. A
 * turn's slot stays while tasks still point to it (`tasks`), though its id is stale from its close;
 * a session's id stays valid until it is closed and nothing of it is left, so that its items can
 * still be taken.
 *
 * Turn accounts. `launched` counts the foreground tasks the turn was given (launch, attach),
 * `settled` the updates its consumer has taken that each end one of them (a foreground resolution,
 * a detach). A turn is idle exactly when both are equal: every foreground task pushes exactly one
 * of these updates, and the consumer has seen them all. So finishing a task touches no counter of
 * its turn.
 *
 * An attach raises `launched` only if it succeeds, and marks it ATTACHING while it tries: whoever
 * compares meanwhile waits for the answer (a few instructions away), so a failed attempt neither
 * hides that the turn is idle nor needs to be told about.
 *
 *   writer of launched: host, under the lane's lock        reader: the consumer
 *   writer of settled:  the consumer (token of `out`)       reader: the consumer, listings
 */
#ifndef TR__DOMAIN_TURN_H
#define TR__DOMAIN_TURN_H

#include <toolring/types.h>

#include "base/atomic.h"
#include "base/backoff.h"
#include "domain/roster.h"
#include "parts/inbox.h"
#include "parts/slots.h"

struct tr_queue;

#define TR__HOME_OPEN UINT64_C(1) /* state bit of a session's or turn's word */

struct tr__session {
    TR__CACHE_ALIGNED struct tr__slot slot;
    tr_session_id id;
    tr__atomic_u64 life;        /* its id too, for who pushed and may be a life late (settle.c) */
    tr__atomic_u8 lane;         /* written at opening, read before the lane is locked */
    tr__atomic_u32 closed;      /* no launches, no turns */
    tr__atomic_u32 discarded;   /* resolutions are taken by nobody */
    uint32_t turns;             /* turns whose slot is not gone, + 1 until closed, + takers */
    uint32_t takers;            /* threads that take from it: they have it pinned */
    struct tr__turn *first;     /* its turns, newest first */
    struct tr_queue *queue;     /* bound to it, or NULL */
    struct tr__inbox *loop_out; /* `loop`, or the queue's */
    struct tr__inbox *ready_out;
    struct tr__roster orphans; /* background tasks of closed turns */
    bool orphans_lost;         /* some orphans are in no roster: look at every task */
    char *label;
    void *user;
    uint64_t opened; /* order of opening, for finding the oldest of a label */
    struct tr__inbox loop;
    struct tr__inbox ready;
};

/* Calls kept for the thread that waits for the turn (engine/kept): the lane's lock, but for what is
 * marked atomic. */
struct tr__kept {
    tr__atomic_u32 count;        /* written under the lock, read by anyone as a hint */
    uint32_t typical_ns;         /* what those that came since the list was empty take, usually */
    bool seen;                   /* by the keeper, at its last look */
    struct tr__mpsc_node *first; /* oldest; these three while count is not 0 */
    struct tr__mpsc_node *last;
    struct tr__turn *next; /* in the lane's list of such turns */
    struct tr__turn **link;
};

struct tr__turn {
    TR__CACHE_ALIGNED struct tr__slot slot;
    tr_turn_id id; /* kept for the items of its tasks after its close */
    struct tr__session *session;
    struct tr__turn *next;  /* in its session */
    struct tr__turn **link; /* what points here in its session */
    tr__atomic_u8 lane;     /* written at opening, read before the lane is locked */
    bool bound;             /* its updates go to a queue */
    tr__atomic_u32 closed;  /* updates are discarded */
    uint32_t tasks;         /* tasks not reclaimed, + 1 until closed */
    struct tr_queue *queue; /* its updates go there, or NULL */
    struct tr__inbox *out;  /* `updates`, or the queue's */
    char *label;
    struct tr__roster foreground;
    struct tr__roster background;
    struct tr__kept kept;
    tr__atomic_u64 life; /* its id too, for who pushed and may be a life late (settle.c) */
    tr__atomic_u64 launched;
    tr__atomic_u64 settled;
    struct tr__inbox updates;
};

/* A bit of `launched`: an attach is under way, and holds the lane's lock. */
#define TR__TURN_ATTACHING (UINT64_C(1) << 63)

/* Consumer: whether every foreground task of the turn has been accounted for. */
static inline bool tr__turn_is_idle(const struct tr__turn *turn)
{
    unsigned spins = 0;
    /* acquire: pairs with the launcher's release: a launch seen here was published before. */
    uint64_t launched = tr__load_acquire(&turn->launched);
    while ((launched & TR__TURN_ATTACHING) != 0) {
        tr__backoff(&spins);
        launched = tr__load_acquire(&turn->launched); /* pairs with the attach's last store */
    }
    return launched == tr__load_relaxed(&turn->settled);
}

/* Consumer: one foreground task has ended or stepped aside. */
static inline void tr__turn_settle(struct tr__turn *turn)
{
    /* relaxed load and store: the consumer token gives one writer at a time. */
    tr__store_release(&turn->settled, tr__load_relaxed(&turn->settled) + 1);
}

#endif
