/*
 * ring_table.c: the ops under way and all that can happen to each.
 *
 * Owner: the ring thread, for every function. Called by ring_loop; calls the kernel table and the
 * ops' done hooks.
 *
 *     accept ─▶ timer in the wheel ─────────────────────────────▶ finish ─▶ done
 *        ├────▶ waiting for an entry                             ▲  └─▶ cancel message owed ─▶ done
 *        │        ▼
 *        └────▶ entry: QUEUED ─▶ KERNEL ─▶ ENDED, cancel NONE ────┘
 *                         ▲        │ -EAGAIN, -EINTR
 *                         └────────┘
 *
 *  1. Requests in flight <= entries_max + cancels_max + 1 (the doorbell) <= completion queue: it
 *     cannot overflow. Cancels have places of their own, or ops that never end would hold all.
 *  2. Each entry has at most one request and one cancel in flight. It is freed, and its op
 *     finished, when neither is: op and buffer then have no reader left in the kernel.
 *  3. user_data = tag | generation | index is new for every placement. A completion that does not
 *     match the entry's stage and generation is counted as stale and ignored.
 *  4. `reason` is set at most once; after that nothing of the op is placed but one cancel, so the
 *     cancel's target stays the same. What cannot be placed now stays queued, never dropped.
 *  5. A cancel's result of 0, -ENOENT or -EALREADY says nothing about its target: only the
 *     target's own completion ends it. Any other result means it was not carried out, so it is
 *     queued again.
 *  6. `done` is called exactly once per accepted op: by finish, or by the cancel message that
 *     finish found announced (CANCEL_POSTED) and not yet taken. Nothing of the op is read after
 *     it.
 *  7. A READ or POLL given back cancelled gets one last look, since a cancel overtakes data that
 *     is there already (measured: always, with DEFER_TASKRUN).
 *
 * Complexity: everything O(1), except cancel_all. Waiting ops are linked by start.node.next and
 * `previous`, so that a deadline can take one out of the middle.
 * Rejected: half the queue for cancels (a quarter million timeouts at once are no use case;
 * cancels end at submission, so an eighth turns over in one round); LINK_TIMEOUT (cancels by
 * user_data).
 */
#include "engine/ring_entry.h"
#include "engine/ring_loop.h"

#include <errno.h>
#include <poll.h>
#include <toolring/error.h>

#include "base/assert.h"
#include "base/clock.h"
#include "parts/slots.h"

/* op->state: where the op is, and what became of its cancel. */
enum {
    PLACE_NONE = 0,
    PLACE_TIMER = 1,
    PLACE_WAITING = 2,
    PLACE_ENTRY = 3,
    PLACE_MASK = 3,
    CANCEL_TAKEN = 4, /* the cancel message has come */
    DONE_OWED = 8,    /* finished; `done` waits for the cancel message */
};

enum {
    TAG_OP = 1,
    TAG_CANCEL = 2,
    TAG_DOORBELL = 3,
};

void tr__ring_append(struct tr__ring *ring, struct tr__ring_queue *queue, uint32_t index)
{
    bool submit = queue == &ring->submit_queue;
    struct tr__ring_entry *entry = &ring->entries[index];

    *(submit ? &entry->submit_next : &entry->cancel_next) = 0;
    if (queue->count == 0) {
        queue->first = index;
    } else {
        struct tr__ring_entry *last = &ring->entries[queue->last];
        *(submit ? &last->submit_next : &last->cancel_next) = index;
    }
    queue->last = index;
    queue->count += 1;
}

static uint32_t queue_take(struct tr__ring *ring, struct tr__ring_queue *queue)
{
    TR_ASSERT(queue->count > 0);
    uint32_t index = queue->first;
    struct tr__ring_entry *entry = &ring->entries[index];
    queue->first = queue == &ring->submit_queue ? entry->submit_next : entry->cancel_next;
    queue->count -= 1;
    return index;
}

