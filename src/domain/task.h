/*
 * task: one accepted call, and the state word that decides every race about it.
 *
 * The word is slot.word: generation (36 bits, owned by parts/slots) above 28 bits of state. All
 * that finish, detach, cancel, set-delivery and interrupt must agree on lives in these bits, so
 * that one compare-and-swap names the winner. Only domain/task.c changes them; every transition
 * returns the action its caller must carry out, and does nothing else.
 *
 *            admit                       start
 *   FREE ───────────▶ QUEUED ─────────────────────▶ RUNNING ──defer──▶ DEFERRED
 *     │                 ▲  │                          │   │               │
 *     │ admit    approve│  │ cancel                   │   │ cancel        │ finish, cancel
 *     ├────▶ APPROVAL ──┘  ▼                   finish │   ▼ (plain)       ▼
 *     │          └──deny─▶ ENDED ◀────────────────────┴─ ENDED ◀──────────┘
 *     └ admit (denied) ──▶ ENDED ── holds gone ──▶ FREE (generation + 1)
 *
 * from               event            to        function                 thread      action
 * returned
 * FREE               launch           QUEUED…   tr__task_admit           host        -
 * APPROVAL           approve          QUEUED    tr__task_approve         host        ENQUEUE
 * APPROVAL           deny, expiry     ENDED     tr__task_deny            host, ring  SETTLE
 * QUEUED             taken            RUNNING   tr__task_start           worker      RUN
 * ENDED              taken            ENDED     tr__task_start           worker      LATE
 * RUNNING            returns          ENDED     tr__task_finish          worker      SETTLE
 * ENDED              returns late     ENDED     tr__task_finish, _defer  worker      LATE
 * RUNNING            TR_DEFERRED      DEFERRED  tr__task_defer           worker      NONE | SETTLE
 * RUNNING, DEFERRED  tr_finish        ENDED     tr__task_finish_late     any         SETTLE
 * QUEUED, DEFERRED,
 *   APPROVAL         cancel, timeout  ENDED     tr__task_cancel          any         SETTLE
 * QUEUED             queue timeout    ENDED     tr__task_time_out_queued ring, host  SETTLE
 * RUNNING plain      cancel, timeout  ENDED     tr__task_cancel          any         SETTLE
 * (abandoned)
 * RUNNING coop.      cancel, timeout  RUNNING   tr__task_cancel          any         NOTIFY
 * RUNNING cancelled  never returns    ENDED     tr__task_abandon         ring, close SETTLE
 * any unended fg     detach           same, bg  tr__task_detach          any         DETACHED
 * any unended bg     attach           same, fg  tr__task_attach          host        ATTACHED
 *
 * Asking a cooperative task to stop takes HOLD_TIMER too: patience with it is bounded
 * (engine/deadline). `before` tells whether a timer was under way already. A cancel that ends a
 * task with COLD takes HOLD_STEER: there may be hooks to call (completion/hooks).
 *
 * "Cooperative" tasks are those whose function is told and trusted to stop: awaiting functions and
 * calls run in the launching thread. A function that merely waits for an op is RUNNING here;
 * whether it sleeps is `wake`, which snapshots show as WAITING.
 *
 * Holds. The slot is reused when the task has ended and no hold bit is left. Whoever clears the
 * last one recycles it:
 *   HOLD_RUN       a worker's inbox, a worker or a fiber has the task; or a thread that waits in
 *                  its launch for tr_finish
 *   HOLD_TIMER     its deadline op is under way (engine/deadline)
 *   HOLD_RESULT    its resolution was not released by the host
 *   HOLD_DETACH    its detach item was not released by the host
 *   HOLD_STEER     a canceller is still waking it, or its cancel hooks are being called
 *   HOLD_ASK       a launcher or approver is asking for permission
 *   HOLD_LOOK      a snapshot is being copied (one at a time: under the lane's lock)
 *
 * Whoever publishes an event has a hold meanwhile.
 *
 * Event order. With readers, a transition that publishes an event also sets PUBLISHING; the next
 * one that could publish, had it readers or not, waits until it is cleared. So events of one task
 * are in the order of its transitions, and PUBLISHING in a step's word is the caller's to clear.
 * A detach has it in any case, until its item is delivered: before the resolution.
 * Whoever ends an inline call on another thread sets it in any case: the launching thread hands the
 * record out, and waits until the ender has done with it.
 */
