/*
 * process.c: tr_process, a program from its spawn to its last byte.
 *
 * Purpose: one loop that awaits everything about one child. Owner: the tool's thread. Called by
 * tools; calls process_stream (bytes), process_end (endings), spawn, engine/live.
 *
 *                        both streams closed, or drain time over
 *     RUNNING ──exit──────────────────────────────────────────────▶ end: tree, reap, result
 *        │ cancel, timeout                              ▲
 *        ▼ SIGTERM, SIGCONT to the tree                 │ exit and both streams closed
 *     STOPPING ─────────────────────────────────────────┤
 *        │ grace over                                   │ exit and both closed, or drain time over
 *        ▼ SIGKILL to the tree (or: too much output)    │
 *     KILLED ───────────────────────────────────────────┘
 *
 * Invariants
 *  1. Requests lie in struct tr__run, on the function's stack: the end brings every one back,
 *     shielded, before it returns. So does every way out.
 *  2. Requests only tell that something may be there; bytes are read and written by the tool's
 *     thread itself. One that comes for nothing costs a look.
 *  3. The leader's exit ends the run, not the end of its streams: something it left behind may
 *     hold them for days. That is given 100 ms for what is on its way. Only after a stop, where
 *     the leader may be a mere shell that died at once, its descendants keep what is left of the
 *     grace, for as long as they hold the streams. A paused stream waits for its reader.
 *  4. From the first stop or the exit on, waits are shielded: a cancel cannot come twice, and one
 *     that comes after the exit is too late to be the cause.
 *  5. Memory is taken before the spawn. Afterwards nothing can fail but the keeping of output,
 *     which then keeps less and counts what it omits.
 *  6. There are no timers but for rare cases: the next time is the deadline of some request that
 *     is under way anyway.
 *
 * Complexity: a brief command is awaited once, from its spawn to its exit, when its output is in
 * the pipe: being told of the spawn, and of the output, cost four more wakes and a third of the CPU
 * time. A flood is
 * read in the worker for at most TURN_NS on end, then everybody else has a turn.
 *
 * Rejected: waiting for the end of the streams (`sleep 3 & echo hi` took 3 s); a read request per
 * 64 KiB (two wakes each: 0.3 GB/s); splice (its size is not known, and the middle is not wanted);
 * an epoll per program (a descriptor each).
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <toolring/process.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "tools/process_run.h"
#include "tools/spawn.h"

/* For output that is on its way when the program exits. */
#define DRAIN_NS (UINT64_C(100) * TR_MILLISECOND)
/* Most commands are over by then. */
#define BRIEF_NS (UINT64_C(2) * TR_MILLISECOND)
/* How long a flood keeps its worker: what a turn costs it, about 30 us, is little beside it. */
#define TURN_NS (UINT64_C(2) * TR_MILLISECOND)
/* A flood that makes no progress for so long is none. */
#define LULL_NS (UINT64_C(1) * TR_MILLISECOND)
/* Less in two turns is no flood. */
#define FLOOD_BYTES ((uint64_t)65536)
/* A process that exits closes its streams a few microseconds before that shows. */
#define EXIT_NS (UINT64_C(200) * 1000)
/* Kept on disk of a stream, if nothing else is asked for. */
#define SPILL_DEFAULT (UINT64_C(1) << 30)
#define NAME_BYTES 64

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_time(const struct tr__run *run)
{
    uint64_t next = earlier(run->timeout_ns, run->grace_ns);

    return earlier(next, earlier(run->drain_ns, run->tell_ns));
}

static void note_started(struct tr__run *run, enum tr__run_request which, int status)
{
    TR_ASSERT(status == 0); /* our arguments are good, and there is no other error */
    TR_ASSERT(!tr__run_is_under_way(run, which));
    run->under_way |= 1u << which;
}

/* Asks to be told of readiness, unless that is under way, and of *time_ns, unless that is none. */
static void want(struct tr__run *run, enum tr__run_request which, int fd, uint32_t events,
                 uint64_t *time_ns)
{
    if (tr__run_is_under_way(run, which)) {
        return;
    }
    note_started(run, which,
                 tr__io_poll_until(run->call, &run->requests[which], fd, events, *time_ns));
    if (*time_ns != TR_FOREVER) {
        run->clock = which;
        run->clock_ns = *time_ns;
        *time_ns = TR_FOREVER;
    }
}

