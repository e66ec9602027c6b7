/*
 * counts.h: how often the engine's threads and the host's enter the kernel, wake somebody or sleep,
 * per call.
 *
 * Timing is noise on a busy machine; these are counted. System calls need the kernel's tracepoint
 * (root, and a mounted tracefs) and make each of them dearer, so they are counted only when asked
 * for with --counts, in a run whose times are not used.
 */
#ifndef PERF_COUNTS_H
#define PERF_COUNTS_H

#include "host.h"

struct counts {
    uint64_t system_calls; /* of every thread; COUNTS_NONE: not counted */
    uint64_t switches;     /* times a thread gave up the processor of its own accord */
    uint64_t ring_enters;
    uint64_t ring_wakes;
    uint64_t wakes; /* of workers */
    uint64_t parks;
};

#define COUNTS_NONE UINT64_MAX

/* Before the manager is opened: threads made from here on are counted. Nothing without --counts. */
void counts_open(const struct options *options);
/* Around the work, with the same threads before and after. */
void counts_begin(struct host *host, struct counts *counts);
void counts_end(struct host *host, struct counts *counts);
/* After report_begin: each count divided by `calls`. */
void counts_report(const struct counts *counts, double calls);

#endif
