/*
 * Room end to end: near the bound every free slot is found, wherever it lies; who waits for room is
 * told, also when there will never be any; the descriptor that says when to try again.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "support/gated.h"

/* ---- every free slot ---- */

enum {
    THREADS = 8, /* each with a session, hence a lane, of its own */
};

struct crowd {
    struct rig rig;
    pthread_barrier_t barrier;
    unsigned rounds;
    unsigned each; /* launches per thread and round */
    bool timers;
};

struct member {
    struct crowd *crowd;
    tr_turn_id turn;
    unsigned number;
};

/* Takes and releases what it launched. */
static void settle(struct crowd *crowd, tr_turn_id turn)
{
    for (unsigned taken = 0; taken < crowd->each;) {
        tr_batch *batch = NULL;
        CHECK_EQ_INT(tr_turn_wait(crowd->rig.manager, turn, NULL, RIG_PATIENCE_NS, 64, &batch),
                     TR_WAIT_ITEMS);
        taken += (unsigned)batch->count;
        tr_batch_release(batch);
    }
}

static void *launch_in_rounds(void *argument)
{
    struct member *self = argument;
    struct crowd *crowd = self->crowd;
    for (unsigned round = 0; round < crowd->rounds; round++) {
        (void)pthread_barrier_wait(&crowd->barrier); /* now every slot is free */
        for (unsigned at = 0; at < crowd->each; at++) {
            tr_request request = TR_REQUEST_INIT(self->turn, crowd->rig.nothing);
            tr_launched launched;
            request.options.total_timeout_ns = crowd->timers ? 3600 * TR_SECOND : 0;
            CHECK_EQ_INT(tr_launch(crowd->rig.manager, &request, &launched), TR_PENDING);
        }
        (void)pthread_barrier_wait(&crowd->barrier); /* now none is */
        if (self->number == round % THREADS) {
            CHECK_EQ_INT(rig_try(&crowd->rig, self->turn, crowd->rig.nothing, NULL, 0), TR_EAGAIN);
        }
        (void)pthread_barrier_wait(&crowd->barrier);
        settle(crowd, self->turn);
    }
    return NULL;
}

/* All together launch exactly as many as there may be: none is refused, whichever lane has the
 * free slots. */
static void check_every_slot(unsigned each, bool timers, unsigned rounds)
{
    static struct crowd crowd;
    struct member members[THREADS];
    pthread_t threads[THREADS];
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = THREADS * each;
    memset((void *)&crowd, 0, sizeof crowd);
    rig_open(&crowd.rig, RIG_THREADED, &config);
    CHECK_EQ_INT(pthread_barrier_init(&crowd.barrier, NULL, THREADS), 0);
    crowd.rounds = rounds;
    crowd.each = each;
    crowd.timers = timers;
    for (unsigned at = 0; at < THREADS; at++) {
        members[at] = (struct member){&crowd, rig_turn(&crowd.rig, rig_session(&crowd.rig)), at};
        threads[at] = rig_thread(launch_in_rounds, &members[at]);
    }
    for (unsigned at = 0; at < THREADS; at++) {
        rig_join(threads[at]);
    }
    CHECK_EQ_U64(rig_stats(&crowd.rig).refused, rounds);
    CHECK_EQ_U64(rig_stats(&crowd.rig).completed, (uint64_t)rounds * THREADS * each);
    CHECK_EQ_INT(pthread_barrier_destroy(&crowd.barrier), 0);
    rig_close(&crowd.rig);
}

CASE_TIMEOUT(room, one_slot_for_each_thread, 120)
{
    check_every_slot(1, false, 500);
}

CASE_TIMEOUT(room, some_slots_for_each_thread, 120)
{
    check_every_slot(13, false, 200);
}

/* Timers of ended tasks hold their slots until the ring thread has looked: that is waited for. */
CASE_TIMEOUT(room, slots_that_timers_held, 120)
{
    check_every_slot(5, true, 100);
}

