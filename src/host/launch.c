/*
 * launch.c: the way in: validate, permit, route (prepare.c), admit (admit.c), announce (here).
 *
 * Owner thread: any host thread. Called by hosts; calls prepare, admit, engine, completion.
 *
 * A batch prepares up to TR__LAUNCH_GROUP calls of one turn, admits them under one lock and hands
 * them to workers in chains.
 *
 * Invariants
 *  1. Until admission nothing has happened that tr__unprepare does not undo.
 *  2. At admission everything that finishing needs exists: the slot, its channel node, the batch of
 *     an inline call, the approval request, a fiber (counted in `awaiting`).
 *  3. The task is published before its id can be seen: in `ret_launched`, in events, by a worker.
 *  4. While its QUEUED event is being published the task has PUBLISHING and a hold that only this
 *     thread gives up (HOLD_RUN, not yet queued; or HOLD_ASK), so no later event overtakes and the
 *     slot stays.
 *
 * Complexity of a plain background call: one lock, one exchange (worker inbox), one load (idle
 * bitmap), one clock read; in a group the lock, the clock and the exchange are shared. With more
 * cores, launchers of different lanes share nothing but the inboxes.
 */
#include <string.h>

#include "base/assert.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/memory.h"
#include "completion/batch.h"
#include "completion/describe.h"
#include "engine/kept.h"
#include "host/admit.h"

/* Nodes handed to one worker at once: others find work of their own meanwhile. */
#define CHAIN_MAX 16u

static void publish_queued(tr_manager *manager, struct tr__prepared *call)
{
    if ((call->bits & TR__TASK_PUBLISHING) != 0) {
        struct tr__task *task = call->task;
        tr__describe_event(manager->completion, task, tr__task_word(task), TR_EVENT_QUEUED,
                           task->accepted_ns, 0, 0);
        tr__task_published(task);
    }
}

/* An inline call has ended: its resolution goes into the batch. HOLD_RESULT is ours: it is in no
 * channel. */
static void commit(struct tr__prepared *call)
{
    unsigned spins = 0;
    /* Another thread may have ended it: giving PUBLISHING up is its last touch (domain/task.h). */
    while ((tr__task_word(call->task) & TR__TASK_PUBLISHING) != 0) {
        tr__backoff(&spins);
    }
    tr__batch_commit(call->ready, call->task);
}

/* A call that does not run now: denied, or waiting for approval. */
static void announce_waiting(tr_manager *manager, struct tr__prepared *call)
{
    struct tr__engine *engine = &manager->engine;
    struct tr__task *task = call->task;
    tr_task_id id = tr__task_id(task, tr__task_word(task)); /* HOLD_ASK keeps it */
    if (call->deny) {
        struct tr__step step = tr__task_deny(task, id, tr__engine_wanted(engine));
        if (step.action == TR__ACTION_SETTLE) { /* else cancelled meanwhile */
            tr__engine_settle(engine, tr__engine_tally(engine, NULL), task, step, tr__clock_now(),
                              TR_EDENIED, call->denied);
        }
        tr__memory_give(call->denied);
    } else {
        tr__approval_push(manager, task, call->approval, call->expire_ns);
    }
    if (call->ready != NULL) {
        commit(call); /* an inline call that was denied */
    }
    tr__settle_drop(manager->completion, task, TR__TASK_HOLD_ASK);
}

static void run_now(tr_manager *manager, struct tr__prepared *call)
{
    tr__engine_run_here(&manager->engine, call->task);
    if (call->ready != NULL) {
        commit(call);
    }
}

static void answer(const struct tr__prepared *call, tr_launched *ret_launched)
{
    bool background = (call->bits & TR__TASK_BACKGROUND) != 0;
    ret_launched->status = call->error < 0       ? call->error
                           : call->ready != NULL ? TR_READY
                                                 : TR_PENDING;
    ret_launched->kind = background ? TR_KIND_BACKGROUND : TR_KIND_FOREGROUND;
    ret_launched->task = 0;
    ret_launched->ready = call->error < 0 ? NULL : call->ready;
    if (call->error == 0) {
        ret_launched->task = tr__task_id(call->task, tr__task_word(call->task));
    }
}

/* Calls for workers, gathered into a chain per seat and priority. */
struct chain {
    struct tr__mpsc_node *first;
    struct tr__mpsc_node *last;
    uint32_t nodes;
    uint32_t seat;
    bool low;
};

static void post(tr_manager *manager, struct chain *chain)
{
    if (chain->nodes > 0) {
        tr__workers_post_chain(&manager->engine.workers, chain->first, chain->last, chain->nodes,
                               chain->seat, chain->low);
        chain->nodes = 0;
    }
}

static void append(tr_manager *manager, struct chain *chain, struct tr__prepared *call)
{
    bool low = (call->bits & TR__TASK_LOW) != 0;
    if (chain->nodes == CHAIN_MAX || chain->seat != call->seat || chain->low != low) {
        post(manager, chain);
    }
    if (chain->nodes == 0) {
        chain->first = &call->task->run;
        chain->seat = call->seat;
        chain->low = low;
    } else {
        tr__mpsc_link(chain->last, &call->task->run);
    }
    chain->last = &call->task->run;
    chain->nodes++;
}

static void arm(tr_manager *manager, const struct tr__prepared *call)
{
    if ((call->bits & TR__TASK_HOLD_TIMER) != 0) {
        tr__deadline_arm(&manager->engine, call->task);
    }
}

