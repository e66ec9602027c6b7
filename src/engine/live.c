/*
 * live.c: see live.h.
 *
 * Owner thread: any. The tool's: attach, start, input_written, stop, end; host threads: find and
 * the rest. Called by process, host/streams; calls capture, settle.
 *
 * Invariants
 *  1. The task's pointer to it (the cold record's attachment) changes and is followed under the
 *     lane's lock while the task has a hold; the last hold gone, it is the recycler's alone.
 *  2. `group` is 0 before its leader is reaped: until then its number cannot be another's. A host
 *     that ignores SIGCHLD has leaders vanish earlier: so the group is signalled by the pidfd
 *     (Linux 6.9), before that by number only while its leader was not collected.
 *  3. `input_fd` is closed under the mutex. Who waits for room in the pipe sleeps on a duplicate,
 *     and on `over_fd`, which whoever closes the input makes readable for good: so nobody waits for
 *     a program that is gone, and no duplicate stays for longer than the wake takes.
 *  4. A pipe's reader that is gone means EPIPE here, and no SIGPIPE for the host: it is blocked
 *     around the write, and taken away if the write has raised it.
 *
 * Complexity: O(1) but for the bytes copied. An input costs three system calls.
 *
 * Rejected: send(2) on a socket pair instead of a pipe (no SIGPIPE with MSG_NOSIGNAL, but programs
 * tell a socket from a pipe, and /dev/stdin cannot be opened again).
 */
#include "engine/live.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "base/memory.h"
#include "completion/settle.h"
#include "engine/call.h"
#include "engine/engine.h"

/* The end-of-file character of a terminal that does not tell: Control-D. */
#define END_OF_FILE 4

static void drop_attachment(struct tr__attachment *attachment)
{
    tr__live_drop(TR__CONTAINER_OF(attachment, struct tr__live, attachment));
}

struct tr__live *tr__live_open(void)
{
    struct tr__live *live = (struct tr__live *)tr__memory_take_zero(sizeof(*live));
    pthread_condattr_t attributes;