#ifndef TR__DOMAIN_TASK_H
#define TR__DOMAIN_TASK_H

#include <toolring/error.h>
#include <toolring/types.h>

#include "base/atomic.h"
#include "base/limits.h"
#include "parts/inbox.h"
#include "parts/slots.h"

struct tr__turn;

/* Tags of ids: what an id names. */
#define TR__TAG_SESSION 1u
#define TR__TAG_TURN 2u
#define TR__TAG_TASK 3u

enum tr__task_state {
    TR__TASK_FREE = 0,
    TR__TASK_QUEUED = 1,
    TR__TASK_RUNNING = 2,
    TR__TASK_DEFERRED = 3,
    TR__TASK_APPROVAL = 4,
    TR__TASK_ENDED = 5,
};

#define TR__TASK_STATE_MASK UINT64_C(7)
#define TR__TASK_BACKGROUND (UINT64_C(1) << 3)
#define TR__TASK_MANUAL (UINT64_C(1) << 4)
#define TR__TASK_REQUEST (UINT64_C(1) << 5)
#define TR__TASK_OUTCOME_SHIFT 6
#define TR__TASK_OUTCOME_MASK (UINT64_C(7) << TR__TASK_OUTCOME_SHIFT)
#define TR__TASK_CANCEL (UINT64_C(1) << 9)   /* asked to stop */
#define TR__TASK_TIMEOUT (UINT64_C(1) << 10) /* ... by a timeout */
#define TR__TASK_WAS_DETACHED (UINT64_C(1) << 11)
#define TR__TASK_FOREIGN (UINT64_C(1) << 12) /* ended while its function still ran */
#define TR__TASK_HOLD_RUN (UINT64_C(1) << 13)
#define TR__TASK_HOLD_TIMER (UINT64_C(1) << 14)
#define TR__TASK_HOLD_RESULT (UINT64_C(1) << 15)
#define TR__TASK_HOLD_DETACH (UINT64_C(1) << 16)
#define TR__TASK_HOLD_LOOK (UINT64_C(1) << 17)
#define TR__TASK_HOLD_STEER (UINT64_C(1) << 18)
#define TR__TASK_STARTED (UINT64_C(1) << 19)
#define TR__TASK_PUBLISHING (UINT64_C(1) << 20)
#define TR__TASK_INLINE (UINT64_C(1) << 21) /* launch itself returns the resolution */
#define TR__TASK_COOPERATIVE (UINT64_C(1) << 22)
#define TR__TASK_LIFETIME_SHIFT 23
#define TR__TASK_LIFETIME_MASK (UINT64_C(3) << TR__TASK_LIFETIME_SHIFT)
#define TR__TASK_LOW (UINT64_C(1) << 25)  /* low priority */
#define TR__TASK_COLD (UINT64_C(1) << 26) /* the cold record has more to look at: cap or hooks */
#define TR__TASK_HOLD_ASK (UINT64_C(1) << 27)
#define TR__TASK_HOLDS                                                                             \
    (TR__TASK_HOLD_RUN | TR__TASK_HOLD_TIMER | TR__TASK_HOLD_RESULT | TR__TASK_HOLD_DETACH |       \
     TR__TASK_HOLD_LOOK | TR__TASK_HOLD_STEER | TR__TASK_HOLD_ASK)

/* What a channel hands out: a node, and which of a task's items it is. */
struct tr__item {
    struct tr__mpsc_node node;
    uint32_t type;    /* tr_item_type */
    uint32_t channel; /* tr_channel, set by the pusher */
};

/* The await word: does the function sleep, and how is it woken (engine/await). */
enum tr__wake {
    TR__WAKE_AWAKE = 0,
    TR__WAKE_FIBER = 1,  /* suspended: push `run` to a worker */
    TR__WAKE_THREAD = 2, /* blocked in its own thread: wake its direct executor */
    TR__WAKE_NOTIFIED = 3,
};

#define TR__TASK_BYTES 96

#define TR__TASK_FLAG_IN_BLOCK 1u       /* `in` is a block of its own */
#define TR__TASK_FLAG_INPUT_BORROWED 2u /* `input` is the host's, release it */
#define TR__TASK_FLAG_ASKED 4u          /* it needed approval: the cold record counts them */
#define TR__TASK_FLAG_ATTACHED 8u       /* the cold record has an attachment */

/* What a task's function leaves with it until its slot is recycled (engine/live). */
struct tr__attachment {
    void (*drop)(struct tr__attachment *attachment);
};

