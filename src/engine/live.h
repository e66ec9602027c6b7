/*
 * live: what a host may do to a running task's program, and the output it has captured. One per
 * tr_process, counted: the tool's function has one reference, the task (from tr__live_attach until
 * its slot is recycled) another, a host's call a third while it lasts.
 *
 * One mutex a live; nobody holds it while waiting. The tool's thread changes captures and the
 * fields below it under it; a fiber must not suspend while it has it.
 *
 *     live = tr__live_open()
 *     tr__capture_init(&live->streams[…]), tr__capture_spill …   before attach: no mutex needed; a
 *                                                                stream left out is empty
 *     tr__live_attach(call, live)
 *     spawn
 *     tr__live_start(live, pid, input_fd, terminal_fd, pending)  input_fd is live's from here on
 *     tr__live_input_written(live)                               after `input`, if it was pending
 *     …                                                          read and add under the mutex
 *     tr__live_stop(live)                                        before the leader is reaped
 *     tr__live_end(live)                                         on every way, also without a spawn
 *     tr__capture_result(&live->streams[…]) under the mutex
 *     tr__live_drop(live)
 */
#ifndef TR__ENGINE_LIVE_H
#define TR__ENGINE_LIVE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <toolring/process.h>
#include <toolring/stream.h>

#include "base/atomic.h"
#include "domain/task.h"
#include "engine/capture.h"

struct tr_call;
struct tr__engine;

#define TR__LIVE_STREAMS 2u

struct tr__live {
    struct tr__attachment attachment; /* first: the task's reference */
    pthread_mutex_t mutex;
    pthread_cond_t input_changed; /* `input_pending` is over, or the input */
    tr__atomic_u32 references;
    struct tr__capture streams[TR__LIVE_STREAMS];
    pid_t group;        /* 0: no program, before the spawn and from before the reaping on */
    int process_fd;     /* its leader's pidfd; -1: none. Borrowed; set before tr__live_start */
    int input_fd;       /* -1: none; owned */
    int terminal_fd;    /* -1: none; borrowed until tr__live_stop */
    int over_fd;        /* eventfd: the input is over; made by the first who waits; -1 */
    bool input_pending; /* the tool still writes the spec's input; hosts may not yet */
    bool input_closing; /* a host has asked for its end meanwhile */
    uint64_t bytes_in;  /* written by the tool (its own to add) and the host */
    void (*room)(
        struct tr__live *live); /* PAUSE: a reader has made room. Called under the mutex; may be
                                   NULL; cleared by tr__live_stop or before */
    void *owner;                /* the tool's, for `room` */
};

/* NULL: no memory. One reference, the caller's. Its streams are empty and have ended. */
struct tr__live *tr__live_open(void);
void tr__live_hold(struct tr__live *live);
/* The last one frees it, with its captures. NULL is allowed. */
void tr__live_drop(struct tr__live *live);

void tr__live_lock(struct tr__live *live);
void tr__live_unlock(struct tr__live *live);

/* Tool thread: makes it what the task's streams are, in place of an earlier one. */
void tr__live_attach(struct tr_call *call, struct tr__live *live);

/* Tool thread, without the mutex, all four.
 * The program runs. `input_fd`: non-blocking, -1 none; `pending`: the tool writes `input` first. */
void tr__live_start(struct tr__live *live, pid_t group, int input_fd, int terminal_fd,
                    bool pending);
/* `input` was written. The input is the host's if `open`, else closed, as it is when a host has
 * asked for it. A terminal's is the host's: `open` is true. */
void tr__live_input_written(struct tr__live *live, bool open);
/* The program is not to be met any more: closes the input, forgets group, terminal, room. */
void tr__live_stop(struct tr__live *live);
/* The same, and ends both captures. */
void tr__live_end(struct tr__live *live);

/* Host, any thread: the task's, with a reference for the caller. 0, TR_ENOENT, or TR_ESTATE the
 * task has none. */
int tr__live_find(struct tr__engine *engine, uint64_t task, struct tr__live **ret_live);

/* Host, any thread: tr_task_output and so on. */
int tr__live_read(struct tr__live *live, tr_stream stream, uint64_t cursor, void *buffer,
                  size_t size, tr_output_mark *ret_mark);
int tr__live_write(struct tr__live *live, const void *data, size_t size, uint64_t timeout_ns);
int tr__live_input_close(struct tr__live *live);
int tr__live_signal(struct tr__live *live, int signal_number);
int tr__live_resize(struct tr__live *live, uint16_t rows, uint16_t columns);

#endif