/* Starts the requests for everything that can happen now. */
static void want_all(struct tr__run *run)
{
    uint64_t next_ns = next_time(run);
    uint64_t time_ns = next_ns < run->clock_ns ? next_ns : TR_FOREVER;

    if (!run->exited) {
        want(run, TR__RUN_EXIT, run->child.process_fd, POLLIN, &time_ns);
    }
    for (unsigned which = 0; which < TR__LIVE_STREAMS; which++) {
        const struct tr__run_stream *stream = &run->streams[which];
        if (stream->open && !stream->starved) {
            want(run, (enum tr__run_request)which, stream->fd, POLLIN, &time_ns);
        }
    }
    if (run->input_fd >= 0 && !run->exited) {
        want(run, TR__RUN_INPUT, run->input_fd, POLLOUT, &time_ns);
    }
    if (tr__run_is_starved(run) && !tr__run_is_under_way(run, TR__RUN_ROOM)) {
        tr__run_want_room(run);
    }
    if (time_ns == TR_FOREVER) {
        return;
    }
    if (tr__run_is_under_way(run, TR__RUN_CLOCK)) { /* for a later time; comes back at once */
        tr_io_cancel(run->call, &run->requests[TR__RUN_CLOCK]);
        return;
    }
    note_started(run, TR__RUN_CLOCK,
                 tr_io_timer(run->call, &run->requests[TR__RUN_CLOCK],
                             tr__clock_left(tr__clock_now(), time_ns)));
    run->clock = TR__RUN_CLOCK;
    run->clock_ns = time_ns;
}

void tr__run_exited(struct tr__run *run)
{
    run->exited = true;
    run->exited_ns = tr__clock_now();
    if (run->spec->overflow != TR_OVERFLOW_PAUSE) { /* else it bounds the wait for a reader */
        run->timeout_ns = TR_FOREVER;
    }
    for (unsigned which = 0; which < TR__LIVE_STREAMS; which++) {
        run->streams[which].ready = run->streams[which].open && !run->streams[which].starved;
    }
}

/* The engine could not watch the pidfd: ends the program and waits without it. */
static void await_killed(struct tr__run *run)
{
    struct pollfd exited = {.fd = run->child.process_fd, .events = POLLIN};
    int count;

    tr__tree_kill(run->tree);
    do {
        count = poll(&exited, 1, -1);
    } while (count < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOMEM));
}

static void note_done(struct tr__run *run, const tr_io *done)
{
    enum tr__run_request which = (enum tr__run_request)(done - run->requests);
    bool came = done->result != TR_ECANCELED && done->result != TR_ETIMEDOUT;

    TR_ASSERT(tr__run_is_under_way(run, which));
    run->under_way &= ~(1u << which);
    if (run->clock == which) {
        run->clock_ns = TR_FOREVER;
    }
    if (!came) {
        return;
    }
    if (which == TR__RUN_OUT || which == TR__RUN_ERROR) {
        struct tr__run_stream *stream = &run->streams[which];
        stream->ready = stream->open && !stream->starved;
        stream->ending |= done->result < 0 || (done->result & (POLLHUP | POLLERR)) != 0;
    } else if (which == TR__RUN_INPUT) {
        run->input_ready = true;
    } else if (which == TR__RUN_EXIT && !run->exited) {
        if (done->result < 0) {
            await_killed(run);
        }
        tr__run_exited(run);
    } else if (which == TR__RUN_ROOM) {
        for (unsigned index = 0; index < TR__LIVE_STREAMS; index++) {
            struct tr__run_stream *stream = &run->streams[index];
            stream->ready |= stream->starved;
            stream->starved = false;
        }
    }
}

int tr__run_await(struct tr__run *run, uint32_t flags)
{
    tr_io *ios[TR__RUN_REQUESTS];
    tr_io *done;
    size_t count = 0;

    for (unsigned which = 0; which < TR__RUN_REQUESTS; which++) {
        if (tr__run_is_under_way(run, (enum tr__run_request)which)) {
            ios[count++] = &run->requests[which];
        }
    }
    int error = tr_io_wait_for(run->call, flags, ios, count, &done);
    if (error < 0) {
        TR_ASSERT(error == TR_ECANCELED);
        return error;
    }
    while (done != NULL) {
        note_done(run, done);
        done = tr__io_take_done(run->call, ios, count);
    }
    return 0;
}

