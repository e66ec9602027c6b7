/*
 * stage.h: a manager whose worker and ring are played by the one thread there is.
 *
 * Launching, the worker's run function, the ring's round and draining are the real ones, called one
 * after the other, so the same instructions run every time. What threads add (parking, waking,
 * meeting on a cache line) is not here: perf/run measures that.
 */
#ifndef PERF_GUARD_STAGE_H
#define PERF_GUARD_STAGE_H

#include <toolring.h>

#include "engine/engine.h"
#include "engine/worker_thread.h"
#include "kernel.h"

#define STAGE_BATCH 32u

struct stage {
    tr_manager *manager;
    tr_session_id session;
    tr_turn_id turn;
    tr_turn_id bound; /* a turn whose session is bound to the queue */
    tr_queue *queue;
    struct tr__worker *worker;
    struct instant kernel;
    tr_tool_id plain;    /* takes 8 bytes, returns 8 */
    tr_tool_id awaiting; /* the same on a fiber */
    tr_tool_id brief;    /* plain, for the thread that waits (TR_TOOL_BRIEF) */
    tr_tool_id timed;    /* plain, with a deadline an hour away */
};

/* A manager with threads, or an inline one. */
void stage_open(struct stage *stage, bool threaded);
void stage_close(struct stage *stage);

/* The worker takes and runs what is queued. */
static inline void stage_work(struct stage *stage)
{
    struct tr__engine *engine = tr__engine_of(stage->manager);
    struct tr__mpsc_node *node;
    while ((node = tr__worker_find(stage->worker)) != NULL) {
        tr__engine_run(engine, stage->worker, node);
    }
}

/* The worker is about to sleep, as tr__worker_sleep leaves it; and has been woken. */
void stage_rest(struct stage *stage);
void stage_wake(struct stage *stage);

/* Fails the program unless it holds. */
void stage_require(bool condition, const char *what);

#endif
