/*
 * process_stream.c: the bytes of a program: reading them straight into the capture, writing its
 * input, telling of output.
 *
 * Purpose: one copy of each byte, from the pipe to where it is kept; none of it in between. Owner:
 * the tool's thread, but room_made: a host's, under the live's mutex. Called by process; calls
 * engine/capture, engine/live, the kernel.
 *
 * Invariants
 *  1. Descriptors do not block. Nothing here waits, but tr__run_look for as long as it is told,
 *     and tr__run_nap for a moment.
 *  2. The captures are changed under the live's mutex; it is not held while the kernel copies.
 *  3. A stream has one share of reading, then the other, the input, exit and times have their
 *     turn.
 *  4. RUN_ROOM is finished once: by who clears `room_wanted` under the mutex.
 *  5. The first bytes are told of at once, later ones no more often than every TELL_NS, and the
 *     last ones always; all in between only restart the idle timeout.
 *
 * Complexity: two locks and a system call per read of up to a share. An idle stream costs nothing;
 * one that has brought WIDE_BYTES gets a wide pipe: its writer then need not be woken, nor wake,
 * for every 64 KiB. More than that is never asked for: Linux lets a user have 64 MiB in pipes.
 *
 * Rejected: wide pipes from the start (2 000 idle programs would be refused theirs); reading floods
 * in small pieces (a cap of 4 KiB made 2 KiB a system call: hence the scratch).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "tools/process_run.h"

/* A stream's, before others have theirs: a third of a millisecond. */
#define SHARE_BYTES ((size_t)1 << 20)
/* From here on a stream is a flood, whose pipe is enlarged to so much. */
#define WIDE_BYTES (UINT64_C(256) << 10)
#define PIPE_BYTES (1 << 20)
/* Where a capture's room is less than half of this, a flood is read here first. */
#define SCRATCH_BYTES ((size_t)128 << 10)
/* A fifth of what fills it: writers of 8 KiB wake us seven times less often for it. */
#define NAP_NS UINT64_C(100000)
/* Between two OUTPUT events. */
#define TELL_NS (UINT64_C(50) * TR_MILLISECOND)
/* What is written at once. */
#define WRITE_BYTES ((size_t)1 << 20)

bool tr__run_is_open(const struct tr__run *run)
{
    return run->streams[TR_STREAM_OUT].open || run->streams[TR_STREAM_ERROR].open;
}

bool tr__run_is_starved(const struct tr__run *run)
{
    return run->streams[TR_STREAM_OUT].starved || run->streams[TR_STREAM_ERROR].starved;
}

bool tr__run_is_ready(const struct tr__run *run)
{
    return run->streams[TR_STREAM_OUT].ready || run->streams[TR_STREAM_ERROR].ready;
}

static bool has_wide_pipe(const struct tr__run *run)
{
    return (run->spec->flags & TR_PROCESS_TERMINAL) == 0 &&
           run->spec->overflow != TR_OVERFLOW_PAUSE;
}

/* A flood: enlarges its pipe, gives it a scratch if its capture has small pieces only. Either may
 * be refused. */
static void widen(struct tr__run *run, struct tr__run_stream *stream)
{
    stream->widened = true;
    if (!has_wide_pipe(run)) {
        return;
    }
    stream->wide = fcntl(stream->fd, F_SETPIPE_SZ, PIPE_BYTES) >= 0;
    if (run->scratch == NULL && stream->capture->bytes_max < SCRATCH_BYTES) {
        run->scratch = tr__memory_take(SCRATCH_BYTES);
    }
}

/* Reads once; what it says is bytes, 0 at the end, or a negated errno. */
static ssize_t read_pieces(int fd, const struct iovec *pieces, int count)
{
    ssize_t size;

    do {
        size = readv(fd, pieces, count);
    } while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : size;
}

/* Reads once into the capture. Returns what read_pieces does, -ENOBUFS if there is no room;
 * *ret_asked is how much there was room for. */