static struct tr__op *waiting_next(struct tr__op *op)
{
    /* relaxed: the node left the inbox and is the ring's own now */
    struct tr__mpsc_node *node = (struct tr__mpsc_node *)tr__load_relaxed(&op->start.node.next);

    return node == NULL ? NULL : TR__CONTAINER_OF(node, struct tr__op, start.node);
}

static void waiting_append(struct tr__ring *ring, struct tr__op *op)
{
    op->state = PLACE_WAITING;
    op->previous = ring->waiting_last;
    tr__store_relaxed(&op->start.node.next, (void *)NULL); /* the ring's own, as in waiting_next */
    if (ring->waiting_last == NULL) {
        ring->waiting_first = op;
    } else {
        tr__mpsc_link(&ring->waiting_last->start.node, &op->start.node);
    }
    ring->waiting_last = op;
}

static void waiting_remove(struct tr__ring *ring, struct tr__op *op)
{
    struct tr__op *next = waiting_next(op);
    struct tr__op *previous = op->previous;

    TR_ASSERT((op->state & PLACE_MASK) == PLACE_WAITING);
    if (next == NULL) {
        ring->waiting_last = previous;
    } else {
        next->previous = previous;
    }
    if (previous == NULL) {
        ring->waiting_first = next;
    } else {
        /* relaxed: the ring's own, as in waiting_next */
        tr__store_relaxed(&previous->start.node.next, next == NULL ? NULL : &next->start.node);
    }
}

static void call_done(struct tr__ring *ring, struct tr__op *op)
{
    tr__ring_count(ring, TR__RING_OPERATIONS);
    op->done(op);
}

/* The op has its result and nothing of it is in the kernel, in a queue or in the table. */
static void finish(struct tr__ring *ring, struct tr__op *op, int64_t result)
{
    uint16_t taken = op->state & CANCEL_TAKEN;

    tr__wheel_disarm(&ring->wheel, &op->timer);
    op->result = result;
    op->state = taken;
    if (taken == 0) { /* else its one cancel has come, and nobody asks for `flags` any more */
        /* acq_rel: one total order of this and the canceller's fetch_or decides whether a cancel
         * message is coming; pairs with tr__ring_cancel. */
        uint32_t flags = tr__fetch_or_acq_rel(&op->flags, TR__OP_FINISHED);
        if ((flags & TR__OP_CANCEL_POSTED) != 0) {
            op->state = DONE_OWED;
            ring->done_owed += 1;
            return;
        }
    }
    call_done(ring, op);
}

/* Gives the op an entry and queues its request. There is a free entry. */
static void assign_entry(struct tr__ring *ring, struct tr__op *op)
{
    uint32_t index = ring->entries_free;

    if (index != 0) {
        ring->entries_free = ring->entries[index].submit_next;
    } else {
        index = ring->entries_fresh;
        ring->entries_fresh += 1;
    }
    TR_ASSERT(index >= 1 && index <= ring->entries_max);
    struct tr__ring_entry *entry = &ring->entries[index];
    TR_ASSERT(entry->op == NULL && entry->stage == TR__RING_FREE);
    entry->op = op;
    entry->reason = 0;
    entry->stage = TR__RING_QUEUED;
    entry->cancel = TR__RING_CANCEL_NONE;
    entry->awaiting_readiness = 0;
    op->entry = index;
    op->state = PLACE_ENTRY;
    ring->entries_used += 1;
    tr__ring_append(ring, &ring->submit_queue, index);
}

void tr__ring_settle(struct tr__ring *ring, uint32_t index)
{
    struct tr__ring_entry *entry = &ring->entries[index];

    if (entry->stage != TR__RING_ENDED || entry->cancel != TR__RING_CANCEL_NONE) {
        return;
    }
    struct tr__op *op = entry->op;
    entry->op = NULL;
    entry->stage = TR__RING_FREE;
    entry->submit_next = ring->entries_free;
    ring->entries_free = index;
    ring->entries_used -= 1;
    finish(ring, op, op->result);
}

