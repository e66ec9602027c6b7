/*
 * toolring/types.h: the words shared by the host's side (toolring.h) and the tool's side
 * (toolring/tool.h): ids, enumerations, and the options of a call.
 *
 * Conventions that hold everywhere:
 *  - a function returns 0 or a positive number on success and a negative TR_E… code on failure
 *    (toolring/error.h); on failure nothing has changed and no `ret_…` argument was written;
 *  - structures that a caller fills begin with `size`, set by their TR_…_INIT macro; zero in any
 *    other field means "the default"; fields are only ever appended; a non-zero byte beyond the
 *    fields this library knows is refused with TR_EINVAL;
 *  - times are nanoseconds of CLOCK_MONOTONIC, durations are nanoseconds, sizes are bytes;
 *  - a NULL manager, queue, reader, call or `ret_…` argument is TR_EINVAL, whether its function
 *    says so or not, unless NULL is given a meaning; what returns no code does nothing then;
 *  - ids are those of one manager: another may use the same number for something else;
 *  - no wait ends because of a signal; the threads of the library block every signal. A thread that
 *    is in the library must not be ended or led out of it from outside (pthread_cancel, a longjmp
 *    out of a tool or callback);
 *  - after a fork only the parent may go on with its managers. The child leaves them alone, and
 *    does not free them either; it may open managers of its own.
 */
#ifndef TOOLRING_TYPES_H
#define TOOLRING_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <toolring/version.h>

TR_BEGIN_DECLS

/** The task manager: owns every thread, queue and byte of one engine. @since 0.1 */
typedef struct tr_manager tr_manager;
/** A call as its tool function sees it; valid until the call has ended. @since 0.1 */
typedef struct tr_call tr_call;
/** A drain queue: many sessions and turns, one consumer. @since 0.1 */
typedef struct tr_queue tr_queue;
/** A reader of the event log with a cursor of its own. @since 0.1 */
typedef struct tr_reader tr_reader;
/** A cancel token: lets one thread end the waiting of others. @since 0.1 */
typedef struct tr_token tr_token;

/** A session: 64-bit generational id; 0 is never one. @since 0.1 */
typedef uint64_t tr_session_id;
/** A turn: 64-bit generational id; 0 is never one. @since 0.1 */
typedef uint64_t tr_turn_id;
/** A task: 64-bit generational id; 0 is never one; never used twice by its manager. @since 0.1 */
typedef uint64_t tr_task_id;
/** A registered tool: small index, from 1; 0 is never one. @since 0.1 */
typedef uint32_t tr_tool_id;

/** A duration or deadline that never comes. @since 0.1 */
#define TR_FOREVER UINT64_MAX
/** Nanoseconds in a millisecond. @since 0.1 */
#define TR_MILLISECOND UINT64_C(1000000)
/** Nanoseconds in a second. @since 0.1 */
#define TR_SECOND UINT64_C(1000000000)

/** Bytes of a call id, at most. @since 0.1 */
#define TR_CALL_ID_BYTES_MAX 128
/** Bytes of a call's metadata, at most. @since 0.1 */
#define TR_METADATA_BYTES_MAX 512
/** Bytes of a tool's name, at most, without the final zero. @since 0.1 */
#define TR_TOOL_NAME_BYTES_MAX 64
/** Bytes of a session's or turn's label, at most, without the final zero. @since 0.1 */
#define TR_LABEL_BYTES_MAX 128
/** Bytes of a reason or error text, at most; longer ones are cut at a UTF-8 boundary. @since 0.1 */
#define TR_REASON_BYTES_MAX 256
/** Bytes that hold any text form of a task id, with the final zero. @since 0.1 */
#define TR_TASK_TEXT_BYTES 32

/** A run of bytes that belongs to somebody else. `data` may be NULL when `size` is 0. @since 0.1 */
typedef struct tr_bytes {
    const void *data; /**< first byte */
    size_t size;      /**< bytes */
} tr_bytes;

/** Where a call runs and whether it holds its turn open. @since 0.1 */
typedef enum tr_route {
    TR_ROUTE_DEFAULT = 0,      /**< next in line: routing callback, tool, foreground */
    TR_ROUTE_INLINE = 1,       /**< in the launching thread; launch returns the resolution. A call
                                    that must be approved first is a foreground one */
    TR_ROUTE_FOREGROUND = 2,   /**< on a worker (but see TR_TOOL_BRIEF); the turn waits for it */
    TR_ROUTE_BACKGROUND = 3,   /**< on a worker; the turn does not wait for it */
    TR_ROUTE_DETACH_AFTER = 4, /**< foreground first, background after `detach_after_ns` */
} tr_route;

/** Whether a task holds its turn open at this moment. @since 0.1 */
typedef enum tr_kind {
    TR_KIND_FOREGROUND = 0, /**< its turn waits for it */
    TR_KIND_BACKGROUND = 1, /**< its turn does not */
} tr_kind;

