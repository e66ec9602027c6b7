/*
 * output.c: output: one child writes 1 GiB, the tool captures 1 MiB of it, head and tail.
 *
 * Every byte kept must be the one that was written there, and kept and omitted bytes must add up.
 * Measured: MiB/s from launch to resolution; resident memory at its peak, above what it was before.
 */
#include "workloads.h"

#include "child.h"

#define BYTES ((uint64_t)1 << 30)
#define CAP_BYTES ((uint64_t)1 << 20)

static int tool_capture(tr_call *call, void *context)
{
    char count[32];
    const char *const argv[] = {child_program(), "--write-bytes", count, NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    (void)context;
    (void)snprintf(count, sizeof count, "%llu", (unsigned long long)BYTES);
    spec.argv = argv;
    spec.output_bytes_max = CAP_BYTES;
    int status = tr_process(call, &spec, &result);
    if (status != 0) {
        return status;
    }
    REQUIRE(result.exit_code == 0 && result.error.size == 0);
    REQUIRE(result.out.size <= CAP_BYTES && result.out.size + result.out.omitted == BYTES);
    for (size_t at = 0; at < result.out.size; at++) {
        uint64_t offset = at < result.out.head ? at : at + result.out.omitted;
        REQUIRE(result.out.data[at] == child_byte(offset));
    }
    tr_process_result_done(&result);
    return 0;
}

static uint64_t capture(struct host *host, tr_tool_id tool)
{
    tr_batch *batch;
    tr_request request = TR_REQUEST_INIT(host->turns[0], tool);
    uint64_t begin = now_ns();
    (void)host_launch(host, &request);
    REQUIRE(tr_turn_wait(host->manager, host->turns[0], NULL, TR_FOREVER, 8, &batch) ==
            TR_WAIT_ITEMS);
    uint64_t took = now_ns() - begin;
    REQUIRE(batch->count == 1 && batch->items[0].outcome == TR_OUTCOME_COMPLETED);
    tr_batch_release(batch);
    return took;
}

void run_output(const struct options *options)
{
    struct host host;
    struct samples samples;
    size_t repeats = options->quick ? 1 : 3;
    samples_open(&samples, repeats);
    host_open(&host, NULL, 1, false);
    tr_tool_id tool = host_tool(&host, "capture", tool_capture, NULL, TR_TOOL_AWAITING);
    uint64_t resident = resident_bytes();
    resident_peak_reset();
    for (size_t at = 0; at < repeats; at++) {
        samples_add(&samples, capture(&host, tool));
    }
    uint64_t peak = resident_peak_bytes();
    host_close(&host);
    double mib = (double)BYTES / 1048576.0;
    report_begin(options, "MiB/s", mib * 1e9 / (double)samples_at(&samples, 0.5));
    report_also("resident MiB", (double)(peak - resident) / 1048576.0);
    report_parameter("bytes", BYTES);
    report_parameter("cap", CAP_BYTES);
    report_parameter("repeats", repeats);
    report_end();
    samples_close(&samples);
}
