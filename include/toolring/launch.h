/*
 * toolring/launch.h: launching calls: what a call is, who may run it, where it goes. Included by
 * toolring.h.
 */
#ifndef TOOLRING_LAUNCH_H
#define TOOLRING_LAUNCH_H

#include <toolring/error.h>
#include <toolring/types.h>

TR_BEGIN_DECLS

/** A call to launch. @since 0.1 */
typedef struct tr_request {
    size_t size;           /**< sizeof(tr_request), set by TR_REQUEST_INIT */
    tr_turn_id turn;       /**< the turn it belongs to */
    tr_tool_id tool;       /**< the tool; 0: look `tool_name` up */
    uint32_t reserved;     /**< must be 0 */
    const char *tool_name; /**< the tool's name, used when `tool` is 0 */
    tr_bytes call_id;      /**< the host's id, to TR_CALL_ID_BYTES_MAX; copied */
    tr_bytes metadata; /**< the host's own, to TR_METADATA_BYTES_MAX; copied; empty: the tool's */
    tr_bytes input;    /**< the tool's input, to the manager's `input_bytes_max`; copied, or … */
    tr_release_function input_release; /**< … borrowed until this is called, if it is set */
    void *input_context;               /**< passed to `input_release` */
    void *user; /**< the host's pointer, handed back with everything about the task; NULL: the
                     tool's */
    uint64_t admit_timeout_ns; /**< how long to wait for room; 0: refuse with TR_EAGAIN at once */
    tr_options options;        /**< wins over the routing callback's and the tool's */
} tr_request;

/** Fills a tr_request for a turn and a tool. @since 0.1 */
#define TR_REQUEST_INIT(turn_id, tool_id)                                                          \
    {                                                                                              \
        sizeof(tr_request), (turn_id), (tool_id), 0, NULL, {NULL, 0}, {NULL, 0}, {NULL, 0}, NULL,  \
            NULL, NULL, 0, TR_OPTIONS_INIT                                                         \
    }

/** Answer of the permission callback. @since 0.1 */
typedef enum tr_permit {
    TR_PERMIT_ALLOW = 0, /**< go on */
    TR_PERMIT_DENY = 1,  /**< the call is accepted and ends at once as `denied`; so with any other
                              answer than these three */
    TR_PERMIT_ASK = 2,   /**< it waits for tr_task_approve or tr_task_deny */
} tr_permit;

/** What the permission callback may say about its answer. @since 0.1 */
typedef struct tr_permit_answer {
    char reason[TR_REASON_BYTES_MAX];  /**< zero-ended; for DENY and ASK */
    char summary[TR_REASON_BYTES_MAX]; /**< zero-ended; for ASK: what the human should read */
    uint64_t expire_ns;                /**< for ASK: then it is denied; 0: never */
} tr_permit_answer;

/** Asked before a call is routed, and again at each tr_task_approve with `approvals` counted up, so
 *  that a call may need several. The request has both the tool's id and its name; from the second
 *  question on its options are all default. Runs on the launching (or approving) thread; it must
 *  not block and must not call the library. @since 0.1 */
typedef tr_permit (*tr_permit_function)(void *context, const tr_request *request,
                                        unsigned approvals, tr_permit_answer *answer);

/** Asked where a call should go: sets fields of `options` that the launch left at default; what the
 *  launch set wins. Options that a launch would refuse count as not set, all of them. Runs on the
 *  launching thread; it must not block and must not call the library. @since 0.1 */
typedef void (*tr_route_function)(void *context, const tr_request *request, tr_options *options);

/** Positive result of a launch: the resolution is in `ready`. @since 0.1 */
#define TR_READY 1
/** Result of a launch whose resolution will come through its channel. @since 0.1 */
#define TR_PENDING 0

struct tr_batch;

/** What became of a launch. @since 0.1 */
typedef struct tr_launched {
    int status;             /**< TR_PENDING, TR_READY, or (of a batch) the error */
    tr_kind kind;           /**< foreground or background */
    tr_task_id task;        /**< the task; 0 if it was not accepted */
    struct tr_batch *ready; /**< with TR_READY: a batch of this one resolution; else NULL */
} tr_launched;

/**
 * Launches one call: validates, asks permission, routes, reserves all that finishing needs,
 * accepts.
 * @param manager the manager
 * @param request the call
 * @param ret_launched receives what became of it
 * @return TR_PENDING or TR_READY
 * @errors TR_EINVAL a malformed request; TR_ENOENT no such turn or tool, or the turn is closed;
 *         TR_ECLOSED the manager or session is closed; TR_E2BIG input, call id or metadata too
 *         large; TR_EAGAIN no room (tasks, fibers or bytes) within `admit_timeout_ns`
 *         (tr_manager_room_fd says when to try again); TR_ENOMEM no memory. Nothing was accepted
 *         and `input_release` was not called
 * @threads any; blocks only for `admit_timeout_ns`, for an inline call until it has ended, and
 *         before a refusal for a moment, until timers have let go of tasks that are over
 * @ownership everything in `request` is copied, but an input with `input_release`, which is
 *         borrowed until that is called; a ready batch is the caller's until tr_batch_release
 * @since 0.1
 */
TR_EXPORT int tr_launch(tr_manager *manager, const tr_request *request, tr_launched *ret_launched);

/**
 * Launches several calls, usually those of one turn, for less than one by one. Each is accepted or
 * refused on its own and in order.
 * @param manager the manager
 * @param requests the calls
 * @param count how many, 1 to 1 048 576
 * @param ret_launched receives `count` answers, each with its `status`
 * @return how many were accepted
 * @errors TR_EINVAL a NULL argument or a bad count; `ret_launched` was not written
 * @threads as tr_launch
 * @ownership as tr_launch, for each
 * @since 0.1
 */
TR_EXPORT int tr_launch_batch(tr_manager *manager, const tr_request *requests, size_t count,
                              tr_launched *ret_launched);

TR_END_DECLS

#endif
