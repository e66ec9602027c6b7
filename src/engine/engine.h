/*
 * engine: the moving parts put together, and the operations that need more than one of them.
 *
 * The ring, the workers, the spawner and the fibers know nothing of tasks nor of each other. Here a
 * node becomes a task that runs (run.c), a deadline becomes a detach or a timeout (deadline.c), a
 * cancel becomes a settled task or a wake-up (cancel.c), an await becomes an op (call.c).
 *
 * An inline manager has an engine without threads: `threaded` is false, tasks run in the launching
 * thread, ops are done by poll(2) there (direct.h), and whoever is in the library looks at the
 * clock (vigil.h).
 */
#ifndef TR__ENGINE_ENGINE_H
#define TR__ENGINE_ENGINE_H

#include "completion/completion.h"
#include "completion/settle.h"
#include "engine/call.h"
#include "engine/deadline.h"
#include "engine/herald.h"
#include "engine/kept.h"
#include "engine/ring.h"
#include "engine/spawner.h"
#include "engine/vigil.h"
#include "engine/tree.h"
#include "engine/worker.h"
#include "parts/fiber.h"

struct tr__engine_config {
    bool threaded;
    uint32_t seats, substitutes_max, fibers_max, fiber_stack_bytes, ring_entries, processes_max;
    uint64_t slice_ns, cancel_grace_ns, abandon_wait_ns, output_bytes_max, result_bytes_max;
    uint32_t tasks_max, tools_max;
    uint32_t processors;     /* that this process may use */
    bool spin;               /* more than one processor: look on before sleeping */
    bool no_cgroup, sweep;   /* how trees are held: struct tr__trees_config */
    const char *cgroup_path; /* borrowed during opening */
    char *message;
    size_t message_size;
};

/* What a thread of the engine has to itself, by worker index. */
struct tr__engine_thread {
    struct tr__arena_producer producer;
    uint64_t now_ns;      /* the end of the task before, if it was plain; 0: read the clock */
    uint64_t gave_way_ns; /* when it last gave way to the ring */
};

/* First member of struct tr_manager: the two pointers convert (tr__engine_of). */
struct tr__engine {
    struct tr__completion *completion;
    tr_manager *manager;
    struct tr__engine_config config;
    struct tr__deadline *deadlines; /* by task index; pages committed by touch */
    size_t deadlines_bytes;
    struct tr__engine_thread *threads;
    tr__atomic_u32 *typical_ns; /* by tool: how long it keeps a worker at a time; 0 unknown */
    struct tr__herald herald;
    struct tr__vigil *vigil; /* of an inline manager; else NULL */
    struct tr__keeper keeper;
    struct tr__op watch;    /* the workers' monitor timer; one at a time by workers->watching */
    tr__atomic_u32 closing; /* deadlines are not armed again; written by close */
    TR__CACHE_ALIGNED tr__atomic_u32
        awaiting; /* admitted tasks of awaiting tools; host and workers */
    TR__CACHE_ALIGNED struct tr__ring ring;
    struct tr__workers workers;
    struct tr__spawner spawner;
    struct tr__fiber_pool fibers;
    struct tr__op rest;        /* the timer of trims, while free fibers have pages */
    struct tr__mpsc_node trim; /* for a worker: a trim; one of the two at a time */
    bool rest_over;            /* the trim ends a period; the ring thread, then the worker */
    struct tr__trees *trees;   /* what programs have started */
};

int tr__engine_open(struct tr__engine *engine, struct tr__completion *completion,
                    tr_manager *manager, const struct tr__engine_config *config);
/* Every task has ended. Stops all threads; those still in a tool after `deadline_ns` are left
 * behind. Returns 0 or TR_EBUSY (then engine and completion must never be freed). */
int tr__engine_close(struct tr__engine *engine, uint64_t deadline_ns);
/* After a close that returned 0: frees what is left. */
void tr__engine_done(struct tr__engine *engine);

