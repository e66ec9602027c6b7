/*
 * Tests of parts/fiber across threads: every suspension continues on another thread, and caches of
 * several threads share one small pool.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/atomic.h"
#include "parts/fiber.h"
#include "support/case.h"
#include "support/wait.h"

#define THREADS 4u

#if defined(TR__WITH_TSAN)
#define FIBERS 200u
#define SUSPENSIONS 40u
#define TAKES 2000u
#else
#define FIBERS 1000u
#define SUSPENSIONS 100u
#define TAKES 50000u
#endif

static struct tr__fiber_pool pool;

/* ---- migration: thread n hands what it ran to thread n + 1 ---- */

struct traveller {
    struct tr__fiber *fiber;
    struct traveller *next;
    unsigned seed;
    unsigned migrations;
    unsigned lost_errnos;
    uint64_t result;
    double real_result;
};

struct station {
    pthread_mutex_t mutex;
    pthread_cond_t arrived;
    struct traveller *first;
    struct traveller *last;
};

static struct station stations[THREADS];
static struct traveller travellers[FIBERS];
static tr__atomic_u32 travellers_left;

static __attribute__((noinline)) int errno_now(void)
{
    return errno;
}

static __attribute__((noinline)) void errno_become(int value)
{
    errno = value;
}

/* The barrier hides that pthread_self always answers alike: compilers would ask it only once. */
static __attribute__((noinline)) pthread_t thread_now(void)
{
    __asm__ __volatile__("" ::: "memory");
    return pthread_self();
}

static void travel(void *argument)
{
    struct traveller *traveller = argument;
    uint64_t state[8];
    double real = traveller->seed;

    for (unsigned index = 0; index < 8; index++) {
        state[index] = traveller->seed + index;
    }
    for (unsigned round = 0; round < SUSPENSIONS; round++) {
        pthread_t before = thread_now();
        errno_become((int)(traveller->seed + round));
        state[round % 8] = state[(round + 1) % 8] * UINT64_C(6364136223846793005) + round;
        real = real * 0.75 + round;
        tr__fiber_suspend(traveller->fiber);
        traveller->migrations += !pthread_equal(before, thread_now());
        traveller->lost_errnos += errno_now() != (int)(traveller->seed + round);
    }
    for (unsigned index = 0; index < 8; index++) {
        traveller->result ^= state[index];
    }
    traveller->real_result = real;
}

static void check_arrival(const struct traveller *traveller)
{
    uint64_t state[8];
    uint64_t result = 0;
    double real = traveller->seed;

    for (unsigned index = 0; index < 8; index++) {
        state[index] = traveller->seed + index;
    }
    for (unsigned round = 0; round < SUSPENSIONS; round++) {
        state[round % 8] = state[(round + 1) % 8] * UINT64_C(6364136223846793005) + round;
        real = real * 0.75 + round;
    }
    for (unsigned index = 0; index < 8; index++) {
        result ^= state[index];
    }
    CHECK_EQ_U64(traveller->result, result);
    CHECK(traveller->real_result == real);
    CHECK_EQ_INT(traveller->migrations, SUSPENSIONS);
    CHECK_EQ_INT(traveller->lost_errnos, 0);
}

static void station_put(struct station *station, struct traveller *traveller)
{
    (void)pthread_mutex_lock(&station->mutex);
    traveller->next = NULL;
    if (station->first == NULL) {
        station->first = traveller;
    } else {
        station->last->next = traveller;
    }
    station->last = traveller;
    (void)pthread_cond_signal(&station->arrived);
    (void)pthread_mutex_unlock(&station->mutex);
}

/* The next traveller, or NULL once all have finished everywhere. */
static struct traveller *station_take(struct station *station)
{
    (void)pthread_mutex_lock(&station->mutex);
    /* relaxed: the last finisher wakes every station with its mutex held */
    while (station->first == NULL && tr__load_relaxed(&travellers_left) > 0) {
        (void)pthread_cond_wait(&station->arrived, &station->mutex);
    }
    struct traveller *traveller = station->first;
    if (traveller != NULL) {
        station->first = traveller->next;
    }
    (void)pthread_mutex_unlock(&station->mutex);
    return traveller;
}

static void all_stations_close(void)
{
    for (unsigned index = 0; index < THREADS; index++) {
        (void)pthread_mutex_lock(&stations[index].mutex);
        (void)pthread_cond_broadcast(&stations[index].arrived);
        (void)pthread_mutex_unlock(&stations[index].mutex);
    }
}

static void *run_station(void *argument)
{
    unsigned index = (unsigned)(uintptr_t)argument;
    struct tr__fiber_cache cache = {0};
    struct traveller *traveller;

    while ((traveller = station_take(&stations[index])) != NULL) {
        errno_become(-1);
        if (tr__fiber_resume(traveller->fiber) == TR__FIBER_SUSPENDED) {
            station_put(&stations[(index + 1) % THREADS], traveller);
            continue;
        }
        tr__fiber_give(&pool, &cache, traveller->fiber);
        if (tr__fetch_sub_acq_rel(&travellers_left, 1u) == 1) {
            all_stations_close();
        }
    }
    tr__fiber_cache_flush(&pool, &cache);
    return NULL;
}

