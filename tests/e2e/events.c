/*
 * The event log end to end: order per task, several readers, gaps, filters, snapshots, descriptors.
 */
#include <poll.h>

#include "support/host.h"

static tr_reader *open_reader(struct rig *rig, const tr_reader_options *options)
{
    tr_reader *reader = NULL;
    CHECK_EQ_INT(tr_reader_open(rig->manager, options, &reader), 0);
    CHECK(reader != NULL);
    return reader;
}

/* Reads what is there, which must be these events of this task. */
static void check_events(tr_reader *reader, tr_task_id task, const tr_event_type *types,
                         size_t count)
{
    static tr_event events[64];
    int got = tr_reader_read(reader, events, 64, 0);
    CHECK_EQ_INT(got, count);
    for (size_t at = 0; at < count; at++) {
        CHECK_EQ_INT(events[at].type, types[at]);
        CHECK_EQ_U64(events[at].snapshot.task, task);
        CHECK(at == 0 || events[at].sequence > events[at - 1].sequence);
        CHECK(at == 0 || events[at].time_ns >= events[at - 1].time_ns);
    }
}

#define CHECK_EVENTS(reader_, task_, ...)                                                          \
    do {                                                                                           \
        static const tr_event_type types_[] = {__VA_ARGS__};                                       \
        check_events(reader_, task_, types_, sizeof types_ / sizeof *types_);                      \
    } while (0)

BOTH(events, reader_refuses_bad_arguments)
{
    tr_reader *reader = NULL;
    tr_event event;
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    CHECK_EQ_INT(tr_reader_open(NULL, NULL, &reader), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, NULL), TR_EINVAL);
    options.size = 1;
    CHECK_EQ_INT(tr_reader_open(rig->manager, &options, &reader), TR_EINVAL);
    options.size = sizeof options;
    options.types = UINT64_C(1) << (TR_EVENT_GAP + 1);
    CHECK_EQ_INT(tr_reader_open(rig->manager, &options, &reader), TR_EINVAL);
    CHECK_EQ_PTR(reader, NULL);
    CHECK_EQ_INT(tr_reader_read(NULL, &event, 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_fd(NULL), TR_EINVAL);
    tr_reader_close(NULL);
    reader = open_reader(rig, NULL);
    CHECK_EQ_INT(tr_reader_read(reader, NULL, 1, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_read(reader, &event, 0, 0), TR_EINVAL);
    CHECK_EQ_INT(tr_reader_read(reader, &event, 1, 0), 0);
    CHECK_EQ_INT(tr_reader_read(reader, &event, 1, 2 * TR_MILLISECOND), 0);
    tr_reader_close(reader);
}

BOTH(events, no_readers_nothing_recorded)
{
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    rig_wait_idle(rig);
    CHECK_EQ_U64(rig_stats(rig).events, 0);
    tr_reader *reader = open_reader(rig, NULL); /* sees what happens from now on */
    tr_event event;
    CHECK_EQ_INT(tr_reader_read(reader, &event, 1, 0), 0);
    tr_reader_close(reader);
}

BOTH(events, endings)
{
    tr_reader *reader = open_reader(rig, NULL);
    tr_task_id task = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_wait_idle(rig);
    CHECK_EVENTS(reader, task, TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_COMPLETED);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), TR_EALREADY);
    CHECK_EQ_INT(tr_task_detach(rig->manager, task), TR_EALREADY);
    tr_event event;
    CHECK_EQ_INT(tr_reader_read(reader, &event, 1, 0), 0); /* no event of that */
    task = rig_launch_text(rig, rig->fail, "x", TR_ROUTE_BACKGROUND);
    rig_wait_idle(rig);
    CHECK_EVENTS(reader, task, TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_FAILED);
    tr_reader_close(reader);
}

