/*
 * describe.c: see describe.h.
 *
 * Owner: any thread with a hold on the task. Called by settle, engine, host; calls events.
 *
 * Invariants
 *  1. What is read here is either fixed at launch, or in the state word, or written before the
 *     transition that `word` shows.
 *  2. Byte arrays of a snapshot are filled up to their size only: copying the rest of 640 bytes for
 *     every event would cost more than the rest of the event.
 *
 * Complexity: O(bytes of call id and metadata).
 */
#include "completion/describe.h"

#include <string.h>

static enum tr_state state_of(struct tr__task *task, uint64_t word)
{
    switch (tr__word_state(word)) {
    case TR__TASK_QUEUED:
        return TR_STATE_QUEUED;
    case TR__TASK_RUNNING: {
        /* relaxed: a look; it may wait or run again the next moment. */
        uint8_t wake = tr__load_relaxed(&task->wake);
        return wake == TR__WAKE_FIBER || wake == TR__WAKE_THREAD ? TR_STATE_WAITING
                                                                 : TR_STATE_RUNNING;
    }
    case TR__TASK_DEFERRED:
    case TR__TASK_APPROVAL:
        return TR_STATE_WAITING;
    default:
        return TR_STATE_ENDED;
    }
}

void tr__describe(struct tr__completion *completion, struct tr__task *task, uint64_t word,
                  tr_snapshot *ret_snapshot)
{
    struct tr__turn *turn = task->turn;
    const struct tr__tool *tool = tr__toolbox_at(&completion->registry.toolbox, task->tool);
    bool ended = tr__word_state(word) == TR__TASK_ENDED;
    ret_snapshot->task = tr__task_id(task, word);
    ret_snapshot->turn = turn->id;
    ret_snapshot->session = turn->session->id;
    ret_snapshot->tool = task->tool;
    ret_snapshot->state = state_of(task, word);
    ret_snapshot->kind = tr__word_is_background(word) ? TR_KIND_BACKGROUND : TR_KIND_FOREGROUND;
    ret_snapshot->outcome = tr__word_outcome(word);
    ret_snapshot->delivery =
        (word & TR__TASK_MANUAL) != 0 ? TR_DELIVERY_MANUAL : TR_DELIVERY_TO_LOOP;
    ret_snapshot->continuation =
        (word & TR__TASK_REQUEST) != 0 ? TR_CONTINUE_REQUEST : TR_CONTINUE_NOTIFY;
    ret_snapshot->cancel_requested = (word & TR__TASK_CANCEL) != 0;
    ret_snapshot->detached = (word & TR__TASK_WAS_DETACHED) != 0;
    ret_snapshot->approval_pending = tr__word_state(word) == TR__TASK_APPROVAL;
    ret_snapshot->deferred = tr__word_state(word) == TR__TASK_DEFERRED;
    ret_snapshot->accepted_ns = task->accepted_ns;
    /* relaxed: the times are values of their own; the word's acquire ordered them where it
     * matters. */
    ret_snapshot->started_ns =
        (word & TR__TASK_STARTED) != 0 ? tr__load_relaxed(&task->started_ns) : 0;
    ret_snapshot->ended_ns = ended ? tr__load_relaxed(&task->ended_ns) : 0;
    ret_snapshot->tool_name = tool->name;
    ret_snapshot->user = task->user;
    ret_snapshot->call_id_size = task->call_id_size;
    ret_snapshot->metadata_size = task->metadata_size;
    if (task->call_id_size > 0) {
        memcpy(ret_snapshot->call_id, task->in, task->call_id_size);
    }
    if (task->metadata_size > 0) {
        memcpy(ret_snapshot->metadata, task->in + task->call_id_size, task->metadata_size);
    }
}

void tr__describe_event(struct tr__completion *completion, struct tr__task *task, uint64_t word,
                        tr_event_type type, uint64_t time_ns, uint64_t current, uint64_t total)
{
    tr_event event; /* not cleared: invariant 2 */
    event.sequence = 0;
    event.time_ns = time_ns;
    event.type = type;
    event.current = current;
    event.total = total;
    tr__describe(completion, task, word, &event.snapshot);
    tr__events_publish(&completion->events, &event);
}
