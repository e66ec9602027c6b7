/*
 * toolring.h: the host's side of toolring, the task manager for AI agents' tool calls.
 *
 * Read in this order: types.h (words and options), this file (manager, sessions, turns), launch.h
 * (calls in), drain.h (results out), control.h (cancel, detach, approve, look), stream.h (a running
 * program's output and input), events.h, stats.h; a tool's author reads tool.h and process.h.
 *
 *   tr_manager_open ─ tr_tool_register ─ tr_session_open ─ tr_turn_open ─┐
 *        tr_launch (as often as you like) ─ tr_turn_wait until idle ─ tr_turn_close
 *   tr_session_close ─ tr_manager_close ─ tr_manager_free
 *
 * Every accepted call yields exactly one resolution, through exactly one channel, decided by what
 * the task is at the moment it ends:
 *   foreground               → its turn's updates       (tr_turn_wait)
 *   background, TO_LOOP      → its session's loop       (tr_loop_take)
 *   background, MANUAL       → its session's ready items (tr_ready_take)
 * or, for sessions and turns bound to a drain queue, all of these through tr_queue_drain.
 *
 * Conventions: see toolring/types.h. "Threads: any" means any thread of the host, at any time, also
 * several at once, and also from inside a tool function unless it may block.
 */
#ifndef TOOLRING_H
#define TOOLRING_H

#include <toolring/control.h>
#include <toolring/drain.h>
#include <toolring/error.h>
#include <toolring/events.h>
#include <toolring/launch.h>
#include <toolring/stats.h>
#include <toolring/stream.h>
#include <toolring/tool.h>
#include <toolring/types.h>
#include <toolring/version.h>

TR_BEGIN_DECLS

/* ── The manager ─────────────────────────────────────────────────────────────────────────────── */

/** tr_config.flags: an inline manager, without threads or io_uring. tr_launch (or tr_task_approve)
 *  runs each call to its end in the calling thread; calls of a batch run one after the other;
 *  awaiting functions block it, and a deferred call holds it until tr_finish or an end by cancel or
 *  timeout. Results come through the same channels. Several threads may use it at once.
 *
 *  No thread of its own looks at the clock: whoever is in the library does. Timeouts, detach-after,
 *  the expiry of approvals and the patience with a function that was asked to stop are acted on
 *   - when they come up, while a function awaits or a thread waits in tr_turn_wait, tr_loop_take,
 *     tr_ready_take, tr_queue_drain or tr_manager_wait_idle, be it for something else;
 *   - else at the next call of one of these, of tr_launch, tr_task_list, _snapshot, _cancel,
 *     _approve, _deny, tr_turn_interrupt or a close; when a function reports progress or output;
 *     for a call that starts or whose function returns, just before.
 *  So a function that neither awaits nor reports, with no other thread waiting, is not stopped, but
 *  ends as timed out if it returned too late, and is detached first if it took longer than
 *  detach-after. A queue's descriptor does not tell of times. Every function counts as cooperative:
 *  a plain one that ignores a cancel is abandoned after `cancel_grace_ns` + `abandon_wait_ns`.
 *  @since 0.1 */
#define TR_MANAGER_INLINE UINT32_C(1)
/** tr_config.flags: where no cgroup is to be had, this process becomes a subreaper
 *  (PR_SET_CHILD_SUBREAPER) while the manager is open, and what a program has left behind is
 *  searched for by its mark: TR_TREE_SWEEP instead of TR_TREE_GROUP. An opt-in, because orphans of
 *  the host's own children come to the host then too: they are left to it. @since 0.1 */
#define TR_MANAGER_SUBREAPER UINT32_C(2)
/** tr_config.flags: no cgroup is made, whatever the machine offers: process trees are held by their
 *  process group, or with TR_MANAGER_SUBREAPER by the sweep. @since 0.1 */
#define TR_MANAGER_NO_CGROUP UINT32_C(4)

/** How a manager is made. Zero means the default in brackets. What awaiting functions have touched
 *  of their stacks stays resident for one to two seconds after them, for those that come next; then
 *  it is given back, but for up to 32 stacks a worker. @since 0.1 */
