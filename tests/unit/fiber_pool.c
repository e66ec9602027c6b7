/*
 * Tests of the pool in parts/fiber: exhaustion, errors, the shrinking of a pool whose guards run
 * out, and which stack pages stay resident.
 */
#include <sys/mman.h>
#include <sys/syscall.h>

#include <toolring/error.h>

#include "base/atomic.h"
#include "base/limits.h"
#include "base/memory.h"
#include "parts/fiber.h"
#include "support/case.h"
#include "support/refuse.h"
#include "support/wait.h"

#define STACK_BYTES TR__FIBER_STACK_DEFAULT
#define MADV_GUARD 102 /* MADV_GUARD_INSTALL, Linux 6.13 */

static struct tr__fiber_pool pool;

static void prepare(unsigned fibers_max, size_t stack_bytes)
{
    CHECK_EQ_INT(tr__fiber_pool_init(&pool, fibers_max, stack_bytes), 0);
}

static void wait_once(void *argument)
{
    tr__fiber_suspend(argument);
}

/* Uses six pages of stack or more. */
static void touch_pages(void *argument)
{
    volatile char block[6 * 4096];

    for (size_t index = 0; index < sizeof(block); index += 512) {
        block[index] = 1;
    }
    tr__fiber_suspend(argument);
}

static unsigned resident_pages(const struct tr__fiber_pool *of, unsigned index)
{
    unsigned char pages[64];
    size_t usable_bytes = of->stack_bytes - of->page_bytes;
    unsigned resident = 0;

    CHECK(usable_bytes / of->page_bytes <= sizeof(pages));
    CHECK(mincore(of->stacks + index * of->stack_bytes + of->page_bytes, usable_bytes, pages) == 0);
    for (size_t page = 0; page < usable_bytes / of->page_bytes; page++) {
        resident += pages[page] & 1u;
    }
    return resident;
}

static unsigned warm_stacks(void)
{
    unsigned warm = 0;
    for (unsigned index = 0; index < pool.created; index++) {
        warm += resident_pages(&pool, index) != 0;
    }
    return warm;
}

/* Takes fibers and has each touch its stack. */
static void take_all(struct tr__fiber **fibers, unsigned count)
{
    for (unsigned index = 0; index < count; index++) {
        fibers[index] = tr__fiber_take(&pool, NULL);
        CHECK(fibers[index] != NULL);
        tr__fiber_start(fibers[index], touch_pages, fibers[index]);
        CHECK_EQ_INT(tr__fiber_resume(fibers[index]), TR__FIBER_SUSPENDED);
    }
}

static void give(struct tr__fiber *fiber)
{
    CHECK_EQ_INT(tr__fiber_resume(fiber), TR__FIBER_FINISHED);
    tr__fiber_give(&pool, NULL, fiber);
}

static void give_all(struct tr__fiber **fibers, unsigned count)
{
    for (unsigned index = 0; index < count; index++) {
        give(fibers[index]);
    }
}

CASE(fiber_pool, stacks_that_have_rested_are_emptied)
{
    enum {
        COUNT = 10
    };
    struct tr__fiber *fibers[COUNT];

    prepare(COUNT, STACK_BYTES);
    CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_OVER);
    for (unsigned run = 0; run < 3; run++) {
        take_all(fibers, COUNT);
        CHECK(tr__fiber_take(&pool, NULL) == NULL);
        give_all(fibers, COUNT);
        CHECK_EQ_INT(tr__fiber_pool_trim(&pool, false), TR__FIBER_TRIM_LATER);
        CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true),
                     TR__FIBER_TRIM_LATER); /* perhaps just given */
        CHECK_EQ_INT(tr__fiber_pool_trim(&pool, false), TR__FIBER_TRIM_LATER);
        CHECK_EQ_INT(warm_stacks(), COUNT);
        CHECK_EQ_INT(pool.warm_count, COUNT);
        CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_OVER);
        CHECK_EQ_INT(warm_stacks(), 0);
        CHECK_EQ_INT(pool.warm_count, 0);
        CHECK_EQ_INT(pool.free_count, COUNT);
        CHECK_EQ_INT(tr__fiber_pool_used(&pool), 0);
    }
    tr__fiber_pool_done(&pool);
}

