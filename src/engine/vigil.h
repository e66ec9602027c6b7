/*
 * vigil: the clock of an inline manager, which has no thread to look at one.
 *
 * Every task with a time to watch (engine/deadline) is on a wheel, under one lock. Whoever is in
 * the library looks at it: a function that awaits, reports progress or has returned; every host
 * function that waits, takes, lists, launches or steers. Whoever sleeps, sleeps no longer than to
 * the next moment, and is told when an earlier one comes up. So times are kept as long as anybody
 * is in the library, and made up for by the next one who is.
 *
 * A task on the wheel has HOLD_TIMER. It is taken off by whoever looks (and put back, if it lives)
 * or by whoever ends it; who finds it off the wheel leaves it to the looker. No task: no cost.
 */
#ifndef TR__ENGINE_VIGIL_H
#define TR__ENGINE_VIGIL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "parts/parker.h"
#include "parts/wheel.h"

struct tr__deadline;
struct tr__engine;
struct tr__task;

/* One sleeper; on its stack. */
struct tr__vigil_wait {
    struct tr__parker *parker; /* the host thread's; or NULL: */
    struct tr__task *task;     /* its function awaits (tr__call_notify wakes it) */
    struct tr__vigil_wait *next;
    struct tr__vigil_wait **link;
};

struct tr__vigil {
    tr__atomic_u64 next_ns;       /* when to look; TR_FOREVER: never. Written under the lock */
    pthread_mutex_t lock;         /* guards what follows, and who is on the wheel */
    struct tr__vigil_wait *waits; /* sleepers */
    struct tr__wheel wheel;
};

/* NULL: no memory. */
struct tr__vigil *tr__vigil_make(void);
void tr__vigil_free(struct tr__vigil *vigil);

/* deadline.c's. The caller has HOLD_TIMER, which becomes the vigil's. */
void tr__vigil_arm(struct tr__engine *engine, struct tr__deadline *deadline);
/* Whoever ended the task, with a hold of its own: HOLD_TIMER is dropped, soon or now. */
void tr__vigil_disarm(struct tr__engine *engine, struct tr__deadline *deadline);
/* Its times have changed. The caller has a hold of its own. */
void tr__vigil_move(struct tr__engine *engine, struct tr__deadline *deadline);

/* Any thread without a lock: does what is due. */
void tr__vigil_look(struct tr__engine *engine);
/* Likewise, for one task that the caller has a hold of, whose word has HOLD_TIMER, to the
 * nanosecond. */
void tr__vigil_judge(struct tr__engine *engine, struct tr__deadline *deadline);

/* The owner of a prepared parker: sleeps until it is notified, until `deadline_ns`, or until it is
 * time to look; leaves it awake. */
void tr__vigil_sleep(struct tr__vigil *vigil, struct tr__parker *parker, uint64_t deadline_ns);

/* The thread of a function that awaits, before it sleeps: returns when it is time to look, and from
 * now on the task is notified of an earlier moment. And after it. */
uint64_t tr__vigil_enter(struct tr__vigil *vigil, struct tr__vigil_wait *wait);
void tr__vigil_leave(struct tr__vigil *vigil, struct tr__vigil_wait *wait);

static inline uint64_t tr__vigil_next(const struct tr__vigil *vigil)
{
    /* seq_cst: a gate's waiter looks after it has entered; pairs with the store in vigil.c */
    return tr__load_seq_cst(&vigil->next_ns);
}

#endif
