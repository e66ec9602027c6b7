/*
 * Brief tools (TR_TOOL_BRIEF): the thread that waits for a turn runs their calls itself, unless
 * that could make anything late; what it does not run, workers do. Each call has one resolution,
 * whoever ran it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "support/host.h"

/* What a call of `note` leaves behind: its user pointer. */
struct note {
    unsigned runs;   /* atomic */
    pthread_t where; /* before `runs` */
};

static int run_note(tr_call *call, void *context)
{
    struct note *note = tr_call_user(call);
    (void)context;
    note->where = pthread_self();
    (void)__atomic_fetch_add(&note->runs, 1, __ATOMIC_RELEASE);
    return tr_result_copy(call, "noted", 5);
}

static unsigned runs_of(struct note *note)
{
    return __atomic_load_n(&note->runs, __ATOMIC_ACQUIRE);
}

static bool ran_here(struct note *note)
{
    return runs_of(note) == 1 && pthread_equal(note->where, pthread_self()) != 0;
}

static tr_tool_id brief_tool(struct rig *rig, const char *name, tr_tool_function function,
                             void *context)
{
    tr_tool_id id = 0;
    tr_tool tool = TR_TOOL_INIT(name, function);
    tool.flags = TR_TOOL_BRIEF;
    tool.context = context;
    CHECK_EQ_INT(tr_tool_register(rig->manager, &tool, &id), 0);
    return id;
}

/* Launches a call for each note into the rig's turn, as one batch. */
static void launch_notes(struct rig *rig, tr_tool_id tool, struct note *notes, size_t count)
{
    tr_request requests[64];
    tr_launched launched[64];
    CHECK(count <= 64);
    memset(notes, 0, count * sizeof(*notes));
    for (size_t at = 0; at < count; at++) {
        requests[at] = (tr_request)TR_REQUEST_INIT(rig->turn, tool);
        requests[at].user = &notes[at];
    }
    CHECK_EQ_INT(tr_launch_batch(rig->manager, requests, count, launched), (int)count);
    for (size_t at = 0; at < count; at++) {
        CHECK_EQ_INT(launched[at].status, TR_PENDING);
    }
}

/* Every call has run once and was delivered. How many ran on this thread. */
static unsigned take_notes(struct rig *rig, struct note *notes, size_t count)
{
    unsigned here = 0;
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), (int)count);
    for (size_t at = 0; at < count; at++) {
        CHECK_EQ_INT(runs_of(&notes[at]), 1);
        here += ran_here(&notes[at]);
    }
    return here;
}

THREADED(help, waiting_thread_runs_all_calls_of_a_turn)
{
    enum {
        CALLS = 5,
        ROUNDS_MAX = 500
    };
    uint64_t here = 0;
    unsigned most = 0;
    /* A thread that loses its processor between launch and wait finds nothing to help with; and a
     * tool that was slow is not kept: each round has a tool that nobody knows. */
    for (unsigned round = 0; round < ROUNDS_MAX && most < CALLS; round++) {
        struct note notes[CALLS];
        char name[32];
        (void)snprintf(name, sizeof name, "note %u", round);
        tr_tool_id tool = brief_tool(rig, name, run_note, NULL);
        launch_notes(rig, tool, notes, CALLS);
        unsigned now = take_notes(rig, notes, CALLS);
        here += now;
        most = now > most ? now : most;
    }
    CHECK_EQ_INT(most, CALLS);
    tr_stats stats = rig_stats(rig);
    CHECK_EQ_U64(stats.helped, here);
    CHECK_EQ_U64(stats.started, stats.completed);
}

BOTH(help, results_and_events_are_as_ever)
{
    tr_tool_id tool = brief_tool(rig, "note", run_note, NULL);
    tr_reader *reader = NULL;
    CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, &reader), 0);
    struct note note = {0};
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.user = &note;
    tr_task_id task = rig_launch_request(rig, &request).task;
    tr_batch *batch = rig_turn_take(rig, rig->turn);
    CHECK(rig_bytes_are(batch->items[0].result, "noted"));
    CHECK(batch->items[0].started_ns >= batch->items[0].accepted_ns);
    CHECK(batch->items[0].ended_ns >= batch->items[0].started_ns);
    rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
    const tr_event_type expected[] = {TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_COMPLETED};
    for (size_t at = 0; at < 3; at++) {
        tr_event event;
        CHECK_EQ_INT(tr_reader_read(reader, &event, 1, RIG_PATIENCE_NS), 1);
        CHECK_EQ_INT(event.type, expected[at]);
        CHECK_EQ_U64(event.snapshot.task, task);
    }
    tr_reader_close(reader);
}

