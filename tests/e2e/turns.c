/*
 * Turns end to end: what tr_turn_wait returns and when, who is woken, detaching and attaching.
 */
#include "support/host.h"

/* ---- what wait returns ---- */

BOTH(turns, wait_returns_idle_when_nothing_was_launched)
{
    tr_batch *batch = (tr_batch *)(uintptr_t)1;
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, TR_FOREVER, 1, &batch), TR_WAIT_IDLE);
    CHECK_EQ_PTR(batch, NULL);
}

BOTH(turns, wait_refuses_bad_arguments)
{
    tr_batch *batch = (tr_batch *)(uintptr_t)8;
    tr_manager *manager = rig->manager;
    CHECK_EQ_INT(tr_turn_wait(manager, rig->turn, NULL, 0, 0, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_wait(manager, rig->turn, NULL, 0, 1025, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_wait(manager, rig->turn, NULL, 0, 1, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_wait(NULL, rig->turn, NULL, 0, 1, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_turn_wait(manager, 0, NULL, 0, 1, &batch), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_wait(manager, rig->session, NULL, 0, 1, &batch), TR_ENOENT);
    CHECK_EQ_INT(tr_turn_wait(manager, UINT64_MAX, NULL, 0, 1, &batch), TR_ENOENT);
    tr_turn_id closed = rig_turn(rig, rig->session);
    CHECK_EQ_INT(tr_turn_close(manager, closed, 0), 0);
    CHECK_EQ_INT(tr_turn_wait(manager, closed, NULL, 0, 1, &batch), TR_ENOENT);
    CHECK_EQ_PTR(batch, (tr_batch *)(uintptr_t)8); /* never written */
}

BOTH(turns, wait_takes_as_many_as_wanted)
{
    for (unsigned at = 0; at < 10; at++) {
        (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    }
    rig_wait_idle(rig);
    static const unsigned wanted[] = {1, 4, 3, 1024};
    static const unsigned expected[] = {1, 4, 3, 2};
    for (unsigned at = 0; at < 4; at++) {
        tr_batch *batch = NULL;
        CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, wanted[at], &batch),
                     TR_WAIT_ITEMS);
        CHECK_EQ_U64(batch->count, expected[at]);
        for (size_t item = 0; item < batch->count; item++) {
            bool last = at == 3 && item == 1; /* only the last one leaves the turn idle */
            CHECK_EQ_U64(batch->items[item].flags, last ? TR_ITEM_TURN_IDLE : 0);
        }
        tr_batch_release(batch);
    }
    rig_turn_is_idle(rig, rig->turn);
}

THREADED(turns, wait_times_out)
{
    struct gate gate;
    tr_batch *batch = NULL;
    gate_init(&gate);
    tr_task_id task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 0, 1, &batch), TR_ETIMEDOUT);
    uint64_t before = (uint64_t)(case_seconds() * 1e9);
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 3 * TR_MILLISECOND, 1, &batch),
                 TR_ETIMEDOUT);
    CHECK((uint64_t)(case_seconds() * 1e9) - before >= 3 * TR_MILLISECOND - 1000);
    CHECK_EQ_PTR(batch, NULL);
    gate_open(&gate);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    rig_wait_idle(rig);
    gate_done(&gate);
}

/* ---- waiters on other threads ---- */

struct waiter {
    struct rig *rig;
    tr_turn_id turn;
    tr_token *token;
    int result;
    unsigned items;
    unsigned done; /* atomic */
};

