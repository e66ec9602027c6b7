/*
 * output.c: output: one child writes 1 GiB, the tool captures 1 MiB of it, head and tail.
 *
 * Every byte kept must be the one that was written there, and kept and omitted bytes must add up.
 * Measured: MiB/s from launch to resolution; resident memory at its peak, above what it was before.
 * Beside it: the same by a plain tool, which blocks its thread; `yes | head -c 1G`, whose 8 KiB
 * writes need three processes on whatever processors there are; and, unless --quick, 10 GiB.
 */
#include "workloads.h"

#include "child.h"

#define BYTES ((uint64_t)1 << 30)
#define CAP_BYTES ((uint64_t)1 << 20)

#define MANY_BYTES ((uint64_t)10 << 30)

/* `context`: how many bytes, uint64_t. */
static int tool_capture(tr_call *call, void *context)
{
    const uint64_t bytes = *(const uint64_t *)context;
    char count[32];
    const char *const argv[] = {child_program(), "--write-bytes", count, NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    (void)snprintf(count, sizeof count, "%llu", (unsigned long long)bytes);
    spec.argv = argv;
    spec.output_bytes_max = CAP_BYTES;
    int status = tr_process(call, &spec, &result);
    if (status != 0) {
        return status;
    }
    REQUIRE(result.exit_code == 0 && result.error.size == 0);
    REQUIRE(result.out.size <= CAP_BYTES && result.out.size + result.out.omitted == bytes);
    for (size_t at = 0; at < result.out.size; at++) {
        uint64_t offset = at < result.out.head ? at : at + result.out.omitted;
        REQUIRE(result.out.data[at] == child_byte(offset));
    }
    tr_process_result_done(&result);
    return 0;
}

static int tool_yes(tr_call *call, void *context)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    (void)context;
    spec.shell = "yes | head -c 1073741824";
    spec.output_bytes_max = CAP_BYTES;
    int status = tr_process(call, &spec, &result);
    if (status != 0) {
        return status;
    }
    REQUIRE(result.exit_code == 0 && result.out.total == BYTES && result.out.size == CAP_BYTES);
    for (size_t at = 0; at < result.out.size; at++) {
        REQUIRE(result.out.data[at] == (at % 2 == 0 ? 'y' : '\n'));
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

static double rate(uint64_t bytes, uint64_t took_ns)
{
    return (double)bytes / 1048576.0 * 1e9 / (double)took_ns;
}

void run_output(const struct options *options)
{
    static uint64_t bytes = BYTES;
    static uint64_t many = MANY_BYTES;
    struct host host;
    struct samples samples;
    size_t repeats = options->quick ? 1 : 3;
    samples_open(&samples, repeats);
    host_open(&host, NULL, 1, false);
    tr_tool_id tool = host_tool(&host, "capture", tool_capture, &bytes, TR_TOOL_AWAITING);
    tr_tool_id plain = host_tool(&host, "plain", tool_capture, &bytes, 0);
    tr_tool_id yes = host_tool(&host, "yes", tool_yes, NULL, TR_TOOL_AWAITING);
    tr_tool_id long_one = host_tool(&host, "long", tool_capture, &many, TR_TOOL_AWAITING);
    uint64_t resident = resident_bytes();
    resident_peak_reset();
    for (size_t at = 0; at < repeats; at++) {
        samples_add(&samples, capture(&host, tool));
    }
    uint64_t plain_ns = capture(&host, plain);
    uint64_t yes_ns = capture(&host, yes);
    uint64_t long_ns = options->quick ? 0 : capture(&host, long_one);
    uint64_t peak = resident_peak_bytes();
    host_close(&host);
    report_begin(options, "MiB/s", rate(BYTES, samples_at(&samples, 0.5)));
    report_also("resident MiB", (double)(peak - resident) / 1048576.0);
    report_also("plain tool MiB/s", rate(BYTES, plain_ns));
    report_also("yes to head MiB/s", rate(BYTES, yes_ns));
    if (!options->quick) {
        report_also("10 GiB MiB/s", rate(MANY_BYTES, long_ns));
    }
    report_parameter("bytes", BYTES);
    report_parameter("cap", CAP_BYTES);
    report_parameter("repeats", repeats);
    report_end();
    samples_close(&samples);
}
