/* Probe: what this kernel, container and user allow, as data.
 *
 * Purpose: ask once, by trying and not by comparing versions, so that the engine chooses its ways
 * by plain fields and the doctor can print them. Owner: the thread that runs it; the result is
 * constant. Called by host (manager), engine and cli (doctor); calls the kernel through raw system
 * calls.
 *
 * Invariants
 *  1. tr__probe_run leaves nothing behind: no descriptor, mapping, child process or cgroup.
 *  2. A fact that cannot be found out reads as "not available", never as available.
 *  3. No memory is allocated, and the host's threads, signals and children are not disturbed.
 */
#ifndef TR__BASE_PROBE_H
#define TR__BASE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TR__PROBE_RELEASE_BYTES 65     /* struct utsname's field on Linux */
#define TR__PROBE_PATH_BYTES 512       /* longer cgroup paths count as "none" */
#define TR__PROBE_CONTROLLERS_BYTES 32 /* all three with blanks */
#define TR__PROBE_MESSAGE_BYTES 512    /* enough for every text of tr__probe_refusal */

struct tr__probe {
    int ring_error;           /* 0, or -errno of io_uring_setup */
    uint32_t ring_flags_max;  /* the richest set of set-up flags that works */
    uint32_t ring_features;   /* IORING_FEAT_* */
    uint8_t ring_opcodes[32]; /* bit n of the 256: opcode n is supported; tr__probe_opcode */
    int io_uring_disabled;    /* sysctl kernel.io_uring_disabled, -1 where it does not exist */

    char kernel_release[TR__PROBE_RELEASE_BYTES];
    unsigned kernel_major;
    unsigned kernel_minor;

    bool guard_install;     /* madvise(MADV_GUARD_INSTALL) works */
    bool clone;             /* clone with CLONE_PIDFD is allowed */
    bool clone_into_cgroup; /* clone3(CLONE_INTO_CGROUP) works */
    bool pidfd;             /* pidfd_open and waitid(P_PIDFD) work */
    bool seccomp;           /* a seccomp filter is on this thread */

    uint64_t nofile_soft; /* RLIMIT_NOFILE; UINT64_MAX: unlimited */
    uint64_t nofile_hard;
    uint64_t nproc;                /* RLIMIT_NPROC, soft; UINT64_MAX: unlimited */
    uint64_t max_map_count;        /* sysctl vm.max_map_count, 0 unknown */
    uint64_t pipe_user_pages_soft; /* sysctl fs.pipe-user-pages-soft, 0 unlimited or unknown */
    uint64_t pid_max;              /* sysctl kernel.pid_max, 0 unknown */

    /* Directory of a cgroup v2 subtree in which leaves can be made, filled, killed and removed; ""
     * if there is none. */
    char cgroup_path[TR__PROBE_PATH_BYTES];
    char cgroup_controllers[TR__PROBE_CONTROLLERS_BYTES]; /* of memory, cpu, pids, what leaves there
                                                             can have: "memory pids" */
    bool memory_peak;                                     /* a leaf has memory.peak */
};

/* Finds everything out; takes a quarter of a millisecond. */
void tr__probe_run(struct tr__probe *ret_probe);

/* The part that finds `cgroup_path` and `clone_into_cgroup`, in a zeroed probe. */
void tr__probe_cgroup(struct tr__probe *probe);

/* Whether io_uring knows an opcode (IORING_OP_*). */
static inline bool tr__probe_opcode(const struct tr__probe *probe, unsigned opcode)
{
    return opcode < 256 && (probe->ring_opcodes[opcode / 8] >> (opcode % 8) & 1) != 0;
}

/* Why io_uring is refused and what to do about it: writes at most `size` bytes with the final zero
 * into `buffer` and returns it. `size` > 0; TR__PROBE_MESSAGE_BYTES is always enough. */
const char *tr__probe_refusal(const struct tr__probe *probe, char *buffer, size_t size);

#endif
