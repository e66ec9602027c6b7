/*
 * ring_end.c: the two ways in which all ops end at once: the ring is closed, or it is broken.
 *
 * Owner: the ring thread. Called by ring_loop; calls ring_table and the kernel table.
 *
 * A ring is broken when enter answers anything but "not now": EBADF, EEXIST (its descriptor is
 * gone), EBADR (a completion was dropped). Which requests will still complete nobody knows then, so
 * all that were placed are given up with the ring, and the kernel's side is made anew.
 *
 *  1. Requests that only asked for readiness are placed again. Reads and writes may have moved
 *     bytes whose number is lost: they end with TR_ERING, their calls as `lost`, never in silence.
 *  2. What was not placed yet, and every timer, goes on with the new ring.
 *  3. If no new ring can be made, or new ones break at once, the ring is dead: ops that need the
 *     kernel end with TR_ERING as they come; timers, cancels and the stop work as before, since the
 *     thread can still sleep on its bell.
 *  4. The kernel's side gives its requests up before it returns, so no buffer is written to after
 *     its op has ended; generations go on, so a late completion would match nothing.
 *
 * Complexity: linear in the ops under way.
 * Rejected: aborting the process (a host's stray close is not worth its other work); trying reads
 * again (silently drops what the lost completion had read).
 */
#include "engine/ring_entry.h"
#include "engine/ring_loop.h"

#include <errno.h>
#include <toolring/error.h>

#include "base/atomic.h"

/* New rings made in a row without one answer that was good. */
#define REPAIRS_MAX 3u

void tr__ring_cancel_all(struct tr__ring *ring)
{
    while (ring->waiting_first != NULL) {
        tr__ring_request_end(ring, ring->waiting_first, TR_ECANCELED);
    }
    for (uint32_t index = 1; index < ring->entries_fresh; index++) {
        if (ring->entries[index].op != NULL) {
            tr__ring_request_end(ring, ring->entries[index].op, TR_ECANCELED);
        }
    }
    /* What is left in the wheel: timers, and deadlines of ops that were just asked to end. */
    struct tr__wheel_entry *timer;
    while ((timer = tr__wheel_pop(&ring->wheel, UINT64_MAX)) != NULL) {
        tr__ring_request_end(ring, TR__CONTAINER_OF(timer, struct tr__op, timer), TR_ECANCELED);
    }
}

/* The entry's request and cancel, as far as they were placed, are gone. */
static void lose(struct tr__ring *ring, uint32_t index)
{
    struct tr__ring_entry *entry = &ring->entries[index];

    if (entry->cancel == TR__RING_CANCEL_KERNEL) {
        entry->cancel = TR__RING_CANCEL_NONE;
    }
    if (entry->stage == TR__RING_ENDED) {
        tr__ring_settle(ring, index);
        return;
    }
    if (entry->stage != TR__RING_KERNEL) {
        return; /* never placed: it will be, or ends then */
    }
    struct tr__op *op = entry->op;
    if (op->kind == TR__OP_READ) {
        tr__asan_unpoison(op->buffer, op->size);
    }
    if (entry->reason != 0) {
        tr__ring_end_entry(ring, index, entry->reason);
    } else if (op->kind == TR__OP_POLL || entry->awaiting_readiness != 0) {
        entry->stage = TR__RING_QUEUED; /* invariant 1 */
        tr__ring_append(ring, &ring->submit_queue, index);
    } else {
        tr__ring_end_entry(ring, index, TR_ERING);
    }
}

void tr__ring_check(struct tr__ring *ring, int error)
{
    struct tr__kernel_completion last;

    if (error == 0 || error == -EINTR || error == -ETIME || error == -EAGAIN || error == -EBUSY) {
        ring->breaks = 0;
        return;
    }
    while (ring->kernel->take(ring->kernel_state, &last, 1) > 0) {
        tr__ring_complete(ring, &last); /* what it said before it broke is good */
    }
    ring->breaks += 1;
    bool again = ring->breaks <= REPAIRS_MAX;
    ring->dead = ring->kernel->repair(ring->kernel_state, again) != 0;
    ring->in_kernel = 0;
    ring->cancels_in_kernel = 0;
    ring->doorbell_placed = false;
    for (uint32_t index = 1; index < ring->entries_fresh; index++) {
        if (ring->entries[index].op != NULL) {
            lose(ring, index);
        }
    }
}
