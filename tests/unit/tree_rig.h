/*
 * What the tests of trees share: programs that leave others behind, ways to find those, and a way
 * to each mode.
 *
 * Whoever is left behind carries a token that no other test and no other run has as an argument: it
 * is found by that alone, and lives a minute at most should a test fail.
 */
#ifndef TR__TESTS_UNIT_TREE_RIG_H
#define TR__TESTS_UNIT_TREE_RIG_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <toolring/error.h>
#include <unistd.h>

#include "engine/spawner.h"
#include "engine/tree_parts.h"
#include "support/case.h"

/* How a program leaves somebody behind. Each says 'r' once it is beyond reach of a mere leader; %s
 * is the token. */
struct tree_escape {
    const char *name;
    const char *shell;
    bool leaves_group; /* then a process group alone does not promise to find it */
};

static const struct tree_escape tree_escapes[] = {
    {"nohup", "nohup 2>/dev/null sh -c 'printf r; exec sleep %s' &", false},
    {"ignores", "sh -c 'trap \"\" TERM HUP INT; printf r; exec sleep %s' &", false},
    {"stopped", "sh -c 'printf r; kill -STOP $$; exec sleep %s' &", false},
    {"setsid", "setsid sh -c 'printf r; exec sleep %s' &", true},
    {"double fork", "setsid sh -c '(printf r; exec sleep %s) & exit'", true},
    {"no environment", "env -i setsid sh -c 'printf r; exec sleep %s' &", true},
};
#define TREE_ESCAPES (sizeof tree_escapes / sizeof tree_escapes[0])

/* Keeps forking, 500 at most, in four loops that have left the group. */
#define TREE_FORKING                                                                               \
    "for k in 1 2 3 4; do setsid sh -c 'i=0; while [ $i -lt 125 ]; do setsid sleep %s & "          \
    "i=$((i+1)); [ $i = 9 ] && printf r; done; wait' & done; wait"

struct tree_rig {
    struct tr__trees *trees;
    struct tr__spawn spawn;
    char token[32];
    char line[1024];
};

/* A decimal of a minute: different in every process, and each time. */
static inline void tree_token(struct tree_rig *rig)
{
    static unsigned number;
    struct timespec now;

    CHECK_EQ_INT(clock_gettime(CLOCK_REALTIME, &now), 0);
    (void)snprintf(rig->token, sizeof rig->token, "60.%d%u%09ld", (int)getpid() % 1000000,
                   ++number % 100, now.tv_nsec);
}

/* Living processes with the token among their arguments. */
static inline unsigned tree_find(const char *token)
{
    struct tr__tree_walk walk;
    char path[32];
    char text[4096];
    unsigned count = 0;
    pid_t pid;

    CHECK(tr__tree_walk_proc(&walk));
    while ((pid = tr__tree_walk_next(&walk)) != 0) {
        (void)snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
        int length = tr__tree_read(AT_FDCWD, path, text, sizeof text); /* a zombie has none */
        count += pid != getpid() && length > 0 &&
                 memmem(text, (size_t)length, token, strlen(token)) != NULL;
    }
    tr__tree_walk_done(&walk);
    return count;
}

/* Opens the way wanted; skips the case where the machine has it not. */
static inline void tree_open(struct tree_rig *rig, tr_tree_mode mode)
{
    struct tr__trees_config config = {
        .no_cgroup = mode != TR_TREE_CGROUP, .sweep = mode == TR_TREE_SWEEP, .trees_max = 16};

    memset(rig, 0, sizeof *rig);
    CHECK_EQ_INT(tr__trees_open(&rig->trees, &config), 0);
    if (tr__trees_mode(rig->trees) != mode) {
        tr__trees_close(rig->trees);
        tr__trees_free(rig->trees);
        SKIP("this machine has no writable cgroup v2 subtree");
    }
    tree_token(rig);
}

static inline void tree_close(struct tree_rig *rig)
{
    tr__trees_close(rig->trees);
    tr__trees_free(rig->trees);
}