typedef struct tr_config {
    size_t size;                /**< sizeof(tr_config), set by TR_CONFIG_INIT */
    uint32_t flags;             /**< TR_MANAGER_… or 0 */
    uint32_t workers;           /**< worker seats [processors, at least 2], to 64 */
    uint32_t substitutes_max;   /**< further threads for seats whose tool blocks [16], to 256 */
    uint32_t tasks_max;         /**< tasks, unreleased results included [65 536], to 16 777 214 */
    uint32_t turns_max;         /**< turns that are not gone [65 536], to 16 777 214 */
    uint32_t sessions_max;      /**< sessions that are not gone [65 536], to 16 777 214 */
    uint32_t tools_max;         /**< tools [1024], to 65 535 */
    uint32_t queues_max;        /**< drain queues [64], to 4096 */
    uint32_t readers_max;       /**< event readers [64], to 1024 */
    uint32_t events_max;        /**< events kept for slow readers [8192], to 1 048 576 */
    uint32_t fibers_max;        /**< awaiting tasks accepted at once [16 384], to 1 048 576 */
    uint32_t processes_max;     /**< children at once [1024], to 65 536 */
    uint32_t fiber_stack_bytes; /**< stack of an awaiting function [65 536], 16 384 to 8 MiB */
    uint32_t ring_entries;      /**< operations in the kernel [8192], power of 2, 64 to 32 768 */
    uint32_t reserved;          /**< must be 0 */
    uint64_t input_bytes_max;   /**< one call's input [16 MiB], to 1 GiB */
    uint64_t output_bytes_max;  /**< cap per captured output stream [1 MiB], to 1 GiB */
    uint64_t result_bytes_max;  /**< one call's result [64 MiB], to 1 GiB */
    uint64_t bytes_max;        /**< inputs and results held; beyond, launches are refused [1 GiB] */
    uint64_t slice_ns;         /**< a worker longer in one tool is substituted [10 ms], from 1 ms */
    uint64_t cancel_grace_ns;  /**< from SIGTERM to SIGKILL [2 s] */
    uint64_t abandon_wait_ns;  /**< how long close waits for C functions that do not look [2 s] */
    tr_permit_function permit; /**< may be NULL: all allowed */
    tr_route_function route;   /**< may be NULL */
    void *context;             /**< passed to `permit` and `route` */
    char *message;             /**< receives why opening failed, in words, cut to fit; "" when it
                                    did not fail; may be NULL. With a bad `size` it is not known */
    size_t message_size;       /**< room in `message` */
    const char *cgroup_path;   /**< a directory of the cgroup v2 hierarchy in which the host may
                                    make others, for the trees of programs; NULL: the host's own, if
                                    it may. Best an empty one that gives its controllers on */
} tr_config;

