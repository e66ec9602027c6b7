/*
 * tree_sweep.c: finding what belongs to a tree by the mark it carries, and collecting orphans.
 *
 * Owner: the calling thread. Called by tree; calls the kernel.
 *
 * A mark is inherited by everything a program starts, whatever session or parent that moves to. It
 * is written down twice in the child:
 *     RLIMIT_LOCKS = a number    unused by Linux since 2.4 and yet inherited; read with one system
 *                                call, from zombies too, and not lost by `env -i`
 *     TOOLRING_TREE=...          in the environment; a list, so that a host that is itself a tool
 *                                of another adds its own. Read only there (the number is the outer
 *                                host's, and must stay), or by people
 *
 *     number: process id 22 bits | hash of the start time 10 | manager 10 | tree 22
 *
 *  1. A pidfd is taken before the mark is looked at. If the id has a new owner by then, the pidfd
 *     still means the old one, and the signal goes nowhere.
 *  2. Killing goes on until a whole walk through /proc finds nobody alive: killed processes do not
 *     fork, so each round leaves only children born during it. Whom the kernel cannot end (he is
 *     frozen, or hangs in a device) is not waited for twice, and counts once. (Stopping all of them
 *     first was tried: it saves no round, since a killed process is as still as a stopped one.)
 *  3. Collected is only who carries a mark of this manager, or lies in a leaf of its directory, and
 *     is not the leader of a tree in use: those belong to whoever spawned them. The host's own
 *     children, and orphans of theirs, stay.
 *  4. Where there is no descriptor left for the walk, two are given up that were kept for that: a
 *     mark is made only after they were asked for.
 *  5. A zombie is nobody: where init does not collect, they stay for ever, in their groups too.
 *
 * Cost: one system call per process of the machine and round, 0.15 ms for 130; nested, four.
 * Rejected: walking down from our own children (misses what a subreaper in between has).
 */
#include "engine/tree_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* open_marked: somebody is there, and there is no descriptor to hold him by. */
#define NO_DESCRIPTOR (-2)
/* Rounds until a tree that keeps forking is given up; two are usual. */
#define ROUNDS_MAX 256u
/* Killed processes of a round that are waited for; more are simply met again. */
#define WAITED_MAX 32u
/* How long those are waited for: the kernel needs a millisecond, or they hang in a device. */
#define DEATH_NS (UINT64_C(200) * TR__NS_PER_MS)
/* The largest environment that is searched. */
#define ENVIRONMENT_BYTES ((size_t)256 << 10)

#define HOST_BITS 22
#define START_BITS 10
#define MANAGER_BITS 10
#define TREE_BITS 22
#define MASK(bits) ((UINT64_C(1) << (bits)) - 1)

/* The part of the number that all trees of a manager share. */
static uint64_t family_of(const struct tr__trees *trees)
{
    uint64_t start = trees->host_start * UINT64_C(0x9E3779B97F4A7C15) >> (64 - START_BITS);

    return (((uint64_t)trees->host & MASK(HOST_BITS)) << (START_BITS + MANAGER_BITS) |
            start << MANAGER_BITS | (trees->number & MASK(MANAGER_BITS)))
           << TREE_BITS;
}

/* Under the mutex. Asks for what it does not have; without, later walks may be refused. */
static void open_spares(struct tr__trees *trees)
{
    for (unsigned index = 0; index < TR__TREE_SPARES; index++) {
        if (trees->walk_fds[index] < 0) {
            trees->walk_fds[index] = open("/dev/null", O_PATH | O_CLOEXEC);
        }
    }
}

void tr__tree_spares_close(struct tr__trees *trees)
{
    for (unsigned index = 0; index < TR__TREE_SPARES; index++) {
        if (trees->walk_fds[index] >= 0) {
            (void)close(trees->walk_fds[index]); /* nothing was written */
            trees->walk_fds[index] = -1;
        }
    }
}

