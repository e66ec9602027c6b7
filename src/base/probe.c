/* Probe: asks the kernel, see probe.h.
 *
 * Owner: the calling thread. Called by host (manager), engine and cli (doctor); calls raw system
 * calls, so that the library's start does not depend on what a wrapper library knows.
 *
 * Invariants
 *  1. Everything is tried on something of our own: a ring of 4 entries, one fresh page, an empty
 *     leaf cgroup. All of it is gone when tr__probe_run returns, also when a step fails.
 *  2. No child is created: clone3 with CLONE_INTO_CGROUP gets a descriptor that cannot exist. A
 *     kernel that knows the flag answers EBADF, any other answer means it cannot be relied upon.
 *  3. Texts from /proc are read line by line into a fixed buffer; longer lines are cut.
 *
 * Complexity: about 30 system calls and one cgroup made and removed, 0.24 ms in all.
 * Rejected: comparing version numbers (distributions backport, sandboxes refuse).
 */
#include "base/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/memory.h"

/* Newer than the headers this is built with. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

enum {
    OPCODES = 256,
    LINE_BYTES = 1024
};

/* ---- text files of the kernel ---- */

struct lines {
    int file;
    size_t begin; /* of what is not handed out yet */
    size_t end;
    char buffer[LINE_BYTES];
};

static bool lines_open(struct lines *lines, const char *path)
{
    lines->begin = 0;
    lines->end = 0;
    lines->file = open(path, O_RDONLY | O_CLOEXEC);
    return lines->file >= 0;
}

static void lines_close(struct lines *lines)
{
    (void)close(lines->file); /* only read from: nothing can be lost */
}

/* The next line, without its newline, until the next call; NULL at the end. */
static char *lines_next(struct lines *lines)
{
    for (;;) {
        char *text = lines->buffer + lines->begin;
        size_t length = lines->end - lines->begin;
        char *newline = memchr(text, '\n', length);
        bool full = length == sizeof lines->buffer - 1;
        if (newline != NULL || full) {
            lines->begin += newline != NULL ? (size_t)(newline - text) + 1 : length;
            text[newline != NULL ? (size_t)(newline - text) : length] = '\0';
            return text;
        }
        memmove(lines->buffer, text, length);
        lines->begin = 0;
        lines->end = length;
        ssize_t got;
        do {
            got = read(lines->file, lines->buffer + length, sizeof lines->buffer - 1 - length);
        } while (got < 0 && errno == EINTR);
        if (got <= 0) {
            lines->end = 0;
            lines->buffer[length] = '\0';
            return length > 0 ? lines->buffer : NULL;
        }
        lines->end += (size_t)got;
    }
}

/* The number in a one-line file, or `otherwise`. */
static long long read_number(const char *path, long long otherwise)
{
    struct lines lines;
    if (!lines_open(&lines, path)) {
        return otherwise;
    }
    long long number = otherwise;
    const char *line = lines_next(&lines);
    if (line != NULL) {
        char *end;
        errno = 0;
        long long parsed = strtoll(line, &end, 10);
        if (end != line && errno == 0) {
            number = parsed;
        }
    }
    lines_close(&lines);
    return number;
}

static uint64_t read_count(const char *path)
{
    long long number = read_number(path, 0);
    return number > 0 ? (uint64_t)number : 0;
}

/* ---- the ring ---- */

static int ring_open(uint32_t flags, struct io_uring_params *ret_params)
{
    *ret_params = (struct io_uring_params){.flags = flags, .cq_entries = 8};
    long ring = syscall(SYS_io_uring_setup, 4, ret_params);
    return ring >= 0 ? (int)ring : -errno;
}

static void probe_opcodes(int ring, struct tr__probe *probe)
{
    union {
        struct io_uring_probe header;
        unsigned char
            room[sizeof(struct io_uring_probe) + OPCODES * sizeof(struct io_uring_probe_op)];
    } answer;
    memset(&answer, 0, sizeof answer); /* the kernel refuses anything else */
    if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_PROBE, &answer, OPCODES) < 0) {
        return; /* nothing known, so nothing supported */
    }
    for (unsigned i = 0; i < answer.header.ops_len && i < OPCODES; i++) {
        struct io_uring_probe_op operation;
        memcpy(&operation, answer.room + sizeof answer.header + i * sizeof operation,
               sizeof operation);
        if (operation.flags & IO_URING_OP_SUPPORTED) {
            probe->ring_opcodes[operation.op / 8] |= (uint8_t)(1u << (operation.op % 8));
        }
    }
}

