/*
 * watch.c: how a run ends badly: by a violation, or by standing still.
 *
 * The watchdog is a thread that sees `progress` grow; when it has not for so many seconds it shows
 * the numbers of the manager, what every thread is doing and the tasks that have not ended, and
 * leaves.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "contract/contract.h"

static pthread_t watchdog;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool done;
static unsigned patience_seconds;
static pthread_mutex_t speaking = PTHREAD_MUTEX_INITIALIZER;

uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * TR_SECOND + (uint64_t)now.tv_nsec;
}

void at(unsigned thread, const char *what)
{
    atomic_store(&world->where[thread], what);
    if (thread < THREADS_MAX) {
        atomic_fetch_add(&world->progress, 1); /* the others turn round for nothing, too */
    }
}

void violation(const char *format, ...)
{
    va_list arguments;
    (void)pthread_mutex_lock(&speaking); /* the first one speaks */
    (void)fprintf(stderr, "violation (seed %" PRIu64 "): ", world->seed);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
    (void)fflush(stderr);
    if (getenv("TOOLRING_CONTRACT_ABORT") != NULL) {
        abort(); /* for a debugger */
    }
    _exit(EXIT_VIOLATION);
}

static void show_tasks(void)
{
    static tr_snapshot snapshots[64];
    tr_cursor cursor = {0, 0};
    int count = tr_task_list(world->manager, NULL, &cursor, snapshots, 64);
    for (int i = 0; i < count; i++) {
        const tr_snapshot *task = &snapshots[i];
        const struct record *record = task->user;
        (void)fprintf(stderr,
                      "  call %u: state %d kind %d%s%s%s%s, tool %s does %s for %u us, accepted "
                      "%.3f s ago\n",
                      record->index, (int)task->state, (int)task->kind,
                      task->cancel_requested ? " cancelled" : "", task->detached ? " detached" : "",
                      task->approval_pending ? " asks" : "", task->deferred ? " deferred" : "",
                      task->tool_name, action_name(record->plan.action), record->plan.delay_us,
                      (double)(now_ns() - task->accepted_ns) / 1e9);
    }
}

static void show_world(void)
{
    tr_stats stats;
    (void)fprintf(
        stderr, "hang (seed %" PRIu64 "): no progress for %u s; %u operations done, %u accepted\n",
        world->seed, patience_seconds, world->executed, world->accepted);
    for (unsigned i = 0; i < sizeof world->where / sizeof world->where[0]; i++) {
        if (world->where[i] != NULL) {
            (void)fprintf(stderr, "  thread %u: %s\n", i, world->where[i]);
        }
    }
    if (tr_manager_stats(world->manager, &stats) == 0) {
        (void)fprintf(stderr,
                      "  unfinished %" PRIu64 " abandoned %" PRIu64 " tasks %" PRIu64
                      " fibers %" PRIu64 " bytes %" PRIu64 " turns %" PRIu64 " sessions %" PRIu64
                      " processes %" PRIu64 " discarded %" PRIu64 "\n",
                      stats.unfinished, stats.abandoned, stats.tasks_used, stats.fibers_used,
                      stats.bytes_used, stats.turns_used, stats.sessions_used, stats.processes_used,
                      stats.discarded);
    }
    (void)fflush(stderr);
    show_tasks();
    (void)fflush(stderr);
}

/* If looking itself hangs, this ends it. */
static void *executioner_main(void *argument)
{
    struct timespec duration = {5, 0};
    (void)argument;
    (void)nanosleep(&duration, NULL);
    (void)fprintf(stderr, "  ... and looking at it hangs too\n");
    _exit(EXIT_HANG);
}

static void *watchdog_main(void *argument)
{
    uint64_t seen = 0;
    unsigned still = 0;
    (void)argument;
    (void)pthread_mutex_lock(&lock);
    while (!done) {
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        (void)pthread_cond_timedwait(&changed, &lock, &until);
        uint64_t now = world->progress;
        still = now == seen ? still + 1 : 0;
        seen = now;
        if (still >= patience_seconds && !done) {
            pthread_t executioner;
            (void)pthread_create(&executioner, NULL, executioner_main, NULL);
            show_world();
            if (getenv("TOOLRING_CONTRACT_ABORT") != NULL) {
                abort();
            }
            _exit(EXIT_HANG);
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return NULL;
}

void watch_open(unsigned hang_seconds)
{
    patience_seconds = hang_seconds;
    done = false;
    MUST(pthread_create(&watchdog, NULL, watchdog_main, NULL) == 0, "pthread_create");
}

void watch_done(void)
{
    (void)pthread_mutex_lock(&lock);
    done = true;
    (void)pthread_cond_signal(&changed);
    (void)pthread_mutex_unlock(&lock);
    (void)pthread_join(watchdog, NULL);
}
