/*
 * io.h: a request as the library sees it: what tr_io.engine holds, and how other parts of this
 * floor hand a finished one back to the call's function.
 */
#ifndef TR__TOOLS_IO_H
#define TR__TOOLS_IO_H

#include <stdbool.h>
#include <stdint.h>

#include <toolring/tool.h>

#include "base/assert.h"
#include "engine/call.h"

enum tr__io_state {
    TR__IO_IDLE = 0,      /* the tool's */
    TR__IO_UNDER_WAY = 1, /* the engine's */
    TR__IO_CANCELLED = 2, /* the engine's, asked to be given back */
    TR__IO_DONE = 3,      /* on the call's list of finished ones */
};

/* Lies in a tr_io. `state` and `wanted` belong to the tool's thread; `finished` to the engine,
 * which hands it over through the call's stack; the rest is fixed while it is under way. The tool
 * reads the same bytes as a tr_io, and link-time optimisation sees both sides: hence may_alias. */
struct __attribute__((may_alias)) tr__io {
    int64_t result; /* tr_io.result */
    void *user;     /* tr_io.user */
    struct tr__op op;
    struct tr__stack_node finished;
    struct tr_call *call;
    struct tr__io *next;     /* of the call's requests that are not IDLE; its function's thread */
    struct tr__io *previous; /* likewise */
    uint32_t state;          /* enum tr__io_state */
    bool wanted;             /* by the tr_io_wait_for that is looking just now */
};

TR_STATIC(sizeof(struct tr__io) <= sizeof(tr_io), "a request fits into what the tool gives");
TR_STATIC(_Alignof(struct tr__io) <= _Alignof(tr_io), "and is aligned there");
TR_STATIC(offsetof(struct tr__io, result) == offsetof(tr_io, result) &&
              offsetof(struct tr__io, user) == offsetof(tr_io, user) &&
              offsetof(struct tr__io, op) >= offsetof(tr_io, engine),
          "the tool's fields are where the tool sees them");

static inline struct tr__io *tr__io_of(tr_io *io)
{
    return (struct tr__io *)(void *)io;
}

/* Tool thread: a request is on its way. Comes before anything that could finish it. */
void tr__io_begin(struct tr_call *call, struct tr__io *io);

/* tr_io_poll that gives up at a time (TR_FOREVER: never), with TR_ETIMEDOUT. */
int tr__io_poll_until(struct tr_call *call, tr_io *io, int fd, uint32_t events,
                      uint64_t deadline_ns);

/* The same for a request of a fiber's that was begun and nothing more; any thread, its last
 * touch. */
void tr__io_poll_begun(struct tr__io *io, int fd, uint32_t events, uint64_t deadline_ns);

/* What tr_io_wait_for would return at once; NULL: it would wait. */
tr_io *tr__io_take_done(struct tr_call *call, tr_io *const *ios, size_t count);

/* Any thread, the last touch of the request: it is done, io->op.result tells how. Wakes the call.
 */
void tr__io_finish(struct tr__io *io);

#endif
