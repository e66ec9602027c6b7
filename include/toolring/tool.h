/*
 * toolring/tool.h: what code inside a call may use. A tool function gets a tr_call; with it the
 * function reads its input, sets its result, watches for cancellation, waits without holding a
 * worker, and runs processes.
 *
 * Three styles of function:
 *  - plain: computes, sets a result, returns. It may block; the engine then starts a substitute.
 *    One that never does, and is done within some 50 µs, says so (TR_TOOL_BRIEF): a host thread
 *    that waits for its turn then runs it, at half the price.
 *  - awaiting (TR_TOOL_AWAITING): straight-line C on a small stack of its own, with a guard page at
 *    its end: SIGSEGV (tr_config.fiber_stack_bytes: how small). tr_sleep, tr_io_wait, tr_process
 *    … suspend it and free the worker. It may continue on another thread: keep no lock and no
 *    thread-local address (errno's included) across an awaiting call. In C++ never await inside a
 *    catch block or a destructor that runs for an exception: the runtime keeps the exception in
 *    flight per thread; and let no exception leave the function.
 *  - deferred: returns TR_DEFERRED; anybody ends the call later with tr_finish.
 *
 * Awaiting functions called outside a TR_TOOL_AWAITING function's own stack (a plain tool, an
 * inline call, an inline manager) do the same by blocking the calling thread.
 *
 * "Threads: tool" means: only from inside the function that was given the call, while it runs.
 */
#ifndef TOOLRING_TOOL_H
#define TOOLRING_TOOL_H

#include <sys/resource.h>
#include <sys/types.h>

#include <toolring/error.h>
#include <toolring/types.h>

TR_BEGIN_DECLS

/**
 * The call's input bytes.
 * @param call the call
 * @return the input; empty if it has none
 * @threads tool; never blocks
 * @ownership borrowed until the function returns; a deferred call that needs it later copies it
 * @since 0.1
 */
TR_EXPORT tr_bytes tr_call_input(const tr_call *call);

/**
 * The host's id of the call.
 * @param call the call
 * @return the id's bytes; empty if the host gave none
 * @threads tool; never blocks
 * @ownership borrowed until the call has ended
 * @since 0.1
 */
TR_EXPORT tr_bytes tr_call_call_id(const tr_call *call);

/**
 * The host's metadata of the call, or else its tool's.
 * @param call the call
 * @return the metadata's bytes; empty if neither has any
 * @threads tool; never blocks
 * @ownership borrowed until the call has ended
 * @since 0.1
 */
TR_EXPORT tr_bytes tr_call_metadata(const tr_call *call);

/**
 * The call's task, turn, session and tool, its ids, times and user pointer, as one structure.
 * @param call the call
 * @param ret_snapshot receives the call as it is now
 * @threads tool; never blocks
 * @ownership a copy
 * @since 0.1
 */
TR_EXPORT void tr_call_snapshot(const tr_call *call, tr_snapshot *ret_snapshot);

/**
 * The call's task id.
 * @param call the call
 * @return the id
 * @threads tool; never blocks
 * @since 0.1
 */
TR_EXPORT tr_task_id tr_call_task(const tr_call *call);

/**
 * The host's pointer given at launch, or else its tool's.
 * @param call the call
 * @return the pointer, NULL if neither has one
 * @threads tool; never blocks
 * @ownership the host's
 * @since 0.1
 */
TR_EXPORT void *tr_call_user(const tr_call *call);

/**
 * The cap in bytes of each output stream the call captures.
 * @param call the call
 * @return bytes, at least 1
 * @threads tool; never blocks
 * @since 0.1
 */
TR_EXPORT size_t tr_call_output_bytes_max(const tr_call *call);

/**
 * Whether the call should stop: it was cancelled, interrupted, timed out, or its manager closes.
 * Costs one relaxed load, so a loop may ask every time round.
 * @param call the call
 * @return true once stopping was asked for, and from then on
 * @threads tool; never blocks
 * @since 0.1
 */
TR_EXPORT bool tr_call_is_cancelled(const tr_call *call);

/** Called with the context it was registered with. @since 0.1 */
typedef void (*tr_cancel_function)(void *context);

/** Hooks that one call may register. @since 0.1 */
#define TR_CANCEL_HOOKS_MAX 8

