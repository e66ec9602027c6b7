/*
 * Tests of base/names: the words for states, outcomes and events.
 */
#include <string.h>

#include <toolring.h>

#include "support/case.h"

CASE(names, states)
{
    CHECK_EQ_STR(tr_state_name(TR_STATE_QUEUED), "queued");
    CHECK_EQ_STR(tr_state_name(TR_STATE_RUNNING), "running");
    CHECK_EQ_STR(tr_state_name(TR_STATE_WAITING), "waiting");
    CHECK_EQ_STR(tr_state_name(TR_STATE_ENDED), "ended");
    CHECK_EQ_STR(tr_state_name((tr_state)0), "unknown");
    CHECK_EQ_STR(tr_state_name((tr_state)5), "unknown");
}

CASE(names, outcomes)
{
    static const char *const names[] = {"none",      "completed", "failed", "cancelled",
                                        "timed_out", "denied",    "lost",   "unknown"};
    for (unsigned value = 0; value < sizeof names / sizeof *names; value++) {
        CHECK_EQ_STR(tr_outcome_name((tr_outcome)value), names[value]);
    }
}

CASE(names, events)
{
    static const char *const names[] = {
        "none",      "queued", "started",   "progress",  "output", "detached", "input_required",
        "completed", "failed", "cancelled", "timed_out", "denied", "lost",     "continue_requested",
        "gap",       "unknown"};
    for (unsigned value = 0; value < sizeof names / sizeof *names; value++) {
        CHECK_EQ_STR(tr_event_name((tr_event_type)value), names[value]);
    }
}
