/*
 * libuv.c: peer "libuv": its thread pool, its timers, its processes.
 *
 * Fair because: the pool has as many threads as processors (UV_THREADPOOL_SIZE, set before the
 * first use); window, payload and check as toolring's; requests come from a free list, as libuv's
 * users do it; timers are libuv's own in the loop's thread, which is compared with the wheel on its
 * owner; processes get a pipe on each output. It does less: no tracking by id, no events, no
 * deadlines.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "measure.h"

#define WINDOW 16384u
#define GROUP 256
#define CALLS_MAX 1024
#define WORD_BYTES 32
#define BALLAST_BYTES ((size_t)2 << 30)

/* ---- calls ---- */

struct job {
    uv_work_t work;
    struct job *next;
    size_t index;
    uint64_t value;
};

static uv_loop_t *loop;
static struct ledger ledger;
static struct job *spare;
static size_t outstanding;
static size_t launched;
static size_t launch_end;

static void run_job(uv_work_t *work)
{
    struct job *job = work->data;
    job->value = mix(job->value);
}

static void job_done(uv_work_t *work, int status)
{
    struct job *job = work->data;
    REQUIRE(status == 0);
    ledger_note(&ledger, job->index, job->value);
    job->next = spare;
    spare = job;
    outstanding -= 1;
}

static void launch_one(void)
{
    struct job *job = spare;
    if (job != NULL) {
        spare = job->next;
    } else {
        job = malloc(sizeof *job);
        REQUIRE(job != NULL);
    }
    job->work.data = job;
    job->index = launched;
    job->value = ledger_input(&ledger, launched);
    REQUIRE(uv_queue_work(loop, &job->work, run_job, job_done) == 0);
    launched += 1;
    outstanding += 1;
}

/* Keeps the window filled until everything up to `launch_end` was launched and is done. */
static void run_calls(size_t window)
{
    while (launched < launch_end || outstanding > 0) {
        while (launched < launch_end && outstanding < window) {
            launch_one();
        }
        (void)uv_run(loop, UV_RUN_ONCE);
    }
}

static uint64_t pass(void)
{
    ledger_reset(&ledger);
    launched = 0;
    launch_end = ledger.count;
    uint64_t begin = now_ns();
    run_calls(WINDOW);
    return now_ns() - begin;
}

static void run_background(const struct options *options)
{
    struct samples samples;
    size_t work = options->quick ? 1000000 : 4000000;
    size_t passes = options->size < work ? work / options->size : 1;
    passes = passes > 100 ? 100 : passes;
    samples_open(&samples, passes);
    ledger_open(&ledger, options->seed, options->size);
    (void)pass(); /* warm-up */
    uint64_t resident = resident_bytes();
    uint64_t spent = cpu_ns();
    for (size_t at = 0; at < passes; at++) {
        samples_add(&samples, pass());
    }
    spent = cpu_ns() - spent;
    uint64_t grown = resident_bytes();
    grown = grown > resident ? grown - resident : 0;
    double total = (double)options->size * (double)passes;
    ledger_close(&ledger);
    report_begin(options, "ns/task", (double)samples_at(&samples, 0.5) / (double)options->size);
    report_also("growth B/task", (double)grown / total);
    report_also("cpu ns/task", (double)spent / total);
    report_parameter("calls", options->size);
    report_parameter("passes", passes);
    report_parameter("window", WINDOW);
    report_end();
    samples_close(&samples);
}

static void run_turns(const struct options *options)
{
    struct samples samples;
    size_t work = options->quick ? 200000 : 800000;
    size_t turns = vary(options, work / (options->size + 8) + 8);
    size_t warm = turns / 10 + 1;
    uint64_t begin = 0;
    samples_open(&samples, turns);
    ledger_open(&ledger, options->seed, (turns + warm) * options->size);
    for (size_t turn = 0; turn < turns + warm; turn++) {
        uint64_t start = now_ns();
        begin = turn == warm ? start : begin;
        launch_end = launched + options->size;
        run_calls(options->size);
        if (turn >= warm) {
            samples_add(&samples, now_ns() - start);
        }
    }
    uint64_t took = now_ns() - begin;
    ledger_close(&ledger);
    report_begin(options, "ns/task", (double)took / (double)(turns * options->size));
    report_latency("turn µs", &samples, 1e3);
    report_parameter("calls", options->size);
    report_parameter("turns", turns);
    report_end();
    samples_close(&samples);
}

/* ---- timers ---- */

static void never(uv_timer_t *timer)
{
    (void)timer;
    fail("a timer fired");
}

static uint64_t minutes(struct random *random)
{
    return random_between(random, 60000, 3600000);
}

static void run_timers(const struct options *options)
{
    struct random random = {options->seed};
    size_t count = options->size;
    size_t groups = vary(options, options->quick ? 1000 : 8000);
    uv_timer_t *timers = calloc(count + GROUP, sizeof *timers);
    uint64_t delays[GROUP];
    uint64_t arm = 0;
    uint64_t cancel = 0;
    REQUIRE(timers != NULL);
    for (size_t at = 0; at < count + GROUP; at++) {
        REQUIRE(uv_timer_init(loop, &timers[at]) == 0);
        if (at < count) {
            REQUIRE(uv_timer_start(&timers[at], never, minutes(&random), 0) == 0);
        }
    }
    for (size_t group = 0; group < groups; group++) {
        for (size_t at = 0; at < GROUP; at++) {
            delays[at] = minutes(&random);
        }
        uint64_t begin = now_ns();
        for (size_t at = 0; at < GROUP; at++) {
            (void)uv_timer_start(&timers[count + at], never, delays[at], 0);
        }
        uint64_t between = now_ns();
        for (size_t at = 0; at < GROUP; at++) {
            (void)uv_timer_stop(&timers[count + at]);
        }
        cancel += now_ns() - between;
        arm += between - begin;
        (void)uv_run(loop, UV_RUN_NOWAIT);
    }
    double total = (double)(groups * GROUP);
    report_begin(options, "ns/arm+cancel", (double)(arm + cancel) / total);
    report_also("arm ns", (double)arm / total);
    report_also("cancel ns", (double)cancel / total);
    report_parameter("outstanding", count);
    report_parameter("groups", groups);
    report_parameter("group", GROUP);
    report_end();
}

