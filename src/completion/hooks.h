/*
 * hooks: what a call wants called when it is asked to stop (toolring/tool.h, tr_call_on_cancel).
 *
 * A call's first registration makes the record and leaves it in the task's cold record; it is freed
 * with the task's last hold. So it costs calls without hooks nothing.
 *
 *            add                 fire (the canceller)
 *   OPEN ◀────────┐ ─────────────────────────────────────▶ FIRED ─── call ──▶ each once
 *     │ close (the function has returned, tr_finish)          │ close: what has not begun is
 *     dropped └──────────────────────────▶ CLOSED ◀───────────────────┘
 *
 * Each hook is ARMED until it is called (RUNNING, then CALLED), taken back, or dropped: so it is
 * called at most once, and its context released exactly once unless it was taken back.
 */
#ifndef TR__COMPLETION_HOOKS_H
#define TR__COMPLETION_HOOKS_H

#include <pthread.h>

#include <toolring/tool.h>

#include "domain/registry.h"
#include "parts/stack.h"

struct tr__hook {
    tr_cancel_function function;
    tr_cancel_function release; /* or NULL */
    void *context;
    uint32_t state; /* enum hook_state in hooks.c */
};

struct tr__hooks {
    struct tr__stack_node posted; /* engine/herald; guarded by HOLD_STEER */
    struct tr__task *task;
    pthread_mutex_t lock; /* guards what follows; nothing of the host's is called under it */
    pthread_cond_t called;
    uint32_t state;  /* enum hooks_state in hooks.c */
    bool is_calling; /* one of them is RUNNING, on `caller` */
    pthread_t caller;
    uint32_t count;
    struct tr__hook hooks[TR_CANCEL_HOOKS_MAX];
};

/* The function's thread: makes an empty record; NULL: no memory. */
struct tr__hooks *tr__hooks_make(struct tr__task *task);

/* Nobody uses it any more, and it is closed or was called. NULL is allowed. */
void tr__hooks_free(struct tr__hooks *hooks);

/* 0, TR_ELIMIT, or TR_ECANCELED: it is not OPEN. */
int tr__hooks_add(struct tr__hooks *hooks, tr_cancel_function function, void *context,
                  tr_cancel_function release);

/* Takes one back, the newest that fits. 0: it was not and will not be called; TR_EALREADY: it was
 * called and has returned, or calls this; TR_ENOENT: there is none. Waits while it is running. */
int tr__hooks_remove(struct tr__hooks *hooks, tr_cancel_function function, void *context);

/* The one canceller. True: there is something to call, tr__hooks_call must follow. */
bool tr__hooks_fire(struct tr__hooks *hooks);
void tr__hooks_call(struct tr__hooks *hooks);

/* Drops what has not begun. `wait`: until what has begun has returned, unless it calls this. */
void tr__hooks_close(struct tr__hooks *hooks, bool wait);

/* The task's, if its word has COLD and there are any. The caller has a hold. */
static inline struct tr__hooks *tr__hooks_of(struct tr__registry *registry,
                                             const struct tr__task *task)
{
    struct tr__cold *cold = tr__registry_cold(registry, task);
    return (struct tr__hooks *)tr__load_acquire(&cold->hooks); /* pairs with the store at making */
}

#endif
