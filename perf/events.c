/*
 * events.c: events: what the event log costs: nothing while nobody reads.
 *
 * Three managers with the same load: one never had a reader, one had a reader that has left, one
 * has a reader that takes every event. They take turns in blocks, so that whatever else the machine
 * does meets all three alike; while one works the others sleep.
 *
 * Measured: ns per call of the second, median of blocks; the median of its ratios to the first,
 * block by block; and the third's ns per call, all three events of a call read and counted.
 */
#include "flow.h"
#include "workloads.h"

#define CALLS 100000u
#define EVENTS_ROOM 1024
#define EVENTS_PER_CALL 3

enum {
    NEVER,
    GONE,
    READ,
    MANAGERS
};

static struct flow flows[MANAGERS];
static tr_event room[EVENTS_ROOM];

/* Takes what is there, or waits for the first. */
static size_t read_some(tr_reader *reader, uint64_t timeout_ns)
{
    int count = tr_reader_read(reader, room, EVENTS_ROOM, timeout_ns);
    REQUIRE(count >= 0);
    for (int at = 0; at < count; at++) {
        REQUIRE(room[at].type != TR_EVENT_GAP);
    }
    return (size_t)count;
}

/* A block with a reader: in groups that the log has room for; all events of each are read. */
static uint64_t read_block(tr_reader *reader, size_t calls, size_t group)
{
    uint64_t begin = now_ns();
    for (size_t done = 0; done < calls; done += group) {
        (void)flow_pass(&flows[READ], group);
        for (size_t seen = 0; seen < EVENTS_PER_CALL * group;) {
            size_t count = read_some(reader, 10 * TR_SECOND);
            REQUIRE(count > 0);
            seen += count;
        }
    }
    return now_ns() - begin;
}

void run_events(const struct options *options)
{
    tr_reader *reader;
    struct samples never, gone, read, ratios;
    size_t blocks = options->quick ? 7 : 21;
    size_t group = vary(options, 1000);
    size_t calls = CALLS / group * group;
    tr_config config = TR_CONFIG_INIT;
    config.events_max = 65536;
    samples_open(&never, blocks);
    samples_open(&gone, blocks);
    samples_open(&read, blocks);
    samples_open(&ratios, blocks);
    for (size_t at = 0; at < MANAGERS; at++) {
        flow_open(&flows[at], options, &config, CALLS);
        flow_warm(&flows[at]);
    }
    REQUIRE(tr_reader_open(flows[GONE].host.manager, NULL, &reader) == 0);
    (void)flow_pass(&flows[GONE], group);
    tr_reader_close(reader);
    REQUIRE(tr_reader_open(flows[READ].host.manager, NULL, &reader) == 0);
    for (size_t block = 0; block < blocks; block++) {
        uint64_t first = 0;
        uint64_t second = 0;
        if (block % 2 == 0) { /* each goes first half of the time */
            first = flow_pass(&flows[NEVER], calls);
            second = flow_pass(&flows[GONE], calls);
        } else {
            second = flow_pass(&flows[GONE], calls);
            first = flow_pass(&flows[NEVER], calls);
        }
        samples_add(&never, first);
        samples_add(&gone, second);
        samples_add(&ratios, second * 1000000 / first);
        samples_add(&read, read_block(reader, calls, group));
    }
    tr_reader_close(reader);
    for (size_t at = 0; at < MANAGERS; at++) {
        flow_close(&flows[at]);
    }
    double count = (double)calls;
    report_begin(options, "ns/task", (double)samples_at(&gone, 0.5) / count);
    report_also("never read ns/task", (double)samples_at(&never, 0.5) / count);
    report_also("reader gone / never", (double)samples_at(&ratios, 0.5) / 1e6);
    report_also("with a reader ns/task", (double)samples_at(&read, 0.5) / count);
    report_parameter("calls", calls);
    report_parameter("blocks", blocks);
    report_parameter("group", group);
    report_end();
    samples_close(&never);
    samples_close(&gone);
    samples_close(&read);
    samples_close(&ratios);
}
