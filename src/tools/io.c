/*
 * io.c: a call's own requests, and how its function waits for them.
 *
 * Purpose: the io and sleep functions of toolring/tool.h. Owner: the tool's thread (the fiber, or
 * the thread it blocks); only finished_op and tr__io_finish run elsewhere. Called by tools; calls
 * engine/call.
 *
 *   start ──▶ UNDER_WAY ──cancel──▶ CANCELLED
 *                 │                     │     engine: done hook pushes it on call->done, notifies
 *                 └──────────┬──────────┘
 *                            ▼ absorb: call->done → call->finished, oldest first
 *                          DONE ── tr_io_wait, tr_io_wait_for ──▶ IDLE, the tool's again
 *
 * Invariants
 *  1. call->under_way counts the requests that are not IDLE; call->requests leads to them, so that
 *     what a function leaves behind can be cancelled.
 *  2. The done hook reads call, engine and task before its push: after the push the function may
 *     have taken the request, returned and gone, call and all. The notification touches only the
 *     task, whose record is type-stable.
 *  3. No wake-up is lost: a push comes before its notification, a notification is not forgotten
 *     while the function is awake, and the function looks at call->done between a wait and the
 *     next one.
 *  4. A request that is done comes before "cancelled": a function hears of all that has happened,
 *     and asks again only if nothing has.
 *  5. Outside tr__call_wait a request done by the direct executor is DONE already (its hooks run
 *     in there, and absorb follows); one done by the ring may still be UNDER_WAY here, and
 *     cancelling it is settled by the op's own flags.
 *
 * Complexity: O(1) each; tr_io_wait_for is linear in its requests and in those finished and not
 * asked for. A request needs no memory but the tool's.
 */
#include "tools/io.h"

#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"

/* What one system call moves at most. */
#define BYTES_MAX (UINT64_C(1) << 30)
/* poll(2) knows sixteen. */
#define EVENTS_MASK UINT32_C(0xFFFF)

static void take_back_all(struct tr_call *call);

void tr__io_begin(struct tr_call *call, struct tr__io *io)
{
    io->call = call;
    io->state = TR__IO_UNDER_WAY;
    io->wanted = false;
    io->previous = NULL;
    io->next = call->under_way == 0 ? NULL : (struct tr__io *)call->requests;
    if (io->next != NULL) {
        io->next->previous = io;
    }
    call->requests = io;
    call->take_back = take_back_all;
    call->under_way += 1;
}

void tr__io_finish(struct tr__io *io)
{
    struct tr_call *call = io->call;
    struct tr__engine *engine = call->engine;
    struct tr__task *task = call->task;

    (void)tr__stack_push(&call->done, &io->finished); /* who wakes is not asked: we always do */
    tr__call_notify(engine, task);                    /* invariant 2 */
}

static void finished_op(struct tr__op *op)
{
    tr__io_finish(TR__CONTAINER_OF(op, struct tr__io, op));
}

static struct tr__io *io_of_node(struct tr__stack_node *node)
{
    return TR__CONTAINER_OF(node, struct tr__io, finished);
}

/* Fills the op, the rest of which is zero. */
static void fill(struct tr__io *io, const struct tr__op *wanted)
{
    memset((void *)&io->op, 0, sizeof io->op);
    io->op.done = finished_op;
    io->op.kind = wanted->kind;
    io->op.fd = wanted->fd;
    io->op.buffer = wanted->buffer;
    io->op.size = wanted->size;
    io->op.events = wanted->events;
    io->op.deadline_ns = wanted->deadline_ns;
}

static int start(tr_call *call, tr_io *given, const struct tr__op *wanted)
{
    struct tr__io *io = tr__io_of(given);

    fill(io, wanted);
    tr__io_begin(call, io);
    tr__call_start(call, &io->op);
    return 0;
}

void tr__io_poll_begun(struct tr__io *io, int fd, uint32_t events, uint64_t deadline_ns)
{
    const struct tr__op wanted = {
        .kind = TR__OP_POLL, .fd = fd, .events = events, .deadline_ns = deadline_ns};

    TR_ASSERT(io->call->fiber != NULL); /* elsewhere requests are the thread's own to perform */
    fill(io, &wanted);
    tr__ring_start(&io->call->engine->ring, &io->op);
}