/* run.c. Hands an admitted task to a worker; `seat` from tr__workers_choose. */
void tr__engine_enqueue(struct tr__engine *engine, struct tr__task *task, uint64_t word,
                        uint32_t seat);
/* run.c. Runs an admitted task in the calling thread to its end (inline calls, inline managers).
 * For a deferred one: until tr_finish. */
void tr__engine_run_here(struct tr__engine *engine, struct tr__task *task);
/* run.c. Runs a task that was kept for the calling thread (engine/kept), counting into `counts`.
 * Takes the time and returns it anew. */
uint64_t tr__engine_run_kept(struct tr__engine *engine, struct tr__counters *counts,
                             struct tr__task *task, uint64_t now_ns);
/* run.c. The workers' hook. */
void tr__engine_run(void *engine, struct tr__worker *worker, struct tr__mpsc_node *node);

/* The workers' hook, at &engine->trim: gives back pages of fibers that have rested. */
void tr__engine_trim(struct tr__engine *engine, struct tr__worker *worker);

/* A worker between two tasks, with the time in `now_ns`: lets the ring's thread go first if that is
 * late. Then `now_ns` is 0. */
void tr__engine_give_way(struct tr__engine *engine, struct tr__engine_thread *thread);

/* Whether the task runs on a fiber, and so counts in `awaiting` from its admission to its
 * return. */
bool tr__engine_awaits(struct tr__engine *engine, const struct tr__task *task);

/* One awaiting task less: its function has returned, or will never run. Lets launches that wait for
 * room look again. */
void tr__engine_unawait(struct tr__engine *engine);

/* The tally for the calling thread: a worker's own, or the shared one. */
struct tr__tally tr__engine_tally(struct tr__engine *engine, struct tr__worker *worker);

/* cancel.c. Asks a task to stop, as cancelled or timed out. 0, TR_ENOENT or TR_EALREADY. The caller
 * may hold the lane's lock of a task whose turn and session are not marked closed. */
int tr__cancel_task(struct tr__engine *engine, struct tr__task *task, tr_task_id id, bool timeout,
                    int code, const char *reason);
/* cancel.c. The same, as cancelled, unless the task has become background: TR_ESTATE. */
int tr__cancel_foreground(struct tr__engine *engine, struct tr__task *task, tr_task_id id,
                          const char *reason);
/* cancel.c. Ends a task whose time in the queue is over, unless it has started. */
void tr__cancel_queued(struct tr__engine *engine, struct tr__task *task, tr_task_id id);
/* cancel.c. Who has ended a task by `step`: the reason that its canceller gave, memory for the
 * caller to give back; NULL: none. */
char *tr__cancel_reason(struct tr__engine *engine, struct tr__task *task, struct tr__step step);
/* cancel.c. Ends a task that was asked to stop and does not. */
void tr__cancel_abandon(struct tr__engine *engine, struct tr__task *task, tr_task_id id);

/* Whoever won an end: disarms the deadline, then settles. */
void tr__engine_settle(struct tr__engine *engine, struct tr__tally tally, struct tr__task *task,
                       struct tr__step step, uint64_t now_ns, int code, const char *reason);
/* Whoever won a detach. */
void tr__engine_detached(struct tr__engine *engine, struct tr__task *task, struct tr__step step);

static inline struct tr__engine *tr__engine_of(tr_manager *manager)
{
    return (struct tr__engine *)(void *)manager;
}

/* Every way into and out of the library, without any lock: in an inline manager, does what is due
 * and calls the hooks of what was asked to stop. */
static inline void tr__engine_look(struct tr__engine *engine)
{
    if (!engine->config.threaded) {
        tr__vigil_look(engine);
        tr__herald_help(&engine->herald);
    }
}

/* Whether anybody reads events: what transitions take as `publish`. */
static inline bool tr__engine_wanted(struct tr__engine *engine)
{
    return tr__events_wanted(&engine->completion->events);
}

#endif
