/*
 * tr_process end to end: input while the program runs, signals, and programs at a terminal.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "e2e/process_host.h"
#include "support/wait.h"

/* Launches a job beside the test's thread; an inline manager would keep it until the end. */
static bool start(struct host *host, const tr_process_spec *spec, struct job *job)
{
    *job = (struct job){.spec = spec};
    if (host->place == PLACE_INLINE) {
        return false;
    }
    host_launch(host, job);
    return true;
}

static void finish(struct host *host, struct job *job)
{
    tr_outcome outcome = TR_OUTCOME_NONE;
    CHECK_EQ_INT(host_wait(host, &outcome), 1);
    CHECK_EQ_INT(outcome, TR_OUTCOME_COMPLETED);
    WAIT_UNTIL(tr__load_acquire(&job->ended) != 0, PATIENCE_SECONDS); /* pairs with run_job */
}

static void write_text(struct host *host, struct job *job, const char *text)
{
    int count = TR_ESTATE;
    WAIT_UNTIL((count = tr_task_input(host->manager, host_task(job), text, strlen(text),
                                      PATIENCE_SECONDS * TR_SECOND)) != TR_ESTATE,
               PATIENCE_SECONDS); /* until the program is there */
    CHECK_EQ_INT(count, (int)strlen(text));
}

CASES(input_goes_on)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "cat; echo end";
    spec.input = (tr_bytes){"one\n", 4};
    spec.flags = TR_PROCESS_OPEN_INPUT;
    if (!start(host, &spec, &job)) {
        return;
    }
    host_expect(host, &job, 0, "one\n");
    write_text(host, &job, "two\n");
    host_expect(host, &job, 4, "two\n");
    write_text(host, &job, "three\n");
    CHECK_EQ_INT(tr_task_input_close(host->manager, host_task(&job)), 0);
    finish(host, &job);
    check_output(&job.result.out, "one\ntwo\nthree\nend\n");
    CHECK_EQ_U64(job.result.bytes_in, 14);
    tr_process_result_done(&job.result);
    /* Without input to begin with. */
    spec.input = (tr_bytes){NULL, 0};
    CHECK(start(host, &spec, &job));
    write_text(host, &job, "only\n");
    CHECK_EQ_INT(tr_task_input_close(host->manager, host_task(&job)), 0);
    finish(host, &job);
    check_output(&job.result.out, "only\nend\n");
    tr_process_result_done(&job.result);
}

/* Nobody closes it: its own exit ends it. */
CASES(input_left_open)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "exit 6";
    spec.flags = TR_PROCESS_OPEN_INPUT;
    host_run_spec(host, &spec, &job);
    CHECK_EQ_INT(job.result.exit_code, 6);
    CHECK_EQ_INT(tr_task_input(host->manager, host_task(&job), "x", 1, 0), TR_ENOENT);
    tr_process_result_done(&job.result);
}

CASES(signals)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "trap 'echo got; exit 8' USR1; echo ready; while :; do sleep 0.01; done";
    if (!start(host, &spec, &job)) {
        return;
    }
    host_expect(host, &job, 0, "ready\n");
    CHECK_EQ_INT(tr_task_signal(host->manager, host_task(&job), SIGUSR1), 0);
    finish(host, &job);
    CHECK(job.result.out.size >= 10);
    CHECK(job.result.exit_code == 8 || job.result.signal == SIGUSR1); /* its sleep got it, too */
    tr_process_result_done(&job.result);
}

CASES(terminal)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "test -t 0 && test -t 1 && test -t 2 && stty size && "
                 "ps -o tty= -p $$ 2>/dev/null | cut -c1-3; : </dev/tty && echo own";
    spec.flags = TR_PROCESS_TERMINAL;
    host_run_spec(host, &spec, &job);
    CHECK_EQ_INT(job.result.exit_code, 0);
    CHECK(job.result.out.size >= 12 && memcmp(job.result.out.data, "24 80\r\n", 7) == 0);
    CHECK(memcmp(job.result.out.data + job.result.out.size - 5, "own\r\n", 5) == 0);
    CHECK(job.result.error.data == NULL && !job.result.held_open);
    tr_process_result_done(&job.result);
    spec.terminal_rows = 5;
    spec.terminal_columns = 1000;
    spec.shell = "stty size; echo oops >&2; exit 3";
    host_run_spec(host, &spec, &job);
    CHECK_EQ_INT(job.result.exit_code, 3);
    check_output(&job.result.out, "5 1000\r\noops\r\n");
    tr_process_result_done(&job.result);
}

/* The terminal echoes what is typed; the end of the input ends the program. */
CASES(terminal_input)
{
    static const struct {
        const char *input;
        const char *output;
    } table[] = {
        {"", "end\r\n"},
        {"a line\n", "a line\r\na line\r\nend\r\n"},
        {"no line", "no lineno lineend\r\n"},
    };
    for (unsigned at = 0; at < sizeof table / sizeof *table; at++) {
        tr_process_spec spec = TR_PROCESS_SPEC_INIT;
        struct job job;
        spec.shell = "cat; echo end";
        spec.flags = TR_PROCESS_TERMINAL;
        spec.input = (tr_bytes){table[at].input, strlen(table[at].input)};
        host_run_spec(host, &spec, &job);
        check_output(&job.result.out, table[at].output);
        tr_process_result_done(&job.result);
    }
}

CASES(terminal_while_it_runs)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "stty -echo; echo ready; cat; stty size"; /* a shell's read ends at a signal */
    spec.flags = TR_PROCESS_TERMINAL | TR_PROCESS_OPEN_INPUT;
    if (!start(host, &spec, &job)) {
        return;
    }
    host_expect(host, &job, 0, "ready\r\n");
    write_text(host, &job, "hello\n");
    host_expect(host, &job, 7, "hello\r\n");
    CHECK_EQ_INT(tr_task_resize(host->manager, host_task(&job), 33, 44), 0);
    WAIT_UNTIL(tr_task_input_close(host->manager, host_task(&job)) == 0, PATIENCE_SECONDS);
    finish(host, &job);
    CHECK(job.result.out.size >= 7);
    CHECK(memcmp(job.result.out.data + job.result.out.size - 7, "33 44\r\n", 7) == 0);
    tr_process_result_done(&job.result);
}

/* Control-C, as typed. */
CASES(terminal_interrupt)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.01; done";
    spec.flags = TR_PROCESS_TERMINAL | TR_PROCESS_OPEN_INPUT;
    if (!start(host, &spec, &job)) {
        return;
    }
    host_expect(host, &job, 0, "ready\r\n");
    write_text(host, &job, "\003");
    finish(host, &job);
    CHECK_EQ_INT(job.result.exit_code, 4);
    tr_process_result_done(&job.result);
}