int tr_io_read(tr_call *call, tr_io *io, int fd, void *buffer, size_t size)
{
    if (call == NULL || io == NULL || fd < 0 || buffer == NULL || size == 0 || size > BYTES_MAX) {
        return TR_EINVAL;
    }
    const struct tr__op wanted = {
        .kind = TR__OP_READ, .fd = fd, .buffer = buffer, .size = (uint32_t)size};
    return start(call, io, &wanted);
}

int tr_io_write(tr_call *call, tr_io *io, int fd, const void *data, size_t size)
{
    if (call == NULL || io == NULL || fd < 0 || data == NULL || size == 0 || size > BYTES_MAX) {
        return TR_EINVAL;
    }
    union {
        const void *constant;
        void *writable;
    } bytes = {.constant = data}; /* a write only reads them */
    const struct tr__op wanted = {
        .kind = TR__OP_WRITE, .fd = fd, .buffer = bytes.writable, .size = (uint32_t)size};
    return start(call, io, &wanted);
}

int tr__io_poll_until(tr_call *call, tr_io *io, int fd, uint32_t events, uint64_t deadline_ns)
{
    const struct tr__op wanted = {.kind = TR__OP_POLL,
                                  .fd = fd,
                                  .events = events,
                                  .deadline_ns = deadline_ns != TR__FOREVER ? deadline_ns : 0};
    return start(call, io, &wanted);
}

int tr_io_poll(tr_call *call, tr_io *io, int fd, uint32_t events)
{
    if (call == NULL || io == NULL || fd < 0 || (events & ~EVENTS_MASK) != 0) {
        return TR_EINVAL;
    }
    return tr__io_poll_until(call, io, fd, events, TR__FOREVER);
}

int tr_io_timer(tr_call *call, tr_io *io, uint64_t duration_ns)
{
    if (call == NULL || io == NULL) {
        return TR_EINVAL;
    }
    const struct tr__op wanted = {.kind = TR__OP_TIMER,
                                  .fd = -1,
                                  .deadline_ns = tr__clock_after(tr__clock_now(), duration_ns)};
    return start(call, io, &wanted);
}

void tr_io_cancel(tr_call *call, tr_io *given)
{
    struct tr__io *io = tr__io_of(given);

    /* Another call's is left alone: it is not this thread's to touch. */
    if (call != NULL && io != NULL && io->call == call && io->state == TR__IO_UNDER_WAY) {
        io->state = TR__IO_CANCELLED;
        tr__call_cancel(call, &io->op);
    }
}

/* Appends what has finished since the last look to call->finished, in the order of finishing. */
static void absorb(tr_call *call)
{
    struct tr__stack_node *chain = tr__stack_reverse(tr__stack_take_all(&call->done));

    for (struct tr__stack_node *node = chain; node != NULL; node = node->next) {
        io_of_node(node)->state = TR__IO_DONE;
    }
    struct tr__stack_node **end = &call->finished;
    while (chain != NULL && *end != NULL) {
        end = &(*end)->next;
    }
    if (chain != NULL) {
        *end = chain;
    }
}

/* Takes the request that *link leads to off the list and gives it to the tool. */
static tr_io *give_back(tr_call *call, struct tr__stack_node **link)
{
    struct tr__io *io = io_of_node(*link);

    TR_ASSERT(io->state == TR__IO_DONE && io->call == call);
    TR_ASSERT(call->under_way > 0);
    *link = io->finished.next;
    if (io->previous == NULL) {
        call->requests = io->next;
    } else {
        io->previous->next = io->next;
    }
    if (io->next != NULL) {
        io->next->previous = io->previous;
    }
    call->under_way -= 1;
    io->state = TR__IO_IDLE;
    io->result = io->op.result;
    call->lost = call->lost || io->result == TR_ERING; /* if the function fails, that is why */
    return (tr_io *)(void *)io;
}

