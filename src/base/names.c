/* Names: the words for states, outcomes and events, as logs and protocols show them.
 *
 * Purpose: one spelling everywhere. Owner: none; any thread. Called by hosts and by cli.
 *
 * Invariant: every named value has one word, in lower case, as it is written in the enumeration; a
 * value without a name (a newer library's) is "unknown", never NULL.
 *
 * Complexity: a compiled switch, O(1).
 */
#include <toolring/events.h>
#include <toolring/types.h>

const char *tr_state_name(tr_state state)
{
    switch (state) {
    case TR_STATE_QUEUED:
        return "queued";
    case TR_STATE_RUNNING:
        return "running";
    case TR_STATE_WAITING:
        return "waiting";
    case TR_STATE_ENDED:
        return "ended";
    default:
        return "unknown";
    }
}

const char *tr_outcome_name(tr_outcome outcome)
{
    switch (outcome) {
    case TR_OUTCOME_NONE:
        return "none";
    case TR_OUTCOME_COMPLETED:
        return "completed";
    case TR_OUTCOME_FAILED:
        return "failed";
    case TR_OUTCOME_CANCELLED:
        return "cancelled";
    case TR_OUTCOME_TIMED_OUT:
        return "timed_out";
    case TR_OUTCOME_DENIED:
        return "denied";
    case TR_OUTCOME_LOST:
        return "lost";
    default:
        return "unknown";
    }
}

const char *tr_event_name(tr_event_type type)
{
    switch (type) {
    case TR_EVENT_NONE:
        return "none";
    case TR_EVENT_QUEUED:
        return "queued";
    case TR_EVENT_STARTED:
        return "started";
    case TR_EVENT_PROGRESS:
        return "progress";
    case TR_EVENT_OUTPUT:
        return "output";
    case TR_EVENT_DETACHED:
        return "detached";
    case TR_EVENT_INPUT_REQUIRED:
        return "input_required";
    case TR_EVENT_COMPLETED:
        return "completed";
    case TR_EVENT_FAILED:
        return "failed";
    case TR_EVENT_CANCELLED:
        return "cancelled";
    case TR_EVENT_TIMED_OUT:
        return "timed_out";
    case TR_EVENT_DENIED:
        return "denied";
    case TR_EVENT_LOST:
        return "lost";
    case TR_EVENT_CONTINUE_REQUESTED:
        return "continue_requested";
    case TR_EVENT_GAP:
        return "gap";
    default:
        return "unknown";
    }
}
