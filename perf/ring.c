/*
 * ring.c: ring: what the one submission thread of a manager can do in a second.
 *
 * One thread starts ops as fast as it can, at most WINDOW at a time; the ring does them and calls
 * their hooks. Four kinds, one after the other: timers armed and taken back; timers that come due;
 * polls of a descriptor that is ready; reads of 8 bytes from /dev/zero. Below the public interface,
 * as timers.c is: this is the bound on everything of one manager that waits.
 *
 * Measured: ops per second of each; how many ops one enter of the kernel served.
 */
#include "workloads.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/ring.h"

#define WINDOW 1024u
#define READ_BYTES 8u
#define HOUR_NS (3600 * TR_SECOND)

struct slot {
    struct tr__op op;
    uint64_t buffer;
    tr__atomic_u32 busy; /* 1: with the ring; the starter sets it, the hook clears it */
};

struct load {
    struct tr__ring *ring;
    struct slot *slots;
    struct tr__op like;
    int64_t result; /* what each must end with */
    bool cancelled;
};

static tr__atomic_u64 failures;

static void note_done(struct tr__op *op)
{
    struct slot *slot = TR__CONTAINER_OF(op, struct slot, op);
    const struct load *load = op->owner;
    if (op->result != load->result) {
        (void)tr__fetch_add_relaxed(&failures, UINT64_C(1)); /* looked at when all is done */
    }
    tr__store_release(&slot->busy, 0u); /* gives the op back; pairs with await */
}

static void await(struct slot *slot)
{
    while (tr__load_acquire(&slot->busy) != 0) { /* pairs with note_done */
        (void)sched_yield();
    }
}

static void start(struct load *load, struct slot *slot)
{
    slot->op = load->like;
    slot->op.owner = load;
    slot->op.done = note_done;
    slot->op.buffer = load->like.kind == TR__OP_READ ? &slot->buffer : NULL;
    tr__store_relaxed(&slot->busy, 1u); /* the ring's message publishes it */
    tr__ring_start(load->ring, &slot->op);
}

/* Starts `count` ops, waits for the last; returns ops per second. */
static double run(struct load *load, size_t count)
{
    uint64_t begin = now_ns();
    for (size_t at = 0; at < count; at++) {
        struct slot *slot = &load->slots[at % WINDOW];
        await(slot);
        if (load->like.kind == TR__OP_TIMER && !load->cancelled) {
            load->like.deadline_ns = now_ns();
        }
        start(load, slot);
        if (load->cancelled) {
            tr__ring_cancel(load->ring, &slot->op, true);
        }
    }
    for (size_t at = 0; at < WINDOW; at++) {
        await(&load->slots[at]);
    }
    uint64_t took = now_ns() - begin;
    REQUIRE(tr__load_relaxed(&failures) == 0); /* published by the last note_done */
    return (double)count * 1e9 / (double)took;
}

void run_ring(const struct options *options)
{
    struct tr__ring_config config = {0};
    struct tr__ring_stats before, after;
    struct load load = {0};
    size_t count = vary(options, options->quick ? 300000 : 2000000);
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    int ready = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    load.ring = aligned_alloc(128, (sizeof *load.ring + 127) / 128 * 128);
    load.slots = aligned_alloc(128, WINDOW * sizeof *load.slots / 128 * 128 + 128);
    REQUIRE(zero >= 0 && ready >= 0 && load.ring != NULL && load.slots != NULL);
    memset((void *)load.slots, 0, WINDOW * sizeof *load.slots);
    REQUIRE(tr__ring_open(load.ring, &config) == 0);

    load.like.kind = TR__OP_TIMER;
    load.like.deadline_ns = now_ns() + HOUR_NS;
    load.result = TR_ECANCELED;
    load.cancelled = true;
    (void)run(&load, count / 10); /* warm-up */
    double armed = run(&load, count);
    load.cancelled = false;
    load.result = 0;
    double fired = run(&load, count);
    load.like = (struct tr__op){.kind = TR__OP_POLL, .fd = ready, .events = POLLIN};
    load.result = POLLIN;
    tr__ring_stats_read(load.ring, &before);
    double polls = run(&load, count);
    tr__ring_stats_read(load.ring, &after);
    load.like = (struct tr__op){.kind = TR__OP_READ, .fd = zero, .size = READ_BYTES};
    load.result = READ_BYTES;
    double reads = run(&load, count);
    REQUIRE(tr__ring_close(load.ring, UINT64_MAX) == 0);
    (void)close(zero); /* read from only */
    (void)close(ready);
    double enters = (double)(after.enters - before.enters);
    report_begin(options, "polls/s", polls);
    report_also("reads/s", reads);
    report_also("timers armed and cancelled/s", armed);
    report_also("timers fired/s", fired);
    report_count("ops per enter", (double)count / enters);
    report_parameter("ops", count);
    report_parameter("window", WINDOW);
    report_end();
    free(load.ring);
    free(load.slots);
}
