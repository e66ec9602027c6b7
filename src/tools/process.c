/*
 * process.c: tr_process, a program from its spawn to its last byte.
 *
 * Purpose: one loop that awaits everything about one child. Written on toolring/tool.h and
 * toolring/process.h alone: what it can do, a tool's author can. Owner: the tool's thread.
 *
 *                        both streams closed, or drain time over
 *     RUNNING ──exit──────────────────────────────────────────────▶ end: kill group, reap
 *        │ cancel, timeout                              ▲
 *        ▼ SIGTERM, SIGCONT to the group                │ exit and both streams closed
 *     STOPPING ─────────────────────────────────────────┤
 *        │ grace over                                   │ exit and both closed, or drain time over
 *        ▼ SIGKILL to the group                         │
 *     KILLED ───────────────────────────────────────────┘
 *
 * Invariants
 *  1. Requests lie in struct run, on the function's stack: `end` brings every one back, shielded,
 *     before it returns. So does every way out.
 *  2. The group is killed before the leader is reaped: until then its number cannot be another's.
 *  3. The leader's exit ends the run, not the end of its streams: something it left behind may
 *     hold them for days. That is given 100 ms for what is on its way. Only after a stop, where
 *     the leader may be a mere shell that died at once, its descendants keep what is left of the
 *     grace, for as long as they hold the streams.
 *  4. From the first stop or the exit on, waits are shielded: a cancel cannot come twice, and one
 *     that comes after the exit is too late to be the cause.
 *  5. Memory is taken before the spawn. Afterwards nothing can fail but the keeping of output,
 *     which then keeps less and counts what it omits.
 *  6. Each read is one at a time per stream, so bytes are in order and idle streams cost their
 *     buffer.
 *
 * Complexity: a read, a copy and a re-arm per 64 KiB of output. The order in which requests are
 * served is that of their finishing, so a flood on one stream does not hold up the exit or a
 * timeout.
 *
 * Rejected: waiting for the end of the streams (`sleep 3 & echo hi` took 3 s); splice to the result
 * (its size is not known, and the middle is not wanted).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <toolring/process.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "tools/output.h"

/* A pipe's default capacity: a read empties it. */
#define READ_BYTES ((size_t)65536)
/* Likewise for writing: more would not go in at once anyway. */
#define WRITE_BYTES ((size_t)65536)
/* For output that is on its way when the program exits. */
#define DRAIN_NS (UINT64_C(100) * TR_MILLISECOND)
/* Between two OUTPUT events: whichever comes first. */
#define TELL_NS (UINT64_C(100) * TR_MILLISECOND)
#define TELL_BYTES UINT64_C(65536)

enum request {
    REQUEST_OUT,
    REQUEST_ERROR,
    REQUEST_INPUT,
    REQUEST_EXIT,
    REQUEST_TIMEOUT,
    REQUEST_GRACE,
    REQUEST_DRAIN,
    REQUESTS,
};

enum phase {
    PHASE_RUNNING,
    PHASE_STOPPING, /* SIGTERM was sent */
    PHASE_KILLED,   /* SIGKILL was sent */
};

/* Requests REQUEST_OUT and REQUEST_ERROR, as indices. */
#define STREAMS 2

struct stream {
    unsigned char *buffer; /* READ_BYTES */
    struct tr__output output;
    bool open; /* its end was not seen */
};

struct run {
    tr_call *call;
    const tr_process_spec *spec;
    tr_child child;
    enum phase phase;
    bool exited;
    bool drained; /* the time for trailing output is over */
    bool ending;  /* nothing is started any more */
    bool timed_out;
    bool cancelled;
    size_t input_used; /* bytes written of spec->input */
    uint64_t spawned_ns;
    uint64_t exited_ns;
    uint64_t bytes;      /* of both streams */
    uint64_t bytes_told; /* by the last OUTPUT event */
    uint64_t told_ns;    /* when that was */
    uint32_t under_way;  /* bit per request */
    struct stream streams[STREAMS];
    tr_io requests[REQUESTS];
};

/* Notes a request that was started. Our arguments are good, and there is no other error. */
static void started(struct run *run, enum request which, int status)
{
    TR_ASSERT(status == 0);
    TR_ASSERT((run->under_way & 1u << which) == 0);
    run->under_way |= 1u << which;
}

static void cancel(struct run *run, enum request which)
{
    if ((run->under_way & 1u << which) != 0) {
        tr_io_cancel(run->call, &run->requests[which]);
    }
}

static void start_timer(struct run *run, enum request which, uint64_t duration_ns)
{
    started(run, which, tr_io_timer(run->call, &run->requests[which], duration_ns));
}

static void start_read(struct run *run, enum request which)
{
    int fd = which == REQUEST_OUT ? run->child.output_fd : run->child.error_fd;
    struct stream *stream = &run->streams[which];

    started(run, which,
            tr_io_read(run->call, &run->requests[which], fd, stream->buffer, READ_BYTES));
}

