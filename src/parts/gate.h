/*
 * gate: where any number of threads wait for something that several others bring about.
 *
 * A parker has one owner; a gate has many waiters. Used where waiting is rare and unfair waking is
 * fine: room for a launch, a manager becoming idle. Opening costs one load while nobody waits.
 *
 * Use, waiter: epoch = tr__gate_enter(); look; if not yet, tr__gate_wait(epoch); look again …;
 *              tr__gate_leave().
 *      opener: bring it about, then tr__gate_open().
 *
 * No lost wake-up, provided that waiter's look and opener's act are read-modify-writes of one word,
 * both acquiring and releasing: that word's modification order then puts the act before the look
 * (the look sees it) or the look before the act, and then the waiter's enter happens before the
 * opener's load of `waiters`, which sees it.
 *
 * The low half of `waiters` counts threads; the high half is its owner's, for others whom it tells
 * by other means (domain/room).
 */
#ifndef TR__PARTS_GATE_H
#define TR__PARTS_GATE_H

#include <stdint.h>

#include "base/atomic.h"

#define TR__GATE_OTHER (UINT64_C(1) << 32)

struct tr__gate {
    TR__CACHE_ALIGNED tr__atomic_u64
        waiters;          /* threads between enter and leave; writers: waiters */
    tr__atomic_u32 epoch; /* writer: openers that saw a waiter */
};

void tr__gate_init(struct tr__gate *gate);
uint32_t tr__gate_enter(struct tr__gate *gate);
/* Sleeps while the epoch is `epoch`, at most until `deadline_ns`. Returns the epoch now; the caller
 * looks at the clock itself. */
uint32_t tr__gate_wait(struct tr__gate *gate, uint32_t epoch, uint64_t deadline_ns);
void tr__gate_leave(struct tr__gate *gate);
/* The slow half of opening. */
void tr__gate_wake(struct tr__gate *gate);

static inline void tr__gate_open(struct tr__gate *gate)
{
    /* seq_cst: see above; pairs with the fetch_add in tr__gate_enter. */
    if (tr__load_seq_cst(&gate->waiters) != 0) {
        tr__gate_wake(gate);
    }
}

#endif
