/*
 * roster: the ids of the tasks that belong to a turn, appended at launch and swept when full.
 *
 * Interrupting a turn must cost what that turn's tasks cost. An intrusive list would have to be
 * unlinked when a task ends, on another thread, under a lock the launcher also wants. A roster is
 * only ever appended to: ids are generational, so an ended task's id is recognised as stale, and
 * the roster is swept when it is full: it doubles only if more than half of it is alive. Hence size
 * <= max(4, 4 x live) when it grows (it shrinks with its turn's end only), and appending costs at
 * most two looks at a word per launch, amortised.
 *
 * Owner: whoever holds the lane's lock. Order of ids: order of launches.
 */
#ifndef TR__DOMAIN_ROSTER_H
#define TR__DOMAIN_ROSTER_H

#include <stdbool.h>
#include <stdint.h>

#include <toolring/types.h>

#define TR__ROSTER_INLINE 4u

struct tr__roster {
    uint32_t count;
    uint32_t capacity;
    tr_task_id *ids; /* `few`, or a block of its own */
    tr_task_id few[TR__ROSTER_INLINE];
};

/* Whether an id is still to be kept. */
typedef bool (*tr__roster_keep)(void *context, tr_task_id id);

void tr__roster_init(struct tr__roster *roster);
void tr__roster_done(struct tr__roster *roster);

/* Makes sure that one more id fits. 0 or TR_ENOMEM. */
int tr__roster_reserve(struct tr__roster *roster, tr__roster_keep keep, void *context);

/* After a successful reserve; cannot fail. */
void tr__roster_append(struct tr__roster *roster, tr_task_id id);

/* Drops every id that `keep` does not want, in order. */
void tr__roster_sweep(struct tr__roster *roster, tr__roster_keep keep, void *context);

#endif