/* Hot record: four cache lines. Line 0 is written by the launcher, then by the worker; line 1 by
 * whoever ends the task, then by the host; lines 2 and 3 carry bytes. */
struct tr__task {
    TR__CACHE_ALIGNED struct tr__slot slot; /* the word: transitions; link, index: slots */
    struct tr__mpsc_node run;               /* worker inboxes; guarded by HOLD_RUN */
    tr__atomic_u8 wake;                     /* enum tr__wake; the function and its notifiers */
    tr__atomic_u8 seat;       /* worker it ran on last; written by workers, read by notifiers */
    tr__atomic_u8 lane;       /* the launcher; read before the lane is locked */
    tr__atomic_u8 bytes_used; /* tr__task_bytes_used, once DEFERRED; read without a hold */
    uint16_t tool;
    void *frame; /* its tr_call while started; the worker */
    struct tr__turn *turn;
    uint64_t accepted_ns;
    tr__atomic_u64 started_ns; /* the worker, at the start */

    TR__CACHE_ALIGNED struct tr__item done; /* the winner of the end, from here to `reason` */
    tr__atomic_u64 ended_ns;
    void *result;
    void *result_origin; /* completion/arena */
    uint32_t result_size;
    int32_t code;
    char *reason; /* a block of its own, or NULL */
    void *user;

    TR__CACHE_ALIGNED unsigned char *in; /* call id, then metadata: in `bytes` or a block */
    void *in_origin;                     /* the block's, completion/arena */
    void *input;
    uint32_t input_size;
    uint16_t metadata_size;
    uint8_t call_id_size;
    tr__atomic_u8 flags; /* TR__TASK_FLAG_…: the launcher; then the function, ATTACHED alone */
    unsigned char
        bytes[TR__TASK_BYTES]; /* what fits of call id, metadata, input; then the result */
};

TR_STATIC(sizeof(struct tr__task) == 256, "the hot record is four cache lines");

enum tr__action {
    TR__ACTION_NONE = 0, /* nothing to do */
    TR__ACTION_ENOENT,   /* the id is stale */
    TR__ACTION_EALREADY, /* it has ended, or is already what was asked for */
    TR__ACTION_ESTATE,   /* not possible in this state */
    TR__ACTION_ENQUEUE,  /* give it to a worker */
    TR__ACTION_RUN,      /* call its function */
    TR__ACTION_SETTLE,   /* you ended it: settle (completion/settle) */
    TR__ACTION_NOTIFY,   /* wake its function, arm the abandon deadline, drop HOLD_STEER */
    TR__ACTION_DETACHED, /* push its detach item */
    TR__ACTION_ATTACHED, /* its turn waits for it again */
    TR__ACTION_LATE,     /* it had ended before: discard what it brings, drop HOLD_RUN */
};

struct tr__step {
    enum tr__action action;
    uint64_t before; /* as observed */
    uint64_t word;   /* after the transition; as observed, if there was none */
};

/* What a refusal is to the caller of the interface; 0 of any other step. */
static inline int tr__step_error(struct tr__step step)
{
    return step.action == TR__ACTION_ENOENT     ? TR_ENOENT
           : step.action == TR__ACTION_EALREADY ? TR_EALREADY
           : step.action == TR__ACTION_ESTATE   ? TR_ESTATE
                                                : 0;
}

/* Host, under the lane's lock, before anybody can know the id. `bits` is the initial state and
 * flags. */
void tr__task_admit(struct tr__task *task, uint64_t bits);
/* Host or approver: APPROVAL → QUEUED. Sets HOLD_RUN. */
struct tr__step tr__task_approve(struct tr__task *task, tr_task_id id);
struct tr__step tr__task_deny(struct tr__task *task, tr_task_id id, bool publish);
struct tr__step tr__task_start(struct tr__task *task, bool publish);
struct tr__step tr__task_finish(struct tr__task *task, enum tr_outcome outcome, bool publish);
struct tr__step tr__task_defer(struct tr__task *task, bool publish);
/* The same, but HOLD_RUN stays: the caller waits until somebody has ended the task. */
struct tr__step tr__task_defer_here(struct tr__task *task, bool publish);
struct tr__step tr__task_finish_late(struct tr__task *task, tr_task_id id, enum tr_outcome outcome,
                                     bool publish);