static void probe_ring(struct tr__probe *probe)
{
    const uint32_t base = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL |
                          IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    const uint32_t ladder[] = {
        base | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, /* 6.1 */
        base | IORING_SETUP_SINGLE_ISSUER,                              /* 6.0 */
        base,                                                           /* 5.19 */
    };
    struct io_uring_params params;
    int ring = -EINVAL;
    for (size_t rung = 0; rung < sizeof ladder / sizeof ladder[0] && ring == -EINVAL; rung++) {
        ring = ring_open(ladder[rung], &params);
        probe->ring_flags_max = ladder[rung];
    }
    if (ring < 0) {
        probe->ring_error = ring;
        probe->ring_flags_max = 0;
        return;
    }
    probe->ring_error = 0;
    probe->ring_features = params.features;
    probe_opcodes(ring, probe);
    (void)close(ring);
}

/* ---- memory, processes, limits ---- */

static bool probe_guard_install(void)
{
    long page = sysconf(_SC_PAGESIZE);
    size_t bytes = page > 0 ? (size_t)page : 4096;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    bool works = madvise(memory, bytes, MADV_GUARD_INSTALL) == 0 && !tr__memory_is_readable(memory);
    (void)munmap(memory, bytes);
    return works;
}

static bool probe_pidfd(void)
{
    long pidfd = syscall(SYS_pidfd_open, getpid(), 0);
    if (pidfd < 0) {
        return false;
    }
    /* We are not our own child: ECHILD says that the kind of id is known. */
    siginfo_t info;
    int result = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT);
    bool works = result < 0 && errno == ECHILD;
    (void)close((int)pidfd);
    return works;
}

/* Only where cgroup v2 is mounted: a kernel without cgroups ignores the descriptor and clones. */
static bool probe_clone_into_cgroup(void)
{
    struct clone_args arguments = {
        .flags = CLONE_INTO_CGROUP | CLONE_VM | CLONE_VFORK,
        .cgroup = INT32_MAX, /* above any possible limit of descriptors */
    };
    pid_t self = getpid();
    long result = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (result == 0 && syscall(SYS_getpid) != self) {
        _exit(0); /* in a child after all; a filter that answers 0 does not get here */
    }
    return result < 0 && errno == EBADF;
}

/* A request that every kernel refuses for its flags alone; a filter answers something else. */
static bool probe_clone(void)
{
    long result = syscall(SYS_clone, CLONE_SIGHAND | CLONE_PIDFD, NULL, NULL, NULL, 0);
    return result < 0 && errno == EINVAL;
}

static bool probe_seccomp(void)
{
    struct lines lines;
    if (!lines_open(&lines, "/proc/self/status")) {
        return false;
    }
    bool found = false;
    for (const char *line = lines_next(&lines); line != NULL; line = lines_next(&lines)) {
        found |= strncmp(line, "Seccomp:", 8) == 0 && strtol(line + 8, NULL, 10) == 2;
    }
    lines_close(&lines);
    return found;
}

static void probe_kernel(struct tr__probe *probe)
{
    struct utsname name;
    if (uname(&name) != 0) {
        return;
    }
    (void)snprintf(probe->kernel_release, sizeof probe->kernel_release, "%s", name.release);
    char *end;
    probe->kernel_major = (unsigned)strtoul(name.release, &end, 10);
    if (*end == '.') {
        probe->kernel_minor = (unsigned)strtoul(end + 1, NULL, 10);
    }
}

static uint64_t limit_value(rlim_t limit)
{
    return limit == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit;
}

static void probe_limits(struct tr__probe *probe)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        probe->nofile_soft = limit_value(limit.rlim_cur);
        probe->nofile_hard = limit_value(limit.rlim_max);
    }
    if (getrlimit(RLIMIT_NPROC, &limit) == 0) {
        probe->nproc = limit_value(limit.rlim_cur);
    }
    probe->max_map_count = read_count("/proc/sys/vm/max_map_count");
    probe->pipe_user_pages_soft = read_count("/proc/sys/fs/pipe-user-pages-soft");
    probe->pid_max = read_count("/proc/sys/kernel/pid_max");
    probe->io_uring_disabled = (int)read_number("/proc/sys/kernel/io_uring_disabled", -1);
}

