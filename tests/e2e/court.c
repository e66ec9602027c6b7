/*
 * court.c: see court.h.
 */
#include "e2e/court.h"

#include <stdio.h>

static tr_permit decide(void *context, const tr_request *request, unsigned approvals,
                        tr_permit_answer *answer)
{
    struct judge *self = context;
    const char *text = request->input.data;
    size_t size = request->input.size;
    __atomic_fetch_add(&self->asked, 1, __ATOMIC_RELAXED);
    if (approvals > __atomic_load_n(&self->approvals_max, __ATOMIC_RELAXED)) {
        __atomic_store_n(&self->approvals_max, approvals, __ATOMIC_RELAXED);
    }
    CHECK_EQ_INT(answer->reason[0], '\0');
    CHECK_EQ_INT(answer->summary[0], '\0');
    CHECK_EQ_U64(answer->expire_ns, 0);
    if (size == 0) {
        return TR_PERMIT_ALLOW;
    }
    CHECK(rig_bytes_are(request->call_id, "call"));
    CHECK(rig_bytes_are(request->metadata, self->metadata));
    CHECK(request->tool != 0);
    if (text[0] == 'd') {
        (void)snprintf(answer->reason, sizeof answer->reason, "house rules");
        return TR_PERMIT_DENY;
    }
    if (text[0] == 'o') {
        return (tr_permit)9;
    }
    if (text[0] == 'a' && text[1] == 'l') {
        return TR_PERMIT_ALLOW;
    }
    (void)snprintf(answer->reason, sizeof answer->reason, "reason %u", approvals);
    (void)snprintf(answer->summary, sizeof answer->summary, "summary %u", approvals);
    if (text[0] == 'e') {
        answer->expire_ns = EXPIRE_MS * TR_MILLISECOND;
        return TR_PERMIT_ASK;
    }
    if (text[0] == 't') {
        return approvals == 0 ? TR_PERMIT_ASK : TR_PERMIT_DENY;
    }
    return approvals < (unsigned)(text[3] - '0') ? TR_PERMIT_ASK : TR_PERMIT_ALLOW;
}

void court_open(struct court *self, enum rig_mode mode)
{
    tr_config config = TR_CONFIG_INIT;
    memset(self, 0, sizeof *self);
    memset(self->metadata, 'm', sizeof self->metadata - 1);
    self->judge.metadata = self->metadata;
    config.permit = decide;
    config.context = &self->judge;
    gate_init(&self->gate);
    rig_open(&self->rig, mode, &config);
}

void court_close(struct court *self)
{
    rig_wait_idle(&self->rig);
    if (self->rig.manager != NULL) {
        rig_close(&self->rig);
    }
    gate_done(&self->gate);
}

tr_request court_request(struct court *self, tr_tool_id tool, const char *text)
{
    tr_request request = TR_REQUEST_INIT(self->rig.turn, tool);
    request.input = rig_bytes(text);
    request.call_id = rig_bytes("call");
    request.metadata = rig_bytes(self->metadata);
    request.user = &self->gate;
    return request;
}

tr_task_id court_launch(struct court *self, tr_tool_id tool, const char *text, tr_route route)
{
    tr_request request = court_request(self, tool, text);
    request.options.route = route;
    return rig_launch_request(&self->rig, &request).task;
}

/* Checks an approval request and releases it. */
void court_check(tr_batch *batch, tr_task_id task, unsigned approvals, const char *text)
{
    char wanted[32];
    const tr_item *item = batch->items;
    CHECK_EQ_U64(batch->count, 1);
    CHECK_EQ_INT(item->type, TR_ITEM_APPROVAL);
    CHECK_EQ_U64(item->task, task);
    CHECK_EQ_INT(item->outcome, TR_OUTCOME_NONE);
    CHECK_EQ_INT(item->approvals, approvals);
    (void)snprintf(wanted, sizeof wanted, "reason %u", approvals);
    CHECK_EQ_STR(item->reason, wanted);
    (void)snprintf(wanted, sizeof wanted, "summary %u", approvals);
    CHECK_EQ_STR(item->summary, wanted);
    CHECK(rig_bytes_are(item->input, text));
    CHECK(rig_bytes_are(item->call_id, "call"));
    CHECK_EQ_U64(item->metadata.size, 299);
    CHECK(item->tool_name != NULL && item->tool != 0);
    CHECK_EQ_U64(item->flags & TR_ITEM_TURN_IDLE, 0);
    CHECK(item->accepted_ns > 0 && item->ended_ns >= item->accepted_ns);
    tr_batch_release(batch);
}
