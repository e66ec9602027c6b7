/*
 * flow.c: see flow.h. Owner thread: the one that drives the flow. Called by workloads; calls host.
 */
#include "flow.h"

static void launch_some(struct flow *flow, size_t first, size_t count)
{
    tr_turn_id turn = flow->host.turns[random_next(&flow->random) % FLOW_SESSIONS];
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

uint64_t flow_pass(struct flow *flow, size_t count)
{
    size_t room_max = flow->ledger.count;
    size_t launched = 0;
    size_t drained = 0;
    REQUIRE(count <= room_max);
    flow->ledger.count = count;
    ledger_reset(&flow->ledger);
    uint64_t begin = now_ns();
    while (drained < count) {
        size_t room = FLOW_WINDOW - (launched - drained);
        size_t wanted = random_between(&flow->random, FLOW_BATCH_MIN, FLOW_BATCH_MAX);
        wanted = wanted < count - launched ? wanted : count - launched;
        if (wanted > 0 && wanted <= room) {
            launch_some(flow, launched, wanted);
            launched += wanted;
            drained += drain_some(flow, 0);
        } else {
            drained += drain_some(flow, TR_FOREVER);
        }
        if (flow->mark != 0 && drained >= flow->mark) {
            flow->mark_bytes = resident_bytes();
            flow->mark = 0;
        }
    }
    uint64_t took = now_ns() - begin;
    REQUIRE(flow->ledger.seen == count);
    flow->ledger.count = room_max;
    return took;
}

/* As many calls outstanding as there will ever be, none of them taken: every record that a pass can
 * need is touched, so what grows later is not the window filling for the first time. */
static void fill(struct flow *flow)
{
    size_t room_max = flow->ledger.count;
    flow->ledger.count = FLOW_WINDOW;
    ledger_reset(&flow->ledger);
    for (size_t launched = 0; launched < FLOW_WINDOW;) {
        size_t wanted = random_between(&flow->random, FLOW_BATCH_MIN, FLOW_BATCH_MAX);
        wanted = wanted < FLOW_WINDOW - launched ? wanted : FLOW_WINDOW - launched;
        launch_some(flow, launched, wanted);
        launched += wanted;
    }
    for (size_t drained = 0; drained < FLOW_WINDOW;) {
        drained += drain_some(flow, TR_FOREVER);
    }
    flow->ledger.count = room_max;
}

void flow_warm(struct flow *flow)
{
    if (flow->ledger.count >= FLOW_WINDOW) {
        fill(flow);
    }
    size_t count = flow->ledger.count < 4 * FLOW_WINDOW ? flow->ledger.count : 4 * FLOW_WINDOW;
    for (size_t done = 0; done < 4 * FLOW_WINDOW; done += count) {
        (void)flow_pass(flow, count);
    }
}

void flow_open(struct flow *flow, const struct options *options, tr_config *config, size_t count)
{
    flow->mark = 0;
    host_open(&flow->host, config, FLOW_SESSIONS, true);
    flow->tool = host_tool(&flow->host, "mix", tool_mix, NULL, 0);
    flow->random.state = options->seed;
    for (size_t at = 0; at < FLOW_BATCH_MAX; at++) {
        flow->requests[at] = (tr_request)TR_REQUEST_INIT(0, flow->tool);
        flow->requests[at].options.route = TR_ROUTE_BACKGROUND;
        flow->requests[at].input = (tr_bytes){&flow->inputs[at], sizeof flow->inputs[at]};
    }
    ledger_open(&flow->ledger, options->seed, count);
}

void flow_close(struct flow *flow)
{
    flow->ledger.seen = flow->ledger.count; /* each pass has checked its own */
    ledger_close(&flow->ledger);
    host_close(&flow->host);
}

void flow_report(void)
{
    report_parameter("window", FLOW_WINDOW);
    report_parameter("batch_min", FLOW_BATCH_MIN);
    report_parameter("batch_max", FLOW_BATCH_MAX);
    report_parameter("sessions", FLOW_SESSIONS);
}