CASE(fiber_pool, a_steady_load_keeps_the_stacks_it_needs)
{
    enum {
        PEAK = 10,
        STEADY = 3
    };
    struct tr__fiber *fibers[PEAK];

    prepare(PEAK, STACK_BYTES);
    take_all(fibers, PEAK);
    give_all(fibers, PEAK);
    for (unsigned period = 0; period < 4; period++) {
        take_all(fibers, STEADY);
        CHECK_EQ_INT(pool.created, PEAK); /* warm ones, not fresh ones */
        CHECK_EQ_INT(warm_stacks(), period < 2 ? PEAK : STEADY);
        give_all(fibers, STEADY);
        CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_LATER);
    }
    CHECK_EQ_INT(pool.warm_count, STEADY);
    CHECK_EQ_INT(pool.free_count, PEAK);
    take_all(fibers, PEAK);
    CHECK_EQ_INT(warm_stacks(), PEAK);
    give_all(fibers, PEAK);
    tr__fiber_pool_done(&pool);
}

CASE(fiber_pool, a_trim_is_bounded)
{
    enum {
        COUNT = 2 * TR__FIBER_TRIM_MAX + 40
    };
    static struct tr__fiber *fibers[COUNT];
    struct case_random chance;
    unsigned left = COUNT;

    prepare(COUNT, TR__FIBER_STACK_MIN);
    /* All in disorder: neighbours find each other. */
    case_random_init(&chance, 1);
    for (unsigned index = 0; index < COUNT; index++) {
        fibers[index] = tr__fiber_take(&pool, NULL);
        tr__fiber_start(fibers[index], wait_once, fibers[index]);
        CHECK_EQ_INT(tr__fiber_resume(fibers[index]), TR__FIBER_SUSPENDED);
    }
    for (; left > 0; left--) {
        unsigned index = (unsigned)case_random_below(&chance, left);
        give(fibers[index]);
        fibers[index] = fibers[left - 1];
    }
    CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_LATER);
    CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_MORE);
    CHECK_EQ_INT(pool.warm_count, COUNT - TR__FIBER_TRIM_MAX);
    CHECK_EQ_INT(warm_stacks(), COUNT - TR__FIBER_TRIM_MAX);
    CHECK_EQ_INT(tr__fiber_pool_trim(&pool, false), TR__FIBER_TRIM_MORE);
    CHECK_EQ_INT(tr__fiber_pool_trim(&pool, false), TR__FIBER_TRIM_OVER);
    CHECK_EQ_INT(warm_stacks(), 0);

    /* Every other one in use: each neighbourhood costs a call, and those are bounded too. */
    for (unsigned index = 0; index < COUNT; index++) {
        fibers[index] = tr__fiber_take(&pool, NULL);
        CHECK(fibers[index] != NULL);
        tr__fiber_start(fibers[index], wait_once, fibers[index]);
        CHECK_EQ_INT(tr__fiber_resume(fibers[index]), TR__FIBER_SUSPENDED);
    }
    CHECK(tr__fiber_take(&pool, NULL) == NULL);
    CHECK_EQ_INT(warm_stacks(), COUNT);
    for (unsigned index = 0; index < COUNT; index += 2) {
        give(fibers[index]);
    }
    CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_LATER);
    CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_MORE);
    CHECK(warm_stacks() > COUNT / 2);
    while (tr__fiber_pool_trim(&pool, false) == TR__FIBER_TRIM_MORE) {
    }
    CHECK_EQ_INT(warm_stacks(), COUNT / 2); /* those in use were left alone */
    for (unsigned index = 1; index < COUNT; index += 2) {
        give(fibers[index]);
    }
    CHECK_EQ_INT(tr__fiber_pool_used(&pool), 0);
    tr__fiber_pool_done(&pool);
}