THREADED(help, what_nobody_waits_for_runs_on_a_worker)
{
    tr_tool_id tool = brief_tool(rig, "note", run_note, NULL);
    for (unsigned round = 0; round < 40; round++) { /* the first are kept, later ones are not */
        struct note notes[3];
        launch_notes(rig, tool, notes, 3);
        for (size_t at = 0; at < 3; at++) {
            WAIT_UNTIL(runs_of(&notes[at]) == 1, RIG_PATIENCE_SECONDS);
        }
        CHECK_EQ_INT(take_notes(rig, notes, 3), 0);
    }
    CHECK_EQ_U64(rig_stats(rig).helped, 0);
}

THREADED(help, look_without_time_hands_over)
{
    tr_tool_id tool = brief_tool(rig, "note", run_note, NULL);
    struct note notes[5];
    launch_notes(rig, tool, notes, 5);
    unsigned taken = 0;
    double deadline = case_seconds() + RIG_PATIENCE_SECONDS;
    while (taken < 5 && case_seconds() < deadline) {
        tr_batch *batch = NULL;
        if (tr_turn_wait(rig->manager, rig->turn, NULL, 0, 8, &batch) == TR_WAIT_ITEMS) {
            taken += (unsigned)batch->count;
            tr_batch_release(batch);
        }
    }
    CHECK_EQ_INT(taken, 5);
    CHECK_EQ_INT(take_notes(rig, notes, 0), 0);
    for (size_t at = 0; at < 5; at++) {
        CHECK_EQ_INT(runs_of(&notes[at]), 1);
        CHECK(!ran_here(&notes[at]));
    }
}

THREADED(help, cancelled_wait_runs_nothing)
{
    tr_tool_id tool = brief_tool(rig, "note", run_note, NULL);
    struct note notes[5];
    tr_token *token = NULL;
    tr_batch *batch = NULL;
    CHECK_EQ_INT(tr_token_open(&token), 0);
    tr_token_cancel(token);
    launch_notes(rig, tool, notes, 5);
    int result = tr_turn_wait(rig->manager, rig->turn, token, TR_FOREVER, 1, &batch);
    CHECK(result == TR_ECANCELED || result == TR_WAIT_ITEMS); /* a worker may have been quick */
    unsigned taken = result == TR_WAIT_ITEMS ? (unsigned)batch->count : 0;
    tr_batch_release(batch);
    for (size_t at = 0; at < 5; at++) {
        WAIT_UNTIL(runs_of(&notes[at]) == 1, RIG_PATIENCE_SECONDS);
        CHECK(!ran_here(&notes[at]));
    }
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), (int)(5 - taken));
    tr_token_close(token);
}

THREADED(help, calls_with_a_time_always_go_to_workers)
{
    tr_tool_id tool = brief_tool(rig, "note", run_note, NULL);
    for (unsigned which = 0; which < 5; which++) {
        struct note note = {0};
        tr_request request = TR_REQUEST_INIT(rig->turn, tool);
        request.user = &note;
        request.options.total_timeout_ns = which == 0 ? 3600 * TR_SECOND : 0;
        request.options.run_timeout_ns = which == 1 ? 3600 * TR_SECOND : 0;
        request.options.priority = which == 2 ? TR_PRIORITY_LOW : TR_PRIORITY_DEFAULT;
        request.options.route = which == 3   ? TR_ROUTE_DETACH_AFTER
                                : which == 4 ? TR_ROUTE_BACKGROUND
                                             : TR_ROUTE_FOREGROUND;
        request.options.detach_after_ns = which == 3 ? 3600 * TR_SECOND : 0;
        tr_task_id task = rig_launch_request(rig, &request).task;
        tr_batch *batch =
            which == 4 ? rig_loop_take(rig, rig->session) : rig_turn_take(rig, rig->turn);
        rig_check_release(batch, task, TR_OUTCOME_COMPLETED);
        CHECK(!ran_here(&note));
    }
    CHECK_EQ_U64(rig_stats(rig).helped, 0);
}

THREADED(help, queue_bound_turns_are_for_workers)
{
    tr_tool_id tool = brief_tool(rig, "note", run_note, NULL);
    tr_queue *queue = NULL;
    CHECK_EQ_INT(tr_queue_open(rig->manager, &queue), 0);
    tr_turn_options options = TR_TURN_OPTIONS_INIT;
    options.queue = queue;
    tr_turn_id turn = 0;
    CHECK_EQ_INT(tr_turn_open(rig->manager, rig->session, &options, &turn), 0);
    struct note note = {0};
    tr_request request = TR_REQUEST_INIT(turn, tool);
    request.user = &note;
    tr_task_id task = rig_launch_request(rig, &request).task;
    rig_check_release(rig_queue_take(queue), task, TR_OUTCOME_COMPLETED);
    CHECK(!ran_here(&note));
    CHECK_EQ_INT(tr_turn_close(rig->manager, turn, 0), 0);
    WAIT_UNTIL(tr_queue_close(queue) == 0, RIG_PATIENCE_SECONDS);
}