/* Whether a call may be kept for the thread that waits for its turn: nothing may be late by it. */
static bool is_keepable(const struct tr__prepared *call)
{
    const uint64_t other = TR__TASK_BACKGROUND | TR__TASK_LOW | TR__TASK_HOLD_TIMER;
    return call->error == 0 && (call->tool->flags & TR_TOOL_BRIEF) != 0 &&
           tr__word_state(call->bits) == TR__TASK_QUEUED && (call->bits & other) == 0;
}

/* Keeps what can be, of a group that has nothing which may wait for that. */
static void keep(tr_manager *manager, struct tr__prepared *calls, size_t count)
{
    struct tr__task *tasks[TR__LAUNCH_GROUP];
    size_t keepable = 0;
    uint64_t bits = 0;
    for (size_t i = 0; i < count; i++) {
        bits |= calls[i].error == 0 ? calls[i].bits : 0;
        if (is_keepable(&calls[i])) {
            tasks[keepable++] = calls[i].task;
        }
    }
    if (keepable == 0 || tasks[0]->turn->bound || (bits & TR__TASK_INLINE) != 0) {
        return;
    }
    size_t kept = tr__kept_add(&manager->engine, tasks, keepable);
    for (size_t i = 0; kept > 0; i++) {
        calls[i].keep = is_keepable(&calls[i]);
        kept -= calls[i].keep;
    }
}

/* Announces admitted calls: first all of them become known, then those for workers are handed over
 * and those for this thread run, which may take long. */
static void announce(tr_manager *manager, struct tr__prepared *calls, size_t count, bool may_keep,
                     tr_launched *ret_launched)
{
    struct chain chain = {NULL, NULL, 0, 0, false};
    for (size_t i = 0; i < count; i++) {
        answer(&calls[i], &ret_launched[i]); /* while the task is ours: its hold is still here */
        if (calls[i].error < 0) {
            tr__unprepare(manager, &calls[i]);
        } else {
            publish_queued(manager, &calls[i]); /* invariant 4: cancellers wait for it */
        }
    }
    for (size_t i = 0; i < count; i++) { /* HOLD_ASK makes approvers wait: none runs before */
        if (calls[i].error == 0 && tr__word_state(calls[i].bits) == TR__TASK_APPROVAL) {
            announce_waiting(manager, &calls[i]);
            arm(manager, &calls[i]); /* after the request: it goes first */
        }
    }
    if (may_keep && manager->threaded) {
        keep(manager, calls, count);
    }
    for (size_t i = 0; i < count; i++) {
        struct tr__prepared *call = &calls[i];
        if (call->error < 0 || call->keep || tr__word_state(call->bits) == TR__TASK_APPROVAL) {
            continue;
        }
        arm(manager, call);
        if (!manager->threaded || (call->bits & TR__TASK_INLINE) != 0) {
            post(manager, &chain); /* it may wait for what they do */
            run_now(manager, call);
        } else {
            append(manager, &chain, call);
        }
    }
    post(manager, &chain);
    tr__engine_look(&manager->engine);
}

/* Prepares, admits and announces up to a group of calls of one turn. Returns how many were
 * accepted. */
static int launch_group(tr_manager *manager, const tr_request *requests, size_t count,
                        tr_launched *ret_launched)
{
    struct tr__prepared calls[TR__LAUNCH_GROUP];
    TR_ASSERT(count >= 1 && count <= TR__LAUNCH_GROUP);
    for (size_t i = 0; i < count; i++) {
        calls[i].error =
            tr__prepare(manager, &requests[i], i == 0 ? NULL : &calls[i - 1], &calls[i]);
    }
    struct tr__lane *lane = tr__admit(manager, calls, count);
    int accepted = 0;
    size_t start = 0;
    for (size_t i = 0; i < count; i++) {
        if (calls[i].error == TR_EAGAIN && lane != NULL) {
            /* What is admitted already must run, or the room waited for may never come. */
            announce(manager, calls + start, i - start, false, ret_launched + start);
            start = i;
            tr__admit_again(manager, &calls[i], lane);
        }
        accepted += calls[i].error == 0;
    }
    announce(manager, calls + start, count - start, true, ret_launched + start);
    return accepted;
}

int tr_launch(tr_manager *manager, const tr_request *request, tr_launched *ret_launched)
{
    if (manager == NULL || request == NULL || ret_launched == NULL) {
        return TR_EINVAL;
    }
    tr_launched launched;
    (void)launch_group(manager, request, 1, &launched); /* the status says the same */
    if (launched.status >= 0) {
        *ret_launched = launched;
    }
    return launched.status;
}

int tr_launch_batch(tr_manager *manager, const tr_request *requests, size_t count,
                    tr_launched *ret_launched)
{
    if (manager == NULL || requests == NULL || ret_launched == NULL || count == 0 ||
        count > TR__BATCH_LAUNCH_MAX) {
        return TR_EINVAL;
    }
    int accepted = 0;
    size_t start = 0;
    while (start < count) {
        size_t end = start + 1;
        while (end < count && end - start < TR__LAUNCH_GROUP &&
               requests[end].turn == requests[start].turn) {
            end++;
        }
        accepted += launch_group(manager, requests + start, end - start, ret_launched + start);
        start = end;
    }
    return accepted;
}
