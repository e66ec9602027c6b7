/*
 * stats.c: tr_manager_stats: numbers about a manager.
 *
 * Owner thread: any host thread. Called by hosts; calls completion, ring, workers, tree.
 *
 * Complexity: reading sums over shards and lanes; nothing is stopped for it.
 */
#include <string.h>

#include "host/manager.h"

/* One lane after the other: a slot may be counted where it was and where it is now. Each lane's
 * count is exact, and the bound is the slots there are: cut to it, the sum is what it was at some
 * moment of the call, but for what changed during it. */
static uint64_t at_most(uint64_t sum, const struct tr__slots *slots)
{
    return sum < slots->max ? sum : slots->max;
}

static void read_lanes(struct tr__registry *registry, tr_stats *stats)
{
    for (uint32_t i = 0; i < TR__LANES; i++) {
        struct tr__lane *lane = &registry->lanes[i];
        tr__lane_lock(lane);
        tr__registry_reclaim(registry, lane);
        stats->refused += tr__load_relaxed(&lane->refused); /* a number to show */
        stats->tasks_used += lane->tasks_used;
        stats->sessions_used += lane->sessions_used;
        stats->turns_used += lane->turns_used;
        tr__lane_unlock(lane);
    }
    stats->tasks_used = at_most(stats->tasks_used, &registry->tasks);
    stats->sessions_used = at_most(stats->sessions_used, &registry->sessions);
    stats->turns_used = at_most(stats->turns_used, &registry->turns);
}

static void read_engine(struct tr__engine *engine, tr_stats *stats)
{
    struct tr__ring_stats ring;
    tr__ring_stats_read(&engine->ring, &ring);
    stats->fibers_used = tr__load_relaxed(&engine->awaiting); /* numbers to show */
    stats->processes_used = tr__load_relaxed(&engine->spawner.processes);
    stats->spawned = tr__load_relaxed(&engine->spawner.spawned);
    stats->workers = engine->config.seats;
    stats->substitutes = tr__workers_count(&engine->workers, TR__WORKERS_SUBSTITUTES);
    stats->stolen = tr__workers_count(&engine->workers, TR__WORKERS_STOLEN);
    stats->parked = tr__workers_count(&engine->workers, TR__WORKERS_PARKED);
    stats->wakes = tr__workers_count(&engine->workers, TR__WORKERS_WAKES);
    stats->ring_enters = ring.enters;
    stats->ring_operations = ring.requests;
    stats->ring_wakes = ring.wakes;
    stats->timers_fired = ring.timers_fired;
}

int tr_manager_stats(tr_manager *manager, tr_stats *ret_stats)
{
    if (manager == NULL || ret_stats == NULL) {
        return TR_EINVAL;
    }
    struct tr__completion *completion = manager->completion;
    tr_stats stats;
    memset(&stats, 0, sizeof(stats));
    stats.completed = tr__completion_count(completion, TR__COUNT_COMPLETED);
    stats.failed = tr__completion_count(completion, TR__COUNT_FAILED);
    stats.cancelled = tr__completion_count(completion, TR__COUNT_CANCELLED);
    stats.timed_out = tr__completion_count(completion, TR__COUNT_TIMED_OUT);
    stats.denied = tr__completion_count(completion, TR__COUNT_DENIED);
    stats.lost = tr__completion_count(completion, TR__COUNT_LOST);
    stats.started = tr__completion_count(completion, TR__COUNT_STARTED);
    stats.helped = tr__completion_count(completion, TR__COUNT_HELPED);
    stats.detached = tr__completion_count(completion, TR__COUNT_DETACHED);
    stats.discarded = tr__completion_count(completion, TR__COUNT_DISCARDED);
    stats.abandoned = tr__completion_count(completion, TR__COUNT_ABANDONED);
    if ((int64_t)stats.abandoned < 0) {
        stats.abandoned = 0; /* one has returned before its ender has counted it */
    }
    /* After the outcomes, each of which was counted before anybody could see it: never too small,
     * and nothing that was taken is in it. */
    stats.accepted = tr__completion_accepted(completion);
    stats.unfinished = stats.accepted - (stats.completed + stats.failed + stats.cancelled +
                                         stats.timed_out + stats.denied + stats.lost);
    stats.unfinished = at_most(stats.unfinished, &completion->registry.tasks);
    stats.tasks_max = completion->registry.tasks.max;
    stats.bytes_used = tr__arena_bytes_used(&completion->arena);
    stats.bytes_max = completion->arena.bytes_max;
    stats.events = tr__events_recorded(&completion->events);
    read_lanes(&completion->registry, &stats);
    tr__manager_nudge(manager); /* what the ring holds for ended tasks is not in use: gone soon */
    if (manager->threaded) {
        read_engine(&manager->engine, &stats);
    }
    stats.tree_mode = tr__trees_mode(manager->engine.trees);
    stats.trees_kept = tr__trees_kept(manager->engine.trees);
    stats.swept = tr__trees_swept(manager->engine.trees);
    stats.outlive_host = !manager->threaded || !tr__spawner_dies_with_host();
    *ret_stats = stats;
    return 0;
}
