/*
 * ring_loop.c: the round of the ring thread, and the protocol by which others wake it.
 *
 * Owner: the ring thread; tr__ring_push: any thread. Called by ring.c and tests/sim; calls
 * ring_table and the kernel table.
 *
 *     expire ─▶ take messages ─▶ place requests ─▶ park protocol ─▶ one enter ─▶ completions
 *
 * Waking. S is sleeping_until: 0 awake, else the time W at which the ring wakes by itself.
 *
 *     ring:      R1 S = W (seq_cst)   R2 look at the inbox (seq_cst)   R3 empty: enter   R4 S = 0
 *     producer:  P1 push (seq_cst)    P2 read S (seq_cst)
 *                P3 if S != 0 and the message cannot wait until S: exchange S for 0, ring the bell
 *                   if it was not 0
 *
 *  1. No message that cannot wait stays behind. If P1 precedes R2 in the order of all seq_cst
 *     operations, R2 sees it and the ring does not sleep. Else R1 < R2 < P1 < P2: P2 reads W or
 *     what was written over it. W: the producer rings. 0 by another's P3: that one rings, and the
 *     ring takes the whole inbox before it sleeps again. 0 by R4: the ring is awake, and its next
 *     R2 comes after P1.
 *  2. A timer with deadline D may keep quiet exactly if S = W <= D: the ring wakes at W, takes the
 *     message, arms the timer and goes on to D. If P2 read an older W' of a sleep that is over,
 *     then P2 precedes the present R1, so P1 precedes R2: the ring has seen it.
 *  3. R4 may be relaxed: reading it is covered by 1, and it publishes nothing.
 *  4. The bell is kept by the kernel (an eventfd counts), so one rung before the doorbell is
 *     submitted is not lost; one rung for nothing costs one round.
 *  5. The first producer that must wake the ring pays for it; the others read 0.
 *  6. BUSY (a producer between its two steps) counts as "not empty": no sleep.
 *  7. The ring sleeps in enter only; nothing else here blocks.
 *  8. Timers are expired before messages are taken, so an op whose deadline has passed when it is
 *     started is still tried once: it is submitted before its cancel.
 *
 * Complexity: a round is bounded by TR__RING_BATCH of each kind; an enter serves as many ops as
 * there are. Measured: a timer 31 to 90 ns in batches of 256, a pipe read 490 ns, a poll 380 ns.
 * Rejected: release/acquire in the park protocol (loses wake-ups); a futex (the ring must sleep in
 * enter, where completions come); waking for each timer (6 us each); spinning before sleep (two
 * processors, and whoever would be waited for needs one; 3 us of it took the wakes of a timer
 * benchmark from 1.03 to 0.01 for each 256 timers, and changed nothing in its time).
 */
#include "engine/ring_loop.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/memory.h"
#include "engine/ring_entry.h"

/* Looks at a message whose producer is between its two steps, before the round goes on without. */
#define BUSY_LOOKS 64u

int tr__ring_init(struct tr__ring *ring, const struct tr__ring_config *config)
{
    unsigned size = config->entries == 0 ? TR__RING_CQ_ENTRIES : config->entries;

    if (size < TR__RING_ENTRIES_MIN || size > TR__RING_ENTRIES_MAX) {
        return TR_EINVAL;
    }
    memset(ring, 0, sizeof *ring);
    ring->queue_size = TR__RING_ENTRIES_MIN;
    while (ring->queue_size < size) {
        ring->queue_size *= 2;
    }
    ring->cancels_max = ring->queue_size / 8;
    ring->entries_max = ring->queue_size - ring->cancels_max - 1;
    ring->entries_fresh = 1;
    ring->entries = tr__memory_reserve((ring->entries_max + 1) * sizeof *ring->entries);
    if (ring->entries == NULL) {
        return TR_ENOMEM;
    }
    ring->kernel = config->kernel != NULL ? config->kernel : &tr__kernel_uring;
    tr__mpsc_init(&ring->inbox);
    tr__store_relaxed(&ring->due_ns, UINT64_MAX); /* the thread does not exist yet */
    return 0;
}

