/*
 * agents.c: agents-n: the whole thing: n sessions at once, each going through its turns.
 *
 * A turn is 8 calls, drawn by the seed: 70 % compute for 20 µs, 20 % read a file of 4 KiB, 5 % wait
 * 50 ms and are detached after 20 ms, 5 % run /bin/echo. When nothing of a turn is left in front,
 * its session opens the next. One host thread serves all sessions through one drain queue, which is
 * how a server would do it.
 *
 * The file is read with open, read, close in a plain function: the same system calls as the
 * program's read_file tool. The wait is tr_sleep and the command tr_process, both on fibers.
 *
 * Every result is compared with what its kind must give, each exactly once. Measured: turns per
 * second; latency of a turn from its launch until it is idle; resident memory at its peak, above
 * the start; CPU seconds, children included, per 1000 turns.
 */
#include "workloads.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define TURN_CALLS 8
#define COMPUTE_NS 20000
#define WAIT_NS (50 * TR_MILLISECOND)
#define DETACH_NS (20 * TR_MILLISECOND)
#define FILE_BYTES 4096

enum kind {
    COMPUTE,
    READ_FILE,
    WAIT,
    SHELL,
    KINDS
};

struct agent {
    tr_session_id session;
    tr_turn_id turn;
    uint64_t begin_ns;
    size_t turns_left;
};

struct office {
    struct host host;
    tr_tool_id tools[KINDS];
    struct random random;
    struct agent *agents;
    size_t agents_count;
    size_t turns;      /* of each */
    size_t turns_done; /* of all */
    struct ledger ledger;
    size_t launched;
    struct samples latency;
};

static char file_path[] = "/tmp/toolring-perf-XXXXXX";

/* ---- the four tools: 8 bytes in, the mix of them out, and the work between ---- */

/* Steps of mix that take COMPUTE_NS on this machine; the same number for every call. */
static uint64_t compute_steps;
static volatile uint64_t compute_sink;

static uint64_t compute(uint64_t steps)
{
    uint64_t value = steps;
    for (uint64_t at = 0; at < steps; at++) {
        value = mix(value);
    }
    return value;
}

static void calibrate(void)
{
    uint64_t steps = 1000;
    uint64_t best = UINT64_MAX;
    for (size_t at = 0; at < 200; at++) {
        uint64_t begin = now_ns();
        compute_sink = compute(steps);
        uint64_t took = now_ns() - begin;
        best = took < best ? took : best;
    }
    compute_steps = steps * COMPUTE_NS / (best > 0 ? best : 1);
}

static int tool_compute(tr_call *call, void *context)
{
    compute_sink = compute(compute_steps);
    return tool_mix(call, context);
}

static int tool_file(tr_call *call, void *context)
{
    char bytes[FILE_BYTES];
    int fd = open(file_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return TR_EIO;
    }
    ssize_t size = read(fd, bytes, sizeof bytes);
    (void)close(fd); /* read only: nothing can be lost */
    if (size != FILE_BYTES || bytes[0] != 'x' || bytes[FILE_BYTES - 1] != 'x') {
        return TR_EIO;
    }
    return tool_mix(call, context);
}

static int tool_wait(tr_call *call, void *context)
{
    int status = tr_sleep(call, WAIT_NS);
    return status != 0 ? status : tool_mix(call, context);
}

