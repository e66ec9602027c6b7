/*
 * Drain queues end to end: what they bring, their descriptor, binding and closing; loop updates and
 * ready items as far as turns.c has not looked at them.
 */
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "support/host.h"

static tr_queue *open_queue(struct rig *rig)
{
    tr_queue *queue = NULL;
    CHECK_EQ_INT(tr_queue_open(rig->manager, &queue), 0);
    CHECK(queue != NULL);
    return queue;
}

static tr_session_id bound_session(struct rig *rig, tr_queue *queue)
{
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    tr_session_id session = 0;
    options.queue = queue;
    CHECK_EQ_INT(tr_session_open(rig->manager, &options, &session), 0);
    return session;
}

static tr_turn_id turn_with(struct rig *rig, tr_session_id session, tr_queue *queue, uint32_t flags)
{
    tr_turn_options options = TR_TURN_OPTIONS_INIT;
    tr_turn_id turn = 0;
    options.queue = queue;
    options.flags = flags;
    CHECK_EQ_INT(tr_turn_open(rig->manager, session, &options, &turn), 0);
    return turn;
}

static void check_empty(tr_queue *queue)
{
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_queue_drain(queue, 0, 1024, &batch), 0);
    CHECK_EQ_PTR(batch, NULL);
}

/* Releases what is bound, then the queue. */
static void close_all(struct rig *rig, tr_session_id session, tr_queue *queue)
{
    CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
    rig_wait_idle(rig);
    WAIT_UNTIL(tr_queue_close(queue) == 0, RIG_PATIENCE_SECONDS);
}