BOTH(events, continue_comes_last_and_for_loop_updates_only)
{
    tr_reader *reader = open_reader(rig, NULL);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->nothing);
    request.options.continuation = TR_CONTINUE_REQUEST;
    request.options.route = TR_ROUTE_BACKGROUND;
    tr_task_id task = rig_launch_request(rig, &request).task;
    rig_wait_idle(rig);
    tr_event events[4];
    unsigned seen = 0;
    WAIT_UNTIL((seen += (unsigned)tr_reader_read(reader, events + seen, 4 - seen, 0)) == 4,
               RIG_PATIENCE_SECONDS); /* the last one follows the update */
    static const tr_event_type wanted[] = {TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_COMPLETED,
                                           TR_EVENT_CONTINUE_REQUESTED};
    for (unsigned at = 0; at < 4; at++) {
        CHECK_EQ_INT(events[at].type, wanted[at]);
        CHECK_EQ_U64(events[at].snapshot.task, task);
    }
    rig_check_release(rig_loop_take(rig, rig->session), task, TR_OUTCOME_COMPLETED);
    request.options.delivery = TR_DELIVERY_MANUAL;
    task = rig_launch_request(rig, &request).task;
    rig_wait_idle(rig);
    CHECK_EVENTS(reader, task, TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_COMPLETED);
    request.options.route = TR_ROUTE_FOREGROUND;
    task = rig_launch_request(rig, &request).task;
    rig_wait_idle(rig);
    CHECK_EVENTS(reader, task, TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_COMPLETED);
    tr_reader_close(reader);
}

THREADED(events, detach_cancel_and_timeout)
{
    struct gate gate;
    gate_init(&gate);
    tr_reader *reader = open_reader(rig, NULL);
    tr_task_id task = rig_launch(rig, rig->awaiting, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 1);
    CHECK_EQ_INT(tr_task_detach(rig->manager, task), 0);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), 0);
    rig_wait_idle(rig);
    CHECK_EVENTS(reader, task, TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_DETACHED,
                 TR_EVENT_CANCELLED);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->awaiting);
    request.user = &gate;
    request.options.run_timeout_ns = 2 * TR_MILLISECOND;
    task = rig_launch_request(rig, &request).task;
    rig_wait_idle(rig);
    CHECK_EVENTS(reader, task, TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_TIMED_OUT);
    task = rig_launch(rig, rig->gate, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 3);
    CHECK_EQ_INT(tr_task_cancel(rig->manager, task, NULL), 0);
    gate_open(&gate);
    WAIT_UNTIL(rig_stats(rig).abandoned == 0, RIG_PATIENCE_SECONDS);
    CHECK_EVENTS(reader, task, TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_CANCELLED);
    tr_reader_close(reader);
    gate_done(&gate);
}

static int run_reporter(tr_call *call, void *context)
{
    (void)context;
    tr_call_progress(call, 1, 3);
    tr_call_output(call, 100);
    tr_call_progress(call, 3, 0);
    return 0;
}

BOTH(events, progress_and_output)
{
    tr_tool_id tool = rig_tool(rig, "reporter", run_reporter, NULL);
    tr_reader *reader = open_reader(rig, NULL);
    (void)rig_launch(rig, tool, NULL, TR_ROUTE_FOREGROUND);
    rig_wait_idle(rig);
    tr_event events[8];
    CHECK_EQ_INT(tr_reader_read(reader, events, 8, 0), 6);
    CHECK_EQ_INT(events[2].type, TR_EVENT_PROGRESS);
    CHECK_EQ_U64(events[2].current, 1);
    CHECK_EQ_U64(events[2].total, 3);
    CHECK_EQ_INT(events[3].type, TR_EVENT_OUTPUT);
    CHECK_EQ_U64(events[3].current, 100);
    CHECK_EQ_INT(events[4].type, TR_EVENT_PROGRESS);
    CHECK_EQ_U64(events[4].total, 0);
    CHECK_EQ_INT(events[5].type, TR_EVENT_COMPLETED);
    tr_reader_close(reader);
}