/** Fills a tr_config with defaults. @since 0.1 */
#define TR_CONFIG_INIT                                                                             \
    {                                                                                              \
        sizeof(tr_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, \
            NULL, NULL, NULL, 0, NULL                                                              \
    }

/**
 * Opens a manager: its threads run and it accepts calls when this returns.
 * @param config how; NULL: all defaults
 * @param ret_manager receives it
 * @return 0
 * @errors TR_EINVAL a field out of its range (`message` names it); TR_ERING the kernel refuses
 *         io_uring (`message` says why and what helps); TR_EAGAIN no thread; TR_ENOMEM no memory,
 *         address space or memory to lock; TR_EMFILE, TR_ENFILE no descriptor; a negated errno
 *         where `cgroup_path` cannot be used (`message` says why)
 * @threads any; blocks until the threads run
 * @ownership the manager is the caller's: tr_manager_close, then tr_manager_free. `config` is
 *         borrowed during the call
 * @since 0.1
 */
TR_EXPORT int tr_manager_open(const tr_config *config, tr_manager **ret_manager);

/**
 * Closes a manager: refuses new calls, waits up to `drain_ns` for the running ones, cancels what is
 * left, kills what does not end, and stops every thread. Every outcome is then in its channel,
 * where it can still be taken; launches answer TR_ECLOSED. When it returns 0, no thread, descriptor
 * or child of the manager is left (but descriptors of queues and readers, which their own close
 * ends, and that of tr_manager_room_fd).
 * @param manager the manager
 * @param drain_ns how long unfinished tasks may go on; 0: not at all; TR_FOREVER: to their end
 * @return 0
 * @errors TR_EALREADY it is closed or closing; TR_EBUSY a C function has not returned within
 *         `abandon_wait_ns`: its thread was left behind, until it returns, with what it may use:
 *         the ring's thread, two descriptors and the memory, for good. Everything else is gone, and
 *         every outcome is in its channel
 * @threads any, not from a tool; blocks. Others may launch, wait and drain meanwhile
 * @since 0.1
 */
TR_EXPORT int tr_manager_close(tr_manager *manager, uint64_t drain_ns);

/**
 * Frees a closed manager, with the resolutions nobody took (one that is not closed is closed first,
 * without draining). Batches not yet released stay valid until they are. A manager whose close
 * answered TR_EBUSY is left as it is.
 * @param manager the manager, or NULL
 * @threads any; nobody else may be in, or enter, any function with this manager
 * @ownership takes the manager back, and with it every reader and queue still open
 * @since 0.1
 */
TR_EXPORT void tr_manager_free(tr_manager *manager);

/**
 * Waits until no task is unfinished.
 * @param manager the manager
 * @param timeout_ns how long; 0: just look
 * @return 0
 * @errors TR_ETIMEDOUT tasks are left
 * @threads any, not from a tool; blocks
 * @since 0.1
 */
TR_EXPORT int tr_manager_wait_idle(tr_manager *manager, uint64_t timeout_ns);

/**
 * A descriptor that becomes readable when there may be room again after a launch was refused with
 * TR_EAGAIN: for epoll and its relatives, so that nobody has to try again on the off chance. Made
 * at the first call; costs nothing until a launch is refused. It is an eventfd: clear it by reading
 * 8 bytes before trying again; a launch that finds no room clears it too.
 * @param manager the manager
 * @return the descriptor
 * @errors TR_EINVAL a NULL manager; -EMFILE, -ENFILE no descriptor to be had
 * @threads any; never blocks
 * @ownership the manager's, closed by tr_manager_free. It also becomes readable when the manager
 *         closes
 * @since 0.1
 */
TR_EXPORT int tr_manager_room_fd(tr_manager *manager);

/**
 * Registers a tool. Tools stay until the manager is freed.
 * @param manager the manager
 * @param tool the tool
 * @param ret_tool receives its id; may be NULL
 * @return 0
 * @errors TR_EINVAL bad name, function, flags or options; TR_EEXIST the name is taken; TR_ELIMIT
 *         too many; TR_ECLOSED closed; TR_ENOMEM no memory
 * @threads any; never blocks
 * @ownership copied; `context` stays the host's
 * @since 0.1
 */
TR_EXPORT int tr_tool_register(tr_manager *manager, const tr_tool *tool, tr_tool_id *ret_tool);

/**
 * Finds a tool by its name.
 * @param manager the manager
 * @param name the name
 * @param ret_tool receives its id
 * @return 0
 * @errors TR_EINVAL a NULL argument; TR_ENOENT no tool of that name
 * @threads any; never blocks
 * @ownership `name` is borrowed during the call
 * @since 0.1
 */
TR_EXPORT int tr_tool_find(tr_manager *manager, const char *name, tr_tool_id *ret_tool);

/* ── Sessions and turns ──────────────────────────────────────────────────────────────────────── */

/** tr_turn_options.flags: the turn keeps its own updates although its session is bound to a queue.
 *  @since 0.1 */
#define TR_TURN_UNBOUND UINT32_C(1)
/** Flag of tr_turn_close and tr_session_close: background tasks are cancelled whatever their
 *  lifetime, and resolutions nobody has taken are discarded. @since 0.1 */
#define TR_CLOSE_DISCARD UINT32_C(1)

/** How a session is opened. @since 0.1 */
typedef struct tr_session_options {
    size_t size;       /**< sizeof(tr_session_options), set by TR_SESSION_OPTIONS_INIT */
    const char *label; /**< for display, to TR_LABEL_BYTES_MAX bytes; copied; may be NULL */
    tr_queue *queue; /**< bind its loop updates, ready items and turns to this queue; may be NULL */
    void *user;      /**< the host's pointer, given back in items */
} tr_session_options;

/** Fills a tr_session_options with defaults. @since 0.1 */
#define TR_SESSION_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(tr_session_options), NULL, NULL, NULL                                               \
    }

