/*
 * managers.c: managers-k: k managers in one process, each with a host thread and load of its own.
 *
 * What a deployment does when one submission thread, or one event loop, is not enough. Each drives
 * the load of `background`; all begin together. The workers of all managers together are as many as
 * one manager would have, or one each.
 *
 * Measured: wall time until the last has finished, per call of all; how much longer the slowest
 * took than the fastest.
 */
#include "flow.h"
#include "workloads.h"

#include <pthread.h>
#include <sched.h>

#define MANAGERS_MAX 16
#define CALLS 400000u

struct player {
    struct flow flow;
    pthread_t thread;
    pthread_barrier_t *start;
    size_t calls;
    uint64_t took_ns;
};

static struct player players[MANAGERS_MAX];

static void *play(void *context)
{
    struct player *player = context;
    flow_warm(&player->flow);
    (void)pthread_barrier_wait(player->start); /* one of them is told that it was last */
    player->took_ns = flow_pass(&player->flow, player->calls);
    return NULL;
}

static uint32_t workers_for(size_t managers)
{
    cpu_set_t set;
    int processors = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    size_t each = (size_t)processors / managers;
    return each > 1 ? (uint32_t)each : 1;
}

void run_managers(const struct options *options)
{
    pthread_barrier_t start;
    size_t count = options->size;
    size_t calls = vary(options, options->quick ? CALLS : 4 * CALLS) / count;
    tr_config config = TR_CONFIG_INIT;
    config.workers = workers_for(count);
    REQUIRE(pthread_barrier_init(&start, NULL, (unsigned)count) == 0);
    for (size_t at = 0; at < count; at++) {
        struct options own = *options;
        own.seed += at;
        players[at].start = &start;
        players[at].calls = calls;
        flow_open(&players[at].flow, &own, &config, calls > 65536 ? calls : 65536);
    }
    for (size_t at = 0; at < count; at++) {
        REQUIRE(pthread_create(&players[at].thread, NULL, play, &players[at]) == 0);
    }
    uint64_t slowest = 0;
    uint64_t fastest = UINT64_MAX;
    for (size_t at = 0; at < count; at++) {
        REQUIRE(pthread_join(players[at].thread, NULL) == 0);
        uint64_t took = players[at].took_ns;
        slowest = took > slowest ? took : slowest;
        fastest = took < fastest ? took : fastest;
    }
    for (size_t at = 0; at < count; at++) {
        flow_close(&players[at].flow);
    }
    REQUIRE(pthread_barrier_destroy(&start) == 0);
    report_begin(options, "ns/task", (double)slowest / (double)(calls * count));
    report_also("slowest / fastest", (double)slowest / (double)fastest);
    report_parameter("managers", count);
    report_parameter("calls", calls * count);
    report_parameter("workers", config.workers);
    flow_report();
    report_end();
}
