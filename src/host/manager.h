/*
 * manager: the one owner: of the engine, the completion, the queues, and of their beginning and
 * end. launch is the way in, drain the way out, control steers; they all work on this struct.
 */
#ifndef TR__HOST_MANAGER_H
#define TR__HOST_MANAGER_H

#include <pthread.h>

#include <toolring.h>

#include "completion/completion.h"
#include "domain/queue.h"
#include "engine/engine.h"

struct tr_manager {
    struct tr__engine engine; /* first: tr__engine_of */
    struct tr__completion *completion;
    tr_permit_function permit;
    tr_route_function route;
    void *context;
    uint64_t input_bytes_max;
    uint32_t fibers_max;
    uint32_t queues_max;
    bool threaded;
    TR__CACHE_ALIGNED tr__atomic_u32
        closed;             /* 1: every outcome is in its channel; written by close */
    tr__atomic_u32 closing; /* 1: somebody closes; the first one wins */
    bool left_behind;       /* close answered TR_EBUSY: nothing may be freed */
    pthread_mutex_t lock;   /* guards the lists of queues, and nudges against the close */
    struct tr_queue *queues;
    struct tr_queue *spare; /* queues that were closed: who filled them may be on its way out */
    uint32_t queues_count;
    struct tr__op flush; /* under the lock: tr__manager_flush */
    struct tr__parker flushed;
    tr__atomic_u32 flush_done;
};

TR_STATIC(offsetof(struct tr_manager, engine) == 0, "tr__engine_of converts between the two");

static inline struct tr__registry *tr__manager_registry(tr_manager *manager)
{
    return &manager->completion->registry;
}

/* Whether a caller's structure can be taken: it is at least as large as this library's, and what
 * lies beyond is zero (a newer caller that asks for nothing new). */
bool tr__size_is_known(const void *structure, size_t size, size_t known);

/* Whether every field of the options is in its range. */
bool tr__options_are_valid(const tr_options *options);

/* Whether a duration of 0 … TR_FOREVER is up at `deadline`; converts a timeout to a deadline. */
uint64_t tr__deadline_after(uint64_t timeout_ns);

/* manager.c: has a sleeping ring give back at once what it holds for ended tasks: their slots, and
 * so their homes. For whoever lacks them; without effect once the manager is closing. */
void tr__manager_nudge(tr_manager *manager);
/* The same, and waits until it has: afterwards every slot is free whose task had ended and was
 * released before the call. Blocks as long as the ring thread's round takes. */
void tr__manager_flush(tr_manager *manager);

/* control.c, under the lane's lock: cancels the turn's foreground tasks. Returns how many. */
int tr__turn_cancel_foreground(tr_manager *manager, struct tr__turn *turn, const char *reason);

#endif
