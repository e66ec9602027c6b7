/*
 * shell.c: shell-k and shell-k-2gib: turns of k /bin/echo, each with a word of its own.
 *
 * The tool is the process tool as a host would use it: standard input from /dev/null, both outputs
 * captured, the exit code looked at. Every word must come back. "-2gib" does the same in a process
 * that holds 2 GiB of touched memory: spawning must not copy its page tables.
 *
 * Measured: wall time per command, latency of a turn.
 */
#include "counts.h"
#include "workloads.h"

#include <stdlib.h>
#include <string.h>

#define WORD_BYTES 32
#define BALLAST_BYTES ((size_t)2 << 30)
#define CALLS_MAX 1024

static int tool_echo(tr_call *call, void *context)
{
    tr_bytes input = tr_call_input(call);
    char word[WORD_BYTES] = "";
    const char *const argv[] = {"/bin/echo", word, NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_process_result result;
    (void)context;
    if (input.size >= sizeof word) {
        return TR_EINVAL;
    }
    memcpy(word, input.data, input.size);
    spec.argv = argv;
    int status = tr_process(call, &spec, &result);
    if (status != 0) {
        return status;
    }
    status = result.exit_code == 0 && result.error.size == 0
                 ? tr_result_copy(call, result.out.data, result.out.size)
                 : TR_ETOOL;
    tr_process_result_done(&result);
    return status;
}

static void word_of(uint64_t seed, size_t index, char word[WORD_BYTES])
{
    (void)snprintf(word, WORD_BYTES, "w%zu-%08x", index, (unsigned)mix(seed ^ index));
}

struct talk {
    struct host host;
    tr_tool_id tool;
    uint64_t seed;
    size_t calls;
    uint8_t *marks;
};

static void note_word(struct talk *talk, const tr_item *item)
{
    char word[WORD_BYTES];
    size_t index = (size_t)item->user;
    word_of(talk->seed, index, word);
    size_t size = strlen(word);
    if (item->type != TR_ITEM_RESOLUTION || item->outcome != TR_OUTCOME_COMPLETED ||
        item->result.size != size + 1 || memcmp(item->result.data, word, size) != 0) {
        fail("command %zu: outcome %d, %s, %zu bytes", index, (int)item->outcome,
             tr_error_name(item->code), item->result.size);
    }
    REQUIRE(talk->marks[index] == 0);
    talk->marks[index] = 1;
}

static uint64_t turn(struct talk *talk, size_t first)
{
    static char words[CALLS_MAX][WORD_BYTES];
    static tr_request requests[CALLS_MAX];
    static tr_launched launched[CALLS_MAX];
    tr_turn_id id;
    tr_batch *batch;
    size_t seen = 0;
    uint64_t begin = now_ns();
    REQUIRE(tr_turn_open(talk->host.manager, talk->host.sessions[0], NULL, &id) == 0);
    for (size_t at = 0; at < talk->calls; at++) {
        word_of(talk->seed, first + at, words[at]);
        requests[at] = (tr_request)TR_REQUEST_INIT(id, talk->tool);
        requests[at].input = (tr_bytes){words[at], strlen(words[at])};
        requests[at].user = (void *)(uintptr_t)(first + at);
    }
    host_launch_batch(&talk->host, requests, talk->calls, launched);
    while (tr_turn_wait(talk->host.manager, id, NULL, TR_FOREVER, HOST_ITEMS_MAX, &batch) ==
           TR_WAIT_ITEMS) {
        for (size_t at = 0; at < batch->count; at++) {
            note_word(talk, &batch->items[at]);
        }
        seen += batch->count;
        tr_batch_release(batch);
    }
    uint64_t spent = now_ns() - begin;
    REQUIRE(seen == talk->calls);
    REQUIRE(tr_turn_close(talk->host.manager, id, 0) == 0);
    return spent;
}

static void measure(const struct options *options, size_t ballast)
{
    struct talk talk = {.seed = options->seed, .calls = options->size};
    struct samples samples;
    struct counts counts;
    size_t turns = vary(options, (options->quick ? 300 : 4000) / (options->size + 1) + 8);
    samples_open(&samples, turns);
    counts_open(options);
    host_open(&talk.host, NULL, 1, false);
    talk.tool = host_tool(&talk.host, "echo", tool_echo, NULL, TR_TOOL_AWAITING);
    talk.marks = calloc((turns + 1) * talk.calls, 1);
    REQUIRE(talk.marks != NULL);
    (void)turn(&talk, turns * talk.calls); /* warm-up */
    counts_begin(&talk.host, &counts);
    uint64_t spent = cpu_ns();
    uint64_t begin = now_ns();
    for (size_t at = 0; at < turns; at++) {
        samples_add(&samples, turn(&talk, at * talk.calls));
    }
    uint64_t took = now_ns() - begin;
    spent = cpu_ns() - spent;
    counts_end(&talk.host, &counts);
    double commands = (double)(turns * talk.calls);
    host_close(&talk.host);
    report_begin(options, "µs/command", (double)took / 1e3 / commands);
    report_latency("turn µs", &samples, 1e3);
    report_also("own cpu µs/command", (double)spent / 1e3 / commands);
    counts_report(&counts, commands);
    report_parameter("calls", talk.calls);
    report_parameter("turns", turns);
    report_parameter("ballast", ballast);
    report_end();
    free(talk.marks);
    samples_close(&samples);
}

void run_shell(const struct options *options)
{
    measure(options, 0);
}

void run_shell_big(const struct options *options)
{
    void *ballast = ballast_open(BALLAST_BYTES);
    measure(options, BALLAST_BYTES);
    ballast_close(ballast, BALLAST_BYTES);
}
