/*
 * background.c: background-n: n no-op background calls, drained in batches.
 *
 * One host thread launches batches of calls over 16 sessions and drains whatever is ready in
 * between, so that never more than WINDOW calls are outstanding: an agent server with one event
 * loop. Each call takes 8 bytes and returns 8; every result is compared with what it must be, each
 * index must come once.
 *
 * Measured: wall time of a pass over n calls, per call; and how resident memory grew over all
 * passes, per call. A pass before the first one warms up: it is not measured, for no contender.
 */
#include "workloads.h"

#include <stdlib.h>

#define WINDOW 16384u
#define BATCH_MIN 192u
#define BATCH_MAX 320u
#define SESSIONS 16u

struct flow {
    struct host host;
    tr_tool_id tool;
    struct random random;
    struct ledger ledger;
    uint64_t inputs[BATCH_MAX];
    tr_request requests[BATCH_MAX];
    tr_launched launched[BATCH_MAX];
};

static void launch_some(struct flow *flow, size_t first, size_t count)
{
    tr_turn_id turn = flow->host.turns[random_next(&flow->random) % SESSIONS];
    for (size_t at = 0; at < count; at++) {
        flow->inputs[at] = ledger_input(&flow->ledger, first + at);
        flow->requests[at].turn = turn;
        flow->requests[at].user = (void *)(uintptr_t)(first + at);
    }
    host_launch_batch(&flow->host, flow->requests, count, flow->launched);
}

static size_t drain_some(struct flow *flow, uint64_t timeout_ns)
{
    tr_batch *batch = NULL;
    int count = tr_queue_drain(flow->host.queue, timeout_ns, HOST_ITEMS_MAX, &batch);
    REQUIRE(count >= 0);
    for (int at = 0; at < count; at++) {
        note_item(&flow->ledger, &batch->items[at]);
    }
    tr_batch_release(batch);
    return (size_t)count;
}

/* Launches, runs and drains `count` calls; returns the nanoseconds it took. */
static uint64_t pass(struct flow *flow, size_t count)
{
    size_t launched = 0;
    size_t drained = 0;
    ledger_reset(&flow->ledger);
    uint64_t begin = now_ns();
    while (drained < count) {
        size_t room = WINDOW - (launched - drained);
        size_t wanted = random_between(&flow->random, BATCH_MIN, BATCH_MAX);
        wanted = wanted < count - launched ? wanted : count - launched;
        if (wanted > 0 && wanted <= room) {
            launch_some(flow, launched, wanted);
            launched += wanted;
            drained += drain_some(flow, 0);
        } else {
            drained += drain_some(flow, TR_FOREVER);
        }
    }
    return now_ns() - begin;
}

static void open_flow(struct flow *flow, const struct options *options)
{
    host_open(&flow->host, NULL, SESSIONS, true);
    flow->tool = host_tool(&flow->host, "mix", tool_mix, NULL, 0);
    flow->random.state = options->seed;
    for (size_t at = 0; at < BATCH_MAX; at++) {
        flow->requests[at] = (tr_request)TR_REQUEST_INIT(0, flow->tool);
        flow->requests[at].options.route = TR_ROUTE_BACKGROUND;
        flow->requests[at].input = (tr_bytes){&flow->inputs[at], sizeof flow->inputs[at]};
    }
    ledger_open(&flow->ledger, options->seed, options->size);
}

void run_background(const struct options *options)
{
    static struct flow flow;
    struct samples samples;
    size_t work = options->quick ? 1000000 : 4000000;
    size_t passes = options->size < work ? work / options->size : 1;
    passes = passes > 100 ? 100 : passes;
    samples_open(&samples, passes);
    open_flow(&flow, options);
    size_t count = flow.ledger.count;
    /* Warm-up: at least four windows, so that slots, queues and threads are what they will be. */
    for (size_t done = 0; done < 4 * (size_t)WINDOW; done += flow.ledger.count) {
        flow.ledger.count = count < 4 * (size_t)WINDOW ? count : 4 * (size_t)WINDOW;
        (void)pass(&flow, flow.ledger.count);
    }
    flow.ledger.count = count;
    uint64_t resident = resident_bytes();
    uint64_t spent = cpu_ns();
    for (size_t at = 0; at < passes; at++) {
        samples_add(&samples, pass(&flow, count));
    }
    spent = cpu_ns() - spent;
    uint64_t grown = resident_bytes();
    grown = grown > resident ? grown - resident : 0;
    double total = (double)count * (double)passes;
    ledger_close(&flow.ledger);
    host_close(&flow.host);
    report_begin(options, "ns/task", (double)samples_at(&samples, 0.5) / (double)count);
    report_also("growth B/task", (double)grown / total);
    report_also("cpu ns/task", (double)spent / total);
    report_parameter("calls", count);
    report_parameter("passes", passes);
    report_parameter("window", WINDOW);
    report_parameter("batch_min", BATCH_MIN);
    report_parameter("batch_max", BATCH_MAX);
    report_parameter("sessions", SESSIONS);
    report_end();
    samples_close(&samples);
}
