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
/** tr_process_spec.flags: standard error goes where standard output goes. @since 0.1 */
#define TR_PROCESS_MERGE_ERROR UINT32_C(2)

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
} tr_process_spec;

/** Fills a tr_process_spec with defaults. @since 0.1 */
#define TR_PROCESS_SPEC_INIT                                                                       \
    {                                                                                              \
        sizeof(tr_process_spec), NULL, NULL, NULL, NULL, 0, 0, {NULL, 0}, 0, 0, 0                  \
    }

/** What one captured stream brought. `data` holds its first bytes and its last ones, `omitted`
 *  counts the ones between, which lie at offset `head`. Cuts fall between UTF-8 characters.
 *  @since 0.1 */
typedef struct tr_process_output {
    unsigned char *data; /**< captured bytes */
    size_t size;         /**< bytes in `data` */
    size_t head;         /**< where the omitted bytes are missing; `size` if none are */
    uint64_t omitted;    /**< bytes not kept */
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
    tr_process_output out;   /**< standard output */
    tr_process_output error; /**< standard error; empty when merged */
    uint64_t wall_ns;        /**< from the request to spawn it to its exit */
    uint64_t user_ns;        /**< CPU time in user mode */
    uint64_t system_ns;      /**< CPU time in the kernel */
    uint64_t resident_bytes; /**< peak resident memory of the leader and what it waited for */
} tr_process_result;

/**
 * Runs a program to its end: spawns it in a session and process group of its own, feeds its
 * input, captures its outputs, and at a cancel or timeout sends SIGTERM to its group, after a
 * grace SIGKILL. It returns when the program has exited, not when its pipes close: trailing
 * output is taken for a short grace, `held_open` says when a survivor held the pipe, and what is
 * left of its group is killed. A program that was stopped leaves its descendants what remains of
 * the grace, if they hold the pipes.
 * @param call the call
 * @param spec the program
 * @param ret_result receives how it ended
 * @return 0: it was spawned and has ended, however it ended
 * @errors TR_EINVAL bad spec; TR_E2BIG arguments or environment too large; a negated errno of the
 *         exec (-ENOENT, -EACCES …) or of pipe and spawn; TR_ELIMIT too many processes;
 *         TR_ECANCELED asked to stop before it was spawned; TR_ENOMEM no memory
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
    int input_fd;   /**< writes to its standard input */
    int output_fd;  /**< reads its standard output */
    int error_fd;   /**< reads its standard error */
    void *owner;    /**< the library's own */
} tr_child;

/**
 * Spawns a program and returns at once with its descriptors. The caller then owns the child: it
 * must see it exit (tr_io_poll on `process_fd`), reap it with tr_child_reap, and close what is
 * open.
 * @param call the call
 * @param spec the program; `input` only says whether there is an `input_fd`; times and caps unused
 * @param ret_child receives the child
 * @return 0
 * @errors as tr_process
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
 * Collects a child that has exited and closes its descriptors. Waits on the child's own pidfd only.
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