void tr__tree_mark_make(struct tr__tree *tree)
{
    struct tr__trees *trees = tree->trees;
    const char *outer = getenv(TR__TREE_MARK_NAME);
    char own[TR__TREE_NAME_BYTES];

    open_spares(trees);
    trees->marks = (trees->marks + 1) & (uint32_t)MASK(TREE_BITS);
    trees->marks += trees->marks == 0;
    tree->mark = family_of(trees) | trees->marks;
    (void)snprintf(own, sizeof own, "%ld-%" PRIu64 "-%" PRIu32 ".%" PRIu32, (long)trees->host,
                   trees->host_start, trees->number, trees->marks);
    int length = outer == NULL ? -1
                               : snprintf(tree->mark_text, sizeof tree->mark_text, "%s=%s:%s",
                                          TR__TREE_MARK_NAME, outer, own);
    if (length < 0 || (size_t)length >= sizeof tree->mark_text) {
        (void)snprintf(tree->mark_text, sizeof tree->mark_text, "%s=%s", TR__TREE_MARK_NAME, own);
    }
}

/* ---- who carries it ---- */

/* The number in a process's RLIMIT_LOCKS; 0 if it may not be asked. */
static uint64_t number_of(pid_t pid)
{
    uint64_t limit[2] = {0, 0};

    return syscall(SYS_prlimit64, pid, RLIMIT_LOCKS, NULL, limit) == 0 ? limit[0] : 0;
}

/* Whether one entry of the environment is our mark, alone or in a list. */
static bool names_mark(const char *entry, const char *own)
{
    size_t length = strlen(own);

    for (const char *found = strstr(entry, own); found != NULL; found = strstr(found + 1, own)) {
        bool begins = found[-1] == '=' || found[-1] == ':'; /* the name is before it */
        if (begins && (found[length] == '\0' || found[length] == ':')) {
            return true;
        }
    }
    return false;
}

/* Looks the mark up in a process's environment. */
static bool is_in_environment(const struct tr__tree *tree, pid_t pid, char *buffer)
{
    const char *own = strrchr(tree->mark_text, ':');
    char path[32];
    size_t used = 0;
    ssize_t got;

    own = own != NULL ? own + 1 : strchr(tree->mark_text, '=') + 1;
    (void)snprintf(path, sizeof path, "/proc/%ld/environ", (long)pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return false; /* gone, or another user's */
    }
    while (used < ENVIRONMENT_BYTES - 1 &&
           (got = read(file, buffer + used, ENVIRONMENT_BYTES - 1 - used)) > 0) {
        used += (size_t)got;
    }
    (void)close(file);
    buffer[used] = '\0';
    for (const char *entry = buffer; entry < buffer + used; entry += strlen(entry) + 1) {
        if (strncmp(entry, TR__TREE_MARK_NAME "=", sizeof TR__TREE_MARK_NAME) == 0 &&
            names_mark(entry, own)) {
            return true;
        }
    }
    return false;
}

static bool carries(const struct tr__tree *tree, pid_t pid, char *buffer)
{
    return buffer != NULL ? is_in_environment(tree, pid, buffer) : number_of(pid) == tree->mark;
}

/* A pidfd of a living process that carries the mark and is not the leader; -1; NO_DESCRIPTOR. */
static int open_marked(const struct tr__tree *tree, pid_t pid, char *buffer)
{
    if (pid == tree->leader || pid == tree->trees->host || !carries(tree, pid, buffer)) {
        return -1;
    }
    int process_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process_fd < 0) {
        return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? NO_DESCRIPTOR : -1;
    }
    struct pollfd ended = {.fd = process_fd, .events = POLLIN};
    if (!carries(tree, pid, buffer) || poll(&ended, 1, 0) != 0) {
        (void)close(process_fd); /* another's by now, or a zombie */
        process_fd = -1;
    }
    return process_fd;
}

/* For environments; NULL where the numbers will do. */
static char *take_buffer(const struct tr__tree *tree)
{
    return tree->trees->is_nested ? tr__memory_take(ENVIRONMENT_BYTES) : NULL;
}

