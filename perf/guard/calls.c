/*
 * calls.c: whole calls: launched, run, drained, released, in one thread.
 *
 * Owner thread: the guard's only one. Called by main.c; calls the public interface and, as the
 * worker and the ring would, the engine's run function and the ring's round.
 *
 * Invariant: a round leaves the stage as it found it, so every round costs the same.
 */
#include <string.h>

#include "engine/ring_loop.h"
#include "host/manager.h"
#include "probes.h"

#define REQUIRE(condition) stage_require((condition), #condition)
#define EVENTS_ROOM 64

static uint64_t payload = UINT64_C(0x0123456789abcdef);

static tr_request request_for(tr_turn_id turn, tr_tool_id tool, tr_route route)
{
    tr_request request = TR_REQUEST_INIT(turn, tool);
    request.options.route = route;
    request.input = (tr_bytes){&payload, sizeof payload};
    return request;
}

static void drain(struct stage *stage, int count)
{
    tr_batch *batch = NULL;
    REQUIRE(tr_queue_drain(stage->queue, 0, STAGE_BATCH, &batch) == count);
    REQUIRE(memcmp(batch->items[0].result.data, &payload, sizeof payload) == 0);
    tr_batch_release(batch);
}

/* One background call at a time. */
static void launch_drain(struct stage *stage, tr_tool_id tool, unsigned rounds)
{
    tr_request request = request_for(stage->bound, tool, TR_ROUTE_BACKGROUND);
    tr_launched launched;
    for (unsigned round = 0; round < rounds; round++) {
        REQUIRE(tr_launch(stage->manager, &request, &launched) == TR_PENDING);
        stage_work(stage);
        drain(stage, 1);
    }
}

static void probe_call(struct stage *stage, unsigned rounds)
{
    launch_drain(stage, stage->plain, rounds);
}

static void probe_call_on_fiber(struct stage *stage, unsigned rounds)
{
    launch_drain(stage, stage->awaiting, rounds);
}

static void probe_calls(struct stage *stage, unsigned rounds)
{
    tr_request requests[STAGE_BATCH];
    tr_launched launched[STAGE_BATCH];
    for (unsigned at = 0; at < STAGE_BATCH; at++) {
        requests[at] = request_for(stage->bound, stage->plain, TR_ROUTE_BACKGROUND);
    }
    for (unsigned round = 0; round < rounds; round++) {
        REQUIRE(tr_launch_batch(stage->manager, requests, STAGE_BATCH, launched) == STAGE_BATCH);
        stage_work(stage);
        drain(stage, STAGE_BATCH);
    }
}

/* A foreground call, its turn waited for. */
static void probe_turn(struct stage *stage, unsigned rounds)
{
    tr_request request = request_for(stage->turn, stage->plain, TR_ROUTE_FOREGROUND);
    tr_launched launched;
    tr_batch *batch;
    for (unsigned round = 0; round < rounds; round++) {
        REQUIRE(tr_launch(stage->manager, &request, &launched) == TR_PENDING);
        stage_work(stage);
        REQUIRE(tr_turn_wait(stage->manager, stage->turn, NULL, 0, 8, &batch) == TR_WAIT_ITEMS);
        tr_batch_release(batch);
        REQUIRE(tr_turn_wait(stage->manager, stage->turn, NULL, 0, 8, &batch) == TR_WAIT_IDLE);
    }
}

/* Foreground calls of a brief tool: whoever waits for their turn runs them. */
static void launch_help(struct stage *stage, unsigned count, unsigned rounds)
{
    tr_request requests[STAGE_BATCH];
    tr_launched launched[STAGE_BATCH];
    tr_batch *batch;
    for (unsigned at = 0; at < count; at++) {
        requests[at] = request_for(stage->turn, stage->brief, TR_ROUTE_FOREGROUND);
    }
    for (unsigned round = 0; round < rounds; round++) {
        REQUIRE(tr_launch_batch(stage->manager, requests, count, launched) == (int)count);
        REQUIRE(tr_turn_wait(stage->manager, stage->turn, NULL, TR_FOREVER, STAGE_BATCH, &batch) ==
                TR_WAIT_ITEMS);
        REQUIRE(batch->count == count);
        tr_batch_release(batch);
    }
}

static void probe_turn_kept(struct stage *stage, unsigned rounds)
{
    launch_help(stage, 1, rounds);
}

static void probe_turns_kept(struct stage *stage, unsigned rounds)
{
    launch_help(stage, STAGE_BATCH, rounds);
}

