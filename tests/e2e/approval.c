/*
 * Permission and approval end to end: allow, deny, ask.
 */
#include <stdio.h>

#include "e2e/court.h"

COURT(approval, allow_runs)
{
    tr_task_id task = court_launch(self, self->rig.echo, "allow", TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(&self->rig, self->rig.turn);
    CHECK_EQ_INT(batch->items[0].approvals, 0);
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(self->judge.asked, 1);
}

/* ---- deny ---- */

COURT(approval, deny_is_an_outcome)
{
    static const struct {
        const char *text;
        const char *reason;
    } table[] = {{"deny", "house rules"}, {"odd", ""}};
    struct rig *rig = &self->rig;
    tr_tool_id tools[] = {rig->echo, rig->awaiting};
    for (unsigned at = 0; at < 4; at++) {
        const char *text = table[at % 2].text;
        tr_task_id task = court_launch(self, tools[at / 2], text, TR_ROUTE_FOREGROUND);
        tr_batch *batch = NULL; /* at once */
        CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_WAIT_ITEMS);
        rig_check(batch, task, TR_OUTCOME_DENIED);
        CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_NOT_STARTED | TR_ITEM_TURN_IDLE);
        CHECK_EQ_INT(batch->items[0].code, TR_EDENIED);
        CHECK_EQ_STR(batch->items[0].reason, table[at % 2].reason);
        CHECK_EQ_U64(batch->items[0].started_ns, 0);
        CHECK_EQ_U64(batch->items[0].result.size, 0);
        tr_batch_release(batch);
    }
    CHECK_EQ_U64(rig_stats(rig).denied, 4);
    CHECK_EQ_U64(rig_stats(rig).started, 0);
    CHECK_EQ_U64(rig_stats(rig).fibers_used, 0);
    rig_turn_is_idle(rig, rig->turn);
}

COURT(approval, deny_in_the_background)
{
    struct rig *rig = &self->rig;
    tr_task_id task = court_launch(self, rig->echo, "deny", TR_ROUTE_BACKGROUND);
    rig_check_release(rig_loop_take(rig, rig->session), task, TR_OUTCOME_DENIED);
    tr_request request = court_request(self, rig->echo, "deny");
    request.options.route = TR_ROUTE_BACKGROUND;
    request.options.delivery = TR_DELIVERY_MANUAL;
    task = rig_launch_request(rig, &request).task;
    rig_check_release(rig_ready_take(rig, rig->session), task, TR_OUTCOME_DENIED);
}

COURT(approval, deny_of_an_inline_call)
{
    tr_request request = court_request(self, self->rig.echo, "deny");
    tr_launched launched;
    request.options.route = TR_ROUTE_INLINE;
    CHECK_EQ_INT(tr_launch(self->rig.manager, &request, &launched), TR_READY);
    rig_check(launched.ready, launched.task, TR_OUTCOME_DENIED);
    CHECK_EQ_STR(launched.ready->items[0].reason, "house rules");
    CHECK_EQ_U64(launched.ready->items[0].flags, TR_ITEM_NOT_STARTED);
    tr_batch_release(launched.ready);
    rig_turn_is_idle(&self->rig, self->rig.turn);
}

/* ---- ask ---- */

COURT(approval, ask_then_approve)
{
    struct rig *rig = &self->rig;
    for (unsigned needed = 1; needed <= 4; needed++) {
        char text[8];
        (void)snprintf(text, sizeof text, "ask%u", needed);
        unsigned asked = self->judge.asked;
        tr_task_id task = court_launch(self, rig->echo, text, TR_ROUTE_FOREGROUND);
        for (unsigned approvals = 0; approvals < needed; approvals++) {
            tr_batch *batch = NULL;
            tr_snapshot snapshot = rig_snapshot(rig, task);
            CHECK_EQ_INT(snapshot.state, TR_STATE_WAITING);
            CHECK(snapshot.approval_pending && !snapshot.deferred);
            CHECK_EQ_INT(snapshot.outcome, TR_OUTCOME_NONE);
            court_check(rig_turn_take(rig, rig->turn), task, approvals, text);
            /* It holds its turn open. */
            CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_ETIMEDOUT);
            CHECK_EQ_U64(rig_stats(rig).unfinished, 1);
            CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
        }
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK(rig_bytes_are(batch->items[0].result, text));
        CHECK(batch->items[0].started_ns > 0);
        CHECK_EQ_INT(batch->items[0].approvals, needed); /* it remembers all those given */
        rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
        rig_wait_idle(rig); /* the number of unfinished ones follows the item */
        CHECK_EQ_INT(self->judge.asked - asked, needed + 1);
        CHECK_EQ_INT(self->judge.approvals_max, needed);
    }
    rig_turn_is_idle(rig, rig->turn);
}

