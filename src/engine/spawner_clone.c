/*
 * spawner_clone.c: from a plan to a running program, without fork.
 *
 * Owner: the spawning thread, which the kernel suspends until the child executes its program.
 * Called by spawner.c; calls spawner_child in the child, the kernel.
 *
 * The child borrows the parent's memory on a stack of its own (CLONE_VM | CLONE_VFORK), so the size
 * of the host does not matter. Four ways, by what there is and what is allowed:
 *     clone3 with CLONE_INTO_CGROUP   a leaf is there: the child is born in it
 *     clone, then "0" into the leaf   the same where clone3 is refused; before it executes anything
 *     clone                           no leaf
 *     posix_spawn                     clone is refused as well (a filter, an emulator); without
 *                                     PR_SET_PDEATHSIG and umask, limits come a moment late
 *
 *  1. A failed child is reaped here; a successful one is its requester's.
 *  2. What a way was refused for in principle is remembered by the process; what fails for this
 *     child is its own error. A leaf that takes nobody in fails with the stage TR__SPAWN_TREE,
 *     before the program began: the spawner tries again elsewhere. (After posix_spawn it has begun,
 *     and is not begun twice: it is killed, and `executed` says that it may have left others.)
 *  3. Killed before its first step (the kernel wants memory, say), a child is tried again, another
 *     way or the same; several in a row close the way through clone3: Linux 6.14 and on kill all
 *     that is cloned into a leaf when our own cgroup was once killed and lives on.
 *  4. clone3's child begins on an empty stack: in the middle of the system call's own assembly, so
 *     that no instruction of the compiler's touches the parent's frame there.
 *
 * Cost: about 0.3 to 0.5 ms for a dynamic program, most of it exec; the thread is blocked then.
 * Rejected: fork (17 a second under a host of 2 GiB against 2000); clone3 always (the same in the
 * kernel, but refused by older container profiles, which cannot look into its argument, and libc
 * exports no wrapper that gives it a stack).
 */
#include "engine/spawner_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/atomic.h"

/* ThreadSanitizer takes every clone for a fork and tidies up in the child, that is, in our memory.
 * libc's own name for it goes past that. */
#if defined(TR__WITH_TSAN)
int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);
#define clone __clone
#endif

/* Children in a row that may be killed before their first step. */
#define STILLBORN_MAX 3u

static tr__atomic_u32 clone3_refused;   /* 1: use clone; written by whoever finds out */
static tr__atomic_u32 clone3_stillborn; /* in a row; likewise */
static tr__atomic_u32 clone_refused;    /* 1: use posix_spawn; likewise */

/* clone3, whose child calls tr__spawn_become(plan) on the stack that `arguments` names. */
#if defined(__x86_64__) && defined(__LP64__)
static long clone3_become(struct clone_args *arguments, struct tr__spawn_plan *plan)
{
    long result = SYS_clone3;
    register void *context __asm__("r8") = plan; /* named: what runs in between uses others */
    register int (*become)(void *) __asm__("r9") = tr__spawn_become;

    __asm__ volatile("syscall\n\t"
                     "testq %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xorl %%ebp, %%ebp\n\t" /* the outermost frame, for who walks the stack */
                     "movq %%r8, %%rdi\n\t"
                     "callq *%%r9\n\t" /* the stack is aligned by 16 here */
                     "ud2\n"
                     "1:"
                     : "+a"(result)
                     : "D"(arguments), "S"(sizeof *arguments), "r"(context), "r"(become)
                     : "rcx", "r11", "memory", "cc");
    return result;
}
#elif defined(__aarch64__)
static long clone3_become(struct clone_args *arguments, struct tr__spawn_plan *plan)
{
    register long number __asm__("x8") = SYS_clone3;
    register long result __asm__("x0") = (long)(uintptr_t)arguments;
    register size_t size __asm__("x1") = sizeof *arguments;
    register void *context __asm__("x2") = plan;
    register int (*become)(void *) __asm__("x3") = tr__spawn_become;

    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t" /* the outermost frame, for who walks the stack */
                     "mov x30, xzr\n\t"
                     "mov x0, x2\n\t"
                     "blr x3\n\t"
                     "brk #1\n"
                     "1:"
                     : "+r"(result)
                     : "r"(number), "r"(size), "r"(context), "r"(become)
                     : "x30", "memory", "cc");
    return result;
}
#else
static long clone3_become(struct clone_args *arguments, struct tr__spawn_plan *plan)
{
    (void)arguments;
    (void)plan;
    return -ENOSYS; /* the ways that libc offers will do */
}
#endif

