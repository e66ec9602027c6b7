/*
 * turns.c: turns-k: turns of k no-op foreground calls, one event reader attached.
 *
 * Each turn is opened, its k calls are launched as one batch, and the host waits until the turn is
 * idle, taking the results as they come; then it closes the turn and reads the events. So one turn
 * is what an agent loop does per model answer. Events are part of the price: each call makes
 * QUEUED, STARTED and COMPLETED, and all of them must arrive.
 *
 * The tool is a brief one (TR_TOOL_BRIEF), so the thread that waits runs what it launched: that is
 * how a host has such functions done. The second half of the run has the same calls of a tool that
 * is not: each goes to a worker and its result comes back from there.
 *
 * Measured: wall time over all turns, per call, events included; latency of a turn from its opening
 * until it is idle; the same of the calls that were handed to workers.
 */
#include "counts.h"
#include "workloads.h"

#include <stdlib.h>

#define EVENTS_ROOM 256
#define EVENTS_MAX 8192 /* the default */
#define EVENTS_PER_CALL 3

struct talk {
    struct host host;
    tr_reader *reader;
    struct ledger ledger;
    size_t calls; /* per turn */
    size_t events;
    uint64_t *inputs;
    tr_request *requests;
    tr_launched *launched;
    tr_event *room;
};

static void read_events(struct talk *talk, uint64_t timeout_ns)
{
    int count;
    do {
        count = tr_reader_read(talk->reader, talk->room, EVENTS_ROOM, timeout_ns);
        REQUIRE(count >= 0);
        for (int at = 0; at < count; at++) {
            REQUIRE(talk->room[at].type != TR_EVENT_GAP);
        }
        talk->events += (size_t)count;
    } while (count == EVENTS_ROOM);
}

/* One turn, `first` is its first call's index; returns the nanoseconds until it was idle. */
static uint64_t turn(struct talk *talk, size_t first)
{
    tr_turn_id id;
    tr_batch *batch;
    int status;
    uint64_t begin = now_ns();
    REQUIRE(tr_turn_open(talk->host.manager, talk->host.sessions[0], NULL, &id) == 0);
    for (size_t at = 0; at < talk->calls; at++) {
        talk->inputs[at] = ledger_input(&talk->ledger, first + at);
        talk->requests[at].turn = id;
        talk->requests[at].user = (void *)(uintptr_t)(first + at);
    }
    host_launch_batch(&talk->host, talk->requests, talk->calls, talk->launched);
    while ((status = tr_turn_wait(talk->host.manager, id, NULL, TR_FOREVER, HOST_ITEMS_MAX,
                                  &batch)) == TR_WAIT_ITEMS) {
        for (size_t at = 0; at < batch->count; at++) {
            note_item(&talk->ledger, &batch->items[at]);
        }
        tr_batch_release(batch);
    }
    REQUIRE(status == TR_WAIT_IDLE);
    uint64_t spent = now_ns() - begin;
    REQUIRE(tr_turn_close(talk->host.manager, id, 0) == 0);
    read_events(talk, 0);
    return spent;
}

/* All turns' calls are of this tool from now on. */
static void use_tool(struct talk *talk, tr_tool_id tool)
{
    for (size_t at = 0; at < talk->calls; at++) {
        talk->requests[at] = (tr_request)TR_REQUEST_INIT(0, tool);
        talk->requests[at].input = (tr_bytes){&talk->inputs[at], sizeof talk->inputs[at]};
    }
}

static void open_talk(struct talk *talk, const struct options *options, size_t turns)
{
    tr_config config = TR_CONFIG_INIT;
    counts_open(options);
    REQUIRE(EVENTS_PER_CALL * options->size <= EVENTS_MAX); /* read after each turn, none lost */
    config.events_max = EVENTS_MAX;
    host_open(&talk->host, &config, 1, false);
    REQUIRE(tr_reader_open(talk->host.manager, NULL, &talk->reader) == 0);
    talk->calls = options->size;
    talk->inputs = calloc(talk->calls, sizeof *talk->inputs);
    talk->requests = calloc(talk->calls, sizeof *talk->requests);
    talk->launched = calloc(talk->calls, sizeof *talk->launched);
    talk->room = calloc(EVENTS_ROOM, sizeof *talk->room);
    REQUIRE(talk->inputs && talk->requests && talk->launched && talk->room);
    ledger_open(&talk->ledger, options->seed, turns * talk->calls);
}

static void close_talk(struct talk *talk)
{
    ledger_close(&talk->ledger);
    tr_reader_close(talk->reader);
    host_close(&talk->host);
    free(talk->inputs);
    free(talk->requests);
    free(talk->launched);
    free(talk->room);
}

/* `warm` turns that are not measured, then `turns` that are, from the turn `first` on; returns the
 * nanoseconds of the latter. */
static uint64_t pass(struct talk *talk, size_t first, size_t warm, size_t turns,
                     struct samples *samples, struct counts *counts)
{
    for (size_t at = first; at < first + warm; at++) {
        (void)turn(talk, at * talk->calls);
    }
    counts_begin(&talk->host, counts);
    uint64_t begin = now_ns();
    for (size_t at = first + warm; at < first + warm + turns; at++) {
        samples_add(samples, turn(talk, at * talk->calls));
    }
    uint64_t spent = now_ns() - begin;
    counts_end(&talk->host, counts);
    return spent;
}

void run_turns(const struct options *options)
{
    static struct talk talk;
    struct samples samples, handed_samples;
    struct counts counts, handed_counts;
    size_t work = options->quick ? 200000 : 800000;
    size_t turns = vary(options, work / (options->size + 8) + 8);
    size_t warm = turns / 10 + 1;
    samples_open(&samples, turns);
    samples_open(&handed_samples, turns);
    open_talk(&talk, options, 2 * (turns + warm));
    tr_tool_id brief = host_tool(&talk.host, "mix", tool_mix, NULL, TR_TOOL_BRIEF);
    tr_tool_id handed = host_tool(&talk.host, "mix by workers", tool_mix, NULL, 0);
    use_tool(&talk, brief);
    uint64_t spent = pass(&talk, 0, warm, turns, &samples, &counts);
    use_tool(&talk, handed);
    uint64_t handed_spent = pass(&talk, warm + turns, warm, turns, &handed_samples, &handed_counts);
    /* The events of the last calls may come a moment after their results. */
    while (talk.events < EVENTS_PER_CALL * talk.ledger.count) {
        size_t before = talk.events;
        read_events(&talk, TR_SECOND);
        REQUIRE(talk.events > before);
    }
    REQUIRE(talk.events == EVENTS_PER_CALL * talk.ledger.count);
    report_begin(options, "ns/task", (double)spent / (double)(turns * talk.calls));
    report_latency("turn µs", &samples, 1e3);
    counts_report(&counts, (double)(turns * talk.calls));
    report_also("by workers ns/task", (double)handed_spent / (double)(turns * talk.calls));
    report_latency("by workers turn µs", &handed_samples, 1e3);
    report_parameter("calls", talk.calls);
    report_parameter("turns", turns);
    report_end();
    close_talk(&talk);
    samples_close(&samples);
    samples_close(&handed_samples);
}