static unsigned calls;

static void note_call(void *context)
{
    CHECK(context == &calls);
    calls += 1;
}

CASE(fiber_pool, somebody_is_bound_to_trim_while_there_is_need)
{
    struct tr__fiber_cache cache = {0};
    struct tr__fiber *fibers[2];

    calls = 0;
    prepare(2, STACK_BYTES);
    tr__fiber_pool_watch(&pool, note_call, &calls);
    for (unsigned run = 1; run <= 3; run++) {
        take_all(fibers, 2);
        CHECK_EQ_INT(tr__fiber_resume(fibers[0]), TR__FIBER_FINISHED);
        tr__fiber_give(&pool, &cache, fibers[0]);
        CHECK_EQ_INT(calls, run - 1); /* a cache is its thread's business */
        tr__fiber_cache_flush(&pool, &cache);
        CHECK_EQ_INT(calls, run);
        give(fibers[1]);
        CHECK_EQ_INT(calls, run); /* once */
        CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_LATER);
        take_all(fibers, 2);
        give_all(fibers, 2);
        CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_LATER);
        CHECK_EQ_INT(calls, run); /* LATER: still bound */
        CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_OVER);
    }
    /* All in use at the end of a period: nothing to come back for. */
    take_all(fibers, 2);
    give_all(fibers, 2);
    take_all(fibers, 2);
    CHECK_EQ_INT(tr__fiber_pool_trim(&pool, true), TR__FIBER_TRIM_OVER);
    give_all(fibers, 2);
    CHECK_EQ_INT(calls, 5);
    tr__fiber_pool_done(&pool);
}

CASE(fiber_pool, a_waiting_fiber_holds_one_page)
{
    enum {
        COUNT = 50
    };
    struct tr__fiber *fibers[COUNT];
    unsigned resident = 0;

    prepare(COUNT, STACK_BYTES);
    for (unsigned index = 0; index < COUNT; index++) {
        fibers[index] = tr__fiber_take(&pool, NULL);
        tr__fiber_start(fibers[index], wait_once, fibers[index]);
        (void)tr__fiber_resume(fibers[index]);
    }
    for (unsigned index = 0; index < COUNT; index++) {
        resident += resident_pages(&pool, index);
    }
#if !defined(TR__WITH_ASAN) && !defined(TR__WITH_TSAN) /* their frames are larger */
    CHECK_EQ_INT(resident, COUNT);
#endif
    CHECK(resident >= COUNT);
    for (unsigned index = 0; index < COUNT; index++) {
        CHECK_EQ_INT(tr__fiber_resume(fibers[index]), TR__FIBER_FINISHED);
        tr__fiber_give(&pool, NULL, fibers[index]);
    }
    tr__fiber_pool_done(&pool);
}

CASE(fiber_pool, exhaustion_and_recovery)
{
    enum {
        COUNT = 21
    };
    struct tr__fiber *fibers[COUNT];
    struct tr__fiber_cache cache = {0};

    prepare(COUNT, STACK_BYTES);
    for (unsigned run = 0; run < 5; run++) {
        for (unsigned index = 0; index < COUNT; index++) {
            fibers[index] = tr__fiber_take(&pool, &cache);
            CHECK(fibers[index] != NULL);
            for (unsigned other = 0; other < index; other++) {
                CHECK(fibers[index] != fibers[other]);
            }
        }
        CHECK(tr__fiber_take(&pool, &cache) == NULL);
        CHECK(tr__fiber_take(&pool, NULL) == NULL);
        CHECK_EQ_INT(tr__fiber_pool_used(&pool), COUNT);
        tr__fiber_give(&pool, &cache, fibers[7]);
        struct tr__fiber *again = tr__fiber_take(&pool, &cache);
        CHECK(again == fibers[7]);
        for (unsigned index = 0; index < COUNT; index++) {
            tr__fiber_give(&pool, &cache, fibers[index]);
            CHECK(cache.count < 2 * TR__FIBER_BATCH);
        }
    }
    tr__fiber_cache_flush(&pool, &cache);
    tr__fiber_cache_flush(&pool, &cache);
    CHECK_EQ_INT(cache.count, 0);
    CHECK_EQ_INT(tr__fiber_pool_used(&pool), 0);
    tr__fiber_pool_done(&pool);
}

