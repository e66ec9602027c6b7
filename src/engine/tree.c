/*
 * tree.c: the life of a tree and of all of them, whatever holds them together.
 *
 *                     ┌─────────── put: leaf empty ───────────┐
 *     (none) ─open─▶ used ─close─▶ dying ─leaf empty─▶ idle ─open─┘
 *                     │              ▲
 *                     └─keep─▶ kept ─┘ end of session or manager, or nobody left
 *
 * Owner: a tree in use is its spawner's, then the tool's. Called by spawner, tools, engine, host;
 * calls tree_root, tree_pool, tree_leaf, tree_sweep.
 *
 *  1. The group is signalled through the leader's pidfd, which stays with its processes whatever
 *     becomes of the number (Linux 6.9); by number only while the leader was not collected.
 *  2. In a leaf, the group is signalled too: a program that its service manager has moved to
 *     another cgroup (su does that) is still in it.
 *  3. Whoever may outlive its task carries a mark where there is no leaf, so that it is found again
 *     whatever group it has gone to: lifetimes beyond the task, and all under sweep and reaper.
 *  4. A tree whose leaf cannot be made is held by what is next best, and says so in its mode. Only
 *     the want of descriptors or memory fails it.
 *
 * Cost with a leaf from the pool: one open at the spawn, two reads at the end.
 * Rejected: a leaf for daemons outside the manager's directory (nobody would ever remove it).
 */
#include "engine/tree_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <toolring/error.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/memory.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef PIDFD_SIGNAL_PROCESS_GROUP
#define PIDFD_SIGNAL_PROCESS_GROUP (1U << 2) /* Linux 6.9 */
#endif

static tr__atomic_u32 managers;         /* numbers given out; any thread */
static tr__atomic_u32 groups_by_number; /* 1: Linux before 6.9 */
static tr__atomic_u32 sweepers;         /* managers that have this process be a subreaper */

/* ---- the group ---- */

/* Whether the leader's number is still its own: it was not collected. */
static bool is_pinned(const struct tr__tree *tree)
{
    siginfo_t info;

    return waitid((idtype_t)P_PIDFD, (id_t)tree->process_fd, &info, WEXITED | WNOHANG | WNOWAIT) ==
           0;
}

static int signal_group(const struct tr__tree *tree, int signal_number)
{
    if (tree->leader == 0 || tree->process_fd < 0) {
        return -ESRCH;
    }
    if (syscall(SYS_pidfd_send_signal, tree->process_fd, signal_number, NULL,
                PIDFD_SIGNAL_PROCESS_GROUP) == 0) {
        return 0;
    }
    if (errno != EINVAL) {
        return -errno;
    }
    tr__store_relaxed(&groups_by_number, 1u); /* a fact about the kernel, whoever finds it */
    if (tree->kept || !is_pinned(tree)) {
        return -ESRCH; /* before Linux 6.9, and the number may be another's */
    }
    return kill(-tree->leader, signal_number) == 0 ? 0 : -errno;
}

/* ---- all of them ---- */

/* Becomes a subreaper, and notes whether orphans come to us. */
static void look_at_reaper(struct tr__trees *trees)
{
    int is_subreaper = 0;

    if (trees->mode == TR_TREE_SWEEP && trees->host != 1) {
        trees->made_reaper = true;
        if (tr__fetch_add_acq_rel(&sweepers, 1u) == 0) { /* the first sets it, the last clears it */
            (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* read back below */
        }
    }
    (void)prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper, 0, 0, 0); /* 0 where it does not exist */
    trees->is_reaper = is_subreaper != 0 || trees->host == 1;
}

/* The best way there is. */
static int choose(struct tr__trees *trees)
{
    trees->mode = TR_TREE_GROUP;
    int error = trees->config.no_cgroup ? -ENOENT : tr__tree_root_open(trees);
    if (error == 0) {
        trees->mode = TR_TREE_CGROUP;
        (void)tr__tree_root_control(trees, TR__TREE_MEMORY); /* for the peak; limits ask on */
    } else if (trees->config.cgroup_path != NULL) {
        return error;
    } else if (trees->config.sweep) {
        trees->mode = TR_TREE_SWEEP;
    }
    look_at_reaper(trees);
    return 0;
}

