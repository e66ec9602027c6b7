/*
 * Attaching that fails: the item that makes a turn idle says so, whoever tries to attach what at
 * that moment.
 */
#include "support/host.h"

enum {
    ROUNDS = 20000,
};

struct meddler {
    struct rig *rig;
    tr_task_id task; /* has ended and is not released: attaching it fails */
    bool stop;       /* atomic */
};

static void *attach_in_vain(void *argument)
{
    struct meddler *self = argument;
    while (!__atomic_load_n(&self->stop, __ATOMIC_RELAXED)) {
        CHECK_EQ_INT(tr_task_attach(self->rig->manager, self->task), TR_EALREADY);
    }
    return NULL;
}

/* Launches one foreground task after the other; each resolution makes its turn idle. */
static void check_idleness(struct rig *rig, tr_queue *queue)
{
    tr_turn_options options = TR_TURN_OPTIONS_INIT;
    options.queue = queue;
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &options, &rig->turn), 0);
    struct meddler meddler = {rig, rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND), false};
    tr_batch *kept = rig_loop_take(rig, rig->session);
    pthread_t thread = rig_thread(attach_in_vain, &meddler);
    for (unsigned round = 0; round < ROUNDS; round++) {
        tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
        tr_batch *batch = queue != NULL ? rig_queue_take(queue) : rig_turn_take(rig, rig->turn);
        CHECK((batch->items[0].flags & TR_ITEM_TURN_IDLE) != 0);
        rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
        if (queue == NULL) {
            rig_turn_is_idle(rig, rig->turn);
        }
    }
    __atomic_store_n(&meddler.stop, true, __ATOMIC_RELAXED);
    rig_join(thread);
    tr_batch_release(kept);
}

BOTH(attach, failure_hides_no_idleness_of_a_bound_turn)
{
    tr_queue *queue = NULL;
    CHECK_EQ_INT(tr_queue_open(rig->manager, &queue), 0);
    check_idleness(rig, queue);
    CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, 0), 0);
    CHECK_EQ_INT(tr_queue_close(queue), 0);
}

BOTH(attach, failure_hides_no_idleness)
{
    check_idleness(rig, NULL);
}

/* ... and one that succeeds is counted before anything of the task can be seen. */
THREADED(attach, success_is_counted_at_once)
{
    for (unsigned round = 0; round < 2000; round++) {
        struct gate gate;
        gate_init(&gate);
        tr_task_id task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_BACKGROUND);
        if (round % 2 == 0) {
            gate_open(&gate); /* a race between the end and the attaching */
        }
        int error = tr_task_attach(rig->manager, task);
        CHECK(error == 0 || error == TR_EALREADY);
        if (round % 2 != 0) {
            CHECK_EQ_INT(error, 0);
            gate_open(&gate);
        }
        if (error == 0) {
            tr_batch *batch = rig_turn_take(rig, rig->turn);
            CHECK((batch->items[0].flags & TR_ITEM_TURN_IDLE) != 0);
            rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
        } else {
            rig_check_release(rig_loop_take(rig, rig->session), task, TR_OUTCOME_COMPLETED);
        }
        rig_turn_is_idle(rig, rig->turn);
        gate_done(&gate);
    }
}
