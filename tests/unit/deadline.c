/*
 * Tests of engine/deadline with a judgement by hand: what was due when it looked need not be so any
 * more when it acts. (Timeouts as users see them: tests/e2e/timeout.c and options.c.)
 */
#include "engine/engine.h"
#include "support/host.h"

/* A call with a queue timeout that runs; its deadline, and the word that it had in the queue. */
struct started {
    tr_task_id id;
    struct tr__deadline *deadline;
    uint64_t queued_word;
    uint64_t late_ns; /* a moment after its queue timeout */
};

static struct started start_with_queue_timeout(struct rig *rig, struct gate *gate)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->gate);
    request.user = gate;
    request.options.queue_timeout_ns = 1000 * TR_SECOND;
    struct started started = {rig_launch_request(rig, &request).task, NULL, 0, 0};
    gate_await_entered(gate, 1);
    struct tr__engine *engine = tr__engine_of(rig->manager);
    struct tr__task *task = tr__registry_task(&engine->completion->registry, started.id);
    CHECK(task != NULL);
    started.deadline = &engine->deadlines[task->slot.index];
    uint64_t word = tr__task_word(task);
    CHECK_EQ_INT(tr__word_state(word), TR__TASK_RUNNING);
    started.queued_word =
        (word & ~(TR__TASK_STATE_MASK | TR__TASK_STARTED)) | (uint64_t)TR__TASK_QUEUED;
    started.late_ns = task->accepted_ns + 1001 * TR_SECOND;
    return started;
}

THREADED(deadline, a_queue_timeout_spares_who_has_started_meanwhile)
{
    struct gate gate;
    gate_init(&gate);
    struct started started = start_with_queue_timeout(rig, &gate);
    tr__deadline_act(started.deadline, started.queued_word, started.late_ns);
    tr_snapshot snapshot;
    CHECK_EQ_INT(tr_task_snapshot(rig->manager, started.id, &snapshot), 0);
    CHECK_EQ_INT(snapshot.state, TR_STATE_RUNNING);
    CHECK(!snapshot.cancel_requested);
    gate_open(&gate);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, started.id, TR_OUTCOME_COMPLETED);
    tr_batch_release(batch);
    gate_done(&gate);
}

/* The same judgement, when the total time is over too: that spares nobody. */
THREADED(deadline, a_total_timeout_does_not)
{
    struct gate gate;
    gate_init(&gate);
    struct started started = start_with_queue_timeout(rig, &gate);
    started.deadline->total_at_ns = started.late_ns; /* nobody else looks for 1000 s */
    tr__deadline_act(started.deadline, started.queued_word, started.late_ns);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    rig_check(batch, started.id, TR_OUTCOME_TIMED_OUT);
    tr_batch_release(batch);
    gate_open(&gate);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS); /* it has left the gate */
    gate_done(&gate);
}
