/*
 * tr_process end to end: very many programs at once, too few descriptors, and a host with children
 * and a SIGCHLD handler of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "e2e/process_host.h"
#include "support/wait.h"

#if defined(TR_LIBC_MALLOC) /* under a sanitizer each spawn takes many times as long */
#define MANY 200u
#else
#define MANY 2000u
#endif

static void allow_descriptors(rlim_t count)
{
    struct rlimit limit;
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count;
    limit.rlim_max = limit.rlim_max < count ? count : limit.rlim_max;
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static uint64_t processes_used(struct host *host)
{
    tr_stats stats;
    CHECK_EQ_INT(tr_manager_stats(host->manager, &stats), 0);
    return stats.processes_used;
}

static unsigned ended(struct job *jobs, unsigned count)
{
    unsigned sum = 0;
    for (unsigned at = 0; at < count; at++) {
        sum += tr__load_acquire(&jobs[at].ended); /* pairs with run_job */
    }
    return sum;
}

CASE_TIMEOUT(process, very_many_at_once, 120)
{
    static struct job jobs[MANY];
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_config config = TR_CONFIG_INIT;
    tr_outcome outcome;
    struct host host;
    char folder[] = "/tmp/tr-process-XXXXXX";
    char path[64];
    allow_descriptors(8192);
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/ready", folder);
    CHECK(mkfifo(path, 0600) == 0 && setenv("READY", path, 1) == 0);
    int fifo = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fifo >= 0);
    config.processes_max = MANY;
    host_open_with(&host, PLACE_FIBER, &config);
    spec.shell = "echo up; echo >\"$READY\"; exec sleep 300";
    for (unsigned at = 0; at < MANY; at++) {
        jobs[at] = (struct job){.spec = &spec};
        host_launch(&host, &jobs[at]);
    }
    for (unsigned up = 0; up < MANY;) { /* blocks: a look now and then would take their time */
        char bytes[MANY];
        ssize_t size = read(fifo, bytes, sizeof bytes);
        CHECK(size > 0);
        up += (unsigned)size;
    }
    CHECK_EQ_U64(processes_used(&host), MANY);
    CHECK_EQ_INT(tr_turn_interrupt(host.manager, host.turn, NULL), (int)MANY);
    CHECK_EQ_INT(host_wait(&host, &outcome), MANY);
    WAIT_UNTIL(ended(jobs, MANY) == MANY, PATIENCE_SECONDS);
    for (unsigned at = 0; at < MANY; at++) {
        CHECK_EQ_INT(jobs[at].status, 0);
        CHECK(jobs[at].result.cancelled);
        check_output(&jobs[at].result.out, "up\n");
        tr_process_result_done(&jobs[at].result);
    }
    host_close(&host);
    CHECK(close(fifo) == 0 && unlink(path) == 0 && rmdir(folder) == 0);
}

CASE(process, too_few_descriptors)
{
    enum {
        TRIED = 200
    };
    static struct job jobs[TRIED];
    tr_process_spec spec = TR_PROCESS_SPEC_INIT;
    tr_outcome outcome;
    struct host host;
    unsigned refused = 0;
    allow_descriptors(256);
    host_open(&host, PLACE_FIBER);
    spec.shell = "exec sleep 300";
    for (unsigned at = 0; at < TRIED; at++) {
        jobs[at] = (struct job){.spec = &spec};
        host_launch(&host, &jobs[at]);
    }
    /* Who was refused has ended; who was not runs until it is stopped. */
    WAIT_UNTIL(ended(jobs, TRIED) + processes_used(&host) == TRIED, PATIENCE_SECONDS);
    CHECK(tr_turn_interrupt(host.manager, host.turn, NULL) > 0);
    CHECK_EQ_INT(host_wait(&host, &outcome), TRIED);
    refused = 0;
    for (unsigned at = 0; at < TRIED; at++) {
        CHECK(jobs[at].status == 0 || jobs[at].status == TR_EMFILE);
        refused += jobs[at].status == TR_EMFILE ? 1u : 0u;
        if (jobs[at].status == 0) {
            tr_process_result_done(&jobs[at].result);
        }
    }
    CHECK(refused > 0 && refused < TRIED - 40);
    struct job job; /* and afterwards all is well */
    host_run_shell(&host, "echo again", &job);
    check_output(&job.result.out, "again\n");
    tr_process_result_done(&job.result);
    host_close(&host);
}

/* ---- a host with children of its own ---- */

static volatile sig_atomic_t deaths;

static void count_deaths(int number)
{
    int before = errno;
    (void)number;
    deaths += 1;
    errno = before;
}

CASES(host_with_children_of_its_own)
{
    struct sigaction action = {.sa_handler = count_deaths};
    struct job job;
    int status = 0;
    int gate[2];
    CHECK_EQ_INT(sigaction(SIGCHLD, &action, NULL), 0);
    CHECK_EQ_INT(pipe(gate), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char byte;
        (void)close(gate[1]);
        (void)!read(gate[0], &byte, 1);
        _exit(42);
    }
    (void)close(gate[0]);
    for (int at = 0; at < 5; at++) {
        host_run_shell(host, "sleep 0.01 & sleep 0.02; exit 7", &job);
        CHECK_EQ_INT(job.result.exit_code, 7);
        tr_process_result_done(&job.result);
    }
    (void)close(gate[1]);
    /* Its own child is there for it to collect, and its handler is in place. */
    pid_t collected;
    do {
        collected = waitpid(pid, &status, 0);
    } while (collected < 0 && errno == EINTR);
    CHECK_EQ_INT(collected, pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    struct sigaction now;
    CHECK_EQ_INT(sigaction(SIGCHLD, NULL, &now), 0);
    CHECK(now.sa_handler == count_deaths);
    CHECK(deaths >= 1);
}
