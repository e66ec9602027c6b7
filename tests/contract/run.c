/*
 * run.c: one run: opens a manager, lets all threads loose, closes it, and checks what must hold at
 * the end.
 *
 * Two ways to end. Graceful: when the operations are done, wait until nothing is unfinished, empty
 * every channel, close every home, then the manager. Early: tr_manager_close while operations go
 * on, then empty every channel. In both every accepted call has been resolved exactly once, or its
 * resolution was discarded with its home; and nothing is left.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "contract/contract.h"

#define MAIN 63u
#define HELPERS_MAX 32u

static struct {
    pthread_t drivers[THREADS_MAX];
    pthread_t takers[HELPERS_MAX];   /* waiters, takers, drainers */
    pthread_t services[HELPERS_MAX]; /* readers, finishers, sweeper */
    unsigned takers_count, services_count;
} crew;

static unsigned entries(const char *folder)
{
    unsigned count = 0;
    DIR *stream = opendir(folder);
    while (stream != NULL && readdir(stream) != NULL) {
        count++;
    }
    (void)closedir(stream);
    return count;
}

static void start(pthread_t *thread, void *(*function)(void *), uintptr_t number)
{
    MUST(pthread_create(thread, NULL, function, (void *)number) == 0, "pthread_create");
}

/* A thread that was joined may still be in the kernel, on its way out, and be listed. */
static void await_threads(unsigned threads)
{
    uint64_t until = now_ns() + 20 * TR_SECOND;
    for (unsigned now = entries("/proc/self/task"); now != threads;
         now = entries("/proc/self/task")) {
        MUST(now_ns() < until, "%u threads, %u before", now, threads);
        (void)sched_yield();
    }
}

static pid_t first_id;

static void *first_main(void *argument)
{
    first_id = gettid();
    return argument;
}

static void await_exit(pid_t thread)
{
    while (tgkill(getpid(), thread, 0) == 0) {
        (void)sched_yield();
    }
}

static void open_manager(void)
{
    tr_config config = world->shape.config;
    char message[256] = "";
    config.permit = permit_call;
    config.route = route_call;
    config.message = message;
    config.message_size = sizeof message;
    int result = tr_manager_open(&config, &world->manager);
    MUST(result == 0, "tr_manager_open: %s: %s", tr_error_name(result), message);
    tools_register();
    for (unsigned i = 0; i < QUEUES; i++) {
        MUST(tr_queue_open(world->manager, &world->queues[i]) == 0, "tr_queue_open");
    }
    world->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    events_open();
    finishers_open();
}

static void start_crew(void)
{
    start(&crew.services[crew.services_count++], reader_main, 0);
    start(&crew.services[crew.services_count++], slow_reader_main, 0);
    start(&crew.services[crew.services_count++], sweeper_main, 0);
    for (uint32_t i = 0; i < world->shape.finishers; i++) {
        start(&crew.services[crew.services_count++], finisher_main, i);
    }
    start(&crew.takers[crew.takers_count++], drainer_main, 0);
    start(&crew.takers[crew.takers_count++], poller_main, 0);
    for (uint32_t i = 0; i < world->shape.waiters; i++) {
        start(&crew.takers[crew.takers_count++], waiter_main, i);
    }
    for (uint32_t i = 0; i < world->shape.takers; i++) {
        start(&crew.takers[crew.takers_count++], taker_main, i);
    }
    for (uint32_t i = 0; i < world->threads; i++) {
        start(&crew.drivers[i], driver_main, i);
    }
}

static void join_drivers(void)
{
    for (uint32_t i = 0; i < world->threads; i++) {
        (void)pthread_join(crew.drivers[i], NULL);
    }
}

static void ring_stop(void)
{
    const uint64_t one = 1;
    MUST(write(world->stop_fd, &one, sizeof one) == (ssize_t)sizeof one, "eventfd");
}

/* Everything that will ever come is in its channel: the takers empty them and leave. */
static void join_takers(void)
{
    at(MAIN, "waiting for those who take");
    world->drained = true;
    ring_stop();
    for (unsigned i = 0; i < crew.takers_count; i++) {
        (void)pthread_join(crew.takers[i], NULL);
    }
}

static void join_services(void)
{
    at(MAIN, "waiting for readers and finishers");
    world->stopping = true;
    for (unsigned i = 0; i < crew.services_count; i++) {
        (void)pthread_join(crew.services[i], NULL);
    }
}

static void close_manager(uint64_t drain_ns)
{
    at(MAIN, "tr_manager_close");
    atomic_store(&world->closing, true);
    int result = tr_manager_close(world->manager, drain_ns);
    MUST(result == 0, "tr_manager_close: %s", tr_error_name(result));
    MUST(tr_manager_close(world->manager, 0) == TR_EALREADY, "a second tr_manager_close");
}

static tr_stats stats_now(void)
{
    tr_stats stats;
    MUST(tr_manager_stats(world->manager, &stats) == 0, "tr_manager_stats");
    return stats;
}

/* Functions that were abandoned return, timers that were disarmed are given back: soon, not at
 * once, and nothing of the interface tells when: the numbers are looked at until they say so. */