struct tr__step tr__task_cancel(struct tr__task *task, tr_task_id id, bool timeout, bool publish);
/* The same, of a foreground task alone: one that was detached before, if only just, is spared
 * (ESTATE). */
struct tr__step tr__task_interrupt(struct tr__task *task, tr_task_id id, bool publish);
/* A timeout of waiting in the queue: one that was started before, if only just, is spared
 * (ESTATE). */
struct tr__step tr__task_time_out_queued(struct tr__task *task, tr_task_id id, bool publish);
struct tr__step tr__task_abandon(struct tr__task *task, tr_task_id id, bool publish);
struct tr__step tr__task_detach(struct tr__task *task, tr_task_id id, bool publish);
struct tr__step tr__task_attach(struct tr__task *task, tr_task_id id);
struct tr__step tr__task_set_delivery(struct tr__task *task, tr_task_id id, bool manual);
struct tr__step tr__task_set_continue(struct tr__task *task, tr_task_id id, bool request);
/* The function's thread, after it has put something into the cold record: sets COLD. Returns the
 * word before: without CANCEL, in a live state, every later end or cancel sees it. */
uint64_t tr__task_use_cold(struct tr__task *task);
/* Takes PUBLISHING for an event that is no transition (PROGRESS, OUTPUT, INPUT_REQUIRED) or an item
 * that must come before the resolution; false if the task has ended or the id is stale. */
bool tr__task_publish(struct tr__task *task, tr_task_id id);
/* The event of the last transition is published: lets the next one go. */
void tr__task_published(struct tr__task *task);
/* Takes HOLD_ASK of a task in APPROVAL, after whoever has it; false if it is in another state. */
bool tr__task_ask(struct tr__task *task, tr_task_id id);
/* Under the lane's lock: keeps what the record points to from being freed, until tr__task_drop. */
bool tr__task_look(struct tr__task *task, tr_task_id id);
/* Whoever has HOLD_TIMER and nothing left to watch: gives it up, if the word still is `seen`, of a
 * live task that was not asked to stop. A stop from now on takes it anew. */
bool tr__task_unwatch(struct tr__task *task, uint64_t seen);
/* Clears a hold. True: the task has ended and this was the last; the caller recycles the slot. */
bool tr__task_drop(struct tr__task *task, uint64_t hold);

/* Bytes of `bytes` that call id, metadata and input use; the result may have the rest. */
static inline uint32_t tr__task_bytes_used(const struct tr__task *task)
{
    uint32_t used =
        task->in == task->bytes ? (uint32_t)task->call_id_size + task->metadata_size : 0;
    const unsigned char *input = (const unsigned char *)task->input;
    if (task->input_size > 0 && input >= task->bytes && input < task->bytes + TR__TASK_BYTES) {
        used = (uint32_t)(input - task->bytes) + task->input_size;
    }
    return used;
}

/* The word now. Relaxed is enough for a look; acquire shows what the last transition published. */
static inline uint64_t tr__task_word(const struct tr__task *task)
{
    return tr__load_acquire(&task->slot.word);
}

static inline enum tr__task_state tr__word_state(uint64_t word)
{
    return (enum tr__task_state)(word & TR__TASK_STATE_MASK);
}

static inline enum tr_outcome tr__word_outcome(uint64_t word)
{
    return (enum tr_outcome)((word & TR__TASK_OUTCOME_MASK) >> TR__TASK_OUTCOME_SHIFT);
}

static inline enum tr_lifetime tr__word_lifetime(uint64_t word)
{
    return (enum tr_lifetime)((word & TR__TASK_LIFETIME_MASK) >> TR__TASK_LIFETIME_SHIFT);
}

/* Asked to stop, or ended by somebody else already. */
static inline bool tr__word_is_stopped(uint64_t word)
{
    return (word & TR__TASK_CANCEL) != 0 || tr__word_state(word) == TR__TASK_ENDED;
}

static inline bool tr__word_is_background(uint64_t word)
{
    return (word & TR__TASK_BACKGROUND) != 0;
}

/* Neither free nor ended. */
static inline bool tr__word_is_live(uint64_t word)
{
    enum tr__task_state state = tr__word_state(word);
    return state != TR__TASK_FREE && state != TR__TASK_ENDED;
}

static inline tr_task_id tr__task_id(const struct tr__task *task, uint64_t word)
{
    return TR__ID_MAKE(TR__TAG_TASK, TR__WORD_GENERATION(word), task->slot.index);
}

#endif
