/*
 * Tests of engine/tree towards its host: a subreaper or PID 1 whose own children stay its own, an
 * ordinary user, a host that forgets its programs, a want of memory.
 */
#include "tree_rig.h"

#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/memory.h"

#define NOBODY 65534u

/* ---- children of the host ---- */

static volatile sig_atomic_t told; /* SIGCHLD came */

static void on_child(int number)
{
    (void)number;
    told = 1;
}

/* Whether a process is there, as a zombie too. */
static bool is_there(pid_t pid)
{
    struct tr__tree_stat stat;

    return tr__tree_stat(pid, &stat);
}

static bool is_zombie_of_ours(pid_t pid)
{
    struct tr__tree_stat stat;

    return tr__tree_stat(pid, &stat) && stat.state == 'Z' && stat.parent == getpid();
}

/* A child of the host's own that ends, with an orphan that ends too. Returns both ids. */
static void start_own(pid_t *ret_child, pid_t *ret_orphan)
{
    int ends[2];

    CHECK_EQ_INT(pipe(ends), 0);
    *ret_child = fork();
    CHECK(*ret_child >= 0);
    if (*ret_child == 0) {
        pid_t orphan = fork();
        if (orphan == 0) {
            while (getppid() != 1 && !is_there(1)) {
                /* never: there is always one */
            }
            _exit(43);
        }
        (void)!write(ends[1], &orphan, sizeof orphan);
        _exit(42);
    }
    CHECK_EQ_INT(read(ends[0], ret_orphan, sizeof *ret_orphan), sizeof *ret_orphan);
    CHECK_EQ_INT(close(ends[0]), 0);
    CHECK_EQ_INT(close(ends[1]), 0);
    while (!is_zombie_of_ours(*ret_child) || !is_zombie_of_ours(*ret_orphan)) {
        (void)poll(NULL, 0, 1);
    }
}

/* A number that a program has written as the first line of its output. */
static pid_t read_id(struct tree_rig *rig)
{
    char text[32] = "";
    size_t used = 0;

    while (memchr(text, '\n', used) == NULL) {
        tree_await_fd(rig->spawn.output_fd);
        CHECK_EQ_INT(read(rig->spawn.output_fd, text + used, 1), 1);
        used += 1;
        CHECK(used < sizeof text);
    }
    return (pid_t)strtol(text, NULL, 10);
}

/* In a process to which orphans come: ours are collected, the host's are not. */
static void check_collects_only_ours(tr_tree_mode mode)
{
    struct sigaction action;
    struct tree_rig rig;
    pid_t child;
    pid_t orphan;
    int status;

    CHECK(signal(SIGCHLD, on_child) != SIG_ERR);
    tree_open(&rig, mode);
    CHECK(rig.trees->is_reaper);
    start_own(&child, &orphan);
    /* It ends by itself, in a session of its own, with nothing left to know it by. */
    tree_run(&rig, "env -i setsid /bin/sh -c 'echo $$; exec 1>&- 2>&-' & wait",
             TR_PROCESS_LIFETIME_TASK);
    pid_t lost = read_id(&rig);
    CHECK_EQ_INT(tree_finish(&rig), 0);
    while (is_there(lost)) {
        tr__trees_reap(rig.trees);
    }
    /* And one that outlives its leader, and is killed. */
    tree_run(&rig, "env -i setsid sh -c 'echo $$; printf r; exec sleep %s' &",
             TR_PROCESS_LIFETIME_TASK);
    lost = read_id(&rig);
    tree_await_ready(&rig, 1);
    CHECK_EQ_INT(tree_finish(&rig), 1);
    while (is_there(lost)) {
        tr__trees_reap(rig.trees);
    }
    tree_close(&rig);
    CHECK_EQ_INT(told, 1);
    CHECK_EQ_INT(sigaction(SIGCHLD, NULL, &action), 0);
    CHECK(action.sa_handler == on_child);
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK_EQ_INT(WEXITSTATUS(status), 42);
    CHECK_EQ_INT(waitpid(orphan, &status, 0), orphan);
    CHECK_EQ_INT(WEXITSTATUS(status), 43);
    CHECK_EQ_INT(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_EQ_INT(errno, ECHILD);
}

CASE(tree_host, subreaper_collects_only_ours)
{
    int is_subreaper = 1;

    check_collects_only_ours(TR_TREE_SWEEP);
    CHECK_EQ_INT(prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper, 0, 0, 0), 0);
    CHECK_EQ_INT(is_subreaper, 0); /* as it was */
}

