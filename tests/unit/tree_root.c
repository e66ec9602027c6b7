/*
 * Tests of engine/tree_root: another host, which does not see our process, takes the directory that
 * was just made for a dead one's.
 */
#include "trace.h"

#include <sys/file.h>
#include <sys/stat.h>

/* The manager's directory in the test's folder, in one piece. False: there is none. */
static bool find_directory(const struct trace *trace, char *path, size_t size)
{
    DIR *folder = opendir(trace->folder);
    bool found = false;
    const struct dirent *entry;

    CHECK(folder != NULL);
    while ((entry = readdir(folder)) != NULL) {
        if (strncmp(entry->d_name, "toolring-", 9) == 0) {
            (void)snprintf(path, size, "%s/%s", trace->folder, entry->d_name);
            found = true;
        }
    }
    (void)closedir(folder);
    return found;
}

static bool has_ended(const struct trace *trace, const struct __ptrace_syscall_info *call,
                      uint64_t number)
{
    return call->op == PTRACE_SYSCALL_INFO_EXIT && trace->number == number;
}

static bool has_made(const struct trace *trace, const struct __ptrace_syscall_info *call)
{
#if defined(SYS_mkdir)
    return has_ended(trace, call, SYS_mkdir) || has_ended(trace, call, SYS_mkdirat);
#else
    return has_ended(trace, call, SYS_mkdirat);
#endif
}

/* Whenever it has made one, and as often as is left, it is removed. */
static void remove_made(struct trace *trace, const struct __ptrace_syscall_info *call)
{
    char path[TR__PROBE_PATH_BYTES + 320];

    if (has_made(trace, call) && trace->left > 0 && find_directory(trace, path, sizeof path)) {
        CHECK_EQ_INT(rmdir(path), 0);
        trace->left -= 1;
    }
}

static void forget_lock(struct trace *trace)
{
    if (trace->fd >= 0) {
        CHECK_EQ_INT(close(trace->fd), 0);
        trace->fd = -1;
    }
}

/* It is locked when it was made, and removed when its owner has had its last look at it. */
static void lock_made(struct trace *trace, const struct __ptrace_syscall_info *call)
{
    char path[TR__PROBE_PATH_BYTES + 320];

    if (has_made(trace, call)) {
        forget_lock(trace); /* that one has gone */
        if (trace->left > 0 && find_directory(trace, path, sizeof path)) {
            trace->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            CHECK(trace->fd >= 0);
            CHECK_EQ_INT(flock(trace->fd, LOCK_EX | LOCK_NB), 0);
            trace->left -= 1;
        }
    } else if (has_ended(trace, call, SYS_faccessat2) && trace->fd >= 0) {
        CHECK(find_directory(trace, path, sizeof path));
        CHECK_EQ_INT(rmdir(path), 0);
        forget_lock(trace);
    }
}

static void run_in_folder(const struct trace *trace)
{
    struct tr__trees_config config = {.trees_max = 4, .cgroup_path = trace->folder};
    struct tree_rig rig;

    memset(&rig, 0, sizeof rig);
    CHECK_EQ_INT(tr__trees_open(&rig.trees, &config), 0);
    CHECK_EQ_INT(tr__trees_mode(rig.trees), TR_TREE_CGROUP);
    tree_run(&rig, "true", TR_PROCESS_LIFETIME_TASK);
    CHECK_EQ_INT(tr__tree_mode(rig.spawn.tree), TR_TREE_CGROUP);
    CHECK_EQ_INT(tree_finish(&rig), 0);
    tree_close(&rig);
}

static void fail_in_folder(const struct trace *trace)
{
    struct tr__trees_config config = {.trees_max = 4, .cgroup_path = trace->folder};
    struct tr__trees *trees = NULL;

    CHECK_EQ_INT(tr__trees_open(&trees, &config), -ENOENT);
}

static void check_in_folder(struct trace *trace, void (*check)(const struct trace *trace))
{
    struct tr__probe probe;

    need_leaves();
    memset(&probe, 0, sizeof probe);
    tr__probe_cgroup(&probe);
    (void)snprintf(trace->folder, sizeof trace->folder, "%s/test-%d", probe.cgroup_path,
                   (int)getpid());
    CHECK_EQ_INT(mkdir(trace->folder, 0755), 0);
    run_traced(trace, check);
    CHECK_EQ_INT(rmdir(trace->folder), 0); /* nothing was left in it */
}

CASE(tree_root, directory_that_is_removed_at_once_is_made_again)
{
    struct trace trace = {.see = remove_made, .left = 3};

    check_in_folder(&trace, run_in_folder);
    CHECK_EQ_INT(trace.left, 0);
}

CASE(tree_root, directory_that_is_removed_for_ever_is_given_up)
{
    struct trace trace = {.see = remove_made, .left = 1000};

    check_in_folder(&trace, fail_in_folder);
    CHECK(trace.left > 980);
}

CASE(tree_root, directory_that_another_has_locked_is_made_again)
{
    struct trace trace = {.see = lock_made, .left = 2, .fd = -1};

    check_in_folder(&trace, run_in_folder);
    forget_lock(&trace);
    CHECK_EQ_INT(trace.left, 0);
}
