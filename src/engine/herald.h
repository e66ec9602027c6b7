/*
 * herald: calls the cancel hooks of calls that were asked to stop.
 *
 * In a manager with threads a thread of its own does so, started when the first hook is registered:
 * so hooks run under no lock, neither of the library's nor of whoever cancels; a ring that times a
 * call out runs no code of a tool's; and workers that are all blocked in tools do not keep the
 * hooks from unblocking them. In an inline manager whoever is in the library does so, before it
 * returns (tr__engine_look).
 */
#ifndef TR__ENGINE_HERALD_H
#define TR__ENGINE_HERALD_H

#include <pthread.h>

#include "completion/hooks.h"
#include "parts/parker.h"
#include "parts/stack.h"

struct tr__completion;

struct tr__herald {
    struct tr__completion *completion;
    bool threaded;
    struct tr__stack posted; /* tr__hooks.posted; cancellers */
    struct tr__parker parker;
    tr__atomic_u32 stopping; /* written by close */
    pthread_mutex_t lock;    /* guards what follows */
    pthread_cond_t changed;
    bool started, ended, closed;
    pthread_t thread;
};

void tr__herald_open(struct tr__herald *herald, struct tr__completion *completion, bool threaded);

/* Registering threads: makes sure that there is a thread. 0, TR_EAGAIN, or TR_ECLOSED. */
int tr__herald_start(struct tr__herald *herald);

/* The canceller, with HOLD_STEER, which becomes the herald's: the hooks are called and the hold is
 * dropped soon. Calls nothing itself. */
void tr__herald_post(struct tr__herald *herald, struct tr__hooks *hooks);

/* Inline managers, without any lock: calls what was posted. */
void tr__herald_help(struct tr__herald *herald);

/* Nothing is posted any more. Calls what was and stops; false: a hook has not returned by
 * `deadline_ns`, its thread is left behind with what it uses. */
bool tr__herald_close(struct tr__herald *herald, uint64_t deadline_ns);

/* After a close that returned true. */
void tr__herald_done(struct tr__herald *herald);

#endif