/* Writes the next piece of the input; closes it after the last. */
static void start_write(struct run *run)
{
    size_t left = run->spec->input.size - run->input_used;

    if (left == 0) {
        (void)close(run->child.input_fd); /* a pipe: nothing is lost by an error */
        run->child.input_fd = -1;
        return;
    }
    const unsigned char *data = run->spec->input.data;
    started(run, REQUEST_INPUT,
            tr_io_write(run->call, &run->requests[REQUEST_INPUT], run->child.input_fd,
                        data + run->input_used, left < WRITE_BYTES ? left : WRITE_BYTES));
}

static bool is_open(const struct run *run)
{
    return run->streams[REQUEST_OUT].open || run->streams[REQUEST_ERROR].open;
}

/* Signals the group. It may be empty, or consist of processes that are no longer ours to signal. */
static void signal_group(struct run *run, int signal_number)
{
    (void)tr_child_signal(&run->child, signal_number);
}

/* Asks the group to end. A stopped process acts on SIGTERM only when it goes on. */
static void stop(struct run *run)
{
    uint64_t grace_ns = run->spec->grace_ns;

    TR_ASSERT(run->phase == PHASE_RUNNING);
    run->phase = PHASE_STOPPING;
    signal_group(run, SIGTERM);
    signal_group(run, SIGCONT);
    cancel(run, REQUEST_TIMEOUT);
    start_timer(run, REQUEST_GRACE, grace_ns != 0 ? grace_ns : tr_call_cancel_grace(run->call));
}

static void stop_by_force(struct run *run)
{
    run->phase = PHASE_KILLED;
    signal_group(run, SIGKILL);
    if (run->exited && !run->ending) {
        start_timer(run, REQUEST_DRAIN, DRAIN_NS);
    }
}

/* Tells of output now and then; the first and (at the end) the last byte are always told of. */
static void tell(struct run *run, bool last)
{
    uint64_t now_ns = tr__clock_now();
    bool due = last || run->bytes_told == 0 || run->bytes - run->bytes_told >= TELL_BYTES ||
               now_ns - run->told_ns >= TELL_NS;

    if (due && run->bytes != run->bytes_told) {
        run->bytes_told = run->bytes;
        run->told_ns = now_ns;
        tr_call_output(run->call, run->bytes);
    }
}

static void on_read(struct run *run, enum request which, int64_t result)
{
    struct stream *stream = &run->streams[which];

    if (result > 0) {
        TR_ASSERT((size_t)result <= READ_BYTES);
        tr__output_add(&stream->output, stream->buffer, (size_t)result);
        run->bytes += (uint64_t)result;
        tell(run, false);
    } else if (result != TR_ECANCELED) {
        stream->open = false; /* the end, or broken, which comes to the same */
    }
    if (result > 0 && !run->ending) {
        start_read(run, which);
    }
}

static void on_write(struct run *run, int64_t result)
{
    if (result > 0) {
        run->input_used += (size_t)result;
    } else if (result != TR_ECANCELED) {
        run->input_used = run->spec->input.size; /* it does not want the rest: TR_EPIPE */
    }
    if (!run->exited && !run->ending && result != TR_ECANCELED) {
        start_write(run);
    }
}

/* The engine could not watch the pidfd: ends the program and waits without it. */
static void await_killed(struct run *run)
{
    struct pollfd exited = {.fd = run->child.process_fd, .events = POLLIN};
    int count;

    signal_group(run, SIGKILL);
    do {
        count = poll(&exited, 1, -1);
    } while (count < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOMEM));
}

static void on_exit_of_leader(struct run *run, int64_t result)
{
    if (result < 0) {
        await_killed(run);
    }
    run->exited = true;
    run->exited_ns = tr__clock_now();
    cancel(run, REQUEST_INPUT);
    cancel(run, REQUEST_TIMEOUT);
    bool graced = run->phase == PHASE_STOPPING && run->spec->grace_ns != TR_FOREVER;
    if (!graced && is_open(run)) {
        start_timer(run, REQUEST_DRAIN, DRAIN_NS); /* invariant 3 */
    }
}

static void on_request(struct run *run, enum request which, int64_t result)
{
    switch (which) {
    case REQUEST_OUT:
    case REQUEST_ERROR:
        on_read(run, which, result);
        break;
    case REQUEST_INPUT:
        on_write(run, result);
        break;
    case REQUEST_EXIT:
        on_exit_of_leader(run, result);
        break;
    case REQUEST_TIMEOUT:
        if (run->phase == PHASE_RUNNING && !run->exited) { /* cancelled only in other cases */
            run->timed_out = true;
            stop(run);
        }
        break;
    case REQUEST_GRACE:
        if (run->phase == PHASE_STOPPING && !run->ending) {
            stop_by_force(run);
        }
        break;
    case REQUEST_DRAIN:
        run->drained = true;
        break;
    case REQUESTS:
        break;
    }
}

