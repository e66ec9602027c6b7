/*
 * tree_leaf.c: one cgroup v2 leaf: made, limited, counted, killed, removed.
 *
 * Owner: whoever has the tree. Called by tree; calls the kernel.
 *
 *  1. Files are opened for each use, by their path below the manager's directory: an idle leaf
 *     costs no descriptor, a running one only those that were asked for. A few hot leaves keep
 *     theirs: that saves 6 of 8 system calls a program. One spare descriptor is enough to kill.
 *  2. A program may make cgroups of its own within its leaf. Whether anybody lives is asked of
 *     cgroup.events, which knows of those; who that is, of cgroup.procs, which does not.
 *  3. What a leaf has used only grows: each tree's share is what was added. The peak of its memory
 *     is a leaf's, and can be reset for one open file (Linux 6.12), else it is told of fresh
 *     leaves only.
 *  4. A pidfd is taken before a member's place is looked at: whoever has got its number since is
 *     not hit.
 *  5. Limits that a leaf has from an earlier tree are lifted for the next.
 *  6. A leaf is not used again, but removed, when it was killed: Linux 6.14 and on kill at birth
 *     what is cloned into it (they compare how often our own cgroup and the leaf were killed). Nor
 *     when nothing could be born in it, nor when its program has made cgroups in it: such a leaf
 *     may have given its controllers to them, and takes nobody in then (EBUSY). They go with it, so
 *     many at a time; a program that makes more of them than the trees after it remove has them
 *     pile up until the manager's end. What else a program writes into its leaf's files is not
 *     looked for: who may do that may leave the leaf as well.
 *
 * cgroup.kill is Linux 5.14; a subtree without it is not taken (the ring needs 5.19 anyway).
 * Cost: reading a file some 5 us, half of it for opening; making or removing a leaf 50 us each.
 */
#include "engine/tree_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <toolring/error.h>
#include <unistd.h>

/* Period of cpu.max. */
#define CPU_PERIOD_US 100000u

struct path {
    char text[48];
};

static struct path path_of(const struct tr__tree *tree, const char *file)
{
    struct path path;

    (void)snprintf(path.text, sizeof path.text, "%" PRIu32 "%s%s", tree->leaf,
                   file[0] != '\0' ? "/" : "", file); /* it fits: the longest is 32 */
    return path;
}

static int read_file(const struct tr__tree *tree, const char *file, char *buffer, size_t size)
{
    return tr__tree_read(tree->trees->directory_fd, path_of(tree, file).text, buffer, size);
}

/* Reads a file whose descriptor is kept, from its beginning. */
static int read_again(int file, char *buffer, size_t size)
{
    ssize_t got = pread(file, buffer, size - 1, 0);
    int result = got < 0 ? -errno : (int)got;

    buffer[got < 0 ? 0 : got] = '\0';
    return result;
}

static int write_file(const struct tr__tree *tree, const char *file, const char *text)
{
    return tr__tree_write(tree->trees->directory_fd, path_of(tree, file).text, text);
}

int tr__leaf_make(struct tr__tree *tree)
{
    struct tr__trees *trees = tree->trees;

    (void)pthread_mutex_lock(&trees->mutex); /* a plain mutex of ours cannot fail */
    tree->leaf = ++trees->leaves;
    tree->hot = trees->hot_count < TR__TREE_HOT_MAX;
    trees->hot_count += tree->hot;
    (void)pthread_mutex_unlock(&trees->mutex);
    tree->fresh = true;
    return mkdirat(trees->directory_fd, path_of(tree, "").text, 0755) == 0 ? 0 : -errno;
}

bool tr__leaf_is_nested(const struct tr__tree *tree)
{
    struct stat stat;
    int error = tree->directory_fd >= 0
                    ? fstat(tree->directory_fd, &stat)
                    : fstatat(tree->trees->directory_fd, path_of(tree, "").text, &stat, 0);

    return error == 0 && stat.st_nlink > 2; /* its own two, and one from each below */
}

bool tr__leaf_remove(struct tr__tree *tree)
{
    struct tr__trees *trees = tree->trees;

    if (!tr__tree_remove(trees->directory_fd, path_of(tree, "").text, TR__TREE_REMOVALS_MAX)) {
        return false;
    }
    (void)pthread_mutex_lock(&trees->mutex);
    trees->hot_count -= tree->hot;
    (void)pthread_mutex_unlock(&trees->mutex);
    tree->hot = false;
    return true;
}

/* ---- limits ---- */

/* Sets one limit, or lifts it (text NULL). */
static int limit(struct tr__tree *tree, uint32_t bit, const char *file, const char *text)
{
    if (text == NULL && (tree->limits & bit) == 0) {
        return 0;
    }
    int error = write_file(tree, file, text != NULL ? text : "max");
    if (error == 0) {
        tree->limits = text != NULL ? tree->limits | bit : tree->limits & ~bit;
    }
    return error;
}

static uint32_t wanted_by(const struct tr__tree_limits *limits)
{
    return (limits->memory_bytes_max != 0 ? TR__TREE_MEMORY : 0) |
           (limits->cpu_percent_max != 0 ? TR__TREE_CPU : 0) |
           (limits->processes_max != 0 ? TR__TREE_PROCESSES : 0);
}

