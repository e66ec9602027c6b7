/*
 * flow.h: no-op background calls through one manager, drained in batches: an agent server with one
 * event loop. The work of `background`, and the load of workloads that measure something else.
 *
 * One host thread launches batches of calls over 16 sessions and drains whatever is ready in
 * between, so that never more than FLOW_WINDOW calls are outstanding. Each call takes 8 bytes and
 * returns 8; every result is compared with what it must be, each index must come once.
 */
#ifndef PERF_FLOW_H
#define PERF_FLOW_H

#include "host.h"

#define FLOW_WINDOW 16384u
#define FLOW_BATCH_MIN 192u
#define FLOW_BATCH_MAX 320u
#define FLOW_SESSIONS 16u

struct flow {
    struct host host;
    tr_tool_id tool;
    struct random random;
    struct ledger ledger;
    size_t mark;         /* calls of a pass after which resident memory is looked at; 0: never */
    uint64_t mark_bytes; /* what it was */
    uint64_t inputs[FLOW_BATCH_MAX];
    tr_request requests[FLOW_BATCH_MAX];
    tr_launched launched[FLOW_BATCH_MAX];
};

/* Opens a manager (config NULL: all defaults) and room to account for `count` calls in a pass. */
void flow_open(struct flow *flow, const struct options *options, tr_config *config, size_t count);
/* Launches, runs and drains `count` calls, at most as many as there is room for; returns the
 * nanoseconds it took. */
uint64_t flow_pass(struct flow *flow, size_t count);
/* A pass until slots, queues and threads are what they will be. */
void flow_warm(struct flow *flow);
void flow_close(struct flow *flow);
/* The parameters, in the line. */
void flow_report(void);

#endif
