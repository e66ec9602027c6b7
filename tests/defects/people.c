/*
 * Defects that managers of this kind have had, by number; a case says what holds here instead:
 * approvals and processes. D10, D11, D26; D19 to D22, D27.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/host.h"

/* ---- approvals ---- */

static tr_permit ask_twice(void *context, const tr_request *request, unsigned approvals,
                           tr_permit_answer *answer)
{
    (void)context;
    (void)request;
    (void)strcpy(answer->reason, "may it?");
    return approvals < 2 ? TR_PERMIT_ASK : TR_PERMIT_ALLOW;
}

static void open_asking(struct rig *rig, enum rig_mode mode)
{
    tr_config config = TR_CONFIG_INIT;
    config.permit = ask_twice;
    rig_open(rig, mode, &config);
}

static void check_request(tr_batch *batch, tr_task_id task, unsigned approvals)
{
    CHECK_EQ_U64(batch->count, 1);
    CHECK_EQ_INT(batch->items[0].type, TR_ITEM_APPROVAL);
    CHECK_EQ_U64(batch->items[0].task, task);
    CHECK_EQ_U64(batch->items[0].approvals, approvals);
    CHECK_EQ_STR(batch->items[0].reason, "may it?");
    tr_batch_release(batch);
}

/* There: in the background, with manual delivery, the request vanishes. */
static void manual_request_is_delivered(enum rig_mode mode)
{
    struct rig rig;
    tr_reader *reader = NULL;
    tr_reader_options wanted = TR_READER_OPTIONS_INIT;
    tr_event event;
    open_asking(&rig, mode);
    wanted.types = 1u << TR_EVENT_INPUT_REQUIRED;
    CHECK_EQ_INT(tr_reader_open(rig.manager, &wanted, &reader), 0);
    tr_request request = TR_REQUEST_INIT(rig.turn, rig.nothing);
    request.options.route = TR_ROUTE_BACKGROUND;
    request.options.delivery = TR_DELIVERY_MANUAL;
    tr_task_id task = rig_launch_request(&rig, &request).task;
    check_request(rig_ready_take(&rig, rig.session), task, 0);
    CHECK_EQ_INT(tr_reader_read(reader, &event, 1, 0), 1);
    CHECK_EQ_U64(event.snapshot.task, task);
    CHECK_EQ_INT(tr_task_deny(rig.manager, task, "no"), 0);
    rig_check_release(rig_ready_take(&rig, rig.session), task, TR_OUTCOME_DENIED);
    tr_reader_close(reader);
    rig_close(&rig);
}

CASE(defects, d10_a_manual_request_is_a_ready_item)
{
    manual_request_is_delivered(RIG_THREADED);
}

CASE(defects, d10_a_manual_request_is_a_ready_item_inline)
{
    manual_request_is_delivered(RIG_INLINE);
}

/* There: a task that waits for a human counts as completed. */
CASE(defects, d11_who_waits_for_a_human_is_waiting)
{
    struct rig rig;
    tr_snapshot snapshot;
    tr_cursor cursor = {0, 0};
    open_asking(&rig, RIG_THREADED);
    tr_task_id task = rig_launch(&rig, rig.nothing, NULL, TR_ROUTE_FOREGROUND);
    check_request(rig_turn_take(&rig, rig.turn), task, 0);
    CHECK_EQ_INT(tr_task_list(rig.manager, NULL, &cursor, &snapshot, 1), 1);
    CHECK_EQ_INT(snapshot.state, TR_STATE_WAITING);
    CHECK(snapshot.approval_pending);
    CHECK_EQ_INT(tr_manager_wait_idle(rig.manager, 0), TR_ETIMEDOUT);
    CHECK_EQ_U64(rig_stats(&rig).completed, 0);
    CHECK_EQ_U64(rig_stats(&rig).unfinished, 1);
    CHECK_EQ_INT(tr_turn_interrupt(rig.manager, rig.turn, NULL), 1);
    rig_check_release(rig_turn_take(&rig, rig.turn), task, TR_OUTCOME_CANCELLED);
    rig_close(&rig);
}

