/*
 * toolring/drain.h: taking what is ready: batches of items from a turn, a session or a drain queue.
 * Included by toolring.h.
 */
#ifndef TOOLRING_DRAIN_H
#define TOOLRING_DRAIN_H

#include <toolring/error.h>
#include <toolring/types.h>

TR_BEGIN_DECLS

/** What an item is. @since 0.1 */
typedef enum tr_item_type {
    TR_ITEM_RESOLUTION = 1, /**< the outcome of a task: the one and only, and its last item: the
                                 other kinds come before it, whatever their channels */
    TR_ITEM_DETACHED = 2,   /**< a task of this turn has become background; it is not waited for */
    TR_ITEM_APPROVAL = 3,   /**< a task asks for tr_task_approve or tr_task_deny */
} tr_item_type;

/** Where an item comes from. @since 0.1 */
typedef enum tr_channel {
    TR_CHANNEL_TURN = 1,   /**< a turn's updates */
    TR_CHANNEL_LOOP = 2,   /**< a session's loop updates */
    TR_CHANNEL_READY = 3,  /**< a session's ready items */
    TR_CHANNEL_LAUNCH = 4, /**< returned by tr_launch itself */
} tr_channel;

/** tr_item.flags: it never started (denied, or ended while queued). @since 0.1 */
#define TR_ITEM_NOT_STARTED UINT32_C(1)
/** tr_item.flags: it was foreground once and was detached. @since 0.1 */
#define TR_ITEM_WAS_DETACHED UINT32_C(2)
/** tr_item.flags: its C function had not returned when the outcome was decided. @since 0.1 */
#define TR_ITEM_ABANDONED UINT32_C(4)
/** tr_item.flags: with this item its turn has become idle: nothing in front is left. Only items
 *  that settle a foreground task carry it: a turn that never had one sends none. @since 0.1 */
#define TR_ITEM_TURN_IDLE UINT32_C(8)
/** tr_item.flags: the continue policy of this loop update is TR_CONTINUE_REQUEST. @since 0.1 */
#define TR_ITEM_CONTINUE UINT32_C(16)

/** One thing handed to the host. Its bytes live until the batch is released. @since 0.1 */
typedef struct tr_item {
    tr_item_type type;     /**< what it is */
    tr_channel channel;    /**< where it comes from */
    tr_outcome outcome;    /**< RESOLUTION: how it ended */
    tr_kind kind;          /**< what the task was then */
    uint32_t flags;        /**< TR_ITEM_… */
    int code;              /**< 0, or why: a TR_E… code or the tool's negative status */
    tr_task_id task;       /**< the task */
    tr_turn_id turn;       /**< its turn */
    tr_session_id session; /**< its session */
    tr_tool_id tool;       /**< its tool */
    uint32_t approvals;    /**< approvals given so far */
    const char *tool_name; /**< its tool's name */
    void *user;            /**< the host's pointer of the call */
    void *session_user;    /**< the host's pointer of the session */
    tr_bytes call_id;      /**< the host's call id */
    tr_bytes metadata;     /**< the host's metadata */
    tr_bytes input;        /**< APPROVAL: the call's input; else empty */
    tr_bytes result;       /**< RESOLUTION: the result, for whichever outcome it was set */
    const char *reason;    /**< why cancelled, denied or asked; "" if nothing was said */
    const char *summary;   /**< APPROVAL: what the human should read; else "" */
    uint64_t accepted_ns;  /**< when it was accepted */
    uint64_t started_ns;   /**< when it started; 0 if it never did */
    uint64_t ended_ns;     /**< RESOLUTION: when it ended; DETACHED, APPROVAL: when that happened */
} tr_item;

/** A batch of items: release it as a whole. @since 0.1 */
typedef struct tr_batch {
    size_t count;         /**< items */
    const tr_item *items; /**< the items, in order */
} tr_batch;

/**
 * Releases a batch with the bytes of all its items; the tasks among them that have ended are gone.
 * @param batch the batch, or NULL
 * @threads any, also after the manager's close and free; never blocks
 * @ownership takes the batch back
 * @since 0.1
 */
TR_EXPORT void tr_batch_release(tr_batch *batch);

/** Result of tr_turn_wait: there are items. @since 0.1 */
#define TR_WAIT_ITEMS 1
/** Result of tr_turn_wait: no foreground task of the turn is left and every update was taken.
 * @since 0.1 */
#define TR_WAIT_IDLE 0

/**
 * Waits for a turn's next updates: resolutions, detaches, approval requests. Meanwhile it may run
 * the turn's calls of brief tools (TR_TOOL_BRIEF) on this thread, without any lock; with a timeout
 * of 0 it runs none.
 * @param manager the manager
 * @param turn the turn, not bound to a queue
 * @param token ends the waiting when it is cancelled (what is there already comes first); may be
 *        NULL
 * @param timeout_ns how long; 0: just look; TR_FOREVER: until something comes
 * @param items_max how many at most, 1 to 1024
 * @param ret_batch receives the batch with TR_WAIT_ITEMS, NULL with TR_WAIT_IDLE
 * @return TR_WAIT_ITEMS or TR_WAIT_IDLE
 * @errors TR_ENOENT no such turn; TR_ECANCELED the token was cancelled; TR_ETIMEDOUT nothing came
 *         in time; TR_ESTATE it is bound to a queue; TR_EBUSY another thread waits for this turn;
 *         TR_EINVAL bad arguments; TR_ENOMEM no memory, nothing was taken
 * @threads any, one per turn, not from a tool; blocks up to `timeout_ns`
 * @ownership the batch is the caller's until tr_batch_release
 * @since 0.1
 */
