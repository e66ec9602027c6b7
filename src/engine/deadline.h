/*
 * deadline: one timer per task that needs one, for all its times: detach, queue, run, idle and
 * total timeout, approval expiry, and the patience with a function that was asked to stop.
 *
 * The timer is armed for the earliest moment at which anything could be due; when it fires, what is
 * due by then is done and it is armed again for the rest. So starting, output and progress touch no
 * timer: until the task has started, the run timeout is armed as if it started now, which is never
 * too late, and judged by the real start.
 *
 * A task with a deadline has HOLD_TIMER from its launch until its op is done for good, or there is
 * nothing left to watch (after its detach, most often). The op's `claim` settles who may cancel it:
 *   ARMED   the op is prepared, and started or about to be; it may be cancelled, once
 *   DISARM  the task has ended: if ARMED was set before, the ender cancels, and nobody else may
 *   BUSY    in ARMED's place: somebody cancels the op to look at the times again
 *   DONE    it was done meanwhile: the busy one looks in the place of `due`
 *   LOOK    a time was brought forward while it was not ARMED: who arms it looks again first
 * In an inline manager the wheel of engine/vigil has the op's timer, and its lock settles that.
 */
#ifndef TR__ENGINE_DEADLINE_H
#define TR__ENGINE_DEADLINE_H

#include "completion/completion.h"
#include "engine/op.h"

struct tr__engine;

#define TR__DEADLINE_ARMED 1u
#define TR__DEADLINE_DISARM 2u
#define TR__DEADLINE_LOOK 4u
#define TR__DEADLINE_BUSY 8u
#define TR__DEADLINE_DONE 16u

struct tr__deadline {
    TR__CACHE_ALIGNED struct tr__op op;
    struct tr__engine *engine;
    struct tr__task *task;
    tr_task_id id;
    uint64_t
        detach_at_ns; /* absolute; TR_FOREVER: none. The launcher writes, then the ring thread */
    uint64_t total_at_ns;
    uint64_t queue_ns; /* durations; TR_FOREVER: none */
    uint64_t run_ns;
    uint64_t idle_ns;
    tr__atomic_u64 queued_at_ns;  /* the launcher, then the approver */
    tr__atomic_u64 expire_at_ns;  /* of an approval request; approvers */
    tr__atomic_u64 abandon_at_ns; /* the canceller */
    tr__atomic_u32 grace_ms; /* the function's, if longer than the manager's; it, then cancellers */
};

TR_STATIC(sizeof(struct tr__deadline) <= 256, "four cache lines for each awaiting task");

/* Launcher, before the task is published: fills the record (for cooperative tasks always: a cancel
 * may need it). True: there is a time to watch, the task is to be published with HOLD_TIMER and
 * then armed. */
bool tr__deadline_init(struct tr__engine *engine, struct tr__task *task, const tr_options *options,
                       bool cooperative);

/* Launcher, after the task is published with HOLD_TIMER: starts the timer. */
void tr__deadline_arm(struct tr__engine *engine, struct tr__task *task);

/* The winner of the end, if the word has HOLD_TIMER, while it still has a hold of its own. */
void tr__deadline_disarm(struct tr__engine *engine, struct tr__task *task);

/* An approver, with the timer under way: the request is denied at `at_ns`. */
void tr__deadline_expire(struct tr__engine *engine, struct tr__task *task, uint64_t at_ns);

/* An approver, before the approval: the time in the queue will begin at `at_ns`. */
void tr__deadline_queue(struct tr__engine *engine, struct tr__task *task, uint64_t at_ns);
/* And after it, with holds of its own: the timer heeds that time from now on. Not before: a look
 * while the task is not queued yet would pass it over for ever. */
void tr__deadline_queued(struct tr__engine *engine, struct tr__task *task);

/* A cooperative task's function: from now on a stop may take it so long (rounded up to
 * milliseconds) before patience with it begins to count. */
void tr__deadline_set_grace(struct tr__engine *engine, struct tr__task *task, uint64_t grace_ns);
/* The canceller: what was set, 0 if nothing. */
uint64_t tr__deadline_grace(struct tr__engine *engine, struct tr__task *task);

/* The canceller, with HOLD_STEER: the task is abandoned at `at_ns`. `under_way`: it had HOLD_TIMER
 * before. */
void tr__deadline_abandon(struct tr__engine *engine, struct tr__task *task, uint64_t at_ns,
                          bool under_way);

/* Inline managers, the launcher, whose task has HOLD_TIMER: when its function has started, its run
 * timeout counts; before and when it has returned, what is due is done. */
void tr__deadline_started(struct tr__engine *engine, struct tr__task *task);
void tr__deadline_judge(struct tr__engine *engine, struct tr__task *task);

/* For engine/vigil: the earliest moment at which anything may be due, as known now; and doing what
 * is due by now, with HOLD_TIMER and nobody else at it. `word`: the task's, live. */
uint64_t tr__deadline_next(struct tr__deadline *deadline, uint64_t word, uint64_t now);
void tr__deadline_act(struct tr__deadline *deadline, uint64_t word, uint64_t now);

#endif
