/*
 * tree_parts.h: the insides of trees. For tree's own files.
 */
#ifndef TR__ENGINE_TREE_PARTS_H
#define TR__ENGINE_TREE_PARTS_H

#include <pthread.h>

#include "base/atomic.h"
#include "base/probe.h"
#include "engine/tree.h"

/* "toolring-<pid>-<start time>-<n>". */
#define TR__TREE_NAME_BYTES 64u
#define TR__TREE_MARK_NAME "TOOLRING_TREE"
/* The marks of the hosts around this one and our own; where theirs are longer, ours alone. */
#define TR__TREE_MARK_BYTES 320u
/* Idle leaves that are kept for the next trees: as many as bursts of commands are wide. */
#define TR__TREE_IDLE_MAX 64u
/* So many leaves keep their descriptors (three each) while they wait for the next tree: what a turn
 * runs at once. The others cost none. */
#define TR__TREE_HOT_MAX 8u
/* Up to so many trees at once, one more descriptor each measures the peak of their memory. */
#define TR__TREE_PEAKS_MAX 256u
/* Kept and dying trees that each new one looks at: more than it adds, so they do not pile up. */
#define TR__TREE_LOOKS 2u
/* Descriptors kept for a search when there are no others: the walk's and one process's. */
#define TR__TREE_SPARES 2u
/* How long close waits for killed processes; the kernel takes milliseconds, or for ever. */
#define TR__TREE_END_NS (UINT64_C(2) * 1000000000u)

/* Attempts at removing cgroups that a program has made in its leaf, when that is given back: some
 * milliseconds at most. The next trees go on with the rest. */
#define TR__TREE_REMOVALS_MAX 32u
/* The same for all that a manager leaves, a few seconds; the next host goes on with the rest. */
#define TR__TREE_REMOVALS_ROOT_MAX 65536u

/* Limits of a leaf, and the controllers they need. */
#define TR__TREE_MEMORY 1u
#define TR__TREE_CPU 2u
#define TR__TREE_PROCESSES 4u

struct tr__tree {
    struct tr__trees *trees;
    struct tr__tree *next;     /* in the list it is in */
    struct tr__tree *previous; /* in the list of those in use */
    tr_tree_mode mode;
    tr_process_lifetime lifetime;
    pid_t leader;     /* 0: not started */
    int process_fd;   /* the leader's; borrowed; once kept the tree's own, or -1 */
    int directory_fd; /* the leaf, from open to started; -1 */
    int events_fd;    /* its cgroup.events, on demand; -1 */
    int stat_fd;      /* its cpu.stat, if it is hot; -1 */
    int peak_fd;      /* its memory.peak, reset; -1 */
    uint32_t leaf;    /* number of its directory; 0: none */
    uint32_t limits;  /* TR__TREE_… that are set in the leaf */
    bool hot;         /* the leaf keeps its descriptors */
    bool fresh;       /* the leaf had no tree before */
    bool spent;       /* the leaf can have no other tree: see tree_leaf, invariant 6 */
    bool used;        /* in the list of those in use */
    bool kept;
    bool empty;    /* its leader has exited and nobody else was found */
    bool told;     /* its living rest was counted as swept */
    bool measured; /* the totals below are final */
    uint64_t mark; /* 0: none */
    uint64_t session;
    uint64_t user_us; /* of the leaf, before this tree, and … */
    uint64_t system_us;
    uint64_t memory_kills;
    uint64_t user_us_end; /* … with it */
    uint64_t system_us_end;
    uint64_t memory_kills_end;
    char mark_text[TR__TREE_MARK_BYTES];
};

struct tr__trees {
    struct tr__trees_config config;
    tr_tree_mode mode;
    pid_t host;
    uint64_t host_start; /* its start time, as /proc/<pid>/stat has it */
    uint32_t number;     /* of this manager in the process */
    bool is_reaper;      /* subreaper or PID 1: orphans are handed to us */
    bool made_reaper;    /* by us */
    bool is_nested;      /* we carry another host's mark: RLIMIT_LOCKS is not ours to set */
    int directory_fd;    /* the manager's directory, with a lock that says it lives; -1 */
    char name[TR__TREE_NAME_BYTES];    /* its name */
    char parent[TR__PROBE_PATH_BYTES]; /* where it is */
    tr__atomic_u64 swept;              /* any thread */
    tr__atomic_u32 kept_count;         /* the next four are written under the mutex, read without */
    tr__atomic_u32 used_count;         /* of the list */
    tr__atomic_u32 controllers;        /* TR__TREE_… that leaves have */
    tr__atomic_u32 ended;              /* tr__trees_close has begun */
    pthread_mutex_t mutex;             /* guards what follows */
    uint32_t controllers_tried;
    uint32_t leaves;    /* numbers given out */
    uint32_t marks;     /* likewise */
    uint32_t starting;  /* opened and not started: leaders nobody knows yet */
    uint32_t hot_count; /* of leaves */
    int spare_fd;       /* given up when a leaf must be killed and there is no descriptor; -1 */
    int walk_fds[TR__TREE_SPARES]; /* likewise, when marked processes must be found; -1 */
    uint32_t idle_count;           /* of the list */
    struct tr__tree *used;         /* in the hand of whoever spawned */
    struct tr__tree *idle;         /* nobody's, with an empty leaf */
    struct tr__tree *kept;         /* a session's or the manager's */
    struct tr__tree *dying;        /* killed, their leaf was not empty when last seen */
};

/* ---- tree_file.c: the kernel's text files ---- */

