/*
 * tr_process end to end: programs that must be stopped, and what they leave behind.
 *
 * A program tells that it has come to its point by writing its process id into a FIFO ($READY); a
 * thread waits for that and then interrupts the turn, so nothing here sleeps in the hope of order.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "e2e/process_host.h"
#include "support/wait.h"

/* Interrupts the turn when the program is ready. */
struct interrupter {
    struct host *host;
    bool stopped; /* wait until the program is in state T */
    char folder[32];
    char path[64];
    pid_t pid; /* what the program wrote */
    pthread_t thread;
};

static void *interrupt_when_ready(void *context)
{
    struct interrupter *interrupter = context;
    char text[32] = "";
    int fd = open(interrupter->path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(read(fd, text, sizeof text - 1) > 0);
    (void)close(fd);
    interrupter->pid = (pid_t)atol(text);
    if (interrupter->stopped) {
        WAIT_UNTIL(process_state(interrupter->pid) == 'T', PATIENCE_SECONDS);
    }
    CHECK_EQ_INT(tr_turn_interrupt(interrupter->host->manager, interrupter->host->turn, NULL), 1);
    return NULL;
}

static void interrupter_start(struct interrupter *interrupter, struct host *host, bool stopped)
{
    *interrupter = (struct interrupter){.host = host, .stopped = stopped};
    (void)snprintf(interrupter->folder, sizeof interrupter->folder, "/tmp/tr-process-XXXXXX");
    CHECK(mkdtemp(interrupter->folder) != NULL);
    (void)snprintf(interrupter->path, sizeof interrupter->path, "%s/ready", interrupter->folder);
    CHECK_EQ_INT(mkfifo(interrupter->path, 0600), 0);
    CHECK_EQ_INT(setenv("READY", interrupter->path, 1), 0);
    CHECK_EQ_INT(pthread_create(&interrupter->thread, NULL, interrupt_when_ready, interrupter), 0);
}

static void interrupter_done(struct interrupter *interrupter)
{
    CHECK_EQ_INT(pthread_join(interrupter->thread, NULL), 0);
    (void)unlink(interrupter->path);
    (void)rmdir(interrupter->folder);
}

/* Runs a command that the interrupter stops; returns the pid that the command wrote. */
static pid_t run_interrupted(struct host *host, const tr_process_spec *spec, struct job *job,
                             bool stopped)
{
    struct interrupter interrupter;
    interrupter_start(&interrupter, host, stopped);
    *job = (struct job){.spec = spec};
    CHECK_EQ_INT(host_run(host, job), TR_OUTCOME_CANCELLED);
    interrupter_done(&interrupter);
    CHECK_EQ_INT(job->status, 0);
    CHECK(job->result.cancelled && !job->result.timed_out);
    return interrupter.pid;
}

CASES(timeout_keeps_output)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "echo oops >&2; echo before; exec sleep 300";
    spec.timeout_ns = 200 * TR_MILLISECOND;
    host_run_timed(host, &spec, 7, &job);
    CHECK(job.result.timed_out && !job.result.cancelled);
    CHECK_EQ_INT(job.result.signal, SIGTERM);
    CHECK_EQ_INT(job.result.exit_code, -1);
    CHECK(job.result.wall_ns >= 200 * TR_MILLISECOND);
    check_output(&job.result.out, "before\n");
    check_output(&job.result.error, "oops\n");
    tr_process_result_done(&job.result);
    /* One that ends in time is not touched, and is not waited for longer. */
    spec.shell = "echo quick";
    spec.timeout_ns = 300 * TR_SECOND;
    host_run_spec(host, &spec, &job);
    CHECK(!job.result.timed_out);
    tr_process_result_done(&job.result);
}

CASES(timeout_then_force)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "trap '' TERM; echo up; while :; do sleep 300; done";
    spec.timeout_ns = 100 * TR_MILLISECOND;
    spec.grace_ns = 100 * TR_MILLISECOND;
    host_run_timed(host, &spec, 3, &job);
    CHECK(job.result.timed_out);
    CHECK_EQ_INT(job.result.signal, SIGKILL);
    CHECK(job.result.wall_ns >= 200 * TR_MILLISECOND);
    CHECK(!job.result.held_open);
    check_output(&job.result.out, "up\n");
    tr_process_result_done(&job.result);
}

CASES(cancel_asks_first)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "trap 'echo bye; exit 3' TERM; echo up; echo $$ >\"$READY\"; sleep 300 & wait";
    pid_t pid = run_interrupted(host, &spec, &job, false);
    CHECK_EQ_INT(job.result.exit_code, 3);
    check_output(&job.result.out, "up\nbye\n");
    CHECK(!is_running(pid));
    tr_process_result_done(&job.result);
}

CASES(cancel_kills_what_stays)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "trap '' TERM; echo up; sleep 300 & echo $! >\"$READY\"; wait; wait";
    spec.grace_ns = 50 * TR_MILLISECOND;
    pid_t pid = run_interrupted(host, &spec, &job, false);
    CHECK_EQ_INT(job.result.signal, SIGKILL);
    check_output(&job.result.out, "up\n");
    WAIT_UNTIL(!is_running(pid), PATIENCE_SECONDS); /* killed; the kernel takes it apart */
    tr_process_result_done(&job.result);
}

