/*
 * Tests of parts/fiber on one thread: life cycle, stacks and their guards, misuse, and what a
 * switch must preserve. The pool's bounds are in fiber_pool.c, threads in
 * tests/concurrency/fiber.c.
 */
#include <errno.h>
#include <fenv.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/limits.h"
#include "parts/fiber.h"
#include "support/case.h"

#if defined(TR__WITH_TSAN)
#define MANY_FIBERS 2000u /* ThreadSanitizer allows about 8000 threads and fibers */
#else
#define MANY_FIBERS 10000u
#endif

#define STACK_BYTES TR__FIBER_STACK_DEFAULT

static struct tr__fiber_pool pool;

static void prepare(unsigned fibers_max, size_t stack_bytes)
{
    CHECK_EQ_INT(tr__fiber_pool_init(&pool, fibers_max, stack_bytes), 0);
}

/* Runs `body` in a child with standard error closed; true if the child died by `signal`. */
static bool dies(void (*body)(void), int signal)
{
    pid_t child = fork();
    int status = 0;

    CHECK(child >= 0);
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)close(STDERR_FILENO);
        body();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
#if defined(TR__WITH_ASAN) || defined(TR__WITH_TSAN)
    /* The sanitizers catch the signal, report, and exit. */
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        return true;
    }
#endif
    return WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

/* What most fibers of these tests run: counts, suspending in between. */
struct counter {
    struct tr__fiber *fiber;
    unsigned rounds; /* suspensions before it returns */
    unsigned count;
    uint64_t sum; /* of values kept on the fiber's stack only */
};

static void count_rounds(void *argument)
{
    struct counter *counter = argument;
    uint64_t local = (uint64_t)(uintptr_t)counter;

    for (unsigned round = 0; round < counter->rounds; round++) {
        counter->count += 1;
        local = local * 31 + round;
        tr__fiber_suspend(counter->fiber);
    }
    counter->sum = local;
}

static uint64_t expected_sum(const struct counter *counter)
{
    uint64_t local = (uint64_t)(uintptr_t)counter;

    for (unsigned round = 0; round < counter->rounds; round++) {
        local = local * 31 + round;
    }
    return local;
}

static void set_flag(void *argument)
{
    *(bool *)argument = true;
}

CASE(fiber, returns_at_once_and_restarts)
{
    prepare(4, STACK_BYTES);
    struct tr__fiber *fiber = tr__fiber_take(&pool, NULL);
    CHECK(fiber != NULL);
    /* More often than ThreadSanitizer has fibers: each run's must have been let go. */
    for (unsigned run = 0; run < 10000; run++) {
        bool flag = false;
        tr__fiber_start(fiber, set_flag, &flag);
        CHECK(!flag);
        CHECK_EQ_INT(tr__fiber_resume(fiber), TR__FIBER_FINISHED);
        CHECK(flag);
    }
    CHECK_EQ_INT(tr__fiber_pool_used(&pool), 1);
    tr__fiber_give(&pool, NULL, fiber);
    CHECK_EQ_INT(tr__fiber_pool_used(&pool), 0);
    tr__fiber_pool_done(&pool);
}

CASE(fiber, suspends_and_goes_on)
{
    prepare(1, STACK_BYTES);
    struct counter counter = {.fiber = tr__fiber_take(&pool, NULL), .rounds = 1000};
    tr__fiber_start(counter.fiber, count_rounds, &counter);
    for (unsigned round = 0; round < counter.rounds; round++) {
        CHECK_EQ_INT(counter.count, round);
        CHECK_EQ_INT(tr__fiber_resume(counter.fiber), TR__FIBER_SUSPENDED);
    }
    CHECK_EQ_INT(tr__fiber_resume(counter.fiber), TR__FIBER_FINISHED);
    CHECK_EQ_U64(counter.sum, expected_sum(&counter));
    tr__fiber_give(&pool, NULL, counter.fiber);
    tr__fiber_pool_done(&pool);
}