/** Channel of a resolution that comes as background. @since 0.1 */
typedef enum tr_delivery {
    TR_DELIVERY_DEFAULT = 0, /**< the tool's, else TR_DELIVERY_TO_LOOP */
    TR_DELIVERY_TO_LOOP = 1, /**< the session's loop updates */
    TR_DELIVERY_MANUAL = 2,  /**< the session's ready items */
} tr_delivery;

/** What a loop update asks of the host's agent loop. @since 0.1 */
typedef enum tr_continue {
    TR_CONTINUE_DEFAULT = 0, /**< the tool's, else TR_CONTINUE_NOTIFY */
    TR_CONTINUE_NOTIFY = 1,  /**< tell the loop, nothing more */
    TR_CONTINUE_REQUEST = 2, /**< also publish the event TR_EVENT_CONTINUE_REQUESTED */
} tr_continue;

/** Which close ends a task that still runs. @since 0.1 */
typedef enum tr_lifetime {
    TR_LIFETIME_DEFAULT = 0, /**< the tool's, else TR_LIFETIME_SESSION */
    TR_LIFETIME_TURN = 1,    /**< ended by tr_turn_close, also as background */
    TR_LIFETIME_SESSION = 2, /**< ended by tr_session_close */
    TR_LIFETIME_MANAGER = 3, /**< ended by tr_manager_close only */
} tr_lifetime;

/** Which of two waiting tasks a worker takes first. @since 0.1 */
typedef enum tr_priority {
    TR_PRIORITY_DEFAULT = 0, /**< by kind at launch: foreground high, background low */
    TR_PRIORITY_HIGH = 1,    /**< before low ones */
    TR_PRIORITY_LOW = 2,     /**< after high ones, with a guard against starving */
} tr_priority;

/** Where a task is in its life. @since 0.1 */
typedef enum tr_state {
    TR_STATE_QUEUED = 1,  /**< accepted, no worker has it yet */
    TR_STATE_RUNNING = 2, /**< its function is on a worker */
    TR_STATE_WAITING = 3, /**< its function awaits an operation, was deferred, or needs approval */
    TR_STATE_ENDED = 4,   /**< its outcome is final */
} tr_state;

/** How a task ended. The first terminal transition wins and is final. LOST comes with the code: an
 *  operation it waited for went down with the kernel's ring (TR_ERING), or there was no stack for
 *  its function (TR_ENOMEM). @since 0.1 */
typedef enum tr_outcome {
    TR_OUTCOME_NONE = 0,      /**< it has not ended */
    TR_OUTCOME_COMPLETED = 1, /**< the tool returned success */
    TR_OUTCOME_FAILED = 2,    /**< the tool reported an error */
    TR_OUTCOME_CANCELLED = 3, /**< cancelled by id, interrupt or close */
    TR_OUTCOME_TIMED_OUT = 4, /**< a timeout of the call expired */
    TR_OUTCOME_DENIED = 5,    /**< permission was denied; the tool never started */
    TR_OUTCOME_LOST = 6,      /**< the engine lost the means to finish it */
} tr_outcome;

/**
 * A state's name, for logs and protocols.
 * @param state a tr_state
 * @return "queued", "running", "waiting", "ended"; "unknown" for any other value
 * @threads any; never blocks
 * @ownership static text, valid for ever
 * @since 0.1
 */
TR_EXPORT const char *tr_state_name(tr_state state);

/**
 * An outcome's name, for logs and protocols.
 * @param outcome a tr_outcome
 * @return "none", "completed", "failed", "cancelled", "timed_out", "denied", "lost"; "unknown" for
 *         any other value
 * @threads any; never blocks
 * @ownership static text, valid for ever
 * @since 0.1
 */
TR_EXPORT const char *tr_outcome_name(tr_outcome outcome);

/**
 * What can be said about a call at its launch, and per tool as defaults. Zero in a field means:
 * what the routing callback says, else the tool's default, else the built-in default.
 * A timeout of TR_FOREVER switches a tool's default timeout off. @since 0.1
 */
typedef struct tr_options {
    size_t size;               /**< sizeof(tr_options), set by TR_OPTIONS_INIT */
    tr_route route;            /**< where it runs */
    tr_delivery delivery;      /**< channel when it ends as background */
    tr_continue continuation;  /**< what a loop update asks for */
    tr_lifetime lifetime;      /**< which close ends it */
    tr_priority priority;      /**< which goes first */
    uint32_t reserved;         /**< must be 0 */
    uint64_t detach_after_ns;  /**< for TR_ROUTE_DETACH_AFTER, which is refused without: from
                                    acceptance, also while queued */
    uint64_t queue_timeout_ns; /**< longest time as QUEUED, from acceptance or approval; built-in:
                                    none */
    uint64_t run_timeout_ns;   /**< longest time from start to end; built-in: none */
    uint64_t idle_timeout_ns;  /**< longest time without output or progress; built-in: none */
    uint64_t total_timeout_ns; /**< longest time from acceptance to end; built-in: none */
    uint64_t output_bytes_max; /**< cap per captured output stream, to 1 GiB; built-in: the
                                    manager's */
} tr_options;