/* ---- cgroup v2 ---- */

/* Joins up to three texts; false when they do not fit. */
static bool join(char *buffer, size_t size, const char *one, const char *two, const char *three)
{
    int length = snprintf(buffer, size, "%s%s%s", one, two, three);
    return length >= 0 && (size_t)length < size;
}

/* Our own cgroup within the v2 hierarchy, "" for its root. */
static bool own_cgroup(char *ret_path, size_t size)
{
    struct lines lines;
    if (!lines_open(&lines, "/proc/self/cgroup")) {
        return false;
    }
    bool found = false;
    for (const char *line = lines_next(&lines); line != NULL; line = lines_next(&lines)) {
        if (strncmp(line, "0::/", 4) != 0) {
            continue;
        }
        const char *path = line + 3;
        /* "/.." leads out of what our cgroup namespace shows. */
        found = strstr(path, "/..") == NULL &&
                join(ret_path, size, strcmp(path, "/") == 0 ? "" : path, "", "");
    }
    lines_close(&lines);
    return found;
}

/* Undoes \040 and the like, which stand for blanks in the list of mounts. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; to++) {
        bool octal = from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
                     from[2] <= '7' && from[3] >= '0' && from[3] <= '7';
        if (octal) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* Adds those of memory, cpu and pids that a cgroup's file of controllers names. */
static void note_controllers(struct tr__probe *probe, const char *path)
{
    static const char *const wanted[] = {"memory", "cpu", "pids"};
    struct lines lines;
    if (!lines_open(&lines, path)) {
        return;
    }
    char *rest = lines_next(&lines);
    for (char *word; rest != NULL && (word = strsep(&rest, " ")) != NULL;) {
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
            size_t used = strlen(probe->cgroup_controllers);
            if (strcmp(word, wanted[i]) == 0) { /* each is named once: there is room */
                (void)snprintf(probe->cgroup_controllers + used,
                               sizeof probe->cgroup_controllers - used, "%s%s", used > 0 ? " " : "",
                               word);
            }
        }
    }
    lines_close(&lines);
}

/* What a leaf can have. One whose parent has processes gets only what that gives on already; the
 * root of all is the exception. */
static void probe_controllers(struct tr__probe *probe, const char *directory, const char *leaf)
{
    char path[TR__PROBE_PATH_BYTES + 64];
    bool root = join(path, sizeof path, directory, "/cgroup.type", "") && access(path, F_OK) != 0;
    if (join(path, sizeof path, root ? directory : leaf, "/cgroup.controllers", "")) {
        note_controllers(probe, path);
    }
    probe->memory_peak =
        join(path, sizeof path, leaf, "/memory.peak", "") && access(path, F_OK) == 0;
}

/* Whether leaves can be made here, filled, killed and removed. */
static bool cgroup_is_ours(struct tr__probe *probe, const char *directory)
{
    char path[TR__PROBE_PATH_BYTES + 64];
    char leaf[TR__PROBE_PATH_BYTES + 32];
    if (!join(path, sizeof path, directory, "/cgroup.procs", "") ||
        faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0) {
        return false; /* filling a leaf takes write permission on the common ancestor too */
    }
    int length = snprintf(leaf, sizeof leaf, "%s/toolring-probe-%ld", directory, (long)gettid());
    if (length < 0 || (size_t)length >= sizeof leaf || mkdir(leaf, 0755) != 0) {
        return false;
    }
    bool works = join(path, sizeof path, leaf, "/cgroup.kill", "") &&
                 faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0 &&
                 join(path, sizeof path, leaf, "/cgroup.procs", "") &&
                 faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
    if (works) {
        probe_controllers(probe, directory, leaf);
    }
    return rmdir(leaf) == 0 && works;
}

