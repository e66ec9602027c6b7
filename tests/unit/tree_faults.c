/*
 * Tests of engine/tree and engine/spawner when something goes wrong at the one moment where it
 * hurts: a child killed at its birth, a leaf that somebody takes away, a spawn that fails although
 * its program runs. The process that spawns is traced, so that the moment is met every time.
 */
#include "trace.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---- children killed at their birth ---- */

static void run_in_leaves(unsigned count)
{
    struct tree_rig rig;

    tree_open(&rig, TR_TREE_CGROUP);
    for (unsigned index = 0; index < count; index++) {
        tree_run(&rig, "true", TR_PROCESS_LIFETIME_TASK);
        CHECK_EQ_INT(tr__tree_mode(rig.spawn.tree), TR_TREE_CGROUP);
        CHECK_EQ_INT(tree_finish(&rig), 0);
    }
    CHECK(tr__spawner_dies_with_host());
    tree_close(&rig);
}

static void run_two_in_leaves(const struct trace *trace)
{
    (void)trace;
    run_in_leaves(2);
}

static void run_five_in_leaves(const struct trace *trace)
{
    (void)trace;
    run_in_leaves(5);
}

CASE(tree_faults, newborn_killed_once_does_not_close_the_way)
{
    struct trace trace = {.kills = 1};

    need_leaves();
    run_traced(&trace, run_two_in_leaves);
    CHECK_EQ_INT(trace.clone3s, 2); /* the second was tried again */
    CHECK_EQ_INT(trace.clones, 1);  /* instead of the first */
}

/* The kernel kills every second one here: the odd ones, which clone3 has made. */
static void kill_those_of_clone3(struct trace *trace, const struct __ptrace_syscall_info *call)
{
    if (call->op == PTRACE_SYSCALL_INFO_ENTRY &&
        (trace->number == SYS_clone3 || trace->number == SYS_clone)) {
        trace->kills = trace->number == SYS_clone3 ? 1 : 0;
    }
}

CASE(tree_faults, newborns_killed_in_a_row_close_the_way)
{
    struct trace trace = {.kills = 1, .see = kill_those_of_clone3};

    need_leaves();
    run_traced(&trace, run_five_in_leaves);
    CHECK_EQ_INT(trace.clone3s, 3);
    CHECK_EQ_INT(trace.clones, 5);
}