/* Runs a shell line with the token in it. */
static inline void tree_run(struct tree_rig *rig, const char *format, tr_process_lifetime lifetime)
{
    char *at = strstr(format, "%s");
    int before = at == NULL ? (int)strlen(format) : (int)(at - format);

    (void)snprintf(rig->line, sizeof rig->line, "%.*s%s%s", before, format,
                   at == NULL ? "" : rig->token, at == NULL ? "" : at + 2);
    rig->spawn = (struct tr__spawn){
        .shell = rig->line, .trees = rig->trees, .lifetime = lifetime, .merge_error = true};
    CHECK_EQ_INT(tr__spawn_now(&rig->spawn), 0);
    CHECK(rig->spawn.tree != NULL);
}

/* Until it can be read; a handler of the test's may come in between. */
static inline void tree_await_fd(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};

    while (poll(&one, 1, -1) < 0) {
        CHECK_EQ_INT(errno, EINTR);
    }
}

/* Reads until so many 'r' have come. */
static inline void tree_await_ready(struct tree_rig *rig, unsigned wanted)
{
    char byte;

    while (wanted > 0) {
        tree_await_fd(rig->spawn.output_fd);
        CHECK_EQ_INT(read(rig->spawn.output_fd, &byte, 1), 1);
        wanted -= byte == 'r';
    }
}

static inline void tree_await_exit(struct tree_rig *rig)
{
    tree_await_fd(rig->spawn.process_fd);
}

/* Collects the leader, leaving its pidfd open. */
static inline void tree_collect(struct tree_rig *rig)
{
    int status;

    CHECK_EQ_INT(waitpid(rig->spawn.pid, &status, 0), rig->spawn.pid);
}

static inline void tree_close_fds(struct tree_rig *rig)
{
    CHECK_EQ_INT(close(rig->spawn.process_fd), 0);
    CHECK_EQ_INT(close(rig->spawn.output_fd), 0);
}

/* Ends the tree whose leader has exited. Returns how many there were at first. */
static inline uint32_t tree_sweep(struct tree_rig *rig)
{
    struct tr__tree *tree = rig->spawn.tree;
    uint32_t first = tr__tree_sweep(tree);

    for (uint32_t left = first; left > 0; left = tr__tree_sweep(tree)) {
        struct pollfd empty = {.fd = tr__tree_empty_fd(tree), .events = POLLPRI};
        (void)poll(&empty, 1, 10); /* nobody tells without a leaf */
    }
    tree_collect(rig);
    if (tr__tree_mode(tree) == TR_TREE_GROUP) { /* its members are known from now on */
        uint32_t members = tr__tree_sweep(tree);
        first = members > first ? members : first;
        while (tr__tree_sweep(tree) > 0) {
            (void)poll(NULL, 0, 1);
        }
    }
    return first;
}

/* From the exit of the leader to the end of all. */
static inline uint32_t tree_finish(struct tree_rig *rig)
{
    tree_await_exit(rig);
    uint32_t count = tree_sweep(rig);
    tr__tree_close(rig->spawn.tree);
    tree_close_fds(rig);
    return count;
}

/* Every escape that the mode promises to find, after the leader has gone by itself. */
static inline void tree_check_escapes(tr_tree_mode mode)
{
    struct tree_rig rig;

    tree_open(&rig, mode);
    for (size_t index = 0; index < TREE_ESCAPES; index++) {
        const struct tree_escape *escape = &tree_escapes[index];
        if (mode == TR_TREE_GROUP && escape->leaves_group) {
            continue;
        }
        tree_token(&rig);
        tree_run(&rig, escape->shell, TR_PROCESS_LIFETIME_TASK);
        CHECK_EQ_INT(tr__tree_mode(rig.spawn.tree), mode);
        tree_await_ready(&rig, 1);
        uint32_t swept = tree_finish(&rig);
        if (swept == 0 || tree_find(rig.token) != 0) {
            case_fail(__FILE__, __LINE__, "%s: %u swept, %u left", escape->name, swept,
                      tree_find(rig.token));
        }
    }
    CHECK_EQ_U64(tr__trees_swept(rig.trees) >= 3, true);
    tree_close(&rig);
}

#endif