/* There: a call that needs two approvals asks for the first one for ever. */
CASE(defects, d26_approvals_add_up)
{
    struct rig rig;
    open_asking(&rig, RIG_THREADED);
    tr_task_id task = rig_launch_text(&rig, rig.echo, "run", TR_ROUTE_FOREGROUND);
    for (unsigned approvals = 0; approvals < 2; approvals++) {
        check_request(rig_turn_take(&rig, rig.turn), task, approvals);
        CHECK_EQ_INT(tr_task_approve(rig.manager, task), 0);
    }
    tr_batch *batch = rig_turn_take(&rig, rig.turn);
    rig_check(batch, task, TR_OUTCOME_COMPLETED); /* under the same id */
    CHECK(rig_bytes_are(batch->items[0].result, "run"));
    tr_batch_release(batch);
    rig_turn_is_idle(&rig, rig.turn);
    rig_close(&rig);
}

/* ---- processes ---- */

/* What a call runs, and what became of it. */
struct job {
    tr_process_spec spec;
    tr_process_result result;
    int error;
};

static int run_job(tr_call *call, void *context)
{
    struct job *job = tr_call_user(call);
    (void)context;
    job->error = tr_process(call, &job->spec, &job->result);
    return job->error < 0 ? job->error : 0;
}

static struct job job_of(const char *shell)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    struct job job;
    memset(&job, 0, sizeof job);
    job.spec = spec;
    job.spec.shell = shell;
    return job;
}

static tr_task_id job_launch(struct rig *rig, struct job *job, uint64_t timeout_ns)
{
    tr_tool_id tool = 0;
    if (tr_tool_find(rig->manager, "job", &tool) < 0) {
        tr_tool process = TR_TOOL_INIT("job", run_job);
        process.flags = TR_TOOL_AWAITING;
        CHECK_EQ_INT(tr_tool_register(rig->manager, &process, &tool), 0);
    }
    tr_request request = TR_REQUEST_INIT(rig->turn, tool);
    request.user = job;
    request.options.route = TR_ROUTE_FOREGROUND;
    request.options.run_timeout_ns = timeout_ns;
    return rig_launch_request(rig, &request).task;
}

/* A file that a program writes a process id to. */
struct note {
    char path[64];
    char shell[160];
};

static void note_open(struct note *note, const char *format)
{
    (void)strcpy(note->path, "/tmp/toolring-defect-XXXXXX");
    int fd = mkstemp(note->path);
    CHECK(fd >= 0);
    (void)close(fd);
    (void)snprintf(note->shell, sizeof note->shell, format, note->path);
}

static pid_t note_read(const struct note *note)
{
    long pid = 0;
    FILE *file = fopen(note->path, "r");
    CHECK(file != NULL);
    int count = fscanf(file, "%ld\n", &pid);
    (void)fclose(file);
    return count == 1 ? (pid_t)pid : 0;
}

/* Neither gone nor a zombie that its new parent has not collected yet. */
static bool is_running(pid_t pid)
{
    char path[64];
    char text[256];
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    size_t size = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL && end[2] != 'Z' && end[2] != 'X';
}

enum end {
    END_CANCEL,
    END_TIMEOUT,
    END_CLOSE,
};

/* There: grandchildren survive cancel, timeout and shutdown. */
static void tree_is_gone(enum end end)
{
    struct rig rig;
    struct note note;
    pid_t pid = 0;
    note_open(&note, "sleep 1000 & echo $! > %s; wait");
    struct job job = job_of(note.shell);
    rig_open(&rig, RIG_THREADED, NULL);
    tr_task_id task = job_launch(&rig, &job, end == END_TIMEOUT ? TR_SECOND : 0);
    WAIT_UNTIL((pid = note_read(&note)) != 0, RIG_PATIENCE_SECONDS);
    if (end == END_CANCEL) {
        CHECK_EQ_INT(tr_task_cancel(rig.manager, task, NULL), 0);
    } else if (end == END_CLOSE) {
        rig_shut(&rig, 0);
        /* SIGKILL has been sent when close returns; a grandchild is nobody's to wait for, so the
         * kernel may take a moment more. */
    }
    rig_check_release(rig_turn_take(&rig, rig.turn), task,
                      end == END_TIMEOUT ? TR_OUTCOME_TIMED_OUT : TR_OUTCOME_CANCELLED);
    WAIT_UNTIL(!is_running(pid), RIG_PATIENCE_SECONDS);
    tr_process_result_done(&job.result);
    if (end == END_CLOSE) {
        rig_free(&rig);
    } else {
        rig_close(&rig);
    }
    CHECK_EQ_INT(unlink(note.path), 0);
}