/**
 * Registers a hook: a function that is called when the call is asked to stop (cancel, interrupt,
 * timeout, close). With it a deferred call's owner learns that nobody wants the result any more,
 * and a plain function that blocks in another library is told to come back.
 *
 * A hook is called at most once:
 *  - a function that returns anything but TR_DEFERRED ends that: what is still registered then is
 *    dropped, and a hook that is just running is waited for;
 *  - a deferred call's hooks stay until the call has ended. If tr_finish ends it they are never
 *    called, and none begins once tr_finish has returned 0. Anything else ends it by asking it to
 *    stop: then each is called exactly once, a moment before or after the outcome is delivered.
 * In a manager with threads hooks run on a thread of the manager's own, one after the other, under
 * no lock: never on the thread that cancels. In an inline manager they run on a thread that is
 * in the library, usually the one that cancels. They may call tr_finish (which answers TR_EALREADY
 * for a call that has ended), tr_task_cancel, tr_token_cancel, tr_call_off_cancel; they must not
 * block, launch or wait: other calls' hooks come after them.
 * @param call the call
 * @param function the hook
 * @param context passed to it, and to `release`
 * @param release called with the context once the library will not use it again: after the hook has
 *        been called, or when it was dropped; not when registering failed or tr_call_off_cancel
 *        took it back. It must not block and must not call the library. NULL: nothing to release
 * @return 0
 * @errors TR_ECANCELED the call was asked to stop already: nothing was registered, nothing is
 *         called; TR_ELIMIT TR_CANCEL_HOOKS_MAX are registered; TR_EAGAIN no thread; TR_ENOMEM no
 *         memory; TR_EINVAL a NULL argument
 * @threads tool; never blocks
 * @ownership `context` is borrowed until `release` or tr_call_off_cancel has returned, or the call
 *         has ended in a way that does not call it: one on the function's own stack is to be taken
 *         back by tr_call_off_cancel before the function returns
 * @since 0.1
 */
TR_EXPORT int tr_call_on_cancel(tr_call *call, tr_cancel_function function, void *context,
                                tr_cancel_function release);

/**
 * Takes a hook back. When this has returned the hook is not running, and will not be called.
 * @param call the call
 * @param function the hook
 * @param context what it was registered with
 * @return 0: it was never called, `context` is the tool's again
 * @errors TR_EALREADY it was called and, with its `release`, has returned (or this is called from
 *         inside it); TR_ENOENT there is no such hook; TR_EINVAL a NULL argument
 * @threads tool; blocks while the hook is running: hold no lock that it may want
 * @ownership see `return`
 * @since 0.1
 */
TR_EXPORT int tr_call_off_cancel(tr_call *call, tr_cancel_function function, void *context);

/**
 * Waits until the call is asked to stop. Frees the worker meanwhile.
 * @param call the call
 * @param timeout_ns how long; 0: just look; TR_FOREVER: until then
 * @return 0: it was asked to stop
 * @errors TR_ETIMEDOUT it was not, in that time; TR_EINVAL `call` is NULL
 * @threads tool; awaits
 * @since 0.1
 */
TR_EXPORT int tr_call_await_cancel(tr_call *call, uint64_t timeout_ns);

/**
 * Tells readers of the event log how far the call is, and restarts its idle timeout.
 * @param call the call
 * @param current how much is done, in units of the tool's choice
 * @param total how much there is, 0 if unknown
 * @threads tool; never blocks
 * @since 0.1
 */
TR_EXPORT void tr_call_progress(tr_call *call, uint64_t current, uint64_t total);

/**
 * Tells readers of the event log how many bytes of output the call has produced so far, and
 * restarts its idle timeout. tr_process does it by itself.
 * @param call the call
 * @param bytes all bytes so far, of every stream
 * @threads tool; never blocks
 * @since 0.1
 */
TR_EXPORT void tr_call_output(tr_call *call, uint64_t bytes);

/**
 * How long the manager lets something that was asked to stop go on before it is ended by force.
 * @param call the call
 * @return nanoseconds
 * @threads tool; never blocks
 * @since 0.1
 */
TR_EXPORT uint64_t tr_call_cancel_grace(const tr_call *call);

/**
 * Sets the result by copying. A later tr_result_… replaces it.
 * @param call the call
 * @param data first byte
 * @param size bytes, 0 to the manager's `result_bytes_max`
 * @return 0
 * @errors TR_EINVAL a NULL argument; TR_ELIMIT the result is larger than allowed; TR_ENOMEM no
 *         memory. An earlier result stays then
 * @threads tool; never blocks
 * @ownership `data` is borrowed during the call and copied
 * @since 0.1
 */
TR_EXPORT int tr_result_copy(tr_call *call, const void *data, size_t size);

