/*
 * toolring/stats.h: numbers about a manager, and facts about the machine it runs on.
 */
#ifndef TOOLRING_STATS_H
#define TOOLRING_STATS_H

#include <toolring/error.h>
#include <toolring/process.h>
#include <toolring/types.h>

TR_BEGIN_DECLS

/** Counts since the manager was opened, and how many there are now. Each number is exact; numbers
 *  read together may be a moment apart. A slot whose task had a timer is in use until the ring
 *  thread has let go of that, a moment after the release. @since 0.1 */
typedef struct tr_stats {
    uint64_t accepted;        /**< calls accepted */
    uint64_t refused;         /**< launches refused for want of room */
    uint64_t started;         /**< functions started */
    uint64_t completed;       /**< ended as completed */
    uint64_t failed;          /**< ended as failed */
    uint64_t cancelled;       /**< ended as cancelled */
    uint64_t timed_out;       /**< ended as timed_out */
    uint64_t denied;          /**< ended as denied */
    uint64_t lost;            /**< ended as lost */
    uint64_t detached;        /**< became background */
    uint64_t discarded;       /**< resolutions of closed turns and sessions, taken by nobody */
    uint64_t unfinished;      /**< now: accepted and not ended */
    uint64_t abandoned;       /**< now: ended, but the C function has not returned */
    uint64_t tasks_used;      /**< now: slots in use, undelivered and unreleased results included */
    uint64_t tasks_max;       /**< bound of `tasks_used` */
    uint64_t sessions_used;   /**< now: sessions that are not gone */
    uint64_t turns_used;      /**< now: turns that are not gone */
    uint64_t bytes_used;      /**< now: bytes of inputs and results too large for a slot, and of
                                   approval requests */
    uint64_t bytes_max;       /**< bound of `bytes_used` at launch */
    uint64_t fibers_used;     /**< now: stacks of awaiting functions in use */
    uint64_t processes_used;  /**< now: children not reaped */
    uint64_t spawned;         /**< programs spawned */
    uint64_t workers;         /**< worker seats */
    uint64_t substitutes;     /**< threads started for stuck workers */
    uint64_t stolen;          /**< tasks taken from another worker's queue */
    uint64_t helped;          /**< calls of TR_TOOL_BRIEF run by the thread that waited for them */
    uint64_t parked;          /**< times a worker went to sleep */
    uint64_t wakes;           /**< times a sleeping worker was woken */
    uint64_t ring_enters;     /**< system calls of the ring thread */
    uint64_t ring_operations; /**< operations given to the kernel (timers are not) */
    uint64_t ring_wakes;      /**< times the ring thread was woken through its eventfd */
    uint64_t timers_fired;    /**< timer entries that came due */
    uint64_t events;          /**< events recorded */
    tr_tree_mode tree_mode;   /**< how process trees are held (daemons: by their group) */
    uint32_t trees_kept;      /**< now: left to sessions and the manager, and not seen to be over */
    uint64_t swept;           /**< processes that a program's end found alive, and killed */
    bool outlive_host;        /**< a killed host does not take the programs it runs with it:
                                   clone is refused here, or the manager is inline, without a
                                   thread that they could die with */
} tr_stats;

/**
 * Reads a manager's numbers.
 * @param manager the manager
 * @param ret_stats receives them
 * @return 0
 * @errors TR_EINVAL a NULL argument
 * @threads any; never blocks
 * @ownership a copy
 * @since 0.1
 */
TR_EXPORT int tr_manager_stats(tr_manager *manager, tr_stats *ret_stats);

/** What the kernel here offers and what limits it. Strings end with zero; "" means none.
 *  @since 0.1 */
typedef struct tr_machine {
    int ring_error;              /**< 0: io_uring works; else the negated errno of the refusal */
    char ring_refusal[512];      /**< why it is refused and what to do about it */
    uint32_t ring_flags;         /**< IORING_SETUP_… flags that will be used */
    uint32_t ring_features;      /**< IORING_FEAT_… bits */
    int io_uring_disabled;       /**< sysctl kernel.io_uring_disabled; -1: there is none */
    char kernel_release[96];     /**< uname -r */
    unsigned kernel_major;       /**< 6 of 6.18 */
    unsigned kernel_minor;       /**< 18 of 6.18 */
    bool seccomp;                /**< a seccomp filter is in force */
    bool process_fd;             /**< pidfds work */
    bool guard_install;          /**< cheap guard pages (MADV_GUARD_INSTALL) work */
    bool spawn_into_cgroup;      /**< clone3 with CLONE_INTO_CGROUP works */
    char cgroup_path[512];       /**< a writable cgroup v2 subtree */
    uint64_t descriptors_soft;   /**< RLIMIT_NOFILE now */
    uint64_t descriptors_hard;   /**< RLIMIT_NOFILE at most */
    uint64_t processes_max;      /**< RLIMIT_NPROC; TR_FOREVER: none */
    uint64_t process_ids_max;    /**< sysctl kernel.pid_max */
    uint64_t mappings_max;       /**< sysctl vm.max_map_count */
    uint64_t pipe_pages_soft;    /**< sysctl fs.pipe-user-pages-soft */
    unsigned processors;         /**< processors this process may use */
    tr_tree_mode tree_mode;      /**< how process trees are held here by default */
    char cgroup_controllers[64]; /**< of memory, cpu and pids, those a program's cgroup can have:
                                      "memory pids" */
    bool memory_peak;            /**< the peak memory of a tree can be told */
    bool spawn_by_clone;         /**< clone with a pidfd works: programs die with the host */
} tr_machine;

/**
 * Examines the machine. Takes milliseconds: it tries things out.
 * @param ret_machine receives the facts
 * @return 0, also where io_uring is refused (see `ring_error`)
 * @errors TR_EINVAL a NULL argument
 * @threads any; blocks for the system calls it makes
 * @ownership a copy
 * @since 0.1
 */
TR_EXPORT int tr_machine_examine(tr_machine *ret_machine);

TR_END_DECLS

#endif
