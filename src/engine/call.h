/*
 * call: the frame of a call while its function runs, and how the function waits.
 *
 * A tr_call lives on the stack that the function runs on: a worker's for plain functions, the
 * fiber's for awaiting ones, the launching thread's for inline calls. It carries the result until
 * the call has ended (the task's own result fields are written by whoever wins the end), and the
 * finished requests of the function.
 *
 * Waiting. A finished op is pushed on `done`, then the task's `wake` word is notified
 * (tr__call_notify). A function that finds nothing done sleeps:
 *   on a fiber:  suspends; the worker then swaps AWAKE → FIBER. A notifier that swaps FIBER →
 *   NOTIFIED
 *                gives the task to a worker again.
 *   in a thread: tr__direct_wait performs the ops itself by poll(2), with the wake word THREAD
 *   meanwhile; a
 *                notifier that swaps THREAD → NOTIFIED wakes it through the eventfd.
 * NOTIFIED before the swap: it does not sleep at all. A notification may be spurious (the slot may
 * even have been reused): every waiter looks again.
 */
#ifndef TR__ENGINE_CALL_H
#define TR__ENGINE_CALL_H

#include <stdint.h>

#include <toolring/tool.h>

#include "completion/completion.h"
#include "engine/direct.h"
#include "engine/op.h"
#include "parts/stack.h"

struct tr__engine;
struct tr__worker;
struct tr__fiber;

struct tr_call {
    struct tr__engine *engine;
    struct tr__task *task;
    tr_task_id id;
    struct tr__worker *worker;   /* the thread it runs on; NULL: a host's */
    struct tr__counters *counts; /* a helping host thread's own; else NULL */
    struct tr__fiber *fiber;     /* NULL: on the thread's own stack */
    bool direct_made;            /* thread mode: `direct` is in use, from the first op or wait on */
    bool hooked;                 /* it has registered hooks: to be closed when it has returned */
    uint32_t outputs;            /* OUTPUT events published */
    struct tr__direct direct;
    struct tr__stack_node *finished; /* taken from `done`, oldest first; the function's own */
    struct tr__stack done; /* finished requests: struct tr__io; pushed by the ring, the spawner */
    uint32_t under_way;    /* requests started and not returned */
    void *requests;        /* those, newest first: struct tr__io; valid while under_way is not 0 */
    /* tools/io, with the first request: cancels all that are under way and waits for them. */
    void (*take_back)(struct tr_call *call);
    int status; /* what the function returned */
    bool lost;  /* the engine lost something the function relied on: it fails as `lost` */
    struct tr__arena_ref result;   /* what was set last; origin NULL and data in the task: inline */
    struct tr__arena_ref reserved; /* tr_result_reserve */
};

/* The result's memory: `size` bytes for this call's result, in the task's slot if they fit there,
 * else from the arena. Tool thread. 0 or TR_ENOMEM. */
int tr__call_take(struct tr_call *call, size_t size, struct tr__arena_ref *ret);

/* Starts an op for the call: on the ring, or on the call's own direct executor. Tool thread. */
void tr__call_start(struct tr_call *call, struct tr__op *op);

/* Asks for an op under way to be given back. Tool thread; at most once per start. */
void tr__call_cancel(struct tr_call *call, struct tr__op *op);

/* Spawns: on a spawner thread, or (no engine threads) at once; `spawn->done` runs in any case. */
struct tr__spawn;
void tr__call_spawn(struct tr_call *call, struct tr__spawn *spawn);
/* A spawned child was reaped. */
void tr__call_reaped(struct tr__engine *engine);

/* Sleeps until notified; returns at once if it was already. May return for nothing. Tool thread. */
void tr__call_wait(struct tr_call *call);

/* Any thread, after making something true that the call's function waits for: it will look again.
 * Touches nothing but the task's type-stable record. */
void tr__call_notify(struct tr__engine *engine, struct tr__task *task);

/* Whether the call was asked to stop. */
bool tr__call_is_cancelled(const struct tr_call *call);

/* Registers a hook, or takes it back (tool.h). Tool thread. */
int tr__call_hook(struct tr_call *call, tr_cancel_function function, void *context,
                  tr_cancel_function release);
int tr__call_unhook(struct tr_call *call, tr_cancel_function function, void *context);

/* Bounds and defaults of the manager, for tools. */
uint64_t tr__call_result_bytes_max(const struct tr_call *call);
uint64_t tr__call_output_bytes_max(const struct tr_call *call);
uint64_t tr__call_cancel_grace_ns(const struct tr_call *call);
/* A stop may take the function so long: it is abandoned that much later, if it can be. */
void tr__call_set_grace(struct tr_call *call, uint64_t grace_ns);

/* The manager, for tr_call_defer. */
tr_manager *tr__call_manager(const struct tr_call *call);
/* tr_finish's way in: see toolring/tool.h. */
int tr__call_finish_late(tr_manager *manager, tr_task_id task, int status, const void *data,
                         size_t size);
/* Restarts the idle timeout. */
void tr__call_touch(struct tr_call *call, uint64_t now_ns);
/* The same; publishes PROGRESS or OUTPUT when there are readers. OUTPUT: `total` is their
 * number. */
void tr__call_active(struct tr_call *call, tr_event_type type, uint64_t current, uint64_t total);

#endif
