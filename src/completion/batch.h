/*
 * batch: what a take or drain hands to the host: a row of items that borrow their bytes from the
 * tasks' records until the batch is released.
 */
#ifndef TR__COMPLETION_BATCH_H
#define TR__COMPLETION_BATCH_H

#include "completion/completion.h"

/* Takes up to `items_max` items from an inbox whose token the caller holds. Returns how many (0:
 * nothing there, no batch made) or TR_ENOMEM (nothing was taken). Items of closed turns and
 * discarded sessions are dropped on the way. */
int tr__batch_take(struct tr__completion *completion, struct tr__inbox *inbox, size_t items_max,
                   tr_batch **ret_batch);

/* A batch for the one resolution of an inline call, made before it runs. NULL: no memory. */
tr_batch *tr__batch_reserve(struct tr__completion *completion);
/* Fills it when the task has ended; or gives it back unused with tr__batch_unreserve. */
void tr__batch_commit(tr_batch *batch, struct tr__task *task);
void tr__batch_unreserve(tr_batch *batch);

#endif
