/*
 * spawner_child.c: what a child does between the clone and its program.
 *
 * Owner: the child, on borrowed memory, while the spawning thread is suspended. Called by
 * spawner_clone; calls the kernel.
 *
 *  1. The child makes raw system calls and writes to its stack, errno (its parent's, who sleeps)
 *     and the plan's last three fields, nothing else: no allocation, no locks, no stdio. It is
 *     compiled without sanitizers, and libc's wrappers are avoided where a sanitizer would
 *     intercept them and note the child's doings as its parent's (sigaction is the bad one).
 *  2. Signals are all blocked from before the clone until every handler has been reset here: a
 *     handler of the host's must never run on borrowed memory.
 *  3. Descriptors of the plan are 3 or higher, so that putting them to 0, 1 and 2 overwrites none.
 *     Everything else is close-on-exec: ours by birth, the host's by close_range.
 *  4. PR_SET_PDEATHSIG fires when the spawning *thread* ends, so it is for immortal ones only. The
 *     parent may have died before it was set: then getppid tells. It goes no further than the
 *     leader: what that has started is held by its tree alone.
 *  5. Limits come last: they must not hinder what comes before.
 *
 * Cost: some 75 system calls, 62 of them to reset signals (no one call resets ignored ones too);
 * posix_spawn makes as many.
 * Rejected: close-on-exec for each descriptor (thousands of calls).
 */
#include "engine/spawner_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SIGNALS (_NSIG - 1)
/* Bytes of the kernel's signal set. */
#define SIGNAL_SET_BYTES (_NSIG / 8)
/* setpriority's range, and what getpriority answers for 0. */
#define NICE_LEAST (-20)
#define NICE_MOST 19
#define NICE_ZERO 20

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#if defined(__clang__)
#define UNWATCHED __attribute__((no_sanitize("address", "thread", "undefined"), noinline))
#else
#define UNWATCHED                                                                                  \
    __attribute__((no_sanitize_address, no_sanitize_thread, no_sanitize_undefined, noinline))
#endif

UNWATCHED bool tr__spawn_goes_on(int error)
{
    return error == ENOENT || error == ENOTDIR || error == EACCES || error == ESTALE ||
           error == ENODEV || error == ETIMEDOUT;
}

/* Descriptors 0, 1 and 2 of the child. Returns 0 or errno. */
UNWATCHED static int child_descriptors(const struct tr__spawn_plan *plan)
{
    if (plan->input_fd >= 0) {
        if (syscall(SYS_dup3, plan->input_fd, 0, 0) < 0) {
            return errno;
        }
    } else {
        /* The lowest free descriptor is 0 then, also when the table is full otherwise. */
        (void)syscall(SYS_close, 0);
        if (syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY, 0) != 0) {
            return errno;
        }
    }
    if (syscall(SYS_dup3, plan->output_fd, 1, 0) < 0 ||
        syscall(SYS_dup3, plan->error_fd, 2, 0) < 0) {
        return errno;
    }
    /* Fails on kernels before 5.11 only: then what the host left inheritable is inherited. */
    (void)syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
    return 0;
}

/* Default dispositions, then an empty mask. */
UNWATCHED static void child_signals(void)
{
    /* All zero is SIG_DFL with nothing masked, whatever the architecture's layout is. */
    const unsigned long nothing[16] = {0};

    for (int number = 1; number <= SIGNALS; number++) {
        /* EINVAL for SIGKILL and SIGSTOP, which need none */
        (void)syscall(SYS_rt_sigaction, number, nothing, NULL, SIGNAL_SET_BYTES);
    }
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, nothing, NULL, SIGNAL_SET_BYTES);
}

/* Executes one path; returns why not. */
UNWATCHED static int child_execute(const char *path, char **arguments, char **environment)
{
    struct timespec pause = {0, TR__SPAWN_BUSY_NS};

    for (unsigned attempt = 1;; attempt++) {
        (void)syscall(SYS_execve, path, arguments, environment);
        if (errno != ETXTBSY || attempt == TR__SPAWN_BUSY_ATTEMPTS) {
            return errno;
        }
        (void)syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &pause, NULL);
        pause.tv_nsec *= 2;
    }
}