static int set_limits(struct tr__tree *tree, struct tr__tree_limits *limits)
{
    char text[64];
    uint32_t wanted = wanted_by(limits);
    uint32_t there = wanted;

    if (wanted != 0) {
        (void)pthread_mutex_lock(&tree->trees->mutex); /* a plain mutex of ours cannot fail */
        there = tr__tree_root_control(tree->trees, wanted);
        (void)pthread_mutex_unlock(&tree->trees->mutex);
    }
    if ((tree->limits & ~there & TR__TREE_MEMORY) != 0) {
        (void)write_file(tree, "memory.swap.max", "max"); /* lifted with the other */
    }
    (void)snprintf(text, sizeof text, "%" PRIu64, limits->memory_bytes_max);
    int error =
        limit(tree, TR__TREE_MEMORY, "memory.max", (there & TR__TREE_MEMORY) != 0 ? text : NULL);
    if (error == 0 && (there & TR__TREE_MEMORY) != 0) {
        (void)write_file(tree, "memory.swap.max", "0"); /* where it swaps, memory has no bound */
        limits->memory_bytes_max = 0;
    }
    uint64_t quota_us = (uint64_t)limits->cpu_percent_max * (CPU_PERIOD_US / 100);
    (void)snprintf(text, sizeof text, "%" PRIu64 " %u", quota_us, CPU_PERIOD_US);
    if (error == 0) {
        error = limit(tree, TR__TREE_CPU, "cpu.max", (there & TR__TREE_CPU) != 0 ? text : NULL);
    }
    if (error == 0 && (there & TR__TREE_CPU) != 0) {
        limits->cpu_percent_max = 0;
    }
    (void)snprintf(text, sizeof text, "%" PRIu32, limits->processes_max);
    if (error == 0) {
        error = limit(tree, TR__TREE_PROCESSES, "pids.max",
                      (there & TR__TREE_PROCESSES) != 0 ? text : NULL);
    }
    if (error == 0 && (there & TR__TREE_PROCESSES) != 0) {
        limits->processes_max = 0;
    }
    return error;
}

/* ---- use ---- */

static void read_memory_kills(const struct tr__tree *tree, uint64_t *kills)
{
    char text[512];

    if ((tree->limits & TR__TREE_MEMORY) != 0 &&
        read_file(tree, "memory.events", text, sizeof text) > 0) {
        *kills = tr__tree_field(text, "oom_kill", *kills);
    }
}

static bool has_memory(const struct tr__tree *tree)
{
    /* relaxed: controllers are only ever added */
    return (tr__load_relaxed(&tree->trees->controllers) & TR__TREE_MEMORY) != 0;
}

/* Measures the peak from here on, where a used leaf needs it and descriptors are not scarce. */
static void open_peak(struct tr__tree *tree)
{
    if (tree->fresh || !has_memory(tree)) {
        return;
    }
    tree->peak_fd =
        openat(tree->trees->directory_fd, path_of(tree, "memory.peak").text, O_RDWR | O_CLOEXEC);
    if (tree->peak_fd >= 0 && write(tree->peak_fd, "0", 1) < 0) {
        (void)close(tree->peak_fd); /* before Linux 6.12 */
        tree->peak_fd = -1;
    }
}