void tr__ring_end_entry(struct tr__ring *ring, uint32_t index, int64_t result)
{
    struct tr__ring_entry *entry = &ring->entries[index];

    entry->stage = TR__RING_ENDED;
    entry->op->result = result;
    tr__ring_settle(ring, index);
}

void tr__ring_request_end(struct tr__ring *ring, struct tr__op *op, int reason)
{
    switch (op->state & PLACE_MASK) {
    case PLACE_TIMER:
        finish(ring, op, reason);
        return;
    case PLACE_WAITING:
        waiting_remove(ring, op);
        finish(ring, op, reason);
        return;
    default:
        break;
    }
    TR_ASSERT((op->state & PLACE_MASK) == PLACE_ENTRY);
    struct tr__ring_entry *entry = &ring->entries[op->entry];
    TR_ASSERT(entry->op == op);
    if (entry->stage == TR__RING_ENDED || entry->reason != 0) {
        return;
    }
    entry->reason = reason;
    if (entry->stage == TR__RING_KERNEL) {
        entry->cancel = TR__RING_CANCEL_QUEUED;
        tr__ring_append(ring, &ring->cancel_queue, op->entry);
    }
}

/* A deadline as the wheel takes it. For ever is a deadline too, some 584 years away: so that
 * everything armed can be popped when the ring closes. */
static uint64_t wheel_deadline(uint64_t deadline_ns)
{
    uint64_t last_ns = UINT64_MAX - 2 * TR__WHEEL_TICK_NS;

    return deadline_ns < last_ns ? deadline_ns : last_ns;
}

void tr__ring_accept(struct tr__ring *ring, struct tr__op *op)
{
    TR_ASSERT(op->kind >= TR__OP_TIMER && op->kind <= TR__OP_POLL);
    TR_ASSERT((op->state & ~CANCEL_TAKEN) == PLACE_NONE);
    tr__wheel_entry_init(&op->timer);
    if (ring->stopping || (op->state & CANCEL_TAKEN) != 0) {
        finish(ring, op, TR_ECANCELED);
        return;
    }
    if (op->kind == TR__OP_TIMER) {
        op->state = PLACE_TIMER;
        tr__wheel_arm(&ring->wheel, &op->timer, wheel_deadline(op->deadline_ns));
        return;
    }
    if (op->deadline_ns != 0 && op->deadline_ns != TR__FOREVER) {
        tr__wheel_arm(&ring->wheel, &op->timer, wheel_deadline(op->deadline_ns));
    }
    if (ring->waiting_first == NULL && ring->entries_used < ring->entries_max) {
        assign_entry(ring, op);
    } else {
        waiting_append(ring, op);
    }
}

void tr__ring_take_cancel(struct tr__ring *ring, struct tr__op *op)
{
    TR_ASSERT((op->state & CANCEL_TAKEN) == 0);
    if ((op->state & DONE_OWED) != 0) {
        ring->done_owed -= 1;
        call_done(ring, op);
        return;
    }
    op->state |= CANCEL_TAKEN;
    if ((op->state & PLACE_MASK) !=
        PLACE_NONE) { /* else its start is still to come: accept ends it */
        tr__ring_request_end(ring, op, TR_ECANCELED);
    }
}

void tr__ring_expire(struct tr__ring *ring, struct tr__op *op)
{
    if (op->kind == TR__OP_TIMER) {
        tr__ring_count(ring, TR__RING_TIMERS_FIRED);
        finish(ring, op, 0);
    } else {
        tr__ring_request_end(ring, op, TR_ETIMEDOUT);
    }
}

static uint64_t next_generation(uint64_t generation)
{
    generation += 1;
    return generation < TR__GENERATION_SPENT ? generation : 1;
}