/* One lane has had all the slots; another needs them all, one launch after the other. */
CASE_TIMEOUT(room, all_slots_of_another_lane, RIG_TIMEOUT_SECONDS)
{
    enum {
        MAX = 200
    };
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = MAX;
    rig_open(&rig, RIG_THREADED, &config);
    for (unsigned round = 0; round < 40; round++) {
        tr_turn_id turn = rig_turn(&rig, rig_session(&rig));
        for (unsigned at = 0; at < MAX; at++) {
            CHECK_EQ_INT(rig_try(&rig, turn, rig.nothing, NULL, 0), TR_PENDING);
        }
        CHECK_EQ_INT(rig_try(&rig, turn, rig.nothing, NULL, 0), TR_EAGAIN);
        CHECK_EQ_INT(rig_turn_flush(&rig, turn), MAX);
    }
    rig_close(&rig);
}

/* ---- homes ---- */

static void *open_and_close(void *argument)
{
    struct member *self = argument;
    struct crowd *crowd = self->crowd;
    for (unsigned round = 0; round < crowd->rounds; round++) {
        tr_session_id session = 0;
        tr_turn_id turn = 0;
        (void)pthread_barrier_wait(&crowd->barrier);
        CHECK_EQ_INT(tr_session_open(crowd->rig.manager, NULL, &session), 0);
        CHECK_EQ_INT(tr_turn_open(crowd->rig.manager, session, NULL, &turn), 0);
        tr_request request = TR_REQUEST_INIT(turn, crowd->rig.nothing);
        tr_launched launched;
        request.options.total_timeout_ns = 3600 * TR_SECOND;
        CHECK_EQ_INT(tr_launch(crowd->rig.manager, &request, &launched), TR_PENDING);
        settle(crowd, turn);
        CHECK_EQ_INT(tr_session_close(crowd->rig.manager, session, 0), 0);
        (void)pthread_barrier_wait(&crowd->barrier);
    }
    return NULL;
}

CASE_TIMEOUT(room, as_many_homes_as_there_may_be, 120)
{
    static struct crowd crowd;
    struct member members[THREADS];
    pthread_t threads[THREADS];
    tr_config config = TR_CONFIG_INIT;
    config.sessions_max = THREADS + 1; /* the rig has one */
    config.turns_max = THREADS + 1;
    memset((void *)&crowd, 0, sizeof crowd);
    rig_open(&crowd.rig, RIG_THREADED, &config);
    CHECK_EQ_INT(pthread_barrier_init(&crowd.barrier, NULL, THREADS), 0);
    crowd.rounds = 300;
    crowd.each = 1;
    for (unsigned at = 0; at < THREADS; at++) {
        members[at] = (struct member){&crowd, 0, at};
        threads[at] = rig_thread(open_and_close, &members[at]);
    }
    for (unsigned at = 0; at < THREADS; at++) {
        rig_join(threads[at]);
    }
    CHECK_EQ_INT(pthread_barrier_destroy(&crowd.barrier), 0);
    rig_close(&crowd.rig);
}

/* ---- waiting for room that never comes ---- */

struct waiter {
    struct rig *rig;
    tr_turn_id turn;
    int status;
};

static void *wait_for_room(void *argument)
{
    struct waiter *self = argument;
    self->status = rig_try(self->rig, self->turn, self->rig->nothing, NULL, TR_FOREVER);
    return NULL;
}

