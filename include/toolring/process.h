/*
 * toolring/process.h: running programs from inside a call. tr_process does the whole job; tr_spawn
 * and its neighbours are the parts it is made of. Included by toolring/tool.h.
 */
#ifndef TOOLRING_PROCESS_H
#define TOOLRING_PROCESS_H

#include <toolring/tool.h>

TR_BEGIN_DECLS

/** tr_process_spec.flags: the child starts with an empty environment (plus `environment`), instead
 *  of the host's. @since 0.1 */
#define TR_PROCESS_CLEAR_ENVIRONMENT UINT32_C(1)
/** tr_process_spec.flags: standard error goes where standard output goes, in the order in which it
 *  was written. @since 0.1 */
#define TR_PROCESS_MERGE_ERROR UINT32_C(2)
/** tr_process_spec.flags: the program gets a terminal of its own (a pty) as its controlling
 *  terminal, standard input, output and error; its output is one stream. The terminal echoes and
 *  edits lines, as a fresh one does. After `input` it reads the end, once, unless
 *  TR_PROCESS_OPEN_INPUT is set. @since 0.1 */
#define TR_PROCESS_TERMINAL UINT32_C(4)
/** tr_process_spec.flags: standard input stays open after `input` has been written: more comes by
 *  tr_task_input, its end by tr_task_input_close. @since 0.1 */
#define TR_PROCESS_OPEN_INPUT UINT32_C(8)
/** tr_process_spec.flags: `file_mask` is meant (so that a mask of 0 can be asked for).
 *  @since 0.1 */
#define TR_PROCESS_FILE_MASK UINT32_C(16)

/** How long what a program has left behind may go on. @since 0.1 */
typedef enum tr_process_lifetime {
    TR_PROCESS_LIFETIME_TASK = 0,    /**< its whole tree dies with the task */
    TR_PROCESS_LIFETIME_SESSION = 1, /**< descendants live until tr_session_close */
    TR_PROCESS_LIFETIME_MANAGER = 2, /**< descendants live until tr_manager_close */
    TR_PROCESS_LIFETIME_DAEMON = 3,  /**< descendants are left alone on purpose, and reported */
} tr_process_lifetime;

/** What happens when a stream has more than its cap. @since 0.1 */
typedef enum tr_overflow {
    TR_OVERFLOW_DROP = 0,  /**< keep the beginning and the end, count what is omitted between */
    TR_OVERFLOW_PAUSE = 1, /**< stop reading until tr_task_output has taken what is there: nothing
                                is lost, and a call whose output nobody takes goes on until it is
                                cancelled or its time is over, even if its program has exited. Of
                                what was taken, the result has only the last bytes */
    TR_OVERFLOW_KILL = 2,  /**< end the program and its tree at once (SIGKILL) */
} tr_overflow;

/** How a process tree is held together, best first. @since 0.1 */
typedef enum tr_tree_mode {
    TR_TREE_CGROUP = 1, /**< a cgroup v2 leaf and cgroup.kill: nothing escapes */
    TR_TREE_SWEEP = 2,  /**< process group, then a search for marked descendants (opt-in) */
    TR_TREE_GROUP = 3,  /**< process group alone: who calls setsid escapes */
} tr_tree_mode;

/** One resource limit of a program, as of setrlimit(2). @since 0.1 */
typedef struct tr_process_limit {
    int resource;  /**< RLIMIT_… */
    int reserved;  /**< must be 0 */
    uint64_t soft; /**< the limit in force; TR_FOREVER: none */
    uint64_t hard; /**< what it may be raised to; TR_FOREVER: none */
} tr_process_limit;

