/*
 * settle.c: see settle.h.
 *
 * Owner thread: whoever won the transition: a worker, the ring thread (timeouts), any host thread
 * (cancel, interrupt, deny, tr_finish). Called by engine and host; calls arena, events, describe,
 * parts/inbox.
 *
 * Invariants
 *  1. Exactly one thread settles a task: the winner of the CAS to ENDED. So exactly one push of its
 *     `done` item, on the channel fixed by the word that CAS wrote.
 *  2. The terminal event is published before the push: after it the slot may be reused. The event
 *     CONTINUE_REQUESTED comes after the push, made from a copy, so that who reacts finds the
 *     update; and before the count that lets a close go on, which ends the log.
 *  3. Closed homes: closing sets `closed` (seq_cst), then empties the inbox; settling pushes
 *     (seq_cst), then looks at `closed`. One sees the other, so nothing stays in the inbox of a
 *     closed turn. The late discarder checks the home's id under the lane's lock, since the home
 *     may be another by then. Items in a drain queue are sorted out by its consumer (batch.c).
 *  4. DETACHED and requests are pushed while PUBLISHING keeps the task from ending: nothing of a
 *     task comes after its resolution.
 *  5. Result memory and reason are freed when the host's hold goes; what the function may still
 *     read (input) or has left (attachment, hooks) when the last hold goes.
 *
 * Complexity: O(1), one exchange on the channel, no lock, no allocation but for a reason text.
 * Lines touched: task lines 0 and 1, the turn's read-mostly line, the channel's tail.
 */
#include "completion/settle.h"

#include <string.h>

#include "base/assert.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/memory.h"
#include "completion/describe.h"
#include "completion/hooks.h"

static tr_event_type terminal_event(uint64_t word)
{
    switch (tr__word_outcome(word)) {
    case TR_OUTCOME_COMPLETED:
        return TR_EVENT_COMPLETED;
    case TR_OUTCOME_FAILED:
        return TR_EVENT_FAILED;
    case TR_OUTCOME_CANCELLED:
        return TR_EVENT_CANCELLED;
    case TR_OUTCOME_TIMED_OUT:
        return TR_EVENT_TIMED_OUT;
    case TR_OUTCOME_DENIED:
        return TR_EVENT_DENIED;
    default:
        return TR_EVENT_LOST;
    }
}

/* A copy of a reason, cut at a UTF-8 boundary; NULL if there is none, or no memory for it: an
 * outcome is never lost for want of its explanation. */
static char *copy_reason(const char *reason)
{
    if (reason == NULL || reason[0] == '\0') {
        return NULL;
    }
    size_t size = strnlen(reason, TR_REASON_BYTES_MAX);
    if (size == TR_REASON_BYTES_MAX) {
        size--; /* room for the zero */
        while (size > 0 && ((unsigned char)reason[size] & 0xC0u) == 0x80u) {
            size--;
        }
    }
    char *copy = (char *)tr__memory_take(size + 1);
    if (copy != NULL) {
        memcpy(copy, reason, size);
        copy[size] = '\0';
    }
    return copy;
}

/* Where an item goes, fixed before the push: afterwards the task and its home may be gone. */
struct way {
    struct tr__inbox *out;
    struct tr__inbox *own;  /* the home's: `out` unless it is bound to a queue */
    tr__atomic_u32 *closed; /* the home's flag, in type-stable memory */
    tr__atomic_u64 *life;   /* and its id */
    uint64_t id;            /* as it was before the push */
    struct tr__lane *lane;
    uint32_t channel;
};

static struct way way_of(struct tr__completion *completion, struct tr__turn *turn, uint64_t word,
                         bool to_turn)
{
    struct tr__session *session = turn->session;
    /* relaxed: fixed while the home has tasks */
    struct tr__lane *lane = &completion->registry.lanes[tr__load_relaxed(&turn->lane)];
    if (to_turn || !tr__word_is_background(word)) {
        struct way way = {turn->out, &turn->updates, &turn->closed,  &turn->life,
                          turn->id,  lane,           TR_CHANNEL_TURN};
        return way;
    }
    bool manual = (word & TR__TASK_MANUAL) != 0;
    struct way way = {manual ? session->ready_out : session->loop_out,
                      manual ? &session->ready : &session->loop,
                      &session->discarded,
                      &session->life,
                      session->id,
                      lane,
                      manual ? TR_CHANNEL_READY : TR_CHANNEL_LOOP};
    return way;
}

static void deliver(struct tr__item *item, const struct way *way)
{
    item->channel = way->channel;
    tr__inbox_push(way->out, &item->node);
}

/* After the delivery, without PUBLISHING: it may take the lane's lock, whose holder may be waiting
 * for that. */