/* Waits for a child that has ended or is about to. Its status; that of a killed one if the host was
 * quicker (ECHILD). */
static int reap(pid_t pid)
{
    int status = SIGKILL;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        /* a signal handler of the host's ran: wait on */
    }
    return status;
}

/* What became of a clone. */
static int cloned(struct tr__spawn_plan *plan, long pid, int process_fd, pid_t *ret_pid,
                  int *ret_process_fd)
{
    if (pid < 0) {
        return (int)pid;
    }
    if (plan->error != 0 || !plan->begun) {
        int status = reap((pid_t)pid);
        (void)close(process_fd);
        if (plan->begun) {
            return -plan->error;
        }
        return WIFSIGNALED(status) ? -ECANCELED : -ENOSYS; /* an emulator: not our memory */
    }
    plan->executed = true;
    *ret_pid = (pid_t)pid;
    *ret_process_fd = process_fd;
    return 0;
}

static int start_by_clone3(struct tr__spawn_plan *plan, void *stack, pid_t *ret_pid,
                           int *ret_process_fd)
{
    int process_fd = -1;
    struct clone_args arguments = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_INTO_CGROUP,
        .pidfd = (uintptr_t)&process_fd,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)stack,
        .stack_size = TR__SPAWN_STACK_BYTES,
        .cgroup = (unsigned)plan->directory_fd,
    };
    long pid = clone3_become(&arguments, plan);

    return cloned(plan, pid, process_fd, ret_pid, ret_process_fd);
}

static int start_by_clone(struct tr__spawn_plan *plan, void *stack, pid_t *ret_pid,
                          int *ret_process_fd)
{
    int process_fd = -1;
    long pid = clone(tr__spawn_become, (char *)stack + TR__SPAWN_STACK_BYTES,
                     CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, plan, &process_fd);

    return cloned(plan, pid < 0 ? -errno : pid, process_fd, ret_pid, ret_process_fd);
}

/* The three descriptors of the child as file actions. Returns 0 or errno. */
static int describe_descriptors(const struct tr__spawn_plan *plan,
                                posix_spawn_file_actions_t *actions)
{
    char terminal[64];
    int error;

    if (plan->terminal_fd > 0) {
        /* Opened by the leader of a session without a terminal, it becomes that. */
        error = ttyname_r(plan->terminal_fd, terminal, sizeof terminal);
        for (int fd = 0; error == 0 && fd <= STDERR_FILENO; fd++) {
            error = posix_spawn_file_actions_addopen(actions, fd, terminal, O_RDWR, 0);
        }
        return error;
    }
    error = plan->input_fd < 0
                ? posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0)
                : posix_spawn_file_actions_adddup2(actions, plan->input_fd, 0);
    if (error == 0) {
        error = posix_spawn_file_actions_adddup2(actions, plan->output_fd, 1);
    }
    if (error == 0) {
        error = posix_spawn_file_actions_adddup2(actions, plan->error_fd, 2);
    }
    return error;
}