static ssize_t read_once(struct tr__run *run, struct tr__run_stream *stream, size_t size,
                         size_t *ret_asked)
{
    struct tr__capture *capture = stream->capture;
    struct iovec pieces[2];
    bool direct = !stream->widened || run->scratch == NULL || capture->bytes_max >= SCRATCH_BYTES;
    int count = 1;

    if (direct) {
        tr__live_lock(run->live);
        count = tr__capture_room(capture, size, pieces);
        tr__live_unlock(run->live);
    } else {
        pieces[0] = (struct iovec){run->scratch, SCRATCH_BYTES};
    }
    if (count == 0) {
        return -ENOBUFS;
    }
    *ret_asked = pieces[0].iov_len + (count == 2 ? pieces[1].iov_len : 0);
    ssize_t got = read_pieces(stream->fd, pieces, count);
    size_t added = got > 0 ? (size_t)got : 0;
    tr__live_lock(run->live);
    if (direct) {
        tr__capture_added(capture, added);
    } else if (added > 0) {
        (void)tr__capture_add(capture, run->scratch, added); /* all of it: no PAUSE has a scratch */
    }
    tr__live_unlock(run->live);
    tr__capture_spill_write(capture, false);
    return got;
}

static void close_stream(struct tr__run *run, struct tr__run_stream *stream)
{
    stream->open = false;
    stream->ready = false;
    tr__capture_spill_write(stream->capture, true); /* before: readers need not wait for it */
    tr__live_lock(run->live);
    tr__capture_end(stream->capture);
    tr__live_unlock(run->live);
}

/* Reads until the pipe is empty or at its end, there is no room, or the share is used. */
static void read_share(struct tr__run *run, struct tr__run_stream *stream)
{
    size_t share = SHARE_BYTES;

    while (stream->ready && share > 0) {
        size_t asked = 0;
        ssize_t got = read_once(run, stream, share, &asked);
        if (got == -ENOBUFS) {
            stream->starved = true;
            stream->ready = false;
        } else if (got == -EAGAIN) {
            stream->ready = false;
        } else if (got <= 0) {
            close_stream(run, stream); /* the end, or broken (a terminal's EIO): the same */
        } else {
            stream->bytes += (uint64_t)got;
            run->bytes += (uint64_t)got;
            run->turn_bytes += (uint64_t)got;
            share = (size_t)got < share ? share - (size_t)got : 0;
            /* A flood goes on while we read: less than was asked for does not mean empty. */
            stream->ready = (size_t)got == asked || stream->ending || stream->wide || run->exited;
        }
        if (stream->bytes > WIDE_BYTES && !stream->widened) {
            widen(run, stream);
        }
    }
    if (run->spec->overflow == TR_OVERFLOW_KILL && !run->overflowed && !run->exited &&
        tr__capture_is_over(stream->capture)) {
        run->overflowed = true;
        tr__run_kill(run);
    }
}

/* Writes once without blocking. */
static int64_t write_once(struct tr__run *run)
{
    const unsigned char *data = run->spec->input.data;
    size_t left = run->spec->input.size - run->input_used;
    union {
        const void *constant;
        void *writable;
    } bytes = {.constant = data + run->input_used}; /* a write only reads them */
    const struct tr__op op = {.kind = TR__OP_WRITE,
                              .fd = run->input_fd,
                              .buffer = bytes.writable,
                              .size = (uint32_t)(left < WRITE_BYTES ? left : WRITE_BYTES)};

    return tr__op_attempt(&op, false);
}

/* On a terminal the end is read at the beginning of a line only. */
static void end_line(struct tr__run *run)
{
    static const char end = 4; /* Control-D, as a fresh terminal has it */
    const char *data = run->spec->input.data;
    size_t size = run->spec->input.size;

    if (size > 0 && data[size - 1] != '\n') {
        (void)!write(run->input_fd, &end, 1); /* then the end comes one line later */
    }
}

static void end_input(struct tr__run *run)
{
    bool open = (run->spec->flags & TR_PROCESS_OPEN_INPUT) != 0;

    if ((run->spec->flags & TR_PROCESS_TERMINAL) != 0 && !open) {
        end_line(run);
    }
    run->input_fd = -1;
    tr__live_input_written(run->live, open);
}

static void write_input(struct tr__run *run)
{
    uint64_t written = 0;

    while (run->input_ready && run->input_used < run->spec->input.size) {
        int64_t got = write_once(run);
        if (got > 0) {
            run->input_used += (size_t)got;
            written += (uint64_t)got;
        } else if (got == -EAGAIN) {
            run->input_ready = false;
        } else {
            run->input_used = run->spec->input.size; /* it does not want the rest: EPIPE */
        }
    }
    if (written > 0) {
        tr__live_lock(run->live);
        run->live->bytes_in += written;
        tr__live_unlock(run->live);
    }
    if (run->input_used == run->spec->input.size) {
        end_input(run);
    }
}

