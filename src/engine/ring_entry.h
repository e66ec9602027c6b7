/*
 * ring_entry.h: one place in the ring's table of ops that the kernel may hold. For ring_table.c,
 * and for ring_loop.c, which allocates the table.
 */
#ifndef TR__ENGINE_RING_ENTRY_H
#define TR__ENGINE_RING_ENTRY_H

#include <stdint.h>

#include "engine/op.h"

enum tr__ring_stage {
    TR__RING_FREE = 0,
    TR__RING_QUEUED, /* on the submit queue */
    TR__RING_KERNEL, /* its request is placed; one completion is to come */
    TR__RING_ENDED,  /* op->result is set; waits for its cancel's end */
};

enum tr__ring_cancel {
    TR__RING_CANCEL_NONE = 0,
    TR__RING_CANCEL_QUEUED, /* on the cancel queue */
    TR__RING_CANCEL_KERNEL, /* placed; one completion is to come */
};

struct tr__ring_entry {
    struct tr__op *op;          /* NULL: free */
    uint64_t generation;        /* of the request placed last; part of its user_data */
    uint64_t cancel_generation; /* of the cancel placed last, likewise */
    uint32_t submit_next;       /* submit queue, or free list */
    uint32_t cancel_next;       /* cancel queue */
    int32_t reason;             /* 0; TR_ECANCELED or TR_ETIMEDOUT: it shall end */
    uint8_t stage;              /* enum tr__ring_stage */
    uint8_t cancel;             /* enum tr__ring_cancel */
    uint8_t awaiting_readiness; /* the request is a poll, after which the op is tried again */
};

#endif