int tr__ring_attach(struct tr__ring *ring, const struct tr__ring_config *config)
{
    int error = ring->kernel->open(ring->queue_size, config->kernel_context, &ring->kernel_state,
                                   config->message, config->message_size);

    if (error != 0) {
        return error;
    }
    ring->room_max = ring->kernel->room(ring->kernel_state);
    tr__wheel_init(&ring->wheel, TR__WHEEL_TICK_NS, ring->kernel->now(ring->kernel_state));
    return 0;
}

void tr__ring_detach(struct tr__ring *ring)
{
    TR_ASSERT(tr__ring_is_drained(ring) && !ring->doorbell_placed);
    ring->kernel->close(ring->kernel_state);
}

void tr__ring_done(struct tr__ring *ring)
{
    tr__memory_unreserve(ring->entries, (ring->entries_max + 1) * sizeof *ring->entries);
}

void tr__ring_push(struct tr__ring *ring, struct tr__message *message, uint64_t latest_ns)
{
    tr__mpsc_push(&ring->inbox, &message->node); /* P1 */
    /* seq_cst: P2 of the design block; pairs with prepare_to_sleep. The message is not ours now. */
    uint64_t until_ns = tr__load_seq_cst(&ring->sleeping_until);
    if (until_ns == 0) {
        return;
    }
    /* relaxed: a count that decides nothing but when to be generous */
    if (latest_ns >= until_ns && tr__fetch_add_relaxed(&ring->quiet, 1u) + 1 < TR__RING_QUIET_MAX) {
        return;
    }
    /* seq_cst: P3, elects the one who rings; its 0 is covered by proof 1 */
    if (tr__exchange_seq_cst(&ring->sleeping_until, UINT64_C(0)) != 0) {
        ring->kernel->bell(ring->kernel_state);
    }
}

void tr__ring_nudge(struct tr__ring *ring)
{
    /* seq_cst, both: as P2 and P3; a ring found awake looks at its inbox before it sleeps again. */
    if (tr__load_seq_cst(&ring->sleeping_until) != 0 &&
        tr__exchange_seq_cst(&ring->sleeping_until, UINT64_C(0)) != 0) {
        ring->kernel->bell(ring->kernel_state);
    }
}

/* Shows others for when the first timer is. */
static void publish_due(struct tr__ring *ring)
{
    uint64_t due_ns = tr__wheel_first(&ring->wheel);

    if (tr__load_relaxed(&ring->due_ns) != due_ns) { /* our own last store */
        tr__store_relaxed(&ring->due_ns, due_ns);    /* a hint: publishes nothing else */
    }
}

/* Fires what is due, a batch of it; the wheel answers whether there is more. */
static void expire_timers(struct tr__ring *ring)
{
    uint64_t now_ns = ring->kernel->now(ring->kernel_state);

    for (unsigned count = 0; count < TR__RING_BATCH; count++) {
        struct tr__wheel_entry *timer = tr__wheel_pop(&ring->wheel, now_ns);
        if (timer == NULL) {
            return;
        }
        tr__ring_expire(ring, TR__CONTAINER_OF(timer, struct tr__op, timer));
    }
}

static void take_message(struct tr__ring *ring, struct tr__message *message)
{
    switch (message->kind) {
    case TR__MESSAGE_START:
        tr__ring_accept(ring, TR__CONTAINER_OF(message, struct tr__op, start));
        return;
    case TR__MESSAGE_CANCEL:
        tr__ring_take_cancel(ring, TR__CONTAINER_OF(message, struct tr__op, cancel));
        return;
    default:
        TR_ASSERT(message->kind == TR__MESSAGE_STOP && !ring->stopping);
        ring->stopping = true;
        tr__ring_cancel_all(ring);
        return;
    }
}