/* A launch that waits for room hears at once that its turn, or session, is gone. */
static void check_gone(enum rig_mode mode, bool session_too)
{
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 1;
    rig_open(&rig, mode, &config);
    for (unsigned round = 0; round < 50; round++) {
        tr_session_id session = rig_session(&rig);
        struct waiter waiter = {&rig, rig_turn(&rig, session), 1};
        CHECK_EQ_INT(rig_try(&rig, rig.turn, rig.nothing, NULL, 0), TR_PENDING);
        pthread_t thread = rig_thread(wait_for_room, &waiter);
        if (round % 2 == 0) {
            (void)sched_yield();
        }
        if (session_too) {
            CHECK_EQ_INT(tr_session_close(rig.manager, session, 0), 0);
        } else {
            CHECK_EQ_INT(tr_turn_close(rig.manager, waiter.turn, 0), 0);
        }
        rig_join(thread);
        CHECK_EQ_INT(waiter.status, TR_ENOENT);
        CHECK_EQ_INT(rig_turn_flush(&rig, rig.turn), 1);
    }
    rig_close(&rig);
}

CASE_TIMEOUT(room, closed_turn_ends_the_waiting, RIG_TIMEOUT_SECONDS)
{
    check_gone(RIG_THREADED, false);
}

CASE_TIMEOUT(room, closed_session_ends_the_waiting, RIG_TIMEOUT_SECONDS)
{
    check_gone(RIG_THREADED, true);
}

CASE_TIMEOUT(room, closed_turn_ends_the_waiting_inline, RIG_TIMEOUT_SECONDS)
{
    check_gone(RIG_INLINE, false);
}

/* Inputs of calls that wait, or are launched together, do not take each other's room. */
static void *wait_with_input(void *argument)
{
    static const unsigned char bytes[10000];
    struct waiter *self = argument;
    tr_request request = TR_REQUEST_INIT(self->turn, self->rig->nothing);
    tr_launched launched;
    request.input.data = bytes;
    request.input.size = sizeof bytes;
    request.admit_timeout_ns = RIG_PATIENCE_NS;
    self->status = tr_launch(self->rig->manager, &request, &launched);
    return NULL;
}

THREADED(room, waiting_inputs_hold_no_room)
{
    enum {
        WAITERS = 6
    };
    struct rig small;
    tr_config config = TR_CONFIG_INIT;
    (void)rig;
    config.bytes_max = 10000;
    rig_open(&small, RIG_THREADED, &config);
    for (unsigned round = 0; round < 20; round++) {
        struct waiter first = {&small, small.turn, 1};
        struct waiter waiters[WAITERS];
        pthread_t threads[WAITERS];
        (void)wait_with_input(&first);
        CHECK_EQ_INT(first.status, TR_PENDING);
        for (unsigned at = 0; at < WAITERS; at++) {
            waiters[at] = first;
            threads[at] = rig_thread(wait_with_input, &waiters[at]);
        }
        for (unsigned taken = 0; taken < WAITERS + 1;) { /* each makes room for the next */
            tr_batch *batch = NULL;
            int result = tr_turn_wait(small.manager, small.turn, NULL, RIG_PATIENCE_NS, 1, &batch);
            CHECK(result >= 0);
            taken += result == TR_WAIT_ITEMS;
            tr_batch_release(batch);
        }
        for (unsigned at = 0; at < WAITERS; at++) {
            rig_join(threads[at]);
            CHECK_EQ_INT(waiters[at].status, TR_PENDING);
        }
        CHECK_EQ_U64(rig_stats(&small).bytes_used, 0);
    }
    /* One batch whose inputs together are far beyond the bound: the first goes through. */
    static const unsigned char bytes[9000];
    tr_request requests[20];
    tr_launched launched[20];
    for (unsigned at = 0; at < 20; at++) {
        requests[at] = (tr_request)TR_REQUEST_INIT(small.turn, small.nothing);
        requests[at].input.data = bytes;
        requests[at].input.size = sizeof bytes;
    }
    CHECK_EQ_INT(tr_launch_batch(small.manager, requests, 20, launched), 2);
    CHECK_EQ_INT(launched[2].status, TR_EAGAIN);
    CHECK_EQ_INT(rig_turn_flush(&small, small.turn), 2);
    rig_close(&small);
}

/* ---- the descriptor ---- */

