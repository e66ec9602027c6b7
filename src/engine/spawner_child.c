/*
 * spawner_child.c: from a plan to a running program, without fork.
 *
 * Owner: the spawning thread, which the kernel suspends meanwhile, and the child. Called by
 * spawner.c; calls the kernel.
 *
 * clone with CLONE_VM | CLONE_VFORK | CLONE_PIDFD: the child borrows the parent's memory on a
 * stack of its own until it executes its program, so the size of the host does not matter.
 *
 *  1. The child makes raw system calls and writes to its stack, errno (its parent's, who sleeps)
 *     and plan->error, nothing else: no allocation, no locks, no stdio. It is compiled without
 *     sanitizers, and libc's wrappers are avoided where a sanitizer would intercept them and note
 *     the child's doings as its parent's (sigaction is the bad one).
 *  2. Signals are all blocked from before the clone until every handler has been reset in the
 *     child: a handler of the host's must never run on borrowed memory.
 *  3. Descriptors of the plan are 3 or higher, so that putting them to 0, 1 and 2 overwrites none.
 *     Everything else is close-on-exec: ours by birth, the host's by close_range.
 *  4. PR_SET_PDEATHSIG fires when the spawning *thread* ends, so it is for immortal ones only. The
 *     parent may have died before it was set: then getppid tells.
 *  5. A failed child is reaped here; a successful one is its requester's.
 *
 * Where clone is refused (EPERM, ENOSYS, EINVAL: a seccomp filter, an emulator), posix_spawn does
 * it from then on, without PR_SET_PDEATHSIG.
 * Cost: about 0.5 ms for a dynamic program, most of it exec; the thread is blocked all the while.
 * Rejected: fork (17 a second under a host of 2 GiB against 2000); clone3 (the same in the kernel,
 * but refused by older container profiles, which cannot look into its argument, and libc exports
 * no wrapper that gives it a stack); close-on-exec for each descriptor (thousands of calls).
 */
#include "engine/spawner_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/atomic.h"

#define SIGNALS (_NSIG - 1)
/* Bytes of the kernel's signal set. */
#define SIGNAL_SET_BYTES (_NSIG / 8)

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#if defined(__clang__)
#define UNWATCHED __attribute__((no_sanitize("address", "thread", "undefined"), noinline))
#else
#define UNWATCHED                                                                                  \
    __attribute__((no_sanitize_address, no_sanitize_thread, no_sanitize_undefined, noinline))
#endif

/* ThreadSanitizer takes every clone for a fork and tidies up in the child, that is, in our memory.
 * libc's own name for it goes past that. */
#if defined(TR__WITH_TSAN)
int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);
#define clone __clone
#endif

static tr__atomic_u32 clone_refused; /* 1: use posix_spawn; written by whoever finds out */

/* Whether an exec that failed so leaves hope for the next candidate. */
UNWATCHED static bool goes_on(int error)
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
UNWATCHED static int child_execute_any(const struct tr__spawn_plan *plan)
{
    bool forbidden = false;
    int error = ENOENT;

    for (char **candidate = plan->candidates; *candidate != NULL; candidate++) {
        error = child_execute(*candidate, plan->arguments, plan->environment);
        if (error == ENOEXEC) {
            plan->shell_arguments[1] = *candidate;
            return child_execute(plan->shell_arguments[0], plan->shell_arguments,
                                 plan->environment);
        }
        if (!goes_on(error)) {
            return error;
        }
        forbidden = forbidden || error == EACCES;
    }
    return forbidden ? EACCES : error;
}

UNWATCHED static int child_prepare(const struct tr__spawn_plan *plan)
{
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
    int error = child_descriptors(plan);
    if (error != 0) {
        return error;
    }
    if (plan->directory != NULL && syscall(SYS_chdir, plan->directory) < 0) {
        return errno;
    }
    child_signals();
    return 0;
}

/* The child's whole life in this program. */
UNWATCHED static int child(void *argument)
{
    struct tr__spawn_plan *plan = argument;
    int error = child_prepare(plan);

    if (error == 0) {
        error = child_execute_any(plan);
    }
    plan->error = error;
    (void)syscall(SYS_exit_group, 127);
    return 127;
}

/* Waits for a child that has ended or is about to; the host may have been quicker (ECHILD). */
static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        /* a signal handler of the host's ran: wait on */
    }
}

