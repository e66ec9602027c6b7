/*
 * tr_process end to end: a great deal of output, output kept on every ending, and what happens at
 * the cap.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "e2e/process_host.h"
#include "support/wait.h"

#define MIB (UINT64_C(1) << 20)

/* Bytes of this process that were resident at most; `reset` starts anew. */
static uint64_t resident_peak(bool reset)
{
    char line[128];
    unsigned long long kib = 0;
    if (reset) {
        FILE *file = fopen("/proc/self/clear_refs", "w");
        CHECK(file != NULL && fputs("5", file) >= 0 && fclose(file) == 0);
    }
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "VmHWM: %llu", &kib) != 1) {
    }
    (void)fclose(file);
    CHECK(kib > 0);
    return kib * 1024;
}

CASES(a_great_deal_of_output)
{
    enum {
        BYTES = 256 << 20
    };
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "printf begin; head -c 268435448 /dev/zero; printf end";
    uint64_t before = resident_peak(true);
    host_run_spec(host, &spec, &job);
    uint64_t after = resident_peak(false);
    CHECK_EQ_INT(job.result.exit_code, 0);
    CHECK_EQ_U64(job.result.out.total, BYTES);
    CHECK_EQ_U64(job.result.out.size, MIB);
    CHECK_EQ_U64(job.result.out.omitted, BYTES - MIB);
    CHECK(memcmp(job.result.out.data, "begin\0", 6) == 0);
    CHECK(memcmp(job.result.out.data + MIB - 4, "\0end", 4) == 0);
#if !defined(TR_LIBC_MALLOC) /* a sanitizer's shadow is not ours */
    CHECK(after < before + 9 * MIB);
#else
    (void)before, (void)after;
#endif
    tr_process_result_done(&job.result);
}

/* A small cap leaves small pieces: the same must come of it. */
CASES(a_great_deal_for_a_small_cap)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "seq 1 1000000; seq 1 1000000 >&2";
    spec.output_bytes_max = 100;
    host_run_spec(host, &spec, &job);
    const tr_process_output *streams[] = {&job.result.out, &job.result.error};
    for (unsigned which = 0; which < 2; which++) {
        CHECK_EQ_U64(streams[which]->total, 6888896);
        CHECK_EQ_U64(streams[which]->size, 100);
        CHECK(memcmp(streams[which]->data, "1\n2\n3\n", 6) == 0);
        CHECK(memcmp(streams[which]->data + 84, "\n999999\n1000000\n", 16) == 0);
    }
    tr_process_result_done(&job.result);
}

CASES(any_bytes_come_through)
{
    enum {
        BYTES = 65536
    };
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    unsigned char *bytes = malloc(BYTES);
    CHECK(bytes != NULL);
    for (unsigned at = 0; at < BYTES; at++) {
        bytes[at] = (unsigned char)(at * 2654435761u >> 24); /* no valid UTF-8 for long */
    }
    spec.shell = "cat";
    spec.input = (tr_bytes){bytes, BYTES};
    host_run_spec(host, &spec, &job);
    CHECK_EQ_U64(job.result.out.size, BYTES);
    CHECK_EQ_U64(job.result.out.omitted, 0);
    CHECK_EQ_U64(job.result.bytes_in, BYTES);
    CHECK(memcmp(job.result.out.data, bytes, BYTES) == 0);
    tr_process_result_done(&job.result);
    free(bytes);
}

/* Success, failure, timeout, force, too much. A cancel's is in process_stop. */
CASES(output_is_kept)
{
    static const struct {
        const char *command;
        uint64_t timeout_ns;
        tr_overflow overflow;
    } endings[] = {
        {"echo kept; exit 0", 0, TR_OVERFLOW_DROP},
        {"echo kept; exit 9", 0, TR_OVERFLOW_DROP},
        {"echo kept; kill -KILL $$", 0, TR_OVERFLOW_DROP},
        {"echo kept; exec sleep 300", 100 * TR_MILLISECOND, TR_OVERFLOW_DROP},
        {"trap '' TERM; echo kept; exec sleep 300", 100 * TR_MILLISECOND, TR_OVERFLOW_DROP},
        {"echo kept; exec yes", 0, TR_OVERFLOW_KILL},
        {"echo kept; exec yes", 100 * TR_MILLISECOND, TR_OVERFLOW_PAUSE},
    };
    for (size_t at = 0; at < sizeof endings / sizeof *endings; at++) {
        tr_process_spec spec = TR_PROCESS_SPEC_INIT;
        struct job job;
        spec.shell = endings[at].command;
        spec.timeout_ns = endings[at].timeout_ns;
        spec.grace_ns = 50 * TR_MILLISECOND;
        spec.overflow = endings[at].overflow;
        spec.output_bytes_max = 10000;
        if (spec.timeout_ns == 0) {
            host_run_spec(host, &spec, &job);
        } else {
            host_run_timed(host, &spec, spec.overflow == TR_OVERFLOW_PAUSE ? 10000 : 5, &job);
        }
        CHECK_EQ_INT(job.result.timed_out, endings[at].timeout_ns != 0);
        CHECK_EQ_INT(job.result.overflowed, endings[at].overflow == TR_OVERFLOW_KILL);
        CHECK_EQ_U64(job.result.out.size + job.result.out.omitted, job.result.out.total);
        if (endings[at].overflow == TR_OVERFLOW_PAUSE) {
            CHECK(job.result.out.total >= 10000); /* of a paused stream the last bytes are left */
        } else {
            CHECK(job.result.out.size >= 5 && memcmp(job.result.out.data, "kept\n", 5) == 0);
        }
        if (endings[at].overflow == TR_OVERFLOW_KILL) {
            CHECK_EQ_INT(job.result.signal, SIGKILL);
            CHECK_EQ_U64(job.result.out.size, 10000);
        }
        tr_process_result_done(&job.result);
    }
}