/* Reads the beginning of a file, zero-ended. Returns its length or a negative errno. */
int tr__tree_read(int directory_fd, const char *path, char *buffer, size_t size);
/* Writes a text in one piece. 0 or a negative errno. */
int tr__tree_write(int directory_fd, const char *path, const char *text);
/* The number after a key at the beginning of a line: "key 123". `otherwise` if there is none. */
uint64_t tr__tree_field(const char *text, const char *key, uint64_t otherwise);

struct tr__tree_stat {
    pid_t parent;
    pid_t group;
    pid_t session;
    char state;
    uint64_t start; /* in clock ticks since boot */
};

/* /proc/<pid>/stat. Whether there is such a process. */
bool tr__tree_stat(pid_t pid, struct tr__tree_stat *ret_stat);

/* A walk through process ids: /proc, or a cgroup.procs. */
struct tr__tree_walk {
    void *directory; /* DIR of /proc; NULL: a file */
    int file;
    size_t begin;
    size_t end;
    char buffer[1024];
};

bool tr__tree_walk_proc(struct tr__tree_walk *walk);
bool tr__tree_walk_file(struct tr__tree_walk *walk, int directory_fd, const char *path);
/* The next id; 0 at the end. */
pid_t tr__tree_walk_next(struct tr__tree_walk *walk);
void tr__tree_walk_done(struct tr__tree_walk *walk);

/* ---- tree_root.c: the manager's directory ---- */

/* Finds a subtree, cleans it of dead hosts', makes the directory. 0: trees->directory_fd is there;
 * -ENOENT: no subtree; what a configured one answers. */
int tr__tree_root_open(struct tr__trees *trees);
/* Ends everything in it, removes it. */
void tr__tree_root_close(struct tr__trees *trees);
/* Under the mutex: tries to have controllers in leaves. Returns those wanted that are there. */
uint32_t tr__tree_root_control(struct tr__trees *trees, uint32_t wanted);
/* SIGKILL to all below a directory of cgroups. 0 or a negative errno. */
int tr__tree_root_kill(int directory_fd);

/* ---- tree_remove.c ---- */

/* Removes a cgroup with all below it, as far as nobody is there. True: it is gone. */
bool tr__tree_remove(int directory_fd, const char *name, uint32_t attempts_max);

/* ---- tree_leaf.c ---- */

/* Gives a tree a leaf of its own. 0 or a negative errno. */
int tr__leaf_make(struct tr__tree *tree);
/* Opens it for the clone, sets and resets limits, notes what it has used. 0 or a negative errno;
 * TR_ENOSYS a limit that nothing can enforce. Enforced limits become 0. */
int tr__leaf_open(struct tr__tree *tree, struct tr__tree_limits *limits);
/* Closes what the tree needed; `all`: of a hot leaf too. */
void tr__leaf_close_fds(struct tr__tree *tree, bool all);
/* Whether its programs have made cgroups in it. */
bool tr__leaf_is_nested(const struct tr__tree *tree);
/* Removes it with those. False: somebody is still in it, or they are too many for once. */
bool tr__leaf_remove(struct tr__tree *tree);
int tr__leaf_signal(struct tr__tree *tree, int signal_number, bool but_group);
int tr__leaf_kill(struct tr__tree *tree);
uint32_t tr__leaf_count(struct tr__tree *tree);
/* Reads the totals into …_end. */
void tr__leaf_measure(struct tr__tree *tree);
uint64_t tr__leaf_peak(const struct tr__tree *tree);
int tr__leaf_events(struct tr__tree *tree);

/* ---- tree_pool.c: the lists ---- */

/* Into the list of those in use, and out of it. */
void tr__tree_use(struct tr__tree *tree);
void tr__tree_unuse(struct tr__tree *tree);
/* At the end: kills and puts away those still in use, but for daemons. */
void tr__trees_end_used(struct tr__trees *trees);
/* A tree, with a leaf from the pool if one is wanted and there. NULL: no memory. */
struct tr__tree *tr__tree_take(struct tr__trees *trees, bool leaf);
/* A tree that is in no list and whose processes have been ended: to the pool, away, or to the dying
 * if its leaf is not empty yet. */
void tr__tree_put(struct tr__tree *tree);
/* From those in use to the kept. False: nobody will end it (and not `always`); nothing changed. */
bool tr__tree_hold(struct tr__tree *tree, bool always);
/* A kept tree, out of the list: any, or one of a session. NULL: none. */
struct tr__tree *tr__tree_release(struct tr__trees *trees, const uint64_t *session);
/* An idle or dying one, out of its list. NULL: none. */
struct tr__tree *tr__trees_forget(struct tr__trees *trees);
/* Looks at some of the dying, of the kept, whether anybody is left. */
void tr__trees_look_at_dying(struct tr__trees *trees);
void tr__trees_look_at_kept(struct tr__trees *trees);

/* ---- tree.c ---- */

/* Whether a kept tree's leader was collected. */
bool tr__tree_is_collected(const struct tr__tree *tree);

/* ---- tree_sweep.c: by marks ---- */

/* Gives the tree its mark. Under the mutex. */
void tr__tree_mark_make(struct tr__tree *tree);
/* Closes the descriptors that marks have need of. Under the mutex. */
void tr__tree_spares_close(struct tr__trees *trees);
/* Living members of a process group. */
uint32_t tr__tree_group_count(pid_t group);
/* Living processes that carry it, but for the leader. */
uint32_t tr__tree_marked_count(const struct tr__tree *tree);
/* Kills them until none is found, collects those that are our children. Returns how many those
 * were, each once. */
uint32_t tr__tree_marked_kill(const struct tr__tree *tree);

#endif
