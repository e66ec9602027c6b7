/*
 * backoff: waiting for another thread that is between two adjacent steps.
 *
 * For waits that end within nanoseconds unless the other thread was preempted: spin a little, then
 * give the processor away. Never for waits on work; those park (parts/parker).
 */
#ifndef TR__BASE_BACKOFF_H
#define TR__BASE_BACKOFF_H

#include <sched.h>

#include "base/atomic.h"

/* Spins before the first yield: about a microsecond, several times the two steps waited for. */
#define TR__BACKOFF_SPINS 64u

static inline void tr__backoff(unsigned *spins)
{
    if (*spins < TR__BACKOFF_SPINS) {
        *spins += 1;
        tr__cpu_relax();
    } else {
        (void)sched_yield(); /* cannot fail on Linux */
    }
}

#endif