BOTH(drain, queue_refuses_bad_arguments)
{
    tr_queue *queue = open_queue(rig);
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_queue_open(rig->manager, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_open(NULL, &queue), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_drain(NULL, 0, 1, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_drain(queue, 0, 0, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_drain(queue, 0, 1025, &batch), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_drain(queue, 0, 1, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_fd(NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_queue_close(NULL), 0);
    tr_batch_release(NULL);
    check_empty(queue);
    CHECK_EQ_INT(tr_queue_drain(queue, 2 * TR_MILLISECOND, 1, &batch), 0);
    CHECK_EQ_INT(tr_queue_close(queue), 0);
}

BOTH(drain, takers_refuse_bad_arguments)
{
    typedef int (*take_function)(tr_manager * manager, tr_session_id session, uint64_t timeout_ns,
                                 size_t items_max, tr_batch * *ret_batch);
    static const take_function takers[] = {tr_loop_take, tr_ready_take};
    tr_queue *queue = open_queue(rig);
    tr_session_id bound = bound_session(rig, queue);
    for (unsigned at = 0; at < 2; at++) {
        tr_batch *batch = NULL;
        CHECK_EQ_INT(takers[at](NULL, rig->session, 0, 1, &batch), TR_EINVAL);
        CHECK_EQ_INT(takers[at](rig->manager, rig->session, 0, 0, &batch), TR_EINVAL);
        CHECK_EQ_INT(takers[at](rig->manager, rig->session, 0, 1025, &batch), TR_EINVAL);
        CHECK_EQ_INT(takers[at](rig->manager, rig->session, 0, 1, NULL), TR_EINVAL);
        CHECK_EQ_INT(takers[at](rig->manager, 0, 0, 1, &batch), TR_ENOENT);
        CHECK_EQ_INT(takers[at](rig->manager, rig->turn, 0, 1, &batch), TR_ENOENT);
        CHECK_EQ_INT(takers[at](rig->manager, bound, 0, 1, &batch), TR_ESTATE);
        CHECK_EQ_INT(takers[at](rig->manager, rig->session, 2 * TR_MILLISECOND, 1, &batch), 0);
        CHECK_EQ_PTR(batch, NULL);
    }
    close_all(rig, bound, queue);
}

/* Everything of a bound session comes through its queue, tagged, and nothing elsewhere. */
BOTH(drain, queue_brings_everything)
{
    int user = 0;
    tr_queue *queue = open_queue(rig);
    tr_session_options options = TR_SESSION_OPTIONS_INIT;
    options.queue = queue;
    options.user = &user;
    tr_session_id session = 0;
    CHECK_EQ_INT(tr_session_open(rig->manager, &options, &session), 0);
    tr_turn_id turn = rig_turn(rig, session);
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_turn_wait(rig->manager, turn, NULL, 0, 1, &batch), TR_ESTATE);
    static const struct {
        tr_route route;
        tr_delivery delivery;
        tr_channel channel;
        uint32_t flags;
    } table[] = {
        {TR_ROUTE_FOREGROUND, TR_DELIVERY_TO_LOOP, TR_CHANNEL_TURN, TR_ITEM_TURN_IDLE},
        {TR_ROUTE_BACKGROUND, TR_DELIVERY_TO_LOOP, TR_CHANNEL_LOOP, 0},
        {TR_ROUTE_BACKGROUND, TR_DELIVERY_MANUAL, TR_CHANNEL_READY, 0},
    };
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        tr_request request = TR_REQUEST_INIT(turn, rig->echo);
        request.input = rig_bytes("in");
        request.options.route = table[at].route;
        request.options.delivery = table[at].delivery;
        tr_task_id task = rig_launch_request(rig, &request).task;
        batch = rig_queue_take(queue);
        rig_check(batch, task, TR_OUTCOME_COMPLETED);
        CHECK_EQ_INT(batch->items[0].channel, table[at].channel);
        CHECK_EQ_U64(batch->items[0].flags, table[at].flags);
        CHECK_EQ_U64(batch->items[0].turn, turn);
        CHECK_EQ_U64(batch->items[0].session, session);
        CHECK_EQ_PTR(batch->items[0].session_user, &user);
        CHECK(rig_bytes_are(batch->items[0].result, "in"));
        tr_batch_release(batch);
    }
    check_empty(queue);
    CHECK_EQ_INT(tr_queue_close(queue), TR_EBUSY); /* the session is bound to it */
    CHECK_EQ_INT(tr_turn_close(rig->manager, turn, 0), 0);
    close_all(rig, session, queue);
}

BOTH(drain, binding_of_turns)
{
    tr_queue *of_session = open_queue(rig);
    tr_queue *of_turn = open_queue(rig);
    tr_session_id session = bound_session(rig, of_session);
    tr_turn_id turns[] = {
        turn_with(rig, session, NULL, 0),               /* as its session */
        turn_with(rig, session, of_turn, 0),            /* its own */
        turn_with(rig, session, NULL, TR_TURN_UNBOUND), /* none */
        turn_with(rig, rig->session, of_turn, 0),       /* though its session has none */
    };
    tr_queue *queues[] = {of_session, of_turn, NULL, of_turn};
    for (unsigned at = 0; at < 4; at++) {
        tr_batch *batch = NULL;
        rig->turn = turns[at];
        tr_task_id front = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
        batch = queues[at] == NULL ? rig_turn_take(rig, turns[at]) : rig_queue_take(queues[at]);
        CHECK_EQ_INT(batch->items[0].channel, TR_CHANNEL_TURN);
        rig_check_release(batch, front, TR_OUTCOME_COMPLETED);
        if (queues[at] != NULL) {
            CHECK_EQ_INT(tr_turn_wait(rig->manager, turns[at], NULL, 0, 1, &batch), TR_ESTATE);
        }
        tr_task_id behind = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
        batch = at == 3 ? rig_loop_take(rig, rig->session) : rig_queue_take(of_session);
        CHECK_EQ_INT(batch->items[0].channel, TR_CHANNEL_LOOP);
        rig_check_release(batch, behind, TR_OUTCOME_COMPLETED);
    }
    for (unsigned at = 0; at < 4; at++) {
        CHECK_EQ_INT(tr_turn_close(rig->manager, turns[at], 0), 0);
    }
    close_all(rig, session, of_session);
    rig_wait_idle(rig);
    CHECK_EQ_INT(tr_queue_close(of_turn), 0);
}

BOTH(drain, bindings_that_are_nonsense)
{
    struct rig other;
    rig_open(&other, RIG_INLINE, NULL);
    tr_queue *foreign = open_queue(&other);
    tr_queue *own = open_queue(rig);
    tr_session_options session = TR_SESSION_OPTIONS_INIT;
    tr_turn_options turn = TR_TURN_OPTIONS_INIT;
    uint64_t id = 7;
    session.queue = foreign;
    CHECK_EQ_INT(tr_session_open(rig->manager, &session, &id), TR_EINVAL);
    turn.queue = foreign;
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &turn, &id), TR_EINVAL);
    turn.queue = own;
    turn.flags = TR_TURN_UNBOUND;
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &turn, &id), TR_EINVAL);
    turn.queue = NULL;
    turn.flags = 2;
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &turn, &id), TR_EINVAL);
    turn.flags = 0;
    turn.reserved = 1;
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &turn, &id), TR_EINVAL);
    turn.reserved = 0;
    turn.size = 1;
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &turn, &id), TR_EINVAL);
    session.queue = NULL;
    session.size = 0;
    CHECK_EQ_INT(tr_session_open(rig->manager, &session, &id), TR_EINVAL);
    CHECK_EQ_U64(id, 7);
    CHECK_EQ_INT(tr_queue_close(own), 0);
    CHECK_EQ_INT(tr_queue_close(foreign), 0);
    rig_close(&other);
}

