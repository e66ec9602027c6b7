/*
 * A host's door to a running program, end to end: following its output, feeding its input,
 * signals, its terminal; on a fiber, in a worker's thread, and from another thread than the one
 * that launches on an inline manager.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "e2e/process_host.h"
#include "support/host.h"

/* A job that the test talks to. */
struct talk {
    struct host *host;
    struct job job;
    tr__atomic_u64 task; /* set by its function */
    pthread_t launcher;
    tr_batch *batch; /* its resolution, once it has ended */
};

static int run_talk(tr_call *call, struct job *job)
{
    struct talk *talk = TR__CONTAINER_OF(job, struct talk, job);
    tr__store_release(&talk->task, tr_call_task(call)); /* pairs with talk_open */
    return tr_process(call, job->spec, &job->result);
}

static void *launch(void *argument)
{
    struct talk *talk = argument;
    host_launch(talk->host, &talk->job);
    return NULL;
}

static int look(struct talk *talk, uint64_t cursor, tr_output_mark *mark)
{
    return tr_task_output(talk->host->manager, tr__load_relaxed(&talk->task), TR_STREAM_OUT, cursor,
                          NULL, 0, mark);
}

/* Launches it and waits until it has streams. */
static void talk_open(struct talk *talk, struct host *host, const tr_process_spec *spec)
{
    tr_output_mark mark;
    *talk = (struct talk){.host = host, .job = {.spec = spec, .function = run_talk}};
    talk->launcher = rig_thread(launch, talk);
    WAIT_UNTIL(tr__load_acquire(&talk->task) != 0, PATIENCE_SECONDS);
    WAIT_UNTIL(look(talk, 0, &mark) != TR_ESTATE, PATIENCE_SECONDS);
}

/* Waits for its end; its resolution is kept. */
static void talk_end(struct talk *talk, tr_outcome outcome)
{
    rig_join(talk->launcher);
    CHECK_EQ_INT(tr_turn_wait(talk->host->manager, talk->host->turn, NULL,
                              PATIENCE_SECONDS * TR_SECOND, 1, &talk->batch),
                 TR_WAIT_ITEMS);
    CHECK_EQ_INT(talk->batch->items[0].outcome, outcome);
    WAIT_UNTIL(tr__load_acquire(&talk->job.ended) != 0, PATIENCE_SECONDS); /* pairs: run_job */
}

static void talk_close(struct talk *talk)
{
    tr_output_mark mark;
    tr_batch_release(talk->batch);
    CHECK_EQ_INT(look(talk, 0, &mark), TR_ENOENT);
    tr_process_result_done(&talk->job.result);
}

/* A reader of its output, at its own pace. */
struct reader {
    struct talk *talk;
    size_t piece; /* bytes it asks for */
    tr_output_mark mark;
    uint64_t skipped;
    size_t size;
    char *data; /* `room` bytes */
    size_t room;
};

static void reader_init(struct reader *reader, struct talk *talk, size_t piece, size_t room)
{
    *reader = (struct reader){.talk = talk, .piece = piece, .room = room};
    reader->data = tr__memory_take(room);
    CHECK(reader->data != NULL);
}

static void reader_step(struct reader *reader)
{
    struct talk *talk = reader->talk;
    size_t room = reader->room - reader->size;
    int count = tr_task_output(talk->host->manager, tr__load_relaxed(&talk->task), TR_STREAM_OUT,
                               reader->mark.next, reader->data + reader->size,
                               reader->piece < room ? reader->piece : room, &reader->mark);
    CHECK(count >= 0);
    reader->size += (size_t)count;
    reader->skipped += reader->mark.skipped;
}

/* Reads until this text is the end of what came. */
static void reader_await(struct reader *reader, const char *text)
{
    size_t size = strlen(text);
    double until = case_seconds() + PATIENCE_SECONDS;
    while (reader->size < size || memcmp(reader->data + reader->size - size, text, size) != 0) {
        CHECK(case_seconds() < until);
        CHECK(!reader->mark.end);
        reader_step(reader);
        (void)sched_yield();
    }
}

