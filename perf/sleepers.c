/*
 * sleepers.c: sleepers-n and sleepers-fibers-n: n tasks that wait.
 *
 * Deferred ones hold no stack: the function returned TR_DEFERRED and somebody will call tr_finish.
 * Fibers are in the middle of tr_sleep. All of them are waiting at once when memory is looked at;
 * then each is cancelled by its id, and each must yield exactly one resolution that says so.
 *
 * Measured: resident bytes per task; ns per launch (until all wait), per cancel (the call), and per
 * result taken afterwards. What the benchmark itself holds per task is allocated and touched
 * before.
 */
#include "workloads.h"

#include <stdatomic.h>
#include <stdlib.h>

#define BATCH_MAX 320
#define BATCH_MIN 192
#define SESSIONS 16
#define HOUR_NS (3600 * TR_SECOND)

static atomic_size_t started;

static int tool_sleep(tr_call *call, void *context)
{
    atomic_fetch_add_explicit((atomic_size_t *)context, 1, memory_order_release);
    return tr_sleep(call, HOUR_NS);
}

struct bed {
    struct host host;
    uint8_t *marks;
    tr_task_id *tasks;
    size_t count;
    tr_request requests[BATCH_MAX];
    tr_launched launched[BATCH_MAX];
};

static void launch_all(struct bed *bed, struct random *random)
{
    for (size_t done = 0; done < bed->count;) {
        size_t wanted = random_between(random, BATCH_MIN, BATCH_MAX);
        wanted = wanted < bed->count - done ? wanted : bed->count - done;
        tr_turn_id turn = bed->host.turns[random_next(random) % SESSIONS];
        for (size_t at = 0; at < wanted; at++) {
            bed->requests[at].turn = turn;
            bed->requests[at].user = (void *)(uintptr_t)(done + at);
        }
        host_launch_batch(&bed->host, bed->requests, wanted, bed->launched);
        for (size_t at = 0; at < wanted; at++) {
            bed->tasks[done + at] = bed->launched[at].task;
        }
        done += wanted;
    }
    await_count(&started, bed->count);
}

static void cancel_all(struct bed *bed)
{
    for (size_t at = 0; at < bed->count; at++) {
        REQUIRE(tr_task_cancel(bed->host.manager, bed->tasks[at], NULL) == 0);
    }
}

static void take_all(struct bed *bed)
{
    size_t seen = 0;
    while (seen < bed->count) {
        tr_batch *batch = NULL;
        int count = tr_queue_drain(bed->host.queue, TR_FOREVER, HOST_ITEMS_MAX, &batch);
        REQUIRE(count > 0);
        for (int at = 0; at < count; at++) {
            const tr_item *item = &batch->items[at];
            size_t index = (size_t)item->user;
            REQUIRE(item->outcome == TR_OUTCOME_CANCELLED && index < bed->count);
            REQUIRE(bed->marks[index] == 0 && item->task == bed->tasks[index]);
            bed->marks[index] = 1;
        }
        seen += (size_t)count;
        tr_batch_release(batch);
    }
}

static void measure(const struct options *options, bool fibers)
{
    static struct bed bed;
    struct random random = {options->seed};
    tr_config config = TR_CONFIG_INIT;
    bed.count = options->size;
    bed.marks = ballast_open(bed.count);
    bed.tasks = ballast_open(bed.count * sizeof *bed.tasks);
    for (size_t at = 0; at < bed.count; at++) {
        bed.marks[at] = 0;
    }
    config.tasks_max = (uint32_t)bed.count + 4096;
    config.fibers_max = fibers ? (uint32_t)bed.count + 64 : 0;
    host_open(&bed.host, &config, SESSIONS, true);
    tr_tool_id tool = host_tool(&bed.host, "wait", fibers ? tool_sleep : tool_defer, &started,
                                fibers ? TR_TOOL_AWAITING : 0);
    for (size_t at = 0; at < BATCH_MAX; at++) {
        bed.requests[at] = (tr_request)TR_REQUEST_INIT(0, tool);
    }
    uint64_t resident = resident_bytes();
    uint64_t begin = now_ns();
    launch_all(&bed, &random);
    uint64_t launched = now_ns();
    resident = resident_bytes() - resident;
    uint64_t cancel = now_ns();
    cancel_all(&bed);
    uint64_t take = now_ns();
    take_all(&bed);
    uint64_t end = now_ns();
    double count = (double)bed.count;
    host_close(&bed.host);
    report_begin(options, "B/task", (double)resident / count);
    report_also("launch ns", (double)(launched - begin) / count);
    report_also("cancel ns", (double)(take - cancel) / count);
    report_also("take ns", (double)(end - take) / count);
    report_parameter("tasks", bed.count);
    report_end();
    ballast_close(bed.marks, bed.count);
    ballast_close(bed.tasks, bed.count * sizeof *bed.tasks);
}

void run_sleepers(const struct options *options)
{
    measure(options, false);
}

void run_sleepers_fibers(const struct options *options)
{
    measure(options, true);
}