THREADED(drain, detach_comes_through_the_queue)
{
    struct gate gate;
    gate_init(&gate);
    tr_queue *queue = open_queue(rig);
    tr_session_id session = bound_session(rig, queue);
    rig->turn = rig_turn(rig, session);
    tr_task_id task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
    tr_batch *batch = rig_queue_take(queue);
    CHECK_EQ_INT(batch->items[0].type, TR_ITEM_DETACHED);
    CHECK_EQ_INT(batch->items[0].channel, TR_CHANNEL_TURN);
    CHECK_EQ_U64(batch->items[0].flags & TR_ITEM_TURN_IDLE, TR_ITEM_TURN_IDLE);
    gate_open(&gate);
    tr_batch *later = rig_queue_take(queue);
    CHECK_EQ_INT(later->items[0].channel, TR_CHANNEL_LOOP);
    tr_batch_release(batch); /* the earlier batch after the later one was taken */
    rig_check_release(later, task, TR_OUTCOME_COMPLETED);
    close_all(rig, session, queue);
    gate_done(&gate);
}

/* ---- the descriptor ---- */

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd entry = {fd, POLLIN, 0};
    int count = poll(&entry, 1, timeout_ms);
    CHECK(count >= 0);
    return count == 1;
}

BOTH(drain, descriptor_follows_the_queue)
{
    tr_queue *queue = open_queue(rig);
    tr_session_id session = bound_session(rig, queue);
    rig->turn = rig_turn(rig, session);
    int fd = tr_queue_fd(queue);
    CHECK(fd >= 0);
    CHECK_EQ_INT(tr_queue_fd(queue), fd);
    CHECK(!is_readable(fd, 0));
    for (unsigned round = 0; round < 20; round++) {
        tr_batch *batch = NULL;
        for (unsigned at = 0; at < 3; at++) {
            (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
        }
        CHECK(is_readable(fd, RIG_PATIENCE_SECONDS * 1000));
        rig_wait_idle(rig);
        CHECK_EQ_INT(tr_queue_drain(queue, 0, 2, &batch), 2);
        tr_batch_release(batch);
        CHECK(is_readable(fd, 0)); /* one is left */
        CHECK_EQ_INT(tr_queue_drain(queue, 0, 2, &batch), 1);
        tr_batch_release(batch);
        check_empty(queue);
        CHECK(!is_readable(fd, 0));
    }
    /* Made when something is there already. */
    (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
    rig_wait_idle(rig);
    CHECK(is_readable(fd, 0));
    tr_batch_release(rig_queue_take(queue));
    check_empty(queue);
    close_all(rig, session, queue);
}

THREADED(drain, descriptor_made_late)
{
    tr_queue *queue = open_queue(rig);
    tr_session_id session = bound_session(rig, queue);
    rig->turn = rig_turn(rig, session);
    (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
    rig_wait_idle(rig);
    CHECK(is_readable(tr_queue_fd(queue), 0));
    tr_batch_release(rig_queue_take(queue));
    close_all(rig, session, queue);
}

/* An event loop over several queues: it sleeps in epoll alone and sees every item. */
THREADED(drain, event_loop_with_epoll)
{
    enum {
        QUEUES = 4,
        CALLS = 3000
    };
    tr_queue *queues[QUEUES];
    tr_session_id sessions[QUEUES];
    tr_turn_id turns[QUEUES];
    unsigned taken[QUEUES] = {0};
    int loop = epoll_create1(EPOLL_CLOEXEC);
    CHECK(loop >= 0);
    for (unsigned at = 0; at < QUEUES; at++) {
        queues[at] = open_queue(rig);
        sessions[at] = bound_session(rig, queues[at]);
        turns[at] = rig_turn(rig, sessions[at]);
        struct epoll_event event = {.events = EPOLLIN | (at % 2 == 0 ? (uint32_t)EPOLLET : 0u),
                                    .data.u32 = at};
        CHECK_EQ_INT(epoll_ctl(loop, EPOLL_CTL_ADD, tr_queue_fd(queues[at]), &event), 0);
    }
    unsigned total = 0;
    unsigned launched = 0;
    while (total < CALLS) {
        while (launched < CALLS && launched - total < 40) {
            rig->turn = turns[launched * 7 % QUEUES];
            (void)rig_launch(rig, rig->nothing, NULL,
                             launched % 2 == 0 ? TR_ROUTE_BACKGROUND : TR_ROUTE_FOREGROUND);
            launched++;
        }
        struct epoll_event events[QUEUES];
        int count = epoll_wait(loop, events, QUEUES, RIG_PATIENCE_SECONDS * 1000);
        CHECK(count > 0);
        for (int at = 0; at < count; at++) {
            unsigned which = events[at].data.u32;
            tr_batch *batch = NULL;
            int got;
            while ((got = tr_queue_drain(queues[which], 0, 16, &batch)) > 0) {
                for (int item = 0; item < got; item++) {
                    CHECK_EQ_U64(batch->items[item].session, sessions[which]);
                }
                taken[which] += (unsigned)got;
                total += (unsigned)got;
                tr_batch_release(batch);
            }
            CHECK_EQ_INT(got, 0);
        }
    }
    CHECK_EQ_INT(total, CALLS);
    CHECK_EQ_INT(close(loop), 0);
    for (unsigned at = 0; at < QUEUES; at++) {
        CHECK_EQ_INT(taken[at], CALLS / QUEUES);
        close_all(rig, sessions[at], queues[at]);
    }
}

/* ---- threads ---- */

struct drainer {
    struct rig *rig;
    tr_queue *queue;
    tr_session_id session;
    int result;
    unsigned items;
};

/* As long as another drainer has the queue it is told so. */
static void *drain_once(void *argument)
{
    struct drainer *drainer = argument;
    tr_batch *batch = NULL;
    do {
        drainer->result =
            drainer->queue != NULL
                ? tr_queue_drain(drainer->queue, RIG_PATIENCE_NS, 8, &batch)
                : tr_loop_take(drainer->rig->manager, drainer->session, RIG_PATIENCE_NS, 8, &batch);
    } while (drainer->result == TR_EBUSY);
    drainer->items = batch == NULL ? 0 : (unsigned)batch->count;
    tr_batch_release(batch);
    return NULL;
}

THREADED(drain, one_consumer_at_a_time)
{
    tr_queue *queue = open_queue(rig);
    tr_session_id session = bound_session(rig, queue);
    struct drainer drainers[2] = {
        {rig, queue, 0, -1, 0},
        {rig, NULL, rig->session, -1, 0},
    };
    for (unsigned at = 0; at < 2; at++) {
        tr_batch *batch = NULL;
        pthread_t thread = rig_thread(drain_once, &drainers[at]);
        WAIT_UNTIL((at == 0 ? tr_queue_drain(queue, 0, 1, &batch)
                            : tr_loop_take(rig->manager, rig->session, 0, 1, &batch)) == TR_EBUSY,
                   RIG_PATIENCE_SECONDS);
        if (at == 0) {
            CHECK_EQ_INT(tr_queue_fd(queue), TR_EBUSY);
        }
        rig->turn = rig_turn(rig, at == 0 ? session : rig->session);
        (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND); /* wakes it */
        rig_join(thread);
        CHECK_EQ_INT(drainers[at].result, 1);
        CHECK_EQ_INT(drainers[at].items, 1);
    }
    close_all(rig, session, queue);
}

THREADED(drain, manager_close_ends_the_waiting)
{
    tr_queue *queue = open_queue(rig);
    tr_session_id session = bound_session(rig, queue);
    struct drainer drainers[2] = {
        {rig, queue, 0, -1, 0},
        {rig, NULL, rig->session, -1, 0},
    };
    pthread_t threads[2];
    for (unsigned at = 0; at < 2; at++) {
        tr_batch *batch = NULL;
        threads[at] = rig_thread(drain_once, &drainers[at]);
        WAIT_UNTIL((at == 0 ? tr_queue_drain(queue, 0, 1, &batch)
                            : tr_loop_take(rig->manager, rig->session, 0, 1, &batch)) == TR_EBUSY,
                   RIG_PATIENCE_SECONDS);
    }
    (void)session;
    rig_shut(rig, 0);
    rig_join(threads[0]);
    rig_join(threads[1]);
    CHECK_EQ_INT(drainers[0].result, TR_ECLOSED);
    CHECK_EQ_INT(drainers[1].result, TR_ECLOSED);
    rig_free(rig);
    rig_open(rig, RIG_THREADED, NULL); /* for the case's own end */
}

/* A queue is given back while the worker that filled it last may still be on its way out. */
THREADED(drain, queues_come_and_go_under_load)
{
    for (unsigned round = 0; round < 1500; round++) {
        tr_queue *queue = open_queue(rig);
        tr_session_id session = bound_session(rig, queue);
        rig->turn = rig_turn(rig, session);
        if (round % 2 == 0) {
            CHECK(tr_queue_fd(queue) >= 0);
        }
        (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
        tr_batch_release(rig_queue_take(queue));
        CHECK_EQ_INT(tr_session_close(rig->manager, session, 0), 0);
        WAIT_UNTIL(tr_queue_close(queue) == 0, RIG_PATIENCE_SECONDS);
    }
}

/* ---- batches ---- */

BOTH(drain, batches_outlive_the_manager)
{
    char text[200];
    memset(text, 'b', sizeof text);
    text[sizeof text - 1] = '\0';
    (void)rig_launch_text(rig, rig->echo, text, TR_ROUTE_FOREGROUND);
    (void)rig_launch_text(rig, rig->echo, text, TR_ROUTE_BACKGROUND);
    tr_batch *front = rig_turn_take(rig, rig->turn);
    tr_batch *behind = rig_loop_take(rig, rig->session);
    rig_shut(rig, 0);
    rig_free(rig);
    CHECK(rig_bytes_are(front->items[0].result, text));
    CHECK(rig_bytes_are(behind->items[0].result, text));
    CHECK_EQ_STR(front->items[0].tool_name, "echo");
    tr_batch_release(front);
    CHECK(rig_bytes_are(behind->items[0].result, text));
    tr_batch_release(behind);
    rig_open(rig, rig->mode, NULL); /* for the case's own end */
}

BOTH(drain, free_takes_queues_and_items_along)
{
    tr_queue *queue = open_queue(rig);
    tr_session_id session = bound_session(rig, queue);
    CHECK(tr_queue_fd(queue) >= 0);
    rig->turn = rig_turn(rig, session);
    (void)rig_launch_text(rig, rig->echo, "never taken", TR_ROUTE_FOREGROUND);
    (void)rig_launch_text(rig, rig->echo, "never taken", TR_ROUTE_BACKGROUND);
    tr_reader *reader = NULL;
    CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, &reader), 0);
    CHECK(tr_reader_fd(reader) >= 0);
}