static tr_stats stats_settled(uint64_t tasks, bool homes)
{
    bool blocks = tasks > 0 || world->requests_held > 0; /* their bytes are used, rightly */
    at(MAIN, "waiting until the numbers are zero");
    uint64_t until = now_ns() + 20 * TR_SECOND;
    for (;;) {
        tr_stats stats = stats_now();
        bool zero = stats.abandoned == 0 && stats.fibers_used == 0 && stats.processes_used == 0 &&
                    stats.tasks_used == tasks && (blocks || stats.bytes_used == 0) &&
                    (!homes || tasks > 0 || (stats.turns_used == 0 && stats.sessions_used == 0));
        if (zero) {
            return stats;
        }
        MUST(now_ns() < until,
             "at the end: %" PRIu64 " abandoned, %" PRIu64 " fibers, %" PRIu64
             " processes, %" PRIu64 " tasks used (%" PRIu64 " held), %" PRIu64
             " bytes (%u requests held), %" PRIu64 " turns, %" PRIu64 " sessions",
             stats.abandoned, stats.fibers_used, stats.processes_used, stats.tasks_used, tasks,
             stats.bytes_used, world->requests_held, stats.turns_used, stats.sessions_used);
        (void)sched_yield();
    }
}

/* A call that was ended behind its function's back may not even have begun it. */
static void await_functions(void)
{
    at(MAIN, "waiting for abandoned functions");
    uint64_t until = now_ns() + 20 * TR_SECOND;
    while (stats_now().abandoned > 0) {
        MUST(now_ns() < until, "at the end: %" PRIu64 " abandoned", stats_now().abandoned);
        (void)sched_yield();
    }
}

static uint64_t records_held(void)
{
    uint64_t held = 0;
    for (uint32_t i = 0; i < world->indexes * GROUP_MAX; i++) {
        held += world->records[i].held > 0;
    }
    return held;
}

static void check_record(struct record *record)
{
    if (record->launch == LAUNCH_REFUSED) {
        MUST(record->resolutions == 0 && record->runs == 0 && record->inputs_released == 0,
             "call %u was refused and left traces", record->index);
        return;
    }
    if (record->resolutions == 0) {
        MUST(record_is_discardable(record), "call %u (%s) was never resolved", record->index,
             action_name(record->plan.action));
        world->unshown++;
        return;
    }
    MUST(!record->stopped || record->outcome == TR_OUTCOME_CANCELLED ||
             record->outcome == TR_OUTCOME_TIMED_OUT,
         "call %u: cancelling it was accepted, and yet its outcome is %d", record->index,
         record->outcome);
    MUST(!record->finished ||
             record->outcome ==
                 (record->plan.status == 0 ? TR_OUTCOME_COMPLETED : TR_OUTCOME_FAILED) ||
             record->outcome == TR_OUTCOME_CANCELLED || record->outcome == TR_OUTCOME_TIMED_OUT,
         "call %u: finished, and yet its outcome is %d", record->index, record->outcome);
    bool started = (record->flags & TR_ITEM_NOT_STARTED) == 0;
    MUST(record->runs == started, "call %u: started %d, ran %u times", record->index, started,
         record->runs);
    MUST(record->runs == 0 || record->asked == record->plan.approvals + 1,
         "call %u: ran after being asked for %u times", record->index, record->asked);
    bool gone = record->turn->closing || record->turn->session->closing;
    bool detached = (record->flags & TR_ITEM_WAS_DETACHED) != 0;
    MUST(record->detaches == detached || (gone && record->detaches == 0),
         "call %u: %u detach items, detached %d", record->index, record->detaches, detached);
}

static void check_records(void)
{
    for (uint32_t i = 0; i < world->indexes * GROUP_MAX; i++) {
        if (world->records[i].launch != LAUNCH_NONE) {
            check_record(&world->records[i]);
        }
    }
}

/* After all batches were released. */
static void check_released(void)
{
    for (uint32_t i = 0; i < world->indexes * GROUP_MAX; i++) {
        const struct record *record = &world->records[i];
        if (record->launch != LAUNCH_ACCEPTED) {
            continue;
        }
        MUST(record->inputs_released == (record->plan.borrowed ? 1u : 0u),
             "call %u: its input was released %u times", record->index, record->inputs_released);
        hook_check(record);
        MUST(record->results_given == record->results_released,
             "call %u: gave %u results, %u were released", record->index, record->results_given,
             record->results_released);
    }
}

static void check_stats(const tr_stats *stats)
{
    uint64_t ended = stats->completed + stats->failed + stats->cancelled + stats->timed_out +
                     stats->denied + stats->lost;
    MUST(stats->unfinished == 0 && stats->accepted == world->accepted && ended == world->accepted,
         "stats: %" PRIu64 " accepted of %u, %" PRIu64 " ended, %" PRIu64 " unfinished",
         stats->accepted, world->accepted, ended, stats->unfinished);
    MUST(stats->discarded == world->unshown, "stats: %" PRIu64 " discarded, %u were not shown",
         stats->discarded, world->unshown);
    MUST(stats->completed >= world->outcomes[TR_OUTCOME_COMPLETED] &&
             stats->failed >= world->outcomes[TR_OUTCOME_FAILED] &&
             stats->cancelled >= world->outcomes[TR_OUTCOME_CANCELLED] &&
             stats->timed_out >= world->outcomes[TR_OUTCOME_TIMED_OUT] &&
             stats->denied >= world->outcomes[TR_OUTCOME_DENIED] && stats->lost == 0,
         "stats: fewer outcomes than were shown");
    MUST(stats->detached >= world->detached, "stats: %" PRIu64 " detached, %u were shown",
         stats->detached, world->detached);
}

