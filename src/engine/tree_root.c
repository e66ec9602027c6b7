/*
 * tree_root.c: the directory that holds a manager's leaves, from finding its place to its end.
 *
 *     <subtree>/toolring-<pid>-<start time>-<n>/<leaf>
 *
 * Owner: whoever opens and closes the manager. Called by tree; calls tree_remove, base/probe,
 * the kernel.
 *
 *  1. The directory's name says whose it is; a shared lock on it (flock) that the owner still
 *     lives, also to hosts in other namespaces of process ids, who cannot see it otherwise.
 *  2. Remains of a dead host are what is named like ours, has an owner that is gone, and no lock.
 *     Whatever is in there was started by that host's tools, and is killed.
 *  3. Nobody is moved: where our own cgroup may not give its controllers to children because we
 *     are in it, leaves have none, and limits fall back to those of each process.
 *
 * Cost: opening 0.5 ms, most of it for trying out the subtree and making the directory.
 * Rejected: recognising dead hosts by process id alone (a container shares the subtree, but not the
 * ids); one directory for all managers (the end of one would have to tell its leaves from others').
 */
#include "engine/tree_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/clock.h"

/* Attempts at making the directory: another host may take an unlocked one for a dead host's. */
#define MAKE_ATTEMPTS 4
/* How long the remains of one dead host are waited for. */
#define REMAINS_NS (UINT64_C(500) * TR__NS_PER_MS)

static tr__atomic_u32 directories; /* made by this process; any thread */

static const struct control {
    uint32_t bit;
    const char *name;
    const char *enable;
    const char *file; /* that a leaf has then */
} controls[] = {
    {TR__TREE_MEMORY, "memory", "+memory", "memory.max"},
    {TR__TREE_CPU, "cpu", "+cpu", "cpu.max"},
    {TR__TREE_PROCESSES, "pids", "+pids", "pids.max"},
};

int tr__tree_root_kill(int directory_fd)
{
    return tr__tree_write(directory_fd, "cgroup.kill", "1");
}

/* Kills all below a directory and waits until nobody is left. */
static bool end_all(int directory_fd, uint64_t duration_ns)
{
    char text[256];
    uint64_t until = tr__clock_after(tr__clock_now(), duration_ns);
    struct pollfd events = {.fd = openat(directory_fd, "cgroup.events", O_RDONLY | O_CLOEXEC),
                            .events = POLLPRI};
    bool empty = false;

    for (;;) {
        ssize_t got = events.fd < 0 ? -1 : pread(events.fd, text, sizeof text - 1, 0);
        text[got < 0 ? 0 : got] = '\0';
        empty = tr__tree_field(text, "populated", 1) == 0;
        uint64_t left_ns = tr__clock_left(tr__clock_now(), until);
        if (empty || got < 0 || left_ns == 0) {
            break;
        }
        (void)tr__tree_root_kill(directory_fd);
        (void)poll(&events, 1, (int)(left_ns / TR__NS_PER_MS) + 1); /* the next look decides */
    }
    if (events.fd >= 0) {
        (void)close(events.fd);
    }
    return empty;
}

/* Whether the owner that a name tells of is gone. */
static bool is_dead(const struct tr__trees *trees, const char *name)
{
    char again[TR__TREE_NAME_BYTES];
    struct tr__tree_stat stat;
    long pid;
    uint64_t start;
    unsigned number;

    if (sscanf(name, "toolring-%ld-%" SCNu64 "-%u", &pid, &start, &number) != 3 || pid <= 0) {
        return false;
    }
    (void)snprintf(again, sizeof again, "toolring-%ld-%" PRIu64 "-%u", pid, start, number);
    if (strcmp(again, name) != 0 || (pid == trees->host && start == trees->host_start)) {
        return false; /* not ours by its name, or a neighbour's in this process */
    }
    return !tr__tree_stat((pid_t)pid, &stat) || stat.start != start;
}

/* Ends and removes what dead hosts have left in the subtree. */
static void remove_remains(const struct tr__trees *trees)
{
    char path[TR__PROBE_PATH_BYTES + 256];
    DIR *directory = opendir(trees->parent);

    if (directory == NULL) {
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (!is_dead(trees, entry->d_name)) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", trees->parent, entry->d_name);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && end_all(fd, REMAINS_NS)) {
            /* What cannot go now is the next one's. */
            (void)tr__tree_remove(AT_FDCWD, path, TR__TREE_REMOVALS_ROOT_MAX);
        }
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    (void)closedir(directory);
}

/* Opens and locks a directory that was just made. 0 or a negative errno: -ENOENT and -EWOULDBLOCK
 * if another host, which does not see our process, takes it for a dead one's meanwhile. */