    if (live == NULL) {
        return NULL;
    }
    live->attachment.drop = drop_attachment;
    live->input_fd = -1;
    live->terminal_fd = -1;
    live->process_fd = -1;
    live->over_fd = -1;
    tr__store_relaxed(&live->references, 1u); /* nobody else knows it yet */
    for (unsigned i = 0; i < TR__LIVE_STREAMS; i++) {
        tr__capture_init(&live->streams[i], 1, TR_OVERFLOW_DROP);
        live->streams[i].ended = true;
    }
    /* Defaults and a clock that exists: none of these can fail on Linux. */
    (void)pthread_mutex_init(&live->mutex, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&live->input_changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return live;
}

void tr__live_hold(struct tr__live *live)
{
    /* relaxed: the caller has a reference already, or the lane's lock, so it cannot go meanwhile.
     */
    (void)tr__fetch_add_relaxed(&live->references, 1u);
}

void tr__live_drop(struct tr__live *live)
{
    /* acq_rel: the last one sees what all others did before they let go. */
    if (live == NULL || tr__fetch_sub_acq_rel(&live->references, 1u) != 1) {
        return;
    }
    for (unsigned i = 0; i < TR__LIVE_STREAMS; i++) {
        tr__capture_done(&live->streams[i]);
    }
    tr__descriptor_close(&live->input_fd);
    tr__descriptor_close(&live->over_fd);
    (void)pthread_cond_destroy(&live->input_changed); /* nobody uses it any more */
    (void)pthread_mutex_destroy(&live->mutex);
    tr__memory_give(live);
}

void tr__live_lock(struct tr__live *live)
{
    int error = pthread_mutex_lock(&live->mutex);
    TR_ASSERT(error == 0);
}

void tr__live_unlock(struct tr__live *live)
{
    int error = pthread_mutex_unlock(&live->mutex);
    TR_ASSERT(error == 0);
}

/* relaxed: the lane of a slot in use is fixed; of another, that shows in the id under the lock. */
static struct tr__lane *lane_of(struct tr__registry *registry, struct tr__task *task)
{
    return &registry->lanes[tr__load_relaxed(&task->lane)];
}

void tr__live_attach(struct tr_call *call, struct tr__live *live)
{
    struct tr__task *task = call->task;
    struct tr__registry *registry = &call->engine->completion->registry;
    struct tr__cold *cold = tr__registry_cold(registry, task);
    struct tr__lane *lane = lane_of(registry, task);
    struct tr__attachment *before = NULL;

    tr__live_hold(live);
    tr__lane_lock(lane);
    /* relaxed: for finders ordered by the lock, for the recycler by the function's hold. */
    if ((tr__load_relaxed(&task->flags) & TR__TASK_FLAG_ATTACHED) != 0) {
        before = cold->attachment;
    }
    cold->attachment = &live->attachment;
    (void)tr__fetch_or_relaxed(&task->flags, (uint8_t)TR__TASK_FLAG_ATTACHED);
    tr__lane_unlock(lane);
    if (before != NULL) {
        before->drop(before);
    }
}

/* Under the lane's lock. */
static int find(struct tr__engine *engine, struct tr__task *task, uint64_t id,
                struct tr__live **ret_live)
{
    if (!tr__task_look(task, id)) {
        return TR_ENOENT;
    }
    uint64_t word = tr__task_word(task);
    int error = TR_ESTATE;
    if (!tr__word_is_live(word) && (word & TR__TASK_HOLD_RESULT) == 0) {
        error = TR_ENOENT; /* released: only some thread of ours is not done with it yet */
    } else if ((tr__load_relaxed(&task->flags) & TR__TASK_FLAG_ATTACHED) != 0) {
        struct tr__cold *cold = tr__registry_cold(&engine->completion->registry, task);
        *ret_live = TR__CONTAINER_OF(cold->attachment, struct tr__live, attachment);
        tr__live_hold(*ret_live);
        error = 0;
    }
    tr__settle_drop(engine->completion, task, TR__TASK_HOLD_LOOK);
    return error;
}

int tr__live_find(struct tr__engine *engine, uint64_t id, struct tr__live **ret_live)
{
    struct tr__registry *registry = &engine->completion->registry;
    struct tr__task *task = tr__registry_task(registry, id);
    if (task == NULL) {
        return TR_ENOENT;
    }
    struct tr__lane *lane = lane_of(registry, task);
    tr__lane_lock(lane);
    int error =
        tr__registry_task(registry, id) == NULL ? TR_ENOENT : find(engine, task, id, ret_live);
    tr__lane_unlock(lane);
    return error;
}

/* Under the mutex: whoever waits with input looks again. `over`: there will be no room any more. */
static void input_changed(struct tr__live *live, bool over)
{
    if (over && live->over_fd >= 0) {
        (void)eventfd_write(live->over_fd, 1); /* fails only when it is readable as can be */
    }
    (void)pthread_cond_broadcast(&live->input_changed); /* cannot fail */
}

static void close_input(struct tr__live *live)
{
    tr__descriptor_close(&live->input_fd);
    input_changed(live, true);
}

void tr__live_start(struct tr__live *live, pid_t group, int input_fd, int terminal_fd, bool pending)
{
    TR_ASSERT(group > 0 && (input_fd >= 0 || terminal_fd >= 0 || !pending));
    tr__live_lock(live);
    TR_ASSERT(live->group == 0 && live->input_fd < 0);
    live->group = group;
    live->input_fd = input_fd;
    live->terminal_fd = terminal_fd;
    live->input_pending = pending;
    tr__live_unlock(live);
}

/* write(2) without its SIGPIPE. */
static ssize_t write_quietly(int fd, const void *data, size_t size)
{
    static const struct timespec at_once = {0, 0};
    sigset_t pipe_only;
    sigset_t before;
    sigset_t pending;

    (void)sigemptyset(&pipe_only); /* fixed sets and a mask: none of these can fail */
    (void)sigaddset(&pipe_only, SIGPIPE);
    (void)sigemptyset(&pending);
    (void)sigpending(&pending);
    bool others = sigismember(&pending, SIGPIPE) == 1; /* then it stays */
    (void)pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    ssize_t written = write(fd, data, size);
    int error = written < 0 ? errno : 0;
    if (error == EPIPE && !others) {
        while (sigtimedwait(&pipe_only, NULL, &at_once) < 0 && errno == EINTR) {
        }
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return written < 0 ? -error : written;
}

/* Has the program's terminal end its input. 0 or -EAGAIN, -EIO. */
static int write_end(int terminal_fd)
{
    struct termios modes;
    char end = END_OF_FILE;

    if (tcgetattr(terminal_fd, &modes) == 0 && modes.c_cc[VEOF] != _POSIX_VDISABLE) {
        end = (char)modes.c_cc[VEOF];
    }
    ssize_t written = write_quietly(terminal_fd, &end, 1);
    return written < 0 ? (int)written : 0;
}

void tr__live_input_written(struct tr__live *live, bool open)
{
    tr__live_lock(live);
    bool end = !open || live->input_closing;
    live->input_pending = false;
    live->input_closing = false;
    if (end && live->input_fd >= 0) {
        close_input(live);
    } else {
        if (end && live->terminal_fd >= 0) {
            (void)write_end(live->terminal_fd); /* it takes no more, or is gone */
        }
        input_changed(live, false);
    }
    tr__live_unlock(live);
}

/* Under the mutex. */
static void stop(struct tr__live *live)
{
    live->group = 0;
    live->process_fd = -1;
    live->terminal_fd = -1;
    live->input_pending = false;
    live->room = NULL;
    close_input(live);
}

void tr__live_stop(struct tr__live *live)
{
    tr__live_lock(live);
    stop(live);
    tr__live_unlock(live);
}

void tr__live_end(struct tr__live *live)
{
    for (unsigned i = 0; i < TR__LIVE_STREAMS; i++) {
        tr__capture_spill_write(&live->streams[i], true); /* before: readers need not wait */
    }
    tr__live_lock(live);
    stop(live);
    for (unsigned i = 0; i < TR__LIVE_STREAMS; i++) {
        tr__capture_end(&live->streams[i]);
    }
    tr__live_unlock(live);
}

int tr__live_read(struct tr__live *live, tr_stream stream, uint64_t cursor, void *buffer,
                  size_t size, tr_output_mark *ret_mark)
{
    struct tr__capture *capture = &live->streams[stream];

    tr__live_lock(live);
    int count = tr__capture_read(capture, cursor, buffer, size, ret_mark);
    if (count >= 0 && tr__capture_made_room(capture) && live->room != NULL) {
        live->room(live);
    }
    tr__live_unlock(live);
    return count;
}

/* Under the mutex, which it leaves meanwhile: waits until the tool has written the spec's input. 0
 * or TR_ETIMEDOUT. */
static int wait_pending(struct tr__live *live, uint64_t deadline_ns)
{
    struct timespec until = {(time_t)(deadline_ns / TR__NS_PER_SECOND),
                             (long)(deadline_ns % TR__NS_PER_SECOND)};

    if (deadline_ns == TR__FOREVER) {
        (void)pthread_cond_wait(&live->input_changed, &live->mutex); /* woken is all it can be */
        return 0;
    }
    int error = pthread_cond_timedwait(&live->input_changed, &live->mutex, &until);
    return error == ETIMEDOUT ? TR_ETIMEDOUT : 0;
}

/* Under the mutex, which it leaves meanwhile: waits until `fd` takes bytes or the input is over. 0,
 * TR_ETIMEDOUT, or no descriptor. */
static int wait_room(struct tr__live *live, int fd, uint64_t deadline_ns)
{
    uint64_t left = tr__clock_left(tr__clock_now(), deadline_ns);
    struct timespec time = {(time_t)(left / TR__NS_PER_SECOND), (long)(left % TR__NS_PER_SECOND)};

    if (left == 0) {
        return TR_ETIMEDOUT;
    }
    if (live->over_fd < 0) {
        live->over_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    int duplicate = live->over_fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (duplicate < 0) {
        return -errno;
    }
    struct pollfd fds[2] = {{duplicate, POLLOUT, 0}, {live->over_fd, POLLIN, 0}};
    tr__live_unlock(live);
    /* Its answer does not matter: an early one costs another look. */
    (void)ppoll(fds, 2, deadline_ns == TR__FOREVER ? NULL : &time, NULL);
    (void)close(duplicate);
    tr__live_lock(live);
    return 0;
}

/* Under the mutex. */
static int write_input(struct tr__live *live, const void *data, size_t size, uint64_t timeout_ns)
{
    uint64_t deadline_ns = tr__clock_after(tr__clock_now(), timeout_ns);

    for (;;) {
        int fd = live->input_fd >= 0 ? live->input_fd : live->terminal_fd;
        if (fd < 0 || live->input_closing) {
            return TR_ESTATE;
        }
        ssize_t written = live->input_pending ? -EAGAIN : write_quietly(fd, data, size);
        if (written > 0) {
            live->bytes_in += (uint64_t)written;
            return (int)written;
        }
        if (written == -EPIPE || written == -EIO) {
            return TR_EPIPE;
        }
        if (written == -EINTR) {
            continue;
        }
        if (written != -EAGAIN || timeout_ns == 0) {
            return (int)written;
        }
        int error = live->input_pending ? wait_pending(live, deadline_ns)
                                        : wait_room(live, fd, deadline_ns);
        if (error < 0) {
            return error;
        }
    }
}

int tr__live_write(struct tr__live *live, const void *data, size_t size, uint64_t timeout_ns)
{
    tr__live_lock(live);
    int count = write_input(live, data, size, timeout_ns);
    tr__live_unlock(live);
    return count;
}

int tr__live_input_close(struct tr__live *live)
{
    int error = TR_ESTATE;

    tr__live_lock(live);
    bool there = live->input_fd >= 0 || live->terminal_fd >= 0;
    if (there && live->input_pending && !live->input_closing) {
        live->input_closing = true;
        input_changed(live, false); /* other hosts' input comes too late */
        error = 0;
    } else if (live->input_fd >= 0 && !live->input_pending) {
        close_input(live);
        error = 0;
    } else if (live->terminal_fd >= 0 && !live->input_pending) {
        error = write_end(live->terminal_fd);
        error = error == -EIO ? TR_EPIPE : error;
    }
    tr__live_unlock(live);
    return error;
}

/* Invariant 2. 0 or a negated errno; -ESRCH nobody is there. */
static int signal_group(const struct tr__live *live, int signal_number)
{
    siginfo_t info;

    if (live->process_fd >= 0) {
        if (syscall(SYS_pidfd_send_signal, live->process_fd, signal_number, NULL,
                    PIDFD_SIGNAL_PROCESS_GROUP) == 0) {
            return 0;
        }
        if (errno != EINVAL) {
            return -errno;
        }
        if (waitid((idtype_t)P_PIDFD, (id_t)live->process_fd, &info, WEXITED | WNOHANG | WNOWAIT) <
            0) {
            return -ESRCH;
        }
    }
    return kill(-live->group, signal_number) < 0 ? -errno : 0;
}

int tr__live_signal(struct tr__live *live, int signal_number)
{
    tr__live_lock(live);
    int error = live->group > 0 ? signal_group(live, signal_number) : -ESRCH;
    error = error == -ESRCH ? TR_ESTATE : error;
    tr__live_unlock(live);
    return error;
}

int tr__live_resize(struct tr__live *live, uint16_t rows, uint16_t columns)
{
    struct winsize size = {.ws_row = rows, .ws_col = columns};

    tr__live_lock(live);
    int error = TR_ESTATE;
    if (live->terminal_fd >= 0) {
        error = ioctl(live->terminal_fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
    }
    tr__live_unlock(live);
    return error;
}
