/*
 * onetbb.cpp: peer "onetbb": tasks of oneTBB's work-stealing scheduler.
 *
 * Fair because: its default arena (all processors, the waiting thread works too); task_group::run
 * for each call, its ordinary interface; window, payload and check as toolring's. Each result goes
 * to a place of its own, read after the group's wait, so there is no queue of results at all. It
 * does less: no tracking by id, no cancel of one, no deadlines, no events.
 */
#include <cstdint>
#include <string>
#include <vector>

#include <tbb/task_group.h>
#include <tbb/version.h>

extern "C" {
#include "measure.h"
}

static const size_t WINDOW = 16384;

/* Launches, waits for and checks calls first … first + count - 1. */
static void run_group(struct ledger *ledger, std::vector<std::uint64_t> &results, size_t first,
                      size_t count)
{
    tbb::task_group group;
    for (size_t at = 0; at < count; at++) {
        std::uint64_t input = ledger_input(ledger, first + at);
        std::uint64_t *result = &results[at];
        group.run([input, result] { *result = mix(input); });
    }
    group.wait();
    for (size_t at = 0; at < count; at++) {
        ledger_note(ledger, first + at, results[at]);
    }
}

static std::uint64_t pass(struct ledger *ledger, std::vector<std::uint64_t> &results)
{
    ledger_reset(ledger);
    std::uint64_t begin = now_ns();
    for (size_t done = 0; done < ledger->count; done += WINDOW) {
        size_t left = ledger->count - done;
        run_group(ledger, results, done, left < WINDOW ? left : WINDOW);
    }
    return now_ns() - begin;
}

static void run_background(const struct options *options)
{
    struct ledger ledger;
    struct samples samples;
    std::vector<std::uint64_t> results(WINDOW);
    size_t work = options->quick ? 1000000 : 4000000;
    size_t passes = options->size < work ? work / options->size : 1;
    passes = passes > 100 ? 100 : passes;
    samples_open(&samples, passes);
    ledger_open(&ledger, options->seed, options->size);
    (void)pass(&ledger, results); /* warm-up */
    std::uint64_t resident = resident_bytes();
    std::uint64_t spent = cpu_ns();
    for (size_t at = 0; at < passes; at++) {
        samples_add(&samples, pass(&ledger, results));
    }
    spent = cpu_ns() - spent;
    std::uint64_t grown = resident_bytes();
    grown = grown > resident ? grown - resident : 0;
    double total = (double)options->size * (double)passes;
    ledger_close(&ledger);
    report_begin(options, "ns/task", (double)samples_at(&samples, 0.5) / (double)options->size);
    report_also("growth B/task", (double)grown / total);
    report_also("cpu ns/task", (double)spent / total);
    report_parameter("calls", options->size);
    report_parameter("passes", passes);
    report_parameter("window", WINDOW);
    report_end();
    samples_close(&samples);
}

static void run_turns(const struct options *options)
{
    struct ledger ledger;
    struct samples samples;
    std::vector<std::uint64_t> results(options->size);
    size_t work = options->quick ? 200000 : 800000;
    size_t turns = vary(options, work / (options->size + 8) + 8);
    size_t warm = turns / 10 + 1;
    std::uint64_t begin = 0;
    samples_open(&samples, turns);
    ledger_open(&ledger, options->seed, (turns + warm) * options->size);
    for (size_t turn = 0; turn < turns + warm; turn++) {
        std::uint64_t start = now_ns();
        begin = turn == warm ? start : begin;
        run_group(&ledger, results, turn * options->size, options->size);
        if (turn >= warm) {
            samples_add(&samples, now_ns() - start);
        }
    }
    std::uint64_t took = now_ns() - begin;
    ledger_close(&ledger);
    report_begin(options, "ns/task", (double)took / (double)(turns * options->size));
    report_latency("turn µs", &samples, 1e3);
    report_parameter("calls", options->size);
    report_parameter("turns", turns);
    report_end();
    samples_close(&samples);
}

static const struct family families[] = {
    {"background-*", 100000000, run_background},
    {"turns-*", 65536, run_turns},
};

int main(int argc, char **argv)
{
    return measure_main(argc, argv, "onetbb", TBB_VERSION_STRING, families,
                        sizeof families / sizeof families[0]);
}
