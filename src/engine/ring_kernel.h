/*
 * ring_kernel.h: all that the ring thread wants of a kernel, as a table of functions.
 *
 * Two implementations: io_uring (ring_uring.c) and the seeded simulator of tests/sim. The ring's
 * logic is written against this table alone, so the simulator can complete requests late, in any
 * order, with any error, and stop the loop at every call to let something happen between.
 *
 * Everything except `bell` is called by the ring thread alone.
 */
#ifndef TR__ENGINE_RING_KERNEL_H
#define TR__ENGINE_RING_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/op.h"

enum tr__kernel_code {
    TR__KERNEL_READ = 1,     /* one read at the current position */
    TR__KERNEL_WRITE = 2,    /* one write at the current position */
    TR__KERNEL_POLL = 3,     /* one-shot readiness; result: the events */
    TR__KERNEL_CANCEL = 4,   /* cancels the request whose user_data is `target` */
    TR__KERNEL_DOORBELL = 5, /* completes once `bell` has been called since the last one did */
};

/* One submission. `buffer` belongs to the kernel until the completion. */
struct tr__kernel_request {
    uint64_t user_data; /* unique among requests in flight */
    uint64_t target;    /* CANCEL */
    void *buffer;       /* READ, WRITE */
    int fd;             /* READ, WRITE, POLL */
    uint32_t size;      /* READ, WRITE */
    uint32_t events;    /* POLL */
    uint32_t code;      /* enum tr__kernel_code */
};

/* One completion: exactly one for each request. */
struct tr__kernel_completion {
    uint64_t user_data;
    int64_t result; /* >= 0 or -errno */
};

struct tr__kernel {
    /*
     * Opens a ring for at most `entries` requests in flight, on the thread that will use it.
     * `context` is the configuration's. Returns 0 with *ret_state, or a negative code with the
     * words in `message`.
     */
    int (*open)(unsigned entries, void *context, void **ret_state, char *message,
                size_t message_size);

    /* Nothing may be in flight. */
    void (*close)(void *state);

    /* Submissions that may be placed before the next enter; at its highest when none is placed. */
    unsigned (*room)(void *state);

    /* Places one submission; there is room. The request itself is copied. */
    void (*place)(void *state, const struct tr__kernel_request *request);

    /*
     * Submits what is placed, as far as the kernel takes it (the rest stays placed), and lets
     * completions appear. With `wait`, and if all was submitted, it then sleeps until there is a
     * completion, or `timeout_ns` (relative; UINT64_MAX: for ever) has passed, or for no reason at
     * all. Returns 0 or -errno, of which EINTR, ETIME, EAGAIN and EBUSY say nothing about
     * completions: look at them all the same. Any other means that the ring is broken.
     */
    int (*enter)(void *state, bool wait, uint64_t timeout_ns);

    /*
     * The ring is broken: gives up every request that was placed (none will complete or touch its
     * buffer any more) and, if `again`, makes another ring. Returns 0 if there is one. Else the
     * kernel's side is dead: nothing is placed or taken any more, enter only sleeps until the bell
     * or the timeout, and answers 0.
     */
    int (*repair)(void *state, bool again);

    /* Copies out up to `max` completions; returns how many. */
    unsigned (*take)(void *state, struct tr__kernel_completion *completions, unsigned max);

    /* Any thread. Completes the doorbell in flight, or the next one. Never fails or blocks. */
    void (*bell)(void *state);

    /* tr__op_attempt: the last look at an op that the kernel gave back cancelled. */
    int64_t (*attempt)(void *state, const struct tr__op *op);

    /* The clock of deadlines and timeouts: tr__clock_now. */
    uint64_t (*now)(void *state);
};

/* io_uring; its context is unused. */
extern const struct tr__kernel tr__kernel_uring;

#endif