THREADED(help, interrupt_ends_what_is_kept)
{
    tr_tool_id tool = brief_tool(rig, "note", run_note, NULL);
    double deadline = case_seconds() + RIG_PATIENCE_SECONDS;
    bool all = false;
    while (!all && case_seconds() < deadline) {
        struct note notes[6];
        launch_notes(rig, tool, notes, 6);
        CHECK_EQ_INT(tr_turn_interrupt(rig->manager, rig->turn, "enough"), 6);
        unsigned cancelled = 0;
        unsigned taken = 0;
        while (taken < 6) {
            tr_batch *batch = rig_turn_take(rig, rig->turn);
            cancelled += batch->items[0].outcome == TR_OUTCOME_CANCELLED;
            taken++;
            tr_batch_release(batch);
        }
        rig_turn_is_idle(rig, rig->turn);
        unsigned ran = 0;
        for (size_t at = 0; at < 6; at++) {
            ran += runs_of(&notes[at]);
        }
        CHECK(cancelled + ran >= 6); /* both: it was running when it was cancelled */
        all = cancelled == 6 && ran == 0;
    }
    CHECK(all);
}

static int close_turn(tr_call *call, void *context)
{
    struct rig *rig = context;
    tr_turn_id turn = *(tr_turn_id *)tr_call_user(call);
    return tr_turn_close(rig->manager, turn, 0);
}

THREADED(help, function_may_close_its_own_turn)
{
    tr_tool_id tool = brief_tool(rig, "close", close_turn, rig);
    for (unsigned round = 0; round < 50; round++) {
        tr_turn_id turn = rig_turn(rig, rig->session);
        tr_request request = TR_REQUEST_INIT(turn, tool);
        request.user = &turn;
        (void)rig_launch_request(rig, &request);
        tr_batch *batch = NULL;
        int result = TR_WAIT_ITEMS;
        while (result >= 0) { /* until the turn is gone: idle is what it is before the call ran */
            result = tr_turn_wait(rig->manager, turn, NULL, RIG_PATIENCE_NS, 8, &batch);
            if (result == TR_WAIT_ITEMS) {
                tr_batch_release(batch);
            }
        }
        CHECK_EQ_INT(result, TR_ENOENT);
    }
    rig_wait_idle(rig);
}

struct relay {
    struct rig *rig;
    tr_tool_id tool;
    unsigned left; /* atomic */
};

static int launch_next(tr_call *call, void *context)
{
    struct relay *relay = context;
    tr_snapshot self;
    tr_call_snapshot(call, &self);
    if (__atomic_fetch_sub(&relay->left, 1, __ATOMIC_RELAXED) > 1) {
        tr_request request = TR_REQUEST_INIT(self.turn, relay->tool);
        tr_launched launched;
        return tr_launch(relay->rig->manager, &request, &launched) == TR_PENDING ? 0 : TR_ESTATE;
    }
    return 0;
}

THREADED(help, function_may_launch_more)
{
    struct relay relay = {rig, 0, 300};
    relay.tool = brief_tool(rig, "relay", launch_next, &relay);
    (void)rig_launch(rig, relay.tool, NULL, TR_ROUTE_FOREGROUND);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 300);
    CHECK_EQ_U64(rig_stats(rig).completed, 300);
}

/* Says that it is brief, and is not. */
static int run_long(tr_call *call, void *context)
{
    double until = case_seconds() + 1e-3;
    while (case_seconds() < until) {
    }
    return run_note(call, context);
}

THREADED(help, one_that_takes_long_is_found_out)
{
    tr_tool_id tool = brief_tool(rig, "long", run_long, NULL);
    double deadline = case_seconds() + RIG_PATIENCE_SECONDS;
    unsigned elsewhere = 0; /* in a row */
    while (elsewhere < 20 && case_seconds() < deadline) {
        struct note note;
        launch_notes(rig, tool, &note, 1);
        elsewhere = take_notes(rig, &note, 1) == 0 ? elsewhere + 1 : 0;
    }
    CHECK_EQ_INT(elsewhere, 20);
    CHECK(rig_stats(rig).helped < 20);
}

static void *wait_until_idle(void *argument)
{
    struct rig *rig = argument;
    (void)rig_turn_flush(rig, rig->turn);
    return NULL;
}