CASE(fiber_threads, every_suspension_migrates)
{
    pthread_t threads[THREADS];

    CHECK_EQ_INT(tr__fiber_pool_init(&pool, FIBERS, 65536), 0);
    tr__store_relaxed(&travellers_left, FIBERS); /* before the threads exist */
    for (unsigned index = 0; index < THREADS; index++) {
        CHECK(pthread_mutex_init(&stations[index].mutex, NULL) == 0);
        CHECK(pthread_cond_init(&stations[index].arrived, NULL) == 0);
    }
    for (unsigned index = 0; index < FIBERS; index++) {
        struct traveller *traveller = &travellers[index];
        traveller->seed = index + 1;
        traveller->fiber = tr__fiber_take(&pool, NULL);
        CHECK(traveller->fiber != NULL);
        tr__fiber_start(traveller->fiber, travel, traveller);
        station_put(&stations[index % THREADS], traveller);
    }
    for (unsigned index = 0; index < THREADS; index++) {
        CHECK(pthread_create(&threads[index], NULL, run_station, (void *)(uintptr_t)index) == 0);
    }
    for (unsigned index = 0; index < THREADS; index++) {
        CHECK(pthread_join(threads[index], NULL) == 0);
    }
    for (unsigned index = 0; index < FIBERS; index++) {
        check_arrival(&travellers[index]);
    }
    CHECK_EQ_INT(tr__fiber_pool_used(&pool), 0);
    tr__fiber_pool_done(&pool);
}

/* ---- caches: four threads take, run and give from a pool too small for all ---- */

#define SMALL_POOL 60u
#define HELD_MAX 40u

struct visit {
    struct tr__fiber *fiber;
    unsigned steps;
};

static void visit_run(void *argument)
{
    struct visit *visit = argument;

    visit->steps += 1;
    tr__fiber_suspend(visit->fiber);
    visit->steps += 1;
}

static void *run_visits(void *argument)
{
    struct tr__fiber_cache cache = {0};
    struct visit visits[HELD_MAX];
    struct case_random chance;
    unsigned held = 0;

    case_random_init(&chance, (uintptr_t)argument);
    for (unsigned take = 0; take < TAKES; take++) {
        struct visit *visit = &visits[held];
        if (held < HELD_MAX && case_random_below(&chance, 5) < 3) {
            *visit = (struct visit){.fiber = tr__fiber_take(&pool, &cache)};
            if (visit->fiber != NULL) {
                tr__fiber_start(visit->fiber, visit_run, visit);
                CHECK(tr__fiber_resume(visit->fiber) == TR__FIBER_SUSPENDED);
                held += 1;
            }
        }
        if (held > 0 && case_random_below(&chance, 2) == 0) {
            held -= 1;
            CHECK(tr__fiber_resume(visits[held].fiber) == TR__FIBER_FINISHED);
            CHECK(visits[held].steps == 2);
            tr__fiber_give(&pool, &cache, visits[held].fiber);
        }
        CHECK(cache.count < 2 * TR__FIBER_BATCH);
    }
    while (held > 0) {
        held -= 1;
        CHECK(tr__fiber_resume(visits[held].fiber) == TR__FIBER_FINISHED);
        tr__fiber_give(&pool, &cache, visits[held].fiber);
    }
    tr__fiber_cache_flush(&pool, &cache);
    return NULL;
}

static tr__atomic_u32 trimming;

/* Trims all the while, now and then at the end of a period. */
static void *run_trims(void *argument)
{
    unsigned trims = 0;
    while (tr__load_relaxed(&trimming) != 0) { /* only the value counts */
        (void)tr__fiber_pool_trim(&pool, trims % 3 == 0);
        trims += 1;
        (void)sched_yield();
    }
    return argument;
}

CASE(fiber_threads, caches_share_a_small_pool)
{
    pthread_t threads[THREADS];
    pthread_t trimmer;

    CHECK_EQ_INT(tr__fiber_pool_init(&pool, SMALL_POOL, 16384), 0);
    tr__store_relaxed(&trimming, 1u); /* before the thread exists */
    CHECK(pthread_create(&trimmer, NULL, run_trims, NULL) == 0);
    for (unsigned index = 0; index < THREADS; index++) {
        CHECK(pthread_create(&threads[index], NULL, run_visits, (void *)(uintptr_t)index) == 0);
    }
    for (unsigned index = 0; index < THREADS; index++) {
        CHECK(pthread_join(threads[index], NULL) == 0);
    }
    tr__store_relaxed(&trimming, 0u); /* only the value counts */
    CHECK(pthread_join(trimmer, NULL) == 0);
    CHECK_EQ_INT(tr__fiber_pool_used(&pool), 0);
    while (tr__fiber_pool_trim(&pool, true) != TR__FIBER_TRIM_OVER) {
    }
    CHECK_EQ_INT(pool.warm_count, 0);
    for (unsigned index = 0; index < pool.created; index++) {
        CHECK(tr__fiber_take(&pool, NULL) != NULL);
    }
    CHECK_EQ_INT(tr__fiber_pool_used(&pool), pool.created);
}