CASE(tree_host, host_that_is_a_subreaper_has_leaves_collected)
{
    int is_subreaper = 0;

    CHECK_EQ_INT(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    check_collects_only_ours(TR_TREE_CGROUP);
    CHECK_EQ_INT(prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper, 0, 0, 0), 0);
    CHECK_EQ_INT(is_subreaper, 1); /* the host's own wish */
}

/* Runs a check in a process of its own. */
static void in_child(void (*check)(void))
{
    int status;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        check();
        _exit(0);
    }
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK_EQ_INT(status, 0);
}

static void check_as_first(void)
{
    CHECK_EQ_INT(getpid(), 1);
    CHECK_EQ_INT(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK_EQ_INT(mount("proc", "/proc", "proc", 0, NULL), 0);
    check_collects_only_ours(TR_TREE_GROUP);
    check_collects_only_ours(TR_TREE_SWEEP);
    struct tr__probe probe;
    memset(&probe, 0, sizeof probe);
    tr__probe_cgroup(&probe);
    if (probe.cgroup_path[0] != '\0') {
        check_collects_only_ours(TR_TREE_CGROUP);
    }
}

CASE(tree_host, first_process_collects_only_ours)
{
    if (geteuid() != 0 || unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) {
        SKIP("needs root for a namespace of process ids");
    }
    in_child(check_as_first);
}

/* ---- an ordinary user ---- */

static void become_nobody(void)
{
    CHECK_EQ_INT(setgroups(0, NULL), 0);
    CHECK_EQ_INT(setresgid(NOBODY, NOBODY, NOBODY), 0);
    CHECK_EQ_INT(setresuid(NOBODY, NOBODY, NOBODY), 0);
}

static void check_as_nobody(void)
{
    struct tree_rig rig;
    struct tr__trees_config config = {.trees_max = 4};

    become_nobody();
    memset(&rig, 0, sizeof rig);
    CHECK_EQ_INT(tr__trees_open(&rig.trees, &config), 0);
    CHECK_EQ_INT(tr__trees_mode(rig.trees), TR_TREE_GROUP); /* nothing is delegated to it */
    tree_close(&rig);
    tree_check_escapes(TR_TREE_GROUP);
    tree_check_escapes(TR_TREE_SWEEP);
    config.cgroup_path = "/sys/fs";
    CHECK_EQ_INT(tr__trees_open(&rig.trees, &config), TR_EINVAL);
    config.cgroup_path = "/no/such/place";
    CHECK_EQ_INT(tr__trees_open(&rig.trees, &config), -ENOENT);
}

CASE(tree_host, nobody_has_groups_and_sweep)
{
    if (geteuid() != 0) {
        SKIP("needs root, to become nobody");
    }
    in_child(check_as_nobody);
}

static void write_to(const char *folder, const char *file, const char *text)
{
    char path[TR__PROBE_PATH_BYTES + 64];

    (void)snprintf(path, sizeof path, "%s/%s", folder, file);
    CHECK_EQ_INT(tr__tree_write(AT_FDCWD, path, text), 0);
}

static void check_delegated(void)
{
    become_nobody();
    tree_check_escapes(TR_TREE_CGROUP);
}

CASE(tree_host, nobody_has_leaves_in_a_delegated_subtree)
{
    static const char *const given[] = {"", "cgroup.procs", "cgroup.subtree_control",
                                        "cgroup.threads"};
    char folder[TR__PROBE_PATH_BYTES + 32];
    char path[TR__PROBE_PATH_BYTES + 64];
    char number[16];
    struct tr__probe probe;

    memset(&probe, 0, sizeof probe);
    tr__probe_cgroup(&probe);
    if (geteuid() != 0 || probe.cgroup_path[0] == '\0') {
        SKIP("needs root and a writable cgroup v2 subtree, to delegate a part of it");
    }
    (void)snprintf(folder, sizeof folder, "%s/test-%d", probe.cgroup_path, (int)getpid());
    CHECK_EQ_INT(mkdir(folder, 0755), 0);
    for (size_t index = 0; index < sizeof given / sizeof *given; index++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, given[index]);
        CHECK_EQ_INT(chown(path, NOBODY, NOBODY), 0);
    }
    (void)snprintf(number, sizeof number, "%d", (int)getpid());
    write_to(folder, "cgroup.procs", number); /* as systemd does for a unit with Delegate= */
    in_child(check_delegated);
    write_to(probe.cgroup_path, "cgroup.procs", number);
    CHECK_EQ_INT(rmdir(folder), 0); /* and nothing was left in it */
}

