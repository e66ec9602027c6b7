/*
 * process_host: a manager with one tool that runs programs, for the end-to-end cases of tr_process.
 *
 * CASES(name) { … host … } is a case for each of the three places where a tool's function can
 * await: on a fiber, in a worker's thread, and in the launching thread of an inline manager. Each
 * opens its manager inside its own body (it runs in a fork), and looks afterwards whether a
 * descriptor or a child is left.
 */
#ifndef TR__TESTS_E2E_PROCESS_HOST_H
#define TR__TESTS_E2E_PROCESS_HOST_H

#include <stdbool.h>
#include <sys/types.h>

#include <toolring.h>

#include "base/atomic.h"
#include "support/case.h"

/* Long enough for a loaded machine; nothing takes that long unless it hangs. */
#define PATIENCE_SECONDS 20

enum place {
    PLACE_FIBER,
    PLACE_THREAD,
    PLACE_INLINE,
};

struct host {
    tr_manager *manager;
    tr_session_id session;
    tr_turn_id turn;
    tr_tool_id tool;
    enum place place;
    unsigned descriptors; /* open before */
};

/* One call: what to run, and what came of it. */
struct job {
    const tr_process_spec *spec;
    int (*function)(tr_call *call, struct job *job); /* NULL: tr_process alone */
    tr_process_result result;
    int status;           /* what the function returned */
    tr__atomic_u64 task;  /* its id, as soon as it runs */
    tr__atomic_u32 ended; /* it has; a plain function that was cancelled ends after its outcome */
};

void host_open(struct host *host, enum place place);
/* The same with limits, times and flags of one's own; where it runs is the place's. */
void host_open_with(struct host *host, enum place place, const tr_config *config);
/* Closes it, and looks for what should not be left. */
void host_close(struct host *host);
/* Launches a job; an inline manager has run it when this returns. */
void host_launch(struct host *host, struct job *job);
/* Waits until the job's function runs; its task. */
tr_task_id host_task(struct job *job);
/* Waits until the task has captured so many bytes of a stream. */
void host_await_output(struct host *host, struct job *job, tr_stream stream, uint64_t bytes);
/* Waits until the turn is idle; returns how many resolutions came and the last one's outcome. */
unsigned host_wait(struct host *host, tr_outcome *ret_outcome);
/* One job to its end, and to its function's. */
tr_outcome host_run(struct host *host, struct job *job);
/* Runs a program that must start. */
void host_run_spec(struct host *host, const tr_process_spec *spec, struct job *job);
/* The same for one that is to be stopped by its timeout after it has written so many bytes; on a
 * machine too busy for that it gets another try with twice the time. */
void host_run_timed(struct host *host, tr_process_spec *spec, size_t bytes, struct job *job);
void host_run_shell(struct host *host, const char *command, struct job *job);

/* Takes the task's standard output from a place on, until it is `text`. */
void host_expect(struct host *host, struct job *job, uint64_t cursor, const char *text);

unsigned descriptors_open(void);
/* The letter of /proc/<pid>/stat; 0 if there is no such process. */
char process_state(pid_t pid);
/* Neither gone nor a zombie that its new parent has not collected yet. */
bool is_running(pid_t pid);
/* The stream is complete and is this text. */
void check_output(const tr_process_output *output, const char *expected);

#define CASE_AT(name_, place_name_, place_)                                                        \
    CASE(process, name_##place_name_)                                                              \
    {                                                                                              \
        struct host host;                                                                          \
        host_open(&host, place_);                                                                  \
        name_(&host);                                                                              \
        host_close(&host);                                                                         \
    }

#define CASES(name_)                                                                               \
    static void name_(struct host *host);                                                          \
    CASE_AT(name_, _on_a_fiber, PLACE_FIBER)                                                       \
    CASE_AT(name_, _in_a_thread, PLACE_THREAD)                                                     \
    CASE_AT(name_, _inline, PLACE_INLINE)                                                          \
    static void name_(struct host *host)

#endif
