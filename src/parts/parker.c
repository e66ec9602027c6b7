/* Parker: the futex calls, and the proof. See parker.h for the protocol.
 *
 * Owner: each parker one thread. Called by inbox, engine, host; calls futex(2).
 *
 * No wake-up is lost
 *   Producer: P1 publish (seq_cst write x), P2 load word (seq_cst), P3 CAS PARKED->NOTIFIED, wake.
 *   Owner:    O1 store PARKED (seq_cst),    O2 look (seq_cst read x), O3 wait while word == PARKED.
 *   S is the single order of all seq_cst operations. Claim: an owner that sleeps is woken, or has
 *   seen x before.
 *    a. O1 before P2 in S. Then P2 reads PARKED or something later. PARKED: P3 makes it NOTIFIED
 *       and wakes; FUTEX_WAIT compares the word under the kernel's bucket lock, so either it finds
 *       NOTIFIED and does not sleep, or it sleeps before the wake, which finds it. NOTIFIED:
 *       another producer is at its P3 and wakes. AWAKE: the owner has got up since O1; see c.
 *       P3 failing: the word was NOTIFIED or AWAKE by then, as before.
 *    b. P2 before O1 in S. Then P1 before P2 before O1 before O2 in S: O2 sees x.
 *    c. The owner got up without having seen x. Before it sleeps again it does a new O1' and O2'.
 *       P2 read a value that O1' overwrote, so P2 is before O1' in S, and b holds with O1', O2'.
 *   With release/acquire in place of seq_cst, P1-P2 and O1-O2 may each be reordered (a store
 *   overtaken by a later load) and both sides may miss each other: that is the lost wake-up.
 *
 * Invariants
 *  1. Only PARKED is slept on; the kernel checks it, so a stale wake or a signal only costs a loop.
 *  2. wait leaves AWAKE, and says "notified" whenever some producer's CAS has succeeded: a time-out
 *     takes the word by exchange, so the two cannot both be reported.
 *
 * Complexity: notify without sleeper 1 load (1 ns), prepare + cancel 6 ns; a wake costs the waker
 * about 6 us and the sleeper 12 to 20 us on a virtual machine. Rejected: condition variables (a
 * lock on both sides), an eventfd each (a descriptor and a write per wake; offered on demand
 * elsewhere).
 */
#include "parts/parker.h"

#include <toolring/error.h>

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"

/* The two primitives; a model checker brings its own. */
#if !defined(TR_RELACY)

TR_STATIC(sizeof(tr__atomic_u32) == sizeof(uint32_t), "the kernel reads the word as it is");

/* Sleeps while *word == expected. Returns 0 or -errno; 0 may be spurious. */
static int futex_wait(tr__atomic_u32 *word, uint32_t expected, uint64_t deadline_ns)
{
    struct timespec deadline;
    struct timespec *timeout = NULL;
    if (deadline_ns != TR__FOREVER) {
        deadline = tr__clock_timespec(deadline_ns);
        timeout = &deadline;
    }
    /* WAIT_BITSET takes an absolute CLOCK_MONOTONIC time; plain WAIT a relative one. */
    long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                          timeout, NULL, FUTEX_BITSET_MATCH_ANY);
    return result == 0 ? 0 : -errno;
}

static void futex_wake_one(tr__atomic_u32 *word)
{
    /* Cannot fail: the address is aligned and is a key only, it is not dereferenced. */
    (void)syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
}

#endif

int tr__parker_wait(struct tr__parker *parker, uint64_t deadline_ns)
{
    /* acquire: pairs with the CAS in claim, the notifier's publication is visible from here on */
    uint32_t word = tr__load_acquire(&parker->word);
    TR_ASSERT(word != TR__PARKER_AWAKE); /* prepare came before */
    while (word == TR__PARKER_PARKED) {
        int error = futex_wait(&parker->word, TR__PARKER_PARKED, deadline_ns);
        TR_ASSERT(error == 0 || error == -EAGAIN || error == -EINTR || error == -ETIMEDOUT);
        if (error == -ETIMEDOUT) {
            /* acq_rel: as above when a notifier was faster; nothing to publish otherwise */
            word = tr__exchange_acq_rel(&parker->word, (uint32_t)TR__PARKER_AWAKE);
            return word == TR__PARKER_NOTIFIED ? 0 : TR_ETIMEDOUT;
        }
        word = tr__load_acquire(&parker->word); /* as above */
    }
    TR_ASSERT(word == TR__PARKER_NOTIFIED);
    tr__store_relaxed(&parker->word, (uint32_t)TR__PARKER_AWAKE); /* publishes nothing */
    return 0;
}

void tr__parker_wake(struct tr__parker *parker)
{
    futex_wake_one(&parker->word);
}
