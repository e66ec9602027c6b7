/*
 * contract: a randomised test of the promises of toolring.h, through toolring.h alone.
 *
 * A run is made from a seed: a configuration, a list of operations, and for each launched call a
 * plan of what its tool will do. Threads of the host carry the operations out, others wait, take,
 * drain, read events and finish deferred calls. Beside them the model keeps, for every call, what
 * was done to it and what came of it; what does not fit is a violation, and ends the run.
 *
 *   plan.c      seed → operations, plans, configuration        chance.h   numbers from seeds
 *   model.c     records of calls, turns, sessions       items.c    the checks of single items
 *   tools.c     what the tools do; the callbacks; who finishes deferred calls
 *   hooks.c     their cancel hooks
 *   drive.c     launching, opening, closing                    steer.c    all other operations
 *   take.c      who waits, takes and drains                    events.c   who reads events
 *   run.c       one run from open to free, and what must hold at its end
 *   watch.c     violations, and the watchdog                   contract.c options, replaying,
 *   shrinking
 *
 * Times. `stamp` is a counter that gives a total order to what the host sees: an operation takes
 * one before and one after. Where two operations overlap, the model allows either order.
 */
#ifndef TR__TESTS_CONTRACT_CONTRACT_H
#define TR__TESTS_CONTRACT_CONTRACT_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <toolring.h>

#include "contract/chance.h"

#define THREADS_MAX 16u
#define GROUP_MAX 8u /* calls of one batch launch; records of one operation */
#define SESSION_PLACES 4u
#define TURN_PLACES 4u
#define QUEUES 2u
#define CHANGES_MAX 24u

/* ── plan.c ──────────────────────────────────────────────────────────────────────────────────── */

enum operation_kind {
    OP_LAUNCH,
    OP_BATCH,
    OP_CANCEL,
    OP_DETACH,
    OP_ATTACH,
    OP_SET_DELIVERY,
    OP_SET_CONTINUE,
    OP_INTERRUPT,
    OP_APPROVE,
    OP_DENY,
    OP_TURN_CLOSE,
    OP_SESSION_CLOSE,
    OP_SNAPSHOT,
    OP_LIST,
    OP_WAKE,
    OP_TOKEN,
    OP_STATS,
    OP_WAIT_IDLE,
    OP_PAUSE,
    OP_KINDS,
};

struct operation {
    enum operation_kind kind;
    uint32_t index; /* in the list before shrinking: names its records and its thread */
    uint64_t seed;
};

enum action {
    ACT_RETURN,       /* sets its result and returns */
    ACT_SLEEP,        /* tr_sleep */
    ACT_SLEEP_SHIELD, /* waits on although it was asked to stop */
    ACT_PIPE,         /* waits for a pipe that somebody writes to later, or a timer */
    ACT_BLOCK,        /* a plain wait on a condition variable */
    ACT_SPIN,         /* computes, deaf to cancels */
    ACT_SPIN_POLITE,  /* computes until asked to stop */
    ACT_DEFER,        /* finished later by another thread */
    ACT_DEFER_EARLY,  /* finished by another thread maybe before it returns TR_DEFERRED */
    ACT_PROCESS,      /* runs a program */
    ACT_AWAIT_CANCEL, /* tr_call_await_cancel */
    ACTIONS,
};

enum result_way {
    WAY_NONE,
    WAY_COPY,
    WAY_COPY_TWICE,
    WAY_RESERVE,
    WAY_GIVE,
    WAYS
};

struct plan {
    enum action action;
    enum result_way way;
    bool awaiting;
    bool brief;    /* its tool says so; never together with `awaiting` */
    bool borrowed; /* the input */
    int status;    /* what the function returns, or finishes with */
    uint32_t delay_us;
    uint32_t result_bytes, input_bytes, call_id_bytes, metadata_bytes;
    unsigned approvals; /* asked for so many times … */
    bool denied;        /* … and then denied by the callback */
    uint64_t expire_ns;
    uint64_t admit_timeout_ns;
    tr_options options;
    tr_route routed; /* what the routing callback says */
};

/* Which of world->tools a call is of, and its name. */
static inline unsigned plan_tool(const struct plan *plan)
{
    return plan->awaiting ? 1 : plan->brief ? 2 : 0;
}

static inline const char *plan_tool_name(const struct plan *plan)
{
    static const char *const names[] = {"plain", "awaiting", "brief"};
    return names[plan_tool(plan)];
}

struct shape {
    tr_config config;
    uint32_t finishers, waiters, takers;
    bool close_early;  /* tr_manager_close while operations go on … */
    uint32_t close_at; /* … after so many of them */
    uint64_t drain_ns;
    bool keep;    /* some batches are released after the manager was freed */
    bool patient; /* no function is ever abandoned for want of patience */
    bool processes;
};

