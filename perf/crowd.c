/*
 * crowd.c: crowd: one call at a time while 1000 other turns wait.
 *
 * Each of 1000 threads waits in tr_turn_wait for a turn of its own, with one deferred call in it.
 * Beside them one host thread launches a no-op, waits for it, and so on. Nobody in the crowd may be
 * woken by that; in the end each gets the result of its own call and nothing else.
 *
 * Blocks of calls alone and beside the crowd take turns in one process, a crowd being gathered and
 * dispersed each time, so that whatever else the machine does meets both alike.
 *
 * Measured: ns per call beside the crowd and alone, medians of blocks; and the median of the
 * ratios, each of a crowded block to the mean of its two neighbours alone; and the best block of
 * each, which is what a machine with other things to do leaves undisturbed.
 */
#include "workloads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CROWD 1000
#define STACK_BYTES 65536

struct waiter {
    struct host *host;
    pthread_t thread;
    tr_turn_id turn;
    tr_task_id task;
    size_t results;
    size_t wakes;
};

static struct waiter waiters[CROWD];
static atomic_size_t deferred;
static atomic_size_t waiting;

static void *wait_for_own(void *context)
{
    struct waiter *waiter = context;
    tr_batch *batch;
    atomic_fetch_add(&waiting, 1);
    while (tr_turn_wait(waiter->host->manager, waiter->turn, NULL, TR_FOREVER, 8, &batch) ==
           TR_WAIT_ITEMS) {
        waiter->wakes += 1;
        for (size_t at = 0; at < batch->count; at++) {
            REQUIRE(batch->items[at].task == waiter->task);
            REQUIRE(batch->items[at].outcome == TR_OUTCOME_COMPLETED);
            waiter->results += 1;
        }
        tr_batch_release(batch);
    }
    return NULL;
}

static void gather(struct host *host, tr_tool_id tool)
{
    pthread_attr_t attributes;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0);
    for (size_t at = 0; at < CROWD; at++) {
        struct waiter *waiter = &waiters[at];
        waiter->host = host;
        waiter->results = 0;
        waiter->wakes = 0;
        REQUIRE(tr_turn_open(host->manager, host->sessions[0], NULL, &waiter->turn) == 0);
        tr_request request = TR_REQUEST_INIT(waiter->turn, tool);
        waiter->task = host_launch(host, &request);
    }
    await_count(&deferred, CROWD);
    atomic_store(&deferred, 0);
    for (size_t at = 0; at < CROWD; at++) {
        REQUIRE(pthread_create(&waiters[at].thread, &attributes, wait_for_own, &waiters[at]) == 0);
    }
    await_count(&waiting, CROWD);
    atomic_store(&waiting, 0);
    REQUIRE(pthread_attr_destroy(&attributes) == 0);
}

static void disperse(struct host *host)
{
    for (size_t at = 0; at < CROWD; at++) {
        tr_deferred handle = {host->manager, waiters[at].task};
        REQUIRE(tr_finish(handle, 0, NULL, 0) == 0);
    }
    for (size_t at = 0; at < CROWD; at++) {
        REQUIRE(pthread_join(waiters[at].thread, NULL) == 0);
        REQUIRE(waiters[at].results == 1 && waiters[at].wakes == 1);
        REQUIRE(tr_turn_close(host->manager, waiters[at].turn, 0) == 0);
    }
}

/* Nanoseconds per call of `calls` no-ops, one at a time. */
static double one_by_one(struct host *host, tr_tool_id tool, struct ledger *ledger, size_t calls)
{
    tr_request request = TR_REQUEST_INIT(host->turns[0], tool);
    uint64_t input;
    request.input = (tr_bytes){&input, sizeof input};
    ledger_reset(ledger);
    uint64_t begin = now_ns();
    for (size_t index = 0; index < calls; index++) {
        tr_batch *batch;
        input = ledger_input(ledger, index);
        request.user = (void *)(uintptr_t)index;
        (void)host_launch(host, &request);
        REQUIRE(tr_turn_wait(host->manager, host->turns[0], NULL, TR_FOREVER, 8, &batch) ==
                TR_WAIT_ITEMS);
        REQUIRE(batch->count == 1);
        note_item(ledger, &batch->items[0]);
        tr_batch_release(batch);
    }
    uint64_t took = now_ns() - begin;
    REQUIRE(ledger->seen == calls);
    return (double)took / (double)calls;
}

void run_crowd(const struct options *options)
{
    struct host host;
    struct ledger ledger;
    struct samples alone, crowded, ratios;
    size_t blocks = options->quick ? 7 : 15;
    size_t calls = vary(options, options->quick ? 2000 : 6000);
    ledger_open(&ledger, options->seed, calls);
    samples_open(&alone, blocks + 1);
    samples_open(&crowded, blocks);
    samples_open(&ratios, blocks);
    host_open(&host, NULL, 1, false);
    tr_tool_id mixer = host_tool(&host, "mix", tool_mix, NULL, 0);
    tr_tool_id waiter = host_tool(&host, "wait", tool_defer, &deferred, 0);
    (void)one_by_one(&host, mixer, &ledger, calls); /* warm-up */
    double before = one_by_one(&host, mixer, &ledger, calls);
    samples_add(&alone, (uint64_t)before);
    for (size_t block = 0; block < blocks; block++) {
        gather(&host, waiter);
        (void)one_by_one(&host, mixer, &ledger, calls / 10); /* the last of them fall asleep */
        double beside = one_by_one(&host, mixer, &ledger, calls);
        disperse(&host);
        (void)one_by_one(&host, mixer, &ledger, calls / 10);
        double after = one_by_one(&host, mixer, &ledger, calls);
        samples_add(&crowded, (uint64_t)beside);
        samples_add(&alone, (uint64_t)after);
        samples_add(&ratios, (uint64_t)(beside / ((before + after) / 2) * 1e6));
        before = after;
    }
    ledger.seen = calls; /* each block has checked its own */
    ledger_close(&ledger);
    host_close(&host);
    report_begin(options, "ns/call", (double)samples_at(&crowded, 0.5));
    report_also("alone ns/call", (double)samples_at(&alone, 0.5));
    report_also("crowd / alone", (double)samples_at(&ratios, 0.5) / 1e6);
    report_also("crowd / alone, best blocks",
                (double)samples_at(&crowded, 0) / (double)samples_at(&alone, 0));
    report_parameter("calls", calls);
    report_parameter("blocks", blocks);
    report_parameter("crowd", CROWD);
    report_end();
    samples_close(&alone);
    samples_close(&crowded);
    samples_close(&ratios);
}
