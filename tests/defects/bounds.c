/*
 * Defects that managers of this kind have had, by number; a case says what holds here instead:
 * memory, costs, events, listings, waiting. D6 to D9, D13, D14, D17, D23 to D25, D29.
 */
#include <sys/resource.h>
#include <time.h>

#include "support/host.h"

/* ---- help ---- */

static double cpu_seconds(void)
{
    struct timespec now;
    CHECK_EQ_INT(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Launches a call that does nothing and sees it end, so many times. */
static void run_many(struct rig *rig, unsigned count)
{
    for (unsigned round = 0; round < count; round++) {
        (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
        tr_batch_release(rig_turn_take(rig, rig->turn));
    }
}

/* ---- memory and costs ---- */

/* There: 1.9 KB stay for every task ever run. Here 64 records serve any number of them. */
CASE_TIMEOUT(defects, d6_a_released_task_costs_nothing, RIG_TIMEOUT_SECONDS)
{
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = 64;
    rig_open(&rig, RIG_THREADED, &config);
    run_many(&rig, 10000);
    tr_stats stats = rig_stats(&rig);
    CHECK_EQ_U64(stats.completed, 10000);
    CHECK_EQ_U64(stats.refused, 0);
    CHECK_EQ_U64(stats.tasks_used, 0);
    CHECK_EQ_U64(stats.bytes_used, 0);
    rig_close(&rig);
}

/* There: interrupting and listing scan all tasks ever run (104 ms after a million). Here 2000 of
 * each after 20 000 tasks take no second of this thread's own time; there they take a minute. */
BOTH(defects, d7_looking_costs_what_is_there_not_what_was)
{
    run_many(rig, 20000);
    tr_turn_id empty = rig_turn(rig, rig->session);
    double before = cpu_seconds();
    for (unsigned round = 0; round < 2000; round++) {
        tr_snapshot snapshot;
        tr_cursor cursor = {0, 0};
        CHECK_EQ_INT(tr_turn_interrupt(rig->manager, empty, NULL), 0);
        CHECK_EQ_INT(tr_task_list(rig->manager, NULL, &cursor, &snapshot, 1), 0);
    }
    CHECK(cpu_seconds() - before < 1.0);
}

/* There: an event channel without bound that holds the results. Here nobody reads, the log stays as
 * small as it is, every result comes, and the reader is told what it missed. */
CASE(defects, d8_the_event_log_is_bounded_and_holds_no_results)
{
    struct rig rig;
    tr_event events[64];
    tr_reader *reader = NULL;
    tr_config config = TR_CONFIG_INIT;
    config.events_max = 64;
    rig_open(&rig, RIG_THREADED, &config);
    CHECK_EQ_INT(tr_reader_open(rig.manager, NULL, &reader), 0);
    run_many(&rig, 1000);
    uint64_t seen = 0;
    uint64_t missed = 0;
    int count = 0;
    while ((count = tr_reader_read(reader, events, 64, 0)) > 0) {
        for (int at = 0; at < count; at++) {
            missed += events[at].type == TR_EVENT_GAP ? events[at].current : 0;
            seen += events[at].type != TR_EVENT_GAP;
        }
    }
    CHECK(seen > 0 && seen <= 64);
    CHECK_EQ_U64(seen + missed, 3000); /* QUEUED, STARTED, COMPLETED of each */
    tr_reader_close(reader);
    rig_close(&rig);
}

/* ---- launching ---- */

/* There: options are set after the launch, so a quick task slips past them; and an event may name a
 * task that cannot be found yet. */
BOTH(defects, d9_options_hold_from_launch_and_events_name_what_is_there)
{
    tr_reader *reader = NULL;
    tr_event events[16];
    CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, &reader), 0);
    for (unsigned round = 0; round < 300; round++) {
        tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
        request.options.route = TR_ROUTE_BACKGROUND;
        request.options.delivery = TR_DELIVERY_MANUAL;
        tr_task_id task = rig_launch_request(rig, &request).task;
        for (unsigned ended = 0; ended == 0;) {
            int count = tr_reader_read(reader, events, 16, RIG_PATIENCE_NS);
            CHECK(count > 0);
            for (int at = 0; at < count; at++) {
                tr_snapshot snapshot;
                CHECK_EQ_U64(events[at].snapshot.task, task);
                CHECK_EQ_INT(tr_task_snapshot(rig->manager, task, &snapshot), 0);
                CHECK_EQ_INT(snapshot.delivery, TR_DELIVERY_MANUAL);
                ended += events[at].type == TR_EVENT_COMPLETED;
            }
        }
        rig_check_release(rig_ready_take(rig, rig->session), task, TR_OUTCOME_COMPLETED);
    }
    rig_loop_is_empty(rig, rig->session);
    tr_reader_close(reader);
}

/* There: listings are in the order of strings, task-10 before task-2. */
THREADED(defects, d13_a_listing_is_in_the_order_of_launches)
{
    enum {
        COUNT = 25,
    };
    struct gate gate;
    tr_task_id tasks[COUNT];
    tr_snapshot snapshots[7];
    tr_cursor cursor = {0, 0};
    gate_init(&gate);
    for (unsigned at = 0; at < COUNT; at++) {
        tasks[at] = rig_launch(rig, rig->deferred, &gate, TR_ROUTE_BACKGROUND);
    }
    gate_await_entered(&gate, COUNT);
    unsigned shown = 0;
    int count = 0;
    do {
        count = tr_task_list(rig->manager, NULL, &cursor, snapshots, 7);
        CHECK(count >= 0);
        for (int at = 0; at < count; at++) {
            CHECK_EQ_U64(snapshots[at].task, tasks[shown++]);
        }
    } while (count == 7);
    CHECK_EQ_INT(shown, COUNT);
    for (unsigned at = 0; at < COUNT; at++) {
        CHECK_EQ_INT(tr_finish(gate.deferred[at], 0, NULL, 0), 0);
    }
    rig_wait_idle(rig);
    CHECK_EQ_INT(rig_loop_flush(rig, rig->session), COUNT);
    gate_done(&gate);
}

/* There: the same id is accepted twice and the first run is orphaned. */
BOTH(defects, d14_ids_are_the_managers_and_every_run_is_answered)
{
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
    request.call_id = rig_bytes("call-1");
    request.options.route = TR_ROUTE_FOREGROUND;
    tr_task_id first = rig_launch_request(rig, &request).task;
    tr_task_id second = rig_launch_request(rig, &request).task;
    CHECK(first != second);
    bool seen[2] = {false, false};
    for (unsigned round = 0; round < 2; round++) {
        tr_batch *batch = rig_turn_take(rig, rig->turn);
        CHECK(rig_bytes_are(batch->items[0].call_id, "call-1"));
        seen[batch->items[0].task == second] = true;
        tr_batch_release(batch);
    }
    CHECK(seen[0] && seen[1]);
    rig_turn_is_idle(rig, rig->turn);
}

/* ---- waiting ---- */

enum {
    WAITERS = 4,
    ROUNDS = 400,
};

struct waiter {
    struct rig *rig;
    tr_turn_id turn;
    unsigned resolved;
    long switches; /* how often it was put to sleep */
};

static long switches_now(void)
{
    struct rusage usage;
    CHECK_EQ_INT(getrusage(RUSAGE_THREAD, &usage), 0);
    return usage.ru_nvcsw;
}

/* Launches and waits without a timeout, over and over. */
static void *launch_and_wait(void *argument)
{
    struct waiter *waiter = argument;
    for (unsigned round = 0; round < ROUNDS; round++) {
        tr_request request = TR_REQUEST_INIT(waiter->turn, waiter->rig->nothing);
        tr_batch *batch = NULL;
        int result = 0;
        request.options.route = TR_ROUTE_FOREGROUND;
        (void)rig_launch_request(waiter->rig, &request);
        while ((result = tr_turn_wait(waiter->rig->manager, waiter->turn, NULL, TR_FOREVER, 8,
                                      &batch)) == TR_WAIT_ITEMS) {
            waiter->resolved += (unsigned)batch->count;
            tr_batch_release(batch);
        }
        CHECK_EQ_INT(result, TR_WAIT_IDLE);
    }
    return NULL;
}

/* There: wake-ups get lost, and waiters hang with nothing running. */
THREADED(defects, d17_no_waiter_misses_its_wake_up)
{
    struct waiter waiters[WAITERS];
    pthread_t threads[WAITERS];
    for (unsigned at = 0; at < WAITERS; at++) {
        waiters[at] = (struct waiter){rig, rig_turn(rig, rig->session), 0, 0};
        threads[at] = rig_thread(launch_and_wait, &waiters[at]);
    }
    for (unsigned at = 0; at < WAITERS; at++) {
        rig_join(threads[at]);
        CHECK_EQ_INT(waiters[at].resolved, ROUNDS);
    }
}

/* There: cancellation is polled every 10 ms. Here an idle manager's threads do not move: 200
 * functions await, and for 100 ms nobody enters the kernel for them, but for the look at the
 * numbers itself. */
THREADED(defects, d23_who_waits_costs_nothing)
{
    enum {
        COUNT = 200,
    };
    struct gate gate;
    tr_batch *batch = NULL;
    gate_init(&gate);
    for (unsigned at = 0; at < COUNT; at++) {
        (void)rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    }
    gate_await_entered(&gate, COUNT);
    tr_stats before;
    tr_stats after = rig_stats(rig);
    bool quiet = false;
    for (unsigned attempt = 0; attempt < 50 && !quiet; attempt++) { /* until it has come to rest */
        before = after;
        CHECK_EQ_INT(tr_turn_wait(rig->manager, rig->turn, NULL, 100 * TR_MILLISECOND, 1, &batch),
                     TR_ETIMEDOUT);
        after = rig_stats(rig);
        quiet = after.ring_enters - before.ring_enters <= 2 && after.wakes == before.wakes &&
                after.timers_fired == before.timers_fired;
    }
    CHECK(quiet);
    CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, NULL), COUNT);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), COUNT);
    gate_await_left(&gate, COUNT);
    WAIT_UNTIL(rig_stats(rig).fibers_used == 0, RIG_PATIENCE_SECONDS);
    gate_done(&gate);
}

