/*
 * process_host.c: see process_host.h.
 */
#include "e2e/process_host.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "support/wait.h"

unsigned descriptors_open(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    while (readdir(folder) != NULL) {
        count += 1;
    }
    (void)closedir(folder);
    return count;
}

char process_state(pid_t pid)
{
    char path[64];
    char text[512];
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return 0;
    }
    size_t size = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end != NULL ? name_end[2] : 0;
}

bool is_running(pid_t pid)
{
    char state = process_state(pid);
    return state != 0 && state != 'Z' && state != 'X';
}

void check_output(const tr_process_output *output, const char *expected)
{
    size_t size = strlen(expected);
    CHECK_EQ_U64(output->omitted, 0);
    CHECK_EQ_U64(output->head, output->size);
    if (output->size != size || (size > 0 && memcmp(output->data, expected, size) != 0)) {
        case_fail(__FILE__, __LINE__, "output \"%.*s\" is not \"%s\"", (int)output->size,
                  (const char *)output->data, expected);
    }
}

static int run_job(tr_call *call, void *context)
{
    struct job *job = tr_call_user(call);
    (void)context;
    tr__store_release(&job->task, tr_call_task(call)); /* a value of its own */
    job->status = job->function != NULL ? job->function(call, job)
                                        : tr_process(call, job->spec, &job->result);
    int status = job->status;
    tr__store_release(&job->ended, 1u); /* publishes the result; pairs with host_run */
    return status < 0 ? status : 0;
}

void host_open(struct host *host, enum place place)
{
    const tr_config config = TR_CONFIG_INIT;
    host_open_with(host, place, &config);
}

void host_open_with(struct host *host, enum place place, const tr_config *wanted)
{
    tr_config config = *wanted;
    tr_tool tool = TR_TOOL_INIT("job", run_job);
    host->place = place;
    host->descriptors = descriptors_open();
    config.flags = wanted->flags | (place == PLACE_INLINE ? TR_MANAGER_INLINE : 0);
    config.workers = place == PLACE_INLINE ? 0 : 2;
    tool.flags = place == PLACE_FIBER ? TR_TOOL_AWAITING : 0;
    CHECK_EQ_INT(tr_manager_open(&config, &host->manager), 0);
    CHECK_EQ_INT(tr_tool_register(host->manager, &tool, &host->tool), 0);
    CHECK_EQ_INT(tr_session_open(host->manager, NULL, &host->session), 0);
    CHECK_EQ_INT(tr_turn_open(host->manager, host->session, NULL, &host->turn), 0);
}

void host_close(struct host *host)
{
    tr_stats stats;
    int status;
    CHECK_EQ_INT(tr_manager_stats(host->manager, &stats), 0);
    CHECK_EQ_U64(stats.processes_used, 0);
    CHECK_EQ_INT(tr_manager_close(host->manager, TR_FOREVER), 0);
    tr_manager_free(host->manager);
    CHECK_EQ_INT(descriptors_open(), host->descriptors);
    CHECK_EQ_INT(waitpid(-1, &status, WNOHANG), -1);
    CHECK_EQ_INT(errno, ECHILD);
}

void host_launch(struct host *host, struct job *job)
{
    tr_request request = TR_REQUEST_INIT(host->turn, host->tool);
    tr_launched launched;
    request.user = job;
    CHECK_EQ_INT(tr_launch(host->manager, &request, &launched), TR_PENDING);
}

tr_task_id host_task(struct job *job)
{
    WAIT_UNTIL(tr__load_acquire(&job->task) != 0, PATIENCE_SECONDS); /* pairs with run_job */
    return tr__load_acquire(&job->task);
}

void host_await_output(struct host *host, struct job *job, tr_stream stream, uint64_t bytes)
{
    tr_task_id task = host_task(job);
    tr_output_mark mark = {0};
    WAIT_UNTIL(tr_task_output(host->manager, task, stream, 0, NULL, 0, &mark) >= 0 &&
                   mark.total >= bytes,
               PATIENCE_SECONDS);
}

void host_expect(struct host *host, struct job *job, uint64_t cursor, const char *text)
{
    char got[256];
    size_t size = strlen(text);
    tr_output_mark mark;
    CHECK(size <= sizeof got);
    host_await_output(host, job, TR_STREAM_OUT, cursor + size);
    CHECK_EQ_INT(
        tr_task_output(host->manager, host_task(job), TR_STREAM_OUT, cursor, got, size, &mark),
        (int)size);
    if (memcmp(got, text, size) != 0) {
        case_fail(__FILE__, __LINE__, "output \"%.*s\" is not \"%s\"", (int)size, got, text);
    }
}

unsigned host_wait(struct host *host, tr_outcome *ret_outcome)
{
    unsigned count = 0;
    for (;;) {
        tr_batch *batch;
        int status =
            tr_turn_wait(host->manager, host->turn, NULL, PATIENCE_SECONDS * TR_SECOND, 64, &batch);
        if (status == TR_WAIT_IDLE) {
            return count;
        }
        CHECK_EQ_INT(status, TR_WAIT_ITEMS);
        for (size_t at = 0; at < batch->count; at++) {
            *ret_outcome = batch->items[at].outcome;
            count += 1;
        }
        tr_batch_release(batch);
    }
}

tr_outcome host_run(struct host *host, struct job *job)
{
    tr_outcome outcome = TR_OUTCOME_NONE;
    host_launch(host, job);
    CHECK_EQ_INT(host_wait(host, &outcome), 1);
    WAIT_UNTIL(tr__load_acquire(&job->ended) != 0, PATIENCE_SECONDS); /* pairs with run_job */
    return outcome;
}

void host_run_spec(struct host *host, const tr_process_spec *spec, struct job *job)
{
    *job = (struct job){.spec = spec};
    CHECK_EQ_INT(host_run(host, job), TR_OUTCOME_COMPLETED);
    CHECK_EQ_INT(job->status, 0);
}

void host_run_timed(struct host *host, tr_process_spec *spec, size_t bytes, struct job *job)
{
    for (;;) {
        host_run_spec(host, spec, job);
        if (job->result.out.total >= bytes || spec->timeout_ns > PATIENCE_SECONDS * TR_SECOND) {
            return;
        }
        tr_process_result_done(&job->result);
        spec->timeout_ns *= 2;
    }
}

void host_run_shell(struct host *host, const char *command, struct job *job)
{
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    spec.shell = command;
    host_run_spec(host, &spec, job);
}