void tr__run_move(struct tr__run *run)
{
    if (run->input_fd >= 0 && run->input_ready && !run->exited) {
        write_input(run);
    }
    for (unsigned which = 0; which < TR__LIVE_STREAMS; which++) {
        if (run->streams[which].ready) {
            read_share(run, &run->streams[which]);
        }
    }
}

bool tr__run_look(struct tr__run *run, uint64_t duration_ns)
{
    struct timespec duration = tr__clock_timespec(duration_ns);
    struct pollfd polls[TR__LIVE_STREAMS + 1];

    for (unsigned which = 0; which < TR__LIVE_STREAMS; which++) {
        const struct tr__run_stream *stream = &run->streams[which];
        bool wanted = stream->open && !stream->starved;
        polls[which] = (struct pollfd){.fd = wanted ? stream->fd : -1, .events = POLLIN};
    }
    polls[TR__LIVE_STREAMS] =
        (struct pollfd){.fd = run->exited ? -1 : run->child.process_fd, .events = POLLIN};
    int count = ppoll(polls, TR__LIVE_STREAMS + 1, &duration, NULL);
    if (count <= 0) {
        return false; /* nothing, or a signal handler of the host's */
    }
    for (unsigned which = 0; which < TR__LIVE_STREAMS; which++) {
        struct tr__run_stream *stream = &run->streams[which];
        stream->ready |= polls[which].revents != 0;
        stream->ending |= (polls[which].revents & (POLLHUP | POLLERR)) != 0;
    }
    if (polls[TR__LIVE_STREAMS].revents != 0) {
        tr__run_exited(run);
    }
    return true;
}

void tr__run_nap(struct tr__run *run)
{
    struct timespec nap = tr__clock_timespec(NAP_NS);

    if (run->streams[TR_STREAM_OUT].wide || run->streams[TR_STREAM_ERROR].wide) {
        (void)nanosleep(&nap, NULL); /* a signal handler of the host's may end it sooner */
    }
}

/* A host's thread, under the mutex: a reader has made room. */
static void room_made(struct tr__live *live)
{
    struct tr__run *run = live->owner;

    if (run->room_wanted) {
        run->room_wanted = false;
        tr__io_finish(tr__io_of(&run->requests[TR__RUN_ROOM])); /* the last touch of `run` */
    }
}

/* Whether a stream that was refused room has some. Under the mutex. */
static bool has_room(const struct tr__run *run)
{
    for (unsigned which = 0; which < TR__LIVE_STREAMS; which++) {
        const struct tr__run_stream *stream = &run->streams[which];
        if (stream->starved && !stream->capture->starved) {
            return true; /* a reader was here between the refusal and now */
        }
    }
    return false;
}

void tr__run_want_room(struct tr__run *run)
{
    struct tr__io *io = tr__io_of(&run->requests[TR__RUN_ROOM]);

    memset((void *)&io->op, 0, sizeof io->op);
    tr__io_begin(run->call, io);
    run->under_way |= 1u << TR__RUN_ROOM;
    tr__live_lock(run->live);
    run->live->owner = run;
    run->live->room = room_made;
    run->room_wanted = true;
    if (has_room(run)) {
        room_made(run->live);
    }
    tr__live_unlock(run->live);
}

void tr__run_stop_room(struct tr__run *run)
{
    if (!tr__run_is_under_way(run, TR__RUN_ROOM)) {
        return;
    }
    tr__live_lock(run->live);
    room_made(run->live);
    tr__live_unlock(run->live);
}

void tr__run_unpause(struct tr__run *run)
{
    if (run->spec->overflow != TR_OVERFLOW_PAUSE) {
        return;
    }
    tr__live_lock(run->live);
    for (unsigned which = 0; which < TR__LIVE_STREAMS; which++) {
        struct tr__run_stream *stream = &run->streams[which];
        tr__capture_unpause(stream->capture);
        stream->ready |= stream->starved;
        stream->starved = false;
    }
    tr__live_unlock(run->live);
}

void tr__run_tell(struct tr__run *run, bool last)
{
    if (run->bytes == run->bytes_told) {
        return;
    }
    bool due = last || run->bytes_told == 0 || run->now_ns - run->told_ns >= TELL_NS;
    if (due || !tr__engine_wanted(run->call->engine)) {
        run->bytes_told = run->bytes;
        run->told_ns = run->now_ns;
        run->tell_ns = TR_FOREVER;
        tr_call_output(run->call, run->bytes);
    } else {
        run->tell_ns = run->told_ns + TELL_NS;
        tr__call_touch(run->call, run->now_ns);
    }
}