/* The worker sleeps when the call comes, and is woken for it. */
static void probe_call_asleep(struct stage *stage, unsigned rounds)
{
    tr_request request = request_for(stage->bound, stage->plain, TR_ROUTE_BACKGROUND);
    tr_launched launched;
    for (unsigned round = 0; round < rounds; round++) {
        stage_rest(stage);
        REQUIRE(tr_launch(stage->manager, &request, &launched) == TR_PENDING);
        stage_wake(stage);
        stage_work(stage);
        drain(stage, 1);
    }
}

/* With a deadline: the timer is armed at launch and given back after the end, by one round of the
 * ring. */
static void probe_call_timed(struct stage *stage, unsigned rounds)
{
    tr_request request = request_for(stage->bound, stage->timed, TR_ROUTE_BACKGROUND);
    struct tr__ring *ring = &tr__engine_of(stage->manager)->ring;
    tr_launched launched;
    for (unsigned round = 0; round < rounds; round++) {
        REQUIRE(tr_launch(stage->manager, &request, &launched) == TR_PENDING);
        stage_work(stage);
        drain(stage, 1);
        REQUIRE(tr__ring_round(ring));
    }
}

/* Somebody read events and has left: afterwards `call` must cost what it costs without that. */
static void read_and_leave(struct stage *stage)
{
    tr_reader *reader;
    REQUIRE(tr_reader_open(stage->manager, NULL, &reader) == 0);
    launch_drain(stage, stage->plain, 1);
    tr_reader_close(reader);
}

/* As `call`, with a reader that takes the three events of each. */
static void probe_call_read(struct stage *stage, unsigned rounds)
{
    tr_event events[EVENTS_ROOM];
    tr_reader *reader;
    REQUIRE(tr_reader_open(stage->manager, NULL, &reader) == 0);
    for (unsigned round = 0; round < rounds; round++) {
        launch_drain(stage, stage->plain, 1);
        REQUIRE(tr_reader_read(reader, events, EVENTS_ROOM, 0) == 3);
    }
    tr_reader_close(reader);
}

/* The launch runs it and brings its result. */
static void probe_inline(struct stage *stage, unsigned rounds)
{
    tr_request request = request_for(stage->turn, stage->plain, TR_ROUTE_INLINE);
    tr_launched launched;
    for (unsigned round = 0; round < rounds; round++) {
        REQUIRE(tr_launch(stage->manager, &request, &launched) == TR_READY);
        tr_batch_release(launched.ready);
    }
}

/* A queued call is cancelled; the worker finds it ended. */
static void probe_cancel(struct stage *stage, unsigned rounds)
{
    tr_request request = request_for(stage->bound, stage->plain, TR_ROUTE_BACKGROUND);
    tr_launched launched;
    tr_batch *batch;
    for (unsigned round = 0; round < rounds; round++) {
        REQUIRE(tr_launch(stage->manager, &request, &launched) == TR_PENDING);
        REQUIRE(tr_task_cancel(stage->manager, launched.task, NULL) == 0);
        REQUIRE(tr_queue_drain(stage->queue, 0, STAGE_BATCH, &batch) == 1);
        tr_batch_release(batch);
        stage_work(stage);
    }
}

static void probe_interrupt(struct stage *stage, unsigned rounds)
{
    for (unsigned round = 0; round < rounds; round++) {
        REQUIRE(tr_turn_interrupt(stage->manager, stage->turn, NULL) == 0);
    }
}

const struct probe probes_of_calls[] = {
    {"call", probe_call, 1, PROBE_THREADED, NULL},
    {"call-unread", probe_call, 1, PROBE_THREADED, read_and_leave},
    {"call-read", probe_call_read, 1, PROBE_THREADED, NULL},
    {"calls-32", probe_calls, STAGE_BATCH, PROBE_THREADED, NULL},
    {"call-asleep", probe_call_asleep, 1, PROBE_THREADED, NULL},
    {"call-timed", probe_call_timed, 1, PROBE_THREADED, NULL},
    {"call-fiber", probe_call_on_fiber, 1, PROBE_THREADED, NULL},
    {"call-cancelled", probe_cancel, 1, PROBE_THREADED, NULL},
    {"turn", probe_turn, 1, PROBE_THREADED, NULL},
    {"turn-kept", probe_turn_kept, 1, PROBE_THREADED, NULL},
    {"turn-kept-32", probe_turns_kept, STAGE_BATCH, PROBE_THREADED, NULL},
    {"inline", probe_inline, 1, PROBE_INLINE, NULL},
    {"interrupt-empty", probe_interrupt, 1, PROBE_THREADED, NULL},
};
const unsigned probes_of_calls_count = sizeof probes_of_calls / sizeof probes_of_calls[0];