/* Every open turn is idle, and has been told so. */
static void check_turns(void)
{
    for (uint32_t i = 0; i < world->turns_count; i++) {
        struct model_turn *turn = &world->turns[i];
        tr_batch *batch = NULL;
        if (!turn->opened || turn->closing || turn->session->closing) {
            continue;
        }
        MUST(turn->foreground == 0, "turn %u: %" PRId64 " foreground tasks are unaccounted for", i,
             (int64_t)turn->foreground);
        MUST(!turn->settled || turn->last_idle, "turn %u was never said to be idle", i);
        int result = tr_turn_wait(world->manager, turn->id, NULL, 0, 16, &batch);
        MUST(result == (turn->bound ? TR_ESTATE : TR_WAIT_IDLE), "turn %u at the end: %d, %s", i,
             result, tr_error_name(result));
    }
}

static void close_homes(void)
{
    for (uint32_t i = 0; i < world->sessions_count; i++) {
        struct model_session *session = &world->sessions[i];
        if (session->opened && !session->closing) {
            uint32_t flags = chance_mix(world->seed + i) % 2 == 0 ? TR_CLOSE_DISCARD : 0;
            close_session(session, flags);
        }
    }
}

static void release_kept(void)
{
    while (world->kept_count > 0) {
        batch_released(world->kept[--world->kept_count]);
    }
}

static void close_queues(void)
{
    for (unsigned i = 0; i < QUEUES; i++) {
        int result = tr_queue_close(world->queues[i]);
        MUST(result == 0 || (result == TR_EBUSY && world->shape.keep), "tr_queue_close: %s",
             tr_error_name(result));
    }
}

static void end_run(void)
{
    if (world->shape.close_early) {
        at(MAIN, "waiting for the moment to close");
        while (world->close_at > 0 && sem_wait(&world->close_now) != 0) {
            MUST(errno == EINTR, "sem_wait");
        }
        close_manager(world->shape.drain_ns);
        join_drivers();
    } else {
        at(MAIN, "waiting for the operations");
        join_drivers();
        at(MAIN, "tr_manager_wait_idle");
        MUST(tr_manager_wait_idle(world->manager, TR_FOREVER) == 0, "tr_manager_wait_idle");
    }
    join_takers();
    await_functions();
    uint64_t held = records_held();
    check_records();
    check_turns();
    (void)stats_settled(held, false);
    close_homes();
    tr_stats stats = stats_settled(held, true);
    check_stats(&stats);
    if (!world->shape.close_early) {
        close_manager(0);
    }
    join_services();
    check_events();
    if (held == 0) {
        check_released();
        close_queues();
    }
    tr_manager_free(world->manager);
    release_kept();
    check_released();
}

void run_once(const struct run_options *options, const struct operation *operations, uint32_t count)
{
    static struct world here;
    pthread_t first;
    world = &here;
    here.seed = options->seed;
    here.is_inline = options->is_inline;
    here.threads = options->threads;
    here.operations = malloc((count + 1) * sizeof *here.operations);
    memcpy(here.operations, operations, count * sizeof *operations);
    here.operations_count = count;
    here.indexes = options->operations;
    plan_shape(options->seed, count, options->is_inline, &here.shape);
    model_open(&here);
    start(&first, first_main, 0); /* what a first thread brings with it is not the manager's */
    (void)pthread_join(first, NULL);
    await_exit(first_id);
    unsigned descriptors = entries("/proc/self/fd");
    watch_open(options->hang_seconds);
    unsigned threads = entries("/proc/self/task");
    open_manager();
    start_crew();
    end_run();
    (void)close(here.stop_fd);
    MUST(entries("/proc/self/fd") == descriptors, "%u descriptors, %u before",
         entries("/proc/self/fd"), descriptors);
    await_threads(threads);
    watch_done();
    if (!options->quiet) {
        (void)printf("seed %" PRIu64 "%s: %u accepted, %u completed, %u failed, %u cancelled, %u "
                     "timed out, %u denied, %u discarded%s\n",
                     options->seed, options->is_inline ? " inline" : "", here.accepted,
                     here.outcomes[TR_OUTCOME_COMPLETED], here.outcomes[TR_OUTCOME_FAILED],
                     here.outcomes[TR_OUTCOME_CANCELLED], here.outcomes[TR_OUTCOME_TIMED_OUT],
                     here.outcomes[TR_OUTCOME_DENIED], here.unshown,
                     here.gapped ? ", events missed" : "");
        (void)fflush(stdout);
    }
    finishers_done();
    free(here.operations);
    model_done(&here);
}
