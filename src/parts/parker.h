/* Parker: one thread's place to sleep.
 *
 * Purpose: a thread with nothing to do sleeps in the kernel until somebody publishes work for it,
 * at the price of one load for every producer that finds it awake. Owner: one thread (prepare,
 * cancel, wait). Any thread notifies. Called by inbox, engine, host. The futex calls and the proof
 * that no wake-up is lost are in parker.c.
 *
 *     owner                                     producer
 *     tr__parker_prepare   word = PARKED        publish (seq_cst write)
 *     look again (seq_cst read)                 tr__parker_notify   reads word
 *       found something: tr__parker_cancel        PARKED: CAS to NOTIFIED, wake
 *       nothing:         tr__parker_wait          else:   nothing to do
 *
 * Invariants
 *  1. word: AWAKE -> PARKED by the owner; PARKED -> NOTIFIED by one notifier; any -> AWAKE by the
 *     owner. Outside prepare ... wait/cancel it is AWAKE.
 *  2. Between prepare and wait the owner looks, with a seq_cst read, at everything a producer can
 *     publish to it with a seq_cst write.
 *  3. A burst pays once: only the notifier whose CAS succeeds enters the kernel.
 *  4. After tr__parker_claim returned true the claimer owes exactly one tr__parker_wake, soon.
 *
 * A wake may be spurious for the owner (it finds nothing); it is never missing. tr__parker_wake
 * uses the word's address only as a key: the parker's memory may be reused by then, at the price of
 * one more spurious wake, but it must stay mapped.
 */
#ifndef TR__PARTS_PARKER_H
#define TR__PARTS_PARKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"

#ifdef __cplusplus
extern "C" {
#endif

enum tr__parker_word {
    TR__PARKER_AWAKE = 0,
    TR__PARKER_PARKED = 1,
    TR__PARKER_NOTIFIED = 2,
};

struct tr__parker {
    tr__atomic_u32 word; /* enum tr__parker_word; writers as in invariant 1 */
};

/* Owner: sleeps until notified or until the deadline (absolute, tr__clock_now; TR__FOREVER: none).
 * Only after tr__parker_prepare. Returns 0 when notified, TR_ETIMEDOUT when not; leaves AWAKE. */
int tr__parker_wait(struct tr__parker *parker, uint64_t deadline_ns);

/* The claimer's second half: enters the kernel and wakes the owner. */
void tr__parker_wake(struct tr__parker *parker);

static inline void tr__parker_init(struct tr__parker *parker)
{
    tr__store_relaxed(&parker->word, (uint32_t)TR__PARKER_AWAKE); /* private until handed out */
}

/* Owner: announces the intention to sleep; the caller looks again before tr__parker_wait. */
static inline void tr__parker_prepare(struct tr__parker *parker)
{
    /* seq_cst: must come before the owner's look in the order of all seq_cst operations; pairs with
     * the load in notify (proof in parker.c). */
    tr__store_seq_cst(&parker->word, (uint32_t)TR__PARKER_PARKED);
}

/* Owner: has found work after prepare. A notification that came meanwhile is swallowed: the owner
 * looks at everything again before it can sleep the next time. */
static inline void tr__parker_cancel(struct tr__parker *parker)
{
    tr__store_relaxed(&parker->word, (uint32_t)TR__PARKER_AWAKE); /* publishes nothing */
}

/* Any thread, after publishing: true when this caller must call tr__parker_wake. */
static inline bool tr__parker_claim(struct tr__parker *parker)
{
    /* seq_cst: comes after the caller's publication in the order of all seq_cst operations */
    uint32_t word = tr__load_seq_cst(&parker->word);
    if (word != TR__PARKER_PARKED) {
        return false;
    }
    /* seq_cst keeps it in the same order as the load; releases the publication to the owner's
     * acquire in wait. Failing means: woken by another or awake by itself, both after our load. */
    return tr__cas_seq_cst(&parker->word, &word, (uint32_t)TR__PARKER_NOTIFIED);
}

/* Any thread, after publishing. Returns whether this call woke the owner. */
static inline bool tr__parker_notify(struct tr__parker *parker)
{
    if (!tr__parker_claim(parker)) {
        return false;
    }
    tr__parker_wake(parker);
    return true;
}

#ifdef __cplusplus
}
#endif

#endif
