/*
 * A simulated kernel for the ring: one thread, a clock that only the simulation moves, and chance
 * from a seed. Requests complete at once, later, never, in any order, with any result; submissions
 * are short; enter fails; cancels miss, come late, or fail; completions that belong to nobody turn
 * up.
 *
 * The world outside the ring (other threads) acts from `step`, which is called inside every kernel
 * call. The same seed gives the same run; `trace` is a hash of all that happened.
 */
#ifndef TR__TESTS_SIM_KERNEL_H
#define TR__TESTS_SIM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ring_kernel.h"
#include "support/case.h"
#include "support/wait.h"

#define SIM_REQUESTS_MAX 1024u
/* Completions remembered, to be sent a second time. */
#define SIM_TAKEN 16u

/* How likely each trouble is, in percent. */
struct sim_options {
    unsigned submissions;    /* size of the submission queue; up to SIM_REQUESTS_MAX */
    unsigned short_submit;   /* an enter takes only some of what is placed */
    unsigned enter_error;    /* an enter fails and takes nothing */
    unsigned breaks;         /* the ring is broken, in permille of enters */
    unsigned repair_error;   /* no new one can be made */
    unsigned early_return;   /* a wait ends for no reason */
    unsigned never;          /* a request does not complete by itself */
    unsigned retry;          /* a result is -EAGAIN or -EINTR */
    unsigned failure;        /* a result is another error */
    unsigned cancel_trouble; /* a cancel is not plainly carried out */
    unsigned stranger;       /* an enter brings a completion that belongs to nobody */
};

struct sim_request {
    struct tr__kernel_request request;
    uint64_t due_ns; /* when it completes by itself */
    int64_t result;  /* with what */
};

struct sim {
    struct sim_options options;
    struct case_random random;
    uint64_t now_ns;
    uint64_t trace;
    uint64_t strangers; /* completions sent that belong to nobody */
    unsigned entries;   /* size of the completion queue */
    unsigned repairs;   /* times the ring broke */
    bool dead;          /* ... and could not be made again */
    bool belled;
    bool open;

    /* The world. */
    void *context;
    void (*step)(void *context);         /* may do anything another thread may */
    void (*before_sleep)(void *context); /* the ring is about to sleep: may it? */
    bool (*idle)(void *context); /* nothing will ever happen by itself: do something, or false */

    /* What each descriptor was told last, for the checks of the world. */
    int64_t last_result[SIM_REQUESTS_MAX];
    uint64_t last_user_data[SIM_REQUESTS_MAX];

    uint64_t taken[SIM_TAKEN];
    uint64_t taken_count;

    struct tr__kernel_request placed[SIM_REQUESTS_MAX];
    unsigned placed_count;
    struct sim_request flight[SIM_REQUESTS_MAX];
    unsigned flight_count;
    struct tr__kernel_completion completions[SIM_REQUESTS_MAX];
    unsigned completion_count;
};

/* The table; its `open` wants the struct sim as context. */
extern const struct tr__kernel sim_kernel;

/* `stream` chooses the run of this seed. The world's members are the caller's to set. */
void sim_init(struct sim *sim, const struct sim_options *options, uint64_t stream);

/* A true with that probability. */
bool sim_chance(struct sim *sim, unsigned percent);

/* Notes something in the trace. */
void sim_note(struct sim *sim, uint64_t what);

/* Whether anything that names the descriptor is placed, in flight or completed and not taken. */
bool sim_knows(const struct sim *sim, int fd);

#endif