static int tool_shell(tr_call *call, void *context)
{
    static const char *const argv[] = {"/bin/echo", "done", NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    spec.argv = argv;
    int status = tr_process(call, &spec, &result);
    if (status != 0) {
        return status;
    }
    bool right =
        result.exit_code == 0 && result.out.size == 5 && memcmp(result.out.data, "done\n", 5) == 0;
    tr_process_result_done(&result);
    return right ? tool_mix(call, context) : TR_ETOOL;
}

/* ---- the host ---- */

static enum kind draw(struct random *random)
{
    uint64_t percent = random_next(random) % 100;
    return percent < 70 ? COMPUTE : percent < 90 ? READ_FILE : percent < 95 ? WAIT : SHELL;
}

static void begin_turn(struct office *office, struct agent *agent)
{
    tr_request requests[TURN_CALLS];
    tr_launched launched[TURN_CALLS];
    uint64_t inputs[TURN_CALLS];
    agent->begin_ns = now_ns();
    REQUIRE(tr_turn_open(office->host.manager, agent->session, NULL, &agent->turn) == 0);
    for (size_t at = 0; at < TURN_CALLS; at++) {
        enum kind kind = draw(&office->random);
        inputs[at] = ledger_input(&office->ledger, office->launched);
        requests[at] = (tr_request)TR_REQUEST_INIT(agent->turn, office->tools[kind]);
        requests[at].user = (void *)(uintptr_t)office->launched;
        requests[at].input = (tr_bytes){&inputs[at], sizeof inputs[at]};
        if (kind == WAIT) {
            requests[at].options.route = TR_ROUTE_DETACH_AFTER;
            requests[at].options.detach_after_ns = DETACH_NS;
        }
        office->launched += 1;
    }
    host_launch_batch(&office->host, requests, TURN_CALLS, launched);
    agent->turns_left -= 1;
}

static void note(struct office *office, const tr_item *item)
{
    struct agent *agent = item->session_user;
    if (item->type == TR_ITEM_RESOLUTION) {
        note_item(&office->ledger, item);
    } else {
        REQUIRE(item->type == TR_ITEM_DETACHED);
    }
    if ((item->flags & TR_ITEM_TURN_IDLE) == 0) {
        return;
    }
    REQUIRE(item->turn == agent->turn);
    samples_add(&office->latency, now_ns() - agent->begin_ns);
    REQUIRE(tr_turn_close(office->host.manager, agent->turn, 0) == 0);
    office->turns_done += 1;
    if (agent->turns_left > 0) {
        begin_turn(office, agent);
    }
}

static void serve(struct office *office)
{
    for (size_t at = 0; at < office->agents_count; at++) {
        begin_turn(office, &office->agents[at]);
    }
    while (office->ledger.seen < office->ledger.count) {
        tr_batch *batch = NULL;
        int count = tr_queue_drain(office->host.queue, TR_FOREVER, HOST_ITEMS_MAX, &batch);
        REQUIRE(count > 0);
        for (int at = 0; at < count; at++) {
            note(office, &batch->items[at]);
        }
        tr_batch_release(batch);
    }
    REQUIRE(office->turns_done == office->agents_count * office->turns);
}

static void open_office(struct office *office, const struct options *options)
{
    tr_config config = TR_CONFIG_INIT;
    tr_session_options session = TR_SESSION_OPTIONS_INIT;
    uint32_t calls = (uint32_t)options->size * TURN_CALLS;
    config.tasks_max =
        4 * calls + 4096; /* detached waits of earlier turns beside the present ones */
    config.fibers_max = 2 * calls + 64;
    config.processes_max = 16384;
    host_open(&office->host, &config, 1, true);
    office->tools[COMPUTE] = host_tool(&office->host, "compute", tool_compute, NULL, 0);
    office->tools[READ_FILE] = host_tool(&office->host, "file", tool_file, NULL, 0);
    office->tools[WAIT] = host_tool(&office->host, "wait", tool_wait, NULL, TR_TOOL_AWAITING);
    office->tools[SHELL] = host_tool(&office->host, "shell", tool_shell, NULL, TR_TOOL_AWAITING);
    session.queue = office->host.queue;
    for (size_t at = 0; at < office->agents_count; at++) {
        session.user = &office->agents[at];
        office->agents[at].turns_left = office->turns;
        REQUIRE(tr_session_open(office->host.manager, &session, &office->agents[at].session) == 0);
    }
}

static void make_file(void)
{
    char bytes[FILE_BYTES];
    int fd = mkstemp(file_path);
    memset(bytes, 'x', sizeof bytes);
    REQUIRE(fd >= 0 && write(fd, bytes, sizeof bytes) == FILE_BYTES && close(fd) == 0);
}

/* CPU time of this process and of the children it has collected. */
static uint64_t cpu_with_children_ns(void)
{
    struct rusage usage;
    REQUIRE(getrusage(RUSAGE_CHILDREN, &usage) == 0);
    return cpu_ns() + (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * TR_SECOND +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

void run_agents(const struct options *options)
{
    static struct office office;
    office.agents_count = options->size;
    office.turns = (options->quick ? 4000 : 20000) / options->size + 1;
    office.random.state = options->seed;
    office.agents = calloc(office.agents_count, sizeof *office.agents);
    REQUIRE(office.agents != NULL);
    size_t turns = office.agents_count * office.turns;
    ledger_open(&office.ledger, options->seed, turns * TURN_CALLS);
    samples_open(&office.latency, turns);
    make_file();
    calibrate();
    uint64_t resident = resident_bytes();
    resident_peak_reset();
    open_office(&office, options);
    uint64_t spent = cpu_with_children_ns();
    uint64_t begin = now_ns();
    serve(&office);
    uint64_t took = now_ns() - begin;
    spent = cpu_with_children_ns() - spent;
    uint64_t peak = resident_peak_bytes();
    ledger_close(&office.ledger);
    host_close(&office.host);
    (void)unlink(file_path); /* what stays in /tmp harms nobody */
    report_begin(options, "turns/s", (double)turns * 1e9 / (double)took);
    report_latency("turn ms", &office.latency, 1e6);
    report_also("resident MiB", (double)(peak - resident) / 1048576.0);
    report_also("cpu s/1000 turns", (double)spent / 1e6 / (double)turns);
    report_parameter("sessions", office.agents_count);
    report_parameter("turns", office.turns);
    report_parameter("calls", TURN_CALLS);
    report_parameter("compute_steps", compute_steps);
    report_end();
    free(office.agents);
    samples_close(&office.latency);
}
