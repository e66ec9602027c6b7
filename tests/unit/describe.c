/* Describe: snapshots and events of tasks in every state. */
#include "completion/describe.h"

#include "unit/completion_by_hand.h"

static struct shop shop;
#define REGISTRY (&shop.completion.registry)

static tr_session_id session_id;
static tr_turn_id turn_id;

static struct by_hand open_with_task(uint64_t bits)
{
    shop_open(&shop, 2);
    session_id = by_hand_session(REGISTRY);
    turn_id = by_hand_turn(REGISTRY, session_id);
    return by_hand_admit(REGISTRY, turn_id, bits);
}

static tr_snapshot describe(struct by_hand one, uint64_t bits)
{
    tr_snapshot snapshot;
    uint64_t word = (tr__task_word(one.task) >> TR__STATE_BITS) << TR__STATE_BITS | bits;
    memset(&snapshot, 0xee, sizeof snapshot); /* every field must be written, but unused bytes */
    tr__describe(&shop.completion, one.task, word, &snapshot);
    return snapshot;
}

CASE(describe, states_are_those_of_the_public_interface)
{
    static const struct {
        uint64_t bits;
        uint8_t wake;
        tr_state state;
        bool approval;
        bool deferred;
    } states[] = {
        {TR__TASK_QUEUED, TR__WAKE_AWAKE, TR_STATE_QUEUED, false, false},
        {TR__TASK_RUNNING, TR__WAKE_AWAKE, TR_STATE_RUNNING, false, false},
        {TR__TASK_RUNNING, TR__WAKE_FIBER, TR_STATE_WAITING, false, false},
        {TR__TASK_RUNNING, TR__WAKE_THREAD, TR_STATE_WAITING, false, false},
        {TR__TASK_RUNNING, TR__WAKE_NOTIFIED, TR_STATE_RUNNING, false, false},
        {TR__TASK_DEFERRED, TR__WAKE_AWAKE, TR_STATE_WAITING, false, true},
        {TR__TASK_APPROVAL, TR__WAKE_AWAKE, TR_STATE_WAITING, true, false},
        {TR__TASK_ENDED, TR__WAKE_AWAKE, TR_STATE_ENDED, false, false},
        {TR__TASK_ENDED, TR__WAKE_FIBER, TR_STATE_ENDED, false, false}, /* abandoned in its sleep */
    };
    struct by_hand one = open_with_task(0);
    for (unsigned i = 0; i < sizeof states / sizeof states[0]; i++) {
        tr__store_relaxed(&one.task->wake, states[i].wake);
        tr_snapshot snapshot = describe(one, states[i].bits);
        CHECK_EQ_INT(snapshot.state, states[i].state);
        CHECK_EQ_INT(snapshot.approval_pending, states[i].approval);
        CHECK_EQ_INT(snapshot.deferred, states[i].deferred);
    }
    by_hand_end(REGISTRY, one);
    shop_close(&shop);
}

