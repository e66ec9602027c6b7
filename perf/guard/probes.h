/*
 * probes.h: the hot paths whose instructions are counted, one function each.
 *
 * A probe runs its path `rounds` times on a stage of its own; what one round does, divided by
 * `operations`, is the figure.
 */
#ifndef PERF_GUARD_PROBES_H
#define PERF_GUARD_PROBES_H

#include "stage.h"

enum probe_stage {
    PROBE_THREADED,
    PROBE_INLINE,
    PROBE_BARE, /* none: parts alone */
};

struct probe {
    const char *name;
    void (*run)(struct stage *stage, unsigned rounds);
    unsigned operations; /* in one round */
    enum probe_stage stage;
    void (*prepare)(struct stage *stage); /* once, uncounted; or NULL */
};

/* calls.c: whole calls, through the public interface. */
extern const struct probe probes_of_calls[];
extern const unsigned probes_of_calls_count;
/* parts.c: wheel, ring, queues, fibers. */
extern const struct probe probes_of_parts[];
extern const unsigned probes_of_parts_count;

#endif