static void run_without_trees(const struct trace *trace)
{
    struct tr__spawn spawn = {.shell = "true", .merge_error = true, .die_with_thread = true};

    CHECK_EQ_INT(tr__spawn_now(&spawn), trace->left == 0 ? 0 : -EAGAIN);
    CHECK(tr__spawner_dies_with_host());
    if (spawn.error == 0) {
        CHECK_EQ_INT(waitpid(spawn.pid, NULL, 0), spawn.pid);
    } else {
        CHECK_EQ_INT(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
        CHECK_EQ_INT(errno, ECHILD);
    }
}

CASE(tree_faults, newborn_killed_once_is_born_again)
{
    struct trace trace = {.kills = 1};

    run_traced(&trace, run_without_trees);
    CHECK_EQ_INT(trace.clones, 2);
}

CASE(tree_faults, newborns_killed_in_a_row_fail_the_spawn)
{
    struct trace trace = {.kills = 3, .left = 1};

    run_traced(&trace, run_without_trees);
    CHECK_EQ_INT(trace.clones, 3);
    CHECK_EQ_INT(trace.clone3s, 0); /* nor has posix_spawn been used */
}

/* ---- spawns that fail although the program runs ---- */

/* Leaves one behind that is in its leaf and nowhere else. */
#define LEAVE_ONE                                                                                  \
    "until grep -q /toolring- /proc/self/cgroup; do :; done; "                                     \
    "setsid sh -c 'exec sleep %s' & sleep 60"

/* Whether somebody sleeps as long as the token says: it has left the group by then. */
static bool is_left(const char *token)
{
    struct tr__tree_walk walk;
    char path[32];
    char text[256];
    bool found = false;
    pid_t pid;

    CHECK(tr__tree_walk_proc(&walk));
    while ((pid = tr__tree_walk_next(&walk)) != 0) {
        (void)snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
        found = found || (tr__tree_read(AT_FDCWD, path, text, sizeof text) > 6 &&
                          strcmp(text, "sleep") == 0 && strcmp(text + 6, token) == 0);
    }
    tr__tree_walk_done(&walk);
    return found;
}

/* The spawner is about to end the group: not before it has a member elsewhere. */
static void hold_until_one_is_left(struct trace *trace, const struct __ptrace_syscall_info *call)
{
    if (call->op == PTRACE_SYSCALL_INFO_ENTRY && trace->number == SYS_kill &&
        (int64_t)(int32_t)trace->first < 0) {
        while (!is_left(trace->token)) {
            (void)poll(NULL, 0, 1);
        }
        trace->left += 1;
    }
}

/* Runs a line that is expected to fail, in a leaf that was used; then another. */
static void check_failed(struct tree_rig *rig, struct tr__spawn *failing, int error)
{
    (void)snprintf(rig->line, sizeof rig->line, "%.*s%s%s",
                   (int)(strstr(LEAVE_ONE, "%s") - LEAVE_ONE), LEAVE_ONE, rig->token,
                   strstr(LEAVE_ONE, "%s") + 2);
    failing->shell = rig->line;
    failing->trees = rig->trees;
    failing->merge_error = true;
    CHECK_EQ_INT(tr__spawn_now(failing), error);
    CHECK_EQ_PTR(failing->tree, NULL);
}

static void check_nobody_is_left(struct tree_rig *rig)
{
    while (tree_find(rig->token) > 0) { /* it was killed: it dies in its own time */
        (void)poll(NULL, 0, 1);
    }
    for (unsigned round = 0; round < 3; round++) {
        tree_run(rig, "true", TR_PROCESS_LIFETIME_TASK);
        CHECK_EQ_INT(tr__tree_mode(rig->spawn.tree), TR_TREE_CGROUP);
        CHECK_EQ_INT(tree_finish(rig), 0);
    }
    tree_close(rig);
}

static void fail_at_the_pidfd(const struct trace *trace)
{
    struct tree_rig rig;
    struct tr__spawn failing = {.pid = 0};
    int fds[64];
    unsigned count = 0;

    tree_open(&rig, TR_TREE_CGROUP);
    memcpy(rig.token, trace->token, sizeof rig.token);
    tree_run(&rig, "true", TR_PROCESS_LIFETIME_TASK); /* the leaf has its descriptors now */
    CHECK_EQ_INT(tree_finish(&rig), 0);
    struct rlimit all;
    CHECK_EQ_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
    struct rlimit few = {64, all.rlim_max};
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
    while ((fds[count] = dup(1)) >= 0) {
        count += 1;
    }
    CHECK_EQ_INT(close(0), 0);
    CHECK_EQ_INT(close(fds[--count]), 0); /* two for a pipe; the pidfd gets 0 and cannot be moved */
    CHECK_EQ_INT(close(fds[--count]), 0);
    check_failed(&rig, &failing, TR_EMFILE);
    CHECK_EQ_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
    while (count > 0) {
        CHECK_EQ_INT(close(fds[--count]), 0);
    }
    CHECK_EQ_INT(dup(1), 0);
    check_nobody_is_left(&rig);
}

CASE(tree_faults, spawn_that_fails_late_leaves_nobody)
{
    struct tree_rig rig;
    struct trace trace = {.see = hold_until_one_is_left};

    need_leaves();
    tree_token(&rig);
    memcpy(trace.token, rig.token, sizeof trace.token);
    run_traced(&trace, fail_at_the_pidfd);
    CHECK_EQ_INT(trace.left, 1);
}

/* From here on, this process may not clone with CLONE_PIDFD: posix_spawn does without. */
static void refuse_clone(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_PIDFD, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};

    CHECK_EQ_INT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQ_INT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

static void fail_at_a_limit(const struct trace *trace)
{
    const tr_process_limit no_such = {.resource = 999, .soft = 1, .hard = 1};
    struct tr__spawn failing = {.limits = &no_such, .limits_count = 1};
    struct tree_rig rig;

    tree_open(&rig, TR_TREE_CGROUP);
    memcpy(rig.token, trace->token, sizeof rig.token);
    refuse_clone();
    check_failed(&rig, &failing, TR_EINVAL);
    CHECK_EQ_INT(failing.failed_stage, TR__SPAWN_LIMITS);
    check_nobody_is_left(&rig);
}

CASE(tree_faults, posix_spawn_that_fails_late_leaves_nobody)
{
    struct tree_rig rig;
    struct trace trace = {.see = hold_until_one_is_left};

    need_leaves();
    tree_token(&rig);
    memcpy(trace.token, rig.token, sizeof trace.token);
    run_traced(&trace, fail_at_a_limit);
    CHECK_EQ_INT(trace.left, 1);
}

/* ---- leaves that take nobody in ---- */

static void leaf_path(const struct tree_rig *rig, unsigned leaf, const char *file, char *path,
                      size_t size)
{
    (void)snprintf(path, size, "%s/%s/%u/%s", rig->trees->parent, rig->trees->name, leaf, file);
}

CASE(tree_faults, removed_leaf_is_replaced)
{
    struct tree_rig rig;
    char path[TR__PROBE_PATH_BYTES + TR__TREE_NAME_BYTES + 32];

    tree_open(&rig, TR_TREE_CGROUP);
    tree_run(&rig, "true", TR_PROCESS_LIFETIME_TASK);
    CHECK_EQ_INT(tree_finish(&rig), 0);
    leaf_path(&rig, 1, "", path, sizeof path);
    CHECK_EQ_INT(rmdir(path), 0);
    tree_run(&rig, "setsid sh -c 'printf r; exec sleep %s' &", TR_PROCESS_LIFETIME_TASK);
    CHECK_EQ_INT(tr__tree_mode(rig.spawn.tree), TR_TREE_CGROUP);
    tree_await_ready(&rig, 1);
    CHECK_EQ_INT(tree_finish(&rig), 1);
    CHECK_EQ_INT(tree_find(rig.token), 0);
    tree_close(&rig);
}

/* A program makes its leaf a threaded cgroup: then all others below the manager's are invalid. */
CASE(tree_faults, where_leaves_are_invalid_groups_do)
{
    struct tree_rig rig;
    char path[TR__PROBE_PATH_BYTES + TR__TREE_NAME_BYTES + 32];
    struct tr__spawn limited = {.shell = "true", .tree_limits = {.cpu_percent_max = 50}};

    tree_open(&rig, TR_TREE_CGROUP);
    tree_run(&rig, "true", TR_PROCESS_LIFETIME_TASK);
    CHECK_EQ_INT(tree_finish(&rig), 0);
    (void)snprintf(path, sizeof path, "%s/%s/other", rig.trees->parent, rig.trees->name);
    CHECK_EQ_INT(mkdir(path, 0755), 0);
    CHECK_EQ_INT(tr__tree_write(AT_FDCWD, strcat(path, "/cgroup.type"), "threaded"), 0);
    for (unsigned round = 0; round < 2; round++) {
        tree_run(&rig, "nohup 2>/dev/null sh -c 'printf r; exec sleep %s' &",
                 TR_PROCESS_LIFETIME_TASK);
        CHECK_EQ_INT(tr__tree_mode(rig.spawn.tree), TR_TREE_GROUP);
        tree_await_ready(&rig, 1);
        CHECK_EQ_INT(tree_finish(&rig), 1);
        CHECK_EQ_INT(tree_find(rig.token), 0);
    }
    limited.trees = rig.trees;
    CHECK_EQ_INT(tr__spawn_now(&limited), TR_ENOSYS); /* what a group cannot keep is refused */
    tree_close(&rig);
}
