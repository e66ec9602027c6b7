/*
 * spawn.h: starting and collecting a child, as process.c needs it.
 */
#ifndef TR__TOOLS_SPAWN_H
#define TR__TOOLS_SPAWN_H

#include <stdbool.h>

#include <toolring/process.h>

/* Whether a spec makes sense. May be NULL. */
bool tr__process_is_valid(const tr_process_spec *spec);

/*
 * tr_spawn with a valid spec. The child's owner is its tree.
 *
 * `exit` not NULL, on a fiber: returns when the child has exited, or after `watch_ns` of its life:
 * exit->result is as of a poll of its pidfd, TR_ETIMEDOUT if it lives. That saves the function a
 * wake for the spawn alone.
 */
int tr__child_spawn(tr_call *call, const tr_process_spec *spec, tr_io *exit, uint64_t watch_ns,
                    tr_child *ret_child);

/* Collects the leader: tr_child_reap without what follows. */
int tr__child_collect(const tr_child *child, int *ret_status, struct rusage *ret_usage);

/* It was collected: closes the descriptors, empties the child. Its tree was taken before. */
void tr__child_close(tr_call *call, tr_child *child);

#endif
