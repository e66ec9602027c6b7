/*
 * detach.c: detach-n: n calls that sleep 20 ms, each detached 5 ms after its acceptance.
 *
 * All are launched as fast as the host can, over 16 turns bound to one drain queue. For each the
 * queue must bring two things in order: that it was detached, through its turn, and its result,
 * through its session's loop. The sleep is tr_sleep on a fiber: the plainest way to write such a
 * tool.
 *
 * Measured: wall time from the first launch to the last result, per call; lateness of a detach, by
 * the engine's own time stamps, which may never be negative.
 */
#include "counts.h"
#include "workloads.h"

#include <stdlib.h>

#define SLEEP_NS (20 * TR_MILLISECOND)
#define DETACH_NS (5 * TR_MILLISECOND)
#define BATCH_MIN 192
#define BATCH_MAX 320
#define SESSIONS 16

struct work {
    struct host host;
    struct ledger results;
    uint8_t *detached;
    size_t detached_count;
    struct samples lateness;
    uint64_t inputs[BATCH_MAX];
    tr_request requests[BATCH_MAX];
    tr_launched launched[BATCH_MAX];
};

static int tool_sleep(tr_call *call, void *context)
{
    int status = tr_sleep(call, SLEEP_NS);
    return status != 0 ? status : tool_mix(call, context);
}

static void note(struct work *work, const tr_item *item)
{
    size_t index = (size_t)item->user;
    REQUIRE(index < work->results.count);
    if (item->type == TR_ITEM_DETACHED) {
        REQUIRE(item->channel == TR_CHANNEL_TURN && work->detached[index] == 0);
        REQUIRE(item->ended_ns >= item->accepted_ns + DETACH_NS);
        samples_add(&work->lateness, item->ended_ns - item->accepted_ns - DETACH_NS);
        work->detached[index] = 1;
        work->detached_count += 1;
        return;
    }
    REQUIRE(item->channel == TR_CHANNEL_LOOP && work->detached[index] == 1);
    REQUIRE((item->flags & TR_ITEM_WAS_DETACHED) != 0);
    REQUIRE(item->ended_ns >= item->started_ns + SLEEP_NS);
    note_item(&work->results, item);
}

static void drain(struct work *work, uint64_t timeout_ns)
{
    tr_batch *batch = NULL;
    int count = tr_queue_drain(work->host.queue, timeout_ns, HOST_ITEMS_MAX, &batch);
    REQUIRE(count >= 0);
    for (int at = 0; at < count; at++) {
        note(work, &batch->items[at]);
    }
    tr_batch_release(batch);
}

static void launch(struct work *work, struct random *random, size_t first, size_t count)
{
    tr_turn_id turn = work->host.turns[random_next(random) % SESSIONS];
    for (size_t at = 0; at < count; at++) {
        work->inputs[at] = ledger_input(&work->results, first + at);
        work->requests[at].turn = turn;
        work->requests[at].user = (void *)(uintptr_t)(first + at);
    }
    host_launch_batch(&work->host, work->requests, count, work->launched);
}

/* One pass over all calls; returns the nanoseconds it took. */
static uint64_t pass(struct work *work, struct random *random)
{
    size_t count = work->results.count;
    size_t launched = 0;
    ledger_reset(&work->results);
    work->detached_count = 0;
    for (size_t at = 0; at < count; at++) {
        work->detached[at] = 0;
    }
    uint64_t begin = now_ns();
    while (work->results.seen < count) {
        size_t wanted = random_between(random, BATCH_MIN, BATCH_MAX);
        wanted = wanted < count - launched ? wanted : count - launched;
        if (wanted > 0) {
            launch(work, random, launched, wanted);
            launched += wanted;
        }
        drain(work, wanted > 0 ? 0 : TR_FOREVER);
    }
    uint64_t took = now_ns() - begin;
    REQUIRE(work->detached_count == count);
    return took;
}

void run_detach(const struct options *options)
{
    static struct work work;
    struct random random = {options->seed};
    struct samples passes;
    struct counts counts;
    size_t repeats = options->quick ? 2 : 5;
    tr_config config = TR_CONFIG_INIT;
    config.tasks_max = (uint32_t)options->size + 4096;
    config.fibers_max = (uint32_t)options->size + 64;
    counts_open(options);
    host_open(&work.host, &config, SESSIONS, true);
    tr_tool_id tool = host_tool(&work.host, "sleep", tool_sleep, NULL, TR_TOOL_AWAITING);
    for (size_t at = 0; at < BATCH_MAX; at++) {
        work.requests[at] = (tr_request)TR_REQUEST_INIT(0, tool);
        work.requests[at].options.route = TR_ROUTE_DETACH_AFTER;
        work.requests[at].options.detach_after_ns = DETACH_NS;
        work.requests[at].input = (tr_bytes){&work.inputs[at], sizeof work.inputs[at]};
    }
    ledger_open(&work.results, options->seed, options->size);
    work.detached = calloc(options->size, 1);
    REQUIRE(work.detached != NULL);
    samples_open(&work.lateness, (repeats + 1) * options->size);
    samples_open(&passes, repeats);
    (void)pass(&work, &random); /* warm-up: the stacks are made here */
    work.lateness.count = 0;
    counts_begin(&work.host, &counts);
    uint64_t spent = cpu_ns();
    for (size_t at = 0; at < repeats; at++) {
        samples_add(&passes, pass(&work, &random));
    }
    spent = cpu_ns() - spent;
    counts_end(&work.host, &counts);
    ledger_close(&work.results);
    host_close(&work.host);
    report_begin(options, "ns/task", (double)samples_at(&passes, 0.5) / (double)options->size);
    report_also("cpu ns/task", (double)spent / (double)(repeats * options->size));
    report_latency("detach late µs", &work.lateness, 1e3);
    counts_report(&counts, (double)(repeats * options->size));
    report_parameter("calls", options->size);
    report_parameter("passes", repeats);
    report_end();
    free(work.detached);
    samples_close(&work.lateness);
    samples_close(&passes);
}
