/*
 * registry: every session, turn and task there is, and the lanes they are kept in.
 *
 * A lane is one lock with all that launching touches: free slots, rosters, counts. Sessions are
 * dealt to the lanes in turn; a session's turns and tasks stay in its lane. So a launch takes
 * exactly one lock, almost always uncontended, and under it everything is plain memory. Ending and
 * releasing tasks takes no lock at all: a released slot is pushed on its lane's `returned` stack
 * (parts/slots) and accounted for when the lane next needs slots.
 *
 * Tasks have a cold record beside the hot one, at the same index of a table of its own: pages that
 * no task ever used cost nothing.
 */
#ifndef TR__DOMAIN_REGISTRY_H
#define TR__DOMAIN_REGISTRY_H

#include <pthread.h>

#include <toolring.h>

#include "base/limits.h"
#include "domain/room.h"
#include "domain/task.h"
#include "domain/toolbox.h"
#include "domain/turn.h"
#include "parts/slots.h"

struct tr__cold {
    TR__CACHE_ALIGNED struct tr__item detached; /* the winner of the detach */
    uint64_t detached_ns;
    uint64_t output_bytes_max;         /* launch, when TR__TASK_COLD */
    tr_release_function input_release; /* launch, when INPUT_BORROWED */
    void *input_context;
    tr__atomic_u64 active_ns;   /* last output or progress; the function, read by the deadline */
    tr__atomic_u32 approvals;   /* given so far; approvers */
    tr__atomic_ptr wake_direct; /* executor of a function that blocks its thread; see engine/call */
    tr__atomic_u32 wake_done;   /* 1: its notifier has finished with it */
    struct tr__attachment *attachment; /* the function, under the lane's lock, when ATTACHED */
    tr__atomic_ptr hooks; /* completion/hooks, or NULL; the function, until the last hold goes */
    tr__atomic_ptr
        stop_reason; /* why it was asked to stop, or TR__NO_REASON; canceller, then ender */
};

/* What a canceller without a reason leaves: no memory has this address. */
#define TR__NO_REASON ((void *)(uintptr_t)1)

struct tr__lane {
    TR__CACHE_ALIGNED pthread_mutex_t lock;
    uint64_t accepted_ns;    /* of the last task: launch times of a lane strictly grow */
    tr__atomic_u64 accepted; /* tasks ever; written under the lock, read by anyone */
    tr__atomic_u64 refused;
    uint32_t sessions_used;
    uint32_t turns_used;
    uint32_t tasks_used; /* slots taken and not reclaimed */
    uint32_t target;     /* worker seat that gets the next launches, and for how many more */
    uint32_t target_left;
    uint32_t random;
    struct tr__turn *kept; /* turns with calls kept for their waiter (engine/kept) */
    uint32_t kept_skips;   /* launches that are not kept */
    bool kept_helped;      /* a waiter has come for some since the keeper gave any away */
    uint32_t kept_penalty; /* how many they were the last time nobody waited */
    bool kept_lately;      /* since the keeper's last look */
    struct tr__slots_cache tasks;
    struct tr__slots_cache turns;
    struct tr__slots_cache sessions;
};

struct tr__registry {
    struct tr__slots tasks;
    struct tr__slots turns;
    struct tr__slots sessions;
    struct tr__cold *cold;
    size_t cold_bytes;
    uint32_t *stacks; /* of the lanes' task caches, TR__LANE_STACK indices each */
    struct tr__toolbox toolbox;
    tr__atomic_u32 closing; /* intake has stopped; written once, under every lane's lock in turn */
    tr__atomic_u32 next_lane;
    tr__atomic_u64 moves; /* of slots between lanes; written under the lane's lock they left */
    struct tr__room room; /* who waits for slots, fibers or bytes */
    /* Under the lane's lock: a session is about to be free; what is left in its channels goes with
     * it. NULL: nothing is ever in them. Set by completion before anybody knows the registry. */
    void (*clear)(void *context, struct tr__session *session);
    void *context;
    struct tr__lane lanes[TR__LANES];
};

struct tr__registry_config {
    uint32_t tasks_max, turns_max, sessions_max, tools_max;
};

int tr__registry_init(struct tr__registry *registry, const struct tr__registry_config *config);
void tr__registry_done(struct tr__registry *registry);

static inline struct tr__cold *tr__registry_cold(struct tr__registry *registry,
                                                 const struct tr__task *task)
{
    return &registry->cold[task->slot.index];
}

static inline struct tr__task *tr__registry_task(struct tr__registry *registry, tr_task_id id)
{
    return (struct tr__task *)(void *)tr__slots_find(&registry->tasks, id);
}

void tr__lane_lock(struct tr__lane *lane);
void tr__lane_unlock(struct tr__lane *lane);

/* Locks the lane of an open turn (session) and returns it, or returns NULL with nothing locked. */
struct tr__turn *tr__registry_lock_turn(struct tr__registry *registry, tr_turn_id id,
                                        struct tr__lane **ret_lane);
struct tr__session *tr__registry_lock_session(struct tr__registry *registry, tr_session_id id,
                                              struct tr__lane **ret_lane);

/* Under the lane's lock. NULL: this lane has none (then tr__registry_rebalance without it). */
struct tr__task *tr__registry_take_task(struct tr__registry *registry, struct tr__lane *lane);
/* Under the lane's lock: undoes a take whose task was never admitted. */
void tr__registry_untake_task(struct tr__registry *registry, struct tr__lane *lane,
                              struct tr__task *task);

/* Without any lock: brings slots of `kind` (a TR__TAG_…) that other lanes do not need to `lane`.
 * True if it may have some now: try again, and again after that, until false: then no slot was free
 * all the time. Each round that fails is another's success. */
bool tr__registry_rebalance(struct tr__registry *registry, struct tr__lane *lane, uint32_t kind);

/* Any thread, any lock: the task has ended and its last hold is gone. */
void tr__registry_recycle(struct tr__registry *registry, struct tr__task *task);
/* The same for several tasks of one lane. Never waits for the lane's lock. */
void tr__registry_recycle_many(struct tr__registry *registry, struct tr__task **tasks,
                               unsigned count);

/* Under the lane's lock: accounts for released tasks, and frees turns and sessions that this was
 * the last of. */
void tr__registry_reclaim(struct tr__registry *registry, struct tr__lane *lane);

/* Without any lock: opens and closes. See toolring.h for the errors. */
int tr__registry_open_session(struct tr__registry *registry, const tr_session_options *options,
                              tr_session_id *ret_session);
int tr__registry_open_turn(struct tr__registry *registry, tr_session_id session,
                           const tr_turn_options *options, tr_turn_id *ret_turn);
/* Under the lane's lock: marks closed, makes the turn's id stale, moves live background tasks to
 * the session's orphans. The caller has cancelled what has to be; it then discards what is in the
 * turn's inbox and gives up the opening's claim with tr__turn_leave (homes.h). */
void tr__registry_close_turn(struct tr__registry *registry, struct tr__turn *turn);
/* Under the lane's lock: makes sure that one more task can be enrolled with the turn; 0 or
 * TR_ENOMEM. */
int tr__turn_enrol_reserve(struct tr__registry *registry, struct tr__turn *turn, bool background);
/* After a successful reserve; cannot fail. */
void tr__turn_enrol(struct tr__turn *turn, tr_task_id id, bool background);
/* Under the lane's lock: rosters without what has ended or changed its kind. */
void tr__turn_sweep(struct tr__registry *registry, struct tr__turn *turn);
void tr__turn_sweep_foreground(struct tr__registry *registry, struct tr__turn *turn);

#endif