TR_EXPORT int tr_turn_wait(tr_manager *manager, tr_turn_id turn, tr_token *token,
                           uint64_t timeout_ns, size_t items_max, tr_batch **ret_batch);

/**
 * Takes a session's loop updates: background resolutions and approval requests with delivery
 * TO_LOOP. From a closed session too: it waits while any task of it is left, results that were
 * taken and not released included, and says so when nothing can come any more.
 * @param manager the manager
 * @param session the session, not bound to a queue; it may be closed
 * @param timeout_ns how long to wait for the first; 0: just look
 * @param items_max how many at most, 1 to 1024
 * @param ret_batch receives the batch, NULL if nothing came
 * @return how many items
 * @errors TR_ECLOSED the session or manager is closed, everything was taken and nothing will come
 *         any more (the session's id is gone then: TR_ENOENT from the next call on, and at once if
 *         the last batch was released before this call); TR_ENOENT no such session; TR_ESTATE bound
 *         to a queue; TR_EBUSY another thread is taking them; TR_EINVAL bad arguments; TR_ENOMEM no
 *         memory, nothing was taken
 * @threads any, one per session, not from a tool; blocks up to `timeout_ns`
 * @ownership the batch is the caller's until tr_batch_release
 * @since 0.1
 */
TR_EXPORT int tr_loop_take(tr_manager *manager, tr_session_id session, uint64_t timeout_ns,
                           size_t items_max, tr_batch **ret_batch);

/**
 * Takes a session's ready items: background resolutions and approval requests with delivery MANUAL.
 * @param manager the manager
 * @param session the session, not bound to a queue; it may be closed
 * @param timeout_ns how long to wait for the first; 0: just look
 * @param items_max how many at most, 1 to 1024
 * @param ret_batch receives the batch, NULL if nothing came
 * @return how many items
 * @errors as tr_loop_take
 * @threads any, one per session, not from a tool; blocks up to `timeout_ns`
 * @ownership the batch is the caller's until tr_batch_release
 * @since 0.1
 */
TR_EXPORT int tr_ready_take(tr_manager *manager, tr_session_id session, uint64_t timeout_ns,
                            size_t items_max, tr_batch **ret_batch);

/**
 * Opens a drain queue, to be bound to sessions and turns when they are opened.
 * @param manager the manager
 * @param ret_queue receives it
 * @return 0
 * @errors TR_EINVAL a NULL argument; TR_ELIMIT too many queues; TR_ECLOSED closed; TR_ENOMEM no
 *         memory
 * @threads any; never blocks
 * @ownership the queue is the caller's until tr_queue_close or the manager's free
 * @since 0.1
 */
TR_EXPORT int tr_queue_open(tr_manager *manager, tr_queue **ret_queue);

/**
 * Takes whatever is ready for all that is bound to a queue.
 * @param queue the queue
 * @param timeout_ns how long to wait for the first; 0: just look
 * @param items_max how many at most, 1 to 1024
 * @param ret_batch receives the batch, NULL if nothing came
 * @return how many items
 * @errors TR_EBUSY another thread drains it; TR_EINVAL bad arguments; TR_ENOMEM no memory, nothing
 *         was taken; TR_ECLOSED the manager is closed and everything was taken
 * @threads any, one at a time per queue; blocks up to `timeout_ns`
 * @ownership the batch is the caller's until tr_batch_release
 * @since 0.1
 */
TR_EXPORT int tr_queue_drain(tr_queue *queue, uint64_t timeout_ns, size_t items_max,
                             tr_batch **ret_batch);

/**
 * A descriptor that is readable when there may be something to drain, for epoll, io_uring, libuv or
 * asyncio. Made at the first call. Do not read from it: a drain that empties the queue clears it.
 * @param queue the queue
 * @return the descriptor
 * @errors TR_EINVAL a NULL queue; TR_EBUSY another thread drains it; -EMFILE, -ENFILE no descriptor
 *         to be had
 * @threads any, one at a time per queue; never blocks
 * @ownership the queue's, closed with it
 * @since 0.1
 */
TR_EXPORT int tr_queue_fd(tr_queue *queue);

/**
 * Closes a queue to which nothing is bound and whose items were all taken and released. What closed
 * turns and discarded sessions have left in it counts until a drain has passed over it: drain once
 * more, with a timeout of 0, after closing them.
 * @param queue the queue, or NULL
 * @return 0
 * @errors TR_EBUSY something is in it, or bound to it: a session or turn that is open, or whose
 *         tasks have not all ended and been released (a C function that was abandoned: returned)
 * @threads any, not from a tool; nobody may be in tr_queue_drain; may wait for a moment
 * @ownership on success takes the queue back
 * @since 0.1
 */
TR_EXPORT int tr_queue_close(tr_queue *queue);

/**
 * Makes a cancel token.
 * @param ret_token receives it
 * @return 0
 * @errors TR_EINVAL a NULL argument; TR_ENOMEM no memory
 * @threads any; never blocks
 * @ownership the caller's until tr_token_close
 * @since 0.1
 */
TR_EXPORT int tr_token_open(tr_token **ret_token);

/**
 * Cancels a token: every wait that was given it and has nothing to bring returns TR_ECANCELED, now
 * and later.
 * @param token the token
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT void tr_token_cancel(tr_token *token);

/**
 * Closes a token.
 * @param token the token, or NULL
 * @threads any; no wait may be using it
 * @ownership takes the token back
 * @since 0.1
 */
TR_EXPORT void tr_token_close(tr_token *token);

TR_END_DECLS

#endif