uint32_t tr__tree_group_count(pid_t group)
{
    struct tr__tree_walk walk;
    struct tr__tree_stat stat;
    uint32_t count = 0;
    pid_t pid;

    if (!tr__tree_walk_proc(&walk)) {
        return 0;
    }
    while ((pid = tr__tree_walk_next(&walk)) != 0) {
        count += tr__tree_stat(pid, &stat) && stat.group == group && stat.state != 'Z' &&
                 stat.state != 'X';
    }
    tr__tree_walk_done(&walk);
    return count;
}

uint32_t tr__tree_marked_count(const struct tr__tree *tree)
{
    struct tr__tree_walk walk;
    uint32_t count = 0;
    pid_t pid;

    if (!tr__tree_walk_proc(&walk)) {
        return 1; /* no descriptor: somebody may be there */
    }
    char *buffer = take_buffer(tree);
    while ((pid = tr__tree_walk_next(&walk)) != 0) {
        int process_fd = open_marked(tree, pid, buffer);
        if (process_fd >= 0) {
            (void)close(process_fd);
        }
        count += process_fd != -1;
    }
    tr__memory_give(buffer);
    tr__tree_walk_done(&walk);
    return count;
}

/* Takes a child of ours that has ended; others' it cannot. */
static void collect(int process_fd)
{
    siginfo_t info;

    (void)waitid((idtype_t)P_PIDFD, (id_t)process_fd, &info, WEXITED | WNOHANG); /* as above */
}

/* Waits until a killed process is gone, and collects it if it has become ours. Whether it is. */
static bool bury(int process_fd, uint64_t until_ns)
{
    struct pollfd ended = {.fd = process_fd, .events = POLLIN};
    uint64_t left_ms = tr__clock_left(tr__clock_now(), until_ns) / TR__NS_PER_MS;
    bool gone = poll(&ended, 1, (int)left_ms) == 1; /* else the next round looks again */

    collect(process_fd);
    (void)close(process_fd);
    return gone;
}

/* Whether somebody has sent it SIGKILL already: it is a matter of time. The kernel keeps that
 * pending until the process is a zombie. */
static bool is_dying(pid_t pid)
{
    char path[32];
    char text[4096];

    (void)snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    if (tr__tree_read(AT_FDCWD, path, text, sizeof text) <= 0) {
        return false;
    }
    const char *pending = strstr(text, "\nShdPnd:");
    return pending != NULL &&
           (strtoull(pending + sizeof "ShdPnd:", NULL, 16) >> (SIGKILL - 1) & 1) != 0;
}

/* One round, and what it has come upon. */
struct round {
    bool again;          /* not the first: whoever is dying was met before */
    bool blind;          /* it could not see or hold everybody */
    bool stuck;          /* of those it killed and waited for, nobody died */
    uint32_t killed;     /* whoever was met */
    uint32_t killed_new; /* but for those who were met before */
};

/* One walk that kills whoever is met. */
static void kill_round(const struct tr__tree *tree, char *buffer, struct round *round)
{
    int killed[WAITED_MAX];
    struct tr__tree_walk walk;
    uint32_t count = 0;
    pid_t pid;

    *round = (struct round){.again = round->again, .blind = !tr__tree_walk_proc(&walk)};
    if (round->blind) {
        return;
    }
    while ((pid = tr__tree_walk_next(&walk)) != 0) {
        int process_fd = open_marked(tree, pid, buffer);
        if (process_fd < 0) {
            round->blind = round->blind || process_fd == NO_DESCRIPTOR;
            continue;
        }
        bool known = round->again && is_dying(pid);
        bool hit = syscall(SYS_pidfd_send_signal, process_fd, SIGKILL, NULL, 0) == 0;
        if (!hit || count >= WAITED_MAX) {
            (void)close(process_fd);
        } else {
            killed[count] = process_fd;
        }
        count += hit;
        round->killed_new += hit && !known;
    }
    tr__tree_walk_done(&walk);
    round->killed = count;
    uint64_t until_ns = tr__clock_after(tr__clock_now(), DEATH_NS);
    round->stuck = count > 0;
    for (uint32_t index = 0; index < count && index < WAITED_MAX; index++) {
        round->stuck = !bury(killed[index], until_ns) && round->stuck;
    }
}