CASE(fiber, many_interleaved)
{
    static struct counter counters[MANY_FIBERS];
    struct tr__fiber_cache cache = {0};
    unsigned finished = 0;

    prepare(MANY_FIBERS, STACK_BYTES);
    for (unsigned index = 0; index < MANY_FIBERS; index++) {
        counters[index].fiber = tr__fiber_take(&pool, &cache);
        counters[index].rounds = index % 13;
        CHECK(counters[index].fiber != NULL);
        tr__fiber_start(counters[index].fiber, count_rounds, &counters[index]);
    }
    CHECK(tr__fiber_take(&pool, &cache) == NULL);
    for (unsigned round = 0; round < 13; round++) {
        for (unsigned index = 0; index < MANY_FIBERS; index++) {
            struct counter *counter = &counters[index];
            if (round > counter->rounds) {
                continue;
            }
            enum tr__fiber_status status = tr__fiber_resume(counter->fiber);
            CHECK((status == TR__FIBER_FINISHED) == (round == counter->rounds));
            if (status == TR__FIBER_FINISHED) {
                CHECK(counter->sum == expected_sum(counter));
                tr__fiber_give(&pool, &cache, counter->fiber);
                finished += 1;
            }
        }
    }
    CHECK_EQ_INT(finished, MANY_FIBERS);
    CHECK(cache.count < 2 * TR__FIBER_BATCH);
    CHECK_EQ_INT(tr__fiber_pool_used(&pool), cache.count);
    tr__fiber_cache_flush(&pool, &cache);
    CHECK_EQ_INT(tr__fiber_pool_used(&pool), 0);
    CHECK_EQ_INT(pool.warm_count, MANY_FIBERS);
    tr__fiber_pool_done(&pool);
}

struct nest {
    struct tr__fiber *outer;
    struct counter inner;
    unsigned resumes;
};

static void drive_inner(void *argument)
{
    struct nest *nest = argument;

    tr__fiber_start(nest->inner.fiber, count_rounds, &nest->inner);
    while (tr__fiber_resume(nest->inner.fiber) == TR__FIBER_SUSPENDED) {
        nest->resumes += 1;
        tr__fiber_suspend(nest->outer);
    }
}

CASE(fiber, one_fiber_resumes_another)
{
    prepare(2, STACK_BYTES);
    struct nest nest = {.outer = tr__fiber_take(&pool, NULL), .inner = {.rounds = 50}};
    nest.inner.fiber = tr__fiber_take(&pool, NULL);
    tr__fiber_start(nest.outer, drive_inner, &nest);
    while (tr__fiber_resume(nest.outer) == TR__FIBER_SUSPENDED) {
        CHECK_EQ_INT(nest.inner.count, nest.resumes);
    }
    CHECK_EQ_INT(nest.resumes, 50);
    CHECK_EQ_U64(nest.inner.sum, expected_sum(&nest.inner));
    tr__fiber_give(&pool, NULL, nest.inner.fiber);
    tr__fiber_give(&pool, NULL, nest.outer);
    tr__fiber_pool_done(&pool);
}

/* ---- what a switch preserves ---- */

struct preserved {
    struct tr__fiber *fiber;
    int error;
    int rounding;
    double third;
    uintptr_t misalignment;
};

static __attribute__((noinline)) int errno_now(void)
{
    return errno;
}

static __attribute__((noinline)) void errno_become(int value)
{
    errno = value;
}

static void keep_errno_and_rounding(void *argument)
{
    struct preserved *preserved = argument;
    volatile double one = 1.0;
    volatile double three = 3.0;
    _Alignas(16) volatile char aligned[16] = {0};

    preserved->misalignment = ((uintptr_t)__builtin_frame_address(0) | (uintptr_t)aligned) % 16;
    errno_become(ENOTTY);
    CHECK(fesetround(FE_UPWARD) == 0);
    tr__fiber_suspend(preserved->fiber);
    preserved->error = errno_now();
    preserved->rounding = fegetround();
    preserved->third = one / three;
}