COURT(approval, ask_then_deny)
{
    struct rig *rig = &self->rig;
    static const char *const reasons[] = {"not today", NULL, ""};
    tr_tool_id tools[] = {rig->echo, rig->awaiting, rig->deferred};
    for (unsigned at = 0; at < 3; at++) {
        tr_task_id task = court_launch(self, tools[at], "ask1", TR_ROUTE_FOREGROUND);
        court_check(rig_turn_take(rig, rig->turn), task, 0, "ask1");
        CHECK_EQ_INT(tr_task_deny(rig->manager, task, reasons[at]), 0);
        CHECK_EQ_INT(tr_task_deny(rig->manager, task, reasons[at]), TR_EALREADY);
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), TR_EALREADY);
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK_EQ_INT(batch->items[0].code, TR_EDENIED);
        CHECK_EQ_STR(batch->items[0].reason, at == 0 ? "not today" : "");
        CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_NOT_STARTED | TR_ITEM_TURN_IDLE);
        rig_check_release(batch, task, TR_OUTCOME_DENIED);
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).fibers_used, 0);
    CHECK_EQ_U64(rig_stats(rig).started, 0);
}

COURT(approval, callback_denies_when_approved)
{
    struct rig *rig = &self->rig;
    tr_task_id task = court_launch(self, rig->echo, "then-deny", TR_ROUTE_FOREGROUND);
    court_check(rig_turn_take(rig, rig->turn), task, 0, "then-deny");
    CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_U64(batch->items[0].flags & TR_ITEM_NOT_STARTED, TR_ITEM_NOT_STARTED);
    rig_check_release(batch, task, TR_OUTCOME_DENIED);
}

/* A request of a background task comes through its channel, manual ones too, and its turn is
 * idle. */
COURT(approval, ask_in_the_background)
{
    struct rig *rig = &self->rig;
    for (unsigned at = 0; at < 2; at++) {
        bool manual = at == 1;
        tr_request request = court_request(self, rig->echo, "ask1");
        request.options.route = TR_ROUTE_BACKGROUND;
        request.options.delivery = manual ? TR_DELIVERY_MANUAL : TR_DELIVERY_TO_LOOP;
        tr_task_id task = rig_launch_request(rig, &request).task;
        rig_turn_is_idle(rig, rig->turn);
        tr_batch *batch =
            manual ? rig_ready_take(rig, rig->session) : rig_loop_take(rig, rig->session);
        CHECK_EQ_INT(batch->items[0].channel, manual ? TR_CHANNEL_READY : TR_CHANNEL_LOOP);
        CHECK_EQ_INT(batch->items[0].kind, TR_KIND_BACKGROUND);
        court_check(batch, task, 0, "ask1");
        CHECK_EQ_INT(tr_task_approve(rig->manager, task), 0);
        batch = manual ? rig_ready_take(rig, rig->session) : rig_loop_take(rig, rig->session);
        rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    }
    rig_turn_is_idle(rig, rig->turn);
}

/* An inline call that is asked about cannot run now: it becomes foreground. */
COURT(approval, ask_of_an_inline_call)
{
    struct rig *rig = &self->rig;
    tr_request request = court_request(self, rig->echo, "ask1");
    request.options.route = TR_ROUTE_INLINE;
    tr_launched launched = rig_launch_request(rig, &request);
    CHECK_EQ_INT(launched.kind, TR_KIND_FOREGROUND);
    court_check(rig_turn_take(rig, rig->turn), launched.task, 0, "ask1");
    CHECK_EQ_INT(tr_task_approve(rig->manager, launched.task), 0);
    rig_check_release(rig_turn_take(rig, rig->turn), launched.task, TR_OUTCOME_COMPLETED);
}
