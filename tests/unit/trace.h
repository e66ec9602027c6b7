/*
 * A process of a test's own that is traced: the test looks on at each of its system calls, and at
 * the birth of its children, so that the one moment at which something must go wrong is met.
 */
#ifndef TR__TESTS_UNIT_TRACE_H
#define TR__TESTS_UNIT_TRACE_H

#include <sys/ptrace.h>

#include "tree_rig.h"

struct trace {
    pid_t traced;
    unsigned kills;   /* newborn children to kill, from the first */
    unsigned clones;  /* children born by it so far */
    unsigned clone3s; /* likewise */
    /* At the beginning and at the end of each system call of the traced; may be NULL. */
    void (*see)(struct trace *trace, const struct __ptrace_syscall_info *call);
    uint64_t number; /* of the call that has begun */
    uint64_t first;  /* its first argument */
    char folder[TR__PROBE_PATH_BYTES + 32];
    char token[32];
    unsigned left; /* the test's own */
    int fd;        /* likewise */
};

/* A child was born: it is stopped before its first step, or soon will be. */
static inline void meet_newborn(struct trace *trace)
{
    unsigned long pid = 0;
    int status;

    CHECK_EQ_INT(ptrace(PTRACE_GETEVENTMSG, trace->traced, NULL, &pid), 0);
    trace->clone3s += trace->number == SYS_clone3;
    trace->clones += trace->number == SYS_clone;
    if (trace->kills > 0) {
        trace->kills -= 1;
        CHECK_EQ_INT(kill((pid_t)pid, SIGKILL), 0);
        do {
            CHECK_EQ_INT(waitpid((pid_t)pid, &status, __WALL), (pid_t)pid);
        } while (WIFSTOPPED(status));
        return;
    }
    CHECK_EQ_INT(waitpid((pid_t)pid, &status, __WALL), (pid_t)pid);
    CHECK(WIFSTOPPED(status));
    CHECK_EQ_INT(ptrace(PTRACE_DETACH, (pid_t)pid, NULL, NULL), 0);
}

static inline void meet_call(struct trace *trace)
{
    struct __ptrace_syscall_info call;

    CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, trace->traced, (void *)sizeof call, &call) > 0);
    if (call.op == PTRACE_SYSCALL_INFO_ENTRY) {
        trace->number = call.entry.nr;
        trace->first = call.entry.args[0];
    }
    if (trace->see != NULL) {
        trace->see(trace, &call);
    }
}

/* Runs a check in a process of its own, and looks on until its end. */
static inline void run_traced(struct trace *trace, void (*check)(const struct trace *trace))
{
    int status;
    int signal_number = 0;

    trace->traced = fork();
    CHECK(trace->traced >= 0);
    if (trace->traced == 0) {
        (void)raise(SIGSTOP);
        check(trace);
        _exit(0);
    }
    CHECK_EQ_INT(waitpid(trace->traced, &status, WUNTRACED), trace->traced);
    CHECK(WIFSTOPPED(status));
    long options =
        PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | (trace->kills > 0 ? PTRACE_O_TRACEVFORK : 0);
    if (ptrace(PTRACE_SEIZE, trace->traced, NULL, (void *)options) != 0) {
        (void)kill(trace->traced, SIGKILL);
        SKIP("no process may be traced here");
    }
    CHECK_EQ_INT(kill(trace->traced, SIGCONT), 0);
    for (;;) {
        CHECK_EQ_INT(waitpid(trace->traced, &status, __WALL), trace->traced);
        if (!WIFSTOPPED(status)) {
            break;
        }
        int event = status >> 16;
        signal_number = 0;
        if (event == PTRACE_EVENT_VFORK) {
            meet_newborn(trace);
        } else if (event == 0 && WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            meet_call(trace);
        } else if (event == 0) {
            signal_number = WSTOPSIG(status);
        }
        CHECK_EQ_INT(ptrace(PTRACE_SYSCALL, trace->traced, NULL, (void *)(long)signal_number), 0);
    }
    CHECK_EQ_INT(status, 0);
}

/* A manager with leaves, or the case is skipped; where leaves are not cloned into, too. */
static inline void need_leaves(void)
{
    struct tr__probe probe;

    memset(&probe, 0, sizeof probe);
    tr__probe_cgroup(&probe);
    if (probe.cgroup_path[0] == '\0' || !probe.clone_into_cgroup) {
        SKIP("this machine has no cgroup v2 subtree to clone into");
    }
}

#endif