static bool is_readable(int fd, int timeout_ms)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct epoll_event ready;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epoll >= 0);
    CHECK_EQ_INT(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
    int count = epoll_wait(epoll, &ready, 1, timeout_ms);
    CHECK_EQ_INT(close(epoll), 0);
    return count == 1;
}

static void read_it(int fd)
{
    eventfd_t count = 0;
    CHECK_EQ_INT(eventfd_read(fd, &count), 0);
}

BOTH(room, descriptor_says_when_to_try_again)
{
    CHECK_EQ_INT(tr_manager_room_fd(NULL), TR_EINVAL);
    int fd = tr_manager_room_fd(rig->manager);
    CHECK(fd >= 0);
    CHECK_EQ_INT(tr_manager_room_fd(rig->manager), fd);
    CHECK(!is_readable(fd, 0));
    for (unsigned at = 0; at < 100; at++) { /* nothing was refused: nobody is told */
        CHECK_EQ_INT(rig_try(rig, rig->turn, rig->nothing, NULL, 0), TR_PENDING);
    }
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 100);
    CHECK(!is_readable(fd, 0));
}

static void check_descriptor(enum rig_mode mode)
{
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 2;
    rig_open(&rig, mode, &config);
    int fd = tr_manager_room_fd(rig.manager);
    for (unsigned round = 0; round < 100; round++) {
        CHECK_EQ_INT(rig_try(&rig, rig.turn, rig.nothing, NULL, 0), TR_PENDING);
        CHECK_EQ_INT(rig_try(&rig, rig.turn, rig.nothing, NULL, 0), TR_PENDING);
        CHECK_EQ_INT(rig_try(&rig, rig.turn, rig.nothing, NULL, 0), TR_EAGAIN);
        rig_wait_idle(&rig);
        CHECK(!is_readable(fd, 0)); /* ended is not released */
        tr_batch *batch = rig_turn_take(&rig, rig.turn);
        tr_batch_release(batch);
        CHECK(is_readable(fd, RIG_PATIENCE_SECONDS * 1000));
        if (round % 2 == 0) {
            read_it(fd);
        } /* else the next refusal clears it */
        CHECK_EQ_INT(rig_turn_flush(&rig, rig.turn), 1);
    }
    /* Closing makes it readable: whoever waits for room learns that there will be none. */
    (void)rig_try(&rig, rig.turn, rig.nothing, NULL, 0);
    (void)rig_try(&rig, rig.turn, rig.nothing, NULL, 0);
    CHECK_EQ_INT(rig_try(&rig, rig.turn, rig.nothing, NULL, 0), TR_EAGAIN);
    CHECK(!is_readable(fd, 0));
    rig_shut(&rig, RIG_PATIENCE_NS);
    CHECK(is_readable(fd, 0));
    CHECK_EQ_INT(rig_try(&rig, rig.turn, rig.nothing, NULL, 0), TR_ECLOSED);
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_turn_wait(rig.manager, rig.turn, NULL, 0, 64, &batch), TR_WAIT_ITEMS);
    rig_free(&rig);
    tr_batch_release(batch); /* gives room back to nobody */
}

CASE_TIMEOUT(room, descriptor_after_a_refusal_threaded, RIG_TIMEOUT_SECONDS)
{
    check_descriptor(RIG_THREADED);
}

CASE_TIMEOUT(room, descriptor_after_a_refusal_inline, RIG_TIMEOUT_SECONDS)
{
    check_descriptor(RIG_INLINE);
}

