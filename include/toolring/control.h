/*
 * toolring/control.h: steering and looking at tasks by their id. Included by toolring.h.
 */
#ifndef TOOLRING_CONTROL_H
#define TOOLRING_CONTROL_H

#include <toolring/error.h>
#include <toolring/types.h>

TR_BEGIN_DECLS

/**
 * Cancels a task. Queued and deferred tasks end at once; an awaiting function resumes with
 * TR_ECANCELED and cleans up; a program is ended with its tree; a plain function on a worker is
 * abandoned: its outcome is delivered at once, and what it still returns is discarded (it is told
 * by tr_call_is_cancelled and its hooks, so that it comes back). Cancelling twice is harmless.
 * @param manager the manager
 * @param task the task
 * @param reason shown in the resolution, to TR_REASON_BYTES_MAX; may be NULL
 * @return 0: it will end as cancelled, or by itself if it was quicker
 * @errors TR_ENOENT no such task any more; TR_EALREADY it has ended
 * @threads any; never blocks
 * @ownership `reason` is copied
 * @since 0.1
 */
TR_EXPORT int tr_task_cancel(tr_manager *manager, tr_task_id task, const char *reason);

/**
 * Detaches a foreground task now: it becomes background, its turn gets a TR_ITEM_DETACHED.
 * @param manager the manager
 * @param task the task
 * @return 0
 * @errors TR_ENOENT no such task; TR_EALREADY it is background, has ended, or was detached before
 *         (a task steps aside once; after tr_task_attach it stays in front)
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_task_detach(tr_manager *manager, tr_task_id task);

/**
 * Attaches a background task: its turn waits for it again.
 * @param manager the manager
 * @param task the task
 * @return 0
 * @errors TR_ENOENT no such task; TR_EALREADY it is foreground or has ended; TR_ECLOSED its turn is
 *         closed
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_task_attach(tr_manager *manager, tr_task_id task);

/**
 * Sets how a task is delivered if it ends as background.
 * @param manager the manager
 * @param task the task
 * @param delivery TO_LOOP or MANUAL
 * @return 0
 * @errors TR_ENOENT no such task; TR_EALREADY it has ended; TR_EINVAL not a delivery
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_task_set_delivery(tr_manager *manager, tr_task_id task, tr_delivery delivery);

/**
 * Sets a task's continue policy.
 * @param manager the manager
 * @param task the task
 * @param continuation NOTIFY or REQUEST
 * @return 0
 * @errors TR_ENOENT no such task; TR_EALREADY it has ended; TR_EINVAL not a policy
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_task_set_continue(tr_manager *manager, tr_task_id task, tr_continue continuation);

/**
 * Looks at one task.
 * @param manager the manager
 * @param task the task
 * @param ret_snapshot receives it
 * @return 0
 * @errors TR_ENOENT no such task any more; TR_EINVAL a NULL argument
 * @threads any; never blocks
 * @ownership a copy
 * @since 0.1
 */
TR_EXPORT int tr_task_snapshot(tr_manager *manager, tr_task_id task, tr_snapshot *ret_snapshot);

/** Which tasks a listing shows. @since 0.1 */
typedef struct tr_filter {
    size_t size;           /**< sizeof(tr_filter), set by TR_FILTER_INIT */
    tr_session_id session; /**< only of this session; 0: of all */
    tr_turn_id turn;       /**< only of this turn; 0: of all */
    uint32_t states;       /**< only in these: bits 1 << tr_state; 0: all that have not ended */
    uint32_t kinds;        /**< only of these: bits 1 << tr_kind; 0: both */
} tr_filter;

/** Fills a tr_filter with "all that have not ended". @since 0.1 */
#define TR_FILTER_INIT                                                                             \
    {                                                                                              \
        sizeof(tr_filter), 0, 0, 0, 0                                                              \
    }

/** Where a listing goes on; all zero at its start. @since 0.1 */
typedef struct tr_cursor {
    uint64_t accepted_ns; /**< of the last task shown */
    uint64_t task;        /**< the last task shown */
} tr_cursor;

/**
 * Lists tasks in the order of their launches. Each call costs what the turn, the session or the
 * manager that the filter names has in hand, however few it shows; never what has run before. With
 * TR_STATE_ENDED in `states` it also looks, whatever else the filter says, at as many records as
 * there ever were tasks at the same time (rounded up, at most `tasks_max`): no list leads to those
 * that have ended and are not released.
 * @param manager the manager
 * @param filter which; NULL: all that have not ended
 * @param cursor where to go on; is moved
 * @param snapshots receives them
 * @param snapshots_max room in `snapshots`, at least 1
 * @return how many; fewer than there was room for: that was the last
 * @errors TR_EINVAL bad arguments; TR_ENOMEM no memory
 * @threads any; never blocks
 * @ownership copies
 * @since 0.1
 */
TR_EXPORT int tr_task_list(tr_manager *manager, const tr_filter *filter, tr_cursor *cursor,
                           tr_snapshot *snapshots, size_t snapshots_max);

/**
 * Writes a task's text form, "task-<n>".
 * @param task the task
 * @param text receives it, zero-ended
 * @return `text`
 * @threads any; never blocks
 * @ownership `text` is the caller's
 * @since 0.1
 */
TR_EXPORT char *tr_task_text(tr_task_id task, char text[TR_TASK_TEXT_BYTES]);

/**
 * Reads a task's text form.
 * @param text "task-<n>"
 * @param ret_task receives the id; whether there is such a task is another matter
 * @return 0
 * @errors TR_EINVAL it is no text form of a task
 * @threads any; never blocks
 * @ownership `text` is borrowed during the call
 * @since 0.1
 */
TR_EXPORT int tr_task_parse(const char *text, tr_task_id *ret_task);

/**
 * Approves a task that waits for approval. The permission callback is asked again with one approval
 * more; if it allows, the task runs under the same id, if it asks again another request comes.
 * @param manager the manager
 * @param task the task
 * @return 0
 * @errors TR_ENOENT no such task any more; TR_EALREADY it has ended; TR_ESTATE it waits for none,
 *         or is being approved at this moment; TR_ENOMEM no memory for the next request, the
 *         approval was not counted
 * @threads any; never blocks, but in an inline manager, where it runs the call
 * @since 0.1
 */
TR_EXPORT int tr_task_approve(tr_manager *manager, tr_task_id task);

/**
 * Approves one certain request: what a human has seen, and not the one that came after it. A task
 * and the number of approvals its request shows name a request among all.
 * @param manager the manager
 * @param task the request's task: `item.task`
 * @param approvals the approvals given before that request: `item.approvals`
 * @return 0
 * @errors TR_EALREADY that request was approved already, or the task has ended; TR_ESTATE the task
 *         waits for no approval, or is being approved at this moment; TR_EINVAL there is no such
 *         request yet; else as tr_task_approve
 * @threads as tr_task_approve
 * @since 0.1
 */
TR_EXPORT int tr_task_approve_request(tr_manager *manager, tr_task_id task, unsigned approvals);

/**
 * Denies a task that waits for approval: it ends as denied.
 * @param manager the manager
 * @param task the task
 * @param reason shown in the resolution, to TR_REASON_BYTES_MAX; may be NULL
 * @return 0
 * @errors TR_ENOENT no such task any more; TR_EALREADY it has ended; TR_ESTATE it waits for none
 * @threads any; never blocks
 * @ownership `reason` is copied
 * @since 0.1
 */
TR_EXPORT int tr_task_deny(tr_manager *manager, tr_task_id task, const char *reason);

TR_END_DECLS

#endif
