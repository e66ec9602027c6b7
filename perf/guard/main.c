/*
 * main.c: toolring-guard: runs each probe under callgrind, which counts.
 *
 *     valgrind --tool=callgrind --dump-instr=yes … toolring-guard
 *
 * Prints "NAME OPERATIONS" for each, in the order of callgrind's dumps. Started without valgrind it
 * only proves that the probes run.
 *
 * Owner thread: the only one. Called by perf/guard/run.
 *
 * Invariants
 *  1. The clock is this file's own and goes by calls, so no path depends on how slowly the counting
 *     makes everything run (a tool is called brief by how long it took).
 *  2. Counts are dumped between rounds only; a first run of a few rounds warms up.
 *  3. A thread has come and gone before: libc leaves the lock prefix out of its mutexes until then.
 */
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <valgrind/callgrind.h>

#include "probes.h"

#define WARM_ROUNDS 64u
#define ROUNDS 1000u
#define CALL_NS 100

/* Instead of libc's: see invariant 1. */
int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    static long long now_ns = 1000000000;
    (void)clock;
    now_ns += CALL_NS;
    ret_time->tv_sec = (time_t)(now_ns / 1000000000);
    ret_time->tv_nsec = (long)(now_ns % 1000000000);
    return 0;
}

static void count(const struct probe *probe)
{
    static struct stage stage;
    if (probe->stage != PROBE_BARE) {
        stage_open(&stage, probe->stage == PROBE_THREADED);
    }
    if (probe->prepare != NULL) {
        probe->prepare(&stage);
    }
    probe->run(&stage, WARM_ROUNDS);
    CALLGRIND_ZERO_STATS;
    probe->run(&stage, ROUNDS);
    CALLGRIND_DUMP_STATS_AT(probe->name);
    if (probe->stage != PROBE_BARE) {
        stage_close(&stage);
    }
    (void)printf("%s %u\n", probe->name, ROUNDS * probe->operations);
}

static void *leave(void *argument)
{
    return argument;
}

int main(void)
{
    pthread_t thread;
    stage_require(pthread_create(&thread, NULL, leave, NULL) == 0, "a thread can be made");
    stage_require(pthread_join(thread, NULL) == 0, "it has left");
    for (unsigned at = 0; at < probes_of_calls_count; at++) {
        count(&probes_of_calls[at]);
    }
    for (unsigned at = 0; at < probes_of_parts_count; at++) {
        count(&probes_of_parts[at]);
    }
    return 0;
}