/* Places the entry's request, or ends it here if it was asked to end before. */
static void place_request(struct tr__ring *ring, uint32_t index)
{
    struct tr__ring_entry *entry = &ring->entries[index];
    struct tr__op *op = entry->op;

    TR_ASSERT(entry->stage == TR__RING_QUEUED);
    if (entry->reason == 0 && ring->dead) {
        entry->reason = TR_ERING;
    }
    if (entry->reason != 0) {
        tr__ring_end_entry(ring, index, entry->reason);
        return;
    }
    entry->generation = next_generation(entry->generation);
    struct tr__kernel_request request = {
        .user_data = TR__ID_MAKE(TAG_OP, entry->generation, index),
        .buffer = op->buffer,
        .fd = op->fd,
        .size = op->size,
        .events = op->events,
        .code = op->kind == TR__OP_READ    ? TR__KERNEL_READ
                : op->kind == TR__OP_WRITE ? TR__KERNEL_WRITE
                                           : TR__KERNEL_POLL,
    };
    if (entry->awaiting_readiness != 0) {
        request.code = TR__KERNEL_POLL;
        request.events = op->kind == TR__OP_READ ? POLLIN : POLLOUT;
    }
    if (request.code == TR__KERNEL_READ) {
        tr__asan_poison(op->buffer, op->size); /* the kernel's until the completion */
    }
    tr__tsan_release(op);
    ring->kernel->place(ring->kernel_state, &request);
    tr__ring_count(ring, TR__RING_REQUESTS);
    entry->stage = TR__RING_KERNEL;
    ring->in_kernel += 1;
}

/* Places the entry's cancel, if its request is still in the kernel. */
static void place_cancel(struct tr__ring *ring, uint32_t index)
{
    struct tr__ring_entry *entry = &ring->entries[index];

    TR_ASSERT(entry->cancel == TR__RING_CANCEL_QUEUED);
    if (entry->stage != TR__RING_KERNEL) {
        entry->cancel = TR__RING_CANCEL_NONE;
        tr__ring_settle(ring, index);
        return;
    }
    entry->cancel_generation = next_generation(entry->cancel_generation);
    struct tr__kernel_request request = {
        .user_data = TR__ID_MAKE(TAG_CANCEL, entry->cancel_generation, index),
        .target = TR__ID_MAKE(TAG_OP, entry->generation, index),
        .code = TR__KERNEL_CANCEL,
    };
    ring->kernel->place(ring->kernel_state, &request);
    entry->cancel = TR__RING_CANCEL_KERNEL;
    ring->cancels_in_kernel += 1;
}

/* Room beside the doorbell. A dead ring places nothing: what is queued just ends. */
static bool has_room(const struct tr__ring *ring)
{
    unsigned reserved = ring->doorbell_placed ? 0 : 1;

    return ring->dead || ring->kernel->room(ring->kernel_state) > reserved;
}

void tr__ring_place(struct tr__ring *ring)
{
    while (ring->cancel_queue.count > 0 && ring->cancels_in_kernel < ring->cancels_max &&
           has_room(ring)) {
        place_cancel(ring, queue_take(ring, &ring->cancel_queue));
    }
    while (ring->waiting_first != NULL && ring->entries_used < ring->entries_max) {
        struct tr__op *op = ring->waiting_first;
        waiting_remove(ring, op);
        assign_entry(ring, op);
    }
    while (ring->submit_queue.count > 0 && has_room(ring)) {
        place_request(ring, queue_take(ring, &ring->submit_queue));
    }
}

bool tr__ring_place_doorbell(struct tr__ring *ring)
{
    if (ring->doorbell_placed || ring->dead) {
        return true; /* a dead ring sleeps on the bell itself */
    }
    if (ring->kernel->room(ring->kernel_state) == 0) {
        return false; /* it was answered while submissions were short: the place was lent out */
    }
    ring->doorbell_generation = next_generation(ring->doorbell_generation);
    struct tr__kernel_request request = {
        .user_data = TR__ID_MAKE(TAG_DOORBELL, ring->doorbell_generation, 0),
        .code = TR__KERNEL_DOORBELL,
    };
    ring->kernel->place(ring->kernel_state, &request);
    ring->doorbell_placed = true;
    return true;
}