BOTH(events, snapshots_are_complete)
{
    char call_id[TR_CALL_ID_BYTES_MAX];
    char metadata[TR_METADATA_BYTES_MAX];
    int user = 0;
    memset(call_id, 'c', sizeof call_id);
    memset(metadata, 'm', sizeof metadata);
    tr_reader *reader = open_reader(rig, NULL);
    tr_request request = TR_REQUEST_INIT(rig->turn, rig->echo);
    request.call_id.data = call_id;
    request.call_id.size = sizeof call_id;
    request.metadata.data = metadata;
    request.metadata.size = sizeof metadata;
    request.user = &user;
    request.options.route = TR_ROUTE_BACKGROUND;
    request.options.delivery = TR_DELIVERY_MANUAL;
    tr_task_id task = rig_launch_request(rig, &request).task;
    rig_wait_idle(rig);
    static const tr_state states[] = {TR_STATE_QUEUED, TR_STATE_RUNNING, TR_STATE_ENDED};
    tr_event events[4];
    CHECK_EQ_INT(tr_reader_read(reader, events, 4, 0), 3);
    for (unsigned at = 0; at < 3; at++) {
        const tr_snapshot *snapshot = &events[at].snapshot;
        CHECK_EQ_U64(events[at].sequence, events[0].sequence + at);
        CHECK_EQ_INT(snapshot->state, states[at]);
        CHECK_EQ_U64(snapshot->task, task);
        CHECK_EQ_U64(snapshot->turn, rig->turn);
        CHECK_EQ_U64(snapshot->session, rig->session);
        CHECK_EQ_INT(snapshot->tool, rig->echo);
        CHECK_EQ_STR(snapshot->tool_name, "echo");
        CHECK_EQ_PTR(snapshot->user, &user);
        CHECK_EQ_INT(snapshot->kind, TR_KIND_BACKGROUND);
        CHECK_EQ_INT(snapshot->delivery, TR_DELIVERY_MANUAL);
        CHECK_EQ_INT(snapshot->continuation, TR_CONTINUE_NOTIFY);
        CHECK(!snapshot->cancel_requested && !snapshot->detached && !snapshot->deferred);
        CHECK_EQ_INT(snapshot->outcome, at < 2 ? TR_OUTCOME_NONE : TR_OUTCOME_COMPLETED);
        CHECK(snapshot->accepted_ns > 0);
        CHECK_EQ_INT(snapshot->started_ns > 0, at > 0);
        CHECK_EQ_INT(snapshot->ended_ns > 0, at > 1);
        CHECK_EQ_INT(snapshot->call_id_size, sizeof call_id);
        CHECK_EQ_INT(memcmp(snapshot->call_id, call_id, sizeof call_id), 0);
        CHECK_EQ_INT(snapshot->metadata_size, sizeof metadata);
        CHECK_EQ_INT(memcmp(snapshot->metadata, metadata, sizeof metadata), 0);
    }
    tr_reader_close(reader);
}

BOTH(events, filters)
{
    tr_session_id other = rig_session(rig);
    tr_turn_id turn = rig_turn(rig, other);
    tr_reader_options options[4] = {TR_READER_OPTIONS_INIT, TR_READER_OPTIONS_INIT,
                                    TR_READER_OPTIONS_INIT, TR_READER_OPTIONS_INIT};
    options[0].session = other;
    options[1].turn = rig->turn;
    options[2].types = UINT64_C(1) << TR_EVENT_COMPLETED | UINT64_C(1) << TR_EVENT_FAILED;
    options[3].session = other;
    options[3].types = UINT64_C(1) << TR_EVENT_STARTED;
    tr_reader *readers[4];
    for (unsigned at = 0; at < 4; at++) {
        readers[at] = open_reader(rig, &options[at]);
    }
    tr_task_id first = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_wait_idle(rig);
    rig->turn = turn;
    tr_task_id second = rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_wait_idle(rig);
    CHECK_EVENTS(readers[0], second, TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_COMPLETED);
    CHECK_EVENTS(readers[1], first, TR_EVENT_QUEUED, TR_EVENT_STARTED, TR_EVENT_COMPLETED);
    tr_event events[4];
    CHECK_EQ_INT(tr_reader_read(readers[2], events, 4, 0), 2);
    CHECK_EQ_U64(events[0].snapshot.task, first);
    CHECK_EQ_U64(events[1].snapshot.task, second);
    CHECK_EVENTS(readers[3], second, TR_EVENT_STARTED);
    for (unsigned at = 0; at < 4; at++) {
        CHECK_EQ_INT(tr_reader_read(readers[at], events, 4, 0), 0);
        tr_reader_close(readers[at]);
    }
}

/* ---- gaps ---- */