void tr__probe_cgroup(struct tr__probe *probe)
{
    char own[TR__PROBE_PATH_BYTES];
    struct lines lines;
    if (!own_cgroup(own, sizeof own) || !lines_open(&lines, "/proc/self/mounts")) {
        return;
    }
    /* Each line: device, directory, type, options, 0, 0. */
    for (char *line = lines_next(&lines); line != NULL; line = lines_next(&lines)) {
        char *rest = line;
        (void)strsep(&rest, " ");
        char *directory = strsep(&rest, " ");
        const char *type = strsep(&rest, " ");
        if (type == NULL || strcmp(type, "cgroup2") != 0) {
            continue;
        }
        unescape(directory);
        probe->clone_into_cgroup = probe->clone_into_cgroup || probe_clone_into_cgroup();
        char path[TR__PROBE_PATH_BYTES];
        if (join(path, sizeof path, directory, own, "") && cgroup_is_ours(probe, path)) {
            memcpy(probe->cgroup_path, path, sizeof path);
            break;
        }
    }
    lines_close(&lines);
}

/* ---- the whole ---- */

void tr__probe_run(struct tr__probe *ret_probe)
{
    TR_ASSERT(ret_probe != NULL);
    memset(ret_probe, 0, sizeof *ret_probe);
    probe_kernel(ret_probe);
    probe_limits(ret_probe);
    probe_ring(ret_probe);
    ret_probe->guard_install = probe_guard_install();
    ret_probe->pidfd = probe_pidfd();
    ret_probe->seccomp = probe_seccomp();
    ret_probe->clone = probe_clone();
    tr__probe_cgroup(ret_probe);
}

/* Cause and remedy for EPERM, which has several. */
static const char *not_permitted(const struct tr__probe *probe)
{
    if (probe->io_uring_disabled == 2) {
        return "sysctl kernel.io_uring_disabled is 2, which disables it for everybody; "
               "remedy: sysctl -w kernel.io_uring_disabled=0";
    }
    if (probe->io_uring_disabled == 1) {
        return "sysctl kernel.io_uring_disabled is 1, which reserves it for CAP_SYS_ADMIN and the "
               "group of kernel.io_uring_group; remedy: join that group, or "
               "sysctl -w kernel.io_uring_disabled=0";
    }
    if (probe->seccomp) {
        return "a seccomp filter is active, most likely a container's default profile (Docker 25 "
               "and later, containerd 2); remedy: a profile that allows io_uring_setup, "
               "io_uring_enter and io_uring_register (docker run --security-opt seccomp=FILE)";
    }
    return "no sysctl or seccomp filter explains it, so probably a security module (SELinux, "
           "AppArmor) or a sandbox; remedy: its policy, see the kernel log";
}

static const char *cause_and_remedy(const struct tr__probe *probe)
{
    switch (-probe->ring_error) {
    case EPERM:
        return not_permitted(probe);
    case ENOSYS:
        return probe->seccomp
                   ? "a seccomp filter hides the system call (a container profile or a sandbox), "
                     "or the kernel is built without CONFIG_IO_URING; remedy: a profile that "
                     "allows io_uring_setup, io_uring_enter and io_uring_register"
                   : "the kernel has no io_uring (before 5.1, built without CONFIG_IO_URING, or "
                     "a sandbox or debugger such as gVisor or rr); remedy: Linux 5.19 or later, "
                     "outside of it";
    case EACCES:
        return "a security module (SELinux, AppArmor) refuses it; remedy: allow io_uring in its "
               "policy for this program, see the kernel log";
    case ENOMEM:
        return "not enough memory, or locked memory is limited; remedy: raise RLIMIT_MEMLOCK "
               "(ulimit -l) or the memory limit of the container";
    case EMFILE:
    case ENFILE:
        return "too many open files; remedy: raise RLIMIT_NOFILE (ulimit -n)";
    case EINVAL:
        return "the kernel does not know the set-up flags; remedy: Linux 5.19 or later";
    default:
        return "an unexpected answer; see io_uring_setup(2)";
    }
}

const char *tr__probe_refusal(const struct tr__probe *probe, char *buffer, size_t size)
{
    TR_ASSERT(probe != NULL && buffer != NULL && size > 0);
    if (probe->ring_error == 0) {
        (void)snprintf(buffer, size, "io_uring is available (kernel %s)", probe->kernel_release);
        return buffer;
    }
    const char *name = strerrorname_np(-probe->ring_error);
    (void)snprintf(buffer, size, "io_uring refused by kernel %s with %s: %s", probe->kernel_release,
                   name != NULL ? name : "an unknown error", cause_and_remedy(probe));
    return buffer;
}