static void reader_await_end(struct reader *reader)
{
    WAIT_UNTIL((reader_step(reader), reader->mark.end), PATIENCE_SECONDS);
}

static void reader_done(struct reader *reader)
{
    tr__memory_give(reader->data);
}

/* Waits until the program takes input. */
static void input(struct talk *talk, const char *text)
{
    tr_manager *manager = talk->host->manager;
    int size = (int)strlen(text);
    int count = 0;
    WAIT_UNTIL((count = tr_task_input(manager, tr__load_relaxed(&talk->task), text, (size_t)size,
                                      PATIENCE_SECONDS * TR_SECOND)) != TR_ESTATE,
               PATIENCE_SECONDS);
    CHECK_EQ_INT(count, size);
}

static int send_signal(struct talk *talk, int number)
{
    return tr_task_signal(talk->host->manager, tr__load_relaxed(&talk->task), number);
}

#define STREAMS_AT(name_, place_name_, place_)                                                     \
    CASE_TIMEOUT(streams, name_##place_name_, 60)                                                  \
    {                                                                                              \
        struct host host;                                                                          \
        host_open(&host, place_);                                                                  \
        name_(&host);                                                                              \
        host_close(&host);                                                                         \
    }

#define STREAMS(name_)                                                                             \
    static void name_(struct host *host);                                                          \
    STREAMS_AT(name_, _on_a_fiber, PLACE_FIBER)                                                    \
    STREAMS_AT(name_, _in_a_thread, PLACE_THREAD)                                                  \
    STREAMS_AT(name_, _inline, PLACE_INLINE)                                                       \
    static void name_(struct host *host)

/* The numbers from 1 on, a line each, as seq(1) prints them. */
static size_t numbers(char *text, size_t room)
{
    size_t size = 0;
    for (unsigned number = 1; room - size > 12; number++) {
        size += (size_t)snprintf(text + size, 12, "%u\n", number);
    }
    return size;
}

STREAMS(readers_follow_to_the_end)
{
    static char expected[200000];
    struct talk talk;
    struct reader one;
    struct reader other;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    size_t size = numbers(expected, 110000);
    spec.shell = "seq 1 5000; sleep 0.02; seq 5001 30000 | head -c 200000";
    talk_open(&talk, host, &spec);
    reader_init(&one, &talk, 777, sizeof expected);
    reader_init(&other, &talk, 65536, sizeof expected);
    for (unsigned round = 0; !one.mark.end || !other.mark.end; round++) {
        reader_step(round % 3 == 0 ? &other : &one);
        if (one.size >= 100000) {
            reader_step(&other);
        }
    }
    CHECK(one.size >= size && one.size == other.size);
    CHECK(memcmp(one.data, expected, size) == 0);
    CHECK(memcmp(one.data, other.data, one.size) == 0);
    CHECK_EQ_U64(one.skipped + other.skipped, 0);
    talk_end(&talk, TR_OUTCOME_COMPLETED);
    CHECK_EQ_U64(talk.job.result.out.size, one.size);
    CHECK(memcmp(talk.job.result.out.data, one.data, one.size) == 0);
    reader_done(&other);
    reader_init(&other, &talk, 4096, sizeof expected); /* and once more, after the end */
    reader_await_end(&other);
    CHECK(other.size == one.size && memcmp(one.data, other.data, one.size) == 0);
    reader_done(&other);
    reader_done(&one);
    talk_close(&talk);
}

STREAMS(what_is_missing_is_counted)
{
    static char expected[40000];
    struct talk talk;
    struct reader reader;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    size_t size = numbers(expected, 30000);
    char command[64];
    (void)snprintf(command, sizeof command, "seq 1 30000 | head -c %zu", size);
    spec.shell = command;
    spec.output_bytes_max = 1000;
    talk_open(&talk, host, &spec);
    talk_end(&talk, TR_OUTCOME_COMPLETED);
    reader_init(&reader, &talk, 300, sizeof expected);
    reader_await_end(&reader);
    CHECK_EQ_U64(reader.size, 1000);
    CHECK_EQ_U64(reader.skipped, size - 1000);
    CHECK_EQ_U64(talk.job.result.out.omitted, size - 1000);
    CHECK(memcmp(reader.data, expected, 500) == 0);
    CHECK(memcmp(reader.data + 500, expected + size - 500, 500) == 0);
    reader_done(&reader);
    talk_close(&talk);
}

STREAMS(input_in_pieces_until_it_is_closed)
{
    struct talk talk;
    struct reader reader;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    spec.shell = "cat; echo end";
    spec.flags = TR_PROCESS_OPEN_INPUT;
    spec.input = rig_bytes("first,");
    talk_open(&talk, host, &spec);
    reader_init(&reader, &talk, 100, 1000);
    reader_await(&reader, "first,");
    input(&talk, "second,");
    reader_await(&reader, "first,second,");
    input(&talk, "third,");
    CHECK_EQ_INT(tr_task_input_close(host->manager, tr__load_relaxed(&talk.task)), 0);
    reader_await_end(&reader);
    CHECK_EQ_U64(reader.size, strlen("first,second,third,end\n"));
    CHECK(memcmp(reader.data, "first,second,third,end\n", reader.size) == 0);
    talk_end(&talk, TR_OUTCOME_COMPLETED);
    CHECK_EQ_U64(talk.job.result.bytes_in, strlen("first,second,third,"));
    CHECK_EQ_INT(tr_task_input(host->manager, tr__load_relaxed(&talk.task), "x", 1, TR_FOREVER),
                 TR_ESTATE);
    CHECK_EQ_INT(tr_task_input_close(host->manager, tr__load_relaxed(&talk.task)), TR_ESTATE);
    reader_done(&reader);
    talk_close(&talk);
}

STREAMS(without_open_input_there_is_none)
{
    struct talk talk;
    struct reader reader;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    spec.shell = "cat; echo end; exec sleep 60";
    spec.input = rig_bytes("first,");
    talk_open(&talk, host, &spec);
    reader_init(&reader, &talk, 100, 1000);
    reader_await(&reader, "first,end\n");
    CHECK_EQ_INT(tr_task_input(host->manager, tr__load_relaxed(&talk.task), "x", 1, TR_FOREVER),
                 TR_ESTATE);
    CHECK_EQ_INT(send_signal(&talk, SIGKILL), 0);
    talk_end(&talk, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(talk.job.result.signal, SIGKILL);
    reader_done(&reader);
    talk_close(&talk);
}

/* Whose default action would end this process. */
STREAMS(a_program_that_closes_its_input_raises_no_signal)
{
    struct talk talk;
    struct reader reader;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    spec.shell = "exec <&-; echo closed; exec sleep 60";
    spec.flags = TR_PROCESS_OPEN_INPUT;
    talk_open(&talk, host, &spec);
    reader_init(&reader, &talk, 100, 1000);
    reader_await(&reader, "closed\n");
    CHECK_EQ_INT(tr_task_input(host->manager, tr__load_relaxed(&talk.task), "x", 1, TR_FOREVER),
                 TR_EPIPE);
    CHECK_EQ_INT(send_signal(&talk, SIGTERM), 0);
    talk_end(&talk, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(talk.job.result.signal, SIGTERM);
    reader_done(&reader);
    talk_close(&talk);
}

#define CAP 65536u
#define MUCH (10u << 20)

STREAMS(a_paused_writer_loses_nothing_to_a_slow_reader)
{
    struct talk talk;
    struct reader reader;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    char *expected = tr__memory_take(MUCH);
    CHECK(expected != NULL);
    size_t size = numbers(expected, MUCH);
    char command[64];
    (void)snprintf(command, sizeof command, "seq 1 9999999 | head -c %zu", size);
    spec.shell = command;
    spec.output_bytes_max = CAP;
    spec.overflow = TR_OVERFLOW_PAUSE;
    talk_open(&talk, host, &spec);
    reader_init(&reader, &talk, 5000, MUCH);
    double until = case_seconds() + 2 * PATIENCE_SECONDS;
    while (!reader.mark.end) {
        uint64_t before = reader.mark.next;
        reader_step(&reader);
        CHECK(reader.mark.total - before <= CAP);
        CHECK(case_seconds() < until);
        (void)sched_yield();
    }
    CHECK_EQ_U64(reader.skipped, 0);
    CHECK_EQ_U64(reader.size, size);
    CHECK(memcmp(reader.data, expected, size) == 0);
    talk_end(&talk, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(talk.job.result.exit_code, 0);
    CHECK_EQ_U64(talk.job.result.out.total, size);
    tr__memory_give(expected);
    reader_done(&reader);
    talk_close(&talk);
}

STREAMS(a_paused_writer_can_be_cancelled)
{
    struct talk talk;
    tr_output_mark mark = {0, 0, 0, false};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    spec.shell = "yes";
    spec.output_bytes_max = CAP;
    spec.overflow = TR_OVERFLOW_PAUSE;
    talk_open(&talk, host, &spec);
    WAIT_UNTIL((look(&talk, 0, &mark), mark.total == CAP), PATIENCE_SECONDS);
    CHECK_EQ_INT(tr_task_cancel(host->manager, tr__load_relaxed(&talk.task), NULL), 0);
    talk_end(&talk, TR_OUTCOME_CANCELLED);
    talk_close(&talk);
}

STREAMS(signals_reach_the_program)
{
    struct talk talk;
    struct reader reader;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    spec.shell = "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.01; done";
    talk_open(&talk, host, &spec);
    reader_init(&reader, &talk, 100, 1000);
    reader_await(&reader, "ready\n");
    CHECK_EQ_INT(send_signal(&talk, SIGRTMAX + 1), TR_EINVAL);
    CHECK_EQ_INT(send_signal(&talk, SIGUSR1), 0);
    reader_await(&reader, "got\n");
    talk_end(&talk, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(talk.job.result.exit_code, 3);
    CHECK_EQ_INT(send_signal(&talk, SIGUSR1), TR_ESTATE);
    CHECK_EQ_INT(tr_task_resize(host->manager, tr__load_relaxed(&talk.task), 1, 1), TR_ESTATE);
    reader_done(&reader);
    talk_close(&talk);
}

STREAMS(a_terminal_changes_its_size_and_ends_its_input)
{
    struct talk talk;
    struct reader reader;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    spec.shell = "stty -echo -onlcr; stty size; read line; stty size; cat; echo end";
    spec.flags = TR_PROCESS_OPEN_INPUT | TR_PROCESS_TERMINAL;
    spec.terminal_rows = 11;
    spec.terminal_columns = 22;
    talk_open(&talk, host, &spec);
    reader_init(&reader, &talk, 100, 1000);
    reader_await(&reader, "11 22\n");
    CHECK_EQ_INT(tr_task_resize(host->manager, tr__load_relaxed(&talk.task), 33, 444), 0);
    input(&talk, "go\n");
    reader_await(&reader, "33 444\n");
    input(&talk, "line\n");
    reader_await(&reader, "line\n");
    CHECK_EQ_INT(tr_task_input_close(host->manager, tr__load_relaxed(&talk.task)), 0);
    reader_await(&reader, "end\n");
    talk_end(&talk, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(talk.job.result.exit_code, 0);
    reader_done(&reader);
    talk_close(&talk);
}

STREAMS(a_file_has_everything)
{
    static char expected[400000];
    static char found[400000];
    char directory[] = "/tmp/toolring-streams-XXXXXX";
    struct talk talk;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    size_t size = numbers(expected, sizeof expected);
    char command[64];
    CHECK(mkdtemp(directory) != NULL);
    (void)snprintf(command, sizeof command, "seq 1 99999 | head -c %zu", size);
    spec.shell = command;
    spec.output_bytes_max = 1000;
    spec.spill_directory = directory;
    talk_open(&talk, host, &spec);
    talk_end(&talk, TR_OUTCOME_COMPLETED);
    const tr_process_result *result = &talk.job.result;
    CHECK_EQ_U64(result->out.spill_bytes, size);
    int fd = open(result->out.spill_path, O_RDONLY | O_CLOEXEC);
    CHECK_EQ_INT(read(fd, found, sizeof found), size);
    CHECK(memcmp(found, expected, size) == 0);
    CHECK_EQ_INT(close(fd), 0);
    CHECK_EQ_INT(unlink(result->out.spill_path), 0);
    CHECK_EQ_INT(unlink(result->error.spill_path), 0);
    talk_close(&talk);
    spec.shell = NULL; /* one that cannot start leaves no files */
    spec.argv = (const char *const[]){"/nonexistent", NULL};
    talk = (struct talk){.host = host, .job = {.spec = &spec, .function = run_talk}};
    CHECK_EQ_INT(host_run(host, &talk.job), TR_OUTCOME_FAILED);
    CHECK_EQ_INT(talk.job.status, -ENOENT);
    CHECK_EQ_INT(rmdir(directory), 0);
}

struct meddler {
    struct host *host;
    tr__atomic_u64 *task;
    tr__atomic_u32 *over;
    uint64_t number;
};

/* Whatever comes of it: only what is documented. */
static void *meddle(void *argument)
{
    struct meddler *meddler = argument;
    tr_manager *manager = meddler->host->manager;
    struct case_random random;
    case_random_init(&random, meddler->number);
    while (tr__load_acquire(meddler->over) == 0) { /* pairs with the test's store */
        tr_task_id task = tr__load_acquire(meddler->task);
        char buffer[100];
        tr_output_mark mark;
        int result = 0;
        switch (case_random_below(&random, 5)) {
        case 0:
            result = tr_task_input(manager, task, "abc", 3, 0);
            CHECK(result > 0 || result == TR_EAGAIN || result == TR_EPIPE || result == TR_ESTATE ||
                  result == TR_ENOENT);
            break;
        case 1:
            result = tr_task_input(manager, task, buffer, 1, TR_MILLISECOND);
            CHECK(result > 0 || result == TR_ETIMEDOUT || result == TR_EPIPE ||
                  result == TR_ESTATE || result == TR_ENOENT);
            break;
        case 2:
            result = tr_task_signal(manager, task, SIGURG); /* ignored unless asked for */
            CHECK(result == 0 || result == TR_ESTATE || result == TR_ENOENT);
            break;
        case 3:
            result = tr_task_input_close(manager, task);
            CHECK(result == 0 || result == TR_ESTATE || result == TR_ENOENT);
            break;
        default:
            result = tr_task_output(manager, task, TR_STREAM_OUT, 0, buffer, 100, &mark);
            CHECK(result >= 0 || result == TR_ESTATE || result == TR_ENOENT);
        }
    }
    return NULL;
}

STREAMS(races_with_the_end)
{
    struct meddler meddlers[3];
    pthread_t threads[3];
    struct talk talk = {.host = host};
    tr__atomic_u32 over;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr__store_relaxed(&over, 0u); /* no thread yet */
    for (unsigned i = 0; i < 3; i++) {
        meddlers[i] = (struct meddler){host, &talk.task, &over, i};
        threads[i] = rig_thread(meddle, &meddlers[i]);
    }
    spec.shell = "echo some; head -c 4; echo more";
    spec.flags = TR_PROCESS_OPEN_INPUT;
    spec.input = rig_bytes("ab");
    for (unsigned round = 0; round < 40; round++) {
        talk.job = (struct job){.spec = &spec, .function = run_talk};
        CHECK_EQ_INT(host_run(host, &talk.job), TR_OUTCOME_COMPLETED);
        CHECK_EQ_INT(talk.job.status, 0);
        CHECK_EQ_INT(talk.job.result.exit_code, 0);
        tr_process_result_done(&talk.job.result);
    }
    tr__store_release(&over, 1u);
    for (unsigned i = 0; i < 3; i++) {
        rig_join(threads[i]);
    }
}
