/*
 * idle.c: idle: what 10 000 waiting tasks cost while nothing happens.
 *
 * Half of them are deferred, with a deadline an hour away; half are fibers in tr_sleep. The host
 * sleeps for 10 s (1 s when quick). Then all are cancelled, and each must say so. Measured: CPU
 * seconds of the whole process, kernel time included.
 */
#include "workloads.h"

#include <stdatomic.h>

#define TASKS 10000
#define HOUR_NS (3600 * TR_SECOND)

static atomic_size_t started;

static int tool_sleep(tr_call *call, void *context)
{
    atomic_fetch_add_explicit((atomic_size_t *)context, 1, memory_order_release);
    return tr_sleep(call, HOUR_NS);
}

static void rest(uint64_t duration_ns)
{
    struct timespec left = {(time_t)(duration_ns / TR_SECOND), (long)(duration_ns % TR_SECOND)};
    while (nanosleep(&left, &left) != 0) {
    }
}

static void take_cancelled(struct host *host, size_t count)
{
    while (count > 0) {
        tr_batch *batch = NULL;
        int taken = tr_queue_drain(host->queue, TR_FOREVER, HOST_ITEMS_MAX, &batch);
        REQUIRE(taken > 0 && (size_t)taken <= count);
        for (int at = 0; at < taken; at++) {
            REQUIRE(batch->items[at].outcome == TR_OUTCOME_CANCELLED);
        }
        count -= (size_t)taken;
        tr_batch_release(batch);
    }
}

void run_idle(const struct options *options)
{
    struct host host;
    uint64_t duration_ns = (options->quick ? 1 : 10) * TR_SECOND;
    host_open(&host, NULL, 1, true);
    tr_tool_id defer = host_tool(&host, "defer", tool_defer, &started, 0);
    tr_tool_id sleeper = host_tool(&host, "sleep", tool_sleep, &started, TR_TOOL_AWAITING);
    for (size_t at = 0; at < TASKS; at++) {
        tr_request request = TR_REQUEST_INIT(host.turns[0], at % 2 == 0 ? defer : sleeper);
        request.options.total_timeout_ns = at % 2 == 0 ? HOUR_NS : 0;
        (void)host_launch(&host, &request);
    }
    await_count(&started, TASKS);
    rest(TR_SECOND / 5); /* what the launches left behind is done */
    uint64_t spent = cpu_ns();
    rest(duration_ns);
    spent = cpu_ns() - spent;
    REQUIRE(tr_turn_interrupt(host.manager, host.turns[0], "enough") == TASKS);
    take_cancelled(&host, TASKS);
    host_close(&host);
    report_begin(options, "cpu s", (double)spent / 1e9);
    report_parameter("tasks", TASKS);
    report_parameter("seconds", duration_ns / TR_SECOND);
    report_end();
}
