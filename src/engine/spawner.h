/*
 * spawner.h: starts child processes on threads of its own, "tr-spawn", because starting one blocks
 * for hundreds of microseconds. Fork is never used: a host of gigabytes would pay for its page
 * tables.
 *
 * The child leads a session and process group of its own, has default signal dispositions and an
 * empty signal mask, no descriptors but 0, 1 and 2, and dies (SIGKILL) with the host unless it is a
 * daemon. What it starts is held together by its tree (tree.h), made before it.
 */
#ifndef TR__ENGINE_SPAWNER_H
#define TR__ENGINE_SPAWNER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/atomic.h"
#include "engine/op.h"
#include "engine/tree.h"

/* Each is blocked while the kernel starts a program: what more would do, that program does. */
#define TR__SPAWNER_THREADS_MAX 4u

/* Room for what a failed spawn was about; longer ones are cut. */
#define TR__SPAWN_FAILED_BYTES 256u

/* What a spawn was doing when it failed. */
enum tr__spawn_stage {
    TR__SPAWN_NOTHING, /* it did not fail */
    TR__SPAWN_REQUEST, /* the request itself, or memory for it */
    TR__SPAWN_TREE,    /* its cgroup leaf, or a limit that needs one */
    TR__SPAWN_PIPES,
    TR__SPAWN_CLONE,
    TR__SPAWN_SESSION, /* its session, and dying with the host */
    TR__SPAWN_TERMINAL,
    TR__SPAWN_DESCRIPTORS,
    TR__SPAWN_LIMITS, /* a resource limit, nice */
    TR__SPAWN_DIRECTORY,
    TR__SPAWN_EXECUTE,
};

/*
 * A request, in the requester's memory; it belongs to the spawner from tr__spawner_post until
 * `done`. Zero it before filling it in.
 */
struct tr__spawn {
    struct tr__spawn *next; /* the spawner's own */

    /* What to run; borrowed until `done`. Exactly one of argv and shell. */
    const char *const *argv;        /* NULL-ended; argv[0] without '/' is looked up in PATH */
    const char *shell;              /* for /bin/sh -c */
    const char *directory;          /* NULL: the host's */
    const char *const *environment; /* "NAME=value" adds or replaces, "NAME" removes; may be NULL */
    bool clear_environment;         /* start from nothing instead of the host's environment */
    bool merge_error;               /* standard error goes where standard output goes */
    bool want_input;                /* a pipe as standard input; else /dev/null */
    bool die_with_thread;           /* SIGKILL when the spawning thread ends; post sets it, but
                                       not for daemons */
    bool set_file_mask;             /* umask is to be `file_mask` */
    mode_t file_mask;
    int nice;        /* added to the host's */
    int terminal_fd; /* the slave of a pty, 3 or higher, becomes its controlling terminal and 0, 1,
                        2; no pipes then. 0 or negative: none. The requester closes it */
    const tr_process_limit *limits; /* resource limits of each process */
    size_t limits_count;
    struct tr__tree_limits tree_limits; /* of the tree; where there is no leaf, of each process */
    tr_process_lifetime lifetime;
    struct tr__tree_limits limits_left; /* the spawner's own: those that no leaf enforces */
    struct tr__trees *trees; /* NULL: no tree is held (and `lifetime` is without effect) */

    /* On a spawner thread, its last touch of the request; on the poster's after a close. */
    void (*done)(struct tr__spawn *spawn);
    void *owner; /* the requester's own */

    /* Results. The parent's ends of pipes are O_NONBLOCK; all are O_CLOEXEC; -1 means none. */
    int error; /* 0, or a negative TR_E code or errno; then there is no process and no descriptor */
    pid_t pid; /* also its session and process group */
    int process_fd;
    int input_fd;
    int output_fd;
    int error_fd;
    struct tr__tree *tree; /* the requester's, if there is a process and `trees` */
    enum tr__spawn_stage failed_stage;
    char failed_what[TR__SPAWN_FAILED_BYTES]; /* the path or directory of a failed exec or chdir,
                                                 "" otherwise */
};

struct tr__spawner;

struct tr__spawner_thread {
    struct tr__spawner *spawner;
    void *stack; /* the child's until it has executed its program */
    pthread_t thread;
};

struct tr__spawner {
    pthread_mutex_t mutex;   /* held for a few instructions, and while a thread is started */
    pthread_cond_t posted;   /* a request has come, or the end */
    struct tr__spawn *first; /* requests in order; this and the next four under the mutex */
    struct tr__spawn *last;
    uint32_t threads_count;   /* running */
    uint32_t threads_resting; /* of these, waiting for a request */
    bool closing;             /* requests are refused */
    uint32_t threads_max;
    uint32_t processes_max;
    struct tr__spawner_thread threads[TR__SPAWNER_THREADS_MAX];
    TR__CACHE_ALIGNED tr__atomic_u32 processes; /* started and not reported reaped; any thread */
    tr__atomic_u64 spawned;                     /* ever started; the spawner threads */
};

/*
 * Starts a thread; others follow as they are needed, up to `threads` in all (1 to
 * TR__SPAWNER_THREADS_MAX; 0: the default). processes_max: 0 means the default. Returns 0,
 * TR_EINVAL, TR_ENOMEM, or TR_EAGAIN when no thread could be made.
 */
int tr__spawner_open(struct tr__spawner *spawner, unsigned threads, unsigned processes_max);

/*
 * Any thread; never fails or blocks. Errors come back in the request: TR_EINVAL, TR_ELIMIT beyond
 * processes_max, TR_ECANCELED while closing, TR_E2BIG, TR_ENOMEM, TR_EMFILE, TR_ENFILE, TR_EAGAIN
 * (no more processes allowed by the system), or what chdir and exec answered (-ENOENT, -EACCES,
 * ...).
 */
void tr__spawner_post(struct tr__spawner *spawner, struct tr__spawn *spawn);

/* Any thread: one process that was started has been reaped. */
void tr__spawner_reaped(struct tr__spawner *spawner);

/*
 * Requests still queued are done with TR_ECANCELED, as are later ones; the threads are joined.
 * Every process started must have ended, or it gets SIGKILL now.
 */
void tr__spawner_close(struct tr__spawner *spawner);

/* Whether children die with the host: not where only posix_spawn is allowed, as the first spawn has
 * found. */
bool tr__spawner_dies_with_host(void);

/*
 * The same in the calling thread: fills in the results, does not call `done`, counts nothing. The
 * child outlives the calling thread unless die_with_thread is set. Returns spawn->error.
 */
int tr__spawn_now(struct tr__spawn *spawn);

#endif
