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
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <toolring/process.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "engine/call.h"
#include "engine/engine.h"
#include "tools/io.h"
#include "tools/spawn.h"
#include "tools/terminal.h"

/* A spawn under way, on the stack of the function that waits for it. */
struct starting {
    struct tr__spawn spawn;
    struct tr__io *io;
    uint64_t watch_ns; /* 0: come back at once */
};

/* Spawner thread, or the caller's own. */
static void spawned(struct tr__spawn *spawn)
{
    struct starting *starting = TR__CONTAINER_OF(spawn, struct starting, spawn);

    if (spawn->error == 0 && starting->watch_ns > 0) {
        tr__io_poll_begun(starting->io, spawn->process_fd, POLLIN,
                          tr__clock_after(tr__clock_now(), starting->watch_ns));
    } else {
        tr__io_finish(starting->io);
    }
}

/* Everything but the streams. */
static void fill(struct tr__spawn *spawn, const tr_call *call, const tr_process_spec *spec)
{
    uint32_t flags = spec->flags;

    *spawn = (struct tr__spawn){
        .argv = spec->argv,
        .shell = spec->shell,
        .directory = spec->directory,
        .environment = spec->environment,
        .clear_environment = (flags & TR_PROCESS_CLEAR_ENVIRONMENT) != 0,
        .merge_error = (flags & TR_PROCESS_MERGE_ERROR) != 0,
        .want_input = spec->input.size > 0 || (flags & TR_PROCESS_OPEN_INPUT) != 0,
        .set_file_mask = (flags & TR_PROCESS_FILE_MASK) != 0,
        .file_mask = (mode_t)spec->file_mask,
        .nice = spec->nice,
        .limits = spec->limits,
        .limits_count = spec->limits_count,
        .tree_limits = {spec->memory_bytes_max, spec->cpu_percent_max, spec->processes_max},
        .lifetime = spec->lifetime,
        .trees = call->engine->trees,
        .done = spawned,
    };
}

/* Returns spawn.error. */
static int await_spawn(tr_call *call, struct starting *starting, tr_io *io)
{
    tr_io *const ios[] = {io};
    tr_io *done;

    starting->io = tr__io_of(io);
    tr__io_begin(call, starting->io);
    tr__call_spawn(call, &starting->spawn);
    int error = tr_io_wait_for(call, TR_IO_SHIELD, ios, 1, &done);
    TR_ASSERT(error == 0); /* it was under way, and a shielded wait ends with it */
    return starting->spawn.error;
}

int tr__child_spawn(tr_call *call, const tr_process_spec *spec, tr_io *exit, uint64_t watch_ns,
                    tr_child *ret_child)
{
    struct starting starting = {.watch_ns = exit != NULL ? watch_ns : 0};
    struct tr__spawn *spawn = &starting.spawn;
    tr_io own;
    int master = -1;
    int slave = -1;
    int error = 0;

    fill(spawn, call, spec);
    if ((spec->flags & TR_PROCESS_TERMINAL) != 0) {
        error = tr__terminal_open(spec->terminal_rows, spec->terminal_columns, &master, &slave);
        spawn->terminal_fd = slave;
        spawn->merge_error = false;
        spawn->want_input = false;
    }
    if (error == 0) {
        error = await_spawn(call, &starting, exit != NULL ? exit : &own);
    }
    tr__descriptor_close(&slave);
    if (error < 0) {
        tr__descriptor_close(&master);
        return error;
    }
    TR_ASSERT(spawn->pid > 0 && spawn->process_fd >= 0 && spawn->tree != NULL);
    *ret_child = (tr_child){.pid = spawn->pid,
                            .process_fd = spawn->process_fd,
                            .input_fd = spawn->input_fd,
                            .output_fd = master >= 0 ? master : spawn->output_fd,
                            .error_fd = spawn->error_fd,
                            .owner = spawn->tree};
    return 0;
}

int tr_spawn(tr_call *call, const tr_process_spec *spec, tr_child *ret_child)
{
    if (call == NULL || ret_child == NULL || !tr__process_is_valid(spec) ||
        spec->lifetime == TR_PROCESS_LIFETIME_SESSION ||
        spec->lifetime == TR_PROCESS_LIFETIME_MANAGER) {
        return TR_EINVAL;
    }
    if (tr__call_is_cancelled(call)) {
        return TR_ECANCELED;
    }
    return tr__child_spawn(call, spec, NULL, 0, ret_child);
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

int tr__child_collect(const tr_child *child, int *ret_status, struct rusage *ret_usage)
{
    siginfo_t info;

    memset(ret_usage, 0, sizeof *ret_usage);
    int error = wait_on(child->process_fd, WEXITED | WNOHANG, &info, ret_usage);
    if (error == 0 && info.si_pid == 0) {
        return TR_EAGAIN;
    }
    *ret_status = status_of(&info);
    return error;
}

static void empty(struct tr__engine *engine, tr_child *child)
{
    tr__call_reaped(engine);
    tr__descriptor_close(&child->input_fd);
    tr__descriptor_close(&child->output_fd);
    tr__descriptor_close(&child->error_fd);
    tr__descriptor_close(&child->process_fd);
    child->pid = 0;
    child->owner = NULL;
}

void tr__child_close(tr_call *call, tr_child *child)
{
    empty(call->engine, child);
}

int tr_child_reap(tr_child *child, int *ret_status, struct rusage *ret_usage)
{
    struct rusage usage;
    int status;

    if (child == NULL || child->pid <= 0 || child->process_fd < 0 || child->owner == NULL) {
        return TR_EINVAL;
    }
    int error = tr__child_collect(child, &status, &usage);
    if (error < 0 && error != -ECHILD) {
        return error;
    }
    struct tr__tree *tree = child->owner;
    struct tr__engine *engine = tr__tree_context(tree);
    tr__tree_close(tree); /* before the pidfd; kills what lives of it, unless it is a daemon */
    empty(engine, child);
    if (error < 0) {
        return error;
    }
    if (ret_status != NULL) {
        *ret_status = status;
    }
    if (ret_usage != NULL) {
        *ret_usage = usage;
    }
    return 0;
}
