/*
 * op.c: one non-blocking attempt at an op, in whatever thread asks.
 *
 * Purpose: the direct executor performs its ops by it; the ring uses it for the last look at a
 * READ or POLL that the kernel gave back cancelled.
 * Owner: none, no state. Called by direct and ring_uring; calls the kernel.
 *
 *  1. Nothing here blocks, unless `ready` was claimed and someone else emptied or filled a
 *     blocking descriptor of a kind without RWF_NOWAIT at the same moment.
 *  2. A result is what io_uring would have put into the completion: bytes, events, or -errno.
 *  3. SIGPIPE is blocked around a write, and one that the write raised is taken back.
 *
 * RWF_NOWAIT serves pipes (from 6.4), sockets, eventfds and what the page cache holds. The rest: a
 * non-blocking descriptor needs no help, a socket takes MSG_DONTWAIT, for others readiness must
 * do.
 * Cost: one system call, three for a write.
 *
 * Rejected: switching O_NONBLOCK on for the attempt (it belongs to the open file, which other
 * processes share).
 */
#include "engine/op.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static bool is_unsupported(int error)
{
    return error == EOPNOTSUPP || error == ENOSYS;
}

/* A regular file is always ready, but the page may have to come from the disk. */
static bool is_regular(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

/* Whether plain reads or writes never block; those of a descriptor that is open the other way alone
 * fail at once. */
static bool is_prompt(int fd, int other_way)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && ((flags & O_NONBLOCK) != 0 || (flags & O_ACCMODE) == other_way);
}

/* One read in the way that does not block; -1 with errno. */
static ssize_t read_once(const struct tr__op *op, bool ready)
{
    struct iovec vector = {.iov_base = op->buffer, .iov_len = op->size};
    ssize_t count = preadv2(op->fd, &vector, 1, -1, RWF_NOWAIT);

    if (count >= 0) {
        return count;
    }
    if (is_unsupported(errno)) {
        if (is_prompt(op->fd, O_WRONLY)) {
            return read(op->fd, op->buffer, op->size);
        }
        count = recv(op->fd, op->buffer, op->size, MSG_DONTWAIT);
        if (count >= 0 || errno != ENOTSOCK) {
            return count;
        }
        errno = EAGAIN;
        return ready ? read(op->fd, op->buffer, op->size) : -1;
    }
    if (errno == EAGAIN && ready && is_regular(op->fd)) {
        return read(op->fd, op->buffer, op->size);
    }
    return -1;
}

/* One write in the way that does not block; -1 with errno. */
static ssize_t write_once(const struct tr__op *op, bool ready)
{
    struct iovec vector = {.iov_base = op->buffer, .iov_len = op->size};
    ssize_t count = pwritev2(op->fd, &vector, 1, -1, RWF_NOWAIT);

    if (count >= 0) {
        return count;
    }
    if (is_unsupported(errno)) {
        if (is_prompt(op->fd, O_RDONLY)) {
            return write(op->fd, op->buffer, op->size);
        }
        count = send(op->fd, op->buffer, op->size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count >= 0 || errno != ENOTSOCK) {
            return count;
        }
        /* A pipe that polls writable has room for PIPE_BUF bytes, not for more. */
        errno = EAGAIN;
        return ready ? write(op->fd, op->buffer, op->size < PIPE_BUF ? op->size : PIPE_BUF) : -1;
    }
    if (errno == EAGAIN && ready && is_regular(op->fd)) {
        return write(op->fd, op->buffer, op->size);
    }
    return -1;
}

static int64_t attempt_read(const struct tr__op *op, bool ready)
{
    ssize_t count;

    do {
        count = read_once(op, ready);
    } while (count < 0 && errno == EINTR);
    return count >= 0 ? count : -errno;
}

static int64_t attempt_write(const struct tr__op *op, bool ready)
{
    sigset_t pipe_signal;
    sigset_t before;
    sigset_t pending;
    ssize_t count;

    (void)sigemptyset(&pipe_signal);
    (void)sigaddset(&pipe_signal, SIGPIPE);
    (void)sigpending(&pending);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    do {
        count = write_once(op, ready);
    } while (count < 0 && errno == EINTR);
    int64_t result = count >= 0 ? count : -errno;
    if (result == -EPIPE && sigismember(&pending, SIGPIPE) == 0) {
        const struct timespec now = {0, 0};
        (void)sigtimedwait(&pipe_signal, NULL, &now); /* none if the write raised none */
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

static int64_t attempt_poll(const struct tr__op *op)
{
    struct pollfd one = {.fd = op->fd, .events = (short)op->events, .revents = 0};
    int count;

    do {
        count = poll(&one, 1, 0);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
        return -errno;
    }
    if (count == 0) {
        return -EAGAIN;
    }
    if ((one.revents & POLLNVAL) != 0) {
        return -EBADF;
    }
    return (unsigned short)one.revents;
}

int64_t tr__op_attempt(const struct tr__op *op, bool ready)
{
    switch (op->kind) {
    case TR__OP_READ:
        return attempt_read(op, ready);
    case TR__OP_WRITE:
        return attempt_write(op, ready);
    case TR__OP_POLL:
        return attempt_poll(op);
    default:
        return -EAGAIN;
    }
}