/* Waits once; again if it met await_waiter's look. */
static void *wait_once(void *argument)
{
    struct waiter *waiter = argument;
    tr_batch *batch = NULL;
    do {
        waiter->result = tr_turn_wait(waiter->rig->manager, waiter->turn, waiter->token,
                                      RIG_PATIENCE_NS, 1, &batch);
    } while (waiter->result == TR_EBUSY);
    waiter->items = batch == NULL ? 0 : (unsigned)batch->count;
    if (waiter->result >= 0) {
        tr_batch_release(batch);
    }
    __atomic_store_n(&waiter->done, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* Somebody waits for the turn: another one is told so. */
static void await_waiter(struct rig *rig, tr_turn_id turn)
{
    tr_batch *batch = NULL;
    WAIT_UNTIL(tr_turn_wait(rig->manager, turn, NULL, 0, 1, &batch) == TR_EBUSY,
               RIG_PATIENCE_SECONDS);
    CHECK_EQ_PTR(batch, NULL);
}

THREADED(turns, second_waiter_is_refused_and_items_wake_the_first)
{
    struct gate gate;
    gate_init(&gate);
    tr_task_id task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    struct waiter waiter = {rig, rig->turn, NULL, -1, 0, 0};
    pthread_t thread = rig_thread(wait_once, &waiter);
    await_waiter(rig, rig->turn);
    CHECK_EQ_INT(__atomic_load_n(&waiter.done, __ATOMIC_ACQUIRE), 0);
    gate_open(&gate);
    rig_join(thread);
    CHECK_EQ_INT(waiter.result, TR_WAIT_ITEMS);
    CHECK_EQ_INT(waiter.items, 1);
    rig_turn_is_idle(rig, rig->turn);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), TR_ENOENT);
    rig_wait_idle(rig);
    gate_done(&gate);
}

THREADED(turns, token_ends_the_waiting)
{
    struct gate gate;
    tr_token *token = NULL;
    tr_batch *batch = NULL;
    gate_init(&gate);
    CHECK_EQ_INT(tr_token_open(NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_token_open(&token), 0);
    tr_turn_id turns[2] = {rig->turn, rig_turn(rig, rig->session)};
    struct waiter waiters[2];
    pthread_t threads[2];
    for (unsigned at = 0; at < 2; at++) {
        struct waiter waiter = {rig, turns[at], token, -1, 0, 0};
        rig->turn = turns[at];
        (void)rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
        waiters[at] = waiter;
        threads[at] = rig_thread(wait_once, &waiters[at]);
        await_waiter(rig, turns[at]);
    }
    tr_token_cancel(token); /* one token, several waits */
    for (unsigned at = 0; at < 2; at++) {
        rig_join(threads[at]);
        CHECK_EQ_INT(waiters[at].result, TR_ECANCELED);
    }
    /* From then on every wait with it. Items go first: they are there. */
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, token, TR_FOREVER, 1, &batch), TR_ECANCELED);
    gate_open(&gate);
    rig_wait_idle(rig);
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, token, 0, 1, &batch), TR_WAIT_ITEMS);
    tr_batch_release(batch);
    CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, token, 0, 1, &batch), TR_WAIT_IDLE);
    tr_token_cancel(token);
    tr_token_cancel(NULL);
    tr_token_close(token);
    tr_token_close(NULL);
    gate_done(&gate);
}

THREADED(turns, closing_ends_the_waiting)
{
    struct gate gate;
    tr_batch *batch = NULL;
    gate_init(&gate);
    for (unsigned round = 0; round < 20; round++) {
        rig->turn = rig_turn(rig, rig->session);
        (void)rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
        struct waiter waiter = {rig, rig->turn, NULL, -1, 0, 0};
        pthread_t thread = rig_thread(wait_once, &waiter);
        if (round % 2 == 0) {
            await_waiter(rig, rig->turn);
        }
        CHECK_EQ_INT(tr_turn_close(rig->manager, rig->turn, 0), 0);
        rig_join(thread);
        /* It may have been quick enough to take the outcome `cancelled`. */
        CHECK(waiter.result == TR_ENOENT || waiter.result == TR_WAIT_ITEMS);
        CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, TR_FOREVER, 1, &batch), TR_ENOENT);
    }
    rig_wait_idle(rig);
    WAIT_UNTIL(rig_stats(rig).turns_used == 1, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}

THREADED(turns, manager_close_ends_the_waiting)
{
    struct gate gate;
    gate_init(&gate);
    (void)rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    struct waiter waiter = {rig, rig->turn, NULL, -1, 0, 0};
    pthread_t thread = rig_thread(wait_once, &waiter);
    await_waiter(rig, rig->turn);
    rig_shut(rig, 0);
    rig_join(thread);
    CHECK_EQ_INT(waiter.result, TR_WAIT_ITEMS); /* the outcome `cancelled` */
    rig_turn_is_idle(rig, rig->turn);
    gate_done(&gate);
    rig_free(rig);
    rig_open(rig, RIG_THREADED, NULL); /* for the case's own end */
}

