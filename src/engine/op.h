/*
 * op: one request to the ring thread: wait for a time, for readiness, or move bytes once.
 *
 * An op lives in memory of whoever started it (a tool's tr_io, a task's deadline). From
 * tr__ring_start until its `done` hook has been called, it and its buffer belong to the ring;
 * `done` runs on the ring thread and is the ring's last touch: the owner may free the op inside
 * it. The ring calls `done` exactly once per start, also when it was cancelled, also at shutdown,
 * and only when no completion and no cancel of the op is outstanding any more.
 *
 * Cancelling: tr__ring_cancel may be called at most once per start, by any thread that knows the
 * op to be alive (not yet done, or done not yet acted upon by the caller itself). The race with
 * completion is settled on `flags`: the canceller sets CANCEL_POSTED; the ring sets FINISHED;
 * whoever comes second sees the other. A completed op whose cancel message is still in the inbox
 * waits for that message before `done`. Starting has two halves for those who want an op to be
 * cancelled before it is on its way: prepared, it may be cancelled; submitted, it is the ring's.
 *
 * The ring performs ops; the direct executor (direct.h) performs the same ops by poll(2) in the
 * calling thread, for managers and calls without a ring.
 */
#ifndef TR__ENGINE_OP_H
#define TR__ENGINE_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "parts/mpsc.h"
#include "parts/wheel.h"

enum tr__op_kind {
    TR__OP_TIMER = 1, /* done at `deadline_ns` with result 0; never early */
    TR__OP_READ = 2,  /* one read of at most `size` bytes; result bytes, 0 at the end, or -errno */
    TR__OP_WRITE = 3, /* one write of at most `size` bytes; result bytes or -errno */
    TR__OP_POLL = 4,  /* one-shot readiness of `events`; result: the events that came */
};

/* A message in the ring's inbox: `kind` tells which member of which structure it is. */
enum tr__message_kind {
    TR__MESSAGE_START = 1,
    TR__MESSAGE_CANCEL = 2,
    TR__MESSAGE_STOP = 3,
};

struct tr__message {
    struct tr__mpsc_node node;
    uint32_t kind;
};

#define TR__OP_CANCEL_POSTED 1u /* written by the canceller */
#define TR__OP_FINISHED 2u      /* written by the ring */

/* The first 64 bytes are all that a canceller touches; the rest stays with the ring's thread. */
struct tr__op {
    struct tr__message start;  /* any thread posts it; the ring takes it */
    struct tr__message cancel; /* likewise */
    void (*done)(struct tr__op *op);
    uint64_t deadline_ns; /* TIMER: when. Others: give up then with TR_ETIMEDOUT; 0: never */
    tr__atomic_u32 flags; /* CANCEL_POSTED, FINISHED */
    tr__atomic_u32 claim; /* the owner's own: who starts and cancels it, say */
    uint16_t kind;
    uint16_t state; /* the executor's own */
    uint32_t entry; /* the executor's own: index in its table of ops under way */

    struct tr__wheel_entry timer; /* ring thread */
    void *owner;                  /* the starter's own */
    void *buffer;                 /* READ, WRITE */
    union {
        int64_t result;          /* set before `done` */
        struct tr__op *previous; /* the executor's own, while the op is on a list of it */
    };
    int fd;
    uint32_t size;   /* READ, WRITE */
    uint32_t events; /* POLL */
};

/* Tasks embed ops, and a million tasks may wait. */
TR_STATIC(sizeof(struct tr__op) <= 160, "an op stays within two and a half cache lines");

/*
 * One attempt in the calling thread, which does not block: what the op would result in if it ended
 * now, -EAGAIN if it would have to wait. READ, WRITE and POLL; a TIMER always answers -EAGAIN.
 * `ready` says that poll(2) has just reported the descriptor ready: then a blocking descriptor of
 * a kind that knows no non-blocking attempt is used all the same (a write only up to PIPE_BUF
 * bytes), which could block only if someone else empties or fills it at the same moment. SIGPIPE
 * is never raised.
 */
int64_t tr__op_attempt(const struct tr__op *op, bool ready);

#endif