const char *operation_name(enum operation_kind kind);
const char *action_name(enum action action);
void plan_operations(uint64_t seed, struct operation *operations, uint32_t count);
void plan_call(uint64_t seed, const struct shape *shape, struct plan *ret_plan);
void plan_shape(uint64_t seed, uint32_t operations, bool is_inline, struct shape *ret_shape);

/* ── model.c ─────────────────────────────────────────────────────────────────────────────────── */

enum launch_state {
    LAUNCH_NONE,
    LAUNCH_TRIED,
    LAUNCH_ACCEPTED,
    LAUNCH_REFUSED
};

enum change_kind {
    CHANGE_KIND,
    CHANGE_DELIVERY,
    CHANGE_CONTINUE
};

/* One attempt to change what decides a channel. */
struct change {
    enum change_kind what;
    int value;
    int result;        /* 1: under way */
    uint64_t from, to; /* stamps */
};

struct record {
    struct plan plan;
    uint64_t seed;
    uint32_t index;
    struct model_turn *turn;
    unsigned char *input; /* when borrowed */
    _Atomic int launch;   /* enum launch_state */
    _Atomic uint64_t id;
    _Atomic uint32_t resolutions, detaches, requests; /* items shown */
    _Atomic uint32_t runs, asked, approved, inputs_released, results_given, results_released;
    _Atomic int outcome, channel; /* of the resolution */
    _Atomic uint32_t flags;
    _Atomic bool may_stop; /* somebody has tried to stop it */
    _Atomic bool stopped;  /* and was told that it will */
    _Atomic bool may_deny;
    _Atomic bool finished; /* tr_finish won */
    _Atomic uint32_t held; /* resolutions and detaches in batches not released */
    _Atomic uint32_t hook_calls, hook_releases;
    _Atomic bool hooked, hook_taken_back; /* registered; and its own again */
    _Atomic bool hook_gone;               /* may not be called any more */
    _Atomic bool deferred;                /* its function returned TR_DEFERRED */
    pthread_mutex_t lock;                 /* changes */
    struct change changes[CHANGES_MAX];
    uint32_t changes_count;
    uint32_t event_queued, event_started, event_detached, event_terminal,
        event_continue; /* reader */
    int event_outcome;
};

struct model_session {
    tr_session_id id;
    uint32_t index;
    tr_queue *queue;
    _Atomic bool opened, closing, gone;
    _Atomic bool discarding;
    _Atomic uint64_t closed_at, discarded_at; /* stamps: since then; 0: not */
    _Atomic bool taking[2];
};

struct model_turn {
    tr_turn_id id;
    uint32_t index;
    struct model_session *session;
    bool bound;
    _Atomic bool interrupted;
    _Atomic bool opened, closing;
    _Atomic uint64_t closed_at;
    _Atomic int64_t
        foreground; /* launched or attached, not yet seen to end; never too high for its waiter */
    pthread_mutex_t waiter;
    _Atomic bool settled, last_idle; /* the last item that ends a foreground task said "idle" */
};

struct place {
    pthread_mutex_t lock; /* opening */
    _Atomic(struct model_session *) session;
    _Atomic(struct model_turn *) turns[TURN_PLACES];
};

/* Everything of one run. */
struct world {
    uint64_t seed;
    bool is_inline, quiet;
    uint32_t threads;
    struct shape shape;
    tr_manager *manager;
    tr_tool_id tools[3]; /* plain, awaiting, brief */
    tr_queue *queues[QUEUES];
    struct operation *operations;
    uint32_t operations_count; /* left after shrinking */
    uint32_t indexes;          /* before */
    struct record *records;    /* indexes * GROUP_MAX */
    struct model_session *sessions;
    struct model_turn *turns;
    _Atomic uint32_t sessions_count, turns_count;
    uint32_t homes_max;
    struct place places[SESSION_PLACES];
    struct place_of_id *ids; /* every id ever seen, and whose it is */
    uint32_t ids_size;
    _Atomic uint64_t stamp;
    _Atomic uint64_t progress;
    _Atomic uint32_t executed; /* operations */
    uint32_t close_at; /* so many of them are executed when an early close comes; 0: at once */
    sem_t close_now;   /* posted by the operation that makes it so many */
    _Atomic uint32_t accepted, outcomes[8], detached, unshown;
    _Atomic bool closing;  /* tr_manager_close was called */
    _Atomic bool drained;  /* nothing more will come: empty everything and leave */
    _Atomic bool stopping; /* service threads leave */
    _Atomic bool gapped;   /* the main reader has missed events */
    _Atomic(tr_token *) tokens[THREADS_MAX];
    _Atomic uint64_t tokens_cancelled[THREADS_MAX];
    pthread_mutex_t token_lock[THREADS_MAX];
    pthread_mutex_t kept_lock;
    tr_batch *kept[256];
    uint32_t kept_count;
    _Atomic uint32_t requests_held; /* in batches not released */
    int stop_fd;
    _Atomic(const char *) where[64];
};

