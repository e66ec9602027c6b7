/*
 * Two managers side by side in one process.
 *
 * They share nothing: not a thread, not a queue, not a number. An id belongs to the manager that
 * issued it. The other may have issued the same number for a task of its own, so a host that mixes
 * them up reaches at most the other's own task, never one of another manager; a number that it
 * never issued is refused with TR_ENOENT, and a queue of another manager with TR_EINVAL.
 */
#include "support/host.h"

enum {
    CALLS = 3000,
    WINDOW = 256,
    MANY = 48, /* deferred calls of the one */
    FEW = 6,   /* and of the other */
};

/* ---- both under load ---- */

/* One manager, the thread that drives it, and what its results must be. */
struct side {
    struct rig rig;
    uint64_t mark; /* in every input: whose it is */
    tr_queue *queue;
    tr_session_id session;
    tr_turn_id turn;
    unsigned char seen[CALLS];
    pthread_t thread;
};

static struct side sides[2];

static uint64_t input_of(const struct side *side, uint64_t index)
{
    return side->mark << 32 | index;
}

static void side_open(struct side *side, uint64_t mark, enum rig_mode mode)
{
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    memset(side->seen, 0, sizeof side->seen);
    side->mark = mark;
    rig_open(&side->rig, mode, NULL);
    CHECK_EQ_INT(tr_queue_open(side->rig.manager, &side->queue), 0);
    options.queue = side->queue;
    options.user = side;
    CHECK_EQ_INT(tr_session_open(side->rig.manager, &options, &side->session), 0);
    CHECK_EQ_INT(tr_turn_open(side->rig.manager, side->session, NULL, &side->turn), 0);
}

static void side_close(struct side *side)
{
    CHECK_EQ_INT(tr_turn_close(side->rig.manager, side->turn, 0), 0);
    CHECK_EQ_INT(tr_session_close(side->rig.manager, side->session, 0), 0);
    rig_close(&side->rig);
}

static unsigned side_take(struct side *side, uint64_t timeout_ns)
{
    tr_batch *batch = NULL;
    int count = tr_queue_drain(side->queue, timeout_ns, WINDOW, &batch);
    CHECK(count >= 0);
    for (int at = 0; at < count; at++) {
        const tr_item *item = &batch->items[at];
        uint64_t value = 0;
        CHECK_EQ_INT(item->outcome, TR_OUTCOME_COMPLETED);
        CHECK_EQ_PTR(item->session_user, side);
        CHECK_EQ_U64(item->session, side->session);
        CHECK_EQ_U64(item->result.size, sizeof value);
        memcpy(&value, item->result.data, sizeof value);
        CHECK_EQ_U64(value >> 32, side->mark);
        uint64_t index = value & UINT32_MAX;
        CHECK(index < CALLS && side->seen[index] == 0);
        CHECK_EQ_PTR(item->user, &side->seen[index]);
        side->seen[index] = 1;
    }
    tr_batch_release(batch);
    return (unsigned)count;
}

static void *side_drive(void *argument)
{
    struct side *side = argument;
    unsigned taken = 0;
    for (unsigned index = 0; index < CALLS; index++) {
        uint64_t input = input_of(side, index);
        tr_request request = TR_REQUEST_INIT(side->turn, side->rig.echo);
        tr_launched launched;
        request.options.route = TR_ROUTE_BACKGROUND;
        request.input = (tr_bytes){&input, sizeof input};
        request.user = &side->seen[index];
        CHECK_EQ_INT(tr_launch(side->rig.manager, &request, &launched), TR_PENDING);
        while (index + 1 - taken >= WINDOW) {
            taken += side_take(side, RIG_PATIENCE_NS);
        }
    }
    while (taken < CALLS) {
        taken += side_take(side, RIG_PATIENCE_NS);
    }
    CHECK_EQ_INT(side_take(side, 0), 0);
    return NULL;
}

static void drive_both(enum rig_mode first, enum rig_mode second)
{
    side_open(&sides[0], 1, first);
    side_open(&sides[1], 2, second);
    for (unsigned at = 0; at < 2; at++) {
        sides[at].thread = rig_thread(side_drive, &sides[at]);
    }
    for (unsigned at = 0; at < 2; at++) {
        rig_join(sides[at].thread);
        tr_stats stats = rig_stats(&sides[at].rig);
        CHECK_EQ_U64(stats.accepted, CALLS);
        CHECK_EQ_U64(stats.completed, CALLS);
    }
    side_close(&sides[1]);
    side_close(&sides[0]);
}

