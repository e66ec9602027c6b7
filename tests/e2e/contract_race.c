/*
 * Whoever loses a race has done nothing. An interrupt stops what is in
 * front; a task that was detached before is background, and survives it.
 */
#include "support/host.h"

enum {
    ROUNDS = 5000,
};

struct duel {
    struct rig *rig;
    tr_task_id task;
    int detached; /* what tr_task_detach answered */
    bool over;
    pthread_barrier_t barrier;
};

static void *detach_each(void *argument)
{
    struct duel *self = argument;
    for (;;) {
        (void)pthread_barrier_wait(&self->barrier);
        if (self->over) {
            return NULL;
        }
        self->detached = tr_task_detach(self->rig->manager, self->task);
        (void)pthread_barrier_wait(&self->barrier);
    }
}

/* Whether the detach won: then the interrupt has stopped nothing. */
static bool fight(struct rig *rig, struct duel *duel)
{
    (void)pthread_barrier_wait(&duel->barrier);
    int asked = tr_turn_interrupt(rig->manager, rig->turn, NULL);
    (void)pthread_barrier_wait(&duel->barrier);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    bool detached = duel->detached == 0;
    CHECK(detached || duel->detached == TR_EALREADY);
    CHECK_EQ_INT(asked, detached ? 0 : 1);
    if (detached) {
        CHECK_EQ_INT(batch->items[0].type, TR_ITEM_DETACHED);
        tr_batch_release(batch);
    } else {
        rig_check_release(batch, duel->task, TR_OUTCOME_CANCELLED);
    }
    rig_turn_is_idle(rig, rig->turn);
    return detached;
}

static void duel_open(struct duel *self, struct rig *rig, pthread_t *thread)
{
    *self = (struct duel){rig, 0, 0, false, {{0}}};
    CHECK_EQ_INT(pthread_barrier_init(&self->barrier, NULL, 2), 0);
    *thread = rig_thread(detach_each, self);
}

static void duel_close(struct duel *self, pthread_t thread)
{
    self->over = true;
    (void)pthread_barrier_wait(&self->barrier);
    rig_join(thread);
    CHECK_EQ_INT(pthread_barrier_destroy(&self->barrier), 0);
}

THREADED(contract_race, interrupt_spares_what_was_detached)
{
    struct gate gate;
    struct duel duel;
    pthread_t thread;
    duel_open(&duel, rig, &thread);
    for (unsigned round = 0; round < ROUNDS; round++) {
        gate_init(&gate);
        duel.task = rig_launch(rig, rig->deferred, &gate, TR_ROUTE_FOREGROUND);
        WAIT_UNTIL(rig_snapshot(rig, duel.task).deferred, RIG_PATIENCE_SECONDS);
        if (fight(rig, &duel)) {
            CHECK_EQ_INT(tr_finish(gate.deferred[0], 0, NULL, 0), 0);
            rig_check_release(rig_loop_take(rig, rig->session), duel.task, TR_OUTCOME_COMPLETED);
        }
        gate_done(&gate);
    }
    duel_close(&duel, thread);
}

/* Reports progress until it is told to end: whoever wants to change its state waits for its events,
 * and several of them race when one has been published. */
static int run_busy(tr_call *call, void *context)
{
    bool *end = tr_call_user(call);
    (void)context;
    while (!__atomic_load_n(end, __ATOMIC_ACQUIRE)) {
        tr_call_progress(call, 1, 0);
    }
    return 0;
}

THREADED(contract_race, interrupt_spares_what_was_detached_while_it_reports)
{
    static bool ends[ROUNDS / 10]; /* one each: an abandoned function may look a moment longer */
    struct duel duel;
    pthread_t thread;
    tr_reader *reader = NULL;
    tr_reader_options wanted = TR_READER_OPTIONS_INIT;
    wanted.types = 1u << TR_EVENT_DENIED; /* none comes: but all are recorded */
    CHECK_EQ_INT(tr_reader_open(rig->manager, &wanted, &reader), 0);
    tr_tool_id tool = rig_tool(rig, "busy", run_busy, NULL);
    duel_open(&duel, rig, &thread);
    for (unsigned round = 0; round < ROUNDS / 10; round++) {
        duel.task = rig_launch(rig, tool, &ends[round], TR_ROUTE_FOREGROUND);
        rig_await_state(rig, duel.task, TR_STATE_RUNNING);
        bool detached = fight(rig, &duel);
        __atomic_store_n(&ends[round], true, __ATOMIC_RELEASE);
        if (detached) {
            rig_check_release(rig_loop_take(rig, rig->session), duel.task, TR_OUTCOME_COMPLETED);
        }
        WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    }
    duel_close(&duel, thread);
    tr_reader_close(reader);
}