CASE(fiber_pool, bad_sizes_and_no_memory)
{
    CHECK_EQ_INT(tr__fiber_pool_init(&pool, 0, STACK_BYTES), TR_EINVAL);
    CHECK_EQ_INT(tr__fiber_pool_init(&pool, 1, SIZE_MAX), TR_EINVAL);
    CHECK_EQ_INT(tr__fiber_pool_init(&pool, UINT32_MAX, SIZE_MAX / UINT32_MAX), TR_EINVAL);
    for (long request = 1; request <= 2; request++) {
        tr__memory_fail_after(request);
        CHECK_EQ_INT(tr__fiber_pool_init(&pool, 8, STACK_BYTES), TR_ENOMEM);
    }
    tr__memory_fail_after(-1);
    prepare(1, 1);
    size_t least = TR__FIBER_STACK_MIN; /* or a page and its guard, where pages are large */
    least = least > 2 * pool.page_bytes ? least : 2 * pool.page_bytes;
    CHECK_EQ_INT(pool.stack_bytes, least);
    tr__fiber_pool_done(&pool);
    prepare(1, least + 1);
    CHECK_EQ_INT(pool.stack_bytes, least + pool.page_bytes);
    tr__fiber_pool_done(&pool);
}

CASE(fiber_pool, a_guard_that_is_none_is_not_relied_on)
{
    static const struct refusal pretence = {SYS_madvise, 2, MADV_GUARD, false};
    struct tr__fiber *fibers[3];

    if (!refuse_calls(&pretence, 1, 0)) { /* as emulators do: they say yes and do nothing */
        SKIP("seccomp filters are not available");
    }
    prepare(3, STACK_BYTES);
    CHECK_EQ_INT(pool.guard, TR__FIBER_GUARD_PROTECT);
    take_all(fibers, 3);
    for (unsigned index = 0; index < 3; index++) {
        char *stack = pool.stacks + index * pool.stack_bytes;
        CHECK(!tr__memory_is_readable(stack));
        CHECK(tr__memory_is_readable(stack + pool.page_bytes));
    }
    give_all(fibers, 3);
    tr__fiber_pool_done(&pool);
}

CASE(fiber_pool, protected_guards_shrink_the_pool)
{
    enum {
        ASKED = TR__FIBER_PROTECT_MAX + 10
    };
    static struct tr__fiber *fibers[ASKED];
    struct tr__fiber_cache cache = {0};
    unsigned count = 0;

    prepare(ASKED, TR__FIBER_STACK_MIN);
    pool.guard = TR__FIBER_GUARD_PROTECT;
    while (count < ASKED && (fibers[count] = tr__fiber_take(&pool, &cache)) != NULL) {
        count += 1;
    }
    CHECK(count > 100);
    CHECK(count <= TR__FIBER_PROTECT_MAX);
    CHECK_EQ_INT(pool.limit, count);
    for (unsigned index = 0; index < count; index++) {
        tr__fiber_give(&pool, &cache, fibers[index]);
    }
    for (unsigned index = 0; index < count; index++) {
        CHECK(tr__fiber_take(&pool, &cache) != NULL);
    }
    CHECK(tr__fiber_take(&pool, &cache) == NULL);
    for (unsigned index = 0; index < count; index++) {
        tr__fiber_give(&pool, &cache, fibers[index]);
    }
    tr__fiber_cache_flush(&pool, &cache);
    tr__fiber_pool_done(&pool);
}
