/*
 * kernel.c: see kernel.h.
 *
 * Owner thread: the guard's only one. Called by the ring; calls nothing.
 *
 * Invariants
 *  1. The ring has at most as many requests in flight as it was told entries, fewer than the arrays
 *     hold.
 *  2. A cancel finds nothing: what it is for has completed in the enter that began it.
 */
#include "kernel.h"

#include <errno.h>
#include <string.h>

static int instant_open(unsigned entries, void *context, void **ret_state, char *message,
                        size_t message_size)
{
    (void)message;
    (void)message_size;
    memset(context, 0, sizeof(struct instant));
    ((struct instant *)context)->now_ns = UINT64_C(1000000000);
    *ret_state = context;
    return entries <= INSTANT_REQUESTS_MAX / 2 ? 0 : -EINVAL;
}

static void instant_close(void *state)
{
    (void)state;
}

static unsigned instant_room(void *state)
{
    struct instant *kernel = state;
    return INSTANT_REQUESTS_MAX / 2 - kernel->placed_count;
}

static void instant_place(void *state, const struct tr__kernel_request *request)
{
    struct instant *kernel = state;
    kernel->placed[kernel->placed_count] = *request;
    kernel->placed_count += 1;
}

static void complete(struct instant *kernel, uint64_t user_data, int64_t result)
{
    struct tr__kernel_completion *completion = &kernel->completions[kernel->completions_count];
    completion->user_data = user_data;
    completion->result = result;
    kernel->completions_count += 1;
}

static int instant_enter(void *state, bool wait, uint64_t timeout_ns)
{
    struct instant *kernel = state;
    (void)wait;
    (void)timeout_ns;
    for (unsigned at = 0; at < kernel->placed_count; at++) {
        const struct tr__kernel_request *request = &kernel->placed[at];
        switch (request->code) {
        case TR__KERNEL_DOORBELL:
            kernel->doorbell = request->user_data;
            break;
        case TR__KERNEL_CANCEL:
            complete(kernel, request->user_data, -ENOENT);
            break;
        case TR__KERNEL_POLL:
            complete(kernel, request->user_data, request->events);
            break;
        default:
            complete(kernel, request->user_data, request->size);
            break;
        }
    }
    kernel->placed_count = 0;
    if (kernel->rung && kernel->doorbell != 0) {
        complete(kernel, kernel->doorbell, 0);
        kernel->rung = false;
        kernel->doorbell = 0;
    }
    return 0;
}

static unsigned instant_take(void *state, struct tr__kernel_completion *completions, unsigned max)
{
    struct instant *kernel = state;
    unsigned count = kernel->completions_count - kernel->taken;
    count = count < max ? count : max;
    memcpy(completions, &kernel->completions[kernel->taken], count * sizeof *completions);
    kernel->taken += count;
    if (kernel->taken == kernel->completions_count) {
        kernel->taken = 0;
        kernel->completions_count = 0;
    }
    return count;
}

static void instant_bell(void *state)
{
    ((struct instant *)state)->rung = true;
}

static int64_t instant_attempt(void *state, const struct tr__op *op)
{
    (void)state;
    (void)op;
    return -EAGAIN;
}

static uint64_t instant_now(void *state)
{
    return ((struct instant *)state)->now_ns;
}

const struct tr__kernel instant_kernel = {
    .open = instant_open,
    .close = instant_close,
    .room = instant_room,
    .place = instant_place,
    .enter = instant_enter,
    .take = instant_take,
    .bell = instant_bell,
    .attempt = instant_attempt,
    .now = instant_now,
};
