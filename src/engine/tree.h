/*
 * tree: everything one program has started, held together so that all of it can be ended.
 *
 * Three ways (tr_tree_mode), the best one that the machine and the configuration allow: a cgroup v2
 * leaf per program; the process group plus a search for descendants that carry the tree's mark; the
 * process group alone. struct tr__trees belongs to the engine: it knows the way, the pool of
 * leaves, and the trees that are kept beyond their task.
 *
 * A tree belongs to whoever spawned (tr_child.owner) until tr__tree_keep or tr__tree_close takes
 * it. One thread at a time may use it, but tr__tree_signal any. What may block says so.
 *
 *   spawner:  open ─ directory, mark ─ (clone) ─ started         (failed: close)
 *   tool:     leader has exited ─┬─ sweep until 0 ─ usage ─ collect the leader ─ close
 *                                └─ count = survivors ─ usage ─ keep ─ collect the leader
 */
#ifndef TR__ENGINE_TREE_H
#define TR__ENGINE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <toolring/process.h>

struct tr__tree;
struct tr__trees;

struct tr__tree_limits {
    uint64_t memory_bytes_max; /* 0: none */
    uint32_t cpu_percent_max;  /* 0: none */
    uint32_t processes_max;    /* 0: none */
};

/* Where a tree is made, each if the one before will not do. */
enum tr__tree_place {
    TR__TREE_ANYWHERE, /* a leaf from the pool, else a new one, else none */
    TR__TREE_NEW_LEAF, /* not from the pool */
    TR__TREE_NO_LEAF,
};

struct tr__tree_usage {
    bool there; /* the rest is filled in (cgroup) */
    bool out_of_memory;
    uint64_t user_ns;
    uint64_t system_ns;
    uint64_t memory_peak_bytes; /* 0: unknown */
};

struct tr__trees_config {
    bool no_cgroup;
    bool sweep;              /* become a subreaper; sweep where there is no cgroup */
    const char *cgroup_path; /* a subtree to use; NULL: find one. Borrowed during open */
    uint32_t trees_max;      /* bound of the trees that are kept at once */
    void *context;           /* tr__tree_context, and of the function below */
    bool (*is_session_open)(void *context, uint64_t session); /* NULL: always */
    char *message;       /* receives why a configured path cannot be used; may be NULL */
    size_t message_size; /* room in it */
};

/* ---- tree.c: all of them ---- */

/* Host thread. Finds the way, ends and removes what a dead host left behind. 0, TR_ENOMEM, or (a
 * configured path only) what the system says of it. */
int tr__trees_open(struct tr__trees **ret_trees, const struct tr__trees_config *config);
/* When nobody spawns or closes a tree any more: ends what was kept and what nobody has collected,
 * removes the leaves; the numbers can still be read. Trees that are in use are gone then. Blocks
 * until all of it is gone, but for a mere group and for what the kernel cannot end. NULL is
 * allowed. */
void tr__trees_close(struct tr__trees *trees);
/* After close. NULL is allowed. */
void tr__trees_free(struct tr__trees *trees);

/* Host thread, tr_session_close, after the session was marked closed and outside any lane's lock:
 * ends what was kept for it. */
void tr__trees_end_session(struct tr__trees *trees, uint64_t session);

/* Collects orphans of our trees that were handed to this process as subreaper or PID 1, and nobody
 * else's. Any thread; without effect where this process is neither. Called by close and keep. */
void tr__trees_reap(struct tr__trees *trees);

/* For tr_stats (tree_pool.c). */
tr_tree_mode tr__trees_mode(const struct tr__trees *trees);
uint32_t tr__trees_kept(const struct tr__trees *trees);  /* now */
uint64_t tr__trees_swept(const struct tr__trees *trees); /* processes, ever */

/* ---- tree.c: one ---- */

/* Spawner thread, before the clone. A daemon is outside any leaf, so that the manager's end does
 * not meet it. What the tree enforces is set to 0 in `limits` (may be NULL); the rest is the
 * child's to set. May block (mkdir). 0, TR_ENOMEM, TR_EMFILE, TR_ENFILE, TR_ELIMIT too many kept
 * trees, TR_ENOSYS a limit that needs a cgroup. */
int tr__tree_open(struct tr__trees *trees, struct tr__tree_limits *limits,
                  tr_process_lifetime lifetime, enum tr__tree_place place,
                  struct tr__tree **ret_tree);
/* The leaf, to clone into; close-on-exec, from open to started; -1: none. */
int tr__tree_directory(const struct tr__tree *tree);
/* The mark for the child: "TOOLRING_TREE=…" for its environment, or NULL where nobody will look
 * for it; and the number for its RLIMIT_LOCKS, or 0. */
const char *tr__tree_mark(const struct tr__tree *tree);
uint64_t tr__tree_mark_number(const struct tr__tree *tree);
/* Spawner thread, after the clone: the leader. The pidfd is borrowed: it is used until keep or
 * close has taken the tree, so it must be open until then. */
void tr__tree_started(struct tr__tree *tree, pid_t leader, int process_fd);

/* Spawner thread, before a close without start: nothing can be born in its leaf, which no other
 * tree gets. */
void tr__tree_spend(struct tr__tree *tree);

void *tr__tree_context(const struct tr__tree *tree);
tr_tree_mode tr__tree_mode(const struct tr__tree *tree);

/* Any thread: a signal for all of the tree, as far as it can be told apart at once (leaf members;
 * else the group). Never blocks for long. 0, -ESRCH nobody there, or another negated errno. */
int tr__tree_signal(struct tr__tree *tree, int signal_number);

/* Any thread: SIGKILL to all of it. Returns at once (a sweep looks through /proc); the processes
 * die in their own time. */
void tr__tree_kill(struct tr__tree *tree);

/* Tool thread, after the leader's exit was seen: how many others of the tree live now. With a
 * group alone this is 0 or 1 (somebody), and 0 before the leader was collected, which cannot be
 * told from its members. May block (a sweep looks through /proc). */
uint32_t tr__tree_count(struct tr__tree *tree);

/* Tool thread, after the leader's exit was seen: kills what lives of the tree. Returns how many
 * that were, like tr__tree_count. They are in the numbers as swept, each once. */
uint32_t tr__tree_sweep(struct tr__tree *tree);

/* A descriptor that polls POLLPRI after tr__tree_count or _sweep, when that may have changed to 0.
 * Made on demand, closed with the tree; -1 where there is none (then look again after a while). */
int tr__tree_empty_fd(struct tr__tree *tree);

void tr__tree_usage(struct tr__tree *tree, struct tr__tree_usage *ret_usage);

/* Leaves the living rest to the session or manager (TR_PROCESS_LIFETIME_…; daemons: to itself).
 * The leader has exited; its pidfd is still open. Where its session is closed already, the rest is
 * killed. Takes the tree. */
void tr__tree_keep(struct tr__tree *tree, uint64_t session, tr_process_lifetime lifetime);
/* Kills what lives, unless it is a daemon. Takes the tree, empty or not: the leaf goes back to the
 * pool, or is removed once it is empty. NULL is allowed. */
void tr__tree_close(struct tr__tree *tree);

#endif