static void check_gap(enum rig_mode mode)
{
    enum {
        KEPT = 64,
        CALLS = 200
    };
    static tr_event events[CALLS * 3];
    struct rig rig;
    tr_config config = TR_CONFIG_INIT;
    config.events_max = KEPT;
    rig_open(&rig, mode, &config);
    tr_reader *slow = open_reader(&rig, NULL);
    tr_reader *quick = open_reader(&rig, NULL);
    unsigned seen = 0;
    for (unsigned at = 0; at < CALLS; at++) {
        tr_task_id task = rig_launch(&rig, rig.nothing, NULL, TR_ROUTE_FOREGROUND);
        rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_COMPLETED);
        int count = 0;
        for (unsigned got = 0; got < 3; got += (unsigned)count) {
            count = tr_reader_read(quick, events, 4, RIG_PATIENCE_NS);
            CHECK(count > 0);
            for (int event = 0; event < count; event++) {
                CHECK(events[event].type != TR_EVENT_GAP); /* the slow one slows nobody */
                CHECK_EQ_U64(events[event].sequence, ++seen);
            }
        }
    }
    int count = tr_reader_read(slow, events, CALLS * 3, 0);
    CHECK(count >= 2 && count <= KEPT + 1);
    CHECK_EQ_INT(events[0].type, TR_EVENT_GAP); /* one, then what is left, without holes */
    CHECK_EQ_U64(events[0].current, events[0].sequence);
    for (int at = 1; at < count; at++) {
        CHECK(events[at].type != TR_EVENT_GAP);
        CHECK_EQ_U64(events[at].sequence, events[at - 1].sequence + 1);
    }
    CHECK_EQ_U64(events[count - 1].sequence, CALLS * 3);
    CHECK_EQ_U64(events[0].current + (uint64_t)count - 1, CALLS * 3);
    CHECK_EQ_U64(rig_stats(&rig).events, CALLS * 3);
    tr_reader_close(slow);
    tr_reader_close(quick);
    rig_close(&rig);
}

CASE_TIMEOUT(events, gap_threaded, RIG_TIMEOUT_SECONDS)
{
    check_gap(RIG_THREADED);
}

CASE_TIMEOUT(events, gap_inline, RIG_TIMEOUT_SECONDS)
{
    check_gap(RIG_INLINE);
}

/* ---- descriptors and closing ---- */

BOTH(events, descriptor)
{
    tr_reader *reader = open_reader(rig, NULL);
    tr_event events[16];
    struct pollfd entry = {tr_reader_fd(reader), POLLIN, 0};
    CHECK(entry.fd >= 0);
    CHECK_EQ_INT(tr_reader_fd(reader), entry.fd);
    for (unsigned round = 0; round < 10; round++) {
        CHECK_EQ_INT(poll(&entry, 1, 0), 0);
        (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
        CHECK_EQ_INT(poll(&entry, 1, RIG_PATIENCE_SECONDS * 1000), 1);
        rig_wait_idle(rig);
        CHECK_EQ_INT(tr_reader_read(reader, events, 2, 0), 2);
        CHECK_EQ_INT(poll(&entry, 1, 0), 1); /* one is left */
        CHECK_EQ_INT(tr_reader_read(reader, events, 2, 0), 1);
    }
    rig_shut(rig, 0);
    CHECK_EQ_INT(poll(&entry, 1, 0), 1); /* closed: there is something to learn */
    CHECK_EQ_INT(tr_reader_read(reader, events, 1, TR_FOREVER), TR_ECLOSED);
    tr_reader_close(reader);
    CHECK_EQ_INT(rig_turn_flush(rig, rig->turn), 10);
    rig_free(rig);
    rig_open(rig, rig->mode, NULL); /* for the case's own end */
}

BOTH(events, closed_manager)
{
    tr_reader *reader = open_reader(rig, NULL);
    tr_reader *late = NULL;
    (void)rig_launch(rig, rig->nothing, NULL, TR_ROUTE_FOREGROUND);
    rig_shut(rig, RIG_PATIENCE_NS);
    CHECK_EQ_INT(tr_reader_open(rig->manager, NULL, &late), TR_ECLOSED);
    tr_event events[4];
    CHECK_EQ_INT(tr_reader_read(reader, events, 4, 0), 3); /* what there was can be read */
    CHECK_EQ_INT(tr_reader_read(reader, events, 4, 0), TR_ECLOSED);
    rig_free(rig);                  /* takes the reader along */
    rig_open(rig, rig->mode, NULL); /* for the case's own end */
}