/* The same with the descriptors kept for it: one for the walk, one for who is met. */
static void kill_round_with_spares(const struct tr__tree *tree, char *buffer, struct round *round)
{
    struct tr__trees *trees = tree->trees;

    (void)pthread_mutex_lock(&trees->mutex); /* a plain mutex of ours cannot fail */
    tr__tree_spares_close(trees);
    kill_round(tree, buffer, round);
    open_spares(trees);
    (void)pthread_mutex_unlock(&trees->mutex);
}

uint32_t tr__tree_marked_kill(const struct tr__tree *tree)
{
    char *buffer = take_buffer(tree);
    uint32_t total = 0;

    for (uint32_t rounds = 0; rounds < ROUNDS_MAX; rounds++) {
        struct round round = {.again = rounds > 0};
        kill_round(tree, buffer, &round);
        if (round.killed == 0 && round.blind) {
            kill_round_with_spares(tree, buffer, &round);
        }
        total += round.killed_new;
        if (round.killed == 0 || round.stuck) {
            break; /* nobody is there, or only who cannot die now: he has his SIGKILL */
        }
    }
    tr__memory_give(buffer);
    return total;
}

/* ---- orphans ---- */

/* Whether a process is the leader of a tree, or may be one that is being started. */
static bool is_leader(struct tr__trees *trees, pid_t pid, pid_t session)
{
    bool found = false;

    (void)pthread_mutex_lock(&trees->mutex); /* a plain mutex of ours cannot fail */
    found = trees->starting > 0 && session == pid;
    for (const struct tr__tree *tree = trees->used; !found && tree != NULL; tree = tree->next) {
        found = tree->leader == pid;
    }
    for (const struct tr__tree *tree = trees->kept; !found && tree != NULL; tree = tree->next) {
        found = tree->leader == pid;
    }
    (void)pthread_mutex_unlock(&trees->mutex);
    return found;
}

static bool is_in_directory(const struct tr__trees *trees, pid_t pid)
{
    char path[32];
    char here[TR__TREE_NAME_BYTES + 4];
    char text[4096];

    if (trees->mode != TR_TREE_CGROUP) {
        return false;
    }
    (void)snprintf(path, sizeof path, "/proc/%ld/cgroup", (long)pid);
    (void)snprintf(here, sizeof here, "/%s/", trees->name);
    return tr__tree_read(AT_FDCWD, path, text, sizeof text) > 0 && strstr(text, here) != NULL;
}

/* Collects one zombie child, if it is ours. */
static void collect_orphan(struct tr__trees *trees, pid_t pid)
{
    struct tr__tree_stat stat;

    /* A zombie child of ours keeps its number until it is collected: nothing changes under us, but
     * for the host, who may collect it; then the pidfd, taken last, is of nobody or a stranger, and
     * not of a child that carries our mark. */
    if (!tr__tree_stat(pid, &stat) || stat.parent != trees->host || stat.state != 'Z') {
        return;
    }
    bool ours =
        number_of(pid) >> TREE_BITS == family_of(trees) >> TREE_BITS || is_in_directory(trees, pid);
    if (!ours || is_leader(trees, pid, stat.session)) {
        return;
    }
    int process_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process_fd >= 0) {
        collect(process_fd);
        (void)close(process_fd);
    }
}

void tr__trees_reap(struct tr__trees *trees)
{
    struct tr__tree_walk walk;
    siginfo_t info = {.si_pid = 0};
    pid_t pid;

    /* Looks without taking: nobody has ended, so there is nothing to search for. */
    if (!trees->is_reaper || waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
        info.si_pid == 0 || !tr__tree_walk_proc(&walk)) {
        return;
    }
    while ((pid = tr__tree_walk_next(&walk)) != 0) {
        collect_orphan(trees, pid);
    }
    tr__tree_walk_done(&walk);
}
