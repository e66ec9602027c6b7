/*
 * background.c: background-n: n no-op background calls, drained in batches (flow.h).
 *
 * Measured: wall time of a pass over n calls, per call; how resident memory grew over all passes,
 * per call; for more than 10⁵ calls, what it was after 10⁵ and what it is in the end, in MiB: it
 * should be the same. A pass before the first one warms up: it is not measured, for no contender.
 */
#include "counts.h"
#include "flow.h"
#include "workloads.h"

#include <string.h>

#define MARK 100000u
#define MIB 1048576.0

void run_background(const struct options *options)
{
    static struct flow flow;
    struct samples samples;
    struct counts counts;
    size_t count = options->size;
    size_t work = options->quick ? 1000000 : 4000000;
    size_t passes = count < work ? work / count : 1;
    passes = passes > 100 ? 100 : passes;
    samples_open(&samples, passes);
    counts_open(options);
    flow_open(&flow, options, NULL, count);
    flow_warm(&flow);
    memset(flow.ledger.marks, 0, count); /* its pages are the benchmark's, not the manager's */
    uint64_t resident = resident_bytes();
    bool marked = count > MARK;
    flow.mark = marked ? MARK : 0;
    counts_begin(&flow.host, &counts);
    uint64_t spent = cpu_ns();
    for (size_t at = 0; at < passes; at++) {
        samples_add(&samples, flow_pass(&flow, count));
    }
    spent = cpu_ns() - spent;
    counts_end(&flow.host, &counts);
    uint64_t end = resident_bytes();
    uint64_t grown = end > resident ? end - resident : 0;
    double total = (double)count * (double)passes;
    flow_close(&flow);
    report_begin(options, "ns/task", (double)samples_at(&samples, 0.5) / (double)count);
    report_also("growth B/task", (double)grown / total);
    report_also("cpu ns/task", (double)spent / total);
    report_also("resident MiB", (double)end / MIB);
    if (marked) {
        report_also("resident after 100000 MiB", (double)flow.mark_bytes / MIB);
    }
    counts_report(&counts, total);
    report_parameter("calls", count);
    report_parameter("passes", passes);
    flow_report();
    report_end();
    samples_close(&samples);
}