/* Whether trailing output is given a time of its own. */
static bool is_draining(const struct tr__run *run)
{
    bool graced = run->phase == TR__RUN_STOPPING && run->grace_ns != TR_FOREVER; /* invariant 3 */

    return run->exited && !graced && tr__run_is_open(run) && !tr__run_is_starved(run);
}

/* Does what is due. */
static void act_on_times(struct tr__run *run)
{
    uint64_t now = tr__clock_now();

    run->now_ns = now;
    if (now >= run->timeout_ns) {
        run->timeout_ns = TR_FOREVER;
        if (run->exited) {
            tr__run_unpause(run);
        } else if (run->phase == TR__RUN_RUNNING) {
            run->timed_out = true;
            tr__run_stop(run);
        }
    }
    if (now >= run->grace_ns) {
        tr__run_kill(run);
    }
    if (!is_draining(run)) {
        run->drain_ns = TR_FOREVER;
    } else if (run->drain_ns == TR_FOREVER) {
        run->drain_ns = tr__clock_after(now, DRAIN_NS);
    } else {
        run->drained = now >= run->drain_ns;
    }
    tr__run_tell(run, false);
}

/* Whether to go on without giving the worker away; looks what there is, perhaps for a moment. */
static bool stays(struct tr__run *run)
{
    bool ready = tr__run_is_ready(run);
    bool open = tr__run_is_open(run);
    bool flood = run->turn_bytes + run->turn_bytes_before >= FLOOD_BYTES;
    uint64_t wait_ns = 0;

    if (tr__call_is_cancelled(run->call) || run->now_ns - run->turn_ns >= TURN_NS) {
        return false;
    }
    if (flood && open && !ready) {
        tr__run_nap(run);
        wait_ns = LULL_NS;
    } else if (!ready && !open && !run->exited && !run->exit_looked) {
        run->exit_looked = true;
        wait_ns = EXIT_NS;
    } else if (!ready) {
        return false;
    }
    if (run->call->fiber == NULL) {
        return false; /* its thread is its own: to wait is to look */
    }
    bool came = tr__run_look(run, earlier(wait_ns, tr__clock_left(run->now_ns, next_time(run))));
    return came || ready;
}

static void on_cancel(struct tr__run *run)
{
    if (run->exited) {
        tr__run_unpause(run); /* nobody else waits unshielded then */
    } else {
        run->cancelled = true;
        tr__run_stop(run);
    }
}

/* From the spawn until there is nothing more to wait for. */
static void watch(struct tr__run *run)
{
    for (;;) {
        tr__run_move(run);
        act_on_times(run);
        if (run->exited && (run->drained || !tr__run_is_open(run))) {
            return;
        }
        if (stays(run)) {
            continue;
        }
        want_all(run);
        bool shielded = run->exited ? !tr__run_is_starved(run) : run->phase != TR__RUN_RUNNING;
        if (tr__run_await(run, shielded ? TR_IO_SHIELD : 0) < 0) {
            on_cancel(run);
        }
        run->turn_ns = tr__clock_now();
        run->turn_bytes_before = run->turn_bytes;
        run->turn_bytes = 0;
    }
}

/* The file of a stream: "task-<n>.out", with the number of the task's text form. */
static int open_file(struct tr__run *run, unsigned which)
{
    const tr_process_spec *spec = run->spec;
    uint64_t bits = TR__GENERATION_BITS + TR__INDEX_BITS;
    uint64_t mask = (UINT64_C(1) << bits) - 1;
    uint64_t number = tr_call_task(run->call) & mask;
    char name[NAME_BYTES];

    number = (number - (UINT64_C(1) << TR__INDEX_BITS)) & mask; /* generations begin at 1 */
    (void)snprintf(name, sizeof name, "task-%" PRIu64 ".%s", number,
                   which == TR_STREAM_OUT ? "out" : "err");
    return tr__capture_spill(&run->live->streams[which], spec->spill_directory, name,
                             spec->spill_bytes_max != 0 ? spec->spill_bytes_max : SPILL_DEFAULT);
}

