/*
 * describe: a task as the host sees it: snapshots and events made from the record.
 */
#ifndef TR__COMPLETION_DESCRIBE_H
#define TR__COMPLETION_DESCRIBE_H

#include "completion/completion.h"

/* Fills `ret_snapshot` from a task the caller has a hold on (or runs, or has just admitted). */
void tr__describe(struct tr__completion *completion, struct tr__task *task, uint64_t word,
                  tr_snapshot *ret_snapshot);

/* Under the lane's lock or with a hold of one's own: publishes an event about the task. */
void tr__describe_event(struct tr__completion *completion, struct tr__task *task, uint64_t word,
                        tr_event_type type, uint64_t time_ns, uint64_t current, uint64_t total);

#endif