struct place_of_id {
    _Atomic uint64_t id;
    _Atomic uint32_t record;
};

extern struct world *world;

uint64_t stamp(void);
void model_open(struct world *w);
void model_done(struct world *w);
struct record *record_of(void *user);
struct record *record_at(uint32_t operation, uint32_t call);
/* The id that the launch, an item or an event says a call has. */
void record_identify(struct record *record, uint64_t id);
/* What options, callback and tool together say: before the launch. */
void record_prepare(struct record *record, struct model_turn *turn);
void record_launched(struct record *record, const tr_launched *launched);
/* May somebody have stopped it? */
bool record_may_stop(struct record *record);
/* Whether somebody, or a timer, has detached it, or may have. */
bool record_may_be_detached(struct record *record);
/* May its resolution have been discarded? */
bool record_is_discardable(struct record *record);
struct change *change_begin(struct record *record, enum change_kind what, int value);
void change_end(struct record *record, struct change *change, int result);
bool change_allows(struct record *record, enum change_kind what, int value);
/* The answer of an operation on a task must be possible. */
void check_found(struct record *record, const char *operation, int result, bool shown_before);
/* An item was taken by a call that began at `from`. */
void check_item(const tr_item *item, uint64_t from);
/* Just before its batch is released: the bytes are as they were. */
void check_bytes(const tr_item *item);
void batch_taken(tr_batch *batch, uint64_t from);
void batch_released(tr_batch *batch);

void pattern_fill(uint64_t seed, void *data, size_t size);
bool pattern_fits(uint64_t seed, const void *data, size_t size);
#define PATTERN_RESULT 1u
#define PATTERN_INPUT 2u
#define PATTERN_CALL_ID 3u
#define PATTERN_METADATA 4u
uint64_t pattern_seed(const struct record *record, unsigned what);

/* ── tools.c ─────────────────────────────────────────────────────────────────────────────────── */

void tools_register(void);
void tools_wake(void);
tr_permit permit_call(void *context, const tr_request *request, unsigned approvals,
                      tr_permit_answer *answer);
void route_call(void *context, const tr_request *request, tr_options *options);
void release_input(void *context, void *data, size_t size);
void *finisher_main(void *argument);
void finishers_open(void);
void finishers_done(void);

/* ── hooks.c ─────────────────────────────────────────────────────────────────────────────────── */

/* The call's function, first and, unless it returns TR_DEFERRED, last of all. */
void hook_register(struct record *record, tr_call *call);
void hook_take_back(struct record *record, tr_call *call);
/* A resolution was taken. */
void hook_resolved(struct record *record, tr_outcome outcome);
/* The manager is closed: nothing is called any more. */
void hook_check(const struct record *record);

/* ── drive.c, steer.c, take.c, events.c ──────────────────────────────────────────────────────── */

void *driver_main(void *argument);
void launch_operation(const struct operation *operation);
struct model_turn *turn_at(uint64_t seed);
void close_turn(struct model_turn *turn, uint32_t flags);
void close_session(struct model_session *session, uint32_t flags);
void steer_operation(const struct operation *operation);
void answer_request(struct record *record, struct chance *chance);
void *sweeper_main(void *argument);

void *waiter_main(void *argument);
void *taker_main(void *argument);
void *drainer_main(void *argument);
void *poller_main(void *argument);
void *reader_main(void *argument);
void *slow_reader_main(void *argument);
void events_open(void);
void check_events(void);

/* ── run.c, watch.c ──────────────────────────────────────────────────────────────────────────── */

struct run_options {
    uint64_t seed;
    uint32_t operations, threads;
    bool is_inline, quiet;
    unsigned hang_seconds;
};

/* One run in this process: returns when all was well, and leaves the process otherwise. */
void run_once(const struct run_options *options, const struct operation *operations,
              uint32_t count);

#define EXIT_VIOLATION 1
#define EXIT_HANG 3

__attribute__((noreturn, format(printf, 1, 2))) void violation(const char *format, ...);
#define MUST(condition, ...) ((condition) ? (void)0 : violation(__VA_ARGS__))
/* Says what the calling thread is about to do, for the watchdog's report; counts as progress. */
void at(unsigned thread, const char *what);
void watch_open(unsigned hang_seconds);
void watch_done(void);
uint64_t now_ns(void);

#endif