/** A program to run. Exactly one of `argv` and `shell` is given. @since 0.1 */
typedef struct tr_process_spec {
    size_t size;             /**< sizeof(tr_process_spec), set by TR_PROCESS_SPEC_INIT */
    const char *const *argv; /**< NULL-ended; argv[0] is looked up in PATH if it has no '/' */
    const char *shell;       /**< a command line for /bin/sh -c */
    const char *directory;   /**< working directory; NULL: the host's */
    const char *const *environment; /**< NULL-ended: "NAME=value" sets, "NAME" removes */
    uint32_t flags;                 /**< TR_PROCESS_… */
    uint32_t reserved;              /**< must be 0 */
    tr_bytes input;                 /**< standard input; empty: /dev/null */
    uint64_t timeout_ns;            /**< then it is stopped; 0 or TR_FOREVER: never */
    uint64_t grace_ns;              /**< from SIGTERM to SIGKILL; 0: the manager's */
    uint64_t output_bytes_max;      /**< cap per stream, to 1 GiB; 0: the call's */
    tr_process_lifetime lifetime;   /**< what becomes of descendants when it exits by itself */
    tr_overflow overflow;           /**< what happens at the cap */
    const char *spill_directory;    /**< keep everything in files there; NULL: no files */
    uint64_t spill_bytes_max;       /**< cap per file; 0: 1 GiB */
    uint32_t file_mask;             /**< umask, with TR_PROCESS_FILE_MASK */
    int32_t nice;                   /**< added to the host's nice value, -40 to 40 */
    const tr_process_limit *limits; /**< resource limits of each process; may be NULL */
    size_t limits_count;            /**< how many, to 16 */
    uint64_t memory_bytes_max;      /**< of the tree (cgroup), else of each process; 0: none */
    uint32_t cpu_percent_max;       /**< of the tree, 100 is one processor (cgroup only); 0: none */
    uint32_t processes_max;         /**< of the tree (cgroup), else RLIMIT_NPROC; 0: none */
    uint16_t terminal_rows;         /**< with TR_PROCESS_TERMINAL; 0: 24 */
    uint16_t terminal_columns;      /**< with TR_PROCESS_TERMINAL; 0: 80 */
    uint32_t reserved_tail;         /**< must be 0 */
} tr_process_spec;

/** Fills a tr_process_spec with defaults. @since 0.1 */
#define TR_PROCESS_SPEC_INIT                                                                       \
    {                                                                                              \
        sizeof(tr_process_spec), NULL, NULL, NULL, NULL, 0, 0, {NULL, 0}, 0, 0, 0,                 \
            TR_PROCESS_LIFETIME_TASK, TR_OVERFLOW_DROP, NULL, 0, 0, 0, NULL, 0, 0, 0, 0, 0, 0, 0   \
    }

/** What one captured stream brought. `data` holds its first bytes and its last ones, `omitted`
 *  counts the ones between, which lie at offset `head`. Cuts fall between UTF-8 characters.
 *  @since 0.1 */
typedef struct tr_process_output {
    unsigned char *data;  /**< captured bytes */
    size_t size;          /**< bytes in `data` */
    size_t head;          /**< where the omitted bytes are missing; `size` if none are */
    uint64_t omitted;     /**< bytes not kept */
    uint64_t total;       /**< bytes the program wrote */
    char *spill_path;     /**< the file with all of it; NULL: none. The file is the host's */
    uint64_t spill_bytes; /**< bytes in that file; fewer than `total` if its cap was reached */
} tr_process_output;

/** How a program ended. Give it to tr_process_result_done. A host that collects children it does
 *  not know (SIGCHLD ignored, or waitpid(-1)) may take the status away: then `exit_code` is -1,
 *  `signal` 0, and the figures are 0. `resident_bytes` is never less than the host's own was: until
 *  its exec a spawned child uses the host's memory, and Linux counts that. @since 0.1 */
typedef struct tr_process_result {
    int exit_code;           /**< 0 to 255, -1 if a signal ended it */
    int signal;              /**< the signal that ended it, 0 if none */
    bool timed_out;          /**< `timeout_ns` passed and it was stopped */
    bool cancelled;          /**< the call was asked to stop and so it was stopped */
    bool held_open;          /**< something it left behind still held its output open */
    bool overflowed;         /**< TR_OVERFLOW_KILL: it was stopped for its output */
    bool out_of_memory;      /**< the kernel killed in its tree for `memory_bytes_max` (cgroup) */
    bool tree_figures;       /**< the tree_… fields below are there (cgroup) */
    tr_tree_mode tree;       /**< how its tree was held */
    uint32_t swept;          /**< descendants that its end found alive, and killed */
    uint32_t survivors;      /**< descendants left alive on purpose (`lifetime`) */
    tr_process_output out;   /**< standard output; the terminal's */
    tr_process_output error; /**< standard error; empty when merged */
    uint64_t bytes_in;       /**< bytes it was given as standard input */
    uint64_t wall_ns;        /**< from the request to spawn it to its exit */
    uint64_t user_ns;        /**< CPU time in user mode */
    uint64_t system_ns;      /**< CPU time in the kernel */
    uint64_t resident_bytes; /**< peak resident memory of the leader and what it waited for */
    uint64_t tree_user_ns;   /**< CPU time in user mode of the whole tree */
    uint64_t tree_system_ns; /**< CPU time in the kernel of the whole tree */
    uint64_t tree_memory_peak_bytes; /**< peak memory of the tree; 0: this kernel does not tell */
} tr_process_result;