CASE_TIMEOUT(two_managers, each_gets_its_own_results, RIG_TIMEOUT_SECONDS)
{
    drive_both(RIG_THREADED, RIG_THREADED);
}

CASE_TIMEOUT(two_managers, one_with_threads_and_one_inline, RIG_TIMEOUT_SECONDS)
{
    drive_both(RIG_THREADED, RIG_INLINE);
}

/* The one is closed and freed while the other works; a batch of it stays readable. */
CASE_TIMEOUT(two_managers, closing_one_leaves_the_other, RIG_TIMEOUT_SECONDS)
{
    side_open(&sides[0], 1, RIG_THREADED);
    side_open(&sides[1], 2, RIG_THREADED);
    sides[0].thread = rig_thread(side_drive, &sides[0]);
    tr_task_id task =
        rig_launch_text(&sides[1].rig, sides[1].rig.echo, "kept", TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(&sides[1].rig, sides[1].rig.turn);
    rig_shut(&sides[1].rig, RIG_PATIENCE_NS);
    tr_manager_free(sides[1].rig.manager);
    rig_check(batch, task, TR_OUTCOME_COMPLETED);
    CHECK(rig_bytes_are(batch->items[0].result, "kept"));
    tr_batch_release(batch);
    rig_join(sides[0].thread);
    side_close(&sides[0]);
}

/* ---- ids and handles ---- */

/* Two managers with deferred calls: `many` has issued more ids than `few`. */
struct pair {
    struct rig many;
    struct rig few;
    struct gate many_gate;
    struct gate few_gate;
    tr_task_id many_tasks[MANY];
    tr_task_id few_tasks[FEW];
};

static void defer_some(struct rig *rig, struct gate *gate, tr_task_id *tasks, unsigned count)
{
    gate_init(gate);
    for (unsigned at = 0; at < count; at++) {
        tasks[at] = rig_launch(rig, rig->deferred, gate, TR_ROUTE_FOREGROUND);
    }
    for (unsigned at = 0; at < count; at++) {
        rig_await_state(rig, tasks[at], TR_STATE_WAITING);
    }
}

static void finish_some(struct rig *rig, struct gate *gate, const tr_task_id *tasks, unsigned count)
{
    for (unsigned at = 0; at < count; at++) {
        CHECK_EQ_INT(tr_finish((tr_deferred){rig->manager, tasks[at]}, 0, NULL, 0), 0);
    }
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), count);
    gate_done(gate);
}

static void pair_open(struct pair *pair)
{
    rig_open(&pair->many, RIG_THREADED, NULL);
    rig_open(&pair->few, RIG_THREADED, NULL);
    defer_some(&pair->many, &pair->many_gate, pair->many_tasks, MANY);
    defer_some(&pair->few, &pair->few_gate, pair->few_tasks, FEW);
}

static bool has_issued(const struct pair *pair, tr_task_id task)
{
    bool issued = false;
    for (unsigned at = 0; at < FEW; at++) {
        issued = issued || pair->few_tasks[at] == task;
    }
    return issued;
}

CASE_TIMEOUT(two_managers, an_id_reaches_no_other_manager, RIG_TIMEOUT_SECONDS)
{
    static struct pair pair;
    unsigned refused = 0;
    unsigned reached = 0;
    pair_open(&pair);
    for (unsigned at = 0; at < MANY; at++) {
        tr_task_id task = pair.many_tasks[at];
        tr_snapshot snapshot;
        int error = tr_task_cancel(pair.few.manager, task, "mixed up");
        CHECK_EQ_INT(error, has_issued(&pair, task) ? 0 : TR_ENOENT);
        refused += error == TR_ENOENT;
        reached += error == 0;
        error = tr_task_snapshot(pair.few.manager, task, &snapshot);
        CHECK(error == TR_ENOENT || has_issued(&pair, task));
    }
    CHECK(refused >= MANY - FEW);
    CHECK_EQ_U64(rig_stats(&pair.few).cancelled, reached); /* its own, by the same number */
    /* Whatever the other was asked: nothing here has changed. */
    CHECK_EQ_U64(rig_stats(&pair.many).unfinished, MANY);
    CHECK_EQ_U64(rig_stats(&pair.many).cancelled, 0);
    finish_some(&pair.many, &pair.many_gate, pair.many_tasks, MANY);
    CHECK_EQ_U64(rig_stats(&pair.many).completed, MANY);
    for (unsigned at = 0; at < FEW; at++) {
        tr_deferred handle = {pair.few.manager, pair.few_tasks[at]};
        int error = tr_finish(handle, 0, NULL, 0);
        CHECK(error == 0 || error == TR_ENOENT || error == TR_EALREADY);
    }
    CHECK_EQ_INT(rig_turn_flush(&pair.few, pair.few.turn), FEW);
    gate_done(&pair.few_gate);
    rig_close(&pair.few);
    rig_close(&pair.many);
}

