/*
 * spawn.c: starting a program, signalling its group, collecting it.
 *
 * Purpose: the parts of toolring/process.h that need the engine. Owner: tr_spawn the tool's thread;
 * the other two any. Called by tools and process; calls engine/call and the kernel.
 *
 * Invariants
 *  1. The request is on the tool's own stack: tr_spawn returns only when the spawner has done
 *     with it, cancelled or not. So there is never a child nobody knows of.
 *  2. Everything goes by the pidfd. It stays with its process whatever becomes of the number: a
 *     group is signalled by it where the kernel can (6.9), and a child is collected by it alone,
 *     so none of the host's is ever stolen.
 *  3. Older kernels signal the group by number. That is safe as long as the leader was not
 *     collected, and whether it was is asked before: a host that ignores SIGCHLD has its children
 *     vanish.
 *  4. errno is read in the function that made the system call, never across a wait.
 *
 * Rejected: waitpid (a number may be another's by then); a SIGCHLD handler (the host's own).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <toolring/process.h>

#include "base/assert.h"
#include "engine/call.h"
#include "engine/spawner.h"
#include "tools/io.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef PIDFD_SIGNAL_PROCESS_GROUP
#define PIDFD_SIGNAL_PROCESS_GROUP (1U << 2) /* Linux 6.9 */
#endif

#define FLAGS_ALL (TR_PROCESS_CLEAR_ENVIRONMENT | TR_PROCESS_MERGE_ERROR)
/* A spec of a later version may be longer, but not out of all proportion. */
#define SPEC_BYTES_MAX 4096u

/* Whether every byte this version does not know is zero. */
static bool is_tail_clear(const tr_process_spec *spec)
{
    const unsigned char *bytes = (const unsigned char *)spec;

    for (size_t at = sizeof *spec; at < spec->size; at++) {
        if (bytes[at] != 0) {
            return false;
        }
    }
    return true;
}

static bool is_environment_valid(const char *const *environment)
{
    for (; environment != NULL && *environment != NULL; environment++) {
        if (**environment == '\0' || **environment == '=') {
            return false;
        }
    }
    return true;
}

static bool is_valid(const tr_process_spec *spec)
{
    if (spec == NULL || spec->size < sizeof *spec || spec->size > SPEC_BYTES_MAX ||
        !is_tail_clear(spec) || (spec->flags & ~FLAGS_ALL) != 0 || spec->reserved != 0) {
        return false;
    }
    if ((spec->argv == NULL) == (spec->shell == NULL)) {
        return false;
    }
    if (spec->argv != NULL && (spec->argv[0] == NULL || spec->argv[0][0] == '\0')) {
        return false;
    }
    if (spec->directory != NULL && spec->directory[0] == '\0') {
        return false;
    }
    return (spec->input.data != NULL || spec->input.size == 0) &&
           is_environment_valid(spec->environment);
}

/* Spawner thread, or the caller's own. */
static void spawned(struct tr__spawn *spawn)
{
    tr__io_finish(spawn->owner);
}

int tr_spawn(tr_call *call, const tr_process_spec *spec, tr_child *ret_child)
{
    tr_io waiter;
    tr_io *const waiters[] = {&waiter};
    tr_io *done;

    if (call == NULL || ret_child == NULL || !is_valid(spec)) {
        return TR_EINVAL;
    }
    if (tr__call_is_cancelled(call)) {
        return TR_ECANCELED;
    }
    struct tr__spawn spawn = {
        .argv = spec->argv,
        .shell = spec->shell,
        .directory = spec->directory,
        .environment = spec->environment,
        .clear_environment = (spec->flags & TR_PROCESS_CLEAR_ENVIRONMENT) != 0,
        .merge_error = (spec->flags & TR_PROCESS_MERGE_ERROR) != 0,
        .want_input = spec->input.size > 0,
        .done = spawned,
        .owner = tr__io_of(&waiter),
    };
    tr__io_begin(call, tr__io_of(&waiter));
    tr__call_spawn(call, &spawn);
    int error = tr_io_wait_for(call, TR_IO_SHIELD, waiters, 1, &done);
    TR_ASSERT(error == 0); /* it was under way, and a shielded wait ends with it */
    if (spawn.error < 0) {
        return spawn.error;
    }
    TR_ASSERT(spawn.pid > 0 && spawn.process_fd >= 0);
    *ret_child = (tr_child){.pid = spawn.pid,
                            .process_fd = spawn.process_fd,
                            .input_fd = spawn.input_fd,
                            .output_fd = spawn.output_fd,
                            .error_fd = spawn.error_fd,
                            .owner = call->engine};
    return 0;
}

/* waitid by pidfd, which fills the usage as glibc's does not. 0 or a negated errno. */
static int wait_on(int process_fd, int options, siginfo_t *ret_info, struct rusage *ret_usage)
{
    long result;

    memset(ret_info, 0, sizeof *ret_info);
    do {
        result = syscall(SYS_waitid, P_PIDFD, process_fd, ret_info, options, ret_usage);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

int tr_child_signal(const tr_child *child, int signal_number)
{
    siginfo_t info;

    if (child == NULL || child->pid <= 0 || child->process_fd < 0 || signal_number < 0 ||
        signal_number >= NSIG) {
        return TR_EINVAL;
    }
    if (syscall(SYS_pidfd_send_signal, child->process_fd, signal_number, NULL,
                PIDFD_SIGNAL_PROCESS_GROUP) == 0) {
        return 0;
    }
    if (errno == ESRCH) {
        return -ESRCH;
    }
    if (wait_on(child->process_fd, WEXITED | WNOHANG | WNOWAIT, &info, NULL) < 0) {
        return -ESRCH; /* collected behind our back: the number is no longer ours */
    }
    return kill(-child->pid, signal_number) == 0 ? 0 : -errno;
}

/* The status as waitpid(2) would give it. */
static int status_of(const siginfo_t *info)
{
    if (info->si_code == CLD_EXITED) {
        return (info->si_status & 0xFF) << 8;
    }
    return (info->si_status & 0x7F) | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

static void close_one(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* the descriptor is gone whatever it answers, and nothing was written */
        *fd = -1;
    }
}

int tr_child_reap(tr_child *child, int *ret_status, struct rusage *ret_usage)
{
    struct rusage usage;
    siginfo_t info;

    if (child == NULL || child->pid <= 0 || child->process_fd < 0 || child->owner == NULL) {
        return TR_EINVAL;
    }
    memset(&usage, 0, sizeof usage);
    int error = wait_on(child->process_fd, WEXITED | WNOHANG, &info, &usage);
    if (error == 0 && info.si_pid == 0) {
        return TR_EAGAIN;
    }
    if (error < 0 && error != -ECHILD) {
        return error;
    }
    tr__call_reaped(child->owner);
    close_one(&child->input_fd);
    close_one(&child->output_fd);
    close_one(&child->error_fd);
    close_one(&child->process_fd);
    child->pid = 0;
    child->owner = NULL;
    if (error < 0) {
        return error;
    }
    if (ret_status != NULL) {
        *ret_status = status_of(&info);
    }
    if (ret_usage != NULL) {
        *ret_usage = usage;
    }
    return 0;
}
