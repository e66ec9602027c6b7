/*
 * gate.c: see gate.h.
 *
 * Owner: any thread. Called by domain, engine and host; calls futex(2).
 *
 * Invariants
 *  1. A waiter is counted in `waiters` from before its first look to after its last.
 *  2. `epoch` changes at least once between any opening that saw a waiter and that waiter's next
 *     sleep.
 *
 * Complexity: opening wakes every waiter; meant for few of them.
 */
#include "parts/gate.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"

void tr__gate_init(struct tr__gate *gate)
{
    tr__store_relaxed(&gate->waiters, UINT64_C(0)); /* nobody knows the gate yet */
    tr__store_relaxed(&gate->epoch, 0u);
}

uint32_t tr__gate_enter(struct tr__gate *gate)
{
    (void)tr__fetch_add_seq_cst(&gate->waiters,
                                UINT64_C(1)); /* pairs with the load in tr__gate_open */
    return tr__load_acquire(&gate->epoch);    /* pairs with tr__gate_wake */
}

uint32_t tr__gate_wait(struct tr__gate *gate, uint32_t epoch, uint64_t deadline_ns)
{
    struct timespec until = {(time_t)(deadline_ns / 1000000000u),
                             (long)(deadline_ns % 1000000000u)};
    const struct timespec *limit = deadline_ns == TR__FOREVER ? NULL : &until;
    /* EAGAIN, EINTR and ETIMEDOUT all mean: look again. */
    (void)syscall(SYS_futex, &gate->epoch, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, epoch, limit,
                  NULL, FUTEX_BITSET_MATCH_ANY);
    return tr__load_acquire(&gate->epoch); /* pairs with tr__gate_wake */
}

void tr__gate_leave(struct tr__gate *gate)
{
    uint64_t before = tr__fetch_sub_acq_rel(&gate->waiters, UINT64_C(1)); /* only a count */
    TR_ASSERT((uint32_t)before > 0);
}

void tr__gate_wake(struct tr__gate *gate)
{
    (void)tr__fetch_add_acq_rel(&gate->epoch, 1u); /* pairs with the loads of waiters */
    (void)syscall(SYS_futex, &gate->epoch, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
}