static void look_back(struct tr__completion *completion, struct tr__tally tally,
                      const struct way *way)
{
    if (way->out != way->own || tr__load_seq_cst(way->closed) == 0) { /* invariant 3 */
        return;
    }
    /* The home may have been freed and opened again since the push: under its lane's lock its id
     * tells. */
    tr__lane_lock(way->lane);
    /* relaxed: in its own life it was written under this lock; another's is another number. */
    if (tr__load_relaxed(way->life) == way->id && tr__load_relaxed(way->closed) != 0) {
        tr__settle_discard(completion, tally, way->own);
    }
    tr__lane_unlock(way->lane);
}

void tr__settle(struct tr__completion *completion, struct tr__tally tally, struct tr__task *task,
                struct tr__step step, const struct tr__ending *ending)
{
    TR_ASSERT(step.action == TR__ACTION_SETTLE);
    TR_ASSERT(tr__word_state(step.word) == TR__TASK_ENDED);
    uint64_t word = step.word;
    tr__store_relaxed(&task->ended_ns, ending->now_ns); /* published by the push */
    task->code = ending->code;
    task->reason = copy_reason(ending->reason);
    task->done.type = TR_ITEM_RESOLUTION;

    bool wanted = (word & TR__TASK_PUBLISHING) != 0;
    bool to_loop = tr__word_is_background(word) && (word & TR__TASK_MANUAL) == 0;
    bool request = wanted && to_loop && (word & TR__TASK_REQUEST) != 0;
    tr_event again;
    if (wanted) {
        tr__describe_event(completion, task, word, terminal_event(word), ending->now_ns, 0, 0);
        if (request) {
            again.sequence = 0;
            again.time_ns = ending->now_ns;
            again.type = TR_EVENT_CONTINUE_REQUESTED;
            again.current = 0;
            again.total = 0;
            tr__describe(completion, task, word, &again.snapshot);
        }
        tr__task_published(task);
    }
    if ((word & TR__TASK_FOREIGN) != 0) {
        tr__tally_add(tally, TR__COUNT_ABANDONED, 1);
    }
    tr__tally_add(tally, (enum tr__count)tr__word_outcome(word), 1);
    if ((word & TR__TASK_INLINE) == 0) {
        struct way way = way_of(completion, task->turn, word, false);
        deliver(&task->done, &way);
        look_back(completion, tally, &way);
    }
    if (request) {
        tr__events_publish(&completion->events, &again);
    }
    tr__tally_add(tally, TR__COUNT_SETTLED, 1); /* the last of it: a close waits for no more */
    if (tally.shared) {
        tr__gate_open(&completion->idle);
    }
}

void tr__settle_detached(struct tr__completion *completion, struct tr__tally tally,
                         struct tr__task *task, struct tr__step step, uint64_t now_ns)
{
    TR_ASSERT(step.action == TR__ACTION_DETACHED);
    struct tr__cold *cold = tr__registry_cold(&completion->registry, task);
    cold->detached.type = TR_ITEM_DETACHED;
    cold->detached_ns = now_ns;
    bool publishing = (step.word & TR__TASK_PUBLISHING) != 0;
    if (publishing && tr__events_wanted(&completion->events)) {
        tr__describe_event(completion, task, step.word, TR_EVENT_DETACHED, now_ns, 0, 0);
    }
    tr__tally_add(tally, TR__COUNT_DETACHED, 1);
    struct way way = way_of(completion, task->turn, step.word, true);
    deliver(&cold->detached, &way);
    if (publishing) {
        tr__task_published(task); /* the item's hold may be gone already: the last touch */
    }
    look_back(completion, tally, &way);
}

bool tr__settle_approval(struct tr__completion *completion, struct tr__approval *approval,
                         struct tr__task *task)
{
    if (!tr__task_publish(task, approval->task)) {
        return false;
    }
    uint64_t word = tr__task_word(task);
    struct way way = way_of(completion, task->turn, word, false);
    approval->item.type = TR_ITEM_APPROVAL;
    approval->kind = tr__word_is_background(word) ? TR_KIND_BACKGROUND : TR_KIND_FOREGROUND;
    if (tr__events_wanted(&completion->events)) {
        tr__describe_event(completion, task, word, TR_EVENT_INPUT_REQUIRED, approval->asked_ns, 0,
                           0);
    }
    deliver(&approval->item, &way);
    tr__task_published(task);
    look_back(completion, tr__completion_shared(completion), &way);
    return true;
}