CASE(describe, a_snapshot_is_complete)
{
    static int user;
    struct by_hand one = open_with_task(TR__TASK_HOLD_RUN);
    one.task->user = &user;
    memcpy(one.task->bytes, "call-9{\"a\":1}", 13);
    one.task->call_id_size = 6;
    one.task->metadata_size = 7;
    tr__store_relaxed(&one.task->started_ns, UINT64_C(17));
    tr__store_relaxed(&one.task->ended_ns, UINT64_C(19));
    tr_snapshot snapshot = describe(one, TR__TASK_QUEUED);
    CHECK_EQ_U64(snapshot.task, one.id);
    CHECK_EQ_U64(snapshot.turn, turn_id);
    CHECK_EQ_U64(snapshot.session, session_id);
    CHECK_EQ_INT(snapshot.tool, 1);
    CHECK_EQ_STR(snapshot.tool_name, "hammer");
    CHECK_EQ_PTR(snapshot.user, &user);
    CHECK_EQ_U64(snapshot.accepted_ns, one.task->accepted_ns);
    CHECK_EQ_U64(snapshot.started_ns, 0); /* what the word does not show has not happened */
    CHECK_EQ_U64(snapshot.ended_ns, 0);
    CHECK_EQ_INT(snapshot.call_id_size, 6);
    CHECK_EQ_INT(memcmp(snapshot.call_id, "call-9", 6), 0);
    CHECK_EQ_INT(snapshot.metadata_size, 7);
    CHECK_EQ_INT(memcmp(snapshot.metadata, "{\"a\":1}", 7), 0);
    CHECK_EQ_INT(snapshot.kind, TR_KIND_FOREGROUND);
    CHECK_EQ_INT(snapshot.outcome, TR_OUTCOME_NONE);
    CHECK_EQ_INT(snapshot.delivery, TR_DELIVERY_TO_LOOP);
    CHECK_EQ_INT(snapshot.continuation, TR_CONTINUE_NOTIFY);
    CHECK(!snapshot.cancel_requested && !snapshot.detached);
    snapshot =
        describe(one, TR__TASK_ENDED | TR__TASK_STARTED | TR__TASK_BACKGROUND | TR__TASK_MANUAL |
                          TR__TASK_REQUEST | TR__TASK_CANCEL | TR__TASK_WAS_DETACHED |
                          (uint64_t)TR_OUTCOME_TIMED_OUT << TR__TASK_OUTCOME_SHIFT);
    CHECK_EQ_U64(snapshot.started_ns, 17);
    CHECK_EQ_U64(snapshot.ended_ns, 19);
    CHECK_EQ_INT(snapshot.kind, TR_KIND_BACKGROUND);
    CHECK_EQ_INT(snapshot.outcome, TR_OUTCOME_TIMED_OUT);
    CHECK_EQ_INT(snapshot.delivery, TR_DELIVERY_MANUAL);
    CHECK_EQ_INT(snapshot.continuation, TR_CONTINUE_REQUEST);
    CHECK(snapshot.cancel_requested && snapshot.detached);
    by_hand_end(REGISTRY, one);
    shop_close(&shop);
}

CASE(describe, the_largest_call_id_and_metadata_fit)
{
    static unsigned char bytes[TR_CALL_ID_BYTES_MAX + TR_METADATA_BYTES_MAX];
    struct by_hand one = open_with_task(0);
    for (unsigned i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * 7);
    }
    one.task->in = bytes;
    one.task->call_id_size = TR_CALL_ID_BYTES_MAX;
    one.task->metadata_size = TR_METADATA_BYTES_MAX;
    tr_snapshot snapshot = describe(one, TR__TASK_QUEUED);
    CHECK_EQ_INT(snapshot.call_id_size, TR_CALL_ID_BYTES_MAX);
    CHECK_EQ_INT(memcmp(snapshot.call_id, bytes, TR_CALL_ID_BYTES_MAX), 0);
    CHECK_EQ_INT(snapshot.metadata_size, TR_METADATA_BYTES_MAX);
    CHECK_EQ_INT(memcmp(snapshot.metadata, bytes + TR_CALL_ID_BYTES_MAX, TR_METADATA_BYTES_MAX), 0);
    by_hand_end(REGISTRY, one);
    shop_close(&shop);
}

CASE(describe, a_snapshot_names_its_turn_after_the_turn_was_closed)
{
    struct by_hand one = open_with_task(TR__TASK_BACKGROUND);
    CHECK_EQ_INT(by_hand_close_turn(REGISTRY, turn_id), 0);
    CHECK_EQ_U64(describe(one, TR__TASK_QUEUED).turn, turn_id);
    by_hand_end(REGISTRY, one);
    shop_close(&shop);
}

CASE(describe, an_event_carries_the_snapshot)
{
    tr_reader *reader = NULL;
    tr_event event;
    struct by_hand one = open_with_task(TR__TASK_MANUAL);
    CHECK_EQ_INT(tr__reader_open(&shop.completion.events, NULL, &reader), 0);
    tr__describe_event(&shop.completion, one.task, tr__task_word(one.task), TR_EVENT_PROGRESS, 123,
                       4, 5);
    CHECK_EQ_INT(tr_reader_read(reader, &event, 1, 0), 1);
    CHECK_EQ_INT(event.type, TR_EVENT_PROGRESS);
    CHECK_EQ_U64(event.sequence, 1);
    CHECK_EQ_U64(event.time_ns, 123);
    CHECK_EQ_U64(event.current, 4);
    CHECK_EQ_U64(event.total, 5);
    CHECK_EQ_U64(event.snapshot.task, one.id);
    CHECK_EQ_INT(event.snapshot.state, TR_STATE_QUEUED);
    CHECK_EQ_INT(event.snapshot.delivery, TR_DELIVERY_MANUAL);
    tr_reader_close(reader);
    by_hand_end(REGISTRY, one);
    shop_close(&shop);
}