CASE_TIMEOUT(defects, d19_grandchildren_end_with_a_cancel, RIG_TIMEOUT_SECONDS)
{
    tree_is_gone(END_CANCEL);
}

CASE_TIMEOUT(defects, d19_grandchildren_end_with_a_timeout, RIG_TIMEOUT_SECONDS)
{
    tree_is_gone(END_TIMEOUT);
}

CASE_TIMEOUT(defects, d19_grandchildren_end_with_the_manager, RIG_TIMEOUT_SECONDS)
{
    tree_is_gone(END_CLOSE);
}

/* There: the call lasts until the grandchild closes the pipe, here ten minutes. */
THREADED(defects, d20_a_program_has_ended_when_it_has_exited)
{
    struct job job = job_of("sleep 600 & echo hi");
    tr_task_id task = job_launch(rig, &job, 0);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(job.result.exit_code, 0);
    CHECK(job.result.held_open);
    CHECK(job.result.out.size == 3 && memcmp(job.result.out.data, "hi\n", 3) == 0);
    tr_process_result_done(&job.result);
}

/* There: 200 MB of output take 585 MB, and a timeout loses what was written before. */
THREADED(defects, d21_output_is_bounded_and_kept_on_every_ending)
{
    const uint64_t total = 20000000;
    struct job job = job_of("head -c 20000000 /dev/zero");
    job.spec.output_bytes_max = 10000;
    tr_task_id task = job_launch(rig, &job, 0);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    CHECK(job.result.out.size > 0 && job.result.out.size <= 10000);
    CHECK_EQ_U64(job.result.out.size + job.result.out.omitted, total);
    tr_process_result_done(&job.result);
    job = job_of("printf partial; sleep 1000");
    task = job_launch(rig, &job, 2 * TR_SECOND);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_TIMED_OUT);
    CHECK(job.result.out.size == 7 && memcmp(job.result.out.data, "partial", 7) == 0);
    tr_process_result_done(&job.result);
}

/* There: a tool reads the host's standard input. Here it is a pipe with something in it, which
 * stays. */
THREADED(defects, d22_a_program_does_not_read_the_hosts_input)
{
    int ends[2];
    char byte = 0;
    int before = dup(STDIN_FILENO);
    CHECK_EQ_INT(pipe(ends), 0);
    CHECK_EQ_INT(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    CHECK_EQ_INT((int)write(ends[1], "x", 1), 1);
    struct job job = job_of("cat");
    tr_task_id task = job_launch(rig, &job, 0);
    rig_check_release(rig_turn_take(rig, rig->turn), task, TR_OUTCOME_COMPLETED);
    CHECK_EQ_U64(job.result.out.size, 0);
    tr_process_result_done(&job.result);
    CHECK_EQ_INT((int)read(STDIN_FILENO, &byte, 1), 1);
    CHECK_EQ_INT(byte, 'x');
    (void)dup2(before, STDIN_FILENO);
    (void)close(before);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* There: no shutdown; who drops the manager leaves the children behind. */
CASE_TIMEOUT(defects, d27_closing_leaves_nothing_behind, RIG_TIMEOUT_SECONDS)
{
    struct rig rig;
    struct note note;
    struct gate gate;
    pid_t pid = 0;
    int status = 0;
    note_open(&note, "echo $$ > %s; exec sleep 1000");
    struct job job = job_of(note.shell);
    gate_init(&gate);
    rig_open(&rig, RIG_THREADED, NULL);
    (void)job_launch(&rig, &job, 0);
    (void)rig_launch(&rig, rig.awaiting, &gate, TR_ROUTE_FOREGROUND);
    (void)rig_launch(&rig, rig.deferred, &gate, TR_ROUTE_FOREGROUND);
    gate_await_entered(&gate, 2);
    WAIT_UNTIL((pid = note_read(&note)) != 0, RIG_PATIENCE_SECONDS);
    rig_shut(&rig, 0);
    CHECK(!is_running(pid));
    CHECK_EQ_INT(waitpid(-1, &status, WNOHANG), -1);
    CHECK_EQ_INT(errno, ECHILD);
    CHECK_EQ_INT(rig_turn_flush(&rig, rig.turn), 3); /* each was answered */
    tr_process_result_done(&job.result);
    rig_free(&rig); /* looks for threads and descriptors */
    CHECK_EQ_INT(unlink(note.path), 0);
    gate_done(&gate);
}