/* Takes a batch. Returns whether there may be more. */
static bool take_messages(struct tr__ring *ring)
{
    unsigned busy_looks = 0;

    for (unsigned count = 0; count < TR__RING_BATCH;) {
        struct tr__mpsc_node *node;
        enum tr__mpsc_result result = tr__mpsc_pop(&ring->inbox, &node);
        if (result == TR__MPSC_EMPTY) {
            return false;
        }
        if (result == TR__MPSC_ITEM) {
            /* The next one, while this one is dealt with; relaxed: our own store. */
            __builtin_prefetch((const void *)tr__load_relaxed(&ring->inbox.head), 1);
            take_message(ring, TR__CONTAINER_OF(node, struct tr__message, node));
            count += 1;
            continue;
        }
        busy_looks += 1;
        if (busy_looks > BUSY_LOOKS) {
            (void)sched_yield(); /* its producer was preempted: let it run */
            return true;
        }
        tr__cpu_relax();
    }
    return true;
}

/* R1 and R2. Returns when to wake, 0 if there is something to do instead. */
static uint64_t prepare_to_sleep(struct tr__ring *ring)
{
    uint64_t until_ns = tr__wheel_next(&ring->wheel);

    if (until_ns <= ring->kernel->now(ring->kernel_state) || !tr__ring_place_doorbell(ring)) {
        return 0;
    }
    /* seq_cst: R1, comes before the look at the inbox; pairs with tr__ring_push */
    tr__store_seq_cst(&ring->sleeping_until, until_ns);
    if (!tr__mpsc_is_empty(&ring->inbox)) {                    /* R2 */
        tr__store_relaxed(&ring->sleeping_until, UINT64_C(0)); /* R4 */
        return 0;
    }
    return until_ns;
}

/* Enters the kernel: to sleep if nothing is to be done here, not at all if nothing is there. */
static void enter(struct tr__ring *ring, bool busy)
{
    const struct tr__kernel *kernel = ring->kernel;
    uint64_t until_ns = busy ? 0 : prepare_to_sleep(ring);
    int error;

    if (until_ns != 0) {
        uint64_t left_ns = tr__clock_left(kernel->now(ring->kernel_state), until_ns);
        error = kernel->enter(ring->kernel_state, true, left_ns);
        tr__store_relaxed(&ring->sleeping_until, UINT64_C(0)); /* R4 */
        tr__store_relaxed(&ring->quiet, 0u);                   /* a count of a sleep that is over */
    } else {
        if (ring->dead || (ring->in_kernel + ring->cancels_in_kernel == 0 &&
                           kernel->room(ring->kernel_state) == ring->room_max)) {
            return;
        }
        error = kernel->enter(ring->kernel_state, false, 0);
    }
    tr__ring_count(ring, TR__RING_ENTERS);
    tr__ring_check(ring, error);
}

/* Copies out a batch of completions, then acts on them: done hooks may start further ops. */
static void take_completions(struct tr__ring *ring)
{
    struct tr__kernel_completion completions[TR__RING_BATCH];
    unsigned count = ring->kernel->take(ring->kernel_state, completions, TR__RING_BATCH);

    for (unsigned index = 0; index < count; index++) {
        tr__ring_complete(ring, &completions[index]);
    }
}

/* All ops are done: takes the doorbell back. Returns false when there is none to wait for. */
static bool retire_doorbell(struct tr__ring *ring)
{
    if (!ring->doorbell_placed) {
        return false;
    }
    ring->kernel->bell(ring->kernel_state);
    int error = ring->kernel->enter(ring->kernel_state, true, TR__FOREVER);
    tr__ring_check(ring, error);
    take_completions(ring);
    return true;
}

bool tr__ring_round(struct tr__ring *ring)
{
    expire_timers(ring);
    bool more = take_messages(ring);
    publish_due(ring);
    tr__ring_place(ring);
    if (ring->stopping && !more && tr__ring_is_drained(ring) && tr__mpsc_is_empty(&ring->inbox)) {
        return retire_doorbell(ring);
    }
    enter(ring, more || tr__ring_can_place(ring));
    take_completions(ring);
    return true;
}
