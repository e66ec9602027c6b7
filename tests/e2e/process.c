/*
 * tr_process end to end: real programs that end by themselves, through the public host interface.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/process_host.h"

static void run_and_check(struct host *host, const char *command, const char *expected)
{
    struct job job;
    host_run_shell(host, command, &job);
    CHECK_EQ_INT(job.result.exit_code, 0);
    check_output(&job.result.out, expected);
    tr_process_result_done(&job.result);
}

CASES(endings)
{
    static const struct {
        const char *command;
        int exit_code;
        int signal;
    } table[] = {
        {"true", 0, 0},
        {"false", 1, 0},
        {"exit 77", 77, 0},
        {"exit 255", 255, 0},
        {"kill -KILL $$", -1, SIGKILL},
        {"kill -TERM $$", -1, SIGTERM},
        {"ulimit -c 0; kill -ABRT $$", -1, SIGABRT},
        {"", 0, 0},
    };
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        struct job job;
        host_run_shell(host, table[at].command, &job);
        CHECK_EQ_INT(job.result.exit_code, table[at].exit_code);
        CHECK_EQ_INT(job.result.signal, table[at].signal);
        CHECK(!job.result.timed_out && !job.result.cancelled && !job.result.held_open);
        CHECK(job.result.wall_ns > 0 && job.result.resident_bytes > 0);
        check_output(&job.result.out, "");
        check_output(&job.result.error, "");
        tr_process_result_done(&job.result);
    }
}

CASES(shell_lines)
{
    run_and_check(host, "printf 'b\\na\\n' | sort | tr a-z A-Z", "A\nB\n");
    run_and_check(host, "for i in 1 2 3; do echo $i; done | wc -l", "3\n");
    run_and_check(host, "echo \"  two  spaces  \"", "  two  spaces  \n");
    run_and_check(host, "readlink /proc/self/fd/0", "/dev/null\n");
    run_and_check(host, "cat", "");
    /* A session and group of its own. */
    run_and_check(host, "set -- $(cat /proc/$$/stat); test $1 = $5 && test $1 = $6 && echo own",
                  "own\n");
}

CASES(arguments)
{
    static const char *const argv[] = {"printf", "%s|", "a b", "", "c\"d'e", "$HOME *", NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.argv = argv;
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "a b||c\"d'e|$HOME *|");
    tr_process_result_done(&job.result);
}

CASES(directory)
{
    static const char *const argv[] = {"/bin/pwd", NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.argv = argv;
    spec.directory = "/usr";
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "/usr\n");
    tr_process_result_done(&job.result);
    spec.directory = "/no such directory";
    job = (struct job){.spec = &spec};
    CHECK_EQ_INT(host_run(host, &job), TR_OUTCOME_FAILED);
    CHECK_EQ_INT(job.status, -ENOENT);
}

CASES(environment)
{
    static const char *const changes[] = {"ADDED=1", "REPLACED=new =", "REMOVED", "ABSENT", NULL};
    static const char *const env[] = {"/usr/bin/env", NULL};
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    CHECK(setenv("KEPT", "kept", 1) == 0);
    CHECK(setenv("REPLACED", "old", 1) == 0);
    CHECK(setenv("REMOVED", "old", 1) == 0);
    spec.shell = "echo \"$KEPT,$ADDED,$REPLACED,${REMOVED-none},${ABSENT-none}\"";
    spec.environment = changes;
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "kept,1,new =,none,none\n");
    tr_process_result_done(&job.result);
    spec.shell = NULL;
    spec.argv = env;
    spec.flags = TR_PROCESS_CLEAR_ENVIRONMENT;
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "ADDED=1\nREPLACED=new =\n");
    tr_process_result_done(&job.result);
    spec.environment = NULL;
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "");
    tr_process_result_done(&job.result);
}

CASES(input)
{
    enum {
        BYTES = 1 << 20
    };
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    unsigned char *bytes = malloc(BYTES);
    CHECK(bytes != NULL);
    for (size_t at = 0; at < BYTES; at++) {
        bytes[at] = (unsigned char)(at * 2654435761u >> 13);
    }
    spec.shell = "cat";
    spec.input = (tr_bytes){bytes, BYTES};
    spec.output_bytes_max = 2 * BYTES;
    host_run_spec(host, &spec, &job);
    CHECK_EQ_U64(job.result.out.size, BYTES);
    CHECK_EQ_U64(job.result.out.omitted, 0);
    CHECK(memcmp(job.result.out.data, bytes, BYTES) == 0);
    tr_process_result_done(&job.result);
    /* It may also go unread: by exiting, by closing it, by taking only a part. */
    spec.shell = "exit 4";
    host_run_spec(host, &spec, &job);
    CHECK_EQ_INT(job.result.exit_code, 4);
    tr_process_result_done(&job.result);
    spec.shell = "exec 0<&-; sleep 0.05; echo closed";
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "closed\n");
    tr_process_result_done(&job.result);
    spec.shell = "head -c 100000 | wc -c";
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "100000\n");
    tr_process_result_done(&job.result);
    spec.input = (tr_bytes){"x", 1};
    spec.shell = "cat; echo end";
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "xend\n");
    tr_process_result_done(&job.result);
    free(bytes);
}

