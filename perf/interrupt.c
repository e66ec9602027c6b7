/*
 * interrupt.c: interrupt-n: interrupting an empty turn after n tasks have finished.
 *
 * The tasks ran through the same manager and were drained; nothing of them is left. Then a turn
 * without calls is interrupted again and again: what was there before must not be looked through.
 *
 * Measured: ns per interrupt: the mean over blocks, and single ones with the clock's own cost.
 */
#include "flow.h"
#include "workloads.h"

#define PASS_MAX 1000000u
#define BLOCK 1000u

void run_interrupt(const struct options *options)
{
    static struct flow flow;
    struct samples blocks, singles;
    size_t finished = options->size;
    size_t repeats = options->quick ? 50 : 200;
    samples_open(&blocks, repeats);
    samples_open(&singles, repeats * BLOCK);
    flow_open(&flow, options, NULL, finished < PASS_MAX ? finished : PASS_MAX);
    for (size_t left = finished; left > 0;) {
        size_t count = left < PASS_MAX ? left : PASS_MAX;
        (void)flow_pass(&flow, count);
        left -= count;
    }
    tr_turn_id turn;
    tr_manager *manager = flow.host.manager;
    REQUIRE(tr_turn_open(manager, flow.host.sessions[0], NULL, &turn) == 0);
    for (size_t repeat = 0; repeat < repeats; repeat++) {
        uint64_t begin = now_ns();
        for (size_t at = 0; at < BLOCK; at++) {
            REQUIRE(tr_turn_interrupt(manager, turn, NULL) == 0);
        }
        samples_add(&blocks, now_ns() - begin);
        uint64_t before = now_ns();
        for (size_t at = 0; at < BLOCK; at++) {
            REQUIRE(tr_turn_interrupt(manager, turn, NULL) == 0);
            uint64_t after = now_ns();
            samples_add(&singles, after - before);
            before = after;
        }
    }
    flow_close(&flow);
    report_begin(options, "ns/interrupt", (double)samples_at(&blocks, 0.5) / BLOCK);
    report_latency("single ns", &singles, 1);
    report_parameter("finished", finished);
    report_parameter("interrupts", 2 * repeats * BLOCK);
    flow_report();
    report_end();
    samples_close(&blocks);
    samples_close(&singles);
}
