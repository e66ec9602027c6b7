/*
 * process_end.c: how a program is stopped, what becomes of what it has left behind, and what is
 * said of it.
 *
 * Purpose: after tr__run_end nothing of the program is left but what is meant to be. Owner: the
 * tool's thread. Called by process; calls engine/tree, spawn, engine/live.
 *
 * Invariants
 *  1. The tree is ended or handed over before the leader is collected: until then its number
 *     cannot be another's. A mere process group is looked at once more afterwards, since before
 *     that the leader itself is a member.
 *  2. Whatever the lifetime, a program that was stopped (cancel, timeout, too much output) leaves
 *     nobody alive.
 *  3. Who waits for the tree's end waits for GONE_NS at most: what the kernel cannot end (a process
 *     in an uninterruptible sleep) must not hold the call. It has its SIGKILL.
 *
 * Complexity: without descendants one look at the tree. Else a look per wake, the pauses doubling.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/limits.h"
#include "engine/engine.h"
#include "tools/process_run.h"
#include "tools/spawn.h"

/* Killed processes are gone in a millisecond; these are for a machine that has no time for them. */
#define GONE_NS (UINT64_C(2) * TR_SECOND)
/* Between looks at a tree whose end nobody tells of: the first pause and the longest. */
#define PAUSE_NS (UINT64_C(250) * 1000)
#define PAUSE_MAX_NS (UINT64_C(20) * TR_MILLISECOND)

void tr__run_stop(struct tr__run *run)
{
    const tr_process_spec *spec = run->spec;
    uint64_t grace_ns = spec->grace_ns != 0 ? spec->grace_ns : tr_call_cancel_grace(run->call);

    TR_ASSERT(run->phase == TR__RUN_RUNNING);
    run->phase = TR__RUN_STOPPING;
    run->timeout_ns = TR_FOREVER;
    run->grace_ns = tr__clock_after(tr__clock_now(), grace_ns);
    /* Nobody there, or no longer ours to signal: its exit will show. A stopped process acts on
     * SIGTERM only when it goes on. */
    (void)tr__tree_signal(run->tree, SIGTERM);
    (void)tr__tree_signal(run->tree, SIGCONT);
    tr__run_unpause(run);
}

void tr__run_kill(struct tr__run *run)
{
    run->phase = TR__RUN_KILLED;
    run->timeout_ns = TR_FOREVER;
    run->grace_ns = TR_FOREVER;
    tr__tree_kill(run->tree);
    tr__run_unpause(run);
}

/* Brings the requests back. */
static void stop_requests(struct tr__run *run)
{
    tr__run_stop_room(run);
    for (unsigned which = 0; which < TR__RUN_REQUESTS; which++) {
        if (which != TR__RUN_ROOM && tr__run_is_under_way(run, (enum tr__run_request)which)) {
            tr_io_cancel(run->call, &run->requests[which]);
        }
    }
    while (run->under_way != 0) {
        int error = tr__run_await(run, TR_IO_SHIELD);
        TR_ASSERT(error == 0);
    }
}

/* Waits until the tree may have changed. */
static void await_change(struct tr__run *run, uint64_t pause_ns)
{
    int fd = tr__tree_empty_fd(run->tree);
    tr_io *gone = &run->requests[TR__RUN_GONE];
    uint64_t now = tr__clock_now();
    int error;

    if (fd >= 0) {
        error = tr__io_poll_until(run->call, gone, fd, POLLPRI, tr__clock_after(now, PAUSE_MAX_NS));
    } else {
        error = tr_io_timer(run->call, gone, pause_ns);
    }
    TR_ASSERT(error == 0);
    run->under_way |= 1u << TR__RUN_GONE;
    error = tr__run_await(run, TR_IO_SHIELD);
    TR_ASSERT(error == 0);
}

