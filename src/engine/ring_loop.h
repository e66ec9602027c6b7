/*
 * ring_loop.h: the ring without its thread: what one round does, and the table of ops under way.
 * For the ring's own files, and for tests that drive the loop by hand over a simulated kernel.
 */
#ifndef TR__ENGINE_RING_LOOP_H
#define TR__ENGINE_RING_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/op.h"
#include "engine/ring.h"
#include "engine/ring_kernel.h"

/* ---- ring_loop.c ---- */

/* Everything but the kernel and the thread. Returns 0, TR_EINVAL or TR_ENOMEM. */
int tr__ring_init(struct tr__ring *ring, const struct tr__ring_config *config);

/* On the thread that will run the rounds: opens the kernel's side. Returns 0 or its error. */
int tr__ring_attach(struct tr__ring *ring, const struct tr__ring_config *config);

/* One turn of the loop; may sleep in the kernel. False once stopped and drained. */
bool tr__ring_round(struct tr__ring *ring);

/* After the last round. */
void tr__ring_detach(struct tr__ring *ring);

/* Gives back what init took; nothing may be in flight. */
void tr__ring_done(struct tr__ring *ring);

/* Any thread: publishes a message, and wakes the ring if it sleeps beyond latest_ns: 0 always
 * wakes it, UINT64_MAX only once TR__RING_QUIET_MAX messages let it sleep. */
void tr__ring_push(struct tr__ring *ring, struct tr__message *message, uint64_t latest_ns);

static inline void tr__ring_count(struct tr__ring *ring, enum tr__ring_counter which)
{
    tr__atomic_u64 *counter = &ring->counters[which];
    uint64_t value = tr__load_relaxed(counter); /* our own last store: one writer */
    tr__store_relaxed(counter, value + 1);      /* publishes only itself */
}

/* ---- ring_table.c ---- */

/* Takes a started op. */
void tr__ring_accept(struct tr__ring *ring, struct tr__op *op);

/* The op's cancel message has come. */
void tr__ring_take_cancel(struct tr__ring *ring, struct tr__op *op);

/* The op's wheel entry has been popped. */
void tr__ring_expire(struct tr__ring *ring, struct tr__op *op);

/* Places requests and cancels as far as there is room, keeping one place for the doorbell. */
void tr__ring_place(struct tr__ring *ring);

/* tr__ring_place would find something to do, or lacked room: do not sleep. */
bool tr__ring_can_place(const struct tr__ring *ring);

/* Places the doorbell, if it is not with the kernel already. False: no room, do not sleep. */
bool tr__ring_place_doorbell(struct tr__ring *ring);

/* Acts on one completion. */
void tr__ring_complete(struct tr__ring *ring, const struct tr__kernel_completion *completion);

/* Appends an entry to the submit or the cancel queue. */
void tr__ring_append(struct tr__ring *ring, struct tr__ring_queue *queue, uint32_t index);

/* The entry's request has ended. */
void tr__ring_end_entry(struct tr__ring *ring, uint32_t index, int64_t result);

/* Frees the entry and finishes its op, once neither its request nor its cancel is outstanding. */
void tr__ring_settle(struct tr__ring *ring, uint32_t index);

/* Ends the op with `reason`, unless it has a result or another reason, as soon as can be. */
void tr__ring_request_end(struct tr__ring *ring, struct tr__op *op, int reason);

/* No op is under way. */
bool tr__ring_is_drained(const struct tr__ring *ring);

/* ---- ring_end.c ---- */

/* Asks every op under way to end with TR_ECANCELED. */
void tr__ring_cancel_all(struct tr__ring *ring);

/* Looks at what enter has answered; if the kernel's ring is broken, makes another, and ends the ops
 * that went down with it. */
void tr__ring_check(struct tr__ring *ring, int error);

#endif
