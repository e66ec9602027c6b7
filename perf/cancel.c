/*
 * cancel.c: cancel: how fast a cancel arrives.
 *
 *  - notice: a function waits in tr_sleep; from tr_task_cancel until it runs again with
 *    TR_ECANCELED.
 *  - signal: a child waits for SIGTERM; from tr_task_cancel until it has it, by the child's own
 *    clock.
 *  - interrupt: a turn of 100 waiting calls; from tr_turn_interrupt until all 100 resolutions are
 *    taken. Once in an otherwise empty manager, then beside 1 000 000 finished and 10 000 waiting
 *    calls.
 *
 * Each cancel happens when everything sleeps. Each call must end as cancelled. Measured: µs, the
 * first of them is the figure that counts.
 */
#include "workloads.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"

#define HOUR_NS (3600 * TR_SECOND)
#define TURN_CALLS 100
#define BESIDE_FINISHED 1000000
#define BESIDE_WAITING 10000
#define BATCH 256

static atomic_size_t started;
static _Atomic uint64_t noticed_ns;

static int tool_sleep(tr_call *call, void *context)
{
    (void)context;
    int status = tr_sleep(call, HOUR_NS);
    atomic_store_explicit(&noticed_ns, now_ns(), memory_order_release);
    return status;
}

static int tool_child(tr_call *call, void *context)
{
    const char *const argv[] = {child_program(), "--signal-clock", NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    char text[64] = "";
    unsigned long long stamp = 0;
    (void)context;
    spec.argv = argv;
    int status = tr_process(call, &spec, &result);
    if (status != 0) {
        return status;
    }
    REQUIRE(result.cancelled && result.out.size < sizeof text);
    memcpy(text, result.out.data, result.out.size);
    REQUIRE(sscanf(text, "ready %llu", &stamp) == 1);
    atomic_store_explicit(&noticed_ns, (uint64_t)stamp, memory_order_release);
    tr_process_result_done(&result);
    return TR_ECANCELED;
}

static void rest(void)
{
    struct timespec pause = {0, 200000};
    (void)nanosleep(&pause, NULL); /* a shorter rest is as good */
}

static void take_cancelled(struct host *host, tr_turn_id turn, size_t count)
{
    while (count > 0) {
        tr_batch *batch;
        REQUIRE(tr_turn_wait(host->manager, turn, NULL, TR_FOREVER, HOST_ITEMS_MAX, &batch) ==
                TR_WAIT_ITEMS);
        for (size_t at = 0; at < batch->count; at++) {
            REQUIRE(batch->items[at].outcome == TR_OUTCOME_CANCELLED);
        }
        REQUIRE(batch->count <= count);
        count -= batch->count;
        tr_batch_release(batch);
    }
}

/* Cancels a waiting task and returns how long its function, or child, took to notice. */
static uint64_t cancel_one(struct host *host, tr_task_id task)
{
    rest();
    uint64_t begin = now_ns();
    REQUIRE(tr_task_cancel(host->manager, task, NULL) == 0);
    take_cancelled(host, host->turns[0], 1);
    uint64_t noticed;
    /* The outcome may be delivered before the function has run: wait for the function. */
    while ((noticed = atomic_exchange_explicit(&noticed_ns, 0, memory_order_acquire)) == 0) {
        (void)sched_yield();
    }
    REQUIRE(noticed >= begin);
    return noticed - begin;
}

static void measure_notice(struct host *host, struct samples *samples)
{
    tr_tool_id tool = host_tool(host, "sleep", tool_sleep, NULL, TR_TOOL_AWAITING);
    tr_request request = TR_REQUEST_INIT(host->turns[0], tool);
    while (samples->count < samples->room) {
        tr_snapshot snapshot;
        tr_task_id task = host_launch(host, &request);
        do {
            (void)sched_yield();
            REQUIRE(tr_task_snapshot(host->manager, task, &snapshot) == 0);
        } while (snapshot.state != TR_STATE_WAITING);
        samples_add(samples, cancel_one(host, task));
    }
}

static void measure_signal(struct host *host, struct samples *samples)
{
    tr_tool_id tool = host_tool(host, "child", tool_child, NULL, TR_TOOL_AWAITING);
    tr_request request = TR_REQUEST_INIT(host->turns[0], tool);
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    tr_reader *reader;
    options.types = UINT64_C(1) << TR_EVENT_OUTPUT;
    REQUIRE(tr_reader_open(host->manager, &options, &reader) == 0);
    while (samples->count < samples->room) {
        tr_event event;
        tr_task_id task = host_launch(host, &request);
        do { /* the child is ready when it has said so; events of the one before may come first */
            REQUIRE(tr_reader_read(reader, &event, 1, 10 * TR_SECOND) == 1);
        } while (event.snapshot.task != task);
        samples_add(samples, cancel_one(host, task));
    }
    tr_reader_close(reader);
}

static void measure_interrupt(struct host *host, tr_tool_id tool, struct samples *samples)
{
    tr_session_id session;
    tr_request requests[TURN_CALLS];
    tr_launched launched[TURN_CALLS];
    REQUIRE(tr_session_open(host->manager, NULL, &session) == 0);
    while (samples->count < samples->room) {
        tr_turn_id turn;
        size_t before = atomic_load(&started);
        REQUIRE(tr_turn_open(host->manager, session, NULL, &turn) == 0);
        for (size_t at = 0; at < TURN_CALLS; at++) {
            requests[at] = (tr_request)TR_REQUEST_INIT(turn, tool);
        }
        host_launch_batch(host, requests, TURN_CALLS, launched);
        await_count(&started, before + TURN_CALLS);
        rest();
        uint64_t begin = now_ns();
        REQUIRE(tr_turn_interrupt(host->manager, turn, NULL) == TURN_CALLS);
        take_cancelled(host, turn, TURN_CALLS);
        samples_add(samples, now_ns() - begin);
        REQUIRE(tr_turn_close(host->manager, turn, 0) == 0);
    }
    REQUIRE(tr_session_close(host->manager, session, 0) == 0);
}

/* Runs a million calls to their end and leaves ten thousand waiting, all in other turns. */
static void surround(struct host *host, tr_tool_id mixer, tr_tool_id waiter)
{
    static tr_request requests[BATCH];
    static tr_launched launched[BATCH];
    uint64_t input = 1;
    tr_session_id session;
    tr_turn_id turn;
    REQUIRE(tr_session_open(host->manager, NULL, &session) == 0);
    REQUIRE(tr_turn_open(host->manager, session, NULL, &turn) == 0);
    for (size_t at = 0; at < BATCH; at++) {
        requests[at] = (tr_request)TR_REQUEST_INIT(turn, mixer);
        requests[at].input = (tr_bytes){&input, sizeof input};
    }
    for (size_t done = 0; done < BESIDE_FINISHED; done += BATCH) {
        tr_batch *batch;
        size_t left = BATCH;
        host_launch_batch(host, requests, BATCH, launched);
        while (left > 0) {
            REQUIRE(tr_turn_wait(host->manager, turn, NULL, TR_FOREVER, BATCH, &batch) ==
                    TR_WAIT_ITEMS);
            left -= batch->count;
            tr_batch_release(batch);
        }
    }
    size_t before = atomic_load(&started);
    tr_request request = TR_REQUEST_INIT(turn, waiter);
    for (size_t at = 0; at < BESIDE_WAITING; at++) {
        (void)host_launch(host, &request);
    }
    await_count(&started, before + BESIDE_WAITING);
}

void run_cancel(const struct options *options)
{
    struct host host;
    struct samples notice, signals, alone, beside;
    samples_open(&notice, vary(options, options->quick ? 500 : 4000));
    samples_open(&signals, vary(options, options->quick ? 64 : 400));
    samples_open(&alone, vary(options, options->quick ? 100 : 500));
    samples_open(&beside, vary(options, options->quick ? 100 : 500));
    host_open(&host, NULL, 1, false);
    measure_notice(&host, &notice);
    measure_signal(&host, &signals);
    tr_tool_id waiter = host_tool(&host, "defer", tool_defer, &started, 0);
    tr_tool_id mixer = host_tool(&host, "mix", tool_mix, NULL, 0);
    measure_interrupt(&host, waiter, &alone);
    surround(&host, mixer, waiter);
    measure_interrupt(&host, waiter, &beside);
    host_close(&host);
    report_begin(options, "notice p99 µs", (double)samples_at(&notice, 0.99) / 1e3);
    report_latency("notice µs", &notice, 1e3);
    report_latency("signal µs", &signals, 1e3);
    report_latency("interrupt alone µs", &alone, 1e3);
    report_latency("interrupt beside µs", &beside, 1e3);
    report_parameter("notices", notice.count);
    report_parameter("signals", signals.count);
    report_parameter("interrupts", beside.count);
    report_end();
    samples_close(&notice);
    samples_close(&signals);
    samples_close(&alone);
    samples_close(&beside);
}