static void *wait_for_one(void *argument)
{
    struct waiter *waiter = argument;
    tr_batch *batch = NULL;
    long before = switches_now();
    CHECK_EQ_INT(tr_turn_wait(waiter->rig->manager, waiter->turn, NULL, RIG_PATIENCE_NS, 8, &batch),
                 TR_WAIT_ITEMS);
    waiter->switches = switches_now() - before;
    waiter->resolved = (unsigned)batch->count;
    tr_batch_release(batch);
    return NULL;
}

/* There: one notification wakes the waiters of all turns. Here who waits sleeps through 2000 ends
 * of others: its thread is put to sleep a handful of times, not 2000. */
THREADED(defects, d24_a_waiter_sleeps_through_what_others_do)
{
    struct gate gate;
    struct waiter waiters[WAITERS];
    pthread_t threads[WAITERS];
    gate_init(&gate);
    for (unsigned at = 0; at < WAITERS; at++) {
        waiters[at] = (struct waiter){rig, rig_turn(rig, rig->session), 0, 0};
        tr_request request = TR_REQUEST_INIT(waiters[at].turn, rig->deferred);
        request.user = &gate;
        request.options.route = TR_ROUTE_FOREGROUND;
        (void)rig_launch_request(rig, &request);
        threads[at] = rig_thread(wait_for_one, &waiters[at]);
    }
    gate_await_entered(&gate, WAITERS);
    run_many(rig, 2000);
    for (unsigned at = 0; at < WAITERS; at++) {
        CHECK_EQ_INT(tr_finish(gate.deferred[at], 0, NULL, 0), 0);
    }
    for (unsigned at = 0; at < WAITERS; at++) {
        rig_join(threads[at]);
        CHECK_EQ_INT(waiters[at].resolved, 1);
        CHECK(waiters[at].switches < 100);
    }
    gate_done(&gate);
}