/* The streams and their files. */
static int prepare_streams(struct tr__run *run)
{
    const tr_process_spec *spec = run->spec;
    uint64_t asked = spec->output_bytes_max;
    size_t bytes_max = asked != 0 ? (size_t)asked : tr_call_output_bytes_max(run->call);
    bool single = (spec->flags & (TR_PROCESS_MERGE_ERROR | TR_PROCESS_TERMINAL)) != 0;

    for (unsigned which = 0; which < (single ? 1 : TR__LIVE_STREAMS); which++) {
        struct tr__capture *capture = &run->live->streams[which];
        tr__capture_init(capture, bytes_max, spec->overflow);
        int error = spec->spill_directory != NULL ? open_file(run, which) : 0;
        if (error < 0) {
            return error;
        }
    }
    return 0;
}

/* The program is there. */
static void begin(struct tr__run *run)
{
    const tr_process_spec *spec = run->spec;
    int fds[TR__LIVE_STREAMS] = {run->child.output_fd, run->child.error_fd};
    bool terminal = (spec->flags & TR_PROCESS_TERMINAL) != 0;
    bool open_input = (spec->flags & TR_PROCESS_OPEN_INPUT) != 0;

    run->tree = run->child.owner;
    for (unsigned which = 0; which < TR__LIVE_STREAMS; which++) {
        struct tr__run_stream *stream = &run->streams[which];
        *stream = (struct tr__run_stream){
            .capture = &run->live->streams[which], .fd = fds[which], .open = fds[which] >= 0};
    }
    /* A terminal without input gets its end at once: the like of /dev/null. */
    bool pending = spec->input.size > 0 || (terminal && !open_input);
    run->input_fd = !pending ? -1 : terminal ? run->child.output_fd : run->child.input_fd;
    run->input_ready = pending;
    run->live->process_fd = run->child.process_fd;
    tr__live_start(run->live, run->child.pid, run->child.input_fd,
                   terminal ? run->child.output_fd : -1, pending);
    run->child.input_fd = -1;
    run->turn_ns = tr__clock_now();
    if (spec->timeout_ns != 0) {
        run->timeout_ns = tr__clock_after(run->turn_ns, spec->timeout_ns);
    }
}

/* Whether its exit may be all that there is to wait for at first. Elsewhere than on a fiber a
 * request more costs next to nothing. */
static bool may_be_brief(const struct tr__run *run)
{
    return run->call->fiber != NULL && run->spec->input.size == 0 &&
           (run->spec->flags & (TR_PROCESS_TERMINAL | TR_PROCESS_OPEN_INPUT)) == 0;
}

int tr_process(tr_call *call, const tr_process_spec *spec, tr_process_result *ret_result)
{
    if (call == NULL || ret_result == NULL || !tr__process_is_valid(spec)) {
        return TR_EINVAL;
    }
    if (tr__call_is_cancelled(call)) {
        return TR_ECANCELED;
    }
    struct tr__run run = {.call = call,
                          .spec = spec,
                          .live = tr__live_open(),
                          .timeout_ns = TR_FOREVER,
                          .grace_ns = TR_FOREVER,
                          .drain_ns = TR_FOREVER,
                          .tell_ns = TR_FOREVER,
                          .clock_ns = TR_FOREVER};
    if (run.live == NULL) {
        return TR_ENOMEM;
    }
    if (spec->grace_ns != 0) {
        tr__call_set_grace(call, spec->grace_ns);
    }
    bool has_exited = false;
    int error = prepare_streams(&run);
    if (error == 0) {
        tr__live_attach(call, run.live);
        run.spawned_ns = tr__clock_now(); /* before: a brief child is gone when tr_spawn returns */
        bool brief = may_be_brief(&run);
        error = tr__child_spawn(
            call, spec, brief ? &run.requests[TR__RUN_EXIT] : NULL,
            spec->timeout_ns != 0 ? earlier(spec->timeout_ns, BRIEF_NS) : BRIEF_NS, &run.child);
        has_exited = error == 0 && brief && run.requests[TR__RUN_EXIT].result > 0;
    }
    if (error == 0) {
        begin(&run);
        if (has_exited) {
            tr__run_exited(&run);
        }
        watch(&run);
        tr__run_end(&run, ret_result);
    } else {
        tr__live_end(run.live);
    }
    tr__memory_give(run.scratch);
    tr__live_drop(run.live);
    return error;
}

void tr_process_result_done(tr_process_result *result)
{
    if (result != NULL) {
        tr__memory_give(result->out.data);
        tr__memory_give(result->out.spill_path);
        tr__memory_give(result->error.data);
        tr__memory_give(result->error.spill_path);
        memset(result, 0, sizeof *result);
    }
}