/* Waits for one of our requests and acts on it. */
static int step(struct run *run, uint32_t flags)
{
    tr_io *ios[REQUESTS];
    tr_io *done;
    size_t count = 0;

    for (unsigned which = 0; which < REQUESTS; which++) {
        if ((run->under_way & 1u << which) != 0) {
            ios[count++] = &run->requests[which];
        }
    }
    int error = tr_io_wait_for(run->call, flags, ios, count, &done);
    if (error < 0) {
        return error;
    }
    enum request which = (enum request)(done - run->requests);
    TR_ASSERT((run->under_way & 1u << which) != 0);
    run->under_way &= ~(1u << which);
    on_request(run, which, done->result);
    return 0;
}

/* From the spawn until there is nothing more to wait for. */
static void watch(struct run *run)
{
    uint64_t timeout_ns = run->spec->timeout_ns;

    started(run, REQUEST_EXIT,
            tr_io_poll(run->call, &run->requests[REQUEST_EXIT], run->child.process_fd, POLLIN));
    for (unsigned which = 0; which < STREAMS; which++) {
        if (run->streams[which].open) {
            start_read(run, (enum request)which);
        }
    }
    if (run->child.input_fd >= 0) {
        start_write(run);
    }
    if (timeout_ns != 0 && timeout_ns != TR_FOREVER) {
        start_timer(run, REQUEST_TIMEOUT, timeout_ns);
    }
    while (!run->exited || (is_open(run) && !run->drained)) {
        bool shielded = run->exited || run->phase != PHASE_RUNNING;
        int error = step(run, shielded ? TR_IO_SHIELD : 0);
        if (error < 0) {
            TR_ASSERT(error == TR_ECANCELED && !shielded);
            run->cancelled = true;
            stop(run);
        }
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

/* Brings the requests back, ends what is left of the group, collects the leader. */
static void end(struct run *run, tr_process_result *result)
{
    struct rusage usage;
    int status;

    run->ending = true;
    for (unsigned which = 0; which < REQUESTS; which++) {
        cancel(run, (enum request)which);
    }
    while (run->under_way != 0) {
        int error = step(run, TR_IO_SHIELD);
        TR_ASSERT(error == 0);
    }
    tell(run, true);
    signal_group(run, SIGKILL);
    *result = (tr_process_result){.exit_code = -1,
                                  .timed_out = run->timed_out,
                                  .cancelled = run->cancelled,
                                  .held_open = is_open(run),
                                  .wall_ns = run->exited_ns - run->spawned_ns};
    int error = tr_child_reap(&run->child, &status, &usage);
    TR_ASSERT(error == 0 || error == -ECHILD);
    if (error == 0) {
        fill_status(result, status, &usage);
    }
    tr__output_finish(&run->streams[REQUEST_OUT].output, &result->out);
    tr__output_finish(&run->streams[REQUEST_ERROR].output, &result->error);
}

/* Memory for what will be read. */
static int prepare(struct run *run, uint64_t bytes_max)
{
    bool merged = (run->spec->flags & TR_PROCESS_MERGE_ERROR) != 0;

    for (unsigned which = 0; which < STREAMS; which++) {
        struct stream *stream = &run->streams[which];
        tr__output_init(&stream->output, (size_t)bytes_max);
        if (which == REQUEST_ERROR && merged) {
            break;
        }
        stream->buffer = tr__memory_take(READ_BYTES);
        if (stream->buffer == NULL) {
            return TR_ENOMEM;
        }
    }
    return 0;
}

int tr_process(tr_call *call, const tr_process_spec *spec, tr_process_result *ret_result)
{
    if (call == NULL || spec == NULL || ret_result == NULL || spec->size < sizeof *spec ||
        spec->output_bytes_max > TR__OUTPUT_CAP_MAX) {
        return TR_EINVAL; /* the rest of the spec is tr_spawn's to judge */
    }
    struct run run = {.call = call, .spec = spec};
    uint64_t bytes_max = spec->output_bytes_max;
    int error = prepare(&run, bytes_max != 0 ? bytes_max : tr_call_output_bytes_max(call));
    if (error == 0) {
        run.spawned_ns = tr__clock_now(); /* before: a brief child is gone when tr_spawn returns */
        error = tr_spawn(call, spec, &run.child);
    }
    if (error == 0) {
        run.streams[REQUEST_OUT].open = run.child.output_fd >= 0;
        run.streams[REQUEST_ERROR].open = run.child.error_fd >= 0;
        watch(&run);
        end(&run, ret_result);
    }
    for (unsigned which = 0; which < STREAMS; which++) {
        tr__memory_give(run.streams[which].buffer);
    }
    return error;
}

void tr_process_result_done(tr_process_result *result)
{
    if (result != NULL) {
        tr__memory_give(result->out.data);
        tr__memory_give(result->error.data);
        memset(result, 0, sizeof *result);
    }
}