int tr__trees_open(struct tr__trees **ret_trees, const struct tr__trees_config *config)
{
    struct tr__trees *trees = tr__memory_take_zero(sizeof *trees);
    struct tr__tree_stat stat;
    struct rlimit locks;

    if (trees == NULL) {
        return TR_ENOMEM;
    }
    trees->config = *config;
    trees->host = getpid();
    trees->host_start = tr__tree_stat(trees->host, &stat) ? stat.start : 0;
    trees->number = tr__fetch_add_relaxed(&managers, 1u) + 1; /* only to be different */
    trees->is_nested = getrlimit(RLIMIT_LOCKS, &locks) == 0 && locks.rlim_cur != RLIM_INFINITY;
    trees->directory_fd = -1;
    trees->spare_fd = -1;
    for (unsigned index = 0; index < TR__TREE_SPARES; index++) {
        trees->walk_fds[index] = -1;
    }
    (void)pthread_mutex_init(&trees->mutex, NULL); /* a default mutex: cannot fail on Linux */
    int error = choose(trees);
    trees->config.cgroup_path = NULL; /* borrowed until here */
    trees->config.message = NULL;
    if (error != 0) {
        tr__trees_free(trees);
        return error;
    }
    *ret_trees = trees;
    return 0;
}

void tr__trees_close(struct tr__trees *trees)
{
    struct tr__tree *tree;

    if (trees == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&trees->mutex);
    tr__store_release(&trees->ended, 1u); /* pairs with open; nothing is kept from here on */
    (void)pthread_mutex_unlock(&trees->mutex);
    while ((tree = tr__tree_release(trees, NULL)) != NULL) {
        tr__tree_close(tree);
    }
    tr__trees_end_used(trees);
    tr__tree_root_close(trees);
    tr__trees_reap(trees);
    (void)pthread_mutex_lock(&trees->mutex);
    tr__tree_spares_close(trees);
    (void)pthread_mutex_unlock(&trees->mutex);
    while ((tree = tr__trees_forget(trees)) != NULL) {
        tr__leaf_close_fds(tree, true);
        tr__memory_give(tree); /* its leaf has gone with the directory */
    }
    bool made_reaper = trees->made_reaper;
    trees->made_reaper = false;
    if (made_reaper && tr__fetch_sub_acq_rel(&sweepers, 1u) == 1) {
        (void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); /* as it was */
    }
}

void tr__trees_free(struct tr__trees *trees)
{
    if (trees != NULL) {
        (void)pthread_mutex_destroy(&trees->mutex); /* nobody uses it any more */
        tr__memory_give(trees);
    }
}

void tr__trees_end_session(struct tr__trees *trees, uint64_t session)
{
    struct tr__tree *tree;

    while ((tree = tr__tree_release(trees, &session)) != NULL) {
        tr__tree_close(tree);
    }
}

/* ---- one: its beginning ---- */

/* Whether it must be found again by what it carries. */
static bool is_marked(const struct tr__trees *trees, tr_process_lifetime lifetime)
{
    return trees->mode == TR_TREE_SWEEP || trees->is_reaper || lifetime != TR_PROCESS_LIFETIME_TASK;
}

/* Gives a tree its leaf. 0 or a negative error; then it has none. */
static int open_leaf(struct tr__tree *tree, struct tr__tree_limits *limits)
{
    const struct tr__tree_limits none = {0, 0, 0};
    const struct tr__tree_limits wanted = limits != NULL ? *limits : none;
    int error = 0;

    if (tree->leaf == 0) {
        error = tr__leaf_make(tree);
    }
    if (error == 0) {
        error = tr__leaf_open(tree, limits);
    }
    if (error != 0) {
        tr__leaf_close_fds(tree, true);
        (void)tr__leaf_remove(tree); /* empty, or not there */
        tree->leaf = 0;
        if (limits != NULL) {
            *limits = wanted; /* nothing enforces them now */
        }
        return error;
    }
    tree->mode = TR_TREE_CGROUP;
    return 0;
}

static bool is_want(int error)
{
    return error == TR_EMFILE || error == TR_ENFILE || error == TR_ENOMEM;
}

