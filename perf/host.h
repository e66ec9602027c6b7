/*
 * host.h: the host's side of a benchmark of toolring: a manager with sessions bound to a drain
 * queue, and tools of the simplest kind. Every failure ends the program.
 */
#ifndef PERF_HOST_H
#define PERF_HOST_H

#include <toolring.h>

#include "measure.h"

#define HOST_SESSIONS_MAX 16
#define HOST_ITEMS_MAX 1024

struct host {
    tr_manager *manager;
    tr_queue *queue; /* NULL unless asked for */
    size_t sessions_count;
    tr_session_id sessions[HOST_SESSIONS_MAX];
    tr_turn_id turns[HOST_SESSIONS_MAX]; /* one open turn of each */
};

/* Opens a manager (config NULL: all defaults) with so many sessions of one turn each; `drained`:
 * all bound to one drain queue. */
void host_open(struct host *host, tr_config *config, size_t sessions, bool drained);
/* Closes it and checks that nothing is left. */
void host_close(struct host *host);

tr_tool_id host_tool(struct host *host, const char *name, tr_tool_function function, void *context,
                     uint32_t flags);

/* Launches one call that must be accepted as pending. */
tr_task_id host_launch(struct host *host, const tr_request *request);
/* Launches several that must all be. */
void host_launch_batch(struct host *host, const tr_request *requests, size_t count,
                       tr_launched *launched);

/* The no-op: takes 8 bytes, returns the mix of them. */
int tool_mix(tr_call *call, void *context);
/* Waits to be ended from outside: returns TR_DEFERRED. Counts itself in *context (atomic_size_t).
 * */
int tool_defer(tr_call *call, void *context);

/* Notes the 8-byte result of a completed call whose `user` is its index. */
void note_item(struct ledger *ledger, const tr_item *item);

/* Waits until `*counter` (an atomic_size_t) has reached `count`, by yielding. */
void await_count(void *counter, size_t count);

#endif