CASES(both_streams)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "echo a; echo b >&2; echo c; echo d >&2";
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "a\nc\n");
    check_output(&job.result.error, "b\nd\n");
    tr_process_result_done(&job.result);
    spec.flags = TR_PROCESS_MERGE_ERROR;
    host_run_spec(host, &spec, &job);
    check_output(&job.result.out, "a\nb\nc\nd\n");
    CHECK(job.result.error.data == NULL);
    CHECK_EQ_U64(job.result.error.size, 0);
    tr_process_result_done(&job.result);
}

CASES(capped_output)
{
    enum {
        LINES = 200000,
        CAP = 4096
    };
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    char *text = malloc(LINES * 7 + 1);
    size_t size = 0;
    CHECK(text != NULL);
    for (int line = 1; line <= LINES; line++) {
        size += (size_t)sprintf(text + size, "%d\n", line);
    }
    spec.shell = "seq 1 200000; seq 1 200000 >&2";
    spec.output_bytes_max = CAP;
    host_run_spec(host, &spec, &job);
    const tr_process_output *streams[] = {&job.result.out, &job.result.error};
    for (unsigned which = 0; which < 2; which++) {
        const tr_process_output *output = streams[which];
        CHECK_EQ_U64(output->size, CAP);
        CHECK_EQ_U64(output->head, CAP / 2);
        CHECK_EQ_U64(output->omitted, size - CAP);
        CHECK(memcmp(output->data, text, CAP / 2) == 0);
        CHECK(memcmp(output->data + CAP / 2, text + size - CAP / 2, CAP / 2) == 0);
    }
    tr_process_result_done(&job.result);
    /* Without a cap of its own it is the call's, which is the manager's 1 MiB. */
    spec.output_bytes_max = 0;
    host_run_spec(host, &spec, &job);
    CHECK_EQ_U64(job.result.out.size, 1 << 20);
    CHECK_EQ_U64(job.result.out.omitted, size - (1 << 20));
    tr_process_result_done(&job.result);
    free(text);
}

CASES(characters)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "i=0; while [ $i -lt 500 ]; do printf '\\342\\202\\254'; i=$((i+1)); done";
    spec.output_bytes_max = 100; /* a half is 50 bytes: 16 characters and two thirds */
    host_run_spec(host, &spec, &job);
    CHECK_EQ_U64(job.result.out.head, 48);
    CHECK_EQ_U64(job.result.out.size, 96);
    CHECK_EQ_U64(job.result.out.omitted, 1500 - 96);
    for (size_t at = 0; at < job.result.out.size; at += 3) {
        CHECK(memcmp(job.result.out.data + at, "\xE2\x82\xAC", 3) == 0);
    }
    tr_process_result_done(&job.result);
}

CASES(exec_errors)
{
    static const char *const no_path[] = {"/no/such/program", NULL};
    static const char *const no_name[] = {"no-such-program-anywhere", NULL};
    static const char *const folder[] = {"/etc", NULL};
    static const struct {
        const char *const *argv;
        int error;
    } table[] = {{no_path, -ENOENT}, {no_name, -ENOENT}, {folder, -EACCES}};
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        tr_process_spec spec = TR_PROCESS_SPEC_INIT;
        struct job job = {.spec = &spec};
        spec.argv = table[at].argv;
        CHECK_EQ_INT(host_run(host, &job), TR_OUTCOME_FAILED);
        CHECK_EQ_INT(job.status, table[at].error);
        CHECK(job.result.out.data == NULL && job.result.wall_ns == 0); /* untouched */
    }
}

CASES(many_at_once)
{
    enum {
        MANY = 200
    };
    static struct job jobs[MANY];
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_outcome outcome;
    spec.shell = "cat; echo $((6 * 7)) >&2";
    spec.input = (tr_bytes){"some input", 10};
    for (unsigned at = 0; at < MANY; at++) {
        jobs[at] = (struct job){.spec = &spec};
        host_launch(host, &jobs[at]);
    }
    CHECK_EQ_INT(host_wait(host, &outcome), MANY);
    for (unsigned at = 0; at < MANY; at++) {
        CHECK_EQ_INT(jobs[at].status, 0);
        CHECK_EQ_INT(jobs[at].result.exit_code, 0);
        check_output(&jobs[at].result.out, "some input");
        check_output(&jobs[at].result.error, "42\n");
        tr_process_result_done(&jobs[at].result);
    }
}

