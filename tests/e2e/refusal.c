/*
 * Bad public input never aborts the host: every function with ids that are none, stale or of
 * another kind, on an open manager and on a closed one.
 */
#include "support/host.h"

/* Calls every function that takes ids with this one; none may succeed in doing anything. */
static void call_everything_with(struct rig *rig, uint64_t id)
{
    tr_manager *manager = rig->manager;
    tr_batch *batch = NULL;
    tr_snapshot snapshot;
    tr_launched launched;
    uint64_t got = 0;
    tr_request request = TR_REQUEST_INIT(id, 1);
    tr_filter filter = TR_FILTER_INIT;
    tr_cursor cursor = {0, 0};
    if (id == rig->turn || id == rig->session) {
        return; /* a spoilt id that is good */
    }
    CHECK_EQ_INT(tr_launch(manager, &request, &launched), TR_ENOENT);
    CHECK_EQ_INT(tr_launch_batch(manager, &request, 1, &launched), 0);
    CHECK_EQ_INT(launched.status, TR_ENOENT);
    CHECK_EQ_INT(tr_turn_open(manager, id, NULL, &got), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_close(manager, id, 0), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_close(manager, id, TR_CLOSE_DISCARD), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_interrupt(manager, id, "x"), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_wait(manager, id, NULL, TR_FOREVER, 1, &batch), TR_ENOENT);
    CHECK_EQ_INT(tr_session_close(manager, id, 0), TR_ENOENT);
    CHECK_EQ_INT(tr_session_close(manager, id, TR_CLOSE_DISCARD), TR_ENOENT);
    CHECK_EQ_INT(tr_loop_take(manager, id, TR_FOREVER, 1, &batch), TR_ENOENT);
    CHECK_EQ_INT(tr_ready_take(manager, id, TR_FOREVER, 1, &batch), TR_ENOENT);
    CHECK_EQ_INT(tr_task_cancel(manager, id, "x"), TR_ENOENT);
    CHECK_EQ_INT(tr_task_detach(manager, id), TR_ENOENT);
    CHECK_EQ_INT(tr_task_attach(manager, id), TR_ENOENT);
    CHECK_EQ_INT(tr_task_set_delivery(manager, id, TR_DELIVERY_MANUAL), TR_ENOENT);
    CHECK_EQ_INT(tr_task_set_continue(manager, id, TR_CONTINUE_REQUEST), TR_ENOENT);
    CHECK_EQ_INT(tr_task_snapshot(manager, id, &snapshot), TR_ENOENT);
    CHECK_EQ_INT(tr_task_approve(manager, id), TR_ENOENT);
    CHECK_EQ_INT(tr_task_deny(manager, id, "x"), TR_ENOENT);
    CHECK_EQ_INT(tr_finish((tr_deferred){manager, id}, 0, "x", 1), TR_ENOENT);
    filter.session = id;
    CHECK_EQ_INT(tr_task_list(manager, id == 0 ? NULL : &filter, &cursor, &snapshot, 1), 0);
    filter.session = 0;
    filter.turn = id;
    CHECK_EQ_INT(tr_task_list(manager, id == 0 ? NULL : &filter, &cursor, &snapshot, 1), 0);
    CHECK_EQ_U64(got, 0);
    CHECK_EQ_PTR(batch, NULL);
}

BOTH(refusal, ids_that_are_none)
{
    struct case_random random;
    tr_turn_id turn = rig_turn(rig, rig->session);
    tr_session_id session = rig_session(rig);
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    rig_wait_idle(rig);
    CHECK_EQ_INT(tr_turn_close(rig->manager, turn, 0), 0);
    CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
    case_random_init(&random, 0);
    uint64_t ids[] = {
        0,
        1,
        UINT64_MAX,
        UINT64_MAX - 1,
        UINT64_C(1) << 63,
        turn,
        session,
        task,
        turn ^ (UINT64_C(1) << 24),
        session ^ (UINT64_C(1) << 59),
        task | 0xffffff,
        rig->turn ^ UINT64_C(3) << 60,
        rig->session ^ UINT64_C(2) << 60,
        task ^ UINT64_C(1) << 62,
        rig->turn | 0xffffff,
        rig->session | 0xfffffe,
    };
    for (size_t at = 0; at < sizeof ids / sizeof *ids; at++) {
        call_everything_with(rig, ids[at]);
    }
    for (unsigned at = 0; at < 2000; at++) {
        call_everything_with(rig, case_random_next(&random));
    }
    CHECK_EQ_U64(rig_stats(rig).accepted, 1);
    rig_shut(rig, 0);
    for (size_t at = 0; at < sizeof ids / sizeof *ids; at++) {
        call_everything_with(rig, ids[at]);
    }
    rig_free(rig);
    rig_open(rig, rig->mode, NULL); /* for the case's own end */
}

/* A manager refuses what is another's: ids by their bits may happen to fit, so only kinds are
 * told. */
BOTH(refusal, no_manager)
{
    uint64_t id = 0;
    tr_batch *batch = NULL;
    tr_tool_id tool = 0;
    CHECK_EQ_INT(tr_turn_wait(NULL, rig->turn, NULL, 0, 1, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_task_set_delivery(NULL, 0, TR_DELIVERY_MANUAL), TR_EINVAL);
    CHECK_EQ_INT(tr_task_set_continue(NULL, 0, TR_CONTINUE_NOTIFY), TR_EINVAL);
    CHECK_EQ_INT(tr_session_find(NULL, "x", &id), TR_EINVAL);
    CHECK_EQ_INT(tr_tool_find(NULL, "x", &tool), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_wait_idle(NULL, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_manager_close(NULL, 0), TR_EINVAL);
    tr_manager_free(NULL);
    tr_batch_release(NULL);
    CHECK_EQ_U64(rig_stats(rig).accepted, 0);
}

/* ---- errors have names and messages ---- */

CASE(refusal, errors_have_names_and_messages)
{
    static const struct {
        int code;
        const char *name;
    } table[] = {
#define ROW(name_, value_, message_) {value_, #name_},
        TR_ERROR_LIST(ROW)
#undef ROW
    };
    CHECK_EQ_STR(tr_error_name(0), "TR_OK");
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        CHECK_EQ_STR(tr_error_name(table[at].code), table[at].name);
        CHECK(tr_error_message(table[at].code)[0] != '\0');
    }
    CHECK_EQ_STR(tr_error_name(-18), "EXDEV");
    CHECK_EQ_STR(tr_error_name(-5000), "TR_UNKNOWN");
    CHECK_EQ_STR(tr_error_name(INT32_MIN), "TR_UNKNOWN");
    CHECK(tr_error_message(INT32_MIN)[0] != '\0');
    CHECK_EQ_STR(tr_version(), TR_VERSION_STRING);
}

CASE(refusal, machine_is_examined)
{
    tr_machine machine;
    CHECK_EQ_INT(tr_machine_examine(NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_machine_examine(&machine), 0);
    CHECK(machine.kernel_major >= 5);
    CHECK(machine.kernel_release[0] != '\0');
    CHECK(machine.processors >= 1);
    CHECK(machine.descriptors_soft > 0);
    CHECK_EQ_INT(machine.ring_error == 0, machine.ring_refusal[0] == '\0');
}
