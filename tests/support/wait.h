/* Waiting and chance for tests.
 *
 * WAIT_UNTIL(cond, seconds) yields the processor until the condition holds; a bounded deadline
 * turns a lost wake-up into a failure with a place and a text. Nothing here sleeps.
 *
 * struct case_random is a small generator (xorshift64*), one per thread, all derived from one seed.
 * The seed is printed when first used; TR_TEST_SEED=<number> in the environment repeats a run.
 */
#ifndef TR__TESTS_SUPPORT_WAIT_H
#define TR__TESTS_SUPPORT_WAIT_H

#include <sched.h>
#include <stdint.h>

#include "case.h"

/* Monotonic seconds; for deadlines of tests only. */
double case_seconds(void);

#define WAIT_UNTIL(cond, seconds)                                                                  \
    do {                                                                                           \
        double case_deadline_ = case_seconds() + (double)(seconds);                                \
        while (!(cond)) {                                                                          \
            if (case_seconds() > case_deadline_) {                                                 \
                case_fail(__FILE__, __LINE__, "WAIT_UNTIL(%s) did not hold within %g s", #cond,    \
                          (double)(seconds));                                                      \
            }                                                                                      \
            (void)sched_yield();                                                                   \
        }                                                                                          \
    } while (0)

struct case_random {
    uint64_t state; /* never 0 */
};

/* The seed of this run; printed once per process. */
uint64_t case_random_seed(void);

/* Generator number `stream` (a thread, say) of this run. */
static inline void case_random_init(struct case_random *random, uint64_t stream)
{
    uint64_t mixed = case_random_seed() + (stream + 1) * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    mixed ^= mixed >> 31;
    random->state = mixed != 0 ? mixed : 1;
}

static inline uint64_t case_random_next(struct case_random *random)
{
    uint64_t x = random->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 to bound - 1; bound > 0. The bias is below 2^-32 for the bounds tests use. */
static inline uint64_t case_random_below(struct case_random *random, uint64_t bound)
{
    return case_random_next(random) % bound;
}

#endif