/* ---- each waiter is woken by its own turn alone ---- */

enum {
    WAITERS = 64,
};

THREADED(turns, many_waiters_each_on_its_own)
{
    static struct gate gates[WAITERS];
    static struct waiter waiters[WAITERS];
    pthread_t threads[WAITERS];
    for (unsigned at = 0; at < WAITERS; at++) {
        gate_init(&gates[at]);
        rig->turn = rig_turn(rig, at % 3 == 0 ? rig->session : rig_session(rig));
        (void)rig_launch(rig, rig->awaiting, &gates[at], TR_ROUTE_FOREGROUND);
        struct waiter waiter = {rig, rig->turn, NULL, -1, 0, 0};
        waiters[at] = waiter;
        threads[at] = rig_thread(wait_once, &waiters[at]);
        await_waiter(rig, rig->turn);
    }
    for (unsigned step = 0; step < WAITERS; step++) {
        unsigned at = (step * 37 + 5) % WAITERS;
        gate_open(&gates[at]);
        rig_join(threads[at]);
        CHECK_EQ_INT(waiters[at].result, TR_WAIT_ITEMS);
        unsigned done = 0;
        for (unsigned other = 0; other < WAITERS; other++) {
            done += __atomic_load_n(&waiters[other].done, __ATOMIC_ACQUIRE);
        }
        CHECK_EQ_INT(done, step + 1); /* nobody else has come back */
    }
    rig_wait_idle(rig);
    for (unsigned at = 0; at < WAITERS; at++) {
        gate_done(&gates[at]);
    }
}

BOTH(turns, thousands_of_turns)
{
    enum {
        TURNS = 4000
    };
    static tr_turn_id turns[TURNS];
    static tr_task_id tasks[TURNS];
    for (unsigned at = 0; at < TURNS; at++) {
        turns[at] = rig_turn(rig, rig->session);
        rig->turn = turns[at];
        tasks[at] = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    }
    for (unsigned step = 0; step < TURNS; step++) {
        unsigned at = (step * 1567) % TURNS;
        rig_check_release(rig_turn_take(rig, turns[at]), tasks[at], TR_OUTCOME_COMPLETED);
        rig_turn_is_idle(rig, turns[at]);
        CHECK_EQ_INT(tr_turn_close(rig->manager, turns[at], 0), 0);
    }
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).turns_used, 1);
}

/* ---- idleness ---- */

THREADED(turns, background_does_not_hold_it_open)
{
    struct gate gate;
    gate_init(&gate);
    tr_task_id behind = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_BACKGROUND);
    rig_turn_is_idle(rig, rig->turn);
    tr_task_id front = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK_EQ_U64(batch->items[0].flags, TR_ITEM_TURN_IDLE);
    rig_check_release(batch, front, TR_OUTCOME_COMPLETED);
    rig_turn_is_idle(rig, rig->turn);
    gate_open(&gate);
    batch = rig_loop_take(rig, rig->session);
    CHECK_EQ_U64(batch->items[0].flags, 0);
    CHECK_EQ_INT(batch->items[0].kind, TR_KIND_BACKGROUND);
    rig_check_release(batch, behind, TR_OUTCOME_COMPLETED);
    rig_wait_idle(rig);
    gate_done(&gate);
}

/* ---- sessions ---- */

BOTH(turns, one_session_never_sees_anothers)
{
    tr_session_id other = rig_session(rig);
    tr_turn_id turn = rig_turn(rig, other);
    tr_request request = TR_REQUEST_INIT(turn, rig->nothing);
    request.options.route = TR_ROUTE_BACKGROUND;
    tr_task_id to_loop = rig_launch_request(rig, &request).task;
    request.options.delivery = TR_DELIVERY_MANUAL;
    tr_task_id manual = rig_launch_request(rig, &request).task;
    rig_wait_idle(rig);
    rig_loop_is_empty(rig, rig->session);
    rig_ready_is_empty(rig, rig->session);
    rig_check_release(rig_loop_take(rig, other), to_loop, TR_OUTCOME_COMPLETED);
    rig_check_release(rig_ready_take(rig, other), manual, TR_OUTCOME_COMPLETED);
}