/* There: two readers split the stream of events. */
BOTH(defects, d25_every_reader_sees_every_event)
{
    tr_reader *readers[2];
    for (unsigned at = 0; at < 2; at++) {
        CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, &readers[at]), 0);
    }
    run_many(rig, 20);
    for (unsigned at = 0; at < 2; at++) {
        tr_event events[64];
        CHECK_EQ_INT(tr_reader_read(readers[at], events, 64, 0), 60);
        for (unsigned event = 0; event < 60; event++) {
            CHECK_EQ_U64(events[event].sequence, events[0].sequence + event);
        }
        tr_reader_close(readers[at]);
    }
}

/* ---- what was not there at all ---- */

static unsigned started[2]; /* in which order */
static unsigned started_count;

static int run_noting(tr_call *call, void *context)
{
    (void)context;
    tr_call_progress(call, 1, 2);
    started[started_count++] = tr_call_input(call).size > 0 ? 1 : 0; /* one worker: no race */
    return 0;
}

/* There: no limits, no priorities, no timeouts, no progress, no metrics. */
CASE_TIMEOUT(defects, d29_limits_priorities_timeouts_progress_and_numbers, RIG_TIMEOUT_SECONDS)
{
    struct rig rig;
    struct gate gate;
    tr_reader *reader = NULL;
    tr_reader_options wanted = TR_READER_OPTIONS_INIT;
    tr_event event;
    tr_launched launched;
    tr_config config = TR_CONFIG_INIT;
    config.workers = 1;
    config.substitutes_max = 1;
    config.slice_ns = 3600 * TR_SECOND; /* the one worker stays where it is */
    config.tasks_max = 3;
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, &config);
    tr_tool_id noting = rig_tool(&rig, "noting", run_noting, NULL);
    wanted.types = 1u << TR_EVENT_PROGRESS;
    CHECK_EQ_INT(tr_reader_open(rig.manager, &wanted, &reader), 0);
    tr_request request = TR_REQUEST_INIT(rig.turn, rig.gate);
    request.user = &gate;
    request.options.route = TR_ROUTE_FOREGROUND;
    request.options.run_timeout_ns = 10 * TR_MILLISECOND;
    tr_task_id blocker = rig_launch_request(&rig, &request).task;
    gate_await_entered(&gate, 1);
    request.tool = noting;
    request.options.run_timeout_ns = 0;
    request.options.priority = TR_PRIORITY_LOW;
    (void)rig_launch_request(&rig, &request);
    request.options.priority = TR_PRIORITY_HIGH;
    request.input = rig_bytes("high");
    (void)rig_launch_request(&rig, &request);
    CHECK_EQ_INT(tr_launch(rig.manager, &request, &launched), TR_EAGAIN);
    rig_check_release(rig_turn_take(&rig, rig.turn), blocker, TR_OUTCOME_TIMED_OUT);
    gate_open(&gate);
    CHECK_EQ_INT(rig_turn_flush(&rig, rig.turn), 2);
    CHECK(started_count == 2 && started[0] == 1 && started[1] == 0);
    CHECK_EQ_INT(tr_reader_read(reader, &event, 1, RIG_PATIENCE_NS), 1);
    CHECK(event.current == 1 && event.total == 2);
    tr_stats stats = rig_stats(&rig);
    CHECK(stats.accepted == 3 && stats.refused == 1 && stats.timed_out == 1 &&
          stats.completed == 2);
    tr_reader_close(reader);
    gate_await_left(&gate, 1);
    rig_close(&rig);
    gate_done(&gate);
}