CASE(fiber, errno_rounding_and_alignment)
{
    volatile double one = 1.0;
    volatile double three = 3.0;
    double third = one / three;

    prepare(1, STACK_BYTES);
    struct preserved preserved = {.fiber = tr__fiber_take(&pool, NULL)};
    tr__fiber_start(preserved.fiber, keep_errno_and_rounding, &preserved);
    CHECK_EQ_INT(tr__fiber_resume(preserved.fiber), TR__FIBER_SUSPENDED);
    CHECK_EQ_INT(preserved.misalignment, 0);
    errno_become(EDOM);
#if defined(__x86_64__)
    CHECK_EQ_INT(fegetround(), FE_TONEAREST);
    CHECK(one / three == third);
#endif
    CHECK_EQ_INT(tr__fiber_resume(preserved.fiber), TR__FIBER_FINISHED);
    CHECK_EQ_INT(preserved.error, ENOTTY);
#if defined(__x86_64__)
    CHECK_EQ_INT(preserved.rounding, FE_UPWARD);
    CHECK(preserved.third > third);
    CHECK_EQ_INT(fegetround(), FE_TONEAREST);
#else
    (void)fesetround(FE_TONEAREST);
    (void)third;
#endif
    /* A new start takes the rounding of the starting thread, not what the last run left. */
    tr__fiber_start(preserved.fiber, keep_errno_and_rounding, &preserved);
    (void)tr__fiber_resume(preserved.fiber);
    (void)tr__fiber_resume(preserved.fiber);
    tr__fiber_give(&pool, NULL, preserved.fiber);
    tr__fiber_pool_done(&pool);
}

/* ---- stacks and guards ---- */

/* Fills nearly the whole stack, suspends, and finds it unchanged. */
static void use_deep_stack(void *argument)
{
    struct counter *counter = argument;
    volatile unsigned char block[STACK_BYTES - 16384 - 8192]; /* a guard may be 16 KiB */

    for (size_t index = 0; index < sizeof(block); index++) {
        block[index] = (unsigned char)(index * 7 + counter->count);
    }
    tr__fiber_suspend(counter->fiber);
    for (size_t index = 0; index < sizeof(block); index++) {
        counter->sum += block[index] != (unsigned char)(index * 7 + counter->count);
    }
}

CASE(fiber, deep_stacks_side_by_side)
{
    enum {
        COUNT = 20
    };
    struct counter counters[COUNT] = {0};

    prepare(COUNT, STACK_BYTES);
    for (unsigned run = 0; run < 3; run++) {
        for (unsigned index = 0; index < COUNT; index++) {
            counters[index] = (struct counter){.count = index + run};
            counters[index].fiber = tr__fiber_take(&pool, NULL);
            tr__fiber_start(counters[index].fiber, use_deep_stack, &counters[index]);
            CHECK_EQ_INT(tr__fiber_resume(counters[index].fiber), TR__FIBER_SUSPENDED);
        }
        for (unsigned index = 0; index < COUNT; index++) {
            CHECK_EQ_INT(tr__fiber_resume(counters[index].fiber), TR__FIBER_FINISHED);
            CHECK_EQ_U64(counters[index].sum, 0);
            tr__fiber_give(&pool, NULL, counters[index].fiber);
        }
    }
    tr__fiber_pool_done(&pool);
}

struct descent {
    char *lowest;
    uintptr_t frame;
};

/* Writes downwards from its own frame to `lowest`, that byte included. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static void descend(void *argument)
{
    struct descent *descent = argument;
    char *frame = __builtin_frame_address(0);

    descent->frame = (uintptr_t)frame;
    for (volatile char *byte = frame - 1024; byte >= descent->lowest; byte--) {
        *byte = 1;
    }
}

/* Runs `descend` on the middle one of three fibers, or on the only one. */
static void descend_by(ptrdiff_t past_the_end)
{
    unsigned index = pool.fibers_max / 2;
    struct tr__fiber *fibers[3];
    char *stack = pool.stacks + index * pool.stack_bytes;
    struct descent descent = {.lowest = stack + pool.page_bytes - past_the_end};

    for (unsigned taken = 0; taken < pool.fibers_max; taken++) {
        fibers[taken] = tr__fiber_take(&pool, NULL);
    }
    tr__fiber_start(fibers[index], descend, &descent);
    CHECK_EQ_INT(tr__fiber_resume(fibers[index]), TR__FIBER_FINISHED);
    CHECK((uintptr_t)stack + pool.stack_bytes - descent.frame < 1024);
    for (unsigned taken = 0; taken < pool.fibers_max; taken++) {
        tr__fiber_give(&pool, NULL, fibers[taken]);
    }
}

static void descend_to_the_last_byte(void)
{
    descend_by(0);
}

static void descend_one_byte_further(void)
{
    descend_by(1);
}