/**
 * Reserves room for a result that the tool writes in place; tr_result_commit fixes its size.
 * @param call the call
 * @param size bytes wanted, 1 to the manager's `result_bytes_max`
 * @param ret_data receives the room, aligned for any type
 * @return 0
 * @errors TR_EINVAL `size` is 0 or an argument NULL; TR_ELIMIT larger than allowed; TR_ENOMEM no
 *         memory
 * @threads tool; never blocks
 * @ownership the room belongs to the call; write to it until tr_result_commit or the return
 * @since 0.1
 */
TR_EXPORT int tr_result_reserve(tr_call *call, size_t size, void **ret_data);

/**
 * Makes the first bytes of the reserved room the result. Without it a reserved room is no result.
 * @param call the call
 * @param size bytes, 0 to what was reserved
 * @return 0
 * @errors TR_ESTATE nothing is reserved; TR_EINVAL `size` is more than was reserved
 * @threads tool; never blocks
 * @since 0.1
 */
TR_EXPORT int tr_result_commit(tr_call *call, size_t size);

/**
 * Sets the result by handing a buffer over.
 * @param call the call
 * @param data first byte
 * @param size bytes, 0 to the manager's `result_bytes_max`
 * @param release called once with the buffer when the host has released the result, or when the
 *        result is replaced or discarded; NULL for memory that needs none
 * @param context passed to `release`
 * @return 0
 * @errors TR_EINVAL a NULL argument; TR_ELIMIT larger than allowed; TR_ENOMEM no memory; the buffer
 *         stays the caller's
 * @threads tool; never blocks
 * @ownership on success the buffer is the library's until `release` runs
 * @since 0.1
 */
TR_EXPORT int tr_result_give(tr_call *call, void *data, size_t size, tr_release_function release,
                             void *context);

/** What ends a deferred call later: a plain value, to be copied anywhere. @since 0.1 */
typedef struct tr_deferred {
    tr_manager *manager; /**< the manager; must not have been freed when it is used */
    tr_task_id task;     /**< the task */
} tr_deferred;

/**
 * Makes the handle with which tr_finish ends this call after its function returned TR_DEFERRED.
 * tr_finish may come before that return.
 * @param call the call
 * @return the handle
 * @threads tool; never blocks
 * @ownership a plain value
 * @since 0.1
 */
TR_EXPORT tr_deferred tr_call_defer(const tr_call *call);

/**
 * Ends a deferred call. The first ending wins: a cancel or timeout may have come before. A call
 * whose function has not returned yet ends too, whatever that returns later, and is then flagged
 * TR_ITEM_ABANDONED.
 * @param deferred the handle from tr_call_defer
 * @param status 0 for *completed*, a negative code for *failed*
 * @param data first byte of the result
 * @param size bytes, 0 to the manager's `result_bytes_max`
 * @return 0
 * @errors TR_EINVAL `status` is positive or an argument NULL; TR_ENOENT no such task any more;
 *         TR_EALREADY it has ended; TR_ESTATE its function has not started; TR_ELIMIT the result is
 *         too large; TR_ENOMEM no memory, nothing has changed
 * @threads any, also a signal-free callback of another library; never blocks
 * @ownership `data` is borrowed during the call and copied
 * @since 0.1
 */
TR_EXPORT int tr_finish(tr_deferred deferred, int status, const void *data, size_t size);

/**
 * Waits. Frees the worker meanwhile.
 * @param call the call
 * @param duration_ns how long, at least
 * @return 0 when the time has passed
 * @errors TR_ECANCELED the call was asked to stop
 * @threads tool; awaits
 * @since 0.1
 */
TR_EXPORT int tr_sleep(tr_call *call, uint64_t duration_ns);

/** tr_io_wait flag: go on waiting although the call was asked to stop (to clean up). @since 0.1 */
#define TR_IO_SHIELD UINT32_C(1)

/**
 * One I/O request, in memory of the tool's. From a successful tr_io_read, tr_io_write, tr_io_poll
 * or tr_io_timer until tr_io_wait has returned it, request and buffer belong to the engine: they
 * must stay where they are, the request must not be started again, and the function must not return
 * meanwhile. If it does, the engine cancels what is left and waits for it, and the call ends as
 * failed with TR_ESTATE, whatever the function returned. `user` and `result` are for the tool.
 * @since 0.1
 */