/* What an op results in that was asked to end and whose request came back without a result. */
static int64_t last_look(struct tr__ring *ring, const struct tr__ring_entry *entry)
{
    if (entry->op->kind == TR__OP_WRITE) {
        return entry->reason;
    }
    int64_t result = ring->kernel->attempt(ring->kernel_state, entry->op);
    return result >= 0 ? result : entry->reason;
}

static void complete_op(struct tr__ring *ring, uint32_t index, int64_t result)
{
    struct tr__ring_entry *entry = &ring->entries[index];
    struct tr__op *op = entry->op;
    bool was_poll = entry->awaiting_readiness != 0;

    tr__tsan_acquire(op);
    ring->in_kernel -= 1;
    if (op->kind == TR__OP_READ) {
        tr__asan_unpoison(op->buffer, op->size);
    }
    bool again = result == -EINTR || (was_poll && result >= 0);
    bool not_ready = result == -EAGAIN && op->kind != TR__OP_POLL;
    if (entry->reason != 0) {
        if (again || not_ready || result == -ECANCELED) {
            result = last_look(ring, entry);
        }
        tr__ring_end_entry(ring, index, result);
        return;
    }
    if (again || not_ready) {
        entry->awaiting_readiness = not_ready;
        entry->stage = TR__RING_QUEUED;
        tr__ring_append(ring, &ring->submit_queue, index);
        return;
    }
    tr__ring_end_entry(ring, index, result);
}

static void complete_cancel(struct tr__ring *ring, uint32_t index, int64_t result)
{
    struct tr__ring_entry *entry = &ring->entries[index];
    bool carried_out = result >= 0 || result == -ENOENT || result == -EALREADY;

    ring->cancels_in_kernel -= 1;
    if (!carried_out && entry->stage == TR__RING_KERNEL) {
        entry->cancel = TR__RING_CANCEL_QUEUED;
        tr__ring_append(ring, &ring->cancel_queue, index);
        return;
    }
    entry->cancel = TR__RING_CANCEL_NONE;
    tr__ring_settle(ring, index);
}

void tr__ring_complete(struct tr__ring *ring, const struct tr__kernel_completion *completion)
{
    uint32_t tag = TR__ID_TAG(completion->user_data);
    uint64_t generation = TR__ID_GENERATION(completion->user_data);
    uint32_t index = TR__ID_INDEX(completion->user_data);

    if (tag == TAG_DOORBELL && ring->doorbell_placed && generation == ring->doorbell_generation) {
        ring->doorbell_placed = false;
        tr__ring_count(ring, TR__RING_WAKES);
        return;
    }
    if (index >= 1 && index < ring->entries_fresh) {
        struct tr__ring_entry *entry = &ring->entries[index];
        if (tag == TAG_OP && entry->stage == TR__RING_KERNEL && generation == entry->generation) {
            complete_op(ring, index, completion->result);
            return;
        }
        if (tag == TAG_CANCEL && entry->cancel == TR__RING_CANCEL_KERNEL &&
            generation == entry->cancel_generation) {
            complete_cancel(ring, index, completion->result);
            return;
        }
    }
    tr__ring_count(ring, TR__RING_STALE);
}

bool tr__ring_can_place(const struct tr__ring *ring)
{
    return ring->submit_queue.count > 0 ||
           (ring->cancel_queue.count > 0 && ring->cancels_in_kernel < ring->cancels_max) ||
           (ring->waiting_first != NULL && ring->entries_used < ring->entries_max);
}

bool tr__ring_is_drained(const struct tr__ring *ring)
{
    return ring->entries_used == 0 && ring->waiting_first == NULL && ring->done_owed == 0 &&
           tr__wheel_count(&ring->wheel) == 0;
}