/* Ends the tree. Returns how many it had. */
static uint32_t sweep(struct tr__run *run)
{
    uint64_t give_up_ns = tr__clock_after(tr__clock_now(), GONE_NS);
    uint64_t pause_ns = PAUSE_NS;
    uint32_t most = 0;

    for (;;) {
        uint32_t left = tr__tree_sweep(run->tree);
        most = left > most ? left : most;
        if (left == 0 || tr__clock_now() >= give_up_ns) {
            return most;
        }
        await_change(run, pause_ns);
        pause_ns = pause_ns < PAUSE_MAX_NS / 2 ? pause_ns * 2 : PAUSE_MAX_NS;
    }
}

static void fill_tree(struct tr__run *run, tr_process_result *result)
{
    struct tr__tree_usage usage;

    result->tree = tr__tree_mode(run->tree);
    tr__tree_usage(run->tree, &usage);
    if (usage.there) {
        result->tree_figures = true;
        result->out_of_memory = usage.out_of_memory;
        result->tree_user_ns = usage.user_ns;
        result->tree_system_ns = usage.system_ns;
        result->tree_memory_peak_bytes = usage.memory_peak_bytes;
    }
}

static void fill_status(tr_process_result *result, int status, const struct rusage *usage)
{
    result->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result->user_ns = (uint64_t)usage->ru_utime.tv_sec * TR__NS_PER_SECOND +
                      (uint64_t)usage->ru_utime.tv_usec * TR__NS_PER_US;
    result->system_ns = (uint64_t)usage->ru_stime.tv_sec * TR__NS_PER_SECOND +
                        (uint64_t)usage->ru_stime.tv_usec * TR__NS_PER_US;
    result->resident_bytes = (uint64_t)usage->ru_maxrss * 1024u;
}

static uint64_t session_of(const struct tr__run *run)
{
    tr_snapshot snapshot;

    tr_call_snapshot(run->call, &snapshot);
    return snapshot.session;
}

/* Invariants 1 and 2. */
static void end_tree(struct tr__run *run, tr_process_result *result)
{
    struct rusage usage;
    int status;
    bool keeps = run->phase == TR__RUN_RUNNING && run->spec->lifetime != TR_PROCESS_LIFETIME_TASK;

    if (keeps) {
        result->survivors = tr__tree_count(run->tree);
    } else {
        result->swept = sweep(run);
    }
    fill_tree(run, result);
    if (keeps) {
        bool named = run->spec->lifetime == TR_PROCESS_LIFETIME_SESSION;
        tr__tree_keep(run->tree, named ? session_of(run) : 0, run->spec->lifetime);
    }
    int error = tr__child_collect(&run->child, &status, &usage);
    TR_ASSERT(error == 0 || error == -ECHILD);
    if (error == 0) {
        fill_status(result, status, &usage);
    }
    if (!keeps) {
        if (result->tree == TR_TREE_GROUP) {
            uint32_t members = sweep(run); /* by its mark, some were met above and hang on */
            result->swept = members > result->swept ? members : result->swept;
        }
        tr__tree_close(run->tree);
    }
    run->tree = NULL;
    tr__child_close(run->call, &run->child);
}

void tr__run_end(struct tr__run *run, tr_process_result *ret_result)
{
    stop_requests(run);
    run->now_ns = tr__clock_now();
    tr__run_tell(run, true);
    *ret_result = (tr_process_result){.exit_code = -1,
                                      .timed_out = run->timed_out,
                                      .cancelled = run->cancelled,
                                      .overflowed = run->overflowed,
                                      .held_open = tr__run_is_open(run),
                                      .wall_ns = run->exited_ns - run->spawned_ns};
    tr__live_stop(run->live); /* before its number can be another's */
    end_tree(run, ret_result);
    tr__live_end(run->live);
    tr__live_lock(run->live);
    ret_result->bytes_in = run->live->bytes_in;
    /* Without memory all is counted as omitted. */
    (void)tr__capture_result(&run->live->streams[TR_STREAM_OUT], &ret_result->out);
    (void)tr__capture_result(&run->live->streams[TR_STREAM_ERROR], &ret_result->error);
    tr__live_unlock(run->live);
}
