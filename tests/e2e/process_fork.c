/*
 * tr_process never forks: a host with a large mapping pays nothing for it, whichever way a program
 * is spawned. Seen twice: no fork handler of the host's is called, and none of its pages has become
 * copy-on-write (a fork by whatever system call makes all of them).
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "e2e/process_host.h"
#include "support/refuse.h"

enum {
    PAGES = 4096,
    PAGE_BYTES = 4096,
    PROGRAMS = 5,
};

static tr__atomic_u32 forks;

static void count_fork(void)
{
    (void)tr__fetch_add_relaxed(&forks, 1u);
}

/* Writes to every page. How many of them the kernel had to help with. */
static long touch(char *mapping)
{
    struct rusage before;
    struct rusage after;
    CHECK_EQ_INT(getrusage(RUSAGE_THREAD, &before), 0);
    for (size_t page = 0; page < PAGES; page++) {
        ((volatile char *)mapping)[page * PAGE_BYTES]++;
    }
    CHECK_EQ_INT(getrusage(RUSAGE_THREAD, &after), 0);
    return after.ru_minflt - before.ru_minflt;
}

static char *map_pages(void)
{
    size_t bytes = (size_t)PAGES * PAGE_BYTES;
    char *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapping != MAP_FAILED);
    (void)madvise(mapping, bytes, MADV_NOHUGEPAGE); /* without huge pages it is as it should be */
    CHECK(touch(mapping) >= PAGES);
    return mapping;
}

/* Runs programs of every kind; the mapping stays the host's alone. */
static void check_programs(struct host *host)
{
    static const char *const argv[] = {"/bin/sh", "-c", "printf spawned", NULL};
    char *mapping = map_pages();
    CHECK(touch(mapping) < PAGES / 2); /* a look costs nothing by itself */
    CHECK_EQ_INT(pthread_atfork(count_fork, NULL, NULL), 0);
    for (unsigned at = 0; at < PROGRAMS; at++) {
        tr_process_spec spec = TR_PROCESS_SPEC_INIT;
        struct job job = {.spec = &spec};
        spec.argv = at % 2 == 0 ? argv : NULL;
        spec.shell = at % 2 == 0 ? NULL : argv[2];
        spec.directory = at == 2 ? "/" : NULL;
        spec.flags = at == 3 ? TR_PROCESS_TERMINAL : 0;
        host_run_spec(host, &spec, &job);
        CHECK_EQ_INT(job.result.exit_code, 0);
        check_output(&job.result.out, "spawned");
        tr_process_result_done(&job.result);
        CHECK(touch(mapping) < PAGES / 2);
    }
    CHECK_EQ_INT(tr__load_relaxed(&forks), 0);
    CHECK_EQ_INT(munmap(mapping, (size_t)PAGES * PAGE_BYTES), 0);
}

CASES(never_forks)
{
    check_programs(host);
}

/* The ways of kernels, and of sandboxes, that have no better one. */
static void check_other_way(unsigned refused)
{
    static const struct refusal refusals[] = {{SYS_clone3, REFUSE_ANY, 0, false},
                                              {SYS_clone, 0, CLONE_PIDFD, true}};
    struct host host;
    if (!refuse_calls(refusals, refused, ENOSYS)) {
        SKIP("seccomp filters are not available");
    }
    host_open(&host, PLACE_FIBER);
    check_programs(&host);
    host_close(&host);
}

CASE(process, never_forks_without_clone3)
{
    check_other_way(1);
}

CASE(process, never_forks_by_posix_spawn)
{
    check_other_way(2);
}

/* What would be seen if it did. */
CASE(process, a_fork_would_be_noticed)
{
    char *mapping = map_pages();
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); /* past every handler */
    if (child == 0) {
        _exit(0);
    }
    CHECK(child > 0);
    CHECK(touch(mapping) >= PAGES);
    CHECK_EQ_INT(waitpid(child, NULL, 0), child);
}
