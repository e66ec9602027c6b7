/*
 * turns.c: turns-k: turns of k no-op foreground calls, one event reader attached.
 *
 * Each turn is opened, its k calls are launched as one batch, and the host waits until the turn is
 * idle, taking the results as they come; then it closes the turn and reads the events. So one turn
 * is what an agent loop does per model answer. Events are part of the price: each call makes
 * QUEUED, STARTED and COMPLETED, and all of them must arrive.
 *
 * Measured: wall time over all turns, per call, events included; latency of a turn from its opening
 * until it is idle.
 */
#include "counts.h"
#include "workloads.h"

#include <stdlib.h>

#define EVENTS_ROOM 256
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

static void open_talk(struct talk *talk, const struct options *options, size_t turns)
{
    tr_config config = TR_CONFIG_INIT;
    counts_open(options);
    config.events_max = 65536; /* 1024 calls make 3072 events before the first is read */
    host_open(&talk->host, &config, 1, false);
    REQUIRE(tr_reader_open(talk->host.manager, NULL, &talk->reader) == 0);
    tr_tool_id tool = host_tool(&talk->host, "mix", tool_mix, NULL, 0);
    talk->calls = options->size;
    talk->inputs = calloc(talk->calls, sizeof *talk->inputs);
    talk->requests = calloc(talk->calls, sizeof *talk->requests);
    talk->launched = calloc(talk->calls, sizeof *talk->launched);
    talk->room = calloc(EVENTS_ROOM, sizeof *talk->room);
    REQUIRE(talk->inputs && talk->requests && talk->launched && talk->room);
    for (size_t at = 0; at < talk->calls; at++) {
        talk->requests[at] = (tr_request)TR_REQUEST_INIT(0, tool);
        talk->requests[at].input = (tr_bytes){&talk->inputs[at], sizeof talk->inputs[at]};
    }
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

void run_turns(const struct options *options)
{
    static struct talk talk;
    struct samples samples;
    struct counts counts;
    size_t work = options->quick ? 200000 : 800000;
    size_t turns = vary(options, work / (options->size + 8) + 8);
    size_t warm = turns / 10 + 1;
    samples_open(&samples, turns);
    open_talk(&talk, options, turns + warm);
    for (size_t at = 0; at < warm; at++) {
        (void)turn(&talk, at * talk.calls);
    }
    counts_begin(&talk.host, &counts);
    uint64_t begin = now_ns();
    for (size_t at = warm; at < warm + turns; at++) {
        samples_add(&samples, turn(&talk, at * talk.calls));
    }
    uint64_t spent = now_ns() - begin;
    counts_end(&talk.host, &counts);
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
    report_parameter("calls", talk.calls);
    report_parameter("turns", turns);
    report_end();
    close_talk(&talk);
    samples_close(&samples);
}