CASES(cancel_reaches_the_group)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "sleep 300 | sleep 300 | sleep 300 & echo $! >\"$READY\"; wait";
    pid_t pid = run_interrupted(host, &spec, &job, false);
    CHECK_EQ_INT(job.result.signal, SIGTERM);
    CHECK(!job.result.held_open);
    WAIT_UNTIL(!is_running(pid), PATIENCE_SECONDS);
    tr_process_result_done(&job.result);
}

CASES(cancel_of_a_stopped_program)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "trap 'exit 5' TERM; echo $$ >\"$READY\"; kill -STOP $$; sleep 300 & wait";
    (void)run_interrupted(host, &spec, &job, true);
    CHECK_EQ_INT(job.result.exit_code, 5);
    tr_process_result_done(&job.result);
}

CASES(descendants_have_the_grace)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    /* The shell in front dies at once; the one behind needs a while to clean up. */
    spec.shell = "sh -c 'trap \"sleep 0.3; echo saved; exit\" TERM; echo $$ >\"$READY\"; "
                 "while :; do sleep 0.05; done' & wait";
    (void)run_interrupted(host, &spec, &job, false);
    CHECK_EQ_INT(job.result.signal, SIGTERM);
    CHECK(!job.result.held_open);
    CHECK_EQ_U64(job.result.out.omitted, 0);
    CHECK(job.result.out.size >= 6 &&
          memcmp(job.result.out.data + job.result.out.size - 6, "saved\n", 6) == 0);
    tr_process_result_done(&job.result);
}

static pid_t number_in(const tr_process_output *output)
{
    char text[32] = "";
    CHECK(output->size > 0 && output->size < sizeof text);
    memcpy(text, output->data, output->size);
    return (pid_t)atol(text);
}

CASES(survivors_do_not_hold_us)
{
    struct job job;
    double start = case_seconds();
    host_run_shell(host, "sleep 300 & echo $! >&2; echo hi", &job);
    CHECK(case_seconds() - start < PATIENCE_SECONDS);
    CHECK(job.result.held_open);
    CHECK_EQ_INT(job.result.exit_code, 0);
    check_output(&job.result.out, "hi\n");
    CHECK_EQ_U64(job.result.swept, 1);
    CHECK(!is_running(number_in(&job.result.error))); /* gone, not going */
    tr_process_result_done(&job.result);
}

CASES(silent_survivors_are_killed)
{
    struct job job;
    /* It exits when the one it leaves behind has let go of the streams. */
    host_run_shell(host,
                   "sleep 300 >/dev/null 2>&1 & echo $!; "
                   "until test \"$(readlink /proc/$!/fd/2)\" = /dev/null; do :; done",
                   &job);
    CHECK(!job.result.held_open);
    CHECK_EQ_U64(job.result.swept, 1);
    CHECK(!is_running(number_in(&job.result.out)));
    tr_process_result_done(&job.result);
}

CASES(trailing_output_is_taken)
{
    struct job job;
    host_run_shell(host, "(sleep 0.01; echo late) & echo early", &job);
    if (!job.result.held_open) { /* else this machine needed 100 ms for an echo */
        check_output(&job.result.out, "early\nlate\n");
    }
    tr_process_result_done(&job.result);
}

/* A flood on both streams does not hold up the timeout, nor its end. */
CASES(floods)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "yes & exec yes >&2";
    spec.timeout_ns = 500 * TR_MILLISECOND;
    spec.output_bytes_max = 10000;
    host_run_timed(host, &spec, 1 << 20, &job);
    CHECK(job.result.timed_out);
    CHECK_EQ_U64(job.result.out.size, 10000);
    CHECK(job.result.out.omitted > 0 && job.result.error.omitted > 0);
    tr_process_result_done(&job.result);
}

/* The grace of the program is longer than the manager's patience with its tools. */
CASE(process, a_long_grace_is_waited_for)
{
    tr_config config = TR_CONFIG_INIT;
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct interrupter interrupter;
    struct host host;
    struct job job = {.spec = &spec};
    tr_outcome outcome = TR_OUTCOME_NONE;
    config.cancel_grace_ns = 10 * TR_MILLISECOND;
    config.abandon_wait_ns = 10 * TR_MILLISECOND;
    host_open_with(&host, PLACE_FIBER, &config);
    interrupter_start(&interrupter, &host, false);
    spec.shell = "trap 'sleep 0.3; echo saved; exit' TERM; echo $$ >\"$READY\"; "
                 "while :; do sleep 0.01; done";
    spec.grace_ns = 15 * TR_SECOND;
    host_launch(&host, &job);
    CHECK_EQ_INT(host_wait(&host, &outcome), 1);
    CHECK_EQ_INT(tr__load_acquire(&job.ended), 1); /* its outcome came last; pairs with run_job */
    CHECK_EQ_INT(outcome, TR_OUTCOME_CANCELLED);
    interrupter_done(&interrupter);
    CHECK(job.result.cancelled);
    check_output(&job.result.out, "saved\n");
    CHECK(!is_running(interrupter.pid));
    tr_process_result_done(&job.result);
    host_close(&host);
}

