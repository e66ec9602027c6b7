/*
 * timers.c: timers-n: arm and cancel a deadline with n outstanding.
 *
 * Two prices of the same thing: on the wheel by its owner thread, which is what a peer's timer
 * costs in its own loop; and through the ring thread, from another thread, hand-over and answer
 * included. Both are below the public interface, so this file alone includes from src.
 *
 * Deadlines lie a minute to an hour ahead, by the seed; none may fire. Measured: ns per arm and per
 * cancel.
 */
#include "workloads.h"

#include <sched.h>
#include <stdlib.h>

#include "engine/ring.h"
#include "parts/wheel.h"

#define GROUP 256 /* armed, then cancelled, before the clock is read */
#define MINUTE_NS (60 * TR_SECOND)

static uint64_t deadline(struct random *random)
{
    return now_ns() + random_between(random, MINUTE_NS, 60 * MINUTE_NS);
}

struct price {
    double arm_ns;
    double cancel_ns;
};

/* The wheel alone. */
static struct price measure_wheel(const struct options *options, size_t groups)
{
    struct random random = {options->seed};
    size_t outstanding = options->size;
    struct tr__wheel *wheel = calloc(1, sizeof *wheel);
    struct tr__wheel_entry *entries = calloc(outstanding + GROUP, sizeof *entries);
    uint64_t deadlines[GROUP];
    struct price price = {0, 0};
    REQUIRE(wheel != NULL && entries != NULL);
    tr__wheel_init(wheel, TR__WHEEL_TICK_NS, now_ns());
    for (size_t at = 0; at < outstanding + GROUP; at++) {
        tr__wheel_entry_init(&entries[at]);
        if (at < outstanding) {
            tr__wheel_arm(wheel, &entries[at], deadline(&random));
        }
    }
    for (size_t group = 0; group < groups; group++) {
        struct tr__wheel_entry *spare = &entries[outstanding];
        for (size_t at = 0; at < GROUP; at++) {
            deadlines[at] = deadline(&random);
        }
        uint64_t begin = now_ns();
        for (size_t at = 0; at < GROUP; at++) {
            tr__wheel_arm(wheel, &spare[at], deadlines[at]);
        }
        uint64_t between = now_ns();
        for (size_t at = 0; at < GROUP; at++) {
            tr__wheel_disarm(wheel, &spare[at]);
        }
        price.cancel_ns += (double)(now_ns() - between);
        price.arm_ns += (double)(between - begin);
        REQUIRE(tr__wheel_pop(wheel, now_ns()) == NULL);
    }
    REQUIRE(tr__wheel_count(wheel) == outstanding);
    free(entries);
    free(wheel);
    price.arm_ns /= (double)(groups * GROUP);
    price.cancel_ns /= (double)(groups * GROUP);
    return price;
}

static tr__atomic_u64 done_count; /* written by the ring thread */

static void note_done(struct tr__op *op)
{
    REQUIRE(op->result == TR_ECANCELED);
    tr__fetch_add_release(&done_count, 1); /* publishes the op's end; pairs with await_done */
}

static void await_done(uint64_t count)
{
    while (tr__load_acquire(&done_count) < count) { /* pairs with note_done */
        (void)sched_yield();
    }
}

static void start_timer(struct tr__ring *ring, struct tr__op *op, uint64_t deadline_ns)
{
    *op = (struct tr__op){.kind = TR__OP_TIMER, .deadline_ns = deadline_ns, .done = note_done};
    tr__ring_start(ring, op);
}

/* Through the ring: nanoseconds for arming, cancelling and getting the op back. */
static double measure_ring(const struct options *options, size_t groups)
{
    struct random random = {options->seed};
    size_t outstanding = options->size;
    struct tr__ring *ring = aligned_alloc(128, (sizeof *ring + 127) / 128 * 128);
    struct tr__op *ops = calloc(outstanding + GROUP, sizeof *ops);
    struct tr__ring_config config = {0};
    uint64_t deadlines[GROUP];
    uint64_t done = 0;
    uint64_t spent = 0;
    REQUIRE(ring != NULL && ops != NULL);
    tr__store_relaxed(&done_count, 0); /* nobody else runs yet */
    REQUIRE(tr__ring_open(ring, &config) == 0);
    for (size_t at = 0; at < outstanding; at++) {
        start_timer(ring, &ops[at], deadline(&random));
    }
    for (size_t group = 0; group < groups; group++) {
        struct tr__op *spare = &ops[outstanding];
        for (size_t at = 0; at < GROUP; at++) {
            deadlines[at] = deadline(&random);
        }
        uint64_t begin = now_ns();
        for (size_t at = 0; at < GROUP; at++) {
            start_timer(ring, &spare[at], deadlines[at]);
        }
        for (size_t at = 0; at < GROUP; at++) {
            tr__ring_cancel(ring, &spare[at], true);
        }
        done += GROUP;
        await_done(done);
        spent += now_ns() - begin;
    }
    REQUIRE(tr__ring_close(ring, UINT64_MAX) == 0);
    REQUIRE(tr__load_acquire(&done_count) == done + outstanding); /* the ring has been joined */
    free(ops);
    free(ring);
    return (double)spent / (double)(groups * GROUP);
}

void run_timers(const struct options *options)
{
    size_t groups = vary(options, options->quick ? 1000 : 8000);
    (void)measure_wheel(options, groups / 10 + 1); /* warm-up */
    struct price wheel = measure_wheel(options, groups);
    double ring = measure_ring(options, groups / 4);
    report_begin(options, "ns/arm+cancel", wheel.arm_ns + wheel.cancel_ns);
    report_also("arm ns", wheel.arm_ns);
    report_also("cancel ns", wheel.cancel_ns);
    report_also("hand-over arm+cancel ns", ring);
    report_parameter("outstanding", options->size);
    report_parameter("groups", groups);
    report_parameter("group", GROUP);
    report_end();
}
