/*
 * The event log end to end, under load: the order per task with readers at different speeds, and
 * that who reacts to an event finds the task.
 */
#include "support/host.h"

static tr_reader *open_reader(struct rig *rig, const tr_reader_options *options)
{
    tr_reader *reader = NULL;
    CHECK_EQ_INT(tr_reader_open(rig->manager, options, &reader), 0);
    CHECK(reader != NULL);
    return reader;
}

/* ---- many readers at different speeds, under load ---- */

enum {
    LOAD_READERS = 4,
    LOAD_TASKS = 1500,
};

struct follower {
    struct rig *rig;
    tr_reader *reader;
    unsigned pace;                   /* events at a time */
    unsigned char stage[LOAD_TASKS]; /* per task: the rank of its last event */
    unsigned terminals;
    uint64_t missed;
};

/* QUEUED < STARTED < DETACHED < terminal < CONTINUE_REQUESTED */
static unsigned rank_of(tr_event_type type)
{
    switch (type) {
    case TR_EVENT_QUEUED:
        return 1;
    case TR_EVENT_STARTED:
        return 2;
    case TR_EVENT_DETACHED:
        return 3;
    case TR_EVENT_CONTINUE_REQUESTED:
        return 5;
    default:
        return 4;
    }
}

static void *follow(void *argument)
{
    struct follower *self = argument;
    tr_event events[32];
    uint64_t last = 0;
    int count = 0;
    while ((count = tr_reader_read(self->reader, events, self->pace, TR_FOREVER)) > 0) {
        for (int at = 0; at < count; at++) {
            const tr_event *event = &events[at];
            if (event->type == TR_EVENT_GAP) {
                self->missed += event->current;
                CHECK_EQ_U64(event->sequence, last + event->current);
                last = event->sequence;
                continue;
            }
            CHECK_EQ_U64(event->sequence, last + 1);
            last = event->sequence;
            unsigned task = (unsigned)(uintptr_t)event->snapshot.user;
            CHECK(task < LOAD_TASKS);
            unsigned rank = rank_of(event->type);
            /* DETACHED may come before STARTED: it may be queued still. */
            bool early_detach = rank == 2 && self->stage[task] == 3;
            CHECK(rank > self->stage[task] || early_detach);
            self->stage[task] = (unsigned char)(early_detach ? 3 : rank);
            self->terminals += rank == 4;
        }
    }
    CHECK_EQ_INT(count, TR_ECLOSED);
    return NULL;
}

static int run_short_sleep(tr_call *call, void *context)
{
    (void)context;
    return tr_sleep(call, ((uintptr_t)tr_call_user(call) % 4) * TR_MILLISECOND / 2);
}

static void check_order(enum rig_mode mode, unsigned kept)
{
    static struct follower followers[LOAD_READERS];
    struct rig rig;
    pthread_t threads[LOAD_READERS];
    tr_config config = TR_CONFIG_INIT;
    config.events_max = kept;
    memset(followers, 0, sizeof followers);
    rig_open(&rig, mode, &config);
    tr_tool tool = TR_TOOL_INIT("sleeper", run_short_sleep);
    tr_tool_id sleeper = 0;
    tool.flags = TR_TOOL_AWAITING;
    CHECK_EQ_INT(tr_tool_register(rig.manager, &tool, &sleeper), 0);
    for (unsigned at = 0; at < LOAD_READERS; at++) {
        followers[at].rig = &rig;
        followers[at].reader = open_reader(&rig, NULL);
        followers[at].pace = 1u << (at * 5 / 3);
        threads[at] = rig_thread(follow, &followers[at]);
    }
    for (unsigned at = 0; at < LOAD_TASKS; at++) {
        tr_request request =
            TR_REQUEST_INIT(rig.turn, at % 3 == 0 && mode == RIG_THREADED ? sleeper : rig.nothing);
        request.user = (void *)(uintptr_t)at;
        request.options.route = at % 2 == 0 ? TR_ROUTE_FOREGROUND : TR_ROUTE_BACKGROUND;
        request.options.continuation = TR_CONTINUE_REQUEST;
        tr_task_id task = rig_launch_request(&rig, &request).task;
        if (at % 4 == 0) {
            (void)tr_task_detach(rig.manager, task); /* it may have ended */
        } else if (at % 9 == 3) {
            (void)tr_task_cancel(rig.manager, task, NULL);
        }
        if (at % 100 == 99) {
            (void)rig_loop_flush(&rig, rig.session);
        }
    }
    rig_shut(&rig, RIG_PATIENCE_NS);
    for (unsigned at = 0; at < LOAD_READERS; at++) {
        rig_join(threads[at]);
        CHECK(followers[at].missed > 0 || followers[at].terminals == LOAD_TASKS);
        CHECK(followers[at].terminals <= LOAD_TASKS);
        CHECK(kept < 65536 || followers[at].missed == 0);
        tr_reader_close(followers[at].reader);
    }
    rig_free(&rig);
}

CASE_TIMEOUT(event_load, order_with_readers_at_different_speeds, 120)
{
    check_order(RIG_THREADED, 65536);
}

CASE_TIMEOUT(event_load, order_with_readers_that_fall_behind, 120)
{
    check_order(RIG_THREADED, 32);
}

CASE_TIMEOUT(event_load, order_inline, 120)
{
    check_order(RIG_INLINE, 65536);
}

/* ---- reacting to an event finds the task ---- */

struct reactor {
    struct rig *rig;
    tr_reader *reader;
    unsigned found;
};

/* Looks at each task the moment it hears of it: nobody releases one before the end. */
static void *react(void *argument)
{
    struct reactor *self = argument;
    tr_event event;
    while (tr_reader_read(self->reader, &event, 1, TR_FOREVER) > 0) {
        tr_snapshot snapshot;
        CHECK_EQ_INT(tr_task_snapshot(self->rig->manager, event.snapshot.task, &snapshot), 0);
        CHECK_EQ_U64(snapshot.task, event.snapshot.task);
        self->found++;
    }
    return NULL;
}

THREADED(event_load, reacting_finds_the_task)
{
    struct reactor reactor = {rig, open_reader(rig, NULL), 0};
    pthread_t thread = rig_thread(react, &reactor);
    for (unsigned at = 0; at < 1000; at++) {
        (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_BACKGROUND);
    }
    rig_shut(rig, RIG_PATIENCE_NS);
    rig_join(thread);
    CHECK_EQ_INT(reactor.found, 3000);
    tr_reader_close(reactor.reader);
    CHECK_EQ_INT(rig_loop_flush(rig, rig->session), 1000);
    rig_free(rig);
    rig_open(rig, RIG_THREADED, NULL); /* for the case's own end */
}
