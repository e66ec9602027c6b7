/* Model: what the model-checked programs share.
 *
 * Purpose: a program of this folder includes the very sources of src/parts, headers and .c, with
 * the atomics layer mapped to Relacy, and lets it run small scenarios through many interleavings
 * and through the old values the memory orders allow. Each scenario must hold as the sources are,
 * and must fail when one memory order in them is weakened: a check that cannot fail proves nothing.
 * Owner: one thread; Relacy's threads are fibers of it. Calls Relacy (the package relacy-dev).
 *
 *     holds<scenario>(what, random(schedules))     or within(switches)
 *     breaks<scenario>({function, from, to}, random(schedules))
 *
 * Invariants
 *  1. Include this before anything of src/: it chooses the mapping and includes base/atomic.h.
 *  2. Nothing in the sources is changed. An order is weakened where it is evaluated, by the name of
 *     the function it stands in: every operation of that function with the order `from`.
 *  3. A scenario switches threads only at atomic operations, locks and yields, each before its
 *     effect. So ghost state (plain fields the sources do not know) that is written directly after
 *     an operation changes together with it. Data that the orders must hand over is an rl::var:
 *     Relacy reports a race on it.
 *  4. Chance comes from the scheduler (rl::rand) alone: Relacy repeats a failed schedule to print
 *     it.
 *
 * What Relacy cannot show: values older than the last three of an atomic, and stores of two threads
 * to one atomic in an order other than the one executed.
 */
#ifndef TR_MODEL_MODEL_H
#define TR_MODEL_MODEL_H

#undef _FORTIFY_SOURCE /* its longjmp takes fibers for a damaged stack */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define TR_RELACY 1
#if !defined(TR_DEBUG)
#define TR_DEBUG 1
#endif

#include <relacy/relacy.hpp>

#undef new /* nothing here allocates while it is modelled */
#undef delete

#include "base/atomic.h"

/* Relacy places scenarios by malloc, which knows 16 bytes. */
#undef TR__CACHE_ALIGNED
#define TR__CACHE_ALIGNED

namespace model
{

/* One order to weaken, where it stands. */
struct order_break {
    const char *function;
    rl::memory_order from;
    rl::memory_order to;
};

inline order_break broken = {nullptr, rl::mo_relaxed, rl::mo_relaxed};
inline bool broken_reached; /* the order is where it is said to be */

inline rl::memory_order order_in(const char *function, rl::memory_order order)
{
    bool weaken = broken.function != nullptr && order == broken.from &&
                  strcmp(function, broken.function) == 0;
    broken_reached = broken_reached || weaken;
    return weaken ? broken.to : order;
}

/* How to look for a failure. */
struct search {
    rl::scheduler_type_e scheduler;
    rl::iteration_t schedules;
    unsigned switches;
};

/* So many schedules drawn by chance; the seeds are 1, 2, 3 ... */
inline search random(rl::iteration_t schedules)
{
    return {rl::sched_random, schedules, 0};
}

/* Every schedule with at most so many switches that no wait forces, and every old value in them. */
inline search within(unsigned switches)
{
    return {rl::sched_bound, 0, switches};
}

inline unsigned passed;
inline unsigned failed;

template <typename scenario> rl::test_params explore(const search &how, rl::ostringstream &log)
{
    std::ostream nowhere(nullptr);
    rl::test_params params;
    params.search_type = how.scheduler;
    params.iteration_count = how.schedules;
    params.context_bound = how.switches;
    params.output_stream = &log;
    params.progress_stream = &nowhere;
    (void)rl::simulate<scenario>(params);
    return params;
}

inline void count(bool good)
{
    (good ? passed : failed)++;
    printf("%s ", good ? "ok   " : "FAIL ");
}

/* The sources as they are: no schedule fails. Prints the one that does. */
template <typename scenario> void holds(const char *what, const search &how)
{
    rl::ostringstream log;
    rl::test_params result = explore<scenario>(how, log);
    bool good = result.test_result == rl::test_result_success;
    count(good);
    printf("%s: %s in %llu schedules, %s", what, rl::test_result_str(result.test_result),
           (unsigned long long)result.stop_iteration, rl::format(how.scheduler));
    printf(how.switches > 0 ? ", %u switches\n" : "\n", how.switches);
    if (!good) {
        printf("%s\n", log.str().c_str());
    }
    fflush(stdout);
}

/* The sources with one order weakened: some schedule fails, and for the reason it should. */
template <typename scenario> void breaks(const order_break &order, const search &how)
{
    rl::ostringstream log;
    broken = order;
    broken_reached = false;
    rl::test_params result = explore<scenario>(how, log);
    broken.function = nullptr;
    bool good = result.test_result == rl::test_result_data_race ||
                result.test_result == rl::test_result_deadlock ||
                result.test_result == rl::test_result_user_assert_failed;
    count(good);
    printf("broken: %s, %s for %s: %s in schedule %llu%s\n", order.function, rl::format(order.to),
           rl::format(order.from), rl::test_result_str(result.test_result),
           (unsigned long long)result.stop_iteration,
           broken_reached ? "" : " (that function has no such order)");
    fflush(stdout);
}

/* The last line, and the exit status. */
inline int finish()
{
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}

} // namespace model

/* Each operation of the atomics layer takes its order through here. */
#undef TR__ORDER
#define TR__ORDER(name) model::order_in(__func__, rl::mo_##name)

#endif