/* Follows a task's standard output to its end. */
struct follower {
    struct host *host;
    struct job *job;
    pid_t pid; /* wait until this is a zombie before the first look; 0: do not */
    char *text;
    size_t size;
    size_t room;
    pthread_t thread;
};

static void *follow(void *context)
{
    struct follower *follower = context;
    tr_task_id task = host_task(follower->job);
    tr_output_mark mark = {0};
    if (follower->pid != 0) {
        char text[16] = "";
        host_await_output(follower->host, follower->job, TR_STREAM_ERROR, 1);
        WAIT_UNTIL(tr_task_output(follower->host->manager, task, TR_STREAM_ERROR, 0, text, 15,
                                  &mark) > 0 &&
                       strchr(text, '\n') != NULL,
                   PATIENCE_SECONDS);
        WAIT_UNTIL(process_state((pid_t)atol(text)) == 'Z', PATIENCE_SECONDS);
        mark.next = 0;
    }
    do {
        int count = TR_ESTATE;
        WAIT_UNTIL((count = tr_task_output(follower->host->manager, task, TR_STREAM_OUT,
                                           follower->size, follower->text + follower->size,
                                           follower->room - follower->size, &mark)) > 0 ||
                       (count == 0 && mark.end),
                   PATIENCE_SECONDS);
        CHECK_EQ_U64(mark.skipped, 0);
        follower->size += (size_t)count;
    } while (!mark.end);
    return NULL;
}

static void run_followed(struct host *host, const tr_process_spec *spec, struct follower *follower,
                         struct job *job)
{
    *job = (struct job){.spec = spec};
    follower->host = host;
    follower->job = job;
    follower->room = 8 * MIB;
    follower->text = malloc(follower->room);
    CHECK(follower->text != NULL);
    CHECK_EQ_INT(pthread_create(&follower->thread, NULL, follow, follower), 0);
    host_launch(host, job);
    CHECK_EQ_INT(pthread_join(follower->thread, NULL), 0);
    tr_outcome outcome = TR_OUTCOME_NONE;
    CHECK_EQ_INT(host_wait(host, &outcome), 1);
    WAIT_UNTIL(tr__load_acquire(&job->ended) != 0, PATIENCE_SECONDS); /* pairs with run_job */
    CHECK_EQ_INT(outcome, TR_OUTCOME_COMPLETED);
}

static void check_numbers(const struct follower *follower, unsigned last)
{
    size_t at = 0;
    char line[16];
    for (unsigned number = 1; number <= last; number++) {
        size_t size = (size_t)snprintf(line, sizeof line, "%u\n", number);
        CHECK(at + size <= follower->size && memcmp(follower->text + at, line, size) == 0);
        at += size;
    }
    CHECK_EQ_U64(at, follower->size);
}

/* Far more than the cap, and every byte reaches the reader. */
CASES(paused_until_read)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct follower follower = {0};
    struct job job;
    spec.shell = "seq 1 300000";
    spec.overflow = TR_OVERFLOW_PAUSE;
    spec.output_bytes_max = 16384;
    run_followed(host, &spec, &follower, &job);
    check_numbers(&follower, 300000);
    CHECK_EQ_U64(job.result.out.total, follower.size);
    CHECK_EQ_INT(job.result.exit_code, 0);
    free(follower.text);
    tr_process_result_done(&job.result);
}

/* It has exited, and the rest of its output is in the pipe when the reader comes. */
CASES(paused_beyond_its_exit)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct follower follower = {.pid = 1};
    struct job job;
    spec.shell = "echo $$ >&2; exec seq 1 8000"; /* 38 893 bytes: they fit into a pipe */
    spec.overflow = TR_OVERFLOW_PAUSE;
    spec.output_bytes_max = 16384;
    run_followed(host, &spec, &follower, &job);
    check_numbers(&follower, 8000);
    CHECK(!job.result.held_open);
    free(follower.text);
    tr_process_result_done(&job.result);
}