int tr_io_wait(tr_call *call, uint32_t flags, tr_io **ret_io)
{
    if (call == NULL || ret_io == NULL || (flags & ~TR_IO_SHIELD) != 0) {
        return TR_EINVAL;
    }
    for (;;) {
        if (call->finished == NULL) {
            absorb(call);
        }
        if (call->finished != NULL) {
            *ret_io = give_back(call, &call->finished);
            return 0;
        }
        if (call->under_way == 0) {
            return TR_ESTATE;
        }
        if ((flags & TR_IO_SHIELD) == 0 && tr__call_is_cancelled(call)) {
            return TR_ECANCELED;
        }
        tr__call_wait(call);
    }
}

/* The first of the given requests to have finished; NULL if none has. *ret_under_way: whether any
 * of them may still finish. */
static tr_io *find_done(tr_call *call, tr_io *const *ios, size_t count, bool *ret_under_way)
{
    tr_io *found = NULL;

    *ret_under_way = false;
    absorb(call);
    for (size_t index = 0; index < count; index++) {
        struct tr__io *io = tr__io_of(ios[index]);
        io->wanted = io->state == TR__IO_DONE;
        *ret_under_way |= io->state != TR__IO_IDLE;
    }
    struct tr__stack_node **link = &call->finished;
    while (*link != NULL && !io_of_node(*link)->wanted) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        found = give_back(call, link);
    }
    for (size_t index = 0; index < count; index++) {
        tr__io_of(ios[index])->wanted = false;
    }
    return found;
}

tr_io *tr__io_take_done(tr_call *call, tr_io *const *ios, size_t count)
{
    bool under_way;
    return find_done(call, ios, count, &under_way);
}

int tr_io_wait_for(tr_call *call, uint32_t flags, tr_io *const *ios, size_t count, tr_io **ret_io)
{
    if (call == NULL || ret_io == NULL || ios == NULL || count == 0 ||
        (flags & ~TR_IO_SHIELD) != 0) {
        return TR_EINVAL;
    }
    for (size_t index = 0; index < count; index++) {
        if (ios[index] == NULL) {
            return TR_EINVAL;
        }
    }
    for (;;) {
        bool under_way;
        tr_io *found = find_done(call, ios, count, &under_way);
        if (found != NULL) {
            *ret_io = found;
            return 0;
        }
        if (!under_way) {
            return TR_ESTATE;
        }
        if ((flags & TR_IO_SHIELD) == 0 && tr__call_is_cancelled(call)) {
            return TR_ECANCELED;
        }
        tr__call_wait(call);
    }
}

/* The function has returned: what it has left under way is cancelled, and waited for. */
static void take_back_all(struct tr_call *call)
{
    struct tr__io *first = (struct tr__io *)call->requests;
    tr_io *done;

    for (struct tr__io *io = first; io != NULL; io = io->next) {
        tr_io_cancel(call, (tr_io *)(void *)io);
    }
    while (call->under_way > 0) {
        int error = tr_io_wait(call, TR_IO_SHIELD, &done);
        TR_ASSERT(error == 0); /* a shielded wait ends with a request */
    }
}

int tr_call_await_cancel(tr_call *call, uint64_t timeout_ns)
{
    if (call == NULL) {
        return TR_EINVAL;
    }
    if (timeout_ns != TR_FOREVER && timeout_ns != 0) {
        int status = tr_sleep(call, timeout_ns);
        return status == TR_ECANCELED ? 0 : status == 0 ? TR_ETIMEDOUT : status;
    }
    while (timeout_ns != 0 && !tr__call_is_cancelled(call)) {
        tr__call_wait(call);
    }
    return tr__call_is_cancelled(call) ? 0 : TR_ETIMEDOUT;
}

int tr_sleep(tr_call *call, uint64_t duration_ns)
{
    tr_io timer;
    tr_io *const timers[] = {&timer};
    tr_io *done;

    if (call == NULL) {
        return TR_EINVAL;
    }
    if (tr__call_is_cancelled(call)) {
        return TR_ECANCELED;
    }
    int error = tr_io_timer(call, &timer, duration_ns);
    if (error < 0) {
        return error;
    }
    int status = tr_io_wait_for(call, 0, timers, 1, &done);
    if (status == 0) {
        return (int)timer.result;
    }
    tr_io_cancel(call, &timer);
    error = tr_io_wait_for(call, TR_IO_SHIELD, timers, 1, &done);
    TR_ASSERT(error == 0); /* it was under way, and a shielded wait ends with it */
    return status;
}
