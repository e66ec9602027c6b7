/*
 * toolring/events.h: the event log. A bounded broadcast: every reader sees every event, in one
 * order, at its own pace; one that falls behind sees one TR_EVENT_GAP and goes on. Events inform,
 * results never depend on them. Without readers nothing is recorded and nothing is paid.
 */
#ifndef TOOLRING_EVENTS_H
#define TOOLRING_EVENTS_H

#include <toolring/error.h>
#include <toolring/types.h>

TR_BEGIN_DECLS

/** Kinds of event. Per task: QUEUED first, then STARTED and DETACHED, each at most once and in the
 *  order in which they happened (the detach timer runs from acceptance, so a task may be detached
 *  while it still waits for a worker), then exactly one terminal event, then CONTINUE_REQUESTED.
 *  @since 0.1 */
typedef enum tr_event_type {
    TR_EVENT_NONE = 0,                /**< no event */
    TR_EVENT_QUEUED = 1,              /**< accepted */
    TR_EVENT_STARTED = 2,             /**< its function starts */
    TR_EVENT_PROGRESS = 3,            /**< tr_call_progress: `current` of `total` */
    TR_EVENT_OUTPUT = 4,              /**< it wrote output: `current` bytes so far. A program's
                                           first bytes are told of at once, later ones at most 20
                                           times a second, in one event for all since the last */
    TR_EVENT_DETACHED = 5,            /**< foreground has become background */
    TR_EVENT_INPUT_REQUIRED = 6,      /**< it waits for an approval */
    TR_EVENT_COMPLETED = 7,           /**< terminal */
    TR_EVENT_FAILED = 8,              /**< terminal */
    TR_EVENT_CANCELLED = 9,           /**< terminal */
    TR_EVENT_TIMED_OUT = 10,          /**< terminal */
    TR_EVENT_DENIED = 11,             /**< terminal */
    TR_EVENT_LOST = 12,               /**< terminal */
    TR_EVENT_CONTINUE_REQUESTED = 13, /**< its loop update is there and asks for another turn */
    TR_EVENT_GAP = 14, /**< this reader missed `current` events; only `sequence` is set */
} tr_event_type;

/**
 * A kind of event's name, for logs and protocols.
 * @param type a tr_event_type
 * @return "queued", "started", "input_required" … as in the enumeration, in lower case; "unknown"
 *         for any other value
 * @threads any; never blocks
 * @ownership static text, valid for ever
 * @since 0.1
 */
TR_EXPORT const char *tr_event_name(tr_event_type type);

/** One event. @since 0.1 */
typedef struct tr_event {
    uint64_t sequence;    /**< from 1, the same for every reader; holes are what its options hide */
    uint64_t time_ns;     /**< when it happened */
    tr_event_type type;   /**< what happened */
    uint64_t current;     /**< PROGRESS, OUTPUT: how much; GAP: how many were missed */
    uint64_t total;       /**< PROGRESS: of how much, 0 if unknown; OUTPUT: the number of this
                               OUTPUT event among its task's, from 1 */
    tr_snapshot snapshot; /**< the task right after it happened */
} tr_event;

/** Which events a reader wants. @since 0.1 */
typedef struct tr_reader_options {
    size_t size;           /**< sizeof(tr_reader_options), set by TR_READER_OPTIONS_INIT */
    tr_session_id session; /**< only of this session; 0: of all */
    tr_turn_id turn;       /**< only of this turn; 0: of all */
    uint64_t types;        /**< only these: bits 1 << tr_event_type, no others; 0: all. GAP always
                                comes */
} tr_reader_options;

/** Fills a tr_reader_options with "everything". @since 0.1 */
#define TR_READER_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(tr_reader_options), 0, 0, 0                                                         \
    }

/**
 * Opens a reader. It sees what happens from now on.
 * @param manager the manager
 * @param options which events; NULL: all
 * @param ret_reader receives the reader
 * @return 0
 * @errors TR_EINVAL bad options; TR_ELIMIT too many readers; TR_ENOMEM no memory; TR_ECLOSED closed
 * @threads any; never blocks
 * @ownership the reader is the caller's until tr_reader_close
 * @since 0.1
 */
TR_EXPORT int tr_reader_open(tr_manager *manager, const tr_reader_options *options,
                             tr_reader **ret_reader);

/**
 * Takes the next events.
 * @param reader the reader
 * @param events receives them
 * @param events_max room in `events`, at least 1
 * @param timeout_ns how long to wait for the first one; 0: not at all; TR_FOREVER: until it comes
 * @return how many, 0 if none came in time
 * @errors TR_EINVAL a NULL argument or no room; TR_EBUSY another thread reads; TR_ECLOSED the
 *         manager is closed and every event was taken
 * @threads any, one at a time per reader; blocks up to `timeout_ns`
 * @ownership copies
 * @since 0.1
 */
TR_EXPORT int tr_reader_read(tr_reader *reader, tr_event *events, size_t events_max,
                             uint64_t timeout_ns);

/**
 * A descriptor that is readable when there may be events, for epoll and its relatives. Made at the
 * first call. Do not read from it: tr_reader_read clears it when it has taken everything.
 * @param reader the reader
 * @return the descriptor
 * @errors TR_EINVAL a NULL reader; TR_EBUSY another thread reads; -EMFILE, -ENFILE no descriptor to
 *         be had
 * @threads any, one at a time per reader; never blocks
 * @ownership the reader's, closed with it
 * @since 0.1
 */
TR_EXPORT int tr_reader_fd(tr_reader *reader);

/**
 * Closes a reader.
 * @param reader the reader, or NULL
 * @threads any; nobody may be in tr_reader_read
 * @ownership takes the reader back
 * @since 0.1
 */
TR_EXPORT void tr_reader_close(tr_reader *reader);

TR_END_DECLS

#endif