/* Nobody reads: a cancel gives up on that, before and after the exit. */
CASES(paused_for_nobody)
{
    static const char *const commands[] = {"exec yes", "exec seq 1 8000"};
    for (unsigned at = 0; at < 2; at++) {
        tr_process_spec spec = TR_PROCESS_SPEC_INIT;
        spec.shell = commands[at];
        spec.overflow = TR_OVERFLOW_PAUSE;
        spec.output_bytes_max = 16384;
        spec.timeout_ns = 200 * TR_MILLISECOND;
        struct job job;
        host_run_timed(host, &spec, at == 0 ? 16384 : 38893, &job);
        CHECK_EQ_INT(job.result.timed_out, at == 0); /* the other one had exited by then */
        CHECK(job.result.out.total >= 16384);
        tr_process_result_done(&job.result);
    }
}

CASES(output_in_a_file)
{
    char folder[] = "/tmp/tr-process-XXXXXX";
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    char *text = malloc(8 * MIB);
    CHECK(text != NULL && mkdtemp(folder) != NULL);
    spec.shell = "seq 1 300000; echo oops >&2";
    spec.spill_directory = folder;
    spec.output_bytes_max = 1000;
    host_run_spec(host, &spec, &job);
    CHECK_EQ_U64(job.result.out.size, 1000);
    CHECK(job.result.out.spill_path != NULL && job.result.error.spill_path != NULL);
    CHECK_EQ_U64(job.result.out.spill_bytes, job.result.out.total);
    FILE *file = fopen(job.result.out.spill_path, "r");
    CHECK(file != NULL);
    struct follower read = {.text = text, .size = fread(text, 1, 8 * MIB, file)};
    (void)fclose(file);
    check_numbers(&read, 300000);
    CHECK_EQ_INT(unlink(job.result.out.spill_path), 0);
    CHECK_EQ_INT(unlink(job.result.error.spill_path), 0);
    tr_process_result_done(&job.result);
    CHECK(job.result.out.spill_path == NULL);
    /* Its cap. */
    spec.spill_bytes_max = 4096;
    host_run_spec(host, &spec, &job);
    CHECK_EQ_U64(job.result.out.spill_bytes, 4096);
    CHECK_EQ_INT(unlink(job.result.out.spill_path), 0);
    CHECK_EQ_INT(unlink(job.result.error.spill_path), 0);
    tr_process_result_done(&job.result);
    CHECK_EQ_INT(rmdir(folder), 0); /* nothing else is in it */
    free(text);
}

/* A thousand lines make few events; the last one tells of all. */
CASES(events_are_coalesced)
{
    enum {
        EVENTS = 64
    };
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    tr_reader *reader;
    tr_event events[EVENTS];
    struct job job;
    options.types = UINT64_C(1) << TR_EVENT_OUTPUT;
    CHECK_EQ_INT(tr_reader_open(host->manager, &options, &reader), 0);
    double start = case_seconds();
    host_run_shell(host, "i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i+1)); done", &job);
    double seconds = case_seconds() - start;
    int count = tr_reader_read(reader, events, EVENTS, 0);
    CHECK(count >= 1 && count <= 2 + (int)(seconds * 20));
    for (int at = 0; at < count && at < EVENTS; at++) {
        CHECK_EQ_U64(events[at].total, at + 1);
    }
    if (count < EVENTS) {
        CHECK_EQ_U64(events[count - 1].current, job.result.out.total);
    }
    tr_reader_close(reader);
    tr_process_result_done(&job.result);
}

/* What was held back is told of although nothing more happens. */
CASES(held_back_events_come)
{
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job = {.spec = &spec};
    tr_outcome outcome = TR_OUTCOME_NONE;
    tr_reader *reader;
    tr_event event = {0};
    if (host->place == PLACE_INLINE) {
        return; /* nobody could read while it runs */
    }
    options.types = UINT64_C(1) << TR_EVENT_OUTPUT;
    CHECK_EQ_INT(tr_reader_open(host->manager, &options, &reader), 0);
    spec.shell = "printf 1; printf 23; exec sleep 300";
    host_launch(host, &job);
    while (event.current < 3) {
        CHECK_EQ_INT(tr_reader_read(reader, &event, 1, PATIENCE_SECONDS * TR_SECOND), 1);
    }
    CHECK_EQ_INT(tr_turn_interrupt(host->manager, host->turn, NULL), 1);
    CHECK_EQ_INT(host_wait(host, &outcome), 1);
    CHECK_EQ_INT(outcome, TR_OUTCOME_CANCELLED);
    WAIT_UNTIL(tr__load_acquire(&job.ended) != 0, PATIENCE_SECONDS); /* pairs with run_job */
    tr_reader_close(reader);
    tr_process_result_done(&job.result);
}