/** How a turn is opened. @since 0.1 */
typedef struct tr_turn_options {
    size_t size;       /**< sizeof(tr_turn_options), set by TR_TURN_OPTIONS_INIT */
    const char *label; /**< for display, to TR_LABEL_BYTES_MAX bytes; copied; may be NULL */
    tr_queue *queue;   /**< bind its updates to this queue; NULL: as its session */
    uint32_t flags;    /**< TR_TURN_UNBOUND (not together with `queue`) or 0 */
    uint32_t reserved; /**< must be 0 */
} tr_turn_options;

/** Fills a tr_turn_options with defaults. @since 0.1 */
#define TR_TURN_OPTIONS_INIT                                                                       \
    {                                                                                              \
        sizeof(tr_turn_options), NULL, NULL, 0, 0                                                  \
    }

/**
 * Opens a session.
 * @param manager the manager
 * @param options how; NULL: defaults
 * @param ret_session receives its id
 * @return 0
 * @errors TR_EINVAL bad options; TR_ELIMIT too many sessions; TR_ECLOSED closed; TR_ENOMEM no
 *         memory
 * @threads any; never blocks
 * @ownership options are copied
 * @since 0.1
 */
TR_EXPORT int tr_session_open(tr_manager *manager, const tr_session_options *options,
                              tr_session_id *ret_session);

/**
 * Closes a session: no further turns; its turns are closed; its tasks with lifetime turn or session
 * are cancelled, those with lifetime manager go on. Loop updates and ready items can still be
 * taken, until TR_ECLOSED says that none will come any more, or TR_ENOENT: the id is gone when the
 * last task has ended and its resolution was released, so at once if none is left. Of a session
 * bound to a queue they come through that; what is discarded is let go of by its next drain.
 * @param manager the manager
 * @param session the session
 * @param flags 0 or TR_CLOSE_DISCARD
 * @return 0
 * @errors TR_ENOENT no such session; TR_EALREADY closed before; TR_EINVAL unknown flag
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_session_close(tr_manager *manager, tr_session_id session, uint32_t flags);

/**
 * Finds an open session by its label (the one opened first, if several have it). Looks at every
 * session: not for the hot path.
 * @param manager the manager
 * @param label the label
 * @param ret_session receives its id
 * @return 0
 * @errors TR_EINVAL a NULL argument; TR_ENOENT no open session has it
 * @threads any; never blocks
 * @ownership `label` is borrowed during the call
 * @since 0.1
 */
TR_EXPORT int tr_session_find(tr_manager *manager, const char *label, tr_session_id *ret_session);

/**
 * Opens a turn in a session.
 * @param manager the manager
 * @param session the session
 * @param options how; NULL: defaults
 * @param ret_turn receives its id
 * @return 0
 * @errors TR_ENOENT no such session; TR_ECLOSED the session or manager is closed; TR_EINVAL bad
 *         options; TR_ELIMIT too many turns; TR_ENOMEM no memory
 * @threads any; never blocks
 * @ownership options are copied
 * @since 0.1
 */
TR_EXPORT int tr_turn_open(tr_manager *manager, tr_session_id session,
                           const tr_turn_options *options, tr_turn_id *ret_turn);

/**
 * Closes a turn when the host has done with it: its foreground tasks are cancelled and their
 * resolutions, with the updates nobody has taken, are discarded; background tasks go on and resolve
 * through the session, where approval requests of theirs that nobody has taken go too, but those
 * with lifetime turn are cancelled. The id is gone at once; a thread in tr_turn_wait returns
 * TR_ENOENT. What is discarded of a turn bound to a queue is let go of by the queue's next drain.
 * @param manager the manager
 * @param turn the turn
 * @param flags 0 or TR_CLOSE_DISCARD
 * @return 0
 * @errors TR_ENOENT no such turn; TR_EINVAL unknown flag
 * @threads any; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_turn_close(tr_manager *manager, tr_turn_id turn, uint32_t flags);

/**
 * Interrupts a turn: every unfinished foreground task of it is cancelled; each still yields its
 * resolution. Background tasks and other turns are not touched. Costs what that turn's tasks cost.
 * @param manager the manager
 * @param turn the turn
 * @param reason shown in the resolutions, to TR_REASON_BYTES_MAX; may be NULL
 * @return how many tasks were asked to stop
 * @errors TR_ENOENT no such turn
 * @threads any; never blocks
 * @ownership `reason` is copied
 * @since 0.1
 */
TR_EXPORT int tr_turn_interrupt(tr_manager *manager, tr_turn_id turn, const char *reason);

TR_END_DECLS

#endif