static void free_result(struct tr__completion *completion, struct tr__task *task)
{
    if (task->result_origin != NULL) {
        struct tr__arena_ref ref = {task->result, (struct tr__arena_origin *)task->result_origin,
                                    task->result_size};
        tr__arena_give(&completion->arena, &ref);
        task->result_origin = NULL;
    }
    if (task->reason != NULL) {
        tr__memory_give(task->reason);
        task->reason = NULL;
    }
}

static void free_inputs(struct tr__completion *completion, struct tr__task *task)
{
    unsigned flags = tr__load_relaxed(&task->flags); /* the last hold is gone: nobody else's */
    if ((flags & TR__TASK_FLAG_INPUT_BORROWED) != 0) {
        struct tr__cold *cold = tr__registry_cold(&completion->registry, task);
        cold->input_release(cold->input_context, task->input, task->input_size);
    }
    if ((flags & TR__TASK_FLAG_IN_BLOCK) != 0) {
        struct tr__arena_ref ref = {task->in, (struct tr__arena_origin *)task->in_origin, 0};
        tr__arena_give(&completion->arena, &ref);
    }
    if ((flags & TR__TASK_FLAG_ATTACHED) != 0) {
        struct tr__cold *cold = tr__registry_cold(&completion->registry, task);
        cold->attachment->drop(cold->attachment);
        cold->attachment = NULL;
    }
    tr__store_relaxed(&task->flags, (uint8_t)0); /* published by the recycling */
}

/* The function's hooks, and the canceller's reason if no ender took it: nobody else is here any
 * more. */
static void free_cold(struct tr__completion *completion, struct tr__task *task)
{
    uint64_t word = tr__task_word(task);
    struct tr__cold *cold = tr__registry_cold(&completion->registry, task);
    if ((word & TR__TASK_COLD) != 0) {
        /* acquire: pairs with the store at making. NULL is what the next life finds. */
        tr__hooks_free((struct tr__hooks *)tr__exchange_acquire(&cold->hooks, (void *)NULL));
    }
    if ((word & TR__TASK_COOPERATIVE) != 0) {
        /* acquire: pairs with engine/cancel. */
        void *reason = tr__exchange_acquire(&cold->stop_reason, (void *)NULL);
        tr__memory_give(reason == TR__NO_REASON ? NULL : reason);
    }
}

/* Nobody has a hold any more: frees what the function could still read. */
static void free_rest(struct tr__completion *completion, struct tr__task *task)
{
    free_cold(completion, task);
    free_inputs(completion, task);
}

void tr__settle_drop(struct tr__completion *completion, struct tr__task *task, uint64_t hold)
{
    if ((hold & TR__TASK_HOLD_RESULT) != 0) {
        free_result(completion, task);
    }
    if (tr__task_drop(task, hold)) {
        free_rest(completion, task);
        tr__registry_recycle(&completion->registry, task);
    } else if ((hold & TR__TASK_HOLD_RESULT) != 0) {
        tr__room_open(&completion->registry.room); /* not the slot, but its result's bytes */
    }
}

void tr__settle_bury(struct tr__completion *completion)
{
    struct tr__slots *tasks = &completion->registry.tasks;
    for (uint32_t i = 1; i <= tr__slots_reached(tasks); i++) {
        struct tr__task *task = (struct tr__task *)(void *)tr__slots_at(tasks, i);
        uint64_t word = tr__task_word(task);
        if (tr__word_state(word) != TR__TASK_ENDED) {
            continue; /* nothing is left of it */
        }
        if ((word & TR__TASK_HOLD_RESULT) != 0) {
            free_result(completion, task);
        }
        free_cold(completion, task);
        free_inputs(completion, task);
    }
}

void tr__settle_drop_approval(struct tr__completion *completion, struct tr__approval *approval)
{
    if (approval != NULL) {
        struct tr__arena_ref block = approval->block; /* it lies in it */
        tr__arena_give(&completion->arena, &block);
    }
}

void tr__settle_release(struct tr__completion *completion, struct tr__item *item)
{
    if (item->type == TR_ITEM_RESOLUTION) {
        tr__settle_drop(completion, TR__CONTAINER_OF(item, struct tr__task, done),
                        TR__TASK_HOLD_RESULT);
        return;
    }
    if (item->type == TR_ITEM_DETACHED) {
        struct tr__cold *cold = TR__CONTAINER_OF(item, struct tr__cold, detached);
        uint32_t index = (uint32_t)(cold - completion->registry.cold);
        struct tr__slot *slot = tr__slots_at(&completion->registry.tasks, index);
        tr__settle_drop(completion, (struct tr__task *)(void *)slot, TR__TASK_HOLD_DETACH);
        return;
    }
    TR_ASSERT(item->type == TR_ITEM_APPROVAL);
    tr__settle_drop_approval(completion, TR__CONTAINER_OF(item, struct tr__approval, item));
    tr__room_open(&completion->registry.room); /* its bytes */
}