static int take(const char *path, int *ret_fd)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    /* Locked first: from then on nobody removes it, and what was removed before is seen. */
    if (flock(fd, LOCK_SH | LOCK_NB) != 0 || faccessat(fd, "cgroup.kill", W_OK, AT_EACCESS) != 0) {
        int error = -errno;
        (void)close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

/* Makes and locks the directory. 0 or a negative errno. */
static int make(struct tr__trees *trees)
{
    char path[TR__PROBE_PATH_BYTES + TR__TREE_NAME_BYTES + 2];
    int error = -EEXIST;

    for (int attempt = 0; attempt < MAKE_ATTEMPTS; attempt++) {
        unsigned number = tr__fetch_add_relaxed(&directories, 1u) + 1; /* only to be different */
        (void)snprintf(trees->name, sizeof trees->name, "toolring-%ld-%" PRIu64 "-%u",
                       (long)trees->host, trees->host_start, number);
        (void)snprintf(path, sizeof path, "%s/%s", trees->parent, trees->name);
        if (mkdir(path, 0755) != 0) {
            error = -errno;
            if (error != -EEXIST) {
                return error;
            }
            continue;
        }
        error = take(path, &trees->directory_fd);
        if (error == 0) {
            trees->spare_fd = fcntl(trees->directory_fd, F_DUPFD_CLOEXEC, 3); /* or none */
            return 0;
        }
        (void)rmdir(path); /* or it is gone already */
        if (error != -ENOENT && error != -EWOULDBLOCK) {
            return error;
        }
    }
    return error;
}

static void say(const struct tr__trees *trees, const char *path, const char *why)
{
    if (trees->config.message != NULL && trees->config.message_size > 0) {
        (void)snprintf(trees->config.message, trees->config.message_size,
                       "tr_config.cgroup_path: %s: %s", path, why); /* cut if it must be */
    }
}

/* A subtree that was configured. */
static int open_configured(struct tr__trees *trees)
{
    const char *path = trees->config.cgroup_path;
    struct statfs filesystem;

    int length = snprintf(trees->parent, sizeof trees->parent, "%s", path);
    if (length < 0 || (size_t)length >= sizeof trees->parent) {
        say(trees, path, "too long");
        return TR_EINVAL;
    }
    if (statfs(path, &filesystem) != 0) {
        int error = -errno;
        say(trees, path, strerror(errno));
        return error;
    }
    if (filesystem.f_type != CGROUP2_SUPER_MAGIC) {
        say(trees, path, "not a directory of the cgroup v2 hierarchy");
        return TR_EINVAL;
    }
    remove_remains(trees);
    int error = make(trees);
    if (error != 0) {
        say(trees, path, strerror(-error));
    }
    return error;
}

int tr__tree_root_open(struct tr__trees *trees)
{
    struct tr__probe probe;

    if (trees->config.cgroup_path != NULL) {
        return open_configured(trees);
    }
    memset(&probe, 0, sizeof probe);
    tr__probe_cgroup(&probe);
    if (probe.cgroup_path[0] == '\0') {
        return -ENOENT;
    }
    memcpy(trees->parent, probe.cgroup_path, sizeof trees->parent);
    remove_remains(trees);
    return make(trees) == 0 ? 0 : -ENOENT;
}

void tr__tree_root_close(struct tr__trees *trees)
{
    char path[TR__PROBE_PATH_BYTES + TR__TREE_NAME_BYTES + 2];

    if (trees->directory_fd < 0) {
        return;
    }
    if (trees->spare_fd >= 0) {
        (void)close(trees->spare_fd); /* these are bad times, maybe */
        trees->spare_fd = -1;
    }
    (void)end_all(trees->directory_fd, TR__TREE_END_NS); /* removing tells */
    tr__trees_reap(trees);
    (void)snprintf(path, sizeof path, "%s/%s", trees->parent, trees->name);
    /* What the kernel cannot end is left to the next host's start. */
    (void)tr__tree_remove(AT_FDCWD, path, TR__TREE_REMOVALS_ROOT_MAX);
    (void)close(trees->directory_fd);
    trees->directory_fd = -1;
}

/* Whether a list of controllers has this one. */
static bool has_word(int directory_fd, const char *file, const struct control *control)
{
    char text[256];
    bool found = false;

    if (tr__tree_read(directory_fd, file, text, sizeof text) > 0) {
        for (char *rest = text, *word; (word = strsep(&rest, " \n")) != NULL;) {
            found = found || strcmp(word, control->name) == 0;
        }
    }
    return found;
}

static int give(int directory_fd, const struct control *control)
{
    return tr__tree_write(directory_fd, "cgroup.subtree_control", control->enable);
}

uint32_t tr__tree_root_control(struct tr__trees *trees, uint32_t wanted)
{
    uint32_t there = tr__load_relaxed(&trees->controllers); /* written under this mutex */

    for (size_t index = 0; index < sizeof controls / sizeof *controls; index++) {
        const struct control *control = &controls[index];
        if ((wanted & control->bit) == 0 || (trees->controllers_tried & control->bit) != 0) {
            continue;
        }
        trees->controllers_tried |= control->bit;
        int error = give(trees->directory_fd, control);
        if (error == -ENOENT && has_word(trees->directory_fd, "../cgroup.controllers", control)) {
            /* Our directory has it not: its parent must give it first. */
            (void)tr__tree_write(trees->directory_fd, "../cgroup.subtree_control",
                                 control->enable); /* what is there in the end tells */
            (void)give(trees->directory_fd, control);
        }
        if (has_word(trees->directory_fd, "cgroup.subtree_control", control)) {
            there |= control->bit;
        }
    }
    tr__store_relaxed(&trees->controllers, there); /* a hint to those without the mutex */
    return there & wanted;
}