CASES(resource_usage)
{
    struct job job;
    host_run_shell(host, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", &job);
    CHECK(job.result.user_ns + job.result.system_ns > TR_MILLISECOND);
    CHECK(job.result.resident_bytes > 100000);
    CHECK(job.result.wall_ns >= TR_MILLISECOND);
    tr_process_result_done(&job.result);
}

CASES(output_events)
{
    tr_reader_options options = TR_READER_OPTIONS_INIT;
    tr_reader *reader;
    tr_event events[8];
    struct job job;
    options.types = UINT64_C(1) << TR_EVENT_OUTPUT;
    CHECK_EQ_INT(tr_reader_open(host->manager, &options, &reader), 0);
    host_run_shell(host, "printf 1234; sleep 0.1; printf 567 >&2", &job);
    int count = tr_reader_read(reader, events, 8, 0);
    CHECK(count >= 2);
    CHECK_EQ_U64(events[0].current, 4);
    for (int at = 0; at < count; at++) {
        CHECK_EQ_U64(events[at].total, at + 1);
    }
    CHECK_EQ_U64(events[count - 1].current, 7);
    tr_reader_close(reader);
    tr_process_result_done(&job.result);
}

static int read_whole(tr_call *call, const tr_child *child, char *text, size_t room)
{
    tr_io read;
    tr_io *done;
    size_t used = 0;
    do {
        CHECK_EQ_INT(tr_io_read(call, &read, child->output_fd, text + used, room - used), 0);
        CHECK_EQ_INT(tr_io_wait(call, 0, &done), 0);
        CHECK_EQ_PTR(done, &read);
        CHECK(read.result >= 0);
        used += (size_t)read.result;
    } while (read.result > 0);
    return (int)used;
}

static int use_the_parts(tr_call *call, struct job *job)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct rusage usage;
    tr_child child;
    tr_io exited;
    tr_io *done;
    char text[64];
    int status = -1;
    (void)job;
    spec.shell = "echo ready; exec 1>&-; exec sleep 300";
    CHECK_EQ_INT(tr_spawn(call, &spec, &child), 0);
    CHECK(child.pid > 0 && child.input_fd == -1);
    CHECK_EQ_INT(tr_child_reap(&child, &status, &usage), TR_EAGAIN);
    CHECK_EQ_INT(read_whole(call, &child, text, sizeof text), 6);
    CHECK_EQ_INT(tr_child_signal(&child, -1), TR_EINVAL);
    CHECK_EQ_INT(tr_child_signal(&child, 1000), TR_EINVAL);
    CHECK_EQ_INT(tr_child_signal(&child, 0), 0);
    CHECK_EQ_INT(tr_io_poll(call, &exited, child.process_fd, 1), 0);
    CHECK_EQ_INT(tr_child_signal(&child, SIGUSR1), 0);
    CHECK_EQ_INT(tr_io_wait(call, 0, &done), 0);
    CHECK_EQ_PTR(done, &exited);
    CHECK_EQ_INT(tr_io_wait(call, 0, &done), TR_ESTATE);
    CHECK_EQ_INT(tr_child_reap(&child, &status, &usage), 0);
    CHECK_EQ_INT(status, SIGUSR1);
    CHECK(child.pid == 0 && child.process_fd == -1 && child.output_fd == -1);
    CHECK_EQ_INT(tr_child_reap(&child, NULL, NULL), TR_EINVAL);
    CHECK_EQ_INT(tr_child_signal(&child, SIGTERM), TR_EINVAL);
    return 0;
}

CASES(parts)
{
    struct job job = {.function = use_the_parts};
    CHECK_EQ_INT(host_run(host, &job), TR_OUTCOME_COMPLETED);
}

/* Requests of the function's own stay with it while tr_process and tr_sleep await theirs. */
static int await_beside(tr_call *call, struct job *job)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_io timers[3];
    tr_io *done;
    for (unsigned at = 0; at < 3; at++) {
        CHECK_EQ_INT(tr_io_timer(call, &timers[at], (at < 2 ? at + 1 : 1000) * TR_MILLISECOND), 0);
    }
    spec.shell = "sleep 0.05; echo done";
    CHECK_EQ_INT(tr_process(call, &spec, &job->result), 0);
    check_output(&job->result.out, "done\n");
    tr_process_result_done(&job->result);
    CHECK_EQ_INT(tr_sleep(call, TR_MILLISECOND), 0);
    tr_io_cancel(call, &timers[2]);
    tr_io_cancel(call, &timers[0]); /* done already: left alone */
    for (unsigned at = 0; at < 3; at++) {
        CHECK_EQ_INT(tr_io_wait(call, 0, &done), 0);
        CHECK_EQ_PTR(done, &timers[at]);
        CHECK_EQ_INT(done->result, at < 2 ? 0 : TR_ECANCELED);
        tr_io_cancel(call, done); /* returned: left alone */
    }
    CHECK_EQ_INT(tr_io_wait(call, 0, &done), TR_ESTATE);
    return 0;
}

CASES(requests_beside)
{
    struct job job = {.function = await_beside};
    CHECK_EQ_INT(host_run(host, &job), TR_OUTCOME_COMPLETED);
}