static int start_by_clone(struct tr__spawn_plan *plan, void *stack, pid_t *ret_pid,
                          int *ret_process_fd)
{
    int process_fd = -1;

    plan->error = 0;
    pid_t pid = clone(child, (char *)stack + TR__SPAWN_STACK_BYTES,
                      CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, plan, &process_fd);
    if (pid < 0) {
        return -errno;
    }
    if (plan->error != 0) {
        reap(pid);
        (void)close(process_fd);
        return -plan->error;
    }
    *ret_pid = pid;
    *ret_process_fd = process_fd;
    return 0;
}

/* The file actions and attributes of posix_spawn that say the same as child_prepare. */
static int describe(const struct tr__spawn_plan *plan, posix_spawn_file_actions_t *actions,
                    posix_spawnattr_t *attributes)
{
    sigset_t all;
    sigset_t none;
    int error;

    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    error = plan->input_fd < 0
                ? posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0)
                : posix_spawn_file_actions_adddup2(actions, plan->input_fd, 0);
    if (error == 0) {
        error = posix_spawn_file_actions_adddup2(actions, plan->output_fd, 1);
    }
    if (error == 0) {
        error = posix_spawn_file_actions_adddup2(actions, plan->error_fd, 2);
    }
    if (error == 0 && plan->directory != NULL) {
        error = posix_spawn_file_actions_addchdir_np(actions, plan->directory);
    }
#if __GLIBC_PREREQ(2, 34)
    if (error == 0) {
        error = posix_spawn_file_actions_addclosefrom_np(actions, 3);
    }
#endif
    if (error == 0) {
        error = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                         POSIX_SPAWN_SETSIGDEF);
    }
    (void)posix_spawnattr_setsigdefault(attributes, &all); /* cannot fail: they copy */
    (void)posix_spawnattr_setsigmask(attributes, &none);
    return error;
}

/* child_execute_any by posix_spawn. Returns 0 or errno. */
static int spawn_any(const struct tr__spawn_plan *plan, const posix_spawn_file_actions_t *actions,
                     const posix_spawnattr_t *attributes, pid_t *ret_pid)
{
    bool forbidden = false;
    int error = ENOENT;

    for (char **candidate = plan->candidates; *candidate != NULL; candidate++) {
        struct timespec pause = {0, TR__SPAWN_BUSY_NS};
        for (unsigned attempt = 1; attempt <= TR__SPAWN_BUSY_ATTEMPTS; attempt++) {
            error = posix_spawn(ret_pid, *candidate, actions, attributes, plan->arguments,
                                plan->environment);
            if (error != ETXTBSY) {
                break;
            }
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
            pause.tv_nsec *= 2;
        }
        if (error == ENOEXEC) {
            plan->shell_arguments[1] = *candidate;
            return posix_spawn(ret_pid, plan->shell_arguments[0], actions, attributes,
                               plan->shell_arguments, plan->environment);
        }
        if (!goes_on(error)) {
            return error;
        }
        forbidden = forbidden || error == EACCES;
    }
    return forbidden ? EACCES : error;
}

static int start_by_posix_spawn(const struct tr__spawn_plan *plan, pid_t *ret_pid,
                                int *ret_process_fd)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    pid_t pid = 0;

    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) {
        return -error;
    }
    error = posix_spawnattr_init(&attributes);
    if (error != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return -error;
    }
    error = describe(plan, &actions, &attributes);
    if (error == 0) {
        error = spawn_any(plan, &actions, &attributes, &pid);
    }
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        return -error;
    }
    int process_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process_fd < 0) {
        error = errno;
        (void)kill(-pid, SIGKILL); /* its whole group; it cannot have been reaped by us */
        reap(pid);
        return -error;
    }
    *ret_pid = pid;
    *ret_process_fd = process_fd;
    return 0;
}

int tr__spawn_child(struct tr__spawn_plan *plan, void *stack, pid_t *ret_pid, int *ret_process_fd)
{
    sigset_t all;
    sigset_t before;
    int error = -ENOSYS;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    /* relaxed: a hint that saves a failing call */
    bool refused = tr__load_relaxed(&clone_refused) != 0;
    if (!refused) {
        error = start_by_clone(plan, stack, ret_pid, ret_process_fd);
        /* The program's own EPERM or EINVAL comes with plan->error. */
        refused = (error == -EPERM || error == -ENOSYS || error == -EINVAL) && plan->error == 0;
    }
    if (refused) {
        tr__store_relaxed(&clone_refused, 1u); /* as above */
        error = start_by_posix_spawn(plan, ret_pid, ret_process_fd);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}