/* Ended tasks of one lane, on their way back together. */
#define RUN_MAX 64u

static void recycle(struct tr__registry *registry, struct tr__task **run, unsigned length)
{
    if (length == 1) {
        tr__registry_recycle(registry, run[0]); /* not worth a lock */
    } else if (length > 1) {
        tr__registry_recycle_many(registry, run, length);
    }
}

void tr__settle_release_all(struct tr__completion *completion, struct tr__item **items,
                            size_t count)
{
    struct tr__registry *registry = &completion->registry;
    struct tr__task *run[RUN_MAX];
    unsigned length = 0;
    uint8_t lane = 0;
    for (size_t i = 0; i < count; i++) {
        if (items[i]->type != TR_ITEM_RESOLUTION) {
            tr__settle_release(completion, items[i]);
            continue;
        }
        struct tr__task *task = TR__CONTAINER_OF(items[i], struct tr__task, done);
        uint8_t its = tr__load_relaxed(&task->lane); /* ours, by its hold */
        free_result(completion, task);
        if (!tr__task_drop(task, TR__TASK_HOLD_RESULT)) {
            tr__room_open(&registry->room); /* not the slot, but its result's bytes */
            continue;
        }
        free_rest(completion, task);
        if (length == RUN_MAX || (length > 0 && its != lane)) {
            recycle(registry, run, length);
            length = 0;
        }
        lane = its;
        run[length++] = task;
    }
    recycle(registry, run, length);
}

bool tr__settle_is_pending(struct tr__completion *completion, const struct tr__approval *approval)
{
    struct tr__task *task = tr__registry_task(&completion->registry, approval->task);
    uint64_t word = task == NULL ? 0 : tr__task_word(task);
    return task != NULL && TR__WORD_GENERATION(word) == TR__ID_GENERATION(approval->task) &&
           tr__word_state(word) == TR__TASK_APPROVAL && tr__word_is_background(word) &&
           /* relaxed: one that was given since has brought a request of its own. */
           tr__load_relaxed(&tr__registry_cold(&completion->registry, task)->approvals) ==
               approval->approvals;
}

/* Under the lane's lock, which keeps an unended task's session. */
static bool forward(struct tr__completion *completion, struct tr__approval *approval)
{
    struct tr__registry *registry = &completion->registry;
    struct tr__slot *slot = tr__slots_find(&registry->sessions, approval->session);
    struct tr__session *session = (struct tr__session *)(void *)slot;
    if (session == NULL || tr__load_relaxed(&session->discarded) != 0 || /* written under it */
        !tr__settle_is_pending(completion, approval)) {
        return false;
    }
    struct tr__task *task = tr__registry_task(registry, approval->task);
    if (!tr__task_publish(task, approval->task)) {
        return false; /* it has just ended */
    }
    bool manual = (tr__task_word(task) & TR__TASK_MANUAL) != 0;
    approval->kind = TR_KIND_BACKGROUND;
    approval->item.channel = manual ? TR_CHANNEL_READY : TR_CHANNEL_LOOP;
    tr__inbox_push(manual ? session->ready_out : session->loop_out, &approval->item.node);
    tr__task_published(task);
    return true;
}

bool tr__settle_forward(struct tr__completion *completion, struct tr__approval *approval)
{
    struct tr__lane *lane = NULL;
    if (tr__registry_lock_session(&completion->registry, approval->session, &lane) == NULL) {
        return false;
    }
    bool forwarded = forward(completion, approval);
    tr__lane_unlock(lane);
    return forwarded;
}

void tr__settle_discard(struct tr__completion *completion, struct tr__tally tally,
                        struct tr__inbox *inbox)
{
    unsigned spins = 0;
    while (!tr__token_try_take(&inbox->token)) {
        tr__backoff(&spins);
    }
    /* Until the look by seq_cst finds nothing: a pop alone is no match for invariant 3's push. */
    while (!tr__mpsc_is_empty(&inbox->queue)) {
        struct tr__mpsc_node *node = tr__inbox_pop(inbox);
        TR_ASSERT(node != NULL);
        struct tr__item *item = TR__CONTAINER_OF(node, struct tr__item, node);
        if (item->type == TR_ITEM_APPROVAL && item->channel == TR_CHANNEL_TURN &&
            forward(completion, TR__CONTAINER_OF(item, struct tr__approval, item))) {
            continue; /* its task was detached and still waits */
        }
        if (item->type == TR_ITEM_RESOLUTION) {
            tr__tally_add(tally, TR__COUNT_DISCARDED, 1);
        }
        tr__settle_release(completion, item);
    }
    tr__token_give(&inbox->token);
}