/* ---- what nobody collects ---- */

static void check_lost(tr_tree_mode mode, const char *line)
{
    struct tree_rig rig;

    tree_open(&rig, mode);
    tree_run(&rig, line, TR_PROCESS_LIFETIME_TASK);
    tree_await_ready(&rig, 1);
    CHECK(tree_find(rig.token) > 0);
    CHECK_EQ_INT(close(rig.spawn.process_fd), 0); /* its owner has forgotten it */
    tree_close(&rig);
    while (tree_find(rig.token) > 0) {
        (void)poll(NULL, 0, 1);
    }
    (void)waitpid(rig.spawn.pid, NULL, 0); /* a reaper has collected it */
    CHECK_EQ_INT(close(rig.spawn.output_fd), 0);
}

CASE(tree_host, close_ends_what_nobody_has_collected)
{
    static const char *const group = "nohup 2>/dev/null sh -c 'printf r; exec sleep %s' & sleep 60";
    static const char *const session = "setsid sh -c 'printf r; exec sleep %s' & sleep 60";

    check_lost(TR_TREE_GROUP, group);
    check_lost(TR_TREE_SWEEP, session);
    check_lost(TR_TREE_CGROUP, session); /* or skips */
}

/* ---- want of memory ---- */

CASE(tree_host, survives_failing_allocations)
{
    struct tr__trees_config config = {.trees_max = 4};
    struct tr__trees *trees = NULL;
    struct tr__tree *tree = NULL;

    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr__trees_open(&trees, &config), TR_ENOMEM);
    tr__memory_fail_after(-1);
    CHECK_EQ_INT(tr__trees_open(&trees, &config), 0);
    tr__memory_fail_after(1);
    CHECK_EQ_INT(tr__tree_open(trees, NULL, TR_PROCESS_LIFETIME_TASK, TR__TREE_ANYWHERE, &tree),
                 TR_ENOMEM);
    tr__memory_fail_after(-1);
    CHECK_EQ_INT(tr__tree_open(trees, NULL, TR_PROCESS_LIFETIME_TASK, TR__TREE_ANYWHERE, &tree), 0);
    tr__tree_close(tree); /* nothing was started */
    for (long nth = 1; nth <= 3; nth++) {
        struct tr__spawn spawn = {.shell = "true", .trees = trees, .merge_error = true};
        tr__memory_fail_after(nth);
        int error = tr__spawn_now(&spawn);
        tr__memory_fail_after(-1);
        if (error == 0) {
            struct tree_rig rig = {.trees = trees, .spawn = spawn};
            CHECK_EQ_INT(tree_finish(&rig), 0);
        } else {
            CHECK_EQ_INT(error, TR_ENOMEM);
            CHECK_EQ_PTR(spawn.tree, NULL);
        }
    }
    tr__trees_close(trees);
    CHECK_EQ_INT(tr__tree_open(trees, NULL, TR_PROCESS_LIFETIME_TASK, TR__TREE_ANYWHERE, &tree),
                 TR_ECANCELED);
    tr__trees_free(trees);
}
