/*
 * kernel.h: a kernel for the ring that does everything at once, for counting instructions.
 *
 * Every request that is entered completes in that enter; a doorbell, when it is rung. Nothing here
 * draws chances or checks anything, as tests/sim does, so what is counted is the ring.
 */
#ifndef PERF_GUARD_KERNEL_H
#define PERF_GUARD_KERNEL_H

#include "engine/ring_kernel.h"

#define INSTANT_REQUESTS_MAX 512u

struct instant {
    struct tr__kernel_completion completions[INSTANT_REQUESTS_MAX];
    unsigned completions_count;
    unsigned taken; /* of them */
    struct tr__kernel_request placed[INSTANT_REQUESTS_MAX];
    unsigned placed_count;
    uint64_t doorbell; /* user_data of the one in flight, 0: none */
    bool rung;
    uint64_t now_ns;
};

/* Its `open` wants the struct instant as context. */
extern const struct tr__kernel instant_kernel;

#endif