CASE_TIMEOUT(room, descriptor_for_fibers_and_bytes, RIG_TIMEOUT_SECONDS)
{
    static unsigned char bytes[10000];
    struct rig rig;
    struct gate gate;
    tr_config config = TR_CONFIG_INIT;
    config.fibers_max = 1;
    config.bytes_max = sizeof bytes;
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, &config);
    int fd = tr_manager_room_fd(rig.manager);
    CHECK_EQ_INT(rig_try(&rig, rig.turn, rig.awaiting, &gate, 0), TR_PENDING);
    CHECK_EQ_INT(rig_try(&rig, rig.turn, rig.awaiting, &gate, 0), TR_EAGAIN);
    CHECK(!is_readable(fd, 0));
    gate_open(&gate);
    CHECK(is_readable(fd, RIG_PATIENCE_SECONDS * 1000));
    CHECK_EQ_INT(rig_try(&rig, rig.turn, rig.awaiting, &gate, RIG_PATIENCE_NS), TR_PENDING);
    CHECK_EQ_INT(rig_turn_flush(&rig, rig.turn), 2);
    WAIT_UNTIL(rig_stats(&rig).fibers_used == 0, RIG_PATIENCE_SECONDS); /* all room there is */

    tr_request request = TR_REQUEST_INIT(rig.turn, rig.echo);
    tr_launched launched;
    request.input.data = bytes;
    request.input.size = sizeof bytes;
    unsigned accepted = 0;
    int status = tr_launch(rig.manager, &request, &launched);
    while (status == TR_PENDING) {
        accepted += 1;
        rig_wait_idle(&rig);
        status = tr_launch(rig.manager, &request, &launched);
    }
    CHECK_EQ_INT(status, TR_EAGAIN);
    CHECK(accepted > 0);
    CHECK(!is_readable(fd, 0));
    CHECK_EQ_INT(rig_turn_flush(&rig, rig.turn), accepted);
    CHECK(is_readable(fd, RIG_PATIENCE_SECONDS * 1000));
    rig_close(&rig);
    gate_done(&gate);
}

/* A host of one thread per task that waits with epoll and nothing else: no signal is lost. */
struct host {
    struct rig *rig;
    tr_turn_id turn;
    unsigned wanted;
    unsigned waits;
};

static void *launch_by_epoll(void *argument)
{
    struct host *self = argument;
    int fd = tr_manager_room_fd(self->rig->manager);
    for (unsigned done = 0; done < self->wanted;) {
        int status = rig_try(self->rig, self->turn, self->rig->nothing, NULL, 0);
        if (status == TR_EAGAIN) {
            CHECK(is_readable(fd, RIG_PATIENCE_SECONDS * 1000));
            self->waits += 1;
        } else {
            CHECK_EQ_INT(status, TR_PENDING);
            done += 1;
        }
    }
    return NULL;
}

CASE_TIMEOUT(room, epoll_misses_nothing, 120)
{
    enum {
        HOSTS = 3,
        EACH = 3000
    };
    struct rig rig;
    struct host hosts[HOSTS];
    pthread_t threads[HOSTS];
    tr_config config = TR_CONFIG_INIT;
    tr_queue *queue = NULL;
    config.tasks_max = 3;
    rig_open(&rig, RIG_THREADED, &config);
    CHECK_EQ_INT(tr_queue_open(rig.manager, &queue), 0);
    for (unsigned at = 0; at < HOSTS; at++) {
        tr_turn_options options = TR_TURN_OPTIONS_INIT;
        options.queue = queue;
        hosts[at] = (struct host){&rig, 0, EACH, 0};
        CHECK_EQ_INT(tr_turn_open(rig.manager, rig_session(&rig), &options, &hosts[at].turn), 0);
    }
    for (unsigned at = 0; at < HOSTS; at++) {
        threads[at] = rig_thread(launch_by_epoll, &hosts[at]);
    }
    for (unsigned taken = 0; taken < HOSTS * EACH;) {
        tr_batch *batch = NULL;
        int count = tr_queue_drain(queue, RIG_PATIENCE_NS, 64, &batch);
        CHECK(count > 0);
        taken += (unsigned)count;
        tr_batch_release(batch);
    }
    unsigned waits = 0;
    for (unsigned at = 0; at < HOSTS; at++) {
        rig_join(threads[at]);
        waits += hosts[at].waits;
    }
    CHECK(waits > 0);
    rig_close(&rig);
}