CASE(fiber, overflow_meets_the_guard)
{
    for (unsigned guard = 0; guard < 2; guard++) {
        prepare(3, STACK_BYTES);
        pool.guard = guard == 0 ? pool.guard : TR__FIBER_GUARD_PROTECT;
        CHECK(dies(descend_one_byte_further, SIGSEGV));
        descend_to_the_last_byte();
        tr__fiber_pool_done(&pool);
    }

    /* An emptied stack keeps its guard, also when neighbours are emptied by one call. */
    for (unsigned guard = 0; guard < 2; guard++) {
        struct tr__fiber_cache cache = {0};
        struct tr__fiber *fibers[3];
        prepare(3, STACK_BYTES);
        pool.guard = guard == 0 ? pool.guard : TR__FIBER_GUARD_PROTECT;
        for (unsigned round = 0; round < 2; round++) { /* the second puts them in order again */
            for (unsigned index = 0; index < 3; index++) {
                fibers[index] = tr__fiber_take(&pool, NULL);
            }
            tr__fiber_give(&pool, &cache, fibers[round == 0 ? 1 : 0]);
            tr__fiber_give(&pool, &cache, fibers[round == 0 ? 0 : 2]);
            tr__fiber_give(&pool, &cache, fibers[round == 0 ? 2 : 1]);
            tr__fiber_cache_flush(&pool, &cache);
            (void)tr__fiber_pool_trim(&pool, true);
            (void)tr__fiber_pool_trim(&pool, true);
        }
        CHECK_EQ_INT(pool.free_count, 3);
        CHECK_EQ_INT(pool.warm_count, 0);
        CHECK(dies(descend_one_byte_further, SIGSEGV));
        descend_to_the_last_byte();
        tr__fiber_pool_done(&pool);
    }
}

/* ---- misuse is caught ---- */

static void give_suspended(void)
{
    struct counter counter = {.fiber = tr__fiber_take(&pool, NULL), .rounds = 1};

    tr__fiber_start(counter.fiber, count_rounds, &counter);
    (void)tr__fiber_resume(counter.fiber);
    tr__fiber_give(&pool, NULL, counter.fiber);
}

static void give_twice(void)
{
    struct tr__fiber *fiber = tr__fiber_take(&pool, NULL);

    tr__fiber_give(&pool, NULL, fiber);
    tr__fiber_give(&pool, NULL, fiber);
}

static void resume_finished(void)
{
    bool flag = false;
    struct tr__fiber *fiber = tr__fiber_take(&pool, NULL);

    tr__fiber_start(fiber, set_flag, &flag);
    (void)tr__fiber_resume(fiber);
    (void)tr__fiber_resume(fiber);
}

static void suspend_outside(void)
{
    tr__fiber_suspend(tr__fiber_take(&pool, NULL));
}

static void suspend_other(void *argument)
{
    tr__fiber_suspend(argument);
}

static void resume_one_that_suspends_us(void *argument)
{
    struct tr__fiber *inner = tr__fiber_take(&pool, NULL);

    tr__fiber_start(inner, suspend_other, argument);
    (void)tr__fiber_resume(inner);
}

static void suspend_the_outer_from_the_inner(void)
{
    struct tr__fiber *outer = tr__fiber_take(&pool, NULL);

    tr__fiber_start(outer, resume_one_that_suspends_us, outer);
    (void)tr__fiber_resume(outer);
}

#if defined(TR__WITH_ASAN)
static volatile char *left_behind;

static void leave_an_address(void *argument)
{
    volatile char local = *(char *)argument;

    left_behind = &local;
    *left_behind = 1;
}

static void touch_a_free_stack(void)
{
    char byte = 0;
    struct tr__fiber *fiber = tr__fiber_take(&pool, NULL);

    tr__fiber_start(fiber, leave_an_address, &byte);
    (void)tr__fiber_resume(fiber);
    tr__fiber_give(&pool, NULL, fiber);
    *left_behind = 2;
}
#endif

static void done_while_in_use(void)
{
    (void)tr__fiber_take(&pool, NULL);
    tr__fiber_pool_done(&pool);
}

CASE(fiber, misuse_is_caught)
{
    prepare(4, STACK_BYTES);
    CHECK(dies(give_suspended, SIGABRT));
    CHECK(dies(give_twice, SIGABRT));
    CHECK(dies(resume_finished, SIGABRT));
    CHECK(dies(suspend_outside, SIGABRT));
    CHECK(dies(suspend_the_outer_from_the_inner, SIGABRT));
    CHECK(dies(done_while_in_use, SIGABRT));
#if defined(TR__WITH_ASAN)
    CHECK(dies(touch_a_free_stack, SIGABRT));
#endif
    tr__fiber_pool_done(&pool);
}