/* The waiter came first: it sleeps, or is about to. */
THREADED(help, call_for_a_thread_that_waits_already)
{
    tr_tool_id tool = brief_tool(rig, "note", run_note, NULL);
    for (unsigned round = 0; round < 100; round++) {
        struct gate gate;
        struct note note;
        gate_init(&gate);
        (void)rig_launch(rig, rig->gate, &gate, TR_ROUTE_FOREGROUND); /* keeps the turn waiting */
        gate_await_entered(&gate, 1);
        pthread_t waiter = rig_thread(wait_until_idle, rig);
        launch_notes(rig, tool, &note, 1);
        WAIT_UNTIL(runs_of(&note) == 1, RIG_PATIENCE_SECONDS);
        gate_open(&gate);
        rig_join(waiter);
        gate_done(&gate);
    }
}

CASE(help, brief_and_awaiting_exclude_each_other)
{
    struct rig rig;
    rig_open(&rig, RIG_THREADED, NULL);
    tr_tool tool = TR_TOOL_INIT("both", run_note);
    tr_tool_id id = 77;
    tool.flags = TR_TOOL_BRIEF | TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig.manager, &tool, &id), TR_EINVAL);
    CHECK_EQ_U64(id, 77);
    rig_close(&rig);
}

/* ---- many hosts at once, on fewer lanes than there are hosts ---- */

enum {
    HOSTS = 24,
    ROUNDS = 120,
};

struct host_work {
    struct rig *rig;
    tr_tool_id brief;
    unsigned number;
    uint64_t accepted, delivered;
};

/* One turn: some calls, brief ones and others, then one of the ways a turn can end. */
static void one_turn(struct host_work *work, struct case_random *random, tr_session_id session)
{
    tr_manager *manager = work->rig->manager;
    tr_turn_id turn = rig_turn(work->rig, session);
    struct note notes[40];
    tr_request requests[40];
    tr_launched launched[40];
    size_t count = 1 + (size_t)case_random_below(random, 40);
    memset(notes, 0, sizeof(notes));
    for (size_t at = 0; at < count; at++) {
        bool brief = case_random_below(random, 4) != 0;
        requests[at] = (tr_request)TR_REQUEST_INIT(turn, brief ? work->brief : work->rig->nothing);
        requests[at].user = &notes[at];
    }
    CHECK_EQ_INT(tr_launch_batch(manager, requests, count, launched), (int)count);
    uint64_t end = case_random_below(random, 8);
    if (end == 0) {
        CHECK(tr_turn_interrupt(manager, turn, "race") >= 0);
    }
    size_t taken = 0;
    int result = TR_WAIT_ITEMS;
    while (end != 1 && result != TR_WAIT_IDLE) {
        tr_batch *batch = NULL;
        uint64_t timeout = case_random_below(random, 3) == 0 ? 0 : RIG_PATIENCE_NS;
        result = tr_turn_wait(manager, turn, NULL, timeout, 16, &batch);
        CHECK(result >= 0 || (timeout == 0 && result == TR_ETIMEDOUT));
        if (result == TR_WAIT_ITEMS) {
            taken += batch->count;
            tr_batch_release(batch);
        }
    }
    CHECK_EQ_INT(tr_turn_close(manager, turn, 0), 0);
    CHECK(end == 1 || taken == count);
    /* Closing ends calls, but a function that is running still uses its note. */
    for (size_t at = 0; at < count && end <= 1; at++) {
        tr_snapshot snapshot;
        WAIT_UNTIL(tr_task_snapshot(manager, launched[at].task, &snapshot) == TR_ENOENT,
                   RIG_PATIENCE_SECONDS);
    }
    work->accepted += count;
    work->delivered += taken;
}

static void *be_host(void *argument)
{
    struct host_work *work = argument;
    struct case_random random;
    case_random_init(&random, work->number);
    tr_session_id session = rig_session(work->rig);
    for (unsigned round = 0; round < ROUNDS; round++) {
        one_turn(work, &random, session);
    }
    CHECK_EQ_INT(tr_session_close(work->rig->manager, session, 0), 0);
    return NULL;
}

THREADED(help, many_hosts_each_call_once)
{
    struct host_work *work = calloc(HOSTS, sizeof(*work));
    pthread_t threads[HOSTS];
    tr_tool_id brief = brief_tool(rig, "note", run_note, NULL);
    CHECK(work != NULL);
    for (unsigned at = 0; at < HOSTS; at++) {
        work[at] = (struct host_work){rig, brief, at, 0, 0};
        threads[at] = rig_thread(be_host, &work[at]);
    }
    uint64_t accepted = 0;
    uint64_t delivered = 0;
    for (unsigned at = 0; at < HOSTS; at++) {
        rig_join(threads[at]);
        accepted += work[at].accepted;
        delivered += work[at].delivered;
    }
    rig_wait_idle(rig);
    tr_stats stats = rig_stats(rig);
    CHECK_EQ_U64(stats.accepted, accepted);
    CHECK_EQ_U64(stats.completed + stats.cancelled, accepted);
    CHECK_EQ_U64(delivered + stats.discarded, accepted);
    free(work);
}