/* What is meant to live on does; what its manager keeps, until that closes. */
static pid_t leave_behind(struct host *host, tr_process_lifetime lifetime)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "sleep 300 >/dev/null 2>&1 & echo $!";
    spec.lifetime = lifetime;
    host_run_spec(host, &spec, &job);
    CHECK_EQ_INT(job.result.exit_code, 0);
    CHECK_EQ_U64(job.result.survivors, 1);
    CHECK_EQ_U64(job.result.swept, 0);
    pid_t pid = number_in(&job.result.out);
    CHECK(is_running(pid));
    tr_process_result_done(&job.result);
    return pid;
}

CASE(process, survivors_of_each_lifetime)
{
    struct host host;
    host_open(&host, PLACE_FIBER);
    pid_t of_session = leave_behind(&host, TR_PROCESS_LIFETIME_SESSION);
    pid_t of_manager = leave_behind(&host, TR_PROCESS_LIFETIME_MANAGER);
    pid_t daemon = leave_behind(&host, TR_PROCESS_LIFETIME_DAEMON);
    CHECK_EQ_INT(tr_session_close(host.manager, host.session, 0), 0);
    WAIT_UNTIL(!is_running(of_session), PATIENCE_SECONDS);
    CHECK(is_running(of_manager) && is_running(daemon));
    host_close(&host);
    CHECK(!is_running(of_manager));
    CHECK(is_running(daemon));
    CHECK_EQ_INT(kill(daemon, SIGKILL), 0);
}

/* A program that was stopped leaves nobody, whatever its lifetime. */
CASES(stopped_daemons_die)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    spec.shell = "sleep 300 >/dev/null 2>&1 & echo $!; wait";
    spec.lifetime = TR_PROCESS_LIFETIME_DAEMON;
    spec.timeout_ns = 200 * TR_MILLISECOND;
    host_run_timed(host, &spec, 1, &job);
    CHECK(job.result.timed_out);
    CHECK_EQ_U64(job.result.survivors, 0);
    CHECK(!is_running(number_in(&job.result.out)));
    tr_process_result_done(&job.result);
}

static int cancel_itself_first(tr_call *call, struct job *job)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_deferred deferred = tr_call_defer(call);
    tr_child child;
    spec.shell = "echo never";
    CHECK_EQ_INT(tr_task_cancel(deferred.manager, tr_call_task(call), NULL), 0);
    CHECK(tr_call_is_cancelled(call));
    CHECK_EQ_INT(tr_spawn(call, &spec, &child), TR_ECANCELED);
    CHECK_EQ_INT(tr_sleep(call, TR_FOREVER), TR_ECANCELED);
    return tr_process(call, &spec, &job->result);
}

CASES(cancelled_before_the_spawn)
{
    struct job job = {.function = cancel_itself_first};
    CHECK_EQ_INT(host_run(host, &job), TR_OUTCOME_CANCELLED);
    CHECK_EQ_INT(job.status, TR_ECANCELED);
}

/* A host that ignores SIGCHLD takes the status away, but nothing hangs and nothing is left. */
CASES(host_collects_children)
{
    struct job job;
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    host_run_shell(host, "sleep 300 & echo hi; exit 3", &job);
    CHECK_EQ_INT(job.result.exit_code, -1);
    CHECK_EQ_INT(job.result.signal, 0);
    check_output(&job.result.out, "hi\n");
    tr_process_result_done(&job.result);
}

/* Each request for memory refused once: an error or a shorter output, never a leak. */
static int refuse_memory(tr_call *call, struct job *job)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    unsigned failed = 0;
    long refused = 1;
    bool reached = true;
    spec.shell = "cat; seq 1 4000";
    spec.input = (tr_bytes){"text", 4};
    for (; reached; refused++) {
        tr__memory_fail_after(refused);
        int status = tr_process(call, &spec, &job->result);
        reached = tr__memory_fail_left() == 0;
        tr__memory_fail_after(-1);
        CHECK(status == 0 || status == TR_ENOMEM);
        if (status == 0) {
            CHECK_EQ_INT(job->result.exit_code, 0);
            CHECK_EQ_U64(job->result.out.size + job->result.out.omitted, 18897);
            tr_process_result_done(&job->result);
        } else {
            failed += 1;
        }
    }
    CHECK(failed >= 2 && refused > 4);
    return 0;
}

CASE(process, memory_is_refused)
{
    struct host host;
    struct job job = {.function = refuse_memory};
    host_open(&host, PLACE_INLINE);
    CHECK_EQ_INT(host_run(&host, &job), TR_OUTCOME_COMPLETED);
    host_close(&host);
}