/* ---- processes ---- */

struct command {
    uv_process_t process;
    uv_pipe_t out;
    uv_pipe_t error;
    size_t size;
    size_t open; /* handles not closed */
    char word[WORD_BYTES];
    char text[WORD_BYTES + 2];
};

static struct command commands[CALLS_MAX];

static void closed(uv_handle_t *handle)
{
    struct command *command = handle->data;
    command->open -= 1;
}

static void exited(uv_process_t *process, int64_t status, int number)
{
    REQUIRE(status == 0 && number == 0);
    uv_close((uv_handle_t *)process, closed);
}

static void room(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer)
{
    struct command *command = handle->data;
    (void)wanted;
    *buffer = uv_buf_init(command->text + command->size,
                          (unsigned)(sizeof command->text - command->size));
}

static void got(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct command *command = stream->data;
    (void)buffer;
    if (size == UV_EOF) {
        uv_close((uv_handle_t *)stream, closed);
        return;
    }
    REQUIRE(size >= 0);
    command->size += (size_t)size;
}

static void spawn(struct command *command)
{
    char program[] = "/bin/echo";
    char *arguments[] = {program, command->word, NULL};
    uv_stdio_container_t stdio[3];
    uv_process_options_t options;
    memset(&options, 0, sizeof options);
    REQUIRE(uv_pipe_init(loop, &command->out, 0) == 0 &&
            uv_pipe_init(loop, &command->error, 0) == 0);
    stdio[0].flags = UV_IGNORE;
    stdio[1].flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_WRITABLE_PIPE);
    stdio[1].data.stream = (uv_stream_t *)&command->out;
    stdio[2].flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_WRITABLE_PIPE);
    stdio[2].data.stream = (uv_stream_t *)&command->error;
    options.file = program;
    options.args = arguments;
    options.exit_cb = exited;
    options.stdio = stdio;
    options.stdio_count = 3;
    command->process.data = command->out.data = command->error.data = command;
    command->size = 0;
    command->open = 3;
    int status = uv_spawn(loop, &command->process, &options);
    if (status != 0) {
        fail("uv_spawn: %s", uv_strerror(status));
    }
    REQUIRE(uv_read_start((uv_stream_t *)&command->out, room, got) == 0);
    REQUIRE(uv_read_start((uv_stream_t *)&command->error, room, got) == 0);
}

static uint64_t turn(uint64_t seed, size_t first, size_t calls)
{
    uint64_t begin = now_ns();
    for (size_t at = 0; at < calls; at++) {
        (void)snprintf(commands[at].word, WORD_BYTES, "w%zu-%08x", first + at,
                       (unsigned)mix(seed ^ (first + at)));
        spawn(&commands[at]);
    }
    (void)uv_run(loop, UV_RUN_DEFAULT); /* until every handle is closed */
    for (size_t at = 0; at < calls; at++) {
        size_t size = strlen(commands[at].word);
        REQUIRE(commands[at].open == 0 && commands[at].size == size + 1);
        REQUIRE(memcmp(commands[at].text, commands[at].word, size) == 0);
    }
    return now_ns() - begin;
}

static void measure_shell(const struct options *options, size_t ballast)
{
    struct samples samples;
    size_t work = options->quick ? 1200 : 4000;
    /* Before 1.45 it forks: with a large parent a command takes a tenth of a second. */
    work = ballast > 0 ? work / 40 : work;
    size_t turns = vary(options, work / (options->size + 1) + (ballast > 0 ? 1 : 16));
    samples_open(&samples, turns);
    (void)turn(options->seed, turns * options->size, options->size); /* warm-up */
    uint64_t spent = cpu_ns();
    uint64_t begin = now_ns();
    for (size_t at = 0; at < turns; at++) {
        samples_add(&samples, turn(options->seed, at * options->size, options->size));
    }
    uint64_t took = now_ns() - begin;
    spent = cpu_ns() - spent;
    double total = (double)(turns * options->size);
    report_begin(options, "µs/command", (double)took / 1e3 / total);
    report_latency("turn µs", &samples, 1e3);
    report_also("own cpu µs/command", (double)spent / 1e3 / total);
    report_parameter("calls", options->size);
    report_parameter("turns", turns);
    report_parameter("ballast", ballast);
    report_end();
    samples_close(&samples);
}

static void run_shell(const struct options *options)
{
    measure_shell(options, 0);
}

static void run_shell_big(const struct options *options)
{
    void *ballast = ballast_open(BALLAST_BYTES);
    measure_shell(options, BALLAST_BYTES);
    ballast_close(ballast, BALLAST_BYTES);
}

static const struct family families[] = {
    {"background-*", 100000000, run_background}, {"turns-*", 65536, run_turns},
    {"timers-*", 10000000, run_timers},          {"shell-*", CALLS_MAX, run_shell},
    {"shell-*-2gib", CALLS_MAX, run_shell_big},
};

int main(int argc, char **argv)
{
    char threads[32];
    (void)snprintf(threads, sizeof threads, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    REQUIRE(setenv("UV_THREADPOOL_SIZE", threads, 0) == 0);
    loop = uv_default_loop();
    return measure_main(argc, argv, "libuv", uv_version_string(), families,
                        sizeof families / sizeof families[0]);
}