int tr__leaf_open(struct tr__tree *tree, struct tr__tree_limits *limits)
{
    struct tr__trees *trees = tree->trees;

    if (limits != NULL) {
        int error = set_limits(tree, limits);
        if (error != 0) {
            return error;
        }
    }
    read_memory_kills(tree, &tree->memory_kills);
    if (tr__load_relaxed(&trees->used_count) < TR__TREE_PEAKS_MAX) { /* a hint */
        open_peak(tree);
    }
    if (tree->directory_fd < 0) {
        tree->directory_fd =
            openat(trees->directory_fd, path_of(tree, "").text, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    return tree->directory_fd >= 0 ? 0 : -errno;
}

static void close_one(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* whatever it answers, the descriptor is gone */
        *fd = -1;
    }
}

void tr__leaf_close_fds(struct tr__tree *tree, bool all)
{
    close_one(&tree->peak_fd);
    if (all || !tree->hot) {
        close_one(&tree->directory_fd);
        close_one(&tree->events_fd);
        close_one(&tree->stat_fd);
    }
}

/* A file of the leaf, to be read more than once; -1. */
static int open_file(const struct tr__tree *tree, const char *file)
{
    return openat(tree->trees->directory_fd, path_of(tree, file).text, O_RDONLY | O_CLOEXEC);
}

void tr__leaf_measure(struct tr__tree *tree)
{
    char text[1024];

    if (tree->hot && tree->stat_fd < 0) {
        tree->stat_fd = open_file(tree, "cpu.stat");
    }
    int got = tree->stat_fd >= 0 ? read_again(tree->stat_fd, text, sizeof text)
                                 : read_file(tree, "cpu.stat", text, sizeof text);
    if (got > 0) {
        tree->user_us_end = tr__tree_field(text, "user_usec", tree->user_us);
        tree->system_us_end = tr__tree_field(text, "system_usec", tree->system_us);
    }
    tree->memory_kills_end = tree->memory_kills;
    read_memory_kills(tree, &tree->memory_kills_end);
    tree->measured = true;
}

uint64_t tr__leaf_peak(const struct tr__tree *tree)
{
    char text[64] = "";

    if (!has_memory(tree)) {
        return 0;
    }
    if (tree->peak_fd >= 0) {
        (void)read_again(tree->peak_fd, text, sizeof text); /* nothing reads as 0 */
    } else if (!tree->fresh || read_file(tree, "memory.peak", text, sizeof text) < 0) {
        return 0;
    }
    return strtoull(text, NULL, 10);
}

/* ---- members ---- */

int tr__leaf_events(struct tr__tree *tree)
{
    if (tree->events_fd < 0) {
        tree->events_fd = open_file(tree, "cgroup.events");
    }
    return tree->events_fd;
}

/* Reads cgroup.events; from the descriptor that is polled, where there is one: that arms it. If it
 * cannot be asked, somebody may be there. */
static bool is_populated(struct tr__tree *tree)
{
    char text[256];
    int file = tree->hot ? tr__leaf_events(tree) : tree->events_fd;
    int got = file >= 0 ? read_again(file, text, sizeof text)
                        : read_file(tree, "cgroup.events", text, sizeof text);

    if (got < 0) {
        return got != -ENOENT && got != -ENODEV; /* it was removed */
    }
    return tr__tree_field(text, "populated", 0) != 0;
}

uint32_t tr__leaf_count(struct tr__tree *tree)
{
    struct tr__tree_walk walk;
    uint32_t count = 0;
    pid_t pid;

    if (!is_populated(tree)) {
        return 0;
    }
    if (!tr__tree_walk_file(&walk, tree->trees->directory_fd, path_of(tree, "cgroup.procs").text)) {
        return errno != ENOENT && errno != ENODEV; /* no descriptor: somebody is there */
    }
    while ((pid = tr__tree_walk_next(&walk)) != 0) {
        count += pid != tree->leader;
    }
    tr__tree_walk_done(&walk);
    if (count > 0) {
        return count;
    }
    /* Somebody further down (invariant 2), or only the leader, dead and not quite gone. */
    return tr__leaf_is_nested(tree) ? 1 : 0;
}

/* Whether a process is in this leaf or below it. */
static bool is_member(const struct tr__tree *tree, pid_t pid)
{
    char path[32];
    char text[4096];
    char here[TR__TREE_NAME_BYTES + 16];

    (void)snprintf(path, sizeof path, "/proc/%ld/cgroup", (long)pid);
    int length = snprintf(here, sizeof here, "/%s/%" PRIu32, tree->trees->name, tree->leaf);
    if (tr__tree_read(AT_FDCWD, path, text, sizeof text) <= 0) {
        return false;
    }
    const char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    const char *found = line == NULL ? NULL : strstr(line, here);
    return found != NULL && (found[length] == '\n' || found[length] == '/');
}

/* Signals the members there are now, but for those of the leader's group if these have their signal
 * already. Returns how many were reached, or a negative errno. */
static int signal_members(const struct tr__tree *tree, int signal_number, bool but_group)
{
    struct tr__tree_walk walk;
    int reached = 0;
    int error = 0;
    pid_t pid;

    if (!tr__tree_walk_file(&walk, tree->trees->directory_fd, path_of(tree, "cgroup.procs").text)) {
        return -errno;
    }
    while ((pid = tr__tree_walk_next(&walk)) != 0) {
        if (but_group && getpgid(pid) == tree->leader) {
            reached += 1;
            continue;
        }
        int process_fd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (process_fd < 0) {
            error = errno == ESRCH ? error : -errno;
            continue;
        }
        if (is_member(tree, pid)) {
            if (syscall(SYS_pidfd_send_signal, process_fd, signal_number, NULL, 0) == 0) {
                reached += 1;
            } else if (errno != ESRCH) {
                error = -errno;
            }
        }
        (void)close(process_fd);
    }
    tr__tree_walk_done(&walk);
    return reached > 0 ? reached : error;
}

int tr__leaf_signal(struct tr__tree *tree, int signal_number, bool but_group)
{
    int reached = signal_members(tree, signal_number, but_group);

    return reached > 0 ? 0 : reached == 0 ? -ESRCH : reached;
}

int tr__leaf_kill(struct tr__tree *tree)
{
    struct tr__trees *trees = tree->trees;

    tree->spent = true;
    int error = write_file(tree, "cgroup.kill", "1");
    if (error == -EMFILE || error == -ENFILE) {
        (void)pthread_mutex_lock(&trees->mutex);
        close_one(&trees->spare_fd);
        error = write_file(tree, "cgroup.kill", "1");
        trees->spare_fd = fcntl(trees->directory_fd, F_DUPFD_CLOEXEC, 3); /* or later */
        (void)pthread_mutex_unlock(&trees->mutex);
    }
    return error;
}
