/*
 * events_pack.h: how an event's small fields and its bytes lie in the words of a slot. For
 * events.c, which writes them, and reader.c, which reads them; nobody else.
 *
 * The packed word, from the lowest bit: type 5, state 3, outcome 3, kind 1, delivery 2,
 * continuation 2, then one bit each for cancel requested, detached, approval pending and deferred;
 * the tool's number in the upper half.
 */
#ifndef TR__COMPLETION_EVENTS_PACK_H
#define TR__COMPLETION_EVENTS_PACK_H

#include "completion/events.h"

TR_STATIC(TR_EVENT_GAP < 32 && TR_STATE_ENDED < 8 && TR_OUTCOME_LOST < 8,
          "fields hold their values");
TR_STATIC(TR_KIND_BACKGROUND < 2 && TR_DELIVERY_MANUAL < 4 && TR_CONTINUE_REQUEST < 4,
          "fields hold their values");
TR_STATIC(sizeof(tr_tool_id) == 4, "a tool's number is half a word");

static inline uint64_t tr__events_pack(const tr_event *event)
{
    const tr_snapshot *snapshot = &event->snapshot;
    uint32_t small =
        (uint32_t)event->type | (uint32_t)snapshot->state << 5 | (uint32_t)snapshot->outcome << 8 |
        (uint32_t)snapshot->kind << 11 | (uint32_t)snapshot->delivery << 12 |
        (uint32_t)snapshot->continuation << 14 | (uint32_t)snapshot->cancel_requested << 16 |
        (uint32_t)snapshot->detached << 17 | (uint32_t)snapshot->approval_pending << 18 |
        (uint32_t)snapshot->deferred << 19;
    return (uint64_t)snapshot->tool << 32 | small;
}

static inline tr_event_type tr__events_packed_type(uint64_t packed)
{
    return (tr_event_type)(packed & 31);
}

static inline void tr__events_unpack(uint64_t packed, tr_event *ret_event)
{
    tr_snapshot *snapshot = &ret_event->snapshot;
    ret_event->type = tr__events_packed_type(packed);
    snapshot->state = (tr_state)(packed >> 5 & 7);
    snapshot->outcome = (tr_outcome)(packed >> 8 & 7);
    snapshot->kind = (tr_kind)(packed >> 11 & 1);
    snapshot->delivery = (tr_delivery)(packed >> 12 & 3);
    snapshot->continuation = (tr_continue)(packed >> 14 & 3);
    snapshot->cancel_requested = (packed >> 16 & 1) != 0;
    snapshot->detached = (packed >> 17 & 1) != 0;
    snapshot->approval_pending = (packed >> 18 & 1) != 0;
    snapshot->deferred = (packed >> 19 & 1) != 0;
    snapshot->tool = (tr_tool_id)(packed >> 32);
}

/* Word number `at` of an event's payload: in the slot first, then in the tail. */
static inline tr__atomic_u64 *tr__events_payload(struct tr__events_slot *slot,
                                                 struct tr__events_tail *tail, unsigned at)
{
    return at < TR__EVENTS_PAYLOAD_WORDS ? &slot->word[TR__EVENTS_PAYLOAD + at]
                                         : &tail->word[at - TR__EVENTS_PAYLOAD_WORDS];
}

#endif
