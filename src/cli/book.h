/*
 * book.h: the program's bookkeeping: which session, turn and call a label means, what a turn still
 * waits for, and the sleeping of the reader until something is done.
 */
#ifndef CLI_BOOK_H
#define CLI_BOOK_H

#include <pthread.h>
#include <toolring.h>

#include "index.h"

/** A session by its label. */
struct cli_session {
    struct cli_index_entry by_label; /**< in cli_book.sessions */
    struct cli_session *idle_before; /**< neighbours in the list of sessions without turns */
    struct cli_session *idle_after;
    uint64_t serial;   /**< never used twice; part of the keys of its turns and calls */
    tr_session_id id;  /**< in the engine */
    size_t turn_count; /**< its turns that are open */
    char label[TR_LABEL_BYTES_MAX + 1];
};

/** A turn by its label and session. */
struct cli_turn {
    struct cli_index_entry by_key;  /**< in cli_book.turns: session and label */
    struct cli_index_entry by_name; /**< in cli_book.turns_latest, if is_latest: label */
    struct cli_index_entry by_id;   /**< in cli_book.turns_by_id: engine id */
    struct cli_turn *idle_before;   /**< neighbours in the list of turns without calls */
    struct cli_turn *idle_after;
    struct cli_session *session; /**< its session */
    tr_turn_id id;               /**< in the engine */
    size_t live_count;           /**< calls whose result line is not written */
    size_t front_count;          /**< those of them the turn waits for */
    bool is_latest;              /**< the turn used last of all with this label */
    char label[TR_LABEL_BYTES_MAX + 1];
};

/** A call. Given to the engine as the call's user pointer. */
struct cli_call {
    struct cli_index_entry by_key;  /**< in cli_book.calls: session and call id */
    struct cli_index_entry by_name; /**< in cli_book.calls_latest, if is_latest: call id */
    struct cli_call *ended_after;   /**< next in the list of remembered ended calls */
    struct cli_call *ended_before;  /**< the one before */
    struct cli_turn *turn;          /**< its turn; NULL once it has ended */
    uint64_t session_serial;        /**< of its session */
    tr_task_id task;                /**< set by the reader after the launch */
    unsigned abilities;             /**< CLI_CAN_… bits; the reader sets it before the launch */
    bool is_inline;                 /**< asked for as inline; as above */
    bool in_front;                  /**< counted in its turn's front_count */
    bool launching;                 /**< the reader has not come back from the launch */
    bool resolved;                  /**< its result line was written */
    bool is_latest;                 /**< the call used last of all with this call id */
    uint8_t call_id_size;           /**< bytes of call_id */
    char call_id[];                 /**< the host's id of it, zero-ended */
};

/** What the reader sleeps for. */
enum cli_wait {
    CLI_WAIT_NOTHING, /**< it does not */
    CLI_WAIT_TURN,    /**< a turn without foreground work */
    CLI_WAIT_IDLE,    /**< no call at all */
    CLI_WAIT_ROOM,    /**< a turn that can be closed to make room for another */
    CLI_WAIT_STOP,    /**< nothing but the end (a pause) */
};

/** The book. Every field is guarded by `lock`. */
struct cli_book {
    pthread_mutex_t lock;
    pthread_cond_t changed; /**< only the reader sleeps on it */
    tr_manager *manager;
    tr_queue *queue; /**< every session is bound to it */
    struct cli_index sessions, turns, turns_latest, turns_by_id, calls, calls_latest;
    struct cli_session sessions_idle; /**< head of a ring */
    struct cli_turn turns_idle;       /**< head of a ring, idle longest first */
    struct cli_call *ended_first;     /**< remembered ended calls, oldest first */
    struct cli_call *ended_last;
    size_t sessions_idle_count, turns_idle_count, ended_count;
    size_t live_count;             /**< calls accepted whose line is not written */
    uint64_t serial;               /**< last serial number given */
    enum cli_wait waiting;         /**< what the reader sleeps for */
    struct cli_turn *waiting_turn; /**< for CLI_WAIT_TURN */
    bool stopped;                  /**< no further intake; every sleep ends */
};

/** What is known of a call id. */
enum cli_found {
    CLI_FOUND_NONE,  /**< no call had it, or too long ago to be remembered */
    CLI_FOUND_ENDED, /**< its line is written */
    CLI_FOUND_LIVE,  /**< it is under way */
};

/** What an order to a call needs to know of it. */
struct cli_target {
    tr_task_id task;    /**< in the engine */
    unsigned abilities; /**< CLI_CAN_… bits */
};

/** Prepares the book of an open manager. Returns 0 or a negative code. */
int cli_book_init(struct cli_book *book, tr_manager *manager, tr_queue *queue);

/** Frees everything in it; nobody uses it any more. */
void cli_book_done(struct cli_book *book);

/** Enters a call before its launch, opening session and turn if need be; sleeps when too many turns
 *  are open. `in_front` says whether the turn will wait for it.
 *  Returns 0; TR_EEXIST a call of this id is under way in the session; TR_ECLOSED stopped;
 *  or what opening the session or turn said. Called by the reader. */
int cli_book_enter(struct cli_book *book, const char *session, const char *turn,
                   const char *call_id, bool in_front, struct cli_call **ret_call);

/** Notes that the launch was accepted as `task`; as background if not `in_front`. By the reader. */
void cli_book_launched(struct cli_book *book, struct cli_call *call, tr_task_id task, tr_kind kind);

/** Takes a call back whose launch was refused. By the reader. */
void cli_book_refused(struct cli_book *book, struct cli_call *call);

/** Notes items whose lines are written: resolutions end calls, detaches leave the foreground. */
void cli_book_settle(struct cli_book *book, const tr_item *items, size_t count);

/** Sleeps until the turn has no foreground work left. `session` NULL: the session that used the
 *  label last. By the reader. */
void cli_book_wait_turn(struct cli_book *book, const char *session, const char *turn);

/** Sleeps until no call is left. By the reader. */
void cli_book_wait_idle(struct cli_book *book);

/** Sleeps. By the reader. */
void cli_book_pause(struct cli_book *book, uint64_t milliseconds);

/** Interrupts a turn, found as by cli_book_wait_turn; an unknown one has nothing to interrupt. */
void cli_book_interrupt(struct cli_book *book, const char *session, const char *turn);

/** Interrupts every turn that has foreground work. Returns how many. */
size_t cli_book_interrupt_all(struct cli_book *book, const char *reason);

/** Finds a call; `session` NULL: the session that used the call id last. `ret_target` is filled in
 *  if it is under way, and its task at least if it is known. */
enum cli_found cli_book_find(struct cli_book *book, const char *session, const char *call_id,
                             struct cli_target *ret_target);

/** Copies the labels of a turn by its engine id. Returns false, and "" for both, if it is gone. */
bool cli_book_labels(struct cli_book *book, tr_turn_id turn, char session[TR_LABEL_BYTES_MAX + 1],
                     char label[TR_LABEL_BYTES_MAX + 1]);

/** Ends every sleep, now and later. */
void cli_book_stop(struct cli_book *book);

/** Whether cli_book_stop was called. */
bool cli_book_is_stopped(struct cli_book *book);

#endif