/* The file actions and attributes of posix_spawn that say the same as tr__spawn_become. */
static int describe(const struct tr__spawn_plan *plan, posix_spawn_file_actions_t *actions,
                    posix_spawnattr_t *attributes)
{
    sigset_t all;
    sigset_t none;

    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    int error = describe_descriptors(plan, actions);
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
static int spawn_any(struct tr__spawn_plan *plan, const posix_spawn_file_actions_t *actions,
                     const posix_spawnattr_t *attributes, pid_t *ret_pid)
{
    const char *forbidden = NULL;
    int error = ENOENT;

    plan->stage = TR__SPAWN_EXECUTE; /* as far as posix_spawn tells */
    for (char **candidate = plan->candidates; *candidate != NULL; candidate++) {
        struct timespec pause = {0, TR__SPAWN_BUSY_NS};
        plan->failed_what = *candidate;
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
        if (!tr__spawn_goes_on(error)) {
            return error;
        }
        forbidden = error == EACCES ? *candidate : forbidden;
    }
    plan->failed_what = forbidden != NULL ? forbidden : plan->arguments[0];
    return forbidden != NULL ? EACCES : error;
}

static int limit_of(pid_t pid, int resource, uint64_t soft, uint64_t hard)
{
    const uint64_t limit[2] = {soft, hard}; /* the kernel's struct rlimit64 */

    return syscall(SYS_prlimit64, pid, resource, limit, NULL) < 0 ? -errno : 0;
}

/* What posix_spawn has no words for, done to the running program. Returns 0 or a negative errno. */
static int adjust(struct tr__spawn_plan *plan, pid_t pid)
{
    const struct tr__tree_limits *limits = &plan->tree_limits;
    char number[16];
    int error = 0;

    plan->stage = TR__SPAWN_TREE;
    if (plan->join_fd >= 0) {
        int length = snprintf(number, sizeof number, "%ld", (long)pid);
        if (write(plan->join_fd, number, (size_t)length) < 0) {
            return -errno;
        }
    }
    plan->stage = TR__SPAWN_LIMITS;
    if (plan->mark != 0) {
        (void)limit_of(pid, RLIMIT_LOCKS, plan->mark, plan->mark); /* its environment says it too */
    }
    if (plan->nice != 0 &&
        setpriority(PRIO_PROCESS, (id_t)pid, getpriority(PRIO_PROCESS, 0) + plan->nice) < 0) {
        return -errno;
    }
    if (limits->memory_bytes_max != 0) {
        error = limit_of(pid, RLIMIT_AS, limits->memory_bytes_max, limits->memory_bytes_max);
    }
    if (error == 0 && limits->processes_max != 0) {
        error = limit_of(pid, RLIMIT_NPROC, limits->processes_max, limits->processes_max);
    }
    for (size_t index = 0; error == 0 && index < plan->limits_count; index++) {
        const tr_process_limit *limit = &plan->limits[index];
        error = limit_of(pid, limit->resource, limit->soft, limit->hard);
    }
    return error;
}

static int posix_spawn_described(struct tr__spawn_plan *plan, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) {
        return -error;
    }
    error = posix_spawnattr_init(&attributes);
    if (error == 0) {
        error = describe(plan, &actions, &attributes);
        if (error == 0) {
            error = spawn_any(plan, &actions, &attributes, ret_pid);
        }
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return -error;
}

static int start_by_posix_spawn(struct tr__spawn_plan *plan, pid_t *ret_pid, int *ret_process_fd)
{
    pid_t pid = 0;

    if (plan->set_file_mask) {
        plan->stage = TR__SPAWN_LIMITS;
        return -ENOTSUP;
    }
    int error = posix_spawn_described(plan, &pid);
    if (error != 0) {
        return error;
    }
    plan->executed = true;
    int process_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    error = process_fd < 0 ? -errno : adjust(plan, pid);
    if (error == -ESRCH) {
        error = 0; /* it was quick: it has ended */
    }
    if (error != 0) {
        (void)kill(-pid, SIGKILL); /* its whole group; it cannot have been reaped by us */
        (void)reap(pid);
        if (process_fd >= 0) {
            (void)close(process_fd);
        }
        return error;
    }
    *ret_pid = pid;
    *ret_process_fd = process_fd;
    return 0;
}

/* Whether a way is closed for good; the program's own such error comes with plan->error. */
static bool is_refusal(const struct tr__spawn_plan *plan, int error)
{
    return (error == -EPERM || error == -ENOSYS || error == -EINVAL) && plan->error == 0;
}

/* Whether the child was killed before its first step. */
static bool is_stillborn(const struct tr__spawn_plan *plan, int error)
{
    return error == -ECANCELED && !plan->begun;
}

/* Whether another way may do what clone3 could not: all but the want of room. */
static bool is_cgroup_error(const struct tr__spawn_plan *plan, int error)
{
    return error < 0 && plan->error == 0 && error != -EAGAIN && error != -ENOMEM &&
           error != -EMFILE && error != -ENFILE;
}

/* The leaf's cgroup.procs, for ways that cannot be born there. Returns 0 or a negative errno. */
static int open_join(struct tr__spawn_plan *plan)
{
    plan->stage = TR__SPAWN_TREE;
    plan->join_fd = openat(plan->directory_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (plan->join_fd < 0) {
        return -errno;
    }
    plan->stage = TR__SPAWN_CLONE;
    return 0;
}

/* Born in the leaf. Whether that is all there is to try: *ret_error says how it went. */
static bool start_in_leaf(struct tr__spawn_plan *plan, void *stack, pid_t *ret_pid,
                          int *ret_process_fd, int *ret_error)
{
    /* relaxed: these words are hints that save a failing call */
    if (tr__load_relaxed(&clone3_refused) != 0) {
        return false;
    }
    int error = start_by_clone3(plan, stack, ret_pid, ret_process_fd);
    bool stillborn = is_stillborn(plan, error);
    if (!stillborn && tr__load_relaxed(&clone3_stillborn) != 0) {
        tr__store_relaxed(&clone3_stillborn, 0u);
    }
    if (is_refusal(plan, error) ||
        (stillborn && tr__fetch_add_relaxed(&clone3_stillborn, 1u) + 1 >= STILLBORN_MAX)) {
        tr__store_relaxed(&clone3_refused, 1u);
    }
    *ret_error = error;
    return !is_cgroup_error(plan, error);
}

/* Born where we are; it goes to its leaf by itself, if it has one. */
static int start_here(struct tr__spawn_plan *plan, void *stack, pid_t *ret_pid, int *ret_process_fd)
{
    unsigned births = 0;

    while (tr__load_relaxed(&clone_refused) == 0) { /* relaxed: as above */
        int error = start_by_clone(plan, stack, ret_pid, ret_process_fd);
        if (is_refusal(plan, error)) {
            tr__store_relaxed(&clone_refused, 1u);
        } else if (!is_stillborn(plan, error)) {
            return error;
        } else if (++births == STILLBORN_MAX) {
            return -EAGAIN; /* there is no room for processes */
        }
    }
    return start_by_posix_spawn(plan, ret_pid, ret_process_fd);
}

/* All signals are blocked. */
static int start(struct tr__spawn_plan *plan, void *stack, pid_t *ret_pid, int *ret_process_fd)
{
    int error = 0;

    plan->error = 0;
    plan->begun = false;
    if (plan->directory_fd >= 0) {
        if (start_in_leaf(plan, stack, ret_pid, ret_process_fd, &error)) {
            return error;
        }
        error = open_join(plan);
        if (error != 0) {
            return error;
        }
    }
    error = start_here(plan, stack, ret_pid, ret_process_fd);
    if (plan->join_fd >= 0) {
        (void)close(plan->join_fd);
        plan->join_fd = -1;
    }
    return error;
}

int tr__spawn_child(struct tr__spawn_plan *plan, void *stack, pid_t *ret_pid, int *ret_process_fd)
{
    sigset_t all;
    sigset_t before;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = start(plan, stack, ret_pid, ret_process_fd);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

bool tr__spawner_dies_with_host(void)
{
    return tr__load_relaxed(&clone_refused) == 0; /* a number to show */
}