/** Fills a tr_options with "everything default". @since 0.1 */
#define TR_OPTIONS_INIT                                                                            \
    {                                                                                              \
        sizeof(tr_options), TR_ROUTE_DEFAULT, TR_DELIVERY_DEFAULT, TR_CONTINUE_DEFAULT,            \
            TR_LIFETIME_DEFAULT, TR_PRIORITY_DEFAULT, 0, 0, 0, 0, 0, 0, 0                          \
    }

/**
 * A tool's function. It runs once per call, on a worker thread (or in the launching thread for an
 * inline call), and returns 0 for *completed*, a negative code for *failed* (a TR_E… or negated
 * errno; TR_ETOOL when the details are in the result), or TR_DEFERRED; any other positive number is
 * a failure with TR_ESTATE. The call's result is what tr_result_copy and its relatives
 * (toolring/tool.h) set before it returns. @since 0.1
 */
typedef int (*tr_tool_function)(tr_call *call, void *context);

/** Returned by a tool function whose call tr_finish will end later. @since 0.1 */
#define TR_DEFERRED 1

/** Tells how bytes handed over to the library are given back: called once, from any thread. It must
 *  not block and must not call the library. @since 0.1 */
typedef void (*tr_release_function)(void *context, void *data, size_t size);

/** tr_tool.flags: the function awaits (tr_sleep, tr_process, tr_io_wait …) and runs on a stack of
 *  its own; without it, awaiting functions block the worker's thread. @since 0.1 */
#define TR_TOOL_AWAITING UINT32_C(1)

/** tr_tool.flags: the function is brief: it never blocks, and takes less than about 50 µs. A host
 *  thread that waits for a turn (tr_turn_wait) may then run the turn's foreground calls of it
 *  itself, which saves them the way to a worker and back: so its wait may be late by as long as one
 *  such function takes, and the function may be on any host thread's stack and hold nothing that
 *  such a thread may hold too. Calls with a timeout, a detach time or a low priority always go to a
 *  worker, as do all when nobody waits for their turn within a millisecond or two, and those of a
 *  turn bound to a drain queue. Not together with TR_TOOL_AWAITING. @since 0.1 */
#define TR_TOOL_BRIEF UINT32_C(2)

/** A tool to register: what a call names, and the defaults of its calls. @since 0.1 */
typedef struct tr_tool {
    size_t size;               /**< sizeof(tr_tool), set by TR_TOOL_INIT */
    const char *name;          /**< 1 to TR_TOOL_NAME_BYTES_MAX bytes; copied */
    tr_tool_function function; /**< runs each call */
    void *context;             /**< passed to `function`; must outlive the manager's close */
    uint32_t flags;            /**< TR_TOOL_AWAITING, TR_TOOL_BRIEF or 0 */
    uint32_t reserved;         /**< must be 0 */
    tr_options options;        /**< defaults of its calls */
    tr_bytes metadata;         /**< of calls that bring none, to TR_METADATA_BYTES_MAX; copied */
    void *user;                /**< of calls that bring none (NULL) */
} tr_tool;

/** Fills a tr_tool with a name and a function. @since 0.1 */
#define TR_TOOL_INIT(tool_name, tool_function)                                                     \
    {                                                                                              \
        sizeof(tr_tool), (tool_name), (tool_function), NULL, 0, 0, TR_OPTIONS_INIT, {NULL, 0},     \
            NULL                                                                                   \
    }

/**
 * One task as it was at one moment: complete in itself, nothing in it points anywhere but
 * `tool_name`, which lives as long as the manager. @since 0.1
 */
typedef struct tr_snapshot {
    tr_task_id task;          /**< the task */
    tr_turn_id turn;          /**< its turn */
    tr_session_id session;    /**< its session */
    tr_tool_id tool;          /**< its tool */
    tr_state state;           /**< where it is */
    tr_kind kind;             /**< foreground or background */
    tr_outcome outcome;       /**< TR_OUTCOME_NONE until it has ended */
    tr_delivery delivery;     /**< TO_LOOP or MANUAL */
    tr_continue continuation; /**< NOTIFY or REQUEST */
    bool cancel_requested;    /**< a cancel or timeout is under way */
    bool detached;            /**< it was foreground once */
    bool approval_pending;    /**< it waits for tr_task_approve or tr_task_deny */
    bool deferred;            /**< it waits for tr_finish */
    uint64_t accepted_ns;     /**< when launch accepted it; also the order of launching */
    uint64_t started_ns;      /**< when its function first started; 0 if it has not */
    uint64_t ended_ns;        /**< when it ended; 0 if it has not */
    const char *tool_name;    /**< its tool's name */
    void *user;               /**< the host's pointer given at launch */
    uint16_t call_id_size;    /**< bytes used of `call_id` */
    uint16_t metadata_size;   /**< bytes used of `metadata` */
    unsigned char call_id[TR_CALL_ID_BYTES_MAX];   /**< the host's call id */
    unsigned char metadata[TR_METADATA_BYTES_MAX]; /**< the host's metadata */
} tr_snapshot;

TR_END_DECLS

#endif