/* The rest of tr__tree_open. */
static int prepare(struct tr__tree *tree, struct tr__tree_limits *limits, bool leaf)
{
    struct tr__trees *trees = tree->trees;
    bool daemon = tree->lifetime == TR_PROCESS_LIFETIME_DAEMON;

    tree->mode = TR_TREE_GROUP;
    if (leaf) {
        int error = open_leaf(tree, limits);
        if (is_want(error)) {
            return error;
        }
    }
    if (limits != NULL && limits->cpu_percent_max != 0) {
        return TR_ENOSYS; /* no limit of a single process comes near it */
    }
    if (tree->mode == TR_TREE_GROUP && is_marked(trees, tree->lifetime)) {
        (void)pthread_mutex_lock(&trees->mutex);
        tr__tree_mark_make(tree);
        (void)pthread_mutex_unlock(&trees->mutex);
        tree->mode = trees->mode == TR_TREE_SWEEP && !daemon ? TR_TREE_SWEEP : TR_TREE_GROUP;
    }
    return 0;
}

int tr__tree_open(struct tr__trees *trees, struct tr__tree_limits *limits,
                  tr_process_lifetime lifetime, enum tr__tree_place place,
                  struct tr__tree **ret_tree)
{
    bool leaf = trees->mode == TR_TREE_CGROUP && lifetime != TR_PROCESS_LIFETIME_DAEMON &&
                place != TR__TREE_NO_LEAF;

    if (tr__load_acquire(&trees->ended) != 0) { /* pairs with close; a late one dies with it */
        return TR_ECANCELED;
    }
    tr__trees_look_at_dying(trees);
    if (lifetime != TR_PROCESS_LIFETIME_TASK) {
        tr__trees_look_at_kept(trees);
        /* relaxed: programs that end at the same time may exceed the bound by as many */
        if (tr__load_relaxed(&trees->kept_count) >= trees->config.trees_max) {
            return TR_ELIMIT;
        }
    }
    struct tr__tree *tree = tr__tree_take(trees, leaf && place == TR__TREE_ANYWHERE);
    if (tree == NULL) {
        return TR_ENOMEM;
    }
    tree->lifetime = lifetime;
    int error = prepare(tree, limits, leaf);
    if (error != 0) {
        tree->empty = true;
        tr__tree_put(tree);
        return error;
    }
    tr__tree_use(tree);
    *ret_tree = tree;
    return 0;
}

int tr__tree_directory(const struct tr__tree *tree)
{
    return tree->directory_fd;
}

const char *tr__tree_mark(const struct tr__tree *tree)
{
    return tree->mark != 0 ? tree->mark_text : NULL;
}

uint64_t tr__tree_mark_number(const struct tr__tree *tree)
{
    return tree->trees->is_nested ? 0 : tree->mark;
}

void tr__tree_started(struct tr__tree *tree, pid_t leader, int process_fd)
{
    struct tr__trees *trees = tree->trees;

    TR_ASSERT(leader > 0 && process_fd >= 0);
    if (tree->directory_fd >= 0 && !tree->hot) {
        (void)close(tree->directory_fd); /* nothing was written */
        tree->directory_fd = -1;
    }
    tree->process_fd = process_fd;
    (void)pthread_mutex_lock(&trees->mutex);
    tree->leader = leader; /* who reaps looks at it */
    trees->starting -= 1;
    (void)pthread_mutex_unlock(&trees->mutex);
}

/* ---- one: its use ---- */

void *tr__tree_context(const struct tr__tree *tree)
{
    return tree->trees->config.context;
}

tr_tree_mode tr__tree_mode(const struct tr__tree *tree)
{
    return tree->mode;
}

int tr__tree_signal(struct tr__tree *tree, int signal_number)
{
    int group = signal_group(tree, signal_number); /* at once: mostly that is all of it */

    if (tree->mode == TR_TREE_CGROUP && tr__leaf_signal(tree, signal_number, group == 0) == 0) {
        return 0;
    }
    return group;
}

/* Signals a mere group; returns how many it has beside the leader, as far as that can be told. */
static uint32_t count_group(struct tr__tree *tree, int signal_number)
{
    if (is_pinned(tree)) {
        /* The leader is a member, dead or not: the rest is counted, and killed, once it was
         * collected; where the group is lost by then, killed now. */
        (void)signal_group(tree, 0); /* finds out which */
        if (tr__load_relaxed(&groups_by_number) != 0) {
            (void)signal_group(tree, signal_number);
        }
        return 0;
    }
    if (signal_group(tree, 0) == -ESRCH) {
        tree->empty = true;
        return 0;
    }
    uint32_t count = tr__tree_group_count(tree->leader); /* no zombies */
    if (signal_number != 0) {
        (void)signal_group(tree, signal_number);
    }
    return count;
}