typedef struct tr_io {
    int64_t result;      /**< bytes, poll events, 0, or a negative code; set when returned */
    void *user;          /**< the tool's own; never touched */
    uint64_t engine[22]; /**< the engine's own */
} tr_io;

/**
 * Starts reading once from a descriptor: returned when at least one byte came, or at the end.
 * @param call the call
 * @param io the request
 * @param fd the descriptor: pipe, socket, eventfd, terminal
 * @param buffer receives the bytes
 * @param size room in `buffer`, 1 to 1 GiB
 * @return 0; the outcome comes with tr_io_wait: `io->result` is the bytes read, 0 at the end
 * @errors TR_EINVAL bad arguments
 * @threads tool; never blocks
 * @ownership `io` and `buffer` are the engine's until tr_io_wait returns `io`
 * @since 0.1
 */
TR_EXPORT int tr_io_read(tr_call *call, tr_io *io, int fd, void *buffer, size_t size);

/**
 * Starts writing once to a descriptor.
 * @param call the call
 * @param io the request
 * @param fd the descriptor: pipe, socket, eventfd, terminal
 * @param data the bytes
 * @param size bytes, 1 to 1 GiB
 * @return 0; `io->result` is the bytes written, which may be fewer
 * @errors TR_EINVAL bad arguments
 * @threads tool; never blocks
 * @ownership `io` and `data` are the engine's until tr_io_wait returns `io`
 * @since 0.1
 */
TR_EXPORT int tr_io_write(tr_call *call, tr_io *io, int fd, const void *data, size_t size);

/**
 * Starts waiting for readiness of a descriptor (a pidfd's exit among them), once.
 * @param call the call
 * @param io the request
 * @param fd the descriptor
 * @param events POLLIN, POLLOUT … as of poll(2)
 * @return 0; `io->result` is the events that came
 * @errors TR_EINVAL bad arguments
 * @threads tool; never blocks
 * @ownership `io` is the engine's until tr_io_wait returns it
 * @since 0.1
 */
TR_EXPORT int tr_io_poll(tr_call *call, tr_io *io, int fd, uint32_t events);

/**
 * Starts a timer.
 * @param call the call
 * @param io the request
 * @param duration_ns from now; never early
 * @return 0; `io->result` is 0 when the time has passed
 * @errors TR_EINVAL bad arguments
 * @threads tool; never blocks
 * @ownership `io` is the engine's until tr_io_wait returns it
 * @since 0.1
 */
TR_EXPORT int tr_io_timer(tr_call *call, tr_io *io, uint64_t duration_ns);

/**
 * Asks the engine to give a request back soon. It still comes through tr_io_wait, with its own
 * result if it was quicker, else with TR_ECANCELED.
 * @param call the call
 * @param io a request under way; one that was already returned is left alone
 * @threads tool; never blocks
 * @ownership `io` stays the engine's until tr_io_wait returns it
 * @since 0.1
 */
TR_EXPORT void tr_io_cancel(tr_call *call, tr_io *io);

/**
 * Waits until one of the call's requests is done. Frees the worker meanwhile.
 * @param call the call
 * @param flags 0 or TR_IO_SHIELD
 * @param ret_io receives the request that is done
 * @return 0
 * @errors TR_ECANCELED the call was asked to stop (not with TR_IO_SHIELD): requests are still under
 *         way; cancel them and wait on with TR_IO_SHIELD. TR_ESTATE no request is under way.
 *         TR_EINVAL bad arguments
 * @threads tool; awaits
 * @ownership `*ret_io` is the tool's again
 * @since 0.1
 */
TR_EXPORT int tr_io_wait(tr_call *call, uint32_t flags, tr_io **ret_io);

/**
 * Waits until one of the given requests is done, and leaves all others of the call alone: so a
 * helper can await its own requests while its caller's are under way. tr_sleep and tr_process do
 * that.
 * @param call the call
 * @param flags 0 or TR_IO_SHIELD
 * @param ios the requests; each was started once or is all zero; those not under way are skipped
 * @param count how many, at least 1
 * @param ret_io receives the first of them that is done
 * @return 0
 * @errors TR_ECANCELED and TR_ESTATE as tr_io_wait; TR_EINVAL bad arguments
 * @threads tool; awaits
 * @ownership `*ret_io` is the tool's again; `ios` is borrowed during the call
 * @since 0.1
 */
TR_EXPORT int tr_io_wait_for(tr_call *call, uint32_t flags, tr_io *const *ios, size_t count,
                             tr_io **ret_io);

TR_END_DECLS

#include <toolring/process.h>

#endif