/* Tries the candidates; returns why none would do. A forbidden one says more than a missing one. */
UNWATCHED static int child_execute_any(struct tr__spawn_plan *plan)
{
    const char *forbidden = NULL;
    int error = ENOENT;

    plan->stage = TR__SPAWN_EXECUTE;
    for (char **candidate = plan->candidates; *candidate != NULL; candidate++) {
        plan->failed_what = *candidate;
        error = child_execute(*candidate, plan->arguments, plan->environment);
        if (error == ENOEXEC) {
            plan->shell_arguments[1] = *candidate;
            return child_execute(plan->shell_arguments[0], plan->shell_arguments,
                                 plan->environment);
        }
        if (!tr__spawn_goes_on(error)) {
            return error;
        }
        forbidden = error == EACCES ? *candidate : forbidden;
    }
    plan->failed_what = forbidden != NULL ? forbidden : plan->arguments[0];
    return forbidden != NULL ? EACCES : error;
}

/* Its session, and its end with the host's. */
UNWATCHED static int child_session(struct tr__spawn_plan *plan)
{
    plan->stage = TR__SPAWN_SESSION;
    if (syscall(SYS_setsid) < 0) {
        return errno;
    }
    if (plan->die_with_thread) {
        if (syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) {
            return errno;
        }
        if (syscall(SYS_getppid) != plan->parent) {
            return ESRCH; /* the host has died: nobody will read this */
        }
    }
    return 0;
}

UNWATCHED static int child_limit(int resource, uint64_t soft, uint64_t hard)
{
    const uint64_t limit[2] = {soft, hard}; /* the kernel's struct rlimit64 */

    return syscall(SYS_prlimit64, 0, resource, limit, NULL) < 0 ? errno : 0;
}

UNWATCHED static int child_limits(struct tr__spawn_plan *plan)
{
    int error = 0;

    plan->stage = TR__SPAWN_LIMITS;
    if (plan->nice != 0) {
        long nice = NICE_ZERO - syscall(SYS_getpriority, PRIO_PROCESS, 0) + plan->nice;
        nice = nice < NICE_LEAST ? NICE_LEAST : nice > NICE_MOST ? NICE_MOST : nice;
        if (syscall(SYS_setpriority, PRIO_PROCESS, 0, nice) < 0) {
            return errno;
        }
    }
    if (plan->mark != 0) {
        (void)child_limit(RLIMIT_LOCKS, plan->mark, plan->mark); /* the environment has it too */
    }
    if (plan->tree_limits.memory_bytes_max != 0) {
        uint64_t bytes = plan->tree_limits.memory_bytes_max;
        error = child_limit(RLIMIT_AS, bytes, bytes);
    }
    if (error == 0 && plan->tree_limits.processes_max != 0) {
        uint64_t count = plan->tree_limits.processes_max;
        error = child_limit(RLIMIT_NPROC, count, count);
    }
    for (size_t index = 0; error == 0 && index < plan->limits_count; index++) {
        const tr_process_limit *limit = &plan->limits[index];
        error = child_limit(limit->resource, limit->soft, limit->hard);
    }
    return error;
}

UNWATCHED static int child_prepare(struct tr__spawn_plan *plan)
{
    if (plan->join_fd >= 0) {
        plan->stage = TR__SPAWN_TREE;
        if (syscall(SYS_write, plan->join_fd, "0", 1) < 0) {
            return errno;
        }
    }
    int error = child_session(plan);
    if (error != 0) {
        return error;
    }
    plan->stage = TR__SPAWN_DESCRIPTORS;
    error = child_descriptors(plan);
    if (error != 0) {
        return error;
    }
    if (plan->terminal_fd > 0) {
        plan->stage = TR__SPAWN_TERMINAL;
        if (syscall(SYS_ioctl, 0, TIOCSCTTY, 0) < 0) {
            return errno;
        }
    }
    if (plan->set_file_mask) {
        (void)syscall(SYS_umask, plan->file_mask); /* cannot fail */
    }
    if (plan->directory != NULL) {
        plan->stage = TR__SPAWN_DIRECTORY;
        plan->failed_what = plan->directory;
        if (syscall(SYS_chdir, plan->directory) < 0) {
            return errno;
        }
        plan->failed_what = NULL;
    }
    error = child_limits(plan);
    if (error != 0) {
        return error;
    }
    child_signals();
    return 0;
}

/* The child's whole life in this program. */
UNWATCHED int tr__spawn_become(void *argument)
{
    struct tr__spawn_plan *plan = argument;

    plan->begun = true;
    int error = child_prepare(plan);

    if (error == 0) {
        error = child_execute_any(plan);
    }
    plan->error = error;
    (void)syscall(SYS_exit_group, 127);
    return 127;
}