CASE_TIMEOUT(two_managers, what_it_never_issued_is_refused, RIG_TIMEOUT_SECONDS)
{
    static struct pair pair;
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    tr_turn_options turn_options = TR_TURN_OPTIONS_INIT;
    tr_session_id session = 0;
    tr_turn_id turn = 0;
    tr_queue *queue = NULL;
    tr_launched launched;
    tr_batch *batch = NULL;
    pair_open(&pair);
    /* Homes beyond those the other has ever opened. */
    for (unsigned at = 0; at < MANY; at++) {
        session = rig_session(&pair.many);
        turn = rig_turn(&pair.many, session);
    }
    CHECK_EQ_INT(tr_queue_open(pair.many.manager, &queue), 0);
    tr_manager *other = pair.few.manager;
    tr_request request = TR_REQUEST_INIT(turn, pair.few.echo);
    CHECK_EQ_INT(tr_launch(other, &request, &launched), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_open(other, session, NULL, &turn), TR_ENOENT);
    CHECK_EQ_INT(tr_session_close(other, session, 0), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_interrupt(other, turn, NULL), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_wait(other, turn, NULL, 0, 8, &batch), TR_ENOENT);
    CHECK_EQ_INT(tr_loop_take(other, session, 0, 8, &batch), TR_ENOENT);
    tr_deferred handle = {other, pair.many_tasks[MANY - 1]};
    CHECK_EQ_INT(tr_finish(handle, 0, NULL, 0), TR_ENOENT);
    options.queue = queue;
    CHECK_EQ_INT(tr_session_open(other, &options, &session), TR_EINVAL);
    turn_options.queue = queue;
    CHECK_EQ_INT(tr_turn_open(other, pair.few.session, &turn_options, &turn), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_close(queue), 0);
    CHECK_EQ_U64(rig_stats(&pair.few).accepted, FEW);
    finish_some(&pair.few, &pair.few_gate, pair.few_tasks, FEW);
    finish_some(&pair.many, &pair.many_gate, pair.many_tasks, MANY);
    rig_close(&pair.few);
    rig_close(&pair.many);
}

/* ---- one inside the other ---- */

/* Asks the other manager to do what it was asked for. */
static int run_by_other(tr_call *call, void *context)
{
    struct rig *other = context;
    tr_turn_id turn = 0;
    tr_batch *batch = NULL;
    tr_launched launched;
    CHECK_EQ_INT(tr_turn_open(other->manager, other->session, NULL, &turn), 0);
    tr_request request = TR_REQUEST_INIT(turn, other->echo);
    request.input = tr_call_input(call);
    CHECK_EQ_INT(tr_launch(other->manager, &request, &launched), TR_PENDING);
    CHECK_EQ_INT(tr_turn_wait(other->manager, turn, NULL, RIG_PATIENCE_NS, 8, &batch),
                 TR_WAIT_ITEMS);
    rig_check(batch, launched.task, TR_OUTCOME_COMPLETED);
    int status = tr_result_copy(call, batch->items[0].result.data, batch->items[0].result.size);
    tr_batch_release(batch);
    CHECK_EQ_INT(tr_turn_close(other->manager, turn, 0), 0);
    return status;
}

CASE_TIMEOUT(two_managers, a_tool_of_one_is_a_host_of_the_other, RIG_TIMEOUT_SECONDS)
{
    static struct rig inner;
    static struct rig outer;
    rig_open(&inner, RIG_THREADED, NULL);
    rig_open(&outer, RIG_THREADED, NULL);
    tr_tool_id tool = rig_tool(&outer, "by_other", run_by_other, &inner);
    for (unsigned at = 0; at < 100; at++) {
        tr_task_id task = rig_launch_text(&outer, tool, "passed on", TR_ROUTE_FOREGROUND);
        tr_batch *batch = rig_turn_take(&outer, outer.turn);
        rig_check(batch, task, TR_OUTCOME_COMPLETED);
        CHECK(rig_bytes_are(batch->items[0].result, "passed on"));
        tr_batch_release(batch);
    }
    CHECK_EQ_U64(rig_stats(&inner).completed, 100);
    rig_close(&outer);
    rig_close(&inner);
}