/* Kills; returns how many others than the leader were found by their mark. */
static uint32_t kill_all(struct tr__tree *tree)
{
    uint32_t count = 0;

    if (tree->mode == TR_TREE_CGROUP) {
        (void)tr__leaf_kill(tree); /* whoever is left is counted again */
    } else if (tree->mark != 0) {
        count = tr__tree_marked_kill(tree);
    }
    (void)signal_group(tree, SIGKILL); /* it may be empty, or no longer ours to signal */
    return count;
}

void tr__tree_kill(struct tr__tree *tree)
{
    (void)kill_all(tree);
}

uint32_t tr__tree_count(struct tr__tree *tree)
{
    if (tree->mode == TR_TREE_CGROUP) {
        uint32_t count = tr__leaf_count(tree);
        tree->empty = count == 0;
        return count;
    }
    if (tree->mark != 0) {
        return tr__tree_marked_count(tree);
    }
    return count_group(tree, 0);
}

uint32_t tr__tree_sweep(struct tr__tree *tree)
{
    uint32_t count = 0;

    if (tree->mode == TR_TREE_CGROUP) {
        count = tr__tree_count(tree);
        if (count > 0) {
            (void)tr__leaf_kill(tree); /* whoever is left is counted again */
        }
        (void)signal_group(tree, SIGKILL); /* invariant 2 */
    } else {
        count = tree->mark != 0 ? kill_all(tree) : count_group(tree, SIGKILL);
        tree->empty = tree->empty || (tree->mark != 0 && count == 0);
    }
    if (!tree->told && count > 0) {
        tree->told = true;
        (void)tr__fetch_add_relaxed(&tree->trees->swept, (uint64_t)count); /* a number to show */
    }
    return count;
}

int tr__tree_empty_fd(struct tr__tree *tree)
{
    return tree->mode == TR_TREE_CGROUP ? tr__leaf_events(tree) : -1;
}

void tr__tree_usage(struct tr__tree *tree, struct tr__tree_usage *ret_usage)
{
    memset(ret_usage, 0, sizeof *ret_usage);
    if (tree->mode != TR_TREE_CGROUP) {
        return;
    }
    tr__leaf_measure(tree);
    ret_usage->there = true;
    ret_usage->out_of_memory = tree->memory_kills_end > tree->memory_kills;
    ret_usage->user_ns = (tree->user_us_end - tree->user_us) * TR__NS_PER_US;
    ret_usage->system_ns = (tree->system_us_end - tree->system_us) * TR__NS_PER_US;
    ret_usage->memory_peak_bytes = tr__leaf_peak(tree);
}

/* ---- one: its end ---- */

bool tr__tree_is_collected(const struct tr__tree *tree)
{
    return tree->process_fd < 0 || !is_pinned(tree);
}

void tr__tree_keep(struct tr__tree *tree, uint64_t session, tr_process_lifetime lifetime)
{
    struct tr__trees *trees = tree->trees;

    TR_ASSERT(tree->used && tree->leader > 0);
    tree->session = session;
    tree->lifetime = lifetime;
    if (lifetime == TR_PROCESS_LIFETIME_DAEMON && !trees->is_reaper) {
        tr__tree_close(tree);
        return;
    }
    tree->process_fd = fcntl(tree->process_fd, F_DUPFD_CLOEXEC, 3); /* without one: by its mark */
    tree->kept = true;
    if (lifetime == TR_PROCESS_LIFETIME_DAEMON) {
        (void)tr__tree_hold(tree, true); /* known as a leader until it is collected */
    } else if (!tr__tree_hold(tree, false)) {
        (void)tr__tree_sweep(tree);
        tree->lifetime = TR_PROCESS_LIFETIME_MANAGER; /* until somebody sees that it is empty */
        (void)tr__tree_hold(tree, true);
    }
    tr__trees_reap(trees);
}

void tr__tree_close(struct tr__tree *tree)
{
    if (tree == NULL) {
        return;
    }
    struct tr__trees *trees = tree->trees;
    if (tree->leader == 0) {
        tree->empty = true; /* nothing was ever started */
    } else if (tree->lifetime != TR_PROCESS_LIFETIME_DAEMON && !tree->empty) {
        (void)tr__tree_sweep(tree);
    }
    if (tree->used) {
        tr__tree_unuse(tree);
    }
    tr__tree_put(tree);
    tr__trees_reap(trees);
}
