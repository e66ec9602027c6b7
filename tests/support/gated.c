/*
 * gated.c: see gated.h.
 */
#include "support/gated.h"

void gated_open(struct gated *self, enum rig_mode mode, const tr_config *config)
{
    gate_init(&self->gate);
    rig_open(&self->rig, mode, config);
}

void gated_close(struct gated *self)
{
    rig_close(&self->rig);
    gate_done(&self->gate);
}

tr_config rig_one_worker(void)
{
    tr_config config = TR_CONFIG_INIT;
    config.workers = 1;
    config.substitutes_max = 1;
    config.slice_ns = TR_FOREVER; /* no substitute comes */
    return config;
}

void blocked_open(struct blocked *self, const tr_config *config)
{
    tr_config own = config == NULL ? rig_one_worker() : *config;
    gate_init(&self->gate);
    rig_open(&self->rig, RIG_THREADED, &own);
    self->blocker = rig_launch(&self->rig, self->rig.gate, &self->gate, TR_ROUTE_BACKGROUND);
    gate_await_entered(&self->gate, 1);
}

void blocked_release(struct blocked *self)
{
    gate_open(&self->gate);
    rig_check_release(rig_loop_take(&self->rig, self->rig.session), self->blocker,
                      TR_OUTCOME_COMPLETED);
    self->blocker = 0;
}

void blocked_close(struct blocked *self)
{
    if (self->blocker != 0) {
        blocked_release(self);
    }
    rig_close(&self->rig);
    gate_done(&self->gate);
}

int run_until_cancelled(tr_call *call, void *context)
{
    (void)context;
    (void)gate_enter(tr_call_user(call));
    while (!tr_call_is_cancelled(call)) {
        (void)sched_yield();
    }
    return 0;
}

int run_deaf(tr_call *call, void *context)
{
    (void)context;
    gate_pass(tr_call_user(call));
    return tr_result_copy(call, "too late", 8);
}

int rig_try(struct rig *rig, tr_turn_id turn, tr_tool_id tool, void *user,
            uint64_t admit_timeout_ns)
{
    tr_request request = TR_REQUEST_INIT(turn, tool);
    tr_launched launched;
    request.user = user;
    request.admit_timeout_ns = admit_timeout_ns;
    return tr_launch(rig->manager, &request, &launched);
}

bool rig_sweep(struct rig *rig, tr_turn_id turn, tr_session_id session, unsigned *resolved)
{
    tr_batch *batches[3] = {NULL, NULL, NULL};
    (void)tr_turn_wait(rig->manager, turn, NULL, 0, 64, &batches[0]);
    (void)tr_loop_take(rig->manager, session, 0, 64, &batches[1]);
    (void)tr_ready_take(rig->manager, session, 0, 64, &batches[2]);
    bool any = false;
    for (unsigned which = 0; which < 3; which++) {
        tr_batch *batch = batches[which];
        for (size_t at = 0; batch != NULL && at < batch->count; at++) {
            *resolved += batch->items[at].type == TR_ITEM_RESOLUTION;
        }
        any |= batch != NULL;
        tr_batch_release(batch);
    }
    return any;
}
