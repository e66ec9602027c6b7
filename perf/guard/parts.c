/*
 * parts.c: the parts alone: wheel, ring, queues, fibers.
 *
 * Owner thread: the guard's only one, in every role. Called by main.c; calls parts and the ring.
 *
 * Invariant: a round leaves everything as it found it, so every round costs the same.
 */
#include <string.h>

#include "base/clock.h"
#include "engine/ring_loop.h"
#include "parts/fiber.h"
#include "parts/inbox.h"
#include "parts/wheel.h"
#include "probes.h"

#define REQUIRE(condition) stage_require((condition), #condition)
#define OUTSTANDING 1000u
#define GROUP 32u
#define SECOND_NS UINT64_C(1000000000)

/* A minute to an hour ahead, the same every time. */
static uint64_t deadline_of(unsigned at)
{
    return (60 + at * UINT64_C(7919) % 3540) * SECOND_NS;
}

/* Arm and disarm, with a thousand others armed. */
static void probe_wheel(struct stage *stage, unsigned rounds)
{
    static struct tr__wheel wheel;
    static struct tr__wheel_entry entries[OUTSTANDING + GROUP];
    (void)stage;
    tr__wheel_init(&wheel, TR__WHEEL_TICK_NS, SECOND_NS);
    for (unsigned at = 0; at < OUTSTANDING + GROUP; at++) {
        tr__wheel_entry_init(&entries[at]);
        if (at < OUTSTANDING) {
            tr__wheel_arm(&wheel, &entries[at], deadline_of(at));
        }
    }
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned at = 0; at < GROUP; at++) {
            tr__wheel_arm(&wheel, &entries[OUTSTANDING + at], deadline_of(at));
        }
        for (unsigned at = 0; at < GROUP; at++) {
            tr__wheel_disarm(&wheel, &entries[OUTSTANDING + at]);
        }
    }
    REQUIRE(tr__wheel_count(&wheel) == OUTSTANDING);
}

static unsigned done_count;

static void note_done(struct tr__op *op)
{
    (void)op;
    done_count += 1;
}

/* Ops of one kind, started together; cancelled if `cancelled`; until all are done. */
static void run_ops(struct stage *stage, const struct tr__op *like, unsigned count, bool cancelled)
{
    static struct tr__op ops[GROUP];
    struct tr__ring *ring = &tr__engine_of(stage->manager)->ring;
    done_count = 0;
    for (unsigned at = 0; at < count; at++) {
        ops[at] = *like;
        tr__ring_start(ring, &ops[at]);
    }
    for (unsigned at = 0; cancelled && at < count; at++) {
        tr__ring_cancel(ring, &ops[at], false);
    }
    while (done_count < count) {
        REQUIRE(tr__ring_round(ring));
    }
}

static void probe_ring_timers(struct stage *stage, unsigned rounds)
{
    struct tr__op timer = {
        .kind = TR__OP_TIMER, .deadline_ns = 3600 * SECOND_NS, .done = note_done};
    for (unsigned round = 0; round < rounds; round++) {
        run_ops(stage, &timer, GROUP, true);
    }
}

static void probe_ring_read(struct stage *stage, unsigned rounds)
{
    static char buffer[64];
    struct tr__op read = {
        .kind = TR__OP_READ, .buffer = buffer, .size = sizeof buffer, .done = note_done};
    for (unsigned round = 0; round < rounds; round++) {
        run_ops(stage, &read, 1, false);
    }
}

static void probe_ring_polls(struct stage *stage, unsigned rounds)
{
    struct tr__op poll = {.kind = TR__OP_POLL, .events = 1, .done = note_done};
    for (unsigned round = 0; round < rounds; round++) {
        run_ops(stage, &poll, GROUP, false);
    }
}

static void probe_mpsc(struct stage *stage, unsigned rounds)
{
    static struct tr__mpsc queue;
    static struct tr__mpsc_node nodes[GROUP];
    struct tr__mpsc_node *node;
    (void)stage;
    tr__mpsc_init(&queue);
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned at = 0; at < GROUP; at++) {
            tr__mpsc_push(&queue, &nodes[at]);
        }
        for (unsigned at = 0; at < GROUP; at++) {
            REQUIRE(tr__mpsc_pop(&queue, &node) == TR__MPSC_ITEM);
        }
    }
}

static void probe_inbox(struct stage *stage, unsigned rounds)
{
    static struct tr__inbox inbox;
    static struct tr__mpsc_node nodes[GROUP];
    (void)stage;
    tr__inbox_init(&inbox);
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned at = 0; at < GROUP; at++) {
            tr__inbox_push(&inbox, &nodes[at]);
        }
        REQUIRE(tr__token_try_take(&inbox.token));
        for (unsigned at = 0; at < GROUP; at++) {
            REQUIRE(tr__inbox_pop(&inbox) == &nodes[at]);
        }
        tr__token_give(&inbox.token);
    }
}

static void suspend_for_ever(void *argument)
{
    struct tr__fiber **fiber = argument;
    while (*fiber != NULL) {
        tr__fiber_suspend(*fiber);
    }
}

/* In and out again: two switches. */
static void probe_fiber(struct stage *stage, unsigned rounds)
{
    struct tr__fiber_pool *pool = &tr__engine_of(stage->manager)->fibers;
    struct tr__fiber *fiber = tr__fiber_take(pool, NULL);
    struct tr__fiber *self = fiber;
    REQUIRE(fiber != NULL);
    tr__fiber_start(fiber, suspend_for_ever, &self);
    for (unsigned round = 0; round < rounds; round++) {
        (void)tr__fiber_resume(fiber);
    }
    self = NULL;
    REQUIRE(tr__fiber_resume(fiber) == TR__FIBER_FINISHED);
    tr__fiber_give(pool, NULL, fiber);
}

const struct probe probes_of_parts[] = {
    {"wheel-timer", probe_wheel, GROUP, PROBE_BARE, NULL},
    {"ring-timer", probe_ring_timers, GROUP, PROBE_THREADED, NULL},
    {"ring-read", probe_ring_read, 1, PROBE_THREADED, NULL},
    {"ring-polls-32", probe_ring_polls, GROUP, PROBE_THREADED, NULL},
    {"mpsc", probe_mpsc, GROUP, PROBE_BARE, NULL},
    {"inbox", probe_inbox, GROUP, PROBE_BARE, NULL},
    {"fiber-switch", probe_fiber, 1, PROBE_THREADED, NULL},
};
const unsigned probes_of_parts_count = sizeof probes_of_parts / sizeof probes_of_parts[0];