/**
 * Runs a program to its end: spawns it in a session and process group of its own, feeds its
 * input, captures its outputs (tr_task_output reads them meanwhile), and at a cancel or timeout
 * sends SIGTERM to its tree, after a grace SIGKILL. It returns when the program has exited, not
 * when its pipes close: trailing output is taken for 100 ms, `held_open` says when a survivor held
 * the pipe. What it leaves behind is killed, and is gone when this returns (but for what the kernel
 * cannot end within 2 s), unless `lifetime` lets it live; nothing outlives a program that was
 * stopped. A program that was stopped leaves its descendants what remains of the grace, if they
 * hold the pipes. A grace longer than the manager's delays the end of a cancelled call accordingly.
 * @param call the call
 * @param spec the program
 * @param ret_result receives how it ended
 * @return 0: it was spawned and has ended, however it ended
 * @errors TR_EINVAL bad spec; TR_E2BIG arguments or environment too large; a negated errno of the
 *         exec (-ENOENT, -EACCES …), of pipe, pty and spawn, or of the file in `spill_directory`;
 *         TR_ENOSYS a limit that needs a cgroup, and there is none; TR_ELIMIT too many processes;
 *         TR_EMFILE too few descriptors left; TR_ECANCELED asked to stop before it was spawned;
 *         TR_ENOMEM no memory
 * @threads tool; awaits
 * @ownership `spec` is borrowed during the call; the result's bytes are the caller's until
 *         tr_process_result_done
 * @since 0.1
 */
TR_EXPORT int tr_process(tr_call *call, const tr_process_spec *spec, tr_process_result *ret_result);

/**
 * Gives back the captured bytes of a result.
 * @param result the result, or NULL; is emptied
 * @threads any; never blocks
 * @ownership takes the bytes back
 * @since 0.1
 */
TR_EXPORT void tr_process_result_done(tr_process_result *result);

/** A program that was spawned. Descriptors are close-on-exec and non-blocking; -1 where there is
 *  none. @since 0.1 */
typedef struct tr_child {
    pid_t pid;      /**< the leader; also its process group and session */
    int process_fd; /**< its pidfd: readable when it has exited */
    int input_fd;   /**< writes to its standard input; -1 with a terminal: see `output_fd` */
    int output_fd;  /**< reads its standard output; a terminal's master reads and writes */
    int error_fd;   /**< reads its standard error */
    void *owner;    /**< the library's own */
} tr_child;

/**
 * Spawns a program and returns at once with its descriptors. The caller then owns the child: it
 * must see it exit (tr_io_poll on `process_fd`), reap it with tr_child_reap, and close what is
 * open. What nobody has reaped when the manager is closed is killed, daemons excepted, with its
 * tree as far as that is held (TR_TREE_GROUP: not those who have left the group); the child must
 * not be used any more, its zombie is the host's.
 * @param call the call
 * @param spec the program; `input` only says whether there is an `input_fd`; times, caps and files
 *        are unused; `lifetime` is that of a task or daemon
 * @param ret_child receives the child
 * @return 0
 * @errors as tr_process; TR_EINVAL also for the lifetimes of session and manager
 * @threads tool; awaits (the spawning itself happens on another thread), a cancel notwithstanding
 * @ownership `spec` is borrowed during the call; the child is the caller's
 * @since 0.1
 */
TR_EXPORT int tr_spawn(tr_call *call, const tr_process_spec *spec, tr_child *ret_child);

/**
 * Sends a signal to the child's process group, before it is reaped.
 * @param child the child
 * @param signal_number the signal
 * @return 0
 * @errors TR_EINVAL no such signal or a child that was reaped; -ESRCH the group is empty
 * @threads any; never blocks
 * @ownership `child` is borrowed during the call
 * @since 0.1
 */
TR_EXPORT int tr_child_signal(const tr_child *child, int signal_number);

/**
 * Collects a child that has exited and closes its descriptors; what it has left behind is killed,
 * unless it is a daemon. Waits on the child's own pidfd only.
 * @param child the child; its pid becomes 0, its descriptors -1
 * @param ret_status receives the status as of waitpid(2); may be NULL
 * @param ret_usage receives its resource usage; may be NULL
 * @return 0
 * @errors TR_EAGAIN it has not exited, nothing has changed; TR_EINVAL it was reaped already;
 *         -ECHILD the host has collected it, its status is lost, `child` was emptied all the same
 * @threads any; never blocks
 * @ownership `child` is emptied
 * @since 0.1
 */
TR_EXPORT int tr_child_reap(tr_child *child, int *ret_status, struct rusage *ret_usage);

TR_END_DECLS

#endif
